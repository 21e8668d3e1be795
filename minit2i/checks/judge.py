"""The judge of the exercises: calls a learner's answer safely and says which property broke.

A check is a function `(answer, draw)` made by `exercise`. It runs twice on different numbers, in a
thread of its own with a time limit. Every call of the answer is recorded; after a failure each
known `Mistake` is replayed on the recorded inputs, and is named if it gives the same outputs. The
package's own version of the exercise raises while the answer runs, whatever name it goes by.

    judge         what a lesson uses: exercise, the properties it states, seed and limit
    guard         runs the answer: its calls, what they give, what is forbidden on the way
    record        a call, and the mistakes that are recognised in all of them
    disabled      the code that no answer may run
    surroundings  the state and the functions that are put back afterwards
    deadline      the time limit
    draws         numbers          compare errors   differences and exceptions in words
"""

import functools
import threading
from collections.abc import Callable, Sequence
from typing import Any

import torch

from minit2i.checks.compare import brief, described, difference, wrong_kind, wrong_shape
from minit2i.checks.deadline import ends, interrupt
from minit2i.checks.draws import Draw
from minit2i.checks.errors import running_at, told
from minit2i.checks.guard import Exercise, PackageCalled, Raised, Run, current, raw
from minit2i.checks.record import Mistake, fits_points_only, recognise
from minit2i.checks.surroundings import kept

__all__ = ["CheckFailed", "Draw", "Mistake", "PackageCalled", "allowed", "described", "equal"]
__all__ += ["exercise", "fits_points_only", "holds", "limit", "raises", "raw", "seed", "shape"]

SETTINGS = {"seed": 0, "limit": 2.0}
_LOCK = threading.RLock()  # one check at a time: the global state is shared


def seed(number: int) -> None:
    """Draw the numbers of every following check from another seed (0 at the start)."""
    SETTINGS["seed"] = int(number)


def limit(seconds: float | int) -> float:
    """Set the seconds one check may take (2 at the start); gives back the former limit."""
    former, SETTINGS["limit"] = SETTINGS["limit"], float(seconds)
    return former


class CheckFailed(AssertionError):
    """An answer that lacks a property; the message is written for the learner."""

    def __init__(self, exercise: str, problem: str, mistake: Mistake | None = None):
        self.exercise, self.problem, self.mistake = exercise, problem, mistake
        text = f"{exercise}: {problem}"
        if mistake is not None:
            text += f"\n  This looks like a known mistake: {mistake.name}."
            text += f"\n  Hint: {mistake.hint}" if mistake.hint else ""
        super().__init__(text)

    def _render_traceback_(self) -> list[str]:
        """What IPython shows: the message alone, not the judge's own lines."""
        return str(self).splitlines()


def exercise(
    disables: Sequence[str] = (),
    mistakes: Sequence[Mistake] = (),
    mutates: bool = False,
    numpy: bool = False,
    global_random: bool = True,
) -> Callable[[Callable], Callable]:
    """Make a check `(answer) -> None` of a body `(answer, draw)` that states properties.

    `disables` names the package's own versions ("minit2i.schedule.Schedule.diffuse"). `mutates`:
    the answer is to change its inputs and may return None. `numpy`: arrays may stand for tensors.
    `global_random=False`: the answer must draw from the generator it is given.
    """

    def decorate(body: Callable) -> Callable:
        spec = Exercise(body, tuple(disables), tuple(mistakes), mutates, numpy, global_random)

        def check(answer: Any) -> None:
            __tracebackhide__ = True
            failure, count = _judge(spec, answer)
            if failure is not None:
                raise failure from None
            held = "the property holds" if count == 1 else f"all {count} properties hold"
            print(f"{spec.name}: {held}.")

        check.__name__ = check.__qualname__ = spec.name
        check.__module__, check.__doc__ = body.__module__, body.__doc__
        check.exercise = spec
        return check

    return decorate


def _judge(spec: Exercise, answer: Any) -> tuple[CheckFailed | None, int]:
    """The failure, or the number of properties that hold."""
    if current() is not None:
        raise RuntimeError("a check cannot run inside an answer")
    if not callable(answer):
        text = f"hand over the function itself: {spec.name}, not the result of calling it"
        return CheckFailed(spec.name, f"{text} (got a {type(answer).__name__})"), 0
    run = Run(spec, answer, SETTINGS["seed"])
    with _LOCK, kept():
        problem = _problem(run)
        if problem is None:
            return None, len(run.claims)
        known = () if run.package or run.in_place else spec.mistakes  # these say all
        return CheckFailed(spec.name, problem, recognise(known, [*run.calls], spec.mutates)), 0


def _problem(run: Run) -> str | None:
    """What is wrong with the answer, found in a thread that ends in time or is ended."""
    thread = threading.Thread(target=run.work, daemon=True, name=f"check {run.spec.name}")
    thread.start()
    try:
        if ends(thread, SETTINGS["limit"]):
            return run.verdict()
    except BaseException:  # the user's own interrupt
        run.expired = True
        interrupt(thread)
        raise
    where = running_at(thread, run.answer)
    run.expired = True
    stopped = interrupt(thread)
    return run.problem or (
        f"your answer took longer than {SETTINGS['limit']:g} s: a loop that does not end?{where}"
        + ("" if stopped else "\n  It could not be stopped: restart the kernel")
    )


# --- what a check's body uses -------------------------------------------------------------------


def equal(
    got: Any, expected: Any, claim: str, tol: float | int = 1e-6, dtype: torch.dtype | None = None
) -> bool:
    """State that `got` has the shape and numbers of `expected`.

    Numbers may differ by tol max(1, |expected|); single precision is held to 1e-5 at best.
    `dtype` asks for that very data type.
    """
    run = _run()
    return run.state(claim, difference(raw(got), raw(expected), tol, dtype, run.spec.numpy))


def holds(condition: Any, claim: str, **numbers: Any) -> bool:
    """State `condition`; `numbers` are shown when it fails: holds(e < 0.1, "...", error=e).

    A text among them is shown as it is.
    """
    values = {name: x if isinstance(x, str) else brief(x) for name, x in numbers.items()}
    shown = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in values.items())
    return _run().state(claim, "" if bool(condition) else shown or "it does not")


def shape(got: Any, expected: Sequence[int], claim: str) -> bool:
    """State the shape of `got`."""
    run, got = _run(), raw(got)
    return run.state(claim, wrong_kind(got, run.spec.numpy) or wrong_shape(got, expected))


def raises(kind: type[Exception], claim: str, call: Callable, *args, **kwargs) -> bool:
    """State that `call(*args, **kwargs)`, a call of the answer, raises `kind`."""
    run = _run()
    try:
        call(*args, **kwargs)
    except Raised as carried:
        error = carried.__cause__
        return run.state(
            claim, "" if isinstance(error, kind) else f"it raised {told(error)} instead"
        )
    return run.state(claim, f"it returned instead of raising {kind.__name__}")


def allowed(function: Callable) -> Callable:
    """Let a function that a check hands to the answer use what is disabled for the answer."""

    @functools.wraps(function)
    def run_free(*args, **kwargs):
        run = current()
        if run is None:
            return function(*args, **kwargs)
        depth, run.inside = run.inside, 0
        try:
            return function(*args, **kwargs)
        finally:
            run.inside = depth

    return run_free


def _run() -> Run:
    run = current()
    if run is None:
        raise RuntimeError("properties are stated inside a check: call the check with your answer")
    return run
