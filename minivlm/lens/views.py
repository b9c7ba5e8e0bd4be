"""The explorer for notebooks: its page in a frame, and the maps of a word with a slider over the layers.

A committed notebook does not store its widgets, and not every reader has ipywidgets. So every view with a slider has a
still picture too: a running notebook shows the slider, one that is only read shows the picture.
"""

from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from importlib.util import find_spec
from io import BytesIO
from typing import Any

from torch import Tensor

from minivlm.inputs.image import ImagePreprocessing, load_image
from minivlm.lens.drift import sink_columns
from minivlm.lens.overlay import as_grid, model_square
from minivlm.lens.plots import Figure, before_after, heat_map, word_maps
from minivlm.lens.words import Trace, Word

STILL = 8  # layers at most in a still picture
DPI = 90  # of a still picture


@dataclass(frozen=True)
class Frame:
    """A page of `explore` in a notebook: in a sandboxed frame, which has no access to the notebook."""

    page: str
    height: int = 1000  # pixels

    def _repr_html_(self) -> str:
        style = f"width: 100%; height: {self.height}px; border: 0"
        return f'<iframe sandbox="allow-scripts" style="{style}" srcdoc="{escape(self.page)}"></iframe>'


@dataclass(frozen=True)
class View:
    """A still picture, and a slider where ipywidgets is installed."""

    still: Figure
    moving: Any = None  # an ipywidgets widget, or None

    def _repr_mimebundle_(self, **how: Any) -> dict[str, Any]:
        """All formats of this view, by MIME type; a notebook displays the richest that it supports."""
        widget = self.moving._repr_mimebundle_(**how) if self.moving is not None else {}
        return {**widget, "image/png": b64encode(png(self.still)).decode(), "text/plain": repr(self.still)}


def layers_of_word(
    picture: Any, trace: Trace, word: Word, recipe: ImagePreprocessing, *, made_by: str, threshold: float | None = None
) -> View:
    """The maps of a word's row: all layers with a slider, and `STILL` of them side by side as a still picture.

    With a `threshold`, rings mark the sinks of each layer, see `sink_columns`. Errors as for `heat_map`, `word_maps`.
    """
    image, depth = load_image(picture), trace.pooled.shape[1]
    some = sorted({round(place * (depth - 1) / (STILL - 1)) for place in range(STILL)})

    def ring(figure: Figure, *layers: int) -> Figure:
        for axes, layer in zip(figure.axes, layers, strict=False):  # a colour bar is the last of the axes
            if threshold is not None:
                draw_rings(axes, sink_columns(trace, threshold, [layer]), image.size, recipe)
        return figure

    def draw(layer: int) -> Figure:
        title = f"“{word.name}”, layer {layer} of 0 to {depth - 1}"
        return ring(heat_map(image, trace.pooled[word.token, layer], recipe, made_by=made_by, title=title), layer)

    still = ring(word_maps(image, trace, [word.token], some, recipe, made_by=made_by), *some)
    return View(still, slider(draw, depth) if find_spec("ipywidgets") else None)


def layers_of_two(
    picture: Any,
    plain: tuple[Trace, Word],
    mitigated: tuple[Trace, Word],
    recipe: ImagePreprocessing,
    *,
    made_by: str,
    name: str = "mitigated",
    layer: int = -1,
) -> View:
    """The maps of a word in two answers and their difference: all layers with a slider, `layer` as a still picture."""
    maps = [trace.pooled[word.token] for trace, word in (plain, mitigated)]  # L P each
    depth = min(map(len, maps))

    def draw(layer: int) -> Figure:
        here = f"{name}, layer {layer % depth}"
        return before_after(picture, maps[0][layer], maps[1][layer], recipe, made_by=made_by, name=here)

    return View(draw(layer), slider(draw, depth) if find_spec("ipywidgets") else None)


def draw_rings(axes: Any, chosen: Tensor, size: tuple[int, int], recipe: ImagePreprocessing) -> None:
    """Draw rings on the chosen patches, (P,) bool, of a picture of `size` (width, height); the axes are its pixels."""
    left, top, right, bottom = model_square(size, recipe)
    rows, columns = as_grid(chosen).nonzero()
    side = len(as_grid(chosen))
    x, y = (
        start + (places + 0.5) * (stop - start) / side
        for places, start, stop in ((columns, left, right), (rows, top, bottom))
    )
    for colour, width in (("black", 3), ("white", 1.2)):  # visible on light and dark ground
        axes.plot(x, y, "o", markersize=5, fillstyle="none", color=colour, markeredgewidth=width, clip_on=True)


def slider(draw: Callable[[int], Figure], layers: int) -> Any:
    """A widget with a slider over `layers` layers, which shows `draw(layer)`. Needs ipywidgets."""
    import ipywidgets

    picture = ipywidgets.Image(value=png(draw(0)), format="png")
    choice = ipywidgets.IntSlider(0, 0, layers - 1, description="layer", continuous_update=False)

    def show(change: Any) -> None:
        picture.value = png(draw(change["new"]))

    choice.observe(show, names="value")
    return ipywidgets.VBox([choice, picture])


def png(figure: Figure) -> bytes:
    """The figure as the bytes of a PNG file."""
    file = BytesIO()
    figure.savefig(file, format="png", dpi=DPI)
    return file.getvalue()
