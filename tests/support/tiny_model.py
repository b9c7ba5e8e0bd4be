"""Tiny random models of our own: a `Llava` of some thousand numbers, and a checkpoint folder for `minivlm.load`."""

import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import minivlm
from minivlm.checkpoints.save import save_checkpoint
from minivlm.model import Llava, LlavaConfig, TextConfig, VisionConfig
from minivlm.training.vocabulary import save_tokenizer, train_tokenizer

SIZE = 12  # of the square picture, in pixels
PATCHES = 9
WORDS = 64
SLOT = 60  # the image token's id, within the vocabulary
FILLING = 5  # rows of the embedding behind the last word of `tiny_folder`'s tokenizer
SENTENCES = ["USER: What is in the image? ASSISTANT: There is a red ball.", "Is there a dog? Yes. No, two cats."]


def tiny_config(*, text: dict | None = None, vision: dict | None = None, **top) -> LlavaConfig:
    """Three layers above, three below, 9 patches a picture, grouped heads; `text`, `vision` and `top` override it."""
    return LlavaConfig(
        vision_config=VisionConfig(
            **{
                "hidden_size": 16,
                "intermediate_size": 24,
                "num_hidden_layers": 3,
                "num_attention_heads": 2,
                "image_size": SIZE,
                "patch_size": 4,
            }
            | (vision or {})
        ),
        text_config=TextConfig(
            **{
                "vocab_size": WORDS,
                "hidden_size": 32,
                "intermediate_size": 48,
                "num_hidden_layers": 3,
                "num_attention_heads": 4,
                "num_key_value_heads": 2,
                "head_dim": 8,
                "max_position_embeddings": 128,
                "rms_norm_eps": 1e-5,
                "rope_theta": 10000.0,
            }
            | (text or {})
        ),
        **{"image_token_index": SLOT} | top,
    )


def tiny_llava(config: LlavaConfig | None = None, *, seed: int = 0, dtype: torch.dtype = torch.float32) -> Llava:
    """A random model whose every parameter matters: also biases and norms are far from their usual 0 and 1."""
    generator = torch.Generator().manual_seed(seed)
    model = Llava(config or tiny_config())
    for name, parameter in model.named_parameters():
        fan_in = parameter[0].numel() if parameter.ndim > 1 else 25
        noise = torch.randn(parameter.shape, generator=generator) * fan_in**-0.5
        parameter.data = noise + ("norm" in name and "weight" in name)
    return model.to(dtype).requires_grad_(False).eval()


def tiny_folder(folder: Path, *, seed: int = 0, context: int = 512, **config) -> Path:
    """A checkpoint folder in the hub's style, with a LLaMA-like tokenizer and FILLING rows behind its last word."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = train_tokenizer(SENTENCES * 3, size=400)
    save_tokenizer(tokenizer, folder)
    rows, slot = tokenizer.get_vocab_size() + FILLING, tokenizer.token_to_id("<image>")
    text = {"vocab_size": rows, "max_position_embeddings": context}
    config = tiny_config(text=text, image_token_index=slot, **config)
    save_checkpoint(tiny_llava(config, seed=seed), folder)
    square = {"size": {"shortest_edge": SIZE}, "crop_size": {"height": SIZE, "width": SIZE}}
    (folder / "preprocessor_config.json").write_text(json.dumps(square))
    return folder


def tiny_vlm(folder: Path, *, template: str | None = None, **config) -> minivlm.VLM:
    return minivlm.load(tiny_folder(folder, **config), device="cpu", template=template)


def pixels(count: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(count, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(seed)).to(dtype)


def prompt(pictures: int = 1, words: int = 5, seed: int = 0) -> list[int]:
    """Ids: two words, each picture's slots with a word behind, `words` more words."""
    ids = torch.randint(3, SLOT - 1, (words + 2,), generator=torch.Generator().manual_seed(seed)).tolist()
    return [*ids[:2], *([SLOT] * PATCHES + [2]) * pictures, *ids[2:]]


def padded(rows: list[list[int]], extra: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows of any lengths as tokens (B, T), padded on the left, and what is no padding."""
    longest = max(map(len, rows)) + extra
    tokens = torch.tensor([[1] * (longest - len(row)) + row for row in rows])
    return tokens, torch.stack([torch.arange(longest) >= longest - len(row) for row in rows])


def picture(seed: int, width: int = 20, height: int = 14) -> Image.Image:
    """A noisy picture of one colour."""
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 196, 3) + rng.integers(0, 60, (height, width, 3))
    return Image.fromarray(values.astype(np.uint8))


def interrupt_after(monkeypatch, model: torch.nn.Module, calls: int, error: BaseException) -> None:
    """Let a module's forward raise at call number `calls` + 1."""
    forward, left = model.forward, iter(range(calls))

    def broken(*inputs, **how):
        if next(left, None) is None:
            raise error
        return forward(*inputs, **how)

    monkeypatch.setattr(model, "forward", broken)
