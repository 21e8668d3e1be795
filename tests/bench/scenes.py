"""Scenes sampled, rendered and read a second.

python -m tests.bench.scenes [--device cpu] [--threads 2] [--count 5000]
"""

import time
from collections.abc import Callable

import click
import numpy as np
import torch

from minit2i.worlds.scenes import read, render, sample
from minit2i.worlds.scenes.renderer import SIDES


def rate(work: Callable[[], object], count: int, device: str, rounds: int = 3) -> float:
    """Of the fastest round: others on the machine only ever slow one down."""
    work()  # tables are made once
    times = []
    for _ in range(rounds):
        begun = time.perf_counter()
        work()
        if device.startswith("cuda"):
            torch.cuda.synchronize()
        times.append(time.perf_counter() - begun)
    return count / min(times)


@click.command()
@click.option("--device", default="cpu", show_default=True)
@click.option("--threads", default=2, show_default=True)
@click.option("--count", default=5000, show_default=True)
def main(device: str, threads: int, count: int) -> None:
    torch.set_num_threads(threads)
    rng = np.random.default_rng(0)
    scenes = [sample(rng) for _ in range(count)]
    print(f"{device}, {threads} threads, {count} scenes, fastest of 3 rounds, a second:")
    print(f"sampled {rate(lambda: [sample(rng) for _ in range(count)], count, 'cpu'):,.0f}")
    for side in SIDES:
        drawn = rate(lambda side=side: render(scenes, side, device), count, device)
        pictures = render(scenes, side, device)
        got = rate(lambda pictures=pictures: read(pictures), count, device)
        print(f"{side} px: rendered {drawn:,.0f}, read {got:,.0f}")


if __name__ == "__main__":
    main()
