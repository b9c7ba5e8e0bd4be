"""The rules of the architecture: each reads the source of one file and returns what is wrong with it, as sentences."""

import ast
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import minivlm

PACKAGE = Path(minivlm.__file__).parent
FILES = sorted(file.relative_to(PACKAGE).as_posix() for file in PACKAGE.rglob("*.py"))

# Floors from the ground up. A room imports itself and the floors below it; neighbours on a floor do not meet.
FLOORS = [
    "errors shell",
    "files stats",
    "model toyworld",
    "inputs checkpoints",
    "inference",
    "training",
    "lens",
    "evaluation",
    "experiments course",
    "cli",
    "__main__",
]
MODEL_FLOORS = [
    "config",
    "layers cache layout sinks",
    "redistribute eah effect",
    "clva aim",
    "mitigation",
    "call",
    "attention",
    "vision projector decoder",
    "llava",
    "__init__",
]
MODEL_MAY_IMPORT = {"torch", "einops", "minivlm", *sys.stdlib_module_names}
MATPLOTLIB_IN = {"lens/plots.py"}
FORBIDDEN_IMPORTS = {"transformers", "pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib"}
FORBIDDEN_CALLS = {"eval", "exec", "setattr", "delattr", "compile", "__import__"}
HOOKS = re.compile(r"register_\w*hook\w*")
FORBIDDEN_PATHS = {"torch.load", "torch.save", "torch.jit.load", "sys.modules"}
MAKES_REQUESTS = "cli/arguments.py:request"  # what argparse parsed goes in, a frozen request comes out
JSON_READER = "files.py"
READS_JSON_ITSELF = "course/kit/"  # runs in a student's process, on what its own supervisor wrote
CALLS_IN = {"course/compiled.py": {"compile"}}  # of the package's own text, for a student's folder
PATCHES_IN = {"cli/terminal.py": {"warnings.showwarning"}}  # within `catch_warnings`, as its documentation says
IMAGE_NUMBERS = {35, 36, 575, 576, 577, 611, 336, 32000, 32064}
NUMBERS_IN = {  # the tables of known checkpoints; and drawings, where 35 and 36 are colours, angles and sizes
    "checkpoints/configs.py": {32000},
    "checkpoints/families.py": {336, 32000},
    "checkpoints/maker.py": {32000, 32064},
    "toyworld/objects.py": {35, 36},
    "toyworld/drawings/kitchen.py": {36},
    "toyworld/drawings/living_room.py": {35},
}
LONGEST_FUNCTION, LONGEST_FILE = 40, 300


def source(file: str) -> str:
    return (PACKAGE / file).read_text(encoding="utf-8")


@cache
def parsed(code: str) -> ast.Module:
    """Every rule reads the same sources: each is parsed once."""
    return ast.parse(code)


def rank(room: str, floors: list[str]) -> int:
    """The floor of a room; every room must have one."""
    found = [number for number, rooms in enumerate(floors) if room in rooms.split()]
    assert found, f"{room!r} stands on no floor: give it one here and in the plan of the house"
    return found[0]


def room_of(module: str) -> str:
    """`minivlm.model.cache` -> `model`."""
    return module.split(".")[1]


def imported(tree: ast.AST, file: str = "x.py") -> Iterator[tuple[str, int]]:
    """Every module that a source imports, wherever it stands, by its full name; and the line."""
    package = ["minivlm", *Path(file).parent.parts]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *(node.module or "").split(".")]).strip(".")
            yield module, node.lineno
            for alias in node.names:
                inside = PACKAGE.joinpath(*module.split(".")[1:], alias.name)
                if module.split(".")[0] == "minivlm" and (inside.is_dir() or inside.with_suffix(".py").is_file()):
                    yield f"{module}.{alias.name}", node.lineno


def dotted(node: ast.AST) -> str:
    """`a.b.c` of names and attributes, "" for anything else."""
    if isinstance(node, ast.Attribute):
        return f"{before}.{node.attr}" if (before := dotted(node.value)) else ""
    return node.id if isinstance(node, ast.Name) else ""


def upward_imports(code: str, file: str) -> list[str]:
    """Imports of a room on the same floor or above."""
    room = Path(file).parts[0].removesuffix(".py")
    if file == "__init__.py":
        return []
    faults = []
    for module, line in imported(parsed(code), file):
        above = module.startswith("minivlm.") and rank(room_of(module), FLOORS) >= rank(room, FLOORS)
        if module == "minivlm" and rank(room, FLOORS) < rank("experiments", FLOORS):
            faults.append(f"{file}:{line} imports the whole package")
        elif above and room_of(module) != room:
            faults.append(f"{file}:{line} imports {module}")
    return faults


def upward_imports_in_model(code: str, file: str) -> list[str]:
    """The same between the files of the network, and everything there that is neither torch nor einops."""
    here = rank(Path(file).stem, MODEL_FLOORS)
    faults = []
    for module, line in imported(parsed(code), file):
        parts = module.split(".")
        outside = parts[0] == "minivlm" and parts[1:2] not in (["model"], ["errors"])
        inside = parts[:2] == ["minivlm", "model"]
        above = inside and rank((*parts, "__init__")[2], MODEL_FLOORS) >= here
        if parts[0] not in MODEL_MAY_IMPORT or outside or above:
            faults.append(f"{file}:{line} imports {module}")
    return faults


def forbidden(code: str, file: str) -> list[str]:
    """Hooks, patches, pickles, code that is run from data, loading that is not strict, foreign libraries."""
    tree = parsed(code)
    modules = {module.split(".")[0] for module, _ in imported(tree, file)} & FORBIDDEN_IMPORTS
    faults = [f"{file} imports {module}" for module in modules]
    if file not in MATPLOTLIB_IN and "matplotlib" in {module.split(".")[0] for module, _ in imported(tree, file)}:
        faults.append(f"{file} imports matplotlib")
    names = {alias.asname or alias.name for n in ast.walk(tree) if isinstance(n, ast.Import) for alias in n.names}
    names = {name.split(".")[0] for name in names}  # the modules that this source can reach by name
    for node in ast.walk(tree):
        exempt = {f"patches {name}" for name in PATCHES_IN.get(file, ())}
        exempt |= {f"calls {name}" for name in CALLS_IN.get(file, ())}
        faults += [f"{file}:{node.lineno} {fault}" for fault in _faults_of(node, names) if fault not in exempt]
    return faults


def _faults_of(node: ast.AST, modules: set[str]) -> Iterator[str]:
    if isinstance(node, ast.Attribute):
        if HOOKS.fullmatch(node.attr):
            yield node.attr
        if dotted(node) in FORBIDDEN_PATHS:
            yield dotted(node)
        if isinstance(node.ctx, (ast.Store, ast.Del)) and dotted(node).split(".")[0] in modules:
            yield f"patches {dotted(node)}"
        if isinstance(node.ctx, ast.Store) and node.attr == "forward":
            yield "replaces a forward"
    if isinstance(node, ast.Global):
        yield f"changes the global {node.names[0]}"
    if isinstance(node, ast.Call):
        if isinstance(node.func, ast.Name) and node.func.id in FORBIDDEN_CALLS:
            yield f"calls {node.func.id}"
        strict = [word.value for word in node.keywords if word.arg == "strict"]
        if getattr(node.func, "attr", "") == "load_state_dict":
            strict += node.args[1:2]
            if any(not (isinstance(value, ast.Constant) and value.value is True) for value in strict):
                yield "loads a state that need not fit"
        if any(word.arg in ("trust_remote_code", "allow_pickle") for word in node.keywords):
            yield "trusts foreign code"


def namespaces(code: str, file: str) -> list[str]:
    """argparse below the command line; there, what takes a Namespace and is not `MAKES_REQUESTS`; writing into one."""
    tree = parsed(code)
    faults = []
    if not file.startswith("cli/"):
        faults += [f"{file}:{line} imports argparse" for name, line in imported(tree, file) if name == "argparse"]
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and f"{file}:{node.name}" != MAKES_REQUESTS:
            given = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            named = [arg.arg for arg in given if arg.annotation and "Namespace" in ast.unparse(arg.annotation)]
            faults += [f"{file}:{node.lineno} {node.name} takes a Namespace as {name}" for name in named]
        written = isinstance(node, ast.Attribute) and isinstance(node.ctx, (ast.Store, ast.Del))
        if written and dotted(node.value) == "args":
            faults.append(f"{file}:{node.lineno} writes into args")
    return faults


def other_json_readers(code: str, file: str) -> list[str]:
    """Uses of json.load and json.loads outside the one strict reader."""
    if file == JSON_READER or file.startswith(READS_JSON_ITSELF):
        return []
    tree = parsed(code)
    read = [node for node in ast.walk(tree) if dotted(node) in ("json.load", "json.loads")]
    named = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module == "json"]
    return [f"{file}:{node.lineno} reads JSON by itself, not with minivlm.files.parse_json" for node in [*read, *named]]


def image_numbers(code: str, file: str) -> list[str]:
    """Whole numbers that count image tokens of one particular model."""
    allowed = NUMBERS_IN.get(file, set())
    return [
        f"{file}:{node.lineno} {node.value}"
        for node in ast.walk(parsed(code))
        if isinstance(node, ast.Constant) and type(node.value) is int and node.value in IMAGE_NUMBERS - allowed
    ]


def too_long(code: str, file: str) -> list[str]:
    """Functions and files beyond one breath, and modules that do not say what they are for."""
    tree = parsed(code)
    functions = [node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]
    lengths = [(f"{file}:{node.lineno} {node.name}", node.end_lineno - node.lineno + 1) for node in functions]
    faults = [f"{name} has {lines} lines" for name, lines in lengths if lines > LONGEST_FUNCTION]
    if (lines := len(code.splitlines())) > LONGEST_FILE:
        faults.append(f"{file} has {lines} lines")
    return faults if ast.get_docstring(tree) else [*faults, f"{file} has no docstring"]
