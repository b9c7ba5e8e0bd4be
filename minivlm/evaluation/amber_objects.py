"""AMBER, the half with captions: CHAIR, Cover, Hal and Cog (Wang et al. 2023, arXiv 2311.07397). OUR OWN VARIANT.

Each picture has a list of objects that are in it and one of objects that a model is tempted to invent; each object has
associations, words by which it may be meant. Of a caption's words those count that are an object or an association.

    CHAIR  of the words that count, how many mean nothing that is in the picture
    Cover  of the objects in the pictures, how many are named
    Hal    of the captions, how many have such a word
    Cog    of the tempting objects, how many are named

The original finds nouns with NLTK's tagger and takes a word for another whose word vector (spaCy, en_core_web_lg) is
similar enough. Neither is here: words are found as for CHAIR (`lexicon.py`), and a word means only what the lists say.
So a word that is only similar to an object in the picture counts as invented (a higher CHAIR and Hal, a lower Cover),
and a verb or an adjective that is spelt like an object counts as one. Figures of the two programs must not be compared.
As there, a word of the list of safe words is never invented, but counts below the line, and a word that is repeated
counts each time.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from minivlm.errors import EvaluationError
from minivlm.evaluation.lexicon import Lexicon
from minivlm.evaluation.lines import read_json, require_object
from minivlm.evaluation.pope import listed
from minivlm.files import path_of
from minivlm.stats import Ratio

GENERATIVE = "generative"  # the type of these pictures in the annotations


@dataclass(frozen=True)
class AmberWords:
    """The original's relation.json and safe_words.txt."""

    associations: Mapping[str, tuple[str, ...]]  # object -> the words by which it may be meant
    safe: frozenset[str]  # words that are never invented

    @classmethod
    def read(cls, relations: str | Path, safe: str | Path) -> "AmberWords":
        """Read both files. Raises `EvaluationError` for others."""
        content = require_object(read_json(relations), f"'{relations}'")
        for name, words in content.items():
            if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
                raise EvaluationError(f"'{relations}': {name!r} must have a list of words, found {words!r:.80}.")
        path = path_of(safe, EvaluationError)
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, ValueError) as cause:
            raise EvaluationError(f"'{path}' cannot be read as a list of words, one a line: {cause}.") from cause
        return cls({name: tuple(words) for name, words in content.items()}, frozenset(lines))

    @cached_property
    def lexicon(self) -> Lexicon:
        """Finds the words that count: objects and associations."""
        words = {word for name, others in self.associations.items() for word in (name, *others)}
        return Lexicon("AMBER", {word.lower(): word for word in sorted(words)})

    def meant(self, word: str, objects: Sequence[str]) -> int | None:
        """The place in `objects` of the first that `word` means: by an association, or else by its name."""
        by = next((place for place, name in enumerate(objects) if word in self.associations.get(name, ())), None)
        return by if by is not None else next((place for place, name in enumerate(objects) if name == word), None)


@dataclass(frozen=True)
class Described:
    """What one caption names, by number: words that count, those that are invented, objects there, tempting objects."""

    words: int
    invented: int
    covered: int
    there: int
    tempted: int
    tempting: int


def describe(text: str, truth: Sequence[str], tempting: Sequence[str], words: AmberWords) -> Described:
    """Count a caption of a picture with the objects `truth`, and with the `tempting` ones that it lacks."""
    named = [mention.object for mention in words.lexicon.mentions(text)]
    covered, tempted, invented = set(), set(), 0
    for word in named:
        if word in words.safe:
            continue
        if (place := words.meant(word, truth)) is not None:
            covered.add(place)
            continue
        invented += 1
        if (place := words.meant(word, tempting)) is not None:
            tempted.add(place)
    return Described(len(named), invented, len(covered), len(truth), len(tempted), len(tempting))


def amber_captions(
    annotations: Sequence[Mapping[str, Any]], answers: Mapping[str, str], words: AmberWords
) -> dict[str, Ratio]:
    """Figure -> ratio of sums over pictures; each picture with captions in the annotations needs an answer by its id.

    Raises `EvaluationError` for one without, and for annotations of another form.
    """
    pictures = {str(entry.get("id")): entry for entry in annotations if entry.get("type") == GENERATIVE}
    if missing := [name for name in pictures if name not in answers]:
        raise EvaluationError(
            f"Every one of the {len(pictures)} pictures of AMBER needs a caption with its id, found {listed(missing)} "
            "without one."
        )
    if not pictures:
        raise EvaluationError("The annotations hold no picture to describe: take the original's annotations.json.")
    counts = [describe(answers[name], *lists(name, entry), words) for name, entry in pictures.items()]
    of = {name: np.array([getattr(one, name) for one in counts]) for name in vars(counts[0])}
    return {
        "chair": Ratio.of(of["invented"], of["words"]),
        "cover": Ratio.of(of["covered"], of["there"]),
        "hal": Ratio.of(of["invented"] > 0, np.ones(len(counts))),
        "cog": Ratio.of(of["tempted"], of["tempting"]),
    }


def lists(name: str, entry: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """The objects that are in a picture, and those that are tempting. Raises `EvaluationError`."""
    found = entry.get("truth"), entry.get("hallu")
    for words in found:
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            raise EvaluationError(f"AMBER's picture {name} must have lists of words as truth and hallu.")
    return found[0], found[1]  # type: ignore[return-value]  # checked in the loop
