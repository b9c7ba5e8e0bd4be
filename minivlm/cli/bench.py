"""The command bench: what the methods cost, and how fast this machine runs a model.

torch is imported inside the command, so that `minivlm --help` answers at once.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from minivlm.cli import arguments
from minivlm.cli.options import MethodRequest, ModelRequest, load_vlm, method_settings
from minivlm.cli.terminal import print_json, remark
from minivlm.cli.train import config_like
from minivlm.errors import ConfigError
from minivlm.evaluation.settings import BENCHED, UsageError
from minivlm.files import replace_file, require_place

PICTURES = 16  # of the row "evaluation"
ROWS = ("load", "first-token", "evaluation", "roofline")  # beside the methods


@dataclass(frozen=True, kw_only=True)
class BenchRequest(ModelRequest, MethodRequest):
    """Tokens of the `prompt` (None: a short question) and of an answer (`new`), methods and `rows` as lists, rounds, a
    known size or folder for a model of random weights (`like`), `pictures` of the evaluation, and files: a script that
    measures others (`peers`), a picture to draw (`plot`).
    """

    prompt: int | None = None
    new: int = 16
    methods: str = ",".join(BENCHED)
    rows: str = ",".join(ROWS)
    repeats: int = 5
    pictures: int | None = None
    like: str | None = None
    peers: str | None = None
    plot: str | None = None
    json: bool = False


def bench(request: BenchRequest) -> None:
    """Measure the time and memory of each method, and print them with their ratios to plain; then the other rows."""
    from minivlm.checkpoints.devices import default_device, parse_device
    from minivlm.experiments import bench, peers

    rows = chosen_rows(request.rows)
    if request.pictures is not None and "evaluation" not in rows:
        raise UsageError(f"--pictures are those of the row evaluation, which --rows {request.rows} leaves out.")
    bench.ordered(chosen_methods(request.methods))
    method_settings(request)
    parse_device(request.device or default_device())
    peers.require_script(request.peers)
    plot = plot_file(request.plot) if request.plot else None
    with like(request) as request:
        facts = measured(request, rows)
    if plot:
        from minivlm.experiments.bench_plot import bench_plot

        kind = plot.suffix.removeprefix(".")
        replace_file(plot, partial(bench_plot(facts).savefig, format=kind, dpi=120))
    show(facts, request.json)


def measured(request: BenchRequest, rows: frozenset[str]) -> dict[str, Any]:
    """All figures that were asked for."""
    from minivlm.checkpoints.devices import default_device, parse_device
    from minivlm.experiments import bench, evaluation_rate, first_token, peers, roofline

    device = parse_device(request.device or default_device())
    vlm, load = first_token.measure_load(lambda: load_vlm(request), device)
    if request.like:
        vlm = replace(vlm, name=f"random weights like {request.like}")  # not the temporary folder's
    facts = bench.measure(
        vlm,
        chosen_methods(request.methods),
        prompt=request.prompt,
        new=request.new,
        repeats=request.repeats,
        **method_settings(request),
    )
    parts = {
        "load": lambda: load,
        "first-token": lambda: first_token.measure_first_token(vlm, request.prompt, request.repeats),
        "evaluation": lambda: evaluation_rate.measure_evaluation(vlm, request.pictures or PICTURES),
        "roofline": lambda: roofline.measure_roofline(vlm, facts),
    }
    facts |= {name.replace("-", " "): measure() for name, measure in parts.items() if name in rows}
    return facts | ({"peers": peers.measure_peers(request.peers, vlm, facts)} if request.peers else {})


def show(facts: dict[str, Any], json: bool) -> None:
    """Print the figures."""
    from minivlm.experiments.bench_table import as_text

    print_json(facts) if json else print(as_text(facts))


# --- before ---------------------------------------------------------------------------------------------------------


def chosen_methods(text: str) -> tuple[str, ...]:
    """The methods in a list; "all" is all of them."""
    from minivlm.experiments.bench import ALL

    return ALL if text == "all" else tuple(name.strip() for name in text.split(","))


def chosen_rows(text: str) -> frozenset[str]:
    """The rows in a list; "none", alone, is none of them. Raises `UsageError` for others."""
    named = frozenset(name.strip() for name in text.split(",")) if text != "none" else frozenset[str]()
    if unknown := sorted(named - set(ROWS)):
        raise UsageError(f"--rows takes {', '.join(ROWS)} or none, found {', '.join(map(repr, unknown))}.")
    return named


def plot_file(name: str) -> Path:
    """The path of a picture. Raises `ConfigError` now for what would keep it from being drawn after the work."""
    from minivlm.lens.plots import Figure

    path = require_place(name)
    if path.suffix.removeprefix(".") not in Figure().canvas.get_supported_filetypes():
        raise ConfigError(f"--plot must name a picture, such as bench.png, found '{path}'.")
    return path


@contextmanager
def like(request: BenchRequest) -> Iterator[BenchRequest]:
    """The same request, with a model of random weights in a temporary folder if `like` is given."""
    from minivlm.checkpoints.devices import DTYPES
    from minivlm.checkpoints.stand_in import make_random_model

    if request.like is None:
        yield request
        return
    for name in ("model", "revision", "vision_tower"):
        if getattr(request, name) is not None:
            raise UsageError(f"--like makes a model of its own: leave --{name.replace('_', '-')} out.")
    with tempfile.TemporaryDirectory(prefix="minivlm-") as folder:
        config, dtype = config_like(request.like), DTYPES[request.dtype or "bfloat16"]
        remark(f"minivlm: writing random weights like {request.like}'s")
        made = make_random_model(Path(folder) / Path(request.like).name, config, dtype=dtype)
        yield replace(request, model=str(made), dtype=request.dtype or "bfloat16")


# --- options --------------------------------------------------------------------------------------------------------


def bench_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `minivlm bench`."""
    usual = BenchRequest
    prompt = "length of the prompt in tokens, with its picture (default: a short question)"
    parser.add_argument("--prompt", type=arguments.whole_number(1), metavar="TOKENS", help=prompt)
    new = f"length of an answer in tokens (default: {usual.new})"
    parser.add_argument("--new", type=arguments.whole_number(2), metavar="N", help=new)
    methods = (
        f"of {usual.methods}, compiled, batch (8 questions at once), compiled-batch, separated by commas, or all; "
    )
    methods += f"plain is always there (default: {usual.methods})"
    parser.add_argument("--methods", metavar="LIST", help=methods)
    rows = f"what else is measured: of {usual.rows}, or none (default: all)"
    parser.add_argument("--rows", metavar="LIST", help=rows)
    repeats = f"how often everything is measured (default: {usual.repeats})"
    parser.add_argument("--repeats", type=arguments.whole_number(1), metavar="R", help=repeats)
    pictures = f"pictures of the evaluation, each with six questions and a caption (default: {PICTURES})"
    parser.add_argument("--pictures", type=arguments.whole_number(1), metavar="N", help=pictures)
    sizes = "measure random weights of a true size instead: llava-interleave-qwen-0.5b, llava-1.5-7b, llava-1.5-13b, "
    sizes += "or a folder whose config.json is taken; they lie in a temporary folder (default: those of --model)"
    parser.add_argument("--like", metavar="SIZE", help=sizes)
    peers = (
        "a script that measures others beside it, such as tests/peers.py, which measures transformers (default: none)"
    )
    parser.add_argument("--peers", metavar="FILE", help=peers)
    plot = "draw the times into this file, such as bench.png (default: none)"
    parser.add_argument("--plot", metavar="FILE", help=plot)
    arguments.add_model(parser)
    arguments.add_methods(parser)
    arguments.add_json(parser)
