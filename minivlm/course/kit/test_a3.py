"""Assignment a3: which tokens may see which, one layer's attention in two lanes, and the steps between them."""

import torch

from minivlm.course.lanes import NAMES, Case, explained, foretold
from minivlm.model.aim import Aim
from minivlm.model.attention import Attention, attention_weights, fused_attention, repeat_heads
from minivlm.model.cache import KVCache
from minivlm.model.call import EMPTY_CARRY, EMPTY_RECORD, Call, Watch
from minivlm.model.clva import ResolvedCLVA
from minivlm.model.config import TextConfig
from minivlm.model.decoder import Decoder, causal_mask, token_positions
from minivlm.model.eah import ResolvedEAH
from minivlm.model.layers import rotary_angles
from minivlm.model.layout import Layout
from minivlm.model.mitigation import ResolvedMitigation

BY_HAND = [  # the handout's queries, of two heads and four tokens
    [[0.0, 5, 5, 5], [0, 0, 9, 9], [1, 0, 0, 7], [0, 1, 0, 1]],
    [[3, 0, 0, 0], [0, 1, 4, 0], [0, 0, 0, 3], [2, 0, 0, 0]],
]
DEEP = 1e-4  # several layers after each other: sums grouped in another way differ by some 1e-6 of the largest


def text_config(**changes) -> TextConfig:
    """A small decoder whose heads together are wider than the model, and share keys in pairs."""
    sizes = {"vocab_size": 8, "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 4}
    heads = {"num_attention_heads": 6, "num_key_value_heads": 3, "head_dim": 8}
    rest = {"max_position_embeddings": 8192, "rms_norm_eps": 1e-5, "rope_theta": 10000.0}
    return TextConfig(**sizes | heads | rest | changes)


def layer_of(draw, number: int = 2, **changes) -> tuple[TextConfig, Attention]:
    """A random attention layer, biases and all."""
    config = text_config(**{"attention_bias": True, "attention_output_bias": True} | changes)
    return config, draw.fill(Attention(config, number))


def turns(config: TextConfig, batch: int, first: int, last: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The cosines and sines of positions `first` to before `last`."""
    positions = torch.arange(first, last).expand(batch, -1)
    return rotary_angles(positions, config.head_dim, config.rope_theta, torch.float32)


def padded_at_both_ends(draw, batch: int, keys: int) -> torch.Tensor:
    """Which tokens are no padding, (batch, keys): some stand before, some behind the text."""
    place = torch.arange(keys)
    before, behind = draw.whole(0, keys // 3, batch, 1), draw.whole(0, keys // 3, batch, 1)
    return (place >= before) & (place < keys - behind)


def test_who_may_see_whom(draw, show):
    """A query sees itself and the text before it, wherever padding stands; padding sees itself alone."""
    by_hand = torch.tensor([[False, False, True, True, True]])
    show(padding_before=causal_mask(by_hand, 5), padding_behind=causal_mask(by_hand.flip(1), 5))
    show(last_two_of_five=causal_mask(by_hand, 2), last_of_five=causal_mask(by_hand, 1))
    attention_mask = padded_at_both_ends(draw, batch=4, keys=11)
    mask = causal_mask(attention_mask, 11)
    show(batch=mask, last_rows_are_the_same=torch.equal(causal_mask(attention_mask, 4), mask[:, :, -4:]))
    assert mask.any(dim=-1).all(), "Some row may see nothing at all: its softmax would be 0 / 0."


def test_heads_share_keys(draw, show):
    """Neighbouring heads share a key head; the other order gives each head another's keys and no error."""
    keys = draw.normal(2, 3, 5, 4)
    show(numbered=repeat_heads(torch.arange(3.0).view(1, 3, 1, 1), 2).flatten())
    show(twice=repeat_heads(keys, 2), four_times=repeat_heads(keys, 4), once=repeat_heads(keys, 1))


def test_heads_apart_and_together(draw, show):
    """Each head is a slice of neighbouring numbers of the projection, and goes back to the same place."""
    _, attention = layer_of(draw)
    x = draw.normal(2, 7, 24)
    q, k, v = attention.project(x)
    show(queries=q, keys=k, values=v)
    show(merged=attention.merge(draw.normal(2, 6, 7, 8)))


def test_fused_attention(draw, show):
    """The fused lane obeys the mask that it is given, also where a cache makes queries fewer than keys."""
    q, k, v = draw.normal(3, 4, 9, 8), draw.normal(3, 2, 9, 8), draw.normal(3, 2, 9, 8)
    mask = draw.causal(3, 9, 9)
    show(prompt=fused_attention(q, k, v, mask), one_new_token=fused_attention(q[:, :, -1:], k, v, mask[:, :, -1:]))
    show(last_four=fused_attention(q[:, :, -4:], k, v, mask[:, :, -4:]))
    many, every_key = draw.normal(3, 4, 9, 8), torch.ones_like(mask)
    show(no_groups=fused_attention(q, many, many, mask), nothing_hidden=fused_attention(q, k, v, every_key))


def test_weights_written_out(draw, show):
    """The visible lane's weights: scaled by the width of a head, hidden before the softmax, rows that sum to 1."""
    q, k = torch.tensor(BY_HAND)[None], 2 * torch.eye(4).expand(1, 2, 4, 4)
    show(by_hand=attention_weights(q, k, torch.ones(1, 1, 4, 4, dtype=torch.bool).tril()))
    q, k, mask = 2 * draw.normal(3, 4, 12, 8), draw.normal(3, 4, 12, 8), draw.causal(3, 12, 12)
    weights = attention_weights(q, k, mask)
    show(weights=weights, with_a_cache=attention_weights(q[:, :, -5:], k, mask[:, :, -5:]))
    long = draw.normal(1, 2, 700, 4), draw.normal(1, 2, 700, 4), draw.causal(1, 700, 700)
    show(long_prompt=attention_weights(*long))
    show(sums_of_rows=weights.sum(dim=-1))


def test_weights_at_the_edges(draw, show):
    """Hidden keys get exactly 0 and nothing overflows, for scores far from 0 and in half precision."""
    mask, along = draw.causal(2, 40, 40), 250 * torch.eye(16)[0]
    q, k = 20 * draw.normal(2, 2, 40, 16) + along, draw.normal(2, 2, 40, 16) - along  # all scores near -15,000
    weights = attention_weights(q, k, mask)
    hidden = weights.masked_select(~mask)
    show(within=1e-2, far_from_0=weights)  # a score of -15,000 has steps of 0.001 in fp32
    show(hidden_ones_are_zero=bool((hidden == 0).all()), finite=bool(weights.isfinite().all()))
    # Weights that are rounded once sum to 1: hundreds of roundings, up and down, cancel. Where the sum that they are
    # divided by was rounded, too, a whole row is off by up to half a step of the dtype.
    for dtype, step in ((torch.bfloat16, 2**-8), (torch.float16, 2**-11)):
        q, k = 0.5 * draw.normal(1, 2, 600, 16, dtype=dtype), draw.normal(1, 2, 600, 16, dtype=dtype)
        weights = attention_weights(q, k, torch.ones(1, 1, 600, 600, dtype=torch.bool).tril())
        name = str(dtype).removeprefix("torch.")
        show.named({f"dtype_of_{name}": str(weights.dtype)})
        show.named({f"sums_of_{name}": weights[:, :, 300:].double().sum(dim=-1)}, within=step / 5)
        show.named({name: weights[:, :, ::50]}, within=4 * step)


def test_shapes_foretold(draw, show):
    """The shapes within a forward, with and without a cache, told from the sizes alone."""
    for number in range(6):
        group, g, width = draw.number(1, 4), draw.number(1, 4), draw.pick([4, 8, 16])
        sizes = {"B": draw.number(1, 4), "H": g * group, "G": g, "Q": draw.number(2, 9), "d": width, "D": 24}
        past, first = draw.pick([0, draw.number(1, 9)]), draw.number(1, sizes["Q"])
        told = {name: list(shape) for name, shape in foretold(sizes, past, first).items()}
        show.named({f"case_{number}": {"with": {**sizes, "past": past, "first": first}, "shapes": told}})


def test_forward_in_the_fast_lane(draw, show):
    """No weights are asked for: a prompt, then one token and two more, with a cache."""
    config, attention = layer_of(draw)
    x, mask = draw.normal(3, 9, 24), draw.causal(3, 9, 9)
    whole = attention(x, turns(config, 3, 0, 9), mask)
    show(whole=whole.out, nothing_to_see=whole.record == EMPTY_RECORD, nothing_added=whole.carry is EMPTY_CARRY)
    cache = KVCache(config, 3, 12, device="cpu", dtype=torch.float32)
    for first, last in ((0, 6), (6, 7), (7, 9)):
        part = x[:, first:last], turns(config, 3, first, last), mask[:, :, first:last, :last]
        show.named({f"rows_{first}_to_{last}": attention(*part, cache).out})
        cache.length = last  # the decoder moves it on once all layers have written
    show(keys=cache.keys[2, :, :, :9], values=cache.values[2, :, :, :9], other_layers=cache.keys[:2].abs().sum())


def test_both_lanes_give_the_same(draw, show):
    """A layer that is asked for its map, its last row or its sinks shows them, and its output stays the same."""
    config, attention = layer_of(draw, attention_bias=False)
    x, mask, rope = draw.normal(3, 9, 24).requires_grad_(), draw.causal(3, 9, 9), turns(config, 3, 0, 9)
    plain = attention(x, rope, mask).out
    for watch in (Watch(maps=(2,)), Watch(rows=(2,)), Watch(sinks=(2,)), Watch((2,), (2,), (2,)), Watch((1,), (0,))):
        attended = attention(x, rope, mask, call=Call(watch=watch))
        asked = [name for name in ("maps", "rows", "sinks") if 2 in getattr(watch, name)]
        name = "_".join(asked) or "another_layer"
        found = {part: getattr(attended.record, part) for part in ("map", "row", "sink_scores")}
        show.named({f"{name}_shown": [part for part, value in found.items() if value is not None]})
        show.named({f"{name}_{part}": value for part, value in found.items() if value is not None})
        show.named({f"{name}_out": attended.out})
        off = (attended.out - plain).abs().max() / plain.abs().max()
        assert off < 1e-5, f"With {watch} the output is another than in the fast lane, by {off:.2g} of the largest."
    attention(x, rope, mask, call=Call(watch=Watch(maps=(2,)))).out[:, -1].square().sum().backward()
    show(gradient=x.grad)


def test_steps_in_their_order(draw, show):
    """EAH, CLVA and the aim change the weights one after the other, for a prompt and for a token behind it."""
    config = text_config()
    decoder = draw.fill(Decoder(config))
    attention_mask = torch.arange(16) >= torch.tensor([[3], [0], [1]])
    image = (torch.arange(16) >= torch.tensor([[5], [2], [0]])) & (torch.arange(16) < torch.tensor([[10], [8], [0]]))
    aim = Aim(draw.uniform(3, 6), layers=(3,))
    clva = ResolvedCLVA(noise_layers=(1,), anchor_layers=(2,), deep_layers=(3,), gate=False)
    mitigation = ResolvedMitigation(ResolvedEAH(layer=1, threshold=0.05), clva, aim)
    positions, x = token_positions(attention_mask, 16), draw.normal(3, 16, 24)
    cache = KVCache(config, 3, 16, device="cpu", dtype=torch.float32)
    for name, first, last in (("prompt", 0, 15), ("new", 15, 16)):
        layout = Layout(attention_mask[:, :last], image[:, :last], last - first, prompt=15)
        call = Call(layout, mitigation, Watch(maps=(1, 3) if first == 0 else (3,), rows=(1, 2), sinks=(1, 3)))
        mask = causal_mask(layout.attention_mask, layout.queries)
        rows = slice(first, last)
        decoded = decoder(x[:, rows], positions[:, rows], mask, cache=cache, call=call)
        show.named({f"{name}_states": decoded.states}, within=DEEP)
        for what, recorded in (("map", decoded.maps), ("row", decoded.rows), ("sink_scores", decoded.sink_scores)):
            show.named({f"{name}_{what}_{layer}": found for layer, found in recorded.items()}, within=DEEP)
        changes = decoded.effect.calls[0]
        show.named({f"{name}_changes": [(change.method, change.layer) for change in changes]})
        show.named({f"{name}_moved_{change.method}": change.moved for change in changes}, within=DEEP)


def layer_that(draw, fault: str) -> Case:
    """What a layer with a fault did, or one that is right: three or more rows in each lane, both lanes changed."""
    fast, rows = draw.number(3, 6), draw.number(3, 6)
    visible = draw.causal(2, rows, fast + rows, padded=False)
    plain, weights, values = draw.weights(4, visible), draw.weights(4, visible), draw.normal(2, 4, fast + rows, 8)
    if fault == NAMES[1]:
        weights = draw.weights(4, torch.ones_like(visible))
    seen, slow = draw.normal(2, 4, fast, 8), (plain if fault == NAMES[3] else weights) @ values
    lanes = [slow, seen] if fault == NAMES[2] else [seen, slow]
    return Case(plain, weights, visible, values, seen, torch.concatenate(lanes, dim=-2))


def test_failing_layers_explained(draw, show):
    """From what layers did to what is wrong with them: each of the faults, and layers that are right."""
    faults = [draw.pick(NAMES) for _ in range(12)] + list(NAMES)
    order = draw.uniform(len(faults)).argsort().tolist()
    show.named({f"layer_{number}": explained(layer_that(draw, faults[place])) for number, place in enumerate(order)})


def test_many_small_maps(draw, show):
    """Speed: 4,000 maps of 128 tokens. A loop over rows in Python pays for each row; a matrix product does not."""
    q, k = draw.normal(8, 1, 1, 128, 16), draw.normal(8, 1, 1, 128, 16)
    mask, last = torch.ones(1, 1, 128, 128, dtype=torch.bool).tril(), torch.empty(4000, 8)
    for number in range(4000):
        last[number] = attention_weights(q[number % 8], k[number % 8], mask)[0, 0, -1, ::16]
    show(last_rows=last)


def test_memory_of_a_map(draw, show):
    """Memory: the bf16 map of 3,072 tokens and 8 heads takes 151 MB; its scores in fp32 would take 302 more."""
    q, k = (draw.normal(1, 8, 3072, 16, dtype=torch.bfloat16) for _ in "qk")
    weights = attention_weights(q, k, torch.ones(1, 1, 3072, 3072, dtype=torch.bool).tril())
    show(within=2**-6, some_rows=weights[:, :, ::512])  # a few steps of bf16


def test_one_row_costs_one_row(draw, show):
    """Memory: of 4,096 tokens and 8 heads only the last row is asked for; the whole map would take 537 MB."""
    config, attention = layer_of(draw, num_attention_heads=8, num_key_value_heads=4, head_dim=16)
    x, mask = draw.normal(1, 4096, 24), torch.ones(1, 1, 4096, 4096, dtype=torch.bool).tril()
    attended = attention(x, turns(config, 1, 0, 4096), mask, call=Call(watch=Watch(rows=(2,))))
    show(row=attended.record.row, out=attended.out[:, ::64])
