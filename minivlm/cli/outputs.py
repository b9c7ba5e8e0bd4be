"""Where results go. A place that cannot be written is refused before any work is done."""

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


def writable_file(name: str) -> Path:
    """The path of a file that is written later. Raises `ConfigError` if it is a folder, or lies in none."""
    file = path_of(name, ConfigError)
    if file.is_dir():
        raise ConfigError(f"'{file}' is a folder. Give the name of a file, in it or elsewhere.")
    if not file.absolute().parent.is_dir():
        raise ConfigError(f"'{file}' would lie in a folder that is not there. Make the folder first, or give another.")
    return file
