"""Pretraining of the vision tower by classification, before it is joined to a language model.

Three linear heads, with targets from the drawn scene: which objects are in the picture (from the class token), and
which object and which colour each patch shows (from the layer that LLaVA reads). N pictures, P patches, S pixels a
side.
"""

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from minivlm.model import LlavaConfig
from minivlm.model.projector import select_features
from minivlm.model.vision import VisionTower
from minivlm.toyworld.themes import OBJECT_NAMES
from minivlm.training.labels import COLOR_NUMBER, Labels
from minivlm.training.recipe import Stage
from minivlm.training.schedule import Training

ToPixels = Callable[[Tensor], Tensor]  # (N, S, S, 3) uint8 to normalised (N, 3, S, S)


class TowerPretraining(nn.Module):
    """The tower with three linear heads, which are discarded after the pretraining."""

    def __init__(self, tower: VisionTower, config: LlavaConfig) -> None:
        super().__init__()
        self.tower, self.config = tower, config
        width = config.vision_config.hidden_size
        self.presence = nn.Linear(width, len(OBJECT_NAMES))
        self.objects = nn.Linear(width, 1 + len(OBJECT_NAMES))
        self.colors = nn.Linear(width, 1 + len(COLOR_NUMBER))

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits for `pixels` (N, 3, S, S): presence (N, objects), object and colour of each patch (N, P, classes)."""
        states = self.tower(pixels)
        patches = select_features(states, self.config)
        whole = self.tower.post_layernorm(states[-1])[:, 0]  # the class token
        return self.presence(whole), self.objects(patches), self.colors(patches)

    def loss(self, pixels: Tensor, labels: Labels) -> Tensor:
        """The weighted sum of the three cross-entropies, a scalar, for `pixels` (N, 3, S, S) and their labels."""
        presence, objects, colors = self(pixels)
        return (
            5 * F.binary_cross_entropy_with_logits(presence.float(), labels.present)
            + F.cross_entropy(rearrange(objects.float(), "N P C -> (N P) C"), labels.objects.flatten())
            + 0.3 * F.cross_entropy(rearrange(colors.float(), "N P C -> (N P) C"), labels.colors.flatten())
        )


def teach_tower(
    pretraining: TowerPretraining,
    pictures: Tensor,
    labels: Labels,
    stages: Mapping[str, Stage],
    training: Training,
    to_pixels: ToPixels,
) -> None:
    """Train in place on `pictures` (N, S, S, 3) uint8, augmented by `vary`; `stages`: name -> stage, in order."""

    def loss_of(drawn: Tensor, generator: torch.Generator) -> Tensor:
        """The loss (a scalar) of the pictures `drawn` (batch,)."""
        pixels, target = vary(to_pixels(pictures[drawn]), labels[drawn], generator)
        return pretraining.loss(pixels.to(training.device), target.to(training.device))

    for name, stage in stages.items():
        training.run(name, stage, pretraining.parameters(), len(pictures), loss_of)


def vary(pixels: Tensor, labels: Labels, generator: torch.Generator) -> tuple[Tensor, Labels]:
    """Mirror half of the pictures `pixels` (N, 3, S, S) with their labels; vary contrast and brightness of all."""
    count = len(pixels)
    flip = torch.rand(count, generator=generator) < 0.5
    gain, shift = 1 + 0.15 * torch.randn(2, count, 1, 1, 1, generator=generator)
    mirrored = torch.where(flip[:, None, None, None], pixels.flip(-1), pixels) * gain + (shift - 1)
    objects, colors = (mirror_patches(grid, flip) for grid in (labels.objects, labels.colors))
    return mirrored, Labels(objects, colors, labels.themes, labels.present)


def mirror_patches(grid: Tensor, flip: Tensor) -> Tensor:
    """The labels `grid` (N, P) mirrored left to right in the pictures where `flip` (N,) is True."""
    side = int(grid.shape[1] ** 0.5)
    mirrored = rearrange(grid, "N (rows columns) -> N rows columns", columns=side).flip(-1).flatten(1)
    return torch.where(flip[:, None], mirrored, grid)
