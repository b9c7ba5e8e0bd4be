"""POPE: figures by hand, parsers, files as they come, and questions built by the original's definitions."""

import json
import os
from collections import Counter
from pathlib import Path
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minivlm.errors import EvaluationError
from minivlm.evaluation.pope import (
    PARSERS,
    SPLITS,
    PopeQuestion,
    build_questions,
    matched,
    pope,
    read_answers,
    read_questions,
    right,
    score_answers,
    unreadable,
)
from minivlm.stats import estimate, mcnemar, resamples

DATA = os.environ.get("MINIVLM_TEST_DATA")
needs_data = pytest.mark.skipif(not DATA, reason="MINIVLM_TEST_DATA is not set to the folder of test data")

SMALL = [  # two images; three of six are there
    PopeQuestion("1", "A", "Is there a dog in the image?", True),
    PopeQuestion("2", "A", "Is there a cat in the image?", False),
    PopeQuestion("3", "A", "Is there a car in the image?", True),
    PopeQuestion("4", "A", "Is there a bus in the image?", False),
    PopeQuestion("5", "B", "Is there a dog in the image?", False),
    PopeQuestion("6", "B", "Is there a cup in the image?", True),
]
SAID = [True, True, False, False, True, True]  # hit, false yes, miss, true no; false yes, hit


def values(figures) -> dict[str, float]:
    return {name: float(figure.value) for name, figure in figures.items()}


def written(folder: Path, lines: list, name: str = "file.json") -> Path:
    path = folder / name
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines), "utf-8")
    return path


# --- figures ----------------------------------------------------------------------------------------------------------


def test_every_figure_by_hand():
    """2 hits, 1 true no, 2 false yeses, 1 miss: F1 = 2*2 / (4 yeses + 3 that are there)."""
    expected = {"accuracy": 3 / 6, "precision": 2 / 4, "recall": 2 / 3, "f1": 4 / 7, "yes_ratio": 4 / 6}
    assert values(pope(SMALL, SAID)) == pytest.approx(expected, abs=1e-15)


def test_f1_is_the_harmonic_mean():
    found = values(pope(SMALL, SAID))
    assert found["f1"] == pytest.approx(2 / (1 / found["precision"] + 1 / found["recall"]))


def test_sums_are_those_of_each_image():
    figures = pope(SMALL, SAID)
    assert figures["accuracy"].part.tolist() == [2, 1]
    assert figures["accuracy"].whole.tolist() == [4, 2]
    assert (figures["precision"].part.tolist(), figures["precision"].whole.tolist()) == ([1, 1], [2, 2])
    assert (figures["recall"].part.tolist(), figures["recall"].whole.tolist()) == ([1, 1], [2, 1])


def test_the_yes_ratio_is_that_of_the_answers_and_not_of_the_labels():
    """Half of the labels are yes, whatever a model says."""
    for said, ratio in (([True] * 6, 1), ([False] * 6, 0), (SAID, 4 / 6)):
        assert float(pope(SMALL, said)["yes_ratio"].value) == pytest.approx(ratio)


def test_a_model_that_always_says_yes():
    expected = {"accuracy": 1 / 2, "precision": 1 / 2, "recall": 1, "f1": 2 / 3, "yes_ratio": 1}
    assert values(pope(SMALL, [True] * 6)) == pytest.approx(expected)


def test_a_model_that_always_says_no_has_no_precision_rather_than_a_division_by_zero():
    expected = {"accuracy": 1 / 2, "precision": 0, "recall": 0, "f1": 0, "yes_ratio": 0}
    assert values(pope(SMALL, [False] * 6)) == expected


def test_an_answer_that_is_neither_is_wrong_and_no_yes():
    """Neither where yes is true is a miss; neither where no is true is wrong too, and not a false yes."""
    expected = {"accuracy": 4 / 6, "precision": 1, "recall": 2 / 3, "f1": 4 / 5, "yes_ratio": 2 / 6}
    assert values(pope(SMALL, [True, None, None, False, False, True])) == pytest.approx(expected)
    assert right(SMALL, [None] * 6) == [False] * 6


def test_images_are_what_the_bootstrap_draws():
    """In each image all six answers are right or all wrong, so there are 100 things to draw and not 600.

    Half-width by images 1.96 * 0.5 / sqrt(100) = 0.098, by questions it would be 0.040; the bounds lie between.
    """
    questions = [PopeQuestion(f"{i}/{k}", str(i), "?", k % 2 == 0) for i in range(100) for k in range(6)]
    said = [question.label if int(question.image) % 2 else not question.label for question in questions]
    found = estimate(pope(questions, said)["accuracy"], resamples(100))
    assert 0.08 < (found.high - found.low) / 2 < 0.12


def test_images_that_come_back_later_are_the_same_images():
    mixed = [SMALL[place] for place in (0, 4, 1, 5, 2, 3)]
    figures = pope(mixed, [SAID[place] for place in (0, 4, 1, 5, 2, 3)])
    assert {name: figure.part.tolist() for name, figure in figures.items()} == {
        name: figure.part.tolist() for name, figure in pope(SMALL, SAID).items()
    }


def test_numpy_truth_values_serve_as_answers():
    assert values(pope(SMALL, np.array(SAID))) == values(pope(SMALL, SAID))


@settings(max_examples=60)
@given(st.lists(st.tuples(st.booleans(), st.sampled_from([True, False, None]), st.integers(0, 4)), min_size=1))
def test_figures_agree_with_counting_one_by_one(rows):
    questions = [PopeQuestion(str(i), str(image), "?", label) for i, (label, _, image) in enumerate(rows)]
    found = values(pope(questions, [said for _, said, _ in rows]))
    count = Counter((label, said) for label, said, _ in rows)
    hits, false, missed = count[True, True], count[False, True], count[True, False] + count[True, None]
    assert found["accuracy"] == pytest.approx((hits + count[False, False]) / len(rows))
    assert found["precision"] == pytest.approx(hits / (hits + false) if hits + false else 0)
    assert found["recall"] == pytest.approx(hits / (hits + missed) if hits + missed else 0)
    assert found["f1"] == pytest.approx(2 * hits / (2 * hits + false + missed) if hits + false + missed else 0)
    assert found["yes_ratio"] == pytest.approx((hits + false) / len(rows))


def test_mcnemar_takes_what_two_methods_got_right():
    other = [question.label for question in SMALL]
    assert mcnemar(right(SMALL, SAID), right(SMALL, other)) == (0, 3, 0.25)


@pytest.mark.parametrize("answers", [[True] * 5, [True] * 7, []])
def test_as_many_answers_as_questions_are_needed(answers):
    with pytest.raises(EvaluationError, match=f"found {len(answers)} answers and 6 questions"):
        pope(SMALL, answers)


def test_no_questions_have_no_figures():
    with pytest.raises(EvaluationError, match="found 0 answers and 0 questions"):
        pope([], [])


# --- parsers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "original", "first", "neither"),
    [
        ("Yes", True, True, False),
        ("No", False, False, False),
        ("yes, there is a dog.", True, True, False),
        ("No, there is no dog in the image.", False, False, False),
        ("NO", False, False, False),
        (" No.", False, False, False),
        ("**Yes**", True, True, False),
        ("There is a dog.", True, None, True),
        ("There is no dog.", False, None, False),
        ("There isn't a dog.", False, None, False),
        ("It is not there.", False, None, False),
        ("It could be. I do not know.", True, None, True),  # the second sentence is not looked at
        ("Yes. It is not small.", True, True, False),
        ("Yes, but not a small one", False, True, False),  # the parsers differ
        ("no!", True, False, False),  # the original splits at blanks alone
        ("No\nThere is none", True, False, False),
        ("Certainly, yes!", True, None, False),
        ("Nothing", True, None, True),
        ("Yesterday", True, None, True),
        ("1. No", True, False, False),
        ("", True, None, True),
        ("?!", True, None, True),
    ],
)
def test_parsers(answer, original, first, neither):
    assert PARSERS["original"](answer) is original
    assert PARSERS["first word"](answer) is first
    assert unreadable(answer) is neither


@settings(max_examples=200)
@given(st.text())
def test_any_text_is_parsed(answer):
    assert PARSERS["original"](answer) in (True, False)
    assert PARSERS["first word"](answer) in (True, False, None)
    if PARSERS["first word"](answer) is not None:
        assert not unreadable(answer)


def test_an_unknown_parser_is_refused():
    with pytest.raises(EvaluationError, match="original, first word, found 'mine'"):
        score_answers(SMALL, {}, "mine")


# --- answers by question ----------------------------------------------------------------------------------------------


def test_answers_are_matched_by_id_and_never_by_order():
    answers = {question.id: "Yes" if said else "No" for question, said in zip(SMALL, SAID, strict=True)}
    for seed in range(5):
        mixed = dict(Random(seed).sample(list(answers.items()), len(answers)))
        assert matched(SMALL, mixed) == SAID
        assert values(score_answers(SMALL, mixed)) == values(pope(SMALL, SAID))
    assert matched(SMALL[::-1], answers) == SAID[::-1]


def test_parsers_give_their_own_figures():
    answers = {question.id: "There is one." if question.label else "No" for question in SMALL}
    assert float(score_answers(SMALL, answers)["accuracy"].value) == 1
    assert float(score_answers(SMALL, answers, "first word")["accuracy"].value) == 0.5


def test_missing_and_unknown_answers_are_refused_with_numbers():
    with pytest.raises(EvaluationError) as caught:
        score_answers(SMALL, {"1": "Yes", "77": "No"})
    for part in ("6 questions", "5 (2, 3, 4, …) without an answer", "1 (77) of 2 answers"):
        assert part in str(caught.value)


def test_one_missing_answer_is_enough():
    with pytest.raises(EvaluationError, match=r"1 \(6\) without an answer, and 0 of 5"):
        score_answers(SMALL, {question.id: "Yes" for question in SMALL[:-1]})


def test_questions_of_several_files_need_ids_of_their_own():
    with pytest.raises(EvaluationError, match="12 questions have only 6 different ids"):
        score_answers(SMALL * 2, {question.id: "Yes" for question in SMALL})


# --- files ------------------------------------------------------------------------------------------------------------

LINE = {"question_id": 1, "image": "a.jpg", "text": "Is there a dog in the image?", "label": "yes"}


def test_a_question_file_is_read(tmp_path):
    path = written(tmp_path, [LINE, "", {**LINE, "question_id": "b", "label": "no", "other": 3}])
    text = LINE["text"]
    assert read_questions(path) == [PopeQuestion("1", "a.jpg", text, True), PopeQuestion("b", "a.jpg", text, False)]
    assert [question.id for question in read_questions(path, "popular")] == ["popular/1", "popular/b"]
    assert {question.split for question in read_questions(str(path), "popular")} == {"popular"}


def test_answers_are_read_from_either_key(tmp_path):
    lines = [{"question_id": 2, "text": "Yes"}, {"question_id": 1, "text": "Is there a dog?", "answer": "No"}]
    assert read_answers(written(tmp_path, lines)) == {"2": "Yes", "1": "No"}


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        (
            {**LINE, "question_id": 7, "label": "maybe"},
            "the label must be 'yes' or 'no', in small letters, found 'maybe'",
        ),
        ({**LINE, "question_id": 7, "label": True}, "line 2: a text was expected as label, found True"),
        ({"question_id": 7, "image": "a.jpg", "label": "no"}, "line 2: a text was expected as text, found None"),
        ({**LINE, "question_id": 7, "image": 3}, "line 2: a text was expected as image, found 3"),
        ({**LINE, "question_id": None}, "line 2: a text or a whole number was expected as question_id, found None"),
        ({**LINE, "question_id": True}, "line 2: a text or a whole number was expected as question_id, found True"),
        (LINE, "line 2: question_id 1 occurs twice, first in line 1"),
        ({**LINE, "question_id": "1"}, "line 2: question_id 1 occurs twice, first in line 1"),
        ("not JSON", "line 2"),
        ("[1, 2]", "line 2"),
    ],
)
def test_faults_of_a_question_file_name_file_line_and_what_was_found(tmp_path, line, sentence):
    path = written(tmp_path, [LINE, line])
    with pytest.raises(EvaluationError) as caught:
        read_questions(path)
    assert str(path) in str(caught.value)
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ({"question_id": 1, "answer": "No"}, "line 2: question_id 1 occurs twice, first in line 1"),
        ({"question_id": 2, "answer": ["No"]}, r"line 2: a text was expected as answer, found \['No'\]"),
        ({"question_id": 2}, "line 2: a text was expected as text, found None"),
        ({"answer": "No"}, "line 2: a text or a whole number was expected as question_id"),
    ],
)
def test_faults_of_an_answer_file(tmp_path, line, sentence):
    with pytest.raises(EvaluationError, match=sentence):
        read_answers(written(tmp_path, [{"question_id": 1, "answer": "Yes"}, line]))


def test_an_empty_question_file_is_refused(tmp_path):
    with pytest.raises(EvaluationError, match="is empty"):
        read_questions(written(tmp_path, [""]))


# --- building ---------------------------------------------------------------------------------------------------------

NAMES = ["dog", "cat", "apple", "wine glass", "umbrella", "car", "cup"]
TRUTHS = st.dictionaries(
    st.text("abc0123", min_size=1, max_size=4), st.frozensets(st.sampled_from(NAMES)), min_size=1, max_size=12
)
FRIENDS = {  # dogs with balls, cats with cups
    **{str(i): {"dog", "ball"} for i in range(4)},
    **{str(i): {"cat", "cup"} for i in range(4, 7)},
    "leash": {"dog", "leash"},
    "a dog": {"dog"},
    "a cat": {"cat"},
    "both": {"dog", "cat"},
}


def asked(questions, image: str, label: bool) -> list[str]:
    """The objects of an image's questions; a question's id ends in its object."""
    return [one.id.split("/")[-1] for one in questions if one.image == image and one.label == label]


@pytest.mark.parametrize("split", SPLITS)
@settings(max_examples=60)
@given(truth=TRUTHS, per_side=st.integers(1, 4), seed=st.integers(0, 3))
def test_what_is_asked_is_true_balanced_and_asked_once(split, truth, per_side, seed):
    questions = build_questions(truth, split, per_side, seed)
    known = set().union(*truth.values())
    assert len({question.id for question in questions}) == len(questions)
    for one in questions:
        name = one.id.split("/")[-1]
        assert name in known
        assert one.label == (name in truth[one.image])
        assert (one.split, name in one.text) == (split, True)
    for image, there in truth.items():
        number = min(per_side, len(there), len(known - there))
        own = [one for one in questions if one.image == image]
        assert [one.label for one in own] == [True, False] * number


@pytest.mark.parametrize("split", SPLITS)
@settings(max_examples=40)
@given(truth=TRUTHS, shuffle=st.randoms(use_true_random=False))
def test_the_order_of_images_changes_nothing(split, truth, shuffle):
    images = list(truth)
    shuffle.shuffle(images)
    mixed = build_questions({image: sorted(truth[image]) for image in images}, split)
    assert set(mixed) == set(build_questions(truth, split))


@settings(max_examples=40)
@given(truth=TRUTHS)
def test_every_split_asks_about_the_same_objects_that_are_there(truth):
    yes = [[(q.image, q.text) for q in build_questions(truth, split) if q.label] for split in SPLITS]
    assert yes[0] == yes[1] == yes[2]


@settings(max_examples=40)
@given(truth=TRUTHS, number=st.integers(0, 12))
def test_the_first_images_are_asked_the_same_as_in_the_whole(truth, number):
    """By chance and among the same names, nothing depends on the other images."""
    some = dict(list(truth.items())[:number])
    whole = [one for one in build_questions(truth, "random", objects=NAMES) if one.image in some]
    assert build_questions(some, "random", objects=NAMES) == whole


def test_popular_asks_about_what_is_on_most_images():
    """Dogs are on 7 images, cats on 5, balls on 4, cups on 3, a leash on 1."""
    questions = build_questions(FRIENDS, "popular")
    assert asked(questions, "a dog", False) == ["cat"]
    assert asked(questions, "a cat", False) == ["dog"]
    assert asked(questions, "both", False) == ["ball", "cup"]
    assert set(asked(questions, "leash", False)) == {"cat", "ball"}


def test_adversarial_asks_about_what_most_often_stands_beside():
    """Cats are on more images than balls, but balls are beside dogs."""
    questions = build_questions(FRIENDS, "adversarial")
    assert asked(questions, "a dog", False) == ["ball"]
    assert asked(questions, "a cat", False) == ["cup"]
    pairs = dict(zip(asked(questions, "both", True), asked(questions, "both", False), strict=True))
    assert pairs == {"dog": "ball", "cat": "cup"}


def test_random_asks_about_all_that_is_not_there_equally_often():
    """2,000 draws of 10 names: 200 each, five standard deviations are 67."""
    names = [f"name {number}" for number in range(11)]
    questions = build_questions({str(i): {"name 0"} for i in range(2000)}, "random", objects=names)
    counts = Counter(question.text for question in questions if not question.label)
    assert len(counts) == 10
    assert all(abs(count - 200) < 67 for count in counts.values())


def test_which_objects_that_are_there_are_asked_about_is_chance_too():
    names = [f"name {number}" for number in range(12)]
    questions = build_questions({str(i): names[:6] for i in range(1000)}, "random", objects=names)
    counts = Counter(question.text for question in questions if question.label)
    assert all(abs(counts[f"Is there a {name} in the image?"] - 500) < 80 for name in names[:6])  # five deviations: 79


def test_seeds_give_different_questions_and_the_same_seed_the_same():
    assert build_questions(FRIENDS, "random", seed=1) == build_questions(FRIENDS, "random", seed=1)
    assert build_questions(FRIENDS, "random", seed=1) != build_questions(FRIENDS, "random", seed=2)


def test_a_seed_gives_the_same_questions_everywhere():
    """What a seed asks must not change with a version of Python or of this package, or figures would not compare."""
    questions = build_questions(FRIENDS, "random", seed=0)
    first = ["random/0/ball", "random/0/cup", "random/0/dog", "random/0/cat"]
    assert [question.id for question in questions[:4]] == first


def test_images_with_few_objects_are_asked_less_or_left_out_as_the_original_does():
    truth = {"one": {"dog"}, "three": {"dog", "cat", "cup"}, "five": set(NAMES[:5]), "none": set()}
    objects = [*NAMES, *"xyz"]
    everywhere = Counter(question.image for question in build_questions(truth, "random", objects=objects))
    assert everywhere == {"one": 2, "three": 6, "five": 6}
    strict = Counter(question.image for question in build_questions(truth, "random", objects=objects, least=3))
    assert strict == {"three": 6, "five": 6}


def test_an_image_that_holds_almost_everything_is_still_asked_as_many_of_each():
    truth = {"full": set(NAMES[:-1]), "other": {NAMES[-1]}}
    questions = [one for one in build_questions(truth, "popular") if one.image == "full"]
    assert [question.label for question in questions] == [True, False]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("dog", "Is there a dog in the image?"),
        ("orange", "Is there an orange in the image?"),
        ("wine glass", "Is there a wine glass in the image?"),
    ],
)
def test_the_wording_is_the_originals(name, text):
    assert build_questions({"1": {name}, "2": {"zebra"}}, "random")[0].text == text


def test_unknown_splits_are_refused():
    with pytest.raises(EvaluationError, match="random, popular, adversarial, found 'easy'"):
        build_questions(FRIENDS, "easy")


@pytest.mark.parametrize(("per_side", "least"), [(0, 1), (-3, 1), (2, 3), (3, 0)])
def test_numbers_that_nothing_can_satisfy_are_refused(per_side, least):
    with pytest.raises(EvaluationError, match=f"found least {least} and per_side {per_side}"):
        build_questions(FRIENDS, "random", per_side, least=least)


# --- the original's file and real ground truth ------------------------------------------------------------------------


@needs_data
def test_the_original_file():
    """3,000 questions about 500 pictures, half of them with yes, six a picture, yes and no in turn."""
    questions = read_questions(Path(DATA, "pope", "coco_pope_random.json"), "random")
    assert len({question.id for question in questions}) == len(questions) == 3000
    assert set(Counter(question.image for question in questions).values()) == {6}
    assert len({question.image for question in questions}) == 500
    assert [question.label for question in questions] == [True, False] * 1500
    assert questions[0].text == "Is there a snowboard in the image?"


@needs_data
def test_always_yes_on_the_original_file():
    questions = read_questions(Path(DATA, "pope", "coco_pope_random.json"))
    found = values(score_answers(questions, {question.id: "Yes" for question in questions}))
    expected = {"accuracy": 0.5, "precision": 0.5, "recall": 1, "f1": 2 / 3, "yes_ratio": 1}
    assert found == pytest.approx(expected)


@needs_data
def test_our_wording_is_that_of_the_original_file_but_for_its_slip():
    """For each object that it asks about; "an traffic light" is the original's own, beside "a traffic light"."""
    theirs = {question.text for question in read_questions(Path(DATA, "pope", "coco_pope_random.json"))}
    names = {text.split(" ", 3)[3].removesuffix(" in the image?") for text in theirs}
    ours = {build_questions({"1": {name}, "2": {"x"}}, "random")[0].text for name in names}
    assert theirs - ours == {"Is there an traffic light in the image?"}


@needs_data
@pytest.mark.parametrize("split", SPLITS)
def test_real_ground_truth_gives_the_counts_of_the_original(split):
    """500 COCO pictures with at least 3 objects, as the original takes them: 3,000 questions, 1,500 yes."""
    truth = json.loads(Path(DATA, "chair", "coco_val2014_objects_subset.json").read_text("utf-8"))
    rich = dict([(image, names) for image, names in truth.items() if len(names) >= 3][:500])
    questions = build_questions(rich, split, least=3)
    assert Counter(question.label for question in questions) == {True: 1500, False: 1500}
    assert set(Counter(question.image for question in questions).values()) == {6}


def test_the_questions_about_some_images_are_those_of_the_whole():
    """Frequencies are counted in all of the truth, whichever images are asked about."""
    truth = {str(n): {f"thing {n * k % 11}" for k in (1, 2, 3)} for n in range(1, 30) if n % 11}
    for split in SPLITS:
        whole = build_questions(truth, split)
        few = build_questions(truth, split, images=["7", "3"])
        assert few == [one for image in ("7", "3") for one in whole if one.image == image]
