"""Lessons: training sequences of a scene's caption and questions, packed behind one shared picture.

    <s> USER: [picture] | \\n question 1 ASSISTANT: answer 1 </s> | \\n question 2 ASSISTANT: answer 2 </s> | …

A token attends to the prefix with the picture and to its own segment only, and its position is counted as if the other
segments were absent. So each segment is trained exactly as the prompt that `ask` will make of it, while the picture is
processed once. B scenes, T tokens, P patches, D width.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from minivlm.errors import ConfigError
from minivlm.model import Llava

IGNORED = -100  # the label of tokens that have no loss
ROUND = 32  # batches are padded to a multiple of so many tokens, since every new length costs time to set up kernels
PADDING = -1  # the segment number of padding
Pairs = list[tuple[str, str]]  # (question, answer)
Segment = tuple[list[int], list[int]]  # the tokens of a question and of its answer with </s>


@dataclass(frozen=True)
class Lessons:
    """A batch of packed sequences, one for each scene."""

    tokens: Tensor  # (B, T)
    labels: Tensor  # (B, T): the next token, or IGNORED where it is not part of an answer
    positions: Tensor  # (B, T)
    segments: Tensor  # (B, T): 0 for the shared prefix, 1, 2, … for the questions, PADDING behind them

    def mask(self) -> Tensor:
        """The attention mask (B, 1, T, T), bool: earlier tokens of prefix and same segment, and the token itself."""
        query, key = self.segments[:, :, None], self.segments[:, None, :]  # B T 1, B 1 T
        earlier = torch.ones(self.tokens.shape[1], self.tokens.shape[1], dtype=torch.bool, device=self.tokens.device)
        itself = torch.eye(self.tokens.shape[1], dtype=torch.bool, device=self.tokens.device)
        return (((key == 0) | (key == query)) & earlier.tril() | itself)[:, None]

    def to(self, device: torch.device | str) -> "Lessons":
        return Lessons(*(part.to(device) for part in (self.tokens, self.labels, self.positions, self.segments)))


class Teacher:
    """Makes lessons of (question, answer) pairs, in the format of the `hf` template."""

    def __init__(self, tokenizer: Tokenizer, num_image_tokens: int) -> None:
        self.tokenizer = tokenizer
        self.eos = id_of(tokenizer, "</s>")
        image = id_of(tokenizer, "<image>")
        start = tokenizer.encode("USER: ").ids
        self.prefix = [*start, *[image] * num_image_tokens]

    def lessons(self, scenes: Sequence[Sequence[tuple[str, str]]]) -> Lessons:
        """The batch for `scenes`: for each scene a list of (question, answer)."""
        pairs = [pair for scene in scenes for pair in scene]
        asked = self._encode([f"\n{question} ASSISTANT:" for question, _ in pairs])
        whole = self._encode([f"\n{question} ASSISTANT: {answer}" for question, answer in pairs])
        segments = iter([(prompt, [*text[len(prompt) :], self.eos]) for prompt, text in zip(asked, whole, strict=True)])
        samples = [self._sample([next(segments) for _ in scene]) for scene in scenes]
        tokens, labels, positions, numbers = zip(*samples, strict=True)
        return Lessons(pad(tokens, self.eos), pad(labels, IGNORED), pad(positions, 0), pad(numbers, PADDING))

    def _encode(self, texts: list[str]) -> list[list[int]]:
        return [encoding.ids for encoding in self.tokenizer.encode_batch(texts, add_special_tokens=False)]

    def _sample(self, segments: list[Segment]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Tokens, labels, positions and segment numbers of one scene, (T,) each."""
        start = len(self.prefix)
        tokens, labels = list(self.prefix), [IGNORED] * start
        positions, numbers = list(range(start)), [0] * start
        for number, (prompt, answer) in enumerate(segments, start=1):
            length = len(prompt) + len(answer)
            tokens += prompt + answer
            labels += [IGNORED] * (len(prompt) - 1) + answer + [IGNORED]  # shifted by one: each is the next token
            positions += range(start, start + length)
            numbers += [number] * length
        return torch.tensor(tokens), torch.tensor(labels), torch.tensor(positions), torch.tensor(numbers)


def id_of(tokenizer: Tokenizer, token: str) -> int:
    """The id of a special token. Raises `ConfigError` for a tokenizer without it."""
    id_ = tokenizer.token_to_id(token)
    if id_ is None:
        raise ConfigError(f"The tokenizer has no token {token}: make it with `vocabulary.train_tokenizer`.")
    return id_


def pad(samples: Sequence[Tensor], fill: int) -> Tensor:
    """Samples of different lengths as one tensor (B, T), filled up with `fill`; T is a multiple of ROUND."""
    padded = pad_sequence(list(samples), batch_first=True, padding_value=fill)
    return F.pad(padded, (0, -padded.shape[1] % ROUND), value=fill)


def lesson_loss(model: Llava, lessons: Lessons, features: Tensor, first_words: float = 0.0) -> Tensor:
    """The mean cross-entropy of the answers' tokens, a scalar; `features` (B, P, D) are the pictures, projected.

    `first_words` times the mean over the answers' first tokens is added: the first token decides between yes and no,
    and the rest of such an answer follows from it.
    """
    x = model.embed(lessons.tokens, features)  # B T D
    return answer_loss(model, lessons, model.text(x, lessons.positions, lessons.mask()).states, first_words)


def answer_loss(model: Llava, lessons: Lessons, states: Tensor, first_words: float = 0.0) -> Tensor:
    """`lesson_loss` from the decoder's `states` (B, T, D)."""
    logits = model.lm_head(states).flatten(0, 1).float()  # B·T vocabulary
    losses = F.cross_entropy(logits, lessons.labels.flatten(), ignore_index=IGNORED, reduction="none")  # B·T
    taught = lessons.labels != IGNORED  # B T
    first = taught & ~F.pad(taught, (1, -1))  # B T: has a loss, and the token before it has none
    return losses[taught.flatten()].mean() + first_words * losses[first.flatten()].mean()
