"""One training loop for every model: a generator that yields a `Step`; the caller plots or prints.

A model is a module whose `forward(batch)` is its scalar loss. With an `out` folder the loop leaves
a checkpoint of its whole state there every minute, and where it is closed, and goes on from it: a
run that was killed at any moment and started again ends in the same weights, bit for bit, as one
that was not.

Inside `parallel.processes` the run is shared: every process draws the same joint batch and takes
its part of it, so that a loss which is a mean over samples has the gradient of one process with
the joint batch, up to rounding. All processes must iterate; the first one writes.
"""

import copy
import json
import math
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from . import checkpoint, parallel
from .batches import Batch, Data, batches, floats, identity
from .muon import Muon

PRECISIONS = ("float32", "bfloat16")
OPTIMIZERS = ("adamw", "muon")
ASK = 50
"""Steps between two questions to a GPU whether training has diverged."""
SECONDS = 60.0
"""Between two checkpoints at most: what a run that is killed can lose."""
AGREE = 10
"""Steps between two looks at the clock of the first of several processes."""


@dataclass(frozen=True)
class TrainConfig:
    """What a run needs besides its model and data.

    steps, batch    optimizer steps, samples in each
    lr, warmup      peak learning rate; steps of linear warm-up, then a cosine down to zero
    ema             decay of the averaged weights, warmed up as min(ema, (1 + k)/(10 + k))
    clip            largest norm of the gradient; infinity for no limit
    weight_decay    AdamW's and Muon's, decoupled
    seed            of the batches and of the loss's own noise
    save_every      steps between checkpoints, where there is a folder for them; there is one every
                    minute as well
    betas           AdamW's
    accumulate      parts into which a batch is cut to save memory, their gradients averaged: the
                    same step for a loss that is a mean over samples, another one for a loss that
                    compares samples, such as a contrastive one
    precision       "float32", or "bfloat16" for autocast; weights and moments stay float32
    fused           AdamW's one-pass form: a quarter of its time on a CPU, the same steps up to
                    rounding; on a GPU it is always taken
    compile         whether torch.compile translates the model first (minutes, then faster)
    optimizer       "adamw", or "muon" for the weights of linear and convolutional layers (`Muon`)

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
    betas: tuple[float, float] = (0.9, 0.999)
    accumulate: int = 1
    precision: str = "float32"
    fused: bool = False
    compile: bool = False
    optimizer: str = "adamw"

    def __post_init__(self):
        lowest = {"steps": 1, "batch": 1, "warmup": 0, "save_every": 1, "seed": 0, "accumulate": 1}
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
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas must lie in [0, 1), got {self.betas}")
        if self.precision not in PRECISIONS:
            raise ValueError(
                f"unknown precision {self.precision!r}: choose one of {', '.join(PRECISIONS)}"
            )
        if self.optimizer not in OPTIMIZERS:
            raise ValueError(
                f"unknown optimizer {self.optimizer!r}: choose one of {', '.join(OPTIMIZERS)}"
            )
        if self.batch % self.accumulate:
            raise ValueError(
                f"accumulate cuts a batch into equal parts: {self.accumulate} does not divide "
                f"{self.batch}"
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
    clipping, and the model with averaged weights (live: it moves on with the next step).

    `loss` and `grad_norm` wait for the device when they are read: on a GPU, look now and then."""

    index: int
    lr: float
    ema: nn.Module
    figures: tuple[Tensor, Tensor]

    @property
    def loss(self) -> float:
        """The mean loss of the whole batch."""
        return self.figures[0].item()

    @property
    def grad_norm(self) -> float:
        """The norm of the gradient before clipping."""
        return self.figures[1].item()


def train(
    model: nn.Module, data: Data, config: TrainConfig, out: Path | str | None = None
) -> Generator[Step, None, None]:
    """Trains with AdamW, or Muon, and yields after each step. Exhausted, it leaves the averaged
    weights in `model`; closed half-way, the latest weights, and in `out` the state after the last
    step (of a single process: several cannot know that all were closed at one step).

    The loss draws from torch's global random state, which is the loop's own during a step and the
    caller's between steps. `out` is a folder: training resumes where it holds a checkpoint. On a
    GPU a diverged run is noticed up to `ASK` steps later, but no weight moves after the fault.

    Raises ValueError for data that is empty, uneven or not finite, for a loss that is not
    finite, for a checkpoint of another run, and for processes that do not begin alike.
    """
    device = next(model.parameters()).device
    draw = batches(data, device)
    if out is not None:
        checkpoint.check_folder(out)
    _prefer_channels_last(model, device)
    average = copy.deepcopy(model).requires_grad_(False).eval()
    parameters = [p for p in model.parameters() if p.requires_grad]
    late = _is_late(device)
    optimizer = (Muon if config.optimizer == "muon" else torch.optim.AdamW)(
        model if config.optimizer == "muon" else parameters,
        lr=config.lr,
        betas=config.betas,
        weight_decay=config.weight_decay,
        **({"fused": True} if config.fused or late else {"foreach": True}),
    )
    rng = np.random.default_rng(config.seed)
    noise = _Noise(config.seed, device)
    state = _State(model, average, optimizer, rng, noise, _run(config, data, device, out))
    first = state.load(out) if out is not None else 0
    _check_alike(model, state.run, first)
    gradient = _Gradient(model, config, noise)
    watch = _Watch(config, optimizer, late)
    due = _Due(config, first)

    for step in range(first, config.steps):
        model.train()
        batch = draw(config.batch, rng)
        for group in optimizer.param_groups:
            group["lr"] = config.lr_at(step)
        optimizer.zero_grad(set_to_none=True)
        loss = gradient(batch)
        norm = nn.utils.clip_grad_norm_(parameters, config.clip)
        watch.look(step + 1, loss, norm)
        optimizer.step()
        update_average(average, model, config.ema_at(step))
        if out is not None and due.after(step + 1):
            watch.ask()
            state.save(out, step + 1)
            due.saved(step + 1)
        try:
            yield Step(step + 1, config.lr_at(step), average, (loss, norm))
        except GeneratorExit:
            if out is not None and due.last < step + 1 and parallel.world() == 1:
                watch.ask()
                state.save(out, step + 1)
            raise
    watch.ask()
    model.load_state_dict(average.state_dict())
    model.eval()


@torch.no_grad()
def update_average(average: nn.Module, model: nn.Module, decay: float) -> None:
    """average ← decay · average + (1 - decay) · model; buffers are copied."""
    theirs, ours = list(average.parameters()), list(model.parameters())
    torch._foreach_lerp_(theirs, ours, 1 - decay)
    for mine, new in zip(average.buffers(), model.buffers(), strict=True):
        mine.copy_(new)


def differences(there: Mapping[str, Any], here: Mapping[str, Any]) -> str:
    """Where two flat configurations differ, in words short enough for a message; "" if nowhere."""
    keys = [key for key in {**there, **here} if there.get(key) != here.get(key)]
    told = [
        f"{key} {_short(there.get(key))} there and {_short(here.get(key))} here" for key in keys
    ]
    more = [f"and {len(told) - 5} more"] if len(told) > 5 else []
    return ", ".join(told[:5] + more)


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:40]}…{text[-19:]}"


def _run(
    config: TrainConfig, data: Data, device: torch.device, out: Path | str | None
) -> dict[str, Any]:
    """What must be the same for a checkpoint to be gone on from."""
    saved = out is not None or parallel.world() > 1
    return {
        **asdict(config),
        "betas": list(config.betas),  # as JSON gives it back
        "data": identity(data) if saved else "",
        "device": device.type,
        "processes": parallel.world(),
    }


def _check_alike(model: nn.Module, run: dict[str, Any], first: int) -> None:
    """Raises ValueError unless all processes start from one state, and can share a batch."""
    if parallel.world() == 1:
        return
    if run["batch"] % (parallel.world() * run["accumulate"]):
        raise ValueError(
            f"a batch of {run['batch']} cannot be shared equally by {parallel.world()} processes "
            f"in {run['accumulate']} parts each: choose a multiple"
        )
    parallel.check_equal("the configuration or the data", run)
    parallel.check_equal("the last saved step", first)
    parallel.check_equal("the model", checkpoint.fingerprint(model.state_dict()))


def _is_late(device: torch.device) -> bool:
    """Whether waiting for a figure would stall the device."""
    return device.type == "cuda"


def _prefer_channels_last(model: nn.Module, device: torch.device) -> None:
    """Lays out convolutions as GPUs like them; a model with `channels_last = True` or False says
    itself what it likes."""
    convolves = any(isinstance(m, nn.Conv2d) for m in model.modules())
    if getattr(model, "channels_last", convolves and device.type == "cuda"):
        model.to(memory_format=torch.channels_last)


class _Gradient:
    """batch -> its mean loss; the gradient is left in the parameters."""

    def __init__(self, model: nn.Module, config: TrainConfig, noise: "_Noise"):
        self.shared, self.noise, self.parts = parallel.wrap(model), noise, config.accumulate
        self.half = config.precision == "bfloat16"
        self.forward: Callable[[Batch], Tensor] = self.shared
        if config.compile:  # with torch's own random numbers: the same noise as uncompiled
            self.forward = torch.compile(self.shared, options={"fallback_random": True})

    def __call__(self, batch: Batch) -> Tensor:
        losses = [
            self._part(part, last=k + 1 == self.parts) for k, part in enumerate(self._cut(batch))
        ]
        return parallel.mean(losses[0] if self.parts == 1 else torch.stack(losses).mean())

    def _cut(self, batch: Batch) -> list[Batch]:
        if self.parts == 1:
            return [batch]
        pieces = {name: tensor.chunk(self.parts) for name, tensor in batch.items()}
        return [{name: piece[k] for name, piece in pieces.items()} for k in range(self.parts)]

    def _part(self, batch: Batch, last: bool) -> Tensor:
        batch = {name: floats(tensor) for name, tensor in batch.items()}
        with ExitStack() as stack:
            if not last and parallel.world() > 1:
                stack.enter_context(self.shared.no_sync())
            with self.noise, torch.autocast(self.noise.device.type, torch.bfloat16, self.half):
                loss = self.forward(batch)
            (loss if self.parts == 1 else loss / self.parts).backward()
        return loss.detach()


class _Watch:
    """Stops a run whose loss or gradient is not finite, before it moves a weight.

    Where asking would stall the device, the device itself skips the faulty step and all later
    ones, and is asked now and then.
    """

    def __init__(self, config: TrainConfig, optimizer: torch.optim.Optimizer, late: bool):
        self.lr, self.optimizer, self.late = config.lr, optimizer, late
        self.fault: tuple[Tensor, Tensor] | None = None

    def look(self, step: int, loss: Tensor, norm: Tensor) -> None:
        """Looks at one step's figures; to be called before the optimizer's step."""
        figures = torch.stack([loss.to(norm.dtype), norm])
        if not self.late:
            self._refuse(step, *figures.tolist())
            return
        found = ~figures.isfinite().all()
        if self.fault is None:
            self.fault = torch.zeros_like(found, dtype=torch.int64), torch.zeros_like(figures)
        first, seen = self.fault
        new = found & (first == 0)
        self.fault = torch.where(new, step, first), torch.where(new, figures, seen)
        self.optimizer.found_inf = (self.fault[0] > 0).float()  # fused AdamW skips where it is 1
        if step % ASK == 0:
            self.ask()

    def ask(self) -> None:
        """Raises ValueError if some step was faulty."""
        if self.fault is not None and (step := int(self.fault[0])):
            self._refuse(step, *self.fault[1].tolist())

    def _refuse(self, step: int, loss: float, norm: float) -> None:
        if not math.isfinite(loss) or not math.isfinite(norm):
            raise ValueError(
                f"step {step}: loss {loss}, gradient norm {norm}: training has "
                f"diverged; check the data for NaN, or take a smaller lr than {self.lr:g}"
            )


class _Due:
    """When to save: by the step, by the clock, and at the end."""

    def __init__(self, config: TrainConfig, first: int):
        self.config, self.last, self.time = config, first, time.monotonic()

    def after(self, step: int) -> bool:
        """Whether the state after this step is to be saved; the same for all processes."""
        if step % self.config.save_every == 0 or step == self.config.steps:
            return True
        if parallel.world() == 1:
            return self._late()
        return step % AGREE == 0 and parallel.collect(self._late())[0]

    def _late(self) -> bool:
        return time.monotonic() - self.time >= SECONDS

    def saved(self, step: int) -> None:
        """To be called when the state after this step has been saved."""
        self.last, self.time = step, time.monotonic()


class _Noise:
    """torch's global random state while a step runs; outside it, the caller's comes back."""

    def __init__(self, seed: int, device: torch.device):
        self.device = device
        if parallel.rank() > 0:  # every process has noise of its own
            seed = int(np.random.SeedSequence([seed, parallel.rank()]).generate_state(1)[0])
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

    def _tensors(self, noise: list[Tensor]) -> dict[str, Tensor]:
        moments = self.optimizer.state_dict()["state"]
        return {
            **{f"model.{k}": v for k, v in self.model.state_dict().items()},
            **{f"average.{k}": v for k, v in self.average.state_dict().items()},
            **{f"optimizer.{i}.{k}": v for i, each in moments.items() for k, v in each.items()},
            **{f"noise.{i}": v for i, v in enumerate(noise)},
        }

    def save(self, out: Path | str, step: int) -> None:
        noise = [state for states in parallel.collect(self.noise.states) for state in states]
        if not parallel.is_main():
            return
        card = {
            "kind": "training state",
            "step": step,
            "run": self.run,
            "rng": json.dumps(self.rng.bit_generator.state),
        }
        checkpoint.save(self._path(out), self._tensors(noise), card, readable=False)

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
        if told := differences({key: there.get(key) for key in self.run}, self.run):
            raise ValueError(f"{path} belongs to another run ({told}); {remedy}")
        parts: dict[str, dict[str, Tensor]] = {
            "model": {},
            "average": {},
            "optimizer": {},
            "noise": {},
        }
        for name, tensor in tensors.items():
            part, key = name.split(".", 1)
            parts[part][key] = tensor
        checkpoint.restore(self.model, parts["model"], str(path))
        checkpoint.restore(self.average, parts["average"], str(path))
        moments: dict[int, dict[str, Tensor]] = {}
        for name, tensor in parts["optimizer"].items():
            index, key = name.split(".", 1)
            moments.setdefault(int(index), {})[key] = tensor
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": moments})
        self._lay_out_moments()
        mine = parallel.rank() * len(self.noise.states)
        self.noise.states = [parts["noise"][str(mine + i)] for i in range(len(self.noise.states))]
        self.rng.bit_generator.state = json.loads(card["rng"])
        return card["step"]

    def _lay_out_moments(self) -> None:
        """Gives the optimizer's moments the memory layout of their weights, as they had before."""
        for parameter, moments in self.optimizer.state.items():
            for name, tensor in moments.items():
                if name != "step":
                    moments[name] = torch.empty_like(parameter, dtype=tensor.dtype).copy_(tensor)
