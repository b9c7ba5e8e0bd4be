"""Loading: each tensor goes once from its mapped file to its place in the model.

Which numbers are computed with, when `dtype` is not given: on a GPU the dtype of the files (fp16 for bf16 files on a
GPU older than Ampere); on a CPU fp32 where the model then takes less than 4 GB, else bf16. A CPU never computes in
fp16, which is many times slower there: fp16 asked for on a CPU becomes bf16, and the report says so.

On a CPU, a tensor whose dtype already fits is not copied: the mapping of the file is the model's memory, read from
disk when it is first used and private to this process. Weights are frozen (`requires_grad` is False).
"""

import math
import os
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from minivlm.checkpoints.files import open_shard
from minivlm.checkpoints.plan import Plan, make_plan
from minivlm.checkpoints.report import Report, report_of
from minivlm.errors import CheckpointError
from minivlm.model.config import LlavaConfig
from minivlm.model.llava import Llava

DTYPES = {
    "float16": torch.float16,
    "fp16": torch.float16,
    "bfloat16": torch.bfloat16,
    "bf16": torch.bfloat16,
    "float32": torch.float32,
    "fp32": torch.float32,
    "float64": torch.float64,
}
FILE_DTYPES = {"F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32, "F64": torch.float64}
SMALL_IN_FP32 = 4_000_000_000  # bytes; larger models are computed in bf16 on a CPU
SMALL_TO_READ = 2_000_000_000  # bytes; larger mapped models are not read through just to look for NaN


@dataclass(frozen=True)
class Loaded:
    """A model ready to run, and how it came about."""

    model: Llava
    config: LlavaConfig
    report: Report
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
    """Load the checkpoint in the folder `path`; everything in it is used once or dropped for a stated reason.

    `dtype` and the copying of tensors: see the module's docstring. `vision_tower`: for the original LLaVA 1.5 files,
    see `tower_from_open_clip`. Tensors with NaN or Inf are refused unless `allow_nonfinite`; models of more than 2 GB
    that stay in their mapped files are not looked through (`inspect_checkpoint` does). `bound_for`: the device that
    will compute, if the weights are loaded elsewhere first: its dtype is chosen. Raises CheckpointError, ConfigError.
    """
    start = time.perf_counter()
    plan = make_plan(path, vision_tower)
    device = parse_device(device)
    dtype, notes = choose_dtype(plan, device if bound_for is None else parse_device(bound_for), dtype)
    require_memory(plan, device, dtype)
    check = not allow_nonfinite and (device.type != "cpu" or _copied(plan, dtype) > 0 or plan.bytes < SMALL_TO_READ)
    state, seconds = _take_tensors(plan, device, dtype, check)
    model = _fill(plan.model, state)
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
) -> Report:
    """What `minivlm check` prints: all checks of `load_checkpoint` without building the model.

    With `check_finite` every tensor is read once, one at a time, and NaN or Inf is an error.
    """
    plan = make_plan(path, vision_tower)
    seconds: dict[str, float] = {}
    if check_finite:
        for name, tensor, started in _tensors(plan):
            _require_finite(name, tensor)
            seconds[name] = time.perf_counter() - started
    return report_of(plan, seconds if check_finite else None)


def parse_device(device: str | torch.device) -> torch.device:
    """The device, once torch knows it and a number has gone there and come back."""
    try:
        parsed = torch.device(device)
    except (RuntimeError, TypeError) as cause:
        raise CheckpointError(f"device must be 'cpu', 'cuda', 'cuda:1', 'mps', ..., found {device!r}.") from cause
    if parsed.type == "cuda" and (parsed.index or 0) >= torch.cuda.device_count():
        raise CheckpointError(f"{device} was asked for, but torch sees {torch.cuda.device_count()} GPUs; try 'cpu'.")
    try:
        torch.zeros(1, device=parsed).cpu()
    except (RuntimeError, AssertionError, ImportError) as cause:  # "meta" holds no numbers, "mps" is Apple's, ...
        raise CheckpointError(f"{device} was asked for, but torch cannot compute there; try 'cpu'.") from cause
    return parsed


def choose_dtype(
    plan: Plan, device: torch.device, asked: str | torch.dtype | None
) -> tuple[torch.dtype, tuple[str, ...]]:
    """The dtype to compute in, and a note where it is not what was asked for or found."""
    if isinstance(asked, str) and asked not in DTYPES:
        raise CheckpointError(f"dtype must be one of {', '.join(DTYPES)}, found {asked!r}.")
    wanted = DTYPES.get(asked, asked) if isinstance(asked, str) else asked
    if wanted is not None and wanted not in DTYPES.values():
        raise CheckpointError(f"dtype must be one of {', '.join(DTYPES)}, found {wanted}.")
    if device.type == "cpu":
        return _cpu_dtype(plan, wanted)
    found = wanted or file_dtype(plan)
    if found == torch.bfloat16 and device.type == "cuda" and torch.cuda.get_device_capability(device) < (8, 0):
        return torch.float16, ("This GPU has no bfloat16: computed in float16 instead.",)
    return found, ()


def file_dtype(plan: Plan) -> torch.dtype:
    """The dtype that most bytes of the files have."""
    sizes: Counter = Counter()
    for header in plan.taken.values():
        sizes[header.dtype] += header.bytes
    return FILE_DTYPES[sizes.most_common(1)[0][0]]


def require_memory(plan: Plan, device: torch.device, dtype: torch.dtype) -> None:
    """Raise CheckpointError, before anything is taken, if the weights will not fit."""
    if device.type == "cuda":
        needed, free = plan.parameters * dtype.itemsize, torch.cuda.mem_get_info(device)[0]
    else:
        needed, free = _copied(plan, dtype), free_host_memory()
    if free is not None and needed > free:
        raise CheckpointError(
            f"{plan.folder.path} needs {needed / 1e9:.1f} GB as {dtype} on {device}, and {free / 1e9:.1f} GB are free. "
            "Choose a dtype of two bytes, another device or a smaller model."
        )


def free_host_memory() -> int | None:
    """Bytes that can be taken without swapping; None where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration, ValueError):
        names = getattr(os, "sysconf_names", {})
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if "SC_AVPHYS_PAGES" in names else None


def _cpu_dtype(plan: Plan, wanted: torch.dtype | None) -> tuple[torch.dtype, tuple[str, ...]]:
    if wanted == torch.float16:
        return torch.bfloat16, ("float16 is many times slower on a CPU: computed in bfloat16 instead.",)
    small = plan.parameters * torch.float32.itemsize < SMALL_IN_FP32
    return wanted or (torch.float32 if small else torch.bfloat16), ()


def _copied(plan: Plan, dtype: torch.dtype) -> int:
    """Bytes of own memory that a load on the CPU takes: the tensors that have to change their dtype."""
    sizes = [math.prod(h.shape) for h in plan.taken.values() if FILE_DTYPES[h.dtype] != dtype]
    sizes += [tensor.numel() for tensor in plan.tower.values() if tensor.dtype != dtype]
    return sum(sizes) * dtype.itemsize


def _take_tensors(
    plan: Plan, device: torch.device, dtype: torch.dtype, check: bool
) -> tuple[dict[str, Tensor], dict[str, float]]:
    """Every tensor by its canonical name, in its final place and dtype; and the seconds each took."""
    state, seconds = {}, {}
    for name, tensor, started in _tensors(plan):
        state[name] = tensor.to(device).to(dtype)  # the GPU casts faster
        if check:
            _require_finite(name, state[name])
        seconds[name] = time.perf_counter() - started
    return state, seconds


def _tensors(plan: Plan) -> Iterator[tuple[str, Tensor, float]]:
    """(canonical name, mapped tensor, when its reading began), shard by shard, then the separate tower's."""
    for file in plan.folder.shards:
        with open_shard(plan.folder.path / file) as shard:
            for name, header in plan.taken.items():
                if header.shard == file:
                    started = time.perf_counter()
                    yield name, shard.get_tensor(header.key), started
    for name, tensor in plan.tower.items():
        yield name, tensor, time.perf_counter()


def _require_finite(name: str, tensor: Tensor) -> None:
    finite = torch.isfinite(tensor)
    if not finite.all():
        count = tensor.numel() - int(finite.sum())
        raise CheckpointError(
            f"{name} holds {count:,} values that are NaN or Inf, of {tensor.numel():,}. The file is damaged or the "
            "training broke down; to look at it all the same, load with allow_nonfinite=True."
        )


def _fill(model: Llava, state: dict[str, Tensor]) -> Llava:
    """Put the tensors in place of the model's empty parameters; a tied head is the embedding itself."""
    if model.config.tie_word_embeddings:
        state = state | {"lm_head.weight": state["text.embed_tokens.weight"]}
    model.load_state_dict(state, strict=True, assign=True)
    if model.config.tie_word_embeddings:
        model.lm_head.weight = model.text.embed_tokens.weight
    return model.requires_grad_(False).eval()
