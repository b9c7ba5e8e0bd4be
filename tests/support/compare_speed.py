"""How fast one checkpoint is here and in transformers, in one process and in turns, as ratios.

    PYTHONPATH=tests python -m support.true_size FOLDER        # random weights; or a real checkpoint
    python tests/support/compare_speed.py FOLDER PHOTO [bfloat16|float32] [ROUNDS]

Both answer greedily about the photo, transformers by `generate` with its sdpa kernel. `prefill`: an answer of one
token, from prepared inputs, with the vision tower; `decode`: what each of 16 further tokens adds to it. The times of
minivlm are divided by those of transformers in the same round: on a busy machine only neighbours can be compared.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
from transformers import LlavaForConditionalGeneration

import minivlm
from minivlm.inference.generate import Generation, steps

QUESTION = "What is in the image?"
FURTHER = 16


def ours(vlm: minivlm.VLM, inputs, new: int) -> None:
    for _ in steps(vlm.model, **inputs, settings=Generation(max_new_tokens=new), allowed=vlm.allowed):
        pass


def theirs(reference: LlavaForConditionalGeneration, inputs, new: int) -> None:
    given = {"input_ids": inputs.tokens, "attention_mask": torch.ones_like(inputs.tokens)}
    given |= {"pixel_values": inputs.pixels.to(reference.dtype)}
    reference.generate(**given, do_sample=False, max_new_tokens=new, min_new_tokens=new)


def times(answer: Callable[[int], None]) -> dict[str, float]:
    """Seconds of both phases, from two answers."""
    marks = [time.perf_counter()]
    for new in (1, 1 + FURTHER):
        answer(new)
        marks.append(time.perf_counter())
    start, short, long = marks
    return {"prefill": short - start, "decode": (long - short - (short - start)) / FURTHER}


def main(folder: str, photo: str, dtype: str = "bfloat16", rounds: str = "3") -> None:
    vlm = minivlm.load(folder, device="cpu", dtype=dtype)
    how = {"dtype": getattr(torch, dtype), "attn_implementation": "sdpa"}
    reference = LlavaForConditionalGeneration.from_pretrained(folder, **how).eval()
    inputs = vlm.prepare(Path(photo), QUESTION)
    both = (lambda new: ours(vlm, inputs, new)), (lambda new: theirs(reference, inputs, new))
    for answer in both:
        answer(2)  # the first one reads the weights from their file
    measured = [[times(answer) for answer in both] for _ in range(int(rounds))]
    print(f"{dtype}, {inputs.tokens.shape[1]} tokens, {torch.get_num_threads()} threads, {rounds} rounds")
    for phase in ("prefill", "decode"):
        a, b = ([pair[who][phase] for pair in measured] for who in (0, 1))
        ratios = [mine / other for mine, other in zip(a, b, strict=True)]
        spread = f"{median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        print(f"{phase}: minivlm {median(a):.3f} s, transformers {median(b):.3f} s, ratio {spread}")


if __name__ == "__main__":
    main(*sys.argv[1:])
