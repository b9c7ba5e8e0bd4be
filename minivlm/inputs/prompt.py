"""A conversation and its pictures -> token ids, and spans that name what each token is part of.

    <s>       A chat ... questions.  USER:   <image> x N   \nWhat is this?    ASSISTANT:
    template  system                 template  image       template, question  template

A picture is N copies of the image id, one for each vector that the projector makes of it. Spans cover the prompt
without gaps, in order; a token that crosses a border belongs to the part that holds its last character.
"""

import warnings
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, groupby
from typing import Any

import torch

from minivlm.errors import PromptError
from minivlm.files import listed
from minivlm.inputs.templates import IMAGE, TEMPLATES, Mark, Segment, Special, Template, Text, Tokens, Turn
from minivlm.inputs.tokenizer import Tokenizer
from minivlm.inputs.written_prompts import as_meant

__all__ = [
    "IMAGE",
    "TEMPLATES",
    "Batch",
    "Prompt",
    "Span",
    "Template",
    "Tokenizer",
    "Turn",
    "as_turns",
    "build_prompt",
    "pad_batch",
    "require_question",
]

# What tokenizers count as white space (Unicode); str.strip() would take four control characters, too.
WHITE_SPACE = "\t\n\v\f\r \x85\xa0\u1680" + "".join(map(chr, range(0x2000, 0x200B))) + "\u2028\u2029\u202f\u205f\u3000"
Piece = tuple[str, list[int]]  # a label and its tokens
PIECE = 4096  # characters of a text that are measured at a time


@dataclass(frozen=True)
class Span:
    """Tokens `start` to `stop` (exclusive) are a part called `name`: system, image, question, answer or template."""

    name: str
    start: int
    stop: int


@dataclass(frozen=True)
class Prompt:
    """The tokens of a conversation and their spans. Each picture is one span named "image"."""

    tokens: tuple[int, ...]
    spans: tuple[Span, ...]
    num_images: int

    def named(self, name: str) -> tuple[Span, ...]:
        """All spans of this name, in order."""
        return tuple(span for span in self.spans if span.name == name)


@dataclass(frozen=True)
class Batch:
    """Prompts of different lengths, padded on the left so that all of them end together."""

    tokens: torch.Tensor  # (B, T) long
    attention_mask: torch.Tensor  # (B, T) bool, False where padded
    spans: tuple[tuple[Span, ...], ...]  # of each sample; places count from the start of the padded row
    num_images: tuple[int, ...]


def as_turns(text: Any, num_images: int | None = None) -> list[Turn]:
    """A question (a string or pieces of one), a turn, or a list of turns, as a list of turns.

    `num_images`: the number of pictures that it is about. With it a string that is a whole prompt, or says where its
    pictures belong, is taken as it was meant, see `written_prompts.as_meant`.
    """
    if isinstance(text, Turn):
        return [text]
    if isinstance(text, str) and num_images is not None:
        return as_meant(text, num_images)
    whole = isinstance(text, (list, tuple)) and text and all(isinstance(turn, Turn) for turn in text)
    return list(text) if whole else [Turn(text)]


def require_question(turns: Sequence[Turn]) -> None:
    """Raise `PromptError` if the last turn has its answer already."""
    if turns[-1].answer is not None:
        raise PromptError(f"The last turn is answered already ({turns[-1].answer!r:.60}): end with a question.")


def build_prompt(
    turns: Sequence[Turn],
    *,
    tokenizer: Tokenizer,
    template: str | Template,
    num_image_tokens: int,
    num_images: int | None = None,
    context_length: int | None = None,
) -> Prompt:
    """Write a conversation as tokens; it ends with `ASSISTANT:` unless its last turn has an answer.

    `num_images`: the number of pictures. If no turn says where they belong they go before the first question; otherwise
    the turns must have as many. Answers given as token ids are kept as they are if the template ends an answer with the
    end-of-sequence token; otherwise (`hf`) they are decoded, since more text follows them. Another system sentence:
    `dataclasses.replace(TEMPLATES["llava_v1"], system="...")`. Raises `PromptError` for turns and pictures that do not
    fit, and for a prompt of more than `context_length` tokens.
    """
    style = template_named(template)
    turns = [checked_answer(turn, tokenizer, style) for turn in with_images(turns, num_images)]
    warn_of_specials(turns, tokenizer)
    segments = without_swallowed(style.segments(turns), tokenizer)
    if context_length is not None:
        require_short(segments, tokenizer, context_length)
    pieces = list(encode_segments(segments, tokenizer, num_image_tokens))
    tokens = tuple(token for _, ids in pieces for token in ids)
    if context_length is not None and len(tokens) > context_length:
        raise PromptError(
            f"The prompt has {len(tokens)} tokens, but the model's context holds {context_length}. "
            "Shorten the text, leave out earlier turns or use fewer pictures."
        )
    return Prompt(tokens, joined_spans(pieces), sum(turn.num_images for turn in turns))


def require_short(segments: Sequence[Segment], tokenizer: Tokenizer, context_length: int) -> None:
    """Raise `PromptError` for a text of more than twice `context_length` tokens, before all of it is tokenised.

    It is measured in pieces of `PIECE` characters, until these have so many. A text that fits is never refused: a cut
    makes a token or two, and each piece has far more.
    """
    whole = "".join(segment.text for segment in segments if isinstance(segment, Text))
    tokens = 0
    for start in range(0, len(whole), PIECE) if len(whole) > PIECE else ():
        tokens += len(tokenizer.encode(whole[start : start + PIECE], opening=False))
        if tokens > 2 * context_length:
            raise PromptError(
                f"The prompt's text has {len(whole):,} characters, and more than twice the tokens that the model's "
                f"context holds ({context_length}). Shorten the text, or leave out earlier turns."
            )


def pad_batch(prompts: Sequence[Prompt], pad_id: int, shared: int = 0) -> Batch:
    """Prompts as one (B, T) batch, T the longest; shorter ones are padded on the left.

    The first `shared` tokens, which must be the same in all prompts, stay before the padding.
    """
    if not prompts:
        raise PromptError("A batch needs at least one prompt, found none.")
    length = max(len(prompt.tokens) for prompt in prompts)
    margins = [length - len(prompt.tokens) for prompt in prompts]
    rows = [
        [*prompt.tokens[:shared], *[pad_id] * margin, *prompt.tokens[shared:]]
        for prompt, margin in zip(prompts, margins, strict=True)
    ]
    tokens = torch.tensor(rows, dtype=torch.long)  # (B, T)
    place = torch.arange(length)
    attention_mask = (place < shared) | (place >= shared + torch.tensor(margins)[:, None])  # (B, T)
    spans = tuple(
        tuple(moved(span, margin) if span.start >= shared else span for span in prompt.spans)
        for prompt, margin in zip(prompts, margins, strict=True)
    )
    return Batch(tokens, attention_mask, spans, tuple(prompt.num_images for prompt in prompts))


def moved(span: Span, by: int) -> Span:
    return Span(span.name, span.start + by, span.stop + by)


def template_named(template: str | Template) -> Template:
    if isinstance(template, Template):
        return template
    if template not in TEMPLATES:
        raise PromptError(f"There is no template {template!r}; known are {', '.join(TEMPLATES)}.")
    return TEMPLATES[template]


def warn_of_specials(turns: Sequence[Turn], tokenizer: Tokenizer) -> None:
    """Warn of names of special tokens in questions and answers, which stay text."""
    written = [piece for turn in turns for piece in (*turn.pieces, turn.answer) if isinstance(piece, str)]
    if names := tokenizer.specials_in("\n".join(written)):
        which = "question" if len(turns) == 1 and turns[0].answer is None else "conversation"
        warnings.warn(
            f"The {which} spells {listed(names)}, which only a template may place: in the prompt these are ordinary "
            "letters.",
            stacklevel=4,
        )


def with_images(turns: Sequence[Turn], num_images: int | None) -> list[Turn]:
    """The turns, with all pictures in the first one if no turn says how many it has. Raises `PromptError`."""
    turns = list(turns)
    if not turns:
        raise PromptError("A prompt needs at least one turn, found none.")
    unanswered = [number for number, turn in enumerate(turns[:-1], 1) if turn.answer is None]
    if unanswered:
        raise PromptError(f"Only the last turn may lack an answer, but turn {unanswered[0]} of {len(turns)} has none.")
    if num_images is None:
        return turns
    if all(turn.images is None and isinstance(turn.question, str) for turn in turns):
        turns[0] = replace(turns[0], images=num_images)
    placed = sum(turn.num_images for turn in turns)
    if placed != num_images:
        raise PromptError(f"The conversation has places for {placed} pictures, but {num_images} were given.")
    return turns


def checked_answer(turn: Turn, tokenizer: Tokenizer, template: Template) -> Turn:
    """The turn with an answer that fits the template. Raises `PromptError` for ids that are no words."""
    if turn.answer is None or isinstance(turn.answer, str):
        return turn
    ids = [int(token) for token in turn.answer]
    if ids and ids[-1] in tokenizer.stops:
        ids.pop()  # the template ends the answer itself
    wrong = [token for token in ids if not 0 <= token < tokenizer.size or token == tokenizer.image]
    if wrong:
        raise PromptError(
            f"An earlier answer holds the id {wrong[0]}, which is no word: ids 0 to {tokenizer.size - 1} are, "
            f"except the image token {tokenizer.image}."
        )
    return replace(turn, answer=ids if template.eos_after_answer else tokenizer.decode(ids))


def without_swallowed(segments: Sequence[Segment], tokenizer: Tokenizer) -> list[Segment]:
    """The segments without the white space that a special token beside it takes: Phi-3's drop the line break behind
    them. As in transformers, which reads the prompt as one text."""
    kept = list(segments)
    for order, side, strip in ((1, 1, str.lstrip), (-1, 0, str.rstrip)):
        taking = False
        for place in range(len(kept))[::order]:
            segment = kept[place]
            if isinstance(segment, Text) and taking:
                segment = kept[place] = replace(segment, text=strip(segment.text, WHITE_SPACE))
            if not isinstance(segment, Text):
                special = special_id(segment, tokenizer)
                taking = special is not None and tokenizer.swallows(special)[side]
            elif segment.text:
                taking = False
    return kept


def special_id(segment: Segment, tokenizer: Tokenizer) -> int | None:
    """The id of a special token, or of a picture's placeholder; None for other segments, and where there is none."""
    if isinstance(segment, Special):
        return tokenizer.special(segment.name)
    if not isinstance(segment, Mark):
        return None
    return {Mark.IMAGE: tokenizer.image, Mark.BOS: tokenizer.bos, Mark.EOS: tokenizer.eos}[segment]


def encode_segments(segments: Sequence[Segment], tokenizer: Tokenizer, num_image_tokens: int) -> Iterator[Piece]:
    """Labelled tokens. Neighbouring texts are encoded as one string."""
    opening = True
    for is_text, group in groupby(segments, key=lambda segment: isinstance(segment, Text)):
        if is_text:
            texts = [segment for segment in group if isinstance(segment, Text)]
            yield from encode_texts(texts, tokenizer, opening)
            opening = False
            continue
        for segment in group:
            opening &= segment is Mark.BOS
            special = special_id(segment, tokenizer)
            if isinstance(segment, Tokens):
                yield segment.label, list(segment.ids)
            elif segment is Mark.IMAGE:
                yield "image", [tokenizer.image] * num_image_tokens
            else:
                yield "template", [] if special is None else [special]


def encode_texts(texts: list[Text], tokenizer: Tokenizer, opening: bool) -> Iterator[Piece]:
    """Encode texts as one string. A token belongs to the text that holds its last character."""
    whole = "".join(text.text for text in texts)
    ends = list(accumulate(len(text.text) for text in texts))
    ids, offsets = tokenizer.encode_with_offsets(whole, opening=opening)
    for token, (start, stop) in zip(ids, offsets, strict=True):
        last = min(max(start, stop - 1), len(whole) - 1)
        yield texts[bisect_right(ends, last)].label, [token]


def joined_spans(pieces: list[Piece]) -> tuple[Span, ...]:
    """Spans of the pieces; neighbours of one name become one span, except pictures."""
    spans: list[Span] = []
    position = 0
    for name, ids in pieces:
        start, position = position, position + len(ids)
        if spans and spans[-1].name == name != "image":
            spans[-1] = replace(spans[-1], stop=position)
        elif ids:
            spans.append(Span(name, start, position))
    return tuple(spans)
