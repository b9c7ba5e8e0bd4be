"""The places of the toy world, what stands in them, and what goes with what.

In each theme two *anchors* have a *companion*: a pizza is usually served with a fork. This co-occurrence is the prior
that a language model learns from captions, and that leads it to name a fork which is not there.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Theme:
    name: str
    where: str  # how a caption says it: "on a street"
    pairs: tuple[tuple[str, str], ...]  # (anchor, companion)
    free: tuple[str, ...]  # objects that come and go by themselves

    @property
    def objects(self) -> tuple[str, ...]:
        """In canonical order: every anchor stands before its companion, free objects come last."""
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
    """Companions that are absent although their anchor is among `names`: what a guesser would name."""
    return [companion for anchor, companion in COMPANION_OF.items() if anchor in names and companion not in names]
