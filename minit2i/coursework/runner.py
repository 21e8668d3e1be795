"""Runs a submission's cells in a process of their own, and says how each exercise ended.

A cell that takes too long, or that ends the process, is taken out and the rest is run anew in a
fresh process: whatever one cell does, every other exercise is judged.
"""

import contextlib
import hashlib
import hmac
import json
import os
import queue
import secrets
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from nbformat import NotebookNode, from_dict

from minit2i.coursework.isolate import start as start_worker
from minit2i.coursework.lesson import (
    ROOT,
    SKIPPED,
    definitions,
    exercises,
    grade_id,
    is_check,
    is_setup,
    is_solution,
)

HELD = -1  # in results: what the process told before the first cell
LONGEST = 2_000_000  # bytes of a message; what is longer is none of ours
STARTING = 60.0  # seconds in which a process has to import the course


@dataclass(frozen=True)
class Limits:
    """What a submission may take; beyond it a cell is ended, and the others go on."""

    cell_seconds: float = 30.0
    check_seconds: float = (
        10.0  # a check's own limit: a lesson allows 2 s, a busy grader needs more
    )
    total_seconds: float = 300.0
    memory: int = 2_000_000_000  # bytes of data of the process, 0.2 GB of which are the course


@dataclass(frozen=True)
class Verdict:
    """How one exercise ended."""

    exercise: str
    points: float
    of: float
    message: str

    @property
    def passed(self) -> bool:
        return self.points == self.of

    @property
    def said(self) -> str:
        """The message without the exercise's name in front."""
        return self.message.removeprefix(f"{self.exercise}: ")

    @property
    def state(self) -> str:
        """passed, refused, or open: not written yet."""
        if self.passed:
            return "passed"
        return "open" if "not written yet" in self.message else "refused"


@dataclass
class Report:
    """What came of a submission: a verdict per exercise, notes, and the outputs of its cells."""

    verdicts: list[Verdict] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    outputs: dict[int, list[NotebookNode]] = field(
        default_factory=dict
    )  # cell's index -> its outputs
    seconds: float = 0.0


def run(
    lesson: NotebookNode,
    notebook: NotebookNode,
    limits: Limits | None = None,
    seed: int = 0,
    who: str = "",
    isolate: str | None = None,
    hidden: tuple[Path, ...] = (),
) -> Report:
    """Judge a restored `notebook` of a `lesson`.

    `seed` and `who` decide the numbers of the checks; seed 0 gives the lesson's own. `hidden`:
    folders that the submission may not read, besides the course's notebooks and tests.
    """
    start = time.monotonic()
    limits = limits or Limits()
    cells = _cells(lesson, notebook, seed, who)
    job = _job(cells, limits, hidden)
    ended: dict[int, str] = {}
    notes = []
    while True:
        results, stopped = _attempt(job, limits, start, isolate)
        if stopped is None:
            break
        number, why = stopped
        if number is None:
            notes.append(f"The run was broken off: {why}.")
            break
        ended[number] = why
        cells[number]["source"] = ""
    report = _report(lesson, cells, results, ended)
    report.notes += notes
    report.seconds = time.monotonic() - start
    return report


_HIDDEN = tuple(ROOT / name for name in ("notebooks", "tests", "build", "exercises", ".git"))


def ready(isolate: str | None, limits: Limits) -> bool:
    """Run one harmless cell; whether the system's kernel, too, confines its process.

    Raises ValueError, with the reason, where no submission could be run.
    """
    cell = {"index": 0, "kind": "code", "source": "import torch\ntorch.zeros(9).sum()"}
    try:
        results, stopped = _attempt(_job([cell], limits, ()), limits, time.monotonic(), isolate)
    except (OSError, RuntimeError) as error:
        raise ValueError(f"cannot run submissions: {error}") from None
    why = stopped[1] if stopped else (results[0]["error"] or [None])[-1]
    if why is not None:
        raise ValueError(f"cannot run submissions: {why}")
    return results[HELD]["held"]


def _job(cells: list[dict], limits: Limits, hidden: tuple[Path, ...]) -> dict:
    """All that a process is told."""
    return {
        "cells": cells,
        "memory": limits.memory,
        "check_seconds": limits.check_seconds,
        "hidden": [str(path) for path in (*_HIDDEN, *hidden)],
    }


def _cells(lesson: NotebookNode, notebook: NotebookNode, seed: int, who: str) -> list[dict]:
    """What the process needs to know of each code cell."""
    setup = {cell.id: cell.source for cell in lesson.cells if is_setup(cell)}
    owner = {e.check.id: e.name for e in exercises(lesson)}
    result = []
    for index, cell in enumerate(notebook.cells):
        if cell.cell_type != "code":
            continue
        entry = {"index": index, "kind": "code", "source": cell.source}
        if is_check(cell):
            name = owner[cell.id]
            entry |= {"kind": "check", "exercise": name, "seed": _seed(seed, who, name)}
        elif is_solution(cell):
            entry |= {"kind": "solution", "exercise": grade_id(cell)}
        elif cell.id in setup:
            entry |= {"kind": "setup", "lesson": setup[cell.id]}
        elif SKIPPED in cell.metadata.get("tags", ()):
            entry["source"] = definitions(cell.source)
        result.append(entry)
    return result


def _seed(seed: int, who: str, exercise: str) -> int:
    """Numbers for one learner and exercise; a course's seed, if there is one, changes them all."""
    if seed == 0:
        return 0
    return int.from_bytes(hashlib.sha256(f"{seed}/{who}/{exercise}".encode()).digest()[:6])


# --- one process ----------------------------------------------------------------------------------


def _attempt(
    job: dict, limits: Limits, start: float, isolate: str | None
) -> tuple[dict[int, dict], tuple[int | None, str] | None]:
    """Run a job in a new process: results by cell, and where and why it stopped early, if it did.

    Where: the number of the cell, or None if it was not the fault of one. Raises RuntimeError if
    the process does not come as far as the first cell.
    """
    results: dict[int, dict] = {}
    key = secrets.token_hex(16)
    total = start + limits.total_seconds
    with _process(isolate, limits.memory) as process:
        lines = _lines(process, bytes.fromhex(key))
        with contextlib.suppress(BrokenPipeError):  # it did not start, which is told below
            process.stdin.write(json.dumps({**job, "key": key}).encode() + b"\n")
            process.stdin.flush()
        cell, until = None, time.monotonic() + STARTING
        while True:
            try:
                message = lines.get(timeout=max(min(until, total) - time.monotonic(), 0))
            except queue.Empty:
                if time.monotonic() >= total:
                    why = f"the time for one notebook is up ({limits.total_seconds:g} s)"
                    return results, (None, why)
                if cell is None:
                    raise RuntimeError("the grader's process did not start in time") from None
                return results, (cell, f"took longer than {limits.cell_seconds:g} s{_LOOP}")
            if message is None:
                code = process.wait()
                if cell is None:
                    raise RuntimeError(f"the grader's process failed: {_last_words(process)}")
                return results, (cell, _death(code))
            if message["event"] == "ready":
                results[HELD] = message
            elif message["event"] == "start":
                cell = message["cell"]
                checked = job["cells"][cell]["kind"] == "check"
                seconds = limits.cell_seconds + (limits.check_seconds if checked else 0)
                until = time.monotonic() + seconds
            elif message["event"] == "end":
                results[message["cell"]] = message
                if _out_of_memory(message):  # what it holds would be missed by the other cells
                    return results, (
                        cell,
                        f"asked for more than {limits.memory / 1e9:g} GB of memory",
                    )
            elif message["event"] == "done":
                return results, None


_LOOP = ": a loop that does not end, or work that belongs into a cell of its own?"


@contextlib.contextmanager
def _process(isolate: str | None, memory: int) -> Iterator[subprocess.Popen]:
    """A worker in an empty folder; it and the folder are gone afterwards, whatever it did."""
    scratch = Path(tempfile.mkdtemp(prefix="submission-"))
    try:
        if isolate:
            scratch.chmod(0o777)
        process, end = start_worker(isolate, scratch, memory)
        try:
            yield process
        finally:
            end()
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout, process.stderr):
                with contextlib.suppress(OSError):
                    pipe.close()
    finally:
        _remove(scratch)


def _remove(folder: Path) -> None:
    """Remove a folder, also what a submission made hard to remove."""
    for path, names, _ in os.walk(folder):
        for name in names:
            inner = os.path.join(path, name)
            if not os.path.islink(inner):
                with contextlib.suppress(OSError):
                    os.chmod(inner, 0o700)
    shutil.rmtree(folder, ignore_errors=True)


def _lines(process: subprocess.Popen, key: bytes) -> queue.Queue:
    """The messages of a process, from a thread that reads them; None at the end. Lines that the
    process's own writer did not sign are dropped."""
    found: queue.Queue = queue.Queue()

    def work() -> None:
        with contextlib.suppress(ValueError):  # the pipe is closed: nobody listens any more
            while line := process.stdout.readline(LONGEST):
                signature, _, text = line.rstrip(b"\n").partition(b" ")
                mine = hmac.new(key, text, hashlib.sha256).hexdigest().encode()
                if hmac.compare_digest(signature, mine):
                    found.put(_writable(json.loads(text)))
        found.put(None)

    threading.Thread(target=work, daemon=True).start()
    return found


def _writable(message: dict) -> dict:
    """A message without characters that cannot be written to a file."""
    return json.loads(json.dumps(message, ensure_ascii=False).encode("utf-8", "replace"))


def _out_of_memory(message: dict) -> bool:
    """Whether one of the learner's cells, not an answer in its check, ended at the limit."""
    error = (message.get("error") or [""])[-1]
    return error.startswith("MemoryError") or "can't allocate memory" in error


def _death(code: int) -> str:
    """Why a process ended in the middle of a cell, in words."""
    if code < 0:
        name = signal.Signals(-code).name if -code in [*signal.Signals] else str(-code)
        return f"ended Python (signal {name}): out of memory, or a crash in compiled code?"
    return f"ended Python (exit code {code})"


def _last_words(process: subprocess.Popen) -> str:
    words = process.stderr.read().decode(errors="replace").strip().splitlines()
    return words[-1][:300] if words else f"exit code {process.returncode}"


def unjudged(notebook: NotebookNode, why: str) -> Report:
    """No points for a file that cannot be read, and why."""
    report = Report()
    for exercise in exercises(notebook):
        index = next(i for i, c in enumerate(notebook.cells) if c.id == exercise.check.id)
        report.verdicts.append(Verdict(exercise.name, 0.0, exercise.points, why))
        report.outputs[index] = _verdict_output(why, why)
    return report


# --- what is said ---------------------------------------------------------------------------------


def _report(
    lesson: NotebookNode, cells: list[dict], results: dict[int, dict], ended: dict[int, str]
) -> Report:
    """Verdicts, notes and outputs from what the process told."""
    report = Report()
    points = {e.name: e.points for e in exercises(lesson)}
    stopped = {cells[i]["exercise"]: why for i, why in ended.items() if "exercise" in cells[i]}
    for number, cell in enumerate(cells):
        result = results.get(number, {})
        name = cell.get("exercise")
        if result.get("replaced"):
            where = f"The cell of {name}" if name else "A cell"
            some = ", ".join(result["replaced"][:3])
            report.notes.append(f"{where} replaced {some}; it was put back before each check.")
        if number in ended and name is None:
            report.notes.append(f"A cell that is not graded {ended[number]}. It was left out.")
        if cell["kind"] != "check":
            report.outputs[cell["index"]] = _outputs(result, ended.get(number))
            continue
        if name in stopped:
            problem = f"{name}: your cell {stopped[name]}"
        elif not result:
            problem = f"{name}: not judged"
        else:
            problem = result["problem"]
        got = points[name] if problem is None else 0.0
        message = (result["printed"].splitlines() or [""])[-1] if problem is None else problem
        report.verdicts.append(Verdict(name, got, points[name], message))
        report.outputs[cell["index"]] = _verdict_output(problem, message)
    return report


def _outputs(result: dict, ended: str | None) -> list[NotebookNode]:
    """The outputs of one of the learner's cells, in the notebook's form."""
    made = []
    if result.get("printed"):
        made.append(_printed(result["printed"]))
    for text in result.get("shown", ()):
        content = {"data": {"text/plain": text}, "metadata": {}}
        made.append(from_dict({"output_type": "display_data", **content}))
    if error := result.get("error"):
        kind, _, value = error[-1].partition(": ")
        made.append(_error(kind, value, error))
    if ended is not None:
        made.append(_error("Ended", f"This cell {ended}.", [f"This cell {ended}."]))
    return made


def _verdict_output(problem: str | None, message: str) -> list[NotebookNode]:
    """The output of a check: nbgrader gives all points to a cell without an error, none else."""
    return [_printed(message + "\n") if problem is None else _error("Refused", message, [message])]


def _printed(text: str) -> NotebookNode:
    return from_dict({"output_type": "stream", "name": "stdout", "text": text})


def _error(kind: str, value: str, lines: list[str]) -> NotebookNode:
    content = {"ename": kind, "evalue": value, "traceback": lines}
    return from_dict({"output_type": "error", **content})
