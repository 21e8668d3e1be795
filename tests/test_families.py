"""GAN, VAE and flow: their laws in closed form, on small cases where everything is known."""

import math
from functools import cache

import numpy as np
import pytest
import torch
from torch import nn

from minit2i.families import perceptron
from minit2i.families.flow import Coupling, Flow, real_nvp
from minit2i.families.gan import (
    GAN,
    discriminator_loss,
    gan,
    generator_loss,
    optimal_discriminator,
    train_gan,
)
from minit2i.families.vae import VAE, kl_to_prior, log_normal, reparameterise, vae
from minit2i.findings import families
from minit2i.train import TrainConfig, train


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def numbers(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# --- VAE ------------------------------------------------------------------------------------

W, SIGMA, X = 1.5, 0.5, 0.7  # probabilistic PCA in one dimension: x = W z + SIGMA ε


class Affine(nn.Module):
    """x -> slope x + offset, one row for each output."""

    def __init__(self, slope: list[float], offset: list[float]):
        super().__init__()
        self.register_buffer("slope", torch.tensor(slope, dtype=torch.float64))
        self.register_buffer("offset", torch.tensor(offset, dtype=torch.float64))

    def forward(self, x):
        return x * self.slope + self.offset


def ppca(posterior: bool) -> VAE:
    """The pPCA model, with its exact posterior as encoder or with N(0, 1)."""
    variance = SIGMA**2 / (W**2 + SIGMA**2)
    encoder = (
        Affine([W / (W**2 + SIGMA**2), 0.0], [0.0, math.log(variance)])
        if posterior
        else Affine([0.0, 0.0], [0.0, 0.0])
    )
    return VAE(encoder, Affine([W], [0.0]), latent=1, sigma=SIGMA, learned=False).double()


def expected_elbo(model: VAE, x: torch.Tensor) -> float:
    """The ELBO with its expectation over ε by Gauss-Hermite quadrature, exact for this model."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(20)
    eps = torch.from_numpy(nodes)[:, None]
    values = model.elbo(x.expand(20, 1), eps)
    return float((values * torch.from_numpy(weights)).sum() / math.sqrt(2 * math.pi))


def test_elbo_of_ppca_is_the_log_likelihood_at_the_exact_posterior():
    x = torch.tensor([[X]], dtype=torch.float64)
    evidence = -0.5 * (math.log(2 * math.pi * (W**2 + SIGMA**2)) + X**2 / (W**2 + SIGMA**2))
    assert evidence == pytest.approx(-1.4750838991, abs=1e-10)
    assert expected_elbo(ppca(posterior=True), x) == pytest.approx(evidence, abs=1e-7)


def test_gap_of_the_bound_is_the_kl_to_the_posterior():
    x = torch.tensor([[X]], dtype=torch.float64)
    gap = expected_elbo(ppca(posterior=True), x) - expected_elbo(ppca(posterior=False), x)
    mean, variance = W * X / (W**2 + SIGMA**2), SIGMA**2 / (W**2 + SIGMA**2)
    kl = 0.5 * ((1 + mean**2) / variance - 1 + math.log(variance))  # KL(N(0, 1) ‖ posterior)
    assert gap == pytest.approx(kl, abs=1e-6)
    assert gap == pytest.approx(4.230707, abs=1e-6)


def test_kl_and_log_normal_agree_with_torch_distributions():
    mean, log_variance = numbers(6, 3), numbers(6, 3, seed=1)
    q = torch.distributions.Normal(mean, (log_variance / 2).exp())
    prior = torch.distributions.Normal(torch.zeros_like(mean), torch.ones_like(mean))
    theirs = torch.distributions.kl_divergence(q, prior).sum(1)
    torch.testing.assert_close(kl_to_prior(mean, log_variance), theirs)
    log_sigma = torch.tensor(-0.7, dtype=torch.float64)
    theirs = torch.distributions.Normal(mean, log_sigma.exp()).log_prob(log_variance).sum(1)
    torch.testing.assert_close(log_normal(log_variance, mean, log_sigma), theirs)


def test_reparameterised_sample_has_its_mean_its_deviation_and_gradients():
    mean = torch.full((200_000, 1), 2.0, requires_grad=True)
    log_variance = torch.full((200_000, 1), 2 * math.log(0.3), requires_grad=True)
    z = reparameterise(mean, log_variance, torch.randn(200_000, 1))
    assert z.mean().item() == pytest.approx(2.0, abs=0.004)
    assert z.std().item() == pytest.approx(0.3, rel=0.01)
    z.sum().backward()
    assert (mean.grad == 1).all()
    torch.testing.assert_close(log_variance.grad, (z - mean).detach() / 2)


def test_decoder_with_a_useless_latent_learns_the_mean_and_the_data_variance():
    """Least squares without information gives the mean: why VAEs blur."""
    x = torch.cat([torch.randn(512, 1) * 0.1 + 3, torch.randn(512, 1) * 0.1 - 1])
    decoder = perceptron(1, 1, 16, 1)
    optimizer = torch.optim.Adam(decoder.parameters(), lr=1e-2)
    for _ in range(400):
        z = torch.randn(1024, 1)  # independent of x
        loss = (decoder(z) - x).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    drawn = decoder(torch.randn(2000, 1)).detach()
    assert drawn.mean() == pytest.approx(float(x.mean()), abs=0.15)
    assert drawn.std() < 0.25 < x.std()
    assert loss.item() == pytest.approx(float(x.var()), rel=0.05)


def test_forward_is_the_mean_negative_elbo_and_gives_every_parameter_a_gradient():
    model, x = vae(2, latent=3, width=8, depth=1), torch.randn(7, 2)
    torch.manual_seed(1)
    loss = model({"x": x})
    torch.manual_seed(1)
    torch.testing.assert_close(loss, -model.elbo(x).mean())
    loss.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


def test_stated_sigma_is_not_trained_and_learned_sigma_finds_the_noise():
    assert "log_sigma" not in dict(vae(2, 1, 8, learned=False).named_parameters())
    x = 0.25 * torch.randn(4096, 1) + 1
    model = vae(1, latent=1, width=8, depth=1)
    for _ in train(model, {"x": x}, TrainConfig(steps=400, batch=512, lr=1e-2, ema=0.9)):
        pass
    drawn = model.sample(20_000, torch.Generator().manual_seed(0))
    assert drawn.mean() == pytest.approx(1, abs=0.03)
    assert drawn.std() == pytest.approx(0.25, rel=0.06)


def test_vae_samples_carry_the_decoders_noise_and_means_do_not():
    model = VAE(Affine([0.0, 0.0], [0.0, 0.0]), Affine([0.0], [5.0]), latent=1, sigma=0.2)
    model = model.double()
    generator = torch.Generator().manual_seed(0)
    assert model.sample(20_000, generator).std() == pytest.approx(0.2, rel=0.03)
    assert (model.sample(10, generator, noise=False) == 5).all()


def test_vae_refuses_what_it_cannot_be():
    with pytest.raises(ValueError, match="above 0"):
        vae(2, 2, 8, sigma=0.0)
    with pytest.raises(ValueError, match="must give 4 numbers"):
        VAE(perceptron(2, 2, 8, 1), perceptron(2, 2, 8, 1), latent=2).elbo(torch.zeros(3, 2))


# --- flow -----------------------------------------------------------------------------------


def flow(dim: int = 2, layers: int = 4) -> Flow:
    """A float64 flow whose untrained layers already bend space a good deal."""
    model = real_nvp(dim, layers, width=16, depth=1).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.3)
    return model


@pytest.mark.parametrize("dim", [2, 3, 5])
def test_flow_inverse_undoes_the_flow(dim):
    model, x = flow(dim), numbers(40, dim)
    z = model.transform(x)[0]
    assert (z - x).abs().max() > 0.1
    assert (model.inverse(z) - x).abs().max() < 1e-10
    assert (model.transform(model.inverse(x))[0] - x).abs().max() < 1e-10


@pytest.mark.parametrize("dim", [2, 3, 5])
def test_log_determinant_equals_that_of_autograds_jacobian(dim):
    model, x = flow(dim), numbers(6, dim)
    log_det = model.transform(x)[1]
    for point, mine in zip(x, log_det, strict=True):
        jacobian = torch.autograd.functional.jacobian(
            lambda p: model.transform(p[None])[0][0], point
        )
        assert mine.item() == pytest.approx(torch.linalg.slogdet(jacobian)[1].item(), abs=1e-9)


def test_jacobian_of_one_coupling_is_triangular():
    layer = flow(4).layers[0]
    jacobian = torch.autograd.functional.jacobian(lambda p: layer(p[None])[0][0], numbers(4))
    kept, free = layer.mask.bool(), ~layer.mask.bool()
    assert (jacobian[kept][:, kept] == torch.eye(2, dtype=torch.float64)).all()
    assert (jacobian[kept][:, free] == 0).all()
    block = jacobian[free][:, free]
    assert (block - block.diagonal().diag() == 0).all()


@cache
def plane() -> tuple[Flow, torch.Tensor, float]:
    """A flow, its log p on a fine grid that holds nearly all mass, and the area of a cell."""
    torch.manual_seed(0)
    model, side = flow(), torch.linspace(-20, 20, 800, dtype=torch.float64)
    with torch.no_grad():
        log_p = model.log_prob(torch.cartesian_prod(side, side))
    return model, log_p, float(side[1] - side[0]) ** 2


def test_density_of_the_flow_integrates_to_one():
    _, log_p, cell = plane()
    assert float(log_p.exp().sum()) * cell == pytest.approx(1, abs=2e-3)


def test_stretching_the_data_shifts_the_log_density_by_d_log_c():
    class Stretch(nn.Module):
        def __init__(self, c):
            super().__init__()
            self.c = c

        def forward(self, x):
            return x / self.c, torch.full((len(x),), -x.shape[1] * math.log(self.c)).to(x)

        def inverse(self, y):
            return y * self.c

    model, x, c = flow(3), numbers(8, 3), 2.5
    stretched = Flow([Stretch(c), *model.layers], 3)
    torch.testing.assert_close(stretched.log_prob(c * x), model.log_prob(x) - 3 * math.log(c))


def test_flow_samples_follow_its_density():
    """E[-log p] over samples is the entropy, which the grid gives too."""
    model, log_p, cell = plane()
    entropy = -float((log_p.exp() * log_p).sum()) * cell
    with torch.no_grad():
        theirs = -model.log_prob(model.sample(40_000, torch.Generator().manual_seed(0)))
    assert theirs.mean().item() == pytest.approx(entropy, abs=4 * theirs.std().item() / 200 + 5e-3)


def test_flow_loss_reaches_the_entropy_of_gaussian_data():
    x = torch.randn(4096, 2) @ torch.tensor([[0.5, 0.3], [0.0, 0.4]]) + 1
    model = real_nvp(2, layers=4, width=16, depth=1)
    for _ in train(model, {"x": x}, TrainConfig(steps=300, batch=256, lr=1e-2, ema=0.95)):
        pass
    entropy = math.log(2 * math.pi * math.e) + math.log(0.5 * 0.4)
    with torch.no_grad():
        assert model({"x": x}).item() == pytest.approx(entropy, abs=0.04)


def test_scale_of_a_coupling_is_bounded():
    layer = flow().layers[0]
    with torch.no_grad():
        assert layer(1e3 * numbers(50, 2))[1].abs().max() <= layer.bound + 1e-12


def test_flow_refuses_what_it_cannot_couple():
    with pytest.raises(ValueError, match="two dimensions"):
        real_nvp(1)
    with pytest.raises(ValueError, match="zeros and ones"):
        Coupling([1.0, 1.0], perceptron(2, 4, 8, 1))
    with pytest.raises(ValueError, match=r"takes points \(b, 2\)"):
        real_nvp(2, 2, 8, 1).log_prob(torch.zeros(4, 3))


# --- GAN ------------------------------------------------------------------------------------


def logit(p: torch.Tensor) -> torch.Tensor:
    return p.log() - (1 - p).log()


def value(p: torch.Tensor, q: torch.Tensor, d: torch.Tensor) -> torch.Tensor:
    """E_p log D + E_q log(1 - D) on a finite set."""
    return (p * d.log() + q * (1 - d).log()).sum()


def test_optimal_discriminator_maximises_the_game_and_gives_the_js_divergence():
    p, q = (numbers(9, seed=s).softmax(0) for s in (0, 1))
    best = optimal_discriminator(p, q)
    middle = (p + q) / 2
    js = 0.5 * ((p * (p / middle).log()).sum() + (q * (q / middle).log()).sum())
    assert value(p, q, best).item() == pytest.approx(2 * js.item() - math.log(4), abs=1e-12)
    for step in (-1e-3, 1e-3):
        assert value(p, q, best + step) < value(p, q, best)
    equal = value(p, p, optimal_discriminator(p, p)).item()
    assert equal == pytest.approx(-1.386294, abs=1e-6)


def test_gradient_ascent_finds_the_optimal_discriminator():
    p, q = (numbers(5, seed=s).softmax(0) for s in (2, 3))
    free = torch.zeros(5, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([free], max_iter=200, tolerance_grad=1e-12)

    def closure():
        optimizer.zero_grad()
        loss = -value(p, q, free.sigmoid())
        loss.backward()
        return loss

    for _ in range(5):
        optimizer.step(closure)
    torch.testing.assert_close(free.sigmoid().detach(), p / (p + q), atol=1e-5, rtol=0)


def test_losses_are_the_papers_logarithms():
    real, fake = numbers(6), numbers(8, seed=1)
    d, g = real.sigmoid(), fake.sigmoid()
    torch.testing.assert_close(
        discriminator_loss(real, fake), -d.log().mean() - (1 - g).log().mean()
    )
    torch.testing.assert_close(generator_loss(fake), -g.log().mean())
    torch.testing.assert_close(generator_loss(fake, saturating=True), (1 - g).log().mean())
    assert discriminator_loss(0 * real, 0 * fake).item() == pytest.approx(math.log(4))


def test_only_the_saturating_gradient_vanishes_where_the_discriminator_is_sure():
    sure = torch.full((1,), -20.0, dtype=torch.float64, requires_grad=True)
    for saturating, size in ((False, 1.0), (True, 2e-9)):
        (gradient,) = torch.autograd.grad(generator_loss(sure, saturating), sure)
        assert -gradient.item() == pytest.approx(size, rel=0.05)  # both push the logit up


def test_discriminator_step_gives_the_generator_no_gradient():
    model = gan(2, latent=3, width=8, depth=1)
    model.discriminator_step(torch.randn(5, 2), model.noise(6)).backward()
    assert all(p.grad is None for p in model.generator.parameters())
    assert all(p.grad.abs().sum() > 0 for p in model.discriminator.parameters())


def test_generator_step_reaches_the_generator_through_the_discriminator():
    model = gan(2, latent=3, width=8, depth=1)
    model.generator_step(model.noise(6)).backward()
    assert all(p.grad.abs().sum() > 0 for p in model.generator.parameters())


def test_each_round_moves_both_players_and_leaves_the_average_behind():
    model = gan(1, latent=1, width=8, depth=1)
    first = {k: v.clone() for k, v in model.state_dict().items()}
    data = {"x": torch.randn(100, 1)}
    rounds = list(train_gan(model, data, steps=3, batch=16))
    assert [r.index for r in rounds] == [1, 2, 3]
    assert all(not torch.equal(v, first[k]) for k, v in model.state_dict().items())
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(tensor, rounds[-1].ema.state_dict()[name])


def test_gan_training_is_repeatable_and_leaves_the_global_random_state_alone():
    ends = []
    for _ in range(2):
        torch.manual_seed(3)
        model = gan(1, latent=1, width=8, depth=1)
        before = torch.get_rng_state()
        for _ in train_gan(model, {"x": torch.ones(10, 1)}, steps=4, batch=8, seed=5):
            pass
        assert torch.equal(before, torch.get_rng_state())
        ends.append(model.sample(4, torch.Generator().manual_seed(0)))
    assert torch.equal(*ends)


def test_gan_finds_where_the_data_is():
    model = gan(1, latent=1, width=16, depth=2)
    data = {"x": 0.5 * torch.randn(4096, 1) + 2}
    assert abs(model.sample(1000).mean() - 2) > 1
    for _ in train_gan(model, data, steps=400, batch=128, lr=3e-3, ema=0.99):
        pass
    assert model.sample(1000).mean() == pytest.approx(2, abs=0.2)


def test_gan_refuses_what_it_cannot_play():
    wide = GAN(perceptron(2, 2, 8, 1), perceptron(2, 2, 8, 1), latent=2)
    with pytest.raises(ValueError, match="one logit a sample"):
        wide.generator_step(wide.noise(3))
    with pytest.raises(ValueError, match="at least 1"):
        next(train_gan(gan(1, 1, 8), {"x": torch.zeros(4, 1)}, steps=0))
    with pytest.raises(ValueError, match="lower lr"):
        next(train_gan(gan(1, 1, 8), {"x": torch.full((4, 1), math.nan)}, steps=1))


# --- all ------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [lambda: gan(2, 2, 8), lambda: vae(2, 2, 8), real_nvp])
def test_samples_depend_on_the_generator_alone(make):
    model = make()
    first, second, other = (
        model.sample(6, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)
    )
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    assert first.shape == (6, 2) and not first.requires_grad


def test_families_of_the_finding_have_equal_parameters():
    counts = [
        families.parameters(families.build(family, choice))
        for family, (_, choices) in families.CHOICES.items()
        for choice in choices
    ]
    assert all(abs(count / 33_500 - 1) < 0.05 for count in counts)


def test_trilemma_axes_are_full_marks_for_the_data_itself():
    for world in families.WORLDS:
        figures = families.run(f"data {world}", 0)
        assert figures["quality"] > 0.98
        assert figures["coverage"] > 0.97
