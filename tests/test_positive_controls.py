"""The methods end to end: on a model whose fault was planted they mend its answers, and their controls do not.

Counts are those of the shipped weights. Another order of rounding may change a caption or two, hence `ALLOWED`; a
method that does nothing, or the wrong thing, is off by far more.
"""

import pytest

import minivlm
from minivlm.evaluation.pope import said_by_first_word
from minivlm.experiments import drift_control, sinks_control
from minivlm.experiments.trials import PLAIN_CONDITION, answer_yes_no, judged, pope_sets, write_captions
from minivlm.inference.shipped import HEALTHY, HEALTHY_SINKS, PLANTED, PLANTED_SINKS
from minivlm.toyworld.questions import DESCRIBE
from minivlm.toyworld.world import HELD_OUT

pytestmark = [
    pytest.mark.weights,
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::minivlm.errors.NoEffectWarning"),  # a shut gate is a part of the control
]
ALLOWED = 5  # objects
SCENES = [HELD_OUT.draw(number) for number in range(60)]
CAPTIONED = {  # condition: objects named and there, objects named and not there, in the captions of these scenes
    "healthy": (183, 29),
    "plain": (183, 114),
    "CLVA": (188, 41),
    "CLVA, random anchor": (181, 117),
    "CLVA, shuffled anchor": (181, 113),
    "CLVA, roles swapped": (183, 114),
    "strong CLVA": (191, 43),
    "strong CLVA, random anchor": (180, 120),
    "strong CLVA, shuffled anchor": (179, 114),
    "strong CLVA, roles swapped": (183, 114),
}

ANSWERED = {  # condition: right answers to POPE's random and adversarial questions about the first 20 of these scenes
    "healthy": 148,
    "healthy, EAH": 147,
    "plain": 110,
    "EAH": 150,
    "EAH, also on generated rows": 150,
    "EAH, random head (1)": 110,
    "EAH, random head (2)": 110,
    "EAH, random head (3)": 110,
    "EAH, second densest head": 110,
    "EAH, other layer": 110,
}  # 168 questions


@pytest.fixture(scope="module")
def captioned():
    """Condition -> true and invented objects, each counted once a caption."""
    healthy, planted = (minivlm.load(name, device="cpu", dtype="float32") for name in (HEALTHY, PLANTED))
    tried = {name: (planted, one) for name, one in drift_control.conditions(planted.model.config).items()}
    return {name: counts(*way) for name, way in {"healthy": (healthy, PLAIN_CONDITION), **tried}.items()}


def counts(vlm: minivlm.VLM, condition) -> tuple[int, int]:
    ones = judged(write_captions(vlm, SCENES, DESCRIBE[0], condition), SCENES)
    named = [{mention.object for mention in one.mentions} for one in ones]
    pairs = [(len(objects & one.truth), len(objects - one.truth)) for objects, one in zip(named, ones, strict=True)]
    true, invented = map(sum, zip(*pairs, strict=True))
    return true, invented


def test_counts_are_those_recorded(captioned):
    assert captioned.keys() == CAPTIONED.keys()
    off = {name: (found, CAPTIONED[name]) for name, found in captioned.items() if not near(found, CAPTIONED[name])}
    assert not off, f"condition: (found, recorded) {off}"


def near(found: tuple[int, int], recorded: tuple[int, int]) -> bool:
    return all(abs(a - b) <= ALLOWED for a, b in zip(found, recorded, strict=True))


def test_what_was_recorded_is_an_effect():
    """The recorded counts themselves: a drift that harms, a method that mends, controls that do not."""
    invented = {name: pair[1] for name, pair in CAPTIONED.items()}
    harm = invented["plain"] - invented["healthy"]
    mended = {name: (invented["plain"] - count) / harm for name, count in invented.items() if "CLVA" in name}
    assert harm > 10 * ALLOWED
    assert mended["CLVA"] > 1 / 3
    assert mended["strong CLVA"] > 2 / 3
    for name, share in mended.items():
        assert "," not in name or share < mended[name.split(",")[0]] - ALLOWED / harm, f"{name}: {share:.2f}"


# --- EAH ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def answered():
    """Condition -> right answers, of both models."""
    healthy, planted = (minivlm.load(name, device="cpu", dtype="float32") for name in (HEALTHY_SINKS, PLANTED_SINKS))
    tried = {name: (planted, one) for name, one in sinks_control.conditions(planted.model.config).items()}
    tried |= {"healthy": (healthy, PLAIN_CONDITION), "healthy, EAH": (healthy, tried["EAH"][1])}
    return {name: right(*way) for name, way in tried.items()}


def right(vlm: minivlm.VLM, condition) -> int:
    scenes = SCENES[:20]
    sets = {split: asked for split, asked in pope_sets(scenes).items() if split in sinks_control.SPLITS}
    answers = answer_yes_no(vlm, scenes, sets, condition)
    truth = {(one.image, one.text): one.label for asked in sets.values() for one in asked}
    return sum(said_by_first_word(answers[question]) == answer for question, answer in truth.items())


def test_right_answers_are_those_recorded(answered):
    assert answered.keys() == ANSWERED.keys()
    off = {name: (found, ANSWERED[name]) for name, found in answered.items() if abs(found - ANSWERED[name]) > ALLOWED}
    assert not off, f"condition: (found, recorded) {off}"


def test_what_was_recorded_of_eah_is_an_effect():
    """A layer led astray that harms, EAH that mends, controls that do nothing, a healthy model left alone."""
    harm = ANSWERED["healthy"] - ANSWERED["plain"]
    assert harm > 7 * ALLOWED
    assert abs(ANSWERED["healthy, EAH"] - ANSWERED["healthy"]) <= ALLOWED
    for name, count in ANSWERED.items():
        back = (count - ANSWERED["plain"]) / harm
        assert back > 0.8 if name in ("EAH", sinks_control.KEPT) or "healthy" in name else back < 0.1 or name == "plain"
