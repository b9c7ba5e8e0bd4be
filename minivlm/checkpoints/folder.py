"""A checkpoint's folder: which of its files are the shards, and which tensors their headers name.

Nothing here takes memory for weights, runs code from the folder or follows a path that the folder gives: an index may
hold plain file names only (symbolic links are followed, because the hub's cache is made of them).
"""

import math
import os
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from minivlm.checkpoints.shards import open_shard
from minivlm.errors import CheckpointError
from minivlm.files import listed, path_of, read_json_file, shown

SINGLE_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
SHARD_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\.safetensors")
OTHER_FORMATS = (".bin", ".pt", ".pth", ".ckpt", ".gguf", ".pt2", ".msgpack", ".h5")
BYTES_OF = {"F16": 2, "BF16": 2, "F32": 4, "F64": 8}  # dtypes that can be loaded, by their names in safetensors


@dataclass(frozen=True)
class TensorHeader:
    """One tensor as the header of its file describes it."""

    key: str
    shape: tuple[int, ...]
    dtype: str  # "F16", "BF16", ...
    shard: str

    @property
    def bytes(self) -> int:
        """Its size in the file; 0 for dtypes that are never loaded."""
        return math.prod(self.shape) * BYTES_OF.get(self.dtype, 0)


@dataclass(frozen=True)
class CheckpointFolder:
    """A folder, its shards in order, and the headers of every tensor in them by key."""

    path: Path
    shards: tuple[str, ...]
    tensors: Mapping[str, TensorHeader]
    notes: tuple[str, ...] = ()


def open_folder(path: str | Path) -> CheckpointFolder:
    """Find the shards of the checkpoint in the folder `path` and read their headers.

    `model.safetensors` is read if it is there; otherwise `model.safetensors.index.json` names the shards. Raises
    `CheckpointError` for a folder that is incomplete, damaged or of another format.
    """
    folder = path_of(path)
    require_folder(folder)
    warn_of_adapters(folder)
    if (folder / SINGLE_FILE).exists():
        both = (folder / INDEX_FILE).exists()
        notes = (f"{SINGLE_FILE} was read; {INDEX_FILE} beside it was not.",) if both else ()
        tensors = require_tensors(folder, read_headers(folder / SINGLE_FILE))
        return CheckpointFolder(folder, (SINGLE_FILE,), tensors, notes)
    if (folder / INDEX_FILE).exists():
        index = read_index(folder / INDEX_FILE)
        shards = tuple(sorted(set(index.values())))
        require_shards(folder, shards)
        headers = {shard: read_headers(folder / shard) for shard in shards}
        return CheckpointFolder(folder, shards, merge_headers(folder, index, headers))
    raise CheckpointError(nothing_to_load(folder))


def warn_of_adapters(folder: Path) -> None:
    """Warn of an adapter (LoRA) beside the weights, which transformers would add to them."""
    if adapters := sorted(file.name for file in folder.glob("adapter_*")):
        warnings.warn(
            f"{folder} has an adapter ({listed(adapters)}) beside its weights, which is not used: answers are those "
            "of the model without it. Merge it into the weights where it was trained (peft: merge_and_unload).",
            stacklevel=3,
        )


def read_index(path: Path) -> dict[str, str]:
    """The `weight_map` of an index file: tensor key -> plain name of the shard that holds it."""
    weight_map = read_json_file(path).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(f"{path}: 'weight_map' must map tensor names to file names, found {shown(weight_map)}.")
    for key, shard in weight_map.items():
        if not isinstance(shard, str) or not SHARD_NAME.fullmatch(shard):
            raise CheckpointError(
                f"{path}: tensor {shown(key)} is said to be in {shown(shard)}. "
                "An index may only name plain *.safetensors files of its own folder; do not trust this checkpoint."
            )
    return weight_map


def read_headers(path: Path) -> dict[str, TensorHeader]:
    """Key -> header, for every tensor of one `.safetensors` file; no tensor data is read."""
    with open_shard(path) as shard:
        keys = list(shard.keys())
        slices = {key: shard.get_slice(key) for key in keys}
        return {key: TensorHeader(key, tuple(s.get_shape()), s.get_dtype(), path.name) for key, s in slices.items()}


def require_folder(folder: Path) -> None:
    if not folder.exists():
        raise CheckpointError(
            f"There is no folder {folder}. Give a checkpoint's folder, or fetch one with `minivlm download NAME`."
        )
    if not folder.is_dir():
        raise CheckpointError(f"{folder} is a file; a checkpoint is the folder that holds config.json and its weights.")
    if not os.access(folder, os.R_OK | os.X_OK):
        raise CheckpointError(f"{folder} may not be read: its rights do not allow it. Ask its owner, or copy it.")


def require_shards(folder: Path, shards: tuple[str, ...]) -> None:
    missing = [shard for shard in shards if not (folder / shard).exists()]
    if missing:
        raise CheckpointError(
            f"{folder}: the index names {len(shards)} shards and {len(missing)} of them are not there "
            f"({listed(missing)}). The download is incomplete: run `minivlm download NAME` again, it resumes."
        )


def merge_headers(
    folder: Path, index: Mapping[str, str], headers: Mapping[str, Mapping[str, TensorHeader]]
) -> dict[str, TensorHeader]:
    """The headers of all shards by key. Raises `CheckpointError` unless shards and index name the same tensors."""
    in_shards = {(key, shard) for shard, tensors in headers.items() for key in tensors}
    strays = sorted(set(index.items()) ^ in_shards)
    if strays:
        names = listed([f"{key} ({shard})" for key, shard in strays])
        raise CheckpointError(
            f"{folder}: {INDEX_FILE} and the shards disagree about {len(strays)} tensors: {names}. "
            "The shards are not all of one model: fetch the folder again."
        )
    return {key: headers[shard][key] for key, shard in sorted(index.items(), key=lambda item: (item[1], item[0]))}


def require_tensors(folder: Path, headers: dict[str, TensorHeader]) -> dict[str, TensorHeader]:
    if not headers:
        raise CheckpointError(f"{folder / SINGLE_FILE} holds no tensors. Fetch the file again.")
    return headers


def nothing_to_load(folder: Path) -> str:
    names = sorted(entry.name for entry in folder.iterdir())
    if any(name.startswith("adapter_") for name in names):
        return (
            f"{folder} holds a LoRA adapter, which changes a model and is none by itself. Merge it into its base model "
            "with the library that made it (peft: merge_and_unload, then save_pretrained), and give that folder."
        )
    refused = [name for name in names if name.endswith(OTHER_FORMATS)]
    shards = [name for name in names if name.endswith(".safetensors")]
    if any(name.endswith(".incomplete") for name in names):
        return f"{folder}: the download is incomplete. Run `minivlm download NAME` again, it resumes."
    if shards:
        return (
            f"{folder} has {len(shards)} .safetensors files ({listed(shards)}) but neither {SINGLE_FILE} nor "
            f"{INDEX_FILE}. Fetch the index, or rename a single file to {SINGLE_FILE}."
        )
    if refused:
        return (
            f"{folder} has weights only as {listed(refused)}. minivlm reads *.safetensors alone, because pickled "
            "formats can run code and quantised ones hold other numbers. Take a safetensors copy of the model "
            "(llava-hf/... on the hub), or convert the file on a machine that may run it."
        )
    return f"{folder} holds no weights: {SINGLE_FILE} or {INDEX_FILE} was expected, found {listed(names) or 'nothing'}."
