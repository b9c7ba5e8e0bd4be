"""The pieces of an assignment, its functions, and which of them each test is about.

A test is about the functions that its task `needs`. Of several, those that a test before it was about alone are its
helpers; if all are, it is about the last one. A task that needs "all of them", in whatever words, is about all.
"""

from minivlm.course.row import Assignment, Task

Piece = tuple[str, str]  # the file in the package, the name of the function in it


def pieces_of(row: Assignment) -> list[Piece]:
    """The functions that the assignment asks for, in the order of its holes."""
    return [(file, name) for file, names in row.holes.items() for name in names]


def own_pieces(row: Assignment) -> dict[str, frozenset[Piece]]:
    """The functions that each test is about, by the test's name. Of the zoo, none."""
    own: dict[str, frozenset[Piece]] = {}
    known: set[Piece] = set()  # those that a test before was about alone
    for task in row.tasks:
        needed = named_pieces(row, task)
        unknown = [piece for piece in needed if piece not in known]
        own[task.test] = frozenset(unknown or needed[-1:] or pieces_of(row))
        if len(needed) == 1:
            known |= own[task.test]
    return own


def named_pieces(row: Assignment, task: Task) -> list[Piece]:
    """The functions that a task names, in the order of the holes; none if it says anything else, such as "all"."""
    pieces = pieces_of(row)
    words = [word.strip() for word in task.needs.split(",")]
    found = [[piece for piece in pieces if word in (piece[1], piece[1].split(".")[-1])] for word in words]
    return [piece for piece in pieces if any(piece in one for one in found)] if all(found) else []
