"""A small student's folder: a package of one module, and tests that call it."""

from pathlib import Path
from textwrap import dedent

from minivlm.course.supervise import Job


def project(folder: Path, work: str, tests: str) -> tuple[Path, Path]:
    """A student's folder with one module, and a file of tests beside it."""
    (folder / "student" / "minivlm").mkdir(parents=True)
    (folder / "student" / "minivlm" / "__init__.py").write_text("")
    (folder / "student" / "minivlm" / "work.py").write_text(dedent(work))
    (folder / "kit").mkdir()
    (folder / "kit" / "test_it.py").write_text(dedent(tests))
    return folder / "student", folder / "kit" / "test_it.py"


def jobs(tests: str, seconds: float = 60.0, megabytes: int = 400) -> list[Job]:
    names = [line[4 : line.index("(")] for line in dedent(tests).splitlines() if line.startswith("def test_")]
    return [Job(name, 5, 2.0 if "endless" in name else seconds, megabytes) for name in names]
