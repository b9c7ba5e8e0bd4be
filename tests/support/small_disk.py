"""One write of each kind of result, into a folder; for a process in which no file can become larger than 4 KB."""

from functools import partial
from pathlib import Path

import torch

from minivlm.checkpoints.maker import make_random_checkpoint
from minivlm.checkpoints.save import save_checkpoint
from minivlm.checkpoints.shards import write_tensors
from minivlm.experiments.demo import save_row
from minivlm.files import replace_file, write_json, write_text
from minivlm.inference import trace_file
from minivlm.toyworld.world import HELD_OUT
from minivlm.training.vocabulary import save_tokenizer, train_tokenizer
from support.tiny_model import SENTENCES, tiny_config, tiny_llava

LARGE = {"a": torch.zeros(10_000)}
MODEL, TOKENIZER = tiny_llava(), train_tokenizer(SENTENCES * 3, size=400)
SCENE = HELD_OUT.draw(0)

WRITES = {
    "text": lambda folder: write_text(Path(folder) / "kept", "x" * 10_000),
    "json": lambda folder: write_json(Path(folder) / "card.json", {"x": "x" * 10_000}),
    "tensors": lambda folder: write_tensors(Path(folder) / "a.safetensors", LARGE, {}),
    "checkpoint": lambda folder: save_checkpoint(MODEL, folder),
    "random": lambda folder: make_random_checkpoint(folder, tiny_config()),
    "trace": lambda folder: trace_file.save(Path(folder) / "a.safetensors", {}, LARGE),
    "figure": lambda folder: save_row([SCENE], Path(folder) / "demo.png"),
    "tokenizer": lambda folder: save_tokenizer(TOKENIZER, Path(folder)),
    "table": lambda folder: replace_file(Path(folder) / "grades.csv", partial(Path.write_bytes, data=b"x" * 10_000)),
}
