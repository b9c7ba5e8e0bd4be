"""What a trace says about the words of an answer: which token began each, and whether the model looked at its object.

L layers · P patches of all pictures together, in the order of the prompt. Who knows what is in a picture and which
objects a text names says so as mentions and boxes; nothing here knows any world.
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

__all__ = ["KINDS", "Mention", "Trace", "Word", "evidence", "pointing_hit", "words"]

KINDS = ("true", "invented", "other")
WORD = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")  # letters, with a hyphen or an apostrophe inside
Mention = tuple[str, int, int, bool]  # an object's name, its characters in the text, whether the picture has it


# --- words ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Word:
    """A word of an answer, or an object's name of several words."""

    name: str  # the object's; for other words the word as it stands
    start: int  # characters start to stop (exclusive) of the trace's text
    stop: int
    token: int  # the generated token that begins it: its first piece with a letter
    kind: str  # one of KINDS


def words(trace: Trace, mentions: Iterable[Mention]) -> list[Word]:
    """The words of a trace's text in order: the objects that the caller found in it, and all others.

    A mentioned object is "true" or "invented" as the caller says; words that no mention touches are "other". Raises
    `EvaluationError` for a mention that is no place in the text.
    """
    ends = list(accumulate(len(piece) for piece in trace.pieces))
    objects = [_object(trace.text, mention, ends) for mention in mentions]
    others = [
        Word(match.group(), *match.span(), bisect_right(ends, match.start()), "other")
        for match in WORD.finditer(trace.text)
        if not any(word.start < match.end() and match.start() < word.stop for word in objects)
    ]
    return sorted(objects + others, key=lambda word: word.start)


def _object(text: str, mention: Mention, ends: Sequence[int]) -> Word:
    """The word of a mention; `ends` says behind which character of the text each piece ends."""
    name, start, stop, present = mention
    letters = [place for place in range(max(start, 0), min(stop, len(text))) if text[place].isalpha()]
    if not 0 <= start < stop <= len(text) or not letters:
        raise EvaluationError(
            f"The mention of {name!r} stands at characters {start} to {stop}, where the text ({len(text)} characters: "
            f"{text!r:.60}) has no word. Find mentions in `trace.text` itself."
        )
    return Word(name, start, stop, bisect_right(ends, letters[0]), "true" if present else "invented")


# --- did it look there? ---------------------------------------------------------------------------------------------


def evidence(trace: Trace, token: int, mask: Tensor) -> Tensor:
    """How much more weight a patch in the mask gets than any patch does, (L,): 1 is chance.

    The mean weight in `mask` (P,), soft masks weighted, over the mean weight of all patches, on the pooled map of the
    row that chose `token`. This is ILVAD's relative attention on evidence, whose formula we infer from its figure.
    nan where the mask is empty or the row has no map.
    """
    map_, mask = _map_and_mask(trace, token, mask)
    return (map_ @ mask / mask.sum()) / map_.mean(dim=-1)


def pointing_hit(trace: Trace, token: int, mask: Tensor) -> Tensor:
    """Whether each layer's largest patch lies in the mask, (L,) bool: the pointing game (Zhang et al. 2016).

    A patch lies in a soft `mask` (P,) if it is covered at least half as much as the one covered most; never in an empty
    one, and a row without a map points nowhere.
    """
    map_, mask = _map_and_mask(trace, token, mask)
    if not mask.any():
        return torch.zeros(len(map_), dtype=torch.bool)
    inside = mask >= 0.5 * mask.max()
    return inside[map_.argmax(dim=-1)] & map_.any(dim=-1)


def _map_and_mask(trace: Trace, token: int, mask: Tensor) -> tuple[Tensor, Tensor]:
    """The pooled map of a token's row (L, P) and the mask (P,), once they fit, in fp32."""
    rows, _, patches = trace.pooled.shape
    if not 0 <= token < rows:
        raise EvaluationError(f"The trace has the generated tokens 0 to {rows - 1}, but token {token} was asked for.")
    if tuple(mask.shape) != (patches,):
        raise EvaluationError(
            f"The trace has {patches} patches of all its pictures together, the mask has the shape {tuple(mask.shape)}."
            " Join the masks of several pictures with `torch.cat`."
        )
    return trace.pooled[token].float(), mask.float()
