"""Thousands of spoilt inputs: each is read right or refused with a sentence, soon, and without taking much memory.

python tests/support/fuzz.py --cases 50000             a line of figures for each kind of input
python tests/support/fuzz.py Pictures --only 17        one case again, with where it failed

A case is found again by its target, the seed and its number. It fails if it ends in another error than ours, reads
something wrong, takes more than 2 s of computing, or if a target takes more than 200 MB beyond what it takes for its
first cases.
"""

import argparse
import faulthandler
import json
import random
import signal
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for `support`, where this file is run by itself

from support.fuzz_targets import TARGETS, Target

LONGEST = 2.0  # seconds of computing of a case
HANGS = 30  # seconds by the clock after which it is ended
MOST_MEMORY = 200e6  # bytes beyond the first cases
FIRST = 20  # cases in which libraries take what they need once


def fuzz(kind: type[Target], cases: int, seed: int, only: int | None = None) -> dict:
    """The figures of one target: cases, how many were read and refused, what failed, the longest case, memory."""
    told = {"target": kind.__name__, "cases": 0, "read": 0, "refused": 0, "failed": []}
    longest, usual = 0.0, None
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        target = kind(Path(folder))
        for number in range(cases) if only is None else [only]:
            seconds, refused, fault = one_case(target, f"{seed}/{kind.__name__}/{number}")
            told["cases"] += 1
            told["refused" if refused else "read"] += not fault
            if fault or (seconds > LONGEST and number >= FIRST):
                told["failed"].append({"case": number, "seconds": round(seconds, 2), "fault": fault or "too slow"})
            longest = max(longest, seconds) if number >= FIRST else longest
            if number == min(FIRST, cases - 1):
                usual = peak_memory(forget=True)
    told |= {"longest_s": round(longest, 3), "memory_mb": round(max(0, peak_memory() - (usual or 0)) / 1e6)}
    if told["memory_mb"] > MOST_MEMORY / 1e6:
        told["failed"].append({"fault": "took too much memory"})
    return told


def one_case(target: Target, name: str) -> tuple[float, bool, str]:
    """Seconds, whether it was refused, and what went wrong ("" if nothing did)."""
    refused, fault, started = False, "", time.process_time()  # whatever else runs on the machine
    signal.alarm(HANGS)
    try:
        refused = target.refused(random.Random(name))
    except Exception:
        fault = traceback.format_exc(limit=-6)
    finally:
        signal.alarm(0)
    return time.process_time() - started, refused, fault


def peak_memory(forget: bool = False) -> float:
    """The most bytes of memory that this process has had, on Linux since the last `forget`; 0 elsewhere."""
    status = Path("/proc/self/status")
    if not status.exists():
        return 0.0
    if forget:
        Path("/proc/self/clear_refs").write_text("5")
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return 1024.0 * int(line.split()[1])


def too_long(*_: object) -> None:
    raise TimeoutError(f"the case hangs for more than {HANGS} s")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("targets", nargs="*", help="names of targets (default: all)")
    parser.add_argument("--cases", type=int, default=2000, help="of all targets together (default: 2000)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="the number of one case")
    args = parser.parse_args()
    faulthandler.enable()
    signal.signal(signal.SIGALRM, too_long)
    chosen = [kind for kind in TARGETS if kind.__name__ in (args.targets or [one.__name__ for one in TARGETS])]
    for kind in chosen:
        print(json.dumps(fuzz(kind, -(-args.cases // len(chosen)), args.seed, args.only)), flush=True)
