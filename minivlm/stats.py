"""Figures with intervals: the paired bootstrap over scenes (Efron 1979).

A figure is a ratio of two sums over the scenes: CHAIR_i is the sum of the objects that were invented over the sum of
those that were named. A resample takes as many scenes as there are, with replacement, and computes the figure anew;
the interval holds the middle 95 % of 1,000 of them. Two conditions on the same scenes are held against each other in
the same resamples, so that a scene which is hard for both does not widen the interval of their difference.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from minivlm.errors import EvaluationError

RESAMPLES = 1000
LEVEL = 0.95


@dataclass(frozen=True)
class Ratio:
    """A figure: `part` and `whole` (N, …) of each of N scenes. Further axes, such as layers, are figures by themselves.

    Where nothing is to be counted, in the scenes or in a resample, the figure is 0.
    """

    part: NDArray
    whole: NDArray

    @classmethod
    def of(cls, part: ArrayLike, whole: ArrayLike) -> "Ratio":
        return cls(np.asarray(part, float), np.asarray(whole, float))

    @property
    def value(self) -> NDArray:
        """The figure over all scenes, (…)."""
        return divided(self.part.sum(axis=0), self.whole.sum(axis=0))

    def resampled(self, times: NDArray) -> NDArray:
        """The figure (R, …) in each resample; `times` (R, N) says how often each scene is in it."""
        return divided(np.tensordot(times, self.part, 1), np.tensordot(times, self.whole, 1))


@dataclass(frozen=True)
class Estimate:
    """A figure, or the difference of two, with its interval: (…) each."""

    value: NDArray
    low: NDArray
    high: NDArray

    def as_dict(self) -> dict[str, float | list]:
        """The same in JSON types."""
        return {name: np.asarray(value).tolist() for name, value in vars(self).items()}


def resamples(scenes: int, number: int = RESAMPLES, seed: int = 0) -> NDArray:
    """How often each scene is in each resample, (number, scenes); every row sums to `scenes`."""
    if scenes < 1:
        raise EvaluationError(f"A bootstrap needs at least one scene, found {scenes}.")
    return np.random.default_rng(seed).multinomial(scenes, np.full(scenes, 1 / scenes), size=number).astype(float)


def estimate(figure: Ratio, times: NDArray) -> Estimate:
    """The figure with its interval; `times`: see `resamples`."""
    return Estimate(figure.value, *interval(figure.resampled(times)))


def difference(figure: Ratio, plain: Ratio, times: NDArray) -> Estimate:
    """How far the figure lies above `plain` on the same scenes in the same order."""
    if len(figure.part) != len(plain.part):
        raise EvaluationError(
            f"A paired difference needs the same scenes in both conditions, found {len(figure.part)} and "
            f"{len(plain.part)}."
        )
    return Estimate(figure.value - plain.value, *interval(figure.resampled(times) - plain.resampled(times)))


def interval(values: NDArray, level: float = LEVEL) -> Sequence[NDArray]:
    """The ends of the middle `level` of `values` (R, …)."""
    return np.quantile(values, [(1 - level) / 2, (1 + level) / 2], axis=0)


def divided(part: NDArray, whole: NDArray) -> NDArray:
    """`part` over `whole`, 0 where the whole is."""
    part, whole = np.broadcast_arrays(part, whole)
    return np.divide(part, whole, out=np.zeros(part.shape), where=whole != 0)


def compared(figure: Ratio, plain: Ratio, times: NDArray) -> dict:
    """The figure with its interval, and under "difference" how far it lies above `plain`, in JSON types."""
    return {**estimate(figure, times).as_dict(), "difference": difference(figure, plain, times).as_dict()}
