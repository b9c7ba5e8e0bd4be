"""The oracle: what could be gained by aiming attention, if one knew where to look.

While a caption is written, the attention of its rows is drawn toward the boxes of the objects that are in the picture
and have not yet been named (see `model/aim.py`). That is no method, since it is told what is there; it is the ceiling
of all methods that aim attention. Where the oracle does not lower CHAIR_i, there is nothing for them to gain.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from minivlm.errors import ConfigError
from minivlm.inference.generate import GREEDY, Chooser, fitting_steps, new_cache
from minivlm.inference.vlm import VLM
from minivlm.inference.writer import Writer
from minivlm.model import NO_CHANGES, Aim, Earlier
from minivlm.toyworld.labels import coverage
from minivlm.toyworld.scenes import Scene, Thing
from minivlm.toyworld.words import mentions

TARGETS = ("unnamed", "random", "elsewhere")
BATCH = 50  # captions written at once
MOST = 96  # tokens of a caption


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
    """Knows where the objects of one scene are, on a grid of `side` × `side` patches."""

    def __init__(self, scene: Scene, side: int) -> None:
        self.boxes = {name: boxes(scene.of(name), side, scene.size) for name in scene.names}  # (P,) each
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


def boxes(things: Sequence[Thing], side: int, size: int) -> Tensor:
    """(P,): how much of each patch the boxes of the things cover, 0 to 1; P = side × side, row by row."""
    return sum((coverage(thing, side, size) for thing in things), torch.zeros(side, side)).clamp(max=1).flatten()


def patch_side(vlm: VLM) -> int:
    """How many patches a picture has in a row."""
    return round(vlm.model.config.num_image_tokens**0.5)


def aimed_captions(
    vlm: VLM, scenes: Sequence[Scene], question: str, layers: Sequence[int], strength: float = 0.5, **settings
) -> list[str]:
    """Greedy answers to `question`, written under the oracle's eyes; `settings`: further fields of `Oracle`."""
    oracle, captions = Oracle(tuple(layers), strength, **settings), []
    for start in range(0, len(scenes), BATCH):
        captions += write_aimed(vlm, scenes[start : start + BATCH], question, oracle)
    return captions


@torch.inference_mode()
def write_aimed(vlm: VLM, scenes: Sequence[Scene], question: str, oracle: Oracle) -> list[str]:
    """One batch of captions. A loop of its own, since the target changes with every word; it ends as `vlm.ask` does."""
    inputs = vlm.prepare_many([scene.picture for scene in scenes], [question] * len(scenes), asked=True)
    tokens, pixels, valid = inputs.tokens, inputs.pixels, inputs.valid
    prompt = tokens.shape[1]
    most = fitting_steps(vlm.model, prompt, MOST)
    cache = new_cache(vlm.model, len(scenes), prompt + most)
    chooser = Chooser(len(scenes), GREEDY, vlm.allowed.to(vlm.device), vlm.tokenizer.stops, vlm.device)
    writers = [Writer(vlm.tokenizer, GREEDY) for _ in scenes]
    guides = [Guide(scene, patch_side(vlm)) for scene in scenes]
    how = {"cache": cache, "last": True, "earlier": Earlier(prompt, NO_CHANGES)}
    for _ in range(most):
        aim = oracle.aim(guides, [writer.text for writer in writers], vlm.device)
        output = vlm.model(tokens, pixels, valid=valid, mitigation=aim, **how)
        chosen = chooser.choose(output.logits[:, -1])
        for writer, token in zip(writers, chosen, strict=True):
            writer.push(token)
        if chooser.finished:
            break
        tokens, pixels = torch.tensor(chosen, device=vlm.device)[:, None], None
        valid = F.pad(valid, (0, 1), value=True)
    for writer in writers:
        writer.close("length")
    return [writer.text for writer in writers]
