"""Assignment a2: RMSNorm, the gated MLP, rotary positions and the cache. Each test shows what your functions make.

No right answers are in this file: what a test shows is compared with what the reference showed on the same inputs.
"""

import torch
from torch import Tensor

from minivlm.course.kit.draw import Draw
from minivlm.course.kit.show import Show
from minivlm.model.cache import KVCache
from minivlm.model.config import LlavaConfig, TextConfig, VisionConfig
from minivlm.model.layers import GatedMLP, RMSNorm, rotary_angles, rotate
from minivlm.model.llava import Llava

HALF = 2e-2  # bf16 keeps 8 bits: one rounding is 2^-8 of a number, and here are up to four
DEEP = 1e-4  # fp32, several layers after each other
FAR = 5e-3  # angles of some thousand radians in fp32, whose steps are 2^-12 there
WHOLE_ROOTS = ((1, 5, 13, 17), (2, 4, 8, 20), (3, 9, 15, 19), (7, 11, 17, 21))  # their mean square is a square number


def test_rmsnorm(draw: Draw, show: Show) -> None:
    """Each token is divided by the root of its mean square; where that is tiny, by hardly more than eps' root."""
    norm = draw.fill(RMSNorm(draw.pick([7, 16, 33]), eps=1e-5))
    x = draw.normal(2, 5, len(norm.weight)) + 0.5
    show(by_hand=RMSNorm(4, eps=0.0)(torch.tensor([1.0, 5.0, -13.0, 17.0])))
    show(small_by_hand=RMSNorm(3, eps=1e-5)(torch.full((3,), 0.002)))
    show(usual=norm(x), large=norm(1000 * x), tiny=norm(2e-3 * x), zero=norm(0 * x), tokens_on_three_axes=norm(x[None]))


def test_rmsnorm_in_sixteen_bits(draw: Draw, show: Show) -> None:
    """The mean is taken in fp32, whose range holds the squares; the result is rounded before the weight, not after.

    The rows have whole roots, so that any right order of operations rounds alike and nothing need be forgiven.
    """
    by_hand = RMSNorm(4, eps=0.0).bfloat16()
    by_hand.weight.data.fill_(1.5)
    show(by_hand=by_hand(torch.tensor([1.0, 5.0, -13.0, 17.0], dtype=torch.bfloat16)))
    rows = torch.tensor(draw.pick(WHOLE_ROOTS)) * torch.tensor([[1], [-2], [64]])
    norm = RMSNorm(4, eps=1e-6)
    norm.weight.data = draw.uniform(4) + 0.5
    for dtype in (torch.bfloat16, torch.float16):
        name = str(dtype).removeprefix("torch.")
        show.named({f"{name}_under_fp32_weights": norm(rows.to(dtype))}, within=1e-6)
        half = RMSNorm(4, eps=1e-6).to(dtype)
        half.weight.data = norm.weight.data.to(dtype)
        show.named({f"{name}_throughout": half(rows.to(dtype))}, within=1e-6)


def test_gated_mlp(draw: Draw, show: Show) -> None:
    """One projection, through SiLU, is the gate of the other: their product goes on."""
    by_hand = GatedMLP(1, 1)
    for linear, weight in ((by_hand.gate_proj, 2.0), (by_hand.up_proj, 3.0), (by_hand.down_proj, 1.0)):
        linear.weight.data.fill_(weight)
    show(by_hand=by_hand(torch.ones(1)))
    mlp = draw.fill(GatedMLP(10, 24))
    x = draw.normal(2, 5, 10) * 2
    show(mixed=mlp(x), one_token=mlp(x[0, 0]))
    show(within=HALF, in_bf16=mlp.bfloat16()(x.bfloat16()))


def test_angles_near_the_start(draw: Draw, show: Show) -> None:
    """Every pair turns at its own speed, each row of a batch has positions of its own, both halves hold the same."""
    cos, sin = rotary_angles(torch.tensor([[0, 1, 2]]), 4, 100.0, torch.float32)
    show(cos_by_hand=cos, sin_by_hand=sin)
    theta, width = draw.pick([10000.0, 500000.0, 1e6]), draw.pick([2, 6, 10, 16])
    positions = draw.whole(0, 20, 3, 7)
    cos, sin = rotary_angles(positions, width, theta, torch.float32)
    show(cos=cos, sin=sin)
    cos, sin = rotary_angles(torch.arange(5), 6, theta, torch.float32)
    show(cos_of_a_single_row=cos, sin_of_a_single_row=sin)


def test_angles_far_away_and_in_sixteen_bits(draw: Draw, show: Show) -> None:
    """Positions in the thousands cannot be told apart in 16 bits: angles are computed in fp32 whatever the model's."""
    positions = draw.whole(1000, 4000, 2, 30)
    given = positions.clone()
    for dtype, within in ((torch.float32, FAR), (torch.bfloat16, HALF), (torch.float16, HALF)):
        cos, sin = rotary_angles(positions, 8, 10000.0, dtype)
        name = str(dtype).removeprefix("torch.")
        show.named({f"cos_{name}": cos, f"sin_{name}": sin}, within=within)
    show(positions_are_left_alone=torch.equal(positions, given))


def test_rotate(draw: Draw, show: Show) -> None:
    """Number i turns together with number i + d/2, counterclockwise; a quarter turn brings (1, 0) to (0, 1)."""
    quarter = torch.zeros(1, 1, 4), torch.ones(1, 1, 4)
    show(a_quarter_turn=rotate(torch.tensor([[[[1.0, 2.0, 3.0, 4.0]]]]), *quarter))
    none = torch.ones(1, 1, 4), torch.zeros(1, 1, 4)
    show(no_turn=rotate(torch.tensor([[[[1.0, 2.0, 3.0, 4.0]]]]), *none))
    width = draw.pick([4, 6, 10])
    for rows, heads, tokens in ((2, 3, 5), (3, 3, 3), (2, 4, 1), (1, 2, 6)):
        x, (cos, sin) = draw.normal(rows, heads, tokens, width), angles(draw, rows, tokens, width)
        given = x.clone()
        show.named({f"turned_{rows}_rows_{heads}_heads_{tokens}_tokens": rotate(x, cos, sin)})
        show.named({f"x_is_left_alone_{rows}_{heads}_{tokens}": torch.equal(x, given)})
    x, (cos, sin) = draw.normal(2, 3, 5, 8).requires_grad_(), angles(draw, 2, 5, 8)
    (gradient,) = torch.autograd.grad((rotate(x, cos, sin) * draw.normal(2, 3, 5, 8)).sum(), x)
    show(gradient=gradient)
    for dtype in (torch.bfloat16, torch.float16):
        turned = rotate(x.detach().to(dtype), cos.to(dtype), sin.to(dtype))
        show.named({str(dtype).removeprefix("torch."): turned}, within=HALF)


def test_cache_notes_the_patches(draw: Draw, show: Show) -> None:
    """`mark` stores which tokens are patches, and returns that for all tokens so far, old and new."""
    cache = new_cache(rows=2, capacity=9)
    first, second = draw.uniform(2, 4) < 0.5, draw.uniform(2, 3) < 0.5
    show(after_the_first=cache.mark(first), length_is_not_moved=cache.length)
    cache.length = 4
    show(after_the_second=cache.mark(second), kept=cache.image[:, :7], length_is_not_moved_again=cache.length)
    cache.length = 0
    cache.mark(torch.ones(2, 5, dtype=torch.bool))
    cache.length = 2
    show(set_back_to_2=cache.mark(torch.tensor([[False, False], [True, False]])))


def test_cache_writes_behind_what_is_there(draw: Draw, show: Show) -> None:
    """In place, layer by layer, at the same position for all layers of a forward; what comes back is the cache from the
    first token on.
    """
    cache = new_cache(rows=2, capacity=9)
    home = cache.keys.data_ptr(), cache.values.data_ptr()
    for start, tokens in ((0, 4), (4, 1), (5, 3), (2, 2)):  # the last one: set back to 2, the rest is forgotten
        cache.length = start
        for layer in (0, 1, 2):
            k, v = cache.write(layer, *draw.normal(2, 2, 2, tokens, 4))
            show.named({f"keys_{layer}_of_{start}_and_{tokens}": k, f"values_{layer}_of_{start}_and_{tokens}": v})
            ours = k.data_ptr() == cache.keys[layer].data_ptr(), v.data_ptr() == cache.values[layer].data_ptr()
            show.named({f"views_{layer}_of_{start}_and_{tokens}": ours})
        show.named({f"length_is_not_moved_from_{start}": cache.length})
    show(keys=cache.keys[:, :, :, :4], values=cache.values[:, :, :, :4])
    show(capacity=cache.capacity, still_the_same_memory=(cache.keys.data_ptr(), cache.values.data_ptr()) == home)


def test_cache_branches(draw: Draw, show: Show) -> None:
    """One picture serves many questions: its samples are copied into another cache, and what is written there later
    does not change the first one.
    """
    cache = filled_cache(draw, rows=3, capacity=6, tokens=5)
    branch = cache.branch([2, 0, 2, 2], 8)
    show(sizes=[branch.rows, branch.capacity, branch.length, cache.rows, cache.capacity, cache.length])
    show(keys=branch.keys[:, :, :, :5], values=branch.values[:, :, :, :5], image=branch.image[:, :5])
    before = cache.keys.clone(), cache.values.clone(), cache.image.clone()
    branch.mark(draw.uniform(4, 3) < 0.5)
    k, v = branch.write(1, *draw.normal(2, 4, 2, 3, 4))
    branch.length = 1
    branch.mark(draw.uniform(4, 2) < 0.5)
    branch.write(0, *draw.normal(2, 4, 2, 2, 4))
    show(keys_behind=k, values_behind=v, keys_of_rows=branch.keys[0, :, :, :3], image_of_rows=branch.image[:, :8])
    after = cache.keys, cache.values, cache.image
    show(the_old_one_is_left_alone=all(map(torch.equal, before, after)), its_length=cache.length)
    thrice, pair = cache.branch([1, 1, 1], 7), cache.branch(range(2), 5)
    thrice.write(2, *draw.normal(2, 3, 2, 2, 4))
    show(one_row_thrice=thrice.keys[2], a_pair=pair.values[:, :, :, :5], room_of_the_pair=pair.capacity)


def test_cache_is_fast(draw: Draw, show: Show) -> None:
    """A new token costs time for one token, not for the whole conversation."""
    sizes = text(num_hidden_layers=1, num_attention_heads=8, num_key_value_heads=8, head_dim=64)
    cache = KVCache(sizes, 1, 12500, device="cpu", dtype=torch.float32)
    cache.write(0, *draw.normal(2, 1, 8, 1, 64).expand(-1, -1, -1, 12000, -1))
    new = draw.normal(500, 2, 1, 8, 1, 64)
    for step in range(500):
        cache.length = 12000 + step
        cache.mark(torch.zeros(1, 1, dtype=torch.bool))
        k, v = cache.write(0, *new[step])
    show(keys=k[..., -2:, :], values=v[..., -2:, :], shape=list(k.shape))


def test_cache_holds_nothing_twice(draw: Draw, show: Show) -> None:
    """All layers' keys and values are handed out at once, and there is still one copy of them."""
    cache = KVCache(text(num_hidden_layers=8, head_dim=64), 1, 40000, device="cpu", dtype=torch.float32)
    new = draw.normal(2, 1, 2, 1, 64).expand(-1, -1, -1, 40000, -1)
    handed = [cache.write(layer, *new) for layer in range(8)]
    show(shapes=[list(k.shape) for k, _ in handed], last_key=handed[-1][0][0, :, -1], last_value=handed[0][1][0, :, -1])


def test_a_prompt_in_pieces(draw: Draw, show: Show) -> None:
    """All parts in a model: a padded batch read in three pieces through the cache, in the fast and the visible lane."""
    model = draw.fill(Llava(llava()))
    tokens, attention_mask = draw.whole(0, 19, 2, 9), torch.ones(2, 9, dtype=torch.bool)
    attention_mask[0, : draw.number(1, 4)] = False
    for name, maps in (("fast", ()), ("visible", (0, 1, 2))):
        cache = new_cache(rows=2, capacity=12)
        for start, stop in ((0, 5), (5, 8), (8, 9)):
            out = model(tokens[:, start:stop], attention_mask=attention_mask[:, :stop], cache=cache, maps=maps)
            show.named(
                {f"{name}_logits_{start}_to_{stop}": out.logits * attention_mask[:, start:stop, None]}, within=DEEP
            )
        show.named({f"{name}_length": cache.length})


def angles(draw: Draw, rows: int, tokens: int, width: int) -> tuple[Tensor, Tensor]:
    """Cosine and sine of drawn angles, the same in both halves."""
    half = draw.normal(rows, tokens, width // 2)
    turn = torch.cat((half, half), dim=-1)
    return turn.cos(), turn.sin()


def text(
    num_hidden_layers: int = 3, num_attention_heads: int = 4, num_key_value_heads: int = 2, head_dim: int = 4
) -> TextConfig:
    """A small decoder: three layers, two key/value heads of width 4."""
    return TextConfig(
        vocab_size=20,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=num_hidden_layers,
        num_attention_heads=num_attention_heads,
        num_key_value_heads=num_key_value_heads,
        head_dim=head_dim,
        max_position_embeddings=64,
        rms_norm_eps=1e-5,
        rope_theta=10000.0,
    )


def llava() -> LlavaConfig:
    """A small model around it."""
    vision = VisionConfig(
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
        image_size=8,
        patch_size=4,
    )
    return LlavaConfig(vision, text(), image_token_index=19)


def new_cache(rows: int, capacity: int) -> KVCache:
    return KVCache(text(), rows, capacity, device="cpu", dtype=torch.float32)


def filled_cache(draw: Draw, rows: int, capacity: int, tokens: int) -> KVCache:
    """A cache that holds drawn tokens, put there by hand."""
    cache = new_cache(rows, capacity)
    cache.keys[:, :, :, :tokens] = draw.normal(3, rows, 2, tokens, 4)
    cache.values[:, :, :, :tokens] = draw.normal(3, rows, 2, tokens, 4)
    cache.image[:, :tokens] = draw.uniform(rows, tokens) < 0.5
    cache.length = tokens
    return cache
