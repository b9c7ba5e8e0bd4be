"""The gates of the positive control for CLVA: does it mend a drift that is known to be there, and do its controls fail?

Two models that differ in the queries and keys of their deep layers alone (`minivlm.training.planted_drift`): the
healthy reader, and the one with the planted drift. All captions are of the same held-out scenes, and all differences
are paired by scene, with 95 % intervals. Whatever passes here is planted by us and says nothing about LLaVA.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from minivlm.evaluation.chair import Judged
from minivlm.evaluation.settings import PLAIN
from minivlm.experiments.exam import circumstances, draw
from minivlm.experiments.gates import (
    Gate,
    control_gates,
    figures_table,
    gates_table,
    in_json,
    points,
    require_pair,
    returned,
)
from minivlm.experiments.layers import traced_scenes, without_dropping
from minivlm.experiments.trials import PLAIN_CONDITION, Condition, caption_ratios, judged, write_captions
from minivlm.inference.vlm import VLM
from minivlm.lens import drift
from minivlm.model import CLVA, LlavaConfig
from minivlm.stats import Ratio, area_under_curve, resamples
from minivlm.toyworld.questions import DESCRIBE
from minivlm.toyworld.scenes import Scene
from minivlm.toyworld.world import HELD_OUT

TRACED = 200  # scenes whose maps are looked at
FIGURES = ("F1", "chair_i", "recall")
CONTROLS = ("random anchor", "shuffled anchor", "roles swapped")


def gates(healthy: VLM, planted: VLM, scenes: int = 1000) -> dict:
    """All figures of both models and the table of gates, in JSON types. Raises `ConfigError` for models that differ."""
    require_pair(healthy, planted)
    config, drawn = planted.model.config, draw(HELD_OUT, scenes)
    captions = {
        "healthy": figures_of(healthy, drawn, conditions_healthy(config)),
        "planted": figures_of(planted, drawn, conditions(config)),
    }
    maps = {name: map_figures(vlm, drawn[:TRACED]) for name, vlm in (("healthy", healthy), ("planted", planted))}
    figures = {
        **circumstances(planted),
        "healthy": healthy.name,
        "scenes": scenes,
        "traced": len(drawn[:TRACED]),
        "figures": in_json(captions, resamples(scenes)),
        "returned": {"F1": returned(captions, "F1", resamples(scenes))},
        "maps": {name: one.as_dict() for name, one in maps.items()},
        "gate area": area_under_curve(maps["planted"].gates.numpy(), maps["healthy"].gates.numpy()),
    }
    return {**figures, "gates": [gate.as_dict() for gate in judged_gates(figures)]}


# --- captions -------------------------------------------------------------------------------------------------------


def conditions(config: LlavaConfig) -> dict[str, Condition]:
    """What is tried on the planted drift: CLVA by default and strong, each with its controls. All with the gate on."""
    default = CLVA.for_model(config)
    settings = {"CLVA": default, "strong CLVA": replace(default, omega=1.0, beta=0.0)}
    tried = {PLAIN: PLAIN_CONDITION}
    for name, clva in settings.items():
        tried[name] = Condition("method", clva=clva)
        changed = (replace(clva, anchor="random"), replace(clva, anchor="shuffled"), replace(clva, swapped=True))
        tried |= {how: Condition("control", clva=one) for how, one in zip(controls_of(name), changed, strict=True)}
    return tried


def controls_of(method: str) -> tuple[str, ...]:
    """The names of the controls of a method."""
    return tuple(f"{method}, {how}" for how in CONTROLS)


def conditions_healthy(config: LlavaConfig) -> dict[str, Condition]:
    """What is tried on the healthy reader: CLVA, which should change nothing, and its deep layers made blind."""
    tried, deep = conditions(config), CLVA.for_model(config).deep_layers
    kept = {name: tried[name] for name in (PLAIN, "CLVA", "strong CLVA")}
    return {**kept, "deep layers flattened": Condition("control", flatten=deep)}


def figures_of(vlm: VLM, scenes: Sequence[Scene], tried: Mapping[str, Condition]) -> dict[str, dict[str, Ratio]]:
    """Condition -> F1, CHAIR_i and recall of the objects in captions of the scenes."""
    figures = {}
    for name, condition in tried.items():
        captions = write_captions(vlm, scenes, DESCRIBE[0], condition, title=name)
        ratios = {"F1": f1(judged(captions, scenes)), **caption_ratios(captions, scenes)}
        figures[name] = {figure: ratios[figure] for figure in FIGURES}
    return figures


def f1(captions: Sequence[Judged]) -> Ratio:
    """The F1 of the objects named: twice those named and there, over those named and those there, each once."""
    named = [{mention.object for mention in one.mentions} for one in captions]
    right = [2 * len(objects & one.truth) for objects, one in zip(named, captions, strict=True)]
    return Ratio.of(right, [len(objects) + len(one.truth) for objects, one in zip(named, captions, strict=True)])


# --- maps -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class MapFigures:
    """Where the rows that name an object look, in the plain captions of one model."""

    deep_to_noise: float  # the mean cosine of deep maps to their row's noise
    own_box: float  # the mean attention of the anchor layers on the object's own patches, in times of chance
    gates: Tensor  # (rows,): CLVA's drift gate, the mean of the deep layers

    def as_dict(self) -> dict[str, float]:
        """The figures in JSON types; of the gates the mean."""
        return {"deep to noise": self.deep_to_noise, "own box": self.own_box, "gate": float(self.gates.mean())}


def map_figures(vlm: VLM, scenes: Sequence[Scene]) -> MapFigures:
    """The figures of plain captions of `scenes`."""
    clva = CLVA.for_model(vlm.model.config)
    cosines, boxes, gates = [], [], []
    for scene in without_dropping(traced_scenes(vlm, scenes, "traces")):
        naming = [word for word in scene.words if word.kind != "other"]
        if not naming:
            continue
        maps = drift.maps_at(scene, naming)  # rows L P
        deep = list(clva.deep_layers)
        cosines.append(drift.cosine(maps[:, deep], drift.noise_and_anchor(maps, clva).noise).flatten())
        gates.append(drift.gates(maps, clva)[:, deep].mean(dim=1))
        there = drift.of_kind(scene, "true")
        boxes += [drift.evidence(scene, there)[:, list(clva.anchor_layers)].mean(dim=1)] if there else []
    return MapFigures(float(torch.cat(cosines).mean()), float(torch.cat(boxes).nanmean()), torch.cat(gates))


# --- gates ----------------------------------------------------------------------------------------------------------


def judged_gates(figures: Mapping) -> list[Gate]:
    """Every gate with what was found."""
    healthy, planted = figures["figures"]["healthy"], figures["figures"]["planted"]
    return [
        *healthy_gates(healthy),
        *map_gates(figures["maps"]),
        *drift_gates(planted[PLAIN]),
        *mending_gates(figures["returned"]["F1"], planted["CLVA"]["chair_i"]["difference"]),
        *control_gates(figures["returned"]["F1"], {name: controls_of(name) for name in ("CLVA", "strong CLVA")}, "F1"),
        Gate(
            "CLVA's drift gate: drifted against healthy rows",
            "area at least 0.9",
            f"{figures['gate area']:.2f}",
            figures["gate area"] >= 0.9,
        ),
    ]


def healthy_gates(captions: Mapping) -> list[Gate]:
    """The healthy reader reads, its deep layers matter, and CLVA leaves it alone."""
    recall, chair_i = (captions[PLAIN][figure] for figure in ("recall", "chair_i"))
    flat, quiet = (captions[name]["F1"]["difference"] for name in ("deep layers flattened", "CLVA"))
    return [
        Gate("healthy: recall", "at least 85 %", points(recall), recall["value"] >= 0.85),
        Gate("healthy: CHAIR_i", "at most 13 %", points(chair_i), chair_i["value"] <= 0.13),
        Gate("healthy: F1, deep layers flattened", "at least 6 points less", points(flat), flat["value"] <= -0.06),
        Gate("healthy: F1 under CLVA", "within 1 point", points(quiet), abs(quiet["value"]) <= 0.01),
    ]


def map_gates(maps: Mapping) -> list[Gate]:
    """The deep layers drift in one model alone, and the anchor layers hold in both."""
    ill, well = (maps[model]["deep to noise"] for model in ("planted", "healthy"))
    boxes = [(f"{model}: own box in anchor layers", one["own box"]) for model, one in maps.items()]
    return [
        Gate("planted: deep maps' cosine to noise", "at least 0.8", f"{ill:.2f}", ill >= 0.8),
        Gate("healthy: deep maps' cosine to noise", "at most 0.4", f"{well:.2f}", well <= 0.4),
        *(Gate(name, "at least 3 × chance", f"{box:.1f}", box >= 3) for name, box in boxes),
    ]


def drift_gates(plain: Mapping) -> list[Gate]:
    """The drift harms: fewer right objects, more invented ones, than in the healthy reader's captions."""
    worse, invented = (plain[figure]["difference"] for figure in ("F1", "chair_i"))
    return [
        Gate("planted: F1", "at least 6 points less", points(worse), worse["value"] <= -0.06),
        Gate("planted: CHAIR_i", "at least 4 points more", points(invented), invented["value"] >= 0.04),
    ]


def mending_gates(back: Mapping, invented: Mapping[str, float]) -> list[Gate]:
    """CLVA mends: `back` as from `returned`, `invented` how much CHAIR_i changes."""
    usual, strong = back["CLVA"], back["strong CLVA"]
    clear = usual["value"] >= 1 / 3 and usual["low"] > 0
    return [
        Gate("CLVA: F1 that comes back", "at least a third, interval above 0", points(usual), clear),
        Gate("CLVA: CHAIR_i", "falls", points(invented), invented["high"] < 0),
        Gate("strong CLVA: F1 that comes back", "at least three quarters", points(strong), strong["value"] >= 3 / 4),
    ]


def as_text(figures: Mapping) -> str:
    """The gates and the captions' figures as two tables."""
    return f"{gates_table(figures['gates'])}\n{figures_table(figures, FIGURES, ['F1'])}"
