"""What one call of the decoder takes down through its layers, and what they hand up. Values, not state."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor

from minivlm.model.clva import Anchor
from minivlm.model.effect import NO_EFFECT, Change, Effect
from minivlm.model.layout import Layout
from minivlm.model.mitigation import NO_MITIGATION, Mitigation
from minivlm.model.watch import NO_WATCH, Watch


@dataclass(frozen=True)
class Call:
    """What every layer of a call is told."""

    layout: Layout | None = None  # where the patches are; needed by a mitigation
    mitigation: Mitigation = NO_MITIGATION
    watch: Watch = NO_WATCH
    before: Effect = NO_EFFECT  # what was done in earlier calls of the same generation

    def first_visible_row(self, layer: int, queries: int) -> int:
        """From which row on `layer` writes its weights out, because a step needs them or they were asked for."""
        needed = self.mitigation.first_row(layer, self.layout) if self.layout else queries
        return min(needed, self.watch.first_row(layer, queries))


@dataclass(frozen=True)
class Handed:
    """What a layer hands to the next one: made anew by each layer that adds to it."""

    maps: Mapping[int, Tensor] = field(default_factory=dict)  # CLVA's, (B, R, P) for each layer read so far
    anchor: Anchor | None = None  # found from them by the first deep layer
    changes: tuple[Change, ...] = ()  # what was done so far

    def with_map(self, layer: int, map_: Tensor) -> "Handed":
        return replace(self, maps={**self.maps, layer: map_})

    def with_change(self, change: Change, **found: Any) -> "Handed":
        return replace(self, changes=(*self.changes, change), **found)


@dataclass(frozen=True)
class Seen:
    """What one layer was asked to show."""

    map: Tensor | None = None  # (B, H, Q, K), the weights by which the values were mixed
    row: Tensor | None = None  # (B, H, K), its last row
    sink_scores: Tensor | None = None  # (B, H, K), of the weights before any step


PLAIN = Call()
NOTHING_YET = Handed()
NOTHING_SEEN = Seen()
