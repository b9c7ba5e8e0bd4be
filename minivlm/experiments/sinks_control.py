"""The gates of the positive control for EAH: does it mend a layer in which one head has what the others lack?

Two models that differ in the queries and keys of layer 1 alone (`minivlm.training.planted_sinks`): the healthy one, and
one in which all heads but the densest were led astray. EAH changes rows of the prompt alone, so what it mends is what a
prompt decides: yes or no. Captions are reported too. Whatever passes here is planted by us and says nothing about
LLaVA.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch

from minivlm.evaluation.settings import PLAIN
from minivlm.experiments.conditions import eah_controls
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
from minivlm.experiments.trials import (
    PLAIN_CONDITION,
    Condition,
    Sets,
    answer_yes_no,
    caption_ratios,
    pope_ratios,
    pope_sets,
    write_captions,
)
from minivlm.inference.vlm import VLM
from minivlm.lens.drift import sink_density
from minivlm.model import EAH, LlavaConfig
from minivlm.stats import Ratio, resamples
from minivlm.toyworld.questions import DESCRIBE
from minivlm.toyworld.scenes import Scene
from minivlm.toyworld.world import HELD_OUT

TRACED = 100  # scenes whose sinks are counted
SPLITS = ("random", "adversarial")  # of POPE's questions
F1S = tuple(f"{split} F1" for split in SPLITS)
FIGURES = (*F1S, "chair_i", "recall")
KEPT = "EAH, also on generated rows"


def gates(healthy: VLM, planted: VLM, scenes: int = 1000) -> dict:
    """All figures of both models and the table of gates, in JSON types. Raises `ConfigError` for models that differ."""
    require_pair(healthy, planted)
    tried, drawn, times = conditions(planted.model.config), draw(HELD_OUT, scenes), resamples(scenes)
    sets = {split: asked for split, asked in pope_sets(drawn).items() if split in SPLITS}
    measured = {
        "healthy": figures_of(healthy, drawn, sets, {name: tried[name] for name in (PLAIN, "EAH", KEPT)}),
        "planted": figures_of(planted, drawn, sets, tried),
    }
    figures = {
        **circumstances(planted),
        "healthy": healthy.name,
        "scenes": scenes,
        "traced": len(drawn[:TRACED]),
        "figures": in_json(measured, times),
        "returned": {figure: returned(measured, figure, times) for figure in F1S},
        "sinks": {name: sinks(vlm, drawn[:TRACED]) for name, vlm in (("healthy", healthy), ("planted", planted))},
    }
    return {**figures, "gates": [gate.as_dict() for gate in judged_gates(figures)]}


def conditions(config: LlavaConfig) -> dict[str, Condition]:
    """What is tried: EAH as published, its controls, and EAH that generated rows keep."""
    published = EAH.for_model(config)
    controls = eah_controls(published, config.text_config.num_hidden_layers)
    kept = Condition("method", eah=replace(published, decode="keep"))
    return {PLAIN: PLAIN_CONDITION, "EAH": Condition("method", eah=published), KEPT: kept, **controls}


def figures_of(
    vlm: VLM, scenes: Sequence[Scene], sets: Sets, tried: Mapping[str, Condition]
) -> dict[str, dict[str, Ratio]]:
    """Condition -> the F1 of yes-no answers by split, and CHAIR_i and recall of captions."""
    figures = {}
    for name, condition in tried.items():
        answers = pope_ratios(sets, answer_yes_no(vlm, scenes, sets, condition, title=name))
        told = caption_ratios(write_captions(vlm, scenes, DESCRIBE[0], condition, title=name), scenes)
        ratios = {f"{split} F1": answers[f"{split} f1"] for split in SPLITS} | told
        figures[name] = {figure: ratios[figure] for figure in FIGURES}
    return figures


def sinks(vlm: VLM, scenes: Sequence[Scene]) -> dict[str, list]:
    """By layer: the share of the patches that are sinks of each head, in prompts about `scenes`."""
    threshold, asked = EAH.for_model(vlm.model.config).threshold, [DESCRIBE[0]] * len(scenes)
    traces = vlm.trace_many([scene.picture for scene in scenes], asked, max_new_tokens=1)
    density = torch.stack([sink_density(trace, threshold) for trace in traces]).mean(dim=0)  # L H
    return {"density": density.tolist()}


# --- gates ----------------------------------------------------------------------------------------------------------


def judged_gates(figures: Mapping) -> list[Gate]:
    """Every gate with what was found."""
    healthy, planted = figures["figures"]["healthy"], figures["figures"]["planted"]
    controls = [name for name in planted if name not in (PLAIN, "EAH", KEPT)]
    return [
        *sink_gates(torch.tensor(figures["sinks"]["planted"]["density"])),
        *(gate for figure in F1S for gate in mending_gates(figure, healthy, planted, figures["returned"][figure])),
        *(gate for figure in F1S for gate in control_gates(figures["returned"][figure], {"EAH": controls}, figure)),
    ]


def sink_gates(density: torch.Tensor) -> list[Gate]:
    """One head of EAH's layer has most sinks, and that layer has more than deeper ones; `density` (L, H)."""
    layer = EAH().layer
    dense, median = float(density[layer].max()), float(density[layer].quantile(0.5))
    here, deeper = float(density[layer].mean()), float(density[layer + 1 :].mean(dim=1).max())
    return [
        Gate(
            "planted: share of patches that are sinks, densest head",
            "at least 3 × the median head's",
            f"{100 * dense:.1f} % against {100 * median:.1f} %",
            dense > 0 and dense >= 3 * median,
        ),
        Gate(
            "planted: the same, mean of the layer",
            "above every deeper layer's",
            f"{100 * here:.1f} % against at most {100 * deeper:.1f} %",
            here > deeper,
        ),
    ]


def mending_gates(figure: str, healthy: Mapping, planted: Mapping, back: Mapping) -> list[Gate]:
    """The planted model is worse in a `figure`, EAH brings it back, and leaves the healthy one alone."""
    worse, quiet = planted[PLAIN][figure]["difference"], healthy["EAH"][figure]["difference"]
    clear = back["EAH"]["value"] >= 1 / 3 and back["EAH"]["low"] > 0
    return [
        Gate(f"planted: {figure}", "at least 8 points less", points(worse), worse["value"] <= -0.08),
        Gate(f"EAH: {figure} that comes back", "at least a third, interval above 0", points(back["EAH"]), clear),
        Gate(f"healthy: {figure} under EAH", "within 1 point", points(quiet), abs(quiet["value"]) <= 0.01),
    ]


def as_text(figures: Mapping) -> str:
    """The gates and all figures as two tables."""
    return f"{gates_table(figures['gates'])}\n{figures_table(figures, FIGURES, F1S)}"
