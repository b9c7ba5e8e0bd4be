"""Records and cards: what is half written is cut, what is wrong is refused, what differs is told."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from minivlm.errors import EvaluationError, ImageError
from minivlm.evaluation import card as cards
from minivlm.evaluation import records
from minivlm.evaluation.card import card, differences, fingerprint
from minivlm.evaluation.items import Item
from minivlm.evaluation.methods import methods
from minivlm.evaluation.records import Recorder, answered, cut_half_line, failed, held, read_records
from minivlm.inference.answer import Answer
from minivlm.inference.effect import NO_EFFECT
from minivlm.inference.generate import Generation
from minivlm.model import EAH
from support.fake_run import describing, fake_data
from support.tiny_model import tiny_vlm

ITEM = Item("random/7", "7", "Is there a dog?")
RECORDS = [
    answered(ITEM, "plain", Answer('Ja, "größer"\n\ud800\u2028{', finish="stop", tokens=(1, 2, 3), effect=None)),
    failed(ITEM, "eah", ImageError("The picture is missing.")),
    answered(ITEM, "clva", Answer("", finish="length", tokens=(), effect=NO_EFFECT)),
]


def written(out: Path, told=RECORDS, rank: int = 0) -> Path:
    with Recorder(out, rank) as recorder:
        for record in told:
            recorder.write(record)
    return recorder.path


def test_records_come_back_as_they_were_whatever_the_model_said(tmp_path):
    path = written(tmp_path)
    assert path.read_bytes().count(b"\n") == len(RECORDS)
    assert list(read_records(tmp_path).values()) == RECORDS
    assert RECORDS[0] | {"text": ""} == {
        "id": "random/7",
        "image": "7",
        "method": "plain",
        "text": "",
        "finish": "stop",
        "tokens": 3,
    }
    assert RECORDS[2]["acted"] is False


def test_each_record_is_in_the_file_before_the_next_is_known(tmp_path):
    with Recorder(tmp_path) as recorder:
        for number, record in enumerate(RECORDS, 1):
            recorder.write(record)
            assert len(read_records(tmp_path)) == number


def test_a_line_that_was_cut_at_any_byte_is_taken_away_and_no_other(tmp_path):
    path = written(tmp_path)
    whole = path.read_bytes()
    lines = whole.splitlines(keepends=True)
    for size in range(len(whole) + 1):
        path.write_bytes(whole[:size])
        cut = cut_half_line(path)
        complete = sum(len(b"".join(lines[: n + 1])) <= size for n in range(len(lines)))
        assert path.read_bytes() == b"".join(lines[:complete])
        assert cut == size - len(path.read_bytes())
        assert list(read_records(tmp_path).values()) == RECORDS[:complete]


def test_a_half_line_longer_than_what_is_read_at_once_is_cut(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "TAIL", 16)
    path = tmp_path / "answers-0.jsonl"
    whole = [b"", b"\n", json.dumps(RECORDS[1]).encode() + b"\n"]
    half = b'{"id": "' + b"y" * 50
    for before in whole:
        for after in range(len(half)):
            path.write_bytes(before + half[:after])
            assert cut_half_line(path) == after
            assert path.read_bytes() == before


def test_appending_goes_on_behind_what_is_there(tmp_path):
    written(tmp_path, RECORDS[:1])
    written(tmp_path, RECORDS[1:])
    assert list(read_records(tmp_path).values()) == RECORDS


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("nonsense", "line 2"),
        ("[1]", "line 2"),
        ("{}", "line 2.*the record of a run has id, image"),
        (json.dumps(RECORDS[2] | {"tokens": "3"}), "line 2.*the record of a run has"),
        (json.dumps(RECORDS[2] | {"tokens": True}), "line 2.*the record of a run has"),
        (json.dumps(RECORDS[2] | {"more": 1}), "line 2.*the record of a run has"),
        (json.dumps(RECORDS[0]), "line 2.*random/7 is recorded for plain a second time"),
    ],
)
def test_a_whole_line_that_is_no_record_is_refused(tmp_path, line, message):
    path = written(tmp_path, RECORDS[:1])
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(EvaluationError, match=message):
        read_records(tmp_path)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_is_told_and_what_was_written_is_kept(tmp_path):
    written(tmp_path)
    with Recorder(tmp_path, 1) as recorder, open("/dev/full", "wb", buffering=0) as full:
        os.dup2(full.fileno(), recorder.file.fileno())  # as if the disk had become full meanwhile
        with pytest.raises(EvaluationError, match=r"answers-1.jsonl.*No space left.*--resume"):
            recorder.write(RECORDS[0])
    assert len(read_records(tmp_path)) == len(RECORDS)


@pytest.mark.skipif(not records.CAN_LOCK, reason="needs a system that locks files")
def test_two_runs_in_one_folder_are_refused_as_long_as_the_first_lasts(tmp_path):
    with held(tmp_path), pytest.raises(EvaluationError, match="Another process is at work"), held(tmp_path):
        pass
    with held(tmp_path):
        pass


# --- cards ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def vlm(tmp_path_factory):
    return tiny_vlm(tmp_path_factory.mktemp("tiny"), template="llava_v1")


def card_of(vlm, settings=None, known=None, data=None, items=None, **how) -> dict:
    data = data or fake_data(10)
    how = {"task": "chair", "batch": 4, "version": "0"} | how
    known = known or methods(["plain", "eah"])
    return card(how.pop("task"), vlm, settings or Generation(), known, data, items or describing(data), **how)


def test_a_card_is_json_and_says_what_was_asked_in_words(vlm):
    told = card_of(vlm)
    assert json.loads(json.dumps(told)) == told
    assert told["prompt"]["text"].startswith("<bos>A chat between")
    assert told["prompt"]["text"].endswith("USER: <image>\nDescribe ASSISTANT:")
    assert told["methods"]["plain"] == {}
    assert told["methods"]["eah"]["eah"]["threshold"] > 0  # filled in for the model
    assert set(told["model"]["files"]) == {"config.json", "tokenizer.json", "model.safetensors"}
    assert all(len(digest) == 64 for digest in told["model"]["files"].values())
    assert told["versions"].keys() >= {"minivlm", "torch", "code"}


def test_equal_runs_have_equal_cards_wherever_the_model_lies(vlm, tmp_path):
    folder = Path(vlm.report.path)
    copy = tmp_path / "elsewhere" / folder.name
    copy.mkdir(parents=True)
    for file in folder.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    moved = replace(vlm, name=str(copy), report=replace(vlm.report, path=str(copy)))
    assert differences(card_of(vlm), card_of(moved)) == []
    assert fingerprint(card_of(vlm)) == fingerprint(card_of(moved))


def another_byte(vlm, tmp_path):
    folder = Path(vlm.report.path)
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    weights = bytearray((tmp_path / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (tmp_path / "model.safetensors").write_bytes(weights)
    return replace(vlm, report=replace(vlm.report, path=str(tmp_path)))


@pytest.mark.parametrize(
    ("change", "sentences"),
    [
        (lambda vlm, tmp: card_of(another_byte(vlm, tmp)), ["model, files, model.safetensors was"]),
        (lambda vlm, tmp: card_of(replace(vlm, template="hf")), ["prompt, template was", "prompt, text was"]),
        (
            lambda vlm, tmp: card_of(vlm, Generation(max_new_tokens=3)),
            ["decoding, max_new_tokens was 256 and is now 3"],
        ),
        (lambda vlm, tmp: card_of(vlm, known=methods(["plain"])), ["methods, eah, eah, layer was 1 and is now absent"]),
        (
            lambda vlm, tmp: card_of(vlm, known=methods(["plain", "eah"], EAH(layer=2))),
            ["methods, eah, eah, layer was 1 and is now 2."],
        ),
        (lambda vlm, tmp: card_of(vlm, batch=5), ["computing, batch was 4 and is now 5."]),
        (lambda vlm, tmp: card_of(vlm, tensor_parallel=2), ["computing, tensor parallel was 1 and is now 2."]),
        (
            lambda vlm, tmp: card_of(replace(vlm, model=vlm.model.double())),
            ['dtype was "float32" and is now "float64"'],
        ),
        (
            lambda vlm, tmp: card_of(vlm, data=fake_data(11)),
            ["data, fingerprint was", "data, images was 10 and is now 11"],
        ),
        (
            lambda vlm, tmp: card_of(vlm, items=[replace(item, label=True) for item in describing(fake_data(10))]),
            ["data, items' fingerprint was"],
        ),
        (
            lambda vlm, tmp: card_of(replace(vlm, preprocessing=replace(vlm.preprocessing, mode="pad"))),
            ['picture, mode was "crop" and is now "pad".', "picture, in words was"],
        ),
    ],
)
def test_whatever_decides_a_figure_is_in_the_card(vlm, tmp_path, change, sentences):
    """And nothing else of the card changes with it."""
    vlm = replace(vlm, model=vlm.model.float())
    found = differences(card_of(vlm), change(vlm, tmp_path))
    for sentence in sentences:
        assert any(sentence in one for one in found), found
    rooms = {sentence.split(",")[0] for sentence in sentences if "," in sentence}
    assert {one.split(",")[0] for one in found} <= rooms | {"computing"}


def test_other_code_is_another_run(vlm, monkeypatch):
    before = card_of(vlm)
    monkeypatch.setattr(cards, "CODE", ("model",))
    (sentence,) = differences(before, card_of(vlm))
    assert sentence.startswith("versions, code was")


def test_the_code_of_answers_is_found():
    """A file of CODE that was renamed would no longer be watched."""
    package = Path(cards.__file__).parents[1]
    found = {file.relative_to(package).as_posix() for file in cards.code_files(package, cards.CODE)}
    assert {"model/attention.py", "inputs/prompt.py", "inference/decode.py", "evaluation/asking.py"} <= found
    for name in ("no_room", "model/no_file.py"):
        with pytest.raises(EvaluationError, match=f"counts '{name}' among the code.* Was it moved"):
            cards.code_files(package, ("model", name))


def test_what_cannot_be_repeated_gets_no_card(vlm):
    with pytest.raises(EvaluationError, match="give a seed"):
        card_of(vlm, Generation(temperature=0.5))
    card_of(vlm, Generation(temperature=0.5, seed=1))
    with pytest.raises(EvaluationError, match="not loaded from files"):
        card_of(replace(vlm, report=None))


def test_a_difference_of_long_settings_is_a_short_sentence():
    (sentence,) = differences({"a": {"b": "x" * 1000}}, {"a": {"b": []}})
    assert sentence.startswith('a, b was "xxx')
    assert sentence.endswith("… and is now [].")
    assert len(sentence) < 120


@pytest.mark.skipif(not records.CAN_LOCK, reason="needs a system that locks files")
def test_a_process_that_outlives_its_run_keeps_others_from_its_file(tmp_path):
    """Or both would record the same items: killing torchrun and one process leaves the other at work."""
    with Recorder(tmp_path, 1) as recorder:
        recorder.write(RECORDS[0])
        with pytest.raises(EvaluationError, match=r"Another process is at work on '.*answers-1.jsonl'"):
            cut_half_line(tmp_path / "answers-1.jsonl")
        with pytest.raises(EvaluationError, match="Another process is at work"):
            Recorder(tmp_path, 1)
    assert cut_half_line(tmp_path / "answers-1.jsonl") == 0
