"""Settings of a generation, and how a token is drawn from logits.

Frequencies of drawn tokens have tolerances of five standard deviations; the seed is fixed.
"""

from dataclasses import replace

import pytest
import torch

from minivlm.errors import ConfigError, GenerationError, brief
from minivlm.inference.generate import Generation, keep_top_k, keep_top_p, sample
from minivlm.model import CLVA, EAH

DRAWS = 10_000


@pytest.mark.parametrize("k", [1, 3, 11, 12, 50, None])
def test_top_k_keeps_the_k_likeliest(k):
    logits = torch.randn(4, 12, generator=torch.Generator().manual_seed(0))
    for before, after in zip(logits.tolist(), keep_top_k(logits, k).tolist(), strict=True):
        likeliest = sorted(range(12), key=lambda i: -before[i])[:k]
        assert {i for i in range(12) if after[i] > float("-inf")} == set(likeliest)
        assert all(after[i] == before[i] for i in likeliest)


@pytest.mark.parametrize("p", [5e-324, 1e-46, 1e-9, 0.3, 0.7, 0.999, 1, 1.0])
def test_top_p_keeps_the_fewest_likeliest_that_reach_p(p):
    logits = 2 * torch.randn(6, 12, generator=torch.Generator().manual_seed(0))
    for before, after in zip(logits, keep_top_p(logits, p), strict=True):
        share = before.double().softmax(0).tolist()
        kept, sum_so_far = set(), 0.0
        for token in sorted(range(12), key=lambda i: -share[i]):
            if sum_so_far >= p:
                break
            kept.add(token)
            sum_so_far += share[token]
        assert {i for i in range(12) if after[i] > float("-inf")} == kept


def drawn(logits: torch.Tensor, draws: int = DRAWS, allowed=None, **settings) -> torch.Tensor:
    """How often each token is chosen, as a share; one die for all draws."""
    die = torch.Generator().manual_seed(0)
    settings = Generation(**{"temperature": 1.0} | settings)
    rows = sample(logits.repeat(draws, 1), settings, [die] * draws, allowed)
    return rows.bincount(minlength=logits.shape[-1]) / draws


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_tokens_are_drawn_with_their_probabilities(temperature):
    logits = torch.tensor([2.0, 1.0, 0.5, 0.0, -1.0, -3.0])
    expected = (logits / temperature).softmax(0)
    deviation = (expected * (1 - expected) / DRAWS).sqrt()
    found = drawn(logits, temperature=temperature)
    assert ((found - expected).abs() < 5 * deviation).all()
    chi_square = float(DRAWS * ((found - expected).square() / expected).sum())
    assert 0 < chi_square < 25.7  # 5 degrees of freedom: larger once in 10,000


def test_cuts_are_made_before_drawing():
    logits = torch.tensor([3.0, 2.0, 1.0, 0.0])
    expected = torch.tensor([3.0, 2.0]).softmax(0)
    for cut in ({"top_k": 2}, {"top_p": 0.8}):  # the shares are 0.64, 0.24, 0.09, 0.03
        found = drawn(logits, **cut)
        assert found[2:].sum() == 0
        assert (found[:2] - expected).abs().max() < 0.02


@pytest.mark.parametrize("temperature", [1e-3, 1e-30, 1e-45, 1e-320])
def test_towards_temperature_0_the_likeliest_is_chosen(temperature):
    logits = torch.tensor([-1.0, 4.0, 3.9, 0.0])
    assert drawn(logits, 100, temperature=temperature)[1] == 1
    allowed = torch.tensor([True, False, True, True])
    assert drawn(logits, 100, allowed, temperature=temperature)[2] == 1


@pytest.mark.parametrize(
    "settings",
    [{"temperature": 0.0}, {"temperature": 5.0}, {"temperature": 1e308}, {"top_k": 3}, {"top_p": 0.9}],
    ids=str,
)
def test_what_is_not_allowed_is_never_chosen(settings):
    logits = torch.tensor([9.0, 8.0, 1.0, 0.9, 7.0, 0.8])
    allowed = torch.tensor([False, False, True, True, False, True])
    found = drawn(logits, 2000, allowed, **settings)
    assert found[~allowed].sum() == 0
    if settings.get("temperature") != 0:
        assert (found[allowed] > 0).all()  # cuts are made among what is allowed


# --- settings ---------------------------------------------------------------------------------------------------------


BAD = {
    "max_new_tokens": [0, -1, 1.5, True, None, "9"],
    "temperature": [-0.1, float("nan"), float("inf"), True, None, "hot", 10**400, 10**5000],
    "top_k": [0, -1, 2.0, True],
    "top_p": [0, 0.0, -0.1, 1.01, float("nan"), None, True, 10**400],
    "seed": [-1, 1.5, True, "7", 2**64, 10**400],
    "stop": [("",), (1,), "", ("a", None)],
}


@pytest.mark.parametrize(
    ("name", "value"),
    [(name, value) for name, values in BAD.items() for value in values],
    ids=lambda value: brief(value, 20),
)
def test_settings_out_of_range(name, value):
    with pytest.raises(GenerationError, match=f"^{name} must .*, found ") as told:
        Generation(**{name: value})
    assert len(str(told.value)) < 200


def test_settings_in_range():
    kept = Generation(max_new_tokens=1, temperature=0, top_k=1, top_p=1, seed=0, stop="end")
    assert kept.stop == ("end",)
    assert Generation(stop=["a", "b"]).stop == ("a", "b")
    for seed in (2**63, 2**64 - 1):
        assert replace(kept, seed=seed).seed == seed
        assert drawn(torch.zeros(3), 9, seed=seed).sum() == 1
    assert drawn(torch.tensor([0.0, 9.0]), 9, top_k=10**400).sum() == 1


@pytest.mark.parametrize("cut", [{"top_k": 3}, {"top_p": 0.5}])
def test_a_cut_that_nothing_is_sampled_with_is_said(cut):
    with pytest.warns(UserWarning, match="top_k and top_p are not used: with a temperature of 0 nothing is sampled"):
        Generation(**cut)


@pytest.mark.filterwarnings("error")
def test_settings_that_are_used_are_not_said():
    Generation(top_k=3, top_p=0.5, temperature=0.1)
    Generation(seed=3)


@pytest.mark.parametrize("method", [EAH, CLVA])
@pytest.mark.parametrize("seed", [-1, 2**64, 10**5000], ids=["negative", "2^64", "10^5000"])
def test_seeds_of_methods_are_those_that_torch_takes(method, seed):
    assert method(seed=2**64 - 1).seed == 2**64 - 1
    with pytest.raises(ConfigError, match=r"seed must be a whole number from 0 to 2\^64 - 1, found "):
        method(seed=seed)
