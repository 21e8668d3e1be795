"""Laws of guidance: exact Gaussian rows, identities between conventions and spaces, thresholds."""

import diffusers
import pytest
import torch

from minit2i import guide, sample, schedule
from minit2i.diffusion import target, to_eps, to_x0
from minit2i.worlds.plane import Mixture

LINEAR = schedule.linear(1000)
GRIDS = {1000: LINEAR.grid(), 50: LINEAR.grid(50, "linspace")}
CONDITIONAL, MARGINAL = (1.0, 0.25), (0.0, 1.25)


def gaussian(mean: float, var: float):
    """The exact denoiser of N(mean, var)."""

    def denoise(x, t):
        a, b = LINEAR.at(LINEAR.signal, t, x), LINEAR.at(LINEAR.noise, t, x)
        return mean + a * var / (a * a * var + b * b) * (x - a * mean)

    return denoise


def law_ddim(denoise, grid):
    """Exact mean and variance of DDIM samples of an affine denoiser: two points are enough."""
    x = torch.tensor([[0.0], [1.0]], dtype=torch.float64)
    zero, one = sample.last(sample.ddim(denoise, x, LINEAR, grid=grid)).flatten().tolist()
    return zero, (one - zero) ** 2


def law_ddpm(denoise, grid, monkeypatch):
    """The same for ancestral sampling, by its response to a unit of each noise that is drawn."""
    x = torch.zeros(len(grid), 1, dtype=torch.float64)
    x[0] = 1
    rows = iter(range(1, len(grid)))

    def unit(shape, *_):
        noise = torch.zeros(shape, dtype=torch.float64)
        noise[next(rows)] = 1
        return noise

    monkeypatch.setattr(sample, "start", unit)
    end = sample.last(sample.ddpm(denoise, x, LINEAR, grid=grid, variance="beta"))
    assert next(rows) == len(grid) - 1  # every step but the last drew once
    return end[-1].item(), (end - end[-1]).square().sum().item()


ROWS = {
    0: ((0, 1.2455), (0, 1.2494), (0, 1.16425)),
    1: ((0.99683, 0.24850), (0.99999, 0.25075), (0.99700, 0.22270)),
    2: ((1.31957, 0.04944), (1.20028, 0.10373), (1.31354, 0.03995)),
    3: ((1.39712, 0.00981), (1.24017, 0.06275), (1.38066, 0.00668)),
}


@pytest.mark.parametrize("scale", ROWS)
def test_classifier_free_rows_of_gaussians(scale, monkeypatch):
    """Published with four or five digits: held to half of the last one."""
    denoise = guide.classifier_free(gaussian(*CONDITIONAL), gaussian(*MARGINAL), scale)
    many, ancestral, few = ROWS[scale]
    tol = 5.1e-5 if scale == 0 else 6e-6
    assert law_ddim(denoise, GRIDS[1000]) == pytest.approx(many, abs=tol)
    assert law_ddim(denoise, GRIDS[50]) == pytest.approx(few, abs=tol)
    assert law_ddpm(denoise, GRIDS[1000], monkeypatch) == pytest.approx(ancestral, abs=tol)


@pytest.mark.parametrize("scale", [0.0, 1.0, 2.0, 3.0])
def test_variance_collapses_geometrically(scale):
    """Var = (s_c²)^g (s_u²)^(1-g) in the limit of many steps: the error falls with 1/steps."""
    denoise = guide.classifier_free(gaussian(*CONDITIONAL), gaussian(*MARGINAL), scale)
    limit = CONDITIONAL[1] ** scale * MARGINAL[1] ** (1 - scale)
    errors = [abs(law_ddim(denoise, LINEAR.grid(n))[1] / limit - 1) for n in (100, 1000)]
    assert errors[1] < 0.02 and errors[1] < 0.3 * errors[0]


@pytest.mark.parametrize(
    "slope, rows", [("aware", {1000: 0.99366, 50: 0.99388}), ("clean", {1000: 5.069, 50: 5.278})]
)
def test_classifier_rows_of_gaussians(slope, rows):
    """p = N(0, 1), p(y | x) ∝ exp(x): the exact conditional is N(1, 1)."""

    def log_prob(x, t):
        a = LINEAR.at(LINEAR.signal, t, x) if slope == "aware" else 1.0
        return (a * x).sum(1)

    denoise = guide.by_gradient(gaussian(0.0, 1.0), log_prob, LINEAR)
    for steps, mean in rows.items():
        assert law_ddim(denoise, GRIDS[steps])[0] == pytest.approx(
            mean, abs=6e-6 if slope == "aware" else 6e-4
        )


@pytest.mark.parametrize("scale", [0.0, 0.5, 3.0])
def test_classifier_scale_moves_the_mean_linearly(scale):
    def log_prob(x, t):
        return (LINEAR.at(LINEAR.signal, t, x) * x).sum(1)

    def mean(s):
        denoise = guide.by_gradient(gaussian(0.0, 1.0), log_prob, LINEAR, s)
        return law_ddim(denoise, GRIDS[50])

    assert mean(scale)[0] == pytest.approx(scale * mean(1.0)[0], abs=1e-9)
    assert mean(scale)[1] == pytest.approx(mean(1.0)[1], abs=1e-9)


# --- identities ---------------------------------------------------------------------------------


def field(seed: int):
    """A denoiser that is nothing in particular."""
    weight = torch.randn(6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))

    def denoise(x, t):
        return (x.flatten(1) @ weight).sin().view_as(x) + (t / 1000).view(-1, 1, 1, 1)

    return denoise


@pytest.fixture
def inputs():
    generator = torch.Generator().manual_seed(7)
    x = torch.randn(5, 1, 2, 3, dtype=torch.float64, generator=generator)
    return x, torch.randint(1, 1001, (5,), generator=generator)


def test_scales_one_and_zero_are_the_branches_themselves(inputs):
    def never(x, t):
        raise AssertionError("the unused branch was called")

    assert torch.equal(guide.classifier_free(field(1), never, 1)(*inputs), field(1)(*inputs))
    assert torch.equal(guide.classifier_free(never, field(2), 0)(*inputs), field(2)(*inputs))


def test_guidance_is_affine_in_the_scale(inputs):
    at = {g: guide.classifier_free(field(1), field(2), g)(*inputs) for g in (-1.5, 2.0, 5.5)}
    assert torch.allclose(at[2.0], (at[-1.5] + at[5.5]) / 2, atol=1e-12)
    assert not torch.allclose(at[2.0], at[5.5])


@pytest.mark.parametrize("predict", ["eps", "v", "velocity"])
def test_guidance_is_the_same_in_every_space_before_clipping_only(predict, inputs):
    path = schedule.flow(1000) if predict == "velocity" else schedule.cosine(1000)
    x, t = inputs
    t = t.clamp(max=900)

    def output(denoise):
        x0 = denoise(x, t)
        return target(predict, x0, to_eps(x0, x, t, path), t, path)

    combined = output(field(2)) + 3 * (output(field(1)) - output(field(2)))
    there = to_x0(predict, combined, x, t, path)
    here = guide.classifier_free(field(1), field(2), 3.0)
    assert torch.allclose(here(x, t), there, atol=1e-9)

    early = guide.classifier_free(guide.clamp(field(1)), guide.clamp(field(2)), 3.0)(x, t)
    late = guide.clamp(here)(x, t)
    assert late.abs().max() <= 1 < early.abs().max()


def test_conventions_of_the_papers_agree_with_their_formulas():
    c, u, w = 1.7, -0.4, 2.3
    formulas = {
        "ho-salimans": (1 + w) * c - w * u,
        "glide": u + w * (c - u),
        "imagen": w * c + (1 - w) * u,
    }
    for paper, expected in formulas.items():
        ours = u + guide.scale_from(paper, w) * (c - u)
        assert ours == pytest.approx(expected, abs=1e-12), paper
    with pytest.raises(ValueError, match="choose one of ho-salimans, glide, imagen"):
        guide.scale_from("parti", 1.0)


# --- exact mixtures -----------------------------------------------------------------------------

MIXTURE = Mixture(
    torch.tensor([[-1.0, 0.3], [1.2, 0.1], [0.2, 1.4]]),
    torch.tensor([0.3, 0.5, 0.7]),
    torch.tensor([0.5, 0.3, 0.2]),
)


def log_prob(y: int, path: schedule.Schedule):
    def of(x, t):
        noisy = MIXTURE.diffused(path, int(t[0]))
        return noisy.posterior(x)[:, y].log()

    return of


@pytest.mark.parametrize("index", [1, 300, 999])
@pytest.mark.parametrize("path", [LINEAR, schedule.cosine(1000)], ids=["linear", "cosine"])
def test_an_exact_classifier_makes_the_exact_conditional(path, index):
    x = torch.randn(40, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    x = path.signal[index] * MIXTURE.means[torch.arange(40) % 3] + path.noise[index] * x
    t = torch.full((40,), index)
    plain = MIXTURE.denoiser(path)
    for y in range(3):
        exact = MIXTURE.component(y).denoiser(path)
        for scale in (1.0, 2.5):
            free = guide.classifier_free(exact, plain, scale)(x, t)
            steered = guide.by_gradient(plain, log_prob(y, path), path, scale)(x, t)
            assert torch.allclose(steered, free, atol=1e-6), (y, scale)


def test_gradient_guidance_works_without_gradients_and_leaves_no_graph():
    x = torch.randn(4, 2, dtype=torch.float64)
    t = torch.full((4,), 500)
    with torch.no_grad():
        out = guide.by_gradient(MIXTURE.denoiser(LINEAR), log_prob(0, LINEAR), LINEAR)(x, t)
    assert not out.requires_grad and not x.requires_grad
    assert not torch.allclose(out, MIXTURE.denoiser(LINEAR)(x, t))


@pytest.mark.parametrize("index", [1, 200, 700])
def test_sum_rule(index):
    """The marginal score is the posterior mean of the conditional ones; so with denoisers."""
    x = torch.randn(30, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    noisy = MIXTURE.diffused(LINEAR, index)
    share = noisy.posterior(x)
    scores = sum(share[:, [y]] * noisy.component(y).score(x) for y in range(3))
    assert torch.allclose(scores, noisy.score(x), atol=1e-9)
    t = torch.full((30,), index)
    means = sum(share[:, [y]] * MIXTURE.component(y).denoiser(LINEAR)(x, t) for y in range(3))
    assert torch.allclose(means, MIXTURE.denoiser(LINEAR)(x, t), atol=1e-8)


# --- thresholds and inpainting ------------------------------------------------------------------


def constant(x0):
    return lambda x_t, t: x0


def test_clamp_is_a_projection(inputs):
    wild = guide.classifier_free(field(1), field(2), 4.0)
    once = guide.clamp(wild)(*inputs)
    assert once.abs().max() == 1 and torch.equal(guide.clamp(constant(once))(*inputs), once)
    inside = wild(*inputs).abs() <= 1
    assert inside.any() and torch.equal(once[inside], wild(*inputs)[inside])


@pytest.mark.parametrize("quantile", [0.5, 0.9, 0.995])
def test_dynamic_threshold_equals_that_of_diffusers(quantile):
    scale = torch.tensor([0.3, 1.0, 2.0, 8.0]).view(4, 1, 1, 1)
    x0 = scale * torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(11))
    theirs = diffusers.DDPMScheduler(
        thresholding=True, dynamic_thresholding_ratio=quantile, sample_max_value=1e6
    )
    mine = guide.dynamic_threshold(constant(x0), quantile)(x0, torch.ones(4))
    assert torch.allclose(mine, theirs._threshold_sample(x0), atol=1e-6)


def test_dynamic_threshold_is_per_sample_bounded_and_idle_inside():
    generator = torch.Generator().manual_seed(13)
    calm = torch.rand(1, 3, 4, 4, generator=generator) * 2 - 1
    wild = 5 * torch.randn(1, 3, 4, 4, generator=generator)
    out = guide.dynamic_threshold(constant(torch.cat([calm, wild])), 0.9)(calm, torch.ones(2))
    assert torch.equal(out[:1], calm)  # s = 1: nothing happens, whatever its neighbour does
    assert out.abs().max() == 1
    alone = guide.dynamic_threshold(constant(wild), 0.9)(wild, torch.ones(1))
    assert torch.equal(out[1:], alone)
    for bad in (0, 1.01, -0.1):
        with pytest.raises(ValueError, match=r"quantile must lie in \(0, 1\]"):
            guide.dynamic_threshold(constant(calm), bad)


def test_inpainting_ends_in_the_known_part_and_leaves_the_rest():
    path = schedule.cosine(100)
    known = torch.randn(6, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(17))
    mask = torch.tensor([1.0, 0.0], dtype=torch.float64).expand(6, 2)
    noise = torch.randn(6, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(18))
    denoise = guide.inpaint(MIXTURE.denoiser(path), known, mask)
    end = sample.last(sample.ddim(denoise, noise, path, steps=20))
    assert torch.allclose(end[:, 0], known[:, 0], atol=1e-12)
    t = torch.full((6,), 50)
    assert torch.equal(denoise(noise, t)[:, 1], MIXTURE.denoiser(path)(noise, t)[:, 1])
    free = guide.inpaint(MIXTURE.denoiser(path), known, torch.zeros(6, 2, dtype=torch.float64))
    assert torch.equal(free(noise, t), MIXTURE.denoiser(path)(noise, t))


def test_a_gradient_is_refused_where_no_signal_is_left():
    with pytest.raises(ValueError, match=r"where signal\[T\] = 0"):
        guide.by_gradient(field(1), lambda x, t: -(x**2).sum(1), schedule.flow(10))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_thresholds_work_in_half_precision(dtype):
    x, t = torch.linspace(-3, 3, 20, dtype=dtype).view(2, 10), torch.tensor([1, 1])
    for bounded in (guide.clamp(lambda x, t: x), guide.dynamic_threshold(lambda x, t: x, 0.9)):
        out = bounded(x, t)
        assert out.dtype == dtype and out.abs().max() == 1
