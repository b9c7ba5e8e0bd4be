"""Loading: each tensor is moved once, from its mapped file to its place in the model.

`devices.py` says which dtype is chosen if none is given; if it is not the one that was asked for, the report says so.

On a CPU, a tensor that has the right dtype already may stay in its mapped file, see `resident.py`. Weights are frozen
(`requires_grad` is False).
"""

import math
import os
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from minivlm.checkpoints.checkpoint_report import CheckpointReport, report_of
from minivlm.checkpoints.devices import FILE_DTYPES, choose_dtype, file_dtype, parse_device
from minivlm.checkpoints.plan import Plan, make_plan
from minivlm.checkpoints.quantised import (
    WEIGHTS,
    quantisable,
    quantise,
    quantised_blank,
    quantised_state,
    require_kind,
)
from minivlm.checkpoints.resident import choose_memory, resident, return_freed_memory
from minivlm.checkpoints.shards import missing_bytes, open_shard
from minivlm.errors import CheckpointError
from minivlm.model.config import LlavaConfig
from minivlm.model.llava import Llava

SMALL_TO_READ = 2_000_000_000  # bytes; larger mapped models are not read just to check them for NaN


@dataclass(frozen=True)
class Loaded:
    """A model ready to run, its configuration, and the report on its checkpoint."""

    model: Llava
    config: LlavaConfig
    report: CheckpointReport
    folder: Path


def load_checkpoint(
    path: str | Path,
    *,
    device: str | torch.device = "cpu",
    dtype: str | torch.dtype | None = None,
    vision_tower: str | Path | None = None,
    allow_nonfinite: bool = False,
    bound_for: str | torch.device | None = None,
    weights: str | None = None,
    memory: str | None = None,
) -> Loaded:
    """Load the checkpoint in the folder `path`; every tensor is used once, or dropped for a reason in the report.

    `dtype`: see `devices.py`; the copying of tensors: see the module's docstring. `vision_tower`: for the original
    LLaVA 1.5 files, see `tower_from_open_clip`. Tensors with NaN or Inf are refused unless `allow_nonfinite`; models
    of more than 2 GB that stay in their mapped files are not checked for them (`inspect_checkpoint` does). `bound_for`:
    the device that will compute, if the weights are loaded on another one first: it decides the dtype. `weights`:
    "int8" or "int4" to quantise the decoder's matrices as they are read, see `quantised.py`; the rest, and what is
    computed, then has 16 bits unless `dtype` says otherwise. `memory`: "mapped" or "resident", see `resident.py`.
    Raises CheckpointError, ConfigError.
    """
    start = time.perf_counter()
    plan = make_plan(path, vision_tower)
    device = parse_device(device)
    dtype, notes = dtype_of(plan, device if bound_for is None else parse_device(bound_for), dtype, weights)
    held = bytes_taken(plan, device, dtype, weights, "resident")
    memory = choose_memory(memory, device, held, free_memory(device), passing=bound_for is not None)
    require_memory(plan, device, dtype, weights, memory)
    check = not allow_nonfinite and are_read(plan, dtype, weights, memory)
    state, seconds = take_tensors(plan, device, dtype, check, weights, memory)
    model = fill_model(plan.model if weights is None else quantised_blank(plan.reading.config, weights), state)
    how = {"dtype": str(dtype).removeprefix("torch."), "device": str(device), "weights": weights, "memory": memory}
    report = report_of(plan, seconds, notes=notes, seconds=time.perf_counter() - start, **how)
    require_unchanged(plan)
    return Loaded(model, plan.reading.config, report, plan.folder.path)


def inspect_checkpoint(
    path: str | Path, *, vision_tower: str | Path | None = None, check_finite: bool = True
) -> CheckpointReport:
    """What `minivlm check` prints: all checks of `load_checkpoint` without building the model.

    With `check_finite` every tensor is read once, one at a time, and NaN or Inf is an error.
    """
    plan = make_plan(path, vision_tower)
    seconds: dict[str, float] = {}
    if check_finite:
        for name, tensor, started in mapped_tensors(plan):
            require_finite(name, tensor)
            seconds[name] = time.perf_counter() - started
    return report_of(plan, seconds if check_finite else None)


def require_memory(
    plan: Plan, device: torch.device, dtype: torch.dtype, weights: str | None = None, memory: str = "mapped"
) -> None:
    """Raise CheckpointError, before any memory is taken, if the weights do not fit on the device."""
    needed, free = bytes_taken(plan, device, dtype, weights, memory), free_memory(device)
    if free is None or needed <= free:
        return
    smaller = [kind for kind in WEIGHTS if fits(plan, device, dtype, kind, memory, min(needed - 1, free))]
    advice = f"weights={smaller[0]!r}" if smaller else "a dtype of two bytes"
    raise CheckpointError(
        f"{plan.folder.path} needs {needed / 1e9:.1f} GB as {weights or dtype} on {device}, and {free / 1e9:.1f} GB "
        f"are free. Choose {advice}, another device or a smaller model."
    )


def fits(plan: Plan, device: torch.device, dtype: torch.dtype, weights: str, memory: str, free: int) -> bool:
    """Whether the model can be quantised so, and then takes at most `free` bytes."""
    try:
        return bytes_taken(plan, device, dtype, weights, memory) <= free
    except CheckpointError:  # no group of weights divides its layers
        return False


def bytes_taken(plan: Plan, device: torch.device, dtype: torch.dtype, weights: str | None, memory: str) -> int:
    """Bytes of memory that loading takes; mapped, on a CPU, without the weights that stay in their files."""
    layers = dict(quantisable(plan.model)) if weights else {}
    blanks = [quantise(layer.weight.to(dtype), weights) for layer in layers.values()] if weights else []
    quantised = sum(tensor.nbytes for blank in blanks for tensor in blank.values())
    if device.type == "cpu" and memory == "mapped":
        return quantised + copied_bytes(plan, dtype, {f"{name}.weight" for name in layers})
    others = plan.parameters - sum(layer.weight.numel() for layer in layers.values())
    return quantised + others * dtype.itemsize


def are_read(plan: Plan, dtype: torch.dtype, weights: str | None, memory: str) -> bool:
    """Whether loading reads every number of the files: large ones that stay mapped are not read just to be checked."""
    return bool(weights) or memory == "resident" or copied_bytes(plan, dtype) > 0 or plan.bytes < SMALL_TO_READ


def free_memory(device: torch.device) -> int | None:
    """Bytes that torch can take on a device; None where the system does not say."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if device.type == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
    return free_host_memory()


def free_host_memory() -> int | None:
    """Bytes that can be taken without swapping; None where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration, ValueError):
        names = getattr(os, "sysconf_names", {})
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if "SC_AVPHYS_PAGES" in names else None


def copied_bytes(plan: Plan, dtype: torch.dtype, without: Collection[str] = ()) -> int:
    """Bytes of memory that loading on the CPU takes: those of tensors that must change their dtype.

    `without`: canonical names of tensors that do not count.
    """
    headers = [header for name, header in plan.taken.items() if name not in without]
    sizes = [math.prod(header.shape) for header in headers if FILE_DTYPES[header.dtype] != dtype]
    sizes += [tensor.numel() for tensor in plan.tower.values() if tensor.dtype != dtype]
    return sum(sizes) * dtype.itemsize


def take_tensors(
    plan: Plan, device: torch.device, dtype: torch.dtype, check: bool, weights: str | None, memory: str
) -> tuple[dict[str, Tensor], dict[str, float]]:
    """The state of the model, on its device and in its dtype; and the seconds that each tensor took.

    With `weights` the matrices of the decoder are quantised one by one, so that never more than one is held in full. A
    bar shows the progress of large files that are read now.
    """
    state: dict[str, Tensor] = {}
    seconds = {}
    layers = {f"{name}.weight" for name, _ in quantisable(plan.model)} if weights else set()
    with tqdm(
        total=plan.bytes, unit="B", unit_scale=True, leave=False, disable=not check or plan.bytes < SMALL_TO_READ
    ) as bar:
        for name, tensor, started in mapped_tensors(plan):
            moved = moved_to(tensor, device, dtype)
            if check:
                require_finite(name, moved)
            parts = quantised_state(name, moved, weights) if weights and name in layers else {name: moved}
            own = memory == "resident" and device.type == "cpu"
            state |= {key: resident(part) if own else part for key, part in parts.items()}
            if weights and name in layers:
                return_freed_memory()
            seconds[name] = time.perf_counter() - started
            bar.update(tensor.nbytes)
    return state, seconds


def require_unchanged(plan: Plan) -> None:
    """Raise `CheckpointError` if a shard was cut short while it was loaded: its next use would end the process."""
    for path in (plan.folder.path / file for file in plan.folder.shards):
        if short := missing_bytes(path):
            raise CheckpointError(f"{path} lost {short:,} bytes while it was loaded: fetch it again.")


def dtype_of(
    plan: Plan, device: torch.device, asked: str | torch.dtype | None, weights: str | None
) -> tuple[torch.dtype, tuple[str, ...]]:
    """As `choose_dtype`; beside quantised weights, unless another is asked for, 16 bits: the files' own, or bf16."""
    if weights is None:
        return choose_dtype(plan, device, asked)
    own = file_dtype(plan)
    dtype, notes = choose_dtype(plan, device, asked or (own if own.itemsize == 2 else torch.bfloat16))
    require_kind(weights, dtype)
    return dtype, notes


def moved_to(tensor: Tensor, device: torch.device, dtype: torch.dtype) -> Tensor:
    if device.type == "mps":  # a tensor of a dtype that it does not compute cannot be moved there at all
        return tensor.to(dtype).to(device)
    return tensor.to(device).to(dtype)  # the GPU casts faster


def mapped_tensors(plan: Plan) -> Iterator[tuple[str, Tensor, float]]:
    """(canonical name, mapped tensor, time at which its reading began), by shards, then those of the separate tower."""
    for file in plan.folder.shards:
        with open_shard(plan.folder.path / file) as shard:
            for name, header in plan.taken.items():
                if header.shard == file:
                    started = time.perf_counter()
                    yield name, shard.get_tensor(header.key), started
    for name, tensor in plan.tower.items():
        yield name, tensor, time.perf_counter()


def require_finite(name: str, tensor: Tensor) -> None:
    """Raise `CheckpointError` for NaN and Inf. A sum finds them, but may overflow by itself: then they are counted."""
    if torch.isfinite(tensor.sum(dtype=torch.promote_types(tensor.dtype, torch.float32))):
        return
    if count := tensor.numel() - int(torch.isfinite(tensor).sum()):
        raise CheckpointError(
            f"{name} holds {count:,} values that are NaN or Inf, of {tensor.numel():,}. The file is damaged or the "
            "training broke down; to look at it all the same, load with allow_nonfinite=True."
        )


def fill_model(model: Llava, state: dict[str, Tensor]) -> Llava:
    """Replace the model's empty parameters by the tensors; a tied head is the embedding itself."""
    if model.config.tie_word_embeddings:
        state = state | {"lm_head.weight": state["text.embed_tokens.weight"]}
    model.load_state_dict(state, strict=True, assign=True)
    if model.config.tie_word_embeddings:
        model.lm_head.weight = model.text.embed_tokens.weight
    return model.requires_grad_(False).eval()
