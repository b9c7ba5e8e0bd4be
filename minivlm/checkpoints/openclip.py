"""The vision tower in open_clip's names: how they map to ours, and where OpenAI's tower comes from.

The original LLaVA 1.5 files hold no tower; they name OpenAI's ViT-L/14 for pictures of 336 pixels, with quick GELU.
"""

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import LocalEntryNotFoundError
from torch import Tensor

from minivlm.checkpoints.shards import open_shard
from minivlm.errors import CheckpointError
from minivlm.files import listed, path_of, printable

OPENAI_TOWER = "openai"
OPENAI_MODEL = "ViT-L-14-336-quickgelu"  # the name without "-quickgelu" has the same weights and another activation
OPENAI_HUB_NAME = "clip-vit-large-patch14-336"  # as LLaVA's config.json calls it
SAFE_WEIGHTS = "open_clip_model.safetensors"

# open_clip, after `visual.`            canonical, after `vision.`
OUTSIDE = {
    "class_embedding": "embeddings.class_embedding",
    "positional_embedding": "embeddings.position_embedding.weight",
    "conv1.weight": "embeddings.patch_embedding.weight",
    "ln_pre.weight": "pre_layrnorm.weight",
    "ln_pre.bias": "pre_layrnorm.bias",
    "ln_post.weight": "post_layernorm.weight",
    "ln_post.bias": "post_layernorm.bias",
}
# open_clip, after `transformer.resblocks.N.`  canonical, after `encoder.layers.N.`
INSIDE = {
    "ln_1.": "layer_norm1.",
    "ln_2.": "layer_norm2.",
    "attn.out_proj.": "self_attn.out_proj.",
    "mlp.c_fc.": "mlp.fc1.",
    "mlp.c_proj.": "mlp.fc2.",
}
BLOCK = re.compile(r"transformer\.resblocks\.(\d+)\.(.+)")
STACKED = "attn.in_proj_"  # q, k, v stacked along dim 0; followed by "weight" or "bias"
UNUSED = ("proj",)  # CLIP's projection to the space of its text encoder; LLaVA has its own projector


def tower_from_open_clip(source: str | Path, download: bool = False) -> dict[str, Tensor]:
    """A vision tower by canonical names (`vision.…`), mapped from its file.

    `source`: a local `.safetensors` file in open_clip's names (`visual.…`, or the same without this prefix) or in
    transformers' names (`vision_model.…`), or "openai" for ViT-L-14-336-quickgelu, which is looked up in the hub's
    cache and, if `download` is true, fetched. Raises CheckpointError.
    """
    path = openai_file(download) if source == OPENAI_TOWER else path_of(source)
    if path.suffix != ".safetensors":
        raise CheckpointError(f"vision_tower must be {OPENAI_TOWER!r} or a .safetensors file, found {str(source)!r}.")
    with open_shard(path) as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    return tower_by_canonical_names(tensors, str(path))


def tower_by_canonical_names(tensors: Mapping[str, Tensor], where: str = "the vision tower") -> dict[str, Tensor]:
    """A tower's tensors by canonical names, from any of the known namings; those of a text encoder are left out.

    `where` names the tensors in errors. Raises CheckpointError if there is no CLIP tower among them.
    """
    for prefix in ("vision_model.", "vision_tower.vision_model."):
        if any(key.startswith(prefix) for key in tensors):
            tower = {key.removeprefix(prefix): tensor for key, tensor in tensors.items() if key.startswith(prefix)}
            return {f"vision.{key}": tensor for key, tensor in tower.items() if not key.endswith("position_ids")}
    if any(key.startswith("visual.") for key in tensors):
        tensors = {key.removeprefix("visual."): t for key, t in tensors.items() if key.startswith("visual.")}
    if "conv1.weight" not in tensors:
        raise CheckpointError(f"{where} holds no CLIP vision tower; its tensors are {listed(sorted(tensors), 3)}.")
    return from_open_clip(tensors)


def from_open_clip(visual: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of open_clip's `model.visual` by canonical names; q, k, v become views of their stack.

    Raises CheckpointError for a stack whose shape does not follow from the tower's width.
    """
    tower, width = {}, tower_width(visual["conv1.weight"])
    stacks = {STACKED + "weight": (3 * width, width), STACKED + "bias": (3 * width,)}
    for key, tensor in visual.items():
        block = BLOCK.fullmatch(key)
        if block and block[2] in stacks:
            require_shape(key, tensor, stacks[block[2]])
            layer, kind = block[1], block[2].removeprefix(STACKED)
            for name, part in zip("qkv", tensor.chunk(3), strict=True):
                tower[f"vision.encoder.layers.{layer}.self_attn.{name}_proj.{kind}"] = part
        elif key not in UNUSED:
            tower[f"vision.{canonical_name(key)}"] = tensor
    return tower


def to_open_clip(tower: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of `from_open_clip`: the tensors of open_clip's `model.visual`, without its unused projection."""
    visual = {}
    for name in (name.removeprefix("vision.") for name in tower):
        if "self_attn.q_proj" in name:
            parts = [tower[f"vision.{name.replace('q_proj', part)}"] for part in ("q_proj", "k_proj", "v_proj")]
            block = f"transformer.resblocks.{name.split('.')[2]}."
            visual[block + STACKED + name.rpartition(".")[2]] = torch.cat(parts)
        elif "self_attn.k_proj" not in name and "self_attn.v_proj" not in name:
            visual[open_clip_name(name)] = tower[f"vision.{name}"]
    return visual


def canonical_name(key: str) -> str:
    """`transformer.resblocks.3.ln_1.bias` -> `encoder.layers.3.layer_norm1.bias`; unknown keys stay as they are."""
    block = BLOCK.fullmatch(key)
    if block is None:
        return OUTSIDE.get(key, key)
    layer, rest = block.groups()
    theirs = next((theirs for theirs in INSIDE if rest.startswith(theirs)), None)
    return key if theirs is None else f"encoder.layers.{layer}.{INSIDE[theirs]}{rest.removeprefix(theirs)}"


def open_clip_name(name: str) -> str:
    if not name.startswith("encoder.layers."):
        return next(theirs for theirs, ours in OUTSIDE.items() if ours == name)
    _, _, layer, rest = name.split(".", 3)
    theirs, ours = next((theirs, ours) for theirs, ours in INSIDE.items() if rest.startswith(ours))
    return f"transformer.resblocks.{layer}.{theirs}{rest.removeprefix(ours)}"


def tower_width(convolution: Tensor) -> int:
    """The tower's width, from its first convolution. Raises CheckpointError for a tensor of another rank."""
    if convolution.ndim != 4:
        shape = tuple(convolution.shape)
        raise CheckpointError(f"The vision tower's conv1.weight has {shape}, expected (width, 3, patch, patch).")
    return len(convolution)


def require_shape(key: str, tensor: Tensor, expected: tuple[int, ...]) -> None:
    if tuple(tensor.shape) != expected:
        raise CheckpointError(f"The vision tower's {printable(key)} has {tuple(tensor.shape)}, expected {expected}.")


def openai_file(download: bool) -> Path:
    import open_clip  # slow to import, and most checkpoints do not need it

    repository = open_clip.get_pretrained_cfg(OPENAI_MODEL, OPENAI_TOWER)["hf_hub"].strip("/")
    try:
        return Path(hf_hub_download(repository, SAFE_WEIGHTS, local_files_only=not download))
    except LocalEntryNotFoundError as cause:
        reached = "could not be reached" if download else "was not asked"
        raise CheckpointError(
            f"The checkpoint has no vision tower, OpenAI's ({OPENAI_MODEL}) is not in the hub's cache, and the hub "
            f'{reached}. Load with vision_tower="{OPENAI_TOWER}" while online, or vision_tower="path/to/a.safetensors".'
        ) from cause
