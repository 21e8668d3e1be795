"""An answer's error in words: what was raised, and in which line of the learner's code."""

import inspect
import linecache
import sys
import threading
import traceback
from collections.abc import Iterable
from typing import Any


def told(error: BaseException) -> str:
    """An error's class and message, in at most 300 characters."""
    text = " ".join(str(error).split())
    text = text if len(text) <= 300 else text[:297] + "..."
    return type(error).__name__ + (f": {text}" if text else "")


def raised_at(error: BaseException, answer: Any) -> str:
    """The learner's line in which an error arose, as an addition to a message, or nothing."""
    return _place(traceback.walk_tb(error.__traceback__), answer)


def running_at(thread: threading.Thread, answer: Any) -> str:
    """The learner's line at which a thread is now, as an addition to a message, or nothing."""
    frame = sys._current_frames().get(thread.ident)
    return "" if frame is None else _place(reversed([*traceback.walk_stack(frame)]), answer)


def _place(steps: Iterable, answer: Any) -> str:
    """The innermost of some (frame, line number) that stands in the answer's file or a cell."""
    code = getattr(inspect.unwrap(answer), "__code__", None)
    places = [(frame.f_code.co_filename, number) for frame, number in steps]
    mine = code and code.co_filename
    own = [place for place in places if place[0] == mine or "ipykernel" in place[0]]
    if not own:
        return ""
    filename, number = own[-1]
    text = linecache.getline(filename, number).strip()
    return f"\n  in line {number}" + (f": {text}" if text else "")
