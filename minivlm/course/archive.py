"""A zip file that was handed in: the few files that count are read from it, and nothing else is unpacked.

The archive never says where anything is written: files are found in it by the end of their path, and get the names of
the assignment. So no entry can lead outside. Only that many bytes of an entry are decompressed as a file may have;
links, passwords and compressions other than zip's usual one are not read.
"""

import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from minivlm.files import clean, listed

LARGEST = 1_000_000  # bytes of a file in it
LARGEST_INDEX = 8 * 2**20  # bytes of its list of entries: 60,000 files of usual names
END, END_SIZE, END_OF_64 = b"PK\x05\x06", 22, b"PK\x06\x07"
LOCATOR_SIZE, LONGEST_REMARK = 20, 2**16
USUAL = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
OTHERS = (".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar", ".zst")  # archives that are named, and not opened
DAMAGE = (zipfile.BadZipFile, zlib.error, OSError, ValueError, EOFError, RuntimeError, struct.error)


@dataclass
class Opened:
    """What was taken from archives: a folder with it, and sentences about the rest."""

    folder: Path
    notes: list[str] = field(default_factory=list)


def opened(folder: Path, names: Sequence[str], place: Path) -> Opened:
    """The folder to take the files `names` from, such as "minivlm/model/layers.py": `folder` itself, or, if it is a zip
    file or has one and lacks these files, `place` with what the zip file holds of them.
    """
    if folder.is_symlink() or not folder.exists():
        return Opened(folder)
    if folder.is_file():
        return taken(folder, names, place) if zipfile_like(folder) else Opened(folder)
    archives = sorted(path for path in folder.iterdir() if is_archive(path)) if folder.is_dir() else []
    zips = [path for path in archives if zipfile_like(path)]
    notes = [note for path in archives if path not in zips for note in closed(path)]
    if any((folder.joinpath(*PurePosixPath(name).parts[first:])).exists() for name in names for first in starts(name)):
        notes += [f"{clean(path.name, 100)} was not opened: files lie beside it." for path in zips]
        return Opened(folder, notes)
    if len(zips) != 1:
        notes += [f"{listed([path.name for path in zips])}: several archives, none was opened."] if zips else []
        return Opened(folder, notes)
    found = taken(zips[0], names, place)
    return Opened(found.folder, notes + found.notes)


def starts(name: str) -> range:
    """How many folders may be missing from the beginning of a path, none first."""
    return range(len(PurePosixPath(name).parts))


def is_archive(path: Path) -> bool:
    """Whether a file's name says that it is an archive; no link is one."""
    return path.suffix.lower() in (".zip", *OTHERS) and not path.is_symlink() and path.is_file()


def zipfile_like(path: Path) -> bool:
    return path.suffix.lower() == ".zip"


def closed(path: Path) -> list[str]:
    """A sentence about a file that is no zip file."""
    return [f"{clean(path.name, 100)} was not opened: only a folder or a .zip file is."]


def taken(archive: Path, names: Sequence[str], place: Path) -> Opened:
    """Copy the files `names` from a zip file into the new folder `place`."""
    place.mkdir(parents=True)
    short = clean(archive.name, 100)
    found = Opened(place)
    try:
        if fault := fault_of_index(archive):
            return Opened(place, [f"{short} was not opened: {fault}."])
        with zipfile.ZipFile(archive) as content:
            entries = [*inside(content, found.notes, short)]
            for name in names:
                take(content, entries, name, found, short)
    except DAMAGE as error:
        found.notes.append(f"{short} cannot be read: {type(error).__name__}: {clean(str(error), 200)}.")
    except NotImplementedError as error:  # a kind of zip file that Python does not read
        found.notes.append(f"{short} cannot be read: {clean(str(error), 200)}.")
    if not any(place.iterdir()) and not found.notes:
        found.notes.append(f"{short} holds none of the files that are handed in.")
    return found


def fault_of_index(archive: Path) -> str:
    """Why a zip file's list of entries is not read, or "": Python would hold all of it in memory."""
    with archive.open("rb") as stream:
        stream.seek(max(0, archive.stat().st_size - END_SIZE - LONGEST_REMARK - LOCATOR_SIZE))
        tail = stream.read()
    at = tail.rfind(END)
    if at < 0 or len(tail) < at + END_SIZE:
        return "it is no zip file, or is cut off"
    if END_OF_64 in tail[max(0, at - LOCATOR_SIZE) : at]:
        return "it has more than 65,535 files or 4 GB"
    size = int.from_bytes(tail[at + 12 : at + 16], "little")
    return f"its list of files has {size:,} bytes, more than {LARGEST_INDEX:,}" if size > LARGEST_INDEX else ""


def inside(content: zipfile.ZipFile, notes: list[str], short: str) -> Iterator[tuple[tuple[str, ...], zipfile.ZipInfo]]:
    """The entries that are files, with the parts of their paths. Paths that lead outside are left out, and noted."""
    outside = []
    for entry in content.infolist():
        path = PurePosixPath(entry.filename.replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts or (path.parts and path.parts[0].endswith(":")):
            outside.append(entry.filename)
        elif not entry.is_dir() and "__MACOSX" not in path.parts and path.parts:
            yield path.parts, entry
    if outside:
        notes.append(f"{short} names places outside of it, which were left out: {listed(outside, 3)}.")


def take(
    content: zipfile.ZipFile,
    entries: Sequence[tuple[tuple[str, ...], zipfile.ZipInfo]],
    name: str,
    found: Opened,
    short: str,
) -> None:
    """Copy one file, if it is there: the one whose path ends like `name`, and has the fewest folders in front."""
    parts = PurePosixPath(name).parts
    for first in starts(name):
        tail = parts[first:]
        fitting = sorted((pair for pair in entries if pair[0][-len(tail) :] == tail), key=lambda pair: len(pair[0]))
        if not fitting:
            continue
        if len([pair for pair in fitting if len(pair[0]) == len(fitting[0][0])]) > 1:
            found.notes.append(f"{short} holds {name} more than once: none was taken.")
        elif fault := fault_of(fitting[0][1]):
            found.notes.append(f"{name} in {short} {fault}: it was not taken.")
        else:
            copy(content, fitting[0][1], found.folder / name)
        return


def fault_of(entry: zipfile.ZipInfo) -> str:
    """Why an entry is not read, or ""."""
    if stat.S_IFMT(entry.external_attr >> 16) not in (0, stat.S_IFREG):
        return "is a link or no file"
    if entry.flag_bits & 1:
        return "wants a password"
    if entry.compress_type not in USUAL:
        return "is compressed in an unusual way"
    return f"has {entry.file_size:,} bytes, more than {LARGEST:,}" if entry.file_size > LARGEST else ""


def copy(content: zipfile.ZipFile, entry: zipfile.ZipInfo, file: Path) -> None:
    """Copy an entry. Raises ValueError if it has more bytes than it says, `BadZipFile` if its checksum is wrong."""
    with content.open(entry) as stream:
        data = stream.read(LARGEST + 1)
    if len(data) > LARGEST:
        raise ValueError(f"an entry has more than {LARGEST:,} bytes")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)


def newest(archive: Path, names: Sequence[str]) -> tuple[int, ...] | None:
    """The latest time that a zip file states for one of its files with such a name, as (year, month, day, hour, minute,
    second) by the clock of whoever packed it; None if it holds none.
    """
    ends = {PurePosixPath(name).name for name in names}
    try:
        if fault_of_index(archive):
            return None
        with zipfile.ZipFile(archive) as content:
            times = [entry.date_time for parts, entry in inside(content, [], "") if parts[-1] in ends]
    except (*DAMAGE, NotImplementedError):
        return None
    return max(times, default=None)


def only_zip(folder: Path) -> Path | None:
    """The zip file that `folder` is, or the only one in it; None if there is none."""
    if folder.is_symlink():
        return None
    if folder.is_file():
        return folder if zipfile_like(folder) else None
    zips = [path for path in folder.iterdir() if is_archive(path) and zipfile_like(path)] if folder.is_dir() else []
    return zips[0] if len(zips) == 1 else None
