"""A tokenizer built like LLaMA's (byte fallback, a leading space for each piece) but small, for tests without data."""

import json
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

CORPUS = [
    "USER: What is shown in the picture? ASSISTANT: A red ball and a blue box.",
    "A chat between a curious human and an artificial intelligence assistant.",
    "The assistant gives helpful, detailed, and polite answers to the human's questions.",
    "Is there a dog? Yes, no. a < b > c / d",
]
PREFIX = {"type": "Prepend", "prepend": "▁"}
SPACES = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
DECODERS = [
    {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
    {"type": "ByteFallback"},
    {"type": "Fuse"},
    {"type": "Strip", "content": " ", "start": 1, "stop": 0},
]


def small_definition() -> dict:
    """A tokenizer.json: <unk> <s> </s>, 256 bytes, letters and merges, then <image>, <pad> and a non-special <act>."""
    vocab, merges = _train()
    words = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *vocab]
    added = [(i, words[i], True) for i in range(3)]
    added += [(len(words) + i, text, text != "<act>") for i, text in enumerate(("<image>", "<pad>", "<act>"))]
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": i, "content": text, **flags, "special": special} for i, text, special in added],
        "normalizer": {"type": "Sequence", "normalizers": [PREFIX, SPACES]},
        "pre_tokenizer": None,
        "post_processor": None,
        "decoder": {"type": "Sequence", "decoders": DECODERS},
        "model": {
            "type": "BPE",
            "unk_token": "<unk>",
            "fuse_unk": True,
            "byte_fallback": True,
            "vocab": {word: i for i, word in enumerate(words)},
            "merges": merges,
        },
    }


def bytes_definition() -> dict:
    """The same kind of file as GPT-2, Qwen2 and LLaMA-3 have: letters are bytes, a space belongs to the next word."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=300, show_progress=False, initial_alphabet=alphabet)
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.add_special_tokens(["<image>", "<pad>", "<s>", "</s>"])
    return json.loads(tokenizer.to_str())


def write_small_tokenizer(folder: Path, definition: dict | None = None, **config) -> Path:
    """tokenizer.json and tokenizer_config.json in a folder."""
    definition = definition or small_definition()
    names = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", **config}
    (folder / "tokenizer.json").write_text(json.dumps(definition), encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps(names), encoding="utf-8")
    return folder


def added_id(definition: dict, text: str) -> int:
    return next(token["id"] for token in definition["added_tokens"] if token["content"] == text)


def _train() -> tuple[list[str], list]:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    # Pieces end before a space, as LLaMA's merges do.
    lines = [word for line in CORPUS for word in line.split(" ")]
    tokenizer.train_from_iterator(lines, trainers.BpeTrainer(vocab_size=260, show_progress=False, min_frequency=1))
    model = json.loads(tokenizer.to_str())["model"]
    return sorted(model["vocab"], key=model["vocab"].get), model["merges"]
