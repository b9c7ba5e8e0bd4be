"""CLVA: deep layers are pulled from the noise of the first layers to the anchor of the middle ones (arXiv 2603.25088).

THIS IS A READING OF THE ABSTRACT. The paper's equations, layers and constants were not public to us; every line below
is our own guess at them, and every constant is a setting.

For one text row after the picture, with p_h the attention of head h on the patches (sum m_h), in layer l

    P_l = sum of p_h / sum of m_h, over the half of the heads with the largest m_h                  the layer's map

    n = mean of P_l over the noise layers                      "initial visual noise" of the early layers
    c = mean of P_l over the anchor layers
    g = mean of max(0, P_l - n) over the anchor layers,        "visual anchors" are acquired "at intermediate" layers,
        cut where it lies more than 3 standard deviations      "captured from attention dynamics": what rises in the
        above its mean, then all but the `keep` largest 0      middle, not what was high before
    a = g / sum of g

and in each deep layer

    r = (cos(P_l, n) - cos(c, n)) / (1 - cos(c, n)), in 0..1   "deep-layer attention regressing toward" the noise
    t = max(0, (1 - omega r) p_h + omega r m_h a - beta r m_h n)
    p_h <- kappa m_h t / sum of t                              "reinforces" the anchor "while suppressing" the noise

With kappa = 1 the attention on the picture stays as large as it was: only where it looks changes. Otherwise the whole
row is scaled back to 1. Each row has its own maps, found anew at prefill and at each decoding step, and kept until its
deep layers have read them. A row in which no patch gains, or whose gate r is 0, is left alone, also by kappa.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction

import torch
from torch import Tensor

from minivlm.errors import ConfigError
from minivlm.model.config import LlavaConfig
from minivlm.model.layout import Layout
from minivlm.model.redistribute import MOST_KAPPA, at_least_fp32, checked_layers, lies_in, normalised, redistributed

ANCHORS = ("gain", "shuffled", "random")
NOISE, ANCHOR, DEEP = (0.03, 0.14), (0.40, 0.70), (0.80, 1.0)  # of the depth: layers 1-4, 13-22, 26-31 of 32
OUTLIER = 3.0  # standard deviations
SLACK = 1e-6  # guards `ceil` against rounding: 0.07 of 100 are 7


@dataclass(frozen=True)
class CLVA:
    """Settings. `CLVA()` is filled in for the model that it meets, as `CLVA.for_model(config)` is beforehand."""

    noise_layers: tuple[int, ...] | None = None  # layers count from 0; None: by the model's depth
    anchor_layers: tuple[int, ...] | None = None
    deep_layers: tuple[int, ...] | None = None
    omega: float = 0.4  # how far the map is drawn to the anchor; 0 is a control
    beta: float = 0.2  # how much of the noise is taken off; 0 is a control
    kappa: float = 1.0  # how much of its attention the picture keeps
    gate: bool = True  # False is a control: correct as if every deep map had regressed
    anchor: str = "gain"  # controls: "shuffled" (the anchor's values on other patches), "random" (by `seed`)
    swapped: bool = False  # control: the noise layers serve as anchor layers, and the other way round
    keep: float = 1.0  # share of the patches that the anchor keeps
    heads: float = 0.5  # share of the heads that a layer's map is made of
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("noise_layers", "anchor_layers", "deep_layers"):
            if (layers := getattr(self, name)) is not None:
                object.__setattr__(self, name, checked_layers(f"CLVA.{name}", layers))
        checks = {
            "omega must lie in 0..1": lies_in(self.omega, 1) or self.omega == 0,
            "beta must lie in 0..1": lies_in(self.beta, 1) or self.beta == 0,
            f"kappa must be above 0 and at most {MOST_KAPPA:g}": lies_in(self.kappa, MOST_KAPPA),
            "keep must be above 0 and at most 1": lies_in(self.keep, 1),
            "heads must be above 0 and at most 1": lies_in(self.heads, 1),
            "seed must be a whole number": type(self.seed) is int,
            "gate must be True or False": isinstance(self.gate, bool),
            "swapped must be True or False": isinstance(self.swapped, bool),
            f"anchor must be one of {', '.join(ANCHORS)}": self.anchor in ANCHORS,
        }
        for sentence, holds in checks.items():
            if not holds:
                raise ConfigError(f"CLVA.{sentence}, found {getattr(self, sentence.split()[0])!r}.")
        self._check_order()

    @classmethod
    def for_model(cls, config: LlavaConfig, **changes) -> "CLVA":
        """The defaults for a checkpoint, with `changes`."""
        return cls(**changes).fitted(config)

    def fitted(self, config: LlavaConfig) -> "CLVA":
        """With the layers that are meant in a model of this depth."""
        depth = config.text_config.num_hidden_layers
        usual = dict(zip(("noise_layers", "anchor_layers", "deep_layers"), usual_layers(depth), strict=True))
        fitted = replace(self, **{name: layers for name, layers in usual.items() if getattr(self, name) is None})
        if max(last := (*fitted.read_layers, *fitted.deep_layers)) >= depth:
            raise ConfigError(f"CLVA names the layer {max(last)}, but the decoder has the layers 0 to {depth - 1}.")
        return fitted

    @property
    def read_layers(self) -> tuple[int, ...]:
        """The layers whose maps are kept."""
        return (*(self.noise_layers or ()), *(self.anchor_layers or ()))

    def _check_order(self) -> None:
        """No layer reads what has not been written: all maps are read before the first deep layer."""
        if self.deep_layers and self.read_layers and min(self.deep_layers) <= max(self.read_layers):
            raise ConfigError(
                f"CLVA.deep_layers begin at {min(self.deep_layers)}, but the noise and anchor layers reach up to "
                f"{max(self.read_layers)}: a deep layer would read the anchor before it is written. "
                "Name deep layers above all others."
            )
        if set(self.noise_layers or ()) & set(self.anchor_layers or ()):
            raise ConfigError(
                f"CLVA.noise_layers {self.noise_layers} and anchor_layers {self.anchor_layers} share one."
            )


def usual_layers(depth: int) -> tuple[tuple[int, ...], ...]:
    """Noise, anchor and deep layers as shares of the depth."""
    if depth < 3:
        raise ConfigError(f"CLVA needs a noise, an anchor and a deep layer, but the decoder has {depth} in all.")
    first_deep = min(round(DEEP[0] * depth), depth - 1)
    anchor = range(max(1, round(ANCHOR[0] * depth)), min(math.floor(ANCHOR[1] * depth) + 1, first_deep))
    noise = range(round(NOISE[0] * depth), min(math.floor(NOISE[1] * depth) + 1, anchor[0]))
    return tuple(noise), tuple(anchor), tuple(range(first_deep, depth))


# --- reading: in the noise and anchor layers ------------------------------------------------------------------------

# P below: the columns from the first patch of the batch to the last, `layout.span`; 0 where a column is no patch.


def pooled_map(weights: Tensor, layout: Layout, heads: float = 0.5) -> Tensor:
    """A layer's map of the picture (B, R, P), sum 1, or 0 for a row that sees no patch.

    Pooled over the share `heads` of the heads that look most at the picture, for each of the rows of `weights`
    (B, H, R, K) by itself.
    """
    on_patches = at_least_fp32(weights[..., layout.span]) * layout.patches  # B H R P
    mass = on_patches.sum(dim=-1)  # B H R
    most = math.ceil(heads * mass.shape[1] - SLACK)
    chosen = torch.zeros_like(mass).scatter(1, mass.topk(most, dim=1).indices, 1.0)
    return normalised((on_patches * chosen[..., None]).sum(dim=1))


@dataclass(frozen=True)
class Anchor:
    """What the deep layers are corrected by, (B, R, P) each."""

    noise: Tensor  # n, pulled away from
    middle: Tensor  # c, for the gate
    anchor: Tensor  # a, pulled to; all 0 for a row in which no patch gains


def find_anchor(maps: Mapping[int, Tensor], layout: Layout, clva: CLVA) -> Anchor:
    """Noise, middle and anchor from the `maps` (B, R, P) of the layers read."""
    sources = (clva.anchor_layers, clva.noise_layers) if clva.swapped else (clva.noise_layers, clva.anchor_layers)
    early, middle = (torch.stack([maps[layer] for layer in layers]) for layers in sources)  # layers B R P
    noise = early.mean(dim=0)
    gain = (middle - noise).clamp(min=0).mean(dim=0)
    anchor = normalised(keep_largest(without_outliers(gain, layout), clva.keep, layout))
    return Anchor(noise, middle.mean(dim=0), controlled(anchor, layout, clva))


def without_outliers(gain: Tensor, layout: Layout) -> Tensor:
    """`gain` (B, R, P), what lies more than 3 standard deviations above its mean cut to there."""
    inside = layout.seen(gain.shape[1])  # B R P
    count = inside.sum(dim=-1, keepdim=True).clamp(min=1)
    mean = gain.sum(dim=-1, keepdim=True) / count
    variance = ((gain - mean) ** 2 * inside).sum(dim=-1, keepdim=True) / count
    deviation = variance.clamp(min=torch.finfo(gain.dtype).tiny).sqrt()  # the root of 0 has no gradient
    return gain.minimum(mean + OUTLIER * deviation)


def keep_largest(gain: Tensor, share: float, layout: Layout) -> Tensor:
    """`gain` (B, R, P) with 0 for all but the largest `share` of the patches that each row sees."""
    if share == 1:
        return gain
    part = Fraction(share).limit_denominator(10**6)  # 0.07 of 100 are 7; in whole numbers, which every device has
    seen = layout.seen(gain.shape[1]).sum(dim=-1, keepdim=True)  # B R 1
    rank = gain.argsort(dim=-1, descending=True, stable=True).argsort(dim=-1)
    return gain * (rank * part.denominator < part.numerator * seen)


def controlled(anchor: Tensor, layout: Layout, clva: CLVA) -> Tensor:
    """The anchor (B, R, P), or what a control puts in its place; the same for all rows that see the same."""
    if clva.anchor == "gain":
        return anchor
    generator = torch.Generator().manual_seed(clva.seed)
    chance = torch.rand(int(layout.numbers.max()) + 1, generator=generator).to(anchor)[layout.numbers]  # B P
    seen = layout.seen(anchor.shape[1])  # B R P
    if clva.anchor == "random":
        found = anchor.any(dim=-1, keepdim=True)
        return normalised(chance[:, None] * seen) * found
    mixed = chance[:, None].masked_fill(~seen, 2).argsort(dim=-1, stable=True)  # what a row sees, shuffled; then others
    order = layout.numbers[:, None].masked_fill(~seen, seen.shape[2]).argsort(dim=-1, stable=True)  # the same in order
    return torch.zeros_like(anchor).scatter(-1, order, anchor.gather(-1, mixed))


# --- correcting: in the deep layers ---------------------------------------------------------------------------------


def drift_gate(weights: Tensor, found: Anchor, layout: Layout, clva: CLVA) -> Tensor:
    """How far each row of this deep layer has regressed, r (B, R): 0 as far from the noise as the middle, 1 at it."""
    ready = found.anchor.any(dim=-1)  # B R
    if not clva.gate:
        return ready.to(found.anchor.dtype)
    here = torch.cosine_similarity(pooled_map(weights, layout, clva.heads), found.noise, dim=-1)
    middle = torch.cosine_similarity(found.middle, found.noise, dim=-1)
    room = (1 - middle).clamp(min=torch.finfo(middle.dtype).eps)
    return ((here - middle) / room).clamp(0, 1) * ready


def pull_to_anchor(weights: Tensor, found: Anchor, gate: Tensor, layout: Layout, clva: CLVA) -> Tensor:
    """`weights` (B, H, R, K) of a deep layer, drawn to the anchor and off the noise as `gate` (B, R) says."""
    p = at_least_fp32(weights[..., layout.span]) * layout.patches  # B H R P
    mass = p.sum(dim=-1, keepdim=True)  # B H R 1
    r = gate[:, None, :, None]
    anchor, noise = mass * found.anchor[:, None], mass * found.noise[:, None]  # as much as the head looks
    t = (1 - clva.omega * r) * p + clva.omega * r * anchor - clva.beta * r * noise
    return redistributed(weights, t.clamp(min=0), mass, layout, gate > 0, clva.kappa)
