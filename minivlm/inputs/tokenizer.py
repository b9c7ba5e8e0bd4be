"""Words <-> token ids, on a checkpoint's own `tokenizer.json`.

Text is encoded by a copy of the tokenizer without special tokens, so that "</s>" or "<image>" typed by a user becomes
ordinary letters. Special tokens enter a prompt only through a template.

Only `tokenizer.json` is read, not `tokenizer.model` nor the name of a tokenizer class: for LLaVA-1.5 its ids are those
of the original training (with a single space token before the newline after a picture), which some classes change.
"""

import json
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import tokenizers

from minivlm.errors import ConfigError, MinivlmError, PromptError
from minivlm.files import read_json_file

MOST_BYTES = 64 * 2**20  # of a tokenizer.json; the largest in use have a few dozen million bytes
SURROGATES = re.compile("[\ud800-\udfff]")  # halves of characters, which no encoding of text can hold
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
        """`definition` is a parsed tokenizer.json; `names` gives bos, eos, pad (text or id or None) and stops (ids)."""
        self._rust = build(definition)
        self._rows = vocab_rows
        self.image = image_token_id
        self.size = 1 + max((i for i in self._rust.get_vocab().values() if i < vocab_rows), default=-1)
        self.bos, eos, pad = (self._id(names.get(name)) for name in ("bos", "eos", "pad"))
        self.stops = distinct(eos, *(self._id(stop) for stop in names.get("stops", ())))
        if not self.stops:
            raise ConfigError(
                "the tokenizer names no end of sequence (eos), so answers would never end. "
                "tokenizer_config.json, special_tokens_map.json or generation_config.json should name it."
            )
        self.eos = self.stops[0]
        self.pad = self.eos if pad is None else pad
        self._know_specials(definition)
        self._check_ids()

    def _know_specials(self, definition: dict) -> None:
        """Set the ids that text must never become (`reserved`), those that are not decoded, and the text encoders."""
        unknown = definition["model"].get("unk_token")  # the one special token that stands for text
        added = self._rust.get_added_tokens_decoder()
        own = set(distinct(self.image, self.bos, self.pad, *self.stops))
        self._added = frozenset(added)
        self._silent = own | {i for i, token in added.items() if token.special}
        self.reserved = frozenset((own | set(added)) - {self._rust.token_to_id(unknown) if unknown else None})
        plain = without_specials(definition, {token.content for token in added.values()} - {unknown})
        later = prefix_never(plain)
        self._opening = build(plain)
        self._later = self._opening if later is plain else build(later)

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
        definition, names = read_tokenizer_file(file), special_names(folder)
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

    def special(self, name: str) -> int:
        """The id of a special token that a template places. Raises `ConfigError` if there is none of this name."""
        token = self._rust.token_to_id(name)
        if token is None or token not in self._added or token >= self._rows:
            raise ConfigError(
                f"the template needs the special token {name}, which this tokenizer does not have. It belongs to "
                "another family of models: choose another template."
            )
        return token

    def stop_at(self, token: int) -> None:
        """End answers at this token, too."""
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


def build(definition: dict) -> tokenizers.Tokenizer:
    with rust_errors(ConfigError, "not a tokenizer that the library `tokenizers` can build"):
        return tokenizers.Tokenizer.from_str(json.dumps(definition))


def without_specials(definition: dict, words: set[str]) -> dict:
    """The same tokenizer without special tokens, truncation and padding: it encodes plain text."""
    model = dict(definition["model"])
    if isinstance(model.get("vocab"), dict):
        model["vocab"] = {word: i for word, i in model["vocab"].items() if word not in words}
    return {
        **definition,
        "model": model,
        "added_tokens": [],
        "post_processor": None,
        "truncation": None,
        "padding": None,
    }


def prefix_never(definition: dict) -> dict:
    """The tokenizer for later pieces: one that adds a leading space only to the first piece adds none there."""
    splitter = definition.get("pre_tokenizer")
    if isinstance(splitter, dict) and splitter.get("prepend_scheme") == "first":
        return {**definition, "pre_tokenizer": {**splitter, "prepend_scheme": "never"}}
    return definition


def special_names(folder: Path) -> dict[str, Any]:
    """bos, eos and pad by name (tokenizer files) or else by id (generation_config.json), and all stopping ids.

    Where the tokenizer's files name other tokens but no bos, prompts start without one, as in transformers: Qwen's
    generation_config.json has an id for it that no prompt contains.
    """
    config = read_optional(folder / "tokenizer_config.json")
    names = {**read_optional(folder / "special_tokens_map.json"), **config}
    ids = read_optional(folder / "generation_config.json")
    stops = ids.get("eos_token_id")
    stops = [i for i in (stops if isinstance(stops, list) else [stops]) if is_id(i)]
    special: dict[str, Any] = {"stops": stops}
    for name in ("bos", "eos", "pad"):
        word = names.get(f"{name}_token")
        word = word.get("content") if isinstance(word, dict) else word
        unnamed = not names if name == "bos" else f"{name}_token" not in names or name == "pad"
        fallback = ids.get(f"{name}_token_id") if unnamed else None
        special[name] = word if isinstance(word, str) else fallback if is_id(fallback) else None
    if config.get("add_bos_token") is False:
        special["bos"] = None
    return special


def is_id(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def read_optional(file: Path) -> dict:
    return read_tokenizer_file(file) if file.is_file() else {}


def read_tokenizer_file(file: Path) -> dict:
    return read_json_file(file, ConfigError, most=MOST_BYTES)


@contextmanager
def rust_errors(family: type[MinivlmError], what: str) -> Iterator[None]:
    """Turn failures of the Rust library into sentences. A panic there is a `BaseException`, so all are caught."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:
        raise family(f"{what}: {type(error).__name__}: {str(error)[:200]}.") from error
