"""From a prompt to new tokens: prefill, then one token per step, greedy or sampled."""

import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor

from minivlm.errors import A_SEED, GenerationError, is_seed
from minivlm.files import shown
from minivlm.inference.decode import DecodeSession, Forwards, changes_by_step, whole_columns
from minivlm.inference.effect import Effect
from minivlm.inference.no_numbers import no_numbers
from minivlm.model import NO_MITIGATION, KVCache, Llava, Mitigation, Output
from minivlm.model.llava import no_padding

COMPILE = ("off", "auto", "on")


@dataclass(frozen=True)
class Generation:
    """How an answer is generated. The default is greedy: the same question gets the same answer.

    Several threads may share it.
    """

    max_new_tokens: int = 256
    temperature: float = 0.0  # 0 is greedy
    top_k: int | None = None  # sample among the k most likely tokens
    top_p: float = 1.0  # … among the fewest most likely tokens that have this share of the probability together
    seed: int | None = None  # of sampling; None: another answer each time
    stop: tuple[str, ...] = ()  # texts that end an answer and are not part of it
    cache: bool = True  # False computes all tokens again at every step: slow, to show that the cache changes nothing
    compile: str = "off"  # "on": compile the step that writes a token, which takes long once; "auto": on a GPU

    def __post_init__(self) -> None:
        object.__setattr__(self, "stop", (self.stop,) if isinstance(self.stop, str) else tuple(self.stop))
        checks = (
            ("max_new_tokens", is_count(self.max_new_tokens), "a whole number of at least 1"),
            ("temperature", is_number(self.temperature) and self.temperature >= 0, "a number of at least 0"),
            ("top_k", self.top_k is None or is_count(self.top_k), "a whole number of at least 1, or None"),
            ("top_p", is_number(self.top_p) and 0 < self.top_p <= 1, "above 0 and at most 1"),
            ("seed", self.seed is None or is_seed(self.seed), f"{A_SEED}, or None"),
            ("compile", self.compile in COMPILE, f"one of {', '.join(COMPILE)}"),
            ("compile", self.cache or self.compile != "on", "'off' or 'auto' without a cache: there is no such step"),
            ("stop", all(isinstance(text, str) and text for text in self.stop), "texts that are not empty"),
        )
        for name, holds, rule in checks:
            if not holds:
                raise GenerationError(f"{name} must be {rule}, found {shown(getattr(self, name))}.")
        if self.temperature == 0 and (self.top_k is not None or self.top_p != 1):
            warnings.warn(
                "top_k and top_p are not used: with a temperature of 0 nothing is sampled and the likeliest token is "
                "taken. Give a temperature above 0, too.",
                stacklevel=4,
            )


def is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


GREEDY = Generation()
NO_TOKEN = -1  # chosen from logits that are no numbers


@dataclass(frozen=True)
class Step:
    """One step of a generation: a token of each sample, and the forward that it was chosen from."""

    chosen: list[int]  # B ids; a sample repeats its stop id once it has ended
    output: Output
    effect: Effect | None  # what the mitigation did so far; None if there is none


def generate(model: Llava, tokens: Tensor, pixels: Tensor | None = None, **how: Any) -> Iterator[list[int]]:
    """Yield the next tokens, one list of B ids per step. Arguments as for `steps`."""
    return (step.chosen for step in steps(model, tokens, pixels, **how))


@torch.inference_mode()
def steps(
    model: Llava,
    tokens: Tensor,
    pixels: Tensor | None = None,
    *,
    features: Tensor | None = None,
    attention_mask: Tensor | None = None,
    settings: Generation = GREEDY,
    allowed: Tensor | None = None,
    stops: tuple[int, ...] = (),
    cache: KVCache | None = None,
    mitigation: Any = NO_MITIGATION,
    compare: bool = False,
    **watch: Any,
) -> Iterator[Step]:
    """Prefill, then one forward per step.

    `tokens` (B, T), `pixels` or `features`, `attention_mask`: as the model takes them, padded on the left. `allowed`
    (V,): True for tokens that may be sampled. Ends when each sample has given one of `stops`, after `max_new_tokens`,
    or, with a warning, where the context ends. `mitigation`: see `Mitigation.of`; or a function from the latest step
    (None before the first) to the mitigation of the next. `compare`: run the plain model, too, for `effect.kl`. A given
    `cache` may hold the beginning of the prompt, see `ready_cache`. `watch`: the fields of `Watch`.
    """
    next_mitigation = mitigation_by_step(mitigation)
    attention_mask = left_padded(no_padding(tokens, 0) if attention_mask is None else attention_mask.bool())
    most = fitting_steps(model, attention_mask.shape[1], settings.max_new_tokens)
    cache = ready_cache(model, cache, mitigation, attention_mask, most) if settings.cache or cache else None
    forwards = Forwards(model, cache, attention_mask, is_compiled(settings, model, tokens.device), **watch)
    session = DecodeSession(forwards, mitigation, compare)
    sampler = Sampler(len(tokens), settings, allowed, stops, tokens.device)
    output = session.prefill(tokens, next_mitigation(None), pixels=pixels, features=features)
    for number in range(1, most + 1):
        chosen = sampler.sample(output.logits[:, -1])
        require_words(chosen, model, tokens, pixels, features, attention_mask)
        yield (step := Step(chosen, output, session.effect))
        if sampler.finished:
            return
        if number < most:
            output = session.decode(sampler.tokens, next_mitigation(step))
    warn_if_cut(most, settings.max_new_tokens)


def require_words(chosen: list[int], model: Llava, *prompt: Any) -> None:
    """Raise `GenerationError` if one of the `chosen` ids stands for logits that are no numbers, or for a picture: none
    comes with it. `prompt`: further arguments of `no_numbers`.
    """
    if NO_TOKEN in chosen:
        raise GenerationError(no_numbers(model, *prompt))
    if model.config.image_token_index in chosen:
        raise GenerationError("The model chose the token of a picture: leave it out of `allowed`.")


def is_compiled(settings: Generation, model: Llava, device: torch.device) -> bool:
    """Whether the step that writes a token is compiled. Raises `GenerationError` if nobody knows what that would do."""
    split = hasattr(model.lm_head.weight, "device_mesh")  # a DTensor
    if settings.compile == "on" and split:
        raise GenerationError("compile must be 'off' or 'auto' for a model that is split over processes, found 'on'.")
    return settings.compile == "on" or (settings.compile == "auto" and device.type == "cuda" and not split)


def warn_if_cut(tokens: int, wanted: int) -> None:
    """Warn if an answer may have fewer tokens than were `wanted`, because the context ends."""
    if tokens < wanted:
        warnings.warn(f"The answer was cut after {tokens} tokens: the model's context is full.", stacklevel=3)


def mitigation_by_step(mitigation: Any) -> Callable[[Step | None], Any]:
    """A function from the latest step to the next mitigation: the given one, or one that returns always the same."""
    if changes_by_step(mitigation):
        return mitigation
    fixed = Mitigation.of(mitigation)
    return lambda step: fixed


class Sampler:
    """Samples the next token of each sample, until all samples have ended."""

    def __init__(
        self, rows: int, settings: Generation, allowed: Tensor | None, stops: tuple[int, ...], device: torch.device
    ) -> None:
        self.settings, self.allowed, self.stops = settings, allowed, stops
        self.generators = new_generators(rows, settings, device)
        self.stop_ids = torch.tensor(stops, dtype=torch.long, device=device)
        self.tokens = torch.full((rows, 1), NO_TOKEN, device=device)  # the latest
        self.warned = False  # of a likeliest token that is not allowed
        self.finished = False  # whether every sample has given a stop token

    def sample(self, logits: Tensor) -> list[int]:
        """B ids from `logits` (B, V), NO_TOKEN where these are no numbers; an ended sample repeats its stop id."""
        chosen = sample(logits, self.settings, self.generators, self.allowed)[:, None]
        ended = torch.isin(self.tokens, self.stop_ids)
        self.tokens = torch.where(ended & (chosen != NO_TOKEN), self.tokens, chosen)
        likeliest = logits.argmax(dim=-1, keepdim=True)
        barred = torch.zeros_like(ended) if self.allowed is None else ~self.allowed[likeliest] & ~ended
        # Here the host waits for the step.
        ids, first, is_barred = torch.cat((self.tokens, likeliest, barred), dim=1).T.tolist()
        self.finished = all(token in self.stops for token in ids)
        self._warn_of_barred([token for token, out in zip(first, is_barred, strict=True) if out])
        return ids

    def _warn_of_barred(self, tokens: list[int]) -> None:
        """Warn, once, of likeliest tokens that are no words of an answer."""
        if tokens and not self.warned:
            self.warned = True
            warnings.warn(
                f"The likeliest next token was {tokens[0]}, which is no word: a special token that ends nothing, or an "
                "unused row of the embedding. It is not written here; transformers would write it, and go on from it.",
                stacklevel=4,
            )


def left_padded(attention_mask: Tensor) -> Tensor:
    """`attention_mask` (B, T) as given. Raises `GenerationError` if a sample ends in padding: nothing can follow it."""
    if not attention_mask[:, -1].all():
        raise GenerationError("Rows of a batch must be padded on the left, so that all prompts end together.")
    return attention_mask


def ready_cache(model: Llava, cache: KVCache | None, mitigation: Any, attention_mask: Tensor, steps: int) -> KVCache:
    """The given cache, or a new one with room for the prompt and `steps` tokens.

    A given one may hold the beginning of the prompt as the plain model computes it, as far as the mitigation does not
    change that: nothing for EAH or for a function, the tokens up to the picture's last patch for CLVA. Raises
    `GenerationError` otherwise.
    """
    if cache is None:
        needed = attention_mask.shape[1] + steps
        return new_cache(model, len(attention_mask), whole_columns(needed))
    image = cache.image[:, : cache.length]
    text = attention_mask[:, : cache.length] & ~image & (image.cumsum(dim=1) > 0)  # after a patch, see `Layout.text`
    fixed = None if changes_by_step(mitigation) else Mitigation.of(mitigation)
    changed = fixed is None or fixed.eah is not None or (not fixed.empty and bool(text.any()))
    if cache.length and changed:
        raise GenerationError(
            f"The mitigation acts on tokens that the cache holds already ({cache.length} of them): begin with an empty "
            "cache, or, for CLVA alone, with one that ends with the picture."
        )
    return cache


def fitting_steps(model: Llava, prompt: int, wanted: int) -> int:
    """How many of the `wanted` tokens fit into the context after a prompt of `prompt` tokens."""
    context = model.config.text_config.context_length
    if prompt >= context:
        raise GenerationError(
            f"The prompt has {prompt} tokens and the model's context {context}: there is no room for an answer. "
            "Shorten the text, leave out earlier turns or use fewer pictures."
        )
    return min(wanted, context - prompt)


def new_cache(model: Llava, rows: int, capacity: int) -> KVCache:
    """A cache for `rows` samples of `capacity` tokens, with the model's device and dtype."""
    weight = model.text.embed_tokens.weight
    return KVCache(model.config.text_config, rows, capacity, device=weight.device, dtype=weight.dtype)


def new_generators(rows: int, settings: Generation, device: torch.device) -> list[Generator]:
    """A random generator for each sample, so that a sample gets the same tokens in a batch as alone."""
    generators = [Generator(device).manual_seed(settings.seed or 0) for _ in range(rows)]
    if settings.seed is None and settings.temperature > 0:
        for generator in generators:
            generator.seed()
    return generators


def sample(logits: Tensor, settings: Generation, generators: list[Generator], allowed: Tensor | None = None) -> Tensor:
    """One token (B,) for each row of `logits` (B, V), among those that are `allowed` (V,).

    NO_TOKEN for a row that is NaN or infinite somewhere: to ask here would make the host wait.
    """
    logits = logits.float()
    return torch.where(logits.isfinite().all(dim=-1), chosen_from(logits, settings, generators, allowed), NO_TOKEN)


def chosen_from(logits: Tensor, settings: Generation, generators: list[Generator], allowed: Tensor | None) -> Tensor:
    """One token (B,) for each row of `logits` (B, V), greedy or by chance."""
    if allowed is not None:
        logits = logits.masked_fill(~allowed, float("-inf"))
    if settings.temperature == 0:
        return logits.argmax(dim=-1)
    logits = logits - logits.amax(dim=-1, keepdim=True)  # so that a very small temperature does not give infinities
    number = torch.finfo(logits.dtype)
    logits = logits / min(max(settings.temperature, number.tiny), number.max)  # by infinity, -inf would be NaN
    logits = keep_top_p(keep_top_k(logits, settings.top_k), settings.top_p)
    # argmax(p / Exp(1)) samples from p, and needs no host sync.
    noise = torch.stack(
        [
            torch.empty_like(row).exponential_(generator=generator)
            for row, generator in zip(logits, generators, strict=True)
        ]
    )
    return (logits.softmax(dim=-1) / noise).argmax(dim=-1)


def keep_top_k(logits: Tensor, k: int | None) -> Tensor:
    """Logits (B, V) with minus infinity for all but the `k` largest of each row."""
    if k is None or k >= logits.shape[-1]:
        return logits
    smallest = logits.topk(k, dim=-1).values[:, -1:]
    return logits.masked_fill(logits < smallest, float("-inf"))


def keep_top_p(logits: Tensor, p: float) -> Tensor:
    """Logits (B, V) with minus infinity for all but the fewest largest whose probabilities sum to `p` or more."""
    if p == 1:
        return logits
    ordered, order = logits.sort(dim=-1, descending=True)
    share = ordered.softmax(dim=-1)
    needless = share.cumsum(dim=-1) - share >= p  # the more likely tokens reach p without this one
    needless[:, 0] = False  # the likeliest stays, even for a p that a float32 takes for 0
    return logits.masked_fill(needless.scatter(-1, order, needless), float("-inf"))
