"""Many questions, a batch at a time."""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from tqdm import tqdm

from minivlm.inference.answer import Answer
from minivlm.inference.trace import Trace

Item = TypeVar("Item")
Result = TypeVar("Result", Answer, Trace)


def ask_all(
    ask: Callable[[Sequence[Item]], Sequence[Result]], rows: Sequence[Item], size: int, title: str | None = None
) -> Iterator[Result]:
    """The answers or traces of all `rows`, in their order; `ask` gets `size` of them at a time.

    With a `title`, a progress bar is shown. Raises `KeyboardInterrupt` if Ctrl-C cut an answer, see `whole`.
    """
    for start in tqdm(range(0, len(rows), size), desc=title, unit="batch", disable=title is None):
        yield from whole(ask(rows[start : start + size]))


def whole(results: Sequence[Result]) -> Sequence[Result]:
    """The results as given. Raises `KeyboardInterrupt` if Ctrl-C cut one: half an answer must not be counted."""
    if any(result.finish == "interrupted" for result in results):
        raise KeyboardInterrupt
    return results
