"""EAH: every head gets the map of the head that has most vision sinks (arXiv 2411.09968; EVAS, EMNLP 2025 main.174).

In one shallow layer, after the softmax and before the values, on the rows of the prompt. For head h and patch y:

    score[h, y] = sum of A[h, x, y] over the rows x > y that may see y / number of such rows
    y is a vision sink of h       if score[h, y] > threshold
    n = the head with most sinks  (the lowest of several)
    A[h, x, :] = A[n, x, :]       for all heads h and all rows x of the prompt

The paper finds that shallow layers have heads with many vision sinks, and that models with more such heads hallucinate
less; so it gives the map of the densest head to all heads. A sample without a sink is left unchanged. This is the
definition of the paper; the public code differs from it: it skips head 0, one column and all but one sample of a batch.

Rows of generated tokens stay unchanged, as in the authors' code with a cache: after one new row there is no later row,
so no column has a score. `decode="keep"` gives them the head that the prefill chose, to study what that would do.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from minivlm.errors import A_SEED, ConfigError, check_settings, is_seed, is_share
from minivlm.model.config import LlavaConfig
from minivlm.model.layout import Layout
from minivlm.model.sinks import sinks_per_head, vision_sink_scores, vision_sinks

HEADS = ("densest", "second", "random")
DECODE = ("pass", "keep")
PUBLISHED_THRESHOLD = 0.002  # 1.25 times the uniform share, 1 / 626
PUBLISHED_LENGTH = 626  # tokens of such a prompt: the patches of a picture and 50 others
OTHER_TOKENS = 50


@dataclass(frozen=True)
class EAH:
    """Settings as a user gives them. The model fills in what is None by `resolve`. Several threads may share them."""

    layer: int = 1  # the second, as published; layers count from 0
    threshold: float | None = None  # None: the published one, scaled to this model's length of a prompt
    head: str = "densest"  # controls: "second" (densest but one), "random" (by `seed`, the same for all samples)
    decode: str = "pass"  # generated rows: "pass" (unchanged) or "keep" (the head of the prefill)
    seed: int = 0

    def __post_init__(self) -> None:
        share = self.threshold is None or (is_share(self.threshold) and self.threshold != 1)
        rules = (
            ("layer", type(self.layer) is int and self.layer >= 0, "be a whole number from 0 (layers count from 0)"),
            ("threshold", share, "be a mean weight from 0 to below 1, or None"),
            ("seed", is_seed(self.seed), f"be {A_SEED}"),
            ("head", self.head in HEADS, f"be one of {', '.join(HEADS)}"),
            ("decode", self.decode in DECODE, f"be one of {', '.join(DECODE)}"),
        )
        check_settings("EAH", self, rules)

    @classmethod
    def for_model(cls, config: LlavaConfig, **changes: Any) -> "ResolvedEAH":
        """The default settings for a model of this configuration, with `changes`."""
        return EAH(**changes).resolve(config)

    def resolve(self, config: LlavaConfig) -> "ResolvedEAH":
        """These settings for one model. A threshold of None becomes the published multiple of the uniform share, 1.25
        times 1 / (patches + 50): 0.002 for 576 patches (LLaVA-1.5), 0.00161 for 729 (LLaVA-Interleave). Raises
        `ConfigError` if the model lacks the layer.
        """
        config.text_config.check_layers("EAH.layer", [self.layer])
        length = config.num_image_tokens + OTHER_TOKENS
        scaled = PUBLISHED_THRESHOLD * PUBLISHED_LENGTH / length
        threshold = scaled if self.threshold is None else self.threshold
        return ResolvedEAH(**{**vars(self), "threshold": threshold})

    def acts(self, layer: int, layout: Layout) -> bool:
        """Whether this call changes `layer`: generated rows alone are changed only if they keep the head."""
        return layer == self.layer and (layout.prompt_rows > 0 or self.decode == "keep")


@dataclass(frozen=True, kw_only=True)
class ResolvedEAH(EAH):
    """Settings for one model: the threshold is a number, and the layer exists."""

    threshold: float


def broadcast_densest_head(
    weights: Tensor, mask: Tensor, layout: Layout, eah: ResolvedEAH, kept: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """`weights` (B, H, Q, K) with one head's map in all heads, and that head (B,), -1 for samples left unchanged.

    `mask` (B, 1, Q, K). `kept` (B,) is the head that the prefill chose, needed for a call without rows of the prompt;
    without it, such a call raises `ConfigError`.
    """
    rows = layout.attention_mask[:, layout.past :]  # B Q
    if eah.decode == "pass":
        rows = rows & (torch.arange(layout.queries, device=rows.device) < layout.prompt_rows)
    head = densest_head(weights, mask, layout, eah) if layout.prompt_rows else kept
    if head is None:
        raise ConfigError(
            'EAH(decode="keep") uses the head of the prefill, but this call does not know it. '
            "Pass on the effect of the prefill: model(..., earlier=Earlier(changes=output.effect))."
        )
    return broadcast_head(weights, head, rows), head


def densest_head(weights: Tensor, mask: Tensor, layout: Layout, eah: ResolvedEAH) -> Tensor:
    """The head (B,) that each sample will use, -1 for samples without a vision sink.

    `weights` (B, H, Q, K), of which only the rows of the prompt count; `mask` (B, 1, Q, K).
    """
    rows = layout.prompt_rows
    columns = layout.past + rows  # those that rows of the prompt can see
    scores = vision_sink_scores(weights[:, :, :rows, :columns], mask[:, :, :rows, :columns])  # B H K
    counts = sinks_per_head(vision_sinks(scores, layout.image[:, :columns], eah.threshold))  # B H
    return torch.where(counts.any(dim=1), chosen_head(counts, eah), -1)


def chosen_head(counts: Tensor, eah: EAH) -> Tensor:
    """One head (B,) by the number of sinks `counts` (B, H)."""
    batch, heads = counts.shape
    if eah.head == "random":
        generator = torch.Generator().manual_seed(eah.seed)
        return torch.randint(heads, (1,), generator=generator).to(counts.device).expand(batch)
    order = counts.argsort(dim=1, descending=True, stable=True)  # stable: the lowest of several comes first
    return order[:, min(1, heads - 1) if eah.head == "second" else 0]


def broadcast_head(weights: Tensor, head: Tensor, rows: Tensor) -> Tensor:
    """`weights` (B, H, Q, K) with the map of `head` (B,) in all heads, on `rows` (B, Q); -1: leave the sample."""
    samples = torch.arange(len(head), device=head.device)
    map_ = weights[samples, head.clamp(min=0), None]  # B 1 Q K
    touched = rows & (head >= 0)[:, None]  # B Q
    return torch.where(touched[:, None, :, None], map_, weights)
