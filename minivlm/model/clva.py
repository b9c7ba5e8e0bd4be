"""CLVA: deep layers are pulled from the noise of the first layers to the anchor of the middle ones (arXiv 2603.25088).

THIS IS A READING OF THE ABSTRACT. The paper's equations, layers and constants were not public to us; every line below
is our own guess at them, and every constant is a setting.

For one text row after the picture, with p_h the attention of head h on the patches (sum m_h), in layer l

    map_l = sum of p_h / sum of m_h, over the half of the heads with the largest m_h

    n = mean of map_l over the noise layers                    "initial visual noise" of the early layers
    c = mean of map_l over the anchor layers
    g = mean of max(0, map_l - n) over the anchor layers,      "visual anchors" are acquired "at intermediate" layers,
        at most 3 standard deviations above its mean,          "captured from attention dynamics": what rises in the
        and 0 for all but the share `keep` of the patches      middle, not what was high before
    a = g / sum of g

and in each deep layer

    r = (cos(map_l, n) - cos(c, n)) / (1 - cos(c, n)), 0..1    "deep-layer attention regressing toward" the noise
    t = max(0, (1 - omega r) p_h + omega r m_h a - beta r m_h n)
    p_h <- kappa m_h t / sum of t                              "reinforces" the anchor "while suppressing" the noise

With kappa = 1 the attention on the picture as a whole stays the same; only its distribution over the patches changes.
With another kappa the row is scaled back to a sum of 1. Each row of text has maps of its own, computed in the call that
computes the row. A row in which no patch gains, or whose gate r is 0, stays unchanged, whatever kappa is.

Only the pooled maps (B, R, P) of the noise and anchor layers are carried up to the deep layers.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor

from minivlm.errors import A_SEED, ConfigError, check_settings, is_positive, is_seed, is_share
from minivlm.model.config import LlavaConfig
from minivlm.model.layout import Layout
from minivlm.model.redistribute import KAPPA, at_least_fp32, checked_layers, is_kappa, normalised, redistributed

ANCHORS = ("gain", "shuffled", "random")
NOISE, ANCHOR, DEEP = (0.03, 0.14), (0.40, 0.70), (0.80, 1.0)  # of the depth: layers 1-4, 13-22, 26-31 of 32
OUTLIER = 3.0  # standard deviations
SLACK = 1e-6  # so that ceil(0.07 * 100) is 7 despite rounding


@dataclass(frozen=True)
class CLVA:
    """Settings as a user gives them. The model fills in what is None by `resolve`. Several threads may share them."""

    noise_layers: tuple[int, ...] | None = None  # layers count from 0; None: a share of the model's depth
    anchor_layers: tuple[int, ...] | None = None
    deep_layers: tuple[int, ...] | None = None
    omega: float = 0.4  # how far the map is pulled to the anchor; 0 is a control
    beta: float = 0.2  # how much of the noise is subtracted; 0 is a control
    kappa: float = 1.0  # factor of the attention on the picture as a whole
    gate: bool = True  # False is a control: correct as if every deep map had regressed
    anchor: str = "gain"  # controls: "shuffled" (the anchor's values on other patches), "random" (by `seed`)
    swapped: bool = False  # control: noise layers are used as anchor layers, and anchor layers as noise layers
    keep: float = 1.0  # share of the patches that the anchor keeps
    heads: float = 0.5  # share of the heads that a layer's map is made of
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("noise_layers", "anchor_layers", "deep_layers"):
            if (layers := getattr(self, name)) is not None:
                object.__setattr__(self, name, checked_layers(f"CLVA.{name}", layers))
        rules = (
            ("omega", is_share(self.omega), "lie in 0..1"),
            ("beta", is_share(self.beta), "lie in 0..1"),
            ("kappa", is_kappa(self.kappa), KAPPA),
            ("keep", is_positive(self.keep, 1), "be above 0 and at most 1"),
            ("heads", is_positive(self.heads, 1), "be above 0 and at most 1"),
            ("seed", is_seed(self.seed), f"be {A_SEED}"),
            ("gate", isinstance(self.gate, bool), "be True or False"),
            ("swapped", isinstance(self.swapped, bool), "be True or False"),
            ("anchor", self.anchor in ANCHORS, f"be one of {', '.join(ANCHORS)}"),
        )
        check_settings("CLVA", self, (*rules, *self._rules_of_order()))

    @classmethod
    def for_model(cls, config: LlavaConfig, **changes: Any) -> "ResolvedCLVA":
        """The default settings for a model of this configuration, with `changes`."""
        return CLVA(**changes).resolve(config)

    def resolve(self, config: LlavaConfig) -> "ResolvedCLVA":
        """These settings for one model: None becomes the usual layers. Raises `ConfigError` if it lacks a layer."""
        noise, anchor, deep = usual_layers(config.text_config.num_hidden_layers)
        layers = {
            "noise_layers": self.noise_layers or noise,
            "anchor_layers": self.anchor_layers or anchor,
            "deep_layers": self.deep_layers or deep,
        }
        resolved = ResolvedCLVA(**{**vars(self), **layers})
        config.text_config.check_layers("CLVA", (*resolved.read_layers, *resolved.deep_layers))
        return resolved

    @property
    def read_layers(self) -> tuple[int, ...]:
        """The noise and anchor layers: those whose maps the deep layers need."""
        return (*(self.noise_layers or ()), *(self.anchor_layers or ()))

    def _rules_of_order(self) -> tuple[tuple[str, bool, str], ...]:
        """All noise and anchor layers come before the deep ones, and none is both."""
        deep, noise = self.deep_layers or (), self.noise_layers or ()
        last = max(self.read_layers, default=-1)
        above = f"stand above the noise and anchor layers, which reach up to {last} and must be read before"
        return (
            ("deep_layers", not deep or min(deep) > last, above),
            ("anchor_layers", not {*noise} & {*(self.anchor_layers or ())}, f"share none with noise_layers {noise}"),
        )


@dataclass(frozen=True, kw_only=True)
class ResolvedCLVA(CLVA):
    """Settings for one model: all layers are named, and exist."""

    noise_layers: tuple[int, ...]
    anchor_layers: tuple[int, ...]
    deep_layers: tuple[int, ...]


def usual_layers(depth: int) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """Noise, anchor and deep layers for a decoder of `depth` layers: of 32, 1 to 4, 13 to 22 and 26 to 31; of 24, 1 to
    3, 10 to 16 and 19 to 23. Raises `ConfigError` below a depth of 3.
    """
    if depth < 3:
        raise ConfigError(f"CLVA needs a noise, an anchor and a deep layer, but the decoder has {depth} in all.")
    first_deep = min(round(DEEP[0] * depth), depth - 1)
    anchor = range(max(1, round(ANCHOR[0] * depth)), min(math.floor(ANCHOR[1] * depth) + 1, first_deep))
    noise = range(round(NOISE[0] * depth), min(math.floor(NOISE[1] * depth) + 1, anchor[0]))
    return tuple(noise), tuple(anchor), tuple(range(first_deep, depth))


# --- reading: in the noise and anchor layers ------------------------------------------------------------------------

# P below: the columns `layout.span`, from the first patch of the batch to the last; 0 where a column is no patch.


def pooled_map(weights: Tensor, layout: Layout, heads: float = 0.5) -> Tensor:
    """A layer's map of the picture (B, R, P), with a sum of 1, or all 0 for a row that may not see a patch.

    `weights` (B, H, R, K) are pooled over the share `heads` of the heads that attend most to the picture; each row
    chooses its own heads.
    """
    on_patches = at_least_fp32(weights[..., layout.span]) * layout.patches  # B H R P
    mass = on_patches.sum(dim=-1)  # B H R
    most = math.ceil(heads * mass.shape[1] - SLACK)
    chosen = torch.zeros_like(mass).scatter(1, mass.topk(most, dim=1).indices, 1.0)
    return normalised((on_patches * chosen[..., None]).sum(dim=1))


@dataclass(frozen=True)
class Anchor:
    """The maps by which deep layers are corrected, (B, R, P) each."""

    noise: Tensor  # n: deep layers are pulled away from it
    middle: Tensor  # c: the gate compares with it
    anchor: Tensor  # a: deep layers are pulled to it; all 0 for a row in which no patch gains


def find_anchor(maps: Mapping[int, Tensor], layout: Layout, clva: ResolvedCLVA) -> Anchor:
    """Noise, middle and anchor from the pooled maps (B, R, P) of the noise and anchor layers; `maps` are by layer."""
    sources = (clva.anchor_layers, clva.noise_layers) if clva.swapped else (clva.noise_layers, clva.anchor_layers)
    early, middle = (torch.stack([maps[layer] for layer in layers]) for layers in sources)  # layers B R P
    noise = early.mean(dim=0)
    gain = (middle - noise).clamp(min=0).mean(dim=0)
    anchor = normalised(keep_largest(without_outliers(gain, layout), clva.keep, layout))
    return Anchor(noise, middle.mean(dim=0), controlled(anchor, layout, clva))


def without_outliers(gain: Tensor, layout: Layout) -> Tensor:
    """`gain` (B, R, P) with values of at most 3 standard deviations above the mean of the patches that a row sees."""
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
    part = Fraction(share).limit_denominator(10**6)  # exact: 0.07 of 100 patches are 7
    seen = layout.seen(gain.shape[1]).sum(dim=-1, keepdim=True)  # B R 1
    rank = gain.argsort(dim=-1, descending=True, stable=True).argsort(dim=-1)
    return gain * (rank * part.denominator < part.numerator * seen)


def controlled(anchor: Tensor, layout: Layout, clva: CLVA) -> Tensor:
    """The anchor (B, R, P), or that of a control. Rows that see the same patches get the same random choice."""
    if clva.anchor == "gain":
        return anchor
    generator = torch.Generator().manual_seed(clva.seed)
    chance = torch.rand(layout.most_patches, generator=generator).to(anchor)[layout.numbers]  # B P
    seen = layout.seen(anchor.shape[1])  # B R P
    if clva.anchor == "random":
        found = anchor.any(dim=-1, keepdim=True)
        return normalised(chance[:, None] * seen) * found
    # Both put the patches that a row sees first: `mixed` shuffled by `chance`, `order` in their own order.
    mixed = chance[:, None].masked_fill(~seen, 2).argsort(dim=-1, stable=True)
    order = layout.numbers[:, None].masked_fill(~seen, seen.shape[2]).argsort(dim=-1, stable=True)
    return torch.zeros_like(anchor).scatter(-1, order, anchor.gather(-1, mixed))


# --- correcting: in the deep layers ---------------------------------------------------------------------------------


def drift_gate(weights: Tensor, found: Anchor, layout: Layout, clva: CLVA) -> Tensor:
    """How far each row of a deep layer has regressed, r (B, R): 0 as far from the noise as the middle, 1 at it."""
    ready = found.anchor.any(dim=-1)  # B R
    if not clva.gate:
        return ready.to(found.anchor.dtype)
    here = torch.cosine_similarity(pooled_map(weights, layout, clva.heads), found.noise, dim=-1)
    middle = torch.cosine_similarity(found.middle, found.noise, dim=-1)
    room = (1 - middle).clamp(min=torch.finfo(middle.dtype).eps)
    return ((here - middle) / room).clamp(0, 1) * ready


def pull_to_anchor(weights: Tensor, found: Anchor, gate: Tensor, layout: Layout, clva: CLVA) -> Tensor:
    """`weights` (B, H, R, K) of a deep layer, pulled to the anchor and away from the noise, as far as `gate` (B, R)."""
    p = at_least_fp32(weights[..., layout.span]) * layout.patches  # B H R P
    mass = p.sum(dim=-1, keepdim=True)  # B H R 1
    r = gate[:, None, :, None]
    anchor, noise = mass * found.anchor[:, None], mass * found.noise[:, None]  # scaled to the head's own mass
    t = (1 - clva.omega * r) * p + clva.omega * r * anchor - clva.beta * r * noise
    return redistributed(weights, t.clamp(min=0), mass, layout, gate > 0, clva.kappa)
