"""Which of our templates a checkpoint's own chat template is. It is compared as text, and never run.

A checkpoint brings a Jinja program that writes conversations down. Those known here are recognised by a digest of their
text; that each of them writes what our template writes is shown by tests, which run it in a sandbox.
"""

import hashlib
import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minivlm.errors import ConfigError
from minivlm.files import listed, read_json_file, shown
from minivlm.inputs.templates import TEMPLATES, Special, Text, Turn

# The files of a processor come first, in transformers' order; in JSON the text stands under "chat_template".
OF_PROCESSOR = ("processor_config.json", "chat_template.json", "chat_template.jinja")
FILES = (*OF_PROCESSOR, "additional_chat_templates/default.jinja", "tokenizer_config.json")
STRING = r"""'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*\""""
TAGS = re.compile(rf"\{{#.*?#\}}|\{{[{{%](?:{STRING}|[^'\"])*?[}}%]\}}", re.DOTALL)  # comments, expressions, statements
SILENT = re.compile(r"\{#[^-+].*?[^-+]#\}|\{% *(end)?generation *%\}", re.DOTALL)  # tags that write nothing

KNOWN = {  # digest of a template's text -> our template
    "2f0198858c1d35fb": "hf",  # llava-hf/llava-1.5-7b-hf
    "f5f9c0d8b68aaf4f": "hf",  # the shipped model
    "84c31b135006e9e3": "chatml",  # llava-hf/llava-interleave-qwen-0.5b-hf
    "2fcede18323c58ab": "chatml",  # … with marks around what an assistant said
}
CLUES = {"<|im_start|>": "chatml", "<|start_header_id|>": "llama3", "<|user|>": "phi3", "USER": "hf", "upper()": "hf"}


@dataclass(frozen=True)
class ChatTemplate:
    """A checkpoint's own template."""

    file: Path
    text: str

    @property
    def known(self) -> str | None:
        """The name of our template that writes the same; None if the text is not known."""
        return KNOWN.get(self.digest)

    @property
    def digest(self) -> str:
        """As `digest_of`."""
        return digest_of(self.text)

    def guess(self, default: str) -> str:
        """The name of our template that shares the most telling word with it."""
        return next((name for clue, name in CLUES.items() if clue in self.text), default)

    def warning(self, guess: str) -> str:
        """What a user must know where the text is not known."""
        return (
            f"{self.file} is a chat template that minivlm does not know. Prompts are written like this: "
            f"{example(guess)!r}. If the model's card says otherwise, choose another template: {', '.join(TEMPLATES)}."
        )


def read_chat_template(folder: Path) -> ChatTemplate | None:
    """The template of a checkpoint folder; None if it has none. Of several the one that transformers' processor takes;
    if another of the processor's files has another text, a warning says which counts."""
    found = [template for name in FILES if (template := read_template(folder / name))]
    if not found:
        return None
    first, *others = found
    differ = [one.file.name for one in others if one.file.name != FILES[-1] and digest_of(one.text) != first.digest]
    if differ:
        warnings.warn(
            f"{first.file} and {listed(differ)} hold different chat templates. The first counts, as in transformers.",
            stacklevel=2,
        )
    return first


def read_template(file: Path) -> ChatTemplate | None:
    """The template in one file; None if there is no such file, or no template in it."""
    if not file.is_file():
        return None
    if file.suffix == ".jinja":
        return ChatTemplate(file, file.read_text(encoding="utf-8", errors="replace"))
    text = template_text(read_json_file(file, ConfigError), str(file))
    return ChatTemplate(file, text) if text else None


def template_text(settings: dict[str, Any], file: str) -> str | None:
    """The entry "chat_template": a text, or named ones in a list or an object, of which "default" counts, or else the
    first. Raises `ConfigError` for anything else.
    """
    value = settings.get("chat_template")
    if isinstance(value, list) and all(isinstance(entry, dict) for entry in value):
        value = {entry.get("name"): entry.get("template") for entry in value}
    if isinstance(value, dict):
        value = value.get("default", next(iter(value.values()), None))
    if value is not None and not isinstance(value, str):
        raise ConfigError(f"{file}: chat_template must be a text, or named texts, found {shown(value)}.")
    return value


def digest_of(text: str) -> str:
    """A digest of what a template writes: without its comments, and with each line break written alike."""
    plain = TAGS.sub(shortened, text).removesuffix("\n")  # the last line break is not written, as in Jinja
    return hashlib.sha256(plain.encode()).hexdigest()[:16]


def shortened(tag: re.Match[str]) -> str:
    """A tag with its line breaks as such; nothing for one that writes nothing. (Beside white space it is kept: where a
    line begins or ends, Jinja drops characters.)"""
    before, after = tag.string[max(tag.start() - 1, 0) : tag.start()], tag.string[tag.end() : tag.end() + 1]
    if SILENT.fullmatch(tag[0]) and not before.isspace() and not after.isspace():
        return ""
    return tag[0].replace("\\n", "\n")


def example(template: str) -> str:
    """A question about one picture, as a template writes it."""
    return "".join(spelt(segment) for segment in TEMPLATES[template].segments([Turn("QUESTION", images=1)]))


def spelt(segment: object) -> str:
    """A segment of a prompt for people to read."""
    if isinstance(segment, Text):
        return segment.text
    return segment.name if isinstance(segment, Special) else f"<{getattr(segment, 'value', 'ids')}>"
