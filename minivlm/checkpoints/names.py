"""The names of tensors in checkpoints, and ours (canonical): one literal table of the six layouts of LLaVA files.

canonical                what it is
vision.…                 the vision tower
projector.linear_1/2.…   the two linears
text.…                   the decoder
lm_head.weight           the head (absent from the files when it is tied to the embedding)
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class NamingScheme:
    """The names that one kind of checkpoint gives to the parts; `prefixes` maps its prefixes to ours."""

    letter: str
    written_by: str
    prefixes: Mapping[str, str]

    def canonical(self, key: str) -> str | None:
        """Our name of the tensor `key`; None if this layout has no such tensor."""
        theirs = max((p for p in self.prefixes if key.startswith(p)), key=len, default=None)
        name = None if theirs is None else self.prefixes[theirs] + key.removeprefix(theirs)
        return name if name is not None and PARTS.match(name) else None

    def key(self, name: str) -> str:
        """The name of a canonical tensor in this layout: the inverse of `canonical`; our own if it has none."""
        theirs = next((theirs for theirs, ours in self.prefixes.items() if name.startswith(ours)), None)
        return name if theirs is None else theirs + name.removeprefix(self.prefixes[theirs])


NAMING_SCHEMES = (
    NamingScheme(
        "A",
        "llava-hf on the hub; transformers up to 4.57",
        {
            "vision_tower.vision_model.": "vision.",
            "multi_modal_projector.": "projector.",
            "language_model.model.": "text.",
            "language_model.lm_head.": "lm_head.",
        },
    ),
    NamingScheme(
        "B",
        "transformers from 5.6",
        {
            "vision_tower.": "vision.",
            "multi_modal_projector.": "projector.",
            "language_model.model.": "text.",
            "language_model.lm_head.": "lm_head.",
        },
    ),
    NamingScheme(
        "C",
        "names in memory of transformers 4.52 to 4.57",
        {
            "model.vision_tower.vision_model.": "vision.",
            "model.multi_modal_projector.": "projector.",
            "model.language_model.": "text.",
            "lm_head.": "lm_head.",
        },
    ),
    NamingScheme(
        "D",
        "names in memory of transformers from 5.6",
        {
            "model.vision_tower.": "vision.",
            "model.multi_modal_projector.": "projector.",
            "model.language_model.": "text.",
            "lm_head.": "lm_head.",
        },
    ),
    NamingScheme(
        "E",
        "the original LLaVA 1.5, whose files have no vision tower",
        {
            "model.mm_projector.0.": "projector.linear_1.",
            "model.mm_projector.2.": "projector.linear_2.",
            "model.": "text.",
            "lm_head.": "lm_head.",
        },
    ),
    NamingScheme(
        "F",
        "the original LLaVA 1.6",
        {
            "model.vision_tower.vision_tower.vision_model.": "vision.",
            "model.mm_projector.0.": "projector.linear_1.",
            "model.mm_projector.2.": "projector.linear_2.",
            "model.": "text.",
            "lm_head.": "lm_head.",
        },
    ),
)

# What a canonical name can begin with: by this the layouts are recognised.
PARTS = re.compile(
    r"vision\.(embeddings|pre_layrnorm|encoder|post_layernorm)\.|projector\.linear_[12]\.|"
    r"text\.(embed_tokens|layers|norm)\.|lm_head\."
)

# What is dropped on purpose, and why.
DROPS = (
    (re.compile(r".*\.rotary_emb\.inv_freq"), "the rotary frequencies are computed from rope_theta"),
    (re.compile(r".*\.embeddings\.position_ids"), "the positions are counted from 0"),
    (re.compile(r"(model\.)?image_newline"), "only the tiles of LLaVA 1.6 read it"),
)


def recognise(keys: Iterable[str]) -> NamingScheme | None:
    """The layout that has most of the keys (the first of several); None if none has any."""
    keys = list(keys)
    explained = {layout.letter: sum(layout.canonical(key) is not None for key in keys) for layout in NAMING_SCHEMES}
    best = max(NAMING_SCHEMES, key=lambda layout: explained[layout.letter])
    return best if explained[best.letter] else None


def reason_to_drop(key: str) -> str | None:
    """Why this tensor is left out on purpose; None if it is not."""
    return next((reason for pattern, reason in DROPS if pattern.fullmatch(key)), None)


def scheme_named(letter: str) -> NamingScheme:
    """The layout with this letter."""
    return next(layout for layout in NAMING_SCHEMES if layout.letter == letter)
