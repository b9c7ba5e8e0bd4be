"""Paths as the audit hook compares them: plain text, with all links followed.

The functions here are made before student code runs, and use nothing but their own local variables: other code cannot
replace what they call.
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path, PurePath
from typing import Any

MOST_LINKS = 40  # of one path, as on Linux


def path_decoder() -> Callable[[object], str | None]:
    """A function that turns the argument of an audit event into a path, as a plain str.

    It returns None for a file descriptor, whose file is open already, and "" for an object of any other type: that
    could name another path when it is asked a second time. No path at all is the current folder, ".".
    """
    type_of, is_subclass, text_type, bytes_type, int_type = type, issubclass, str, bytes, int
    encode, decode, path_of = str.encode, bytes.decode, os.fspath
    path_types = (type(Path()), type(PurePath()), os.DirEntry)

    def decode_path(path: Any) -> str | None:
        if path is None:
            return "."
        given = type_of(path)
        if given is path_types[0] or given is path_types[1] or given is path_types[2]:
            path = path_of(path)
        path_type = type_of(path)
        if is_subclass(path_type, int_type):
            return None
        if is_subclass(path_type, text_type):
            path = encode(path, "utf-8", "surrogateescape")
        return decode(path, "utf-8", "surrogateescape") if is_subclass(path_type, (text_type, bytes_type)) else ""

    return decode_path


def path_resolver() -> Callable[[str], str]:
    """A function that gives the absolute path to which a path leads, links followed; "" for the root folder.

    On systems that ignore the case of letters, all of them are lower case.
    """
    if os.name != "posix":
        return lambda path: os.path.realpath(path).replace("\\", "/").casefold()
    readlink, current_folder, error, most = os.readlink, os.getcwd, OSError, MOST_LINKS
    ignores_case = sys.platform == "darwin"

    def resolve(path: str) -> str:
        done, links = "", 0
        todo = (path if path[:1] == "/" else current_folder() + "/" + path).split("/")[::-1]
        while todo:
            part = todo.pop()
            if part == "..":
                done = done.rpartition("/")[0]
            elif part and part != ".":
                try:
                    target = readlink(done + "/" + part)
                    links += 1
                except error:
                    target = ""  # it is no link
                if not target or links > most:
                    done = done + "/" + part
                else:
                    done = "" if target[:1] == "/" else done
                    todo.extend(target.split("/")[::-1])
        return done.casefold() if ignores_case else done

    return resolve


def resolved(path: str | Path) -> str:
    """A path as the audit hook compares it."""
    return path_resolver()(str(path))
