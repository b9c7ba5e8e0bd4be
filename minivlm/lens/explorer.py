"""The explorer: one HTML file that shows where a model's attention was, word by word and layer by layer.

    Path("page.html").write_text(explore(vlm, "photo.jpg", "What is in the image?", CLVA()), encoding="utf-8")

The page holds its picture, its data and its program. It needs no server and no network, and its content security policy
forbids it to fetch anything. Its HTML, CSS and JavaScript are in `explorer_page/`; `exhibit.py` makes its data.
"""

import json
import re
from base64 import b64encode
from collections.abc import Collection, Mapping, Sequence
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from minivlm.errors import ConfigError
from minivlm.inference.generate import Generation, Step
from minivlm.inference.trace import Trace, Tracer
from minivlm.inference.vlm import VLM
from minivlm.inputs.image import Box, ImagePreprocessing, load_image
from minivlm.inputs.prompt import as_turns
from minivlm.lens.drift import with_layers
from minivlm.lens.exhibit import Exhibit, Known, ObjectFinder, bands, counterparts, made_of, places
from minivlm.lens.overlay import short_name
from minivlm.model import CLVA, LlavaConfig, Mitigation
from minivlm.model.clva import usual_layers
from minivlm.model.mitigation import KINDS
from minivlm.model.redistribute import normalised

PARTS = Path(__file__).parent / "explorer_page"
SCRIPTS = ("maps.js", "build.js", "draw.js", "main.js")  # one program, in this order
LIMIT = 5_000_000  # bytes of a page
LEVELS = (255, 63, 15)  # steps of a value in a map: the first that keeps the page below its limit is used
STRONG = 2.5  # times the uniform share: the score from which a patch is marked as a sink; twice EAH's threshold
LARGEST_SIDE, SMALL_SIDE = 800, 256  # pixels of the picture on the page; up to the second, its pixels become squares
FEW = 10_000  # numbers in the maps of all heads for one word: 100 words of two answers then take 2 MB at most
WITHOUT = "plain"  # the name of the answer without mitigation
Heads = Mapping[int, Tensor]  # layer -> the maps of its heads (T, H, P)


def explore(
    vlm: VLM,
    picture: Any,
    question: Any,
    mitigation: Any = None,
    *,
    truth: Collection[str] | None = None,
    lexicon: ObjectFinder | None = None,
    boxes: Mapping[str, Sequence[Box]] | None = None,
    layers_with_heads: Collection[int] = (),
    limit: int = LIMIT,
    **generation: Any,
) -> str:
    """Answer `question` about one `picture`, plainly and under the `mitigation`, and return the HTML page about it.

    `truth` (the objects in the picture) and `lexicon` (see `ObjectFinder`) together tell invented words from true ones.
    `boxes`: object -> its boxes, (left, top, right, bottom) in the picture's pixels. The maps of single heads are kept
    for `layers_with_heads`. `limit`: bytes of the page; errors as for `page`. `generation`: the fields of `Generation`.
    """
    vlm.model.config.text_config.check_layers("layers_with_heads", layers_with_heads)
    image, settings = load_image(picture), Generation(**generation)
    methods: dict[str, Any] = {WITHOUT: None}
    if mitigation is not None:
        methods[name_of(mitigation)] = mitigation
    traced = {
        name: trace_with_heads(vlm, image, question, one, layers_with_heads, settings) for name, one in methods.items()
    }
    return page(
        {name: trace for name, (trace, _) in traced.items()},
        image,
        vlm.preprocessing,
        question=asked(question),
        truth=truth,
        lexicon=lexicon,
        boxes=boxes,
        heads={name: heads for name, (_, heads) in traced.items()},
        limit=limit,
    )


def page(
    traces: Mapping[str, Trace],
    picture: Any,
    recipe: ImagePreprocessing,
    *,
    question: str = "",
    truth: Collection[str] | None = None,
    lexicon: ObjectFinder | None = None,
    boxes: Mapping[str, Sequence[Box]] | None = None,
    heads: Mapping[str, Heads] | None = None,
    limit: int = LIMIT,
) -> str:
    """The page about named traces of one picture and question, the plain model's first; other arguments: `explore`.

    Each map has 256, 64 or 16 steps, as many as `limit` (bytes) allows. Raises `ConfigError` for traces that do not fit
    each other or the picture, and for a page that is too large even then.
    """
    if truth is not None and lexicon is None:
        raise ConfigError("To tell invented objects from true ones, pass a lexicon that finds objects in a text.")
    known = Known(lexicon, None if truth is None else frozenset(truth), boxes or {})
    require_alike(traces, recipe)
    image, heads = load_image(picture), heads or {}
    exhibits = [
        Exhibit.of(name, trace, known, heads.get(name, {}), image.size, recipe) for name, trace in traces.items()
    ]
    about = {"question": question, "picture": picture_data(image), "places": places(image.size, recipe, known.boxes)}
    for levels in LEVELS:
        written = assembled(about | shown(exhibits, known, levels))
        if len(written.encode()) <= limit:
            return written
    raise ConfigError(
        f"The page would have {len(written.encode()):,} bytes, at most {limit:,} are allowed. Keep the heads of fewer "
        "layers (layers_with_heads), write fewer words (max_new_tokens), or raise the limit."
    )


def shown(exhibits: Sequence[Exhibit], known: Known, levels: int) -> dict:
    """The page's data, except for picture and question; `levels`: see `packed`."""
    first, clva = exhibits[0].trace, clva_of([exhibit.trace for exhibit in exhibits])
    depth, heads, patches = first.sink_scores.shape
    others = [[counterparts(here.words, there.words) for there in exhibits] for here in exhibits]
    return {
        "model": short_name(first.facts["model"]),
        "made": made_of(first),
        "layers": depth,
        "heads": heads,
        "side": round(patches**0.5),
        "strong": STRONG,
        "bands": bands(clva, clva.deep_layers or usual_layers(depth)[2]),
        "counterparts": others,
        "judged": known.truth is not None,
        "traces": [exhibit.as_dict(known, clva, STRONG, levels) for exhibit in exhibits],
    }


def usual_heads(config: LlavaConfig) -> range:
    """The layers whose heads a page keeps by default: all of a small model, none of a large one."""
    text = config.text_config
    numbers = text.num_hidden_layers * text.num_attention_heads * config.num_image_tokens
    return range(text.num_hidden_layers if numbers <= FEW else 0)


# --- traces ---------------------------------------------------------------------------------------------------------


def trace_with_heads(
    vlm: VLM, picture: Any, question: Any, mitigation: Any, layers: Collection[int], settings: Generation
) -> tuple[Trace, Heads]:
    """A trace as `vlm.trace` makes it, and for each of `layers` the maps of its heads for each token, (T, H, P)."""
    inputs = vlm.prepare_many([picture], [question], asked=True)
    tracer = Tracer(vlm.model, inputs, maps=(), lens=())
    kept: dict[int, list[Tensor]] = {layer: [] for layer in layers}
    columns = tracer.image[0].nonzero()[:, 0]

    def watch(step: Step) -> None:
        tracer.record(step)
        for layer, maps in kept.items():
            maps.append(normalised(step.output.rows[layer][0, :, columns].float()).cpu())  # H P

    answers = vlm.write(inputs, settings, mitigation=mitigation, watcher=watch, **tracer.watch)
    (trace,) = tracer.traces(answers, vlm.tokenizer)
    return trace, {layer: torch.stack(maps[: len(trace.pooled)]) for layer, maps in kept.items()}


def require_alike(traces: Mapping[str, Trace], recipe: ImagePreprocessing) -> None:
    """Raise `ConfigError` unless the traces have maps of one size, with this preprocessing."""
    if not traces:
        raise ConfigError("An explorer needs at least one trace to show.")
    for name, trace in traces.items():
        if (made_with := trace.facts["recipe"]) != recipe.describe():
            raise ConfigError(f"The trace {name!r} was made with {made_with!r}, not with {recipe.describe()!r}.")
        if not trace.pooled.numel():
            raise ConfigError(f"The trace {name!r} has no map: ask about a picture, and let a word be written.")
    if len(sizes := {tuple(trace.sink_scores.shape) for trace in traces.values()}) > 1:
        raise ConfigError(f"Traces on one page need the same layers, heads and patches, found {sorted(sizes)}.")


def clva_of(traces: Sequence[Trace]) -> CLVA:
    """The settings that define noise and anchor: those of the first trace under CLVA, or else the usual ones."""
    settings = [trace.facts["mitigation"]["clva"] for trace in traces if "clva" in trace.facts.get("mitigation", {})]
    return with_layers(CLVA(**settings[0]) if settings else CLVA(), traces[0].pooled.shape[1])


def name_of(mitigation: Any) -> str:
    """The names of the methods in a mitigation, as in "EAH + CLVA"; "none" without any."""
    parts = Mitigation.of(mitigation)
    return " + ".join(kind.__name__ for name, kind in KINDS.items() if getattr(parts, name) is not None) or "none"


def asked(question: Any) -> str:
    """The text of the last question."""
    text = as_turns(question)[-1].question
    return text if isinstance(text, str) else " ".join(part for part in text if isinstance(part, str))


# --- the file -------------------------------------------------------------------------------------------------------


def picture_data(image: Image.Image) -> dict:
    """The picture as a data URL: PNG if it is small (its pixels are drawn as squares), else a reduced JPEG."""
    small, file = max(image.size) <= SMALL_SIDE, BytesIO()
    if small:
        image.save(file, "PNG")
    else:
        reduced = image.copy()
        reduced.thumbnail((LARGEST_SIDE, LARGEST_SIDE))
        reduced.save(file, "JPEG", quality=88)
    kind = "png" if small else "jpeg"
    return {"source": f"data:image/{kind};base64,{b64encode(file.getvalue()).decode()}", "sharp": small}


def assembled(data: dict) -> str:
    """The HTML file. Its content security policy allows only the one script and style whose digests it names."""
    style, script = read_part("style.css"), "".join(map(read_part, SCRIPTS))
    parts = {
        "style": style,
        "script": script,
        "style_digest": digest(style),
        "script_digest": digest(script),
        "data": json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c"),  # no tag ends it
    }
    return re.sub(r"{{(\w+)}}", lambda match: parts[match[1]], read_part("index.html"))


def read_part(name: str) -> str:
    """A file of `explorer_page/`."""
    return (PARTS / name).read_text(encoding="utf-8")


def digest(source: str) -> str:
    """The hash source by which a content security policy names an inline script or style."""
    return f"sha256-{b64encode(sha256(source.encode()).digest()).decode()}"
