"""Anything that holds a picture -> an upright PIL picture in RGB, or an `ImageError` that says what is wrong with it.

Five file formats are read, recognised by their content and never by their name: the other formats of Pillow are rare
in this field, and their decoders have had security holes. What is decided here, and why:

* EXIF orientation is honoured, as transformers' `load_image` does with files. The original LLaVA code ignores it:
  `upright=False`.
* Transparency is dropped by `convert("RGB")`, as the original LLaVA code does, so that transparent pixels show their
  stored colour, with a warning. (transformers drops it from files with an alpha channel; palettes, and pictures that
  were opened before, it puts on white.) `background=(255, 255, 255)` puts a picture on a colour. A PNG's one
  transparent colour is compared in the bits of its file, which Pillow does for 1 and 8 bits alone.
* 16 bits are scaled to 8 (Pillow alone would clip them to white). Pillow's 32-bit mode I does not say how many bits
  it holds: 8, 12 or 16, by its largest value, with a warning. An embedded colour profile is ignored, as everywhere.
* Of an animation the first frame is read, with a warning.
* A small file may hold a huge picture, so its sides are looked at before it is decoded, see picture_limits.py.
"""

import os
import warnings
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from PIL.ImageFile import ImageFile

from minivlm.errors import ImageError, MinivlmError, brief
from minivlm.files import path_of
from minivlm.inputs.picture_limits import LIMITS, PictureLimits

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF")
SCAN, MOST_SCANS = b"\xff\xda", 100  # how a scan of a JPEG begins; progressive ones have about ten
CHANNELS = (1, 3, 4)  # grey, RGB, RGBA
Colour = tuple[int, int, int]


def load_image(
    source: Any, *, upright: bool = True, background: Colour | None = None, limits: PictureLimits = LIMITS
) -> Image.Image:
    """An RGB picture from a path, the bytes of a file, a PIL picture, a numpy array or a torch tensor.

    Arrays are (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), in uint8, uint16, bool or float in [0, 1].
    Tensors are the same, or channels first; where both readings fit, channels first is taken.
    `upright` honours the EXIF orientation; `background` is the colour put under transparency (None: drop it); `limits`
    is how large a file may be, and a picture that is not decoded yet. Raises `ImageError` for everything else.
    """
    name = description_of(source)
    if isinstance(source, Image.Image):
        if isinstance(source, ImageFile):  # whose pixels may still be in its file
            limits.require_pixels(source.size, name)
        return finished(source, name, upright, background)
    if isinstance(source, (np.ndarray, torch.Tensor)):
        return finished(from_array(channels_last(source), name), name, upright, background)
    if not isinstance(source, (str, os.PathLike, bytes, bytearray, memoryview)):
        raise ImageError(
            f"A picture was expected as a path, bytes, a PIL picture, a numpy array or a torch tensor, found {name}."
        )
    data = read_bytes(source, name, limits) if isinstance(source, (str, os.PathLike)) else bytes(source)
    if not data:
        raise ImageError(f"{name} is empty: a picture file of at least a few bytes was expected.")
    return finished(open_picture(data, name, limits), name, upright, background)


def description_of(source: Any) -> str:
    """The picture in the words of error messages."""
    if isinstance(source, (str, os.PathLike)):
        return brief(os.fspath(source), 200)
    if isinstance(source, (bytes, bytearray, memoryview)):
        return f"the picture given as {memoryview(source).nbytes} bytes"
    if isinstance(source, (np.ndarray, torch.Tensor)):
        return f"the picture given as an array of shape {tuple(source.shape)} and type {source.dtype}"
    if isinstance(source, Image.Image):
        return f"the PIL picture of {source.width} x {source.height} in mode {source.mode}"
    return f"an object of type {type(source).__name__}"


def read_bytes(path: str | os.PathLike, name: str, limits: PictureLimits) -> bytes:
    """The bytes of a regular file; nothing is ever fetched from a network."""
    if "://" in os.fsdecode(path) or os.fsdecode(path).startswith("data:"):
        raise ImageError(f"{name} is a web address; minivlm does not fetch pictures. Download it and give the file.")
    file = path_of(os.fsdecode(path), ImageError)
    try:
        if file.is_dir():
            raise ImageError(f"{name} is a folder; the path of one picture file was expected.")
        if file.exists() and not file.is_file():
            raise ImageError(f"{name} is not a regular file (a pipe or a device); a picture file was expected.")
        if file.exists():
            limits.require_bytes(file.stat().st_size, name)
        return file.read_bytes()
    except FileNotFoundError as error:
        raise ImageError(f"{name} does not exist. Check the path; it is read relative to {Path.cwd()}.") from error
    except (OSError, ValueError) as error:  # no permission; a zero byte in the name
        reason = getattr(error, "strerror", None) or error
        raise ImageError(f"{name} could not be read: {reason}. Check the path and its rights.") from error


def open_picture(data: bytes, name: str, limits: PictureLimits) -> ImageFile:
    """Recognise a file, and decode nothing yet. Pillow raises almost anything for damaged data, so all is caught."""
    try:
        image = Image.open(BytesIO(data), formats=FORMATS)
        limits.require_pixels(image.size, name)
        if image.format == "JPEG" and (scans := data.count(SCAN)) > MOST_SCANS:
            raise ImageError(f"{name} has {scans} scans, each over the whole picture; at most {MOST_SCANS} are read.")
        if image.format in ("GIF", "PNG", "WEBP") and getattr(image, "is_animated", False):
            warnings.warn(f"{name} is an animation; its first frame is used.", stacklevel=4)
    except Image.UnidentifiedImageError as error:
        raise ImageError(
            f"{name} is damaged or not a picture that minivlm reads ({', '.join(FORMATS)}). "
            "Convert it (SVG, PDF, TIFF, HEIC, ...) to PNG or JPEG first."
        ) from error
    except MinivlmError:
        raise
    except Image.DecompressionBombError as error:
        raise ImageError(f"{name} is far too large to decode: {error} Scale it down first.") from error
    except Exception as error:
        raise ImageError(f"{name} is damaged or cut short: {error}. Copy or download it again.") from error
    return image


def finished(image: Image.Image, name: str, upright: bool, background: Colour | None) -> Image.Image:
    """Decode a picture completely, turn it upright and bring it to 8-bit RGB."""
    if 0 in image.size:
        raise ImageError(f"{name} has no pixels: it is {image.width} wide and {image.height} high.")
    tiles = getattr(image, "tile", None)  # of a picture that is not decoded yet: how its file stores the pixels
    try:
        image.load()
    except Exception as error:
        raise ImageError(f"{name} is damaged or cut short: {error}. Copy or download it again.") from error
    if background is not None and "transparency" in image.info:
        image = with_transparency_as_decoded(image, name, tiles[0].args if tiles else None)
    return to_rgb(turn_upright(image, name) if upright else image, name, background)


def with_transparency_as_decoded(image: Image.Image, name: str, stored: Any) -> Image.Image:
    """A picture whose one transparent colour has the bits of its pixels; Pillow leaves it as the PNG has it.

    `stored`: Pillow's name of how the file stores its pixels, None if that is not known any more.
    """
    clear = image.info["transparency"]
    if isinstance(clear, tuple) and (max(clear) > 255 or str(stored).startswith("RGB;16")):
        raise ImageError(
            f"{name} has 16 bits a channel and one transparent colour, and is read with 8 bits, by which colours close "
            "to it would be transparent, too. Convert it to 8 bits or to RGBA, or leave the background out."
        )
    if image.mode != "L" or not isinstance(clear, int) or not 0 < clear <= 15:
        return image
    if stored is None and not (np.asarray(image) % 17).any():
        raise ImageError(
            f"{name} was decoded before, and does not say any more whether its transparent grey {clear} has 4 bits or "
            "8. Give the file or its bytes, or leave the background out."
        )
    largest = {"L;2": 3, "L;4": 15}.get(stored) if isinstance(stored, str) else None
    if largest is None or clear > largest:
        return image
    image = image.copy()
    image.info["transparency"] *= 255 // largest
    return image


def turn_upright(image: Image.Image, name: str) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception as error:  # damaged EXIF data raises almost anything
        warnings.warn(f"{name} has unreadable EXIF data ({error}); it is used as stored.", stacklevel=4)
        return image


def to_rgb(image: Image.Image, name: str, background: Colour | None) -> Image.Image:
    if image.mode == "F" or image.mode.startswith("I"):  # floats, 16 and 32 bits
        array, clear = np.asarray(image), image.info.get("transparency")
        image = from_array(array if array.dtype.kind == "f" else whole_numbers(array, name), name)
        if isinstance(clear, int) and background is not None:
            image.putalpha(Image.fromarray(np.where(array == clear, 0, 255).astype(np.uint8)))
    try:
        if image.has_transparency_data:
            image = image.convert("RGBA")  # first: otherwise Pillow warns of palettes with a list of alphas
            if background is None:
                warn_of_transparency(image, name)
            else:
                image = Image.alpha_composite(Image.new("RGBA", image.size, (*background, 255)), image)
        return image.convert("RGB")
    except ValueError as error:
        raise ImageError(f"{name} cannot be converted from mode {image.mode} to RGB: {error}.") from error


def warn_of_transparency(image: Image.Image, name: str) -> None:
    """Warn if a picture (RGBA) has pixels that are not opaque: their stored colour will show, often black."""
    if np.asarray(image.getchannel("A")).min() < 255:
        warnings.warn(
            f"{name} has transparent pixels, which are shown in the colour that is stored there, as the original LLaVA "
            "does; transformers sometimes shows them white. load_image(..., background=(255, 255, 255)) does that.",
            stacklevel=5,
        )


def whole_numbers(array: np.ndarray, name: str) -> np.ndarray:
    """The numbers of Pillow's modes of 16 and 32 bits, as uint8 or uint16; others than these hold are left to fail.

    Mode I, which is 32 bits wide, holds pictures of 8, 12 or 16 bits: the fewest that its largest value needs.
    """
    if array.dtype.itemsize == 2 or array.min() < 0 or array.max() >= 2**16:
        return array if array.dtype.itemsize > 2 else array.astype(np.uint16)
    largest = array.max()
    if largest >= 2**12:
        return array.astype(np.uint16)
    bits = 8 if largest < 2**8 else 12
    warnings.warn(f"{name} does not say how many bits it has: its largest value is {largest}, so {bits}.", stacklevel=4)
    return array.astype(np.uint8) if bits == 8 else ((array * 255 + 2047) // 4095).astype(np.uint8)


def channels_last(source: np.ndarray | torch.Tensor) -> np.ndarray:
    if isinstance(source, np.ndarray):
        return source
    tensor = source.detach().cpu()
    if tensor.ndim == 3 and tensor.shape[0] in CHANNELS:
        tensor = tensor.movedim(0, -1)
    return tensor.float().numpy() if tensor.is_floating_point() else tensor.numpy()  # numpy knows no bfloat16


def from_array(array: np.ndarray, name: str) -> Image.Image:
    """(H, W) or (H, W, 1 | 3 | 4) -> an 8-bit PIL picture."""
    if array.ndim == 3 and array.shape[-1] == 1:
        array = array[..., 0]
    if array.ndim != 2 and not (array.ndim == 3 and array.shape[-1] in CHANNELS):
        raise ImageError(f"{name} does not have a picture's shape: (H, W), (H, W, 3) or (H, W, 4) was expected.")
    if 0 in array.shape:
        raise ImageError(f"{name} has no pixels.")
    return Image.fromarray(np.ascontiguousarray(eight_bits(array, name)))


def eight_bits(array: np.ndarray, name: str) -> np.ndarray:
    if array.dtype == np.uint8:
        return array
    if array.dtype == np.uint16:
        if 0 < array.max() < 2**12:
            warnings.warn(
                f"{name} has 16 bits and no value above {array.max()}: it is nearly black. If its numbers have fewer "
                "bits, scale them, or give uint8.",
                stacklevel=4,
            )
        return ((array.astype(np.uint32) + 128) // 257).astype(np.uint8)  # 65535 / 255 = 257, rounded
    if array.dtype == bool:
        return array * np.uint8(255)
    if array.dtype.kind != "f":
        raise ImageError(f"{name} holds numbers of type {array.dtype}; uint8, uint16, bool or float was expected.")
    if not (array.min() >= 0 and array.max() <= 1):  # NaN fails both comparisons
        raise ImageError(
            f"{name} holds floats from {array.min()} to {array.max()}; 0 to 1 was expected. "
            "Divide by 255, undo a normalisation, or give uint8."
        )
    return np.rint(array * 255).astype(np.uint8)
