"""One training loop for every model: a generator that yields a `Step`; the caller plots or prints.

A model is a module whose `forward(batch)` is its scalar loss. With an `out` folder the loop leaves
a checkpoint of its whole state there, and goes on from it: a run that was killed at any moment and
started again ends in the same weights, bit for bit, as one that was not.
"""

import copy
import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from . import checkpoint

Batch = dict[str, Tensor]
Data = Mapping[str, Tensor] | Callable[[int, np.random.Generator], Batch]
"""Equally long tensors, of which batches are drawn with replacement; or (n, rng) -> batch."""


@dataclass(frozen=True)
class TrainConfig:
    """What a run needs besides its model and data.

    steps, batch    optimizer steps, samples in each
    lr, warmup      peak learning rate; steps of linear warm-up, then a cosine down to zero
    ema             decay of the averaged weights, warmed up as min(ema, (1 + k)/(10 + k))
    clip            largest norm of the gradient; infinity for no limit
    weight_decay    AdamW's
    seed            of the batches and of the loss's own noise
    save_every      steps between checkpoints, where there is a folder for them

    Raises ValueError for values out of range.
    """

    steps: int
    batch: int = 256
    lr: float = 1e-3
    warmup: int = 100
    ema: float = 0.999
    clip: float = 1.0
    weight_decay: float = 0.0
    seed: int = 0
    save_every: int = 500

    def __post_init__(self):
        lowest = {"steps": 1, "batch": 1, "warmup": 0, "save_every": 1, "seed": 0}
        for name, low in lowest.items():
            if getattr(self, name) < low:
                raise ValueError(f"{name} must be at least {low}, got {getattr(self, name)}")
        if not (self.lr > 0 and self.clip > 0):
            raise ValueError(f"lr and clip must be positive, got {self.lr} and {self.clip}")
        if not (0 <= self.ema < 1 and self.weight_decay >= 0):
            raise ValueError(
                f"ema must lie in [0, 1) and weight_decay be at least 0, got {self.ema} and "
                f"{self.weight_decay}"
            )

    def lr_at(self, step: int) -> float:
        """The learning rate of a step, counted from 0."""
        if step < self.warmup:
            return self.lr * (step + 1) / self.warmup
        done = (step - self.warmup) / max(1, self.steps - self.warmup)
        return self.lr * 0.5 * (1 + math.cos(math.pi * done))

    def ema_at(self, step: int) -> float:
        """The averaging decay of a step: early weights are forgotten quickly."""
        return min(self.ema, (1 + step) / (10 + step))


@dataclass(frozen=True)
class Step:
    """What happened in one step: its index from 1, loss, learning rate, norm of the gradient before
    clipping, and the model with averaged weights (live: it moves on with the next step)."""

    index: int
    loss: float
    lr: float
    grad_norm: float
    ema: nn.Module


def train(
    model: nn.Module, data: Data, config: TrainConfig, out: Path | str | None = None
) -> Iterator[Step]:
    """Trains with AdamW and yields after each step. Exhausted, it leaves the averaged weights in
    `model`; abandoned half-way, the latest weights.

    The loss draws from torch's global random state, which is the loop's own during a step and the
    caller's between steps. `out` is a folder: training resumes where it holds a checkpoint.

    Raises ValueError for data that is empty, uneven or not finite, for a loss that is not
    finite, and for a checkpoint of another run.
    """
    draw = _batches(data)
    if out is not None:
        checkpoint.check_folder(out)
    device = next(model.parameters()).device
    average = copy.deepcopy(model).requires_grad_(False).eval()
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(
        parameters, lr=config.lr, weight_decay=config.weight_decay, foreach=True
    )
    rng = np.random.default_rng(config.seed)
    noise = _Noise(config.seed, device)
    run = {**asdict(config), "data": _identity(data), "device": device.type}
    state = _State(model, average, optimizer, rng, noise, run)
    first = state.load(out) if out is not None else 0

    for step in range(first, config.steps):
        model.train()
        batch = {name: tensor.to(device) for name, tensor in draw(config.batch, rng).items()}
        for group in optimizer.param_groups:
            group["lr"] = config.lr_at(step)
        with noise:
            loss = model(batch)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(parameters, config.clip).item()
        value = loss.item()
        if not math.isfinite(value) or not math.isfinite(norm):
            raise ValueError(
                f"step {step + 1}: loss {value}, gradient norm {norm}: training has "
                f"diverged; check the data for NaN, or take a smaller lr than {config.lr:g}"
            )
        optimizer.step()
        update_average(average, model, config.ema_at(step))
        if out is not None and ((step + 1) % config.save_every == 0 or step + 1 == config.steps):
            state.save(out, step + 1)
        yield Step(step + 1, value, config.lr_at(step), norm, average)
    model.load_state_dict(average.state_dict())
    model.eval()


@torch.no_grad()
def update_average(average: nn.Module, model: nn.Module, decay: float) -> None:
    """average ← decay · average + (1 - decay) · model; buffers are copied."""
    theirs, ours = list(average.parameters()), list(model.parameters())
    torch._foreach_lerp_(theirs, ours, 1 - decay)
    for mine, new in zip(average.buffers(), model.buffers(), strict=True):
        mine.copy_(new)


def _batches(data: Data) -> Callable[[int, np.random.Generator], Batch]:
    """(n, rng) -> a batch of the data, checked once where it is a table."""
    if callable(data):
        return data
    if not isinstance(data, Mapping):
        raise ValueError(
            f"data is a dict of tensors such as {{'x': points}}, or a function (n, rng) -> dict; "
            f"got a {type(data).__name__}"
        )
    if not data or len({len(column) for column in data.values()}) != 1:
        sizes = {name: len(column) for name, column in data.items()}
        raise ValueError(f"the columns of the data must be equally long, got {sizes}")
    n = len(next(iter(data.values())))
    if n == 0:
        raise ValueError("the data is empty")
    for name, column in data.items():
        if not torch.isfinite(column).all():
            raise ValueError(f"the data's {name!r} holds NaN or infinity; clean it first")

    def draw(size: int, rng: np.random.Generator) -> Batch:
        index = torch.from_numpy(rng.integers(n, size=size))
        return {name: column[index.to(column.device)] for name, column in data.items()}

    return draw


def _identity(data: Data) -> str:
    """What tells one table from another in a saved run."""
    return "a function" if callable(data) else checkpoint.fingerprint(data)[:16]


class _Noise:
    """torch's global random state while a step runs; outside it, the caller's comes back."""

    def __init__(self, seed: int, device: torch.device):
        self.device = device
        self.states = [torch.Generator().manual_seed(seed).get_state()]
        if device.type == "cuda":
            self.states.append(torch.Generator(device).manual_seed(seed).get_state())

    def _swap(self) -> None:
        theirs = [torch.get_rng_state()]
        torch.set_rng_state(self.states[0])
        if self.device.type == "cuda":
            theirs.append(torch.cuda.get_rng_state(self.device))
            torch.cuda.set_rng_state(self.states[1], self.device)
        self.states = theirs

    def __enter__(self) -> None:
        self._swap()

    def __exit__(self, *_) -> None:
        self._swap()


@dataclass
class _State:
    """Everything that the next step depends on, as one file."""

    model: nn.Module
    average: nn.Module
    optimizer: torch.optim.Optimizer
    rng: np.random.Generator
    noise: _Noise
    run: dict[str, Any]

    @staticmethod
    def _path(out: Path | str) -> Path:
        return Path(out) / "training"

    def _tensors(self) -> dict[str, Tensor]:
        moments = self.optimizer.state_dict()["state"]
        return {
            **{f"model.{k}": v for k, v in self.model.state_dict().items()},
            **{f"average.{k}": v for k, v in self.average.state_dict().items()},
            **{f"adam.{i}.{k}": v for i, each in moments.items() for k, v in each.items()},
            **{f"noise.{i}": v for i, v in enumerate(self.noise.states)},
        }

    def save(self, out: Path | str, step: int) -> None:
        card = {
            "kind": "training state",
            "step": step,
            "run": self.run,
            "rng": json.dumps(self.rng.bit_generator.state),
        }
        checkpoint.save(self._path(out), self._tensors(), card, readable=False)

    def load(self, out: Path | str) -> int:
        """Restores a checkpoint in `out`, if there is one; the number of steps done."""
        path = self._path(out)
        if not path.with_suffix(".safetensors").exists():
            return 0
        remedy = f"choose another folder than {out}, or empty it"
        tensors, card = checkpoint.load(path)
        if card.get("kind") != "training state":
            raise checkpoint.CheckpointError(f"{path} is not the state of a training; {remedy}")
        there = card["run"]
        if other := [key for key in self.run if there.get(key) != self.run[key]]:
            told = ", ".join(
                f"{key} {there.get(key)} there and {self.run[key]} here" for key in other
            )
            raise ValueError(f"{path} belongs to another run ({told}); {remedy}")
        parts: dict[str, dict[str, Tensor]] = {"model": {}, "average": {}, "adam": {}, "noise": {}}
        for name, tensor in tensors.items():
            part, key = name.split(".", 1)
            parts[part][key] = tensor
        checkpoint.restore(self.model, parts["model"], str(path))
        checkpoint.restore(self.average, parts["average"], str(path))
        moments: dict[int, dict[str, Tensor]] = {}
        for name, tensor in parts["adam"].items():
            index, key = name.split(".", 1)
            moments.setdefault(int(index), {})[key] = tensor
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": moments})
        self.noise.states = [parts["noise"][str(i)] for i in range(len(self.noise.states))]
        self.rng.bit_generator.state = json.loads(card["rng"])
        return card["step"]
