"""The parts of `minivlm evaluate` that need no model: compare runs, and score what any program wrote."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from minivlm.cli import arguments
from minivlm.cli.arguments import Command
from minivlm.cli.options import Request
from minivlm.cli.terminal import print_json
from minivlm.errors import EvaluationError
from minivlm.files import path_of

if TYPE_CHECKING:
    from minivlm.stats import Ratio


@dataclass(frozen=True, kw_only=True)
class CompareRequest(Request):
    """The folders of the runs to compare."""

    runs: tuple[str, ...]
    json: bool = False


@dataclass(frozen=True, kw_only=True)
class ScoreChairRequest(Request):
    """A file of captions, a file of the objects in each picture, and the objects' words (None: our own)."""

    file: str
    truth: str
    synonyms: str | None = None
    json: bool = False


@dataclass(frozen=True, kw_only=True)
class ScorePopeRequest(Request):
    """A file of answers, and one of the questions."""

    file: str
    questions: str
    json: bool = False


def compare(request: CompareRequest) -> None:
    """Print the figures of runs side by side. Raises `EvaluationError` for runs on different data."""
    from minivlm.evaluation.compare import as_text
    from minivlm.evaluation.compare import compare as compared

    comparison = compared([path_of(run, EvaluationError) for run in request.runs])
    print_json(comparison) if request.json else print(as_text(comparison))


def score(request: Request) -> None:
    """Nothing: argparse demands one of `KINDS`, whose function runs instead."""


def score_chair(request: ScoreChairRequest) -> None:
    """Print CHAIR's figures of a file of captions, with intervals.

    Raises `EvaluationError` if a file cannot be read, or the objects of a picture are not known.
    """
    from minivlm.evaluation.chair import chair as figures
    from minivlm.evaluation.chair import judge, read_captions
    from minivlm.evaluation.ids import bare
    from minivlm.evaluation.lexicon import Lexicon, coco_lexicon
    from minivlm.evaluation.truth import objects_file

    lexicon = Lexicon.from_file(request.synonyms) if request.synonyms else coco_lexicon()
    captions, truth = read_captions(request.file), objects_file(request.truth, lexicon)
    objects = {bare(image): names for image, names in truth.items()}
    if unknown := [image for image in captions if bare(image) not in objects]:
        raise EvaluationError(
            f"{len(unknown)} of {len(captions)} captions are of images that '{request.truth}' does not know, such as "
            f"{unknown[0]!r}. Give the objects of every image, an empty list where there are none."
        )
    ratios = figures([judge(text, objects[bare(image)], lexicon) for image, text in captions.items()])
    about = {"captions": len(captions), "words of": lexicon.name}
    if left := len(objects) - len(captions):
        about["images without a caption"] = left
    print_scores(request.json, about, ratios)


def score_pope(request: ScorePopeRequest) -> None:
    """Print POPE's figures of a file of answers, with intervals: read as the original does, and by the first word.

    Raises `EvaluationError` if a file cannot be read, or answers and questions do not fit.
    """
    from minivlm.evaluation.pope import PARSERS, read_answers, read_questions, score_answers, unreadable

    questions, answers = read_questions(request.questions), read_answers(request.file)
    ratios = {parser: score_answers(questions, answers, parser) for parser in PARSERS}
    about: dict[str, Any] = {"questions": len(questions), "unreadable": sum(map(unreadable, answers.values()))}
    about["first word"] = with_intervals(ratios["first word"])
    print_scores(request.json, about, ratios["original"])


def with_intervals(ratios: Mapping[str, Ratio]) -> dict[str, Any]:
    """The figures as fractions, and under "intervals" the ends of each by the bootstrap over images."""
    from minivlm.stats import estimate, resamples

    times = resamples(len(next(iter(ratios.values())).part))
    figures = {name: estimate(ratio, times).as_dict() for name, ratio in ratios.items()}
    intervals = {name: [figure["low"], figure["high"]] for name, figure in figures.items()}
    return {**{name: figure["value"] for name, figure in figures.items()}, "intervals": intervals}


def print_scores(as_json: bool, about: Mapping[str, Any], ratios: Mapping[str, Ratio]) -> None:
    """Print all of it as JSON, or a line for each figure and each entry of `about`."""
    figures = with_intervals(ratios)
    if as_json:
        print_json({**figures, **about})
        return
    print_figures(figures)
    if "first word" in about:
        print("by the first word")
        print_figures(about["first word"])
    print("\n".join(f"{name:10} {value}" for name, value in about.items() if not isinstance(value, dict)))


def print_figures(figures: Mapping[str, Any]) -> None:
    """Print a line for each figure of `with_intervals`."""
    for name, (low, high) in figures["intervals"].items():
        print(f"{name:10}{figures[name]:9.4f}   95 % interval {low:.4f} to {high:.4f}")


# --- options --------------------------------------------------------------------------------------------------------


def compare_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", nargs="+", metavar="RUN", help="the folder of a run")
    arguments.add_json(parser)


def score_options(parser: argparse.ArgumentParser) -> None:
    """Add the kinds of what can be scored."""
    arguments.add_commands(parser, "kind", KINDS)


def chair_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="JSON lines with image_id and caption")
    parser.add_argument("--truth", required=True, metavar="OBJECTS.json", help="{image id: [names of its objects]}")
    parser.add_argument("--synonyms", metavar="FILE", help="words of the objects (default: our own)")
    arguments.add_json(parser)


def pope_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="JSON lines with question_id and answer")
    parser.add_argument("--questions", required=True, metavar="FILE", help="a question file of POPE")
    arguments.add_json(parser)


KINDS: dict[str, Command[Any]] = {
    "chair": Command(score_chair, ScoreChairRequest, chair_options, "score captions that any program wrote"),
    "pope": Command(score_pope, ScorePopeRequest, pope_options, "score yes-no answers that any program gave"),
}
