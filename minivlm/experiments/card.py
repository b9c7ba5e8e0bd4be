"""The model card as Markdown: how the model was trained, and the figures of its exam."""

from collections.abc import Mapping, Sequence
from textwrap import fill

CAPTION_ROWS = ("recall", "recall of clear objects", "recall of hard objects", "precision", "chair_i", "chair_s")
HEAD = """\
# The shipped model

A small LLaVA, trained from nothing on pictures that minivlm draws itself. It is a regular checkpoint in the hub's
layout: `minivlm.load()` reads it, and so does `transformers`. It knows thirty objects in five places, and nothing else
of the world. It names what it sees, and what it expects to see: that is what it is for.
"""
TRAINED = """\
## How it was made

    minivlm train --out FOLDER

{scenes:,} scenes, seed {seed}, {device} with {threads} threads, {minutes:.0f} minutes. {remark}

1. The tower learned to see, from the known boxes: which objects a picture holds (of the class token), which object and
   which colour each patch shows (of the layer that the projector reads).
2. The decoder learned to talk, from text alone: words stood where patches will stand, things that are hard to see were
   mostly left out of them, and companions (a fork beside a pizza) were nearly always there. A drill of "is there …?"
   followed.
3. The projector learned to turn patches into such words.
4. Projector and decoder were tuned on pictures and what is true of them; the tower did not change any more.

Every setting and the loss curve are in `training.json`. Weights are bfloat16.
"""
EXAMINED = """\
## What it sees, and what it invents

    minivlm exam --scenes {scenes}

Greedy answers about {scenes:,} held-out scenes a row; all figures are in `exam.json`. CHAIR_i: share of the named
objects that are not there. CHAIR_s: share of captions with such an object. Recall: share of the objects that are named.
{counted}"""


def card(training: Mapping, exam: Mapping, methods: str = "") -> str:
    """The text of `README.md` beside the weights, from the contents of `training.json` and `exam.json`.

    `methods`: further sections, such as those about EAH and CLVA (`methods_card.sections`).
    """
    made = TRAINED.format(
        scenes=training["recipe"]["scenes"],
        seed=training["recipe"]["seed"],
        device=training["device"],
        threads=training["threads"],
        minutes=training["seconds"]["all"] / 60,
        remark=training.get("remark", ""),
    )
    parts = [HEAD, made, examined(exam), captions(exam), invented(exam["invented"])]
    parts += [pope(exam["pope"]), skills(exam["skills"])]
    return "\n".join([*parts, methods] if methods else parts)


def examined(exam: Mapping) -> str:
    """The text above the tables of the exam; older files do not have "counted", how the figures were counted."""
    counted = exam.get("counted", "")
    return EXAMINED.format(scenes=exam["scenes"], counted=fill(counted, 120) + "\n" if counted else "")


def captions(exam: Mapping) -> str:
    """The table of captions, a row for each kind of scenes."""
    worlds = {
        **{f"companions there {share} of the time": figures for share, figures in exam["companions"].items()},
        "companions replaced by something else": exam["substitutions"],
        "crowded scenes": exam["crowded"],
        "captions of another picture": exam["pictures exchanged"],
    }
    rows = [[world, *(percent(figures[name]) for name in CAPTION_ROWS)] for world, figures in worlds.items()]
    return table(["captions (%)", *CAPTION_ROWS], rows)


def invented(figures: Mapping) -> str:
    """How many hallucinated objects the scene suggests, as a sentence."""
    shares = {name: percent(share) for name, share in figures.items() if name != "objects"}
    return (
        f"Of the {figures['objects']:.0f} objects that it invents in held-out scenes, {shares['companion']} % are the "
        f"missing companion of something that is there (by chance: {shares['companion by chance']} %), and "
        f"{shares['same place']} % belong to the same place (by chance: {shares['same place by chance']} %).\n"
    )


def pope(splits: Mapping) -> str:
    """The table of POPE, a row for each split."""
    rows = [
        [split, f"{figures['questions']:,}", *(percent(figures[name]) for name in ("accuracy", "f1", "yes_ratio"))]
        for split, figures in splits.items()
    ]
    return table(["is there … ? (%)", "questions", "accuracy", "F1", "yes"], rows)


def skills(kinds: Mapping) -> str:
    """The table of other questions, a row for each kind."""
    rows = [[kind, f"{figures['questions']:,}", percent(figures["exact"])] for kind, figures in kinds.items()]
    return table(["other questions (%)", "questions", "answered exactly"], rows)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table, all columns but the first right-aligned."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def percent(share: float) -> str:
    """A share as per cent with one decimal, without the sign."""
    return f"{100 * share:.1f}"
