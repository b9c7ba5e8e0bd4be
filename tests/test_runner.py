"""A run gives the same summary to the byte: at once, killed and resumed, by one process or by several."""

import json
import os
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import pytest

from minivlm.errors import EvaluationError
from minivlm.evaluation import runner
from minivlm.evaluation.asking import Asker
from minivlm.evaluation.card import card
from minivlm.evaluation.items import Item
from minivlm.evaluation.methods import methods
from minivlm.evaluation.plan import plan, unfinished
from minivlm.evaluation.ranks import Ranks, joined
from minivlm.evaluation.records import merged, read_records, record_files
from minivlm.evaluation.runner import run
from support.fake_run import (
    IMAGES,
    METHODS,
    FakeAsker,
    asking,
    describing,
    fake_card,
    fake_data,
)

SCRIPT = Path(__file__).parent / "support" / "fake_run.py"
SUMMARY = "summary.json"


def script(*arguments: str | Path) -> str:
    """What fake_run.py prints; it is run with one thread, and what it says when it fails is shown."""
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=1000,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def whole(out: Path, data=None, items=None, task: str = "chair", asker: FakeAsker | None = None, **how) -> bytes:
    """An uninterrupted run in this process, and the bytes of its summary."""
    data = data or fake_data()
    items = items or {"chair": describing, "pope": asking}[task](data)
    found = run(asker or FakeAsker(), data, items, fake_card(data, task), out, **how)
    assert found == json.loads((out / SUMMARY).read_text())
    return (out / SUMMARY).read_bytes()


# --- the same to the byte ---------------------------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills children, which takes a system that can fork")
def test_killed_at_ten_random_moments_and_resumed_the_summary_is_the_same(tmp_path):
    counts = [int(line) for line in script(SCRIPT, tmp_path / "killed", "--kill", "3").split()]
    assert len(counts) == 10
    assert counts == sorted(counts)  # nothing is lost
    assert len(set(counts)) >= 7  # so many kills waited for further records
    assert counts[-1] < IMAGES * len(METHODS)
    assert (tmp_path / "killed" / SUMMARY).read_bytes() == whole(tmp_path / "whole")
    lines = [json.loads(line) for path in record_files(tmp_path / "killed") for line in path.read_text().splitlines()]
    keys = [(line["id"], line["method"]) for line in lines]
    assert len(keys) == len(set(keys)) == IMAGES * len(METHODS)
    assert not list((tmp_path / "killed").glob(".*.part"))


@pytest.mark.slow
def test_two_processes_of_torchrun_give_the_summary_of_one(tmp_path):
    script("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", SCRIPT, tmp_path / "two")
    assert [path.name for path in record_files(tmp_path / "two")] == ["answers-0.jsonl", "answers-1.jsonl"]
    own = [path.read_bytes().count(b"\n") for path in record_files(tmp_path / "two")]
    assert min(own) > IMAGES  # each did about a half
    assert (tmp_path / "two" / SUMMARY).read_bytes() == whole(tmp_path / "one")


def work_of(out: Path, data, items, methods=METHODS):
    return unfinished(plan(items, 5), list(methods), read_records(out))


@pytest.mark.parametrize("worlds", [(1, 3, 2), (4, 1), (2, 5, 3, 1)], ids=str)
def test_the_number_of_processes_may_change_between_resumes(tmp_path, worlds):
    """Each world does a part of what is left: every rank of it is interrupted after some batches, the last is not."""
    data, out = fake_data(), tmp_path / "changed"
    items = describing(data)
    out.mkdir()
    runner.prepare(out, fake_card(data), 1, resume=False)
    for world in worlds:
        work = work_of(out, data, items)
        for rank in range(world):
            ranks = Ranks(rank, world)
            with pytest.raises(KeyboardInterrupt):
                runner.ask(FakeAsker(interrupted_at=11 + rank), data, ranks.share(work), out, ranks)
    assert len(record_files(out)) == max(worlds)
    assert 0 < len(read_records(out)) < len(items) * len(METHODS)
    assert whole(out, data, items, resume=True) == whole(tmp_path / "whole", data, items)


@pytest.mark.parametrize("task", ["chair", "pope"])
@pytest.mark.parametrize("calls", [1, 2, 20])
def test_interrupted_by_hand_nothing_half_is_recorded_and_the_run_goes_on(tmp_path, task, calls):
    data = fake_data(40)
    asker = FakeAsker(interrupted_at=calls)
    with pytest.raises(KeyboardInterrupt):
        whole(tmp_path / "stopped", data, task=task, asker=asker)
    kept = read_records(tmp_path / "stopped")
    assert len(kept) == sum(len(asked) for _, asked in asker.calls[:-1])
    assert all(record["finish"] == "stop" for record in kept.values())
    assert not (tmp_path / "stopped" / SUMMARY).exists()
    again = FakeAsker()
    assert whole(tmp_path / "stopped", data, task=task, asker=again, resume=True) == whole(
        tmp_path / "whole", data, task=task
    )
    items = {"chair": describing, "pope": asking}[task](data)
    calls = sum(map(len, plan(items, 5))) * len(METHODS)
    assert len(again.calls) == calls - (len(asker.calls) - 1)  # of all, those that were through


def test_a_finished_run_asks_nothing_and_writes_the_same_summary(tmp_path):
    first = whole(tmp_path)
    asker = FakeAsker()
    (tmp_path / SUMMARY).rename(tmp_path / f".minivlm-{7:016x}.part")  # as if it had been killed while writing
    assert whole(tmp_path, asker=asker, resume=True) == first
    assert asker.calls == []
    assert not list(tmp_path.glob(".*.part"))


def test_the_order_of_the_files_and_of_their_lines_does_not_matter(tmp_path):
    first = whole(tmp_path)
    lines = (tmp_path / "answers-0.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "answers-0.jsonl").write_text("".join(lines[200::-1]))
    (tmp_path / "answers-7.jsonl").write_text("".join(lines[:200:-1]))
    assert whole(tmp_path, resume=True) == first


def test_a_batch_of_which_one_record_is_missing_is_asked_as_it_was(tmp_path):
    """By the methods that lack it, and the others' records stay single."""
    first = whole(tmp_path)
    file = tmp_path / "answers-0.jsonl"
    lines = file.read_text().splitlines(keepends=True)
    gone = json.loads(lines.pop(33))
    file.write_text("".join(lines))
    asker = FakeAsker()
    assert whole(tmp_path, asker=asker, resume=True) == first
    ((method, asked),) = asker.calls
    assert method == gone["method"]
    assert len(asked) == 5


def test_half_written_last_lines_of_all_processes_are_cut_and_asked_again(tmp_path):
    first = whole(tmp_path)
    whole_lines = (tmp_path / "answers-0.jsonl").read_bytes()
    middle = whole_lines.index(b"\n", len(whole_lines) // 2) + 1
    (tmp_path / "answers-0.jsonl").write_bytes(whole_lines[: middle - 20])
    (tmp_path / "answers-3.jsonl").write_bytes(whole_lines[middle:-1])  # a line is whole with its end alone
    asker = FakeAsker()
    assert whole(tmp_path, asker=asker, resume=True) == first
    assert 1 <= len(asker.calls) <= 2


# --- batches ----------------------------------------------------------------------------------------------------------


def test_a_group_holds_whole_images_and_a_batch_no_more_than_its_size():
    items = asking(fake_data(30), per_image=4)
    for size in (1, 7, 8, 20, 1000):
        groups = plan(items, size)
        assert sorted(item.id for group in groups for batch in group for item in batch) == sorted(
            item.id for item in items
        )
        images = [{item.image for batch in group for item in batch} for group in groups]
        assert sum(map(len, images)) == 30
        assert max(map(len, images)) <= size
        assert all(len(batch) == size for group in groups for batch in group[:-1])
        assert all(0 < len(group[-1]) <= size for group in groups)


def test_questions_of_one_length_come_together():
    (group,) = plan(describing(fake_data(12)), 12)
    assert [len(item.question) for batch in group for item in batch] == [8] * 4 + [9] * 4 + [10] * 4


def test_pictures_are_looked_at_once_and_asked_in_full_batches(tmp_path, monkeypatch):
    data, asker, looks = fake_data(12), FakeAsker(), []
    monkeypatch.setattr(asker, "encode", lambda pixels: looks.append(len(pixels)) or FakeAsker().encode(pixels))
    whole(tmp_path, data, asker=asker, task="pope")  # 8 items an image, batches of 5
    assert looks == [5, 5, 2]
    sizes = [5] * 8 * len(METHODS) * 2 + [5, 5, 5, 1] * len(METHODS)
    assert [len(asked) for _, asked in asker.calls] == sizes


# --- what is refused --------------------------------------------------------------------------------------------------


def test_a_folder_that_holds_a_run_is_refused_without_resume(tmp_path):
    whole(tmp_path)
    with pytest.raises(EvaluationError, match="holds a run already.*--resume"):
        whole(tmp_path)


def test_another_card_is_refused_and_everything_that_differs_is_told(tmp_path):
    data = fake_data(10)
    items, told = describing(data), fake_card(data, dtype="float32", decoding={"temperature": 0.0})
    run(FakeAsker(), data, items, told, tmp_path)
    other = told | {"dtype": "bfloat16", "decoding": {"temperature": 0.5}}
    with pytest.raises(EvaluationError) as caught:
        run(FakeAsker(), data, items, other, tmp_path, resume=True)
    assert 'dtype was "float32" and is now "bfloat16".' in str(caught.value)
    assert "decoding, temperature was 0.0 and is now 0.5." in str(caught.value)
    run(FakeAsker(), data, items, json.loads(json.dumps(told)), tmp_path, resume=True)


def test_answers_without_a_card_are_refused(tmp_path):
    whole(tmp_path)
    (tmp_path / "card.json").unlink()
    with pytest.raises(EvaluationError, match="no card.json"):
        whole(tmp_path, resume=True)


def test_an_incomplete_set_is_not_summarised(tmp_path):
    whole(tmp_path)
    file = tmp_path / "answers-0.jsonl"
    file.write_text("".join(file.read_text().splitlines(keepends=True)[:-2]))
    with pytest.raises(EvaluationError, match="2 of 1800 records are missing"):
        merged(tmp_path, describing(fake_data()), list(METHODS))
    with pytest.raises(EvaluationError, match="and 1797 belong to none"):
        merged(tmp_path, describing(fake_data())[:1], ["plain"])


def test_a_record_that_is_there_twice_is_refused(tmp_path):
    whole(tmp_path)
    line = (tmp_path / "answers-0.jsonl").read_text().splitlines(keepends=True)[4]
    (tmp_path / "answers-1.jsonl").write_text(line)
    with pytest.raises(EvaluationError, match="answers-1.jsonl', line 1.*second time"):
        whole(tmp_path, resume=True)


@pytest.mark.parametrize("place", ["file", "file/below"])
def test_a_folder_that_cannot_be_made_is_refused_before_anything_is_asked(tmp_path, place):
    (tmp_path / "file").write_text("")
    asker = FakeAsker()
    with pytest.raises(EvaluationError, match="cannot be made"):
        whole(tmp_path / place, asker=asker)
    assert asker.calls == []


def test_a_disk_that_is_too_full_is_noticed_before_anything_is_asked(tmp_path, monkeypatch):
    usage = type(runner.shutil.disk_usage(tmp_path))(10**9, 10**9 - 1000, 1000)
    monkeypatch.setattr(runner.shutil, "disk_usage", lambda path: usage)
    asker = FakeAsker()
    with pytest.raises(EvaluationError, match="0.0 MB free"):
        whole(tmp_path, asker=asker)
    assert asker.calls == []


# --- pictures that are not there --------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", ["chair", "pope"])
def test_a_missing_or_damaged_picture_is_recorded_counted_and_told(tmp_path, task):
    data = fake_data(20, missing=["3", "4"])
    with warnings.catch_warnings(record=True) as told:
        text = whole(tmp_path, data, task=task, asker=FakeAsker(damaged=["7"]))
    found = json.loads(text)
    assert found["missing"] == [
        ["3", "The picture of image 3 is missing."],
        ["4", "The picture of image 4 is missing."],
        ["7", "Picture 7 is damaged."],
    ]
    sentences = [str(warning.message) for warning in told]
    assert all(any(sentence.startswith(why) for sentence in sentences) for _, why in found["missing"])
    items = {"chair": describing, "pope": asking}[task](data)
    lost = sum(item.image in {"3", "4", "7"} for item in items)
    assert {part["missing"] for part in found["methods"].values()} == {lost}
    errors = [record for record in read_records(tmp_path).values() if "error" in record]
    assert len(errors) == lost * len(METHODS)


def test_figures_are_those_of_the_pictures_that_were_read(tmp_path):
    """Missing pictures change neither what the others' answers are worth nor, alone in their batches, the answers."""
    data = fake_data(20, missing=["19"])
    data = replace(data, images=("0", "19", "1"))
    items = describing(data)
    card = fake_card(data, batch=1)
    with pytest.warns(UserWarning, match="19 is missing"):
        found = run(FakeAsker(), data, items, card, tmp_path / "missing")
    there = [item for item in items if item.image != "19"]
    without = run(FakeAsker(), data, there, card, tmp_path / "without")
    assert [part["figures"] for part in found["methods"].values()] == [
        part["figures"] for part in without["methods"].values()
    ]
    assert (found["images"], without["images"]) == (3, 2)


def test_without_any_picture_there_are_no_figures_but_a_summary(tmp_path):
    data = fake_data(3, missing=["0", "1", "2"])
    with pytest.warns(UserWarning, match="missing"):
        found = json.loads(whole(tmp_path, data))
    assert len(found["missing"]) == 3
    assert found["methods"]["plain"] == {"missing": 3, "untouched": 0}


def test_a_resumed_run_counts_its_missing_pictures_once(tmp_path):
    data = fake_data(20, missing=["3"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(KeyboardInterrupt):
            whole(tmp_path / "a", data, asker=FakeAsker(interrupted_at=5))
        assert whole(tmp_path / "a", data, resume=True) == whole(tmp_path / "b", data)


# --- figures ----------------------------------------------------------------------------------------------------------


def test_figures_have_intervals_and_differences_to_plain(tmp_path):
    found = json.loads(whole(tmp_path))
    assert found["task"] == "chair"
    assert (found["images"], found["items"]) == (IMAGES, IMAGES)
    plain, eah = (found["methods"][name]["figures"]["chair_i"] for name in ("plain", "eah"))
    assert "difference" not in plain
    assert 0 < eah["low"] < eah["value"] < eah["high"] < 1
    assert eah["difference"]["value"] == pytest.approx(eah["value"] - plain["value"], abs=2e-6)  # six digits each
    assert eah["value"] != plain["value"]


def test_answers_in_which_a_method_changed_nothing_are_counted(tmp_path):
    found = json.loads(whole(tmp_path))["methods"]
    batches = sum(map(len, plan(describing(fake_data()), 5)))
    assert {name: part["untouched"] for name, part in found.items()} == {"plain": 0, "eah": batches, "clva": batches}


def test_yes_and_no_are_scored_by_split_and_parser(tmp_path):
    data = fake_data(60)
    found = json.loads(whole(tmp_path, data, task="pope"))
    eah = found["methods"]["eah"]
    assert eah["figures"] == eah["parsers"]["original"]
    assert {name.split()[0] for name in eah["figures"]} == {"random", "popular"}
    told = {id_: record["text"] for (id_, method), record in read_records(tmp_path).items() if method == "eah"}
    own = [item for item in asking(data) if item.split == "popular"]
    share = sum((told[item.id] == "Yes.") == item.label for item in own if told[item.id] != "Perhaps.") / len(own)
    assert eah["parsers"]["first word"]["popular accuracy"]["value"] == pytest.approx(share, abs=1e-6)
    assert eah["unreadable"] == sum(text == "Perhaps." for text in told.values()) > 0
    assert set(eah["mcnemar"]["original"]) == {"random", "popular"}
    assert 0 < eah["mcnemar"]["original"]["random"]["p"] <= 1
    assert found["methods"]["plain"]["mcnemar"]["original"] == {}


def test_a_question_without_a_split_has_figures_without_a_name_in_front(tmp_path):
    data = fake_data(10)
    items = [replace(item, split="") for item in asking(data)]
    found = json.loads(whole(tmp_path, data, items, task="pope"))["methods"]["eah"]
    assert "accuracy" in found["figures"]
    assert set(found["mcnemar"]["original"]) == {"all"}


# --- ranks ------------------------------------------------------------------------------------------------------------


def test_work_is_shared_without_rest_and_without_doubles():
    for world in (1, 2, 3, 7):
        shares = [Ranks(rank, world).share(range(20)) for rank in range(world)]
        assert sorted(n for share in shares for n in share) == list(range(20))
        assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"RANK": "2", "WORLD_SIZE": "2"}, "RANK is 2 and WORLD_SIZE is 2"),
        ({"RANK": "one", "WORLD_SIZE": "2"}, "must be whole numbers"),
        ({"RANK": "0", "WORLD_SIZE": "3"}, "split over 2 processes.*found 3"),
        ({"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "", "MASTER_PORT": "x"}, "did not find each other"),
    ],
)
def test_an_environment_that_makes_no_sense_is_refused(monkeypatch, environment, message):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(EvaluationError, match=message), joined(tensor_parallel=2):
        pass


def test_a_process_by_itself_needs_no_group(monkeypatch):
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    with joined() as ranks:
        assert ranks == Ranks()
        ranks.wait()
        ranks.require_same({}, "nothing")


# --- with the shipped model -------------------------------------------------------------------------------------------


@pytest.mark.weights
@pytest.mark.slow
def test_the_shipped_model_runs_and_resumes(tmp_path):
    import minivlm
    from minivlm.evaluation.datasets import open_dataset
    from minivlm.evaluation.items import chair_items
    from minivlm.inference.generate import Generation

    data = open_dataset("scenes:0").limited(6)
    items: list[Item] = chair_items(data)
    known, settings, vlm = methods(["plain", "both"]), Generation(max_new_tokens=40), minivlm.load(device="cpu")
    asker = Asker(vlm, settings, known)
    told = card("chair", vlm, settings, known, data, items, batch=4, version="test")
    found = run(asker, data, items, told, tmp_path / "run")
    assert 0 < found["methods"]["plain"]["figures"]["chair_i"]["value"] < 1
    assert found["methods"]["both"]["untouched"] == 0
    before = (tmp_path / "run" / SUMMARY).read_bytes()
    file = tmp_path / "run" / "answers-0.jsonl"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    assert run(asker, data, items, told, tmp_path / "run", resume=True) == found
    assert (tmp_path / "run" / SUMMARY).read_bytes() == before
