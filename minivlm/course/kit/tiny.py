"""Small things to test with: a model of some thousand parameters, prompts with a picture, a tokenizer, a checkpoint.

Everything is drawn from a seed by `draw`, see `draw.py`. No test should depend on the exact numbers.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from minivlm.checkpoints.save import save_checkpoint
from minivlm.course.kit.draw import Draw
from minivlm.evaluation.pope import PopeQuestion
from minivlm.inputs.tokenizer import Tokenizer
from minivlm.model import Llava, LlavaConfig, TextConfig, VisionConfig
from minivlm.model.layout import Layout
from minivlm.training.vocabulary import save_tokenizer, train_tokenizer

SIDE = 12  # of the square picture, in pixels; patches have 4
PATCHES = 9  # of a picture
WORDS = 64  # tokens in the vocabulary, ids 0 to 63
IMAGE = 60  # the id of an image token; 3 to 59 are words
PAD = 1  # the id of padding
SENTENCES = ["USER: What is in the image? ASSISTANT: There is a red ball.", "Is there a dog? Yes. No, two cats."]


def tiny_config(**text) -> LlavaConfig:
    """Four layers in the decoder, four heads in two groups; `text` overrides fields of its `TextConfig`."""
    vision = VisionConfig(
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=SIDE,
        patch_size=4,
    )
    usual = {
        "vocab_size": WORDS,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "max_position_embeddings": 128,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
    }
    return LlavaConfig(vision_config=vision, text_config=TextConfig(**usual | text), image_token_index=IMAGE)


def tiny_model(draw: Draw, **text) -> Llava:
    """A random model, ready to run."""
    return draw.fill(Llava(tiny_config(**text)))


def tiny_pixels(draw: Draw, pictures: int = 1) -> Tensor:
    """Pixels (N, 3, S, S) of random pictures."""
    return draw.normal(pictures, 3, SIDE, SIDE)


def tiny_prompt(draw: Draw, words: int = 5) -> list[int]:
    """Token ids: two words, the image tokens of one picture, then `words` words."""
    ids = draw.whole(3, IMAGE, 2 + words).tolist()
    return [*ids[:2], *[IMAGE] * PATCHES, *ids[2:]]


def left_padded(samples: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Samples of any lengths as tokens (B, T), padded on the left, and `attention_mask` (B, T), False at padding."""
    longest = max(len(sample) for sample in samples)
    tokens = torch.tensor([[PAD] * (longest - len(sample)) + list(sample) for sample in samples])
    return tokens, torch.stack([torch.arange(longest) >= longest - len(sample) for sample in samples])


def tiny_layout(tokens: Tensor, attention_mask: Tensor | None = None) -> Layout:
    """The layout of a prompt (B, T) that is read in one forward: where patches, text and padding stand."""
    attention_mask = torch.ones_like(tokens, dtype=torch.bool) if attention_mask is None else attention_mask
    return Layout(attention_mask, tokens == IMAGE, queries=tokens.shape[1], prompt=tokens.shape[1])


def tiny_tokenizer(folder: Path) -> Tokenizer:
    """A tokenizer like LLaMA's, but small. Its files are written into `folder`."""
    trained = train_tokenizer(SENTENCES * 3, size=400)
    save_tokenizer(trained, folder)
    image = trained.token_to_id("<image>")
    assert image is not None, "train_tokenizer makes this token"
    return Tokenizer.from_folder(folder, image_token_id=image, vocab_rows=trained.get_vocab_size())


def tiny_checkpoint(draw: Draw, folder: Path) -> Path:
    """A random model saved as a checkpoint: `config.json` and `model.safetensors` in `folder`."""
    return save_checkpoint(tiny_model(draw), folder)


def tiny_questions(labels: Sequence[bool]) -> list[PopeQuestion]:
    """POPE's questions, one for each label, three about each picture."""
    return [
        PopeQuestion(id=str(number), image=str(number // 3), text="Is there a dog in the image?", label=label)
        for number, label in enumerate(labels)
    ]
