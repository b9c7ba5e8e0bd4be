"""What can be typed behind `minivlm course`."""

import argparse

from minivlm import arguments, classroom


def add_options(parser: argparse.ArgumentParser) -> None:
    """The four things to do, each with its options and, as `run`, its function."""
    chosen = parser.add_subparsers(dest="task", metavar="TASK", required=True)
    for name, (run, add) in TASKS.items():
        summary = (run.__doc__ or "").partition("\n")[0]
        task = chosen.add_parser(name, help=summary, description=summary)
        task.set_defaults(run=run)
        arguments.debug(task, default=argparse.SUPPRESS)
        add(task)


def _list(parser: argparse.ArgumentParser) -> None:
    """Nothing to choose."""


def _start(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("assignment", metavar="NAME", help="a1 to a7, see `minivlm course list`")
    parser.add_argument("folder", metavar="DIR", help="a new folder")


def _check(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", nargs="?", default=".", metavar="DIR", help="of the assignment (default: this one)")
    only = "only tests whose names hold this word, such as padding; repeatable"
    parser.add_argument("--only", action="append", default=[], metavar="WORD", help=only)
    arguments.as_json(parser)


def _grade(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folders", nargs="+", metavar="DIR", help="what a student handed in; named like the student")
    parser.add_argument("--seed", required=True, type=secret, metavar="SECRET", help="a word; a new one each time")
    parser.add_argument("--out", required=True, metavar="FOLDER", help="results.json for each student, and grades.csv")
    started = "what they were to do (default: what assignment.json in their folders says)"
    parser.add_argument("--assignment", metavar="NAME", help=started)
    jobs = "students at a time (default: 1, for times that can be compared)"
    parser.add_argument("--jobs", type=arguments.whole(1), default=1, metavar="N", help=jobs)


def secret(text: str) -> str:
    """A word that could be kept."""
    if not text.strip():
        raise argparse.ArgumentTypeError("expected a word, found nothing")
    return text


TASKS = {
    "list": (classroom.list_assignments, _list),
    "start": (classroom.start_assignment, _start),
    "check": (classroom.check_folder, _check),
    "grade": (classroom.grade_folders, _grade),
}
