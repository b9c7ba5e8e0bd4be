"""The lexicon: which words of a caption name which object, and where they stand.

    "Two girls share a hot dog."   →   person at 4..9, hot dog at 18..25

A caption is cut into tokens, each token is brought to its lemma, phrases of two words are joined, and what is then in
the word list is a mention. A word list has one object a line, first its name, then other words for it: the form of the
original program's list (Rohrbach et al. 2018, arXiv 1809.02156), which is read as well. Its rules are named below. Its
lemmas are not ours: it asks WordNet, by the part of speech that NLTK's tagger finds, and both need data that must be
downloaded (see lemmas.py).
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Protocol

from minivlm.errors import EvaluationError
from minivlm.evaluation.lemmas import TOKEN, VERBAL, lemma, words
from minivlm.files import digest

RULES = 1  # to be counted up whenever a rule changes, here or in lemmas.py: scores by other rules cannot be compared
HALVES = re.compile(
    "[\ud800-\udfff]"
)  # half characters, from programs that cut texts in UTF-16: no dictionary takes them
OWN_LIST = Path(__file__).with_name("coco_objects.txt")
ANIMALS = ("bird", "cat", "dog", "horse", "sheep", "cow", "elephant", "bear", "zebra", "giraffe")
MEANT = {  # phrases that are no objects of the list, and the word that is meant: one animal, and no baby beside it
    **{f"{age} {animal}": animal for age in ("baby", "adult") for animal in ANIMALS},
    **{f"{age} {young}": young for age in ("baby", "adult") for young in ("animal", "cub")},
    "passenger train": "train",
    "passenger jet": "jet",
    "bow tie": "tie",
    "toilet seat": "toilet",
    "train track": "track",  # rails are no train
    "home plate": "plate",  # of baseball
}
COLORS = words("orange")  # also a fruit, where no word follows but one of these
BEHIND_FRUIT = words("is was has sits lies on in at near beside next with that which")
SLIPS = {"men": "men", "vases": "vas", "of parking": "park"}  # what the original makes of these, see `faithful`


class Words(Protocol):
    """Whatever finds objects in captions. The toy world has its own."""

    name: str
    objects: tuple[str, ...]

    @property
    def fingerprint(self) -> str:
        """Equal if the same mentions are found in every text."""

    def mentions(self, text: str) -> "tuple[Mention, ...]":
        """Every object named, in order, with repeats."""


@dataclass(frozen=True)
class Mention:
    """An object is named by the characters `start` to `stop` (exclusive) of a caption."""

    object: str
    start: int
    stop: int


@dataclass(frozen=True)
class Token:
    """A piece of a caption: the word by which it is looked up, and where it stands."""

    word: str
    start: int
    stop: int


@dataclass(frozen=True)
class Lexicon:
    """A word list with the rules. `faithful` also makes the original program's slips, so that its scores come out:

    WordNet takes men for a workforce and vases for several vasa, its tagger takes the parking of "a row of parking
    meters" for a verb, and an entry behind two blanks, such as cheesecake, is never found. To it, verbs name objects:
    who is skiing names skis, and who is seated a chair; orange is a fruit even as a color; and a teddy-bear is nothing.
    """

    name: str
    names: Mapping[str, str] = field(repr=False)  # word or phrase -> object
    faithful: bool = False

    @classmethod
    def from_file(cls, path: str | Path) -> "Lexicon":
        """The list of the original program, or one in its form; scores are the original's, slips included."""
        return cls(Path(path).name, read_list(Path(path).expanduser()), faithful=True)

    @cached_property
    def objects(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(self.names.values()))

    @cached_property
    def phrases(self) -> dict[str, str]:
        """Two words -> what is looked up in their place."""
        return {name: name for name in self.names if name.count(" ") == 1} | MEANT

    @cached_property
    def parts(self) -> frozenset[str]:
        """Words as they stand in phrases: potted is no form of pot there."""
        return frozenset(part for phrase in self.phrases for part in phrase.split())

    @property
    def fingerprint(self) -> str:
        return digest([sorted(self.names.items()), self.faithful, RULES, version("simplemma")])

    def mentions(self, text: str) -> tuple[Mention, ...]:
        """Every object named, in order, with repeats."""
        tokens = list(self._joined(self._lemmas(HALVES.sub("\ufffd", text))))
        if {"toilet", "seat"} <= {token.word for token in tokens}:  # whatever stands between the two, it is no chair
            tokens = [token for token in tokens if token.word != "seat"]
        return tuple(Mention(self.names[t.word], t.start, t.stop) for t in tokens if t.word in self.names)

    def _lemmas(self, text: str) -> list[Token]:
        found = list(TOKEN.finditer(text))
        small = ["", "", *(match[0].lower() for match in found), ""]
        lemmas = [self._lemma(small[place : place + 4]) for place in range(len(found))]
        return [Token(lemma, *match.span()) for lemma, match in zip(lemmas, found, strict=True)]

    def _lemma(self, around: list[str]) -> str:
        """Of the third word; `around` it stand the two words before and the one behind."""
        _, before, word, behind = around
        if self.faithful and (slip := SLIPS.get(word) or SLIPS.get(f"{before} {word}")):
            return slip
        if not self.faithful and word in COLORS and behind[:1].isalpha() and behind not in BEHIND_FRUIT:
            return f"the color {word}"
        spelled = word if self.faithful else word.replace("-", " ")
        singular = spelled.removesuffix("s")  # for what no dictionary has, such as TVs
        known = next((form for form in (spelled, singular) if form in self.names or form in self.parts), None)
        return known or (lemma(around) if self.faithful or not VERBAL.fullmatch(word) else word)

    def _joined(self, tokens: list[Token]) -> Iterator[Token]:
        """The tokens, two that make a phrase as one."""
        skipped = False
        for token, following in pairwise([*tokens, Token("", 0, 0)]):
            phrase = self.phrases.get(f"{token.word} {following.word}")
            if not skipped:
                yield Token(phrase, token.start, following.stop) if phrase else token
            skipped = phrase is not None and not skipped


def read_list(path: Path) -> dict[str, str]:
    """Word -> object of a word list. Raises `EvaluationError` if it is none."""
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        raise EvaluationError(f"The word list '{path}' could not be read: {error}.") from error
    names: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        if line.startswith("#") or not line.strip():
            continue
        first, *others = (word.removeprefix(" ").rstrip() for word in line.strip().split(","))
        if not first or not all(others):
            raise EvaluationError(
                f"'{path}', line {number}: an object's name and other words for it, with commas between them, were "
                f"expected, found {line[:60]!r}."
            )
        names.update((word.lower(), first) for word in [first, *others])
    if not names:
        raise EvaluationError(f"The word list '{path}' is empty; one object a line was expected.")
    return names


def coco_lexicon() -> Lexicon:
    """Our own words for COCO's 80 objects."""
    return Lexicon("minivlm's words for COCO", read_list(OWN_LIST))
