"""A folder of pictures that data names: where each is, what identifies it, and that no name leads out of the folder."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath, PureWindowsPath

from minivlm.errors import EvaluationError, ImageError


@dataclass(frozen=True)
class PictureFolder:
    """`files` says for each image its file below `folder`, in the order of the data; see `inside`."""

    folder: Path
    files: Mapping[str, str]

    def picture(self, image: str) -> Path:
        """The path of a picture that is there; whether it can be decoded is for its reader to say."""
        if image not in self.files:
            raise ImageError(f"There is no image {image!r} among the {len(self.files)} of the data.")
        path = self.folder / self.files[image]
        if not path.is_file():
            raise ImageError(f"The picture of image {image} is missing: there is no file '{path}'.")
        return path

    def named(self, file: str) -> str | None:
        """The image whose file has this name, in whatever sub-folder."""
        return self._image_of.get(file)

    def marks(self, images: Sequence[str]) -> list:
        """The names and sizes of the files: cheap to know, the same on every machine, and seldom equal by chance."""
        return [[self.files[image], size(self.folder / self.files[image])] for image in images]

    def require_some(self, images: Sequence[str]) -> None:
        """Single pictures may be missing and are counted later; if none is there, the folder is the wrong one."""
        if not any((self.folder / self.files[image]).is_file() for image in images):
            raise EvaluationError(
                f"None of the {len(images)} pictures is in '{self.folder}', such as '{self.files[images[0]]}'. "
                "Give the folder that holds them with --images."
            )

    @cached_property
    def _image_of(self) -> dict[str, str | None]:
        """A name that stands in two sub-folders says nothing, and leads to None."""
        found: dict[str, str | None] = {}
        for image, file in self.files.items():
            name = PurePosixPath(file).name
            found[name] = None if name in found else image
        return found


def size(path: Path) -> int | None:
    """In bytes; None if there is no such file."""
    return path.stat().st_size if path.is_file() else None


def require_folder(path: str | Path, why: str) -> Path:
    """The folder, once it is known to be one; `why` says what it is for and what to do."""
    folder = Path(path).expanduser()
    if not folder.is_dir():
        raise EvaluationError(f"There is no folder '{folder}'{' but a file' if folder.exists() else ''}. {why}")
    return folder


def inside(name: object, where: str, *, flat: bool = False) -> str:
    """A file name from data that stays below its folder; `flat` allows no sub-folders. `where` is for the message.

    What would leave the folder on any system is refused on all: "..", a leading slash, a drive, a backslash.
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
    return name
