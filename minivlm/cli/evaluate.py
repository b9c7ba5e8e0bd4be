"""The command `minivlm evaluate`: measure what a model invents (CHAIR) and affirms (POPE). See `score.py`, too.

    torchrun --nproc-per-node 8 -m minivlm evaluate chair --data coco:DIR --model NAME --out RUN

splits the work over eight devices; without torchrun the same command does all of it by itself.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from minivlm import __version__
from minivlm.cli import arguments, score
from minivlm.cli.arguments import Command
from minivlm.cli.options import (
    AnswerRequest,
    MethodRequest,
    ModelRequest,
    Request,
    generation,
    load_vlm,
    method_settings,
    retyped,
)
from minivlm.cli.terminal import print_json, remark
from minivlm.errors import EvaluationError
from minivlm.evaluation.settings import CONTROLS, GROUPS, METHODS, PLAIN, UsageError
from minivlm.files import write_text
from minivlm.shell import FAILED, quoted

if TYPE_CHECKING:
    from minivlm.evaluation.datasets import Dataset
    from minivlm.evaluation.items import Item
    from minivlm.evaluation.ranks import Ranks
    from minivlm.inference.vlm import VLM
    from minivlm.model import Mitigation

LONGEST = {"chair": 512, "pope": 10}  # tokens of an answer, as in the published runs
REPORT = "report.html"
DATA = ("data", "images", "ids", "synonyms", "limit", "question", "questions", "split", "suffix")
ASKED = ("eah", "clva", "batch", "max_new_tokens", "temperature", "top_k", "top_p", "seed", "dtype", "template")
ASKED += ("image_mode",)


@dataclass(frozen=True, kw_only=True)
class RunRequest(ModelRequest, MethodRequest, AnswerRequest):
    """A run of `chair`, `pope` or `all`. What a task has no option for stays as it is here, and changes nothing."""

    data: str
    images: str | None = None
    ids: str | None = None
    synonyms: str | None = None
    limit: int | None = None
    question: str | None = None
    questions: str | None = None
    split: str = "random,popular,adversarial"
    suffix: str = ""
    out: str
    resume: bool = False
    method: str = PLAIN
    batch: int = 16
    tensor_parallel: int = 1
    allow_missing: bool = False
    card: str | None = None
    json: bool = False


def evaluate(request: Request) -> None:
    """measure hallucination with CHAIR and POPE, compare runs, score what others wrote"""


# --- running --------------------------------------------------------------------------------------------------------


def chair(request: RunRequest) -> int | None:
    """let a model describe pictures, and count the objects that are not there"""
    return _measure(request, {"chair": Path(request.out)})


def pope(request: RunRequest) -> int | None:
    """ask a model whether objects are there, and count its wrong answers"""
    return _measure(request, {"pope": Path(request.out)})


def both(request: RunRequest) -> int | None:
    """chair and pope one after the other, in two folders below RUN"""
    return _measure(request, {task: Path(request.out) / task for task in ("chair", "pope")})


def _measure(request: RunRequest, folders: Mapping[str, Path]) -> int | None:
    """Run each task in its folder and tell what was found; FAILED if pictures are missing that should not be."""
    from minivlm.evaluation import ranks, table
    from minivlm.evaluation.runner import require_free
    from minivlm.experiments.model_card import require_card, require_same_model, write_evaluation

    chosen, settings = _methods(request), generation(request)
    card = Path(request.card).expanduser() if request.card else None
    if card:
        require_card(card)
    dataset = _dataset(request)
    items = {task: _items(request, task, dataset) for task in folders}
    with ranks.joined(request.tensor_parallel) as place:
        for out in folders.values() if place.first else ():
            require_free(out, request.resume)  # before anything is loaded, and of all tasks
        vlm = _placed(request)
        if card:
            require_same_model(card, vlm)
        asked = {"vlm": vlm, "dataset": dataset, "chosen": chosen, "settings": settings, "place": place}
        found = {task: _run(request, task, out, items[task], **asked) for task, out in folders.items()}
    if not place.first:
        return None
    if card:
        write_evaluation(card, found, f"minivlm evaluate all{_retyped(request)}")
    print_json(found) if request.json else print("\n\n".join(map(table.as_text, found.values())))
    missing = {image for summary in found.values() for image, _ in summary["missing"]}
    if missing:
        remark(f"minivlm: {len(missing)} pictures could not be read and are left out of all figures.")
    return FAILED if missing and not request.allow_missing else None


def _run(
    request: RunRequest,
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
    computing = {"batch": request.batch, "tensor_parallel": request.tensor_parallel}
    about = card(task, vlm, asker.settings, chosen, dataset, items, **computing, version=__version__)
    try:
        found = run(asker, dataset, items, about, out, resume=request.resume, ranks=place)
    except KeyboardInterrupt:
        remark(f"\nminivlm: What was answered is kept in {out}; the same command with --resume goes on.")
        raise
    if place.first:
        write_text(out / REPORT, report(out, dataset, items))
        remark(f"minivlm: {out / REPORT}")
    return found


def _methods(request: RunRequest) -> dict[str, Mitigation]:
    """The methods of the list, with the settings that were given."""
    from minivlm.evaluation.methods import methods

    own = method_settings(request)
    try:
        return methods([name.strip() for name in request.method.split(",")], **own)
    except EvaluationError as error:
        raise UsageError(str(error)) from error


def _dataset(request: RunRequest) -> Dataset:
    from minivlm.evaluation.datasets import open_dataset

    files = request.questions.split(",") if request.questions else ()
    how = {"images": request.images, "ids": request.ids, "synonyms": request.synonyms, "questions": files}
    return open_dataset(request.data, **how).limited(request.limit)


def _items(request: RunRequest, task: str, dataset: Dataset) -> list[Item]:
    """What is asked; `--suffix` stands behind every yes-no question."""
    from minivlm.evaluation.items import chair_items, pope_items

    if task == "chair":
        return chair_items(dataset, request.question or "")
    items = pope_items(dataset, [split.strip() for split in request.split.split(",")])
    return [replace(item, question=f"{item.question} {request.suffix}") for item in items] if request.suffix else items


def _placed(request: RunRequest) -> VLM:
    """The model on this process's own device, or, with --tensor-parallel, this process's part of it."""
    from minivlm.inference.load import own_device

    if request.tensor_parallel > 1:
        return _split(request)
    return load_vlm(replace(request, device=own_device(request.device)))


def _split(request: RunRequest) -> VLM:
    """Loaded on the CPU, where it stays in its files, and then split over the group of neighbours."""
    from minivlm.inference.tensor_parallel import split, tensor_mesh

    group = tensor_mesh(request.tensor_parallel, request.device)
    vlm = load_vlm(replace(request, device="cpu"), bound_for=group.device)
    split(vlm.model, group.mesh)
    return vlm


def _retyped(request: RunRequest) -> str:
    """The options that decide the figures of a model, as one would type them again; its methods in any case."""
    return f"{retyped(request, *DATA)} --method {quoted(request.method)}{retyped(request, *ASKED)}"


# --- what can be typed ----------------------------------------------------------------------------------------------


SPEC = "coco:DIR (a folder of COCO), scenes:SEED (drawn, see minivlm.evaluation.scenes) or a file (…evaluation.listing)"
NAMES = f"{', '.join(METHODS)}, a control such as {CONTROLS[2]}, or a group of them: {', '.join(GROUPS)}"


def add_options(parser: argparse.ArgumentParser) -> None:
    """The tasks."""
    arguments.add_commands(parser.add_subparsers(dest="task", metavar="TASK", required=True), TASKS)


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


def _question(parser: argparse.ArgumentParser) -> None:
    text = "what is asked about every picture (default: COCO's usual question, or the toy world's)"
    parser.add_argument("--question", metavar="TEXT", help=text)


def _yes_no(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--questions", metavar="FILES", help="question files of POPE, with commas (default: made anew)")
    splits = f"of the questions that are made anew (default: {RunRequest.split})"
    parser.add_argument("--split", metavar="LIST", help=splits)
    suffix = 'stands behind every question, such as "Please answer this question with one word."'
    parser.add_argument("--suffix", metavar="TEXT", help=suffix)


def _run_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("run")
    group.add_argument("--out", required=True, metavar="RUN", help="the folder of the results")
    group.add_argument(
        "--resume", action="store_true", help="go on with the run in RUN, if all that decides it is equal"
    )
    group.add_argument("--method", metavar="LIST", help=f"{NAMES} (default: {RunRequest.method})")
    arguments.methods(group)
    batch = f"asked at once (default: {RunRequest.batch})"
    group.add_argument("--batch", type=arguments.whole(1), metavar="B", help=batch)
    split = "split the weights over N processes of torchrun"
    group.add_argument("--tensor-parallel", type=arguments.whole(1), metavar="N", help=split)
    missing = "pictures that cannot be read are counted, but are no failure"
    group.add_argument("--allow-missing", action="store_true", help=missing)
    arguments.generation(parser, "512 for captions, 10 for yes or no")
    arguments.model(parser)
    arguments.as_json(parser)


TASKS = {
    "chair": Command(chair, RunRequest, _chair),
    "pope": Command(pope, RunRequest, _pope),
    "all": Command(both, RunRequest, _both),
    "compare": Command(score.compare, score.CompareRequest, score.add_runs),
    "score": Command(score.score, Request, score.add_kinds),
}
