"""Loading: each tensor is moved once, from its mapped file to its place in the model.

`devices.py` says which dtype is chosen if none is given; if it is not the one that was asked for, the report says so.

On a CPU, a tensor that has the right dtype already is not copied: the mapped file is the model's memory, read from disk
when it is first used and private to this process. Weights are frozen (`requires_grad` is False).
"""

import math
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from minivlm.checkpoints.checkpoint_report import CheckpointReport, report_of
from minivlm.checkpoints.devices import FILE_DTYPES, choose_dtype, parse_device
from minivlm.checkpoints.plan import Plan, make_plan
from minivlm.checkpoints.shards import open_shard
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
) -> Loaded:
    """Load the checkpoint in the folder `path`; every tensor is used once, or dropped for a reason in the report.

    `dtype`: see `devices.py`; the copying of tensors: see the module's docstring. `vision_tower`: for the original
    LLaVA 1.5 files, see `tower_from_open_clip`. Tensors with NaN or Inf are refused unless `allow_nonfinite`; models
    of more than 2 GB that stay in their mapped files are not checked for them (`inspect_checkpoint` does). `bound_for`:
    the device that will compute, if the weights are loaded on another one first: it decides the dtype. Raises
    CheckpointError, ConfigError.
    """
    start = time.perf_counter()
    plan = make_plan(path, vision_tower)
    device = parse_device(device)
    dtype, notes = choose_dtype(plan, device if bound_for is None else parse_device(bound_for), dtype)
    require_memory(plan, device, dtype)
    check = not allow_nonfinite and (
        device.type != "cpu" or copied_bytes(plan, dtype) > 0 or plan.bytes < SMALL_TO_READ
    )
    state, seconds = take_tensors(plan, device, dtype, check)
    model = fill_model(plan.model, state)
    report = report_of(
        plan,
        seconds,
        notes=notes,
        dtype=str(dtype).removeprefix("torch."),
        device=str(device),
        seconds=time.perf_counter() - start,
    )
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


def require_memory(plan: Plan, device: torch.device, dtype: torch.dtype) -> None:
    """Raise CheckpointError, before any memory is taken, if the weights do not fit on the device."""
    needed = copied_bytes(plan, dtype) if device.type == "cpu" else plan.parameters * dtype.itemsize
    free = free_memory(device)
    if free is not None and needed > free:
        raise CheckpointError(
            f"{plan.folder.path} needs {needed / 1e9:.1f} GB as {dtype} on {device}, and {free / 1e9:.1f} GB are free. "
            "Choose a dtype of two bytes, another device or a smaller model."
        )


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


def copied_bytes(plan: Plan, dtype: torch.dtype) -> int:
    """Bytes of memory that loading on the CPU takes: those of tensors that must change their dtype."""
    sizes = [math.prod(h.shape) for h in plan.taken.values() if FILE_DTYPES[h.dtype] != dtype]
    sizes += [tensor.numel() for tensor in plan.tower.values() if tensor.dtype != dtype]
    return sum(sizes) * dtype.itemsize


def take_tensors(
    plan: Plan, device: torch.device, dtype: torch.dtype, check: bool
) -> tuple[dict[str, Tensor], dict[str, float]]:
    """Every tensor by its canonical name, on its device and in its dtype; and the seconds that each took."""
    state, seconds = {}, {}
    for name, tensor, started in mapped_tensors(plan):
        state[name] = moved_to(tensor, device, dtype)
        if check:
            require_finite(name, state[name])
        seconds[name] = time.perf_counter() - started
    return state, seconds


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
    finite = torch.isfinite(tensor)
    if not finite.all():
        count = tensor.numel() - int(finite.sum())
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
