"""The explorer's page: what is written into it, and how it behaves in a browser that is cut off from every network."""

import base64
import json
import re
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

import minivlm
from minivlm.cli import main as cli
from minivlm.errors import ConfigError, ImageError, MinivlmError
from minivlm.inference.trace import PARTS, TOP, Trace
from minivlm.inputs.image import ImagePreprocessing
from minivlm.lens import views
from minivlm.lens.exhibit import Exhibit, Known, counterparts, packed, places, words_of
from minivlm.lens.explorer import LIMIT, SCRIPTS, explore, page, trace_with_heads, usual_heads
from minivlm.lens.explorer import PARTS as PAGE_PARTS
from minivlm.lens.words import Word
from minivlm.model import CLVA, EAH, Mitigation
from support.browser import CHROMIUM, LATER, Browser
from support.tiny_model import tiny_folder

RECIPE = ImagePreprocessing(16)
SAID = "A dog and a frisbee."
NASTY = "</script><img src=x onerror=alert(1)> & <b>"


# --- made-up traces ---------------------------------------------------------------------------------------------------


class Named:
    """A mention, as lexicons give it."""

    def __init__(self, name: str, start: int, stop: int) -> None:
        self.object, self.start, self.stop = name, start, stop


class Words:
    """A lexicon that knows these words."""

    def __init__(self, *names: str) -> None:
        self.names = names

    def mentions(self, text: str) -> list[Named]:
        return [Named(found[0], *found.span()) for found in re.finditer("|".join(self.names), text)]


def made_up(
    text: str = SAID, layers: int = 8, side: int = 4, heads: int = 2, recipe: ImagePreprocessing = RECIPE, **facts
):
    """A trace of this text, a token a word, with maps by chance in which one patch is lit: that of token + layer."""
    pieces = [*re.findall(r"\s*[^\s.]+|\.", text), ""]
    tokens, patches, generator = len(pieces), side * side, torch.Generator().manual_seed(len(text))
    pooled = torch.rand(tokens, layers, patches, generator=generator) ** 4
    for token in range(tokens):
        for layer in range(layers):
            pooled[token, layer, (token + layer) % patches] = 6.0
    shares = torch.rand(tokens, layers, heads, len(PARTS), generator=generator)
    facts = {
        "text": text,
        "pieces": pieces,
        "tokens": list(range(tokens)),
        "model": "made up",
        "recipe": recipe.describe(),
        "mitigation": {},
        "template": "hf",
        "finish": "stop",
        "settings": {"max_new_tokens": 9, "temperature": 0.0, "top_k": None, "top_p": 1.0, "seed": None},
        "effect": None,
        "spans": [["image", 0, patches], ["question", patches, 20 + patches], ["answer", 20 + patches, 99 + patches]],
        "lens_layers": [],
    } | facts
    sinks = torch.rand(layers, heads, patches, generator=generator) / patches / 10
    sinks[:, :, 5 % patches] = 0.9
    none = torch.zeros(tokens, 0)
    top = torch.zeros(tokens, 0, TOP)
    pooled = (pooled / pooled.sum(dim=-1, keepdim=True)).half()
    return Trace(
        facts, shares / shares.sum(-1, keepdim=True), torch.ones(tokens, layers, heads), pooled, sinks.half(), none,
        top.long(), top,
    )  # fmt: skip


def picture(width: int = 64, height: int = 48) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8))


def two(**how) -> str:
    traces = {"plain": made_up(), "EAH": made_up("A dog and a big sheep.")}
    known = {"truth": {"dog", "sheep"}, "lexicon": Words("dog", "frisbee", "sheep")}
    return page(
        traces, picture(), RECIPE, **{"question": "What is there?", **known, "boxes": {"dog": [(8, 8, 30, 40)]}, **how}
    )


def data_of(html: str) -> dict:
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', html, re.DOTALL)[1])


def unpacked(pack: dict, patches: int) -> torch.Tensor:
    steps = np.frombuffer(zlib.decompress(base64.b64decode(pack["data"])), dtype=np.uint8).reshape(-1, patches)
    return torch.tensor(pack["largest"])[:, None] * (torch.tensor(steps) / pack["levels"]) ** 2


# --- what is written --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("levels", [255, 15])
def test_a_packed_map_is_the_map_but_for_its_steps(levels):
    """Half a step of the root is (r + 1/2n)² - r² <= 1/n of the largest; 3 digits of the largest come on top."""
    maps = torch.rand(3, 2, 16) ** 6
    maps[0, 0] = 0
    found = unpacked(packed(maps, levels), 16).reshape(maps.shape)
    assert ((found - maps).abs() <= (1 / levels + 1e-3) * maps.amax(-1, keepdim=True)).all()
    assert packed(torch.full((1, 4), torch.nan), levels)["largest"] == [0.0]


def test_the_page_holds_the_maps_of_the_words_and_not_of_other_tokens():
    trace = made_up()
    data = data_of(page({"plain": trace}, picture(), RECIPE))
    (found,) = data["traces"]
    assert [found["text"][start:stop] for start, stop, *_ in found["words"]] == ["A", "dog", "and", "a", "frisbee"]
    maps = unpacked(found["maps"], 16).reshape(5, 8, 16)
    wanted = trace.pooled[:5].float()
    assert (maps - wanted).abs().max() <= wanted.max() / 100
    assert maps.argmax(-1)[1].tolist() == [(1 + layer) % 16 for layer in range(8)]
    share = torch.tensor(found["share"])
    assert torch.allclose(share, trace.share("image")[:5].mean(-1), atol=1e-3)
    sinks = np.unpackbits(np.frombuffer(zlib.decompress(base64.b64decode(found["sinks"])), np.uint8)).reshape(8, 2, 16)
    assert sinks.any(axis=(0, 1)).nonzero()[0].tolist() == [5]


def test_maps_of_heads_are_those_of_the_words_tokens():
    trace = made_up("A dog , a cat.")  # the comma is a token and no word
    heads = torch.rand(len(trace.pieces), 2, 16)
    (found,) = data_of(page({"plain": trace}, picture(), RECIPE, heads={"plain": {6: heads}}))["traces"]
    kept = unpacked(found["heads"]["6"], 16).reshape(4, 2, 16)
    assert torch.allclose(kept, heads[[0, 1, 3, 4]], atol=0.01)
    assert unpacked(found["maps"], 16).reshape(4, 8, 16).argmax(-1)[:, 0].tolist() == [0, 1, 3, 4]


def test_words_are_true_invented_or_neither_and_what_is_missing_is_told():
    plain, other = data_of(two())["traces"]
    assert [word[2:] for word in plain["words"] if word[3] != "other"] == [["dog", "true"], ["frisbee", "invented"]]
    assert [plain["missed"], other["missed"]] == [["sheep"], []]
    unjudged = data_of(two(truth=None))
    assert not unjudged["judged"]
    assert {word[3] for trace in unjudged["traces"] for word in trace["words"]} == {"other"}


def test_numbers_can_be_picked_and_an_empty_answer_has_one_word():
    known = Known()
    assert [word.name for word in words_of(made_up("There are 3 dogs."), known)] == ["There", "are", "3", "dogs"]
    assert [(word.name, word.token) for word in words_of(made_up(""), known)] == [("(nothing was written)", 0)]
    assert "(nothing was written)" in page({"plain": made_up("")}, picture(), RECIPE)


def test_words_of_two_answers_are_matched():
    def spoken(text: str) -> list[Word]:
        return [Word(name, 0, 1, place, "other") for place, name in enumerate(text.split())]

    assert counterparts(spoken("a dog and a frisbee"), spoken("A dog and a big sheep")) == [0, 1, 2, 3, 4]
    assert counterparts(spoken("a cat on it"), spoken("a cat")) == [0, 1, -1, -1]
    assert counterparts(spoken("one"), []) == [-1]
    frisbee, sheep = Word("frisbee", 0, 1, 1, "invented"), Word("sheep", 0, 1, 2, "true")
    assert counterparts([*spoken("a"), frisbee], [*spoken("a big"), sheep]) == [0, 2]  # an object for an object


@pytest.mark.parametrize(
    ("mode", "size", "square"),
    [
        ("pad", (64, 48), (0, 0, 1, 1)),  # the stage is the square; the picture has 8 of 64 pixels above it
        ("crop", (64, 48), (0.125, 0, 0.875, 1)),  # the stage is the picture; 8 of its 64 pixels are cut at each side
    ],
)
def test_picture_and_square_lie_on_the_stage_as_the_recipe_says(mode, size, square):
    found = places(size, ImagePreprocessing(24, mode=mode), {"dog": [(32, 24, 64, 48)]})
    assert found["square"] == pytest.approx(square, abs=0.01)
    inner = (0, 0.125, 1, 0.875) if mode == "pad" else (0, 0, 1, 1)
    assert found["picture"] == pytest.approx(inner)
    assert found["boxes"]["dog"][0] == pytest.approx((0.5, 0.5, inner[2], inner[3]))
    assert found["ratio"] == pytest.approx(1 if mode == "pad" else 64 / 48)


def test_text_of_a_model_or_user_stays_text():
    html = page({NASTY: made_up(f"A dog {NASTY}")}, picture(), RECIPE, question=NASTY)
    assert "<img src=x" not in html
    assert data_of(html)["question"] == NASTY


def test_a_page_says_by_which_settings_it_was_made():
    settings = {"eah": {"layer": 2, "threshold": 0.0220001}, "clva": {"deep_layers": [6, 7], "gate": False}}
    trace = made_up(mitigation=settings, finish="length", model="/models/mine", effect={"layers": [], "nothing": True})
    data = data_of(page({"EAH + CLVA": trace}, picture(), RECIPE))
    (found,) = data["traces"]
    assert found["settings"] == ["EAH: layer 2, threshold 0.022", "CLVA: deep layers 6 7, gate off"]
    assert found["notes"] == ["It changed nothing.", "Cut off: as many tokens as were allowed."]
    assert data["model"] == "mine"  # where it lies is nobody's business
    assert dict(data["made"])["Decoding"] == "greedy, at most 9 new tokens"
    sampled = {"max_new_tokens": 9, "temperature": 0.7, "top_k": None, "top_p": 0.9, "seed": 3}
    made = dict(data_of(page({"plain": made_up(settings=sampled)}, picture(), RECIPE))["made"])
    assert made["Decoding"] == "sampled with temperature 0.7, top p 0.9, seed 3, at most 9 new tokens"
    assert made["Picture"] == RECIPE.describe()


def test_the_program_makes_no_markup_from_text_and_is_short_to_read():
    program = [(PAGE_PARTS / name).read_text(encoding="utf-8") for name in SCRIPTS]
    banned = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|fetch\(|XMLHttpRequest|WebSocket|import\("
    for text in program:
        assert not re.search(banned, text)
        assert max(map(len, text.splitlines())) <= 120
        for found in re.finditer(r"^(?:async )?function (\w+).*?^}", text, re.DOTALL | re.MULTILINE):
            assert found[0].count("\n") < 25, found[1]
    assert sum(text.count("\nfunction ") for text in program) > 50  # the pattern above finds functions


def brightness(colour: str) -> float:
    """Relative luminance (WCAG 2.2) of "#rrggbb"."""
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground(scheme):
    """4.5 to 1 for text and 3 to 1 for lines, as WCAG 2.2 asks at level AA."""
    style = (PAGE_PARTS / "style.css").read_text(encoding="utf-8")
    light, dark = (dict(re.findall(r"--([\w-]+): (#\w{6})", part)) for part in style.split("@media")[:2])
    colours = {name: brightness(colour) for name, colour in (light if scheme == "light" else light | dark).items()}
    pairs = [(ink, ground) for ink in ("ink", "muted", "invented", "accent") for ground in ("paper", "card")]
    pairs += [("muted", "wash"), ("ink", "raised"), ("on-accent", "accent"), ("on-invented", "invented")]
    lines = [(line, "paper") for line in ("edge", "series-0", "series-1", "series-2", "series-3")]
    for one, other in pairs + lines:
        high, low = sorted((colours[one], colours[other]), reverse=True)
        assert (high + 0.05) / (low + 0.05) >= (4.5 if (one, other) in pairs else 3), (one, other)


def test_the_page_names_no_address_and_forbids_every_fetch():
    html = two()
    assert "default-src 'none'" in html
    assert set(re.findall(r"https?://[^\"'\s<)]+", html)) == {"http://www.w3.org/2000/svg"}  # the name of a language
    assert not re.search(r"<link|<iframe|@import|\bsrc=|url\(", html)


def llava_sized(seed_text: str) -> Trace:
    """32 layers, 24 x 24 patches, 128 words: as large as LLaVA-1.5's answers get."""
    text = " ".join([seed_text, *(f"word{'abcdefghij'[n % 10]}{'klmnopqrst'[n // 10 % 10]}" for n in range(127))]) + "."
    return made_up(text, layers=32, side=24, heads=32)


def test_two_answers_of_full_size_stay_below_five_megabytes():
    """By chance maps compress worse than a model's, so this is the worst case."""
    html = page({"plain": llava_sized("A"), "EAH + CLVA": llava_sized("An")}, picture(800, 600), RECIPE)
    data = data_of(html)
    assert len(data["traces"][0]["words"]) == 128
    assert len(html.encode()) < LIMIT == 5_000_000


def test_a_page_that_cannot_get_small_enough_says_its_size():
    with pytest.raises(ConfigError, match=r"would have [\d,]+ bytes, at most 20,000"):
        two(limit=20_000)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ConfigError, match="at least one trace"):
        page({}, picture(), RECIPE)
    with pytest.raises(ConfigError, match="not with 'crop"):
        page({"plain": made_up()}, picture(), ImagePreprocessing(16, mode="crop"))
    with pytest.raises(ConfigError, match="same layers, heads and patches"):
        page({"a": made_up(), "b": made_up(layers=9)}, picture(), RECIPE)
    with pytest.raises(ConfigError, match="lexicon"):
        page({"a": made_up()}, picture(), RECIPE, truth={"dog"})


def test_an_exhibit_of_the_wrong_size_is_refused():
    with pytest.raises(ConfigError, match="several pictures"):
        Exhibit.of("plain", several(), Known(), {}, (4, 4), RECIPE)


def several() -> Trace:
    """A trace whose maps are of three pictures."""
    trace = made_up()
    maps = {name: getattr(trace, name).repeat(1, 1, 3) for name in ("pooled", "sink_scores")}
    return Trace(**{**trace.__dict__, **maps})


# --- the shipped model ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def vlm():
    try:
        return minivlm.load(device="cpu")
    except MinivlmError as error:
        pytest.skip(f"the shipped model is not here: {error}")


@pytest.fixture(scope="module")
def scene():
    from minivlm.toyworld.world import HELD_OUT

    return HELD_OUT.draw(3)


def test_an_exploration_shows_what_the_model_says(vlm, scene):
    both = Mitigation(EAH(), CLVA())
    boxes = {name: [thing.box for thing in scene.of(name)] for name in scene.names}
    html = explore(
        vlm, scene.picture, "What is in the image?", both, truth=scene.names, boxes=boxes,
        lexicon=Words("dog", "frisbee", "sheep", "bird"), layers_with_heads=(2,), max_new_tokens=30,
    )  # fmt: skip
    data = data_of(html)
    assert [trace["name"] for trace in data["traces"]] == ["plain", "EAH + CLVA"]
    assert data["traces"][0]["text"] == vlm.ask(scene.picture, "What is in the image?", max_new_tokens=30)
    assert [note.split(":")[0] for note in data["traces"][1]["notes"]] == ["EAH in layer 1", "CLVA in layers 6, 7"]
    assert data["traces"][0]["evidence"]
    assert data["question"] == "What is in the image?"
    assert list(data["traces"][0]["heads"]) == ["2"]


def test_the_maps_of_heads_are_those_that_the_pooled_map_is_made_of(vlm, scene):
    from minivlm.inference.generate import Generation

    trace, heads = trace_with_heads(
        vlm, scene.picture, "What is in the image?", None, [4], Generation(max_new_tokens=6)
    )
    again = vlm.trace(scene.picture, "What is in the image?", max_new_tokens=6)
    assert torch.equal(trace.pooled, again.pooled)
    weight = trace.share("image")[:, 4]  # T H
    top = weight.topk(weight.shape[1] // 2, dim=1).indices
    mass = torch.zeros_like(weight).scatter(1, top, weight.gather(1, top))
    pooled = torch.einsum("th,thp->tp", mass, heads[4]) / mass.sum(1, keepdim=True)
    assert torch.allclose(pooled, trace.pooled[:, 4].float(), atol=1e-3)  # fp16


def test_an_exploration_needs_a_picture_and_known_layers(vlm, scene):
    with pytest.raises(ImageError, match="NoneType"):
        explore(vlm, None, "What is in the image?")
    with pytest.raises(ConfigError, match="layers_with_heads names the layer"):
        explore(vlm, scene.picture, "What is in the image?", layers_with_heads=(99,))


def test_noise_and_anchor_follow_the_settings_of_the_mitigation(vlm, scene):
    chosen = CLVA(noise_layers=(0,), anchor_layers=(2, 3), deep_layers=(7,))
    data = data_of(explore(vlm, scene.picture, "What is in the image?", chosen, max_new_tokens=4))
    assert [band["layers"] for band in data["bands"]] == [[0], [2, 3], [7]]
    anchors, maps = (unpacked(data["traces"][0][name], 64) for name in ("anchors", "maps"))
    assert torch.allclose(anchors[0], maps[0], atol=0.01 * float(maps[0].max()))  # the noise is the map of layer 0


# --- in notebooks -----------------------------------------------------------------------------------------------------


def test_a_view_is_a_still_picture_and_a_slider_where_there_are_widgets(monkeypatch):
    pytest.importorskip("ipywidgets")
    trace, word = made_up(), Word("dog", 2, 5, 1, "other")
    view = views.layers_of_word(picture(), trace, word, RECIPE, made_by="made up")
    choice, shown = view.moving.children
    first = shown.value
    choice.value = 5
    assert (choice.max, first[:4], shown.value != first) == (7, b"\x89PNG", True)
    bundle = view._repr_mimebundle_()
    assert {"image/png", "application/vnd.jupyter.widget-view+json"} <= set(bundle)
    monkeypatch.setattr(views, "find_spec", lambda name: None)
    still = views.layers_of_word(picture(), trace, word, RECIPE, made_by="made up")
    assert still.moving is None
    assert still._repr_mimebundle_()["image/png"] == bundle["image/png"]


def test_sinks_are_ringed_where_they_lie_in_each_layer():
    """The made-up sink is patch 5 of 4 x 4: row 1, column 1. The square is 64 wide, the picture 8 below its top."""
    trace, word = made_up(), Word("dog", 2, 5, 1, "other")
    view = views.layers_of_word(picture(), trace, word, RECIPE, made_by="made up", threshold=0.5)
    for axes in view.still.axes[:8]:
        dark, light = axes.lines
        assert (dark.get_color(), light.get_color()) == ("black", "white")
        np.testing.assert_allclose(light.get_xydata(), [[1.5 * 16, 1.5 * 16 - 8]])
    assert not view.still.axes[8].lines  # the colour bar
    bare = views.layers_of_word(picture(), trace, word, RECIPE, made_by="made up")
    assert not any(axes.lines for axes in bare.still.axes)


def test_two_answers_are_seen_beside_each_other_layer_by_layer(monkeypatch):
    pytest.importorskip("ipywidgets")
    pair = [(made_up(), Word("dog", 2, 5, 1, "other")), (made_up("A big dog."), Word("dog", 6, 9, 2, "other"))]
    view = views.layers_of_two(picture(), *pair, RECIPE, made_by="made up", name="EAH", layer=3)
    assert [axes.get_title().replace("\n", " ") for axes in view.still.axes[:3]] == [
        "plain", "EAH, layer 3", "EAH, layer 3 minus plain",
    ]  # fmt: skip
    shown_maps = [axes.images[1].get_array() for axes in view.still.axes[:2]]
    for map_, (trace, word) in zip(shown_maps, pair, strict=True):
        np.testing.assert_allclose(map_.flatten(), trace.pooled[word.token, 3])
    choice, image = view.moving.children
    before = image.value
    choice.value = 6
    assert image.value != before
    monkeypatch.setattr(views, "find_spec", lambda name: None)
    assert views.layers_of_two(picture(), *pair, RECIPE, made_by="made up").moving is None


# --- in a browser -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    if not CHROMIUM:
        pytest.skip("no Chromium on this machine (Debian's package is called chromium): the page was not tried")
    browser = Browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


@pytest.fixture
def shown(browser, tmp_path):
    """Opens a page, and holds at the end that nothing was fetched and nothing complained."""

    def open_(html: str, state: str = "") -> Browser:
        (tmp_path / "page.html").write_text(html, encoding="utf-8")
        browser.screen(1280)
        browser.open(f"{(tmp_path / 'page.html').as_uri()}{state}")
        return browser

    yield open_
    asked = {sent["request"]["url"].partition("#")[0] for sent in browser.named("Network.requestWillBeSent")}
    assert {address for address in asked if not address.startswith("data:")} == {(tmp_path / "page.html").as_uri()}
    assert browser.complaints() == []


PIXELS = (
    "[...document.querySelectorAll('#stages canvas')]"
    ".map(c => c.getContext('2d').getImageData(0, 0, c.width, c.height).data.join())"
)
STATE = "Object.fromEntries(new URLSearchParams(location.hash.slice(1)))"


def test_the_answers_stand_on_the_page(shown):
    page = shown(two())
    texts = page.run("[...document.querySelectorAll('.text')].map(p => p.textContent)")
    assert texts == ["A dog and a frisbee (invented).", "A dog and a big sheep."]
    assert page.run("document.querySelector('h1').textContent") == "What is there?"
    assert page.run("document.querySelector('.word.invented').firstChild.data") == "frisbee"
    notes = page.run("[...document.querySelectorAll('.note')].map(p => p.textContent)")
    assert notes[0] == "Invented: frisbee. In the picture: dog. Not named: sheep."


def test_it_opens_on_the_first_invented_word(shown):
    assert shown(two()).run(STATE)["word"] == "4"


def test_a_click_on_a_word_changes_both_maps(shown):
    page = shown(two(), "#word=0&layer=3")
    before = page.run(PIXELS)
    page.click(".answer:nth-child(1) .word:nth-of-type(2)")
    after = page.run(PIXELS)
    assert page.run(STATE) == {"text": "0", "word": "1", "layer": "3", "view": "layer"}
    assert len(before) == len(after) == 2
    assert before[0] != after[0]
    assert before[1] != after[1]


def test_the_lightest_pixel_is_the_largest_patch(shown):
    """Token 1 in layer 3 has its lit patch at 4."""
    page = shown(two(), "#word=1&layer=3")
    alpha = page.run(PIXELS)[0].split(",")[3::4]
    assert max(range(16), key=lambda patch: int(alpha[patch])) == 4
    assert "row 1, column 0" in page.run("document.querySelector('.readout').textContent")


def test_keys_move_through_words_and_layers(shown):
    page = shown(two(), "#word=1&layer=3")
    for key, name, value in [
        ("ArrowRight", "word", "2"), ("ArrowLeft", "word", "1"), ("ArrowLeft", "word", "0"), ("ArrowLeft", "word", "0"),
        ("ArrowUp", "layer", "4"), ("ArrowDown", "layer", "3"),
    ]:  # fmt: skip
        before = page.run(PIXELS)
        old = page.run(STATE)[name]
        page.press(key)
        assert page.run(STATE)[name] == value
        assert (page.run(PIXELS) == before) == (old == value)


def test_space_plays_through_the_layers_and_stops(shown):
    page = shown(two(), "#word=1&layer=0")
    page.click(".answer:nth-child(1) .word:nth-of-type(2)")
    page.press(" ")  # on a word, too
    for layer in (1, 2):
        page.run(LATER.format(f"document.getElementById('layer').value === '{layer}'"))
    page.press(" ")
    assert page.run("document.getElementById('play').getAttribute('aria-pressed')") == "false"
    assert page.run(STATE)["word"] == "1"


def test_views_heads_and_sinks_change_what_is_seen(shown):
    heads = {name: {3: torch.rand(7, 2, 16)} for name in ("plain", "EAH")}
    html = two(heads=heads)
    noise, anchor = unpacked(data_of(html)["traces"][0]["anchors"], 16)[2:4]  # of word 1
    page = shown(html, "#word=1&layer=3")
    seen = [page.run(PIXELS)[0]]
    for view, map_ in (("noise", noise), ("anchor", anchor), ("layer", made_up().pooled[1, 3])):
        page.click(f"[data-view={view}]")
        seen.append(page.run(PIXELS)[0])
        assert seen[-1].split(",")[3::4][int(map_.argmax())] == str(max(map(int, seen[-1].split(",")[3::4])))
    assert seen[0] == seen[3]
    assert len(set(seen)) == 3
    page.choose("head", "1")
    assert page.run(PIXELS)[0] not in seen
    assert f"row {int(heads['plain'][3][1, 1].argmax()) // 4}," in page.run(
        "document.querySelector('.readout').textContent"
    )
    page.run("document.activeElement.blur()")
    page.press("ArrowUp")
    assert page.run("document.getElementById('head').disabled")
    rings = "document.querySelectorAll('#stages circle').length"
    assert page.run(rings) == 2 * 2  # one sink in each panel, each a ring and its dark edge
    page.click("[data-view=noise]")
    assert page.run(rings) == 0  # noise and anchor are of no single layer
    page.click("[data-view=layer]")
    for choice in ("out", "plain"):
        page.choose("sinks", choice)
        assert page.run(rings) == 0
        alpha = page.run(PIXELS)[0].split(",")[3::4]
        assert (alpha[5] == "0") == (choice == "out")  # the sink


def test_numbers_are_shown_under_the_pointer_and_at_pinned_patches(shown):
    trace = made_up()
    page = shown(two(), "#word=1&layer=3")
    page.click(".frame")
    page.mouse("mouseMoved", 1, 1)
    text = page.run("document.querySelector('.readout').textContent")
    row, column = map(int, re.search(r"row (\d), column (\d)", text).groups())
    assert float(text.split(" %")[0]) == pytest.approx(100 * float(trace.pooled[1, 3, 4 * row + column]), abs=0.6)
    page.press("ArrowRight", shift=True)
    assert f"column {min(3, column + 1)}" in page.run("document.querySelector('.readout').textContent")
    page.press("Escape")
    assert "Most:" in page.run("document.querySelector('.readout').textContent")


def test_a_click_on_a_curve_chooses_its_layer_and_the_numbers_are_the_traces(shown):
    page = shown(two(), "#word=1&layer=3")
    assert page.run("document.querySelectorAll('.chart').length") == 4
    share = float(made_up().share("image")[1, 3].mean())
    assert (
        page.run("document.querySelector('.chart .values b').textContent") == f"{100 * share:.{int(share < 0.0995)}f} %"
    )
    page.click(".chart .plot")
    assert page.run(STATE)["layer"] in ("3", "4")
    wide = page.run("(r => [r.right - 9, r.y + 40])(document.querySelector('.chart .plot').getBoundingClientRect())")
    page.mouse("mousePressed", *wide)
    page.mouse("mouseReleased", *wide)
    assert page.run(STATE)["layer"] == "7"


def test_a_word_without_a_counterpart_says_so(shown):
    traces = {"plain": made_up("A dog and a frisbee."), "EAH": made_up("A dog.")}
    page = shown(page_of(traces), "#word=4")
    absent = "(p => p.hidden ? '' : p.textContent)(document.querySelectorAll('.absent')[{}])"
    assert page.run(absent.format(1)) == "“frisbee” has no counterpart in this answer"
    assert page.run(absent.format(0)) == ""


def test_the_same_word_is_shown_of_both_answers(shown):
    page = shown(page_of({"plain": made_up("A dog."), "EAH": made_up("A big dog.")}), "#word=1")
    assert page.run("document.querySelector('.word.partner').textContent") == "dog"
    page.click(".answer:nth-child(2) .word:nth-of-type(3)")
    assert page.run("document.querySelector('.answer:nth-child(1) .word.partner').textContent") == "dog"
    page.press("ArrowLeft")
    assert page.run(STATE)["word"] == "1"
    assert page.run("document.querySelector('.word.partner')") is None  # "big" is said by one alone


def test_the_page_works_in_a_notebooks_frame(shown):
    host = f"<!doctype html><title>notebook</title><p id=page></p>{views.Frame(two())._repr_html_()}"
    page = shown(host)
    assert page.inside_frame(LATER.format("document.querySelectorAll('.word').length")) == 11


def page_of(traces: dict[str, Trace]) -> str:
    return page(traces, picture(), RECIPE)


def test_nasty_text_runs_nothing(shown):
    page = shown(page_of({NASTY: made_up(f"A dog {NASTY}")}))
    assert page.run("document.querySelectorAll('#answers img, #answers b').length") == 0
    assert NASTY in page.run("document.querySelector('.text').textContent")


@pytest.mark.parametrize("width", [320, 390, 820, 1400])
@pytest.mark.parametrize("traces", [1, 2])
def test_nothing_is_wider_than_the_screen(shown, width, traces):
    html = two() if traces == 2 else page_of({"plain": made_up()})
    page = shown(html)
    page.screen(width)
    assert page.run("document.documentElement.scrollWidth") <= width
    page.screen(1280)


def test_a_first_visitor_is_told_what_to_do_and_what_is_shown(shown):
    page = shown(two(), "#word=4&layer=3")
    assert page.run("document.querySelector('.intro').textContent").startswith("Pick a word of the answer")
    assert page.run("document.querySelector('.eyebrow').textContent").endswith("made by made up")
    captions = page.run("[...document.querySelectorAll('.caption')].map(c => c.textContent)")
    assert captions == ["“frisbee” (invented)", "“sheep”"]
    assert page.run("document.getElementById('shown').textContent") == "Layer 3, heads pooled"
    page.click("[data-view=noise]")
    assert page.run("document.getElementById('shown').textContent") == "Noise: mean map of layers 0–1"
    assert page.run("document.getElementById('made').textContent").startswith("Modelmade up")


def test_invented_words_are_red_and_marked_also_when_they_are_chosen(shown):
    page = shown(two(), "#word=1")
    look = "(s => [s.color, s.textDecorationStyle, s.backgroundColor])(getComputedStyle({}))"
    word = look.format("document.querySelector('.word.invented')")
    red = "rgb(179, 38, 30)"
    assert page.run(word) == [red, "wavy", "rgba(0, 0, 0, 0)"]
    page.click(".word.invented")
    assert page.run(word) == ["rgb(255, 255, 255)", "wavy", red]
    assert page.run(look.format("document.querySelector('.note .invented')"))[:2] == [red, "wavy"]
    assert page.run("getComputedStyle(document.querySelector('.word.true')).textDecorationStyle") == "solid"


def test_more_attention_is_lighter(shown):
    """The luma (Rec. 601) of each colour over a dimmed picture grows: no eye needs the hue. 1 of 255 for rounding."""
    colours = np.array(shown(two()).run("ramp"))
    opacity = colours[:, 3:] / 255
    for behind in (0, 90, 140):  # the page dims its picture to 55 % at most
        luma = (colours[:, :3] * opacity + behind * (1 - opacity)) @ (0.299, 0.587, 0.114)
        assert (np.diff(luma[40:]) >= -1).all()
        assert luma[-1] - luma[0] > 50


def test_without_boxes_it_says_why_there_is_no_evidence(shown):
    said = "(e => e.checkVisibility() && e.textContent)(document.getElementById('no-evidence'))"
    page = shown(two(boxes=None))
    assert page.run("document.querySelectorAll('.chart').length") == 3
    assert "no curve of evidence" in page.run(said)
    html = two()
    page = shown(html, "#word=1&layer=4")
    assert page.run(said) is False
    evidence = data_of(html)["traces"][0]["evidence"][1][4]
    assert page.run("document.querySelector('.chart:nth-child(4) b').textContent") == f"{evidence:.1f}×"
    page.press("ArrowRight")  # "and" is no object
    assert "not known" in page.run("document.querySelector('.chart:nth-child(4) .empty').textContent")


def test_buttons_step_through_words_and_layers_and_end_where_these_end(shown):
    page = shown(two(), "#word=3&layer=6")
    page.click(".choices .step:last-child")
    page.click(".layers .step:last-child")
    assert (page.run(STATE)["word"], page.run(STATE)["layer"]) == ("4", "7")
    assert page.run("[...document.querySelectorAll('.step')].map(b => b.disabled)") == [False, True, False, True]
    assert page.run("document.getElementById('word-name').textContent") == "frisbee 5 / 5"


def test_the_tab_key_visits_everything_once_in_the_order_of_the_screen_with_a_ring(shown):
    heads = {name: {3: torch.rand(7, 2, 16)} for name in ("plain", "EAH")}
    page = shown(two(heads=heads), "#word=1&layer=3")
    at = "(e => [e.id || e.dataset.view || (e.dataset.of ?? '') + (e.dataset.by ?? '') || e.classList[0] || e.tagName,"
    at += " getComputedStyle(e).outlineStyle, parseFloat(getComputedStyle(e).outlineWidth)])(document.activeElement)"
    visited = []
    while not visited or visited[-1][0] != "BODY":
        page.press("Tab")
        visited.append(page.run(at))
        assert len(visited) < 40
    names = [name for name, *_ in visited[:-1]]
    assert names == [
        "word", "word", "play", "layer-1", "layer1", "layer", "word-1", "word1", "layer", "noise", "anchor", "picture",
        "head", "sinks", "boxes", "frame", "frame", "SUMMARY", "SUMMARY",
    ]  # fmt: skip
    assert all(style != "none" and width >= 2 for _, style, width in visited[:-1])


def on_phone(page: Browser) -> None:
    """A narrow screen, once the page has put its parts in the order of one."""
    page.screen(390, 844)
    page.run(LATER.format("document.querySelector('#head-of-page + #sight') !== null"))


def test_on_a_phone_the_maps_come_first_and_stay_in_sight(shown):
    page = shown(two())
    order = "[...document.querySelectorAll('main > *')].map(e => e.id).filter(id => id).slice(0, 4)"
    assert page.run(order) == ["head-of-page", "answers", "controls", "sight"]
    on_phone(page)
    assert page.run(order) == ["head-of-page", "sight", "controls", "answers"]
    page.run("document.querySelector('#answers').scrollIntoView({block: 'end'})")
    assert page.run("scrollY") > 200
    area = page.run("(r => [r.top, r.bottom, innerHeight])(document.getElementById('sight').getBoundingClientRect())")
    assert area[0] == 0
    assert area[1] < 0.5 * area[2]
    page.screen(1280)
    page.run(LATER.format("document.querySelector('#head-of-page + #answers')"))


def test_a_finger_hits_what_it_aims_at_and_text_is_large_enough(shown):
    heads = {name: {3: torch.rand(7, 2, 16)} for name in ("plain", "EAH")}
    page = shown(two(heads=heads))
    on_phone(page)
    page.run("document.querySelectorAll('details').forEach(d => d.open = true)")
    usable = "[...document.querySelectorAll('button:not(.word), select, input, summary')]"
    sizes = page.run(
        f"{usable}.map(e => [e.id || e.className, (e.closest('label') ?? e).getBoundingClientRect().height])"
    )
    assert len(sizes) > 12
    assert [one for one in sizes if one[1] < 40] == []
    page.run("document.querySelector('.word').scrollIntoView({block: 'center'})")
    middle = "(r => [r.x + r.width / 2, r.y + r.height / 2])(document.querySelector('.word').getBoundingClientRect())"
    x, y = page.run(middle)
    for above in (-19, 19):  # words are as low as letters, but can be hit within 40 pixels
        assert page.run(f"document.elementFromPoint({x}, {y + above}).classList.contains('word')")
    small = (
        "[...document.querySelectorAll('main *')].filter(e => [...e.childNodes].some(n => n.nodeType === 3 &&"
        " n.data.trim()) && e.checkVisibility() && parseFloat(getComputedStyle(e).fontSize) < 14)"
        ".map(e => e.tagName + e.className)"
    )
    assert page.run(small) == []
    page.screen(1280)


def test_who_wants_less_motion_gets_one_slow_pass(shown):
    page = shown(two(), "#word=1&layer=6")
    page.screen(1280, still=True)
    page.click("#play")
    page.run(LATER.format("document.getElementById('play').getAttribute('aria-pressed') === 'false'"))
    assert page.run("document.getElementById('layer').value") == "7"
    assert page.run("getComputedStyle(document.querySelector('.frame img')).transitionDuration") == "0s"
    page.screen(1280)


def test_everything_that_can_be_used_has_a_name(shown):
    page = shown(two())
    tree = page.call("Accessibility.getFullAXTree")["nodes"]
    usable = {"button", "slider", "checkbox", "combobox", "image", "img"}
    nodes = [node for node in tree if node.get("role", {}).get("value") in usable and not node["ignored"]]
    assert len(nodes) > 15
    assert [node for node in nodes if not node.get("name", {}).get("value")] == []


def test_the_command_writes_the_page_and_prints_its_name(tmp_path, capsys):
    model, picture_file, out = tiny_folder(tmp_path / "model"), tmp_path / "picture.png", tmp_path / "page.html"
    picture().save(picture_file)
    words = ["explore", str(picture_file), "What is there?", "--model", str(model), "--device", "cpu"]
    words += ["--out", str(out)]
    assert cli.main([*words, "--clva", "gate=off", "--heads", "1", "--objects", "dog", "--max-new-tokens", "4"]) == 0
    assert capsys.readouterr().out == f"{out}\n"
    text = out.read_text(encoding="utf-8")
    assert "What is there?" in text
    assert "CLVA" in text
    assert list(data_of(text)["traces"][0]["heads"]) == ["1"]
    assert cli.main([*words, "--heads", "99"]) == 1
    assert "layers_with_heads" in capsys.readouterr().err


def test_the_command_takes_boxes_and_keeps_the_heads_of_a_small_model(tmp_path, capsys):
    model, picture_file, out = tiny_folder(tmp_path / "model"), tmp_path / "picture.png", tmp_path / "page.html"
    picture().save(picture_file)
    words = ["explore", str(picture_file), "What is there?", "--model", str(model), "--device", "cpu"]
    words += ["--out", str(out), "--max-new-tokens", "4"]
    assert cli.main([*words, "--objects", "puppy=0:0:32:24,dog=40:30:64:48,cat"]) == 0
    data = data_of(out.read_text(encoding="utf-8"))
    assert list(data["places"]["boxes"]) == ["dog"]  # a puppy is one
    assert len(data["places"]["boxes"]["dog"]) == 2
    assert data["traces"][0]["missed"] == ["cat", "dog"]
    assert [int(layer) for layer in data["traces"][0]["heads"]] == list(range(data["layers"]))
    assert data["model"] == "model"
    for wrong, said in {
        "dog=1:2:3": "left:top:right:bottom",
        "dog=a:2:3:4": "such as dog=",
        "unicorn": "'unicorn'",
    }.items():
        with pytest.raises(SystemExit, match="2"):
            cli.main([*words, "--objects", wrong])
        assert said in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        cli.main([*words, "--heads", "x"])
    assert "--heads takes layers" in capsys.readouterr().err


def test_the_heads_of_a_large_model_are_kept_when_asked_for_alone():
    from minivlm.checkpoints.maker import known_config

    assert len(usual_heads(known_config("llava-1.5-7b"))) == 0
