"""The best possible denoiser, against plain enumeration, its limits and the judge."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch

from minit2i import sample
from minit2i.schedule import Schedule, cosine
from minit2i.worlds.scenes import Scene, parse, render, satisfies
from minit2i.worlds.scenes.ideal import denoiser
from minit2i.worlds.scenes.law import decode, given

PATH = cosine(1000)
SHIFTS = tuple(product((-1, 0, 1), repeat=2))


def moved(things, shifts):
    return Scene(tuple(replace(t, jitter=s) for t, s in zip(things, shifts, strict=True)))


def enumerated(x_t, t, demand):
    """Bayes' rule with every picture rendered: each scene with each shift of each thing."""
    codes, chance = given(demand)
    scenes, weights = [], []
    for code, p in zip(codes, chance, strict=True):
        things = decode(code).things
        for shifts in product(SHIFTS, repeat=len(things)):
            scenes.append(moved(things, shifts))
            weights.append(p)
    pictures = render(scenes, x_t.shape[-1]).double()
    distance = (x_t.double() - PATH.signal[t] * pictures).square().sum((1, 2, 3))
    score = torch.tensor(weights).log() - distance / (2 * PATH.noise[t] ** 2)
    return (score.softmax(0)[:, None, None, None] * pictures).sum(0)


@pytest.mark.parametrize(
    "text, side",
    [
        ("a large red circle", 16),
        ("a small thing in the centre", 16),
        ("a small striped red circle at the top left and a small blue square on the right", 16),
        ("a small red square left of a small plain red square in the bottom right corner", 16),
        ("two small plain blue things, one on the left and one on the right", 16),
        (
            "a small red circle at the top left, a small red square at the top right, and a small "
            "plain grey thing in the bottom left corner",
            16,
        ),
        ("a large green cross on the left", 64),
    ],
)
def test_it_is_bayes_rule_over_all_pictures(text, side):
    demand = parse(text)
    torch.manual_seed(0)
    truth, ideal = render([demand.example()], side), denoiser([demand], PATH, side)
    for t in torch.tensor([[250], [700], [950]]):
        x_t = PATH.diffuse(truth, t, torch.randn_like(truth))
        assert torch.allclose(ideal(x_t, t)[0].double(), enumerated(x_t, t, demand), atol=1e-5)


def test_without_noise_it_is_the_picture_and_without_signal_the_mean():
    texts = ["a red circle", "two small blue squares", "a small grey thing above a large cross"]
    demands = [parse(text) for text in texts]
    path = Schedule([1.0, 1.0, 0.0], [0.0, 1e-3, 1.0])
    truth = render([decode(given(demand)[0][-1]) for demand in demands], 16)
    t = torch.tensor([1, 1, 1, 2, 2, 2])  # each picture at its own time
    torch.manual_seed(1)
    x_t = path.diffuse(truth.repeat(2, 1, 1, 1), t, torch.randn(6, 3, 16, 16))
    clear, blind = denoiser(demands * 2, path)(x_t, t).chunk(2)
    assert (clear - truth).abs().max() < 1e-4
    rng = np.random.default_rng(0)
    for demand, mean in zip(demands, blind, strict=True):
        codes, chance = given(demand)
        picked = [decode(codes[k]).things for k in rng.choice(len(codes), 4000, p=chance)]
        scenes = [moved(things, [SHIFTS[rng.integers(9)] for _ in things]) for things in picked]
        assert (render(scenes, 16).mean(0) - mean).abs().max() < 0.06  # 5 deviations of 4,000


def test_a_perfect_denoiser_draws_what_it_is_asked():
    texts = ["a red thing above a blue thing", "two small crosses", "a large thing"] * 4
    x = sample.start((12, 3, 16, 16), sample.seeds(0, 12))
    walk = sample.ddim(denoiser([parse(text) for text in texts], PATH), x, PATH, steps=25)
    assert all(verdict.exact for verdict in satisfies(sample.last(walk), texts))


def test_bad_input_is_refused():
    demand = parse("a red circle")
    ideal, one = denoiser([demand], PATH), torch.tensor([1])
    for shape, t in (((2, 3, 16, 16), one), ((1, 3, 32, 32), one), ((1, 3, 16, 16), one - 1)):
        with pytest.raises(ValueError, match=r"made for 1 pictures of 16 pixels at t ≥ 1, got \("):
            ideal(torch.zeros(shape), t)
    with pytest.raises(ValueError, match="side of 16, 32, 64"):
        denoiser([demand], PATH, 8)
    with pytest.raises(ValueError, match="without held-out compositions"):
        denoiser([parse("a purple circle")], PATH)
