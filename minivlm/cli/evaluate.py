"""The command `minivlm evaluate`: measure what a model invents (CHAIR) and affirms (POPE). See `score.py`, too.

    torchrun --nproc-per-node 8 -m minivlm evaluate chair --data coco:DIR --model NAME --out RUN

splits the work over eight devices; without torchrun the same command does all of it by itself.
"""

from __future__ import annotations

import argparse
from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from minivlm import __version__
from minivlm.cli import arguments
from minivlm.cli.options import generation, load_vlm, retyped
from minivlm.cli.score import compare, score_chair, score_pope
from minivlm.cli.terminal import print_json, remark
from minivlm.errors import EvaluationError
from minivlm.evaluation.settings import UsageError, method
from minivlm.files import write_text

if TYPE_CHECKING:
    from minivlm.evaluation.datasets import Dataset
    from minivlm.evaluation.items import Item
    from minivlm.evaluation.ranks import Ranks
    from minivlm.inference.vlm import VLM
    from minivlm.model import Mitigation

FAILED = 1
LONGEST = {"chair": 512, "pope": 10}  # tokens of an answer, as in the published runs
REPORT = "report.html"
DATA = ("data", "images", "ids", "synonyms", "limit", "question", "questions", "split", "suffix")
ASKED = ("method", "eah", "clva", "batch", "max_new_tokens", "temperature", "top_k", "top_p", "seed")
ASKED += ("dtype", "template", "image_mode")
DEFAULTS = {"split": "random,popular,adversarial", "suffix": "", "batch": 16}  # of options


def evaluate(args: Namespace) -> None:
    """measure hallucination with CHAIR and POPE, compare runs, score what others wrote"""


# --- running --------------------------------------------------------------------------------------------------------


def chair(args: Namespace) -> int | None:
    """let a model describe pictures, and count the objects that are not there"""
    return _measure(args, {"chair": Path(args.out)})


def pope(args: Namespace) -> int | None:
    """ask a model whether objects are there, and count its wrong answers"""
    return _measure(args, {"pope": Path(args.out)})


def both(args: Namespace) -> int | None:
    """chair and pope one after the other, in two folders below RUN"""
    return _measure(args, {task: Path(args.out) / task for task in ("chair", "pope")})


def _measure(args: Namespace, folders: Mapping[str, Path]) -> int | None:
    """Run each task in its folder and tell what was found; FAILED if pictures are missing that should not be."""
    from minivlm.evaluation import ranks, table
    from minivlm.evaluation.runner import require_free
    from minivlm.experiments.model_card import require_card, require_same_model, write_evaluation

    chosen, settings, card = _methods(args), generation(args), args.card and Path(args.card).expanduser()
    if card:
        require_card(card)
    dataset = _dataset(args)
    items = {task: _items(args, task, dataset) for task in folders}
    with ranks.joined(args.tensor_parallel) as place:
        for out in folders.values() if place.first else ():
            require_free(out, args.resume)  # before anything is loaded, and of all tasks
        vlm = _placed(args)
        if card:
            require_same_model(card, vlm)
        asked = {"vlm": vlm, "dataset": dataset, "chosen": chosen, "settings": settings, "place": place}
        found = {task: _run(args, task, out, items[task], **asked) for task, out in folders.items()}
    if not place.first:
        return None
    if card:
        write_evaluation(card, found, f"minivlm evaluate all{_retyped(args)}")
    print_json(found) if args.json else print("\n\n".join(map(table.as_text, found.values())))
    missing = {image for summary in found.values() for image, _ in summary["missing"]}
    if missing:
        remark(f"minivlm: {len(missing)} pictures could not be read and are left out of all figures.")
    return FAILED if missing and not args.allow_missing else None


def _run(
    args: Namespace,
    task: str,
    out: Path,
    items: Sequence[Item],
    *,
    vlm: VLM,
    dataset: Dataset,
    chosen: Mapping[str, Mitigation],
    settings: Mapping,
    place: Ranks,
) -> dict | None:
    """One task: its summary, in the first process."""
    from minivlm.evaluation.asking import Asker
    from minivlm.evaluation.card import card
    from minivlm.evaluation.report import report
    from minivlm.evaluation.runner import run
    from minivlm.inference.generate import Generation

    asker = Asker(vlm, Generation(**{"max_new_tokens": LONGEST[task]} | settings), chosen)
    computing = {"batch": args.batch, "tensor_parallel": args.tensor_parallel}
    about = card(task, vlm, asker.settings, chosen, dataset, items, **computing, version=__version__)
    try:
        found = run(asker, dataset, items, about, out, resume=args.resume, ranks=place)
    except KeyboardInterrupt:
        remark(f"\nminivlm: What was answered is kept in {out}; the same command with --resume goes on.")
        raise
    if place.first:
        write_text(out / REPORT, report(out, dataset, items))
        remark(f"minivlm: {out / REPORT}")
    return found


def _methods(args: Namespace) -> dict[str, Mitigation]:
    """The methods of the list, with the settings that were given."""
    from minivlm.evaluation.methods import methods
    from minivlm.model import CLVA, EAH

    kinds = {"eah": EAH, "clva": CLVA}
    own = {name: method(kind, text) for name, kind in kinds.items() if (text := getattr(args, name)) is not None}
    try:
        return methods([name.strip() for name in args.method.split(",")], **own)
    except EvaluationError as error:
        raise UsageError(str(error)) from error


def _dataset(args: Namespace) -> Dataset:
    from minivlm.evaluation.datasets import open_dataset

    files = args.questions.split(",") if args.questions else ()
    how = {"images": args.images, "ids": args.ids, "synonyms": args.synonyms, "questions": files}
    return open_dataset(args.data, **how).limited(args.limit)


def _items(args: Namespace, task: str, dataset: Dataset) -> list[Item]:
    """What is asked; `--suffix` stands behind every yes-no question."""
    from minivlm.evaluation.items import chair_items, pope_items

    if task == "chair":
        return chair_items(dataset, args.question or "")
    items = pope_items(dataset, [split.strip() for split in args.split.split(",")])
    return [replace(item, question=f"{item.question} {args.suffix}") for item in items] if args.suffix else items


def _placed(args: Namespace) -> VLM:
    """The model on this process's own device, or, with --tensor-parallel, this process's part of it."""
    from minivlm.inference.load import own_device

    if args.tensor_parallel > 1:
        return _split(args)
    args.device = own_device(args.device)
    return load_vlm(args)


def _split(args: Namespace) -> VLM:
    """Loaded on the CPU, where it stays in its files, and then split over the group of neighbours."""
    from minivlm.inference.tensor_parallel import split, tensor_mesh

    group = tensor_mesh(args.tensor_parallel, args.device)
    args.device = "cpu"
    vlm = load_vlm(args, bound_for=group.device)
    split(vlm.model, group.mesh)
    return vlm


def _retyped(args: Namespace) -> str:
    """The options that decide the figures of a model, as one would type them again."""
    kept = Namespace(**{name: None if value == DEFAULTS.get(name) else value for name, value in vars(args).items()})
    return retyped(kept, *DATA, *ASKED)


# --- what can be typed ----------------------------------------------------------------------------------------------


SPEC = "coco:DIR (a folder of COCO), scenes:SEED (drawn, see minivlm.evaluation.scenes) or a file (…evaluation.listing)"
NAMES = "plain, eah, clva, both, a control such as clva-shuffled-anchor, or a group of them: methods, controls, all"


def add_options(parser: argparse.ArgumentParser) -> None:
    """The tasks, each with its options and, as `run`, its function."""
    tasks = parser.add_subparsers(dest="task", metavar="TASK", required=True)
    for name, (run, add) in TASKS.items():
        summary = (run.__doc__ or "").partition("\n")[0]
        task = tasks.add_parser(name, help=summary, description=summary)
        task.set_defaults(run=run)
        arguments.debug(task, default=argparse.SUPPRESS)
        add(task)


def _chair(parser: argparse.ArgumentParser) -> None:
    _data(parser)
    _question(parser)
    _run_options(parser)


def _pope(parser: argparse.ArgumentParser) -> None:
    _data(parser)
    _yes_no(parser)
    _run_options(parser)


def _both(parser: argparse.ArgumentParser) -> None:
    _data(parser)
    _question(parser)
    _yes_no(parser)
    _run_options(parser)
    card = "write what was found into the card of the model in this folder, which was trained by minivlm"
    parser.add_argument("--card", metavar="FOLDER", help=card)


def _data(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("data")
    group.add_argument("--data", required=True, metavar="SPEC", help=SPEC)
    group.add_argument("--images", metavar="DIR", help="the folder of the pictures, if it is an unusual one")
    group.add_argument("--ids", metavar="FILE", help="take these images: one id a line, or any file that names them")
    words = "words of the objects, in the format of the original CHAIR program (default: our own)"
    group.add_argument("--synonyms", metavar="FILE", help=words)
    group.add_argument("--limit", type=arguments.whole(1), metavar="N", help="take the first N images (default: all)")
    parser.set_defaults(question=None, questions=None, split="", suffix="", card=None)


def _question(parser: argparse.ArgumentParser) -> None:
    text = "what is asked about every picture (default: COCO's usual question, or the toy world's)"
    parser.add_argument("--question", metavar="TEXT", help=text)


def _yes_no(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--questions", metavar="FILES", help="question files of POPE, with commas (default: made anew)")
    splits = "of the questions that are made anew (default: random,popular,adversarial)"
    parser.add_argument("--split", default="random,popular,adversarial", metavar="LIST", help=splits)
    suffix = 'stands behind every question, such as "Please answer this question with one word."'
    parser.add_argument("--suffix", default="", metavar="TEXT", help=suffix)


def _run_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("run")
    group.add_argument("--out", required=True, metavar="RUN", help="the folder of the results")
    group.add_argument(
        "--resume", action="store_true", help="go on with the run in RUN, if all that decides it is equal"
    )
    group.add_argument("--method", default="plain", metavar="LIST", help=f"{NAMES} (default: plain)")
    arguments.methods(group)
    group.add_argument("--batch", type=arguments.whole(1), default=16, metavar="B", help="asked at once (default: 16)")
    split = "split the weights over N processes of torchrun"
    group.add_argument("--tensor-parallel", type=arguments.whole(1), default=1, metavar="N", help=split)
    missing = "pictures that cannot be read are counted, but are no failure"
    group.add_argument("--allow-missing", action="store_true", help=missing)
    arguments.generation(parser, "512 for captions, 10 for yes or no")
    arguments.model(parser)
    arguments.as_json(parser)


def _compare(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", nargs="+", metavar="RUN")
    arguments.as_json(parser)


def _score(parser: argparse.ArgumentParser) -> None:
    kinds = parser.add_subparsers(dest="kind", metavar="KIND", required=True)
    captions = kinds.add_parser("chair", help=score_chair.__doc__, description=score_chair.__doc__)
    captions.set_defaults(run=score_chair)
    captions.add_argument("file", metavar="FILE", help="JSON lines with image_id and caption")
    captions.add_argument("--truth", required=True, metavar="OBJECTS.json", help="{image id: [names of its objects]}")
    captions.add_argument("--synonyms", metavar="FILE", help="words of the objects (default: our own)")
    answers = kinds.add_parser("pope", help=score_pope.__doc__, description=score_pope.__doc__)
    answers.set_defaults(run=score_pope)
    answers.add_argument("file", metavar="FILE", help="JSON lines with question_id and answer")
    answers.add_argument("--questions", required=True, metavar="FILE", help="a question file of POPE")
    for kind in (captions, answers):
        arguments.debug(kind, default=argparse.SUPPRESS)
        arguments.as_json(kind)


def score() -> None:
    """score what any other program wrote: captions or answers"""


TASKS = {
    "chair": (chair, _chair),
    "pope": (pope, _pope),
    "all": (both, _both),
    "compare": (compare, _compare),
    "score": (score, _score),
}
