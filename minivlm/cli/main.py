"""The command `minivlm`: what can be typed, and how it ends.

Results go to stdout, progress and remarks to stderr. The exit code is 0 if it went well, 1 if it did not, 2 if the
command was typed wrong and 130 after Ctrl-C. An error is one sentence; `--debug` shows where it arose.
"""

import argparse
import os
import sys
import traceback
from collections.abc import Sequence
from typing import Any

from minivlm import __version__
from minivlm.cli import arguments, ask, bench, course, evaluate, train
from minivlm.cli.arguments import Command
from minivlm.cli.options import Request
from minivlm.cli.terminal import (
    STDOUT,
    allow_any_text,
    forget_stdout,
    is_closed_pipe,
    own_streams,
    remark,
    short_warnings,
)
from minivlm.errors import MinivlmError
from minivlm.evaluation.settings import UsageError
from minivlm.shell import FAILED, INTERRUPTED, MISUSED

# Those of toyworld/world.py, which imports numpy and Pillow and would make `minivlm --help` three times as slow.
BEGIN = """begin with
  minivlm demo                                    three new pictures and what the model says about them
  minivlm ask photo.jpg "What is in the image?"   your own picture
  minivlm doctor                                  what this machine can run
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; a command that was typed wrong raises SystemExit(2), as argparse does.

    `argv`: the words that follow `minivlm`, by default those of this process.
    """
    allow_any_text()  # even the help has characters that some encodings lack
    parser = make_parser()
    args = parser.parse_args(argv)
    try:
        with own_streams(), short_warnings():
            code = args.run(arguments.request(args))
            sys.stdout.flush()
        return code or 0
    except UsageError as error:
        parser.exit(MISUSED, f"minivlm {args.command}: {error}\n")
    except KeyboardInterrupt:
        remark("\nminivlm: interrupted")
        return INTERRUPTED
    except Exception as error:
        if is_closed_pipe(error):  # the program that read the output has ended, as `| head` does
            forget_stdout()
            return FAILED
        if args.debug and sys.stderr is not None:
            traceback.print_exc()
        if isinstance(error, OSError) and error.filename == STDOUT:
            forget_stdout()
        remark(f"minivlm: {one_line(error)}")
        return FAILED


def one_line(error: Exception) -> str:
    """The sentence that a user reads about an error; if minivlm did not foresee it, the sentence says so."""
    text = " ".join(str(error).split())
    if isinstance(error, MinivlmError):
        return text
    if isinstance(error, OSError) and error.filename is not None:
        return f"{os.fsdecode(error.filename)}: {error.strerror}."
    kind = type(error).__name__
    if "OutOfMemory" in kind or isinstance(error, MemoryError):
        return f"Out of memory ({text or kind}). Use a 16-bit dtype or a smaller model."
    return f"Unexpected {kind}: {text} The same command with --debug shows where it arose."


# --- options of the commands ----------------------------------------------------------------------------------------


def make_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = arguments.Parser(
        prog="minivlm",
        description="A small vision-language model, written to be read.",
        epilog=BEGIN,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    arguments.add_debug(parser, default=False)
    version = "print the version and exit"
    parser.add_argument("--version", action="version", version=f"minivlm {__version__}", help=version)
    arguments.add_commands(parser, "command", COMMANDS)
    return parser


def demo_options(parser: argparse.ArgumentParser) -> None:
    usual = ask.DemoRequest
    seed = "of the first scene; each further scene has the next number (default: the clock's seconds)"
    parser.add_argument("--seed", type=arguments.whole_number(0), help=seed)
    scenes = f"number of scenes (default: {usual.scenes})"
    parser.add_argument("--scenes", type=arguments.whole_number(1), metavar="N", help=scenes)
    world = f"what kind of scenes, such as crowded; a wrong name lists them all (default: {usual.world})"
    parser.add_argument("--world", metavar="WORLD", help=world)
    parser.add_argument("--out", metavar="FOLDER", help=f"where pictures are saved (default: {usual.out})")
    arguments.add_model(parser)
    arguments.add_json(parser)


def ask_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("image", metavar="IMAGE", help="a picture file, or - to read one from stdin")
    parser.add_argument("question", metavar="QUESTION", help="a text about the picture")
    also = "a further picture; repeatable (default: none)"
    parser.add_argument("--also", action="append", metavar="IMAGE", help=also)
    arguments.add_model(parser)
    arguments.add_mitigation(parser)
    arguments.add_generation(parser)
    arguments.add_json(parser)


def chat_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("image", nargs="?", metavar="IMAGE", help="a picture file (default: none, text only)")
    arguments.add_model(parser)
    arguments.add_mitigation(parser)
    arguments.add_generation(parser)


def explore_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("image", metavar="IMAGE", help="a picture file, or - to read one from stdin")
    parser.add_argument("question", metavar="QUESTION", help="a text about the picture")
    parser.add_argument("--out", metavar="FILE", help=f"where the page is saved (default: {ask.ExploreRequest.out})")
    objects = "what is in the picture, such as dog,cat: whatever else the answer names is marked as invented. "
    objects += "dog=8:9:30:40 also says where (left, top, right, bottom, in pixels), for the curve of evidence "
    objects += "(default: not known, nothing is marked)"
    parser.add_argument("--objects", metavar="LIST", help=objects)
    heads = "keep the maps of single heads of these layers, such as 1-2 (default: all layers of a small model)"
    parser.add_argument("--heads", metavar="LAYERS", help=heads)
    arguments.add_model(parser)
    arguments.add_mitigation(parser, compare=False)
    arguments.add_generation(parser)


def check_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", metavar="PATH", help="a folder, or a hub name that was downloaded before")
    parser.add_argument("--vision-tower", metavar="FILE", help=arguments.VISION_TOWER)
    revision = "branch, tag or commit of a hub name (default: the hub's main branch)"
    parser.add_argument("--revision", help=revision)
    arguments.add_json(parser)


def download_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="a short name of `minivlm models`, or a name on the hub")
    parser.add_argument("--revision", help="branch, tag or commit (default: the hub's main branch)")


def make_random_options(parser: argparse.ArgumentParser) -> None:
    usual = train.RandomRequest
    parser.add_argument("folder", metavar="FOLDER", help="where it is written; must hold no weights yet")
    sizes = "llava-interleave-qwen-0.5b, llava-1.5-7b, llava-1.5-13b"
    like = f"{sizes}, or a folder whose config.json is taken (default: {usual.like})"
    parser.add_argument("--like", metavar="SIZE", help=like)
    dtypes = ("bfloat16", "float16", "float32")
    parser.add_argument("--dtype", choices=dtypes, help=f"of the weights in the file (default: {usual.dtype})")
    parser.add_argument("--seed", type=arguments.whole_number(0), help=f"of the weights (default: {usual.seed})")
    tokenizer = "copy its small files: tokenizer, template, preprocessor (default: stand-ins with made-up words)"
    parser.add_argument("--tokenizer", metavar="FOLDER", help=tokenizer)


def train_options(parser: argparse.ArgumentParser) -> None:
    usual = train.TrainRequest
    what = "tiny: the small model, from nothing (default); planted-drift, planted-sinks: positive controls for CLVA "
    what += "and for EAH, each with the healthy model beside it, both from the small one"
    parser.add_argument("what", nargs="?", choices=tuple(train.TRAINED), default=usual.what, help=what)
    folders = " or ".join(train.TRAINED.values())
    parser.add_argument("--out", metavar="FOLDER", help=f"where it is written; no weights yet (default: {folders})")
    strength = "of the planted drift: 1: every row drifts, 0.5: those late in a long answer (default: 1)"
    parser.add_argument("--strength", type=float, metavar="X", help=strength)
    parser.add_argument("--device", help="cpu, cuda, cuda:1 or mps (default: cuda where there is one, else cpu)")
    quick = "a few steps of each stage, to see that all of it runs (default: the complete training)"
    parser.add_argument("--quick", action="store_true", help=quick)
    seed = f"of weights and scenes (default: {usual.seed})"
    parser.add_argument("--seed", type=arguments.whole_number(0), help=seed)


def exam_options(parser: argparse.ArgumentParser) -> None:
    scenes = "scenes of each world (default: 1000, for --layers 200)"
    parser.add_argument("--scenes", type=arguments.whole_number(1), metavar="N", help=scenes)
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument("--methods", action="store_true", help="try EAH and CLVA with their controls instead (slow)")
    instead.add_argument("--layers", action="store_true", help="measure where each layer looks instead")
    healthy = "the healthy model: try a method on the planted one in --model, and print the gates of a positive control"
    instead.add_argument("--healthy", metavar="FOLDER", help=healthy)
    out = "write the figures here (exam.json, methods.json, layers.json or gates.json), and the model's card "
    out += "(default: no files)"
    parser.add_argument("--out", metavar="FOLDER", help=out)
    arguments.add_model(parser)
    arguments.add_json(parser)


COMMANDS: dict[str, Command[Any]] = {
    "demo": Command(
        ask.demo,
        ask.DemoRequest,
        demo_options,
        "draw new scenes, describe them plain, under EAH and under CLVA, and mark what is invented",
    ),
    "ask": Command(
        ask.ask, ask.AskRequest, ask_options, "ask a question about a picture; the answer appears as it is written"
    ),
    "chat": Command(
        ask.chat,
        ask.ChatRequest,
        chat_options,
        "ask about a picture again and again; questions are read from stdin, one a line",
    ),
    "explore": Command(
        ask.explore,
        ask.ExploreRequest,
        explore_options,
        "write a page that shows where every word of an answer looked, layer by layer",
    ),
    "doctor": Command(
        ask.doctor,
        ask.DoctorRequest,
        arguments.add_json,
        "say what this machine has, what it can run, and what to type next",
    ),
    "models": Command(
        ask.models,
        ask.ModelsRequest,
        arguments.add_json,
        "list the published models that have a short name, and whether they fit this machine",
    ),
    "check": Command(
        ask.check, ask.CheckRequest, check_options, "account for every tensor of a checkpoint, without the network"
    ),
    "download": Command(
        ask.download,
        ask.DownloadRequest,
        download_options,
        "fetch a model from the hub into its cache, and print the folder",
    ),
    "make-random": Command(
        train.make_random,
        train.RandomRequest,
        make_random_options,
        "write a checkpoint with random weights, to test your hardware without real ones",
    ),
    "train": Command(train.train, train.TrainRequest, train_options, "make the small model anew, from nothing"),
    "exam": Command(
        train.exam,
        train.ExamRequest,
        exam_options,
        "measure how much a model sees and how much it invents, on new scenes",
    ),
    "bench": Command(
        bench.bench,
        bench.BenchRequest,
        bench.bench_options,
        "measure what EAH, CLVA and a trace cost, as ratios to plain in one run, and how fast this machine is",
    ),
    "evaluate": Command(
        evaluate.evaluate,
        Request,
        evaluate.add_options,
        "measure hallucination with CHAIR and POPE, compare runs, score what others wrote",
    ),
    "course": Command(
        course.course,
        Request,
        course.add_options,
        "take the course, or give it: parts of this package to write yourself, with points and grades",
    ),
}
