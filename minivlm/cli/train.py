"""What the commands do that make models and measure them: make-random, train, exam, bench.

torch is imported inside the commands, so that `minivlm --help` answers at once.
"""

from __future__ import annotations

import shutil
import tempfile
from argparse import Namespace
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from minivlm import __version__
from minivlm.cli.options import load_vlm
from minivlm.cli.terminal import print_json, remark
from minivlm.errors import CheckpointError
from minivlm.evaluation.settings import method

if TYPE_CHECKING:
    from minivlm.model import LlavaConfig

ANATOMY_SCENES = 200  # of those that the methods are tried on: the curves need no more
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "generation_config.json")


def make_random(args: Namespace) -> None:
    """write a checkpoint with random weights, to test your hardware without real ones"""
    from minivlm.checkpoints.devices import DTYPES
    from minivlm.checkpoints.maker import make_random_checkpoint

    config = _config_like(args.like)
    files = [] if args.tokenizer is None else _tokenizer_files(Path(args.tokenizer).expanduser(), config)
    folder = make_random_checkpoint(args.folder, config, dtype=DTYPES[args.dtype], seed=args.seed)
    for file in files:
        shutil.copy(file, folder)
    print(folder)


def train(args: Namespace) -> None:
    """make the small model anew, from nothing"""
    from minivlm.checkpoints.devices import default_device, parse_device
    from minivlm.toyworld.world import TRAINING
    from minivlm.training.recipe import Recipe
    from minivlm.training.train import train

    folder = _writable(args.out)
    if any(folder.glob("*.safetensors")):
        raise CheckpointError(f"{folder} holds weights already; give another folder with --out, or move it away.")
    device = parse_device(args.device or default_device())
    recipe = replace(Recipe.quick() if args.quick else Recipe(), seed=args.seed)
    train(folder, recipe, TRAINING, str(device))
    print(folder)
    remark(f"Try it: minivlm demo --model {folder}")


def exam(args: Namespace) -> None:
    """measure how much a model sees and how much it invents, on new scenes"""
    from minivlm.checkpoints.save import write_json
    from minivlm.experiments import card, methods_card
    from minivlm.experiments.conditions import run
    from minivlm.experiments.exam import card_file, examine
    from minivlm.experiments.figures import card_figures
    from minivlm.experiments.layers import anatomy
    from minivlm.experiments.model_card import write_card
    from minivlm.toyworld.world import SUBSTITUTIONS

    out = _writable(args.out) if args.out else None
    vlm = load_vlm(args)
    trained = (Path(vlm.report.path) / "training.json").is_file()
    readme = card_file(out) if out and trained else None  # only what was trained here has the whole card
    if args.methods:
        few = min(args.scenes, ANATOMY_SCENES)
        elsewhere = run(vlm, args.scenes, world=SUBSTITUTIONS, yes_no=0, tuning=few // 2)
        found = {"methods": run(vlm, args.scenes), "substitutions": elsewhere, "anatomy": anatomy(vlm, few)}
        found |= {"claims": {}, "figures": {}}
        if out:
            found["figures"] = card_figures(vlm, out / "figures", few)
        told = methods_card.sections(found)
    else:
        found = {"minivlm": __version__, **examine(vlm, args.scenes)}
        tables = (card.captions(found), card.invented(found["invented"]), card.pope(found["pope"]))
        told = "\n".join((*tables, card.skills(found["skills"])))
    if out:
        write_json(out / ("methods.json" if args.methods else "exam.json"), found)
    if readme:
        write_card(readme.parent, Path(vlm.report.path))
    print_json(found) if args.json else print(told, end="")


def bench(args: Namespace) -> None:
    """measure what EAH, CLVA and a trace cost, as ratios to plain in one run"""
    from minivlm.experiments import bench
    from minivlm.model import CLVA, EAH

    given = {"eah": EAH, "clva": CLVA}
    settings = {name: method(kind, text) for name, kind in given.items() if (text := getattr(args, name)) is not None}
    how = {"prompt": args.prompt, "new": args.new, "repeats": args.repeats, **settings}
    facts = bench.measure(load_vlm(args), args.methods.split(","), **how)
    print_json(facts) if args.json else print(bench.as_text(facts))


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
