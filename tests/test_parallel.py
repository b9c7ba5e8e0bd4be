"""A model split over two processes against the same model in one: logits, effects, answers, and what each one holds.

torchrun starts this file once as a program, which compares in each of two processes and writes down what it found;
the tests read that. A process of its own GPU does the same where there is one. torch's package for tensors over several
processes takes a second to import: the functions do it, so that collecting tests does not.
"""

import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch import distributed as dist
from torch._C._distributed_c10d import _get_work_registry_size
from torch.distributed.device_mesh import init_device_mesh

import minivlm
from minivlm.errors import ConfigError
from minivlm.inference.effect import effect_of
from minivlm.inference.generate import Generation, new_cache, steps
from minivlm.inference.shipped import shipped_model
from minivlm.model import CLVA, EAH, Llava, Mitigation
from support.sharp_model import LAYERS, THRESHOLD, batch, sharp_llava
from support.tiny_model import SLOT, WORDS, tiny_config, tiny_llava

# The same numbers are added in another order. The norms and the softmax that is written out round to fp32 in between,
# which hides a difference of the last bit of fp64, save where a number lies on the very edge between two of fp32.
TOLERANCE = 1e-12  # of logits, in fp64, of the largest
STEPS = 20
METHODS = {
    "plain": None,
    "eah": EAH(threshold=THRESHOLD, decode="keep"),
    "clva": CLVA(gate=False),  # random weights do not drift, so a gate would stay shut
    "both": Mitigation(EAH(threshold=THRESHOLD), CLVA(gate=False)),
}
SHAPES = {
    "tied": tiny_config(tie_word_embeddings=True),
    "biased": tiny_config(text={"attention_bias": True, "attention_output_bias": True}),
    "indivisible": tiny_config(
        text={
            "vocab_size": WORDS + 3,
            "hidden_size": 31,
            "intermediate_size": 49,
            "num_attention_heads": 3,
            "num_key_value_heads": 1,
            "head_dim": 10,
        }
    ),
}
WHOLE = ("vision.", "projector.", "norm")  # in names of weights that every process keeps


# --- the program that torchrun starts ---------------------------------------------------------------------------------


def compare(size: int, device: str) -> dict[str, Any]:
    """All that the tests want to know, in JSON types, of this process in a group of `size`."""
    from minivlm.inference.tensor_parallel import split, tensor_mesh

    torch.set_num_threads(1)
    group = tensor_mesh(size, device)
    found = {"first": group.first, "number": group.number, "groups": group.groups, "device": str(group.device)}
    single = sharp_llava(dtype=torch.float64)  # it has grouped heads
    parts = split(sharp_llava(dtype=torch.float64), group.mesh)
    found["bytes"] = {"whole": held(single), "here": held(parts)}
    found["refused"] = refusals(parts, group.mesh)
    found["under way"] = under_way(parts)
    single = single.to(group.device)
    found["methods"] = {name: methods(single, parts, mitigation) for name, mitigation in METHODS.items()}
    found["sampled"] = [written(model, temperature=1.0, seed=3) for model in (single, parts)]
    found["shapes"] = {name: shapes(config, group) for name, config in SHAPES.items()}
    alone = tensor_mesh(1, device)
    found["alone"] = [alone.number, alone.groups, alone.first, shapes(tiny_config(), alone)]
    if (shipped_model() / "model.safetensors").exists():
        found["shipped"] = shipped(group)
    return found


def under_way(parts: Llava) -> list[int]:
    """How many exchanges between the processes are unfinished, whenever a projection begins."""
    seen: list[int] = []
    layers = [module for module in parts.modules() if isinstance(module, (torch.nn.Linear, torch.nn.Embedding))]
    hooks = [layer.register_forward_pre_hook(lambda *_: seen.append(_get_work_registry_size())) for layer in layers]
    read(parts)
    for hook in hooks:
        hook.remove()
    return seen


def methods(single: Llava, parts: Llava, mitigation: Any) -> dict[str, Any]:
    """Logits, effects and tokens under one method, of one process and of several."""
    outputs = [read(model, mitigation) for model in (single, parts)]
    effects = [None if output.effect is None else effect_of(output).as_dict() for output in outputs]
    return {
        "logits": distance(*(output.logits for output in outputs)),
        "effects": effects,
        "tokens": [written(model, mitigation=mitigation) for model in (single, parts)],
        "kinds": sorted(kinds(outputs[1]) | kinds(vars(cache_after(parts, mitigation)))),
    }


def shapes(config: Any, group: Any) -> dict[str, Any]:
    """The same for a model of another shape, plain."""
    from minivlm.inference.tensor_parallel import split

    single = tiny_llava(config, dtype=torch.float64)
    parts = split(tiny_llava(config, dtype=torch.float64), group.mesh)
    single = single.to(group.device)
    return {
        "logits": distance(*(read(model).logits for model in (single, parts))),
        "tokens": [written(model, max_new_tokens=5) for model in (single, parts)],
        "text alone": sorted(kinds(parts(torch.tensor([[3, 4]], device=group.device), hidden=True))),
    }


def shipped(group: Any) -> list[str]:
    """What the shipped model says about a picture, as one process and as several."""
    from minivlm.inference.tensor_parallel import split

    single, parts = (minivlm.load(device="cpu", dtype="fp32") for _ in range(2))
    split(parts.model, group.mesh)
    single.model.to(group.device)
    question = "Describe the image."
    return [vlm.ask(shipped_model() / "demo.png", question, max_new_tokens=20).text for vlm in (single, parts)]


@torch.inference_mode()
def read(model: Llava, mitigation: Any = None) -> Any:
    """One forward over rows with no, one and two pictures, which shows all it can show."""
    everything = {"maps": LAYERS, "rows": LAYERS, "sinks": LAYERS} if len(model.text.layers) == len(LAYERS) else {}
    return model(**inputs(model), mitigation=mitigation, hidden=True, **everything)


def inputs(model: Llava) -> dict[str, Tensor]:
    device = model.projector.linear_1.weight.device
    return {name: tensor.to(device) for name, tensor in batch(dtype=torch.float64).items()}


def written(model: Llava, *, mitigation: Any = None, **settings: Any) -> list[list[int]]:
    """The tokens of a generation with a cache."""
    taken, settings = inputs(model), Generation(**{"max_new_tokens": STEPS} | settings)
    words = torch.arange(model.config.text_config.vocab_size, device=taken["tokens"].device) != SLOT
    return [step.chosen for step in steps(model, **taken, settings=settings, allowed=words, mitigation=mitigation)]


@torch.inference_mode()
def cache_after(model: Llava, mitigation: Any) -> Any:
    taken = inputs(model)
    cache = new_cache(model, *taken["tokens"].shape)
    model(**taken, cache=cache, mitigation=mitigation)
    return cache


def kinds(value: Any) -> set[str]:
    """The classes of all tensors in a value."""
    if isinstance(value, Tensor):
        return {type(value).__name__}
    if is_dataclass(value):
        value = [getattr(value, field.name) for field in fields(value)]
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ()
    return {kind for part in parts for kind in kinds(part)}


def distance(found: Tensor, expected: Tensor) -> float:
    assert found.shape == expected.shape
    return float((found - expected).abs().max() / expected.abs().max())


def held(model: Llava) -> dict[str, int]:
    """Bytes of memory behind each weight in this process."""
    local = {name: getattr(weight, "_local_tensor", weight.data) for name, weight in model.named_parameters()}
    return {name: tensor.untyped_storage().nbytes() for name, tensor in local.items()}


def refusals(parts: Llava, mesh: Any) -> dict[str, str]:
    """What is said to models and meshes that do not fit; and whether a model was touched all the same."""
    from minivlm.inference.tensor_parallel import split

    trained = tiny_llava().requires_grad_(True)
    plane = init_device_mesh("cpu", (1, dist.get_world_size()))
    cases = {"again": (parts, mesh), "trained": (trained, mesh), "plane": (tiny_llava(), plane)}
    said = {}
    for name, (model, where) in cases.items():
        try:
            split(model, where)
        except ConfigError as error:
            said[name] = str(error)
    return said | {"trained is whole": all(type(weight) is torch.nn.Parameter for weight in trained.parameters())}


# --- the tests --------------------------------------------------------------------------------------------------------


def measured(folder: Path, size: int, device: str) -> list[dict[str, Any]]:
    """What each of `size` processes found."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={size}"]
    command += [__file__, str(folder), str(size), device]
    done = subprocess.run(
        command, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=1000
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(size)]


@pytest.fixture(scope="module")
def both(tmp_path_factory) -> list[dict[str, Any]]:
    return measured(tmp_path_factory.mktemp("parallel"), 2, "cpu")


def alike(found: Any, expected: Any) -> bool:
    """Equal, and numbers of fp32 up to the rounding of their sums."""
    if isinstance(found, dict):
        return found.keys() == expected.keys() and all(alike(found[key], expected[key]) for key in found)
    if isinstance(found, list):
        return len(found) == len(expected) and all(map(alike, found, expected))
    return math.isclose(found, expected, rel_tol=1e-5) if isinstance(found, float) else found == expected


def layers(effect: dict) -> Iterator[tuple[str, int]]:
    return ((layer["method"], layer["rows"]) for layer in effect["layers"])


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_a_split_model_computes_the_same(both, method):
    for process in both:
        found = process["methods"][method]
        assert found["logits"] < TOLERANCE
        assert found["tokens"][0] == found["tokens"][1]
        assert len(found["tokens"][1]) == STEPS


@pytest.mark.slow
@pytest.mark.parametrize("method", ["eah", "clva", "both"])
def test_the_methods_see_all_heads_and_do_the_same(both, method):
    for process in both:
        single, parts = process["methods"][method]["effects"]
        assert alike(parts, single)
        assert {name for name, rows in layers(parts) if rows} == {"eah": {"EAH"}, "clva": {"CLVA"}}.get(
            method, {"EAH", "CLVA"}
        )
        assert process["methods"][method]["tokens"] != process["methods"]["plain"]["tokens"]


@pytest.mark.slow
def test_the_processes_of_a_group_agree_to_the_bit_of_what_they_say(both):
    """Else one would wait for another that has ended its answer."""
    first, second = both
    assert first["methods"] == second["methods"]
    assert first["sampled"] == second["sampled"]


@pytest.mark.slow
def test_with_a_seed_sampling_is_the_same(both):
    single, parts = both[0]["sampled"]
    assert parts == single
    assert parts != both[0]["methods"]["plain"]["tokens"][1]


@pytest.mark.slow
def test_what_comes_out_and_what_is_cached_are_ordinary_tensors(both):
    for process in both:
        for found in process["methods"].values():
            assert found["kinds"] == ["Tensor"]
        for found in process["shapes"].values():
            assert found["text alone"] == ["Tensor"]


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES)
def test_tied_heads_biases_and_sizes_that_do_not_divide(both, shape):
    for process in both:
        found = process["shapes"][shape]
        assert found["logits"] < TOLERANCE
        assert found["tokens"][0] == found["tokens"][1]


@pytest.mark.slow
def test_each_process_holds_half_of_what_is_split(both):
    """Bytes of the memory behind the weights: a view of a whole matrix would count as a whole."""
    for process in both:
        whole, here = process["bytes"]["whole"], process["bytes"]["here"]
        assert whole.keys() == here.keys()
        kept = {name for name in whole if any(part in name for part in WHOLE)}
        assert {name for name in whole if here[name] == whole[name]} == kept
        assert {name for name in whole if 2 * here[name] == whole[name]} == whole.keys() - kept
        assert sum(whole[name] for name in kept) < sum(whole.values()) / 2


@pytest.mark.slow
def test_one_exchange_is_under_way_at_a_time(both):
    """With several, gloo damages the process's memory: a crash in one of some thirty runs of this file."""
    for process in both:
        assert len(process["under way"]) > 7 * len(LAYERS)  # seven in each layer, the projector, the tower
        assert set(process["under way"]) == {0}


@pytest.mark.slow
def test_groups_are_neighbours_and_each_has_a_first(both):
    for rank, process in enumerate(both):
        assert (process["number"], process["groups"], process["first"]) == (0, 1, rank == 0)
        number, groups, first, found = process["alone"]  # groups of one
        assert (number, groups, first) == (rank, 2, True)
        assert found["logits"] < TOLERANCE
        assert found["tokens"][0] == found["tokens"][1]


@pytest.mark.slow
def test_models_and_meshes_that_do_not_fit_are_refused(both):
    for process in both:
        refused = process["refused"]
        assert "split already" in refused["again"]
        assert "requires_grad_(False)" in refused["trained"]
        assert "one dimension, found 2" in refused["plane"]
        assert refused["trained is whole"]


@pytest.mark.slow
@pytest.mark.weights
def test_the_shipped_model_says_the_same(both):
    if "shipped" not in both[0]:
        pytest.skip("weights/tiny is not there")
    for process in both:
        single, parts = process["shipped"]
        assert parts == single
        assert len(parts.split()) > 3


def test_a_group_of_this_process_alone_computes_the_same(monkeypatch):
    """What can be seen without a second process: plain tensors come out, equal ones, and one exchange is under way."""
    from minivlm.inference.tensor_parallel import split, tensor_mesh

    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "1")
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        group = tensor_mesh(1, "cpu")
        parts = split(sharp_llava(dtype=torch.float64), group.mesh)
        found = methods(sharp_llava(dtype=torch.float64), parts, METHODS["both"])
        assert (group.number, group.groups, group.first) == (0, 1, True)
        assert found["logits"] < TOLERANCE
        assert found["tokens"][0] == found["tokens"][1]
        assert alike(*found["effects"])
        assert found["kinds"] == ["Tensor"]
        assert set(under_way(parts)) == {0}
        assert "split already" in refusals(parts, group.mesh)["again"]
    finally:
        dist.destroy_process_group()


@pytest.mark.parametrize(
    ("environment", "size", "device", "words"),
    [
        ({}, 2, "cpu", ["torchrun", "RANK is None"]),
        ({"RANK": "0", "WORLD_SIZE": "two"}, 2, "cpu", ["torchrun", "WORLD_SIZE is 'two'"]),
        ({"RANK": "0", "WORLD_SIZE": "3"}, 2, "cpu", ["3 processes", "groups of 2", "--nproc-per-node 2"]),
        ({"RANK": "0", "WORLD_SIZE": "2"}, 0, "cpu", ["groups of 0", "--nproc-per-node 1"]),
        ({"RANK": "0", "WORLD_SIZE": "2"}, 2, "mps", ["'cpu' or 'cuda'", "'mps'"]),
        ({"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1"}, 2, "cuda", ["LOCAL_RANK", "torch sees 1", "'cpu'"]),
        ({"RANK": "1", "WORLD_SIZE": "2"}, 2, "cuda", ["LOCAL_RANK is None"]),
    ],
    ids=["no torchrun", "no number", "not divisible", "nobody", "device", "too few GPUs", "no local rank"],
)
def test_processes_that_do_not_suffice_are_refused(monkeypatch, environment, size, device, words):
    from minivlm.inference.tensor_parallel import tensor_mesh

    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ConfigError) as caught:
        tensor_mesh(size, device)
    assert all(word in str(caught.value) for word in words)
    assert not dist.is_initialized()


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU")
def test_on_gpus_the_weights_come_from_the_cpu(tmp_path):
    """On one GPU, or two: fp64 there adds in yet another order."""
    for process in measured(tmp_path, min(2, torch.cuda.device_count()), "cuda"):
        assert process["device"].startswith("cuda:")
        for found in (*process["methods"].values(), *process["shapes"].values()):
            assert found["logits"] < 10 * TOLERANCE
            assert found["tokens"][0] == found["tokens"][1]


if __name__ == "__main__":
    folder, size, device = sys.argv[1:]
    result = compare(int(size), device)
    (Path(folder) / f"{dist.get_rank()}.json").write_text(json.dumps(result))
    dist.barrier()
    dist.destroy_process_group()
