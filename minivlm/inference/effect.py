"""The effect of a mitigation as sums by layer and as one line of text; `minivlm.model.effect` holds it as tensors."""

from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from minivlm.model.effect import Change, Changes
from minivlm.model.llava import Output


@dataclass(frozen=True)
class LayerEffect:
    """What a method did in one layer, summed over all samples and calls of an effect."""

    method: str
    layer: int
    heads: tuple[int, ...]  # heads that changed in some row
    rows: int  # the number of rows that changed in some head
    columns: int  # the number of columns that changed in some row, in the call with most of them
    moved_mean: float  # share of a row's attention that went elsewhere, mean over the changed rows of each head
    moved_max: float
    chosen: tuple[int, ...]  # EAH: the head that was chosen for each sample, -1 for none
    gate_mean: float | None  # CLVA: mean of the drift gate over its text rows
    gate_max: float | None


@dataclass(frozen=True)
class Effect(Changes):
    """The changes of each call (the prefill, then one call per token), and their sum by layer.

    Several threads may share it.
    """

    kl: Tensor | None = None  # (B, calls) or (calls,): nats from the plain model's distribution of the next token

    @property
    def layers(self) -> tuple[LayerEffect, ...]:
        """The sums by method and layer, in order of the layers."""
        keys = sorted({(change.layer, change.method) for call in self.calls for change in call})
        return tuple(summed(*key, self._changes(*key)) for key in keys)

    def of(self, sample: int, calls: int | None = None) -> "Effect":
        """The effect on one sample of a batch, in its first `calls` calls."""
        kept = tuple(tuple(change_of(change, sample) for change in call) for call in self.calls[:calls])
        return Effect(kept, None if self.kl is None else self.kl[sample, :calls])

    def then(self, later: "Effect") -> "Effect":
        """This effect and that of later calls, as one."""
        kls = [kl for kl in (self.kl, later.kl) if kl is not None]
        return Effect(self.calls + later.calls, torch.cat(kls, dim=-1) if kls else None)

    def as_dict(self) -> dict[str, Any]:
        """The sums and the KL, in JSON types."""
        kl = None if self.kl is None else self.kl.tolist()
        return {"nothing": self.nothing, "layers": [asdict(layer) for layer in self.layers], "kl": kl}

    def _changes(self, layer: int, method: str) -> list[Change]:
        return [change for call in self.calls for change in call if (change.layer, change.method) == (layer, method)]

    def __str__(self) -> str:
        """What each method did, in one line."""
        if self.nothing:
            return "nothing was changed"
        methods = dict.fromkeys(layer.method for layer in self.layers)
        parts = [sentence_of([layer for layer in self.layers if layer.method == method]) for method in methods]
        if self.kl is not None and self.kl.numel():
            parts.append(f"{float(self.kl.mean()):.3g} nats a token from plain")
        return "; ".join(parts)


NO_EFFECT = Effect()


def effect_of(output: Output, kl: Tensor | None = None) -> Effect | None:
    """What the mitigation did in one forward of the network; None if there was none."""
    return None if output.effect is None else Effect(output.effect.calls, kl)


def change_of(change: Change, sample: int) -> Change:
    """The change of one sample, as a batch of 1."""
    part = slice(sample, sample + 1)
    head, gate = (None if fact is None else fact[part] for fact in (change.head, change.gate))
    return replace(change, moved=change.moved[part], columns=change.columns[part], head=head, gate=gate)


def summed(layer: int, method: str, changes: list[Change]) -> LayerEffect:
    """The sum of all changes that one method made in one layer."""
    touched = [(change.moved > 0).any(dim=2).any(dim=0) for change in changes]  # H each
    moved = torch.cat([change.moved.flatten() for change in changes])
    moved = moved[moved > 0]
    gates = [change.gate.flatten() for change in changes if change.gate is not None]
    gate = torch.cat(gates).cpu().double() if gates else torch.empty(0)  # on the CPU: not every GPU has float64
    gate = gate[~gate.isnan()]
    heads = [change.head for change in changes if change.head is not None]
    return LayerEffect(
        method=method,
        layer=layer,
        heads=tuple(torch.stack(touched).any(dim=0).nonzero().flatten().tolist()),
        rows=sum(int((change.moved > 0).any(dim=1).sum()) for change in changes),
        columns=max(int(change.columns.any(dim=0).sum()) for change in changes),
        moved_mean=float(moved.mean()) if len(moved) else 0.0,
        moved_max=float(moved.max()) if len(moved) else 0.0,
        chosen=tuple(heads[0].tolist()) if heads else (),
        gate_mean=float(gate.mean()) if len(gate) else None,
        gate_max=float(gate.max()) if len(gate) else None,
    )


def sentence_of(layers: list[LayerEffect]) -> str:
    """What one method did in its layers, in words."""
    numbers = ", ".join(str(layer.layer) for layer in layers)
    where = f"layer {numbers}" if len(layers) == 1 else f"layers {numbers}"
    moving = [layer for layer in layers if layer.rows]
    if not moving:
        return f"{layers[0].method} changed nothing in {where}"
    mean = sum(layer.moved_mean for layer in moving) / len(moving)
    most = max(layer.moved_max for layer in moving)
    facts = [f"{max(layer.rows for layer in moving)} rows", f"{max(len(layer.heads) for layer in moving)} heads"]
    facts += [
        f"{max(layer.columns for layer in moving)} columns",
        f"{mean:.1%} of attention moved (at most {most:.1%})",
    ]
    if layers[0].chosen:
        facts.insert(0, f"map of head {', '.join('none' if head < 0 else str(head) for head in layers[0].chosen)}")
    gates = [layer.gate_mean for layer in layers if layer.gate_mean is not None]
    if gates:
        facts.append(f"gate {sum(gates) / len(gates):.2f}")
    return f"{layers[0].method} in {where}: {', '.join(facts)}"
