"""The batches of a run: fixed by the items and the batch size alone.

In another batch the same question may get another answer: padding moves, sums are added up in another order, and where
two words are almost equally likely the last bit decides. So neither what is done already nor the number of processes
changes a batch. One of which some answers are missing is asked again as it was, and what is there already is not
recorded twice.
"""

from collections.abc import Iterator, Mapping, Sequence

from minivlm.evaluation.items import Item
from minivlm.evaluation.records import Key

Batch = tuple[Item, ...]


def plan(items: Sequence[Item], size: int) -> list[Batch]:
    """Groups of at most `size` items; all items of an image are in one group, which may be larger for that alone.

    Images whose longest questions are equally long come together, so that little is padded.
    """
    by_image: dict[str, list[Item]] = {}
    for item in items:
        by_image.setdefault(item.image, []).append(item)
    groups: list[list[Item]] = [[]]
    for own in sorted(by_image.values(), key=lambda own: max(len(item.question) for item in own)):
        if groups[-1] and len(groups[-1]) + len(own) > size:
            groups.append([])
        groups[-1] += own
    return [tuple(group) for group in groups if group]


def in_parts(batch: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    """The items that are asked at once: of an image with more than `size` questions, so many at a time."""
    return (batch[start : start + size] for start in range(0, len(batch), size))


def unfinished(
    batches: Sequence[Batch], methods: Sequence[str], records: Mapping[Key, dict]
) -> list[tuple[Batch, frozenset[Key]]]:
    """The batches of which records are missing, in order, each with the keys of those that are."""
    wanted = [(batch, {(item.id, method) for item in batch for method in methods}) for batch in batches]
    return [(batch, frozenset(left)) for batch, keys in wanted if (left := keys - records.keys())]
