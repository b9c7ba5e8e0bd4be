"""What quantised weights save and cost: memory, load, prefill, decode, and how far the next token's distribution moves.

    minivlm make-random FOLDER                       # 14 GB; or a real checkpoint, or weights/tiny
    python tests/support/compare_weights.py FOLDER [none/mapped,int8/resident,...] [SCENES] [dtype]

Each kind runs in a process of its own, on drawn scenes. `memory`: the most that belongs to the process alone while it
loads and answers, looked at every 10 ms; pages mapped from files do not count. `KL`: of the next token's distribution
from the first kind's, in nats, after every word of the prompt behind its picture; `agree`: how often the likeliest
token is the same.
"""

import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from statistics import median

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

QUESTION = "Describe the image."
NEW = 8
KINDS = "none/mapped,none/resident,int8/resident,int4/resident"


class Watch(threading.Thread):
    """Looks at this process's own memory, in bytes, until it is told to stop."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.most, self.stop = 0, threading.Event()

    def run(self) -> None:
        from minivlm.experiments.cost import held_memory

        while not self.stop.wait(0.01):
            self.most = max(self.most, held_memory(torch.device("cpu")) or 0)


def child(folder: str, kind: str, scenes: int, dtype: str, out: str) -> None:
    """Load, answer, and print the figures; the logits go to the file `out`."""
    import minivlm
    from minivlm.experiments.cost import held_memory
    from minivlm.inference.generate import Generation
    from minivlm.toyworld import HELD_OUT

    before, watch, start = held_memory(torch.device("cpu")) or 0, Watch(), time.perf_counter()
    watch.start()
    weights, _, memory = kind.partition("/")
    how = {"weights": None if weights == "none" else weights, "memory": memory or None}
    vlm = minivlm.load(folder, device="cpu", dtype=dtype, **how)
    loaded, logits, prefill, decode = time.perf_counter() - start, [], [], []
    for scene in range(-1, scenes):
        picture, marks = HELD_OUT.draw(max(scene, 0)).picture, [time.perf_counter()]
        inputs = vlm.prepare(picture, QUESTION)
        for _ in vlm.steps(inputs, Generation(max_new_tokens=NEW)):
            marks.append(time.perf_counter())
        if scene >= 0:  # the first answer warms up
            last_patch = int((inputs.tokens[0] == vlm.model.config.image_token_index).nonzero().max())
            logits.append(vlm.logits(picture, QUESTION)[last_patch + 1 :].float())
            prefill.append(marks[1] - marks[0])
            decode.append((marks[-1] - marks[1]) / (len(marks) - 2))
    watch.stop.set()
    save_file({"logits": torch.cat(logits)}, out)
    held = (held_memory(torch.device("cpu")) or 0) - before
    figures = {"memory": watch.most - before, "held": held, "load": loaded}
    print(json.dumps({**figures, "prefill": median(prefill), "decode": median(decode)}))


def main(folder: str, kinds: str = KINDS, scenes: str = "3", dtype: str = "bfloat16") -> None:
    print(f"{folder}, {dtype}, {torch.get_num_threads()} threads, {scenes} scenes of {NEW} tokens")
    print(f"{'':15}{'memory GB':>10}{'load s':>8}{'prefill s':>10}{'ms a token':>11}{'KL':>10}{'agree':>7}")
    plain = None
    with tempfile.TemporaryDirectory() as place:
        for kind in kinds.split(","):
            out = str(Path(place) / "logits.safetensors")
            command = [sys.executable, __file__, "--child", folder, kind, scenes, dtype, out]
            ran = subprocess.run(command, capture_output=True, text=True)
            if ran.returncode:
                print(f"{kind:15} failed: {ran.stderr.strip().splitlines()[-1][:200]}")
                continue
            own, logits = json.loads(ran.stdout.splitlines()[-1]), load_file(out)["logits"]
            plain = logits if plain is None else plain
            same = (logits.argmax(-1) == plain.argmax(-1)).float().mean()
            kl = F.kl_div(logits.log_softmax(-1), plain.log_softmax(-1), log_target=True, reduction="batchmean")
            figures = f"{own['memory'] / 1e9:10.2f}{own['load']:8.2f}{own['prefill']:10.3f}{1e3 * own['decode']:11.1f}"
            print(f"{kind:15}{figures}{float(kl):10.5f}{float(same):7.0%}", flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[2], sys.argv[3], int(sys.argv[4]), sys.argv[5], sys.argv[6])
    else:
        main(*sys.argv[1:])
