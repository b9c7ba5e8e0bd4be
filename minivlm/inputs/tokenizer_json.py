"""The content of a tokenizer.json: built by the library `tokenizers`, or changed to encode plain text alone."""

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import tokenizers

from minivlm.errors import ConfigError, MinivlmError

MOST_GROWTH = 100  # one replacement of a blank by a long word is fine; a row of doublings fills the memory


def build(definition: dict) -> tokenizers.Tokenizer:
    """The library's tokenizer. Raises `ConfigError` for a definition that it does not take."""
    require_bounded(definition)
    with rust_errors(ConfigError, "not a tokenizer that the library `tokenizers` can build"):
        return tokenizers.Tokenizer.from_str(json.dumps(definition))


def without_specials(definition: dict, names: set[str], words: dict[str, int]) -> dict:
    """The same tokenizer without special tokens (`names`), truncation and padding: it encodes plain text.

    The added `words` stay, with their ids: they stand in the vocabulary, too, or the library would count them anew.
    """
    model = dict(definition["model"])
    if isinstance(model.get("vocab"), dict):
        model["vocab"] = {word: i for word, i in model["vocab"].items() if word not in names} | words
    return {
        **definition,
        "model": model,
        "added_tokens": [token for token in definition.get("added_tokens") or () if token["content"] in words],
        "post_processor": None,
        "truncation": None,
        "padding": None,
    }


def prefix_never(definition: dict) -> dict:
    """The tokenizer for later pieces: one that adds a leading space only to the first piece adds none there."""
    splitter = definition.get("pre_tokenizer")
    later = never_first(splitter)
    return definition if later == splitter else {**definition, "pre_tokenizer": later}


def never_first(splitter: Any) -> Any:
    """A pre_tokenizer, or a sequence of them, without the space that is added to a first piece alone."""
    if not isinstance(splitter, dict):
        return splitter
    if isinstance(steps := splitter.get("pretokenizers"), list):
        return {**splitter, "pretokenizers": [never_first(step) for step in steps]}
    return {**splitter, "prepend_scheme": "never"} if splitter.get("prepend_scheme") == "first" else splitter


def require_bounded(definition: dict) -> None:
    """Raise `ConfigError` if replacements in a row could make a text more than `MOST_GROWTH` times as long."""
    for part in ("normalizer", "pre_tokenizer", "decoder"):
        if (times := growth(definition.get(part))) > MOST_GROWTH:
            raise ConfigError(
                f"the replacements of its {part} make a text up to {times:.3g} times as long, at most {MOST_GROWTH} "
                "times were expected. Do not trust this tokenizer."
            )


def growth(step: Any) -> float:
    """How many times as long a step of a tokenizer, with the steps within it, can make a text."""
    if not isinstance(step, dict):
        return 1.0
    inner = [one for name in ("normalizers", "pretokenizers", "decoders") for one in step.get(name) or ()]
    pattern, content = step.get("pattern"), step.get("content")
    times = math.prod(map(growth, inner))
    if step.get("type") == "Replace" and isinstance(pattern, dict) and isinstance(content, str):
        length = len(str(pattern.get("String") or ""))  # a regular expression may match a letter, or between two
        times *= max(1.0, len(content) / length if length else len(content) + 1)
    return times


@contextmanager
def rust_errors(family: type[MinivlmError], what: str) -> Iterator[None]:
    """Turn failures of the Rust library into sentences. A panic there is a `BaseException`, so all are caught."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:
        raise family(f"{what}: {type(error).__name__}: {str(error)[:200]}.") from error
