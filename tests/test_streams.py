"""stdin, stdout and stderr that are closed, full, or read by nobody: a sentence, an exit code, and nothing mixed up."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from minivlm.cli import terminal
from minivlm.cli.terminal import Stdout, named_stdout, remark
from support.tiny_model import picture, tiny_folder

pytestmark = [
    pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full, and a Unix shell"),
    pytest.mark.timeout(300),
]
CLOSED_STDOUT = "minivlm: stdout is closed, but results are printed there: "
CLOSED_STDIN = "minivlm: stdin is closed, but is to be read: "
FULL = "minivlm: stdout: No space left on device.\n"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("streams")
    tiny_folder(folder / "model")
    picture(0).save(folder / "a.png")
    return folder


def shell(words: str, place: Path, buffered: bool = True) -> subprocess.CompletedProcess:
    """What a shell makes of `minivlm WORDS`; `$M` is the model."""
    env = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    env |= {} if buffered else {"PYTHONUNBUFFERED": "1"}
    env |= {"M": str(place / "model"), "MINIVLM": f"{sys.executable} -m minivlm", "PYTHONPATH": str(package())}
    return subprocess.run(["sh", "-c", f"$MINIVLM {words}"], capture_output=True, text=True, env=env, cwd=place)


def package() -> Path:
    return Path(terminal.__file__).parents[2]


@pytest.mark.parametrize("buffered", [True, False])
@pytest.mark.parametrize(
    "words", ["doctor --json", "models", "course list", "ask a.png What --model $M --max-new-tokens 2"]
)
def test_a_full_disk_behind_stdout_is_said_once(place, words, buffered):
    ran = shell(f"{words} > /dev/full", place, buffered)
    assert ran.returncode == 1
    assert ran.stderr.endswith(FULL)
    assert ran.stderr.count("minivlm: ") == 1


@pytest.mark.parametrize("words", ["models", "ask a.png What --model $M", "chat --model $M < /dev/null"])
def test_a_closed_stdout_is_said_before_any_work(place, words):
    ran = shell(f"{words} >&-", place)
    assert (ran.returncode, ran.stdout) == (1, "")
    assert ran.stderr.startswith(CLOSED_STDOUT)
    assert ran.stderr.count("\n") == 1


@pytest.mark.parametrize("words", ["chat --model $M", "ask - What", "explore - What"])
def test_a_closed_stdin_is_said(place, words):
    ran = shell(f"{words} <&-", place)
    assert ran.returncode == 1
    assert ran.stderr.splitlines()[-1].startswith(CLOSED_STDIN)
    assert "Traceback" not in ran.stderr


def test_a_closed_stdin_that_is_not_read_does_not_matter(place):
    assert shell("course list <&-", place).returncode == 0


def test_with_a_closed_stderr_remarks_go_nowhere_and_results_are_whole(place):
    ran = shell("ask a.png 'What is it?' --model $M --max-new-tokens 2 --json 2>&-", place)
    assert ran.returncode == 0
    assert json.loads(ran.stdout)["finish"] in ("stop", "length")
    failed = shell("ask missing.png What --model $M 2>&-", place)
    assert (failed.returncode, failed.stdout) == (1, "")


def test_with_all_streams_closed_a_run_keeps_its_files_clean(place):
    """A file that is opened would get the number of a closed stream: what is written to stderr would go into it."""
    words = "evaluate chair --data scenes:0 --limit 2 --model $M --max-new-tokens 2 --out run"
    assert shell(f"{words} > out.txt <&- 2>&-", place).returncode == 0
    records = (place / "run" / "answers-0.jsonl").read_text().splitlines()
    assert [json.loads(record)["method"] for record in records] == ["plain", "plain"]
    assert (place / "run" / ".lock").read_bytes() == b""


def test_a_reader_that_has_seen_enough_is_no_error(place):
    ran = shell("models | head -c 1", place)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "n", "")


def test_other_errors_keep_their_own_names():
    class Full:
        def write(self, text):
            raise OSError(28, "No space left on device")

        def flush(self):
            raise BrokenPipeError

        encoding = "ascii"

    out = Stdout(Full())
    with pytest.raises(OSError, match="No space") as told:
        out.write("a")
    assert told.value.filename == "stdout"
    with pytest.raises(BrokenPipeError):
        out.flush()
    assert out.encoding == "ascii"
    with named_stdout():
        pass


def test_a_remark_without_stderr_does_not_go_to_stdout(monkeypatch, capsys):
    monkeypatch.setattr(sys, "stderr", None)
    remark("a remark")
    assert capsys.readouterr().out == ""
