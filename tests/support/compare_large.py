"""A checkpoint of true size against transformers, in one run: time and memory to load, and the logits of one photo.

    minivlm make-random /some/folder        # 14 GB; or a real LLaVA-1.5 checkpoint
    python tests/support/compare_large.py /some/folder photo.jpg

Not a test: it takes minutes and needs memory for the weights. Each program runs in a process of its own and computes
in bf16; transformers loads before and after minivlm, so that a warm file cache favours nobody.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from minivlm.experiments.cost import held_memory

QUESTION_TOKENS = 40
CPU = torch.device("cpu")


def example(folder: Path, photo: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens (1, T) with one picture and a question of 40 arbitrary tokens, and its pixels (1, 3, S, S)."""
    from minivlm.checkpoints.configs import read_config
    from minivlm.inputs.image import ImagePreprocessing, load_image, to_pixels

    config = read_config(folder).config
    words = torch.randint(1000, 30000, (QUESTION_TOKENS,), generator=torch.Generator().manual_seed(0)).tolist()
    tokens = [1, *words[:5], *[config.image_token_index] * config.num_image_tokens, *words[5:]]
    pixels = to_pixels(load_image(photo), ImagePreprocessing(size=config.vision_config.image_size))
    return torch.tensor([tokens]), pixels[None].bfloat16()


def load_minivlm(folder: Path):
    from minivlm.checkpoints import load_checkpoint

    model = load_checkpoint(folder, device="cpu", dtype="bf16", memory="mapped").model
    return lambda tokens, pixels: model(tokens, pixels).logits


def load_transformers(folder: Path, attention: str):
    from transformers import LlavaForConditionalGeneration

    model = LlavaForConditionalGeneration.from_pretrained(folder, dtype=torch.bfloat16, attn_implementation=attention)
    return lambda tokens, pixels: model(input_ids=tokens, pixel_values=pixels).logits


LOADERS = {
    "minivlm": load_minivlm,
    "transformers sdpa": lambda folder: load_transformers(folder, "sdpa"),
    "transformers eager": lambda folder: load_transformers(folder, "eager"),
}


def child(name: str, folder: Path, photo: Path, result: Path, run: bool) -> None:
    """Load by one of LOADERS, and if `run`, save the logits of the example; print the figures as JSON."""
    if "minivlm" in name:
        import minivlm.checkpoints  # noqa: F401 (importing is not loading)
    else:
        import transformers.models.llava.modeling_llava  # noqa: F401
    inputs = example(folder, photo)
    before, start = held_memory(CPU), time.perf_counter()
    forward = LOADERS[name](folder)
    figures = {"load seconds": time.perf_counter() - start, "load GB of own memory": (held_memory(CPU) - before) / 1e9}
    if run:
        for pass_ in ("first", "second"):
            start = time.perf_counter()
            with torch.inference_mode():
                logits = forward(*inputs)
            figures[f"{pass_} prefill seconds"] = time.perf_counter() - start
        save_file({"logits": logits[0].float()}, result)
    print(json.dumps({name: round(value, 3) for name, value in figures.items()}))


def in_a_process(name: str, folder: str, photo: str, result: str, run: bool) -> None:
    command = [sys.executable, __file__, "--child", name, folder, photo, result, "run" if run else "load"]
    figures = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1]
    print(f"{name:<20} {figures}", flush=True)


def main(folder: str, photo: str) -> None:
    for path in sorted(Path(folder).glob("*.safetensors")):  # warm the file cache
        with path.open("rb") as file:
            while file.read(2**26):
                pass
    with tempfile.TemporaryDirectory() as results:
        files = {name: str(Path(results) / f"{number}.safetensors") for number, name in enumerate(LOADERS)}
        for name in ("transformers sdpa", "minivlm", "transformers sdpa", "minivlm"):
            in_a_process(name, folder, photo, "", False)
        for name in LOADERS:
            in_a_process(name, folder, photo, files[name], True)
        ours, reference, other = (load_file(file)["logits"] for file in files.values())
    report(ours, reference, other)


def report(ours: torch.Tensor, reference: torch.Tensor, other: torch.Tensor) -> None:
    """How far apart the logits (T, V) are; transformers' own two kernels say how much of that is bf16's noise."""
    noise = (reference - other).abs().max().item()
    top = reference.topk(2, dim=-1).values
    clear = top[:, 0] - top[:, 1] > noise
    same = ours.argmax(-1) == reference.argmax(-1)
    print(f"largest logit {reference.abs().max():.3f}, of {tuple(reference.shape)}")
    print(f"largest difference: minivlm to sdpa {(ours - reference).abs().max():.4f}, eager to sdpa {noise:.4f}")
    print(f"minivlm equal to sdpa to the last bit: {torch.equal(ours, reference)}")
    print(f"same top-1 at {int(same.sum())} of {len(same)} positions")
    print(f"where the top-2 gap exceeds {noise:.4f}: at {int((same & clear).sum())} of {int(clear.sum())}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        name, folder, photo, result, mode = sys.argv[2:]
        child(name, Path(folder), Path(photo), Path(result), mode == "run")
    else:
        main(*sys.argv[1:])
