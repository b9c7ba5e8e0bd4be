"""Ground truth from files in COCO's form, made here, and from sets of objects."""

import json
from pathlib import Path

import pytest

from minivlm.errors import EvaluationError
from minivlm.evaluation.lexicon import Lexicon, coco_lexicon
from minivlm.evaluation.truth import coco_objects, objects_file

OURS = coco_lexicon()
INSTANCES = {
    "info": {"year": 2014},
    "images": [{"id": 42, "file_name": "COCO_val2014_000000000042.jpg"}, {"id": 73, "file_name": "b.jpg"}, {"id": 9}],
    "annotations": [
        {"id": 1, "image_id": 42, "category_id": 18, "bbox": [0.0, 1.5, 2.0, 3.0], "iscrowd": 0},
        {"id": 2, "image_id": 42, "category_id": 18, "segmentation": [[1.0, 2.0]]},
        {"id": 3, "image_id": 42, "category_id": 67},
        {"id": 4, "image_id": 73, "category_id": 4},
    ],
    "categories": [
        {"id": 18, "name": "dog", "supercategory": "animal"},
        {"id": 67, "name": "dining table"},
        {"id": 4, "name": "motorcycle"},
    ],
}
CAPTIONS = {
    "images": INSTANCES["images"],
    "annotations": [
        {"id": 1, "image_id": 42, "caption": "A puppy begs a man for a hot dog."},
        {"id": 2, "image_id": 42, "caption": "Two men at a table"},
        {"id": 3, "image_id": 73, "caption": "Nothing that has a name here."},
        {"id": 4, "image_id": 9, "caption": "The sky."},
    ],
}


def written(folder: Path, content, name: str) -> Path:
    path = folder / name
    path.write_text(json.dumps(content), "utf-8")
    return path


@pytest.fixture
def files(tmp_path) -> tuple[Path, Path]:
    return written(tmp_path, INSTANCES, "instances_val2014.json"), written(tmp_path, CAPTIONS, "captions_val2014.json")


def test_instances_and_captions_are_united(files):
    """Image 9 has neither outlines nor words for objects, so it has no entry; ids are texts."""
    assert coco_objects(*files, OURS) == {"42": {"dog", "dining table", "person", "hot dog"}, "73": {"motorcycle"}}


def test_without_captions_outlines_count_alone(files):
    assert coco_objects(files[0], None, OURS) == {"42": {"dog", "dining table"}, "73": {"motorcycle"}}


def test_captions_add_images_that_nothing_is_outlined_in(tmp_path, files):
    captions = {"annotations": [{"image_id": 9, "caption": "A zebra"}]}
    assert coco_objects(files[0], written(tmp_path, captions, "c.json"), OURS)["9"] == {"zebra"}


def test_category_names_go_through_the_words(tmp_path, files):
    """A list may call an object otherwise than COCO does."""
    words = tmp_path / "words.txt"
    words.write_text("puppy, dog\ntable, dining table\nmotorbike, motorcycle\n", "utf-8")
    found = coco_objects(files[0], None, Lexicon.from_file(words))
    assert found == {"42": {"puppy", "table"}, "73": {"motorbike"}}


def test_a_category_without_a_word_is_refused(tmp_path):
    content = INSTANCES | {"categories": [{"id": 18, "name": "unicorn"}]}
    with pytest.raises(EvaluationError, match="'unicorn' is not one of the 80 objects"):
        coco_objects(written(tmp_path, content, "i.json"), None, OURS)


@pytest.mark.parametrize(
    ("part", "entry", "told"),
    [
        ("annotations", {"image_id": 42, "category_id": 99}, "category 99"),
        ("annotations", {"image_id": 42}, "entry 0 of annotations"),
        ("annotations", {"image_id": 42, "category_id": [18]}, "entry 0 of annotations"),
        ("annotations", {"image_id": "42", "category_id": 18}, "entry 0 of annotations"),
        ("annotations", {"image_id": True, "category_id": 18}, "entry 0 of annotations"),
        ("annotations", 7, "entry 0 of annotations"),
        ("categories", {"id": {}, "name": "dog"}, "entry 0 of categories"),
        ("categories", {"id": 18, "name": None}, "entry 0 of categories"),
    ],
)
def test_damaged_entries_are_refused(tmp_path, part, entry, told):
    with pytest.raises(EvaluationError, match=told):
        coco_objects(written(tmp_path, INSTANCES | {part: [entry]}, "i.json"), None, OURS)


@pytest.mark.parametrize("content", [[], {}, {"annotations": {}}, "text", None])
def test_other_files_are_refused(tmp_path, content):
    with pytest.raises(EvaluationError, match="holds no list of"):
        coco_objects(written(tmp_path, content, "i.json"), None, OURS)


def test_captions_file_in_place_of_instances_is_refused(files):
    with pytest.raises(EvaluationError, match="holds no list of categories"):
        coco_objects(files[1], files[0], OURS)


def test_a_caption_must_be_a_text(tmp_path, files):
    damaged = written(tmp_path, {"annotations": [{"image_id": 1, "caption": None}]}, "c.json")
    with pytest.raises(EvaluationError, match="entry 0 of annotations"):
        coco_objects(files[0], damaged, OURS)


def test_an_image_that_is_listed_twice_is_refused(tmp_path):
    """JSON would keep the last alone."""
    path = tmp_path / "o.json"
    path.write_text('{"139": ["dog"], "502": [], "139": ["tv"]}', "utf-8")
    with pytest.raises(EvaluationError, match="o.json': .*'139' stands twice"):
        objects_file(path, OURS)


def test_objects_as_sets(tmp_path):
    content = {"1": ["dog", "dog", "tv"], "b": []}
    assert objects_file(written(tmp_path, content, "o.json"), OURS) == {"1": {"dog", "tv"}, "b": frozenset()}


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ({"1": ["dog", "unicorn"]}, r"image 1: 'unicorn' is not one of the 80 objects"),
        ({"1": "dog"}, "image 1: a list of names"),
        ({"1": [3]}, "image 1: a list of names"),
        ({"1": None}, "image 1: a list of names"),
        ({}, "expected is"),
        ([], "expected is"),
    ],
)
def test_objects_that_are_none_are_refused(tmp_path, content, told):
    with pytest.raises(EvaluationError, match=told):
        objects_file(written(tmp_path, content, "o.json"), OURS)


@pytest.mark.parametrize("name", ["truth.pkl", "truth.json"])
def test_a_pickle_is_refused_unread(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(b"\x80\x04}.")
    with pytest.raises(EvaluationError, match="is a pickle"):
        objects_file(path, OURS)
    with pytest.raises(EvaluationError, match="is a pickle"):
        coco_objects(path, None, OURS)
