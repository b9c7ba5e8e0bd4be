"""What a call wants to see of the attention."""

from collections.abc import Collection
from dataclasses import dataclass, fields

from minivlm.errors import ConfigError
from minivlm.model.config import LlavaConfig


@dataclass(frozen=True)
class Watch:
    """Layers, counted from 0. What is not asked for is not kept: all maps of a large model do not fit a memory."""

    maps: Collection[int] = ()  # whose weights are returned, (B, H, Q, K)
    rows: Collection[int] = ()  # whose weights of the last query are, (B, H, K)
    sinks: Collection[int] = ()  # whose vision-sink scores are, (B, H, K)

    def checked(self, config: LlavaConfig) -> "Watch":
        """As it is, once its layers are known to exist."""
        for field in fields(self):
            check_layers(field.name, getattr(self, field.name), config)
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
