"""The figures of a bench as text for the terminal: a table of the methods, and lines for what has no methods."""

from collections.abc import Iterator, Mapping
from typing import Any

from minivlm.experiments.peers import peers_text

Facts = Mapping[str, Any]


def as_text(facts: Facts) -> str:
    """What `bench.measure` returned, and whatever else was measured with it."""
    weights = f" in {facts['weights']}" if facts["weights"] else ""
    head = (
        f"{facts['model']}{weights}, {facts['dtype']} on {facts['device']}, {facts['threads']} threads, "
        f"torch {facts['torch']}\n"
        f"{facts['prompt']} tokens of prompt, {facts['patches']} of them patches; {facts['new']} new tokens; "
        f"median (least-most) of {facts['repeats']} rounds\n\n"
        f"{'':<15}{'prefill ms':>11}{'of plain':>24}{'ms a step':>11}{'of plain':>24}{'tokens/s':>10}"
        f"{'memory MB':>11}{'of plain':>10}"
    )
    rows = [row(method, own) for method, own in facts["methods"].items()]
    effects = [f"{method}: {own['effect']}" for method, own in facts["methods"].items() if own["effect"]]
    effects += [
        f"{method}: the first {own['same']} of {facts['new']} tokens are those of plain"
        for method, own in facts["methods"].items()
        if "compiled" in method or "batch" in method
    ]
    more = [line for name, lines in SECTIONS.items() if name in facts for line in lines(facts)]
    return "\n".join([head, *rows, *([""] if effects else []), *effects, *([""] if more else []), *more])


def row(method: str, figures: Facts) -> str:
    """The line of one method: milliseconds and ratios (median, least-most) of both phases, and memory."""
    line = f"{method:<15}"
    for phase in ("prefill", "decode"):
        ratio = figures[phase]["ratio"]
        band = f"{ratio['median']:.3f} ({ratio['least']:.3f}-{ratio['most']:.3f})"
        line += f"{figures[phase]['seconds']['median'] * 1e3:>11.2f}{band:>24}"
    line += f"{figures['tokens/s']:>10.1f}"
    memory = figures["memory"]
    return line + (
        f"{'-':>11}" if memory["bytes"] is None else f"{memory['bytes'] / 1e6:>11.2f}{memory['ratio']:>10.3f}"
    )


def load_text(facts: Facts) -> Iterator[str]:
    """The line about loading."""
    load = facts["load"]
    held = "" if load["held"] is None else f"; {load['held'] / 1e6:.0f} MB more are held in memory"
    yield f"load: {load['seconds']:.2f} s for {load['weights'] / 1e6:.0f} MB of weights{held}"


def first_token_text(facts: Facts) -> Iterator[str]:
    """The line about the first token and its parts."""
    parts = {name: f"{1e3 * own['median']:.2f}" for name, own in facts["first token"].items()}
    together = parts.pop("together")
    told = ", ".join(f"{name} {milliseconds}" for name, milliseconds in parts.items())
    yield f"first token: {together} ms after a decoded picture of 640 x 480 ({told})"


def evaluation_text(facts: Facts) -> Iterator[str]:
    """The line about questions and captions in an evaluation."""
    own = facts["evaluation"]
    pope, captions = own["pope"], own["captions"]
    yield (
        f"evaluation, {own['pictures']} pictures, batches of {own['batch']}: {pope['answers/s']:.2f} yes-no questions "
        f"and {captions['answers/s']:.2f} captions of {captions['tokens']:.0f} tokens a second; POPE's 3,000 questions "
        f"on 500 pictures would take {3000 / pope['answers/s']:.0f} s"
    )


def roofline_text(facts: Facts) -> Iterator[str]:
    """The lines about what this machine could do at best."""
    own = facts["roofline"]
    yield (
        f"this machine copies {own['copy bytes/s'] / 1e9:.1f} GB/s, multiplies large matrices by a vector at "
        f"{own['weight bytes/s'] / 1e9:.1f} GB/s, by each other at {own['operations/s'] / 1e12:.3f} TFLOP/s"
    )
    token, prompt = own["bytes a token"] / 1e6, own["operations of prompt"] / 1e9
    least, share = {phase: 1e3 * seconds for phase, seconds in own["seconds"].items()}, own["share"]
    yield (
        f"at these rates a further token ({token:.1f} MB) takes {least['decode']:.3f} ms, of which plain reaches "
        f"{share['decode']:.0%}; the prompt ({prompt:.1f} GFLOP) takes {least['prefill']:.2f} ms, of which it reaches "
        f"{share['prefill']:.0%}"
    )


SECTIONS = {  # name in the facts -> its lines
    "load": load_text,
    "first token": first_token_text,
    "evaluation": evaluation_text,
    "roofline": roofline_text,
    "peers": peers_text,
}
