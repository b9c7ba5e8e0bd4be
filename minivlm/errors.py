"""The exceptions of minivlm, all subclasses of `MinivlmError`, and its one warning.

Every message is a sentence that says what was read, where, what was expected, what was found and what to do next.
"""


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
