"""English for scenes: names with articles, places, captions, and the names in a caption.

There are about 125 words, few enough for a tiny language model, in sentences that vary.
"""

from __future__ import annotations

import re
from random import Random

from minivlm.errors import ConfigError
from minivlm.toyworld.scenes import Scene, Thing
from minivlm.toyworld.themes import CANONICAL_RANK, OBJECT_NAMES, THEME_OF, THEMES

STYLES = ("canonical", "places", "colors")
NUMBERS = ("no", "one", "two", "three")
IRREGULAR = {
    "mouse": "mice",
    "sheep": "sheep",
    "scissors": "pairs of scissors",
    "bus": "buses",
    "couch": "couches",
}
OPENERS = (
    "The image shows",
    "The picture shows",
    "This is a picture of",
    "I see",
    "There is",
    "In this image there is",
)
PLACE_OPENERS = ("The image shows", "The picture shows", "This is a picture of", "I see")
INNER_OPENERS = ("there is", "I see")  # after "In a kitchen"


def plural(name: str) -> str:
    """The plural of an object's name: "dogs", "pairs of scissors"."""
    return IRREGULAR.get(name, name + "s")


def noun(name: str, color: str | None = None) -> str:
    """The name as it follows an article: "red car", "pair of scissors"."""
    words = f"{color} {name}" if color else name
    return f"pair of {words}" if name == "scissors" else words


def a(name: str, color: str | None = None) -> str:
    """ "a dog", "an orange cup"."""
    words = noun(name, color)
    return f"an {words}" if words[0] in "aeiou" else f"a {words}"


def counted(name: str, count: int, color: str | None = None) -> str:
    """ "a dog", "two red cups", "three pairs of scissors"."""
    if count == 1:
        return a(name, color)
    words = plural(name)
    return f"{NUMBERS[count]} {color} {words}" if color else f"{NUMBERS[count]} {words}"


def joined(parts: list[str]) -> str:
    """ "a", "a and b", "a, b and c"."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def sentence(text: str) -> str:
    """The text with a capital letter and a full stop."""
    return text[0].upper() + text[1:] + "."


def side(thing: Thing, size: int) -> str:
    """The third of the picture that holds its centre: "left", "top right", ..., "middle". `size` in pixels."""
    x, y = (min(2, int(3 * value / size)) for value in thing.center)
    return " ".join(filter(None, (("top", "", "bottom")[y], ("left", "", "right")[x]))) or "middle"


def at(place: str) -> str:
    """ "on the left", "at the top right", "in the middle"."""
    return {"middle": "in the ", "left": "on the ", "right": "on the "}.get(place, "at the ") + place


# --- captions ---------------------------------------------------------------------------------------------------


def caption(scene: Scene, rng: Random, style: str = "canonical") -> str:
    """One or two sentences that name every object of the scene, hard ones too.

    "canonical": the theme's objects first, an anchor before its companion. "colors": any order, with colours.
    "places": every object with the place where it stands, which is said before or after its name.
    """
    if style == "places":
        return caption_with_places(scene, rng)
    if style not in STYLES:
        raise ConfigError(f"caption style must be one of {', '.join(STYLES)}, found {style!r}.")
    names = canonical(scene)
    if style == "colors":
        rng.shuffle(names)
    groups = [scene.of(name) for name in names]
    objects = joined(
        [counted(group[0].name, len(group), group[0].color if style == "colors" else None) for group in groups]
    )
    place_first = rng.random() < 0.25
    opener = rng.choice(INNER_OPENERS if place_first else OPENERS)
    if opener.endswith("here is") and len(groups[0]) > 1:
        opener = opener.removesuffix("is") + "are"
    where = THEMES[scene.theme].where
    return sentence(f"{where} {opener} {objects}" if place_first else f"{opener} {objects} {where}")


def canonical(scene: Scene) -> list[str]:
    """The scene's names, its own theme's before strangers, anchors before companions before free objects."""
    return sorted(scene.names, key=lambda name: (THEME_OF[name] != scene.theme, CANONICAL_RANK[name]))


def caption_with_places(scene: Scene, rng: Random) -> str:
    """ "The image shows a kitchen. A pizza is on the left and at the top there is a fork." """
    names = canonical(scene)
    rng.shuffle(names)
    parts = [placed(scene, name, rng) for name in names]
    return f"{rng.choice(PLACE_OPENERS)} a {scene.theme}. {sentence(joined(parts))}"


def placed(scene: Scene, name: str, rng: Random) -> str:
    """ "a dog is on the left", "at the top and in the middle there are two cups"."""
    things = sorted(scene.of(name), key=lambda thing: thing.center)
    place = joined(list(dict.fromkeys(at(side(thing, scene.size)) for thing in things)))
    verb = "is" if len(things) == 1 else "are"
    if rng.random() < 0.5:
        return f"{place} there {verb} {counted(name, len(things))}"
    return f"{counted(name, len(things))} {verb} {place}"


# --- the names in a caption -------------------------------------------------------------------------------------

FORMS = {form.removeprefix("pairs of "): name for name in OBJECT_NAMES for form in (name, plural(name))}
FORM = re.compile(rf"\b({'|'.join(sorted(map(re.escape, FORMS), key=len, reverse=True))})\b", re.IGNORECASE)


def mentions(text: str) -> list[str]:
    """The objects named in a text, each once, in the order of their first mention; plurals count as their singular."""
    return list(dict.fromkeys(FORMS[match.lower()] for match in FORM.findall(text.replace("_", " "))))
