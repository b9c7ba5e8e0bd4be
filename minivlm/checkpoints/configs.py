"""From a checkpoint's `config.json` to a LlavaConfig, with what the file leaves out filled in from its family.

Two styles are read: that of the hub (`text_config` and `vision_config`) and that of the original LLaVA (the fields of
the decoder and `mm_*` fields at the top; nothing but the shapes of its tensors describes its vision tower). Only the
keys named here are read, nothing in the file is run, and what is not implemented is refused, never ignored.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minivlm.checkpoints.families import CLIP, LLAVA_TOWER, TEXT_DEFAULTS
from minivlm.checkpoints.fields import Fields
from minivlm.checkpoints.towers import Tower, read_tower_name, read_vision_config, tower_config
from minivlm.errors import ConfigError
from minivlm.files import read_json_file
from minivlm.model.config import LlavaConfig, RopeScaling, TextConfig

LLAVA_IMAGE_TOKEN = 32000

# The original LLaVA's words: its model types, and what it feeds to the projector.
ORIGINAL_FAMILIES = {"llava": "llama", "llava_llama": "llama", "llava_mistral": "mistral"}
SELECT = {"patch": "default", "cls_patch": "full"}

# Models that people try, and why they are none of these.
TILES = "; {}, which cuts pictures into tiles, is not supported: take llava-interleave-qwen-0.5b or llava-1.5-7b"
BUILT_OTHERWISE = "; {} is built otherwise: for a small model that is read here, take llava-interleave-qwen-0.5b"
OTHER_MODELS = {
    "llava_next": TILES.format("LLaVA 1.6"),
    "llava_onevision": TILES.format("LLaVA-OneVision"),
    **dict.fromkeys(("qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen"), BUILT_OTHERWISE.format("Qwen-VL")),
    **dict.fromkeys(("idefics3", "smolvlm"), BUILT_OTHERWISE.format("SmolVLM")),
    **dict.fromkeys(("moondream1", "moondream"), BUILT_OTHERWISE.format("moondream")),
    "paligemma": BUILT_OTHERWISE.format("PaliGemma"),
    "mllama": BUILT_OTHERWISE.format("Llama 3.2 Vision"),
    "internvl": BUILT_OTHERWISE.format("InternVL"),
    "bunny-qwen2": BUILT_OTHERWISE.format("nanoLLaVA"),
}


@dataclass(frozen=True)
class ConfigReading:
    """The content of a config.json: the model's sizes, and the defaults that were filled in."""

    config: LlavaConfig
    style: str  # "hub" or "original"
    filled: tuple[str, ...]
    unused: tuple[str, ...] = ()  # a sentence for each thing that the file names and this model does not use


def read_config(folder: str | Path, tower: Tower | None = None) -> ConfigReading:
    """Read `folder/config.json`.

    `tower` is called only for an original LLaVA checkpoint, whose configuration names its tower without describing it.
    Raises `ConfigError` for a file that is missing or damaged, or asks for something that is not implemented.
    """
    path = Path(folder) / "config.json"
    if not path.exists():
        raise ConfigError(
            f"{path} is missing: the weights alone do not say what model they are. Copy config.json, the tokenizer and "
            "the preprocessor files of the same model beside them, or fetch all with `minivlm download NAME`."
        )
    return parse_config(read_json_file(path, ConfigError), str(path), tower)


def parse_config(data: Mapping[str, Any], file: str, tower: Tower | None = None) -> ConfigReading:
    """As `read_config`, from the JSON object itself; `file` names it in errors."""
    top = Fields(data, file)
    original = is_original(data)
    refuse_other_models(top, original)
    try:
        config = read_original_config(top, tower) if original else read_hub_config(top)
    except ConfigError as error:  # a size that no model can have names its field, but not the file
        raise error if file in str(error) else ConfigError(f"{file}: {error}") from error
    style = "original" if original else "hub"
    unused = unused_window(data if original else data.get("text_config"), config.text_config)
    return ConfigReading(config, style, tuple(top.filled), unused)


def is_original(data: Mapping[str, Any]) -> bool:
    """Whether a config.json is of the original LLaVA's style rather than the hub's."""
    return "text_config" not in data and any(key.startswith("mm_") for key in data)


def read_hub_config(top: Fields) -> LlavaConfig:
    text = top.section("text_config", {})
    vision = top.section("vision_config", LLAVA_TOWER if top.data.get("vision_config") is None else CLIP)
    text_config = read_text_config(text, text.text("model_type", "llama"))
    top.require("projector_hidden_act", ("gelu",), "gelu", "the projector here has an exact GELU")
    return LlavaConfig(
        vision_config=read_vision_config(vision),
        text_config=text_config,
        image_token_index=read_image_token(top, text_config.vocab_size),
        vision_feature_layer=read_feature_layer(top, "vision_feature_layer"),
        vision_feature_select_strategy=top.text("vision_feature_select_strategy", "default"),
        multimodal_projector_bias=top.flag("multimodal_projector_bias", True),
        tie_word_embeddings=top.flag("tie_word_embeddings", False) | text.flag("tie_word_embeddings", False),
    )


def read_original_config(top: Fields, tower: Tower | None) -> LlavaConfig:
    refuse_other_pictures(top)
    if tower is None:
        raise ConfigError(f"{top.file} does not describe its vision tower: its tensors' shapes are needed.")
    text_config = read_text_config(top, ORIGINAL_FAMILIES[top.text("model_type")])
    top.require("mm_vision_select_feature", tuple(SELECT), "patch", f"minivlm has {' and '.join(SELECT)}")
    return LlavaConfig(
        vision_config=tower_config(tower(read_tower_name(top))),
        text_config=text_config,
        image_token_index=text_config.vocab_size,  # one after the last word: image tokens are never embedded
        vision_feature_layer=read_feature_layer(top, "mm_vision_select_layer"),
        vision_feature_select_strategy=SELECT[top.text("mm_vision_select_feature", "patch")],
        tie_word_embeddings=top.flag("tie_word_embeddings", False),
    )


def read_text_config(text: Fields, family: str) -> TextConfig:
    if family not in TEXT_DEFAULTS:
        text.refuse("model_type", f"one of {', '.join(TEXT_DEFAULTS)}")
    text = text.with_defaults(TEXT_DEFAULTS[family])
    text.require("hidden_act", ("silu",), "silu", "the decoder here is gated with silu")
    text.require("mlp_bias", (False, None), False, "the decoder's MLP here has no bias")
    bias = family == "qwen2" or (family == "llama" and text.flag("attention_bias", False))
    heads = text.whole("num_attention_heads")
    return TextConfig(
        vocab_size=text.whole("vocab_size"),
        hidden_size=text.whole("hidden_size"),
        intermediate_size=text.whole("intermediate_size"),
        num_hidden_layers=text.whole("num_hidden_layers"),
        num_attention_heads=heads,
        num_key_value_heads=text.whole_or("num_key_value_heads", heads),
        head_dim=read_head_width(text),
        max_position_embeddings=text.whole("max_position_embeddings"),
        rms_norm_eps=text.small("rms_norm_eps"),
        rope_theta=read_rope_theta(text),
        rope_scaling=read_rope_scaling(text),
        attention_bias=bias,
        attention_output_bias=bias and family == "llama",
        sliding_window=read_sliding_window(text, family),
    )


def rope_section(text: Fields) -> Fields:
    """`rope_scaling` of older files; it replaces the `rope_parameters` of newer ones as a whole, as in transformers."""
    return text.section("rope_scaling" if text.data.get("rope_scaling") else "rope_parameters", {})


def read_rope_theta(text: Fields) -> float:
    """`rope_theta` beside the kind of rotary positions, else that of the decoder."""
    rope = rope_section(text)
    return (rope if "rope_theta" in rope.data else text).number("rope_theta")


def read_rope_scaling(text: Fields) -> RopeScaling | None:
    """Plain rotary positions (None) or those of Llama 3.1; any other kind is refused, wherever it stands."""
    for key in ("rope_scaling", "rope_parameters"):
        rope = text.section(key, {})
        nested = any(isinstance(value, dict) for value in rope.data.values())
        if kind_of_rope(rope) not in ("default", "llama3") or nested or rope.data.get("partial_rotary_factor", 1) != 1:
            text.refuse(key, "plain rotary positions or those of Llama 3.1 (rope_type 'default' or 'llama3')")
    rope = rope_section(text)
    if kind_of_rope(rope) == "default":
        return None
    original = "original_max_position_embeddings"  # that of the decoder comes first, as in transformers
    return RopeScaling(
        factor=rope.number("factor"),
        low_freq_factor=rope.number("low_freq_factor"),
        high_freq_factor=rope.number("high_freq_factor"),
        original_max_position_embeddings=(text if text.data.get(original) else rope).whole(original),
    )


def kind_of_rope(rope: Fields) -> Any:
    """The kind of rotary positions that a section names."""
    return rope.data.get("rope_type", rope.data.get("type", "default"))


def read_sliding_window(text: Fields, family: str) -> int | None:
    """The window in tokens; None if every layer attends to all tokens: always for the type "llama", which has none.
    (Phi-3's file names one under this type; transformers ignores it in attention, too.)
    """
    if family == "llama":
        return None
    if family == "qwen2" and not text.flag("use_sliding_window", False):
        text.require("layer_types", (None, "full_attention"), None, "use_sliding_window is false: each layer sees all")
        return None
    if text.data.get("sliding_window", text.defaults["sliding_window"]) is None:
        return None
    window = text.whole("sliding_window")
    return window if window > 0 else text.refuse("sliding_window", "a positive whole number or null")


def unused_window(text: Any, config: TextConfig) -> tuple[str, ...]:
    """A sentence if `text`, the decoder part of config.json, names a sliding window that is not used; else ()."""
    window = text.get("sliding_window") if isinstance(text, Mapping) else None
    if window is None or config.sliding_window is not None or text.get("use_sliding_window") is False:
        return ()
    return (f"The file names a sliding window of {window}, but nothing that uses it: all is seen.",)


def read_head_width(text: Fields) -> int:
    hidden, heads = text.whole("hidden_size"), text.whole("num_attention_heads")
    if heads <= 0:
        text.refuse("num_attention_heads", "a positive whole number")
    if text.data.get("head_dim") is None and hidden % heads:
        text.refuse("hidden_size", f"divisible by num_attention_heads ({heads})")
    return text.whole_or("head_dim", hidden // heads)


def read_feature_layer(top: Fields, key: str) -> int | tuple[int, ...]:
    value = top.data.get(key)
    if not isinstance(value, list):
        return top.whole(key, -2)
    if not value or any(isinstance(layer, bool) or not isinstance(layer, int) for layer in value):
        top.refuse(key, "a whole number or a list of them")
    return tuple(value)


def read_image_token(top: Fields, vocab_size: int) -> int:
    """`image_token_index`, in newer files also `image_token_id`: an id of a word, or the one after the last."""
    key = (
        "image_token_id"
        if "image_token_index" not in top.data and "image_token_id" in top.data
        else "image_token_index"
    )
    token = top.whole(key, LLAVA_IMAGE_TOKEN)
    if top.data.get("image_token_id", token) != token:
        top.refuse("image_token_id", f"image_token_index ({token})")
    if not 0 <= token <= vocab_size:
        top.refuse(key, f"a row of the embedding, which has {vocab_size}")
    return token


def refuse_other_models(top: Fields, original: bool) -> None:
    kind = top.text("model_type")
    if kind not in ORIGINAL_FAMILIES or (kind != "llava" and not original):
        other = OTHER_MODELS.get(kind, "")
        top.refuse("model_type", f"'llava' (LLaVA 1.5 and its relatives{other}; `minivlm models` lists some)")
    if top.data.get("quantization_config") is not None:
        raise ConfigError(
            f"{top.file}: this is a quantised copy (quantization_config). Take the unquantised model; "
            "weights='int8' or 'int4' quantises it as it is loaded."
        )
    if top.data.get("use_image_newline_parameter"):
        raise ConfigError(f"{top.file}: use_image_newline_parameter belongs to LLaVA 1.6, which is not supported.")


def refuse_other_pictures(top: Fields) -> None:
    top.require("mm_projector_type", ("mlp2x_gelu",), None, "minivlm has the projector 'mlp2x_gelu'")
    top.require("mm_use_im_start_end", (False, None), False, "pictures here have no start and end tokens")
    for key, tiles in (("image_aspect_ratio", "anyres"), ("mm_patch_merge_type", "unpad")):
        if tiles in str(top.data.get(key)):
            top.refuse(key, "that of LLaVA 1.5 (LLaVA 1.6, which cuts pictures into tiles, is not supported)")
