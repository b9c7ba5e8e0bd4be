"""How a conversation becomes text for a LLaVA model: two templates, as plain code.

    hf        USER: <image>\nQ1 ASSISTANT: A1 USER: Q2 ASSISTANT:
    llava_v1  A chat between ... questions. USER: <image>\nQ1 ASSISTANT: A1</s>USER: Q2 ASSISTANT:

`hf` is the chat template in the hub's llava-1.5-*-hf files. `llava_v1` is what LLaVA-1.5 was trained on and what the
papers evaluate with: a system sentence first, and the end-of-sequence token after each answer. A checkpoint's own
Jinja template is never run: it is code from somebody else.

A template turns a conversation into labelled segments. Neighbouring texts are later encoded as one string, because a
token may cross their border; which token has which label follows from the characters that it stands for.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from minivlm.errors import PromptError


class Mark(Enum):
    """What a prompt holds besides text."""

    BOS = "bos"
    EOS = "eos"
    IMAGE = "image"


IMAGE = Mark.IMAGE


@dataclass(frozen=True)
class Text:
    """Plain text; its label is system, question, answer or template."""

    label: str
    text: str


@dataclass(frozen=True)
class Tokens:
    """Token ids that are used as they are: an earlier answer of the model."""

    label: str
    ids: tuple[int, ...]


Segment = Text | Tokens | Mark


@dataclass(frozen=True)
class Turn:
    """A question and, for earlier turns, its answer.

    question  a string, or pieces such as `["Left: ", IMAGE, " right: ", IMAGE, " Which is older?"]` to place pictures
    answer    None if the model is to give it; a string; or the token ids that it gave
    images    number of pictures; they come before a question that is a string, each on a line. "<image>" in a string
              is text
    """

    question: str | Sequence[str | Mark]
    answer: str | Sequence[int] | None = None
    images: int | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.question, Sequence):
            raise PromptError(f"A question is a string or pieces of one, found {self.question!r:.60}.")
        wrong = [piece for piece in self.pieces if not isinstance(piece, str) and piece is not IMAGE]
        if wrong:
            raise PromptError(f"A question is made of strings and IMAGE, found {wrong[0]!r:.60}.")
        if self.images is not None and (not isinstance(self.images, int) or self.images < 0):
            raise PromptError(f"images must be a number of pictures, 0 or more, found {self.images!r}.")
        if not isinstance(self.question, str) and self.images not in (None, self.num_images):
            raise PromptError(
                f"The question places {self.num_images} pictures by IMAGE, but the turn says it has {self.images}."
            )

    @property
    def pieces(self) -> tuple[str | Mark, ...]:
        """The question as pieces."""
        return (self.question,) if isinstance(self.question, str) else tuple(self.question)

    @property
    def num_images(self) -> int:
        """Pictures in this turn."""
        return (self.images or 0) if isinstance(self.question, str) else self.pieces.count(IMAGE)


@dataclass(frozen=True)
class Template:
    """How conversations are written. Templates differ in the system sentence and in what follows an answer."""

    name: str
    system: str
    eos_after_answer: bool

    def segments(self, turns: Sequence[Turn]) -> list[Segment]:
        """The conversation, ready to be encoded; it ends with `ASSISTANT:` unless the last turn has its answer."""
        segments: list[Segment] = [Mark.BOS]
        if self.system:
            segments += [Text("system", self.system), Text("template", " ")]
        for turn in turns:
            segments += [Text("template", "USER: "), *question_segments(turn), Text("template", " ASSISTANT:")]
            segments += self._answer(turn.answer)
        return segments

    def _answer(self, answer: str | Sequence[int] | None) -> list[Segment]:
        if answer is None:
            return []
        if not isinstance(answer, str):
            return [
                Tokens("answer", tuple(answer)),
                Mark.EOS,
            ]  # ids must be followed by a special token, not by more text
        close = Mark.EOS if self.eos_after_answer else Text("template", " ")
        return [Text("template", " "), Text("answer", answer), close]


def question_segments(turn: Turn) -> list[Segment]:
    picture: list[Segment] = [IMAGE, Text("template", "\n")]
    first = picture * turn.num_images if isinstance(turn.question, str) else []
    return [*first, *(Text("question", piece) if isinstance(piece, str) else piece for piece in turn.pieces)]


VICUNA_SYSTEM = (
    "A chat between a curious human and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the human's questions."
)

TEMPLATES = {
    "hf": Template("hf", system="", eos_after_answer=False),
    "llava_v1": Template("llava_v1", system=VICUNA_SYSTEM, eos_after_answer=True),
}
