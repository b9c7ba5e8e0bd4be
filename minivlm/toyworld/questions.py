"""Questions about a scene, with true answers."""

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
NO_POOLS = (6, 3, 1)  # how often a no is about any absent object, one of the theme, a missing companion
DIRECTIONS = {"left of": (-1, 0), "right of": (1, 0), "above": (0, -1), "below": (0, 1)}
NOTHING = "Nothing."


@dataclass(frozen=True)
class Question:
    """A question with its true answer."""

    text: str
    answer: str
    kind: str  # one of MIX
    object: str | None = None  # the object asked about


def questions(
    scene: Scene, rng: Random, n: int = 4, mix: Mapping[str, float] = MIX, style: str = "canonical"
) -> list[Question]:
    """`n` different questions; kinds are drawn in the proportions of `mix`, and descriptions are in this `style`.

    A kind for which the scene has no question (no clear object, no colour, an ambiguous neighbour) is replaced by "is
    there". Raises `ConfigError` if there are not enough different questions.
    """
    if n > len(OBJECT_NAMES):
        raise ConfigError(f"There are at most {len(OBJECT_NAMES)} different questions about a scene, asked for {n}.")
    chosen: dict[str, Question] = {}
    kinds, weights = zip(*mix.items(), strict=True)
    while len(chosen) < n:
        kind = rng.choices(kinds, weights)[0]
        question = describe(scene, rng, style) if kind == "describe" else ASK[kind](scene, rng)
        if question is None or question.text in chosen:
            question = is_there(scene, rng, chosen)
        chosen.setdefault(question.text, question)
    return list(chosen.values())


def describe(scene: Scene, rng: Random, style: str = "canonical") -> Question:
    """A request for a description; the answer is a caption in this style."""
    return Question(rng.choice(DESCRIBE), caption(scene, rng, style), "describe")


def is_there(scene: Scene, rng: Random, asked: Container[str] = ()) -> Question:
    """A question whose answer is yes or no with equal chances; a no is seldom about an object that the scene suggests.

    So these questions do not unlearn the prior that companions are there. A question of `asked` is not asked again, as
    long as there are others.
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
    """A question about a number, mostly about objects that occur more than once: else "one" would be a good guess."""
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
    """Things that are easy to see and the only ones of their name: only for these is a place or a colour asked."""
    return [thing for thing in scene.things if thing.hard is None and len(scene.of(thing.name)) == 1]


def position(scene: Scene, rng: Random) -> Question | None:
    """ "Where is the dog?", None if no thing is clear."""
    things = single_clear(scene)
    if not things:
        return None
    thing = rng.choice(things)
    words = noun(thing.name)
    return Question(f"Where is the {words}?", f"The {words} is {at(side(thing, scene.size))}.", "position", thing.name)


def color(scene: Scene, rng: Random) -> Question | None:
    """ "What color is the cup?", None if no clear thing has a colour."""
    things = [thing for thing in single_clear(scene) if thing.color]
    if not things:
        return None
    thing = rng.choice(things)
    words = noun(thing.name)
    return Question(f"What color is the {words}?", f"The {words} is {thing.color}.", "color", thing.name)


def place(scene: Scene, rng: Random) -> Question:
    """ "Where was the picture taken?" """
    return Question("Where was the picture taken?", sentence(THEMES[scene.theme].where), "place")


def two_hop(scene: Scene, rng: Random) -> Question | None:
    """ "What is left of the dog?": the answer is the nearest thing in this direction. None if all are ambiguous."""
    asked = [
        Question(f"What is {words} the {noun(start.name)}?", answer, "two-hop", start.name)
        for start in single_clear(scene)
        for words, direction in DIRECTIONS.items()
        if (answer := neighbour(scene, start, direction)) is not None
    ]
    something = [question for question in asked if question.answer != NOTHING]
    pool = something if rng.random() < 0.8 else asked  # in most directions there is nothing
    return rng.choice(pool) if pool else None


def neighbour(scene: Scene, start: Thing, direction: tuple[int, int]) -> str | None:
    """The answer to a two-hop question, or None if it is ambiguous.

    A thing is in the direction if its centre is in the quarter of the plane around it. It is ambiguous if a thing is
    near the edge of that quarter, hard to see, or almost as near as a thing of another name.
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
