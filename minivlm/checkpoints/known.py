"""The published models that are known to load, by short name. Others of a supported kind load by their hub name.

Parameters are counted on the model that the published config.json describes.
"""

from dataclasses import dataclass

ROOM = 0.15  # of the weights' bytes in 16 bits: activations, cache and logits of a prompt with one picture, roughly
BYTES = {"float32": 4.0, "bfloat16": 2.0, "int8": 1.0, "int4": 0.5 + 2 * 2 / 128}  # of a number; int4 with its scales


@dataclass(frozen=True)
class KnownModel:
    """One published model."""

    name: str
    hub: str  # its name on the hub
    parameters: int
    matrices: int  # those of its parameters that can be quantised, see quantised.py
    stored: int  # bytes of each in the files
    licence: str

    @property
    def bytes(self) -> int:
        """Bytes of its weights on disk."""
        return self.parameters * self.stored

    def memory(self, kind: str) -> int:
        """Bytes that it takes to run in a dtype or with quantised weights, of BYTES: a rough estimate."""
        quantised = kind.startswith("int")
        rest = 2.0 if quantised else BYTES[kind]
        weights = self.matrices * BYTES[kind] + (self.parameters - self.matrices) * rest
        return round(weights + self.parameters * rest * ROOM)


ITS_PAGE = "see its page on the hub"
KNOWN_MODELS = (
    KnownModel(
        "llava-interleave-qwen-0.5b",
        "llava-hf/llava-interleave-qwen-0.5b-hf",
        864_031_264,
        308_281_344,
        2,
        "Tongyi Qianwen Research",
    ),
    KnownModel("tiny-llava-v1", "bczhou/tiny-llava-v1-hf", 1_410_113_536, 968_884_224, 4, ITS_PAGE),
    KnownModel("llava-1.5-7b", "llava-hf/llava-1.5-7b-hf", 7_063_427_072, 6_476_005_376, 2, "Llama 2 Community"),
    KnownModel(
        "llava-llama-3-8b", "xtuner/llava-llama-3-8b-v1_1-transformers", 8_355_272_704, 6_979_321_856, 2, ITS_PAGE
    ),
    KnownModel("llava-1.5-13b", "llava-hf/llava-1.5-13b-hf", 13_351_494_656, 12_687_769_600, 2, "Llama 2 Community"),
)


def hub_name(name: str) -> str:
    """The hub's name for a short name; any other name as it is."""
    return next((model.hub for model in KNOWN_MODELS if model.name == name.lower()), name)
