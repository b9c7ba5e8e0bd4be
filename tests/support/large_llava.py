"""Write LLaVA-1.5 with random weights of a true size, with a stand-in for its tokenizer, to measure hardware with.

    PYTHONPATH=tests python -m support.large_llava FOLDER [llava-1.5-7b|llava-1.5-13b]

The stand-in has the true number of words, most of them made up, and the picture's token at its true place.
"""

import sys
from pathlib import Path

from minivlm.checkpoints.maker import known_config, make_random_checkpoint
from support.small_tokenizer import small_definition, write_small_tokenizer


def stand_in_tokenizer(image: int) -> dict:
    """A tokenizer.json in which `<image>` has the id `image`, and made-up words, " w400" and so on, stand before it."""
    definition = small_definition()
    known = definition["model"]["vocab"]
    definition["model"]["vocab"] = known | {f"▁w{row}": row for row in range(len(known), image)}
    for token in definition["added_tokens"]:
        if token["id"] >= len(known):
            token["id"] += image - len(known)
    return definition


def write_large_llava(folder: Path, size: str = "llava-1.5-7b") -> Path:
    """The whole folder; weights are bf16."""
    make_random_checkpoint(folder, size)
    return write_small_tokenizer(folder, stand_in_tokenizer(known_config(size).image_token_index))


if __name__ == "__main__":
    print(write_large_llava(Path(sys.argv[1]), *sys.argv[2:]))
