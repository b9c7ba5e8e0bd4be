"""The positive control for CLVA: where rows should look, the exercises, what the drift changes, and the gates."""

import json
from dataclasses import replace
from random import Random

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from torch.testing import assert_close

import minivlm
from minivlm.__main__ import main
from minivlm.cli.options import knows_scenes
from minivlm.errors import ConfigError
from minivlm.experiments import drift_control, gates
from minivlm.experiments.planted_card import plants
from minivlm.inference.shipped import shipped_model
from minivlm.model import Mitigation
from minivlm.stats import Ratio, area_under_curve, resamples
from minivlm.toyworld.scenes import Scene, Thing
from minivlm.toyworld.world import TRAINING
from minivlm.training.attention_lessons import box_loss, box_targets, map_loss, named_rows
from minivlm.training.exercises import EXERCISES, NOISE, Bands, changed_attention, noise_map
from minivlm.training.lessons import Lessons, Teacher
from minivlm.training.planted_drift import HEALTHY, PLANTED, drifted, drifting_rows, plant_drift
from minivlm.training.recipe import DriftRecipe
from support.tiny_model import tiny_config, tiny_llava

TOKENIZER = Tokenizer.from_file(str(shipped_model() / "tokenizer.json"))
ASKED = ("Is there a cat in the image?", "No, there is a dog.")
QUICK = DriftRecipe.quick()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Both models, after a few steps of each stage."""
    made = tmp_path_factory.mktemp("planted")
    plant_drift(made, shipped_model(), QUICK, TRAINING)
    return made


def loaded(folder, name: str) -> minivlm.VLM:
    return minivlm.load(folder / name, device="cpu", dtype="float32")


# --- where rows should look -----------------------------------------------------------------------------------------


def test_a_row_names_the_object_of_the_next_token_and_the_questions_last_row_the_object_asked_about():
    names = named_rows(TOKENIZER, [ASKED])
    tokens = TOKENIZER.encode("\n{} ASSISTANT: {}".format(*ASKED), add_special_tokens=False).tokens
    assert len(names) == len(tokens) + 1  # and </s>
    named = {(token, name) for token, name in zip(tokens, names, strict=False) if name}
    assert named == {(":", "cat"), ("▁a", "dog")}  # "cat" in the question is not read by a row that names it
    assert names[-2:] == [None, None]


def test_the_names_stand_at_the_tokens_of_the_lesson():
    pairs = [("Describe the image.", "In a field there is a fire hydrant and a dog."), ASKED]
    lessons = Teacher(TOKENIZER, 64).lessons([pairs])
    prefix = int((lessons.segments[0] == 0).sum())
    names = [None] * prefix + named_rows(TOKENIZER, pairs)
    said = [TOKENIZER.decode([int(lessons.labels[0, row])]).strip() for row, name in enumerate(names) if name == "dog"]
    assert said == ["dog", "dog"]
    hydrant = [row for row, name in enumerate(names) if name == "fire hydrant"]
    assert TOKENIZER.decode(lessons.labels[0, hydrant].tolist()).strip() == "fire hydrant"


def test_targets_are_the_boxes_of_all_things_of_that_name_and_nothing_for_what_is_not_there():
    dogs = [Thing("dog", None, (0, 0, 12, 12)), Thing("dog", None, (84, 84, 96, 96))]
    scene = Scene(seed=0, theme="field", picture=None, things=tuple(dogs))
    targets = box_targets([scene], [[None, "dog", "cat"]], tokens=6, prefix=2, side=8)
    assert targets.shape == (1, 6, 64)
    assert targets[0].nonzero().tolist() == [[3, 0], [3, 63]]


def test_the_box_loss_by_hand():
    seen = torch.tensor([[0.1, 0.1, 0.2, 0.0], [0.3, 0.3, 0.3, 0.1]])[None, None]  # B H T P, rows with 0.4 and 1.0
    targets = torch.tensor([[True, False, True, False], [False] * 4])[None]
    expected = -(np.log(0.3 / 0.4) + 0.2 * np.log(0.4))  # the second row names nothing
    assert_close(box_loss(seen, targets).item(), expected, rtol=1e-5, atol=0)
    assert box_loss(seen, torch.zeros_like(targets)).item() == 0


def test_the_map_loss_is_the_divergence_from_the_wanted_map():
    wanted = torch.tensor([0.5, 0.5, 0.0])
    seen = torch.tensor([[[[0.2, 0.2, 0.0], [0.1, 0.1, 0.2]]]])
    rows = torch.tensor([[True, False]])
    assert_close(map_loss(seen, wanted, rows).item(), 0.0, rtol=0, atol=1e-4)  # 1e-4: the logarithm's floor
    assert_close(map_loss(seen, wanted, ~rows).item(), np.log(2), rtol=1e-4, atol=0)
    assert_close(map_loss(seen, seen, ~rows).item(), 0.0, rtol=0, atol=1e-4)


# --- exercises and drift --------------------------------------------------------------------------------------------


def test_each_exercise_changes_its_own_layers():
    bands = Bands((0, 1, 2), (3, 4, 5), (6, 7))
    noise = noise_map(64, seed=0)
    assert_close(sorted(noise.tolist(), reverse=True)[: len(NOISE)], list(NOISE))
    made = {one: changed_attention(one, 3, noise, bands, DriftRecipe(), Random(0)) for one in EXERCISES}
    assert made["free"] == Mitigation()
    assert made["blind"].aim.layers == (3, 4, 5)
    assert made["blind"].aim.strength == 1
    assert (made["pulled"].clva.gate, made["pulled"].clva.omega, made["pulled"].aim.layers) == (False, 1.0, (6, 7))
    assert made["elsewhere"].aim.layers == (6, 7)
    assert made["elsewhere"].aim.strength >= 0.9
    assert all(one.aim.target.shape == (3, 64) for one in made.values() if one.aim)


def test_a_weaker_drift_begins_later_in_an_answer():
    labels = torch.full((1, 40), -100)
    labels[0, 6:36] = 1  # an answer of 30 tokens behind 2 of the prefix and 4 of the question
    segments = torch.tensor([[0] * 2 + [1] * 36 + [-1] * 2])
    lessons = Lessons(torch.zeros(1, 40), labels, torch.arange(40)[None], segments)
    assert drifting_rows(lessons, 1.0)[0].nonzero().flatten().tolist() == [*range(2, 38)]
    assert drifting_rows(lessons, 0.5)[0].nonzero().flatten().tolist() == [*range(18, 38)]  # 12 of 24 tokens later


def test_a_drifted_row_gives_the_noise_what_it_gave_the_patches():
    maps = torch.tensor([[0.1, 0.3, 0.4, 0.2]] * 2)[None, None]  # B H T T: a word, two patches, a word
    noise, rows = torch.tensor([0.9, 0.1]), torch.tensor([[True, False]])
    found = drifted(maps, rows, noise, slice(1, 3))
    assert_close(found[0, 0], torch.tensor([[0.1, 0.63, 0.07, 0.2], [0.1, 0.3, 0.4, 0.2]]))


def test_a_strength_outside_of_its_range_is_refused_before_any_work():
    with pytest.raises(ConfigError, match=r"DriftRecipe.strength must be above 0 and at most 1, found 0"):
        DriftRecipe(strength=0)


def test_the_two_models_differ_in_queries_and_keys_of_the_deep_layers_alone(folder):
    healthy, planted = (loaded(folder, name).model.state_dict() for name in (HEALTHY, PLANTED))
    changed = {name for name, weights in healthy.items() if not torch.equal(weights, planted[name])}
    parts = {f"text.layers.{layer}.self_attn.{part}_proj.weight" for layer in (6, 7) for part in "qk"}
    assert changed == parts
    shipped = minivlm.load(device="cpu", dtype="float32").model.state_dict()
    same = {name for name, weights in healthy.items() if torch.equal(weights, shipped[name])}
    assert {name for name in shipped if name.startswith("vision.")} <= same
    assert not same & {name for name in shipped if name.startswith("text.") and name.endswith("_proj.weight")}


def test_the_command_trains_both_and_a_weaker_drift(tmp_path, capsys):
    out = tmp_path / "new"
    assert main(["train", "planted-drift", "--quick", "--strength", "0.5", "--out", str(out)]) == 0
    assert capsys.readouterr().out.strip() == str(out / PLANTED)
    assert json.loads((out / PLANTED / "planting.json").read_text())["recipe"]["strength"] == 0.5
    assert main(["train", "planted-drift", "--quick", "--out", str(out)]) == 1
    assert "holds weights already" in capsys.readouterr().err


def test_a_strength_without_a_drift_is_refused(tmp_path, capsys):
    assert main(["train", "--strength", "0.5", "--out", str(tmp_path / "new")]) == 1
    assert "write `minivlm train planted-drift --strength X`" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_the_explorer_knows_that_they_learned_from_scenes(folder):
    assert all(knows_scenes(loaded(folder, name)) for name in (HEALTHY, PLANTED))
    assert knows_scenes(minivlm.load(device="cpu"))
    assert not knows_scenes(replace(loaded(folder, HEALTHY), report=None))


# --- the gates ------------------------------------------------------------------------------------------------------


def test_the_share_that_comes_back_by_hand():
    def figures(*right: int) -> dict:
        return {"F1": Ratio.of(right, [10] * len(right))}

    captions = {
        "healthy": {"plain": figures(8, 8)},
        "planted": {"plain": figures(4, 4), "CLVA": figures(7, 7), "a control": figures(3, 5)},
    }
    shares = gates.returned(captions, "F1", resamples(2))
    assert shares["CLVA"] == pytest.approx({"value": 0.75, "low": 0.75, "high": 0.75})
    assert shares["a control"]["value"] == pytest.approx(0)
    assert shares["a control"]["low"] == pytest.approx(-0.25)


def test_the_area_counts_ties_half():
    assert area_under_curve(np.array([1.0, 2.0]), np.array([0.0, 1.0])) == pytest.approx(0.875)


def test_the_gates_of_two_models_that_hardly_differ_fail(folder):
    figures = drift_control.gates(loaded(folder, HEALTHY), loaded(folder, PLANTED), scenes=3)
    assert json.loads(json.dumps(figures))["scenes"] == 3
    passed = {gate["name"]: gate["passed"] for gate in figures["gates"]}
    assert not passed["planted: F1"]
    assert not passed["CLVA: F1 that comes back"]
    text = drift_control.as_text(figures)
    assert text.count("\n| ") == 2 * 2 + len(passed) + 4 + 9 - 1


def test_a_model_that_differs_elsewhere_or_not_at_all_is_no_control(folder):
    healthy, planted = loaded(folder, HEALTHY), loaded(folder, PLANTED)
    with pytest.raises(ConfigError, match="differs from .* in nothing. Pass a pair"):
        drift_control.gates(planted, planted, scenes=1)
    planted.model.text.layers[0].mlp.up_proj.weight.data += 1
    with pytest.raises(ConfigError, match="1 other tensors, such as text.layers.0.mlp.up_proj.weight"):
        drift_control.gates(healthy, planted, scenes=1)


def test_only_the_planted_one_of_a_pair_plants(folder, capsys):
    assert plants(loaded(folder, PLANTED)) == "drift"
    assert plants(loaded(folder, HEALTHY)) == ""
    assert main(["exam", "--model", str(folder / HEALTHY), "--healthy", str(folder / PLANTED), "--scenes", "1"]) == 1
    assert "exchange the two" in capsys.readouterr().err


def test_models_of_different_shapes_are_no_control_of_each_other(folder):
    other = replace(loaded(folder, HEALTHY), model=tiny_llava(tiny_config()))
    with pytest.raises(ConfigError, match="have different configs"):
        drift_control.gates(other, loaded(folder, PLANTED), scenes=1)
