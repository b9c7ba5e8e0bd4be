"""A real evaluation of the shipped model that is killed again and again, each time after a certain number of bytes.

python tests/support/killed_run.py OUT --kills 50      figures as JSON: kills, and whether all files are the same

A child evaluates until the answers have the wanted number of bytes, which is mostly in the midst of a line; there it
kills itself. The last children are killed just before or just after a finished file is moved into its place.
"""

import argparse
import json
import os
import random
import signal
import sys
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for `support`, where this file is run by itself

import minivlm
from minivlm.evaluation.asking import Asker
from minivlm.evaluation.card import card
from minivlm.evaluation.datasets import open_dataset
from minivlm.evaluation.items import chair_items
from minivlm.evaluation.methods import methods
from minivlm.evaluation.records import Recorder, record_files
from minivlm.evaluation.runner import run
from minivlm.inference.generate import Generation

SCENES, TOKENS, BATCH = 40, 30, 4
WRITTEN = ("summary.json", "counts.json")


def evaluation(out: Path) -> None:
    """Begin or resume the run."""
    data = open_dataset("scenes:0").limited(SCENES)
    items, known = chair_items(data), methods(["plain", "eah", "clva"])
    settings, vlm = Generation(max_new_tokens=TOKENS), minivlm.load(device="cpu")
    told = card("chair", vlm, settings, known, data, items, batch=BATCH, version="test")
    run(Asker(vlm, settings, known), data, items, told, out, resume=out.exists())


def size(out: Path) -> int:
    """Bytes of all answers."""
    return sum(file.stat().st_size for file in record_files(out))


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_after_bytes(out: Path, most: int) -> None:
    """Let this process write answers until they have `most` bytes, then kill it."""
    whole = Recorder.write

    def write(self: Recorder, record: dict) -> None:
        line = json.dumps(record, allow_nan=False).encode("ascii") + b"\n"
        if (left := most - size(out)) < len(line):
            self.file.write(line[:left])
            die()
        whole(self, record)

    Recorder.write = write


def die_at_move(number: int, after: bool) -> None:
    """Kill this process just before, or just after, it moves its file number `number` into place."""
    move, numbers = os.replace, iter(range(100))

    def moved(*names: object, **how: object) -> None:
        its_turn = next(numbers) == number
        if its_turn and not after:
            die()
        move(*names, **how)
        if its_turn:
            die()

    os.replace = moved


def killed(out: Path, prepare, *how: object) -> bool:
    """Evaluate in a child that is killed on its way; whether it was."""
    if not (child := os.fork()):
        prepare(*how)
        evaluation(out)
        os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def lines(out: Path) -> list[bytes]:
    """All answers, in an order that does not depend on when they were given."""
    return sorted(line for file in record_files(out) for line in file.read_bytes().splitlines())


def figures(out: Path, kills: int, seed: int) -> dict:
    """What came of it."""
    evaluation(out / "whole")
    most, chance = size(out / "whole"), random.Random(seed)
    died = [killed(out / "cut", die_at_move, 0, False)]  # the card
    died += [
        killed(out / "cut", die_after_bytes, out / "cut", at) for at in sorted(chance.sample(range(1, most), kills))
    ]
    died += [killed(out / "cut", die_at_move, number, after) for number in (0, 1) for after in (False, True)]
    evaluation(out / "cut")
    same = {name: (out / "cut" / name).read_bytes() == (out / "whole" / name).read_bytes() for name in WRITTEN}
    left = sorted(file.name for file in (out / "cut").iterdir())
    return {
        "bytes": most,
        "kills": sum(died),
        "survived": len(died) - sum(died),
        "same": same | {"answers": lines(out / "cut") == lines(out / "whole")},
        "strange_files": sorted(set(left) - {file.name for file in (out / "whole").iterdir()}),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    print(json.dumps(figures(args.out, args.kills, args.seed)))
