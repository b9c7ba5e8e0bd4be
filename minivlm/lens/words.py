"""The words of a traced answer: which token began each, and whether the model's attention was on the word's object.

L layers · P patches of all pictures together, in the order of the prompt. Callers pass the objects that a text mentions
and the masks of objects; this file has no ground truth and no lexicon.
"""

import re
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor

from minivlm.errors import EvaluationError
from minivlm.inference.trace import Trace

__all__ = ["KINDS", "ObjectMention", "Trace", "Word", "evidence", "pointing_hit", "words"]

KINDS = ("true", "invented", "other")
WORD = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")  # letters, with a hyphen or an apostrophe inside
ObjectMention = tuple[str, int, int, bool]  # an object, its characters start, stop in the text, is it in the picture?


# --- words ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Word:
    """A word of an answer, or the name of an object, which may have several words."""

    name: str  # the object; of other words the word itself
    start: int  # characters start to stop (exclusive) of the trace's text
    stop: int
    token: int  # the generated token that begins it: its first piece with a letter
    kind: str  # one of KINDS


def words(trace: Trace, mentions: Iterable[ObjectMention]) -> list[Word]:
    """The words of a trace's text in order: the mentioned objects and all other words.

    Mentioned objects are "true" or "invented", as the mention says; words outside all mentions are "other". Raises
    `EvaluationError` for a mention that has no letters in the text.
    """
    ends = list(accumulate(len(piece) for piece in trace.pieces))
    objects = [object_word(trace.text, mention, ends) for mention in mentions]
    others = [
        Word(match.group(), *match.span(), bisect_right(ends, match.start()), "other")
        for match in WORD.finditer(trace.text)
        if not any(word.start < match.end() and match.start() < word.stop for word in objects)
    ]
    return sorted(objects + others, key=lambda word: word.start)


def object_word(text: str, mention: ObjectMention, ends: Sequence[int]) -> Word:
    """The word of a mention; `ends`: for each generated token the position in the text behind it."""
    name, start, stop, present = mention
    letters = [place for place in range(max(start, 0), min(stop, len(text))) if text[place].isalpha()]
    if not 0 <= start < stop <= len(text) or not letters:
        raise EvaluationError(
            f"The mention of {name!r} stands at characters {start} to {stop}, where the text ({len(text)} characters: "
            f"{text!r:.60}) has no word. Find mentions in `trace.text` itself."
        )
    return Word(name, start, stop, bisect_right(ends, letters[0]), "true" if present else "invented")


# --- attention on the object ----------------------------------------------------------------------------------------


def evidence(trace: Trace, token: int, mask: Tensor) -> Tensor:
    """The mean weight of the patches in `mask` (P,) over the mean weight of all patches, (L,): 1 is chance.

    On the pooled map of the row that chose `token`; soft masks count by their values. This is ILVAD's relative
    attention on evidence, whose formula we infer from its figure. nan where the mask is empty or the row has no map.
    Raises `EvaluationError` for a token or a mask that does not fit the trace.
    """
    map_, mask = map_and_mask(trace, token, mask)
    return (map_ @ mask / mask.sum()) / map_.mean(dim=-1)


def pointing_hit(trace: Trace, token: int, mask: Tensor) -> Tensor:
    """Whether each layer's patch with most weight is in the mask, (L,) bool: the pointing game (Zhang et al. 2016).

    A patch is in a soft `mask` (P,) if its value is at least half of the largest. False for an empty mask and for a row
    without a map. Errors as for `evidence`.
    """
    map_, mask = map_and_mask(trace, token, mask)
    if not mask.any():
        return torch.zeros(len(map_), dtype=torch.bool)
    inside = mask >= 0.5 * mask.max()
    return inside[map_.argmax(dim=-1)] & map_.any(dim=-1)


def map_and_mask(trace: Trace, token: int, mask: Tensor) -> tuple[Tensor, Tensor]:
    """The pooled map (L, P) of a token's row and the mask (P,), in fp32. `EvaluationError` if they do not fit."""
    rows, _, patches = trace.pooled.shape
    if not 0 <= token < rows:
        raise EvaluationError(f"The trace has the generated tokens 0 to {rows - 1}, but token {token} was asked for.")
    if tuple(mask.shape) != (patches,):
        raise EvaluationError(
            f"The trace has {patches} patches of all its pictures together, the mask has the shape {tuple(mask.shape)}."
            " Join the masks of several pictures with `torch.cat`."
        )
    return trace.pooled[token].float(), mask.float()
