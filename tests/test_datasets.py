"""Datasets and items: the same images in the same order for everyone, true objects, and sentences for what cannot be.

COCO is played by a folder of seven small pictures in its format, made anew for each test.
"""

import json
import re
import shutil
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from minivlm.errors import EvaluationError, ImageError, MinivlmError
from minivlm.evaluation.chair import read_captions
from minivlm.evaluation.coco import in_hash_order
from minivlm.evaluation.datasets import open_dataset
from minivlm.evaluation.ids import read_ids
from minivlm.evaluation.items import as_question, chair_items, pope_items
from minivlm.evaluation.lexicon import read_list
from minivlm.evaluation.lines import read_json
from minivlm.evaluation.pope import PopeQuestion
from minivlm.evaluation.scenes import SceneWords
from minivlm.experiments.exam import draw
from minivlm.inputs.pictures import load_image
from minivlm.toyworld.questions import DESCRIBE, about
from minivlm.toyworld.themes import OBJECT_NAMES
from minivlm.toyworld.words import caption, counted, mentions
from minivlm.toyworld.world import CROWDED, HELD_OUT, TRAINING, World

CATEGORIES = {1: "person", 17: "cat", 18: "dog", 63: "couch", 67: "dining table"}
OBJECTS = {9: [17, 63], 42: [18], 74: [18, 18, 1], 133: [67], 139: [1, 67], 283: [], 310196: [1]}
CAPTIONS = {9: "A cat sleeps on a couch.", 42: "A dog beside a person.", 283: "An empty street.", 133: "A table."}


def file_name(image: int, part: str = "val2014") -> str:
    return f"COCO_{part}_{image:012}.jpg"


def write_lines(path, rows) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def write_coco(folder, part: str = "val2014", objects=OBJECTS):
    """A folder as COCO's: seven pictures of 8 x 8, every one of another grey."""
    (folder / "annotations").mkdir(parents=True, exist_ok=True)
    (folder / part).mkdir()
    for number, image in enumerate(objects):
        Image.new("RGB", (8, 8), (30 * number,) * 3).save(folder / part / file_name(image, part))
    images = [{"id": image, "file_name": file_name(image, part), "width": 8, "height": 8} for image in objects]
    outlined = [{"image_id": image, "category_id": category} for image, own in objects.items() for category in own]
    categories = [{"id": number, "name": name} for number, name in CATEGORIES.items()]
    instances = {"images": images, "annotations": outlined, "categories": categories}
    (folder / "annotations" / f"instances_{part}.json").write_text(json.dumps(instances))
    told = [{"image_id": image, "id": n, "caption": text} for n, (image, text) in enumerate(CAPTIONS.items())]
    (folder / "annotations" / f"captions_{part}.json").write_text(
        json.dumps({"images": images, "annotations": told}),
    )
    return folder


def pope_rows(images, text="Is there a dog in the image?", label="yes"):
    return [
        {"question_id": number, "image": image, "text": text, "label": label} for number, image in enumerate(images, 1)
    ]


@pytest.fixture
def coco(tmp_path):
    return write_coco(tmp_path / "my coco")


# --- COCO -------------------------------------------------------------------------------------------------------------


def test_truth_of_coco_unites_instances_and_captions(coco):
    data = open_dataset(f"coco:{coco}")
    assert data.name == "COCO val2014"
    assert set(data.images) == set(data.truth) == {str(image) for image in OBJECTS}
    assert data.truth["9"] == {"cat", "couch"}
    assert data.truth["42"] == {"dog", "person"}, "the person is in a caption only"
    assert data.truth["74"] == {"dog", "person"}
    assert data.truth["283"] == frozenset(), "an image without objects is asked about as well"


def test_pictures_of_coco_are_found_and_are_the_right_ones(coco):
    data = open_dataset(f"coco:{coco}")
    for number, image in enumerate(OBJECTS):
        grey = np.asarray(load_image(data.picture(str(image)))).mean()
        assert abs(grey - 30 * number) < 3, "JPEG changes a plain grey by at most a step or two"


def test_order_of_coco_is_mixed_the_same_everywhere_and_independent_of_the_other_images(coco, tmp_path):
    images = open_dataset(f"coco:{coco}").images
    assert images == ("139", "74", "9", "310196", "283", "42", "133"), "fixed by the ids alone"
    few = write_coco(tmp_path / "few", objects={image: OBJECTS[image] for image in (310196, 9, 42)})
    assert open_dataset(f"coco:{few}").images == tuple(image for image in images if image in ("310196", "9", "42"))
    many = [str(image) for image in range(4000)]
    first = [int(image) for image in in_hash_order(many)[:400]]
    # a fair draw of 400 from 0..3999 has a mean of 1999.5 with a deviation of 55, and 200 of it are below 2000 +- 9.5
    assert abs(np.mean(first) - 1999.5) < 4 * 55
    assert abs(sum(image < 2000 for image in first) - 200) < 4 * 9.5


def test_a_limit_takes_the_first_and_keeps_the_truth_of_all(coco):
    data = open_dataset(f"coco:{coco}")
    few = data.limited(3)
    assert few.images == data.images[:3]
    assert few.truth == data.truth, "how frequent an object is must not depend on the limit"
    assert data.limited(100).images == data.limited(None).images == data.images
    with pytest.raises(EvaluationError, match="At least one image must be taken, found a limit of 0"):
        data.limited(0)


def test_several_parts_must_be_chosen_between(coco):
    write_coco(coco, "train2014", {7: [1], 8: []})
    with pytest.raises(EvaluationError, match=r"several parts.*train2014, val2014.*coco:.*my coco:val2014"):
        open_dataset(f"coco:{coco}")
    assert set(open_dataset(f"coco:{coco}:train2014").images) == {"7", "8"}
    assert len(open_dataset(f"coco:{coco}:val2014").images) == len(OBJECTS)
    with pytest.raises(EvaluationError, match=r"has no 'val2017'.*train2014, val2014"):
        open_dataset(f"coco:{coco}:val2017")


def test_other_places_of_the_pictures(coco, tmp_path):
    (coco / "images").mkdir()
    (coco / "val2014").rename(coco / "images" / "val2014")
    assert open_dataset(f"coco:{coco}").picture("9").parent.parent.name == "images"
    (coco / "images" / "val2014").rename(tmp_path / "elsewhere")
    with pytest.raises(EvaluationError, match=r"pictures of val2014 are not there.*val2014\.zip.*--images"):
        open_dataset(f"coco:{coco}")
    assert open_dataset(f"coco:{coco}", images=tmp_path / "elsewhere").picture("9").parent.name == "elsewhere"


def test_without_captions_the_name_says_so(coco):
    (coco / "annotations" / "captions_val2014.json").unlink()
    data = open_dataset(f"coco:{coco}")
    assert data.name == "COCO val2014 (objects of its instances alone)"
    assert data.truth["42"] == {"dog"}
    assert data.outlined is None, "there is but one kind of truth"
    assert pope_items(replace(data, least=1), ("random",))


def test_one_missing_picture_is_told_when_it_is_asked_for_and_a_missing_folder_at_once(coco):
    (coco / "val2014" / file_name(42)).unlink()
    data = open_dataset(f"coco:{coco}")
    with pytest.raises(ImageError, match=rf"image 42 is missing: there is no file '.*{file_name(42)}'"):
        data.picture("42")
    with pytest.raises(ImageError, match="no image '43' among the 7"):
        data.picture("43")
    for file in (coco / "val2014").iterdir():
        file.unlink()
    with pytest.raises(
        EvaluationError, match=r"None of the 7 pictures is in '.*val2014', such as 'COCO_val2014_.*jpg'"
    ):
        open_dataset(f"coco:{coco}")


def test_ids_in_all_forms_choose_the_same_images_in_their_order(coco, tmp_path):
    wanted = (310196, 9, 42)
    forms = {
        "list.json": json.dumps(wanted),
        "texts.json": json.dumps([str(image) for image in wanted]),
        "lines.txt": "310196\n\n9\n42\n9\n",
        "padded.txt": "".join(f"{image:012}\n" for image in wanted),
        "names.txt": "".join(f"{file_name(image)}\n" for image in wanted),
        "captions.json": json.dumps([{"image_id": image, "caption": "A dog."} for image in wanted]),
        "captions.jsonl": "".join(json.dumps({"image_id": image, "caption": "A dog."}) + "\n" for image in wanted),
        "coco_pope_random.json": "".join(json.dumps(row) + "\n" for row in pope_rows(map(file_name, wanted))),
    }
    for name, text in forms.items():
        (tmp_path / name).write_text(text)
        data = open_dataset(f"coco:{coco}", ids=tmp_path / name)
        assert data.images == ("310196", "9", "42"), name
        assert data.limited(2).images == ("310196", "9"), name


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[9, 43]", "1 of 2 images are not in COCO val2014, such as '43'"),
        ("[9, null]", "entry 2: names no image, found None"),
        ('[{"id": 9}]', "entry 1: names no image"),
        ("9\ntrue\n", "entry 2: names no image, found True"),
        ("", "is empty; expected is a JSON list of ids"),
        ("[]", "is empty"),
        ("../../etc/passwd\n", "1 of 1 images are not in COCO val2014, such as '../../etc/passwd'"),
    ],
)
def test_ids_that_cannot_be_meant(coco, tmp_path, text, sentence):
    (tmp_path / "ids.txt").write_text(text)
    with pytest.raises(EvaluationError, match=re.escape(sentence)):
        open_dataset(f"coco:{coco}", ids=tmp_path / "ids.txt")


def test_a_missing_or_binary_list_of_ids(coco, tmp_path):
    with pytest.raises(EvaluationError, match=r"list of ids '.*none.txt' could not be read"):
        open_dataset(f"coco:{coco}", ids=tmp_path / "none.txt")
    (tmp_path / "binary").write_bytes(b"\x80\x04\x95")
    with pytest.raises(EvaluationError, match=r"could not be read.*Expected is a JSON list of ids"):
        open_dataset(f"coco:{coco}", ids=tmp_path / "binary")


@pytest.mark.parametrize("bad", ["../../secret.jpg", "/etc/passwd", "C:\\x.jpg", "..\\x.jpg", "a\0b.jpg", "", 7, None])
def test_no_file_name_of_an_instances_file_leads_out_of_the_folder(coco, bad):
    path = coco / "annotations" / "instances_val2014.json"
    content = json.loads(path.read_text())
    content["images"][2]["file_name"] = bad
    path.write_text(json.dumps(content))
    with pytest.raises(EvaluationError, match=r"instances_val2014\.json, entry 2 of images: .* expected, found"):
        open_dataset(f"coco:{coco}")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda content: content.pop("images"), "holds no list of images"),
        (lambda content: content.update(images=[]), "holds no list of images"),
        (lambda content: content["images"][0].pop("id"), "entry 0 of images: a whole number as id"),
        (lambda content: content["images"].append(content["images"][0]), "image id twice among its 8 images"),
    ],
)
def test_instances_files_that_are_none(coco, change, sentence):
    path = coco / "annotations" / "instances_val2014.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(EvaluationError, match=re.escape(sentence)):
        open_dataset(f"coco:{coco}")


# --- fingerprints -----------------------------------------------------------------------------------------------------


def test_the_fingerprint_knows_the_data_and_not_the_place(coco, tmp_path):
    data = open_dataset(f"coco:{coco}")
    copy = shutil.copytree(coco, tmp_path / "another place" / "coco")
    other = open_dataset(f"coco:{copy}")
    assert len(data.fingerprint) == 64
    assert other.fingerprint == data.fingerprint
    assert data.limited(3).fingerprint == other.limited(3).fingerprint != data.fingerprint
    different = {data.fingerprint, data.limited(3).fingerprint}
    (copy / "val2014" / file_name(42)).unlink()
    different.add(open_dataset(f"coco:{copy}").fingerprint)
    Image.new("RGB", (64, 64), "red").save(copy / "val2014" / file_name(42))
    different.add(open_dataset(f"coco:{copy}").fingerprint)
    (copy / "annotations" / "captions_val2014.json").unlink()
    different.add(open_dataset(f"coco:{copy}").fingerprint)
    assert len(different) == 5, "a limit, a missing picture, a changed one and other truth all show"


def test_the_fingerprint_reads_no_pictures(coco):
    data = open_dataset(f"coco:{coco}")
    for file in (coco / "val2014").iterdir():
        file.write_bytes(bytes(file.stat().st_size))
    assert open_dataset(f"coco:{coco}").fingerprint == data.fingerprint, "known by name and size, as documented"


def test_the_fingerprint_of_scenes(monkeypatch):
    first, again = open_dataset("scenes:0"), open_dataset("scenes:held-out:0")
    assert first.fingerprint == again.fingerprint
    others = {open_dataset(spec).fingerprint for spec in ("scenes:0", "scenes:1", "scenes:crowded:0", "scenes:clear:0")}
    assert len(others | {first.limited(10).fingerprint}) == 5
    drawn = World.draw
    monkeypatch.setattr(World, "draw", lambda self, seed: drawn(self, seed + 1))  # a generator that draws otherwise
    assert open_dataset("scenes:0").fingerprint != first.fingerprint


# --- scenes -----------------------------------------------------------------------------------------------------------


def test_scenes_are_the_exams_scenes_and_each_seed_has_its_own():
    data = open_dataset("scenes:0").limited(4)
    assert data.images == ("0", "1", "2", "3")
    for image, scene in zip(data.images, draw(HELD_OUT, 4), strict=True):
        assert data.truth[image] == set(scene.names), "known from the layout, true of the drawn scene"
        assert np.array_equal(np.asarray(data.picture(image)), np.asarray(scene.picture))
    images = [set(open_dataset(f"scenes:{seed}").images) for seed in (0, 1, 2)]
    assert [len(own) for own in images] == [1000, 1000, 1000]
    assert len(set.union(*images)) == 3000
    assert open_dataset("scenes:2").images[:2] == ("2000", "2001")


def test_scenes_of_another_world_and_never_of_the_training():
    crowded = open_dataset("scenes:crowded:1")
    assert crowded.name == "scenes:crowded:1"
    assert crowded.truth["1005"] == set(CROWDED.layout(1005).names)
    held_out = open_dataset("scenes:0")
    pictures = [np.asarray(held_out.picture(image)) for image in held_out.images[:20]]
    trained = [np.asarray(TRAINING.draw(seed).picture) for seed in range(20)]
    assert not any(np.array_equal(one, other) for one in pictures for other in trained)


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ("scenes", "Scenes need a seed, a whole number of at most 9 digits, found ''. Write scenes:SEED"),
        ("scenes:", "found ''"),
        ("scenes:-1", "found '-1'"),
        ("scenes:two", "found 'two'"),
        ("scenes:٣", "found '٣'"),
        ("scenes:1234567890", "found '1234567890'"),
        ("scenes:training:0", "There is no world 'training'; known are held-out, rare-companions"),
        ("scenes:a:b:0", "There is no world 'a:b'"),
    ],
)
def test_specs_of_scenes_that_cannot_be_meant(spec, sentence):
    with pytest.raises(EvaluationError, match=re.escape(sentence)):
        open_dataset(spec)


def test_scenes_refuse_what_belongs_to_files(tmp_path):
    for option in ("images", "synonyms"):
        with pytest.raises(EvaluationError, match="leave --images and --synonyms out"):
            open_dataset("scenes:0", **{option: tmp_path})
    with pytest.raises(ImageError, match=r"no scene '1000' in scenes:held-out:0.*from 0 to 999"):
        open_dataset("scenes:0").picture("1000")


def test_the_words_of_scenes_read_every_caption_of_the_world():
    words = SceneWords()
    for seed in range(50):
        scene = HELD_OUT.layout(seed)
        for style in ("canonical", "places", "colors"):
            text = caption(scene, HELD_OUT.rng(seed, style), style)
            found = words.mentions(text)
            assert list(dict.fromkeys(mention.object for mention in found)) == mentions(text)
            assert {mention.object for mention in found} == set(scene.names), text
    for name in OBJECT_NAMES:
        for count in (1, 2):
            (mention,) = words.mentions(f"I see {counted(name, count)}.")
            assert mention.object == name


def test_the_words_of_scenes_know_where_and_how_often():
    text = "On a desk two Mice and a mouse; a carpet, a traffic light and pairs of scissors."
    found = [(mention.object, text[mention.start : mention.stop]) for mention in SceneWords().mentions(text)]
    assert found == [
        ("mouse", "Mice"),
        ("mouse", "mouse"),
        ("traffic light", "traffic light"),
        ("scissors", "scissors"),
    ]


def test_cocos_words_would_charge_scenes_with_a_table(coco):
    text = "The image shows a laptop and a mouse on a desk."
    assert [mention.object for mention in SceneWords().mentions(text)] == ["laptop", "mouse"]
    assert "dining table" in [mention.object for mention in open_dataset(f"coco:{coco}").lexicon.mentions(text)]


# --- files ------------------------------------------------------------------------------------------------------------


def write_listing(folder, rows=None) -> str:
    (folder / "photos").mkdir(exist_ok=True)
    for name in ("photos/cat.png", "dog.png"):
        Image.new("RGB", (8, 8)).save(folder / name)
    rows = rows or [
        {"image": "photos/cat.png", "objects": ["cat", "couch"]},
        {"image": "dog.png", "objects": [], "id": 7},
    ]
    return write_lines(folder / "mine.jsonl", rows)


def test_a_file_of_pictures_and_objects(tmp_path):
    data = open_dataset(write_listing(tmp_path))
    assert (data.name, data.images) == ("mine.jsonl", ("photos/cat.png", "7"))
    assert data.truth == {"photos/cat.png": {"cat", "couch"}, "7": frozenset()}
    assert load_image(data.picture("7")).size == (8, 8)
    assert data.find("cat.png") == "photos/cat.png"
    (tmp_path / "moved").mkdir()
    (tmp_path / "mine.jsonl").rename(tmp_path / "moved" / "mine.jsonl")
    with pytest.raises(EvaluationError, match=r"None of the 2 pictures is in '.*moved', such as 'photos/cat.png'"):
        open_dataset(str(tmp_path / "moved" / "mine.jsonl"))
    moved = open_dataset(str(tmp_path / "moved" / "mine.jsonl"), images=tmp_path)
    assert moved.fingerprint == data.fingerprint


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        (
            {"image": "../x.png", "objects": []},
            "a path below the folder of the pictures was expected, found '../x.png'",
        ),
        ({"image": "a/../../x.png", "objects": []}, "found 'a/../../x.png'"),
        ({"image": "/etc/passwd", "objects": []}, "found '/etc/passwd'"),
        ({"image": 3, "objects": []}, "the name of a picture file was expected, found 3"),
        ({"objects": []}, "the name of a picture file was expected, found None"),
        ({"image": "dog.png", "objects": "dog"}, "a list of names was expected, found 'dog'"),
        ({"image": "dog.png", "objects": [1]}, "a list of names was expected, found '[1]'"),
        ({"image": "dog.png", "objects": ["dog", "unicorn"]}, "'unicorn' is not one of the 80 objects"),
        ({"image": "dog.png", "objects": [], "id": None}, "the id must be a text or a whole number, found None"),
        ({"image": "dog.png", "objects": [], "id": True}, "found True"),
        ({"image": "photos/cat.png", "objects": []}, "the id 'photos/cat.png' occurs twice"),
    ],
)
def test_lines_that_cannot_be_meant(tmp_path, row, sentence):
    file = write_listing(tmp_path, [{"image": "photos/cat.png", "objects": ["cat"]}, row])
    with pytest.raises(EvaluationError, match=re.escape("mine.jsonl', line 2: ") + ".*" + re.escape(sentence)):
        open_dataset(file)


def test_specs_that_are_no_data(tmp_path):
    for spec, sentence in {
        str(tmp_path / "none.jsonl"): r"There is no file '.*none.jsonl'; data is given as coco:DIR, scenes:SEED",
        str(tmp_path): r"is a folder\. If it is COCO's, write coco:",
        f"coco:{tmp_path}": r"There is no annotations/instances_\*\.json in",
        f"coco:{tmp_path}/none": r"There is no folder '.*none'\. Unpack COCO's annotations",
        "coco": "COCO needs its folder",
        "coco:": "COCO needs its folder",
        "": "is a folder|There is no file ''",
        write_lines(
            tmp_path / "other.jsonl", [{"picture": "x"}]
        ): r"line 1: has the keys 'picture'; expected are lines",
        write_lines(tmp_path / "empty.jsonl", []): "is empty; expected are lines",
    }.items():
        with pytest.raises(EvaluationError, match=sentence):
            open_dataset(spec)
    (tmp_path / "data.jsonl").write_text("not JSON\n")
    with pytest.raises(EvaluationError, match=r"data\.jsonl.*1"):
        open_dataset(str(tmp_path / "data.jsonl"))
    with pytest.raises(EvaluationError, match="folder of the pictures"):
        open_dataset(write_listing(tmp_path), images=tmp_path / "nowhere")


# --- question files ---------------------------------------------------------------------------------------------------


def test_a_question_file_alone_serves_for_its_questions_and_for_no_captions(coco, tmp_path):
    rows = pope_rows([file_name(42), file_name(9)])
    rows += [{"question_id": 3, "image": file_name(42), "text": "Is there an oven in the image?", "label": "no"}]
    file = write_lines(tmp_path / "coco_pope_random.json", rows)
    data = open_dataset(file, images=coco / "val2014")
    assert data.images == (file_name(42), file_name(9)), "in the order in which they are asked about"
    assert data.truth[file_name(42)] == {"dog"}
    items = pope_items(data)
    assert [item.id for item in items] == ["random/1", "random/3", "random/2"], "an image's items stand together"
    assert [item.label for item in items] == [True, False, True]
    assert {item.split for item in items} == {"random"}
    with pytest.raises(EvaluationError, match=r"is a question file.*captions cannot be judged.*coco:DIR"):
        chair_items(data)
    with pytest.raises(EvaluationError, match=r"None of the 2 pictures is in"):
        open_dataset(file)


def test_question_files_about_coco(coco, tmp_path):
    files = [
        write_lines(tmp_path / f"coco_pope_{split}.json", pope_rows([file_name(310196), file_name(9)]))
        for split in ("popular", "adversarial")
    ]
    data = open_dataset(f"coco:{coco}", questions=files)
    assert data.images == ("310196", "9")
    assert data.complete
    assert len(data.truth) == len(OBJECTS)
    items = pope_items(data)
    assert [item.id for item in items] == ["popular/1", "adversarial/1", "popular/2", "adversarial/2"]
    assert [item.image for item in items] == ["310196", "310196", "9", "9"]
    assert [item.id for item in pope_items(data.limited(1))] == ["popular/1", "adversarial/1"]
    assert data.fingerprint != open_dataset(f"coco:{coco}", questions=files[:1]).fingerprint
    assert [item.image for item in chair_items(data)] == ["310196", "9"], "captions of the same images"


@pytest.mark.parametrize("bad", ["../../etc/passwd", "/etc/passwd", "val2014/x.jpg", "..\\x.jpg", "..", "C:x.jpg"])
def test_no_name_of_a_question_file_leads_out_of_the_folder(coco, tmp_path, bad):
    file = write_lines(tmp_path / "q.json", pope_rows([file_name(9), bad]))
    for spec, how in ((file, {"images": coco / "val2014"}), (f"coco:{coco}", {"questions": [file]})):
        with pytest.raises(EvaluationError, match=r"question 2: a bare file name was expected, found"):
            open_dataset(spec, **how)


def test_question_files_that_do_not_fit(coco, tmp_path):
    unknown = write_lines(tmp_path / "unknown.json", pope_rows([file_name(9), file_name(43)]))
    with pytest.raises(EvaluationError, match=rf"1 of 2 images are not in COCO val2014, such as '{file_name(43)}'"):
        open_dataset(f"coco:{coco}", questions=[unknown])
    known = write_lines(tmp_path / "known.json", pope_rows([file_name(9)]))
    with pytest.raises(EvaluationError, match=r"Two questions of known\.json, known\.json have the same id"):
        open_dataset(f"coco:{coco}", questions=[known, known])
    (tmp_path / "ids.txt").write_text("42")
    with pytest.raises(EvaluationError, match="no question is about one of the 1 images that are taken"):
        open_dataset(f"coco:{coco}", ids=tmp_path / "ids.txt", questions=[known])


# --- items ------------------------------------------------------------------------------------------------------------


def test_items_of_chair_ask_each_image_once_by_the_datasets_own_question(coco):
    data = open_dataset(f"coco:{coco}")
    items = chair_items(data)
    assert [item.id for item in items] == [item.image for item in items] == list(data.images)
    assert {item.question for item in items} == {"Please describe this image in detail."}
    assert {item.question for item in chair_items(open_dataset("scenes:0").limited(3))} == {DESCRIBE[0]}
    assert chair_items(data, "What is it?")[0].question == "What is it?"


def test_items_of_pope_are_balanced_and_true(coco):
    for data in (open_dataset("scenes:0").limited(30), replace(open_dataset(f"coco:{coco}"), least=1)):
        items = pope_items(data, ("random", "popular", "adversarial"), 3, 0)
        assert len({item.id for item in items}) == len(items)
        assert Counter(item.label for item in items)[True] == len(items) / 2
        assert {item.split for item in items} == {"random", "popular", "adversarial"}
        for item in items:
            (mention,) = data.lexicon.mentions(item.question)
            assert (mention.object in (data.outlined or data.truth)[item.image]) == item.label
        runs = [
            image
            for image, before in zip(items, [None, *items], strict=False)
            if before is None or before.image != image.image
        ]
        assert len(runs) == len({item.image for item in items}), "an image's items stand together"


def test_photographs_with_few_objects_are_not_asked_about_as_in_the_original(coco):
    data = open_dataset(f"coco:{coco}")
    assert data.least == 3
    assert max(len(names) for names in data.outlined.values()) < 3
    with pytest.raises(EvaluationError, match="nothing to ask about"):
        pope_items(data, ("random",))


def test_items_of_pope_ask_about_what_is_outlined(coco):
    data = replace(open_dataset(f"coco:{coco}"), least=1)
    assert data.truth["42"] - data.outlined["42"] == {"person"}, "mentioned in a caption only"
    asked = [item for item in pope_items(data, ("random", "popular")) if item.image == "42"]
    assert {item.question for item in asked if item.label} == {"Is there a dog in the image?"}


def test_items_of_a_limited_dataset_are_the_first_of_the_whole():
    data = open_dataset("scenes:crowded:3")
    whole = pope_items(data, ("adversarial",))
    few = pope_items(data.limited(10), ("adversarial",))
    assert few == whole[: len(few)]
    assert {item.image for item in few} == set(data.images[:10])


def test_scenes_are_asked_in_the_words_that_their_world_taught():
    items = pope_items(open_dataset("scenes:0"), ("random",))
    asked = {item.question for item in items}
    assert asked <= {about(name, present=True).text for name in OBJECT_NAMES}
    assert "Is there a pair of scissors in the image?" in asked


def test_nothing_to_ask_is_an_error(tmp_path):
    data = open_dataset(write_listing(tmp_path, [{"image": "dog.png", "objects": []}]))
    with pytest.raises(MinivlmError):
        pope_items(data, ("random",))
    with pytest.raises(EvaluationError, match="There is nothing to ask about the 1 images"):
        pope_items(data)


def test_an_item_is_a_question_of_pope_again(coco, tmp_path):
    file = write_lines(tmp_path / "coco_pope_random.json", pope_rows([file_name(9)], label="no"))
    (item,) = pope_items(open_dataset(f"coco:{coco}", questions=[file]))
    assert as_question(item) == PopeQuestion("random/1", "9", "Is there a dog in the image?", False, "random")


# --- what is in a file and not used -----------------------------------------------------------------------------------


def test_a_category_that_is_in_no_picture_needs_no_word(coco):
    file = coco / "annotations" / "instances_val2014.json"
    content = json.loads(file.read_text())
    content["categories"].append({"id": 91, "name": "hair brush"})  # as in the whole list of COCO-Stuff
    file.write_text(json.dumps(content))
    assert open_dataset(f"coco:{coco}").truth["74"] == {"dog", "person"}
    content["annotations"].append({"image_id": 9, "category_id": 91})
    file.write_text(json.dumps(content))
    with pytest.raises(EvaluationError, match="category 'hair brush' is not one of the 80 objects"):
        open_dataset(f"coco:{coco}")


def test_fields_of_a_line_that_are_not_read_are_said(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    write_lines(tmp_path / "a.jsonl", [{"image": "a.png", "objects": ["cat"], "Id": 3, "question": "What?"}])
    with pytest.warns(UserWarning, match=r"a.jsonl' has Id, question, which is not read: image, id, objects are\."):
        assert open_dataset(str(tmp_path / "a.jsonl")).images == ("a.png",)


@pytest.mark.parametrize("mark", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c"])
def test_only_the_line_breaks_of_files_end_a_line(tmp_path, mark):
    name = f"a{mark}b.png"
    (tmp_path / "ids.txt").write_bytes(f"{name}\r\nc.png\n\n d.png\re.png".encode())
    assert read_ids(tmp_path / "ids.txt") == [name, "c.png", "d.png", "e.png"]
    (tmp_path / "words.txt").write_bytes(f"cat, kit{mark}ten\ndog\n".encode())
    assert read_list(tmp_path / "words.txt") == {"cat": "cat", f"kit{mark}ten": "cat", "dog": "dog"}
    path = tmp_path / "lines.jsonl"
    path.write_bytes(json.dumps({"image_id": 1, "caption": f"a{mark}b"}, ensure_ascii=False).encode())
    assert read_captions(path) == {"1": f"a{mark}b"} or mark in "\x0b\x0c\x1c"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b'{"a": NaN}', "this JSON is not read: NaN is not a JSON number"),
        (b'{"a": 1, "a": 2}', "this JSON is not read: the key 'a' stands twice in one object"),
        (b"[" * 100_000, "this JSON is not read: maximum recursion depth"),
        (b'{"a": 1e999}', "this JSON is not read: 1e999 is not a JSON number"),
        (b'"\xff"', "no text in UTF-8: .*invalid start byte"),
    ],
    ids=["NaN", "twice", "deep", "large", "bytes"],
)
def test_valid_json_is_not_called_invalid(tmp_path, text, words):
    (tmp_path / "a.json").write_bytes(text)
    with pytest.raises(EvaluationError, match=words):
        read_json(tmp_path / "a.json")
