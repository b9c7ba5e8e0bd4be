"""What a teacher can trust: seeds, archives, late policy, statistics, exports, similarity, and a class of twenty."""

import csv
import io
import json
import os
import re
import stat
import struct
import time
import zipfile
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from test_course_grade import HOLLOW, LAYERS, ROW, SOLUTION, borrowed, with_rotate

from minivlm.cli import main as cli
from minivlm.course.archive import LARGEST_INDEX, opened
from minivlm.course.assignments import ASSIGNMENTS, assignment
from minivlm.course.class_seed import ClassSeed, secret_word
from minivlm.course.class_statistics import statistics
from minivlm.course.exports import write_exports
from minivlm.course.fingerprints import Piece, fingerprints
from minivlm.course.grade import Graded, Grader
from minivlm.course.grade_report import GradeReport
from minivlm.course.grade_table import Run, lines_of, require_same_table, students, write_table
from minivlm.course.gradescope import results
from minivlm.course.incidents import KINDS, incidents
from minivlm.course.late import Lateness, moment, policy_of
from minivlm.course.package import PACKAGE, handout
from minivlm.course.reference import Reference
from minivlm.course.similarity import Given, alike, compare, merged, report
from minivlm.course.supervise import Outcome
from minivlm.course.variants import references
from minivlm.course.verdict import OPEN, RIGHT, WRONG, Verdict, stopped
from minivlm.errors import CourseError

FILE = f"minivlm/{LAYERS}"
NAMES = (FILE, "assignment.json")
RUN = Run.now("0123abcd")


def graded(student: str, *states: str, late: Lateness | None = None, notes: tuple[str, ...] = ()) -> Graded:
    verdicts = tuple(Verdict(task, state, seconds=0.5) for task, state in zip(ROW.tasks, states, strict=True))
    return Graded(student, GradeReport(ROW, verdicts), notes, late or Lateness(), "a1b2c3")


def table(out: Path) -> list[dict[str, str]]:
    with (out / "grades.csv").open(encoding="utf-8-sig", newline="") as lines:
        return list(csv.DictReader(lines))


# --- seeds ------------------------------------------------------------------------------------------------------------


def test_the_word_comes_from_one_place(tmp_path):
    file = tmp_path / "seed"
    file.write_text("  a secret\n", encoding="utf-8")
    assert secret_word("typed", None, {}) == "typed"
    assert secret_word(None, file, {"MINIVLM_SEED": "other"}) == "a secret"
    assert secret_word(None, None, {"MINIVLM_SEED": " from the environment "}) == "from the environment"
    with pytest.raises(CourseError, match="both given"):
        secret_word("typed", file, {})
    with pytest.raises(CourseError, match="No seed. Give --seed-file FILE"):
        secret_word(None, None, {"MINIVLM_SEED": " "})
    file.write_text(" \n")
    with pytest.raises(CourseError, match="is empty"):
        secret_word(None, file, {})
    file.write_bytes(b"x" * 10_001)
    with pytest.raises(CourseError, match="more than 10,000 bytes"):
        secret_word(None, file, {})
    with pytest.raises(CourseError, match="cannot be read"):
        secret_word(None, tmp_path / "missing", {})


def test_a_fingerprint_tells_seeds_apart_and_is_not_computed_fast():
    began = time.process_time()
    first, again, second = (ClassSeed.of(word) for word in ("a", "a", "b"))
    assert time.process_time() - began > 0.03  # three slow hashes
    assert first == again
    assert len({first.fingerprint, second.fingerprint}) == 2
    assert len(first.fingerprint) == 8
    assert first.fingerprint not in first.secret


def test_each_student_has_other_inputs_and_the_same_ones_in_a_regrade():
    first, second = references(ROW, [ClassSeed.of("a").of_student(name).secret for name in ("ada", "bob")]).values()
    alone = Reference.of(ROW, ClassSeed.of("a").of_student("ada").secret)
    for task in ROW.tasks:
        tensors = first.shown[task.test].tensors
        assert all(tensors[name].equal(alone.shown[task.test].tensors[name]) for name in tensors)
        assert tensors.keys() == second.shown[task.test].tensors.keys()
    turned = first.shown["test_rotate"].tensors, second.shown["test_rotate"].tensors
    assert any(not turned[0][name].equal(turned[1][name]) for name in turned[0])


def test_what_one_student_copies_of_anothers_numbers_does_not_pass(tmp_path):
    """Ada's tests show what Bob's inputs give: right for Bob, wrong for Ada."""
    seed = ClassSeed.of("a")
    grader = Grader(ROW, Reference.of(ROW, seed.secret), (), seed)
    ada, bob = grader.of_student("ada"), grader.of_student("bob")
    assert ada.reference.seed != bob.reference.seed
    from minivlm.course.verdict import judge

    task = ROW.tasks[1]
    copied = Outcome(task.test, "ran", 0.1, shown=bob.reference.shown[task.test])
    assert judge(task, copied, bob.reference.shown[task.test], 4).state == RIGHT
    assert judge(task, copied, ada.reference.shown[task.test], 4).state == WRONG
    assert Grader(ROW, ada.reference, ()).of_student("bob").reference is ada.reference  # --same-inputs


def test_a_speed_test_has_the_slower_time_of_two(monkeypatch):
    monkeypatch.setattr(Reference, "of", classmethod(lambda cls, row, seed: Reference(seed, {}, {"test_rotate": 1.0})))
    for ours, expected in ((3.0, 3.0), (0.2, 1.0)):
        grader = Grader(ROW, Reference("x", {}, {"test_rotate": ours}), (), ClassSeed.of("a"))
        assert grader.of_student("ada").reference.seconds == {"test_rotate": expected}


# --- the table --------------------------------------------------------------------------------------------------------


def test_the_table_says_under_which_circumstances_a_line_came_about(tmp_path):
    write_table(ROW, [graded("ada", RIGHT, WRONG, RIGHT)], tmp_path, Run.now("0123abcd", policy="10%/day after X"))
    (line,) = table(tmp_path)
    assert (line["seed"], line["variant"], line["inputs"]) == ("0123abcd", "a1b2c3", "per student")
    assert line["policy"] == "10%/day after X"
    assert line["version"].count(".") == 2
    assert datetime.fromisoformat(line["date"]) <= datetime.now().astimezone()
    assert (line["points"], line["seconds"]) == ("70", "1.5")


@pytest.mark.parametrize(
    "other",
    [
        Run("ffffffff"),
        Run("0123abcd", version="9.9"),
        Run("0123abcd", inputs="the same for all"),
        Run("0123abcd", policy="x"),
    ],
)
def test_a_run_under_other_circumstances_is_refused_before_it_begins(tmp_path, other):
    write_table(ROW, [graded("ada", RIGHT, RIGHT, RIGHT)], tmp_path, RUN)
    require_same_table(ROW, tmp_path, Run("0123abcd", date="another day"))
    with pytest.raises(CourseError, match=r"has grades of another run \(seed 0123abcd, .*name another folder"):
        require_same_table(ROW, tmp_path, other)


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_refused_or_stopped_is_a_note(kind, tmp_path):
    task = ROW.tasks[1]
    outcome = Outcome(task.test, kind, 1.0, "PermissionError", message="open\n'/etc/x'")
    verdict = stopped(task, outcome, 4)
    (note,) = incidents([Verdict(ROW.tasks[0], RIGHT), verdict])
    assert note.startswith(f"{KINDS[kind]}: test_rotate")
    assert "\n" not in note
    assert ("/etc/x" in note) == (kind in ("forbidden", "not started"))
    report_ = GradeReport(ROW, (Verdict(ROW.tasks[0], RIGHT), verdict, Verdict(ROW.tasks[2], OPEN)))
    write_table(ROW, [Graded("ada", report_, ("A remark.",))], tmp_path, RUN)
    assert table(tmp_path)[0]["notes"] == f"A remark. {note}"


def test_right_open_and_wrong_alone_are_no_incidents():
    raised = stopped(ROW.tasks[0], Outcome("test_rmsnorm", "raised", 1.0, "ValueError"), 4)
    assert incidents([Verdict(ROW.tasks[0], RIGHT), Verdict(ROW.tasks[1], OPEN), raised]) == []


# --- archives ---------------------------------------------------------------------------------------------------------


def packed(file: Path, *entries: tuple[str | zipfile.ZipInfo, str | bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, text in entries:
            archive.writestr(name, text)
    return file


@pytest.mark.parametrize(
    "name", [FILE, "layers.py", "model/layers.py", f"my-a2/{FILE}", f"a/b/c/{FILE}", FILE.replace("/", "\\")]
)
def test_a_zip_file_is_opened_wherever_the_files_lie_in_it(tmp_path, name):
    for archive in (tmp_path / "ada.zip", tmp_path / "bob" / "what i did.zip"):
        packed(archive, (name, SOLUTION), ("__MACOSX/._layers.py", "x"), ("minivlm/other.py", "x"))
    for number, folder in enumerate((tmp_path / "ada.zip", tmp_path / "bob")):
        found = opened(folder, NAMES, tmp_path / f"place {number}")
        assert (found.folder / FILE).read_text(encoding="utf-8") == SOLUTION
        assert found.notes == []
        assert [path.name for path in found.folder.rglob("*") if path.is_file()] == ["layers.py"]


def test_the_file_with_the_fewest_folders_in_front_is_taken_and_two_are_none(tmp_path):
    packed(tmp_path / "a.zip", (f"x/.venv/{FILE}", "no"), (f"x/{FILE}", "yes"))
    assert (opened(tmp_path / "a.zip", NAMES, tmp_path / "one").folder / FILE).read_text() == "yes"
    packed(tmp_path / "b.zip", (f"old/{FILE}", "no"), (f"new/{FILE}", "yes"))
    assert opened(tmp_path / "b.zip", NAMES, tmp_path / "two").notes == [
        f"b.zip holds {FILE} more than once: none was taken."
    ]


def link(archive: zipfile.ZipFile) -> None:
    entry = zipfile.ZipInfo(FILE)
    entry.create_system, entry.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    archive.writestr(entry, "/etc/passwd")


def climbing(archive: zipfile.ZipFile) -> None:
    archive.writestr(f"../../{FILE}", "x")
    archive.writestr(f"/tmp/{FILE}", "x")
    archive.writestr(f"C:\\{FILE}", "x")


def bomb(archive: zipfile.ZipFile) -> None:
    archive.writestr(FILE, b"#" * 50_000_000)


def unusual(archive: zipfile.ZipFile) -> None:
    archive.writestr(FILE, SOLUTION, compress_type=zipfile.ZIP_LZMA)


@pytest.mark.parametrize(
    ("fill", "note"),
    [
        (link, "is a link or no file: it was not taken"),
        (climbing, "names places outside of it"),
        (bomb, "has 50,000,000 bytes, more than 1,000,000: it was not taken"),
        (unusual, "is compressed in an unusual way"),
    ],
)
def test_a_dangerous_entry_is_not_taken_and_noted(tmp_path, fill, note):
    with zipfile.ZipFile(tmp_path / "ada.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        fill(archive)
    found = opened(tmp_path / "ada.zip", NAMES, tmp_path / "place")
    assert note in " ".join(found.notes)
    assert not [*found.folder.rglob("*")]
    assert {path.name for path in tmp_path.iterdir()} == {"ada.zip", "place"}


def lying(data: bytes) -> bytes:
    """A zip file that says of its entry of 5 MB that it has 10 bytes."""
    return data.replace(struct.pack("<I", 5_000_000), struct.pack("<I", 10))


def locked(data: bytes) -> bytes:
    at = data.index(b"PK\x01\x02")
    return data[: at + 8] + b"\x01" + data[at + 9 :]


@pytest.mark.parametrize(
    ("change", "note"),
    [
        (lying, "cannot be read|more than once"),
        (locked, "wants a password"),
        (lambda data: data[:100], "it is no zip file, or is cut off"),
        (lambda data: b"", "it is no zip file, or is cut off"),
        (lambda data: data[:60] + b"\xff" * 40 + data[100:], "cannot be read"),
        (lambda data: data[:-10] + struct.pack("<I", LARGEST_INDEX + 1) + data[-6:], "its list of files has 8,388,609"),
        (lambda data: data[:-22] + b"PK\x06\x07" + bytes(16) + data[-22:], "more than 65,535 files or 4 GB"),
    ],
)
def test_a_malformed_archive_is_a_note(tmp_path, change, note):
    packed(tmp_path / "whole.zip", (FILE, bytes(5_000_000) if change is lying else SOLUTION))
    (tmp_path / "ada.zip").write_bytes(change((tmp_path / "whole.zip").read_bytes()))
    found = opened(tmp_path / "ada.zip", NAMES, tmp_path / "place")
    assert any(part in " ".join(found.notes) for part in note.split("|"))
    assert not [path for path in found.folder.rglob("*") if path.is_file()]


def test_what_lies_beside_an_archive_counts_and_other_archives_are_named(tmp_path):
    packed(tmp_path / "ada" / "old.zip", (FILE, "old"))
    (tmp_path / "ada" / "layers.py").write_text("new")
    (tmp_path / "ada" / "all.rar").write_bytes(b"Rar!")
    found = opened(tmp_path / "ada", NAMES, tmp_path / "place")
    assert found.folder == tmp_path / "ada"
    assert found.notes == [
        "all.rar was not opened: only a folder or a .zip file is.",
        "old.zip was not opened: files lie beside it.",
    ]
    for name in ("one", "two"):
        packed(tmp_path / "bob" / f"{name}.zip", (FILE, name))
    assert opened(tmp_path / "bob", NAMES, tmp_path / "place").notes == [
        "one.zip, two.zip: several archives, none was opened."
    ]
    packed(tmp_path / "cyd" / "empty.zip", ("readme", "x"))
    assert opened(tmp_path / "cyd", NAMES, tmp_path / "place").notes == [
        "empty.zip holds none of the files that are handed in."
    ]


# --- lateness ---------------------------------------------------------------------------------------------------------

DUE = "2026-12-01T23:59+00:00"


@pytest.mark.parametrize(
    ("at", "late", "share"),
    [
        ("2026-12-01T23:59+00:00", "10%/day", 0),
        ("2026-12-02T00:00+00:00", "10%/day", 0.1),
        ("2026-12-02T23:59+00:00", "10%/day", 0.1),
        ("2026-12-03T00:00+00:00", "10%/day", 0.2),
        ("2027-12-03T00:00+00:00", "10%/day", 1),
        ("2026-12-02T01:00+00:00", "2.5%/hour", 0.05),
        ("2026-12-02T00:00+02:00", "10%/day", 0),  # another time zone
        ("2026-12-05T00:00+00:00", None, 0),
    ],
)
def test_each_begun_unit_costs_its_share(tmp_path, at, late, share):
    (tmp_path / "times.csv").write_text(f"student,time\nada,{at}\n")
    lateness = policy_of(DUE, late, tmp_path / "times.csv").of("ada", tmp_path, NAMES)
    assert lateness.share == pytest.approx(share)
    assert bool(lateness.note) == (moment(at) > moment(DUE))


def test_points_are_taken_off_in_the_table_and_in_gradescopes_file(tmp_path):
    one = graded("ada", RIGHT, WRONG, RIGHT, late=Lateness(share=0.1))
    assert (one.points, one.deducted) == (63, 7)
    assert results(one)["score"] == 63
    assert sum(test["score"] for test in results(one)["tests"]) == 70
    write_table(ROW, [one], tmp_path, RUN)
    assert (table(tmp_path)[0]["points"], table(tmp_path)[0]["late"]) == ("63", "7")


def test_the_newest_time_of_the_files_that_count_is_taken(tmp_path):
    file = tmp_path / "ada" / FILE
    file.parent.mkdir(parents=True)
    file.write_text("x")
    (tmp_path / "ada" / "notes.txt").write_text("newer, and does not count")
    due = moment(DUE)
    os.utime(file, ((due + timedelta(hours=2)).timestamp(),) * 2)
    assert policy_of(DUE, "1%/hour", None).of("ada", tmp_path / "ada", NAMES).by == timedelta(hours=2)
    entry = zipfile.ZipInfo(FILE, (due + timedelta(hours=3)).astimezone().timetuple()[:6])
    with zipfile.ZipFile(tmp_path / "bob.zip", "w") as archive:
        archive.writestr(entry, "x")
    assert policy_of(DUE, "1%/hour", None).of("bob", tmp_path / "bob.zip", NAMES).by == timedelta(hours=3)
    (tmp_path / "cyd").mkdir()
    assert "Not known when" in policy_of(DUE, None, None).of("cyd", tmp_path / "cyd", NAMES).note


@pytest.mark.parametrize(
    ("due", "late", "times", "sentence"),
    [
        (None, "10%/day", None, "give --due TIME, too"),
        ("tomorrow", None, None, "--due 'tomorrow' is no time"),
        (DUE, "10%", None, "--late '10%' cannot be read"),
        (DUE, "110%/day", None, "cannot be read"),
        (DUE, None, "name,time\nada,2026-12-01\n", "entry 2: expected a student"),
        (DUE, None, "student,time\nada,soon\n", "entry 2: expected a student, once, and a time"),
        (DUE, None, "student,time\nada,2026-12-01\nada,2026-12-02\n", "entry 3"),
    ],
)
def test_a_policy_that_cannot_be_read_is_refused(tmp_path, due, late, times, sentence):
    file = tmp_path / "times.csv" if times else None
    if file:
        file.write_text(times)
    with pytest.raises(CourseError, match=sentence):
        policy_of(due, late, file)


def test_a_time_without_a_zone_is_this_machines():
    assert moment("2026-12-01T23:59") == datetime(2026, 12, 1, 23, 59).astimezone()
    assert moment("2026-12-01T23:59Z") == datetime(2026, 12, 1, 23, 59, tzinfo=timezone.utc)
    assert moment("soon") is None


# --- statistics and exports -------------------------------------------------------------------------------------------


def class_of_three(out: Path) -> list[dict[str, str]]:
    out.mkdir(exist_ok=True)
    three = [graded("ada", RIGHT, RIGHT, RIGHT), graded("=bob", RIGHT, WRONG, RIGHT), graded("cyd", OPEN, OPEN, OPEN)]
    write_table(ROW, three, out, RUN)
    return students(lines_of(out / "grades.csv"))


def test_the_class_in_numbers(tmp_path):
    text = statistics(ROW, class_of_three(tmp_path))
    assert "mean 56.7, median 70, from 0 to 100; 1 without any, 0 with points off for lateness" in text
    lines = [line.split() for line in text.splitlines()]
    assert ["90", "to", "100", "1", "#"] in lines
    assert ["70", "to", "80", "1", "#"] in lines
    tests = [line for line in lines if line and line[-1].startswith("test_")]
    assert tests[0] == ["33%", "1", "of", "3", "test_rotate"]
    assert "seconds in tests: median 1.5, most 1.5" in text
    assert statistics(ROW, []) == ""


def test_canvas_and_moodle_find_what_they_look_for(tmp_path):
    """By the rules of `header?` and `update_column_count` in Canvas's lib/gradebook_importer.rb; Moodle asks."""
    write_exports(ROW, class_of_three(tmp_path), tmp_path)
    canvas = [*csv.reader(io.StringIO((tmp_path / "canvas.csv").read_text(encoding="utf-8")))]
    heading = canvas[0]
    assert len(heading) > 3
    assert "Student" in heading[0]
    assert "ID" in heading[1]
    assert heading[2] == "SIS Login ID"
    assert "Section" in heading[3]
    assert "Points Possible" in canvas[1][0]
    assert canvas[1][4] == "100"
    assert {len(line) for line in canvas} == {5}
    assert [(line[2], line[4]) for line in canvas[2:]] == [("'=bob", "70"), ("ada", "100"), ("cyd", "0")]
    moodle = [*csv.reader(io.StringIO((tmp_path / "moodle.csv").read_text(encoding="utf-8")))]
    assert moodle[0] == ["Username", "a2 Some layers", "a2 Some layers (feedback)"]
    assert moodle[2] == ["ada", "100", "rmsnorm: 50/50; rotate: 30/30; angles near the start: 20/20"]
    assert all(0 <= float(line[1]) <= 100 for line in moodle[1:])  # Moodle refuses more, by default


# --- similarity -------------------------------------------------------------------------------------------------------

OWN = [
    "halves = []",
    "for place in range(x.shape[-1] // 2):",
    "    left, right = x[..., place], x[..., place + x.shape[-1] // 2]",
    "    c, s = cos[:, None, :, place], sin[:, None, :, place]",
    "    halves.append((left * c - right * s, left * s + right * c))",
    "return torch.stack([one for one, _ in halves] + [two for _, two in halves], dim=-1)",
]
OTHER = [
    "width = x.size(-1) // 2",
    "swapped = x.roll(width, -1).clone()",
    "swapped[..., :width].neg_()",
    "cos, sin = (torch.cat([part, part], -1).unsqueeze(1) for part in (cos, sin))",
    "return torch.addcmul(x * cos, swapped, sin)",
]


def renamed(lines: list[str]) -> list[str]:
    text = "\n".join(lines)
    for old, new in (("halves", "teile"), ("place", "i"), ("left", "a"), ("right", "b"), ("one", "p"), ("two", "q")):
        text = re.sub(rf"\b{old}\b", new, text)
    return ["'''My own idea.'''", "# thought of by myself", *text.splitlines()]


def handed(place: Path, **sources: str) -> list[tuple[str, Path]]:
    folders = []
    for name, source in sources.items():
        (place / name / FILE).parent.mkdir(parents=True)
        (place / name / FILE).write_text(source, encoding="utf-8")
        folders.append((name, place / name))
    return folders


def pairs_of(found: list) -> list[tuple[str, str]]:
    return [(pair.first.student, pair.second.student) for pair in found]


def test_copies_are_named_with_their_places_renamed_or_not(tmp_path):
    own, copy, other = with_rotate(*OWN), with_rotate(*renamed(OWN)), with_rotate(*OTHER)
    folders = handed(tmp_path, ada=own, bob=own, cyd=copy, dan=other, eve=SOLUTION, fay=SOLUTION, gil=HOLLOW)
    everyone = compare(ROW, folders)
    found = alike(everyone)
    assert sorted(pairs_of(found)) == [("ada", "bob"), ("ada", "cyd"), ("bob", "cyd")]
    first = next(number for number, text in enumerate(own.splitlines(), 1) if "halves = []" in text)
    text = report(everyone)
    assert "ada and bob: identical, 100% of what is their own" in text
    assert "cyd: near-identical" in text or "cyd: identical" in text
    (place,) = re.findall(rf"ada: {FILE}, lines (\d+)-(\d+)\n", text.partition("cyd")[0])
    assert int(place[0]) in range(first - 2, first + 1)  # a fingerprint may begin in the line above
    assert int(place[1]) in range(first + 5, first + 8)
    assert "eve: 100% of what was written" in text  # the package's own solution, which is public
    assert "gil: " not in text


def test_a_notebook_and_a_zip_file_are_compared_too(tmp_path):
    cell = {"cell_type": "code", "source": "\n".join(OWN).replace("return", "result =")}
    answer = {"cell_type": "markdown", "source": "The first number turns with the one half a head further on, since ."}
    page = json.loads(handout("a2").read_text(encoding="utf-8"))
    for name in ("ada", "bob"):
        (tmp_path / name).mkdir()
        own = page | {"cells": [*page["cells"], cell, answer]}
        (tmp_path / name / "a2.ipynb").write_text(json.dumps(own), encoding="utf-8")
    (tmp_path / "cyd").mkdir()
    (tmp_path / "cyd" / "a2.ipynb").write_text(json.dumps(page), encoding="utf-8")
    packed(tmp_path / "dan.zip", ("a2/a2.ipynb", json.dumps(page | {"cells": [cell]})))
    folders = [(name, tmp_path / name) for name in ("ada", "bob", "cyd", "dan.zip")]
    everyone = compare(assignment("a2"), folders)
    assert ("ada", "bob") in pairs_of(alike(everyone))
    assert ("ada", "dan.zip") in pairs_of(alike(everyone))
    assert f"a2.ipynb, cell {len(page['cells']) + 1}, lines 1-6" in report(everyone)
    assert not everyone[2].prints  # the handout as it was given


def test_fingerprints_ignore_names_comments_docstrings_and_layout():
    def prints(text: str) -> list[int]:
        return [one for one, _, _ in fingerprints(Piece("x", text).tokens)]

    plain = "def f(a, b):\n    c = a + b\n    return c * g(a, b) - c.mean()\n"
    other = "def h(x,y):\n  '''Doc.'''\n\n  z = (x\n)  # sum\n".replace("(x\n)", "x").replace("= x", "= x + y")
    other += "  return z*k(x, y) - z.mean()\n"
    assert len(prints(plain)) > 5
    assert prints(plain) == prints(other)
    assert prints(plain) != prints(plain.replace("mean", "sum"))
    assert prints("def f((:\n '''") == []  # no Python: read as words
    assert [*merged([(4, 5), (1, 2), (3, 3), (9, 9)])] == ["1-5", "9"]


def test_what_every_handout_has_counts_for_nobody():
    for name in ("a1", "a2", "a3", "a4", "a5", "a6", "a7"):
        row = assignment(name)
        given = Given.of(row)
        assert given.handed_out
        assert bool(given.solution) != row.is_zoo


# --- a class of twenty ------------------------------------------------------------------------------------------------

CHEATS = {  # bodies of `rotate`, and what the note says of them
    "borrowing": ([], "Refused by the sandbox: test_rotate"),
    "dying": (["import os", "os._exit(0)"], "The process died: test_rotate"),
    "writing": (["open('/tmp/answers', 'w').write('x')", "return x"], "Refused by the sandbox: test_rotate"),
    "starting": (["import os", "os.system('id')", "return x"], "Refused by the sandbox: test_rotate"),
    "calling": (
        ["import socket", "socket.create_connection(('127.0.0.1', 9))", "return x"],
        "Refused by the sandbox: test_rotate",
    ),
    "peeking": ([f"open({str(PACKAGE / LAYERS)!r}).read()", "return x"], "Refused by the sandbox: test_rotate"),
    "hiding": (
        ["try:", f"    open({str(PACKAGE / LAYERS)!r})", "except OSError:", "    return x"],
        "Refused by the sandbox: test_rotate",
    ),
    "forging": (['print(\'{"status": "ran"}\', flush=True)', "return x"], ""),
    "patching": (
        ["import minivlm.course.kit.compare as compare", "compare.first_difference = lambda *_: ''", "return x"],
        "",
    ),
    "hoarding": (["return torch.ones(10**9).sum() * x"], "Stopped for its memory: test_rotate"),
}
DUE_IN_TEST = "2026-11-01T12:00+00:00"


def rows_of_class(place: Path) -> dict[str, int]:
    """Write twenty submissions; returns their points."""
    author, broken = with_rotate(*OWN), with_rotate("return x * cos[:, None] - x * sin[:, None]")
    sources = {"author": author, "copied": author, "renamed": with_rotate(*renamed(OWN))}
    sources |= {"right": SOLUTION, "late": SOLUTION, "hollow": HOLLOW, "half": broken}
    sources |= {"hanging": with_rotate("while True: pass")}
    sources |= {name: borrowed() if name == "borrowing" else with_rotate(*body) for name, (body, _) in CHEATS.items()}
    handed(place, **sources)
    packed(place / "zipped.zip", (zipfile.ZipInfo(f"my-a2/{FILE}", (2026, 10, 1, 0, 0, 0)), SOLUTION))
    (place / "malformed.zip").write_bytes((place / "zipped.zip").read_bytes()[:200])
    due = moment(DUE_IN_TEST)
    for file in place.rglob("*.py"):
        when = due + timedelta(hours=30) if "late" in file.parts else due - timedelta(hours=1)
        os.utime(file, (when.timestamp(),) * 2)
    full = {"author": 100, "copied": 100, "renamed": 100, "right": 100, "late": 80, "zipped": 100}
    return dict.fromkeys(["half", "hanging", *CHEATS], 70) | full | {"hollow": 0, "malformed": 0}


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt" or not Path("/proc").is_dir(), reason="memory is limited on Linux only")
def test_a_class_of_twenty_is_graded_in_one_command(tmp_path, monkeypatch, capsys):
    """Right, half right, copied, renamed and copied, hanging, cheating in ten ways, late, malformed: each gets what it
    should, is named for it, and costs nobody else anything.
    """
    monkeypatch.setitem(ASSIGNMENTS, "a2", ROW)
    monkeypatch.setenv("MINIVLM_SEED", "a secret")
    expected, out = rows_of_class(tmp_path / "class"), tmp_path / "out"
    folders = [str(folder) for folder in sorted((tmp_path / "class").iterdir())]
    assert len(folders) == len(expected) == 20
    words = ["course", "grade", *folders, "--assignment", "a2", "--out", str(out), "--jobs", "2"]
    assert cli.main([*words, "--due", DUE_IN_TEST, "--late", "10%/day"]) == 0
    said = capsys.readouterr().out
    found = {line["student"]: line for line in table(out)}
    assert {student: float(line["points"]) for student, line in found.items()} == expected
    for name, (_, note) in CHEATS.items():
        assert note in found[name]["notes"], name
    assert "Stopped for its time: test_rotate" in found["hanging"]["notes"]
    assert "Late by 1 day 6 h: 20% of the points are taken off" in found["late"]["notes"]
    assert "is no zip file, or is cut off" in found["malformed"]["notes"]
    assert found["right"]["notes"] == found["zipped"]["notes"] == ""
    assert len({line["variant"] for line in found.values()}) == 20
    assert {line["seed"] for line in found.values()} == {ClassSeed.of("a secret").fingerprint}
    assert "a secret" not in (out / "grades.csv").read_text(encoding="utf-8-sig") + said
    assert "20 students" in said
    assert "hardest" in (out / "statistics.txt").read_text(encoding="utf-8")
    assert len((out / "canvas.csv").read_text(encoding="utf-8").splitlines()) == 22
    assert cli.main([*words, "--same-inputs"]) == 1
    assert "has grades of another run" in capsys.readouterr().err
    assert cli.main(["course", "similar", *folders, "--assignment", "a2"]) == 0
    pairs = re.findall(r"^(\w+) and (\w+): ", capsys.readouterr().out, re.MULTILINE)
    assert sorted(pairs) == [("author", "copied"), ("author", "renamed"), ("copied", "renamed")]
