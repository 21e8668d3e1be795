"""The record of an answer's calls, and the known mistakes that are recognised in it."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch

from minit2i.checks.compare import alike, numeric
from minit2i.checks.draws import reseed

MISSING = object()


@dataclass
class Call:
    """One call of the answer: its inputs as they were, and what came of it."""

    parent: int | None  # index of the call that made the object whose method this is
    method: str | None
    args: tuple
    kwargs: dict
    output: Any = MISSING
    error: BaseException | None = None
    after: tuple | None = None  # the inputs after the call, for answers that are to change them


@dataclass(frozen=True)
class Mistake:
    """A known wrong answer: `wrong` behaves like it, or `when(calls)` recognises it."""

    name: str
    hint: str = ""
    wrong: Callable | None = None
    when: Callable[[list[Call]], bool] | None = None


def clone(value: Any, modules: bool = False) -> Any:
    """A copy that later changes do not reach; what cannot hold numbers is passed as it is."""
    if isinstance(value, torch.Tensor):
        return value.detach().clone().requires_grad_(value.requires_grad)
    if isinstance(value, torch.Generator):
        return value.clone_state()
    if isinstance(value, np.ndarray):
        return value.copy()
    if isinstance(value, np.random.Generator) or (modules and isinstance(value, torch.nn.Module)):
        return copy.deepcopy(value)
    if type(value) in (list, tuple):
        return type(value)(clone(item, modules) for item in value)
    if type(value) is dict:
        return {key: clone(item, modules) for key, item in value.items()}
    return value


def fits_points_only(calls: list[Call]) -> bool:
    """Whether a batch of points (b, d) was answered, and one with more axes did not broadcast."""

    def axes(call: Call) -> int:
        return max((x.ndim for x in call.args if isinstance(x, torch.Tensor)), default=0)

    points = any(axes(call) == 2 and call.error is None for call in calls)
    return points and any(
        axes(call) > 2 and isinstance(call.error, RuntimeError) and "must match" in str(call.error)
        for call in calls
    )


def recognise(mistakes: Sequence[Mistake], calls: list[Call], mutates: bool) -> Mistake | None:
    """The first of some mistakes that explains all calls."""
    for mistake in mistakes:
        try:
            if mistake.when is not None and mistake.when(calls):
                return mistake
            if mistake.wrong is not None and _replays(mistake.wrong, calls, mutates):
                return mistake
        except Exception:  # a record too odd to be read is no known mistake
            continue
    return None


def _replays(wrong: Callable, calls: list[Call], mutates: bool) -> bool:
    """Whether `wrong` gives what the answer gave, on every recorded call."""
    made: dict[int | None, Any] = {None: wrong}
    compared = False
    for index, call in enumerate(calls):
        if call.output is MISSING and call.error is None:
            return False
        args, kwargs = clone((call.args, call.kwargs), mutates)
        reseed(index)
        try:
            output = made[index] = _repeat(made[call.parent], call, args, kwargs)
        except Exception as error:
            if call.error is None or not _same_error(error, call.error):
                return False
            compared = True
            continue
        if call.error is not None or (mutates and not _same_state(args, call.after)):
            return False
        if mutates and not _holds_numbers(call.output):
            compared = True  # what was changed has been compared, and what came back is not asked
        elif _holds_numbers(call.output) or isinstance(call.output, str) or output is None:
            if not alike(output, call.output):
                return False
            compared = True
    return compared


def _repeat(function: Callable, call: Call, args: tuple, kwargs: dict) -> Any:
    """Call `function`, or its method, as `call` did; of a generator as many items as were made."""
    if call.method not in (None, "__call__"):
        function = getattr(function, call.method)
    output = function(*args, **kwargs)
    if hasattr(output, "__next__"):
        return list(islice(output, len(call.output) + (call.error is not None)))
    return output


def _same_error(a: BaseException, b: BaseException) -> bool:
    # A ValueError is mostly raised on purpose, in the learner's own words.
    return type(a) is type(b) and (type(a) is ValueError or str(a) == str(b))


def _same_state(a: tuple, b: tuple) -> bool:
    """Whether two tuples of inputs were changed in the same way."""

    def plain(value: Any) -> Any:
        return dict(value.state_dict()) if isinstance(value, torch.nn.Module) else value

    pairs = [(plain(x), plain(y)) for x, y in zip(a, b, strict=True)]
    return all(alike(x, y) for x, y in pairs if _holds_numbers(x))


def _holds_numbers(value: Any) -> bool:
    return numeric(value) or isinstance(value, list | tuple | dict)
