"""Our network against transformers': tiny random models of the whole family, every stage, every layout.

Tolerances: in fp64 both compute the same sums in another order, 1e-10 of the largest value of a stage, and 1e-10 in all
for the logits; in fp32, with 29 bits fewer, 1e-5. Our fused lane is held against transformers' "sdpa", our visible lane
against its "eager", under padding in fp32 alone: there transformers' eager mask turns into NaN in fp64.
"""

import pytest
import torch

from minivlm.checkpoints import load_checkpoint
from minivlm.checkpoints.maker import known_config
from minivlm.checkpoints.parity import compare, parity_ladder
from minivlm.model.projector import select_features
from support.tiny_hf import left_padded, prompt_and_pictures, tiny_hf_checkpoint

TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5}
REFERENCE = {"fused": "sdpa", "visible": {"text_config": "eager", "vision_config": "sdpa"}}
PADDED = [("fused", torch.float64), ("fused", torch.float32), ("visible", torch.float32)]
LANES = pytest.mark.parametrize(("lane", "dtype"), PADDED, ids=["fused-fp64", "fused-fp32", "visible-fp32"])

LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 1000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}

DECODERS = {  # what the text model computes otherwise
    "llama": {},
    "grouped heads": {"text": {"num_key_value_heads": 1}},
    "mistral": {"family": "mistral", "text": {"num_key_value_heads": 2, "sliding_window": 64}},
    "mistral without a window": {"family": "mistral", "text": {"num_key_value_heads": 2, "sliding_window": None}},
    "qwen2 with its biases": {"family": "qwen2", "text": {"num_key_value_heads": 2}},
    "llama with biases": {"text": {"attention_bias": True}},
    "tied head": {"tie_word_embeddings": True},
    "head tied by the text config": {"family": "qwen2", "text": {"tie_word_embeddings": True}},
    "free head width": {"text": {"head_dim": 16}},
    "other rotary base": {"text": {"rope_parameters": {"rope_type": "default", "rope_theta": 500000.0}}},
    "rotary positions of llama 3.1": {"text": {"rope_parameters": LLAMA3}},
    "a window that llama does not have": {"text": {"sliding_window": 8}},
}
EYES = {  # what tower and projector compute otherwise
    "list of feature layers": {"vision_feature_layer": [-2, -1, 0]},
    "last feature layer": {"vision_feature_layer": -1},
    "feature layer from the front": {"vision_feature_layer": 1},
    "class token too": {"vision_feature_select_strategy": "full"},
    "margin narrower than a patch": {"vision": {"image_size": 14}},
    "gelu tower": {"vision": {"hidden_act": "gelu"}},
    "projector without bias": {"multimodal_projector_bias": False},
    "siglip tower": {"tower": "siglip", "vision": {"image_size": 14}},
    "llava-interleave": {
        "tower": "siglip",
        "family": "qwen2",
        "vision_feature_layer": -1,
        "text": {"tie_word_embeddings": True},
    },
}
IN_FP32 = ("llama", "grouped heads", "gelu tower", "siglip tower")


def load_both(tmp_path, dtype, lane="fused", **overrides):
    reference = tiny_hf_checkpoint(tmp_path / "model", dtype=dtype, attention=REFERENCE[lane], **overrides)
    return load_checkpoint(tmp_path / "model", dtype=dtype), reference


def shape_of(config) -> dict:
    return {"patches": config.num_image_tokens, "size": config.vision_config.image_size}


def layers_of(config, lane) -> tuple[int, ...]:
    """The layers that our model computes in its visible lane."""
    return tuple(range(config.text_config.num_hidden_layers)) if lane == "visible" else ()


def require_parity(ladder, dtype):
    assert ladder.first_difference(TOLERANCE[dtype]) is None, f"\n{ladder}"
    if dtype == torch.float64:
        assert ladder["logits"].largest <= 1e-10


@pytest.mark.parametrize(
    ("kind", "lane", "dtype"),
    [
        *[(kind, lane, torch.float64) for kind in DECODERS for lane in REFERENCE],
        *[(kind, "fused", torch.float64) for kind in EYES],
        *[
            (kind, lane, torch.float32)
            for kind in ("llama", "grouped heads", "gelu tower", "siglip tower")
            for lane in REFERENCE
        ],
    ],
    ids=str,
)
def test_every_stage_equals_transformers(tmp_path, kind, dtype, lane):
    """Every kind in fp64, where a fault has no rounding to hide in; every decoder in both lanes.

    Tower and projector have one lane, so their kinds run in one. What fp32 may round otherwise, norms and softmax in
    each lane and the tower, is the same code for all kinds: four of them show it, and so do the next two tests.
    """
    loaded, reference = load_both(tmp_path, dtype, lane, **(DECODERS | EYES)[kind])
    tokens, pixels = prompt_and_pictures(**shape_of(loaded.config))
    ladder = parity_ladder(loaded.model, reference, tokens, pixels.to(dtype), maps=layers_of(loaded.config, lane))
    require_parity(ladder, dtype)
    assert len(ladder.rungs) == 4 + 1 + 4 + 1  # tower, projector, decoder, logits


@LANES
@pytest.mark.parametrize("pictures", [0, 1, 2])
def test_none_one_and_two_pictures(tmp_path, pictures, dtype, lane):
    loaded, reference = load_both(tmp_path, dtype, lane)
    tokens, pixels = prompt_and_pictures(pictures)
    pixels = None if pixels is None else pixels.to(dtype)
    ladder = parity_ladder(loaded.model, reference, tokens, pixels, maps=layers_of(loaded.config, lane))
    require_parity(ladder, dtype)


@LANES
def test_ragged_batches_with_padding_on_the_left(tmp_path, dtype, lane):
    loaded, reference = load_both(tmp_path, dtype, lane, text={"num_key_value_heads": 2})
    prompts = [prompt_and_pictures(n, words=5 + 2 * n, seed=n) for n in (1, 0, 2)]
    tokens, attention_mask = left_padded([tokens for tokens, _ in prompts])
    pixels = torch.cat([pixels for _, pixels in prompts if pixels is not None]).to(dtype)
    ladder = parity_ladder(loaded.model, reference, tokens, pixels, attention_mask, maps=layers_of(loaded.config, lane))
    require_parity(ladder, dtype)


def test_attention_maps_equal_those_of_transformers(tmp_path):
    loaded, reference = load_both(tmp_path, torch.float32, "visible", text={"num_key_value_heads": 2})
    tokens, pixels = prompt_and_pictures()
    ours = loaded.model(tokens, pixels, maps=range(3)).maps
    theirs = reference(input_ids=tokens, pixel_values=pixels, output_attentions=True).attentions
    assert len(theirs) == len(ours) == 3
    for layer, weights in enumerate(theirs):
        assert compare(str(layer), ours[layer], weights.detach()).largest < 1e-6  # probabilities in fp32


def test_the_ladder_names_the_stage_that_was_changed(tmp_path):
    loaded, reference = load_both(tmp_path, torch.float64)
    reference.model.language_model.layers[1].mlp.down_proj.weight.data[0, 0] += 0.1
    tokens, pixels = prompt_and_pictures()
    ladder = parity_ladder(loaded.model, reference, tokens, pixels.double())
    assert ladder.first_difference(1e-10).stage == "text 1"
    assert "text 1" in str(ladder)
    assert ladder["text 0"].largest < 1e-10 < ladder["logits"].largest


def test_the_ladder_names_a_projector_that_was_changed(tmp_path):
    loaded, reference = load_both(tmp_path, torch.float64, vision_feature_layer=[-2, 0])
    reference.model.multi_modal_projector.linear_1.weight.data[0, 0] += 0.1
    tokens, pixels = prompt_and_pictures()
    ladder = parity_ladder(loaded.model, reference, tokens, pixels.double())
    assert ladder.first_difference(1e-10).stage == "projector"
    assert ladder["vision 3"].largest < 1e-10 < ladder["text embedding"].largest


def test_the_tower_equals_open_clip(tmp_path):
    open_clip = pytest.importorskip("open_clip")
    from open_clip.transformer import VisionTransformer

    from minivlm.checkpoints.openclip import from_open_clip, to_open_clip

    loaded, _ = load_both(tmp_path, torch.float64)
    vision = loaded.config.vision_config
    tower = VisionTransformer(
        image_size=vision.image_size,
        patch_size=vision.patch_size,
        width=vision.hidden_size,
        layers=vision.num_hidden_layers,
        heads=vision.num_attention_heads,
        mlp_ratio=vision.intermediate_size / vision.hidden_size,
        output_dim=8,
        act_layer=open_clip.transformer.QuickGELU,
    ).double()
    weights = {name: p for name, p in loaded.model.state_dict().items() if name.startswith("vision.")}
    lacking = tower.load_state_dict(to_open_clip(weights), strict=False)
    assert (lacking.missing_keys, lacking.unexpected_keys) == (["proj"], [])
    back = from_open_clip(tower.state_dict())
    assert back.keys() == weights.keys()
    assert all(torch.equal(back[name], weights[name]) for name in weights)

    pixels = prompt_and_pictures(2)[1].double()
    ours = loaded.model.vision(pixels)
    theirs = tower.requires_grad_(False).forward_intermediates(pixels, output_fmt="NLC", output_extra_tokens=True)
    patches, first = theirs["image_intermediates"], theirs["image_intermediates_prefix"]
    for state, token, rest in zip(ours[1:], first, patches, strict=True):
        assert compare("layer", state, torch.cat((token, rest), dim=1)).relative < 1e-12


def test_one_feature_layer_is_not_copied():
    """A copy lies in memory row by row; SigLIP's states do not, and in bf16 another layout costs the last bit."""
    config = known_config("llava-interleave-qwen-0.5b")
    states = tuple(torch.randn(1, 1152, 729).transpose(1, 2) for _ in range(27))
    assert select_features(states, config).stride() == states[-1].stride()
