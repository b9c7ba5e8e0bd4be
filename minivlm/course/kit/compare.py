"""Whether a test showed what was expected, and if not, a sentence about the first difference."""

import math
import sys

import torch
from torch import Tensor

from minivlm.course.kit.show import Shown

TINY = 1e-12  # a float as small as this counts as 0
LARGEST_FLOAT = sys.float_info.max


def first_difference(found: Shown, expected: Shown) -> str:
    """A sentence about the first value that is not as expected; "" if all are."""
    for name, tolerance in expected.within.items():
        if kind(name, found) != kind(name, expected):
            return f"{name}: expected {kind(name, expected)}, found {kind(name, found)}."
        if name in expected.tensors:
            sentence = tensor_difference(name, found.tensors[name], expected.tensors[name], tolerance)
        else:
            sentence = plain_difference(name, found.plain[name], expected.plain[name], tolerance)
        if sentence:
            return sentence
    return ""


def kind(name: str, shown: Shown) -> str:
    """What kind of value was shown under that name, as words for a sentence."""
    if name in shown.tensors:
        return "a tensor"
    return "a plain value" if name in shown.plain else "nothing"


def tensor_difference(name: str, found: Tensor, expected: Tensor, tolerance: float) -> str:
    """A sentence about how two tensors differ: in shape, dtype, or at the place where they differ most; or "".

    `tolerance` is a share of the largest finite number that is expected. nan equals nan.
    """
    if found.shape != expected.shape:
        return f"{name}: expected the shape {tuple(expected.shape)}, found {tuple(found.shape)}."
    if found.dtype != expected.dtype:
        return f"{name}: expected {short(expected.dtype)}, found {short(found.dtype)}."
    if not found.numel():
        return ""
    exact, other = expected.double(), found.double()
    same = (exact == other) | (exact.isnan() & other.isnan())
    error = (exact - other).abs().masked_fill(same, 0).nan_to_num(nan=math.inf, posinf=math.inf)
    finite = exact[exact.isfinite()]
    allowed = tolerance * float(finite.abs().max()) if finite.numel() and expected.is_floating_point() else 0.0
    wrong = error > allowed
    if not wrong.any():
        return ""
    place = tuple(int(part) for part in torch.unravel_index(error.argmax(), error.shape))
    at = f"{name}[{', '.join(map(str, place))}]" if place else name
    share = f" {int(wrong.sum())} of {wrong.numel()} values are off." if wrong.numel() > 1 else ""
    slack = f" (± {allowed:.2g})" if allowed else ""
    return f"{at}: expected {number(exact[place])}{slack}, found {number(other[place])}.{share}"


def plain_difference(name: str, found: object, expected: object, tolerance: float) -> str:
    """A sentence about how two plain values differ, or ""; floats may be off by the share `tolerance`."""
    if isinstance(expected, dict) and isinstance(found, dict):
        if found.keys() != expected.keys():
            return f"{name}: expected the keys {', '.join(expected)}, found {', '.join(found) or 'none'}."
        pairs = [(f"{name}[{key!r}]", found[key], expected[key]) for key in expected]
    elif isinstance(expected, list) and isinstance(found, list):
        if len(found) != len(expected):
            return f"{name}: expected {len(expected)} entries, found {len(found)}."
        pairs = [(f"{name}[{index}]", found[index], value) for index, value in enumerate(expected)]
    elif equal(found, expected, tolerance):
        return ""
    else:
        return f"{name}: expected {expected!r}, found {found!r}."
    return next(filter(None, (plain_difference(*pair, tolerance) for pair in pairs)), "")


def equal(found: object, expected: object, tolerance: float) -> bool:
    """Whether two single values are equal. Their types must be, too, but an int may stand for a float."""
    if isinstance(expected, float) and isinstance(found, (int, float)) and not isinstance(found, bool):
        if abs(found) > LARGEST_FLOAT:  # infinite, or an integer too large for a float
            return found == expected
        both_nan = math.isnan(found) and math.isnan(expected)
        return both_nan or math.isclose(found, expected, rel_tol=tolerance, abs_tol=TINY)
    return type(found) is type(expected) and found == expected


def short(dtype: torch.dtype) -> str:
    """ "float32" """
    return str(dtype).removeprefix("torch.")


def number(value: Tensor) -> str:
    return f"{float(value):.6g}"
