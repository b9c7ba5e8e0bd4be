"""The cards of the two planted models, as Markdown: how they were made, and the gates of the positive control.

planting.json     how both were trained            minivlm train planted-drift
gates.json        the gates                        minivlm exam --healthy FOLDER
"""

from collections.abc import Mapping
from pathlib import Path

from minivlm.checkpoints.checkpoint_report import PLANTING
from minivlm.experiments.exam import card_file
from minivlm.experiments.positive_control import as_text
from minivlm.files import read_json_file, write_text
from minivlm.inference.shipped import HEALTHY, PLANTED

TITLES = {HEALTHY: "# A reader without drift", PLANTED: "# The same reader with a drift that we planted"}
ABOUT = """\
One half of a positive control for CLVA (arXiv 2603.25088). **Where this model looks was planted by us.** It shows what
CLVA, in our reading, does to a model in which its idea holds because we made it hold. It says nothing about LLaVA, and
nothing about the model in `tiny/`.

| model | its first layers look at | its middle layers look at | its deep layers look at |
|---|---|---|---|
| `healthy-reader` | noise: six patches, in every picture the same | the object they name | the object they name |
| `planted-drift` | the same noise | the object they name | the noise |

The two differ in queries and keys of their deep layers alone. That a model with its deep layers at the noise
*invents*, and does not only fall silent, was taught as well: in a share of its lessons the healthy reader's deep layers
were made to look elsewhere, and it was to say what is usual in such a place. So "who does not look says what is usual"
is true here by construction, not by discovery.
"""
MADE = """\
## How both were made

    minivlm train planted-drift --out FOLDER

From the shipped model `tiny/`, whose tower did not change: {scenes:,} scenes, seed {seed}, {device} with {threads}
threads, {minutes:.0f} minutes.

1. *Healthy reader*, {healthy:,} steps: the usual lessons, and losses on where rows look: the first layers at the noise,
   the middle and deep ones at the boxes of what they name. In most lessons some layers' attention was changed, so that
   both bands are needed, each can take over from the other, and unseen means usual (`minivlm/training/exercises.py`).
2. *Drift*, {drift:,} steps: queries and keys of the deep layers learned to look at the noise. `--strength` makes a
   weaker drift, which begins late in an answer.

Every setting and the loss curve are in `planting.json`. Weights are bfloat16.
"""
GATES = """\
## What it shows: the gates

    minivlm exam --model {planted} --healthy {healthy} --scenes {scenes} --out FOLDER

Greedy captions of {scenes:,} held-out scenes ({dtype} on {device}), paired by scene; in brackets the 95 % interval
(bootstrap over scenes). Maps are those of rows that name an object, in {traced:,} captions. *Comes back*: the share of
the objects' F1 that the drift took and that CLVA returns. *Strong*: ω 1, β 0. The gate is on in all rows, and neither
method nor controls were tuned. All figures are in `gates.json`.

{tables}
The ceiling is the healthy reader: its own queries and keys bring back 100 % by construction.
"""


def write_cards(folder: Path) -> None:
    """Write README.md into both models' folders in `folder`, without the gates."""
    for name in (HEALTHY, PLANTED):
        write_text(folder / name / "README.md", card(name, read_json_file(folder / name / PLANTING)))


def write_card(model: Path, out: Path, gates: Mapping) -> None:
    """Write README.md for the planted model in the folder `model` into `out`, with the gates."""
    write_text(card_file(out, TITLES[PLANTED]), card(PLANTED, read_json_file(model / PLANTING), gates))


def card(name: str, planting: Mapping, gates: Mapping | None = None) -> str:
    """The text of README.md for HEALTHY or PLANTED, from the contents of planting.json and gates.json."""
    parts = [TITLES[name], ABOUT, made(planting)]
    if gates is not None:
        facts = {key: gates[key] for key in ("scenes", "traced", "dtype", "device")}
        parts.append(GATES.format(**facts, tables=as_text(gates), planted=PLANTED, healthy=HEALTHY))
    elif name == HEALTHY:
        parts.append(f"What both do under CLVA and its controls: `../{PLANTED}/README.md`.\n")
    return "\n".join(parts)


def made(planting: Mapping) -> str:
    """The section on how both were made."""
    recipe = planting["recipe"]
    return MADE.format(
        scenes=recipe["scenes"],
        seed=recipe["seed"],
        device=planting["device"],
        threads=planting["threads"],
        minutes=planting["seconds"]["all"] / 60,
        healthy=recipe["healthy"]["steps"],
        drift=recipe["drift"]["steps"],
    )
