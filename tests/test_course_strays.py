"""What student code leaves behind, or takes beside the usual ways, ends with its test."""

import subprocess
import sys
import time

import pytest

from minivlm.course.limits import environment_of, kill_strays
from minivlm.course.supervise import supervise
from support.small_student import jobs, project

WORK = """
import mmap, os

def shares():
    with mmap.mmap(-1, 3 * 2**30) as much:
        much[0] = 1

def digs():
    for depth in range(2000):
        os.mkdir("d")
        os.chdir("d")
"""
TESTS = """
from minivlm.work import digs, shares

def test_shares(draw, show):
    shares()

def test_digs(draw, show):
    digs()

def test_long_header(draw, show):
    show(many=[[] for _ in range(600_000)])

def test_good(draw, show):
    show(fine=True)
"""


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict:
    place, tests = project(tmp_path_factory.mktemp("strays"), WORK, TESTS)
    return {outcome.test: outcome for outcome in supervise(place, tests, jobs(TESTS))}


@pytest.mark.skipif(sys.platform != "linux", reason="strays are found in /proc")
def test_what_left_its_group_is_found_by_its_home(tmp_path):
    """A process that has gone its own way still has the home folder of the worker that it came from."""
    sleep = [sys.executable, "-c", "import time; time.sleep(600)"]
    stray, other = (
        subprocess.Popen(sleep, env={"HOME": str(home)}, start_new_session=True) for home in (tmp_path, tmp_path / "x")
    )
    try:
        while b"HOME" not in environment_of(stray.pid) + environment_of(other.pid):
            time.sleep(0.01)
        kill_strays(tmp_path)
        assert stray.wait(120) != 0
        assert other.poll() is None
    finally:
        stray.kill()
        other.kill()


@pytest.mark.skipif(sys.platform != "linux", reason="memory is limited on Linux alone")
def test_memory_that_is_shared_counts(outcomes):
    assert outcomes["test_shares"].status != "ran"


def test_folders_are_counted(outcomes):
    assert outcomes["test_digs"].status == "forbidden"
    assert "too many folders" in outcomes["test_digs"].message


def test_a_long_header_is_not_read(outcomes):
    assert outcomes["test_long_header"].status == "raised"
    assert "header of at most" in outcomes["test_long_header"].message


def test_the_next_test_runs(outcomes):
    assert outcomes["test_good"].status == "ran"
