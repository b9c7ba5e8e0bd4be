"""The numbers behind a figure, without matplotlib: checked arrays, and the position of a patch map on its picture.

A map has one value for each patch of the model's square, row by row. Under `crop` the square is smaller than the
picture, whose margin the model does not get. Under `pad` it is larger, and some patches are on the padding.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np
import torch
from PIL import Image

from minivlm.errors import ConfigError
from minivlm.inference.trace import Trace
from minivlm.inputs.image import Box, ImagePreprocessing
from minivlm.inputs.placement import placement

BLACK, WHITE = 0.1, 0.5  # of a picture under a map, in 0..1: where a map is strong, it is lighter than this
SMALLEST_SHARE = 0.005  # of a map on padding: a smaller share is not mentioned
LETTERS = 9.5  # of a title for each inch of its figure
Curves = Mapping[str, tuple[Any, Any, Any]]  # mean, low and high of each layer


# --- words -----------------------------------------------------------------------------------------------------------


def short_name(model: str) -> str:
    """The model's name in a figure: a hub name as it is, of a folder only its last part."""
    path = Path(model).expanduser()
    return path.resolve().name if path.is_absolute() or path.exists() else model


def folded(title: str, inches: float) -> str:
    """A title broken into lines for a figure of `inches` width; its own line breaks are kept."""
    return "\n".join(fill(line, max(12, int(LETTERS * inches))) for line in title.splitlines())


# --- numbers ---------------------------------------------------------------------------------------------------------


def numbers(values: Any, dims: int, what: str) -> np.ndarray:
    """A tensor, array or list as float64 with `dims` axes; nan is allowed. Raises `ConfigError` for anything else."""
    try:
        array = torch.as_tensor(values).detach().cpu().double().numpy()
    except (TypeError, ValueError, RuntimeError) as error:  # ragged lists, texts, None
        raise ConfigError(f"{what} must be numbers in {dims} dimension(s), found {values!r:.60}: {error}.") from error
    if array.ndim != dims or not array.size:
        raise ConfigError(f"{what} must have {dims} dimension(s) and not be empty, found the shape {array.shape}.")
    if np.isinf(array).any():
        raise ConfigError(f"{what} must be finite, found {np.isinf(array).sum()} infinite number(s).")
    return array


def as_grid(values: Any) -> np.ndarray:
    """A map (P,) as the model's square (side, side), row by row. Raises `ConfigError` for another P and for nan."""
    flat = numbers(values, 1, "A map of the picture")
    side = math.isqrt(len(flat))
    if side**2 != len(flat):
        raise ConfigError(
            f"A map has one value for each patch of a square, so there can be 64 = 8 x 8 of them; found {len(flat)}. "
            "If the prompt has several pictures, pass the part of one picture."
        )
    if np.isnan(flat).any():
        raise ConfigError(f"A map of the picture must have a number for each patch, found {np.isnan(flat).sum()} nan.")
    return flat.reshape(side, side)


def word_grids(trace: Trace, tokens: Sequence[int], layers: Sequence[int], recipe: ImagePreprocessing) -> np.ndarray:
    """The pooled maps (tokens, layers, side, side) of a trace.

    Raises `ConfigError` for a trace with other preprocessing than `recipe`, and for tokens or layers it does not have.
    """
    if recipe.describe() != trace.facts["recipe"]:
        raise ConfigError(f"The trace was made with {trace.facts['recipe']!r}, not with {recipe.describe()!r}.")
    require_places(tokens, trace.pooled.shape[0], "tokens")
    require_places(layers, trace.pooled.shape[1], "layers")
    return np.array([[as_grid(trace.pooled[token, layer]) for layer in layers] for token in tokens])


def require_places(places: Collection[int], count: int, what: str) -> None:
    """Raise `ConfigError` unless `places` are indices below `count`, at least one; `what` names them in the message."""
    wrong = [place for place in places if not 0 <= place < count]
    if wrong or not places:
        raise ConfigError(f"The {what} must be some of 0 to {count - 1}, found {wrong or 'none'}.")


def as_lines(curves: Curves, layers: Collection[int]) -> dict[str, np.ndarray]:
    """Each curve as an array (3, L): mean, low and high. Raises `ConfigError` unless L is the same for all."""
    lines = {}
    for name, curve in curves.items():
        parts = [numbers(part, 1, f"The curve {name!r}") for part in curve]
        if len(parts) != 3 or len({len(part) for part in parts}) != 1:
            lengths = [len(part) for part in parts]
            raise ConfigError(f"The curve {name!r} must be (mean, low, high) of one length, found lengths {lengths}.")
        lines[name] = np.stack(parts)
    widths = {line.shape[1] for line in lines.values()} | ({len(layers)} if layers else set())
    if not lines or len(widths) != 1:
        raise ConfigError(f"Curves need a value for each of the same layers, found the lengths {sorted(widths)}.")
    return lines


# --- places ----------------------------------------------------------------------------------------------------------


def model_square(size: tuple[int, int], recipe: ImagePreprocessing) -> Box:
    """What the patches cover of the model's square, in the pixels of a picture of `size` (width, height); under `pad`
    it extends beyond it.
    """
    return placement(*size, recipe).to_picture((0, 0, recipe.seen, recipe.seen))


def share_on_padding(grid: np.ndarray, size: tuple[int, int], recipe: ImagePreprocessing) -> float:
    """The share (0..1) of a map (side, side) outside the picture; a patch on its edge counts by its area."""
    left, top, right, bottom = model_square(size, recipe)
    rows, columns = inside(top, bottom, len(grid), size[1]), inside(left, right, len(grid), size[0])
    total = grid.sum()
    return float(1 - (grid * np.outer(rows, columns)).sum() / total) if total else 0.0


def inside(start: float, stop: float, parts: int, length: int) -> np.ndarray:
    """`start`..`stop` in equal parts: the share of each that lies within 0..`length`, (parts,)."""
    edges = np.linspace(start, stop, parts + 1)
    return np.diff(edges.clip(0, length)) / np.diff(edges)


def unseen(grid: np.ndarray, size: tuple[int, int], recipe: ImagePreprocessing) -> str:
    """A note for the reader where picture and square differ; "" where they do not."""
    if recipe.mode == "crop" and size[0] != size[1]:
        return "outside the dashed square: cut off, never seen"
    hidden = share_on_padding(grid, size, recipe)
    return f"{hidden:.0%} of the map lies on padding, outside the picture" if hidden >= SMALLEST_SHARE else ""


def heading(title: str, inches: float, grid: np.ndarray, size: tuple[int, int], recipe: ImagePreprocessing) -> str:
    """The text above a map: its title in lines, and the note of `unseen`."""
    return "\n".join(filter(None, (folded(title, inches), unseen(grid, size, recipe))))


def dimmed(image: Image.Image) -> np.ndarray:
    """A picture as background of a map: half grey and within `BLACK`..`WHITE`, (height, width, 3)."""
    colour = np.asarray(image, dtype=np.float32) / 255
    grey = colour.mean(axis=-1, keepdims=True)
    return BLACK + (WHITE - BLACK) * (colour + grey) / 2
