"""Linux's own sandbox for unprivileged processes, which holds compiled code too.

Landlock (Linux 5.13 and newer) lets a process give up rights for good: here to every file but what
is listed, to TCP connections (6.7) and to signals for other processes (6.12). There is no Python
package of it in wide use; the three system calls are few enough.
"""

import ctypes
import os
import sys
from collections.abc import Iterable
from pathlib import Path

_CREATE, _ADD, _RESTRICT = 444, 445, 446  # the same numbers on every architecture
_NO_NEW_PRIVILEGES = 38
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_READ = _EXECUTE | _READ_FILE | _READ_DIR
_EVERY = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}  # how many rights on files a version knows
_TRUNCATE = 1 << 14
_OF_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE
_NETWORK = 0b11  # binding and connecting TCP
_SCOPES = 0b11  # abstract sockets and signals of other processes


class _Ruleset(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in ("files", "network", "scopes")]


class _Beneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = [("allowed", ctypes.c_uint64), ("folder", ctypes.c_int32)]


def version() -> int:
    """The version of Landlock that this system has; 0 if it has none."""
    if not sys.platform.startswith("linux"):
        return 0
    return max(0, _libc().syscall(_CREATE, None, ctypes.c_size_t(0), ctypes.c_uint32(1)))


def restrict(readable: Iterable[str | Path], writable: Iterable[str | Path]) -> bool:
    """Leave this thread, and all that it starts, the listed files and folders only, for good.

    Gives whether the system could; it has done nothing otherwise. Paths that are not there are
    passed over.
    """
    has = version()
    if has == 0:
        return False
    libc = _libc()
    every = (1 << _EVERY.get(has, 16)) - 1
    rules = _Ruleset(every, _NETWORK, _SCOPES)
    size = 8 if has < 4 else 16 if has < 6 else 24
    handle = libc.syscall(_CREATE, ctypes.byref(rules), ctypes.c_size_t(size), ctypes.c_uint32(0))
    if handle < 0:
        return False
    try:
        for allowed, paths in ((_READ, readable), (every, writable)):
            for path in paths:
                _allow(libc, handle, path, allowed & every)
        libc.prctl(_NO_NEW_PRIVILEGES, *map(ctypes.c_ulong, (1, 0, 0, 0)))
        return libc.syscall(_RESTRICT, ctypes.c_int(handle), ctypes.c_uint32(0)) == 0
    finally:
        os.close(handle)


def _allow(libc: ctypes.CDLL, handle: int, path: str | Path, allowed: int) -> None:
    try:
        folder = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        rule = _Beneath(allowed if os.path.isdir(path) else allowed & _OF_FILES, folder)
        beneath = ctypes.c_int(1)
        libc.syscall(_ADD, ctypes.c_int(handle), beneath, ctypes.byref(rule), ctypes.c_uint32(0))
    finally:
        os.close(folder)


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
