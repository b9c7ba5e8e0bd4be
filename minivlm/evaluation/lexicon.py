"""The lexicon: which words of a caption name which object, and at which characters.

    "Two girls share a hot dog."   →   person at 4..9, hot dog at 18..25

A caption is cut into tokens, each token is reduced to its lemma, phrases of two words are joined, and every token that
is then in the word list is a mention. A word list has one object a line: its name, then other words for it. This is the
format of the original program's list (Rohrbach et al. 2018, arXiv 1809.02156), which can be read too. The original gets
its lemmas from WordNet, by the part of speech that NLTK's tagger assigns; both need downloads, so ours are made
otherwise (see lemmas.py).
"""

import re
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Protocol

from minivlm.errors import EvaluationError
from minivlm.evaluation.lemmas import ORIGINAL_TOKEN, TOKEN, VERBAL, lemma, words
from minivlm.files import digest, listed, path_of

RULES = {False: 2, True: 1}  # by `faithful`: increase it with every change of a rule, since scores do not compare then
SURROGATES = re.compile("[\ud800-\udfff]")  # halves of a character, from programs that cut texts in UTF-16
OWN_LIST = Path(__file__).with_name("coco_objects.txt")
ANIMALS = ("bird", "cat", "dog", "horse", "sheep", "cow", "elephant", "bear", "zebra", "giraffe")
MEANT = {  # phrase -> the word that replaces it: a "baby elephant" is one elephant and no baby
    **{f"{age} {animal}": animal for age in ("baby", "adult") for animal in ANIMALS},
    **{f"{age} {young}": young for age in ("baby", "adult") for young in ("animal", "cub")},
    "passenger train": "train",
    "passenger jet": "jet",
    "bow tie": "tie",
    "toilet seat": "toilet",
    "train track": "track",  # rails are no train
    "home plate": "plate",  # of baseball
}
COLORS = words("orange")  # a fruit only where one of the next words, or no word, follows
BEHIND_FRUIT = words("is was has sits lies on in at near beside next with that which")
SLIPS = {"men": "men", "vases": "vas", "of parking": "park"}  # wrong lemmas of the original, see `Lexicon.faithful`


class Words(Protocol):
    """Finds objects in captions: `Lexicon`, or `SceneWords` for the toy world."""

    @property
    def name(self) -> str:
        """Its name in cards and messages."""

    @property
    def objects(self) -> tuple[str, ...]:
        """The names of all objects that it knows."""

    @property
    def fingerprint(self) -> str:
        """Equal for two lexicons that find the same mentions in every text."""

    def mentions(self, text: str) -> "tuple[Mention, ...]":
        """Every mention of an object in `text`, in order, with repeats."""


@dataclass(frozen=True)
class Mention:
    """The characters `start` to `stop` (exclusive) of a caption name an object."""

    object: str
    start: int
    stop: int


@dataclass(frozen=True)
class Token:
    """A piece of a caption: its lemma, and the characters `start` to `stop` (exclusive) where it stands."""

    word: str
    start: int
    stop: int


@dataclass(frozen=True)
class Lexicon:
    """A word list and the rules. With `faithful`, the original program's mistakes are made too, to get its scores.

    These are: WordNet has men as a lemma of its own and reduces vases to vas; the tagger calls the parking of "a row of
    parking meters" a verb; an entry behind two blanks, such as cheesecake, is never matched. The original also matches
    verbs: "skiing" counts as skis and "seated" as a chair. To it, orange is a fruit even as a colour, a "teddy-bear" is
    no object, and in "cat/dog", "_bus_" and "traffic_light" there is none.
    """

    name: str
    names: Mapping[str, str] = field(repr=False)  # word or phrase -> object
    faithful: bool = False

    @classmethod
    def from_file(cls, path: str | Path) -> "Lexicon":
        """Read the original program's list, or one in its format; a `faithful` lexicon. Errors: see `read_list`.

        Warns of entries by which no caption can name their object, such as phrases of three words.
        """
        lexicon = cls(Path(path).name, read_list(path_of(path, EvaluationError)), faithful=True)
        if lost := [word for word, name in lexicon.names.items() if not lexicon.finds(word, name)]:
            warnings.warn(
                f"'{path}': {len(lost)} of {len(lexicon.names)} words do not name their object in a caption, by the "
                f"rules of the original program: {listed(list(map(repr, lost)), 5)}. A word or a phrase of two words "
                "was expected, with one comma and one blank before it.",
                stacklevel=2,
            )
        return lexicon

    @cached_property
    def objects(self) -> tuple[str, ...]:
        """The names of the objects, in the order of the list."""
        return tuple(dict.fromkeys(self.names.values()))

    @cached_property
    def phrases(self) -> dict[str, str]:
        """Two words -> the one word or phrase that replaces them."""
        return {name: name for name in self.names if name.count(" ") == 1} | MEANT

    @cached_property
    def parts(self) -> frozenset[str]:
        """The single words of all phrases; they stay as they are, so that "potted plant" is not reduced to pot."""
        return frozenset(part for phrase in self.phrases for part in phrase.split())

    @property
    def fingerprint(self) -> str:
        """A digest of the list, the rules and the version of simplemma."""
        return digest([sorted(self.names.items()), self.faithful, RULES[self.faithful], version("simplemma")])

    def finds(self, text: str, name: str) -> bool:
        """Whether `text` mentions the object `name`."""
        return any(mention.object == name for mention in self.mentions(text))

    def mentions(self, text: str) -> tuple[Mention, ...]:
        """Every mention of an object in `text`, in order, with repeats."""
        tokens = list(self._joined(self._lemmas(SURROGATES.sub("\ufffd", text))))
        if {"toilet", "seat"} <= {token.word for token in tokens}:  # as in the original: then no seat counts as a chair
            tokens = [token for token in tokens if token.word != "seat"]
        return tuple(Mention(self.names[t.word], t.start, t.stop) for t in tokens if t.word in self.names)

    def _lemmas(self, text: str) -> list[Token]:
        """The tokens of a text, each with its lemma."""
        rule, text = (ORIGINAL_TOKEN, text) if self.faithful else (TOKEN, text.replace("_", " "))
        matches = list(rule.finditer(text))
        lower = ["", "", *(match[0].lower() for match in matches), ""]
        lemmas = [self._lemma(lower[place : place + 4]) for place in range(len(matches))]
        return [Token(lemma, *match.span()) for lemma, match in zip(lemmas, matches, strict=True)]

    def _lemma(self, around: list[str]) -> str:
        """The lemma of the third word in `around`, which also holds the two words before it and the one behind it."""
        _, before, word, behind = around
        if self.faithful and (slip := SLIPS.get(word) or SLIPS.get(f"{before} {word}")):
            return slip
        if not self.faithful and word in COLORS and behind[:1].isalpha() and behind not in BEHIND_FRUIT:
            return f"the color {word}"
        spelled = word if self.faithful else word.replace("-", " ")
        singular = spelled.removesuffix("s")  # of words that no dictionary has, such as TVs
        known = next((form for form in (spelled, singular) if form in self.names or form in self.parts), None)
        return known or (lemma(around) if self.faithful or not VERBAL.fullmatch(word) else word)

    def _joined(self, tokens: list[Token]) -> Iterator[Token]:
        """The tokens in order; two neighbours that make a phrase become one token."""
        skipped = False
        for token, following in pairwise([*tokens, Token("", 0, 0)]):
            phrase = self.phrases.get(f"{token.word} {following.word}")
            if not skipped:
                yield Token(phrase, token.start, following.stop) if phrase else token
            skipped = phrase is not None and not skipped


def read_list(path: Path) -> dict[str, str]:
    """Word or phrase -> object, from a word list. Raises `EvaluationError` if the file is not one."""
    try:
        lines = re.split(r"\r\n|\r|\n", path.read_text("utf-8-sig"))  # not at U+2028 and the like
    except (OSError, ValueError) as error:
        raise EvaluationError(f"The word list '{path}' could not be read: {error}.") from error
    names: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        if line.startswith("#") or not line.strip():
            continue
        first, *others = (word.removeprefix(" ").rstrip() for word in line.strip().split(","))
        if not first or not all(others) or re.search(r"[;\t|]", line.strip()):
            raise EvaluationError(
                f"'{path}', line {number}: an object's name and other words for it, with commas between them, were "
                f"expected, found {line[:60]!r}."
            )
        for word in (first, *others):
            if names.setdefault(word.lower(), first) != first:
                raise EvaluationError(
                    f"'{path}', line {number}: {word!r} is a word for {first!r} and, further up, for "
                    f"{names[word.lower()]!r}. A caption that has it would name only one of them: leave it to one line."
                )
    if not names:
        raise EvaluationError(f"The word list '{path}' is empty; one object a line was expected.")
    return names


def coco_lexicon() -> Lexicon:
    """The word list of this package for COCO's 80 objects, with its own rules."""
    return Lexicon("minivlm's words for COCO", read_list(OWN_LIST))
