"""The commands that make models and measure what they see: make-random, train, exam.

torch is imported inside the commands, so that `minivlm --help` answers at once.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minivlm import __version__
from minivlm.cli.options import ModelRequest, Request, load_vlm
from minivlm.cli.outputs import writable_folder
from minivlm.cli.terminal import print_json, remark
from minivlm.errors import CheckpointError, ConfigError
from minivlm.files import path_of, replace_file, write_json

if TYPE_CHECKING:
    from minivlm.inference.vlm import VLM
    from minivlm.model import LlavaConfig

TRAINED = {  # what can be trained, usual folder
    "tiny": "weights/tiny-new",
    "planted-drift": "weights/drift-new",
    "planted-sinks": "weights/sinks-new",
}
TOKENIZER_FILES = (  # and what else it takes to ask a model
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "generation_config.json",
    "chat_template.jinja",
    "chat_template.json",
    "preprocessor_config.json",
    "processor_config.json",
)


@dataclass(frozen=True, kw_only=True)
class RandomRequest(Request):
    """The new checkpoint's folder, whose sizes it has, and a folder with tokenizer files (None: stand-ins for them)."""

    folder: str
    like: str = "llava-1.5-7b"
    dtype: str = "bfloat16"
    seed: int = 0
    tokenizer: str | None = None


@dataclass(frozen=True, kw_only=True)
class TrainRequest(Request):
    """What to train, one of `TRAINED`, and its folder (None: the usual one); `quick`: only a few steps of each stage;
    `strength`: of the planted drift (None: that of the recipe).
    """

    what: str = "tiny"
    out: str | None = None
    strength: float | None = None
    device: str | None = None
    quick: bool = False
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class ExamRequest(ModelRequest):
    """Scenes of each world (None: `SCENES`), a folder for files (None: none are written), and what to measure: captions
    and questions, or instead the `methods`, the `layers`, or the gates of a positive control against the model in the
    folder `healthy`.
    """

    scenes: int | None = None
    methods: bool = False
    layers: bool = False
    healthy: str | None = None
    out: str | None = None
    json: bool = False


def make_random(request: RandomRequest) -> None:
    """Write a checkpoint with random weights, and print its folder. Raises `CheckpointError` if it holds weights."""
    from minivlm.checkpoints.devices import DTYPES
    from minivlm.checkpoints.maker import make_random_checkpoint
    from minivlm.checkpoints.stand_in import make_random_model

    config = config_like(request.like)
    how: dict[str, Any] = {"dtype": DTYPES[request.dtype], "seed": request.seed}
    if request.tokenizer is None:
        print(make_random_model(path_of(request.folder), config, **how))
        return
    files = tokenizer_files(path_of(request.tokenizer), config)
    folder = make_random_checkpoint(path_of(request.folder), config, **how)
    for file in files:
        replace_file(folder / file.name, partial(shutil.copyfile, file))
    print(folder)


def train(request: TrainRequest) -> None:
    """Train the small model from nothing, or a positive control from it, and print where it is.

    Raises `CheckpointError` if the folder holds weights.
    """
    from minivlm.checkpoints.devices import default_device, parse_device

    if request.strength is not None and request.what != "planted-drift":
        raise ConfigError("--strength is that of a drift: write `minivlm train planted-drift --strength X`.")
    folder = writable_folder(request.out or TRAINED[request.what])
    if any(folder.rglob("*.safetensors")):
        raise CheckpointError(f"{folder} holds weights already; give another folder with --out, or move it away.")
    device = str(parse_device(request.device or default_device()))
    makers = {"tiny": train_tiny, "planted-drift": train_drift, "planted-sinks": train_sinks}
    made = makers[request.what](request, folder, device)
    print(made)
    remark(f"Try it: minivlm demo --model {made}")


def train_tiny(request: TrainRequest, folder: Path, device: str) -> Path:
    """Train the small model from nothing; returns its folder."""
    from minivlm.toyworld.world import TRAINING
    from minivlm.training.recipe import Recipe
    from minivlm.training.train import train

    train(folder, replace(Recipe.quick() if request.quick else Recipe(), seed=request.seed), TRAINING, device)
    return folder


def train_drift(request: TrainRequest, folder: Path, device: str) -> Path:
    """Train the healthy reader from the shipped model, then plant the drift; returns the folder of the second."""
    from minivlm.experiments.planted_card import write_cards
    from minivlm.inference.shipped import PLANTED, shipped_model
    from minivlm.toyworld.world import TRAINING
    from minivlm.training.planted_drift import plant_drift
    from minivlm.training.recipe import DriftRecipe

    recipe = replace(DriftRecipe.quick() if request.quick else DriftRecipe(), seed=request.seed)
    recipe = recipe if request.strength is None else replace(recipe, strength=request.strength)
    plant_drift(folder, shipped_model(), recipe, TRAINING, device)
    write_cards(folder)
    return folder / PLANTED


def train_sinks(request: TrainRequest, folder: Path, device: str) -> Path:
    """Train the healthy model from the shipped one, then lead its heads astray; returns the folder of the second."""
    from minivlm.experiments.planted_card import write_cards
    from minivlm.inference.shipped import PLANTED_SINKS, shipped_model
    from minivlm.toyworld.world import TRAINING
    from minivlm.training.planted_sinks import plant_sinks
    from minivlm.training.recipe import SinksRecipe

    recipe = replace(SinksRecipe.quick() if request.quick else SinksRecipe(), seed=request.seed)
    plant_sinks(folder, shipped_model(), recipe, TRAINING, device)
    write_cards(folder)
    return folder / PLANTED_SINKS


def exam(request: ExamRequest) -> None:
    """Measure a model on new scenes, print the tables, and write figures and the model's card into `out`."""
    kind = "methods" if request.methods else "layers" if request.layers else "gates" if request.healthy else "exam"
    out = writable_folder(request.out) if request.out else None
    vlm = load_vlm(request)
    write = card_writer(vlm, kind, out) if out else None
    if out and not write:
        remark(f"minivlm: {vlm.name} gets no card in {out}, since the record of its training is not beside it.")
    scenes = request.scenes or SCENES[kind]
    if request.healthy:
        figures, text = exam_gates(vlm, load_vlm(replace(request, model=request.healthy)), scenes)
    else:
        figures, text = EXAMS[kind](vlm, scenes, out)
    if out:
        write_json(out / f"{kind}.json", figures)
    if write:
        write(figures)
    print_json(figures) if request.json else print(text, end="")


def card_writer(vlm: VLM, kind: str, out: Path) -> Callable[[dict[str, Any]], None] | None:
    """What writes the model's card with the figures of an exam; None for a model that minivlm did not train.

    The card says how the model was trained, which a record beside the weights tells. Raises `EvaluationError` if a file
    of another kind would be overwritten.
    """
    from minivlm.checkpoints.checkpoint_report import PLANTING
    from minivlm.experiments import planted_card
    from minivlm.experiments.exam import card_file
    from minivlm.experiments.model_card import write_card

    folder = Path(vlm.report.path) if vlm.report else None
    if folder and kind == "gates" and (folder / PLANTING).is_file():
        card_file(out, planted_card.title(folder))
        return partial(planted_card.write_card, folder, out)
    if folder and kind != "gates" and (folder / "training.json").is_file():
        card_file(out)
        return lambda figures: write_card(out, folder)
    return None


def exam_captions(vlm: VLM, scenes: int, out: Path | None) -> tuple[dict[str, Any], str]:
    """Figures of captions and questions, in JSON types, and their tables as text; `out` gets no further files."""
    from minivlm.experiments import card
    from minivlm.experiments.exam import examine

    figures = {"minivlm": __version__, **examine(vlm, scenes)}
    tables = (card.captions(figures), card.invented(figures["invented"]), card.pope(figures["pope"]))
    return figures, "\n".join((*tables, card.skills(figures["skills"])))


def exam_methods(vlm: VLM, scenes: int, out: Path | None) -> tuple[dict[str, Any], str]:
    """Figures of EAH and CLVA with their controls, and their tables as text; `out` gets no further files."""
    from minivlm.experiments import conditions, methods_card

    figures = conditions.tables(vlm, scenes)
    return figures, methods_card.sections(figures)


def exam_layers(vlm: VLM, scenes: int, out: Path | None) -> tuple[dict[str, Any], str]:
    """Figures by layer, and their tables as text; the pictures of the curves go into `out`/figures."""
    from minivlm.experiments import layers, methods_card
    from minivlm.experiments.exam import draw
    from minivlm.toyworld.world import HELD_OUT

    if out:
        import minivlm.experiments.figures as plots  # needs matplotlib: if that is missing, fail before the work

    drawn = draw(HELD_OUT, scenes)
    traced = layers.traced_scenes(vlm, drawn, "traces")
    figures = layers.by_layer(vlm, drawn, traced)
    figures["figures"] = plots.card_figures(vlm, out / "figures", traced) if out else {}
    return figures, methods_card.by_layer(figures)


def exam_gates(planted: VLM, healthy: VLM, scenes: int) -> tuple[dict[str, Any], str]:
    """Figures of a positive control against the healthy model, and their tables as text.

    What was planted, the record beside the weights tells; without one, a drift is looked for.
    """
    from minivlm.experiments import drift_control, sinks_control
    from minivlm.experiments.planted_card import plants

    if plants(healthy):
        raise ConfigError(f"--healthy must name the healthy model of a pair, found {healthy.name}: exchange the two.")
    control = sinks_control if plants(planted) == "sinks" else drift_control
    figures = control.gates(healthy, planted, scenes)
    return figures, control.as_text(figures)


EXAMS = {"exam": exam_captions, "methods": exam_methods, "layers": exam_layers}
SCENES = {"exam": 1000, "methods": 1000, "gates": 1000, "layers": 200}  # by default, of each world


def config_like(like: str) -> LlavaConfig:
    """The config of a known size such as "llava-1.5-7b", or of the checkpoint in a folder."""
    from minivlm.checkpoints.configs import read_config
    from minivlm.checkpoints.maker import KNOWN_SIZES, known_config

    folder = path_of(like, ConfigError)
    return read_config(folder).config if like not in KNOWN_SIZES and folder.is_dir() else known_config(like)


def tokenizer_files(folder: Path, config: LlavaConfig) -> list[Path]:
    """The files in `folder` for words, pictures and turns. Raises a `MinivlmError` if the tokenizer does not fit."""
    from minivlm.inputs.tokenizer import Tokenizer

    rows = config.text_config.vocab_size
    Tokenizer.from_folder(folder, image_token_id=config.image_token_index, vocab_rows=rows)
    return [folder / name for name in TOKENIZER_FILES if (folder / name).is_file()]
