"""Drift: do deep layers look where the middle ones did, or where the first ones did? By layer, over many scenes.

CLVA says that the attention of deep layers regresses toward the noise of early ones. Here that is measured, on pooled
image maps (rows, L, P): a row for each word, L layers, P patches. Noise and anchor are those of our reading of CLVA
(`minivlm.model.clva.find_anchor`, each row by its own maps). The noise layers are near the noise and the anchor layers
near the anchor by construction; what tells is the deep layers. A sink that all layers share makes them look alike:
compare with and without `sink_columns`.

What cannot be said is nan: of a row without a map, of a group without a word.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from minivlm.errors import ConfigError, EvaluationError
from minivlm.lens.words import KINDS, Trace, Word
from minivlm.lens.words import evidence as evidence_of
from minivlm.model import CLVA, Layout
from minivlm.model.clva import Anchor, find_anchor, usual_layers

# --- maps -----------------------------------------------------------------------------------------------------------


def image_maps(pooled: Tensor, dropped: Tensor | None = None) -> Tensor:
    """Maps (rows, L, P) in fp32 that sum to 1, without the patches `dropped`, (P,) or (rows, P) bool.

    Dropped patches stay as columns of 0. nan where nothing is left.
    """
    maps = pooled.float()
    if dropped is not None:
        maps = maps.masked_fill(dropped[..., None, :], 0)
    return maps / maps.sum(dim=-1, keepdim=True)


def sink_columns(trace: Trace, threshold: float, layers: Sequence[int] = (0, 1), heads: float = 0.5) -> Tensor:
    """The patches (P,) that are vision sinks in at least the share `heads` of all heads of `layers`.

    By the prefill's scores: a sink scores above `threshold`. EAH's own is little more than the uniform share, which
    most patches exceed where the first layers look mainly at the picture; to drop a few, take a multiple of it.
    """
    sinks = trace.sink_scores[list(layers)].float() > threshold  # layers H P
    return sinks.flatten(0, 1).float().mean(dim=0) >= heads


# --- distances ------------------------------------------------------------------------------------------------------


def cosine(a: Tensor, b: Tensor) -> Tensor:
    """Cosine along the last axis: 1 for maps of one shape, 0 for maps that share no patch."""
    return (a * b).sum(dim=-1) / (a.norm(dim=-1) * b.norm(dim=-1))


def jensen_shannon(a: Tensor, b: Tensor) -> Tensor:
    """Jensen-Shannon divergence along the last axis in nats: 0 for the same map, ln 2 for maps that share no patch.

    Both must sum to 1. It is the mean KL divergence of the two from their mean, and its square root is a metric
    (Endres and Schindelin 2003).
    """
    a, b = torch.broadcast_tensors(a.double(), b.double())  # near 0 the terms almost cancel
    mean = (a + b) / 2
    terms = torch.xlogy(a, a) + torch.xlogy(b, b) - 2 * torch.xlogy(mean, mean)
    known = (a.sum(dim=-1) > 0) & (b.sum(dim=-1) > 0)
    return (terms.sum(dim=-1) / 2).clamp(min=0).masked_fill(~known, torch.nan).float()


@dataclass(frozen=True)
class Drift:
    """How near the map of each layer is to the noise and to the anchor of its row, (rows, L) each."""

    noise_cosine: Tensor
    anchor_cosine: Tensor
    noise_divergence: Tensor  # Jensen-Shannon, nats
    anchor_divergence: Tensor


def drift(maps: Tensor, clva: CLVA | None = None) -> Drift:
    """Compare each layer of `maps` (rows, L, P), see `image_maps`, with the row's noise and anchor."""
    if not maps.numel():  # no word, or no picture
        return Drift(*[maps.new_full(maps.shape[:2], torch.nan)] * 4)
    found = noise_and_anchor(maps, clva)
    noise, anchor = found.noise, found.anchor / found.anchor.sum(dim=-1, keepdim=True)  # rows 1 P; nan if none
    return Drift(
        noise_cosine=cosine(maps, noise),
        anchor_cosine=cosine(maps, anchor),
        noise_divergence=jensen_shannon(maps, noise),
        anchor_divergence=jensen_shannon(maps, anchor),
    )


def noise_and_anchor(maps: Tensor, clva: CLVA | None = None) -> Anchor:
    """Noise, middle and anchor (rows, 1, P) of `maps` (rows, L, P), not empty, as `clva.py` finds them.

    `clva` gives the layers and the controls; by default, or where it names none, the usual layers of this depth.
    Raises `ConfigError` for layers that the maps do not have.
    """
    clva, columns = with_layers(clva or CLVA(), maps.shape[1]), torch.ones_like(maps[:, 0], dtype=torch.bool)
    layout = Layout(columns, columns, queries=1, prompt=columns.shape[1])  # each row is a sample of nothing but patches
    return find_anchor({layer: maps[:, layer, None] for layer in clva.read_layers}, layout, clva)


def with_layers(clva: CLVA, depth: int) -> CLVA:
    """The settings with their noise and anchor layers filled in for `depth` layers."""
    if clva.noise_layers is None or clva.anchor_layers is None:
        noise, anchor, _ = usual_layers(depth)
        clva = replace(clva, noise_layers=clva.noise_layers or noise, anchor_layers=clva.anchor_layers or anchor)
    if (last := max(clva.read_layers)) >= depth:
        raise ConfigError(f"CLVA reads the layer {last}, but the maps are of the layers 0 to {depth - 1}.")
    return clva


def layer_similarities(maps: Tensor) -> Tensor:
    """The cosine of every two layers' maps, (rows, L, L), of `maps` (rows, L, P)."""
    products = maps @ maps.mT
    norms = products.diagonal(dim1=-2, dim2=-1).sqrt()
    return products / (norms[..., None] * norms[..., None, :])


def layer_similarity(maps: Tensor) -> Tensor:
    """The same as one matrix (L, L), the mean over the rows; nan where there are none."""
    return layer_similarities(maps).nanmean(dim=0)


# --- words of scenes ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TracedScene:
    """An answer about one scene, and what is known about it."""

    trace: Trace
    words: Sequence[Word]  # see `minivlm.lens.words.words`
    masks: Mapping[str, Tensor] = field(default_factory=dict)  # object -> its patches (P,), see `patch_mask`
    dropped: Tensor | None = None  # (P,) bool: patches left out of the maps


Measure = Callable[[TracedScene, Sequence[Word]], Tensor]  # (words, L), or more axes behind the words


def maps_at(scene: TracedScene, words: Sequence[Word]) -> Tensor:
    """The maps (words, L, P) of the rows that began these words, without the scene's dropped patches."""
    return image_maps(scene.trace.pooled[_tokens(words)], scene.dropped)


def image_share(scene: TracedScene, words: Sequence[Word]) -> Tensor:
    """The share of attention on the picture (words, L), mean over heads."""
    return scene.trace.share("image")[_tokens(words)].mean(dim=-1)


def entropy(scene: TracedScene, words: Sequence[Word]) -> Tensor:
    """The entropy of attention within the picture (words, L), 0 (one patch) .. 1 (all alike), mean over heads."""
    return scene.trace.entropy[_tokens(words)].mean(dim=-1)


def evidence(scene: TracedScene, words: Sequence[Word]) -> Tensor:
    """Evidence-relative attention (words, L), 1 is chance, on the word's own object; nan for a word without a mask."""
    curves = torch.full((len(words), scene.trace.pooled.shape[1]), torch.nan)
    for row, word in enumerate(words):
        if word.name in scene.masks:
            curves[row] = evidence_of(scene.trace, word.token, scene.masks[word.name])
    return curves


MEASURES: dict[str, Measure] = {
    "image share": image_share,
    "entropy": entropy,
    "evidence": evidence,
    "cosine to noise": lambda scene, words: drift(maps_at(scene, words)).noise_cosine,
    "cosine to anchor": lambda scene, words: drift(maps_at(scene, words)).anchor_cosine,
    "divergence from noise": lambda scene, words: drift(maps_at(scene, words)).noise_divergence,
    "divergence from anchor": lambda scene, words: drift(maps_at(scene, words)).anchor_divergence,
    "layer similarity": lambda scene, words: layer_similarities(maps_at(scene, words)),  # (words, L, L)
}


def by_kind(scenes: Sequence[TracedScene], measure: Measure, **how) -> dict[str, "Curve"]:
    """A measure for true, invented and other words, each a mean over scenes; `how` goes to `bootstrap`."""
    return {kind: bootstrap([measure(scene, _of_kind(scene, kind)) for scene in scenes], **how) for kind in KINDS}


def _of_kind(scene: TracedScene, kind: str) -> list[Word]:
    return [word for word in scene.words if word.kind == kind]


def _tokens(words: Sequence[Word]) -> list[int]:
    return [word.token for word in words]


# --- means over scenes ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Curve:
    """A mean over scenes with its bootstrap band: a value for each layer, or for each two."""

    mean: Tensor  # (L,), or (L, L); nan if n is 0
    low: Tensor  # the band; of a single scene it is the mean itself, since nothing else can be drawn
    high: Tensor
    n: int  # scenes that had such a word
    words: int  # such words in all

    @property
    def lines(self) -> tuple[Tensor, Tensor, Tensor]:
        """Mean, low and high, as figures take them."""
        return self.mean, self.low, self.high


def bootstrap(values_by_scene: Sequence[Tensor], *, draws: int = 1000, seed: int = 0, level: float = 0.95) -> Curve:
    """The mean over scenes, and the band that `level` of the means of resampled scenes fall into (Efron 1979).

    Each scene gives the values (words, …) of its words, and counts once, by their mean: words of one answer depend on
    each other, so scenes are what is drawn anew. Words of nan and scenes without a word are left out.
    """
    if draws < 1 or not 0 < level < 1:
        raise EvaluationError(f"A bootstrap needs draws of at least 1 and a level within 0..1, found {draws}, {level}.")
    if len(shapes := {tuple(values.shape[1:]) for values in values_by_scene}) > 1:
        raise EvaluationError(f"Scenes of one mean must have values of one shape for each word, found {shapes}.")
    shape = shapes.pop() if shapes else ()
    tables = [values.double()[..., None].flatten(1) for values in values_by_scene]  # words positions, each
    tables = [values[~values.isnan().all(dim=1)] for values in tables]
    means = [values.nanmean(dim=0) for values in tables if len(values)]
    if not means:
        return Curve(*[torch.full(shape, torch.nan)] * 3, n=0, words=0)
    values = torch.stack(means)  # scenes positions
    lines = (values.nanmean(dim=0), *_band(values, draws, seed, level))
    mean, low, high = (line.float().reshape(shape) for line in lines)
    return Curve(mean, low, high, n=len(means), words=sum(map(len, tables)))


def _band(values: Tensor, draws: int, seed: int, level: float) -> Tensor:
    """Lower and upper end (2, positions) of the means of `values` (scenes, positions) over scenes drawn anew."""
    scenes, known = len(values), ~values.isnan()
    dice = torch.Generator().manual_seed(seed)
    drawn = torch.randint(scenes, (draws, scenes), generator=dice)
    times = values.new_zeros(draws, scenes).scatter_add_(1, drawn, values.new_ones(draws, scenes))
    resampled = (times @ values.masked_fill(~known, 0)) / (times @ known.to(values))  # draws positions
    tail = (1 - level) / 2
    return resampled.nanquantile(values.new_tensor([tail, 1 - tail]), dim=0)
