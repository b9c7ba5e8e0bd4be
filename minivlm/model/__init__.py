"""The network: tensors in, tensors out. Imports torch and einops, nothing else."""

from minivlm.model.aim import Aim
from minivlm.model.cache import KVCache
from minivlm.model.clva import CLVA
from minivlm.model.config import LlavaConfig, TextConfig, VisionConfig
from minivlm.model.eah import EAH
from minivlm.model.effect import NO_EFFECT, Effect
from minivlm.model.layout import Layout
from minivlm.model.llava import Llava, Output
from minivlm.model.mitigation import NO_MITIGATION, Mitigation

__all__ = [
    "CLVA",
    "EAH",
    "NO_EFFECT",
    "NO_MITIGATION",
    "Aim",
    "Effect",
    "KVCache",
    "Layout",
    "Llava",
    "LlavaConfig",
    "Mitigation",
    "Output",
    "TextConfig",
    "VisionConfig",
]
