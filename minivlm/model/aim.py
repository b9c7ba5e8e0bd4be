"""Aim, an oracle: attention redistributed toward patches that the caller knows to be right. An upper bound, no method.

In the layers named, on the text rows after the picture, per head with the attention p on the patches (sum m):

    p <- kappa m ((1 - strength) p / m + strength target / sum of target)

If even this does not improve an answer, no method that redistributes attention can.
"""

from dataclasses import dataclass

from torch import Tensor

from minivlm.errors import ConfigError, check_settings, is_share
from minivlm.model.config import LlavaConfig
from minivlm.model.layout import Layout
from minivlm.model.redistribute import KAPPA, at_least_fp32, checked_layers, is_kappa, normalised, redistributed


@dataclass(frozen=True, eq=False)
class Aim:
    """`target` (B, P): a weight of at least 0 for each patch of each sample; where all are 0, a sample stays unchanged.

    P: the patches of the sample with most of them, in order; a sample with fewer patches uses the first of its weights.
    Several threads may share it, as long as none changes `target`.
    """

    target: Tensor
    layers: tuple[int, ...]
    strength: float = 0.5
    kappa: float = 1.0  # factor of the attention on the picture as a whole

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", checked_layers("Aim.layers", self.layers))
        if self.target.ndim != 2 or not bool((self.target >= 0).all()):
            raise ConfigError(
                f"Aim.target must hold weights of at least 0 in the shape (samples, patches), found the shape "
                f"{tuple(self.target.shape)} and a smallest value of {float(self.target.min()):g}."
            )
        rules = (
            ("strength", is_share(self.strength), "lie in 0..1"),
            ("kappa", is_kappa(self.kappa), KAPPA),
        )
        check_settings("Aim", self, rules)

    def resolve(self, config: LlavaConfig) -> "Aim":
        """The same settings: nothing depends on the model. Raises `ConfigError` if the model has no such layer."""
        config.text_config.check_layers("Aim.layers", self.layers)
        return self


def draw_to_target(weights: Tensor, layout: Layout, aim: Aim) -> Tensor:
    """`weights` (B, H, R, K) of text rows with their attention on the patches redistributed toward the target.

    Raises `ConfigError` if the target is not (samples, most patches of a sample).
    """
    if aim.target.shape != (weights.shape[0], layout.most_patches):
        raise ConfigError(
            f"Aim.target has the shape {tuple(aim.target.shape)}, but the call has {weights.shape[0]} samples with up "
            f"to {layout.most_patches} patches."
        )
    p = at_least_fp32(weights[..., layout.span]) * layout.patches  # B H R P
    mass = p.sum(dim=-1, keepdim=True)
    target = aim.target.to(p).gather(1, layout.numbers)[:, None] * layout.seen(weights.shape[2])  # B R P
    wanted = (1 - aim.strength) * p + aim.strength * mass * normalised(target)[:, None]
    return redistributed(weights, wanted, mass, layout, target.any(dim=-1), aim.kappa)
