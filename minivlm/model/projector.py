"""The projector: from the tower's space into the space of words."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minivlm.model.config import LlavaConfig


class Projector(nn.Module):
    """Two linears with an exact GELU between them, applied to each patch."""

    def __init__(self, config: LlavaConfig) -> None:
        super().__init__()
        seen = config.vision_config.hidden_size * len(config.feature_layers)
        width, bias = config.text_config.hidden_size, config.multimodal_projector_bias
        self.linear_1 = nn.Linear(seen, width, bias=bias)
        self.linear_2 = nn.Linear(width, width, bias=bias)

    def forward(self, features: Tensor) -> Tensor:
        """(N, P, width × layers named) to (N, P, D)."""
        return self.linear_2(F.gelu(self.linear_1(features)))


def select_features(states: tuple[Tensor, ...], config: LlavaConfig) -> Tensor:
    """What the projector reads of the tower's hidden states, (N, P, width × layers named).

    `states` must reach as deep as the deepest feature layer; indices count over the whole tower, the embedding first.
    P counts the patches, and the class token where the strategy is "full".
    """
    depth = config.vision_config.num_hidden_layers
    chosen = [states[layer % (depth + 1)] for layer in config.feature_layers]
    if config.vision_feature_select_strategy == "default":
        chosen = [state[:, 1:] for state in chosen]  # without the class token
    return torch.cat(chosen, dim=-1)
