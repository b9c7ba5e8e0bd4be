"""The themes of the toy world: places, their objects, and which objects occur together.

In each theme two *anchors* have a *companion*: there is usually a fork beside a pizza. A language model learns this
co-occurrence from captions, as a prior, and then names a fork that is not there.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Theme:
    """A place and its objects."""

    name: str
    where: str  # how a caption says it: "on a street"
    pairs: tuple[tuple[str, str], ...]  # (anchor, companion)
    free: tuple[str, ...]  # objects that occur independently of others

    @property
    def objects(self) -> tuple[str, ...]:
        """All objects in canonical order: every anchor before its companion, free objects last."""
        return tuple(name for pair in self.pairs for name in pair) + self.free

    @property
    def anchors(self) -> tuple[str, ...]:
        return tuple(anchor for anchor, _ in self.pairs)


THEMES = {
    theme.name: theme
    for theme in (
        Theme("kitchen", "in a kitchen", (("pizza", "fork"), ("bowl", "spoon")), ("cup", "banana")),
        Theme("street", "on a street", (("car", "traffic light"), ("bus", "stop sign")), ("bicycle", "fire hydrant")),
        Theme("field", "in a field", (("dog", "frisbee"), ("sheep", "bird")), ("kite", "umbrella")),
        Theme("desk", "on a desk", (("laptop", "mouse"), ("book", "scissors")), ("keyboard", "cell phone")),
        Theme("living room", "in a living room", (("tv", "remote"), ("couch", "potted plant")), ("cat", "clock")),
    )
}
COMPANION_OF = {anchor: companion for theme in THEMES.values() for anchor, companion in theme.pairs}
THEME_OF = {name: theme.name for theme in THEMES.values() for name in theme.objects}
OBJECT_NAMES = tuple(THEME_OF)
CANONICAL_RANK = {name: rank for rank, name in enumerate(OBJECT_NAMES)}


def missing_companions(names: set[str]) -> list[str]:
    """Companions that are not among `names` although their anchor is: a model that guesses would name them."""
    return [companion for anchor, companion in COMPANION_OF.items() if anchor in names and companion not in names]
