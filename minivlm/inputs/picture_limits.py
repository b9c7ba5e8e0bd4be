"""How large a picture may be: looked at before it is decoded, for a file of 20 KB can hold a picture of 1 GB.

MINIVLM_MOST_PIXELS=150000000 minivlm ask scan.png "What is it?"
load_image("scan.png", limits=PictureLimits(pixels=150_000_000))
"""

import os
from dataclasses import dataclass
from typing import IO

from minivlm.errors import ConfigError, ImageError, brief

PIECE = 2**20  # bytes of a stream that are read at a time


@dataclass(frozen=True)
class PictureLimits:
    """How large a picture may be. Where a number is None, the environment variable decides that `VARIABLES` names, or
    else `USUAL`. Pillow itself decodes at most 178,956,970 pixels. Several threads may share it.
    """

    pixels: int | None = None  # of a picture; decoding takes 3 to 15 bytes for each
    bytes: int | None = None  # of a file, or of what comes from stdin

    def most(self, what: str) -> int:
        """The largest number of "pixels" or "bytes". Raises `ConfigError` for a variable that holds no such number."""
        number = getattr(self, what)
        return environment_number(VARIABLES[what], USUAL[what]) if number is None else number

    def require_pixels(self, size: tuple[int, int], name: str) -> None:
        """Raise `ImageError` for a picture, called `name`, of more pixels."""
        if size[0] * size[1] > (most := self.most("pixels")):
            raise ImageError(
                f"{name} has {size[0]:,} x {size[1]:,} pixels; at most {most:,} in all are decoded. Scale it down "
                f"first, or allow more: {VARIABLES['pixels']}={size[0] * size[1]} in the environment."
            )

    def require_bytes(self, size: int, name: str) -> None:
        """Raise `ImageError` for a file, called `name`, of more bytes."""
        if size > (most := self.most("bytes")):
            raise ImageError(
                f"{name} has {size:,} bytes; at most {most:,} are read as a picture. Scale it down first, or "
                f"allow more: {VARIABLES['bytes']} in the environment."
            )


VARIABLES = {"pixels": "MINIVLM_MOST_PIXELS", "bytes": "MINIVLM_MOST_BYTES"}
USUAL = {"pixels": 80_000_000, "bytes": 2**28}  # a photograph of 64 million pixels, and as an uncompressed file
LIMITS = PictureLimits()


def environment_number(name: str, usual: int) -> int:
    """The whole number from 1 on in an environment variable, `usual` without it. Raises `ConfigError` for others."""
    text = os.environ.get(name, str(usual))
    if not (text.isascii() and text.isdecimal() and len(text) < 20 and int(text) > 0):
        raise ConfigError(f"{name} is {brief(text)} in the environment, a whole number of at least 1 was expected.")
    return int(text)


def read_stream(stream: IO[bytes], name: str, limits: PictureLimits = LIMITS) -> bytes:
    """All that a stream such as stdin gives, called `name`. Raises `ImageError` as soon as these are too many bytes."""
    pieces: list[bytes] = []
    try:
        while piece := stream.read(PIECE):
            pieces.append(piece)
            limits.require_bytes(sum(map(len, pieces)), f"{name}, as far as it was read,")
    except OSError as error:
        raise ImageError(f"{name} could not be read: {error.strerror or error}.") from error
    return b"".join(pieces)
