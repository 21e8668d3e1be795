"""How each shipped system is trained and evaluated: `python -m minit2i train | evaluate NAME`.

A recipe ends in a checkpoint whose card says by which command, on which data, for how long, and how
good it is. A system trains on the course's own data, or on a folder of the user's own pictures.
"""

import json
import shlex
import shutil
from collections.abc import Callable, Generator, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from . import figures, parallel
from .batches import Data
from .checkpoint import SHIPPED, CheckpointError, fingerprint, load, to_json
from .evaluate import evaluate_digits
from .figures import DEVELOPMENT, FRESH, Figures
from .findings import machine
from .runs import Run, check
from .systems.base import Base
from .systems.digits import WORDS, Digits, label
from .systems.system import System
from .text import Tokenizer
from .train import Step, TrainConfig, train
from .worlds import digits, folder
from .worlds.scenes.dataset import captioned

SCALES = (1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
"""Guidance scales that are evaluated."""
VOCABULARY = 512
"""Tokens of a tokenizer at most."""
MIX: dict[str, tuple[int, dict[str, Any]]] = {
    "law": (240_000, {}),
    "three in open places": (100_000, {"number": 3, "form": "bare"}),
    "two in open places": (60_000, {"number": 2, "form": "bare"}),
    "vague": (80_000, {"vague": True}),
}
"""Captioned scenes that a fresh `base` is trained on (`captioned`): those of the world's law, and
further ones with captions that leave much open. They are the hardest, and rare by the law: the
noise alone decides what stands where, each thing once, or which shape a "thing" has."""
LATER: dict[str, tuple[int, dict[str, Any]]] = {
    "law": (360_000, {}),
    "three in open places": (120_000, {"number": 3, "form": "bare"}),
}
"""The same where training begins with a checkpoint: nearer to the law, by which is measured."""
APART = 1_000_000
"""Between the seeds of two parts of a mix."""
WORLD, DIGITS, FOLDER = "captioned world", "digits/train", "a folder: "
"""What cards call the data; a folder's name follows the last."""
ORIGIN = ("command", "training", "data", "seconds", "machine", "from")
"""What a card tells of the checkpoint with which its run began."""
SHEET = 1000
"""Steps between two sample sheets."""


@dataclass(frozen=True)
class Prepared:
    """What a run trains: a fresh or a trained system, its data, what the card says of the data, and
    prompts for the sample sheets."""

    system: System
    data: Data
    about: dict[str, Any]
    prompts: list[str]


@dataclass(frozen=True)
class Recipe:
    """How one system is made.

    system      its class
    config      steps, batch, learning rate and the like
    prepare     (seed, folder of the user's pictures or None, trained system or None) -> what is
                trained: that system further, or a fresh one
    evaluate    (system, seed) -> the figures of the card
    data        what the card calls the course's data for it
    """

    system: type[System]
    config: TrainConfig
    prepare: Callable[[int, Path | None, Any], Prepared]
    evaluate: Callable[..., Figures]
    data: str


def run(
    name: str,
    out: Path | str | None = None,
    steps: int | None = None,
    seed: int = 0,
    device: str | None = None,
    source: Path | None = None,
    begin: Path | None = None,
    changes: Mapping[str, Any] | None = None,
    tensorboard: bool = False,
) -> Generator[Step, None, None]:
    """Trains the system and writes out/NAME.safetensors and its card.

    steps     the recipe's if None
    device    the CPU if None
    source    a folder of captioned pictures (`worlds.folder`) instead of the course's data
    begin     a folder with a checkpoint of the system, whose weights (and tokenizer) the run begins
              with; the captioned world is then mixed by `LATER`, so take another seed than it had
    changes   other fields of the recipe's `TrainConfig`

    The run's configuration, log and sample sheets are in out/NAME.run (`runs.Run`), with the state
    from which a run that was stopped goes on; beside the course's own checkpoints the folder is
    removed at the end. Where `out` holds this very run, finished, nothing is done.

    Raises ValueError for a folder that cannot be written to, holds another run or is the one it
    begins with, CheckpointError for a bad checkpoint to begin with, and what `worlds.folder.load`
    and `train` raise.
    """
    recipe, changes = get(name), changes or {}
    config = _config(recipe.config, steps, seed, changes)
    where = "cuda" if device and parallel.world() > 1 and device.startswith("cuda") else device
    given = {"data": source, "from": begin, "out": out, "device": where}
    given |= {"tensorboard": tensorboard, **changes}
    out = SHIPPED if out is None else Path(out)
    work = out / f"{name}.run"
    trained = None if begin is None else _beginning(recipe.system, begin, out)
    made = {"system": name, "training": asdict(config), "from": trained and _origin(trained)}
    about = {"name": _name(source) if source else recipe.data}
    check(work, {**made, "data": about})  # before the data, which may take minutes
    torch.manual_seed(seed)
    prepared = recipe.prepare(seed, source, trained)
    made["data"] = prepared.about
    system = prepared.system.to(device or "cpu")
    if out != SHIPPED and _is_finished(out / name, {**made, "config": system.config}):
        return
    record = Run(work, {**made, "config": system.config}, tensorboard)
    steps = train(system.model, prepared.data, config, work)
    with closing(record.follow(steps, config.batch)) as followed:
        for step in followed:
            if step.index % SHEET == 0 or step.index == config.steps:
                record.sheet(step.index, _sample(system, step.ema, prepared.prompts))
            yield step
    if not parallel.is_main():
        return
    system.half().float()  # what is saved is what is evaluated
    log = record.entries()
    system.save(
        {
            "command": _command(name, config, given),
            **made,
            "seconds": round(log[-1]["seconds"] if log else 0.0, 1),
            "machine": machine(device or "cpu"),
            "evaluation": [] if source else recipe.evaluate(system),
        },
        out,
    )
    if out == SHIPPED:
        shutil.rmtree(work)
    else:
        (work / "training.safetensors").unlink()


def _config(
    config: TrainConfig, steps: int | None, seed: int, changes: Mapping[str, Any]
) -> TrainConfig:
    """A recipe's configuration as one run has it."""
    steps = config.steps if steps is None else steps
    return replace(config, seed=seed, steps=steps, warmup=min(config.warmup, steps), **changes)


def _command(name: str, config: TrainConfig, given: Mapping[str, Any]) -> str:
    """The command that makes this run again, with the options that were given."""
    words = ["python", "-m", "minit2i", "train", name, "--steps", config.steps]
    words += ["--seed", config.seed]
    for option, value in given.items():
        if value is True:
            words.append(f"--{option}")
        elif value is not None and value is not False:
            words += [f"--{option}", value]
    return shlex.join(map(str, words))


def _is_finished(path: Path, made: dict[str, Any]) -> bool:
    """Whether the checkpoint there was made by just this."""
    if not path.with_suffix(".safetensors").exists():
        return False
    try:
        card, made = load(path)[1], json.loads(to_json(made))
    except CheckpointError:
        return False
    return all(card.get(key) == value for key, value in made.items())


def _beginning(kind: type[System], begin: Path, out: Path) -> System:
    """The trained system with which a run in `out` begins. Raises ValueError where the run would
    replace it."""
    if begin.resolve() == out.resolve():
        raise ValueError(
            f"the run would replace the checkpoint in {begin} that it begins with: "
            "choose another folder for it (--out)"
        )
    return kind.load(begin)


def _origin(trained: System) -> dict[str, Any]:
    """What a card says of the checkpoint with which its run began: how that was made, and the hash
    of its weights in float32."""
    made = {key: value for key, value in trained.card.items() if key in ORIGIN}
    return {**made, "sha256": fingerprint(trained.state_dict())}


def _sample(system: System, average: nn.Module, prompts: list[str]) -> Tensor:
    """What the averaged weights draw."""
    trained, system.model = system.model, average
    try:
        return system.draw(prompts)
    finally:
        system.model = trained


def prepare_digits(seed: int, source: Path | None, trained: Digits | None = None) -> Prepared:
    """The handwriting of scikit-learn, or the user's own with captions that name a digit."""
    system = trained or Digits()
    if source is None:
        data = digits.load("train")
        about = {"name": DIGITS, "images": len(data["x"]), "sha256": fingerprint(data)}
        return Prepared(system, data, about, list(WORDS))
    pictures = _pictures(source, 8)
    labels = torch.tensor(_labels(pictures))
    grey = torch.from_numpy(np.array(pictures.images)).float().mean(1, keepdim=True) / 127.5 - 1
    return Prepared(system, {"x": grey, "y": labels}, _about(pictures), list(WORDS))


def prepare_base(seed: int, source: Path | None, trained: Base | None = None) -> Prepared:
    """The captioned world, or the user's pictures. The tokenizer is the trained system's, or else
    trained on the captions."""
    mix, side = (MIX, 16) if trained is None else (LATER, trained.side)
    if source is None:
        parts = [
            captioned(n, APART * k + seed, side, **kind) for k, (n, kind) in enumerate(mix.values())
        ]
        pictures = torch.cat([part[0] for part in parts])
        texts = [text for part in parts for text in part[1]]
        about = {"name": WORLD, "images": len(texts), "seed": seed}
        about["parts"] = {name: n for name, (n, _) in mix.items()}
    else:
        own = _pictures(source, side)
        pictures, texts, about = own.images, own.captions, _about(own)
    system = trained or Base(Tokenizer.train(texts, VOCABULARY).merges)
    length, parts = system.config["text"]["length"], range(0, len(texts), 4096)  # saves memory
    tokens = torch.cat([system.tokenizer.batch(texts[k : k + 4096], length).int() for k in parts])
    if source is not None:
        about["captions cut"] = sum(read < whole for read, whole in map(system.read, texts))
    order = (tokens != Tokenizer.pad).sum(1).argsort(stable=True)  # captions of one length together
    data = {"x": pictures, "tokens": tokens, "order": order}
    if source is None:
        about["sha256"] = fingerprint(data)
    return Prepared(system, data, about, texts[:16])


def _pictures(source: Path, size: int) -> folder.CaptionedPictures:
    """The user's pictures; of several processes the first makes the cache."""
    with parallel.first():
        return folder.load(source, size, progress=parallel.is_main())


def _labels(pictures: folder.CaptionedPictures) -> list[int]:
    """The digits that the captions name. Raises ValueError that lists those that name none."""
    labels, bad = [], []
    for name, text in zip(pictures.names, pictures.captions, strict=True):
        try:
            labels.append(label(text))
        except ValueError:
            bad.append(f"{name}: {text if len(text) <= 60 else text[:59] + '…'!r}")
    if bad:
        more = f"; and {len(bad) - 20} more" if len(bad) > 20 else ""
        raise ValueError(
            f"{len(bad)} of {len(pictures.names)} captions name no digit ({'; '.join(bad[:20])}"
            f"{more}): write one of {', '.join(WORDS)}, or 0 to 9, or train base"
        )
    return labels


def _name(source: Path) -> str:
    """What a card calls a folder of the user's."""
    return f"{FOLDER}{source.resolve().name}"


def _about(pictures: folder.CaptionedPictures) -> dict[str, Any]:
    return {
        "name": _name(pictures.source.parent),
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


RECIPES = {
    "base": Recipe(
        Base,
        TrainConfig(18000, batch=64, lr=3e-3, warmup=100, ema=0.999, fused=True, optimizer="muon"),
        prepare_base,
        figures.evaluate_base,
        WORLD,
    ),
    "digits": Recipe(
        Digits, TrainConfig(2500, batch=256, lr=2e-3), prepare_digits, evaluate_all_digits, DIGITS
    ),
}


def get(name: str) -> Recipe:
    """The recipe of that name. Raises ValueError for an unknown one."""
    if name not in RECIPES:
        raise ValueError(f"unknown system {name!r}: choose one of {', '.join(RECIPES)}")
    return RECIPES[name]
