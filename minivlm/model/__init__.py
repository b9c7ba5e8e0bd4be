"""The network: tensors in, tensors out. Imports torch and einops, nothing else."""

from minivlm.model.cache import KVCache
from minivlm.model.config import LlavaConfig, TextConfig, VisionConfig
from minivlm.model.llava import Llava, Output
from minivlm.model.mitigation import NO_MITIGATION, Mitigation

__all__ = ["NO_MITIGATION", "KVCache", "Llava", "LlavaConfig", "Mitigation", "Output", "TextConfig", "VisionConfig"]
