"""How each shipped system is trained and evaluated: `python -m minit2i train | evaluate NAME`.

A recipe ends in a checkpoint whose card says by which command, on which data, for how long, and how
good it is. A system trains on the course's own data, or on a folder of the user's own pictures.
"""

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from . import benchmark, parallel
from .checkpoint import SHIPPED, fingerprint
from .evaluate import evaluate_digits
from .findings import machine
from .runs import Run
from .systems.base import Base
from .systems.digits import WORDS, Digits, label
from .systems.system import System
from .text import Tokenizer
from .train import Data, Step, TrainConfig, train
from .worlds import digits, folder
from .worlds.scenes.dataset import captioned

SCALES = (1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
"""Guidance scales that are evaluated."""
DEVELOPMENT, FRESH = 100_000, 200_000
"""First seeds of the drawings on which the scale is chosen, and of those that are reported."""
VOCABULARY = 512
"""Tokens of a tokenizer at most."""
SCENES = 120_000
"""Captioned scenes that `base` is trained on."""
SHEET = 1000
"""Steps between two sample sheets."""

BATCH = 65
"""Pictures drawn at a time in an evaluation."""

Figures = list[dict[str, Any]]


@dataclass(frozen=True)
class Prepared:
    """What a run trains: a fresh system, its data, what the card says of the data, and prompts for
    the sample sheets."""

    system: System
    data: Data
    about: dict[str, Any]
    prompts: list[str]


@dataclass(frozen=True)
class Recipe:
    """How one system is made.

    system      its class
    config      steps, batch, learning rate and the like
    prepare     (seed, folder of the user's pictures or None) -> what is trained
    evaluate    (system, seed) -> the figures of the card
    """

    system: type[System]
    config: TrainConfig
    prepare: Callable[[int, Path | None], Prepared]
    evaluate: Callable[..., Figures]


def run(
    name: str,
    out: Path | str | None = None,
    steps: int | None = None,
    seed: int = 0,
    device: str = "cpu",
    source: Path | None = None,
) -> Iterator[Step]:
    """Trains the system and writes out/NAME.safetensors and its card.

    steps   the recipe's if None
    source  a folder of captioned pictures (`worlds.folder`) instead of the course's data

    The run's configuration, log and sample sheets are in out/NAME.run (`runs.Run`), with the state
    from which a run that was stopped goes on; beside the course's own checkpoints the folder is
    removed at the end.
    """
    recipe = get(name)
    out = SHIPPED if out is None else Path(out)
    work = out / f"{name}.run"
    steps = recipe.config.steps if steps is None else steps
    warmup = min(recipe.config.warmup, steps)
    config = replace(recipe.config, seed=seed, steps=steps, warmup=warmup)
    torch.manual_seed(seed)
    prepared = recipe.prepare(seed, source)
    system = prepared.system.to(device)
    made = {"system": name, "training": asdict(config), "data": prepared.about}
    record = Run(work, {**made, "config": system.config})
    for step in record.follow(train(system.model, prepared.data, config, work), config.batch):
        if step.index % SHEET == 0 or step.index == config.steps:
            record.sheet(step.index, _sample(system, step.ema, prepared.prompts))
        yield step
    if not parallel.is_main():
        return
    system.half().float()  # what is saved is what is evaluated
    command = f"python -m minit2i train {name} --steps {config.steps} --seed {seed}"
    system.save(
        {
            "command": command + (f" --data {source.name}" if source else ""),
            **made,
            "seconds": round(record.entries()[-1]["seconds"], 1),
            "machine": machine(device),
            "evaluation": [] if source else recipe.evaluate(system),
        },
        out,
    )
    if out == SHIPPED:
        shutil.rmtree(work)
    else:
        (work / "training.safetensors").unlink()


def _sample(system: System, average: nn.Module, prompts: list[str]) -> Tensor:
    """What the averaged weights draw."""
    trained, system.model = system.model, average
    try:
        return system.draw(prompts)
    finally:
        system.model = trained


def prepare_digits(seed: int, source: Path | None) -> Prepared:
    """The handwriting of scikit-learn, or the user's own with captions that name a digit."""
    if source is None:
        data = digits.load("train")
        about = {"name": "digits/train", "images": len(data["x"]), "sha256": fingerprint(data)}
        return Prepared(Digits(), data, about, list(WORDS))
    pictures = folder.load(source, 8)
    labels = torch.tensor([label(text) for text in pictures.captions])
    grey = torch.from_numpy(np.array(pictures.images)).float().mean(1, keepdim=True) / 127.5 - 1
    return Prepared(Digits(), {"x": grey, "y": labels}, _about(pictures), list(WORDS))


def prepare_base(seed: int, source: Path | None) -> Prepared:
    """The captioned world, or the user's pictures with a tokenizer trained on their captions."""
    if source is None:
        pictures, texts = captioned(SCENES, seed, 16)
        about = {"name": "captioned world", "images": SCENES, "seed": seed}
    else:
        own = folder.load(source, 16)
        pictures, texts, about = own.images, own.captions, _about(own)
    system = Base(Tokenizer.train(texts, VOCABULARY).merges)
    tokens = system.tokenizer.batch(texts, system.config["text"]["length"]).int()
    return Prepared(system, {"x": pictures, "tokens": tokens}, about, texts[:16])


def _about(pictures: folder.CaptionedPictures) -> dict[str, Any]:
    return {
        "name": f"a folder: {pictures.source.name}",
        "images": len(pictures.images),
        "sha256": pictures.fingerprint,
        "report": pictures.report(),
    }


def evaluate_all_digits(system: Digits, seed: int = FRESH) -> Figures:
    """`evaluate_digits` on fresh seeds at every scale; "chosen" marks the one that was best on
    development seeds (the smallest of equals)."""
    trial = [evaluate_digits(system, scale, 50, DEVELOPMENT) for scale in SCALES]
    best = max(trial, key=lambda each: (each["accuracy"], -each["guidance"]))["guidance"]
    return [
        {**evaluate_digits(system, scale, 100, seed), "chosen": int(scale == best)}
        for scale in SCALES
    ]


def evaluate_base(system: Base, seed: int = FRESH, prompts: int = 1000, draws: int = 8) -> Figures:
    """Share of pictures that are exactly right, with a 95 % interval over prompts.

    On `prompts` fresh ones each about one, two and three things and with held-out compositions, on
    half as many of two and three things that count or name places, and on MiniDrawBench by
    category, each of its prompts drawn `draws` times. Texture is not scored below 64 pixels.
    """
    few = max(2, prompts // 2)
    sets = {
        **{name: benchmark.fresh(prompts, n) for n, name in benchmark.NUMBERS.items()},
        "held-out compositions": benchmark.fresh(prompts, 2, unseen=True),
        "counts": _fresh(few, lambda prompt: {"two", "three", "pair"} & {*prompt.text.split()}),
        "places": _fresh(few, lambda prompt: all(t.place for t in prompt.ways[0].things)),
    }
    figures = []
    for k, (name, asked) in enumerate(sets.items()):
        figures += _measured(system, name, asked, 1, seed + 10_000 * k)
    return figures + _measured(system, "MiniDrawBench", benchmark.prompts(), draws, seed + 100_000)


def evaluate_prompts(system: System, file: Path, seed: int = FRESH, draws: int = 8) -> Figures:
    """The same on the prompts of a file (`benchmark.load`), each drawn `draws` times.

    Raises ValueError for a system that draws no scenes, and for prompts that cannot be read.
    """
    if isinstance(system, Digits):
        raise ValueError("digits draws no scenes: its prompts are the ten digits' words")
    return _measured(system, file.name, benchmark.load(file), draws, seed)


def _measured(
    system: System, name: str, asked: Sequence[benchmark.Prompt], draws: int, seed: int
) -> Figures:
    """Exact accuracy as a row, and one for each category where there are several."""

    def draw(texts: list[str], call: int) -> Tensor:
        return system.draw(texts, seed=seed + BATCH * call)  # picture k has the seed's k-th next

    score = benchmark.score(draw, asked, draws, batch=BATCH)
    rows = {name: score.exact}
    if len(score.categories) > 1:
        rows |= {f"  {key}": value for key, value in score.categories.items() if value}
    return [
        {
            "prompts": key,
            "exact": round(r.mean, 4),
            "low": round(r.low, 4),
            "high": round(r.high, 4),
        }
        for key, r in rows.items()
    ]


def _fresh(n: int, wanted: Callable[[benchmark.Prompt], Any]) -> list[benchmark.Prompt]:
    """n fresh prompts of two and of three things, half each, that are as wanted."""
    found = []
    for things in (2, 3):
        some = filter(wanted, benchmark.fresh(10 * n, things))
        found += [replace(prompt, category="") for prompt in some][: n // 2]
    return found


RECIPES = {
    "base": Recipe(
        Base,
        TrainConfig(6000, batch=64, lr=2e-3, warmup=200, ema=0.998, fused=True),
        prepare_base,
        evaluate_base,
    ),
    "digits": Recipe(
        Digits, TrainConfig(2500, batch=256, lr=2e-3), prepare_digits, evaluate_all_digits
    ),
}


def get(name: str) -> Recipe:
    """The recipe of that name. Raises ValueError for an unknown one."""
    if name not in RECIPES:
        raise ValueError(f"unknown system {name!r}: choose one of {', '.join(RECIPES)}")
    return RECIPES[name]
