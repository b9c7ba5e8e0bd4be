"""Loading a VLM: which template, which image recipe, which dtype; and what cannot be loaded."""

import json
import os

import pytest
import torch
from safetensors.torch import save_file

import minivlm
from minivlm import CheckpointError, ConfigError, EvaluationError, ImageError, PromptError
from minivlm.checkpoints import inspect_checkpoint
from minivlm.checkpoints.download import find_or_download
from minivlm.checkpoints.names import scheme_named
from minivlm.checkpoints.openclip import tower_from_open_clip
from minivlm.evaluation.chair import read_captions
from minivlm.evaluation.datasets import open_dataset
from minivlm.evaluation.lexicon import Lexicon
from minivlm.inputs.pictures import load_image
from support.tiny_model import SIZE, picture, tiny_folder, tiny_vlm

ASK = {"max_new_tokens": 16}


def test_the_template_is_the_checkpoints_unless_another_is_asked_for(tmp_path):
    vlm = tiny_vlm(tmp_path)
    other = minivlm.load(tmp_path, device="cpu", template="llava_v1")
    assert (vlm.template, other.template) == ("hf", "llava_v1")
    names = [[span.name for span in each.prompt("No?", 1).spans] for each in (vlm, other)]
    assert "system" not in names[0]
    assert "system" in names[1]
    with pytest.raises(PromptError, match="no template 'vicuna'; known are hf, llava_v1"):
        minivlm.load(tmp_path, device="cpu", template="vicuna")


def test_original_files_get_the_template_of_their_training(tmp_path):
    tower = {"hidden_size": 64, "num_attention_heads": 1}  # heads of CLIP's width, which original files do not name
    source = tiny_vlm(tmp_path / "hub", vision=tower)
    state, names = source.model.state_dict(), scheme_named("F")
    folder = tiny_folder(tmp_path / "original", vision=tower)
    save_file({names.key(name): value for name, value in state.items()}, folder / "model.safetensors")
    text = json.loads((folder / "config.json").read_text())["text_config"]
    original = text | {
        "model_type": "llava",
        "mm_projector_type": "mlp2x_gelu",
        "mm_vision_tower": "openai/clip-vit-large-patch14-336",
        "mm_vision_select_layer": -2,
        "image_aspect_ratio": "pad",
    }
    (folder / "config.json").write_text(json.dumps(original))
    vlm = minivlm.load(folder, device="cpu")
    assert (vlm.template, vlm.preprocessing.mode) == ("llava_v1", "pad")
    same = minivlm.load(tmp_path / "hub", device="cpu", template="llava_v1", image_mode="pad")
    assert vlm.ask(picture(0), "Is there a dog?", **ASK) == same.ask(picture(0), "Is there a dog?", **ASK)


def test_the_recipe_is_the_checkpoints_unless_another_is_asked_for(tmp_path):
    folder = tiny_folder(tmp_path)
    modes = {mode: minivlm.load(folder, device="cpu", image_mode=mode) for mode in (None, "crop", "pad")}
    assert [each.preprocessing.mode for each in modes.values()] == ["crop", "crop", "pad"]
    assert not torch.equal(modes["crop"].pixels(picture(0)), modes["pad"].pixels(picture(0)))
    (folder / "preprocessor_config.json").unlink()
    assert minivlm.load(folder, device="cpu").preprocessing.size == SIZE
    merged = {"image_processor": {"size": {"shortest_edge": SIZE}, "do_pad": True}}
    (folder / "processor_config.json").write_text(json.dumps(merged))
    assert minivlm.load(folder, device="cpu").preprocessing.mode == "pad"
    (folder / "processor_config.json").unlink()
    (folder / "preprocessor_config.json").write_text(json.dumps({"size": SIZE + 4, "crop_size": SIZE + 4}))
    with pytest.raises(ConfigError, match=rf"{SIZE + 4}.*{SIZE}"):
        minivlm.load(folder, device="cpu")


BOTH_SIDES, SHORT_SIDE = {"height": SIZE, "width": SIZE}, {"shortest_edge": SIZE}
CLIP = {"image_processor_type": "CLIPImageProcessor", "size": SHORT_SIDE, "crop_size": BOTH_SIDES}
PREPROCESSORS = {  # preprocessor_config.json, and the mode in which it is done
    "as CLIP": (CLIP, "crop"),
    "both sides": (CLIP | {"size": BOTH_SIDES}, "stretch"),
    "both sides, no crop": (CLIP | {"size": BOTH_SIDES, "do_center_crop": False}, "stretch"),
    "SigLIP without a mean": ({"image_processor_type": "SiglipImageProcessor", "size": BOTH_SIDES}, "stretch"),
    "CLIP pads nothing": (CLIP | {"do_pad": True}, "crop"),
    "nor does SigLIP": (
        {"image_processor_type": "SiglipImageProcessor", "size": BOTH_SIDES, "do_pad": True},
        "stretch",
    ),
    "LLaVA's padding": (CLIP | {"image_processor_type": "LlavaImageProcessor", "do_pad": True}, "pad"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_folder(tmp_path_factory.mktemp("model"))


@pytest.fixture
def files(folder):
    """The folder's small files as they were, once more after the test."""
    before = {file: file.read_bytes() for file in folder.glob("*.json")}
    yield folder
    for file in folder.glob("*.json"):
        file.unlink()
    for file, content in before.items():
        file.write_bytes(content)


def write(folder, name, content):
    (folder / name).write_text(json.dumps(content))


@pytest.mark.parametrize("kind", PREPROCESSORS)
@pytest.mark.parametrize("base", ["lmsys/vicuna-7b-v1.5", "another"])
def test_pictures_are_prepared_as_the_file_says(files, kind, base):
    import transformers

    settings, mode = PREPROCESSORS[kind]
    config = json.loads((files / "config.json").read_text())
    config["text_config"]["_name_or_path"] = base
    write(files, "config.json", config)
    write(files, "preprocessor_config.json", settings)
    vlm = minivlm.load(files, device="cpu")
    if mode == "crop" and base != "another":  # LLaVA 1.5 was trained otherwise than its file on the hub says
        mode = "pad"
    assert vlm.preprocessing.mode == mode
    theirs = getattr(transformers, settings["image_processor_type"] + "Pil").from_pretrained(files)
    if mode == "pad":
        theirs = transformers.LlavaImageProcessorPil(**{**settings, "do_pad": True})
    for size in ((20, 14), (9, 31)):
        expected = theirs(picture(0, *size), return_tensors="pt")["pixel_values"][0]
        assert torch.equal(vlm.pixels(picture(0, *size)), expected)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"do_center_crop": False}, r"crops none \(do_center_crop: false\).*choose an image_mode: crop, pad, stretch"),
        ({"size": {"shortest_edge": SIZE, "longest_edge": 2 * SIZE}}, r"is not implemented \(longest_edge"),
        ({"size": {"longest_edge": SIZE}}, r"is not implemented \(longest_edge"),
        ({"size": {"max_pixels": SIZE}}, r"is not implemented \(max_pixels"),
        ({"do_resize": None}, "do_resize: null in the preprocessor file is not implemented"),
        ({"do_rescale": None}, "do_rescale: null in the preprocessor file is not implemented"),
        ({"image_processor_type": "SiglipImageProcessor", "size": SIZE, "crop_size": SIZE}, "which scales both sides"),
        ({"do_resize": 0}, "do_resize: 0 in the preprocessor file is not implemented"),
        ({"do_normalize": "no"}, 'do_normalize: "no" in the preprocessor file'),
    ],
)
def test_preprocessors_that_make_something_else_are_refused(files, changes, words):
    write(files, "preprocessor_config.json", CLIP | changes)
    with pytest.raises(ConfigError, match=words):
        minivlm.load(files, device="cpu")


def test_the_image_processor_within_processor_config_comes_first(files):
    import transformers

    write(files, "preprocessor_config.json", CLIP)
    write(files, "processor_config.json", {"image_processor": CLIP | {"size": BOTH_SIDES}})
    with pytest.warns(UserWarning, match=r"preprocessor_config.json is not read: processor_config.json beside it has"):
        vlm = minivlm.load(files, device="cpu")
    theirs = transformers.CLIPImageProcessorPil.from_pretrained(files)
    assert torch.equal(vlm.pixels(picture(0)), theirs(picture(0), return_tensors="pt")["pixel_values"][0])


@pytest.mark.parametrize(
    ("how", "error", "words"),
    [
        ({"device": "gpu"}, CheckpointError, "found 'gpu'"),
        ({"device": "cpu", "dtype": "int8"}, CheckpointError, "found 'int8'"),
        ({"device": "cpu", "image_mode": "squash"}, ConfigError, "found 'squash'"),
        ({"device": "cpu", "image_mode": ""}, ConfigError, "found ''"),
        ({"device": "cpu", "template": ""}, PromptError, "no template ''"),
    ],
)
def test_arguments_of_load_that_do_not_exist(tmp_path, how, error, words):
    with pytest.raises(error, match=words):
        minivlm.load(tiny_folder(tmp_path), **how)


def test_folders_that_cannot_be_loaded(tmp_path):
    with pytest.raises(CheckpointError, match="no folder"):
        minivlm.load(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError):
        minivlm.load(tmp_path / "empty")
    folder = tiny_folder(tmp_path / "model")
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ConfigError, match=r"has no tokenizer\.json"):
        minivlm.load(folder)


NAMES = {
    "too long": ("a" * 300, "cannot be looked up: File name too long"),
    "a path too long": ("x/" + "b" * 5000, "cannot be looked up: File name too long"),
    "of an unknown user": ("~nosuchuser/model", "'~nosuchuser', but this machine knows no such user"),
}


@pytest.mark.skipif(os.name == "nt", reason="Windows has other limits")
@pytest.mark.parametrize("kind", NAMES)
def test_names_that_the_system_cannot_look_up_are_sentences(tmp_path, kind):
    name, words = NAMES[kind]
    for error, look in (
        (CheckpointError, minivlm.load),
        (CheckpointError, tower_from_open_clip),
        (CheckpointError, inspect_checkpoint),
        (CheckpointError, lambda name: find_or_download(name, revision="main")),
        (EvaluationError, open_dataset),
        (EvaluationError, lambda name: open_dataset(f"coco:{name}")),
        (EvaluationError, read_captions),
        (EvaluationError, Lexicon.from_file),
    ):
        with pytest.raises(error, match=words) as told:
            look(name)
        assert len(str(told.value)) < 250
    with pytest.raises(ImageError) as told:
        load_image(name)
    assert len(str(told.value)) < 400


def test_a_folder_that_may_not_be_read_is_a_sentence(folder, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, rights: False)  # who runs these tests may read everything
    with pytest.raises(CheckpointError, match="may not be read: its rights do not allow it. Ask its owner"):
        minivlm.load(folder, device="cpu")


def test_what_the_system_refuses_to_look_up_is_a_sentence(tmp_path, monkeypatch):
    def closed(path, **how):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("pathlib.Path.stat", closed)
    with pytest.raises(CheckpointError, match="cannot be looked up: Permission denied. Check the path and its rights"):
        minivlm.load(tmp_path / "model")


@pytest.mark.parametrize("dtype", ["bfloat16", torch.float32])
def test_the_dtype_asked_for_is_computed_in(tmp_path, dtype):
    vlm = minivlm.load(tiny_folder(tmp_path), device="cpu", dtype=dtype)
    assert vlm.dtype == (torch.bfloat16 if dtype == "bfloat16" else dtype)
    assert vlm.logits(picture(0), "Is there a dog?").dtype == vlm.dtype
    assert vlm.ask(picture(0), "Is there a dog?", **ASK).tokens
