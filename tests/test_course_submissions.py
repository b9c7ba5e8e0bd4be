"""Whatever one student hands in, the others are graded: folders, notes and names that would stop a careless program.

The tests of what was handed in are not run here, see test_course_grade.py: all that is taken gets one point.
"""

import csv
import json
import os
from collections import Counter
from pathlib import Path

import pytest
from test_course_grade import ROW, SOLUTION

from minivlm.cli import main as cli
from minivlm.cli.course_grade import common_assignment
from minivlm.course.assignments import assignment
from minivlm.course.folder import LARGEST_NOTE, Folder
from minivlm.course.grade import Grader, grade, student
from minivlm.course.grade_report import GradeReport
from minivlm.course.reference import Reference
from minivlm.course.submission import started_for
from minivlm.course.supervise import Outcome, with_shown
from minivlm.course.verdict import RIGHT, Verdict
from minivlm.errors import CourseError
from support.bad_shards import twice

pytestmark = [
    pytest.mark.skipif(os.name == "nt", reason="needs links, pipes and names in bytes"),
    pytest.mark.timeout(300),
]
FILE = "minivlm/model/layers.py"


@pytest.fixture(autouse=True)
def without_tests(monkeypatch):
    def judged(self, project):
        taken = (project / FILE).read_text(encoding="utf-8") == SOLUTION
        return GradeReport(ROW, tuple(Verdict(task, RIGHT if taken else "open") for task in ROW.tasks))

    monkeypatch.setattr(Grader, "judged", judged)
    monkeypatch.setattr("minivlm.course.grade.references", lambda row, secrets: {})
    monkeypatch.setattr(Reference, "of", classmethod(lambda cls, row, seed: Reference(seed, {}, {})))


def handed_in(folder: Path, note: str | bytes | None = '{"assignment": "a2"}') -> Path:
    (folder / FILE).parent.mkdir(parents=True)
    (folder / FILE).write_text(SOLUTION, encoding="utf-8")
    if note is not None:
        (folder / "assignment.json").write_bytes(note.encode() if isinstance(note, str) else note)
    return folder


# --- notes ------------------------------------------------------------------------------------------------------------

NOTES = {
    "deep": "[" * 5000,
    "deep objects": '{"a":' * 5000,
    "huge": '{"assignment": "a2", "x": "' + "x" * 5_000_000 + '"}',
    "a number without end": '{"assignment": ' + "9" * 5000 + "}",
    "no text": b"\xff\xfe\x00",
    "a list": "[]",
    "a name that is a list": '{"assignment": ["a2"]}',
    "a name that is an object": '{"assignment": {"a2": 1}}',
    "a long name": '{"assignment": "' + "a" * 5000 + '"}',
    "half a character": '{"assignment": "\\ud800"}',
    "two names": '{"assignment": "a3", "assignment": "a2"}',
    "not a number": '{"assignment": NaN}',
    "nothing": "",
}


@pytest.mark.parametrize("note", NOTES.values(), ids=NOTES)
def test_a_note_that_says_nothing_costs_nothing(tmp_path, note):
    ada, bob = handed_in(tmp_path / "ada", note), handed_in(tmp_path / "bob")
    assert started_for(ada) == ""
    with pytest.raises(CourseError) as told:
        Folder.read(ada)
    assert len(str(told.value)) < 600
    assert common_assignment([ada, bob]) == "a2"
    assert [one.report.points for one in grade(ROW, [ada, bob], "s", tmp_path / "out")] == [100, 100]


def test_a_huge_note_is_not_read(tmp_path):
    import resource  # Windows has none

    ada = handed_in(tmp_path / "ada")
    with (ada / "assignment.json").open("wb") as file:
        file.truncate(2**40)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert started_for(ada) == ""
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000
    (ada / "assignment.json").write_text('{"assignment": "a2"}' + " " * (LARGEST_NOTE - 20))
    assert started_for(ada) == "a2"


@pytest.mark.parametrize("stranger", ["pipe", "folder", "device", "loop"])
def test_a_note_that_is_no_file_is_not_waited_for(tmp_path, stranger):
    ada = handed_in(tmp_path / "ada", None)
    note = ada / "assignment.json"
    {
        "pipe": lambda: os.mkfifo(note),
        "folder": note.mkdir,
        "device": lambda: note.symlink_to("/dev/zero"),
        "loop": lambda: note.symlink_to(note.name),
    }[stranger]()
    assert started_for(ada) == ""


def test_the_majority_says_which_assignment_it_is(tmp_path):
    folders = [
        handed_in(tmp_path / str(n), json.dumps({"assignment": name})) for n, name in enumerate(["a2", "a3", "a2"])
    ]
    assert common_assignment(folders) == "a2"
    with pytest.raises(CourseError, match="they were started for a2, a3"):
        common_assignment(folders[:2])
    odd = [*folders[:2], handed_in(tmp_path / "odd", json.dumps({"assignment": "a4"}))]
    with pytest.raises(CourseError, match="a2, a3, a4"):
        common_assignment(odd)


def test_an_unknown_assignment_is_named_in_short():
    with pytest.raises(CourseError) as told:
        assignment("a" * 100_000)
    assert len(str(told.value)) < 300


# --- folders ----------------------------------------------------------------------------------------------------------


def loop(place: Path) -> None:
    place.symlink_to(place.name)


def pair(place: Path) -> None:
    place.symlink_to(f"{place.name}2")
    place.with_name(f"{place.name}2").symlink_to(place.name)


def file_that_loops(place: Path) -> None:
    (place / FILE).parent.mkdir(parents=True)
    (place / FILE).symlink_to("layers.py")


def folder_that_loops(place: Path) -> None:
    place.mkdir()
    (place / "minivlm").symlink_to("minivlm")


def folder_in_itself(place: Path) -> None:
    place.mkdir()
    (place / "minivlm").symlink_to("..")
    (place / "model").symlink_to(".")


def pipe(place: Path) -> None:
    (place / FILE).parent.mkdir(parents=True)
    os.mkfifo(place / FILE)


def device(place: Path) -> None:
    place.mkdir()
    (place / "layers.py").symlink_to("/dev/zero")


def folder_for_a_file(place: Path) -> None:
    (place / FILE).mkdir(parents=True)


def sparse(place: Path) -> None:
    (place / FILE).parent.mkdir(parents=True)
    with (place / FILE).open("wb") as file:
        file.truncate(2**40)


def a_file(place: Path) -> None:
    place.write_bytes(b"PK")


def a_pipe(place: Path) -> None:
    os.mkfifo(place)


def another_student(place: Path) -> None:
    place.symlink_to("zoe")


def deep(place: Path) -> None:
    place.mkdir()
    here = os.open(place, os.O_RDONLY)
    for _ in range(60):  # deeper than any path may be long
        os.mkdir("d" * 80, dir_fd=here)
        here, before = os.open("d" * 80, os.O_RDONLY, dir_fd=here), here
        os.close(before)
    os.close(here)


def hard_link(place: Path) -> None:
    (place / FILE).parent.mkdir(parents=True)
    place.parent.with_name("solution.py").write_text(SOLUTION, encoding="utf-8")
    os.link(place.parent.with_name("solution.py"), place / FILE)


ODD = [loop, pair, file_that_loops, folder_that_loops, folder_in_itself, pipe, device, folder_for_a_file, sparse]
ODD += [a_file, a_pipe, deep, hard_link]


@pytest.mark.parametrize("make", ODD, ids=lambda make: make.__name__)
def test_an_odd_folder_costs_its_own_student_alone(tmp_path, make):
    """Also through the command, which reads the assignment from the folders and writes the results."""
    place = tmp_path / "class"
    place.mkdir()
    make(place / "ada")
    zoe = handed_in(place / "zoe")
    words = ["course", "grade", str(place / "ada"), str(zoe), "--seed", "s", "--out", str(tmp_path / "out")]
    assert cli.main(words) == 0
    with (tmp_path / "out" / "grades.csv").open(encoding="utf-8-sig", newline="") as file:
        points = {line["student"]: int(line["points"]) for line in csv.DictReader(file)}
    assert points == {"ada": 0, "zoe": 100}
    remarks = json.loads((tmp_path / "out" / "ada" / "results.json").read_text())["output"]
    assert len(remarks.splitlines()) > 1  # it is said why


def test_two_names_of_one_folder_are_two_students(tmp_path):
    handed_in(tmp_path / "zoe")
    another_student(tmp_path / "ada")
    graded = list(grade(ROW, [tmp_path / "ada", tmp_path / "zoe"], "s", tmp_path / "out"))
    assert [one.student for one in graded] == ["ada", "zoe"]


def test_names_that_are_no_text_stay_apart_and_are_written(tmp_path):
    names = [b"J\xfcrg", b"J\xf6rg", b"ada\n", "Jürg".encode(), b"=1+1", b"\x1b[2J"]
    folders = [handed_in(tmp_path / "class" / os.fsdecode(name)) for name in names]
    words = ["course", "grade", *map(str, folders), "--seed", "s", "--out", str(tmp_path / "out")]
    assert cli.main(words) == 0
    with (tmp_path / "out" / "grades.csv").open(encoding="utf-8-sig", newline="") as file:
        students = Counter(line["student"] for line in csv.DictReader(file))
    assert len(students) == len(names)
    assert student(folders[0]) == r"J\udcfcrg"


def test_results_that_cannot_be_written_cost_nobody_else(tmp_path, capsys):
    ada, zoe = handed_in(tmp_path / "ada"), handed_in(tmp_path / "zoe")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "ada").write_text("a file of the grader's")
    words = ["course", "grade", str(ada), str(zoe), "--seed", "s", "--out", str(tmp_path / "out")]
    assert cli.main(words) == 1
    assert "ada: File exists" in capsys.readouterr().err
    assert json.loads((tmp_path / "out" / "zoe" / "results.json").read_text())["score"] == 100
    assert (tmp_path / "out" / "ada").read_text() == "a file of the grader's"


def test_results_are_not_written_through_a_link(tmp_path, capsys):
    """Even if `--out` is the folder that holds what was handed in."""
    place, victim = tmp_path / "class", handed_in(tmp_path / "victim")
    place.mkdir()
    (place / "eve").symlink_to(victim)
    (victim / "results.json").write_text("somebody's own")
    zoe = handed_in(place / "zoe")
    words = ["course", "grade", str(place / "eve"), str(zoe), "--seed", "s", "--out", str(place)]
    assert cli.main(words) == 1
    assert "eve: it is a link" in capsys.readouterr().err
    assert (victim / "results.json").read_text() == "somebody's own"
    assert json.loads((zoe / "results.json").read_text())["score"] == 100


def test_a_table_that_cannot_be_written_keeps_nobody_from_being_graded(tmp_path, capsys):
    """As when student code has put a pipe in its place."""
    ada, zoe = handed_in(tmp_path / "ada"), handed_in(tmp_path / "zoe")
    (tmp_path / "out").mkdir()
    os.mkfifo(tmp_path / "out" / "grades.csv")
    words = ["course", "grade", str(ada), str(zoe), "--seed", "s", "--out", str(tmp_path / "out")]
    assert cli.main(words) == 1
    assert "grades.csv: it is no regular file" in capsys.readouterr().err
    for name in ("ada", "zoe"):
        assert json.loads((tmp_path / "out" / name / "results.json").read_text())["score"] == 100


def test_names_like_formulas_keep_a_line_each(tmp_path):
    folders = [handed_in(tmp_path / "class" / name) for name in ("=x", "'=x", "''=x", "'x", "x")]
    words = ["course", "grade", *map(str, folders), "--seed", "s", "--out", str(tmp_path / "out")]
    assert cli.main(words) == 0
    with (tmp_path / "out" / "grades.csv").open(encoding="utf-8-sig", newline="") as file:
        assert {line["student"] for line in csv.DictReader(file)} == {
            *(n * chr(39) + "=x" for n in (1, 2, 3)),
            "'x",
            "x",
        }


def test_what_a_test_showed_twice_is_refused(tmp_path):
    import torch

    from minivlm.course.kit.show import Shown

    Shown({"a": torch.ones(1)}, {}, {"a": 0.1}).save(tmp_path / "shown")
    ran = Outcome("test_a", "ran", 1.0)
    assert with_shown(ran, tmp_path / "shown").status == "ran"
    twice(tmp_path / "shown", "a")
    outcome = with_shown(ran, tmp_path / "shown")
    assert (outcome.status, outcome.error) == ("raised", "CheckpointError")


@pytest.mark.parametrize("known", [0, 7])
def test_grading_without_landlock_is_warned_about_once(tmp_path, capsys, monkeypatch, known):
    monkeypatch.setattr("minivlm.course.kit.landlock.version", lambda: known)
    folders = [str(handed_in(tmp_path / name)) for name in ("ada", "zoe")]
    assert cli.main(["course", "grade", *folders, "--seed", "s", "--out", str(tmp_path / "out")]) == 0
    assert capsys.readouterr().err.count("WARNING: this system has no Landlock") == (not known)
