"""What goes through the layers of one forward pass, as values: `Call` is the same for every layer, `Carry` goes from
each layer to the next, `Record` holds what a layer was asked to return.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

from torch import Tensor

from minivlm.errors import ConfigError
from minivlm.model.clva import Anchor
from minivlm.model.config import LlavaConfig
from minivlm.model.effect import NO_CHANGES, Change, Changes
from minivlm.model.layout import NO_TOKENS, Layout
from minivlm.model.mitigation import UNMITIGATED, ResolvedMitigation


@dataclass(frozen=True)
class Watch:
    """What a call returns besides logits, of which layers (from 0). The maps of all layers do not fit into memory."""

    maps: Collection[int] = ()  # layers that return their attention weights (B, H, Q, K)
    rows: Collection[int] = ()  # layers that return only the last row of their weights, the last query's (B, H, K)
    sinks: Collection[int] = ()  # layers that return all columns' vision-sink scores (B, H, K); no decode step does
    hidden: bool = False  # whether the states after every layer are returned, of the decoder and of the tower

    def checked(self, config: LlavaConfig) -> "Watch":
        """The same `Watch`. Raises `ConfigError` if the model lacks one of its layers."""
        for name, layers in (("maps", self.maps), ("rows", self.rows), ("sinks", self.sinks)):
            config.text_config.check_layers(name, layers)
        return self

    def first_row(self, layer: int, queries: int) -> int:
        """The first row whose weights `layer` must write out; `queries` if nothing is asked of this layer."""
        if layer in self.maps or layer in self.sinks:
            return 0
        return queries - 1 if layer in self.rows else queries


NO_WATCH = Watch()


@dataclass(frozen=True)
class Earlier:
    """What a call must know of the earlier calls of the same generation, besides their cache."""

    prompt: int | None = None  # columns of the prompt; None: all cached ones, or all of this call if none are cached
    changes: Changes | None = None  # what the mitigation did so far; None: there was no earlier call


FIRST_CALL = Earlier()


@dataclass(frozen=True)
class Call:
    """What every layer of a call is given."""

    layout: Layout = NO_TOKENS  # where patches and text are; may be left out where nothing is changed
    mitigation: ResolvedMitigation = UNMITIGATED
    watch: Watch = NO_WATCH
    before: Changes = NO_CHANGES  # what the mitigation did in earlier calls of the same generation

    def __post_init__(self) -> None:
        if self.layout is NO_TOKENS and not self.mitigation.empty:
            raise ConfigError("A mitigation must know where the patches are: pass Call(layout, mitigation).")

    def first_visible_row(self, layer: int, queries: int) -> int:
        """The first row whose weights `layer` writes out, for a step or for `watch`; `queries` if there is none."""
        needed = queries if self.mitigation.empty else self.mitigation.first_row(layer, self.layout)
        return min(needed, self.watch.first_row(layer, queries))


@dataclass(frozen=True)
class Carry:
    """What a layer passes to the next one. A layer that adds something returns a new `Carry`."""

    maps: Mapping[int, Tensor] = field(default_factory=dict)  # layer -> CLVA's pooled map (B, R, P), of layers so far
    anchor: Anchor | None = None  # computed from these maps by the first deep layer
    changes: tuple[Change, ...] = ()  # what the mitigation did in the layers so far

    def with_map(self, layer: int, map_: Tensor) -> "Carry":
        """This, and the pooled map of one more layer."""
        return replace(self, maps={**self.maps, layer: map_})

    def with_change(self, change: Change, anchor: Anchor | None = None) -> "Carry":
        """This, and one more change; `anchor` is kept if it is given."""
        return replace(self, changes=(*self.changes, change), anchor=anchor or self.anchor)


@dataclass(frozen=True)
class Record:
    """What one layer returns for `Watch`; None for what it was not asked for."""

    map: Tensor | None = None  # (B, H, Q, K), the weights by which the values were mixed
    row: Tensor | None = None  # (B, H, K), the last row of them
    sink_scores: Tensor | None = None  # (B, H, K), of the weights before any step changed them


PLAIN_CALL = Call()  # nothing is changed and nothing is recorded
EMPTY_CARRY = Carry()
EMPTY_RECORD = Record()
