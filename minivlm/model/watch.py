"""What a call wants to see of the attention."""

from collections.abc import Collection
from dataclasses import dataclass

from torch import Tensor

from minivlm.errors import ConfigError
from minivlm.model.config import LlavaConfig


@dataclass(frozen=True)
class Watch:
    """Layers count from 0. What is not asked for is not kept: full maps of a large model do not fit a memory."""

    maps: Collection[int] = ()  # layers whose weights are returned …
    rows: int | None = None  # … of the last so many rows; None: of all
    sinks: Collection[int] = ()  # layers whose vision-sink scores are returned

    def checked(self, config: LlavaConfig) -> "Watch":
        """As it is, once its layers are known to exist."""
        depth = config.text_config.num_hidden_layers
        for name, layers in (("maps", self.maps), ("sinks", self.sinks)):
            if not set(layers) <= set(range(depth)):
                raise ConfigError(
                    f"{name} names layers {sorted(layers)}, but the decoder has the layers 0 to {depth - 1}."
                )
        return self

    def first_row(self, layer: int, queries: int) -> int:
        """From which row on a layer must write its weights out; `queries` if nothing is asked for."""
        if layer in self.sinks:
            return 0
        return max(0, queries - (self.rows or queries)) if layer in self.maps else queries

    def last_rows(self, weights: Tensor) -> Tensor:
        """The rows asked for, (B, H, rows, K), of one layer's weights (B, H, R, K); a copy, so that R can be freed."""
        return weights if self.rows is None else weights[:, :, -self.rows :].clone()


NO_WATCH = Watch()
