"""Sinks: three definitions by hand, through the model, and how far they agree.

Tolerances: hand-made numbers are exact in binary or equal to 1e-7 (one rounding in fp32). Scores of a padded or cached
call come from the same weights up to the rounding of another kernel: 1e-6, where the scores themselves are up to 0.5.
"""

import pytest
import torch
from torch.testing import assert_close

from minivlm.inference.generate import new_cache
from minivlm.lens.sinks import agreement, dense_heads, massive_dimensions, massive_tokens, steady_columns
from minivlm.model import EAH
from minivlm.model.decoder import causal_mask
from minivlm.model.sinks import sink_density, sinks_per_head, vision_sink_scores, vision_sinks
from support import reference_methods as reference
from support.sharp_model import LAYERS, PROMPTS, batch, image_columns, sharp_llava, single

CLOSE = {"rtol": 0, "atol": 1e-6}
MODEL = sharp_llava()
WEIGHTS = torch.tensor(  # of one head; columns 1 and 2 are patches
    [
        [1.0, 0.0, 0.0, 0.0],
        [0.5, 0.5, 0.0, 0.0],
        [0.25, 0.5, 0.25, 0.0],
        [0.125, 0.25, 0.125, 0.5],
    ]
)[None, None]
SCORES = [(0.5 + 0.25 + 0.125) / 3, (0.5 + 0.25) / 2, 0.125, 0.0]


def visible(length: int, rows: int | None = None) -> torch.Tensor:
    return causal_mask(torch.ones(1, length, dtype=torch.bool), rows or length)


# --- vision sinks -----------------------------------------------------------------------------------------------------


def test_the_score_is_the_mean_attention_from_later_rows():
    assert_close(vision_sink_scores(WEIGHTS, visible(4)), torch.tensor(SCORES)[None, None])


def test_only_the_rows_at_hand_count():
    found = vision_sink_scores(WEIGHTS[:, :, 2:], visible(4, rows=2))
    assert_close(found, torch.tensor([(0.25 + 0.125) / 2, (0.5 + 0.25) / 2, 0.125, 0.0])[None, None])
    found = vision_sink_scores(WEIGHTS[:, :, 3:], visible(4, rows=1))
    assert_close(found, torch.tensor([0.125, 0.25, 0.125, 0.0])[None, None])


def test_a_row_that_may_not_see_a_column_is_not_in_its_mean():
    weights = torch.eye(5)
    weights[3:, 2:] = torch.tensor([[0.5, 0.5, 0.0], [0.5, 0.25, 0.25]])
    attention_mask = torch.tensor([[False, False, True, True, True]])
    assert_close(
        vision_sink_scores(weights[None, None], causal_mask(attention_mask, 5)),
        torch.tensor([0.0, 0.0, 0.5, 0.25, 0.0])[None, None],
    )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_scores_are_summed_in_fp32(dtype):
    """1,000 rows of 2**-9 each: in bf16 the running sum would stop growing at 1, half of what it is."""
    weights = torch.full((1, 1, 1001, 1001), 2.0**-9, dtype=dtype).tril()
    found = vision_sink_scores(weights, visible(1001))
    assert found.dtype == torch.float32
    assert_close(found[0, 0, 0], torch.tensor(2.0**-9))


def test_sinks_are_patches_above_the_threshold():
    scores = torch.tensor([[[0.9, 0.3, 0.25, 0.1], [0.9, 0.25, 0.2, 0.9]], [[0.9, 0.9, 0.9, 0.9]] * 2])
    image = torch.tensor([[False, True, True, False], [False, False, False, False]])
    sinks = vision_sinks(scores, image, 0.25)
    assert sinks.tolist() == [[[False, True, False, False], [False] * 4], [[False] * 4] * 2]
    assert sinks_per_head(sinks).tolist() == [[1, 0], [0, 0]]
    density = sink_density(sinks, image)
    assert density.tolist() == [[0.5, 0.0], [0.0, 0.0]]  # half of the two patches; no picture, no density
    assert dense_heads(density).tolist() == [[True, False], [False, False]]
    assert dense_heads(density, share=0.5).tolist() == [[True, False], [False, False]]
    assert dense_heads(density, share=0.51).tolist() == [[False, False], [False, False]]


@pytest.mark.parametrize("pictures", [1, 2])
def test_the_models_scores_equal_the_reference(pictures):
    output = MODEL(**single(pictures), sinks=LAYERS, maps=LAYERS)
    columns = image_columns(pictures)
    for layer in LAYERS:
        expected = reference.sink_scores(output.maps[layer][0].double().numpy(), columns)
        assert_close(output.sink_scores[layer][0][:, columns].double(), torch.tensor(expected).double(), **CLOSE)


def test_padding_on_either_side_changes_no_score():
    both = batch(extra=3)
    on_the_left = MODEL(**both, sinks=LAYERS).sink_scores
    longest = both["tokens"].shape[1]
    for sample, pictures in enumerate((1, 0, 2)):
        alone, length = single(pictures), len(PROMPTS[pictures])
        right = torch.cat((alone["tokens"], torch.ones(1, 6, dtype=torch.long)), dim=1)
        attention_mask = torch.arange(length + 6)[None] < length
        expected = MODEL(**alone, sinks=LAYERS).sink_scores
        on_the_right = MODEL(right, alone["pixels"], attention_mask=attention_mask, sinks=LAYERS).sink_scores
        for layer in LAYERS:
            assert_close(on_the_left[layer][sample][:, longest - length :], expected[layer][0], **CLOSE)
            assert_close(on_the_right[layer][0][:, :length], expected[layer][0], **CLOSE)
            assert not on_the_right[layer][0][:, length:].any()


def test_the_scores_are_those_before_any_step():
    plain = MODEL(**single(1), sinks=[1]).sink_scores[1]
    assert torch.equal(MODEL(**single(1), sinks=[1], mitigation=EAH(threshold=0.01)).sink_scores[1], plain)


def test_scores_of_a_call_with_a_cache_are_of_its_own_rows():
    tokens, image = single(1).values()
    cache = new_cache(MODEL, 1, 32)
    MODEL(tokens[:, :13], image, cache=cache)
    output = MODEL(tokens[:, 13:], cache=cache, sinks=[2], maps=[2])
    weights, past = output.maps[2][0], 13
    for column in range(tokens.shape[1]):
        later = [row for row in range(past, tokens.shape[1]) if row > column]
        expected = sum(weights[:, row - past, column] for row in later) / max(1, len(later))
        assert_close(output.sink_scores[2][0, :, column], torch.as_tensor(expected).expand(4).float(), **CLOSE)


# --- massive tokens and steady columns --------------------------------------------------------------------------------


def hidden() -> torch.Tensor:
    """Two samples of three tokens in four dimensions; the first token of each is massive in dimension 2."""
    states = torch.ones(2, 3, 4)
    states[:, 0, 2] = 10.0
    return states


def test_massive_dimensions_hold_much_of_a_tokens_length():
    attention_mask = torch.ones(2, 3, dtype=torch.bool)
    assert massive_dimensions(hidden(), attention_mask, share=0.5).tolist() == [[False, False, True, False]] * 2
    assert massive_tokens(hidden(), attention_mask, share=0.5).tolist() == [[True, False, False]] * 2
    assert massive_dimensions(hidden(), attention_mask, share=0.25).all()  # each holds a quarter of the even tokens
    assert not massive_tokens(hidden(), attention_mask, share=0.99).any()  # the largest holds 100 of 103


def test_padding_is_never_massive_and_samples_do_not_meet():
    attention_mask = torch.tensor([[False, True, True], [True, True, True]])
    assert massive_dimensions(hidden(), attention_mask, share=0.5).tolist() == [
        [False] * 4,
        [False, False, True, False],
    ]
    assert massive_tokens(hidden(), attention_mask, share=0.5).tolist() == [[False] * 3, [True, False, False]]


def test_the_share_is_the_published_threshold_in_other_words():
    """20 root mean squares at a width of 4096 are 400 / 4096 = 0.098 of the squared length."""
    width, attention_mask = 4096, torch.ones(1, 1, dtype=torch.bool)
    for times, massive in ((19.5, False), (20.5, True)):
        state = torch.ones(1, 1, width)
        state[..., 7] = times * (1 - times**2 / width) ** -0.5 * (1 - 1 / width) ** 0.5
        assert_close(state[0, 0, 7] / state.pow(2).mean().sqrt(), torch.tensor(times), rtol=1e-4, atol=0)
        assert massive_tokens(state, attention_mask, share=20**2 / width).item() is massive


def test_tokens_of_zeros_are_not_massive():
    assert not massive_tokens(torch.zeros(1, 2, 4), torch.ones(1, 2, dtype=torch.bool)).any()


def test_steady_columns_are_on_top_in_every_prompt():
    maps = torch.tensor([[9.0, 8, 1, 1], [9, 1, 8, 1], [9, 8, 1, 1]])
    assert steady_columns(maps, share=0.5).tolist() == [True, False, False, False]
    assert steady_columns(maps, share=0.5, agree=0.6).tolist() == [True, True, False, False]
    assert steady_columns(maps, share=0.01).tolist() == [True, False, False, False]  # one at least


# --- agreement --------------------------------------------------------------------------------------------------------


def test_agreement_counts_and_compares_with_chance():
    first = torch.tensor([True, True, True, False, False, False, True])
    second = torch.tensor([True, False, False, True, False, False, True])
    among = torch.tensor([True] * 6 + [False])
    found = agreement(first, second, among)
    assert (found.both, found.first_only, found.second_only, found.neither) == (1, 2, 1, 2)
    assert found.iou == 1 / 4
    assert found.chance == pytest.approx(1 / (5 - 1))  # 3 and 2 of 6 share 1 by chance; here exactly as by chance
    assert agreement(first, first, among).iou == 1
    assert agreement(first, ~first, among).iou == 0


def test_agreement_about_nothing_is_zero():
    nothing = torch.zeros(3, dtype=torch.bool)
    found = agreement(nothing, nothing, ~nothing)
    assert (found.iou, found.chance, found.neither) == (0, 0, 3)
