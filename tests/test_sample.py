"""Laws of the samplers: exact variances, orders of convergence, and an independent library."""

import math
from itertools import pairwise

import pytest
import torch

from minit2i import sample, schedule
from minit2i.worlds.plane import Mixture

LINEAR = schedule.linear(1000)
# Final variance on N(m, s²) data, linear schedule, linspace grid, from a closed recursion.
TABLE = [  # s², steps, posterior (= DDIM with η 1), beta, DDIM with η 0
    (1.0, 1000, 0.991067, 0.999900, 0.996252),
    (1.0, 50, 0.855057, 0.999900, 0.928106),
    (1.0, 10, 0.520785, 0.999900, 0.663551),
    (0.25, 1000, 0.246125, 0.250752, 0.248498),
    (0.25, 50, 0.196420, 0.267883, 0.222704),
    (0.01, 1000, 0.009276, 0.010154, 0.009667),
    (0.01, 50, 0.004642, 0.016549, 0.006110),
    (0.01, 10, 0.000718, 0.125569, 0.001181),
]


def gaussian(mean, variance):
    return Mixture(torch.tensor([[float(mean)]]), math.sqrt(variance))


def denoiser(mean, variance, path):
    """The exact denoiser of N(mean, variance), written out: affine in x."""

    def denoise(x, t):
        a, b = (path.at(s, t, x) for s in (path.signal, path.noise))
        return mean + a * variance / (a**2 * variance + b**2) * (x - a * mean)

    return denoise


@pytest.fixture
def moments(monkeypatch):
    """(mean, variance) of a sampler's output for affine denoisers, without sampling.

    The output is affine in x_T and in the noise of each step, so a batch of unit vectors reads off
    every coefficient: sample 0 is all zero, sample 1 has x_T = 1, sample 2 + k the k-th noise 1.
    """

    def measure(walk, steps):
        x, calls = torch.zeros(steps + 2, 1, dtype=torch.float64), []
        x[1] = 1

        def unit(shape, generator=None, device=None, dtype=None):
            noise = torch.zeros(shape, dtype=dtype)
            noise[2 + len(calls)] = 1
            calls.append(True)
            return noise

        with monkeypatch.context() as patch:
            patch.setattr(sample, "start", unit)
            out = sample.last(walk(x)).flatten()
        return out[0].item(), (out[1:] - out[0]).square().sum().item()

    return measure


@pytest.mark.parametrize("mean", [0.0, 2.0])
@pytest.mark.parametrize("s2, steps, posterior, beta, ddim", TABLE)
def test_variance_on_gaussian_data(moments, mean, s2, steps, posterior, beta, ddim):
    denoise, grid = denoiser(mean, s2, LINEAR), LINEAR.grid(steps, "linspace")
    walks = {
        "posterior": lambda x: sample.ddpm(denoise, x, LINEAR, grid=grid),
        "beta": lambda x: sample.ddpm(denoise, x, LINEAR, grid=grid, variance="beta"),
        "eta 1": lambda x: sample.ddim(denoise, x, LINEAR, grid=grid, eta=1.0),
        "eta 0": lambda x: sample.ddim(denoise, x, LINEAR, grid=grid),
    }
    expected = {"posterior": posterior, "beta": beta, "eta 1": posterior, "eta 0": ddim}
    for name, walk in walks.items():
        got_mean, got_variance = moments(walk, steps)
        assert got_variance == pytest.approx(expected[name], abs=1e-6), name
        assert abs(got_mean - mean) < 0.1 * abs(mean) + 1e-12, name


def test_mean_on_gaussian_data(moments):
    """The golden means for m = 2, s² = 0.25, 50 steps: blind for m = 0, so not taken there."""
    denoise, grid = denoiser(2.0, 0.25, LINEAR), LINEAR.grid(50, "linspace")
    ancestral, _ = moments(lambda x: sample.ddpm(denoise, x, LINEAR, grid=grid), 50)
    deterministic, _ = moments(lambda x: sample.ddim(denoise, x, LINEAR, grid=grid), 50)
    assert ancestral == pytest.approx(1.99998, abs=1e-5)
    assert deterministic == pytest.approx(1.99400, abs=1e-5)


def test_mixture_denoiser_is_the_affine_one():
    x, t = torch.randn(5, 1, dtype=torch.float64), torch.full((5,), 300)
    exact = gaussian(2.0, 0.25).denoiser(LINEAR)(x, t)
    torch.testing.assert_close(exact, denoiser(2.0, 0.25, LINEAR)(x, t))


def test_ddim_step_of_unit_data_is_a_cosine():
    denoise = denoiser(0.0, 1.0, LINEAR)
    x = torch.tensor([[1.0], [-2.0]], dtype=torch.float64)
    theta = LINEAR.signal.acos().tolist()
    grid = LINEAR.grid(17)
    walked = sample.ddim(denoise, x, LINEAR, grid=grid)
    for out, (t, s) in zip(walked, pairwise(grid), strict=True):
        x = x * math.cos(theta[t] - theta[s])
        torch.testing.assert_close(out, x, atol=1e-12, rtol=0)


@pytest.mark.parametrize("name", ["linear", "cosine", "flow"])
@pytest.mark.parametrize("steps", [7, 200])
def test_ddim_with_eta_1_is_ddpm(name, steps):
    path = schedule.make(name, 200)
    denoise = denoiser(0.7, 0.3, path)
    x = sample.start((4, 2), generator(0), dtype=torch.float64)
    a = sample.ddpm(denoise, x, path, steps=steps, generator=generator(1))
    b = sample.ddim(denoise, x, path, steps=steps, eta=1.0, generator=generator(1))
    for one, other in zip(a, b, strict=True):
        torch.testing.assert_close(one, other, atol=1e-9, rtol=1e-9)


def generator(seed):
    return torch.Generator().manual_seed(seed)


# --- accuracy -----------------------------------------------------------------------------------

MEAN, S2 = 0.5, 0.25


def exact(path, t, x):
    """Where the probability-flow ODE takes x from index T to index t, for N(MEAN, S2) data."""

    def spread(i):
        return (path.signal[i] ** 2 * S2 + path.noise[i] ** 2).sqrt()

    return path.signal[t] * MEAN + spread(t) / spread(path.T) * (x - path.signal[path.T] * MEAN)


# Relative error of the map's slope, linear schedule, trailing grid, computed independently.
ERRORS = [
    (sample.ddim, {5: -0.475, 10: -0.260, 20: -0.137, 50: -0.0572}, 2e-3),
    (sample.dpm2m, {5: -0.457, 10: -0.190, 20: -0.0436, 50: 0.0011}, 2e-3),
]


@pytest.mark.parametrize("sampler, errors, tol", ERRORS, ids=["ddim", "dpm2m"])
def test_error_of_the_flow(sampler, errors, tol):
    x = torch.tensor([[0.0], [1.0]], dtype=torch.float64)
    low, high = exact(LINEAR, 0, x).flatten().tolist()
    for steps, expected in errors.items():
        out = sample.last(sampler(denoiser(MEAN, S2, LINEAR), x, LINEAR, steps=steps)).flatten()
        slope = (out[1] - out[0]).item() / (high - low)
        assert slope - 1 == pytest.approx(expected, abs=tol), steps


@pytest.mark.parametrize("sampler, order", [(sample.ddim, 1), (sample.dpm2m, 2)])
def test_order_of_convergence(sampler, order):
    """On a schedule even in λ, at index 1: theory is about a finite end."""
    half = torch.linspace(4, -4, 2560, dtype=torch.float64)
    path = schedule.Schedule(
        torch.cat([torch.ones(1), torch.sigmoid(2 * half).sqrt()]),
        torch.cat([torch.zeros(1), torch.sigmoid(-2 * half).sqrt()]),
    )
    x = torch.tensor([[-1.0], [0.3], [2.0]], dtype=torch.float64)

    def error(steps):
        grid = path.grid(steps, "linspace")
        xs = list(sampler(denoiser(MEAN, S2, path), x, path, grid=grid))
        return (xs[-2] - exact(path, 1, x)).norm().item()

    slope = math.log2(error(81) / error(321)) / 2
    assert slope == pytest.approx(order, abs=0.06)


def test_ddim_is_euler():
    """x/signal moves by the change of noise/signal times ε̂."""
    path, x = LINEAR, torch.randn(3, 2, dtype=torch.float64, generator=generator(0))
    denoise, grid = denoiser(MEAN, S2, path), [1000, 700, 300, 20, 0]
    ratio = path.noise / path.signal
    for out, (t, s) in zip(sample.ddim(denoise, x, path, grid=grid), pairwise(grid), strict=True):
        eps = (x - path.signal[t] * denoise(x, torch.full((3,), t))) / path.noise[t]
        moved = x / path.signal[t] + (ratio[s] - ratio[t]) * eps
        torch.testing.assert_close(out / path.signal[s], moved, rtol=1e-12, atol=1e-12)
        x = out


def test_one_step_of_dpm2m_is_ddim():
    x = torch.randn(3, 2, dtype=torch.float64, generator=generator(0))
    denoise = denoiser(MEAN, S2, LINEAR)
    for grid in ([1000, 0], [1000, 400, 0]):
        first = next(iter(sample.dpm2m(denoise, x, LINEAR, grid=grid)))
        torch.testing.assert_close(first, next(iter(sample.ddim(denoise, x, LINEAR, grid=grid))))


@pytest.mark.parametrize("sampler", [sample.ddim, sample.dpm2m])
def test_straight_path_agrees_with_the_exact_map(sampler):
    path = schedule.flow(1000)
    x = torch.randn(5, 2, dtype=torch.float64, generator=generator(0))
    want = exact(path, 0, x)
    coarse, fine = (
        (sample.last(sampler(denoiser(MEAN, S2, path), x, path, steps=n)) - want).norm().item()
        for n in (50, 500)
    )
    assert fine < 0.01
    assert fine < coarse / 8


@pytest.mark.parametrize("variance", ["posterior", "beta"])
def test_straight_path_by_ancestral_steps(moments, variance):
    path = schedule.flow(1000)
    denoise = denoiser(MEAN, S2, path)
    mean, v = moments(lambda x: sample.ddpm(denoise, x, path, variance=variance), 1000)
    assert mean == pytest.approx(MEAN, abs=0.01)
    assert v == pytest.approx(S2, rel=0.05)


@pytest.mark.parametrize("name", ["linear", "cosine", "flow"])
def test_invert_then_ddim_comes_back(name):
    path = schedule.make(name, 1000)
    denoise = denoiser(MEAN, S2, path)
    x0 = MEAN + 0.5 * torch.randn(20, 2, dtype=torch.float64, generator=generator(0))

    def off(steps):
        code = sample.last(sample.invert(denoise, x0, path, steps=steps))
        return (sample.last(sample.ddim(denoise, code, path, steps=steps)) - x0).norm().item()

    assert off(500) < 0.1
    assert off(500) < off(50) / 5


def test_invert_finds_the_code():
    path = schedule.cosine(1000)
    code = torch.randn(20, 1, dtype=torch.float64, generator=generator(0))
    denoise = denoiser(MEAN, S2, path)
    found = sample.last(sample.invert(denoise, exact(path, 0, code), path, steps=1000))
    assert (found - code).abs().max() < 0.05


# --- an independent library ---------------------------------------------------------------------


@pytest.fixture
def diffusers():
    return pytest.importorskip("diffusers")


def exactly(scheduler, path):
    """diffusers' scheduler with its float32 table replaced by ours."""
    scheduler.alphas_cumprod = path.alpha_bar[1:].clone()
    scheduler.one = torch.tensor(1.0, dtype=torch.float64)
    if hasattr(scheduler, "final_alpha_cumprod"):
        scheduler.final_alpha_cumprod = torch.tensor(1.0, dtype=torch.float64)
    return scheduler


def eps_of(denoise, x, index, path):
    """What a network that predicts ε returns at our index."""
    t = torch.full((len(x),), index)
    return (x - path.signal[index] * denoise(x, t)) / path.noise[index]


@pytest.mark.parametrize(
    "variance, theirs", [("posterior", "fixed_small"), ("beta", "fixed_large")]
)
@pytest.mark.parametrize("steps", [20, 1000])
def test_ddpm_equals_diffusers(diffusers, variance, theirs, steps):
    scheduler = diffusers.DDPMScheduler(
        num_train_timesteps=1000,
        clip_sample=False,
        variance_type=theirs,
        timestep_spacing="trailing",
    )
    exactly(scheduler, LINEAR).set_timesteps(steps)
    denoise = denoiser(MEAN, S2, LINEAR)
    start = sample.start((3, 1, 2, 2), generator(0), dtype=torch.float64)
    walk = sample.ddpm(
        denoise, start, LINEAR, steps=steps, variance=variance, generator=generator(1)
    )
    assert [int(t) + 1 for t in scheduler.timesteps] + [0] == LINEAR.grid(steps)
    x, noise = start, generator(1)
    for ours, t in zip(walk, scheduler.timesteps, strict=True):
        x = scheduler.step(eps_of(denoise, x, int(t) + 1, LINEAR), t, x, generator=noise)
        x = x.prev_sample
        if t == scheduler.timesteps[-1] and variance == "beta" and t > 0:
            # They end noiselessly at their index 0 only, which a trailing grid never meets.
            assert (ours - x).abs().max() > 0.01
        else:
            torch.testing.assert_close(ours, x, atol=1e-9, rtol=0)


@pytest.mark.parametrize("eta", [0.0, 0.6, 1.0])
def test_ddim_equals_diffusers(diffusers, eta):
    scheduler = diffusers.DDIMScheduler(
        num_train_timesteps=1000, clip_sample=False, timestep_spacing="trailing"
    )
    exactly(scheduler, LINEAR).set_timesteps(50)
    denoise = denoiser(MEAN, S2, LINEAR)
    start = sample.start((3, 1, 2, 2), generator(0), dtype=torch.float64)
    x, noise = start, generator(1)
    for t in scheduler.timesteps:
        eps = eps_of(denoise, x, int(t) + 1, LINEAR)
        z = torch.randn(x.shape, generator=noise, dtype=x.dtype)
        x = scheduler.step(eps, t, x, eta=eta, variance_noise=z if eta else None).prev_sample
    walk = sample.ddim(denoise, start, LINEAR, steps=50, eta=eta, generator=generator(1))
    torch.testing.assert_close(sample.last(walk), x, atol=1e-9, rtol=0)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize("order, sampler", [(1, sample.ddim), (2, sample.dpm2m)])
def test_dpm_solver_equals_diffusers(diffusers, order, sampler):
    """They keep their table of σ in float32, hence the tolerance."""
    scheduler = diffusers.DPMSolverMultistepScheduler(
        num_train_timesteps=1000,
        solver_order=order,
        algorithm_type="dpmsolver++",
        solver_type="midpoint",
        timestep_spacing="trailing",
        final_sigmas_type="zero",
        lower_order_final=True,
        euler_at_final=True,
    )
    exactly(scheduler, LINEAR).set_timesteps(20)
    denoise = denoiser(MEAN, S2, LINEAR)
    start = sample.start((3, 1, 2, 2), generator(0), dtype=torch.float64)
    x = start
    for t in scheduler.timesteps:
        x = scheduler.step(eps_of(denoise, x, int(t) + 1, LINEAR), t, x).prev_sample
    ours = sample.last(sampler(denoise, start, LINEAR, steps=20))
    torch.testing.assert_close(ours, x, atol=5e-6, rtol=0)


# --- what holds of every sampler ----------------------------------------------------------------

EVERY = {
    "posterior": sample.ddpm,
    "beta": lambda *a, **k: sample.ddpm(*a, variance="beta", **k),
    "ddim": sample.ddim,
    "eta": lambda *a, **k: sample.ddim(*a, eta=0.7, **k),
    "dpm2m": sample.dpm2m,
}
NOISY = ("posterior", "beta", "eta")
each = pytest.mark.parametrize("name", EVERY)


def walk(name, x, noise=None, **options):
    extra = {"generator": noise} if name in NOISY else {}
    return EVERY[name](denoiser(MEAN, S2, LINEAR), x, LINEAR, **options, **extra)


@each
def test_last_step_is_noiseless(name):
    """Two seeds that differ in the last step only would give two results if it drew noise."""
    x = torch.randn(3, 2, dtype=torch.float64, generator=generator(0))
    a, b = (sample.last(walk(name, x, generator(seed), grid=[40, 0])) for seed in (1, 2))
    assert torch.equal(a, b)
    torch.testing.assert_close(a, denoiser(MEAN, S2, LINEAR)(x, torch.full((3,), 40)))


@each
def test_one_generator_each_makes_samples_independent_of_the_batch(name):
    x = sample.start((5, 2), sample.seeds(10, 5), dtype=torch.float64)
    whole = sample.last(walk(name, x, sample.seeds(20, 5), steps=9))
    parts = [
        sample.last(walk(name, x[part], sample.seeds(20, 5)[part], steps=9))
        for part in (slice(0, 2), slice(2, 5))
    ]
    torch.testing.assert_close(whole, torch.cat(parts), atol=1e-13, rtol=0)
    torch.testing.assert_close(x[3:], sample.start((2, 2), sample.seeds(13, 2), dtype=x.dtype))


@each
def test_yields_once_a_step_and_leaves_x_alone(name):
    x = torch.randn(2, 1, 3, 3, generator=generator(0))
    before, grid = x.clone(), [1000, 500, 10, 0]
    seen = []
    for out in walk(name, x, generator(1), grid=grid):
        assert out.shape == x.shape and out.dtype == x.dtype
        seen.append(out)
    assert len(seen) == 3
    assert torch.equal(x, before)


@each
@pytest.mark.parametrize(
    "options",
    [
        {"steps": 0},
        {"steps": 1001},
        {"grid": [1000, 500]},
        {"grid": [0]},
        {"grid": [1001, 0]},
        {"grid": [500, 500, 0]},
        {"grid": [200, 500, 0]},
    ],
    ids=str,
)
def test_bad_walk_is_refused(name, options):
    with pytest.raises(ValueError):
        next(iter(walk(name, torch.zeros(2, 2), generator(0), **options)))


@each
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_start_that_is_not_finite_is_refused(name, bad):
    with pytest.raises(ValueError, match="finite"):
        next(iter(walk(name, torch.tensor([[0.0, bad]]), generator(0), steps=5)))


def test_bad_options_are_refused():
    x, denoise = torch.zeros(2, 2), denoiser(0, 1, LINEAR)
    with pytest.raises(ValueError, match="posterior"):
        next(iter(sample.ddpm(denoise, x, LINEAR, variance="small")))
    for eta in (-0.1, 1.1):
        with pytest.raises(ValueError, match="eta"):
            next(iter(sample.ddim(denoise, x, LINEAR, eta=eta)))
    with pytest.raises(ValueError, match="one for each"):
        sample.start((3, 2), sample.seeds(0, 2))
    with pytest.raises(ValueError, match="got 4 generators for 3 samples"):
        sample.start((3, 2), sample.seeds(0, 4))
    with pytest.raises(ValueError, match="no step"):
        sample.last([])
    for seed in (-1, 2**63):
        with pytest.raises(ValueError, match=r"from 0 to 2\^63"):
            sample.seeds(seed, 1)


def test_samplers_keep_no_graph():
    x = torch.zeros(2, 2, requires_grad=True)
    weight = torch.ones(1, requires_grad=True)
    out = sample.last(sample.ddim(lambda x, t: weight * x, x.detach(), LINEAR, steps=3))
    assert not out.requires_grad


def test_network_is_called_once_a_step_at_the_grid():
    called = []

    def denoise(x, t):
        called.append(t.tolist())
        return torch.zeros_like(x)

    x = torch.zeros(2, 2)
    for sampler in (sample.ddpm, sample.ddim, sample.dpm2m):
        called.clear()
        sample.last(sampler(denoise, x, LINEAR, grid=[1000, 321, 4, 0]))
        assert called == [[1000, 1000], [321, 321], [4, 4]]
    called.clear()
    sample.last(sample.invert(denoise, x, LINEAR, grid=[1000, 321, 4, 0]))
    assert called == [[4, 4], [4, 4], [321, 321]]
