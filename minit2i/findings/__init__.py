"""Findings: claims stated beforehand, measured over several seeds by a recorded command.

`python -m minit2i finding NAME` runs every arm with every seed and writes data/findings/NAME.json;
a lesson loads that file and measures a small part again. A run that was interrupted goes on with
`--resume`. A claim that does not hold is recorded like one that does.
"""

import json
import os
import platform
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from ..checkpoint import check_folder, write
from ..evaluate import over_seeds

FOLDER = Path(__file__).parent.parent.parent / "data" / "findings"
NAMES = ("reverse", "families", "binding")
"""Each is the module of that name in this package, with its `FINDING`."""


@dataclass(frozen=True)
class Claim:
    """`arm`'s `measure` is lower or higher than that of arm `than` (or than a number) by more than
    `margin`, paired by seed."""

    text: str
    measure: str
    arm: str
    than: str | float
    direction: str
    margin: float = 0.0

    def __post_init__(self):
        if self.direction not in ("lower", "higher"):
            raise ValueError(f"direction must be 'lower' or 'higher', got {self.direction!r}")

    def verdict(self, runs: list[dict[str, Any]]) -> dict[str, Any]:
        """The claim with its advantage per seed, their 95 % interval and the verdict.

        "reproduced" if the whole interval exceeds the margin, "opposite" if it lies below zero,
        else "open".
        """
        sign = 1 if self.direction == "higher" else -1
        mine = self._column(runs, self.arm)
        theirs = (
            self._column(runs, self.than)
            if isinstance(self.than, str)
            else dict.fromkeys(mine, self.than)
        )
        advantage = [sign * (mine[seed] - theirs[seed]) for seed in sorted(mine)]
        interval = over_seeds(advantage)
        verdict = (
            "reproduced"
            if interval.low > self.margin
            else "opposite"
            if interval.high < 0
            else "open"
        )
        return {
            **asdict(self),
            "advantage": [round(a, 6) for a in advantage],
            **{k: round(v, 6) for k, v in asdict(interval).items()},
            "verdict": verdict,
        }

    def _column(self, runs: list[dict[str, Any]], arm: str) -> dict[int, float]:
        return {r["seed"]: r["figures"][self.measure] for r in runs if r["arm"] == arm}


@dataclass(frozen=True)
class Finding:
    """An experiment: `run(arm, seed)` returns figures by name; claims compare arms."""

    name: str
    lesson: str
    question: str
    arms: tuple[str, ...]
    seeds: tuple[int, ...]
    run: Callable[[str, int], dict[str, float]]
    claims: tuple[Claim, ...]


def get(name: str) -> Finding:
    """The finding of that name. Raises ValueError for an unknown one."""
    if name not in NAMES:
        raise ValueError(f"unknown finding {name!r}: choose one of {', '.join(NAMES)}")
    return import_module(f".{name}", __package__).FINDING


def measure(
    finding: Finding, resume: bool = False, folder: Path = FOLDER
) -> Iterator[dict[str, Any]]:
    """Runs every arm with every seed, yields each run, and writes the record at the end.

    Finished runs are kept in NAME.partial.json meanwhile; `resume` yields them first and goes on.
    """
    check_folder(folder)
    partial = folder / f"{finding.name}.partial.json"
    runs = _read(partial, "delete it, or measure without --resume") if resume else None
    runs = runs or []
    done = {(r["arm"], r["seed"]) for r in runs}
    yield from tuple(runs)
    for seed in finding.seeds:
        for arm in finding.arms:
            if (arm, seed) in done:
                continue
            begun = time.perf_counter()
            figures = {k: round(float(v), 6) for k, v in finding.run(arm, seed).items()}
            run = {"arm": arm, "seed": seed, "seconds": round(time.perf_counter() - begun, 1)}
            runs.append({**run, "figures": figures})
            write(partial, json.dumps(runs, indent=1).encode())
            yield runs[-1]
    record = {
        "name": finding.name,
        "lesson": finding.lesson,
        "question": finding.question,
        "command": f"python -m minit2i finding {finding.name}",
        "machine": machine(),
        "minutes": round(sum(r["seconds"] for r in runs) / 60, 1),
        "claims": [claim.verdict(runs) for claim in finding.claims],
        "runs": runs,
    }
    write(folder / f"{finding.name}.json", (json.dumps(record, indent=1) + "\n").encode())
    partial.unlink(missing_ok=True)


def load(name: str, folder: Path = FOLDER) -> dict[str, Any]:
    """The record of a finding. Raises ValueError that says how to make it, where it is
    missing or damaged."""
    get(name)
    path, remedy = folder / f"{name}.json", f"measure it with: python -m minit2i finding {name}"
    record = _read(path, remedy)
    if record is None:
        raise ValueError(f"{path} is missing: {remedy}")
    return record


def _read(path: Path, remedy: str) -> Any:
    """What a JSON file holds, None where there is no file. Raises ValueError for a damaged one."""
    if not path.is_file():
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}): {remedy}") from None


def machine(device: str = "cpu") -> str:
    """What measured it, in a few words."""
    chip = f"{platform.machine()} CPU, {os.cpu_count()} cores"
    if device.startswith("cuda"):
        chip = torch.cuda.get_device_name(device)
    return f"{chip}, torch {torch.__version__.split('+')[0]}"
