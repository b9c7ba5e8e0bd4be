"""What a test shows: tensors and plain values by name, saved in one file."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

ROUNDING = 1e-5  # a relative error of fp32 after some operations
PLAIN_TYPES = (str, int, float, bool, type(None))
DTYPES = {  # as a safetensors file names them
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


@dataclass
class Shown:
    """Everything that a test has shown."""

    tensors: dict[str, Tensor] = field(default_factory=dict)
    plain: dict[str, object] = field(default_factory=dict)
    within: dict[str, float] = field(default_factory=dict)  # tolerance by name, see `Show`

    def save(self, path: Path) -> None:
        """Write a safetensors file, with plain values and tolerances in its header.

        It is written byte by byte, because the library's own writer uses ctypes, which the audit hook refuses from
        Python 3.14 on.
        """
        header: dict = {"__metadata__": {"plain": json.dumps(self.plain), "within": json.dumps(self.within)}}
        end = 0
        for name, tensor in self.tensors.items():
            begin, end = end, end + tensor.nbytes
            header[name] = {"dtype": DTYPES[tensor.dtype], "shape": [*tensor.shape], "data_offsets": [begin, end]}
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        with path.open("wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            for tensor in self.tensors.values():
                file.write(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())

    @classmethod
    def load(cls, path: Path) -> "Shown":
        """What `save` wrote. Any other file raises an error of safetensors, a KeyError or a ValueError."""
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
            header = {name: json.loads((file.metadata() or {})[name]) for name in ("plain", "within")}
        if not all(isinstance(part, dict) for part in header.values()):
            raise ValueError("the header of what was shown is no dict")
        return cls(tensors, **header)


class Show:
    """What a test calls: `show(weights=w, heads=3)`; names must differ within a test."""

    def __init__(self) -> None:
        self.shown = Shown()

    def __call__(self, within: float = ROUNDING, **values: object) -> None:
        """Show `values`: tensors, numbers, words, None, or lists, tuples and dicts of plain ones.

        `within`: how far numbers may be off, as a share of the largest that is expected. Whole numbers must be equal.
        """
        self.named(values, within)

    def named(self, values: Mapping[str, object], within: float = ROUNDING) -> None:
        """The same for values whose names are made by the test: `show.named({f"layer_{number}": map_})`.

        Raises ValueError if a name was shown before, TypeError for a value that cannot be shown.
        """
        for name, value in values.items():
            if name in self.shown.within:
                raise ValueError(f"This test shows {name!r} twice.")
            self.shown.within[name] = within
            if isinstance(value, Tensor):
                if value.dtype not in DTYPES:
                    raise TypeError(f"{name} is a tensor of {value.dtype}: expected one of {[*DTYPES]}.")
                self.shown.tensors[name] = value.detach().cpu().contiguous().clone()
            else:
                self.shown.plain[name] = as_plain(value, name)


def as_plain(value: object, name: str) -> object:
    """`value` in JSON types; raises TypeError if it has none. `name`: what the error calls it."""
    if isinstance(value, PLAIN_TYPES):
        return value
    if isinstance(value, Mapping):
        return {str(key): as_plain(part, f"{name}[{key!r}]") for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_plain(part, f"{name}[{index}]") for index, part in enumerate(value)]
    raise TypeError(f"{name} is a {type(value).__name__}: expected a tensor, a number, a word, or lists of them.")
