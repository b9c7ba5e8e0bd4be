"""McNemar's exact test. The bootstrap that stands beside it is tested with the methods that it was made for."""

import itertools
from math import comb, sqrt
from statistics import NormalDist

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minivlm.errors import EvaluationError
from minivlm.stats import McNemar, mcnemar


def split(only_a: int, only_b: int, both: int = 7, neither: int = 5) -> McNemar:
    """The test on items of which so many were got right by the first alone, the second alone, both and neither."""
    a = [True] * only_a + [False] * only_b + [True] * both + [False] * neither
    b = [False] * only_a + [True] * only_b + [True] * both + [False] * neither
    return mcnemar(a, b)


@pytest.mark.parametrize(
    ("only_a", "only_b", "p"),
    [
        (0, 5, 2 / 32),
        (6, 0, 2 / 64),
        (1, 9, 22 / 1024),  # 2 * (1 + 10)
        (8, 2, 112 / 1024),  # 2 * (1 + 10 + 45)
        (15, 5, 0.04139),  # the sign test's table
        (60, 40, 0.05689),  # 60 heads of 100
        (3, 3, 1.0),
        (4, 3, 1.0),
        (0, 0, 1.0),
        (1, 0, 1.0),
    ],
)
def test_known_values(only_a, only_b, p):
    """The table's values have 4 digits; the fractions are exact."""
    assert split(only_a, only_b) == (only_a, only_b, pytest.approx(p, rel=2e-4))


@settings(max_examples=30)
@given(st.lists(st.booleans(), max_size=9))
def test_p_is_the_share_of_the_splits_at_least_as_uneven(wins):
    """By its definition: all ways in which as many fair coins fall."""
    uneven = abs(2 * sum(wins) - len(wins))
    ways = [abs(2 * sum(coins) - len(coins)) for coins in itertools.product((0, 1), repeat=len(wins))]
    expected = sum(way >= uneven for way in ways) / len(ways)
    assert mcnemar(wins, [not win for win in wins]).p == expected


@settings(max_examples=50)
@given(st.integers(0, 400), st.integers(0, 400))
def test_it_is_the_binomial_tail_on_both_sides(only_a, only_b):
    """Whole numbers up to one division on either side, so equal to the last digit but for the rounding of that one."""
    number = only_a + only_b
    tail = sum(comb(number, k) for k in range(min(only_a, only_b) + 1))
    assert split(only_a, only_b).p == pytest.approx(min(1, 2 * tail / 2**number), rel=1e-15)
    assert split(only_b, only_a).p == split(only_a, only_b).p


def test_large_sets_are_near_the_normal_distribution_and_do_not_overflow():
    """With continuity correction the normal is within 1e-3 for ten thousand items."""
    normal = 2 * NormalDist().cdf(-(abs(5050 - 4950) - 1) / sqrt(10000))
    assert split(5050, 4950).p == pytest.approx(normal, abs=1e-3)
    assert split(5000, 0).p == 0.0


def test_items_on_which_both_agree_change_nothing():
    assert split(3, 11, both=0, neither=0) == split(3, 11, both=500, neither=200)


def test_the_parts_have_names():
    result = split(2, 8)
    assert (result.only_a, result.only_b, result.p) == tuple(result)


def test_different_numbers_of_items_are_refused_with_both():
    with pytest.raises(EvaluationError, match="the same items, found 2 and 3"):
        mcnemar([True, False], [True, True, False])
