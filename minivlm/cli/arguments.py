"""Commands and options as argparse reads them; what the options that several commands share mean is in `options.py`.

An option that was not typed is not in argparse's result: its default is the request's.
"""

import argparse
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any, NamedTuple

from minivlm.cli.options import Request
from minivlm.inputs.templates import TEMPLATES

DTYPES = ("float32", "bfloat16", "float16", "float64", "fp32", "bf16", "fp16")
IMAGE_MODES = ("crop", "pad", "stretch")  # of inputs/image.py, which imports torch


class Command(NamedTuple):
    """A command or a task of one."""

    run: Callable[[Any], int | None]  # does it, and returns the exit code if that is not 0; its docstring is the help
    request: type[Request]  # what `run` is given
    add: Callable[[argparse.ArgumentParser], None]  # adds the options


def add_commands(parsers: Any, commands: Mapping[str, Command]) -> None:
    """A parser for each command; what it parses is made a request by `request`."""
    for name, (run, kind, add) in commands.items():
        summary = (run.__doc__ or "").partition("\n")[0]
        parser = parsers.add_parser(name, help=summary, description=summary, argument_default=argparse.SUPPRESS)
        parser.set_defaults(run=run, request=kind)
        debug(parser, default=argparse.SUPPRESS)  # or it would undo a --debug in front of the command
        add(parser)


def request(args: argparse.Namespace) -> Request:
    """What was typed, as the request of its command."""
    typed = {name: tuple(value) if isinstance(value, list) else value for name, value in vars(args).items()}
    return args.request(**{field.name: typed[field.name] for field in fields(args.request) if field.name in typed})


def nothing(parser: argparse.ArgumentParser) -> None:
    """No options."""


# --- options --------------------------------------------------------------------------------------------------------


def model(parser: argparse.ArgumentParser) -> None:
    """Which model, and how it reads; see `options.load_vlm`."""
    group = parser.add_argument_group("model")
    group.add_argument("--model", metavar="M", help="a folder or a hub name (default: the shipped model)")
    group.add_argument("--revision", help="of a hub name: branch, tag or commit")
    group.add_argument("--device", help="cpu, cuda, cuda:1, mps (default: cuda where there is one, else cpu)")
    group.add_argument("--dtype", choices=DTYPES, help="numbers to compute with (default: what suits file and device)")
    group.add_argument("--template", choices=tuple(TEMPLATES), help="of the prompt (default: the checkpoint's)")
    group.add_argument("--image-mode", choices=IMAGE_MODES, help="how pictures become square (default: the same)")
    group.add_argument("--vision-tower", metavar="FILE", help="for original LLaVA files: a .safetensors or 'openai'")


def generation(parser: argparse.ArgumentParser, longest: str = "256") -> None:
    """How an answer is written; see `options.generation`."""
    group = parser.add_argument_group("answer")
    group.add_argument("--max-new-tokens", type=int, metavar="N", help=f"longest answer (default: {longest})")
    group.add_argument("--temperature", type=float, metavar="T", help="0 always takes the likeliest token (default)")
    group.add_argument("--top-k", type=int, metavar="K", help="sample among the K likeliest tokens")
    group.add_argument("--top-p", type=float, metavar="P", help="... among the likeliest that hold this share")
    group.add_argument("--seed", type=int, help="of the sampling")
    group.add_argument("--stop", action="append", metavar="S", help="a text that ends the answer; repeatable")


def mitigation(parser: argparse.ArgumentParser) -> None:
    """What is done to the attention; see `options.mitigation`."""
    what = (
        "change how the model looks at the picture. stdout holds the answer alone; what was changed is one line on "
        "stderr, and with --json `effect`. SETTINGS are the fields of minivlm.EAH or minivlm.CLVA, as in "
        "--eah layer=2,head=random or --clva omega=0.6,deep_layers=6-7; without any, the defaults for the model"
    )
    group = parser.add_argument_group("mitigation", what)
    settings = {"nargs": "?", "const": "", "type": assignments, "metavar": "SETTINGS"}
    group.add_argument("--eah", **settings, help="give the map of the head with most vision sinks to all heads")
    group.add_argument("--clva", **settings, help="pull deep layers to visual anchors (our reading of the abstract)")
    group.add_argument("--compare", action="store_true", help="let the plain model read along: adds the KL from it")


def methods(parser: argparse.ArgumentParser) -> None:
    """How the methods of a comparison are set, where several run side by side."""
    settings = {"nargs": "?", "const": "", "type": assignments, "metavar": "SETTINGS"}
    parser.add_argument("--eah", **settings, help="settings of EAH instead of its defaults, see `minivlm ask --help`")
    parser.add_argument("--clva", **settings, help="settings of CLVA instead of its defaults")


def debug(parser: argparse.ArgumentParser, default: object) -> None:
    parser.add_argument("--debug", action="store_true", default=default, help="show an error's traceback")


def as_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")


def assignments(text: str) -> str:
    """The type of an option whose value is name=value,name=value: what else stands there was not meant for it."""
    if text and "=" not in text:
        raise argparse.ArgumentTypeError(f"expected name=value, found {text!r}; without settings, put it at the end")
    return text


def whole(least: int):
    """The type of an option that is a whole number of at least `least`."""

    def parse(text: str) -> int:
        if (number := int(text)) < least:
            raise argparse.ArgumentTypeError(f"must be at least {least}, found {number}")
        return number

    parse.__name__ = "whole number"
    return parse
