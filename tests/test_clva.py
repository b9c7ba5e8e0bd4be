"""CLVA: every step by hand, the whole model against the written-out reference, and what must not depend on the call.

Tolerances: weights against the reference (numpy, fp64) 1e-6, of weights up to 1: the model's softmax is in fp32, the
arithmetic of the method is not coarser. Neutral settings multiply by exactly 1, so they equal the plain call bit for
bit when both are written out (`maps` of all layers). Where another kernel, another length or the cache groups the same
sums in another way, logits agree to 2e-5 of the largest: 3e-6 as in test_model.py, times the sharper queries of this
model and the gate, which divides by a difference of cosines. That also holds in fp64, since norms and softmax are
computed in fp32.
"""

import warnings

import pytest
import torch
from torch.testing import assert_close

from minivlm.errors import ConfigError
from minivlm.inference.effect import effect_of
from minivlm.inference.generate import new_cache
from minivlm.model import CLVA, EAH, Layout
from minivlm.model.clva import (
    Anchor,
    drift_gate,
    find_anchor,
    keep_largest,
    pooled_map,
    pull_to_anchor,
    usual_layers,
    without_outliers,
)
from support import reference_methods as reference
from support.sharp_model import DEPTH, LAYERS, PROMPTS, THRESHOLD, batch, difference, image_columns, sharp_llava, single
from support.tiny_model import tiny_config

CLOSE = 2e-5
TO_REFERENCE = {"rtol": 0, "atol": 1e-6}
BY_HAND = {"rtol": 0, "atol": 1e-6}  # a few roundings in fp32
MODEL = sharp_llava()
EXACT = sharp_llava(dtype=torch.float64)
NOISE_LAYERS, ANCHOR_LAYERS, DEEP_LAYERS = (0, 1), (3, 4, 5), (6, 7)  # of this model, by its depth
NEUTRAL = CLVA(omega=0, beta=0)
OPEN = CLVA(gate=False)


# --- settings ---------------------------------------------------------------------------------------------------------


def of_depth(depth: int):
    return tiny_config(text={"num_hidden_layers": depth})


def test_the_layers_at_the_published_depth():
    clva = CLVA.for_model(of_depth(32))
    assert clva.noise_layers == (1, 2, 3, 4)
    assert clva.anchor_layers == tuple(range(13, 23))
    assert clva.deep_layers == tuple(range(26, 32))
    assert (clva.omega, clva.beta, clva.kappa, clva.gate) == (0.4, 0.2, 1.0, True)


def test_the_layers_of_this_files_model():
    clva = CLVA.for_model(MODEL.config)
    assert (clva.noise_layers, clva.anchor_layers, clva.deep_layers) == (NOISE_LAYERS, ANCHOR_LAYERS, DEEP_LAYERS)


@pytest.mark.parametrize("depth", range(3, 61))
def test_every_depth_has_layers_in_order(depth):
    noise, anchor, deep = usual_layers(depth)
    assert noise
    assert anchor
    assert deep
    assert 0 <= noise[0] <= noise[-1] < anchor[0] <= anchor[-1] < deep[0]
    assert deep[-1] == depth - 1
    for layers in (noise, anchor, deep):
        assert list(layers) == list(range(layers[0], layers[-1] + 1))
    assert CLVA.for_model(of_depth(depth)).deep_layers == deep  # and the settings' own checks agree


@pytest.mark.parametrize("depth", [1, 2])
def test_a_model_too_flat_is_refused(depth):
    with pytest.raises(ConfigError, match=f"a noise, an anchor and a deep layer, but the decoder has {depth}"):
        CLVA.for_model(of_depth(depth))


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"omega": 1.1}, "0..1"),
        ({"omega": -0.1}, "0..1"),
        ({"omega": float("nan")}, "0..1"),
        ({"omega": "0.4"}, "0..1"),
        ({"omega": None}, "0..1"),
        ({"omega": True}, "0..1"),
        ({"beta": 2}, "0..1"),
        ({"beta": -0.5}, "0..1"),
        ({"beta": float("inf")}, "0..1"),
        ({"kappa": 0}, "lie in 0.000001..10"),
        ({"kappa": 1e-7}, "lie in 0.000001..10"),
        ({"kappa": 11.0}, "lie in 0.000001..10"),
        ({"kappa": float("nan")}, "lie in 0.000001..10"),
        ({"keep": 0}, "above 0 and at most 1"),
        ({"keep": 1.5}, "above 0 and at most 1"),
        ({"heads": 0.0}, "above 0 and at most 1"),
        ({"heads": 2}, "above 0 and at most 1"),
        ({"seed": 0.5}, "whole number"),
        ({"anchor": "best"}, "gain, shuffled, random"),
        ({"anchor": ["gain"]}, "gain, shuffled, random"),
        ({"gate": "no"}, "True or False"),
        ({"swapped": 1}, "True or False"),
        ({"noise_layers": ()}, "at least one"),
        ({"noise_layers": (1, 1)}, "different"),
        ({"anchor_layers": (-1,)}, "whole numbers from 0"),
        ({"anchor_layers": (1.0,)}, "whole numbers from 0"),
        ({"deep_layers": "67"}, "whole numbers from 0"),
        ({"deep_layers": 7}, "whole numbers from 0"),
    ],
    ids=str,
)
def test_nonsense_is_refused_in_a_sentence(settings, sentence):
    with pytest.raises(ConfigError, match=f"CLVA.{next(iter(settings))} .*{sentence}.*found"):
        CLVA(**settings)


def test_layers_in_the_wrong_order_are_refused():
    with pytest.raises(ConfigError, match=r"deep_layers must stand above .* reach up to 5 .*found \(5, 6\)"):
        CLVA(anchor_layers=(3, 5), deep_layers=(5, 6))
    with pytest.raises(ConfigError, match="and must be read before"):
        CLVA(noise_layers=(7,), deep_layers=(6,))
    with pytest.raises(ConfigError, match=r"anchor_layers must share none with noise_layers \(1, 2\), found \(2, 3\)"):
        CLVA(noise_layers=(1, 2), anchor_layers=(2, 3))


def test_layers_that_do_not_fit_the_model_are_refused():
    with pytest.raises(ConfigError, match="CLVA names the layer 8, but the decoder has the layers 0 to 7"):
        MODEL(**single(1), mitigation=CLVA(deep_layers=(7, 8)))
    with pytest.raises(ConfigError, match="CLVA names the layer 9"):
        CLVA.for_model(MODEL.config, anchor_layers=(9,), deep_layers=(10,))
    with pytest.raises(ConfigError, match="and must be read before"):
        MODEL(**single(1), mitigation=CLVA(deep_layers=(2,)))  # below the anchor layers of this depth


def test_lists_and_ranges_of_layers_are_taken_and_given_layers_stay():
    clva = CLVA.for_model(MODEL.config, noise_layers=[2], deep_layers=range(7, 8))
    assert (clva.noise_layers, clva.anchor_layers, clva.deep_layers) == ((2,), ANCHOR_LAYERS, (7,))
    assert clva == clva.resolve(MODEL.config)


# --- the steps by hand: a row behind 4 patches ------------------------------------------------------------------------


def layout_of(patches: int = 4, rows: int = 1) -> Layout:
    """One word, `patches` patches, `rows` rows of text, which are all that is looked at."""
    image = torch.tensor([[False] + [True] * patches + [False] * rows])
    return Layout(torch.ones_like(image), image, queries=rows, prompt=image.shape[1])


def row_of(*heads: tuple[float, ...]) -> torch.Tensor:
    """Weights (1, H, 1, K) from each head's attention on the patches; the rest lies on the first word."""
    return torch.tensor([[1 - sum(head), *head, 0.0] for head in heads])[None, :, None]


def test_a_map_is_pooled_over_the_heads_that_look_most():
    weights = row_of((0.1, 0, 0, 0), (0.4, 0.4, 0, 0), (0, 0, 0.1, 0.3), (0, 0.05, 0, 0))
    assert_close(pooled_map(weights, layout_of()), torch.tensor([[[0.4, 0.4, 0.1, 0.3]]]) / 1.2, **BY_HAND)
    assert_close(pooled_map(weights, layout_of(), 0.25), torch.tensor([[[0.5, 0.5, 0, 0]]]), **BY_HAND)
    assert_close(pooled_map(weights, layout_of(), 0.51), torch.tensor([[[0.5, 0.4, 0.1, 0.3]]]) / 1.3, **BY_HAND)
    everything = torch.tensor([[[0.5, 0.45, 0.1, 0.3]]]) / 1.35
    assert_close(pooled_map(weights, layout_of(), 1), everything, **BY_HAND)


def test_each_row_chooses_its_own_heads():
    first, second = row_of((0.8, 0, 0, 0), (0, 0.1, 0, 0)), row_of((0.1, 0, 0, 0), (0, 0.8, 0, 0))
    weights = torch.cat((first, second), dim=2)[..., [0, 1, 2, 3, 4, 5, 5]]
    found = pooled_map(weights, layout_of(rows=2))
    assert_close(found, torch.tensor([[[1.0, 0, 0, 0], [0, 1.0, 0, 0]]]), **BY_HAND)


def test_a_row_that_sees_no_patch_has_an_empty_map():
    assert pooled_map(row_of((0, 0, 0, 0)), layout_of()).tolist() == [[[0, 0, 0, 0]]]


def maps(*values: tuple[float, ...]) -> dict[int, torch.Tensor]:
    """layer -> (1, 1, P)."""
    return {layer: torch.tensor(value)[None, None] for layer, value in enumerate(values)}


FOUR = CLVA(noise_layers=(0, 1), anchor_layers=(2, 3), deep_layers=(4,))
READ = maps((0.5, 0.5, 0, 0), (0.7, 0.1, 0.1, 0.1), (0.2, 0.2, 0.6, 0), (0, 0.4, 0.2, 0.4))


def test_noise_middle_and_anchor_by_hand():
    """n = (.6 .3 .05 .05); gains (0 0 .55 0) and (0 .1 .15 .35), mean (0 .05 .35 .175), sum .575; nothing is cut."""
    found = find_anchor(READ, layout_of(), FOUR)
    assert_close(found.noise, torch.tensor([[[0.6, 0.3, 0.05, 0.05]]]), **BY_HAND)
    assert_close(found.middle, torch.tensor([[[0.1, 0.3, 0.4, 0.2]]]), **BY_HAND)
    assert_close(found.anchor, torch.tensor([[[0, 0.05, 0.35, 0.175]]]) / 0.575, **BY_HAND)


def test_keep_by_hand():
    for keep, expected in ((0.5, (0, 0, 0.35, 0.175)), (0.25, (0, 0, 1.0, 0)), (0.26, (0, 0, 0.35, 0.175))):
        found = find_anchor(READ, layout_of(), CLVA(**FOUR.__dict__ | {"keep": keep})).anchor
        assert_close(found, torch.tensor([[expected]]) / sum(expected), **BY_HAND)


def test_swapped_reads_the_layers_the_other_way_round():
    swapped = CLVA(**FOUR.__dict__ | {"swapped": True})
    crossed = find_anchor({0: READ[2], 1: READ[3], 2: READ[0], 3: READ[1]}, layout_of(), FOUR)
    found = find_anchor(READ, layout_of(), swapped)
    for name in ("noise", "middle", "anchor"):
        assert torch.equal(getattr(found, name), getattr(crossed, name))


def test_without_a_gain_there_is_no_anchor():
    same = maps((0.5, 0.25, 0.25, 0), (0.5, 0.25, 0.25, 0), (0.5, 0.25, 0.25, 0), (0.5, 0.25, 0.25, 0))
    found = find_anchor(same, layout_of(), FOUR)
    assert not found.anchor.any()
    assert not drift_gate(row_of((0.9, 0, 0, 0)), found, layout_of(), FOUR).any()
    assert not drift_gate(row_of((0.9, 0, 0, 0)), found, layout_of(), OPEN).any()


def test_a_row_without_an_anchor_has_a_shut_gate():
    """Also where rounding makes it look regressed, and where the gate is held open."""
    found = Anchor(PULL.noise, PULL.middle, torch.zeros(1, 1, 4))
    for clva in (CLVA(), OPEN):
        assert drift_gate(row_of(AT_NOISE), found, layout_of(), clva).tolist() == [[0.0]]


def test_outliers_are_cut_to_three_deviations():
    """One of 20 at 1, others 0: mean .05, deviation sqrt(.05 - .0025), cut to .05 + 3 * .2179 = .7038."""
    gain = torch.zeros(1, 1, 20)
    gain[..., 4] = 1
    found = without_outliers(gain, layout_of(20))
    assert_close(found[0, 0, 4], torch.tensor(0.05 + 3 * 0.0475**0.5), **BY_HAND)
    assert found.count_nonzero() == 1
    mild = torch.arange(20.0)[None, None]
    assert torch.equal(without_outliers(mild, layout_of(20)), mild)


def test_mean_deviation_and_share_are_of_the_patches_that_a_row_sees():
    """One of 12 at 1 in the first picture: mean 1/12, cut to 1/12 + 3 * sqrt(11) / 12, whatever is still to come."""
    image = torch.tensor([[True] * 12 + [False] + [True] * 12 + [False]])
    layout = Layout(torch.ones_like(image), image, queries=14, prompt=26)  # the rows behind the first picture
    gain = torch.zeros(1, 14, 25)
    gain[..., 4] = 1
    found = without_outliers(gain, layout)[0, :, 4]
    assert_close(found[0], torch.tensor((1 + 3 * 11**0.5) / 12), **BY_HAND)
    assert_close(found[-1], torch.tensor((1 + 3 * 23**0.5) / 24), **BY_HAND)
    kept = keep_largest(torch.rand(1, 14, 25).add(1) * layout.seen(14), 0.5, layout).count_nonzero(dim=-1)
    assert (kept[0, 0], kept[0, -1]) == (6, 12)


def test_of_equal_gains_the_first_are_kept():
    """Two outliers are cut to one value; which of them is kept must not be left to the sorting."""
    gain = torch.zeros(1, 1, 24)
    gain[..., [5, 17]] = torch.tensor([0.9, 1.0])
    cut = without_outliers(gain, layout_of(24))
    assert cut[0, 0, 5] < 0.9
    assert cut[0, 0, 5] == cut[0, 0, 17]
    assert keep_largest(cut, 1 / 24, layout_of(24)).nonzero()[:, 2].tolist() == [5]


@pytest.mark.parametrize(("share", "patches", "kept"), [(0.6, 25, 15), (0.3, 50, 15), (0.5, 9, 5), (0.01, 9, 1)])
def test_the_share_kept_is_rounded_up_and_no_further(share, patches, kept):
    """0.6 of 25 are 15, although 0.6 in fp32 times 25 is a little more."""
    gain = torch.rand(1, 1, patches) + 0.1
    assert keep_largest(gain, share, layout_of(patches)).count_nonzero() == kept


# n is the first patch, c lies halfway to the second, a is the second
PULL = Anchor(*(torch.tensor(value)[None, None] for value in ((1.0, 0, 0, 0), (0.5, 0.5, 0, 0), (0, 1.0, 0, 0))))
AT_NOISE, AT_MIDDLE, BEYOND = (0.4, 0, 0, 0), (0.2, 0.2, 0, 0), (0.0, 0.4, 0, 0)


def test_the_gate_by_hand():
    """cos(c, n) = sqrt(1/2). A map at n has regressed wholly, one at c or beyond not at all."""
    middle = 0.5**0.5
    halfway = (0.3, 0.1, 0, 0)  # cosine .3 / sqrt(.1)
    expected = {AT_NOISE: 1.0, AT_MIDDLE: 0.0, BEYOND: 0.0, halfway: (0.3 / 0.1**0.5 - middle) / (1 - middle)}
    for head, gate in expected.items():
        found = drift_gate(row_of(head, head), PULL, layout_of(), CLVA())
        assert_close(found, torch.tensor([[gate]]), rtol=0, atol=1e-5)  # a difference of cosines, divided by 0.3
        assert drift_gate(row_of(head, head), PULL, layout_of(), OPEN).tolist() == [[1.0]]


def test_the_fusion_by_hand():
    """One head, half its attention on the picture, p = (.6 0 .4 0); omega .4, beta .2, gate .5:

    t = .8 p + .2 a - .1 n = (.48 - .1, .2, .32, 0) = (.38 .2 .32 0), sum .9.
    """
    weights = row_of((0.3, 0, 0.2, 0))
    found = pull_to_anchor(weights, PULL, torch.tensor([[0.5]]), layout_of(), CLVA())
    expected = torch.tensor([0.5, 0.5 * 0.38 / 0.9, 0.5 * 0.2 / 0.9, 0.5 * 0.32 / 0.9, 0, 0])
    assert_close(found[0, 0, 0], expected, **BY_HAND)
    with_kappa = pull_to_anchor(weights, PULL, torch.tensor([[0.5]]), layout_of(), CLVA(kappa=3.0))
    scaled = torch.cat((expected[:1], 3 * expected[1:5], expected[5:])) / (0.5 + 3 * 0.5)
    assert_close(with_kappa[0, 0, 0], scaled, **BY_HAND)


def test_what_the_noise_takes_below_zero_is_clipped():
    """p = (.1 0 .9 0), gate 1: t = .6 p + .4 a - .2 n = (-.14 .4 .54 0), clipped (0 .4 .54 0), sum .94."""
    found = pull_to_anchor(row_of((0.1, 0, 0.9, 0)), PULL, torch.tensor([[1.0]]), layout_of(), CLVA())
    assert_close(found[0, 0, 0], torch.tensor([0, 0, 0.4 / 0.94, 0.54 / 0.94, 0, 0]), **BY_HAND)


@pytest.mark.parametrize("kappa", [1.0, 2.0])
def test_a_shut_gate_and_a_head_that_does_not_look_change_nothing(kappa):
    weights = row_of((0.3, 0, 0.2, 0), (0, 0, 0, 0))
    clva = CLVA(kappa=kappa)
    assert torch.equal(pull_to_anchor(weights, PULL, torch.tensor([[0.0]]), layout_of(), clva), weights)
    opened = pull_to_anchor(weights, PULL, torch.tensor([[1.0]]), layout_of(), clva)
    assert torch.equal(opened[:, 1], weights[:, 1])
    assert not torch.equal(opened[:, 0], weights[:, 0])


# --- the whole model --------------------------------------------------------------------------------------------------

VARIANTS = [
    {},
    {"gate": False},
    {"omega": 0.9, "beta": 1.0, "gate": False},
    {"omega": 0.0, "beta": 0.4, "gate": False},
    {"beta": 0.0},
    {"kappa": 1.5},
    {"kappa": 0.5, "gate": False},
    {"keep": 0.3, "gate": False},
    {"heads": 1.0},
    {"heads": 0.3},
]


@pytest.mark.parametrize("pictures", [1, 2])
@pytest.mark.parametrize("variant", VARIANTS, ids=str)
@pytest.mark.parametrize("model", [MODEL, EXACT], ids=["fp32", "fp64"])
def test_the_model_equals_the_reference(model, variant, pictures):
    """A deep layer's weights before its own step are those of a run in which only the deep layers below it act."""
    sample, columns = single(pictures, model.lm_head.weight.dtype), image_columns(pictures)
    output = model(**sample, maps=LAYERS, mitigation=CLVA(**variant))
    read = {layer: map_[0].double().numpy() for layer, map_ in output.maps.items()}
    below = CLVA(deep_layers=(6,), **variant)
    before = model(**sample, maps=LAYERS).maps[6], model(**sample, maps=LAYERS, mitigation=below).maps[7]
    layers = [[read[layer] for layer in layers] for layers in (NOISE_LAYERS, ANCHOR_LAYERS)]
    changed = False
    for deep, weights, change in zip(DEEP_LAYERS, before, output.effect.calls[0], strict=True):
        expected, gates = reference.clva(weights[0].double().numpy(), *layers, columns, **variant)
        assert_close(output.maps[deep][0].double(), torch.from_numpy(expected), **TO_REFERENCE)
        shown = change.gate[0]
        assert len(shown) - int(shown.isnan().sum()) == len(gates)
        found = shown[~shown.isnan()].double()
        assert_close(found, torch.tensor(list(gates.values())).double(), rtol=0, atol=2e-6)
        changed |= not torch.equal(output.maps[deep], weights)
    assert changed


@pytest.mark.parametrize("layer", [1, 4, 6])
def test_both_methods_equal_the_reference(layer):
    """EAH's layer may be a noise, an anchor or a deep one: CLVA reads, or pulls, what EAH left."""
    both = [EAH(layer=layer, threshold=THRESHOLD), CLVA(gate=False)]
    output = MODEL(**single(1), maps=LAYERS, mitigation=both)
    read = {number: map_[0].double().numpy() for number, map_ in output.maps.items()}
    plain = MODEL(**single(1), maps=LAYERS).maps[layer][0].double().numpy()
    by_eah = torch.from_numpy(reference.eah(plain, image_columns(1), THRESHOLD))
    only_eah = MODEL(**single(1), maps=LAYERS, mitigation=both[0]).maps
    assert_close(only_eah[layer][0].double(), by_eah, **TO_REFERENCE)
    before = only_eah[6][0].double().numpy()
    layers = [[read[layer] for layer in layers] for layers in (NOISE_LAYERS, ANCHOR_LAYERS)]
    expected, _ = reference.clva(before, *layers, image_columns(1), gate=False)
    assert_close(torch.from_numpy(read[6]), torch.from_numpy(expected), **TO_REFERENCE)


def test_neutral_settings_are_the_plain_call():
    with pytest.warns(UserWarning, match="The mitigation changed nothing"):
        found = MODEL(**batch(), maps=LAYERS, mitigation=NEUTRAL)
    expected = MODEL(**batch(), maps=LAYERS)
    assert torch.equal(found.logits, expected.logits)  # both in the visible lane
    assert all(torch.equal(found.maps[layer], expected.maps[layer]) for layer in LAYERS)
    assert found.effect.nothing


@pytest.mark.filterwarnings("ignore:The mitigation changed nothing")
@pytest.mark.parametrize("gate", [True, False])
def test_neutral_settings_in_the_other_lane_are_close(gate):
    found = MODEL(**batch(), mitigation=CLVA(omega=0, beta=0, gate=gate)).logits
    assert difference(found, MODEL(**batch()).logits) < CLOSE


@pytest.mark.parametrize("kappa", [1.0, 0.5, 3.0])
def test_rows_still_sum_to_one_and_no_weight_is_negative(kappa):
    found = MODEL(**batch(), maps=DEEP_LAYERS, mitigation=CLVA(omega=0.7, beta=0.9, kappa=kappa, gate=False))
    for weights in found.maps.values():
        assert_close(weights.sum(dim=-1), torch.ones(weights.shape[:3]), rtol=0, atol=1e-6)  # fp32, 27 summands
        assert (weights >= 0).all()


def test_the_attention_on_the_picture_is_unchanged_at_kappa_1():
    """To 1e-6; and every other weight bit for bit."""
    columns = image_columns(2)
    others = [column for column in range(len(PROMPTS[2])) if column not in columns]
    before = MODEL(**single(2), maps=LAYERS).maps[6]
    after = MODEL(**single(2), maps=LAYERS, mitigation=OPEN).maps[6]
    assert_close(after[..., columns].sum(dim=-1), before[..., columns].sum(dim=-1), **TO_REFERENCE)
    assert torch.equal(after[..., others], before[..., others])
    assert not torch.equal(after[..., columns], before[..., columns])


def test_kappa_scales_the_attention_on_the_picture():
    """From m to kappa m / (1 - m + kappa m), in rows of text behind the picture only."""
    columns, text = image_columns(1), range(image_columns(1)[-1] + 1, len(PROMPTS[1]))
    before = MODEL(**single(1), maps=LAYERS).maps[6][..., columns].sum(dim=-1)
    after = MODEL(**single(1), maps=LAYERS, mitigation=CLVA(kappa=2.0, gate=False)).maps[6][..., columns].sum(dim=-1)
    expected = before.clone()
    expected[..., text] = (2 * before / (1 + before))[..., text]
    assert_close(after, expected, **TO_REFERENCE)


def test_only_text_behind_a_patch_is_touched():
    before = MODEL(**single(2), maps=LAYERS).maps[6]
    after = MODEL(**single(2), maps=LAYERS, mitigation=OPEN).maps[6]
    columns = image_columns(2)
    touched = [bool((before[:, :, row] != after[:, :, row]).any()) for row in range(len(PROMPTS[2]))]
    assert touched == [row > columns[0] and row not in columns for row in range(len(PROMPTS[2]))]


@pytest.mark.parametrize("variant", [{}, {"anchor": "random"}, {"anchor": "shuffled"}, {"keep": 0.3}], ids=str)
def test_text_between_two_pictures_does_not_see_the_second(variant):
    """Neither with its weights, nor through a count or a mean over patches that are still to come."""
    clva = CLVA(gate=False, **variant)
    between = image_columns(1)[-1] + 2  # tokens up to the word behind the first picture
    whole = EXACT(**single(2, torch.float64), maps=LAYERS, mitigation=clva)
    tokens, image = single(2, torch.float64).values()
    beginning = EXACT(tokens[:, :between], image[:1], mitigation=clva)
    assert all(not whole.maps[layer].triu(1).any() for layer in LAYERS)
    assert difference(whole.logits[:, :between], beginning.logits) < CLOSE
    assert not beginning.effect.nothing


# --- controls ---------------------------------------------------------------------------------------------------------


def found_by(model=MODEL, **control) -> torch.Tensor:
    """What the last row gives the patches in layer 6, (H, P), with omega = 1: the anchor, times each mass."""
    how = {"omega": 1.0, "beta": 0.0, "gate": False}
    after = model(**single(1), maps=LAYERS, mitigation=CLVA(**how, **control)).maps[6]
    return after[0, :, -1, image_columns(1)]


def test_the_controls_have_the_mass_of_the_anchor():
    gain, shuffled, random = (found_by(anchor=anchor) for anchor in ("gain", "shuffled", "random"))
    for other in (shuffled, random):
        assert_close(other.sum(dim=-1), gain.sum(dim=-1), **TO_REFERENCE)
        assert (other - gain).abs().max() > 0.01
    assert_close(shuffled.sort(dim=-1).values, gain.sort(dim=-1).values, **TO_REFERENCE)  # the same values elsewhere
    assert (random.sort(dim=-1).values - gain.sort(dim=-1).values).abs().max() > 0.01


@pytest.mark.parametrize("anchor", ["shuffled", "random"])
def test_the_controls_are_the_seeds(anchor):
    first, again, other = (found_by(anchor=anchor, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_random_anchor_is_the_same_whatever_the_model_sees():
    """It is no function of the picture: its shape is that of another model too."""
    first, second = found_by(anchor="random"), found_by(sharp_llava(seed=4), anchor="random")
    shapes = [after / after.sum(dim=-1, keepdim=True) for after in (first, second)]
    assert_close(*shapes, rtol=0, atol=1e-5)  # divided by masses of 0.1


def test_swapped_and_open_gates_are_other_calls():
    logits = [MODEL(**single(1), mitigation=CLVA(**how)).logits for how in ({}, {"swapped": True}, {"gate": False})]
    assert difference(logits[1], logits[0]) > 100 * CLOSE
    assert difference(logits[2], logits[0]) > 100 * CLOSE


def test_an_open_gate_shows_ones():
    gate = MODEL(**single(1), mitigation=OPEN).effect.calls[0][0].gate
    assert gate.unique().tolist() == [1.0]


# --- batches, padding, the cache --------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", [{}, {"anchor": "random"}, {"anchor": "shuffled"}, {"keep": 0.3}], ids=str)
@pytest.mark.parametrize("extra", [0, 4])
def test_a_padded_batch_equals_its_samples_alone(extra, variant):
    clva = CLVA(gate=False, **variant)
    together = EXACT(**batch(dtype=torch.float64, extra=extra), mitigation=clva)
    for row, pictures in enumerate((1, 0, 2)):
        with warnings.catch_warnings():  # the sample without a picture
            warnings.simplefilter("ignore")
            alone = EXACT(**single(pictures, torch.float64), mitigation=clva).logits[0]
        assert difference(together.logits[row, -len(PROMPTS[pictures]) :], alone) < CLOSE


def test_padding_behind_the_text_changes_nothing():
    tokens, image = single(1).values()
    length = tokens.shape[1]
    longer = torch.cat((tokens, torch.ones(1, 5, dtype=torch.long)), dim=1)
    found = MODEL(longer, image, attention_mask=torch.arange(length + 5)[None] < length, mitigation=CLVA())
    expected = MODEL(tokens, image, mitigation=CLVA())
    assert difference(found.logits[:, :length], expected.logits) < CLOSE
    assert effect_of(found).layers[0].rows == effect_of(expected).layers[0].rows


@pytest.mark.parametrize("cut", [1, 2, 12, 15])
@pytest.mark.parametrize("variant", [{}, {"gate": False, "anchor": "shuffled"}, {"kappa": 2.0}], ids=str)
def test_with_a_cache_as_without_wherever_it_is_cut(cut, variant):
    """Each row finds its anchor by itself, from keys that are in the cache already."""
    tokens, image = single(1, torch.float64).values()
    clva, cache = CLVA(**variant), new_cache(EXACT, 1, 32)
    expected = EXACT(tokens, image, mitigation=clva).logits
    with warnings.catch_warnings():  # the part before the picture
        warnings.simplefilter("ignore")
        first = EXACT(tokens[:, :cut], image if cut > 2 else None, cache=cache, mitigation=clva)
    second = EXACT(tokens[:, cut:], None if cut > 2 else image, cache=cache, mitigation=clva)
    assert difference(torch.cat((first.logits, second.logits), dim=1), expected) < CLOSE


# --- types, heads, training, leaks ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kappa", [1.0, 2.0])
@pytest.mark.parametrize(("dtype", "bits"), [(torch.bfloat16, 8), (torch.float16, 11)])
def test_half_precision_rows_sum_to_one(dtype, bits, kappa):
    """Weights are rounded to `bits` bits up to twice, before and after: off by at most 2**(1 - bits) of their sum."""
    model = sharp_llava(dtype=dtype)
    found = model(**batch(dtype=dtype), maps=DEEP_LAYERS, mitigation=CLVA(gate=False, kappa=kappa))
    assert found.logits.isfinite().all()
    for weights in found.maps.values():
        assert weights.dtype == dtype
        assert_close(weights.float().sum(dim=-1), torch.ones(weights.shape[:3]), rtol=0, atol=2.0 ** (1 - bits))


@pytest.mark.parametrize("groups", [1, 4])
def test_grouped_heads_equal_the_reference(groups):
    model = sharp_llava(groups=groups)
    read = {n: map_[0].double().numpy() for n, map_ in model(**single(1), maps=LAYERS).maps.items()}
    layers = [[read[layer] for layer in layers] for layers in (NOISE_LAYERS, ANCHOR_LAYERS)]
    expected, _ = reference.clva(read[6], *layers, image_columns(1), gate=False)
    found = model(**single(1), maps=[6], mitigation=OPEN).maps[6][0]
    assert_close(found.double(), torch.from_numpy(expected), **TO_REFERENCE)


@pytest.mark.parametrize("variant", [{}, {"gate": False}, {"kappa": 2.0}, {"anchor": "random"}], ids=str)
def test_gradients_flow_even_beside_a_sample_without_a_picture(variant):
    model = sharp_llava().requires_grad_(True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        output = model(**batch(), mitigation=CLVA(**variant))
        output.logits[:, -1].square().sum().backward()
        effect_of(output).as_dict()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
    assert all(block.self_attn.q_proj.weight.grad.any() for block in model.text.layers)


def test_the_gradient_reaches_the_middle_layers_through_the_anchor():
    """With omega = 1 the deep map is the anchor: the deep layer's shape has no say, the middle layers' has."""
    maps_ = {layer: map_.clone().requires_grad_(True) for layer, map_ in READ.items()}
    weights = row_of((0.3, 0.1, 0.1, 0)).requires_grad_(True)
    found = find_anchor(maps_, layout_of(), FOUR)
    clva = CLVA(omega=1.0, beta=0.0, gate=False)
    pull_to_anchor(weights, found, torch.ones(1, 1), layout_of(), clva)[..., 3].sum().backward()
    assert maps_[2].grad.any()
    assert maps_[0].grad.any()
    shape = weights.grad[0, 0, 0, 1:5]
    assert_close(shape, shape[:1].expand(4))  # only the mass counts


def test_equal_gains_have_a_gradient():
    gain = torch.zeros(1, 1, 4, requires_grad=True)
    without_outliers(gain, layout_of()).sum().backward()
    assert gain.grad.isfinite().all()


def test_one_call_leaves_nothing_to_the_next():
    plain = MODEL(**single(1)).logits
    first = MODEL(**single(1), mitigation=CLVA()).logits
    MODEL(**single(2), mitigation=OPEN)
    assert torch.equal(MODEL(**single(1)).logits, plain)
    assert torch.equal(MODEL(**single(1), mitigation=CLVA()).logits, first)
    assert difference(first, plain) > 10 * CLOSE


def test_one_row_says_nothing_to_another():
    """Another picture in the first row leaves the others as they are, bit for bit."""
    sample = batch()
    expected = MODEL(**sample, mitigation=CLVA()).logits
    sample["pixels"][0] += 1
    found = MODEL(**sample, mitigation=CLVA()).logits
    assert torch.equal(found[1:], expected[1:])
    assert not torch.equal(found[0], expected[0])


def test_the_layers_above_the_first_deep_one_feel_it():
    plain, pulled = (MODEL(**single(1), maps=LAYERS, **how) for how in ({}, {"mitigation": OPEN}))
    same = [torch.equal(plain.maps[layer], pulled.maps[layer]) for layer in LAYERS]
    assert same == [layer < DEEP_LAYERS[0] for layer in range(DEPTH)]
