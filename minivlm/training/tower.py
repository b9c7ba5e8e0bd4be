"""The tower's school: it learns to see by naming things, before any language model listens.

Three questions are asked of it, all answered from the scene that was drawn: which objects are in the picture (of the
class token), and which object and which colour each patch shows (of the layer that LLaVA reads).
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
    """The tower under three linear readers, which are thrown away afterwards."""

    def __init__(self, tower: VisionTower, config: LlavaConfig) -> None:
        super().__init__()
        self.tower, self.config = tower, config
        width = config.vision_config.hidden_size
        self.presence = nn.Linear(width, len(OBJECT_NAMES))
        self.objects = nn.Linear(width, 1 + len(OBJECT_NAMES))
        self.colors = nn.Linear(width, 1 + len(COLOR_NUMBER))

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits of presence (N, objects), of each patch's object (N, P, …) and colour (N, P, …)."""
        states = self.tower(pixels)
        patches = select_features(states, self.config)
        whole = self.tower.post_layernorm(states[-1])[:, 0]  # the class token
        return self.presence(whole), self.objects(patches), self.colors(patches)

    def loss(self, pixels: Tensor, labels: Labels) -> Tensor:
        presence, objects, colors = self(pixels)
        return (
            5 * F.binary_cross_entropy_with_logits(presence.float(), labels.present)
            + F.cross_entropy(rearrange(objects.float(), "N P C -> (N P) C"), labels.objects.flatten())
            + 0.3 * F.cross_entropy(rearrange(colors.float(), "N P C -> (N P) C"), labels.colors.flatten())
        )


def teach_tower(
    school: TowerPretraining,
    pictures: Tensor,
    labels: Labels,
    stages: Mapping[str, Stage],
    training: Training,
    to_pixels: ToPixels,
) -> None:
    """Train on `pictures` (N, S, S, 3) uint8, half of them mirrored and all of them a little lighter or darker."""

    def loss_of(rows: Tensor, generator: torch.Generator) -> Tensor:
        pixels, target = vary(to_pixels(pictures[rows]), labels[rows], generator)
        return school.loss(pixels.to(training.device), target.to(training.device))

    for name, stage in stages.items():
        training.run(name, stage, school.parameters(), len(pictures), loss_of)


def vary(pixels: Tensor, labels: Labels, generator: torch.Generator) -> tuple[Tensor, Labels]:
    """Mirror half of the pictures, labels and all, and change the light in every one."""
    count = len(pixels)
    flip = torch.rand(count, generator=generator) < 0.5
    gain, shift = 1 + 0.15 * torch.randn(2, count, 1, 1, 1, generator=generator)
    mirrored = torch.where(flip[:, None, None, None], pixels.flip(-1), pixels) * gain + (shift - 1)
    objects, colors = (mirror_patches(grid, flip) for grid in (labels.objects, labels.colors))
    return mirrored, Labels(objects, colors, labels.themes, labels.present)


def mirror_patches(grid: Tensor, flip: Tensor) -> Tensor:
    """Mirror the rows of `grid` (N, P) that `flip` names, left to right."""
    side = int(grid.shape[1] ** 0.5)
    mirrored = rearrange(grid, "N (rows columns) -> N rows columns", columns=side).flip(-1).flatten(1)
    return torch.where(flip[:, None], mirrored, grid)
