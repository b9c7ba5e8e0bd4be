"""The layout of one call: which columns of the attention are patches, which rows are text that may attend to them."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from minivlm.errors import PromptError


@dataclass(frozen=True)
class Layout:
    """The columns of the attention are all K tokens so far; its rows are the last `queries` of them.

              <s> U  p p p p p  W h a t ?  A n    p: a patch
    image            x x x x x                    columns that are patches
    text                        x x x x x  x x    rows that are text after a patch
    prompt     x  x  x x x x x  x x x x x         rows of the prompt; those after it are the answer's
    """

    attention_mask: Tensor  # (B, K), False at padding
    image: Tensor  # (B, K), True at patches
    queries: int  # Q
    prompt: int  # the number of columns that belong to the prompt

    def __post_init__(self) -> None:
        if self.image.shape != self.attention_mask.shape:
            raise PromptError(
                f"`image` and `attention_mask` must both have a value for every token of every sample, found shapes "
                f"{tuple(self.image.shape)} and {tuple(self.attention_mask.shape)}."
            )

    @property
    def past(self) -> int:
        """The number of cached columns: keys without a query in this call."""
        return self.image.shape[1] - self.queries

    @property
    def prompt_rows(self) -> int:
        """The number of rows that belong to the prompt; they come first."""
        return max(0, min(self.queries, self.prompt - self.past))

    @cached_property
    def text(self) -> Tensor:
        """(B, Q): rows that are text, not padding, and have at least one patch before them."""
        seen = self.image.cumsum(dim=1) > 0
        return (self.attention_mask & ~self.image & seen)[:, self.past :]

    @cached_property
    def text_rows(self) -> int:
        """The number of rows from the first text row after a patch, in any sample, to the last row; 0 without one."""
        return self.queries - first_true(self.text.any(dim=0), self.queries)

    @cached_property
    def span(self) -> slice:
        """The shortest range of columns that holds every patch of the batch."""
        columns = self.image.any(dim=0)
        start = first_true(columns, len(columns))
        return slice(start, max(start, len(columns) - first_true(columns.flip(0), len(columns))))

    @cached_property
    def patches(self) -> Tensor:
        """(B, 1, 1, P): `image` within `span`, with axes for heads and rows, as weights have them."""
        return self.image[:, None, None, self.span]

    def seen(self, rows: int) -> Tensor:
        """(B, R, P): which patches each of the last `rows` rows may see; text between two pictures sees the first."""
        column = torch.arange(self.image.shape[1], device=self.image.device)
        return self.patches[:, 0] & (column[self.span] <= column[-rows:, None])

    @cached_property
    def numbers(self) -> Tensor:
        """(B, P): the index of each patch among the patches of its sample, from 0; 0 where a column is no patch."""
        inside = self.image[:, self.span]
        return (inside.cumsum(dim=1) - 1).clamp(min=0) * inside

    @cached_property
    def most_patches(self) -> int:
        """The number of patches in the sample that has most of them."""
        return int(self.numbers.max()) + 1


def first_true(vector: Tensor, otherwise: int) -> int:
    """The index of the first True of a vector; `otherwise` if there is none."""
    places = vector.nonzero()
    return int(places[0]) if torch.numel(places) else otherwise


NO_TOKENS = Layout(torch.zeros(0, 0, dtype=torch.bool), torch.zeros(0, 0, dtype=torch.bool), queries=0, prompt=0)
