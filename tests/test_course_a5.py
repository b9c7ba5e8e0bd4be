"""Assignment a5: the reference is green, holes are open, known wrong answers are red and other right ones green.

A wrong answer is an exchange in `minivlm/model/clva.py`: what stands there, what stands there instead (several, if need
be), and the tasks that must go red (others may).
"""

import pytest

from minivlm.course.assignments import assignment
from minivlm.course.package import PACKAGE
from minivlm.course.project import KIT
from minivlm.course.reference import LEAST, seed_of
from minivlm.course.supervise import Job, supervise
from minivlm.course.verdict import OPEN, RIGHT
from support.course_tools import HOLLOW, SEED, WHOLE, faults, replaced, states, verdicts, write_version

ROW = assignment("a5")
WIDENED, AT_ONCE = "test_the_picture_alone_is_widened", "test_all_rows_at_once"
QUICK = {task.test for task in ROW.tasks} - {WIDENED, AT_ONCE}  # the limits of these two are tested last
NOISE = "    noise = early.mean(dim=0)"
CLONE = "    patches, changed = changed, weights.clone()\n    changed[..., span] = patches"

POOLED = {
    "heads not chosen, all are taken": (
        "    return normalised((on_patches * chosen[..., None]).sum(dim=1))",
        "    return normalised(on_patches.sum(dim=1))",
        "pooled_map gate_of_a_batch",
    ),
    "each head's map normalised, then their mean": (
        "    return normalised((on_patches * chosen[..., None]).sum(dim=1))",
        "    return normalised((normalised(on_patches) * chosen[..., None]).sum(dim=1))",
        "pooled_map pooled_map_of_a_batch",
    ),
    "the heads that look least": (
        "mass.topk(most, dim=1)",
        "mass.topk(most, dim=1, largest=False)",
        "pooled_map",
    ),
    "one choice of heads for all rows": (
        "chosen = torch.zeros_like(mass).scatter(1, mass.topk(most, dim=1).indices, 1.0)",
        "top = mass.mean(dim=2, keepdim=True).topk(most, dim=1).indices\n"
        "    chosen = torch.zeros_like(mass).scatter(1, top.expand(-1, -1, mass.shape[2]), 1.0)",
        "pooled_map pooled_map_of_a_batch",
    ),
    "the first sample's heads for all samples": (
        "mass.topk(most, dim=1).indices",
        "mass[:1].topk(most, dim=1).indices.expand(len(mass), -1, -1)",
        "pooled_map_of_a_batch",
    ),
    "the number of heads rounded down": (
        "math.ceil(heads * mass.shape[1] - SLACK)",
        "max(1, int(heads * mass.shape[1]))",
        "pooled_map",
    ),
    "a head too many, by rounding of floats": (
        "heads * mass.shape[1] - SLACK",
        "heads * mass.shape[1]",
        "pooled_map",
    ),
    "text between the pictures counts as a picture": (
        "    on_patches = at_least_fp32(weights[..., layout.span]) * layout.patches  # B H R P",
        "    on_patches = at_least_fp32(weights[..., layout.span])",
        "pooled_map_of_a_batch",
    ),
    "the first sample's patches for all samples": (
        "    on_patches = at_least_fp32(weights[..., layout.span]) * layout.patches  # B H R P",
        "    on_patches = at_least_fp32(weights[..., layout.span]) * layout.patches[:1]",
        "pooled_map_of_a_batch",
    ),
    "a sum in half precision": (
        "    on_patches = at_least_fp32(weights[..., layout.span]) * layout.patches  # B H R P",
        "    on_patches = weights[..., layout.span] * layout.patches",
        "pooled_map_of_a_batch",
    ),
    "fp64 brought down to fp32": (
        "    on_patches = at_least_fp32(weights[..., layout.span]) * layout.patches  # B H R P",
        "    on_patches = weights[..., layout.span].float() * layout.patches",
        "pooled_map_of_a_batch",
    ),
    "not normalised": (
        "    return normalised((on_patches * chosen[..., None]).sum(dim=1))",
        "    return (on_patches * chosen[..., None]).sum(dim=1)",
        "pooled_map",
    ),
    "divided by the mass of all heads": (
        "    return normalised((on_patches * chosen[..., None]).sum(dim=1))",
        "    return (on_patches * chosen[..., None]).sum(dim=1) / mass.sum(dim=1)[..., None].clamp(min=1e-30)",
        "pooled_map pooled_map_of_a_batch",
    ),
    "nan where no patch is seen": (
        "    return normalised((on_patches * chosen[..., None]).sum(dim=1))",
        "    pooled = (on_patches * chosen[..., None]).sum(dim=1)\n"
        "    return pooled / pooled.sum(dim=-1, keepdim=True)",
        "pooled_map_of_a_batch",
    ),
}

OUTLIERS = {
    "dropped instead of cut": (
        "    return gain.minimum(mean + OUTLIER * deviation)",
        "    return gain.where(gain <= mean + OUTLIER * deviation, 0)",
        "outliers_are_cut",
    ),
    "cut to the mean": (
        "    return gain.minimum(mean + OUTLIER * deviation)",
        "    return gain.where(gain <= mean + OUTLIER * deviation, mean)",
        "outliers_are_cut",
    ),
    "deviations from zero": (
        "    return gain.minimum(mean + OUTLIER * deviation)",
        "    return gain.minimum(OUTLIER * deviation)",
        "outliers_are_cut",
    ),
    "two deviations": ("OUTLIER * deviation)", "2 * deviation)", "outliers_are_cut"),
    "also cut from below": (
        "    return gain.minimum(mean + OUTLIER * deviation)",
        "    return gain.minimum(mean + OUTLIER * deviation).maximum(mean - deviation)",
        "outliers_are_cut",
    ),
    "also cut 3 deviations below": (
        "    return gain.minimum(mean + OUTLIER * deviation)",
        "    return gain.minimum(mean + OUTLIER * deviation).maximum(mean - OUTLIER * deviation)",
        "outliers_are_cut",
    ),
    "nan where no patch is seen": (
        "    count = inside.sum(dim=-1, keepdim=True).clamp(min=1)",
        "    count = inside.sum(dim=-1, keepdim=True)",
        "outliers_among_what_a_row_sees",
    ),
    "the variance of a sample, over n - 1": (
        "    variance = ((gain - mean) ** 2 * inside).sum(dim=-1, keepdim=True) / count",
        "    variance = ((gain - mean) ** 2 * inside).sum(dim=-1, keepdim=True) / (count - 1)",
        "outliers_are_cut",
    ),
    "over all columns instead of the patches that the row sees": (
        "    inside = layout.seen(gain.shape[1])  # B R P\n    count",
        "    inside = torch.ones_like(gain)\n    count",
        "outliers_among_what_a_row_sees anchor",
    ),
    "over the sample's patches, seen or not": (
        "    inside = layout.seen(gain.shape[1])  # B R P\n    count",
        "    inside = layout.patches[:, 0].expand(gain.shape)\n    count",
        "outliers_among_what_a_row_sees",
    ),
    "one mean for the whole batch": (
        "    mean = gain.sum(dim=-1, keepdim=True) / count",
        "    mean = gain.sum() / inside.sum()",
        "outliers_are_cut outliers_among_what_a_row_sees",
    ),
    "the root of 0 has no gradient": (
        "variance.clamp(min=torch.finfo(gain.dtype).tiny).sqrt()",
        "variance.sqrt()",
        "outliers_among_what_a_row_sees",
    ),
}

ANCHOR = {
    "not normalised": (
        "    anchor = normalised(keep_largest(without_outliers(gain, layout), clva.keep, layout))",
        "    anchor = keep_largest(without_outliers(gain, layout), clva.keep, layout)",
        "anchor",
    ),
    "nan without a gain": (
        "    anchor = normalised(keep_largest(without_outliers(gain, layout), clva.keep, layout))",
        "    anchor = keep_largest(without_outliers(gain, layout), clva.keep, layout)\n"
        "    anchor = anchor / anchor.sum(dim=-1, keepdim=True)",
        "anchor_without_gain",
    ),
    "a softmax in place of the sum": (
        "    anchor = normalised(keep_largest(without_outliers(gain, layout), clva.keep, layout))",
        "    anchor = keep_largest(without_outliers(gain, layout), clva.keep, layout).softmax(dim=-1)",
        "anchor anchor_without_gain",
    ),
    "outliers left in": ("keep_largest(without_outliers(gain, layout), ", "keep_largest(gain, ", "anchor"),
    "all patches kept": (
        "keep_largest(without_outliers(gain, layout), clva.keep, layout)",
        "without_outliers(gain, layout)",
        "anchor",
    ),
    "normalised before the smallest are left out": (
        "normalised(keep_largest(without_outliers(gain, layout), clva.keep, layout))",
        "keep_largest(normalised(without_outliers(gain, layout)), clva.keep, layout)",
        "anchor",
    ),
    "noise of all layers": (
        "    noise = early.mean(dim=0)",
        "    noise = torch.cat((early, middle)).mean(dim=0)",
        "anchor",
    ),
    "noise of every map that is there": (
        "    noise = early.mean(dim=0)",
        "    noise = torch.stack(list(maps.values())).mean(dim=0)",
        "anchor",
    ),
    "noise of the first of its layers": ("    noise = early.mean(dim=0)", "    noise = early[0]", "anchor"),
    "the mean first, then no less than 0": (
        "    gain = (middle - noise).clamp(min=0).mean(dim=0)",
        "    gain = (middle.mean(dim=0) - noise).clamp(min=0)",
        "anchor",
    ),
    "losses count as well": (
        "    gain = (middle - noise).clamp(min=0).mean(dim=0)",
        "    gain = (middle - noise).abs().mean(dim=0)",
        "anchor",
    ),
    "the largest gain of any layer": (
        "    gain = (middle - noise).clamp(min=0).mean(dim=0)",
        "    gain = (middle - noise).clamp(min=0).amax(dim=0)",
        "anchor",
    ),
    "the middle itself is the anchor": (
        "    gain = (middle - noise).clamp(min=0).mean(dim=0)",
        "    gain = middle.mean(dim=0)",
        "anchor anchor_without_gain",
    ),
    "the first sample's maps for all": (
        "    noise = early.mean(dim=0)",
        "    noise = early.mean(dim=0)[:1].expand(early.shape[1:])",
        "anchor",
    ),
    "the last row's maps for all": (
        "    noise = early.mean(dim=0)",
        "    noise = early.mean(dim=0)[:, -1:].expand(early.shape[1:])",
        "anchor",
    ),
    "even where nothing rises": (
        "    anchor = normalised(keep_largest(without_outliers(gain, layout), clva.keep, layout))",
        "    anchor = normalised(keep_largest(without_outliers(gain, layout), clva.keep, layout) + 1e-30)",
        "anchor_without_gain",
    ),
    "swapped is not heard": (
        " if clva.swapped else (clva.noise_layers, clva.anchor_layers)",
        " if False else (clva.noise_layers, clva.anchor_layers)",
        "anchor_without_gain",
    ),
    "the middle is a single layer": ("Anchor(noise, middle.mean(dim=0)", "Anchor(noise, middle[-1]", "anchor"),
    "swapped by its sign alone": (
        " if clva.swapped else (clva.noise_layers, clva.anchor_layers)",
        " if False else (clva.noise_layers, clva.anchor_layers)",
        "    gain = (middle - noise).clamp(min=0).mean(dim=0)",
        "    gain = (noise - middle if clva.swapped else middle - noise).clamp(min=0).mean(dim=0)",
        "anchor_without_gain",
    ),
    "the control is forgotten": ("controlled(anchor, layout, clva))", "anchor)", "shuffled_anchor"),
}

MIXED = "    return torch.zeros_like(anchor).scatter(-1, order, anchor.gather(-1, mixed))"
CHANCE = "    chance = torch.rand(int(layout.numbers.max()) + 1, generator=generator).to(anchor)[layout.numbers]  # B P"
CONTROLS = {
    "no control at all": (
        '    if clva.anchor == "gain":',
        "    if True:",
        "shuffled_anchor random_anchor",
    ),
    "random is shuffled as well": (
        '    if clva.anchor == "random":',
        "    if False:",
        "random_anchor",
    ),
    "shuffled is random as well": (
        '    if clva.anchor == "random":',
        "    if True:",
        "shuffled_anchor",
    ),
    "each row is shuffled by itself": (
        MIXED,
        "    each = torch.rand(anchor.shape, generator=generator).masked_fill(~seen, 2).argsort(dim=-1)\n"
        "    return torch.zeros_like(anchor).scatter(-1, order, anchor.gather(-1, each))",
        "shuffled_anchor",
    ),
    "each row is random by itself": (
        "        return normalised(chance[:, None] * seen) * found",
        "        return normalised(torch.rand(anchor.shape, generator=generator) * seen) * found",
        "random_anchor controls_of_a_sample_alone",
    ),
    "chance by the column and not by the patch's number": (
        CHANCE,
        "    chance = torch.rand(layout.patches.shape[-1], generator=generator)"
        ".to(anchor).expand(layout.numbers.shape)",
        "controls_of_a_sample_alone",
    ),
    "torch's own generator, seeded": (
        "    generator = torch.Generator().manual_seed(clva.seed)",
        "    generator = torch.manual_seed(clva.seed)",
        "shuffled_anchor random_anchor",
    ),
    "a new seed every time": (
        "    generator = torch.Generator().manual_seed(clva.seed)",
        "    generator = torch.Generator()\n    generator.seed()",
        "shuffled_anchor",
    ),
    "the seed is not heard": (
        "torch.Generator().manual_seed(clva.seed)",
        "torch.Generator().manual_seed(0)",
        "shuffled_anchor random_anchor",
    ),
    "flat instead of random": (
        "        return normalised(chance[:, None] * seen) * found",
        "        return normalised(seen.to(anchor)) * found",
        "random_anchor",
    ),
    "random where there was no anchor": (
        "        return normalised(chance[:, None] * seen) * found",
        "        return normalised(chance[:, None] * seen)",
        "random_anchor",
    ),
    "random is not normalised": (
        "        return normalised(chance[:, None] * seen) * found",
        "        return (chance[:, None] * seen) * found",
        "random_anchor",
    ),
    "random on patches that are not seen": (
        "        return normalised(chance[:, None] * seen) * found",
        "        return normalised((chance[:, None] * layout.patches[:, 0]).expand(anchor.shape)) * found",
        "random_anchor",
    ),
    "shuffled over all columns": (
        MIXED,
        "    return anchor[..., torch.randperm(anchor.shape[-1], generator=generator)]",
        "shuffled_anchor controls_of_a_sample_alone",
    ),
    "only what is not 0 is shuffled": (
        "    mixed = chance[:, None]",
        "    seen = seen & (anchor > 0)\n    mixed = chance[:, None]",
        "shuffled_anchor",
    ),
    "other dice for another number of rows": (
        "torch.Generator().manual_seed(clva.seed)",
        "torch.Generator().manual_seed(clva.seed + anchor.shape[1])",
        "controls_of_a_sample_alone",
    ),
    "other dice for each word": (
        "torch.Generator().manual_seed(clva.seed)",
        "torch.Generator().manual_seed(clva.seed + layout.image.shape[1])",
        "controls_of_a_sample_alone",
    ),
    "random where the anchor is": (
        "        return normalised(chance[:, None] * seen) * found",
        "        return normalised(chance[:, None] * (seen & (anchor > 0)))",
        "random_anchor",
    ),
    "random nearly flat": (
        "        return normalised(chance[:, None] * seen) * found",
        "        return normalised((1 + 0.05 * chance[:, None]) * seen) * found",
        "random_anchor",
    ),
    "random in fp32": (
        "        return normalised(chance[:, None] * seen) * found",
        "        return (normalised(chance[:, None] * seen) * found).float()",
        "random_anchor",
    ),
    "shuffled in fp32": (
        MIXED,
        MIXED + ".float()",
        "shuffled_anchor",
    ),
    "rolled by one for every row's number": (
        MIXED,
        "    return torch.stack([anchor[:, row].roll(row + 1, dims=-1) for row in range(anchor.shape[1])], dim=1)",
        "shuffled_anchor",
    ),
}

GATE = {
    "not clipped": ("((here - middle) / room).clamp(0, 1) * ready", "((here - middle) / room) * ready", "gate"),
    "the cosine with the middle": (
        "    here = torch.cosine_similarity(pooled_map(weights, layout, clva.heads), found.noise, dim=-1)",
        "    here = torch.cosine_similarity(pooled_map(weights, layout, clva.heads), found.middle, dim=-1)",
        "gate gate_of_a_batch",
    ),
    "the cosine with the anchor": (
        "    middle = torch.cosine_similarity(found.middle, found.noise, dim=-1)",
        "    middle = torch.cosine_similarity(found.anchor, found.noise, dim=-1)",
        "gate gate_of_a_batch",
    ),
    "the cosine alone": ("((here - middle) / room)", "here", "gate"),
    "not brought to 0..1": ("((here - middle) / room)", "(here - middle)", "gate"),
    "the wrong way round": ("((here - middle) / room)", "((middle - here) / room)", "gate"),
    "a dot product for a cosine": (
        "torch.cosine_similarity(pooled_map(weights, layout, clva.heads), found.noise, dim=-1)",
        "(pooled_map(weights, layout, clva.heads) * found.noise).sum(dim=-1)",
        "gate",
    ),
    "all heads instead of those that look": (
        "pooled_map(weights, layout, clva.heads), found.noise",
        "pooled_map(weights, layout, 1.0), found.noise",
        "gate_of_a_batch",
    ),
    "one gate for all rows": (
        "((here - middle) / room).clamp(0, 1) * ready",
        "((here - middle) / room).clamp(0, 1).mean(dim=1, keepdim=True) * ready",
        "gate gate_of_a_batch",
    ),
    "one gate for the batch": (
        "((here - middle) / room).clamp(0, 1) * ready",
        "((here - middle) / room).clamp(0, 1)[:1] * ready",
        "gate_of_a_batch",
    ),
    "open without an anchor": (".clamp(0, 1) * ready", ".clamp(0, 1)", "gate_of_a_batch"),
    "held open without an anchor": (
        "        return ready.to(found.anchor.dtype)",
        "        return torch.ones_like(found.anchor[..., 0])",
        "gate_of_a_batch",
    ),
    "a yes or no for a number": ("return ready.to(found.anchor.dtype)", "return ready", "gate_of_a_batch"),
    "the control is not heard": ("    if not clva.gate:", "    if False:", "gate_of_a_batch"),
    "no room between: 0 / 0": (
        "    room = (1 - middle).clamp(min=torch.finfo(middle.dtype).eps)",
        "    room = 1 - middle",
        "gate_without_room",
    ),
    "no room between, and nan made 0": (
        "    room = (1 - middle).clamp(min=torch.finfo(middle.dtype).eps)",
        "    room = 1 - middle",
        "((here - middle) / room).clamp(0, 1) * ready",
        "((here - middle) / room).nan_to_num().clamp(0, 1) * ready",
        "gate_without_room",
    ),
    "a short scale made longer": (
        "    room = (1 - middle).clamp(min=torch.finfo(middle.dtype).eps)",
        "    room = (1 - middle).clamp(min=1e-3)",
        "gate",
    ),
    "the dtype of the weights": (
        "((here - middle) / room).clamp(0, 1) * ready",
        "(((here - middle) / room).clamp(0, 1) * ready).to(weights.dtype)",
        "gate_of_a_batch",
    ),
    "nan for a map of zeros": (
        "    here = torch.cosine_similarity(pooled_map(weights, layout, clva.heads), found.noise, dim=-1)",
        "    map_ = pooled_map(weights, layout, clva.heads)\n"
        "    here = (map_ * found.noise).sum(dim=-1) / (map_.norm(dim=-1) * found.noise.norm(dim=-1))",
        "gate_of_a_batch",
    ),
}

SHARE = "    share = wanted * (kappa * mass / total.clamp(min=torch.finfo(total.dtype).tiny))"
TOUCHED = "    touched = (rows & layout.text[:, -weights.shape[2] :])[:, None, :, None] & (total > 0)  # B H R 1"
END = (
    "    if kappa == 1:\n        return changed\n"
    "    return torch.where(touched, normalised(at_least_fp32(changed)).to(weights.dtype), weights)"
)
REDISTRIBUTED = {
    "mass not kept: what is wanted as it is": (
        SHARE,
        "    share = kappa * wanted",
        "attention_is_shared_out_anew",
    ),
    "mass not kept: the picture gets 1": (
        SHARE,
        "    share = kappa * normalised(wanted)",
        "attention_is_shared_out_anew pull",
    ),
    "all tokens brought to 1 again": (
        SHARE,
        "    share = kappa * wanted",
        END,
        "    return torch.where(touched, normalised(at_least_fp32(changed)).to(weights.dtype), weights)",
        "attention_is_shared_out_anew",
    ),
    "rows that were not named": (
        "(rows & layout.text[:, -weights.shape[2] :])",
        "(layout.text[:, -weights.shape[2] :])",
        "attention_is_shared_out_anew",
    ),
    "rows of patches and of padding as well": (
        "(rows & layout.text[:, -weights.shape[2] :])",
        "rows",
        "attention_is_shared_out_anew",
    ),
    "the first rows of the text instead of the last": (
        "layout.text[:, -weights.shape[2] :]",
        "layout.text[:, : weights.shape[2]]",
        "attention_is_shared_out_anew pull_while_words_are_written",
    ),
    "decode rows left alone": (
        TOUCHED,
        TOUCHED + "\n    touched = touched & (weights.shape[2] > 1)",
        "pull_while_words_are_written",
    ),
    "columns of text between the pictures": (
        "torch.where(touched & layout.patches, share, at_least_fp32(weights[..., span]))",
        "torch.where(touched, share, at_least_fp32(weights[..., span]))",
        "attention_is_shared_out_anew",
    ),
    "the first sample's patches": (
        "torch.where(touched & layout.patches, share,",
        "torch.where(touched & layout.patches[:1], share,",
        "attention_is_shared_out_anew",
    ),
    "nothing wanted, nothing left": (
        " & (total > 0)  # B H R 1",
        " & torch.ones_like(total, dtype=torch.bool)",
        "attention_is_shared_out_anew",
    ),
    "nothing wanted, nan": (
        SHARE,
        "    share = wanted * (kappa * mass / total)",
        " & (total > 0)  # B H R 1",
        " & torch.ones_like(total, dtype=torch.bool)",
        "attention_is_shared_out_anew",
    ),
    "kappa not heard": ("(kappa * mass / total.clamp", "(mass / total.clamp", "kappa pull"),
    "kappa without bringing the row back to 1": (END, "    return changed", "kappa pull"),
    "kappa brings every row to 1": (
        "torch.where(touched, normalised(at_least_fp32(changed)).to(weights.dtype), weights)",
        "normalised(at_least_fp32(changed)).to(weights.dtype)",
        "kappa",
    ),
    "in place": (
        "    changed = weights.slice_scatter(changed, dim=-1, start=span.start, end=span.stop)",
        "    weights[..., span] = changed\n    changed = weights",
        "attention_is_shared_out_anew",
    ),
    "another dtype": (
        "at_least_fp32(weights[..., span])).to(weights.dtype)\n    changed = weights.slice_scatter(",
        "at_least_fp32(weights[..., span]))\n    changed = at_least_fp32(weights).slice_scatter(",
        "pull_while_words_are_written",
    ),
}

T = "    t = (1 - clva.omega * r) * p + clva.omega * r * anchor - clva.beta * r * noise"
LAST = "    return redistributed(weights, t.clamp(min=0), mass, layout, gate > 0, clva.kappa)"
PULL = {
    "omega and beta exchanged": (
        T,
        "    t = (1 - clva.beta * r) * p + clva.beta * r * anchor - clva.omega * r * noise",
        "pull pull_while_words_are_written",
    ),
    "drawn to the noise and off the anchor": (
        T,
        "    t = (1 - clva.omega * r) * p + clva.omega * r * noise - clva.beta * r * anchor",
        "pull",
    ),
    "the gate left out": (
        "    r = gate[:, None, :, None]",
        "    r = (gate > 0).to(p)[:, None, :, None]",
        "pull pull_while_words_are_written",
    ),
    "the gate left out of the noise": ("- clva.beta * r * noise", "- clva.beta * noise", "pull"),
    "nothing taken off the head's own": ("(1 - clva.omega * r) * p +", "p +", "pull"),
    "the anchor not by the head's mass": (
        "anchor, noise = mass * found.anchor[:, None], mass * found.noise[:, None]",
        "anchor, noise = found.anchor[:, None], found.noise[:, None]",
        "pull",
    ),
    "the mean of the heads' masses": (
        "anchor, noise = mass * found.anchor[:, None], mass * found.noise[:, None]",
        "level = mass.mean(dim=1, keepdim=True)\n"
        "    anchor, noise = level * found.anchor[:, None], level * found.noise[:, None]",
        "pull",
    ),
    "not clipped at 0": (LAST, LAST.replace("t.clamp(min=0)", "t"), "pull"),
    "made positive by abs": (LAST, LAST.replace("t.clamp(min=0)", "t.abs()"), "pull"),
    "kappa not handed on": (LAST, LAST.replace(", clva.kappa", ""), "pull"),
    "all rows": (LAST, LAST.replace("gate > 0", "gate >= 0"), "pull"),
    "the first sample's anchor for all": (
        "mass * found.anchor[:, None], mass",
        "mass * found.anchor[:1, None], mass",
        "pull",
    ),
    "the last row's anchor for all": (
        "mass * found.anchor[:, None], mass",
        "mass * found.anchor[:, None, -1:], mass",
        "pull",
    ),
    "the pooled map instead of the head's own": (
        T,
        "    t = (1 - clva.omega * r) * mass * pooled_map(weights, layout)[:, None] + clva.omega * r * anchor\n"
        "    t = t - clva.beta * r * noise",
        "pull",
    ),
    "columns of text in the mass": (
        "    p = at_least_fp32(weights[..., layout.span]) * layout.patches  # B H R P\n    mass",
        "    p = at_least_fp32(weights[..., layout.span])\n    mass",
        "pull",
    ),
}

WRONG_ANSWERS = {
    f"{name} ({part})": row
    for part, table in (
        ("map", POOLED),
        ("outliers", OUTLIERS),
        ("anchor", ANCHOR),
        ("controls", CONTROLS),
        ("gate", GATE),
        ("shares", REDISTRIBUTED),
        ("pull", PULL),
    )
    for name, row in table.items()
}
RIGHT_ANSWERS = {
    "heads by sorting": (
        "chosen = torch.zeros_like(mass).scatter(1, mass.topk(most, dim=1).indices, 1.0)",
        "chosen = (mass.argsort(dim=1, descending=True).argsort(dim=1) < most).to(mass)",
    ),
    "half precision widened later": (
        "    on_patches = at_least_fp32(weights[..., layout.span]) * layout.patches  # B H R P",
        "    on_patches = at_least_fp32(weights[..., layout.span].masked_fill(~layout.patches, 0))",
    ),
    "outliers with where": (
        "    return gain.minimum(mean + OUTLIER * deviation)",
        "    most = mean + OUTLIER * deviation\n    return torch.where(gain > most, most, gain)",
    ),
    "the variance as mean of squares": (
        "    variance = ((gain - mean) ** 2 * inside).sum(dim=-1, keepdim=True) / count",
        "    variance = ((gain**2 * inside).double().sum(dim=-1, keepdim=True) / count - mean.double() ** 2).to(gain)",
    ),
    "gains layer by layer": (
        "    gain = (middle - noise).clamp(min=0).mean(dim=0)",
        "    gain = sum(torch.relu(map_ - noise) for map_ in middle) / len(middle)",
    ),
    "noise as a sum of shares": (NOISE, "    noise = sum(map_ / len(early) for map_ in early)"),
    "noise by way of fp64": (NOISE, "    noise = early.double().mean(dim=0).to(early.dtype)"),
    "noise times 1 over their number": (NOISE, "    noise = early.sum(dim=0) * (1 / len(early))"),
    "noise as a running mean": (
        NOISE,
        "    noise = early[0]\n"
        "    for number, map_ in enumerate(early[1:], 2):\n"
        "        noise = noise + (map_ - noise) / number",
    ),
    "noise normalised again": (NOISE, "    noise = normalised(early.mean(dim=0))"),
    "noise as a sum, normalised": (NOISE, "    noise = normalised(early.sum(dim=0))"),
    "noise as a mean of the last axis": (NOISE, "    noise = early.movedim(0, -1).contiguous().mean(dim=-1)"),
    "dust is no gain": (
        "    gain = (middle - noise).clamp(min=0).mean(dim=0)",
        "    gain = torch.where(middle > noise + 1e-7, middle - noise, 0).mean(dim=0)",
    ),
    "the control brought to 1 once more": (
        "    return Anchor(noise, middle.mean(dim=0), controlled(anchor, layout, clva))",
        "    return Anchor(noise, middle.mean(dim=0), normalised(controlled(anchor, layout, clva)))",
    ),
    "normalised after the control": (
        "    anchor = normalised(keep_largest(without_outliers(gain, layout), clva.keep, layout))",
        "    anchor = keep_largest(without_outliers(gain, layout), clva.keep, layout)",
        "    return Anchor(noise, middle.mean(dim=0), controlled(anchor, layout, clva))",
        "    return Anchor(noise, middle.mean(dim=0), normalised(controlled(anchor, layout, clva)))",
    ),
    "random as large as the anchor is": (
        "        found = anchor.any(dim=-1, keepdim=True)",
        "        found = anchor.sum(dim=-1, keepdim=True)",
    ),
    "random numbers far from even": (
        "        return normalised(chance[:, None] * seen) * found",
        "        return normalised(-chance[:, None].clamp(min=1e-9).log() * seen) * found",
    ),
    "torch's own generator, put back": (
        CHANCE,
        "    with torch.random.fork_rng(devices=[]):\n"
        "        torch.manual_seed(clva.seed)\n"
        "        chance = torch.rand(int(layout.numbers.max()) + 1).to(anchor)[layout.numbers]",
    ),
    "room by addition": (
        "    room = (1 - middle).clamp(min=torch.finfo(middle.dtype).eps)",
        "    room = 1 - middle + torch.finfo(middle.dtype).eps",
    ),
    "the least room there is": (
        "    room = (1 - middle).clamp(min=torch.finfo(middle.dtype).eps)",
        "    room = (1 - middle).clamp(min=torch.finfo(middle.dtype).tiny)",
    ),
    "a little more room": (
        "    room = (1 - middle).clamp(min=torch.finfo(middle.dtype).eps)",
        "    room = (1 - middle).clamp(min=1e-6)",
    ),
    "another chance, patch by patch": (
        CHANCE,
        "    table = torch.rand(4096, generator=generator)\n    chance = table[layout.numbers * 7 % 4096].to(anchor)",
    ),
    "shuffled by a permutation of what is seen": (
        '    if clva.anchor == "random":',
        '    if clva.anchor == "shuffled":\n'
        "        mixed = torch.zeros_like(anchor)\n"
        "        for sample, rows in enumerate(layout.seen(anchor.shape[1])):\n"
        "            for number, row in enumerate(rows):\n"
        "                there = row.nonzero()[:, 0]\n"
        "                generator = torch.Generator().manual_seed(clva.seed)\n"
        "                order = there[torch.randperm(len(there), generator=generator)]\n"
        "                mixed[sample, number, there] = anchor[sample, number, order]\n"
        "        return mixed\n"
        '    if clva.anchor == "random":',
    ),
    "the cosine by hand": (
        "    here = torch.cosine_similarity(pooled_map(weights, layout, clva.heads), found.noise, dim=-1)",
        "    map_ = pooled_map(weights, layout, clva.heads)\n"
        "    here = (map_ * found.noise).sum(-1) / (map_.norm(dim=-1) * found.noise.norm(dim=-1)).clamp(min=1e-12)",
    ),
    "shares in a clone": (
        "    changed = weights.slice_scatter(changed, dim=-1, start=span.start, end=span.stop)",
        CLONE,
    ),
    "the row's sum by arithmetic": (
        END,
        "    if kappa == 1:\n        return changed\n"
        "    scaled = at_least_fp32(changed) / (1 - mass + kappa * mass)\n"
        "    return torch.where(touched, scaled.to(weights.dtype), weights)",
    ),
    "per unit of mass": (
        T,
        "    unit = mass.clamp(min=1e-30)\n"
        "    t = (1 - clva.omega * r) * p / unit + clva.omega * r * anchor / unit - clva.beta * r * noise / unit",
    ),
    "the gate as a step of its own": (
        T,
        "    step = clva.omega * r\n    t = p + step * (anchor - p) - clva.beta * r * noise",
    ),
}
TELLING = [
    "each head's map normalised, then their mean (map)",
    "over the sample's patches, seen or not (outliers)",
    "the root of 0 has no gradient (outliers)",
    "the mean first, then no less than 0 (anchor)",
    "normalised before the smallest are left out (anchor)",
    "each row is shuffled by itself (controls)",
    "chance by the column and not by the patch's number (controls)",
    "open without an anchor (gate)",
    "the cosine with the anchor (gate)",
    "all tokens brought to 1 again (shares)",
    "columns of text between the pictures (shares)",
    "the mean of the heads' masses (pull)",
    "not clipped at 0 (pull)",
]
TOGETHER = (
    "    changed = torch.where(touched & layout.patches, share, at_least_fp32(weights[..., span])).to(weights.dtype)"
)
BACK = "    changed = weights.slice_scatter(changed, dim=-1, start=span.start, end=span.stop)"
MEASURED_ANSWERS = {  # the task, what stands there and what instead, how it ends
    "the reference, in memory": (WIDENED, (), "ran"),
    "the reference, in time": (AT_ONCE, (), "ran"),
    "a clone": (WIDENED, (BACK, CLONE), "ran"),
    "all columns in fp32": (
        WIDENED,
        (
            TOGETHER,
            "    whole = at_least_fp32(weights).clone()\n    whole[..., span] = share",
            BACK,
            "    changed = whole.to(weights.dtype)",
        ),
        "too much memory",
    ),
    "all columns multiplied by a mask": (
        WIDENED,
        (
            "    p = at_least_fp32(weights[..., layout.span]) * layout.patches  # B H R P\n    mass",
            "    p = (at_least_fp32(weights) * 1)[..., layout.span] * layout.patches\n    mass",
        ),
        "too much memory",
    ),
    "all columns of the map in fp32": (
        WIDENED,
        (
            "    on_patches = at_least_fp32(weights[..., layout.span]) * layout.patches  # B H R P",
            "    on_patches = at_least_fp32(weights)[..., layout.span] * layout.patches",
        ),
        "too much memory",
    ),
    "all columns of what is pulled in fp32": (
        WIDENED,
        (
            "    p = at_least_fp32(weights[..., layout.span]) * layout.patches  # B H R P\n    mass",
            "    p = at_least_fp32(weights)[..., layout.span] * layout.patches\n    mass",
        ),
        "too much memory",
    ),
    "the row's sum by arithmetic, where it is wanted": (WIDENED, RIGHT_ANSWERS["the row's sum by arithmetic"], "ran"),
    "a loop over patches": (
        AT_ONCE,
        (
            "    gain = (middle - noise).clamp(min=0).mean(dim=0)",
            "    gain = torch.zeros_like(noise)\n"
            "    for row in range(noise.shape[1]):\n"
            "        for patch in range(noise.shape[2]):\n"
            "            rise = middle[:, :, row, patch] - noise[:, row, patch]\n"
            "            gain[:, row, patch] = rise.clamp(min=0).mean(dim=0)",
        ),
        "too slow",
    ),
}


FILES = ("model/clva.py", "model/redistribute.py")


def changes(row: tuple) -> dict[str, str]:
    pairs = [*zip(row[::2], row[1::2], strict=False)]
    files = [next(file for file in FILES if old in (PACKAGE / file).read_text(encoding="utf-8")) for old, _ in pairs]
    mine = {file: [pair for pair, own in zip(pairs, files, strict=True) if own == file] for file in files}
    return {name: text for file, own in mine.items() for name, text in replaced(file, *own).items()}


@pytest.fixture(scope="module")
def found():
    """Verdicts on all of them, from one process."""
    answers = {name: changes(row) for name, row in (WRONG_ANSWERS | RIGHT_ANSWERS).items()}
    return verdicts("a5", answers | {WHOLE: WHOLE, HOLLOW: HOLLOW}, QUICK)


def test_the_row():
    assert ROW.points == 100
    assert sum(map(len, ROW.holes.values())) == 7


def test_the_reference_is_right(found):
    assert set(states(found, WHOLE).values()) == {RIGHT}


def test_holes_are_open(found):
    assert set(states(found, HOLLOW).values()) == {OPEN}


@pytest.mark.parametrize("answer", WRONG_ANSWERS)
def test_a_wrong_answer_is_found(found, answer):
    red = {test.removeprefix("test_") for test, state in states(found, answer).items() if state not in (RIGHT, OPEN)}
    assert not set(WRONG_ANSWERS[answer][-1].split()) - red


@pytest.mark.parametrize("answer", RIGHT_ANSWERS)
def test_another_right_answer_is_right(found, answer):
    assert faults(found[answer]) == {}


@pytest.mark.parametrize("seed", ["another seed"])
def test_other_seeds_judge_alike(seed):
    """Chance must neither save a wrong answer nor spoil a right one: a few of each, on other inputs."""
    wrong = {name: changes(WRONG_ANSWERS[name]) for name in TELLING}
    found = verdicts("a5", wrong | {name: changes(row) for name, row in RIGHT_ANSWERS.items()}, QUICK, seed)
    for name in wrong:
        red = {test.removeprefix("test_") for test, state in states(found, name).items() if state != RIGHT}
        assert not set(WRONG_ANSWERS[name][-1].split()) - red, name
    assert all(set(states(found, name).values()) == {RIGHT} for name in RIGHT_ANSWERS)


@pytest.mark.slow
@pytest.mark.parametrize("answer", MEASURED_ANSWERS)
def test_limits_tell_solutions_apart(answer, tmp_path):
    """What is right but too large or too slow, and what is neither. A slow one gets the least time that there is."""
    test, row, status = MEASURED_ANSWERS[answer]
    task = next(task for task in ROW.tasks if task.test == test)
    project = write_version(ROW, tmp_path / "project", changes(row) if row else WHOLE)
    seconds = LEAST if status == "too slow" else 60.0
    (outcome,) = supervise(project, KIT / ROW.tests, [Job(test, seed_of(SEED, ROW, task), seconds, task.megabytes)])
    assert outcome.status == status, outcome
