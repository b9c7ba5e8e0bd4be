"""The exceptions of minivlm, all subclasses of `MinivlmError`, its one warning, and the check of settings.

Every message is a sentence that says what was read, where, what was expected, what was found and what to do next.
"""

import sys
from collections.abc import Iterable

LARGEST_SEED = 2**64 - 1
A_SEED = "a whole number from 0 to 2^64 - 1"


class MinivlmError(Exception):
    """The base class: catch it to catch every error that minivlm foresees."""


class CheckpointError(MinivlmError):
    """A checkpoint folder, index or tensor file is missing, damaged, unsafe or does not fit."""


class ConfigError(MinivlmError):
    """A configuration asks for something that does not exist or does not fit together."""


class ImageError(MinivlmError):
    """A picture could not be read or cannot be used."""


class PromptError(MinivlmError):
    """A prompt does not fit its images, its tokenizer or the model's context."""


class GenerationError(MinivlmError):
    """A generation setting is out of range, or the model produced numbers that cannot be sampled."""


class EvaluationError(MinivlmError):
    """An evaluation run, its data or its results do not fit together."""


class CourseError(MinivlmError):
    """An assignment, a student's folder or what was handed in is not what it should be."""


class NoEffectWarning(UserWarning):
    """A mitigation was asked for and changed nothing: the answer is the plain model's."""


def check_settings(owner: str, settings: object, rules: Iterable[tuple[str, bool, str]]) -> None:
    """Raise `ConfigError` at the first of `rules` that does not hold: the field's name, whether it holds, what it says.

    `("seed", False, "be a whole number")` of `EAH` becomes "EAH.seed must be a whole number, found 1.5."
    """
    for name, holds, rule in rules:
        if not holds:
            raise ConfigError(f"{owner}.{name} must {rule}, found {brief(getattr(settings, name))}.")


def brief(value: object, limit: int = 80) -> str:
    """The `repr` of a value as a message shows it: at most `limit` characters of it."""
    try:
        text = repr(value)
    except ValueError:  # Python writes no whole number of more than 4,300 digits
        return "a number too long to be shown"
    return text if len(text) <= limit else f"{text[:limit]}..."


def is_positive(value: object, most: float = sys.float_info.max) -> bool:
    """Whether `value` is a number above 0 and at most `most`, by default the largest float; True is no number."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value <= most


def is_seed(value: object) -> bool:
    """Whether `value` is a whole number that torch takes as a seed: see A_SEED."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= LARGEST_SEED


def is_share(value: object) -> bool:
    """Whether `value` is a number from 0 to 1; True and False are no numbers."""
    return is_positive(value, 1) or (value == 0 and not isinstance(value, bool))
