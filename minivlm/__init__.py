"""minivlm: a small vision-language model, written to be read.

    import minivlm

    vlm = minivlm.load()                                       # the shipped model; or a folder, or a hub name
    print(vlm.ask("photo.jpg", "What is in the image?"))

A name is imported when it is first used, so that `minivlm --help` does not wait for torch.

.. include:: README.md
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the same names for type checkers and editors, see HOME
    from minivlm.errors import (
        CheckpointError,
        ConfigError,
        CourseError,
        EvaluationError,
        GenerationError,
        ImageError,
        MinivlmError,
        PromptError,
    )
    from minivlm.inference.answer import Answer
    from minivlm.inference.conversation import Conversation
    from minivlm.inference.effect import Effect
    from minivlm.inference.generate import Generation
    from minivlm.inference.load import load
    from minivlm.inference.vlm import VLM
    from minivlm.inputs.prompt import IMAGE, Turn
    from minivlm.model import CLVA, EAH, NO_MITIGATION, Aim, Mitigation

__version__ = "0.1.0"

HOME = {
    "VLM": "inference.vlm",
    "load": "inference.load",
    "Answer": "inference.answer",
    "Conversation": "inference.conversation",
    "Generation": "inference.generate",
    "IMAGE": "inputs.prompt",
    "Turn": "inputs.prompt",
    "EAH": "model",
    "CLVA": "model",
    "Aim": "model",
    "Mitigation": "model",
    "NO_MITIGATION": "model",
    "Effect": "inference.effect",
    "MinivlmError": "errors",
    "CheckpointError": "errors",
    "ConfigError": "errors",
    "CourseError": "errors",
    "EvaluationError": "errors",
    "GenerationError": "errors",
    "ImageError": "errors",
    "PromptError": "errors",
}  # name -> the module that defines it
__all__ = [
    "CLVA",
    "EAH",
    "IMAGE",
    "NO_MITIGATION",
    "VLM",
    "Aim",
    "Answer",
    "CheckpointError",
    "ConfigError",
    "Conversation",
    "CourseError",
    "Effect",
    "EvaluationError",
    "Generation",
    "GenerationError",
    "ImageError",
    "MinivlmError",
    "Mitigation",
    "PromptError",
    "Turn",
    "load",
]  # spelt out, so that a type checker reads it


def __getattr__(name: str) -> Any:
    if name not in HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"{__name__}.{HOME[name]}"), name)  # found without this next time
    return value


def __dir__() -> list[str]:
    return [*globals(), *HOME]
