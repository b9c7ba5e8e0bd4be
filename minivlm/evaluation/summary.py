"""The summary of a run: its figures with intervals, computed from its records and its card only.

It holds no time, path or number of processes, so runs with the same answers have the same summary, byte for byte.
Images whose picture could not be read are left out of the figures of all methods.

    {"task": "chair", "methods": {"eah": {"figures": {"chair_i": {"value": …, "low": …, "high": …,
        "difference": {…}}}, "missing": 0, "untouched": 0}}, "missing": [["17", "The picture of …"]], …}

For POPE each figure belongs to a split, as in "popular accuracy"; "figures" are by the original's parser, "parsers" has
those by each parser. Differences and McNemar's test are against the plain model, or the first method if plain was not
run.
"""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from minivlm.evaluation.card import fingerprint
from minivlm.evaluation.counts import Answers, Part, as_json, count_answers, count_captions
from minivlm.evaluation.datasets import Dataset
from minivlm.evaluation.items import Item
from minivlm.evaluation.pope import PARSERS, unreadable
from minivlm.evaluation.records import Key
from minivlm.evaluation.settings import PLAIN
from minivlm.stats import compared, estimate, mcnemar, resamples

DIGITS = 6  # decimals of every figure
Records = Mapping[Key, Mapping[str, Any]]
Name = TypeVar("Name")  # how methods are named, see `Part`
Measured = tuple[dict[str, dict[str, Any]], dict[str, Part[str]]]  # method -> its entries; split -> the counts


def summary(
    card: Mapping[str, Any], dataset: Dataset, items: Sequence[Item], records: Records
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The contents of summary.json and counts.json, in JSON types. `records`: all of the run, see `records.merged`."""
    missing = unread(items, records)
    counted = [item for item in items if item.image not in missing]
    measure = {"chair": captions, "pope": yes_and_no}[card["task"]]
    methods = list(card["methods"])
    answers = {name: texts(counted, records, name) for name in methods}
    figures, parts = measure(dataset, counted, answers) if counted else ({}, {})
    result = {
        "task": card["task"],
        "data": {name: card["data"][name] for name in ("name", "fingerprint")},
        "images": len({item.image for item in items}),
        "items": len(items),
        "methods": {name: {**counts(items, counted, records, name), **figures.get(name, {})} for name in methods},
        "missing": [[image, missing[image]] for image in sorted(missing)],
        "card": fingerprint(card),
    }
    return tidy(result), as_json(card["task"], items, parts, result["card"])


def unread(items: Sequence[Item], records: Records) -> dict[str, str]:
    """Image -> the error message, for the images whose picture could not be read."""
    wrong = [record for record in records.values() if "error" in record]
    return {record["image"]: record["error"] for record in wrong}


def texts(items: Sequence[Item], records: Records, method: str) -> dict[str, str]:
    """Item's id -> what the method answered."""
    return {item.id: records[item.id, method]["text"] for item in items}


def counts(items: Sequence[Item], counted: Sequence[Item], records: Records, method: str) -> dict[str, int]:
    """The number of items without an answer, and of answers that the method did not change, so they equal plain's."""
    idle = sum(records[item.id, method].get("acted") is False for item in counted)
    return {"missing": len(items) - len(counted), "untouched": idle}


def plain_of(methods: Mapping[Name, Any]) -> Name:
    """The method that the others are compared with: plain, or the first one if plain was not run."""
    return next((name for name in methods if name == PLAIN), next(iter(methods)))


# --- the two measures -----------------------------------------------------------------------------------------------


def captions(dataset: Dataset, items: Sequence[Item], answers: Answers) -> Measured:
    """CHAIR: its figures for each method's captions, and the counts behind them."""
    part = count_captions(dataset, items, answers)
    return {name: {"figures": figures} for name, figures in compared_with_plain(part).items()}, {"": part}


def yes_and_no(dataset: Dataset, items: Sequence[Item], answers: Answers) -> Measured:
    """POPE: its figures for each method's answers, by parser and split, and the counts by the original's parser."""
    parts = {parser: count_answers(items, answers, parser) for parser in PARSERS}
    scored = {parser: by_split(splits) for parser, splits in parts.items()}
    methods = {
        name: {
            "figures": scored["original"][name][0],
            "parsers": {parser: scores[name][0] for parser, scores in scored.items()},
            "mcnemar": {parser: scores[name][1] for parser, scores in scored.items()},
            "unreadable": sum(map(unreadable, texts.values())),
        }
        for name, texts in answers.items()
    }
    return methods, parts["original"]


def by_split(parts: Mapping[str, Part[Name]]) -> dict[Name, tuple[dict[str, dict], dict[str, dict]]]:
    """Method -> its figures, and its McNemar tests against plain (which has none itself), of all splits."""
    scores: dict[Name, tuple[dict, dict]] = {name: ({}, {}) for part in parts.values() for name in part.methods}
    for split, part in parts.items():
        plain = part.methods[plain_of(part.methods)]
        for name, figures in compared_with_plain(part).items():
            scores[name][0].update({f"{split} {key}".strip(): value for key, value in figures.items()})
            if part.methods[name] is not plain:
                b, c, p = mcnemar(plain.rights, part.methods[name].rights)
                scores[name][1][split or "all"] = {"only_plain": b, "only_this": c, "p": p}
    return scores


def compared_with_plain(part: Part[Name]) -> dict[Name, dict[str, dict]]:
    """Method -> figure -> its value and interval and, except for plain, its difference from plain; in JSON types."""
    plain = plain_of(part.methods)
    times = resamples(len(part.images))
    base = part.methods[plain].ratios
    return {
        name: {
            key: estimate(ratio, times).as_dict() if name == plain else compared(ratio, base[key], times)
            for key, ratio in count.ratios.items()
        }
        for name, count in part.methods.items()
    }


def tidy(value: Any) -> Any:
    """The value with sorted keys, and floats rounded so far that the order of summation does not show."""
    if isinstance(value, Mapping):
        return {name: tidy(value[name]) for name in sorted(value)}
    if isinstance(value, (list, tuple)):
        return [tidy(part) for part in value]
    return round(value, DIGITS) + 0.0 if isinstance(value, float) else value  # + 0.0: no -0.0
