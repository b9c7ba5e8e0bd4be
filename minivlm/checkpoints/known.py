"""The published models that are known to load, by short name. Others of a supported kind load by their hub name.

Parameters are counted on the model that the published config.json describes.
"""

from dataclasses import dataclass

ROOM = 1.15  # of the weights' bytes: activations, cache and logits of a prompt with one picture, roughly


@dataclass(frozen=True)
class KnownModel:
    """One published model."""

    name: str
    hub: str  # its name on the hub
    parameters: int
    stored: int  # bytes of each in the files
    licence: str

    @property
    def bytes(self) -> int:
        """Bytes of its weights on disk."""
        return self.parameters * self.stored

    def memory(self, dtype_bytes: int) -> int:
        """Bytes that it takes to run, at so many bytes a number: a rough estimate."""
        return round(self.parameters * dtype_bytes * ROOM)


ITS_PAGE = "see its page on the hub"
KNOWN_MODELS = (
    KnownModel(
        "llava-interleave-qwen-0.5b",
        "llava-hf/llava-interleave-qwen-0.5b-hf",
        864_031_264,
        2,
        "Tongyi Qianwen Research",
    ),
    KnownModel("tiny-llava-v1", "bczhou/tiny-llava-v1-hf", 1_410_113_536, 4, ITS_PAGE),
    KnownModel("llava-1.5-7b", "llava-hf/llava-1.5-7b-hf", 7_063_427_072, 2, "Llama 2 Community"),
    KnownModel("llava-llama-3-8b", "xtuner/llava-llama-3-8b-v1_1-transformers", 8_355_272_704, 2, ITS_PAGE),
    KnownModel("llava-1.5-13b", "llava-hf/llava-1.5-13b-hf", 13_351_494_656, 2, "Llama 2 Community"),
)


def hub_name(name: str) -> str:
    """The hub's name for a short name; any other name as it is."""
    return next((model.hub for model in KNOWN_MODELS if model.name == name.lower()), name)
