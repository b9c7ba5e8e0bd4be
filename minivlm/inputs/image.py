"""A picture -> the pixels of the vision tower. (The way back, from places in these pixels, is in `placement.py`.)

There are three ways to make a square of a picture, and they decide what the model can see:

    crop     scale the short side to the square, cut off what is longer             (CLIP, and the hub's LLaVA files)
    pad      extend the picture to a square in the mean colour, then scale it       (how LLaVA-1.5 was trained)
    stretch  scale both sides to the square, whatever the shape                     (SigLIP, LLaVA-Interleave)

`default_mode` says which one a checkpoint gets. On a photo that is not square the two differ a lot, so every result
names its preprocessing (`ImagePreprocessing.describe`).
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image

from minivlm.errors import ConfigError, ImageError
from minivlm.files import printable
from minivlm.inputs.pictures import load_image

__all__ = [
    "CLIP_MEAN",
    "CLIP_STD",
    "ImagePreprocessing",
    "default_mode",
    "load_image",
    "to_pixels",
]

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
SIGLIP_MEAN = SIGLIP_STD = (0.5, 0.5, 0.5)  # of its processor, where a file names none
MODES = ("crop", "pad", "stretch")
LARGEST_NUMBER = 1e30  # fits into float32; inf, nan and integers too long for a float are not below it
MOST_PIXELS = 100_000_000  # of a scaled or padded picture; only extremely long and thin ones have more
PROCESSORS = re.compile(r"(CLIP|Llava|Siglip)(ImageProcessor(Fast|Pil)?|FeatureExtractor)")
Box = tuple[float, float, float, float]  # left, top, right, bottom
Channels = tuple[float, float, float]  # red, green, blue
Settings = Mapping[str, Any]  # a JSON object


@dataclass(frozen=True)
class ImagePreprocessing:
    """How a picture becomes pixels: bicubic to `size` x `size`, then (value / 255 - mean) / std for each channel.

    Without a preprocessor file, mean and std are CLIP's:
    `ImagePreprocessing(image_size, mode=default_mode({}, config))`.
    """

    size: int
    mean: Channels = CLIP_MEAN
    std: Channels = CLIP_STD
    mode: str = "pad"
    patch: int = 1  # the side of the vision tower's patches: a margin narrower than one is never seen

    def __post_init__(self) -> None:
        if isinstance(self.size, bool) or not isinstance(self.size, int) or self.size < 1:
            raise ConfigError(f"The size of the model's square must be a positive whole number, found {self.size!r}.")
        if not 1 <= self.patch <= self.size:
            raise ConfigError(f"A patch has 1 to {self.size} pixels on each side, found {self.patch!r}.")
        if self.mode not in MODES:
            raise ConfigError(f"The image mode must be one of {', '.join(MODES)}, found {self.mode!r}.")
        require_channels("image_mean", self.mean)
        require_channels("image_std", self.std)
        if min(self.std) <= 0:
            raise ConfigError(f"image_std must be positive, found {self.std!r}.")

    @classmethod
    def from_config(cls, preprocessor: Settings, *, mode: str | None = None) -> "ImagePreprocessing":
        """From the JSON of `preprocessor_config.json`, or of `processor_config.json`, which holds it in transformers 5.

        `mode` overrules the file. Raises `ConfigError` for whatever the file asks for and is not implemented.
        """
        settings = image_settings(preprocessor)
        refuse_unknown(settings)
        return cls(
            size=square_size(settings),
            mean=channels(settings, "image_mean", SIGLIP_MEAN if is_siglip(settings) else CLIP_MEAN),
            std=channels(settings, "image_std", SIGLIP_STD if is_siglip(settings) else CLIP_STD),
            mode=default_mode(settings, {}) if mode is None else mode,
        )

    @property
    def seen(self) -> int:
        """Pixels on each side of the square, from the top left, that the patches cover."""
        return self.size - self.size % self.patch

    @property
    def fill(self) -> tuple[int, int, int]:
        """The mean colour in 0..255, rounded down to whole numbers as in the original code."""
        red, green, blue = (int(value * 255) for value in self.mean)
        return red, green, blue

    def describe(self) -> str:
        """One line for results, such as `crop: short side to 336 (bicubic), centre 336 x 336`."""
        square = f"{self.size} x {self.size}"
        if self.mode == "crop":
            return f"crop: short side to {self.size} (bicubic), centre {square}"
        if self.mode == "stretch":
            return f"stretch: to {square} (bicubic), whatever the shape"
        return f"pad: to a square with colour {self.fill}, then {square} (bicubic)"


def default_mode(preprocessor: Settings, model_config: Settings) -> str:
    """The mode for a checkpoint whose user did not choose. The arguments are the JSON of its files.

    1. `do_pad: true` decides, except for processors of CLIP and SigLIP, which do not read it; or an
       `image_aspect_ratio` in either file.
    2. `stretch` for SigLIP's processor, and for any whose `size` has a height and a width, or is one number for both.
    3. LLaVA-1.5 weights get `pad`, although the hub's preprocessor file says crop: they were trained with padded
       pictures (`image_aspect_ratio: pad` in liuhaotian/llava-v1.5-7b), and the papers evaluate them so. They are
       recognised by their language model, Vicuna 1.5.
    4. Otherwise `crop`, as in CLIP.

    Raises `ConfigError` for another `image_aspect_ratio`, and where the file makes no square: no crop, and one side.
    """
    settings = image_settings(preprocessor)
    ratio = settings.get("image_aspect_ratio") or model_config.get("image_aspect_ratio")
    if (settings.get("do_pad") is True and not of_a_tower(settings)) or ratio == "pad":
        return "pad"
    if ratio not in (None, "square"):
        raise ConfigError(f"image_aspect_ratio {ratio!r} is not implemented (pad and square are).")
    if stretches(settings):
        return "stretch"
    text_config = model_config.get("text_config")
    base = text_config.get("_name_or_path") if isinstance(text_config, dict) else None
    is_llava_1_5 = isinstance(base, str) and re.search(r"vicuna.*v1\.5", base, re.IGNORECASE)
    if is_llava_1_5 and ratio is None:
        return "pad"
    if not settings.get("do_center_crop", True):
        raise ConfigError(
            f"The preprocessor file scales pictures by their short side (size {settings.get('size')!r}) and crops none "
            "(do_center_crop: false), so they are no squares, which this model needs. Correct the file, or choose an "
            f"image_mode: {', '.join(MODES)}."
        )
    return "crop"


def stretches(settings: Settings) -> bool:
    """Whether an image processor scales both sides to the square: SigLIP's does, and any that is told both sides."""
    size, square = settings.get("size"), settings.get("default_to_square") is True
    return is_siglip(settings) or (square and not isinstance(size, dict)) or len(edge_lengths(size)) == 2


def is_siglip(settings: Settings) -> bool:
    """Whether the image processor is SigLIP's."""
    return str(kind_of(settings)).startswith("Siglip")


def of_a_tower(settings: Settings) -> bool:
    """Whether the image processor is one of CLIP or SigLIP, which pad nothing, and not LLaVA's own."""
    return str(kind_of(settings)).startswith(("CLIP", "Siglip"))


def kind_of(settings: Settings) -> Any:
    """What the file calls its image processor; None if it does not."""
    return settings.get("image_processor_type", settings.get("feature_extractor_type"))


def to_pixels(image: Image.Image, preprocessing: ImagePreprocessing) -> torch.Tensor:
    """An RGB picture -> float32 (3, size, size).

    `crop` equals transformers' `CLIPImageProcessorPil` bit for bit, `stretch` its `SiglipImageProcessorPil`.
    """
    square = {"crop": crop_square, "pad": pad_square, "stretch": stretch_square}[preprocessing.mode](
        image, preprocessing
    )
    values = (np.asarray(square).astype(np.float64) * (1 / 255)).astype(np.float32)  # (size, size, 3)
    mean, std = (np.array(numbers, dtype=np.float32) for numbers in (preprocessing.mean, preprocessing.std))
    pixels = (values - mean) / std
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))  # (3, size, size)


def crop_square(image: Image.Image, preprocessing: ImagePreprocessing) -> Image.Image:
    width, height = scaled_size(*image.size, preprocessing.size)
    refuse_huge(image, width * height)
    left, top = (width - preprocessing.size) // 2, (height - preprocessing.size) // 2
    resized = image.resize((width, height), Image.Resampling.BICUBIC)
    return resized.crop((left, top, left + preprocessing.size, top + preprocessing.size))


def pad_square(image: Image.Image, preprocessing: ImagePreprocessing) -> Image.Image:
    side = max(image.size)
    if image.width != image.height:
        refuse_huge(image, side * side)
        canvas = Image.new("RGB", (side, side), preprocessing.fill)
        canvas.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
        image = canvas
    return image.resize((preprocessing.size, preprocessing.size), Image.Resampling.BICUBIC)


def stretch_square(image: Image.Image, preprocessing: ImagePreprocessing) -> Image.Image:
    return image.resize((preprocessing.size, preprocessing.size), Image.Resampling.BICUBIC)


def scaled_size(width: int, height: int, short: int) -> tuple[int, int]:
    """Width and height when the short side becomes `short`; the long one is cut to a whole number, as in CLIP."""
    if width <= height:
        return short, int(short * height / width)
    return int(short * width / height), short


def refuse_huge(image: Image.Image, pixels: int) -> None:
    if pixels > MOST_PIXELS:
        raise ImageError(
            f"A picture of {image.width} x {image.height} is too long and thin: on its way to the model's square it "
            f"would take {pixels} pixels, at most {MOST_PIXELS} are allowed. Cut or shrink it first."
        )


def image_settings(preprocessor: Settings) -> Settings:
    """The settings of the image processor, which transformers 5 writes into an inner object."""
    inner = preprocessor.get("image_processor", preprocessor)
    if not isinstance(inner, dict):
        raise ConfigError(f"image_processor in processor_config.json must be a dictionary, found {inner!r}.")
    return inner


def refuse_unknown(settings: Settings) -> None:
    """Raise `ConfigError` if the file asks for a step that `to_pixels` does in another way, or not at all."""
    kind = kind_of(settings)
    if kind is not None and not (isinstance(kind, str) and PROCESSORS.fullmatch(kind)):
        raise ConfigError(
            f"The image processor {kind!r} is not implemented; CLIPImageProcessor, LlavaImageProcessor and "
            "SiglipImageProcessor are. "
            "Models that cut a picture into tiles (LLaVA-NeXT) are not supported."
        )
    size = settings.get("size")
    if is_siglip(settings) and (not isinstance(size, dict) or "shortest_edge" in size):
        raise ConfigError(
            f"size {size!r} does not fit {kind}, which scales both sides: expected a height and a width, such as "
            '{"height": 384, "width": 384}. Take the preprocessor file of the same model, or correct it.'
        )
    for switch in ("do_resize", "do_rescale", "do_normalize"):
        if (value := settings.get(switch, True)) is not True:
            raise ConfigError(
                f"{switch}: {printable(json.dumps(value))} in the preprocessor file is not implemented; true was "
                "expected."
            )
    if settings.get("resample") not in (None, int(Image.Resampling.BICUBIC)):
        raise ConfigError(f"resample {settings['resample']!r} is not implemented; 3 (bicubic) was expected.")
    factor = settings.get("rescale_factor")
    if factor is not None and not (is_finite_number(factor) and math.isclose(factor, 1 / 255)):
        raise ConfigError(f"rescale_factor {factor!r} is not implemented; 1/255 was expected.")


def square_size(settings: Settings) -> int:
    """The side of the model's square, from `size`, written in one of three ways, and `crop_size`, which must agree."""
    size, crop = settings.get("size"), settings.get("crop_size")
    edges = edge_lengths(size)
    if settings.get("do_center_crop") is not False and crop is not None:
        edges += edge_lengths(crop)
    if any(edge != edges[0] for edge in edges) or edges[0] is None:
        raise ConfigError(f"size {size!r} and crop_size {crop!r} must name one and the same square, such as 224 x 224.")
    return edges[0]


def edge_lengths(size: Any) -> list[Any]:
    """The lengths in `{"shortest_edge": n}`, `{"height": n, "width": n}` or `n`. Raises `ConfigError` for further ones,
    such as a `longest_edge`: a limit that this preprocessing does not have.
    """
    if not isinstance(size, dict):
        return [size]
    named = {name: length for name, length in size.items() if length is not None}
    if "shortest_edge" in named and len(named) == 1:
        return [named["shortest_edge"]]
    if further := set(named) - {"height", "width"}:
        raise ConfigError(
            f"size {size!r} is not implemented ({', '.join(sorted(map(str, further)))}); expected a shortest_edge "
            "alone, or a height and a width."
        )
    return [named.get("height"), named.get("width")]


def channels(settings: Settings, name: str, default: Channels) -> Channels:
    """One number for each channel from the file. Raises `ConfigError` unless there are three."""
    values = settings.get(name)
    if values is None:
        return default
    return require_channels(name, values)


def require_channels(name: str, values: Any) -> Channels:
    """`values` as a tuple. Raises `ConfigError`, with the setting's `name`, unless they are three finite numbers."""
    numbers = tuple(values) if isinstance(values, (list, tuple)) else (values,)
    if len(numbers) != 3 or not all(is_finite_number(value) for value in numbers):
        raise ConfigError(f"{name} must be three finite numbers (red, green, blue), found {numbers!r}.")
    red, green, blue = numbers
    return red, green, blue


def is_finite_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < LARGEST_NUMBER
