"""How a conversation becomes text for a LLaVA model: templates, as plain data.

    hf        USER: <image>\nQ1 ASSISTANT: A1 USER: Q2 ASSISTANT:
    llava_v1  A chat between ... questions. USER: <image>\nQ1 ASSISTANT: A1</s>USER: Q2 ASSISTANT:
    chatml    <|im_start|>user\n<image>\nQ1<|im_end|>\n<|im_start|>assistant\n\nA1<|im_end|>\n<|im_start|>user\n\nQ2...
    llama3    <|start_header_id|>user<|end_header_id|>\n\n<image>\nQ1<|eot_id|><|start_header_id|>assistant...
    phi3      <|user|>\n<image>\nQ1<|end|>\n<|assistant|>\nA1<|end|>\n<|user|>\nQ2<|end|>\n<|assistant|>\n

`hf` is the chat template in the hub's llava-1.5-*-hf files. `llava_v1` is what LLaVA-1.5 was trained on and what the
papers evaluate with: a system sentence first, and the end-of-sequence token after each answer. `chatml` is that of the
llava-interleave-qwen files, doubled line breaks included. `llama3` and `phi3` are what these language models were
trained on. A checkpoint's own Jinja template is never run: it is code from somebody else (see `chat_template.py`).

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
class Special:
    """A special token by its name, such as `<|im_start|>`: text can never become one."""

    name: str


@dataclass(frozen=True)
class Tokens:
    """Token ids that are used as they are: an earlier answer of the model."""

    label: str
    ids: tuple[int, ...]


Segment = Text | Special | Tokens | Mark


@dataclass(frozen=True)
class Turn:
    """A question and, for earlier turns, its answer. Several threads may share it.

    question  a string, or pieces such as `["Left: ", IMAGE, " right: ", IMAGE, " Which is older?"]` to place pictures
    answer    None if the model is to give it; a string; or the token ids that it gave
    images    number of pictures; they come before a question that is a string, each on a line. "<image>" in a string
              is text here; in a question that is no Turn, but a string, it is a picture's place
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


Pieces = tuple[str | Special | Mark, ...]  # what a template itself writes


@dataclass(frozen=True)
class Template:
    """How conversations are written: what is before a question, between question and answer, and after an answer."""

    name: str
    user: Pieces  # before a question
    assistant: Pieces  # between a question and its answer
    before_answer: str  # what comes before an answer given earlier; the model writes it itself, if at all
    after_answer: Pieces
    system: str = ""  # a sentence in front of everything, followed by a space
    line_for_each_image: bool = True  # a line break after each picture, or one break before the text

    @property
    def eos_after_answer(self) -> bool:
        """Whether a special token closes an answer, so that the ids of an earlier answer can be kept as they are."""
        return not isinstance(self.after_answer[0], str)

    @property
    def specials(self) -> tuple[str, ...]:
        """Names of the special tokens that a tokenizer must have, besides bos and eos."""
        written = (*self.user, *self.assistant, *self.after_answer)
        return tuple(dict.fromkeys(piece.name for piece in written if isinstance(piece, Special)))

    @property
    def end_of_answer(self) -> str | None:
        """The name of the special token that closes an answer; None if that is eos, or text."""
        return self.after_answer[0].name if isinstance(self.after_answer[0], Special) else None

    def segments(self, turns: Sequence[Turn]) -> list[Segment]:
        """The conversation, ready to be encoded; it ends ready for the answer unless the last turn has one."""
        segments: list[Segment] = [Mark.BOS]
        if self.system:
            segments += [Text("system", self.system), Text("template", " ")]
        for turn in turns:
            segments += [*written(self.user), *self._question(turn), *written(self.assistant)]
            segments += self._answer(turn.answer)
        return segments

    def _question(self, turn: Turn) -> list[Segment]:
        if not isinstance(turn.question, str):
            return [Text("question", piece) if isinstance(piece, str) else piece for piece in turn.pieces]
        line: list[Segment] = [Text("template", "\n")]
        text = Text("question", turn.question)
        if self.line_for_each_image:
            return [*([IMAGE, *line] * turn.num_images), text]
        return [*([IMAGE] * turn.num_images), *line, text]

    def _answer(self, answer: str | Sequence[int] | None) -> list[Segment]:
        if answer is None:
            return []
        if not isinstance(answer, str):  # ids must be followed by a special token, not by more text
            close = written(self.after_answer) if self.eos_after_answer else [Mark.EOS]
            return [Tokens("answer", tuple(answer)), *close]
        opening: list[Segment] = [Text("template", self.before_answer)] if self.before_answer else []
        return [*opening, Text("answer", answer), *written(self.after_answer)]


def written(pieces: Pieces) -> list[Segment]:
    """What a template writes, as segments."""
    return [Text("template", piece) if isinstance(piece, str) else piece for piece in pieces]


VICUNA_SYSTEM = (
    "A chat between a curious human and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the human's questions."
)
START, END = Special("<|im_start|>"), Special("<|im_end|>")
HEADER, HEADER_END, TURN_END = (Special(f"<|{name}|>") for name in ("start_header_id", "end_header_id", "eot_id"))

TEMPLATES = {
    template.name: template
    for template in (
        Template("hf", ("USER: ",), (" ASSISTANT:",), " ", (" ",)),
        Template("llava_v1", ("USER: ",), (" ASSISTANT:",), " ", (Mark.EOS,), system=VICUNA_SYSTEM),
        Template(
            "chatml",
            user=(START, "user\n"),
            assistant=(END, "\n", START, "assistant\n"),
            before_answer="\n",
            after_answer=(END, "\n"),
            line_for_each_image=False,
        ),
        Template(
            "llama3",
            user=(HEADER, "user", HEADER_END, "\n\n"),
            assistant=(TURN_END, HEADER, "assistant", HEADER_END, "\n\n"),
            before_answer="",
            after_answer=(TURN_END,),
        ),
        Template(
            "phi3",
            user=(Special("<|user|>"), "\n"),
            assistant=(Special("<|end|>"), "\n", Special("<|assistant|>"), "\n"),
            before_answer="",
            after_answer=(Special("<|end|>"), "\n"),
        ),
    )
}
