"""The figures of a bench as a picture: milliseconds of the first token and of each further one, by method and peer."""

from collections.abc import Mapping
from typing import Any

from minivlm.lens import plots

PANELS = {"first token, ms": "prefill", "a further token, ms": "decode"}


def bench_plot(facts: Mapping[str, Any]) -> plots.Figure:
    """Bars for the median of all rounds, whiskers for the least and the most; peers have no whiskers."""
    weights = f" in {facts['weights']}" if facts["weights"] else ""
    made_by = f"{facts['model']}{weights}, {facts['dtype']}, {facts['device']}, {facts['prompt']} tokens of prompt"
    return plots.time_bars({label: milliseconds(facts, phase) for label, phase in PANELS.items()}, made_by=made_by)


def milliseconds(facts: Mapping[str, Any], phase: str) -> dict[str, tuple[float, float, float]]:
    """Name -> least, median and most milliseconds of a token; a further token of a batch has its share of the step."""
    found = {}
    for name, own in facts["methods"].items():
        seconds, answers = own[phase]["seconds"], own["answers"] if phase == "decode" else 1
        least, middle, most = (1e3 * seconds[which] / answers for which in ("least", "median", "most"))
        found[name] = least, middle, most
    for name, own in facts.get("peers", {}).get("kinds", {}).items():
        if "error" not in own:
            seconds = own["first token s"] if phase == "prefill" else 1 / own["tokens/s"]
            found[f"peer {name}"] = (1e3 * seconds,) * 3
    return found
