"""For pytest each notebook here is one test: all its cells run, in order, in a kernel of its own, without an error."""

from pathlib import Path

import pytest

LONGEST = 1200  # seconds a cell: it ends what hangs; a busy machine must not reach it


class Notebook(pytest.Item):
    """A run of a file. jupyter's packages take seconds to import: only the process that runs a notebook does it."""

    def runtest(self) -> None:
        import nbclient
        import nbformat

        cells = nbformat.read(self.path, as_version=4)
        where = {"metadata": {"path": str(self.path.parent)}}
        nbclient.NotebookClient(cells, timeout=LONGEST, resources=where).execute()

    def repr_failure(self, excinfo: pytest.ExceptionInfo) -> str:
        """The cell and its traceback, as nbclient writes them."""
        return str(excinfo.value)

    def reportinfo(self) -> tuple[Path, None, str]:
        return self.path, None, self.name


class NotebookFile(pytest.File):
    def collect(self) -> list[Notebook]:
        return [Notebook.from_parent(self, name="runs")]


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> NotebookFile | None:
    return NotebookFile.from_parent(parent, path=file_path) if file_path.suffix == ".ipynb" else None
