"""Folders for results. One that cannot be written is refused before any work is done; for files: `require_place`."""

import tempfile
from pathlib import Path

from minivlm.errors import ConfigError
from minivlm.files import path_of


def writable_folder(name: str) -> Path:
    """The folder, made if it is missing. Raises `ConfigError` if no file can be written there."""
    folder = path_of(name, ConfigError)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as cause:
        reason = "it is a file" if folder.is_file() else cause.strerror or cause
        raise ConfigError(f"No file can be written in the folder '{folder}': {reason}. Give another folder.") from cause
    return folder
