"""The batches of a run: fixed by the items and the batch size alone.

In another batch the same question may get another answer: the padding differs, sums are computed in another order, and
where two tokens are almost equally likely the last bit decides. So a batch depends neither on what is done already nor
on the number of processes. A batch with missing answers is asked again whole, and answers that exist are not recorded
twice.

    Group    pictures that are encoded together, and all questions about them, in batches
    Batch    questions that are asked together, of similar length
"""

from collections.abc import Mapping, Sequence
from itertools import islice

from minivlm.evaluation.items import Item
from minivlm.evaluation.records import Key

Batch = tuple[Item, ...]
Group = tuple[Batch, ...]


def plan(items: Sequence[Item], size: int) -> list[Group]:
    """Groups of `size` pictures in the order of the items, each with batches of `size` questions; the last are smaller.

    All items of an image are in one group. Within it, questions are sorted by their number of characters, so that a
    batch needs little padding.
    """
    by_image: dict[str, list[Item]] = {}
    for item in items:
        by_image.setdefault(item.image, []).append(item)
    images, groups = iter(by_image.values()), []
    while taken := [*islice(images, size)]:
        asked = sorted((item for about in taken for item in about), key=lambda item: len(item.question))
        groups.append(tuple(tuple(asked[start : start + size]) for start in range(0, len(asked), size)))
    return groups


def unfinished(
    groups: Sequence[Group], methods: Sequence[str], records: Mapping[Key, dict]
) -> list[tuple[Group, frozenset[Key]]]:
    """The groups with missing records, in order, each with the keys of these records; `records`: those that exist."""
    wanted = [(group, {(item.id, name) for batch in group for item in batch for name in methods}) for group in groups]
    return [(group, frozenset(left)) for group, keys in wanted if (left := keys - records.keys())]
