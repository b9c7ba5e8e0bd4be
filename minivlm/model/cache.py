"""The KV cache: allocated once, written in place."""

from collections.abc import Sequence
from copy import copy

import torch
import torch.nn.functional as F
from torch import Tensor

from minivlm.errors import PromptError
from minivlm.model.config import TextConfig


class KVCache:
    """Keys and values of all layers, with room for `capacity` tokens of each sample.

    `length` is the number of tokens in the cache. A forward writes the new ones after them, layer by layer, and the
    decoder increases `length` once all layers have written. To set it back is to forget the tokens after it.
    """

    def __init__(
        self, config: TextConfig, batch: int, capacity: int, *, device: torch.device | str, dtype: torch.dtype
    ) -> None:
        shape = (config.num_hidden_layers, batch, config.num_key_value_heads, capacity, config.head_dim)
        self.keys = torch.zeros(shape, device=device, dtype=dtype)  # (layers, B, G, capacity, d)
        self.values = torch.zeros(shape, device=device, dtype=dtype)
        self.image = torch.zeros(batch, capacity, device=device, dtype=torch.bool)  # which of the tokens are patches
        self.length = 0

    @property
    def rows(self) -> int:
        """The number of samples."""
        return self.keys.shape[1]

    @property
    def capacity(self) -> int:
        """The number of tokens that fit in, of each sample."""
        return self.keys.shape[3]

    def branch(self, rows: Sequence[int], capacity: int) -> "KVCache":
        """A new cache whose sample i starts with the tokens of sample `rows[i]` of this one, and shares no memory.

        A sample may be copied to several, such as one picture for several questions.
        """
        index = torch.tensor([*rows], device=self.keys.device)
        end, room = self.length, capacity - self.length
        held = (part[:, index, :, :end] for part in (self.keys, self.values))
        branch = copy(self)
        branch.keys, branch.values = (F.pad(part, (0, 0, 0, room)) for part in held)
        branch.image = F.pad(self.image[index, :end], (0, room))
        return branch

    def require_room(self, rows: int, new: int) -> None:
        """Raise `PromptError` unless the cache is for `rows` samples and `new` more tokens of each fit in."""
        if rows != self.rows:
            raise PromptError(f"The KV cache was made for {self.rows} rows, found {rows} rows of tokens.")
        if self.length + new > self.capacity:
            raise PromptError(
                f"The KV cache has room for {self.capacity} tokens and holds {self.length}: {new} more do not fit. "
                "Allocate it for the prompt and the whole answer."
            )

    def mark(self, image: Tensor) -> Tensor:
        """Store which of the Q new tokens are patches, (B, Q); return it for all tokens so far, (B, K)."""
        end = self.length + image.shape[1]
        self.image[:, self.length : end] = image
        return self.image[:, :end]

    def write(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Write `k`, `v` (B, G, Q, d) of one layer after the tokens so far; return views of all, (B, G, K, d) each."""
        end = self.length + k.shape[2]
        self.keys[layer, :, :, self.length : end] = k
        self.values[layer, :, :, self.length : end] = v
        return self.keys[layer, :, :, :end], self.values[layer, :, :, :end]
