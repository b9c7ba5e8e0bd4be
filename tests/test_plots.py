"""Figures: maps lie where the model looked, bands and labels are there, nothing overlaps, no display is needed."""

import inspect
from itertools import combinations, product

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import FillBetweenPolyCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.text import Text
from PIL import Image

from minivlm.errors import ConfigError, ImageError
from minivlm.inference.trace import PARTS, TOP, Trace
from minivlm.inputs.image import ImagePreprocessing, to_pixels
from minivlm.lens import overlay, plots
from minivlm.model import CLVA

SQUARE = 16  # pixels; 4 x 4 patches
WIDE, TALL = (40, 20), (20, 40)  # pictures, width and height
CLVA_8 = CLVA(noise_layers=(0, 1), anchor_layers=(3, 4, 5), deep_layers=(6, 7))

# The patch in row 1, column 2 on the picture: left, top, right, bottom, by hand.
#   crop: the short side of 20 becomes 16, so a patch of 4 is 5 of the picture; the long side loses 10 at both ends
#   pad:  the long side of 40 becomes 16, so a patch is 10 of the picture; 10 of padding before the short side
BY_HAND = {
    ("crop", WIDE): (20, 5, 25, 10),
    ("crop", TALL): (10, 15, 15, 20),
    ("pad", WIDE): (20, 0, 30, 10),
    ("pad", TALL): (10, 10, 20, 20),
}


def recipe(mode: str = "crop") -> ImagePreprocessing:
    return ImagePreprocessing(SQUARE, mode=mode)


def black(size: tuple[int, int] = WIDE) -> Image.Image:
    return Image.new("RGB", size)


def one_lit(row: int = 1, column: int = 2) -> torch.Tensor:
    values = torch.zeros(4, 4, dtype=torch.float16)
    values[row, column] = 1
    return values.flatten()


def tiny_trace(mode: str = "crop", tokens: int = 3, layers: int = 8) -> Trace:
    """A trace with one lit patch: of token t in layer l the patch t + l."""
    pooled = torch.full((tokens, layers, 16), 0.01)
    for token in range(tokens):
        for layer in range(layers):
            pooled[token, layer, token + layer] = 0.85
    facts = {"pieces": ["a", " refrigerator", ""][:tokens], "recipe": recipe(mode).describe(), "lens_layers": []}
    lens = torch.zeros(tokens, 0)
    top = torch.zeros(tokens, 0, TOP)
    sinks, shares = torch.zeros(layers, 2, 16), torch.full((tokens, layers, 2, len(PARTS)), 1 / len(PARTS))
    return Trace(facts, shares, torch.ones(tokens, layers, 2), pooled, sinks, lens, top.long(), top)


def curve(layers: int = 8, height: float = 0.5) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    mean = height + torch.arange(layers) / 50
    return mean, mean - 0.1, mean + 0.2


SENTENCE = "In deep layers the maps of invented words are no nearer to the noise than the maps of true words are"
FIGURES = {
    "heat_map": lambda by: plots.heat_map(
        black(), one_lit(), recipe("pad"), made_by=by, boxes=[("bird", (1, 0, 9, 9)), ("dog", (30, 9, 39, 19))]
    ),
    "heat_map, tall": lambda by: plots.heat_map(black(TALL), torch.ones(16), recipe("pad"), made_by=by, title="x"),
    "heat_map, a strip": lambda by: plots.heat_map(black((400, 20)), one_lit(), recipe("pad"), made_by=by),
    "word_maps": lambda by: plots.word_maps(black(), tiny_trace(), [0, 1], [0, 3, 7], recipe(), made_by=by),
    "word_maps of one": lambda by: plots.word_maps(black(), tiny_trace(), [1], [4], recipe(), made_by=by),
    "before_after": lambda by: plots.before_after(
        black(), one_lit(), one_lit(2, 2) / 30, recipe("pad"), made_by=by, name="EAH + CLVA"
    ),
    "layer_curves": lambda by: plots.layer_curves(
        {f"{n} words": curve(height=n / 9) for n in range(5)}, made_by=by, ylabel="share", title="y", clva=CLVA_8
    ),
    "layer_curves, a long title": lambda by: plots.layer_curves(
        {"true": curve()}, made_by=by, ylabel="share", title=SENTENCE, clva=CLVA_8
    ),
    "heat_map, a long title": lambda by: plots.heat_map(black(), one_lit(), recipe(), made_by=by, title=SENTENCE),
    "before_after, a long title": lambda by: plots.before_after(
        black(), one_lit(), one_lit(2, 2), recipe(), made_by=by, name="EAH in layer 2 and CLVA without its gate"
    ),
    "similarity_matrix, a long title": lambda by: plots.similarity_matrix(torch.rand(8, 8), made_by=by, title=SENTENCE),
    "sink_density, a long title": lambda by: plots.sink_density(torch.rand(8, 8), made_by=by, title=SENTENCE),
    "lens_curve": lambda by: plots.lens_curve({"true": curve(), "invented": curve()}, made_by=by, clva=CLVA_8),
    "similarity_matrix": lambda by: plots.similarity_matrix(torch.rand(32, 32), made_by=by, title="z"),
    "sink_density": lambda by: plots.sink_density(torch.rand(32, 32), made_by=by, title="z"),
}  # fmt: skip


@pytest.fixture(params=FIGURES, scope="module")
def figure(request) -> Figure:
    return FIGURES[request.param]("minivlm/tiny")


def pixels(figure: Figure, axes, size: tuple[int, int]) -> np.ndarray:
    """The colours (height, width, 3) that the drawn figure has in the middle of each pixel of the picture."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    drawn = np.asarray(canvas.buffer_rgba())[..., :3] / 255
    x, y = np.meshgrid(np.arange(size[0]) + 0.5, np.arange(size[1]) + 0.5)
    at = axes.transData.transform(np.stack([x.ravel(), y.ravel()], axis=-1)).astype(int)
    return drawn[len(drawn) - 1 - at[:, 1], at[:, 0]].reshape(size[1], size[0], 3)


def rectangle(box: tuple[int, int, int, int], size: tuple[int, int]) -> np.ndarray:
    left, top, right, bottom = box
    mask = np.zeros((size[1], size[0]), dtype=bool)
    mask[top:bottom, left:right] = True
    return mask


# --- where a patch lies -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("mode", "size"), BY_HAND)
def test_a_lit_patch_is_drawn_where_it_lies_on_the_picture(mode, size):
    figure = plots.heat_map(black(size), one_lit(), recipe(mode), made_by="m")
    lit = pixels(figure, figure.axes[0], size).mean(axis=-1) > 0.5  # a black picture is drawn at 0.1
    np.testing.assert_array_equal(lit, rectangle(BY_HAND[mode, size], size))


@pytest.mark.parametrize(("mode", "size"), BY_HAND)
def test_the_rectangles_are_what_the_model_sees_in_that_patch(mode, size):
    """What is white there is what makes the patch bright that `to_pixels` cuts."""
    picture = Image.fromarray(rectangle(BY_HAND[mode, size], size).astype(np.uint8) * 255).convert("RGB")
    means = to_pixels(picture, recipe(mode))[0].unfold(0, 4, 4).unfold(1, 4, 4).mean(dim=(2, 3))
    assert means.argmax() == 1 * 4 + 2


@pytest.mark.parametrize("size", [WIDE, TALL])
def test_what_was_cropped_off_is_shown_but_unlit(size):
    figure = plots.heat_map(Image.new("RGB", size, "white"), torch.ones(16), recipe("crop"), made_by="m")
    shown = pixels(figure, figure.axes[0], size)
    seen = rectangle((10, 0, 30, 20) if size == WIDE else (0, 10, 20, 30), size)
    np.testing.assert_allclose(shown[~seen], overlay.WHITE, atol=1 / 255)  # the dimmed picture alone
    assert shown[seen].mean(axis=-1).min() > overlay.WHITE + 0.1
    assert "cut off" in figure.axes[0].get_title()


@pytest.mark.parametrize("mode", ["crop", "pad"])
@pytest.mark.parametrize("size", [WIDE, TALL, (96, 96), (33, 500)])
def test_the_axes_are_the_pictures_own_pixels(mode, size):
    axes = plots.heat_map(black(size), one_lit(), recipe(mode), made_by="m").axes[0]
    assert axes.get_xlim() == (0, size[0])
    assert axes.get_ylim() == (size[1], 0)
    assert axes.get_aspect() == 1
    assert axes.images[0].get_array().shape[:2] == (size[1], size[0])


def test_the_share_on_padding_is_told():
    """A picture of 40 x 20 fills rows 1 and 2 of the padded square."""
    assert overlay.share_on_padding(np.ones((4, 4)), WIDE, recipe("pad")) == pytest.approx(0.5)
    assert overlay.share_on_padding(np.ones((4, 4)), WIDE, recipe("crop")) == 0
    assert overlay.share_on_padding(overlay.as_grid(one_lit(1, 2)), WIDE, recipe("pad")) == pytest.approx(0)
    assert overlay.share_on_padding(np.ones((1, 1)), (40, 30), recipe("pad")) == pytest.approx(0.25)  # half a patch
    assert overlay.share_on_padding(np.zeros((4, 4)), WIDE, recipe("pad")) == 0
    title = plots.heat_map(black(), torch.ones(16), recipe("pad"), made_by="m").axes[0].get_title()
    assert title == "50% of the map lies on padding, outside the picture"
    assert plots.heat_map(black((9, 9)), torch.ones(16), recipe("pad"), made_by="m").axes[0].get_title() == ""


def test_boxes_are_drawn_with_their_names():
    figure = plots.heat_map(black(), one_lit(), recipe("pad"), made_by="m", boxes=[("dog", (3, 4, 13, 9))])
    axes = figure.axes[0]
    (box,) = axes.patches
    assert (*box.get_xy(), box.get_width(), box.get_height()) == (3, 4, 10, 5)
    assert [text.get_text() for text in axes.texts] == ["dog"]


# --- the other figures on pictures ------------------------------------------------------------------------------------


def test_word_maps_are_words_by_layers_on_one_scale():
    figure = plots.word_maps(black(), tiny_trace(), [1, 2], [0, 3, 7], recipe(), made_by="m")
    panels = figure.axes[:6]
    maps = [axes.images[1] for axes in panels]
    brightest = [int(map_.get_array().argmax()) for map_ in maps]
    assert brightest == [1, 4, 8, 2, 5, 9]  # token + layer
    assert len({map_.get_clim() for map_ in maps}) == 1
    assert [axes.get_title() for axes in panels[:3]] == ["layer 0", "layer 3", "layer 7"]
    assert [axes.get_ylabel() for axes in panels[::3]] == ["refrigerator\n(token 1)", "(end)\n(token 2)"]


def test_before_and_after_share_one_scale_and_the_third_is_the_difference():
    after = torch.full((16,), 0.25)
    figure = plots.before_after(black(), one_lit(), after, recipe(), made_by="m", name="EAH")
    first, second, third = (axes.images[1] for axes in figure.axes[:3])
    assert first.get_clim() == second.get_clim() == (0, 1)
    np.testing.assert_allclose(third.get_array(), second.get_array() - first.get_array())
    assert third.get_clim() == (-0.75, 0.75)  # the same length on both sides, so that no change is the middle
    assert [axes.get_title() for axes in figure.axes[:3]] == ["plain", "EAH", "EAH minus plain"]


def test_maps_of_nothing_are_drawn():
    zeros = torch.zeros(16)
    assert plots.heat_map(black(), zeros, recipe(), made_by="m").axes[0].images[1].get_clim() == (0, 1)
    assert plots.before_after(black(), zeros, zeros, recipe(), made_by="m").axes[2].images[1].get_clim() == (-1, 1)


# --- curves and matrices ----------------------------------------------------------------------------------------------


def test_curves_have_their_bands_their_names_and_their_layers():
    lines = {"true": curve(4, 0.2), "invented": curve(4, 0.6)}
    figure = plots.layer_curves(lines, made_by="m", ylabel="cosine to the noise map", layers=[2, 4, 6, 8])
    axes = figure.axes[0]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["true", "invented"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("layer (counted from 0)", "cosine to the noise map")
    bands = [artist for artist in axes.collections if isinstance(artist, FillBetweenPolyCollection)]
    for line, band, (mean, low, high) in zip(axes.lines, bands, lines.values(), strict=True):
        np.testing.assert_allclose(line.get_xdata(), [2, 4, 6, 8])
        np.testing.assert_allclose(line.get_ydata(), mean)
        corners = {tuple(corner) for corner in band.get_paths()[0].vertices.round(5).tolist()}
        edges = [(x, round(y, 5)) for side in (low, high) for x, y in zip([2, 4, 6, 8], side.tolist(), strict=True)]
        assert set(edges) <= corners
    styles = {(line.get_linestyle(), line.get_marker()) for line in axes.lines}
    assert len(styles) == len({line.get_color() for line in axes.lines}) == 2  # told apart without colour


def test_the_layers_of_clva_are_shaded_and_named():
    figure = plots.layer_curves({"a": curve()}, made_by="m", ylabel="y", clva=CLVA_8)
    spans = [patch for patch in figure.axes[0].patches if isinstance(patch, Rectangle)]
    assert [(span.get_x(), span.get_width()) for span in spans] == [(layer - 0.5, 1) for layer in (0, 1, 3, 4, 5, 6, 7)]
    (above,) = figure.axes[0].child_axes
    assert {label.get_text(): label.get_position()[0] for label in above.get_xticklabels()} == {
        "noise": 0.5, "anchor": 4, "deep": 6.5,
    }  # fmt: skip
    with pytest.raises(ConfigError, match=r"CLVA\.for_model"):
        plots.layer_curves({"a": curve()}, made_by="m", ylabel="y", clva=CLVA())


def test_a_curve_without_words_says_so():
    none = torch.full((8,), torch.nan)
    figure = plots.lens_curve({"true": curve(), "invented": (none, none, none)}, made_by="m")
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["true", "invented (none)"]
    assert figure.axes[0].get_ylim() == (-0.02, 1.02)


def test_matrices_stand_as_they_are_written():
    matrix, density = torch.rand(5, 5), torch.rand(5, 3)
    alike = plots.similarity_matrix(matrix, made_by="m").axes[0]
    sinks = plots.sink_density(density, made_by="m").axes[0]
    np.testing.assert_allclose(alike.images[0].get_array(), matrix)
    np.testing.assert_allclose(sinks.images[0].get_array(), density)
    assert alike.images[0].get_clim() == (0, 1)
    assert (sinks.get_xlabel(), sinks.get_ylabel()) == ("head (counted from 0)", "layer (counted from 0)")
    assert alike.images[0].origin == "upper"  # layer 0 is at the top


# --- every figure -----------------------------------------------------------------------------------------------------


def test_every_figure_names_its_model(figure):
    assert figure.get_supxlabel() == "made by minivlm/tiny"


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("minivlm/tiny", "minivlm/tiny"),
        ("llava-hf/llava-1.5-7b-hf", "llava-hf/llava-1.5-7b-hf"),
        ("/models/here/llava-mine/", "llava-mine"),
        ("~/llava-mine", "llava-mine"),
    ],
)
def test_a_model_in_a_folder_is_named_without_the_way_there(name, shown):
    assert plots.sink_density(torch.rand(2, 2), made_by=name).get_supxlabel() == f"made by {shown}"


def test_a_folder_that_is_there_is_known_as_one(tmp_path, monkeypatch):
    (tmp_path / "weights" / "mine").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert overlay.short_name("weights/mine") == "mine"
    assert overlay.short_name("weights/other") == "weights/other"


def test_a_title_keeps_its_own_lines_and_its_words():
    assert overlay.folded("short\nlines", 6.4) == "short\nlines"
    assert overlay.folded(SENTENCE, 6.4).replace("\n", " ") == SENTENCE
    assert max(map(len, overlay.folded(SENTENCE, 6.4).splitlines())) <= 60


def test_no_figure_without_a_model():
    """Every figure refuses every way of naming none: one guarantee, in one test. The traceback shows which did not."""
    for name, wrong in product(FIGURES, ["", "  ", None]):
        with pytest.raises(ConfigError, match="made_by"):
            FIGURES[name](wrong)


def test_no_text_overlaps_another_or_leaves_the_figure(figure):
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    boxes = [(text.get_text(), text.get_window_extent(canvas.get_renderer())) for text in drawn_texts(figure)]
    assert len(boxes) > 4
    for text, box in boxes:
        assert box.x0 >= 0, text
        assert box.y0 >= 0, text
        assert box.x1 <= figure.bbox.x1, text
        assert box.y1 <= figure.bbox.y1, text
    for (text, box), (other, its) in combinations(boxes, 2):
        assert not box.overlaps(its), f"{text!r} and {other!r}"


def drawn_texts(figure: Figure) -> list[Text]:
    """Texts that are not empty; ticks beyond the end of an axis are not drawn."""
    beyond = set()
    for axes in figure.findobj(lambda artist: hasattr(artist, "xaxis")):
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks()):
                if not low <= tick.get_loc() <= high:
                    beyond |= {tick.label1, tick.label2}
    texts = figure.findobj(Text)
    return [text for text in texts if text.get_visible() and text.get_text().strip() and text not in beyond]


def test_no_display_and_no_state_of_the_process(tmp_path):
    before = dict(matplotlib.rcParams)
    figure = FIGURES["lens_curve"]("minivlm/tiny")
    figure.savefig(tmp_path / "figure.png")
    assert Image.open(tmp_path / "figure.png").size == pytest.approx(figure.get_size_inches() * figure.dpi, abs=1)
    assert dict(matplotlib.rcParams) == before
    assert "pyplot" not in inspect.getsource(plots)


@pytest.mark.parametrize("behind", [overlay.BLACK, 0.3, overlay.WHITE])
def test_more_attention_is_lighter_in_grey_print(behind):
    """On a dark, middle and light picture; from a tenth of the scale on, since nothing is drawn at 0."""
    grey = in_grey(plots.LIT, behind)
    assert (np.diff(grey[len(grey) // 10 :]) > -1e-3).all()
    assert grey[-1] > overlay.WHITE + 0.3


def test_losses_are_darker_and_gains_lighter_in_grey_print():
    grey = in_grey(plots.CHANGED, (overlay.BLACK + overlay.WHITE) / 2)
    assert grey[0] < grey[len(grey) // 2] - 0.08
    assert grey[-1] > grey[len(grey) // 2] + 0.1
    assert (np.diff(grey) > -1e-3).all()


def in_grey(colours, behind: float) -> np.ndarray:
    """The luma (Rec. 601) of a colour map over a grey."""
    red, green, blue, opacity = colours(np.linspace(0, 1, colours.N)).T
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    return luma * opacity + behind * (1 - opacity)


# --- mistakes ---------------------------------------------------------------------------------------------------------

MISTAKES = {
    "a map has one value for each patch": lambda: plots.heat_map(black(), torch.ones(15), recipe(), made_by="m"),
    "1 dimension": lambda: plots.heat_map(black(), torch.ones(4, 4), recipe(), made_by="m"),
    "not be empty": lambda: plots.heat_map(black(), [], recipe(), made_by="m"),
    "found 16 nan": lambda: plots.heat_map(black(), torch.full((16,), torch.nan), recipe(), made_by="m"),
    "1 infinite": lambda: plots.heat_map(black(), [torch.inf, 0, 0, 0], recipe(), made_by="m"),
    "must be numbers": lambda: plots.heat_map(black(), "a map", recipe(), made_by="m"),
    "found 16 and 4": lambda: plots.before_after(black(), one_lit(), torch.ones(4), recipe(), made_by="m"),
    "tokens must be some of 0 to 2, found .3.": lambda: plots.word_maps(
        black(), tiny_trace(), [0, 3], [0], recipe(), made_by="m"
    ),
    "layers must be some of 0 to 7, found .-1.": lambda: plots.word_maps(
        black(), tiny_trace(), [0], [-1], recipe(), made_by="m"
    ),
    "found none": lambda: plots.word_maps(black(), tiny_trace(), [], [0], recipe(), made_by="m"),
    "made with 'pad": lambda: plots.word_maps(black(), tiny_trace("pad"), [0], [0], recipe("crop"), made_by="m"),
    "'a' must be .mean, low, high": lambda: plots.layer_curves({"a": curve()[:2]}, made_by="m", ylabel="y"),
    "'b' must be .mean": lambda: plots.layer_curves({"b": (*curve()[:2], curve(7)[0])}, made_by="m", ylabel="y"),
    r"the lengths \[7, 8\]": lambda: plots.layer_curves({"a": curve(), "b": curve(7)}, made_by="m", ylabel="y"),
    r"the lengths \[2, 8\]": lambda: plots.lens_curve({"a": curve()}, made_by="m", layers=[0, 1]),
    r"the lengths \[\]": lambda: plots.layer_curves({}, made_by="m", ylabel="y"),
    r"square, .* found the shape \(3, 4\)": lambda: plots.similarity_matrix(torch.ones(3, 4), made_by="m"),
    r"found the shape \(3,\)": lambda: plots.sink_density(torch.ones(3), made_by="m"),
}


@pytest.mark.parametrize("sentence", MISTAKES)
def test_a_mistake_gets_a_sentence(sentence):
    with pytest.raises(ConfigError, match=f"(?i){sentence}"):
        MISTAKES[sentence]()


def test_a_picture_that_is_none_gets_a_sentence():
    with pytest.raises(ImageError, match="picture"):
        plots.heat_map(None, one_lit(), recipe(), made_by="m")
