"""Processes that answer for hours, are interrupted or are killed: `support/soak.py` and `support/killed_run.py`."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

import minivlm
from minivlm import CLVA, EAH, Answer
from support.tiny_model import picture

SUPPORT = Path(__file__).parent / "support"
ROUNDS = 20
MOST_GROWTH = 2.0  # MB for a thousand questions, over the later half: a leak of one picture's features is 17 times that


def figures(script: str, *arguments: object) -> dict:
    """What one of the scripts prints."""
    command = [sys.executable, str(SUPPORT / script), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    print(done.stdout)
    return json.loads(done.stdout)


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is measured on Linux alone")
def test_two_thousand_questions_leave_nothing_behind():
    """The last hundred answers are the first hundred, also in four threads, and memory does not grow."""
    told = figures("soak.py", "--rounds", ROUNDS)
    assert told["last_equal_first"]
    assert told["threads_equal_first"] == [True] * 4
    assert told["mb_per_thousand_questions"] < MOST_GROWTH


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills children, which takes a system that can fork")
def test_an_evaluation_killed_fifty_times_is_the_same_to_the_byte(tmp_path):
    told = figures("killed_run.py", tmp_path, "--kills", 50)
    assert (told["kills"], told["survived"]) == (55, 0)
    assert told["same"] == {"summary.json": True, "counts.json": True, "answers": True}
    assert told["strange_files"] == []


@pytest.mark.weights
@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="sends itself signals")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # the moment may be in a `__del__`
def test_an_answer_interrupted_at_a_hundred_moments_is_a_beginning_and_leaves_nothing_behind():
    """The interrupted answer is the beginning of the whole one, and the next whole one is the same as ever."""
    vlm, chance = minivlm.load(device="cpu"), random.Random(0)
    images = [picture(number, 90, 60) for number in range(4)]

    def ask(number: int) -> Answer:
        return vlm.ask(images[number], "Describe the image.", mitigation=(None, EAH(), CLVA(), [EAH(), CLVA()])[number])

    whole = [ask(number) for number in range(4)]
    started, interrupted = time.perf_counter(), 0
    again = [ask(number).tokens for number in range(4)]
    longest = 0.8 * (time.perf_counter() - started) / 4
    for moment in range(400):
        number, answer = moment % 4, None
        me = threading.get_ident()
        alarm = threading.Timer(chance.uniform(0, longest), signal.pthread_kill, (me, signal.SIGINT))
        with suppress(KeyboardInterrupt):
            alarm.start()
            answer = ask(number)
            alarm.join()
        interrupted += answer is None or answer.finish == "interrupted"
        if answer is not None:
            assert answer.tokens == whole[number].tokens[: len(answer.tokens)]
            assert answer.finish in ("interrupted", whole[number].finish)
        if moment % 10 == 9:
            assert ask(number).tokens == again[number] == whole[number].tokens
        if interrupted == 100:
            return
    raise AssertionError(f"only {interrupted} of 400 answers were interrupted on their way")
