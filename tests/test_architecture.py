"""The architecture, held by reading the sources: who may import whom, what is never done, how long things may be.

Each rule of support/source_rules.py is first shown small bad sources, so that a rule that sees nothing fails.
"""

import ast
import io
import tokenize
from pathlib import Path

import pytest

from support.source_rules import (
    CALLS_IN,
    FILES,
    FLOORS,
    MODEL_FLOORS,
    NUMBERS_IN,
    PATCHES_IN,
    forbidden,
    image_numbers,
    namespaces,
    other_json_readers,
    rank,
    source,
    too_long,
    upward_imports,
    upward_imports_in_model,
)

BAD = {
    upward_imports: {
        "inference/vlm.py": ["from minivlm.lens import drift", "import minivlm.cli", "from minivlm import evaluation"],
        "inputs/x.py": ["from minivlm.checkpoints.shards import f", "def f():\n    from ..inference.generate import g"],
        "errors.py": ["from minivlm.model import Llava"],
        "lens/x.py": ["from minivlm.evaluation.pope import pope", "import minivlm"],
    },
    upward_imports_in_model: {
        "model/cache.py": ["import numpy", "from minivlm.inputs.image import x", "from minivlm.model.layers import x"],
        "model/mitigation.py": [
            "from minivlm.model.attention import A",
            "from .decoder import D",
            "from . import llava",
        ],
        "model/llava.py": ["from minivlm.model import KVCache", "import minivlm"],
    },
    forbidden: {
        "x.py": [
            "m.register_forward_hook(f)",
            "t.register_hook(f)",
            "m.register_full_backward_pre_hook(f)",
            "import torch\ntorch.load(p)",
            "import pickle",
            "from pickle import loads",
            "from transformers.models import x",
            "m.load_state_dict(s, strict=False)",
            "m.load_state_dict(s, False)",
            "eval(s)",
            "exec(s)",
            "setattr(torch, 'x', 1)",
            "import torch.nn.functional as F\nF.softmax = f",
            "import torch\ntorch.nn.functional.softmax = f",
            "m.forward = f",
            "def f():\n    global x\n    x = 1",
            "import sys\nsys.modules['x'] = m",
            "import matplotlib.pyplot as plt",
            "def f():\n    from matplotlib import pyplot",
            "n.load(f, allow_pickle=True)",
        ],
    },
    namespaces: {
        "evaluation/x.py": ["import argparse", "from argparse import Namespace", "def f(a: 'Namespace'):\n    pass"],
        "cli/x.py": ["def f(a, *, b: Namespace):\n    pass", "def f(args: argparse.Namespace):\n    pass"],
        "cli/y.py": ["args.device = 1", "del args.device", "args.x += 1"],
    },
    other_json_readers: {
        "course/x.py": ["import json\njson.loads(s)", "import json\nread = json.load", "from json import loads"],
    },
    image_numbers: {
        "x.py": ["a = 576", "f(x[:, 35:611])", "if t == 32000:\n    pass"],
        "checkpoints/maker.py": ["n = 576"],
    },
    too_long: {
        "x.py": ["x = 1", '"""Doc."""\ndef f():\n' + "    x = 1\n" * 40, '"""Doc."""\n' + "x = 1\n" * 300],
    },
}
GOOD = '''"""A module that does all that is near to what is forbidden."""
import torch
from minivlm.errors import MinivlmError

def f(model, state, x, n=337):
    """eval( exec( torch.load pickle register_forward_hook 576"""
    model.load_state_dict(state, strict=True, assign=True)
    object.__setattr__(x, "stop", 0.576)
    x.weight = torch.zeros(3)
    return model.eval(), dict(zip(state, state, strict=False))
'''


@pytest.mark.parametrize(
    ("rule", "file", "code"),
    [(rule, file, code) for rule, files in BAD.items() for file, codes in files.items() for code in codes],
    ids=lambda value: value.__name__ if callable(value) else str(value)[:40],
)
def test_each_rule_sees_what_is_bad(rule, file, code):
    assert rule(code, file)


@pytest.mark.parametrize("rule", BAD, ids=lambda rule: rule.__name__)
def test_each_rule_lets_pass_what_is_good(rule):
    assert rule(GOOD, "model/llava.py" if rule is upward_imports_in_model else "inference/vlm.py") == []


@pytest.mark.parametrize("rule", BAD, ids=lambda rule: rule.__name__)
def test_the_package_keeps_the_rules(rule):
    files = [file for file in FILES if rule is not upward_imports_in_model or file.startswith("model/")]
    assert len(files) > 8
    faults = [fault for file in files for fault in rule(source(file), file)]
    assert not faults, "\n" + "\n".join(faults)


def test_the_package_has_few_loose_files():
    loose = {file for file in FILES if "/" not in file}
    assert loose == {"__init__.py", "__main__.py", "errors.py", "files.py", "shell.py", "stats.py"}


def code_lines(text: str) -> set[int]:
    """The numbers of the lines that hold code: no docstring, no comment, nothing empty."""
    nodes = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Expr)]
    strings = [node for node in nodes if isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)]
    prose = {line for node in strings for line in range(node.lineno, (node.end_lineno or 0) + 1)}
    tokens = [token for token in tokenize.generate_tokens(io.StringIO(text).readline) if token.string.strip()]
    return {token.start[0] for token in tokens if token.type != tokenize.COMMENT} - prose


def test_the_network_stays_short_enough_to_be_read():
    assert code_lines('"""Prose\n\nof a module."""\n\nx = 1  # one\n# two\n') == {5}
    network = [code_lines(source(file)) for file in FILES if file.startswith("model/")]
    assert 1000 < sum(map(len, network)) < 1150


def test_every_file_has_its_floor():
    assert {"inference/vlm.py", "model/attention.py", "inputs/prompt.py"} <= set(FILES)
    for file in FILES:
        if file != "__init__.py":
            rank(Path(file).parts[0].removesuffix(".py"), FLOORS)
        if file.startswith("model/"):
            rank(Path(file).stem, MODEL_FLOORS)


def test_every_exemption_is_needed():
    for file, names in [*PATCHES_IN.items(), *CALLS_IN.items()]:
        assert all(name in source(file) for name in names), file
    for file, numbers in NUMBERS_IN.items():
        tree = ast.parse(source(file))
        found = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and type(node.value) is int}
        assert numbers <= found, file
