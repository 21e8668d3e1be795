"""A time limit for a thread that may never end by itself."""

import ctypes
import threading
import time


def ends(thread: threading.Thread, seconds: float | int) -> bool:
    """Wait for a thread, at most some seconds; whether it has ended."""
    until = time.monotonic() + seconds
    while thread.is_alive() and time.monotonic() < until:
        thread.join(0.05)  # short waits, so that the user's interrupt is seen everywhere
    return not thread.is_alive()


def interrupt(thread: threading.Thread, patience: float = 0.3) -> bool:
    """Raise SystemExit in a thread until it ends; a thread asleep in C code is left behind.

    Gives whether it has ended.
    """
    until = time.monotonic() + patience
    while thread.is_alive() and time.monotonic() < until:
        _throw(thread.ident, SystemExit)
        thread.join(0.02)
    if thread.is_alive():
        # Python 3.11 keeps one flag for undelivered exceptions of all threads, and while it is up
        # another thread with a profile hook stands still: taking one ourselves puts it down.
        try:
            _throw(threading.get_ident(), _Taken)
            for _ in range(1000):
                pass
        except _Taken:
            pass
    return not thread.is_alive()


class _Taken(BaseException):
    """Raised in the waiting thread by itself."""


def _throw(thread: int, kind: type[BaseException]) -> None:
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(kind))
