"""Checkpoints: found, read with suspicion, checked in full, loaded once, saved so that others can read them."""

from minivlm.checkpoints.files import read_json_file
from minivlm.checkpoints.load import Loaded, inspect_checkpoint, load_checkpoint
from minivlm.checkpoints.report import Report

__all__ = [
    "Loaded",
    "Report",
    "inspect_checkpoint",
    "load_checkpoint",
    "read_json_file",
]
