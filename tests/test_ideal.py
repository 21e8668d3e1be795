"""The best possible denoiser, against plain enumeration and its limits."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch

from minit2i.worlds.scenes import Scene, parse, render
from minit2i.worlds.scenes.ideal import ideal
from minit2i.worlds.scenes.law import decode, given

SHIFTS = tuple(product((-1, 0, 1), repeat=2))


def moved(things, shifts):
    return Scene(tuple(replace(t, jitter=s) for t, s in zip(things, shifts, strict=True)))


def enumerated(x_t, demand, signal, noise, side):
    """Bayes' rule with every picture rendered: each scene with each shift of each thing."""
    codes, chance = given(demand)
    scenes, weights = [], []
    for code, p in zip(codes, chance, strict=True):
        things = decode(code).things
        for shifts in product(SHIFTS, repeat=len(things)):
            scenes.append(moved(things, shifts))
            weights.append(p)
    pictures = render(scenes, side).double()
    distance = (x_t.double() - signal * pictures).square().sum((1, 2, 3))
    score = torch.tensor(weights).log() - distance / (2 * noise**2)
    return (score.softmax(0)[:, None, None, None] * pictures).sum(0)


@pytest.mark.parametrize(
    "text, side",
    [
        ("a large red circle", 16),
        ("a small thing in the centre", 16),
        ("a small striped red circle at the top left and a small blue square on the right", 16),
        ("a small red square left of a small plain red square in the bottom right corner", 16),
        ("two small plain blue things, one on the left and one on the right", 16),
        ("a large green cross on the left", 64),
    ],
)
def test_it_is_bayes_rule_over_all_pictures(text, side):
    demand = parse(text)
    torch.manual_seed(0)
    truth = render([demand.example()], side)
    for signal, noise in ((0.9, 0.4), (0.4, 0.9), (0.1, 1.0)):
        x_t = signal * truth + noise * torch.randn_like(truth)
        mine = ideal(x_t, [demand], signal, noise)[0]
        assert torch.allclose(
            mine.double(), enumerated(x_t, demand, signal, noise, side), atol=1e-5
        )


def test_without_noise_it_is_the_picture_and_without_signal_the_mean():
    texts = ["a red circle", "two small blue squares", "a small grey thing above a large cross"]
    demands = [parse(text) for text in texts]
    torch.manual_seed(1)
    truth = render([decode(given(demand)[0][-1]) for demand in demands], 16)
    clear = ideal(truth + 1e-3 * torch.randn_like(truth), demands, 1.0, 1e-3)
    assert (clear - truth).abs().max() < 1e-4
    blind = ideal(torch.randn_like(truth), demands, 0.0, 1.0)
    rng = np.random.default_rng(0)
    for demand, mean in zip(demands, blind, strict=True):
        codes, chance = given(demand)
        picked = [decode(codes[k]).things for k in rng.choice(len(codes), 4000, p=chance)]
        scenes = [moved(things, [SHIFTS[rng.integers(9)] for _ in things]) for things in picked]
        assert (render(scenes, 16).mean(0) - mean).abs().max() < 0.06  # 5 deviations of 4,000


def test_bad_input_is_refused():
    demand = parse("a red circle")
    with pytest.raises(ValueError, match="2 pictures and 1 demands"):
        ideal(torch.zeros(2, 3, 16, 16), [demand], 0.5, 0.5)
    with pytest.raises(ValueError, match="noise must be positive"):
        ideal(torch.zeros(1, 3, 16, 16), [demand], 1.0, 0.0)
    with pytest.raises(ValueError, match="side of 16, 32, 64"):
        ideal(torch.zeros(1, 3, 8, 8), [demand], 0.5, 0.5)
