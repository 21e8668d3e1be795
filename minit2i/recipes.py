"""How each shipped system is trained and evaluated: `python -m minit2i train | evaluate NAME`.

A recipe ends in a checkpoint whose card says by which command, on which data, for how long, and how
good it is.
"""

import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from .checkpoint import SHIPPED, fingerprint
from .evaluate import evaluate_digits
from .findings import machine
from .systems.system import System
from .systems.digits import Digits
from .train import Step, TrainConfig, train
from .worlds import digits

SCALES = (1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
"""Guidance scales that are evaluated."""
DEVELOPMENT, FRESH = 100_000, 200_000
"""First seeds of the drawings on which the scale is chosen, and of those that are reported."""

Figures = list[dict[str, float]]


@dataclass(frozen=True)
class Recipe:
    """How one system is made: its class, its optimizer steps, `train(out, steps, seed, device)`
    that yields steps and at last writes the checkpoint, and `evaluate(system, seed)`."""

    system: type[System]
    steps: int
    train: Callable[..., Iterator[Step]]
    evaluate: Callable[..., Figures]


def train_digits(
    out: Path | str | None = None, steps: int = 2500, seed: int = 0, device: str = "cpu"
) -> Iterator[Step]:
    """Trains `Digits` and writes out/digits.safetensors and its card.

    A run that was stopped goes on from out/digits.training, which is removed at the end.
    """
    out = SHIPPED if out is None else Path(out)
    begun, work = time.perf_counter(), out / "digits.training"
    data = digits.load("train")
    torch.manual_seed(seed)
    system = Digits().to(device)
    config = TrainConfig(steps=steps, batch=256, lr=2e-3, warmup=min(100, steps), seed=seed)
    first = None
    for step in train(system.model, data, config, work):
        first = first or step.index
        yield step
    seconds = round(time.perf_counter() - begun, 1) if first == 1 else None  # None: resumed

    system.half().float()  # what is saved is what is evaluated
    system.save(
        {
            "command": f"python -m minit2i train digits --steps {steps} --seed {seed}",
            "training": {"steps": steps, "batch": config.batch, "lr": config.lr, "seed": seed},
            "data": {"name": "digits/train", "images": len(data["x"]), "sha256": fingerprint(data)},
            "seconds": seconds,
            "machine": machine(device),
            "evaluation": evaluate_all_digits(system),
        },
        out,
    )
    shutil.rmtree(work)


def evaluate_all_digits(system: Digits, seed: int = FRESH) -> Figures:
    """`evaluate_digits` on fresh seeds at every scale; "chosen" marks the one that was best on
    development seeds (the smallest of equals)."""
    trial = [evaluate_digits(system, scale, 50, DEVELOPMENT) for scale in SCALES]
    best = max(trial, key=lambda each: (each["accuracy"], -each["guidance"]))["guidance"]
    return [
        {**evaluate_digits(system, scale, 100, seed), "chosen": int(scale == best)}
        for scale in SCALES
    ]


RECIPES = {"digits": Recipe(Digits, 2500, train_digits, evaluate_all_digits)}


def get(name: str) -> Recipe:
    """The recipe of that name. Raises ValueError for an unknown one."""
    if name not in RECIPES:
        raise ValueError(f"unknown system {name!r}: choose one of {', '.join(RECIPES)}")
    return RECIPES[name]
