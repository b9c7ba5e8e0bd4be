"""minivlm: a small vision-language model, written to be read.

    import minivlm

    vlm = minivlm.load()                                       # the shipped model; or a folder, or a hub name
    print(vlm.ask("photo.jpg", "What is in the image?"))

A name is imported when it is first used, so that `minivlm --help` does not wait for torch.
"""

from importlib import import_module
from typing import Any

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
__all__ = list(HOME)


def __getattr__(name: str) -> Any:
    if name not in HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{HOME[name]}"), name)


def __dir__() -> list[str]:
    return [*globals(), *HOME]
