"""The explorer's page: what is written into it, and how it behaves in a browser that is cut off from every network."""

import base64
import json
import os
import re
import shutil
import subprocess
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_model import tiny_folder

import minivlm
from minivlm import cli
from minivlm.errors import ConfigError, ImageError, MinivlmError
from minivlm.inputs.image import ImageRecipe
from minivlm.lens import views
from minivlm.lens.exhibit import Exhibit, Known, counterparts, packed, places, words_of
from minivlm.lens.explorer import LIMIT, explore, look, page
from minivlm.lens.trace import Word
from minivlm.model import CLVA, EAH, Mitigation
from minivlm.tracing import PARTS, TOP, Trace

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
RECIPE = ImageRecipe(16)
SAID = "A dog and a frisbee."
NASTY = "</script><img src=x onerror=alert(1)> & <b>"


# --- made-up traces -------------------------------------------------------------------------------------------------


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


def made_up(text: str = SAID, layers: int = 8, side: int = 4, heads: int = 2, recipe: ImageRecipe = RECIPE, **facts):
    """A trace of this text, a token a word, with maps by chance in which one patch is lit: that of token + layer."""
    pieces = [*re.findall(r"\s*[^\s.]+|\.", text), ""]
    tokens, patches, dice = len(pieces), side * side, torch.Generator().manual_seed(len(text))
    pooled = torch.rand(tokens, layers, patches, generator=dice) ** 4
    for token in range(tokens):
        for layer in range(layers):
            pooled[token, layer, (token + layer) % patches] = 6.0
    shares = torch.rand(tokens, layers, heads, len(PARTS), generator=dice)
    facts = {
        "text": text,
        "pieces": pieces,
        "tokens": list(range(tokens)),
        "model": "made up",
        "recipe": recipe.describe(),
        "mitigation": {},
        "effect": None,
        "spans": [["image", 0, patches], ["question", patches, 20 + patches], ["answer", 20 + patches, 99 + patches]],
        "lens_layers": [],
    } | facts
    sinks = torch.rand(layers, heads, patches, generator=dice) / patches / 10
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


# --- what is written ------------------------------------------------------------------------------------------------


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


@pytest.mark.parametrize(
    ("mode", "size", "square"),
    [
        ("pad", (64, 48), (0, 0, 1, 1)),  # the stage is the square; the picture has 8 of 64 pixels above it
        ("crop", (64, 48), (0.125, 0, 0.875, 1)),  # the stage is the picture; 8 of its 64 pixels are cut at each side
    ],
)
def test_picture_and_square_lie_on_the_stage_as_the_recipe_says(mode, size, square):
    found = places(size, ImageRecipe(24, mode=mode), {"dog": [(32, 24, 64, 48)]})
    assert found["square"] == pytest.approx(square, abs=0.01)
    inner = (0, 0.125, 1, 0.875) if mode == "pad" else (0, 0, 1, 1)
    assert found["picture"] == pytest.approx(inner)
    assert found["boxes"]["dog"][0] == pytest.approx((0.5, 0.5, inner[2], inner[3]))
    assert found["ratio"] == pytest.approx(1 if mode == "pad" else 64 / 48)


def test_text_of_a_model_or_user_stays_text():
    html = page({NASTY: made_up(f"A dog {NASTY}")}, picture(), RECIPE, question=NASTY)
    assert "<img src=x" not in html
    assert data_of(html)["question"] == NASTY
    assert "innerHTML" not in html


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
        page({"plain": made_up()}, picture(), ImageRecipe(16, mode="crop"))
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


# --- the shipped model ----------------------------------------------------------------------------------------------


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
    assert data["traces"][1]["note"].startswith("EAH in layer 1")
    assert data["traces"][0]["evidence"]
    assert data["question"] == "What is in the image?"
    assert list(data["traces"][0]["heads"]) == ["2"]


def test_the_maps_of_heads_are_those_that_the_pooled_map_is_made_of(vlm, scene):
    from minivlm.generate import Generation

    trace, heads = look(vlm, scene.picture, "What is in the image?", None, [4], Generation(max_new_tokens=6))
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
    with pytest.raises(ConfigError, match="layers_with_heads names the layers"):
        explore(vlm, scene.picture, "What is in the image?", layers_with_heads=(99,))


def test_noise_and_anchor_follow_the_settings_of_the_mitigation(vlm, scene):
    chosen = CLVA(noise_layers=(0,), anchor_layers=(2, 3), deep_layers=(7,))
    data = data_of(explore(vlm, scene.picture, "What is in the image?", chosen, max_new_tokens=4))
    assert [band["layers"] for band in data["bands"]] == [[0], [2, 3], [7]]
    anchors, maps = (unpacked(data["traces"][0][name], 64) for name in ("anchors", "maps"))
    assert torch.allclose(anchors[0], maps[0], atol=0.01 * float(maps[0].max()))  # the noise is the map of layer 0


# --- in notebooks ---------------------------------------------------------------------------------------------------


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


# --- in a browser ---------------------------------------------------------------------------------------------------


LATER = (  # waits for what an expression says, once it is something
    "new Promise(done => {{ const timer = setInterval(() => {{ const found = {};"
    " if (found) {{ clearInterval(timer); done(found) }} }}, 20) }})"
)


class Browser:
    """A headless Chromium, spoken to over a pipe in its DevTools protocol; every host name leads nowhere."""

    def __init__(self, profile: Path) -> None:
        out, self._write = os.pipe()
        self._read, back = os.pipe()
        switches = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--no-first-run",
            "--disable-background-networking",
        ]
        switches += ["--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={profile}", "--remote-debugging-pipe"]
        shell = f'exec "$0" "$@" 3<&{out} 4>&{back}'  # the protocol's pipes are 3 and 4
        command = ["bash", "-c", shell, CHROMIUM, *switches, "about:blank"]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self.process = subprocess.Popen(command, pass_fds=(out, back), **quiet)
        os.close(out), os.close(back)
        self.number, self.rest, self.events, self.session = 0, b"", [], None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for room in ("Page", "Network", "Runtime", "Log"):
            self.call(f"{room}.enable")

    def call(self, method: str, **params) -> dict:
        self.number += 1
        message = {"id": self.number, "method": method, "params": params}
        message |= {"sessionId": self.session} if self.session else {}
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while (answer := self._next()).get("id") != self.number:
            self.events.append(answer)
        assert "error" not in answer, answer
        return answer["result"]

    def _next(self) -> dict:
        while b"\0" not in self.rest:
            part = os.read(self._read, 2**20)
            assert part, "the browser has gone"
            self.rest += part
        message, self.rest = self.rest.split(b"\0", 1)
        return json.loads(message)

    def open(self, address: str) -> None:
        """Load a page anew and wait until it shows its answers."""
        self.call("Page.navigate", url="about:blank")
        self.events.clear()
        self.call("Page.navigate", url=address)
        self.run(LATER.format("document.querySelector('#page:not([hidden]), #trouble:not([hidden])') !== null"))

    def run(self, script: str):
        """The value of an expression in the page."""
        found = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def inside_frame(self, script: str):
        """The value of an expression in the one frame of the page, which is a target of its own."""
        own, self.session, frames = self.session, None, []
        try:
            for _ in range(200):  # until it is there, 10 s at most
                frames = [one for one in self.call("Target.getTargets")["targetInfos"] if one["type"] == "iframe"]
                if frames:
                    break
                time.sleep(0.05)
            self.session = self.call("Target.attachToTarget", targetId=frames[0]["targetId"], flatten=True)["sessionId"]
            return self.run(script)
        finally:
            self.session = own

    def press(self, key: str, shift: bool = False) -> None:
        how = {"key": key, "code": "Space" if key == " " else key, "modifiers": 8 * shift}
        how |= {"text": " "} if key == " " else {}
        self.call("Input.dispatchKeyEvent", type="keyDown", **how)
        self.call("Input.dispatchKeyEvent", type="keyUp", **how)

    def mouse(self, kind: str, x: float, y: float) -> None:
        self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def click(self, selector: str) -> None:
        """Press the middle of an element with the mouse."""
        one = f"document.querySelector('{selector}')"
        self.run(f"{one}.scrollIntoView({{block: 'center'}})")
        place = self.run(f"(r => [r.x + r.width / 2, r.y + r.height / 2])({one}.getBoundingClientRect())")
        for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
            self.mouse(kind, *place)

    def choose(self, name: str, value: str) -> None:
        """Choose an option of a list."""
        self.run(
            f"(s => {{ s.value = '{value}'; s.dispatchEvent(new Event('change')) }})(document.getElementById('{name}'))"
        )

    def named(self, method: str) -> list[dict]:
        return [event["params"] for event in self.events if event.get("method") == method]

    def complaints(self) -> list:
        """Exceptions, and errors and warnings on the console."""
        self.run("1")  # what was said before it has arrived
        said = [entry for entry in self.named("Runtime.consoleAPICalled") if entry["type"] in ("error", "warning")]
        return self.named("Runtime.exceptionThrown") + self.named("Log.entryAdded") + said

    def screen(self, width: int, height: int = 900, dark: bool = False, **how) -> None:
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._write), os.close(self._read)


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
    assert cli.main([*words, "--heads", "99"]) == 1
    assert "layers_with_heads" in capsys.readouterr().err
