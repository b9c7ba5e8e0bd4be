"""A run: every method on the same items, batch by batch, in one process or in many, with or without interruptions.

    RUN/card.json        what decides the figures                          (card.py)
    RUN/answers-*.jsonl  the answers, a file for each process              (records.py)
    RUN/counts.json      the counts behind the figures, image by image     (counts.py)
    RUN/summary.json     the figures, computed anew from all records       (summary.py)

A run that was stopped, in whatever way, can be resumed and ends with the same summary, byte for byte: its batches are
fixed beforehand (plan.py), and existing answers are kept.
"""

import os
import shutil
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import torch
from tqdm import tqdm

from minivlm.errors import EvaluationError, ImageError, NoEffectWarning
from minivlm.evaluation.asking import Asker, EncodedImages
from minivlm.evaluation.card import differences, read_card
from minivlm.evaluation.datasets import Dataset
from minivlm.evaluation.items import Item
from minivlm.evaluation.plan import Batch, Group, plan, unfinished
from minivlm.evaluation.ranks import ALONE, Ranks
from minivlm.evaluation.records import (
    Key,
    Recorder,
    answered,
    cut_half_line,
    explained,
    failed,
    held,
    key_of,
    merged,
    read_records,
    record_files,
)
from minivlm.evaluation.summary import summary
from minivlm.files import leftovers, refuse_irreplaceable, refuse_stranger, write_json
from minivlm.inference.batches import whole

CARD, COUNTS, SUMMARY = "card.json", "counts.json", "summary.json"
BYTES_A_RECORD = 512  # a caption of 80 words and the other fields of its record
Work = tuple[Group, frozenset[Key]]  # pictures with their questions, and the keys of the records still missing


def run(
    asker: Asker,
    dataset: Dataset,
    items: Sequence[Item],
    card: Mapping[str, Any],
    out: Path,
    *,
    resume: bool = False,
    ranks: Ranks = ALONE,
) -> dict[str, Any] | None:
    """Ask what is not answered yet, and write and return the summary; only the first process returns it, others None.

    `card`: that of `asker` and `items`, see card.py; `out`: the run's folder. Raises `EvaluationError` if `out` holds a
    run already, or with `resume` a run with another card. Pictures that could not be read are listed under "missing" in
    the summary; the caller decides whether that is a failure. Ctrl-C leaves a run that can be resumed.
    """
    ranks.require_same(card, "what decides the figures")
    if ranks.first:
        make_folder(out)
    with held(out) if ranks.first else nullcontext():
        if ranks.first:
            prepare(out, card, len(items) * len(asker.methods), resume)
        ranks.wait()  # until the folder is in order
        groups = plan(items, card["computing"]["batch"])
        work = unfinished(groups, list(asker.methods), read_records(out))
        ranks.require_same([sorted(wanted) for _, wanted in work], f"what is done in '{out}'")
        ask(asker, dataset, ranks.share(work), out, ranks)
        ranks.wait()  # until all have answered
        return conclude(out, dataset, items) if ranks.first else None


# --- before ---------------------------------------------------------------------------------------------------------


def make_folder(out: Path) -> None:
    """Make the run's folder if it does not exist."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as cause:
        raise EvaluationError(
            f"The folder '{out}' cannot be made: {cause.strerror or cause}. Give another folder with --out."
        ) from cause


def prepare(out: Path, card: Mapping[str, Any], records: int, resume: bool) -> None:
    """Write the card into the folder, or compare it with the one there. `records`: how many the run will have.

    Raises `EvaluationError` now for everything that would stop the run later: another run, a full disk, no permission.
    """
    require_free(out, resume)
    with explained(out / CARD, "read"):
        refuse_stranger(out / CARD)
    if (begun := (out / CARD).exists()) and (changed := differences(read_card(out / CARD), card)):
        raise EvaluationError(
            f"The run in '{out}' cannot be resumed, because it was another one. {' '.join(changed)} "
            "Ask for the same again, or give another folder with --out."
        )
    with explained(out):
        require_room(out, records * BYTES_A_RECORD)
        for name in (COUNTS, SUMMARY):
            refuse_irreplaceable(out / name)
        for leftover in leftovers(out):  # of a summary or a card
            leftover.unlink()
        if not begun:
            write_json(out / CARD, card)
        for path in record_files(out):
            cut_half_line(path)


def require_free(out: Path, resume: bool) -> None:
    """Raise `EvaluationError` unless the folder holds no run, or with `resume` a run that has its card.

    It need not exist; a file is refused.
    """
    if out.exists() and not out.is_dir():
        raise EvaluationError(f"'{out}' is no folder. Results need one of their own: give another name with --out.")
    begun = (out / CARD).exists()
    if not begun and record_files(out):
        raise EvaluationError(
            f"'{out}' holds answers but no {CARD}, so their run is unknown. Give another folder with --out."
        )
    if begun and not resume:
        raise EvaluationError(f"'{out}' holds a run already. Go on with it by --resume, or give another folder.")


def require_room(out: Path, wanted: int) -> None:
    """Raise `EvaluationError` if fewer than `wanted` bytes are free on the disk, OSError if writing is not allowed."""
    with TemporaryFile(dir=out) as probe:
        probe.write(os.urandom(1024))
        probe.flush()
    free = shutil.disk_usage(out).free
    if free < wanted:
        raise EvaluationError(
            f"'{out}' is on a disk with {free / 1e6:.1f} MB free, and up to {wanted / 1e6:.1f} MB may be written. "
            "Make room, or give a folder elsewhere with --out."
        )


# --- asking ---------------------------------------------------------------------------------------------------------


def ask(asker: Asker, dataset: Dataset, work: Sequence[Work], out: Path, ranks: Ranks) -> None:
    """Answer what is missing, and record the answers after each batch."""
    missing = sum(len(wanted) for _, wanted in work)
    with Recorder(out, ranks.rank) if ranks.writer else nullcontext() as recorder, bar(missing, ranks) as progress:
        for group, wanted in work:
            for record in records_of(asker, dataset, group, wanted):
                if key_of(record) in wanted:
                    progress.update()
                    if recorder:
                        recorder.write(record)


def bar(missing: int, ranks: Ranks) -> tqdm:
    """A progress bar over the first process's share of the answers; the other processes show none."""
    return tqdm(total=missing, unit="answer", disable=not ranks.first)


def records_of(asker: Asker, dataset: Dataset, group: Group, wanted: Collection[Key]) -> Iterator[dict[str, Any]]:
    """The records of a group: all of a batch under a method, if at least one of them is wanted."""
    pixels, errors = read_pictures(asker, dataset, list(dict.fromkeys(item.image for batch in group for item in batch)))
    numbers = {image: number for number, image in enumerate(pixels)}
    encoded = asker.encode(torch.stack([*pixels.values()])) if pixels else None
    for method in asker.methods:
        for batch in group:
            if any((item.id, method) in wanted for item in batch):
                yield from (failed(item, method, errors[item.image]) for item in batch if item.image in errors)
                readable = tuple(item for item in batch if item.image in numbers)
                if encoded is not None and readable:
                    yield from answers_of(asker, encoded, numbers, readable, method)


def answers_of(
    asker: Asker, encoded: EncodedImages, numbers: Mapping[str, int], batch: Batch, method: str
) -> Iterator[dict[str, Any]]:
    """The records of one batch; `numbers`: image id -> its number in `encoded`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NoEffectWarning)  # the summary counts such answers
        answers = whole(asker.ask(encoded, [(numbers[item.image], item.question) for item in batch], method))
    return (answered(item, method, answer) for item, answer in zip(batch, answers, strict=True))


def read_pictures(
    asker: Asker, dataset: Dataset, images: Sequence[str]
) -> tuple[dict[str, torch.Tensor], dict[str, ImageError]]:
    """The pixels (3, S, S) of each readable picture and the error of each other one, by image; errors are warned of."""
    pixels: dict[str, torch.Tensor] = {}
    errors: dict[str, ImageError] = {}
    for image in images:
        try:
            pixels[image] = asker.vlm.pixels(dataset.picture(image))
        except ImageError as error:
            errors[image] = ImageError(
                dataset.unplaced(str(error))
            )  # without its folder: records are the same on every machine
            warnings.warn(f"{error} Nothing is asked about it; the summary counts it as missing.", stacklevel=2)
    return pixels, errors


# --- after ----------------------------------------------------------------------------------------------------------


def conclude(out: Path, dataset: Dataset, items: Sequence[Item]) -> dict[str, Any]:
    """Write counts and summary of a complete run; returns the summary."""
    card = read_card(out / CARD)
    figures, counts = summary(card, dataset, items, merged(out, items, list(card["methods"])))
    with explained(out / SUMMARY):
        write_json(out / COUNTS, counts)
        write_json(out / SUMMARY, figures)
    return figures
