"""The summary of a run: its figures with intervals, a function of its records and its card alone.

It tells no time, place or number of processes, so that runs with the same answers have the same summary to the byte.
Images whose picture could not be read are left out of the figures of all methods alike.

    {"task": "chair", "methods": {"eah": {"figures": {"chair_i": {"value": …, "low": …, "high": …,
        "difference": {…}}}, "missing": 0, "untouched": 0}}, "missing": [["17", "The picture of …"]], …}

For POPE a figure is that of a split, such as "popular accuracy"; "figures" are by the original's parser, the figures by
each are in "parsers". Differences and McNemar's test are against the plain model, or the first method without one.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from minivlm.evaluation.card import fingerprint
from minivlm.evaluation.chair import chair, judge
from minivlm.evaluation.datasets import Dataset
from minivlm.evaluation.items import Item, as_question
from minivlm.evaluation.pope import PARSERS, matched, pope, right, unreadable
from minivlm.evaluation.records import Key
from minivlm.stats import Ratio, compared, estimate, mcnemar, resamples

DIGITS = 6  # of every figure
Records = Mapping[Key, Mapping[str, Any]]
Answers = Mapping[str, Mapping[str, str]]  # method -> item -> text


def summary(card: Mapping[str, Any], dataset: Dataset, items: Sequence[Item], records: Records) -> dict[str, Any]:
    """In JSON types, keys in alphabetical order. `records`: all of them, see `records.merged`."""
    missing = unread(items, records)
    counted = [item for item in items if item.image not in missing]
    measure = {"chair": captions, "pope": yes_and_no}[card["task"]]
    methods = list(card["methods"])
    figures = measure(dataset, counted, {name: texts(counted, records, name) for name in methods}) if counted else {}
    told = {
        "task": card["task"],
        "data": {name: card["data"][name] for name in ("name", "fingerprint")},
        "images": len({item.image for item in items}),
        "items": len(items),
        "methods": {name: {**counts(items, counted, records, name), **figures.get(name, {})} for name in methods},
        "missing": [[image, missing[image]] for image in sorted(missing)],
        "card": fingerprint(card),
    }
    return tidy(told)


def unread(items: Sequence[Item], records: Records) -> dict[str, str]:
    """Image -> why it could not be asked about."""
    wrong = [record for record in records.values() if "error" in record]
    return {record["image"]: record["error"] for record in wrong}


def texts(items: Sequence[Item], records: Records, method: str) -> dict[str, str]:
    """Item -> what the method answered."""
    return {item.id: records[item.id, method]["text"] for item in items}


def counts(items: Sequence[Item], counted: Sequence[Item], records: Records, method: str) -> dict[str, int]:
    """Items without an answer, and answers in which the method changed nothing, so that they are the plain model's."""
    idle = sum(records[item.id, method].get("acted") is False for item in counted)
    return {"missing": len(items) - len(counted), "untouched": idle}


def plain_of(methods: Mapping[str, Any]) -> str:
    """The method that the others are held against."""
    return "plain" if "plain" in methods else next(iter(methods))


# --- the two measures -----------------------------------------------------------------------------------------------


def captions(dataset: Dataset, items: Sequence[Item], answers: Answers) -> dict[str, dict]:
    """Method -> what CHAIR finds in its captions."""
    ratios = {
        name: chair([judge(told[item.id], dataset.truth[item.image], dataset.lexicon) for item in items])
        for name, told in answers.items()
    }
    return {name: {"figures": figures} for name, figures in held_against_plain(ratios).items()}


def yes_and_no(dataset: Dataset, items: Sequence[Item], answers: Answers) -> dict[str, dict]:
    """Method -> what POPE finds in its answers, by each parser and split."""
    scored = {parser: by_parser(items, answers, parser) for parser in PARSERS}
    return {
        name: {
            "figures": scored["original"][name][0],
            "parsers": {parser: found[name][0] for parser, found in scored.items()},
            "mcnemar": {parser: found[name][1] for parser, found in scored.items()},
            "unreadable": sum(map(unreadable, told.values())),
        }
        for name, told in answers.items()
    }


def by_parser(items: Sequence[Item], answers: Answers, parser: str) -> dict[str, tuple[dict, dict]]:
    """Method -> its figures, and its tests, of all splits."""
    found: dict[str, tuple[dict, dict]] = {name: ({}, {}) for name in answers}
    for split in dict.fromkeys(item.split for item in items):
        figures, tests = of_split([item for item in items if item.split == split], answers, parser)
        for name in answers:
            found[name][0].update({f"{split} {key}".strip(): value for key, value in figures[name].items()})
            found[name][1].update({split or "all": tests[name]} if name in tests else {})
    return found


def of_split(items: Sequence[Item], answers: Answers, parser: str) -> tuple[dict[str, dict], dict[str, dict]]:
    """Method -> figures; and method -> McNemar's test against the plain model, which itself has none."""
    questions = [as_question(item) for item in items]
    said = {
        name: matched(questions, {item.id: told[item.id] for item in items}, parser) for name, told in answers.items()
    }
    rights = {name: right(questions, own) for name, own in said.items()}
    plain = rights.pop(plain_of(answers))
    tests = {name: mcnemar(plain, own) for name, own in rights.items()}
    figures = held_against_plain({name: pope(questions, own) for name, own in said.items()})
    return figures, {name: {"only_plain": b, "only_this": c, "p": p} for name, (b, c, p) in tests.items()}


def held_against_plain(ratios: Mapping[str, Mapping[str, Ratio]]) -> dict[str, dict]:
    """Method -> figure -> its value and interval and, but for the plain model, the difference to that."""
    plain = plain_of(ratios)
    times = resamples(len(next(iter(ratios[plain].values())).part))
    return {
        name: {
            key: estimate(ratio, times).as_dict() if name == plain else compared(ratio, ratios[plain][key], times)
            for key, ratio in figures.items()
        }
        for name, figures in ratios.items()
    }


def tidy(told: Any) -> Any:
    """Keys in alphabetical order, and figures of so many digits that the order of a sum does not show."""
    if isinstance(told, Mapping):
        return {name: tidy(told[name]) for name in sorted(told)}
    if isinstance(told, (list, tuple)):
        return [tidy(value) for value in told]
    return round(told, DIGITS) + 0.0 if isinstance(told, float) else told  # no -0.0
