"""The judge of the exercises: calls a learner's answer safely and says which property broke.

A check is a function `(answer, draw)` made by `exercise`. It runs twice on different numbers, in a
thread of its own with a time limit. Every call of the answer is recorded; after a failure each
known `Mistake` is replayed on the recorded inputs, and is named if it gives the same outputs. The
package's own version of the exercise raises while the answer runs, whatever name it goes by.
"""

import builtins
import copy
import ctypes
import functools
import importlib
import inspect
import linecache
import math
import operator
import random
import sys
import threading
import time
import types
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, no_type_check

import numpy as np
import torch

SETTINGS = {"seed": 0, "limit": 2.0}
_LOCK = threading.RLock()
_HERE = threading.local()
_PRINT = print
_MISSING = object()


def seed(number: int) -> None:
    """Draw the numbers of every following check from another seed (0 at the start)."""
    SETTINGS["seed"] = int(number)


def limit(seconds: float | int) -> float:
    """Set the seconds one check may take (2 at the start); gives back the former limit."""
    former, SETTINGS["limit"] = SETTINGS["limit"], float(seconds)
    return former


class CheckFailed(AssertionError):
    """An answer that lacks a property; the message is written for the learner."""

    def __init__(self, exercise: str, problem: str, mistake: "Mistake | None" = None):
        self.exercise, self.problem, self.mistake = exercise, problem, mistake
        text = f"{exercise}: {problem}"
        if mistake is not None:
            text += f"\n  This looks like a known mistake: {mistake.name}."
            text += f"\n  Hint: {mistake.hint}" if mistake.hint else ""
        super().__init__(text)


class PackageCalled(RuntimeError):
    """Raised inside the package's own version of an exercise while an answer runs."""


class _Stop(BaseException):
    """Ends a check whose failure is already noted."""


class _Raised(BaseException):
    """Carries an exception of the answer past the check's body."""


@dataclass(frozen=True)
class Mistake:
    """A known wrong answer: `wrong` behaves like it, or `when(calls)` recognises it."""

    name: str
    hint: str = ""
    wrong: Callable | None = None
    when: "Callable[[list[Call]], bool] | None" = None


@dataclass
class Call:
    """One call of the answer: its inputs as they were, and what came of it."""

    parent: int | None  # index of the call that made the object whose method this is
    method: str | None
    args: tuple
    kwargs: dict
    output: Any = _MISSING
    error: BaseException | None = None
    after: tuple | None = None  # the inputs after the call, for answers that are to change them


@dataclass(frozen=True)
class Exercise:
    """What a check knows: kept as `check.exercise` for graders and tests."""

    name: str
    module: str
    body: Callable
    disables: tuple[str, ...]
    mistakes: tuple[Mistake, ...]
    mutates: bool
    numpy: bool
    global_random: bool
    rounds: int


def exercise(
    disables: Sequence[str] = (),
    mistakes: Sequence[Mistake] = (),
    mutates: bool = False,
    numpy: bool = False,
    global_random: bool = True,
    rounds: int = 2,
) -> Callable[[Callable], Callable]:
    """Make a check `(answer) -> None` of a body `(answer, draw)` that states properties.

    `disables` names the package's own versions ("minit2i.schedule.Schedule.diffuse"). `mutates`:
    the answer is to change its inputs and may return None. `numpy`: arrays may stand for tensors.
    `global_random=False`: the answer must draw from the generator it is given.
    """

    def decorate(body: Callable) -> Callable:
        spec = Exercise(
            name=body.__name__,
            module=body.__module__,
            body=body,
            disables=tuple(disables),
            mistakes=tuple(mistakes),
            mutates=mutates,
            numpy=numpy,
            global_random=global_random,
            rounds=rounds,
        )

        def check(answer: Any) -> None:
            __tracebackhide__ = True
            failure, line = _judge(spec, answer)
            if failure is not None:
                raise failure from None
            _PRINT(line)

        check.__name__ = check.__qualname__ = spec.name
        check.__module__, check.__doc__ = spec.module, body.__doc__
        check.exercise = spec
        return check

    return decorate


# --- what a check's body uses -------------------------------------------------------------------


class Draw:
    """Fresh numbers for one round of a check, the same on every machine."""

    def __init__(self, number: int):
        self.generator = torch.Generator().manual_seed(number)
        self.numpy = np.random.default_rng(number)

    def normal(self, *shape: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
        """Standard normal numbers."""
        return torch.randn(*shape, generator=self.generator, dtype=torch.float64).to(dtype)

    def uniform(
        self, low: float | int, high: float | int, *shape: int, dtype: torch.dtype = torch.float64
    ) -> torch.Tensor | float:
        """Uniform numbers; a plain float if no shape is given."""
        if not shape:
            return float(self.numpy.uniform(low, high))
        unit = torch.rand(*shape, generator=self.generator, dtype=torch.float64)
        return (low + (high - low) * unit).to(dtype)

    def integer(self, low: int, high: int, *shape: int) -> torch.Tensor | int:
        """Integers in low..high-1; a plain int if no shape is given."""
        if not shape:
            return int(self.numpy.integers(low, high))
        return torch.randint(low, high, shape, generator=self.generator)


def equal(
    got: Any, expected: Any, claim: str, tol: float | int = 1e-6, dtype: torch.dtype | None = None
) -> bool:
    """State that `got` has the shape and numbers of `expected`.

    Numbers may differ by tol max(1, |expected|); single precision is held to 1e-5 at best.
    `dtype` asks for that very data type.
    """
    run = _run()
    return run.state(claim, _difference(raw(got), raw(expected), tol, dtype, run.spec.numpy))


def holds(condition: Any, claim: str, **numbers: Any) -> bool:
    """State `condition`; `numbers` are shown when it fails: holds(e < 0.1, "...", error=e)."""
    shown = ", ".join(f"{name} {_brief(value)}" for name, value in numbers.items())
    return _run().state(claim, "" if bool(condition) else shown or "it does not")


def shape(got: Any, expected: Sequence[int], claim: str) -> bool:
    """State the shape of `got`."""
    return _run().state(claim, _wrong_kind(got, _run().spec.numpy) or _wrong_shape(got, expected))


def raises(kind: type[Exception], claim: str, call: Callable, *args, **kwargs) -> bool:
    """State that `call(*args, **kwargs)`, a call of the answer, raises `kind`."""
    run = _run()
    try:
        call(*args, **kwargs)
    except _Raised as carried:
        error = carried.__cause__
        return run.state(
            claim, "" if isinstance(error, kind) else f"it raised {_name(error)} instead"
        )
    return run.state(claim, f"it returned instead of raising {kind.__name__}")


def allowed(function: Callable) -> Callable:
    """Let a function that a check hands to the answer use what is disabled for the answer."""

    @functools.wraps(function)
    def run_free(*args, **kwargs):
        run = getattr(_HERE, "run", None)
        if run is None:
            return function(*args, **kwargs)
        depth, run.inside = run.inside, 0
        try:
            return function(*args, **kwargs)
        finally:
            run.inside = depth

    return run_free


def raw(thing: Any) -> Any:
    """The learner's own object behind the recording stand-in that an answer's result may be."""
    return object.__getattribute__(thing, "_target") if type(thing) is _Guarded else thing


# --- comparing ----------------------------------------------------------------------------------


def _numbers(value: Any) -> np.ndarray:
    """A tensor, array or number as a float64 (or complex) array."""
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu()
        value = value.numpy() if value.is_complex() else value.to(torch.float64).numpy()
    value = np.asarray(value)
    return value if value.dtype.kind == "c" else value.astype(np.float64)


def _numeric(value: Any) -> bool:
    return isinstance(value, torch.Tensor | np.ndarray | np.generic | float | int)


def _wrong_kind(got: Any, numpy: bool) -> str:
    if got is None:
        return "the value is None: is a `return` forgotten?"
    if isinstance(got, np.ndarray) and not numpy:
        return "the value is a numpy array where a torch tensor is expected"
    if type(got) in (_Stream, _Guarded):
        kind = "generator" if type(got) is _Stream else type(raw(got)).__name__
        return f"the value is a {kind} where a tensor is expected"
    if not isinstance(got, torch.Tensor | np.ndarray):
        return f"the value is a {type(got).__name__} where a tensor is expected"
    return ""


def _wrong_shape(got: Any, expected: Sequence[int]) -> str:
    got, expected = tuple(got.shape), tuple(expected)
    if got == expected:
        return ""
    text = f"got shape {got}, expected {expected}"
    try:
        grown = np.broadcast_shapes(got, expected) == got and math.prod(got) > math.prod(expected)
    except ValueError:
        grown = False
    return text + (
        "; two tensors were broadcast against each other along the wrong axis: print their shapes"
        if grown
        else ""
    )


def _difference(got: Any, expected: Any, tol: float | int, dtype, numpy: bool) -> str:
    """What keeps `got` from being `expected`, or nothing."""
    if isinstance(expected, list | tuple):
        if not isinstance(got, list | tuple):
            return f"got a {type(got).__name__}, expected {len(expected)} values"
        if len(got) != len(expected):
            return f"got {len(got)} values, expected {len(expected)}"
        parts = (
            (i, _difference(g, e, tol, dtype, numpy))
            for i, (g, e) in enumerate(zip(got, expected, strict=True))
        )
        return next((f"value {i}: {part}" for i, part in parts if part), "")
    if not _numeric(expected):
        return (
            ""
            if type(got) is type(expected) and got == expected
            else f"got {_brief(got)}, expected {_brief(expected)}"
        )
    if isinstance(expected, torch.Tensor | np.ndarray) and np.ndim(expected):
        if problem := _wrong_kind(got, numpy) or _wrong_shape(got, expected.shape):
            return problem
    elif not _numeric(got):
        return (
            _wrong_kind(got, numpy)
            if got is None
            else f"the value is a {type(got).__name__}, expected a number"
        )
    elif np.shape(got) and math.prod(np.shape(got)) != 1:
        return _wrong_shape(got, ())
    elif np.shape(got):
        return f"got shape {tuple(np.shape(got))}, expected a single number"
    if dtype is not None and getattr(got, "dtype", None) != dtype:
        return f"got data type {getattr(got, 'dtype', type(got).__name__)}, expected {dtype}"
    if (
        isinstance(got, torch.Tensor)
        and got.is_floating_point()
        and torch.finfo(got.dtype).bits < 64
    ):
        tol = max(tol, 1e-5 if got.dtype == torch.float32 else 1e-2)
    have, want = _numbers(got), _numbers(expected)
    bad = ~np.isfinite(have) & np.isfinite(want)
    if bad.any():
        return (
            f"{int(bad.sum())} of {bad.size} numbers are NaN or infinite: a division by zero, "
            "or the root or logarithm of a negative number?"
        )
    with np.errstate(invalid="ignore"):
        near = np.abs(have - want) <= tol * np.maximum(1, np.abs(want))
    near = (near & np.isfinite(want)) | (have == want) | (np.isnan(have) & np.isnan(want))
    if near.all():
        return ""
    first = np.unravel_index(int(np.argmin(near)), near.shape)
    text = f"got {have[first]:.6g}, expected {want[first]:.6g}"
    if near.size == 1:
        return text
    place = ", ".join(str(int(i)) for i in first)
    return f"{text} at [{place}]; {int((~near).sum())} of {near.size} numbers differ"


def _alike(a: Any, b: Any) -> bool:
    """Whether two outputs are the same, structure and numbers."""
    if _numeric(a) and _numeric(b):
        if tuple(np.shape(a)) != tuple(np.shape(b)) or isinstance(a, torch.Tensor) != isinstance(
            b, torch.Tensor
        ):
            return False
        single = any(getattr(x, "dtype", None) in (torch.float32, np.float32) for x in (a, b))
        x, y = _numbers(a), _numbers(b)
        return bool(
            np.allclose(
                x, y, rtol=1e-4 if single else 1e-7, atol=1e-5 if single else 1e-8, equal_nan=True
            )
        )
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_alike(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(_alike(x, y) for x, y in zip(a, b, strict=True))
    return type(a) is type(b) and (a is None or (isinstance(a, str | bytes) and a == b))


def _unchanged(before: Any, now: Any) -> bool:
    """Whether tensors, arrays and containers among the inputs are exactly as they were."""
    if isinstance(before, torch.Tensor):
        if (
            not isinstance(now, torch.Tensor)
            or before.shape != now.shape
            or before.dtype != now.dtype
        ):
            return False
        try:
            return bool(np.array_equal(_numbers(before), _numbers(now), equal_nan=True))
        except RuntimeError:  # a torch.func wrapper has no numbers to read
            return True
    if isinstance(before, np.ndarray):
        return before.shape == now.shape and bool(
            (np.equal(before, now) | (before != before)).all()
        )
    if isinstance(before, dict):
        return before.keys() == now.keys() and all(_unchanged(before[k], now[k]) for k in before)
    if isinstance(before, list | tuple):
        return len(before) == len(now) and all(map(_unchanged, before, now))
    return True


def _clone(value: Any, modules: bool = False) -> Any:
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
        return type(value)(_clone(item, modules) for item in value)
    if type(value) is dict:
        return {key: _clone(item, modules) for key, item in value.items()}
    return value


def _brief(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if _numeric(value) and math.prod(np.shape(value)) <= 6:
        return np.array2string(_numbers(value), precision=4, separator=", ")
    text = repr(value)
    return text if len(text) <= 120 else text[:117] + "..."


def _name(error: BaseException) -> str:
    text = " ".join(str(error).split())
    text = text if len(text) <= 300 else text[:297] + "..."
    return type(error).__name__ + (f": {text}" if text else "")


# --- running an answer --------------------------------------------------------------------------


class _Guarded:
    """Stands for an object or function that an answer gave: its methods run guarded."""

    def __init__(self, run: "_Run", index: int, target: Any):
        object.__setattr__(self, "_run", run)
        object.__setattr__(self, "_index", index)
        object.__setattr__(self, "_target", target)

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._target, name)
        if isinstance(value, types.MethodType | types.FunctionType | types.BuiltinFunctionType):
            return functools.partial(self._run.call, value, (self._index, name))
        return value

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._target, name, value)

    def __call__(self, *args, **kwargs) -> Any:
        return self._run.call(self._target, (self._index, "__call__"), *args, **kwargs)


class _Stream:
    """Stands for a generator that an answer gave: its items are made guarded."""

    def __init__(self, run: "_Run", call: Call, args: tuple, kwargs: dict, target: Iterator):
        self._run, self._call, self._inputs, self._target = run, call, (args, kwargs), target
        call.output = []

    def __iter__(self) -> "_Stream":
        return self

    def __next__(self) -> Any:
        ended, item = self._run.guard(self._call, lambda: _advance(self._target))
        if ended:
            raise StopIteration
        self._call.output.append(_clone(item))
        self._run.inspect(self._call, *self._inputs)
        return item

    def close(self) -> None:
        self._target.close()


def _advance(iterator: Iterator) -> tuple[bool, Any]:
    try:
        return False, next(iterator)
    except StopIteration:
        return True, None


@dataclass
class _Run:
    """One check of one answer."""

    spec: Exercise
    answer: Any
    disabled: dict[int, str]
    number: int = 0
    calls: list[Call] = field(default_factory=list)
    claims: dict[str, None] = field(default_factory=dict)
    problem: str | None = None
    crash: BaseException | None = None
    inside: int = 0
    printed: int = 0
    package: str | None = None
    expired: bool = False
    done: threading.Event = field(default_factory=threading.Event)

    # A profile hook sees every call of a code object, under any name, on this thread only, and
    # leaves nothing to put back in the package.
    @no_type_check
    def hook(self, frame: types.FrameType, event: str, arg: Any) -> None:
        if not self.inside:
            return
        if event == "call" and id(frame.f_code) in self.disabled:
            self.package = self.disabled[id(frame.f_code)]
            raise PackageCalled(f"{self.package} is switched off while your answer runs")
        if event == "c_call" and arg is _PRINT:
            self.printed += 1

    def work(self) -> None:
        _HERE.run = self
        sys.setprofile(self.hook)
        try:
            for _ in range(self.spec.rounds):
                self.round()
        except _Stop:
            pass
        except BaseException as error:
            self.crash = error
        finally:
            sys.setprofile(None)
            self.done.set()

    def round(self) -> None:
        self.number += 1
        key = f"{self.spec.name}/{SETTINGS['seed']}/{self.number}".encode()
        first = len(self.calls)
        answer = functools.partial(self.call, self.answer, (None, None))
        self.spec.body(answer, Draw(zlib.crc32(key)))
        if self.problem is None and len(self.calls) > first and self.pure(self.calls[first]):
            call = self.calls[first]
            _seed(first)
            again = self.guard(call, lambda: self.answer(*_clone(call.args), **_clone(call.kwargs)))
            if not _alike(again, call.output):
                self.refuse(
                    "your answer gives something else when it is called again with the same input"
                )

    def pure(self, call: Call) -> bool:
        """Whether a call can be repeated and compared: plain inputs, left alone, and a number."""
        if call.error is not None or not _numeric(call.output):
            return False
        plain = (
            torch.Tensor | np.ndarray | int | float | str | torch.Generator | np.random.Generator
        )
        inputs = [*call.args, *call.kwargs.values()]
        return not self.spec.mutates and all(isinstance(value, plain) for value in inputs)

    def state(self, claim: str, problem: str) -> bool:
        self.claims[claim] = None
        if problem and self.problem is None:
            self.problem = f"this does not hold: {claim}\n  {problem}"
        return not problem

    def refuse(self, problem: str) -> None:
        if self.problem is None:
            self.problem = problem
        raise _Stop

    def call(self, function: Callable, origin: tuple, /, *args, **kwargs) -> Any:
        args, kwargs = tuple(map(raw, args)), {key: raw(value) for key, value in kwargs.items()}
        modules = self.spec.mutates
        call = Call(*origin, _clone(args, modules), _clone(kwargs, modules))
        self.calls.append(call)
        index = len(self.calls) - 1
        _seed(index)
        stream, printed = torch.default_generator.get_state(), self.printed
        output = self.guard(call, lambda: function(*args, **kwargs))
        call.after = _clone(args, True) if modules else None
        moved = not torch.equal(stream, torch.default_generator.get_state())
        call.output = _clone(output)
        if moved and not self.spec.global_random:
            self.refuse(
                "your answer draws from torch's global random state; "
                "draw from the generator it is given"
            )
        if output is None and call.parent is None and not modules:
            said = self.printed > printed
            self.refuse(
                "your answer returned None"
                + (
                    ": it prints its result instead of returning it"
                    if said
                    else ": is a `return` forgotten?"
                )
            )
        self.inspect(call, args, kwargs)
        kind = type(output)
        if isinstance(output, torch.Tensor) and kind not in (torch.Tensor, torch.nn.Parameter):
            self.refuse(f"your answer returned a {kind.__name__} where a plain tensor is expected")
        if (
            isinstance(output, float | int)
            and kind not in (float, int, bool)
            and not isinstance(output, np.generic)
        ):
            self.refuse(f"your answer returned a {kind.__name__} where a plain number is expected")
        if hasattr(output, "__next__"):
            return _Stream(self, call, args, kwargs, output)
        if (
            _numeric(output)
            or output is None
            or isinstance(output, str | bytes | list | tuple | dict)
        ):
            return output
        return _Guarded(self, index, output)

    def guard(self, call: Call, action: Callable) -> Any:
        """Run the learner's code with the package's own version switched off."""
        depth, self.inside = self.inside, self.inside + 1
        try:
            return action()
        except (_Stop, _Raised):
            raise
        except BaseException as error:
            if self.expired:
                raise
            if self.package is None:
                call.error = error
                raise _Raised from error
        finally:
            self.inside = depth
            _originals()
            if self.package is not None:
                self.problem = (
                    f"your answer calls {self.package}, the package's own version; "
                    "write the step itself"
                )
                raise _Stop
            if sys.getprofile() != self.hook and not self.expired:
                sys.setprofile(self.hook)

    def inspect(self, call: Call, args: tuple, kwargs: dict) -> None:
        if not self.spec.mutates and not (
            _unchanged(call.args, args) and _unchanged(call.kwargs, kwargs)
        ):
            self.refuse(
                "your answer changes its input in place; the caller still needs it: "
                "make a new tensor"
            )

    def verdict(self) -> str | None:
        """The problem, once the body has ended."""
        error = self.crash
        if self.problem is not None or error is None:
            return self.problem
        if isinstance(error, _Raised):
            error, told = error.__cause__, _line(error.__cause__, self.answer)
            if isinstance(error, NotImplementedError):
                return "not written yet: replace `raise NotImplementedError` by your answer"
            return f"your answer raised {_name(error)}{told}"
        given = next((c.output for c in reversed(self.calls) if c.output is not _MISSING), None)
        if _numeric(given):
            given = f"{type(given).__name__} of shape {tuple(np.shape(given))}"
        else:
            given = _brief(given)
        return f"the check cannot compute with what your answer returned ({given}): {_name(error)}"


def _seed(index: int) -> None:
    """The global random states, the same for a call and for its replay."""
    torch.default_generator.manual_seed(index)
    np.random.seed(index)  # noqa: NPY002 - the learner's code may use the global state
    random.seed(index)


def _run() -> _Run:
    run = getattr(_HERE, "run", None)
    if run is None:
        raise RuntimeError("properties are stated inside a check: call the check with your answer")
    return run


def _replays(wrong: Callable, calls: list[Call], mutates: bool) -> bool:
    """Whether `wrong` gives what the answer gave, on every recorded call."""
    made: dict[int, Any] = {}
    compared = False
    for index, call in enumerate(calls):
        if call.output is _MISSING and call.error is None:
            return False
        args, kwargs = _clone((call.args, call.kwargs), mutates)
        _seed(index)
        try:
            function = wrong if call.parent is None else made[call.parent]
            if call.method not in (None, "__call__"):
                function = getattr(function, call.method)
            output = function(*args, **kwargs)
            if hasattr(output, "__next__"):
                output = list(islice(output, len(call.output) + (call.error is not None)))
        except Exception as error:
            if call.error is None or not _same_error(error, call.error):
                return False
            compared = True
            continue
        if call.error is not None or (mutates and not _same_state(args, call.after)):
            return False
        made[index] = output
        if (
            _numeric(call.output)
            or isinstance(call.output, list | tuple | dict | str)
            or output is None
        ):
            if not _alike(output, call.output):
                return False
            compared = True
    return compared


def _same_error(a: BaseException, b: BaseException) -> bool:
    # A ValueError is mostly raised on purpose, in the learner's own words.
    return _name(a) == _name(b) or type(a) is type(b) is ValueError


def _same_state(a: tuple, b: tuple) -> bool:
    def plain(value: Any) -> Any:
        return dict(value.state_dict()) if isinstance(value, torch.nn.Module) else value

    pairs = [(plain(x), plain(y)) for x, y in zip(a, b, strict=True)]
    return all(_alike(x, y) for x, y in pairs if _numeric(x) or isinstance(x, list | tuple | dict))


def _recognise(spec: Exercise, calls: list[Call]) -> Mistake | None:
    for mistake in spec.mistakes:
        try:
            if mistake.when is not None and mistake.when(calls):
                return mistake
            if mistake.wrong is not None and _replays(mistake.wrong, calls, spec.mutates):
                return mistake
        except Exception:  # a record too odd to be read is no known mistake
            continue
    return None


def _line(error: BaseException | None, answer: Any, frame: types.FrameType | None = None) -> str:
    """Where in the learner's code an error arose, or where it was running."""
    code = getattr(inspect.unwrap(answer), "__code__", None)
    places = []
    if error is not None:
        trace = error.__traceback__
        while trace is not None:
            places.append((trace.tb_frame.f_code.co_filename, trace.tb_lineno))
            trace = trace.tb_next
    while frame is not None:
        places.insert(0, (frame.f_code.co_filename, frame.f_lineno))
        frame = frame.f_back
    own = [
        place
        for place in places
        if (code is not None and place[0] == code.co_filename) or "ipykernel" in place[0]
    ]
    if not own:
        return ""
    filename, number = own[-1]
    text = linecache.getline(filename, number).strip()
    return f"\n  in line {number}" + (f": {text}" if text else "")


def _judge(spec: Exercise, answer: Any) -> tuple[CheckFailed | None, str]:
    """The failure, or the line that reports success."""
    if getattr(_HERE, "run", None) is not None:
        raise RuntimeError("a check cannot run inside an answer")
    if not callable(answer):
        text = f"hand over the function itself: {spec.name}, not the result of calling it"
        return CheckFailed(spec.name, f"{text} (got a {type(answer).__name__})"), ""
    run = _Run(spec, answer, _codes(spec.disables))
    with _LOCK, _surroundings():
        thread = threading.Thread(target=run.work, daemon=True, name=f"check {spec.name}")
        thread.start()
        try:
            until = time.monotonic() + SETTINGS["limit"]
            while not (finished := run.done.wait(0.05)) and time.monotonic() < until:
                pass  # short waits, so that the user's interrupt is seen everywhere
        except BaseException:  # the user's own interrupt
            run.expired = True
            _interrupt(thread)
            raise
        if finished:
            problem = run.verdict()
        else:
            told = _line(None, answer, sys._current_frames().get(thread.ident))
            run.expired = True
            stopped = _interrupt(thread)
            problem = run.problem or (
                f"your answer took longer than {SETTINGS['limit']:g} s: "
                f"a loop that does not end?{told}"
                + ("" if stopped else "\n  It could not be stopped: restart the kernel")
            )
        mistake = None if problem is None or run.package else _recognise(run.spec, list(run.calls))
    if problem is not None:
        return CheckFailed(spec.name, problem, mistake), ""
    count = len(run.claims)
    return None, f"{spec.name}: " + (
        "the property holds." if count == 1 else f"all {count} properties hold."
    )


def _interrupt(thread: threading.Thread, patience: float = 0.3) -> bool:
    """Raise SystemExit in a thread until it ends; a thread asleep in C code is left behind."""
    until = time.monotonic() + patience
    while thread.is_alive() and time.monotonic() < until:
        _throw(thread.ident, SystemExit)
        thread.join(0.02)
    if thread.is_alive():
        # Python 3.11 keeps one flag for undelivered exceptions of all threads, and while it is up
        # another thread with a profile hook stands still: taking one ourselves puts it down.
        try:
            _throw(threading.get_ident(), _Stop)
            for _ in range(1000):
                pass
        except _Stop:
            pass
    return not thread.is_alive()


def _throw(thread: int, kind: type[BaseException]) -> None:
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(kind))


# --- the package's own versions -----------------------------------------------------------------


@functools.cache
def _codes(names: tuple[str, ...]) -> dict[int, str]:
    """The code objects of the named functions, by identity."""
    return {id(code): name for name in names for code in _code(_find(name), name)}


def _find(name: str) -> Any:
    parts = name.split(".")
    for cut in range(len(parts) - 1, 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:cut]))
        except ModuleNotFoundError as missing:
            if not (".".join(parts[:cut]) + ".").startswith(f"{missing.name}."):
                raise
            continue
        for part in parts[cut:]:
            found = inspect.getattr_static(found, part)
        return found
    raise ImportError(f"cannot find {name}, which an exercise disables")


def _code(thing: Any, name: str) -> Iterator[types.CodeType]:
    if isinstance(thing, staticmethod | classmethod):
        thing = thing.__func__
    if isinstance(thing, property):
        thing = thing.fget
    if isinstance(thing, functools.cached_property):
        thing = thing.func
    if isinstance(thing, functools.partial):
        thing = thing.func
    if isinstance(thing, type):
        for member in vars(thing).values():
            if isinstance(member, types.FunctionType | staticmethod | classmethod | property):
                yield from _code(member, name)
        return
    thing = inspect.unwrap(thing)  # decorators share the code of their wrappers
    if not hasattr(thing, "__code__"):
        raise TypeError(f"{name}, which an exercise disables, is not a Python function or class")
    yield thing.__code__


# --- surroundings -------------------------------------------------------------------------------


@contextmanager
def _surroundings():
    """Give a check torch and numpy as they were imported, and leave the global state as it was."""
    state = torch.get_rng_state(), np.random.get_state(), random.getstate()  # noqa: NPY002
    dtype, threads, grad = (
        torch.get_default_dtype(),
        torch.get_num_threads(),
        torch.is_grad_enabled(),
    )
    theirs = _originals()
    torch.set_default_dtype(torch.float32)
    torch.set_grad_enabled(True)
    try:
        yield
    finally:
        _originals()
        torch.set_grad_enabled(grad)
        torch.set_default_dtype(dtype)
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
        torch.set_rng_state(state[0])
        np.random.set_state(state[1])  # noqa: NPY002
        random.setstate(state[2])
        for owner, name, value in theirs:
            _put(owner, name, value)


_KEEP = {
    "print",
    "open",
    "input",
    "exit",
    "quit",
    "help",
    "display",
    "breakpoint",
    "__import__",
    "manual_seed",
}
_OWNERS = (
    builtins,
    math,
    operator,
    torch,
    torch.nn.functional,
    torch.linalg,
    torch.Tensor,
    np,
    np.linalg,
)
_SNAPSHOT = [
    (owner, name, vars(owner).get(name, _MISSING))
    for owner in _OWNERS
    for name in (dir(owner) if owner is torch.Tensor else list(vars(owner)))
    if name not in _KEEP
    and not (name.startswith("_") and owner is not torch.Tensor)
    and (owner is torch.Tensor or callable(vars(owner)[name]))
]
_PLACES = [(vars(owner), name, value, owner) for owner, name, value in _SNAPSHOT]


def _originals(places=_PLACES, missing=_MISSING) -> list[tuple[Any, str, Any]]:
    """Put replaced functions of torch, numpy and builtins back; gives what stood in their place."""
    found = [
        (owner, name, space.get(name, missing), value)
        for space, name, value, owner in places
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
