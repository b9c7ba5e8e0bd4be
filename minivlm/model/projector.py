"""The projector: from the tower's states to vectors in the space of word embeddings."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minivlm.model.config import LlavaConfig


class Projector(nn.Module):
    """Two linears with an exact GELU between them, applied to each patch."""

    def __init__(self, config: LlavaConfig) -> None:
        super().__init__()
        inputs = config.vision_config.hidden_size * len(config.feature_layers)
        width, bias = config.text_config.hidden_size, config.multimodal_projector_bias
        self.linear_1 = nn.Linear(inputs, width, bias=bias)
        self.linear_2 = nn.Linear(width, width, bias=bias)

    def forward(self, features: Tensor) -> Tensor:
        """Features (N, P, width × layers named) of N pictures to (N, P, D): one vector for each patch."""
        return self.linear_2(F.gelu(self.linear_1(features)))


def select_features(states: tuple[Tensor, ...], config: LlavaConfig) -> Tensor:
    """The projector's input from the tower's hidden states, (N, P, width × layers named).

    `states` are the embedding and the outputs of the layers, up to the deepest feature layer at least; negative numbers
    of feature layers count from the end of the whole tower. P: the patches; under "full", the class token, too.
    """
    depth = config.vision_config.num_hidden_layers
    chosen = [states[layer % (depth + 1)] for layer in config.feature_layers]
    if config.vision_feature_select_strategy == "default":
        chosen = [state[:, 1:] for state in chosen]  # without the class token
    return chosen[0] if len(chosen) == 1 else torch.cat(chosen, dim=-1)  # a copy of one would be laid out otherwise
