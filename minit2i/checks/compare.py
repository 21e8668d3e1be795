"""Comparing what an answer gave with what it should give, and saying the difference in words."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

# The tolerance that a data type coarser than double precision gets at least.
COARSE = {torch.float32: 1e-5, torch.float16: 1e-2, torch.bfloat16: 1e-2}


def numeric(value: Any) -> bool:
    """Whether a value is a tensor, an array or a number."""
    return isinstance(value, torch.Tensor | np.ndarray | np.generic | float | int)


def numbers(value: Any) -> np.ndarray:
    """A tensor, array or number as a float64 (or complex) array."""
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu()
        value = value.numpy() if value.is_complex() else value.to(torch.float64).numpy()
    value = np.asarray(value)
    return value if value.dtype.kind == "c" else value.astype(np.float64)


def brief(value: Any) -> str:
    """A value in at most 120 characters."""
    if isinstance(value, type):
        return value.__name__
    if isinstance(value, float):
        return f"{value:.4g}"
    if numeric(value) and math.prod(np.shape(value)) <= 6:
        shown = numbers(value)
        if not isinstance(value, torch.Tensor) or not value.is_floating_point():
            shown = shown.astype(np.asarray(value).dtype)  # whole numbers without a point
        return np.array2string(shown, precision=4, separator=", ")
    text = repr(value)
    return text if len(text) <= 120 else text[:117] + "..."


def described(value: Any) -> str:
    """What a value is, as "a Tensor of shape (4, 2)" or "a tuple of 3 values"."""
    kind = type(value).__name__
    text = f"{'an' if kind[:1].lower() in 'aeiou' else 'a'} {kind}"
    if type(value) in (list, tuple):
        return f"{text} of {len(value)} value{'s' * (len(value) != 1)}"
    size = np.shape(value) if numeric(value) else ()
    return f"{text} of shape {tuple(size)}" if size else text


# --- what is wrong with it ----------------------------------------------------------------------


def wrong_kind(got: Any, numpy: bool, wanted: str = "tensor") -> str:
    """Why `got` cannot stand for a tensor, or nothing; `numpy`: an array can."""
    if got is None:
        return "the value is None: is a `return` forgotten?"
    if isinstance(got, np.ndarray):
        return "" if numpy else "the value is a numpy array where a torch tensor is expected"
    if not isinstance(got, torch.Tensor):
        return f"the value is {described(got)} where a {wanted} is expected"
    return ""


def wrong_shape(got: Any, expected: Sequence[int]) -> str:
    """How the shape of `got` differs from `expected`, or nothing."""
    got, expected = tuple(np.shape(got)), tuple(expected)
    if got == expected:
        return ""
    text = f"got shape {got}, expected {expected or 'a single number'}"
    if not got:
        text = f"got a single number, expected shape {expected}"
    try:
        grown = np.broadcast_shapes(got, expected) == got and math.prod(got) > math.prod(expected)
    except ValueError:
        grown = False
    if grown:
        text += "; two tensors were broadcast against each other along the wrong axis: "
        text += "print their shapes"
    return text


def difference(got: Any, expected: Any, tol: float | int, dtype: Any, numpy: bool) -> str:
    """What keeps `got` from being `expected`, or nothing."""
    if isinstance(expected, list | tuple):
        return _difference_of_lists(got, expected, tol, dtype, numpy)
    if not numeric(expected):
        same = type(got) is type(expected) and got == expected
        return "" if same else f"got {brief(got)}, expected {brief(expected)}"
    if np.ndim(expected):
        problem = wrong_kind(got, numpy)
    else:
        problem = "" if numeric(got) else wrong_kind(got, numpy, "number")
    if problem := problem or wrong_shape(got, np.shape(expected)):
        return problem
    given = getattr(got, "dtype", None)
    if dtype is not None and given != dtype:
        return f"got data type {given or type(got).__name__}, expected {dtype}"
    return _difference_of_numbers(numbers(got), numbers(expected), max(tol, COARSE.get(given, 0)))


def _difference_of_lists(got: Any, expected: Sequence, *options) -> str:
    if not isinstance(got, list | tuple):
        return f"got a {type(got).__name__}, expected {len(expected)} values"
    if len(got) != len(expected):
        return f"got {len(got)} values, expected {len(expected)}"
    for i, pair in enumerate(zip(got, expected, strict=True)):
        if problem := difference(*pair, *options):
            return f"value {i}: {problem}"
    return ""


def _difference_of_numbers(got: np.ndarray, expected: np.ndarray, tol: float | int) -> str:
    """Of two arrays of one shape: where numbers are lost, or further apart than allowed."""
    lost = ~np.isfinite(got) & np.isfinite(expected)
    if lost.any():
        count = f"{int(lost.sum())} of {lost.size} numbers"
        return (
            f"{'got a number that is' if lost.size == 1 else f'got {count}'} NaN or infinite: "
            "a division by zero, or the root or logarithm of a negative number?"
        )
    with np.errstate(invalid="ignore"):
        near = np.abs(got - expected) <= tol * np.maximum(1, np.abs(expected))
    near &= np.isfinite(expected)
    near |= (got == expected) | (np.isnan(got) & np.isnan(expected))
    if near.all():
        return ""
    first = np.unravel_index(int(np.argmin(near)), near.shape)
    # Adding 0 turns -0 into 0.
    given, wanted = f"{got[first] + 0:.6g}", f"{expected[first] + 0:.6g}"
    text = f"got {given}, expected {wanted}"
    if given == wanted:
        text += f" (off by {abs(got[first] - expected[first]):.1g}, which is too much here)"
    if near.size == 1:
        return text
    place, count = ", ".join(str(int(i)) for i in first), int((~near).sum())
    return f"{text} at [{place}]; {count} of {near.size} numbers differ{'s' * (count == 1)}"


# --- whether two are the same -------------------------------------------------------------------


def alike(a: Any, b: Any) -> bool:
    """Whether two outputs are the same, structure and numbers, up to rounding."""
    return _everywhere(_near, a, b)


def unchanged(before: Any, now: Any) -> bool:
    """Whether tensors, arrays and containers among the inputs are exactly as they were."""
    return _everywhere(_untouched, before, now)


def _everywhere(same: Callable[[Any, Any], bool], a: Any, b: Any) -> bool:
    """Whether two nested containers have one structure, and `same` holds of what they contain."""
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_everywhere(same, a[k], b[k]) for k in a)
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        pairs = zip(a, b, strict=False)
        return len(a) == len(b) and all(_everywhere(same, x, y) for x, y in pairs)
    return same(a, b)


def _near(a: Any, b: Any) -> bool:
    if not (numeric(a) and numeric(b)):
        return type(a) is type(b) and (a is None or (isinstance(a, str | bytes) and a == b))
    if np.shape(a) != np.shape(b):
        return False
    if np.ndim(a) and isinstance(a, torch.Tensor) != isinstance(b, torch.Tensor):
        return False
    single = any(getattr(x, "dtype", None) in (torch.float32, np.float32) for x in (a, b))
    rtol, atol = (1e-4, 1e-5) if single else (1e-7, 1e-8)
    return bool(np.allclose(numbers(a), numbers(b), rtol=rtol, atol=atol, equal_nan=True))


def _untouched(before: Any, now: Any) -> bool:
    if not isinstance(before, torch.Tensor | np.ndarray):
        return type(before) is type(now)
    if getattr(now, "dtype", None) != before.dtype or now.shape != before.shape:
        return False
    try:
        return bool(np.array_equal(numbers(before), numbers(now), equal_nan=True))
    except RuntimeError:  # a torch.func wrapper has no numbers to read
        return True
