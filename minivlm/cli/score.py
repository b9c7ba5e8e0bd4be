"""What `minivlm evaluate` does without a model: compare runs, and score what any program wrote."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from minivlm.cli.terminal import print_json
from minivlm.errors import EvaluationError

if TYPE_CHECKING:
    from minivlm.stats import Ratio


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
    known = {image: image if image in truth else image.lstrip("0") for image in captions}  # 000000000139 is 139
    if unknown := [image for image, id_ in known.items() if id_ not in truth]:
        raise EvaluationError(
            f"{len(unknown)} of {len(captions)} captions are of images that '{args.truth}' does not know, such as "
            f"{unknown[0]!r}. Give the objects of every image, an empty list where there are none."
        )
    ratios = figures([judge(text, truth[known[image]], lexicon) for image, text in captions.items()])
    _tell_scores(args, {"captions": len(captions), "words of": lexicon.name}, ratios)


def score_pope(args: Namespace) -> None:
    """score yes-no answers that any program gave"""
    from minivlm.evaluation.pope import PARSERS, read_answers, read_questions, score_answers, unreadable

    questions, answers = read_questions(args.questions), read_answers(args.file)
    ratios = {parser: score_answers(questions, answers, parser) for parser in PARSERS}
    about = {"questions": len(questions), "unreadable": sum(map(unreadable, answers.values()))}
    about["first word"] = with_intervals(ratios["first word"])
    _tell_scores(args, about, ratios["original"])


def with_intervals(ratios: Mapping[str, Ratio]) -> dict:
    """The figures as fractions, and under "intervals" the ends of each by the bootstrap over images."""
    from minivlm.stats import estimate, resamples

    times = resamples(len(next(iter(ratios.values())).part))
    found = {name: estimate(ratio, times).as_dict() for name, ratio in ratios.items()}
    intervals = {name: [one["low"], one["high"]] for name, one in found.items()}
    return {**{name: one["value"] for name, one in found.items()}, "intervals": intervals}


def _tell_scores(args: Namespace, about: Mapping, ratios: Mapping[str, Ratio]) -> None:
    """All of it as JSON, or a line for each figure."""
    found = with_intervals(ratios)
    if args.json:
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
