"""Checkpoints: find, check in full, load and save them. No file of a checkpoint is trusted, and none is run.

What is named here is imported when it is first asked for: the course reads files with `shards` in a process where the
network, which may be a student's, must not be imported.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from minivlm.files import read_json_file

if TYPE_CHECKING:
    from minivlm.checkpoints.checkpoint_report import CheckpointReport
    from minivlm.checkpoints.load import Loaded, inspect_checkpoint, load_checkpoint
    from minivlm.checkpoints.maker import make_random_checkpoint
    from minivlm.checkpoints.parity import parity_ladder
    from minivlm.checkpoints.save import save_checkpoint

HOME = {
    "CheckpointReport": "checkpoint_report",
    "Loaded": "load",
    "inspect_checkpoint": "load",
    "load_checkpoint": "load",
    "make_random_checkpoint": "maker",
    "parity_ladder": "parity",
    "save_checkpoint": "save",
}  # name -> the module that defines it
__all__ = [
    "CheckpointReport",
    "Loaded",
    "inspect_checkpoint",
    "load_checkpoint",
    "make_random_checkpoint",
    "parity_ladder",
    "read_json_file",
    "save_checkpoint",
]


def __getattr__(name: str) -> Any:
    if name not in HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"{__name__}.{HOME[name]}"), name)  # found without this next time
    return value


def __dir__() -> list[str]:
    return [*globals(), *HOME]
