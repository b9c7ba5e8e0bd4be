"""Random checkpoints of real size, to test hardware and loaders without real weights.

The tensors have the names and shapes of a real checkpoint, and values that keep activations finite; the model has
learned nothing. Files are written tensor by tensor: a checkpoint of 14 GB needs memory for its largest tensor only.
"""

import json
import math
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from minivlm.checkpoints.configs import parse_config
from minivlm.checkpoints.folder import INDEX_FILE, SINGLE_FILE
from minivlm.checkpoints.plan import blank_model, expected_shapes
from minivlm.checkpoints.save import HUB, hub_config
from minivlm.errors import CheckpointError
from minivlm.files import path_of, replace_file, write_json
from minivlm.model.config import LlavaConfig

# config.json of models whose size can be named; what is left out is the default of the family.
KNOWN_SIZES = {
    "llava-interleave-qwen-0.5b": {
        "model_type": "llava",
        "image_token_index": 151646,
        "text_config": {
            "model_type": "qwen2",
            "vocab_size": 152000,
            "hidden_size": 1024,
            "intermediate_size": 2816,
            "num_hidden_layers": 24,
            "num_attention_heads": 16,
            "num_key_value_heads": 16,
            "rope_theta": 1e6,
            "tie_word_embeddings": True,
        },
        "vision_config": {
            "model_type": "siglip_vision_model",
            "hidden_size": 1152,
            "intermediate_size": 4304,
            "num_hidden_layers": 26,
            "num_attention_heads": 16,
            "image_size": 384,
            "patch_size": 14,
        },
        "vision_feature_layer": -1,
        "vision_feature_select_strategy": "full",
    },
    "llava-1.5-7b": {
        "model_type": "llava",
        "image_token_index": 32000,
        "text_config": {"vocab_size": 32064, "max_position_embeddings": 4096, "rms_norm_eps": 1e-5},
        "vision_config": None,
    },
    "llava-1.5-13b": {
        "model_type": "llava",
        "image_token_index": 32000,
        "text_config": {
            "vocab_size": 32064,
            "hidden_size": 5120,
            "intermediate_size": 13824,
            "num_hidden_layers": 40,
            "num_attention_heads": 40,
            "max_position_embeddings": 4096,
            "rms_norm_eps": 1e-5,
        },
        "vision_config": None,
    },
}
SAFETENSORS_DTYPES = {torch.float16: "F16", torch.bfloat16: "BF16", torch.float32: "F32"}
Shapes = Mapping[str, tuple[int, ...]]


def make_random_checkpoint(
    folder: str | Path,
    config: str | LlavaConfig = "llava-1.5-7b",
    *,
    dtype: torch.dtype = torch.bfloat16,
    seed: int = 0,
    shard_size: int = 5_000_000_000,
) -> Path:
    """Write a random checkpoint in layout A and return its folder, which must not hold one yet.

    `config`: a name of KNOWN_SIZES or a configuration; `shard_size` in bytes. The same seed gives the same weights.
    Raises CheckpointError before anything is written if the disk is too small.
    """
    folder = path_of(folder)
    config = known_config(config) if isinstance(config, str) else config
    if dtype not in SAFETENSORS_DTYPES:
        raise CheckpointError(f"A random checkpoint has one of {', '.join(map(str, SAFETENSORS_DTYPES))}, not {dtype}.")
    shapes = {HUB.key(name): shape for name, shape in expected_shapes(blank_model(config)).items()}
    require_room(folder, shapes, dtype)
    shards = split_into_shards(shapes, dtype.itemsize, shard_size)
    generator = torch.Generator().manual_seed(seed)
    weight_map: dict[str, str] = {}
    with all_or_nothing(folder):
        for number, keys in enumerate(shards, start=1):
            name = f"model-{number:05}-of-{len(shards):05}.safetensors" if len(shards) > 1 else SINGLE_FILE
            write_shard(folder / name, {key: shapes[key] for key in keys}, dtype, generator)
            weight_map |= dict.fromkeys(keys, name)
        if len(shards) > 1:
            total = sum(math.prod(shape) for shape in shapes.values()) * dtype.itemsize
            write_json(folder / INDEX_FILE, {"metadata": {"total_size": total}, "weight_map": weight_map})
        write_json(folder / "config.json", hub_config(config, dtype))
    return folder


@contextmanager
def all_or_nothing(folder: Path) -> Iterator[None]:
    """Within, shards are written into a folder that held none; if that fails, those that were written are removed.

    Raises `CheckpointError` if a file cannot be written.
    """
    try:
        yield
    except BaseException as cause:
        for shard in folder.glob("model*.safetensors"):
            shard.unlink()
        if isinstance(cause, OSError):
            raise CheckpointError(f"{cause.filename} cannot be written: {cause.strerror}.") from cause
        raise


def known_config(name: str) -> LlavaConfig:
    """The configuration of a model of KNOWN_SIZES."""
    if name not in KNOWN_SIZES:
        sizes = ", ".join(KNOWN_SIZES)
        raise CheckpointError(f"There is no known size {name!r}, nor such a folder; choose a folder or one of {sizes}.")
    return parse_config(KNOWN_SIZES[name], name).config


def split_into_shards(shapes: Shapes, itemsize: int, shard_size: int) -> list[list[str]]:
    """Keys in order, cut wherever the next tensor would make a shard larger than `shard_size` bytes."""
    shards: list[list[str]] = [[]]
    filled = 0
    for key, shape in shapes.items():
        size = math.prod(shape) * itemsize
        if shards[-1] and filled + size > shard_size:
            shards.append([])
            filled = 0
        shards[-1].append(key)
        filled += size
    return shards


def random_tensor(key: str, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Values in fp32: normal and scaled by fan-in for matrices, near one for norms, small for biases."""
    if key.endswith("bias"):
        return torch.randn(shape, generator=generator) * 0.02
    if "norm" in key or "layrnorm" in key:
        return torch.randn(shape, generator=generator).mul_(0.02).add_(1)
    fan_in = math.prod(shape[1:]) if len(shape) > 1 else shape[0]
    return torch.randn(shape, generator=generator).mul_(fan_in**-0.5)


def write_shard(path: Path, shapes: Shapes, dtype: torch.dtype, generator: torch.Generator) -> None:
    """Write a `.safetensors` file: the length of its header, the header, then the tensors one after the other."""
    header = json.dumps(shard_header(shapes, dtype)).encode()
    header += b" " * (-len(header) % 8)

    def write(part: Path) -> None:
        with part.open("wb") as file:
            file.write(len(header).to_bytes(8, "little") + header)
            for raw in raw_tensors(shapes, dtype, generator):
                file.write(raw)

    replace_file(path, write)


def shard_header(shapes: Shapes, dtype: torch.dtype) -> dict[str, Any]:
    """The header of a `.safetensors` file: dtype, shape and place of each tensor, in JSON types."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for key, shape in shapes.items():
        start, end = end, end + math.prod(shape) * dtype.itemsize
        header[key] = {"dtype": SAFETENSORS_DTYPES[dtype], "shape": list(shape), "data_offsets": [start, end]}
    return header


def raw_tensors(shapes: Shapes, dtype: torch.dtype, generator: torch.Generator) -> Iterator[memoryview]:
    """The bytes of one tensor after the other, as the file holds them."""
    for key, shape in shapes.items():
        values = random_tensor(key, shape, generator).to(dtype)
        yield values.flatten().view(torch.uint8).numpy().data


def require_room(folder: Path, shapes: Shapes, dtype: torch.dtype) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.glob("*.safetensors")):
        raise CheckpointError(f"{folder} holds weights already; give an empty folder for a random checkpoint.")
    needed, free = sum(math.prod(shape) for shape in shapes.values()) * dtype.itemsize, shutil.disk_usage(folder).free
    if needed > free:
        raise CheckpointError(f"{folder} has {free / 1e9:.1f} GB free; this checkpoint takes {needed / 1e9:.1f} GB.")
