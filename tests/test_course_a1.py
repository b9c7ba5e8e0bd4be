"""Assignment a1: the reference is green, holes are open, known wrong answers are red and other right ones green.

What rows of the tables mean, `support/course_answers.py` says. Time and memory are limited in the last tests only,
where solutions must be told apart by them.
"""

import pytest

from minivlm.course.assignments import assignment
from minivlm.course.project import KIT
from minivlm.course.reference import seed_of
from minivlm.course.supervise import Job, supervise
from minivlm.course.verdict import OPEN, RIGHT
from support.course_answers import Answers, changed
from support.course_tools import HOLLOW, SEED, WHOLE, faults, states, write_version

ROW = assignment("a1")
MEASURED = "test_attention_over_many_tokens"
QUICK = {task.test for task in ROW.tasks} - {MEASURED}

IN_QUICK_GELU = "model/layers.py", "quick_gelu"
IN_PROJECTOR = "model/projector.py", "Projector.forward"
IN_SELECT_FEATURES = "model/projector.py", "select_features"
IN_VISION_ATTENTION = "model/vision.py", "VisionAttention.forward"
IN_VISION_BLOCK = "model/vision.py", "VisionBlock.forward"
IN_VISION_EMBEDDINGS = "model/vision.py", "VisionEmbeddings.forward"
IN_VISION_TOWER = "model/vision.py", "VisionTower.forward"

GELU = "x * torch.sigmoid(1.702 * x)"
SIZE = "pixels.ndim != 4 or pixels.shape[1:] != (3, size, size)"
CONVOLVE = "self.patch_embedding(pixels.to(self.patch_embedding.weight.dtype))"
FLATTEN = 'rearrange(patches, "B D rows columns -> B (rows columns) D")'
SEQUENCE = "torch.cat((first, patches), dim=1)"
EMBEDDED = "torch.cat((first, patches), dim=1) + self.position_embedding.weight"
SPLIT = '(rearrange(p, "B T (H d) -> B H T d", H=self.num_heads) for p in projections)'
MIX = "F.scaled_dot_product_attention(q, k, v)"
MERGE = 'rearrange(mixed, "B H T d -> B T (H d)")'
SCORES = "(q @ k.transpose(-1, -2)) * q.shape[-1] ** -0.5"
BRANCH_1 = "x = x + self.self_attn(self.layer_norm1(x))"
BRANCH_2 = "return x + self.mlp(self.layer_norm2(x))"
START = "self.pre_layrnorm(x) if self.pre_norm else x"
BLOCKS = "self.encoder.layers[:depth]"
FEED = "block(states[-1])"
STATES = "return tuple(states)"
CHOSEN = "states[layer % (depth + 1)]"
DROP = "state[:, 1:]"
JOIN = "torch.cat(chosen, dim=-1)"
INNER = "F.gelu(self.linear_1(features))"
PROJECTED = "self.linear_2(F.gelu(self.linear_1(features)))"


QUICK_GELU = {
    "a rounded constant": ("quick_gelu", (IN_QUICK_GELU, GELU, "x * torch.sigmoid(1.7 * x)")),
    "the exact GELU": ("quick_gelu block tower sees", (IN_QUICK_GELU, GELU, "F.gelu(x)")),
    "the tanh GELU": ("quick_gelu", (IN_QUICK_GELU, GELU, 'F.gelu(x, approximate="tanh")')),
    "SiLU": ("quick_gelu", (IN_QUICK_GELU, GELU, "F.silu(x)")),
    "the gate alone": ("quick_gelu", (IN_QUICK_GELU, GELU, "torch.sigmoid(1.702 * x)")),
    "left in fp32": ("quick_gelu", (IN_QUICK_GELU, GELU, "x.float() * torch.sigmoid(1.702 * x.float())")),
}

EMBEDDINGS = {
    "column by column": (
        "reading_order any_picture sees",
        (IN_VISION_EMBEDDINGS, '"B D rows columns -> B (rows columns) D"', '"B D rows columns -> B (columns rows) D"'),
    ),
    "flattened with the channels": (
        "reading_order any_picture",
        (IN_VISION_EMBEDDINGS, FLATTEN, "patches.reshape(len(patches), -1, patches.shape[1])"),
    ),
    "a grid cut by reshaping": (
        "any_picture",
        (IN_VISION_EMBEDDINGS, "patches = " + CONVOLVE, "p = self.patch_embedding.kernel_size[0]"),
        (IN_VISION_EMBEDDINGS, FLATTEN, 'rearrange(pixels, "B c (r p) (s q) -> B (r s) (c p q)", p=p, q=p)'),
        (
            IN_VISION_EMBEDDINGS,
            SEQUENCE,
            "torch.cat((first, patches @ self.patch_embedding.weight.flatten(1).T), dim=1)",
        ),
    ),
    "channels last in a patch": (
        "any_picture sees",
        (
            IN_VISION_EMBEDDINGS,
            CONVOLVE,
            f"F.conv2d({CONVOLVE[21:-1]}.flip(1), self.patch_embedding.weight, stride=S)".replace(
                "stride=S", "stride=self.patch_embedding.stride"
            ),
        ),
    ),
    "the class token last": (
        "class_token reading_order",
        (IN_VISION_EMBEDDINGS, SEQUENCE, "torch.cat((patches, first), dim=1)"),
    ),
    "no class token": (
        "class_token any_picture",
        (IN_VISION_EMBEDDINGS, SEQUENCE, "torch.cat((0 * first, patches), dim=1)"),
    ),
    "no positions": ("class_token any_picture sees", (IN_VISION_EMBEDDINGS, EMBEDDED, SEQUENCE)),
    "positions for patches alone": (
        "class_token any_picture",
        (IN_VISION_EMBEDDINGS, EMBEDDED, "torch.cat((first, patches + self.position_embedding.weight[1:]), dim=1)"),
    ),
    "positions from 0 for the patches": (
        "class_token any_picture",
        (IN_VISION_EMBEDDINGS, EMBEDDED, "torch.cat((first, patches + self.position_embedding.weight[:-1]), dim=1)"),
    ),
    "positions as factors": ("class_token any_picture", (IN_VISION_EMBEDDINGS, EMBEDDED, EMBEDDED.replace("+", "*"))),
    "pixels in their own dtype": ("any_picture", (IN_VISION_EMBEDDINGS, CONVOLVE, "self.patch_embedding(pixels)")),
    "the tower in the dtype of the pixels": (
        "any_picture",
        (
            IN_VISION_EMBEDDINGS,
            CONVOLVE,
            "F.conv2d(pixels, self.patch_embedding.weight.to(pixels), stride=self.patch_embedding.stride)",
        ),
    ),
    "the caller's pixels are changed": (
        "any_picture",
        (
            IN_VISION_EMBEDDINGS,
            CONVOLVE,
            "self.patch_embedding(pixels.detach().mul_(0.5).mul(2).to(self.patch_embedding.weight.dtype))",
        ),
    ),
    "nothing is refused": ("refuse", (IN_VISION_EMBEDDINGS, SIZE, "False")),
    "one side is looked at": ("refuse", (IN_VISION_EMBEDDINGS, SIZE, "pixels.ndim != 4 or pixels.shape[2] != size")),
    "the number of patches is looked at": (
        "refuse",
        (
            IN_VISION_EMBEDDINGS,
            SIZE,
            "pixels.ndim != 4 or (pixels.shape[2] // 4) * (pixels.shape[3] // 4) != (size // 4) ** 2",
        ),
    ),
    "an error of another kind": (
        "refuse",
        (
            IN_VISION_EMBEDDINGS,
            'ImageError(f"The vision tower expects pixels (N, 3, {size}, {size}), found {tuple(pixels.shape)}.")',
            'ValueError(f"The vision tower expects pixels (N, 3, {size}, {size}), found {tuple(pixels.shape)}.")',
        ),
    ),
    "an error that does not say what was found": (
        "refuse",
        (
            IN_VISION_EMBEDDINGS,
            'f"The vision tower expects pixels (N, 3, {size}, {size}), found {tuple(pixels.shape)}."',
            '"wrong size"',
        ),
    ),
}

ATTENTION = {
    "no scale": ("attention block sees", (IN_VISION_ATTENTION, MIX, MIX.replace("v)", "v, scale=1.0)"))),
    "the scale of the whole width": (
        "attention",
        (IN_VISION_ATTENTION, MIX, MIX.replace("v)", "v, scale=x.shape[-1] ** -0.5)")),
    ),
    "the scale without a root": (
        "attention",
        (IN_VISION_ATTENTION, MIX, MIX.replace("v)", "v, scale=1 / q.shape[-1])")),
    ),
    "scaled twice": ("attention", (IN_VISION_ATTENTION, MIX, MIX.replace("(q", "(q * q.shape[-1] ** -0.5"))),
    "a causal mask": ("attention", (IN_VISION_ATTENTION, MIX, MIX.replace("v)", "v, is_causal=True)"))),
    "the softmax over the queries": ("attention", (IN_VISION_ATTENTION, MIX, f"({SCORES}).softmax(dim=-2) @ v")),
    "no softmax": ("attention", (IN_VISION_ATTENTION, MIX, f"({SCORES}) @ v")),
    "queries and keys exchanged": ("attention", (IN_VISION_ATTENTION, MIX, MIX.replace("q, k", "k, q"))),
    "keys as values": ("attention", (IN_VISION_ATTENTION, MIX, MIX.replace("k, v", "k, k"))),
    "heads interleaved": ("attention", (IN_VISION_ATTENTION, '"B T (H d) -> B H T d"', '"B T (d H) -> B H T d"')),
    "heads interleaved both ways": (
        "attention",
        (IN_VISION_ATTENTION, '"B T (H d) -> B H T d"', '"B T (d H) -> B H T d"'),
        (IN_VISION_ATTENTION, '"B H T d -> B T (H d)"', '"B H T d -> B T (d H)"'),
    ),
    "split without exchanging axes": (
        "attention",
        (IN_VISION_ATTENTION, SPLIT, "(p.reshape(len(x), self.num_heads, x.shape[1], -1) for p in projections)"),
    ),
    "merged without exchanging axes": ("attention", (IN_VISION_ATTENTION, MERGE, "mixed.reshape(x.shape)")),
    "one head": ("attention", (IN_VISION_ATTENTION, "self.num_heads", "1")),
    "pictures see each other": (
        "attention",
        (IN_VISION_ATTENTION, SPLIT, SPLIT.replace("B H T d", "H (B T) d")),
        (IN_VISION_ATTENTION, MERGE, 'rearrange(mixed, "H (B T) d -> B T (H d)", B=len(x))'),
    ),
    "not projected back": ("attention", (IN_VISION_ATTENTION, f"self.out_proj({MERGE})", MERGE)),
}

BLOCK = {
    "normalised behind the sum": (
        "block tower",
        (IN_VISION_BLOCK, BRANCH_1, "x = self.layer_norm1(x + self.self_attn(x))"),
        (IN_VISION_BLOCK, BRANCH_2, "return self.layer_norm2(x + self.mlp(x))"),
    ),
    "the straight line begins behind the norm": (
        "block",
        (IN_VISION_BLOCK, BRANCH_1, "x = self.layer_norm1(x)\nx = x + self.self_attn(x)"),
    ),
    "no straight line past the attention": ("block", (IN_VISION_BLOCK, BRANCH_1, BRANCH_1.replace("x + ", ""))),
    "no straight line past the MLP": ("block", (IN_VISION_BLOCK, BRANCH_2, BRANCH_2.replace("x + ", ""))),
    "the first norm twice": ("block", (IN_VISION_BLOCK, BRANCH_2, BRANCH_2.replace("norm2", "norm1"))),
    "the MLP reads what is not normalised": ("block", (IN_VISION_BLOCK, BRANCH_2, "return x + self.mlp(x)")),
    "both branches read the input": (
        "block",
        (IN_VISION_BLOCK, BRANCH_1, "y = x + self.self_attn(self.layer_norm1(x))"),
        (IN_VISION_BLOCK, BRANCH_2, BRANCH_2.replace("x +", "y +")),
    ),
    "the MLP first": (
        "block",
        (IN_VISION_BLOCK, BRANCH_1, "x = x + self.mlp(self.layer_norm2(x))"),
        (IN_VISION_BLOCK, BRANCH_2, "return x + self.self_attn(self.layer_norm1(x))"),
    ),
    "added in place": ("block tower sees", (IN_VISION_BLOCK, BRANCH_1, BRANCH_1.replace("x = x +", "x +="))),
}

TOWER = {
    "the first norm is forgotten": ("tower sees", (IN_VISION_TOWER, START, "x")),
    "the last norm instead of the first": (
        "tower sees",
        (IN_VISION_TOWER, START, START.replace("pre_layr", "post_layer")),
    ),
    "the last norm behind the last block": (
        "tower sees",
        (IN_VISION_TOWER, STATES, "return (*states[:-1], self.post_layernorm(states[-1]))"),
    ),
    "state 0 before its norm": (
        "tower",
        (IN_VISION_TOWER, START, "x"),
        (IN_VISION_TOWER, FEED, "block(self.pre_layrnorm(states[-1]) if len(states) == 1 else states[-1])"),
    ),
    "a list": ("tower", (IN_VISION_TOWER, STATES, "return states")),
    "without the embedding": ("tower", (IN_VISION_TOWER, STATES, "return tuple(states[1:])")),
    "the last state alone": ("tower", (IN_VISION_TOWER, STATES, "return (states[-1],)")),
    "every block reads the embedding": ("tower sees", (IN_VISION_TOWER, FEED, "block(states[0])")),
    "all blocks run": ("tower", (IN_VISION_TOWER, BLOCKS, "self.encoder.layers")),
    "all blocks run, and the rest is cut off": (
        "tower",
        (IN_VISION_TOWER, BLOCKS, "self.encoder.layers"),
        (IN_VISION_TOWER, STATES, "return tuple(states[: None if depth is None else depth + 1])"),
    ),
    "a depth of 0 is taken for none": ("tower", (IN_VISION_TOWER, BLOCKS, BLOCKS.replace(":depth", ": depth or None"))),
    "one block too many": ("tower", (IN_VISION_TOWER, BLOCKS, BLOCKS.replace(":depth", ": depth and depth + 1"))),
    "one block too few": ("tower sees", (IN_VISION_TOWER, BLOCKS, BLOCKS.replace(":depth", ": depth and depth - 1"))),
    "the gradients' path is cut": ("sees", (IN_VISION_TOWER, FEED, "block(states[-1].detach())")),
}

FEATURES = {
    "always the last layer": ("features sees", (IN_SELECT_FEATURES, CHOSEN, "states[-1]")),
    "counted from the end of what was computed": ("features sees", (IN_SELECT_FEATURES, CHOSEN, "states[layer]")),
    "counted modulo what was computed": ("features sees", (IN_SELECT_FEATURES, CHOSEN, "states[layer % len(states)]")),
    "the embedding does not count": ("features sees", (IN_SELECT_FEATURES, CHOSEN, "states[layer % depth]")),
    "one layer before": ("features sees", (IN_SELECT_FEATURES, CHOSEN, "states[layer % (depth + 1) - 1]")),
    "the class token is kept": ("features sees", (IN_SELECT_FEATURES, DROP, "state")),
    "the last patch is dropped": ("features sees", (IN_SELECT_FEATURES, DROP, "state[:, :-1]")),
    "the first picture is dropped": ("features sees", (IN_SELECT_FEATURES, DROP, "state[1:]")),
    "the class token is never kept": (
        "features",
        (IN_SELECT_FEATURES, 'config.vision_feature_select_strategy == "default"', "True"),
    ),
    "the strategies exchanged": (
        "features sees",
        (
            IN_SELECT_FEATURES,
            'config.vision_feature_select_strategy == "default"',
            'config.vision_feature_select_strategy != "default"',
        ),
    ),
    "layers in the order of the tower": (
        "features",
        (IN_SELECT_FEATURES, "config.feature_layers", "sorted(config.feature_layers)"),
    ),
    "the first layer named": ("features", (IN_SELECT_FEATURES, "config.feature_layers", "config.feature_layers[:1]")),
    "layers added up": ("features", (IN_SELECT_FEATURES, JOIN, "sum(chosen)")),
    "layers behind each other": ("features", (IN_SELECT_FEATURES, JOIN, "torch.cat(chosen, dim=1)")),
}

PROJECTIONS = {
    "quick_gelu": (
        "projector sees",
        (IN_PROJECTOR, INNER, "(y := self.linear_1(features)) * torch.sigmoid(1.702 * y)"),
    ),
    "the tanh GELU": ("projector sees", (IN_PROJECTOR, INNER, INNER.replace("es))", 'es), approximate="tanh")'))),
    "ReLU": ("projector", (IN_PROJECTOR, INNER, INNER.replace("gelu", "relu"))),
    "no GELU": ("projector", (IN_PROJECTOR, INNER, "self.linear_1(features)")),
    "the GELU behind both": ("projector", (IN_PROJECTOR, PROJECTED, "F.gelu(self.linear_2(self.linear_1(features)))")),
    "one linear": ("projector", (IN_PROJECTOR, PROJECTED, INNER)),
    "no bias": ("projector", (IN_PROJECTOR, "self.linear_1(features)", "features @ self.linear_1.weight.T")),
    "the gradients' path is cut": (
        "sees",
        (IN_PROJECTOR, "self.linear_1(features)", "self.linear_1(features.detach())"),
    ),
}


RIGHT_ANSWERS = {
    "SiLU of another argument": ((IN_QUICK_GELU, GELU, "F.silu(1.702 * x) / 1.702"),),
    "flatten and transpose": ((IN_VISION_EMBEDDINGS, FLATTEN, "patches.flatten(2).transpose(1, 2)"),),
    "unfold": (
        (
            IN_VISION_EMBEDDINGS,
            "patches = " + CONVOLVE,
            "p, w = self.patch_embedding.kernel_size[0], self.patch_embedding.weight.flatten(1)",
        ),
        (IN_VISION_EMBEDDINGS, FLATTEN, "F.unfold(pixels.to(w.dtype), p, stride=p).transpose(1, 2) @ w.T"),
    ),
    "positions looked up": (
        (
            IN_VISION_EMBEDDINGS,
            EMBEDDED,
            "torch.cat((first, patches), dim=1) + self.position_embedding(torch.arange(1 + patches.shape[1]))",
        ),
    ),
    "attention in stripes": (
        (
            IN_VISION_ATTENTION,
            MIX,
            f"torch.cat([({SCORES.replace('q', 'r', 1)}).softmax(dim=-1) @ v for r in q.split(3, dim=2)], dim=2)",
        ),
    ),
    "attention head by head": (
        (
            IN_VISION_ATTENTION,
            MIX,
            MIX.replace("q, k, v", "*one").join(
                ("torch.stack([", " for one in zip(*(y.unbind(1) for y in (q, k, v)))], 1)")
            ),
        ),
    ),
    "attention written out": ((IN_VISION_ATTENTION, MIX, f"({SCORES}).softmax(dim=-1) @ v"),),
    "blocks by number": (
        (
            IN_VISION_TOWER,
            BLOCKS,
            "(self.encoder.layers[n] for n in range(len(self.encoder.layers) if depth is None else depth))",
        ),
    ),
    "layers below zero told apart": (
        (IN_SELECT_FEATURES, CHOSEN, "states[layer if layer >= 0 else depth + 1 + layer]"),
    ),
    "the GELU by erf": ((IN_PROJECTOR, INNER, "(y := self.linear_1(features)) * 0.5 * (1 + torch.erf(y / 2**0.5))"),),
}
ANSWERS = Answers(
    "a1",
    frozenset(QUICK),
    {
        "gelu": (QUICK_GELU, "refuse projector"),
        "embeddings": (EMBEDDINGS, "quick_gelu projector"),
        "attention": (ATTENTION, "quick_gelu reading_order"),
        "block": (BLOCK, "quick_gelu attention"),
        "tower": (TOWER, "attention block"),
        "features": (FEATURES, "projector tower"),
        "projector": (PROJECTIONS, "quick_gelu features"),
    },
    RIGHT_ANSWERS,
)
TELLING = (
    "gelu: a rounded constant",
    "embeddings: positions from 0 for the patches",
    "projector: the tanh GELU",
)


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


@pytest.mark.slow
@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (MIX, "ran"),
        (
            f"torch.cat([({SCORES.replace('q', 'r', 1)}).softmax(dim=-1) @ v for r in q.split(128, dim=2)], dim=2)",
            "ran",
        ),
        (f"({SCORES}).softmax(dim=-1) @ v", "too much memory"),
    ],
    ids=["fused", "in stripes", "written out"],
)
def test_many_tokens_by_all_tokens_fit_no_memory(answer, status, tmp_path):
    task = next(task for task in ROW.tasks if task.test == MEASURED)
    project = write_version(ROW, tmp_path / "project", changed((IN_VISION_ATTENTION, MIX, answer)))
    job = Job(task.test, seed_of(SEED, ROW, task), 60, task.megabytes)
    (outcome,) = supervise(project, KIT / ROW.tests, [job])
    assert outcome.status == status
