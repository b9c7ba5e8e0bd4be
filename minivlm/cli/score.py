"""The parts of `minivlm evaluate` that need no model: compare runs, and score what any program wrote."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from minivlm.cli import arguments
from minivlm.cli.arguments import Command
from minivlm.cli.options import Request
from minivlm.cli.terminal import print_json
from minivlm.errors import EvaluationError
from minivlm.evaluation.settings import UsageError
from minivlm.files import path_of

if TYPE_CHECKING:
    from minivlm.evaluation.pope import PopeQuestion
    from minivlm.stats import Ratio

EXAMPLES = 3  # of answers that the two parsers read differently


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
    """A file of answers, one of the questions, and one with corrected labels of them."""

    file: str
    questions: str
    corrected: str | None = None
    json: bool = False


@dataclass(frozen=True, kw_only=True)
class ScoreAmberRequest(Request):
    """A file of answers, and AMBER's own files: `questions` for the yes-no half, `relations` for the captions."""

    file: str
    annotations: str
    questions: str | None = None
    relations: str | None = None
    safe_words: str | None = None
    json: bool = False


@dataclass(frozen=True, kw_only=True)
class ScoreDashRequest(Request):
    """A file of answers, and DASH-B's lists of pictures without and with each object."""

    file: str
    without: str
    having: str
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
    about = {**with_intervals(ratios), "captions": len(captions), "words of": lexicon.name}
    if left := len(objects) - len(captions):
        about["images without a caption"] = left
    print_scores(request.json, about)


def score_pope(request: ScorePopeRequest) -> None:
    """Print POPE's figures of a file of answers, with intervals: read as the original does, and by the first word.

    Raises `EvaluationError` if a file cannot be read, or answers and questions do not fit.
    """
    from minivlm.evaluation.pope import corrected_labels, read_answers, read_questions, unreadable

    questions, answers = read_questions(request.questions), read_answers(request.file)
    about = {**by_both_parsers(questions, answers), "unreadable": sum(map(unreadable, answers.values()))}
    if request.corrected:
        corrected = read_questions(request.corrected)
        changed = corrected_labels(questions, corrected)
        known = {question.id for question in corrected}
        kept = {name: answer for name, answer in answers.items() if name in known}
        about["corrected labels"] = {**by_both_parsers(corrected, kept), "of": len(questions), "changed": changed}
    print_scores(request.json, about)


def by_both_parsers(questions: Sequence[PopeQuestion], answers: Mapping[str, str]) -> dict[str, Any]:
    """POPE's figures as the original reads answers, and under "first word" by their first word."""
    from minivlm.evaluation.pope import matched, pope

    said = {parser: matched(questions, answers, parser) for parser in ("original", "first word")}
    differ = [one.id for one, *read in zip(questions, *said.values(), strict=True) if read[0] != read[1]]
    found = with_intervals(pope(questions, said["original"]))
    found["first word"] = with_intervals(pope(questions, said["first word"]))
    found |= {"questions": len(questions), "read in two ways": len(differ)}
    return found | ({"such as": {name: answers[name][:80] for name in differ[:EXAMPLES]}} if differ else {})


def score_amber(request: ScoreAmberRequest) -> None:
    """Print AMBER's figures of a file of answers: of the yes-no half, of the captions, or of both.

    Raises `EvaluationError` if a file cannot be read, or answers are missing.
    """
    from minivlm.evaluation.amber import READERS, amber_yes_no, as_printed, read_annotations, read_responses
    from minivlm.evaluation.amber import yes_no_questions as questions_of
    from minivlm.evaluation.amber_objects import AmberWords, amber_captions

    if not request.questions and not request.relations:
        raise UsageError("score amber needs --questions for the yes-no half, --relations for the captions, or both")
    if bool(request.relations) != bool(request.safe_words):
        raise UsageError("--relations and --safe-words belong together: AMBER's relation.json and safe_words.txt")
    annotations, answers = read_annotations(request.annotations), read_responses(request.file)
    about: dict[str, Any] = {}
    if request.questions:
        questions = questions_of(annotations, request.questions)
        found = {reader: amber_yes_no(questions, answers, reader) for reader in READERS}
        for part, ratios in found["original"].items():
            about[part] = with_intervals(ratios) | {"as printed by the original": as_printed(ratios, part)}
            about[part]["first word"] = with_intervals(found["first word"][part])
        about["questions"] = len(questions)
    if request.relations and request.safe_words:
        words = AmberWords.read(request.relations, request.safe_words)
        about["captions (own variant)"] = with_intervals(amber_captions(annotations, answers, words))
    print_scores(request.json, about)


def score_dash(request: ScoreDashRequest) -> None:
    """Print DASH-B's figures of a file of answers. Raises `EvaluationError` if answers and lists do not fit."""
    from minivlm.evaluation.dash import dash, read_dash
    from minivlm.evaluation.pope import read_answers, said_by_first_word

    questions, answers = read_dash(request.without, request.having), read_answers(request.file)
    neither = sum(said_by_first_word(answer) is None for answer in answers.values())
    print_scores(
        request.json, {**with_intervals(dash(questions, answers)), "questions": len(questions), "neither": neither}
    )


def with_intervals(ratios: Mapping[str, Ratio]) -> dict[str, Any]:
    """The figures as fractions, and under "intervals" the ends of each by the bootstrap over images."""
    from minivlm.stats import estimate, resamples

    times = resamples(len(next(iter(ratios.values())).part))
    figures = {name: estimate(ratio, times).as_dict() for name, ratio in ratios.items()}
    intervals = {name: [figure["low"], figure["high"]] for name, figure in figures.items()}
    return {**{name: figure["value"] for name, figure in figures.items()}, "intervals": intervals}


def print_scores(as_json: bool, found: Mapping[str, Any]) -> None:
    """Print all of it as JSON, or a line for each figure and each further entry, and then what is nested in it."""
    print_json(found) if as_json else print("\n".join(lines_of(found)))


def lines_of(found: Mapping[str, Any], title: str = "") -> Iterator[str]:
    """The lines of the figures, of the other entries, and of the blocks within, each under its title."""
    intervals = found.get("intervals", {})
    if title:
        yield title
    for name, (low, high) in intervals.items():
        yield f"{name:10}{found[name]:9.4f}   95 % interval {low:.4f} to {high:.4f}"
    blocks = {name: value for name, value in found.items() if isinstance(value, dict) and name != "intervals"}
    for name, value in found.items():
        if name not in blocks and name not in intervals and name != "intervals":
            yield f"{name:10} {value}"
    for name, block in blocks.items():
        yield from lines_of(block, f"{title}, {name}" if title else name)


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
    corrected = (
        "corrected labels of the same questions, or of fewer of them, such as RePOPE's: a second block of figures "
    )
    parser.add_argument("--corrected", metavar="FILE", help=f"{corrected}(default: none)")
    arguments.add_json(parser)


def amber_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="a JSON list, or JSON lines, with id and response")
    parser.add_argument("--annotations", required=True, metavar="FILE", help="AMBER's annotations.json")
    questions = "AMBER's query_discriminative.json: score the yes-no half (default: none)"
    parser.add_argument("--questions", metavar="FILE", help=questions)
    relations = "AMBER's relation.json: score the captions, by exact words alone (default: none)"
    parser.add_argument("--relations", metavar="FILE", help=relations)
    parser.add_argument("--safe-words", metavar="FILE", help="AMBER's safe_words.txt, with --relations (default: none)")
    arguments.add_json(parser)


def dash_options(parser: argparse.ArgumentParser) -> None:
    ids = "without/GROUP/OBJECT/PICTURE or with/…, as in the lists"
    parser.add_argument("file", metavar="FILE", help=f"JSON lines with question_id ({ids}) and answer")
    parser.add_argument("--without", required=True, metavar="FILE", help="DASH-B's dash_benchmark_neg.json")
    parser.add_argument("--with", required=True, dest="having", metavar="FILE", help="DASH-B's dash_benchmark_pos.json")
    arguments.add_json(parser)


KINDS: dict[str, Command[Any]] = {
    "chair": Command(score_chair, ScoreChairRequest, chair_options, "score captions that any program wrote"),
    "pope": Command(score_pope, ScorePopeRequest, pope_options, "score yes-no answers that any program gave"),
    "amber": Command(score_amber, ScoreAmberRequest, amber_options, "score answers to AMBER, both halves"),
    "dash": Command(score_dash, ScoreDashRequest, dash_options, "score answers to DASH-B"),
}
