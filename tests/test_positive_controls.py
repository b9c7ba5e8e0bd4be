"""The methods end to end: on a model whose fault was planted they mend its answers, and their controls do not.

Counts are those of the shipped weights. Another order of rounding may change a caption or two, hence `ALLOWED`; a
method that does nothing, or the wrong thing, is off by far more.
"""

from pathlib import Path

import pytest

import minivlm
from minivlm.checkpoints.checkpoint_report import PLANTING
from minivlm.evaluation.pope import said_by_first_word
from minivlm.experiments import drift_control, sinks_control
from minivlm.experiments.planted_card import card
from minivlm.experiments.trials import PLAIN_CONDITION, answer_yes_no, judged, pope_sets, write_captions
from minivlm.files import read_json_file
from minivlm.inference.shipped import HEALTHY, HEALTHY_SINKS, PLANTED, PLANTED_SINKS, shipped_model
from minivlm.toyworld.questions import DESCRIBE
from minivlm.toyworld.world import HELD_OUT

pytestmark = [
    pytest.mark.weights,
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::minivlm.errors.NoEffectWarning"),  # a shut gate is a part of the control
]
ROOT = Path(__file__).parents[1]
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


# --- cards ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [HEALTHY, PLANTED, HEALTHY_SINKS, PLANTED_SINKS])
def test_a_card_is_what_its_records_say(name):
    folder = shipped_model(name)
    gates = read_json_file(folder / "gates.json") if (folder / "gates.json").is_file() else None
    assert (folder / "README.md").read_text(encoding="utf-8") == card(name, read_json_file(folder / PLANTING), gates)


@pytest.mark.parametrize(("name", "figures"), [(PLANTED, ("F1", "chair_i")), (PLANTED_SINKS, sinks_control.F1S)])
def test_the_readme_has_the_figures_of_the_gates(name, figures):
    found, readme = read_json_file(shipped_model(name) / "gates.json"), (ROOT / "README.md").read_text(encoding="utf-8")
    method = "CLVA" if name == PLANTED else "EAH"
    for figure in figures:
        of = {model: found["figures"][model] for model in ("healthy", "planted")}
        for ratio in (of["healthy"]["plain"], of["planted"]["plain"], of["planted"][method]):
            assert f"{100 * ratio[figure]['value']:.1f}" in readme
        if figure in found["returned"]:
            assert f"{100 * found['returned'][figure][method]['value']:.0f} %" in readme


# --- EAH ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def answered():
    """Condition -> right answers, of both models."""
    healthy, planted = (minivlm.load(name, device="cpu", dtype="float32") for name in (HEALTHY_SINKS, PLANTED_SINKS))
    tried = {name: (planted, one) for name, one in sinks_control.conditions(planted.model.config).items()}
    tried |= {"healthy": (healthy, PLAIN_CONDITION), "healthy, EAH": (healthy, tried["EAH"][1])}
    scenes = SCENES[:20]
    sets = {split: asked for split, asked in pope_sets(scenes).items() if split in sinks_control.SPLITS}
    return {name: right(*way, scenes, sets) for name, way in tried.items()}


def right(vlm: minivlm.VLM, condition, scenes, sets) -> int:
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
