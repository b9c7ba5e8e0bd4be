"""A run as one page: the table, the cases that changed most beside their pictures, and the card.

The page is one self-contained file: it holds its pictures, it has no script, and its content security policy forbids
the browser to fetch anything. Text from models and files is escaped, so it cannot act as HTML.
"""

import base64
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from io import BytesIO
from pathlib import Path
from string import Template

from PIL import Image, ImageOps

from minivlm.errors import ImageError
from minivlm.evaluation.chair import Judged, judge
from minivlm.evaluation.datasets import Dataset
from minivlm.evaluation.items import Item
from minivlm.evaluation.lines import read_json
from minivlm.evaluation.pope import said_by_original
from minivlm.evaluation.records import Key, read_records
from minivlm.evaluation.table import Cell, Table, notes, ordered, tables
from minivlm.inputs.image import load_image

PAGE = Path(__file__).with_name("report.html")
SHOWN = 40  # images on the page
SIDE = 320  # pixels of a picture's longer side
LISTED = 100  # missing pictures that are named
TITLES = {"chair": "CHAIR: what captions invent", "pope": "POPE: is it there?"}
NOTES = {
    "chair": "CHAIR_s is the share of captions that name an object which is not there, CHAIR_i the share of all named "
    "objects: less is better, unless recall, the share of what is there that is named, is lost with it. Words are "
    "counted.",
    "pope": "What is looked for is yes. The column yes is its share among the answers, best near 50 where half of the "
    "objects are there. McNemar's test asks whether a method is right as often as plain on the same questions.",
}
INTERVALS = (
    "In brackets the 95 % interval, for all but plain that of the difference to plain, which is drawn below: the "
    "upright stroke is no difference. * marks what is clear of it, as one in twenty is by chance."
)
LEGENDS = {
    "chair": "Objects are <mark class='there'>in the picture</mark> or <mark class='invented'>invented</mark>.",
    "pope": "<span class='right'>right</span>, <span class='wrong'>wrong</span>, read as the original program does.",
}
WHISKER = 50  # half the width of a drawn difference


def report(out: Path, dataset: Dataset, items: Sequence[Item]) -> str:
    """The HTML page of the complete run in the folder `out`; `dataset` and `items` are those of the run."""
    card, summary = (read_json(out / name) for name in ("card.json", "summary.json"))
    records = {key: record for key, record in read_records(out).items() if "text" in record}
    methods, task = list(ordered(summary["methods"])), summary["task"]
    cases = [case for case in {"chair": captions, "pope": answers}[task](dataset, items, records, methods) if case[0]]
    cases.sort(key=lambda case: -case[0])
    body = [
        *(f"<p class='soft'>{note}</p>" for note in (NOTES[task], INTERVALS)),
        *map(html_table, tables(summary)),
        *(f"<p class='soft'>{escape(note)}</p>" for note in notes(summary)),
        *([other_parser(summary)] if task == "pope" else []),
        missing(summary["missing"]),
        *shown(cases, task, dataset, "changed" if len(methods) > 1 else "went wrong"),
        folded("The card of the run", f"<pre>{escape(json.dumps(card, indent=1, ensure_ascii=False))}</pre>"),
    ]
    subtitle = (
        f"{card['model']['name']} on {summary['data']['name']}: {summary['images']:,} images, "
        f"{summary['items']:,} questions."
    )
    page = Template(PAGE.read_text("utf-8")).substitute(
        title=TITLES[task], subtitle=escape(subtitle), body="\n".join(filter(None, body))
    )
    return page.encode("utf-8", "replace").decode("utf-8")  # a text may hold half a character


# --- the table ------------------------------------------------------------------------------------------------------


def html_table(table: Table) -> str:
    """A table with its heading; the rows of the controls follow below a line of their own."""
    head = "".join(f"<th scope='col'>{escape(title)}</th>" for title in ("", *table.columns))
    controls = f"<tr class='part'><th scope='rowgroup' colspan='{len(table.columns) + 1}'>controls</th></tr>"
    parts = []
    columns = zip(*table.rows.values(), strict=True)
    reach = [max((abs(end) for cell in column for end in cell.spread), default=0) for column in columns]
    for part, methods in table.parts.items():
        rows = [
            f"<tr><th scope='row'>{escape(name)}</th>{html_cells(cells, reach)}</tr>" for name, cells in methods.items()
        ]
        parts.append(f"<tbody>{controls if part == 'controls' else ''}{''.join(rows)}</tbody>")
    label = escape(table.title, quote=True)
    return (
        f"<h2>{escape(table.title)}</h2><div class='wide' tabindex='0' role='region' aria-label='{label}'>"
        f"<table aria-label='{label}'><thead><tr>{head}</tr></thead>{''.join(parts)}</table></div>"
    )


def html_cells(cells: Sequence[Cell], reach: Sequence[float]) -> str:
    """The cells of one row; `reach`: for each column as in `html_cell`."""
    return "".join(f"<td>{html_cell(cell, most)}</td>" for cell, most in zip(cells, reach, strict=True))


def html_cell(cell: Cell, reach: float) -> str:
    """The value, its interval below it, and the difference drawn to scale; `reach`: the column's largest difference."""
    if cell.same or not cell.low:
        return f"{escape(cell.value)}{'<small>the same</small>' if cell.same else ''}"
    kind = "difference clear" if cell.clear else "difference"
    difference = f" <span class='{kind}'>{cell.difference}</span>" if cell.difference else ""
    return minus(f"{cell.value}{difference}<small>[{cell.low}, {cell.high}]</small>") + whisker(cell, reach)


def minus(text: str) -> str:
    """The text with the minus sign U+2212 in front of numbers, which is as wide as a plus."""
    return re.sub(r"(?<![\w])-(?=\d)", "−", text)


def whisker(cell: Cell, reach: float) -> str:
    """A difference and its interval as an SVG drawing; empty for plain."""
    if not cell.spread:
        return ""
    low, value, high = (f"{WHISKER * part / reach:.1f}" for part in cell.spread)
    kind = "whisker clear" if cell.clear else "whisker"
    box = f"{-WHISKER - 5} -5 {2 * WHISKER + 10} 10"  # room for the dot at either end
    return (
        f"<svg class='{kind}' viewBox='{box}' aria-hidden='true'>"
        f"<path class='zero' d='M0-5V5'/><path d='M{low} 0H{high}'/><circle cx='{value}' r='3'/></svg>"
    )


def other_parser(summary: Mapping) -> str:
    """POPE's figures by the second parser, folded away; they show whether the parser matters."""
    return folded("The same, read by the first word", "".join(map(html_table, tables(summary, "first word"))))


def folded(title: str, content: str) -> str:
    """HTML `content` that is hidden until the reader clicks on the title."""
    return f"<details><summary>{escape(title)}</summary>{content}</details>"


def missing(images: Sequence[Sequence[str]]) -> str:
    """The list of pictures that could not be read, (image, reason) each; empty if there are none."""
    if not images:
        return ""
    rows = "".join(f"<li>{escape(image)}: {escape(why)}</li>" for image, why in images[:LISTED])
    more = f"<li>… and {len(images) - LISTED:,} more</li>" if len(images) > LISTED else ""
    title = "1 picture" if len(images) == 1 else f"{len(images):,} pictures"
    return f"<h2>{title} could not be read</h2><p>Left out of all figures.</p><ul class='soft'>{rows}{more}</ul>"


# --- the cases ------------------------------------------------------------------------------------------------------

# How much the methods changed, or how much a single method got wrong; the image's id; the answers about it as HTML.
Case = tuple[int, str, str]


def captions(
    dataset: Dataset, items: Sequence[Item], records: Mapping[Key, Mapping], methods: Sequence[str]
) -> Iterator[Case]:
    """A case for each image, its captions side by side; a change is an object named by one of two methods only."""
    for item in items:
        texts = {name: records[item.id, name]["text"] for name in methods if (item.id, name) in records}
        if texts:
            judged = {name: judge(text, dataset.truth[item.image], dataset.lexicon) for name, text in texts.items()}
            plain = next(iter(judged.values()))
            changes = sum(len(one.named ^ plain.named) for one in judged.values())
            rows = [(name, marked(texts[name], one)) for name, one in judged.items()]
            yield changes if len(methods) > 1 else len(plain.hallucinated), item.image, answers_html(rows)


def answers(
    dataset: Dataset, items: Sequence[Item], records: Mapping[Key, Mapping], methods: Sequence[str]
) -> Iterator[Case]:
    """A case for each image, with the questions, each once, that some method answers differently from the first."""
    parts: dict[str, dict[str, str]] = {}
    counts: dict[str, int] = {}
    for item in items:
        texts = {name: records[item.id, name]["text"] for name in methods if (item.id, name) in records}
        read = {name: said_by_original(text) for name, text in texts.items()}
        compared = next(iter(read.values()), None) if len(methods) > 1 else item.label
        changes = sum(answer != compared for answer in read.values())
        if changes and item.question not in parts.get(item.image, {}):
            rows = [(name, verdict(text, read[name] == item.label)) for name, text in texts.items()]
            parts.setdefault(item.image, {})[item.question] = f"<p>{escape(item.question)}</p>{answers_html(rows)}"
            counts[item.image] = counts.get(item.image, 0) + changes
    for image, questions in parts.items():
        yield counts[image], image, "".join(questions.values())


def marked(text: str, judged: Judged) -> str:
    """A caption as HTML with its objects marked."""
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
    """An answer as HTML, marked as right or wrong."""
    return f"<span class='{'right' if right else 'wrong'}'>{escape(text)}</span>"


def answers_html(rows: Sequence[tuple[str, str]]) -> str:
    """The answers, (method, HTML) each; methods with the same answer are listed together."""
    methods: dict[str, list[str]] = {}
    for name, text in rows:
        methods.setdefault(text, []).append(name)
    alike = len(methods) == 1 < len(rows)
    pairs = [("all methods" if alike else ", ".join(names), text) for text, names in methods.items()]
    return "<dl class='told'>" + "".join(f"<dt>{escape(names)}</dt><dd>{text}</dd>" for names, text in pairs) + "</dl>"


def shown(cases: Sequence[Case], task: str, dataset: Dataset, what: str) -> Iterator[str]:
    """The first cases as HTML, each with its picture; `what` completes "images that …"."""
    count = f"{min(SHOWN, len(cases)):,} of {len(cases):,} images that {what}." if cases else f"No image {what}."
    yield f"<h2>What {what} most</h2><p class='soft'>{LEGENDS[task]} {count}</p>"
    yield "<ol class='cases'>"
    for _, image, answers in cases[:SHOWN]:
        objects = ", ".join(sorted(dataset.truth[image])) or "no object"
        yield (
            f"<li class='case'><figure>{thumbnail(dataset, image)}<figcaption>Image {escape(image)}: {escape(objects)}"
            f"</figcaption></figure><div>{answers}</div></li>"
        )
    yield "</ol>"


def thumbnail(dataset: Dataset, image: str) -> str:
    """The picture, scaled down to `SIDE`, as an <img> that holds its data; a sentence if it cannot be read."""
    try:
        picture = load_image(dataset.picture(image)).convert("RGB")
    except ImageError as error:
        return f"<p>{escape(str(error))}</p>"
    small = ImageOps.contain(picture, (SIDE, SIDE), Image.Resampling.LANCZOS) if max(picture.size) > SIDE else picture
    file = BytesIO()
    small.save(file, "JPEG", quality=82)
    data = base64.b64encode(file.getvalue()).decode("ascii")
    return f"<img src='data:image/jpeg;base64,{data}' alt='image {escape(image, quote=True)}'>"
