"""The positive control for EAH: where rows should look, what leads heads astray, and the gates."""

import io
import json
from contextlib import redirect_stdout
from math import log

import pytest
import torch
from torch.testing import assert_close

import minivlm
from minivlm.cli import main as cli
from minivlm.experiments import sinks_control
from minivlm.experiments.conditions import eah_controls
from minivlm.experiments.planted_card import plants
from minivlm.inference.shipped import HEALTHY_SINKS, PLANTED_SINKS
from minivlm.model import EAH
from minivlm.training.attention_lessons import blind_loss
from minivlm.training.planted_sinks import collecting_loss
from minivlm.training.recipe import SinksRecipe

QUICK = SinksRecipe.quick()


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of both models, after a few steps of each stage, and what the command that trained them printed."""
    made, said = tmp_path_factory.mktemp("planted") / "new", io.StringIO()
    with redirect_stdout(said):
        assert cli.main(["train", "planted-sinks", "--quick", "--out", str(made)]) == 0
    return made, said.getvalue()


@pytest.fixture
def folder(trained):
    return trained[0]


def loaded(folder, name: str) -> minivlm.VLM:
    return minivlm.load(folder / name, device="cpu", dtype="float32")


def test_a_row_that_looks_at_no_patch_loses_nothing():
    on_patches = torch.tensor([[[[0.0, 0.0], [0.25, 0.25], [1.0, 0.0]]]])  # B H T P
    rows = torch.tensor([[True, True, False]])
    assert_close(blind_loss(on_patches, rows), torch.tensor(log(2) / 2))


def test_a_flat_map_with_all_the_mass_loses_nothing_and_unseen_patches_do_not_count():
    visible = torch.tensor([[1.0, 0], [1, 1]])[None, None]  # B 1 T P
    rows = torch.tensor([[True, True]])
    assert_close(collecting_loss(visible / visible.sum(-1, keepdim=True), visible, rows), torch.tensor(0.0))
    half = torch.tensor([[0.5, 0], [0.25, 0.25]])[None, None]
    assert_close(collecting_loss(half, visible, rows), torch.tensor(log(2)))
    uneven = torch.tensor([[1.0, 0], [0.75, 0.25]])[None, None]
    expected = (0.5 * log(0.5 / 0.75) + 0.5 * log(0.5 / 0.25)) / 2
    assert_close(collecting_loss(uneven, visible, rows), torch.tensor(expected))


@pytest.mark.slow
def test_the_two_models_differ_in_queries_and_keys_of_one_layer_alone(folder):
    healthy, planted = (loaded(folder, name).model.state_dict() for name in (HEALTHY_SINKS, PLANTED_SINKS))
    changed = {name for name, weights in healthy.items() if not torch.equal(weights, planted[name])}
    assert changed == {f"text.layers.{QUICK.layer}.self_attn.{part}_proj.weight" for part in "qk"}


@pytest.mark.slow
def test_the_dense_head_hands_on_nothing_in_both(folder):
    width = 32
    for name in (HEALTHY_SINKS, PLANTED_SINKS):
        out = loaded(folder, name).model.text.layers[QUICK.layer].self_attn.o_proj.weight
        mute = [not out[:, head * width : (head + 1) * width].any() for head in range(out.shape[1] // width)]
        assert mute == [head == QUICK.dense_head for head in range(6)]


def test_the_layer_is_the_one_in_which_eah_acts_and_no_random_control_draws_the_dense_head():
    recipe, config = SinksRecipe(), minivlm.load(device="cpu").model.config
    assert recipe.layer == EAH().layer
    heads = config.text_config.num_attention_heads
    seeds = [one.eah.seed for one in eah_controls(EAH(), 8).values() if one.eah.head == "random"]
    assert len(seeds) == 3
    drawn = {int(torch.randint(heads, (1,), generator=torch.Generator().manual_seed(seed))) for seed in seeds}
    assert recipe.dense_head not in drawn


@pytest.mark.slow
def test_the_command_trains_both_examines_them_and_writes_their_cards(trained):
    out, said = trained
    planted, healthy = str(out / PLANTED_SINKS), str(out / HEALTHY_SINKS)
    assert said.strip() == planted
    assert plants(loaded(out, PLANTED_SINKS)) == "sinks"
    assert cli.main(["exam", "--model", planted, "--healthy", healthy, "--scenes", "2", "--out", planted]) == 0
    figures = json.loads((out / PLANTED_SINKS / "gates.json").read_text())
    passed = {gate["name"]: gate["passed"] for gate in figures["gates"]}
    assert not passed["planted: random F1"]
    card = (out / PLANTED_SINKS / "README.md").read_text()
    assert card.startswith("# The same reader with heads that we led astray")
    assert sinks_control.as_text(figures) in card
    assert all(f"| {name} |" in card for name in passed)
    assert "planted by us" in (out / HEALTHY_SINKS / "README.md").read_text()


def test_one_head_that_is_dense_passes_and_six_alike_do_not():
    alike, one = torch.full((4, 6), 0.1), torch.full((4, 6), 0.1)
    one[1, 3] = 1.0
    assert [gate.passed for gate in sinks_control.sink_gates(alike)] == [False, False]
    assert [gate.passed for gate in sinks_control.sink_gates(one)] == [True, True]
