"""The course, torch and the parts of Python that the judge relies on, as they were imported.

A learner's code runs in the judge's process and may replace anything there: a check, a function of
the package, `torch.allclose`. A `Seal` remembers what stood where, says what has been replaced,
and puts it back.
"""

import contextlib
import sys
import threading
import types
from collections.abc import Iterator
from typing import Any

from minit2i.checks.surroundings import put_back

COURSE = "minit2i"
# Parts of Python's library that the judge, or this module, calls.
_LIBRARY = (
    "contextlib copy ctypes dataclasses functools hashlib hmac inspect io itertools json linecache"
    " os random sys threading time traceback types zlib"
).split()
_SETTABLE = {COURSE + ".checks.judge.SETTINGS"}  # checks.seed and checks.limit are for everyone
_FUNCTION = ("__code__", "__defaults__", "__kwdefaults__")
_MISSING = object()


class Seal:
    """What stood where in modules, classes and functions when the seal was set."""

    def __init__(self):
        self._names: dict[str, dict[str, Any]] = {}  # owner -> its names
        self._owners: dict[str, Any] = {}
        self._functions: list[tuple[str, types.FunctionType, tuple]] = []
        self._cells: list[tuple[str, types.CellType, Any]] = []  # what functions close over
        self._contents: list[tuple[str, Any, Any]] = []  # dicts, lists and sets of the course
        self._modules = {n: m for n, m in sys.modules.items() if _of_course(n) or n in _LIBRARY}
        for name, module in self._modules.items():
            self._watch(name, module, deep=_of_course(name))
        self._watch("threading.Thread", threading.Thread, deep=False)

    def _watch(self, name: str, owner: Any, deep: bool) -> None:
        self._owners[name] = owner
        self._names[name] = {key: value for key, value in vars(owner).items() if _matters(key)}
        if not deep:
            return
        for key, value in self._names[name].items():
            label = f"{name}.{key}"
            for function in _functions(value):
                self._functions.append((label, function, _inside(function)))
                for cell in function.__closure__ or ():
                    with contextlib.suppress(ValueError):  # not filled yet
                        self._cells.append((label, cell, cell.cell_contents))
            if (
                isinstance(value, type)
                and _of_course(value.__module__)
                and label not in self._names
            ):
                if value.__module__ == name or value.__qualname__.count("."):
                    self._watch(label, value, deep=True)
            elif hasattr(value, "exercise"):  # of a check: what it states and knows
                space = vars(value.exercise)
                self._contents.append((label, space, space.copy()))
            elif isinstance(value, dict | list | set):
                self._contents.append((label, value, value.copy()))

    def restore(self) -> list[str]:
        """Put everything back; the names of what had been replaced, in the order found."""
        return list(dict.fromkeys(self._replaced()))

    # The defaults are bound before anything can be replaced.
    def _replaced(self, put=setattr, missing=_MISSING, torch_and_numpy=put_back) -> Iterator[str]:
        for name, module in self._modules.items():
            if sys.modules.get(name) is not module:
                sys.modules[name] = module
                yield name
        for label, names in self._names.items():
            owner = self._owners[label]
            space = vars(owner)
            for key, value in names.items():
                if space.get(key, missing) is not value:
                    put(owner, key, value)
                    yield f"{label}.{key}"
        for label, function, inside in self._functions:
            for attribute, now, then in zip(_FUNCTION, _inside(function), inside, strict=True):
                if now is not then:
                    put(function, attribute, then)
                    yield label
        for label, cell, content in self._cells:
            if cell.cell_contents is not content:
                cell.cell_contents = content
                yield label
        for label, box, content in self._contents:
            if not _same(box, content):
                box.clear()
                (box.extend if isinstance(box, list) else box.update)(content)
                if label not in _SETTABLE:
                    yield label
        for owner, name, _ in torch_and_numpy():
            yield f"{getattr(owner, '__name__', owner)}.{name}"


def _of_course(name: str) -> bool:
    return name == COURSE or name.startswith(COURSE + ".")


def _matters(key: str) -> bool:
    """Names whose replacement changes what is run; Python and IPython rewrite the others."""
    return key not in ("__warningregistry__", "__builtins__", "stdout", "stderr", "stdin", "ps1")


def _functions(value: Any) -> Iterator[types.FunctionType]:
    """The functions of the course behind a name: plain ones, methods, properties, wrapped ones."""
    for part in (value, *(getattr(value, n, None) for n in ("__func__", "fget", "func"))):
        seen = 0
        while isinstance(part, types.FunctionType) and seen < 5:
            if _of_course(part.__module__ or ""):
                yield part
            part, seen = getattr(part, "__wrapped__", None), seen + 1


def _inside(function: types.FunctionType) -> tuple:
    return tuple(getattr(function, attribute) for attribute in _FUNCTION)


def _same(box: Any, content: Any) -> bool:
    """Whether a container holds the very same objects."""
    if len(box) != len(content):
        return False
    if isinstance(box, dict):
        return all(key in box and box[key] is value for key, value in content.items())
    if isinstance(box, list):
        return all(a is b for a, b in zip(box, content, strict=True))
    return box == content
