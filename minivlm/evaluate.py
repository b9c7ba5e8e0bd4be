"""The command `minivlm evaluate`: measure what a model invents (CHAIR) and affirms (POPE), compare runs, score others.

    torchrun --nproc-per-node 8 -m minivlm evaluate chair --data coco:DIR --model NAME --out RUN

splits the work over eight devices; without torchrun the same command does all of it by itself. The options are in
`evaluate_options.py`.
"""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from minivlm import __version__
from minivlm.errors import EvaluationError
from minivlm.options import UsageError, generation, load_vlm, method, retyped
from minivlm.terminal import print_json, remark

if TYPE_CHECKING:
    from minivlm.evaluation.datasets import Dataset
    from minivlm.evaluation.items import Item
    from minivlm.evaluation.ranks import Ranks
    from minivlm.model import Mitigation
    from minivlm.stats import Ratio
    from minivlm.vlm import VLM

FAILED = 1
LONGEST = {"chair": 512, "pope": 10}  # tokens of an answer, as in the published runs
REPORT = "report.html"


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
    from minivlm.model_card import require_card

    chosen, settings = _methods(args), generation(args)
    if args.card:
        require_card(Path(args.card).expanduser())
    dataset = _dataset(args)
    with ranks.joined(args.tensor_parallel) as place:
        vlm = _placed(args, place)
        found = {task: _run(args, task, out, vlm, dataset, chosen, settings, place) for task, out in folders.items()}
    if not place.first:
        return None
    if args.card:
        _into_card(args, found)
    print_json(found) if args.json else print("\n\n".join(map(table.as_text, found.values())))
    missing = {image for summary in found.values() for image, _ in summary["missing"]}
    if missing:
        remark(f"minivlm: {len(missing)} pictures could not be read and are left out of all figures.")
    return FAILED if missing and not args.allow_missing else None


def _run(
    args: Namespace,
    task: str,
    out: Path,
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
    from minivlm.generate import Generation

    items = _items(args, task, dataset)
    asker = Asker(vlm, Generation(**{"max_new_tokens": LONGEST[task]} | settings), chosen)
    computing = {"batch": args.batch, "tensor_parallel": args.tensor_parallel}
    about = card(task, vlm, asker.settings, chosen, dataset, items, **computing, version=__version__)
    try:
        found = run(asker, dataset, items, about, out, resume=args.resume, ranks=place)
    except KeyboardInterrupt:
        remark(f"\nminivlm: What was answered is kept in {out}; the same command with --resume goes on.")
        raise
    if place.first:
        (out / REPORT).write_text(report(out, dataset, items), encoding="utf-8")
        remark(f"minivlm: {out / REPORT}")
    return found


def _methods(args: Namespace) -> dict[str, Mitigation]:
    """The methods of the list, with the settings that were given."""
    from minivlm.evaluation.methods import methods
    from minivlm.model import CLVA, EAH

    kinds = {"eah": EAH, "clva": CLVA}
    own = {name: method(kind, text) for name, kind in kinds.items() if (text := getattr(args, name)) is not None}
    try:
        return methods(args.method.split(","), **own)
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
    items = pope_items(dataset, args.split.split(","))
    return [replace(item, question=f"{item.question} {args.suffix}") for item in items] if args.suffix else items


def _placed(args: Namespace, place: Ranks) -> VLM:
    """The model on this process's own device, or, with --tensor-parallel, this process's part of it."""
    import torch

    if args.tensor_parallel > 1:
        return _split(args)
    local = os.environ.get("LOCAL_RANK")
    if local is not None and place.world > 1 and args.device in (None, "cuda"):
        args.device = f"cuda:{local}" if torch.cuda.is_available() else "cpu"
    return load_vlm(args)


def _split(args: Namespace) -> VLM:
    """Loaded on the CPU, where it stays in its files, and then split over the group of neighbours."""
    from minivlm.parallel import split, tensor_mesh

    group = tensor_mesh(args.tensor_parallel, args.device)
    args.device = "cpu"
    vlm = load_vlm(args, bound_for=group.device)
    split(vlm.model, group.mesh)
    return vlm


def _into_card(args: Namespace, found: Mapping[str, dict]) -> None:
    """Beside the model's weights, with the command that makes it again."""
    from minivlm.model_card import write_evaluation

    asked = retyped(args, "data", "limit", "method", "eah", "clva", "batch", "dtype")
    write_evaluation(Path(args.card).expanduser(), found, f"minivlm evaluate all{asked}")


# --- comparing and scoring ------------------------------------------------------------------------------------------


def compare(args: Namespace) -> None:
    """put runs side by side; runs on different data are refused"""
    from minivlm.evaluation.compare import as_text
    from minivlm.evaluation.compare import compare as compared

    found = compared([Path(run) for run in args.runs])
    print_json(found) if args.json else print(as_text(found))


def score_chair(args: Namespace) -> None:
    """score captions that any program wrote"""
    from minivlm.evaluation.chair import chair as figures
    from minivlm.evaluation.chair import judge, read_captions
    from minivlm.evaluation.lexicon import Lexicon, coco_lexicon
    from minivlm.evaluation.truth import objects_file

    lexicon = Lexicon.from_file(Path(args.synonyms)) if args.synonyms else coco_lexicon()
    captions, truth = read_captions(Path(args.file)), objects_file(Path(args.truth), lexicon)
    if unknown := [image for image in captions if image not in truth]:
        raise EvaluationError(
            f"{len(unknown)} of {len(captions)} captions are of images that '{args.truth}' does not know, such as "
            f"{unknown[0]!r}. Give the objects of every image, an empty list where there are none."
        )
    ratios = figures([judge(text, truth[image], lexicon) for image, text in captions.items()])
    _tell_scores(args, {"captions": len(captions), "words of": lexicon.name}, ratios)


def score_pope(args: Namespace) -> None:
    """score yes-no answers that any program gave"""
    from minivlm.evaluation.pope import PARSERS, read_answers, read_questions, score_answers, unreadable

    questions, answers = read_questions(args.questions), read_answers(args.file)
    ratios = {parser: score_answers(questions, answers, parser) for parser in PARSERS}
    other = {name: float(ratio.value) for name, ratio in ratios["first word"].items()}
    about = {"questions": len(questions), "unreadable": sum(map(unreadable, answers.values())), "first word": other}
    _tell_scores(args, about, ratios["original"])


def _tell_scores(args: Namespace, about: Mapping, ratios: Mapping[str, Ratio]) -> None:
    """The figures as fractions, each with its interval from the bootstrap over images."""
    from minivlm.stats import estimate, resamples

    times = resamples(len(next(iter(ratios.values())).part))
    found = {name: estimate(ratio, times).as_dict() for name, ratio in ratios.items()}
    if args.json:
        intervals = {name: [one["low"], one["high"]] for name, one in found.items()}
        print_json({**{name: one["value"] for name, one in found.items()}, **about, "intervals": intervals})
        return
    for name, one in found.items():
        print(f"{name:10}{one['value']:9.4f}   95 % interval {one['low']:.4f} to {one['high']:.4f}")
    for name, told in about.items():
        shown = ", ".join(f"{key} {value:.4f}" for key, value in told.items()) if isinstance(told, dict) else told
        print(f"{name:10} {shown}")
