"""Four families on one footing: quality, coverage and speed of GAN, VAE, flow and diffusion.

Every family gets `BUDGET` seconds of CPU time (process time of one thread, so other work on the
machine hardly counts), batches of 256 and parameters within 5 % of 33,500. Steps are what fits
into the budget, from a trial of a few steps. All end with averaged weights and a cosine decay.

Tuning, the same for each family: three learning rates × two values of one design choice, 5 s of
training for each of the six, on both sets, with seed 100, which is not measured here; kept was the
least sum of the two sliced Wasserstein distances (`tune`). The sums, by rate:

                                 3e-4     1e-3     3e-3
    gan        latent 2         0.390    0.249*   0.394
               latent 16        0.635    0.263    0.412
    vae        latent 2         0.340    0.252    0.218
               latent 8         0.377    0.281    0.197*
    flow       8 layers         0.281    0.279    0.304
               16 layers        0.262    0.233*   0.255
    diffusion  cosine           0.236    0.187    0.141*
               linear           0.293    0.207    0.191

How much was stated beforehand: the claims and margins below were fixed before the recorded runs,
but after a pilot with 131,000 parameters and 10 s, and the pilot shaped them. When it was stopped
the GAN had run with seeds 0 to 3 and the VAE with seeds 0 to 2, seeds that are measured here too,
and no run had more than one of the 25 modes. For all families alike the networks then became
smaller (after one run of each on the grid, seed 0); and coverage, until then counted among sharp
samples only (`modes`), which measured sharpness once more, is now counted by `cells`. The claim on
the arc was added after the pilot had shown a GAN at 70 % of it: it is exploratory. A VAE whose
sigma starts at the data's own deviation never uses its latent; it starts at 0.1. That diffusion
predicts v was known from the lessons before, an advantage that no other family had.

The record was measured as one process for each family, side by side on two cores, and merged with
`--resume`. Process time leaves out waiting, not shared caches: on one set the steps of a family
differ between seeds by up to two fifths. The seconds really spent lie between 12.8 and 17.7.
"""

import copy
import itertools
import time
from collections.abc import Callable, Iterator
from functools import partial
from statistics import median

import numpy as np
import torch
from torch import Tensor, nn

from ..diffusion import Diffusion
from ..evaluate import arc_coverage, curve_distance, mode_coverage, sliced_wasserstein
from ..families.flow import real_nvp
from ..families.gan import GAN, gan, train_gan
from ..families.vae import vae
from ..mlp import MLP
from ..sample import ddim, ddpm, dpm2m, last, start
from ..schedule import make
from ..train import TrainConfig, train
from ..worlds.plane import SwissRoll, grid25
from . import Claim, Finding

BUDGET = 15.0
COUNT = 2500  # points per cloud
ROLL, GRID = SwissRoll(), grid25()
WORLDS = {"swiss": ROLL, "grid25": GRID}
SAMPLERS = {
    "ddpm 250": (250, ddpm),
    "ddim 50": (50, ddim),
    "ddim 10": (10, ddim),
    "dpm2m 10": (10, dpm2m),
    "ddim 4": (4, ddim),
    "ddpm 10": (10, ddpm),
}
MAIN = "ddim 50"  # the sampler that stands for diffusion in the claims
CHOICES = {
    "gan": ("latent", (2, 16)),
    "vae": ("latent", (2, 8)),
    "flow": ("layers", (8, 16)),
    "diffusion": ("schedule", ("cosine", "linear")),
}
RATES = (3e-4, 1e-3, 3e-3)
TUNED = {  # (rate, choice)
    "gan": (1e-3, 2),
    "vae": (3e-3, 8),
    "flow": (1e-3, 16),
    "diffusion": (3e-3, "cosine"),
}


def build(family: str, choice: int | str) -> nn.Module:
    """A fresh model of about 33,000 parameters; `choice` as in `CHOICES`."""
    if family == "gan":
        return gan(2, choice, width=90)
    if family == "vae":
        return vae(2, choice, width=89)
    if family == "flow":
        return real_nvp(2, layers=choice, width={8: 60, 16: 41}[choice])
    return Diffusion(MLP(2, width=48, depth=3), make(choice, 1000), predict="v")


def parameters(model: nn.Module) -> int:
    """The number of trained numbers."""
    return sum(p.numel() for p in model.parameters())


def rounds(model: nn.Module, world, steps: int, lr: float, seed: int) -> Iterator:
    """The training loop of a family, one item a step."""

    def data(n: int, rng: np.random.Generator) -> dict[str, Tensor]:
        return {"x": world.sample(n, rng)}

    if isinstance(model, GAN):
        return train_gan(model, data, steps, batch=256, lr=lr, seed=seed)
    return train(model, data, TrainConfig(steps=steps, batch=256, lr=lr, seed=seed))


def fit(
    family: str, world, seed: int, budget: float, rate: float, choice: int | str
) -> tuple[nn.Module, dict[str, float]]:
    """A model trained for `budget` seconds of CPU time, and what that came to."""
    torch.manual_seed(seed)
    model = build(family, choice)
    trial = rounds(copy.deepcopy(model), world, 1000, rate, seed)
    list(itertools.islice(trial, 10))  # the first steps are slow
    begun = time.process_time()
    list(itertools.islice(trial, 40))
    steps = max(1, round(budget / ((time.process_time() - begun) / 40)))
    begun = time.process_time()
    for _ in rounds(model, world, steps, rate, seed):
        pass
    spent = time.process_time() - begun
    return model, {"train_seconds": spent, "steps": steps, "parameters": parameters(model)}


def judge(x: Tensor, world, rng: np.random.Generator) -> dict[str, float]:
    """Quality and coverage of a cloud.

    swiss:  distance (to the curve, in units of the data's own mean distance), share, ks
    grid25: modes (of 25), high_quality, and cells: the modes that are the nearest one for at
            least a fifth of their due, however far away, so that a blurred mode is not a lost one
    both:   swd, the sliced Wasserstein distance to fresh data, and the axes of the trilemma:
            quality, the share of points within 4 standard deviations of a mean or of the curve,
            and coverage, the share of arc pieces or cells that are reached
    """
    figures = {"swd": sliced_wasserstein(x, world.sample(len(x), rng))}
    if world is ROLL:
        distance, arc = curve_distance(x, world), arc_coverage(x, world)
        ratio = distance.mean() / (world.noise * (2 / np.pi) ** 0.5)
        near = (distance <= 4 * world.noise).double().mean()
        extra = {"distance": ratio, "share": arc.share, "ks": arc.ks}
        return {**figures, **extra, "quality": near, "coverage": arc.share}
    cover = mode_coverage(x, world)
    nearest = torch.cdist(x.double(), world.means).argmin(1)
    cells = int((torch.bincount(nearest, minlength=25) >= 0.2 * len(x) / 25).sum())
    extra = {"modes": cover.modes, "high_quality": cover.high_quality, "cells": cells}
    return {**figures, **extra, "quality": cover.high_quality, "coverage": cells / 25}


def timed(draw: Callable[[], Tensor]) -> tuple[Tensor, float]:
    """A cloud, and milliseconds of CPU time per 1,000 points: the median of draws for a second."""
    draw()
    took: list[float] = []
    while not took or (sum(took) < 1 and len(took) < 20):
        begun = time.process_time()
        x = draw()
        took.append(time.process_time() - begun)
    return x, 1e6 * median(took) / len(x)


def samplers(model: nn.Module, seed: int) -> dict[str, tuple[int, Callable[[], Tensor]]]:
    """The ways of drawing from a model: evaluations a sample, and the draw. "" is the main one."""
    fresh = partial(torch.Generator().manual_seed, 1000 + seed)
    if not isinstance(model, Diffusion):
        ways = {"": (1, lambda: model.sample(COUNT, fresh()))}
        if hasattr(model, "elbo"):
            ways["mean"] = (1, lambda: model.sample(COUNT, fresh(), noise=False))
        return ways

    def draw(sampler: Callable, steps: int) -> Tensor:
        generator = fresh()
        more = {"generator": generator} if sampler is ddpm else {}
        x = start((COUNT, 2), generator)
        return last(sampler(model.denoiser(), x, model.schedule, steps=steps, **more))

    return {
        "" if name == MAIN else name: (steps, partial(draw, sampler, steps))
        for name, (steps, sampler) in SAMPLERS.items()
    }


def run(arm: str, seed: int) -> dict[str, float]:
    """Trains and judges "FAMILY WORLD"; "data WORLD" judges fresh data, the best there is."""
    family, where = arm.split()
    world, rng = WORLDS[where], np.random.default_rng([seed, 7])
    if family == "data":
        return judge(world.sample(COUNT, rng), world, rng)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        model, figures = fit(family, world, seed, BUDGET, *TUNED[family])
        for name, (evaluations, draw) in samplers(model, seed).items():
            x, milliseconds = timed(draw)
            here = {"evaluations": evaluations, "milliseconds": milliseconds}
            here |= judge(x, world, np.random.default_rng([seed, 7]))
            figures |= {f"{key} {name}".strip(): value for key, value in here.items()}
        held_out = world.sample(COUNT, rng)
        with torch.no_grad():
            if family == "vae":  # a bound from above; 20 draws of ε
                figures["nats"] = -sum(model.elbo(held_out).mean() for _ in range(20)) / 20
            if family == "flow":
                figures["nats"] = -model.log_prob(held_out).mean()
    finally:
        torch.set_num_threads(threads)
    if family == "diffusion":
        figures["swd 10 over 50"] = figures["swd ddim 10"] - figures["swd"]
    return figures


def tune(family: str, budget: float = 5.0, seed: int = 100) -> Iterator[tuple]:
    """The six tries of a family: (rate, choice, sliced Wasserstein on the roll, on the grid)."""
    for choice in CHOICES[family][1]:
        for rate in RATES:
            found = []
            for world in WORLDS.values():
                model, _ = fit(family, world, seed, budget, rate, choice)
                x = samplers(model, seed)[""][1]()
                found.append(sliced_wasserstein(x, world.sample(COUNT, np.random.default_rng(7))))
            yield rate, choice, *found


FINDING = Finding(
    name="families",
    lesson="04",
    question="What does each family of generative models pay, at equal parameters and time?",
    arms=tuple(
        f"{family} {world}" for family in (*CHOICES, "data") for world in ("swiss", "grid25")
    ),
    seeds=(0, 1, 2, 3, 4),
    run=run,
    claims=(
        Claim(
            "A GAN reaches fewer of the 25 modes than diffusion, by more than one.",
            "cells", "gan grid25", "diffusion grid25", "lower", 1,
        ),
        Claim(
            "A GAN reaches fewer of the 25 modes than a VAE, by more than one.",
            "cells", "gan grid25", "vae grid25", "lower", 1,
        ),
        Claim(
            "A GAN reaches fewer of the 25 modes than a flow, by more than one.",
            "cells", "gan grid25", "flow grid25", "lower", 1,
        ),
        Claim(
            "A GAN covers less of the roll's arc than diffusion, by a twentieth.",
            "share", "gan swiss", "diffusion swiss", "lower", 0.05,
        ),
        Claim(
            "A VAE's samples lie further from the curve than diffusion's, by half of the data's "
            "own mean distance.",
            "distance", "vae swiss", "diffusion swiss", "higher", 0.5,
        ),
        Claim(
            "On the 25 modes fewer of a VAE's samples than of a GAN's belong to a mode.",
            "high_quality", "vae grid25", "gan grid25", "lower", 0.05,
        ),
        Claim(
            "On the 25 modes fewer of a flow's samples than of diffusion's belong to a mode: "
            "filaments.",
            "high_quality", "flow grid25", "diffusion grid25", "lower", 0.05,
        ),
        Claim(
            "Diffusion needs more time for its samples than a GAN, by 10 ms for 1,000.",
            "milliseconds", "diffusion swiss", "gan swiss", "higher", 10,
        ),
        Claim(
            "Ten steps of DDIM give a worse law than fifty from the same network.",
            "swd 10 over 50", "diffusion grid25", 0.0, "higher", 0.005,
        ),
    ),
)  # fmt: skip
