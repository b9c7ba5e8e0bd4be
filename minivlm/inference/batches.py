"""Many questions, a batch at a time."""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from tqdm import tqdm

from minivlm.inference.answer import Answer
from minivlm.inference.trace import Trace

Row = TypeVar("Row")
Told = TypeVar("Told", Answer, Trace)


def ask_all(
    ask: Callable[[Sequence[Row]], Sequence[Told]], rows: Sequence[Row], size: int, title: str | None = None
) -> Iterator[Told]:
    """What `ask` makes of the rows, an answer or a trace of each, in their order; `size` rows are asked at once.

    With a `title`, a bar shows how far it is. Raises KeyboardInterrupt where Ctrl-C cut an answer, see `whole`.
    """
    for start in tqdm(range(0, len(rows), size), desc=title, unit="batch", disable=title is None):
        yield from whole(ask(rows[start : start + size]))


def whole(told: Sequence[Told]) -> Sequence[Told]:
    """The answers as they are, once none was cut by Ctrl-C: half an answer is not to be counted."""
    if any(one.finish == "interrupted" for one in told):
        raise KeyboardInterrupt
    return told
