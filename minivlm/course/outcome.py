"""What is asked of a student's process, and what comes of it."""

from dataclasses import dataclass

from minivlm.course.kit.show import Shown


@dataclass(frozen=True)
class Job:
    """One test to run."""

    test: str  # the name of its function
    seed: int  # of its inputs
    seconds: float
    megabytes: int  # that it may take beyond what the process holds before (limited on Linux only)
    is_speed: bool = False  # whether its seconds are what is tested


@dataclass(frozen=True)
class Outcome:
    """What came of one test."""

    test: str
    status: str  # ran, raised, too slow, crashed, too much memory, forbidden, or not started
    seconds: float
    error: str = ""  # the name of the exception's class
    where: str = ""  # "minivlm/model/layers.py, line 40, in rotate": the innermost line in the student's own files
    message: str = ""  # what the exception says, or how the process ended
    printed: str = ""  # the beginning of what was printed
    shown: Shown | None = None
    megabytes: float | None = None  # that it took at the most beyond what the process held; None if not known
    is_loading: bool = False  # whether the test was not run, since the package or the tests could not be imported
    stack: tuple[str, ...] = ()  # of one that was too slow: "minivlm/model/layers.py, rotate", the innermost first
