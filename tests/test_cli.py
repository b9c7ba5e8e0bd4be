"""The command line: what is typed, what is printed where, and the exit code. The model is tiny and random."""

import argparse
import io
import json
import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator
from dataclasses import MISSING, FrozenInstanceError, fields, replace
from pathlib import Path

import pytest
import torch

from minivlm import CLVA, EAH, MinivlmError, Mitigation, __version__
from minivlm.checkpoints.devices import DTYPES
from minivlm.cli import arguments, doctor, options, terminal
from minivlm.cli import ask as commands
from minivlm.cli import main as cli
from minivlm.cli import train as workshop
from minivlm.cli.ask import AskRequest
from minivlm.cli.evaluate import RunRequest
from minivlm.evaluation import settings as method_settings
from minivlm.evaluation.lexicon import coco_lexicon
from minivlm.experiments import trials
from minivlm.experiments.card import CAPTION_ROWS, HEAD
from minivlm.experiments.demo import save
from minivlm.experiments.exam import SKILLS, examine
from minivlm.inference.generate import Generation
from minivlm.inference.load import load
from minivlm.inference.shipped import shipped_model
from minivlm.inputs.image import MODES
from minivlm.toyworld import HELD_OUT, TRAINING
from minivlm.toyworld.world import SUBSTITUTIONS, WORLDS
from support.ignorant_model import interrupt_at, save_ignorant_model
from support.interleave import write_interleave
from support.tiny_model import tiny_config

SHORT = ("--max-new-tokens", "6", "--device", "cpu")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    return save_ignorant_model(tmp_path_factory.mktemp("random"))


@pytest.fixture(scope="module")
def picture(tmp_path_factory) -> Path:
    return save(HELD_OUT.draw(3), tmp_path_factory.mktemp("pictures") / "scene.png")


@pytest.fixture
def ask(checkpoint, picture):
    """`ask` with the tiny model about the picture; returns the exit code."""
    return lambda *words: cli.main(["ask", str(picture), "What is it?", "--model", str(checkpoint), *SHORT, *words])


# --- parsing ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [["--help"], ["--version"], *([name, "--help"] for name in cli.COMMANDS)])
def test_help_and_version_exit_with_0(words, capsys):
    with pytest.raises(SystemExit) as end:
        cli.main(words)
    assert end.value.code == 0
    assert "minivlm" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["fly"],
        ["ask", "a.png"],
        ["ask", "a.png", "what", "more"],
        ["ask", "a.png", "what", "--dtype", "int8"],
        ["ask", "a.png", "what", "--template", "vicuna"],
        ["ask", "a.png", "what", "--max-new-tokens", "many"],
        ["ask", "a.png", "what", "--max-new-tokens", "0"],
        ["ask", "a.png", "what", "--temperature", "nan"],
        ["ask", "a.png", "what", "--temperature=-1"],
        ["ask", "a.png", "what", "--top-p", "0"],
        ["ask", "a.png", "what", "--top-k", "0"],
        ["ask", "a.png", "what", "--stop", ""],
        ["chat", "a.png", "--seed=-1"],
        ["demo", "--scenes", "0"],
        ["demo", "--seed=-1"],
        ["demo", "--seed=18446744073709551616"],
        ["download", "https://example.org/model"],
        ["ask", "a.png", "what", "--eah", "layr=2"],
        ["ask", "a.png", "what", "--eah", "layer=two"],
        ["ask", "a.png", "what", "--eah", "layer=-1"],
        ["ask", "a.png", "what", "--eah", "threshold=nan"],
        ["ask", "--eah", "a.png", "what"],
        ["ask", "a.png", "what", "--clva", "gate=perhaps"],
        ["ask", "a.png", "what", "--clva", "deep_layers=6-x"],
        ["ask", "a.png", "what", "--clva", "omega=2"],
        ["ask", "a.png", "what", "--compare"],
        ["chat", "a.png", "--clva", "anchor=lost"],
    ],
)
def test_what_was_typed_wrong_exits_with_2_before_anything_is_read(words, capsys):
    with pytest.raises(SystemExit) as end:
        cli.main(words)
    printed = capsys.readouterr()
    assert end.value.code == 2
    assert printed.err
    assert not printed.out


def test_debug_may_stand_before_and_behind_the_command():
    parser = cli.make_parser()
    assert parser.parse_args(["--debug", "doctor"]).debug
    assert parser.parse_args(["doctor", "--debug"]).debug
    assert not parser.parse_args(["doctor"]).debug


def asked(*words: str) -> options.Request:
    """The request that these words are."""
    return arguments.request(cli.make_parser().parse_args(words))


def parsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """Those of all commands and of their tasks."""
    chosen = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    for below in (below for action in chosen for below in action.choices.values()):
        yield below
        yield from parsers(below)


def test_a_request_cannot_be_changed_and_holds_what_was_typed():
    request = asked("ask", "a.png", "What?", "--also", "b.png", "--also", "c.png", "--stop", "x", "--eah", "layer=2")
    assert request == AskRequest(
        image="a.png", question="What?", also=("b.png", "c.png"), stop=("x",), eah="layer=2", json=False
    )
    assert hash(request) == hash(
        asked("ask", "a.png", "What?", "--also", "b.png", "--also", "c.png", "--stop", "x", "--eah", "layer=2")
    )
    with pytest.raises(FrozenInstanceError):
        request.image = "b.png"
    assert asked("chat").image is None
    assert asked("course", "check").folder == "."
    run = ("evaluate", "chair", "--data", "scenes:0", "--out", "run")
    assert asked(*run) == RunRequest(data="scenes:0", out="run")
    assert asked(*run, "--batch", "3", "--resume") == RunRequest(data="scenes:0", out="run", batch=3, resume=True)


def test_no_option_is_lost_on_the_way_into_a_request():
    """Every option is a field of its request, and what the request has no default for must be typed."""
    found = [*parsers(cli.make_parser())]
    assert len(found) == len(cli.COMMANDS) + 5 + 4 + 5
    for parser in found:
        kind = parser.get_default("request")
        typed = {action.dest: action for action in parser._actions} if kind else {}
        known = {field.name: field for field in fields(kind)}
        assert typed.keys() - {"help", "debug", "task", "kind"} <= known.keys(), parser.prog
        for name, field in known.items():
            needed = name in typed and typed[name].required
            assert needed == (field.default is MISSING), f"{parser.prog}: {name}"


def test_choices_are_those_of_the_library():
    assert set(arguments.DTYPES) == set(DTYPES)
    assert arguments.IMAGE_MODES == MODES


def test_a_world_that_does_not_exist_is_told_those_that_do(capsys):
    with pytest.raises(SystemExit) as end:
        cli.main(["demo", "--world", "upside-down"])
    assert end.value.code == 2
    assert f"--world must be one of {', '.join(WORLDS)}, found 'upside-down'" in capsys.readouterr().err


# --- how a command ends -----------------------------------------------------------------------------------------------


@pytest.fixture
def ending(monkeypatch):
    """Make `doctor` end by raising what is given; returns the exit code of main."""

    def end(error: BaseException, *words: str) -> int:
        def run(request):
            raise error

        monkeypatch.setitem(cli.COMMANDS, "doctor", replace(cli.COMMANDS["doctor"], run=run))
        return cli.main(["doctor", *words])

    return end


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (MinivlmError("What was read,\nand where."), "minivlm: What was read, and where."),
        (MinivlmError("A name\x1b[2J."), "minivlm: A name\ufffd[2J."),
        (PermissionError(13, "Permission denied", "demo"), "minivlm: demo: Permission denied."),
        (torch.OutOfMemoryError("CUDA out of memory"), "minivlm: Out of memory (CUDA out of memory)"),
        (ZeroDivisionError("division by zero"), "minivlm: Unexpected ZeroDivisionError: division by zero"),
    ],
)
def test_an_error_is_one_line_and_1(ending, capsys, error, sentence):
    assert ending(error) == 1
    printed = capsys.readouterr()
    assert not printed.out
    assert printed.err.startswith(sentence)
    assert printed.err.count("\n") == 1


def test_debug_shows_the_traceback(ending, capsys):
    assert ending(MinivlmError("A sentence."), "--debug") == 1
    assert "Traceback" in capsys.readouterr().err


def test_ctrl_c_is_130(ending, capsys):
    assert ending(KeyboardInterrupt()) == 130
    assert "Traceback" not in capsys.readouterr().err


def test_a_warning_is_one_line_on_stderr(capsys):
    with terminal.short_warnings():
        warnings.warn("The context is short.", stacklevel=2)
    assert capsys.readouterr() == ("", "minivlm: The context is short.\n")


def test_a_reader_that_stops_reading_is_no_error(tmp_path):
    """`minivlm doctor | true`: no traceback, no complaint at the interpreter's end."""
    script = "import sys; from minivlm.cli.main import main; sys.stdin.readline(); sys.exit(main(['doctor', '--json']))"
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    process.stdout.close()
    process.stdin.write(b"go\n")
    process.stdin.close()
    error = process.stderr.read()
    process.stderr.close()
    assert (process.wait(), error) == (1, b"")


def test_the_module_runs_with_an_encoding_that_lacks_the_letters(tmp_path):
    """`python -m minivlm` under ASCII: a name that cannot be printed does not hide the message."""
    words = [sys.executable, "-m", "minivlm", "ask", "Bär.png", "Was?"]
    environment = os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "1", "PYTHONPATH": os.getcwd()}
    done = subprocess.run(words, capture_output=True, env=environment, cwd=tmp_path, check=False)
    assert done.returncode == 1
    assert b"'B?r.png' does not exist" in done.stderr
    assert done.stdout == b""


# --- ask and chat -----------------------------------------------------------------------------------------------------


def test_ask_prints_the_answer_and_introduces_the_model_on_stderr(ask, checkpoint, picture, capsys):
    assert ask() == 0
    printed = capsys.readouterr()
    expected = load(checkpoint, device="cpu").ask(str(picture), "What is it?", max_new_tokens=6)
    assert printed.out == expected + "\n"
    assert expected  # or the comparison would say little
    for fact in (str(checkpoint), "float32 on cpu", "template hf", "crop: "):
        assert fact in printed.err


def test_ask_streams(checkpoint, picture, monkeypatch):
    """Every piece is flushed before the next token is computed."""
    out = Recorder()
    monkeypatch.setattr(sys, "stdout", out)
    cli.main(["ask", str(picture), "What is it?", "--model", str(checkpoint), *SHORT])
    assert len(set(out.flushed)) > 3  # some pieces are empty: a letter of several bytes comes when it is whole


class Recorder(io.StringIO):
    """Remembers how much had been written at each flush."""

    def __init__(self) -> None:
        super().__init__()
        self.flushed: list[int] = []

    def flush(self) -> None:
        self.flushed.append(len(self.getvalue()))


def test_ask_as_json_tells_all_that_the_answer_depends_on(ask, capsys):
    assert ask("--json", "--template", "llava_v1", "--image-mode", "pad", "--stop", "qqq") == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["template"] == "llava_v1"
    assert answer["recipe"].startswith("pad")
    assert answer["settings"]["max_new_tokens"] == 6
    assert answer["settings"]["stop"] == ["qqq"]
    assert len(answer["tokens"]) == 6


def test_the_same_seed_gives_the_same_sample(ask, capsys):
    sampled = ["--temperature", "1.5", "--top-k", "50", "--top-p", "0.95", "--seed"]
    answers = [(ask(*sampled, seed), capsys.readouterr().out)[1] for seed in ("1", "1", "2")]
    assert answers[0] == answers[1] != answers[2]


def test_a_picture_may_come_from_stdin_and_several_may_be_given(checkpoint, picture, monkeypatch, capsys):
    words = ["What is it?", "--model", str(checkpoint), *SHORT, "--json"]
    assert cli.main(["ask", str(picture), *words]) == 0
    from_file = json.loads(capsys.readouterr().out)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(picture.read_bytes())))
    assert cli.main(["ask", "-", *words]) == 0
    assert json.loads(capsys.readouterr().out) == from_file
    assert cli.main(["ask", str(picture), *words, "--also", str(picture)]) == 0
    two = json.loads(capsys.readouterr().out)
    assert [span[0] for span in two["spans"]].count("image") == 2


def test_a_bad_picture_is_refused_before_the_model_is_loaded(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(commands, "load_vlm", lambda args: pytest.fail("the model was loaded"))
    (tmp_path / "broken.png").write_bytes(b"not a picture")
    for name in ("missing.png", "broken.png", "."):
        assert cli.main(["ask", str(tmp_path / name), "What is it?"]) == 1
    assert capsys.readouterr().err.count("\n") == 3


def test_ctrl_c_keeps_what_was_written(ask, monkeypatch, capsys):
    monkeypatch.setattr("minivlm.inference.generate.sample", interrupt_at(3))
    assert ask() == 130
    streamed = capsys.readouterr().out
    assert streamed.endswith("\n")
    monkeypatch.setattr("minivlm.inference.generate.sample", interrupt_at(3))
    assert ask("--json") == 130
    answer = json.loads(capsys.readouterr().out)
    assert answer["finish"] == "interrupted"
    assert len(answer["tokens"]) == 2
    assert streamed.strip()
    assert answer["text"].startswith(streamed.strip())


def chat(monkeypatch, checkpoint, lines: str, *words: str, terminal: bool = False) -> int:
    stdin = io.StringIO(lines)
    stdin.isatty = lambda: terminal
    monkeypatch.setattr(sys, "stdin", stdin)
    return cli.main(["chat", *words, "--model", str(checkpoint), *SHORT])


def test_chat_answers_line_by_line(monkeypatch, checkpoint, picture, capsys):
    assert chat(monkeypatch, checkpoint, "What is it?\n\n  Where?  \n", str(picture)) == 0
    printed = capsys.readouterr()
    first = load(checkpoint, device="cpu").ask(str(picture), "What is it?", max_new_tokens=6)
    assert printed.out.startswith(first + "\n")
    assert len(printed.out) > len(first) + 2
    assert ">" not in printed.err


def test_chat_needs_no_picture_and_goes_on_after_ctrl_c(monkeypatch, checkpoint, capsys):
    monkeypatch.setattr("minivlm.inference.generate.sample", interrupt_at(3))
    assert chat(monkeypatch, checkpoint, "Hello?\nAnd now?\n", terminal=True) == 0
    printed = capsys.readouterr()
    assert "interrupted" in printed.err
    assert len(printed.out.splitlines()) >= 2


def test_ctrl_c_ends_a_chat_whose_questions_come_from_a_pipe(monkeypatch, checkpoint, capsys):
    monkeypatch.setattr("minivlm.inference.generate.sample", interrupt_at(3))
    assert chat(monkeypatch, checkpoint, "Hello?\nAnd now?\n") == 130
    assert capsys.readouterr().out.strip()  # what was written stays


def test_a_turn_that_fails_ends_a_script_but_not_a_conversation(monkeypatch, checkpoint, capsys):
    lines = "word " * 2000 + "\nHello?\n"
    assert chat(monkeypatch, checkpoint, lines) == 1
    assert not capsys.readouterr().out
    assert chat(monkeypatch, checkpoint, lines, terminal=True) == 0
    printed = capsys.readouterr()
    assert printed.out
    assert "context" in printed.err


# --- mitigations ------------------------------------------------------------------------------------------------------

MOVING = ("--eah", "threshold=0", "--clva", "gate=off")  # changes something even in a model that knows nothing
IDLE = ("--eah", "threshold=0.99")  # no column gets so much


def chosen(*words: str) -> Mitigation:
    return options.mitigation(asked("ask", "a.png", "What?", *words))


def test_settings_of_a_mitigation_are_read_by_the_type_of_their_field():
    assert chosen() == Mitigation()
    assert chosen("--eah", "--clva") == Mitigation(EAH(), CLVA())
    assert chosen("--eah", "layer=2,threshold=0.01,head=random") == Mitigation(EAH(2, 0.01, "random"))
    words = "omega=0.6, beta=0,gate=off,deep-layers=6,7,9-10,swapped=yes"
    expected = CLVA(omega=0.6, beta=0.0, gate=False, deep_layers=(6, 7, 9, 10), swapped=True)
    assert chosen("--clva", words) == Mitigation(clva=expected)


@pytest.mark.parametrize("kind", [EAH, CLVA])
def test_every_setting_can_be_typed(kind):
    """Each default for a model, written down as one types it, is read back as it was."""
    settings = vars(kind.for_model(tiny_config(text={"num_hidden_layers": 10})))
    assert None not in settings.values()
    for name, value in settings.items():
        text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
        assert getattr(method_settings.method(kind, f"{name}={text}"), name) == value


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--eah", "layr=2"), "EAH has no setting 'layr'; it has layer, threshold, head, decode, seed."),
        (("--eah", "layer=2.5"), "EAH.layer takes a whole number, found '2.5'."),
        (("--eah", "layer=2,head=random,layer=3"), "EAH.layer is given twice, in 'layer=2,head=random,layer=3'"),
        (("--clva", "deep_layers=7-6"), "CLVA.deep_layers takes layers, such as 6 or 6-7 or 3,5-6, found '7-6'."),
        (("--clva", "deep_layers=0-999999999"), "CLVA.deep_layers takes layers, such as"),
        (("--eah", "head=best"), "EAH.head must be one of densest, second, random, found 'best'."),
        (("--clva", "omega=much"), "CLVA.omega takes a number, found 'much'."),
        (("--clva", "gate=1"), "CLVA.gate takes on or off, found '1'."),
        (("--clva", "deep_layers=6-x"), "CLVA.deep_layers takes layers, such as 6 or 6-7 or 3,5-6, found '6-x'."),
        (("--compare",), "add --eah or --clva"),
    ],
)
def test_a_setting_that_cannot_be_is_a_sentence(words, sentence):
    with pytest.raises(method_settings.UsageError) as refused:
        chosen(*words)
    assert sentence in str(refused.value)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("dog=30:40:8:9", "A box is left:top:right:bottom, with left < right and top < bottom, found 'dog=30:40:8:9'."),
        ("dog=1:1:1:2", "with left < right"),
        ("dog=nan:1:2:3", "with left < right"),
        ("dog=1:2:inf:4", "with left < right"),
        ("dog=", "A box is left:top:right:bottom in pixels, such as dog=8:9:30:40, found 'dog='."),
        ("cat dog", "--objects has 'cat dog', which names several objects: put commas between them."),
        ("dog,,cat", "--objects names '', which is none of minivlm's words for COCO"),
    ],
)
def test_objects_that_cannot_be_meant_are_sentences(text, sentence):
    with pytest.raises(method_settings.UsageError) as refused:
        options.read_objects(text, coco_lexicon())
    assert sentence in str(refused.value)


def test_an_option_never_takes_the_picture_for_its_settings(capsys):
    with pytest.raises(SystemExit):
        cli.main(["ask", "--eah", "a.png", "What?"])
    assert "expected name=value, found 'a.png'" in capsys.readouterr().err


def test_a_layer_that_the_model_lacks_is_a_sentence_before_the_answer(ask, capsys):
    assert ask("--eah", "layer=9") == 1
    printed = capsys.readouterr()
    assert not printed.out
    assert printed.err.endswith("minivlm: EAH.layer names the layer 9, but the decoder has the layers 0 to 3.\n")


def test_stdout_holds_the_answer_and_stderr_one_line_of_effect(ask, checkpoint, picture, capsys):
    assert ask(*MOVING, "--compare") == 0
    printed = capsys.readouterr()
    both = Mitigation(EAH(threshold=0.0), CLVA(gate=False))
    expected = load(checkpoint, device="cpu").ask(
        str(picture), "What is it?", max_new_tokens=6, mitigation=both, compare=True
    )
    assert printed.out == expected + "\n"
    assert not expected.effect.nothing
    assert printed.err.splitlines()[1:] == [f"effect: {expected.effect}"]  # behind the introduction of the model
    assert "EAH in layer 1" in printed.err
    assert "CLVA in layer 3" in printed.err
    assert "nats a token from plain" in printed.err
    assert ask() == 0
    assert "effect" not in capsys.readouterr().err


def test_the_effect_as_json(ask, capsys):
    assert ask(*MOVING, "--json") == 0
    answer = json.loads(capsys.readouterr().out)
    assert [layer["method"] for layer in answer["effect"]["layers"]] == ["EAH", "CLVA"]
    assert answer["effect"]["kl"] is None
    assert answer["mitigation"]["eah"]["threshold"] == 0
    assert answer["mitigation"]["clva"]["deep_layers"] == [3]  # as filled in for this model
    assert ask(*MOVING, "--json", "--compare") == 0
    kl = json.loads(capsys.readouterr().out)["effect"]["kl"]
    assert len(kl) == len(answer["tokens"])
    assert max(kl) > 0
    assert ask("--json") == 0
    plain = json.loads(capsys.readouterr().out)
    assert (plain["effect"], plain["mitigation"]) == (None, {})


def test_a_mitigation_that_changed_nothing_says_so_once_on_a_line_of_its_own(ask, monkeypatch, capsys):
    for words in ((), ("--json",)):
        assert ask(*IDLE, *words) == 0
        assert capsys.readouterr().err.count("The mitigation changed nothing") == 1
    screen = io.StringIO()
    monkeypatch.setattr(sys, "stdout", screen)
    monkeypatch.setattr(sys, "stderr", screen)
    assert ask(*IDLE) == 0
    introduction, answer, warning, effect = screen.getvalue().splitlines()
    assert "template" in introduction
    assert answer
    assert warning.startswith("minivlm: The mitigation changed nothing: ")
    assert effect == "effect: nothing was changed"


def test_warnings_wait_for_the_end_even_of_an_error(capsys):
    def fail():
        with terminal.warnings_afterwards():
            for _ in range(2):
                warnings.warn("The context is short.", stacklevel=1)
            assert not capsys.readouterr().err
            raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        fail()
    assert capsys.readouterr().err == "minivlm: The context is short.\n"


def test_chat_answers_under_a_mitigation_and_tells_each_effect(monkeypatch, checkpoint, picture, capsys):
    lines = "What is it?\nWhere?\n"
    assert chat(monkeypatch, checkpoint, lines, str(picture), *MOVING, "--compare") == 0
    printed = capsys.readouterr()
    both = Mitigation(EAH(threshold=0.0), CLVA(gate=False))
    first = load(checkpoint, device="cpu").ask(str(picture), "What is it?", max_new_tokens=6, mitigation=both)
    assert printed.out.startswith(first + "\n")
    assert "effect" not in printed.out
    assert printed.err.count("effect: EAH in layer 1: ") == printed.err.count("nats a token") == 2
    assert chat(monkeypatch, checkpoint, lines, str(picture), *IDLE) == 0
    printed = capsys.readouterr().err
    assert printed.count("The mitigation changed nothing") == 1  # once said, the effects tell the rest
    assert printed.count("effect: nothing was changed") == 2


# --- check, make-random, download, train, exam ------------------------------------------------------------------------


def test_check_prints_the_card_or_json(checkpoint, capsys):
    assert cli.main(["check", str(checkpoint)]) == 0
    assert "layout A" in capsys.readouterr().out
    assert cli.main(["check", str(checkpoint), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["layout"] == "A"


def test_check_of_a_hub_name_asks_the_cache_alone(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("minivlm.checkpoints.download.find_in_cache", lambda name, revision: None)
    assert cli.main(["check", "somebody/something", "--revision", "main"]) == 1
    assert "minivlm download somebody/something --revision main" in capsys.readouterr().err


def test_a_random_checkpoint_with_a_tokenizer_can_be_asked(checkpoint, picture, tmp_path, capsys):
    made = tmp_path / "made"
    words = ["make-random", str(made), "--like", str(checkpoint), "--dtype", "float32", "--tokenizer", str(checkpoint)]
    assert cli.main(words) == 0
    assert capsys.readouterr().out == f"{made}\n"
    assert cli.main(["ask", str(picture), "What is it?", "--model", str(made), *SHORT]) == 0
    assert capsys.readouterr().out.strip()
    assert cli.main(words) == 1  # it holds weights now
    assert "holds weights already" in capsys.readouterr().err


def test_a_random_siglip_checkpoint_gets_what_it_takes_to_be_asked(picture, tmp_path, capsys):
    theirs, made = tmp_path / "theirs", tmp_path / "made"
    write_interleave(theirs)
    words = ["make-random", str(made), "--like", str(theirs), "--dtype", "float32", "--tokenizer", str(theirs)]
    assert cli.main(words) == 0
    assert cli.main(["ask", str(picture), "What is it?", "--model", str(made), *SHORT]) == 0
    assert "template chatml; picture stretch" in capsys.readouterr().err


@pytest.mark.parametrize("siglip", [False, True])
def test_a_random_checkpoint_without_a_tokenizer_gets_stand_ins(checkpoint, picture, tmp_path, capsys, siglip):
    theirs, made = tmp_path / "theirs" if siglip else checkpoint, tmp_path / "made"
    if siglip:
        write_interleave(theirs)
    assert cli.main(["make-random", str(made), "--like", str(theirs), "--dtype", "float32"]) == 0
    assert cli.main(["ask", str(picture), "What is it?", "--model", str(made), *SHORT]) == 0
    assert capsys.readouterr().err.count("template hf") == 1


def test_a_tokenizer_that_does_not_fit_is_refused_before_anything_is_written(checkpoint, tmp_path, capsys):
    made = tmp_path / "made"
    assert cli.main(["make-random", str(made), "--like", "llava-1.5-70b"]) == 1
    assert cli.main(["make-random", str(made), "--like", str(checkpoint), "--tokenizer", str(tmp_path)]) == 1
    printed = capsys.readouterr().err
    assert "llava-1.5-7b" in printed
    assert "tokenizer.json" in printed
    assert not made.exists()


def test_download_prints_the_folder(monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(
        "minivlm.checkpoints.download.download",
        lambda name, *, revision: asked.append((name, revision)) or "the/folder",
    )
    assert cli.main(["download", "somebody/something", "--revision", "v1"]) == 0
    assert asked == [("somebody/something", "v1")]
    assert capsys.readouterr().out == "the/folder\n"


def test_train_hands_over_the_recipe_and_never_overwrites(monkeypatch, tmp_path, checkpoint, capsys):
    calls = []
    monkeypatch.setattr("minivlm.training.train.train", lambda *args: calls.append(args))
    out = tmp_path / "new"
    assert cli.main(["train", "--out", str(out), "--quick", "--seed", "7", "--device", "cpu"]) == 0
    folder, recipe, world, device = calls.pop()
    assert (folder, recipe.seed, recipe.tower.steps, world, device) == (out, 7, 2, TRAINING, "cpu")
    assert capsys.readouterr().out == f"{out}\n"
    assert cli.main(["train", "--out", str(checkpoint)]) == 1
    assert cli.main(["train", "--out", str(out), "--device", "abacus"]) == 1
    assert not calls


def figures_of(model: str) -> dict:
    """What an exam gives, with invented numbers."""
    caption = dict.fromkeys(CAPTION_ROWS, 0.5)
    worlds = dict.fromkeys(("substitutions", "crowded", "pictures exchanged"), caption)
    shares = ("companion", "companion by chance", "same place", "same place by chance")
    return {
        "model": model,
        "scenes": 5,
        "companions": {"0.85": caption},
        **worlds,
        "invented": {"objects": 3.0, **dict.fromkeys(shares, 0.25)},
        "pope": {"random": {"questions": 30, "accuracy": 0.75, "f1": 0.75, "yes_ratio": 0.5}},
        "skills": {"count": {"questions": 5, "exact": 0.2}},
    }


def test_exam_prints_tables_and_writes_its_figures(monkeypatch, tmp_path, checkpoint, capsys):
    monkeypatch.setattr("minivlm.experiments.exam.examine", lambda vlm, scenes: figures_of(vlm.name))
    words = ["exam", "--model", str(checkpoint), "--scenes", "5", "--out", str(tmp_path / "new")]
    expected = {"minivlm": __version__, **figures_of(str(checkpoint))}
    assert cli.main(words) == 0
    assert "| random | 30 | 75.0 |" in capsys.readouterr().out
    assert json.loads((tmp_path / "new" / "exam.json").read_text()) == expected
    assert cli.main([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == expected
    assert not (tmp_path / "new" / "README.md").exists()  # the checkpoint has no training.json


def test_exam_replaces_a_card_but_no_other_readme(monkeypatch, tmp_path, checkpoint, capsys):
    trained, readme = tmp_path / "trained", tmp_path / "README.md"
    shutil.copytree(checkpoint, trained)
    training = {"recipe": {"scenes": 9, "seed": 0}, "device": "cpu", "threads": 1, "seconds": {"all": 60}}
    (trained / "training.json").write_text(json.dumps(training))
    words = ["exam", "--model", str(trained), "--out", str(tmp_path)]
    monkeypatch.setattr("minivlm.experiments.exam.examine", lambda vlm, scenes: pytest.fail("the exam began"))
    readme.write_text("# My project\n")
    assert cli.main(words) == 1
    assert f"{readme} is not a card" in capsys.readouterr().err
    assert readme.read_text() == "# My project\n"
    monkeypatch.setattr("minivlm.experiments.exam.examine", lambda vlm, scenes: figures_of(vlm.name))
    readme.write_text(HEAD.partition("\n")[0] + "\nof last year")
    assert cli.main(words) == 0
    assert "of last year" not in readme.read_text(encoding="utf-8")
    assert "minivlm exam --scenes 5" in readme.read_text(encoding="utf-8")


@pytest.mark.weights
def test_exam_tries_the_methods(monkeypatch, tmp_path, capsys):
    known = json.loads((shipped_model() / "methods.json").read_text(encoding="utf-8"))
    tables = {HELD_OUT: known["methods"], SUBSTITUTIONS: known["substitutions"]}
    monkeypatch.setattr("minivlm.experiments.conditions.run", lambda vlm, scenes, world=HELD_OUT, **how: tables[world])
    assert cli.main(["exam", "--methods", "--scenes", "3", "--device", "cpu", "--out", str(tmp_path)]) == 0
    assert capsys.readouterr().out.count("| CLVA, shuffled anchor |") == 1 + 3 + 1  # captions, three splits; captions
    assert json.loads((tmp_path / "methods.json").read_text(encoding="utf-8")) == known
    assert not (tmp_path / "README.md").exists()  # there is no exam.json that a card could tell of


@pytest.mark.weights
def test_exam_measures_the_layers_and_draws_the_figures(tmp_path, capsys):
    known = json.loads((shipped_model() / "layers.json").read_text(encoding="utf-8"))
    assert cli.main(["exam", "--layers", "--scenes", "3", "--device", "cpu", "--out", str(tmp_path)]) == 0
    assert "| last third: (5, 6, 7) |" in capsys.readouterr().out
    found = json.loads((tmp_path / "layers.json").read_text(encoding="utf-8"))
    assert set(found["figures"]) == {file.name for file in (tmp_path / "figures").iterdir()} == set(known["figures"])
    assert set(found) >= set(known)


@pytest.mark.slow
def test_an_exam_of_two_scenes_says_what_decided_its_figures(checkpoint):
    figures = examine(load(checkpoint, device="cpu"), scenes=2)
    told = {name: figures[name] for name in ("model", "dtype", "device", "scenes")}
    name = f"minivlm/{checkpoint.name}"  # not where it lies
    assert told == {"model": name, "dtype": "float32", "device": "cpu", "scenes": 2}
    assert figures["pope"]["random"]["questions"] > 2
    assert set(figures["skills"]) == set(SKILLS)


def test_a_skill_that_no_scene_serves_is_no_error(checkpoint):
    assert trials.ask(load(checkpoint, device="cpu"), [], [], 5) == []


def test_a_place_that_cannot_be_written_is_found_before_the_work(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(workshop, "load_vlm", lambda args: pytest.fail("the exam began"))
    monkeypatch.setattr("minivlm.training.train.train", lambda *args: pytest.fail("the training began"))
    (tmp_path / "file").write_text("")
    for command in ("exam", "train"):
        assert cli.main([command, "--out", str(tmp_path / "file" / "folder")]) == 1
    assert "Unexpected" not in capsys.readouterr().err


def test_control_characters_do_not_reach_a_terminal(monkeypatch):
    for shown, expected in ((True, "a\ufffd[2J\tb\n"), (False, "a\x1b[2J\tb\n")):
        out = io.StringIO()
        out.isatty = lambda shown=shown: shown
        monkeypatch.setattr(sys, "stdout", out)
        terminal.say("a\x1b[2J\tb", end="\n")
        assert out.getvalue() == expected


# --- doctor -----------------------------------------------------------------------------------------------------------


def test_doctor_as_json_and_as_text_say_the_same(capsys):
    assert cli.main(["doctor", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["packages"]["torch"] == torch.__version__.partition("+")[0] or facts["packages"]["torch"]
    assert facts["problems"] == []
    assert facts["next"]
    assert cli.main(["doctor"]) == 0
    text = capsys.readouterr().out
    assert facts["next"][0] in text
    assert facts["cache"]["folder"] in text


@pytest.mark.parametrize(("capability", "bf16"), [((7, 5), False), ((8, 0), True), ((9, 0), True)])
def test_bf16_is_judged_by_capability(monkeypatch, capability, bf16):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: capability)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: "A GPU")
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda index: (10**10, 2 * 10**10))
    (gpu,) = doctor.gpus()
    assert gpu["bf16"] is bf16
    assert ("no bf16" in doctor.describe_gpu(gpu)) is not bf16


def test_a_missing_package_is_a_problem_and_exits_with_1(monkeypatch, capsys):
    monkeypatch.setattr(doctor, "PACKAGES", ("torch", "a-package-that-nobody-has"))
    assert cli.main(["doctor"]) == 1
    printed = capsys.readouterr().out
    assert "PROBLEM" in printed
    assert "a-package-that-nobody-has is not installed" in printed
    assert "-m pip install ." in printed


def test_what_next_depends_on_what_is_there():
    small, seven = "llava-interleave-qwen-0.5b", "llava-1.5-7b"
    facts = {
        "problems": [],
        "shipped_model": "weights/tiny",
        "gpus": [],
        "memory": {"free": 20e9},
        "cache": {"models": [], "offline": False},
    }
    assert doctor.what_next(facts)[-1] == f"minivlm download {small}"
    assert seven in doctor.what_next(facts | {"cache": {"models": [seven]}, "memory": {"free": 50e9}})[-1]
    assert not any("llava" in line for line in doctor.what_next(facts | {"memory": {"free": 1e9}}))
    assert doctor.what_next(facts | {"shipped_model": None}) == ["minivlm train"]


def test_settings_left_out_are_the_library_s_defaults():
    assert Generation(**options.generation(asked("ask", "a.png", "What?"))) == Generation()
