"""The small files of a checkpoint, each held against the table of fields: nothing in them is passed over in silence."""

import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from minivlm.checkpoints.configs import is_original
from minivlm.checkpoints.field_table import (
    FILES,
    GENERATION,
    HUB_TOP,
    IN_CONFIG,
    ORIGINAL,
    PREPROCESSOR,
    ROPE,
    TEXTS,
    TOKENIZER_MODEL,
    TOWER,
)
from minivlm.checkpoints.fields import Table, check_fields
from minivlm.errors import ConfigError
from minivlm.files import listed, read_json_file, shown

LARGEST = 64 * 2**20  # bytes; tokenizer.json is the only one that has millions
# Fields of tokenizer_config.json and special_tokens_map.json that name words of the vocabulary, and those whose words
# become tokens of their own, at which a text is split. (image_token: in tokenizer_config.json alone.)
NAMING_WORDS = ("bos_token", "eos_token", "pad_token", "unk_token")
NAMING_TOKENS = (
    *("sep_token", "cls_token", "mask_token", "added_tokens_decoder", "additional_special_tokens"),
    "extra_special_tokens",
)

Section = tuple[str, Mapping[str, Any], Table]  # its name, its fields, and what is done with each


def check_small_files(folder: Path) -> None:
    """Hold config.json and the files beside it against the table. Warns of what is not known or not done; raises
    `ConfigError` for what is refused, and for a file that cannot be read.
    """
    files = {name: read_json_file(folder / name, ConfigError, LARGEST) for name in FILES if (folder / name).is_file()}
    config = read_json_file(folder / "config.json", ConfigError)
    # Without the file for them, transformers takes the settings of generation from config.json.
    generation = IN_CONFIG if "generation_config.json" in files else GENERATION
    for name, data, table in config_sections(config):
        of_text = {**generation, **table} if name in ("", "text_config") else {**IN_CONFIG, **table}
        check_fields(data, of_text, str(folder / "config.json"), name)
    for file, content in files.items():
        for name, data, table in sections(file, content):
            check_fields(data, table, str(folder / file), name)
    if "tokenizer.json" in files:
        naming = [files.get(name, {}) for name in ("tokenizer_config.json", "special_tokens_map.json")]
        warn_of_lost_words(folder, files["tokenizer.json"], *naming)
        warn_of_spaces(folder, files["tokenizer.json"], naming[0])


def config_sections(config: Mapping[str, Any]) -> Iterator[Section]:
    """The sections of a config.json, in the hub's style or the original LLaVA's."""
    text = config.get("text_config")
    if is_original(config):
        yield "", config, ORIGINAL
        text = config
    else:
        yield "", config, HUB_TOP
        text = text if isinstance(text, dict) else {}
        yield "text_config", text, TEXTS.get(text.get("model_type", "llama"), TEXTS["llama"])
    yield from objects(config, "vision_config", TOWER)
    for key in ("rope_scaling", "rope_parameters"):
        yield from objects(text, key, ROPE)


def sections(file: str, content: Mapping[str, Any]) -> Iterator[Section]:
    """The sections of another of the small files."""
    yield "", content, FILES[file]
    if file == "processor_config.json":
        yield from objects(content, "image_processor", PREPROCESSOR)
    if file == "tokenizer.json":
        yield from objects(content, "model", TOKENIZER_MODEL)


def objects(data: Mapping[str, Any], key: str, table: Table) -> Iterator[Section]:
    """The section `key`, if there is one that is an object: its reader refuses anything else."""
    value = data.get(key)
    if isinstance(value, dict):
        yield key, value, table


def warn_of_lost_words(folder: Path, definition: Mapping[str, Any], *naming: Mapping[str, Any]) -> None:
    """Warn of words that the files beside tokenizer.json name, and that it does not have as they mean them: as words of
    its vocabulary, or as tokens of their own. `naming`: tokenizer_config.json and special_tokens_map.json.
    """
    added, model = definition.get("added_tokens"), definition.get("model")
    tokens = {token.get("content") for token in added if isinstance(token, dict)} if isinstance(added, list) else set()
    vocab = model.get("vocab") if isinstance(model, dict) else None
    known = tokens | set(vocab if isinstance(vocab, dict) else ())
    named = {word for config in naming for key in NAMING_WORDS for word in spellings(config.get(key))}
    single = {word for config in naming for key in NAMING_TOKENS for word in spellings(config.get(key))}
    single |= set(spellings(naming[0].get("image_token")))
    if (folder / "added_tokens.json").is_file():
        single |= set(read_json_file(folder / "added_tokens.json", ConfigError))
    if lost := sorted((named | single) - known):
        warnings.warn(
            f"{folder}: the tokenizer's small files name words that tokenizer.json does not have: {listed(lost)}. They "
            "are spelt in letters here; write tokenizer.json anew with the library that added them.",
            stacklevel=2,
        )
    if split := sorted((single & known) - tokens):
        warnings.warn(
            f"{folder}: the tokenizer's small files make tokens of their own of {listed(split)}, which are words among "
            "others in tokenizer.json. No text is split at them here, as it is in transformers; write tokenizer.json "
            "anew with the library that added them.",
            stacklevel=2,
        )


def warn_of_spaces(folder: Path, definition: Mapping[str, Any], config: Mapping[str, Any]) -> None:
    """Warn where transformers takes spaces out of answers: it does so for all kinds of tokenizers but BPE."""
    model = definition.get("model")
    kind = model.get("type") if isinstance(model, dict) else None
    if config.get("clean_up_tokenization_spaces") is True and kind != "BPE":
        warnings.warn(
            f"{folder / 'tokenizer_config.json'}: clean_up_tokenization_spaces is true, which is not done: answers "
            f"keep the spaces that this kind of tokenizer ({shown(kind)}) writes, such as before a full stop.",
            stacklevel=2,
        )


def spellings(value: Any) -> Iterator[str]:
    """The words in a list or an object of them, each spelt out or an object with its `content`."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict) and isinstance(value.get("content"), str):
        yield value["content"]
    elif isinstance(value, (dict, list)):
        for one in value.values() if isinstance(value, dict) else value:
            yield from spellings(one)
