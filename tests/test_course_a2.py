"""Assignment a2: the reference is green, holes are open, known wrong answers are red and other right ones green.

Each row of the tables changes the reference in one place or two, as students do: what stands there, what stands there
instead. Time and memory are limited in the last tests only, where two solutions must be told apart by them.
"""

import pytest

from minivlm.course.assignments import assignment
from minivlm.course.project import KIT
from minivlm.course.reference import LEAST, seed_of
from minivlm.course.supervise import Job, supervise
from minivlm.course.verdict import OPEN, RIGHT, WRONG
from support.course_tools import HOLLOW, SEED, WHOLE, faults, replaced, states, verdicts, write_version

ROW = assignment("a2")
FAST, TWICE = "test_cache_is_fast", "test_cache_holds_nothing_twice"
QUICK = {task.test for task in ROW.tasks} - {FAST, TWICE}

LAYERS, CACHE = "model/layers.py", "model/cache.py"
WIDE = "exact = x.float()"
DIVIDE = "exact = exact * torch.rsqrt(exact.pow(2).mean(-1, keepdim=True) + self.eps)"
WEIGH = "return self.weight * exact.to(x.dtype)"
GATED = "F.silu(self.gate_proj(x)) * self.up_proj(x)"
SPEEDS = "1.0 / theta ** (even / head_dim)"
TURNS = "positions[..., None].float() * frequencies"
BOTH = "angles = torch.cat((angles, angles), dim=-1)"
CAST = "return angles.cos().to(dtype), angles.sin().to(dtype)"
HALVES = "x.chunk(2, dim=-1)"
PARTNER = "torch.cat((-second, first), dim=-1)"
TURNED = "return x * cos[:, None] + turned * sin[:, None]"
NOTE = "self.image[:, self.length : end] = image"
NOTES = "return self.image[:, :end]"
END = "end = self.length + k.shape[2]"
KEYS = "self.keys[layer, :, :, self.length : end] = k"
VALUES = "self.values[layer, :, :, self.length : end] = v"
VIEWS = "return self.keys[layer, :, :, :end], self.values[layer, :, :, :end]"
INDEX = "torch.tensor([*rows], device=self.keys.device)"
HELD = "(part[:, index, :, :end] for part in (self.keys, self.values))"
OWN = "branch.keys, branch.values = (F.pad(part, (0, 0, 0, room)) for part in held)"
OWN_NOTES = "branch.image = F.pad(self.image[index, :end], (0, room))"
NEIGHBOURS = "x[..., ::2], x[..., 1::2]"

# what is wrong: file, pairs of what stands there and what stands there instead, the tasks that must go red (others may)
NORM = {
    "in the dtype of the model": (LAYERS, [(WIDE, "exact = x")], "sixteen_bits"),
    "the mean is taken off": (LAYERS, [(WIDE, "exact = x.float() - x.float().mean(-1, keepdim=True)")], "rmsnorm"),
    "the variance": (LAYERS, [(DIVIDE, DIVIDE.replace("pow(2).mean(-1", "var(-1, correction=0"))], "rmsnorm"),
    "eps outside the root": (
        LAYERS,
        [(DIVIDE, "exact = exact / (exact.pow(2).mean(-1, keepdim=True).sqrt() + self.eps)")],
        "rmsnorm",
    ),
    "no eps": (LAYERS, [(" + self.eps", "")], "rmsnorm"),
    "an eps of one's own": (LAYERS, [(" + self.eps", " + 1e-6")], "rmsnorm"),
    "the sum of the squares": (LAYERS, [(".mean(-1", ".sum(-1")], "rmsnorm pieces"),
    "no root": (LAYERS, [(DIVIDE, "exact = exact / (exact.pow(2).mean(-1, keepdim=True) + self.eps)")], "rmsnorm"),
    "over the tokens": (
        LAYERS,
        [(DIVIDE, "y = torch.atleast_2d(exact)\n        exact = exact * torch.rsqrt(y.pow(2).mean(-2) + self.eps)")],
        "rmsnorm",
    ),
    "over all axes": (LAYERS, [(".mean(-1, keepdim=True)", ".mean()")], "rmsnorm pieces"),
    "the weight before the cast": (LAYERS, [(WEIGH, "return (self.weight * exact).to(x.dtype)")], "sixteen_bits"),
    "the weight before the cast, in fp32": (LAYERS, [(WEIGH, "return self.weight * exact")], "sixteen_bits"),
    "only the root in fp32": (
        LAYERS,
        [
            (DIVIDE, "root = torch.rsqrt(exact.pow(2).mean(-1, keepdim=True) + self.eps)"),
            (WEIGH, "return self.weight * (x * root.to(x.dtype))"),
        ],
        "sixteen_bits",
    ),
    "the library's norm in the dtype of the model": (
        LAYERS,
        [(WEIGH, "return F.rms_norm(x, x.shape[-1:], self.weight.to(x.dtype), self.eps)")],
        "sixteen_bits",
    ),
    "no weight": (LAYERS, [(WEIGH, "return exact.to(x.dtype)")], "rmsnorm"),
    "one more than the weight": (LAYERS, [(WEIGH, WEIGH.replace("self.weight", "(1 + self.weight)"))], "rmsnorm"),
}

MLP = {
    "the other one is the gate": (LAYERS, [(GATED, "self.gate_proj(x) * F.silu(self.up_proj(x))")], "mlp pieces"),
    "no SiLU": (LAYERS, [(GATED, "self.gate_proj(x) * self.up_proj(x)")], "mlp"),
    "GELU": (LAYERS, [("F.silu(", "F.gelu(")], "mlp"),
    "a sigmoid": (LAYERS, [("F.silu(", "F.sigmoid(")], "mlp"),
    "SiLU of the product": (LAYERS, [(GATED, "F.silu(self.gate_proj(x) * self.up_proj(x))")], "mlp"),
    "added": (LAYERS, [(GATED, GATED.replace("*", "+"))], "mlp"),
    "the gate alone": (LAYERS, [(GATED, "F.silu(self.gate_proj(x))")], "mlp"),
}

ANGLES = {
    "all in the dtype of the model": (
        LAYERS,
        [(TURNS, "positions[..., None].to(dtype) * frequencies.to(dtype)")],
        "far_away",
    ),
    "positions in the dtype of the model": (LAYERS, [(TURNS, TURNS.replace("float()", "to(dtype)"))], "far_away"),
    "frequencies in the dtype of the model": (LAYERS, [(TURNS, f"{TURNS}.to(dtype)")], "far_away"),
    "angles in the dtype of the model": (LAYERS, [(TURNS, f"({TURNS}).to(dtype)")], "far_away"),
    "in the order of neighbours": (LAYERS, [(BOTH, "angles = angles.repeat_interleave(2, dim=-1)")], "near pieces"),
    "half as wide": (LAYERS, [(BOTH, "")], "near"),
    "twice the exponent": (LAYERS, [(SPEEDS, "1.0 / theta ** (2 * even / head_dim)")], "near"),
    "half the exponent": (LAYERS, [(SPEEDS, "1.0 / theta ** (even / 2 / head_dim)")], "near"),
    "the exponent begins at 2": (LAYERS, [(SPEEDS, "1.0 / theta ** ((even + 2) / head_dim)")], "near"),
    "the exponent ends at 1": (LAYERS, [(SPEEDS, "1.0 / theta ** (even / max(head_dim - 2, 1))")], "near"),
    "faster and faster": (LAYERS, [(SPEEDS, "theta ** (even / head_dim)")], "near"),
    "a theta of one's own": (LAYERS, [(SPEEDS, SPEEDS.replace("theta", "10000.0"))], "near"),
    "in turns, not in radians": (LAYERS, [(SPEEDS, "2 * torch.pi / theta ** (even / head_dim)")], "near"),
    "positions from 1": (
        LAYERS,
        [(TURNS, TURNS.replace("positions[..., None]", "(positions[..., None] + 1)"))],
        "near",
    ),
    "positions of the first row for all": (
        LAYERS,
        [(TURNS, TURNS.replace("positions[", "positions[:1].expand(positions.shape)["))],
        "near pieces",
    ),
    "positions are counted, not read": (
        LAYERS,
        [(TURNS, TURNS.replace("positions[", "torch.arange(positions.shape[-1]).expand(positions.shape)["))],
        "near pieces",
    ),
    "sine and cosine exchanged": (LAYERS, [(CAST, "return angles.sin().to(dtype), angles.cos().to(dtype)")], "near"),
    "not cast": (LAYERS, [(CAST, "return angles.cos(), angles.sin()")], "far_away"),
    "the caller's positions are changed": (LAYERS, [(BOTH, f"{BOTH}\n    positions += 1")], "far_away"),
}

ROTATE = {
    "turned the other way": (LAYERS, [(PARTNER, "torch.cat((second, -first), dim=-1)")], "rotate pieces"),
    "no sign": (LAYERS, [(PARTNER, "torch.cat((second, first), dim=-1)")], "rotate"),
    "halves not exchanged": (LAYERS, [(PARTNER, "torch.cat((-first, second), dim=-1)")], "rotate"),
    "neighbours": (
        LAYERS,
        [(HALVES, NEIGHBOURS), (PARTNER, "torch.stack((-second, first), dim=-1).flatten(-2)")],
        "rotate pieces",
    ),
    "neighbours, put back as halves": (LAYERS, [(HALVES, NEIGHBOURS)], "rotate"),
    "neighbours in both functions": (
        LAYERS,
        [
            (BOTH, "angles = angles.repeat_interleave(2, dim=-1)"),
            (HALVES, NEIGHBOURS),
            (PARTNER, "torch.stack((-second, first), dim=-1).flatten(-2)"),
        ],
        "near rotate pieces",
    ),
    "cosine and sine exchanged": (LAYERS, [(TURNED, "return x * sin[:, None] + turned * cos[:, None]")], "rotate"),
    "no axis for the heads": (LAYERS, [(TURNED, "return x * cos + turned * sin")], "rotate"),
    "no axis for the heads where sizes agree": (
        LAYERS,
        [
            (TURNED, f"if x.shape[0] == x.shape[1]:\n        return x * cos + turned * sin\n    {TURNED}"),
        ],
        "rotate",
    ),
    "the axis in the wrong place": (
        LAYERS,
        [
            (
                TURNED,
                "if x.shape[1] == x.shape[2]:\n        return x * cos[:, :, None] + turned * sin[:, :, None]\n"
                f"    {TURNED}",
            )
        ],
        "rotate",
    ),
    "the first row's angles for all": (LAYERS, [(TURNED, TURNED.replace("[:,", "[:1,"))], "rotate pieces"),
    "half of the head is turned": (
        LAYERS,
        [
            (
                TURNED,
                "return torch.cat(((x * cos[:, None] + turned * sin[:, None]).chunk(2, dim=-1)[0], second), dim=-1)",
            )
        ],
        "rotate",
    ),
    "in place": (
        LAYERS,
        [(TURNED, "return x.detach().mul_(cos[:, None]).add_(turned.detach() * sin[:, None])")],
        "rotate",
    ),
    "left in fp32": (LAYERS, [(TURNED, TURNED.replace("x *", "x.float() *"))], "rotate"),
    "the gradients' path is cut": (LAYERS, [(PARTNER, f"{PARTNER}.detach()")], "rotate"),
}

MARK = {
    "the new ones alone": (CACHE, [(NOTES, "return image")], "notes pieces"),
    "at the start": (CACHE, [(NOTE, "self.image[:, : image.shape[1]] = image")], "notes"),
    "empty slots, too": (CACHE, [(NOTES, "return self.image")], "notes pieces"),
    "the old ones are forgotten": (CACHE, [(NOTE, f"self.image[:] = False\n        {NOTE}")], "notes"),
    "told, not kept": (
        CACHE,
        [(NOTE, ""), (NOTES, "return torch.cat((self.image[:, : self.length], image), dim=1)")],
        "notes",
    ),
    "joined with what stood there": (CACHE, [(NOTE, NOTE.replace("=", "|="))], "notes"),
    "length is moved": (CACHE, [(NOTES, "self.length = end\n        " + NOTES)], "notes pieces"),
    "the first row for all": (CACHE, [(NOTE, NOTE + "[:1]")], "notes"),
}

WRITE = {
    "at the start": (CACHE, [(KEYS, "self.keys[layer, :, :, : k.shape[2]] = k")], "writes pieces"),
    "at the end of the room": (CACHE, [(KEYS, "self.keys[layer, :, :, -k.shape[2] :] = k")], "writes pieces"),
    "into all layers": (CACHE, [(KEYS, KEYS.replace("layer", ":"))], "writes"),
    "into the first layer": (CACHE, [(KEYS, KEYS.replace("layer", "0"))], "writes pieces"),
    "length is moved": (CACHE, [(VIEWS, "self.length = end\n        " + VIEWS)], "writes pieces"),
    "length is moved by the last layer": (
        CACHE,
        [(VIEWS, f"self.length = end if layer == len(self.keys) - 1 else self.length\n        {VIEWS}")],
        "writes",
    ),
    "the new ones alone": (CACHE, [(VIEWS, "return k, v")], "writes pieces"),
    "empty slots, too": (CACHE, [(VIEWS, "return self.keys[layer], self.values[layer]")], "writes pieces"),
    "keys and values exchanged": (
        CACHE,
        [(VIEWS, "return self.values[layer, :, :, :end], self.keys[layer, :, :, :end]")],
        "writes pieces",
    ),
    "keys as values": (CACHE, [(VALUES, VALUES.replace("= v", "= k"))], "writes pieces"),
    "the first row for all": (CACHE, [(KEYS, KEYS + "[:1]")], "writes pieces"),
    "one token at a time": (CACHE, [(END, "end = self.length + 1")], "writes pieces"),
    "as many tokens as heads": (CACHE, [(END, "end = self.length + k.shape[1]")], "writes"),
    "a copy comes back": (
        CACHE,
        [(VIEWS, "return self.keys[layer, :, :, :end].clone(), self.values[layer, :, :, :end].clone()")],
        "writes",
    ),
    "old and new are joined": (
        CACHE,
        [
            (
                VIEWS,
                "old = (self.keys[layer, :, :, : self.length], self.values[layer, :, :, : self.length])\n"
                "        return tuple(torch.cat(pair, dim=2) for pair in zip(old, (k, v)))",
            )
        ],
        "writes",
    ),
    "the whole cache is copied first": (CACHE, [(KEYS, f"self.keys = self.keys.clone()\n        {KEYS}")], "writes"),
}

BRANCH = {
    "slots are shared": (CACHE, [(OWN, ""), (OWN_NOTES, "")], "branches"),
    "notes are shared": (CACHE, [(OWN_NOTES, "")], "branches"),
    "the cache itself": (CACHE, [("branch = copy(self)", "branch = self")], "branches"),
    "rows in the order of the old ones": (CACHE, [(INDEX, INDEX.replace("[*rows]", "sorted(rows)"))], "branches"),
    "each row once": (CACHE, [(INDEX, INDEX.replace("[*rows]", "list(dict.fromkeys(rows))"))], "branches"),
    "the first rows": (CACHE, [(INDEX, "torch.arange(len(rows)) % self.rows")], "branches"),
    "rows from one row share its slots": (
        CACHE,
        [
            (
                OWN,
                "padded = [F.pad(part, (0, 0, 0, room)) for part in held]\n        if len(set(rows)) == 1:\n"
                "            padded = [part[:, :1].expand_as(part) for part in padded]\n"
                "        branch.keys, branch.values = padded",
            )
        ],
        "branches",
    ),
    "no notes": (CACHE, [(OWN_NOTES, "branch.image = self.image.new_zeros(len(index), capacity)")], "branches"),
    "notes of the old rows": (CACHE, [(OWN_NOTES, OWN_NOTES.replace("[index,", "[:,"))], "branches"),
    "length 0": (CACHE, [(OWN_NOTES, OWN_NOTES + "\n        branch.length = 0")], "branches"),
    "full": (CACHE, [(OWN_NOTES, OWN_NOTES + "\n        branch.length = capacity")], "branches"),
    "room behind the old room": (CACHE, [("capacity - self.length", "capacity")], "branches"),
    "never less room": (
        CACHE,
        [("capacity - self.length", "max(capacity, self.capacity) - self.length")],
        "branches",
    ),
    "keys as values": (CACHE, [(HELD, HELD.replace("self.values", "self.keys"))], "branches"),
}

PIECES = {"norm": NORM, "mlp": MLP, "angles": ANGLES, "rotate": ROTATE, "mark": MARK, "write": WRITE, "branch": BRANCH}
WRONG_ANSWERS = {f"{piece}: {name}": answer for piece, answers in PIECES.items() for name, answer in answers.items()}

# other right answers: file, pairs of what stands there and what stands there instead
RIGHT_ANSWERS = {
    "the root, and a sum over the width": (
        LAYERS,
        [(DIVIDE, "exact = exact / torch.sqrt((exact * exact).sum(-1, keepdim=True) / x.shape[-1] + self.eps)")],
    ),
    "a power of -1/2": (
        LAYERS,
        [(DIVIDE, "exact = exact * (exact.square().mean(-1, keepdim=True) + self.eps) ** -0.5")],
    ),
    "the library's norm in fp32": (LAYERS, [(DIVIDE, "exact = F.rms_norm(exact, x.shape[-1:], None, self.eps)")]),
    "SiLU by hand": (LAYERS, [(GATED, "(gate := self.gate_proj(x)) * torch.sigmoid(gate) * self.up_proj(x)")]),
    "frequencies by exp": (LAYERS, [(SPEEDS, "torch.exp(-torch.tensor(theta).log() * even / head_dim)")]),
    "a negative exponent": (LAYERS, [(SPEEDS, "theta ** (-even / head_dim)")]),
    "angles in fp64": (LAYERS, [(TURNS, "positions[..., None].double() * theta ** (-even.double() / head_dim)")]),
    "joined behind the cosine": (
        LAYERS,
        [(BOTH, ""), (CAST, "return tuple(torch.cat((w, w), -1).to(dtype) for w in (angles.cos(), angles.sin()))")],
    ),
    "half by half": (
        LAYERS,
        [
            (
                TURNED,
                "c, s = (part[:, None].chunk(2, dim=-1)[0] for part in (cos, sin))\n"
                "    return torch.cat((first * c - second * s, second * c + first * s), dim=-1)",
            )
        ],
    ),
    "turned in fp32": (
        LAYERS,
        [(TURNED, "return (x.float() * cos[:, None].float() + turned.float() * sin[:, None].float()).to(x.dtype)")],
    ),
    "complex numbers": (
        LAYERS,
        [
            (
                TURNED,
                "c, s = (part[:, None].float().chunk(2, dim=-1)[0] for part in (cos, sin))\n"
                "    z = torch.complex(first.float(), second.float()) * torch.complex(c, s)\n"
                "    return torch.cat((z.real, z.imag), dim=-1).to(x.dtype)",
            )
        ],
    ),
    "narrow and copy": (CACHE, [(KEYS, "self.keys[layer].narrow(2, self.length, k.shape[2]).copy_(k)")]),
    "index_copy": (CACHE, [(KEYS, "self.keys[layer].index_copy_(2, torch.arange(self.length, end), k)")]),
    "an empty object, filled": (
        CACHE,
        [
            ("branch = copy(self)", "branch = object.__new__(KVCache)"),
            (OWN_NOTES, f"{OWN_NOTES}\n        branch.length = self.length"),
        ],
    ),
    "whatever lies in the empty slots": (CACHE, [(OWN, OWN.replace("room)", "room), value=7.0"))]),
}


@pytest.fixture(scope="module")
def found():
    """Verdicts on all of them, from one process."""
    answers = {name: replaced(file, *pairs) for name, (file, pairs, *_) in (WRONG_ANSWERS | RIGHT_ANSWERS).items()}
    return verdicts("a2", answers | {WHOLE: WHOLE, HOLLOW: HOLLOW}, QUICK)


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
    names = [
        "norm: the weight before the cast, in fp32",
        "norm: in the dtype of the model",
        "angles: frequencies in the dtype of the model",
        "mark: joined with what stood there",
    ]
    wrong = {name: replaced(WRONG_ANSWERS[name][0], *WRONG_ANSWERS[name][1]) for name in names}
    right = {name: replaced(file, *pairs) for name, (file, pairs) in RIGHT_ANSWERS.items()}
    found = verdicts("a2", wrong | right, QUICK, seed)
    assert all(WRONG in states(found, name).values() for name in wrong)
    assert all(set(states(found, name).values()) == {RIGHT} for name in right)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("answer", "endings"),
    [
        (None, ["ran", "ran"]),
        ("write: a copy comes back", ["too slow", "too much memory"]),
        ("write: old and new are joined", ["too slow", "too much memory"]),
    ],
    ids=str,
)
def test_copies_take_too_long_and_too_much_memory(answer, endings, tmp_path):
    tasks = [task for task in ROW.tasks if task.test in (FAST, TWICE)]
    changes = replaced(WRONG_ANSWERS[answer][0], *WRONG_ANSWERS[answer][1]) if answer else WHOLE
    project = write_version(ROW, tmp_path / "project", changes)
    limits = {FAST: LEAST if answer else 60.0, TWICE: 60.0}  # the reference's own time is not judged on a busy machine
    jobs = [Job(task.test, seed_of(SEED, ROW, task), limits[task.test], task.megabytes) for task in tasks]
    assert [outcome.status for outcome in supervise(project, KIT / ROW.tests, jobs)] == endings
