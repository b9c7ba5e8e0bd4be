"""Lessons: a scene's caption and questions, packed behind one shared look at the picture.

    <s> USER: [picture] | \\n question 1 ASSISTANT: answer 1 </s> | \\n question 2 ASSISTANT: answer 2 </s> | …

A token sees the picture and its own segment, never another one, and counts its position as if its segment stood there
alone: so each segment is exactly the prompt that `ask` will make, at a fraction of the price.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from minivlm.model import Llava

IGNORED = -100  # a label that teaches nothing
ROUND = 32  # batches are padded to a multiple of so many tokens: kernels are prepared anew for every length they meet
PADDING = -1  # the segment of padding


@dataclass(frozen=True)
class Lessons:
    """A batch of packed lessons; T tokens a scene."""

    tokens: Tensor  # (B, T)
    labels: Tensor  # (B, T): the token to say next, or IGNORED
    positions: Tensor  # (B, T)
    segments: Tensor  # (B, T): 0 for the shared prefix, 1, 2, … for the questions, PADDING behind them

    def mask(self) -> Tensor:
        """(B, 1, T, T): earlier tokens of the prefix or of the own segment, and oneself."""
        query, key = self.segments[:, :, None], self.segments[:, None, :]
        earlier = torch.ones(self.tokens.shape[1], self.tokens.shape[1], dtype=torch.bool, device=self.tokens.device)
        itself = torch.eye(self.tokens.shape[1], dtype=torch.bool, device=self.tokens.device)
        return (((key == 0) | (key == query)) & earlier.tril() | itself)[:, None]

    def to(self, device: torch.device | str) -> "Lessons":
        return Lessons(*(part.to(device) for part in (self.tokens, self.labels, self.positions, self.segments)))


class Teacher:
    """Turns (question, answer) pairs into lessons, with the `hf` template's words."""

    def __init__(self, tokenizer: Tokenizer, num_image_tokens: int) -> None:
        self.tokenizer = tokenizer
        self.eos = tokenizer.token_to_id("</s>")
        image = tokenizer.token_to_id("<image>")
        start = tokenizer.encode("USER: ").ids
        self.prefix = [*start, *[image] * num_image_tokens]

    def lessons(self, scenes: Sequence[Sequence[tuple[str, str]]]) -> Lessons:
        """One row for each scene's list of (question, answer)."""
        pairs = [pair for scene in scenes for pair in scene]
        asked = self._encode([f"\n{question} ASSISTANT:" for question, _ in pairs])
        whole = self._encode([f"\n{question} ASSISTANT: {answer}" for question, answer in pairs])
        segments = iter([(prompt, [*text[len(prompt) :], self.eos]) for prompt, text in zip(asked, whole, strict=True)])
        rows = [self._row([next(segments) for _ in scene]) for scene in scenes]
        fillers = (self.eos, IGNORED, 0, PADDING)
        return Lessons(*(pad(parts, fill) for parts, fill in zip(zip(*rows, strict=True), fillers, strict=True)))

    def _encode(self, texts: list[str]) -> list[list[int]]:
        return [encoding.ids for encoding in self.tokenizer.encode_batch(texts, add_special_tokens=False)]

    def _row(self, segments: list[tuple[list[int], list[int]]]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Tokens, labels, positions and segment numbers of one scene."""
        start = len(self.prefix)
        tokens, labels = list(self.prefix), [IGNORED] * start
        positions, numbers = list(range(start)), [0] * start
        for number, (prompt, answer) in enumerate(segments, start=1):
            length = len(prompt) + len(answer)
            tokens += prompt + answer
            labels += [IGNORED] * (len(prompt) - 1) + answer + [IGNORED]  # each token is taught one place earlier
            positions += range(start, start + length)
            numbers += [number] * length
        return tuple(torch.tensor(part) for part in (tokens, labels, positions, numbers))


def pad(rows: Sequence[Tensor], fill: int) -> Tensor:
    """(B, T), T a multiple of ROUND: rows of different lengths, filled up."""
    padded = pad_sequence(list(rows), batch_first=True, padding_value=fill)
    return F.pad(padded, (0, -padded.shape[1] % ROUND), value=fill)


def lesson_loss(model: Llava, lessons: Lessons, features: Tensor, first_words: float = 0.0) -> Tensor:
    """Mean cross-entropy of the answers' tokens, with the pictures given as `features` (B, P, D).

    `first_words` times the mean over the answers' first tokens is added: there a yes or no is decided, and the rest of
    such an answer is easy to say, whichever it is.
    """
    x = model.embed(lessons.tokens, features)
    states = model.text(x, lessons.positions, lessons.mask()).states
    logits = model.lm_head(states).flatten(0, 1).float()
    losses = F.cross_entropy(logits, lessons.labels.flatten(), ignore_index=IGNORED, reduction="none")
    taught = lessons.labels != IGNORED
    first = taught & ~F.pad(taught, (1, -1))  # (B, T): taught, and what stands before is not
    return losses[taught.flatten()].mean() + first_words * losses[first.flatten()].mean()
