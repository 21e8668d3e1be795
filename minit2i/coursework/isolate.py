"""Where a submission's process runs: beside the grader, as another user, or in a container.

None                beside the grader, under its own user: `confine` is all that holds it
user:NAME           as a user who may read the course and nothing of yours
container:IMAGE     in podman or docker, without network, from an image that has the course
"""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from minit2i.coursework.lesson import ROOT

WORKER = ("-m", "minit2i.coursework.worker")


def check(isolate: str | None) -> None:
    """Raise ValueError for an isolation that is not known or not possible here."""
    if isolate is None:
        return
    kind, _, name = isolate.partition(":")
    if kind not in ("user", "container") or not name:
        raise ValueError(f"isolate is {isolate!r}: give user:NAME or container:IMAGE")
    if kind == "container" and _engine() is None:
        raise ValueError("isolate=container needs podman or docker, and neither is installed")
    if kind == "user":
        import pwd

        try:
            uid = pwd.getpwnam(name).pw_uid
        except KeyError:
            raise ValueError(f"there is no user {name!r} on this machine: create one") from None
        if uid in (0, os.getuid()):
            raise ValueError(f"isolate=user:{name} isolates nothing: name another user")
        if os.getuid() != 0 and shutil.which("sudo") is None:
            raise ValueError("isolate=user needs sudo, or to be started by root")


def start(isolate: str | None, scratch: Path, memory: int) -> tuple[subprocess.Popen, Callable]:
    """Start a worker in its folder; gives the process, and what ends it with all it started."""
    kind, _, name = (isolate or "").partition(":")
    environment = _environment(scratch)
    pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    if kind == "container":
        command = _container(name, scratch.name, memory)
        process = subprocess.Popen(command, **pipes)
        return process, lambda: _quietly(_engine(), "kill", scratch.name)
    command = [sys.executable, *WORKER, scratch.name]  # the name is there for pkill to find
    if kind == "user" and os.getuid() != 0:
        variables = [f"{key}={value}" for key, value in environment.items()]
        sudo = ["sudo", "-n", "-u", name, "--"]
        command = [*sudo, "env", "-i", "-C", str(scratch), *variables, *command]
        process = subprocess.Popen(command, **pipes)

        def end_theirs() -> None:
            _quietly(*sudo, "pkill", "-KILL", "-f", scratch.name)
            _quietly(*sudo, "find", str(scratch), "-mindepth", "1", "-delete")

        return process, end_theirs
    if kind == "user":
        import pwd

        entry = pwd.getpwnam(name)
        pipes |= {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
    process = subprocess.Popen(
        command, cwd=scratch, env=environment, start_new_session=True, **pipes
    )

    def end() -> None:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):  # it has ended
            pass

    return process, end


def _environment(scratch: Path) -> dict[str, str]:
    """Nothing of the instructor's environment but where programs are."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "PYTHONPATH": str(ROOT),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUTF8": "1",
        "HOME": str(scratch),
        "TMPDIR": str(scratch),
        "IPYTHONDIR": str(scratch),
        "MPLCONFIGDIR": os.environ.get("MPLCONFIGDIR") or str(Path(cache) / "matplotlib"),
        "MPLBACKEND": "agg",
        "TORCHDYNAMO_DISABLE": "1",  # torch.compile would start a compiler
        "OMP_NUM_THREADS": "1",
    }


def _container(image: str, name: str, memory: int) -> list[str]:
    """The command that runs a worker in a fresh container of an image that has the course."""
    held = "--rm -i --network none --read-only --cap-drop ALL --pids-limit 256 --cpus 1".split()
    held += ["--security-opt", "no-new-privileges", "--memory", str(memory + 500_000_000)]
    held += ["--user", "65534:65534", "--tmpfs", "/tmp:rw,size=256m", "--workdir", "/tmp"]
    inside = {"HOME": "/tmp", "MPLBACKEND": "agg", "OMP_NUM_THREADS": "1", "PYTHONUTF8": "1"}
    inside |= {"TORCHDYNAMO_DISABLE": "1"}
    for key, value in inside.items():
        held += ["--env", f"{key}={value}"]
    return [_engine(), "run", *held, "--name", name, image, "python", *WORKER]


def _engine() -> str | None:
    return shutil.which("podman") or shutil.which("docker")


def _quietly(*command: str) -> None:
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
