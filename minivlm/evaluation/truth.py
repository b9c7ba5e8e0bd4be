"""Ground truth: which objects are in each picture, as a mapping from image ids to sets of objects.

COCO has two sources: its instances are objects of 80 categories that annotators segmented, and its captions are what
other people wrote about the picture. As in the original CHAIR program, an object is in the picture if either source has
it, since not everything in a picture was segmented.
"""

import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from minivlm.errors import EvaluationError
from minivlm.evaluation.ids import require_one_spelling
from minivlm.evaluation.lexicon import Words
from minivlm.evaluation.lines import read_json
from minivlm.files import listed


def objects_file(path: str | Path, lexicon: Words) -> dict[str, frozenset[str]]:
    """Image id -> objects, from JSON {image id: [names]}. Raises `EvaluationError` for a name not in the lexicon,
    and for one image under two ids.
    """
    content = read_json(path)
    if not isinstance(content, Mapping) or not content:
        raise EvaluationError(
            f'\'{path}\': expected is {{"image id": ["cat", "couch"], …}}, found {str(content)[:60]!r}.'
        )
    require_one_spelling(content, f"'{path}'")
    return {image: checked(names, lexicon, f"'{path}', image {image}") for image, names in content.items()}


def checked(names: Any, lexicon: Words, where: str) -> frozenset[str]:
    """The names as a set. Raises `EvaluationError`, with `where` in front, unless all are objects of the lexicon."""
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise EvaluationError(f"{where}: a list of names was expected, found {str(names)[:60]!r}.")
    if strange := sorted(set(names) - set(lexicon.objects)):
        raise EvaluationError(
            f"{where}: {strange[0]!r} is not one of the {len(lexicon.objects)} objects of {lexicon.name}, so no "
            f"caption could be right about it. {instead(strange[0], lexicon)}, or give other words with --synonyms."
        )
    return frozenset(names)


def instead(name: str, lexicon: Words) -> str:
    """What to write for a name that is no object of the lexicon, as the beginning of a sentence."""
    meant = {mention.object for mention in lexicon.mentions(name)}
    return f"Write {meant.pop()!r}" if len(meant) == 1 else f"Use their names, such as {listed(lexicon.objects, 5)}"


def coco_objects(instances: str | Path, captions: str | Path | None, lexicon: Words) -> dict[str, frozenset[str]]:
    """Image id -> its objects, from COCO's two files, or without `captions` from the instances alone.

    Images without any object are left out. Raises `EvaluationError` for other files, for a category that the lexicon
    does not have, and for an id that is that of two categories.
    """
    objects: dict[str, set[str]] = {}
    content = read_json(instances)
    names: dict[int, str] = {}
    for number, name in fields(content, "categories", "id", "name", instances):
        if names.setdefault(number, name) != name:
            raise EvaluationError(
                f"'{instances}': id {number} is that of two categories, {names[number]!r} and {name!r}. Give each an "
                "id of its own."
            )
    categories: dict[int, str] = {}  # of those that are in a picture: others need be in no word list
    for image, number in fields(content, "annotations", "image_id", "category_id", instances):
        if number not in names:
            raise EvaluationError(
                f"'{instances}': category {number} of an annotation is not in its list of categories."
            )
        if number not in categories:
            categories[number] = category(names[number], lexicon, f"'{instances}'")
        objects.setdefault(str(image), set()).add(categories[number])
    if captions is not None:
        described = set()
        for image, text in fields(read_json(captions), "annotations", "image_id", "caption", captions):
            described.add(str(image))
            if named := {mention.object for mention in lexicon.mentions(str(text))}:
                objects.setdefault(str(image), set()).update(named)
        warn_of_undescribed(content, described, captions)
    return {image: frozenset(names) for image, names in objects.items()}


def warn_of_undescribed(instances: Mapping[str, Any], described: set[str], captions: str | Path) -> None:
    """Warn of images of the instances file that have no caption; `described`: the ids of those that have one."""
    given = instances.get("images")
    entries = given if isinstance(given, list) else []  # who opens the data checks them
    images = [str(image.get("id")) for image in entries if isinstance(image, Mapping)]
    if missing := [image for image in images if image not in described]:
        warnings.warn(
            f"'{captions}' has no caption of {len(missing)} of {len(images)} images, such as {missing[0]}: their "
            "objects are those of the instances alone.",
            stacklevel=4,
        )


def category(name: str, lexicon: Words, where: str) -> str:
    """The lexicon's object for the name of a COCO category. Raises `EvaluationError` if there is not exactly one."""
    if name in lexicon.objects:
        return name
    objects = {mention.object for mention in lexicon.mentions(name)}
    if len(objects) != 1:
        raise EvaluationError(
            f"{where}: the category {name!r} is not one of the {len(lexicon.objects)} objects of {lexicon.name}. "
            "Give a word list that has it, with --synonyms."
        )
    return objects.pop()


def fields(content: Any, part: str, first: str, second: str, path: str | Path) -> Iterator[tuple[Any, Any]]:
    """Two fields of every entry in `part` of a COCO file: ids must be whole numbers, everything else text.

    Raises `EvaluationError` for other content; `path` is for its message.
    """
    entries = content.get(part) if isinstance(content, Mapping) else None
    if not isinstance(entries, list):
        raise EvaluationError(f"'{path}' holds no list of {part}: one of COCO's annotation files was expected.")
    kinds = [int if name.endswith("id") else str for name in (first, second)]
    for number, entry in enumerate(entries):
        values = [entry.get(name) for name in (first, second)] if isinstance(entry, Mapping) else []
        if [type(value) for value in values] != kinds:
            raise EvaluationError(
                f"'{path}', entry {number} of {part}: {first} and {second} were expected, ids as whole numbers and the "
                f"rest as text, found {str(entry)[:80]}."
            )
        yield values[0], values[1]
