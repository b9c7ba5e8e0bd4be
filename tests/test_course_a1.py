"""Assignment a1: the reference is green, holes are open, known wrong answers are red and other right ones green.

Each row of the tables changes the reference in one place or two, as students do: what stands there, what stands there
instead. Time and memory are limited in the last tests only, where two solutions must be told apart by them.
"""

import pytest

from minivlm.course.assignments import assignment
from minivlm.course.project import KIT
from minivlm.course.reference import seed_of
from minivlm.course.supervise import Job, supervise
from minivlm.course.verdict import OPEN, RIGHT, WRONG
from support.course_tools import HOLLOW, SEED, WHOLE, faults, replaced, states, verdicts, write_version

ROW = assignment("a1")
MEASURED = "test_attention_over_many_tokens"
QUICK = {task.test for task in ROW.tasks} - {MEASURED}

LAYERS, VISION, PROJECTOR = "model/layers.py", "model/vision.py", "model/projector.py"
GELU = "x * torch.sigmoid(1.702 * x)"
SIZE = "pixels.ndim != 4 or pixels.shape[1:] != (3, size, size)"
CONVOLVE = "self.patch_embedding(pixels.to(self.class_embedding.dtype))"
FLATTEN = 'rearrange(patches, "B D rows columns -> B (rows columns) D")'
SEQUENCE = "torch.cat((first, patches), dim=1)"
EMBEDDED = "torch.cat((first, patches), dim=1) + self.position_embedding.weight"
SPLIT = '(rearrange(p, "B T (H d) -> B H T d", H=self.num_heads) for p in projections)'
MIX = "F.scaled_dot_product_attention(q, k, v)"
MERGE = 'rearrange(mixed, "B H T d -> B T (H d)")'
SCORES = "(q @ k.transpose(-1, -2)) * q.shape[-1] ** -0.5"
BRANCH_1 = "x = x + self.self_attn(self.layer_norm1(x))"
BRANCH_2 = "return x + self.mlp(self.layer_norm2(x))"
START = "self.pre_layrnorm(self.embeddings(pixels))"
BLOCKS = 'self.encoder["layers"][:depth]'
FEED = "block(states[-1])"
STATES = "return tuple(states)"
CHOSEN = "states[layer % (depth + 1)]"
DROP = "state[:, 1:]"
JOIN = "torch.cat(chosen, dim=-1)"
INNER = "F.gelu(self.linear_1(features))"
PROJECTED = "self.linear_2(F.gelu(self.linear_1(features)))"

# what is wrong: file, pairs of what stands there and what stands there instead, the tasks that must go red (others may)
QUICK_GELU = {
    "a rounded constant": (LAYERS, [(GELU, "x * torch.sigmoid(1.7 * x)")], "quick_gelu"),
    "the exact GELU": (LAYERS, [(GELU, "F.gelu(x)")], "quick_gelu block tower sees"),
    "the tanh GELU": (LAYERS, [(GELU, 'F.gelu(x, approximate="tanh")')], "quick_gelu"),
    "SiLU": (LAYERS, [(GELU, "F.silu(x)")], "quick_gelu"),
    "the gate alone": (LAYERS, [(GELU, "torch.sigmoid(1.702 * x)")], "quick_gelu"),
    "left in fp32": (LAYERS, [(GELU, "x.float() * torch.sigmoid(1.702 * x.float())")], "quick_gelu"),
}

EMBEDDINGS = {
    "column by column": (VISION, [("(rows columns) D", "(columns rows) D")], "reading_order any_picture sees"),
    "flattened with the channels": (
        VISION,
        [(FLATTEN, "patches.reshape(len(patches), -1, patches.shape[1])")],
        "reading_order any_picture",
    ),
    "a grid cut by reshaping": (
        VISION,
        [
            ("patches = " + CONVOLVE, "p = self.patch_embedding.kernel_size[0]"),
            (FLATTEN, 'rearrange(pixels, "B c (r p) (s q) -> B (r s) (c p q)", p=p, q=p)'),
            (SEQUENCE, "torch.cat((first, patches @ self.patch_embedding.weight.flatten(1).T), dim=1)"),
        ],
        "any_picture",
    ),
    "channels last in a patch": (
        VISION,
        [
            (
                CONVOLVE,
                f"F.conv2d({CONVOLVE[21:-1]}.flip(1), self.patch_embedding.weight, stride=S)".replace(
                    "stride=S", "stride=self.patch_embedding.stride"
                ),
            )
        ],
        "any_picture sees",
    ),
    "the class token last": (VISION, [(SEQUENCE, "torch.cat((patches, first), dim=1)")], "class_token reading_order"),
    "no class token": (VISION, [(SEQUENCE, "torch.cat((0 * first, patches), dim=1)")], "class_token any_picture"),
    "no positions": (VISION, [(EMBEDDED, SEQUENCE)], "class_token any_picture sees"),
    "positions for patches alone": (
        VISION,
        [(EMBEDDED, "torch.cat((first, patches + self.position_embedding.weight[1:]), dim=1)")],
        "class_token any_picture",
    ),
    "positions from 0 for the patches": (
        VISION,
        [(EMBEDDED, "torch.cat((first, patches + self.position_embedding.weight[:-1]), dim=1)")],
        "class_token any_picture",
    ),
    "positions as factors": (VISION, [(EMBEDDED, EMBEDDED.replace("+", "*"))], "class_token any_picture"),
    "pixels in their own dtype": (VISION, [(CONVOLVE, "self.patch_embedding(pixels)")], "any_picture"),
    "the tower in the dtype of the pixels": (
        VISION,
        [(CONVOLVE, "F.conv2d(pixels, self.patch_embedding.weight.to(pixels), stride=self.patch_embedding.stride)")],
        "any_picture",
    ),
    "the caller's pixels are changed": (
        VISION,
        [(CONVOLVE, "self.patch_embedding(pixels.detach().mul_(0.5).mul(2).to(self.class_embedding.dtype))")],
        "any_picture",
    ),
    "nothing is refused": (VISION, [(SIZE, "False")], "refuse"),
    "one side is looked at": (VISION, [(SIZE, "pixels.ndim != 4 or pixels.shape[2] != size")], "refuse"),
    "the number of patches is looked at": (
        VISION,
        [(SIZE, "pixels.ndim != 4 or (pixels.shape[2] // 4) * (pixels.shape[3] // 4) != (size // 4) ** 2")],
        "refuse",
    ),
    "an error of another kind": (VISION, [("raise ImageError(", "raise ValueError(")], "refuse"),
    "an error that does not say what was found": (
        VISION,
        [('f"The vision tower expects pixels (N, 3, {size}, {size}), found {tuple(pixels.shape)}."', '"wrong size"')],
        "refuse",
    ),
}

ATTENTION = {
    "no scale": (VISION, [(MIX, MIX.replace("v)", "v, scale=1.0)"))], "attention block sees"),
    "the scale of the whole width": (VISION, [(MIX, MIX.replace("v)", "v, scale=x.shape[-1] ** -0.5)"))], "attention"),
    "the scale without a root": (VISION, [(MIX, MIX.replace("v)", "v, scale=1 / q.shape[-1])"))], "attention"),
    "scaled twice": (VISION, [(MIX, MIX.replace("(q", "(q * q.shape[-1] ** -0.5"))], "attention"),
    "a causal mask": (VISION, [(MIX, MIX.replace("v)", "v, is_causal=True)"))], "attention"),
    "the softmax over the queries": (VISION, [(MIX, f"({SCORES}).softmax(dim=-2) @ v")], "attention"),
    "no softmax": (VISION, [(MIX, f"({SCORES}) @ v")], "attention"),
    "queries and keys exchanged": (VISION, [(MIX, MIX.replace("q, k", "k, q"))], "attention"),
    "keys as values": (VISION, [(MIX, MIX.replace("k, v", "k, k"))], "attention"),
    "heads interleaved": (VISION, [("B T (H d) -> B H T d", "B T (d H) -> B H T d")], "attention"),
    "heads interleaved both ways": (
        VISION,
        [("B T (H d) -> B H T d", "B T (d H) -> B H T d"), ("B H T d -> B T (H d)", "B H T d -> B T (d H)")],
        "attention",
    ),
    "split without exchanging axes": (
        VISION,
        [(SPLIT, "(p.reshape(len(x), self.num_heads, x.shape[1], -1) for p in projections)")],
        "attention",
    ),
    "merged without exchanging axes": (VISION, [(MERGE, "mixed.reshape(x.shape)")], "attention"),
    "one head": (VISION, [("H=self.num_heads", "H=1")], "attention"),
    "pictures see each other": (
        VISION,
        [
            (SPLIT, SPLIT.replace("B H T d", "H (B T) d")),
            (MERGE, 'rearrange(mixed, "H (B T) d -> B T (H d)", B=len(x))'),
        ],
        "attention",
    ),
    "not projected back": (VISION, [(f"self.out_proj({MERGE})", MERGE)], "attention"),
}

BLOCK = {
    "normalised behind the sum": (
        VISION,
        [
            (BRANCH_1, "x = self.layer_norm1(x + self.self_attn(x))"),
            (BRANCH_2, "return self.layer_norm2(x + self.mlp(x))"),
        ],
        "block tower",
    ),
    "the straight line begins behind the norm": (
        VISION,
        [(BRANCH_1, "x = self.layer_norm1(x)\n        x = x + self.self_attn(x)")],
        "block",
    ),
    "no straight line past the attention": (VISION, [(BRANCH_1, BRANCH_1.replace("x + ", ""))], "block"),
    "no straight line past the MLP": (VISION, [(BRANCH_2, BRANCH_2.replace("x + ", ""))], "block"),
    "the first norm twice": (VISION, [(BRANCH_2, BRANCH_2.replace("norm2", "norm1"))], "block"),
    "the MLP reads what is not normalised": (VISION, [(BRANCH_2, "return x + self.mlp(x)")], "block"),
    "both branches read the input": (
        VISION,
        [(BRANCH_1, "y = x + self.self_attn(self.layer_norm1(x))"), (BRANCH_2, BRANCH_2.replace("x +", "y +"))],
        "block",
    ),
    "the MLP first": (
        VISION,
        [
            (BRANCH_1, "x = x + self.mlp(self.layer_norm2(x))"),
            (BRANCH_2, "return x + self.self_attn(self.layer_norm1(x))"),
        ],
        "block",
    ),
    "added in place": (VISION, [(BRANCH_1, BRANCH_1.replace("x = x +", "x +="))], "block tower sees"),
}

TOWER = {
    "the first norm is forgotten": (VISION, [(START, "self.embeddings(pixels)")], "tower sees"),
    "the last norm instead of the first": (VISION, [(START, START.replace("pre_layr", "post_layer"))], "tower sees"),
    "the last norm behind the last block": (
        VISION,
        [(STATES, "return (*states[:-1], self.post_layernorm(states[-1]))")],
        "tower sees",
    ),
    "state 0 before its norm": (
        VISION,
        [
            (START, "self.embeddings(pixels)"),
            (FEED, "block(self.pre_layrnorm(states[-1]) if len(states) == 1 else states[-1])"),
        ],
        "tower",
    ),
    "a list": (VISION, [(STATES, "return states")], "tower"),
    "without the embedding": (VISION, [(STATES, "return tuple(states[1:])")], "tower"),
    "the last state alone": (VISION, [(STATES, "return (states[-1],)")], "tower"),
    "every block reads the embedding": (VISION, [(FEED, "block(states[0])")], "tower sees"),
    "all blocks run": (VISION, [(BLOCKS, 'self.encoder["layers"]')], "tower"),
    "all blocks run, and the rest is cut off": (
        VISION,
        [(BLOCKS, 'self.encoder["layers"]'), (STATES, "return tuple(states[: None if depth is None else depth + 1])")],
        "tower",
    ),
    "a depth of 0 is taken for none": (VISION, [(BLOCKS, BLOCKS.replace(":depth", ": depth or None"))], "tower"),
    "one block too many": (VISION, [(BLOCKS, BLOCKS.replace(":depth", ": depth and depth + 1"))], "tower"),
    "one block too few": (VISION, [(BLOCKS, BLOCKS.replace(":depth", ": depth and depth - 1"))], "tower sees"),
    "the gradients' path is cut": (VISION, [(FEED, "block(states[-1].detach())")], "sees"),
}

FEATURES = {
    "always the last layer": (PROJECTOR, [(CHOSEN, "states[-1]")], "features sees"),
    "counted from the end of what was computed": (PROJECTOR, [(CHOSEN, "states[layer]")], "features sees"),
    "counted modulo what was computed": (PROJECTOR, [(CHOSEN, "states[layer % len(states)]")], "features sees"),
    "the embedding does not count": (PROJECTOR, [(CHOSEN, "states[layer % depth]")], "features sees"),
    "one layer before": (PROJECTOR, [(CHOSEN, "states[layer % (depth + 1) - 1]")], "features sees"),
    "the class token is kept": (PROJECTOR, [(DROP, "state")], "features sees"),
    "the last patch is dropped": (PROJECTOR, [(DROP, "state[:, :-1]")], "features sees"),
    "the first picture is dropped": (PROJECTOR, [(DROP, "state[1:]")], "features sees"),
    "the class token is never kept": (
        PROJECTOR,
        [('if config.vision_feature_select_strategy == "default":', "if True:")],
        "features",
    ),
    "the strategies exchanged": (PROJECTOR, [('== "default"', '!= "default"')], "features sees"),
    "layers in the order of the tower": (
        PROJECTOR,
        [("for layer in config.feature_layers", "for layer in sorted(config.feature_layers)")],
        "features",
    ),
    "the first layer named": (
        PROJECTOR,
        [("for layer in config.feature_layers", "for layer in config.feature_layers[:1]")],
        "features",
    ),
    "layers added up": (PROJECTOR, [(JOIN, "sum(chosen)")], "features"),
    "layers behind each other": (PROJECTOR, [(JOIN, "torch.cat(chosen, dim=1)")], "features"),
}

PROJECTIONS = {
    "quick_gelu": (
        PROJECTOR,
        [(INNER, "(y := self.linear_1(features)) * torch.sigmoid(1.702 * y)")],
        "projector sees",
    ),
    "the tanh GELU": (PROJECTOR, [(INNER, INNER.replace("es))", 'es), approximate="tanh")'))], "projector sees"),
    "ReLU": (PROJECTOR, [(INNER, INNER.replace("gelu", "relu"))], "projector"),
    "no GELU": (PROJECTOR, [(INNER, "self.linear_1(features)")], "projector"),
    "the GELU behind both": (PROJECTOR, [(PROJECTED, "F.gelu(self.linear_2(self.linear_1(features)))")], "projector"),
    "one linear": (PROJECTOR, [(PROJECTED, "F.gelu(self.linear_1(features))")], "projector"),
    "no bias": (PROJECTOR, [("self.linear_1(features)", "features @ self.linear_1.weight.T")], "projector"),
    "the gradients' path is cut": (PROJECTOR, [("_1(features)", "_1(features.detach())")], "sees"),
}

PIECES = {"gelu": QUICK_GELU, "embeddings": EMBEDDINGS, "attention": ATTENTION, "block": BLOCK, "tower": TOWER}
PIECES |= {"features": FEATURES, "projector": PROJECTIONS}
WRONG_ANSWERS = {f"{piece}: {name}": answer for piece, answers in PIECES.items() for name, answer in answers.items()}

# other right answers: file, pairs of what stands there and what stands there instead
RIGHT_ANSWERS = {
    "SiLU of another argument": (LAYERS, [(GELU, "F.silu(1.702 * x) / 1.702")]),
    "flatten and transpose": (VISION, [(FLATTEN, "patches.flatten(2).transpose(1, 2)")]),
    "unfold": (
        VISION,
        [
            (
                "patches = " + CONVOLVE,
                "p, w = self.patch_embedding.kernel_size[0], self.patch_embedding.weight.flatten(1)",
            ),
            (FLATTEN, "F.unfold(pixels.to(w.dtype), p, stride=p).transpose(1, 2) @ w.T"),
        ],
    ),
    "positions looked up": (
        VISION,
        [("+ self.position_embedding.weight", "+ self.position_embedding(torch.arange(1 + patches.shape[1]))")],
    ),
    "attention in stripes": (
        VISION,
        [(MIX, f"torch.cat([({SCORES.replace('q', 'r', 1)}).softmax(dim=-1) @ v for r in q.split(3, dim=2)], dim=2)")],
    ),
    "attention head by head": (
        VISION,
        [
            (
                MIX,
                MIX.replace("q, k, v", "*one").join(
                    ("torch.stack([", " for one in zip(*(y.unbind(1) for y in (q, k, v)))], 1)")
                ),
            )
        ],
    ),
    "attention written out": (VISION, [(MIX, f"({SCORES}).softmax(dim=-1) @ v")]),
    "blocks by number": (
        VISION,
        [
            (
                BLOCKS,
                '(self.encoder["layers"][n] for n in range(len(self.encoder["layers"]) if depth is None else depth))',
            )
        ],
    ),
    "layers below zero told apart": (PROJECTOR, [(CHOSEN, "states[layer if layer >= 0 else depth + 1 + layer]")]),
    "the GELU by erf": (PROJECTOR, [(INNER, "(y := self.linear_1(features)) * 0.5 * (1 + torch.erf(y / 2**0.5))")]),
}


@pytest.fixture(scope="module")
def found():
    """Verdicts on all of them, from one process."""
    answers = {name: replaced(file, *pairs) for name, (file, pairs, *_) in (WRONG_ANSWERS | RIGHT_ANSWERS).items()}
    return verdicts("a1", answers | {WHOLE: WHOLE, HOLLOW: HOLLOW}, QUICK)


def test_the_reference_is_right(found):
    assert set(states(found, WHOLE).values()) == {RIGHT}


def test_holes_are_open(found):
    assert set(states(found, HOLLOW).values()) == {OPEN}


@pytest.mark.parametrize("answer", WRONG_ANSWERS)
def test_a_wrong_answer_is_found(found, answer):
    red = {test for test, state in states(found, answer).items() if state == WRONG}
    for part in WRONG_ANSWERS[answer][2].split():
        assert any(part in test for test in red), f"{part} is not red, only {sorted(red)}"


@pytest.mark.parametrize("answer", RIGHT_ANSWERS)
def test_another_right_answer_is_right(found, answer):
    assert faults(found[answer]) == {}


@pytest.mark.parametrize("seed", ["another seed"])
def test_other_seeds_judge_alike(seed):
    names = ["gelu: a rounded constant", "embeddings: positions from 0 for the patches", "projector: the tanh GELU"]
    wrong = {name: replaced(WRONG_ANSWERS[name][0], *WRONG_ANSWERS[name][1]) for name in names}
    right = {name: replaced(file, *pairs) for name, (file, pairs) in RIGHT_ANSWERS.items()}
    found = verdicts("a1", wrong | right, QUICK, seed)
    assert all(WRONG in states(found, name).values() for name in wrong)
    assert all(set(states(found, name).values()) == {RIGHT} for name in right)


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
    project = write_version(ROW, tmp_path / "project", replaced(VISION, (MIX, answer)))
    job = Job(task.test, seed_of(SEED, ROW, task), 60, task.megabytes)
    (outcome,) = supervise(project, KIT / ROW.tests, [job])
    assert outcome.status == status
