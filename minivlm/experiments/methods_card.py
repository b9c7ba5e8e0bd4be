"""What was found out about the methods and about the layers, as Markdown for the model card."""

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


def sections(found: Mapping) -> str:
    """What `minivlm exam --methods` found: a section for each of its tables."""
    return "\n".join(methods(found[name]) for name in ("methods", "substitutions"))


def claims(found: Mapping[str, Sequence[str]]) -> str:
    """What people made of the figures, by heading. No command writes it: `claims.json` is written by hand."""
    said = [f"{heading}\n\n" + "\n".join(f"- {claim}" for claim in own) for heading, own in found.items()]
    return "\n\n".join(["## What of the two papers this model shows", *said]) + "\n"


def methods(figures: Mapping) -> str:
    """Everything that `conditions.run` found, as a section."""
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
    """The settings of both methods in one line each."""
    return "".join(f"    {name}({arguments(tuning[name.lower()])})\n" for name in ("EAH", "CLVA"))


def arguments(settings: Mapping) -> str:
    """ "layer=1, threshold=0.011", what changes nothing left out."""
    neutral = {"kappa": 1.0, "keep": 1.0, "head": "densest", "decode": "pass", "anchor": "gain", "swapped": False}
    told = {name: value for name, value in settings.items() if name != "seed" and neutral.get(name) != value}
    return ", ".join(f"{name}={short(value)}" for name, value in told.items())


def short(value: object) -> str:
    """A setting as one would type it."""
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(tuple(value)) if isinstance(value, (list, tuple)) else repr(value)


def captions(rows: Mapping) -> str:
    """A row for each condition: CHAIR, recall, words, and how many captions changed."""
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
    """The same for one split of the yes-no questions; conditions that were not asked are left out."""
    names = [f"{split} {figure}" for figure in ("accuracy", "f1", "yes_ratio")]
    body = [
        [name, *(cell(row["figures"][figure]) for figure in names)]
        for name, row in rows.items()
        if names[0] in row["figures"]
    ]
    return table([f"is there … ? {split} (%)", "accuracy", "F1", "yes"], body)


def cell(figure: Mapping) -> str:
    """ "18.3 (**-2.1** [-3.0, -1.2])": value, difference from plain, interval of the difference."""
    difference = figure["difference"]
    value, low, high = (difference[name] for name in ("value", "low", "high"))
    if value == low == high == 0:
        return percent(figure["value"])
    points = f"**{signed(value)}**" if low > 0 or high < 0 else signed(value)
    return f"{percent(figure['value'])} ({points} [{signed(low)}, {signed(high)}])"


def signed(share: float) -> str:
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


def by_layer(found: Mapping) -> str:
    """What `minivlm exam --layers` found, as a section: a row for each layer, the flattened thirds, the figures."""
    noise, anchor = (short(found[f"{name} layers"]) for name in ("noise", "anchor"))
    head = LAYERS.format(scenes=found["scenes"], dtype=found["dtype"], noise=noise, anchor=anchor)
    drawn = [f"![{text}](figures/{file})\n\n{text}\n" for file, text in found["figures"].items()]
    return "\n".join([head, curves(found), flattened(found["flattened"]), *drawn])


def curves(found: Mapping) -> str:
    """The curves as columns; what was never seen is left empty."""
    density = found["sink density"]["value"]
    lines = {title: found["curves"].get(figure, {}).get(words) for title, (figure, words) in COLUMNS.items()}
    body = []
    for layer, heads in enumerate(density):
        values = [
            "" if line is None or line["value"][layer] is None else line["value"][layer] for line in lines.values()
        ]
        values = [value if value == "" else f"{value:.2f}" for value in values]
        body.append([str(layer), *values, f"{max(heads):.2f}", f"{sum(heads) / len(heads):.2f}"])
    return table(["layer", *lines, "sinks, densest", "sinks"], body)


def flattened(thirds: Mapping) -> str:
    """What a third of the layers is worth that looks at all patches alike."""
    rows = [
        [f"{name}: {short(third['layers'])}", cell(third["chair_i"]), cell(third["recall"])]
        for name, third in thirds.items()
    ]
    return table(["layers that look at all patches alike (%)", "CHAIR_i", "recall"], rows)
