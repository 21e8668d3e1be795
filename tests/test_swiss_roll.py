"""The whole path on the plane: train, sample, judge, within the time that a lesson has."""

import numpy as np
import torch

from minit2i import sample
from minit2i.diffusion import Diffusion
from minit2i.evaluate import arc_coverage, curve_distance
from minit2i.mlp import MLP
from minit2i.schedule import cosine
from minit2i.train import TrainConfig, train
from minit2i.worlds.plane import SwissRoll


def test_a_short_training_draws_the_roll():
    roll = SwissRoll()
    torch.manual_seed(0)
    model = Diffusion(MLP(2, width=96, depth=3), cosine(1000), predict="v")
    config = TrainConfig(steps=2500, batch=512, lr=2e-3)
    for _ in train(model, lambda n, rng: {"x": roll.sample(n, rng)}, config):
        pass
    start = sample.start((4000, 2), torch.Generator().manual_seed(0))
    drawn = sample.last(sample.ddim(model.denoiser(), start, model.schedule, steps=50))
    fresh = curve_distance(roll.sample(4000, np.random.default_rng(99)), roll).mean()
    assert curve_distance(drawn, roll).mean() < 1.5 * fresh
    coverage = arc_coverage(drawn, roll)
    assert coverage.share > 0.95 and coverage.ks < 0.06
