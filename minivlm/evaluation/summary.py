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
from minivlm.evaluation.counts import Answers, Part, as_json, count_answers, count_captions
from minivlm.evaluation.datasets import Dataset
from minivlm.evaluation.items import Item
from minivlm.evaluation.pope import PARSERS, unreadable
from minivlm.evaluation.records import Key
from minivlm.evaluation.settings import PLAIN
from minivlm.stats import compared, estimate, mcnemar, resamples

DIGITS = 6  # of every figure
Records = Mapping[Key, Mapping[str, Any]]
Found = tuple[dict[str, dict], dict[str, Part]]


def summary(
    card: Mapping[str, Any], dataset: Dataset, items: Sequence[Item], records: Records
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The summary and what it was counted from (counts.py), in JSON types. `records`: all of them, see `merged`."""
    missing = unread(items, records)
    counted = [item for item in items if item.image not in missing]
    measure = {"chair": captions, "pope": yes_and_no}[card["task"]]
    methods = list(card["methods"])
    answers = {name: texts(counted, records, name) for name in methods}
    figures, parts = measure(dataset, counted, answers) if counted else ({}, {})
    told = {
        "task": card["task"],
        "data": {name: card["data"][name] for name in ("name", "fingerprint")},
        "images": len({item.image for item in items}),
        "items": len(items),
        "methods": {name: {**counts(items, counted, records, name), **figures.get(name, {})} for name in methods},
        "missing": [[image, missing[image]] for image in sorted(missing)],
        "card": fingerprint(card),
    }
    return tidy(told), as_json(card["task"], items, parts, told["card"])


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
    return PLAIN if PLAIN in methods else next(iter(methods))


# --- the two measures -----------------------------------------------------------------------------------------------


def captions(dataset: Dataset, items: Sequence[Item], answers: Answers) -> Found:
    """Method -> what CHAIR finds in its captions; and what was counted for it."""
    part = count_captions(dataset, items, answers)
    return {name: {"figures": own} for name, own in held_against_plain(part).items()}, {"": part}


def yes_and_no(dataset: Dataset, items: Sequence[Item], answers: Answers) -> Found:
    """Method -> what POPE finds in its answers, by each parser and split; and what was counted by the original's."""
    parts = {parser: count_answers(items, answers, parser) for parser in PARSERS}
    scored = {parser: by_split(own) for parser, own in parts.items()}
    found = {
        name: {
            "figures": scored["original"][name][0],
            "parsers": {parser: found[name][0] for parser, found in scored.items()},
            "mcnemar": {parser: found[name][1] for parser, found in scored.items()},
            "unreadable": sum(map(unreadable, told.values())),
        }
        for name, told in answers.items()
    }
    return found, parts["original"]


def by_split(parts: Mapping[str, Part]) -> dict[str, tuple[dict, dict]]:
    """Method -> its figures, and its tests against the plain model (which itself has none), of all splits."""
    found: dict[str, tuple[dict, dict]] = {name: ({}, {}) for part in parts.values() for name in part.methods}
    for split, part in parts.items():
        plain = part.methods[plain_of(part.methods)]
        for name, figures in held_against_plain(part).items():
            found[name][0].update({f"{split} {key}".strip(): value for key, value in figures.items()})
            if part.methods[name] is not plain:
                b, c, p = mcnemar(plain.rights, part.methods[name].rights)
                found[name][1][split or "all"] = {"only_plain": b, "only_this": c, "p": p}
    return found


def held_against_plain(part: Part) -> dict[str, dict]:
    """Method -> figure -> its value and interval and, but for the plain model, the difference to that."""
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


def tidy(told: Any) -> Any:
    """Keys in alphabetical order, and figures of so many digits that the order of a sum does not show."""
    if isinstance(told, Mapping):
        return {name: tidy(told[name]) for name in sorted(told)}
    if isinstance(told, (list, tuple)):
        return [tidy(value) for value in told]
    return round(told, DIGITS) + 0.0 if isinstance(told, float) else told  # no -0.0
