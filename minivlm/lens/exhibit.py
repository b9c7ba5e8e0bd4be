"""The data of the explorer's page about one trace: packed maps, curves with few digits, words, and positions of boxes.

W words · L layers · H heads · P patches. Everything returned is made of JSON types.

A map is stored as one whole number for each patch: round(`levels` · sqrt(value / the map's largest)), then deflated.
The square root keeps differences between small values: a sink may have a hundred times the value of other patches.
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
from minivlm.lens.overlay import as_grid, model_square, short_name
from minivlm.lens.words import Trace, Word, words
from minivlm.model import CLVA
from minivlm.model.mitigation import KINDS

DIGITS = 4  # significant digits of a number on the page
NOTHING, CUT = "It changed nothing.", "Cut off: as many tokens as were allowed."
SAMPLING = ("temperature", "top_k", "top_p", "seed")


class ObjectFinder(Protocol):
    """Finds the objects that a text mentions, such as a lexicon of `minivlm.evaluation`."""

    def mentions(self, text: str) -> Iterable[Any]:
        """Every mention: its `object`, and `start` to `stop` (exclusive), its characters in the text."""


@dataclass(frozen=True)
class Known:
    """The ground truth about the picture, as far as the caller has it."""

    lexicon: ObjectFinder | None = None
    truth: frozenset[str] | None = None  # the objects that are in the picture
    boxes: Mapping[str, Sequence[Box]] = field(default_factory=dict)  # object -> its boxes in the picture's pixels


@dataclass(frozen=True)
class Exhibit:
    """A trace with its words, masks and heads: all that the page shows of one answer."""

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
        """For each word the number of the generated token that begins it."""
        return [word.token for word in self.words]

    def as_dict(self, known: Known, clva: CLVA, strong: float, levels: int) -> dict:
        """The page's data. `strong`: a sink's score as a multiple of the uniform share; `levels`: see `packed`."""
        scene = TracedScene(self.trace, self.words, self.masks)
        maps = maps_at(scene, self.words)
        sources = noise_and_anchor(maps, clva)
        distance = drift(maps, clva)
        named = {word.name for word in self.words}
        return {
            "name": self.name,
            "text": self.trace.text,
            "words": [[word.start, word.stop, word.name, word.kind] for word in self.words],
            "missed": sorted(known.truth - named) if known.truth is not None else [],
            "notes": notes_of(self.trace),
            "settings": settings_of(self.trace),
            "maps": packed(maps, levels),
            "anchors": packed(torch.cat([sources.noise, sources.anchor], dim=1), levels),  # W 2 P
            "heads": {layer: packed(maps[self.tokens], levels) for layer, maps in self.heads.items()},  # W H P
            "sinks": deflated(np.packbits(strong_sinks(self.trace, strong).numpy())),  # L H P bits
            "share": listed(image_share(scene, self.words)),
            "noise": listed(distance.noise_cosine),
            "anchor": listed(distance.anchor_cosine),
            "evidence": listed(evidence(scene, self.words)) if self.masks else None,
        }


# --- words ----------------------------------------------------------------------------------------------------------


def words_of(trace: Trace, known: Known) -> list[Word]:
    """All words of an answer that a reader can select, at least one; numbers are words here too."""
    mentions = known.lexicon.mentions(trace.text) if known.lexicon else ()
    present = known.truth if known.truth is not None else frozenset()
    named = words(trace, [(one.object, one.start, one.stop, one.object in present) for one in mentions])
    if known.truth is None:
        named = [replace(word, kind="other") for word in named]
    return sorted([*named, *other_tokens(trace, named)], key=lambda word: word.start) or [whole_answer(trace)]


def other_tokens(trace: Trace, named: Sequence[Word]) -> list[Word]:
    """Tokens with a letter or a digit that belong to none of the words `named`, each as a word of its own."""
    left, ends = [], accumulate(map(len, trace.pieces))
    for token, (piece, stop) in enumerate(zip(trace.pieces, ends, strict=True)):
        start = stop - len(piece.lstrip())
        touched = any(word.start < stop and start < word.stop for word in named)
        if any(map(str.isalnum, piece)) and not touched and start < len(trace.text):
            left.append(Word(piece.strip(), start, min(stop, len(trace.text)), token, "other"))
    return left


def whole_answer(trace: Trace) -> Word:
    """For an answer without any word, the whole text as one word, at the first token."""
    return Word(trace.text or "(nothing was written)", 0, len(trace.text), 0, "other")


def counterparts(here: Sequence[Word], there: Sequence[Word]) -> list[int]:
    """Align two answers: for each word `here` the index of its counterpart `there`, or -1.

    Equal words are aligned first; in a stretch that differs, objects are aligned with objects, other words with others.
    """
    a, b = ([word.name.lower() for word in words] for words in (here, there))
    partner = [-1] * len(here)
    for kind, start, stop, other, last in SequenceMatcher(None, a, b, autojunk=False).get_opcodes():
        ours, theirs = range(start, stop), range(other, last)
        pairs = zip(ours, theirs, strict=True) if kind == "equal" else replacements(here, ours, there, theirs)
        for index, counterpart in pairs:
            partner[index] = counterpart
    return partner


def replacements(here: Sequence[Word], ours: range, there: Sequence[Word], theirs: range) -> Iterator[tuple[int, int]]:
    """Pairs of indices of two differing stretches: objects with objects, other words with others, each in order."""
    for is_object in (True, False):
        stretches = ((here, ours), (there, theirs))
        alike = [[index for index in part if (words[index].kind != "other") == is_object] for words, part in stretches]
        yield from zip(*alike, strict=False)


# --- how an answer was made -----------------------------------------------------------------------------------------


def notes_of(trace: Trace) -> list[str]:
    """Lines about an answer: what each method did, and whether it was cut off. Empty for a complete plain answer."""
    effect = trace.facts.get("effect") or {"layers": [], "nothing": False}
    layers = [LayerEffect(**layer) for layer in effect["layers"]]
    methods = dict.fromkeys(layer.method for layer in layers)
    lines = [sentence_of([layer for layer in layers if layer.method == method]) for method in methods]
    cut = [CUT] if trace.facts["finish"] == "length" else []
    return [*([NOTHING] if effect["nothing"] else lines), *cut]


def settings_of(trace: Trace) -> list[str]:
    """All settings of each method, a line for each, as in "EAH: layer 2, threshold 0.022, …"."""
    return [f"{KINDS[method].__name__}: {listing(values)}" for method, values in trace.facts["mitigation"].items()]


def made_of(trace: Trace) -> list[tuple[str, str]]:
    """The facts that all answers of a page share, (name, text) each: model, picture, prompt, decoding."""
    facts, decoding = trace.facts, trace.facts["settings"]
    weights = facts.get("weights")  # older traces do not say
    sampling = {name: decoding[name] for name in SAMPLING if decoding[name] is not None}
    chosen = f"sampled with {listing(sampling)}" if decoding["temperature"] else "greedy"
    return [
        ("Model", short_name(facts["model"]) + (f", decoder in {weights}" if weights else "")),
        ("Picture", facts["recipe"]),
        ("Prompt", f"template {facts['template']}"),
        ("Decoding", f"{chosen}, at most {decoding['max_new_tokens']} new tokens"),
    ]


def listing(settings: Mapping[str, Any]) -> str:
    """Settings as one line of text."""
    return ", ".join(f"{name.replace('_', ' ')} {short(value)}" for name, value in settings.items())


def short(value: Any) -> str:
    """The value of a setting as short text."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, float):
        return f"{value:.4g}"
    return " ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


# --- numbers --------------------------------------------------------------------------------------------------------


def packed(maps: Tensor, levels: int) -> dict:
    """Maps (…, P) in `levels` + 1 steps as text; see the top of this file. Values that are not finite become 0."""
    rows = maps.float().nan_to_num(0, 0, 0).reshape(-1, maps.shape[-1])  # maps P
    largest = rows.amax(dim=-1, keepdim=True)
    share = rows / largest.clamp(min=torch.finfo(rows.dtype).tiny)
    steps = (levels * share.sqrt()).round().to(torch.uint8)
    return {"levels": levels, "largest": listed(largest[:, 0]), "data": deflated(steps.numpy())}


def deflated(values: np.ndarray) -> str:
    """The bytes of an array, compressed by zlib (RFC 1950), in base64."""
    return b64encode(zlib.compress(values.tobytes(), 9)).decode()


def listed(values: Tensor) -> Any:
    """A tensor as nested lists of numbers with `DIGITS` significant digits; None for nan and infinity."""
    if values.ndim:
        return [listed(value) for value in values]
    return float(f"{float(values):.{DIGITS}g}") if values.isfinite() else None


def strong_sinks(trace: Trace, strong: float) -> Tensor:
    """The strong sinks, (L, H, P) bool: patches that score above `strong` times the uniform share in the prefill."""
    prompt = next(start for name, start, _ in trace.facts["spans"] if name == "answer")
    return trace.sink_scores.float() > strong / prompt


# --- places ---------------------------------------------------------------------------------------------------------


def places(size: tuple[int, int], recipe: ImagePreprocessing, boxes: Mapping[str, Sequence[Box]]) -> dict:
    """The picture, the model's square and the boxes, each as (left, top, right, bottom) in 0..1 of the drawing area.

    The drawing area is the smallest rectangle that holds both picture and square; "ratio" is its width / its height.
    """
    picture, square = (0, 0, *size), model_square(size, recipe)
    left, top = (min(picture[axis], square[axis]) for axis in (0, 1))
    width, height = (max(picture[axis + 2], square[axis + 2]) - start for axis, start in enumerate((left, top)))

    def scaled(box: Box) -> list[float]:
        x, y, right, bottom = box
        return [(x - left) / width, (y - top) / height, (right - left) / width, (bottom - top) / height]

    named = {name: [scaled(box) for box in several] for name, several in boxes.items()}
    return {"ratio": width / height, "picture": scaled(picture), "square": scaled(square), "boxes": named}


def bands(clva: CLVA, deep: Collection[int]) -> list[dict]:
    """The noise, anchor and deep layers of our reading of CLVA; a part that `clva` does not name is empty."""
    parts = {"noise": clva.noise_layers, "anchor": clva.anchor_layers, "deep": deep}
    return [{"name": name, "layers": sorted(layers or ())} for name, layers in parts.items()]
