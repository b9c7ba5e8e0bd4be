"""The ground file: strict JSON, files that appear whole or not at all, digests, harmless text, torchrun's numbers."""

import hashlib
import os
import stat

import pytest

from minivlm.errors import ConfigError
from minivlm.files import (
    clean,
    digest,
    file_digest,
    harmless,
    json_types,
    leftovers,
    listed,
    one_line,
    parse_json,
    printable,
    replace_file,
    shown,
    torchrun,
    write_json,
    write_text,
)


@pytest.mark.parametrize("text", ['\ufeff{"ü": [1, 2.5, null]}', '{"ü": [1, 2.5, null]}'])
def test_json_as_bytes_and_as_text(text):
    expected = {"ü": [1, 2.5, None]}
    assert parse_json(text.encode()) == parse_json(text.removeprefix("\ufeff")) == expected


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"NaN", "NaN is not a JSON number"),
        (b"[-Infinity]", "-Infinity is not"),
        (b"[1e999]", "1e999 is not"),
        (b'[{"a": 1, "b": 2, "b": 3}]', "the key 'b' stands twice"),
        (b"[" * 100_000, "recursion"),
        (b"\xff", "utf-8"),
        (b"", "Expecting value"),
        (b"{} {}", "Extra data"),
    ],
)
def test_what_is_no_strict_json_is_a_value_error(text, reason):
    with pytest.raises(ValueError, match=reason):
        parse_json(text)


def test_a_file_that_fails_half_way_leaves_the_old_one(tmp_path):
    path = tmp_path / "summary.json"
    write_json(path, {"a": [1, "ü"]})
    assert path.read_bytes() == b'{\n  "a": [\n    1,\n    "\\u00fc"\n  ]\n}\n'

    def fail(part):
        part.write_text("half")
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="full"):
        replace_file(path, fail)
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(path, {"a": float("nan")})
    assert parse_json(path.read_bytes()) == {"a": [1, "ü"]}
    assert [file.name for file in tmp_path.iterdir()] == ["summary.json"]


def test_what_a_killed_process_leaves_is_known_by_its_name(tmp_path):
    def killed(part):
        part.write_text("half")
        assert leftovers(tmp_path) == [part]

    replace_file(tmp_path / "card.json", killed)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no modes of this kind")
def test_a_file_keeps_its_mode_and_a_new_one_gets_the_usual(tmp_path):
    old, new = tmp_path / "old", tmp_path / "new"
    old.write_text("")
    old.chmod(0o640)
    for path in (old, new):
        write_text(path, "ü\n")
        assert path.read_bytes() == "ü\n".encode()
    (tmp_path / "usual").touch()
    assert stat.S_IMODE(old.stat().st_mode) == 0o640
    assert new.stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_digests(tmp_path):
    assert digest({"b": 1, "a": (1, 2)}) == digest({"a": [1, 2], "b": 1}) != digest({"a": [2, 1], "b": 1})
    assert digest([]) == hashlib.sha256(b"[]").hexdigest()
    (tmp_path / "large").write_bytes(bytes(5_000_000))
    assert file_digest(tmp_path / "large") == hashlib.sha256(bytes(5_000_000)).hexdigest()
    assert json_types({"a": (1, 2), 3: None}) == {"a": [1, 2], "3": None}


def test_text_for_a_terminal():
    assert harmless("a\x1b[2J\x9b\n\t漢\u3000") == "a\ufffd[2J\ufffd\n\t漢\u3000"
    assert clean("a\x1b[0m\ud800\n\tß", 20) == "a\ufffd[0m\ufffd\n\tß"
    assert (clean("abc", 2), clean(None, 5), clean({"a": 1}, 5)) == ("ab", "", "")
    assert printable("a\x1b\nß") == "a\\x1b\\nß"
    assert printable("a" * 300) == "a" * 200 + "..."
    assert one_line(ValueError("two\n lines")) == "two lines"
    assert one_line(MemoryError()) == "MemoryError"
    assert listed(list("abc"), 2) == "a, b and 1 more"
    assert shown("a" * 90) == "'" + "a" * 79 + "..."


def test_numbers_of_torchrun(monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    assert torchrun("RANK", alone=3) == 3
    with pytest.raises(ConfigError, match="RANK is None in the environment, a whole number was expected"):
        torchrun("RANK")
    monkeypatch.setenv("RANK", "5")
    assert torchrun("RANK", alone=0) == 5
    monkeypatch.setenv("RANK", "five")
    with pytest.raises(ConfigError, match="RANK is 'five'"):
        torchrun("RANK", alone=0)
