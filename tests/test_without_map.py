"""Sink scores and head broadcasting without a map, against the maps written out.

Tolerances: scores are the same weights, summed in another order, so that fp64 agrees to 1e-12 and fp32 to 1e-6 (weights
are at most 1, and means of them are taken). The fused kernel is held in fp64 against a softmax of our own to 1e-12, of
values around 1; against `attention_weights`, whose softmax is computed in fp32 whatever the dtype, to 1e-6.
"""

import pytest
import torch
from torch.testing import assert_close

from minivlm.lens.without_map import broadcast_without_map, sink_scores_without_map
from minivlm.model.attention import STRIPE, attention_weights, repeat_heads
from minivlm.model.decoder import causal_mask
from minivlm.model.eah import broadcast_head
from minivlm.model.sinks import vision_sink_scores

EXACT, CLOSE = {"rtol": 0, "atol": 1e-12}, {"rtol": 0, "atol": 1e-6}
LENGTHS = [1, 7, STRIPE - 1, STRIPE, STRIPE + 1, 2 * STRIPE + 5]
GROUPS = [1, 2, 4]
HEADS, WIDTH = 4, 8


def drawn(queries: int, keys: int, groups: int = 2, dtype: torch.dtype = torch.float64) -> list[torch.Tensor]:
    """q, k, v and a mask for three samples: padded on the left, on the right, and not at all."""
    generator = torch.Generator().manual_seed(1000 * queries + keys)
    shapes = (3, HEADS, queries, WIDTH), (3, groups, keys, WIDTH), (3, groups, keys, WIDTH)
    q, k, v = ((2 * torch.randn(shape, generator=generator, dtype=torch.float64)).to(dtype) for shape in shapes)
    place = torch.arange(keys)
    attention_mask = torch.stack((place >= keys // 3, place <= keys // 2, place >= 0))
    return [q, k, v, causal_mask(attention_mask, queries)]


def softmax_of(q: torch.Tensor, k: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Weights in the dtype of q throughout, which `attention_weights` are not."""
    scores = torch.einsum("bhqd,bhkd->bhqk", q, repeat_heads(k, HEADS // k.shape[1])) / WIDTH**0.5
    return scores.masked_fill(~mask, -torch.inf).softmax(dim=-1)


def scores_of(q: torch.Tensor, k: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    return vision_sink_scores(attention_weights(q, repeat_heads(k, HEADS // k.shape[1]), mask), mask)


# --- sink scores ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("groups", GROUPS)
@pytest.mark.parametrize("length", LENGTHS)
def test_scores_equal_those_of_the_map(length, groups):
    q, k, _, mask = drawn(length, length, groups)
    assert_close(sink_scores_without_map(q, k, mask), scores_of(q, k, mask), **EXACT)


@pytest.mark.parametrize(("queries", "keys"), [(1, 1), (1, 9), (5, 9), (STRIPE + 3, 2 * STRIPE)])
def test_scores_with_a_cache_equal_those_of_the_map(queries, keys):
    q, k, _, mask = drawn(queries, keys)
    found = sink_scores_without_map(q, k, mask)
    assert found.shape == (3, HEADS, keys)
    assert_close(found, scores_of(q, k, mask), **EXACT)
    assert found.any() or keys == 1  # not a comparison of zeros


def test_scores_by_hand():
    """Uniform attention: row x gives 1 / (x + 1) to each column; the diagonal does not count."""
    q, k = torch.zeros(1, 1, 4, 2), torch.zeros(1, 1, 4, 2)
    mask = causal_mask(torch.ones(1, 4, dtype=torch.bool), 4)
    expected = [(1 / 2 + 1 / 3 + 1 / 4) / 3, (1 / 3 + 1 / 4) / 2, 1 / 4, 0]
    assert_close(sink_scores_without_map(q, k, mask), torch.tensor(expected)[None, None], **CLOSE)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_scores_of_half_precision_are_fp32(dtype):
    q, k, _, mask = drawn(300, 300, dtype=dtype)
    found = sink_scores_without_map(q, k, mask)
    assert found.dtype == torch.float32
    assert_close(found, scores_of(q, k, mask), **CLOSE)


def test_padding_has_no_score_and_changes_none():
    q, k, _, _ = drawn(12, 12)
    attention_mask = torch.arange(12)[None] >= 4
    found = sink_scores_without_map(q[:1], k[:1], causal_mask(attention_mask, 12))
    alone = sink_scores_without_map(q[:1, :, 4:], k[:1, :, 4:], causal_mask(attention_mask[:, 4:], 8))
    assert_close(found[..., 4:], alone, **EXACT)
    assert not found[..., :4].any()


def test_gradients_of_scores_equal_those_of_the_map():
    grads = []
    for scores in (sink_scores_without_map, scores_of):
        q, k, _, mask = drawn(STRIPE + 9, STRIPE + 9)
        q.requires_grad_(), k.requires_grad_()
        scores(q, k, mask).square().sum().backward()
        grads.append((q.grad, k.grad))
    assert grads[0][0].abs().max() > 1e-4
    for found, expected in zip(*grads, strict=True):
        assert_close(found, expected, rtol=0, atol=1e-9)  # through the fp32 softmax and back


def test_scores_leave_the_inputs_alone():
    inputs = drawn(9, 9)
    before = [x.clone() for x in inputs]
    sink_scores_without_map(inputs[0], inputs[1], inputs[3])
    assert all(torch.equal(x, y) for x, y in zip(inputs, before, strict=True))


# --- broadcasting -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("groups", GROUPS)
@pytest.mark.parametrize(("queries", "keys"), [(1, 1), (9, 9), (1, 9), (4, 9), (STRIPE + 3, STRIPE + 3)])
def test_expanded_queries_and_keys_are_a_broadcast_map(queries, keys, groups):
    """All heads in turn, each sample another, one sample left alone."""
    q, k, v, mask = drawn(queries, keys, groups)
    weights, values = softmax_of(q, k, mask), repeat_heads(v, HEADS // groups)
    everywhere = torch.ones(3, queries, dtype=torch.bool)
    for head in torch.tensor([[0, 3, -1], [-1, 2, 1], [3, -1, 0], [1, 1, 2], [-1, -1, -1]]):
        expected = broadcast_head(weights, head, everywhere) @ values
        assert_close(broadcast_without_map(q, k, v, mask, head), expected, **EXACT)


def test_padding_reads_the_same_through_any_map():
    """The model leaves padded rows alone; here they are given the map, in which they see themselves as before."""
    q, k, v, mask = drawn(12, 12)
    place, head = torch.arange(12), torch.tensor([2, 1, 3])
    attention_mask = torch.stack((place >= 4, place <= 6, place >= 0))
    weights = attention_weights(q, repeat_heads(k, 2), mask)
    expected = broadcast_head(weights, head, attention_mask) @ repeat_heads(v, 2)
    assert_close(broadcast_without_map(q, k, v, mask, head), expected, **CLOSE)


def test_left_alone_is_plain_attention():
    q, k, v, mask = drawn(9, 9)
    expected = softmax_of(q, k, mask) @ repeat_heads(v, 2)
    assert_close(broadcast_without_map(q, k, v, mask, torch.full((3,), -1)), expected, **EXACT)


def test_gradients_reach_the_chosen_head_alone():
    q, k, v, mask = (x.requires_grad_() if x.is_floating_point() else x for x in drawn(9, 9, groups=4))
    head = torch.tensor([2, 0, -1])
    broadcast_without_map(q, k, v, mask, head).square().sum().backward()
    found = [q.grad, k.grad, v.grad]
    q, k, v = (x.detach().requires_grad_() for x in (q, k, v))
    maps = broadcast_head(softmax_of(q, k, mask), head, torch.ones(3, 9, dtype=torch.bool))
    (maps @ v).square().sum().backward()
    for one, other in zip(found, (q.grad, k.grad, v.grad), strict=True):
        assert_close(one, other, rtol=0, atol=1e-10)  # of up to 10
    touched = (found[0].abs().sum(dim=(2, 3)) > 0).tolist()
    assert touched == [[False, False, True, False], [True, False, False, False], [True] * 4]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_broadcast_in_half_precision(dtype):
    """Both round in their own places: two steps of the dtype, of values up to 6."""
    q, k, v, mask = drawn(40, 40, dtype=dtype)
    head = torch.tensor([1, 3, -1])
    weights = attention_weights(q, repeat_heads(k, 2), mask)
    expected = broadcast_head(weights, head, torch.ones(3, 40, dtype=torch.bool)) @ repeat_heads(v, 2)
    found = broadcast_without_map(q, k, v, mask, head)
    assert found.dtype == dtype
    assert_close(found.float(), expected.float(), rtol=0, atol=12 * torch.finfo(dtype).eps)
