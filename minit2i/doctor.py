"""Is this machine ready for the course, and if not, what is to be done?

`report()` prints the same lines on every healthy machine, so that lesson 00 can show them; what
was found in detail is printed with `verbose=True`, and by `python -m minit2i doctor`.
"""

import importlib.metadata
import os
import re
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).parents[1]
PYTHON = (3, 11)
MEMORY = 2.0  # GiB that one lesson may take
INSTALL = 'python -m pip install -c constraints.txt -e ".[lab,grade,test]"'


@dataclass(frozen=True)
class Finding:
    """One thing examined: whether it is as it should be, what was found, and what to do if not."""

    name: str
    ok: bool
    what: str
    remedy: str = ""


def examine() -> list[Finding]:
    """Examine everything; an examination that itself fails is a finding too."""
    findings = []
    for name, look in EXAMINATIONS.items():
        try:
            ok, what, remedy = look()
        except Exception as error:  # a broken installation breaks in ways nobody foresees
            ok, what = False, f"could not be examined: {type(error).__name__}: {error}"
            remedy = f"install the course again: {INSTALL}"
        findings.append(Finding(name, ok, what, "" if ok else remedy))
    return findings


def report(verbose: bool = False) -> int:
    """Print what `examine` found; 0 if all is well, else 1 (an exit status)."""
    findings = examine()
    for finding in findings:
        print(f"{'ok   ' if finding.ok else 'FAULT'}  {finding.name}", end="")
        print(f": {finding.what}" if verbose or not finding.ok else "")
        if not finding.ok:
            print(f"       -> {finding.remedy}")
    faults = sum(not finding.ok for finding in findings)
    print(f"{faults} of {len(findings)} need attention." if faults else "Everything is ready.")
    return 1 if faults else 0


# --- one examination each: (is it well, what was found, what to do) ---------------------------

Result = tuple[bool, str, str]


def _python() -> Result:
    version, need = sys.version.split()[0], ".".join(map(str, PYTHON))
    remedy = f"install Python {need} or newer and make the environment anew: make clean lab"
    return sys.version_info[:2] >= PYTHON, f"{version} at {sys.executable}", remedy


def _packages() -> Result:
    pins = dict(_pins(CHECKOUT / "constraints.txt"))
    installed = {
        _normal(package.name): package.version for package in importlib.metadata.distributions()
    }
    missing = [name for name in _required() if name not in installed]
    other = [
        f"{name} {installed[name]} (tested with {pin})"
        for name, pin in pins.items()
        if name in installed and installed[name].split("+")[0] != pin
    ]
    problems = [f"missing: {', '.join(missing)}"] * bool(missing)
    problems += [f"other versions: {', '.join(other)}"] * bool(other)
    well = f"{len(pins.keys() & installed.keys())} packages in the tested versions"
    if not pins:
        well = "all there (no constraints.txt beside the package, versions not compared)"
    return not problems, "; ".join(problems) or well, f"in the course's folder: {INSTALL}"


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _pins(path: Path) -> Iterator[tuple[str, str]]:
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        if "==" in line and not line.startswith("#"):
            name, version = line.split("==")
            yield _normal(name), version.strip()


def _required() -> list[str]:
    """Names of what the lessons need: the core and the extra `lab`."""
    project = CHECKOUT / "pyproject.toml"
    if project.is_file():
        table = tomllib.loads(project.read_text(encoding="utf-8"))["project"]
        lines = table["dependencies"] + table["optional-dependencies"]["lab"]
    else:
        every = importlib.metadata.requires("minit2i") or []
        lines = [r for r in every if "extra ==" not in r or re.search(r"""["']lab["']""", r)]
    return [_normal(re.match(r"[\w.-]+", line)[0]) for line in lines]


def _torch() -> Result:
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        total = float(torch.ones(8, 8, device=device).matmul(torch.ones(8, 8, device=device)).sum())
    except RuntimeError as error:
        remedy = "to work on the CPU, set CUDA_VISIBLE_DEVICES to nothing before starting"
        return False, f"the device {device} does not compute: {error}", remedy
    threads, cores = torch.get_num_threads(), _cores()
    what = f"{torch.__version__} on {device}, {threads} threads on {cores} cores"
    if total != 512:
        return False, f"{what}: a product of matrices is wrong", f"install again: {INSTALL}"
    remedy = f"more threads than cores make everything slow: set OMP_NUM_THREADS to {cores}"
    return threads <= cores, what, remedy


def _cores() -> int:
    """Cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _memory() -> Result:
    import psutil

    free = psutil.virtual_memory().available / 2**30
    remedy = f"a lesson may take {MEMORY:g} GiB: close other programs and shut down other kernels"
    return free >= MEMORY, f"{free:.1f} GiB free", remedy


def _kernel() -> Result:
    """JupyterLab starts what a kernel specification named python3 says; it may be a stray one."""
    try:
        from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel
    except ImportError:
        return False, "Jupyter is not installed", f"in the course's folder: {INSTALL}"
    try:
        specification = KernelSpecManager().get_kernel_spec("python3")
    except NoSuchKernel:
        return False, "there is no kernel python3", f"in the course's folder: {INSTALL}"
    command = specification.argv[0]
    # A bare "python" stands for the interpreter that Jupyter runs on. Folders are compared, not
    # files: the interpreters of all environments may be links to one.
    here = Path(sys.executable).parent.resolve()
    same = command in ("python", "python3") or Path(command).parent.resolve() == here
    remedy = (
        f"notebooks would run in another environment, as said in {specification.resource_dir}: "
        "delete that folder, or unset JUPYTER_PATH, and start with make lab"
    )
    return same, f"notebooks run on {sys.executable if same else command}", remedy


def _folder() -> Result:
    folder = Path.cwd()
    try:
        with tempfile.TemporaryFile(dir=folder):
            return True, f"{folder} can be written to", ""
    except OSError as error:
        remedy = "copy the course to a folder of your own and start again there"
        return False, f"{folder} cannot be written to: {error.strerror}", remedy


EXAMINATIONS: dict[str, Callable[[], Result]] = {
    "Python": _python,
    "packages": _packages,
    "torch": _torch,
    "memory": _memory,
    "notebook kernel": _kernel,
    "working folder": _folder,
}
