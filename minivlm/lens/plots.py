"""Figures: plain numbers in, a matplotlib `Figure` out. The one file of the package that imports matplotlib.

Nothing is displayed and no global state changes: use `figure.savefig("a.png")`, or let a notebook display it. Each
figure names the model behind it. The lightness of all colour maps is monotonic, so they can be read by colour-blind
people and in grey print: inferno (Smith and van der Walt 2015) on pictures, cividis (Nuñez, Anderton and Renslow 2018)
for matrices, blue for less and yellow for more in differences. Curves have the palette of Okabe and Ito (2008), and
differ in dashes and markers too. Layers and heads count from 0.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import cycle
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, ListedColormap
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator, PercentFormatter
from PIL import Image

from minivlm.errors import ConfigError
from minivlm.inference.trace import Trace
from minivlm.inputs.image import Box, ImagePreprocessing, load_image
from minivlm.lens.overlay import (
    BLACK,
    WHITE,
    Curves,
    as_grid,
    as_lines,
    dimmed,
    folded,
    heading,
    model_square,
    numbers,
    short_name,
    word_grids,
)
from minivlm.model import CLVA

OKABE_ITO = ("#0072B2", "#D55E00", "#000000", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
DASHES, MARKERS = ("-", "--", "-.", ":"), ("o", "s", "^", "D", "v", "P", "X")
TITLE, SMALL, TINY = 10, 8, 7  # points
ATTENTION = "attention on a patch (% of the picture's)"
Named = tuple[str, Box]  # an object and its box in the picture's pixels
LAYER, HEAD = "layer (counted from 0)", "head (counted from 0)"


def see_through(colours: np.ndarray, opacity: np.ndarray) -> Colormap:
    """The colour map of `colours` (n, 3 or 4), made transparent: `opacity` (n,), 0..1."""
    return ListedColormap(np.column_stack([colours[:, :3], opacity]))


BLUE, YELLOW = (0.06, 0.12, 1.0), (1.0, 0.91, 0.22)
LIT = see_through(colormaps["inferno"](np.linspace(0.45, 1, 256)), np.linspace(0, 0.9, 256))
CHANGED = see_through(np.repeat([BLUE, YELLOW], 128, axis=0), 0.9 * np.abs(np.linspace(-1, 1, 256)))


# --- maps on a picture -----------------------------------------------------------------------------------------------


def heat_map(
    picture: Any, values: Any, recipe: ImagePreprocessing, *, made_by: str, boxes: Iterable[Named] = (), title: str = ""
) -> Figure:
    """A map (P,) that sums to 1, drawn on the picture; the axes are its pixels, `recipe` places the patches on it.

    A margin that was cropped off is outside a dashed square. The part of a map on padding is not drawn, and the title
    states its share. `made_by`: the model's name. Raises `ConfigError` for a map that is no square of finite numbers.
    """
    image, grid = load_image(picture), as_grid(values)
    across, high = (4 * side / max(image.size) for side in image.size)  # inches
    width = max(4.4, 1 + across)
    above = heading(title, width, grid, image.size, recipe)
    figure = new_figure(made_by, (width, 2.2 + high + 0.17 * max(0, above.count("\n") - 1)))
    axes = figure.subplots()
    drawn = draw_map(axes, image, grid, recipe, LIT, 0, grid.max())
    for name, box in boxes:
        draw_box(axes, name, box)
    axes.set_title(above, fontsize=TITLE, pad=9)
    axes.set(xlabel="x (pixels)", ylabel="y (pixels)")
    colour_bar(figure, drawn, ATTENTION, ax=axes, location="bottom", aspect=30)
    return figure


def word_maps(
    picture: Any,
    trace: Trace,
    tokens: Sequence[int],
    layers: Sequence[int],
    recipe: ImagePreprocessing,
    *,
    made_by: str,
) -> Figure:
    """The pooled map of each of the `tokens` (indices of `trace.pieces`) in each of the `layers`, all on one scale.

    The scale ends at the 99 % quantile of all values, so that a few sinks do not leave the rest dark. Raises
    `ConfigError` as `word_grids` does.
    """
    image, grids = load_image(picture), word_grids(trace, tokens, layers, recipe)
    tall = 1.3 * len(tokens) * image.height / image.width
    figure = new_figure(made_by, (1.9 + 1.25 * len(layers), max(2, 0.6 + tall)))
    panels = figure.subplots(len(tokens), len(layers), squeeze=False)
    for place, axes in np.ndenumerate(panels):
        drawn = draw_map(axes, image, grids[place], recipe, LIT, 0, np.quantile(grids, 0.99))
        axes.set(xticks=[], yticks=[])
    for axes, token in zip(panels[:, 0], tokens, strict=True):
        axes.set_ylabel(f"{trace.pieces[token].strip() or '(end)'}\n(token {token})", fontsize=SMALL)
    for axes, layer in zip(panels[0], layers, strict=True):
        axes.set_title(f"layer {layer}", fontsize=SMALL)
    colour_bar(figure, drawn, ATTENTION.replace(" (", "\n("), ax=panels, extend="max")
    return figure


def before_after(
    picture: Any, plain: Any, mitigated: Any, recipe: ImagePreprocessing, *, made_by: str, name: str = "mitigated"
) -> Figure:
    """Two maps (P,) on one scale, of the plain model and of a mitigation called `name`, and their difference."""
    image, before, after = load_image(picture), as_grid(plain), as_grid(mitigated)
    if before.shape != after.shape:
        raise ConfigError(f"Both maps must be of the same patches, found {before.size} and {after.size} of them.")
    top, change = max(before.max(), after.max()), np.abs(after - before).max() or 1.0
    figure = new_figure(made_by, (9, 1.6 + 2.8 * image.height / image.width))
    panels = figure.subplots(1, 3)
    draw_map(panels[0], image, before, recipe, LIT, 0, top)
    drawn = draw_map(panels[1], image, after, recipe, LIT, 0, top)
    moved = draw_map(panels[2], image, after - before, recipe, CHANGED, -change, change)
    for axes, text in zip(panels, ("plain", name, f"{name} minus plain"), strict=True):
        axes.set_title(folded(text, figure.get_figwidth() / 3), fontsize=TITLE)
        axes.set(xticks=[], yticks=[])
    colour_bar(figure, drawn, ATTENTION, ax=panels[:2], location="bottom", aspect=40)
    colour_bar(figure, moved, "change (percentage points)", ax=panels[2], location="bottom")
    return figure


def draw_map(
    axes: Axes,
    image: Image.Image,
    grid: np.ndarray,
    recipe: ImagePreprocessing,
    colours: Colormap,
    lowest: float,
    highest: float,
) -> ScalarMappable:
    """Draw a map (side, side) over its dimmed picture, with colours from `lowest` to `highest`.

    The axes are the picture's pixels, so patches on padding fall outside of them.
    """
    width, height = image.size
    left, top, right, bottom = square = model_square(image.size, recipe)
    axes.imshow(dimmed(image), extent=(0, width, height, 0))
    lit = axes.imshow(grid, colours, extent=(left, right, bottom, top), interpolation="nearest")
    lit.set_clim((lowest, highest) if lowest < highest else (0, 1))  # a map may be 0 everywhere
    if recipe.mode == "crop" and width != height:
        outline(axes, square, linestyle="--", linewidth=1)
    axes.set(xlim=(0, width), ylim=(height, 0), aspect="equal")
    return lit


def draw_box(axes: Axes, name: str, box: Box) -> None:
    """Draw a box in the picture's pixels with its name above it, or inside it at the picture's upper edge."""
    outline(axes, box, linewidth=1.5)
    left, top, right, _ = box
    x, side = (left, "left") if left + right < axes.get_xlim()[1] else (right, "right")
    vertical = "bottom" if top > axes.get_ylim()[0] / 12 else "top"
    background = {"facecolor": "black", "edgecolor": "none", "pad": 1}
    axes.text(x, top, name, color="white", fontsize=SMALL, ha=side, va=vertical, bbox=background)


def outline(axes: Axes, box: Box, **style: Any) -> None:
    """Draw the edge of a box in white; `style` goes to matplotlib's Rectangle."""
    left, top, right, bottom = box
    axes.add_patch(Rectangle((left, top), right - left, bottom - top, fill=False, edgecolor="white", **style))


# --- curves and matrices over layers ---------------------------------------------------------------------------------


def layer_curves(
    curves: Curves, *, made_by: str, ylabel: str, title: str = "", layers: Sequence[int] = (), clva: CLVA | None = None
) -> Figure:
    """Named curves (mean, low, high), each (L,), over the layers; `clva` shades its noise, anchor and deep layers.

    `Curve.lines` of `lens.drift` is such a curve. `layers`: the layer of each value, by default 0, 1, ….  Raises
    `ConfigError` for curves of different lengths, and for CLVA settings without layers.
    """
    lines = as_lines(curves, layers)
    places = layers or range(next(iter(lines.values())).shape[1])
    figure = new_figure(made_by, (6.4, 4.2))
    axes = figure.subplots()
    styles = zip(cycle(OKABE_ITO), cycle(DASHES), cycle(MARKERS), strict=False)
    for (name, (mean, low, high)), (colour, dash, marker) in zip(lines.items(), styles, strict=False):
        known = name if np.isfinite(mean).any() else f"{name} (none)"
        axes.plot(places, mean, color=colour, linestyle=dash, marker=marker, markersize=4, label=known)
        axes.fill_between(places, low, high, color=colour, alpha=0.2, linewidth=0)
    name_axes(axes, title, xlabel=LAYER, ylabel=ylabel)
    if clva:
        shade(axes, clva)
    axes.set_xlim(min(places) - 0.7, max(places) + 0.7)
    figure.legend(loc="outside upper center", ncols=2, frameon=False, fontsize=SMALL)
    return figure


def shade(axes: Axes, clva: CLVA) -> None:
    """Shade the noise, anchor and deep layers in grey, and write these names above them."""
    parts = {"noise": clva.noise_layers, "anchor": clva.anchor_layers, "deep": clva.deep_layers}
    named = {name: layers for name, layers in parts.items() if layers is not None}
    if len(named) < len(parts):
        raise ConfigError("These CLVA settings do not say their layers yet: pass CLVA.for_model(config).")
    for layers, grey in zip(named.values(), ("0.93", "0.87", "0.93"), strict=True):
        for layer in layers:
            axes.axvspan(layer - 0.5, layer + 0.5, color=grey, linewidth=0, zorder=0)
    above = axes.secondary_xaxis("top")
    above.set_xticks([float(np.mean(layers)) for layers in named.values()], list(named))
    above.tick_params(length=0, labelsize=SMALL)


def lens_curve(curves: Curves, *, made_by: str, **how: Any) -> Figure:
    """Curves of the probability of the chosen token, read from each layer by the logit lens.

    `how`: as for `layer_curves`; `layers` are the trace's `lens_layers`.
    """
    figure = layer_curves(curves, made_by=made_by, ylabel="probability of the chosen token", **how)
    figure.axes[0].set_ylim(-0.02, 1.02)
    return figure


def similarity_matrix(matrix: Any, *, made_by: str, label: str = "cosine similarity", title: str = "") -> Figure:
    """A matrix (L, L): the similarity of every two layers' maps, drawn from 0 to 1. Raises `ConfigError`."""
    values = numbers(matrix, 2, "A similarity matrix")
    if values.shape[0] != values.shape[1]:
        raise ConfigError(f"A similarity matrix is square, layers x layers, found the shape {values.shape}.")
    figure = new_figure(made_by, (5.2, 4.4))
    axes = figure.subplots()
    drawn = axes.imshow(values, "cividis", vmin=0, vmax=1)
    name_axes(axes, title, xlabel=LAYER, ylabel=LAYER)
    figure.colorbar(drawn, ax=axes, label=label)
    return figure


def sink_density(density: Any, *, made_by: str, title: str = "") -> Figure:
    """A matrix (L, H): the share of the picture's patches that are sinks, by layer and head."""
    values = numbers(density, 2, "The sink density")
    figure = new_figure(made_by, (5.2, 4.4))
    axes = figure.subplots()
    drawn = axes.imshow(values, "cividis", vmin=0, vmax=np.nanmax(values) or 1, aspect="auto")
    name_axes(axes, title, xlabel=HEAD, ylabel=LAYER)
    colour_bar(figure, drawn, "sinks (% of the picture's patches)", ax=axes)
    return figure


# --- every figure ----------------------------------------------------------------------------------------------------


def new_figure(made_by: str, size: tuple[float, float]) -> Figure:
    """An empty figure of `size` in inches, with the model's name at the bottom. Raises `ConfigError` without a name."""
    if not isinstance(made_by, str) or not made_by.strip():
        raise ConfigError(f"made_by must name the model whose numbers these are (vlm.name), found {made_by!r}.")
    figure = Figure(figsize=size, layout=ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.08))
    figure.supxlabel(f"made by {short_name(made_by)}", x=0.99, ha="right", fontsize=TINY, color="0.35")
    return figure


def name_axes(axes: Axes, title: str, **labels: str) -> None:
    """Set a title in as many lines as it needs, the labels, and whole numbers as ticks for layers and heads."""
    figure = axes.get_figure(root=True)
    assert figure is not None  # every axes here was made by a figure
    axes.set_title(folded(title, figure.get_figwidth()), fontsize=TITLE)
    axes.set(**labels)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if labels["ylabel"] == LAYER:
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))


def colour_bar(figure: Figure, drawn: ScalarMappable, label: str, **where: Any) -> None:
    """The colour scale of a map in per cent. Transparent colours are shown over the grey of a dimmed picture."""
    bar = figure.colorbar(drawn, label=label, format=PercentFormatter(1, symbol=""), ticks=MaxNLocator(4), **where)
    bar.ax.tick_params(labelsize=SMALL)
    bar.ax.set_facecolor(str((BLACK + WHITE) / 2))


def time_bars(panels: Mapping[str, Mapping[str, tuple[float, float, float]]], *, made_by: str) -> Figure:
    """Axis label -> name -> (least, median, most) of some times: a panel of bars with whiskers for each label."""
    rows = max(map(len, panels.values()))
    figure = Figure(figsize=(9, 1 + 0.32 * rows), layout="constrained")
    for axes, (label, times) in zip(figure.subplots(1, len(panels), sharey=True), panels.items(), strict=True):
        for name, (least, middle, most) in times.items():
            axes.barh(name, middle, xerr=[[middle - least], [most - middle]], color=OKABE_ITO[0], capsize=2)
        axes.set_xlabel(label)
        axes.spines[["top", "right"]].set_visible(False)
    axes.invert_yaxis()  # the panels share it
    figure.suptitle(made_by, size=TITLE)
    return figure
