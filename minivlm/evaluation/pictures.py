"""A folder of pictures: the file of each image, what identifies it, and the check that no name leaves the folder."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath, PureWindowsPath

from minivlm.errors import EvaluationError, ImageError
from minivlm.files import path_of


@dataclass(frozen=True)
class PictureFolder:
    """`files`: image id -> its file, as a path below `folder` that `inside` checked; in the order of the data."""

    folder: Path
    files: Mapping[str, str]

    def picture(self, image: str) -> Path:
        """The path of an existing picture file, which may still be damaged. Raises `ImageError` if there is none."""
        if image not in self.files:
            raise ImageError(f"There is no image {image!r} among the {len(self.files)} of the data.")
        path = self.folder / self.files[image]
        if not path.is_file():
            raise ImageError(f"The picture of image {image} is missing: there is no file '{path}'.")
        return path

    def named(self, file: str) -> str | None:
        """The id of the image whose file has this name, in any sub-folder; None if there is none or several."""
        return self._image_of.get(file)

    def marks(self, images: Sequence[str]) -> list[list[str | int | None]]:
        """Name and size of each file: quick to read, the same on every machine, and rarely equal for other pictures."""
        return [[self.files[image], size(self.folder / self.files[image])] for image in images]

    def require_some(self, images: Sequence[str]) -> None:
        """Raise `EvaluationError` if no picture exists: the folder must be wrong. Single ones may be missing."""
        if not any((self.folder / self.files[image]).is_file() for image in images):
            raise EvaluationError(
                f"None of the {len(images)} pictures is in '{self.folder}', such as '{self.files[images[0]]}'. "
                "Give the folder that holds them with --images."
            )

    @cached_property
    def _image_of(self) -> dict[str, str | None]:
        """File name -> image id, or None for a name that occurs in two sub-folders."""
        image_of: dict[str, str | None] = {}
        for image, file in self.files.items():
            name = PurePosixPath(file).name
            image_of[name] = None if name in image_of else image
        return image_of


def size(path: Path) -> int | None:
    """The size of a file in bytes; None if there is no such file."""
    return path.stat().st_size if path.is_file() else None


def require_folder(path: str | Path, why: str) -> Path:
    """`path` as an existing folder. Raises `EvaluationError` for any other; `why` ends its message."""
    folder = path_of(path, EvaluationError)
    if not folder.is_dir():
        raise EvaluationError(f"There is no folder '{folder}'{' but a file' if folder.exists() else ''}. {why}")
    return folder


def inside(name: object, where: str, *, flat: bool = False) -> str:
    """`name`, once it is known to be a path below the folder of the pictures, in one spelling: ./0.jpg is 0.jpg.

    `flat` allows no sub-folders. Raises `EvaluationError`, with `where` in front, for names that would leave the folder
    on any operating system: "..", a leading slash, a drive, a backslash.
    """
    parts = PurePosixPath(name).parts if isinstance(name, str) else ()
    if not isinstance(name, str) or not parts or any(ord(character) < 32 for character in name):
        raise EvaluationError(f"{where}: the name of a picture file was expected, found {name!r}.")
    drive = PureWindowsPath(name).drive or PureWindowsPath(name).root
    if ".." in parts or drive or "\\" in name or (flat and len(parts) > 1):
        kind = "a bare file name" if flat else "a path below the folder of the pictures"
        raise EvaluationError(
            f"{where}: {kind} was expected, found {name!r}. Pictures are read from one folder and nowhere else; "
            "give it with --images."
        )
    return PurePosixPath(name).as_posix()
