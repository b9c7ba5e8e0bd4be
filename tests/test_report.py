"""The page of a run, looked at as text and in a browser; and its table, which is the same wherever it stands."""

import base64
import json
import re
from dataclasses import dataclass
from html import escape
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from minivlm.errors import ImageError
from minivlm.evaluation import report as page
from minivlm.evaluation.datasets import Dataset
from minivlm.evaluation.items import Item
from minivlm.evaluation.methods import methods
from minivlm.evaluation.records import Recorder
from minivlm.evaluation.report import report
from minivlm.evaluation.runner import conclude
from minivlm.evaluation.scenes import SceneWords
from minivlm.evaluation.settings import CONTROLS
from minivlm.evaluation.table import as_markdown, as_text, cell, notes, ordered, signed, tables
from minivlm.files import write_json
from support.browser import CHROMIUM, Browser
from support.fake_run import METHODS, fake_card

HOSTILE = (
    "A dog <script>alert(1)</script> \"and\" 'a' <img src=x onerror=alert()> & a pizza. <i>See</i> https://example.org/"
)
TRUTH = {"1": {"dog", "frisbee"}, "2": {"pizza"}, "3": {"dog"}, "4": {"dog"}}
CAPTIONS = {
    "plain": {"1": "A dog and a frisbee.", "2": HOSTILE, "3": "A dog, a pizza and a spoon.", "4": "\ud800 A dog."},
    "eah": {"1": "A dog and a frisbee.", "2": "A pizza.", "3": "A dog, a pizza and a clock.", "4": "A pizza, a spoon."},
    "clva": {"1": "A dog and a frisbee.", "2": "A pizza.", "3": "A dog, a pizza and a spoon.", "4": "A pizza, a kite."},
}


@dataclass(frozen=True)
class Pictures:
    """A large picture of noise for each image, but for those that are missing."""

    missing: tuple[str, ...] = ()

    def picture(self, image: str) -> Image.Image:
        if image in self.missing:
            raise ImageError(f"The picture of image {image} is missing: there is no '<b>{image}</b>'.")
        return Image.effect_noise((640, 480), 90).convert("RGB")

    def named(self, file: str) -> None:
        return None

    def marks(self, images) -> list:
        return []


def data_of(truth, missing=()) -> Dataset:
    return Dataset(
        "made <up>",
        tuple(truth),
        {image: frozenset(names) for image, names in truth.items()},
        SceneWords(),
        Pictures(missing),
    )


def ended(out: Path, data: Dataset, items, texts, task: str = "chair", known=None):
    """The folder of a complete run in which every method answered what `texts` says; its summary."""
    out.mkdir(exist_ok=True)
    known = methods(list(texts)) if known is None else known
    card = fake_card(data, task, model={"name": "a </pre> model"})
    card |= {"methods": {name: method.as_dict() for name, method in known.items()}}
    card["data"] |= {"images": len(data.images)}
    write_json(out / "card.json", card)
    with Recorder(out) as recorder:
        for name, told in texts.items():
            for item in items:
                record = {"id": item.id, "image": item.image, "method": name}
                answer = {"text": told.get(item.id, ""), "finish": "stop", "tokens": 3}
                absent = {"error": f"The picture of image {item.image} is missing: there is no '<b>'."}
                recorder.write(record | (absent if item.image in data.source.missing else answer))
    return conclude(out, data, items)


def described(data: Dataset) -> list[Item]:
    return [Item(image, image, "Describe <it>.") for image in data.images]


def chair_page(tmp_path, texts=CAPTIONS, truth=TRUTH, missing=()) -> str:
    data = data_of(truth, missing)
    items = described(data)
    ended(tmp_path / "chair", data, items, texts)
    return report(tmp_path / "chair", data, items)


def asked(data: Dataset, things=("dog", "frisbee", "pizza")) -> list[Item]:
    return [
        Item(f"{split}/{image}/{thing}", image, f"Is there a {thing}?", split, thing in data.truth[image])
        for image in data.images
        for split in ("random", "popular")
        for thing in things
    ]


def pope_page(tmp_path, names=("plain", "eah"), missing=()) -> str:
    """Plain is right but for the boasting about image 3; the others take a dog for a pizza in image 1."""
    data = data_of(TRUTH, missing)
    items = asked(data)
    right = {item.id: "Yes." if item.label else "No." for item in items}
    plain = right | {f"{split}/3/pizza": "Yes, it is" for split in ("random", "popular")}
    other = plain | {"random/1/dog": "No.", "random/1/pizza": "<b>Yes", "random/2/dog": "Perhaps <i>."}
    ended(tmp_path / "pope", data, items, {name: plain if name == "plain" else other for name in names}, "pope")
    return report(tmp_path / "pope", data, items)


class Read(HTMLParser):
    """The elements of a page; complains about what is not closed in its order."""

    VOID = ("meta", "img", "br", "path", "circle")

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open, self.found, self.texts = [], [], []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_startendtag(self, tag, attributes) -> None:
        self.found.append((tag, dict(attributes)))

    def handle_starttag(self, tag, attributes) -> None:
        self.found.append((tag, dict(attributes)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data) -> None:
        if not {"style", "title"} & set(self.open):
            self.texts.append(data)

    def named(self, tag: str) -> list[dict]:
        return [attributes for name, attributes in self.found if name == tag]

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", "".join(self.texts))


@pytest.fixture
def both(tmp_path) -> list[str]:
    return [chair_page(tmp_path), pope_page(tmp_path)]


# --- what a page may hold ---------------------------------------------------------------------------------------------


def test_every_element_is_closed_and_none_is_a_script(both):
    for html in both:
        read = Read(html)
        assert {"html", "head", "body", "table", "h1", "details"} <= {tag for tag, _ in read.found}
        assert not {"script", "iframe", "object", "embed", "link", "form", "base"} & {tag for tag, _ in read.found}
        assert not any(name.startswith("on") for _, attributes in read.found for name in attributes)


def test_nothing_is_fetched(both):
    for html in both:
        read = Read(html)
        (policy,) = [meta["content"] for meta in read.named("meta") if "http-equiv" in meta]
        assert policy == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
        assert all(image["src"].startswith("data:image/jpeg;base64,") for image in read.named("img"))
        addresses = [v for _, attributes in read.found for k, v in attributes.items() if k in ("href", "src", "xmlns")]
        assert all(address.startswith("data:") for address in addresses)
        style = html[html.index("<style>") : html.index("</style>")]
        assert "url(" not in style
        assert "@import" not in style
    assert not [html for html in both if "http:" in html]
    assert "https:" not in both[1]
    assert both[0].count("https://example.org/") == 1  # what a model said
    assert "https://example.org/" in Read(both[0]).text


def test_what_a_model_says_stays_text(tmp_path):
    html = chair_page(tmp_path)
    assert "<script" not in html
    assert "<img src=x" not in html
    assert escape("<script>alert(1)</script>") in html
    assert HOSTILE in Read(html).text
    assert "made <up>" in Read(html).text
    assert "a </pre> model" in Read(html).text


def test_half_a_character_does_not_stop_the_page(tmp_path):
    html = chair_page(tmp_path)
    assert "? A dog." in Read(html).text
    assert html.encode("utf-8")


def test_a_page_of_many_images_is_bounded(tmp_path):
    truth = {str(number): {"dog"} for number in range(page.SHOWN + 9)}
    texts = {"plain": dict.fromkeys(truth, "A dog."), "eah": dict.fromkeys(truth, "A spoon.")}
    html = chair_page(tmp_path, texts, truth)
    images = Read(html).named("img")
    assert len(images) == page.SHOWN
    assert f"{page.SHOWN} of {page.SHOWN + 9} images that changed." in html
    sizes = {Image.open(BytesIO(base64.b64decode(image["src"].partition(",")[2]))).size for image in images}
    assert sizes == {(page.SIDE, page.SIDE * 3 // 4)}
    assert len(html) < 100_000 * page.SHOWN  # noise, which is the worst case for JPEG


# --- cases ------------------------------------------------------------------------------------------------------------


def cases(html: str) -> list[str]:
    return re.findall(r"<li class='case'>.*?</li>", html)


def test_invented_objects_are_marked_at_their_characters(tmp_path):
    html = chair_page(tmp_path)
    there = "<mark class='there' title='there: {0}'>{0}</mark>".format
    invented = "<mark class='invented' title='invented: {0}'>{0}</mark>".format
    assert f"<dd>A {there('dog')}, a {invented('pizza')} and a {invented('spoon')}.</dd>" in html
    assert f"<dd>A {there('dog')}, a {invented('pizza')} and a {invented('clock')}.</dd>" in html
    hostile = escape(HOSTILE).replace("A dog", f"A {invented('dog')}").replace("a pizza", f"a {there('pizza')}")
    assert f"<dd>{hostile}</dd>" in html


def test_what_changed_most_comes_first_and_what_did_not_change_is_absent(tmp_path):
    """In image 4 each method differs from plain by three objects, in 3 one of them by two, in 2 each by one."""
    found = cases(chair_page(tmp_path))
    assert [re.search(r"alt='image (\d)'", case)[1] for case in found] == ["4", "2", "3"]


def test_methods_that_say_the_same_stand_together(tmp_path):
    _, second, third = cases(chair_page(tmp_path))
    assert re.findall(r"<dt>(.*?)</dt>", second) == ["plain", "eah, clva"]
    assert re.findall(r"<dt>(.*?)</dt>", third) == ["plain, clva", "eah"]


def test_a_single_method_shows_its_inventions(tmp_path):
    html = chair_page(tmp_path, {"plain": CAPTIONS["plain"]})
    assert "What went wrong most" in html
    assert [re.search(r"alt='image (\d)'", case)[1] for case in cases(html)] == ["3", "2"]
    assert "class='difference" not in html


def test_a_single_method_shows_its_wrong_answers(tmp_path):
    html = pope_page(tmp_path, ["plain"])
    (case,) = cases(html)
    assert "alt='image 3'" in case
    assert case.count("Is there a pizza?") == 1  # asked in two splits
    assert "<span class='wrong'>Yes, it is</span>" in case


def test_questions_that_were_answered_otherwise_are_shown_with_who_was_right(tmp_path):
    first, *others = cases(pope_page(tmp_path))
    assert "alt='image 1'" in first
    assert re.findall(r"<p>(.*?)</p>", first) == ["Is there a dog?", "Is there a pizza?"]
    assert "<dt>plain</dt><dd><span class='right'>Yes.</span></dd>" in first
    assert "<dt>eah</dt><dd><span class='wrong'>&lt;b&gt;Yes</span></dd>" in first
    assert ["image 2" in case for case in others] == [True]


def test_missing_pictures_are_listed_and_not_shown(tmp_path):
    for html in (chair_page(tmp_path, missing=("3",)), pope_page(tmp_path, missing=("3",))):
        assert "1 picture could not be read" in html
        assert "The picture of image 3 is missing" in Read(html).text
        assert "alt='image 3'" not in html
        assert "<b>" not in html


def test_many_missing_pictures_are_counted(tmp_path):
    truth = {str(number): {"dog"} for number in range(page.LISTED + 6)}
    html = chair_page(tmp_path, {"plain": dict.fromkeys(truth, "A spoon.")}, truth, tuple(truth)[1:])
    assert f"{page.LISTED + 5} pictures could not be read" in html
    assert "… and 5 more" in html


def test_a_run_without_any_picture_has_a_page(tmp_path):
    html = chair_page(tmp_path, missing=tuple(TRUTH))
    assert "4 pictures could not be read" in html
    assert "<table" not in html
    Read(html)


def test_the_card_is_on_the_page(tmp_path):
    html = chair_page(tmp_path)
    card = re.search(r"<pre>(.*?)</pre>", html, re.DOTALL)[1]
    assert json.loads(Read(f"<p>{card}</p>").text) == json.loads((tmp_path / "chair" / "card.json").read_text())


def test_both_readings_of_yes_and_no_are_on_the_page(tmp_path):
    html = pope_page(tmp_path)
    assert html.count("<table") == 4
    assert "The same, read by the first word" in html
    assert "eah: 1 answers have neither a yes nor a no, and count as yes." in Read(html).text


# --- the table --------------------------------------------------------------------------------------------------------


def all_methods(tmp_path, names=("clva", "eah", "plain", *CONTROLS)) -> dict:
    """A summary in which the methods come in an unusual order, and the first control does what plain does."""
    data = data_of({str(n): {"dog", "frisbee"} for n in range(30)})
    said = {"plain": "A dog and a spoon.", "eah": "A dog.", "eah-random-head": "A dog and a spoon."}
    texts = {
        name: {image: said.get(name, "A dog and a spoon.") if int(image) % 3 else "A frisbee." for image in data.images}
        for name in names
    }
    return ended(tmp_path / "all", data, described(data), texts)


def test_controls_stand_below_the_methods_under_their_own_heading(tmp_path):
    found = all_methods(tmp_path)
    data = data_of({str(n): {"dog", "frisbee"} for n in range(30)})
    html = report(tmp_path / "all", data, described(data))
    rows = re.findall(r"<th scope='row(?:group)?'[^>]*>(.*?)</th>", html)
    expected = ["plain", "eah", "clva", "controls", *CONTROLS]
    assert rows == expected
    assert [line.split()[0] for line in as_text(found).splitlines()[3:12] if line] == expected
    lines = as_markdown(found).splitlines()[2:]
    assert [line.split(" | ")[0].strip("| *") for line in lines] == expected


def test_the_same_figures_stand_in_text_markdown_and_page(tmp_path):
    found = all_methods(tmp_path)
    data = data_of({str(n): {"dog", "frisbee"} for n in range(30)})
    html = Read(report(tmp_path / "all", data, described(data))).text.replace("−", "-")
    (table,) = tables(found)
    text, markdown = as_text(found), as_markdown(found)
    assert set(table.rows) == {*METHODS, *CONTROLS}
    for name, cells in table.rows.items():
        assert len(cells) == len(table.columns)
        (text_row,) = [line for line in text.splitlines() if line.startswith(f"{name} ")]
        (markdown_row,) = [line for line in markdown.splitlines() if line.startswith(f"| {name} ")]
        for one in cells:
            assert f"{one}{'*' if one.clear else ''}" in text_row
            assert str(one) in markdown_row.replace("**", "")
            assert one.value in html
            assert one.same or f"[{one.low}, {one.high}]" in html
    (eah,) = [line for line in markdown.splitlines() if line.startswith("| eah ")]
    assert "0.0 (**-66.7** [-83.3, -50.0])" in eah


def test_figures_are_per_cent_and_words_are_counted(tmp_path):
    found = all_methods(tmp_path)
    (table,) = tables(found)
    value = dict(zip(table.columns, table.rows["plain"], strict=True))
    assert value["CHAIR_s"].value == "66.7"
    assert value["words"].value == f"{(20 * 5 + 10 * 2) / 30:.1f}"


def test_a_difference_is_clear_if_its_interval_leaves_out_zero():
    def figure(low, high):
        return {
            "value": 0.5,
            "low": 0.4,
            "high": 0.6,
            "difference": {"value": (low + high) / 2, "low": low, "high": high},
        }

    assert cell(figure(-0.2, -0.01)).clear
    assert cell(figure(0.01, 0.2)).clear
    assert not cell(figure(-0.01, 0.2)).clear
    assert not cell(figure(0.0, 0.2)).clear
    assert cell(figure(0.0, 0.0)).same
    assert str(cell(figure(0.0, 0.0))) == "50.0 (the same)"
    assert str(cell(figure(-0.2, 0.0))) == "50.0 (-10.0 [-20.0, 0.0])"


def test_zero_has_no_sign():
    assert [signed(number) for number in (-0.04, 0.04, -0.06, 0.06)] == ["0.0", "0.0", "-0.1", "+0.1"]


def test_methods_that_did_nothing_are_told():
    methods = {"eah": {"untouched": 1200, "missing": 0}, "plain": {"untouched": 0, "unreadable": 3, "missing": 0}}
    told = notes({"methods": methods, "items": 3000})
    assert told == [
        "plain: 3 answers have neither a yes nor a no, and count as yes.",
        "eah changed nothing in 1,200 of 3,000 answers.",
    ]
    assert list(ordered(dict.fromkeys(["clva-swapped", "mine", "both", "plain"]))) == [
        "plain",
        "both",
        "clva-swapped",
        "mine",
    ]


def test_each_split_has_a_table_with_its_test(tmp_path):
    pope_page(tmp_path)
    found = json.loads((tmp_path / "pope" / "summary.json").read_text())
    random, popular = tables(found)
    assert (random.title, popular.title) == ("is there …? random (%)", "is there …? popular (%)")
    assert random.columns[-1] == "McNemar p"
    assert (str(random.rows["plain"][-1]), str(random.rows["eah"][-1])) == ("", "0.250")  # 3 of 3: 2 * 1/8
    assert str(popular.rows["eah"][-1]) == "1.000"


# --- in a browser -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    if not CHROMIUM:
        pytest.skip("no Chromium on this machine (Debian's package is called chromium): the page was not tried")
    browser = Browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


@pytest.mark.parametrize("kind", ["chair", "pope"])
def test_a_browser_shows_the_page_without_a_complaint_or_a_request(browser, tmp_path, kind):
    file = tmp_path / "report.html"
    file.write_text({"chair": chair_page, "pope": pope_page}[kind](tmp_path), encoding="utf-8")
    for width in (390, 820, 1400):
        for dark in (False, True):
            browser.screen(width, dark=dark)
            browser.call("Page.navigate", url="about:blank")
            browser.events.clear()
            browser.call("Page.navigate", url=file.as_uri())
            loaded = "new Promise(go => document.readyState == 'complete' ? go() : addEventListener('load', go))"
            browser.run(f"{loaded}.then(() => Promise.all([...document.images].map(i => i.decode())))")
            asked = {sent["request"]["url"] for sent in browser.named("Network.requestWillBeSent")}
            assert {address for address in asked if not address.startswith("data:")} == {file.as_uri()}
            assert browser.complaints() == []
            assert browser.run("document.documentElement.scrollWidth <= innerWidth")  # wide tables scroll by themselves
            assert browser.run("document.images.length > 0 && [...document.images].every(i => i.naturalWidth > 0)")
            paper = browser.run("getComputedStyle(document.body).backgroundColor").split("(")[1]
            assert (int(paper.split(",")[0]) < 80) == dark
