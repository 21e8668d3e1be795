"""Checks of lesson 03: from noise to data, in many steps and in few."""

import math

from minit2i.checks.judge import Draw, Mistake, described, equal, exercise, holds, raw

PICTURES = "pictures (b, c, h, w) are treated like points (b, d)"
ALMOST = "a step that only almost arrives at clean data (alpha_bar 0.9999) is like the others"


def _levels(draw: Draw) -> tuple[float, float]:
    """ᾱ_t < ᾱ_s of one step, t > s, both well inside (0, 1)."""
    a_t = draw.uniform(0.15, 0.4)
    return a_t, a_t + draw.uniform(0.2, 0.45)


# --- one ancestral step -------------------------------------------------------------------------


def _ancestral(beta=None, c0=None, ct=None, sigma=None, last=True):
    """The ancestral step; parts may be replaced by wrong ones."""
    beta = beta or (lambda a_t, a_s: 1 - a_t / a_s)
    c0 = c0 or (lambda a_t, a_s, b: a_s**0.5 * b / (1 - a_t))
    ct = ct or (lambda a_t, a_s, b: (a_t / a_s) ** 0.5 * (1 - a_s) / (1 - a_t))
    sigma = sigma or (lambda b, ratio, kind: (b if kind == "beta" else ratio * b) ** 0.5)

    def step(x_t, x0, alpha_bar_t, alpha_bar_s, variance, z):
        a_t, a_s = alpha_bar_t, alpha_bar_s
        b = beta(a_t, a_s)
        mean = c0(a_t, a_s, b) * x0 + ct(a_t, a_s, b) * x_t
        if last and a_s == 1:
            return mean
        return mean + sigma(b, (1 - a_s) / (1 - a_t), variance) * z

    return step


def _coefficients_swapped(x_t, x0, alpha_bar_t, alpha_bar_s, variance, z):
    return _ancestral()(x0, x_t, alpha_bar_t, alpha_bar_s, variance, z)


def _x_t_forgotten(x_t, x0, alpha_bar_t, alpha_bar_s, variance, z):
    return alpha_bar_s**0.5 * x0 + (1 - alpha_bar_s) ** 0.5 * z


@exercise(
    disables=["minit2i.schedule.Schedule.posterior", "minit2i.sample.ddpm"],
    mistakes=[
        Mistake(
            "the posterior's two coefficients are swapped",
            "for a tiny step, alpha_bar_s close to alpha_bar_t, should the mean stay near x0 or "
            "near x_t?",
            wrong=_coefficients_swapped,
        ),
        Mistake(
            "the variance stands where the standard deviation belongs",
            "z has variance 1; what is the variance of c * z?",
            wrong=_ancestral(sigma=lambda b, ratio, kind: b if kind == "beta" else ratio * b),
        ),
        Mistake(
            "noise is added at the last step",
            "nothing will remove what is added when alpha_bar_s = 1",
            wrong=_ancestral(last=False),
        ),
        Mistake(
            "the two variances are swapped",
            '"posterior" is the variance of q(x_s | x_t, x_0): is it the smaller of the two?',
            wrong=_ancestral(
                sigma=lambda b, ratio, kind: (ratio * b if kind == "beta" else b) ** 0.5
            ),
        ),
        Mistake(
            "`variance` is ignored: always beta",
            'what should change when variance is "posterior"?',
            wrong=_ancestral(sigma=lambda b, ratio, kind: b**0.5),
        ),
        Mistake(
            "`variance` is ignored: always the posterior's",
            'what should change when variance is "beta"?',
            wrong=_ancestral(sigma=lambda b, ratio, kind: (ratio * b) ** 0.5),
        ),
        Mistake(
            "the ratio in the posterior's variance is upside down",
            "knowing x0 as well leaves less uncertainty: should the factor be above or below 1?",
            wrong=_ancestral(
                sigma=lambda b, ratio, kind: (b if kind == "beta" else b / ratio) ** 0.5
            ),
        ),
        Mistake(
            "no noise is added",
            "a step draws from a Gaussian; so far you return its mean",
            wrong=_ancestral(sigma=lambda b, ratio, kind: 0.0),
        ),
        Mistake(
            "the coefficient of x_t lacks its square root",
            "alpha is the squared scale of the step",
            wrong=_ancestral(ct=lambda a_t, a_s, b: a_t / a_s * (1 - a_s) / (1 - a_t)),
        ),
        Mistake(
            "the coefficient of x_t takes beta where alpha belongs",
            "beta is the variance of the step from s to t: what is its squared scale in (1)?",
            wrong=_ancestral(ct=lambda a_t, a_s, b: b**0.5 * (1 - a_s) / (1 - a_t)),
        ),
        Mistake(
            "the coefficient of x0 lacks its square root",
            "by what is data multiplied at level s: by alpha_bar_s itself?",
            wrong=_ancestral(c0=lambda a_t, a_s, b: a_s * b / (1 - a_t)),
        ),
        Mistake(
            "the coefficient of x0 takes alpha_bar of t in place of s",
            "the step arrives at s: whose signal should x0 carry?",
            wrong=_ancestral(c0=lambda a_t, a_s, b: a_t**0.5 * b / (1 - a_t)),
        ),
        Mistake(
            "the beta of this step is taken as 1 - alpha_bar_t",
            "that is the variance of the whole chain from 0 to t; this step starts at s",
            wrong=_ancestral(beta=lambda a_t, a_s: 1 - a_t),
        ),
        Mistake(
            "x_t is forgotten",
            "noising x0 to level s gives the right marginal, but what of the x_t we hold?",
            wrong=_x_t_forgotten,
        ),
    ],
)
def ancestral_step(answer, draw):
    """x_s = c_0 x̂_0 + c_t x_t + σ z (DDPM, algorithm 2), from floats ᾱ_t < ᾱ_s and noise z."""

    def exact(a_t, a_s, x_t, x0):
        """Mean, β̃ and β from a product of Gaussians: precisions and weighted means add."""
        scale2 = a_t / a_s
        towards_t, towards_0 = scale2 / (1 - scale2), 1 / (1 - a_s)
        small = 1 / (towards_t + towards_0)
        mean = small * (towards_t * x_t / scale2**0.5 + towards_0 * a_s**0.5 * x0)
        return mean, small, 1 - scale2

    a_t, a_s = _levels(draw)
    x_t, x0, z = (draw.normal(5, 2) for _ in range(3))
    mean, small, beta = exact(a_t, a_s, x_t, x0)
    claim = "without noise, the step gives the mean of q(x_s | x_t, x_0)"
    equal(answer(x_t, x0, a_t, a_s, "posterior", 0 * z), mean, claim)
    got = answer(x_t, x0, a_t, a_s, "posterior", z)
    equal(got, mean + small**0.5 * z, "the noise has the posterior's standard deviation")
    got = answer(x_t, x0, a_t, a_s, "beta", z)
    equal(got, mean + beta**0.5 * z, 'with variance "beta" it has the standard deviation √β')
    for variance in ("posterior", "beta"):
        got = answer(x_t, x0, a_t, 1.0, variance, z)
        equal(got, x0, "the last step (alpha_bar_s = 1) returns x0, without noise")
    mean, _, beta = exact(0.999, 0.9999, x_t, x0)
    equal(answer(x_t, x0, 0.999, 0.9999, "beta", z), mean + beta**0.5 * z, ALMOST)
    x_t, x0, z = (draw.normal(3, 2, 4, 5) for _ in range(3))
    mean, small, _ = exact(a_t, a_s, x_t, x0)
    equal(answer(x_t, x0, a_t, a_s, "posterior", z), mean + small**0.5 * z, PICTURES)


# --- one DDIM step ------------------------------------------------------------------------------


def _eps(x_t, x0, a_t, a_s):
    return (x_t - a_t**0.5 * x0) / (1 - a_t) ** 0.5


def _sigma(a_t, a_s, eta):
    return eta * ((1 - a_s) / (1 - a_t)) ** 0.5 * (1 - a_t / a_s) ** 0.5


def _ddim(eps=_eps, sigma=_sigma, direction=None, signal=None, fresh=None):
    """The DDIM step; parts may be replaced by wrong ones."""
    direction = direction or (lambda a_t, a_s, s: (1 - a_s - s**2) ** 0.5)
    signal = signal or (lambda a_t, a_s: a_s**0.5)
    fresh = fresh or (lambda s, eta: s)

    def step(x_t, x0, alpha_bar_t, alpha_bar_s, eta, z):
        a_t, a_s = alpha_bar_t, alpha_bar_s
        s = sigma(a_t, a_s, eta)
        turned = direction(a_t, a_s, s) * eps(x_t, x0, a_t, a_s)
        return signal(a_t, a_s) * x0 + turned + fresh(s, eta) * z

    return step


def _upside_down(a_t, a_s, eta):
    """σ with its first ratio inverted, where that can be computed."""
    return eta * ((1 - a_t) / (1 - a_s) * (1 - a_t / a_s)) ** 0.5 if a_s < 1 else 0.0


@exercise(
    disables=["minit2i.sample.ddim", "minit2i.diffusion.to_eps"],
    mistakes=[
        Mistake(
            "the direction term keeps its full length although noise is added",
            "fresh noise and direction together must have variance 1 - alpha_bar_s",
            wrong=_ddim(direction=lambda a_t, a_s, s: (1 - a_s) ** 0.5),
        ),
        Mistake(
            "the ratio in sigma is upside down",
            "sigma must vanish at the last step, where alpha_bar_s = 1",
            wrong=_ddim(sigma=_upside_down),
        ),
        Mistake(
            "sigma is squared in front of z",
            "z has variance 1; what is the variance of sigma**2 * z?",
            wrong=_ddim(fresh=lambda s, eta: s**2),
        ),
        Mistake(
            "the direction term lacks its square root",
            "1 - alpha_bar_s - sigma**2 is a variance",
            wrong=_ddim(direction=lambda a_t, a_s, s: 1 - a_s - s**2),
        ),
        Mistake(
            "standard deviations are subtracted",
            "independent parts add in variance: what is left of 1 - alpha_bar_s?",
            wrong=_ddim(direction=lambda a_t, a_s, s: (1 - a_s) ** 0.5 - s),
        ),
        Mistake(
            "no fresh noise is added",
            "the direction was shortened to make room for sigma * z",
            wrong=_ddim(fresh=lambda s, eta: 0.0),
        ),
        Mistake(
            "eta is ignored",
            "what differs between eta = 0 and eta = 1?",
            wrong=_ddim(sigma=lambda a_t, a_s, eta: 0.0),
        ),
        Mistake(
            "eta scales the noise but not the direction's share",
            "sigma stands in two places of (9): is it the same number in both?",
            wrong=_ddim(
                sigma=lambda a_t, a_s, eta: _sigma(a_t, a_s, 1.0), fresh=lambda s, eta: eta * s
            ),
        ),
        Mistake(
            "eta enters by its square root",
            "how should the standard deviation of the fresh noise grow with eta?",
            wrong=_ddim(sigma=lambda a_t, a_s, eta: _sigma(a_t, a_s, eta**0.5)),
        ),
        Mistake(
            "eta is squared",
            "how should the standard deviation of the fresh noise grow with eta?",
            wrong=_ddim(sigma=lambda a_t, a_s, eta: _sigma(a_t, a_s, eta**2)),
        ),
        Mistake(
            "sigma is eta times √β, not eta times the posterior's deviation",
            "which of the two ancestral variances should eta = 1 give back?",
            wrong=_ddim(
                sigma=lambda a_t, a_s, eta: eta * (1 - a_t / a_s) ** 0.5 if a_s < 1 else 0.0
            ),
        ),
        Mistake(
            "the direction is x_t itself",
            "the direction is the noise that x_t contains, once x0 is taken out",
            wrong=_ddim(eps=lambda x_t, x0, a_t, a_s: x_t),
        ),
        Mistake(
            "the noise level stays that of t",
            "the step arrives at s: how much noise belongs there?",
            wrong=_ddim(direction=lambda a_t, a_s, s: abs(1 - a_t - s**2) ** 0.5),
        ),
        Mistake(
            "eps is not divided by the noise level",
            "take signal * x0 out of x_t: is what remains eps, with variance 1?",
            wrong=_ddim(eps=lambda x_t, x0, a_t, a_s: x_t - a_t**0.5 * x0),
        ),
        Mistake(
            "eps is divided by the variance of the noise",
            "take signal * x0 out of x_t: which variance has what remains, and which has eps?",
            wrong=_ddim(eps=lambda x_t, x0, a_t, a_s: (x_t - a_t**0.5 * x0) / (1 - a_t)),
        ),
        Mistake(
            "eps is found with the signal of s",
            "x_t is made of x0 and eps at the levels of t",
            wrong=_ddim(eps=lambda x_t, x0, a_t, a_s: (x_t - a_s**0.5 * x0) / (1 - a_t) ** 0.5),
        ),
        Mistake(
            "x0 is scaled by alpha_bar_s without its root",
            "by what is data multiplied at level s: by alpha_bar_s itself?",
            wrong=_ddim(signal=lambda a_t, a_s: a_s),
        ),
        Mistake(
            "x0 keeps the signal of t",
            "the step arrives at s: whose signal should x0 carry?",
            wrong=_ddim(signal=lambda a_t, a_s: a_t**0.5),
        ),
    ],
)
def ddim_step(answer, draw):
    """One step of DDIM (eq. 12, σ of eq. 16) from floats ᾱ_t < ᾱ_s, eta and noise z."""

    def posterior(a_t, a_s):
        return (1 - a_t / a_s) * (1 - a_s) / (1 - a_t)

    a_t, a_s = _levels(draw)
    x0, eps, z = (draw.normal(5, 2) for _ in range(3))
    x_t = a_t**0.5 * x0 + (1 - a_t) ** 0.5 * eps
    expected = a_s**0.5 * x0 + (1 - a_s) ** 0.5 * eps
    got = answer(x_t, x0, a_t, a_s, 0.0, z)
    equal(got, expected, "with eta = 0 the same x0 and eps are put together again at level s")
    small = posterior(a_t, a_s)
    mean = a_s**0.5 * (1 - a_t / a_s) * x0 + (a_t / a_s) ** 0.5 * (1 - a_s) * x_t
    expected = mean / (1 - a_t) + small**0.5 * z
    got = answer(x_t, x0, a_t, a_s, 1.0, z)
    equal(got, expected, "with eta = 1 it is the ancestral step with the posterior variance")
    eta = draw.uniform(0.3, 0.8)
    silent = answer(x_t, x0, a_t, a_s, eta, 0 * z)
    loud = answer(x_t, x0, a_t, a_s, eta, z)
    equal(loud - silent, eta * small**0.5 * z, "the fresh noise has standard deviation eta √β̃")
    length = (1 - a_s - eta**2 * small) ** 0.5
    claim = "direction and fresh noise together have variance 1 - alpha_bar_s"
    equal(silent, a_s**0.5 * x0 + length * eps, claim)
    equal(answer(x_t, x0, a_t, 1.0, eta, z), x0, "the last step (alpha_bar_s = 1) returns x0")
    for t, s, claim, size in ((0.999, 0.9999, ALMOST, (5, 2)), (a_t, a_s, PICTURES, (3, 2, 4, 5))):
        x0, eps, z = (draw.normal(*size) for _ in range(3))
        x_t, small = t**0.5 * x0 + (1 - t) ** 0.5 * eps, posterior(t, s)
        expected = s**0.5 * x0 + (1 - s - eta**2 * small) ** 0.5 * eps + eta * small**0.5 * z
        equal(answer(x_t, x0, t, s, eta, z), expected, claim)


# --- the grid -----------------------------------------------------------------------------------


@exercise(
    disables=["minit2i.schedule.Schedule.grid"],
    mistakes=[
        Mistake(
            "the grid leads: multiples of T // steps from 0 upwards, which never reach T",
            "the sampler starts from pure noise, which lives at index T",
            wrong=lambda T, steps: [k * (T // steps) for k in reversed(range(steps))] + [0],
        ),
        Mistake(
            "the grid leads: multiples of T // steps from 1 upwards, which never reach T",
            "the sampler starts from pure noise, which lives at index T",
            wrong=lambda T, steps: [k * (T // steps) + 1 for k in reversed(range(steps))] + [0],
        ),
        Mistake(
            "indices are counted from 0, as in arrays of betas",
            "in this course t = T is pure noise, and t = 0 is clean data",
            wrong=lambda T, steps: [round(T * (steps - k) / steps) - 1 for k in range(steps)] + [0],
        ),
        Mistake(
            "the final 0 is missing",
            "where does the last step arrive?",
            wrong=lambda T, steps: [round(T * (steps - k) / steps) for k in range(steps)],
        ),
        Mistake(
            "positions are cut off, not rounded",
            "int() and // cut off: which index is the nearest to 0.9?",
            wrong=lambda T, steps: [T * (steps - k) // steps for k in range(steps + 1)],
        ),
        Mistake(
            "positions are rounded up, not to the nearest",
            "which index is the nearest to 0.1?",
            wrong=lambda T, steps: [-(-T * (steps - k) // steps) for k in range(steps + 1)],
        ),
        Mistake(
            "the stride is rounded before it is multiplied",
            "an error of half an index in the stride grows with every step: round last",
            wrong=lambda T, steps: [T - k * (T // steps) for k in range(steps)] + [0],
        ),
        Mistake(
            "the grid runs upwards",
            "sampling walks from T down",
            wrong=lambda T, steps: [round(T * k / steps) for k in range(steps + 1)],
        ),
        Mistake(
            "there are `steps` points where there should be `steps` steps",
            "a fence of n gaps has n + 1 posts: which of the two are the steps?",
            wrong=lambda T, n: [round(T * (n - 1 - k) / max(1, n - 1)) for k in range(n)],
        ),
        Mistake(
            "there is one step too many",
            "a fence of n gaps has n + 1 posts: which of the two are the steps?",
            wrong=lambda T, n: [round(T * (n + 1 - k) / (n + 1)) for k in range(n + 2)],
        ),
        Mistake(
            "this is the linspace grid, with a last step from 1 to 0",
            "in a trailing grid all steps are of one length, the last one too",
            wrong=lambda T, n: [round(T - k * (T - 1) / max(1, n - 1)) for k in range(n)] + [0],
        ),
        Mistake(
            "positions are not rounded to indices",
            "t is an index into a table",
            wrong=lambda T, steps: [T * (steps - k) / steps for k in range(steps + 1)],
        ),
    ],
)
def trailing_grid(answer, draw):
    """steps + 1 indices, evenly spaced from T down to 0 and rounded to the nearest."""
    got = answer(1000, 5)
    holds(isinstance(raw(got), list), "the grid is a list", got=described(raw(got)))
    equal(got, [1000, 800, 600, 400, 200, 0], "1000 in 5 steps is 1000, 800, …, 0")
    equal(answer(1000, 1), [1000, 0], "one step goes from T straight to 0")
    T = draw.integer(40, 60)
    equal(answer(T, T), list(range(T, -1, -1)), "with as many steps as indices, every index is met")
    T, steps = 1000 + draw.integer(1, 50), 2 * draw.integer(10, 20) + 1
    for n in (steps, 2 * steps, 7 * steps):
        grid = answer(T, n)
        holds(
            len(grid) == n + 1,
            "n steps have n + 1 ends",
            length=len(grid),
            steps=n,
        )
        whole = all(type(t) is int for t in grid)
        holds(whole, "the indices are of Python's type int", got=type(grid[0]))
        ends = grid[0] == T and grid[-1] == 0
        holds(ends, "the first is T and the last is 0", first=grid[0], last=grid[-1], T=T)
        places = [T * (1 - k / n) for k in range(n + 1)]
        off = max((abs(t - p) for t, p in zip(grid, places, strict=False)), default=math.inf)
        claim = "no index is further than 1/2 from its evenly spaced place"
        holds(off <= 0.5 + 1e-9, claim, furthest=off)


# --- one step of DPM-Solver++(2M) ---------------------------------------------------------------


def _lam(alpha_bar):
    return math.inf if alpha_bar == 1 else 0.5 * math.log(alpha_bar / (1 - alpha_bar))


def _dpm(share=None, last=True, ratio=None, weight=None, lam=_lam):
    """The 2M step; parts may be replaced by wrong ones, as the share of the last change in D."""
    share = share or (lambda h, g, levels: h / (2 * g))
    ratio = ratio or (lambda a_t, a_s: ((1 - a_s) / (1 - a_t)) ** 0.5)
    weight = weight or (lambda a_t, a_s, h: a_s**0.5 * (1 - math.exp(-h)))

    def step(x_t, x0, x0_before, alpha_bar_t, alpha_bar_s, alpha_bar_before):
        a_t, a_s, a_b = alpha_bar_t, alpha_bar_s, alpha_bar_before
        h, D = lam(a_s) - lam(a_t), x0
        if x0_before is not None and (a_s < 1 or not last):
            D = x0 + share(h, lam(a_t) - lam(a_b), (a_b, a_t, a_s)) * (x0 - x0_before)
        return ratio(a_t, a_s) * x_t + weight(a_t, a_s, h) * D

    return step


@exercise(
    disables=["minit2i.sample.dpm2m"],
    mistakes=[
        Mistake(
            "x0_before is not used: this is a first-order step",
            "(18) holds x0 constant over the step; what does (19) put in its place?",
            wrong=_dpm(lambda h, g, levels: 0.0),
        ),
        Mistake(
            "the line is followed a whole step, not half of one",
            "at which point of the step is the line to be read off?",
            wrong=_dpm(lambda h, g, levels: h / g),
        ),
        Mistake(
            "the two steps are taken as equally long",
            "a slope is a difference over a distance: which step lies between the two guesses?",
            wrong=_dpm(lambda h, g, levels: 0.5),
        ),
        Mistake(
            "the ratio of the two steps is upside down",
            "which of the two steps makes the slope, and along which is it followed?",
            wrong=_dpm(lambda h, g, levels: g / (2 * h)),
        ),
        Mistake(
            "the slope points backwards",
            "which of the two guesses is the later one?",
            wrong=_dpm(lambda h, g, levels: -h / (2 * g)),
        ),
        Mistake(
            "the line starts from x0_before",
            "which of the two guesses belongs to t, where this step starts?",
            wrong=_dpm(lambda h, g, levels: h / (2 * g) - 1),
        ),
        Mistake(
            "x0 and x0_before are averaged",
            "the middle of this step lies ahead of x0, not between x0 and x0_before",
            wrong=_dpm(lambda h, g, levels: -0.5),
        ),
        Mistake(
            "the former step is measured from before to s",
            "h_before is the length of the step that ended at t",
            wrong=_dpm(lambda h, g, levels: h / (2 * (h + g))),
        ),
        Mistake(
            "the lengths of the steps are differences of alpha_bar",
            "the line is one in lambda: which function of this lesson gives lambda?",
            wrong=_dpm(lambda h, g, a: (a[2] - a[1]) / (2 * (a[1] - a[0]))),
        ),
        Mistake(
            "lambda is the whole log of the signal-to-noise ratio, not half of it",
            "lambda is the log of signal / noise, not of signal² / noise²",
            wrong=_dpm(lam=lambda alpha_bar: 2 * _lam(alpha_bar)),
        ),
        Mistake(
            "the slope is carried into the last step",
            "lambda is infinite at alpha_bar = 1: how far would the slope be carried?",
            wrong=_dpm(last=False),
        ),
        Mistake(
            "the ratio of the noise levels lacks its square root",
            "is the noise level of (18) a variance?",
            wrong=_dpm(ratio=lambda a_t, a_s: (1 - a_s) / (1 - a_t)),
        ),
        Mistake(
            "x_t is multiplied by the ratio of the signals",
            "the variable that makes the linear part vanish is x/noise",
            wrong=_dpm(ratio=lambda a_t, a_s: (a_s / a_t) ** 0.5),
        ),
        Mistake(
            "the sign of h in the exponential is wrong",
            "for a very long step the weight of D must approach the signal at s: does yours?",
            wrong=_dpm(weight=lambda a_t, a_s, h: a_s**0.5 * (1 - math.exp(min(h, 500)))),
        ),
        Mistake(
            "the weight of D takes the signal of t",
            "the step arrives at s: whose signal should D carry?",
            wrong=_dpm(weight=lambda a_t, a_s, h: a_t**0.5 * (1 - math.exp(-h))),
        ),
        Mistake(
            "the weight of D takes alpha_bar_s without its root",
            "is the signal of (18) a variance?",
            wrong=_dpm(weight=lambda a_t, a_s, h: a_s * (1 - math.exp(-h))),
        ),
        Mistake(
            "the weight of D lacks the signal of s",
            "what is noise_s e^(lambda_s), multiplied out?",
            wrong=_dpm(weight=lambda a_t, a_s, h: 1 - math.exp(-h)),
        ),
        Mistake(
            "the first step is not treated apart",
            "there x0_before and alpha_bar_before are None: what does (18) do without them?",
            when=lambda calls: any(
                isinstance(call.error, TypeError) and "NoneType" in str(call.error)
                for call in calls
                if call.args[2] is None
            ),
        ),
    ],
)
def dpm2m_step(answer, draw):
    """One step of DPM-Solver++(2M); x0_before and alpha_bar_before are None at the first step."""

    def exact(x_t, x0, before, a_b, a_t, a_s):
        """The same in σ = noise/signal: the integrator is exact on lines in log σ."""
        sigma_b, sigma_t, sigma_s = (((1 - a) / a) ** 0.5 for a in (a_b, a_t, a_s))
        slope = (x0 - before) / math.log(sigma_b / sigma_t)
        D = x0 + slope * math.log(sigma_t / sigma_s) / 2
        shrink = sigma_s / sigma_t
        return a_s**0.5 * (shrink * x_t / a_t**0.5 + (1 - shrink) * D)

    a_b = draw.uniform(0.05, 0.12)
    a_t, a_s = _levels(draw)
    x_t, x0, before = (draw.normal(5, 2) for _ in range(3))
    eps = (x_t - a_t**0.5 * x0) / (1 - a_t) ** 0.5
    euler = a_s**0.5 * x0 + (1 - a_s) ** 0.5 * eps
    equal(answer(x_t, x0, None, a_t, a_s, None), euler, "the first step is a DDIM step")
    equal(answer(x_t, x0, x0, a_t, a_s, a_b), euler, "where x0 does not change, it is a DDIM step")
    got = answer(x_t, x0, before, a_t, a_s, a_b)
    claim = "x0 is carried along its line to the middle of the step"
    equal(got, exact(x_t, x0, before, a_b, a_t, a_s), claim)
    equal(answer(x_t, x0, before, a_t, 1.0, a_b), x0, "the last step (alpha_bar_s = 1) returns x0")
    levels = (0.99, 0.999, 0.9999)
    got = answer(x_t, x0, before, levels[1], levels[2], levels[0])
    equal(got, exact(x_t, x0, before, *levels), ALMOST)
    x_t, x0, before = (draw.normal(3, 2, 4, 5) for _ in range(3))
    got = answer(x_t, x0, before, a_t, a_s, a_b)
    equal(got, exact(x_t, x0, before, a_b, a_t, a_s), PICTURES)


# --- one inversion step -------------------------------------------------------------------------


def _invert(rule):
    """A wrong inversion from rule(x_s, eps, signal_s, noise_s, signal_t, noise_t)."""

    def step(x_s, eps, alpha_bar_s, alpha_bar_t):
        levels = [f(a) ** 0.5 for a in (alpha_bar_s, alpha_bar_t) for f in (float, lambda a: 1 - a)]
        return rule(x_s, eps, *levels)

    return step


@exercise(
    disables=["minit2i.sample.invert", "minit2i.sample.ddim"],
    mistakes=[
        Mistake(
            "the step goes down, from t to s",
            "x_s is the cleaner one, and it is given",
            wrong=_invert(lambda x, e, s, n, S, N: s * (x - N * e) / S + n * e),
        ),
        Mistake(
            "this is a forward step with fresh noise, q(x_t | x_s)",
            "eps is the noise already in x_s, and none is new: of which x0 is x_s made?",
            wrong=_invert(lambda x, e, s, n, S, N: S / s * x + (1 - (S / s) ** 2) ** 0.5 * e),
        ),
        Mistake(
            "x_s is treated as clean data",
            "x_s holds noise already: of which x0 is it made?",
            wrong=_invert(lambda x, e, s, n, S, N: S * x + N * e),
        ),
        Mistake(
            "x_s is taken apart with the levels of t",
            "at which of the two levels was x_s made?",
            wrong=_invert(lambda x, e, s, n, S, N: S * (x - N * e) / S + N * e),
        ),
        Mistake(
            "the variance stands where the standard deviation belongs",
            "is the noise level in (20) a variance?",
            wrong=_invert(lambda x, e, s, n, S, N: S * (x - n**2 * e) / s + N**2 * e),
        ),
        Mistake(
            "the signals lack their square roots",
            "is the signal in (20) a variance?",
            wrong=_invert(lambda x, e, s, n, S, N: S**2 * (x - n * e) / s**2 + N * e),
        ),
        Mistake(
            "x0 is not divided by the signal of s",
            "take the noise out of x_s: is what remains x0?",
            wrong=_invert(lambda x, e, s, n, S, N: S * (x - n * e) + N * e),
        ),
        Mistake(
            "x0 is not multiplied by the signal of t",
            "x_t is made of x0 and eps as in lesson 01: which two factors stand there?",
            wrong=_invert(lambda x, e, s, n, S, N: (x - n * e) / s + N * e),
        ),
        Mistake(
            "the step stops at x0",
            "x0 is half the way: what is x_t, made of this x0 and eps?",
            wrong=_invert(lambda x, e, s, n, S, N: (x - n * e) / s),
        ),
    ],
)
def invert_step(answer, draw):
    """DDIM backwards: x_t with the x0 and eps of x_s, from floats ᾱ_s > ᾱ_t."""
    a_t, a_s = _levels(draw)
    for size in ((5, 2), (3, 2, 4, 5)):
        x0, eps = draw.normal(*size), draw.normal(*size)
        x_s = a_s**0.5 * x0 + (1 - a_s) ** 0.5 * eps
        x_t = a_t**0.5 * x0 + (1 - a_t) ** 0.5 * eps
        got = answer(x_s, eps, a_s, a_t)
        equal(got, x_t, "x_s and x_t are made of the same x0 and the same eps")
    got = answer(x0, eps, 1.0, a_t)
    equal(got, x_t, "from clean data (alpha_bar_s = 1) it is the closed form of lesson 01")
    equal(answer(x_s, eps, a_s, a_s), x_s, "a step of no length changes nothing")
