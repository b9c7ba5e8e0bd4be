"""What can be typed behind `minivlm evaluate`."""

from __future__ import annotations

import argparse

from minivlm import arguments, evaluate, scores

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
    _run(parser)


def _pope(parser: argparse.ArgumentParser) -> None:
    _data(parser)
    _yes_no(parser)
    _run(parser)


def _both(parser: argparse.ArgumentParser) -> None:
    _data(parser)
    _question(parser)
    _yes_no(parser)
    _run(parser)
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


def _run(parser: argparse.ArgumentParser) -> None:
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
    captions = kinds.add_parser("chair", help=scores.score_chair.__doc__, description=scores.score_chair.__doc__)
    captions.set_defaults(run=scores.score_chair)
    captions.add_argument("file", metavar="FILE", help="JSON lines with image_id and caption")
    captions.add_argument("--truth", required=True, metavar="OBJECTS.json", help="{image id: [names of its objects]}")
    captions.add_argument("--synonyms", metavar="FILE", help="words of the objects (default: our own)")
    answers = kinds.add_parser("pope", help=scores.score_pope.__doc__, description=scores.score_pope.__doc__)
    answers.set_defaults(run=scores.score_pope)
    answers.add_argument("file", metavar="FILE", help="JSON lines with question_id and answer")
    answers.add_argument("--questions", required=True, metavar="FILE", help="a question file of POPE")
    for kind in (captions, answers):
        arguments.debug(kind, default=argparse.SUPPRESS)
        arguments.as_json(kind)


def score() -> None:
    """score what any other program wrote: captions or answers"""


TASKS = {
    "chair": (evaluate.chair, _chair),
    "pope": (evaluate.pope, _pope),
    "all": (evaluate.both, _both),
    "compare": (scores.compare, _compare),
    "score": (score, _score),
}
