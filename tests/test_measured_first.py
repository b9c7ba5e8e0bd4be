"""What is large is measured before it is worked on: pictures before they are decoded, questions before tokenising.

Memory and time are those that the system counts, of a process that does nothing else.
"""

import io
import subprocess
import sys
import time
import warnings

import numpy as np
import pytest
from PIL import Image
from test_image import encoded, png_of

from minivlm import Conversation, PromptError
from minivlm.cli import main as cli
from minivlm.cli import terminal
from minivlm.errors import ConfigError, EvaluationError, ImageError
from minivlm.evaluation.card import read_card
from minivlm.files import parse_json
from minivlm.inputs import prompt as prompts
from minivlm.inputs.picture_limits import LIMITS, USUAL, PictureLimits, read_stream
from minivlm.inputs.pictures import load_image
from minivlm.inputs.prompt import IMAGE, Turn, build_prompt
from support.tiny_model import picture, tiny_vlm

FEW = PictureLimits(pixels=600, bytes=5000)
USED = """
import resource, sys, warnings
from minivlm.inputs.pictures import load_image
warnings.simplefilter("ignore")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    load_image(sys.argv[1])
except Exception as error:
    print(type(error).__name__)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1000)
"""


# --- pictures ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "GIF", "BMP", "JPEG"])
def test_a_picture_of_many_pixels_is_refused_by_its_size_alone(kind):
    data = encoded(picture(0, 30, 20), kind)
    assert load_image(data, limits=FEW).size == (30, 20)
    with pytest.raises(ImageError, match=r"has 31 x 20 pixels; at most 600 in all .*MINIVLM_MOST_PIXELS=620"):
        load_image(encoded(picture(0, 31, 20), kind), limits=FEW)
    with pytest.raises(ImageError, match="has 30 x 20 pixels; at most 599"):
        load_image(data, limits=PictureLimits(pixels=599))


@pytest.mark.skipif(sys.platform == "win32", reason="needs a system that counts memory in this way")
@pytest.mark.parametrize("kind", ["PNG", "WEBP", "GIF"])
def test_a_small_file_takes_no_gigabyte(tmp_path, kind):
    side = 13_000  # 169 million pixels, which Pillow decodes with a warning
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        Image.new("1" if kind == "PNG" else "L", (side, side)).save(tmp_path / "bomb", kind)
    assert (tmp_path / "bomb").stat().st_size < 1_000_000
    ran = subprocess.run([sys.executable, "-c", USED, str(tmp_path / "bomb")], capture_output=True, text=True)
    kind_of_error, megabytes = ran.stdout.split()
    assert kind_of_error == "ImageError", ran.stderr
    assert int(megabytes) < 60


def test_the_limit_holds_for_a_picture_that_pillow_has_opened_and_not_for_arrays(tmp_path):
    picture(0, 31, 20).save(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as opened, pytest.raises(ImageError, match="31 x 20 pixels"):
        load_image(opened, limits=FEW)
    assert load_image(picture(0, 31, 20), limits=FEW).size == (31, 20)  # its pixels are in memory already
    assert load_image(np.zeros((31, 20), np.uint8), limits=FEW).size == (20, 31)


def test_a_file_of_many_bytes_is_refused_before_it_is_read(tmp_path):
    (tmp_path / "a.png").write_bytes(encoded(picture(0)) + bytes(5000))
    with pytest.raises(ImageError, match=r"bytes; at most 5,000 are read .*MINIVLM_MOST_BYTES"):
        load_image(tmp_path / "a.png", limits=FEW)


@pytest.mark.parametrize(("name", "what"), [("MINIVLM_MOST_PIXELS", "pixels"), ("MINIVLM_MOST_BYTES", "bytes")])
def test_limits_are_set_in_the_environment(monkeypatch, name, what):
    monkeypatch.delenv(name, raising=False)
    assert LIMITS.most(what) == USUAL[what]
    monkeypatch.setenv(name, "123")
    assert LIMITS.most(what) == 123
    assert PictureLimits(pixels=7, bytes=7).most(what) == 7  # an argument comes first
    for wrong in ("", "0", "-1", "1e9", "1.5", "all", "٣", "9" * 5000):
        monkeypatch.setenv(name, wrong)
        with pytest.raises(ConfigError, match=f"{name} is .* a whole number of at least 1"):
            LIMITS.most(what)


def test_more_can_be_allowed(monkeypatch):
    data = encoded(picture(0, 40, 30))
    monkeypatch.setenv("MINIVLM_MOST_PIXELS", "1199")
    with pytest.raises(ImageError, match="MINIVLM_MOST_PIXELS=1200 in the environment"):
        load_image(data)
    monkeypatch.setenv("MINIVLM_MOST_PIXELS", "1200")
    assert load_image(data).size == (40, 30)


def test_the_usual_limits_fit_large_photographs():
    assert 9248 * 6936 < USUAL["pixels"] < Image.MAX_IMAGE_PIXELS  # Pillow warns from there on
    assert USUAL["pixels"] * 3 < USUAL["bytes"]
    with pytest.raises(ImageError, match="8,945 x 8,945 pixels"):
        load_image(png_of(8945, 8945))


class Endless(io.RawIOBase):
    """A stream that never ends, and counts."""

    given = 0

    def read(self, size=-1):
        assert size > 0, "all of it was asked for"
        self.given += size
        return bytes(size)


def test_a_stream_without_end_is_left_at_the_limit():
    endless = Endless()
    with pytest.raises(ImageError, match=r"stdin, as far as it was read, has .* bytes; at most 5,000"):
        read_stream(endless, "stdin", FEW)
    assert endless.given <= 2**20
    assert read_stream(io.BytesIO(b"a" * 5000), "stdin", FEW) == b"a" * 5000
    with pytest.raises(ImageError, match="at most 5,000"):
        read_stream(io.BytesIO(b"a" * 5001), "stdin", FEW)


def test_a_picture_from_stdin_has_the_limit_too(monkeypatch, capsys):
    monkeypatch.setenv("MINIVLM_MOST_BYTES", "50")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(encoded(picture(0)))))
    assert cli.main(["ask", "-", "What is it?"]) == 1
    assert "minivlm: stdin, as far as it was read, has" in capsys.readouterr().err


# --- questions --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def vlm(tmp_path_factory):
    return tiny_vlm(tmp_path_factory.mktemp("tiny"), context=512)


LONG = {
    "words": "what is here? " * 75_000,
    "a letter": "a" * 1_000_000,
    "spaces": " " * 1_000_000 + "?",
    "characters of several bytes": "字" * 400_000,
    "lines": "?\n" * 500_000,
    "pieces": [piece for _ in range(20_000) for piece in ("what is here? ", "and there? ")],
}


@pytest.mark.parametrize("text", LONG.values(), ids=LONG)
def test_a_long_question_is_refused_without_being_tokenised(vlm, text, monkeypatch):
    encoded_at_once = []
    encode = type(vlm.tokenizer).encode_with_offsets

    def counted(self, text, *, opening=True):
        encoded_at_once.append(len(text))
        return encode(self, text, opening=opening)

    monkeypatch.setattr(type(vlm.tokenizer), "encode_with_offsets", counted)
    begin = time.perf_counter()
    with pytest.raises(PromptError, match=r"text has [\d,]+ characters, and more than twice .* \(512\)"):
        vlm.ask(None, Turn(text), max_new_tokens=1)
    assert max(encoded_at_once) <= prompts.PIECE
    assert sum(encoded_at_once) <= 40_000
    assert time.perf_counter() - begin < 5


def test_an_earlier_answer_and_a_conversation_are_measured_too(vlm):
    long = LONG["words"]
    with pytest.raises(PromptError, match="more than twice"):
        vlm.ask(None, [Turn("What?", answer=long), Turn("And?")])
    talk = Conversation(vlm)
    with pytest.raises(PromptError, match="more than twice"):
        talk.ask(long)
    assert talk.turns == []


@pytest.mark.parametrize("words", [400, 2_000, 5_000, 6_000, 12_000])
def test_a_text_that_fits_is_never_refused(vlm, words):
    """Whatever the context: the measure refuses nothing that the whole count would let through."""
    turns = [Turn([("Is there a dog? " * words)[: words * 4], IMAGE, " and two cats?" * (words // 4)])]
    how = {"tokenizer": vlm.tokenizer, "template": "hf", "num_image_tokens": 9}
    whole = len(build_prompt(turns, **how).tokens)
    assert len(build_prompt(turns, **how, context_length=whole).tokens) == whole
    with pytest.raises(PromptError, match=rf"has {whole} tokens, but the model's context holds {whole - 1}"):
        build_prompt(turns, **how, context_length=whole - 1)


def test_many_short_pieces_are_measured_as_the_text_that_they_make(vlm):
    turns = [Turn(["No", ", ", "two", " c", "ats", "."] * 3000)]
    how = {"tokenizer": vlm.tokenizer, "template": "hf", "num_image_tokens": 9}
    whole = len(build_prompt(turns, **how).tokens)
    assert len(build_prompt(turns, **how, context_length=whole).tokens) == whole


def test_a_line_of_stdin_has_a_longest_length(monkeypatch):
    monkeypatch.setattr(terminal, "LONGEST", 10)
    monkeypatch.setattr(sys, "stdin", io.StringIO("a" * 10 + "\n\nb\n" + "c" * 12 + "\nd\n"))
    lines = terminal.questions()
    assert [next(lines), next(lines)] == ["a" * 10, "b"]
    with pytest.raises(PromptError, match="more than 10 characters"):
        next(lines)


def test_chat_refuses_a_line_without_end(vlm, monkeypatch, capsys):
    monkeypatch.setattr(terminal, "LONGEST", 1000)
    monkeypatch.setattr(sys, "stdin", io.StringIO("a" * 2000))
    assert cli.main(["chat", "--model", str(vlm.report.path)]) == 1
    assert "A line of stdin has more than 1,000 characters" in capsys.readouterr().err


def test_a_jpeg_of_many_scans_is_refused_before_it_is_decoded():
    """Each scan goes over the whole picture: 80 KB of them took 40 s."""
    file = io.BytesIO()
    Image.new("L", (64, 64), 100).save(file, "JPEG", progressive=True)
    data = file.getvalue()
    scans = data[data.rindex(b"\xff\xda") : -2] * 200
    with pytest.raises(ImageError, match="scans, each over the whole picture; at most 100 are read"):
        load_image(data[:-2] + scans + data[-2:])
    assert load_image(data).size == (64, 64)


def test_many_keys_with_one_that_stands_twice_are_refused_soon():
    """One pass: 40,000 keys took 77 s when each was counted."""
    keys = ",".join(f'"k{n}":0' for n in range(200_000))
    with pytest.raises(ValueError, match="the key 'k7' stands twice"):
        parse_json(f'{{{keys},"k7":0}}')


def test_a_card_of_any_size_is_refused_before_it_is_read(tmp_path):
    with (tmp_path / "card.json").open("wb") as file:
        file.truncate(2**31)  # no bytes on the disk
    with pytest.raises(EvaluationError, match="has 2,147,483,648 bytes, at most 67,108,864 are read"):
        read_card(tmp_path / "card.json")
