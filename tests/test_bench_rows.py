"""What the bench measures beside the methods: loading, the first token's parts, the evaluation, the roofline, batches.

Nothing here says how fast anything is: a test must hold on a busy machine.
"""

import json
from dataclasses import replace

import pytest
import torch

from minivlm import CLVA, EAH, ConfigError
from minivlm.checkpoints.maker import known_config
from minivlm.checkpoints.plan import blank_model
from minivlm.cli import main as cli
from minivlm.experiments import bench, bench_table, evaluation_rate, first_token, roofline
from minivlm.experiments.bench_plot import PANELS, bench_plot, milliseconds
from support.tiny_model import tiny_vlm

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def vlm(tmp_path_factory):
    return tiny_vlm(tmp_path_factory.mktemp("bench"))


@pytest.fixture(scope="module")
def facts(vlm):
    """All rows but the peers, of which two are made up."""
    found = bench.measure(vlm, ["eah", "batch"], new=3, repeats=2)
    _, load = first_token.measure_load(lambda: vlm, CPU)
    kinds = {"half": {"first token s": 0.5, "tokens/s": 4.0}, "broken": {"error": "no"}}
    return found | {
        "load": load,
        "first token": first_token.measure_first_token(vlm, repeats=2),
        "evaluation": evaluation_rate.measure_evaluation(vlm, pictures=2),
        "roofline": roofline.measure_roofline(vlm, found),
        "peers": {"kinds": kinds},
    }


# --- rows -------------------------------------------------------------------------------------------------------------


def test_the_parts_of_a_first_token_make_the_whole(facts):
    found = facts["first token"]
    assert tuple(found) == (*first_token.PARTS, "together")
    for which in ("least", "median", "most"):
        assert all(own[which] > 0 for own in found.values())
    assert found["together"]["most"] <= sum(found[part]["most"] for part in first_token.PARTS) * (1 + 1e-9)
    assert found["together"]["least"] >= sum(found[part]["least"] for part in first_token.PARTS) * (1 - 1e-9)


def test_a_load_counts_the_weights_and_what_they_take():
    kept = []

    def load():
        kept.append(torch.ones(50_000_000))  # 200 MB
        return tiny

    tiny = type("Tiny", (), {"model": torch.nn.Linear(10, 10, bias=False)})()
    loaded, found = first_token.measure_load(load, CPU)
    assert loaded is tiny
    assert found["weights"] == 400
    assert found["held"] is None or found["held"] > 190e6
    assert found["seconds"] > 0


def test_an_evaluation_asks_six_questions_a_picture_and_one_caption(facts):
    found = facts["evaluation"]
    assert (found["pictures"], found["pope"]["answers"], found["captions"]["answers"]) == (2, 12, 2)
    for own in (found["pope"], found["captions"]):
        assert own["answers/s"] == pytest.approx(own["answers"] / own["seconds"])
        assert own["tokens"] >= 1


def test_a_batch_is_eight_answers_whose_tokens_count_together(facts):
    plain, batch = (facts["methods"][name] for name in ("plain", "batch"))
    assert (plain["answers"], batch["answers"]) == (1, 8)
    assert batch["tokens/s"] == pytest.approx(8 / batch["decode"]["seconds"]["median"])
    assert batch["memory"]["ratio"] > 4  # cache and activations of eight


@pytest.mark.parametrize(("method", "rows", "compiled"), [("compiled-batch", 8, "on"), ("compiled", 1, "on")])
def test_what_is_compiled_says_so_to_the_generation(vlm, monkeypatch, method, rows, compiled):
    seen = []
    monkeypatch.setattr(bench, "answer", lambda vlm, inputs, **how: seen.append((inputs, how["settings"])))
    inputs = bench.prepared(vlm, None, 2)
    bench.work(vlm, method, inputs, 2, bench.Mitigation())()
    ((given, settings),) = seen
    assert (given.tokens.shape[0], len(given.pixels), len(given.spans)) == (rows, rows, rows)
    assert settings.compile == compiled


def test_an_answer_is_compared_with_plains_up_to_the_first_other_token(facts):
    assert bench.same_tokens((1, 2, 3, 4), (1, 2, 5, 4)) == 2
    assert bench.same_tokens((1, 2), (1, 2)) == 2
    assert facts["methods"]["plain"]["same"] == facts["new"] == 3
    assert "batch: the first 3 of 3 tokens are those of plain" in bench_table.as_text(facts)


# --- the roofline -----------------------------------------------------------------------------------------------------


def test_a_token_of_llava_reads_what_is_known():
    """LLaVA-1.5-7B in bf16: 13.22 GB of weights and 0.524 MB for each cached token."""
    model = blank_model(known_config("llava-1.5-7b")).bfloat16()
    weights = roofline.bytes_a_token(model, 0)
    assert weights == pytest.approx(13.22e9, abs=0.005e9)
    assert roofline.bytes_a_token(model, 700) - weights == 700 * 524_288


def test_a_prompt_of_llava_takes_the_operations_that_are_known():
    """620 tokens: 8.03 TFLOP in the decoder's linear layers, 0.10 in its causal attention; the tower takes 0.365 TFLOP
    with its projector left out and all 24 layers, of which LLaVA uses 23."""
    model = blank_model(known_config("llava-1.5-7b"))
    tower = roofline.operations_of_tower(model)
    assert tower * 24 / 23 == pytest.approx(0.365e12, rel=0.05)
    projector = 2 * 576 * (1024 * 4096 + 4096 * 4096)
    rest = roofline.operations_of_prompt(model, 620) - tower - projector
    assert rest == pytest.approx(8.03e12 + 0.10e12 + 0.0003e12, rel=0.002)


def test_tied_heads_and_the_deepest_of_several_feature_layers_are_counted():
    config = known_config("llava-interleave-qwen-0.5b")
    model = blank_model(config)
    layers = sum(weight.nbytes for weight in (*model.text.layers.parameters(), *model.text.norm.parameters()))
    assert roofline.bytes_a_token(model, 0) == layers + 152_000 * 1024 * 4  # blank models are fp32
    llava = known_config("llava-1.5-7b")
    shallow, several = (replace(llava, vision_feature_layer=layer) for layer in (10, (5, 10)))
    assert roofline.operations_of_tower(blank_model(several)) == roofline.operations_of_tower(blank_model(shallow))
    assert roofline.operations_of_tower(blank_model(llava)) > 2 * roofline.operations_of_tower(blank_model(shallow))


def test_bounds_and_shares_fit_together(facts):
    found = facts["roofline"]
    assert found["seconds"]["decode"] == pytest.approx(found["bytes a token"] / found["copy bytes/s"])
    assert found["seconds"]["prefill"] == pytest.approx(found["operations of prompt"] / found["operations/s"])
    for phase, share in found["share"].items():
        assert share == pytest.approx(found["seconds"][phase] / facts["methods"]["plain"][phase]["seconds"]["median"])


# --- text and picture -------------------------------------------------------------------------------------------------


def test_every_row_stands_below_the_table(facts):
    text = bench_table.as_text(facts)
    below = text.split("\n\n")[-1].splitlines()
    starts = ("load:", "first token:", "evaluation,", "this machine", "at these rates", "half:", "broken:")
    assert len(below) == len(starts)
    assert all(line.startswith(start) for line, start in zip(below, starts, strict=True))
    assert json.loads(json.dumps(facts)) == facts


def test_peers_beside_a_quantised_model_are_said_to_have_other_weights(facts):
    said = "the peers were not told of int8, which plain has"
    assert said in bench_table.as_text(facts | {"weights": "int8"})
    assert said not in bench_table.as_text(facts)


def test_the_picture_has_a_bar_for_each_method_and_peer_that_was_measured(facts):
    names = ["plain", "eah", "batch", "peer half"]
    assert [*milliseconds(facts, "prefill")] == [*milliseconds(facts, "decode")] == names
    assert milliseconds(facts, "decode")["peer half"] == (250, 250, 250)
    least, middle, most = milliseconds(facts, "decode")["batch"]
    seconds = facts["methods"]["batch"]["decode"]["seconds"]
    assert (least, middle, most) == pytest.approx([125 * seconds[which] for which in ("least", "median", "most")])
    assert ", float32, " in bench_plot(facts).get_suptitle()
    quantised = bench_plot(facts | {"weights": "int4"})
    assert " in int4, float32, " in quantised.get_suptitle()
    axes = bench_plot(facts).axes
    assert [panel.get_xlabel() for panel in axes] == [*PANELS]
    assert all(len(panel.patches) == len(names) for panel in axes)


# --- the command ------------------------------------------------------------------------------------------------------


def test_random_weights_like_a_folders_are_measured_and_leave_nothing(vlm, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    like = ["--like", str(vlm.report.path), "--dtype", "float32", "--new", "2", "--repeats", "1"]
    rows = ["--rows", "roofline,load", "--methods", "plain", "--plot", str(tmp_path / "bench.png"), "--json"]
    assert cli.main(["bench", *like, *rows]) == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found["methods"]) == {"plain"}
    assert found["model"] == f"random weights like {vlm.report.path}"
    assert found["patches"] == vlm.model.config.num_image_tokens
    assert {"roofline", "load"} <= set(found)
    assert not {"evaluation", "first token"} & set(found)
    assert [path.name for path in tmp_path.iterdir()] == ["bench.png"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--like", "llava-2"], "There is no known size 'llava-2', nor such a folder"),
        (["--plot", "bench.doc"], "--plot must name a picture, such as bench.png, found 'bench.doc'."),
        (
            ["--plot", "nowhere/bench.png"],
            "/nowhere: there is no such folder. Make it",
        ),
        (["--peers", "nowhere.py"], "--peers must name a script"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_the_work(words, sentence, capsys, monkeypatch):
    monkeypatch.setattr(bench, "measure", None)
    assert cli.main(["bench", *words]) == 1
    assert sentence in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--rows", "load,speed"], "--rows takes load, first-token, evaluation, roofline or none, found 'speed'."),
        (["--rows", " "], "or none, found ''."),
        (["--rows", ""], "argument --rows: expected a value, found an empty text"),
        (["--rows", "none,load"], "or none, found 'none'."),
        (["--rows", "load,roofline", "--pictures", "4"], "which --rows load,roofline leaves out"),
        (["--like", "llava-1.5-7b", "--model", "tiny"], "leave --model out"),
        (["--like", "llava-1.5-7b", "--revision", "main"], "leave --revision out"),
        (["--like", "llava-1.5-7b", "--vision-tower", "tower.pt"], "leave --vision-tower out"),
    ],
)
def test_words_without_a_meaning_end_the_command(words, sentence, capsys):
    with pytest.raises(SystemExit, match="2"):
        cli.main(["bench", *words])
    assert sentence in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [["--methods", "nothing"], ["--eah", "layer=deep"], ["--rows", "all"], ["--device", "nowhere"]],
)
def test_nothing_is_written_or_loaded_for_what_will_be_refused(words, capsys, monkeypatch):
    """Random weights of a true size are gigabytes."""
    monkeypatch.setattr("minivlm.checkpoints.stand_in.make_random_model", None)
    try:
        code = cli.main(["bench", "--like", "llava-1.5-7b", *words])
    except SystemExit as end:
        code = end.code
    assert code in (1, 2)
    assert "writing random weights" not in capsys.readouterr().err


def test_a_vocabulary_without_room_for_a_stand_in_is_refused_before_anything_is_written(vlm, tmp_path):
    from minivlm.checkpoints.stand_in import make_random_model
    from minivlm.errors import CheckpointError

    config = vlm.model.config
    small = replace(config, image_token_index=200)
    with pytest.raises(CheckpointError, match=r"needs 260 ids before the picture's, found image_token_index 200 in a"):
        make_random_model(tmp_path / "made", small)
    assert not (tmp_path / "made").exists()


def test_settings_of_a_method_that_is_not_measured_are_refused(vlm):
    with pytest.raises(ConfigError, match="Settings of eah were given, but no method of plain, clva uses them"):
        bench.measure(vlm, ["clva"], eah=EAH(layer=1), clva=CLVA())
    bench.require_used(["plain", "both"], eah=EAH(), clva=CLVA())


def test_methods_are_all_or_named():
    assert bench.ordered(["batch", "eah"]) == ("plain", "eah", "batch")
    with pytest.raises(ConfigError, match="compiled-batch, found 'speed'"):
        bench.ordered(["speed"])
