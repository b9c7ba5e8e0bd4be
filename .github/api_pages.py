"""Build the API pages from the docstrings. Fails where a public name has none.

    pip install . pdoc && python .github/api_pages.py site

A field is explained by the comment behind it, where shapes and units stand. pdoc reads no comments, so that it is shown
a copy of the package in which each such comment is a docstring below its field.
"""

import ast
import inspect
import io
import sys
import tokenize
import warnings
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages
from shutil import copytree
from tempfile import TemporaryDirectory

import pdoc

ROOT = Path(__file__).parents[1]
NOT_IMPORTED = ("!minivlm.__main__", "!minivlm.course.kit", "!minivlm.training", "!minivlm.toyworld.drawings")


def with_field_docstrings(source: str) -> str:
    """The source with a docstring below each annotated field or constant that has a comment behind it."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    comments = {token.start[0]: token.string.lstrip("# ") for token in tokens if token.type == tokenize.COMMENT}
    bodies = [node.body for node in ast.walk(ast.parse(source)) if isinstance(node, (ast.Module, ast.ClassDef))]
    fields = [node for body in bodies for node in body if isinstance(node, (ast.AnnAssign, ast.Assign))]
    lines = source.splitlines()
    for field in sorted(fields, key=lambda field: field.end_lineno, reverse=True):  # from below: line numbers hold
        if field.lineno == field.end_lineno and field.lineno in comments:
            lines.insert(field.end_lineno, " " * field.col_offset + repr(comments[field.lineno]))
    return "\n".join(lines) + "\n"


def copy_package(folder: Path) -> None:
    """The package with its fields explained, in `folder`."""
    copytree(ROOT / "minivlm", folder / "minivlm", ignore=lambda *_: ["__pycache__"])
    for file in (folder / "minivlm").rglob("*.py"):
        file.write_text(with_field_docstrings(file.read_text(encoding="utf-8")), encoding="utf-8")


def specifications() -> list[str]:
    """What pdoc is to document. It finds a package's modules by itself, unless the package has an `__all__`."""
    names = [module.name for module in walk_packages(import_module("minivlm").__path__, "minivlm.")]
    hidden = [name for name in names if hasattr(import_module(name.rpartition(".")[0]), "__all__")]
    return ["minivlm", *hidden, *NOT_IMPORTED]


def require_docstrings() -> None:
    """Exit unless all that `minivlm` itself hands out is documented."""
    minivlm = import_module("minivlm")
    public = {name: getattr(minivlm, name) for name in minivlm.__all__}  # imported here, so that pdoc finds them
    described = {name: it for name, it in public.items() if inspect.isclass(it) or inspect.isroutine(it)}
    if missing := [name for name, it in described.items() if not it.__doc__]:
        sys.exit(f"Public names without a docstring: {', '.join(missing)}. Say what they are, with shapes and errors.")


if __name__ == "__main__":
    with TemporaryDirectory() as folder:
        copy_package(Path(folder))
        sys.path.insert(0, folder)
        require_docstrings()
        pdoc.render.configure(docformat="markdown", footer_text=f"minivlm {import_module('minivlm').__version__}")
        warnings.simplefilter("ignore")  # of modules that are found twice, and of the checkout beside the copy
        pdoc.pdoc(*specifications(), output_directory=Path(sys.argv[1]))
