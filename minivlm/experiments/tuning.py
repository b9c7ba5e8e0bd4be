"""Tuning: settings of EAH and CLVA for one model, chosen on scenes that no table reports."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, TypeVar

from tqdm import tqdm

from minivlm.experiments.trials import PLAIN_CONDITION, Condition, caption_ratios, plain_types, write_captions
from minivlm.inference.vlm import VLM
from minivlm.model import CLVA, EAH, LlavaConfig
from minivlm.model.clva import usual_layers
from minivlm.toyworld.questions import DESCRIBE
from minivlm.toyworld.scenes import Scene

KEPT_RECALL = 0.95  # of the plain model's: a method must not lower CHAIR_i by naming fewer objects
EAH_LAYERS = (0, 1, 2, 3)
EAH_THRESHOLDS = (1.0, 2.0)  # times the published one, scaled to this model's length of prompt
STRENGTHS = ((0.2, 0.1), (0.4, 0.2), (0.6, 0.3), (0.8, 0.2))  # omega, beta
GATES = (True, False)
Layers = tuple[int, ...]
Method = TypeVar("Method", EAH, CLVA)


@dataclass(frozen=True)
class Tuned:
    """The best settings, and settings and figures of all that were tried."""

    eah: EAH
    clva: CLVA
    tried: tuple[dict, ...] = ()


def default_settings(config: LlavaConfig) -> Tuned:
    """The default settings of each method for this model."""
    return Tuned(EAH.for_model(config), CLVA.for_model(config))


def tune(vlm: VLM, scenes: Sequence[Scene], question: str = DESCRIBE[0]) -> Tuned:
    """For each method the settings with the lowest CHAIR_i among those with at least 95 % of plain's recall.

    A method for which no settings qualify keeps its defaults.
    """
    config = vlm.model.config
    usual = default_settings(config)
    wanted = [PLAIN_CONDITION, *grid(config)]
    rows = [tried(vlm, scenes, question, condition) for condition in tqdm(wanted, desc="tuning", unit="setting")]
    plain = rows[0]["recall"]
    eah = best([(c.eah, row) for c, row in zip(wanted, rows, strict=True) if c.eah], plain, usual.eah)
    clva = best([(c.clva, row) for c, row in zip(wanted, rows, strict=True) if c.clva], plain, usual.clva)
    return Tuned(eah, clva, tuple(rows))


def grid(config: LlavaConfig) -> list[Condition]:
    """All settings to try, each method alone."""
    depth = config.text_config.num_hidden_layers
    usual = EAH.for_model(config).threshold
    heads = [EAH(layer, times * usual) for layer, times in product(EAH_LAYERS, EAH_THRESHOLDS) if layer < depth]
    anchors = [
        CLVA(noise, anchor, deep, omega=omega, beta=beta, gate=gate)
        for (noise, anchor, deep), (omega, beta), gate in product(layer_sets(depth), STRENGTHS, GATES)
    ]
    return [*(Condition("method", eah=eah) for eah in heads), *(Condition("method", clva=clva) for clva in anchors)]


def layer_sets(depth: int) -> list[tuple[Layers, Layers, Layers]]:
    """Noise, anchor and deep layers: CLVA's own, and a set with anchors in the second quarter and a deep half."""
    noise, anchor, deep = usual_layers(depth)
    early = tuple(range(max(1, depth // 4), max(2, depth // 2)))
    half = tuple(range(early[-1] + 1, depth))
    return [(noise, anchor, deep), (tuple(layer for layer in noise if layer < early[0]) or (0,), early, half)]


def tried(vlm: VLM, scenes: Sequence[Scene], question: str, condition: Condition) -> dict:
    """The settings of a condition, and its CHAIR_i, recall and words."""
    ratios = caption_ratios(write_captions(vlm, scenes, question, condition), scenes)
    return {**condition.settings(), **{name: float(ratios[name].value) for name in ("chair_i", "recall", "words")}}


def best(tried: Sequence[tuple[Method, Mapping[str, Any]]], plain: float, otherwise: Method) -> Method:
    """The settings with the lowest CHAIR_i among those that keep the recall; `plain`: the recall without a method."""
    kept = [(settings, row) for settings, row in tried if row["recall"] >= KEPT_RECALL * plain]
    return min(kept, key=lambda pair: pair[1]["chair_i"])[0] if kept else otherwise


def as_dict(tuned: Tuned) -> dict:
    """The settings, and all that were tried, in JSON types."""
    return {"eah": plain_types(tuned.eah), "clva": plain_types(tuned.clva), "tried": list(tuned.tried)}
