"""Laws of the diffusion model of 2015."""

import math

import pytest
import torch
from torch import nn

from minit2i.families.diffusion2015 import Diffusion2015, RadialBasis, kl, schedule2015
from minit2i.schedule import jsd
from minit2i.train import TrainConfig, train


def gaussian_heads(schedule, std):
    """The heads that make every reverse step exact where the data is N(0, std² I)."""

    class Exact(nn.Module):
        unused = nn.Parameter(torch.zeros(1))

        def forward(self, x, t):
            at = lambda s: schedule.at(s, t, x)  # noqa: E731
            beta, before = at(schedule.beta), schedule.at(schedule.alpha_bar, t - 1, x)
            wide = before * std**2 + 1 - before  # Var(x_{t-1})
            total = (1 - beta) * wide + beta  # Var(x_t)
            gain = (1 - beta).sqrt() * wide / total
            push = (gain - (1 - beta).sqrt()) * x / beta.sqrt()
            spread = schedule.T**0.5 * ((beta * wide / total).logit() - beta.logit())
            return torch.cat([push, spread.expand_as(x)], dim=1)

    return Exact()


def entropy(std):
    """Bits per dimension of N(0, std²)."""
    return 0.5 * math.log2(2 * math.pi * math.e * std**2)


def test_kl_is_that_of_normal_distributions():
    torch.manual_seed(0)
    m1, m2, l1, l2 = torch.randn(4, 50, 2, dtype=torch.float64)
    first = torch.distributions.Normal(m1, (0.5 * l1).exp())
    second = torch.distributions.Normal(m2, (0.5 * l2).exp())
    expected = torch.distributions.kl_divergence(first, second)
    torch.testing.assert_close(kl(m1, l1, m2, l2), expected)
    assert kl(m1, l1, m1, l1).abs().max() < 1e-12
    assert not torch.allclose(kl(m1, l1, m2, l2), kl(m2, l2, m1, l1))


def test_schedule_erases_equal_shares_after_its_first_step():
    schedule, plain = schedule2015(40, first=1e-3), jsd(40)
    assert schedule.beta[1].item() == pytest.approx(1e-3)
    torch.testing.assert_close(schedule.beta[2:], plain.beta[2:])
    assert 0.02 < schedule.alpha_bar[-1] < 0.1
    with pytest.raises(ValueError, match="first"):
        schedule2015(40, first=0.0)


def test_a_fresh_network_returns_zero_and_the_hidden_layer_is_normalised():
    torch.manual_seed(0)
    net = RadialBasis(40, outputs=4)
    x, t = torch.randn(7, 2), torch.randint(1, 41, (7,))
    assert net(x, t).abs().max() == 0
    nn.init.ones_(net.readout)  # then the output is the sum of the units
    torch.testing.assert_close(net(x, t), torch.ones(7, 4))


def test_the_hidden_layer_is_shared_by_all_times_and_the_readout_is_not():
    torch.manual_seed(0)
    net = RadialBasis(40, outputs=4)
    net(torch.randn(5, 2), torch.full((5,), 7)).sum().backward()
    changed = net.readout.grad.abs().sum((1, 2)).nonzero().flatten().tolist()
    assert changed == [7]
    assert net.readout.shape == (41, 16, 4) and net.centres.shape == (16, 2)


def test_an_untrained_model_is_exact_for_unit_gaussian_data():
    """The debug case of the released code: heads 0 are optimal, the bound is -log p itself."""
    torch.manual_seed(0)
    model = Diffusion2015()
    x = torch.randn(20_000, 2)
    exact = (0.5 * x.square() + 0.5 * math.log(2 * math.pi)).mean(1) / math.log(2)
    error = (model.bound(x) - exact).mean().item()
    assert abs(error) < 0.02
    assert exact.mean().item() == pytest.approx(entropy(1), abs=0.02)
    at = torch.full((20_000,), 20)
    steps = model.step(x, at)
    schedule = model.schedule
    c0, ct, variance = (float(c) for c in schedule.posterior(20, 19))
    a, beta = 1 - float(schedule.beta[20]), float(schedule.beta[20])
    spread = (
        c0**2 - 2 * c0 * (a**0.5 - ct) * float(schedule.signal[20]) + (a**0.5 - ct) ** 2
    )  # E(c0 x0 + (ct - √a) x_t)² with Var x0 = Var x_t = 1, Cov = signal
    expected = 0.5 * (math.log(beta / variance) + variance / beta + spread / beta - 1)
    assert steps.mean().item() == pytest.approx(expected, rel=0.03)


@pytest.mark.parametrize("std", [0.5, 1.5])
def test_the_bound_is_above_the_entropy_and_tight_where_the_reverse_is_exact(std):
    """Only the prior and the fixed first step are then missed, by amounts known in closed form."""
    torch.manual_seed(0)
    schedule = schedule2015()
    model = Diffusion2015(gaussian_heads(schedule, std).double(), schedule)
    x = std * torch.randn(40_000, 2, dtype=torch.float64)
    bound = model.bound(x)
    a = float(schedule.alpha_bar[-1])
    total = a * std**2 + 1 - a
    prior = 0.5 * (total - 1 - math.log(total))
    one, b = (1 - 1e-3) * std**2 + 1e-3, 1e-3  # Var(x_1); the exact last step against the fixed
    gain, narrow = (1 - b) ** 0.5 * std**2 / one, b * std**2 / one
    fixed = 0.5 * (narrow / b - 1 - math.log(narrow / b))
    fixed += 0.5 * (gain - (1 - b) ** 0.5) ** 2 * one / b
    expected = entropy(std) + (prior + fixed) / math.log(2)
    error = 4 * bound.std().item() / len(x) ** 0.5
    assert bound.mean().item() == pytest.approx(expected, abs=error)
    assert bound.mean().item() > entropy(std) - error
    assert expected - entropy(std) < 0.02
    fresh = Diffusion2015(schedule=schedule).bound(x.float()).mean().item()
    assert fresh > bound.mean().item() + 0.01


@pytest.mark.parametrize("T", [3, 40])  # a short chain shows how many steps are counted
def test_the_loss_is_the_bound_in_the_mean(T):
    torch.manual_seed(0)
    model = Diffusion2015(schedule=schedule2015(T))
    nn.init.normal_(model.heads.readout, std=0.3)
    x = 0.5 * torch.randn(40_000, 2)
    draws = torch.stack([model({"x": x}) for _ in range(8)])
    error = 4 * draws.std().item() / 8**0.5 + 0.02
    assert model.bound(x).mean().item() == pytest.approx(draws.mean().item(), abs=error)


def test_the_first_step_is_fixed_and_never_trained():
    torch.manual_seed(0)
    model = Diffusion2015()
    model({"x": torch.randn(4000, 2)}).backward()
    used = model.heads.readout.grad.abs().sum((1, 2)) > 0
    assert not used[:2].any() and used[2:].all()


def test_training_lowers_the_bound_and_samples_follow_the_data():
    torch.manual_seed(0)
    model = Diffusion2015()
    before = model.bound(0.3 * torch.randn(2000, 2)).mean().item()
    config = TrainConfig(300, batch=256, lr=0.03, warmup=10)

    def data(n, rng):
        return {"x": torch.from_numpy(0.3 * rng.standard_normal((n, 2))).float()}

    for _ in train(model, data, config):
        pass
    after = model.bound(0.3 * torch.randn(2000, 2)).mean().item()
    assert entropy(0.3) - 0.05 < after < before - 0.3
    x = model.sample(4000, torch.Generator().manual_seed(0))
    assert x.shape == (4000, 2)
    assert 0.25 < x.std() < 0.4
    again = model.sample(4000, torch.Generator().manual_seed(0))
    assert torch.equal(x, again)


def test_the_sampler_ends_at_the_first_index():
    model = Diffusion2015()
    assert len(list(model.trajectory(3, torch.Generator().manual_seed(0)))) == model.schedule.T - 1


@pytest.mark.parametrize("shape", [(5, 3), (5,), (5, 1, 2)])
def test_points_of_another_shape_are_refused(shape):
    model = Diffusion2015()
    with pytest.raises((ValueError, TypeError)):
        model({"x": torch.randn(shape)})
