"""The forwards of one generation: the whole prompt at once (prefill), then one token at a time (decode).

What is known when the prompt is read is decided once, on the host: where patches and text are, which layers write out
their weights. This is the *plan* of a generation. A decode step is then a function of tensors whose shapes stay the
same from token to token: it sees the cache with the columns that are still empty, which its mask hides, and asks no
tensor for a number, so that a GPU never has to wait for the host.

B samples, K columns of the cache that a step sees, H heads.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from minivlm.errors import GenerationError
from minivlm.inference.effect import NO_EFFECT, Effect, effect_of
from minivlm.model import NO_MITIGATION, KVCache, Layout, Llava, Mitigation, Output
from minivlm.model.call import Call, Earlier, Watch
from minivlm.model.effect import NO_CHANGES, Changes

COLUMNS = 128  # a step sees the columns of the cache up to a multiple of this


def whole_columns(tokens: int) -> int:
    """The capacity of a cache for so many `tokens`: a multiple of COLUMNS, so that every step sees as many."""
    return -(-tokens // COLUMNS) * COLUMNS


class StepCache(KVCache):
    """A cache as decode steps see it: the first `columns` columns, always all of them; new tokens go to `place`."""

    def __init__(self, cache: KVCache, columns: int) -> None:
        self.keys, self.values = (part[:, :, :, :columns] for part in (cache.keys, cache.values))
        self.length = columns
        self.place = torch.tensor([cache.length], device=cache.keys.device)  # the column of the new token
        for part in (self.keys, self.values):
            part[:, :, :, cache.length :] = 0  # what an earlier answer left there may be NaN, and 0 * NaN is not 0

    def write(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Write `k`, `v` (B, G, 1, d) of one layer to `place`; return all columns, (B, G, K, d) each."""
        keys, values = self.keys[layer], self.values[layer]
        return keys.index_copy_(2, self.place, k), values.index_copy_(2, self.place, v)


@dataclass(frozen=True)
class Plan:
    """What all decode steps have in common, as long as they see the same columns of the cache."""

    cache: StepCache
    call: Call
    padding: Tensor  # (B, 1): how many tokens of padding each sample has
    index: Tensor  # (K,): 0, 1, …

    @classmethod
    def of(cls, cache: KVCache, attention_mask: Tensor, watch: Watch) -> "Plan":
        """The plan behind a prompt with `attention_mask` (B, T), as far as the next multiple of COLUMNS.

        Its layout takes all columns after the prompt for tokens of the answer, also those that no token is in yet: the
        mask of a step hides them. No column is called the prompt's, as no row of a step is: so prompts of any length
        make one compiled step, as long as their pictures stand in the same columns.
        """
        prompt, columns = attention_mask.shape[1], min(cache.capacity, COLUMNS * (cache.length // COLUMNS + 1))
        cache.image[:, prompt:] = False
        behind = (0, columns - prompt)
        image = F.pad(cache.image[:, :prompt], behind)
        layout = Layout(F.pad(attention_mask, behind, value=True), image, queries=1, prompt=0)
        _ = layout.text, layout.span, layout.patches, layout.numbers, layout.text_rows and layout.most_patches  # kept
        index = torch.arange(columns, device=image.device)
        padding = (~attention_mask).sum(dim=1, keepdim=True)
        return cls(StepCache(cache, columns), Call(layout, watch=watch), padding, index)

    @property
    def columns(self) -> int:
        """The number of columns that a step sees."""
        return len(self.index)


def decode_step(model: Llava, plan: Plan, tokens: Tensor) -> Output:
    """The output for one new token of each sample, `tokens` (B, 1), which is written to the plan's cache."""
    place, call = plan.cache.place, plan.call
    mask = (call.layout.attention_mask & (plan.index <= place))[:, None, None]  # B 1 1 K
    x = model.text.embed_tokens(tokens)  # B 1 D
    decoded = model.text(x, place - plan.padding, mask, cache=plan.cache, call=call, hidden=call.watch.hidden)
    place.add_(1)
    return Output(**vars(decoded), logits=model.lm_head(decoded.states), image_features=None, vision_hidden=None)


@cache
def compiled_step() -> Callable[[Llava, Plan, Tensor], Output]:
    """`decode_step`, compiled at its first call; without CUDA graphs, which nobody could try yet.

    It is compiled again for other shapes: batches, multiples of COLUMNS, methods. After eight, torch stops compiling.
    What it returns raises `GenerationError` where torch cannot compile.
    """
    compiled = torch.compile(decode_step, dynamic=False)

    def step(model: Llava, plan: Plan, tokens: Tensor) -> Output:
        try:
            return compiled(model, plan, tokens)
        except torch._dynamo.exc.BackendCompilerFailed as error:
            reason = str(error).strip().splitlines()[0]
            raise GenerationError(f"The step could not be compiled: {reason}. Or leave compile 'off'.") from error

    return step


class Forwards:
    """The forwards of one model in one generation, each for the logits of the last position alone."""

    def __init__(
        self, model: Llava, cache: KVCache | None, attention_mask: Tensor, compiled: bool = False, **watch: Any
    ) -> None:
        self.model, self.cache, self.watch = model, cache, watch  # without a cache each forward computes all anew
        self.step = compiled_step() if compiled else decode_step
        self.attention_mask = attention_mask  # B T, of the prompt
        self.plan: Plan | None = None
        self.planned_for: Mitigation | None = None

    def prefill(self, tokens: Tensor, mitigation: Any, changes: Changes | None, **pictures: Tensor | None) -> Output:
        """The output for the prompt `tokens`, without those that the cache holds; `changes` are None or none yet."""
        self.tokens, self.pictures = tokens, pictures
        return self._whole(self.attention_mask, mitigation, changes)

    def decode(self, tokens: Tensor, mitigation: Any, changes: Changes | None) -> Output:
        """The output for one more token of each sample, `tokens` (B, 1); `changes`: what the mitigation did so far."""
        if self.cache is None:
            self.tokens = torch.cat((self.tokens, tokens), dim=1)
            written = self.tokens.shape[1] - self.attention_mask.shape[1]
            return self._whole(F.pad(self.attention_mask, (0, written), value=True), mitigation, changes)
        self.cache.require_room(len(tokens), 1)
        output = self.step(self.model, self._planned(self.cache, mitigation, changes), tokens)
        self.cache.length += 1
        return cut(output, self.cache.length)

    def _whole(self, attention_mask: Tensor, mitigation: Any, changes: Changes | None) -> Output:
        earlier = Earlier(self.attention_mask.shape[1], changes)
        how = {"attention_mask": attention_mask, "cache": self.cache, "last_only": True, **self.pictures, **self.watch}
        return self.model(self.tokens, mitigation=mitigation, earlier=earlier, **how)

    def _planned(self, cache: KVCache, mitigation: Any, changes: Changes | None) -> Plan:
        """The plan of the next step: that of the last one, unless the mitigation or the columns are others."""
        plan = self.plan
        if plan is None or plan.columns == cache.length:
            plan = Plan.of(cache, self.attention_mask, Watch(**{**self.watch, "sinks": ()}))
            self.planned_for = None
        if mitigation is not self.planned_for:
            resolved = Mitigation.of(mitigation).resolve(self.model.config)
            plan = replace(
                plan,
                call=replace(
                    plan.call, mitigation=resolved, before=Changes(changes.calls[:1]) if changes else NO_CHANGES
                ),
            )
        self.plan, self.planned_for = plan, mitigation
        return plan


def cut(output: Output, length: int) -> Output:
    """The same output without the columns behind the first `length`, which no token is in yet."""
    maps, rows = ({layer: map_[..., :length] for layer, map_ in part.items()} for part in (output.maps, output.rows))
    changes = output.effect and Changes(
        tuple(
            tuple(replace(change, columns=change.columns[:, :length]) for change in call)
            for call in output.effect.calls
        )
    )
    return replace(output, maps=maps, rows=rows, effect=changes)


class DecodeSession:
    """The forwards of one generation, and `effect`: what the mitigation did so far, None without a mitigation."""

    def __init__(self, forwards: Forwards, mitigation: Any, compare: bool) -> None:
        acts = changes_by_step(mitigation) or not Mitigation.of(mitigation).empty
        self.effect = NO_EFFECT if acts else None
        self.mitigated, self.plain = forwards, None
        if compare and acts:  # without a mitigation there is nothing to compare
            cache = forwards.cache and forwards.cache.branch(range(forwards.cache.rows), forwards.cache.capacity)
            self.plain = Forwards(forwards.model, cache, forwards.attention_mask)

    def prefill(self, tokens: Tensor, mitigation: Any, **pictures: Tensor | None) -> Output:
        """The output for the prompt; its effect is added to `effect`."""
        output = self.mitigated.prefill(tokens, mitigation, self.effect, **pictures)
        plain = None if self.plain is None else self.plain.prefill(tokens, NO_MITIGATION, None, **pictures)
        return self._add(output, plain)

    def decode(self, tokens: Tensor, mitigation: Any) -> Output:
        """The output for one more token (B, 1) of each sample; its effect is added to `effect`."""
        output = self.mitigated.decode(tokens, mitigation, self.effect)
        plain = None if self.plain is None else self.plain.decode(tokens, NO_MITIGATION, None)
        return self._add(output, plain)

    def _add(self, output: Output, plain: Output | None) -> Output:
        if self.effect is not None:
            kl = None if plain is None else distance(output, plain)
            if self.mitigated.cache is None:  # then each step computes, and changes, all tokens again
                self.effect = replace(self.effect, calls=())
            self.effect = self.effect.then(effect_of(output, kl) or Effect(((),), kl))
        return output


def distance(output: Output, plain: Output) -> Tensor:
    """KL(mitigated, plain) of the next token's distributions, in nats, (B, 1)."""
    mitigated, unchanged = (each.logits[:, -1].float().log_softmax(dim=-1) for each in (output, plain))
    return F.kl_div(unchanged, mitigated, reduction="none", log_target=True).sum(dim=-1, keepdim=True).clamp(min=0)


def changes_by_step(mitigation: Any) -> bool:
    """Whether `mitigation` is a function from the latest step to the next mitigation; a class such as EAH is not."""
    return callable(mitigation) and not isinstance(mitigation, type)
