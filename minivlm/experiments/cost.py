"""What work costs: seconds and bytes, for `bench.py` and its neighbours."""

import os
import sys
import time
from collections.abc import Callable, Sequence
from itertools import accumulate
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from minivlm.files import parse_json


def now(device: torch.device) -> float:
    """The time in seconds, after all work queued on the device is done."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
    return time.perf_counter()


def peak_memory(work: Callable[[], Any], device: torch.device) -> int | None:
    """Peak bytes of torch's allocator during `work`, minus those before; None for a device without a count."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        work()
        return torch.cuda.max_memory_allocated(device) - before
    if device.type != "cpu":
        work()
        return None
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # otherwise the profiler's library writes to stderr
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        work()
    with TemporaryDirectory() as folder:
        file = Path(folder) / "profile.json"
        profiled.export_chrome_trace(str(file))
        events = parse_json(file.read_bytes())["traceEvents"]
    changes = sorted((event for event in events if event["name"] == "[memory]"), key=lambda event: event["ts"])
    return max(accumulate((event["args"]["Bytes"] for event in changes), initial=0))


def held_memory(device: torch.device) -> int | None:
    """Bytes that this process holds: on CUDA those of tensors there; on a CPU its own memory without mapped files.

    None where nobody counts them: other devices, and a CPU of another system than Linux.
    """
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device)
    if device.type != "cpu" or sys.platform != "linux":
        return None
    lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("RssAnon")), None)


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, least and most of some values."""
    return {"median": median(values), "least": min(values), "most": max(values)}
