"""Safetensors files whose headers are written by hand."""

import json
from pathlib import Path


def entry(start: int) -> str:
    """One number at byte `start`, as a header has it."""
    return json.dumps({"dtype": "F32", "shape": [1], "data_offsets": [start, start + 4]})


def shard(path: Path, header: str, data: int) -> Path:
    """A file with this header and so many bytes of data."""
    text = header.encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(data))
    return path


def twice(path: Path, name: str) -> None:
    """Write the file anew, with the entry `name` of its header a second time."""
    whole = path.read_bytes()
    length = int.from_bytes(whole[:8], "little")
    header, data = whole[8 : 8 + length].decode().rstrip(), whole[8 + length :]
    header = f'{{"{name}":{json.dumps(json.loads(header)[name])},{header[1:]}'
    path.write_bytes(len(header.encode()).to_bytes(8, "little") + header.encode() + data)
