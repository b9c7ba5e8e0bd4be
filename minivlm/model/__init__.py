"""The network: tensors in, tensors out. Imports torch and einops, and the package's errors.

Read the plain network first: `config` (sizes), `layers` (norms, rotary positions, MLP), `vision` (pixels to patches),
`projector` (patches to vectors among those of words), `attention` without its steps 3 to 5 (letters, two lanes),
`cache` (keys and values), `decoder` (blocks, mask), `llava` (all of it: pixels and tokens in, logits out).

Then the steps of the two papers inside the attention: `layout` (which columns are patches, which rows text), `effect`
(what was changed), `sinks` and `eah` (step 3), `clva` with `redistribute` (step 4a), `aim` (step 4b), `mitigation` (the
settings of all methods), `call` (what goes through the layers), `attention` again, now steps 3 to 5.
"""

from minivlm.model.aim import Aim
from minivlm.model.cache import KVCache
from minivlm.model.call import Earlier, Watch
from minivlm.model.clva import CLVA
from minivlm.model.config import LlavaConfig, TextConfig, VisionConfig
from minivlm.model.eah import EAH
from minivlm.model.effect import NO_CHANGES, Changes
from minivlm.model.layout import Layout
from minivlm.model.llava import Llava, Output
from minivlm.model.mitigation import NO_MITIGATION, Mitigation

__all__ = [
    "CLVA",
    "EAH",
    "NO_CHANGES",
    "NO_MITIGATION",
    "Aim",
    "Changes",
    "Earlier",
    "KVCache",
    "Layout",
    "Llava",
    "LlavaConfig",
    "Mitigation",
    "Output",
    "TextConfig",
    "VisionConfig",
    "Watch",
]
