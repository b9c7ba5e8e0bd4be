"""A tiny model that looks at some tokens much more than at others, and samples with 0, 1 and 2 pictures for it."""

import torch

from minivlm.model import Llava
from support.tiny_model import PATCHES, padded, pixels, prompt, tiny_config, tiny_llava

DEPTH = 8  # noise layers 0 and 1, anchor layers 3 to 5, deep layers 6 and 7
LAYERS = range(DEPTH)
SHARPER = 2.0
THRESHOLD = 0.06  # at which this model's heads have 0 to 9 sinks in a picture
PROMPTS = {0: prompt(0, words=9, seed=3), 1: prompt(1, words=5, seed=1), 2: prompt(2, words=3, seed=2)}  # by pictures
PICTURES = pixels(3)
OWN = {0: slice(0, 0), 1: slice(0, 1), 2: slice(1, 3)}  # which of the pictures belong to which prompt


def sharp_llava(*, seed: int = 0, dtype: torch.dtype = torch.float32, groups: int = 2) -> Llava:
    """Eight layers whose queries are twice as long as those of `tiny_llava`."""
    text = {"num_hidden_layers": DEPTH, "num_key_value_heads": groups}
    model = tiny_llava(tiny_config(text=text), seed=seed)
    for block in model.text.layers:
        block.self_attn.q_proj.weight.mul_(SHARPER)
    return model.to(dtype)


def single(pictures: int, dtype: torch.dtype = torch.float32) -> dict:
    """One sample, as the model takes it."""
    image = PICTURES[OWN[pictures]].to(dtype) if pictures else None
    return {"tokens": torch.tensor([PROMPTS[pictures]]), "pixels": image}


def batch(pictures: tuple[int, ...] = (1, 0, 2), dtype: torch.dtype = torch.float32, extra: int = 0) -> dict:
    """Several samples, padded on the left to the longest and `extra` more."""
    tokens, attention_mask = padded([PROMPTS[n] for n in pictures], extra)
    image = torch.cat([PICTURES[OWN[n]] for n in pictures]).to(dtype)
    return {"tokens": tokens, "pixels": image, "attention_mask": attention_mask}


def image_columns(pictures: int) -> list[int]:
    """Where the patches of `PROMPTS[pictures]` stand."""
    return [2 + number * (PATCHES + 1) + patch for number in range(pictures) for patch in range(PATCHES)]


def difference(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Largest difference as a share of the largest expected value."""
    assert found.shape == expected.shape
    return float((found - expected).abs().max() / expected.abs().max())
