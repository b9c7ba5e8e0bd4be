"""Functions that a student can run but not read: their bodies are compiled, in `compiled.bin` beside this file.

In a student's folder, a function that another assignment asks for has its signature and docstring but no body. Its
decorator `@compiled` gives it the compiled body. Bytecode works with one minor version of Python only.
"""

import marshal
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import cache, update_wrapper
from importlib.util import MAGIC_NUMBER
from pathlib import Path
from types import CodeType, FunctionType

from minivlm.errors import CourseError

STORE = Path(__file__).with_name("compiled.bin")  # only in a student's folder
EMPTY_HEADER = bytes(12)  # in place of flags, time and size of the source, in a file of bytecode


def compiled(function: Callable) -> Callable:
    """The function with its compiled body; the function itself, still to be written, if the store has none for it."""
    code = stored().get(f"{function.__module__}.{function.__qualname__}")
    if code is None:
        return function
    complete = FunctionType(code, function.__globals__, function.__name__, function.__defaults__, function.__closure__)
    complete.__kwdefaults__ = function.__kwdefaults__
    return update_wrapper(complete, function)


@cache
def stored() -> Mapping[str, CodeType]:
    """The code of each function in the store of this package, by its dotted name."""
    return read_store(STORE)


def read_store(file: Path) -> Mapping[str, CodeType]:
    """The code of each function in a store, by its dotted name. Raises `CourseError` if the file is missing or was made
    by another version of Python.
    """
    content = file.read_bytes() if file.is_file() else b""
    if not content.startswith(MAGIC_NUMBER):
        raise CourseError(
            f"{file} was not made by this version of Python ({version()}), or is missing. README.md in the student's "
            "folder names the version that it was made for: use that one, or ask for a folder made with yours."
        )
    return marshal.loads(content[len(MAGIC_NUMBER) :])


def version() -> str:
    """The minor version of Python, such as "3.11"."""
    return "{}.{}".format(*sys.version_info)


def bodies(source: str, file: str, names: Sequence[str]) -> dict[str, CodeType]:
    """The code of the functions `names` of a source text, by dotted name; `file` is its path, such as
    "minivlm/model/layers.py"."""
    module = compile(source, f"<{file}, compiled>", "exec", dont_inherit=True)
    dotted = file.removesuffix(".py").replace("/", ".")
    return {f"{dotted}.{name}": body(module, name) for name in names}


def body(module: CodeType, name: str) -> CodeType:
    """The code of one function, such as "rotate" or "RMSNorm.forward", from a module's code. Raises `CourseError` if
    it uses variables of an enclosing function.
    """
    code = module
    for part in name.split("."):
        inner = [constant for constant in code.co_consts if isinstance(constant, CodeType)]
        code = next(constant for constant in inner if constant.co_name == part)
    if code.co_freevars:
        raise CourseError(f"{name} uses {', '.join(code.co_freevars)} from around it, and cannot be compiled alone.")
    return code


def store_of(package: Path) -> Path:
    """The store's file in a copy of the package."""
    return package / STORE.relative_to(STORE.parents[1])


def store(code: Mapping[str, CodeType], package: Path) -> None:
    """Write a store into a copy of the package."""
    store_of(package).write_bytes(MAGIC_NUMBER + marshal.dumps(dict(code)))


def module_bytes(source: str, name: str) -> bytes:
    """A module as bytecode that Python imports without its source; time and size of the source are left out."""
    return MAGIC_NUMBER + EMPTY_HEADER + marshal.dumps(compile(source, name, "exec", dont_inherit=True))
