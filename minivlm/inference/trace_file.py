"""The file of a trace: `.safetensors`, with the facts as JSON in its header. All that is read is checked before use.

T generated tokens · L layers · H heads · P patches · N lens layers · Q tokens of the prompt, as in `trace.py`.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from minivlm.checkpoints.shards import open_shard, write_tensors
from minivlm.errors import CheckpointError
from minivlm.files import one_line, parse_json, shown

PARTS = ("system", "image", "question", "answer", "template")  # of the prompt and of what was written so far
TOP = 5  # tokens that the logit lens keeps for each layer
FORMAT = "minivlm trace 1"
AGAIN = "Make it anew with `vlm.trace(...).save(file)`."
TENSORS = {  # tensor -> its dtype, and its shape in the letters above
    "shares": ("F32", ("T", "L", "H", len(PARTS))),
    "entropy": ("F32", ("T", "L", "H")),
    "pooled": ("F16", ("T", "L", "P")),
    "sink_scores": ("F16", ("L", "H", "P")),
    "lens_prob": ("F32", ("T", "N")),
    "lens_top": ("I64", ("T", "N", TOP)),
    "lens_top_prob": ("F32", ("T", "N", TOP)),
}
MAP = re.compile(r"maps\.(0|[1-9][0-9]{0,4})")  # the name of a layer's whole weights
MAP_DTYPES = ("F32", "F64", "F16", "BF16")  # the model's own
TEXTS = ("text", "template", "recipe", "model", "dtype")
FINISH = ("stop", "length", "interrupted")
ROUNDING = 1e-2  # how far a share in 16 bits may lie above 1
Headers = Mapping[str, tuple[str, tuple[int, ...]]]  # tensor -> its dtype and shape


def save(file: str | Path, facts: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Write the file in one piece; its folder is made if need be. Raises `CheckpointError` if that fails."""
    path = Path(file)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        whole = {name: tensor.contiguous() for name, tensor in tensors.items()}
        write_tensors(path, whole, {"format": FORMAT, "facts": json.dumps(facts)})
    except OSError as cause:
        raise CheckpointError(f"{cause.filename or path} cannot be written: {cause.strerror or cause}.") from cause


def load(file: str | Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The facts and the tensors that `save` wrote. Raises `CheckpointError` for any other file."""
    path = Path(file)
    with open_shard(path, AGAIN) as saved:
        metadata = saved.metadata() or {}
        slices = {name: saved.get_slice(name) for name in saved.keys()}  # noqa: SIM118 (not a dict)
        headers = {name: (one.get_dtype(), tuple(one.get_shape())) for name, one in slices.items()}
        if metadata.get("format") != FORMAT or not TENSORS.keys() <= headers.keys():
            raise CheckpointError(
                f"{file} is no trace of this version: expected the format {FORMAT!r}, found "
                f"{shown(metadata.get('format'))}. {AGAIN}"
            )
        try:
            facts = parse_json(metadata.get("facts", ""))
            check_facts(facts)
            check_headers(headers, facts)
            tensors = {name: saved.get_tensor(name) for name in headers}
            check_values(tensors)
        except ValueError as cause:
            raise CheckpointError(f"{file} is a damaged trace: {one_line(cause)}. {AGAIN}") from cause
    return facts, tensors


# --- checks, each of which raises a ValueError ----------------------------------------------------------------------


def require(holds: bool, what: str, found: object) -> None:
    """Raise ValueError unless it holds; `what`: what was expected."""
    if not holds:
        raise ValueError(f"{what} expected, found {shown(found)}")


def check_facts(facts: Any) -> None:
    """Check the facts that this package uses: their kinds, and that they fit each other."""
    require(isinstance(facts, dict), "an object of facts", facts)
    for name in TEXTS:
        require(isinstance(facts.get(name), str), f"a text as {name!r}", facts.get(name))
    require(facts.get("finish") in FINISH, f"one of {', '.join(FINISH)} as 'finish'", facts.get("finish"))
    for name in ("tokens", "lens_layers"):
        require(counts(facts.get(name)), f"a list of whole numbers as {name!r}", facts.get(name))
    pieces, layers = facts.get("pieces"), facts["lens_layers"]
    texts = isinstance(pieces, list) and all(isinstance(piece, str) for piece in pieces)
    fits = texts and len(pieces) == len(facts["tokens"]) and "".join(pieces) == facts["text"]
    require(fits, "the text of each token as 'pieces'", pieces)
    require(layers == sorted(set(layers)), "layers in order as 'lens_layers'", layers)
    check_spans(facts.get("spans"), len(facts["tokens"]))
    require(isinstance(facts.get("settings"), dict), "an object as 'settings'", facts.get("settings"))
    methods = facts.get("mitigation")
    groups = isinstance(methods, dict) and all(isinstance(one, dict) for one in methods.values())
    require(groups, "an object for each method as 'mitigation'", methods)
    require(isinstance(facts.get("effect"), (dict, type(None))), "an object or null as 'effect'", facts.get("effect"))


def check_spans(spans: Any, tokens: int) -> None:
    """Check that spans follow each other without a gap from 0 on, and that the last one is the answer of T tokens."""
    kinds = isinstance(spans, list) and all(
        isinstance(span, list) and len(span) == 3 and span[0] in PARTS and counts(span[1:]) for span in spans
    )
    require(kinds and bool(spans), "[name, start, stop] of each part as 'spans'", spans)
    place = 0
    for _, start, stop in spans:
        require(start == place <= stop, f"a part that starts at {place} in 'spans'", [start, stop])
        place = stop
    require(spans[-1][0] == "answer" and place - spans[-1][1] == tokens, "the answer's part last in 'spans'", spans[-1])


def check_headers(headers: Headers, facts: Mapping[str, Any]) -> None:
    """Check the names, dtypes and shapes of the tensors, before any of them is read."""
    sink, prompt = headers["sink_scores"][1], facts["spans"][-1][1]
    require(len(sink) == 3, "sink_scores of shape (L, H, P)", sink)
    sizes = dict(zip("LHP", sink, strict=True)) | {"T": len(facts["tokens"]), "N": len(facts["lens_layers"])}
    depth = sizes["L"]
    require(all(layer < depth for layer in facts["lens_layers"]), f"'lens_layers' below {depth}", facts["lens_layers"])
    for name, header in headers.items():
        if layer := MAP.fullmatch(name):
            require(int(layer[1]) < depth, f"maps of layers below {depth}", name)
            expected = (sizes["H"], prompt, prompt)
            require(header[0] in MAP_DTYPES and header[1] == expected, f"{name} as floats {expected}", header)
        else:
            require(name in TENSORS, "no further tensors", name)
            dtype, letters = TENSORS[name]
            shape = tuple(sizes[one] if isinstance(one, str) else one for one in letters)
            require(header == (dtype, shape), f"{name} as {dtype} {shape}", header)


def check_values(tensors: Mapping[str, Tensor]) -> None:
    """Check that token ids are not negative, and that all else is a share: from 0 to 1, which NaN is not."""
    for name, tensor in tensors.items():
        if tensor.numel():
            low, high = tensor.min().item(), tensor.max().item()
            most = torch.iinfo(torch.int64).max if name == "lens_top" else 1 + ROUNDING
            require(low >= 0 and high <= most, f"{name} from 0 on" + (" to 1" if most < 2 else ""), (low, high))


def counts(value: Any) -> bool:
    """Whether a value is a list of whole numbers of at least 0."""
    return isinstance(value, list) and all(type(one) is int and one >= 0 for one in value)
