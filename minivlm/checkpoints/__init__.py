"""Checkpoints: find, check in full, load and save them. No file of a checkpoint is trusted, and none is run."""

from minivlm.checkpoints.checkpoint_report import CheckpointReport
from minivlm.checkpoints.load import Loaded, inspect_checkpoint, load_checkpoint
from minivlm.checkpoints.maker import make_random_checkpoint
from minivlm.checkpoints.parity import parity_ladder
from minivlm.checkpoints.save import save_checkpoint
from minivlm.files import read_json_file

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
