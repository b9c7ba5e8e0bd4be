"""The table of the methods, its oracle, its intervals and the curves by layer.

Figures and intervals are held against examples worked out by hand, exactly where they are whole numbers of scenes;
models are tiny and random, so nothing here depends on what a model has learned.
"""

import json
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from test_trace import made_trace

from minivlm.errors import ConfigError, EvaluationError
from minivlm.evaluation.chair import chair, judge
from minivlm.evaluation.datasets import open_dataset
from minivlm.evaluation.items import as_question, pope_items
from minivlm.evaluation.pope import PARSERS, pope
from minivlm.experiments import conditions as methods
from minivlm.experiments import methods_card
from minivlm.experiments.exam import caption_figures, draw, pope_figures
from minivlm.experiments.layers import CURVES, by_layer, traced_scenes, words_of
from minivlm.experiments.oracle import Guide, Oracle, object_masks
from minivlm.experiments.trials import (
    PLAIN_CONDITION,
    WORDS,
    Condition,
    answer_yes_no,
    ask,
    caption_ratios,
    pope_ratios,
    pope_sets,
    write_captions,
)
from minivlm.experiments.tuning import Tuned, best, default_settings, grid, tune
from minivlm.inference.trace import Trace
from minivlm.inputs.image import ImagePreprocessing
from minivlm.inputs.patches import patch_mask
from minivlm.lens import drift
from minivlm.lens.drift import TracedScene
from minivlm.model import CLVA, EAH
from minivlm.stats import Ratio, compared, difference, estimate, resamples
from minivlm.toyworld import CROWDED, HELD_OUT, Scene, Thing
from minivlm.toyworld.questions import DESCRIBE
from support.tiny_model import tiny_config, tiny_vlm

QUESTION = DESCRIBE[0]


@pytest.fixture(scope="module", autouse=True)
def short_captions():
    """A random model does not know when to stop: the table's captions end after eight tokens here."""
    with pytest.MonkeyPatch.context() as patch:
        for file in ("trials", "layers"):
            patch.setattr(f"minivlm.experiments.{file}.MOST", 8)
        patch.setattr("minivlm.experiments.trials.BLOCK", 50)
        yield


@pytest.fixture(scope="module")
def vlm(tmp_path_factory):
    return tiny_vlm(tmp_path_factory.mktemp("methods"))


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return draw(HELD_OUT, 4)


def scene_of(*things: Thing, size: int = 96) -> Scene:
    return Scene(0, "field", None, things, size)


DOG, BIRD = Thing("dog", "brown", (0, 0, 36, 32)), Thing("bird", "red", (64, 64, 96, 96))


# --- figures with intervals -------------------------------------------------------------------------------------------


def test_a_figure_is_a_ratio_of_sums_not_a_mean_of_ratios():
    assert Ratio.of([1, 0, 3], [1, 2, 6]).value == pytest.approx(4 / 9)
    assert Ratio.of([0, 0], [0, 0]).value == 0
    curve = Ratio.of([[1, 2], [3, 0]], [[2], [2]])  # two scenes, two layers, words of each scene
    assert curve.value == pytest.approx([1, 0.5])


def test_resamples_count_scenes_and_come_again_with_their_seed():
    times = resamples(7, number=50, seed=3)
    assert times.shape == (50, 7)
    assert (times.sum(axis=1) == 7).all()
    assert np.array_equal(times, resamples(7, number=50, seed=3))
    assert not np.array_equal(times, resamples(7, number=50, seed=4))
    with pytest.raises(EvaluationError, match="at least one scene"):
        resamples(0)


def test_a_resample_takes_a_scene_as_often_as_it_says():
    figure = Ratio.of([1, 0, 3], [1, 2, 6])
    times = np.array([[1, 1, 1], [3, 0, 0], [0, 2, 1]], float)
    assert figure.resampled(times) == pytest.approx([4 / 9, 1, 3 / 10])


def test_the_interval_is_that_of_the_written_out_bootstrap():
    part, whole = [1, 0, 2, 1, 0, 3], [4, 3, 5, 2, 4, 6]
    times = resamples(6)
    found = estimate(Ratio.of(part, whole), times)
    drawn = [np.repeat(np.arange(6), row.astype(int)) for row in times]
    loop = [sum(part[i] for i in rows) / sum(whole[i] for i in rows) for rows in drawn]
    assert found.value == pytest.approx(7 / 24)
    assert [found.low, found.high] == pytest.approx(np.quantile(loop, [0.025, 0.975]))


def test_a_coin_has_the_interval_of_the_normal_approximation():
    """Half of 400 scenes: 1.96 standard errors of .025; 1,000 resamples place each end to about .003."""
    found = estimate(Ratio.of([1, 0] * 200, [1] * 400), resamples(400))
    assert [found.low, found.high] == pytest.approx([0.451, 0.549], abs=0.01)


def test_a_paired_difference_does_not_see_what_both_have_in_common():
    rng = np.random.default_rng(0)
    base = rng.integers(0, 50, 60)
    plain, better = Ratio.of(base, np.full(60, 50)), Ratio.of(base - 1, np.full(60, 50))
    found = difference(better, plain, resamples(60))
    assert [found.value, found.low, found.high] == pytest.approx([-0.02] * 3)
    alone = estimate(plain, resamples(60))
    assert alone.high - alone.low > 0.05
    with pytest.raises(EvaluationError, match="the same scenes"):
        difference(plain, Ratio.of([1], [1]), resamples(60))
    assert json.dumps(compared(better, plain, resamples(60)))


# --- counting ---------------------------------------------------------------------------------------------------------


def test_caption_figures_by_hand():
    """A dog is named twice, and a kite that is not there: one of four mentions, and one caption of two."""
    seen = [scene_of(DOG, replace(BIRD, hard="faint")), scene_of(BIRD)]
    ratios = caption_ratios(["A dog, a kite and a dog.", "A bird."], seen)
    assert {name: float(ratio.value) for name, ratio in ratios.items()} == pytest.approx(
        {
            "chair_i": 1 / 4,
            "chair_s": 1 / 2,
            "recall": 2 / 3,
            "precision": 2 / 3,
            "f1": 2 / 3,
            "words": 9 / 2,
            "recall of clear objects": 1,
            "recall of hard objects": 0,
        }
    )


def test_caption_figures_are_those_of_the_evaluation():
    drawn = [CROWDED.layout(seed) for seed in range(5)]
    captions = [f"A dog, a {scene.names[0]} and a {scene.names[-1]}." for scene in drawn]
    expected = chair([judge(caption, scene.names, WORDS) for caption, scene in zip(captions, drawn, strict=True)])
    ratios, exam = caption_ratios(captions, drawn), caption_figures(captions, drawn)
    for name, ratio in expected.items():
        assert ratio.value == ratios[name].value == exam[name], name


def test_yes_no_questions_are_those_of_the_evaluation(monkeypatch):
    """About its first scenes, in every split, word for word: one of many scenes is a pair of scissors."""
    monkeypatch.setattr("minivlm.experiments.trials.BLOCK", 1000)
    sets = pope_sets([HELD_OUT.layout(seed) for seed in range(40)])
    items = pope_items(open_dataset("scenes:0").limited(40), list(sets))
    for split, asked in sets.items():
        assert asked == [as_question(item) for item in items if item.split == split]
    assert any("a pair of scissors" in one.text for asked in sets.values() for one in asked)


def test_yes_no_figures_are_those_of_the_evaluation():
    drawn = [HELD_OUT.layout(seed) for seed in range(6)]
    asked = pope_sets(drawn)["adversarial"]
    said = {(one.image, one.text): "Yes, it is." if len(one.text) % 2 else "No." for one in asked}
    expected = pope(asked, [PARSERS["original"](said[one.image, one.text]) for one in asked])
    found, exam = pope_ratios({"adversarial": asked}, said), pope_figures(asked, said)
    for name, ratio in expected.items():
        assert found[f"adversarial {name}"].value == ratio.value == exam[name], name
    assert (exam["questions"], exam["unreadable"]) == (len(asked), 0)
    assert pope_figures(asked, dict.fromkeys(said, "a dog"))["unreadable"] == 1


def test_a_question_of_several_splits_is_asked_once(vlm, scenes, monkeypatch):
    sets = {split: asked for split, asked in pope_sets(scenes).items() if split != "adversarial"}
    asked = []

    def counted(vlm, scenes, questions, most, condition, title):
        asked.extend(zip((str(scene.seed) for scene in scenes), questions, strict=True))
        return ["No"] * len(questions)

    monkeypatch.setattr("minivlm.experiments.trials.ask", counted)
    answers = answer_yes_no(vlm, scenes, sets)
    everything = [(one.image, one.text) for split in sets.values() for one in split]
    assert len(asked) == len(set(asked)) == len(answers) == len(set(everything)) < len(everything)


# --- the oracle -------------------------------------------------------------------------------------------------------


SQUARE = ImagePreprocessing(96)


def boxes(*things: Thing) -> torch.Tensor:
    """(9,): how much of each of 3 × 3 patches of 32 pixels the things' boxes cover."""
    return patch_mask([thing.box for thing in things], (96, 96), SQUARE, 3)


def test_what_an_object_covers_by_hand():
    """A box of 36 × 32 covers the first patch and an eighth of the next; a patch is not covered twice."""
    masks = object_masks(scene_of(DOG, BIRD, DOG), SQUARE, 3)
    assert masks["dog"].tolist() == [1, 0.125, 0, 0, 0, 0, 0, 0, 0]
    assert masks["bird"].tolist() == [0, 0, 0, 0, 0, 0, 0, 0, 1]


def test_the_target_is_what_is_there_and_not_yet_named():
    guide = Guide(scene_of(DOG, BIRD), SQUARE, side=3)
    dog, bird = boxes(DOG), boxes(BIRD)
    assert torch.equal(guide.target("The image shows"), dog + bird)
    assert torch.equal(guide.target("The image shows a dog and a kite"), bird)
    assert not guide.target("Dogs and birds").any()


def test_the_controls_aim_as_much_at_what_means_nothing():
    guide = Guide(scene_of(DOG, BIRD), SQUARE, side=3)
    true, mixed = guide.target("a bird"), guide.target("a bird", "random")
    assert torch.equal(true.sort().values, mixed.sort().values)
    assert not torch.equal(true, mixed)
    assert torch.equal(mixed, guide.target("A bird", "random"))  # the same patches at every word
    assert guide.target("", "elsewhere").tolist() == [0, 0, 1, 1, 1, 1, 1, 1, 0]
    with pytest.raises(ConfigError, match=r"Oracle.target must be one of unnamed.*'nowhere'"):
        Oracle((0,), target="nowhere")


def test_without_strength_the_oracle_writes_plain_captions(vlm, scenes):
    plain = write_captions(vlm, scenes, QUESTION)
    idle, aimed = (Oracle((0, 1, 2), strength, kappa) for strength, kappa in ((0.0, 1.0), (1.0, 2.0)))
    with pytest.warns(UserWarning, match="changed nothing"):
        assert write_captions(vlm, scenes, QUESTION, Condition("ceiling", oracle=idle)) == plain
    aimed = write_captions(vlm, scenes, QUESTION, Condition("ceiling", oracle=aimed))
    assert len(aimed) == len(plain)
    assert aimed != plain


def test_the_oracle_moves_on_from_word_to_word(vlm, scenes, monkeypatch):
    """What is aimed at after each word is the target of the text so far."""
    seen = []
    aim = Oracle.aim
    monkeypatch.setattr(
        Oracle, "aim", lambda self, guides, texts, device: seen.append(texts) or aim(self, guides, texts, device)
    )
    captions = write_captions(vlm, scenes[:2], QUESTION, Condition("ceiling", oracle=Oracle((1,))))
    assert seen[0] == ["", ""]
    assert all(later[0].startswith(earlier[0]) for earlier, later in pairwise(seen))
    assert all(caption.startswith(text) for caption, text in zip(captions, seen[-1], strict=True))


# --- conditions, tuning, the table ------------------------------------------------------------------------------------


def test_every_method_has_its_controls(vlm):
    found = methods.conditions(vlm.model.config, default_settings(vlm.model.config))
    assert next(iter(found)) == "plain"
    kinds = [condition.kind for condition in found.values()]
    assert kinds.count("plain") == 1
    assert kinds.count("method") == 3
    clva = [one.clva for name, one in found.items() if name.startswith("CLVA,")]
    assert {one.anchor for one in clva} == {"gain", "random", "shuffled"}
    assert any(one.swapped for one in clva)
    assert any(one.omega == 0 for one in clva)
    assert any(one.beta == 0 for one in clva)
    assert any(not one.gate for one in clva)
    eah = [one.eah for name, one in found.items() if name.startswith("EAH,")]
    assert [one.head for one in eah].count("random") == 3
    assert len({one.layer for one in eah}) == 2
    assert {one.oracle.target for one in found.values() if one.oracle} == {"unnamed", "random", "elsewhere"}
    assert found["last third flattened"].flatten == (2,)
    settings = [json.dumps(one.settings(), sort_keys=True) for one in found.values()]
    assert len(set(settings)) == len(settings)


def test_quarters_of_the_depth_share_no_layer():
    for depth in (3, 8, 10, 12):
        bands = [one.oracle.layers for name, one in methods.oracles(depth).items() if name.endswith("quarter")]
        assert sorted(layer for band in bands for layer in band) == list(range(depth))


def test_a_flattened_layer_looks_at_all_patches_alike(vlm, scenes):
    config = vlm.model.config
    inputs = vlm.prepare_many([scene.picture for scene in scenes], [QUESTION] * 4)
    mitigation = Condition("control", flatten=(1,)).mitigation(vlm, scenes)
    row = vlm.model(**inputs, mitigation=mitigation, rows=[1]).rows[1]
    on_image = row[inputs.tokens[:, None].expand(-1, 4, -1) == config.image_token_index].unflatten(0, (4, 4, -1))
    assert torch.allclose(on_image, on_image.mean(dim=-1, keepdim=True), atol=1e-7)


def test_a_condition_changes_the_answers_and_plain_does_not(vlm, scenes):
    plain = ask(vlm, scenes, [QUESTION] * 4, 12)
    assert ask(vlm, scenes, [QUESTION] * 4, 12, PLAIN_CONDITION) == plain
    assert ask(vlm, scenes, [QUESTION] * 4, 12, Condition("method", eah=EAH(0, 0.0), flatten=(1, 2))) != plain


def test_tuning_takes_the_lowest_chair_that_keeps_the_recall():
    found = [("a", {"chair_i": 0.1, "recall": 0.70}), ("b", {"chair_i": 0.2, "recall": 0.77})]
    assert best([*found, ("c", {"chair_i": 0.3, "recall": 0.9})], 0.8, "default") == "b"
    assert best(found, 0.9, "default") == "default"


def test_tuning_tries_everything_and_chooses_what_it_tried(vlm, scenes):
    tuned = tune(vlm, scenes[:1], QUESTION)
    tried = grid(vlm.model.config)
    assert len(tuned.tried) == len(tried) + 1
    assert tuned.eah in [one.eah for one in tried if one.eah] + [EAH.for_model(vlm.model.config)]
    assert tuned.clva in [one.clva for one in tried if one.clva] + [CLVA.for_model(vlm.model.config)]
    assert all(one.clva.beta > 0 for one in tried if one.clva)  # or a control would be the method


@pytest.mark.parametrize("depth", [3, 4, 8, 10, 12, 32])
def test_the_grid_fits_any_depth(depth: int):
    config = tiny_config(text={"num_hidden_layers": depth})
    for one in grid(config):
        assert one.eah is None or vars(one.eah.resolve(config)) == vars(one.eah)
        assert one.clva is None or vars(one.clva.resolve(config)) == vars(one.clva)


@pytest.fixture(scope="module")
def table(vlm):
    return methods.run(vlm, 4, yes_no=2, tuning=0)


def test_the_table_has_every_figure_of_every_condition(vlm, table):
    assert json.loads(json.dumps(table)) == table
    assert set(table["conditions"]) == set(methods.conditions(vlm.model.config, default_settings(vlm.model.config)))
    assert (table["scenes"], table["yes-no scenes"], table["world"]) == (4, 2, "held-out")
    for name, row in table["conditions"].items():
        asked = {"chair_i", "chair_s", "recall", "precision", "f1", "words"}
        asked |= {"recall of clear objects", "recall of hard objects"}
        splits = {f"{split} {figure}" for split in ("random", "popular", "adversarial") for figure in POPE}
        assert set(row["figures"]) == (asked if "oracle" in row["settings"] else asked | splits), name
        for figure in row["figures"].values():
            assert figure["low"] <= figure["high"]
    plain = table["conditions"]["plain"]
    assert plain["changed"] == 0
    assert all(figure["difference"]["value"] == 0 for figure in plain["figures"].values())
    assert any(row["changed"] > 0 for row in table["conditions"].values())


POPE = ("accuracy", "precision", "recall", "f1", "yes_ratio")


def test_the_table_renders(table):
    text = methods_card.methods(table)
    for name in table["conditions"]:
        assert f"| {name} |" in text
    assert "    minivlm exam --methods --scenes 4 --dtype float32\n" in text
    assert "The methods have their default settings." in text


def test_cells_say_what_is_clear_of_zero():
    figure = {"value": 0.15, "difference": {"value": -0.021, "low": -0.03, "high": -0.012}}
    assert methods_card.cell(figure) == "15.0 (**-2.1** [-3.0, -1.2])"
    figure["difference"] |= {"high": 0.012}
    assert methods_card.cell(figure) == "15.0 (-2.1 [-3.0, +1.2])"
    figure["difference"] = {"value": 0.0, "low": 0.0, "high": 0.0}
    assert methods_card.cell(figure) == "15.0"


def test_only_some_conditions_and_other_worlds(vlm):
    found = methods.run(vlm, 2, yes_no=0, tuning=0, only="CLVA, o", world=CROWDED, question="What do you see?")
    assert list(found["conditions"]) == ["plain", "CLVA, omega 0"]
    assert ", crowded scenes" in methods_card.methods(found)
    assert found["tuning"]["eah"] == vars(default_settings(vlm.model.config).eah)


def test_tuning_uses_other_scenes_than_the_table(vlm, monkeypatch):
    worlds = []
    monkeypatch.setattr(methods, "draw", lambda world, scenes: worlds.append(world) or [])
    monkeypatch.setattr(methods, "tune", lambda vlm, scenes, question: Tuned(EAH(), CLVA()))
    methods.tuned_settings(vlm, 3, QUESTION, HELD_OUT)
    assert worlds == [replace(HELD_OUT, stream="tuning")]


# --- the layers -------------------------------------------------------------------------------------------------------


def trace_of(pieces: list[str], at: list[int]) -> Trace:
    """A trace of three layers whose maps look at patch `at` of nine while each token is written."""
    maps = torch.zeros(len(pieces), 3, 9)
    for token, patch in enumerate(at):
        maps[token, :, patch] = 1
    return made_trace(pieces, maps)


def test_boxes_are_counted_by_what_is_there():
    """A dog is there and looked at; a frisbee, expected beside it, is not there and named from its box."""
    scene = scene_of(DOG, replace(BIRD, name="sheep"))
    trace = trace_of(["A", " dog", " and a", " frisbee", "."], [4, 0, 4, 0, 4])
    seen = TracedScene(trace, words_of(trace, scene), object_masks(scene, SQUARE, 3))
    found = {name: drift.by_kind([seen], CURVES[name]) for name in ("own box", "other boxes", "anchor's box")}
    assert {kind: [word.name for word in seen.words if word.kind == kind] for kind in ("true", "invented")} == {
        "true": ["dog"],
        "invented": ["frisbee"],
    }
    assert found["own box"]["true"].mean.tolist() == pytest.approx([8] * 3)  # 9 patches, 8 / 9 of the box looked at
    assert found["own box"]["invented"].n == 0
    assert found["other boxes"]["true"].mean.tolist() == [0] * 3
    assert found["other boxes"]["invented"].mean.tolist() == pytest.approx([9 / (2 + 1 / 8)] * 3)
    assert found["anchor's box"]["invented"].mean.tolist() == pytest.approx([8] * 3)
    assert [found[name]["other"].n for name in found] == [0, 0, 0]


def test_the_layers_have_a_curve_for_every_figure_and_render(vlm):
    drawn = draw(HELD_OUT, 3)
    found = by_layer(vlm, drawn, traced_scenes(vlm, drawn))
    assert json.loads(json.dumps(found)) == found
    for figure in ("image share", "entropy", "logit lens", "cosine with noise", "correlation with middle"):
        curve = found["curves"][figure]["other"]
        assert len(curve["value"]) == len(curve["low"]) == len(curve["high"]) == 3
        assert curve["words"] > 0
        assert all(low <= value <= high for low, value, high in zip(*(curve[k] for k in LMH), strict=True))
    assert np.shape(found["sink density"]["value"]) == (3, 4)
    assert [third["layers"] for third in found["flattened"].values()] == [[0], [1], [2]]
    assert "| 2 |" in methods_card.by_layer({**found, "figures": {}})
    assert found["curves"]["cosine with noise"]["other"]["value"][found["noise layers"][0]] == pytest.approx(1)


LMH = ("low", "value", "high")
