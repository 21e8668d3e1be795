"""Minutes of training until one and two things are drawn right, beside diffusers' U-Net.

Ours and diffusers' U-Net of equal size (tests/bench/unet.py, the kinder of its two forms) have the
same text encoder, loss, optimizer, learning rate, batches and seed; only the U-Nets differ. They
take turns of `--every` steps, so that both see the same machine, and draw development prompts
after each; drawing does not count as training.

    python -m tests.bench.race [--minutes 5] [--steps 2000] [--every 500] [--threads 2]
"""

import time

import click
import torch

from minit2i import benchmark, recipes
from minit2i.systems.base import Base
from minit2i.train import train
from minit2i.worlds.scenes import satisfies
from tests.bench.unet import rival, size

GOAL = 0.95


class Runner:
    """One system in training: the share of prompts that it draws right, against its seconds."""

    def __init__(self, system: Base, data: dict, steps: int):
        config = recipes._config(recipes.get("base").config, steps, 0, {})
        self.system, self.seconds, self.curve = system, 0.0, []
        self.steps = train(system.model, data, config)

    def go(self, steps: int) -> bool:
        """Trains on; whether there was anything left to do."""
        begun, last = time.perf_counter(), None
        for _, step in zip(range(steps), self.steps, strict=False):
            last = step
        self.seconds += time.perf_counter() - begun
        if last is not None:
            self.latest = last
        return last is not None

    def look(self, asked: list[str]) -> float:
        """Draws with the averaged weights."""
        trained, self.system.model = self.system.model, self.latest.ema
        verdicts = satisfies(self.system.draw(asked), asked)
        self.system.model = trained
        share = sum(verdict.exact for verdict in verdicts) / len(asked)
        self.curve.append((self.seconds / 60, share))
        return share


@click.command()
@click.option("--minutes", default=5.0, show_default=True, help="Of training, for ours.")
@click.option("--every", default=500, show_default=True, help="Steps between two looks.")
@click.option("--asked", default=100, show_default=True, help="Prompts a look.")
@click.option("--steps", default=2000, show_default=True, help="After which the rate is zero.")
@click.option("--threads", default=2, show_default=True)
@click.option("--device", default="cpu", show_default=True)
def main(minutes: float, every: int, asked: int, steps: int, threads: int, device: str) -> None:
    torch.set_num_threads(threads)
    prepared = recipes.prepare_base(0, None)
    ours, theirs = prepared.system.to(device), Base(**prepared.system.config).to(device)
    theirs.model = rival(ours.model, 3).to(device)
    texts = [p.text for p in benchmark.development(3 * asked) if p.category != "three things"]
    runners = {}
    for name, system in (("minit2i", ours), ("diffusers", theirs)):
        print(f"{name}: {size(system.model.net):,} parameters in the U-Net")
        runners[name] = Runner(system, prepared.data, steps)
    while any([runner.go(every) for runner in runners.values()]):
        for name, runner in runners.items():
            share = runner.look(texts[:asked])
            print(f"{name:10} {runner.seconds / 60:6.2f} minutes: {share:.0%} right", flush=True)
        if runners["minit2i"].seconds > 60 * minutes:
            break
    for name, runner in runners.items():
        reached = [minute for minute, share in runner.curve if share >= GOAL]
        print(f"{name}: {GOAL:.0%} " + (f"after {reached[0]:.1f} min" if reached else "unreached"))


if __name__ == "__main__":
    main()
