"""The batches of a run: fixed by the items and the batch size alone.

In another batch the same question may get another answer: padding moves, sums are added up in another order, and where
two words are almost equally likely the last bit decides. So neither what is done already nor the number of processes
changes a batch. One of which some answers are missing is asked again as it was, and what is there already is not
recorded twice.

    Group    the pictures that are looked at together, and all questions about them, in batches
    Batch    the questions that are asked together, of about the same length
"""

from collections.abc import Mapping, Sequence
from itertools import islice

from minivlm.evaluation.items import Item
from minivlm.evaluation.records import Key

Batch = tuple[Item, ...]
Group = tuple[Batch, ...]


def plan(items: Sequence[Item], size: int) -> list[Group]:
    """Groups of `size` pictures, in the order of the items, with batches of `size` questions; the last have the rest.

    All items of an image are in one group. Within it the shortest questions come first, so that little is padded.
    """
    by_image: dict[str, list[Item]] = {}
    for item in items:
        by_image.setdefault(item.image, []).append(item)
    images, groups = iter(by_image.values()), []
    while taken := [*islice(images, size)]:
        own = sorted((item for about in taken for item in about), key=lambda item: len(item.question))
        groups.append(tuple(tuple(own[start : start + size]) for start in range(0, len(own), size)))
    return groups


def unfinished(
    groups: Sequence[Group], methods: Sequence[str], records: Mapping[Key, dict]
) -> list[tuple[Group, frozenset[Key]]]:
    """The groups of which records are missing, in order, each with the keys of those that are."""
    wanted = [(group, {(item.id, name) for batch in group for item in batch for name in methods}) for group in groups]
    return [(group, frozenset(left)) for group, keys in wanted if (left := keys - records.keys())]
