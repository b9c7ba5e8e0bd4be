"""What goes through the layers of one forward pass, as values: `Call` is the same for every layer, `Carry` goes from
each layer to the next, `Record` is what a layer returns to be looked at."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor

from minivlm.errors import ConfigError
from minivlm.model.clva import Anchor
from minivlm.model.config import LlavaConfig
from minivlm.model.effect import NO_CHANGES, Change, Changes
from minivlm.model.layout import Layout
from minivlm.model.mitigation import NO_MITIGATION, Mitigation


@dataclass(frozen=True)
class Watch:
    """What to return, by layer, counted from 0. Nothing else is kept: the maps of all layers do not fit into memory."""

    maps: Collection[int] = ()  # layers that return their attention weights (B, H, Q, K)
    rows: Collection[int] = ()  # layers that return those of the last query alone, (B, H, K)
    sinks: Collection[int] = ()  # layers that return vision-sink scores (B, H, K), of all columns
    hidden: bool = False  # the states after every layer, of the decoder and of the tower

    def checked(self, config: LlavaConfig) -> "Watch":
        """As it is, once its layers are known to exist."""
        for name, layers in (("maps", self.maps), ("rows", self.rows), ("sinks", self.sinks)):
            check_layers(name, layers, config)
        return self

    def first_row(self, layer: int, queries: int) -> int:
        """From which row on a layer must write its weights out; `queries` if nothing is asked for."""
        if layer in self.maps or layer in self.sinks:
            return 0
        return queries - (layer in self.rows)


NO_WATCH = Watch()


def check_layers(name: str, layers: Collection[int], config: LlavaConfig) -> None:
    """Raise `ConfigError` unless all `layers`, given as the argument `name`, exist."""
    depth = config.text_config.num_hidden_layers
    if not isinstance(layers, Collection) or not set(layers) <= set(range(depth)):
        raise ConfigError(f"{name} names the layers {layers!r}, but the decoder has the layers 0 to {depth - 1}.")


@dataclass(frozen=True)
class Earlier:
    """What earlier calls of the same generation hand on, beside the cache."""

    prompt: int | None = None  # columns of the prompt; None: all that are cached, or all there are
    changes: Changes | None = None  # what the mitigation did so far; None for a call that stands alone


FIRST_CALL = Earlier()


@dataclass(frozen=True)
class Call:
    """What every layer of a call is told."""

    layout: Layout | None = None  # where the patches are; needed by a mitigation
    mitigation: Mitigation = NO_MITIGATION
    watch: Watch = NO_WATCH
    before: Changes = NO_CHANGES  # what was done in earlier calls of the same generation

    def first_visible_row(self, layer: int, queries: int) -> int:
        """From which row on `layer` writes its weights out, because a step needs them or they were asked for."""
        needed = self.mitigation.first_row(layer, self.layout) if self.layout else queries
        return min(needed, self.watch.first_row(layer, queries))


@dataclass(frozen=True)
class Carry:
    """What a layer hands to the next one: made anew by each layer that adds to it."""

    maps: Mapping[int, Tensor] = field(default_factory=dict)  # CLVA's, (B, R, P) for each layer read so far
    anchor: Anchor | None = None  # found from them by the first deep layer
    changes: tuple[Change, ...] = ()  # what was done so far

    def with_map(self, layer: int, map_: Tensor) -> "Carry":
        return replace(self, maps={**self.maps, layer: map_})

    def with_change(self, change: Change, **found: Any) -> "Carry":
        return replace(self, changes=(*self.changes, change), **found)


@dataclass(frozen=True)
class Record:
    """What one layer was asked to show."""

    map: Tensor | None = None  # (B, H, Q, K), the weights by which the values were mixed
    row: Tensor | None = None  # (B, H, K), its last row
    sink_scores: Tensor | None = None  # (B, H, K), of the weights before any step


PLAIN_CALL = Call()  # nothing is done and nothing is shown
EMPTY_CARRY = Carry()
EMPTY_RECORD = Record()
