"""Files that are damaged, hostile or not there: each gets a sentence, and nothing is read outside its folder."""

import hashlib
import json
import os
import random
import shutil
import struct
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from minivlm.checkpoints import download, inspect_checkpoint, load_checkpoint, read_json_file
from minivlm.checkpoints.folder import open_folder, read_headers
from minivlm.errors import CheckpointError, ConfigError, MinivlmError
from support.tiny_hf import tiny_hf_checkpoint


@pytest.fixture
def folder(tmp_path):
    tiny_hf_checkpoint(tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def sharded(tmp_path):
    from support.tiny_hf import tiny_hf_model

    tiny_hf_model().save_pretrained(tmp_path / "sharded", max_shard_size="100KB")
    return tmp_path / "sharded"


def safetensors_bytes(header, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def tensor(shape, offsets, dtype="F32") -> dict:
    return {"a": {"dtype": dtype, "shape": shape, "data_offsets": offsets}}


# --- which files are read ---------------------------------------------------------------------------------------------


def test_folders_that_are_none(tmp_path):
    with pytest.raises(CheckpointError, match=r"no folder.*minivlm download"):
        load_checkpoint(tmp_path / "nowhere")
    (tmp_path / "file").write_text("x")
    with pytest.raises(CheckpointError, match="is a file"):
        load_checkpoint(tmp_path / "file")
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match=r"holds no weights.*found nothing"):
        load_checkpoint(tmp_path / "empty")


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "model.ckpt", "ggml-model-q4_k.gguf", "model.pt2"])
def test_other_formats_are_refused_with_advice(tmp_path, name):
    (tmp_path / name).write_bytes(b"\x80\x02.")
    with pytest.raises(CheckpointError, match=f"{name}.*safetensors copy"):
        load_checkpoint(tmp_path)


def test_other_formats_beside_safetensors_are_never_opened(folder):
    os.mkfifo(folder / "pytorch_model.bin")  # opening it would wait for ever
    assert load_checkpoint(folder).report.tensors


def test_the_single_file_comes_before_the_index(folder, sharded):
    (folder / "model.safetensors.index.json").write_text("not even json")
    assert any("was not" in note for note in load_checkpoint(folder).report.notes)
    (sharded / "model.safetensors").symlink_to(folder / "model.safetensors")
    assert load_checkpoint(sharded).report.shards == ("model.safetensors",)


def test_shards_without_an_index(sharded):
    (sharded / "model.safetensors.index.json").unlink()
    with pytest.raises(CheckpointError, match=r"neither model\.safetensors nor"):
        load_checkpoint(sharded)


def test_missing_shards_are_an_incomplete_download(sharded):
    first = sorted(sharded.glob("*.safetensors"))[0]
    first.rename(first.with_name(first.name + ".incomplete"))
    with pytest.raises(CheckpointError, match="download is incomplete"):
        load_checkpoint(sharded)
    for path in sharded.glob("*.safetensors*"):
        path.rename(path.with_name("x.incomplete"))
    with pytest.raises(CheckpointError, match="download is incomplete"):
        load_checkpoint(sharded)


def test_links_are_followed_as_in_the_hub_cache(folder, tmp_path):
    snapshot = tmp_path / "snapshot"
    snapshot.mkdir()
    for path in folder.iterdir():
        (snapshot / path.name).symlink_to(path)
    assert load_checkpoint(snapshot).report.layout == "B"


@pytest.mark.parametrize(
    "name",
    [
        "../x.safetensors",
        "/etc/passwd",
        "a/b.safetensors",
        "C:\\x.safetensors",
        "x\0.safetensors",
        "x.bin",
        "",
        ".safetensors",
        3,
        None,
    ],
)
def test_an_index_names_plain_files_of_its_own_folder(sharded, name):
    path = sharded / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    index["weight_map"]["language_model.lm_head.weight"] = name
    path.write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match="plain"):
        load_checkpoint(sharded)


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"weight_map": []}', '{"weight_map": {}}', '{"weight_map": {"a": ', "\xff"]
)
def test_an_index_that_is_none(sharded, text):
    (sharded / "model.safetensors.index.json").write_text(text, encoding="latin-1")
    with pytest.raises(CheckpointError, match=r"index\.json"):
        load_checkpoint(sharded)


def test_an_index_of_another_model(sharded):
    path = sharded / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    shards = sorted(set(index["weight_map"].values()))
    key = "language_model.lm_head.weight"
    index["weight_map"][key] = next(shard for shard in shards if shard != index["weight_map"][key])
    path.write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match=f"disagree about 2 tensors: {key}"):
        load_checkpoint(sharded)


# --- damaged safetensors ----------------------------------------------------------------------------------------------

DAMAGED = {
    "empty": (b"", "empty or cut short"),
    "seven bytes": (b"1234567", "empty or cut short"),
    "header cut": (struct.pack("<Q", 200) + b"{}", "cut short inside its header"),
    "header of 2^63 bytes": (struct.pack("<Q", 2**63) + b"{}", "more than 100 MB"),
    "not UTF-8": (safetensors_bytes(b"\xff\xfe{"), "not UTF-8"),
    "not JSON": (safetensors_bytes(b"{]"), "not the JSON"),
    "a list": (safetensors_bytes([]), "not the JSON"),
    "deep nesting": (safetensors_bytes(b"[" * 20_000), "not the JSON"),
    "NaN": (safetensors_bytes(b'{"a": NaN}'), "not the JSON"),
    "data cut": (safetensors_bytes(tensor([4], [0, 16]), b"1" * 10), "6 bytes are missing"),
    "data too long": (safetensors_bytes(tensor([4], [0, 16]), b"1" * 20), "size is not what its header says"),
    "a hole": (safetensors_bytes(tensor([4], [4, 20]), b"1" * 20), "damaged"),
    "begin behind end": (safetensors_bytes(tensor([4], [16, 0]), b"1" * 16), "damaged"),
    "negative": (safetensors_bytes(tensor([4], [-16, 0]), b"1" * 16), "damaged"),
    "shape of another size": (safetensors_bytes(tensor([5], [0, 16]), b"1" * 16), "damaged"),
    "overflow": (safetensors_bytes(tensor([2**40, 2**40], [0, 16]), b"1" * 16), "damaged"),
    "unknown dtype": (safetensors_bytes(tensor([4], [0, 16], "F33"), b"1" * 16), "unknown dtype"),
    "no tensors": (safetensors_bytes({}), "no tensors"),
    "metadata alone": (safetensors_bytes({"__metadata__": {"format": "pt"}}), "no tensors"),
    "huge and empty": (safetensors_bytes(tensor([0, 2**62], [0, 0])), "none of the layouts"),
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_damaged_files(folder, kind):
    data, words = DAMAGED[kind]
    (folder / "model.safetensors").write_bytes(data)
    with pytest.raises(CheckpointError, match=words):
        load_checkpoint(folder)


def test_shards_that_are_no_files(folder):
    path = folder / "model.safetensors"
    path.unlink()
    path.mkdir()
    with pytest.raises(CheckpointError, match="found a folder"):
        load_checkpoint(folder)
    path.rmdir()
    os.mkfifo(path)
    with pytest.raises(CheckpointError, match="device or pipe"):
        load_checkpoint(folder)
    path.unlink()
    path.symlink_to("/dev/zero")
    with pytest.raises(CheckpointError, match="device or pipe"):
        load_checkpoint(folder)
    path.unlink()
    path.symlink_to(path)
    with pytest.raises(CheckpointError):
        load_checkpoint(folder)


def test_eight_bit_floats_are_refused_before_they_are_read(folder):
    tensors = {key: torch.zeros(header.shape) for key, header in read_headers(folder / "model.safetensors").items()}
    tensors["language_model.model.norm.weight"] = torch.zeros(32).to(torch.float8_e4m3fn)
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"F8_E4M3.*F16, BF16, F32, F64"):
        load_checkpoint(folder)


def complaint_about(folder) -> str:
    """The sentence with which a checkpoint is refused, empty if it loads; any other exception fails the test."""
    try:
        load_checkpoint(folder)
    except MinivlmError as error:
        return str(error)
    return ""


def test_three_hundred_mutations_load_or_are_refused_with_a_sentence(folder):
    """Bytes of header and data at random, lengths cut or grown: a MinivlmError or a model, nothing else."""
    path, chance, refused = folder / "model.safetensors", random.Random(0), 0
    original = path.read_bytes()
    header = 8 + struct.unpack("<Q", original[:8])[0]
    for _ in range(300):
        data = bytearray(original)
        for _ in range(chance.randint(1, 4)):
            data[chance.randrange(header if chance.random() < 0.9 else len(data))] = chance.randrange(256)
        cut = chance.choice([0, 0, 0, chance.randrange(len(data))])
        path.write_bytes(data[: len(data) - cut])
        refused += len(complaint_about(folder)) > 40
    assert 150 < refused < 300


def test_headers_do_not_read_weights(folder):
    """A file of 4 GB that has a hole for its data opens at once."""
    header = safetensors_bytes(tensor([1_000_000_000], [0, 4_000_000_000]))
    (folder / "model.safetensors").write_bytes(header)
    os.truncate(folder / "model.safetensors", len(header) + 4_000_000_000)
    assert open_folder(folder).tensors["a"].bytes == 4_000_000_000


def test_files_that_cannot_be_mapped(folder):
    """More than any address space holds."""
    header = safetensors_bytes(tensor([2**55], [0, 2**57]))
    (folder / "model.safetensors").write_bytes(header)
    with pytest.raises(CheckpointError, match="bytes are missing"):
        load_checkpoint(folder)


# --- JSON -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "cannot be read as JSON"),
        ("{", "cannot be read as JSON"),
        ("[1]", "object"),
        ("3", "object"),
        ('{"a": NaN}', "NaN is not"),
        ('{"a": -Infinity}', "-Infinity is not"),
        ('{"a": 1e999}', "1e999 is not"),
        ('{"a": 1, "a": 2}', "'a' stands twice"),
        ('{"b": {"a": 1, "a": 2}}', "'a' stands twice"),
        ("[" * 100_000, "cannot be read as JSON"),
        ('{"a": ' + "9" * 5000 + "}", "cannot be read as JSON"),
        ("\xff\xfe", "cannot be read as JSON"),
    ],
)
def test_json_that_is_refused(tmp_path, text, words):
    path = tmp_path / "config.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigError, match=words) as caught:
        read_json_file(path, ConfigError)
    assert str(path) in str(caught.value)
    assert len(str(caught.value)) < 600


def test_json_of_any_utf8_and_not_of_any_size(tmp_path):
    (tmp_path / "a b ü.json").write_text('\ufeff{"ü": 1}', encoding="utf-8")
    assert read_json_file(tmp_path / "a b ü.json") == {"ü": 1}
    with (tmp_path / "large.json").open("wb") as file:
        file.truncate(50_000_001)
    with pytest.raises(CheckpointError, match="50,000,001 bytes"):
        read_json_file(tmp_path / "large.json")
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_json_file(tmp_path / "none.json")


def test_a_checkpoint_without_its_config(folder):
    (folder / "config.json").unlink()
    with pytest.raises(ConfigError, match=r"config\.json is missing"):
        inspect_checkpoint(folder)


# --- the hub ----------------------------------------------------------------------------------------------------------


COMMIT = "c0ffee" + "0" * 34


def put_in_cache(cache: Path, name: str, folder: Path, revision: str) -> Path:
    """Lay `folder` out as the hub's client does: blobs, a snapshot of links, and a note of the revision's commit."""
    root = cache / f"models--{name.replace('/', '--')}"
    snapshot = root / "snapshots" / COMMIT
    for file in (path for path in folder.rglob("*") if path.is_file()):
        blob, link = root / "blobs" / hashlib.sha1(file.read_bytes()).hexdigest(), snapshot / file.relative_to(folder)
        for path in (blob, link):
            path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, blob)
        link.symlink_to(os.path.relpath(blob, link.parent))
    if revision != COMMIT:
        note = root / "refs" / revision
        note.parent.mkdir(parents=True, exist_ok=True)
        note.write_text(COMMIT)
    return snapshot


class FakeHub:
    """Answers as huggingface_hub's HfApi does, and remembers what is fetched: `folder`, into `cache` if given."""

    def __init__(self, sizes=None, error=None, cache=None, folder=None):
        self.sizes, self.error, self.cache, self.folder, self.fetched = sizes, error, cache, folder, []

    def __call__(self):
        return self

    def model_info(self, name, revision=None, files_metadata=False):
        from types import SimpleNamespace

        if self.error:
            raise self.error
        files = [SimpleNamespace(rfilename=file, size=size) for file, size in self.sizes.items()]
        return SimpleNamespace(siblings=files, sha=COMMIT)

    def snapshot_download(self, name, *, revision=None, allow_patterns=None):
        self.fetched.append((name, revision, sorted(allow_patterns)))
        return put_in_cache(self.cache, name, self.folder, revision or "main") if self.cache else "/fetched"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


@pytest.fixture
def hub(monkeypatch, cache):
    def install(fake):
        monkeypatch.setattr(download, "HfApi", fake)
        monkeypatch.setattr(download, "snapshot_download", fake.snapshot_download)
        return fake

    return install


def test_only_safetensors_and_small_files_are_fetched(hub):
    sizes = {"model-1.safetensors": 10, "config.json": 3, "pytorch_model.bin": 10, "train.py": 1, "x/a.safetensors": 1}
    fake = hub(FakeHub(sizes | {"huge.json": 60_000_000, "tokenizer.model": 5, "chat_template.jinja": 1}))
    assert str(download.find_or_download("owner/model", revision="v1")) == "/fetched"
    assert fake.fetched == [("owner/model", "v1", ["chat_template.jinja", "config.json", "model-1.safetensors"])]


@pytest.mark.parametrize("revision", [None, "v1", COMMIT])
def test_what_was_fetched_is_found_in_the_cache(hub, cache, folder, revision):
    """The hub also has a config in a subfolder, which is not fetched and not missed."""
    fake = hub(FakeHub({"model.safetensors": 10, "config.json": 3, "sub/x.json": 1}, cache=cache, folder=folder))
    fetched = download.find_or_download("owner/model", revision=revision)
    assert download.find_or_download("owner/model", revision=revision) == fetched
    assert fake.fetched == [("owner/model", revision, ["config.json", "model.safetensors"])]
    assert download.find_in_cache("owner/model", COMMIT) == fetched
    assert download.find_in_cache("owner/model", "another") is None
    assert load_checkpoint(fetched).report.layout == "B"


def test_hub_errors_are_sentences(hub, folder):
    assert download.find_or_download(folder) == folder
    for name in ("./nowhere", "a/b/c", "model", "https://huggingface.co/a/b"):
        with pytest.raises(CheckpointError, match="no folder"):
            download.find_or_download(name)
    hub(FakeHub(error=ConnectionError("no route")))
    with pytest.raises(CheckpointError, match=r"^There is no folder weights/tiny2, and .*could not be reached"):
        download.find_or_download("weights/tiny2")
    with pytest.raises(CheckpointError, match=r"could not be reached.*Go online"):
        download.find_or_download("owner/model")
    hub(FakeHub({"pytorch_model.bin": 10, "config.json": 3}))
    with pytest.raises(CheckpointError, match=r"no safetensors files.*llava-hf/llava-1\.5-7b-hf"):
        download.find_or_download("owner/model")
    hub(FakeHub({"model.safetensors": 10**18}))
    with pytest.raises(CheckpointError, match="GB free"):
        download.find_or_download("owner/model")


@pytest.mark.parametrize("damage", ["no shard", "no config", "no index", "half an index"])
def test_an_incomplete_snapshot_is_fetched_again(hub, cache, sharded, damage):
    hub(FakeHub({"model.safetensors": 10, "config.json": 3}))
    snapshot = put_in_cache(cache, "owner/model", sharded, "main")
    assert download.find_or_download("owner/model") == snapshot
    file = {"no shard": next(snapshot.glob("*.safetensors")), "no config": snapshot / "config.json"}
    file = file.get(damage, snapshot / "model.safetensors.index.json")
    if damage == "half an index":
        file.write_bytes(file.read_bytes()[:100])
    else:
        file.unlink()
    assert download.find_in_cache("owner/model") is None
    assert str(download.find_or_download("owner/model")) == "/fetched"
