"""Tiny random LLaVA models of the transformers library, made when a test runs: the oracle of the parity tests.

transformers takes seconds to import: the functions do it, so that collecting tests does not.
"""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

FAMILIES = {"llama": "LlamaConfig", "mistral": "MistralConfig", "qwen2": "Qwen2Config"}
TEXT = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "max_position_embeddings": 128,
    "rms_norm_eps": 1e-5,
}
VISION = {
    "hidden_size": 64,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 1,  # heads of width 64, as in every CLIP of OpenAI's
    "image_size": 12,
    "patch_size": 4,
}
SIGLIP = VISION | {"hidden_size": 72, "num_attention_heads": 2, "vision_use_head": False}  # heads of an odd width
IMAGE_TOKEN = 60


def tiny_hf_config(
    family: str = "llama", *, tower: str = "clip", text: dict | None = None, vision: dict | None = None, **top
) -> Any:
    """A LlavaConfig of transformers with 9 patches a picture; `text`, `vision` and `top` override its fields."""
    import transformers

    if tower == "siglip":
        top = {"vision_feature_select_strategy": "full"} | top
        tower_config = transformers.SiglipVisionConfig(**SIGLIP | (vision or {}))
    else:
        tower_config = transformers.CLIPVisionConfig(**VISION | (vision or {}))
    return transformers.LlavaConfig(
        text_config=getattr(transformers, FAMILIES[family])(**TEXT | (text or {})),
        vision_config=tower_config,
        **{"image_token_index": IMAGE_TOKEN} | top,
    )


def tiny_hf_model(
    family: str = "llama", *, seed: int = 0, dtype: torch.dtype = torch.float32, attention: str = "sdpa", **config
) -> torch.nn.Module:
    """A random LlavaForConditionalGeneration. Every parameter matters: biases and norms too are far from 0 and 1."""
    from transformers import LlavaForConditionalGeneration

    generator = torch.Generator().manual_seed(seed)
    model = LlavaForConditionalGeneration(tiny_hf_config(family, **config))
    for name, parameter in model.named_parameters():
        fan_in = parameter[0].numel() if parameter.ndim > 1 else 25
        noise = torch.randn(parameter.shape, generator=generator) * fan_in**-0.5
        parameter.data = noise + ("norm" in name and "weight" in name)
    model.set_attn_implementation(attention)
    return model.to(dtype).eval()


def tiny_hf_checkpoint(folder: Path, **overrides) -> torch.nn.Module:
    """Save a tiny model as transformers does, and return it. `overrides`: see `tiny_hf_model`."""
    model = tiny_hf_model(**overrides)
    model.save_pretrained(folder)
    return model


def prompt_and_pictures(pictures: int = 1, patches: int = 9, size: int = 12, words: int = 5, seed: int = 0):
    """Tokens (1, T) with the slots of `pictures` pictures behind the first two words, and their pixels."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(3, IMAGE_TOKEN - 1, (words,), generator=generator).tolist()
    slots = [IMAGE_TOKEN] * patches
    middle = [token for _ in range(pictures) for token in [*slots, 2]]
    pixels = torch.randn(pictures, 3, size, size, generator=generator) if pictures else None
    return torch.tensor([ids[:2] + middle + ids[2:]]), pixels


def left_padded(rows: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows (1, T) of any lengths as tokens (B, T) and the mask of what is not padding."""
    longest = max(row.shape[1] for row in rows)
    pads = [longest - row.shape[1] for row in rows]
    padded = zip(rows, pads, strict=True)
    tokens = torch.cat([torch.nn.functional.pad(row, (pad, 0), value=1) for row, pad in padded])
    return tokens, torch.stack([torch.arange(longest) >= pad for pad in pads])


def write_checkpoint(
    folder: Path, tensors: dict[str, torch.Tensor], config: dict, name: str = "model.safetensors"
) -> Path:
    """A checkpoint folder from tensors under any names and a config.json."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, folder / name, {"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config))
    return folder
