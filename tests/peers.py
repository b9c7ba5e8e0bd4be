"""What others take for the same: transformers on the same checkpoint and prompt, as JSON.

    python tests/peers.py FOLDER [--device cuda] [--dtype bfloat16] [--prompt TOKENS] [--new 64] [--repeats 3]

    sdpa      `generate` with the fused kernel, as everybody calls it
    eager     `generate` with written-out attention and `output_attentions`, which is how others look at it
    static    `generate` with a static cache, which transformers compiles on a GPU
    eah       EAH as it is usually added to a model: eager attention whose heads are counted and replaced in loops

Each answers greedily about one drawn picture. `first token`: an answer of one token, with the tower; `tokens/s`: what
each further one adds. The prompt is as long as that of `minivlm bench --prompt TOKENS`.
"""

import argparse
import json
import sys
import time
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface, LlavaForConditionalGeneration
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS

import minivlm
from minivlm.experiments.bench import question
from minivlm.experiments.cost import now
from minivlm.toyworld import HELD_OUT

KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "sdpa": ("sdpa", {}),
    "eager": ("eager", {"output_attentions": True, "return_dict_in_generate": True}),
    "static": ("sdpa", {"cache_implementation": "static"}),
    "eah": ("eah", {}),
}
EAH_LAYER, EAH_THRESHOLD = 1, 0.0014


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--prompt", type=int)
    parser.add_argument("--new", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--kinds", default=",".join(KINDS), help=f"of {', '.join(KINDS)}")
    return parser.parse_args()


def given(asked: argparse.Namespace) -> tuple[dict[str, torch.Tensor], list[int]]:
    """The arguments of transformers' generate, tokens, mask, pixels; and the columns of the patches."""
    vlm = minivlm.load(asked.folder, device="cpu", dtype="bfloat16")
    inputs = vlm.prepare(HELD_OUT.draw(0).picture, question(vlm, asked.prompt))
    tokens = inputs.tokens.to(asked.device)
    pixels = inputs.pixels.to(asked.device, getattr(torch, asked.dtype))
    patches = (tokens[0] == vlm.model.config.image_token_index).nonzero()[:, 0].tolist()
    return {"input_ids": tokens, "attention_mask": torch.ones_like(tokens), "pixel_values": pixels}, patches


def eah_attention(
    patches: list[int], module: torch.nn.Module, *qkv_and_mask: Any, scaling: float, **how: Any
) -> tuple[torch.Tensor, torch.Tensor]:
    """Written-out attention; in EAH_LAYER every head of a prompt gets the map of the one with most sinks."""
    q, k, v, mask = qkv_and_mask
    k, v = (part.repeat_interleave(q.shape[1] // k.shape[1], dim=1) for part in (k, v))
    weights = (q @ k.transpose(2, 3) * scaling + (0 if mask is None else mask)).softmax(-1, torch.float32).to(q)
    if module.layer_idx == EAH_LAYER and q.shape[2] > 1:
        sinks = []
        for head in range(weights.shape[1]):
            sinks.append(0)
            for column in patches:
                sinks[head] += int(weights[0, head, column + 1 :, column].mean() > EAH_THRESHOLD)
        densest = max(range(len(sinks)), key=sinks.__getitem__)
        for head in range(weights.shape[1]):
            weights[:, head] = weights[:, densest]
    return (weights @ v).transpose(1, 2).contiguous(), weights


def registered(kind: str, patches: list[int]) -> str | dict[str, str]:
    """The name of an attention for `from_pretrained`, registered if transformers does not have it."""
    if kind != "eah":
        return kind
    AttentionInterface.register("eah", partial(eah_attention, patches))
    AttentionMaskInterface.register("eah", ALL_MASK_ATTENTION_FUNCTIONS["eager"])
    return {"text_config": "eah", "vision_config": "sdpa"}


def seconds(model: LlavaForConditionalGeneration, inputs: dict, new: int, **how: Any) -> float:
    start = now(model.device)
    model.generate(**inputs, do_sample=False, max_new_tokens=new, min_new_tokens=new, **how)
    return now(model.device) - start


def measured(asked: argparse.Namespace, kind: str, inputs: dict, patches: list[int]) -> dict[str, float]:
    """The figures of one kind, medians of the rounds, after one round that warms up."""
    name, how = KINDS[kind]
    attention = registered(name, patches)
    start = time.perf_counter()
    dtype = getattr(torch, asked.dtype)
    model = LlavaForConditionalGeneration.from_pretrained(asked.folder, dtype=dtype, attn_implementation=attention)
    model = model.to(asked.device).eval()
    loaded = time.perf_counter() - start
    rounds = [[seconds(model, inputs, new, **how) for new in (1, asked.new)] for _ in range(asked.repeats + 1)][1:]
    step = median((long - short) / (asked.new - 1) for short, long in rounds)
    return {"load s": loaded, "first token s": median(short for short, _ in rounds), "tokens/s": 1 / step}


def main() -> None:
    asked = arguments()
    (inputs, patches), found = given(asked), {}
    for kind in asked.kinds.split(","):
        try:
            found[kind] = measured(asked, kind, inputs, patches)
        except Exception as error:  # one kind that fails must not cost the others
            found[kind] = {"error": f"{type(error).__name__}: {error}"[:300]}
        print(f"{kind}: {found[kind]}", file=sys.stderr, flush=True)
        if asked.device.startswith("cuda"):
            torch.cuda.empty_cache()
    settings = {"prompt": inputs["input_ids"].shape[1], "new": asked.new, "dtype": asked.dtype, "device": asked.device}
    json.dump({**settings, "torch": torch.__version__, "kinds": found}, sys.stdout, indent=1)


if __name__ == "__main__":
    main()
