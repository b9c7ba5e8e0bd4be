"""A run as one page: the table, the cases that changed most beside their pictures, and the card.

The page needs nothing but itself: pictures are in it, there is no script, and its own policy lets a browser fetch
nothing. What models and files say is escaped, so that it stays text.
"""

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from io import BytesIO
from pathlib import Path
from string import Template

from PIL import Image, ImageOps

from minivlm.checkpoints import read_json_file
from minivlm.errors import EvaluationError, ImageError
from minivlm.evaluation.chair import Judged, judge
from minivlm.evaluation.datasets import Dataset
from minivlm.evaluation.items import Item
from minivlm.evaluation.pope import said_by_original
from minivlm.evaluation.records import Key, read_records
from minivlm.evaluation.table import Cell, Table, notes, ordered, tables
from minivlm.inputs.image import load_image

PAGE = Path(__file__).with_name("report.html")
SHOWN = 40  # images on the page
SIDE = 320  # pixels of a picture's longer side
TITLES = {"chair": "CHAIR: what captions invent", "pope": "POPE: is it there?"}
NOTE = (
    "In brackets the 95 % interval; for all but plain that of the difference to plain. * marks what is clear of zero."
)
LEGENDS = {
    "chair": "Objects are <mark class='there'>in the picture</mark> or <mark class='invented'>invented</mark>.",
    "pope": "<span class='right'>right</span>, <span class='wrong'>wrong</span>, read as the original program does.",
}


def report(out: Path, dataset: Dataset, items: Sequence[Item]) -> str:
    """The page of the complete run in the folder `out`."""
    card, summary = (read_json_file(out / name, EvaluationError) for name in ("card.json", "summary.json"))
    records = {key: record for key, record in read_records(out).items() if "text" in record}
    methods = list(ordered(summary["methods"]))
    show = {"chair": captions, "pope": answers}[summary["task"]]
    cases = [case for case in show(dataset, items, records, methods) if case[0] > 0 or len(methods) == 1]
    cases.sort(key=lambda case: -case[0])
    body = [
        f"<p class='soft'>{NOTE}</p>",
        *map(html_table, tables(summary)),
        *(f"<p class='soft'>{escape(note)}</p>" for note in notes(summary)),
        missing(summary["missing"]),
        *changed(cases, summary["task"], dataset),
    ]
    body.append(
        f"<details><summary>The card of the run</summary><pre>{escape(json.dumps(card, indent=1))}</pre></details>"
    )
    model, data = card["model"]["name"], summary["data"]["name"]
    subtitle = f"{model} on {data}: {summary['images']:,} images, {summary['items']:,} questions."
    return Template(PAGE.read_text("utf-8")).substitute(
        title=TITLES[summary["task"]], subtitle=escape(subtitle), body="\n".join(filter(None, body))
    )


# --- the table ------------------------------------------------------------------------------------------------------


def html_table(table: Table) -> str:
    head = "".join(f"<th scope='col'>{escape(title)}</th>" for title in ("", *table.columns))
    rows = []
    for part, own in table.parts.items():
        if part == "controls":
            rows.append(f"<tr class='part'><th scope='rowgroup' colspan='{len(table.columns) + 1}'>controls</th></tr>")
        rows += [
            f"<tr><th scope='row'>{escape(name)}</th>{''.join(map(html_cell, cells))}</tr>"
            for name, cells in own.items()
        ]
    label = escape(table.title, quote=True)
    whole = f"<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody>"
    return (
        f"<h2>{escape(table.title)}</h2><div class='wide' tabindex='0' role='region' aria-label='{label}'>"
        f"<table aria-label='{label}'>{whole}</table></div>"
    )


def html_cell(cell: Cell) -> str:
    if cell.same:
        return f"<td>{cell.value} <span class='interval'>the same</span></td>"
    difference = f" <span{' class=clear' if cell.clear else ''}>{cell.difference}</span>" if cell.difference else ""
    return f"<td>{cell.value}{difference} <span class='interval'>[{cell.low}, {cell.high}]</span></td>"


def missing(images: Sequence[Sequence[str]]) -> str:
    """Pictures that could not be read; nothing if there are none."""
    if not images:
        return ""
    rows = "".join(f"<li>{escape(image)}: {escape(why)}</li>" for image, why in images)
    return f"<h2>{len(images)} pictures could not be read</h2><p>They are left out of all figures.</p><ul>{rows}</ul>"


# --- the cases ------------------------------------------------------------------------------------------------------

Case = tuple[int, str, str]  # how much the methods changed, the image, and what was said of it as HTML


def captions(
    dataset: Dataset, items: Sequence[Item], records: Mapping[Key, Mapping], methods: Sequence[str]
) -> Iterator[Case]:
    """The captions of every image side by side; a change is an object that one names and the first does not."""
    for item in items:
        told = {name: records[item.id, name]["text"] for name in methods if (item.id, name) in records}
        if told:
            judged = {name: judge(text, dataset.truth[item.image], dataset.lexicon) for name, text in told.items()}
            plain = next(iter(judged.values())).named
            rows = [(name, marked(told[name], one)) for name, one in judged.items()]
            yield sum(len(one.named ^ plain) for one in judged.values()), item.image, said(rows)


def answers(
    dataset: Dataset, items: Sequence[Item], records: Mapping[Key, Mapping], methods: Sequence[str]
) -> Iterator[Case]:
    """The questions about an image to which the methods' answers differ from the first one's, each once."""
    parts: dict[str, dict[str, str]] = {}
    counts: dict[str, int] = {}
    for item in items:
        told = {name: records[item.id, name]["text"] for name in methods if (item.id, name) in records}
        read = {name: said_by_original(text) for name, text in told.items()}
        changes = sum(answer != next(iter(read.values())) for answer in read.values())
        alone_and_wrong = len(methods) == 1 and item.label not in read.values()
        if told and item.question not in parts.get(item.image, {}) and (changes or alone_and_wrong):
            rows = [(name, verdict(text, read[name] == item.label)) for name, text in told.items()]
            parts.setdefault(item.image, {})[item.question] = f"<p>{escape(item.question)}</p>{said(rows)}"
            counts[item.image] = counts.get(item.image, 0) + changes
    for image, own in parts.items():
        yield counts[image], image, "".join(own.values())


def marked(text: str, judged: Judged) -> str:
    """A caption, escaped, with its objects marked."""
    parts, end = [], 0
    for mention, invented in zip(judged.mentions, judged.invented, strict=True):
        kind, words = "invented" if invented else "there", escape(text[mention.start : mention.stop])
        parts += [
            escape(text[end : mention.start]),
            f"<mark class='{kind}' title='{kind}: {escape(mention.object, quote=True)}'>{words}</mark>",
        ]
        end = mention.stop
    return "".join([*parts, escape(text[end:])])


def verdict(text: str, right: bool) -> str:
    return f"<span class='{'right' if right else 'wrong'}'>{escape(text)}</span>"


def said(rows: Sequence[tuple[str, str]]) -> str:
    """What each method said; those that say the same stand together."""
    methods: dict[str, list[str]] = {}
    for name, text in rows:
        methods.setdefault(text, []).append(name)
    alike = len(methods) == 1 < len(rows)
    told = [("all methods" if alike else ", ".join(names), text) for text, names in methods.items()]
    return "<dl class='told'>" + "".join(f"<dt>{escape(names)}</dt><dd>{text}</dd>" for names, text in told) + "</dl>"


def changed(cases: Sequence[Case], task: str, dataset: Dataset) -> Iterator[str]:
    """The cases that changed most, each with its picture."""
    count = f"{min(SHOWN, len(cases))} of {len(cases)} images that changed."
    yield f"<h2>What changed most</h2><p class='soft'>{LEGENDS[task]} {count}</p>"
    yield "<ol class='cases'>"
    for _, image, told in cases[:SHOWN]:
        there = ", ".join(sorted(dataset.truth[image])) or "no object"
        yield (
            f"<li class='case'><figure>{thumbnail(dataset, image)}<figcaption>{escape(image)}: {escape(there)}"
            f"</figcaption></figure><div>{told}</div></li>"
        )
    yield "</ol>"


def thumbnail(dataset: Dataset, image: str) -> str:
    """The picture, small, as a part of the page."""
    try:
        picture = load_image(dataset.picture(image)).convert("RGB")
    except ImageError as error:
        return f"<p>{escape(str(error))}</p>"
    small = ImageOps.contain(picture, (SIDE, SIDE), Image.Resampling.LANCZOS) if max(picture.size) > SIDE else picture
    file = BytesIO()
    small.save(file, "JPEG", quality=82)
    data = base64.b64encode(file.getvalue()).decode("ascii")
    return f"<img src='data:image/jpeg;base64,{data}' alt='image {escape(image, quote=True)}' loading='lazy'>"
