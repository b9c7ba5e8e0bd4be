"""Weight-only quantisation: the decoder's matrices as whole numbers of 8 or 4 bits, multiplied in the model's dtype.

    int8   w ≈ scale · q                   q from -127 to 127; a scale for each output
    int4   w ≈ scale · (q - 8) + middle    q from 0 to 15; a scale and a middle for each group of inputs of an output

q is the nearest whole number; nothing is learned from data. To write a further token every weight is read once, which
takes less time if there is less to read. To read a prompt takes arithmetic, and that stays as it was.

On a CPU the products are PyTorch's own, which torchao's layers for CPUs call, too. They are private functions of torch,
so the suite holds them against the product written out. Elsewhere the weights are multiplied out at every call.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minivlm.checkpoints.plan import blank_model
from minivlm.errors import CheckpointError, ConfigError
from minivlm.model.config import LlavaConfig
from minivlm.model.llava import Llava

WEIGHTS = ("int8", "int4")
DTYPES = (torch.bfloat16, torch.float16, torch.float32)  # of the activations
GROUPS = (128, 64, 32)  # inputs that share a scale in int4: the first that divides them
PACKED = 16  # outputs are packed by so many in int4, or a multiple
ROWS = 256  # quantised at a time; torch packs int4 in blocks of 16, 32 or 64 rows, which divide it
FEW = 16  # rows up to which the product with int8 as they are is faster than with weights multiplied out


class QuantisedLinear(nn.Module):
    """A linear layer whose weights are whole numbers; `weight` and `scale` are what `quantise` returns."""

    def __init__(self, linear: nn.Linear, kind: str) -> None:
        super().__init__()
        self.kind, self.in_features, self.out_features = kind, linear.in_features, linear.out_features
        blank = quantise(linear.weight, kind)
        self.weight, self.scale = (nn.Parameter(blank[name], requires_grad=False) for name in ("weight", "scale"))
        self.bias = linear.bias

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> "QuantisedLinear":
        """What `Module.to` calls. Raises `ConfigError` for a dtype that is not multiplied by whole numbers, and where
        numbers packed for one kind of device go to another.
        """
        here, moved = self.weight.device.type, fn(self.scale[:0])
        there = moved.device.type
        if moved.dtype not in DTYPES:
            raise ConfigError(f"{self.kind} weights compute in bfloat16, float16 or float32, found {moved.dtype}.")
        if self.kind == "int4" and here != there:
            raise ConfigError(f"int4 weights are packed for {here}, and would be wrong on {there}: load them there.")
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self

    def forward(self, x: Tensor) -> Tensor:
        """(..., in_features) to (..., out_features), in the dtype of `x`."""
        out = self.product(x.flatten(0, -2).contiguous()).unflatten(0, x.shape[:-1])
        return out if self.bias is None else out + self.bias

    def product(self, x: Tensor) -> Tensor:
        """(rows, in_features) to (rows, out_features), without the bias."""
        if self.kind == "int8":
            if x.device.type == "cpu" and len(x) <= FEW:
                return torch._weight_int8pack_mm(x, self.weight, self.scale)
            if x.dtype == torch.float16:  # sums of whole numbers are too large for it
                return F.linear(x, self.weight.to(x.dtype).mul_(self.scale[:, None]))
            return F.linear(x, self.weight.to(x.dtype)) * self.scale
        if x.device.type == "cpu":
            return torch._weight_int4pack_mm_for_cpu(x, self.weight, self.in_features // len(self.scale), self.scale)
        return F.linear(x, multiplied_out(self.weight, self.scale))


def quantise(weight: Tensor, kind: str) -> dict[str, Tensor]:
    """A matrix (N, K) as whole numbers `weight`, and their `scale` in the matrix's dtype.

    int8: (N, K) and (N,). int4: two numbers in a byte, (N, K/2), and scales with middles, (K/group, N, 2); on a CPU in
    the order in which torch's product reads the bytes. Raises `CheckpointError` for sizes that int4 cannot have.
    """
    if kind == "int4" and weight.shape[0] % PACKED:
        raise CheckpointError(
            f"weights='int4' needs layers whose outputs are a multiple of {PACKED}, found {weight.shape[0]}."
        )
    rows = to_int8 if kind == "int8" else to_int4
    block = len(weight) if weight.is_meta else ROWS  # what has numbers, in blocks that fit into a cache
    weights, scales = zip(*map(rows, weight.split(block)), strict=True)
    return {"weight": torch.cat(weights), "scale": torch.cat(scales, dim=0 if kind == "int8" else 1)}


def to_int8(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Rows of a matrix, (N, K), as numbers (N, K) and scales (N,)."""
    scale = nonzero(weight.abs().amax(dim=1) / 127)
    return (weight / scale[:, None].float()).round_().clamp_(-127, 127).to(torch.int8), scale


def to_int4(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Rows of a matrix, (N, K), as packed numbers (N, K/2) and scales with middles (K/group, N, 2)."""
    groups = weight.float().unflatten(1, (-1, group_of(weight.shape[1])))  # N K/group group
    least, most = groups.aminmax(dim=2)
    scale = nonzero(((most - least) / 15).to(weight.dtype))
    middle = (least + 8 * scale.float()).to(weight.dtype)
    numbers = (groups - middle.float()[..., None]).div_(scale.float()[..., None]).add_(8).round_().clamp_(0, 15)
    return packed(numbers.flatten(1)), torch.stack((scale, middle), dim=-1).transpose(0, 1)


def nonzero(scale: Tensor) -> Tensor:
    """`scale` with 1 for 0, for weights that are all the same."""
    return torch.where(scale == 0, 1, scale)


def group_of(inputs: int) -> int:
    """How many inputs share a scale in int4. Raises `CheckpointError` if no group divides them."""
    for group in GROUPS:
        if inputs % group == 0:
            return group
    raise CheckpointError(f"weights='int4' needs layers whose inputs are a multiple of {GROUPS[-1]}, found {inputs}.")


def packed(numbers: Tensor) -> Tensor:
    """Numbers from 0 to 15, (N, K), two in a byte, (N, K/2), in the order that the product of this device reads."""
    if numbers.device.type == "cpu":
        return torch._convert_weight_to_int4pack_for_cpu(numbers.to(torch.int32), 1)
    return two_in_a_byte(numbers)


def two_in_a_byte(numbers: Tensor) -> Tensor:
    """Numbers from 0 to 15, (N, K), as bytes (N, K/2): even columns in the lower bits."""
    even, odd = numbers.to(torch.uint8).unflatten(1, (-1, 2)).unbind(dim=2)
    return even + 16 * odd


def multiplied_out(weight: Tensor, scale: Tensor) -> Tensor:
    """The matrix (N, K) whose int4 numbers lie `two_in_a_byte`, in the dtype of its scales."""
    numbers = torch.stack((weight % 16, weight // 16), dim=2).flatten(1)  # N K
    groups = numbers.unflatten(1, (len(scale), -1)).to(scale.dtype) - 8
    factors, middles = scale.transpose(0, 1).unbind(dim=2)  # N K/group
    return (groups * factors[..., None] + middles[..., None]).flatten(1)


# --- a model --------------------------------------------------------------------------------------------------------


def quantisable(model: Llava) -> Iterator[tuple[str, nn.Linear]]:
    """The layers that are quantised, by canonical name: the matrices of the decoder's blocks.

    Tower, projector, embedding and head are a twelfth of LLaVA-1.5-7B, and their errors would reach every word.
    """
    for name, module in model.named_modules():
        if name.startswith("text.layers.") and isinstance(module, nn.Linear):
            yield name, module


def quantised_blank(config: LlavaConfig, kind: str) -> Llava:
    """The model without memory (on the meta device), with room for quantised weights."""
    model = blank_model(config)
    for name, linear in [*quantisable(model)]:
        model.set_submodule(name, QuantisedLinear(linear, kind))
    return model


def quantised_state(name: str, weight: Tensor, kind: str) -> Mapping[str, Tensor]:
    """The entries in a state dict for the weight of a layer that is quantised; `name` ends in ".weight"."""
    layer = name.removesuffix("weight")
    return {f"{layer}{part}": tensor for part, tensor in quantise(weight, kind).items()}


def kind_of(model: nn.Module) -> str | None:
    """How a model is quantised, one of WEIGHTS; None if it is not."""
    return next((part.kind for part in model.modules() if isinstance(part, QuantisedLinear)), None)


def require_kind(kind: str, dtype: torch.dtype) -> None:
    """Raise `CheckpointError` for what is no kind of quantisation, and for a dtype that cannot be multiplied by it."""
    if kind not in WEIGHTS:
        raise CheckpointError(f"weights must be {', '.join(WEIGHTS)} or None, those of the files, found {kind!r}.")
    if dtype not in DTYPES:
        raise CheckpointError(f"weights={kind!r} computes in bfloat16, float16 or float32, found {dtype}.")
