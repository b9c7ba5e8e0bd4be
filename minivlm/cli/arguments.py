"""Commands and options as argparse reads them; `options.py` says what the options of several commands mean.

An option that was not typed is missing in argparse's result, and has the default of its request.
"""

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Generic, TypeVar

from minivlm.cli.options import Request
from minivlm.errors import LARGEST_SEED, brief
from minivlm.inputs.templates import TEMPLATES

VISION_TOWER = "for original LLaVA files, which lack it: a .safetensors file, or 'openai' (default: none)"
DTYPES = ("float32", "bfloat16", "float16", "float64", "fp32", "bf16", "fp16")
WEIGHTS = ("int8", "int4")  # of checkpoints/quantised.py, which imports torch
MEMORY = ("mapped", "resident")  # of checkpoints/resident.py
IMAGE_MODES = ("crop", "pad", "stretch")  # of inputs/image.py, which imports torch

AnyRequest = TypeVar("AnyRequest", bound=Request)


@dataclass(frozen=True)
class Command(Generic[AnyRequest]):
    """A command, or a task of one."""

    run: Callable[[AnyRequest], int | None]  # does it; returns the exit code, None for 0
    request: type[AnyRequest]  # what `run` gets
    add_options: Callable[[argparse.ArgumentParser], None]
    help: str  # one line about it


class Parser(argparse.ArgumentParser):
    """A parser whose options may be typed once, unless they gather a list (`action="append"`), and not as ""."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        for action in (None, "store"):  # what `add_argument` takes unless it is told another
            self.register("action", action, StoreOnce)


class StoreOnce(argparse.Action):
    """Stores the one value of an option, or the values of an argument.

    argparse's own would take the last of several values without a word, and "" as if the option had not been typed.
    """

    def __call__(self, parser: object, typed: object, values: Any, option: str | None = None) -> None:
        """Put `values` among the options that were `typed` before; `option`: as it was typed, None for an argument."""
        if option is not None and self.dest in vars(typed):
            raise argparse.ArgumentError(self, "was typed twice; leave one of them out")
        if option is not None and values == "" and self.const is None:
            raise argparse.ArgumentError(self, "expected a value, found an empty text; leave the option out instead")
        vars(typed)[self.dest] = values


def add_commands(parser: argparse.ArgumentParser, dest: str, commands: Mapping[str, Command[Any]]) -> None:
    """Add a parser for each command. `dest`: the name of the choice, also in the help, such as "command"."""
    parsers = parser.add_subparsers(dest=dest, metavar=dest.upper(), required=True)
    for name, command in commands.items():
        below = parsers.add_parser(
            name, help=command.help, description=command.help, argument_default=argparse.SUPPRESS
        )
        below.set_defaults(run=command.run, request=command.request)
        add_debug(below, default=argparse.SUPPRESS)  # a default of False would undo a --debug before the command
        command.add_options(below)


def request(args: argparse.Namespace) -> Request:
    """What was typed, as the request of its command."""
    typed = {name: tuple(value) if isinstance(value, list) else value for name, value in vars(args).items()}
    return args.request(**{field.name: typed[field.name] for field in fields(args.request) if field.name in typed})


def no_options(parser: argparse.ArgumentParser) -> None:
    """Add nothing, for a command without options."""


# --- options --------------------------------------------------------------------------------------------------------


def add_model(parser: argparse.ArgumentParser) -> None:
    """Add the options of a `ModelRequest`; see `options.load_vlm`."""
    group = parser.add_argument_group("model")
    group.add_argument("--model", metavar="M", help="a folder, a hub name, or one of `minivlm models` (default: tiny)")
    group.add_argument("--revision", help="branch, tag or commit of a hub name (default: the hub's main branch)")
    group.add_argument("--device", help="cpu, cuda, cuda:1 or mps (default: cuda where there is one, else cpu)")
    group.add_argument("--dtype", choices=DTYPES, help="of the computation (default: what suits files and device)")
    group.add_argument("--template", choices=tuple(TEMPLATES), help="of the prompt (default: the checkpoint's)")
    mode = "make pictures square by cropping, padding or stretching them (default: as the model was trained)"
    group.add_argument("--image-mode", choices=IMAGE_MODES, help=mode)
    group.add_argument("--vision-tower", metavar="FILE", help=VISION_TOWER)
    weights = "quantise the decoder, which then takes a half or a quarter of the memory (default: the checkpoint's)"
    group.add_argument("--weights", choices=WEIGHTS, help=weights)
    memory = "of weights on a CPU: in their mapped files, or held (default: held if there is room for them twice)"
    group.add_argument("--memory", choices=MEMORY, help=memory)


def add_generation(parser: argparse.ArgumentParser, longest: str = "256") -> None:
    """Add the options of an `AnswerRequest`; see `options.generation`. `longest`: default tokens, for the help."""
    group = parser.add_argument_group("answer")
    longest = f"longest answer, in tokens (default: {longest})"
    group.add_argument("--max-new-tokens", type=int, metavar="N", help=longest)
    temperature = "divides the logits before sampling; 0 always takes the likeliest token (default: 0)"
    group.add_argument("--temperature", type=float, metavar="T", help=temperature)
    group.add_argument("--top-k", type=int, metavar="K", help="sample among the K likeliest tokens (default: all)")
    top_p = "sample among the fewest likeliest tokens with this share of the probability, above 0 to 1 (default: 1)"
    group.add_argument("--top-p", type=float, metavar="P", help=top_p)
    group.add_argument("--seed", type=int, help="of the sampling (default: another one each time)")
    stop = "a text that ends the answer; repeatable (default: none)"
    group.add_argument("--stop", action="append", metavar="S", help=stop)


def add_mitigation(parser: argparse.ArgumentParser, *, compare: bool = True) -> None:
    """Add the options of a `MitigationRequest`; see `options.mitigation`. `compare`: False for what always compares."""
    about = (
        "change how the model looks at the picture. stdout holds the answer alone; what was changed is one line on "
        "stderr, and with --json `effect`. SETTINGS are the fields of minivlm.EAH or minivlm.CLVA, as in "
        "--eah layer=2,head=random or --clva omega=0.6,deep_layers=6-7; without any, the defaults for the model. "
        "By default, nothing is changed"
    )
    group = parser.add_argument_group("mitigation", about)
    eah = "copy the map of the head with most vision sinks to all heads"
    group.add_argument("--eah", nargs="?", const="", type=settings_text, metavar="SETTINGS", help=eah)
    clva = "pull deep layers to visual anchors (our reading of the abstract)"
    group.add_argument("--clva", nargs="?", const="", type=settings_text, metavar="SETTINGS", help=clva)
    if compare:
        what = "run the plain model on the same answer, and report the mean KL divergence from it, in nats"
        group.add_argument("--compare", action="store_true", help=what)


def add_methods(parser: argparse.ArgumentParser) -> None:
    """Add the options of a `MethodRequest`, for commands that compare methods."""
    about = "settings of the methods that are compared, see `minivlm ask --help` (default: those for the model)"
    group = parser.add_argument_group("settings", about)
    group.add_argument("--eah", nargs="?", const="", type=settings_text, metavar="SETTINGS", help="of EAH")
    group.add_argument("--clva", nargs="?", const="", type=settings_text, metavar="SETTINGS", help="of CLVA")


def add_debug(parser: argparse.ArgumentParser, default: object) -> None:
    """Add --debug, which every command has. `default`: its value if it was not typed."""
    parser.add_argument("--debug", action="store_true", default=default, help="show the traceback of an error")


def add_json(parser: argparse.ArgumentParser) -> None:
    """Add --json, for commands that print results."""
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout (default: text)")


# --- types of options -----------------------------------------------------------------------------------------------


def settings_text(text: str) -> str:
    """The type of an option whose value is name=value,name=value. It may stand alone, and would then take the word
    behind it as its value: such a word is refused here.
    """
    if text and "=" not in text:
        raise argparse.ArgumentTypeError(f"expected name=value, found {text!r}; without settings, put it at the end")
    return text


def whole_number(least: int, most: int = LARGEST_SEED) -> Callable[[str], int]:
    """The type of an option that is a whole number from `least` to `most`."""

    def parse(text: str) -> int:
        number = int(text)
        if number < least:
            raise argparse.ArgumentTypeError(f"must be at least {least}, found {brief(number)}")
        if number > most:
            raise argparse.ArgumentTypeError(f"must be at most {most}, found {brief(number)}")
        return number

    parse.__name__ = "whole number"  # argparse says "invalid whole number value"
    return parse
