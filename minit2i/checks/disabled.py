"""The code behind the package's own versions of an exercise, which no answer may run."""

import functools
import inspect
import pkgutil
import types
from collections.abc import Iterator
from typing import Any


@functools.cache
def table(names: tuple[str, ...]) -> dict[int, str]:
    """The name of each code object that the named functions and classes run, by its identity."""
    return {id(code): name for name in names for code in codes(name)}


def codes(name: str) -> Iterator[types.CodeType]:
    """The code objects of a function, method, property or class, by its dotted name."""
    thing = pkgutil.resolve_name(name)
    if not isinstance(thing, type):
        yield _code(thing, name)
        return
    for member in vars(thing).values():
        if isinstance(member, types.FunctionType | staticmethod | classmethod | property):
            yield _code(member, name)


def _code(thing: Any, name: str) -> types.CodeType:
    for inner in ("__func__", "fget", "func"):  # methods; properties; cached ones and partials
        thing = getattr(thing, inner, thing)
    thing = inspect.unwrap(thing)  # decorators share the code of their wrappers
    if not hasattr(thing, "__code__"):
        raise TypeError(f"{name}, which an exercise disables, is not a Python function or class")
    return thing.__code__
