"""The toy world's tokenizer: a small BPE with byte fallback, trained on the world's own sentences.

It has the format of LLaMA's tokenizer (▁ for a space, bytes for characters that are not in the vocabulary), so that any
text can be encoded.
"""

import string
from collections.abc import Iterable
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from minivlm.files import parse_json, write_json, write_text

SPECIAL = ("<unk>", "<s>", "</s>")
ADDED = ("<image>", "<pad>")  # at the end of the vocabulary, as in LLaVA
BYTES = tuple(f"<0x{byte:02X}>" for byte in range(256))


def train_tokenizer(texts: Iterable[str], size: int) -> Tokenizer:
    """Train a BPE of at most `size` tokens on `texts`; no token spans two words. <image> and <pad> come on top."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True))
    split_like_llama(tokenizer)
    alphabet = [*string.ascii_letters, *string.digits, *string.punctuation, "▁", "\n"]
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=[*SPECIAL, *BYTES], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    return with_special_tokens(tokenizer)


def with_special_tokens(trained: Tokenizer) -> Tokenizer:
    """The same vocabulary in a new tokenizer with its special tokens; the trainer had marked bytes as special too."""
    learned = parse_json(trained.to_str())["model"]
    merges = [tuple(pair) for pair in learned["merges"]]
    tokenizer = Tokenizer(models.BPE(vocab=learned["vocab"], merges=merges, unk_token="<unk>", byte_fallback=True))
    split_like_llama(tokenizer)
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.add_special_tokens([*SPECIAL, *ADDED])
    start = ("<s>", tokenizer.token_to_id("<s>"))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[start]
    )
    return tokenizer


def split_like_llama(tokenizer: Tokenizer) -> None:
    """Set the pre-tokenizer: a ▁ before each word; punctuation marks and digits are single tokens."""
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split("▁", "merged_with_next"), pre_tokenizers.Split(Regex("[^▁A-Za-z]"), "isolated")]
    )


def save_tokenizer(tokenizer: Tokenizer, folder: Path) -> None:
    """Write `tokenizer.json` and the two small files that name its special tokens."""
    write_text(folder / "tokenizer.json", tokenizer.to_str(pretty=True))
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
