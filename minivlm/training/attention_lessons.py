"""Lessons about attention: which patches each row of a lesson should look at, and the losses that teach it.

A row *names* an object if the token after it belongs to the object's name in an answer, or if it decides a question
about the object. Such rows should look at the object's boxes. B scenes, T tokens, P patches, H heads.
"""

from collections.abc import Sequence

import torch
from tokenizers import Tokenizer
from torch import Tensor

from minivlm.toyworld.scenes import Scene
from minivlm.toyworld.words import FORM, FORMS
from minivlm.training.labels import patches_of
from minivlm.training.lessons import Pairs

LEAST = 1e-6  # of a share of attention, before its logarithm
ENOUGH_MASS = 0.5  # of a row's attention on the picture; more is not rewarded
MASS_WEIGHT = 0.2  # of the reward for it, against that for the right patches


def named_rows(tokenizer: Tokenizer, pairs: Pairs) -> list[str | None]:
    """For each token behind the picture of one scene's lesson the object that its row names, or None."""
    return [name for question, answer in pairs for name in named_in(tokenizer, question, answer)]


def named_in(tokenizer: Tokenizer, question: str, answer: str) -> list[str | None]:
    """For each token of a question, its answer and the </s> behind them the object that its row names, or None."""
    asked, text = f"\n{question} ASSISTANT:", f"\n{question} ASSISTANT: {answer}"
    prompt = len(tokenizer.encode(asked, add_special_tokens=False).ids)
    whole = tokenizer.encode(text, add_special_tokens=False)
    of_token: list[str | None] = [None] * len(whole.ids)
    for match in FORM.finditer(text):
        for number, (start, end) in enumerate(whole.offsets):
            if end > match.start() and start < match.end():
                of_token[number] = FORMS[match.group().lower()]
    decided = next((name for name in of_token[:prompt] if name), None)  # the object that the question is about
    named = [*of_token[1:], None, None]  # a row names what the next token names; </s> names nothing
    return [None] * (prompt - 1) + [named[prompt - 1] or decided] + named[prompt:]


def box_targets(
    scenes: Sequence[Scene], named: Sequence[Sequence[str | None]], tokens: int, prefix: int, side: int
) -> Tensor:
    """(B, T, P) bool: the patches of the object that each row names; all False for a row that names none in its scene.

    `named` is of each scene, with a name for each token behind the prefix (see `named_rows`), `tokens` is T, `prefix`
    the number of tokens before them, and `side` that of the patches along a side.
    """
    targets = torch.zeros(len(scenes), tokens, side * side, dtype=torch.bool)
    for target, scene, names in zip(targets, scenes, named, strict=True):
        for name in {name for name in names if name in scene.names}:
            boxes = torch.stack([patches_of(thing, side, scene.size) for thing in scene.of(name)]).any(dim=0)
            target[[prefix + row for row, other in enumerate(names) if other == name]] = boxes.flatten()
    return targets


def box_loss(on_patches: Tensor, targets: Tensor) -> Tensor:
    """How far the attention `on_patches` (B, H, T, P) of rows with a target (B, T, P) is from its patches; a scalar.

    The mean over heads of -log(share of the picture's attention that is on the target), and a smaller reward for the
    share of all attention that is on the picture, so that the target matters.
    """
    mass = on_patches.sum(dim=-1)  # B H T
    share = (on_patches * targets[:, None]).sum(dim=-1) / mass.clamp(min=LEAST)
    reward = share.clamp(min=1e-4).log() + MASS_WEIGHT * mass.clamp(LEAST, ENOUGH_MASS).log()
    return -mean_over(reward.mean(dim=1), targets.any(dim=-1))


def map_loss(on_patches: Tensor, wanted: Tensor, rows: Tensor) -> Tensor:
    """The Kullback-Leibler divergence of maps from those `wanted`, the mean over heads and `rows` (B, T) bool.

    `on_patches` (B, H, T, P) and `wanted`, (P,) for one map or (B, H, T, P), are scaled to a sum of 1. P may be
    all columns, too.
    """
    share, wanted = (part / part.sum(dim=-1, keepdim=True).clamp(min=LEAST) for part in (on_patches, wanted))
    divergence = (wanted * (wanted.clamp(min=LEAST).log() - share.clamp(min=LEAST).log())).sum(dim=-1)  # B H T
    return mean_over(divergence.mean(dim=1), rows)


def blind_loss(on_patches: Tensor, rows: Tensor) -> Tensor:
    """How much (a scalar) the attention `on_patches` (B, H, T, P) of `rows` (B, T) looks at the picture at all."""
    elsewhere = (1 - on_patches.sum(dim=-1)).clamp(min=1e-4)  # B H T
    return mean_over(-elsewhere.log().mean(dim=1), rows)


def mean_over(values: Tensor, rows: Tensor) -> Tensor:
    """The mean of `values` (B, T) over `rows` (B, T) bool, a scalar; 0 if there is no such row."""
    return (values * rows).sum() / rows.sum().clamp(min=1)
