"""Assignment a3: the reference is green, holes are open, known wrong answers are red and other right ones green.

What rows of the tables mean, `support/course_answers.py` says. Time and memory are limited in the last tests only,
where solutions must be told apart by them.
"""

import pytest

from minivlm.course.assignments import assignment
from minivlm.course.reference import LEAST
from minivlm.course.verdict import OPEN, RIGHT
from support.course_answers import Answers, changed
from support.course_tools import HOLLOW, WHOLE, endings, faults, states

ROW = assignment("a3")
MEASURED = {"test_many_small_maps", "test_memory_of_a_map", "test_one_row_costs_one_row"}
QUICK = {task.test for task in ROW.tasks} - MEASURED

IN_ATTENTION_FILE = "model/attention.py", ""
IN_ATTENTION = "model/attention.py", "Attention.forward"
IN_ATTENTION_MERGE = "model/attention.py", "Attention.merge"
IN_ATTENTION_PROJECT = "model/attention.py", "Attention.project"
IN_ATTENTION_WEIGHTS = "model/attention.py", "attention_weights"
IN_FUSED_ATTENTION = "model/attention.py", "fused_attention"
IN_EXPLAINED = "course/lanes.py", "explained"
IN_FORETOLD = "course/lanes.py", "foretold"
IN_REPEAT_HEADS = "model/attention.py", "repeat_heads"
IN_CAUSAL_MASK = "model/decoder.py", "causal_mask"

SIZES = "keys, rows = past + q, q - first"
RIGHT_OR_PLAIN = 'return "right" if right else "mixed by the plain weights"'
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
CACHE = "if cache is not None:\n    k, v = cache.write(self.layer, k, v)"
FIRST = "first = call.first_visible_row(self.layer, q.shape[2])"
FAST = "fused_attention(q[:, :, :first], k, v, mask[:, :, :first])"
DONE = "return AttentionOutput(self.merge(fast), carry, EMPTY_RECORD)"
VISIBLE = "visible = mask[:, :, first:]"
PLAIN = "attention_weights(q[:, :, first:], repeat_heads(k, self.group), visible)"
STEP_3 = "weights, carry = self.broadcast(plain, visible, call, carry)"
STEP_4A = "weights, carry = self.anchor(weights, call, carry)"
STEP_4B = "weights, carry = self.aim(weights, call, carry)"
STEP_5 = "record = self.record(plain, weights, visible, call.watch)"
MIX = "slow = weights @ repeat_heads(v, self.group)"
JOIN = "return AttentionOutput(self.merge(torch.cat((fast, slow), dim=2)), carry, record)"


MASKS = {
    "aligned to the first key": ("who_may_see", (IN_CAUSAL_MASK, QUERY, "query = key[:queries, None]")),
    "a query does not see itself": ("who_may_see", (IN_CAUSAL_MASK, MASK, "return ((key < query) & both)[:, None]")),
    "the future is seen, the past is not": ("who_may_see steps", (IN_CAUSAL_MASK, "(key < query)", "(key > query)")),
    "padding sees nothing": ("who_may_see", (IN_CAUSAL_MASK, MASK, "return ((key <= query) & both)[:, None]")),
    "padding is seen": (
        "who_may_see",
        (IN_CAUSAL_MASK, BOTH, "both = attention_mask.new_ones(len(attention_mask), queries, len(key))"),
    ),
    "padding behind the text looks back": ("who_may_see", (IN_CAUSAL_MASK, BOTH, "both = attention_mask[:, None]")),
    "padding is seen by padding": (
        "who_may_see",
        (IN_CAUSAL_MASK, BOTH, "both = ~(attention_mask[:, -queries:, None] ^ attention_mask[:, None])"),
    ),
    "the first sample's padding for all": (
        "who_may_see",
        (
            IN_CAUSAL_MASK,
            MASK,
            "return ((key < query) & both[:1] | (key == query))[:, None].expand(len(attention_mask), -1, -1, -1)",
        ),
    ),
    "without a place for the heads": (
        "who_may_see",
        (IN_CAUSAL_MASK, MASK, "return (key < query) & both | (key == query)"),
    ),
    "numbers instead of True and False": (
        "who_may_see",
        (IN_CAUSAL_MASK, MASK, "return ((key < query) & both | (key == query))[:, None].float()"),
    ),
    "turned round: True is hidden": (
        "who_may_see",
        (IN_CAUSAL_MASK, MASK, "return ~((key < query) & both | (key == query))[:, None]"),
    ),
}

HEADS = {
    "tiled, not repeated": ("heads_share both_lanes", (IN_REPEAT_HEADS, REPEAT, "x.repeat(1, group, 1, 1)")),
    "keys repeated instead of heads": ("heads_share", (IN_REPEAT_HEADS, REPEAT, "x.repeat_interleave(group, dim=2)")),
    "one group too many": ("heads_share", (IN_REPEAT_HEADS, REPEAT, "x.repeat_interleave(group + 1, dim=1)")),
    "the first group for all": (
        "heads_share",
        (IN_REPEAT_HEADS, REPEAT, "x[:, :1].expand(-1, x.shape[1] * group, -1, -1)"),
    ),
    "heads of the wrong width": (
        "heads_apart",
        (IN_ATTENTION_PROJECT, PROJECT, PROJECT.replace("(heads d)", "(d heads)")),
    ),
    "viewed without a transpose": (
        "heads_apart fast_lane",
        (IN_ATTENTION_PROJECT, PROJECT, "p.reshape(len(x), -1, x.shape[1], self.head_dim)"),
    ),
    "as many key heads as heads": (
        "heads_apart",
        (
            IN_ATTENTION_PROJECT,
            PROJECT,
            'rearrange(p, "B Q (heads d) -> B heads Q d", heads=self.q_proj.out_features // self.head_dim)',
        ),
    ),
    "keys and values changed about": (
        "heads_apart fast_lane",
        (
            IN_ATTENTION_PROJECT,
            "self.q_proj(x), self.k_proj(x), self.v_proj(x)",
            "self.q_proj(x), self.v_proj(x), self.k_proj(x)",
        ),
    ),
    "one projection for keys and values": ("heads_apart", (IN_ATTENTION_PROJECT, "self.v_proj(x)", "self.k_proj(x)")),
    "without biases": (
        "heads_apart",
        (
            IN_ATTENTION_PROJECT,
            "self.q_proj(x), self.k_proj(x), self.v_proj(x)",
            "x @ self.q_proj.weight.T, x @ self.k_proj.weight.T, x @ self.v_proj.weight.T",
        ),
    ),
    "scaled in the projection": (
        "heads_apart",
        (IN_ATTENTION_PROJECT, "self.q_proj(x)", "self.q_proj(x) * self.head_dim**-0.5"),
    ),
    "merged number by number": ("heads_apart fast_lane", (IN_ATTENTION_MERGE, MERGE, MERGE.replace("(H d)", "(d H)"))),
    "merged without a transpose": (
        "heads_apart",
        (IN_ATTENTION_MERGE, MERGE, "self.o_proj(heads.reshape(len(heads), heads.shape[2], -1))"),
    ),
    "not projected back": ("heads_apart", (IN_ATTENTION_MERGE, MERGE, MERGE.removeprefix("self.o_proj(")[:-1])),
}

KERNELS = {
    "is_causal instead of the mask": (
        "fused fast_lane",
        (IN_FUSED_ATTENTION, FUSED, "F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)"),
    ),
    "is_causal for prompts": (
        "fused fast_lane",
        (
            IN_FUSED_ATTENTION,
            FUSED,
            "F.scaled_dot_product_attention(q, k, v, attn_mask=None if q.shape[2] == k.shape[2] else mask,"
            " is_causal=q.shape[2] == k.shape[2], enable_gqa=True)",
        ),
    ),
    "no mask": (
        "fused fast_lane",
        (IN_FUSED_ATTENTION, FUSED, "F.scaled_dot_product_attention(q, k, v, enable_gqa=q.shape[1] != k.shape[1])"),
    ),
    "the mask turned round": (
        "fused",
        (
            IN_FUSED_ATTENTION,
            FUSED,
            "F.scaled_dot_product_attention(q, k, v, attn_mask=~mask, enable_gqa=q.shape[1] != k.shape[1])",
        ),
    ),
    "the mask as 0 and 1, added": (
        "fused",
        (
            IN_FUSED_ATTENTION,
            FUSED,
            "F.scaled_dot_product_attention(q, k, v, attn_mask=mask.to(q.dtype), enable_gqa=q.shape[1] != k.shape[1])",
        ),
    ),
    "the first sample's mask": (
        "fused",
        (
            IN_FUSED_ATTENTION,
            FUSED,
            "F.scaled_dot_product_attention(q, k, v, attn_mask=mask[:1], enable_gqa=q.shape[1] != k.shape[1])",
        ),
    ),
    "scaled twice": (
        "fused both_lanes",
        (IN_FUSED_ATTENTION, FUSED, FUSED.replace("(q,", "(q * q.shape[-1] ** -0.5,")),
    ),
    "not scaled": ("fused both_lanes", (IN_FUSED_ATTENTION, FUSED, FUSED.replace("attn_mask", "scale=1.0, attn_mask"))),
    "scaled by the width of all heads": (
        "fused both_lanes",
        (IN_FUSED_ATTENTION, FUSED, FUSED.replace("attn_mask", "scale=(q.shape[1] * q.shape[-1]) ** -0.5, attn_mask")),
    ),
    "shared keys in the wrong order": (
        "fused fast_lane both_lanes",
        (
            IN_FUSED_ATTENTION,
            FUSED,
            "F.scaled_dot_product_attention(q, *(x.repeat(1, q.shape[1] // k.shape[1], 1, 1) for x in (k, v)), mask)",
        ),
    ),
    "shared keys refused": (
        "fused fast_lane",
        (IN_FUSED_ATTENTION, FUSED, "F.scaled_dot_product_attention(q, k, v, attn_mask=mask)"),
    ),
    "some weights dropped": (
        "fused",
        (
            IN_FUSED_ATTENTION,
            FUSED,
            "F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=0.1, enable_gqa=q.shape[1] !="
            " k.shape[1])",
        ),
    ),
}

WEIGHTS = {
    "not scaled": ("written_out both_lanes", (IN_ATTENTION_WEIGHTS, SCORES, "rows @ k.transpose(-1, -2)")),
    "scaled by d, not by its root": (
        "written_out both_lanes",
        (IN_ATTENTION_WEIGHTS, "q.shape[-1] ** -0.5", "q.shape[-1] ** -1"),
    ),
    "scaled by the root of all heads' width": (
        "written_out both_lanes",
        (IN_ATTENTION_WEIGHTS, "q.shape[-1] ** -0.5", "(q.shape[1] * q.shape[-1]) ** -0.5"),
    ),
    "scaled by the number of keys": (
        "written_out both_lanes",
        (IN_ATTENTION_WEIGHTS, "q.shape[-1] ** -0.5", "k.shape[2] ** -0.5"),
    ),
    "softmax over the queries": (
        "written_out both_lanes",
        (
            IN_ATTENTION_WEIGHTS,
            "scores.softmax(dim=-1, dtype=torch.float32)",
            "scores.softmax(dim=-2, dtype=torch.float32)",
        ),
    ),
    "hidden after the softmax": (
        "written_out at_the_edges both_lanes",
        (
            IN_ATTENTION_WEIGHTS,
            SOFTMAX,
            "(rows @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).softmax(dim=-1,"
            " dtype=torch.float32).to(q.dtype) * seen",
        ),
    ),
    "not hidden": ("written_out at_the_edges both_lanes", (IN_ATTENTION_WEIGHTS, HIDE, "scores")),
    "the mask turned round": ("written_out", (IN_ATTENTION_WEIGHTS, "~seen", "seen")),
    "hidden by 0": ("written_out at_the_edges", (IN_ATTENTION_WEIGHTS, HIDE, "scores * seen")),
    "hidden by 0 after e^x": (
        "at_the_edges",
        (IN_ATTENTION_WEIGHTS, SOFTMAX, "F.normalize(scores.float().exp() * seen, p=1, dim=-1).to(q.dtype)"),
    ),
    "hidden by a number that is not small enough": ("at_the_edges", (IN_ATTENTION_WEIGHTS, 'float("-inf")', "-1e4")),
    "a causal mask of one's own": (
        "written_out both_lanes",
        (
            IN_ATTENTION_WEIGHTS,
            HIDE,
            'scores.masked_fill(~torch.ones_like(scores, dtype=torch.bool).tril(), float("-inf"))',
        ),
    ),
    "the first sample's mask": ("written_out", (IN_ATTENTION_WEIGHTS, "~seen", "~seen[:1]")),
    "a softmax in half precision": (
        "at_the_edges",
        (IN_ATTENTION_WEIGHTS, SOFTMAX, "((e := (scores - scores.amax(-1, True)).exp()) / e.sum(-1, keepdim=True))"),
    ),
    "left in fp32": ("at_the_edges", (IN_ATTENTION_WEIGHTS, SOFTMAX, "scores.softmax(dim=-1, dtype=torch.float32)")),
    "the last stripe is lost": (
        "written_out",
        (
            IN_ATTENTION_WEIGHTS,
            "return torch.cat(stripes, dim=2)",
            "return torch.cat(stripes[: max(1, q.shape[2] // STRIPE)], dim=2)",
        ),
    ),
    "the first stripe's mask for all": (
        "written_out",
        (
            IN_ATTENTION_WEIGHTS,
            "zip(q.split(STRIPE, dim=2), mask.split(STRIPE, dim=2), strict=True)",
            "zip(q.split(STRIPE, dim=2), [mask[:, :, :STRIPE]] * 99, strict=False)",
        ),
    ),
}

FORWARD = {
    "nothing is rotated": ("fast_lane steps", (IN_ATTENTION, ROTATE, "pass")),
    "queries alone are rotated": ("fast_lane", (IN_ATTENTION, ROTATE, "q = rotate(q, *rope)")),
    "values are rotated, too": (
        "fast_lane both_lanes",
        (IN_ATTENTION, ROTATE, "q, k = rotate(q, *rope), rotate(k, *rope)\nv = rotate(v, *rope)"),
    ),
    "keys are rotated behind the cache": (
        "fast_lane",
        (
            IN_ATTENTION,
            CACHE,
            "q, k, v = self.project(x)\n"
            "q = rotate(q, *rope)\n"
            "if cache is not None:\n"
            "    k, v = cache.write(self.layer, k, v)\n"
            "k = rotate(k, *[r[:, -1:] for r in rope])",
        ),
    ),
    "no cache": ("fast_lane steps", (IN_ATTENTION, CACHE, "")),
    "the cache is written, not read": (
        "fast_lane steps",
        (IN_ATTENTION, "k, v = cache.write(self.layer, k, v)", "cache.write(self.layer, k, v)"),
    ),
    "the cache of the first layer": (
        "fast_lane steps",
        (IN_ATTENTION, "cache.write(self.layer, k, v)", "cache.write(0, k, v)"),
    ),
    "the fast lane alone": ("both_lanes steps", (IN_ATTENTION, FIRST, "first = q.shape[2]")),
    "split a row too late": ("both_lanes steps", (IN_ATTENTION, FIRST, FIRST + " + 1")),
    "the last row alone is written out": (
        "steps",
        (
            IN_ATTENTION,
            FIRST,
            "first = min(call.first_visible_row(self.layer, q.shape[2]), 1) * (q.shape[2] - 1) +"
            " (call.first_visible_row(self.layer, q.shape[2]) == q.shape[2])",
        ),
    ),
    "all rows of the mask in the fast lane": (
        "steps",
        (IN_ATTENTION, FAST, FAST.replace("mask[:, :, :first]", "mask[:, :, -first:]")),
    ),
    "the first rows of the mask in the visible lane": (
        "both_lanes steps",
        (IN_ATTENTION, VISIBLE, "visible = mask[:, :, : q.shape[2] - first]"),
    ),
    "the lanes change places": ("both_lanes steps", (IN_ATTENTION, "(fast, slow)", "(slow, fast)")),
    "the lanes are joined along the heads": (
        "both_lanes",
        (IN_ATTENTION, "torch.cat((fast, slow), dim=2)", "torch.cat((fast, slow), dim=1)"),
    ),
    "what was carried on is dropped": ("steps", (IN_ATTENTION, JOIN, JOIN.replace("carry,", "EMPTY_CARRY,"))),
    "what was carried on is dropped in the fast lane": (
        "fast_lane",
        (IN_ATTENTION, DONE, "return AttentionOutput(self.merge(fast), Carry())"),
    ),
    "nothing is shown": ("both_lanes steps", (IN_ATTENTION, JOIN, JOIN.replace(", record)", ")"))),
    "the plain weights mix the values": ("steps", (IN_ATTENTION, MIX, MIX.replace("weights", "plain"))),
    "the plain weights are shown": ("steps", (IN_ATTENTION, STEP_5, STEP_5.replace("plain, weights", "plain, plain"))),
    "sinks of the changed weights": (
        "steps",
        (IN_ATTENTION, STEP_5, STEP_5.replace("plain, weights", "weights, weights")),
    ),
    "without EAH": ("steps", (IN_ATTENTION, STEP_3, "weights = plain")),
    "without CLVA": ("steps", (IN_ATTENTION, STEP_4A, "pass")),
    "without the aim": ("steps", (IN_ATTENTION, STEP_4B, "pass")),
    "CLVA before EAH": (
        "steps",
        (
            IN_ATTENTION,
            STEP_3,
            "weights, carry = self.anchor(plain, call, carry)\n"
            "weights, carry = self.broadcast(weights, visible, call, carry)\n"
            "call = Call(call.layout, type(call.mitigation)(aim=call.mitigation.aim), call.watch)",
        ),
    ),
    "the aim before CLVA": (
        "steps",
        (
            IN_ATTENTION,
            STEP_4A,
            "weights, carry = self.aim(weights, call, carry)\n"
            "weights, carry = self.anchor(weights, call, carry)\n"
            "call = Call(call.layout, type(call.mitigation)(), call.watch)",
        ),
    ),
    "each step begins anew": ("steps", (IN_ATTENTION, STEP_4B, STEP_4B.replace("aim(weights", "aim(plain"))),
    "values of the groups, not of the heads": (
        "both_lanes steps",
        (IN_ATTENTION, MIX, "slow = weights @ v.repeat(1, self.group, 1, 1)"),
    ),
    "keys of the groups in the wrong order": (
        "both_lanes steps",
        (IN_ATTENTION, PLAIN, PLAIN.replace("repeat_heads(k, self.group)", "k.repeat(1, self.group, 1, 1)")),
    ),
    "not merged": ("both_lanes", (IN_ATTENTION, JOIN, JOIN.replace("self.merge", "self.o_proj"))),
}

LANES = {
    "no cache in the keys": ("shapes_foretold", (IN_FORETOLD, SIZES, "keys, rows = q, q - first")),
    "all rows written out": ("shapes_foretold", (IN_FORETOLD, SIZES, "keys, rows = past + q, q")),
    "keys repeated": ("shapes_foretold", (IN_FORETOLD, "(b, g, keys, d)", "(b, h, keys, d)")),
    "a mask for each head": ("shapes_foretold", (IN_FORETOLD, "(b, 1, rows, keys)", "(b, h, rows, keys)")),
    "all is well": ("failing_layers", (IN_EXPLAINED, RIGHT_OR_PLAIN, 'return "right"')),
    "always inactive": ("failing_layers", (IN_EXPLAINED, RIGHT_OR_PLAIN, 'return "mixed by the plain weights"')),
    "equal, not close": (
        "failing_layers",
        (IN_EXPLAINED, "mixed = case.weights @ case.values", "mixed = 1.001 * (case.weights @ case.values)"),
    ),
    "plain weights that see what is hidden": (
        "failing_layers",
        (IN_EXPLAINED, "case.weights.masked_select(~case.visible)", "case.plain.masked_select(~case.visible)"),
    ),
    "the mask turned round": (
        "failing_layers",
        (IN_EXPLAINED, "case.weights.masked_select(~case.visible)", "case.weights.masked_select(case.visible)"),
    ),
    "lanes never in the wrong order": (
        "failing_layers",
        (IN_EXPLAINED, "torch.allclose(case.joined[:, :, : case.fast.shape[2]], case.fast, atol=1e-5)", "True"),
    ),
}

RIGHT_ANSWERS = {
    "explained by the largest difference": (
        (
            IN_EXPLAINED,
            "torch.allclose(case.joined[:, :, case.fast.shape[2] :], mixed, atol=1e-5)",
            "(case.joined[:, :, case.fast.shape[2] :] - mixed).abs().max() < 1e-4",
        ),
    ),
    "explained by the weights that are seen": (
        (
            IN_EXPLAINED,
            "case.weights.masked_select(~case.visible).any()",
            "not torch.equal(case.weights * case.visible, case.weights)",
        ),
    ),
    "a mask from positions": (
        (IN_CAUSAL_MASK, "(key < query) & both | (key == query)", "(key <= query) & both | (key == query)"),
    ),
    "repeat_interleave": ((IN_REPEAT_HEADS, REPEAT, "x.repeat_interleave(group, dim=1)"),),
    "expand and flatten": ((IN_REPEAT_HEADS, REPEAT, "x[:, :, None].expand(-1, -1, group, -1, -1).flatten(1, 2)"),),
    "view and transpose": ((IN_ATTENTION_PROJECT, PROJECT, "p.view(*x.shape[:2], -1, self.head_dim).transpose(1, 2)"),),
    "transpose and flatten": ((IN_ATTENTION_MERGE, MERGE, "self.o_proj(heads.transpose(1, 2).flatten(2))"),),
    "keys repeated for the kernel": (
        (
            IN_FUSED_ATTENTION,
            FUSED,
            "F.scaled_dot_product_attention(q, *(x.repeat_interleave(q.shape[1] // x.shape[1], 1) for x in (k,"
            " v)), mask)",
        ),
    ),
    "a mask of 0 and -inf": (
        (
            IN_FUSED_ATTENTION,
            FUSED,
            "F.scaled_dot_product_attention(q, k, v, attn_mask=torch.zeros(mask.shape,"
            ' dtype=q.dtype).masked_fill(~mask, float("-inf")), enable_gqa=q.shape[1] != k.shape[1])',
        ),
    ),
    "queries scaled first": ((IN_ATTENTION_WEIGHTS, SCORES, "(rows * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)"),),
    "scores in fp32": (
        (IN_ATTENTION_WEIGHTS, SCORES, "rows.float() @ k.float().transpose(-1, -2) * q.shape[-1] ** -0.5"),
    ),
    "einsum": ((IN_ATTENTION_WEIGHTS, SCORES, 'torch.einsum("bhqd,bhkd->bhqk", rows, k) / q.shape[-1] ** 0.5'),),
    "hidden by the least number": ((IN_ATTENTION_WEIGHTS, 'float("-inf")', "torch.finfo(scores.dtype).min"),),
    "softmax by hand, in fp32": (
        (
            IN_ATTENTION_WEIGHTS,
            SOFTMAX,
            "((e := (scores.float() - scores.float().amax(-1, True)).exp()) / e.sum(-1, keepdim=True)).to(q.dtype)",
        ),
    ),
    "other stripes": ((IN_ATTENTION_FILE, "STRIPE = 128", "STRIPE = 37"),),
    "the fused kernel on no rows, too": ((IN_ATTENTION, f"{FAST} if first else q[:, :, :0]", FAST),),
}
ANSWERS = Answers(
    "a3",
    frozenset(QUICK),
    {
        "mask": (MASKS, "heads_share heads_apart"),
        "heads": (HEADS, "who_may_see fused"),
        "kernel": (KERNELS, "who_may_see heads_share"),
        "weights": (WEIGHTS, "who_may_see heads_share"),
        "forward": (FORWARD, "who_may_see written_out"),
        "lanes": (LANES, "who_may_see fused"),
    },
    RIGHT_ANSWERS,
)
TELLING = (
    "mask: aligned to the first key",
    "heads: tiled, not repeated",
    "kernel: no mask",
    "weights: not scaled",
    "forward: CLVA before EAH",
)


# what the limits say: the test, how it ends, exchanges
MEASURED_ANSWERS = {
    "small maps all at once": ("test_many_small_maps", "ran", (IN_ATTENTION_FILE, "STRIPE = 128", "STRIPE = 10**6")),
    "small maps by where": (
        "test_many_small_maps",
        "ran",
        (IN_ATTENTION_WEIGHTS, HIDE, 'torch.where(seen, scores, float("-inf"))'),
    ),
    "small maps by einsum, in fp32": (
        "test_many_small_maps",
        "ran",
        (IN_ATTENTION_WEIGHTS, SCORES, 'torch.einsum("bhqd,bhkd->bhqk", rows.float(), k.float()) / q.shape[-1] ** 0.5'),
    ),
    "small maps by baddbmm": (
        "test_many_small_maps",
        "ran",
        (
            IN_ATTENTION_WEIGHTS,
            SCORES,
            "torch.baddbmm(torch.zeros(1), rows.flatten(0, 1), k.flatten(0, 1).mT, beta=0, alpha=q.shape[-1]"
            " ** -0.5).view(*rows.shape[:3], -1)",
        ),
    ),
    "small maps by e^x": (
        "test_many_small_maps",
        "ran",
        (
            IN_ATTENTION_WEIGHTS,
            SOFTMAX,
            "((e := (scores.float() - scores.float().amax(-1, True)).exp()) / e.sum(-1, keepdim=True)).to(q.dtype)",
        ),
    ),
    "small maps by single rows": (
        "test_many_small_maps",
        "too slow",
        (IN_ATTENTION_FILE, "STRIPE = 128", "STRIPE = 1"),
    ),
    "a large map as it is": ("test_memory_of_a_map", "ran"),
    "a large map by larger stripes": (
        "test_memory_of_a_map",
        "ran",
        (IN_ATTENTION_FILE, "STRIPE = 128", "STRIPE = 300"),
    ),
    "a large map all at once": (
        "test_memory_of_a_map",
        "too much memory",
        (IN_ATTENTION_FILE, "STRIPE = 128", "STRIPE = 10**6"),
    ),
    "a row as it is": ("test_one_row_costs_one_row", "ran"),
    "a row of all rows": (
        "test_one_row_costs_one_row",
        "too much memory",
        (
            IN_ATTENTION,
            FIRST,
            "first = call.first_visible_row(self.layer, q.shape[2])\nfirst = first if first == q.shape[2] else 0",
        ),
    ),
}


@pytest.fixture(scope="module")
def found():
    """Verdicts on all of them, from one process."""
    return ANSWERS.judged()


def test_the_reference_is_right(found):
    assert set(states(found, WHOLE).values()) == {RIGHT}


def test_holes_are_open(found):
    assert set(states(found, HOLLOW).values()) == {OPEN}


@pytest.mark.parametrize("answer", ANSWERS.wrong)
def test_a_wrong_answer_is_found(found, answer):
    ANSWERS.check_wrong(found, answer)


@pytest.mark.parametrize("answer", RIGHT_ANSWERS)
def test_another_right_answer_is_right(found, answer):
    assert faults(found[answer]) == {}


def test_another_seed_judges_alike():
    """Chance must neither save a wrong answer nor spoil a right one: some of each, on other inputs."""
    found = ANSWERS.judged(TELLING, "another seed")
    for name in TELLING:
        ANSWERS.check_wrong(found, name)
    assert all(faults(found[name]) == {} for name in RIGHT_ANSWERS.keys() & found.keys())


@pytest.fixture(scope="module")
def measured():
    """What came of all of them, from one process.

    What is right has the time that students have. What is too slow is so even with the least time that there is,
    or a fast machine would not tell.
    """
    limits = {task.test: task.seconds for task in ROW.tasks}
    seconds = {
        answer: {test: LEAST if status == "too slow" else limits[test]}
        for answer, (test, status, *_) in MEASURED_ANSWERS.items()
    }
    return endings(ROW.name, {answer: changed(*row[2:]) for answer, row in MEASURED_ANSWERS.items()}, seconds)


@pytest.mark.slow
@pytest.mark.parametrize("answer", MEASURED_ANSWERS)
def test_limits_tell_solutions_apart(measured, answer):
    """What is right but too large or too slow, and what is neither."""
    test, status, *_ = MEASURED_ANSWERS[answer]
    assert measured[answer][test].status == status, measured[answer]
