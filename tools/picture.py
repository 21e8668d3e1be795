"""Make the README's picture: noise walks back to a spiral, and to ten digits that were asked for.

python tools/picture.py data/minit2i.png
"""

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch

from minit2i import plot, sample
from minit2i.diffusion import Diffusion
from minit2i.mlp import MLP
from minit2i.schedule import cosine
from minit2i.systems.digits import WORDS, Digits
from minit2i.train import TrainConfig, train
from minit2i.worlds.plane import SwissRoll

SHOWN = (0, 12, 15, 17, 18, 19, 20)  # of 20 steps


def spiral() -> list[torch.Tensor]:
    """Points on their way from noise to the swiss roll."""
    torch.manual_seed(0)
    data = {"x": SwissRoll().sample(20_000, np.random.default_rng(0))}
    model = Diffusion(MLP(2, width=96, depth=3), cosine(1000), predict="v")
    for _ in train(model, data, TrainConfig(steps=2000, batch=512, lr=2e-3)):
        pass
    x = sample.start((3000, 2), torch.Generator().manual_seed(1))
    return [x, *sample.ddim(model.denoiser(), x, model.schedule, steps=20)]


def numbers() -> list[torch.Tensor]:
    """Ten digits on their way from noise."""
    artist = Digits.load()
    x = sample.start((10, 1, 8, 8), sample.seeds(0, 10))
    denoise = artist.denoiser(torch.arange(10), guidance=1.5)
    return [x, *sample.ddim(denoise, x, artist.model.schedule, steps=20)]


def main(out: Path) -> None:
    """Draw both films, one above the other."""
    fig, axes = plt.subplots(2, len(SHOWN), figsize=(9.6, 2.2), height_ratios=(1, 0.4))
    for k, (step, dots, images) in enumerate(
        (s, d[s], n[s]) for d, n in [(spiral(), numbers())] for s in SHOWN
    ):
        axes[0, k].scatter(*dots.T, s=1.2, color=plot.BLUE, linewidths=0)
        axes[0, k].set(xlim=(-2.6, 2.6), ylim=(-2.6, 2.6), aspect="equal", title=f"step {step}")
        axes[0, k].axis("off")
        plot.pictures(axes[1, k], images, columns=5)
    fig.savefig(out, dpi=100)
    print(f"{out}: {', '.join(WORDS)} from {len(SHOWN)} moments of 20 steps")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
