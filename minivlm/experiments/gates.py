"""Gates: the claims that a positive control must carry, and what was found, for `drift_control` and `sinks_control`.

A control consists of two models, a healthy and a planted one, under several conditions. Everything is paired by scene,
with 95 % intervals.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from numpy.typing import NDArray

from minivlm.errors import ConfigError
from minivlm.evaluation.settings import PLAIN
from minivlm.experiments.card import table
from minivlm.inference.vlm import VLM
from minivlm.stats import Ratio, difference, divided, estimate, interval

QUERIES_AND_KEYS = re.compile(r"^text\.layers\.\d+\.self_attn\.[qk]_proj\.")
Figures = Mapping[str, Mapping[str, Ratio]]  # condition -> figure -> its ratio


@dataclass(frozen=True)
class Gate:
    """One claim that the positive control must carry."""

    name: str
    must: str  # what must be, in words
    found: str
    passed: bool

    def as_dict(self) -> dict[str, str | bool]:
        """The gate in JSON types."""
        return vars(self).copy()


def require_pair(healthy: VLM, planted: VLM) -> None:
    """Raise `ConfigError` unless `planted` is `healthy` with other queries and keys, and with nothing else changed."""
    if healthy.model.config != planted.model.config:
        raise ConfigError(f"{planted.name} and {healthy.name} have different configs: one is not the other's control.")
    before, after = healthy.model.state_dict(), planted.model.state_dict()
    changed = [name for name, weights in before.items() if not torch.equal(weights, after[name])]
    others = [name for name in changed if not QUERIES_AND_KEYS.search(name)]
    if others or not changed:
        what = f"in {len(others)} other tensors, such as {others[0]}, too" if others else "in nothing"
        raise ConfigError(
            f"A planted model differs from its healthy one in queries and keys of the decoder, and in nothing else; "
            f"{planted.name} differs from {healthy.name} {what}. Pass a pair that was trained together."
        )


def in_json(measured: Mapping[str, Figures], times: NDArray) -> dict:
    """Model ("healthy", "planted") -> condition -> figure, with its interval and its difference to plain.

    Plain is the same model without any method; for the plain planted model it is the plain healthy one.
    """
    found: dict = {}
    for model, conditions in measured.items():
        for name, ratios in conditions.items():
            plain = measured["healthy"][PLAIN] if name == PLAIN else conditions[PLAIN]
            found.setdefault(model, {})[name] = {
                figure: {
                    **estimate(ratio, times).as_dict(),
                    "difference": difference(ratio, plain[figure], times).as_dict(),
                }
                for figure, ratio in ratios.items()
            }
    return found


def returned(measured: Mapping[str, Figures], figure: str, times: NDArray) -> dict[str, dict]:
    """Condition -> the share of what the planted model lost in a figure and that comes back, with its interval."""
    well, ill = (measured[model][PLAIN][figure] for model in ("healthy", "planted"))
    taken, resampled = well.value - ill.value, well.resampled(times) - ill.resampled(times)
    shares = {}
    for name, ratios in measured["planted"].items():
        low, high = interval(divided(ratios[figure].resampled(times) - ill.resampled(times), resampled))
        value = divided(ratios[figure].value - ill.value, taken)
        shares[name] = {"value": float(value), "low": float(low), "high": float(high)}
    return {name: share for name, share in shares.items() if name != PLAIN}


def points(figure: Mapping[str, float]) -> str:
    """A figure or difference in percent with its interval: "-13.4 (-15.0 to -11.9)"."""
    value, low, high = (100 * figure[name] for name in ("value", "low", "high"))
    return f"{value:.1f} ({low:.1f} to {high:.1f})"


def gates_table(gates: Sequence[Mapping]) -> str:
    """The gates as a table."""
    rows = [[one["name"], one["must"], one["found"], "yes" if one["passed"] else "**no**"] for one in gates]
    return table(["gate", "must be", "found", "passed"], rows)


def figures_table(figures: Mapping, names: Sequence[str], back: Sequence[str]) -> str:
    """The figures `names` of all conditions as a table, and beside them what comes back of those in `back`.

    `figures` has those of `in_json` under "figures", and under "returned" those of `returned` by figure.
    """
    rows = [
        [
            f"{model}: {name}",
            *(points(one[figure]) for figure in names),
            *(share(figures["returned"][figure].get(name), model) for figure in back),
        ]
        for model, conditions in figures["figures"].items()
        for name, one in conditions.items()
    ]
    return table(["", *names, *(f"{figure} that comes back" for figure in back)], rows)


def control_gates(
    back: Mapping[str, Mapping[str, float]], controls: Mapping[str, Sequence[str]], of: str
) -> list[Gate]:
    """The controls of each method bring back less than a third of what it does; `back` as from `returned`."""
    return [
        Gate(
            f"{control}: {of} that comes back",
            f"below {100 * back[method]['value'] / 3:.0f} %",
            points(back[control]),
            back[control]["value"] < back[method]["value"] / 3,
        )
        for method, some in controls.items()
        for control in some
    ]


def share(back: Mapping[str, float] | None, model: str) -> str:
    """The share that comes back, of the planted model's conditions."""
    return points(back) if back and model == "planted" else ""
