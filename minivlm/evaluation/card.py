"""The card of a run: everything that decides its figures, and nothing that does not.

Two runs with equal cards have equal answers, up to the last bits of other hardware. So a run goes on only under its own
card, and figures are quoted with it. The number of processes, the folder and the time are no part of it.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

from minivlm.errors import EvaluationError
from minivlm.evaluation.datasets import Dataset
from minivlm.evaluation.items import Item
from minivlm.files import digest, file_digest, json_types
from minivlm.inference.generate import Generation
from minivlm.inference.vlm import VLM
from minivlm.inputs.templates import TEMPLATES, Text, Turn
from minivlm.lens.overlay import short_name
from minivlm.model import Mitigation

LIBRARIES = ("torch", "numpy", "pillow", "tokenizers")  # others neither compute nor read
CODE = (  # of answers
    "model",
    "inputs",
    "inference/generate.py",
    "inference/vlm.py",
    "inference/streaming_text.py",
    "inference/tensor_parallel.py",
    "evaluation/asking.py",
)
SMALL_FILES = ("config.json", "tokenizer.json")  # beside the weights; the image recipe is told by itself
SHOWN = 60  # characters of a setting in a sentence


def card(
    task: str,
    vlm: VLM,
    settings: Generation,
    methods: Mapping[str, Mitigation],
    dataset: Dataset,
    items: Sequence[Item],
    *,
    batch: int,
    tensor_parallel: int = 1,
    version: str,
) -> dict[str, Any]:
    """In JSON types. `task`: "chair" or "pope"; `batch`: most items asked at once; `version`: minivlm's own."""
    if settings.temperature > 0 and settings.seed is None:
        raise EvaluationError("Sampled answers are others each time: give a seed, or temperature 0.")
    told = {
        "task": task,
        "model": {"name": short_name(vlm.name), "files": weight_files(vlm)},
        "prompt": {"template": vlm.template, "text": written_out(vlm.template, items[0].question)},
        "picture": {**asdict(vlm.preprocessing), "in words": vlm.preprocessing.describe()},
        "decoding": asdict(settings),
        "methods": {name: method.resolve(vlm.model.config).as_dict() for name, method in methods.items()},
        "data": {
            "name": dataset.name,
            "fingerprint": dataset.fingerprint,
            "images": len({item.image for item in items}),
            "items": len(items),
            "items' fingerprint": digest([[*asdict(item).values()] for item in items]),
        },
        "words": {"name": dataset.lexicon.name, "fingerprint": dataset.lexicon.fingerprint},
        "computing": {
            "dtype": str(vlm.dtype).removeprefix("torch."),
            "device": vlm.device.type,
            "batch": batch,
            "tensor parallel": tensor_parallel,
        },
        "versions": {"minivlm": version, "code": code_fingerprint(), **versions()},
    }
    return json_types(told)


def fingerprint(told: Mapping[str, Any]) -> str:
    """Of a whole card; equal if and only if there are no differences."""
    return digest(told)


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """What the cards of two runs do not have in common, a sentence each; empty if they are the same."""
    before, now = dict(flat(old)), dict(flat(new))
    return [
        f"{name} was {shown(before.get(name))} and is now {shown(now.get(name))}."
        for name in dict.fromkeys([*before, *now])
        if name not in before or name not in now or before[name] != now[name]
    ]


def flat(told: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """("decoding, temperature", 0.0), …; an empty group is there as well."""
    for name, value in told.items():
        if isinstance(value, Mapping) and value:
            yield from flat(value, f"{above}{name}, ")
        else:
            yield above + name, value


def shown(value: Any) -> str:
    text = "absent" if value is None else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= SHOWN else text[:SHOWN] + "…"


# --- the parts ------------------------------------------------------------------------------------------------------


def written_out(template: str, question: str) -> str:
    """How a question stands in the prompt, with marks in place of special tokens and the picture."""
    segments = TEMPLATES[template].segments([Turn(question, images=1)])
    return "".join(part.text if isinstance(part, Text) else f"<{part.value}>" for part in segments)


def weight_files(vlm: VLM) -> dict[str, str]:
    """The sha256 of every file that makes the model: all of their bytes, some seconds for every 10 GB.

    They were just read, so they mostly come from memory; shards are hashed side by side. A vision tower that was
    loaded from a file of its own goes by its numbers.
    """
    if vlm.report is None:
        raise EvaluationError(
            f"{vlm.name} was not loaded from files, so a run could not say which weights it measured. "
            "Save the model and load it."
        )
    folder = Path(vlm.report.path)
    paths = [folder / name for name in (*SMALL_FILES, *vlm.report.shards)]
    with ThreadPoolExecutor() as pool:
        found = dict(zip((path.name for path in paths), pool.map(weight_digest, paths), strict=True))
    if any("(vision tower)" in group.shards for group in vlm.report.groups):
        found["vision tower"] = tower_digest(vlm)
    return found


def weight_digest(path: Path) -> str:
    """The sha256 of one of the model's files. Raises `EvaluationError` if it cannot be read any more."""
    try:
        return file_digest(path)
    except OSError as cause:
        raise EvaluationError(f"'{path}' cannot be read for the card: {cause.strerror or cause}.") from cause


def tower_digest(vlm: VLM) -> str:
    """Of the vision tower's tensors by name, as they are computed with."""
    total = hashlib.sha256()
    for name, tensor in sorted(vlm.model.vision.state_dict().items()):
        total.update(name.encode())
        total.update(tensor.detach().cpu().double().numpy().tobytes())
    return total.hexdigest()


def code_fingerprint() -> str:
    """Of the sources that an answer comes from: whoever changes EAH in the middle of a run has two of them."""
    package = Path(__file__).resolve().parents[1]
    sources = [[file.relative_to(package).as_posix(), file.read_bytes()] for file in code_files(package, CODE)]
    return digest([[name, hashlib.sha256(source).hexdigest()] for name, source in sources])


def code_files(package: Path, names: Sequence[str]) -> list[Path]:
    """The sources that `names` mean: files of the package, and all that lie in its folders.

    One that is not there raises: a file that moved would silently be no part of the fingerprint any more.
    """
    found = []
    for name in names:
        place = package / name
        files = [*place.glob("*.py")] if place.is_dir() else [place]
        if not files or not all(file.is_file() for file in files):
            raise EvaluationError(
                f"The card of a run counts {name!r} among the code of an answer, but {package} has no such source. "
                "Was it moved? Give its new place in CODE of evaluation/card.py; otherwise install minivlm again."
            )
        found += files
    return sorted(found)


def versions() -> dict[str, str]:
    return {name: metadata.version(name) for name in LIBRARIES}
