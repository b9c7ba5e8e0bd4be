"""Runs side by side: image by image, on the same data, with what else differs; and the counts that this is made of."""

import json
import warnings
from dataclasses import replace

import numpy as np
import pytest
from test_report import ended

from minivlm.errors import EvaluationError
from minivlm.evaluation.card import fingerprint
from minivlm.evaluation.chair import chair, judge
from minivlm.evaluation.compare import as_text, compare
from minivlm.evaluation.counts import from_json
from minivlm.evaluation.methods import methods
from minivlm.evaluation.records import read_records
from minivlm.evaluation.runner import run
from minivlm.model import CLVA
from minivlm.stats import Ratio, difference, mcnemar, resamples
from support.fake_run import FakeAsker, asking, describing, fake_card, fake_data

MADE = {"chair": describing, "pope": asking}


def made(out, task="chair", data=None, items=None, order=1, damaged=(), **card):
    """A run whose answers fall otherwise with another batch; `order`: the size of a batch."""
    data = data or fake_data(40)
    items = items or MADE[task](data)
    told = fake_card(data, task, batch=order, **card)
    told["data"] |= {"images": len({item.image for item in items})}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # damaged pictures are told
        run(FakeAsker(damaged=damaged), data, items, told | {"words": {"name": "w", "fingerprint": "f"}}, out)
    return out


def captions_of(out, method, data, images):
    records = read_records(out)
    return chair([judge(records[image, method]["text"], data.truth[image], data.lexicon) for image in images])


# --- figures ----------------------------------------------------------------------------------------------------------


def test_every_method_is_held_against_the_first_method_of_the_first_run(tmp_path):
    """By hand: the paired bootstrap over images of what is in the records."""
    data = fake_data(40)
    one, two = (made(tmp_path / name, data=data, order=order) for name, order in (("one", 1), ("two", 7)))
    found = compare([one, two])
    assert found["against"] == [str(one), "plain"]
    assert "difference" not in found["runs"][str(one)]["plain"]["figures"]["chair_i"]
    times, base = resamples(40), captions_of(one, "plain", data, data.images)
    for folder in (one, two):
        for method in ("plain", "eah", "clva"):
            figures = found["runs"][str(folder)][method]["figures"]
            ratios = captions_of(folder, method, data, data.images)
            assert figures.keys() == ratios.keys()
            for key, ratio in ratios.items():
                assert figures[key]["value"] == pytest.approx(float(ratio.value), abs=1e-6)  # six digits
                if (folder, method) != (one, "plain"):
                    expected = difference(ratio, base[key], times).as_dict()
                    assert figures[key]["difference"] == pytest.approx(expected, abs=1e-6)
    assert any(found["runs"][str(two)]["plain"]["figures"]["chair_i"]["difference"].values())


def test_a_run_is_compared_with_itself_as_its_summary_says(tmp_path):
    for task in MADE:
        out = made(tmp_path / task, task)
        summary, found = json.loads((out / "summary.json").read_text()), compare([out])
        for name, method in summary["methods"].items():
            assert found["runs"][str(out)][name]["figures"] == method["figures"]
        if task == "pope":
            tests = {name: method["mcnemar"]["original"] for name, method in summary["methods"].items()}
            assert {n: m["mcnemar"]["original"] for n, m in found["runs"][str(out)].items()} == tests


def test_yes_and_no_are_tested_question_by_question(tmp_path):
    data = fake_data(40)
    one, two = (made(tmp_path / name, "pope", data, order=order) for name, order in (("one", 1), ("two", 7)))
    found = compare([one, two])["runs"][str(two)]["plain"]
    items = [item for item in asking(data) if item.split == "random"]
    rights = [
        [(records[item.id, "plain"]["text"] != "No.") == item.label for item in items]
        for records in map(read_records, (one, two))
    ]
    b, c, p = mcnemar(*rights)
    assert found["mcnemar"]["original"]["random"] == {"only_plain": b, "only_this": c, "p": pytest.approx(p, abs=1e-6)}
    assert b != c
    assert found["figures"]["random accuracy"]["difference"]["value"] == pytest.approx((c - b) / len(items), abs=1e-6)


def test_without_plain_the_first_method_is_the_measure(tmp_path):
    data = fake_data(20)
    texts = {"eah": dict.fromkeys(data.images, "A dog."), "clva": dict.fromkeys(data.images, "A cat.")}
    for name, known in (("one", texts), ("two", texts | {"plain": texts["clva"]})):
        ended(tmp_path / name, data, describing(data), known)
    assert compare([tmp_path / "one", tmp_path / "two"])["against"][1] == "eah"
    assert compare([tmp_path / "two", tmp_path / "one"])["against"][1] == "plain"


def test_images_that_one_run_could_not_read_are_left_out_of_both(tmp_path):
    data = fake_data(40)
    for task in MADE:
        one = made(tmp_path / task / "one", task, data, damaged=["3"])
        two = made(tmp_path / task / "two", task, data, order=7, damaged=["5", "6"])
        found = compare([one, two])
        assert (found["images"], found["left_out"]) == (37, 3)
        assert "3 images that some run could not read are left out" in as_text(found)
    images = [image for image in data.images if image not in {"3", "5", "6"}]
    runs = compare([tmp_path / "chair" / "one", tmp_path / "chair" / "two"])["runs"]
    figure = runs[str(tmp_path / "chair" / "two")]["eah"]["figures"]["chair_i"]
    assert figure["value"] == pytest.approx(
        float(captions_of(tmp_path / "chair" / "two", "eah", data, images)["chair_i"].value), abs=1e-6
    )


def test_runs_that_read_no_image_in_common_are_refused(tmp_path):
    data = fake_data(4)
    one = made(tmp_path / "one", data=data, damaged=["0", "1"])
    two = made(tmp_path / "two", data=data, damaged=["2", "3"])
    none = made(tmp_path / "none", data=data, damaged=data.images)
    for runs in ([one, two], [one, none], [none, one], [none]):
        with pytest.raises(EvaluationError, match="no image that all of these runs could read"):
            compare(runs)


# --- what differs -----------------------------------------------------------------------------------------------------


def test_what_else_differs_is_told_with_the_value_of_each_run(tmp_path):
    settings = {"decoding": {"temperature": 0.0, "seed": None}}, {"decoding": {"temperature": 0.5, "seed": None}}
    one, two = (made(tmp_path / str(n), prompt={"text": str(n)}, **how) for n, how in enumerate(settings))
    found = compare([one, two])
    assert found["differences"] == {"prompt, text": ["0", "1"], "decoding, temperature": [0.0, 0.5]}
    assert "decoding, temperature: 0.0 | 0.5" in as_text(found)
    assert "Nothing else differs." in as_text(compare([one]))


def test_the_settings_of_a_method_are_compared_between_the_runs_that_have_it(tmp_path):
    data = fake_data(5)
    texts = dict.fromkeys(data.images, "A dog.")

    for name, known in {
        "one": methods(["plain", "clva"]),
        "two": methods(["plain", "clva"], clva=CLVA(omega=0.25)),
        "three": methods(["plain", "eah"]),
    }.items():
        ended(tmp_path / name, data, describing(data), dict.fromkeys(known, texts), known=known)
    found = compare([tmp_path / name for name in ("one", "two", "three")])
    assert found["differences"] == {"methods, clva, clva, omega": [CLVA().omega, 0.25, None]}


def test_a_prompt_in_other_words_may_be_compared(tmp_path):
    data = fake_data(20)
    for task, make in MADE.items():
        items = make(data)
        worded = [replace(item, question=f"{item.question} One word.") for item in items]
        one, two = (
            made(tmp_path / task / str(n), task, data, own, prompt={"text": own[0].question})
            for n, own in enumerate((items, worded))
        )
        assert [*compare([one, two])["differences"]] == ["prompt, text"]


# --- what is refused --------------------------------------------------------------------------------------------------


def test_runs_on_other_data_are_refused(tmp_path):
    one = made(tmp_path / "one", data=fake_data(20))
    cases = {
        "data, fingerprint": {"data": fake_data(21)},
        "task": {"task": "pope", "data": fake_data(20)},
        "data, name": {"data": replace(fake_data(20), name="others")},
    }
    for name, how in cases.items():
        other = made(tmp_path / name, **how)
        with pytest.raises(EvaluationError, match=f"cannot be compared: they differ in {name}.*same data") as caught:
            compare([one, other])
        assert str(one) in str(caught.value)
        assert str(other) in str(caught.value)


def test_other_questions_about_the_same_data_are_refused(tmp_path):
    data = fake_data(20)
    items = asking(data)
    one = made(tmp_path / "one", "pope", data, items)
    fewer = [item for item in items if item.split == "random"]
    other = [replace(items[0], label=not items[0].label), *items[1:]]
    for n, own in enumerate((fewer, other)):
        with pytest.raises(EvaluationError, match="differ in the questions"):
            compare([one, made(tmp_path / str(n), "pope", data, own)])


def test_other_words_of_objects_are_refused(tmp_path):
    one, two = (made(tmp_path / name) for name in ("one", "two"))
    card, counts = (json.loads((two / name).read_text()) for name in ("card.json", "counts.json"))
    card["words"]["fingerprint"] = "another"

    (two / "card.json").write_text(json.dumps(card))
    with pytest.raises(EvaluationError, match="card of one run and the counts of another"):
        compare([one, two])
    (two / "counts.json").write_text(json.dumps(counts | {"card": fingerprint(card)}))
    with pytest.raises(EvaluationError, match="differ in words, fingerprint"):
        compare([one, two])


@pytest.mark.parametrize("name", ["card.json", "counts.json"])
def test_a_run_that_is_not_complete_is_refused(tmp_path, name):
    out = made(tmp_path / "run")
    (out / name).unlink()
    with pytest.raises(EvaluationError, match=f"has no {name}.*--resume"):
        compare([out])


def test_one_run_named_twice_is_refused(tmp_path):
    out = made(tmp_path / "run")
    with pytest.raises(EvaluationError, match="different runs"):
        compare([out, out / ".." / "run"])
    with pytest.raises(EvaluationError, match="different runs"):
        compare([])


def test_a_damaged_file_is_named(tmp_path):
    out = made(tmp_path / "run")
    (out / "counts.json").write_text('{"task": "chair"')
    with pytest.raises(EvaluationError, match=r"counts\.json.*no JSON"):
        compare([out])


# --- counts and text --------------------------------------------------------------------------------------------------


def test_counts_are_read_as_they_were_counted(tmp_path):
    data = fake_data(30)
    out = made(tmp_path / "run", data=data)
    counts = json.loads((out / "counts.json").read_text())
    (part,) = from_json(counts, counts["task"]).values()
    assert part.images == data.images
    for key, ratio in captions_of(out, "eah", data, data.images).items():
        found: Ratio = part.methods["eah"].ratios[key]
        assert np.array_equal(found.part, ratio.part)
        assert np.array_equal(found.whole, ratio.whole)


def test_the_text_has_a_row_for_each_run_and_method(tmp_path):
    runs = [made(tmp_path / name, "pope", order=order) for name, order in (("one", 1), ("two", 7))]
    text = as_text(compare(runs))
    assert text.startswith(f"fakes, 40 images; differences to {runs[0]} plain\n")
    for run_ in runs:
        for method in ("plain", "eah", "clva"):
            assert text.count(f"\n{run_} {method} ") == 2  # a table for each split
    assert text.count("McNemar p") == 2
