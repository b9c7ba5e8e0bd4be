"""Spoilt inputs of every kind are read right or refused with a sentence; in a process of its own, which may die."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from minivlm import ConfigError
from support import fuzz
from support.fuzz_targets import TARGETS, Target

pytestmark = pytest.mark.slow
SCRIPT = Path(fuzz.__file__)
CASES, SEED = 2000, 0
MANY, OTHER_SEED = 50_000, 1


def fuzzed(cases: int, seed: int) -> list[dict]:
    """The figures of all targets."""
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--cases", str(cases), "--seed", str(seed)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]  # it died, at what faulthandler shows
    return [json.loads(line) for line in done.stdout.splitlines()]


def require_all_right(figures: list[dict], cases: int) -> None:
    assert [one["target"] for one in figures] == [target.__name__ for target in TARGETS]
    assert [one for one in figures if one["failed"]] == []
    assert sum(one["read"] + one["refused"] for one in figures) >= cases
    assert min(min(one["read"], one["refused"]) for one in figures) > cases / len(TARGETS) / 20  # both happen often


def test_spoilt_inputs_are_read_right_or_refused():
    require_all_right(fuzzed(CASES, SEED), CASES)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_many_spoilt_inputs_are_read_right_or_refused():
    figures = fuzzed(MANY, OTHER_SEED)
    print(*map(json.dumps, figures), sep="\n")
    require_all_right(figures, MANY)


# --- what is wrong is found -------------------------------------------------------------------------------------------


class Wrong(Target):
    """Every third case goes wrong in one of the ways that are faults."""

    def case(self, chance) -> bool:
        kind = chance.randrange(6)
        if kind == 0:
            raise ValueError("nobody foresaw this")
        if kind == 1:
            raise ConfigError("no sentence")
        assert kind != 2, "a wrong result"
        if kind == 3:
            raise ConfigError("This is a sentence of some length.")
        return True


def test_what_is_wrong_is_found_with_its_case():
    told = fuzz.fuzz(Wrong, 60, seed=0)
    faults = "".join(one["fault"] for one in told["failed"])
    assert all(fault in faults for fault in ("nobody foresaw", "no sentence: 'no sentence'", "a wrong result"))
    assert told["read"] > 5 < told["refused"]
    assert told["read"] + told["refused"] + len(told["failed"]) == told["cases"] == 60
    again = fuzz.fuzz(Wrong, 60, seed=0, only=told["failed"][0]["case"])
    assert again["failed"][0]["fault"] == told["failed"][0]["fault"]


class Slow(Target):
    def case(self, chance) -> bool:
        started = time.process_time()
        while time.process_time() < started + 0.02:
            pass
        return True


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="memory is measured on Linux alone")
def test_slow_and_greedy_cases_are_found(monkeypatch):
    monkeypatch.setattr(fuzz, "LONGEST", 0.01)
    assert {one["fault"] for one in fuzz.fuzz(Slow, 25, seed=0)["failed"]} == {"too slow"}

    class Greedy(Target):
        number = 0

        def case(self, chance) -> bool:
            self.number += 1
            return len(b"x" * (10**6 if self.number < 30 else 3 * 10**8)) > 0

    monkeypatch.setattr(fuzz, "LONGEST", 10.0)
    assert [one["fault"] for one in fuzz.fuzz(Greedy, 31, seed=0)["failed"]] == ["took too much memory"]
