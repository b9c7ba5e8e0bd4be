"""The bench on a tiny random model: its figures are complete, fit together, and come from methods that really ran.

Nothing here says how fast anything is: a test must hold on a busy machine.
"""

import json
import re

import pytest
import torch

from minivlm import CLVA, EAH
from minivlm.errors import ConfigError, PromptError
from minivlm.experiments import bench, bench_table, cost
from minivlm.experiments.peers import measure_peers, require_script
from support.tiny_model import PATCHES, tiny_vlm

PHASES = ("prefill", "decode")
LENGTH, NEW = 60, 4


@pytest.fixture(scope="module")
def vlm(tmp_path_factory):
    return tiny_vlm(tmp_path_factory.mktemp("bench"))


@pytest.fixture(scope="module")
def facts(vlm):
    return bench.measure(vlm, prompt=LENGTH, new=NEW, repeats=3)


# --- the figures ------------------------------------------------------------------------------------------------------


def test_it_says_what_was_measured(vlm, facts):
    assert (facts["prompt"], facts["patches"], facts["new"], facts["repeats"]) == (LENGTH, PATCHES, NEW, 3)
    assert (facts["model"], facts["dtype"], facts["torch"]) == (vlm.name, "float32", torch.__version__)
    assert tuple(facts["methods"]) == bench.BENCHED
    assert json.loads(json.dumps(facts)) == facts


@pytest.mark.parametrize("method", bench.BENCHED)
@pytest.mark.parametrize("phase", PHASES)
def test_seconds_and_ratios_are_positive_and_lie_within_their_spread(facts, method, phase):
    for figures in facts["methods"][method][phase].values():
        assert 0 < figures["least"] <= figures["median"] <= figures["most"]


def test_plain_is_one_times_plain(facts):
    plain = facts["methods"]["plain"]
    assert all(set(plain[phase]["ratio"].values()) == {1.0} for phase in PHASES)
    assert (plain["memory"]["extra"], plain["memory"]["ratio"]) == (0, 1.0)
    assert plain["effect"] is None


def test_a_ratio_is_taken_within_its_round():
    def runs(plain: float, eah: float) -> dict[str, bench.Timing]:
        return {"plain": bench.Timing(plain, plain, None), "eah": bench.Timing(eah, 2 * eah, None)}

    rounds = [runs(1.0, 1.5), runs(4.0, 8.0), runs(10.0, 10.0)]  # the machine became slower and slower
    found = bench.figures("eah", rounds, {"plain": 100, "eah": 150})
    assert found["prefill"]["ratio"] == {"median": 1.5, "least": 1.0, "most": 2.0}
    assert found["decode"]["ratio"] == {"median": 3.0, "least": 2.0, "most": 4.0}
    assert found["prefill"]["seconds"] == {"median": 8.0, "least": 1.5, "most": 10.0}
    assert found["memory"] == {"bytes": 150, "extra": 50, "ratio": 1.5}


def test_what_a_device_does_not_count_is_reported_as_none():
    rounds = [{"plain": bench.Timing(1.0, 1.0, None)}]
    found = bench.figures("plain", rounds, {"plain": None})
    assert found["memory"] == {"bytes": None, "extra": None, "ratio": None}
    assert bench_table.row("plain", found).endswith("-")


# --- the methods ran --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "named"), [("eah", {"EAH"}), ("clva", {"CLVA"}), ("both", {"EAH", "CLVA"})])
def test_the_mitigations_changed_something(facts, method, named):
    found = facts["methods"][method]
    assert found["nothing"] is False
    assert set(re.findall(r"EAH|CLVA", found["effect"])) == named


def test_a_method_that_changes_nothing_says_so(vlm):
    still = {"eah": EAH(threshold=0.99), "clva": CLVA(omega=0, beta=0)}
    found = bench.measure(vlm, ["eah", "both"], new=2, repeats=1, **still)
    assert tuple(found["methods"]) == ("plain", "eah", "both")
    assert found["methods"]["eah"]["nothing"] is found["methods"]["both"]["nothing"] is True


def test_the_methods_take_turns_and_each_answer_has_its_tokens(vlm, monkeypatch):
    seen = []
    true_steps = bench.steps

    def counted(model, tokens, pixels, **how):
        seen.append([how["mitigation"], "sinks" in how, 0])
        for step in true_steps(model, tokens, pixels, **how):
            seen[-1][2] += 1
            yield step

    monkeypatch.setattr(bench, "steps", counted)
    bench.measure(vlm, new=NEW, repeats=2)
    eah, clva = seen[1][0].eah, seen[2][0].clva
    turns = [(None, None, False), (eah, None, False), (None, clva, False), (eah, clva, False), (None, None, True)]
    parts = [(one and one.eah, one and one.clva, traced) for one, traced, _ in seen]
    assert eah
    assert clva
    assert parts == turns * 3  # a warm-up and two rounds
    assert {count for _, _, count in seen} == {NEW}


# --- memory -----------------------------------------------------------------------------------------------------------


def test_peak_memory_counts_what_is_alive_at_a_time():
    kept = []

    def work():
        for _ in range(3):  # one after the other: 4 MB, not 12
            torch.ones(1_000_000)
        kept.append(torch.ones(500_000))
        torch.ones(250_000)

    # Python frees a tensor as soon as nobody names it, so the peak is exact but for a scalar or two.
    assert cost.peak_memory(work, torch.device("cpu")) == pytest.approx(4_000_000, abs=1000)
    assert cost.peak_memory(lambda: kept.append(torch.ones(10_000)), torch.device("cpu")) == pytest.approx(
        40_000, abs=1000
    )
    assert cost.peak_memory(lambda: None, torch.device("cpu")) == 0


def test_a_whole_map_shows_in_the_memory(vlm):
    """With 400 rows a map of the 4 heads takes 2.6 MB, as much as all else: EAH must write one out."""
    found = bench.measure(vlm, ["eah", "trace"], prompt=400, new=2, repeats=1)["methods"]
    assert found["eah"]["memory"]["extra"] > 4 * 400 * 400 * 4
    assert found["trace"]["memory"]["ratio"] > 1


# --- the prompt -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [None, 40, 41, 100])
def test_a_prompt_has_the_length_asked_for(vlm, length):
    inputs = bench.prepared(vlm, length, new=2)
    assert inputs.tokens.shape[1] == (length or bench.tokens_of(vlm, bench.QUESTION))
    assert int((inputs.tokens == vlm.model.config.image_token_index).sum()) == PATCHES
    assert inputs.attention_mask.all()


def test_what_cannot_be_measured_is_refused_in_a_sentence(vlm):
    with pytest.raises(PromptError, match="Choose at least"):
        bench.measure(vlm, prompt=PATCHES)
    with pytest.raises(PromptError, match="room for 12, not for 13"):
        bench.prepared(vlm, 500, new=13)
    with pytest.raises(ConfigError, match="found 'speed'"):
        bench.measure(vlm, ["plain", "speed"])
    for how in ({"new": 1}, {"repeats": 0}):
        with pytest.raises(ConfigError, match="at least 2 new tokens and 1 round"):
            bench.measure(vlm, **how)


# --- the table --------------------------------------------------------------------------------------------------------


def test_the_table_has_a_line_for_each_method_and_the_effects_below(facts):
    lines = bench_table.as_text(facts).splitlines()
    assert f"{LENGTH} tokens of prompt, {PATCHES} of them patches" in lines[1]
    table = lines[4:9]
    assert tuple(line.split()[0] for line in table) == bench.BENCHED
    assert len({len(line) for line in lines[3:9]}) == 1  # the columns stand below each other
    for line, found in zip(table, facts["methods"].values(), strict=True):
        assert f"{found['prefill']['seconds']['median'] * 1e3:.2f}" in line
        assert f"{found['memory']['ratio']:.3f}" in line
    assert [line.split(":")[0] for line in lines[10:]] == ["eah", "clva", "both"]


# --- peers ------------------------------------------------------------------------------------------------------------


PEER = """
import json
print(json.dumps({"kinds": {"half": {"first token s": 1e-9, "tokens/s": 1e9}, "broken": {"error": "no"}}}))
"""


def test_peers_are_measured_by_a_script_and_stand_below_the_table(tmp_path, vlm):
    (tmp_path / "peer.py").write_text(PEER)
    facts = bench.measure(vlm, ["plain"], new=3, repeats=1)
    facts["peers"] = measure_peers(tmp_path / "peer.py", vlm, facts)
    *_, half, broken = bench_table.as_text(facts).splitlines()
    assert half.startswith("half: first token 0.00 ms, of which plain takes ")
    assert broken == "broken: no"


@pytest.mark.parametrize(
    ("script", "sentence"),
    [
        ("import nothing_such", "ended with 1: .*nothing_such"),
        ("print(3)", "must print JSON"),
        ("print('{\"kinds\": 3}')", "must print JSON"),
    ],
)
def test_a_peer_that_cannot_be_measured_loses_no_figures(tmp_path, vlm, script, sentence):
    (tmp_path / "peer.py").write_text(script)
    facts = {"dtype": "float32", "prompt": 80, "new": 3, "repeats": 1}
    found = measure_peers(tmp_path / "peer.py", vlm, facts)["kinds"]["peer"]["error"]
    assert re.search(sentence, found, re.DOTALL)


def test_a_script_that_is_not_there_is_refused_before_the_work():
    with pytest.raises(ConfigError, match="--peers must name a script .* no such file"):
        require_script("nowhere/peers.py")
