"""What may lie where a file of ours is expected: links, pipes, folders; and a way to see that a file was left alone."""

import os
from collections.abc import Callable
from pathlib import Path

PRECIOUS = b"what the user wrote, without an end of line"


def precious(folder: Path) -> Path:
    """A file of the user's, outside the folder that we write into."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "precious.txt"
    file.write_bytes(PRECIOUS)
    return file


def link(place: Path, target: Path) -> None:
    place.symlink_to(target)


def dangling(place: Path, target: Path) -> None:
    place.symlink_to(target.with_name("not there yet"))


def loop(place: Path, target: Path) -> None:
    place.symlink_to(place.name)


def hard_link(place: Path, target: Path) -> None:
    os.link(target, place)


def pipe(place: Path, target: Path) -> None:
    os.mkfifo(place)


def folder(place: Path, target: Path) -> None:
    place.mkdir()


def device(place: Path, target: Path) -> None:
    place.symlink_to("/dev/zero")


STRANGERS: dict[str, Callable[[Path, Path], None]] = {
    one.__name__: one for one in (link, dangling, loop, hard_link, pipe, folder, device)
}


def contents(folder: Path) -> dict[str, bytes | str]:
    """What lies in a folder: name -> bytes of a file, or what else it is."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() and not path.is_symlink() else "no file"
        for path in folder.rglob("*")
    }
