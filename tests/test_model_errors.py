"""What the network refuses, and the sentences it says."""

from dataclasses import replace

import pytest
import torch

from minivlm.errors import ConfigError, ImageError, PromptError
from minivlm.inference.generate import new_cache
from minivlm.model import Llava
from support.tiny_model import PATCHES, SIZE, SLOT, WORDS, pixels, prompt, tiny_config, tiny_llava

MODEL = tiny_llava()


def row(pictures: int = 1) -> torch.Tensor:
    return torch.tensor([prompt(pictures)])


@pytest.mark.parametrize(("pictures", "given"), [(1, 0), (0, 1), (1, 2), (2, 1)])
def test_slots_and_patches_that_do_not_match(pictures, given):
    found, patches = pictures * PATCHES, given * PATCHES
    with pytest.raises(PromptError, match=rf"has {found} image slots, but the pictures give {patches} patches"):
        MODEL(row(pictures), pixels(given) if given else None)


@pytest.mark.parametrize("token", [-1, WORDS, 10**6])
def test_tokens_out_of_range(token):
    with pytest.raises(PromptError, match=f"between 0 and {WORDS - 1}.*{token}"):
        MODEL(torch.tensor([[3, token, 4]]))


def test_valid_of_the_wrong_shape():
    with pytest.raises(PromptError, match=r"\(1, 7\), found \(1, 6\)"):
        MODEL(row(0), attention_mask=torch.ones(1, 6, dtype=torch.bool))
    cache = new_cache(MODEL, 1, 20)
    MODEL(row(0), cache=cache)
    with pytest.raises(PromptError, match=r"\(1, 8\), found \(1, 1\)"):
        MODEL(row(0)[:, :1], cache=cache, attention_mask=torch.ones(1, 1, dtype=torch.bool))


@pytest.mark.parametrize("shape", [(1, 3, SIZE, SIZE + 1), (1, 1, SIZE, SIZE), (3, SIZE, SIZE)])
def test_pixels_of_the_wrong_shape(shape):
    with pytest.raises(ImageError, match=rf"\(N, 3, {SIZE}, {SIZE}\), found"):
        MODEL(row(), torch.zeros(shape))


@pytest.mark.parametrize("slot", [WORDS, WORDS + 1000, -200])
def test_the_image_token_may_lie_beyond_the_vocabulary(slot):
    model = tiny_llava(tiny_config(image_token_index=slot))
    tokens = row()
    moved = tokens.masked_fill(tokens == SLOT, slot)
    assert torch.equal(model(moved, pixels(1)).logits, MODEL(tokens, pixels(1)).logits)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"text": {"vocab_size": 0}}, "TextConfig.vocab_size must be a positive number, found 0"),
        ({"text": {"hidden_size": True}}, "hidden_size must be a positive number, found True"),
        ({"text": {"rms_norm_eps": float("inf")}}, "rms_norm_eps"),
        (
            {"text": {"num_key_value_heads": 3}},
            "must be divisible by num_key_value_heads 3, found 4",
        ),
        ({"text": {"head_dim": 7}}, "head_dim must be even for rotary halves, found 7"),
        ({"vision": {"num_attention_heads": 3}}, "hidden_size must be divisible by num_attention_heads 3, found 16"),
        (
            {"vision": {"hidden_act": "relu"}},
            "hidden_act must be one of quick_gelu, gelu, gelu_pytorch_tanh, found 'relu'",
        ),
        ({"vision": {"patch_size": 13}}, "patch_size must be at most image_size 12, found 13"),
        ({"vision_feature_select_strategy": "patch"}, "one of default, full, found 'patch'"),
        ({"vision_feature_layer": 4}, "vision_feature_layer 4 is out of range: the tower has 3 layers, so -4 to 3"),
        ({"vision_feature_layer": (-2, -5)}, "vision_feature_layer -5"),
        ({"vision_feature_layer": ()}, "vision_feature_layer"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_configurations_that_do_not_fit_together(changes, sentence):
    with pytest.raises(ConfigError) as caught:
        tiny_config(**changes)
    assert sentence in str(caught.value)


def test_sizes_follow_from_the_configuration():
    config = tiny_config(vision={"image_size": 14}, text={"sliding_window": 40})  # a margin of 2 pixels is not seen
    assert config.num_image_tokens == PATCHES
    assert config.text_config.context_length == 40
    assert replace(config, vision_feature_select_strategy="full").num_image_tokens == PATCHES + 1
    tied = Llava(replace(config, tie_word_embeddings=True))
    assert tied.lm_head.weight is tied.text.embed_tokens.weight


def test_pictures_are_not_shared_between_rows():
    tokens = torch.cat((row(), row()))
    tokens[0, (tokens[0] == SLOT).nonzero()[0]] = 3
    tokens[1, (tokens[1] != SLOT).nonzero()[0]] = SLOT
    with pytest.raises(PromptError, match=rf"\[{PATCHES - 1}, {PATCHES + 1}\] image slots"):
        MODEL(tokens, pixels(2))


@pytest.mark.parametrize("layers", [(-1,), (99,), (0, 3)])
def test_maps_of_layers_that_do_not_exist(layers):
    with pytest.raises(ConfigError, match="maps names the layer .* the decoder has the layers 0 to"):
        MODEL(row(0), maps=layers)


def test_a_cache_of_other_rows():
    with pytest.raises(PromptError, match="made for 2 rows, found 1"):
        MODEL(row(0), cache=new_cache(MODEL, 2, 20))
