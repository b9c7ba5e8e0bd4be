"""Other systems, as far as this one can imitate them: narrow consoles, and what Windows lacks."""

import errno
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from minivlm import shell
from minivlm.cli import main as cli
from minivlm.cli import terminal

REPOSITORY = Path(__file__).parents[1]
NARROW = ("ascii", "cp1252", "cp437")  # the C locale; a pipe and a console of Windows


# --- consoles ---------------------------------------------------------------------------------------------------------


def narrow_console(monkeypatch, encoding: str) -> list[io.TextIOWrapper]:
    """From here on stdout and stderr are as Python opens them: they refuse what the encoding lacks."""
    streams = [io.TextIOWrapper(io.BytesIO(), encoding=encoding) for _ in range(2)]
    monkeypatch.setattr(sys, "stdout", streams[0])
    monkeypatch.setattr(sys, "stderr", streams[1])
    return streams


def written(stream: io.TextIOWrapper) -> str:
    stream.flush()
    return stream.buffer.getvalue().decode(stream.encoding)


@pytest.mark.parametrize("encoding", NARROW)
@pytest.mark.parametrize("command", [*cli.COMMANDS, "evaluate chair", "evaluate pope", "course start", "course grade"])
def test_every_help_can_be_printed_anywhere(monkeypatch, encoding, command):
    out, _ = narrow_console(monkeypatch, encoding)
    with pytest.raises(SystemExit) as ended:
        cli.main([*command.split(), "--help"])
    assert ended.value.code == 0
    assert "usage: " in written(out)


@pytest.mark.parametrize("encoding", NARROW)
def test_a_name_that_the_console_lacks_does_not_hide_the_sentence(monkeypatch, encoding):
    _, error = narrow_console(monkeypatch, encoding)
    assert cli.main(["check", "nowhere/Bär → 猫"]) == 1
    assert "nowhere" in written(error)


@pytest.mark.parametrize("encoding", NARROW)
def test_doctor_prints_anywhere(monkeypatch, encoding):
    out, _ = narrow_console(monkeypatch, encoding)
    assert cli.main(["doctor"]) == 0
    assert "shipped model" in written(out)


# --- Windows ----------------------------------------------------------------------------------------------------------

WITHOUT_POSIX = """
import importlib, os, pkgutil, sys
import torch, PIL.Image, huggingface_hub, safetensors.torch, matplotlib.pyplot, tokenizers, simplemma, einops
for name in ("fcntl", "resource", "pwd", "grp", "termios"):
    sys.modules[name] = None
for name in ("O_NOFOLLOW", "O_NONBLOCK", "killpg", "getuid", "getpgid", "setsid", "sysconf", "sysconf_names", "nice"):
    delattr(os, name)
import minivlm, minivlm.cli.main
for module in pkgutil.walk_packages(minivlm.__path__, "minivlm."):
    alone = "minivlm.course.kit", "minivlm.__main__", "minivlm.evaluation.lmms_eval"
    if not module.name.startswith(alone):
        importlib.import_module(module.name)
for words in (["doctor"], ["demo", "--seed", "1", "--scenes", "1"], ["ask", "demo/scene-1.png", "Is there a dog?"]):
    assert minivlm.cli.main.main(words) == 0, words
"""


@pytest.mark.weights
@pytest.mark.slow
def test_doctor_demo_and_ask_need_nothing_that_windows_lacks(tmp_path):
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "HF_HUB_OFFLINE": "1", "PYTHONIOENCODING": "cp1252"}
    words = [sys.executable, "-c", WITHOUT_POSIX]
    done = subprocess.run(words, capture_output=True, text=True, env=environment, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    assert "Try next" in done.stdout


def test_words_are_quoted_as_the_shell_reads_them():
    assert shell.quoted("demo/scene-1.png", windows=False) == "demo/scene-1.png"
    assert shell.quoted("my demo/1.png", windows=False) == "'my demo/1.png'"
    assert shell.quoted(r"demo\scene-1.png", windows=True) == r"demo\scene-1.png"
    assert shell.quoted(r"my demo\1.png", windows=True) == r'"my demo\1.png"'


@pytest.mark.parametrize(
    ("variables", "windows", "colors"),
    [
        ({}, False, True),
        ({}, True, False),
        ({"WT_SESSION": "1"}, True, True),
        ({"TERM": "xterm"}, True, True),
        ({"WT_SESSION": "1", "NO_COLOR": "1"}, True, False),
        ({"TERM": "dumb"}, False, False),
    ],
)
def test_colors_only_where_they_are_obeyed(monkeypatch, variables, windows, colors):
    for name in ("NO_COLOR", "TERM", "WT_SESSION", "TERM_PROGRAM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert shell.shows_colors(windows) is colors


def test_a_closed_pipe_is_told_from_other_errors():
    invalid = OSError(errno.EINVAL, "Invalid argument")
    assert terminal.is_closed_pipe(BrokenPipeError())
    assert terminal.is_closed_pipe(invalid, windows=True)
    assert not terminal.is_closed_pipe(invalid, windows=False)
    assert not terminal.is_closed_pipe(OSError(errno.EINVAL, "Invalid argument", "a.png"), windows=True)
    assert not terminal.is_closed_pipe(ValueError(), windows=True)
