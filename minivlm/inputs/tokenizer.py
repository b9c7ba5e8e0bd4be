"""Words <-> token ids, on a checkpoint's own `tokenizer.json`.

Text is encoded by a copy of the tokenizer without special tokens, so that "</s>" or "<image>" typed by a user becomes
ordinary letters. Special tokens enter a prompt only through a template. Words that were added to the vocabulary and are
not special stay one token, unless a template or the checkpoint's small files give their name a meaning.

Only `tokenizer.json` is read, not `tokenizer.model` nor the name of a tokenizer class: for LLaVA-1.5 its ids are those
of the original training (with a single space token before the newline after a picture), which some classes change.
"""

import re
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from minivlm.errors import ConfigError, PromptError
from minivlm.files import listed
from minivlm.inputs.special_names import SURROGATES, read_optional, read_tokenizer_file, special_names, with_own_flags
from minivlm.inputs.templates import TEMPLATES
from minivlm.inputs.tokenizer_json import build, prefix_never, rust_errors, without_specials

NAMED = {
    "<image>",
    *(name for template in TEMPLATES.values() for name in template.specials),
}  # reserved, special or not
RAW_BYTE = re.compile("<0x[0-9A-Fa-f]{2}>")  # how a tokenizer with byte fallback spells a byte


class Tokenizer:
    """A checkpoint's tokenizer, and its special ids.

    bos   starts a prompt; None where the checkpoint uses none
    eos   ends an answer; `stops` holds all ids that end generation, eos first
    pad   fills a batch; eos where the checkpoint names none
    image placeholder of one patch in the prompt; may be larger than the ids of the vocabulary
    size  ids from here on are unused rows of the embedding and must never be sampled
    """

    def __init__(self, definition: dict, *, image_token_id: int, vocab_rows: int, names: dict[str, Any]) -> None:
        """`definition` is a parsed tokenizer.json; `names` gives bos, eos, pad (text or id or None), stops (ids) and
        reserved (the spellings of further tokens that no text may become)."""
        self._rust = build(definition)
        self._rows = vocab_rows
        self.image = image_token_id
        self.size = 1 + max((i for i in self._rust.get_vocab().values() if i < vocab_rows), default=-1)
        self.bos, eos, pad = (self._id(names.get(name)) for name in ("bos", "eos", "pad"))
        stops = distinct(*(self._id(stop) for stop in names.get("stops", ())))
        self.stops = distinct(eos, *stops)
        if "stops" in names and eos is not None and eos not in stops:
            self._warn_of_end(eos, stops, "The tokenizer")
        if not self.stops:
            raise ConfigError(
                "the tokenizer names no end of sequence (eos), so answers would never end. "
                "tokenizer_config.json, special_tokens_map.json or generation_config.json should name it."
            )
        self.eos = self.stops[0]
        self.pad = self.eos if pad is None else pad
        self._know_specials(definition, names.get("reserved", set()))
        self._check_ids()

    def _know_specials(self, definition: dict, reserved: set[str]) -> None:
        """Set the ids that text must never become (`reserved`), those that are not decoded, and the text encoders."""
        unknown = definition["model"].get("unk_token")  # the one special token that stands for text
        added = self._rust.get_added_tokens_decoder()
        own = set(distinct(self.image, self.bos, self.pad, *self.stops))
        own |= {i for i, token in added.items() if token.content in reserved}
        self._added = frozenset(added)
        self._silent = own | {i for i, token in added.items() if token.special}
        words = {} if isinstance(definition["model"].get("vocab"), list) else dict(self._plain_words(own))
        self.reserved = frozenset((own | set(added)) - {*words.values(), self._rust.token_to_id(unknown or "")})
        names = {added[i].content for i in self.reserved & set(added)}
        self._names = names | ({unknown} & {token.content for token in added.values()})
        plain = without_specials(definition, names - {unknown}, words)
        later = prefix_never(plain)
        self._opening = build(plain)
        self._later = self._opening if later is plain else build(later)

    def _plain_words(self, own: set[int]) -> Iterator[tuple[str, int]]:
        """The words that were added to the vocabulary and mean nothing special, and their ids."""
        for i, token in sorted(self._rust.get_added_tokens_decoder().items()):
            if not token.special and i not in own and i < self._rows and token.content not in NAMED:
                yield token.content, i

    @classmethod
    def from_folder(cls, folder: str | Path, *, image_token_id: int, vocab_rows: int) -> "Tokenizer":
        """Read tokenizer.json of a checkpoint, and its special ids from the small files beside it.

        `vocab_rows` is the number of rows of the embedding: a tokenizer whose words need more is refused.
        """
        folder = Path(folder)
        file = folder / "tokenizer.json"
        if not file.is_file():
            hint = " (tokenizer.model alone is not read)" if (folder / "tokenizer.model").is_file() else ""
            raise ConfigError(
                f"{folder} has no tokenizer.json{hint}. Copy it from the hub's conversion of the same model, "
                "for LLaVA-1.5 from llava-hf/llava-1.5-7b-hf."
            )
        definition = with_own_flags(read_tokenizer_file(file), read_optional(folder / "tokenizer_config.json"))
        names = special_names(folder, definition)
        try:
            return cls(definition, image_token_id=image_token_id, vocab_rows=vocab_rows, names=names)
        except ConfigError as error:
            raise ConfigError(f"{file}: {error}") from error

    def encode(self, text: str, *, opening: bool = True) -> list[int]:
        """The ids of a piece of plain text; no special token is added."""
        return self.encode_with_offsets(text, opening=opening)[0]

    def encode_with_offsets(self, text: str, *, opening: bool = True) -> tuple[list[int], list[tuple[int, int]]]:
        """Ids, and for each the characters (start, stop) of `text` it stands for.

        `opening` says whether the piece is the first of the prompt; it matters only to tokenizers that add a leading
        space to the first piece alone. Lone surrogates become U+FFFD. If a character takes several byte tokens, each of
        them stands for it. Raises `PromptError` if the text encodes to a special token.
        """
        if not isinstance(text, str):
            raise PromptError(f"Text was expected, found {type(text).__name__}: {text!r:.60}.")
        rust = self._opening if opening else self._later
        with rust_errors(PromptError, "The tokenizer failed on a text"):
            encoding = rust.encode(SURROGATES.sub("\ufffd", text), add_special_tokens=False)
        if not self.reserved.isdisjoint(encoding.ids):
            raise PromptError(f"The text {text!r:.60} encodes to a special token, which only a template may place.")
        return encoding.ids, encoding.offsets

    def specials_in(self, text: str) -> list[str]:
        """The names of special tokens that `text` spells; `encode` makes ordinary letters of them."""
        return sorted(name for name in self._names if name in text)

    def special(self, name: str) -> int:
        """The id of a special token that a template places. Raises `ConfigError` if there is none of this name."""
        token = self._rust.token_to_id(name)
        if token is None or token not in self._added or token >= self._rows:
            raise ConfigError(
                f"the template needs the special token {name}, which this tokenizer does not have. It belongs to "
                "another family of models: choose another template."
            )
        return token

    def swallows(self, token: int) -> tuple[bool, bool]:
        """Whether a special token takes the white space before it and after it, as its `lstrip` and `rstrip` say."""
        flags = self._rust.get_added_tokens_decoder().get(token)
        return (False, False) if flags is None else (flags.lstrip, flags.rstrip)

    def _warn_of_end(self, end: int, others: tuple[int, ...], source: str) -> None:
        """Warn of an end of answers that transformers does not have."""
        named = f"with {listed([self.token(stop) for stop in others])}" if others else "nowhere"
        warnings.warn(
            f"{source} ends answers with {self.token(end)}, generation_config.json or config.json {named}. Here any of "
            "these ends them, in transformers only the latter.",
            stacklevel=3,
        )

    def stop_at(self, token: int) -> None:
        """End answers at this token, too; warns if the checkpoint itself does not."""
        if token not in self.stops:
            self._warn_of_end(token, self.stops, "The template")
        self.stops = distinct(*self.stops, token)
        self._silent = self._silent | {token}
        self.reserved = self.reserved | {token}

    def decode(self, ids: Iterable[int]) -> str:
        """The text of token ids; special tokens, image tokens and unused ids are left out."""
        with rust_errors(PromptError, "The tokenizer failed on token ids"):
            return self._rust.decode([i for i in map(int, ids) if self.is_text(i)])

    def stream(self) -> "Stream":
        """A decoder that takes one token at a time, as an answer is generated."""
        return Stream(self)

    def token(self, token_id: int) -> str:
        """How the vocabulary spells one id, for tables and figures."""
        spelling = self._rust.id_to_token(int(token_id)) if token_id >= 0 else None
        return f"<{token_id}>" if spelling is None else spelling

    def is_text(self, token_id: int) -> bool:
        """Whether an id is a word or a part of one: neither special nor an unused row of the embedding."""
        return 0 <= token_id < self.size and token_id not in self._silent

    def _id(self, name: str | int | None) -> int | None:
        """The id of a special token; None if the embedding has no row for it."""
        token_id = self._rust.token_to_id(name) if isinstance(name, str) else name
        return token_id if token_id is not None and token_id < self._rows else None

    def _check_ids(self) -> None:
        largest = max(self._opening.get_vocab().values(), default=-1)
        if largest >= self._rows:
            raise ConfigError(
                f"the tokenizer's largest id is {largest}, but the model's embedding has {self._rows} rows. "
                "Tokenizer and weights belong to different models."
            )
        ordinary = self.image not in self._added and self._rust.id_to_token(self.image) is not None
        if ordinary or self.image not in self.reserved or self.image in {self.bos, self.pad, *self.stops}:
            raise ConfigError(
                f"the image token's id {self.image} already means {self.token(self.image)!r}. "
                "config.json (image_token_index) and the tokenizer belong to different models."
            )


class Stream:
    """Decodes a growing answer: `push` returns the text that has become certain, `finish` the rest.

    The pieces joined equal `decode` of all ids. A character may take several tokens, and with byte fallback one bad
    byte makes its whole run of bytes undecodable, so a run of bytes is held back until another token follows it.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._before: list[
            int
        ] = []  # the last token returned: without it the next one would decode as at the very start
        self._waiting: list[int] = []

    def push(self, token_id: int) -> str:
        """Add one id; the new text, often empty."""
        if not self._tokenizer.is_text(token_id):
            return ""
        self._waiting.append(token_id)
        if RAW_BYTE.fullmatch(self._tokenizer.token(token_id)):
            return ""
        return self._release(final=False)

    def finish(self) -> str:
        """The text still held back. An unfinished character shows as U+FFFD."""
        return self._release(final=True)

    def _release(self, final: bool) -> str:
        before = self._tokenizer.decode(self._before)
        text = self._tokenizer.decode(self._before + self._waiting)
        if text.endswith("\ufffd") and not final:
            return ""
        self._before, self._waiting = (self._before + self._waiting)[-1:], []
        return text[len(before) :]


def distinct(*ids: int | None) -> tuple[int, ...]:
    """The ids that are not None, each once, in order."""
    return tuple(dict.fromkeys(i for i in ids if i is not None))
