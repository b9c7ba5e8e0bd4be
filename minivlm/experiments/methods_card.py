"""The experiments on methods and layers, as Markdown for the model card."""

from collections.abc import Mapping, Sequence

from minivlm.evaluation.pope_questions import SPLITS
from minivlm.experiments.card import percent, table

HEAD = """\
## What EAH and CLVA change{where}

    minivlm exam --methods --scenes {scenes} --dtype {dtype}

{scenes:,} scenes, the same for every row, greedy answers to "{question}" ({dtype} on {device}){asked}. In
brackets: the difference from plain in points, with its 95 % interval (bootstrap over scenes, {resamples:,} resamples).
**Bold**: the interval is clear of zero, as one in twenty is by chance. {tuned}

*Oracle*: attention drawn to the boxes of what is there and not yet named: the ceiling. Controls: the same interventions
without their idea. *Changed*: share of the captions that differ from plain in some word.
"""
TUNED = "Settings were chosen on {scenes:,} other scenes: the lowest CHAIR_i that keeps 95 % of the recall."
DEFAULTS = "The methods have their default settings."
WHERE = {"held-out": "", "substitutions": " where companions are replaced"}
CAPTIONS = {"CHAIR_i": "chair_i", "CHAIR_s": "chair_s", "recall": "recall"}


def sections(content: Mapping) -> str:
    """The sections for `methods.json`, which `minivlm exam --methods` writes: one for each of its tables."""
    return "\n".join(methods(content[name]) for name in ("methods", "substitutions"))


def claims(content: Mapping[str, Sequence[str]]) -> str:
    """The section for `claims.json`, conclusions by heading. No command writes that file: it is written by hand."""
    parts = [f"{heading}\n\n" + "\n".join(f"- {claim}" for claim in ones) for heading, ones in content.items()]
    return "\n\n".join(["## What of the two papers this model shows", *parts]) + "\n"


def methods(figures: Mapping) -> str:
    """The section for the figures that `conditions.run` returned."""
    tuning = figures["tuning"]
    tuned = TUNED.format(scenes=tuning["scenes"]) if tuning["scenes"] else DEFAULTS
    facts = {name: figures[name] for name in ("scenes", "question", "dtype", "device", "resamples")}
    where = WHERE.get(figures["world"], f", {figures['world']} scenes")
    splits = SPLITS if figures["yes-no scenes"] else ()
    asked = f"; yes-no questions about the first {figures['yes-no scenes']:,} of them" if splits else ""
    head = HEAD.format(where=where, tuned=tuned, asked=asked, **facts)
    rows = figures["conditions"]
    return "\n".join([head, settings(tuning), captions(rows), *(yes_no(rows, split) for split in splits)])


def settings(tuning: Mapping) -> str:
    """The settings of both methods, one line each."""
    return "".join(f"    {name}({arguments(tuning[name.lower()])})\n" for name in ("EAH", "CLVA"))


def arguments(settings: Mapping) -> str:
    """Settings as in "layer=1, threshold=0.011"; those with a neutral value are left out."""
    neutral = {"kappa": 1.0, "keep": 1.0, "head": "densest", "decode": "pass", "anchor": "gain", "swapped": False}
    listed = {name: value for name, value in settings.items() if name != "seed" and neutral.get(name) != value}
    return ", ".join(f"{name}={short(value)}" for name, value in listed.items())


def short(value: object) -> str:
    """The value of a setting as short Python text."""
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(tuple(value)) if isinstance(value, (list, tuple)) else repr(value)


def captions(rows: Mapping) -> str:
    """The table of captions, a row for each condition: CHAIR, recall, words, share of changed captions."""
    body = [
        [
            name,
            *(cell(row["figures"][figure]) for figure in CAPTIONS.values()),
            f"{row['figures']['words']['value']:.1f}",
            percent(row["changed"]),
        ]
        for name, row in rows.items()
    ]
    return table(["captions (%)", *CAPTIONS, "words", "changed"], body)


def yes_no(rows: Mapping, split: str) -> str:
    """The table of one POPE split; conditions without yes-no questions are left out."""
    names = [f"{split} {figure}" for figure in ("accuracy", "f1", "yes_ratio")]
    body = [
        [name, *(cell(row["figures"][figure]) for figure in names)]
        for name, row in rows.items()
        if names[0] in row["figures"]
    ]
    return table([f"is there … ? {split} (%)", "accuracy", "F1", "yes"], body)


def cell(figure: Mapping) -> str:
    """Value, difference from plain and its interval, as in "18.3 (**-2.1** [-3.0, -1.2])"; the value only if equal."""
    difference = figure["difference"]
    value, low, high = (difference[name] for name in ("value", "low", "high"))
    if value == low == high == 0:
        return percent(figure["value"])
    points = f"**{signed(value)}**" if low > 0 or high < 0 else signed(value)
    return f"{percent(figure['value'])} ({points} [{signed(low)}, {signed(high)}])"


def signed(share: float) -> str:
    """A share in per cent with its sign and one decimal."""
    return f"{100 * share:+.1f}"


# --- the layers ------------------------------------------------------------------------------------------------------


LAYERS = """\
## Where its layers look

    minivlm exam --layers --scenes {scenes} --dtype {dtype}

{scenes} captions, at the tokens that begin an object's name. *Boxes*: mean attention inside, 1 is what looking
everywhere alike gives; *anchor's box*: while its companion is named. *Lens*: the probability of the word read from the
layer's output. *Noise*, *middle*: correlation of the layer's map with the mean of layers {noise} and {anchor}. *Sinks*:
share of the patches above EAH's threshold, of the densest head and of all heads.
"""
COLUMNS = {
    "own box, true": ("own box", "true"),
    "anchor's box, true": ("anchor's box", "true"),
    "anchor's box, invented": ("anchor's box", "invented"),
    "image share, true": ("image share", "true"),
    "image share, invented": ("image share", "invented"),
    "entropy, true": ("entropy", "true"),
    "lens, true": ("logit lens", "true"),
    "lens, invented": ("logit lens", "invented"),
    "noise, true": ("correlation with noise", "true"),
    "middle, true": ("correlation with middle", "true"),
}


def by_layer(content: Mapping) -> str:
    """The section for `layers.json`, which `minivlm exam --layers` writes: both tables, and the figures."""
    noise, anchor = (short(content[f"{name} layers"]) for name in ("noise", "anchor"))
    head = LAYERS.format(scenes=content["scenes"], dtype=content["dtype"], noise=noise, anchor=anchor)
    drawn = [f"![{text}](figures/{file})\n\n{text}\n" for file, text in content["figures"].items()]
    return "\n".join([head, curves(content), flattened(content["flattened"]), *drawn])


def curves(content: Mapping) -> str:
    """The table of the layers, the curves as columns; a cell without a value is empty."""
    density = content["sink density"]["value"]
    lines = {title: content["curves"].get(figure, {}).get(words) for title, (figure, words) in COLUMNS.items()}
    body = []
    for layer, heads in enumerate(density):
        values = [
            "" if line is None or line["value"][layer] is None else line["value"][layer] for line in lines.values()
        ]
        values = [value if value == "" else f"{value:.2f}" for value in values]
        body.append([str(layer), *values, f"{max(heads):.2f}", f"{sum(heads) / len(heads):.2f}"])
    return table(["layer", *lines, "sinks, densest", "sinks"], body)


def flattened(thirds: Mapping) -> str:
    """The table of CHAIR_i and recall when a third of the layers attends to all patches equally."""
    rows = [
        [f"{name}: {short(third['layers'])}", cell(third["chair_i"]), cell(third["recall"])]
        for name, third in thirds.items()
    ]
    return table(["layers that look at all patches alike (%)", "CHAIR_i", "recall"], rows)
