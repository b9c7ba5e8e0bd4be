"""The decode step: shapes that stay the same, nothing that makes the host wait, and the same numbers as the forward.

Tolerances: fp64, one step against one forward over the same cache: sums over more (masked) columns, 1e-12 of logits
near 1. Compiled code rounds otherwise than eager code: there token ids are compared.
"""

import shutil

import pytest
import torch
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode

from minivlm import CLVA, EAH, Aim, GenerationError, Mitigation, PromptError
from minivlm.inference import decode
from minivlm.inference.generate import Generation, new_cache, steps
from minivlm.model import Earlier
from support.tiny_model import PATCHES, SLOT, WORDS, padded, pixels, prompt, tiny_llava

NO_SLOT = torch.arange(WORDS) != SLOT
NEW = 20
OPEN = CLVA(gate=False)
METHODS = {
    "plain": None,
    "EAH": EAH(threshold=0.0),
    "EAH, kept": EAH(threshold=0.0, decode="keep"),
    "CLVA": OPEN,
    "CLVA, random anchor": CLVA(gate=False, anchor="random"),
    "CLVA, shuffled anchor": CLVA(gate=False, anchor="shuffled"),
    "aim": Aim(torch.arange(2.0 * PATCHES).reshape(2, PATCHES), (1, 2), strength=0.5, kappa=2.0),
    "both": Mitigation(EAH(threshold=0.0, decode="keep"), OPEN),
}
ASKING = {"_local_scalar_dense", "nonzero", "is_nonzero", "equal", "item", "masked_select", "unique"}  # the host waits


@pytest.fixture(params=[None, 8], ids=["one plan", "several plans"])
def columns(request, monkeypatch):
    """The columns that a step sees: of the whole answer, or so few that the plan is made anew within it."""
    if request.param:
        monkeypatch.setattr(decode, "COLUMNS", request.param)


def ragged(dtype=torch.float64) -> dict:
    """Two prompts with a picture, one of them with padding before it."""
    tokens, attention_mask = padded([prompt(1, seed=1), prompt(1, words=9, seed=2)])
    return {"tokens": tokens, "pixels": pixels(2, dtype=dtype), "attention_mask": attention_mask}


def by_forwards(model, sample: dict, mitigation, tokens: list[list[int]]) -> list[torch.Tensor]:
    """The logits behind the prompt and each of these tokens, from the model's own forward over a growing cache."""
    cache, changes = new_cache(model, 2, 100), None
    length, found = sample["tokens"].shape[1], []
    given = {**sample}
    for chosen in [*tokens, None]:
        earlier = Earlier(length, changes)
        output = model(**given, cache=cache, mitigation=mitigation, last_only=True, earlier=earlier)
        changes = changes or output.effect
        found.append(output.logits)
        if chosen is not None:
            mask = torch.nn.functional.pad(given["attention_mask"], (0, 1), value=True)
            given = {"tokens": torch.tensor(chosen)[:, None], "attention_mask": mask}
    return found


@pytest.mark.parametrize("method", METHODS)
def test_a_step_computes_what_the_forward_computes(columns, method):
    model, sample = tiny_llava(dtype=torch.float64), ragged()
    how = {"settings": Generation(NEW), "allowed": NO_SLOT, "mitigation": METHODS[method]}
    written = [*steps(model, **sample, **how)]
    expected = by_forwards(model, sample, METHODS[method], [step.chosen for step in written[:-1]])
    for step, logits in zip(written, expected, strict=True):
        assert_close(step.output.logits, logits, rtol=0, atol=1e-12)


def test_what_a_step_shows_ends_at_its_own_token():
    model, sample = tiny_llava(), ragged(torch.float32)
    how = {"settings": Generation(4), "allowed": NO_SLOT, "mitigation": OPEN}
    first, *later = steps(model, **sample, **how, rows=[0, 1], maps=[1], hidden=True)
    length = sample["tokens"].shape[1]
    assert first.output.rows[0].shape[-1] == length
    for number, step in enumerate(later, 1):
        assert [row.shape[-1] for row in step.output.rows.values()] == [length + number] * 2
        assert_close(step.output.rows[0].sum(dim=-1), torch.ones_like(step.output.rows[0][..., 0]))
        assert step.output.maps[1].shape[-2:] == (1, length + number)
        assert {change.columns.shape[1] for change in step.output.effect.calls[0]} == {length + number}


def test_what_an_earlier_answer_left_behind_does_not_matter():
    """A cache that was set back holds the keys of forgotten tokens; those of a broken answer may be NaN."""
    model, sample = tiny_llava(), ragged(torch.float32)
    how = {"settings": Generation(NEW), "allowed": NO_SLOT}
    expected = [step.chosen for step in steps(model, **sample, **how)]
    cache = new_cache(model, 2, 60)
    cache.keys.fill_(torch.nan), cache.values.fill_(torch.nan), cache.image.fill_(True)
    assert [step.chosen for step in steps(model, **sample, **how, cache=cache)] == expected
    assert not cache.image[:, sample["tokens"].shape[1] :].any()


@pytest.mark.parametrize("capacity", [0, 3])
def test_a_cache_that_is_too_small_is_an_error_in_words(capacity):
    model, sample = tiny_llava(), ragged(torch.float32)
    cache = new_cache(model, 2, sample["tokens"].shape[1] + capacity)
    with pytest.raises(PromptError, match="The KV cache has room for"):
        list(steps(model, **sample, settings=Generation(NEW), allowed=NO_SLOT, cache=cache))


@pytest.mark.parametrize("kind", [torch.int64, torch.float32])
def test_a_mask_may_be_of_numbers(kind):
    model, sample = tiny_llava(), ragged(torch.float32)
    how = {"settings": Generation(4), "allowed": NO_SLOT}
    expected = [step.chosen for step in steps(model, **sample, **how)]
    sample["attention_mask"] = sample["attention_mask"].to(kind)
    assert [step.chosen for step in steps(model, **sample, **how)] == expected


@pytest.mark.parametrize("cache", [True, False])
def test_a_picture_cannot_be_chosen(cache):
    how = {"settings": Generation(4, cache=cache), "allowed": ~NO_SLOT}
    with pytest.raises(GenerationError, match="chose the token of a picture"):
        list(steps(tiny_llava(), **ragged(torch.float32), **how))


def test_to_compile_what_is_not_there_is_refused():
    with pytest.raises(GenerationError, match="compile must be 'off' or 'auto' without a cache"):
        Generation(cache=False, compile="on")
    with pytest.raises(GenerationError, match="compile must be one of off, auto, on"):
        Generation(compile=True)


# --- nothing makes the host wait ------------------------------------------------------------------------------------


class Calls(TorchDispatchMode):
    """Every call of torch's functions: its name, and how many numbers it returns."""

    def __init__(self) -> None:
        super().__init__()
        self.made: list[tuple[str, int]] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        found = function(*args, **(kwargs or {}))
        parts = found if isinstance(found, (tuple, list)) else [found]
        numbers = sum(part.numel() for part in parts if isinstance(part, torch.Tensor))
        self.made.append((function.overloadpacket.__name__, numbers))
        return found


@pytest.fixture
def recorded(monkeypatch):
    """The calls of each decode step, as lists; filled while answers are generated."""
    calls, step = [], decode.decode_step

    def watched(*args):
        with Calls() as mode:
            output = step(*args)
        calls.append(mode.made)
        return output

    monkeypatch.setattr(decode, "decode_step", watched)
    return calls


@pytest.mark.parametrize("watch", [{}, {"rows": range(3), "hidden": True}], ids=["", "watched"])
@pytest.mark.parametrize("method", METHODS)
def test_no_step_asks_a_tensor_for_a_number(recorded, method, watch):
    how = {"settings": Generation(6), "allowed": NO_SLOT, "mitigation": METHODS[method]}
    assert len([*steps(tiny_llava(), **ragged(torch.float32), **how, **watch)]) == 6
    assert len(recorded) == 5
    for calls in recorded[1:]:  # the first finds what the plan keeps
        assert not ASKING & {name for name, _ in calls}


@pytest.mark.parametrize("method", METHODS)
def test_steps_do_not_grow_with_the_answer(recorded, method):
    how = {"settings": Generation(NEW), "allowed": NO_SLOT, "mitigation": METHODS[method]}
    assert len([*steps(tiny_llava(), **ragged(torch.float32), **how)]) == NEW
    assert len({tuple(calls) for calls in recorded[1:]}) == 1  # the same calls, of the same sizes


# --- compiled -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("watch", [{}, {"rows": range(3), "hidden": True}], ids=["", "watched"])
@pytest.mark.parametrize("method", ["plain", "both"])
def test_a_step_is_one_graph(monkeypatch, method, watch):
    """`fullgraph` raises where a graph would break; another answer, of another length, needs no second graph."""
    torch._dynamo.reset()
    graphs = []

    def backend(graph, example):
        graphs.append(graph)
        return graph.forward

    one = torch.compile(decode.decode_step, dynamic=False, fullgraph=True, backend=backend)
    monkeypatch.setattr(decode, "decode_step", one)
    model, how = tiny_llava(), {"settings": Generation(5), "allowed": NO_SLOT, "mitigation": METHODS[method]}
    for words in (5, 6):
        tokens = torch.tensor([prompt(1, words=words)])
        assert len([*steps(model, tokens, pixels(1), **how, **watch)]) == 5
    assert len(graphs) == 1


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++"), reason="no C++ compiler, which torch.compile needs on a CPU")
@pytest.mark.parametrize("method", ["plain", "both"])
def test_compiled_steps_write_the_same_tokens(method):
    model, sample = tiny_llava(), ragged(torch.float32)
    how = {"allowed": NO_SLOT, "mitigation": METHODS[method]}
    eager, compiled = (
        [step.chosen for step in steps(model, **sample, settings=Generation(64, compile=way), **how)]
        for way in ("off", "on")
    )
    assert compiled == eager


@pytest.mark.slow
def test_what_cannot_be_compiled_says_so_in_a_sentence(monkeypatch):
    torch._dynamo.reset()
    monkeypatch.setattr(torch._inductor.config.cpp, "cxx", (None, "/nowhere/g++"))
    how = {"settings": Generation(3, compile="on"), "allowed": NO_SLOT}
    with pytest.raises(GenerationError, match="could not be compiled: .*compiler.* Or leave compile 'off'"):
        list(steps(tiny_llava(), torch.tensor([prompt(0)]), **how))
    torch._dynamo.reset()
