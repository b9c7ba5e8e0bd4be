"""Generation: greedy as transformers does it, chance that repeats, and where it ends.

How a token is drawn from logits is in test_sampling.py.

Token ids are compared, so there is no tolerance; greedy runs are in fp64, where two logits of a random model are never
closer than two ways of rounding.
"""

import warnings

import pytest
import torch

from minivlm.checkpoints import load_checkpoint
from minivlm.errors import GenerationError
from minivlm.inference.generate import Generation, generate, new_cache
from support.tiny_hf import IMAGE_TOKEN, left_padded, prompt_and_pictures, tiny_hf_checkpoint
from support.tiny_model import SLOT, WORDS, padded, pixels, prompt, tiny_config, tiny_llava

MODEL = tiny_llava()
NEW = 64
NO_SLOT = torch.arange(WORDS) != SLOT  # both builders give the image token the same id


def tokens_of(model, tokens, image=None, **how) -> list[list[int]]:
    """The new tokens of each row."""
    how = {"allowed": NO_SLOT} | how
    return [list(row) for row in zip(*generate(model, tokens, image, **how), strict=True)]


# --- greedy; a picture's slot is no word, so neither side may sample it -----------------------------------------------


def by_transformers(reference, tokens, image, attention_mask, new, cache=True) -> list[list[int]]:
    """The new tokens of each row, as the reference generates them."""
    pictures = {} if image is None else {"pixel_values": image}
    lengths = {"max_new_tokens": new, "do_sample": False, "suppress_tokens": [IMAGE_TOKEN], "use_cache": cache}
    reference.generation_config.eos_token_id = None
    reference.generation_config.pad_token_id = 1
    written = reference.generate(input_ids=tokens, attention_mask=attention_mask.long(), **pictures, **lengths)
    return written[:, tokens.shape[1] :].tolist()


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hf")
    reference = tiny_hf_checkpoint(folder, dtype=torch.float64, text={"num_key_value_heads": 2})
    return load_checkpoint(folder, dtype=torch.float64).model, reference


@pytest.mark.parametrize("cache", [True, False])
@pytest.mark.parametrize("pictures", [0, 1, 2])
def test_greedy_equals_transformers(both, pictures, cache):
    model, reference = both
    tokens, image = prompt_and_pictures(pictures, seed=pictures)
    image = None if image is None else image.double()
    expected = by_transformers(reference, tokens, image, torch.ones_like(tokens), NEW, cache)
    found = tokens_of(model, tokens, image, settings=Generation(NEW, cache=cache))
    assert found == expected
    assert len(found[0]) == NEW
    assert len(set(found[0])) > 5  # not one word over and over


@pytest.mark.parametrize("cache", [True, False])
def test_a_ragged_batch_equals_transformers_and_each_row_alone(both, cache):
    model, reference = both
    prompts = [prompt_and_pictures(n, words=3 + 3 * n, seed=n) for n in (1, 0, 2)]
    tokens, attention_mask = left_padded([tokens for tokens, _ in prompts])
    image = torch.cat([image for _, image in prompts if image is not None]).double()
    how = {"settings": Generation(20, cache=cache)}
    found = tokens_of(model, tokens, image, attention_mask=attention_mask, **how)
    assert found == by_transformers(reference, tokens, image, attention_mask, 20)
    for row, (ids, seen) in zip(found, prompts, strict=True):
        assert [row] == tokens_of(model, ids, None if seen is None else seen.double(), **how)


def test_a_given_cache_may_hold_the_prompts_beginning(both):
    model, _ = both
    tokens, image = prompt_and_pictures(1)
    how = {"settings": Generation(12)}
    expected = tokens_of(model, tokens, image.double(), **how)
    cache = new_cache(model, 1, 60)
    model(tokens[:, :-2], image.double(), cache=cache)
    attention_mask = torch.ones_like(tokens, dtype=torch.bool)
    assert tokens_of(model, tokens[:, -2:], attention_mask=attention_mask, cache=cache, **how) == expected
    assert cache.length == tokens.shape[1] + 11  # all but the last token, which nobody has read yet


# --- chance -----------------------------------------------------------------------------------------------------------


def test_a_seed_repeats_and_another_seed_does_not():
    tokens = torch.tensor([prompt(0)])
    a, b, c = (tokens_of(MODEL, tokens, settings=Generation(30, 1.0, seed=seed)) for seed in (5, 5, 6))
    assert a == b != c
    free = [tokens_of(MODEL, tokens, settings=Generation(30, 1.0)) for _ in range(2)]
    assert free[0] != free[1]


@pytest.mark.parametrize("cut", [{}, {"top_k": 7}, {"top_p": 0.8}], ids=str)
def test_a_row_is_drawn_as_if_it_were_alone(cut):
    model = tiny_llava(dtype=torch.float64)
    rows = [prompt(1, seed=1), prompt(0, words=3, seed=2), prompt(1, words=8, seed=3)]
    tokens, attention_mask = padded(rows)
    image = pixels(2, dtype=torch.float64)
    settings = Generation(20, temperature=0.9, seed=3, **cut)
    found = tokens_of(model, tokens, image, attention_mask=attention_mask, settings=settings)
    for row, ids, seen in zip(found, rows, (image[:1], None, image[1:]), strict=True):
        assert [row] == tokens_of(model, torch.tensor([ids]), seen, settings=settings)


# --- ends -------------------------------------------------------------------------------------------------------------


def test_each_row_ends_with_its_own_stop():
    rows = torch.tensor([prompt(0, seed=1), prompt(0, seed=2)])
    settings = Generation(30, temperature=2.0, seed=0)  # hot, so that words are not repeated at once
    free = tokens_of(MODEL, rows, settings=settings)
    early = next(i for i in range(2, 30) if free[0][i] not in (*free[0][:i], *free[1]))
    late = next(i for i in range(early + 2, 30) if free[1][i] not in (*free[1][:i], *free[0]))
    stops = (free[0][early], free[1][late])
    found = tokens_of(MODEL, rows, settings=settings, stops=stops)
    assert found[1] == free[1][: late + 1]
    assert found[0] == free[0][: early + 1] + [stops[0]] * (late - early)


def test_at_most_max_new_tokens():
    tokens = torch.tensor([prompt(0)])
    assert [len(tokens_of(MODEL, tokens, settings=Generation(n))[0]) for n in (1, 2, 9)] == [1, 2, 9]


@pytest.mark.parametrize("cache", [True, False])
def test_the_context_ends_an_answer_with_a_warning(cache):
    model = tiny_llava(tiny_config(text={"max_position_embeddings": 12}))
    tokens = torch.tensor([prompt(0)])
    with pytest.warns(UserWarning, match="cut after 5 tokens: the model's context is full"):
        found = tokens_of(model, tokens, settings=Generation(9, cache=cache))
    assert found == tokens_of(MODEL, tokens, settings=Generation(5))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(tokens_of(model, tokens, settings=Generation(5, cache=cache))[0]) == 5


def test_a_prompt_as_long_as_the_context_is_refused():
    model = tiny_llava(tiny_config(text={"max_position_embeddings": 7}))
    with pytest.raises(GenerationError, match="prompt has 7 tokens and the model's context 7"):
        list(generate(model, torch.tensor([prompt(0)])))


@pytest.mark.parametrize("temperature", [0, 1])
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_numbers_that_cannot_be_chosen_from(bad, temperature):
    model = tiny_llava()
    model.lm_head.weight[3] = bad
    with pytest.raises(GenerationError, match="NaN or infinite"):
        next(generate(model, torch.tensor([prompt(0)]), settings=Generation(9, temperature=temperature)))


PLACES = {
    "vision.embeddings.patch_embedding.weight": "the vision tower's embedding",
    "vision.encoder.layers.1.mlp.fc2.bias": "layer 1 of the vision tower",
    "projector.linear_2.weight": "the picture's features, behind the projector",
    "text.layers.2.mlp.down_proj.weight": "layer 2 of the decoder",
    "lm_head.weight": "the logits alone",
}


@pytest.mark.parametrize("name", PLACES)
def test_the_first_place_without_numbers_is_named(name):
    model = tiny_llava()
    model.get_parameter(name).view(-1)[1] = float("nan")
    with pytest.raises(GenerationError, match=f"first such numbers are in {PLACES[name]}.* in float32"):
        next(generate(model, torch.tensor([prompt(1)]), pixels(1)))


def test_pixels_that_are_no_numbers_are_named():
    with pytest.raises(GenerationError, match="first such numbers are in the pixels"):
        next(generate(tiny_llava(), torch.tensor([prompt(1)]), pixels(1) / 0))


def test_numbers_too_large_for_16_bits_are_noticed():
    """In fp32 the same weights give an answer."""
    model = tiny_llava()
    model.text.layers[1].mlp.down_proj.weight *= 1e6
    assert len(tokens_of(model, torch.tensor([prompt(1)]), pixels(1), settings=Generation(2))[0]) == 2
    with pytest.raises(GenerationError, match=r"in layer 1 of the decoder, in float16\. .* try another dtype"):
        next(generate(model.half(), torch.tensor([prompt(1)]), pixels(1).half()))


def test_numbers_that_end_in_the_answer_are_not_sampled():
    """The prompt is finite, the second token's row is not."""
    model = tiny_llava()
    first = tokens_of(model, torch.tensor([prompt(0)]), settings=Generation(1))[0][0]
    model.text.embed_tokens.weight[first] = float("inf")
    assert first not in prompt(0)
    with pytest.raises(GenerationError, match="Those of the prompt, without a mitigation, are not"):
        tokens_of(model, torch.tensor([prompt(0)]), settings=Generation(3))


def test_nothing_of_a_call_stays_in_the_model():
    before = {name: value.clone() for name, value in MODEL.state_dict().items()}
    tokens_of(MODEL, torch.tensor([prompt(1)]), pixels(1), settings=Generation(5, 1.0, seed=0))
    assert all(torch.equal(before[name], value) for name, value in MODEL.state_dict().items())
    assert torch.is_grad_enabled()
    assert not torch.is_inference_mode_enabled()


def test_padding_on_the_right_is_refused():
    attention_mask = torch.tensor([[True, True, True, True, True, True, False]])
    with pytest.raises(GenerationError, match="padded on the left"):
        next(generate(MODEL, torch.tensor([prompt(0)]), attention_mask=attention_mask))
