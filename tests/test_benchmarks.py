"""RePOPE, AMBER and DASH-B: known answers, what the originals print, and examples by hand."""

import json
import os
from pathlib import Path

import pytest

from minivlm.cli import main as cli
from minivlm.errors import EvaluationError
from minivlm.evaluation.amber import amber_yes_no, as_printed, read_annotations, read_responses, yes_no_questions
from minivlm.evaluation.amber_objects import AmberWords, amber_captions, describe
from minivlm.evaluation.dash import QUESTION, dash, read_dash
from minivlm.evaluation.pope import corrected_labels
from minivlm.evaluation.pope_questions import PopeQuestion

DATA = Path(os.environ.get("MINIVLM_TEST_DATA", "nowhere"))
needs_data = pytest.mark.skipif(not (DATA / "amber").is_dir(), reason="MINIVLM_TEST_DATA has no amber, dash and pope")


def scored(capsys, *words: object) -> dict:
    """What `minivlm evaluate score` prints as JSON."""
    assert cli.main(["evaluate", "score", *map(str, words), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


# --- RePOPE -----------------------------------------------------------------------------------------------------------


@needs_data
def test_pope_and_repope_of_the_published_answers_of_llava(capsys):
    """cd_rethink's greedy answers of LLaVA-1.5-7B, random split: accuracy, F1 and yes in percent, to the last digit."""
    files = DATA / "pope"
    answers, questions = files / "answers" / "llava15_7b_coco_random_greedy.jsonl", files / "coco_pope_random.json"
    found = scored(capsys, "pope", answers, "--questions", questions, "--corrected", files / "coco_repope_random.json")
    again = found["corrected labels"]
    percent = [[round(100 * one[name], 2) for name in ("accuracy", "f1", "yes_ratio")] for one in (found, again)]
    assert percent == [[87.00, 85.50, 39.67], [91.93, 89.91, 38.25]]
    assert (again["questions"], again["of"], again["changed"]) == (2774, 3000, 144)  # 139 yes -> no, 5 no -> yes


QUESTIONS = [PopeQuestion(str(n), f"{n}.jpg", "Is there a dog?", n % 2 == 0) for n in range(4)]


def test_corrected_labels_are_joined_by_id_whatever_the_text_and_need_the_same_picture():
    slip = [PopeQuestion("1", "1.jpg", "Is there a dog in the imange?", True)]
    assert corrected_labels(QUESTIONS, slip) == 1
    for other in (PopeQuestion("1", "2.jpg", "Is there a dog?", True), PopeQuestion("9", "9.jpg", "?", True)):
        with pytest.raises(EvaluationError, match="corrected labels are of other questions: 1"):
            corrected_labels(QUESTIONS, [other])


# --- AMBER, yes and no ------------------------------------------------------------------------------------------------


@needs_data
def test_the_yes_no_half_of_amber_prints_what_the_original_prints():
    files = DATA / "amber"
    questions = yes_no_questions(read_annotations(files / "annotations.json"), files / "query_discriminative.json")
    found = amber_yes_no(questions, read_responses(files / "made_up_answers.json"))
    lines = json.loads((files / "made_up_answers_original_scores.json").read_text())["printed by the original"]["d"]
    printed = [float(line.split(":")[1]) for line in lines if line.split(":")[1].strip()]
    order = ("all", "existence", "attribute", "state", "number", "action", "relation")
    assert [value for part in order for value in as_printed(found[part], part).values()] == printed
    assert len(questions) == 14_216


ANNOTATIONS = [
    {"id": 1, "type": "discriminative-hallucination", "truth": "no"},
    {"id": 2, "type": "discriminative-hallucination", "truth": "no"},
    {"id": 3, "type": "discriminative-attribute-state", "truth": "yes"},
    {"id": 4, "type": "relation", "truth": "no"},
    {"id": 5, "type": "generative", "truth": ["dog", "tree"], "hallu": ["cat"]},
]
QUERIES = [{"id": n, "image": f"{n % 2}.jpg", "query": "Is it?"} for n in range(1, 5)]


@pytest.fixture
def files(tmp_path):
    contents = {"annotations": ANNOTATIONS, "queries": QUERIES, "relations": {"dog": ["puppy"], "tree": [], "cat": []}}
    for name, content in contents.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    (tmp_path / "safe.txt").write_text("line\norange\n")
    return tmp_path


def test_no_is_the_positive_class_and_only_the_exact_words_count(files):
    """Said: No, "no" (wrong for the original), Yes, No: 3 of 4 right; 2 no answers, both true, of 3."""
    questions = yes_no_questions(ANNOTATIONS, files / "queries.json")
    answers = {"1": "No", "2": "no", "3": "Yes", "4": "No", "5": "A dog."}
    found = amber_yes_no(questions, answers)
    values = {name: float(ratio.value) for name, ratio in found["all"].items()}
    assert values == pytest.approx({"accuracy": 3 / 4, "precision": 1, "recall": 2 / 3, "f1": 4 / 5, "no_ratio": 1 / 2})
    assert float(found["existence"]["accuracy"].value) == 1 / 2
    assert float(amber_yes_no(questions, answers, "first word")["existence"]["accuracy"].value) == 1
    assert found.keys() == {"all", "existence", "attribute", "state", "relation"}
    with pytest.raises(EvaluationError, match=r"Every one of the 4 yes-no questions .* found 1 \(4\) without one"):
        amber_yes_no(questions, {name: text for name, text in answers.items() if name != "4"})


@pytest.mark.parametrize(
    ("annotations", "queries", "sentence"),
    [
        ({}, QUERIES, "must hold AMBER's annotations"),
        (ANNOTATIONS, QUERIES[:2], "question 3 has no entry"),
        ([{"id": 1, "type": "relation", "truth": "maybe"}], QUERIES, "neither yes nor no as truth"),
        ([ANNOTATIONS[4]], QUERIES, "hold no yes-no question of AMBER"),
    ],
)
def test_other_files_than_ambers_are_refused(tmp_path, annotations, queries, sentence):
    for name, content in (("a.json", annotations), ("q.json", queries)):
        (tmp_path / name).write_text(json.dumps(content))
    with pytest.raises(EvaluationError, match=sentence):
        yes_no_questions(read_annotations(tmp_path / "a.json"), tmp_path / "q.json")


# --- AMBER, captions --------------------------------------------------------------------------------------------------

WORDS = AmberWords({"dog": ("puppy",), "tree": ("forest",), "cat": ("kitten",), "orange": ()}, frozenset({"orange"}))


@pytest.mark.parametrize(
    ("text", "counts"),
    [  # words, invented, covered, tempted
        ("Two dogs and a puppy under a tree.", (3, 0, 2, 0)),
        ("A kitten, a kitten and a cat.", (3, 3, 0, 1)),  # repeats count each time, the object once
        ("Nothing that counts.", (0, 0, 0, 0)),
        ("An orange, on which a dog sits.", (2, 0, 1, 0)),  # safe: not invented, but counted
    ],
)
def test_the_words_of_a_caption_by_hand(text, counts):
    found = describe(text, ["dog", "tree"], ["cat"], WORDS)
    assert (found.words, found.invented, found.covered, found.tempted) == counts
    assert (found.there, found.tempting) == (2, 1)


def test_the_figures_of_captions_by_hand():
    pictures = [{"id": n, "type": "generative", "truth": ["dog", "tree"], "hallu": ["cat"]} for n in (1, 2)]
    answers = {"1": "A dog and a cat.", "2": "A puppy by a tree; a dog, too.", "9": "left alone"}
    values = {name: float(ratio.value) for name, ratio in amber_captions(pictures, answers, WORDS).items()}
    assert values == pytest.approx({"chair": 1 / 5, "cover": 3 / 4, "hal": 1 / 2, "cog": 1 / 2})
    with pytest.raises(EvaluationError, match=r"Every one of the 2 pictures of AMBER needs a caption .* 1 \(2\)"):
        amber_captions(pictures, {"1": "A dog."}, WORDS)


@needs_data
def test_every_object_of_amber_is_found_and_means_itself():
    """In a picture that has this object alone, its name covers it, and invents nothing."""
    words = AmberWords.read(DATA / "amber" / "relation.json", DATA / "amber" / "safe_words.txt")
    odd = {name for name in words.associations if describe(f"There is a {name}.", [name], [], words).covered != 1}
    assert odd <= set(words.safe)
    assert len(words.associations) == 340


def test_both_halves_by_the_command(files, capsys):
    answers = [{"id": n, "response": "No"} for n in range(1, 5)] + [{"id": 5, "response": "A dog and a cat."}]
    (files / "said.json").write_text(json.dumps(answers))
    common = ["amber", files / "said.json", "--annotations", files / "annotations.json"]
    captions = ["--relations", files / "relations.json", "--safe-words", files / "safe.txt"]
    found = scored(capsys, *common, "--questions", files / "queries.json", *captions)
    assert found["existence"]["as printed by the original"] == {
        "accuracy": 100.0,
        "precision": 100.0,
        "recall": 100.0,
        "f1": 100.0,  # 99.95 before it is rounded
    }
    assert found["captions (own variant)"]["chair"] == 1 / 2
    assert "captions (own variant)" not in scored(capsys, *common, "--questions", files / "queries.json")
    for words in (common, [*common, *captions[:2]]):
        with pytest.raises(SystemExit):
            cli.main(["evaluate", "score", *map(str, words)])


# --- DASH-B -----------------------------------------------------------------------------------------------------------


def test_dash_by_hand(tmp_path, capsys):
    """Without the object: one of two got a no; with it: two of two a yes."""
    lists = {"neg": {"coco": {"bus": ["a.jpg", "b.jpg"]}}, "pos": {"coco": {"bus": ["a.jpg", "c.jpg"]}}}
    for name, content in lists.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    questions = read_dash(tmp_path / "neg.json", tmp_path / "pos.json")
    assert questions[0].text == QUESTION.format("bus")
    said = dict(zip((question.id for question in questions), ("No.", "Yes", "yes", "Yes, a bus."), strict=True))
    assert {name: float(ratio.value) for name, ratio in dash(questions, said).items()} == {
        "accuracy": 3 / 4,
        "tnr": 1 / 2,
        "tpr": 1.0,
    }
    lines = [json.dumps({"question_id": name, "answer": text}) for name, text in said.items()]
    (tmp_path / "said.jsonl").write_text("\n".join(lines))
    found = scored(
        capsys, "dash", tmp_path / "said.jsonl", "--without", tmp_path / "neg.json", "--with", tmp_path / "pos.json"
    )
    assert (found["tnr"], found["questions"], found["neither"]) == (1 / 2, 4, 0)


@needs_data
def test_the_lists_of_dash_have_as_many_pictures_with_as_without():
    questions = read_dash(DATA / "dash" / "dash_benchmark_neg.json", DATA / "dash" / "dash_benchmark_pos.json")
    halves = [question.split for question in questions]
    assert (halves.count("without"), halves.count("with")) == (1341, 1341)
    assert len({question.id for question in questions}) == 2682


@pytest.mark.parametrize("content", [[], {"coco": []}, {"coco": {"bus": "a.jpg"}}, {}])
def test_other_lists_than_dashs_are_refused(tmp_path, content):
    (tmp_path / "a.json").write_text(json.dumps(content))
    with pytest.raises(EvaluationError):
        read_dash(tmp_path / "a.json", tmp_path / "a.json")
