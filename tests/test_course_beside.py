"""What a student's code took, beside what the package took."""

import subprocess
import sys
from dataclasses import replace

import pytest

from minivlm.course.assignments import assignment
from minivlm.course.beside import FILE, Took, beside, read_took, save_took
from minivlm.course.grade_report import line_of
from minivlm.course.peak_memory import PeakMemory
from minivlm.course.supervise import Outcome
from minivlm.course.verdict import OPEN, RIGHT, Verdict

TASK = assignment("a1").tasks[0]
EATS = "print(flush=True)\nfor _ in open(0):\n    b = bytearray(80 * 2**20)\n    del b\n    print(flush=True)"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")
def test_the_peak_is_that_since_it_was_begun():
    """A process takes 80 MB and gives them back; a count that begins behind that knows nothing of them."""
    with subprocess.Popen([sys.executable, "-c", EATS], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        peak = PeakMemory(process.pid)
        process.stdin.write(b"\n")
        process.stdin.flush()
        process.stdout.readline()
        assert 75 < peak.megabytes < 90
        assert PeakMemory(process.pid).megabytes < 5
        process.stdin.close()
    assert peak.megabytes is None
    assert PeakMemory(process.pid).megabytes is None


def test_both_are_in_the_line_of_a_test_that_is_right():
    outcome, package = Outcome("t", "ran", 0.5, megabytes=12.3), Took(0.125, 3.0)
    verdict = beside(Verdict(TASK, RIGHT, seconds=0.5), outcome, package)
    assert line_of(verdict) == "  ok    5/5   quick gelu  (0.50 s, 12 MB; the package took 0.12 s, 3 MB)"
    unknown = beside(Verdict(TASK, RIGHT), replace(outcome, megabytes=None), Took(0.5))
    assert line_of(unknown).endswith("(0.50 s; the package took 0.50 s)")
    assert beside(Verdict(TASK, RIGHT), outcome, None).took == ""
    assert beside(Verdict(TASK, OPEN), outcome, package).took == ""


def test_what_the_package_took_survives_a_file(tmp_path):
    assert read_took(tmp_path) == {}
    save_took({"a": Took(1.23456, 7.891), "b": Took(2.0)}, tmp_path)
    assert read_took(tmp_path) == {"a": Took(1.235, 7.9), "b": Took(2.0)}


@pytest.mark.parametrize("text", ["", "[]", "{", '{"a": 1}', '{"a": []}', '{"a": ["x", 1]}', '{"a": [1]}', "3"])
def test_a_damaged_file_tells_nothing(tmp_path, text):
    (tmp_path / FILE).write_text(text)
    assert read_took(tmp_path) == {}
