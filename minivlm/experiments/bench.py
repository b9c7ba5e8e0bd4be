"""`minivlm bench`: the cost of EAH, CLVA and a trace, compared with plain answers of the same model and process.

The speed of a machine varies over time. So the methods take turns (plain, eah, clva, both, trace, plain, ...), each
time is divided by that of the plain run in the same round, and the median, least and largest of these ratios are
reported.

    prefill   seconds from prepared inputs to the first token, with the vision tower
    decode    seconds for each further token: the median of the steps of an answer, which has a fixed length
    memory    peak bytes of tensors beside the weights: cache, activations, maps, statistics

MORE are measured if they are asked for: plain, with a compiled decode step (`Generation.compile`), for eight questions
at once, and both. To compile takes long; that is in the first answer, which is not counted.

Memory is measured in a separate round before the others, which also warms them up. On CUDA it is what torch's allocator
counts. On a CPU it is the allocations that torch's profiler records: exact for tensors, without the internal buffers of
the mathematical libraries. On other devices there is no count, and None is reported.

Other files measure what has no methods: `first_token.py`, `evaluation_rate.py`, `roofline.py`, `peers.py`.
"""

import os
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise, takewhile
from statistics import median
from typing import Any

import torch

from minivlm import __version__
from minivlm.checkpoints.quantised import kind_of
from minivlm.errors import ConfigError, PromptError
from minivlm.evaluation.settings import BENCHED, PLAIN
from minivlm.experiments.cost import now, peak_memory, spread
from minivlm.inference.answer import Inputs
from minivlm.inference.effect import Effect
from minivlm.inference.generate import Generation, fitting_steps, steps
from minivlm.inference.trace import Tracer
from minivlm.inference.vlm import VLM
from minivlm.model import CLVA, EAH, NO_MITIGATION, Mitigation
from minivlm.toyworld import HELD_OUT

QUESTION = "What is in the image?"
FILLING = (" and", " a")  # words that lengthen a question by one token; at least one of them is a single token
BATCH = 8  # questions at once in a "batch"
MORE = ("compiled", "batch", "compiled-batch")
ALL = (*BENCHED, *MORE)


@dataclass(frozen=True)
class Timing:
    """The times of one answer, or of a batch of them, by one method."""

    prefill: float  # seconds
    decode: float  # seconds a step
    effect: Effect | None  # None without mitigation
    tokens: tuple[int, ...] = ()  # of the answer, in a batch of the first one


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
    """The figures of the `methods`, of ALL, in JSON types; "plain" is always included.

    `prompt`: tokens of the prompt with its picture, by default those of a short question, which are the minimum; `new`:
    tokens of an answer; `repeats`: measured rounds. `eah` and `clva` replace the methods' default settings. Raises
    `ConfigError` for unknown methods, settings that none uses, too few tokens or rounds, `PromptError` for a prompt
    that does not fit.
    """
    methods = ordered(methods)
    require_used(methods, eah=eah, clva=clva)
    if new < 2 or repeats < 1:
        raise ConfigError(f"A bench needs at least 2 new tokens and 1 round, found new={new} and repeats={repeats}.")
    inputs = prepared(vlm, prompt, new)
    both = Mitigation(eah or EAH(), clva or CLVA())
    run = {method: work(vlm, method, inputs, new, both) for method in methods}
    memory = {method: peak_memory(run[method], vlm.device) for method in methods}  # and the warm-up
    rounds = [{method: run[method]() for method in methods} for _ in range(repeats)]
    return {
        "minivlm": __version__,
        **machine(vlm),
        "prompt": inputs.tokens.shape[1],
        "patches": vlm.model.config.num_image_tokens,
        "new": new,
        "repeats": repeats,
        "settings": {name: as_lists(own) for name, own in vlm.resolve(both).as_dict().items()},
        "methods": {method: figures(method, rounds, memory) for method in methods},
    }


def require_used(methods: Sequence[str], **settings: EAH | CLVA | None) -> None:
    """Raise `ConfigError` for settings of "eah" or "clva" that none of the methods uses."""
    for name, given in settings.items():
        if given is not None and not {name, "both"} & set(methods):
            raise ConfigError(f"Settings of {name} were given, but no method of {', '.join(methods)} uses them.")


def ordered(methods: Sequence[str]) -> tuple[str, ...]:
    """The methods and plain, in the order of ALL. Raises `ConfigError` for unknown ones."""
    if unknown := set(methods) - set(ALL):
        raise ConfigError(f"A bench knows the methods {', '.join(ALL)}, found {', '.join(map(repr, sorted(unknown)))}.")
    return tuple(method for method in ALL if method in {PLAIN, *methods})


# --- one answer -----------------------------------------------------------------------------------------------------


def work(vlm: VLM, method: str, inputs: Inputs, new: int, both: Mitigation) -> Callable[[], Timing]:
    """A function that generates and measures one answer by a method; a batch repeats the `inputs`."""
    mitigations = {"eah": Mitigation(both.eah), "clva": Mitigation(clva=both.clva), "both": both}
    settings = Generation(max_new_tokens=new, compile="on" if method.startswith("compiled") else "off")
    return partial(
        answer,
        vlm,
        repeated(inputs, BATCH) if method.endswith("batch") else inputs,
        traced=method == "trace",
        mitigation=mitigations.get(method, NO_MITIGATION),
        settings=settings,
        allowed=vlm.allowed.to(vlm.device),
    )


def repeated(inputs: Inputs, rows: int) -> Inputs:
    """The inputs of one question as those of a batch of `rows`."""
    assert inputs.pixels is not None  # each question has its picture
    tokens, mask = (part.repeat(rows, 1) for part in (inputs.tokens, inputs.attention_mask))
    return Inputs(tokens, inputs.pixels.repeat(rows, 1, 1, 1), mask, inputs.spans * rows)


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
    """Generate an answer that no stop token ends, and measure the time of every step; `how` goes to `steps`."""
    tracer = Tracer(vlm.model, inputs, maps=(), lens=()) if traced else None
    watch = tracer.watch if tracer else {}
    times, tokens = [now(vlm.device)], []
    for step in steps(vlm.model, **inputs, **how, **watch):
        if tracer:
            tracer.record(step)
        tokens.append(step.chosen[0])
        times.append(now(vlm.device))
    prefill, *decode = [end - start for start, end in pairwise(times)]
    return Timing(prefill, median(decode), step.effect, tuple(tokens))


# --- figures --------------------------------------------------------------------------------------------------------


def machine(vlm: VLM) -> dict[str, Any]:
    """What the figures depend on besides the code: versions, model, dtype, device, threads."""
    cuda = vlm.device.type == "cuda"
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda if cuda else None,
        "model": vlm.name,
        "dtype": str(vlm.dtype).removeprefix("torch."),
        "weights": kind_of(vlm.model),
        "device": torch.cuda.get_device_name(vlm.device) if cuda else f"{vlm.device.type} {platform.machine()}",
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
    }


def same_tokens(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens two answers begin with alike."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def as_lists(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The same settings with lists for tuples, as JSON has them."""
    return {name: [*value] if isinstance(value, tuple) else value for name, value in settings.items()}


def figures(method: str, rounds: Sequence[Mapping[str, Timing]], memory: Mapping[str, int | None]) -> dict[str, Any]:
    """Times and memory of one method, and their ratios to plain; tokens a second of all its answers together; and how
    many tokens are the `same` as plain's before the first that is not.
    """
    times: dict[str, Any] = {}
    for phase in ("prefill", "decode"):
        mine, plain = ([getattr(one[name], phase) for one in rounds] for name in (method, PLAIN))
        times[phase] = {"seconds": spread(mine), "ratio": spread([a / b for a, b in zip(mine, plain, strict=True)])}
    used, base = memory[method], memory[PLAIN]
    extra, ratio = (None, None) if used is None or base is None else (used - base, used / base)
    effect = rounds[0][method].effect
    answers = BATCH if method.endswith("batch") else 1
    return {
        **times,
        "answers": answers,
        "same": same_tokens(rounds[0][method].tokens, rounds[0][PLAIN].tokens),
        "tokens/s": answers / times["decode"]["seconds"]["median"],
        "memory": {"bytes": used, "extra": extra, "ratio": ratio},
        "nothing": None if effect is None else effect.nothing,
        "effect": None if effect is None else str(effect),
    }
