"""Reports of violations: which line of the student's code caused one, and the message to the supervisor.

Student code could replace any name that is looked up late. So the functions here are made before it runs, and use
nothing but their own local variables.
"""

import os
import sys
from collections.abc import Callable
from json.encoder import encode_basestring_ascii
from types import FrameType

HOOK_FRAMES = 3  # from the innermost: `locate`, the function that judges an event, the audit hook itself


def violation_locator(project: str, tests: str) -> Callable[[], tuple[str, bool]]:
    """A function that finds the line to blame, among the frames that are running. The audit hook calls it.

    It returns that line, the innermost one of the student's package or of the tests, as "minivlm/model/layers.py,
    line 40, in rotate" ("" if there is none); and whether an installed library was running between that line and the
    violation: then the library did it, perhaps without being asked to.
    """
    frame_at, skipped, as_text, packages = sys._getframe, HOOK_FRAMES, str, ("/site-packages/", "/dist-packages/")
    roots = (
        (f"{project}/minivlm/".casefold(), len(project) + 1),
        (tests.casefold(), len(os.path.dirname(tests)) + 1),
    )

    def locate() -> tuple[str, bool]:
        frame: FrameType | None = frame_at(skipped)
        is_library = False
        while frame is not None:
            code = frame.f_code
            file = code.co_filename.replace("\\", "/")
            for root, size in roots:
                if file.casefold().startswith(root):
                    return f"{file[size:]}, line {as_text(frame.f_lineno)}, in {code.co_name}", is_library
            is_library = is_library or packages[0] in file or packages[1] in file
            frame = frame.f_back
        return "", is_library

    return locate


def violation_reporter(channel: int) -> Callable[[str, str], None]:
    """A function that writes a violation to the file descriptor `channel`: a line of JSON with the reason and the
    place.
    """
    write, quoted = os.write, encode_basestring_ascii

    def report(reason: str, where: str) -> None:
        write(channel, ('\n{"forbidden": ' + quoted(reason) + ', "where": ' + quoted(where) + "}\n").encode())

    return report
