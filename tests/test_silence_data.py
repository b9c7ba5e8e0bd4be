"""Nothing is ignored in silence that a data file or a command line says: it is used, refused, or said in a sentence.

What a wrong reading would have counted stands beside each case. For checkpoints, see test_silence.py.
"""

import json
import re
import struct
import warnings
import zlib
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from minivlm.cli import arguments
from minivlm.cli import main as cli
from minivlm.cli.evaluate import retyped_run
from minivlm.cli.options import read_objects
from minivlm.errors import EvaluationError, ImageError
from minivlm.evaluation.chair import read_captions
from minivlm.evaluation.datasets import open_dataset
from minivlm.evaluation.ids import bare
from minivlm.evaluation.items import pope_items
from minivlm.evaluation.lexicon import Lexicon, coco_lexicon, read_list
from minivlm.evaluation.listing import questions_of
from minivlm.evaluation.pope import read_questions
from minivlm.evaluation.settings import UsageError
from minivlm.evaluation.truth import coco_objects, objects_file
from minivlm.inputs.image import load_image

DOG = "Is there a dog in the image?"


def write_lines(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def write_pictures(folder, *names):
    for name in names:
        Image.new("RGB", (8, 8)).save(folder / name)


def question(number, image, label, text=DOG):
    return {"question_id": number, "image": image, "text": text, "label": label}


def ends(words, capsys) -> tuple[int, str]:
    """The exit code of a command and its stderr."""
    try:
        code = cli.main([str(word) for word in words])
    except SystemExit as end:
        code = end.code
    return code, capsys.readouterr().err


# --- one picture under two spellings ----------------------------------------------------------------------------------


@pytest.mark.parametrize("ids", [(1, "001"), ("1", "01"), ("0", "000"), ("0139", "00139")])
def test_two_captions_of_one_image_are_refused(tmp_path, ids):
    lines = [{"image_id": image, "caption": "A cat."} for image in ids]
    with pytest.raises(EvaluationError, match="are one image"):
        read_captions(write_lines(tmp_path / "captions.jsonl", *lines))


def test_objects_of_one_image_under_two_ids_are_refused(tmp_path):
    (tmp_path / "truth.json").write_text('{"1": ["cat"], "001": ["dog"]}')
    with pytest.raises(EvaluationError, match="'1' and '001' are one image"):
        objects_file(tmp_path / "truth.json", coco_lexicon())


@pytest.mark.parametrize(("said", "known"), [("001", "1"), (1, "001"), ("000", "0"), ("01", "001")])
def test_captions_find_their_objects_by_any_spelling_of_the_id(tmp_path, said, known, capsys):
    write_lines(tmp_path / "captions.jsonl", {"image_id": said, "caption": "A cat and a dog."})
    (tmp_path / "truth.json").write_text(json.dumps({known: ["cat"]}))
    words = ["evaluate", "score", "chair", tmp_path / "captions.jsonl", "--truth", tmp_path / "truth.json", "--json"]
    assert cli.main([*map(str, words)]) == 0
    assert json.loads(capsys.readouterr().out)["chair_i"] == 0.5


def test_zeros_before_a_file_name_are_part_of_it(tmp_path):
    assert [bare(name) for name in ("007", "0", "000", "007.jpg", "0a", "٠7")] == ["7", "0", "0", "007.jpg", "0a", "٠7"]
    write_pictures(tmp_path, "7.jpg")
    data = open_dataset(str(write_lines(tmp_path / "data.jsonl", {"image": "7.jpg", "objects": ["cat"]})))
    assert data.find("007.jpg") is None
    assert data.find("7.jpg") == "7.jpg"


def test_a_picture_is_one_however_its_path_is_spelled(tmp_path):
    lines = [{"image": name, "objects": ["cat"]} for name in ("0.jpg", "./0.jpg")]
    with pytest.raises(EvaluationError, match=r"line 2: the id '0.jpg' occurs twice"):
        open_dataset(str(write_lines(tmp_path / "data.jsonl", *lines)))
    write_pictures(tmp_path, "0.jpg")
    lines = [{"image": name, "objects": ["cat"], "id": name} for name in ("0.jpg", ".//0.jpg")]
    with pytest.warns(UserWarning, match=r"its picture '0.jpg' is that of line 1"):
        open_dataset(str(write_lines(tmp_path / "data.jsonl", *lines)))


def test_questions_name_a_picture_by_any_spelling(tmp_path):
    write_pictures(tmp_path, "0.jpg")
    lines = [question(1, "0.jpg", "yes"), question(2, "./0.jpg", "no", "Is there a cat in the image?")]
    path = write_lines(tmp_path / "questions.jsonl", *lines)
    assert {one.image for one in read_questions(path)} == {"0.jpg"}
    data = open_dataset(str(path))
    assert data.images == ("0.jpg",)
    assert [item.image for item in pope_items(data)] == ["0.jpg"] * 2


# --- COCO -------------------------------------------------------------------------------------------------------------


def write_coco(folder, *, images=(1, 2), annotated=(1, 2), described=(1, 2), categories=((17, "cat"), (18, "dog"))):
    """COCO's folder: a cat in each annotated image, a dog in each caption; `images`: ids, or pairs of id and file."""
    (folder / "annotations").mkdir()
    (folder / "val").mkdir()
    pairs = [image if isinstance(image, tuple) else (image, f"{image}.jpg") for image in images]
    write_pictures(folder / "val", *{name for _, name in pairs})
    instances = {
        "images": [{"id": number, "file_name": name} for number, name in pairs],
        "annotations": [{"image_id": image, "category_id": 17} for image in annotated],
        "categories": [{"id": number, "name": name} for number, name in categories],
    }
    told = {"annotations": [{"image_id": image, "caption": "A dog."} for image in described]}
    (folder / "annotations" / "instances_val.json").write_text(json.dumps(instances))
    (folder / "annotations" / "captions_val.json").write_text(json.dumps(told))
    return f"coco:{folder}"


def test_an_id_of_two_categories_is_refused(tmp_path):
    spec = write_coco(tmp_path, categories=((17, "cat"), (17, "dog")))
    with pytest.raises(EvaluationError, match="id 17 is that of two categories, 'cat' and 'dog'"):
        open_dataset(spec)


@pytest.mark.filterwarnings("error")
def test_a_category_that_is_written_twice_alike_is_one(tmp_path):
    spec = write_coco(tmp_path, categories=((17, "cat"), (17, "cat")))
    assert open_dataset(spec).truth == {"1": {"cat", "dog"}, "2": {"cat", "dog"}}


def test_two_images_with_one_picture_are_refused(tmp_path):
    with pytest.raises(EvaluationError, match="images 1 and 2 have the same picture, 'a.jpg'"):
        open_dataset(write_coco(tmp_path, images=((1, "a.jpg"), (2, "./a.jpg"))))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"annotated": (1, 2, 3, 4, 4)}, "instances_val.json' has objects of 2 images that are not in the list"),
        ({"described": (1, 2, 7)}, "captions_val.json' has objects of 1 images that are not in the list"),
        ({"described": (1,)}, "captions_val.json' has no caption of 1 of 2 images, such as 2"),
    ],
)
def test_annotations_that_fit_no_image_and_images_without_a_caption_are_said(tmp_path, given, said):
    with pytest.warns(UserWarning, match=said):
        data = open_dataset(write_coco(tmp_path, **given))
    assert set(data.truth) == {"1", "2"}
    assert data.truth["1"] == {"cat", "dog"}


@pytest.mark.filterwarnings("error")
def test_a_folder_whose_files_fit_together_is_read_without_a_word(tmp_path):
    open_dataset(write_coco(tmp_path, annotated=(1,)))
    instances = tmp_path / "annotations" / "instances_val.json"
    assert coco_objects(instances, None, coco_lexicon()) == {"1": {"cat"}}


# --- questions --------------------------------------------------------------------------------------------------------


def test_one_question_with_two_labels_is_said(tmp_path):
    path = write_lines(tmp_path / "q.jsonl", question(1, "0.jpg", "yes"), question(2, "./0.jpg", "no"))
    with pytest.warns(UserWarning, match=r"1 of 2 questions are asked a second time with the other label.*1 and 2"):
        assert [one.label for one in read_questions(path)] == [True, False]


def test_one_question_twice_counts_twice_and_is_said(tmp_path):
    path = write_lines(tmp_path / "q.jsonl", question(1, "0.jpg", "yes"), question(2, "0.jpg", "yes"))
    with pytest.warns(UserWarning, match=r"1 of 2 questions are asked a second time.*: they count twice"):
        assert len(read_questions(path)) == 2


def test_labels_of_two_files_that_differ_are_said_and_equal_ones_are_not(tmp_path):
    paths = [
        write_lines(tmp_path / f"coco_pope_{split}.json", question(1, "0.jpg", label))
        for split, label in (("random", "yes"), ("popular", "yes"), ("adversarial", "no"))
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        questions_of(paths[:2])
    with pytest.warns(UserWarning, match="random/1 and adversarial/1"):
        questions_of(paths)


def listing(folder, *objects):
    """Data in one file: pictures 0.jpg, 1.jpg, … with these objects."""
    write_pictures(folder, *(f"{number}.jpg" for number in range(len(objects))))
    rows = [{"image": f"{number}.jpg", "objects": own} for number, own in enumerate(objects)]
    return str(write_lines(folder / "data.jsonl", *rows))


def test_labels_that_the_objects_contradict_are_said_and_count(tmp_path):
    data = listing(tmp_path, ["cat", "dog"], ["cat"])
    asked = [question(1, "0.jpg", "no"), question(2, "1.jpg", "no"), question(3, "1.jpg", "yes", "Is there a cat?")]
    path = write_lines(tmp_path / "q.jsonl", *asked)
    with pytest.warns(UserWarning, match=r"1 of 3 labels are not what the objects of data.jsonl say.*image 0.jpg"):
        found = open_dataset(data, questions=[path])
    assert [item.label for item in pope_items(found)] == [False, False, True]


@pytest.mark.filterwarnings("error")
def test_labels_that_the_objects_confirm_are_not_said(tmp_path):
    path = write_lines(tmp_path / "q.jsonl", question(1, "0.jpg", "yes"), question(2, "1.jpg", "no"))
    open_dataset(listing(tmp_path, ["dog"], []), questions=[path])


@pytest.mark.filterwarnings("error")
def test_popes_labels_are_compared_with_cocos_instances_alone(tmp_path):
    """Captions name a dog that nobody outlined: to the original, no is the true answer."""
    path = write_lines(tmp_path / "q.jsonl", question(1, "1.jpg", "no"))
    data = open_dataset(write_coco(tmp_path), questions=[path])
    assert "dog" in data.truth["1"]


def test_questions_of_the_data_that_others_replace_are_said(tmp_path):
    write_pictures(tmp_path, "0.jpg")
    own = write_lines(tmp_path / "own.jsonl", question(1, "0.jpg", "yes"))
    other = write_lines(
        tmp_path / "other.jsonl", question(1, "0.jpg", "no"), question(2, "0.jpg", "no", "Is it a cat?")
    )
    with pytest.warns(UserWarning, match="itself are not asked|are not what") as told:
        open_dataset(str(own), questions=[other])
    sentences = [str(one.message) for one in told]
    assert any("The questions of own.jsonl itself are not asked" in sentence for sentence in sentences)
    assert any("1 of 2 labels are not what the objects" in sentence for sentence in sentences)


def test_a_limit_beyond_the_data_is_said(tmp_path):
    data = open_dataset(listing(tmp_path, ["dog"], []))
    with pytest.warns(UserWarning, match="data.jsonl has 2 images, fewer than the limit of 3"):
        assert len(data.limited(3).images) == 2


# --- word lists -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("cat, kitten\ndog, puppy, kitten\n", "line 2: 'kitten' is a word for 'dog' and, further up, for 'cat'"),
        ("cat, kitten\nCat, puss\n", "'Cat' is a word for 'Cat'"),
        ("cat; kitten\n", "with commas between them"),
        ("cat\tkitten\n", "with commas between them"),
        ("cat|kitten\n", "with commas between them"),
    ],
)
def test_words_that_would_be_read_otherwise_than_written_are_refused(tmp_path, text, said):
    (tmp_path / "words.txt").write_text(text)
    with pytest.raises(EvaluationError, match=said):
        read_list(tmp_path / "words.txt")


@pytest.mark.filterwarnings("error")
def test_a_word_twice_for_one_object_is_no_fault(tmp_path):
    (tmp_path / "words.txt").write_text("cat, kitten, kitten\ncat, puss\ndog\n")
    assert Lexicon.from_file(tmp_path / "words.txt").names == {
        "cat": "cat",
        "kitten": "cat",
        "puss": "cat",
        "dog": "dog",
    }


@pytest.mark.parametrize("word", ["stuffed toy animal", "teddy:", "(teddy)", "teddy  bear", " teddy"])
def test_words_that_no_caption_can_name_are_said(tmp_path, word):
    (tmp_path / "words.txt").write_text(f"plush, {word}\n")
    with pytest.warns(UserWarning, match=rf"1 of 2 words do not name their object.*{re.escape(repr(word))}"):
        lexicon = Lexicon.from_file(tmp_path / "words.txt")
    assert not lexicon.finds(f"A {word} lies there.", "plush")


# --- options ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        "ask a.png Q --eah layer=2 --eah layer=5",
        "ask a.png Q --seed 1 --see 2",
        "ask a.png Q --model a --model=b",
        "chat --temperature 1 --temperature 1",
        "demo --seed 1 --seed 2",
        "explore a.png Q --out a --out b",
        "train --out a --out b",
        "bench --rows load --rows none",
        "evaluate chair --data a --data b --out r",
        "evaluate score chair c --truth t --truth u",
        "course grade a --seed s --seed t --out o",
        "make-random a --dtype float32 --dtype bfloat16",
    ],
)
def test_an_option_that_is_typed_twice_is_refused(words, capsys):
    code, err = ends(words.split(), capsys)
    assert code == 2
    assert "was typed twice" in err


def test_options_that_gather_may_be_repeated():
    typed = cli.make_parser().parse_args(
        ["ask", "a.png", "Q", "--stop", "x", "--stop", "y", "--also", "b", "--also", "c", "--json", "--json"]
    )
    assert (typed.stop, typed.also, typed.json) == (["x", "y"], ["b", "c"], True)


@pytest.mark.parametrize(
    "words",
    [
        ["ask", "a.png", "Q", "--model", ""],
        ["evaluate", "chair", "--data", "scenes:0", "--out", "r", "--ids", ""],
        ["evaluate", "pope", "--data", "scenes:0", "--out", "r", "--questions="],
        ["evaluate", "chair", "--data", "scenes:0", "--out", "r", "--question", ""],
        ["train", "--out", ""],
        ["course", "check", "--only", " "],
    ],
)
def test_an_empty_value_is_not_taken_for_an_option_that_was_not_typed(words, capsys):
    code, err = ends(words, capsys)
    assert code == 2
    assert "expected a" in err


@pytest.mark.parametrize("given", ["--questions", "--data"])
def test_splits_beside_a_question_file_are_refused(tmp_path, capsys, given):
    write_pictures(tmp_path, "0.jpg")
    path = write_lines(tmp_path / "q.jsonl", question(1, "0.jpg", "yes"))
    data = ["--data", listing(tmp_path, ["dog"]), "--questions", path] if given == "--questions" else ["--data", path]
    code, err = ends(["evaluate", "pope", *data, "--out", tmp_path / "run", "--split", "random"], capsys)
    assert code == 2
    assert "--split is of questions that are made anew" in err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("ask a.png Q --seed 3", "--seed has no effect"),
        ("ask a.png Q --seed 3 --temperature 0", "--seed has no effect"),
        ("explore a.png Q --compare", "unrecognized arguments: --compare"),
        ("bench --rows load --pictures 3", "--pictures are those of the row evaluation"),
        ("bench --rows none,load", "--rows takes"),
        ("train tiny --strength 0.5", "--strength is that of a drift"),
    ],
)
def test_options_without_effect_are_said(words, said, capsys):
    assert said in ends(words.split(), capsys)[1]


def test_a_seed_that_is_drawn_with_is_not_said(capsys):
    assert "no effect" not in ends(["ask", "a.png", "Q", "--seed", "3", "--temperature", "0.5"], capsys)[1]


@pytest.mark.weights
def test_a_cut_without_effect_is_said_once(tmp_path, capsys):
    write_pictures(tmp_path, "a.png")
    words = ["ask", tmp_path / "a.png", "What?", "--top-k", "3", "--seed", "3", "--max-new-tokens", "1"]
    code, err = ends([*words, "--device", "cpu"], capsys)
    assert code == 0
    assert err.count("top_k and top_p are not used") == err.count("--seed has no effect") == 1


@pytest.mark.weights
def test_a_run_that_was_not_begun_is_not_gone_on_with_in_silence(tmp_path, capsys):
    words = ["evaluate", "chair", "--data", "scenes:0", "--limit", "1", "--max-new-tokens", "2", "--device", "cpu"]
    sentence = "that --resume could go on with: a new one begins"
    assert sentence in ends([*words, "--out", tmp_path / "run", "--resume"], capsys)[1]
    assert sentence not in ends([*words, "--out", tmp_path / "run", "--resume"], capsys)[1]


@pytest.mark.parametrize("box", ["40:0:50:10", "0:40:10:50", "-9:0:0:9"])
def test_a_box_outside_of_the_picture_is_refused(box):
    with pytest.raises(UsageError, match="outside of the picture, which is 40 wide and 40 high"):
        read_objects(f"dog={box}", coco_lexicon(), (40, 40))
    assert read_objects("dog=39:39:50:50", coco_lexicon(), (40, 40)).boxes == {"dog": [(39, 39, 50, 50)]}


@pytest.mark.parametrize("missing", [0, 2])
def test_images_without_a_caption_are_counted(tmp_path, capsys, missing):
    write_lines(tmp_path / "captions.jsonl", {"image_id": 0, "caption": "A cat."})
    (tmp_path / "truth.json").write_text(json.dumps({str(image): ["cat"] for image in range(1 + missing)}))
    words = ["evaluate", "score", "chair", tmp_path / "captions.jsonl", "--truth", tmp_path / "truth.json", "--json"]
    assert cli.main([*map(str, words)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["recall"], found.get("images without a caption", 0)) == (1, missing)


def test_a_command_that_is_typed_again_has_all_that_decides_its_figures():
    words = "evaluate all --data scenes:0 --out r --stop x --stop y --weights int8 --split random"
    request = arguments.request(cli.make_parser().parse_args(words.split()))
    assert retyped_run(request) == " --data scenes:0 --split random --method plain --stop x --stop y --weights int8"


# --- paths ------------------------------------------------------------------------------------------------------------

NOBODY = "~nosuchuser/x"


@pytest.mark.parametrize(
    "words",
    [
        f"ask {NOBODY} Q",
        f"ask {NOBODY} Q --also a.png",
        f"chat {NOBODY}",
        f"demo --out {NOBODY}",
        f"explore a.png Q --out {NOBODY}",
        f"check {NOBODY}",
        f"make-random {NOBODY}",
        f"make-random new --like {NOBODY}",
        f"make-random new --tokenizer {NOBODY}",
        f"train --out {NOBODY}",
        f"exam --out {NOBODY}",
        f"bench --like {NOBODY}",
        f"bench --peers {NOBODY}",
        f"bench --plot {NOBODY}.png",
        f"evaluate chair --data scenes:0 --out {NOBODY}",
        f"evaluate chair --data {NOBODY} --out run",
        f"evaluate chair --data coco:{NOBODY} --out run",
        f"evaluate chair --data scenes:0 --ids {NOBODY} --out run",
        f"evaluate pope --data scenes:0 --questions {NOBODY} --out run",
        f"evaluate all --data scenes:0 --card {NOBODY} --out run",
        f"evaluate compare {NOBODY}",
        f"evaluate score chair {NOBODY} --truth t.json",
        f"evaluate score pope a.jsonl --questions {NOBODY}",
        f"course check {NOBODY}",
        f"course grade {NOBODY} --seed s --out out --assignment a1",
        f"course grade a --seed s --out {NOBODY} --assignment a1",
    ],
)
def test_the_folder_of_an_unknown_user_is_a_sentence_and_nothing_is_written(words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    code, err = ends(words.split(), capsys)
    assert code == 1
    assert "begins with '~nosuchuser', but this machine knows no such user." in err
    assert not list(tmp_path.iterdir())


def test_paths_begin_at_home_where_the_shell_leaves_them_alone(tmp_path, monkeypatch):
    """As in --out=~/run, or in a script."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    write_pictures(tmp_path, "a.png")
    assert load_image("~/a.png").size == (8, 8)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            "explore a.png Q --out nowhere/page.html",
            "/nowhere: there is no such folder. Make it",
        ),
        ("explore a.png Q --out .", "is no regular file, so no file can be written in its place"),
        ("demo --out a.png", "No file can be written in the folder 'a.png': it is a file"),
        ("train --out a.png/new", "No file can be written in the folder 'a.png/new'"),
        ("exam --out a.png", "No file can be written in the folder 'a.png': it is a file"),
        ("evaluate chair --data scenes:0 --limit 1 --out a.png", "'a.png' is no folder. Results need one of their own"),
        ("evaluate pope --data scenes:0 --out r --questions a.json,", "has a comma without a file on each side of it"),
        ("evaluate compare a a", "'a' has no card.json"),
    ],
)
def test_places_that_cannot_be_are_refused_before_the_model_is_loaded(words, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_pictures(tmp_path, "a.png")
    code, err = ends(words.split(), capsys)
    assert code in (1, 2)
    assert said in err
    assert "template" not in err, "the model was loaded"


def test_a_name_that_is_a_word_for_an_object_is_told_which(tmp_path):
    with pytest.raises(
        EvaluationError, match="'sofa' is not one of the 80 objects.* Write 'couch', or give other words"
    ):
        open_dataset(listing(tmp_path, ["sofa"]))
    with pytest.raises(EvaluationError, match=r"Use their names, such as person, bicycle, .* and 75 more"):
        open_dataset(listing(tmp_path, ["unicorn"]))


# --- the transparent colour of a PNG ----------------------------------------------------------------------------------


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(values, bits: int, clear) -> bytes:
    """A PNG of one row: grey numbers, or triples, of so many bits; `clear` is its transparent colour."""
    grey = isinstance(clear, int)
    numbers = values if grey else [part for value in values for part in value]
    row = "".join(format(number, f"0{bits}b") for number in numbers)
    row += "0" * (-len(row) % 8)
    data = bytes([0, *(int(row[place : place + 8], 2) for place in range(0, len(row), 8))])
    head = struct.pack(">IIBBBBB", len(values), 1, bits, 0 if grey else 2, 0, 0, 0)
    colour = struct.pack(">H", clear) if grey else struct.pack(">HHH", *clear)
    parts = (b"IHDR", head), (b"tRNS", colour), (b"IDAT", zlib.compress(data)), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


RED = (255, 0, 0)


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("opened", [False, True])
def test_a_transparent_grey_is_compared_in_the_bits_of_the_file(bits, opened):
    """255, 256 and 65535 differ, though Pillow alone makes the same white of all three."""
    largest = 2**bits - 1
    values = sorted({number for number in (0, 1, 2, 3, 5, 15, 85, 127, 255, 256, 32767, largest) if number <= largest})
    for clear in values:
        data = png(values, bits, clear)
        found = np.asarray(load_image(Image.open(BytesIO(data)) if opened else data, background=RED))[0]
        plain = np.asarray(load_image(data))[0]
        for value, pixel, stored in zip(values, found, plain, strict=True):
            assert tuple(pixel) == (RED if value == clear else tuple(stored)), (bits, clear, value)
            assert abs(int(stored[0]) - round(255 * value / largest)) <= 1


def test_a_transparent_colour_of_8_bits_is_compared_and_of_16_refused():
    data = png([(10, 20, 30), (10, 20, 31)], 8, (10, 20, 30))
    assert np.asarray(load_image(data, background=RED)).tolist() == [[[255, 0, 0], [10, 20, 31]]]
    deep = png([(2571, 5140, 7710), (2570, 5140, 7710)], 16, (2571, 5140, 7710))
    assert np.asarray(load_image(deep)).tolist() == [[[10, 20, 30]] * 2]
    decoded = Image.open(BytesIO(deep))
    decoded.load()
    for source in (deep, Image.open(BytesIO(deep)), decoded):
        with pytest.raises(ImageError, match="16 bits a channel and one transparent colour"):
            load_image(source, background=RED)


def test_a_decoded_picture_that_lost_the_bits_of_its_transparent_grey_is_refused():
    image = Image.open(BytesIO(png([0, 1, 3], 2, 1)))
    image.load()
    with pytest.raises(ImageError, match="Give the file or its bytes"):
        load_image(image, background=RED)
    assert image.info["transparency"] == 1, "the caller's picture is left alone"
    image = Image.open(BytesIO(png([0, 3, 17], 8, 3)))
    image.load()
    assert np.asarray(load_image(image, background=RED))[0].tolist() == [[0, 0, 0], [255, 0, 0], [17, 17, 17]]
