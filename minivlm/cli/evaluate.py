"""The command `minivlm evaluate`: which objects a model invents (CHAIR), and which it affirms (POPE).

    torchrun --nproc-per-node 8 -m minivlm evaluate chair --data coco:DIR --model NAME --out RUN

splits the work over eight devices; without torchrun, one process does all of it. Tasks without a model: `score.py`.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from minivlm import __version__
from minivlm.cli import arguments, score
from minivlm.cli.arguments import Command
from minivlm.cli.options import (
    AnswerRequest,
    MethodRequest,
    ModelRequest,
    Request,
    generation,
    load_on_device,
    method_settings,
    retyped,
)
from minivlm.cli.terminal import print_json, remark
from minivlm.errors import EvaluationError
from minivlm.evaluation.settings import CONTROLS, GROUPS, METHODS, PLAIN, UsageError
from minivlm.files import path_of, write_text
from minivlm.shell import FAILED, quoted

if TYPE_CHECKING:
    from pathlib import Path

    from minivlm.evaluation.datasets import Dataset
    from minivlm.evaluation.items import Item
    from minivlm.evaluation.ranks import Ranks
    from minivlm.inference.vlm import VLM
    from minivlm.model import Mitigation

LONGEST = {"chair": 512, "pope": 10}  # tokens of an answer, as in the published runs
REPORT = "report.html"
SPLITS = "random,popular,adversarial"
# The options that decide the figures of a model: those of the data and those of the answers.
DATA = ("data", "images", "ids", "synonyms", "limit", "question", "questions", "split", "suffix")
ANSWERS = (
    *("eah", "clva", "batch", "max_new_tokens", "temperature", "top_k", "top_p", "seed"),
    *("stop", "dtype", "template", "image_mode", "weights"),
)


@dataclass(frozen=True, kw_only=True)
class RunRequest(ModelRequest, MethodRequest, AnswerRequest):
    """A run of `chair`, `pope` or `all`. Fields for which a task has no option keep their default, without effect."""

    data: str
    images: str | None = None
    ids: str | None = None
    synonyms: str | None = None
    limit: int | None = None
    question: str | None = None
    questions: str | None = None
    split: str | None = None
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
    """Nothing: argparse demands one of `TASKS`, whose function runs instead."""


# --- running --------------------------------------------------------------------------------------------------------


def chair(request: RunRequest) -> int | None:
    """Let a model describe pictures, and print CHAIR's figures; see `measure` for the exit code."""
    return measure(request, {"chair": "."})


def pope(request: RunRequest) -> int | None:
    """Ask a model yes-no questions, and print POPE's figures; see `measure` for the exit code."""
    return measure(request, {"pope": "."})


def both(request: RunRequest) -> int | None:
    """Do both, one after the other, in two folders below RUN; see `measure` for the exit code."""
    return measure(request, {"chair": "chair", "pope": "pope"})


@dataclass(frozen=True)
class Run:
    """What the tasks of one command share."""

    vlm: VLM
    dataset: Dataset
    methods: Mapping[str, Mitigation]
    settings: Mapping[str, Any]  # of the answers: arguments of `Generation`
    ranks: Ranks


def measure(request: RunRequest, below: Mapping[str, str]) -> int | None:
    """Run each task in its folder, and print the figures. FAILED if pictures are missing without --allow-missing.

    `below`: task -> its folder below RUN. Under torchrun every process does a part, and the first one prints.
    """
    from minivlm.evaluation import ranks, table
    from minivlm.evaluation.runner import CARD, require_free
    from minivlm.experiments.model_card import require_card, require_same_model, write_evaluation

    methods, settings = chosen_methods(request), generation(request)
    card = path_of(request.card, EvaluationError) if request.card else None
    folders = {task: path_of(request.out, EvaluationError) / name for task, name in below.items()}
    if card:
        require_card(card)
    dataset = requested_dataset(request)
    items = {task: task_items(request, task, dataset) for task in folders}
    with ranks.joined(request.tensor_parallel) as place:
        for out in folders.values() if place.first else ():
            require_free(out, request.resume)  # of all tasks, before anything is loaded
        if request.resume and place.first and not any((out / CARD).exists() for out in folders.values()):
            remark(f"minivlm: There is no run in {request.out} yet that --resume could go on with: a new one begins.")
        vlm = load_on_device(request, request.tensor_parallel)
        if card:
            require_same_model(card, vlm)
        shared = Run(vlm, dataset, methods, settings, place)
        summaries = [run_task(request, task, out, items[task], shared) for task, out in folders.items()]
    by_task = {task: summary for task, summary in zip(folders, summaries, strict=True) if summary is not None}
    if not place.first:
        return None
    if card:
        write_evaluation(card, by_task, f"minivlm evaluate all{retyped_run(request)}")
    print_json(by_task) if request.json else print("\n\n".join(map(table.as_text, by_task.values())))
    missing = {image for summary in by_task.values() for image, _ in summary["missing"]}
    if missing:
        remark(f"minivlm: {len(missing)} pictures could not be read and are left out of all figures.")
    return FAILED if missing and not request.allow_missing else None


def run_task(request: RunRequest, task: str, out: Path, items: Sequence[Item], shared: Run) -> dict[str, Any] | None:
    """Run one task, and write its report; returns its summary in the first process, None in the others."""
    from minivlm.evaluation.asking import Asker
    from minivlm.evaluation.card import card
    from minivlm.evaluation.report import report
    from minivlm.evaluation.runner import run
    from minivlm.inference.generate import Generation

    asker = Asker(shared.vlm, Generation(**{"max_new_tokens": LONGEST[task], **shared.settings}), shared.methods)
    describe = partial(card, batch=request.batch, tensor_parallel=request.tensor_parallel, version=__version__)
    about = describe(task, shared.vlm, asker.settings, shared.methods, shared.dataset, items)
    try:
        summary = run(asker, shared.dataset, items, about, out, resume=request.resume, ranks=shared.ranks)
    except KeyboardInterrupt:
        remark(f"\nminivlm: What was answered is kept in {out}; the same command with --resume goes on.")
        raise
    if shared.ranks.first:
        write_text(out / REPORT, report(out, shared.dataset, items))
        remark(f"minivlm: {out / REPORT}")
    return summary


def chosen_methods(request: RunRequest) -> dict[str, Mitigation]:
    """The mitigation of each method in --method, with the settings that were typed. Raises `UsageError`."""
    from minivlm.evaluation.methods import methods

    settings = method_settings(request)
    try:
        return methods([name.strip() for name in request.method.split(",")], **settings)
    except EvaluationError as error:
        raise UsageError(str(error)) from error


def requested_dataset(request: RunRequest) -> Dataset:
    """The dataset of --data, with the other options of the data. Raises `UsageError` for half a list of files."""
    from minivlm.evaluation.datasets import open_dataset

    questions = [path.strip() for path in request.questions.split(",")] if request.questions else []
    if "" in questions:
        raise UsageError(f"--questions has a comma without a file on each side of it, found {request.questions!r}.")
    dataset = open_dataset(
        request.data,
        images=request.images,
        ids=request.ids,
        synonyms=request.synonyms,
        questions=questions,
    )
    return dataset.limited(request.limit)


def task_items(request: RunRequest, task: str, dataset: Dataset) -> list[Item]:
    """The items of a task; `--suffix` follows every yes-no question. Raises `UsageError` for a --split of none."""
    from minivlm.evaluation.items import chair_items, pope_items

    if task == "chair":
        return chair_items(dataset, request.question or "")
    if request.split and dataset.questions:
        raise UsageError("--split is of questions that are made anew, but a question file was given: leave it out.")
    items = pope_items(dataset, [split.strip() for split in (request.split or SPLITS).split(",")])
    return [replace(item, question=f"{item.question} {request.suffix}") for item in items] if request.suffix else items


def retyped_run(request: RunRequest) -> str:
    """The options that decide the figures of a model, as one would type them again; its methods in any case."""
    return f"{retyped(request, *DATA)} --method {quoted(request.method)}{retyped(request, *ANSWERS)}"


# --- options --------------------------------------------------------------------------------------------------------


SPEC = "coco:DIR (a folder of COCO), scenes:SEED (drawn, see minivlm.evaluation.scenes) or a file (…evaluation.listing)"
NAMES = f"{', '.join(METHODS)}, a control such as {CONTROLS[2]}, or a group of them: {', '.join(GROUPS)}"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the tasks of `minivlm evaluate`."""
    arguments.add_commands(parser, "task", TASKS)


def task_options(*tasks: str) -> Callable[[argparse.ArgumentParser], None]:
    """A function that adds the options of "chair", of "pope", or of both."""

    def add(parser: argparse.ArgumentParser) -> None:
        add_data(parser)
        if "chair" in tasks:
            text = "what is asked about every picture (default: COCO's usual question, or the toy world's)"
            parser.add_argument("--question", metavar="TEXT", help=text)
        if "pope" in tasks:
            add_yes_no_questions(parser)
        add_run(parser)
        if len(tasks) > 1:
            card = (
                "write the figures into the card of the model in this folder, if minivlm trained it (default: no card)"
            )
            parser.add_argument("--card", metavar="FOLDER", help=card)

    return add


def add_data(parser: argparse.ArgumentParser) -> None:
    """Add the options of the pictures and their objects."""
    group = parser.add_argument_group("data")
    group.add_argument("--data", required=True, metavar="SPEC", help=SPEC)
    group.add_argument("--images", metavar="DIR", help="the folder of the pictures (default: the data's usual one)")
    ids = "take these images: one id a line, or any file that names them (default: all)"
    group.add_argument("--ids", metavar="FILE", help=ids)
    words = "words of the objects, in the format of the original CHAIR program (default: our own)"
    group.add_argument("--synonyms", metavar="FILE", help=words)
    limit = "take the first N images (default: all)"
    group.add_argument("--limit", type=arguments.whole_number(1), metavar="N", help=limit)


def add_yes_no_questions(parser: argparse.ArgumentParser) -> None:
    """Add the options of POPE's questions."""
    files = "question files of POPE, separated by commas; their images are taken (default: questions are made anew)"
    parser.add_argument("--questions", metavar="FILES", help=files)
    splits = f"of the questions that are made anew (default: {SPLITS})"
    parser.add_argument("--split", metavar="LIST", help=splits)
    suffix = 'follows every question, such as "Please answer this question with one word." (default: nothing)'
    parser.add_argument("--suffix", metavar="TEXT", help=suffix)


def add_run(parser: argparse.ArgumentParser) -> None:
    """Add the options of a run: its folder, methods, answers and model."""
    group = parser.add_argument_group("run")
    group.add_argument("--out", required=True, metavar="RUN", help="the folder of the results")
    resume = "go on with the run in RUN, if all options that decide its figures are the same (default: a new run)"
    group.add_argument("--resume", action="store_true", help=resume)
    group.add_argument("--method", metavar="LIST", help=f"{NAMES} (default: {RunRequest.method})")
    batch = f"items that are asked at once (default: {RunRequest.batch})"
    group.add_argument("--batch", type=arguments.whole_number(1), metavar="B", help=batch)
    split = "split the weights over N processes of torchrun (default: 1, not split)"
    group.add_argument("--tensor-parallel", type=arguments.whole_number(1), metavar="N", help=split)
    missing = "exit with 0 even if pictures could not be read (default: with 1)"
    group.add_argument("--allow-missing", action="store_true", help=missing)
    arguments.add_methods(parser)
    arguments.add_generation(parser, "512 for captions, 10 for yes or no")
    arguments.add_model(parser)
    arguments.add_json(parser)


TASKS: dict[str, Command[Any]] = {
    "chair": Command(chair, RunRequest, task_options("chair"), "let a model describe pictures, count what it invents"),
    "pope": Command(pope, RunRequest, task_options("pope"), "ask a model what is there, count its wrong answers"),
    "all": Command(both, RunRequest, task_options("chair", "pope"), "chair, then pope, in two folders below RUN"),
    "compare": Command(score.compare, score.CompareRequest, score.compare_options, "put runs side by side"),
    "score": Command(score.score, Request, score.score_options, "score what any other program wrote"),
}
