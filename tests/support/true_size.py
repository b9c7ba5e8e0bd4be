"""Write llava-interleave-qwen-0.5b with random weights of its true shape (1.7 GB), and all small files it comes with.

    PYTHONPATH=tests python -m support.true_size FOLDER [tokenizer.json]
    pytest -n 0 -m real --checkpoint FOLDER --certificate certificate.md

Its own `tokenizer.json` is taken where one is given. Otherwise a stand-in is made: bytes, a few merges, and as many
made-up words as it takes for the special tokens to have their true ids.
"""

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from tokenizers import AddedToken, Tokenizer, models

from minivlm.checkpoints.maker import make_random_checkpoint
from minivlm.files import replace_file
from support.interleave import CHATML, SPECIALS, byte_level_tokenizer

SIZE = "llava-interleave-qwen-0.5b"
FIRST_SPECIAL = 151643
PREPROCESSOR = {
    "image_processor_type": "SiglipImageProcessor",
    "processor_class": "LlavaProcessor",
    "do_convert_rgb": True,
    "do_normalize": True,
    "do_rescale": True,
    "do_resize": True,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
    "resample": 3,
    "rescale_factor": 1 / 255,
    "size": {"height": 384, "width": 384},
}
PROCESSOR = {
    "processor_class": "LlavaProcessor",
    "image_token": SPECIALS[3],
    "num_additional_image_tokens": 0,
    "patch_size": 14,
    "vision_feature_select_strategy": "full",
}
WORDS = {
    "tokenizer_class": "PreTrainedTokenizerFast",
    "eos_token": SPECIALS[2],
    "pad_token": SPECIALS[0],
    "extra_special_tokens": {"image_token": SPECIALS[3]},
    "padding_side": "left",
}


def stand_in_tokenizer() -> Tokenizer:
    """Letters are bytes; the rows between its few words and the special tokens are made-up words, " w400" and so on."""
    small = byte_level_tokenizer().backend_tokenizer
    learned = json.loads(small.to_str())["model"]
    vocabulary = {word: row for word, row in learned["vocab"].items() if word not in SPECIALS}
    vocabulary |= {f"Ġw{row}": row for row in range(len(vocabulary), FIRST_SPECIAL)}
    made = Tokenizer(models.BPE(vocabulary, [tuple(pair) for pair in learned["merges"]]))
    made.pre_tokenizer, made.decoder = small.pre_tokenizer, small.decoder
    made.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in SPECIALS])
    return made


def write_true_size(folder: Path, tokenizer: Tokenizer, **how) -> Path:
    """The whole folder; `how` goes to `make_random_checkpoint`."""
    ids = [tokenizer.token_to_id(name) for name in SPECIALS]
    if ids != list(range(FIRST_SPECIAL, FIRST_SPECIAL + len(SPECIALS))):
        raise SystemExit(f"This is not the model's tokenizer: {', '.join(SPECIALS)} have the ids {ids}.")
    make_random_checkpoint(folder, SIZE, **how)
    sharpen(folder / "model.safetensors")
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "chat_template.jinja").write_text(CHATML, encoding="utf-8")
    ends = {"eos_token_id": ids[2], "bos_token_id": ids[0]}
    files = {"preprocessor_config": PREPROCESSOR, "processor_config": PROCESSOR, "tokenizer_config": WORDS}
    for name, content in (files | {"generation_config": ends}).items():
        (folder / f"{name}.json").write_text(json.dumps(content, indent=2), encoding="utf-8")
    return folder


def sharpen(file: Path) -> None:
    """Double the queries of the decoder: each token then looks at about a dozen others, not at all of them alike."""
    tensors = load_file(file)
    for key, tensor in tensors.items():
        if key.startswith("language_model") and key.endswith("q_proj.weight"):
            tensors[key] = tensor * 2
    replace_file(file, lambda part: save_file(tensors, part, metadata={"format": "pt"}))


def main(folder: str, tokenizer: str | None = None) -> None:
    words = Tokenizer.from_file(tokenizer) if tokenizer else stand_in_tokenizer()
    print(write_true_size(Path(folder), words, dtype=torch.bfloat16))


if __name__ == "__main__":
    main(*sys.argv[1:])
