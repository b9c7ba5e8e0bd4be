"""`Inputs`: what the network takes. `EncodedImage`: a picture to ask many times. `Answer`: the text, and its making."""

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from minivlm.errors import PromptError
from minivlm.inference.effect import Effect
from minivlm.inference.generate import Generation
from minivlm.inputs.prompt import Span


@dataclass(frozen=True)
class Inputs:
    """The arguments of the network, `model(**inputs)`; and the spans, which say what each token is."""

    tokens: Tensor  # (B, T), one placeholder for each patch
    pixels: Tensor | None  # (N, 3, S, S), in the order of their slots
    attention_mask: Tensor  # (B, T), False at padding
    spans: tuple[tuple[Span, ...], ...]  # of each sample
    features: Tensor | None = None  # (N, P, D), of pictures that are encoded already; `pixels` is None then

    def keys(self) -> tuple[str, ...]:
        """The arguments of the network's call, so that `**inputs` passes them."""
        return ("tokens", "pixels", "attention_mask", "features")

    def __getitem__(self, name: str) -> Any:
        return getattr(self, name)


@dataclass(frozen=True, eq=False)
class EncodedImage:
    """A picture as the decoder sees it, made by `VLM.encode`: it may stand wherever a picture may, for the same VLM."""

    features: Tensor  # (P, D), from the vision tower and the projector
    model: str  # the name of the VLM that made them

    def checked(self, model: str, shape: tuple[int, int], dtype: torch.dtype, device: torch.device) -> "EncodedImage":
        """The same. Raises `PromptError` if a model of another name made it, or one with other features."""
        own = self.features
        expected, found = (model, shape, dtype, device), (self.model, tuple(own.shape), own.dtype, own.device)
        if found != expected:
            raise PromptError(
                "This picture was encoded by another model, or before this one was moved: expected features of "
                f"{expected}, found {found}. Encode it anew, with this model's `encode`."
            )
        return self


class Answer(str):
    """The text of an answer, as a `str`; its attributes say how it was made. Several threads may share it."""

    tokens: tuple[int, ...]  # the generated ones, with the stop token if there was one
    spans: tuple[Span, ...]  # of the prompt, then that of the answer
    finish: str  # "stop", "length" or "interrupted"
    settings: Generation
    template: str
    recipe: str  # the image preprocessing, in words
    model: str
    dtype: str  # of the computation
    weights: str | None  # how the decoder was quantised, "int8" or "int4"; None if it was not
    mitigation: dict[str, Any]  # method -> its settings, in JSON types; empty for a plain answer
    effect: Effect | None  # what the mitigation did; None for a plain answer

    def __new__(cls, text: str, **facts: Any) -> "Answer":
        answer = super().__new__(cls, text)
        answer.__dict__.update(facts)
        return answer

    @property
    def text(self) -> str:
        """The answer as a plain `str`."""
        return str.__str__(self)

    def as_dict(self) -> dict[str, Any]:
        """Text and attributes in JSON types; the effect as its sums."""
        spans = [[span.name, span.start, span.stop] for span in self.spans]
        plain = {"tokens": list(self.tokens), "spans": spans, "settings": asdict(self.settings)}
        plain["effect"] = None if self.effect is None else self.effect.as_dict()
        return {"text": self.text, **self.__dict__, **plain}
