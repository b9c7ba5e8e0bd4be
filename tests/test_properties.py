"""No setting of a method gives a weight that is negative or no number, or a row whose sum is not 1: for any settings
within their range, any mask, any places of patches and padding, and any attention on them.

Sums are held to 1e-5 in fp32: a row has at most 24 summands, and is scaled at most twice.
"""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from minivlm.model import CLVA, EAH, Layout
from minivlm.model.aim import Aim, draw_to_target
from minivlm.model.clva import ANCHORS, drift_gate, find_anchor, pooled_map, pull_to_anchor
from minivlm.model.config import LlavaConfig
from minivlm.model.eah import HEADS, broadcast_densest_head
from minivlm.model.redistribute import LEAST_KAPPA, MOST_KAPPA
from support.tiny_model import tiny_config

CONFIG: LlavaConfig = tiny_config(text={"num_hidden_layers": 6})
CASES = settings(max_examples=300)
seeds = st.integers(0, 2**40)
shares = st.sampled_from([0.0, 1.0, 1e-30, 1e-7, 0.5]) | st.floats(0, 1)
kappas = st.sampled_from([1.0, LEAST_KAPPA, MOST_KAPPA]) | st.floats(LEAST_KAPPA, MOST_KAPPA)
positive = st.sampled_from([1e-30, 1e-7, 0.01, 1.0]) | st.floats(1e-38, 1)
sharpness = st.sampled_from([0.0, 1.0, 10.0, 80.0, 1e3, 1e5])  # of scores: at 80, most weights are about 1e-38


@st.composite
def layouts(draw) -> Layout:
    """Up to three samples with patches anywhere, also none, padding on the left, and rows of a prompt or one row."""
    rows, columns = draw(st.integers(1, 3)), draw(st.integers(2, 24))
    image = torch.tensor(draw(st.lists(st.booleans(), min_size=rows * columns, max_size=rows * columns)))
    padding = torch.tensor(draw(st.lists(st.integers(0, columns - 1), min_size=rows, max_size=rows)))
    seen = torch.arange(columns) >= padding[:, None]
    queries = draw(st.sampled_from([1, columns]))
    return Layout(seen, image.view(rows, columns) & seen, queries, draw(st.integers(1, columns)))


def attention(layout: Layout, scale: float, seed: int, heads: int = 3) -> Tensor:
    """Weights (B, H, Q, K) as a softmax of random scores gives them; a row of padding sees itself."""
    generator = torch.Generator().manual_seed(seed)
    rows, columns = layout.image.shape
    scores = torch.randn(rows, heads, layout.queries, columns, generator=generator) * scale
    return scores.masked_fill(~mask_of(layout), float("-inf")).softmax(dim=-1)


def mask_of(layout: Layout) -> Tensor:
    """(B, 1, Q, K): what each row may see."""
    columns = torch.arange(layout.image.shape[1])
    causal = columns <= columns[-layout.queries :, None]
    itself = columns == columns[-layout.queries :, None]
    return (causal & (layout.attention_mask[:, None] | itself))[:, None]


def require_attention(weights: Tensor) -> None:
    assert not weights.isnan().any()
    assert (weights >= 0).all()
    assert torch.allclose(weights.sum(dim=-1), torch.ones(weights.shape[:-1]), rtol=0, atol=1e-5)


@CASES
@given(
    layouts(),
    st.builds(
        CLVA,
        omega=shares,
        beta=shares,
        kappa=kappas,
        gate=st.booleans(),
        anchor=st.sampled_from(ANCHORS),
        swapped=st.booleans(),
        keep=positive,
        heads=positive,
        seed=seeds,
    ),
    sharpness,
    seeds,
)
def test_clva_leaves_attention(layout, clva, scale, seed):
    if not layout.text_rows:  # then the attention does not call it
        return
    resolved = clva.resolve(CONFIG)
    maps = {
        layer: pooled_map(attention(layout, scale, seed + layer), layout, clva.heads) for layer in resolved.read_layers
    }
    weights = attention(layout, scale, seed + 99)
    found = find_anchor(maps, layout, resolved)
    gate = drift_gate(weights, found, layout, resolved)
    assert ((gate >= 0) & (gate <= 1)).all()
    require_attention(pull_to_anchor(weights, found, gate, layout, resolved))


@CASES
@given(
    layouts(),
    st.builds(EAH, threshold=st.floats(0, 1, exclude_max=True), head=st.sampled_from(HEADS), seed=seeds),
    st.sampled_from(["pass", "keep"]),
    sharpness,
    seeds,
)
def test_eah_leaves_attention(layout, eah, decode, scale, seed):
    resolved = EAH(**{**vars(eah), "decode": decode}).resolve(CONFIG)
    weights = attention(layout, scale, seed)
    kept = torch.zeros(len(weights), dtype=torch.long)
    changed, _ = broadcast_densest_head(weights, mask_of(layout), layout, resolved, kept)
    require_attention(changed)


@CASES
@given(layouts(), shares, kappas, sharpness, seeds, st.data())
def test_an_aim_leaves_attention(layout, strength, kappa, scale, seed, data):
    if not layout.text_rows:
        return
    count = len(layout.image) * layout.most_patches
    numbers = data.draw(st.lists(st.floats(0, 2.0**100, width=32), min_size=count, max_size=count))
    aim = Aim(torch.tensor(numbers).view(len(layout.image), -1), (1,), strength, kappa)
    require_attention(draw_to_target(attention(layout, scale, seed), layout, aim))
