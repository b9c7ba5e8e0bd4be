"""The toy world's tokenizer: a small BPE with byte fallback, trained on the world's own sentences.

It is built like LLaMA's (▁ for a space, bytes for whatever is not in the vocabulary), so that any text can be read.
"""

import string
from collections.abc import Iterable
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from minivlm.files import parse_json, write_json

SPECIAL = ("<unk>", "<s>", "</s>")
ADDED = ("<image>", "<pad>")  # behind the vocabulary, as in LLaVA
BYTES = tuple(f"<0x{byte:02X}>" for byte in range(256))


def train_tokenizer(texts: Iterable[str], size: int) -> Tokenizer:
    """Learn at most `size` tokens from `texts`; words are never merged with their neighbours."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True))
    _split_like_llama(tokenizer)
    alphabet = [*string.ascii_letters, *string.digits, *string.punctuation, "▁", "\n"]
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=[*SPECIAL, *BYTES], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    return _finish(tokenizer)


def _finish(trained: Tokenizer) -> Tokenizer:
    """The same vocabulary in a fresh tokenizer: the trainer marks bytes as special tokens, which they are not."""
    learned = parse_json(trained.to_str())["model"]
    merges = [tuple(pair) for pair in learned["merges"]]
    tokenizer = Tokenizer(models.BPE(vocab=learned["vocab"], merges=merges, unk_token="<unk>", byte_fallback=True))
    _split_like_llama(tokenizer)
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.add_special_tokens([*SPECIAL, *ADDED])
    start = ("<s>", tokenizer.token_to_id("<s>"))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[start]
    )
    return tokenizer


def _split_like_llama(tokenizer: Tokenizer) -> None:
    """A ▁ before each word; signs and digits stand alone."""
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split("▁", "merged_with_next"), pre_tokenizers.Split(Regex("[^▁A-Za-z]"), "isolated")]
    )


def save_tokenizer(tokenizer: Tokenizer, folder: Path) -> None:
    """Write `tokenizer.json` and the small files that say which token is which."""
    tokenizer.save(str(folder / "tokenizer.json"))
    names = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
    settings = {
        **names,
        "image_token": "<image>",
        "add_bos_token": True,
        "padding_side": "left",
        "clean_up_tokenization_spaces": False,
        "tokenizer_class": "PreTrainedTokenizerFast",
    }
    for name, content in (("tokenizer_config.json", settings), ("special_tokens_map.json", names)):
        write_json(folder / name, content)
