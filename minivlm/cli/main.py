"""The command `minivlm`: what can be typed, and how it ends.

Results go to stdout, progress and remarks to stderr. The exit code is 0 if it went well, 1 if it did not, 2 if the
command was typed wrong and 130 after Ctrl-C. An error is one sentence; `--debug` shows where it arose.
"""

import argparse
import os
import sys
import traceback
from collections.abc import Sequence

from minivlm import __version__
from minivlm.cli import arguments, ask, course, evaluate, train
from minivlm.cli.arguments import Command
from minivlm.cli.options import Request
from minivlm.cli.terminal import allow_any_text, forget_stdout, is_closed_pipe, remark, short_warnings
from minivlm.errors import MinivlmError
from minivlm.evaluation.settings import UsageError
from minivlm.shell import FAILED, INTERRUPTED, MISUSED

# Those of toyworld/world.py, which imports numpy and Pillow and would make `minivlm --help` three times as slow.
WORLDS = ("held-out", "rare-companions", "substitutions", "crowded", "clear")
BEGIN = """begin with
  minivlm demo                                    three new pictures and what the model says about them
  minivlm ask photo.jpg "What is in the image?"   your own picture
  minivlm doctor                                  what this machine can run
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; a command that was typed wrong raises SystemExit(2), as argparse does.

    `argv`: the words behind `minivlm`, by default those of this process.
    """
    allow_any_text()  # the help, too, has letters that an encoding may lack
    parser = make_parser()
    args = parser.parse_args(argv)
    try:
        with short_warnings():
            code = args.run(arguments.request(args))
            sys.stdout.flush()
        return code or 0
    except UsageError as error:
        parser.exit(MISUSED, f"minivlm {args.command}: {error}\n")
    except KeyboardInterrupt:
        print("\nminivlm: interrupted", file=sys.stderr)
        return INTERRUPTED
    except Exception as error:
        if is_closed_pipe(error):  # whoever read the output has seen enough
            forget_stdout()
            return FAILED
        if args.debug:
            traceback.print_exc()
        remark(f"minivlm: {one_line(error)}")
        return FAILED


def one_line(error: Exception) -> str:
    """The sentence that a user reads. Errors that minivlm did not foresee say so."""
    text = " ".join(str(error).split())
    if isinstance(error, MinivlmError):
        return text
    if isinstance(error, OSError) and error.filename is not None:
        return f"{os.fsdecode(error.filename)}: {error.strerror}."
    kind = type(error).__name__
    if "OutOfMemory" in kind or isinstance(error, MemoryError):
        return f"The memory did not suffice ({text or kind}). Choose a dtype of two bytes or a smaller model."
    return f"Unexpected {kind}: {text} The same command with --debug shows where it arose."


# --- what can be typed --------------------------------------------------------------------------------------------


def make_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="minivlm",
        description="A small vision-language model, written to be read.",
        epilog=BEGIN,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    arguments.debug(parser, default=False)
    parser.add_argument("--version", action="version", version=f"minivlm {__version__}")
    arguments.add_commands(parser.add_subparsers(dest="command", metavar="COMMAND", required=True), COMMANDS)
    return parser


def _demo(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seed", type=arguments.whole(0), help="which scenes are drawn (default: from the clock)")
    usual = ask.DemoRequest
    parser.add_argument("--scenes", type=arguments.whole(1), metavar="N", help=f"how many (default: {usual.scenes})")
    parser.add_argument("--world", choices=WORLDS, help=f"what kind of scenes (default: {usual.world})")
    parser.add_argument("--out", metavar="FOLDER", help=f"where pictures are saved (default: {usual.out})")
    arguments.model(parser)
    arguments.as_json(parser)


def _ask(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("image", metavar="IMAGE", help="a picture file, or - to read one from stdin")
    parser.add_argument("question", metavar="QUESTION")
    parser.add_argument("--also", action="append", metavar="IMAGE", help="a further picture; repeatable")
    arguments.model(parser)
    arguments.mitigation(parser)
    arguments.generation(parser)
    arguments.as_json(parser)


def _chat(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("image", nargs="?", metavar="IMAGE", help="a picture file; without one, text only")
    arguments.model(parser)
    arguments.mitigation(parser)
    arguments.generation(parser)


def _explore(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("image", metavar="IMAGE", help="a picture file, or - to read one from stdin")
    parser.add_argument("question", metavar="QUESTION")
    parser.add_argument("--out", metavar="FILE", help=f"the page (default: {ask.ExploreRequest.out})")
    objects = "what is in the picture, such as dog,cat: whatever else the answer names is marked as invented. "
    objects += "dog=8:9:30:40 also says where (left, top, right, bottom, in pixels), for the curve of evidence"
    parser.add_argument("--objects", metavar="LIST", help=objects)
    heads = "keep the maps of single heads of these layers, such as 1-2 (default: all of a small model)"
    parser.add_argument("--heads", metavar="LAYERS", help=heads)
    arguments.model(parser)
    arguments.mitigation(parser)
    arguments.generation(parser)


def _check(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", metavar="PATH", help="a folder, or a hub name that was downloaded before")
    parser.add_argument("--vision-tower", metavar="FILE", help="for original LLaVA files: a .safetensors or 'openai'")
    parser.add_argument("--revision", help="of a hub name: branch, tag or commit")
    arguments.as_json(parser)


def _download(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="a short name of `minivlm models`, or one on the hub")
    parser.add_argument("--revision", help="branch, tag or commit")


def _make_random(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", metavar="FOLDER", help="where it is written; must hold no weights yet")
    default = train.RandomRequest.like
    like = f"llava-1.5-7b, llava-1.5-13b, or a folder whose config.json is taken (default: {default})"
    parser.add_argument("--like", metavar="SIZE", help=like)
    parser.add_argument("--dtype", choices=("bfloat16", "float16", "float32"), help="of the file")
    parser.add_argument("--seed", type=arguments.whole(0))
    tokenizer = "copy the tokenizer files of this folder, without which a model can be checked but not asked"
    parser.add_argument("--tokenizer", metavar="FOLDER", help=tokenizer)


def _train(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", metavar="FOLDER", help=f"default: {train.TrainRequest.out}")
    parser.add_argument("--device", help="default: cuda where there is one, else cpu")
    parser.add_argument("--quick", action="store_true", help="a few steps of each stage, to see that all of it runs")
    parser.add_argument("--seed", type=arguments.whole(0))


def _exam(parser: argparse.ArgumentParser) -> None:
    scenes = "of each world (default: 1000, for --layers 200)"
    parser.add_argument("--scenes", type=arguments.whole(1), metavar="N", help=scenes)
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument("--methods", action="store_true", help="try EAH and CLVA with their controls instead (slow)")
    instead.add_argument("--layers", action="store_true", help="measure where each layer looks instead")
    out = "write the figures (exam.json, methods.json or layers.json) and the model's card here"
    parser.add_argument("--out", metavar="FOLDER", help=out)
    arguments.model(parser)
    arguments.as_json(parser)


def _bench(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--prompt", type=arguments.whole(1), metavar="TOKENS", help="length of the prompt, with its picture"
    )
    new = f"tokens of an answer (default: {train.BenchRequest.new})"
    parser.add_argument("--new", type=arguments.whole(2), metavar="N", help=new)
    methods = f"of {train.BenchRequest.methods}; plain is always there (default: all)"
    parser.add_argument("--methods", metavar="LIST", help=methods)
    repeats = f"rounds (default: {train.BenchRequest.repeats})"
    parser.add_argument("--repeats", type=arguments.whole(1), metavar="R", help=repeats)
    arguments.model(parser)
    arguments.methods(parser)
    arguments.as_json(parser)


COMMANDS = {
    "demo": Command(ask.demo, ask.DemoRequest, _demo),
    "ask": Command(ask.ask, ask.AskRequest, _ask),
    "chat": Command(ask.chat, ask.ChatRequest, _chat),
    "explore": Command(ask.explore, ask.ExploreRequest, _explore),
    "doctor": Command(ask.doctor, ask.DoctorRequest, arguments.as_json),
    "models": Command(ask.models, ask.ModelsRequest, arguments.as_json),
    "check": Command(ask.check, ask.CheckRequest, _check),
    "download": Command(ask.download, ask.DownloadRequest, _download),
    "make-random": Command(train.make_random, train.RandomRequest, _make_random),
    "train": Command(train.train, train.TrainRequest, _train),
    "exam": Command(train.exam, train.ExamRequest, _exam),
    "bench": Command(train.bench, train.BenchRequest, _bench),
    "evaluate": Command(evaluate.evaluate, Request, evaluate.add_options),
    "course": Command(course.course, Request, course.add_options),
}
