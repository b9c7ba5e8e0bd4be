"""Thousands of questions in one process: the same inputs get the same answers, and memory does not grow.

python tests/support/soak.py --rounds 20       2,000 questions, and 100 in each of four threads

Each round asks the same hundred: pictures of several sizes and modes, one, two or none, short and long questions,
greedy and sampled, with and without a mitigation, as batches, streams, conversations and traces. Between them come
inputs that are refused, and interruptions.
"""

import argparse
import gc
import json
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for `support`, where this file is run by itself

import minivlm
from minivlm import CLVA, EAH, MinivlmError
from minivlm.inference.conversation import Conversation
from minivlm.inference.vlm import VLM

METHODS = (None, EAH(), CLVA(), [EAH(), CLVA()])
QUESTIONS = ("Describe the image.", "Is there a dog in the image?", "What is in the image?" + " Please look well." * 8)
ROUND = 100


def pictures() -> list[Image.Image]:
    """Ten of different shapes and modes."""
    chance = np.random.default_rng(0)
    shapes = [(64, 64), (20, 90), (300, 200), (1, 1), (7, 400), (512, 512), (96, 64), (33, 31), (640, 10), (128, 96)]
    found = [Image.fromarray(chance.integers(0, 256, (*shape, 3), dtype=np.uint8)) for shape in shapes]
    return [one.convert(("RGB", "L", "P", "RGBA")[number % 4]) for number, one in enumerate(found)]


def question(vlm: VLM, number: int, images: list[Image.Image]) -> str:
    """One of the hundred, and its answer."""
    image, text, method = images[number % 10], QUESTIONS[number % 3], METHODS[number % 4]
    how = {"mitigation": method, "max_new_tokens": 3 + number % 14}
    how |= {"temperature": 0.9, "seed": number} if number % 5 == 0 else {}
    kind = number % 7
    if kind == 0:
        return "".join(vlm.stream(image, text, **how))
    if kind == 1:
        return " | ".join(answer.text for answer in vlm.ask_many([image, images[0], None], [text] * 3, **how))
    if kind == 2:
        talk = Conversation(vlm, image)
        return " | ".join(talk.ask(one, **how).text for one in (text, "Is there a cat?"))
    if kind == 3:
        trace = vlm.trace(image, text, **how)
        return f"{trace.text} {float(trace.entropy.sum()):.6f}"
    if kind == 4:
        return vlm.ask([image, images[1]], text, **how).text
    return vlm.ask(image, text, **how).text


def refused(vlm: VLM) -> Iterator[Callable[[], object]]:
    """Inputs that end in an error."""
    yield lambda: vlm.ask(b"no picture", QUESTIONS[0])
    yield lambda: vlm.ask(np.full((4, 4, 3), np.nan), QUESTIONS[0])
    yield lambda: vlm.ask(None, "word " * 5000)
    yield lambda: vlm.ask(None, QUESTIONS[0], mitigation=CLVA(deep_layers=(99,)))
    yield lambda: vlm.ask(None, QUESTIONS[0], max_new_tokens=0)


def disturb(vlm: VLM, number: int, images: list[Image.Image]) -> None:
    """An error, or an interruption in the midst of an answer; neither may leave anything behind."""
    for ask in list(refused(vlm))[number % 5 :][:1]:
        with suppress(MinivlmError):
            ask()
            raise AssertionError("nothing was refused")
    stream = vlm.stream(images[number % 10], QUESTIONS[0])
    next(stream)
    with suppress(KeyboardInterrupt):
        stream.throw(KeyboardInterrupt)


def memory() -> float:
    """What this process holds, in MB."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6


def one_round(vlm: VLM, images: list[Image.Image], disturbed: bool = True) -> list[str]:
    """The hundred answers."""
    answers = []
    for number in range(ROUND):
        answers.append(question(vlm, number, images))
        if disturbed and number % 10 == 0:
            disturb(vlm, number // 10, images)
    return answers


def soak(rounds: int, threads: int) -> dict:
    """The figures: whether answers are the same, memory after each round, and its slope over the later half."""
    vlm, images = minivlm.load(device="cpu"), pictures()
    started, first, held = time.perf_counter(), one_round(vlm, images), [memory()]
    for _ in range(rounds - 1):
        last = one_round(vlm, images)
        held.append(memory())
    with ThreadPoolExecutor(threads) as pool:
        side_by_side = list(pool.map(lambda _: one_round(vlm, images, disturbed=False), range(threads)))
    later = held[len(held) // 2 :]
    slope = float(np.polyfit(np.arange(len(later)), later, 1)[0]) if len(later) > 1 else 0.0
    return {
        "questions": rounds * ROUND,
        "last_equal_first": last == first,
        "threads_equal_first": [answers == first for answers in side_by_side],
        "memory_mb": [round(one, 1) for one in held],
        "mb_per_thousand_questions": round(slope * 1000 / ROUND, 2),
        "seconds": round(time.perf_counter() - started, 1),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20, help="of a hundred questions (default: 20)")
    parser.add_argument("--threads", type=int, default=4)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    print(json.dumps(soak(args.rounds, args.threads)))
