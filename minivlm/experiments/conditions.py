"""The table of the methods: plain, EAH, CLVA and both, with the oracle as upper bound and the controls as lower bound.

    minivlm exam --methods --out FOLDER

Every condition answers greedily about the same scenes, and is compared with the plain model scene by scene. A gain
counts as evidence for a method if its interval leaves out zero, if recall is kept, and if the method's controls do not
have it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from numpy.typing import NDArray
from tqdm import tqdm

from minivlm.evaluation.settings import PLAIN
from minivlm.experiments.exam import circumstances, draw
from minivlm.experiments.oracle import Oracle
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
from minivlm.experiments.tuning import Tuned, as_dict, default_settings, tune
from minivlm.inference.vlm import VLM
from minivlm.model import CLVA, EAH, LlavaConfig
from minivlm.stats import RESAMPLES, Ratio, compared, resamples
from minivlm.toyworld.questions import DESCRIBE
from minivlm.toyworld.scenes import Scene
from minivlm.toyworld.world import HELD_OUT, SUBSTITUTIONS, WORLDS, World

TUNING_SCENES, TUNING_ELSEWHERE = 300, 100
YES_NO_SCENES = 250  # each with some seventeen questions, which take most of the time
RANDOM_HEADS = (1, 2, 3)  # seeds
QUARTERS = ("first", "second", "third", "last")


def tables(vlm: VLM, scenes: int = 1000) -> dict:
    """The two tables of `minivlm exam --methods`: held-out scenes, and captions where companions are replaced."""
    elsewhere = run(vlm, scenes, world=SUBSTITUTIONS, yes_no=0, tuning=min(scenes, 2 * TUNING_ELSEWHERE) // 2)
    return {"methods": run(vlm, scenes, yes_no=min(scenes, YES_NO_SCENES)), "substitutions": elsewhere}


def run(
    vlm: VLM,
    scenes: int = 1000,
    *,
    yes_no: int | None = None,
    tuning: int = TUNING_SCENES,
    question: str = DESCRIBE[0],
    world: World = HELD_OUT,
    only: str = "",
) -> dict:
    """All figures of the table in JSON types, on `scenes` scenes of `world`; half an hour on a CPU core in bf16.

    Yes-no questions take most of that time; they are asked about the first `yes_no` scenes (None: all). The methods are
    tuned on `tuning` other scenes of the same kind; with 0 they keep their defaults. `only`: a text that the names of
    the conditions must contain (plain is always included).
    """
    drawn = draw(world, scenes)
    tuned = tuned_settings(vlm, tuning, question, world)
    sets = pope_sets(drawn[:yes_no], world)
    wanted = {
        name: one for name, one in conditions(vlm.model.config, tuned).items() if only in name or one is PLAIN_CONDITION
    }
    bar = tqdm(wanted.items(), desc="methods", unit="condition")
    outcomes = {name: outcome(vlm, drawn, question, sets, condition) for name, condition in bar}
    times = {number: resamples(number) for number in {scenes, len(drawn[:yes_no])} - {0}}
    return {
        **circumstances(vlm),
        "scenes": scenes,
        "yes-no scenes": len(drawn[:yes_no]),
        "world": next((name for name, known in WORLDS.items() if known == world), asdict(world)),
        "question": question,
        "resamples": RESAMPLES,
        "tuning": {"scenes": tuning, **as_dict(tuned)},
        "conditions": {name: row(one, outcomes[PLAIN], times) for name, one in outcomes.items()},
    }


def tuned_settings(vlm: VLM, scenes: int, question: str, world: World) -> Tuned:
    """The methods' settings, tuned on `scenes` scenes of another random stream; the defaults for 0 scenes."""
    if scenes == 0:
        return default_settings(vlm.model.config)
    return tune(vlm, draw(replace(world, stream="tuning"), scenes), question)


# --- what is compared -----------------------------------------------------------------------------------------------


def conditions(config: LlavaConfig, tuned: Tuned) -> dict[str, Condition]:
    """Name -> condition, plain first."""
    eah, clva = tuned.eah, tuned.clva
    depth = config.text_config.num_hidden_layers
    return {
        PLAIN: PLAIN_CONDITION,
        "EAH": Condition("method", eah=eah),
        "CLVA": Condition("method", clva=clva),
        "EAH and CLVA": Condition("method", eah=eah, clva=clva),
        **oracles(depth),
        **eah_controls(eah, depth),
        **clva_controls(clva),
        "last third flattened": Condition("control", flatten=tuple(range(2 * depth // 3, depth))),
    }


def oracles(depth: int) -> dict[str, Condition]:
    """The upper bound, in all layers and by quarter of the depth; and controls: the same strength, other targets."""
    everywhere = tuple(range(depth))
    quarters = {
        f"oracle, {name} quarter": tuple(range(part * depth // 4, (part + 1) * depth // 4))
        for part, name in enumerate(QUARTERS)
    }
    bands = {"oracle": everywhere, **{name: layers for name, layers in quarters.items() if layers}}
    controls = {
        "oracle, random patches": Oracle(everywhere, target="random"),
        "oracle, everything but objects": Oracle(everywhere, target="elsewhere"),
        "oracle, last quarter, random patches": Oracle(quarters["oracle, last quarter"], target="random"),
    }
    return {
        **{name: Condition("ceiling", oracle=Oracle(layers)) for name, layers in bands.items()},
        **{name: Condition("control", oracle=oracle) for name, oracle in controls.items()},
    }


def eah_controls(eah: EAH, depth: int) -> dict[str, Condition]:
    """Controls of EAH: the broadcast of a head, or in a layer, that EAH would not choose."""
    changed = {
        **{f"EAH, random head ({seed})": replace(eah, head="random", seed=seed) for seed in RANDOM_HEADS},
        "EAH, second densest head": replace(eah, head="second"),
        "EAH, other layer": replace(eah, layer=(eah.layer + depth // 2) % depth),
    }
    return {name: Condition("control", eah=settings) for name, settings in changed.items()}


def clva_controls(clva: CLVA) -> dict[str, Condition]:
    """Controls of CLVA: the same strength with meaningless anchors, and the method without one of its parts."""
    changes: dict[str, dict[str, Any]] = {
        "CLVA, random anchor": {"anchor": "random"},
        "CLVA, shuffled anchor": {"anchor": "shuffled"},
        "CLVA, roles swapped": {"swapped": True},
        "CLVA, omega 0": {"omega": 0.0},
        "CLVA, beta 0": {"beta": 0.0},
        f"CLVA, gate {'off' if clva.gate else 'on'}": {"gate": not clva.gate},
    }
    return {name: Condition("control", clva=replace(clva, **change)) for name, change in changes.items()}


# --- one row --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Outcome:
    """The captions under a condition, and the figures of captions and yes-no answers."""

    condition: Condition
    captions: list[str]
    ratios: dict[str, Ratio]


def outcome(vlm: VLM, scenes: Sequence[Scene], question: str, sets: Sets, condition: Condition) -> Outcome:
    """Ask under one condition. The oracle gets no yes-no questions: it knows the objects, which would be the answer."""
    captions = write_captions(vlm, scenes, question, condition)
    ratios = caption_ratios(captions, scenes)
    if condition.oracle is None:
        ratios |= pope_ratios(sets, answer_yes_no(vlm, scenes, sets, condition))
    return Outcome(condition, captions, ratios)


def row(mine: Outcome, plain: Outcome, times: Mapping[int, NDArray]) -> dict:
    """One row of the table in JSON types; `times`: number of scenes -> their resamples, see `stats.resamples`."""
    other = sum(one != another for one, another in zip(mine.captions, plain.captions, strict=True))
    figures = {name: compared(ratio, plain.ratios[name], times[len(ratio.part)]) for name, ratio in mine.ratios.items()}
    return {
        "kind": mine.condition.kind,
        "settings": mine.condition.settings(),
        "changed": other / len(mine.captions),  # share of the captions that differ from plain in some word
        "figures": figures,
    }
