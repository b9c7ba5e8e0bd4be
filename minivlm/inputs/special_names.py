"""Which tokens of a checkpoint start a prompt, end an answer and fill a batch: what the small files beside
tokenizer.json say.
"""

import re
import warnings
from pathlib import Path
from typing import Any

from minivlm.errors import ConfigError
from minivlm.files import listed, read_json_file, shown
from minivlm.inputs.tokenizer_json import build, rust_errors

SURROGATES = re.compile("[\ud800-\udfff]")  # halves of characters, which no encoding of text can hold
MOST_BYTES = 64 * 2**20  # of a tokenizer.json; the largest in use have a few dozen million bytes
FAMILY_END = {"llama": 2, "mistral": 2}  # the end of a sequence, where config.json names none
NO_FLAGS = dict.fromkeys(("lstrip", "normalized", "rstrip", "single_word", "special"), False)  # of an added token
OTHERS = ("cls_token", "sep_token", "mask_token", "image_token", "additional_special_tokens", "extra_special_tokens")


def special_names(folder: Path, definition: dict[str, Any]) -> dict[str, Any]:
    """bos, eos and pad by name (tokenizer files) or else by id (generation_config.json), all stopping ids (`stops`),
    and the names of further tokens that no text may become (`reserved`).

    Where the tokenizer's files name other tokens but no bos, prompts start without one, as in transformers: Qwen's
    generation_config.json has an id for it that no prompt contains. `definition`: the content of tokenizer.json.
    """
    config = read_optional(folder / "tokenizer_config.json")
    names = {**read_optional(folder / "special_tokens_map.json"), **config}
    ids = generation_ids(folder)
    stops = ids.get("eos_token_id")
    stops = [i for i in (stops if isinstance(stops, list) else [stops]) if i is not None]
    special: dict[str, Any] = {"reserved": {word for name in OTHERS for word in words(names.get(name))}}
    if any((folder / name).is_file() for name in ("generation_config.json", "config.json")):
        special["stops"] = stops
    for name in ("bos", "eos", "pad"):
        word = next(iter(words(names.get(f"{name}_token"))), None)
        unnamed = not names if name == "bos" else f"{name}_token" not in names or name == "pad"
        fallback = ids.get(f"{name}_token_id") if unnamed else None
        special[name] = word if word is not None else fallback if is_id(fallback) else None
    bos = special["bos"] if isinstance(special["bos"], str) else None
    if not starts_prompts(bos, config, definition) and bos is not None:
        special["bos"] = None
    return special


def generation_ids(folder: Path) -> dict[str, Any]:
    """The special ids of generation_config.json; without that file those of config.json, as in transformers.

    Raises `ConfigError` for what is no id.
    """
    file = folder / "generation_config.json"
    if not file.is_file():
        file = folder / "config.json"
    config = read_optional(file)
    text = config.get("text_config")
    within = text if isinstance(text, dict) else {}
    names = ("bos_token_id", "eos_token_id", "pad_token_id")
    ids = {name: within.get(name) if config.get(name) is None else config[name] for name in names}
    if file.name == "config.json" and config and "eos_token_id" not in {**config, **within}:
        ids["eos_token_id"] = FAMILY_END.get(str(within.get("model_type", "llama")))
    for name, value in ids.items():
        one_or_more = value if isinstance(value, list) and name == "eos_token_id" else [value]
        none = (None, -1) if name == "pad_token_id" else (None,)  # the first LLaMA's files say -1
        if not all(one in none or is_id(one) for one in one_or_more):
            raise ConfigError(f"{file}: {name} must be the id of a token, a whole number from 0, found {shown(value)}.")
    return ids


def starts_prompts(bos: str | None, config: dict[str, Any], definition: dict[str, Any]) -> bool:
    """Whether the token named `bos` stands in front of prompts: as the post-processor of tokenizer.json does it, as in
    transformers. Where there is none, as `add_bos_token` says, or else as LLaMA's class of tokenizers did it: a warning
    says so.
    """
    steps, said = definition.get("post_processor"), config.get("add_bos_token")
    if steps is None:
        usual = "Llama" in str(config.get("tokenizer_class") or "Llama")
        puts = bos is not None and (said is True or (said is not False and usual))
        if puts:
            warnings.warn(
                f"Prompts begin with {bos}, as in the training of LLaVA; tokenizer.json has no post_processor that "
                "puts it there, and transformers does not. add_bos_token: false in tokenizer_config.json omits it.",
                stacklevel=2,
            )
        return puts
    before, behind = around_a_text(definition)
    if bos is not None and isinstance(said, bool) and said != (bos in before):
        warnings.warn(
            f"tokenizer_config.json says add_bos_token: {str(said).lower()}, but the post_processor of tokenizer.json "
            f"{'puts' if bos in before else 'does not put'} {bos} before a text. It is done as there, as in "
            "transformers.",
            stacklevel=2,
        )
    if behind or before not in ([], [bos]):
        warnings.warn(
            f"The post_processor of tokenizer.json puts {listed(before) or 'nothing'} before a text and "
            f"{listed(behind) or 'nothing'} behind it. Prompts here have no special tokens but those of their "
            "template, and once a bos_token that tokenizer_config.json names.",
            stacklevel=2,
        )
    return bos in before


def around_a_text(definition: dict[str, Any]) -> tuple[list[str], list[str]]:
    """The tokens that the post-processor of a tokenizer.json puts before and behind a text. Raises `ConfigError`."""
    whole = build({**definition, "truncation": None, "padding": None})
    with rust_errors(ConfigError, "the post_processor of tokenizer.json failed on a text"):
        processed = whole.encode("a").ids
        whole.post_processor = None
        plain = whole.encode("a").ids
    start = next((n for n in range(len(processed)) if plain and processed[n : n + len(plain)] == plain), None)
    start, stop = (len(processed),) * 2 if start is None else (start, start + len(plain))
    before, behind = ([str(whole.id_to_token(i)) for i in ids] for ids in (processed[:start], processed[stop:]))
    return before, behind


def with_own_flags(definition: dict[str, Any], config: dict[str, Any]) -> dict[str, Any]:
    """tokenizer.json with the flags (`rstrip`, `special`, ...) of its added tokens as the `added_tokens_decoder` of
    tokenizer_config.json has them, which comes first in transformers. Raises `ConfigError` for a flag that is none.
    """
    own = config.get("added_tokens_decoder")
    entries = [entry for entry in own.values() if isinstance(entry, dict)] if isinstance(own, dict) else []
    usual = [{**NO_FLAGS, "normalized": entry.get("special", False) is not True} for entry in entries]  # the library's
    flags = {
        entry.get("content"): {name: entry.get(name, plain[name]) for name in NO_FLAGS}
        for entry, plain in zip(entries, usual, strict=True)
    }
    for word, named in flags.items():
        if wrong := [name for name, value in named.items() if not isinstance(value, bool)]:
            raise ConfigError(
                f"tokenizer_config.json, added_tokens_decoder: {wrong[0]} of {word!r:.40} must be true or false, found "
                f"{shown(named[wrong[0]])}."
            )
    tokens = definition.get("added_tokens")
    if not flags or not isinstance(tokens, list):
        return definition
    merged = [
        {**token, **flags.get(token.get("content"), {})} if isinstance(token, dict) else token for token in tokens
    ]
    return {**definition, "added_tokens": merged}


def placed(steps: Any) -> list[str]:
    """The special tokens that the post-processor of a tokenizer.json, or one of its steps, puts around single texts."""
    if not isinstance(steps, dict):
        return []
    pieces = [piece for piece in steps.get("single") or () if isinstance(piece, dict)]
    own = [str(piece["SpecialToken"].get("id")) for piece in pieces if isinstance(piece.get("SpecialToken"), dict)]
    return own + [name for step in steps.get("processors") or () for name in placed(step)]


def words(value: Any) -> list[str]:
    """The spellings of special tokens: of one, of a list of them, or of an object with them as values."""
    if isinstance(value, dict) and "content" not in value:
        return [word for one in value.values() for word in words(one)]
    if isinstance(value, list):
        return [word for one in value for word in words(one)]
    word = value.get("content") if isinstance(value, dict) else value
    if not isinstance(word, str):
        return []
    if SURROGATES.search(word):
        raise ConfigError(
            f"A special token is called {shown(word)}, which holds half a character. Write its name anew."
        )
    return [word]


def is_id(value: Any) -> bool:
    """Whether a value from a file can be a token's id."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def read_optional(file: Path) -> dict[str, Any]:
    """The object in a small file; an empty one if there is no such file."""
    return read_tokenizer_file(file) if file.is_file() else {}


def read_tokenizer_file(file: Path) -> dict[str, Any]:
    """The object in a tokenizer's file. Raises `ConfigError` for anything else."""
    return read_json_file(file, ConfigError, most=MOST_BYTES)
