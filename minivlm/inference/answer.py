"""`Inputs`: what the network takes. `Answer`: the text, and how it was made."""

from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor

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


class Answer(str):
    """The text of an answer, as a `str`; its attributes say how it was made."""

    tokens: tuple[int, ...]  # the generated ones, with the stop token if there was one
    spans: tuple[Span, ...]  # of the prompt, then that of the answer
    finish: str  # "stop", "length" or "interrupted"
    settings: Generation
    template: str
    recipe: str  # the image preprocessing, in words
    model: str
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
