"""Stand-ins for the small files of a random checkpoint, so that it can be asked although nobody trained it.

The words are made up, but as many as in the real model, and the picture's token has its true id. So prompts have about
their true length, and the embedding and the head their true size.
"""

import json
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from minivlm.checkpoints.maker import make_random_checkpoint
from minivlm.errors import CheckpointError
from minivlm.files import write_text
from minivlm.model.config import LlavaConfig

END, IMAGE = "</s>", "<image>"
MERGES = (("Ġ", "a"), ("Ġa", "n"), ("Ġan", "d"))  # Ġ is a space: " a" and " and" become one token each


def make_random_model(folder: str | Path, config: LlavaConfig, **how: Any) -> Path:
    """A random checkpoint that can be asked; `how`: further arguments of `make_random_checkpoint`. Returns its folder.

    Raises `CheckpointError` before anything is written.
    """
    files = stand_in_files(config)
    folder = make_random_checkpoint(folder, config, **how)
    for name, text in files.items():
        write_text(folder / name, text)
    return folder


def stand_in_files(config: LlavaConfig) -> dict[str, str]:
    """Name -> content: the tokenizer's files, and the preprocessor's for a tower that has no usual one."""
    files = {
        "tokenizer.json": stand_in_tokenizer(config).to_str(),
        "tokenizer_config.json": json.dumps({"eos_token": END}),
        "generation_config.json": json.dumps({"eos_token_id": 0}),
    }
    tower = config.vision_config
    if not tower.class_token:  # SigLIP's pixels lie between -1 and 1
        size = {"height": tower.image_size, "width": tower.image_size}
        half = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
        files["preprocessor_config.json"] = json.dumps({"size": size, "resample": 3, **half})
    return files


def stand_in_tokenizer(config: LlavaConfig) -> Tokenizer:
    """A byte-level tokenizer: the end of an answer, the bytes, MERGES, made-up words " w300", and the picture's token.

    Raises `CheckpointError` if the picture's token stands where the bytes must be.
    """
    words = [END, *sorted(pre_tokenizers.ByteLevel.alphabet()), *map("".join, MERGES)]
    image, rows = config.image_token_index, config.text_config.vocab_size
    if min(image, rows) < len(words):
        raise CheckpointError(
            f"A stand-in for the tokenizer needs {len(words)} ids before the picture's, found image_token_index "
            f"{image} in a vocabulary of {rows}. Copy a tokenizer with --tokenizer FOLDER."
        )
    words += [f"Ġw{row}" for row in range(len(words), min(image, rows))]
    tokenizer = Tokenizer(models.BPE({word: row for row, word in enumerate(words)}, list(MERGES)))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([END, IMAGE] if image < rows else [END])
    return tokenizer
