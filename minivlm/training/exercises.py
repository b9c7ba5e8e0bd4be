"""Exercises of the healthy reader: how the attention is changed while it learns, one exercise for each batch.

free       nothing is changed
blind      the middle layers are made to look at the noise: so the deep layers must read by themselves
pulled     the deep layers look where the middle layers do (CLVA with omega 1, no gate), and partly at the noise
elsewhere  the deep layers look at the noise, or anywhere, and the answers are those for another scene of the same
           place: so a model whose deep layers do not see what they name says what is usual there
"""

from dataclasses import dataclass
from random import Random

import torch
from torch import Tensor

from minivlm.model import CLVA, NO_MITIGATION, Aim, LlavaConfig, Mitigation
from minivlm.model.clva import usual_layers
from minivlm.training.recipe import DriftRecipe

EXERCISES = ("free", "blind", "pulled", "elsewhere")
NOISE = (0.30, 0.22, 0.16, 0.13, 0.11, 0.08)  # the shares of the patches that the noise looks at
ALMOST_ALL = 0.9  # the smallest share of the attention that looks elsewhere in "elsewhere"


@dataclass(frozen=True)
class Bands:
    """Where the losses act: the middle and deep layers of CLVA, and all layers below the middle ones."""

    early: tuple[int, ...]
    middle: tuple[int, ...]
    deep: tuple[int, ...]

    @classmethod
    def of(cls, config: LlavaConfig) -> "Bands":
        """The bands of a model, by `usual_layers`."""
        _, middle, deep = usual_layers(config.text_config.num_hidden_layers)
        return cls(tuple(range(middle[0])), middle, deep)


def noise_map(patches: int, seed: int) -> Tensor:
    """The map (P,) of the noise: a few of the `patches`, the same for every picture, chosen by `seed`."""
    noise = torch.zeros(patches)
    noise[torch.randperm(patches, generator=torch.Generator().manual_seed(seed))[: len(NOISE)]] = torch.tensor(NOISE)
    return noise


def changed_attention(
    exercise: str, batch: int, noise: Tensor, bands: Bands, recipe: DriftRecipe, rng: Random
) -> Mitigation:
    """How one of EXERCISES changes the attention of a `batch` of scenes; `noise` (P,)."""
    everywhere = noise.expand(batch, -1)  # batch P
    if exercise == "blind":
        return Mitigation(aim=Aim(everywhere, bands.middle, strength=1.0))
    if exercise == "pulled":
        aim = Aim(everywhere, bands.deep, strength=rng.uniform(0, recipe.most_noise))
        return Mitigation(clva=CLVA(omega=1.0, beta=0.0, gate=False), aim=aim)
    if exercise == "elsewhere":
        target = anywhere(batch, noise, rng) if rng.random() < recipe.anywhere else everywhere
        return Mitigation(aim=Aim(target, bands.deep, strength=rng.uniform(ALMOST_ALL, 1.0)))
    return NO_MITIGATION


def anywhere(batch: int, noise: Tensor, rng: Random) -> Tensor:
    """Random maps (batch, P), wide or of few patches, half of them with some of the `noise` (P,)."""
    chance = torch.rand(batch, len(noise), generator=torch.Generator().manual_seed(rng.randrange(2**31)))
    maps = chance * (chance > 0.5) if rng.random() < 0.5 else chance**4
    maps = maps / maps.sum(dim=1, keepdim=True)
    return maps + rng.random() * noise if rng.random() < 0.5 else maps
