"""What goes into an answer and what comes out of it: `Inputs` for the network, and the `Answer`."""

from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor

from minivlm.inference.effect import Effect
from minivlm.inference.generate import Generation
from minivlm.inputs.prompt import Span


@dataclass(frozen=True)
class Inputs:
    """Exactly what the network takes, `model(**inputs)`; and beside it, what each token is."""

    tokens: Tensor  # (B, T), one placeholder for each patch
    pixels: Tensor | None  # (N, 3, S, S), in the order of their slots
    attention_mask: Tensor  # (B, T), False at padding
    spans: tuple[tuple[Span, ...], ...]  # of each row
    features: Tensor | None = None  # (N, P, D), of pictures that were looked at before; then there are no pixels

    def keys(self) -> tuple[str, ...]:
        """The arguments of the network's call, so that `**inputs` passes them."""
        return ("tokens", "pixels", "attention_mask", "features")

    def __getitem__(self, name: str) -> Any:
        return getattr(self, name)


class Answer(str):
    """An answer is its text, and knows how it came about."""

    tokens: tuple[int, ...]  # the new ones, with the stop token if there was one
    spans: tuple[Span, ...]  # of the prompt, and the answer's own behind them
    finish: str  # "stop", "length" or "interrupted"
    settings: Generation
    template: str
    recipe: str  # how the picture became pixels
    model: str
    mitigation: dict  # the settings of EAH and CLVA where they were asked for, in JSON types
    effect: Effect | None  # what they did; None for a plain answer

    def __new__(cls, text: str, **facts: Any) -> "Answer":
        answer = super().__new__(cls, text)
        answer.__dict__.update(facts)
        return answer

    @property
    def text(self) -> str:
        return str.__str__(self)

    def as_dict(self) -> dict:
        """Everything, in JSON types."""
        spans = [[span.name, span.start, span.stop] for span in self.spans]
        plain = {"tokens": list(self.tokens), "spans": spans, "settings": asdict(self.settings)}
        plain["effect"] = None if self.effect is None else self.effect.as_dict()
        return {"text": self.text, **self.__dict__, **plain}
