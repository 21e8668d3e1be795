"""What a learner's code may not do while it is graded.

Python reports what touches the machine as audit events (PEP 578), and a hook, once set, cannot be
taken away. The hook refuses, with a message that says so: writing outside the submission's own
folder; reading the course's source, its notebooks and other submissions; starting processes; the
network; C calls and the other ways into the interpreter that no answer needs. Compiled code may do
things that Python does not report; on Linux the kernel holds it too, see `landlock`.
"""

import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from types import MappingProxyType

import threadpoolctl

from minit2i.checks import deadline, errors
from minit2i.coursework import landlock

PACKAGE = str(Path(__file__).parents[1].resolve())
_FLAGS = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_CHANGES = (
    "os.chmod os.chown os.link os.mkdir os.remove os.rename os.rmdir os.symlink os.truncate"
    " os.utime os.setxattr os.removexattr os.mkfifo os.mknod shutil.rmtree"
).split()
_PROCESSES = (
    "subprocess.Popen os.system os.exec os.fork os.forkpty os.posix_spawn os.spawn pty.spawn"
    " os.kill os.killpg signal.pthread_kill"
).split()
_NETWORK = (
    "socket.connect socket.bind socket.sendto socket.getaddrinfo socket.gethostbyname".split()
)
_INTERPRETER = (
    "ctypes.dlopen ctypes.dlsym ctypes.cdata gc.get_objects gc.get_referrers gc.get_referents"
    " code.__new__ sys.settrace sys._current_frames"
).split()
# Code that looks into the interpreter for good reasons: where an answer hangs, what BLAS there is.
_ALLOWED = {id(function.__code__) for function in (errors.running_at, deadline._throw)}
_LIBRARY = threadpoolctl.__file__


class Confined(PermissionError):
    """Something that a submission may not do."""


def limit(memory: int, file_size: int = 64_000_000) -> None:
    """Let this process take at most `memory` bytes of data, and write files of limited size.

    Beyond it, allocations fail with MemoryError (torch: RuntimeError). On Linux only: elsewhere
    the system does not keep such a limit for data, and the time limit has to do.
    """
    if not sys.platform.startswith("linux"):
        return
    import resource

    resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
    resource.setrlimit(resource.RLIMIT_FSIZE, (file_size, file_size))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def confine(own: Path, hidden: Iterable[Path]) -> bool:
    """Refuse from now on, in this process, what no answer needs.

    `own`: the only folder that may be written to. `hidden`: folders that may not be read, besides
    the package itself, which has to be imported before. Gives whether the system's kernel, too,
    keeps to this.
    """
    held = landlock.restrict(_readable(), [own, os.devnull])
    own = os.path.realpath(own)
    hidden = (PACKAGE, *(os.path.realpath(path) for path in hidden))
    rules = MappingProxyType(_rules(own, hidden))  # a traceback leads to it

    def hook(event: str, args: tuple, get: Callable = rules.get) -> None:
        rule = get(event)
        if rule is not None:
            rule(args)

    sys.addaudithook(hook)
    return held


def _readable() -> list[str]:
    """What Python and its libraries may want to read while they run; the course's data."""
    system = "/usr", "/lib", "/lib64", "/etc", "/dev/null", "/dev/urandom", "/opt"
    data = os.path.join(os.path.dirname(PACKAGE), "data")
    fonts = os.environ.get("MPLCONFIGDIR", "")
    own = f"/proc/{os.getpid()}"  # threadpoolctl, and scikit-learn by it, looks at its own maps
    libraries = [path for path in sys.path if not _within(PACKAGE, os.path.realpath(path))]
    return [*system, sys.prefix, sys.base_prefix, *libraries, data, fonts, own]


def _rules(own: str, hidden: tuple[str, ...]) -> dict[str, Callable[[tuple], None]]:
    rules: dict[str, Callable[[tuple], None]] = {}

    def opened(args: tuple) -> None:
        path, mode, flags = args
        if isinstance(path, int) or path is None:
            return
        path = _real(path)
        if os.path.isdir(path) and not _within(path, own):  # relative paths could start there
            raise Confined(f"a submission may not open the folder {path}")
        if (mode and set(mode) & set("wax+")) or (isinstance(flags, int) and flags & _FLAGS):
            if not _within(path, own) and path != os.devnull:
                raise Confined(f"a submission writes in its own folder only, not to {path}")
        elif _within(path, PACKAGE):
            raise Confined("a submission may not read the course's source: write your own answer")
        elif any(_within(path, folder) for folder in hidden):
            raise Confined(f"a submission may not read {path}")

    def changed(args: tuple) -> None:
        for path in args:
            if isinstance(path, str | bytes | os.PathLike) and not _within(_real(path), own):
                raise Confined(f"a submission changes its own folder only, not {_real(path)}")

    def listed(args: tuple) -> None:
        if isinstance(args[0], int):  # an open folder: it is within the submission's own
            return
        path = _real(args[0] or ".")
        if any(_within(path, folder) for folder in hidden):
            raise Confined(f"a submission may not look into {path}")

    def refused(what: str) -> Callable[[tuple], None]:
        def rule(args: tuple) -> None:
            raise Confined(f"a submission may not {what}")

        return rule

    def judges_only(args: tuple) -> None:
        code = sys._getframe(2).f_code
        if id(code) not in _ALLOWED and code.co_filename != _LIBRARY:
            raise Confined("a submission may not watch or reach into the running interpreter")

    def linked(args: tuple) -> None:
        source, link, *_ = args
        changed((os.path.join(os.path.dirname(_real(link)), os.fsdecode(source)), link))

    def recoded(args: tuple) -> None:
        if args[1] == "__code__":
            raise Confined("a submission may not change the code of a function")

    def imported(args: tuple) -> None:
        if not sys._getframe(2).f_code.co_filename.startswith("<frozen importlib"):
            raise Confined("a submission may not take code apart")

    def database(args: tuple) -> None:
        if args[0] != ":memory:":
            changed(args)

    rules["open"] = opened
    rules["sqlite3.connect"] = database
    rules |= dict.fromkeys(("marshal.loads", "marshal.dumps"), imported)
    rules["object.__setattr__"] = recoded
    rules |= dict.fromkeys(_CHANGES, changed)
    rules |= dict.fromkeys(("os.listdir", "os.scandir"), listed)
    rules |= dict.fromkeys(_PROCESSES, refused("start or stop processes"))
    rules |= dict.fromkeys(_NETWORK, refused("use the network"))
    rules |= dict.fromkeys(_INTERPRETER, judges_only)
    rules["os.symlink"] = linked
    return rules


def _real(path: str | bytes | os.PathLike) -> str:
    return os.path.realpath(os.fsdecode(path))


def _within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder + os.sep)
