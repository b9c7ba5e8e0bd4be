"""Yes-no sets after POPE (Li et al. 2023, arXiv 2305.10355): three objects that are there, three that are not.

The splits differ in how the absent objects are chosen: "random" by chance, "popular" the most frequent of all scenes
first, "adversarial" those first that most often stand beside what is present, a missing companion before all others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import permutations
from random import Random

from minivlm.errors import ConfigError
from minivlm.toyworld.questions import Question, about
from minivlm.toyworld.scenes import Scene
from minivlm.toyworld.themes import OBJECT_NAMES, missing_companions

SPLITS = ("random", "popular", "adversarial")


def pope_questions(
    scenes: Sequence[Scene], split: str, reference: Sequence[Scene] | None = None, per_side: int = 3, seed: int = 0
) -> list[list[Question]]:
    """For every scene up to `per_side` questions with yes and as many with no.

    Frequencies are counted in `reference` (the scenes themselves if None; layouts without pictures suffice).
    The same seed asks about the same present objects in every split.
    """
    if split not in SPLITS:
        raise ConfigError(f"POPE's splits are {', '.join(SPLITS)}, found {split!r}.")
    frequency, together = statistics(scenes if reference is None else reference)
    sets = []
    for scene in scenes:
        there = present_objects(scene, per_side, Random(f"pope/{seed}/{scene.seed}"))
        missing = absent_objects(scene, split, frequency, together, Random(f"pope/{split}/{seed}/{scene.seed}"))
        asked = [about(name, True) for name in there] + [about(name, False) for name in missing[: len(there)]]
        sets.append([replace(question, kind=f"pope {split}") for question in asked])
    return sets


def statistics(scenes: Sequence[Scene]) -> tuple[Counter[str], Counter[tuple[str, str]]]:
    """In how many scenes each object occurs, and each ordered pair of objects."""
    frequency, together = Counter(), Counter()
    for scene in scenes:
        frequency.update(scene.names)
        together.update(permutations(scene.names, 2))
    return frequency, together


def present_objects(scene: Scene, number: int, rng: Random) -> list[str]:
    """A choice of what is there, clearly visible objects first."""
    names = rng.sample(scene.names, len(scene.names))
    hidden = {thing.name for thing in scene.things if thing.hard}
    return sorted(names, key=lambda name: name in hidden)[:number]


def absent_objects(
    scene: Scene, split: str, frequency: Counter[str], together: Counter[tuple[str, str]], rng: Random
) -> list[str]:
    """Everything that is not there, in the order in which the split asks for it; ties by chance."""
    names = [name for name in rng.sample(OBJECT_NAMES, len(OBJECT_NAMES)) if name not in scene.names]
    if split == "popular":
        names.sort(key=lambda name: -frequency[name])
    if split == "adversarial":
        first = missing_companions(set(scene.names))
        names.sort(key=lambda name: (name not in first, -sum(together[present, name] for present in scene.names)))
    return names
