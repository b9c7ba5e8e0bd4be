"""The figures of a model card: how the layers look while objects are named, on scenes that the model never saw."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from minivlm.experiments.exam import draw
from minivlm.inference.trace import Trace
from minivlm.inference.vlm import VLM
from minivlm.lens import drift, plots
from minivlm.lens.words import patch_mask, words
from minivlm.model import CLVA, EAH
from minivlm.toyworld.questions import DESCRIBE
from minivlm.toyworld.scenes import Scene
from minivlm.toyworld.words import FORM, FORMS
from minivlm.toyworld.world import HELD_OUT

BATCH = 25  # scenes traced at once
LONGEST = 96  # tokens of a caption
CAPTIONS = {
    "evidence": "How much more a layer looks at an object's own box than at a patch of the same size anywhere.",
    "share": "How much of its attention a layer spends on the picture.",
    "drift": "How far each layer's map of the picture resembles the noise of the first layers.",
    "drift-without-sinks": "The same without the patches that are strong sinks in the first layers.",
    "similarity": "How far the maps of every two layers resemble each other while true objects are named.",
    "lens": "The probability of the word that was written, read from each layer's output.",
    "sinks": "The share of the patches that are vision sinks, by layer and head.",
}
MANY = 2.0  # times EAH's threshold: what a sink must score to be left out of the maps


def card_figures(vlm: VLM, folder: Path, scenes: int = 200) -> dict[str, str]:
    """Draw them all into `folder` as PNG; their captions by file name."""
    folder.mkdir(parents=True, exist_ok=True)
    traced = traced_scenes(vlm, draw(HELD_OUT, scenes))
    drawn = {**curves(vlm, traced), **tables(vlm, traced)}
    for name, figure in drawn.items():
        figure.savefig(folder / f"{name}.png", dpi=100)
    return {f"{name}.png": CAPTIONS[name] for name in drawn}


def traced_scenes(vlm: VLM, scenes: Sequence[Scene]) -> list[drift.TracedScene]:
    """A caption of every scene, traced, with its words and the boxes of its objects."""
    found, depth = [], vlm.model.config.text_config.num_hidden_layers
    for start in range(0, len(scenes), BATCH):
        part = scenes[start : start + BATCH]
        pictures, asked = [scene.picture for scene in part], [DESCRIBE[0]] * len(part)
        traces = vlm.trace_many(pictures, asked, lens=range(depth), max_new_tokens=LONGEST)
        found += [traced(vlm, trace, scene) for trace, scene in zip(traces, part, strict=True)]
    return found


def traced(vlm: VLM, trace: Trace, scene: Scene) -> drift.TracedScene:
    """A trace with what the scene knows."""
    found = [(FORMS[match[0].lower()], *match.span()) for match in FORM.finditer(trace.text)]
    named = words(trace, [(name, start, stop, name in scene.names) for name, start, stop in found])
    side = round(vlm.model.config.num_image_tokens**0.5)
    size = (scene.size, scene.size)
    masks = {name: patch_mask([thing.box for thing in scene.of(name)], size, vlm.recipe, side) for name in scene.names}
    threshold = MANY * EAH.for_model(vlm.model.config).threshold
    return drift.TracedScene(trace, named, masks, drift.sink_columns(trace, threshold))


def without_dropping(scenes: Sequence[drift.TracedScene]) -> list[drift.TracedScene]:
    """The same scenes with their maps whole."""
    return [drift.TracedScene(scene.trace, scene.words, scene.masks) for scene in scenes]


def curves(vlm: VLM, scenes: Sequence[drift.TracedScene]) -> dict[str, plots.Figure]:
    """Everything that has a value for each layer."""
    whole, clva = without_dropping(scenes), CLVA.for_model(vlm.model.config)
    how = {"made_by": vlm.name, "clva": clva}
    noise = "cosine to noise"
    return {
        "evidence": plots.layer_curves(
            lines(whole, drift.evidence), ylabel="attention on the own box (1: as on any patch)", **how
        ),
        "share": plots.layer_curves(lines(whole, drift.image_share), ylabel="share of attention on the picture", **how),
        "drift": plots.layer_curves(lines(whole, drift.MEASURES[noise]), ylabel="cosine to the noise map", **how),
        "drift-without-sinks": plots.layer_curves(
            lines(scenes, drift.MEASURES[noise]), ylabel="cosine to the noise map, without sinks", **how
        ),
        "lens": plots.lens_curve(lines(whole, lens), **how),
    }


def lines(scenes: Sequence[drift.TracedScene], measure: drift.Measure) -> dict[str, tuple[Tensor, Tensor, Tensor]]:
    """Mean and band for each kind of word that there is."""
    found = drift.by_kind(scenes, measure)
    return {f"{kind} ({curve.words} words)": curve.lines for kind, curve in found.items() if curve.n}


def lens(scene: drift.TracedScene, named: Sequence) -> Tensor:
    """The logit lens, (words, L)."""
    return scene.trace.lens_prob[[word.token for word in named]]


def tables(vlm: VLM, scenes: Sequence[drift.TracedScene]) -> dict[str, plots.Figure]:
    """Everything that has a value for each two layers, or for each layer and head."""
    similar = drift.by_kind(without_dropping(scenes), drift.MEASURES["layer similarity"])["true"].mean
    threshold = EAH.for_model(vlm.model.config).threshold
    sinks = torch.stack([(scene.trace.sink_scores > threshold).float().mean(dim=-1) for scene in scenes])
    return {
        "similarity": plots.similarity_matrix(similar, made_by=vlm.name),
        "sinks": plots.sink_density(sinks.mean(dim=0), made_by=vlm.name),
    }
