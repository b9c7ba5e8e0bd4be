"""The explorer for notebooks: its page in a frame, and the maps of a word under a slider, plain or beside mitigated.

A committed notebook keeps no state of its widgets, and not every reader has them. So what has a slider is also a still
picture: a notebook that runs shows the one, one that is only read shows the other.
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
from minivlm.lens.overlay import as_grid, seen_square
from minivlm.lens.plots import Figure, before_after, heat_map, word_maps
from minivlm.lens.words import Trace, Word

STILL = 8  # layers at most in a still picture
DOTS = 90  # per inch


@dataclass(frozen=True)
class Frame:
    """A page of `explore`, as a notebook shows it: in a frame of its own, that can reach nothing outside."""

    page: str
    height: int = 1000  # pixels

    def _repr_html_(self) -> str:
        look = f"width: 100%; height: {self.height}px; border: 0"
        return f'<iframe sandbox="allow-scripts" style="{look}" srcdoc="{escape(self.page)}"></iframe>'


@dataclass(frozen=True)
class View:
    """A still picture, and a slider for those who have one."""

    still: Figure
    moving: Any = None  # a widget

    def _repr_mimebundle_(self, **how: Any) -> dict[str, Any]:
        """All that this can be shown as; a notebook takes the richest that it can."""
        widget = self.moving._repr_mimebundle_(**how) if self.moving is not None else {}
        return {**widget, "image/png": b64encode(png(self.still)).decode(), "text/plain": repr(self.still)}


def layers_of_word(
    picture: Any, trace: Trace, word: Word, recipe: ImagePreprocessing, *, made_by: str, threshold: float | None = None
) -> View:
    """Where a word's row looked: all layers under a slider, some of them as a still picture beside each other.

    Rings mark sinks if a `threshold` for their score is given: see `sink_columns`, here for each layer by itself.
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
    """The maps of a word in two answers and their difference: all layers under a slider, one as a still picture."""
    maps = [trace.pooled[word.token] for trace, word in (plain, mitigated)]  # L P each
    depth = min(map(len, maps))

    def draw(layer: int) -> Figure:
        here = f"{name}, layer {layer % depth}"
        return before_after(picture, maps[0][layer], maps[1][layer], recipe, made_by=made_by, name=here)

    return View(draw(layer), slider(draw, depth) if find_spec("ipywidgets") else None)


def draw_rings(axes: Any, chosen: Tensor, size: tuple[int, int], recipe: ImagePreprocessing) -> None:
    """Rings on the chosen patches, (P,) bool, of a map on a picture of `size`, whose pixels are the axes' units."""
    left, top, right, bottom = seen_square(size, recipe)
    rows, columns = as_grid(chosen).nonzero()
    side = len(as_grid(chosen))
    x, y = (
        start + (places + 0.5) * (stop - start) / side
        for places, start, stop in ((columns, left, right), (rows, top, bottom))
    )
    for colour, width in (("black", 3), ("white", 1.2)):  # seen on every ground
        axes.plot(x, y, "o", markersize=5, fillstyle="none", color=colour, markeredgewidth=width, clip_on=True)


def slider(draw: Callable[[int], Figure], layers: int) -> Any:
    """A widget that shows `draw(layer)` for the layer that is chosen."""
    import ipywidgets

    picture = ipywidgets.Image(value=png(draw(0)), format="png")
    choice = ipywidgets.IntSlider(0, 0, layers - 1, description="layer", continuous_update=False)

    def show(change: Any) -> None:
        picture.value = png(draw(change["new"]))

    choice.observe(show, names="value")
    return ipywidgets.VBox([choice, picture])


def png(figure: Figure) -> bytes:
    file = BytesIO()
    figure.savefig(file, format="png", dpi=DOTS)
    return file.getvalue()
