"""Drift: is the attention of deep layers like that of the middle ones, or like that of the first ones?

CLVA (arXiv 2603.25088) says that the attention of deep layers regresses toward the noise of early ones. Here that is
measured by layer, over many scenes, on pooled image maps (rows, L, P): a row for each word, L layers, P patches. Noise
and anchor are those of our reading of CLVA (`find_anchor` in model/clva.py), from the maps of each row. The noise
layers are near the noise and the anchor layers near the anchor by construction; only deep layers are informative. A
sink that all layers share makes their maps alike: compare with and without `sink_columns`. Without a map, a row is nan.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from minivlm.errors import ConfigError
from minivlm.lens.curve import Curve, bootstrap
from minivlm.lens.words import KINDS, Trace, Word
from minivlm.lens.words import evidence as evidence_of
from minivlm.model import CLVA, Layout
from minivlm.model.clva import Anchor, ResolvedCLVA, drift_gate, find_anchor, usual_layers

# --- maps -----------------------------------------------------------------------------------------------------------


def image_maps(pooled: Tensor, dropped: Tensor | None = None) -> Tensor:
    """Maps (rows, L, P) in fp32 that sum to 1, from `pooled` (rows, L, P), without the patches `dropped`.

    `dropped` is bool, (P,) or (rows, P); such patches become columns of 0. A map is nan where nothing is left.
    """
    maps = pooled.float()
    if dropped is not None:
        maps = maps.masked_fill(dropped[..., None, :], 0)
    return maps / maps.sum(dim=-1, keepdim=True)


def sink_columns(trace: Trace, threshold: float, layers: Sequence[int] = (0, 1), heads: float = 0.5) -> Tensor:
    """The patches (P,) that are vision sinks in at least the share `heads` of all heads of `layers`.

    A sink's score in the prefill is above `threshold`. Most patches exceed EAH's own threshold where the first layers
    attend mainly to the picture; to drop only a few patches, take a multiple of it.
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
    """Pearson correlation along the last axis: the cosine after the means are subtracted.

    Stricter than the cosine, which is near 1 for any two maps that are nearly uniform.
    """
    return cosine(a - a.mean(dim=-1, keepdim=True), b - b.mean(dim=-1, keepdim=True))


def jensen_shannon(a: Tensor, b: Tensor) -> Tensor:
    """Jensen-Shannon divergence along the last axis in nats: 0 for the same map, ln 2 for maps that share no patch.

    Both must sum to 1. It is the mean KL divergence of the two from their mean (Endres and Schindelin 2003).
    """
    a, b = torch.broadcast_tensors(a.double(), b.double())  # near 0 the terms almost cancel
    mean = (a + b) / 2
    terms = torch.xlogy(a, a) + torch.xlogy(b, b) - 2 * torch.xlogy(mean, mean)
    known = (a.sum(dim=-1) > 0) & (b.sum(dim=-1) > 0)
    return (terms.sum(dim=-1) / 2).clamp(min=0).masked_fill(~known, torch.nan).float()


@dataclass(frozen=True)
class Drift:
    """The similarity of each layer's map to the noise and to the anchor of its row, (rows, L) each."""

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
    sources = noise_and_anchor(maps, clva)
    noise, anchor = sources.noise, sources.anchor / sources.anchor.sum(dim=-1, keepdim=True)  # rows 1 P; nan if none
    return Drift(
        noise_cosine=cosine(maps, noise),
        anchor_cosine=cosine(maps, anchor),
        noise_divergence=jensen_shannon(maps, noise),
        anchor_divergence=jensen_shannon(maps, anchor),
        noise_correlation=correlation(maps, noise),
        middle_correlation=correlation(maps, sources.middle),
    )


def noise_and_anchor(maps: Tensor, clva: CLVA | None = None) -> Anchor:
    """Noise, middle and anchor (rows, 1, P) of `maps` (rows, L, P), which must not be empty; see `find_anchor`.

    `clva` gives the layers and the controls; where it names no layers, the usual ones for this depth are taken.
    Raises `ConfigError` for layers that the maps do not have.
    """
    clva = with_layers(clva or CLVA(), maps.shape[1])
    return find_anchor({layer: maps[:, layer, None] for layer in clva.read_layers}, nothing_but_patches(maps), clva)


def gates(maps: Tensor, clva: CLVA | None = None) -> Tensor:
    """CLVA's drift gate, (rows, L), as each layer of `maps` (rows, L, P) would have it; see `drift_gate`."""
    if not len(maps):
        return maps.new_empty(maps.shape[:2])
    found, layout = noise_and_anchor(maps, clva), nothing_but_patches(maps)
    return torch.cat([drift_gate(map_[:, None, None], found, layout, clva or CLVA()) for map_ in maps.unbind(1)], dim=1)


def nothing_but_patches(maps: Tensor) -> Layout:
    """A layout in which each row of `maps` (rows, L, P) is a sample: one query, and P patches to look at."""
    columns = torch.ones_like(maps[:, 0], dtype=torch.bool)
    return Layout(columns, columns, queries=1, prompt=columns.shape[1])


def with_layers(clva: CLVA, depth: int) -> ResolvedCLVA:
    """The settings with noise and anchor layers for `depth` layers. Raises `ConfigError` if one is too deep."""
    if clva.noise_layers is None or clva.anchor_layers is None:
        noise, anchor, _ = usual_layers(depth)
        clva = replace(clva, noise_layers=clva.noise_layers or noise, anchor_layers=clva.anchor_layers or anchor)
    if (last := max(clva.read_layers)) >= depth:
        raise ConfigError(f"CLVA reads the layer {last}, but the maps are of the layers 0 to {depth - 1}.")
    return ResolvedCLVA(**{**vars(clva), "deep_layers": clva.deep_layers or (last + 1,)})  # these are not read here


def layer_similarities(maps: Tensor) -> Tensor:
    """The cosine of every two layers' maps, (rows, L, L), from `maps` (rows, L, P)."""
    products = maps @ maps.mT
    norms = products.diagonal(dim1=-2, dim2=-1).sqrt()
    return products / (norms[..., None] * norms[..., None, :])


def layer_similarity(maps: Tensor) -> Tensor:
    """The mean of `layer_similarities` over the rows, (L, L); nan if there are none."""
    return layer_similarities(maps).nanmean(dim=0)


# --- words of scenes ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TracedScene:
    """A traced answer about one scene, and the ground truth about it."""

    trace: Trace
    words: Sequence[Word]  # see `minivlm.lens.words.words`
    masks: Mapping[str, Tensor] = field(default_factory=dict)  # object -> (P,), see `minivlm.inputs.patches`
    dropped: Tensor | None = None  # (P,) bool: patches to leave out of the maps


Measure = Callable[[TracedScene, Sequence[Word]], Tensor]  # (words, L), or more axes behind the words


def maps_at(scene: TracedScene, words: Sequence[Word]) -> Tensor:
    """The maps (words, L, P) of the rows that began these words, without the scene's dropped patches."""
    return image_maps(scene.trace.pooled[first_tokens(words)], scene.dropped)


def image_share(scene: TracedScene, words: Sequence[Word]) -> Tensor:
    """The share of attention on the picture (words, L), mean over heads."""
    return scene.trace.share("image")[first_tokens(words)].mean(dim=-1)


def entropy(scene: TracedScene, words: Sequence[Word]) -> Tensor:
    """The entropy of attention within the picture (words, L), 0 (one patch) .. 1 (all alike), mean over heads."""
    return scene.trace.entropy[first_tokens(words)].mean(dim=-1)


def logit_lens(scene: TracedScene, words: Sequence[Word]) -> Tensor:
    """The logit lens: the probability (words, lens layers) of the token that began the word, read from each layer."""
    return scene.trace.lens_prob[first_tokens(words)].float()


def evidence_on(mask_of: Callable[[TracedScene, Word], Tensor | None]) -> Measure:
    """A measure: evidence-relative attention (words, L) on a mask (P,) for each word; 1 is chance, nan is no mask."""

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
    """Evidence-relative attention (words, L) on all other objects; nan for a word that names no object."""
    return evidence_on(other_objects)(scene, words)


def other_objects(scene: TracedScene, word: Word) -> Tensor | None:
    """The mask (P,) of all objects but the one that the word names; None without any, and for a word of no object."""
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


def by_kind(scenes: Sequence[TracedScene], measure: Measure, **settings: Any) -> dict[str, Curve]:
    """A measure for true, invented and other words, each a mean over scenes; `settings` go to `bootstrap`."""
    return {kind: bootstrap([measure(scene, of_kind(scene, kind)) for scene in scenes], **settings) for kind in KINDS}


def of_kind(scene: TracedScene, kind: str) -> list[Word]:
    """The scene's words of one of `KINDS`."""
    return [word for word in scene.words if word.kind == kind]


def first_tokens(words: Sequence[Word]) -> list[int]:
    """For each word the number of the generated token that begins it."""
    return [word.token for word in words]
