"""The network: two lanes, cache, padding, batches, maps, gradients.

What it refuses is in test_model_errors.py.

Tolerances: where the same sums are only grouped in another way (another kernel, another length), fp32 agrees to 1e-6 of
the largest logit times a few layers: 3e-6. In fp64 that becomes 1e-12. Where the same numbers are computed in the same
way, the results are equal bit for bit.
"""

from itertools import chain, combinations

import pytest
import torch

from minivlm.errors import PromptError
from minivlm.inference.generate import new_cache
from minivlm.model.decoder import causal_mask, token_positions
from support.tiny_model import PATCHES, SLOT, WORDS, padded, pixels, prompt, tiny_config, tiny_llava

CLOSE = 3e-6
MODEL = tiny_llava()
SUBSETS = list(chain.from_iterable(combinations(range(3), n) for n in range(1, 4)))


def difference(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Largest difference as a share of the largest expected value."""
    assert found.shape == expected.shape
    return float((found - expected).abs().max() / expected.abs().max())


def row(pictures: int = 1, words: int = 5, seed: int = 0) -> torch.Tensor:
    return torch.tensor([prompt(pictures, words, seed)])


# --- two lanes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layers", SUBSETS, ids=str)
def test_the_visible_lane_equals_the_fast_lane(layers):
    tokens, attention_mask = padded([prompt(1), prompt(0, words=3)])
    fast = MODEL(tokens, pixels(1), attention_mask=attention_mask, hidden=True)
    visible = MODEL(tokens, pixels(1), attention_mask=attention_mask, hidden=True, maps=layers)
    assert difference(visible.logits, fast.logits) < CLOSE
    for one, other in zip(visible.hidden, fast.hidden, strict=True):
        assert difference(one, other) < CLOSE
    assert fast.maps == {}
    assert sorted(visible.maps) == list(layers)


def test_both_lanes_agree_with_one_head_a_group_and_with_one_group_for_all():
    for groups in (1, 4):
        model = tiny_llava(tiny_config(text={"num_key_value_heads": groups}))
        visible = model(row(), pixels(1), maps=range(3)).logits
        assert difference(visible, model(row(), pixels(1)).logits) < CLOSE


# --- the cache --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layers", [(), (0, 1, 2)], ids=["fast", "visible"])
@pytest.mark.parametrize("cuts", [(), (12,), (1, 2, 14), "each"], ids=str)
def test_with_a_cache_in_pieces_equals_without(cuts, layers):
    tokens, image = row(), pixels(1)
    length = tokens.shape[1]
    cuts = (1, 2, *range(2 + PATCHES, length)) if cuts == "each" else cuts  # a picture stays in one piece
    whole = MODEL(tokens, image, maps=layers)
    cache = new_cache(MODEL, 1, length)
    logits = []
    for start, stop in zip((0, *cuts), (*cuts, length), strict=True):
        piece = tokens[:, start:stop]
        part = MODEL(piece, image if SLOT in piece else None, cache=cache, maps=layers)
        logits.append(part.logits)
        assert cache.length == stop
        for layer in layers:
            assert difference(part.maps[layer], whole.maps[layer][:, :, start:stop, :stop]) < CLOSE
    assert difference(torch.cat(logits, dim=1), whole.logits) < CLOSE


def test_a_padded_batch_with_a_cache_equals_without():
    tokens, attention_mask = padded([prompt(1), prompt(0, words=4), prompt(1, words=1)])
    whole = MODEL(tokens, pixels(2), attention_mask=attention_mask).logits
    cache = new_cache(MODEL, 3, 30)
    start = MODEL(tokens[:, :-1], pixels(2), attention_mask=attention_mask[:, :-1], cache=cache)
    end = MODEL(tokens[:, -1:], attention_mask=attention_mask, cache=cache)
    assert difference(torch.cat((start.logits, end.logits), dim=1)[attention_mask], whole[attention_mask]) < CLOSE


def test_setting_the_length_back_forgets_what_was_behind():
    cache = new_cache(MODEL, 1, 40)
    MODEL(row(words=9, seed=3), pixels(1), cache=cache)
    cache.length = 0
    again = MODEL(row(), pixels(1, seed=1), cache=cache).logits
    assert difference(again, MODEL(row(), pixels(1, seed=1)).logits) < CLOSE


def test_the_cache_refuses_what_does_not_fit_and_stays_as_it_was():
    cache = new_cache(MODEL, 1, 10)
    MODEL(row(0, words=6), cache=cache)
    with pytest.raises(PromptError, match="room for 10 tokens and holds 8: 3 more"):
        MODEL(torch.tensor([[3, 4, 5]]), cache=cache)
    assert cache.length == 8
    assert MODEL(torch.tensor([[3, 4]]), cache=cache).logits.shape == (1, 2, WORDS)


# --- rows and padding -------------------------------------------------------------------------------------------------


def test_a_row_in_a_batch_equals_the_row_alone():
    rows = [prompt(1, words=2, seed=1), prompt(0, words=7, seed=2), prompt(2, words=4, seed=3)]
    tokens, attention_mask = padded(rows)
    image = pixels(3)
    batch = MODEL(tokens, image, attention_mask=attention_mask).logits
    for logits, ids, seen in zip(batch, rows, (image[:1], None, image[1:]), strict=True):
        alone = MODEL(torch.tensor([ids]), seen).logits[0]
        assert difference(logits[-len(ids) :], alone) < CLOSE


@pytest.mark.parametrize("extra", [1, 7])
def test_padding_changes_nothing_whatever_it_holds(extra):
    tokens, attention_mask = padded([prompt(1)], extra)
    expected = MODEL(row(), pixels(1)).logits
    found = MODEL(tokens, pixels(1), attention_mask=attention_mask).logits
    assert difference(found[:, extra:], expected) < CLOSE
    tokens[:, :extra] = torch.randint(3, SLOT, (extra,))
    assert torch.equal(MODEL(tokens, pixels(1), attention_mask=attention_mask).logits[:, extra:], found[:, extra:])
    assert difference(MODEL(tokens, pixels(1)).logits[:, extra:], expected) > 1e-3  # unmarked, it would matter


def test_no_row_sees_another_rows_picture():
    tokens, attention_mask = padded([prompt(1), prompt(1, words=3, seed=1)])
    image = pixels(2)
    before = MODEL(tokens, image, attention_mask=attention_mask).logits
    image[1] += 1
    after = MODEL(tokens, image, attention_mask=attention_mask).logits
    assert torch.equal(before[0], after[0])
    assert difference(after[1], before[1]) > 1e-3


def test_the_order_of_two_pictures_matters():
    image = pixels(2)
    one, other = (MODEL(row(2), seen).logits for seen in (image, image.flip(0)))
    assert torch.equal(one[:, :2], other[:, :2])  # in front of the first picture nothing is known of it
    assert difference(one[:, -1], other[:, -1]) > 1e-3


def test_later_tokens_do_not_change_earlier_logits():
    tokens, image = row(), pixels(1)
    before = MODEL(tokens, image).logits
    tokens[:, -1] = 7
    assert torch.equal(MODEL(tokens, image).logits[:, :-1], before[:, :-1])


def test_text_alone_needs_no_pixels():
    output = MODEL(row(0))
    assert output.logits.shape == (1, 7, WORDS)
    assert output.image_features is None
    assert torch.isfinite(output.logits).all()


def test_what_is_asked_for_is_returned():
    output = MODEL(row(2), pixels(2), hidden=True, last_only=True)
    length = row(2).shape[1]
    assert output.logits.shape == (1, 1, WORDS)
    assert output.image_features.shape == (2, PATCHES, 32)
    assert [tuple(state.shape) for state in output.hidden] == [(1, length, 32)] * 4
    assert [tuple(state.shape) for state in output.vision_hidden] == [(2, 1 + PATCHES, 16)] * 4
    assert torch.equal(output.hidden[0][0, 2 : 2 + PATCHES], output.image_features[0])
    plain = MODEL(row(2), pixels(2))
    assert plain.hidden is plain.vision_hidden is None
    assert difference(output.logits, plain.logits[:, -1:]) < CLOSE
    full = MODEL(row(2), pixels(2), hidden=True).logits
    assert torch.equal(MODEL.lm_head(MODEL.text.norm(output.hidden[-1])), full)


def test_the_mask_and_the_positions_of_a_padded_row():
    attention_mask = torch.tensor([[False, False, True, True, True]])
    rows = ["x....", ".x...", "..x..", "..xx.", "..xxx"]
    assert causal_mask(attention_mask, 5)[0, 0].tolist() == [[mark == "x" for mark in row] for row in rows]
    assert causal_mask(attention_mask, 2)[0, 0].tolist() == [[mark == "x" for mark in row] for row in rows[-2:]]
    assert token_positions(attention_mask, 5).tolist() == [[0, 0, 0, 1, 2]]
    assert token_positions(attention_mask, 2).tolist() == [[1, 2]]


# --- maps -------------------------------------------------------------------------------------------------------------


def test_maps_are_distributions_over_the_past():
    tokens, attention_mask = padded([prompt(1), prompt(0, words=3)])
    maps = MODEL(tokens, pixels(1), attention_mask=attention_mask, maps=range(3)).maps
    length = tokens.shape[1]
    for weights in maps.values():
        assert weights.shape == (2, 4, length, length)
        assert (weights.sum(-1) - 1).abs().max() < 1e-6  # fp32, a few dozen summands
        assert weights.triu(1).abs().max() == 0
        for each, real in zip(weights, attention_mask, strict=True):
            assert each[:, real][:, :, ~real].abs().sum() == 0
            assert (each[:, real][:, :, real].sum(-1) - 1).abs().max() < 1e-6


def test_neighbouring_heads_share_keys():
    """Twice the same queries make the maps of h0 and h1 (one group) equal, those of h1 and h2 (two groups) not."""
    model = tiny_llava()
    weight = model.text.layers[0].self_attn.q_proj.weight.data
    weight[:] = weight[:8].repeat(4, 1)
    h0, h1, h2, h3 = model(row(), pixels(1), maps=[0]).maps[0][0]
    assert torch.equal(h0, h1)
    assert torch.equal(h2, h3)
    assert (h1 - h2).abs().max() > 1e-2


# --- gradients, dtypes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("maps", [(), range(3)], ids=["fast", "visible"])
def test_gradients_reach_every_parameter_that_llava_uses(maps):
    model = tiny_llava().requires_grad_(True)
    model(row(), pixels(1), maps=maps).logits.square().mean().backward()
    without = {name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()}
    unused = {"vision.post_layernorm.weight", "vision.post_layernorm.bias"}
    unused |= {name for name, _ in model.named_parameters() if name.startswith("vision.encoder.layers.2.")}
    zero = {f"vision.encoder.layers.{n}.self_attn.k_proj.bias" for n in (0, 1)}  # softmax drops it
    assert without - zero == unused


def test_bf16_runs_on_a_cpu_and_stays_near():
    model = tiny_llava(dtype=torch.bfloat16)
    for maps in ((), range(3)):
        logits = model(row(), pixels(1), maps=maps).logits
        assert logits.dtype == torch.bfloat16
        assert difference(logits.float(), MODEL(row(), pixels(1)).logits) < 0.1  # 8 bits, a few layers


def test_in_fp64_lanes_agree_to_fp32_softmax_and_cache_to_the_last_digits():
    model = tiny_llava(dtype=torch.float64)
    image = pixels(1, dtype=torch.float64)
    whole = model(row(), image).logits
    cache = new_cache(model, 1, 20)
    parts = [model(row()[:, :12], image, cache=cache).logits, model(row()[:, 12:], cache=cache).logits]
    assert difference(torch.cat(parts, dim=1), whole) < 1e-12
