"""The roofline of a model on a machine: what it must read and compute, and how fast this machine can.

A further token reads every weight of the decoder once and multiplies it by one vector: the memory's rate bounds it.
A prompt multiplies the same weights by hundreds of vectors: the rate of arithmetic bounds it. Both rates are measured
in the same run as the model (Williams et al. 2009, "Roofline: an insightful visual performance model").
"""

from collections.abc import Callable, Mapping
from itertools import cycle
from typing import Any

import torch
from torch import nn

from minivlm.checkpoints.quantised import QuantisedLinear
from minivlm.experiments.cost import now
from minivlm.inference.vlm import VLM
from minivlm.model import Llava

COPIED = 2**28  # bytes; more than any cache holds
SIDE = {"cuda": 8192}  # of the square matrices that are multiplied; 2048 elsewhere
TALL, WIDE = 11008, 4096  # the largest matrix of LLaVA-1.5-7B's decoder
MATRICES = 4  # so many in turn, so that none of them is in the cache when its turn comes
TRIES = 5  # the best of them counts


def bytes_a_token(model: Llava, context: int) -> int:
    """Bytes that one further token of one answer reads: the blocks, the last norm, the head, and `context` cached
    tokens. One row of the embedding is left out.
    """
    config, head = model.config.text_config, model.lm_head.weight
    read = (*model.text.layers.parameters(), *model.text.norm.parameters(), head)
    cached = 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim * head.element_size()
    return sum(weight.nbytes for weight in read) + context * cached


def operations_of_prompt(model: Llava, tokens: int) -> int:
    """Multiplications and additions to read a prompt of `tokens` with one picture: in matrix products alone.

    In the decoder's attention only pairs count that a causal mask allows. The head is needed for the last token only.
    """
    text = model.config.text_config
    decoder = 2 * products(model.text.layers) * tokens
    attention = 2 * text.num_hidden_layers * tokens**2 * text.num_attention_heads * text.head_dim
    head = 2 * model.lm_head.weight.numel()
    projector = 2 * products(model.projector) * model.config.num_image_tokens
    return operations_of_tower(model) + projector + decoder + attention + head


def operations_of_tower(model: Llava) -> int:
    """The same for one picture in the vision tower, up to the deepest layer whose features are used."""
    tower, depth = model.config.vision_config, model.config.vision_config.num_hidden_layers
    layers = model.vision.encoder.layers[: max(layer % (depth + 1) for layer in model.config.feature_layers)]
    patches = 2 * model.vision.embeddings.patch_embedding.weight.numel() * tower.num_patches
    linear = 2 * products(layers) * tower.num_tokens
    return patches + linear + 4 * len(layers) * tower.num_tokens**2 * tower.hidden_size


def products(module: nn.Module) -> int:
    """Numbers in the matrices of the linear layers of a module."""
    layers = (part for part in module.modules() if isinstance(part, (nn.Linear, QuantisedLinear)))
    return sum(layer.in_features * layer.out_features for layer in layers)


def measure_roofline(vlm: VLM, facts: Mapping[str, Any]) -> dict[str, Any]:
    """The bounds for the plain answers of a bench, and the share that they reach: 1 is as fast as the machine can.

    `facts` are those of `bench.measure`. A model that fits into a cache may read faster than the memory, so exceed 1.
    """
    rates = machine_rates(vlm.device, vlm.dtype)
    read = bytes_a_token(vlm.model, facts["prompt"] + facts["new"] // 2)  # in the middle of an answer
    operations = operations_of_prompt(vlm.model, facts["prompt"])
    bounds = {"decode": read / rates["copy bytes/s"], "prefill": operations / rates["operations/s"]}
    plain = facts["methods"]["plain"]
    shares = {phase: bound / plain[phase]["seconds"]["median"] for phase, bound in bounds.items()}
    return {**rates, "bytes a token": read, "operations of prompt": operations, "seconds": bounds, "share": shares}


def machine_rates(device: torch.device, dtype: torch.dtype) -> dict[str, float]:
    """What this machine can: bytes a second read and written by a copy, bytes a second of weights in matrix-vector
    products, operations a second in a product of square matrices.
    """
    source = torch.zeros(COPIED, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    side = SIDE.get(device.type, 2048)
    square = torch.ones(side, side, dtype=dtype, device=device)
    large = cycle([torch.ones(TALL, WIDE, dtype=dtype, device=device) for _ in range(MATRICES)])
    vector = torch.ones(1, WIDE, dtype=dtype, device=device)
    with torch.inference_mode():
        return {
            "copy bytes/s": 2 * COPIED / best(lambda: target.copy_(source), device),
            "weight bytes/s": TALL * WIDE * dtype.itemsize / best(lambda: vector @ next(large).T, device, MATRICES),
            "operations/s": 2 * side**3 / best(lambda: square @ square, device),
        }


def best(work: Callable[[], Any], device: torch.device, times: int = 1) -> float:
    """Seconds of one call of `work`: the least of TRIES tries, each of which calls it so many `times`, after one."""
    work()
    seconds = []
    for _ in range(TRIES):
        start = now(device)
        for _ in range(times):
            work()
        seconds.append((now(device) - start) / times)
    return min(seconds)
