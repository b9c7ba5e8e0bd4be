"""What the explorer's page knows of a trace: maps packed into text, curves as short numbers, words and places.

W words · L layers · H heads · P patches. Everything returned is made of JSON types.

A map is kept as one whole number for each patch, `levels` × the root of (its value / the map's largest): a root, since
a sink may get a hundred times what the other patches get, and they must still differ. Then it is deflated.
"""

import zlib
from base64 import b64encode
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import SequenceMatcher
from itertools import accumulate
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from minivlm.inference.effect import LayerEffect, sentence_of
from minivlm.inputs.image import Box, ImagePreprocessing
from minivlm.inputs.patches import patch_mask
from minivlm.lens.drift import TracedScene, drift, evidence, image_share, maps_at, noise_and_anchor
from minivlm.lens.overlay import as_grid, seen_square, short_name
from minivlm.lens.words import Trace, Word, words
from minivlm.model import CLVA
from minivlm.model.mitigation import KINDS

DIGITS = 4  # that count, of a number on the page
NOTHING, CUT = "It changed nothing.", "Cut off: as many tokens as were allowed."
SAMPLING = ("temperature", "top_k", "top_p", "seed")


class ObjectFinder(Protocol):
    """Finds objects in a text."""

    def mentions(self, text: str) -> Iterable[Any]:
        """Every mention with its `object`, and `start` to `stop`, its characters of the text."""


@dataclass(frozen=True)
class Known:
    """What is known about the picture, from whoever drew or labelled it."""

    lexicon: ObjectFinder | None = None
    truth: frozenset[str] | None = None  # the objects that are in the picture
    boxes: Mapping[str, Sequence[Box]] = field(default_factory=dict)  # object -> in the picture's pixels


@dataclass(frozen=True)
class Exhibit:
    """A trace with all that is shown beside it."""

    name: str
    trace: Trace
    words: Sequence[Word]
    masks: Mapping[str, Tensor]  # object -> its patches (P,)
    heads: Mapping[int, Tensor]  # layer -> the maps of its heads (T, H, P), for each generated token

    @classmethod
    def of(
        cls,
        name: str,
        trace: Trace,
        known: Known,
        heads: Mapping[int, Tensor],
        size: tuple[int, int],
        recipe: ImagePreprocessing,
    ) -> "Exhibit":
        """The exhibit of a trace of one picture of `size`, (width, height)."""
        side = len(as_grid(trace.pooled[0, 0]))
        masks = {name: patch_mask(boxes, size, recipe, side) for name, boxes in known.boxes.items()}
        return cls(name, trace, words_of(trace, known), masks, heads)

    @property
    def tokens(self) -> list[int]:
        return [word.token for word in self.words]

    def as_dict(self, known: Known, clva: CLVA, strong: float, levels: int) -> dict:
        """Everything the page knows of it. `strong`: how many times the uniform share makes a sink."""
        scene = TracedScene(self.trace, self.words, self.masks)
        maps = maps_at(scene, self.words)
        found = noise_and_anchor(maps, clva)
        distance = drift(maps, clva)
        seen = {word.name for word in self.words}
        return {
            "name": self.name,
            "text": self.trace.text,
            "words": [[word.start, word.stop, word.name, word.kind] for word in self.words],
            "missed": sorted(known.truth - seen) if known.truth is not None else [],
            "notes": notes_of(self.trace),
            "settings": settings_of(self.trace),
            "maps": packed(maps, levels),
            "anchors": packed(torch.cat([found.noise, found.anchor], dim=1), levels),  # W 2 P
            "heads": {layer: packed(maps[self.tokens], levels) for layer, maps in self.heads.items()},  # W H P
            "sinks": deflated(np.packbits(strong_sinks(self.trace, strong).numpy())),  # L H P bits
            "share": listed(image_share(scene, self.words)),
            "noise": listed(distance.noise_cosine),
            "anchor": listed(distance.anchor_cosine),
            "evidence": listed(evidence(scene, self.words)) if self.masks else None,
        }


# --- words ----------------------------------------------------------------------------------------------------------


def words_of(trace: Trace, known: Known) -> list[Word]:
    """All words of an answer that can be picked, at least one; numbers too, which are no words of letters."""
    found = known.lexicon.mentions(trace.text) if known.lexicon else ()
    present = known.truth if known.truth is not None else frozenset()
    named = words(trace, [(one.object, one.start, one.stop, one.object in present) for one in found])
    if known.truth is None:
        named = [replace(word, kind="other") for word in named]
    return sorted([*named, *_left_over(trace, named)], key=lambda word: word.start) or [_end(trace)]


def _left_over(trace: Trace, named: Sequence[Word]) -> list[Word]:
    """Tokens with a letter or a digit that belong to no word."""
    left, ends = [], accumulate(map(len, trace.pieces))
    for token, (piece, stop) in enumerate(zip(trace.pieces, ends, strict=True)):
        start = stop - len(piece.lstrip())
        touched = any(word.start < stop and start < word.stop for word in named)
        if any(map(str.isalnum, piece)) and not touched and start < len(trace.text):
            left.append(Word(piece.strip(), start, min(stop, len(trace.text)), token, "other"))
    return left


def _end(trace: Trace) -> Word:
    """What stands for an answer without a word: its first token."""
    return Word(trace.text or "(nothing was written)", 0, len(trace.text), 0, "other")


def counterparts(here: Sequence[Word], there: Sequence[Word]) -> list[int]:
    """For each word of one answer the place of the word in another that says the same or stands for it; -1 for none."""
    names = [[word.name.lower() for word in words] for words in (here, there)]
    found = [-1] * len(here)
    for kind, start, stop, other, last in SequenceMatcher(None, *names, autojunk=False).get_opcodes():
        ours, theirs = range(start, stop), range(other, last)
        pairs = zip(ours, theirs, strict=True) if kind == "equal" else _in_place_of(here, ours, there, theirs)
        for place, partner in pairs:
            found[place] = partner
    return found


def _in_place_of(here: Sequence[Word], ours: range, there: Sequence[Word], theirs: range) -> Iterator[tuple[int, int]]:
    """Places in two stretches, one of which was written instead of the other: an object stands for an object."""
    for is_object in (True, False):
        stretches = ((here, ours), (there, theirs))
        alike = [[place for place in part if (words[place].kind != "other") == is_object] for words, part in stretches]
        yield from zip(*alike, strict=False)


# --- how an answer was made -----------------------------------------------------------------------------------------


def notes_of(trace: Trace) -> list[str]:
    """What a mitigation did, a line for each method, and whether the answer was cut; nothing for a plain whole one."""
    effect = trace.facts.get("effect") or {"layers": [], "nothing": False}
    layers = [LayerEffect(**layer) for layer in effect["layers"]]
    methods = dict.fromkeys(layer.method for layer in layers)
    lines = [sentence_of([layer for layer in layers if layer.method == method]) for method in methods]
    cut = [CUT] if trace.facts["finish"] == "length" else []
    return [*([NOTHING] if effect["nothing"] else lines), *cut]


def settings_of(trace: Trace) -> list[str]:
    """All settings of each method, a line "EAH: layer 2, threshold 0.022, …" for each."""
    return [f"{KINDS[method].__name__}: {listing(found)}" for method, found in trace.facts["mitigation"].items()]


def made_of(trace: Trace) -> list[tuple[str, str]]:
    """What all answers of a page have in common, by name."""
    facts, decoding = trace.facts, trace.facts["settings"]
    sampling = {name: decoding[name] for name in SAMPLING if decoding[name] is not None}
    chosen = f"sampled with {listing(sampling)}" if decoding["temperature"] else "greedy"
    return [
        ("Model", short_name(facts["model"])),
        ("Picture", facts["recipe"]),
        ("Prompt", f"template {facts['template']}"),
        ("Decoding", f"{chosen}, at most {decoding['max_new_tokens']} new tokens"),
    ]


def listing(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {said(value)}" for name, value in settings.items())


def said(value: Any) -> str:
    """A setting in as few letters as it needs."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, float):
        return f"{value:.4g}"
    return " ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


# --- numbers --------------------------------------------------------------------------------------------------------


def packed(maps: Tensor, levels: int) -> dict:
    """Maps (…, P) as text; see the head of this file. What is not finite becomes 0."""
    rows = maps.float().nan_to_num(0, 0, 0).reshape(-1, maps.shape[-1])  # maps P
    largest = rows.amax(dim=-1, keepdim=True)
    share = rows / largest.clamp(min=torch.finfo(rows.dtype).tiny)
    steps = (levels * share.sqrt()).round().to(torch.uint8)
    return {"levels": levels, "largest": listed(largest[:, 0]), "data": deflated(steps.numpy())}


def deflated(values: np.ndarray) -> str:
    """Bytes, deflated (RFC 1950), in base64."""
    return b64encode(zlib.compress(values.tobytes(), 9)).decode()


def listed(values: Tensor) -> Any:
    """Numbers as lists, with as many digits as are read; None for what cannot be said."""
    if values.ndim:
        return [listed(value) for value in values]
    return float(f"{float(values):.{DIGITS}g}") if values.isfinite() else None


def strong_sinks(trace: Trace, strong: float) -> Tensor:
    """Which patches are strong sinks, (L, H, P) bool: by the prefill's scores, `strong` times the uniform share."""
    prompt = next(start for name, start, _ in trace.facts["spans"] if name == "answer")
    return trace.sink_scores.float() > strong / prompt


# --- places ---------------------------------------------------------------------------------------------------------


def places(size: tuple[int, int], recipe: ImagePreprocessing, boxes: Mapping[str, Sequence[Box]]) -> dict:
    """Where picture, the model's square and boxes lie on a stage that holds both: left, top, right, bottom in 0..1."""
    picture, square = (0, 0, *size), seen_square(size, recipe)
    left, top = (min(picture[axis], square[axis]) for axis in (0, 1))
    width, height = (max(picture[axis + 2], square[axis + 2]) - start for axis, start in enumerate((left, top)))

    def on_stage(box: Box) -> list[float]:
        x, y, right, bottom = box
        return [(x - left) / width, (y - top) / height, (right - left) / width, (bottom - top) / height]

    named = {name: [on_stage(box) for box in found] for name, found in boxes.items()}
    return {"ratio": width / height, "picture": on_stage(picture), "square": on_stage(square), "boxes": named}


def bands(clva: CLVA, deep: Collection[int]) -> list[dict]:
    """The layers that our reading of CLVA names."""
    parts = {"noise": clva.noise_layers, "anchor": clva.anchor_layers, "deep": deep}
    return [{"name": name, "layers": sorted(layers)} for name, layers in parts.items()]
