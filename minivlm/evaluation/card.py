"""The card of a run: everything that decides its figures, and nothing else.

Two runs with equal cards have equal answers, up to rounding on other hardware. So a run is resumed only under its own
card, and figures are quoted with it. The number of processes, the folder and the time are not part of it.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

from minivlm.checkpoints.quantised import kind_of
from minivlm.errors import EvaluationError
from minivlm.evaluation.datasets import Dataset
from minivlm.evaluation.items import Item
from minivlm.evaluation.lines import OF_A_RUN, read_json
from minivlm.files import digest, file_digest, json_types
from minivlm.inference.generate import Generation
from minivlm.inference.vlm import VLM
from minivlm.inputs.chat_template import spelt
from minivlm.inputs.templates import TEMPLATES, Turn
from minivlm.lens.overlay import short_name
from minivlm.model import Mitigation

LIBRARIES = ("torch", "numpy", "pillow", "tokenizers")  # those that change an answer
CODE = (  # the sources that an answer depends on
    "model",
    "inputs",
    "checkpoints/quantised.py",
    "inference/generate.py",
    "inference/decode.py",
    "inference/vlm.py",
    "inference/streaming_text.py",
    "inference/tensor_parallel.py",
    "evaluation/asking.py",
)
SMALL_FILES = ("config.json", "tokenizer.json")  # beside the weights; the preprocessing has its own entry
SHOWN = 60  # characters of a setting in an error sentence
TASKS = ("chair", "pope")
DEEPEST = 20  # levels of a card; those written here have four
WHAT = {"task": str, "data, name": str, "data, fingerprint": str, "data, images": int}  # of a card that is compared


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
    """The card in JSON types. `task`: "chair" or "pope"; `batch`: most items in a batch. Raises `EvaluationError`."""
    if settings.temperature > 0 and settings.seed is None:
        raise EvaluationError("Sampled answers are others each time: give a seed (--seed), or temperature 0.")
    facts = {
        "task": task,
        "model": {"name": short_name(vlm.name), "files": weight_files(vlm)},
        "prompt": {"template": vlm.template, "text": written_out(vlm.template, items[0].question)},
        "picture": {**picture_settings(vlm), "in words": vlm.preprocessing.describe()},
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
            **({} if kind_of(vlm.model) is None else {"weights": kind_of(vlm.model)}),
        },
        "versions": {"minivlm": version, "code": code_fingerprint(), **versions()},
    }
    return json_types(facts)


def read_card(path: Path, complete: bool = False) -> dict[str, Any]:
    """The card in a file. `complete`: whether it must have what `WHAT` names. Raises `EvaluationError` for others."""
    card = read_json(path, OF_A_RUN)
    if not isinstance(card, dict) or not is_flat(card, DEEPEST):
        raise EvaluationError(f"'{path}' is no card of a run: groups of settings were expected. Run it anew.")
    entries = dict(flat(card))
    if complete and (wrong := [name for name, kind in WHAT.items() if type(entries.get(name)) is not kind]):
        raise EvaluationError(f"'{path}' is no card of a run: it does not say {', '.join(wrong)}. Run it anew.")
    if complete and entries["task"] not in TASKS:
        raise EvaluationError(
            f"'{path}' is the card of a task {shown(entries['task'])}; {' or '.join(TASKS)} expected."
        )
    return card


def is_flat(value: Any, levels: int) -> bool:
    """Whether a value in JSON types has at most so many levels of lists and objects within each other."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return levels >= 0 and all(is_flat(part, levels - 1) for part in inner)


def fingerprint(card: Mapping[str, Any]) -> str:
    """The sha256 of a whole card; equal if and only if there are no `differences`."""
    return digest(card)


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """The entries in which the cards of two runs differ, a sentence each; empty if the cards are equal."""
    before, now = dict(flat(old)), dict(flat(new))
    return [
        f"{name} was {shown(before.get(name))} and is now {shown(now.get(name))}."
        for name in dict.fromkeys([*before, *now])
        if name not in before or name not in now or before[name] != now[name]
    ]


def flat(card: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """The entries of a nested card with their full names, as in ("decoding, temperature", 0.0).

    An empty group is an entry too. `above`: the names of the groups around this one, each with ", " behind it.
    """
    for name, value in card.items():
        if isinstance(value, Mapping) and value:
            yield from flat(value, f"{above}{name}, ")
        else:
            yield above + name, value


def shown(value: Any) -> str:
    """A value of a card as JSON, cut after `SHOWN` characters; "absent" for None."""
    text = "absent" if value is None else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= SHOWN else text[:SHOWN] + "…"


# --- the parts ------------------------------------------------------------------------------------------------------


def written_out(template: str, question: str) -> str:
    """The whole prompt of a question as text, with <bos>, <eos> and <image> for special tokens and the picture."""
    return "".join(spelt(segment) for segment in TEMPLATES[template].segments([Turn(question, images=1)]))


def picture_settings(vlm: VLM) -> dict[str, Any]:
    """How pictures become pixels. The size of patches is left out: config.json, which is in the card, has it."""
    return {name: value for name, value in asdict(vlm.preprocessing).items() if name != "patch"}


def weight_files(vlm: VLM) -> dict[str, str]:
    """File name -> sha256, for every file that the model was loaded from; some seconds for every 10 GB.

    The files were just read, so most of their bytes are still in memory; shards are hashed in parallel. A vision tower
    that was loaded from a separate file is hashed as tensors, under "vision tower". Raises `EvaluationError` for a
    model that was not loaded from files.
    """
    if vlm.report is None:
        raise EvaluationError(
            f"{vlm.name} was not loaded from files, so a run could not say which weights it measured. "
            "Save the model and load it."
        )
    folder = Path(vlm.report.path)
    paths = [folder / name for name in (*SMALL_FILES, *vlm.report.shards)]
    with ThreadPoolExecutor() as pool:
        digests = dict(zip((path.name for path in paths), pool.map(weight_digest, paths), strict=True))
    if any("(vision tower)" in group.shards for group in vlm.report.groups):
        digests["vision tower"] = tower_digest(vlm)
    return digests


def weight_digest(path: Path) -> str:
    """The sha256 of one of the model's files. Raises `EvaluationError` if it can no longer be read."""
    try:
        return file_digest(path)
    except OSError as cause:
        raise EvaluationError(f"'{path}' cannot be read for the card: {cause.strerror or cause}.") from cause


def tower_digest(vlm: VLM) -> str:
    """The sha256 of the vision tower's tensors and their names, as loaded, in fp64."""
    total = hashlib.sha256()
    for name, tensor in sorted(vlm.model.vision.state_dict().items()):
        total.update(name.encode())
        total.update(tensor.detach().cpu().double().numpy().tobytes())
    return total.hexdigest()


def code_fingerprint() -> str:
    """The sha256 of the sources in `CODE`: with a changed EAH, a run cannot be resumed."""
    package = Path(__file__).resolve().parents[1]
    sources = [(file.relative_to(package).as_posix(), file.read_bytes()) for file in code_files(package, CODE)]
    return digest([[name, hashlib.sha256(source).hexdigest()] for name, source in sources])


def code_files(package: Path, names: Sequence[str]) -> list[Path]:
    """The source files that `names` stand for, sorted; a name is a file or a folder of `package`.

    Raises `EvaluationError` for a missing one: otherwise a file that was moved would drop out of the fingerprint.
    """
    sources: list[Path] = []
    for name in names:
        place = package / name
        files = [*place.glob("*.py")] if place.is_dir() else [place]
        if not files or not all(file.is_file() for file in files):
            raise EvaluationError(
                f"The card of a run counts {name!r} among the code of an answer, but {package} has no such source. "
                "Was it moved? Give its new place in CODE of evaluation/card.py; otherwise install minivlm again."
            )
        sources += files
    return sorted(sources)


def versions() -> dict[str, str]:
    """The installed version of each of `LIBRARIES`."""
    return {name: metadata.version(name) for name in LIBRARIES}
