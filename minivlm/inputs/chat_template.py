"""Which of our templates a checkpoint's own chat template is. It is compared as text, and never run.

A checkpoint brings a Jinja program that writes conversations down. Those known here are recognised by a digest of their
text; that each of them writes what our template writes is shown by tests, which run it in a sandbox.
"""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minivlm.errors import ConfigError
from minivlm.files import read_json_file
from minivlm.inputs.templates import TEMPLATES, Special, Text, Turn

TEXT_FILE = "chat_template.jinja"
JSON_FILES = ("chat_template.json", "processor_config.json", "tokenizer_config.json")  # under "chat_template"
SILENT = re.compile(r"\{#.*?#\}|\{%-?\s*(end)?generation\s*-?%\}", re.DOTALL)  # they write nothing

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
        return KNOWN.get(digest_of(self.text))

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
    """The template of a checkpoint folder, from whichever file holds it; None if it has none."""
    if (file := folder / TEXT_FILE).is_file():
        return ChatTemplate(file, file.read_text(encoding="utf-8", errors="replace"))
    for name in JSON_FILES:
        if (file := folder / name).is_file() and (text := template_text(read_json_file(file, ConfigError))):
            return ChatTemplate(file, text)
    return None


def template_text(settings: dict[str, Any]) -> str | None:
    """The entry "chat_template": a text, or a list of named ones, of which "default" counts, or else the first."""
    value = settings.get("chat_template")
    if isinstance(value, list):
        named = {entry.get("name"): entry.get("template") for entry in value if isinstance(entry, dict)}
        value = named.get("default", next(iter(named.values()), None))
    return value if isinstance(value, str) else None


def digest_of(text: str) -> str:
    """A digest of what a template writes: without comments, and with each line break written alike."""
    plain = SILENT.sub("", text).replace("\\n", "\n").strip()
    return hashlib.sha256(plain.encode()).hexdigest()[:16]


def example(template: str) -> str:
    """A question about one picture, as a template writes it."""
    return "".join(spelt(segment) for segment in TEMPLATES[template].segments([Turn("QUESTION", images=1)]))


def spelt(segment: object) -> str:
    """A segment of a prompt for people to read."""
    if isinstance(segment, Text):
        return segment.text
    return segment.name if isinstance(segment, Special) else f"<{getattr(segment, 'value', 'ids')}>"
