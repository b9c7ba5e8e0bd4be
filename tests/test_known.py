"""Models by short name, and folders that are no checkpoint: each gets the sentence that says what it is."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from minivlm import CheckpointError, ConfigError
from minivlm.checkpoints import download, load_checkpoint
from minivlm.checkpoints.configs import parse_config
from minivlm.checkpoints.known import BYTES, KNOWN_MODELS, hub_name
from minivlm.checkpoints.maker import KNOWN_SIZES, known_config
from minivlm.checkpoints.plan import blank_model
from minivlm.checkpoints.quantised import quantisable
from minivlm.cli import doctor
from minivlm.cli import main as cli
from minivlm.model import CLVA, EAH
from support.tiny_hf import tiny_hf_checkpoint


def test_short_names_stand_for_names_on_the_hub():
    assert hub_name("llava-interleave-qwen-0.5b") == "llava-hf/llava-interleave-qwen-0.5b-hf"
    assert hub_name("LLaVA-1.5-7B") == "llava-hf/llava-1.5-7b-hf"
    assert hub_name("somebody/else") == "somebody/else"
    assert len({model.name for model in KNOWN_MODELS}) == len(KNOWN_MODELS)
    assert [model.parameters for model in KNOWN_MODELS] == sorted(model.parameters for model in KNOWN_MODELS)


def test_parameters_are_those_of_the_models_of_known_sizes():
    listed = {model.name: model.parameters for model in KNOWN_MODELS}
    for name in KNOWN_SIZES:
        assert listed[name] == sum(part.numel() for part in blank_model(known_config(name)).parameters())


def test_what_can_be_quantised_is_counted_and_memory_follows():
    for model in KNOWN_MODELS:
        sizes = [model.memory(kind) for kind in BYTES]
        assert sizes == sorted(sizes, reverse=True)
        if model.name in KNOWN_SIZES:
            layers = dict(quantisable(blank_model(known_config(model.name))))
            assert model.matrices == sum(layer.weight.numel() for layer in layers.values())
    seven = next(model for model in KNOWN_MODELS if model.name == "llava-1.5-7b")
    assert seven.memory("int4") < 8e9 < seven.memory("int8") < 12e9 < seven.memory("bfloat16")


def test_doctor_names_the_largest_model_that_fits_and_in_which_weights():
    assert doctor.largest(int(1e9)) == {}
    assert doctor.largest(int(8e9)) == {"tiny-llava-v1": "bfloat16", "llava-1.5-7b": "int4"}
    assert doctor.largest(int(200e9)) == {"llava-1.5-13b": "bfloat16"}
    facts = {"problems": [], "shipped_model": "here", "gpus": [], "memory": {"free": int(8e9)}}
    cached = {"models": ["llava-1.5-7b"], "offline": True}
    assert doctor.what_next(facts | {"cache": cached})[-1].endswith("--model llava-1.5-7b --weights int4")


def test_a_short_name_is_fetched_by_its_name_on_the_hub(monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(download, "find_in_cache", lambda name, revision: asked.append(name) or tmp_path)
    assert download.find_or_download("llava-1.5-7b") == tmp_path
    assert asked == ["llava-hf/llava-1.5-7b-hf"]


def test_a_short_name_is_found_in_the_cache(monkeypatch):
    asked = []
    monkeypatch.setattr(download, "try_to_load_from_cache", lambda name, *_, **__: asked.append(name))
    assert download.find_in_cache("llava-1.5-7b") is None
    assert asked == ["llava-hf/llava-1.5-7b-hf"]


def test_a_folder_goes_before_a_short_name(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    Path("llava-1.5-7b").mkdir()
    assert download.find_or_download("llava-1.5-7b") == Path("llava-1.5-7b")


def test_an_unknown_name_is_told_where_names_are():
    with pytest.raises(CheckpointError, match="`minivlm models` lists"):
        download.find_or_download("llava-9")


def test_models_lists_what_is_known(capsys):
    assert cli.main(["models"]) == 0
    printed = capsys.readouterr().out
    assert "llava-interleave-qwen-0.5b  0.86 billion   1.7 GB" in printed
    assert "minivlm download llava-interleave-qwen-0.5b" in printed
    assert cli.main(["models", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    memory = facts["llava-interleave-qwen-0.5b"]["memory"]
    assert memory["bfloat16"] * 2 == memory["float32"]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 1728\n", "git-lfs pointer"),
        (b"<!DOCTYPE html>\n<html><head><title>Sign in</title>", "HTML page"),
    ],
)
def test_what_only_has_the_name_of_weights(tmp_path, content, sentence):
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError, match=sentence):
        load_checkpoint(tmp_path)


def test_a_lora_adapter_is_no_model(tmp_path):
    save_file({"base_model.lora_A.weight": torch.zeros(1)}, tmp_path / "adapter_model.safetensors")
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"LoRA adapter.*merge_and_unload"):
        load_checkpoint(tmp_path)


def test_weights_alone_are_told_what_is_missing(tmp_path):
    tiny_hf_checkpoint(tmp_path)
    (tmp_path / "config.json").unlink()
    with pytest.raises(ConfigError, match="weights alone do not say what model"):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("kind", "name"),
    [("qwen2_5_vl", "Qwen-VL"), ("smolvlm", "SmolVLM"), ("moondream1", "moondream"), ("llava_next", "LLaVA 1.6")],
)
def test_other_models_are_refused_by_name_with_one_to_use_instead(kind, name):
    with pytest.raises(ConfigError, match=rf"{name}.*llava-interleave-qwen-0\.5b"):
        parse_config({"model_type": kind, "text_config": {}, "vision_config": {}}, "config.json")


def test_what_the_defaults_of_both_methods_mean_for_the_small_llava():
    text = {"model_type": "qwen2", "num_hidden_layers": 24, "num_attention_heads": 16, "num_key_value_heads": 16}
    text |= {"hidden_size": 64, "intermediate_size": 64, "vocab_size": 152000}
    vision = {"model_type": "siglip_vision_model", "image_size": 384, "patch_size": 14}
    top = {"model_type": "llava", "image_token_index": 151646, "vision_feature_select_strategy": "full"}
    config = parse_config(top | {"text_config": text, "vision_config": vision}, "config.json").config
    assert EAH().resolve(config).threshold == pytest.approx(0.00161, abs=5e-6)
    clva = CLVA().resolve(config)
    assert (clva.noise_layers, clva.anchor_layers, clva.deep_layers) == (
        (1, 2, 3),
        tuple(range(10, 17)),
        tuple(range(19, 24)),
    )
