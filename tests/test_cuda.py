"""The same on a GPU; skipped where there is none. Tolerance: fp32 without TF32, 1e-5 of the largest logit."""

from pathlib import Path

import pytest
import torch

import minivlm
from minivlm.inference import decode
from minivlm.training.recipe import Recipe
from minivlm.training.train import train
from support.tiny_model import picture, tiny_vlm

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU"),
]
QUESTIONS = ("Is there a dog?", "What is in the image? A red ball and two cats?", "Two cats")


@pytest.fixture
def both(tmp_path: Path) -> tuple[minivlm.VLM, minivlm.VLM]:
    """The same model on the CPU and on the GPU."""
    on_cpu = tiny_vlm(tmp_path / "model")
    return on_cpu, minivlm.load(tmp_path / "model", device="cuda", dtype="fp32", template=on_cpu.template)


@pytest.mark.parametrize("maps", [(), (0, 1)])
def test_logits_are_those_of_the_cpu(both, maps) -> None:
    on_cpu, on_gpu = both
    expected = on_cpu.model(**on_cpu.prepare(picture(0), QUESTIONS[1]), maps=maps).logits
    found = on_gpu.model(**on_gpu.prepare(picture(0), QUESTIONS[1]), maps=maps).logits.cpu()
    assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()


@pytest.mark.parametrize("settings", [{}, {"temperature": 1.0, "seed": 3, "top_k": 9, "top_p": 0.9}])
def test_ragged_batches_are_answered_as_singles(both, settings) -> None:
    _, on_gpu = both
    pictures = [picture(seed) for seed in range(3)]
    together = on_gpu.ask_many(pictures, QUESTIONS, max_new_tokens=12, **settings)
    apart = [
        on_gpu.ask(image, text, max_new_tokens=12, **settings) for image, text in zip(pictures, QUESTIONS, strict=True)
    ]
    assert [answer.tokens for answer in together] == [answer.tokens for answer in apart]


@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
def test_half_precision_answers(both, tmp_path: Path, dtype) -> None:
    vlm = minivlm.load(tmp_path / "model", device="cuda", dtype=dtype)
    assert vlm.ask(picture(0), QUESTIONS[0], max_new_tokens=5).finish in ("stop", "length")


def test_a_conversation_keeps_its_cache(both) -> None:
    _, on_gpu = both
    talk = minivlm.Conversation(on_gpu, picture(0))
    for question in QUESTIONS:
        expected = on_gpu.ask(picture(0), [*talk.turns, minivlm.Turn(question)], max_new_tokens=9)
        assert talk.ask(question, max_new_tokens=9).tokens == expected.tokens
    assert talk.reused > 0


@pytest.mark.parametrize("method", [None, minivlm.CLVA(gate=False)], ids=["plain", "CLVA"])
def test_no_step_makes_the_host_wait(both, method, monkeypatch) -> None:
    """From the second step on: the first finds what the plan keeps."""
    step, taken = decode.decode_step, []

    def watched(*args):
        torch.cuda.set_sync_debug_mode("error" if taken else "default")
        try:
            taken.append(step(*args))
        finally:
            torch.cuda.set_sync_debug_mode("default")
        return taken[-1]

    monkeypatch.setattr(decode, "decode_step", watched)
    both[1].ask(picture(0), QUESTIONS[0], mitigation=method, max_new_tokens=8)
    assert taken


@pytest.mark.parametrize("method", [None, minivlm.CLVA(gate=False)], ids=["plain", "CLVA"])
def test_compiled_steps_write_the_same_tokens(both, method) -> None:
    """Over more than 128 columns, so that there are two plans."""
    how = {"mitigation": method, "max_new_tokens": 150}
    eager, compiled = (both[1].ask(picture(0), QUESTIONS[1], compile=way, **how).tokens for way in ("off", "on"))
    assert compiled == eager


def test_training_runs(tmp_path: Path) -> None:
    train(tmp_path / "quick", Recipe.quick(), device="cuda")
    assert minivlm.load(tmp_path / "quick", device="cuda").ask(None, "Is there a dog?", max_new_tokens=3) is not None
