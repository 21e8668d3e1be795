"""The folder of a training run: what made it, how it went, what it drew on the way.

    config.json          everything that made the run
    log.jsonl            JSON by the line: step, loss, lr, grad_norm, images_per_second, seconds
    samples/NNNNNN.png   sheets of pictures, by step
    tensorboard/         the same figures for TensorBoard, where that is asked for

A folder can be gone on with by a run of the same configuration only. A log that was written further
than the last checkpoint is cut back first, so that no step stands in it twice.
"""

import json
import os
import time
from collections.abc import Generator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor

from . import parallel
from .checkpoint import check_folder, to_json, write
from .picture import png
from .train import Step, differences

CONFIG = "config.json"


class Run:
    """A run folder; of several processes only the first one writes in it.

    config        what made the run, as plain JSON
    tensorboard   whether figures go to TensorBoard too

    Raises ValueError for a folder that holds another run, saying what differs, for one that cannot
    be written to, and for TensorBoard where it is not installed.
    """

    def __init__(self, folder: Path | str, config: Mapping[str, Any], tensorboard: bool = False):
        self.folder = Path(folder)
        self.log = self.folder / "log.jsonl"
        self.board = _Board(self.folder / "tensorboard") if tensorboard else None
        check(self.folder, config, partly=False)
        if parallel.is_main() and not (path := self.folder / CONFIG).exists():
            write(path, to_json(config).encode())

    def follow(
        self, steps: Generator[Step, None, None], images: int, every: int = 50
    ) -> Generator[Step, None, None]:
        """Passes the steps of `train` on, and logs the first, the last and every `every`-th.
        Closed, it closes `steps`.

        images   pictures in a step. Seconds are those spent in training, not by the caller.

        Raises ValueError where the log cannot be written; what was saved before stays whole.
        """
        with closing(steps):
            yield from self._follow(steps, images, every)

    def _follow(
        self, steps: Generator[Step, None, None], images: int, every: int
    ) -> Generator[Step, None, None]:
        seconds = mark = 0.0
        step, first, logged = None, None, 0
        begun = time.perf_counter()
        for step in steps:
            if first is None:
                first, logged = step.index, step.index - 1
                seconds = mark = self._cut_back(step.index)
            if wanted := step.index == 1 or step.index % every == 0:
                figures = step.loss, step.grad_norm  # waits for the device, within the time taken
            seconds += time.perf_counter() - begun
            if wanted:
                rate = (step.index - logged) * images / (seconds - mark)
                try:
                    self._write(step, figures, rate, seconds)
                except ValueError as error:
                    steps.throw(error)  # it saves no state that the log does not reach
                logged, mark = step.index, seconds
            yield step
            begun = time.perf_counter()
        if step is not None and logged < step.index:
            rate = (step.index - logged) * images / (seconds - mark)
            self._write(step, (step.loss, step.grad_norm), rate, seconds)

    def sheet(self, step: int, pictures: Float[Tensor, "b 3 h w"]) -> None:
        """Keeps pictures that were drawn after a step."""
        if parallel.is_main():
            write(self.folder / "samples" / f"{step:06d}.png", png(pictures))

    def entries(self) -> list[dict[str, float]]:
        """The log so far, without a last line that was broken off."""
        lines = self.log.read_text("utf-8").split("\n")[:-1] if self.log.exists() else []
        return [json.loads(line) for line in lines]

    def _cut_back(self, step: int) -> float:
        """Drops what was logged from this step on; the seconds of training until then."""
        kept = [entry for entry in self.entries() if entry["step"] < step]
        if parallel.is_main():
            write(self.log, "".join(json.dumps(entry) + "\n" for entry in kept).encode())
            if self.board is not None:
                self.board.begin(step)
        return kept[-1]["seconds"] if kept else 0.0

    def _write(self, step: Step, figures: tuple[float, float], rate: float, seconds: float) -> None:
        if not parallel.is_main():
            return
        entry = {
            "step": step.index,
            "loss": figures[0],
            "lr": step.lr,
            "grad_norm": figures[1],
            "images_per_second": round(rate, 1),
            "seconds": round(seconds, 3),
        }
        try:
            with open(self.log, "ab", buffering=0) as file:
                size = os.fstat(file.fileno()).st_size
                line = (json.dumps(entry) + "\n").encode()
                if file.write(line) < len(line):  # the disk was full in the middle of the line
                    file.truncate(size)
                    file.write(line)
        except OSError as error:
            raise ValueError(
                f"cannot write {self.log}: {error.strerror}; what was saved before is whole: make "
                "room, and the same command goes on from the last saved step"
            ) from None
        if self.board is not None:
            self.board.write(entry)


class _Board:
    """Figures for TensorBoard, which is no dependency of the course."""

    def __init__(self, folder: Path):
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise ValueError(
                "TensorBoard is not installed: pip install tensorboard, or train without it "
                "(log.jsonl holds the same figures)"
            ) from None
        self.folder, self.make = folder, SummaryWriter

    def begin(self, step: int) -> None:
        """What was written from this step on counts no more."""
        self.writer = self.make(str(self.folder), purge_step=step)

    def write(self, entry: Mapping[str, float]) -> None:
        for name in ("loss", "lr", "grad_norm", "images_per_second"):
            self.writer.add_scalar(name, entry[name], entry["step"])
        self.writer.flush()


def check(folder: Path | str, known: Mapping[str, Any], partly: bool = True) -> None:
    """Whether a run can be in the folder, before anything is prepared for it.

    known    the run's configuration, or, `partly`, those entries of it that are known already

    Raises ValueError for a folder that cannot be written to or holds another run.
    """
    check_folder(folder)
    path = Path(folder) / CONFIG
    if not path.exists():
        return
    try:
        there = _flat(json.loads(path.read_text("utf-8")))
    except ValueError as error:
        raise ValueError(
            f"{path} is damaged ({error}); choose another folder, or empty it"
        ) from None
    here = _flat(json.loads(to_json(known)))
    if partly:  # what stands there under a name of `here`, or below it
        there = {
            key: value
            for key, value in there.items()
            if any(f"{key}.".startswith(f"{name}.") for name in here)
        }
    if told := differences(there, here):
        raise ValueError(f"{folder} holds another run ({told}); choose another folder, or empty it")


def _flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested entries under dotted names."""
    result = {}
    for key, value in config.items():
        nested = isinstance(value, dict) and value
        result |= _flat(value, f"{prefix}{key}.") if nested else {f"{prefix}{key}": value}
    return result
