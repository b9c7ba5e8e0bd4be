"""The network: tensors in, tensors out. Imports torch and einops, nothing else.

Read the plain network first: `config` (sizes), `layers` (norms, rotary positions, MLP), `cache` (keys and values),
`attention` (two lanes, numbered steps), `decoder` (blocks, mask), `vision` (pixels to patches), `projector` (patches to
vectors among those of words), `llava` (all of it: pixels and tokens in, logits out).

Then the steps of the two papers inside the attention: `layout` (where patches and text stand), `call` (what goes down
through the layers and comes up), `mitigation` (which step acts), `sinks` and `eah` (step 3), `redistribute` and `clva`
(step 4a), `aim` (step 4b), `effect` (what was changed); `without_map` has sinks and EAH without a written-out map.
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
