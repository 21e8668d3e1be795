"""Running a learner's code for a check.

A `Run` calls the answer, and what the answer gave, for the body of one check. It records every
call, keeps the package's own version switched off meanwhile, ends the body at the first fault that
makes going on senseless, and says in the end what was wrong.
"""

import _thread
import functools
import sys
import threading
import types
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, no_type_check

import numpy as np
import torch
from tqdm._monitor import TMonitor

from minit2i.checks.compare import alike, brief, described, numeric, unchanged
from minit2i.checks.disabled import table
from minit2i.checks.draws import Draw, reseed
from minit2i.checks.errors import raised_at, told
from minit2i.checks.record import MISSING, Call, Mistake, clone
from minit2i.checks.surroundings import put_back

ROUNDS = 2  # on different numbers, so that numbers seen once are no answer
_PRINT = print
# Calls with which code would get out of the hook's sight.
_ESCAPES = (sys.setprofile, *(vars(_thread)[n] for n in dir(_thread) if n.startswith("start_")))
_HERE = threading.local()


class PackageCalled(RuntimeError):
    """Raised inside the package's own version of an exercise while an answer runs."""


class Stop(BaseException):
    """Ends a check whose failure is already noted."""


class Raised(BaseException):
    """Carries an exception of the answer, its cause, past the check's body."""


@dataclass(frozen=True)
class Exercise:
    """What a check knows: kept as `check.exercise` for graders and tests."""

    body: Callable
    disables: tuple[str, ...]
    mistakes: tuple[Mistake, ...]
    mutates: bool
    numpy: bool
    global_random: bool

    @property
    def name(self) -> str:
        """The name of the body, which is that of the check."""
        return self.body.__name__


@dataclass
class Run:
    """One check of one answer."""

    spec: Exercise
    answer: Any
    seed: int
    calls: list[Call] = field(default_factory=list)
    claims: dict[str, None] = field(default_factory=dict)  # in the order stated
    problem: str | None = None
    crash: BaseException | None = None
    inside: int = 0  # how many calls of the learner's code are under way
    printed: int = 0
    package: str | None = None  # the switched-off version that the answer called
    in_place: bool = False  # the answer changed its input
    expired: bool = False
    finished: bool = False  # the body has run to its end on every round's numbers

    def __post_init__(self):
        self.disabled = table(self.spec.disables)

    def work(self) -> None:
        """Run the body in this thread, on each round's numbers."""
        _HERE.run = self
        sys.setprofile(self.hook)
        try:
            for number in range(1, ROUNDS + 1):
                self.round(number)
            self.finished = True
        except Stop:
            pass
        except BaseException as error:
            self.crash = error
        finally:
            sys.setprofile(None)

    # A profile hook sees every call of a code object, under any name, on this thread only, and
    # leaves nothing to put back in the package.
    @no_type_check
    def hook(self, frame: types.FrameType, event: str, arg: Any) -> None:
        """Stop what an answer may not do, and count what is printed, while its code runs."""
        if not self.inside:
            return
        if event == "call" and id(frame.f_code) in self.disabled:
            self.package = self.disabled[id(frame.f_code)]
            raise PackageCalled(f"{self.package} is switched off while your answer runs")
        if event != "c_call":
            return
        if arg is _PRINT:
            self.printed += 1
        elif arg in _ESCAPES and not _progress_bar(frame):
            self.problem = self.problem or (
                f"an answer may not call {arg.__name__} while it is judged: no threads, no profiler"
            )

    def round(self, number: int) -> None:
        """Run the body once; then repeat the first call, which must give the same again."""
        first = len(self.calls)
        key = f"{self.spec.name}/{self.seed}/{number}".encode()
        self.spec.body(functools.partial(self.call, self.answer, None, None), Draw(zlib.crc32(key)))
        if self.problem is not None or len(self.calls) == first:
            return
        call = self.calls[first]
        if self.repeatable(call):
            reseed(first)
            again = self.guard(call, lambda: self.answer(*clone(call.args), **clone(call.kwargs)))
            if not alike(again, call.output):
                self.refuse(
                    "your answer gives something else when it is called again with the same input"
                )

    def repeatable(self, call: Call) -> bool:
        """Whether a call can be repeated and compared: plain inputs, left alone, and a number."""
        plain = (
            torch.Tensor | np.ndarray | int | float | str | torch.Generator | np.random.Generator
        )
        inputs = [*call.args, *call.kwargs.values()]
        numbers = call.error is None and numeric(call.output)
        return numbers and not self.spec.mutates and all(isinstance(x, plain) for x in inputs)

    def state(self, claim: str, problem: str) -> bool:
        """Note a claim, and the problem with it if there is one; the body goes on."""
        self.claims[claim] = None
        if problem and self.problem is None:
            self.problem = f"this does not hold: {claim}\n  {problem}"
        return not problem

    def refuse(self, problem: str) -> None:
        """Note a problem and end the check."""
        if self.problem is None:
            self.problem = problem
        raise Stop

    def call(
        self, function: Callable, parent: int | None, method: str | None, /, *args, **kwargs
    ) -> Any:
        """Call the answer, or `method` of what its call number `parent` gave, and record it."""
        args, kwargs = tuple(map(raw, args)), {key: raw(value) for key, value in kwargs.items()}
        mutates = self.spec.mutates
        call = Call(parent, method, clone(args, mutates), clone(kwargs, mutates))
        self.calls.append(call)
        index = len(self.calls) - 1
        reseed(index)
        stream, printed = torch.default_generator.get_state(), self.printed
        output = self.guard(call, lambda: function(*args, **kwargs))
        call.after = clone(args, True) if mutates else None
        call.output = clone(output)
        if not self.spec.global_random and not torch.equal(
            stream, torch.default_generator.get_state()
        ):
            self.refuse(
                "your answer draws from torch's global random state; "
                "draw from the generator it is given"
            )
        if output is None and parent is None and not mutates:
            forgot, prints = (
                "is a `return` forgotten?",
                "it prints its result instead of returning it",
            )
            if any(one.parent is None and numeric(one.output) for one in self.calls):
                forgot = "an earlier call gave a value: which branch ends without a `return`?"
            hint = prints if self.printed > printed else forgot
            self.refuse(f"your answer returned None: {hint}")
        self.refuse_changed_inputs(call, args, kwargs)
        self.refuse_subclass(output)
        return self.stand_in(output, index, args, kwargs)

    def guard(self, call: Call, action: Callable) -> Any:
        """Run the learner's code with the package's own version switched off."""
        depth, self.inside = self.inside, self.inside + 1
        try:
            return action()
        except BaseException as error:
            ours = isinstance(error, Stop) and self.problem is not None
            if self.expired or ours or (isinstance(error, Raised) and error.__cause__ is not None):
                raise
            if self.package is None:
                call.error = error
                raise Raised from error
        finally:
            self.inside = depth
            put_back()
            if self.package is not None:
                self.problem = (
                    f"your answer calls {self.package}, the package's own version; "
                    "write the step itself"
                )
                raise Stop
            if sys.getprofile() != self.hook and not self.expired:
                sys.setprofile(self.hook)
                if (
                    call.error is None
                ):  # an error in the hook, as at the recursion limit, ends it too
                    self.problem = self.problem or "an answer may not touch the profiler"

    def refuse_changed_inputs(self, call: Call, args: tuple, kwargs: dict) -> None:
        """Compare the inputs with what they were, unless the answer is to change them."""
        if not self.spec.mutates and not unchanged((call.args, call.kwargs), (args, kwargs)):
            self.in_place = True
            self.refuse(
                "your answer changes its input in place; the caller still needs it: "
                "make a new tensor"
            )

    def refuse_subclass(self, output: Any) -> None:
        """Refuse numbers whose class could say of itself that it equals anything."""
        plain = torch.Tensor, torch.nn.Parameter, float, int, bool
        if isinstance(output, np.generic) or type(output) in plain:
            return
        if isinstance(output, plain):
            kind = "tensor" if isinstance(output, torch.Tensor) else "number"
            self.refuse(
                f"your answer returned a {type(output).__name__} where a plain {kind} is expected"
            )

    def stand_in(self, output: Any, index: int, args: tuple, kwargs: dict) -> Any:
        """What the body gets of call number `index`: values as they are, guards for the rest."""
        if hasattr(output, "__next__"):
            return _Stream(self, self.calls[index], args, kwargs, output)
        if numeric(output) or isinstance(output, str | bytes | list | tuple | dict | None):
            return output
        return _Guarded(self, index, output)

    def verdict(self) -> str | None:
        """The problem, once the body has ended."""
        error = self.crash
        if self.problem is None and error is None and not (self.finished and self.claims):
            return "the check was broken off before it had seen everything"
        if self.problem is not None or error is None:
            return self.problem
        if isinstance(error, Raised):
            error = error.__cause__
            if isinstance(error, NotImplementedError):
                return "not written yet: replace `raise NotImplementedError` by your answer"
            return f"your answer raised {told(error)}{raised_at(error, self.answer)}"
        given = next((c.output for c in reversed(self.calls) if c.output is not MISSING), None)
        given = described(given) if numeric(given) else brief(given)
        return f"the check cannot compute with what your answer returned ({given}): {told(error)}"


def _progress_bar(frame: types.FrameType) -> bool:
    """Whether it is tqdm that starts its monitor thread, with the first bar."""
    return frame.f_back is not None and frame.f_back.f_code is TMonitor.__init__.__code__


def current() -> Run | None:
    """The run whose body, or whose answer, this thread executes."""
    return getattr(_HERE, "run", None)


# --- what stands for the results of an answer ---------------------------------------------------


class _Guarded:
    """Stands for an object or function that an answer gave: its methods run guarded."""

    def __init__(self, run: Run, index: int, target: Any):
        object.__setattr__(self, "_run", run)
        object.__setattr__(self, "_index", index)
        object.__setattr__(self, "_target", target)

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._target, name)
        if isinstance(value, types.MethodType | types.FunctionType | types.BuiltinFunctionType):
            return functools.partial(self._run.call, value, self._index, name)
        return value

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._target, name, value)

    def __call__(self, *args, **kwargs) -> Any:
        return self._run.call(self._target, self._index, "__call__", *args, **kwargs)


class _Stream:
    """Stands for a generator that an answer gave: its items are made guarded."""

    def __init__(self, run: Run, call: Call, args: tuple, kwargs: dict, target: Iterator):
        self._run, self._call, self._inputs, self._target = run, call, (args, kwargs), target
        call.output = []

    def __iter__(self) -> "_Stream":
        return self

    def __next__(self) -> Any:
        ended, item = self._run.guard(self._call, lambda: _advance(self._target))
        if ended:
            raise StopIteration
        self._call.output.append(clone(item))
        self._run.refuse_changed_inputs(self._call, *self._inputs)
        return item

    def close(self) -> None:
        self._target.close()


def _advance(iterator: Iterator) -> tuple[bool, Any]:
    """Whether an iterator has ended, and its next item: StopIteration stays out of the guard."""
    try:
        return False, next(iterator)
    except StopIteration:
        return True, None


def raw(thing: Any) -> Any:
    """The learner's own object behind the recording stand-in that an answer's result may be."""
    return thing._target if type(thing) in (_Guarded, _Stream) else thing
