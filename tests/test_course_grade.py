"""From the folder that a student gets to the grades of a class, with students of every kind."""

import ast
import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from minivlm.cli import main as cli
from minivlm.cli.course_grade import common_assignment
from minivlm.course.assignments import ASSIGNMENTS, Assignment, Task, assignment
from minivlm.course.grade import Graded, Grader, grade
from minivlm.course.grade_report import GradeReport
from minivlm.course.grade_table import Run, require_same_table, write_table
from minivlm.course.gradescope import write_results
from minivlm.course.holes import body_lines, functions, hollowed
from minivlm.course.kit.show import Show
from minivlm.course.package import PACKAGE, handout
from minivlm.course.project import KIT, write_package
from minivlm.course.reference import Reference, seed_of
from minivlm.course.submission import assemble, remarks, started_for_another, suspicions
from minivlm.course.supervise import Outcome
from minivlm.course.verdict import OPEN, RIGHT, WRONG, Verdict, judge, judge_hunt
from minivlm.errors import CourseError

LAYERS = "model/layers.py"
HOLES = ("RMSNorm.forward", "rotary_angles", "rotate")
ROW = Assignment(  # a small a2
    name="a2",
    title="Some layers",
    minutes=1,
    holes={LAYERS: HOLES},
    tasks=(
        Task("test_rmsnorm", 50, "RMSNorm.forward"),
        Task("test_rotate", 30, "rotate", seconds=4, hint="Which number turns together with which?"),
        Task("test_angles_near_the_start", 20, "rotary_angles"),
    ),
)
SOLUTION = (PACKAGE / LAYERS).read_text(encoding="utf-8")
HOLLOW = hollowed(SOLUTION, HOLES, f"minivlm/{LAYERS}")
ROTATE = 'raise NotImplementedError("Write rotate in minivlm/model/layers.py.")'


def with_rotate(*lines: str) -> str:
    """The solution, but for `rotate`."""
    return hollowed(SOLUTION, ["rotate"], f"minivlm/{LAYERS}").replace(ROTATE, "\n    ".join(lines))


def borrowed() -> str:
    return with_rotate(
        "import importlib.util as util",
        f"spec = util.spec_from_file_location('solution', {str(PACKAGE / LAYERS)!r})",
        "module = util.module_from_spec(spec)",
        "spec.loader.exec_module(module)",
        "return module.rotate(x, cos, sin)",
    )


RUN = Run.now("0123abcd")
STUDENTS = {  # source, and the points for each test
    "right": (SOLUTION, [50, 30, 20]),
    "hollow": (HOLLOW, [0, 0, 0]),
    "wrong": (with_rotate("return x * cos[:, None] - x * sin[:, None]"), [50, 0, 20]),
    "endless": (with_rotate("while True: pass"), [50, 0, 20]),
    "dying": (with_rotate("import os", "os._exit(0)"), [50, 0, 20]),
    "flooding": (with_rotate("print('flood ' * 10_000_000)", "raise SystemExit(0)"), [50, 0, 20]),
    "borrowing": (borrowed(), [50, 0, 20]),
    "hiding": (
        with_rotate("try:", f"    open({str(PACKAGE / LAYERS)!r})", "except OSError:", "    return x"),
        [50, 0, 20],
    ),
    "misspelt": (SOLUTION.replace("def rotate(", "def rotate(("), [0, 0, 0]),
}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of a class, of whom some hand in single files, links, or nothing."""
    place = tmp_path_factory.mktemp("class")
    for name, (source, _) in STUDENTS.items():
        file = place / "handed-in" / name / ("layers.py" if name == "wrong" else f"minivlm/{LAYERS}")
        file.parent.mkdir(parents=True)
        file.write_text(source, encoding="utf-8")
    (place / "handed-in" / "nothing").mkdir()
    (place / "handed-in" / "linked").mkdir()
    (place / "handed-in" / "linked" / "layers.py").symlink_to(PACKAGE / LAYERS)
    (place / "handed-in" / "linked within").mkdir()
    (place / "handed-in" / "linked within" / "minivlm").symlink_to(PACKAGE)
    folders = sorted((place / "handed-in").iterdir())
    out = place / "results"
    graded = list(grade(ROW, folders, "a secret", out, jobs=2))
    for one in graded:
        write_results(one, out)
    write_table(ROW, graded, out, RUN)
    return out


def result(results: Path, student: str) -> dict:
    return json.loads((results / student / "results.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("student", STUDENTS)
def test_what_a_student_does_costs_the_test_that_it_meets_and_no_other(results, student):
    found = result(results, student)
    assert [test["score"] for test in found["tests"]] == STUDENTS[student][1], found["output"]
    assert found["score"] == sum(STUDENTS[student][1])
    assert [test["max_score"] for test in found["tests"]] == [50, 30, 20]
    assert [test["status"] for test in found["tests"]] == [
        "passed" if points else "failed" for points in STUDENTS[student][1]
    ]


@pytest.mark.parametrize(
    ("student", "sentence"),
    [
        ("hollow", "Write rotate in minivlm/model/layers.py."),
        ("wrong", "expected"),
        ("wrong", "Which number turns together with which?"),
        ("endless", "Stopped after 4 s: a loop without end"),
        ("dying", "process died"),
        ("flooding", "SystemExit"),
        ("borrowing", "Not allowed here"),
        ("hiding", "Not allowed here"),
        ("misspelt", "Your minivlm/model/layers.py cannot be read: line"),
    ],
)
def test_every_failure_has_its_sentence(results, student, sentence):
    output = result(results, student)["tests"][1]["output"]
    assert sentence in output
    assert len(output) < 2000


def test_what_was_not_handed_in_or_is_a_link_is_remarked(results):
    assert "model/layers.py was not handed in" in result(results, "nothing")["output"]
    for student in ("linked", "linked within"):
        assert "is behind a link" in result(results, student)["output"]
    assert {result(results, student)["score"] for student in ("nothing", "linked", "linked within")} == {0}


def table(folder: Path) -> list[dict]:
    with (folder / "grades.csv").open(encoding="utf-8-sig", newline="") as lines:
        return list(csv.DictReader(lines))


def test_the_table_has_one_line_a_student(results):
    rows = table(results)
    assert [row["student"] for row in rows] == sorted([*STUDENTS, "nothing", "linked", "linked within"])
    by_name = {row["student"]: row for row in rows}
    assert by_name["right"]["points"] == "100"
    assert by_name["endless"]["test_rotate"] == "0"
    assert "was not handed in" in by_name["nothing"]["notes"]


def graded(student: str, state: str, *notes: str) -> Graded:
    return Graded(student, GradeReport(ROW, tuple(Verdict(task, state) for task in ROW.tasks)), notes)


def test_a_regrade_of_one_student_keeps_the_lines_of_the_others(tmp_path):
    write_table(ROW, [graded("ada", WRONG), graded("Zoë", RIGHT)], tmp_path, RUN)
    write_table(ROW, [graded("ada", RIGHT, 'a, "remark"')], tmp_path, RUN)
    assert [(row["student"], row["points"], row["notes"]) for row in table(tmp_path)] == [
        ("Zoë", "100", ""),
        ("ada", "100", 'a, "remark"'),
    ]
    require_same_table(ROW, tmp_path, RUN)
    with pytest.raises(CourseError, match="is not a table of a3"):
        require_same_table(assignment("a3"), tmp_path, RUN)


def test_no_name_is_a_formula(tmp_path):
    write_table(ROW, [graded("=1+1", RIGHT)], tmp_path, RUN)
    assert table(tmp_path)[0]["student"] == "'=1+1"


# --- seeds, verdicts, odd folders -------------------------------------------------------------------------------------


def test_a_secret_seed_draws_other_inputs_for_each_test_and_does_not_show():
    first, second = ROW.tasks[:2]
    seeds = {seed_of(word, ROW, task) for word in ("a", "b") for task in (first, second)}
    assert len(seeds) == 4
    assert seed_of("a", ROW, first) == seed_of("a", ROW, first)
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_a_speed_test_has_some_times_what_the_reference_took():
    task = Task("test_x", 1, "x", seconds=20, times=3)
    assert Reference("a", {}, {"test_x": 2.0}).limit(task) == 6.0
    assert Reference("a", {}, {"test_x": 0.01}).limit(task) == 1.0
    assert Reference("public", {}, {}).limit(task) == 20


TASK = Task("test_x", 7, "x", bug="short")
FINE, LOST = Outcome("test_x", "ran", 1, shown=Show().shown), Outcome("test_x", "raised", 1, "AssertionError")
UNWRITTEN = Outcome("test_x", "raised", 1, "NotImplementedError", "", "Write x.")


@pytest.mark.parametrize(
    ("healthy", "broken", "state", "sentence"),
    [
        (FINE, LOST, RIGHT, ""),
        (FINE, FINE, WRONG, "still at large"),
        (LOST, LOST, WRONG, "On the healthy package: test_x: AssertionError"),
        (UNWRITTEN, UNWRITTEN, OPEN, "Write x."),
        (FINE, UNWRITTEN, WRONG, "With the bug 'short'"),
        (FINE, Outcome("test_x", "too slow", 20), WRONG, "With the bug 'short': Stopped after 20 s"),
        (FINE, Outcome("test_x", "forbidden", 1, message="It may not read."), WRONG, "Not allowed here"),
        (Outcome("test_x", "crashed", 1), LOST, WRONG, "On the healthy package: The Python process died."),
    ],
)
def test_a_bug_is_caught_by_a_test_that_passes_without_it(healthy, broken, state, sentence):
    verdict = judge_hunt(TASK, healthy, broken, 20)
    assert (verdict.state, verdict.points) == (state, 7 if state == RIGHT else 0)
    assert sentence in verdict.sentence


def test_what_torch_cannot_do_is_no_hole_and_an_exception_needs_no_hint():
    task = Task("test_x", 7, "x", hint="Look there.")
    raised = Outcome(
        "test_x", "raised", 1, "NotImplementedError", "minivlm/a.py, line 3, in x", "Subtraction of bools."
    )
    verdict = judge(task, raised, Show().shown, 20)
    assert (verdict.state, verdict.hint) == (WRONG, "")
    assert verdict.sentence == "minivlm/a.py, line 3, in x: NotImplementedError: Subtraction of bools."
    asserted = Outcome("test_x", "raised", 1, "AssertionError", "tests/test_a1.py, line 3", "A row sums to 1.")
    assert judge(task, asserted, Show().shown, 20).hint == ""  # the test's own sentence says what is wrong
    found, expected = Show(), Show()
    found(x=2.0)
    expected(x=1.0)
    assert judge(task, Outcome("test_x", "ran", 1, shown=found.shown), expected.shown, 20).hint == "Look there."


def test_a_part_that_is_right_is_not_yet_all():
    right = Verdict(ROW.tasks[0], RIGHT)
    assert str(GradeReport(ROW, (right,))).endswith("Right so far. Check all 3 tests before you hand in.")
    assert str(GradeReport(ROW, (right, right, right))).endswith("Hand it in.")


def test_a_test_that_shows_nothing_is_wrong_where_something_is_expected():
    show = Show()
    show(x=1)
    assert judge(TASK, FINE, show.shown, 20).sentence == "x: expected a plain value, found nothing."


def test_what_cannot_be_graded_is_remarked_and_the_class_goes_on(tmp_path, monkeypatch):
    folder = tmp_path / os.fsdecode(b"J\xfcrg")  # from an archive of another encoding
    folder.mkdir()

    def broken(*_):
        raise RecursionError("too deep")

    monkeypatch.setattr(Grader, "judged", broken)
    graded = Grader(ROW, Reference("s", {}, {}), ()).grade(folder)
    assert (graded.student, graded.report.points) == (r"J\udcfcrg", 0)
    assert "Not graded, look at it by hand: RecursionError: too deep" in graded.notes
    write_results(graded, tmp_path)
    write_table(ROW, [graded], tmp_path, RUN)


def test_tests_that_look_into_the_code_are_remarked(tmp_path):
    file = tmp_path / "test_zoo.py"
    file.write_text("import hashlib\nassert hashlib.sha1(f.__code__.co_code).hexdigest() == 'x'")
    assert [*suspicions(file)] == [
        "test_zoo.py mentions __code__, co_code, hashlib: see whether it tests what the package does."
    ]
    assert [*suspicions(PACKAGE / "course" / "kit" / "test_zoo.py")] == []
    assert [*suspicions(Path(__file__).parent / "support" / "zoo_answers.py")] == []


def test_a_folder_may_not_be_called_like_the_table(tmp_path):
    (tmp_path / "grades.csv").mkdir()
    with pytest.raises(CourseError, match="no student's folder can be"):
        list(grade(ROW, [tmp_path / "grades.csv"], "s", tmp_path / "out"))


def test_two_students_of_one_name_and_missing_folders_are_refused(tmp_path):
    for folder in ("one/ada", "two/ada"):
        (tmp_path / folder).mkdir(parents=True)
    with pytest.raises(CourseError, match="ada is there more than once"):
        list(grade(ROW, [tmp_path / "one/ada", tmp_path / "two/ada"], "s", tmp_path / "out"))
    with pytest.raises(CourseError, match="found nothing at .*nobody"):
        list(grade(ROW, [tmp_path / "nobody"], "s", tmp_path / "out"))


def test_an_archive_and_a_folder_of_another_assignment_are_remarked(tmp_path):
    (tmp_path / "ada.zip").write_bytes(b"PK")
    assert [*remarks(tmp_path / "ada.zip")] == ["ada.zip is no folder: unpack it."]
    (tmp_path / "bob").mkdir()
    (tmp_path / "bob" / "assignment.json").write_text('{"assignment": "a3"}')
    assert started_for_another(ROW, tmp_path / "bob") == "No points: the folder was started for a3, not for a2."


def test_the_assignment_is_what_the_folders_say_as_far_as_they_say(tmp_path):
    for name, note in (("ada", '{"assignment": "a2"}'), ("bob", ""), ("eve", '{"assignment": "a3"}')):
        (tmp_path / name).mkdir()
        (tmp_path / name / "assignment.json").write_text(note)
    assert common_assignment([tmp_path / "ada", tmp_path / "bob"]) == "a2"
    with pytest.raises(CourseError, match="Name it with --assignment: they were started for a2, a3"):
        common_assignment([tmp_path / "ada", tmp_path / "eve"])
    with pytest.raises(CourseError, match="none of the folders says"):
        common_assignment([tmp_path / "bob"])


def test_a_file_that_is_too_large_is_not_taken(tmp_path):
    (tmp_path / "ada").mkdir()
    (tmp_path / "ada" / "layers.py").write_text("#" * 1_000_001)
    assert "more than 1,000,000" in "".join(assemble(ROW, tmp_path / "ada", tmp_path / "project"))


# --- nothing of the solution goes along -------------------------------------------------------------------------------


ALIKE = {  # single lines that a neighbour has as well, and must have, since it does the same to something else
    "projections = self.q_proj(x), self.k_proj(x), self.v_proj(x)",  # the tower and the decoder
    "p = at_least_fp32(weights[..., layout.span]) * layout.patches  # B H R P",  # the anchor and the ceiling (aim.py)
}


def solution_lines(row: Assignment) -> set[str]:
    """The lines of the bodies that are taken out, if they are long enough to mean something."""
    found = set()
    for file, names in row.holes.items():
        source = (PACKAGE / file).read_text(encoding="utf-8")
        lines, known = source.splitlines(keepends=True), dict(functions(ast.parse(source)))
        for name in names:
            first, last = body_lines(known[name], lines)
            found |= {line.strip() for line in lines[first - 1 : last] if len(line.strip()) > 24}
    return found - ALIKE


@pytest.mark.parametrize("name", [name for name, row in ASSIGNMENTS.items() if not row.is_zoo])
def test_no_line_of_a_solution_is_left_in_a_students_folder(name, tmp_path):
    row = assignment(name)
    write_package(row, tmp_path)
    for file in (KIT / row.tests, KIT / "conftest.py", handout(name)):
        shutil.copyfile(file, tmp_path / file.name)
    texts = {
        path: path.read_text(encoding="utf-8")
        for path in tmp_path.rglob("*")
        if path.suffix in (".py", ".ipynb", ".json")
    }
    assert len(texts) > 100
    assert not list(tmp_path.rglob("*.pyc"))
    secret = solution_lines(row)
    assert secret
    assert [(line, str(path)) for line in secret for path, text in texts.items() if line in text] == []


# --- as a student does ------------------------------------------------------------------------------------------------


def in_folder(folder: Path, *words: str) -> subprocess.CompletedProcess:
    """A command in the student's folder, on the package that lies there."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    return subprocess.run(
        [sys.executable, "-m", *words], cwd=folder, env=clean, text=True, capture_output=True, check=False
    )


@pytest.mark.slow
def test_a_student_starts_writes_checks_and_is_done(tmp_path, capsys):
    """With the package that lies there, by `course check` and by plain pytest; a student's copy cannot grade."""
    folder = tmp_path / "a2"
    assert cli.main(["course", "start", "a2", str(folder)]) == 0
    assert "Begin with" in capsys.readouterr().out
    assert cli.main(["course", "start", "a2", str(folder)]) == 1
    assert "is not empty" in capsys.readouterr().err
    begun = in_folder(folder, "minivlm", "course", "check")
    assert begun.returncode == 1
    assert "a2 · Rotary positions, RMSNorm and the cache: 0 of 100 points" in begun.stdout
    assert "Next: Write RMSNorm.forward in minivlm/model/layers.py." in begun.stdout
    for file in assignment("a2").holes:
        shutil.copyfile(PACKAGE / file, folder / "minivlm" / file)
    done = in_folder(folder, "minivlm", "course", "check", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["points"] == 100
    assert in_folder(folder, "pytest", "-q").returncode == 0
    layers = folder / "minivlm" / LAYERS
    layers.write_text(
        layers.read_text(encoding="utf-8").replace("1.702", "1.7").replace("(-second, first)", "(second, first)")
    )
    tested = in_folder(folder, "pytest", "-q", "-k", "test_rotate")
    assert "a_quarter_turn[" in tested.stdout
    assert "error" not in tested.stdout
    graded = in_folder(folder, "minivlm", "course", "grade", ".", "--seed", "x", "--out", "results")
    assert graded.returncode == 1
    assert "is a student's copy" in graded.stderr


def test_list_names_every_assignment(capsys):
    assert cli.main(["course", "list"]) == 0
    said = capsys.readouterr().out
    assert all(f"{name}  {row.title}" in said for name, row in ASSIGNMENTS.items())


def test_a_folder_of_no_assignment_says_how_to_begin(tmp_path, capsys):
    assert cli.main(["course", "check", str(tmp_path)]) == 1
    assert "Begin one with `minivlm course start a1 DIR`" in capsys.readouterr().err
    (tmp_path / "assignment.json").write_text("[]")
    assert cli.main(["course", "check", str(tmp_path)]) == 1
    assert "is damaged" in capsys.readouterr().err
