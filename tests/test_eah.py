"""EAH: every step by hand, the whole model against the written-out reference, and what must not depend on the call.

Tolerances: rows are copied, not computed, so a map after EAH equals the chosen head's bit for bit, and a call without a
sink equals the plain one bit for bit when both are written out (`maps` of all layers). Where another kernel, another
length or the cache groups the same sums in another way, logits agree to 2e-5 of the largest: 3e-6 as in test_model.py,
times the sharper queries of this model. That also holds in fp64, since norms and softmax are computed in fp32.
"""

import math
import warnings

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from minivlm.errors import ConfigError
from minivlm.inference.effect import effect_of
from minivlm.inference.generate import new_cache
from minivlm.model import EAH, Earlier, Layout
from minivlm.model.decoder import causal_mask, token_positions
from minivlm.model.eah import ResolvedEAH, broadcast_head, chosen_head, densest_head
from minivlm.model.layers import rotary_angles, rotate
from support import reference_methods as reference
from support.sharp_model import DEPTH, LAYERS, PROMPTS, THRESHOLD, batch, difference, image_columns, sharp_llava, single
from support.tiny_model import tiny_config

CLOSE = 2e-5
SETTINGS = EAH(threshold=THRESHOLD)
NO_SINK = EAH(threshold=0.999)
MODEL = sharp_llava()
EXACT = sharp_llava(dtype=torch.float64)
FAST_LANE = pytest.mark.filterwarnings("ignore:The mitigation changed nothing")


# --- settings ---------------------------------------------------------------------------------------------------------


def config_of(patches: int, depth: int = 4):
    side = math.isqrt(patches)
    return tiny_config(vision={"image_size": 4 * side, "patch_size": 4}, text={"num_hidden_layers": depth})


def test_the_default_is_the_published_setting_at_its_length():
    eah = EAH.for_model(config_of(24**2))
    assert (eah.layer, eah.head, eah.decode) == (1, "densest", "pass")
    assert eah.threshold == pytest.approx(0.002, rel=1e-12)


def test_the_threshold_follows_the_length_of_the_prompt():
    assert EAH.for_model(config_of(64)).threshold == pytest.approx(0.002 * 626 / (64 + 50), rel=1e-12)
    assert EAH.for_model(config_of(64), threshold=0.3, layer=2) == ResolvedEAH(layer=2, threshold=0.3)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"layer": -1}, "whole number from 0"),
        ({"layer": 1.0}, "whole number from 0"),
        ({"layer": True}, "whole number from 0"),
        ({"layer": "1"}, "whole number from 0"),
        ({"threshold": -0.1}, "mean weight"),
        ({"threshold": 1.0}, "mean weight"),
        ({"threshold": float("nan")}, "mean weight"),
        ({"threshold": "0.1"}, "mean weight"),
        ({"threshold": True}, "mean weight"),
        ({"head": "best"}, "densest, second, random"),
        ({"head": ["densest"]}, "densest, second, random"),
        ({"head": None}, "densest, second, random"),
        ({"decode": True}, "pass, keep"),
        ({"seed": "1"}, "whole number"),
        ({"seed": 1.5}, "whole number"),
    ],
    ids=str,
)
def test_nonsense_is_refused_in_a_sentence(settings, sentence):
    with pytest.raises(ConfigError, match=f"EAH.{next(iter(settings))}.*{sentence}.*found"):
        EAH(**settings)


def test_a_layer_that_the_model_does_not_have_is_refused():
    with pytest.raises(ConfigError, match="EAH.layer names the layer 8, but the decoder has the layers 0 to 7"):
        MODEL(**single(1), mitigation=EAH(layer=8))
    with pytest.raises(ConfigError, match="0 to 3"):
        EAH.for_model(config_of(9), layer=4)


# --- the steps by hand: 4 tokens, of which 1 and 2 are patches --------------------------------------------------------

HEADS = torch.tensor(
    [
        [[1.0, 0, 0, 0], [1.0, 0, 0, 0], [1.0, 0, 0, 0], [0.7, 0.1, 0.1, 0.1]],  # scores 0.05 and 0.1
        [[1.0, 0, 0, 0], [0.5, 0.5, 0, 0], [0.2, 0.6, 0.2, 0], [0.1, 0.2, 0.5, 0.2]],  # 0.4 and 0.5
        [[1.0, 0, 0, 0], [0.5, 0.5, 0, 0], [0.1, 0.8, 0.1, 0], [0.2, 0.2, 0.4, 0.2]],  # 0.5 and 0.4
        [[1.0, 0, 0, 0], [0.5, 0.5, 0, 0], [0.1, 0.0, 0.9, 0], [0.1, 0.0, 0.7, 0.2]],  # 0 and 0.7
    ]
)
IMAGE = torch.tensor([[False, True, True, False]])
LAYOUT = Layout(torch.ones(1, 4, dtype=torch.bool), IMAGE, queries=4, prompt=4)
MASK = causal_mask(LAYOUT.attention_mask, 4)


@pytest.mark.parametrize(
    ("threshold", "expected"),
    [
        (0.0, 0),  # 2, 2, 2 and 1 sinks: the lowest of three
        (0.3, 1),  # 0, 2, 2, 1: the lower of two
        (0.45, 1),  # 0, 1, 1, 1: the lowest of three again
        (0.6, 3),  # 0, 0, 0, 1
        (0.75, -1),  # none
    ],
)
def test_the_densest_head_by_hand(threshold, expected):
    assert densest_head(HEADS[None], MASK, LAYOUT, EAH(threshold=threshold)).tolist() == [expected]


def test_a_score_at_the_threshold_is_no_sink():
    """0.5 is exact in binary: head 1 has it at its second patch, where no other row adds to it."""
    assert densest_head(HEADS[None, :2], MASK, LAYOUT, EAH(threshold=0.5)).tolist() == [-1]
    assert densest_head(HEADS[None, :2], MASK, LAYOUT, EAH(threshold=0.49)).tolist() == [1]


@pytest.mark.parametrize(
    ("counts", "densest", "second"),
    [([0, 3, 5, 3], 2, 1), ([4, 4, 1, 4], 0, 1), ([0, 0, 0, 2], 3, 0), ([1, 2, 3, 4], 3, 2)],
)
def test_the_densest_and_the_second_head_by_hand(counts, densest, second):
    """The lowest of several, also as second; the reference says so too."""
    assert chosen_head(torch.tensor([counts]), EAH()).tolist() == [densest] == [reference.densest_head(counts)]
    found = chosen_head(torch.tensor([counts]), EAH(head="second")).tolist()
    assert found == [second] == [reference.second_head(counts)]


def test_one_head_is_also_its_second():
    assert chosen_head(torch.tensor([[3]]), EAH(head="second")).tolist() == [0]


def test_the_random_head_is_the_seeds_and_the_same_for_all_samples():
    counts = torch.ones(5, 16, dtype=torch.long)
    found = [chosen_head(counts, EAH(head="random", seed=seed)).tolist() for seed in range(20)]
    assert found == [chosen_head(counts, EAH(head="random", seed=seed)).tolist() for seed in range(20)]
    assert all(len(set(heads)) == 1 for heads in found)
    assert len({heads[0] for heads in found}) > 5
    assert all(0 <= heads[0] < 16 for heads in found)


def test_whole_rows_are_copied_and_others_are_left():
    weights = torch.rand(2, 3, 4, 4)
    rows = torch.tensor([[True, True, False, True]] * 2)
    found = broadcast_head(weights, torch.tensor([2, -1]), rows)
    assert torch.equal(found[0, :, rows[0]], weights[0, 2, rows[0]].expand(3, -1, -1))
    assert torch.equal(found[0, :, 2], weights[0, :, 2])
    assert torch.equal(found[1], weights[1])


# --- the whole model --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pictures", [1, 2])
@pytest.mark.parametrize("layer", [0, 1, 4])
@pytest.mark.parametrize("model", [MODEL, EXACT], ids=["fp32", "fp64"])
def test_the_model_equals_the_reference(model, layer, pictures):
    """To 1e-6; in fact bit for bit."""
    sample = single(pictures, model.lm_head.weight.dtype)
    before = model(**sample, maps=LAYERS).maps
    output = model(**sample, maps=LAYERS, mitigation=EAH(layer=layer, threshold=THRESHOLD))
    expected = reference.eah(before[layer][0].double().numpy(), image_columns(pictures), THRESHOLD)
    assert_close(output.maps[layer][0].double(), torch.from_numpy(expected), rtol=0, atol=1e-6)
    counts = reference.sink_counts(before[layer][0].double().numpy(), image_columns(pictures), THRESHOLD)
    assert len(set(counts)) > 1  # the heads differ: it matters which is chosen
    assert effect_of(output).layers[0].chosen == (reference.densest_head(counts),)
    assert all(torch.equal(output.maps[below], before[below]) for below in range(layer))
    assert not torch.equal(output.maps[layer + 1], before[layer + 1])


def test_the_densest_is_not_always_head_0():
    """A code that skips head 0, or always takes it, would pass some of the tests above."""
    found = set()
    for seed in range(5):
        model = sharp_llava(seed=seed)
        found.add(effect_of(model(**single(1), mitigation=SETTINGS)).layers[0].chosen[0])
    assert len(found) > 1
    assert 0 in found


def test_rows_still_sum_to_one_and_no_weight_is_negative():
    weights = MODEL(**batch(), maps=[1], mitigation=SETTINGS).maps[1]
    assert_close(weights.sum(dim=-1), torch.ones(weights.shape[:3]), rtol=0, atol=1e-6)  # fp32, 27 summands
    assert (weights >= 0).all()


def test_without_a_sink_the_call_is_the_plain_one():
    sample = batch()
    with pytest.warns(UserWarning, match="The mitigation changed nothing"):
        found = MODEL(**sample, maps=LAYERS, mitigation=NO_SINK)
    expected = MODEL(**sample, maps=LAYERS)
    assert torch.equal(found.logits, expected.logits)  # both in the visible lane
    assert all(torch.equal(found.maps[layer], expected.maps[layer]) for layer in LAYERS)
    assert found.effect.nothing
    assert effect_of(found).layers[0].chosen == (-1, -1, -1)


@FAST_LANE
def test_without_a_sink_the_lanes_are_close():
    assert difference(MODEL(**batch(), mitigation=NO_SINK).logits, MODEL(**batch()).logits) < CLOSE


def test_a_sample_without_a_picture_is_left_alone():
    output = MODEL(**batch(), maps=[1], mitigation=SETTINGS)
    plain = MODEL(**batch(), maps=[1])
    assert effect_of(output).layers[0].chosen[1] == -1
    assert torch.equal(output.maps[1][1], plain.maps[1][1])
    assert not torch.equal(output.maps[1][0], plain.maps[1][0])


def test_expanded_queries_and_keys_give_the_same_with_the_fused_kernel():
    """EAH needs no written-out map once the head is known: give all heads the chosen one's query and key."""
    sample = single(1)
    tokens = sample["tokens"]
    shown = MODEL(**sample, hidden=True, mitigation=SETTINGS)
    block, head = MODEL.text.layers[1], effect_of(shown).layers[0].chosen[0]
    attention, attention_mask = block.self_attn, torch.ones_like(tokens, dtype=torch.bool)
    rope = rotary_angles(token_positions(attention_mask, tokens.shape[1]), attention.head_dim, 10000.0, torch.float32)
    q, k, v = attention.project(block.input_layernorm(shown.hidden[1]))
    q, k = rotate(q, *rope), rotate(k, *rope)
    q = q[:, [head]].expand(-1, 4, -1, -1)
    k = k[:, [head // attention.group]].expand(-1, 4, -1, -1)
    mixed = F.scaled_dot_product_attention(q, k, v.repeat_interleave(attention.group, dim=1), is_causal=True)
    x = shown.hidden[1] + attention.merge(mixed)
    assert difference(x + block.mlp(block.post_attention_layernorm(x)), shown.hidden[2]) < CLOSE


# --- batches, padding, the cache --------------------------------------------------------------------------------------


@pytest.mark.parametrize("extra", [0, 4])
def test_a_padded_batch_equals_its_samples_alone(extra):
    together = EXACT(**batch(dtype=torch.float64, extra=extra), mitigation=SETTINGS)
    for row, pictures in enumerate((1, 0, 2)):
        length = len(PROMPTS[pictures])
        with warnings.catch_warnings():  # the sample without a picture
            warnings.simplefilter("ignore")
            alone = EXACT(**single(pictures, torch.float64), mitigation=SETTINGS)
        assert difference(together.logits[row, -length:], alone.logits[0]) < CLOSE
        assert effect_of(together).layers[0].chosen[row] == effect_of(alone).layers[0].chosen[0]


def test_padding_behind_the_text_changes_nothing():
    """The rows of padding would see the patches, and must not vote."""
    tokens, image = single(1).values()
    length = tokens.shape[1]
    longer = torch.cat((tokens, torch.ones(1, 20, dtype=torch.long)), dim=1)
    attention_mask = torch.arange(length + 20)[None] < length
    for threshold in (0.02, 0.04, 0.06, 0.08, 0.1, 0.15):
        eah = EAH(threshold=threshold)
        found, expected = (
            MODEL(longer, image, attention_mask=attention_mask, mitigation=eah),
            MODEL(tokens, image, mitigation=eah),
        )
        assert effect_of(found).layers[0].chosen == effect_of(expected).layers[0].chosen
        assert difference(found.logits[:, :length], expected.logits) < CLOSE


@pytest.mark.parametrize("decode", ["pass", "keep"])
def test_with_a_cache_as_without(decode):
    eah = EAH(threshold=THRESHOLD, decode=decode)
    sample = batch(dtype=torch.float64)
    rows = sample["tokens"].shape[1]
    more = torch.tensor([[7, 8, 9], [10, 11, 12], [13, 14, 15]])
    tokens = torch.cat((sample["tokens"], more), dim=1)
    attention_mask = F.pad(sample["attention_mask"], (0, 3), value=True)
    expected = EXACT(
        tokens, sample["pixels"], attention_mask=attention_mask, earlier=Earlier(rows), mitigation=eah
    ).logits[:, -4:]
    cache = new_cache(EXACT, 3, 64)
    output = EXACT(**sample, cache=cache, mitigation=eah)
    logits, effect = [output.logits[:, -1]], effect_of(output)
    for step in range(3):
        seen = attention_mask[:, : rows + step + 1]
        output = EXACT(more[:, [step]], attention_mask=seen, cache=cache, mitigation=eah, earlier=Earlier(rows, effect))
        logits.append(output.logits[:, -1])
        acted = [change.method for change in output.effect.calls[0]]
        assert acted == (["EAH"] if decode == "keep" else [])
        effect = effect.then(effect_of(output))
    assert difference(torch.stack(logits, dim=1), expected) < CLOSE
    other = EXACT(
        tokens, sample["pixels"], attention_mask=attention_mask, earlier=Earlier(rows), mitigation=SETTINGS
    ).logits[:, -4:]
    assert (difference(other, expected) > 100 * CLOSE) == (decode == "keep")  # keeping the head does matter


def test_keeping_the_head_without_knowing_it_is_refused():
    tokens, image = single(1).values()
    cache = new_cache(MODEL, 1, 32)
    eah = EAH(threshold=THRESHOLD, decode="keep")
    MODEL(tokens, image, cache=cache, mitigation=eah)
    with pytest.raises(ConfigError, match="head of the prefill, but this call does not know it"):
        MODEL(tokens[:, -1:], cache=cache, mitigation=eah)


# --- types, heads, training, leaks ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("dtype", "bits"), [(torch.bfloat16, 8), (torch.float16, 11)])
def test_half_precision_rows_sum_to_one(dtype, bits):
    """Each of up to 27 weights is rounded to `bits` bits: together off by at most 2**-bits of their sum."""
    weights = sharp_llava(dtype=dtype)(**batch(dtype=dtype), maps=[1], mitigation=SETTINGS).maps[1]
    assert weights.dtype == dtype
    assert_close(weights.float().sum(dim=-1), torch.ones(weights.shape[:3]), rtol=0, atol=2.0**-bits)
    assert torch.equal(weights[0], weights[0, :1].expand_as(weights[0]))


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_heads_that_share_keys_share_the_map_too(groups):
    model = sharp_llava(groups=groups)
    before = model(**single(1), maps=[1]).maps[1]
    output = model(**single(1), maps=[1], mitigation=SETTINGS)
    head = effect_of(output).layers[0].chosen[0]
    assert torch.equal(output.maps[1], before[:, [head]].expand_as(before))


def test_gradients_flow_through_the_chosen_map():
    model = sharp_llava().requires_grad_(True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        output = model(**batch(), mitigation=SETTINGS)
        output.logits[0, -1].square().sum().backward()  # the sample with one picture
        effect_of(output).as_dict()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
    head = effect_of(output).layers[0].chosen[0]
    by_head = model.text.layers[1].self_attn.q_proj.weight.grad.unflatten(0, (4, 8)).abs().sum(dim=(1, 2))
    assert (by_head > 0).tolist() == [h == head for h in range(4)]  # the other heads' queries are not looked at
    assert (model.text.layers[DEPTH - 1].self_attn.q_proj.weight.grad != 0).any()


def test_controls_give_every_head_another_map():
    before = MODEL(**single(1), maps=[1]).maps[1]
    counts = reference.sink_counts(before[0].double().numpy(), image_columns(1), THRESHOLD)
    expected = {"densest": reference.densest_head(counts), "second": reference.second_head(counts)}
    for head, number in expected.items():
        output = MODEL(**single(1), maps=[1], mitigation=EAH(threshold=THRESHOLD, head=head))
        assert effect_of(output).layers[0].chosen == (number,)
        assert torch.equal(output.maps[1], before[:, [number]].expand_as(before))
    random = {effect_of(MODEL(**single(1), mitigation=EAH(head="random", seed=s))).layers[0].chosen for s in range(12)}
    assert random == {(0,), (1,), (2,), (3,)}


def test_one_call_leaves_nothing_to_the_next():
    plain = MODEL(**single(1)).logits
    first = MODEL(**single(1), mitigation=SETTINGS).logits
    MODEL(**single(2), mitigation=EAH(threshold=THRESHOLD, head="second"))
    assert torch.equal(MODEL(**single(1)).logits, plain)
    assert torch.equal(MODEL(**single(1), mitigation=SETTINGS).logits, first)
    assert difference(first, plain) > 100 * CLOSE
