"""The plane's densities are what they say, and the digits are split once."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from minit2i.schedule import cosine, flow
from minit2i.worlds import digits
from minit2i.worlds.plane import Mixture, SwissRoll, TwoMoons, grid25

ROLL = SwissRoll()


def rng(seed=0):
    return np.random.default_rng(seed)


def mixture():
    means = torch.tensor([[0.0, 1.0], [2.0, -1.0], [-1.5, 0.5]])
    return Mixture(means, torch.tensor([0.3, 0.5, 0.8]), torch.tensor([0.5, 0.3, 0.2]))


class TestSwissRoll:
    def test_centre_and_scale(self):
        x = ROLL.sample(40_000, rng()).double()
        assert x.mean(0).abs().max() < 5 / 40_000**0.5
        assert abs(x.var(0).mean() - (1 + 0.02**2)) < 0.02

    def test_points_lie_on_the_curve_up_to_their_noise(self):
        distance, u = ROLL.project(ROLL.sample(20_000, rng()))
        # |N(0, σ²)|, and the curve is straight on the scale of σ
        assert abs(distance.mean() - 0.02 * math.sqrt(2 / math.pi)) < 4 * 0.012 / 20_000**0.5 + 1e-4
        assert stats.kstest(u.numpy(), "uniform").pvalue > 1e-4
        clean, _ = SwissRoll(noise=0.0).project(SwissRoll(noise=0.0).sample(2000, rng()))
        assert clean.max() < 1e-4

    def test_projection_agrees_with_a_fine_search(self):
        x = 1.5 * torch.randn(200, 2, generator=torch.Generator().manual_seed(0))
        fine = torch.from_numpy(ROLL.place(np.linspace(0, 1, 400_001))).float()
        best = torch.stack([(fine - p).norm(dim=1).min() for p in x])
        distance, u = ROLL.project(x)
        assert (distance - best).abs().max() < 2e-4
        there = torch.from_numpy(ROLL.place(u.numpy())).float()
        assert ((there - x).norm(dim=1) - best).abs().max() < 2e-3

    def test_same_generator_same_points(self):
        assert torch.equal(ROLL.sample(10, rng(3)), ROLL.sample(10, rng(3)))
        assert not torch.equal(ROLL.sample(10, rng(3)), ROLL.sample(10, rng(4)))

    def test_bad_arguments(self):
        with pytest.raises(ValueError, match="noise is a standard deviation"):
            SwissRoll(noise=-1.0)
        with pytest.raises(ValueError, match="n must be at least 1"):
            ROLL.sample(0, rng())


def test_two_moons_are_centred_scaled_and_labelled():
    x, y = TwoMoons(noise=0.0).sample_labelled(20_000, rng())
    assert x.mean(0).abs().max() < 0.03 and abs(x.var(0).mean() - 1) < 0.02
    assert y.double().mean() == 0.5
    # each moon is half a circle around its own centre
    radius = x[y == 0] * 0.705 + torch.tensor([0.5, 0.25])
    assert (radius.norm(dim=1) - 1).abs().max() < 1e-3


class TestMixture:
    def test_density_integrates_to_one(self):
        m, line = mixture(), torch.linspace(-6, 6, 601, dtype=torch.float64)
        p = m.log_prob(torch.cartesian_prod(line, line)).exp()
        assert abs(p.sum() * 0.02**2 - 1) < 1e-6

    def test_score_is_the_gradient_of_the_log_density(self):
        x = torch.randn(50, 2, dtype=torch.float64, requires_grad=True)
        (gradient,) = torch.autograd.grad(mixture().log_prob(x).sum(), x)
        assert torch.allclose(mixture().score(x.detach()), gradient, atol=1e-10)

    def test_posterior_is_bayes_rule(self):
        x, m = torch.randn(20, 2, dtype=torch.float64), mixture()
        joint = torch.stack([m.component(k).log_prob(x).exp() * m.weights[k] for k in range(3)], 1)
        assert torch.allclose(m.posterior(x), joint / joint.sum(1, keepdim=True))
        assert torch.allclose(m.log_prob(x), joint.sum(1).log())

    def test_samples_follow_weights_means_and_spreads(self):
        m = mixture()
        x, y = m.sample_labelled(30_000, rng())
        share = torch.bincount(y) / 30_000
        assert (share - m.weights).abs().max() < 5 * 0.5 / 30_000**0.5
        for k in range(3):
            part = x[y == k].double()
            assert (part.mean(0) - m.means[k]).abs().max() < 5 * m.std[k] / len(part) ** 0.5
            assert abs(part.var(0).mean().sqrt() / m.std[k] - 1) < 0.05

    def test_diffused_density_is_that_of_diffused_samples(self):
        m, schedule, t = mixture(), cosine(100), 40
        x, y = m.sample_labelled(100_000, rng())
        eps = torch.randn(len(x), 2, generator=torch.Generator().manual_seed(0))
        x_t = schedule.diffuse(x, torch.full((len(x),), t), eps)
        d = m.diffused(schedule, t)
        for k in range(3):
            part = x_t[y == k].double()
            assert (part.mean(0) - d.means[k]).abs().max() < 5 * d.std[k] / len(part) ** 0.5
            assert abs(part.var(0).mean().sqrt() / d.std[k] - 1) < 0.02

    @pytest.mark.parametrize("schedule", [cosine(100), flow(100)])
    def test_denoiser_is_the_posterior_mean_by_quadrature(self, schedule):
        m = Mixture(
            torch.tensor([[-1.0], [1.5]]), torch.tensor([0.4, 0.2]), torch.tensor([0.7, 0.3])
        )
        grid = torch.linspace(-5, 5, 4001, dtype=torch.float64)[:, None]
        prior = m.log_prob(grid).exp()
        for t in (1, 30, 70, 99):
            x_t = torch.tensor([[-0.8], [0.1], [1.0]], dtype=torch.float64)
            s, n = schedule.signal[t], schedule.noise[t]
            weight = prior * torch.exp(-((x_t - s * grid.T) ** 2) / (2 * n**2))
            mean = (weight * grid.T).sum(1) / weight.sum(1)
            got = m.denoiser(schedule)(x_t, torch.full((3,), t))
            assert torch.allclose(got[:, 0], mean, atol=1e-6)

    def test_denoiser_without_signal_is_the_mean_of_the_data(self):
        got = mixture().denoiser(flow(10))(torch.randn(2, 2), torch.tensor([10, 10]))
        assert torch.allclose(got.double(), (mixture().weights @ mixture().means).expand(2, 2))

    @pytest.mark.parametrize(
        ("std", "weights", "says"),
        [(-1.0, None, "at least 0"), (1.0, [0.5, 0.6, 0.2], "sum to 1"), (1.0, [1.0], "3 probab")],
    )
    def test_bad_arguments(self, std, weights, says):
        with pytest.raises(ValueError, match=says):
            Mixture(torch.zeros(3, 2), std, None if weights is None else torch.tensor(weights))


def test_25_gaussians_have_unit_variance():
    m = grid25()
    assert m.means.shape == (25, 2)
    assert torch.allclose(m.means.var(0, correction=0), torch.ones(2).double())
    assert torch.pdist(m.means).min() > 20 * m.std[0]


class TestDigits:
    def test_split(self):
        train, held = digits.load("train"), digits.load("held_out")
        assert train["x"].shape == (1200, 1, 8, 8) and held["x"].shape == (597, 1, 8, 8)
        assert train["x"].min() == -1 and train["x"].max() == 1
        for part in (train, held):
            assert torch.bincount(part["y"]).min() > 40
        assert torch.cdist(train["x"].flatten(1), held["x"].flatten(1)).min() > 0

    def test_pictures_belong_to_their_labels(self):
        from sklearn.datasets import load_digits

        known = {tuple(i.ravel()): t for i, t in zip(*load_digits(return_X_y=True), strict=True)}
        part = digits.load("held_out")
        for image, label in zip(part["x"], part["y"], strict=True):
            assert known[tuple(((image.flatten().double() + 1) * 8).tolist())] == label

    def test_unknown_split(self):
        with pytest.raises(ValueError, match="train, held_out"):
            digits.load("test")
