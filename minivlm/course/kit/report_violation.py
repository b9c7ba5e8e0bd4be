"""Who did what the fence refuses, and how it is told. As in the fence, nothing is looked up that could be replaced."""

import os
import sys
from collections.abc import Callable
from json.encoder import encode_basestring_ascii


def finder(project: str, tests: str) -> Callable[[], tuple[str, bool]]:
    """A function that gives the line of the student's, or of the test, that is being run; and whether it called a
    library which did what it did of its own accord."""
    frame_of, words, packages = sys._getframe, str, ("/site-packages/", "/dist-packages/")
    roots = (
        (f"{project}/minivlm/".casefold(), len(project) + 1),
        (tests.casefold(), len(os.path.dirname(tests)) + 1),
    )

    def culprit() -> tuple[str, bool]:
        frame, is_library = frame_of(2), False
        while frame is not None:
            code = frame.f_code
            file = code.co_filename.replace("\\", "/")
            for root, size in roots:
                if file.casefold().startswith(root):
                    return f"{file[size:]}, line {words(frame.f_lineno)}, in {code.co_name}", is_library
            is_library = is_library or packages[0] in file or packages[1] in file
            frame = frame.f_back
        return "", is_library

    return culprit


def teller(notes: int) -> Callable[[str, str], None]:
    """A function that writes a line of JSON about a refusal."""
    write, quoted = os.write, encode_basestring_ascii

    def tell(reason: str, where: str) -> None:
        write(notes, ('\n{"forbidden": ' + quoted(reason) + ', "where": ' + quoted(where) + "}\n").encode())

    return tell
