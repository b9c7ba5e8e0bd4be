"""The table of fields: whole against transformers, true to the readers, silent about real files, else loud."""

import json
import os
import re
import shutil
import warnings
from collections import Counter
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest

import minivlm
from minivlm import ConfigError
from minivlm.checkpoints import field_table as tables
from minivlm.checkpoints.configs import parse_config
from minivlm.checkpoints.fields import check_fields
from minivlm.checkpoints.small_files import check_small_files, warn_of_spaces
from minivlm.inputs.image import ImagePreprocessing, default_mode
from support.tiny_hf import tiny_hf_config
from support.tiny_model import SIZE, tiny_folder

DATA = Path(os.environ.get("MINIVLM_TEST_DATA", "missing"))
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="MINIVLM_TEST_DATA does not point at the reference data")
ALL = {
    "config.json": tables.HUB_TOP,
    "config.json of the original LLaVA": tables.ORIGINAL,
    **{f"text_config of {family}": table for family, table in tables.TEXTS.items()},
    "vision_config": tables.TOWER,
    "rope_parameters": tables.ROPE,
    "model of tokenizer.json": tables.TOKENIZER_MODEL,
    **tables.FILES,
}
ROWS = [(file, name) for file, table in ALL.items() for name in table]
STRANGE = {"strange": 7}


def rows(*kinds: str) -> list[tuple[str, str]]:
    return [(file, name) for file, name in ROWS if ALL[file][name].kind in kinds]


# --- the table is whole ---------------------------------------------------------------------------------------------


def test_the_table_has_every_field_that_transformers_reads():
    import dataclasses

    import transformers
    from transformers.processing_utils import ImagesKwargs

    def fields(name: str) -> set[str]:
        return {field.name for field in dataclasses.fields(getattr(transformers, name))}

    read = {
        "config.json": fields("LlavaConfig") | {"image_token_id", "quantization_config", "per_layer_config"},
        "text_config of llama": fields("LlamaConfig"),
        "text_config of mistral": fields("MistralConfig"),
        "text_config of qwen2": fields("Qwen2Config"),
        "vision_config": fields("CLIPVisionConfig") | fields("SiglipVisionConfig") | {"tie_last_hidden_states"},
        "generation_config.json": set(transformers.GenerationConfig().to_dict()),
        "preprocessor_config.json": set(ImagesKwargs.__annotations__),
        "special_tokens_map.json": {*transformers.PreTrainedTokenizerFast.SPECIAL_TOKENS_ATTRIBUTES},
    }
    for file, names in read.items():
        assert {name for name in names if not name.startswith("_")} <= set(ALL[file]), file


def test_each_reason_is_given():
    for file, name in rows("refused", "said", "harmless"):
        assert len(ALL[file][name].because) > 5, (file, name)


def test_the_numbers_that_the_table_names():
    numbers = Counter(ALL[file][name].kind for file, name in ROWS)
    text = tables.__doc__ or ""
    assert {kind: int(number) for number, kind in re.findall(r"(\d+) (used|refused|said|harmless)", text)} == numbers


# --- the table is true ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("file", "name"), rows("refused"))
def test_what_is_refused(file, name):
    for value in (STRANGE, "strange", 7.5, ["strange"]):
        with pytest.raises(ConfigError, match=f"F: {name} is .*, which is not supported: "):
            check_fields({name: value}, ALL[file], "F")
    for value in ALL[file][name].allowed:
        check_fields({name: value}, ALL[file], "F")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("file", "name"), rows("said"))
def test_what_is_said(file, name):
    with pytest.raises(UserWarning, match=f"F: {name} is 7.5, which is not done: "):
        check_fields({name: 7.5}, ALL[file], "F")
    for value in ALL[file][name].allowed:
        check_fields({name: value}, ALL[file], "F")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("file", ALL)
def test_what_is_harmless_or_used_is_not_said_and_what_is_unknown_is(file):
    check_fields({name: STRANGE for where, name in rows("harmless", "used") if where == file}, ALL[file], "F")
    check_fields({"_note": 1, "unknown": None}, ALL[file], "F")
    with pytest.raises(UserWarning, match=r"F has fields .* does not use: unknown = 3, other = \['a'\]\. If the model"):
        check_fields({"unknown": 3, "other": ["a"]}, ALL[file], "F")


def whole_config(family: str, tower: str) -> dict:
    return json.loads(tiny_hf_config(family, tower=tower).to_json_string())


def is_read(read, data: dict, usual: object) -> bool:
    """Whether `read` makes something else of `data` than the usual, or refuses it."""
    try:
        return read(data) != usual
    except ConfigError:
        return True


def changed(config: dict, section: str, name: str) -> dict:
    value = {"rope_type": "yarn"} if name.startswith("rope_") else STRANGE
    return {**config, section: {**config[section], name: value}} if section else {**config, name: value}


SECTIONS = [("", "config.json", "llama", "clip"), ("vision_config", "vision_config", "qwen2", "siglip")]
SECTIONS += [("text_config", f"text_config of {family}", family, "clip") for family in tables.TEXTS]


@pytest.mark.parametrize(("section", "file", "family", "tower"), SECTIONS)
def test_harmless_fields_of_config_json_change_nothing_and_used_ones_do(section, file, family, tower):
    config = whole_config(family, tower)
    config["text_config"]["rope_theta"] = config["text_config"]["rope_parameters"].pop("rope_theta")
    if family == "qwen2":
        config["text_config"] |= {"use_sliding_window": True, "sliding_window": 64}
    reading = parse_config(config, "config.json")
    said = ("sliding_window",) if family == "llama" else ()  # not used, and the report says so
    elsewhere = {"bos_token_id", "eos_token_id", "pad_token_id", "image_aspect_ratio"}  # see the next tests
    elsewhere.add("original_max_position_embeddings")  # of Llama 3.1's positions alone, see test_checkpoints.py
    other_section = {"dtype", "torch_dtype", "tie_word_embeddings"} if section else set()  # those of the top count
    for name, verdict in ALL[file].items():
        strange = changed(config, section, name)
        if verdict.kind == "harmless":
            assert replace(parse_config(strange, "config.json"), unused=()) == reading, name
            assert (parse_config(strange, "config.json") != reading) == (name in said)
        elif verdict.kind == "used" and name not in elsewhere | other_section:
            assert is_read(lambda data: parse_config(data, "config.json"), strange, reading), name


@pytest.mark.parametrize("name", [name for name, row in tables.PREPROCESSOR.items() if row.kind == "used"])
def test_used_fields_of_the_preprocessor_file_are_read(name):
    settings = {"size": 24 if name == "default_to_square" else {"shortest_edge": 24}, "crop_size": 24}
    usual = ImagePreprocessing.from_config(settings)
    telling = {"do_pad": True, "image_aspect_ratio": "pad", "do_center_crop": False, "default_to_square": True}
    value = telling.get(name, "strange")
    assert is_read(ImagePreprocessing.from_config, {**settings, name: value}, usual)


def test_the_form_of_pictures_in_config_json_is_read():
    assert default_mode({}, {"image_aspect_ratio": "pad"}) != default_mode({}, {})


# --- through the door -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tiny_folder(tmp_path_factory.mktemp("model"))
    for name, content in (
        ("processor_config.json", {"processor_class": "LlavaProcessor", "image_token": "<image>"}),
        ("generation_config.json", {"eos_token_id": 2}),
        ("chat_template.json", {}),
    ):
        (folder / name).write_text(json.dumps(content))
    return folder


@pytest.fixture
def folder(whole, tmp_path):
    return Path(shutil.copytree(whole, tmp_path / "model"))


def edit(folder: Path, path: str, value: object) -> None:
    """Set a field of a file, such as `config.json text_config rope_parameters factor`."""
    name, *keys, last = path.split()
    content = json.loads((folder / name).read_text())
    within = content
    for key in keys:
        within = within.setdefault(key, {})
    within[last] = value
    (folder / name).write_text(json.dumps(content))


@pytest.mark.filterwarnings("error")
def test_a_folder_as_it_should_be_loads_in_silence(folder):
    minivlm.load(folder, device="cpu")


PLACES = ["config.json", "config.json text_config", "config.json vision_config", "tokenizer.json model"]
PLACES += ["config.json text_config rope_parameters", "processor_config.json", "processor_config.json image_processor"]
PLACES += [name for name in tables.FILES if name not in PLACES]


@pytest.mark.parametrize("place", PLACES)
def test_a_field_that_nobody_knows_is_a_warning_with_its_name_and_value(folder, place):
    if place.endswith("image_processor"):
        edit(folder, f"{place} size", {"height": SIZE, "width": SIZE})
    edit(folder, f"{place} novelty", 0.25)
    section = "".join(f"{name}." for name in place.split()[1:][-1:])
    file = place.split()[0]
    strict = place == "tokenizer.json"  # the library `tokenizers` refuses what it does not know, too
    with (
        pytest.warns(UserWarning, match=rf"{file} has fields .*: {section}novelty = 0.25\. If the model"),
        pytest.raises(ConfigError, match="not a tokenizer") if strict else nullcontext(),
    ):
        minivlm.load(folder, device="cpu")


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("config.json vision_config quantization_config", {"bits": 4}, "a quantised copy"),
        ("config.json text_config quantization_config", {"bits": 4}, "a quantised copy"),
        ("config.json text_config per_layer_config", {"0": {"head_dim": 4}}, "all layers here are alike"),
        ("config.json text_config partial_rotary_factor", 0.5, "whole heads rotate here"),
        ("config.json text_config layer_types", ["chunked_attention"], "each layer here sees all tokens"),
        ("config.json vision_config tie_last_hidden_states", True, "before its norm"),
        ("config.json vision_config num_channels", 1, "three channels"),
        ("preprocessor_config.json use_square_size", True, "not implemented"),
        ("preprocessor_config.json data_format", "channels_last", "pictures are read in three channels"),
        ("processor_config.json image_processor do_flip_channel_order", True, "not implemented"),
        ("tokenizer.json model dropout", 0.1, "it would split words by chance"),
    ],
)
def test_a_field_that_is_refused_is_refused_by_load(folder, path, value, words):
    edit(folder, path, value)
    with pytest.raises(ConfigError, match=f"{path.split()[0]}: .*{path.split()[-1]} is .*{words}"):
        minivlm.load(folder, device="cpu")


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("generation_config.json do_sample", True, "answers are greedy unless you ask for more"),
        ("generation_config.json repetition_penalty", 1.2, "no logits are changed"),
        ("generation_config.json stop_strings", ["END"], "give it with the question, as stop="),
        ("tokenizer_config.json add_eos_token", True, "no prompt here ends with the end of sequence"),
    ],
)
def test_a_field_that_is_not_done_is_said_by_load(folder, path, value, words):
    edit(folder, path, value)
    with pytest.warns(UserWarning, match=f"{path.split()[0]}: {path.split()[-1]} is .*{words}"):
        minivlm.load(folder, device="cpu")


@pytest.mark.parametrize("section", ["", " text_config"])
@pytest.mark.parametrize(("name", "value"), [("repetition_penalty", 5.0), ("num_beams", 3), ("suppress_tokens", [7])])
def test_settings_of_generation_in_config_json_count_where_no_other_file_has_them(folder, section, name, value):
    """As in transformers: beside a generation_config.json they are not read."""
    edit(folder, f"config.json{section} {name}", value)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        minivlm.load(folder, device="cpu")
    (folder / "generation_config.json").unlink()
    with pytest.warns(UserWarning, match=f"config.json: .*{name} is .* which is not done"):
        minivlm.load(folder, device="cpu")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("tokenizer_config.json added_tokens_decoder", {"7": {"content": "dog"}}),
        ("tokenizer_config.json extra_special_tokens", ["dog"]),
        ("tokenizer_config.json additional_special_tokens", ["dog"]),
        ("tokenizer_config.json sep_token", "dog"),
        ("tokenizer_config.json image_token", "dog"),
        ("special_tokens_map.json mask_token", "dog"),
    ],
)
def test_words_that_the_small_files_make_tokens_of_their_own_are_said(folder, path, value):
    definition = json.loads((folder / "tokenizer.json").read_text())
    vocab = definition["model"]["vocab"]
    word = next(word for word in vocab if len(word) == 2 and word.isalpha())
    if not (folder / path.split()[0]).exists():
        (folder / path.split()[0]).write_text("{}")
    edit(folder, path, json.loads(json.dumps(value).replace("dog", word)))
    with pytest.warns(UserWarning, match=f"make tokens of their own of {word}, which are words among others"):
        minivlm.load(folder, device="cpu")


def test_special_tokens_that_are_to_be_split_are_said(folder):
    edit(folder, "tokenizer_config.json split_special_tokens", True)
    with pytest.warns(UserWarning, match="split_special_tokens is True, which is not done"):
        minivlm.load(folder, device="cpu")


@pytest.mark.parametrize(("kind", "said"), [("BPE", False), ("Unigram", True), ("WordPiece", True), (None, True)])
def test_spaces_that_transformers_takes_away_are_said_for_the_tokenizers_for_which_it_does(tmp_path, kind, said):
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        warn_of_spaces(tmp_path, {"model": {"type": kind}}, {"clean_up_tokenization_spaces": True})
        warn_of_spaces(tmp_path, {"model": {"type": kind}}, {"clean_up_tokenization_spaces": False})
    assert len(told) == said


def test_an_adapter_beside_the_weights_is_said(folder):
    (folder / "adapter_config.json").write_text("{}")
    (folder / "adapter_model.safetensors").write_bytes(b"")
    with pytest.warns(UserWarning, match="has an adapter .adapter_config.json, adapter_model.safetensors."):
        minivlm.load(folder, device="cpu")


def test_an_inner_object_of_the_wrong_file_is_not_read(folder):
    """It is processor_config.json that has one."""
    usual = minivlm.load(folder, device="cpu").preprocessing
    edit(folder, "preprocessor_config.json image_processor", {"size": {"height": 99, "width": 99}})
    with pytest.warns(UserWarning, match="preprocessor_config.json has fields .* image_processor"):
        assert minivlm.load(folder, device="cpu").preprocessing == usual


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("tokenizer_config.json added_tokens_decoder", {"999": {"content": "<more>", "special": False}}),
        ("tokenizer_config.json extra_special_tokens", ["<more>"]),
        ("tokenizer_config.json pad_token", "<more>"),
        ("tokenizer_config.json sep_token", {"content": "<more>"}),
        ("tokenizer_config.json additional_special_tokens", [{"content": "<more>"}]),
        ("special_tokens_map.json additional_special_tokens", ["<more>"]),
        ("special_tokens_map.json extra_special_tokens", ["<more>"]),
        ("special_tokens_map.json cls_token", "<more>"),
        ("added_tokens.json <more>", 999),
    ],
)
def test_words_that_only_the_small_files_add_are_said(folder, path, value):
    if not (file := folder / path.split()[0]).exists():
        file.write_text("{}")
    edit(folder, path, value)
    with pytest.warns(UserWarning, match="name words that tokenizer.json does not have: <more>"):
        minivlm.load(folder, device="cpu")


# --- real files -----------------------------------------------------------------------------------------------------


@needs_data
@pytest.mark.filterwarnings("error")
def test_real_files_are_known_to_the_last_field(tmp_path):
    check_small_files(DATA / "llava-1.5-7b-hf")
    check_small_files(DATA / "liuhaotian-llava-v1.5-7b")
    configs = [file for file in (DATA / "configs").iterdir() if "v1.6" not in file.name]
    assert len(configs) > 4
    for file in configs:
        shutil.copy(file, tmp_path / "config.json")
        check_small_files(tmp_path)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("family", "tower"), [("llama", "clip"), ("mistral", "clip"), ("qwen2", "siglip")])
def test_what_transformers_writes_is_known_to_the_last_field(tmp_path, family, tower):
    (tmp_path / "config.json").write_text(json.dumps(whole_config(family, tower)))
    check_small_files(tmp_path)
