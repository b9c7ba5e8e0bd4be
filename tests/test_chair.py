"""CHAIR: figures by hand, words and where they stand, and the original program's scores of 500 real captions."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minivlm.errors import EvaluationError
from minivlm.evaluation.chair import chair, judge, read_captions
from minivlm.evaluation.lexicon import OWN_LIST, Lexicon, Mention, coco_lexicon, read_list
from minivlm.evaluation.lines import read_json, read_lines
from minivlm.evaluation.truth import objects_file
from minivlm.stats import estimate, resamples

DATA = os.environ.get("MINIVLM_TEST_DATA")
needs_data = pytest.mark.skipif(not DATA, reason="MINIVLM_TEST_DATA is not set to the folder of test data")
OURS = coco_lexicon()
LIKE_ORIGINAL = [
    "person, woman, man, rider",
    "skis, ski",
    "chair, seat",
    "tie, bow tie",
    "vase",
    "bus",
    "toilet",
    "bear",
]
LIKE_ORIGINAL += ["teddy bear", "cake,  cheesecake", "orange", "parking meter"]


@pytest.fixture
def faithful(tmp_path) -> Lexicon:
    """A short list in the original's form, with its blank too many before cheesecake."""
    return Lexicon.from_file(written(tmp_path, LIKE_ORIGINAL, "words.txt"))


def written(folder: Path, lines: list, name: str = "file.jsonl") -> Path:
    path = folder / name
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines), "utf-8")
    return path


def named(text: str, lexicon: Lexicon = OURS) -> list[tuple[str, str]]:
    """Each object with the characters of the caption that name it."""
    return [(mention.object, text[mention.start : mention.stop]) for mention in lexicon.mentions(text)]


def objects(text: str, lexicon: Lexicon = OURS) -> list[str]:
    return [mention.object for mention in lexicon.mentions(text)]


# --- the original program ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def original() -> tuple[dict, list, list]:
    """What the original gives, its list of objects for each caption, and what we make of the same captions."""
    folder = Path(DATA) / "chair"
    scores = json.loads((folder / "original_scores_greedy.json").read_text("utf-8"))
    lexicon = Lexicon.from_file(folder / "synonyms.txt")
    captions = read_captions(folder / "llava15_greedy_captions.jsonl")
    truth = objects_file(folder / "coco_val2014_objects_subset.json", lexicon)
    ids = [str(one["image_id"]) for one in scores["captions"]]
    judged = [judge(captions[image], truth[image], lexicon) for image in ids]
    return scores["overall"], scores["captions"], judged


@needs_data
def test_scores_are_those_of_the_original(original):
    """To 0.3 points, for its tagger is not here; measured are 0.02 and less."""
    overall, _, judged = original
    figures = chair(judged)
    for ours, theirs in {"chair_s": "CHAIRs", "chair_i": "CHAIRi", "recall": "Recall"}.items():
        assert float(figures[ours].value) == pytest.approx(overall[theirs], abs=0.003), ours


@needs_data
def test_objects_of_captions_are_those_of_the_original(original):
    """At least 99 of 100. In the rest its tagger takes umbrellas, or snowboarding, for a verb where we do not."""
    _, captions, judged = original
    same = [[m.object for m in one.mentions] == theirs["objects"] for one, theirs in zip(judged, captions, strict=True)]
    assert len(same) == 500
    assert np.mean(same) >= 0.99


@needs_data
def test_invented_objects_and_recall_of_captions_are_those_of_the_original(original):
    """Wherever the objects are the same, what follows from them is the same exactly."""
    _, captions, judged = original
    for one, theirs in zip(judged, captions, strict=True):
        if [mention.object for mention in one.mentions] == theirs["objects"]:
            assert list(one.hallucinated) == theirs["hallucinated"]
            assert len(one.found) / len(one.truth) == pytest.approx(theirs["recall"], abs=1e-12)


@needs_data
def test_our_own_words_score_close_to_the_originals():
    """Other words, other scores: within 2 points on these captions, so that ours stands for the same measure."""
    folder = Path(DATA) / "chair"
    captions = read_captions(folder / "llava15_greedy_captions.jsonl")
    truth = objects_file(folder / "coco_val2014_objects_subset.json", OURS)
    figures = chair([judge(text, truth[image], OURS) for image, text in captions.items()])
    assert float(figures["chair_s"].value) == pytest.approx(0.45, abs=0.02)
    assert float(figures["chair_i"].value) == pytest.approx(0.127, abs=0.02)
    assert float(figures["recall"].value) == pytest.approx(0.804, abs=0.02)


@needs_data
def test_our_own_list_names_the_objects_of_coco():
    theirs = Lexicon.from_file(Path(DATA) / "chair" / "synonyms.txt").objects
    assert set(OURS.objects) == set(theirs)


# --- figures ----------------------------------------------------------------------------------------------------------


def test_every_figure_by_hand():
    """Dog, cat and dog where a dog and a bed are; bus and bus where a car is; and nothing where a car is."""
    truths = [{"dog", "bed"}, {"car"}, {"car"}]
    texts = ["A dog, a cat, and the dog again.", "The bus is a bus.", "Nothing to see here."]
    figures = chair([judge(text, truth, OURS) for text, truth in zip(texts, truths, strict=True)])
    expected = {
        "chair_s": 2 / 3,
        "chair_i": 3 / 5,  # the bus counts twice
        "recall": 1 / 4,  # dog, of dog, bed, car and car
        "precision": 1 / 3,  # of dog, cat and bus
        "f1": 2 / (4 + 3),
        "words": (8 + 5 + 4) / 3,
    }
    assert {name: float(ratio.value) for name, ratio in figures.items()} == pytest.approx(expected, abs=1e-15)
    assert figures["chair_i"].part.tolist() == [1, 2, 0]  # per image and in order, for the bootstrap
    assert float(estimate(figures["chair_i"], resamples(3)).low) <= 3 / 5


def test_what_a_caption_says_one_by_one():
    judged = judge("A cat and a dog on a couch. The cat sleeps.", ["dog", "couch", "tv", "book"], OURS)
    assert [mention.object for mention in judged.mentions] == ["cat", "dog", "couch", "cat"]
    assert judged.invented == (True, False, False, True)
    assert judged.hallucinated == ("cat", "cat")
    assert judged.found == {"dog", "couch"}
    assert judged.missed == ("book", "tv")


@pytest.mark.parametrize(("text", "truth"), [("", []), ("", ["dog"]), ("Sky.", []), ("A dog.", []), (" \n", [])])
def test_nothing_said_and_nothing_there_have_figures(text, truth):
    figures = chair([judge(text, truth, OURS)])
    assert all(np.isfinite(ratio.value) for ratio in figures.values())
    assert float(figures["chair_s"].value) == float("dog" in text)


def test_no_captions_are_refused():
    with pytest.raises(EvaluationError, match="at least one caption"):
        chair([])


# --- words ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Two men, three women and their children", ["person"] * 3),
        ("geese, mice, oxen and calves", ["bird", "mouse", "cow", "cow"]),
        ("knives, benches, buses, couches", ["knife", "bench", "bus", "couch"]),
        ("sheep, scissors, skis", ["sheep", "scissors", "skis"]),
        ("TVs and laptops", ["tv", "laptop"]),
        ("several vases", ["vase"]),
        ("wine glasses", ["wine glass"]),
        ("busses", ["bus"]),
        ("his glasses", []),
    ],
)
def test_plurals(text, expected):
    assert objects(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a hot dog", ["hot dog"]),
        ("a hot, tired dog", ["dog"]),
        ("a toilet seat", ["toilet"]),
        ("a baby elephant", ["elephant"]),
        ("an adult giraffe and a baby", ["giraffe", "person"]),
        ("a passenger train and a passenger jet", ["train", "airplane"]),
        ("a bow tie", ["tie"]),
        ("train tracks behind home plate", []),
        ("a teddy bear beside a bear", ["teddy bear", "bear"]),
        ("a fire hydrant by the stop sign", ["fire hydrant", "stop sign"]),
        ("a baseball bat", ["baseball bat"]),
        ("cell phones", ["cell phone"]),
    ],
)
def test_two_words_are_one_object(text, expected):
    assert objects(text) == expected


MARKED = [
    ("a cat/dog", ["cat", "dog"]),
    ("cats/dogs, a fire hydrant/bench", ["cat", "dog", "fire hydrant", "bench"]),
    ("a _bus_ and __dog__", ["bus", "dog"]),
    ("a traffic_light, hot_dogs", ["traffic light", "hot dog"]),
    ("_traffic light_", ["traffic light"]),
    ("a *dog*, **cat**", ["dog", "cat"]),
]


@pytest.mark.parametrize(("text", "expected"), MARKED)
def test_strokes_and_underscores_hide_no_object(text, expected):
    assert objects(text) == expected
    for mention in OURS.mentions(text):
        assert text[mention.start : mention.stop].replace("_", " ").rstrip("s") == mention.object.rstrip("s")


@needs_data
@pytest.mark.parametrize(("text", "expected"), [(text, []) for text, _ in MARKED[:1] + MARKED[2:4]])
def test_to_the_original_they_do(text, expected):
    assert objects(text, Lexicon.from_file(Path(DATA) / "chair" / "synonyms.txt")) == expected


@needs_data
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A baby elephant and an adult bear", ["elephant", "bear"]),
        ("a baby, and a baby cub", ["person"]),
        ("passenger trains, a passenger jet, a passenger", ["train", "airplane", "person"]),
        ("a toilet with its seat up, on train tracks", ["toilet"]),
        ("hot dogs at home plate", ["hot dog"]),
        ("two bow ties and a bow", ["tie", "tie"]),
        ("cheesecake by stove top oven", ["oven", "oven"]),  # the one never found, the other of three words
        ("women and men by vases", ["person"]),
        ("geese, mice, oxen, calves, knives", ["bird", "mouse", "cow", "cow", "knife"]),
    ],
)
def test_rules_hold_with_the_originals_list(text, expected):
    assert objects(text, Lexicon.from_file(Path(DATA) / "chair" / "synonyms.txt")) == expected


def test_the_seat_of_a_toilet_is_no_chair(faithful):
    assert objects("The seat of the toilet is up.", faithful) == ["toilet"]
    assert objects("The seat of the bus is free.", faithful) == ["chair", "bus"]


@pytest.mark.parametrize(
    "text",
    [
        "a couple of cups",
        "the remote-looking sky",
        "a bird's-eye view",
        "a ski slope",
        "an orange shirt",
        "painted orange and red",
    ],
)
def test_our_own_words_avoid_what_mostly_means_something_else(text):
    assert set(objects(text)) <= {"cup"}


def test_an_orange_is_a_fruit():
    for text in ("an orange.", "an orange", "Is there an orange?", "the orange is ripe", "two oranges"):
        assert objects(text) == ["orange"], text


def test_verbs_name_objects_only_to_the_original(faithful):
    for text, found in {
        "people skiing down a slope": ["skis"],
        "a skiing trip": [],
        "she is seated on it": ["chair"],
        "the boat is tied to the dock": ["tie"],
    }.items():
        assert [name for name in objects(text, faithful) if name != "person"] == found
        assert set(objects(text)) <= {"person", "boat"}


def test_slips_of_the_original_are_made_with_its_list_alone(faithful):
    text = "Men, vases, cheesecake, and a teddy-bear"
    assert objects(text, faithful) == []
    assert objects(text) == ["person", "vase", "cake", "teddy bear"]


IRREGULAR = {"mouse": "mice", "goose": "geese", "knife": "knives", "calf": "calves", "ox": "oxen", "child": "children"}
WITHOUT = {
    "sheep",
    "people",
    "cattle",
    "bison",
    "luggage",
    "baggage",
    "broccoli",
    "aircraft",
    "skis",
    "scissors",
    "shears",
}


def plural(word: str) -> str:
    """By the rules of English, with the irregular plurals that our list has."""
    before, blank, last = word.rpartition(" ")
    if last in WITHOUT:
        return word
    if last.endswith("man") and last != "human":
        return f"{before}{blank}{last[:-3]}men"
    for one, many in IRREGULAR.items():
        if last.endswith(one):
            return f"{before}{blank}{last.removesuffix(one)}{many}"
    if last.endswith("y") and last[-2] not in "aeiou":
        return f"{word[:-1]}ies"
    return word + ("es" if last.endswith(("s", "x", "ch", "sh")) else "s")


@pytest.mark.parametrize("spelled", [str.lower, str.upper, str.title])
def test_every_word_of_our_list_is_found_in_its_plural(spelled):
    """None may be lost because the dictionary of lemmas lacks it."""
    assert len(OURS.names) > 300
    lost = []
    for word, name in OURS.names.items():
        text = f"Two {spelled(plural(word))}, and two more."
        if named(text) != [(name, spelled(plural(word)))]:
            lost.append(text)
    assert not lost


def test_no_word_of_our_list_means_two_objects():
    lines = Path(OWN_LIST).read_text("utf-8").splitlines()
    listed = [word.strip() for line in lines if not line.startswith("#") for word in line.split(",")]
    assert len(listed) == len(set(listed)) == len(OURS.names)
    assert max(len(word.split()) for word in listed) == 2  # longer ones would never be found


# --- where they stand -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Two girls share a hot dog.", [("person", "girls"), ("hot dog", "hot dog")]),
        ("HOT\n  DOGS!", [("hot dog", "HOT\n  DOGS")]),
        ("A teddy-bear", [("teddy bear", "teddy-bear")]),
        ("the dog's bowl, the dog’s cup", [("dog", "dog"), ("bowl", "bowl"), ("dog", "dog"), ("cup", "cup")]),
        ("İstanbul: ein Café, 猫, 🐕 cat", [("cat", "cat")]),  # İ is two characters in small letters
        ("(cat)/[dog]", [("cat", "cat"), ("dog", "dog")]),
        ("cat\r\n\tdog", [("cat", "cat"), ("dog", "dog")]),
    ],
)
def test_mentions_stand_where_the_caption_has_them(text, expected):
    assert named(text) == expected


def test_mentions_are_counted_in_characters():
    assert OURS.mentions("Two girls share a hot dog.") == (Mention("person", 4, 9), Mention("hot dog", 18, 25))


PIECES = st.sampled_from(
    ["hot", "dog", "dogs", "toilet", "seat", "baby", "bear", "Teddy", "-", ".", "\n", " ", "'s", "İ", "é"]
)


@settings(max_examples=300, deadline=None)
@given(
    st.one_of(
        st.text(max_size=80), st.lists(PIECES, max_size=20).map(" ".join), st.lists(PIECES, max_size=20).map("".join)
    )
)
def test_any_text_can_be_judged_and_mentions_do_not_overlap(text):
    judged = judge(text, {"dog"}, OURS)
    ends = [place for mention in judged.mentions for place in (mention.start, mention.stop)]
    assert ends == sorted(ends)
    assert all(0 <= mention.start < mention.stop <= len(text) for mention in judged.mentions)
    assert judged.invented == tuple(mention.object != "dog" for mention in judged.mentions)
    assert judged.hallucinated == tuple(
        m.object for m, not_there in zip(judged.mentions, judged.invented, strict=True) if not_there
    )
    assert set(judged.found) | set(judged.missed) == {"dog"}


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from(OURS.objects), max_size=6))
def test_every_object_is_found_by_its_own_name(names):
    assert objects(". ".join(names)) == names


# --- files ------------------------------------------------------------------------------------------------------------


def test_a_fingerprint_knows_words_and_rules(tmp_path, faithful):
    again = Lexicon.from_file(written(tmp_path, LIKE_ORIGINAL[::-1], "backwards.txt"))
    assert again.fingerprint == faithful.fingerprint  # neither the file's name nor its order decides
    without = [{word: name for word, name in faithful.names.items() if word != left_out} for left_out in faithful.names]
    renamed = [faithful.names | {word: "thing"} for word in faithful.names]
    others = [Lexicon("", names, faithful=True) for names in without + renamed] + [Lexicon("", faithful.names)]
    assert len({lexicon.fingerprint for lexicon in [faithful, *others]}) == 2 * len(faithful.names) + 2


@pytest.mark.parametrize(
    ("lines", "told"), [([], "empty"), (["# only a remark"], "empty"), (["cat", "dog,,pup"], "line 2")]
)
def test_a_word_list_that_is_none_is_refused(tmp_path, lines, told):
    with pytest.raises(EvaluationError, match=told):
        read_list(written(tmp_path, lines, "words.txt"))


def test_a_word_list_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(EvaluationError, match=r"nowhere\.txt"):
        Lexicon.from_file(tmp_path / "nowhere.txt")
    with pytest.raises(EvaluationError, match="could not be read"):
        Lexicon.from_file(tmp_path)


def test_a_word_list_as_editors_save_it(tmp_path):
    """A byte order mark, blanks before commas, other ends of lines, capitals; two blanks stay, as in the original's."""
    path = tmp_path / "words.txt"
    path.write_bytes("\ufeffcat , kitten,Tabby\r\n\r\n# dogs\r\ndog,  pup \r\n".encode())
    assert read_list(path) == {"cat": "cat", "kitten": "cat", "tabby": "cat", "dog": "dog", " pup": "dog"}


def test_captions_from_lines_and_from_a_list(tmp_path):
    lines = [{"image_id": 42, "caption": "A cat."}, {"image_id": "b", "caption": "Ünï"}]
    expected = {"42": "A cat.", "b": "Ünï"}
    assert read_captions(written(tmp_path, [lines[0], "", lines[1]])) == expected
    assert read_captions(written(tmp_path, [json.dumps(lines, indent=2)], "list.json")) == expected
    assert read_captions(written(tmp_path, [json.dumps(lines)], "list.jsonl")) == expected
    assert read_captions(written(tmp_path, lines, "lines.json")) == expected


def test_a_damaged_list_names_its_entry_or_the_line(tmp_path):
    """The line is that of the damage, though the list spans many."""
    good = '{"image_id": 1, "caption": "a"}'
    for text, told in [
        (f'[\n{good},\n{{"image_id": 2}}\n]', r"list\.json', entry 2: expected are image_id"),
        (f"[\n{good},\n{good}\n]", r"list\.json', entry 2: image 1 has a caption already"),
        (f"[\n{good},\n3\n]", r"list\.json', entry 2: a JSON object"),
        (f'[\n{good},\n{{"image_id" 2}}\n]', r"list\.json': this is no JSON.*line 3"),
        ("[]", "is empty"),
    ]:
        with pytest.raises(EvaluationError, match=told):
            read_captions(written(tmp_path, [text], "list.json"))


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ([], "empty"),
        ([{"image_id": 1, "caption": "a"}, {"image_id": "1", "caption": "b"}], "line 2.*already"),
        ([{"image_id": 1}], "line 1.*caption"),
        ([{"image_id": 1, "caption": None}], "line 1"),
        ([{"image_id": True, "caption": "a"}], "line 1"),
        ([{"image_id": 1, "caption": "a"}, "[1]"], "line 2: a JSON object"),
        (['{"image_id": 1, "cap'], "line 1: this is no JSON"),
        (['{"image_id": NaN, "caption": "a"}'], "line 1.*NaN"),
        (["[" * 100_000], "this JSON is not read: maximum recursion depth"),
        (['{"a": ' * 100_000], "line 1"),
        (['{"image_id": 1, "image_id": 2, "caption": "a"}'], "line 1.*'image_id' stands twice"),
    ],
)
def test_captions_that_are_none_are_refused(tmp_path, lines, told):
    with pytest.raises(EvaluationError, match=told):
        read_captions(written(tmp_path, lines))


def test_files_that_are_no_json_are_refused(tmp_path):
    pickled, latin = tmp_path / "chair.json", tmp_path / "latin.json"
    pickled.write_bytes(b"\x80\x04N.")
    latin.write_bytes(b'{"a": "\xe9"}')
    for path, told in [
        (pickled, "pickle"),
        (tmp_path / "chair.pkl", "not there"),
        (latin, "UTF-8"),
        (tmp_path, "no file"),
    ]:
        with pytest.raises(EvaluationError, match=told):
            read_json(path)
        with pytest.raises(EvaluationError, match=told):
            list(read_lines(path))
        with pytest.raises(EvaluationError, match=told):
            read_captions(path)


def test_a_byte_order_mark_is_passed_over(tmp_path):
    path = tmp_path / "marked.json"
    path.write_bytes(b'\xef\xbb\xbf{"a": 1}')
    assert read_json(path) == {"a": 1}
    assert list(read_lines(path)) == [(1, {"a": 1})]
