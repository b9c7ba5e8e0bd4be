"""Samples written as words, for tests of what layers do to attention: `.` is padding, `t` text, `p` a patch.

tpppptt      one picture of 4 patches, then two tokens of text
..tpptppt    shorter, so padded on the left; its second t sees only the first two patches
"""

from collections.abc import Iterable
from dataclasses import replace

import torch
from torch import Tensor

from minivlm.course.kit.draw import Draw
from minivlm.model.clva import CLVA, Anchor, ResolvedCLVA, controlled
from minivlm.model.layout import Layout
from minivlm.model.redistribute import normalised


def layout_of(*samples: str, rows: int | None = None) -> Layout:
    """The layout of `samples`, the shorter ones padded on the left. Queries are the last `rows` tokens, or all."""
    longest = max(map(len, samples))
    padded = [sample.rjust(longest, ".") for sample in samples]
    attention_mask = torch.tensor([[token != "." for token in sample] for sample in padded])
    image = torch.tensor([[token == "p" for token in sample] for sample in padded])
    return Layout(attention_mask, image, queries=rows or longest, prompt=longest)


def four_heads() -> tuple[Tensor, Layout]:
    """The handout's row of four heads on a picture of four patches: weights (1, 4, 1, 7)."""
    weights = torch.zeros(1, 4, 1, 7)
    weights[0, :, 0, 1:5] = torch.tensor([[10, 0, 0, 0], [40, 20, 20, 0], [0, 10, 20, 10], [0, 2, 0, 3]]) / 100
    return weights, layout_of("tpppptt", rows=1)


def four_layers() -> tuple[dict[int, Tensor], Layout, ResolvedCLVA]:
    """The handout's maps (1, 1, 4) of two noise and two anchor layers."""
    maps = torch.tensor([[5, 3, 2, 0], [7, 1, 0, 2], [4, 0, 5, 1], [2, 4, 3, 1]])[:, None, None] / 10
    layers = ResolvedCLVA(noise_layers=(0, 1), anchor_layers=(2, 3), deep_layers=(4,))
    return dict(enumerate(maps)), layout_of("tpppptt", rows=1), layers


def crowd(draw: Draw) -> Layout:
    """Three samples: one picture; two pictures with text between them; none."""
    first, second = "p" * draw.number(12, 18), "p" * draw.number(4, 8)
    return layout_of(f"tt{first}ttttt", f"t{first}tt{second}ttt", "ttttt")


def attention(draw: Draw, layout: Layout, heads: int = 4, dtype: torch.dtype = torch.float32) -> Tensor:
    """Weights (B, H, R, K) as CLVA gets them: R rows, from the first text token behind a picture on."""
    place = torch.arange(layout.attention_mask.shape[1])
    mask = (place <= place[:, None]) & layout.attention_mask[:, None, None] | torch.eye(len(place), dtype=torch.bool)
    return draw.weights(heads, mask, dtype)[:, :, -layout.text_rows :]


def maps_of(draw: Draw, layout: Layout, layers: Iterable[int], dtype: torch.dtype = torch.float32) -> dict[int, Tensor]:
    """A map (B, R, P) for each layer, with a sum of 1 over the patches that the row sees. Some patches stand out."""
    seen = layout.seen(layout.text_rows)
    return {layer: normalised(draw.uniform(*seen.shape, dtype=dtype) ** 4 * seen) for layer in layers}


def anchor_of(draw: Draw, layout: Layout, dtype: torch.dtype = torch.float32) -> Anchor:
    """A noise, a middle and an anchor map, as the layers below would give them."""
    return Anchor(*maps_of(draw, layout, range(3), dtype).values())


def drifting(draw: Draw, back: Tensor) -> tuple[Tensor, Anchor, Layout]:
    """Rows whose deep maps have drifted by the share `back` (R,) of the way from the middle map to the noise map.

    Returns weights (1, 2, R, K), the anchor maps (1, R, P) and the layout.
    """
    patches, rows = draw.number(6, 12), len(back)
    layout = layout_of("t" + "p" * patches + "t" * rows)
    maps = anchor_of(draw, layout, back.dtype)
    maps.middle[0, 5] = 0.99 * maps.noise[0, 5] + 0.01 * maps.middle[0, 5]  # in this row they are near each other
    deep = normalised((maps.middle + back[:, None] * (maps.noise - maps.middle)).clamp(min=0))
    weights = torch.zeros(1, 2, rows, layout.attention_mask.shape[1], dtype=back.dtype)
    weights[..., layout.span] = deep * torch.tensor([0.7, 0.4])[:, None, None]
    weights[..., 0] = 1 - weights.sum(dim=-1)
    maps.anchor[0, 6] = 0  # this row has no anchor, however far it has drifted
    return weights, maps, layout


def without_room(draw: Draw) -> tuple[Tensor, Anchor, Layout]:
    """Rows whose middle map is their noise map. In the first row, the deep map is the same, too, all on one patch: its
    gate is exactly 0 / 0.
    """
    layout = layout_of("t" + "p" * 12 + "t" * 100)
    noise, anchor = maps_of(draw, layout, range(2), torch.float64).values()
    noise[0, 0] = torch.eye(12)[3]
    weights = attention(draw, layout, 2, torch.float64)
    weights[0, :, 0, layout.span] *= noise[0, 0]
    excess = torch.cosine_similarity(noise, noise, dim=-1) - 1  # rounding: often one step above 0, seldom two
    anchor[excess > 1.5 * torch.finfo(noise.dtype).eps] = 0
    return weights, Anchor(noise, noise.clone(), anchor), layout


def mass_and_rows(draw: Draw, weights: Tensor, layout: Layout) -> tuple[Tensor, Tensor]:
    """The attention of each head to the patches (B, H, R, 1), and a choice of rows (B, R), True where chosen."""
    rows = draw.uniform(weights.shape[0], weights.shape[2]) < 0.6
    rows[:, -1], rows[:, -2] = False, True
    return (weights[..., layout.span] * layout.patches).sum(dim=-1, keepdim=True), rows


def sparse_maps(draw: Draw, layout: Layout) -> tuple[Tensor, Tensor]:
    """Two maps as `maps_of` makes them, but one is 0 on even columns, the other on odd ones: anchors are mostly 0."""
    first, second = maps_of(draw, layout, range(2)).values()
    first[..., ::2], second[..., 1::2] = 0, 0
    return normalised(first), normalised(second)


def steady(anchor: Tensor, layout: Layout, clva: CLVA) -> Tensor:
    """The control in place of `anchor`, once it is asserted that it depends on the seed, and on no other randomness."""
    torch.rand(1)  # a control that seeds torch's own generator would leave another state behind than this one
    state = torch.get_rng_state()
    control = controlled(anchor, layout, clva)
    assert torch.equal(torch.get_rng_state(), state), "A control must not touch torch's own generator: use a Generator."
    assert torch.equal(controlled(anchor, layout, clva), control), "The same seed must give the same control."
    other = controlled(anchor, layout, replace(clva, seed=clva.seed + 100))
    assert not torch.equal(other, control), "Another seed must give another control."
    dtype = controlled(anchor.double(), layout, clva).dtype
    assert dtype == torch.float64, f"An anchor in fp64 has a control in {dtype}: expected the dtype of the anchor."
    return control


def agree(found: Tensor, expected: Tensor, otherwise: str) -> None:
    """Assert that two maps are the same but for rounding, or say `otherwise`."""
    assert torch.allclose(found, expected, atol=1e-6), otherwise
