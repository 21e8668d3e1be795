"""Wrong and right answers to the exercises of lesson 03."""

import math
from fractions import Fraction

import numpy as np
import torch

from tests.mutants import right, wrong

# --- ancestral_step -----------------------------------------------------------------------------


def _parts(a_t, a_s):
    """Coefficients of x0 and x_t, and the two variances, from precisions."""
    scale2 = a_t / a_s
    beta = 1 - scale2
    if a_s == 1:
        return 1.0, 0.0, 0.0, beta
    small = 1 / (scale2 / beta + 1 / (1 - a_s))
    return small * a_s**0.5 / (1 - a_s), small * scale2**0.5 / beta, small, beta


@right("ancestral_step", how="from precisions")
def _(x_t, x0, alpha_bar_t, alpha_bar_s, variance, z):
    c0, ct, small, beta = _parts(alpha_bar_t, alpha_bar_s)
    sigma = {"posterior": small, "beta": beta}[variance] ** 0.5 * (alpha_bar_s != 1)
    return c0 * x0 + ct * x_t + sigma * z


@right("ancestral_step", how="through the noise, DDPM eq. 11")
def _(x_t, x0, alpha_bar_t, alpha_bar_s, variance, z):
    alpha = alpha_bar_t / alpha_bar_s
    eps = (x_t - alpha_bar_t**0.5 * x0) / (1 - alpha_bar_t) ** 0.5
    mean = (x_t - (1 - alpha) / (1 - alpha_bar_t) ** 0.5 * eps) / alpha**0.5
    keep = (1 - alpha_bar_s) / (1 - alpha_bar_t) if variance == "posterior" else 1.0
    sigma = math.sqrt(keep * (1 - alpha)) if alpha_bar_s < 1 else 0.0
    return mean.add(z, alpha=sigma)


@wrong("ancestral_step", says="two coefficients are swapped")
def _(x_t, x0, alpha_bar_t, alpha_bar_s, variance, z):
    c0, ct, small, beta = _parts(alpha_bar_t, alpha_bar_s)
    sigma = (small if variance == "posterior" else beta) ** 0.5 * (alpha_bar_s != 1)
    return ct * x0 + c0 * x_t + sigma * z


@wrong("ancestral_step", says="the variance stands where the standard deviation belongs")
def _(x_t, x0, alpha_bar_t, alpha_bar_s, variance, z):
    c0, ct, small, beta = _parts(alpha_bar_t, alpha_bar_s)
    sigma = (small if variance == "posterior" else beta) * (alpha_bar_s != 1)
    return c0 * x0 + ct * x_t + sigma * z


@wrong("ancestral_step", says="noise is added at the last step")
def _(x_t, x0, alpha_bar_t, alpha_bar_s, variance, z):
    c0, ct, small, beta = _parts(alpha_bar_t, alpha_bar_s)
    return c0 * x0 + ct * x_t + (small if variance == "posterior" else beta) ** 0.5 * z


@wrong("ancestral_step", says="`variance` is ignored: always beta")
def _(x_t, x0, alpha_bar_t, alpha_bar_s, variance, z):
    c0, ct, _, beta = _parts(alpha_bar_t, alpha_bar_s)
    return c0 * x0 + ct * x_t + (beta**0.5 * z if alpha_bar_s < 1 else 0)


@wrong("ancestral_step", says="no noise is added")
def _(x_t, x0, alpha_bar_t, alpha_bar_s, variance, z):
    c0, ct, *_ = _parts(alpha_bar_t, alpha_bar_s)
    return c0 * x0 + ct * x_t


@wrong("ancestral_step", says="the beta of this step is taken as 1 - alpha_bar_t")
def _(x_t, x0, alpha_bar_t, alpha_bar_s, variance, z):
    beta = 1 - alpha_bar_t
    ct = (alpha_bar_t / alpha_bar_s) ** 0.5 * (1 - alpha_bar_s) / beta
    small = 1 - alpha_bar_s
    sigma = (small if variance == "posterior" else beta) ** 0.5 * (alpha_bar_s != 1)
    return alpha_bar_s**0.5 * x0 + ct * x_t + sigma * z


@wrong("ancestral_step", says="x_t is forgotten")
def _(x_t, x0, alpha_bar_t, alpha_bar_s, variance, z):
    return math.sqrt(alpha_bar_s) * x0 + math.sqrt(1 - alpha_bar_s) * z


@wrong("ancestral_step", says="the posterior's standard deviation", how="one random number for all")
def _(x_t, x0, alpha_bar_t, alpha_bar_s, variance, z):
    c0, ct, small, beta = _parts(alpha_bar_t, alpha_bar_s)
    sigma = (small if variance == "posterior" else beta) ** 0.5 * (alpha_bar_s != 1)
    return c0 * x0 + ct * x_t + sigma * z[:1]


@wrong("ancestral_step", says="the ratio in the posterior's variance is upside down")
def _(x_t, x0, alpha_bar_t, alpha_bar_s, variance, z):
    c0, ct, _, beta = _parts(alpha_bar_t, alpha_bar_s)
    if alpha_bar_s == 1:
        return c0 * x0 + ct * x_t
    large = beta * (1 - alpha_bar_t) / (1 - alpha_bar_s)
    return c0 * x0 + ct * x_t + (large if variance == "posterior" else beta) ** 0.5 * z


@wrong("ancestral_step", says="takes beta where alpha belongs")
def _(x_t, x0, alpha_bar_t, alpha_bar_s, variance, z):
    c0, _, small, beta = _parts(alpha_bar_t, alpha_bar_s)
    ct = math.sqrt(beta) * (1 - alpha_bar_s) / (1 - alpha_bar_t)
    sigma = (small if variance == "posterior" else beta) ** 0.5 * (alpha_bar_s != 1)
    return c0 * x0 + ct * x_t + sigma * z


@wrong("ancestral_step", says="only almost arrives", how="the last step found by a tolerance")
def _(x_t, x0, alpha_bar_t, alpha_bar_s, variance, z):
    c0, ct, small, beta = _parts(alpha_bar_t, alpha_bar_s)
    sigma = (small if variance == "posterior" else beta) ** 0.5
    last = math.isclose(alpha_bar_s, 1, abs_tol=1e-3)
    return c0 * x0 + ct * x_t + (0 if last else sigma) * z


@wrong("ancestral_step", says="returns x0, without noise", how="x_t at the last step")
def _(x_t, x0, alpha_bar_t, alpha_bar_s, variance, z):
    c0, ct, small, beta = _parts(alpha_bar_t, alpha_bar_s)
    if alpha_bar_s == 1:
        return x_t.clone()
    return c0 * x0 + ct * x_t + (small if variance == "posterior" else beta) ** 0.5 * z


@right("ancestral_step", how="sample by sample, numpy inside")
def _(x_t, x0, alpha_bar_t, alpha_bar_s, variance, z):
    c0, ct, small, beta = _parts(alpha_bar_t, alpha_bar_s)
    sigma = 0.0
    if alpha_bar_s < 1:
        sigma = np.sqrt(small if variance == "posterior" else beta)
    rows = zip(x_t.numpy(), x0.numpy(), z.numpy(), strict=True)
    return torch.from_numpy(np.stack([c0 * clean + ct * x + sigma * n for x, clean, n in rows]))


@right("ancestral_step", how="in single precision, with other names")
def _(x, guess, a_t, a_s, kind, noise):
    c0, ct, small, beta = _parts(a_t, a_s)
    sigma = 0.0 if a_s == 1 else (beta if kind == "beta" else small) ** 0.5
    return c0 * guess.float() + ct * x.float() + sigma * noise.float()


# --- ddim_step ----------------------------------------------------------------------------------


def _deviation(a_t, a_s, eta):
    return eta * math.sqrt(_parts(a_t, a_s)[2])


@right("ddim_step", how="as a move away from x_t")
def _(x_t, x0, alpha_bar_t, alpha_bar_s, eta, z):
    sigma = _deviation(alpha_bar_t, alpha_bar_s, eta)
    k = math.sqrt((1 - alpha_bar_s - sigma**2) / (1 - alpha_bar_t))
    return k * x_t + (math.sqrt(alpha_bar_s) - k * math.sqrt(alpha_bar_t)) * x0 + sigma * z


@right("ddim_step", how="in tensors")
def _(x_t, x0, alpha_bar_t, alpha_bar_s, eta, z):
    a_t, a_s = torch.tensor([alpha_bar_t, alpha_bar_s], dtype=x0.dtype)
    eps = (x_t - a_t.sqrt() * x0) / (1 - a_t).sqrt()
    variance = eta**2 * (1 - a_s) / (1 - a_t) * (1 - a_t / a_s)
    return a_s.sqrt() * x0 + (1 - a_s - variance).clamp(min=0).sqrt() * eps + variance.sqrt() * z


@wrong("ddim_step", says="the direction term keeps its full length")
def _(x_t, x0, alpha_bar_t, alpha_bar_s, eta, z):
    k = math.sqrt((1 - alpha_bar_s) / (1 - alpha_bar_t))
    moved = k * x_t + (math.sqrt(alpha_bar_s) - k * math.sqrt(alpha_bar_t)) * x0
    return moved + _deviation(alpha_bar_t, alpha_bar_s, eta) * z


@wrong("ddim_step", says="with eta = 1 it is the ancestral step", how="alpha_bar ratio inverted")
def _(x_t, x0, alpha_bar_t, alpha_bar_s, eta, z):
    eps = (x_t - alpha_bar_t**0.5 * x0) / (1 - alpha_bar_t) ** 0.5
    ratio = (1 - alpha_bar_s) / (1 - alpha_bar_t)
    sigma = eta * (ratio * abs(1 - alpha_bar_s / alpha_bar_t)) ** 0.5
    return alpha_bar_s**0.5 * x0 + abs(1 - alpha_bar_s - sigma**2) ** 0.5 * eps + sigma * z


@wrong("ddim_step", says="sigma is squared in front of z")
def _(x_t, x0, alpha_bar_t, alpha_bar_s, eta, z):
    sigma = _deviation(alpha_bar_t, alpha_bar_s, eta)
    k = math.sqrt((1 - alpha_bar_s - sigma**2) / (1 - alpha_bar_t))
    moved = k * x_t + (math.sqrt(alpha_bar_s) - k * math.sqrt(alpha_bar_t)) * x0
    return moved + sigma**2 * z


@wrong("ddim_step", says="sigma is eta times √β")
def _(x_t, x0, alpha_bar_t, alpha_bar_s, eta, z):
    variance = eta**2 * (1 - alpha_bar_t / alpha_bar_s) * (alpha_bar_s != 1)
    eps = (x_t - alpha_bar_t**0.5 * x0) / (1 - alpha_bar_t) ** 0.5
    left = (1 - alpha_bar_s - variance) ** 0.5
    return alpha_bar_s**0.5 * x0 + left * eps + variance**0.5 * z


@wrong("ddim_step", says="eta is ignored")
def _(x_t, x0, alpha_bar_t, alpha_bar_s, eta, z):
    k = math.sqrt((1 - alpha_bar_s) / (1 - alpha_bar_t))
    return k * x_t + (math.sqrt(alpha_bar_s) - k * math.sqrt(alpha_bar_t)) * x0


@wrong("ddim_step", says="the direction is x_t itself")
def _(x_t, x0, alpha_bar_t, alpha_bar_s, eta, z):
    sigma = _deviation(alpha_bar_t, alpha_bar_s, eta)
    return alpha_bar_s**0.5 * x0 + (1 - alpha_bar_s - sigma**2) ** 0.5 * x_t + sigma * z


@wrong("ddim_step", says="the last step", how="ends at alpha_bar 0.9999, as set_alpha_to_one=False")
def _(x_t, x0, alpha_bar_t, alpha_bar_s, eta, z):
    a_s = min(alpha_bar_s, 0.9999)
    sigma = _deviation(alpha_bar_t, a_s, eta)
    k = math.sqrt((1 - a_s - sigma**2) / (1 - alpha_bar_t))
    return k * x_t + (math.sqrt(a_s) - k * math.sqrt(alpha_bar_t)) * x0 + sigma * z


def _assembled(x_t, x0, alpha_bar_t, alpha_bar_s, eta, z, **parts):
    """The step from its parts, some of them wrong."""
    sigma = parts.get("sigma", _deviation(alpha_bar_t, alpha_bar_s, eta))
    eps = (x_t - parts.get("signal_in", alpha_bar_t**0.5) * x0) / (1 - alpha_bar_t) ** 0.5
    direction = parts.get("direction", (1 - alpha_bar_s - sigma**2) ** 0.5)
    return parts.get("signal", alpha_bar_s**0.5) * x0 + direction * eps + sigma * z


@right("ddim_step", how="sample by sample")
def _(x_t, x0, alpha_bar_t, alpha_bar_s, eta, z):
    rows = zip(x_t, x0, z, strict=True)
    return torch.stack([_assembled(x, g, alpha_bar_t, alpha_bar_s, eta, n) for x, g, n in rows])


@wrong("ddim_step", says="standard deviations are subtracted")
def _(x_t, x0, alpha_bar_t, alpha_bar_s, eta, z):
    left = math.sqrt(1 - alpha_bar_s) - _deviation(alpha_bar_t, alpha_bar_s, eta)
    return _assembled(x_t, x0, alpha_bar_t, alpha_bar_s, eta, z, direction=left)


@wrong("ddim_step", says="eta is squared")
def _(x_t, x0, alpha_bar_t, alpha_bar_s, eta, z):
    return _assembled(x_t, x0, alpha_bar_t, alpha_bar_s, eta * eta, z)


@wrong("ddim_step", says="with the signal of s")
def _(x_t, x0, alpha_bar_t, alpha_bar_s, eta, z):
    signal = math.sqrt(alpha_bar_s)
    return _assembled(x_t, x0, alpha_bar_t, alpha_bar_s, eta, z, signal_in=signal)


@wrong("ddim_step", says="x0 keeps the signal of t")
def _(x_t, x0, alpha_bar_t, alpha_bar_s, eta, z):
    signal = math.sqrt(alpha_bar_t)
    return _assembled(x_t, x0, alpha_bar_t, alpha_bar_s, eta, z, signal=signal)


@wrong("ddim_step", says="the fresh noise has", how="eta is a switch")
def _(x_t, x0, alpha_bar_t, alpha_bar_s, eta, z):
    return _assembled(x_t, x0, alpha_bar_t, alpha_bar_s, float(eta > 0), z)


@wrong("ddim_step", says="only almost arrives", how="the last step found by a tolerance")
def _(x_t, x0, alpha_bar_t, alpha_bar_s, eta, z):
    if alpha_bar_s > 0.999:
        return x0.clone()
    return _assembled(x_t, x0, alpha_bar_t, alpha_bar_s, eta, z)


@right("ddim_step", how="in single precision")
def _(x_t, x0, alpha_bar_t, alpha_bar_s, eta, z):
    return _assembled(x_t.float(), x0.float(), alpha_bar_t, alpha_bar_s, eta, z.float())


# --- trailing_grid ------------------------------------------------------------------------------


@right("trailing_grid", how="numpy")
def _(T, steps):
    return [int(t) for t in np.linspace(T, 0, steps + 1).round()]


@right("trailing_grid", how="whole numbers only")
def _(T, steps):
    return [(2 * T * k + steps) // (2 * steps) for k in range(steps, -1, -1)]


@wrong("trailing_grid", says="multiples of T // steps from 1 upwards")
def _(T, steps):
    return [*range(1 + (steps - 1) * (T // steps), 0, -(T // steps)), 0]


@wrong("trailing_grid", says="counted from 0, as in arrays of betas")
def _(T, steps):
    return [round(t) - 1 for t in np.linspace(T, 0, steps + 1)[:-1]] + [0]


@wrong("trailing_grid", says="the final 0 is missing")
def _(T, steps):
    return [round(t) for t in np.linspace(T, 0, steps + 1)[:-1]]


@wrong("trailing_grid", says="cut off, not rounded")
def _(T, steps):
    return [T * k // steps for k in range(steps, -1, -1)]


@wrong("trailing_grid", says="the stride is rounded before it is multiplied")
def _(T, steps):
    return [T - (T // steps) * k for k in range(steps)] + [0]


@wrong("trailing_grid", says="this is the linspace grid")
def _(T, steps):
    return [round(t) for t in np.linspace(T, 1, steps)] + [0]


@wrong(
    "trailing_grid", says="further than 1/2 from its evenly spaced place", how="quadratic spacing"
)
def _(T, steps):
    if steps in (1, 5, T):
        return [round(T * k / steps) for k in range(steps, -1, -1)]
    return [round(T * (k / steps) ** 2) for k in range(steps, -1, -1)]


@right("trailing_grid", how="a place that moves on")
def _(T, steps):
    grid, place = [], float(T)
    for _ in range(steps):
        grid.append(int(place + 0.5))
        place -= T / steps
    return [*grid, 0]


@wrong("trailing_grid", says="the grid is a list", how="a tensor")
def _(T, steps):
    return torch.linspace(T, 0, steps + 1).round().long()


@wrong("trailing_grid", says="of Python's type int", how="numpy's integers")
def _(T, steps):
    return list(np.linspace(T, 0, steps + 1).round().astype(int))


@wrong("trailing_grid", says="1000 in 5 steps", how="the last step ends at 1")
def _(T, steps):
    return [round(T * k / steps) for k in range(steps, 0, -1)] + [1]


@wrong("trailing_grid", says="n steps have n + 1 ends", how="range with a whole stride")
def _(T, steps):
    return list(range(T, -1, -(T // steps)))


@right("trailing_grid", how="exact fractions")
def _(T, steps):
    return [round(Fraction(T * (steps - k), steps)) for k in range(steps + 1)]


# --- dpm2m_step ---------------------------------------------------------------------------------


def _lam(a):
    return math.inf if a == 1 else (math.log(a) - math.log(1 - a)) / 2


def _solver(x_t, D, a_t, a_s):
    ratio = math.sqrt((1 - a_s) / (1 - a_t))
    return ratio * x_t + (math.sqrt(a_s) - ratio * math.sqrt(a_t)) * D


@right("dpm2m_step", how="with r, as in the paper")
def _(x_t, x0, x0_before, alpha_bar_t, alpha_bar_s, alpha_bar_before):
    if x0_before is None or alpha_bar_s == 1:
        return _solver(x_t, x0, alpha_bar_t, alpha_bar_s)
    h = _lam(alpha_bar_s) - _lam(alpha_bar_t)
    r = (_lam(alpha_bar_t) - _lam(alpha_bar_before)) / h
    D = (1 + 1 / (2 * r)) * x0 - x0_before / (2 * r)
    return _solver(x_t, D, alpha_bar_t, alpha_bar_s)


@right("dpm2m_step", how="with expm1, the last step apart")
def _(x_t, x0, x0_before, alpha_bar_t, alpha_bar_s, alpha_bar_before):
    if alpha_bar_s == 1:
        return x0.clone()
    h, slope = _lam(alpha_bar_s) - _lam(alpha_bar_t), 0
    if x0_before is not None:
        slope = (x0 - x0_before) / (_lam(alpha_bar_t) - _lam(alpha_bar_before))
    ratio = math.exp(math.log1p(-alpha_bar_s) / 2 - math.log1p(-alpha_bar_t) / 2)
    return ratio * x_t - math.sqrt(alpha_bar_s) * math.expm1(-h) * (x0 + slope * h / 2)


def _variant(share):
    """A 2M step with another share of the difference in D."""

    def step(x_t, x0, x0_before, alpha_bar_t, alpha_bar_s, alpha_bar_before):
        D = x0
        if x0_before is not None and alpha_bar_s != 1:
            h, g = (
                _lam(alpha_bar_s) - _lam(alpha_bar_t),
                _lam(alpha_bar_t) - _lam(alpha_bar_before),
            )
            D = x0 + share(h, g) * (x0 - x0_before)
        return _solver(x_t, D, alpha_bar_t, alpha_bar_s)

    return step


wrong("dpm2m_step", says="first-order step")(_variant(lambda h, g: 0.0))
wrong("dpm2m_step", says="a whole step, not half of one")(_variant(lambda h, g: h / g))
wrong("dpm2m_step", says="equally long")(_variant(lambda h, g: 0.5))
wrong("dpm2m_step", says="upside down")(_variant(lambda h, g: g / h / 2))
wrong("dpm2m_step", says="backwards")(_variant(lambda h, g: -h / g / 2))
wrong("dpm2m_step", says="carried along its line", how="signs of the parts mixed")(
    _variant(lambda h, g: 1 - h / g / 2)
)


@wrong("dpm2m_step", says="the sign of h in the exponential is wrong")
def _(x_t, x0, x0_before, alpha_bar_t, alpha_bar_s, alpha_bar_before):
    h, D = _lam(alpha_bar_s) - _lam(alpha_bar_t), x0
    if x0_before is not None and alpha_bar_s < 1:
        D = x0 + h / (_lam(alpha_bar_t) - _lam(alpha_bar_before)) / 2 * (x0 - x0_before)
    ratio = math.sqrt((1 - alpha_bar_s) / (1 - alpha_bar_t))
    return ratio * x_t + math.sqrt(alpha_bar_s) * (1 - math.exp(min(h, 500.0))) * D


wrong("dpm2m_step", says="averaged")(_variant(lambda h, g: -0.5))
wrong("dpm2m_step", says="measured from before to s")(_variant(lambda h, g: h / (h + g) / 2))


@wrong("dpm2m_step", says="differences of alpha_bar")
def _(x_t, x0, x0_before, alpha_bar_t, alpha_bar_s, alpha_bar_before):
    D = x0
    if alpha_bar_before is not None and alpha_bar_s != 1:
        slope = (x0 - x0_before) / (alpha_bar_t - alpha_bar_before)
        D = x0 + slope * (alpha_bar_s - alpha_bar_t) / 2
    return _solver(x_t, D, alpha_bar_t, alpha_bar_s)


@wrong("dpm2m_step", says="carried along its line", how="a line in sigma")
def _(x_t, x0, x0_before, alpha_bar_t, alpha_bar_s, alpha_bar_before):
    D = x0
    if alpha_bar_before is not None and alpha_bar_s != 1:
        now, end, past = (
            math.sqrt(1 / a - 1) for a in (alpha_bar_t, alpha_bar_s, alpha_bar_before)
        )
        D = x0 + (x0 - x0_before) / (now - past) * (end - now) / 2
    return _solver(x_t, D, alpha_bar_t, alpha_bar_s)


def _exponential(half, signal):
    """The step through e^-h, with another λ or without its signal."""

    def step(x_t, x0, x0_before, alpha_bar_t, alpha_bar_s, alpha_bar_before):
        h, D = half * 2 * (_lam(alpha_bar_s) - _lam(alpha_bar_t)), x0
        if x0_before is not None and alpha_bar_s < 1:
            before = half * 2 * (_lam(alpha_bar_t) - _lam(alpha_bar_before))
            D = x0 + h / before / 2 * (x0 - x0_before)
        ratio = math.sqrt((1 - alpha_bar_s) / (1 - alpha_bar_t))
        return ratio * x_t + (math.sqrt(alpha_bar_s) if signal else 1) * (1 - math.exp(-h)) * D

    return step


right("dpm2m_step", how="through the exponential")(_exponential(0.5, True))
wrong("dpm2m_step", says="lambda is the whole log")(_exponential(1.0, True))
wrong("dpm2m_step", says="lacks the signal of s")(_exponential(0.5, False))


@wrong("dpm2m_step", says="the first step is not treated apart")
def _(x_t, x0, x0_before, alpha_bar_t, alpha_bar_s, alpha_bar_before):
    h = _lam(alpha_bar_s) - _lam(alpha_bar_t)
    D = x0 + h / 2 * (x0 - x0_before) / (_lam(alpha_bar_t) - _lam(alpha_bar_before))
    return _solver(x_t, D, alpha_bar_t, alpha_bar_s)


@right("dpm2m_step", how="sample by sample, in single precision")
def _(x_t, x0, x0_before, alpha_bar_t, alpha_bar_s, alpha_bar_before):
    share = 0.0
    if alpha_bar_before is not None and alpha_bar_s < 1:
        h = _lam(alpha_bar_s) - _lam(alpha_bar_t)
        share = h / 2 / (_lam(alpha_bar_t) - _lam(alpha_bar_before))
    former = x0 if x0_before is None else x0_before
    rows = []
    for x, now, then in zip(x_t.float(), x0.float(), former.float(), strict=True):
        rows.append(_solver(x, now + share * (now - then), alpha_bar_t, alpha_bar_s))
    return torch.stack(rows)


# --- invert_step --------------------------------------------------------------------------------


@right("invert_step", how="with sigma = noise/signal")
def _(x_s, eps, alpha_bar_s, alpha_bar_t):
    def sigma(a):
        return math.sqrt(1 / a - 1)

    moved = x_s / math.sqrt(alpha_bar_s) + (sigma(alpha_bar_t) - sigma(alpha_bar_s)) * eps
    return math.sqrt(alpha_bar_t) * moved


@right("invert_step", how="in tensors")
def _(x_s, eps, alpha_bar_s, alpha_bar_t):
    a_s, a_t = torch.tensor([alpha_bar_s, alpha_bar_t], dtype=x_s.dtype)
    x0 = (x_s - (1 - a_s).sqrt() * eps) / a_s.sqrt()
    return torch.lerp(torch.zeros_like(x0), x0, a_t.sqrt()) + (1 - a_t).sqrt() * eps


@wrong("invert_step", says="the step goes down")
def _(x_s, eps, alpha_bar_s, alpha_bar_t):
    root = math.sqrt(alpha_bar_s / alpha_bar_t)
    return root * (x_s - math.sqrt(1 - alpha_bar_t) * eps) + math.sqrt(1 - alpha_bar_s) * eps


@wrong("invert_step", says="forward step with fresh noise")
def _(x_s, eps, alpha_bar_s, alpha_bar_t):
    root = math.sqrt(alpha_bar_t / alpha_bar_s)
    return root * x_s + math.sqrt(1 - root**2) * eps


@wrong("invert_step", says="x_s is treated as clean data")
def _(x_s, eps, alpha_bar_s, alpha_bar_t):
    return math.sqrt(alpha_bar_t) * x_s + math.sqrt(1 - alpha_bar_t) * eps


@wrong("invert_step", says="the step stops at x0")
def _(x_s, eps, alpha_bar_s, alpha_bar_t):
    return (x_s - math.sqrt(1 - alpha_bar_s) * eps) / math.sqrt(alpha_bar_s)


@wrong("invert_step", says="made of the same x0 and the same eps", how="eps scaled as at s")
def _(x_s, eps, alpha_bar_s, alpha_bar_t):
    x0 = (x_s - math.sqrt(1 - alpha_bar_s) * eps) / math.sqrt(alpha_bar_s)
    return math.sqrt(alpha_bar_t) * x0 + math.sqrt(1 - alpha_bar_s) * eps


@wrong("invert_step", says="the signals lack their square roots")
def _(x_s, eps, alpha_bar_s, alpha_bar_t):
    x0 = (x_s - math.sqrt(1 - alpha_bar_s) * eps) / alpha_bar_s
    return alpha_bar_t * x0 + math.sqrt(1 - alpha_bar_t) * eps


@wrong("invert_step", says="x0 is not multiplied by the signal of t")
def _(x_s, eps, alpha_bar_s, alpha_bar_t):
    x0 = (x_s - math.sqrt(1 - alpha_bar_s) * eps) / math.sqrt(alpha_bar_s)
    return torch.add(x0, eps, alpha=math.sqrt(1 - alpha_bar_t))


@wrong("invert_step", says="made of the same x0 and the same eps", how="Euler without its scale")
def _(x_s, eps, alpha_bar_s, alpha_bar_t):
    return x_s + (math.sqrt(1 / alpha_bar_t - 1) - math.sqrt(1 / alpha_bar_s - 1)) * eps


@wrong("invert_step", says="made of the same x0 and the same eps", how="fresh noise")
def _(x_s, eps, alpha_bar_s, alpha_bar_t):
    x0 = (x_s - math.sqrt(1 - alpha_bar_s) * eps) / math.sqrt(alpha_bar_s)
    return math.sqrt(alpha_bar_t) * x0 + math.sqrt(1 - alpha_bar_t) * torch.randn_like(eps)


@wrong("invert_step", says="changes its input in place")
def _(x_s, eps, alpha_bar_s, alpha_bar_t):
    x_s -= math.sqrt(1 - alpha_bar_s) * eps
    return math.sqrt(alpha_bar_t / alpha_bar_s) * x_s + math.sqrt(1 - alpha_bar_t) * eps


@right("invert_step", how="sample by sample")
def _(x_s, eps, alpha_bar_s, alpha_bar_t):
    out = torch.empty_like(x_s)
    for i, (x, e) in enumerate(zip(x_s, eps, strict=True)):
        x0 = (x - math.sqrt(1 - alpha_bar_s) * e) / math.sqrt(alpha_bar_s)
        out[i] = math.sqrt(alpha_bar_t) * x0 + math.sqrt(1 - alpha_bar_t) * e
    return out


@right("invert_step", how="numpy inside, in single precision")
def _(x_s, eps, alpha_bar_s, alpha_bar_t):
    scale = np.sqrt(alpha_bar_t / alpha_bar_s)
    rest = np.sqrt(1 - alpha_bar_t) - scale * np.sqrt(1 - alpha_bar_s)
    return torch.from_numpy(scale * x_s.numpy() + rest * eps.numpy()).float()
