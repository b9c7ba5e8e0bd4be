"""A mean over scenes with its bootstrap band, a value for each layer: what a curve of `lens.drift` is drawn from."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from minivlm.errors import EvaluationError
from minivlm.stats import LEVEL, RESAMPLES, Ratio, interval, resamples


@dataclass(frozen=True)
class Curve:
    """A mean over scenes with its bootstrap band: a value for each layer, or for each pair of layers."""

    mean: Tensor  # (L,), or (L, L); nan if n is 0
    low: Tensor  # the band; with a single scene it equals the mean, since every resample is that scene
    high: Tensor
    n: int  # scenes with at least one such word
    words: int  # such words in all scenes

    def as_dict(self) -> dict:
        """The curve in JSON types; None for nan."""
        lines = zip(("value", "low", "high"), self.lines, strict=True)
        return {**{name: listed(line) for name, line in lines}, "words": self.words}

    @property
    def lines(self) -> tuple[Tensor, Tensor, Tensor]:
        """Mean, low and high, in the order that `lens.plots` takes."""
        return self.mean, self.low, self.high


def listed(line: Tensor) -> Any:
    """A tensor as nested lists; None for nan."""
    if line.ndim:
        return [listed(part) for part in line]
    return None if line.isnan() else float(line)


def bootstrap(
    values_by_scene: Sequence[Tensor], *, draws: int = RESAMPLES, seed: int = 0, level: float = LEVEL
) -> Curve:
    """The mean over scenes, and the band that holds `level` of the means of resampled scenes, see `minivlm.stats`.

    Each scene gives the values (words, …) of its words and counts once, by their mean: words of one answer depend on
    each other, so scenes are resampled. Words of nan and scenes without a word are left out. Raises `EvaluationError`.
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
        unknown = torch.full(shape, torch.nan)
        return Curve(unknown, unknown, unknown, n=0, words=0)
    lines = mean_and_band(torch.stack(means).numpy(), resamples(len(means), draws, seed), level)
    mean, low, high = (torch.from_numpy(line).float().reshape(shape) for line in lines)
    return Curve(mean, low, high, n=len(means), words=sum(map(len, tables)))


def mean_and_band(values: NDArray, times: NDArray, level: float) -> tuple[NDArray, ...]:
    """Mean, low and high (positions,) of `values` (scenes, positions) without nan; `times`: see `stats.resamples`."""
    known = ~np.isnan(values)
    mean = Ratio.of(np.where(known, values, 0), known)
    resampled = np.where(times @ known > 0, mean.resampled(times), np.nan)
    return (np.where(known.any(axis=0), mean.value, np.nan), *interval(resampled, level))
