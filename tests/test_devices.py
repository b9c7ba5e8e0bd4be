"""Where a model computes, and with which numbers; a Mac is imitated. What it computes: test_cuda.py, test_mps.py."""

from types import SimpleNamespace

import pytest
import torch

from minivlm.checkpoints import devices, load, load_checkpoint
from minivlm.checkpoints.plan import make_plan
from minivlm.cli import doctor
from minivlm.errors import CheckpointError
from support.tiny_model import tiny_folder

MPS = torch.device("mps")


@pytest.fixture
def plan(tmp_path):
    """A checkpoint whose files are in float32."""
    return make_plan(tiny_folder(tmp_path / "model"))


@pytest.fixture
def mac(monkeypatch):
    """Pretend that torch sees Apple's GPU; the argument says whether it computes bfloat16."""

    def pretend(bf16: bool = True) -> None:
        def answers(device, dtype):
            return dtype != torch.float64 and (bf16 or dtype != torch.bfloat16)

        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
        monkeypatch.setattr(torch.mps, "recommended_max_memory", lambda: 20 * 10**9)
        monkeypatch.setattr(torch.mps, "driver_allocated_memory", lambda: 10**9)
        monkeypatch.setattr(devices, "computes", answers)

    return pretend


@pytest.mark.parametrize(
    ("files", "asked", "bf16", "expected", "notes"),
    [
        (torch.float32, None, True, torch.float32, 1),
        (torch.float16, None, True, torch.bfloat16, 1),
        (torch.bfloat16, None, True, torch.bfloat16, 1),
        (torch.bfloat16, None, False, torch.float32, 2),
        (torch.float32, "bf16", False, torch.float32, 2),
        (torch.float32, "fp16", True, torch.float16, 1),
        (torch.float64, None, True, torch.float32, 1),
    ],
)
def test_the_dtype_on_a_mac(plan, mac, monkeypatch, files, asked, bf16, expected, notes):
    mac(bf16)
    monkeypatch.setattr(devices, "file_dtype", lambda plan: files)
    dtype, told = devices.choose_dtype(plan, MPS, asked)
    assert (dtype, len(told)) == (expected, notes)
    assert "has not been tried on Apple's GPUs" in told[0]


@pytest.mark.parametrize("asked", ["float64", torch.float64])
def test_float64_on_a_mac_is_refused_with_what_to_take(plan, mac, asked):
    mac()
    with pytest.raises(CheckpointError, match=r"float64 .* on mps, .* 32 bits .* take dtype float32, or device cpu\."):
        devices.choose_dtype(plan, MPS, asked)


def test_a_mac_s_memory_is_asked_before_anything_is_taken(plan, mac, monkeypatch):
    mac()
    load.require_memory(plan, MPS, torch.float32)
    monkeypatch.setattr(torch.mps, "recommended_max_memory", lambda: 10**9 + 1000)
    with pytest.raises(CheckpointError, match=r"as torch\.float32 on mps, and 0\.0 GB are free"):
        load.require_memory(plan, MPS, torch.float32)


def test_a_tensor_is_cast_before_it_goes_to_a_mac():
    calls = []
    tensor = SimpleNamespace(to=lambda where: calls.append(where) or tensor)
    load.moved_to(tensor, MPS, torch.float32)
    assert calls == [torch.float32, MPS]


def test_a_mac_s_gpu_is_told_of_and_not_taken_by_itself(mac, capsys, tmp_path):
    mac()
    assert devices.default_device() == ("cuda" if torch.cuda.is_available() else "cpu")
    facts = doctor.examine()
    assert facts["mps"] == {"computes": True, "bf16": True, "free": 19 * 10**9}
    text = doctor.as_text(facts | {"gpus": []})
    assert "Apple's (mps) with bfloat16, no float64, 19.0 GB free; ask for it with --device mps" in text
    assert doctor.default_device(facts | {"gpus": []})["why"].startswith("minivlm has not been tried on Apple's GPUs")
    small = doctor.KNOWN_MODELS[0].name
    cached = facts | {"gpus": [], "cache": {"models": [small], "offline": False}}
    assert doctor.what_next(cached)[-1].endswith(f"--model {small} --device mps")


@pytest.mark.parametrize(
    ("found", "sentence"),
    [
        ({"computes": False, "bf16": False, "free": None}, "is seen, but torch cannot compute there"),
        ({"computes": True, "bf16": False, "free": None}, "no bfloat16 (macOS 14 has it): float32 is used"),
    ],
)
def test_a_mac_s_gpu_that_lacks_something_is_told_so(found, sentence):
    assert sentence in doctor.describe_mps(found)


@pytest.mark.parametrize(
    ("gpus", "name", "words"),
    [
        ([], "cpu", "torch sees no GPU"),
        ([{"bf16": True}], "cuda", "the first GPU"),
        ([{"bf16": False}], "cuda", "float16 for bfloat16"),
    ],
)
def test_doctor_says_where_it_computes_and_why(gpus, name, words):
    found = doctor.default_device({"gpus": gpus, "mps": None})
    assert found["name"] == name
    assert words in " ".join(found.values())


def test_a_checkpoint_is_loaded_nowhere_where_torch_does_not_compute(tmp_path):
    if devices.computes("mps", torch.float32):
        pytest.skip("torch computes on this Mac's GPU")
    with pytest.raises(CheckpointError, match="mps was asked for, but torch cannot compute there; try 'cpu'"):
        load_checkpoint(tiny_folder(tmp_path / "model"), device="mps")
