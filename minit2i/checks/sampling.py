"""Checks of lesson 03: from noise to data, in many steps and in few."""

import math

from minit2i.checks.judge import Draw, Mistake, equal, exercise, holds


def _levels(draw: Draw) -> tuple[float, float]:
    """ᾱ_t < ᾱ_s of one step, t > s, both well inside (0, 1)."""
    a_t = draw.uniform(0.15, 0.4)
    return a_t, a_t + draw.uniform(0.2, 0.45)


# --- one ancestral step -------------------------------------------------------------------------


def _ancestral(c0=None, ct=None, sigma=None, last=True):
    """A family of ancestral steps: each part may be replaced by a wrong one."""

    def step(x_t, x0, alpha_bar_t, alpha_bar_s, variance, z):
        a_t, a_s = alpha_bar_t, alpha_bar_s
        beta = 1 - a_t / a_s
        first = (c0 or (lambda *_: a_s**0.5 * beta / (1 - a_t)))(a_t, a_s, beta)
        second = (ct or (lambda *_: (a_t / a_s) ** 0.5 * (1 - a_s) / (1 - a_t)))(a_t, a_s, beta)
        small = beta * (1 - a_s) / (1 - a_t)
        deviation = (beta if variance == "beta" else small) ** 0.5
        if sigma is not None:
            deviation = sigma(beta, small, variance)
        mean = first * x0 + second * x_t
        return mean if last and a_s == 1 else mean + deviation * z

    return step


def _coefficients_swapped(x_t, x0, alpha_bar_t, alpha_bar_s, variance, z):
    return _ancestral()(x0, x_t, alpha_bar_t, alpha_bar_s, variance, z)


def _mean_of_forward(x_t, x0, alpha_bar_t, alpha_bar_s, variance, z):
    """x̂_0 noised to level s: forgets x_t."""
    return alpha_bar_s**0.5 * x0 + (1 - alpha_bar_s) ** 0.5 * z


def _beta_of_chain(part):
    """The step's β taken as 1 - ᾱ_t, as if s were 0."""

    def step(x_t, x0, alpha_bar_t, alpha_bar_s, variance, z):
        a_t, a_s, beta = alpha_bar_t, alpha_bar_s, 1 - alpha_bar_t
        c0 = a_s**0.5 * beta / (1 - a_t)
        ct = (a_t / a_s) ** 0.5 * (1 - a_s) / (1 - a_t)
        small = beta * (1 - a_s) / (1 - a_t)
        mean = c0 * x0 + ct * x_t
        return mean if a_s == 1 else mean + (beta if variance == "beta" else small) ** 0.5 * z

    return step


@exercise(
    disables=["minit2i.schedule.Schedule.posterior", "minit2i.sample.ddpm"],
    mistakes=[
        Mistake(
            "the posterior's two coefficients are swapped",
            "for a tiny step (alpha_bar_s close to alpha_bar_t), which of x0 and x_t should the "
            "mean stay close to?",
            wrong=_coefficients_swapped,
        ),
        Mistake(
            "the variance stands where the standard deviation belongs",
            "z has variance 1; what is the variance of c * z?",
            wrong=_ancestral(
                sigma=lambda beta, small, variance: beta if variance == "beta" else small
            ),
        ),
        Mistake(
            "noise is added at the last step",
            "nothing will remove what is added when alpha_bar_s = 1",
            wrong=_ancestral(last=False),
        ),
        Mistake(
            "the two variances are swapped",
            'which of the two is the smaller? "posterior" is the variance of q(x_s | x_t, x_0)',
            wrong=_ancestral(
                sigma=lambda beta, small, variance: (small if variance == "beta" else beta) ** 0.5
            ),
        ),
        Mistake(
            "`variance` is ignored: always beta",
            "the second variance is smaller by the factor (1 - alpha_bar_s) / (1 - alpha_bar_t)",
            wrong=_ancestral(sigma=lambda beta, small, variance: beta**0.5),
        ),
        Mistake(
            "`variance` is ignored: always the posterior's",
            'what should change when variance is "beta"?',
            wrong=_ancestral(sigma=lambda beta, small, variance: small**0.5),
        ),
        Mistake(
            "no noise is added",
            "a step draws from a Gaussian; so far you return its mean",
            wrong=_ancestral(sigma=lambda beta, small, variance: 0.0),
        ),
        Mistake(
            "the coefficient of x_t lacks its square root",
            "it is the scale of q(x_t | x_s), a square root of a ratio of alpha_bars",
            wrong=_ancestral(ct=lambda a_t, a_s, beta: a_t / a_s * (1 - a_s) / (1 - a_t)),
        ),
        Mistake(
            "the coefficient of x0 lacks its square root",
            "data at level s is scaled by a signal, not by its square",
            wrong=_ancestral(c0=lambda a_t, a_s, beta: a_s * beta / (1 - a_t)),
        ),
        Mistake(
            "the coefficient of x0 takes alpha_bar of t in place of s",
            "the step arrives at s: whose signal should x0 carry?",
            wrong=_ancestral(c0=lambda a_t, a_s, beta: a_t**0.5 * beta / (1 - a_t)),
        ),
        Mistake(
            "the beta of this step is taken as 1 - alpha_bar_t",
            "that is the variance of the whole chain from 0 to t; this step starts at s",
            wrong=_beta_of_chain(None),
        ),
        Mistake(
            "x_t is forgotten",
            "noising x0 to level s gives the right marginal, but what of the x_t we hold?",
            wrong=_mean_of_forward,
        ),
    ],
)
def ancestral_step(answer, draw):
    """x_s = c_0 x̂_0 + c_t x_t + σ z (DDPM, algorithm 2), from floats ᾱ_t < ᾱ_s and noise z."""
    a_t, a_s = _levels(draw)
    x_t, x0, z = (draw.normal(5, 2) for _ in range(3))
    beta = 1 - a_t / a_s
    # The posterior as the product of two Gaussians: precisions and precision-weighted means add.
    towards_t, towards_0 = (a_t / a_s) / beta, 1 / (1 - a_s)
    small = 1 / (towards_t + towards_0)
    mean = small * (towards_t * x_t / (a_t / a_s) ** 0.5 + towards_0 * a_s**0.5 * x0)
    claim = "without noise, the step gives the mean of q(x_s | x_t, x_0)"
    equal(answer(x_t, x0, a_t, a_s, "posterior", 0 * z), mean, claim)
    got = answer(x_t, x0, a_t, a_s, "posterior", z)
    equal(got, mean + small**0.5 * z, "the noise has the posterior's standard deviation")
    got = answer(x_t, x0, a_t, a_s, "beta", z)
    equal(got, mean + beta**0.5 * z, 'with variance "beta" it has the standard deviation √β')
    for variance in ("posterior", "beta"):
        got = answer(x_t, x0, a_t, 1.0, variance, z)
        equal(got, x0, "the last step (alpha_bar_s = 1) returns x0, without noise")
    x_t, x0, z = (draw.normal(3, 2, 4, 5) for _ in range(3))
    mean = small * (towards_t * x_t / (a_t / a_s) ** 0.5 + towards_0 * a_s**0.5 * x0)
    got = answer(x_t, x0, a_t, a_s, "posterior", z)
    equal(got, mean + small**0.5 * z, "pictures (b, c, h, w) are treated like points")


# --- one DDIM step ------------------------------------------------------------------------------


def _ddim(x_t, x0, a_t, a_s, sigma, z, direction=None):
    eps = (x_t - a_t**0.5 * x0) / (1 - a_t) ** 0.5
    left = 1 - a_s - sigma**2 if direction is None else direction
    return a_s**0.5 * x0 + left**0.5 * eps + sigma * z


def _sigma(a_t, a_s, eta):
    return eta * ((1 - a_s) / (1 - a_t)) ** 0.5 * (1 - a_t / a_s) ** 0.5


def _direction_full(x_t, x0, alpha_bar_t, alpha_bar_s, eta, z):
    a_t, a_s = alpha_bar_t, alpha_bar_s
    return _ddim(x_t, x0, a_t, a_s, _sigma(a_t, a_s, eta), z, 1 - a_s)


def _ratio_inverted(x_t, x0, alpha_bar_t, alpha_bar_s, eta, z):
    a_t, a_s = alpha_bar_t, alpha_bar_s
    if a_s == 1:
        return x0.clone()
    sigma = eta * ((1 - a_t) / (1 - a_s)) ** 0.5 * (1 - a_t / a_s) ** 0.5
    return _ddim(x_t, x0, a_t, a_s, sigma, z)


def _variance_for_deviation(x_t, x0, alpha_bar_t, alpha_bar_s, eta, z):
    a_t, a_s = alpha_bar_t, alpha_bar_s
    sigma = _sigma(a_t, a_s, eta)
    return _ddim(x_t, x0, a_t, a_s, sigma, sigma * z)


def _direction_variance(x_t, x0, alpha_bar_t, alpha_bar_s, eta, z):
    a_t, a_s = alpha_bar_t, alpha_bar_s
    sigma = _sigma(a_t, a_s, eta)
    return _ddim(x_t, x0, a_t, a_s, sigma, z, (1 - a_s - sigma**2) ** 2)


def _no_noise(x_t, x0, alpha_bar_t, alpha_bar_s, eta, z):
    return _ddim(x_t, x0, alpha_bar_t, alpha_bar_s, _sigma(alpha_bar_t, alpha_bar_s, eta), 0 * z)


def _eta_ignored(x_t, x0, alpha_bar_t, alpha_bar_s, eta, z):
    return _ddim(x_t, x0, alpha_bar_t, alpha_bar_s, 0.0, z)


def _eta_in_noise_only(x_t, x0, alpha_bar_t, alpha_bar_s, eta, z):
    a_t, a_s = alpha_bar_t, alpha_bar_s
    return _ddim(x_t, x0, a_t, a_s, _sigma(a_t, a_s, 1.0), eta * z)


def _eta_root(x_t, x0, alpha_bar_t, alpha_bar_s, eta, z):
    a_t, a_s = alpha_bar_t, alpha_bar_s
    return _ddim(x_t, x0, a_t, a_s, _sigma(a_t, a_s, eta**0.5), z)


def _along_x(x_t, x0, alpha_bar_t, alpha_bar_s, eta, z):
    a_s, sigma = alpha_bar_s, _sigma(alpha_bar_t, alpha_bar_s, eta)
    return a_s**0.5 * x0 + (1 - a_s - sigma**2) ** 0.5 * x_t + sigma * z


def _stays_at_t(x_t, x0, alpha_bar_t, alpha_bar_s, eta, z):
    a_t, sigma = alpha_bar_t, _sigma(alpha_bar_t, alpha_bar_s, eta)
    eps = (x_t - a_t**0.5 * x0) / (1 - a_t) ** 0.5
    return alpha_bar_s**0.5 * x0 + abs(1 - a_t - sigma**2) ** 0.5 * eps + sigma * z


def _eps_unscaled(x_t, x0, alpha_bar_t, alpha_bar_s, eta, z):
    a_t, a_s = alpha_bar_t, alpha_bar_s
    sigma = _sigma(a_t, a_s, eta)
    left = (1 - a_s - sigma**2) ** 0.5
    return a_s**0.5 * x0 + left * (x_t - a_t**0.5 * x0) + sigma * z


def _eps_by_variance(x_t, x0, alpha_bar_t, alpha_bar_s, eta, z):
    a_t, a_s = alpha_bar_t, alpha_bar_s
    sigma = _sigma(a_t, a_s, eta)
    left = (1 - a_s - sigma**2) ** 0.5
    return a_s**0.5 * x0 + left * (x_t - a_t**0.5 * x0) / (1 - a_t) + sigma * z


def _signal_unrooted(x_t, x0, alpha_bar_t, alpha_bar_s, eta, z):
    a_t, a_s = alpha_bar_t, alpha_bar_s
    return _ddim(x_t, x0, a_t, a_s, _sigma(a_t, a_s, eta), z) + (a_s - a_s**0.5) * x0


def _eta_times_beta(x_t, x0, alpha_bar_t, alpha_bar_s, eta, z):
    a_t, a_s = alpha_bar_t, alpha_bar_s
    if a_s == 1:
        return x0.clone()
    return _ddim(x_t, x0, a_t, a_s, eta * (1 - a_t / a_s) ** 0.5, z)


@exercise(
    disables=["minit2i.sample.ddim", "minit2i.diffusion.to_eps"],
    mistakes=[
        Mistake(
            "the direction term keeps its full length although noise is added",
            "fresh noise and direction together must have variance 1 - alpha_bar_s",
            wrong=_direction_full,
        ),
        Mistake(
            "the ratio in sigma is upside down",
            "sigma must vanish at the last step, where alpha_bar_s = 1",
            wrong=_ratio_inverted,
        ),
        Mistake(
            "sigma is squared in front of z",
            "z has variance 1; what is the variance of sigma**2 * z?",
            wrong=_variance_for_deviation,
        ),
        Mistake(
            "the direction term lacks its square root",
            "1 - alpha_bar_s - sigma**2 is a variance",
            wrong=_direction_variance,
        ),
        Mistake(
            "no fresh noise is added",
            "the direction was shortened to make room for sigma * z",
            wrong=_no_noise,
        ),
        Mistake("eta is ignored", "what differs between eta = 0 and eta = 1?", wrong=_eta_ignored),
        Mistake(
            "eta scales the noise but not the direction's share",
            "put eta into sigma before you use sigma, in both places",
            wrong=_eta_in_noise_only,
        ),
        Mistake(
            "eta enters by its square root",
            "eta multiplies the standard deviation sigma, not the variance",
            wrong=_eta_root,
        ),
        Mistake(
            "sigma is eta times √β, not eta times the posterior's deviation",
            "at eta = 1 the step must be the ancestral step with the *posterior* variance",
            wrong=_eta_times_beta,
        ),
        Mistake(
            "the direction is x_t itself",
            "the direction is the noise that x_t contains, once x0 is taken out",
            wrong=_along_x,
        ),
        Mistake(
            "the noise level stays that of t",
            "the step arrives at s: how much noise belongs there?",
            wrong=_stays_at_t,
        ),
        Mistake(
            "eps is not divided by the noise level",
            "solve x_t = signal * x0 + noise * eps for eps",
            wrong=_eps_unscaled,
        ),
        Mistake(
            "eps is divided by the variance of the noise",
            "solve x_t = signal * x0 + noise * eps for eps; noise is a standard deviation",
            wrong=_eps_by_variance,
        ),
        Mistake(
            "x0 is scaled by alpha_bar_s without its root",
            "the signal at level s is a square root",
            wrong=_signal_unrooted,
        ),
    ],
)
def ddim_step(answer, draw):
    """One step of DDIM (eq. 12, σ of eq. 16) from floats ᾱ_t < ᾱ_s, eta and noise z."""
    a_t, a_s = _levels(draw)
    x0, eps, z = (draw.normal(5, 2) for _ in range(3))
    x_t = a_t**0.5 * x0 + (1 - a_t) ** 0.5 * eps
    expected = a_s**0.5 * x0 + (1 - a_s) ** 0.5 * eps
    got = answer(x_t, x0, a_t, a_s, 0.0, z)
    equal(got, expected, "with eta = 0 the same x0 and eps are put together again at level s")
    beta = 1 - a_t / a_s
    small = beta * (1 - a_s) / (1 - a_t)
    mean = (a_s**0.5 * beta * x0 + (a_t / a_s) ** 0.5 * (1 - a_s) * x_t) / (1 - a_t)
    got = answer(x_t, x0, a_t, a_s, 1.0, z)
    equal(got, mean + small**0.5 * z, "with eta = 1 it is the ancestral step, posterior variance")
    eta = draw.uniform(0.3, 0.8)
    silent = answer(x_t, x0, a_t, a_s, eta, 0 * z)
    loud = answer(x_t, x0, a_t, a_s, eta, z)
    equal(loud - silent, eta * small**0.5 * z, "the fresh noise has standard deviation eta √β̃")
    length = (1 - a_s - eta**2 * small) ** 0.5
    claim = "direction and fresh noise together have variance 1 - alpha_bar_s"
    equal(silent, a_s**0.5 * x0 + length * eps, claim)
    equal(answer(x_t, x0, a_t, 1.0, eta, z), x0, "the last step (alpha_bar_s = 1) returns x0")
    x0, eps, z = (draw.normal(3, 2, 4, 5) for _ in range(3))
    x_t = a_t**0.5 * x0 + (1 - a_t) ** 0.5 * eps
    expected = a_s**0.5 * x0 + length * eps + eta * small**0.5 * z
    claim = "pictures (b, c, h, w) are treated like points"
    equal(answer(x_t, x0, a_t, a_s, eta, z), expected, claim)


# --- the grid -----------------------------------------------------------------------------------


def _leading(T, steps):
    return [k * (T // steps) for k in reversed(range(steps))] + [0]


def _leading_from_one(T, steps):
    return [k * (T // steps) + 1 for k in reversed(range(steps))] + [0]


def _zero_based(T, steps):
    return [round(T * (steps - k) / steps) - 1 for k in range(steps)] + [0]


def _without_zero(T, steps):
    return [round(T * (steps - k) / steps) for k in range(steps)]


def _floored(T, steps):
    return [T * (steps - k) // steps for k in range(steps + 1)]


def _ceiled(T, steps):
    return [-(-T * (steps - k) // steps) for k in range(steps + 1)]


def _whole_stride(T, steps):
    return [T - k * (T // steps) for k in range(steps)] + [0]


def _upwards(T, steps):
    return [round(T * k / steps) for k in range(steps + 1)]


def _points_for_steps(T, steps):
    return [round(T * (steps - 1 - k) / max(1, steps - 1)) for k in range(steps)]


def _one_too_many(T, steps):
    return [round(T * (steps + 1 - k) / (steps + 1)) for k in range(steps + 2)]


def _linspace(T, steps):
    return [round(T - k * (T - 1) / max(1, steps - 1)) for k in range(steps)] + [0]


def _floats(T, steps):
    return [T * (steps - k) / steps for k in range(steps + 1)]


@exercise(
    disables=["minit2i.schedule.Schedule.grid"],
    mistakes=[
        Mistake(
            "the grid leads: multiples of T // steps from 0 upwards, which never reach T",
            "the sampler starts from pure noise, which lives at index T",
            wrong=_leading,
        ),
        Mistake(
            "the grid leads: multiples of T // steps from 1 upwards, which never reach T",
            "the sampler starts from pure noise, which lives at index T",
            wrong=_leading_from_one,
        ),
        Mistake(
            "indices are counted from 0, as in arrays of betas",
            "in this course t = T is pure noise, and t = 0 is clean data",
            wrong=_zero_based,
        ),
        Mistake("the final 0 is missing", "where does the last step arrive?", wrong=_without_zero),
        Mistake(
            "positions are cut off, not rounded",
            "int() and // cut off; take the nearest index",
            wrong=_floored,
        ),
        Mistake(
            "positions are rounded up, not to the nearest",
            "take the nearest index",
            wrong=_ceiled,
        ),
        Mistake(
            "the stride is rounded before it is multiplied",
            "an error of half an index in the stride grows with every step: round last",
            wrong=_whole_stride,
        ),
        Mistake("the grid runs upwards", "sampling walks from T down", wrong=_upwards),
        Mistake(
            "there are `steps` points where there should be `steps` steps",
            "n steps have n + 1 ends",
            wrong=_points_for_steps,
        ),
        Mistake("there is one step too many", "n steps have n + 1 ends", wrong=_one_too_many),
        Mistake(
            "this is the linspace grid, with a last step from 1 to 0",
            "trailing: T - k T/steps for k = 0 … steps",
            wrong=_linspace,
        ),
        Mistake(
            "positions are not rounded to indices",
            "a schedule is a table: t is an int",
            wrong=_floats,
        ),
    ],
)
def trailing_grid(answer, draw):
    """steps + 1 indices, evenly spaced from T down to 0 and rounded to the nearest."""
    equal(answer(1000, 5), [1000, 800, 600, 400, 200, 0], "1000 in 5 steps is 1000, 800, …, 0")
    equal(answer(1000, 1), [1000, 0], "one step goes from T straight to 0")
    T = draw.integer(40, 60)
    equal(answer(T, T), list(range(T, -1, -1)), "with as many steps as indices, every index is met")
    T, steps = 1000 + draw.integer(1, 50), 2 * draw.integer(10, 20) + 1
    for n in (steps, 2 * steps, 7 * steps):
        grid = answer(T, n)
        holds(len(grid) == n + 1, "n steps have n + 1 ends", length=len(grid), steps=n)
        whole = all(isinstance(t, int) for t in grid)
        holds(whole, "the indices are whole numbers", first=grid[:3])
        ends = grid[0] == T and grid[-1] == 0
        holds(ends, "the first is T and the last is 0", first=grid[0], last=grid[-1], T=T)
        places = [T * (1 - k / n) for k in range(n + 1)]
        off = max((abs(t - p) for t, p in zip(grid, places, strict=False)), default=math.inf)
        claim = "no index is further than 1/2 from its even place T - k T/steps"
        holds(off <= 0.5 + 1e-9, claim, furthest=off)


# --- one step of DPM-Solver++(2M) ---------------------------------------------------------------


def _half_log_snr(alpha_bar):
    return math.inf if alpha_bar == 1 else 0.5 * math.log(alpha_bar / (1 - alpha_bar))


def _dpm(extrapolate=None, last=True, noise=None, weight=None):
    """A family of 2M steps: each part may be replaced by a wrong one."""

    def step(x_t, x0, x0_before, alpha_bar_t, alpha_bar_s, alpha_bar_before):
        a_t, a_s = alpha_bar_t, alpha_bar_s
        h, D = _half_log_snr(a_s) - _half_log_snr(a_t), x0
        if x0_before is not None and (a_s < 1 or not last):
            before = _half_log_snr(a_t) - _half_log_snr(alpha_bar_before)
            share = h / (2 * before)
            plain = x0 + share * (x0 - x0_before)
            D = plain if extrapolate is None else extrapolate(x0, x0_before, h, before)
        ratio = ((1 - a_s) / (1 - a_t)) ** 0.5 if noise is None else noise(a_t, a_s)
        w = a_s**0.5 * (1 - math.exp(-h)) if weight is None else weight(a_t, a_s, h)
        return ratio * x_t + w * D

    return step


@exercise(
    disables=["minit2i.sample.dpm2m"],
    mistakes=[
        Mistake(
            "x0_before is not used: this is a first-order step",
            "carry x0 on along the line through its last two values, half a step ahead",
            wrong=_dpm(lambda x0, before, h, g: x0),
        ),
        Mistake(
            "the line is followed a whole step, not half of one",
            "D is the value in the middle of the step: h/2 ahead",
            wrong=_dpm(lambda x0, before, h, g: x0 + h / g * (x0 - before)),
        ),
        Mistake(
            "the two steps are taken as equally long",
            "the slope is a difference over the *former* h, and is followed for half of this one",
            wrong=_dpm(lambda x0, before, h, g: x0 + 0.5 * (x0 - before)),
        ),
        Mistake(
            "the ratio of the two steps is upside down",
            "a longer step carries the slope further, a longer former step makes it smaller",
            wrong=_dpm(lambda x0, before, h, g: x0 + g / (2 * h) * (x0 - before)),
        ),
        Mistake(
            "the slope points backwards",
            "the later value minus the earlier one",
            wrong=_dpm(lambda x0, before, h, g: x0 + h / (2 * g) * (before - x0)),
        ),
        Mistake(
            "the line starts from x0_before",
            "x0 is the value at t, where this step starts",
            wrong=_dpm(lambda x0, before, h, g: before + h / (2 * g) * (x0 - before)),
        ),
        Mistake(
            "the slope is carried into the last step",
            "half_log_snr is infinite at alpha_bar = 1: no slope can be carried there",
            wrong=_dpm(last=False),
        ),
        Mistake(
            "the ratio of the noise levels lacks its square root",
            "noise is √(1 - alpha_bar)",
            wrong=_dpm(noise=lambda a_t, a_s: (1 - a_s) / (1 - a_t)),
        ),
        Mistake(
            "x_t is multiplied by the ratio of the signals",
            "the variable that makes the linear part vanish is x/noise",
            wrong=_dpm(noise=lambda a_t, a_s: (a_s / a_t) ** 0.5),
        ),
        Mistake(
            "the sign of h in the exponential is wrong",
            "for a long step the weight of D must approach the signal at s: e^(-h) vanishes",
            wrong=_dpm(weight=lambda a_t, a_s, h: a_s**0.5 * (1 - math.exp(min(h, 500)))),
        ),
        Mistake(
            "the weight of D takes the signal of t",
            "the step arrives at s",
            wrong=_dpm(weight=lambda a_t, a_s, h: a_t**0.5 * (1 - math.exp(-h))),
        ),
        Mistake(
            "the weight of D takes alpha_bar_s without its root",
            "the signal is √alpha_bar",
            wrong=_dpm(weight=lambda a_t, a_s, h: a_s * (1 - math.exp(-h))),
        ),
    ],
)
def dpm2m_step(answer, draw):
    """One step of DPM-Solver++(2M); x0_before and alpha_bar_before are None at the first step."""
    a_b = draw.uniform(0.05, 0.12)
    a_t, a_s = _levels(draw)
    x_t, x0, before = (draw.normal(5, 2) for _ in range(3))
    eps = (x_t - a_t**0.5 * x0) / (1 - a_t) ** 0.5
    euler = a_s**0.5 * x0 + (1 - a_s) ** 0.5 * eps
    equal(answer(x_t, x0, None, a_t, a_s, None), euler, "the first step is a DDIM step")
    equal(answer(x_t, x0, x0, a_t, a_s, a_b), euler, "where x0 does not change, it is a DDIM step")
    # The same in σ = noise/signal, where the exponential integrator is exact on lines in log σ.
    sigma = {a: ((1 - a) / a) ** 0.5 for a in (a_b, a_t, a_s)}
    slope = (x0 - before) / math.log(sigma[a_b] / sigma[a_t])
    D = x0 + slope * math.log(sigma[a_t] / sigma[a_s]) / 2
    shrink = sigma[a_s] / sigma[a_t]
    expected = a_s**0.5 * (shrink * x_t / a_t**0.5 + (1 - shrink) * D)
    got = answer(x_t, x0, before, a_t, a_s, a_b)
    equal(got, expected, "x0 is carried along its line to the middle of the step")
    equal(answer(x_t, x0, before, a_t, 1.0, a_b), x0, "the last step (alpha_bar_s = 1) returns x0")
    x_t, x0, before = (draw.normal(3, 2, 4, 5) for _ in range(3))
    D = x0 + (x0 - before) * math.log(sigma[a_t] / shrink / sigma[a_t]) / (
        2 * math.log(sigma[a_b] / sigma[a_t])
    )
    expected = a_s**0.5 * (shrink * x_t / a_t**0.5 + (1 - shrink) * D)
    claim = "pictures (b, c, h, w) are treated like points"
    equal(answer(x_t, x0, before, a_t, a_s, a_b), expected, claim)


# --- one inversion step -------------------------------------------------------------------------


def _invert_downwards(x_s, eps, alpha_bar_s, alpha_bar_t):
    x0 = (x_s - (1 - alpha_bar_t) ** 0.5 * eps) / alpha_bar_t**0.5
    return alpha_bar_s**0.5 * x0 + (1 - alpha_bar_s) ** 0.5 * eps


def _invert_forward(x_s, eps, alpha_bar_s, alpha_bar_t):
    ratio = alpha_bar_t / alpha_bar_s
    return ratio**0.5 * x_s + (1 - ratio) ** 0.5 * eps


def _invert_from_clean(x_s, eps, alpha_bar_s, alpha_bar_t):
    return alpha_bar_t**0.5 * x_s + (1 - alpha_bar_t) ** 0.5 * eps


def _invert_with_x0_of_t(x_s, eps, alpha_bar_s, alpha_bar_t):
    x0 = (x_s - (1 - alpha_bar_t) ** 0.5 * eps) / alpha_bar_t**0.5
    return alpha_bar_t**0.5 * x0 + (1 - alpha_bar_t) ** 0.5 * eps


def _invert_unrooted(x_s, eps, alpha_bar_s, alpha_bar_t):
    x0 = (x_s - (1 - alpha_bar_s) * eps) / alpha_bar_s**0.5
    return alpha_bar_t**0.5 * x0 + (1 - alpha_bar_t) * eps


def _invert_forgot_scale(x_s, eps, alpha_bar_s, alpha_bar_t):
    x0 = x_s - (1 - alpha_bar_s) ** 0.5 * eps
    return alpha_bar_t**0.5 * x0 + (1 - alpha_bar_t) ** 0.5 * eps


def _invert_stops_at_x0(x_s, eps, alpha_bar_s, alpha_bar_t):
    return (x_s - (1 - alpha_bar_s) ** 0.5 * eps) / alpha_bar_s**0.5


@exercise(
    disables=["minit2i.sample.invert", "minit2i.sample.ddim"],
    mistakes=[
        Mistake(
            "the step goes down, from t to s",
            "x_s is the cleaner one, and it is given",
            wrong=_invert_downwards,
        ),
        Mistake(
            "this is a forward step with fresh noise, q(x_t | x_s)",
            "eps is the noise already in x_s, not new: take x_s apart, then put it together at t",
            wrong=_invert_forward,
        ),
        Mistake(
            "x_s is treated as clean data",
            "x_s holds noise already: take it out first",
            wrong=_invert_from_clean,
        ),
        Mistake(
            "x_s is taken apart with the levels of t",
            "x_s = signal_s * x0 + noise_s * eps",
            wrong=_invert_with_x0_of_t,
        ),
        Mistake(
            "the variance stands where the standard deviation belongs",
            "noise is √(1 - alpha_bar)",
            wrong=_invert_unrooted,
        ),
        Mistake(
            "x0 is not divided by the signal of s",
            "solve x_s = signal_s * x0 + noise_s * eps for x0",
            wrong=_invert_forgot_scale,
        ),
        Mistake(
            "the step stops at x0",
            "put x0 and eps together again at level t",
            wrong=_invert_stops_at_x0,
        ),
    ],
)
def invert_step(answer, draw):
    """DDIM backwards: x_t with the x0 and eps of x_s, from floats ᾱ_s > ᾱ_t."""
    a_t, a_s = _levels(draw)
    for shape in ((5, 2), (3, 2, 4, 5)):
        x0, eps = draw.normal(*shape), draw.normal(*shape)
        x_s = a_s**0.5 * x0 + (1 - a_s) ** 0.5 * eps
        x_t = a_t**0.5 * x0 + (1 - a_t) ** 0.5 * eps
        got = answer(x_s, eps, a_s, a_t)
        equal(got, x_t, "x_s and x_t are made of the same x0 and the same eps")
    got = answer(x0, eps, 1.0, a_t)
    equal(got, x_t, "from clean data (alpha_bar_s = 1) it is the closed form of lesson 01")
    equal(answer(x_s, eps, a_s, a_s), x_s, "a step of no length changes nothing")
