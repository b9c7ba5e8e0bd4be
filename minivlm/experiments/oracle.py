"""The oracle: what could be gained by aiming attention, if one knew where to look.

While a caption is written, the attention of its rows is drawn toward the boxes of the objects that are in the picture
and have not yet been named (see `model/aim.py`). That is no method, since it is told what is there; it is the ceiling
of all methods that aim attention. Where the oracle does not lower CHAIR_i, there is nothing for them to gain.
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
    """How the attention is drawn. The controls among the targets: "random" (as many patches, anywhere), "elsewhere"."""

    layers: tuple[int, ...]
    strength: float = 0.5  # the share of the attention on the picture that is drawn away; 0 leaves all as it is
    kappa: float = 1.0  # how much of its attention the picture keeps
    target: str = "unnamed"

    def __post_init__(self) -> None:
        if self.target not in TARGETS:
            raise ConfigError(f"Oracle.target must be one of {', '.join(TARGETS)}, found {self.target!r}.")

    def aim(self, guides: Sequence["Guide"], texts: Sequence[str], device: torch.device) -> Aim:
        """Where to look next, after `texts` have been written."""
        targets = [guide.target(text, self.target) for guide, text in zip(guides, texts, strict=True)]
        return Aim(torch.stack(targets).to(device), self.layers, self.strength, self.kappa)


class Guide:
    """Knows where the objects of one scene are, on the `side` × `side` patches of its preprocessed picture."""

    def __init__(self, scene: Scene, preprocessing: ImagePreprocessing, side: int) -> None:
        self.boxes = object_masks(scene, preprocessing, side)
        self.nowhere = torch.zeros(side * side)
        self.shuffled = torch.randperm(side * side, generator=torch.Generator().manual_seed(scene.seed))

    def target(self, text: str, kind: str = "unnamed") -> Tensor:
        """(P,): the share of each patch in the boxes of what is not yet named in `text`; all 0 if nothing is left.

        "random" puts the same shares on other patches, always on the same ones for an object; "elsewhere" are
        the patches that no box touches.
        """
        if kind == "elsewhere":
            return (sum(self.boxes.values(), self.nowhere) == 0).float()
        named = set(mentions(text))
        left = sum((box for name, box in self.boxes.items() if name not in named), self.nowhere)
        return left[self.shuffled] if kind == "random" else left


def object_masks(scene: Scene, preprocessing: ImagePreprocessing, side: int) -> dict[str, Tensor]:
    """For each object of the scene the share of every patch that its boxes cover, (P,)."""
    size = (scene.size, scene.size)
    return {
        name: patch_mask([thing.box for thing in scene.of(name)], size, preprocessing, side) for name in scene.names
    }


def patch_side(config: LlavaConfig) -> int:
    """How many patches a picture has in a row."""
    return round(config.num_image_tokens**0.5)


class Aiming:
    """The oracle while a batch of captions is written: from the latest step to where the rows look next."""

    def __init__(self, vlm: VLM, oracle: Oracle, scenes: Sequence[Scene]) -> None:
        self.oracle, self.device = oracle, vlm.device
        self.guides = [Guide(scene, vlm.preprocessing, patch_side(vlm.model.config)) for scene in scenes]
        self.writers = [StreamingText(vlm.tokenizer, GREEDY) for _ in scenes]

    def __call__(self, step: Step | None) -> Aim:
        for writer, token in zip(self.writers, step.chosen if step else (), strict=bool(step)):
            writer.push(token)
        return self.oracle.aim(self.guides, [writer.text for writer in self.writers], self.device)
