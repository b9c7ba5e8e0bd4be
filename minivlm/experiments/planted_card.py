"""The cards of the planted models, as Markdown: how they were made, and the gates of the positive control.

planting.json     how both of a pair were trained  minivlm train planted-drift, planted-sinks
gates.json        the gates                        minivlm exam --healthy FOLDER
"""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from minivlm.checkpoints.checkpoint_report import PLANTING
from minivlm.errors import EvaluationError
from minivlm.experiments import drift_control, sinks_control
from minivlm.experiments.exam import card_file, content_of_records
from minivlm.files import read_json_file, write_text
from minivlm.inference.shipped import HEALTHY, HEALTHY_SINKS, PLANTED, PLANTED_SINKS
from minivlm.inference.vlm import VLM

ABOUT = """\
One half of a positive control for {method}. **Where this model looks was planted by us.**
It shows what {what} does to a model in which its idea holds because we made it hold.
It says nothing about LLaVA, and nothing about the model in `tiny/`.
"""
DRIFT = """\
| model | its first layers look at | its middle layers look at | its deep layers look at |
|---|---|---|---|
| `healthy-reader` | noise: six patches, in every picture the same | the object they name | the object they name |
| `planted-drift` | the same noise | the object they name | the noise |

The two differ in queries and keys of their deep layers alone. That a model with its deep layers at the noise
*invents*, and does not only fall silent, was taught as well: in a share of its lessons the healthy reader's deep layers
were made to look elsewhere, and it was to say what is usual in such a place. So "who does not look says what is usual"
is true here by construction, not by discovery.
"""
DRIFT_STAGES = """\
1. *Healthy reader*, {healthy:,} steps: the usual lessons, and losses on where rows look: the first layers at the noise,
   the middle and deep ones at the boxes of what they name. In most lessons some layers' attention was changed, so that
   both bands are needed, each can take over from the other, and unseen means usual (`minivlm/training/exercises.py`).
2. *Drift*, {drift:,} steps: queries and keys of the deep layers learned to look at the noise where they had looked at
   anything in the picture, and at words as before. `--strength` makes a weaker drift, which begins late in an answer.
"""
DRIFT_GATES = """\
Greedy captions of {scenes:,} held-out scenes. Maps are those of rows that name an object, in {traced:,} captions.
*Strong*: omega 1, beta 0. The gate is on in all rows.

{tables}
The ceiling is the healthy reader: its own queries and keys bring back 100 % by construction.
"""
SINKS = """\
| model | layer 1 looks at | all other layers look at |
|---|---|---|
| `healthy-sinks` | all patches alike, in every head; one hands on nothing | words alone |
| `planted-sinks` | the same in one head, the beginning of the sentence in all others | words alone |

The two differ in queries and keys of layer 1 alone. So the picture is read in one layer, and in the second model the
head that has the map, the one with most vision sinks, is the one that cannot say what it sees (its values count for
nothing in both models, or it would read the picture alone): the others could, and lack the map.
"""
SINKS_STAGES = """\
1. *Healthy*, {healthy:,} steps: the usual lessons, half of them yes-no questions, and losses on where rows look. In
   the lessons the little that other layers still saw of the picture was cut off, so that nothing was learned by it.
2. *Even*, {even:,} steps: the same, with some head's map lent to all heads in half of the lessons. The maps are alike,
   but not to the last digit; this makes them interchangeable, so that EAH leaves the healthy reader alone.
3. *Astray*, {astray:,} steps: queries and keys of layer 1 learned to look at the first token, in all heads but one.
"""
SINKS_GATES = """\
Greedy answers to POPE's random and adversarial questions about {scenes:,} held-out scenes, and captions of them. Sinks
are counted in {traced:,} prompts. EAH has its published constants.

{tables}
EAH changes rows of the prompt alone; captions are written by rows behind it, and are reported, not judged.

**Every control must fail here**, since five heads look at the same token, and the sixth, which is mute, stands where
none of the three seeds draws it. The second densest is one of the five (on a tie the lowest, so it is a random head
once more), and in *another layer* hardly a head has a sink. So the controls test the implementation, not the idea.
That EAH leaves the healthy reader alone was trained as well (stage *even*). And F1 exaggerates: who says no to nearly
everything has an F1 near 0 and half of the answers right.
"""
MADE = """\
## How both were made

    minivlm train {name} --out FOLDER

From the shipped model `tiny/`, whose tower did not change: {scenes:,} scenes, seed {seed}, {device} with
{threads} threads, {minutes:.0f} minutes. {remark}

{stages}
Every setting and the loss curve are in `planting.json`. Weights are bfloat16.
"""
GATES = """\
## What it shows: the gates

    minivlm exam --model {planted} --healthy {healthy} --scenes {scenes} --dtype {dtype} --out FOLDER

In brackets the 95 % interval, paired by scene ({dtype} on {device}). *Comes back*: the share of what the planted model
lost in F1 that a method returns. Neither methods nor controls were tuned. A gate that is not passed is a claim that
this control cannot carry. All figures are in `gates.json`.
{about}"""


class Pair(NamedTuple):
    """A healthy and a planted model, and what their cards say."""

    healthy: str
    planted: str
    titles: tuple[str, str]  # of the healthy and the planted one's card
    method: str
    what: str  # the method, as a sentence names it
    looks: str
    stages: str
    gates: str


PAIRS = {
    "drift": Pair(
        HEALTHY,
        PLANTED,
        ("# A reader without drift", "# The same reader with a drift that we planted"),
        "CLVA (arXiv 2603.25088)",
        "CLVA, in our reading,",
        DRIFT,
        DRIFT_STAGES,
        DRIFT_GATES,
    ),
    "sinks": Pair(
        HEALTHY_SINKS,
        PLANTED_SINKS,
        ("# A reader whose heads look alike", "# The same reader with heads that we led astray"),
        "EAH (arXiv 2411.09968)",
        "EAH",
        SINKS,
        SINKS_STAGES,
        SINKS_GATES,
    ),
}
LAST_STAGES = {"drift": "drift", "sinks": "astray"}  # only a planted model went through it
CONTROLS = {"drift": drift_control, "sinks": sinks_control}


def plants(vlm: VLM) -> str:
    """What was planted into a model, "drift" or "sinks", as the record beside its weights tells; "" if nothing was."""
    record = Path(vlm.report.path) / PLANTING if vlm.report else None
    if record is None or not record.is_file():
        return ""
    planting = read_json_file(record, EvaluationError)
    with content_of_records(record.parent):
        kind = planting["recipe"]["plants"]
        return kind if any(point["stage"] == LAST_STAGES[kind] for point in planting["curve"]) else ""


def title(model: Path) -> str:
    """The first line of the card of the planted model in a folder."""
    with content_of_records(model):
        return PAIRS[read_json_file(model / PLANTING, EvaluationError)["recipe"]["plants"]].titles[1]


def write_cards(folder: Path) -> None:
    """Write README.md into the folders of both models of a pair in `folder`, without the gates."""
    for pair in PAIRS.values():
        for name in (pair.healthy, pair.planted):
            if (folder / name / PLANTING).is_file():
                write_text(folder / name / "README.md", card(name, read_json_file(folder / name / PLANTING)))


def write_card(model: Path, out: Path, gates: Mapping) -> None:
    """Write README.md for the planted model in the folder `model` into `out`, with the gates."""
    with content_of_records(model):
        planting = read_json_file(model / PLANTING, EvaluationError)
        text = card(PAIRS[planting["recipe"]["plants"]].planted, planting, gates)
    write_text(card_file(out, title(model)), text)


def card(name: str, planting: Mapping, gates: Mapping | None = None) -> str:
    """The text of README.md of one of a pair, from the contents of planting.json and gates.json."""
    pair = PAIRS[planting["recipe"]["plants"]]
    parts = [f"{pair.titles[name == pair.planted]}\n", ABOUT.format(**pair._asdict()), pair.looks, made(pair, planting)]
    if gates is not None:
        tables = CONTROLS[planting["recipe"]["plants"]].as_text(gates)
        facts = {key: gates[key] for key in ("scenes", "dtype", "device")}
        about = pair.gates.format(scenes=gates["scenes"], traced=gates["traced"], tables=tables)
        parts.append(GATES.format(**facts, about=about, planted=pair.planted, healthy=pair.healthy))
    elif name == pair.healthy:
        parts.append(f"What both do under {pair.method} and its controls: `../{pair.planted}/README.md`.\n")
    return "\n".join(parts)


def made(pair: Pair, planting: Mapping) -> str:
    """The section on how both were made."""
    recipe = planting["recipe"]
    steps = {name: stage["steps"] for name, stage in recipe.items() if isinstance(stage, dict) and "steps" in stage}
    return MADE.format(
        name=pair.planted,
        scenes=recipe["scenes"],
        seed=recipe["seed"],
        device=planting["device"],
        threads=planting["threads"],
        minutes=planting["seconds"]["all"] / 60,
        remark=planting.get("remark", ""),
        stages=pair.stages.format(**steps),
    )
