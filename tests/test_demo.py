"""`minivlm demo`: scenes that are described plainly and under each method, what is marked, and what is counted."""

import io
import json
import shlex
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image

from minivlm import Effect, MinivlmError
from minivlm.cli import arguments, options
from minivlm.cli import main as cli
from minivlm.cli.ask import AskRequest, DoctorRequest
from minivlm.experiments.demo import DESCRIBE, Shown, is_right, save, save_row, totals, yes_no
from minivlm.experiments.demo_text import LEGEND, MARKED, Page, describe, mark, summary, tell, try_next
from minivlm.experiments.trials import MOST
from minivlm.inference import load as loading
from minivlm.inference.answer import Answer
from minivlm.inference.load import load
from minivlm.inference.shipped import shipped_model
from minivlm.toyworld import HELD_OUT, SUBSTITUTIONS
from minivlm.toyworld.questions import about
from minivlm.toyworld.themes import missing_companions
from support.ignorant_model import interrupt_at, save_ignorant_model


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    return save_ignorant_model(tmp_path_factory.mktemp("random"))


def told(seed: int = 0) -> Shown:
    """A scene that lacks a companion, described by somebody who expects it and overlooks the last object.

    Under EAH nothing changes; under CLVA nothing is invented any more.
    """
    drawn = map(SUBSTITUTIONS.draw, range(seed, seed + 200))
    scene = next(scene for scene in drawn if missing_companions(set(scene.names)) and len(scene.names) > 1)
    seen, missing = scene.names[:-1], missing_companions(set(scene.names))[0]
    questions = yes_no(scene)
    plain, without = f"The image shows {', '.join([*seen, missing])}.", f"The image shows {', '.join(seen)}."
    captions = {"plain": plain, "EAH": Answer(plain, effect=Effect()), "CLVA": Answer(without, effect=Effect())}
    return Shown(scene, Path("demo/a.png"), captions, questions, (questions[0].answer, "Yes, I think so."))


def test_true_invented_and_missed_objects_are_told_apart():
    shown = told()
    plain, clva = shown.accounts["plain"], shown.accounts["CLVA"]
    assert plain.true == clva.true == shown.scene.names[:-1]
    assert plain.missed == clva.missed == shown.scene.names[-1:]
    assert plain.invented == missing_companions(set(shown.scene.names))[:1]
    assert not clva.invented
    as_json = json.loads(json.dumps(shown.as_dict()))
    assert as_json["captions"]["plain"]["invented"] == plain.invented
    assert as_json["captions"]["plain"]["effect"] is None
    assert as_json["captions"]["CLVA"]["effect"]["nothing"] is True


def test_a_scene_shows_the_captions_side_by_side():
    shown = told()
    text = describe(shown, 1, Page(1000))
    title, plain, verdict, eah, unchanged, clva, better, _, *asked = text.splitlines()
    (invented,) = shown.accounts["plain"].invented
    missed = shown.scene.names[-1]
    assert title == "1. demo/a.png"
    assert plain.startswith("   plain  The image shows [")
    assert f"!{invented}!" in plain
    assert f"!{invented}!" not in clva
    assert all(f"[{name}]" in plain and f"[{name}]" in clva for name in shown.scene.names[:-1])
    assert verdict.startswith(f"          invents {invented} (usual beside ")
    assert f"misses {missed}" in verdict
    assert better.startswith(f"          misses {missed}")
    assert eah == "   EAH    as plain, word for word"
    assert unchanged == "          effect: nothing was changed"
    assert sum("right:" in line for line in asked) == sum("WRONG:" in line for line in asked) == 1
    assert "\033" not in text


def test_an_answer_that_a_method_sets_right_or_wrong_is_shown_and_counted():
    shown = told()
    rights = tuple(question.answer for question in shown.questions)
    shown = replace(shown, answered={"EAH": rights, "CLVA": shown.answers})
    *_, first, second, under = describe(shown, 1, Page(1000)).splitlines()
    assert first.startswith("   asked  ")
    assert second.endswith("WRONG: Yes, I think so.")
    assert under == f"          under EAH right: {rights[1]}"
    assert "Answers right, of 2: plain 1; EAH 2; CLVA 1." in summary([shown], 1.5, Page(1000))
    assert [one["methods"]["EAH"] for one in shown.as_dict()["asked"]] == [*rights]


def test_lines_are_as_wide_as_the_page_and_no_mark_is_broken():
    text = tell([told(), told(50)], 0, 1.5, Page(60))
    lines = text.splitlines()
    assert max(map(len, lines)) <= 60
    assert sum(line.startswith("          ") for line in lines) > 6  # what follows stands under its beginning
    whole = MARKED.findall(tell([told(), told(50)], 0, 1.5, Page(1000)))
    assert MARKED.findall(text) == whole
    assert not any("\n" in mark for mark in whole)


def test_colors_are_put_on_the_same_text():
    plain, colored = (tell([told()], 0, 1.5, Page(80, color)) for color in (False, True))
    assert colored != plain
    for code in ("\033[32m", "\033[1;31m", "\033[0m"):
        colored = colored.replace(code, "")
    assert colored == plain


def test_what_each_method_named_invented_and_missed_is_counted():
    shown = [told(), told(50)]
    counts = totals(shown)
    for method, invented in (("plain", 2), ("EAH", 2), ("CLVA", 0)):
        seen = sum(len(one.scene.names) - 1 for one in shown)
        assert counts[method] == {"named": seen + invented, "invented": invented, "missed": 2}
    line = summary(shown, 1.5, Page(1000)).splitlines()[0]
    assert line == (
        "Objects named / of them invented / missed: "
        f"plain {seen + 2} / 2 / 2; EAH {seen + 2} / 2 / 2; CLVA {seen} / 0 / 2."
    )
    assert "not whether it helps" in summary(shown, 1.5, Page(1000))
    assert "our reading of the abstract" in LEGEND


def test_the_tempting_question_is_about_the_missing_companion():
    shown = told()
    present, absent = shown.questions
    assert present.object in shown.scene.names
    assert absent.object in missing_companions(set(shown.scene.names))


def test_marks_know_plurals_and_capitals():
    assert mark("Two cups, and a Remote.", ["cup"]) == "Two [cups], and a !Remote!."
    assert Page(color=True).paragraph("A [cup] !there!") == "A \033[32m[cup]\033[0m \033[1;31m!there!\033[0m"


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        ("Yes, there is a dog.", True),
        ("yes", True),
        ("No.", False),
        ("Yesterday", False),
        ("", False),
        ("A dog", False),
    ],
)
def test_an_answer_is_right_by_its_first_word(answer, right):
    assert is_right(about("dog", present=True), answer) is right
    assert is_right(about("dog", present=False), "No dog here.")


def test_colors_and_width_are_those_of_a_terminal(monkeypatch):
    screen = io.StringIO()
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "77")
    assert Page.of(screen) == Page(100, color=False)  # a file
    screen.isatty = lambda: True
    assert Page.of(screen) == Page(77, color=True)
    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.setenv("NO_COLOR", "1")
    assert Page.of(screen) == Page(120, color=False)


def test_the_saved_picture_is_the_scene_pixel_for_pixel(tmp_path):
    """Or whoever asks about the file would get other answers than the demo."""
    scene = HELD_OUT.draw(1)
    saved = Image.open(save(scene, tmp_path / "new" / "scene.png"))
    assert saved.size == scene.picture.size
    assert saved.tobytes() == scene.picture.tobytes()


def test_the_row_is_large_enough_for_eyes_and_has_square_pixels(tmp_path):
    scene = HELD_OUT.draw(1)
    row = Image.open(save_row([scene, HELD_OUT.draw(2)], tmp_path / "row.png"))
    assert row.height >= 384
    times = row.height // scene.size
    first = row.crop((0, 0, row.height, row.height))
    assert first.resize(scene.picture.size, Image.Resampling.NEAREST).tobytes() == scene.picture.tobytes()
    assert first.getpixel((0, 0)) == first.getpixel((times - 1, times - 1)) == scene.picture.getpixel((0, 0))


@pytest.mark.parametrize("width", [1000, 60])
def test_what_to_try_next_can_be_typed(width):
    """Every proposed line is one that the parser takes, and means the same model."""
    many = ["--world", "crowded", "--scenes", "5", "--model", "my models/one", "--dtype", "fp32", "--out", "there"]
    for given in ([], many):
        request = asked(["demo", *given])
        kinds = (("scenes", "world"), ("model", *loading.LOADING), ("out",))
        text = try_next([told()], 17, *(options.retyped(request, *names) for names in kinds), Page(width))
        lines = [line for line in text.splitlines()[1:] if not line.startswith("  #")]
        typed = [shlex.split(line.split("  ")[1]) for line in lines]
        assert {words[0] for words in typed} == {"minivlm"}
        *parsed, doctor = [asked(words[1:]) for words in typed]
        assert isinstance(doctor, DoctorRequest)
        assert parsed[1] == replace(request, seed=17)  # these scenes once more
        assert all((one.model, one.dtype) == (request.model, request.dtype) for one in parsed)
        assert sum(options.mitigation(one).clva is not None for one in parsed if isinstance(one, AskRequest)) == 1


def asked(words: list[str]) -> options.Request:
    """The request that these words are."""
    return arguments.request(cli.make_parser().parse_args(words))


def test_ctrl_c_is_seen_in_every_answer():
    cut = SimpleNamespace(finish="interrupted")
    assert not told().interrupted
    assert replace(told(), answers=("Yes.", cut)).interrupted
    assert replace(told(), captions={"plain": "A cup.", "EAH": cut}).interrupted


@pytest.fixture
def demo(checkpoint, tmp_path):
    """The demo of a model that knows nothing; returns the exit code."""
    words = ["demo", "--seed", "5", "--scenes", "2", "--out", str(tmp_path), "--model", str(checkpoint)]
    return lambda *more: cli.main([*words, "--device", "cpu", *more])


def test_demo_saves_its_pictures_and_shows_all_three(demo, tmp_path, capsys):
    assert demo() == 0
    printed = capsys.readouterr().out
    assert "Seed 5" in printed
    for number, seed in enumerate((5, 6), 1):
        path = tmp_path / f"scene-{number}.png"
        assert path.read_bytes() == save(HELD_OUT.draw(seed), tmp_path / "expected.png").read_bytes()
        assert str(path) in printed
    row, last = Image.open(tmp_path / "demo.png"), Image.open(path)
    shown = row.crop((row.width - row.height, 0, row.width, row.height))
    assert shown.resize(last.size, Image.Resampling.NEAREST).tobytes() == last.tobytes()
    for method in ("plain", "EAH", "CLVA"):
        assert printed.count(f"\n   {method:7}") == 2
    assert printed.count("effect: ") == 4
    assert "Objects named / of them invented / missed: plain " in printed
    assert "Try next" in printed
    assert "\033" not in printed


def test_demo_as_json_carries_captions_effects_settings_and_sums(demo, checkpoint, capsys):
    assert demo("--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert set(said["methods"]) == {"EAH", "CLVA"}
    assert said["methods"]["CLVA"]["deep_layers"] == [3]
    assert set(said["totals"]) == {"plain", "EAH", "CLVA"}
    assert [scene["seed"] for scene in said["scenes"]] == [5, 6]
    vlm = load(checkpoint, device="cpu")
    for scene in said["scenes"]:
        assert scene["captions"].keys() == said["totals"].keys()
        assert [one["methods"].keys() for one in scene["asked"]] == [{"EAH", "CLVA"}] * 2
        picture = HELD_OUT.draw(scene["seed"]).picture
        assert scene["captions"]["plain"]["caption"] == vlm.ask(picture, DESCRIBE[0], max_new_tokens=MOST)
        assert scene["captions"]["plain"]["effect"] is None
        for method in ("EAH", "CLVA"):
            assert {layer["method"] for layer in scene["captions"][method]["effect"]["layers"]} == {method}


def test_a_method_that_does_not_fit_the_model_is_left_out(tmp_path, capsys):
    folder = save_ignorant_model(tmp_path / "shallow", layers=2)
    assert cli.main(["demo", "--scenes", "1", "--out", str(tmp_path), "--model", str(folder), "--device", "cpu"]) == 0
    printed = capsys.readouterr()
    assert printed.err.count("The demo goes on without CLVA.") == 1
    assert "\n   EAH " in printed.out
    assert "\n   CLVA " not in printed.out


def test_demo_stopped_by_ctrl_c_shows_what_there_is(demo, monkeypatch, capsys):
    monkeypatch.setattr("minivlm.inference.generate.sample", interrupt_at(4))
    assert demo() == 130
    printed = capsys.readouterr().out
    assert "Try next" in printed
    assert "\n   plain " in printed
    assert "\n   EAH " not in printed  # not begun any more


def test_demo_into_a_file_is_one_sentence(checkpoint, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert cli.main(["demo", "--out", str(tmp_path / "file"), "--model", str(checkpoint)]) == 1
    assert "Unexpected" not in capsys.readouterr().err


@pytest.mark.weights
@pytest.mark.slow
def test_demo_of_the_shipped_model_is_mostly_right(tmp_path, capsys):
    try:
        shipped_model()
    except MinivlmError as error:
        pytest.skip(str(error))
    words = ["demo", "--seed", "1", "--scenes", "20", "--out", str(tmp_path), "--device", "cpu", "--json"]
    assert cli.main(words) == 0
    scenes = json.loads(capsys.readouterr().out)["scenes"]
    plain = [scene["captions"]["plain"] for scene in scenes]
    assert sum(len(said["true"]) for said in plain) > 2 * sum(len(said["invented"]) for said in plain)
