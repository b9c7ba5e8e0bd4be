"""No silent difference from transformers: files are changed field by field; a change is refused, said or followed.

For each change the same folder is read by both. Where both read it without a word, logits, pixels and ids are the same:
logits to 1e-4 of the largest in fp32, pixels to 1e-5, ids exactly.
"""

import copy
import json
import warnings
from pathlib import Path

import pytest
import torch

import minivlm
from minivlm import MinivlmError
from minivlm.checkpoints import load_checkpoint
from support.tiny_hf import prompt_and_pictures, tiny_hf_model
from support.tiny_model import SIZE, picture, tiny_folder

pytestmark = pytest.mark.slow
REFUSED, SAID = "refused", "said"


def outcome(read):
    """What `read` returns if it says nothing; otherwise REFUSED or SAID."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        try:
            value, notes = read()
        except MinivlmError:
            return REFUSED
    return SAID if told or notes else value


# --- config.json ----------------------------------------------------------------------------------------------------

CONFIG = {
    "": {
        "tie_word_embeddings": [True],
        "vision_feature_layer": [-1, 1, [-2, -1]],
        "vision_feature_select_strategy": ["full", "default"],
        "multimodal_projector_bias": [False],
        "projector_hidden_act": ["relu", "gelu_pytorch_tanh"],
        "image_token_index": [61],
        "image_seq_length": [3],
        "num_labels": [3],
        "hidden_size": [8],
    },
    "text_config": {
        "partial_rotary_factor": [0.5, 1],
        "mlp_bias": [True, False],
        "attention_bias": [True],
        "sliding_window": [4, None],
        "use_sliding_window": [True],
        "max_window_layers": [0],
        "layer_types": [["sliding_attention"] * 3, ["full_attention"] * 3],
        "rope_scaling": [{"type": "linear", "factor": 2.0}, {"rope_type": "default"}],
        "rope_parameters": [{"rope_type": "default", "rope_theta": 5.0}, {"rope_type": "yarn", "factor": 2.0}],
        "rope_theta": [5.0],
        "rms_norm_eps": [0.5, 0.0, -1],
        "hidden_act": ["gelu", "relu"],
        "num_key_value_heads": [2],
        "head_dim": [16, 8],
        "max_position_embeddings": [64],
        "original_max_position_embeddings": [16],
        "per_layer_config": [{"0": {"rms_norm_eps": 0.5}}],
        "attention_dropout": [0.5],
        "tie_word_embeddings": [True],
        "tie_last_hidden_states": [True],
        "pretraining_tp": [2],
        "logits_scaling": [3.0],
        "torch_dtype": ["float16"],
    },
    "vision_config": {
        "hidden_act": ["gelu", "gelu_pytorch_tanh", "relu"],
        "layer_norm_eps": [0.5, -1],
        "num_attention_heads": [2],
        "num_hidden_layers": [2],
        "image_size": [16],
        "patch_size": [6],
        "num_channels": [1],
        "attention_dropout": [0.5],
        "vision_use_head": [True],
        "tie_last_hidden_states": [True],
        "per_layer_config": [{"0": {"layer_norm_eps": 0.5}}],
        "projection_dim": [7],
    },
}


@pytest.mark.parametrize(("family", "tower"), [("llama", "clip"), ("mistral", "clip"), ("qwen2", "siglip")])
def test_no_field_of_config_json_changes_the_reference_alone(tmp_path, family, tower):
    model = tiny_hf_model(family, tower=tower)
    model.save_pretrained(tmp_path)
    usual, kinds = json.loads((tmp_path / "config.json").read_text()), []
    tokens, pixels = prompt_and_pictures()

    def read():
        loaded = load_checkpoint(tmp_path)
        with torch.no_grad():
            return loaded.model(tokens, pixels).logits, loaded.report.notes

    for section, name, value in [
        (s, n, v) for s, names in CONFIG.items() for n, values in names.items() for v in values
    ]:
        config = copy.deepcopy(usual)
        (config[section] if section else config)[name] = value
        (tmp_path / "config.json").write_text(json.dumps(config))
        ours = outcome(read)
        if isinstance(ours, str) or config["text_config"].get("sliding_window") == 4:  # which `load` holds prompts to
            kinds.append(ours if isinstance(ours, str) else SAID)
            continue
        try:
            with torch.no_grad():
                theirs = type(model).from_pretrained(tmp_path)(input_ids=tokens, pixel_values=pixels).logits
        except Exception:  # what the reference cannot read has no other answer
            continue
        kinds.append("same")
        assert (ours - theirs).abs().max() <= 1e-4 * theirs.abs().max(), (section, name, value)
    assert kinds.count("same") > 15
    assert kinds.count(REFUSED) > 10


# --- preprocessor_config.json ---------------------------------------------------------------------------------------

SQUARE, SHORT = {"height": SIZE, "width": SIZE}, {"shortest_edge": SIZE}
PROCESSORS = {
    "CLIPImageProcessor": {"size": SHORT, "crop_size": SQUARE, "do_center_crop": True},
    "LlavaImageProcessor": {"size": SHORT, "crop_size": SQUARE},
    "SiglipImageProcessor": {"size": SQUARE},
}
PREPROCESSOR = {
    **{switch: [True, False, None, 0] for switch in ("do_resize", "do_rescale", "do_normalize", "do_center_crop")},
    "size": [SHORT, SQUARE, SIZE, {"height": SIZE, "width": SIZE + 4}, {"longest_edge": SIZE}, [SIZE, SIZE], None],
    "crop_size": [SQUARE, SIZE, SHORT, {"height": SIZE, "width": 8}, [SIZE, SIZE]],
    "rescale_factor": [1 / 255, 1 / 127.5, 1],
    "image_mean": [[0.1, 0.2, 0.3], 0.5, [0.5]],
    "image_std": [[0.1, 0.2, 0.3], 0.5],
    "resample": [0, 1, 2, 3, "bicubic"],
    "do_convert_rgb": [False, None],
    "do_pad": [True, False],
    "pad_size": [SQUARE],
    "default_to_square": [True, False],
    "data_format": ["channels_last", "channels_first"],
    "input_data_format": ["channels_last"],
    "use_square_size": [True],
    "do_flip_channel_order": [True],
    "disable_grouping": [True],
    "image_seq_length": [4],
    "size_divisor": [8],
}


@pytest.mark.parametrize("kind", PROCESSORS)
def test_no_field_of_the_preprocessor_changes_the_reference_alone(tmp_path, kind):
    import transformers

    folder, sizes, kinds = tiny_folder(tmp_path), ((20, 14), (9, 31), (12, 12)), []

    def read():
        vlm = minivlm.load(folder, device="cpu")
        return torch.stack([vlm.pixels(picture(0, *size)) for size in sizes]), ()

    for name, value in [(name, value) for name, values in PREPROCESSOR.items() for value in values]:
        settings = {**PROCESSORS[kind], "image_processor_type": kind, name: value}
        (folder / "preprocessor_config.json").write_text(json.dumps(settings))
        ours = outcome(read)
        if isinstance(ours, str):
            kinds.append(ours)
            continue
        try:
            theirs = getattr(transformers, f"{kind}Pil").from_pretrained(folder)
            pixels = [theirs(picture(0, *size), return_tensors="pt")["pixel_values"][0] for size in sizes]
        except Exception:  # as above
            continue
        kinds.append("same")
        assert all(one.shape == ours[0].shape for one in pixels), (name, value)
        assert (ours - torch.stack(pixels)).abs().max() < 1e-5, (name, value)
    assert kinds.count("same") > 15
    assert kinds.count(REFUSED) > 10


# --- the tokenizer's files ------------------------------------------------------------------------------------------

PLAIN = ("normalized", "single_word", "special")
TOKENIZER = {
    "add_bos_token": [True, False, None],
    "add_eos_token": [True],
    "add_prefix_space": [True, False],
    "legacy": [True, False],
    "bos_token": [None, "</s>", "<new>"],
    "eos_token": ["<s>"],
    "clean_up_tokenization_spaces": [True],
    "do_lower_case": [True],
    "split_special_tokens": [True],
    "tokenizer_class": ["LlamaTokenizer", "LlamaTokenizerFast", "Qwen2Tokenizer", "GPT2Tokenizer", "CLIPTokenizer"],
    "unk_token": [None],
    "additional_special_tokens": [["dog"]],
    "extra_special_tokens": [["dog"], {"a": "dog"}],
    "added_tokens_decoder": [
        {"5": {"content": "dog", "special": False}},
        {"62": {"content": "<act>", **dict.fromkeys(("lstrip", "rstrip"), True), **dict.fromkeys(PLAIN, False)}},
        {"62": {"content": "<act>", **dict.fromkeys(("lstrip", "rstrip", *PLAIN), False)}},
    ],
    "model_max_length": [4],
    "padding_side": ["right"],
    "truncation_side": ["left"],
    "fix_mistral_regex": [True],
    "normalizer": [{"lowercase": True}],
}
CUT = {"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0}
DEFINITION = {"post_processor": [None], "truncation": [CUT], "normalizer": [None, {"type": "Lowercase"}]}
TEXTS = ("Is there a dog?", "two  spaces", "é😀 <act> x")


def test_no_field_of_the_tokenizers_files_changes_the_reference_alone(tmp_path):
    from transformers import AutoTokenizer

    folder, kinds = tiny_folder(tmp_path), []
    files = {"tokenizer_config.json": TOKENIZER, "tokenizer.json": DEFINITION}

    def read():
        vlm = minivlm.load(folder, device="cpu")
        return [list(vlm.prompt(text).tokens) for text in TEXTS], ()

    for file, changes in files.items():
        usual = (folder / file).read_text(encoding="utf-8")
        for name, value in [(name, value) for name, values in changes.items() for value in values]:
            (folder / file).write_text(json.dumps({**json.loads(usual), name: value}), encoding="utf-8")
            ours = outcome(read)
            kinds.append("same" if isinstance(ours, list) else ours)
            if isinstance(ours, list):
                theirs = AutoTokenizer.from_pretrained(folder)
                assert ours == [theirs(f"USER: {text} ASSISTANT:")["input_ids"] for text in TEXTS], (name, value)
        Path(folder / file).write_text(usual, encoding="utf-8")
    assert kinds.count("same") > 15
    assert kinds.count(SAID) > 5
