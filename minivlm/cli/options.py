"""What options mean that several commands share: a model, the settings of an answer, the settings of a mitigation.

What cannot be is a `UsageError`, before anything is loaded.
"""

from __future__ import annotations

from argparse import Namespace
from typing import TYPE_CHECKING, Any

from minivlm.cli.terminal import remark
from minivlm.errors import GenerationError
from minivlm.evaluation.settings import UsageError, method
from minivlm.shell import quoted

if TYPE_CHECKING:
    from minivlm.inference.vlm import VLM
    from minivlm.model import Mitigation

DEMO = {"scenes": 3, "world": "held-out", "out": "demo"}  # what `minivlm demo` does unless it is told otherwise


def load_vlm(args: Namespace, **more: Any) -> VLM:
    """The model that the options name, introduced on stderr; `more` goes to `load`, too."""
    from minivlm.inference.load import LOADING, load

    vlm = load(args.model, **{name: getattr(args, name) for name in LOADING}, **more)
    dtype = str(vlm.dtype).removeprefix("torch.")
    remark(f"{vlm.name}: {dtype} on {vlm.device}; template {vlm.template}; picture {vlm.recipe.describe()}")
    for note in vlm.report.notes if vlm.report else ():
        remark(f"minivlm: {note}")
    return vlm


def generation(args: Namespace) -> dict[str, Any]:
    """The options of an answer that were given, held against the rules."""
    from minivlm.inference.generate import Generation

    names = ("max_new_tokens", "temperature", "top_k", "top_p", "seed", "stop")
    given = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    try:
        Generation(**given)
    except GenerationError as error:
        raise UsageError(str(error)) from error
    return given


def retyped(args: Namespace, *names: str) -> str:
    """These options as one would type them again, a space before each; nothing for what was left at its default."""
    given = {name: getattr(args, name) for name in names if getattr(args, name) not in (None, DEMO.get(name))}
    return "".join(f" --{name.replace('_', '-')} {quoted(str(value))}" for name, value in given.items())


# --- mitigations ---------------------------------------------------------------------------------------------------


def mitigation(args: Namespace) -> Mitigation:
    """What --eah and --clva ask for; without them, nothing."""
    from minivlm.model import CLVA, EAH, Mitigation

    given = [method(kind, text) for kind, text in ((EAH, args.eah), (CLVA, args.clva)) if text is not None]
    if args.compare and not given:
        raise UsageError("--compare measures how far a mitigation leads from the plain model; add --eah or --clva.")
    return Mitigation.of(given)
