"""CHAIR: how many of the objects that captions name are not in the picture (Rohrbach et al. 2018, arXiv 1809.02156).

    CHAIR_i     mentions of objects that are not in the picture / mentions of objects
    CHAIR_s     captions with such a mention / captions
    recall      objects that are in the picture and named / objects that are in it, summed over all pictures
    precision   objects that are named and in the picture / objects that are named, each once a caption
    F1          of recall and precision

As in the original program, every mention counts, recall is a ratio of sums over all pictures and not a mean of ratios,
and a caption that names no object counts as one without hallucinations. So short captions get a good CHAIR: read it
together with recall and words. Precision, F1 and "words", the mean number of
words between blanks, are additions of ours; the original's length counts tokens, in which a comma is a token too.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from minivlm.errors import EvaluationError
from minivlm.evaluation.ids import require_one_spelling
from minivlm.evaluation.lexicon import Mention, Words
from minivlm.evaluation.lines import read_entries
from minivlm.stats import Ratio


@dataclass(frozen=True)
class Judged:
    """The objects that one caption mentions, compared with those that are in its picture."""

    mentions: tuple[Mention, ...]  # in order, with repeats
    truth: frozenset[str]  # the objects that are in the picture
    words: int  # between blanks

    @property
    def invented(self) -> tuple[bool, ...]:
        """For each mention, whether its object is missing from the picture."""
        return tuple(mention.object not in self.truth for mention in self.mentions)

    @property
    def hallucinated(self) -> tuple[str, ...]:
        """The mentioned objects that are not in the picture, in order, with repeats."""
        return tuple(mention.object for mention in self.mentions if mention.object not in self.truth)

    @property
    def named(self) -> frozenset[str]:
        """The mentioned objects, each once."""
        return frozenset(mention.object for mention in self.mentions)

    @property
    def found(self) -> frozenset[str]:
        """The objects that are named and in the picture."""
        return self.named & self.truth

    @property
    def missed(self) -> tuple[str, ...]:
        """The objects that are in the picture and not named, in alphabetical order."""
        return tuple(sorted(self.truth - self.named))


def judge(text: str, truth: Collection[str], lexicon: Words) -> Judged:
    """Find the objects that `text` mentions; `truth` holds the names of the objects in its picture."""
    return Judged(lexicon.mentions(text), frozenset(truth), len(text.split()))


def chair(judged: Sequence[Judged]) -> dict[str, Ratio]:
    """Figure -> ratio of sums over the captions, in their order; "words" is the mean number of words.

    Raises `EvaluationError` without a caption.
    """
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
    """Image id -> caption, from JSON lines or a JSON list of objects with image_id and caption.

    Raises `EvaluationError` for anything else, and for two captions of one image.
    """
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
    require_one_spelling(captions, f"'{path}'")
    return captions
