"""Weights on a CPU: where their bytes are.

mapped     in their files, which the system maps into memory and reads when they are used: loading takes no time and
           no memory of the process, and several processes share one copy. But whoever cuts or rewrites a file while
           it is in use changes the model, or ends the process (SIGBUS), and nobody can catch that
resident   in memory of the process, in large pages where the system grants them (`madvise`), which memory is read
           from faster. What becomes of the files does not matter any more
"""

import ctypes
import mmap
from contextlib import suppress

import torch
from torch import Tensor

from minivlm.errors import CheckpointError
from minivlm.files import torchrun

MEMORY = ("mapped", "resident")
PRIVATE = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if hasattr(mmap, "MAP_PRIVATE") else {}  # not on Windows
SMALL = 2**16  # bytes; tensors below lie where torch puts them. More there would keep freed buffers from the system


def resident(tensor: Tensor) -> Tensor:
    """A copy of a CPU tensor in the process's own memory."""
    if tensor.nbytes < SMALL:
        return tensor.clone()
    memory = mmap.mmap(-1, tensor.nbytes, **PRIVATE)
    with suppress(AttributeError, OSError):  # not on Linux, or a kernel without large pages
        memory.madvise(mmap.MADV_HUGEPAGE)
    return torch.frombuffer(memory, dtype=tensor.dtype).view(tensor.shape).copy_(tensor)  # it keeps `memory` alive


def return_freed_memory() -> None:
    """Give back to the system what this process has freed: glibc keeps buffers below the last small tensor."""
    with suppress(AttributeError, OSError, TypeError):  # another C library, or another system
        ctypes.CDLL(None).malloc_trim(0)


def choose_memory(
    asked: str | None, device: torch.device, size: int, free: int | None, *, passing: bool = False
) -> str:
    """One of MEMORY: the `asked` one, else resident where the weights take at most half of what is `free` (bytes).

    Mapped files are shared: so several processes of torchrun on one machine have together what is free, and weights
    that are only `passing`, on their way to other devices, stay mapped. Raises `CheckpointError` for an unknown one,
    and for "mapped" on a device that cannot compute on files.
    """
    if asked not in (None, *MEMORY):
        raise CheckpointError(f"memory must be {', '.join(MEMORY)} or None, by what is free, found {asked!r}.")
    if asked == "mapped" and device.type != "cpu":
        raise CheckpointError(f"memory='mapped' is for a CPU: {device} needs the weights in its own memory.")
    if device.type != "cpu":
        return "resident"
    processes = torchrun("LOCAL_WORLD_SIZE", alone=1)
    enough = not passing and free is not None and 2 * size * processes <= free
    return asked or ("resident" if enough else "mapped")
