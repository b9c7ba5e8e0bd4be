"""What belongs to the user: links, pipes and files that are not ours are left as they are; what we write appears whole.

The strangers of support/strangers.py are laid where each of our files is expected. None of them may be changed, led
through, or waited for.
"""

import json
import os
import stat
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch

import minivlm
from minivlm.checkpoints import maker
from minivlm.checkpoints.save import save_checkpoint
from minivlm.checkpoints.shards import write_tensors
from minivlm.cli import main as cli
from minivlm.course.grade_table import lines_of
from minivlm.course.project import emptied_on_failure
from minivlm.errors import CheckpointError, ConfigError, CourseError, EvaluationError
from minivlm.evaluation.records import Recorder, cut_half_line, held, read_records, record_files
from minivlm.evaluation.runner import require_room, run
from minivlm.experiments.exam import card_file
from minivlm.files import leftovers, open_own, replace_file, require_place, write_text
from support.fake_run import FakeAsker, describing, fake_card, fake_data
from support.strangers import PRECIOUS, STRANGERS, contents, precious
from support.tiny_model import picture, tiny_config, tiny_llava

pytestmark = [
    pytest.mark.skipif(os.name == "nt", reason="needs pipes, and links that anybody may make"),
    pytest.mark.timeout(120),  # what waits for a pipe waits for ever
]
LINKS = ("link", "dangling", "loop", "hard_link")
RECORD = {"id": "1", "image": "1", "method": "plain", "text": "A dog.", "finish": "stop", "tokens": 2}
LINE = json.dumps(RECORD).encode() + b"\n"


@pytest.fixture
def mine(tmp_path):
    """A file of the user's."""
    file = precious(tmp_path / "home")
    yield file
    assert file.read_bytes() == PRECIOUS
    assert [path.name for path in file.parent.iterdir()] == [file.name]  # and nothing was made beside it


@pytest.fixture
def out(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    return folder


# --- opening ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["rb", "r+b", "ab"])
@pytest.mark.parametrize("stranger", STRANGERS)
def test_a_stranger_is_not_opened(out, mine, stranger, mode):
    STRANGERS[stranger](out / "ours", mine)
    if (stranger, mode) == ("hard_link", "rb"):  # to be read, a second name does no harm
        assert open_own(out / "ours", mode).read() == PRECIOUS
        return
    with pytest.raises(OSError, match="ours") as told:
        open_own(out / "ours", mode)
    assert told.value.filename == str(out / "ours")


def test_a_file_of_ours_is_opened_as_it_is(out):
    (out / "ours").write_bytes(b"abc\r\n")
    for mode in ("rb", "r+b", "ab"):
        open_own(out / "ours", mode).close()
        assert (out / "ours").read_bytes() == b"abc\r\n"
    with open_own(out / "ours", "ab") as file:
        file.write(b"d")
    assert (out / "ours").read_bytes() == b"abc\r\nd"
    with pytest.raises(FileNotFoundError):
        open_own(out / "missing", "r+b")
    open_own(out / "missing", "ab").close()
    assert (out / "missing").read_bytes() == b""


# --- the folder of a run ----------------------------------------------------------------------------------------------


def begun(out, **how):
    data = fake_data(4)
    return run(FakeAsker(), data, describing(data), fake_card(data), out, **how)


@pytest.mark.parametrize("stranger", STRANGERS)
@pytest.mark.parametrize("name", [".lock", "answers-0.jsonl", "answers-3.jsonl", "card.json"])
def test_a_run_touches_no_stranger_under_a_name_of_its_own(out, mine, name, stranger):
    begun(out)
    (out / name).unlink(missing_ok=True)
    STRANGERS[stranger](out / name, mine)
    with pytest.raises(EvaluationError, match=r"is not touched: .*--out|so their run is unknown|this is no JSON"):
        begun(out, resume=True)


@pytest.mark.parametrize("stranger", STRANGERS)
@pytest.mark.parametrize("name", ["counts.json", "summary.json"])
def test_results_take_the_place_of_a_link_and_not_of_what_it_leads_to(out, mine, name, stranger):
    STRANGERS[stranger](out / name, mine)
    if stranger in LINKS:
        begun(out)
        assert stat.S_ISREG((out / name).lstat().st_mode)
        return
    with pytest.raises(EvaluationError, match=f"{name}' is not touched: it is no regular file"):
        begun(out)
    assert not (out / "answers-0.jsonl").exists()  # it is said before the work


def test_files_with_almost_our_names_are_the_users(out, mine):
    names = ["answers-mine.jsonl", "answers-01.jsonl", "answers-1.jsonl.bak", "answers-١.jsonl", "answers--1.jsonl"]
    names += [".probe.part", ".notes.part", ".card.json.12.part", ".minivlm-x.part", f".minivlm-{'F' * 16}.part"]
    for name in names:
        (out / name).write_bytes(PRECIOUS)
    (out / f".minivlm-{'a' * 16}.part").symlink_to(mine)
    begun(out)
    begun(out, resume=True)
    assert [(out / name).read_bytes() for name in names] == [PRECIOUS] * len(names)
    assert (out / f".minivlm-{'a' * 16}.part").is_symlink()
    assert [path.name for path in record_files(out)] == ["answers-0.jsonl"]


@pytest.mark.parametrize(
    "content",
    [
        PRECIOUS,
        b"one line\nand half a line",
        LINE + PRECIOUS,
        b"{}",
        b'{"id"',
        b'{"ID": "1", "image',
        b"\x00\x01\x02",
        LINE[:-1] + b" // my note\n",
        LINE + b'{"name": "mine"}\n{"id": "2", "im',
    ],
)
def test_nothing_is_cut_before_it_is_known_as_ours(out, content):
    file = out / "answers-5.jsonl"
    file.write_bytes(content)
    if content == b'{"id"':  # this is how a record begins
        assert cut_half_line(file) == 5
        return
    with pytest.raises(EvaluationError, match=r"answers-5\.jsonl"):
        cut_half_line(file)
    assert file.read_bytes() == content


def test_a_line_without_end_is_neither_read_nor_cut(out):
    with (out / "answers-5.jsonl").open("wb") as file:
        file.write(LINE + b'{"id": "')
        file.truncate(2**40)
    for look in (cut_half_line, lambda path: read_records(path.parent)):
        with pytest.raises(EvaluationError, match="line 2: a record has fewer than 16,777,216 bytes"):
            look(out / "answers-5.jsonl")
    assert (out / "answers-5.jsonl").stat().st_size == 2**40


@pytest.mark.parametrize("half", [b"{", b'{"id": "', LINE[:-1], LINE[:-1] + b"\0" * 70_000, b"\0" * 5000])
def test_half_a_record_is_cut_also_where_a_power_failure_left_zeros(out, half):
    file = out / "answers-5.jsonl"
    file.write_bytes(LINE + half)
    assert cut_half_line(file) == len(half)
    assert file.read_bytes() == LINE
    assert list(read_records(out).values()) == [RECORD]


def test_the_probe_for_room_leaves_nothing_and_changes_nothing(out, mine):
    (out / ".probe.part").symlink_to(mine)
    require_room(out, 1)
    assert [path.name for path in out.iterdir()] == [".probe.part"]


def test_the_lock_keeps_what_is_in_it(out):
    (out / ".lock").write_bytes(PRECIOUS)
    with held(out), Recorder(out):
        pass
    assert (out / ".lock").read_bytes() == PRECIOUS


# --- writing ----------------------------------------------------------------------------------------------------------

WRITERS = {
    "text": lambda path: write_text(path, "new"),
    "tensors": lambda path: write_tensors(path, {"a": torch.zeros(2)}, {"format": "pt"}),
    "picture": lambda path: replace_file(path, partial(picture(0).save, format="PNG")),
}


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("stranger", STRANGERS)
def test_a_written_file_replaces_links_and_refuses_all_else(out, mine, stranger, writer):
    STRANGERS[stranger](out / "page.html", mine)
    if stranger not in LINKS:
        with pytest.raises(OSError, match="no regular file") as told:
            WRITERS[writer](out / "page.html")
        assert told.value.filename == str(out / "page.html")
    else:
        WRITERS[writer](out / "page.html")
        assert stat.S_ISREG((out / "page.html").lstat().st_mode)
    assert [path.name for path in out.iterdir()] == ["page.html"]


@pytest.mark.parametrize("writer", WRITERS)
def test_a_part_is_never_a_file_that_was_there(out, mine, writer, monkeypatch):
    monkeypatch.setattr("secrets.token_hex", lambda size: "0" * 16)
    (out / f".minivlm-{'0' * 16}.part").symlink_to(mine)
    with pytest.raises(FileExistsError, match="page"):
        WRITERS[writer](out / "page.html")


def test_a_name_as_long_as_the_system_allows_can_be_written(out):
    write_text(out / ("a" * 250 + ".html"), "page")
    assert (out / ("a" * 250 + ".html")).read_text() == "page"
    with pytest.raises(OSError, match="too long"):
        write_text(out / ("a" * 251 + ".html"), "page")
    assert len(list(out.iterdir())) == 1


KINDS = "text json tensors checkpoint random trace figure tokenizer table"  # the keys of support/small_disk.py
FULL = """
import resource, sys, signal
import torch
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
from support.small_disk import WRITES
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    WRITES[sys.argv[1]](sys.argv[2])
except Exception as error:
    print(type(error).__name__, error)
"""


@pytest.mark.parametrize("what", KINDS.split())
def test_a_full_disk_is_a_sentence_with_the_files_name_and_leaves_nothing(tmp_path, what):
    """A limit on the size of files stands in for the disk: like it, it fails in the middle of a file."""
    (tmp_path / "kept").write_text("old")
    before = contents(tmp_path)
    words = [sys.executable, "-c", FULL, what, str(tmp_path)]
    paths = os.pathsep.join([str(Path(minivlm.__file__).parents[1]), str(Path(__file__).parent)])
    ran = subprocess.run(words, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": paths})
    kind, _, sentence = ran.stdout.partition(" ")
    assert kind in ("OSError", "CheckpointError"), ran.stdout + ran.stderr
    assert str(tmp_path) in sentence
    assert "File too large" in sentence or "os error 27" in sentence
    assert contents(tmp_path) == before


def test_a_random_checkpoint_that_fails_leaves_no_shard(tmp_path, monkeypatch):
    monkeypatch.setattr(maker, "write_json", lambda path, data: write_text(tmp_path, "a folder is there"))
    with pytest.raises(CheckpointError, match="cannot be written: it is no regular file"):
        maker.make_random_checkpoint(tmp_path, tiny_config(), shard_size=20_000)
    assert not list(tmp_path.iterdir())


def test_a_folder_of_the_course_that_fails_is_empty_again(tmp_path, mine):
    def fill():
        with emptied_on_failure(tmp_path / "a1"):
            (tmp_path / "a1" / "deep" / "er").mkdir(parents=True)
            (tmp_path / "a1" / "link").symlink_to(mine.parent)
            (tmp_path / "a1" / "file").write_text("half")
            raise OSError("full")

    (tmp_path / "a1").mkdir()
    with pytest.raises(OSError, match="full"):
        fill()
    assert not list((tmp_path / "a1").iterdir())


def test_where_nothing_can_be_written_is_said_before_the_work(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for name, why in {
        "missing/page.html": "there is no such folder",
        ".": "no regular file",
        "pipe": "no regular file",
        "pipe/page.html": "Not a directory|no such folder",
    }.items():
        with pytest.raises(ConfigError, match=why):
            require_place(tmp_path / name)
    assert require_place(tmp_path / "page.html") == tmp_path / "page.html"
    assert not (tmp_path / "page.html").exists()


@pytest.mark.parametrize("stranger", ["pipe", "folder", "device"])
def test_a_page_is_refused_before_the_model_is_loaded(tmp_path, mine, stranger, monkeypatch, capsys):
    monkeypatch.setattr("minivlm.cli.ask.load_vlm", lambda *request: pytest.fail("the model was loaded"))
    STRANGERS[stranger](tmp_path / "page.html", mine)
    picture(0).save(tmp_path / "a.png")
    words = ["explore", str(tmp_path / "a.png"), "What is it?", "--out", str(tmp_path / "page.html")]
    assert cli.main(words) == 1
    assert "page.html is no regular file" in capsys.readouterr().err


def test_a_checkpoint_goes_into_no_strangers_place(tmp_path, mine):
    for name in ("model.safetensors", "config.json"):
        (tmp_path / name).symlink_to(mine)
    save_checkpoint(tiny_llava(), tmp_path)
    (tmp_path / "config.json").unlink()
    os.mkfifo(tmp_path / "config.json")
    with pytest.raises(CheckpointError, match="cannot be written: it is no regular file"):
        save_checkpoint(tiny_llava(), tmp_path)


def test_a_card_is_not_looked_for_in_a_pipe(tmp_path):
    os.mkfifo(tmp_path / "README.md")
    with pytest.raises(EvaluationError, match="not a card that minivlm wrote"):
        card_file(tmp_path)
    assert card_file(tmp_path / "elsewhere") == tmp_path / "elsewhere" / "README.md"


def test_a_table_that_is_none_is_refused_and_a_pipe_is_no_table(tmp_path):
    os.mkfifo(tmp_path / "pipe.csv")
    assert lines_of(tmp_path / "pipe.csv") == []
    for content in (b"\xff\xfe\x00", b'"' + b"a" * 200_000):
        (tmp_path / "grades.csv").write_bytes(content)
        with pytest.raises(CourseError, match=r"grades\.csv cannot be read as a table"):
            lines_of(tmp_path / "grades.csv")


def test_what_a_killed_process_left_is_found_and_nothing_else(tmp_path, mine):
    ours = tmp_path / f".minivlm-{'0123456789abcdef'}.part"
    ours.write_text("half")
    (tmp_path / f".minivlm-{'1' * 16}.part").symlink_to(mine)
    (tmp_path / f".minivlm-{'1' * 15}.part").write_text("mine")
    assert leftovers(tmp_path) == [ours]
