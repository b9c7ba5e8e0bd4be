"""`minivlm bench`: the cost of EAH, CLVA and a trace, compared with plain answers of the same model and process.

The speed of a machine varies over time. So the methods take turns (plain, eah, clva, both, trace, plain, ...), each
time is divided by that of the plain run in the same round, and the median, least and largest of these ratios are
reported.

    prefill   seconds from prepared inputs to the first token, with the vision tower
    decode    seconds for each further token: the median of the steps of an answer, which has a fixed length
    memory    peak bytes of tensors beside the weights: cache, activations, maps, statistics

The method "compiled" is measured if it is asked for: plain, with a compiled decode step (`Generation.compile`). To
compile takes long; that is in its first answer, which is not counted.

Memory is measured in a separate round before the others, which also warms them up. On CUDA it is what torch's allocator
counts. On a CPU it is the allocations that torch's profiler records: exact for tensors, without the internal buffers of
the mathematical libraries. On other devices there is no count, and None is reported.
"""

import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate, pairwise
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from minivlm import __version__
from minivlm.errors import ConfigError, PromptError
from minivlm.evaluation.settings import BENCHED, PLAIN
from minivlm.experiments.peers import peers_text
from minivlm.files import parse_json
from minivlm.inference.answer import Inputs
from minivlm.inference.effect import Effect
from minivlm.inference.generate import Generation, fitting_steps, steps
from minivlm.inference.trace import Tracer
from minivlm.inference.vlm import VLM
from minivlm.model import CLVA, EAH, Mitigation
from minivlm.toyworld import HELD_OUT

QUESTION = "What is in the image?"
COMPILED = "compiled"
FILLING = (" and", " a")  # words that lengthen a question by one token; at least one of them is a single token


@dataclass(frozen=True)
class Timing:
    """The times of one answer by one method."""

    prefill: float  # seconds
    decode: float  # seconds a token
    effect: Effect | None  # None without mitigation


def measure(
    vlm: VLM,
    methods: Sequence[str] = BENCHED,
    *,
    prompt: int | None = None,
    new: int = 16,
    repeats: int = 5,
    eah: EAH | None = None,
    clva: CLVA | None = None,
) -> dict[str, Any]:
    """The figures of the `methods`, in JSON types; "plain" is always included.

    `prompt`: tokens of the prompt with its picture, by default those of a short question, which are the minimum; `new`:
    tokens of an answer; `repeats`: measured rounds. `eah` and `clva` replace the methods' default settings. Raises
    `ConfigError` for unknown methods and too few tokens or rounds, `PromptError` for a prompt that does not fit.
    """
    methods = ordered(methods)
    if new < 2 or repeats < 1:
        raise ConfigError(f"A bench needs at least 2 new tokens and 1 round, found new={new} and repeats={repeats}.")
    inputs = prepared(vlm, prompt, new)
    kinds = {"eah": Mitigation(eah or EAH()), "clva": Mitigation(clva=clva or CLVA())}
    kinds["both"] = Mitigation(kinds["eah"].eah, kinds["clva"].clva)
    common = {"settings": Generation(max_new_tokens=new), "allowed": vlm.allowed.to(vlm.device)}
    run = {
        method: partial(answer, vlm, inputs, method == "trace", mitigation=kinds.get(method), **common)
        for method in methods
    }
    if COMPILED in run:
        run[COMPILED] = partial(run[COMPILED], settings=Generation(max_new_tokens=new, compile="on"))
    memory = {method: peak_memory(run[method], vlm.device) for method in methods}  # and the warm-up
    rounds = [{method: run[method]() for method in methods} for _ in range(repeats)]
    return {
        "minivlm": __version__,
        **machine(vlm),
        "prompt": inputs.tokens.shape[1],
        "patches": vlm.model.config.num_image_tokens,
        "new": new,
        "repeats": repeats,
        "methods": {method: figures(method, rounds, memory) for method in methods},
    }


def ordered(methods: Sequence[str]) -> tuple[str, ...]:
    """The methods and plain, in the order of BENCHED. Raises `ConfigError` for unknown ones."""
    known = (*BENCHED, COMPILED)
    if unknown := set(methods) - set(known):
        raise ConfigError(f"A bench knows the methods {', '.join(known)}, found {', '.join(sorted(unknown))}.")
    return tuple(method for method in known if method in {PLAIN, *methods})


# --- one answer -----------------------------------------------------------------------------------------------------


def prepared(vlm: VLM, length: int | None, new: int) -> Inputs:
    """A toy scene and a question about it, in a prompt of `length` tokens (None: as few as possible).

    Raises `PromptError` if `new` further tokens do not fit into the model's context.
    """
    inputs = vlm.prepare(HELD_OUT.draw(0).picture, question(vlm, length))
    room = fitting_steps(vlm.model, inputs.tokens.shape[1], new)
    if room < new:
        raise PromptError(
            f"The prompt has {inputs.tokens.shape[1]} tokens, and behind it there is room for {room}, not for {new}: "
            "choose fewer new tokens or a shorter prompt."
        )
    return inputs


def question(vlm: VLM, length: int | None) -> str:
    """A question, lengthened by filler words, that makes a prompt of `length` tokens with one picture."""
    shortest = tokens_of(vlm, QUESTION)
    missing = 0 if length is None else length - shortest
    if missing < 0:
        raise PromptError(
            f"A picture and a short question take {shortest} tokens with this model, found {length} for the prompt. "
            f"Choose at least {shortest}."
        )
    words = [word for word in FILLING if tokens_of(vlm, QUESTION + word) == shortest + 1]
    if missing and not words:
        raise PromptError(f"This tokenizer makes a prompt of {shortest} tokens alone: leave its length open.")
    return QUESTION + "".join(words[:1]) * missing


def tokens_of(vlm: VLM, text: str) -> int:
    """The number of tokens in the prompt of a question with one picture."""
    return len(vlm.prompt(text, num_images=1).tokens)


def answer(vlm: VLM, inputs: Inputs, traced: bool, **how: Any) -> Timing:
    """Generate an answer that no stop token ends, and measure the time of every token; `how` goes to `steps`."""
    tracer = Tracer(vlm.model, inputs, maps=(), lens=()) if traced else None
    watch = tracer.watch if tracer else {}
    times = [now(vlm.device)]
    for step in steps(vlm.model, **inputs, **how, **watch):
        if tracer:
            tracer.record(step)
        times.append(now(vlm.device))
    prefill, *decode = [end - start for start, end in pairwise(times)]
    return Timing(prefill, median(decode), step.effect)


def now(device: torch.device) -> float:
    """The time in seconds, after all work queued on the device is done."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
    return time.perf_counter()


def peak_memory(work: Callable[[], Any], device: torch.device) -> int | None:
    """Peak bytes of torch's allocator during `work`, minus those before; None for a device without a count."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        work()
        return torch.cuda.max_memory_allocated(device) - before
    if device.type != "cpu":
        work()
        return None
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # otherwise the profiler's library writes to stderr
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        work()
    with TemporaryDirectory() as folder:
        file = Path(folder) / "profile.json"
        profiled.export_chrome_trace(str(file))
        events = parse_json(file.read_bytes())["traceEvents"]
    changes = sorted((event for event in events if event["name"] == "[memory]"), key=lambda event: event["ts"])
    return max(accumulate((event["args"]["Bytes"] for event in changes), initial=0))


# --- figures --------------------------------------------------------------------------------------------------------


def machine(vlm: VLM) -> dict[str, Any]:
    """What the figures depend on besides the code: versions, model, dtype, device, threads."""
    cuda = vlm.device.type == "cuda"
    return {
        "torch": torch.__version__,
        "model": vlm.name,
        "dtype": str(vlm.dtype).removeprefix("torch."),
        "device": torch.cuda.get_device_name(vlm.device) if cuda else f"{vlm.device.type} {platform.machine()}",
        "threads": torch.get_num_threads(),
    }


def figures(method: str, rounds: Sequence[dict[str, Timing]], memory: dict[str, int | None]) -> dict[str, Any]:
    """Times and memory of one method, and their ratios to plain."""
    times: dict[str, Any] = {}
    for phase in ("prefill", "decode"):
        mine, plain = ([getattr(one[name], phase) for one in rounds] for name in (method, PLAIN))
        times[phase] = {"seconds": spread(mine), "ratio": spread([a / b for a, b in zip(mine, plain, strict=True)])}
    used, base = memory[method], memory[PLAIN]
    extra, ratio = (None, None) if used is None or base is None else (used - base, used / base)
    effect = rounds[0][method].effect
    return {
        **times,
        "memory": {"bytes": used, "extra": extra, "ratio": ratio},
        "nothing": None if effect is None else effect.nothing,
        "effect": None if effect is None else str(effect),
    }


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, least and most of some values."""
    return {"median": median(values), "least": min(values), "most": max(values)}


def as_text(facts: dict[str, Any]) -> str:
    """What `measure` returned, as a table for the terminal, and below it what each mitigation did."""
    head = (
        f"{facts['model']}, {facts['dtype']} on {facts['device']}, {facts['threads']} threads, torch {facts['torch']}\n"
        f"{facts['prompt']} tokens of prompt, {facts['patches']} of them patches; {facts['new']} new tokens; "
        f"median (least-most) of {facts['repeats']} rounds\n\n"
        f"{'':<9}{'prefill ms':>11}{'of plain':>21}{'ms a token':>12}{'of plain':>21}{'memory MB':>11}{'of plain':>10}"
    )
    rows = [row(method, own) for method, own in facts["methods"].items()]
    effects = [f"{method}: {own['effect']}" for method, own in facts["methods"].items() if own["effect"]]
    peers = ["", *peers_text(facts)] if "peers" in facts else []
    return "\n".join([head, *rows, *([""] if effects else []), *effects, *peers])


def row(method: str, figures: dict[str, Any]) -> str:
    """The line of one method: milliseconds and ratios (median, least-most) of both phases, and memory."""
    line = f"{method:<9}"
    for phase, width in (("prefill", 11), ("decode", 12)):
        ratio = figures[phase]["ratio"]
        band = f"{ratio['median']:.3f} ({ratio['least']:.3f}-{ratio['most']:.3f})"
        line += f"{figures[phase]['seconds']['median'] * 1e3:>{width}.2f}{band:>21}"
    memory = figures["memory"]
    return line + (
        f"{'-':>11}" if memory["bytes"] is None else f"{memory['bytes'] / 1e6:>11.2f}{memory['ratio']:>10.3f}"
    )
