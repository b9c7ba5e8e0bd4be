"""The same on Apple's GPU; skipped where torch computes on none. Tolerance: fp32, 1e-5 of the largest logit.

Whoever has a Mac: `python -m pytest tests/test_mps.py`.
"""

from pathlib import Path

import pytest
import torch

import minivlm
from minivlm.checkpoints.devices import computes
from support.tiny_model import picture, tiny_vlm

pytestmark = pytest.mark.skipif(not computes("mps", torch.float32), reason="no GPU of Apple's that torch computes on")
QUESTIONS = ("Is there a dog?", "What is in the image? A red ball and two cats?", "Two cats")
METHODS = (None, minivlm.EAH(layer=0), minivlm.CLVA(noise_layers=(0,), anchor_layers=(1,), deep_layers=(2,)))


@pytest.fixture
def both(tmp_path: Path) -> tuple[minivlm.VLM, minivlm.VLM]:
    """The same model of three layers on the CPU and on the GPU."""
    on_cpu = tiny_vlm(tmp_path / "model")
    return on_cpu, minivlm.load(tmp_path / "model", device="mps", dtype="fp32", template=on_cpu.template)


@pytest.mark.parametrize("method", METHODS, ids=["plain", "EAH", "CLVA"])
def test_logits_and_answers_are_those_of_the_cpu(both, method) -> None:
    expected, found = (vlm.logits(picture(0), QUESTIONS[1], mitigation=method).cpu() for vlm in both)
    assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()
    answers = [vlm.ask(picture(0), QUESTIONS[1], mitigation=method, max_new_tokens=12) for vlm in both]
    assert answers[0].tokens == answers[1].tokens
    moved = [[layer.moved_mean for layer in answer.effect.layers] if method else [] for answer in answers]
    assert moved[1] == pytest.approx(moved[0], rel=1e-3)


@pytest.mark.parametrize("settings", [{}, {"temperature": 1.0, "seed": 3, "top_k": 9, "top_p": 0.9}])
def test_ragged_batches_are_answered_as_singles(both, settings) -> None:
    _, on_gpu = both
    pictures, how = [picture(seed) for seed in range(3)], {"max_new_tokens": 12, **settings}
    together = on_gpu.ask_many(pictures, QUESTIONS, **how)
    apart = [on_gpu.ask(image, text, **how) for image, text in zip(pictures, QUESTIONS, strict=True)]
    assert [answer.tokens for answer in together] == [answer.tokens for answer in apart]


def test_a_trace_is_that_of_the_cpu(both) -> None:
    expected, found = (vlm.trace(picture(0), QUESTIONS[0], max_new_tokens=5, maps=[1], lens=[1]) for vlm in both)
    assert found.text == expected.text
    assert (found.pooled.float() - expected.pooled.float()).abs().max() < 1e-3  # kept in fp16


@pytest.mark.parametrize("dtype", [None, "bf16", "fp16"])
def test_half_precision_answers(both, tmp_path: Path, dtype) -> None:
    vlm = minivlm.load(tmp_path / "model", device="mps", dtype=dtype)
    assert vlm.ask(picture(0), QUESTIONS[0], max_new_tokens=5).finish in ("stop", "length")
