"""The command `minivlm evaluate`: with the shipped model on a few scenes, and without any model."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from minivlm.cli import main as cli
from minivlm.evaluation import runner
from minivlm.inference.shipped import shipped_model
from minivlm.toyworld import HELD_OUT

SCENES = ("--data", "scenes:0", "--device", "cpu", "--dtype", "float32")
FILES = {"card.json", "counts.json", "summary.json", "report.html", "answers-0.jsonl"}


@pytest.fixture
def evaluate(capsys):
    """Run the command; its exit code, what it printed, and what it remarked."""

    def run(*words) -> tuple[int, str, str]:
        capsys.readouterr()
        code = cli.main(["evaluate", *map(str, words)])
        return code, *capsys.readouterr()

    return run


def files(out: Path) -> set[str]:
    return {path.name for path in out.iterdir()} - {".lock"}


# --- what is typed wrong ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["chair"],
        ["chair", "--data", "scenes:0"],
        ["chair", "--out", "run"],
        ["chair", *SCENES, "--out", "run", "--limit", "0"],
        ["chair", *SCENES, "--out", "run", "--batch", "0"],
        ["chair", *SCENES, "--out", "run", "--method", "magic"],
        ["chair", *SCENES, "--out", "run", "--method", ""],
        ["chair", *SCENES, "--out", "run", "--eah", "layr=2"],
        ["chair", *SCENES, "--out", "run", "--split", "random"],
        ["pope", *SCENES, "--out", "run", "--card", "folder"],
        ["pope", *SCENES, "--out", "run", "--tensor-parallel", "none"],
        ["compare"],
        ["score"],
        ["score", "chair", "captions.jsonl"],
        ["score", "pope", "answers.jsonl", "--truth", "objects.json"],
        ["score", "bleu", "captions.jsonl"],
    ],
    ids=" ".join,
)
def test_what_was_typed_wrong_exits_with_2_before_anything_is_written(words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        cli.main(["evaluate", *words])
    assert end.value.code == 2
    printed = capsys.readouterr()
    assert printed.err
    assert not printed.out
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("task", ["chair", "pope", "all", "compare", "score", "score chair", "score pope"])
def test_every_task_has_help(task, capsys):
    with pytest.raises(SystemExit) as end:
        cli.main(["evaluate", *task.split(), "--help"])
    assert end.value.code == 0
    assert f"minivlm evaluate {task}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--data", "scenes:one"], "Scenes need a seed"),
        (["--data", "nothing.jsonl"], "There is no file 'nothing.jsonl'"),
        (["--data", "coco:nowhere"], "nowhere"),
        (["--data", "scenes:0", "--temperature", "1"], "give a seed"),
        (["--data", "scenes:0", "--tensor-parallel", "2"], "torchrun"),
    ],
)
@pytest.mark.weights
def test_what_cannot_be_run_exits_with_1_and_a_sentence(evaluate, tmp_path, words, sentence):
    code, out, err = evaluate("chair", *words, "--device", "cpu", "--out", tmp_path / "run")
    assert (code, out) == (1, "")
    assert sentence in err
    assert not (tmp_path / "run").exists()


# --- runs -------------------------------------------------------------------------------------------------------------


@pytest.mark.weights
def test_captions_are_measured_and_told(evaluate, tmp_path):
    code, out, err = evaluate("chair", *SCENES, "--limit", 6, "--method", "plain,clva-swapped", "--out", tmp_path)
    assert code == 0
    assert files(tmp_path) == FILES
    assert out.startswith("scenes:held-out:0, 6 images, 6 questions\n")
    assert "CHAIR_i" in out
    assert str(tmp_path / "report.html") in err
    found = json.loads((tmp_path / "summary.json").read_text())
    assert found["methods"].keys() == {"plain", "clva-swapped"}
    assert 0 < found["methods"]["plain"]["figures"]["recall"]["value"] <= 1
    card = json.loads((tmp_path / "card.json").read_text())
    assert (card["decoding"]["max_new_tokens"], card["data"]["images"]) == (512, 6)


@pytest.mark.weights
def test_yes_and_no_are_measured_and_told_as_json(evaluate, tmp_path):
    words = ("pope", *SCENES, "--limit", 4, "--split", "popular,adversarial", "--json", "--out", tmp_path)
    code, out, _ = evaluate(*words)
    assert code == 0
    found = json.loads(out)["pope"]
    assert found == json.loads((tmp_path / "summary.json").read_text())
    assert {name.split()[0] for name in found["methods"]["plain"]["figures"]} == {"popular", "adversarial"}
    assert found["methods"]["plain"]["figures"]["popular accuracy"]["value"] > 0.5
    card = json.loads((tmp_path / "card.json").read_text())
    assert card["decoding"]["max_new_tokens"] == 10


@pytest.mark.weights
def test_the_first_images_of_the_data_are_taken_and_question_and_suffix_are_asked(evaluate, tmp_path):
    question, suffix = "What is in the picture?", "Answer with yes or no."
    assert evaluate("chair", *SCENES, "--limit", 2, "--question", question, "--out", tmp_path / "chair")[0] == 0
    words = ("--split", "random", "--suffix", suffix)
    assert evaluate("pope", *SCENES, "--limit", 2, *words, "--out", tmp_path / "pope")[0] == 0
    for task, said in (("chair", question), ("pope", suffix)):
        lines = (tmp_path / task / "answers-0.jsonl").read_text().splitlines()
        assert {json.loads(line)["image"] for line in lines} == {"0", "1"}
        assert said in json.loads((tmp_path / task / "card.json").read_text())["prompt"]["text"]


@pytest.mark.weights
@pytest.mark.slow
def test_both_tasks_by_one_command_land_in_the_models_card(evaluate, tmp_path):
    folder, run = tmp_path / "tiny", tmp_path / "run"
    shutil.copytree(shipped_model(), folder)
    before = (folder / "README.md").read_text()
    words = ("--limit", 3, "--method", "plain,eah,eah-random-head", "--card", folder, "--model", folder)
    code, out, _ = evaluate("all", *SCENES, *words, "--out", run)
    assert code == 0
    assert [files(run / task) for task in ("chair", "pope")] == [FILES, FILES]
    assert out.count("3 images") == 2
    found = json.loads((folder / "evaluation.json").read_text())
    for task in ("chair", "pope"):
        assert found[task] == json.loads((run / task / "summary.json").read_text())
    text = (folder / "README.md").read_text()
    assert text != before
    assert text.count("## CHAIR and POPE") == 1
    assert "minivlm evaluate all --data scenes:0 --limit 3 --method plain,eah,eah-random-head" in text
    assert "| *controls* |" in text
    assert text.partition("## ")[0] == before.partition("## ")[0]  # the rest of the card is as it was


@pytest.mark.weights
def test_the_card_has_the_whole_command(evaluate, tmp_path):
    folder = tmp_path / "tiny"
    shutil.copytree(shipped_model(), folder)
    words = ("--limit", 2, "--split", "random", "--suffix", "Answer.", "--max-new-tokens", 3)
    assert evaluate("all", *SCENES, *words, "--card", folder, "--out", tmp_path / "run")[0] == 0
    expected = "--split random --suffix Answer. --method plain --max-new-tokens 3 --dtype float32"
    assert json.loads((folder / "evaluation.json").read_text())["command"] == (
        f"minivlm evaluate all --data scenes:0 --limit 2 {expected}"
    )


@pytest.mark.weights
def test_figures_of_another_model_do_not_get_into_a_card(evaluate, tmp_path):
    folder = tmp_path / "tiny"
    shutil.copytree(shipped_model(), folder)
    weights = bytearray((folder / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (folder / "model.safetensors").write_bytes(weights)
    code, _, err = evaluate("all", *SCENES, "--limit", 2, "--card", folder, "--out", tmp_path / "run")
    assert code == 1
    assert "is not the file of the model that is measured" in err
    assert not (tmp_path / "run").exists()


@pytest.mark.weights
def test_what_is_wrong_with_the_second_task_is_told_before_the_first(evaluate, tmp_path):
    code, _, err = evaluate("all", *SCENES, "--limit", 2, "--split", "foo", "--out", tmp_path / "run")
    assert (code, (tmp_path / "run").exists()) == (1, False)
    assert "splits are random, popular, adversarial" in err
    (tmp_path / "run" / "pope").mkdir(parents=True)
    (tmp_path / "run" / "pope" / "card.json").write_text("{}")
    code, _, err = evaluate("all", *SCENES, "--limit", 2, "--out", tmp_path / "run")
    assert (code, (tmp_path / "run" / "chair").exists()) == (1, False)
    assert "holds a run already" in err


@pytest.mark.weights
def test_a_split_that_is_named_twice_is_asked_once(evaluate, tmp_path):
    words = ("--split", "random, popular,random", "--max-new-tokens", 2, "--out", tmp_path / "run")
    assert evaluate("pope", *SCENES, "--limit", 2, *words)[0] == 0
    ids = [json.loads(line)["id"] for line in (tmp_path / "run" / "answers-0.jsonl").read_text().splitlines()]
    assert len(ids) == len(set(ids))
    assert {name.partition("/")[0] for name in ids} == {"random", "popular"}


def test_a_card_for_a_model_that_has_none_is_refused_before_anything_is_asked(evaluate, tmp_path):
    (tmp_path / "model").mkdir()
    words = ("all", *SCENES, "--card", tmp_path / "model", "--out", tmp_path / "run")
    code, _, err = evaluate(*words)
    assert code == 1
    assert "has no training.json and no exam.json" in err
    assert not (tmp_path / "run").exists()


@pytest.mark.weights
def test_a_run_goes_on_with_resume_alone_and_under_its_own_card_alone(evaluate, tmp_path):
    words = ("chair", *SCENES, "--limit", 6, "--batch", 2)
    assert evaluate(*words, "--out", tmp_path / "whole")[0] == 0
    half = tmp_path / "half"
    shutil.copytree(tmp_path / "whole", half)
    answers = (half / "answers-0.jsonl").read_bytes()
    (half / "answers-0.jsonl").write_bytes(answers[: len(answers) // 2])
    for name in ("summary.json", "counts.json", "report.html"):
        (half / name).unlink()
    code, _, err = evaluate(*words, "--out", half)
    assert code == 1
    assert "holds a run already. Go on with it by --resume" in err
    code, _, err = evaluate(*words, "--max-new-tokens", 9, "--resume", "--out", half)
    assert code == 1
    assert "decoding, max_new_tokens was 512 and is now 9." in err
    assert not (half / "summary.json").exists()
    assert evaluate(*words, "--resume", "--out", half)[0] == 0
    for name in ("summary.json", "counts.json", "report.html"):
        assert (half / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


MINDING_CTRL_C = """
import signal, sys
from minivlm.cli.main import main
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell lets what it starts in the background ignore it
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.weights
@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="sends a signal, which Windows does not have")
def test_ctrl_c_leaves_a_run_that_goes_on(evaluate, tmp_path):
    words = ["chair", *SCENES, "--limit", "30", "--batch", "1", "--out", str(tmp_path / "run")]
    command = [sys.executable, "-c", MINDING_CTRL_C, "evaluate", *words]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(cli.__file__).parents[2])}
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    answers = tmp_path / "run" / "answers-0.jsonl"
    while child.poll() is None and not (answers.exists() and answers.read_bytes()):
        time.sleep(0.01)
    child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=600)
    assert (child.returncode, out) == (130, "")
    assert "--resume goes on" in err
    assert "Traceback" not in err
    done = answers.read_bytes().splitlines()
    assert 0 < len(done) < 30
    assert evaluate(*words, "--resume")[0] == 0
    assert answers.read_bytes().splitlines()[: len(done)] == done
    assert len(answers.read_bytes().splitlines()) == 30


@pytest.fixture
def photographs(tmp_path) -> Path:
    """A file of three pictures, of which one is not there and one is no picture."""
    scene = HELD_OUT.draw(1)
    scene.picture.save(tmp_path / "scene.png")
    (tmp_path / "text.png").write_text("no picture")
    lines = [
        {"image": "scene.png", "objects": ["dog"]},
        {"image": "gone.png", "objects": ["cat"]},
        {"image": "text.png", "objects": []},
    ]
    file = tmp_path / "data.jsonl"
    file.write_text("\n".join(map(json.dumps, lines)))
    return file


@pytest.mark.weights
@pytest.mark.parametrize(("allowed", "expected"), [([], 1), (["--allow-missing"], 0)])
def test_pictures_that_cannot_be_read_are_told_and_are_a_failure_unless_allowed(
    evaluate, photographs, allowed, expected
):
    run = photographs.parent / "run"
    code, out, err = evaluate("chair", "--data", photographs, "--device", "cpu", *allowed, "--out", run)
    assert code == expected
    assert "data.jsonl, 3 images" in out
    assert "2 pictures could not be read and are left out of all figures." in err
    assert [image for image, _ in json.loads((run / "summary.json").read_text())["missing"]] == ["gone.png", "text.png"]
    assert "2 pictures could not be read" in (run / "report.html").read_text()
    kept = "".join((run / name).read_text() for name in ("summary.json", "report.html", "answers-0.jsonl"))
    assert str(photographs.parent) not in kept, "where the pictures are on this machine is no part of the results"


def test_data_of_which_no_picture_is_there_is_refused(evaluate, photographs):
    (photographs.parent / "scene.png").unlink()
    (photographs.parent / "text.png").unlink()
    code, _, err = evaluate("chair", "--data", photographs, "--out", photographs.parent / "run")
    assert code == 1
    assert "--images" in err


@pytest.mark.weights
def test_pictures_in_another_folder_are_found(evaluate, photographs, tmp_path):
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    for name in ("scene.png", "gone.png", "text.png"):
        Image.new("RGB", (40, 30), "red").save(folder / name)
    words = ("chair", "--data", photographs, "--images", folder, "--device", "cpu", "--max-new-tokens", 5)
    assert evaluate(*words, "--out", tmp_path / "run")[0] == 0
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["missing"] == []


# --- comparing --------------------------------------------------------------------------------------------------------


@pytest.mark.weights
def test_runs_are_compared_and_others_refused(evaluate, tmp_path):
    for name, words in {
        "one": ["--limit", "3"],
        "two": ["--limit", "3", "--method", "plain,clva"],
        "more": ["--limit", "4"],
    }.items():
        assert evaluate("chair", *SCENES, *words, "--batch", 3, "--out", tmp_path / name)[0] == 0
    code, out, _ = evaluate("compare", tmp_path / "one", tmp_path / "two")
    assert code == 0
    assert f"{tmp_path / 'two'} clva" in out
    assert "Nothing else differs." in out
    code, out, _ = evaluate("compare", "--json", tmp_path / "one", tmp_path / "two")
    found = json.loads(out)
    assert (code, found["against"]) == (0, [str(tmp_path / "one"), "plain"])
    same = found["runs"][str(tmp_path / "two")]["plain"]["figures"]["chair_s"]["difference"]
    assert same == {"value": 0.0, "low": 0.0, "high": 0.0}
    code, out, err = evaluate("compare", tmp_path / "one", tmp_path / "more")
    assert (code, out) == (1, "")
    assert "cannot be compared" in err


def test_a_folder_that_is_no_run_is_refused(evaluate, tmp_path):
    code, _, err = evaluate("compare", tmp_path)
    assert code == 1
    assert "has no card.json" in err


# --- scoring what others wrote ----------------------------------------------------------------------------------------


@pytest.fixture
def captions(tmp_path) -> list:
    """Two captions by any program; of the three objects that they name, one is not there."""
    lines = [{"image_id": 1, "caption": "A dog on a couch."}, {"image_id": "2", "caption": "A cat."}]
    (tmp_path / "captions.jsonl").write_text("\n".join(map(json.dumps, lines)))
    (tmp_path / "objects.json").write_text(json.dumps({"1": ["dog"], "2": ["cat", "bed"], "3": []}))
    return ["score", "chair", tmp_path / "captions.jsonl", "--truth", tmp_path / "objects.json"]


def test_captions_of_any_program_are_scored(evaluate, captions):
    code, out, _ = evaluate(*captions, "--json")
    found = json.loads(out)
    assert code == 0
    expected = {"chair_s": 1 / 2, "chair_i": 1 / 3, "recall": 2 / 3, "precision": 2 / 3, "f1": 2 / 3, "words": 3.5}
    assert {name: found[name] for name in expected} == pytest.approx(expected)
    assert found["captions"] == 2
    low, high = found["intervals"]["chair_s"]
    assert (low, high) == (0, 1)  # of two captions anything is possible
    code, out, _ = evaluate(*captions)
    assert code == 0
    assert "chair_i      0.3333   95 % interval" in out


def test_captions_are_scored_by_other_words(evaluate, captions, tmp_path):
    (tmp_path / "words.txt").write_text("dog, puppy\ncat, kitten\nbed\nsofa, couch\n")
    code, out, _ = evaluate(*captions, "--synonyms", tmp_path / "words.txt", "--json")
    assert code == 0
    assert json.loads(out)["words of"] == "words.txt"
    assert json.loads(out)["chair_i"] == pytest.approx(1 / 3)


def test_captions_of_unknown_images_are_refused(evaluate, captions, tmp_path):
    (tmp_path / "objects.json").write_text(json.dumps({"1": ["dog"]}))
    code, out, err = evaluate(*captions)
    assert (code, out) == (1, "")
    assert "1 of 2 captions" in err
    assert "'2'" in err


@pytest.fixture
def answers(tmp_path) -> list:
    """Three of four answers are right; the lines come in another order than the questions."""
    labels = ["yes", "no", "yes", "no"]
    questions = [
        {"question_id": n, "image": f"{n % 2}.jpg", "text": "Is there a dog?", "label": label}
        for n, label in enumerate(labels)
    ]
    said = [{"question_id": 3, "answer": "No, there is none."}, {"question_id": 1, "answer": "Yes."}]
    said += [{"question_id": 0, "text": "Yes"}, {"question_id": 2, "text": "A dog."}]
    for name, lines in (("questions.json", questions), ("answers.jsonl", said)):
        (tmp_path / name).write_text("\n".join(map(json.dumps, lines)))
    return ["score", "pope", tmp_path / "answers.jsonl", "--questions", tmp_path / "questions.json"]


def test_ids_with_leading_zeros_are_those_of_coco(evaluate, tmp_path):
    (tmp_path / "captions.jsonl").write_text('{"image_id": "000000000139", "caption": "a \\ud800 cat"}\n')
    (tmp_path / "objects.json").write_text('{"139": ["cat"]}')
    code, out, _ = evaluate(
        "score", "chair", tmp_path / "captions.jsonl", "--truth", tmp_path / "objects.json", "--json"
    )
    assert code == 0
    assert json.loads(out)["recall"] == 1, "half a character beside it is no obstacle"


def test_answers_of_any_program_are_scored(evaluate, answers):
    code, out, _ = evaluate(*answers, "--json")
    found = json.loads(out)
    assert code == 0
    expected = {"accuracy": 3 / 4, "precision": 2 / 3, "recall": 1.0, "f1": 4 / 5, "yes_ratio": 3 / 4}
    assert {name: found[name] for name in expected} == pytest.approx(expected)
    assert (found["questions"], found["unreadable"]) == (4, 1)
    first = {"accuracy": 1 / 2, "precision": 1 / 2, "recall": 1 / 2, "f1": 1 / 2, "yes_ratio": 1 / 2}
    told = found["first word"]
    assert {name: told[name] for name in first} == pytest.approx(first)  # where "A dog." is neither
    assert told["intervals"].keys() == found["intervals"].keys() == expected.keys()
    code, out, _ = evaluate(*answers)
    assert code == 0
    assert "yes_ratio    0.7500   95 % interval" in out


def test_missing_answers_are_refused(evaluate, answers, tmp_path):
    file = tmp_path / "answers.jsonl"
    file.write_text("\n".join(file.read_text().splitlines()[1:]))
    code, out, err = evaluate(*answers)
    assert (code, out) == (1, "")
    assert "1 (3) without an answer" in err


def test_no_pickle_is_read(evaluate, captions, tmp_path):
    (tmp_path / "objects.pkl").write_bytes(b"\x80\x04N.")
    code, _, err = evaluate(*captions[:-1], tmp_path / "objects.pkl")
    assert code == 1
    assert "pickle" in err


def test_an_interrupted_run_says_how_to_go_on(evaluate, tmp_path, monkeypatch):
    """The runner itself raises; the model is the shipped one, which is only loaded."""
    if not (shipped_model() / "model.safetensors").is_file():
        pytest.skip("the shipped weights are not there")

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(runner, "run", interrupted)
    code, out, err = evaluate("chair", *SCENES, "--limit", 1, "--out", tmp_path / "run")
    assert (code, out) == (130, "")
    assert f"kept in {tmp_path / 'run'}; the same command with --resume goes on" in err
