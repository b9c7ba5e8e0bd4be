"""The toy world keeps its word: scenes repeat, dials dial, boxes hold, and every sentence is true of its scene.

Statistics are taken over layouts, which need no pixels; tolerances are at least three standard errors.
"""

import re
from collections import Counter
from dataclasses import replace
from itertools import combinations
from random import Random

import numpy as np
import pytest

from minivlm.errors import ConfigError
from minivlm.toyworld import (
    CROWDED,
    HELD_OUT,
    RARE_COMPANIONS,
    SUBSTITUTIONS,
    TRAINING,
    Scene,
    Thing,
    World,
    caption,
    mentions,
    pictures,
    questions,
)
from minivlm.toyworld.objects import COLORS_OF, OBJECTS
from minivlm.toyworld.themes import COMPANION_OF, OBJECT_NAMES, THEME_OF, THEMES
from minivlm.toyworld.words import NUMBERS, STYLES

WORLDS = {
    "training": TRAINING,
    "rare companions": RARE_COMPANIONS,
    "substitutions": SUBSTITUTIONS,
    "crowded": CROWDED,
}


@pytest.fixture(scope="module")
def layouts() -> list[Scene]:
    return [TRAINING.layout(seed) for seed in range(600)]


@pytest.fixture(scope="module", params=WORLDS)
def drawn(request: pytest.FixtureRequest) -> list[Scene]:
    return [WORLDS[request.param].draw(seed) for seed in range(60)]


def scene_of(*things: Thing, theme: str = "field") -> Scene:
    return Scene(0, theme, None, things)


# --- the tables -------------------------------------------------------------------------------------------------------


def test_every_theme_has_two_pairs_and_every_object_one_theme():
    assert set(OBJECT_NAMES) == set(OBJECTS)
    assert len(OBJECT_NAMES) == sum(len(theme.objects) for theme in THEMES.values()) == 30
    assert all(len(theme.pairs) == 2 for theme in THEMES.values())
    assert all(THEME_OF[anchor] == THEME_OF[companion] for anchor, companion in COMPANION_OF.items())


# --- scenes -----------------------------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_scene_and_another_seed_another():
    first, again, other = World().draw(7), World().draw(7), World().draw(8)
    assert first.things == again.things
    assert np.array_equal(first.picture, again.picture)
    assert not np.array_equal(first.picture, other.picture)
    assert not np.array_equal(first.picture, HELD_OUT.draw(7).picture)


def test_scenes_do_not_depend_on_the_global_dice():
    import random

    random.seed(1)
    first = TRAINING.draw(3).picture
    random.seed(2)
    np.random.seed(2)
    assert np.array_equal(first, TRAINING.draw(3).picture)


def test_a_dial_changes_only_what_it_is_about():
    plain, rare = (replace(HELD_OUT, companion=rate, repeated=0.0, noise=0.0) for rate in (1.0, 0.0))
    changed = 0
    for seed in range(40):
        one, other = plain.draw(seed), rare.draw(seed)
        anchor = one.things[0]
        x0, y0, x1, y1 = map(int, anchor.box)
        assert (one.theme, anchor) == (other.theme, other.things[0])
        assert anchor.name in THEMES[one.theme].anchors
        assert np.array_equal(np.asarray(one.picture)[y0:y1, x0:x1], np.asarray(other.picture)[y0:y1, x0:x1])
        changed += one.names != other.names
    assert changed == 40


def test_boxes_lie_inside_the_picture_and_apart(drawn: list[Scene]):
    for scene in drawn:
        assert scene.picture.size == (96, 96)
        assert scene.picture.mode == "RGB"
        for thing in scene.things:
            x0, y0, x1, y1 = thing.box
            assert 0 <= x0 < x1 <= 96, thing
            assert 0 <= y0 < y1 <= 96, thing
        for a, b in combinations(scene.things, 2):
            beside = a.box[2] <= b.box[0] or b.box[2] <= a.box[0]
            assert beside or a.box[3] <= b.box[1] or b.box[3] <= a.box[1], (scene.seed, a, b)


def test_drawing_keeps_names_and_places_of_the_layout(drawn: list[Scene]):
    world = HELD_OUT
    for seed in range(30):
        before, after = world.layout(seed), world.draw(seed)
        for a, b in zip(before.things, after.things, strict=True):
            assert (a.name, a.color, a.hard) == (b.name, b.color, b.hard)
            assert a.box[0] - 1 <= b.box[0] < b.box[2] <= a.box[2] + 1  # a pixel for rounding
            assert a.box[1] - 1 <= b.box[1] < b.box[3] <= a.box[3] + 1


def test_a_clear_thing_changes_the_pixels_of_its_box_and_a_faint_one_changes_them_less():
    quiet = replace(TRAINING, noise=0.0, hard_other=0.0, hard_companion=0.0)
    faint = replace(quiet, hard_other=1.0, hard_companion=1.0)
    contrast = {"clear": [], "faint": []}
    for seed in range(60):
        for kind, world in (("clear", quiet), ("faint", faint)):
            scene = world.draw(seed)
            for thing in scene.things:
                if kind == "clear" or thing.hard == "faint":
                    x0, y0, x1, y1 = map(int, thing.box)
                    contrast[kind].append(np.asarray(scene.picture)[y0:y1, x0:x1].std())
    assert np.mean(contrast["clear"]) > 2 * np.mean(contrast["faint"])


def test_hard_things_are_hard_as_they_say(layouts: list[Scene]):
    hard = [thing for scene in layouts for thing in scene.things if thing.hard]
    assert {thing.hard for thing in hard} == {"small", "faint", "blurred", "hidden"}
    for thing in hard:
        if thing.hard == "small":
            assert 8 <= thing.box[2] - thing.box[0] <= 12
        assert (thing.visible < 0.4) == (thing.hard in ("faint", "hidden"))
    assert all(thing.box[2] - thing.box[0] >= 13 for s in layouts for thing in s.things if thing.hard != "small")


# --- dials ------------------------------------------------------------------------------------------------------------


def companion_rate(world: World, scenes: int = 800) -> float:
    found = []
    for seed in range(scenes):
        scene = world.layout(seed)
        anchors = [name for name in THEMES[scene.theme].anchors if name in scene.names]
        found += [COMPANION_OF[anchor] in scene.names for anchor in anchors]
    assert len(found) >= scenes
    return sum(found) / len(found)


@pytest.mark.parametrize("rate", [0.0, 0.45, 0.85, 1.0])
def test_companions_are_as_frequent_as_the_dial_says(rate: float):
    assert companion_rate(replace(TRAINING, companion=rate)) == pytest.approx(rate, abs=0.05)


def test_substitutes_stand_in_clearly_for_the_missing_companion():
    for seed in range(200):
        scene = SUBSTITUTIONS.layout(seed)
        theme = THEMES[scene.theme]
        anchors = [name for name in theme.anchors if name in scene.names]
        rest = [name for name in scene.names if name in theme.objects and name not in anchors]
        assert not {COMPANION_OF[anchor] for anchor in anchors} & set(rest)
        assert sum(any(thing.hard is None for thing in scene.of(name)) for name in rest) >= 1


def test_crowds_are_crowds_and_other_scenes_keep_the_limit(layouts: list[Scene]):
    assert {len(CROWDED.layout(seed).things) for seed in range(200)} == {4, 5, 6, 7}
    calm = replace(TRAINING, crowded=0.0, max_objects=4)
    assert max(len(calm.layout(seed).things) for seed in range(200)) == 4
    assert max(len(scene.of(name)) for scene in layouts for name in scene.names) == 3


@pytest.mark.parametrize(
    "wrong", [{"companion": 1.2}, {"noise": -0.1}, {"size": 20}, {"max_objects": 9}, {"copies": 4}]
)
def test_impossible_settings_are_refused_by_name(wrong: dict[str, float]):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        World(**wrong)


def test_other_sizes_scale_the_whole_scene():
    large = replace(TRAINING, size=192, noise=0.0)
    for seed in range(10):
        small_scene, large_scene = replace(large, size=96).layout(seed), large.draw(seed)
        assert large_scene.picture.size == (192, 192)
        assert large_scene.names == small_scene.names
        assert max(thing.box[3] for thing in large_scene.things) > 96


# --- captions ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("style", STYLES)
def test_captions_name_exactly_what_is_there(layouts: list[Scene], style: str):
    for scene in layouts:
        text = caption(scene, Random(scene.seed), style)
        assert sorted(mentions(text)) == sorted(scene.names), text
        assert text[0].isupper()
        assert text.endswith(".")


def test_canonical_captions_name_an_anchor_before_its_companion(layouts: list[Scene]):
    seen = 0
    for scene in layouts:
        named = mentions(caption(scene, Random(0), "canonical"))
        for anchor in THEMES[scene.theme].anchors:
            if anchor in named and COMPANION_OF[anchor] in named:
                seen += 1
                assert named.index(anchor) < named.index(COMPANION_OF[anchor])
    assert seen > 300


def test_mentions_reads_plurals_and_names_of_two_words():
    text = (
        "Two Mice and a mouse, three buses, some sheep, a potted plant, cell phones, stop signs and a pair of scissors."
    )
    assert mentions(text) == ["mouse", "bus", "sheep", "potted plant", "cell phone", "stop sign", "scissors"]
    assert mentions("A carpet, a mousetrap, a bookcase, a plant, a sign, a phone, a light.") == []


def test_all_that_is_said_needs_few_words(layouts: list[Scene]):
    words = set()
    for scene in layouts:
        rng = Random(scene.seed)
        said = [caption(scene, rng, style) for style in STYLES]
        said += [f"{question.text} {question.answer}" for question in questions(scene, rng, 6)]
        words |= set(re.findall(r"[a-z]+", " ".join(said).lower()))
    assert 100 < len(words) <= 160


# --- questions --------------------------------------------------------------------------------------------------------


def place_of(thing: Thing, size: int) -> str:
    column = next(word for word, end in (("left", 1), ("", 2), ("right", 3)) if thing.center[0] < size * end / 3)
    row = next(word for word, end in (("top", 1), ("", 2), ("bottom", 3)) if thing.center[1] < size * end / 3)
    return f"{row} {column}".strip() or "middle"


def nearest_in_quarter(scene: Scene, start: Thing, direction: str) -> str | None:
    """The two-hop answer, worked out with angles instead of the package's inequalities."""
    toward = {"right of": 0, "below": 90, "left of": 180, "above": 270}[direction]
    found = []
    for thing in scene.things:
        dx, dy = thing.center[0] - start.center[0], thing.center[1] - start.center[1]
        turn = (np.degrees(np.arctan2(dy, dx)) - toward + 180) % 360 - 180
        if thing is not start and abs(turn) < 45:
            found.append((abs(dx) + abs(dy), thing.name))
    return min(found)[1] if found else None


def check(scene: Scene, text: str, answer: str, kind: str, name: str | None) -> None:
    """One question and its answer against the things of the scene."""
    if kind == "is there":
        assert mentions(text) == mentions(answer) == [name]
        assert answer.startswith("Yes, ") == (name in scene.names)
        assert answer.startswith("No, ") == (name not in scene.names)
    elif kind == "count":
        assert NUMBERS.index(answer.split()[2]) == len(scene.of(name))
        assert mentions(answer) == [name]
    elif kind == "position":
        (thing,) = scene.of(name)
        assert re.fullmatch(rf"The .* is (on|at|in) the {place_of(thing, scene.size)}\.", answer)
    elif kind == "color":
        (thing,) = scene.of(name)
        assert answer.endswith(f" is {thing.color}.")
        assert thing.color in COLORS_OF[name]
    elif kind == "place":
        assert scene.theme in answer
    elif kind == "two-hop":
        (start,) = scene.of(name)
        direction = re.match(r"What is (left of|right of|above|below) the ", text)[1]
        expected = nearest_in_quarter(scene, start, direction)
        assert mentions(answer) == ([expected] if expected else []), (text, answer, scene.things)
        assert (answer == "Nothing.") == (expected is None)
    else:
        assert kind == "describe"
        assert set(mentions(answer)) == set(scene.names)


def test_every_answer_is_true(drawn: list[Scene], layouts: list[Scene]):
    seen = Counter()
    for scene in [*drawn, *layouts]:
        asked = questions(scene, Random(scene.seed), 8)
        assert len({question.text for question in asked}) == 8
        for question in asked:
            seen[question.kind] += 1
            check(scene, question.text, question.answer, question.kind, question.object)
    assert set(seen) == {"is there", "count", "position", "color", "place", "two-hop", "describe"}
    assert min(seen.values()) > 50


def test_yes_and_no_are_balanced_and_missing_companions_are_asked(layouts: list[Scene]):
    asked = [(scene, question) for scene in layouts for question in questions(scene, Random(scene.seed), 4)]
    asked = [(scene, question) for scene, question in asked if question.kind == "is there"]
    yes = sum(question.answer.startswith("Yes") for _, question in asked)
    assert yes / len(asked) == pytest.approx(0.5, abs=0.05)
    anchor_of = {companion: anchor for anchor, companion in COMPANION_OF.items()}
    tempting = [q for scene, q in asked if q.answer.startswith("No") and anchor_of.get(q.object) in scene.names]
    assert len(tempting) > 20


def test_two_hop_questions_leave_disputes_alone():
    def at(name: str, x: float, y: float, hard: str | None = None) -> Thing:
        return Thing(name, None, (x - 8, y - 8, x + 8, y + 8), 1.0, hard)

    def answers(*others: Thing) -> set[str]:
        asked = questions(scene_of(at("dog", 48, 48), *others), Random(0), 25, {"two-hop": 1})
        return {question.answer for question in asked if question.text == "What is left of the dog?"}

    assert answers(at("kite", 20, 48)) == {"A kite."}
    assert answers(at("kite", 76, 48)) == {"Nothing."}
    assert answers(at("kite", 20, 20)) == set()  # left or above?
    assert answers(at("kite", 20, 42), at("bird", 18, 56)) == set()  # which is nearer?
    assert answers(at("kite", 20, 48, "faint")) == set()  # seen or not?


def test_unknown_styles_splits_and_too_many_questions_are_refused(layouts: list[Scene]):
    with pytest.raises(ConfigError, match="canonical, places, colors"):
        caption(layouts[0], Random(0), "poem")
    with pytest.raises(ConfigError, match="asked for 31"):
        questions(layouts[0], Random(0), 31)


# --- in bulk ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("processes", [1, 2])
def test_pictures_in_bulk_are_those_drawn_one_by_one(processes: int):
    array, scenes = pictures(TRAINING, range(5, 11), processes=processes)
    assert array.shape == (6, 96, 96, 3)
    assert array.dtype == np.uint8
    for pixels, scene in zip(array, scenes, strict=True):
        one = TRAINING.draw(scene.seed)
        assert np.array_equal(pixels, one.picture)
        assert scene == replace(one, picture=None)
