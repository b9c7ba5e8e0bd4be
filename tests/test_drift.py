"""Drift: distances of maps by hand, the method's own noise and anchor, kinds of words, bootstrap bands.

fp32: 1e-6 where a number is written out by hand; 1e-2 where a map was kept in fp16 and differences are divided.
"""

from dataclasses import replace
from math import log, sqrt
from pathlib import Path

import pytest
import torch
from test_trace import made_trace, object_mentions

import minivlm
from minivlm import CLVA, ConfigError, EvaluationError
from minivlm.inference.trace import PARTS
from minivlm.inputs.patches import patch_mask
from minivlm.lens.curve import Curve, bootstrap
from minivlm.lens.drift import (
    MEASURES,
    TracedScene,
    by_kind,
    cosine,
    drift,
    gates,
    image_maps,
    jensen_shannon,
    layer_similarities,
    layer_similarity,
    maps_at,
    noise_and_anchor,
    sink_columns,
)
from minivlm.lens.words import Trace, Word, words
from minivlm.toyworld.world import HELD_OUT

SHIPPED = Path(__file__).parent.parent / "weights" / "tiny" / "model.safetensors"
NAN = float("nan")


def near(found, expected, atol=1e-6) -> None:
    expected = torch.as_tensor(expected, dtype=torch.float32)
    torch.testing.assert_close(found, expected, rtol=0, atol=atol, equal_nan=True)


def random_maps(*shape: int, seed: int = 0) -> torch.Tensor:
    """Maps with many zeros, that sum to 1."""
    maps = torch.rand(shape, generator=torch.Generator().manual_seed(seed)).sub(0.4).clamp(min=0)
    return maps / maps.sum(-1, keepdim=True)


# --- maps -------------------------------------------------------------------------------------------------------------

ROWS = torch.tensor([[[0.5, 0.25, 0.25, 0], [0, 0, 0, 1]], [[0.1, 0.2, 0.3, 0.4], [0, 0, 0, 0]]])  # rows L P


def test_maps_without_columns_by_hand():
    near(image_maps(ROWS), [[[0.5, 0.25, 0.25, 0], [0, 0, 0, 1]], [[0.1, 0.2, 0.3, 0.4], [NAN] * 4]])
    first = torch.tensor([True, False, False, False])
    near(image_maps(ROWS, first), [[[0, 0.5, 0.5, 0], [0, 0, 0, 1]], [[0, 2 / 9, 3 / 9, 4 / 9], [NAN] * 4]])
    each = torch.tensor([[False, False, False, True], [False, True, True, False]])
    near(image_maps(ROWS, each), [[[0.5, 0.25, 0.25, 0], [NAN] * 4], [[0.2, 0, 0, 0.8], [NAN] * 4]])
    half = image_maps(torch.full((1, 1, 3), 1 / 3).half())
    assert half.dtype == torch.float32
    near(half, [[[1 / 3] * 3]])
    assert image_maps(torch.zeros(0, 2, 4)).shape == (0, 2, 4)
    assert image_maps(torch.zeros(3, 2, 0), torch.zeros(0, dtype=torch.bool)).shape == (3, 2, 0)


def test_sink_columns_by_hand():
    scores = torch.tensor(
        [
            [[0.5, 0.1, 0.0], [0.5, 0.5, 0.0]],
            [[0.5, 0.0, 0.0], [0.5, 0.5, 0.0]],
            [[0.0, 0.0, 0.9], [0.0, 0.0, 0.9]],
        ]
    )  # L H P
    trace = made_trace(["x"], torch.zeros(1, 3, 3))
    trace = Trace(**trace.__dict__ | {"sink_scores": scores.half()})
    assert sink_columns(trace, 0.25).tolist() == [True, True, False]  # in 4, 2 and 0 of 4 heads
    assert sink_columns(trace, 0.25, heads=0.6).tolist() == [True, False, False]
    assert sink_columns(trace, 0.25, layers=[2]).tolist() == [False, False, True]
    assert sink_columns(trace, 0.95).tolist() == [False] * 3


# --- distances --------------------------------------------------------------------------------------------------------


def test_cosine_by_hand():
    near(cosine(torch.tensor([1.0, 0]), torch.tensor([0.5, 0.5])), sqrt(0.5))
    near(cosine(torch.tensor([1.0, 0]), torch.tensor([0, 1.0])), 0)
    near(cosine(torch.tensor([[0.2, 0.8], [0, 0]]), torch.tensor([0.1, 0.4])), [1, NAN])


def test_jensen_shannon_by_hand():
    expected = 0.5 * log(1 / 0.75) + 0.5 * (0.5 * log(0.5 / 0.75) + 0.5 * log(0.5 / 0.25))
    near(jensen_shannon(torch.tensor([1.0, 0]), torch.tensor([0.5, 0.5])), expected)
    near(jensen_shannon(torch.tensor([1.0, 0]), torch.tensor([0, 1.0])), log(2))
    near(jensen_shannon(torch.tensor([[0.2, 0.8], [0, 0], [NAN, 1]]), torch.tensor([0.2, 0.8])), [0, NAN, NAN])
    assert jensen_shannon(torch.zeros(3, 0), torch.zeros(3, 0)).isnan().all()


@pytest.mark.parametrize("distance", [cosine, jensen_shannon])
def test_distances_are_symmetric_and_bounded(distance):
    a, b = random_maps(200, 12), random_maps(200, 12, seed=1)
    near(distance(a, b), distance(b, a))
    most = log(2) if distance is jensen_shannon else 1
    assert (distance(a, b) > 0).all()
    assert (distance(a, b) < most).all()
    near(distance(a, a), torch.zeros(200) if distance is jensen_shannon else torch.ones(200))
    apart = torch.cat((a, 0 * a), 1), torch.cat((0 * b, b), 1)
    near(distance(*apart), torch.full((200,), log(2) if distance is jensen_shannon else 0))


def test_jensen_shannon_equals_two_divergences_from_the_mean():
    a, b = random_maps(50, 9), random_maps(50, 9, seed=1)
    mean = (a + b) / 2
    kl = [torch.where(p > 0, p * (p / mean).log(), 0).sum(-1) for p in (a, b)]
    near(jensen_shannon(a, b), sum(kl) / 2)


def test_layer_similarity_by_hand():
    similar = layer_similarities(image_maps(ROWS))
    near(similar, [[[1, 0], [0, 1]], [[1, NAN], [NAN, NAN]]])
    near(layer_similarity(image_maps(ROWS)), [[1, 0], [0, 1]])
    three = torch.tensor([[[1.0, 0], [0.5, 0.5], [0, 1]], [[0.5, 0.5], [0.5, 0.5], [0, 1]]])
    root = sqrt(0.5)
    expected = [[1, (root + 1) / 2, root / 2], [(root + 1) / 2, 1, root], [root / 2, root, 1]]
    near(layer_similarity(three), expected)
    assert layer_similarity(torch.zeros(0, 3, 4)).isnan().all()
    assert layer_similarity(torch.zeros(0, 3, 4)).shape == (3, 3)
    assert layer_similarities(torch.zeros(2, 3, 0)).isnan().all()


# --- noise and anchor -------------------------------------------------------------------------------------------------

N = [0.4, 0.2, 0.2, 0.2]
STACK = torch.tensor([[N, [0.2, 0.6, 0.1, 0.1], [0.2, 0.2, 0.5, 0.1], [0, 0.4, 0.3, 0.3], N]])  # one row, 5 layers
BY_HAND = CLVA(noise_layers=(0,), anchor_layers=(1, 2))


def test_noise_and_anchor_by_hand():
    """Gains over the noise: 0.4 of the second patch in one layer, 0.3 of the third in the other."""
    found = noise_and_anchor(STACK, BY_HAND)
    near(found.noise[0, 0], N)
    near(found.middle[0, 0], [0.2, 0.4, 0.3, 0.1])
    near(found.anchor[0, 0], [0, 4 / 7, 3 / 7, 0])


def test_drift_by_hand():
    found, a, n = drift(STACK, BY_HAND), [0, 4 / 7, 3 / 7, 0], N
    assert {value.shape for value in vars(found).values()} == {(1, 5)}
    length = sqrt(sum(x * x for x in n))
    near(found.noise_cosine[0, [0, 4]], [1, 1])
    near(found.noise_divergence[0, [0, 4]], [0, 0])
    third = (0.4 * 0.2 + 2 * 0.3 * 0.2) / (length * sqrt(0.34))
    near(found.noise_cosine[0, 3], third)
    near(found.anchor_cosine[0, 3], (0.4 * 4 / 7 + 0.3 * 3 / 7) / (sqrt(0.34) * 5 / 7))
    near(found.anchor_cosine[0, 4], 0.2 / (length * 5 / 7))
    near(found.anchor_divergence[0, 4], jensen_shannon(torch.tensor(n), torch.tensor(a)))
    near(found.noise_divergence[0, 3], jensen_shannon(STACK[0, 3], STACK[0, 0]))


def test_the_gate_of_each_layer_by_hand():
    """0 where the middle is, and below; 1 at the noise; in between, the share of the way back."""
    found, middle = gates(STACK, BY_HAND), [0.2, 0.4, 0.3, 0.1]
    start = sum(x * y for x, y in zip(middle, N, strict=True)) / sqrt(0.3 * 0.28)
    third = (0.4 * 0.2 + 2 * 0.3 * 0.2) / sqrt(0.34 * 0.28)
    near(found, [[1, 0, 0, max(0, (third - start) / (1 - start)), 1]])
    assert (gates(STACK, replace(BY_HAND, gate=False)) == 1).all()
    assert gates(torch.zeros(0, 5, 4), BY_HAND).shape == (0, 5)


def test_each_row_has_its_own_noise_and_anchor():
    maps = random_maps(6, 10, 16)
    together = drift(maps)
    for row in range(6):
        alone = drift(maps[row : row + 1])
        for name, values in vars(together).items():
            near(getattr(alone, name)[0], values[row])
    assert not torch.allclose(together.noise_cosine[0], together.noise_cosine[1])


def test_layers_come_from_the_settings_or_from_the_depth():
    maps = random_maps(2, 10, 16)
    usual = CLVA(noise_layers=(0, 1), anchor_layers=(4, 5, 6, 7))
    near(drift(maps).noise_cosine, drift(maps, usual).noise_cosine)
    near(noise_and_anchor(maps).noise[:, 0], maps[:, :2].mean(1))
    half = drift(maps, CLVA(noise_layers=(2,)))
    near(half.noise_cosine[:, 2], [1, 1])
    swapped = noise_and_anchor(maps, CLVA(swapped=True))
    near(swapped.noise[:, 0], maps[:, 4:8].mean(1))
    with pytest.raises(ConfigError, match="reads the layer 12, but the maps are of the layers 0 to 9"):
        drift(maps, CLVA(anchor_layers=(12,)))
    with pytest.raises(ConfigError, match="has 2 in all"):
        drift(random_maps(1, 2, 4))


def test_what_cannot_be_said_is_nan():
    empty = drift(torch.zeros(0, 5, 16))
    assert {value.shape for value in vars(empty).values()} == {(0, 5)}
    for maps in (torch.zeros(2, 5, 4), torch.zeros(2, 5, 0)):
        assert all(value.isnan().all() for value in vars(drift(image_maps(maps))).values())
    alike = drift(torch.tensor(N).expand(1, 5, 4))  # nothing gained, so there is no anchor
    near(alike.noise_cosine, torch.ones(1, 5))
    assert alike.anchor_cosine.isnan().all()
    assert alike.anchor_divergence.isnan().all()
    one = drift(torch.cat((image_maps(torch.zeros(1, 5, 4)), STACK)), BY_HAND)  # beside a row that has maps
    assert one.noise_cosine[0].isnan().all()
    near(one.noise_cosine[1:], drift(STACK, BY_HAND).noise_cosine)


def test_a_shared_sink_makes_layers_alike_until_it_is_dropped():
    quiet = random_maps(4, 10, 16)
    loud = quiet * 0.2
    loud[..., 3] += 0.8
    sink = torch.arange(16) == 3
    assert layer_similarity(loud).min() > 0.9
    assert drift(loud).noise_cosine.min() > 0.9
    assert layer_similarity(image_maps(loud, sink)).min() < 0.7
    dropped = vars(drift(image_maps(loud, sink)))
    for name, values in vars(drift(image_maps(quiet, sink))).items():
        near(dropped[name], values, atol=1e-5)


# --- kinds of words ---------------------------------------------------------------------------------------------------


def scene_of(kinds: list[str], maps: torch.Tensor, masks: dict | None = None, dropped=None) -> TracedScene:
    """A scene whose token t begins a word named like its kind; shares and entropies are t and t / 10 everywhere."""
    trace = made_trace([f" {kind}" for kind in kinds], maps)
    tokens, layers, _ = maps.shape
    level = torch.arange(tokens, dtype=torch.float32)[:, None, None].expand(tokens, layers, 2)
    shares = torch.zeros(tokens, layers, 2, len(PARTS))
    level = level + torch.tensor([-0.5, 0.5])  # two heads
    shares[..., PARTS.index("image")] = level
    trace = Trace(**trace.__dict__ | {"shares": shares, "entropy": level / 10})
    found = [Word(kind, 0, 1, token, kind) for token, kind in enumerate(kinds)]
    return TracedScene(trace, found, masks or {}, dropped)


def test_curves_by_kind_by_hand():
    """Each scene counts once, whatever the number of its words."""
    first = scene_of(["true", "other", "true", "other", "true"], random_maps(5, 3, 4))
    second = scene_of(["other", "true"], random_maps(2, 3, 4, seed=1))
    share = by_kind([first, second], MEASURES["image share"])
    near(share["true"].mean, [(2 + 1) / 2] * 3)
    near(share["other"].mean, [(2 + 0) / 2] * 3)
    assert (share["true"].n, share["true"].words) == (2, 4)
    near(by_kind([first, second], MEASURES["entropy"])["true"].mean, [0.15] * 3)
    assert (share["invented"].n, share["invented"].words) == (0, 0)
    assert share["invented"].mean.shape == (3,)
    assert all(line.isnan().all() for line in share["invented"].lines)


def test_evidence_is_of_words_whose_object_is_known():
    maps = torch.tensor([[[0.5, 0.25, 0.25, 0]], [[0.25] * 4], [[0, 0, 0, 1.0]]])  # T 1 P
    scene = scene_of(["true", "invented", "other"], maps, masks={"true": torch.tensor([1.0, 0, 0, 0])})
    curves = by_kind([scene], MEASURES["evidence"])
    near(curves["true"].mean, [2.0])
    assert [curves[kind].n for kind in ("true", "invented", "other")] == [1, 0, 0]


def test_dropped_patches_are_out_of_the_maps_of_a_scene():
    maps = random_maps(3, 8, 16)
    dropped = torch.arange(16) < 3
    whole, part = (scene_of(["true"] * 3, maps, dropped=columns) for columns in (None, dropped))
    near(maps_at(part, part.words), image_maps(maps.half(), dropped))
    for name in ("cosine to noise", "cosine to anchor", "divergence from noise", "divergence from anchor"):
        one, other = (by_kind([scene], MEASURES[name])["true"].mean for scene in (whole, part))
        assert one.shape == other.shape == (8,)
        assert not torch.allclose(one, other)
        near(one, getattr(drift(image_maps(maps.half())), field_of(name)).mean(0))
    matrix = by_kind([part], MEASURES["layer similarity"])["true"]
    near(matrix.mean, layer_similarity(image_maps(maps.half(), dropped)))


def field_of(measure: str) -> str:
    kind, _, target = measure.split()
    return f"{target}_{kind}"


# --- bootstrap --------------------------------------------------------------------------------------------------------


def test_a_bootstrap_by_hand():
    """Two scenes with 0 and 1: of four draws one gives 0, two give 0.5, one gives 1, so the band is everything."""
    curve = bootstrap([torch.tensor([[0.0, 2]]), torch.tensor([[0.5, 2], [1.5, 2]])])
    near(curve.mean, [0.5, 2])
    near(curve.low, [0, 2])
    near(curve.high, [1, 2])
    assert (curve.n, curve.words) == (2, 3)
    inner = bootstrap([torch.tensor([0.0]), torch.tensor([1.0])], level=0.4)  # the middle two of four quarters
    near(torch.stack(inner.lines), [0.5, 0.5, 0.5])


def test_a_band_depends_on_its_seed_alone():
    values = [torch.randn(3, 5, generator=torch.Generator().manual_seed(seed)) for seed in range(9)]
    one, same, other = bootstrap(values), bootstrap(values), bootstrap(values, seed=1)
    assert all(torch.equal(*pair) for pair in zip(one.lines, same.lines, strict=True))
    assert torch.equal(one.mean, other.mean)
    assert not torch.equal(one.low, other.low)


def test_scenes_are_resampled_not_words():
    """Telling every word ten times makes no band narrower."""
    values = [torch.randn(2, 3, generator=torch.Generator().manual_seed(seed)) for seed in range(12)]
    one, ten = bootstrap(values), bootstrap([scene.repeat(10, 1) for scene in values])
    near(one.low, ten.low)
    near(one.high, ten.high)
    assert (one.words, ten.words) == (24, 240)


def test_the_band_covers_a_known_mean_as_often_as_it_says():
    """400 repetitions with 40 scenes around 3: 95 % within 4 standard errors (1.1 % each), less the bootstrap's own
    shortfall at 40 scenes, about 1 %."""
    generator = torch.Generator().manual_seed(0)
    # Positions are repetitions; they share their draws, as scenes here are independent of the draws.
    scenes = 3 + torch.randn(40, 1, 400, generator=generator) + 0.5 * torch.randn(40, 4, 400, generator=generator)
    curve = bootstrap(list(scenes), draws=2000)
    covered = ((curve.low <= 3) & (curve.high >= 3)).float().mean()
    assert 0.89 < covered < 0.985
    width = (curve.high - curve.low).mean()
    assert width == pytest.approx(2 * 1.96 * sqrt((1 + 0.25 / 4) / 40), rel=0.05)


def test_empty_groups_and_missing_values():
    nothing = bootstrap([])
    assert (nothing.n, nothing.words, nothing.mean.shape) == (0, 0, ())
    assert nothing.mean.isnan()
    no_words = bootstrap([torch.zeros(0, 4), torch.full((2, 4), NAN)])
    assert (no_words.n, no_words.words, no_words.low.shape) == (0, 0, (4,))
    one = bootstrap([torch.zeros(0, 2), torch.tensor([[1.0, NAN], [3.0, NAN], [NAN, NAN]])])
    near(torch.stack(one.lines), [[2, NAN]] * 3)
    assert (one.n, one.words) == (1, 2)
    part = bootstrap([torch.tensor([[1.0, NAN]]), torch.tensor([[3.0, 5.0]])])
    near(part.mean, [2, 5])
    near(torch.stack((part.low, part.high))[:, 1], [5, 5])
    assert isinstance(part, Curve)


def test_bootstraps_that_cannot_be():
    with pytest.raises(EvaluationError, match="draws of at least 1"):
        bootstrap([torch.zeros(1)], draws=0)
    with pytest.raises(EvaluationError, match="level within"):
        bootstrap([torch.zeros(1)], level=1.0)
    with pytest.raises(EvaluationError, match="values of one shape"):
        bootstrap([torch.zeros(1, 3), torch.zeros(1, 4)])


# --- on the shipped model ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shipped():
    if not SHIPPED.exists():
        pytest.skip("weights/tiny is not there")
    return minivlm.load(device="cpu")


@pytest.mark.weights
def test_drift_sees_what_the_method_sees(shipped):
    """CLVA's gate in its first deep layer, before anything was changed, from the plain model's trace."""
    clva, picture = CLVA.for_model(shipped.model.config), HELD_OUT.draw(0).picture
    trace = shipped.trace(picture, "Describe the image.", max_new_tokens=1)
    maps = image_maps(trace.pooled)
    found, here = noise_and_anchor(maps, clva), drift(maps, clva).noise_cosine[0, clva.deep_layers[0]]
    middle = cosine(found.middle, found.noise)[0, 0]
    effect = shipped.ask(picture, "Describe the image.", mitigation=clva, max_new_tokens=1).effect
    change = next(change for change in effect.calls[0] if change.layer == clva.deep_layers[0])
    gate = ((here - middle) / (1 - middle)).clamp(0, 1)
    near(change.gate[0, -1], gate, atol=1e-2)


@pytest.mark.weights
def test_every_measure_of_real_answers(shipped):
    scenes = [HELD_OUT.draw(seed) for seed in range(4)]
    layers = shipped.model.config.text_config.num_hidden_layers
    traces = shipped.trace_many([scene.picture for scene in scenes], ["Describe the image."] * 4, lens=range(layers))
    side, traced = round(shipped.model.config.num_image_tokens**0.5), []
    for scene, trace in zip(scenes, traces, strict=True):
        boxes = {name: [thing.box for thing in scene.of(name)] for name in scene.names}
        masks = {name: patch_mask(boxes[name], scene.picture.size, shipped.preprocessing, side) for name in boxes}
        assert all(0 < mask.sum() < side**2 for mask in masks.values())
        found = words(trace, object_mentions(trace.text, scene.names))
        traced.append(TracedScene(trace, found, masks, trace.pooled[0, 0] == trace.pooled[0, 0].max()))
    for name, measure in MEASURES.items():
        curves = by_kind(traced, measure, draws=100)
        true, other = curves["true"], curves["other"]
        assert true.mean.shape == ((layers, layers) if "similarity" in name else (layers,))
        assert true.n >= 2
        assert (true.low <= true.mean + 1e-6).all()
        assert (true.mean <= true.high + 1e-6).all()
        assert other.mean.isnan().all() == ("evidence" in name)  # words without an object have none
        most = {
            "evidence": side**2,
            "evidence elsewhere": side**2,
            "divergence from noise": log(2),
            "divergence from anchor": log(2),
        }.get(name, 1)
        assert (true.low >= (-1 if "correlation" in name else 0)).all()
        assert (true.high <= most + 1e-5).all()
