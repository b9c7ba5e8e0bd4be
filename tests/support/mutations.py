"""Spoilt files: bytes and JSON documents changed at random, by a generator of chance that makes the same ones again."""

import copy
import json
import random
from typing import Any

STRANGE = [None, True, False, 0, -1, 1, 0.5, -0.0, 2**31, 2**63, -(2**63), 10**40, "", " ", "0", "../x", "/etc/passwd"]
STRANGE += [
    "a" * 300,
    "\x00",
    "\u2028",
    "\ud800",
    "é😀",
    "<image>",
    [],
    {},
    [[]],
    [None],
    {"": None},
    [0] * 50,
    [1e308],
]
LITERALS = ["NaN", "-Infinity", "1e999", "-1e400", "[" * 3000, '{"a":1,"a":2}', "01", "tru", '"\\ud800"', "1" * 5000]
BYTES = [b"\x00", b"\xff", b"{", b"}", b'"', b"\n", b"\r\n", b"\xef\xbb\xbf", b",", b"\\u0000", b"\xe2\x80\xa8"]
PLACEHOLDER = "a place for what JSON has no value for"


def spoilt_bytes(data: bytes, chance: random.Random, first: int | None = None) -> bytes:
    """Up to four bytes changed, put in or taken out, most of them among the `first`; sometimes cut or grown."""
    spoilt = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        place = chance.randrange(first if first and chance.random() < 0.9 else max(1, len(spoilt)))
        kind = chance.randrange(5)
        if kind == 0:
            spoilt[place:place] = chance.choice(BYTES)
        elif kind == 1:
            del spoilt[place : place + chance.choice([1, 1, 8, 200])]
        elif place < len(spoilt):
            spoilt[place] = chance.randrange(256) if kind < 4 else spoilt[place] ^ (1 << chance.randrange(8))
    cut = chance.choice([0, 0, 0, 0, chance.randrange(len(spoilt) + 1)])
    grown = chance.choice([b"", b"", b"", b"", b"\x00" * 9, bytes(spoilt[:50])])
    return bytes(spoilt[: len(spoilt) - cut]) + grown


def spoilt_json(data: bytes, chance: random.Random) -> bytes:
    """A JSON document with a value, a key or a few bytes that are strange."""
    if chance.random() < 0.25:
        return spoilt_bytes(data, chance)
    tree = json.loads(data)
    for _ in range(chance.choice([1, 1, 2])):
        tree = spoilt_tree(tree, chance)
    text = json.dumps(tree)
    text = text.replace(json.dumps(PLACEHOLDER), chance.choice(LITERALS))
    return text.encode("utf-8", "surrogatepass")


def spoilt_tree(tree: Any, chance: random.Random) -> Any:
    """The document with one place changed; the nearer to its root, the likelier."""
    place = tree
    while isinstance(place, (dict, list)) and place and chance.random() < 0.7:
        inner = [one for one in (place.values() if isinstance(place, dict) else place) if isinstance(one, (dict, list))]
        if not inner:
            break
        place = chance.choice(inner)
    if isinstance(place, dict) and place:
        spoil_object(place, chance)
    elif isinstance(place, list) and place:
        spoil_list(place, chance)
    else:
        return strange(chance)
    return tree


def spoil_object(data: dict[str, Any], chance: random.Random) -> None:
    key = chance.choice(list(data))
    kind = chance.randrange(6)
    if kind == 0:
        del data[key]
    elif kind == 1:
        another = chance.choice([key + " ", key.upper(), "", "x" * 300, *data])
        data[another] = data.pop(key)
    elif kind == 2:
        data["another"] = strange(chance)
    elif kind == 3:
        data[key] = copy.deepcopy(chance.choice(list(data.values())))
    elif kind == 4 and isinstance(data[key], (int, float)):
        data[key] = data[key] * chance.choice([-1, 2, 0.5, 1000, 1e30]) + chance.choice([0, 1, -1])
    else:
        data[key] = strange(chance)


def spoil_list(data: list[Any], chance: random.Random) -> None:
    place = chance.randrange(len(data))
    kind = chance.randrange(4)
    if kind == 0:
        del data[place]
    elif kind == 1:
        data.insert(place, copy.deepcopy(data[chance.randrange(len(data))]))
    elif kind == 2:
        data.append(strange(chance))
    else:
        data[place] = strange(chance)


def strange(chance: random.Random) -> Any:
    return PLACEHOLDER if chance.random() < 0.2 else copy.deepcopy(chance.choice(STRANGE))


def spoilt_lines(data: bytes, chance: random.Random) -> bytes:
    """A file of JSON lines with a line spoilt, doubled, left out, moved or joined with the next."""
    lines = data.splitlines(keepends=True)
    place = chance.randrange(len(lines))
    kind = chance.randrange(6)
    if kind == 0:
        del lines[place]
    elif kind == 1:
        lines.insert(chance.randrange(len(lines)), lines[place])
    elif kind == 2:
        chance.shuffle(lines)
    elif kind == 3:
        lines[place] = lines[place].rstrip(b"\n")
    elif kind == 4:
        return spoilt_bytes(data, chance)
    else:
        lines[place] = spoilt_json(lines[place], chance) + b"\n"
    return b"".join(lines)
