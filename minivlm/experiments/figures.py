"""The figures of a model card: the attention of each layer while objects are named, on held-out scenes."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from minivlm.experiments.layers import traced_scenes, without_dropping
from minivlm.files import replace_file
from minivlm.inference.vlm import VLM
from minivlm.lens import drift, plots
from minivlm.model import CLVA, EAH

__all__ = ["CAPTIONS", "card_figures", "curves", "tables", "traced_scenes", "without_dropping"]

CAPTIONS = {
    "evidence": "How much more a layer looks at an object's own box than at a patch of the same size anywhere.",
    "share": "How much of its attention a layer spends on the picture.",
    "drift": "How far each layer's map of the picture resembles the noise of the first layers.",
    "drift-without-sinks": "The same without the patches that are strong sinks in the first layers.",
    "similarity": "How far the maps of every two layers resemble each other while true objects are named.",
    "lens": "The probability of the word that was written, read from each layer's output.",
    "sinks": "The share of the patches that are vision sinks, by layer and head.",
}


def card_figures(vlm: VLM, folder: Path, traced: Sequence[drift.TracedScene]) -> dict[str, str]:
    """Draw all figures as PNG into `folder`; returns file name -> caption. `traced`: as from `traced_scenes`."""
    folder.mkdir(parents=True, exist_ok=True)
    drawn = {**curves(vlm, traced), **tables(vlm, traced)}
    for name, figure in drawn.items():
        replace_file(folder / f"{name}.png", partial(figure.savefig, format="png", dpi=100))
    return {f"{name}.png": CAPTIONS[name] for name in drawn}


def curves(vlm: VLM, scenes: Sequence[drift.TracedScene]) -> dict[str, plots.Figure]:
    """Name -> figure, for everything that has a value for each layer."""
    whole, noise = without_dropping(scenes), drift.MEASURES["cosine to noise"]
    clva = CLVA.for_model(vlm.model.config)
    draw = partial(plots.layer_curves, made_by=vlm.name, clva=clva)
    return {
        "evidence": draw(lines(whole, drift.evidence), ylabel="attention on the own box (1: as on any patch)"),
        "share": draw(lines(whole, drift.image_share), ylabel="share of attention on the picture"),
        "drift": draw(lines(whole, noise), ylabel="cosine to the noise map"),
        "drift-without-sinks": draw(lines(scenes, noise), ylabel="cosine to the noise map, without sinks"),
        "lens": plots.lens_curve(lines(whole, drift.logit_lens), made_by=vlm.name, clva=clva),
    }


def lines(scenes: Sequence[drift.TracedScene], measure: drift.Measure) -> dict[str, tuple[Tensor, Tensor, Tensor]]:
    """Mean and band by kind of word, for the kinds that occur; the keys are labels with the number of words."""
    kinds = drift.by_kind(scenes, measure)
    return {f"{kind} ({curve.words} words)": curve.lines for kind, curve in kinds.items() if curve.n}


def tables(vlm: VLM, scenes: Sequence[drift.TracedScene]) -> dict[str, plots.Figure]:
    """Name -> figure, for everything that has a value for each pair of layers, or for each layer and head."""
    similar = drift.by_kind(without_dropping(scenes), drift.MEASURES["layer similarity"])["true"].mean
    threshold = EAH.for_model(vlm.model.config).threshold
    sinks = torch.stack([drift.sink_density(scene.trace, threshold) for scene in scenes])
    return {
        "similarity": plots.similarity_matrix(similar, made_by=vlm.name),
        "sinks": plots.sink_density(sinks.mean(dim=0), made_by=vlm.name),
    }
