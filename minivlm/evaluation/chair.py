"""CHAIR: how many of the objects that captions name are not in the picture (Rohrbach et al. 2018, arXiv 1809.02156).

    CHAIR_i     mentions of objects that are not there / mentions of objects
    CHAIR_s     captions with such a mention / captions
    recall      objects that are there and named / objects that are there, over all pictures
    precision   objects that are named and there / objects that are named, each once a caption
    F1          of the two

As in the original, mentions count as often as they occur, recall is pooled over the pictures and not their mean, and a
caption that names nothing is a caption without inventions. Silence is rewarded: read recall and words beside it.
Precision and F1 are not the original's. Nor is "words", the mean number of words between blanks: its length counts
hundreds of tokens, in which a comma is one as well.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from minivlm.errors import EvaluationError
from minivlm.evaluation.lexicon import Mention, Words
from minivlm.evaluation.lines import read_entries
from minivlm.stats import Ratio


@dataclass(frozen=True)
class Judged:
    """One caption, held against what is in its picture."""

    mentions: tuple[Mention, ...]  # in order, with repeats
    truth: frozenset[str]
    words: int  # between blanks

    @property
    def invented(self) -> tuple[bool, ...]:
        """For each mention whether its object is not there."""
        return tuple(mention.object not in self.truth for mention in self.mentions)

    @property
    def hallucinated(self) -> tuple[str, ...]:
        """The objects that are not there, in order, with repeats."""
        return tuple(mention.object for mention in self.mentions if mention.object not in self.truth)

    @property
    def named(self) -> frozenset[str]:
        return frozenset(mention.object for mention in self.mentions)

    @property
    def found(self) -> frozenset[str]:
        """Named, and there."""
        return self.named & self.truth

    @property
    def missed(self) -> tuple[str, ...]:
        """There, and not named, by name."""
        return tuple(sorted(self.truth - self.named))


def judge(text: str, truth: Collection[str], lexicon: Words) -> Judged:
    """Find the objects of a caption, and which of them are not among those of its picture."""
    return Judged(lexicon.mentions(text), frozenset(truth), len(text.split()))


def chair(judged: Sequence[Judged]) -> dict[str, Ratio]:
    """The figures as ratios of sums over captions, in their order; "words" is the mean length."""
    if not judged:
        raise EvaluationError("CHAIR needs at least one caption, found none.")
    there, named, found = ([len(getattr(one, part)) for one in judged] for part in ("truth", "named", "found"))
    invented, each = [len(one.hallucinated) for one in judged], [1] * len(judged)
    return {
        "chair_s": Ratio.of([count > 0 for count in invented], each),
        "chair_i": Ratio.of(invented, [len(one.mentions) for one in judged]),
        "recall": Ratio.of(found, there),
        "precision": Ratio.of(found, named),
        "f1": Ratio.of([2 * count for count in found], [a + b for a, b in zip(there, named, strict=True)]),
        "words": Ratio.of([one.words for one in judged], each),
    }


def read_captions(path: str | Path) -> dict[str, str]:
    """Image id -> caption, from JSON lines or a JSON list of objects with image_id and caption."""
    captions: dict[str, str] = {}
    for where, entry in read_entries(path):
        image, caption = entry.get("image_id"), entry.get("caption")
        if type(image) not in (int, str) or image == "" or not isinstance(caption, str):
            raise EvaluationError(
                f"{where}: expected are image_id (a text or a whole number) and caption (a text), found "
                f"{str(entry)[:80]}."
            )
        if str(image) in captions:
            raise EvaluationError(f"{where}: image {image} has a caption already. Give one caption for each image.")
        captions[str(image)] = caption
    if not captions:
        raise EvaluationError(f"'{path}' is empty; expected are JSON lines with image_id and caption.")
    return captions
