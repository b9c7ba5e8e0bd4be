"""What `minivlm evaluate` does without a model: compare runs, and score what any program wrote."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from minivlm.cli import arguments
from minivlm.cli.arguments import Command
from minivlm.cli.options import Request
from minivlm.cli.terminal import print_json
from minivlm.errors import EvaluationError

if TYPE_CHECKING:
    from minivlm.stats import Ratio


@dataclass(frozen=True, kw_only=True)
class CompareRequest(Request):
    """The folders of runs."""

    runs: tuple[str, ...]
    json: bool = False


@dataclass(frozen=True, kw_only=True)
class ScoreChairRequest(Request):
    """A file of captions, and the objects that are there."""

    file: str
    truth: str
    synonyms: str | None = None
    json: bool = False


@dataclass(frozen=True, kw_only=True)
class ScorePopeRequest(Request):
    """A file of answers, and their questions."""

    file: str
    questions: str
    json: bool = False


def compare(request: CompareRequest) -> None:
    """put runs side by side; runs on different data are refused"""
    from minivlm.evaluation.compare import as_text
    from minivlm.evaluation.compare import compare as compared

    found = compared([Path(run) for run in request.runs])
    print_json(found) if request.json else print(as_text(found))


def score(request: Request) -> None:
    """score what any other program wrote: captions or answers"""


def score_chair(request: ScoreChairRequest) -> None:
    """score captions that any program wrote"""
    from minivlm.evaluation.chair import chair as figures
    from minivlm.evaluation.chair import judge, read_captions
    from minivlm.evaluation.lexicon import Lexicon, coco_lexicon
    from minivlm.evaluation.truth import objects_file

    lexicon = Lexicon.from_file(Path(request.synonyms)) if request.synonyms else coco_lexicon()
    captions, truth = read_captions(Path(request.file)), objects_file(Path(request.truth), lexicon)
    known = {image: image if image in truth else image.lstrip("0") for image in captions}  # 000000000139 is 139
    if unknown := [image for image, id_ in known.items() if id_ not in truth]:
        raise EvaluationError(
            f"{len(unknown)} of {len(captions)} captions are of images that '{request.truth}' does not know, such as "
            f"{unknown[0]!r}. Give the objects of every image, an empty list where there are none."
        )
    ratios = figures([judge(text, truth[known[image]], lexicon) for image, text in captions.items()])
    _tell_scores(request.json, {"captions": len(captions), "words of": lexicon.name}, ratios)


def score_pope(request: ScorePopeRequest) -> None:
    """score yes-no answers that any program gave"""
    from minivlm.evaluation.pope import PARSERS, read_answers, read_questions, score_answers, unreadable

    questions, answers = read_questions(request.questions), read_answers(request.file)
    ratios = {parser: score_answers(questions, answers, parser) for parser in PARSERS}
    about = {"questions": len(questions), "unreadable": sum(map(unreadable, answers.values()))}
    about["first word"] = with_intervals(ratios["first word"])
    _tell_scores(request.json, about, ratios["original"])


def with_intervals(ratios: Mapping[str, Ratio]) -> dict:
    """The figures as fractions, and under "intervals" the ends of each by the bootstrap over images."""
    from minivlm.stats import estimate, resamples

    times = resamples(len(next(iter(ratios.values())).part))
    found = {name: estimate(ratio, times).as_dict() for name, ratio in ratios.items()}
    intervals = {name: [one["low"], one["high"]] for name, one in found.items()}
    return {**{name: one["value"] for name, one in found.items()}, "intervals": intervals}


def _tell_scores(as_json: bool, about: Mapping, ratios: Mapping[str, Ratio]) -> None:
    """All of it as JSON, or a line for each figure."""
    found = with_intervals(ratios)
    if as_json:
        print_json({**found, **about})
        return
    _print_figures(found)
    if "first word" in about:
        print("by the first word")
        _print_figures(about["first word"])
    print("\n".join(f"{name:10} {told}" for name, told in about.items() if not isinstance(told, dict)))


def _print_figures(found: Mapping) -> None:
    for name, (low, high) in found["intervals"].items():
        print(f"{name:10}{found[name]:9.4f}   95 % interval {low:.4f} to {high:.4f}")


# --- what can be typed ----------------------------------------------------------------------------------------------


def add_runs(parser: argparse.ArgumentParser) -> None:
    """The options of `compare`."""
    parser.add_argument("runs", nargs="+", metavar="RUN")
    arguments.as_json(parser)


def add_kinds(parser: argparse.ArgumentParser) -> None:
    """What can be scored."""
    arguments.add_commands(parser.add_subparsers(dest="kind", metavar="KIND", required=True), KINDS)


def _score_chair(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="JSON lines with image_id and caption")
    parser.add_argument("--truth", required=True, metavar="OBJECTS.json", help="{image id: [names of its objects]}")
    parser.add_argument("--synonyms", metavar="FILE", help="words of the objects (default: our own)")
    arguments.as_json(parser)


def _score_pope(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="JSON lines with question_id and answer")
    parser.add_argument("--questions", required=True, metavar="FILE", help="a question file of POPE")
    arguments.as_json(parser)


KINDS = {
    "chair": Command(score_chair, ScoreChairRequest, _score_chair),
    "pope": Command(score_pope, ScorePopeRequest, _score_pope),
}
