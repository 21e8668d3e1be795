"""What surrounds a check: global state, and functions of torch, numpy and Python itself."""

import builtins
import math
import operator
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

_MISSING = object()
# Functions that a notebook replaces for good reasons.
_REPLACEABLE = "print open input exit quit help display breakpoint manual_seed Storage".split()
_MODULES = builtins, math, operator, torch, torch.nn.functional, torch.linalg, np, np.linalg


@contextmanager
def kept() -> Iterator[None]:
    """Give a check torch and numpy as they were imported, and leave the global state as it was."""
    state = torch.get_rng_state(), np.random.get_state(), random.getstate()  # noqa: NPY002
    dtype, grad = torch.get_default_dtype(), torch.is_grad_enabled()
    threads = torch.get_num_threads()
    theirs = put_back()
    torch.set_default_dtype(torch.float32)
    torch.set_grad_enabled(True)
    try:
        yield
    finally:
        put_back()
        torch.set_grad_enabled(grad)
        torch.set_default_dtype(dtype)
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
        torch.set_rng_state(state[0])
        np.random.set_state(state[1])  # noqa: NPY002
        random.setstate(state[2])
        for owner, name, value in theirs:
            _put(owner, name, value)


def _watched() -> Iterator[tuple[Any, str]]:
    """Public functions of modules, and every name of the tensor class."""
    for module in _MODULES:
        for name, value in vars(module).items():
            if callable(value) and not name.startswith("_") and name not in _REPLACEABLE:
                yield module, name
    for name in dir(torch.Tensor):
        yield torch.Tensor, name


_ORIGINALS = [
    (owner, vars(owner), name, vars(owner).get(name, _MISSING)) for owner, name in _watched()
]


# The defaults below are taken before anything can be replaced.
def put_back(originals=_ORIGINALS, missing=_MISSING) -> list[tuple[Any, str, Any]]:
    """Put replaced functions of torch, numpy and builtins back; gives what stood in their place."""
    found = [
        (owner, name, space.get(name, missing), value)
        for owner, space, name, value in originals
        if space.get(name, missing) is not value
    ]
    for owner, name, _, value in found:
        _put(owner, name, value)
    return [(owner, name, theirs) for owner, name, theirs, _ in found]


def _put(owner: Any, name: str, value: Any, put=setattr, drop=delattr, missing=_MISSING) -> None:
    if value is missing:
        drop(owner, name)
    else:
        put(owner, name, value)
