"""The device and the dtype of a model whose user did not choose them.

    device              dtype
    cuda, where it is   that of the files; fp16 for bf16 files on a GPU older than Ampere
    cpu, elsewhere      fp32 where the model then takes less than 4 GB, else bf16; fp16, many times slower, becomes bf16
    mps, if asked for   bf16 for files of 16 bits where this Mac computes it, for fp16 can overflow; else fp32

Apple's GPU (mps) is used only if it is asked for: what minivlm computes there has not been compared with a CPU on a
real Mac yet. `tests/test_mps.py` does so where there is one. This GPU has no float64.
"""

from collections import Counter

import torch

from minivlm.checkpoints.plan import Plan
from minivlm.errors import CheckpointError

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
UNTRIED = "minivlm has not been tried on Apple's GPUs: hold an answer against the one on device cpu."


def default_device() -> str:
    """Where a model computes if its user does not choose: "cuda" where there is one, else "cpu"."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def parse_device(device: str | torch.device) -> torch.device:
    """The device. Raises `CheckpointError` if torch does not know it or cannot compute there."""
    try:
        parsed = torch.device(device)
    except (RuntimeError, TypeError) as cause:
        raise CheckpointError(f"device must be 'cpu', 'cuda', 'cuda:1', 'mps', ..., found {device!r}.") from cause
    if parsed.type == "cuda" and (parsed.index or 0) >= torch.cuda.device_count():
        raise CheckpointError(f"{device} was asked for, but torch sees {torch.cuda.device_count()} GPUs; try 'cpu'.")
    if not computes(parsed, torch.float32):  # "meta" holds no numbers, "mps" is Apple's, ...
        raise CheckpointError(f"{device} was asked for, but torch cannot compute there; try 'cpu'.")
    return parsed


def computes(device: str | torch.device, dtype: torch.dtype) -> bool:
    """Whether the device gives a right product of two numbers in this dtype."""
    try:
        number = torch.full((1, 1), 2.0, dtype=dtype).to(device)
        return (number @ number).cpu().item() == 4
    except (RuntimeError, AssertionError, ImportError, TypeError):
        return False


def choose_dtype(
    plan: Plan, device: torch.device, asked: str | torch.dtype | None
) -> tuple[torch.dtype, tuple[str, ...]]:
    """The dtype to compute in, and notes where it is neither what was asked for nor that of the files.

    Raises `CheckpointError` for an unknown dtype, or one that the device does not have.
    """
    wanted = known_dtype(asked)
    if device.type == "cpu":
        return cpu_dtype(plan, wanted)
    if device.type == "mps":
        return mps_dtype(plan, wanted)
    dtype = wanted or file_dtype(plan)
    if dtype == torch.bfloat16 and device.type == "cuda" and torch.cuda.get_device_capability(device) < (8, 0):
        return torch.float16, ("This GPU has no bfloat16: computed in float16 instead.",)
    return dtype, ()


def known_dtype(asked: str | torch.dtype | None) -> torch.dtype | None:
    """The dtype of this name, or the dtype itself. Raises `CheckpointError` for one that is not computed with."""
    if isinstance(asked, str):
        if asked not in DTYPES:
            raise CheckpointError(f"dtype must be one of {', '.join(DTYPES)}, found {asked!r}.")
        return DTYPES[asked]
    if asked is not None and asked not in DTYPES.values():
        raise CheckpointError(f"dtype must be one of {', '.join(DTYPES)}, found {asked}.")
    return asked


def file_dtype(plan: Plan) -> torch.dtype:
    """The dtype that most bytes of the files have."""
    sizes: Counter[str] = Counter()
    for header in plan.taken.values():
        sizes[header.dtype] += header.bytes
    return FILE_DTYPES[sizes.most_common(1)[0][0]]


def cpu_dtype(plan: Plan, wanted: torch.dtype | None) -> tuple[torch.dtype, tuple[str, ...]]:
    if wanted == torch.float16:
        return torch.bfloat16, ("float16 is many times slower on a CPU: computed in bfloat16 instead.",)
    small = plan.parameters * torch.float32.itemsize < SMALL_IN_FP32
    return wanted or (torch.float32 if small else torch.bfloat16), ()


def mps_dtype(plan: Plan, wanted: torch.dtype | None) -> tuple[torch.dtype, tuple[str, ...]]:
    if wanted == torch.float64:
        raise CheckpointError(
            "float64 was asked for on mps, but Apple's GPUs compute with 32 bits at most; take dtype float32, or "
            "device cpu."
        )
    dtype = wanted or (torch.bfloat16 if file_dtype(plan).itemsize == 2 else torch.float32)
    if dtype == torch.bfloat16 and not computes("mps", torch.bfloat16):
        return torch.float32, (UNTRIED, "This Mac computes no bfloat16 (macOS 14 does): computed in float32 instead.")
    return dtype, (UNTRIED,)
