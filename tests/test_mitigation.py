"""Both methods together, from a call to an answer, and the proof of effect.

Tolerances: token ids are compared as they are, in fp64, where two logits of a random model are never closer than two
ways of rounding. Logits that come by another length, kernel or cache agree to 2e-5 of the largest, as in test_clva.py.
Effects are sums over weights: 1e-5 where one row of a batch is compared with the same row alone, 1e-6 where numbers are
summed by hand from the same weights.
"""

import json
import math
import warnings

import numpy as np
import pytest
import torch
from torch.testing import assert_close

import minivlm
from minivlm.errors import ConfigError, GenerationError, PromptError
from minivlm.inference.effect import Effect, change_of, effect_of, summed
from minivlm.inference.generate import Generation, generate, new_cache, steps
from minivlm.model import CLVA, EAH, NO_MITIGATION, Aim, Mitigation
from minivlm.model.call import Call
from minivlm.model.effect import Change, moved_attention
from minivlm.model.layout import Layout
from minivlm.model.mitigation import UNMITIGATED, ResolvedMitigation
from support.sharp_model import LAYERS, PROMPTS, THRESHOLD, batch, difference, sharp_llava, single
from support.tiny_model import SLOT, WORDS, picture, tiny_vlm

CLOSE = 2e-5
BY_HAND = {"rtol": 0, "atol": 1e-6}
NO_SLOT = torch.arange(WORDS) != SLOT
MODEL = sharp_llava()
EXACT = sharp_llava(dtype=torch.float64)
PASS = Mitigation(EAH(threshold=THRESHOLD), CLVA())
KEEP = Mitigation(EAH(threshold=THRESHOLD, decode="keep"), CLVA(gate=False))
NOTHING = Mitigation(EAH(threshold=0.999), CLVA(omega=0, beta=0))
QUESTION = "What is in the image?"


# --- what can be passed -----------------------------------------------------------------------------------------------


def test_a_mitigation_is_made_of_settings():
    eah, clva, aim = EAH(), CLVA(), Aim(torch.ones(1, 9), (3,))
    both = Mitigation(eah, clva)
    assert Mitigation.of(both) is both
    assert Mitigation.of(None) == Mitigation.of([]) == Mitigation.of(()) == NO_MITIGATION
    assert Mitigation.of(eah) == Mitigation(eah=eah)
    assert Mitigation.of(clva) == Mitigation(clva=clva)
    assert Mitigation.of(aim).aim is aim
    assert Mitigation.of([clva, eah]) == Mitigation.of((eah, clva)) == both


@pytest.mark.parametrize(
    "given", ["eah", EAH, [EAH(), EAH()], [None], [Mitigation()], {"eah": EAH()}, 1, True, [EAH(), "clva"]], ids=str
)
def test_what_is_no_mitigation_is_refused(given):
    with pytest.raises(ConfigError, match=r"one EAH, one CLVA and one Aim at most, found .*Pass for instance EAH\(\)"):
        Mitigation.of(given)


def test_settings_in_the_wrong_place_are_refused():
    with pytest.raises(ConfigError, match="Mitigation.eah must be EAH settings, found CLVA"):
        Mitigation(CLVA())
    with pytest.raises(ConfigError, match="Mitigation.clva must be CLVA settings, found 1"):
        Mitigation(clva=1)


def test_a_mitigation_is_resolved_for_its_model():
    resolved = PASS.resolve(MODEL.config)
    assert resolved == ResolvedMitigation(PASS.eah.resolve(MODEL.config), CLVA.for_model(MODEL.config))
    assert Mitigation(EAH()).resolve(MODEL.config).eah == EAH.for_model(MODEL.config)
    assert None not in {**vars(resolved.eah), **vars(resolved.clva)}.values()
    assert resolved.resolve(MODEL.config) == resolved == Mitigation.of(resolved)
    assert NO_MITIGATION.resolve(MODEL.config) == UNMITIGATED


def test_a_mitigation_is_empty_only_if_all_methods_are_off():
    aim = Aim(torch.ones(1, 4), layers=(1,))
    assert NO_MITIGATION.empty
    assert UNMITIGATED.empty
    for mitigation in (Mitigation(EAH()), Mitigation(clva=CLVA()), Mitigation(aim=aim)):
        assert not mitigation.empty
        assert not mitigation.resolve(MODEL.config).empty


def test_a_layout_says_of_every_token_whether_it_is_a_patch():
    with pytest.raises(PromptError, match=r"found shapes \(2, 3\) and \(2, 5\)"):
        Layout(torch.ones(2, 5, dtype=torch.bool), torch.ones(2, 3, dtype=torch.bool), queries=3, prompt=5)


def test_a_call_with_a_mitigation_needs_its_layout():
    resolved = PASS.resolve(MODEL.config)
    with pytest.raises(ConfigError, match=r"Call\(layout, mitigation\)"):
        Call(mitigation=resolved)
    assert Call(mitigation=UNMITIGATED).first_visible_row(1, queries=5) == 5


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"strength": 1.5}, "0..1"),
        ({"strength": "a"}, "0..1"),
        ({"kappa": 0}, "lie in 0.000001..10"),
        ({"kappa": math.nan}, "lie in"),
    ],
    ids=str,
)
def test_an_aim_refuses_nonsense(settings, sentence):
    with pytest.raises(ConfigError, match=f"Aim.{next(iter(settings))} must .*{sentence}"):
        Aim(torch.ones(1, 9), (3,), **settings)


# --- neutral settings -------------------------------------------------------------------------------------------------


def test_neutral_settings_equal_the_plain_model():
    with pytest.warns(UserWarning, match="The mitigation changed nothing.*the plain model's"):
        found = MODEL(**batch(), maps=LAYERS, mitigation=NOTHING)
    assert torch.equal(found.logits, MODEL(**batch(), maps=LAYERS).logits)
    assert found.effect.nothing
    assert str(effect_of(found)) == "nothing was changed"
    assert not any(layer.rows or layer.heads or layer.columns or layer.moved_max for layer in effect_of(found).layers)


def test_no_mitigation_has_no_effect_and_no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert MODEL(**batch()).effect is None
        assert MODEL(**batch(), mitigation=[]).effect is None


def test_a_question_without_a_picture_is_answered_plainly():
    with pytest.warns(UserWarning, match="no text follows a picture"):
        found = MODEL(**single(0), mitigation=PASS)
    assert found.effect.nothing
    assert difference(found.logits, MODEL(**single(0)).logits) < CLOSE


# --- generation: batches, padding, the cache --------------------------------------------------------------------------


def written(sample: dict, mitigation: Mitigation, new: int = 12, **settings) -> list[list[int]]:
    how = {"settings": Generation(new, **settings), "allowed": NO_SLOT, "mitigation": mitigation}
    return [list(row) for row in zip(*generate(EXACT, **sample, **how), strict=True)]


@pytest.mark.parametrize("mitigation", [PASS, KEEP, NO_MITIGATION], ids=["pass", "keep", "plain"])
def test_a_ragged_batch_is_written_as_singles_with_and_without_a_cache(mitigation):
    """Rows with 0, 1 and 2 pictures in one batch."""
    together = written(batch(dtype=torch.float64), mitigation)
    assert written(batch(dtype=torch.float64, extra=3), mitigation) == together
    assert written(batch(dtype=torch.float64), mitigation, cache=False) == together
    for row, pictures in zip(together, (1, 0, 2), strict=True):
        for cache in (True, False):
            assert written(single(pictures, torch.float64), mitigation, cache=cache) == [row]


def test_the_methods_change_what_is_written():
    """Else the test above would say nothing; a sample without a picture keeps its answer."""
    answers = [written(batch(dtype=torch.float64), how) for how in (NO_MITIGATION, PASS, KEEP)]
    for row, (plain, passed, kept) in enumerate(zip(*answers, strict=True)):
        assert (plain != passed) == (row != 1)
        assert (plain != kept) == (row != 1)


def test_sampling_repeats_by_seed_under_a_mitigation():
    how = {"temperature": 1.0, "seed": 5}
    assert written(batch(dtype=torch.float64), PASS, **how) == written(batch(dtype=torch.float64), PASS, **how)


@pytest.mark.parametrize("mitigation", [PASS, KEEP], ids=["pass", "keep"])
def test_a_prompt_padded_further_and_a_longer_cache_change_no_logit(mitigation):
    expected = EXACT(**batch(dtype=torch.float64), mitigation=mitigation)
    cache = new_cache(EXACT, 3, 100)
    found = EXACT(**batch(dtype=torch.float64, extra=5), cache=cache, mitigation=mitigation)
    rows = [-len(PROMPTS[n]) for n in (1, 0, 2)]
    for row, start in enumerate(rows):
        assert difference(found.logits[row, start:], expected.logits[row, start:]) < CLOSE


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_writes(dtype):
    model = sharp_llava(dtype=dtype)
    last = None
    for last in steps(model, **batch(dtype=dtype), settings=Generation(4), allowed=NO_SLOT, mitigation=KEEP):
        assert last.output.logits.dtype == dtype
    assert not last.effect.nothing


@pytest.mark.parametrize("groups", [1, 4])
def test_grouped_heads_write_the_same_with_and_without_a_cache(groups):
    model = sharp_llava(groups=groups, dtype=torch.float64)
    how = {"allowed": NO_SLOT, "mitigation": KEEP}
    cached, anew = (
        list(generate(model, **single(2, torch.float64), settings=Generation(8, cache=cache), **how))
        for cache in (True, False)
    )
    assert cached == anew


def test_gradients_flow_through_both():
    model = sharp_llava().requires_grad_(True)
    model(**batch(), mitigation=KEEP).logits.square().mean().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
    before = model(**batch(), mitigation=KEEP).logits.square().mean()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.grad is not None:
                parameter -= 1e-4 * parameter.grad
    assert model(**batch(), mitigation=KEEP).logits.square().mean() < before  # a small step goes down


def test_generations_side_by_side_do_not_meet():
    """One model, two answers written in turns: as if each were alone."""
    how = {"settings": Generation(6), "allowed": NO_SLOT}
    alone = [list(generate(EXACT, **single(1, torch.float64), **how, mitigation=m)) for m in (PASS, None, KEEP)]
    turns = [generate(EXACT, **single(1, torch.float64), **how, mitigation=m) for m in (PASS, None, KEEP)]
    assert list(zip(*turns, strict=True)) == list(zip(*alone, strict=True))


# --- effect: the numbers ----------------------------------------------------------------------------------------------


def test_a_change_by_hand():
    """Two samples of three tokens, two heads; the second sample begins with padding, whose rows do not count."""
    before = torch.eye(3).expand(2, 2, 3, 3).clone()
    after = before.clone()
    after[0, 1, 2] = torch.tensor([0.25, 0.25, 0.5])
    after[1, 0, 0] = torch.tensor([0.0, 1.0, 0.0])  # padding
    after[1, 0, 1] = torch.tensor([0.0, 0.9, 0.1])
    attention_mask = torch.tensor([[True, True, True], [False, True, True]])
    change = Change(
        "EAH", 4, *moved_attention(before, after, Layout(attention_mask, torch.zeros_like(attention_mask), 3, 3))
    )
    expected = torch.zeros(2, 2, 3)
    expected[0, 1, 2] = (0.25 + 0.25 + 0.5) / 2
    expected[1, 0, 1] = (0.1 + 0.1) / 2
    assert_close(change.moved, expected, **BY_HAND)
    assert change.columns.tolist() == [[True, True, True], [False, True, True]]
    layer = summed(4, "EAH", [change, change])
    assert (layer.heads, layer.rows, layer.columns) == ((0, 1), 4, 3)
    assert layer.moved_mean == pytest.approx(0.3)
    assert layer.moved_max == pytest.approx(0.5)
    assert change_of(change, 1).moved.tolist() == change.moved[1:].tolist()


def test_the_effect_of_a_call_is_the_difference_of_its_weights():
    """Layer by layer: what EAH did in 1, and CLVA in the first deep layer."""
    plain = MODEL(**batch(), maps=LAYERS).maps
    only_eah = MODEL(**batch(), maps=LAYERS, mitigation=PASS.eah).maps
    output = MODEL(**batch(), maps=LAYERS, mitigation=PASS)
    rows = batch()["attention_mask"][:, None]
    layers = {(layer.layer, layer.method): layer for layer in effect_of(output).layers}
    assert list(layers) == [(1, "EAH"), (6, "CLVA"), (7, "CLVA")]
    for (number, method), before in (((1, "EAH"), plain), ((6, "CLVA"), only_eah)):
        difference_ = (output.maps[number] - before[number]).abs() * rows[..., None]  # B H Q K
        moved = difference_.sum(dim=-1) / 2
        effect = layers[number, method]
        assert effect.heads == tuple((moved > 0).any(dim=2).any(dim=0).nonzero().flatten().tolist())
        assert effect.rows == int((moved > 0).any(dim=1).sum())
        assert effect.columns == int(difference_.amax(dim=(0, 1, 2)).count_nonzero())
        assert effect.moved_mean == pytest.approx(float(moved[moved > 0].mean()), abs=1e-6)
        assert effect.moved_max == pytest.approx(float(moved.max()), abs=1e-6)
        assert 0 < effect.moved_mean < effect.moved_max <= 1
    chosen = layers[1, "EAH"].chosen
    assert len(chosen) == 3
    assert chosen[1] == -1
    assert layers[1, "EAH"].gate_mean is None
    assert layers[6, "CLVA"].chosen == ()
    assert 0 < layers[6, "CLVA"].gate_mean <= layers[6, "CLVA"].gate_max <= 1


def test_the_gate_is_shown_on_text_rows_alone():
    change = MODEL(**batch(), mitigation=CLVA()).effect.calls[0][0]
    tokens, attention_mask = batch()["tokens"], batch()["attention_mask"]
    text = attention_mask & (tokens != SLOT) & ((tokens == SLOT).cumsum(dim=1) > 0)
    assert (~change.gate.isnan()).sum(dim=1).tolist() == text.sum(dim=1).tolist()
    assert not change.moved[:, :, ~text[:, -change.moved.shape[2] :].any(dim=0)].any()


def effects(sample: dict, mitigation: Mitigation, new: int = 5, model=EXACT, **settings) -> list[Effect]:
    how = {"settings": Generation(new, **settings), "allowed": NO_SLOT, "mitigation": mitigation}
    return [step.effect for step in steps(model, **sample, **how)]


@pytest.mark.parametrize("mitigation", [PASS, KEEP], ids=["pass", "keep"])
def test_an_effect_grows_by_a_call_a_token(mitigation):
    found = effects(single(1, torch.float64), mitigation)
    assert [len(effect.calls) for effect in found] == [1, 2, 3, 4, 5]
    methods = [[change.method for change in call] for call in found[-1].calls]
    later = ["EAH", "CLVA", "CLVA"] if mitigation is KEEP else ["CLVA", "CLVA"]
    assert methods == [["EAH", "CLVA", "CLVA"]] + [later] * 4
    assert all(call[0].moved.shape[2] == 1 for call in found[-1].calls[1:])
    rows = {layer.method: layer.rows for layer in found[-1].layers}
    first = {layer.method: layer.rows for layer in found[0].layers}
    assert (rows["EAH"] - first["EAH"] == 4) == (mitigation is KEEP)
    assert (rows["CLVA"] > first["CLVA"]) or mitigation is PASS  # its gate may be shut at some steps


@pytest.mark.parametrize("mitigation", [PASS, KEEP], ids=["pass", "keep"])
def test_without_a_cache_the_last_call_holds_the_same_sums(mitigation):
    """Each step does everything once more, and only the last counts: its rows are those of all the calls before."""
    cached = effects(single(2, torch.float64), mitigation)[-1]
    anew = effects(single(2, torch.float64), mitigation, cache=False)[-1]
    assert len(anew.calls) == 1
    for one, other in zip(cached.layers, anew.layers, strict=True):
        assert (one.heads, one.rows, one.chosen) == (other.heads, other.rows, other.chosen)
        assert one.moved_mean == pytest.approx(other.moved_mean, abs=1e-5)
        assert one.moved_max == pytest.approx(other.moved_max, abs=1e-5)


@pytest.mark.parametrize("mitigation", [PASS, KEEP], ids=["pass", "keep"])
def test_one_rows_effect_is_that_of_the_row_alone(mitigation):
    together = effects(batch(dtype=torch.float64, extra=2), mitigation)[-1]
    for row, pictures in ((0, 1), (2, 2)):
        alone = effects(single(pictures, torch.float64), mitigation)[-1].as_dict()
        found = together.of(row).as_dict()
        assert found["nothing"] == alone["nothing"] is False
        for one, other in zip(found["layers"], alone["layers"], strict=True):
            assert one == {
                name: pytest.approx(value, abs=1e-5) if isinstance(value, float) else value
                for name, value in other.items()
            }
    assert together.of(1).nothing  # the row without a picture
    assert len(together.of(0, calls=2).calls) == 2


@pytest.mark.parametrize("cache", [True, False])
def test_the_distance_from_the_plain_model_by_hand(cache):
    """KL(mitigated, plain) in nats, from two runs over the same tokens, in numpy."""
    sample = batch(dtype=torch.float64)
    how = {"settings": Generation(4, cache=cache), "allowed": NO_SLOT, "mitigation": KEEP}
    run = list(steps(EXACT, **sample, **how, compare=True))
    kl = run[-1].effect.kl
    assert kl.shape == (3, 4)
    tokens, attention_mask = sample["tokens"], sample["attention_mask"]
    for step, now in enumerate(run):
        plain = EXACT(tokens, sample["pixels"], attention_mask=attention_mask).logits[:, -1].float().numpy()
        mine = now.output.logits[:, -1].float().numpy()
        expected = [_kl(_distribution(p), _distribution(q)) for p, q in zip(mine, plain, strict=True)]
        assert_close(kl[:, step].double(), torch.tensor(expected).double(), rtol=1e-4, atol=1e-5)  # fp32 logits
        tokens = torch.cat((tokens, torch.tensor(now.chosen)[:, None]), dim=1)
        attention_mask = torch.nn.functional.pad(attention_mask, (0, 1), value=True)
    assert (kl[[0, 2]] > 1e-3).all()
    assert kl[1].abs().max() < 1e-5  # the row without a picture
    assert_close(run[-1].effect.of(2, 3).kl, kl[2, :3])


def _distribution(logits: np.ndarray) -> np.ndarray:
    shares = np.exp(logits.astype(np.float64) - logits.max())
    return shares / shares.sum()


def _kl(p: np.ndarray, q: np.ndarray) -> float:
    return float(sum(a * math.log(a / b) for a, b in zip(p, q, strict=True)))


def test_comparing_needs_an_empty_cache():
    cache = new_cache(MODEL, 1, 64)
    MODEL(**single(1), cache=cache)
    tokens = torch.tensor([[5, 6]])
    attention_mask = torch.ones(1, len(PROMPTS[1]) + 2, dtype=torch.bool)
    with pytest.raises(GenerationError, match="begin with an empty cache"):
        next(steps(MODEL, tokens, attention_mask=attention_mask, cache=cache, mitigation=KEEP, compare=True))


def test_comparing_changes_no_token():
    how = {"settings": Generation(6), "allowed": NO_SLOT, "mitigation": KEEP}
    runs = [[step.chosen for step in steps(EXACT, **batch(dtype=torch.float64), **how, compare=c)] for c in (0, 1)]
    assert runs[0] == runs[1]


# --- a mitigation that changes from step to step ----------------------------------------------------------------------


def test_a_function_decides_before_every_step():
    seen = []

    def alike(step):
        seen.append(step and step.chosen)
        return KEEP

    sample, how = batch(dtype=torch.float64), {"settings": Generation(5), "allowed": NO_SLOT}
    fixed, found = (list(steps(EXACT, **sample, **how, mitigation=given)) for given in (KEEP, alike))
    assert [step.chosen for step in found] == [step.chosen for step in fixed]
    assert seen == [None, *(step.chosen for step in found[:-1])]
    assert found[-1].effect.of(0).as_dict() == fixed[-1].effect.of(0).as_dict()


def test_a_function_may_leave_steps_alone():
    sample, how = single(1, torch.float64), {"settings": Generation(4), "allowed": NO_SLOT}
    found = list(steps(EXACT, **sample, **how, mitigation=lambda step: None if step else CLVA(gate=False)))
    assert [len(call) for call in found[-1].effect.calls] == [2, 0, 0, 0]
    plain = [step.chosen for step in steps(EXACT, **sample, **how)]
    assert [step.chosen for step in steps(EXACT, **sample, **how, mitigation=lambda step: None)] == plain


def test_nobody_knows_what_a_function_does_with_a_cache_that_was_filled_before():
    cache = new_cache(MODEL, 1, 64)
    MODEL(**single(1), cache=cache)
    attention_mask = torch.ones(1, len(PROMPTS[1]) + 1, dtype=torch.bool)
    with pytest.raises(GenerationError, match="begin with an empty cache"):
        next(
            steps(MODEL, torch.tensor([[5]]), attention_mask=attention_mask, cache=cache, mitigation=lambda step: None)
        )


# --- answers ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def vlm(tmp_path_factory) -> minivlm.VLM:
    made = tiny_vlm(tmp_path_factory.mktemp("sharp") / "model")
    return made


def test_three_layers_are_enough_for_the_method(vlm):
    """One noise, one anchor and one deep layer, and the answer carries the effect."""
    answer = vlm.ask(picture(0), QUESTION, mitigation=CLVA(gate=False), max_new_tokens=4)
    assert [layer.layer for layer in answer.effect.layers] == [2]
    assert not answer.effect.nothing


def test_an_answer_knows_what_the_mitigation_did(vlm):
    both = [EAH(threshold=0.0), CLVA(gate=False)]
    answer = vlm.ask(picture(0), QUESTION, mitigation=both, compare=True, max_new_tokens=5)
    assert len(answer.effect.calls) == len(answer.tokens) == len(answer.effect.kl)
    told = json.loads(json.dumps(answer.as_dict(), allow_nan=False))["effect"]
    assert told["nothing"] is False
    assert told["kl"] == pytest.approx(answer.effect.kl.tolist())
    assert [(layer["method"], layer["layer"]) for layer in told["layers"]] == [("EAH", 1), ("CLVA", 2)]
    assert told["layers"][0]["chosen"] == [0]
    assert set(told["layers"][0]) == {
        *("method", "layer", "heads", "rows", "columns", "moved_mean", "moved_max", "chosen", "gate_mean", "gate_max")
    }
    line = str(answer.effect)
    assert "\n" not in line
    assert line.startswith("EAH in layer 1: map of head 0, ")
    assert "CLVA in layer 2" in line
    assert "nats a token from plain" in line


def test_a_plain_answer_has_no_effect(vlm):
    answer = vlm.ask(picture(0), QUESTION, max_new_tokens=3, compare=True)
    assert answer.effect is None
    assert answer.as_dict()["effect"] is None


def test_an_answer_on_which_nothing_was_done_warns_and_is_the_plain_one(vlm):
    how = {"max_new_tokens": 6}
    with pytest.warns(UserWarning, match="The mitigation changed nothing"):
        answer = vlm.ask(picture(0), QUESTION, mitigation=NOTHING, **how)
    assert answer.effect.nothing
    assert answer.as_dict()["effect"]["nothing"] is True
    assert answer.tokens == vlm.ask(picture(0), QUESTION, **how).tokens


def test_answers_of_a_batch_have_the_effects_of_answers_alone(vlm):
    questions = [QUESTION, "Is there a dog?", "Two cats and a red ball"]
    how = {"mitigation": [EAH(threshold=0.0, decode="keep"), CLVA(gate=False)], "max_new_tokens": 7, "compare": True}
    together = vlm.ask_many([picture(n) for n in range(3)], questions, **how)
    for number, (answer, question) in enumerate(zip(together, questions, strict=True)):
        alone = vlm.ask(picture(number), question, **how)
        assert answer.tokens == alone.tokens
        found, expected = answer.effect.as_dict(), alone.effect.as_dict()
        assert found["kl"] == pytest.approx(expected["kl"], abs=1e-4)  # logits of fp32, up to 1e-5 of them off
        for one, other in zip(found["layers"], expected["layers"], strict=True):
            for name, value in other.items():
                assert one[name] == (pytest.approx(value, abs=1e-5) if isinstance(value, float) else value), name


def test_the_effect_of_a_row_that_ends_early_ends_with_it(vlm):
    questions, how = [QUESTION, "Is there a dog?"], {"mitigation": CLVA(gate=False), "compare": True}
    first, second = vlm.ask_many([picture(0), picture(1)], questions, max_new_tokens=9, **how)
    stop = next(part for n in range(2, len(first)) if (part := first[n : n + 3]) not in second)
    short, long = vlm.ask_many([picture(0), picture(1)], questions, max_new_tokens=9, stop=stop, **how)
    assert len(short.tokens) < len(long.tokens)
    for answer in (short, long):
        assert len(answer.effect.calls) == len(answer.effect.kl) == len(answer.tokens)
    alone = vlm.ask(picture(0), QUESTION, max_new_tokens=9, stop=stop, **how)
    assert [layer.rows for layer in short.effect.layers] == [layer.rows for layer in alone.effect.layers]


def test_streams_conversations_and_logits_take_a_mitigation(vlm):
    how = {"mitigation": CLVA(gate=False), "max_new_tokens": 6}
    expected = vlm.ask(picture(0), QUESTION, **how)
    assert "".join(vlm.stream(picture(0), QUESTION, **how)) == expected
    talk = minivlm.Conversation(vlm, picture(0))
    answer = talk.ask(QUESTION, **how)
    assert (answer.tokens, answer.effect.as_dict()) == (expected.tokens, expected.effect.as_dict())
    plain = talk.ask("Is there a dog?", max_new_tokens=6)
    assert talk.reused == 0  # what was computed under a mitigation is not reused
    again = minivlm.Conversation(vlm, picture(0))
    again.turns.append(talk.turns[0])
    assert plain.tokens == again.ask("Is there a dog?", max_new_tokens=6).tokens
    assert plain.effect is None
    logits = vlm.logits(picture(0), QUESTION, mitigation=how["mitigation"])
    assert int(logits[-1].masked_fill(~vlm.allowed, -torch.inf).argmax()) == expected.tokens[0]
    assert not torch.equal(logits, vlm.logits(picture(0), QUESTION))


def test_a_mixed_turn_after_a_plain_one_begins_anew(vlm):
    talk = minivlm.Conversation(vlm, picture(0))
    talk.ask(QUESTION, max_new_tokens=4)
    how = {"mitigation": [EAH(threshold=0.0), CLVA(gate=False)], "max_new_tokens": 4}
    answer = talk.ask("Is there a dog?", **how)
    turns = [talk.turns[0], minivlm.Turn("Is there a dog?")]
    assert answer.tokens == vlm.ask(picture(0), turns, **how).tokens


# --- a GPU ------------------------------------------------------------------------------------------------------------


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU")
@pytest.mark.parametrize("control", [{}, {"anchor": "shuffled"}, {"anchor": "random"}], ids=str)
def test_a_gpu_does_what_the_cpu_does(control):
    """fp32 without TF32; kernels differ, so as close as two lanes of one machine. fp64 tokens are the same."""
    mitigation = Mitigation(KEEP.eah, CLVA(gate=False, **control))
    sample = batch(dtype=torch.float64)
    there = {name: value.cuda() for name, value in sample.items()}
    expected = EXACT(**sample, mitigation=mitigation)
    model = sharp_llava(dtype=torch.float64).cuda()
    found = model(**there, mitigation=mitigation)
    assert difference(found.logits.cpu(), expected.logits) < CLOSE
    for one, other in zip(effect_of(found).layers, effect_of(expected).layers, strict=True):
        assert (one.heads, one.rows, one.chosen) == (other.heads, other.rows, other.chosen)
        assert one.moved_mean == pytest.approx(other.moved_mean, abs=1e-5)
    how = {"settings": Generation(8), "mitigation": mitigation}
    on_gpu = list(generate(model, **there, allowed=NO_SLOT.cuda(), **how))
    assert on_gpu == list(generate(EXACT, **sample, allowed=NO_SLOT, **how))
    half = sharp_llava(dtype=torch.bfloat16).cuda()
    there["pixels"] = there["pixels"].bfloat16()
    maps = half(**there, maps=LAYERS, mitigation=mitigation).maps
    assert all((map_.float().sum(dim=-1) - 1).abs().max() <= 2.0**-7 for map_ in maps.values())
