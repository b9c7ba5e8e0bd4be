"""Loading, saving and making checkpoints: six layouts, filled-in defaults, dtypes, strictness, the report card."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from huggingface_hub.errors import LocalEntryNotFoundError
from safetensors.torch import load_file, save_file

from minivlm.checkpoints import inspect_checkpoint, load_checkpoint, openclip
from minivlm.checkpoints.configs import parse_config
from minivlm.checkpoints.maker import make_random_checkpoint
from minivlm.checkpoints.names import NAMING_SCHEMES, recognise
from minivlm.checkpoints.openclip import to_open_clip
from minivlm.checkpoints.save import save_checkpoint
from minivlm.errors import CheckpointError, ConfigError
from support.tiny_hf import IMAGE_TOKEN, prompt_and_pictures, tiny_hf_checkpoint, tiny_hf_model, write_checkpoint

DATA = os.environ.get("MINIVLM_TEST_DATA")
needs_data = pytest.mark.skipif(not DATA, reason="MINIVLM_TEST_DATA does not point at the reference data")


@pytest.fixture(scope="module")
def reference():
    return tiny_hf_model()


def hub_config(model: torch.nn.Module) -> dict:
    return json.loads(model.config.to_json_string())


def original_config(model: torch.nn.Module) -> dict:
    """The same model's config.json as the original LLaVA writes it."""
    text = hub_config(model)["text_config"]
    keys = ["vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"]
    keys += ["num_key_value_heads", "max_position_embeddings", "rms_norm_eps", "hidden_act"]
    return {key: text[key] for key in keys} | {
        "model_type": "llava",
        "mm_hidden_size": 64,
        "mm_projector_type": "mlp2x_gelu",
        "mm_vision_select_feature": "patch",
        "mm_vision_select_layer": -2,
        "mm_vision_tower": "openai/clip-vit-large-patch14-336",
        "mm_use_im_start_end": False,
        "image_aspect_ratio": "pad",
        "rope_scaling": None,
    }


def in_layout(letter: str, model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The model's tensors as each family of writers names them, spelled out by hand from the names in memory (D)."""
    vision = {"A": "vision_tower.vision_model.", "B": "vision_tower.", "C": "model.vision_tower.vision_model."}
    vision |= {"D": "model.vision_tower.", "F": "model.vision_tower.vision_tower.vision_model."}
    text = dict.fromkeys("AB", "language_model.model.") | dict.fromkeys("CD", "model.language_model.")
    text |= dict.fromkeys("EF", "model.")
    head = "language_model.lm_head." if letter in "AB" else "lm_head."
    first, second = {
        "A": ("multi_modal_projector.linear_1.", "multi_modal_projector.linear_2."),
        "B": ("multi_modal_projector.linear_1.", "multi_modal_projector.linear_2."),
        "C": ("model.multi_modal_projector.linear_1.", "model.multi_modal_projector.linear_2."),
        "D": ("model.multi_modal_projector.linear_1.", "model.multi_modal_projector.linear_2."),
        "E": ("model.mm_projector.0.", "model.mm_projector.2."),
        "F": ("model.mm_projector.0.", "model.mm_projector.2."),
    }[letter]
    renamed = {}
    for key, tensor in model.state_dict().items():
        key = key.replace("model.multi_modal_projector.linear_1.", first)
        key = key.replace("model.multi_modal_projector.linear_2.", second)
        if key.startswith("model.vision_tower."):
            if letter == "E":
                continue
            key = key.replace("model.vision_tower.", vision[letter])
        renamed[key.replace("model.language_model.", text[letter]).replace("lm_head.", head)] = tensor.clone()
    return renamed


def tower_file(path: Path, model: torch.nn.Module, naming: str) -> Path:
    """The model's vision tower alone, in one of the namings that towers are published in."""
    own = {k.removeprefix("model.vision_tower."): t for k, t in model.state_dict().items() if "vision_tower" in k}
    visual = to_open_clip({f"vision.{key}": tensor for key, tensor in own.items()}) | {"proj": torch.zeros(64, 8)}
    tensors = {
        "transformers": {f"vision_model.{key}": tensor for key, tensor in own.items()},
        "open_clip": {f"visual.{key}": t for key, t in visual.items()} | {"token_embedding.weight": torch.zeros(2, 2)},
        "open_clip without its prefix": visual,
    }[naming]
    save_file({key: tensor.contiguous().clone() for key, tensor in tensors.items()}, path)
    return path


def logits_of(model, tokens, pixels):
    with torch.no_grad():
        return model(tokens, pixels).logits


def placed(tokens: torch.Tensor, image_token: int) -> torch.Tensor:
    """The same prompt for a model whose image slots have another id."""
    return tokens.masked_fill(tokens == IMAGE_TOKEN, image_token)


@pytest.mark.parametrize("letter", "ABCDEF")
def test_all_layouts_give_the_same_logits(tmp_path, reference, letter):
    config = hub_config(reference) if letter in "ABCD" else original_config(reference)
    folder = write_checkpoint(tmp_path / "model", in_layout(letter, reference), config)
    tower = tower_file(tmp_path / "tower.safetensors", reference, "open_clip") if letter == "E" else None
    loaded = load_checkpoint(folder, vision_tower=tower)
    tokens, pixels = prompt_and_pictures()
    expected = reference(input_ids=tokens, pixel_values=pixels).logits
    ours = logits_of(loaded.model, placed(tokens, loaded.config.image_token_index), pixels)
    assert loaded.report.layout == letter
    assert (ours - expected).abs().max() < 1e-5 * expected.abs().max()  # fp32, as in test_parity


@pytest.mark.parametrize("naming", ["transformers", "open_clip", "open_clip without its prefix"])
def test_a_separate_tower_in_any_naming(tmp_path, reference, naming):
    folder = write_checkpoint(tmp_path / "model", in_layout("E", reference), original_config(reference))
    tower = tower_file(tmp_path / "tower.safetensors", reference, naming)
    loaded = load_checkpoint(folder, vision_tower=tower).model.state_dict()
    for key, tensor in reference.model.vision_tower.state_dict().items():
        assert torch.equal(loaded[f"vision.{key}"], tensor), key


def test_a_checkpoint_without_a_tower_says_where_to_get_one(tmp_path, reference, monkeypatch):
    def not_cached(*_, **__):
        raise LocalEntryNotFoundError("nothing cached")

    monkeypatch.setattr(openclip, "hf_hub_download", not_cached)
    folder = write_checkpoint(tmp_path / "model", in_layout("E", reference), original_config(reference))
    with pytest.raises(CheckpointError, match='vision_tower="openai"'):
        load_checkpoint(folder)
    another = {"mm_vision_tower": "openai/clip-vit-base-patch32"}
    other = write_checkpoint(tmp_path / "other", in_layout("E", reference), original_config(reference) | another)
    with pytest.raises(CheckpointError, match="names 'openai/clip-vit-base-patch32'; only clip-vit-large-patch14-336"):
        load_checkpoint(other)


@pytest.mark.parametrize("named", ["a/siglip", "laion/CLIP-ViT-H-14-laion2B", "laion/clip-vit-large-patch14", "", None])
def test_a_tower_of_which_the_tensors_do_not_tell_everything_is_refused(tmp_path, reference, named):
    """Its activation and its heads, which OpenAI's have alike; even if the tower is in the files."""
    config = original_config(reference) | {"mm_vision_tower": named}
    folder = write_checkpoint(tmp_path, in_layout("F", reference), config)
    with pytest.raises(ConfigError, match="mm_vision_tower must be a"):
        load_checkpoint(folder)


def test_a_second_tower_is_refused(tmp_path, reference):
    folder = write_checkpoint(tmp_path / "model", in_layout("A", reference), hub_config(reference))
    with pytest.raises(CheckpointError, match="tower of its own"):
        load_checkpoint(folder, vision_tower=tower_file(tmp_path / "tower.safetensors", reference, "open_clip"))


def test_what_is_dropped_is_reported_with_its_reason(tmp_path, reference):
    extra = {
        "model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4),
        "model.vision_tower.vision_tower.vision_model.embeddings.position_ids": torch.arange(10)[None],
        "model.image_newline": torch.ones(32),
    }
    folder = write_checkpoint(tmp_path / "model", in_layout("F", reference) | extra, original_config(reference))
    report = load_checkpoint(folder).report
    assert report.dropped.keys() == extra.keys()
    assert "rope_theta" in report.card()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.pop("language_model.model.norm.weight"), "1 missing: language_model.model.norm.weight"),
        (lambda t: t.update({"extra.weight": torch.ones(2)}), "1 unexpected: extra.weight"),
        (
            lambda t: t.update({"language_model.model.norm.bias": torch.ones(2)}),
            "1 unexpected: language_model.model.norm",
        ),
        (lambda t: t.update({"language_model.model.norm.weight": torch.ones(1)}), r"has \(1,\), expected \(32,\)"),
        (lambda t: t.pop("language_model.lm_head.weight"), "only where tie_word_embeddings is true"),
        (
            lambda t: t.update(
                {"language_model.model.embed_tokens.weight": t["language_model.model.embed_tokens.weight"].T}
            ),
            r"has \(32, 64\), expected \(64, 32\)",
        ),
        (
            lambda t: t.update({"language_model.model.norm.weight": torch.ones(32, dtype=torch.int8)}),
            "language_model.model.norm.weight is I8",
        ),
    ],
    ids=["missing", "unexpected", "another bias", "broadcastable", "no head", "transposed", "integers"],
)
def test_strictness(tmp_path, reference, change, words):
    tensors = in_layout("A", reference)
    change(tensors)
    folder = write_checkpoint(tmp_path / "model", tensors, hub_config(reference))
    for read in (load_checkpoint, inspect_checkpoint):
        with pytest.raises(CheckpointError, match=words):
            read(folder)


def test_strict_errors_name_the_layout_and_at_most_ten_keys(tmp_path, reference):
    tensors = {key: t for key, t in in_layout("A", reference).items() if "mlp" not in key}
    folder = write_checkpoint(tmp_path / "model", tensors, hub_config(reference))
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(folder)
    assert "layout A" in str(caught.value)
    assert "and 11 more" in str(caught.value)  # 3 × 3 of the decoder's and 3 × 4 of the tower's, less the ten named


def test_a_hub_checkpoint_without_its_tower(tmp_path, reference):
    folder = write_checkpoint(tmp_path / "model", in_layout("E", reference), hub_config(reference))
    with pytest.raises(CheckpointError, match=r"55 missing: vision\.embeddings\.class_embedding"):
        load_checkpoint(folder)
    tower = tower_file(tmp_path / "tower.safetensors", reference, "open_clip")
    assert load_checkpoint(folder, vision_tower=tower).report.tensors == len(reference.state_dict())


def test_configurations_of_absurd_size_are_refused_before_a_model_is_built(tmp_path, reference):
    for change, words in (
        ({"num_hidden_layers": 10**12}, "describes"),
        ({"hidden_size": 2**40}, "cannot be built|fit"),
        ({"num_attention_heads": 2**40, "head_dim": 2**40}, "cannot be built"),
        ({"vocab_size": 2**63}, "between -1,099,511,627,776 and"),
    ):
        config = hub_config(reference)
        config["text_config"] |= change
        folder = write_checkpoint(tmp_path / "-".join(change), in_layout("A", reference), config)
        with pytest.raises((CheckpointError, ConfigError), match=words):
            load_checkpoint(folder)


def test_loading_does_not_wait_for_the_compiler(tmp_path, reference):
    """torch imports its compiler to draw random numbers on the meta device: seconds, for values nobody sees."""
    folder = write_checkpoint(tmp_path / "model", in_layout("A", reference), hub_config(reference))
    code = "import sys; from minivlm.checkpoints import load_checkpoint as load; load(sys.argv[1]); "
    code += "sys.exit('torch._dynamo' in sys.modules or 'transformers' in sys.modules or 'open_clip' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code, str(folder)], check=False).returncode == 0


def test_names_of_no_layout(tmp_path, reference):
    folder = write_checkpoint(tmp_path / "model", {"some.weight": torch.ones(2)}, hub_config(reference))
    with pytest.raises(CheckpointError, match="none of the layouts A, B, C, D, E, F"):
        load_checkpoint(folder)


# As a config.json says that the head is the embedding, and where transformers looks for it.
TIED = {
    "top": lambda config: config | {"tie_word_embeddings": True},
    "text": lambda config: config | {"text_config": config["text_config"] | {"tie_word_embeddings": True}},
}
HEAD, EMBEDDING = "language_model.lm_head.weight", "language_model.model.embed_tokens.weight"


@pytest.mark.parametrize("where", TIED)
@pytest.mark.parametrize("files", ["another head", "the same head", "a head alone"])
def test_a_tied_head_in_the_files_is_what_transformers_makes_of_it(tmp_path, reference, where, files):
    tensors = in_layout("A", reference)
    if files == "the same head":
        tensors[HEAD] = tensors[EMBEDDING].clone()
    if files == "a head alone":
        del tensors[EMBEDDING]
    folder = write_checkpoint(tmp_path / "model", tensors, TIED[where](hub_config(reference)))
    loaded = load_checkpoint(folder)
    tokens, pixels = prompt_and_pictures()
    with torch.no_grad():
        theirs = type(reference).from_pretrained(folder)(input_ids=tokens, pixel_values=pixels).logits
    assert (logits_of(loaded.model, tokens, pixels) - theirs).abs().max() < 1e-5 * theirs.abs().max()
    own = files == "another head"
    assert loaded.config.tie_word_embeddings is not own
    assert (loaded.model.lm_head.weight is loaded.model.text.embed_tokens.weight) is not own
    assert (HEAD in loaded.report.dropped) == (files == "the same head")
    assert ("the files hold another head" in loaded.report.card()) is own


def test_a_tied_head_in_original_files_is_kept_where_it_differs(tmp_path, reference):
    config = original_config(reference) | {"tie_word_embeddings": True}
    loaded = load_checkpoint(write_checkpoint(tmp_path / "model", in_layout("F", reference), config))
    assert torch.equal(loaded.model.lm_head.weight, reference.lm_head.weight)
    assert "the files hold another head" in inspect_checkpoint(tmp_path / "model").card()


def test_a_tied_head_of_another_shape_or_dtype_is_a_sentence_or_kept(tmp_path, reference):
    config = TIED["top"](hub_config(reference))
    tensors = in_layout("A", reference)
    wide = write_checkpoint(tmp_path / "wide", tensors | {HEAD: torch.zeros(65, 32)}, config)
    with pytest.raises(CheckpointError, match=r"lm_head.weight has \(65, 32\), expected \(64, 32\)"):
        load_checkpoint(wide)
    half = write_checkpoint(tmp_path / "half", tensors | {HEAD: tensors[HEAD].half()}, config)
    assert torch.equal(load_checkpoint(half, dtype="float32").model.lm_head.weight, tensors[HEAD].half().float())


@pytest.mark.parametrize("key", ["a\x1b]0;x\x07", "a\r\x9b2J", "a\u202eb"], ids=["title", "C1", "right to left"])
def test_names_never_command_the_terminal(tmp_path, reference, key):
    tensors = in_layout("A", reference)
    extra = {f"{key}.rotary_emb.inv_freq": torch.ones(4)}
    card = inspect_checkpoint(write_checkpoint(tmp_path / "a", tensors | extra, hub_config(reference))).card()
    assert "rotary_emb.inv_freq: the rotary" in card
    with pytest.raises(CheckpointError, match="1 unexpected: a") as caught:
        inspect_checkpoint(write_checkpoint(tmp_path / "b", tensors | {key: torch.ones(4)}, hub_config(reference)))
    for text in (card.replace("\n", ""), str(caught.value)):
        assert text.isprintable()
        assert ascii(key)[1:-1] in text


@pytest.mark.parametrize(
    ("key", "shape", "words"),
    [
        ("visual.transformer.resblocks.0.attn.in_proj_weight", (), r"in_proj_weight has \(\), expected \(192, 64\)"),
        ("visual.transformer.resblocks.1.attn.in_proj_weight", (2, 64), r"1\.attn.*\(2, 64\), expected \(192, 64\)"),
        ("visual.transformer.resblocks.0.attn.in_proj_bias", (193,), r"in_proj_bias has \(193,\), expected \(192,\)"),
        ("visual.conv1.weight", (), r"conv1.weight has \(\), expected \(width"),
        ("visual.transformer.resblocks.x", (1,), "unexpected: vision.transformer.resblocks.x"),
        ("visual.attn.in_proj_weight", (1,), "unexpected: vision.attn.in_proj_weight"),
    ],
)
def test_a_tower_of_other_shapes_is_refused(tmp_path, reference, key, shape, words):
    folder = write_checkpoint(tmp_path / "model", in_layout("E", reference), original_config(reference))
    tower = tower_file(tmp_path / "tower.safetensors", reference, "open_clip")
    save_file(load_file(tower) | {key: torch.ones(shape)}, tower)
    with pytest.raises(CheckpointError, match=words):
        load_checkpoint(folder, vision_tower=tower)


def test_nonfinite_weights_are_refused(tmp_path, reference):
    tensors = in_layout("A", reference)
    tensors["language_model.model.norm.weight"][3:5] = float("nan")
    folder = write_checkpoint(tmp_path / "model", tensors, hub_config(reference))
    for read in (load_checkpoint, inspect_checkpoint):
        with pytest.raises(CheckpointError, match=r"text.norm.weight holds 2 values"):
            read(folder)
    assert load_checkpoint(folder, allow_nonfinite=True).model.text.norm.weight.isnan().sum() == 2


@pytest.mark.parametrize("saved", [torch.float16, torch.bfloat16, torch.float32])
def test_dtypes_on_a_cpu(tmp_path, reference, saved):
    tensors = {key: tensor.to(saved) for key, tensor in in_layout("A", reference).items()}
    folder = write_checkpoint(tmp_path / "model", tensors, hub_config(reference))
    for asked, given in [
        (None, torch.float32),
        ("bf16", torch.bfloat16),
        (torch.float32, torch.float32),
        ("float16", torch.bfloat16),
    ]:
        loaded = load_checkpoint(folder, dtype=asked)
        assert {parameter.dtype for parameter in loaded.model.parameters()} == {given}
        assert any("slower on a CPU" in note for note in loaded.report.notes) == (asked == "float16")


@pytest.mark.parametrize("wrong", ["int8", torch.int8, "bfloat"])
def test_other_dtypes_and_devices_are_refused(tmp_path, reference, wrong):
    folder = write_checkpoint(tmp_path / "model", in_layout("A", reference), hub_config(reference))
    with pytest.raises(CheckpointError, match="dtype must be one of"):
        load_checkpoint(folder, dtype=wrong)
    for device in ("gpu", "cuda:99", "meta", *([] if torch.backends.mps.is_available() else ["mps"])):
        with pytest.raises(CheckpointError, match=device):
            load_checkpoint(folder, device=device)


def test_a_matching_dtype_is_mapped_and_written_to_in_private(tmp_path, reference):
    folder = write_checkpoint(tmp_path / "model", in_layout("A", reference), hub_config(reference))
    before = (folder / "model.safetensors").read_bytes()
    model = load_checkpoint(folder, memory="mapped").model
    assert not any(parameter.requires_grad for parameter in model.parameters())
    model.text.norm.weight.fill_(7.0)
    assert (folder / "model.safetensors").read_bytes() == before
    addresses = sorted(parameter.data_ptr() for parameter in model.parameters())
    assert addresses[-1] - addresses[0] < len(before)  # one mapping holds them all


LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}


@pytest.mark.parametrize(
    "overrides",
    [
        {},
        {"family": "mistral", "text": {"num_key_value_heads": 2}},
        {"family": "qwen2", "text": {"num_key_value_heads": 2}},
        {"text": {"attention_bias": True}},
        {"tie_word_embeddings": True, "vision_feature_layer": [-2, 0], "vision_feature_select_strategy": "full"},
        {"text": {"head_dim": 16, "rope_parameters": {"rope_type": "default", "rope_theta": 500.0}}},
        {"text": {"rope_parameters": LLAMA3 | {"original_max_position_embeddings": 8}}},
        {"family": "qwen2", "tower": "siglip", "tie_word_embeddings": True, "vision_feature_layer": -1},
    ],
    ids=["llama", "mistral", "qwen2", "biases", "tied", "head width and rope", "llama 3.1's rope", "siglip"],
)
def test_what_we_save_transformers_loads(tmp_path, overrides):
    original = tiny_hf_checkpoint(tmp_path / "theirs", **overrides)
    loaded = load_checkpoint(tmp_path / "theirs")
    save_checkpoint(loaded.model, tmp_path / "ours", extra={"note": "kept"})
    again = type(original).from_pretrained(tmp_path / "ours").eval()
    tokens, pixels = prompt_and_pictures(patches=loaded.config.num_image_tokens)
    with torch.no_grad():
        expected = original(input_ids=tokens, pixel_values=pixels).logits
        assert torch.equal(again(input_ids=tokens, pixel_values=pixels).logits, expected)
    back = load_checkpoint(tmp_path / "ours")
    assert (back.report.layout, back.config) == ("A", loaded.config)
    assert json.loads((tmp_path / "ours/config.json").read_text())["note"] == "kept"
    assert sorted(path.name for path in (tmp_path / "ours").iterdir()) == ["config.json", "model.safetensors"]


PLAIN_ROPE, SHORT = {"rope_type": "default", "rope_theta": 500.0}, {"original_max_position_embeddings": 8}


@pytest.mark.parametrize(
    ("fields", "theta", "original"),
    [
        ({"rope_scaling": PLAIN_ROPE, "rope_theta": 70.0}, 500, None),
        ({"rope_scaling": PLAIN_ROPE, "rope_parameters": LLAMA3}, 500, None),
        ({"rope_scaling": LLAMA3 | SHORT, "rope_parameters": PLAIN_ROPE}, 5e5, 8),
        ({"rope_scaling": {"rope_type": "default"}, "rope_parameters": PLAIN_ROPE}, 10000, None),
        ({"rope_parameters": LLAMA3 | SHORT, "original_max_position_embeddings": 16}, 5e5, 16),
    ],
)
def test_which_rotary_positions_count_is_what_transformers_makes_of_it(tmp_path, fields, theta, original):
    """Logits within 1e-5 of the largest; another theta or length moves them by more than a hundredth."""
    reference = tiny_hf_checkpoint(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    for name in ("rope_parameters", "rope_scaling", "rope_theta"):
        config["text_config"].pop(name, None)
    config["text_config"] |= fields
    (tmp_path / "config.json").write_text(json.dumps(config))
    loaded = load_checkpoint(tmp_path, dtype="float32")
    text = loaded.config.text_config
    assert text.rope_theta == theta
    assert (text.rope_scaling and text.rope_scaling.original_max_position_embeddings) == original
    tokens, pixels = prompt_and_pictures(patches=loaded.config.num_image_tokens, words=40)
    with torch.no_grad():
        expected = type(reference).from_pretrained(tmp_path).eval()(input_ids=tokens, pixel_values=pixels).logits
    assert (loaded.model(tokens, pixels).logits - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_saving_over_the_files_one_has_loaded(tmp_path, reference):
    folder = write_checkpoint(tmp_path / "model", in_layout("A", reference), hub_config(reference))
    model = load_checkpoint(folder).model
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    (folder / "model.safetensors").chmod(0o640)
    save_checkpoint(model, folder)
    assert (folder / "model.safetensors").stat().st_mode & 0o777 == 0o640
    for name, tensor in load_checkpoint(folder).model.state_dict().items():
        assert torch.equal(tensor, before[name])
        assert torch.equal(model.state_dict()[name], before[name])


def test_random_checkpoints_are_reproducible_sharded_and_finite(tmp_path, reference):
    config = parse_config(hub_config(reference), "config.json").config
    for name, seed in (("one", 1), ("same", 1), ("other", 2)):
        make_random_checkpoint(tmp_path / name, config, dtype=torch.float32, seed=seed, shard_size=100_000)
    shards = sorted(path.name for path in (tmp_path / "one").glob("*.safetensors"))
    assert len(shards) > 2
    for shard in shards:
        assert (tmp_path / "one" / shard).stat().st_size < 110_000
        assert (tmp_path / "one" / shard).read_bytes() == (tmp_path / "same" / shard).read_bytes()
        assert (tmp_path / "one" / shard).read_bytes() != (tmp_path / "other" / shard).read_bytes()
    tokens, pixels = prompt_and_pictures()
    ours = logits_of(load_checkpoint(tmp_path / "one").model, tokens, pixels)
    theirs = type(reference).from_pretrained(tmp_path / "one")(input_ids=tokens, pixel_values=pixels)
    assert (ours - theirs.logits).abs().max() < 1e-5 * theirs.logits.abs().max()
    with pytest.raises(CheckpointError, match="holds weights already"):
        make_random_checkpoint(tmp_path / "one", config)
    with pytest.raises(CheckpointError, match="no known size"):
        make_random_checkpoint(tmp_path / "x", "llava-2")


def test_the_report_accounts_for_every_tensor_and_byte(tmp_path, reference):
    folder = write_checkpoint(tmp_path / "model", in_layout("A", reference), hub_config(reference))
    report = inspect_checkpoint(folder)
    tensors = load_file(folder / "model.safetensors")
    assert sum(group.count for group in report.groups) == len(tensors) == report.tensors
    assert sum(group.bytes for group in report.groups) == sum(t.nbytes for t in tensors.values()) == report.bytes
    assert report.parameters == sum(t.numel() for t in tensors.values())
    assert json.loads(json.dumps(report.as_dict()))["layout"] == "A"
    for group in report.groups:
        assert group.module in report.card()


def test_shards_are_loaded_as_one(tmp_path, reference):
    reference.save_pretrained(tmp_path / "model", max_shard_size="100KB")
    loaded = load_checkpoint(tmp_path / "model")
    assert len(loaded.report.shards) > 2
    for name, tensor in reference.model.language_model.state_dict().items():
        assert torch.equal(loaded.model.state_dict()[f"text.{name}"], tensor)


def test_the_first_of_equal_layouts_is_recognised():
    assert [layout.letter for layout in NAMING_SCHEMES] == list("ABCDEF")
    assert recognise(["nothing", "known"]) is None
    assert recognise(["model.layers.0.mlp.up_proj.weight"]).letter == "E"


# --- config.json ------------------------------------------------------------------------------------------------------


def shape_from(**config):
    return parse_config({"model_type": "llava"} | config, "config.json")


def test_sparse_configs_are_filled_from_their_family():
    config = shape_from(text_config={"model_type": "mistral"}, vision_config=None).config
    assert (config.text_config.intermediate_size, config.text_config.num_key_value_heads) == (14336, 8)
    assert (config.text_config.sliding_window, config.text_config.rms_norm_eps) == (4096, 1e-6)
    assert (config.vision_config.hidden_size, config.vision_config.patch_size) == (1024, 14)
    assert shape_from(vision_config={}).config.vision_config.hidden_size == 768
    assert shape_from(text_config={"num_key_value_heads": None}).config.text_config.num_key_value_heads == 32
    reading = shape_from(text_config={"model_type": "qwen2", "sliding_window": 9})
    assert reading.config.text_config.sliding_window is None
    assert reading.config.text_config.attention_bias is not reading.config.text_config.attention_output_bias
    assert "text_config.intermediate_size = 22016" in reading.filled


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ({"model_type": "llama", "sliding_window": 2047}, ["2047"]),  # phi-3's file
        ({"model_type": "qwen2", "sliding_window": 9}, ["9"]),  # not asked for
        ({"model_type": "qwen2", "sliding_window": 9, "use_sliding_window": False}, []),  # the file says so itself
        ({"model_type": "mistral", "sliding_window": 9}, []),  # used
        ({"model_type": "llama"}, []),
    ],
)
def test_a_window_that_is_not_used_is_said(text, said):
    sentences = shape_from(text_config=text).unused
    assert len(sentences) == len(said)
    assert all(word in sentence for word, sentence in zip(said, sentences, strict=True))


def test_newer_and_older_spellings():
    new = shape_from(
        text_config={"rope_parameters": {"rope_theta": 5e5, "rope_type": "default"}}, image_token_id=7, dtype="float16"
    )
    old = shape_from(text_config={"rope_theta": 5e5, "rope_scaling": None}, image_token_index=7, torch_dtype="float16")
    assert new.config == old.config


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"model_type": "llava_next"}, "LLaVA 1.6"),
        ({"model_type": "llava_llama"}, "'llava'"),
        ({"model_type": "qwen2_vl"}, "'llava'"),
        ({"model_type": 3}, "a string"),
        ({"quantization_config": {"bits": 4}}, "quantised copy"),
        ({"use_image_newline_parameter": True}, "LLaVA 1.6"),
        ({"vision_config": {"model_type": "pixtral"}}, "'pixtral'.*vision towers of CLIP .* and SigLIP"),
        ({"vision_config": {"model_type": "siglip_vision_model"}}, "'default' takes away the class token"),
        ({"vision_config": {"hidden_act": "relu"}}, "hidden_act"),
        ({"vision_config": {"hidden_size": 100}}, "must be divisible by num_attention_heads"),
        ({"vision_config": {"num_channels": 1}}, "three channels"),
        ({"vision_config": []}, "an object"),
        ({"text_config": "llama"}, "an object"),
        ({"text_config": {"model_type": "gemma"}}, "one of llama, mistral, qwen2"),
        ({"text_config": {"hidden_act": "gelu"}}, "silu"),
        ({"text_config": {"mlp_bias": True}}, "mlp_bias"),
        ({"text_config": {"rope_scaling": {"type": "linear", "factor": 2}}}, "plain rotary"),
        ({"text_config": {"rope_parameters": {"rope_type": "llama3"}}}, r"rope_parameters\.factor must be a number"),
        (
            {"text_config": {"rope_parameters": LLAMA3 | {"high_freq_factor": 1.0}}},
            "high_freq_factor must be larger than low_freq_factor 1.0",
        ),
        ({"text_config": {"rope_parameters": LLAMA3 | {"rope_type": "yarn"}}}, "plain rotary"),
        ({"text_config": {"rope_parameters": {"full_attention": {"rope_type": "default"}}}}, "plain rotary"),
        ({"text_config": {"hidden_size": 4095}}, "divisible"),
        ({"text_config": {"hidden_size": 4096.0}}, "a whole number"),
        ({"text_config": {"hidden_size": True}}, "a whole number"),
        ({"text_config": {"hidden_size": None}}, "a whole number"),
        ({"text_config": {"rope_theta": 10**310}}, "rope_theta must be a number between"),
        ({"text_config": {"num_attention_heads": 0}}, "num_attention_heads must be a positive whole number, found 0"),
        ({"text_config": {"num_attention_heads": 0, "head_dim": 64}}, "num_attention_heads must be a positive whole"),
        ({"text_config": {"rms_norm_eps": -1}}, "rms_norm_eps must be a number above 0 and at most 1, found -1"),
        ({"text_config": {"rms_norm_eps": 1e308}}, "rms_norm_eps must be a number between"),
        ({"text_config": {"rope_theta": 1e308}}, "rope_theta must be a number between"),
        ({"vision_config": {"layer_norm_eps": -1}}, "layer_norm_eps must be a number above 0 and at most 1, found -1"),
        ({"vision_config": {"layer_norm_eps": 2}}, "layer_norm_eps must be a number above 0 and at most 1, found 2"),
        ({"vision_config": {"num_attention_heads": 0}}, "VisionConfig.num_attention_heads must be a positive"),
        ({"vision_config": {"patch_size": 0}}, "VisionConfig.patch_size must be a positive number, found 0"),
        ({"text_config": {"num_hidden_layers": -1}}, "positive"),
        ({"text_config": {"num_key_value_heads": 5}}, "num_key_value_heads"),
        ({"text_config": {"head_dim": 7}}, "even"),
        ({"text_config": {"model_type": "mistral", "sliding_window": 0}}, "sliding_window"),
        ({"text_config": {"rms_norm_eps": "1e-5"}}, "a number"),
        ({"image_token_index": 40000}, "embedding, which has 32000"),
        ({"image_token_index": -200}, "embedding"),
        ({"image_token_index": 5, "image_token_id": 6}, "image_token_id"),
        ({"projector_hidden_act": "relu"}, "exact GELU"),
        ({"vision_feature_layer": -99}, "out of range"),
        ({"vision_feature_layer": []}, "list of them"),
        ({"vision_feature_layer": [1.5]}, "list of them"),
        ({"vision_feature_layer": "-2"}, "whole number"),
        ({"vision_feature_select_strategy": "some"}, "default, full"),
        ({"tie_word_embeddings": "no"}, "true or false"),
    ],
)
def test_configs_that_are_refused(config, words):
    with pytest.raises(ConfigError, match=words) as told:
        shape_from(**config)
    assert str(told.value).startswith("config.json: ")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"image_aspect_ratio": "anyres"}, "LLaVA 1.6"),
        ({"mm_patch_merge_type": "spatial_unpad"}, "LLaVA 1.6"),
        ({"mm_projector_type": "linear"}, "mlp2x_gelu"),
        ({"mm_use_im_start_end": True}, "start and end"),
        ({"mm_vision_select_feature": "cls"}, "patch and cls_patch"),
        ({"rope_scaling": {"type": "linear"}}, "plain rotary"),
    ],
)
def test_original_configs_that_are_refused(tmp_path, reference, change, words):
    folder = write_checkpoint(tmp_path / "m", in_layout("F", reference), original_config(reference) | change)
    with pytest.raises(ConfigError, match=words):
        load_checkpoint(folder)


@needs_data
@pytest.mark.parametrize(
    ("name", "tensors", "parameters"),
    [
        ("llava-1.5-7b-hf/config.json", 686, 7_063_427_072),
        ("configs/llava-hf__llava-1.5-13b-hf.config.json", 758, 13_351_494_656),
        ("configs/llava-hf__bakLlava-v1-hf.config.json", 686, None),
        ("configs/bczhou__tiny-llava-v1-hf.config.json", 596, None),
        ("configs/llava-hf__llava-interleave-qwen-0.5b-hf.config.json", 715, 864_031_264),
        ("configs/xtuner__llava-llama-3-8b-v1_1-transformers.config.json", 686, 16_710_545_408 // 2),
    ],
)
def test_published_configs_have_their_published_size(name, tensors, parameters):
    from minivlm.checkpoints.plan import blank_model, expected_shapes

    model = blank_model(parse_config(json.loads((Path(DATA) / name).read_text()), name).config)
    assert len(expected_shapes(model)) == tensors
    assert parameters in (None, sum(parameter.numel() for parameter in model.parameters()))


@needs_data
@pytest.mark.parametrize("name", ["llava-v1.6-mistral-7b-hf", "llava-v1.6-vicuna-7b-hf"])
def test_published_configs_that_are_not_supported(name):
    text = (Path(DATA) / f"configs/llava-hf__{name}.config.json").read_text()
    with pytest.raises(ConfigError, match=r"LLaVA 1\.6"):
        parse_config(json.loads(text), name)


@needs_data
def test_published_indexes_have_every_name():
    from minivlm.checkpoints.plan import blank_model, expected_shapes

    config = json.loads((Path(DATA) / "llava-1.5-7b-hf/config.json").read_text())
    expected = set(expected_shapes(blank_model(parse_config(config, "config.json").config)))
    hub = json.loads((Path(DATA) / "llava-1.5-7b-hf/model.safetensors.index.json").read_text())["weight_map"]
    original = json.loads((Path(DATA) / "liuhaotian-llava-v1.5-7b/pytorch_model.bin.index.json").read_text())
    names = recognise(hub)
    assert {names.canonical(key) for key in hub} == expected
    keys = [key for key in original["weight_map"] if not key.endswith("inv_freq")]
    layout = recognise(keys)
    assert (names.letter, layout.letter) == ("A", "E")
    assert {layout.canonical(key) for key in keys} == {name for name in expected if not name.startswith("vision.")}
    assert [layout.key(layout.canonical(key)) for key in keys] == keys
