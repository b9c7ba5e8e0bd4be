"""What help texts, READMEs and docstrings promise: true defaults, and commands and examples that can be typed."""

import argparse
import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import MISSING, fields
from pathlib import Path

import pytest

from minivlm.cli import evaluate, train
from minivlm.cli import main as cli
from minivlm.cli.bench import PICTURES
from minivlm.cli.options import read_objects
from minivlm.evaluation.chair import judge
from minivlm.evaluation.datasets import open_dataset
from minivlm.evaluation.lexicon import coco_lexicon
from minivlm.evaluation.pope import SPLITS
from minivlm.evaluation.settings import CONTROLS, method, value_of
from minivlm.experiments.exam import examine
from minivlm.inference.generate import Generation
from minivlm.inference.shipped import TINY
from minivlm.inputs.templates import TEMPLATES
from minivlm.model import CLVA, EAH
from minivlm.toyworld.world import WORLDS
from minivlm.training.planted_drift import DriftRecipe

ROOT = Path(__file__).parents[1]
PAGES = [
    *(ROOT / name for name in ("README.md", "CHANGELOG.md", "minivlm/README.md", "weights/README.md")),
    *sorted((ROOT / "weights").glob("*/README.md")),
    *sorted((ROOT / "notebooks").glob("**/*.md")),
    *sorted((ROOT / ".github").glob("*.md")),
    *sorted((ROOT / "minivlm").glob("**/*.py")),
]


def parsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """All parsers that read the options of a command or a task."""
    below = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if not below:
        yield parser
    for action in below:
        for one in action.choices.values():
            yield from parsers(one)


PARSERS = {parser.prog: parser for parser in parsers(cli.make_parser())}
OPTIONS = [
    pytest.param(parser, action, id=f"{program} {action.dest}")
    for program, parser in PARSERS.items()
    for action in parser._actions
    if action.option_strings and action.dest not in ("help", "debug")
]

# --- defaults ---------------------------------------------------------------------------------------------------------

# A default that the request leaves to the library, as the help calls it; and what must then be true.
USUAL = Generation()
LEFT_TO_THE_LIBRARY: dict[tuple[str, str], Callable[[], bool]] = {
    ("model", "tiny"): lambda: TINY == "tiny",
    ("max_new_tokens", "256"): lambda: USUAL.max_new_tokens == 256,
    ("max_new_tokens", "512 for captions, 10 for yes or no"): lambda: evaluate.LONGEST == {"chair": 512, "pope": 10},
    ("temperature", "0"): lambda: USUAL.temperature == 0,
    ("top_k", "all"): lambda: USUAL.top_k is None,
    ("top_p", "1"): lambda: USUAL.top_p == 1,
    ("seed", "another one each time"): lambda: USUAL.seed is None,
    ("stop", "none"): lambda: USUAL.stop == (),
    ("pictures", "16"): lambda: PICTURES == 16,
    ("split", "random,popular,adversarial"): lambda: evaluate.SPLITS.split(",") == list(SPLITS),
    ("strength", "1"): lambda: DriftRecipe().strength == 1,
    ("out", " or ".join(train.TRAINED.values())): lambda: len(train.TRAINED) == 3,
    ("scenes", "1000, for --layers 200"): lambda: (train.SCENES["exam"], train.SCENES["layers"]) == (1000, 200),
}
IN_WORDS = {  # what happens without the option; each is tried where its command is
    *("the clock's seconds", "the hub's main branch", "cuda where there is one, else cpu"),
    *("what suits files and device", "the checkpoint's", "as the model was trained", "none", "text", "all", "our own"),
    *("all layers of a small model", "stand-ins with made-up words", "the complete training", "no files"),
    *(
        "a short question",
        "those of --model",
        "held if there is room for them twice",
        "the data's usual one",
        "COCO's usual question, or the toy world's",
    ),
    *("a new run", "with 1", "questions are made anew", "nothing", "no card", "all tests", "this one"),
    *("what assignment.json in their folders says", "none, text only", "not known, nothing is marked"),
    *("--seed-file, or MINIVLM_SEED in the environment", "none, see --seed", "never"),
    "the newest time of the files, which can be forged",
}


@pytest.mark.parametrize(("parser", "action"), OPTIONS)
def test_each_default_in_a_help_text_is_the_true_one(parser, action):
    told = re.search(r"\(default: (.*)\)$", action.help or "")
    usual = next(one.default for one in fields(parser.get_default("request")) if one.name == action.dest)
    if told is None:  # what must be typed, a switch, or a method that is off: "By default, nothing is changed"
        assert usual is MISSING or usual is False or action.dest in ("eah", "clva", "healthy", "peers")
    elif usual is None or usual is False or usual in ((), "") or told[1] in IN_WORDS:
        assert told[1] in IN_WORDS or LEFT_TO_THE_LIBRARY[action.dest, told[1]]()
    else:
        assert re.fullmatch(rf"{re.escape(str(usual))}(,.*)?", told[1])


def test_functions_have_the_defaults_of_the_commands():
    assert examine.__defaults__ == (train.SCENES["exam"],)


# --- commands -------------------------------------------------------------------------------------------------------


def commands() -> Iterator[tuple[str, str]]:
    """(page, command) for every command that a page shows: in backticks, or as a line of a block."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        found = re.findall(r"`(?:python -m )?(minivlm [a-z][^`\n]*)`", text)
        if page.suffix == ".md":
            blocks = "".join(re.findall(r"^```(?:bash)?\n(.*?)^```", text, re.MULTILINE | re.DOTALL))
            found += re.findall(r"^(?:[\w./]*python -m |[\w./]*bin/)?(minivlm [a-z][^#\n&|]*)", blocks, re.MULTILINE)
        yield from ((page.relative_to(ROOT).as_posix(), command.strip()) for command in found)


def parser_of(words: list[str]) -> argparse.ArgumentParser | None:
    """The parser of a command that is typed by these words; None for a group such as `minivlm evaluate`."""
    for length in (4, 3, 2):
        if (program := " ".join(words[:length])) in PARSERS:
            return PARSERS[program]
    return None


SHOWN = sorted(set(commands()))


def test_commands_are_found_in_many_places():
    assert len(SHOWN) > 60
    assert {"README.md", "minivlm/inference/shipped.py", "weights/tiny/README.md"} <= {page for page, _ in SHOWN}


@pytest.mark.parametrize(("page", "command"), SHOWN)
def test_each_command_that_a_page_shows_exists_with_its_options(page, command):
    if "{" in command:  # made by a program
        return
    words = re.split(r"[\s|]+", re.sub(r"[\[\]…\\]", " ", command).strip())
    parser = parser_of(words)
    groups = {"evaluate", "course", "score"} if parser is None else set()
    assert parser or words[1] in groups
    known = {option for one in ([parser] if parser else PARSERS.values()) for option in one._option_string_actions}
    assert {word for word in words if word.startswith("--")} <= known


def lines_of_readme() -> list[str]:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = "".join(re.findall(r"^```bash\n(.*?)^```", text, re.MULTILINE | re.DOTALL))
    lines = [part.strip() for line in blocks.splitlines() for part in line.partition("#")[0].split("&&")]
    typed = [re.sub(r"^(python -m |\.venv/bin/)", "", line) for line in lines]
    return [line for line in typed if line.startswith("minivlm ")]


EPILOG = [re.sub(r"\s{2,}.*$", "", line.strip()) for line in cli.BEGIN.splitlines()[1:]]


@pytest.mark.parametrize("line", [*lines_of_readme(), *filter(None, EPILOG)])
def test_each_command_of_the_readme_and_of_the_help_can_be_typed(line):
    args = cli.make_parser().parse_args(shlex.split(line)[1:])
    assert args.run


# --- examples in help texts -----------------------------------------------------------------------------------------


def test_the_examples_of_settings_are_read():
    help_text = PARSERS["minivlm ask"].format_help()
    text = " ".join(help_text.split())
    (eah,) = re.findall(r"--eah (layer\S+)", text)
    (clva,) = re.findall(r"--clva (omega\S+?);", text)
    assert method(EAH, eah) == EAH(layer=2, head="random")
    assert method(CLVA, clva) == CLVA(omega=0.6, deep_layers=(6, 7))


def test_the_examples_of_explore_are_read():
    text = " ".join(PARSERS["minivlm explore"].format_help().split())
    (objects,) = re.findall(r"what is in the picture, such as (\S+):", text)
    (box,) = re.findall(r"(dog=\S+) also", text)
    (heads,) = re.findall(r"these layers, such as (\S+)", text)
    assert read_objects(objects, coco_lexicon()).truth == ["dog", "cat"]
    assert read_objects(box, coco_lexicon()).boxes == {"dog": [(8.0, 9.0, 30.0, 40.0)]}
    assert value_of(tuple[int, ...], heads, "--heads") == (1, 2)


def test_the_examples_of_worlds_controls_and_templates_exist(monkeypatch):
    monkeypatch.setenv("COLUMNS", "10000")  # a line for each text
    (world,) = re.findall(r"such as (\w+);", " ".join(PARSERS["minivlm demo"].format_help().split()))
    (control,) = re.findall(r"a control such as\s+([\w-]+)", PARSERS["minivlm evaluate chair"].format_help())
    assert world in WORLDS
    assert control in CONTROLS
    assert set(TEMPLATES) <= set(re.findall(r"\w+", PARSERS["minivlm ask"].format_usage()))


# --- examples in docstrings -----------------------------------------------------------------------------------------


def test_the_example_of_the_lexicon():
    import minivlm.evaluation.lexicon as module

    caption, told = re.findall(r'"(.*?)"\s+→\s+(.*)', module.__doc__)[0]
    found = [f"{one.object} at {one.start}..{one.stop}" for one in judge(caption, (), coco_lexicon()).mentions]
    assert ", ".join(found) == told


def test_the_example_lines_of_a_listing(tmp_path):
    import json

    import minivlm.evaluation.listing as module
    from minivlm.evaluation.listing import read_listing

    line, question = re.findall(r"^    (\{.*?\})", module.__doc__, re.MULTILINE)
    (tmp_path / "data.jsonl").write_text(line)
    (tmp_path / "coco_pope_random.json").write_text(question)
    assert read_listing(tmp_path / "data.jsonl", coco_lexicon()).truth == {"cat 1": {"cat", "couch"}}
    asked = read_listing(tmp_path / "coco_pope_random.json", coco_lexicon()).questions[0]
    assert (asked.text, asked.label) == (json.loads(question)["text"], False)


def test_the_examples_of_scenes():
    from minivlm.evaluation.scenes import FORM_OF_SPEC

    for spec in re.findall(r"scenes:[\w:]*\d", FORM_OF_SPEC):
        assert open_dataset(spec).images
