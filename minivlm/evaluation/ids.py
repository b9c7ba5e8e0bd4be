"""The ids of images: their spelling, and lists of them in the formats that published subsets use."""

from collections.abc import Iterable
from pathlib import Path

from minivlm.errors import EvaluationError
from minivlm.files import lines_of, parse_json

FORMS = "a JSON list of ids, one id a line, captions with image_id, or a question file of POPE"
KEYS = ("image_id", "image")


def bare(image: str) -> str:
    """The id without leading zeros, which COCO's file names have and its ids lack: 139 for 000000000139.

    Whatever is no number stays as it is: 007.jpg is another file than 7.jpg.
    """
    return (image.lstrip("0") or "0") if image.isascii() and image.isdigit() else image


def require_one_spelling(images: Iterable[str], where: str) -> None:
    """Raise `EvaluationError`, with `where` in front, if two different ids mean one image: see `bare`."""
    first: dict[str, str] = {}
    for image in images:
        if (other := first.setdefault(bare(image), image)) != image:
            raise EvaluationError(
                f"{where}: {other!r} and {image!r} are one image, since zeros in front do not count, and it must not "
                "be counted twice. Keep one of the two."
            )


def read_ids(path: Path) -> list[str]:
    """The ids or file names that a file lists, each once, in its order. Raises `EvaluationError`; see `FORMS`."""
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise EvaluationError(f"The list of ids '{path}' could not be read: {error}. Expected is {FORMS}.") from error
    whole = parsed(text)
    entries = whole if isinstance(whole, list) else [parsed(line) for line in lines_of(text)]
    names = [name_in(entry, number, path) for number, entry in enumerate(entries, 1)]
    if not names:
        raise EvaluationError(f"The list of ids '{path}' is empty; expected is {FORMS}.")
    return list(dict.fromkeys(names))


def parsed(text: str) -> object:
    """The JSON value of a text, or the text itself if it is not JSON, such as 000000000042 or a file name."""
    try:
        return parse_json(text)
    except ValueError:
        return text


def name_in(entry: object, number: int, path: Path) -> str:
    """The id or file name in entry `number` of a list: the entry itself, or what it has under one of `KEYS`."""
    name = entry
    if isinstance(entry, dict):
        name = next((entry[key] for key in KEYS if key in entry), None)
    if type(name) not in (str, int) or name == "":
        shown = repr(entry)[:80]
        raise EvaluationError(f"'{path}', entry {number}: names no image, found {shown}. Expected is {FORMS}.")
    return str(name)
