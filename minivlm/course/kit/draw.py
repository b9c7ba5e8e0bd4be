"""Random inputs of tests: the same seed gives the same inputs on every machine."""

from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn

Thing = TypeVar("Thing")
Module = TypeVar("Module", bound=nn.Module)


class Draw:
    """A source of random inputs with a generator of its own; everything is drawn on the CPU."""

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)

    def normal(self, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """Normally distributed numbers. They are drawn in fp64 and then rounded: the same ones for every dtype."""
        return torch.randn(shape, generator=self.generator, dtype=torch.float64).to(dtype)

    def uniform(self, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """Numbers from 0 to below 1, drawn in fp64 and then rounded."""
        return torch.rand(shape, generator=self.generator, dtype=torch.float64).to(dtype)

    def whole(self, low: int, high: int, *shape: int) -> Tensor:
        """Whole numbers from `low` to below `high`."""
        return torch.randint(low, high, shape, generator=self.generator)

    def number(self, low: int, high: int) -> int:
        """One whole number from `low` to below `high`."""
        return int(self.whole(low, high, 1))

    def pick(self, things: Sequence[Thing]) -> Thing:
        """One of them."""
        return things[self.number(0, len(things))]

    def fill(self, module: Module) -> Module:
        """Give every parameter of `module` random values, and set it to evaluation without gradients; returns it.

        Matrices get a deviation of 1 over the root of their inputs, biases 0.2, weights of norms lie around 1.
        """
        for name, parameter in sorted(module.named_parameters()):
            scale = parameter[0].numel() ** -0.5 if parameter.ndim > 1 else 0.2
            parameter.data = self.normal(*parameter.shape, dtype=parameter.dtype) * scale + ("norm" in name)
        return module.eval().requires_grad_(False)

    def causal(self, batch: int, queries: int, keys: int, padded: bool = True) -> Tensor:
        """A mask (batch, 1, queries, keys) as the decoder makes it: True where a query may see a key.

        The queries are the last of the keys. All samples of the batch but the last begin with padding, which no query
        may see; only a padded query sees itself.
        """
        pads = self.whole(1, max(2, keys - queries // 2), batch) * padded
        pads[-1] = 0
        mask = torch.zeros(batch, 1, queries, keys, dtype=torch.bool)
        for sample, pad in enumerate(pads.tolist()):
            for query, own_key in enumerate(range(keys - queries, keys)):
                mask[sample, 0, query, pad : own_key + 1] = True
                mask[sample, 0, query, own_key] = True
        return mask

    def weights(self, heads: int, mask: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """Attention weights (batch, heads, queries, keys) under a mask as `causal` makes it: each row sums to 1."""
        batch, _, queries, keys = mask.shape
        amounts = mask * self.uniform(batch, heads, queries, keys, dtype=torch.float64) ** 4  # few large, many small
        return (amounts / amounts.sum(dim=-1, keepdim=True)).to(dtype)
