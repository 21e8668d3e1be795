"""Checks of the exercises, one module per lesson: `checks.forward.closed_form(your_function)`.

A check states properties of the right answer and never looks at its text; see `judge` for how.
`checks.seed(n)` draws other numbers (a course may use its own); `checks.limit(seconds)` sets the
time one check may take.
"""

import importlib

from minit2i.checks.judge import CheckFailed, limit, seed

__all__ = ["CheckFailed", "limit", "seed"]


def __getattr__(name: str):
    """Import `checks.<lesson>` when it is first named."""
    module = f"{__name__}.{name}"
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as missing:
        if missing.name != module:
            raise
        raise AttributeError(f"{__name__} has no lesson {name!r}") from None
