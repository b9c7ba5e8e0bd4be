"""What is read back from a file of ours, or one that only looks so: every field is checked, and the error is ours."""

import json
import random
from dataclasses import replace

import pytest
import torch
from test_compare import made

from minivlm.checkpoints.folder import open_folder
from minivlm.checkpoints.openclip import tower_from_open_clip
from minivlm.checkpoints.shards import LARGEST_HEADER, open_shard
from minivlm.errors import CheckpointError, EvaluationError
from minivlm.evaluation.card import fingerprint
from minivlm.evaluation.compare import compare
from minivlm.evaluation.runner import run
from minivlm.experiments.model_card import write_card
from minivlm.experiments.planted_card import plants, title
from minivlm.inference import trace_file
from minivlm.inference.trace import Trace
from support.bad_shards import entry, shard, twice
from support.fake_run import FakeAsker, describing, fake_card, fake_data
from support.tiny_model import picture, tiny_vlm

# --- headers that name a key twice ------------------------------------------------------------------------------------

ONE, OTHER = entry(0), entry(4)
DOUBLES = {
    "a tensor": f'{{"a":{ONE},"a":{ONE}}}',
    "a tensor with other bytes": f'{{"a":{ONE},"a":{OTHER}}}',
    "a key written in another way": f'{{"a":{ONE},"\\u0061":{ONE}}}',
    "a field of a tensor": '{"a":{"dtype":"F32","dtype":"F32","shape":[1],"data_offsets":[0,4]}}',
    "the metadata": f'{{"__metadata__":{{"a":"1"}},"__metadata__":{{"a":"2"}},"a":{ONE}}}',
    "a key of the metadata": f'{{"__metadata__":{{"a":"1","a":"2"}},"a":{ONE}}}',
}


@pytest.mark.parametrize("header", DOUBLES.values(), ids=DOUBLES)
def test_a_header_that_names_something_twice_is_refused(tmp_path, header):
    """The library refuses some of them itself; whoever does, it is an error of ours that names the file."""
    path = shard(tmp_path / "model.safetensors", header, 8)
    with (
        pytest.raises(CheckpointError, match=r"model\.safetensors (has an ambiguous header|is damaged)"),
        open_shard(path),
    ):
        pass


def test_a_doubled_key_is_refused_in_a_checkpoint_in_a_tower_and_in_a_trace(tmp_path, trace):
    shard(tmp_path / "model.safetensors", DOUBLES["a tensor"], 4)
    with pytest.raises(CheckpointError, match="'a' stands twice"):
        open_folder(tmp_path)
    with pytest.raises(CheckpointError, match="'a' stands twice"):
        tower_from_open_clip(tmp_path / "model.safetensors")
    trace.save(tmp_path / "trace.safetensors")
    twice(tmp_path / "trace.safetensors", "shares")
    with pytest.raises(CheckpointError, match="'shares' stands twice in one object.*do not trust"):
        Trace.load(tmp_path / "trace.safetensors")


def test_a_header_too_long_to_be_a_models_is_not_parsed(tmp_path):
    path = tmp_path / "model.safetensors"
    with path.open("wb") as file:
        file.write((LARGEST_HEADER + 8).to_bytes(8, "little"))
        file.truncate(LARGEST_HEADER + 100)
    with (
        pytest.raises(CheckpointError, match=r"has a header of 16,777,224 bytes; at most 16,777,216"),
        open_shard(path),
    ):
        pass


# --- traces -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trace(tmp_path_factory):
    vlm = tiny_vlm(tmp_path_factory.mktemp("tiny"))
    return vlm.trace(picture(0), "Is there a dog?", maps=[1], lens=[0, 2], max_new_tokens=4)


def written(trace: Trace, path, facts=None, **tensors):
    """The file of a trace, with other facts or tensors; a tensor that is None is left out."""
    known = {name: getattr(trace, name) for name in trace_file.TENSORS} | {"maps.1": trace.maps[1]}
    kept = {name.replace("__", "."): one for name, one in (known | tensors).items() if one is not None}
    trace_file.save(path, trace.facts | (facts or {}), kept)
    return path


def nan(tensor):
    broken = tensor.clone()
    broken.view(-1)[0] = float("nan")
    return broken


BAD_TENSORS = {
    "missing": (lambda t: {"shares": None}, "is no trace of this version"),
    "another dtype": (lambda t: {"shares": t.shares.double()}, "shares as F32"),
    "half a dtype": (lambda t: {"pooled": t.pooled.float()}, "pooled as F16"),
    "whole numbers": (lambda t: {"entropy": t.entropy.long()}, "entropy as F32"),
    "a token less": (lambda t: {"entropy": t.entropy[1:]}, r"entropy as F32 \(4, 3, 4\)"),
    "another depth": (lambda t: {"pooled": t.pooled[:, 1:]}, "pooled as F16"),
    "no axes": (lambda t: {"sink_scores": t.sink_scores[0]}, r"sink_scores of shape \(L, H, P\)"),
    "parts of another version": (lambda t: {"shares": t.shares[..., 1:]}, "shares as F32"),
    "fewer lens layers": (lambda t: {"lens_top": t.lens_top[:, 1:]}, "lens_top as I64"),
    "not a number": (lambda t: {"shares": nan(t.shares)}, "shares from 0 on to 1 expected"),
    "infinite": (lambda t: {"lens_prob": t.lens_prob + float("inf")}, "lens_prob from 0 on to 1"),
    "negative": (lambda t: {"entropy": t.entropy - 2}, "entropy from 0 on to 1"),
    "above 1": (lambda t: {"sink_scores": t.sink_scores + 2}, "sink_scores from 0 on to 1"),
    "a token that is none": (lambda t: {"lens_top": t.lens_top - 10_000}, "lens_top from 0 on expected"),
    "a stranger": (lambda t: {"more": torch.zeros(2)}, "no further tensors expected, found 'more'"),
    "a map of no layer": (lambda t: {"maps__3": t.maps[1].clone()}, "maps of layers below 3"),
    "a map of a word": (lambda t: {"maps__one": t.maps[1].clone()}, "no further tensors"),
    "a map of layer 01": (lambda t: {"maps__01": t.maps[1].clone()}, "no further tensors"),
    "a map of layer -1": (lambda t: {"maps__-1": t.maps[1].clone()}, "no further tensors"),
    "a map of another prompt": (lambda t: {"maps__1": t.maps[1][:, 1:, 1:].clone()}, "maps.1 as floats"),
    "a map of whole numbers": (lambda t: {"maps__1": t.maps[1].long()}, "maps.1 as floats"),
}


@pytest.mark.parametrize("case", BAD_TENSORS)
def test_a_trace_with_a_wrong_tensor_is_refused(trace, tmp_path, case):
    change, sentence = BAD_TENSORS[case]
    path = written(trace, tmp_path / "a.safetensors", **change(trace))
    with pytest.raises(CheckpointError, match=rf"a\.safetensors .*{sentence}.*Make it anew with"):
        Trace.load(path)


BAD_FACTS = {
    "no text": ({"text": None}, "a text as 'text'"),
    "another text": ({"text": "A cat."}, "the text of each token as 'pieces'"),
    "pieces of another answer": ({"pieces": ["a"]}, "the text of each token as 'pieces'"),
    "pieces that are none": ({"pieces": [1, 2, 3, 4]}, "the text of each token as 'pieces'"),
    "a finish that is none": ({"finish": "done"}, "one of stop, length, interrupted as 'finish'"),
    "a finish that is a list": ({"finish": []}, "one of stop, length, interrupted as 'finish'"),
    "tokens that are words": ({"tokens": ["1", "2", "3", "4"]}, "a list of whole numbers as 'tokens'"),
    "tokens that are true": ({"tokens": [True] * 4}, "a list of whole numbers as 'tokens'"),
    "negative tokens": ({"tokens": [-1] * 4}, "a list of whole numbers as 'tokens'"),
    "a layer that is none": ({"lens_layers": [0, 3]}, "'lens_layers' below 3"),
    "a layer twice": ({"lens_layers": [2, 2]}, "layers in order"),
    "layers out of order": ({"lens_layers": [2, 0]}, "layers in order"),
    "no spans": ({"spans": []}, "of each part as 'spans'"),
    "spans of an unknown part": ({"spans": [["mine", 0, 3]]}, "of each part as 'spans'"),
    "spans with a gap": ({"spans": [["question", 0, 3], ["answer", 4, 8]]}, "a part that starts at 3"),
    "spans that end before they start": ({"spans": [["question", 0, 3], ["answer", 3, 1]]}, "a part that starts at 3"),
    "an answer of another length": ({"spans": [["question", 0, 3], ["answer", 3, 8]]}, "the answer's part last"),
    "no answer": ({"spans": [["question", 0, 4]]}, "the answer's part last"),
    "settings that are none": ({"settings": [1]}, "an object as 'settings'"),
    "a mitigation that is none": ({"mitigation": {"eah": 3}}, "an object for each method"),
    "an effect that is none": ({"effect": "much"}, "an object or null as 'effect'"),
    "a model that is none": ({"model": 3}, "a text as 'model'"),
    "a recipe that is none": ({"recipe": {}}, "a text as 'recipe'"),
}


@pytest.mark.parametrize("case", BAD_FACTS)
def test_a_trace_with_a_wrong_fact_is_refused(trace, tmp_path, case):
    facts, sentence = BAD_FACTS[case]
    path = written(trace, tmp_path / "a.safetensors", facts)
    with pytest.raises(CheckpointError, match=rf"is a damaged trace: .*{sentence}.*expected, found"):
        Trace.load(path)


@pytest.mark.parametrize("facts", ["", "[]", "{", "null", '{"text": NaN}', "[" * 100_000, '{"text": "a", "text": "b"}'])
def test_facts_that_are_no_strict_json_object_are_refused(trace, tmp_path, facts):
    header = {"format": trace_file.FORMAT, "facts": facts}
    tensors = {name: getattr(trace, name) for name in trace_file.TENSORS}
    trace_file.write_tensors(tmp_path / "a.safetensors", tensors, header)
    with pytest.raises(CheckpointError, match="is a damaged trace"):
        Trace.load(tmp_path / "a.safetensors")


def test_a_trace_with_any_byte_changed_is_read_or_refused(trace, tmp_path):
    path = written(trace, tmp_path / "a.safetensors")
    whole, rng = path.read_bytes(), random.Random(0)
    refused = 0
    for _ in range(300):
        data = bytearray(whole)
        for _ in range(rng.randint(1, 3)):
            data[rng.randrange(2500 if rng.random() < 0.8 else len(data))] = rng.randrange(256)
        path.write_bytes(data)
        try:
            Trace.load(path)
        except CheckpointError:
            refused += 1
    assert 100 < refused < 300


def test_a_good_trace_is_still_read(trace, tmp_path):
    read = Trace.load(written(trace, tmp_path / "a.safetensors"))
    assert read.facts == trace.facts
    old = {name: value for name, value in trace.facts.items() if name != "weights"}  # older traces do not say
    replace(trace, facts=old).save(tmp_path / "old.safetensors")
    assert Trace.load(tmp_path / "old.safetensors").facts == old


# --- runs -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    place = tmp_path_factory.mktemp("runs")
    return {task: made(place / task, task) for task in ("chair", "pope")}


def copied(folder, place):
    """The two files of a run that are compared."""
    place.mkdir()
    for name in ("card.json", "counts.json"):
        (place / name).write_bytes((folder / name).read_bytes())
    return place


def rewritten(file, change):
    """Change the content of a JSON file."""
    content = json.loads(file.read_text())
    file.write_text(json.dumps(change(content)))


def at(path: str, value):
    """A change: `value`, or what a function makes of the old one, at a place such as "parts//methods"."""

    def change(content):
        *above, last = path.split("/")
        place = content
        for name in above:
            place = place[name]
        place[last] = value(place[last]) if callable(value) else value
        return content

    return change


BAD_COUNTS = {
    "a list": lambda content: [],
    "a text": lambda content: "counts",
    "no parts": at("parts", None),
    "parts as a list": at("parts", []),
    "a part as a list": at("parts/", []),
    "no images": at("parts//images", None),
    "images that are numbers": at("parts//images", lambda ids: [*map(int, ids)]),
    "an image twice": at("parts//images", lambda ids: ["0", *ids[:-1]] if ids[0] == "0" else [ids[1], *ids[1:]]),
    "an image less": at("parts//images", lambda ids: ids[1:]),
    "no methods": at("parts//methods", 3),
    "a method as a text": at("parts//methods/plain", "plain"),
    "no ratios": at("parts//methods/plain/ratios", []),
    "a ratio with one side": at("parts//methods/plain/ratios/chair_i", lambda sides: sides[:1]),
    "a ratio of numbers": at("parts//methods/plain/ratios/chair_i", [1, 2]),
    "a number less": at("parts//methods/plain/ratios/chair_i", lambda sides: [sides[0][2:], sides[1]]),
    "a negative number": at("parts//methods/plain/ratios/chair_i", lambda sides: ["-" + sides[0], sides[1]]),
    "not a number": at("parts//methods/plain/ratios/chair_i", lambda sides: ["nan" + sides[0][1:], sides[1]]),
    "a number without end": at(
        "parts//methods/plain/ratios/chair_i", lambda sides: ["9" * 400 + sides[0][1:], sides[1]]
    ),
    "a figure less in one method": at("parts//methods/plain/ratios", lambda ratios: {"chair_i": ratios["chair_i"]}),
    "a figure more in one method": at("parts//methods/plain/ratios", lambda r: r | {"more": r["chair_i"]}),
    "right as a list": at("parts//methods/plain/right", []),
    "right of nothing": at("parts//methods/plain/right", "1 0"),
    "no fingerprint": at("asked", None),
    "a card that is a number": at("card", 3),
}


@pytest.mark.parametrize("case", BAD_COUNTS)
def test_counts_that_are_none_are_refused(runs, tmp_path, case):
    folder = copied(runs["chair"], tmp_path / "a")
    rewritten(folder / "counts.json", BAD_COUNTS[case])
    with pytest.raises(EvaluationError, match=r"counts\.json' holds no counts of a run: .*Run it anew"):
        compare([folder])


@pytest.mark.parametrize(
    "right",
    [lambda text: text.replace("0", "2"), lambda text: text[:-1], lambda text: text + " 1", lambda text: "1" + text],
)
def test_answers_that_are_neither_right_nor_wrong_are_refused(runs, tmp_path, right):
    folder = copied(runs["pope"], tmp_path / "a")
    rewritten(folder / "counts.json", at("parts/popular/methods/eah/right", right))
    with pytest.raises(EvaluationError, match="holds no counts of a run"):
        compare([folder])


def test_runs_of_which_one_has_other_figures_are_refused(runs, tmp_path):
    def renamed(known):
        return {name: {**one, "ratios": {"x": one["ratios"]["chair_i"]}} for name, one in known.items()}

    folder = copied(runs["chair"], tmp_path / "a")
    rewritten(folder / "counts.json", at("parts//methods", renamed))
    with pytest.raises(
        EvaluationError,
        match="has no methods, or not the figures of chair. Run it anew",
    ):
        compare([runs["chair"], folder])


BAD_CARDS = {
    "a list": (lambda card: [], "is no card of a run"),
    "a number": (lambda card: 3, "is no card of a run"),
    "nothing": (lambda card: {}, "does not say task, data, name"),
    "no task": (at("task", None), "does not say task"),
    "another task": (at("task", "mmlu"), 'is the card of a task "mmlu"; chair or pope expected'),
    "no data": (at("data", "coco"), "does not say data, name"),
    "images that are a text": (at("data/images", "40"), "does not say data, images"),
    "too deep": (at("data/more", json.loads("[" * 200 + "]" * 200)), "is no card of a run"),
}


@pytest.mark.parametrize("case", BAD_CARDS)
def test_a_card_that_is_none_is_refused(runs, tmp_path, case):
    change, sentence = BAD_CARDS[case]
    folder = copied(runs["chair"], tmp_path / "a")
    rewritten(folder / "card.json", change)
    rewritten(folder / "counts.json", at("card", fingerprint(json.loads((folder / "card.json").read_text()))))
    with pytest.raises(EvaluationError, match=sentence):
        compare([folder])


@pytest.mark.parametrize("content", ["[]", "3", "null", "{", "", "[" * 3000 + "]" * 3000, '{"a": 1, "a": 2}'])
def test_a_run_is_not_resumed_under_a_card_that_is_none(tmp_path, content):
    data = fake_data(4)
    (tmp_path / "card.json").write_text(content)
    with pytest.raises(EvaluationError, match=r"card\.json"):
        run(FakeAsker(), data, describing(data), fake_card(data), tmp_path, resume=True)
    assert [path.name for path in tmp_path.iterdir() if path.name != ".lock"] == ["card.json"]


# --- records of training ----------------------------------------------------------------------------------------------


PLANTED = ["{}", "[]", "{", '{"recipe": 3}', '{"recipe": {"plants": "weeds"}}', '{"recipe": {"plants": []}}']


@pytest.mark.parametrize("content", PLANTED)
def test_a_record_of_planting_that_is_none_is_refused(tmp_path, content):
    vlm = tiny_vlm(tmp_path)
    (tmp_path / "planting.json").write_text(content)
    for read in (lambda: plants(vlm), lambda: title(tmp_path)):
        with pytest.raises(EvaluationError, match=r"planting\.json|The records of training and exams in"):
            read()


@pytest.mark.parametrize("content", ["{}", '{"model": 3}', "[]", "{"])
def test_a_card_is_not_written_from_records_that_are_none(tmp_path, content):
    for name in ("exam", "training", "evaluation"):
        (tmp_path / f"{name}.json").write_text(content)
    with pytest.raises(EvaluationError):
        write_card(tmp_path, tmp_path)
    assert not (tmp_path / "README.md").exists()
