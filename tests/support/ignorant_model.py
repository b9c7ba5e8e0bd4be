"""A checkpoint that can be asked, though it knows nothing; and a Ctrl-C while it answers."""

from dataclasses import replace
from pathlib import Path

import torch

from minivlm.checkpoints.save import save_checkpoint
from minivlm.inference.generate import sample
from minivlm.toyworld import TRAINING
from minivlm.training.recipe import Recipe
from minivlm.training.train import new_model, sentences
from minivlm.training.vocabulary import save_tokenizer, train_tokenizer


def save_ignorant_model(folder: Path, layers: int = 4) -> Path:
    """The shipped model's parts, small and random; CLVA needs three layers."""
    torch.manual_seed(0)
    tokenizer = train_tokenizer(sentences(TRAINING, 0, scenes=50), 500)
    recipe = replace(Recipe.quick(), text_layers=layers)
    save_checkpoint(new_model(tokenizer, recipe, TRAINING), folder, dtype=torch.float32)
    save_tokenizer(tokenizer, folder)
    return folder


def interrupt_at(step: int):
    """`generate.sample`, with a Ctrl-C instead of the step's token."""
    calls = []

    def interrupted(*args):
        calls.append(1)
        if len(calls) == step:
            raise KeyboardInterrupt
        return sample(*args)

    return interrupted
