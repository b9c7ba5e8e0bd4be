"""A process that answers for hours: see `support/soak.py`."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent / "support" / "soak.py"
ROUNDS = 20
MOST_GROWTH = 2.0  # MB for a thousand questions, over the later half: a leak of one picture's features is 17 times that


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is measured on Linux alone")
def test_two_thousand_questions_leave_nothing_behind():
    """The last hundred answers are the first hundred, also in four threads, and memory does not grow."""
    done = subprocess.run([sys.executable, str(SCRIPT), "--rounds", str(ROUNDS)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    print(done.stdout)
    told = json.loads(done.stdout)
    assert told["last_equal_first"]
    assert told["threads_equal_first"] == [True] * 4
    assert told["mb_per_thousand_questions"] < MOST_GROWTH
