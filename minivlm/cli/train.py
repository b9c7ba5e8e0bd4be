"""What the commands do that make models and measure them: make-random, train, exam, bench.

torch is imported inside the commands, so that `minivlm --help` answers at once.
"""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from minivlm import __version__
from minivlm.cli.options import MethodRequest, ModelRequest, Request, load_vlm, method_settings
from minivlm.cli.terminal import print_json, remark
from minivlm.errors import CheckpointError
from minivlm.evaluation.settings import BENCHED

if TYPE_CHECKING:
    from minivlm.inference.vlm import VLM
    from minivlm.model import LlavaConfig

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "generation_config.json")


@dataclass(frozen=True, kw_only=True)
class RandomRequest(Request):
    """Where random weights are written, the size of the model, and the folder of its tokenizer's files."""

    folder: str
    like: str = "llava-1.5-7b"
    dtype: str = "bfloat16"
    seed: int = 0
    tokenizer: str | None = None


@dataclass(frozen=True, kw_only=True)
class TrainRequest(Request):
    """Where the trained model is written; `quick`: a few steps of each stage."""

    out: str = "weights/tiny-new"
    device: str | None = None
    quick: bool = False
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class ExamRequest(ModelRequest):
    """Scenes of each world (None: `SCENES`); `methods`: EAH and CLVA with their controls instead, `layers`: curves."""

    scenes: int | None = None
    methods: bool = False
    layers: bool = False
    out: str | None = None
    json: bool = False


@dataclass(frozen=True, kw_only=True)
class BenchRequest(ModelRequest, MethodRequest):
    """Tokens of the prompt (None: a short question) and of an answer, the methods with commas, and rounds."""

    prompt: int | None = None
    new: int = 16
    methods: str = ",".join(BENCHED)
    repeats: int = 5
    json: bool = False


def make_random(request: RandomRequest) -> None:
    """write a checkpoint with random weights, to test your hardware without real ones"""
    from minivlm.checkpoints.devices import DTYPES
    from minivlm.checkpoints.maker import make_random_checkpoint

    config = _config_like(request.like)
    files = [] if request.tokenizer is None else _tokenizer_files(Path(request.tokenizer).expanduser(), config)
    folder = make_random_checkpoint(request.folder, config, dtype=DTYPES[request.dtype], seed=request.seed)
    for file in files:
        shutil.copy(file, folder)
    print(folder)


def train(request: TrainRequest) -> None:
    """make the small model anew, from nothing"""
    from minivlm.checkpoints.devices import default_device, parse_device
    from minivlm.toyworld.world import TRAINING
    from minivlm.training.recipe import Recipe
    from minivlm.training.train import train

    folder = _writable(request.out)
    if any(folder.glob("*.safetensors")):
        raise CheckpointError(f"{folder} holds weights already; give another folder with --out, or move it away.")
    device = parse_device(request.device or default_device())
    recipe = replace(Recipe.quick() if request.quick else Recipe(), seed=request.seed)
    train(folder, recipe, TRAINING, str(device))
    print(folder)
    remark(f"Try it: minivlm demo --model {folder}")


def exam(request: ExamRequest) -> None:
    """measure how much a model sees and how much it invents, on new scenes"""
    from minivlm.checkpoints.save import write_json
    from minivlm.experiments.exam import card_file
    from minivlm.experiments.model_card import write_card

    kind = "methods" if request.methods else "layers" if request.layers else "exam"
    out = _writable(request.out) if request.out else None
    vlm = load_vlm(request)
    trained = (Path(vlm.report.path) / "training.json").is_file()
    readme = card_file(out) if out and trained else None  # only what was trained here has the whole card
    found, told = EXAMS[kind](vlm, request.scenes or SCENES[kind], out)
    if out:
        write_json(out / f"{kind}.json", found)
    if readme:
        write_card(readme.parent, Path(vlm.report.path))
    print_json(found) if request.json else print(told, end="")


def _examined(vlm: VLM, scenes: int, out: Path | None) -> tuple[dict, str]:
    from minivlm.experiments import card
    from minivlm.experiments.exam import examine

    found = {"minivlm": __version__, **examine(vlm, scenes)}
    tables = (card.captions(found), card.invented(found["invented"]), card.pope(found["pope"]))
    return found, "\n".join((*tables, card.skills(found["skills"])))


def _methods(vlm: VLM, scenes: int, out: Path | None) -> tuple[dict, str]:
    from minivlm.experiments import conditions, methods_card

    found = conditions.tables(vlm, scenes)
    return found, methods_card.sections(found)


def _layers(vlm: VLM, scenes: int, out: Path | None) -> tuple[dict, str]:
    """The figures go into a folder of `out`."""
    from minivlm.experiments import layers, methods_card
    from minivlm.experiments.exam import draw
    from minivlm.toyworld.world import HELD_OUT

    figures = None
    if out:
        from minivlm.experiments import figures  # needs matplotlib: said before the work

    drawn = draw(HELD_OUT, scenes)
    traced = layers.traced_scenes(vlm, drawn, "traces")
    found = layers.by_layer(vlm, drawn, traced)
    found["figures"] = figures.card_figures(vlm, out / "figures", traced) if figures else {}
    return found, methods_card.by_layer(found)


EXAMS = {"exam": _examined, "methods": _methods, "layers": _layers}
SCENES = {"exam": 1000, "methods": 1000, "layers": 200}  # curves need no more


def bench(request: BenchRequest) -> None:
    """measure what EAH, CLVA and a trace cost, as ratios to plain in one run"""
    from minivlm.experiments import bench

    how = {"prompt": request.prompt, "new": request.new, "repeats": request.repeats, **method_settings(request)}
    facts = bench.measure(load_vlm(request), request.methods.split(","), **how)
    print_json(facts) if request.json else print(bench.as_text(facts))


def _config_like(like: str) -> LlavaConfig:
    from minivlm.checkpoints.configs import read_config
    from minivlm.checkpoints.maker import KNOWN_SIZES, known_config

    folder = Path(like).expanduser()
    return read_config(folder).config if like not in KNOWN_SIZES and folder.is_dir() else known_config(like)


def _tokenizer_files(folder: Path, config: LlavaConfig) -> list[Path]:
    """The tokenizer's files in `folder`, once it is known to fit the model."""
    from minivlm.inputs.tokenizer import Tokenizer

    rows = config.text_config.vocab_size
    Tokenizer.from_folder(folder, image_token_id=config.image_token_index, vocab_rows=rows)
    return [folder / name for name in TOKENIZER_FILES if (folder / name).is_file()]


def _writable(path: str) -> Path:
    """The folder, made if need be, once a file could be written there: an hour's work must not end with an error."""
    folder = Path(path).expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    tempfile.TemporaryFile(dir=folder).close()
    return folder
