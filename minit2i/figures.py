"""The figures of a text-to-image system's card: how often it draws what prompts say.

A table of plain numbers with the same columns in each row:

    prompts, measure    what was asked, and what of it the row tells
    value, low, high    with the 95 % interval over prompts (`benchmark.over_prompts`); the texts
                        "not scored" and "" for textures below 64 pixels and where nothing is right
    asked, draws        different prompts, pictures of each
    guidance, steps     of the sampler, which is the system's own otherwise
"""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from . import benchmark
from .benchmark import Prompt
from .evaluate import Interval
from .systems.system import System

SCALES = (1.0, 2.0, 3.0, 5.0)
"""Guidance scales of which one is chosen."""
STEPS = 25
"""Of the sampler."""
DEVELOPMENT, FRESH = 100_000, 200_000
"""First seeds of the drawings on which the scale is chosen, and of those that are reported."""
APART = 100_000
"""Between the first seeds of two sets of prompts."""
BATCH = 65
"""Pictures drawn at a time."""

Figures = list[dict[str, Any]]


@dataclass(frozen=True)
class Drawer:
    """A system as it is measured: picture k of an evaluation has seed + k."""

    system: System
    seed: int
    guidance: float
    steps: int

    def __call__(self, texts: list[str], call: int) -> Tensor:
        first = self.seed + BATCH * call
        return self.system.draw(texts, seed=first, guidance=self.guidance, steps=self.steps)

    def row(
        self, name: str, measure: str, value: Interval | None, asked: int, draws: int
    ) -> dict[str, Any]:
        """A row of the table; None is a value that is not scored."""
        return {
            "prompts": name,
            "measure": measure,
            "value": round(value.mean, 4) if value else "not scored",
            "low": round(value.low, 4) if value else "",
            "high": round(value.high, 4) if value else "",
            "asked": asked,
            "draws": draws,
            "guidance": self.guidance,
            "steps": self.steps,
        }


def evaluate_base(
    system: System, seed: int = FRESH, prompts: int = 1000, draws: int = 8
) -> Figures:
    """The card of a system that draws scenes.

    First the guidance scale is chosen, on a fifth of `prompts` development prompts at each of
    `SCALES`, all with the same noises: the best, the smallest of equals. With it all else is
    measured: `prompts` fresh ones each about one, two and three things and with held-out
    compositions, half as many that count and that name places, each drawn once; MiniDrawBench, by
    category, each of its prompts drawn `draws` times; and the diversity of what is left unsaid,
    with the other scales too: guidance buys accuracy with it.
    """
    figures, best = choose(system, max(2, prompts // 5))
    for k, (name, asked) in enumerate(fresh_sets(prompts, system.side).items()):
        figures += measured(Drawer(system, seed + APART * k, best, STEPS), name, asked, 1)
    drawer = Drawer(system, seed + APART * (k + 1), best, STEPS)
    figures += measured(drawer, "MiniDrawBench", benchmark.prompts(), draws)
    some = [p for n in (1, 2) for p in benchmark.fresh(max(1, prompts // 50), n, seed=3)]
    for scale in sorted(SCALES, key=lambda scale: scale != best):
        at = replace(drawer, seed=seed + APART * (k + 2), guidance=scale)
        name = "unsaid attributes" if scale == best else f"unsaid attributes at scale {scale:g}"
        figures += varied(at, some, 4 * draws, name)
    return figures


def evaluate_prompts(system: System, file: Path, seed: int = FRESH, draws: int = 8) -> Figures:
    """The same on the prompts of a file (`benchmark.load`), each drawn `draws` times as the system
    draws by default.

    Raises ValueError for a system that draws no scenes, and for prompts that cannot be judged.
    """
    if not hasattr(system, "side"):
        raise ValueError(f"{system.name} draws no scenes: its prompts are of another kind")
    asked = benchmark.load(file, system.side)
    default = inspect.signature(type(system).draw).parameters
    drawer = Drawer(system, seed, default["guidance"].default, default["steps"].default)
    return measured(drawer, file.name, asked, draws)


def choose(system: System, n: int) -> tuple[Figures, float]:
    """Exact accuracy on n development prompts at each of `SCALES`, and the best scale."""
    asked, rows = benchmark.development(n), []
    for scale in SCALES:
        drawer = Drawer(system, DEVELOPMENT, scale, STEPS)
        score = benchmark.score(drawer, asked, 1, batch=BATCH, progress=None)
        rows.append(drawer.row("development", "exact", score.exact, n, 1))
    best = max(rows, key=lambda row: (row["value"], -row["guidance"]))
    best["prompts"] = "development, chosen"
    return rows, best["guidance"]


def fresh_sets(n: int, side: int) -> dict[str, list[Prompt]]:
    """Fresh prompts by what they try, each set from a random stream of its own."""
    few = max(2, n // 2)
    counts = {"two", "three", "pair"}
    return {
        **{name: benchmark.fresh(n, things) for things, name in benchmark.NUMBERS.items()},
        "held-out compositions": benchmark.fresh(n, 2, unseen=True, side=side),
        "counts": _both(few, 1, lambda prompt: counts & {*prompt.text.split()}),
        "places": _both(few, 2, lambda prompt: all(t.place for t in prompt.ways[0].things)),
    }


def _both(n: int, seed: int, wanted: Callable[[Prompt], Any]) -> list[Prompt]:
    """n fresh prompts of two and of three things, half each, that are as wanted."""
    parts = ((n // 2, 2), (n - n // 2, 3))
    found = [p for m, things in parts for p in benchmark.fresh(m, things, seed, wanted=wanted)]
    return [replace(prompt, category="") for prompt in found]


def measured(drawer: Drawer, name: str, asked: Sequence[Prompt], draws: int) -> Figures:
    """Exact accuracy, overall and by category where there are several; the share of pictures that
    could be read; and of those whose prompt demands a colour, say, the share that has it right."""
    score = benchmark.score(drawer, asked, draws, batch=BATCH, progress=None)
    rows = [
        drawer.row(name, "exact", score.exact, len(asked), draws),
        drawer.row(name, "readable", score.valid, len(asked), draws),
    ]
    for key, value in score.predicates.items():
        rows.append(drawer.row(name, key, value, score.demanded[key], draws))
    if len(score.categories) > 1:
        for key, value in score.categories.items():
            own = sum(prompt.category == key for prompt in asked)
            rows.append(drawer.row(f"{name}: {key}", "exact", value, own, draws))
    return rows


def varied(
    drawer: Drawer, asked: Sequence[Prompt], draws: int, name: str = "unsaid attributes"
) -> Figures:
    """`benchmark.diversity` of right pictures, and that of a perfect sampler with as many, whose
    interval is its range."""
    labels = ("entropy", "distance", "perfect_entropy", "perfect_distance")
    try:
        result = benchmark.diversity(drawer, asked, draws, batch=BATCH)
        values, n = [getattr(result, label) for label in labels], result.prompts
    except benchmark.TooFewRight:
        values, n = [None] * len(labels), len(asked)
    return [
        drawer.row(name, label.replace("_", " "), value, n, draws)
        for label, value in zip(labels, values, strict=True)
    ]
