"""The oracle: attention redistributed toward ground-truth patches; an upper bound for methods that move attention.

While a caption is generated, the attention of its rows is redistributed toward the boxes of the objects that are in the
picture and not yet named (see `model/aim.py`). This is not a method, since it uses the ground truth. Where the oracle
does not lower CHAIR_i, methods that redistribute attention cannot either.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from minivlm.errors import ConfigError
from minivlm.inference.generate import GREEDY, Step
from minivlm.inference.streaming_text import StreamingText
from minivlm.inference.vlm import VLM
from minivlm.inputs.image import ImagePreprocessing
from minivlm.inputs.patches import patch_mask
from minivlm.model import Aim, LlavaConfig
from minivlm.toyworld.scenes import Scene
from minivlm.toyworld.words import mentions

TARGETS = ("unnamed", "random", "elsewhere")


@dataclass(frozen=True)
class Oracle:
    """Settings of the oracle. Two targets are controls: "random" (as many patches, anywhere) and "elsewhere"."""

    layers: tuple[int, ...]
    strength: float = 0.5  # the share of the attention on the picture that is redistributed; 0 changes nothing
    kappa: float = 1.0  # factor on the total attention on the picture
    target: str = "unnamed"  # one of TARGETS

    def __post_init__(self) -> None:
        if self.target not in TARGETS:
            raise ConfigError(f"Oracle.target must be one of {', '.join(TARGETS)}, found {self.target!r}.")

    def aim(self, guides: Sequence["Guide"], texts: Sequence[str], device: torch.device) -> Aim:
        """The `Aim` of the next step, after each sample's text has been written; one guide for each sample."""
        targets = [guide.target(text, self.target) for guide, text in zip(guides, texts, strict=True)]
        return Aim(torch.stack(targets).to(device), self.layers, self.strength, self.kappa)


class Guide:
    """The ground truth of one scene: its objects on the `side` × `side` patches of the preprocessed picture."""

    def __init__(self, scene: Scene, preprocessing: ImagePreprocessing, side: int) -> None:
        self.boxes = object_masks(scene, preprocessing, side)
        self.nowhere = torch.zeros(side * side)
        self.shuffled = torch.randperm(side * side, generator=torch.Generator().manual_seed(scene.seed))

    def target(self, text: str, kind: str = "unnamed") -> Tensor:
        """The target (P,): how much of each patch is in boxes of objects not named in `text`; all 0 if all are named.

        "random" moves these values to other patches, by one permutation for each scene; "elsewhere" has 1 for patches
        that no box touches.
        """
        if kind == "elsewhere":
            return (sum(self.boxes.values(), self.nowhere) == 0).float()
        named = set(mentions(text))
        left = sum((box for name, box in self.boxes.items() if name not in named), self.nowhere)
        return left[self.shuffled] if kind == "random" else left


def object_masks(scene: Scene, preprocessing: ImagePreprocessing, side: int) -> dict[str, Tensor]:
    """Object -> the share of each patch that its boxes cover, (P,); `side`: patches along a side of the picture."""
    size = (scene.size, scene.size)
    return {
        name: patch_mask([thing.box for thing in scene.of(name)], size, preprocessing, side) for name in scene.names
    }


def patch_side(config: LlavaConfig) -> int:
    """The number of patches along a side of the picture."""
    return round(config.num_image_tokens**0.5)


class Aiming:
    """The oracle as a mitigation that changes at every step: called with the latest step, it returns the next `Aim`."""

    def __init__(self, vlm: VLM, oracle: Oracle, scenes: Sequence[Scene]) -> None:
        self.oracle, self.device = oracle, vlm.device
        self.guides = [Guide(scene, vlm.preprocessing, patch_side(vlm.model.config)) for scene in scenes]
        self.writers = [StreamingText(vlm.tokenizer, GREEDY) for _ in scenes]

    def __call__(self, step: Step | None) -> Aim:
        for writer, token in zip(self.writers, step.chosen if step else (), strict=bool(step)):
            writer.push(token)
        return self.oracle.aim(self.guides, [writer.text for writer in self.writers], self.device)
