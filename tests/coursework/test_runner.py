"""The process in which a submission runs: what holds it, where it may be started, how it ends."""

import os
import stat
import subprocess
import sys
import textwrap
import threading
import types

import pytest

from minit2i import checks, schedule
from minit2i.coursework import isolate, landlock, runner
from minit2i.coursework.seal import Seal
from minit2i.coursework.submission import restore
from tests.coursework import books

LESSON = "01_forward_diffusion"


def confined(tmp_path, body, hidden=()):
    """What a program prints that confines itself to a folder and then runs `body`."""
    own = tmp_path / "own"
    own.mkdir(exist_ok=True)
    program = f"""
import os, sys
from pathlib import Path
from minit2i.coursework.confine import confine
os.chdir({str(own)!r})
confine(Path.cwd(), {[str(path) for path in hidden]!r})
try:
{textwrap.indent(textwrap.dedent(body), "    ")}
except PermissionError as error:
    print("refused:", error)
"""
    environment = {**os.environ, "PYTHONPATH": str(books.ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@pytest.mark.parametrize(
    "body",
    [
        "open('a', 'w').write('x'); print(open('a').read())",
        "os.mkdir('b'); os.rename('b', 'c'); os.rmdir('c'); print('x')",
        "import tempfile; tempfile.TemporaryDirectory(dir='.').cleanup(); print('x')",
        "import sqlite3; sqlite3.connect(':memory:').close(); print('x')",
        "import colorsys; print('x')",
        "import subprocess, socket, ctypes; print('x')",
    ],
)
def test_what_is_allowed(tmp_path, body):
    assert confined(tmp_path, body) == "x"


@pytest.mark.parametrize(
    "body",
    [
        "open('../a', 'w')",
        "open('../a', 'r+')",
        "os.open('../a', os.O_CREAT)",
        "os.remove('../there')",
        "os.rename('../there', 'here')",
        "os.link('../there', 'here')",
        "os.chmod('../there', 0)",
        "os.truncate('../there', 0)",
        "os.symlink('..', 'up'); open('up/there', 'a')",
        "os.open('..', os.O_RDONLY)",
        "import shutil; shutil.rmtree('..')",
        "import sqlite3; sqlite3.connect('../there')",
        "import numpy; numpy.zeros(3).tofile('../there')",
        "print(open('../secret/marks').read())",
        "os.listdir('../secret')",
        "import minit2i; open(minit2i.__file__)",
        "import inspect, minit2i.schedule as s; print(s.__loader__.get_source('minit2i.schedule'))",
        "import subprocess; subprocess.run(['true'])",
        "os.fork()",
        "os.execv('/bin/true', ['true'])",
        "import socket; socket.socket().connect(('127.0.0.1', 1))",
        "import ctypes; ctypes.CDLL(None)",
        "import gc; gc.get_referrers(os)",
        "(lambda: 0).__code__.replace(co_name='x')",
        "sys._current_frames()",
        "import marshal; marshal.dumps((lambda: 0).__code__)",
        "os.fsencode.__code__ = (lambda path: path).__code__",
        "sys.settrace(print)",
    ],
)
def test_what_is_refused(tmp_path, body):
    (tmp_path / "there").write_text("x")
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "marks").write_text("secret")
    said = confined(tmp_path, body, hidden=[tmp_path / "secret"])
    assert said.startswith("refused: ") and "secret\n" not in said
    assert (tmp_path / "there").read_text() == "x"


def test_the_kernel_holds_what_python_does_not_see(tmp_path):
    """Without Landlock there is nothing to test: `make grade` then says so."""
    if landlock.version() == 0:
        assert runner.ready(None, runner.Limits()) is False
        return
    (tmp_path / "there").write_bytes(b"x" * 40)
    program = f"""
import torch
from minit2i.coursework import landlock
import sys
own = {str(tmp_path)!r} + "/own"
landlock.restrict([sys.prefix, sys.base_prefix, "/usr", "/lib"], [own])
torch.from_file(own + "/mine", shared=True, size=9)
print("mine")
try:
    torch.from_file({str(tmp_path / "there")!r}, shared=True, size=9)
    print("theirs")
except RuntimeError as error:
    print("denied" if "denied" in str(error) else error)
"""
    (tmp_path / "own").mkdir()
    environment = {**os.environ, "PYTHONPATH": str(books.ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["mine", "denied"]
    assert runner.ready(None, runner.Limits()) is True


# --- the seal -------------------------------------------------------------------------------------


def _linear(*args):
    return None


REPLACEMENTS = {
    "a check": lambda: setattr(checks.forward, "linear", _linear),
    "a method": lambda: setattr(schedule.Schedule, "diffuse", _linear),
    "a module": lambda: sys.modules.__setitem__("minit2i.schedule", types.ModuleType("x")),
    "what is in a dict": lambda: checks.judge.SETTINGS.__setitem__("seed", 9),
    "defaults": lambda: setattr(schedule.cosine, "__kwdefaults__", {"a": 1}),
    "a library": lambda: setattr(threading, "Thread", object),
}


@pytest.mark.parametrize("kind", REPLACEMENTS)
def test_what_was_replaced_is_named_and_put_back(kind):
    original = checks.forward.linear, schedule.Schedule.diffuse, schedule.cosine.__kwdefaults__
    seed = checks.judge.SETTINGS["seed"]
    seal = Seal()
    assert seal.restore() == []
    REPLACEMENTS[kind]()
    assert bool(seal.restore()) is (kind != "what is in a dict")  # checks.seed is for everyone
    assert original == (
        checks.forward.linear,
        schedule.Schedule.diffuse,
        schedule.cosine.__kwdefaults__,
    )
    assert checks.judge.SETTINGS["seed"] == seed
    assert sys.modules["minit2i.schedule"] is schedule
    assert seal.restore() == []


# --- numbers, ends, places ------------------------------------------------------------------------


def judged(**answers):
    lesson = books.solved(LESSON)
    submission = restore(lesson, books.answered(LESSON, **answers))
    return lesson, submission.notebook


def message(report, exercise):
    return next(v.message for v in report.verdicts if v.exercise == exercise)


def test_a_course_seed_gives_each_student_other_numbers():
    """Numbers in a refusal come from the seed; without one they are the lesson's own."""
    lesson, notebook = judged(closed_form="def closed_form(x0, alpha_bar, eps):\n    return x0")
    told = {
        key: message(runner.run(lesson, notebook, seed=key[0], who=key[1]), "closed_form")
        for key in ((0, "ada"), (0, "bob"), (7, "ada"), (7, "bob"), (8, "ada"))
    }
    assert told[0, "ada"] == told[0, "bob"]
    assert len(set(told.values())) == 4
    assert not any("seed" in text for text in told.values())


def test_a_run_that_takes_too_long_in_all_is_broken_off():
    lesson, notebook = judged(alpha_bar="import time\ntime.sleep(60)")
    limits = runner.Limits(total_seconds=6)
    report = runner.run(lesson, notebook, limits)
    assert "broken off" in report.notes[0] and "6 s" in report.notes[0]
    assert sum(v.points for v in report.verdicts) == 0
    assert report.seconds < 20


def test_nothing_is_left_of_a_run(tmp_path, monkeypatch):
    monkeypatch.setattr(runner.tempfile, "tempdir", str(tmp_path))
    source = "import os\nos.mkdir('d')\nopen('d/f', 'w').write('x')\nos.chmod('d', 0)\n"
    lesson, notebook = judged(closed_form=source + books.solution_of(LESSON, "closed_form"))
    report = runner.run(lesson, notebook)
    assert all(v.passed for v in report.verdicts)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """Stand-ins for sudo and podman that note how they were called, and then run the worker."""
    folder = tmp_path / "bin"
    folder.mkdir()

    def stand_in(name, rest):
        path = folder / name
        path.write_text(f'#!/bin/sh\necho "{name} $*" >> {tmp_path}/calls\n{rest}\n')
        path.chmod(path.stat().st_mode | stat.S_IXUSR)

    stand_in("sudo", 'while [ "$1" != "--" ]; do shift; done; shift; exec "$@"')
    worker = f"cd {tmp_path} && exec {sys.executable} -m minit2i.coursework.worker"
    stand_in("podman", f'[ "$1" = run ] || exit 0\nexport PYTHONPATH={books.ROOT}\n{worker}')
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return lambda: (tmp_path / "calls").read_text().splitlines()


def test_as_another_user_through_sudo(programs, monkeypatch):
    monkeypatch.setattr(isolate.os, "getuid", lambda: 12345)
    isolate.check("user:nobody")
    lesson, notebook = judged()
    report = runner.run(lesson, notebook, isolate="user:nobody")
    assert all(v.passed for v in report.verdicts), report
    start, kill, clear = programs()
    assert start.startswith("sudo -n -u nobody -- env -i ")
    assert kill.startswith("sudo -n -u nobody -- pkill -KILL -f submission-")
    assert clear.startswith("sudo -n -u nobody -- find ") and clear.endswith(" -delete")


def test_in_a_container(programs):
    isolate.check("container:course")
    lesson, notebook = judged()
    report = runner.run(lesson, notebook, isolate="container:course")
    assert all(v.passed for v in report.verdicts), report
    start, end = programs()
    for words in ("--network none", "--read-only", "--cap-drop ALL", "--user 65534", " course "):
        assert words in start
    assert end.startswith("podman kill submission-")


def test_a_place_where_nothing_runs_is_said_before_the_class_is_graded(programs, monkeypatch):
    monkeypatch.setattr(isolate, "WORKER", ("-m", "no_such_module"))
    monkeypatch.setattr(isolate.os, "getuid", lambda: 12345)
    with pytest.raises(ValueError, match=r"cannot run submissions: .*no_such_module"):
        runner.ready("user:nobody", runner.Limits())
