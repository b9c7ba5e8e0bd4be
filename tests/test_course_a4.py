"""Assignment a4: the reference is green, holes are open, known wrong answers are red and other right ones green.

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

ROW = assignment("a4")
QUICK = (
    {task.test for task in ROW.tasks}
    - {"test_many_small_maps"}
    - {
        "test_scores_of_a_long_prompt",
        "test_broadcast_in_a_long_prompt",
    }
)  # the others take long, and what they hold is measured below

SINKS, EAH, WITHOUT_MAP = "model/sinks.py", "model/eah.py", "model/without_map.py"
WIDE = "wide = torch.promote_types(weights.dtype, torch.float32)"
SUM = "scores = sum(stripe.sum(dim=2, dtype=wide) for stripe in weights.split(SUMMED_ROWS, dim=2))  # B H K"
ROWS = "rows = mask.sum(dim=2)  # B 1 K"
OWN = "scores[..., past:] -= weights.diagonal(offset=past, dim1=2, dim2=3)"
OWN_ROW = "rows[..., past:] -= mask.diagonal(offset=past, dim1=2, dim2=3).long()"
MEAN = "return scores.clamp(min=0) / rows.clamp(min=1)"
SINK = "return (scores > threshold) & image[:, None]"
DENSITY = "return sinks.sum(dim=-1) / image.sum(dim=-1, keepdim=True).clamp(min=1)"
PROMPT = "    rows = layout.prompt_rows\n"
COLUMNS = "columns = layout.past + rows"
SCORES = "scores = vision_sink_scores(weights[:, :, :rows, :columns], mask[:, :, :rows, :columns])  # B H K"
COUNTS = "counts = sinks_per_head(vision_sinks(scores, layout.image[:, :columns], eah.threshold))  # B H"
NONE = "return torch.where(counts.any(dim=1), chosen_head(counts, eah), -1)"
DICE = "generator = torch.Generator().manual_seed(eah.seed)"
RANDOM = "return torch.randint(heads, (1,), generator=generator).to(counts.device).expand(batch)"
ORDER = "order = counts.argsort(dim=1, descending=True, stable=True)"
PICK = 'return order[:, min(1, heads - 1) if eah.head == "second" else 0]'
MAP = "map_ = weights[samples, head.clamp(min=0), None]  # B 1 Q K"
TOUCHED = "touched = rows & (head >= 0)[:, None]  # B Q"
GIVE = "return torch.where(touched[:, None, :, None], map_, weights)"
VALID = "rows = layout.attention_mask[:, layout.past :]  # B Q"
PASS = "rows = rows & (torch.arange(layout.queries, device=rows.device) < layout.prompt_rows)"
HEAD = "head = densest_head(weights, mask, layout, eah) if layout.prompt_rows else kept"
REFUSE = "    if head is None:\n        raise ConfigError("
LATER = "later = seen & (column != own)"
ADD = "scores = scores + (weights * later).sum(dim=2, dtype=wide)"
WEIGHTS = "weights = attention_weights(stripe, k, seen)"
SOURCE = "source = torch.where(head[:, None] < 0, own, head[:, None])"
LATER_ROWS = "column = torch.arange(weights.shape[3])\n    later = mask & (column < column[past:, None])\n"
FUSED = "return fused_attention(q[sample, source], k[sample, source // group], repeat_heads(v, group), mask)"

# what is wrong: file, what stands there, what stands there instead, the tasks that must go red (others may)
SCORE = {
    "the diagonal counts": (SINKS, OWN, "pass", "by_hand padded"),
    "the diagonal is counted as a row": (SINKS, OWN_ROW, "pass", "by_hand padded"),
    "the diagonal begins at the first column": (
        SINKS,
        OWN,
        "scores[..., : weights.shape[2]] -= weights.diagonal(dim1=2, dim2=3)",
        "by_hand padded",
    ),
    "divided by all rows": (SINKS, MEAN, "return scores.clamp(min=0) / weights.shape[2]", "by_hand padded"),
    "divided by all columns": (SINKS, MEAN, "return scores.clamp(min=0) / weights.shape[3]", "by_hand padded"),
    "divided by the rows below, padding or not": (
        SINKS,
        MEAN,
        "return scores.clamp(min=0) / torch.arange(weights.shape[3] - 1, -1, -1).clamp(1, weights.shape[2])",
        "padded",
    ),
    "not divided": (SINKS, MEAN, "return scores.clamp(min=0)", "by_hand"),
    "nan without a later row": (SINKS, "rows.clamp(min=1)", "rows", "by_hand"),
    "the first sample's rows for all": (SINKS, MEAN, MEAN.replace("rows.", "rows[:1]."), "padded"),
    "a mean over the batch, too": (
        SINKS,
        MEAN,
        MEAN.replace("return ", "scores = scores.mean(0, True).expand_as(scores)\n    return "),
        "padded",
    ),
    "a mean over the heads, too": (
        SINKS,
        MEAN,
        MEAN.replace("return ", "scores = scores.mean(1, True).expand_as(scores)\n    return "),
        "by_hand",
    ),
    "what a row gives, not what a column gets": (
        SINKS,
        "stripe.sum(dim=2, dtype=wide) for stripe in weights.split",
        "stripe.sum(dim=2, dtype=wide) for stripe in weights.mT.split",
        "by_hand padded",
    ),
    "the largest instead of the mean": (
        SINKS,
        SUM,
        "scores = weights.tril(weights.shape[3] - weights.shape[2] - 1).amax(2).to(wide) * mask.sum(2)",
        "by_hand padded",
    ),
    "the last row alone": (SINKS, SUM, "scores = weights[:, :, -1].to(wide).clone()", "by_hand padded"),
    "a sum in half precision": (SINKS, ", dtype=wide)", ")", "half"),
    "a mean in half precision": (
        SINKS,
        MEAN,
        MEAN.replace("return ", "return (").replace("clamp(min=1)", "clamp(min=1)).to(weights.dtype)"),
        "half",
    ),
    "fp64 is rounded": (SINKS, WIDE, "wide = torch.float32", "half"),
    "the weights lose their diagonal": (
        SINKS,
        WIDE,
        WIDE + "\n    weights.diagonal(offset=past, dim1=2, dim2=3).zero_()",
        "half",
    ),
    "the mask loses its diagonal": (
        SINKS,
        WIDE,
        WIDE + "\n    mask.diagonal(offset=past, dim1=2, dim2=3).zero_()",
        "half",
    ),
    "sinks at the threshold": (SINKS, SINK, SINK.replace(">", ">="), "density densest_head"),
    "every column may be a sink": (SINKS, SINK, "return scores > threshold", "density densest_head"),
    "a slice that ends one column short": (
        SINKS,
        SINK,
        "end = image.shape[1] - image.flip(1).int().argmax(1, keepdim=True) - 1\n"
        "    return (scores > threshold) & (image & (torch.arange(image.shape[1]) < end))[:, None]",
        "density densest_head",
    ),
    "a slice from the first to the last patch": (
        SINKS,
        SINK,
        "reached = image.cumsum(1) > 0\n    left = image.flip(1).cumsum(1).flip(1) > 0\n"
        "    return (scores > threshold) & (reached & left)[:, None]",
        "density",
    ),
    "a picture that always begins at 35": (
        SINKS,
        SINK,
        "return (scores > threshold) & (torch.arange(image.shape[1]) >= 35) & image.any(1)[:, None, None]",
        "density densest_head",
    ),
    "the first sample's patches": (
        SINKS,
        SINK,
        SINK.replace("image[", "image[:1][").replace("[:, None]", "[:, None]"),
        "density",
    ),
    "without a place for the heads": (SINKS, SINK, SINK.replace("image[:, None]", "image"), "density"),
    "a share of all tokens": (SINKS, DENSITY, "return sinks.sum(dim=-1) / sinks.shape[-1]", "density"),
    "a number, not a share": (SINKS, DENSITY, "return sinks.sum(dim=-1).float()", "density"),
    "nan without a picture": (
        SINKS,
        ".sum(dim=-1, keepdim=True).clamp(min=1)",
        ".sum(dim=-1, keepdim=True)",
        "density",
    ),
    "a share of the first sample's patches": (SINKS, DENSITY, DENSITY.replace("image.sum", "image[:1].sum"), "density"),
    "a share of the layer's patches": (
        SINKS,
        DENSITY,
        DENSITY.replace(" / image", " / sinks.shape[1] / image"),
        "density",
    ),
}

CHOICE = {
    "ties go to the highest": (
        EAH,
        ORDER,
        "order = (counts.shape[1] - 1) - counts.flip(1).argsort(dim=1, descending=True, stable=True)",
        "chosen",
    ),
    "an order that is not stable": (EAH, ", stable=True)", ")", "chosen"),
    "the sparsest head": (EAH, "descending=True", "descending=False", "chosen densest_head"),
    "the second by value, not by place": (
        EAH,
        ORDER,
        "if eah.head == 'second' and heads > 1:\n"
        "        return counts.masked_fill(counts == counts.amax(1, True), -1).argmax(1)\n"
        "    order = counts.argsort(dim=1, descending=True, stable=True)",
        "chosen",
    ),
    "no second of one": (EAH, "min(1, heads - 1)", "1", "chosen"),
    "head 0 is skipped": (
        EAH,
        ORDER,
        "order = counts[:, 1:].argsort(dim=1, descending=True, stable=True) + 1",
        "chosen densest_head",
    ),
    "the first sample's head for all": (EAH, PICK, PICK + "[:1].expand(batch)", "chosen densest_head"),
    "the head of the whole batch": (
        EAH,
        ORDER,
        ORDER.replace("counts.", "counts.sum(0, True).expand_as(counts)."),
        "chosen",
    ),
    "another random head for each sample": (
        EAH,
        RANDOM,
        "return torch.randint(heads, (batch,), generator=generator)",
        "chosen",
    ),
    "dice of everybody": (EAH, DICE, "generator = torch.manual_seed(eah.seed)", "chosen"),
    "dice without a seed": (EAH, DICE, "generator = None", "chosen"),
    "always the same random head": (EAH, RANDOM, "return torch.zeros(batch, dtype=torch.long)", "chosen"),
    "never the last head": (EAH, RANDOM, "return torch.full((batch,), eah.seed % 7)", "chosen"),
    "no head is head 0": (EAH, NONE, "return chosen_head(counts, eah)", "densest_head eah"),
    "one sample without a sink stops all": (
        EAH,
        NONE,
        "return chosen_head(counts, eah) if counts.any(dim=1).all() else torch.full((len(counts),), -1)",
        "densest_head eah",
    ),
    "the answer's rows vote, too": (EAH, PROMPT, "    rows = layout.queries\n", "densest_head eah"),
    "columns counted without the cache": (EAH, COLUMNS, "columns = rows", "densest_head eah"),
    "all columns, but the prompt's rows": (EAH, COLUMNS, "columns = layout.image.shape[1]", "densest_head"),
    "sums over heads decide": (
        EAH,
        COUNTS,
        "counts = (scores * layout.image[:, None, :columns]).sum(dim=-1)",
        "densest_head",
    ),
}

BROADCAST = {
    "head 0 for all samples": (EAH, MAP, "map_ = weights[:, :1]", "one_head eah"),
    "the first sample's head for all samples": (EAH, MAP, MAP.replace("head.", "head[:1]."), "one_head eah"),
    "the first sample's map for all samples": (
        EAH,
        MAP,
        "map_ = weights[:1, head.clamp(min=0)[0], None]",
        "one_head eah",
    ),
    "head 0 is never broadcast": (EAH, TOUCHED, TOUCHED.replace(">= 0", "> 0"), "one_head"),
    "-1 means the last head": (EAH, TOUCHED, "touched = rows", "one_head eah"),
    "only the first sample": (
        EAH,
        TOUCHED,
        TOUCHED + "\n    touched = touched & (samples == 0)[:, None]",
        "one_head eah",
    ),
    "all rows": (EAH, TOUCHED, "touched = (head >= 0)[:, None].expand_as(rows)", "one_head eah"),
    "one sample left alone, all left alone": (EAH, TOUCHED, "touched = rows & (head >= 0).all()", "one_head eah"),
    "the given weights are changed": (
        EAH,
        GIVE,
        GIVE.replace("return ", "weights.copy_(").replace("weights)", "weights.clone()))") + "\n    return weights",
        "one_head eah",
    ),
    "columns instead of rows": (EAH, GIVE, GIVE.replace("[:, None, :, None]", "[:, None, None, :]"), "one_head eah"),
    "the others are set to 0": (EAH, GIVE, GIVE.replace("weights)", "torch.zeros_like(weights))"), "one_head eah"),
    "added to the others": (EAH, GIVE, GIVE.replace("map_,", "(map_ + weights) / 2,"), "one_head eah"),
    "rounded on the way": (EAH, GIVE, GIVE.replace("map_,", "map_.half().to(weights.dtype),"), "one_head"),
    "the patches' columns alone": (
        EAH,
        "return broadcast_head(weights, head, rows), head",
        "found = broadcast_head(weights, head, rows)\n"
        "    return torch.where(layout.image[:, None, None], found, weights), head",
        "eah",
    ),
    "the first columns' padding": (EAH, VALID, "rows = layout.attention_mask[:, : layout.queries]", "eah"),
    "generated rows always change": (EAH, PASS, "pass", "eah"),
    "generated rows never change": (EAH, 'if eah.decode == "pass":', "if True:", "eah"),
    "the prompt's rows counted from the end": (
        EAH,
        PASS,
        PASS.replace("< layout.prompt_rows", ">= layout.queries - layout.prompt_rows"),
        "eah",
    ),
    "the kept head is not used": (EAH, HEAD, HEAD.replace(" if layout.prompt_rows else kept", ""), "eah"),
    "the kept head is used at the prompt": (
        EAH,
        HEAD,
        "head = kept if kept is not None else densest_head(weights, mask, layout, eah)",
        "eah",
    ),
    "the kept head wins over the prompt's": (
        EAH,
        HEAD,
        "head = kept if kept is not None or not layout.prompt_rows else densest_head(weights, mask, layout, eah)",
        "eah",
    ),
    "the layout loses its answer": (
        EAH,
        PASS,
        "rows[:, layout.prompt_rows :] = False",
        "eah",
    ),
    "the layout loses its padding": (
        EAH,
        "rows = layout.prompt_rows\n    columns",
        "rows = layout.prompt_rows\n    layout.attention_mask[:, 0] = True\n    columns",
        "eah",
    ),
    "the prompt's weights are changed": (
        EAH,
        "return broadcast_head(weights, head, rows), head",
        "weights.copy_(broadcast_head(weights, head, rows))\n    return weights, head",
        "eah",
    ),
    "an unknown head is none": (
        EAH,
        REFUSE,
        "    if head is None:\n        head = torch.full((len(weights),), -1)\n"
        "    if False:\n        raise ConfigError(",
        "eah",
    ),
    "an unknown head is looked for": (
        EAH,
        REFUSE,
        "    if head is None:\n        head = densest_head(weights, mask, layout, eah)\n"
        "    if False:\n        raise ConfigError(",
        "eah",
    ),
    "the head is not told": (EAH, "rows), head", "rows), torch.zeros_like(head)", "eah"),
}

WITHOUT_A_MAP = {
    "the diagonal counts": (WITHOUT_MAP, LATER, "later = seen", "scores_without"),
    "the diagonal begins at the first column": (
        WITHOUT_MAP,
        "diagonal = column[-q.shape[2] :, None]",
        "diagonal = column[: q.shape[2], None]",
        "scores_without",
    ),
    "rows of the last stripe alone": (WITHOUT_MAP, "rows = rows + later", "rows = later", "scores_without"),
    "weights of the last stripe alone": (WITHOUT_MAP, ADD, ADD.replace("scores + ", ""), "scores_without"),
    "divided by all rows": (WITHOUT_MAP, "rows.clamp(min=1)", "q.shape[2]", "scores_without"),
    "nan without a later row": (WITHOUT_MAP, "rows.clamp(min=1)", "rows", "scores_without"),
    "a sum in half precision": (WITHOUT_MAP, ADD, ADD.replace("dtype=wide", "dtype=q.dtype"), "scores_without"),
    "a softmax over the stripe's own columns": (
        WITHOUT_MAP,
        WEIGHTS,
        "n = stripe.shape[2]\n        weights = attention_weights(stripe, k[:, :, :n], seen[..., :n])\n"
        "        weights = torch.cat((weights, weights.new_zeros(*weights.shape[:3], k.shape[2] - n)), dim=3)",
        "scores_without",
    ),
    "groups in the wrong order": (
        WITHOUT_MAP,
        "k = repeat_heads(k, q.shape[1] // k.shape[1])",
        "k = k.repeat(1, q.shape[1] // k.shape[1], 1, 1)",
        "scores_without",
    ),
    "sums, then one softmax": (
        WITHOUT_MAP,
        WEIGHTS,
        "weights = attention_weights(stripe.mean(dim=2, keepdim=True).expand_as(stripe), k, seen)",
        "scores_without",
    ),
    "v of the chosen head, too": (
        WITHOUT_MAP,
        FUSED,
        FUSED.replace("repeat_heads(v, group)", "repeat_heads(v, group)[sample, source]"),
        "broadcast_without together",
    ),
    "q alone": (
        WITHOUT_MAP,
        FUSED,
        FUSED.replace("k[sample, source // group]", "repeat_heads(k, group)"),
        "broadcast_without together",
    ),
    "k alone": (WITHOUT_MAP, FUSED, FUSED.replace("q[sample, source]", "q"), "broadcast_without together"),
    "k of head n, not of its group": (WITHOUT_MAP, "source // group", "source % k.shape[1]", "broadcast_without"),
    "the first sample's head": (
        WITHOUT_MAP,
        SOURCE,
        "source = torch.where(head[:, None] < 0, own, head[:1, None])",
        "broadcast_without together",
    ),
    "-1 means the last head": (
        WITHOUT_MAP,
        SOURCE,
        "source = head[:, None].expand(-1, len(own)) % len(own)",
        "broadcast_without together",
    ),
    "-1 means head 0": (
        WITHOUT_MAP,
        SOURCE,
        "source = head[:, None].clamp(min=0).expand(-1, len(own))",
        "broadcast_without together",
    ),
    "head 0 is left alone": (WITHOUT_MAP, SOURCE, SOURCE.replace("< 0", "<= 0"), "broadcast_without"),
    "a causal mask of its own": (
        WITHOUT_MAP,
        FUSED,
        FUSED.replace("mask)", "torch.ones_like(mask).tril())"),
        "broadcast_without",
    ),
    "no gradient": (
        WITHOUT_MAP,
        FUSED,
        FUSED.replace("q[sample, source]", "q.detach()[sample, source]"),
        "broadcast_without",
    ),
    "no gradient to the values": (
        WITHOUT_MAP,
        FUSED,
        FUSED.replace("repeat_heads(v,", "repeat_heads(v.detach(),"),
        "broadcast_without",
    ),
}
WRONG_ANSWERS = SCORE | CHOICE | {f"broadcast: {name}": row for name, row in BROADCAST.items()}
WRONG_ANSWERS |= {f"without a map: {name}": row for name, row in WITHOUT_A_MAP.items()}

# other right answers: file, what stands there, what stands there instead
RIGHT_ANSWERS = {
    "padding is given the map, too: it sees itself through any": (
        EAH,
        VALID,
        "rows = torch.ones_like(layout.attention_mask[:, layout.past :])",
    ),
    "the lower triangle": (
        SINKS,
        SUM,
        "return weights.to(wide).tril(past - 1).sum(dim=2) / mask.tril(past - 1).sum(dim=2).clamp(min=1)",
    ),
    "einsum with the mask": (
        SINKS,
        SUM,
        "later = (mask & ~torch.ones_like(mask).triu(past))[:, 0].to(wide)\n"
        "    return torch.einsum('bhqk,bqk->bhk', weights.to(wide), later) / later.sum(1)[:, None].clamp(min=1)",
    ),
    "masked_fill, all at once": (
        SINKS,
        SUM,
        f"{LATER_ROWS}    return weights.masked_fill(~later, 0).sum(dim=2, dtype=wide) / later.sum(dim=2).clamp(min=1)",
    ),
    "where, all at once": (
        SINKS,
        SUM,
        f"{LATER_ROWS}    given = torch.where(later, weights, 0).to(wide)\n"
        "    return given.sum(dim=2) / later.sum(dim=2).clamp(min=1)",
    ),
    "masked_fill, in stripes": (
        SINKS,
        SUM,
        f"{LATER_ROWS}    scores = rows = 0\n"
        "    for stripe, seen in zip(weights.split(SUMMED_ROWS, dim=2), later.split(SUMMED_ROWS, dim=2)):\n"
        "        scores = scores + stripe.masked_fill(~seen, 0).sum(dim=2, dtype=wide)\n"
        "        rows = rows + seen.sum(dim=2)\n"
        "    return scores / rows.clamp(min=1)",
    ),
    "a column after the other": (
        SINKS,
        SUM,
        "later = mask.tril(past - 1)\n    n = later.sum(2).clamp(min=1)\n"
        "    found = [(weights[..., y] * later[..., y]).sum(-1, dtype=wide) for y in range(weights.shape[3])]\n"
        "    return torch.stack(found, -1) / n",
    ),
    "a sink by multiplication": (SINKS, SINK, "return (scores * image[:, None]) > threshold"),
    "density by a mean": (
        SINKS,
        DENSITY,
        "return sinks.float().mean(-1) * image.shape[1] / image.float().sum(-1, True).clamp(min=1)",
    ),
    "argmax for the densest": (
        EAH,
        ORDER,
        "if eah.head == 'densest':\n        return counts.argmax(dim=1)\n"
        "    order = counts.argsort(dim=1, descending=True, stable=True)",
    ),
    "a key that breaks ties": (
        EAH,
        ORDER,
        "order = (counts * heads - torch.arange(heads)).argsort(dim=1, descending=True)",
    ),
    "another way to throw dice": (EAH, RANDOM, "return torch.rand(heads, generator=generator).argmax().expand(batch)"),
    "Python's dice": (
        EAH,
        RANDOM,
        "import random\n        return torch.full((batch,), random.Random(eah.seed).randrange(heads))",
    ),
    "a clone and a loop over samples": (
        EAH,
        GIVE,
        "out = weights.clone()\n    for b, n in enumerate(head.tolist()):\n        if n >= 0:\n"
        "            out[b][:, rows[b]] = weights[b, n, rows[b]]\n    return out",
    ),
    "gather": (
        EAH,
        MAP,
        "map_ = weights.gather(1, head.clamp(min=0)[:, None, None, None].expand(-1, 1, *weights.shape[2:]))",
    ),
    "other stripes": (
        WITHOUT_MAP,
        "import STRIPE, attention_weights, fused_attention, repeat_heads\n",
        "import attention_weights, fused_attention, repeat_heads\n\nSTRIPE = 50\n",
    ),
    "a sample after the other": (
        WITHOUT_MAP,
        FUSED,
        "k, numbers = repeat_heads(k, group), list(enumerate(head.tolist()))\n"
        "    q = torch.stack([q[b] if n < 0 else q[b, n].expand_as(q[b]) for b, n in numbers])\n"
        "    k = torch.stack([k[b] if n < 0 else k[b, n].expand_as(k[b]) for b, n in numbers])\n"
        "    return fused_attention(q, k, repeat_heads(v, group), mask)",
    ),
    "both ways, then one of them": (
        WITHOUT_MAP,
        FUSED,
        "n = head.clamp(min=0)[:, None]\n    k, v = repeat_heads(k, group), repeat_heads(v, group)\n"
        "    given = fused_attention(q[sample, n].expand_as(q), k[sample, n].expand_as(k), v, mask)\n"
        "    return torch.where((head >= 0)[:, None, None, None], given, fused_attention(q, k, v, mask))",
    ),
}

TELLING = (
    "divided by all rows",
    "sinks at the threshold",
    "ties go to the highest",
    "the answer's rows vote, too",
    "broadcast: -1 means the last head",
    "without a map: k of head n, not of its group",
)

COLUMN_BY_COLUMN = RIGHT_ANSWERS["a column after the other"]
ROW_BY_ROW = "scores = 0\n    for x in range(weights.shape[2]):\n        scores = scores + weights[:, :, x].to(wide)"
GROUPED = "k = repeat_heads(k, q.shape[1] // k.shape[1])"
IMPORTED = "from minivlm.model.sinks import vision_sink_scores\n    "
A_HEAD = "vision_sink_scores(attention_weights(q[:, [h]], k[:, [h]], mask), mask)"
GROUP = "group = q.shape[1] // k.shape[1]"
WRITTEN = "weights = attention_weights(q, repeat_heads(k, group), mask)[:, head].expand(-1, q.shape[1], -1, -1)"
SMALL, SCORED, MIXED = "test_many_small_maps", "test_scores_of_a_long_prompt", "test_broadcast_in_a_long_prompt"
# right, but perhaps too slow or too large: test, file, what stands there, what stands there instead, status
MEASURED_ANSWERS = {
    "small maps by einsum": (SMALL, *RIGHT_ANSWERS["einsum with the mask"], "ran"),
    "small maps by masked_fill": (SMALL, *RIGHT_ANSWERS["masked_fill, all at once"], "ran"),
    "small maps by masked stripes": (SMALL, *RIGHT_ANSWERS["masked_fill, in stripes"], "ran"),
    "small maps by single columns": (SMALL, *COLUMN_BY_COLUMN, "too slow"),
    "small maps by single rows": (SMALL, SINKS, SUM, ROW_BY_ROW, "too slow"),
    "scores as they are": (SCORED, WITHOUT_MAP, GROUPED, GROUPED, "ran"),
    "scores of the whole map": (
        SCORED,
        WITHOUT_MAP,
        GROUPED,
        f"{IMPORTED}{GROUPED}\n    return vision_sink_scores(attention_weights(q, k, mask), mask)",
        "too much memory",
    ),
    "scores of a head at a time": (
        SCORED,
        WITHOUT_MAP,
        GROUPED,
        f"{IMPORTED}{GROUPED}\n    return torch.cat([{A_HEAD} for h in range(q.shape[1])], dim=1)",
        "too much memory",
    ),
    "the mix as it is": (MIXED, WITHOUT_MAP, GROUP, GROUP, "ran"),
    "the mix of the whole map": (
        MIXED,
        WITHOUT_MAP,
        GROUP,
        f"{GROUP}\n    if len(q) == 1:\n        {WRITTEN}\n        return weights @ repeat_heads(v, group)",
        "too much memory",
    ),
}


@pytest.fixture(scope="module")
def found():
    """Verdicts on all of them, from one process."""
    answers = {
        name: replaced(file, (old, new)) for name, (file, old, new, *_) in (WRONG_ANSWERS | RIGHT_ANSWERS).items()
    }
    return verdicts("a4", answers | {WHOLE: WHOLE, HOLLOW: HOLLOW}, QUICK)


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
    found = verdicts("a4", wrong | right, QUICK, "another seed")
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
