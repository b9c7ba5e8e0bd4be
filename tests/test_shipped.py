"""The models that come with the package, by their names; planted ones say what they are wherever they appear."""

from pathlib import Path

import pytest

import minivlm
from minivlm import CheckpointError, ConfigError
from minivlm.checkpoints.checkpoint_report import PLANTED as NOTE
from minivlm.cli import main as cli
from minivlm.inference import shipped
from minivlm.inference.shipped import (
    HEALTHY,
    HEALTHY_SINKS,
    PLANTED,
    SHIPPED,
    TINY,
    folder_here,
    is_shipped,
    shipped_model,
)

pytestmark = pytest.mark.weights


@pytest.mark.parametrize("name", SHIPPED)
def test_a_name_stands_for_a_model_that_comes_along(name):
    vlm = minivlm.load(name, device="cpu")
    assert (vlm.name, Path(vlm.report.path)) == (f"minivlm/{name}", shipped_model(name))
    assert (NOTE in vlm.report.notes) == (name != TINY)


def test_no_name_is_the_first_of_them():
    assert minivlm.load(device="cpu").name == f"minivlm/{TINY}"


def test_a_folder_goes_before_a_shipped_name(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    Path(PLANTED).mkdir()
    assert not is_shipped(PLANTED)
    assert folder_here(PLANTED) == Path(PLANTED)


@pytest.mark.parametrize("name", [None, PLANTED, "."])
def test_a_revision_of_what_has_none_is_refused(name):
    with pytest.raises(ConfigError, match="only a name on the hub has revisions"):
        minivlm.load(name, device="cpu", revision="main")


@pytest.mark.parametrize("command", ["check", "download"])
def test_commands_refuse_a_revision_of_what_has_none(command, capsys):
    assert cli.main([command, PLANTED, "--revision", "main"]) == 1
    assert "only a name on the hub has revisions" in " ".join(capsys.readouterr().err.split())


def test_a_missing_one_is_told_how_to_make_it(monkeypatch):
    monkeypatch.setattr(shipped, "__file__", str(Path("/nowhere/minivlm/inference/shipped.py")))
    with pytest.raises(CheckpointError, match=r"make the model with `minivlm train`\.$"):
        shipped_model()
    with pytest.raises(CheckpointError, match=r"make the model with `minivlm train planted-drift`\.$"):
        shipped_model(HEALTHY)
    with pytest.raises(CheckpointError, match=r"make the model with `minivlm train planted-sinks`\.$"):
        shipped_model(HEALTHY_SINKS)


def test_a_link_that_leads_nowhere_is_told_apart(monkeypatch, tmp_path):
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / TINY).symlink_to(tmp_path / "gone")
    monkeypatch.setattr(shipped, "__file__", str(tmp_path / "minivlm" / "inference" / "shipped.py"))
    with pytest.raises(CheckpointError, match=r"is a link to .*gone, where no model is.*--copy-weights"):
        shipped_model()


def test_commands_take_the_names(capsys, tmp_path):
    assert cli.main(["check", PLANTED]) == 0
    assert NOTE.split(":")[0] in " ".join(capsys.readouterr().out.split())
    assert cli.main(["download", PLANTED]) == 0
    assert capsys.readouterr().out.strip() == str(shipped_model(PLANTED))
    assert cli.main(["models"]) == 0
    listed = capsys.readouterr().out
    assert all(name in listed for name in SHIPPED)


def test_a_short_name_that_was_never_downloaded(capsys, monkeypatch):
    monkeypatch.setattr(shipped, "find_in_cache", lambda name, revision: None)
    assert cli.main(["check", "llava-1.5-7b"]) == 1
    assert "Fetch it with `minivlm download llava-1.5-7b`" in " ".join(capsys.readouterr().err.split())


def test_the_demo_says_that_a_drift_was_planted(capsys, tmp_path):
    command = ["demo", "--model", PLANTED, "--scenes", "1", "--seed", "3", "--out", str(tmp_path)]
    assert cli.main(command) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert NOTE in printed
    assert f"minivlm demo --model {PLANTED}" in printed
