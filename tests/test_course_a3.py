"""Assignment a3: the reference is green, holes are open, known wrong answers are red and other right ones green.

Each row of the tables changes the reference in one place, as students do: what stands there, what stands there instead.
Nothing is measured here but in the last tests, where the limits of time and memory must tell two solutions apart.
"""

import pytest

from minivlm.course.assignments import assignment
from minivlm.course.project import KIT
from minivlm.course.reference import LEAST, seed_of
from minivlm.course.supervise import Job, supervise
from minivlm.course.verdict import OPEN, RIGHT, WRONG
from support.course_tools import HOLLOW, SEED, WHOLE, faults, replaced, states, verdicts, write_version

ROW = assignment("a3")
MEASURED = {"test_many_small_maps", "test_memory_of_a_map", "test_one_row_costs_one_row"}
QUICK = {task.test for task in ROW.tasks} - MEASURED

DECODER, ATTENTION = "model/decoder.py", "model/attention.py"
KEY, QUERY = "key = torch.arange(attention_mask.shape[1], device=attention_mask.device)", "query = key[-queries:, None]"
BOTH = "both = attention_mask[:, -queries:, None] & attention_mask[:, None]"
MASK = "return ((key < query) & both | (key == query))[:, None]"
REPEAT = 'repeat(x, "B G K d -> B (G group) K d", group=group)'
PROJECT = 'rearrange(p, "B Q (heads d) -> B heads Q d", d=self.head_dim)'
MERGE = 'self.o_proj(rearrange(heads, "B H Q d -> B Q (H d)"))'
FUSED = "F.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=q.shape[1] != k.shape[1])"
SCORES = "rows @ k.transpose(-1, -2) * q.shape[-1] ** -0.5"
HIDE = 'scores.masked_fill(~seen, float("-inf"))'
SOFTMAX = "scores.softmax(dim=-1, dtype=torch.float32).to(q.dtype)"
ROTATE = "q, k = rotate(q, *rope), rotate(k, *rope)"
CACHE = "        if cache is not None:\n            k, v = cache.write(self.layer, k, v)\n"
FIRST = "first = call.first_visible_row(self.layer, q.shape[2])"
FAST = "fused_attention(q[:, :, :first], k, v, mask[:, :, :first])"
DONE = "return AttentionOutput(self.merge(fast), carry)"
VISIBLE = "visible = mask[:, :, first:]"
PLAIN = "attention_weights(q[:, :, first:], repeat_heads(k, self.group), visible)"
STEP_3 = "weights, carry = self.broadcast(plain, visible, call, carry)"
STEP_4A = "weights, carry = self.anchor(weights, call, carry)"
STEP_4B = "weights, carry = self.aim(weights, call, carry)"
STEP_5 = "record = self.record(plain, weights, visible, call.watch)"
MIX = "slow = weights @ repeat_heads(v, self.group)"
JOIN = "return AttentionOutput(self.merge(torch.cat((fast, slow), dim=2)), carry, record)"

# what is wrong: file, what stands there, what stands there instead, the tasks that must go red (others may)
MASKS = {
    "aligned to the first key": (DECODER, QUERY, "query = key[:queries, None]", "who_may_see"),
    "a query does not see itself": (DECODER, MASK, "return ((key < query) & both)[:, None]", "who_may_see"),
    "the future is seen, the past is not": (DECODER, "(key < query)", "(key > query)", "who_may_see steps"),
    "padding sees nothing": (DECODER, MASK, "return ((key <= query) & both)[:, None]", "who_may_see"),
    "padding is seen": (
        DECODER,
        BOTH,
        "both = attention_mask.new_ones(len(attention_mask), queries, len(key))",
        "who_may_see",
    ),
    "padding behind the text looks back": (DECODER, BOTH, "both = attention_mask[:, None]", "who_may_see"),
    "padding is seen by padding": (
        DECODER,
        BOTH,
        "both = ~(attention_mask[:, -queries:, None] ^ attention_mask[:, None])",
        "who_may_see",
    ),
    "the first sample's padding for all": (
        DECODER,
        MASK,
        "return ((key < query) & both[:1] | (key == query))[:, None].expand(len(attention_mask), -1, -1, -1)",
        "who_may_see",
    ),
    "without a place for the heads": (DECODER, MASK, "return (key < query) & both | (key == query)", "who_may_see"),
    "numbers instead of True and False": (
        DECODER,
        MASK,
        "return ((key < query) & both | (key == query))[:, None].float()",
        "who_may_see",
    ),
    "turned round: True is hidden": (
        DECODER,
        MASK,
        "return ~((key < query) & both | (key == query))[:, None]",
        "who_may_see",
    ),
}

HEADS = {
    "tiled, not repeated": (ATTENTION, REPEAT, "x.repeat(1, group, 1, 1)", "heads_share both_lanes"),
    "keys repeated instead of heads": (ATTENTION, REPEAT, "x.repeat_interleave(group, dim=2)", "heads_share"),
    "one group too many": (ATTENTION, REPEAT, "x.repeat_interleave(group + 1, dim=1)", "heads_share"),
    "the first group for all": (
        ATTENTION,
        REPEAT,
        "x[:, :1].expand(-1, x.shape[1] * group, -1, -1)",
        "heads_share",
    ),
    "heads of the wrong width": (ATTENTION, PROJECT, PROJECT.replace("(heads d)", "(d heads)"), "heads_apart"),
    "viewed without a transpose": (
        ATTENTION,
        PROJECT,
        "p.reshape(len(x), -1, x.shape[1], self.head_dim)",
        "heads_apart fast_lane",
    ),
    "as many key heads as heads": (
        ATTENTION,
        PROJECT,
        'rearrange(p, "B Q (heads d) -> B heads Q d", heads=self.q_proj.out_features // self.head_dim)',
        "heads_apart",
    ),
    "keys and values changed about": (
        ATTENTION,
        "self.k_proj(x), self.v_proj(x)",
        "self.v_proj(x), self.k_proj(x)",
        "heads_apart fast_lane",
    ),
    "one projection for keys and values": (
        ATTENTION,
        "self.k_proj(x), self.v_proj(x)",
        "self.k_proj(x), self.k_proj(x)",
        "heads_apart",
    ),
    "without biases": (
        ATTENTION,
        "self.q_proj(x), self.k_proj(x), self.v_proj(x)",
        "x @ self.q_proj.weight.T, x @ self.k_proj.weight.T, x @ self.v_proj.weight.T",
        "heads_apart",
    ),
    "scaled in the projection": (ATTENTION, "self.q_proj(x),", "self.q_proj(x) * self.head_dim**-0.5,", "heads_apart"),
    "merged number by number": (ATTENTION, MERGE, MERGE.replace("(H d)", "(d H)"), "heads_apart fast_lane"),
    "merged without a transpose": (
        ATTENTION,
        MERGE,
        "self.o_proj(heads.reshape(len(heads), heads.shape[2], -1))",
        "heads_apart",
    ),
    "not projected back": (ATTENTION, MERGE, MERGE.removeprefix("self.o_proj(")[:-1], "heads_apart"),
}

KERNELS = {
    "is_causal instead of the mask": (
        ATTENTION,
        FUSED,
        "F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)",
        "fused fast_lane",
    ),
    "is_causal for prompts": (
        ATTENTION,
        FUSED,
        "F.scaled_dot_product_attention(q, k, v, attn_mask=None if q.shape[2] == k.shape[2] else mask,"
        " is_causal=q.shape[2] == k.shape[2], enable_gqa=True)",
        "fused fast_lane",
    ),
    "no mask": (ATTENTION, "attn_mask=mask, ", "", "fused fast_lane"),
    "the mask turned round": (ATTENTION, "attn_mask=mask,", "attn_mask=~mask,", "fused"),
    "the mask as 0 and 1, added": (ATTENTION, "attn_mask=mask,", "attn_mask=mask.to(q.dtype),", "fused"),
    "the first sample's mask": (ATTENTION, "attn_mask=mask,", "attn_mask=mask[:1],", "fused"),
    "scaled twice": (ATTENTION, FUSED, FUSED.replace("(q,", "(q * q.shape[-1] ** -0.5,"), "fused both_lanes"),
    "not scaled": (ATTENTION, FUSED, FUSED.replace("attn_mask", "scale=1.0, attn_mask"), "fused both_lanes"),
    "scaled by the width of all heads": (
        ATTENTION,
        FUSED,
        FUSED.replace("attn_mask", "scale=(q.shape[1] * q.shape[-1]) ** -0.5, attn_mask"),
        "fused both_lanes",
    ),
    "shared keys in the wrong order": (
        ATTENTION,
        FUSED,
        "F.scaled_dot_product_attention(q, *(x.repeat(1, q.shape[1] // k.shape[1], 1, 1) for x in (k, v)), mask)",
        "fused fast_lane both_lanes",
    ),
    "shared keys refused": (ATTENTION, ", enable_gqa=q.shape[1] != k.shape[1]", "", "fused fast_lane"),
    "some weights dropped": (ATTENTION, "attn_mask=mask,", "attn_mask=mask, dropout_p=0.1,", "fused"),
}

WEIGHTS = {
    "not scaled": (ATTENTION, " * q.shape[-1] ** -0.5", "", "written_out both_lanes"),
    "scaled by d, not by its root": (ATTENTION, "q.shape[-1] ** -0.5", "q.shape[-1] ** -1", "written_out both_lanes"),
    "scaled by the root of all heads' width": (
        ATTENTION,
        "q.shape[-1] ** -0.5",
        "(q.shape[1] * q.shape[-1]) ** -0.5",
        "written_out both_lanes",
    ),
    "scaled by the number of keys": (ATTENTION, "q.shape[-1] ** -0.5", "k.shape[2] ** -0.5", "written_out both_lanes"),
    "softmax over the queries": (ATTENTION, "softmax(dim=-1,", "softmax(dim=-2,", "written_out both_lanes"),
    "hidden after the softmax": (
        ATTENTION,
        SOFTMAX,
        "(rows @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).softmax(dim=-1, dtype=torch.float32).to(q.dtype) * seen",
        "written_out at_the_edges both_lanes",
    ),
    "not hidden": (ATTENTION, HIDE, "scores", "written_out at_the_edges both_lanes"),
    "the mask turned round": (ATTENTION, "~seen", "seen", "written_out"),
    "hidden by 0": (ATTENTION, HIDE, "scores * seen", "written_out at_the_edges"),
    "hidden by 0 after e^x": (
        ATTENTION,
        SOFTMAX,
        "F.normalize(scores.float().exp() * seen, p=1, dim=-1).to(q.dtype)",
        "at_the_edges",
    ),
    "hidden by a number that is not small enough": (
        ATTENTION,
        'float("-inf")',
        "-1e4",
        "at_the_edges",
    ),
    "a causal mask of one's own": (
        ATTENTION,
        HIDE,
        'scores.masked_fill(~torch.ones_like(scores, dtype=torch.bool).tril(), float("-inf"))',
        "written_out both_lanes",
    ),
    "the first sample's mask": (ATTENTION, "~seen", "~seen[:1]", "written_out"),
    "a softmax in half precision": (
        ATTENTION,
        SOFTMAX,
        "((e := (scores - scores.amax(-1, True)).exp()) / e.sum(-1, keepdim=True))",
        "at_the_edges",
    ),
    "left in fp32": (ATTENTION, ".to(q.dtype)", "", "at_the_edges"),
    "the last stripe is lost": (
        ATTENTION,
        "return torch.cat(stripes, dim=2)",
        "return torch.cat(stripes[: max(1, q.shape[2] // STRIPE)], dim=2)",
        "written_out",
    ),
    "the first stripe's mask for all": (
        ATTENTION,
        "mask.split(STRIPE, dim=2), strict=True",
        "[mask[:, :, :STRIPE]] * 99, strict=False",
        "written_out",
    ),
}

FORWARD = {
    "nothing is rotated": (ATTENTION, ROTATE, "pass", "fast_lane steps"),
    "queries alone are rotated": (ATTENTION, ROTATE, "q = rotate(q, *rope)", "fast_lane"),
    "values are rotated, too": (ATTENTION, ROTATE, ROTATE + "\n        v = rotate(v, *rope)", "fast_lane both_lanes"),
    "keys are rotated behind the cache": (
        ATTENTION,
        CACHE,
        "        q, k, v = self.project(x)\n        q = rotate(q, *rope)\n"
        + CACHE
        + "        k = rotate(k, *[r[:, -1:] for r in rope])\n",
        "fast_lane",
    ),
    "no cache": (ATTENTION, CACHE, "", "fast_lane steps"),
    "the cache is written, not read": (ATTENTION, "k, v = cache.write", "cache.write", "fast_lane steps"),
    "the cache of the first layer": (ATTENTION, "cache.write(self.layer,", "cache.write(0,", "fast_lane steps"),
    "the fast lane alone": (ATTENTION, FIRST, "first = q.shape[2]", "both_lanes steps"),
    "split a row too late": (ATTENTION, FIRST, FIRST + " + 1", "both_lanes steps"),
    "the last row alone is written out": (
        ATTENTION,
        FIRST,
        "first = min(call.first_visible_row(self.layer, q.shape[2]), 1) * (q.shape[2] - 1)"
        " + (call.first_visible_row(self.layer, q.shape[2]) == q.shape[2])",
        "steps",
    ),
    "all rows of the mask in the fast lane": (
        ATTENTION,
        FAST,
        FAST.replace("mask[:, :, :first]", "mask[:, :, -first:]"),
        "steps",
    ),
    "the first rows of the mask in the visible lane": (
        ATTENTION,
        VISIBLE,
        "visible = mask[:, :, : q.shape[2] - first]",
        "both_lanes steps",
    ),
    "the lanes change places": (ATTENTION, "(fast, slow)", "(slow, fast)", "both_lanes steps"),
    "the lanes are joined along the heads": (ATTENTION, "slow), dim=2", "slow), dim=1", "both_lanes"),
    "what was carried on is dropped": (ATTENTION, JOIN, JOIN.replace("carry,", "EMPTY_CARRY,"), "steps"),
    "what was carried on is dropped in the fast lane": (
        ATTENTION,
        DONE,
        "return AttentionOutput(self.merge(fast), Carry())",
        "fast_lane",
    ),
    "nothing is shown": (ATTENTION, JOIN, JOIN.replace(", record)", ")"), "both_lanes steps"),
    "the plain weights mix the values": (ATTENTION, MIX, MIX.replace("weights", "plain"), "steps"),
    "the plain weights are shown": (ATTENTION, STEP_5, STEP_5.replace("plain, weights", "plain, plain"), "steps"),
    "sinks of the changed weights": (ATTENTION, STEP_5, STEP_5.replace("plain, weights", "weights, weights"), "steps"),
    "without EAH": (ATTENTION, STEP_3, "weights = plain", "steps"),
    "without CLVA": (ATTENTION, STEP_4A, "pass", "steps"),
    "without the aim": (ATTENTION, STEP_4B, "pass", "steps"),
    "CLVA before EAH": (
        ATTENTION,
        STEP_3,
        "weights, carry = self.anchor(plain, call, carry)\n"
        "        weights, carry = self.broadcast(weights, visible, call, carry)\n"
        "        call = Call(call.layout, type(call.mitigation)(aim=call.mitigation.aim), call.watch)",
        "steps",
    ),
    "the aim before CLVA": (
        ATTENTION,
        STEP_4A,
        "weights, carry = self.aim(weights, call, carry)\n"
        "        weights, carry = self.anchor(weights, call, carry)\n"
        "        call = Call(call.layout, type(call.mitigation)(), call.watch)",
        "steps",
    ),
    "each step begins anew": (ATTENTION, STEP_4B, STEP_4B.replace("aim(weights", "aim(plain"), "steps"),
    "values of the groups, not of the heads": (
        ATTENTION,
        MIX,
        "slow = weights @ v.repeat(1, self.group, 1, 1)",
        "both_lanes steps",
    ),
    "keys of the groups in the wrong order": (
        ATTENTION,
        PLAIN,
        PLAIN.replace("repeat_heads(k, self.group)", "k.repeat(1, self.group, 1, 1)"),
        "both_lanes steps",
    ),
    "not merged": (ATTENTION, JOIN, JOIN.replace("self.merge", "self.o_proj"), "both_lanes"),
}
WRONG_ANSWERS = MASKS | HEADS | {f"kernel: {k}": v for k, v in KERNELS.items()}
WRONG_ANSWERS |= {f"weights: {k}": v for k, v in WEIGHTS.items()} | FORWARD

# other right answers: file, what stands there, what stands there instead
RIGHT_ANSWERS = {
    "a mask from positions": (
        DECODER,
        "(key < query) & both | (key == query)",
        "(key <= query) & both | (key == query)",
    ),
    "repeat_interleave": (ATTENTION, REPEAT, "x.repeat_interleave(group, dim=1)"),
    "expand and flatten": (ATTENTION, REPEAT, "x[:, :, None].expand(-1, -1, group, -1, -1).flatten(1, 2)"),
    "view and transpose": (ATTENTION, PROJECT, "p.view(*x.shape[:2], -1, self.head_dim).transpose(1, 2)"),
    "transpose and flatten": (ATTENTION, MERGE, "self.o_proj(heads.transpose(1, 2).flatten(2))"),
    "keys repeated for the kernel": (
        ATTENTION,
        FUSED,
        "F.scaled_dot_product_attention(q, *(x.repeat_interleave(q.shape[1] // x.shape[1], 1) for x in (k, v)), mask)",
    ),
    "a mask of 0 and -inf": (
        ATTENTION,
        "attn_mask=mask,",
        'attn_mask=torch.zeros(mask.shape, dtype=q.dtype).masked_fill(~mask, float("-inf")),',
    ),
    "queries scaled first": (ATTENTION, SCORES, "(rows * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)"),
    "scores in fp32": (ATTENTION, SCORES, "rows.float() @ k.float().transpose(-1, -2) * q.shape[-1] ** -0.5"),
    "einsum": (ATTENTION, SCORES, 'torch.einsum("bhqd,bhkd->bhqk", rows, k) / q.shape[-1] ** 0.5'),
    "hidden by the least number": (ATTENTION, 'float("-inf")', "torch.finfo(scores.dtype).min"),
    "softmax by hand, in fp32": (
        ATTENTION,
        SOFTMAX,
        "((e := (scores.float() - scores.float().amax(-1, True)).exp()) / e.sum(-1, keepdim=True)).to(q.dtype)",
    ),
    "other stripes": (ATTENTION, "STRIPE = 128", "STRIPE = 37"),
    "the fused kernel on no rows, too": (ATTENTION, f"{FAST} if first else q[:, :, :0]", FAST),
}

TELLING = (
    "aligned to the first key",
    "tiled, not repeated",
    "kernel: no mask",
    "weights: not scaled",
    "CLVA before EAH",
)

# other right answers and what the limits say: test, file, what stands there, what stands there instead, status
MEASURED_ANSWERS = {
    "small maps all at once": ("test_many_small_maps", ATTENTION, "STRIPE = 128", "STRIPE = 10**6", "ran"),
    "small maps by where": (
        "test_many_small_maps",
        ATTENTION,
        HIDE,
        'torch.where(seen, scores, float("-inf"))',
        "ran",
    ),
    "small maps by einsum, in fp32": (
        "test_many_small_maps",
        ATTENTION,
        SCORES,
        'torch.einsum("bhqd,bhkd->bhqk", rows.float(), k.float()) / q.shape[-1] ** 0.5',
        "ran",
    ),
    "small maps by baddbmm": (
        "test_many_small_maps",
        ATTENTION,
        SCORES,
        "torch.baddbmm(torch.zeros(1), rows.flatten(0, 1), k.flatten(0, 1).mT, beta=0, alpha=q.shape[-1] ** -0.5)"
        ".view(*rows.shape[:3], -1)",
        "ran",
    ),
    "small maps by e^x": (
        "test_many_small_maps",
        ATTENTION,
        SOFTMAX,
        "((e := (scores.float() - scores.float().amax(-1, True)).exp()) / e.sum(-1, keepdim=True)).to(q.dtype)",
        "ran",
    ),
    "small maps by single rows": ("test_many_small_maps", ATTENTION, "STRIPE = 128", "STRIPE = 1", "too slow"),
    "a large map as it is": ("test_memory_of_a_map", ATTENTION, "STRIPE = 128", "STRIPE = 128", "ran"),
    "a large map by larger stripes": ("test_memory_of_a_map", ATTENTION, "STRIPE = 128", "STRIPE = 300", "ran"),
    "a large map all at once": ("test_memory_of_a_map", ATTENTION, "STRIPE = 128", "STRIPE = 10**6", "too much memory"),
    "a row as it is": ("test_one_row_costs_one_row", ATTENTION, FIRST, FIRST, "ran"),
    "a row of all rows": (
        "test_one_row_costs_one_row",
        ATTENTION,
        FIRST,
        FIRST + "\n        first = first if first == q.shape[2] else 0",
        "too much memory",
    ),
}


@pytest.fixture(scope="module")
def found():
    """Verdicts on all of them, from one process."""
    answers = {
        name: replaced(file, (old, new)) for name, (file, old, new, *_) in (WRONG_ANSWERS | RIGHT_ANSWERS).items()
    }
    return verdicts("a3", answers | {WHOLE: WHOLE, HOLLOW: HOLLOW}, QUICK)


def test_the_reference_is_right(found):
    assert set(states(found, WHOLE).values()) == {RIGHT}


def test_holes_are_open(found):
    assert set(states(found, HOLLOW).values()) == {OPEN}


@pytest.mark.parametrize("answer", WRONG_ANSWERS)
def test_a_wrong_answer_is_found(found, answer):
    red = {test for test, state in states(found, answer).items() if state == WRONG}
    for part in WRONG_ANSWERS[answer][3].split():
        assert any(part in test for test in red), f"{part} is not red, only {sorted(red)}"


@pytest.mark.parametrize("answer", RIGHT_ANSWERS)
def test_another_right_answer_is_right(found, answer):
    assert faults(found[answer]) == {}


def test_another_seed_judges_alike():
    """Chance must neither save a wrong answer nor spoil a right one: a few of each, on other inputs."""
    wrong = {name: replaced(*WRONG_ANSWERS[name][:1], WRONG_ANSWERS[name][1:3]) for name in TELLING}
    right = {name: replaced(file, (old, new)) for name, (file, old, new) in RIGHT_ANSWERS.items()}
    found = verdicts("a3", wrong | right, QUICK, "another seed")
    assert all(WRONG in states(found, name).values() for name in wrong)
    assert all(set(states(found, name).values()) == {RIGHT} for name in right)


@pytest.mark.slow
@pytest.mark.parametrize("answer", MEASURED_ANSWERS)
def test_limits_tell_solutions_apart(answer, tmp_path):
    """What is right but too large or too slow, and what is neither: that has the time that students have.

    What is too slow is so even with the least time that there is, or a fast machine would not tell.
    """
    test, file, old, new, status = MEASURED_ANSWERS[answer]
    task = next(task for task in ROW.tasks if task.test == test)
    project = write_version(ROW, tmp_path / "project", replaced(file, (old, new)))
    seconds = LEAST if status == "too slow" else task.seconds
    (outcome,) = supervise(project, KIT / ROW.tests, [Job(test, seed_of(SEED, ROW, task), seconds, task.megabytes)])
    assert outcome.status == status, outcome
