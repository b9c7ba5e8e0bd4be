"""Saving in the hub's layout A, so that transformers (old and new), vLLM and minivlm itself load the same model."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from minivlm.checkpoints.folder import SINGLE_FILE
from minivlm.checkpoints.names import scheme_named
from minivlm.checkpoints.plan import expected_shapes
from minivlm.checkpoints.quantised import kind_of
from minivlm.checkpoints.shards import write_tensors
from minivlm.errors import CheckpointError, ConfigError
from minivlm.files import path_of, write_json
from minivlm.model.config import LlavaConfig, TextConfig, VisionConfig
from minivlm.model.llava import Llava

HUB = scheme_named("A")
TOWERS: dict[tuple[bool, ...], dict[str, Any]] = {  # by class_token, pre_norm and patch_bias
    (True, True, False): {"model_type": "clip_vision_model"},
    (False, False, True): {"model_type": "siglip_vision_model", "vision_use_head": False},
}


def save_checkpoint(
    model: Llava, folder: str | Path, dtype: torch.dtype | None = None, extra: Mapping[str, Any] | None = None
) -> Path:
    """Write `config.json` and `model.safetensors` into `folder`, which is made if need be, and return it.

    `dtype`: of the file, by default the model's own. `extra`: further fields for the top of config.json. Each file
    appears whole or not at all, the configuration last. Where the image token lies beyond the vocabulary, as in the
    original LLaVA, transformers loads the result but needs that row to embed a prompt with a picture. Raises
    CheckpointError if the folder cannot be written.
    """
    if kind := kind_of(model):
        raise CheckpointError(f"A model with weights in {kind} is not saved: load it without `weights`, and save that.")
    folder = path_of(folder)
    config = hub_config(model.config, dtype or next(model.parameters()).dtype) | dict(extra or {})
    state = model.state_dict()
    tensors = {HUB.key(name): state[name].detach().to("cpu", dtype).contiguous() for name in expected_shapes(model)}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_tensors(folder / SINGLE_FILE, tensors, {"format": "pt"})
        write_json(folder / "config.json", config)
    except OSError as cause:
        raise CheckpointError(f"{folder} cannot be written: {cause.strerror or cause}.") from cause
    return folder


def hub_config(config: LlavaConfig, dtype: torch.dtype) -> dict[str, Any]:
    """The `config.json` of a model in the hub's style, with every number written out."""
    layers = config.vision_feature_layer
    return {
        "architectures": ["LlavaForConditionalGeneration"],
        "model_type": "llava",
        "image_token_index": config.image_token_index,
        "image_seq_length": config.num_image_tokens,
        "multimodal_projector_bias": config.multimodal_projector_bias,
        "projector_hidden_act": "gelu",
        "text_config": hub_text_config(config.text_config) | {"tie_word_embeddings": config.tie_word_embeddings},
        "tie_word_embeddings": config.tie_word_embeddings,
        "torch_dtype": str(dtype).removeprefix("torch."),
        "vision_config": hub_vision_config(config.vision_config),
        "vision_feature_layer": list(layers) if isinstance(layers, tuple) else layers,
        "vision_feature_select_strategy": config.vision_feature_select_strategy,
    }


def hub_vision_config(tower: VisionConfig) -> dict[str, Any]:
    """The tower's fields, and which of the two kinds of towers it is."""
    fields = asdict(tower)
    parts = tuple(fields.pop(name) for name in ("class_token", "pre_norm", "patch_bias"))
    if parts not in TOWERS:
        raise ConfigError("This tower is neither CLIP's nor SigLIP's: the model cannot be saved in the hub's style.")
    return fields | TOWERS[parts]


def hub_text_config(text: TextConfig) -> dict[str, Any]:
    """The decoder's fields, and the family of models that computes the same with them."""
    fields = asdict(text)
    if text.rope_scaling is not None:
        fields["rope_scaling"] |= {"rope_type": "llama3"}
    bias, output_bias = fields.pop("attention_bias"), fields.pop("attention_output_bias")
    if output_bias and (not bias or text.sliding_window):
        raise ConfigError("No family of the hub has these attention biases; the model cannot be saved in its style.")
    if bias and not output_bias:
        window = {"use_sliding_window": bool(text.sliding_window), "max_window_layers": 0}
        return fields | window | {"model_type": "qwen2", "hidden_act": "silu"}
    if text.sliding_window:
        return fields | {"model_type": "mistral", "hidden_act": "silu"}
    del fields["sliding_window"]
    return fields | {"model_type": "llama", "hidden_act": "silu", "attention_bias": bias}
