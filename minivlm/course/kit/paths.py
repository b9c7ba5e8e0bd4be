"""Paths as the fence sees them: plain words, with all links followed.

The functions here make functions that look nothing up which other code could have replaced: they call the system's own
calls by local names.
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path, PurePath

MOST_LINKS = 40  # of one path, as on Linux


def reader_of_paths() -> Callable[[object], str | None]:
    """A function that gives the path that an event names, as a plain str.

    None stands for a file that is open already, "" for an object that could name another path the next time.
    """
    kind_of, below, words, raw, number = type, issubclass, str, bytes, int
    encode, decode, plain = str.encode, bytes.decode, os.fspath
    path_kind, pure_kind, entry_kind = type(Path()), type(PurePath()), os.DirEntry

    def text(path: object) -> str | None:
        if path is None:
            return "."
        if (kind := kind_of(path)) is path_kind or kind is pure_kind or kind is entry_kind:
            path = plain(path)
        if below(kind := kind_of(path), number):
            return None
        if below(kind, words):
            path = encode(path, "utf-8", "surrogateescape")
        return decode(path, "utf-8", "surrogateescape") if below(kind, (words, raw)) else ""

    return text


def resolver() -> Callable[[str], str]:
    """A function that gives the place to which a path leads, links followed."""
    readlink, here, error, most = getattr(os, "readlink", None), os.getcwd, OSError, MOST_LINKS
    if os.name != "posix":
        return lambda path: os.path.realpath(path).replace("\\", "/").casefold()
    folds = sys.platform == "darwin"

    def real(path: str) -> str:
        done, links = "", 0
        todo = (path if path[:1] == "/" else here() + "/" + path).split("/")[::-1]
        while todo:
            part = todo.pop()
            if part == "..":
                done = done.rpartition("/")[0]
            elif part and part != ".":
                try:
                    target = readlink(done + "/" + part)
                    links += 1
                except error:
                    target = None
                if target is None or links > most:
                    done = done + "/" + part
                else:
                    done = "" if target[:1] == "/" else done
                    todo.extend(target.split("/")[::-1])
        return done.casefold() if folds else done

    return real


def resolved(path: str | Path) -> str:
    """A path as the fence compares it."""
    return resolver()(str(path))
