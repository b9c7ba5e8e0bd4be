"""Figures with intervals: the paired bootstrap over images (Efron 1979), and McNemar's test (1947) for yes-no answers.

A figure is a ratio of two sums over images (photographs, or scenes of the toy world): CHAIR_i is the number of objects
that were invented, divided by the number of those that were named. A resample draws as many images as there are, with
replacement, and computes the figure of these; the interval holds the middle 95 % of 1,000 resamples. Two conditions
on the same images are compared in the same resamples, so that an image which is hard for both does not widen the
interval of their difference.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from minivlm.errors import EvaluationError

RESAMPLES = 1000
LEVEL = 0.95  # of the intervals


@dataclass(frozen=True)
class Ratio:
    """A figure: the sum of `part` divided by the sum of `whole`, both (N, …) with an entry for each of N images.

    Further axes, such as layers, make several figures. Where the sum of `whole` is 0, the figure is 0.
    """

    part: NDArray
    whole: NDArray

    @classmethod
    def of(cls, part: ArrayLike, whole: ArrayLike) -> "Ratio":
        """A figure of numbers in any form that numpy takes, as floats."""
        return cls(np.asarray(part, float), np.asarray(whole, float))

    @property
    def value(self) -> NDArray:
        """The figure over all images, (…)."""
        return divided(self.part.sum(axis=0), self.whole.sum(axis=0))

    def resampled(self, times: NDArray) -> NDArray:
        """The figure (R, …) in each of R resamples; `times` (R, N): how often each image is in it."""
        return divided(np.tensordot(times, self.part, 1), np.tensordot(times, self.whole, 1))


@dataclass(frozen=True)
class Estimate:
    """A figure, or the difference of two, with its interval: (…) each."""

    value: NDArray
    low: NDArray
    high: NDArray

    def as_dict(self) -> dict[str, float | list]:
        """Value, low and high in JSON types."""
        return {name: np.asarray(value).tolist() for name, value in vars(self).items()}


def resamples(images: int, number: int = RESAMPLES, seed: int = 0) -> NDArray:
    """How often each image is in each resample, (number, images); every row sums to `images`.

    Raises `EvaluationError` without any image.
    """
    if images < 1:
        raise EvaluationError(f"A bootstrap needs at least one scene or image, found {images}.")
    return np.random.default_rng(seed).multinomial(images, np.full(images, 1 / images), size=number).astype(float)


def estimate(figure: Ratio, times: NDArray) -> Estimate:
    """The figure with its interval; `times`: see `resamples`."""
    return Estimate(figure.value, *interval(figure.resampled(times)))


def difference(figure: Ratio, plain: Ratio, times: NDArray) -> Estimate:
    """The figure minus `plain`, with its interval: both on the same images in the same order. `times`: see `resamples`.

    Raises `EvaluationError` if the numbers of images differ.
    """
    if len(figure.part) != len(plain.part):
        raise EvaluationError(
            f"A paired difference needs the same scenes or images in both conditions, found {len(figure.part)} "
            f"and {len(plain.part)}."
        )
    return Estimate(figure.value - plain.value, *interval(figure.resampled(times) - plain.resampled(times)))


def interval(values: NDArray, level: float = LEVEL) -> tuple[NDArray, NDArray]:
    """The two ends (…) of the middle share `level` of `values` (R, …). nan are ignored; if all are nan, so are the
    ends.
    """
    ends, unknown = [(1 - level) / 2, (1 + level) / 2], np.isnan(values)
    if not unknown.any():
        low, high = np.quantile(values, ends, axis=0)
        return low, high
    nothing = unknown.all(axis=0)
    low, high = np.where(nothing, np.nan, np.nanquantile(np.where(nothing, 0, values), ends, axis=0))
    return low, high


def divided(part: NDArray, whole: NDArray) -> NDArray:
    """`part` divided by `whole`, elementwise; 0 where `whole` is 0."""
    part, whole = np.broadcast_arrays(part, whole)
    return np.divide(part, whole, out=np.zeros(part.shape), where=whole != 0)


def compared(figure: Ratio, plain: Ratio, times: NDArray) -> dict:
    """The figure with its interval, and under "difference" the same of the figure minus `plain`, in JSON types."""
    return {**estimate(figure, times).as_dict(), "difference": difference(figure, plain, times).as_dict()}


def area_under_curve(positive: NDArray, negative: NDArray) -> float:
    """The area under the ROC curve: how often a value of `positive` (M,) is above one of `negative` (N,).

    A tie counts half.
    """
    above = positive[:, None] > negative
    return float((above + 0.5 * (positive[:, None] == negative)).mean())


class McNemar(NamedTuple):
    """The numbers of items on which only the first or only the second condition was right, and the two-sided p."""

    only_a: int
    only_b: int
    p: float


def mcnemar(a_right: Sequence[bool], b_right: Sequence[bool]) -> McNemar:
    """McNemar's exact test: are two conditions right equally often on the same items, in the same order?

    Only the items count on which one condition is right and the other wrong. If there is no difference, each of them
    is a fair coin: p is the probability of a split at least as uneven, computed in whole numbers up to the last
    division. Raises `EvaluationError` if the numbers of items differ.
    """
    if len(a_right) != len(b_right):
        raise EvaluationError(f"McNemar's test needs the same items, found {len(a_right)} and {len(b_right)}.")
    pairs = [(bool(a), bool(b)) for a, b in zip(a_right, b_right, strict=True)]
    only_a, only_b = pairs.count((True, False)), pairs.count((False, True))
    number, outcomes, ways = only_a + only_b, 0, 1  # ways: the binomial coefficient, number over k
    for k in range(min(only_a, only_b) + 1):
        outcomes += ways
        ways = ways * (number - k) // (k + 1)
    return McNemar(only_a, only_b, 1.0 if only_a == only_b else 2 * outcomes / 2**number)
