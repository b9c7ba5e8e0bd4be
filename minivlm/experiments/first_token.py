"""From a picture and a question to the first token, part by part; and what it takes to load a model.

picture   the resized and normalised pixels of a decoded picture of 640 x 480
prompt    the tokens of a question
tower     the vision tower and the projector
decoder   the prefill, with the picture's features given, and the choice of a token
"""

import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch

from minivlm.experiments.bench import QUESTION, question
from minivlm.experiments.cost import held_memory, now, spread
from minivlm.inference.generate import GREEDY, steps
from minivlm.inference.vlm import VLM
from minivlm.inputs.image import load_image
from minivlm.inputs.prompt import pad_batch
from minivlm.toyworld import HELD_OUT

PHOTO = (640, 480)  # width and height, as most of COCO's
PARTS = ("picture", "prompt", "tower", "decoder")


def measure_first_token(vlm: VLM, prompt: int | None = None, repeats: int = 5) -> dict[str, Any]:
    """Part -> its seconds, and "together": median, least and most of `repeats` rounds, after one that warms up.

    `prompt`: tokens of the prompt with its picture, as for `bench.measure`.
    """
    asked = QUESTION if prompt is None else question(vlm, prompt)
    rounds = [seconds(vlm, asked) for _ in range(repeats + 1)][1:]
    parts = {part: spread([one[part] for one in rounds]) for part in PARTS}
    return {**parts, "together": spread([sum(one.values()) for one in rounds])}


def seconds(vlm: VLM, asked: str) -> dict[str, float]:
    """Part -> its seconds, of one question."""
    photo = load_image(HELD_OUT.draw(0).picture).resize(PHOTO)
    times = [now(vlm.device)]
    pixels = vlm.pixels(photo)
    times.append(now(vlm.device))
    batch = pad_batch([vlm.prompt(asked, num_images=1)], vlm.tokenizer.pad)
    times.append(now(vlm.device))
    features, _ = vlm.model.encode_images(pixels[None].to(vlm.device, vlm.dtype))
    times.append(now(vlm.device))
    inputs = vlm.inputs(batch, None, features)
    next(steps(vlm.model, **inputs, settings=GREEDY, allowed=vlm.allowed.to(vlm.device)))
    times.append(now(vlm.device))
    return {part: end - start for part, (start, end) in zip(PARTS, pairwise(times), strict=True)}


def measure_load(load: Callable[[], VLM], device: torch.device) -> tuple[VLM, dict[str, Any]]:
    """What `load` returns, and its cost: seconds with what it imports, bytes of weights, and bytes more that are held.

    On a CPU weights stay in their files until they are used, where their dtype allows it; their pages are not counted.
    """
    before, start = held_memory(device), time.perf_counter()
    vlm = load()
    taken, after = now(device) - start, held_memory(device)
    weights = sum(weight.nbytes for weight in vlm.model.parameters())
    held = None if before is None or after is None else after - before
    return vlm, {"seconds": taken, "weights": weights, "held": held}
