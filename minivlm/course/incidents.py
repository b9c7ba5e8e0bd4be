"""What happened to a student's tests beside right and wrong: refused, stopped, crashed; one sentence for each kind."""

from collections.abc import Sequence

from minivlm.course.verdict import Verdict
from minivlm.files import one_line

KINDS = {  # how a test ended -> what the note says
    "forbidden": "Refused by the sandbox",
    "too slow": "Stopped for its time",
    "too much memory": "Stopped for its memory",
    "crashed": "The process died",
    "not started": "The package could not be loaded",
}
LONGEST = 160  # characters of a quoted sentence


def incidents(verdicts: Sequence[Verdict]) -> list[str]:
    """A sentence for each kind of incident, with its tests; what was refused is quoted, since a person must look."""
    notes = []
    for kind, words in KINDS.items():
        found = [verdict for verdict in verdicts if verdict.ended == kind]
        if not found:
            continue
        quoted = f" ({shortened(found[0].sentence)})" if kind in ("forbidden", "not started") else ""
        notes.append(f"{words}: {', '.join(verdict.task.test for verdict in found)}{quoted}.")
    return notes


def shortened(sentence: str) -> str:
    """The sentence on one line, at most `LONGEST` characters of it, without the period at its end."""
    line = one_line(sentence)
    return (line if len(line) <= LONGEST else f"{line[:LONGEST]} …").rstrip(".")
