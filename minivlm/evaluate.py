"""The command `minivlm evaluate`: measure what a model invents (CHAIR) and affirms (POPE). See `scores.py`, too.

    torchrun --nproc-per-node 8 -m minivlm evaluate chair --data coco:DIR --model NAME --out RUN

splits the work over eight devices; without torchrun the same command does all of it by itself. The options are in
`evaluate_options.py`.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from minivlm import __version__
from minivlm.errors import EvaluationError
from minivlm.options import UsageError, generation, load_vlm, method, own_device, retyped
from minivlm.terminal import print_json, remark

if TYPE_CHECKING:
    from minivlm.evaluation.datasets import Dataset
    from minivlm.evaluation.items import Item
    from minivlm.evaluation.ranks import Ranks
    from minivlm.model import Mitigation
    from minivlm.vlm import VLM

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
    from minivlm.model_card import require_card, require_same_model, write_evaluation

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
    from minivlm.generate import Generation

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
    if args.tensor_parallel > 1:
        return _split(args)
    args.device = own_device(args.device)
    return load_vlm(args)


def _split(args: Namespace) -> VLM:
    """Loaded on the CPU, where it stays in its files, and then split over the group of neighbours."""
    from minivlm.parallel import split, tensor_mesh

    group = tensor_mesh(args.tensor_parallel, args.device)
    args.device = "cpu"
    vlm = load_vlm(args, bound_for=group.device)
    split(vlm.model, group.mesh)
    return vlm


def _retyped(args: Namespace) -> str:
    """The options that decide the figures of a model, as one would type them again."""
    kept = Namespace(**{name: None if value == DEFAULTS.get(name) else value for name, value in vars(args).items()})
    return retyped(kept, *DATA, *ASKED)
