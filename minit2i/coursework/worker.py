"""The process that runs one submission: `python -m minit2i.coursework.worker`, driven by `runner`.

It reads a job from its standard input and writes one signed line for each thing that happened. The
course is imported, sealed and the process confined before the first of the learner's cells runs;
before each check everything that was replaced is put back.
"""

import contextlib
import hashlib
import hmac
import importlib
import io
import json
import linecache
import os
import pkgutil
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

SHOWN = 20_000  # characters of a cell's output that are kept


class Clipped(io.StringIO):
    """Keeps the beginning of what is printed, so that endless printing costs no memory."""

    def write(self, text: str) -> int:
        room = SHOWN - self.tell()
        if room > 0:
            super().write(text[:room])
        return len(text)


def main() -> None:
    """Run the job that comes as JSON on standard input."""
    job = json.loads(sys.stdin.buffer.readline())
    say = _teller(job.pop("key"))
    _redirect(0, 1)
    from minit2i.coursework import confine, seal

    shell, trusted = _shell(), _trusted(job)
    shell.user_ns.update(trusted)
    sealed = seal.Seal()
    confine.limit(job["memory"])
    held = confine.confine(Path.cwd(), [Path(path) for path in job["hidden"]])
    _redirect(2)  # until here it tells why the course could not be imported
    say("ready", held=held)
    sealed.restore()  # what importing the last modules replaced
    _run(job, shell, trusted, sealed, say)


def _teller(key: str) -> Callable[..., None]:
    """What writes a line to the process that started this one; its key is known to both alone."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    secret = bytes.fromhex(key)

    def say(event: str, write=out.write, flush=out.flush, **content: Any) -> None:
        text = json.dumps({"event": event, **content})
        write(hmac.new(secret, text.encode(), hashlib.sha256).hexdigest() + " " + text + "\n")
        flush()

    return say


def _redirect(*streams: int) -> None:
    """Send streams of the process nowhere: also what is written past Python's own."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in streams:
        os.dup2(nowhere, stream)
    os.close(nowhere)


def _shell() -> Any:
    """IPython without a terminal, history or files: the learner's cells run as in a notebook."""
    from IPython.core.interactiveshell import InteractiveShell
    from traitlets.config import Config

    class Shell(InteractiveShell):
        def _showtraceback(self, etype, evalue, stb):
            pass  # the error is told by `_error`

        def _tee(self, channel):
            return contextlib.nullcontext()  # IPython 9 would keep all that is printed

    config = Config()
    config.HistoryManager.enabled = False
    config.InteractiveShell.colors = "nocolor"
    shell = Shell.instance(config=config)
    shell.enable_gui = lambda gui=None: None
    shell.ask_exit = lambda: None
    shell.system = lambda command: print(f"not run while grading: !{command}")
    os.environ["MPLBACKEND"] = "agg"
    return shell


def _trusted(job: dict) -> dict[str, Any]:
    """The lesson's own set-up, in which the checks run.

    It imports the whole package: once the process is confined, its files cannot be read.
    """
    import minit2i
    from minit2i.checks import deadline

    deadline.interrupt  # noqa: B018 - ctypes looks its function up once, before it is refused
    deadline.ctypes.pythonapi.PyThreadState_SetAsyncExc  # noqa: B018
    space = {"__name__": "__main__"}
    for cell in job["cells"]:
        if cell["kind"] == "setup":
            exec(compile(cell["lesson"], "<set-up>", "exec"), space)
    for module in pkgutil.walk_packages(minit2i.__path__, "minit2i."):
        if not module.name.startswith(("minit2i.coursework", "minit2i.cli", "minit2i.__main__")):
            importlib.import_module(module.name)
    return space


def _run(job: dict, shell: Any, trusted: dict, sealed: Any, say: Callable) -> None:
    """Run every cell in order and tell how it went."""
    run_cell, run_check = _cell, _check  # bound here, out of the learner's reach
    from minit2i.checks.judge import limit, seed

    broken: dict[str, str] = {}  # an exercise -> what its cell replaced
    crashed: dict[str, str] = {}  # an exercise -> the error of its cell
    hide = linecache.clearcache
    hide()
    for index, cell in enumerate(job["cells"]):
        kind, name = cell["kind"], cell.get("exercise")
        say("start", cell=index)
        if kind == "check":
            found = sealed.restore()
            seed(cell["seed"]), limit(job["check_seconds"])
            source, space = cell["source"], {**shell.user_ns, **trusted}
            printed, problem = run_check(source, space, name)
            found += sealed.restore()
            seed(0)
            if name in broken:
                problem = broken[name]
            elif found:
                problem = _replaced(found)
            elif name in crashed and problem and "is not defined" in problem:
                problem += f"\n  The cell itself stopped: {crashed[name]}"
            say("end", cell=index, printed=printed, problem=problem, replaced=found)
            continue
        printed, shown, error = run_cell(shell, cell["source"])
        found = sealed.restore()
        if [name for name in found if not name.startswith("sys.")] and kind == "solution":
            broken[name] = _replaced(found)
        if error and kind == "solution":
            crashed[name] = error[-1]
        say("end", cell=index, printed=printed, shown=shown, error=error, replaced=found)
    say("done")


def _cell(shell: Any, source: str) -> tuple[str, list[str], list[str] | None]:
    """Run one of the learner's cells: what it printed, showed, and the lines of its error."""
    from IPython.utils.capture import capture_output

    printed = Clipped()
    with capture_output(stdout=False, stderr=False, display=True) as captured:
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            result = shell.run_cell(source, store_history=False)
    shown = [_plain(output) for output in captured.outputs[:20]]
    error = result.error_before_exec or result.error_in_exec
    return printed.getvalue(), shown, None if error is None else _error(error)


def _plain(output: Any) -> str:
    text = (output.data or {}).get("text/plain", "")
    return str(text)[:SHOWN]


def _error(error: BaseException) -> list[str]:
    """An error as Python tells it, with the lines of the learner's cells only."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "ipython-input" in f.filename]
    lines = [f"line {f.lineno}: {f.line}" for f in frames[-5:]]
    told = "".join(traceback.format_exception_only(error)).strip()
    return [*lines, told[:2000]]


def _check(source: str, space: dict[str, Any], name: str) -> tuple[str, str | None]:
    """Run a check: what it printed, and why it refused the answer, None if it did not."""
    printed = Clipped()
    try:
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            exec(compile(source, f"<check of {name}>", "exec"), space)
    except AssertionError as failed:  # of the check, or of the cell around it
        return printed.getvalue(), str(failed) or f"{name}: the check's last assertion fails"
    except NameError as missing:
        return printed.getvalue(), f"{name}: {missing}"
    except BaseException as error:
        return printed.getvalue(), f"{name}: {_error(error)[-1]}"
    return printed.getvalue(), None


def _replaced(names: list[str]) -> str:
    """Why an answer is not judged whose cell replaced parts of the course or of torch."""
    some = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    return (
        f"your cell replaced {some}. It was put back; an answer that changes the course, torch or"
        " numpy is not judged: write it without"
    )


if __name__ == "__main__":
    main()
