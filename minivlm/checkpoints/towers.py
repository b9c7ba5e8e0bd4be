"""A vision tower's configuration: from its section of a config.json, or from the shapes of its tensors."""

import math
import re
from collections.abc import Callable, Mapping

from minivlm.checkpoints.families import TOWER_DEFAULTS
from minivlm.checkpoints.fields import Fields
from minivlm.errors import ConfigError
from minivlm.model.config import VisionConfig

Shapes = Mapping[str, tuple[int, ...]]
Tower = Callable[[str], Shapes]  # from the tower's name to the shapes of its tensors by canonical name (`vision.…`)

OPENAI_CLIP = re.compile(r"clip-vit-(base|large)-patch(14|16|32)(-336)?", re.IGNORECASE)
CLIP_HEAD_WIDTH = 64  # of every vision transformer that OpenAI's CLIP published


def read_vision_config(vision: Fields) -> VisionConfig:
    towers = "minivlm has the vision towers of CLIP (clip_vision_model) and SigLIP (siglip_vision_model)"
    vision.require("model_type", tuple(TOWER_DEFAULTS), "clip_vision_model", towers)
    vision.require("num_channels", (3,), 3, "pictures here have three channels")
    is_clip = vision.data.get("model_type", "clip_vision_model") == "clip_vision_model"
    if not is_clip:
        vision = vision.with_defaults(TOWER_DEFAULTS["siglip_vision_model"])
    return VisionConfig(
        hidden_size=vision.whole("hidden_size"),
        intermediate_size=vision.whole("intermediate_size"),
        num_hidden_layers=vision.whole("num_hidden_layers"),
        num_attention_heads=vision.whole("num_attention_heads"),
        image_size=vision.whole("image_size"),
        patch_size=vision.whole("patch_size"),
        hidden_act=vision.text("hidden_act"),
        layer_norm_eps=vision.small("layer_norm_eps"),
        class_token=is_clip,
        pre_norm=is_clip,
        patch_bias=not is_clip,
    )


def read_tower_name(top: Fields) -> str:
    """The name of the vision tower. Raises `ConfigError` for another than OpenAI's, which has another activation or
    other heads: no tensor's shape would tell."""
    name = top.text("mm_vision_tower", "")
    if not OPENAI_CLIP.fullmatch(name.replace("\\", "/").rstrip("/").rsplit("/", 1)[-1]) or "laion" in name.lower():
        top.refuse("mm_vision_tower", "a tower of OpenAI's CLIP, such as 'openai/clip-vit-large-patch14-336'")
    return name


def tower_config(shapes: Shapes) -> VisionConfig:
    """A CLIP tower's configuration from the shapes of its tensors, by canonical names. Raises `ConfigError`."""
    try:
        width, _, _, patch = shapes["vision.embeddings.patch_embedding.weight"]
        positions, _ = shapes["vision.embeddings.position_embedding.weight"]
        inner, _ = shapes["vision.encoder.layers.0.mlp.fc1.weight"]
    except (KeyError, ValueError) as cause:
        raise ConfigError(f"The vision tower's tensors do not describe a CLIP tower: {cause}.") from cause
    side = math.isqrt(max(positions - 1, 0))
    if side * side != positions - 1 or width % CLIP_HEAD_WIDTH:
        raise ConfigError(
            f"A vision tower of width {width} with {positions} positions is not one of OpenAI's CLIP: expected heads "
            f"of width {CLIP_HEAD_WIDTH}, one class token and a square of patches."
        )
    layers = {name.split(".")[3] for name in shapes if name.startswith("vision.encoder.layers.")}
    return VisionConfig(width, inner, len(layers), width // CLIP_HEAD_WIDTH, side * patch, patch)
