"""Weights in int8 and int4: products against their formulas, what is quantised, all else as before; where weights are.

Tolerances: a product is held against the formula in fp64. In fp32 it may be off by 1e-5 of the largest value (sums of a
few hundred products); bf16 keeps 8 bits, and int4's product rounds each weight to it, so 2 % of the largest value;
fp16 keeps 11.
"""

import copy
import json
import os

import pytest
import torch
from torch import nn

import minivlm
from minivlm import CLVA, EAH, CheckpointError, ConfigError
from minivlm.checkpoints import load, load_checkpoint, save_checkpoint
from minivlm.checkpoints import quantised as quantised_file
from minivlm.checkpoints.quantised import (
    FEW,
    ROWS,
    WEIGHTS,
    QuantisedLinear,
    group_of,
    kind_of,
    multiplied_out,
    quantisable,
    quantise,
    two_in_a_byte,
)
from minivlm.checkpoints.resident import MEMORY, choose_memory
from minivlm.cli import main as cli
from minivlm.experiments.exam import circumstances
from minivlm.inference.generate import generate
from minivlm.inference.tensor_parallel import require_fitting
from minivlm.lens.exhibit import made_of
from minivlm.toyworld import HELD_OUT
from support.tiny_model import padded, pixels, prompt, tiny_config, tiny_llava

LOOSE = {torch.float32: 1e-5, torch.bfloat16: 0.02, torch.float16: 0.0025}
MITIGATIONS = {
    "plain": None,
    "eah": EAH(threshold=0.01),
    "clva": CLVA(gate=False),
    "both": [EAH(threshold=0.01), CLVA(gate=False)],
}


def linear(outputs: int, inputs: int, dtype: torch.dtype, bias: bool = False, seed: int = 0) -> nn.Linear:
    generator = torch.Generator().manual_seed(seed)
    layer = nn.Linear(inputs, outputs, bias=bias)
    for parameter in layer.parameters():
        parameter.data = (torch.randn(parameter.shape, generator=generator) + 0.5) * inputs**-0.5
    return layer.to(dtype).requires_grad_(False)


def formula(layer: nn.Linear, kind: str) -> torch.Tensor:
    """The quantised matrix in fp64, number by number from the scales that `quantise` chose."""
    weight, scales = layer.weight.double(), quantise(layer.weight, kind)["scale"].double()
    if kind == "int8":
        return (weight / scales[:, None]).round().clamp(-127, 127) * scales[:, None]
    group = layer.in_features // len(scales)
    scale, middle = (part.T.repeat_interleave(group, dim=1) for part in scales.unbind(dim=2))
    return ((weight - middle) / scale + 8).round().clamp(0, 15).sub(8) * scale + middle


# --- layers -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", WEIGHTS)
@pytest.mark.parametrize("dtype", LOOSE)
@pytest.mark.parametrize("rows", [1, 3, FEW, FEW + 1, 60])
@pytest.mark.parametrize(("outputs", "inputs", "bias"), [(48, 256, False), (320, 96, True), (64, 64, True)])
def test_a_layer_computes_its_formula(kind, dtype, rows, outputs, inputs, bias):
    layer = linear(outputs, inputs, dtype, bias)
    x = torch.randn(2, rows, inputs, generator=torch.Generator().manual_seed(1)).to(dtype)
    expected = nn.functional.linear(x.double(), formula(layer, kind), layer.bias.double() if bias else None)
    found = QuantisedLinear(layer, kind)(x)
    assert found.dtype == dtype
    assert found.shape == expected.shape
    assert (found - expected).abs().max() <= LOOSE[dtype] * expected.abs().max()


@pytest.mark.parametrize("kind", WEIGHTS)
@pytest.mark.parametrize("rows", [1, FEW + 1])
def test_a_massive_activation_does_not_overflow_in_half_precision(kind, rows):
    """LLaMA's blocks have activations above 1000; times whole numbers up to 127 they are beyond fp16's 65504."""
    layer = linear(48, 256, torch.float16)
    x = torch.ones(rows, 256, dtype=torch.float16)
    x[:, 3] = 2000
    expected = nn.functional.linear(x.double(), formula(layer, kind))
    found = QuantisedLinear(layer, kind)(x)
    assert (found - expected).abs().max() <= LOOSE[torch.float16] * expected.abs().max()


@pytest.mark.parametrize("kind", WEIGHTS)
@pytest.mark.parametrize("rows", [2, FEW + 1])
def test_inputs_may_lie_anyhow(kind, rows):
    layer = QuantisedLinear(linear(32, 64, torch.float32), kind)
    wide = torch.randn(2 * rows, 128, generator=torch.Generator().manual_seed(1))
    for x in (wide[:rows, :64], wide[::2, ::2], wide[:, :rows].repeat(64 // rows + 1, 1)[:64].T):
        torch.testing.assert_close(layer(x), layer(x.contiguous()), atol=0, rtol=0)


@pytest.mark.parametrize("dtype", LOOSE)
def test_no_weight_moves_further_than_half_a_step(dtype):
    """A hundredth more: scale and middle of a group are rounded to the dtype first, so its ends may lie outside."""
    layer = linear(64, 256, dtype)
    scales = quantise(layer.weight, "int4")["scale"].double()
    step = scales[..., 0].T.repeat_interleave(128, dim=1)
    moved = (formula(layer, "int4") - layer.weight.double()).abs()
    assert (moved <= (0.5 + (0.01 if dtype == torch.float32 else 0.1)) * step).all()
    step = quantise(layer.weight, "int8")["scale"].double()[:, None]
    assert ((formula(layer, "int8") - layer.weight.double()).abs() <= (0.5 + 127 * 2**-8) * step).all()


def test_the_error_of_a_layer_is_what_its_bits_give():
    """Normal weights: a step of int8 is about 3.5/127 of a deviation, of int4 5.4/15; an error is a step / sqrt(12)."""
    weight = torch.randn(512, 1024, generator=torch.Generator().manual_seed(0))
    layer = nn.Linear(1024, 512, bias=False)
    layer.weight = nn.Parameter(weight, requires_grad=False)
    for kind, low, high in (("int8", 0.005, 0.01), ("int4", 0.07, 0.11)):
        assert low < (formula(layer, kind) - weight).norm() / weight.norm() < high


def test_bytes_for_other_devices_are_multiplied_out_in_order():
    layer = linear(48, 256, torch.float32)
    scale = quantise(layer.weight, "int4")["scale"]
    factor, middle = (part.T.repeat_interleave(128, dim=1) for part in scale.unbind(dim=2))
    numbers = ((layer.weight - middle) / factor + 8).round().clamp(0, 15)
    held = two_in_a_byte(numbers)
    assert (held.shape, held.dtype) == ((48, 128), torch.uint8)
    # The same numbers and scales, in fp32 both times: equal up to the last bit of a product and a sum.
    torch.testing.assert_close(multiplied_out(held, scale).double(), formula(layer, "int4"), atol=1e-6, rtol=0)


@pytest.mark.parametrize("kind", WEIGHTS)
def test_weights_that_are_all_alike_stay_as_they_are(kind):
    layer = nn.Linear(64, 32, bias=False)
    x = torch.eye(64)
    for value in (0.0, 0.5):
        layer.weight = nn.Parameter(torch.full((32, 64), value), requires_grad=False)
        torch.testing.assert_close(QuantisedLinear(layer, kind)(x), torch.full((64, 32), value), atol=1e-6, rtol=0)


@pytest.mark.parametrize("kind", WEIGHTS)
@pytest.mark.parametrize("outputs", [ROWS, ROWS + 16, 3 * ROWS + 48])
def test_blocks_of_rows_make_the_same_as_the_whole(kind, outputs, monkeypatch):
    weight = linear(outputs, 128, torch.bfloat16).weight
    blocks = quantise(weight, kind)
    monkeypatch.setattr(quantised_file, "ROWS", 10**6)
    whole = quantise(weight, kind)
    assert all(torch.equal(blocks[name], whole[name]) and blocks[name].is_contiguous() for name in whole)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_a_sum_finds_what_is_no_number_and_an_overflow_is_none(bad):
    tensor = torch.full((3, 4), 3e38)
    load.require_finite("large", tensor)  # its sum is infinite
    load.require_finite("half", torch.full((300, 300), 6e4, dtype=torch.float16))
    tensor[1, 2], tensor[2, 3] = bad, -bad
    with pytest.raises(CheckpointError, match="small holds 2 values"):
        load.require_finite("small", tensor)


def test_groups_divide_the_inputs_or_the_layer_is_refused():
    assert [group_of(inputs) for inputs in (4096, 11008, 192, 2816, 96)] == [128, 128, 64, 128, 32]
    with pytest.raises(CheckpointError, match="multiple of 32, found 48"):
        group_of(48)
    with pytest.raises(CheckpointError, match="outputs are a multiple of 16, found 8"):
        quantise(torch.ones(8, 64), "int4")


# --- models -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A checkpoint with biases, as Qwen2 has them, in bf16."""
    config = tiny_config(text={"intermediate_size": 64, "attention_bias": True})
    return save_checkpoint(tiny_llava(config, dtype=torch.bfloat16), tmp_path_factory.mktemp("quantised"))


@pytest.fixture(scope="module", params=WEIGHTS)
def quantised(request, folder):
    return load_checkpoint(folder, weights=request.param, dtype="float32").model


def test_the_matrices_of_the_blocks_are_quantised_and_nothing_else(folder):
    plain = load_checkpoint(folder, dtype="float32").model
    for kind in WEIGHTS:
        loaded = load_checkpoint(folder, weights=kind, dtype="float32")
        found = {name for name, part in loaded.model.named_modules() if isinstance(part, QuantisedLinear)}
        matrices = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj")
        matrices += ("mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")
        assert found == {f"text.layers.{layer}.{name}" for layer in range(3) for name in matrices}
        others = {name: part for name, part in plain.state_dict().items() if name.removesuffix(".weight") not in found}
        assert all(torch.equal(part, loaded.model.state_dict()[name]) for name, part in others.items())
        for name in found:
            layer = plain.get_submodule(name)
            same = torch.equal(loaded.model.get_submodule(name).weight, quantise(layer.weight, kind)["weight"])
            assert same, name
        assert kind_of(loaded.model) == loaded.report.weights == kind
        assert f"quantised to {kind} and held in memory, all else in float32" in loaded.report.card()
        assert loaded.report.parameters == load_checkpoint(folder).report.parameters
    assert kind_of(plain) is None


@pytest.mark.parametrize("method", MITIGATIONS)
def test_a_token_at_a_time_is_the_whole_prompt_at_once(quantised, method):
    """int8 multiplies few rows as they are, many multiplied out; the sums differ by rounding, so 1e-4 of the logits."""
    rows = [prompt(words=5), prompt(words=9, seed=1)]
    tokens, mask = padded(rows)
    given = {"pixels": pixels(2), "attention_mask": mask, "mitigation": MITIGATIONS[method]}
    whole = quantised(tokens, **given).logits
    for row, (logits, single) in enumerate(zip(whole, rows, strict=True)):
        alone = quantised(torch.tensor([single]), pixels(2)[row : row + 1], mitigation=given["mitigation"]).logits[0]
        assert (logits[-len(alone) :] - alone).abs().max() <= 1e-4 * alone.abs().max()
    cached, again = (
        list(generate(quantised, tokens, **given, settings=minivlm.Generation(max_new_tokens=6, cache=cache)))
        for cache in (True, False)
    )
    assert cached == again


def test_the_numbers_are_those_of_the_file_not_of_another_dtype(folder):
    """Files in bf16, computed in fp32: quantised as fp32 numbers that bf16 can hold."""
    a, b = (load_checkpoint(folder, weights="int8", dtype=dtype).model for dtype in ("float32", "bfloat16"))
    for name, part in a.state_dict().items():
        if part.dtype == torch.int8:  # a scale in bf16 may turn a number by one
            assert (part.int() - b.state_dict()[name].int()).abs().max() <= 1


def test_the_rest_has_sixteen_bits_unless_asked_otherwise(folder, tmp_path):
    assert load_checkpoint(folder, weights="int8").report.dtype == "bfloat16"
    assert load_checkpoint(folder).report.dtype == "float32"  # small, on a CPU
    single = save_checkpoint(tiny_llava(tiny_config(text={"intermediate_size": 64})), tmp_path)
    assert load_checkpoint(single, weights="int4").report.dtype == "bfloat16"


@pytest.mark.parametrize(
    ("how", "sentence"),
    [
        ({"weights": "int2"}, "weights must be int8, int4 or None, those of the files, found 'int2'"),
        ({"weights": 8}, "found 8"),
        ({"weights": "int8", "dtype": "float64"}, "float32, found torch.float64"),
    ],
)
def test_what_cannot_be_quantised_is_refused(folder, how, sentence):
    with pytest.raises(CheckpointError, match=sentence):
        load_checkpoint(folder, **how)


def test_a_width_without_a_group_is_refused_before_anything_is_read(tmp_path, monkeypatch):
    narrow = save_checkpoint(tiny_llava(), tmp_path)  # 48 numbers inside the MLP
    monkeypatch.setattr(load, "mapped_tensors", None)
    with pytest.raises(CheckpointError, match="multiple of 32, found 48"):
        load_checkpoint(narrow, weights="int4")


def test_damaged_weights_are_found_before_they_are_rounded_away(tmp_path, monkeypatch):
    monkeypatch.setattr(load, "SMALL_TO_READ", 0)  # as in a large model, whose files are not read to be checked
    model = tiny_llava(tiny_config(text={"intermediate_size": 64}))
    model.text.layers[1].mlp.up_proj.weight[3, 4] = torch.nan
    save_checkpoint(model, tmp_path)
    for kind in WEIGHTS:
        with pytest.raises(CheckpointError, match=r"layers\.1\.mlp\.up_proj\.weight holds 1 values that are NaN"):
            load_checkpoint(tmp_path, weights=kind, dtype="float32")


CPU = torch.device("cpu")


def test_too_little_memory_names_the_next_smaller_kind(folder, monkeypatch):
    plan = load.make_plan(folder)
    whole, eight, four = (load.bytes_taken(plan, CPU, torch.float32, kind, "mapped") for kind in (None, *WEIGHTS))
    assert four < eight < whole
    for free, kind, advice in ((whole - 1, None, "int8"), (eight - 1, None, "int4"), (eight - 1, "int8", "int4")):
        monkeypatch.setattr(load, "free_memory", lambda device, free=free: free)
        with pytest.raises(CheckpointError, match=f"Choose weights='{advice}', another device"):
            load_checkpoint(folder, dtype="float32", weights=kind)
    monkeypatch.setattr(load, "free_memory", lambda device: four - 1)
    with pytest.raises(CheckpointError, match="Choose a dtype of two bytes"):
        load_checkpoint(folder, dtype="float32", weights="int4")


@pytest.mark.parametrize("memory", MEMORY)
@pytest.mark.parametrize("kind", [None, *WEIGHTS])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_is_counted_is_what_is_held(folder, kind, memory, dtype):
    """Mapped tensors are those that were neither quantised nor converted: in fp32 none, since the file is in bf16."""
    model = load_checkpoint(folder, weights=kind, dtype=dtype, memory=memory).model
    parts = model.state_dict().items()
    own = {key for name, _ in quantisable(load.make_plan(folder).model) for key in (f"{name}.weight", f"{name}.scale")}
    taken = [part for name, part in parts if memory == "resident" or dtype == torch.float32 or (kind and name in own)]
    counted = load.bytes_taken(load.make_plan(folder), CPU, dtype, kind, memory)
    assert counted == sum(part.nbytes for part in taken)


# --- memory -----------------------------------------------------------------------------------------------------------


def test_resident_weights_outlive_their_file(tmp_path):
    wide = tiny_config(text={"hidden_size": 1024, "intermediate_size": 1088, "head_dim": 256})
    held = tiny_llava(wide)  # matrices of 4 MB: larger than a large page
    save_checkpoint(held, tmp_path)
    loaded = load_checkpoint(tmp_path, memory="resident", dtype="float32")
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"\0" * file.stat().st_size)
    for name, part in held.state_dict().items():
        assert torch.equal(loaded.model.state_dict()[name], part), name
    assert "weights in memory" in loaded.report.card()


def test_mapped_weights_are_where_the_file_is(folder):
    """One mapping holds them all; what is resident lies elsewhere."""
    size = (folder / "model.safetensors").stat().st_size
    for memory, together in (("mapped", True), ("resident", False)):
        model = load_checkpoint(folder, memory=memory, dtype="bfloat16").model
        places = sorted(part.data_ptr() for part in model.parameters())
        assert (places[-1] - places[0] < size) == together


def test_memory_is_chosen_by_what_is_free(monkeypatch):
    assert choose_memory(None, CPU, 100, 200) == "resident"
    assert choose_memory(None, CPU, 100, 199) == choose_memory(None, CPU, 100, None) == "mapped"
    assert choose_memory("mapped", CPU, 100, 200) == "mapped"
    assert choose_memory(None, CPU, 100, 200, passing=True) == "mapped"
    assert choose_memory("resident", CPU, 100, 200, passing=True) == "resident"
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert choose_memory(None, CPU, 100, 399) == "mapped"
    assert choose_memory(None, CPU, 100, 400) == "resident"
    assert choose_memory("resident", CPU, 100, 199) == choose_memory(None, torch.device("cuda"), 1, 1) == "resident"
    with pytest.raises(CheckpointError, match="memory must be mapped, resident or None, by what is free, found 'ram'"):
        choose_memory("ram", CPU, 1, 1)
    with pytest.raises(CheckpointError, match="is for a CPU: cuda"):
        choose_memory("mapped", torch.device("cuda"), 1, 1)


def test_a_file_that_shrinks_while_it_is_mapped_is_said_before_it_is_used(tmp_path, monkeypatch):
    save_checkpoint(tiny_llava(), tmp_path)
    file = tmp_path / "model.safetensors"
    size = file.stat().st_size

    def cut_short(*_, **__):
        os.truncate(file, size - 4096)
        return 0.0

    monkeypatch.setattr(load, "fill_model", cut_short)
    with pytest.raises(CheckpointError, match=r"model\.safetensors lost 4,096 bytes while it was loaded"):
        load_checkpoint(tmp_path, memory="mapped", dtype="float32")


def test_a_quantised_model_is_neither_saved_nor_split_nor_moved_wrongly(quantised, tmp_path):
    kind = kind_of(quantised)
    with pytest.raises(CheckpointError, match=f"weights in {kind} is not saved"):
        save_checkpoint(quantised, tmp_path)
    mesh = type("Mesh", (), {"ndim": 1})()
    with pytest.raises(ConfigError, match=f"weights in {kind} cannot be split"):
        require_fitting(quantised, mesh)
    with pytest.raises(ConfigError, match=f"{kind} weights compute in .* or float32, found torch.float64"):
        copy.deepcopy(quantised).double()
    if kind == "int4":
        with pytest.raises(ConfigError, match="packed for cpu, and would be wrong on meta"):
            quantised.to("meta")


# --- the shipped model ------------------------------------------------------------------------------------------------


@pytest.mark.weights
@pytest.mark.parametrize(("kind", "most"), [("int8", 0.001), ("int4", 0.05)])
def test_the_shipped_model_says_nearly_the_same(kind, most):
    """KL of the next token after each word behind the picture, in nats; measured: 0.0001 and 0.006 on 20 scenes."""
    plain, small = (minivlm.load(dtype="bfloat16", device="cpu", weights=weights) for weights in (None, kind))
    distances = []
    for scene in range(4):
        picture = HELD_OUT.draw(scene).picture
        a, b = (vlm.logits(picture, "Describe the image.").float().log_softmax(-1)[-10:] for vlm in (small, plain))
        distances.append(nn.functional.kl_div(a, b, log_target=True, reduction="batchmean"))
    assert 0 < torch.stack(distances).mean() < most


@pytest.mark.weights
def test_the_command_line_quantises_traces_and_tells(tmp_path, capsys):
    picture = tmp_path / "scene.png"
    HELD_OUT.draw(0).picture.save(picture)
    assert cli.main(["ask", str(picture), "Describe the image.", "--weights", "int4", "--clva"]) == 0
    printed = capsys.readouterr()
    assert "bfloat16, decoder in int4 on cpu" in printed.err
    assert "CLVA in layers" in printed.err
    run = ["--data", "scenes:0", "--limit", "1", "--out", str(tmp_path / "run"), "--max-new-tokens", "3"]
    assert cli.main(["evaluate", "chair", *run, "--weights", "int8"]) == 0
    assert json.loads((tmp_path / "run/card.json").read_text())["computing"]["weights"] == "int8"
    assert cli.main(["evaluate", "chair", *run, "--resume"]) == 1  # in 32 bits it is another run
    assert "weights" in capsys.readouterr().err
    vlm = minivlm.load(weights="int8", device="cpu")
    trace = vlm.trace(picture, "Describe the image.", max_new_tokens=2)
    assert len(trace.facts["tokens"]) == 2
    assert (trace.facts["dtype"], trace.facts["weights"]) == ("bfloat16", "int8")
    assert dict(made_of(trace))["Model"] == "minivlm/tiny, decoder in int8"
    assert minivlm.load(device="cpu").ask(picture, "What?", max_new_tokens=1).weights is None
    assert circumstances(vlm)["weights"] == "int8"
