"""The training loop of all stages: draw a batch, compute its loss, step the optimizer, record the curve."""

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Generator, Tensor, nn
from tqdm import tqdm

from minivlm.training.recipe import Stage

Loss = Callable[[Tensor, Generator], Tensor]  # (numbers (batch,) of the drawn samples, generator) -> scalar loss


@dataclass
class Training:
    """A training through all stages: its device, its seed, and the loss curve so far."""

    device: torch.device
    seed: int
    every: int = 25  # steps between two points of the curve
    rounds: int = 0  # stages so far; the generator of a stage is seeded with seed + rounds
    curve: list[dict[str, Any]] = field(default_factory=list)  # points with stage, step, loss (mean) and seconds

    def run(self, name: str, stage: Stage, parameters: Iterable[nn.Parameter], samples: int, loss_of: Loss) -> None:
        """Train `parameters` in place for one stage, on batches drawn from 0 .. samples - 1 with replacement.

        The loss is computed under bf16 autocast; parameters and optimizer are fp32.
        """
        parameters = [parameter for parameter in parameters if parameter.requires_grad]
        optimizer = torch.optim.AdamW(parameters, lr=0.0, betas=(0.9, 0.95), weight_decay=stage.decay)
        generator = Generator().manual_seed(self.seed + self.rounds)
        self.rounds += 1
        start, recent = time.perf_counter(), []
        for number in (bar := tqdm(range(stage.steps), desc=name, unit="step")):
            drawn = torch.randint(samples, (stage.batch,), generator=generator)
            with torch.autocast(self.device.type, dtype=torch.bfloat16):
                loss = loss_of(drawn, generator)
            step(optimizer, parameters, loss, rate(stage, number))
            recent.append(loss.detach())
            if (number + 1) % self.every == 0 or number + 1 == stage.steps:
                mean, seconds = torch.stack(recent).mean().item(), time.perf_counter() - start
                self.curve.append(
                    {"stage": name, "step": number + 1, "loss": round(mean, 4), "seconds": round(seconds)}
                )
                bar.set_postfix(loss=f"{mean:.3f}")
                recent.clear()


def step(optimizer: torch.optim.Optimizer, parameters: list[nn.Parameter], loss: Tensor, rate: float) -> None:
    """One optimizer step for a scalar `loss` at the learning rate `rate`, with gradients clipped to norm 1."""
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(parameters, 1.0)
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.step()


def rate(stage: Stage, step: int) -> float:
    """The learning rate of step 0, 1, …: linear warm-up, then a cosine down to 0."""
    rising = max(1, round(stage.warmup * stage.steps))
    if step < rising:
        return stage.rate * (step + 1) / rising
    done = (step - rising) / max(1, stage.steps - rising)
    return stage.rate * 0.5 * (1 + math.cos(math.pi * done))
