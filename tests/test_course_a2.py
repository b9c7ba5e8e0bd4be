"""Assignment a2: the reference is green, holes are open, known wrong answers are red and other right ones green.

What rows of the tables mean, `support/course_answers.py` says. Time and memory are limited in the last tests only,
where solutions must be told apart by them.
"""

import pytest

from minivlm.course.assignments import assignment
from minivlm.course.reference import LEAST
from minivlm.course.verdict import OPEN, RIGHT
from support.course_answers import Answers, changed
from support.course_tools import HOLLOW, WHOLE, endings, faults, states

ROW = assignment("a2")
FAST, TWICE = "test_cache_is_fast", "test_cache_holds_nothing_twice"
QUICK = {task.test for task in ROW.tasks} - {FAST, TWICE}

IN_KVCACHE_BRANCH = "model/cache.py", "KVCache.branch"
IN_KVCACHE_MARK = "model/cache.py", "KVCache.mark"
IN_KVCACHE_WRITE = "model/cache.py", "KVCache.write"
IN_GATED_MLP = "model/layers.py", "GatedMLP.forward"
IN_RMSNORM = "model/layers.py", "RMSNorm.forward"
IN_ROTARY_ANGLES = "model/layers.py", "rotary_angles"
IN_ROTATE = "model/layers.py", "rotate"

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


NORM = {
    "in the dtype of the model": ("sixteen_bits", (IN_RMSNORM, WIDE, "exact = x")),
    "the mean is taken off": ("rmsnorm", (IN_RMSNORM, WIDE, "exact = x.float() - x.float().mean(-1, keepdim=True)")),
    "the variance": ("rmsnorm", (IN_RMSNORM, DIVIDE, DIVIDE.replace("pow(2).mean(-1", "var(-1, correction=0"))),
    "eps outside the root": (
        "rmsnorm",
        (IN_RMSNORM, DIVIDE, "exact = exact / (exact.pow(2).mean(-1, keepdim=True).sqrt() + self.eps)"),
    ),
    "no eps": (
        "rmsnorm",
        (IN_RMSNORM, "exact.pow(2).mean(-1, keepdim=True) + self.eps", "exact.pow(2).mean(-1, keepdim=True)"),
    ),
    "an eps of one's own": (
        "rmsnorm",
        (IN_RMSNORM, "exact.pow(2).mean(-1, keepdim=True) + self.eps", "exact.pow(2).mean(-1, keepdim=True) + 1e-6"),
    ),
    "the sum of the squares": ("rmsnorm pieces", (IN_RMSNORM, "exact.pow(2).mean", "exact.pow(2).sum")),
    "no root": ("rmsnorm", (IN_RMSNORM, DIVIDE, "exact = exact / (exact.pow(2).mean(-1, keepdim=True) + self.eps)")),
    "over the tokens": (
        "rmsnorm",
        (IN_RMSNORM, DIVIDE, "y = torch.atleast_2d(exact)\nexact = exact * torch.rsqrt(y.pow(2).mean(-2) + self.eps)"),
    ),
    "over all axes": ("rmsnorm pieces", (IN_RMSNORM, "exact.pow(2).mean(-1, keepdim=True)", "exact.pow(2).mean()")),
    "the weight before the cast": ("sixteen_bits", (IN_RMSNORM, WEIGH, "return (self.weight * exact).to(x.dtype)")),
    "the weight before the cast, in fp32": ("sixteen_bits", (IN_RMSNORM, WEIGH, "return self.weight * exact")),
    "only the root in fp32": (
        "sixteen_bits",
        (IN_RMSNORM, DIVIDE, "root = torch.rsqrt(exact.pow(2).mean(-1, keepdim=True) + self.eps)"),
        (IN_RMSNORM, WEIGH, "return self.weight * (x * root.to(x.dtype))"),
    ),
    "the library's norm in the dtype of the model": (
        "sixteen_bits",
        (IN_RMSNORM, WEIGH, "return F.rms_norm(x, x.shape[-1:], self.weight.to(x.dtype), self.eps)"),
    ),
    "no weight": ("rmsnorm", (IN_RMSNORM, WEIGH, "return exact.to(x.dtype)")),
    "one more than the weight": ("rmsnorm", (IN_RMSNORM, WEIGH, WEIGH.replace("self.weight", "(1 + self.weight)"))),
}

MLP = {
    "the other one is the gate": ("mlp pieces", (IN_GATED_MLP, GATED, "self.gate_proj(x) * F.silu(self.up_proj(x))")),
    "no SiLU": ("mlp", (IN_GATED_MLP, GATED, "self.gate_proj(x) * self.up_proj(x)")),
    "GELU": ("mlp", (IN_GATED_MLP, "F.silu(self.gate_proj(x))", "F.gelu(self.gate_proj(x))")),
    "a sigmoid": ("mlp", (IN_GATED_MLP, "F.silu(self.gate_proj(x))", "F.sigmoid(self.gate_proj(x))")),
    "SiLU of the product": ("mlp", (IN_GATED_MLP, GATED, "F.silu(self.gate_proj(x) * self.up_proj(x))")),
    "added": ("mlp", (IN_GATED_MLP, GATED, GATED.replace("*", "+"))),
    "the gate alone": ("mlp", (IN_GATED_MLP, GATED, "F.silu(self.gate_proj(x))")),
}

ANGLES = {
    "all in the dtype of the model": (
        "far_away",
        (IN_ROTARY_ANGLES, TURNS, "positions[..., None].to(dtype) * frequencies.to(dtype)"),
    ),
    "positions in the dtype of the model": (
        "far_away",
        (IN_ROTARY_ANGLES, TURNS, TURNS.replace("float()", "to(dtype)")),
    ),
    "frequencies in the dtype of the model": ("far_away", (IN_ROTARY_ANGLES, TURNS, f"{TURNS}.to(dtype)")),
    "angles in the dtype of the model": ("far_away", (IN_ROTARY_ANGLES, TURNS, f"({TURNS}).to(dtype)")),
    "in the order of neighbours": (
        "near pieces",
        (IN_ROTARY_ANGLES, BOTH, "angles = angles.repeat_interleave(2, dim=-1)"),
    ),
    "half as wide": ("near", (IN_ROTARY_ANGLES, BOTH, "")),
    "twice the exponent": ("near", (IN_ROTARY_ANGLES, SPEEDS, "1.0 / theta ** (2 * even / head_dim)")),
    "half the exponent": ("near", (IN_ROTARY_ANGLES, SPEEDS, "1.0 / theta ** (even / 2 / head_dim)")),
    "the exponent begins at 2": ("near", (IN_ROTARY_ANGLES, SPEEDS, "1.0 / theta ** ((even + 2) / head_dim)")),
    "the exponent ends at 1": ("near", (IN_ROTARY_ANGLES, SPEEDS, "1.0 / theta ** (even / max(head_dim - 2, 1))")),
    "faster and faster": ("near", (IN_ROTARY_ANGLES, SPEEDS, "theta ** (even / head_dim)")),
    "a theta of one's own": ("near", (IN_ROTARY_ANGLES, SPEEDS, SPEEDS.replace("theta", "10000.0"))),
    "in turns, not in radians": ("near", (IN_ROTARY_ANGLES, SPEEDS, "2 * torch.pi / theta ** (even / head_dim)")),
    "positions from 1": (
        "near",
        (IN_ROTARY_ANGLES, TURNS, TURNS.replace("positions[..., None]", "(positions[..., None] + 1)")),
    ),
    "positions of the first row for all": (
        "near pieces",
        (IN_ROTARY_ANGLES, TURNS, TURNS.replace("positions[", "positions[:1].expand(positions.shape)[")),
    ),
    "positions are counted, not read": (
        "near pieces",
        (
            IN_ROTARY_ANGLES,
            TURNS,
            TURNS.replace("positions[", "torch.arange(positions.shape[-1]).expand(positions.shape)["),
        ),
    ),
    "sine and cosine exchanged": (
        "near",
        (IN_ROTARY_ANGLES, CAST, "return angles.sin().to(dtype), angles.cos().to(dtype)"),
    ),
    "not cast": ("far_away", (IN_ROTARY_ANGLES, CAST, "return angles.cos(), angles.sin()")),
    "the caller's positions are changed": (
        "far_away",
        (IN_ROTARY_ANGLES, BOTH, "angles = torch.cat((angles, angles), dim=-1)\npositions += 1"),
    ),
}

ROTATE = {
    "turned the other way": ("rotate pieces", (IN_ROTATE, PARTNER, "torch.cat((second, -first), dim=-1)")),
    "no sign": ("rotate", (IN_ROTATE, PARTNER, "torch.cat((second, first), dim=-1)")),
    "halves not exchanged": ("rotate", (IN_ROTATE, PARTNER, "torch.cat((-first, second), dim=-1)")),
    "neighbours": (
        "rotate pieces",
        (IN_ROTATE, HALVES, NEIGHBOURS),
        (IN_ROTATE, PARTNER, "torch.stack((-second, first), dim=-1).flatten(-2)"),
    ),
    "neighbours, put back as halves": ("rotate", (IN_ROTATE, HALVES, NEIGHBOURS)),
    "neighbours in both functions": (
        "near rotate pieces",
        (IN_ROTARY_ANGLES, BOTH, "angles = angles.repeat_interleave(2, dim=-1)"),
        (IN_ROTATE, HALVES, NEIGHBOURS),
        (IN_ROTATE, PARTNER, "torch.stack((-second, first), dim=-1).flatten(-2)"),
    ),
    "cosine and sine exchanged": ("rotate", (IN_ROTATE, TURNED, "return x * sin[:, None] + turned * cos[:, None]")),
    "no axis for the heads": ("rotate", (IN_ROTATE, TURNED, "return x * cos + turned * sin")),
    "no axis for the heads where sizes agree": (
        "rotate",
        (
            IN_ROTATE,
            "turned = torch.cat((-second, first), dim=-1)",
            "turned = torch.cat((-second, first), dim=-1)\n"
            "if x.shape[0] == x.shape[1]:\n"
            "    return x * cos + turned * sin",
        ),
    ),
    "the axis in the wrong place": (
        "rotate",
        (
            IN_ROTATE,
            "turned = torch.cat((-second, first), dim=-1)",
            "turned = torch.cat((-second, first), dim=-1)\n"
            "if x.shape[1] == x.shape[2]:\n"
            "    return x * cos[:, :, None] + turned * sin[:, :, None]",
        ),
    ),
    "the first row's angles for all": ("rotate pieces", (IN_ROTATE, TURNED, TURNED.replace("[:,", "[:1,"))),
    "half of the head is turned": (
        "rotate",
        (
            IN_ROTATE,
            TURNED,
            "return torch.cat(((x * cos[:, None] + turned * sin[:, None]).chunk(2, dim=-1)[0], second), dim=-1)",
        ),
    ),
    "in place": (
        "rotate",
        (IN_ROTATE, TURNED, "return x.detach().mul_(cos[:, None]).add_(turned.detach() * sin[:, None])"),
    ),
    "left in fp32": ("rotate", (IN_ROTATE, TURNED, TURNED.replace("x *", "x.float() *"))),
    "the gradients' path is cut": ("rotate", (IN_ROTATE, PARTNER, f"{PARTNER}.detach()")),
}

MARK = {
    "the new ones alone": ("notes pieces", (IN_KVCACHE_MARK, NOTES, "return image")),
    "at the start": ("notes", (IN_KVCACHE_MARK, NOTE, "self.image[:, : image.shape[1]] = image")),
    "empty slots, too": ("notes pieces", (IN_KVCACHE_MARK, NOTES, "return self.image")),
    "the old ones are forgotten": (
        "notes",
        (
            IN_KVCACHE_MARK,
            "end = self.length + image.shape[1]",
            "end = self.length + image.shape[1]\nself.image[:] = False",
        ),
    ),
    "told, not kept": (
        "notes",
        (IN_KVCACHE_MARK, NOTE, ""),
        (IN_KVCACHE_MARK, NOTES, "return torch.cat((self.image[:, : self.length], image), dim=1)"),
    ),
    "joined with what stood there": ("notes", (IN_KVCACHE_MARK, NOTE, NOTE.replace("=", "|="))),
    "length is moved": (
        "notes pieces",
        (IN_KVCACHE_MARK, NOTE, "self.image[:, self.length : end] = image\nself.length = end"),
    ),
    "the first row for all": ("notes", (IN_KVCACHE_MARK, NOTE, NOTE + "[:1]")),
}

WRITE = {
    "at the start": ("writes pieces", (IN_KVCACHE_WRITE, KEYS, "self.keys[layer, :, :, : k.shape[2]] = k")),
    "at the end of the room": ("writes pieces", (IN_KVCACHE_WRITE, KEYS, "self.keys[layer, :, :, -k.shape[2] :] = k")),
    "into all layers": ("writes", (IN_KVCACHE_WRITE, KEYS, KEYS.replace("layer", ":"))),
    "into the first layer": ("writes pieces", (IN_KVCACHE_WRITE, KEYS, KEYS.replace("layer", "0"))),
    "length is moved": (
        "writes pieces",
        (IN_KVCACHE_WRITE, VALUES, "self.values[layer, :, :, self.length : end] = v\nself.length = end"),
    ),
    "length is moved by the last layer": (
        "writes",
        (
            IN_KVCACHE_WRITE,
            VALUES,
            "self.values[layer, :, :, self.length : end] = v\n"
            "self.length = end if layer == len(self.keys) - 1 else self.length",
        ),
    ),
    "the new ones alone": ("writes pieces", (IN_KVCACHE_WRITE, VIEWS, "return k, v")),
    "empty slots, too": ("writes pieces", (IN_KVCACHE_WRITE, VIEWS, "return self.keys[layer], self.values[layer]")),
    "keys and values exchanged": (
        "writes pieces",
        (IN_KVCACHE_WRITE, VIEWS, "return self.values[layer, :, :, :end], self.keys[layer, :, :, :end]"),
    ),
    "keys as values": ("writes pieces", (IN_KVCACHE_WRITE, VALUES, VALUES.replace("= v", "= k"))),
    "the first row for all": ("writes pieces", (IN_KVCACHE_WRITE, KEYS, KEYS + "[:1]")),
    "one token at a time": ("writes pieces", (IN_KVCACHE_WRITE, END, "end = self.length + 1")),
    "as many tokens as heads": ("writes", (IN_KVCACHE_WRITE, END, "end = self.length + k.shape[1]")),
    "a copy comes back": (
        "writes",
        (
            IN_KVCACHE_WRITE,
            VIEWS,
            "return self.keys[layer, :, :, :end].clone(), self.values[layer, :, :, :end].clone()",
        ),
    ),
    "old and new are joined": (
        "writes",
        (
            IN_KVCACHE_WRITE,
            VIEWS,
            "old = (self.keys[layer, :, :, : self.length], self.values[layer, :, :, : self.length])\n"
            "return tuple(torch.cat(pair, dim=2) for pair in zip(old, (k, v)))",
        ),
    ),
    "the whole cache is copied first": (
        "writes",
        (IN_KVCACHE_WRITE, END, "end = self.length + k.shape[2]\nself.keys = self.keys.clone()"),
    ),
}

BRANCH = {
    "slots are shared": ("branches", (IN_KVCACHE_BRANCH, OWN, ""), (IN_KVCACHE_BRANCH, OWN_NOTES, "")),
    "notes are shared": ("branches", (IN_KVCACHE_BRANCH, OWN_NOTES, "")),
    "the cache itself": ("branches", (IN_KVCACHE_BRANCH, "branch = copy(self)", "branch = self")),
    "rows in the order of the old ones": (
        "branches",
        (IN_KVCACHE_BRANCH, INDEX, INDEX.replace("[*rows]", "sorted(rows)")),
    ),
    "each row once": ("branches", (IN_KVCACHE_BRANCH, INDEX, INDEX.replace("[*rows]", "list(dict.fromkeys(rows))"))),
    "the first rows": ("branches", (IN_KVCACHE_BRANCH, INDEX, "torch.arange(len(rows)) % self.rows")),
    "rows from one row share its slots": (
        "branches",
        (
            IN_KVCACHE_BRANCH,
            OWN,
            "padded = [F.pad(part, (0, 0, 0, room)) for part in held]\n"
            "if len(set(rows)) == 1:\n"
            "    padded = [part[:, :1].expand_as(part) for part in padded]\n"
            "branch.keys, branch.values = padded",
        ),
    ),
    "no notes": (
        "branches",
        (IN_KVCACHE_BRANCH, OWN_NOTES, "branch.image = self.image.new_zeros(len(index), capacity)"),
    ),
    "notes of the old rows": ("branches", (IN_KVCACHE_BRANCH, OWN_NOTES, OWN_NOTES.replace("[index,", "[:,"))),
    "length 0": (
        "branches",
        (IN_KVCACHE_BRANCH, OWN_NOTES, "branch.image = F.pad(self.image[index, :end], (0, room))\nbranch.length = 0"),
    ),
    "full": (
        "branches",
        (
            IN_KVCACHE_BRANCH,
            OWN_NOTES,
            "branch.image = F.pad(self.image[index, :end], (0, room))\nbranch.length = capacity",
        ),
    ),
    "room behind the old room": ("branches", (IN_KVCACHE_BRANCH, "capacity - self.length", "capacity")),
    "never less room": (
        "branches",
        (IN_KVCACHE_BRANCH, "capacity - self.length", "max(capacity, self.capacity) - self.length"),
    ),
    "keys as values": ("branches", (IN_KVCACHE_BRANCH, HELD, HELD.replace("self.values", "self.keys"))),
}


RIGHT_ANSWERS = {
    "the root, and a sum over the width": (
        (
            IN_RMSNORM,
            DIVIDE,
            "exact = exact / torch.sqrt((exact * exact).sum(-1, keepdim=True) / x.shape[-1] + self.eps)",
        ),
    ),
    "a power of -1/2": (
        (IN_RMSNORM, DIVIDE, "exact = exact * (exact.square().mean(-1, keepdim=True) + self.eps) ** -0.5"),
    ),
    "the library's norm in fp32": ((IN_RMSNORM, DIVIDE, "exact = F.rms_norm(exact, x.shape[-1:], None, self.eps)"),),
    "SiLU by hand": ((IN_GATED_MLP, GATED, "(gate := self.gate_proj(x)) * torch.sigmoid(gate) * self.up_proj(x)"),),
    "frequencies by exp": ((IN_ROTARY_ANGLES, SPEEDS, "torch.exp(-torch.tensor(theta).log() * even / head_dim)"),),
    "a negative exponent": ((IN_ROTARY_ANGLES, SPEEDS, "theta ** (-even / head_dim)"),),
    "angles in fp64": (
        (IN_ROTARY_ANGLES, TURNS, "positions[..., None].double() * theta ** (-even.double() / head_dim)"),
    ),
    "joined behind the cosine": (
        (IN_ROTARY_ANGLES, BOTH, ""),
        (IN_ROTARY_ANGLES, CAST, "return tuple(torch.cat((w, w), -1).to(dtype) for w in (angles.cos(), angles.sin()))"),
    ),
    "half by half": (
        (
            IN_ROTATE,
            TURNED,
            "c, s = (part[:, None].chunk(2, dim=-1)[0] for part in (cos, sin))\n"
            "return torch.cat((first * c - second * s, second * c + first * s), dim=-1)",
        ),
    ),
    "turned in fp32": (
        (
            IN_ROTATE,
            TURNED,
            "return (x.float() * cos[:, None].float() + turned.float() * sin[:, None].float()).to(x.dtype)",
        ),
    ),
    "complex numbers": (
        (
            IN_ROTATE,
            TURNED,
            "c, s = (part[:, None].float().chunk(2, dim=-1)[0] for part in (cos, sin))\n"
            "z = torch.complex(first.float(), second.float()) * torch.complex(c, s)\n"
            "return torch.cat((z.real, z.imag), dim=-1).to(x.dtype)",
        ),
    ),
    "narrow and copy": ((IN_KVCACHE_WRITE, KEYS, "self.keys[layer].narrow(2, self.length, k.shape[2]).copy_(k)"),),
    "index_copy": ((IN_KVCACHE_WRITE, KEYS, "self.keys[layer].index_copy_(2, torch.arange(self.length, end), k)"),),
    "an empty object, filled": (
        (IN_KVCACHE_BRANCH, "branch = copy(self)", "branch = object.__new__(KVCache)"),
        (
            IN_KVCACHE_BRANCH,
            OWN_NOTES,
            "branch.image = F.pad(self.image[index, :end], (0, room))\nbranch.length = self.length",
        ),
    ),
    "whatever lies in the empty slots": ((IN_KVCACHE_BRANCH, OWN, OWN.replace("room)", "room), value=7.0")),),
}
ANSWERS = Answers(
    "a2",
    frozenset(QUICK),
    {
        "norm": (NORM, "mlp rotate"),
        "mlp": (MLP, "rmsnorm rotate"),
        "angles": (ANGLES, "rmsnorm mlp"),
        "rotate": (ROTATE, "rmsnorm mlp"),
        "mark": (MARK, "rotate mlp"),
        "write": (WRITE, "rotate mlp"),
        "branch": (BRANCH, "rotate mlp"),
    },
    RIGHT_ANSWERS,
)
TELLING = (
    "norm: the weight before the cast, in fp32",
    "norm: in the dtype of the model",
    "angles: frequencies in the dtype of the model",
    "mark: joined with what stood there",
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


COPYING = "write: a copy comes back", "write: old and new are joined"


@pytest.fixture(scope="module")
def measured():
    """What came of the tests of time and memory on all of them, from one process.

    A wrong answer gets the least time that there is. The reference's own time is not judged on a busy machine.
    """
    versions = {WHOLE: WHOLE} | {answer: changed(*ANSWERS.wrong[answer][1:]) for answer in COPYING}
    seconds = {answer: {FAST: 60.0 if answer == WHOLE else LEAST, TWICE: 60.0} for answer in versions}
    return endings(ROW.name, versions, seconds)


@pytest.mark.slow
@pytest.mark.parametrize("answer", [WHOLE, *COPYING])
def test_copies_take_too_long_and_too_much_memory(measured, answer):
    ended = [measured[answer][test].status for test in (FAST, TWICE)]
    assert ended == (["ran", "ran"] if answer == WHOLE else ["too slow", "too much memory"])
