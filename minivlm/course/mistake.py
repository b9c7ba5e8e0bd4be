"""A common mistake: what it gives for an example that the handout works by hand."""

from dataclasses import dataclass

from minivlm.course.kit.show import Shown

NEAR = 6e-5  # of values with five digits


@dataclass(frozen=True)
class Mistake:
    """A row of a handout's table "what common mistakes give"."""

    test: str
    name: str  # under which the test shows the example
    place: tuple[int, ...] | str  # index of a tensor, or key of a figure
    values: tuple[float, ...]  # what the mistake gives there
    sentence: str  # what was done, as the handout calls it

    def is_in(self, shown: Shown) -> bool:
        """Whether a test showed these values. What it showed may be of any kind and shape."""
        found = self.found(shown)
        return len(found) == len(self.values) and all(
            abs(a - b) <= NEAR for a, b in zip(found, self.values, strict=True)
        )

    def found(self, shown: Shown) -> list[float]:
        """The values at the mistake's place; none if there is no such place."""
        if isinstance(self.place, str):
            figures = shown.plain.get(self.name)
            value = figures.get(self.place) if isinstance(figures, dict) else None
            return [float(value)] if isinstance(value, float) else []
        tensor = shown.tensors.get(self.name)
        if tensor is None or tensor.is_complex():
            return []
        try:
            return tensor[self.place].double().flatten().tolist()
        except IndexError:
            return []
