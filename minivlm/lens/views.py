"""The explorer for notebooks: its page in a frame, and the maps of a word under a slider.

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

from minivlm.inputs.image import ImageRecipe
from minivlm.lens.plots import Figure, heat_map, word_maps
from minivlm.lens.trace import Trace, Word

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


def layers_of_word(picture: Any, trace: Trace, word: Word, recipe: ImageRecipe, *, made_by: str) -> View:
    """Where a word's row looked: all layers under a slider, some of them as a still picture beside each other."""
    depth = trace.pooled.shape[1]
    some = sorted({round(place * (depth - 1) / (STILL - 1)) for place in range(STILL)})

    def draw(layer: int) -> Figure:
        title = f"“{word.name}”, layer {layer} of 0 to {depth - 1}"
        return heat_map(picture, trace.pooled[word.token, layer], recipe, made_by=made_by, title=title)

    still = word_maps(picture, trace, [word.token], some, recipe, made_by=made_by)
    return View(still, slider(draw, depth) if find_spec("ipywidgets") else None)


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
