"""How fast one checkpoint is here and in transformers, in one process and in turns, as ratios.

    PYTHONPATH=tests python -m support.true_size FOLDER        # random weights; or a real checkpoint
    python tests/support/compare_speed.py FOLDER PHOTO [bfloat16|float32] [ROUNDS]

Both answer greedily about the photo, transformers by `generate` with its sdpa kernel. `prefill`: from prepared inputs
to the first token, with the vision tower; `decode`: the median time of a further token. The times of minivlm are
divided by those of transformers in the same round, as on a busy machine only neighbours can be compared.
"""

import sys
import time
from itertools import pairwise
from pathlib import Path
from statistics import median

import torch
from transformers import LlavaForConditionalGeneration

import minivlm
from minivlm.inference.generate import Generation, steps

QUESTION = "What is in the image?"
NEW = 17


class Stopwatch:
    """As a streamer of `generate`: the time at the start, and when each token came."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def put(self, _: torch.Tensor) -> None:  # the first call brings the prompt, before any work
        self.times.append(time.perf_counter())

    def end(self) -> None:
        pass

    def figures(self) -> dict[str, float]:
        prefill, *decode = [end - start for start, end in pairwise(self.times)]
        return {"prefill": prefill, "decode": median(decode)}


def ours(vlm: minivlm.VLM, inputs) -> dict[str, float]:
    watch = Stopwatch()
    watch.put(inputs.tokens)
    for step in steps(vlm.model, **inputs, settings=Generation(max_new_tokens=NEW), allowed=vlm.allowed):
        watch.put(step.chosen)
    return watch.figures()


def theirs(reference: LlavaForConditionalGeneration, inputs) -> dict[str, float]:
    watch = Stopwatch()
    given = {"input_ids": inputs.tokens, "attention_mask": torch.ones_like(inputs.tokens)}
    given |= {"pixel_values": inputs.pixels.to(reference.dtype)}
    how = {"do_sample": False, "max_new_tokens": NEW, "min_new_tokens": NEW, "streamer": watch}
    reference.generate(**given, **how)
    return watch.figures()


def main(folder: str, photo: str, dtype: str = "bfloat16", rounds: str = "3") -> None:
    vlm = minivlm.load(folder, device="cpu", dtype=dtype)
    how = {"dtype": getattr(torch, dtype), "attn_implementation": "sdpa"}
    reference = LlavaForConditionalGeneration.from_pretrained(folder, **how).eval()
    inputs = vlm.prepare(Path(photo), QUESTION)
    ours(vlm, inputs), theirs(reference, inputs)  # the first ones read the weights from their files
    measured = [(ours(vlm, inputs), theirs(reference, inputs)) for _ in range(int(rounds))]
    print(f"{dtype}, {inputs.tokens.shape[1]} tokens, {torch.get_num_threads()} threads, {rounds} rounds")
    for phase in ("prefill", "decode"):
        a, b = ([pair[who][phase] for pair in measured] for who in (0, 1))
        ratios = [mine / other for mine, other in zip(a, b, strict=True)]
        spread = f"{median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        print(f"{phase}: minivlm {median(a):.3f} s, transformers {median(b):.3f} s, ratio {spread}")


if __name__ == "__main__":
    main(*sys.argv[1:])
