"""Questions about a scene with answers that are true of it."""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass
from random import Random

from minivlm.errors import ConfigError
from minivlm.toyworld.scenes import Scene, Thing
from minivlm.toyworld.themes import OBJECT_NAMES, THEMES, missing_companions
from minivlm.toyworld.words import NUMBERS, a, at, caption, noun, plural, sentence, side

DESCRIBE = (
    "Describe the image.",
    "Please describe this image in detail.",
    "What is in the image?",
    "What do you see?",
)
MIX = {"is there": 6, "count": 5, "position": 3, "color": 2, "place": 1, "two-hop": 3, "describe": 1}
NO_POOLS = (6, 3, 1)  # how often a no is about any object, one of the same place, a missing companion
DIRECTIONS = {"left of": (-1, 0), "right of": (1, 0), "above": (0, -1), "below": (0, 1)}
NOTHING = "Nothing."


@dataclass(frozen=True)
class Question:
    text: str
    answer: str
    kind: str
    object: str | None = None  # the object asked about


def questions(
    scene: Scene, rng: Random, n: int = 4, mix: Mapping[str, float] = MIX, style: str = "canonical"
) -> list[Question]:
    """`n` different questions; kinds are drawn in the proportions of `mix`, `style` is that of descriptions.

    A kind that the scene cannot serve (no clear object, no colour, an ambiguous neighbour) becomes "is there".
    """
    if n > len(OBJECT_NAMES):
        raise ConfigError(f"There are at most {len(OBJECT_NAMES)} different questions about a scene, asked for {n}.")
    found: dict[str, Question] = {}
    kinds, weights = zip(*mix.items(), strict=True)
    while len(found) < n:
        kind = rng.choices(kinds, weights)[0]
        question = describe(scene, rng, style) if kind == "describe" else ASK[kind](scene, rng)
        if question is None or question.text in found:
            question = is_there(scene, rng, found)
        found.setdefault(question.text, question)
    return list(found.values())


def describe(scene: Scene, rng: Random, style: str = "canonical") -> Question:
    return Question(rng.choice(DESCRIBE), caption(scene, rng, style), "describe")


def is_there(scene: Scene, rng: Random, asked: Container[str] = ()) -> Question:
    """Yes and no are equally likely; a no is mostly about any object, seldom about one that the scene suggests.

    So the habit of expecting companions survives these questions. Questions in `asked` are not asked again, as long
    as there is something else to ask.
    """
    yes = [about(name, present=True) for name in scene.names]
    unasked = [question for question in yes if question.text not in asked]
    if unasked and rng.random() < 0.5:
        return rng.choice(unasked)
    present = set(scene.names)
    absent = [name for name in OBJECT_NAMES if name not in present]
    related = [name for name in THEMES[scene.theme].objects if name not in present]
    pool = rng.choices((absent, related, missing_companions(present)), NO_POOLS)[0] or absent
    return about(rng.choice(pool), present=False)


def about(name: str, present: bool) -> Question:
    """ "Is there a dog in the image?" with an answer that begins with Yes or No."""
    answer = f"Yes, there is {a(name)}." if present else f"No, there is no {noun(name)}."
    return Question(f"Is there {a(name)} in the image?", answer, "is there", name)


def count(scene: Scene, rng: Random) -> Question | None:
    """How many there are; mostly asked where something occurs more than once, or one would always be a good guess."""
    clear = [name for name in scene.names if all(thing.hard is None for thing in scene.of(name))]
    several = [name for name in clear if len(scene.of(name)) > 1]
    absent = [name for name in THEMES[scene.theme].objects if name not in scene.names]
    pool = several if rng.random() < 0.75 else rng.choice((clear, clear, absent))
    if not pool:
        return None
    name = rng.choice(pool)
    number = len(scene.of(name))
    verb, words = ("is", noun(name)) if number == 1 else ("are", plural(name))
    text = f"How many {plural(name)} are in the image?"
    return Question(text, f"There {verb} {NUMBERS[number]} {words}.", "count", name)


def single_clear(scene: Scene) -> list[Thing]:
    """Things of which there is one, and that can be seen well: only of those more is asked than whether they exist."""
    return [thing for thing in scene.things if thing.hard is None and len(scene.of(thing.name)) == 1]


def position(scene: Scene, rng: Random) -> Question | None:
    things = single_clear(scene)
    if not things:
        return None
    thing = rng.choice(things)
    words = noun(thing.name)
    return Question(f"Where is the {words}?", f"The {words} is {at(side(thing, scene.size))}.", "position", thing.name)


def color(scene: Scene, rng: Random) -> Question | None:
    things = [thing for thing in single_clear(scene) if thing.color]
    if not things:
        return None
    thing = rng.choice(things)
    words = noun(thing.name)
    return Question(f"What color is the {words}?", f"The {words} is {thing.color}.", "color", thing.name)


def place(scene: Scene, rng: Random) -> Question:
    return Question("Where was the picture taken?", sentence(THEMES[scene.theme].where), "place")


def two_hop(scene: Scene, rng: Random) -> Question | None:
    """ "What is left of the dog?": find the dog, look left, name the nearest thing there."""
    asked = [
        Question(f"What is {words} the {noun(start.name)}?", answer, "two-hop", start.name)
        for start in single_clear(scene)
        for words, direction in DIRECTIONS.items()
        if (answer := neighbour(scene, start, direction)) is not None
    ]
    something = [question for question in asked if question.answer != NOTHING]
    pool = something if rng.random() < 0.8 else asked  # most directions lead out of the picture
    return rng.choice(pool) if pool else None


def neighbour(scene: Scene, start: Thing, direction: tuple[int, int]) -> str | None:
    """The answer to a two-hop question, or None where people could disagree.

    A thing lies in the direction when its centre is in the quarter around it. Nobody should have to measure, so it is
    a matter of dispute when a thing is near the quarter's edge, hard to see, or about as near as another kind of thing.
    """
    ahead: list[tuple[float, Thing]] = []
    for thing in scene.things:
        dx, dy = thing.center[0] - start.center[0], thing.center[1] - start.center[1]
        along = dx * direction[0] + dy * direction[1]
        across = abs(dx * direction[1]) + abs(dy * direction[0])
        if thing is not start and along > 0.6 * across:
            if thing.hard or along < 1.6 * across:
                return None
            ahead.append((along + across, thing))
    if not ahead:
        return NOTHING
    nearest, thing = min(ahead, key=lambda pair: pair[0])
    if any(distance < 1.25 * nearest and other.name != thing.name for distance, other in ahead):
        return None
    return sentence(a(thing.name))


ASK = {"is there": is_there, "count": count, "position": position, "color": color, "place": place, "two-hop": two_hop}
