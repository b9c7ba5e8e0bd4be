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
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from minivlm.errors import ConfigError, EvaluationError
from minivlm.lens.words import KINDS, Trace, Word
from minivlm.lens.words import evidence as evidence_of
from minivlm.model import CLVA, Layout
from minivlm.model.clva import Anchor, find_anchor, usual_layers
from minivlm.stats import LEVEL, RESAMPLES, Ratio, interval, resamples

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


def sink_density(trace: Trace, threshold: float) -> Tensor:
    """The share of the patches (L, H) that are vision sinks, by layer and head: score above `threshold`."""
    return (trace.sink_scores.float() > threshold).float().mean(dim=-1)


# --- distances ------------------------------------------------------------------------------------------------------


def cosine(a: Tensor, b: Tensor) -> Tensor:
    """Cosine along the last axis: 1 for maps of one shape, 0 for maps that share no patch."""
    return (a * b).sum(dim=-1) / (a.norm(dim=-1) * b.norm(dim=-1))


def correlation(a: Tensor, b: Tensor) -> Tensor:
    """Correlation along the last axis, the cosine of what is left without the mean.

    Stricter than the cosine, which is near 1 for any two maps that are nearly uniform.
    """
    return cosine(a - a.mean(dim=-1, keepdim=True), b - b.mean(dim=-1, keepdim=True))


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
    noise_correlation: Tensor
    middle_correlation: Tensor  # with the mean of the anchor layers, which the anchor is made of


def drift(maps: Tensor, clva: CLVA | None = None) -> Drift:
    """Compare each layer of `maps` (rows, L, P), see `image_maps`, with the row's noise and anchor."""
    if not maps.numel():  # no word, or no picture
        return Drift(*[maps.new_full(maps.shape[:2], torch.nan)] * 6)
    found = noise_and_anchor(maps, clva)
    noise, anchor = found.noise, found.anchor / found.anchor.sum(dim=-1, keepdim=True)  # rows 1 P; nan if none
    return Drift(
        noise_cosine=cosine(maps, noise),
        anchor_cosine=cosine(maps, anchor),
        noise_divergence=jensen_shannon(maps, noise),
        anchor_divergence=jensen_shannon(maps, anchor),
        noise_correlation=correlation(maps, noise),
        middle_correlation=correlation(maps, found.middle),
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
    masks: Mapping[str, Tensor] = field(default_factory=dict)  # object -> (P,), see `minivlm.inputs.patches`
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


def logit_lens(scene: TracedScene, words: Sequence[Word]) -> Tensor:
    """The probability (words, L) of the token that began the word, read from each layer the trace's lens was at."""
    return scene.trace.lens_prob[_tokens(words)].float()


def evidence_on(mask_of: Callable[[TracedScene, Word], Tensor | None]) -> Measure:
    """Evidence-relative attention (words, L), 1 is chance, on a mask (P,) of each word; nan for a word without one."""

    def measure(scene: TracedScene, words: Sequence[Word]) -> Tensor:
        curves = torch.full((len(words), scene.trace.pooled.shape[1]), torch.nan)
        for row, word in enumerate(words):
            if (mask := mask_of(scene, word)) is not None:
                curves[row] = evidence_of(scene.trace, word.token, mask)
        return curves

    return measure


def evidence(scene: TracedScene, words: Sequence[Word]) -> Tensor:
    """Evidence-relative attention (words, L), 1 is chance, on the word's own object; nan for a word without a mask."""
    return evidence_on(lambda scene, word: scene.masks.get(word.name))(scene, words)


def evidence_elsewhere(scene: TracedScene, words: Sequence[Word]) -> Tensor:
    """The same on all other objects of the picture together; nan for a word that names none."""
    return evidence_on(other_objects)(scene, words)


def other_objects(scene: TracedScene, word: Word) -> Tensor | None:
    """The mask (P,) of all objects but the one that the word names, if there are any; None for other words."""
    others = [mask for name, mask in scene.masks.items() if name != word.name]
    return torch.stack(others).sum(dim=0).clamp(max=1) if others and word.kind != "other" else None


MEASURES: dict[str, Measure] = {
    "image share": image_share,
    "entropy": entropy,
    "evidence": evidence,
    "evidence elsewhere": evidence_elsewhere,
    "logit lens": logit_lens,
    "cosine to noise": lambda scene, words: drift(maps_at(scene, words)).noise_cosine,
    "cosine to anchor": lambda scene, words: drift(maps_at(scene, words)).anchor_cosine,
    "divergence from noise": lambda scene, words: drift(maps_at(scene, words)).noise_divergence,
    "divergence from anchor": lambda scene, words: drift(maps_at(scene, words)).anchor_divergence,
    "correlation to noise": lambda scene, words: drift(maps_at(scene, words)).noise_correlation,
    "correlation to middle": lambda scene, words: drift(maps_at(scene, words)).middle_correlation,
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

    def as_dict(self) -> dict:
        """In JSON types; None for what cannot be said."""
        lines = zip(("value", "low", "high"), self.lines, strict=True)
        return {**{name: _listed(line) for name, line in lines}, "words": self.words}

    @property
    def lines(self) -> tuple[Tensor, Tensor, Tensor]:
        """Mean, low and high, as figures take them."""
        return self.mean, self.low, self.high


def _listed(line: Tensor) -> Any:
    if line.ndim:
        return [_listed(part) for part in line]
    return None if line.isnan() else float(line)


def bootstrap(
    values_by_scene: Sequence[Tensor], *, draws: int = RESAMPLES, seed: int = 0, level: float = LEVEL
) -> Curve:
    """The mean over scenes, and the band that `level` of the means of resampled scenes fall into, see `minivlm.stats`.

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
    lines = mean_and_band(torch.stack(means).numpy(), resamples(len(means), draws, seed), level)
    mean, low, high = (torch.from_numpy(line).float().reshape(shape) for line in lines)
    return Curve(mean, low, high, n=len(means), words=sum(map(len, tables)))


def mean_and_band(values: NDArray, times: NDArray, level: float) -> tuple[NDArray, ...]:
    """Mean, lower and upper end (positions,) of `values` (scenes, positions); nan are left out of each mean."""
    known = ~np.isnan(values)
    mean = Ratio.of(np.where(known, values, 0), known)
    resampled = np.where(times @ known > 0, mean.resampled(times), np.nan)
    return (np.where(known.any(axis=0), mean.value, np.nan), *interval(resampled, level))
