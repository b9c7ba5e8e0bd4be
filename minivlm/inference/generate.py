"""From a prompt to new tokens: prefill, then one token a step, chosen greedily or by chance."""

import math
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from minivlm.errors import GenerationError
from minivlm.inference.effect import NO_EFFECT, Effect, effect_of
from minivlm.model import NO_MITIGATION, Earlier, KVCache, Llava, Mitigation, Output
from minivlm.model.llava import no_padding


@dataclass(frozen=True)
class Generation:
    """How an answer is written. The default is greedy: the same question gets the same answer."""

    max_new_tokens: int = 256
    temperature: float = 0.0  # 0 is greedy
    top_k: int | None = None  # sample among the k likeliest tokens
    top_p: float = 1.0  # … among the fewest likeliest tokens that hold this share of the probability
    seed: int | None = None
    stop: tuple[str, ...] = ()  # texts that end an answer and are not part of it
    cache: bool = True  # False computes everything anew at every step: slow, to show that it makes no difference

    def __post_init__(self) -> None:
        object.__setattr__(self, "stop", (self.stop,) if isinstance(self.stop, str) else tuple(self.stop))
        checks = {
            "max_new_tokens must be a whole number of at least 1": is_count(self.max_new_tokens),
            "temperature must be a number of at least 0": is_number(self.temperature) and self.temperature >= 0,
            "top_k must be a whole number of at least 1, or None": self.top_k is None or is_count(self.top_k),
            "top_p must be above 0 and at most 1": is_number(self.top_p) and 0 < self.top_p <= 1,
            "seed must be a whole number of at least 0, or None": self.seed is None or is_count(self.seed, 0),
            "stop must be texts that are not empty": all(isinstance(text, str) and text for text in self.stop),
        }
        for sentence, holds in checks.items():
            if not holds:
                name = sentence.split()[0]
                raise GenerationError(f"{sentence}, found {getattr(self, name)!r}.")


def is_count(value: object, least: int = 1) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


GREEDY = Generation()


@dataclass(frozen=True)
class Step:
    """One step of a generation: a token for every row, and what led to it."""

    chosen: list[int]  # B ids; a row repeats its stop id once it has ended
    output: Output  # of the forward that chose them
    effect: Effect | None  # what the mitigation did so far; None if there is none


def generate(model: Llava, tokens: Tensor, pixels: Tensor | None = None, **how: Any) -> Iterator[list[int]]:
    """Yield the next token of every row, one list of B ids a step. Arguments as for `steps`."""
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
    """Prefill, then one forward a step.

    `tokens` (B, T), `pixels` or `features`, `attention_mask`: what the model takes; padding is on the left. `allowed`
    (V,): True for tokens that may be sampled. Ends when each sample has given one of `stops`, after `max_new_tokens`,
    or, with a warning, where the context ends. `mitigation`: see `Mitigation.of`; or a function from the latest step,
    None before the first, to that of the next. `compare`: run the plain model, too, for `effect.kl`. A given `cache`
    may hold the prompt's beginning, see `ready_cache`. `watch`: what else the model is to show.
    """
    plan, step = plan_of(mitigation), None
    attention_mask = left_padded(no_padding(tokens, 0) if attention_mask is None else attention_mask)
    most = fitting_steps(model, attention_mask.shape[1], settings.max_new_tokens)
    cache = ready_cache(model, cache, mitigation, attention_mask, most) if settings.cache or cache else None
    session = DecodeSession(model, cache, mitigation, attention_mask.shape[1], watch, compare)
    sampler = Sampler(len(tokens), settings, allowed, stops, tokens.device)
    new, pictures = tokens, {"pixels": pixels, "features": features}
    for _ in range(most):
        output = session.forward(new, attention_mask, plan(step), **pictures)
        chosen = sampler.sample(output.logits[:, -1])
        yield (step := Step(chosen, output, session.effect))
        if sampler.finished:
            return
        following = torch.tensor(chosen, device=tokens.device)[:, None]  # B 1
        attention_mask = F.pad(attention_mask, (0, 1), value=True)
        new, pictures = (torch.cat((new, following), dim=1), pictures) if cache is None else (following, {})
    warn_if_cut(most, settings.max_new_tokens)


def warn_if_cut(tokens: int, wanted: int) -> None:
    """An answer that the context ends is shorter than was allowed."""
    if tokens < wanted:
        warnings.warn(f"The answer was cut after {tokens} tokens: the model's context is full.", stacklevel=3)


def plan_of(mitigation: Any) -> Callable[[Step | None], Any]:
    """What is done after each step: what the function says, or always the same."""
    if changes_by_step(mitigation):
        return mitigation
    fixed = Mitigation.of(mitigation)
    return lambda step: fixed


def changes_by_step(mitigation: Any) -> bool:
    """Whether a mitigation is a function from the latest step to the next mitigation; a class such as EAH is none."""
    return callable(mitigation) and not isinstance(mitigation, type)


class DecodeSession:
    """The model reading one prompt and its answer; `effect` is what the mitigation did so far, None without one."""

    def __init__(
        self, model: Llava, cache: KVCache | None, mitigation: Any, prompt: int, watch: dict, compare: bool
    ) -> None:
        self.model, self.cache = model, cache
        acts = changes_by_step(mitigation) or not Mitigation.of(mitigation).empty
        self.effect = NO_EFFECT if acts else None
        self.prompt, self.how = prompt, {"last_only": True, **watch}
        self.compare = compare and self.effect is not None  # the plain model need not be held against itself
        if self.compare and cache is not None:
            self.plain_cache = cache.branch(range(cache.rows), cache.capacity)

    def forward(self, tokens: Tensor, attention_mask: Tensor, mitigation: Any, **pictures: Tensor | None) -> Output:
        """One forward, and its effect."""
        how = {"mitigation": mitigation, "earlier": Earlier(self.prompt, self.effect), **self.how}
        output = self.model(tokens, attention_mask=attention_mask, cache=self.cache, **pictures, **how)
        if self.effect is not None:
            kl = self._distance(output, tokens, attention_mask, **pictures) if self.compare else None
            if self.cache is None:  # then each step does everything once more
                self.effect = replace(self.effect, calls=())
            self.effect = self.effect.then(effect_of(output, kl) or Effect(((),), kl))
        return output

    def _distance(self, output: Output, tokens: Tensor, attention_mask: Tensor, **pictures: Tensor | None) -> Tensor:
        """KL(mitigated, plain) of the next token's distributions in nats, (B, 1)."""
        cache = None if self.cache is None else self.plain_cache
        plain = self.model(tokens, attention_mask=attention_mask, cache=cache, last_only=True, **pictures)
        mine, other = (each.logits[:, -1].float().log_softmax(dim=-1) for each in (output, plain))
        return F.kl_div(other, mine, reduction="none", log_target=True).sum(dim=-1, keepdim=True).clamp(min=0)


class Sampler:
    """Samples the next token of every row, until all rows have ended."""

    def __init__(
        self, rows: int, settings: Generation, allowed: Tensor | None, stops: tuple[int, ...], device: torch.device
    ) -> None:
        self.settings, self.allowed, self.stops = settings, allowed, stops
        self.generators = new_generators(rows, settings, device)
        self.ended: list[int | None] = [None] * rows

    @property
    def finished(self) -> bool:
        return None not in self.ended

    def sample(self, logits: Tensor) -> list[int]:
        """B ids from `logits` (B, V); a row that has ended repeats its stop id."""
        chosen = sample(logits, self.settings, self.generators, self.allowed).tolist()
        chosen = [token if end is None else end for token, end in zip(chosen, self.ended, strict=True)]
        self.ended = [token if token in self.stops else None for token in chosen]
        return chosen


def left_padded(attention_mask: Tensor) -> Tensor:
    """`attention_mask` (B, T) as given, once every row ends in a token: what follows padding would be no answer."""
    if not attention_mask[:, -1].all():
        raise GenerationError("Rows of a batch must be padded on the left, so that all prompts end together.")
    return attention_mask


def ready_cache(model: Llava, cache: KVCache | None, mitigation: Any, attention_mask: Tensor, steps: int) -> KVCache:
    """The given cache, or a new one with room for the prompt and so many steps.

    A given one may hold the prompt's beginning as the plain model computes it, as far as the mitigation leaves that
    untouched: nothing for EAH or for a function, the tokens up to the picture's last patch for CLVA. Raises
    `GenerationError` otherwise.
    """
    if cache is None:
        return new_cache(model, len(attention_mask), attention_mask.shape[1] + steps)
    image = cache.image[:, : cache.length]
    text = (
        attention_mask[:, : cache.length] & ~image & (image.cumsum(dim=1) > 0)
    )  # rows behind a patch, see `Layout.text`
    fixed = None if changes_by_step(mitigation) else Mitigation.of(mitigation)
    touched = fixed is None or fixed.eah is not None or (not fixed.empty and bool(text.any()))
    if cache.length and touched:
        raise GenerationError(
            f"The mitigation acts on tokens that the cache holds already ({cache.length} of them): begin with an empty "
            "cache, or, for CLVA alone, with one that ends with the picture."
        )
    return cache


def fitting_steps(model: Llava, prompt: int, wanted: int) -> int:
    """How many of the `wanted` tokens fit into the context behind a prompt of `prompt` tokens."""
    context = model.config.text_config.context_length
    if prompt >= context:
        raise GenerationError(
            f"The prompt has {prompt} tokens and the model's context {context}: there is no room for an answer. "
            "Shorten the text, leave out earlier turns or use fewer pictures."
        )
    return min(wanted, context - prompt)


def new_cache(model: Llava, rows: int, capacity: int) -> KVCache:
    """A cache for `rows` rows of `capacity` tokens, where and as the model computes."""
    weight = model.text.embed_tokens.weight
    return KVCache(model.config.text_config, rows, capacity, device=weight.device, dtype=weight.dtype)


def new_generators(rows: int, settings: Generation, device: torch.device) -> list[Generator]:
    """A source of chance for each row, so that a row is drawn as if it were alone."""
    generators = [Generator(device).manual_seed(settings.seed or 0) for _ in range(rows)]
    if settings.seed is None and settings.temperature > 0:
        for generator in generators:
            generator.seed()
    return generators


def sample(logits: Tensor, settings: Generation, generators: list[Generator], allowed: Tensor | None = None) -> Tensor:
    """One token (B,) for each row of `logits` (B, V). Raises `GenerationError` for NaN and infinity."""
    logits = logits.float()
    if not torch.isfinite(logits).all():
        raise GenerationError(
            "The model gave logits that are NaN or infinite. Damaged weights or a dtype that is too small do this: "
            "look at the checkpoint with `minivlm check`, or try another dtype."
        )
    if allowed is not None:
        logits = logits.masked_fill(~allowed, float("-inf"))
    if settings.temperature == 0:
        return logits.argmax(dim=-1)
    logits = logits - logits.amax(dim=-1, keepdim=True)  # so that no temperature, however small, makes infinities
    logits = logits / max(settings.temperature, torch.finfo(logits.dtype).tiny)
    logits = keep_top_p(keep_top_k(logits, settings.top_k), settings.top_p)
    # The largest of p / e, e exponential, falls on a token with probability p: a draw without a word to the host.
    noise = torch.stack(
        [
            torch.empty_like(row).exponential_(generator=generator)
            for row, generator in zip(logits, generators, strict=True)
        ]
    )
    return (logits.softmax(dim=-1) / noise).argmax(dim=-1)


def keep_top_k(logits: Tensor, k: int | None) -> Tensor:
    """Logits (B, V) with all but the `k` largest of each row at minus infinity."""
    if k is None or k >= logits.shape[-1]:
        return logits
    smallest = logits.topk(k, dim=-1).values[:, -1:]
    return logits.masked_fill(logits < smallest, float("-inf"))


def keep_top_p(logits: Tensor, p: float) -> Tensor:
    """Logits (B, V) with all at minus infinity but the fewest largest whose probability reaches `p`."""
    if p == 1:
        return logits
    ordered, order = logits.sort(dim=-1, descending=True)
    share = ordered.softmax(dim=-1)
    needless = share.cumsum(dim=-1) - share >= p  # what stands before a token suffices already
    return logits.masked_fill(needless.scatter(-1, order, needless), float("-inf"))
