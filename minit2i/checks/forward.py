"""Checks of lesson 01: from data to noise."""

import math

import torch

from minit2i.checks.judge import Mistake, equal, exercise, holds, raises, shape

# --- alpha_bar ----------------------------------------------------------------------------------


def _after_one(rest):
    """The wrong answer 1, rest(betas)."""
    return lambda betas: torch.cat([betas.new_ones(1), rest(betas)])


@exercise(
    disables=[
        "minit2i.schedule._from_betas",
        "minit2i.schedule.Schedule.alpha_bar",
        "minit2i.schedule.Schedule.__init__",
    ],
    mistakes=[
        Mistake(
            "index 0 is missing",
            "T steps have T + 1 states: which share of the data is left before the first step?",
            wrong=lambda betas: (1 - betas).cumprod(0),
        ),
        Mistake(
            "the last step is left out",
            "the first entry was put in, and the product then stops one step too early",
            wrong=_after_one(lambda betas: (1 - betas[:-1]).cumprod(0)),
        ),
        Mistake(
            "everything stands one step late",
            "entry 1 is the state after one step, so beta_1 must be in it",
            wrong=_after_one(
                lambda betas: torch.cat([betas.new_ones(1), 1 - betas[:-1]]).cumprod(0)
            ),
        ),
        Mistake(
            "alpha_bar starts at 0",
            "index 0 is clean data: which share of the signal's variance is still there?",
            wrong=lambda betas: torch.cat([betas.new_zeros(1), (1 - betas).cumprod(0)]),
        ),
        Mistake(
            "the betas are multiplied instead of what each step leaves over",
            "a step with a small beta keeps nearly everything",
            wrong=_after_one(lambda betas: betas.cumprod(0)),
        ),
        Mistake(
            "the losses are added up instead of multiplying what is left",
            "each step takes a share of what the steps before it left",
            wrong=_after_one(lambda betas: 1 - betas.cumsum(0)),
        ),
        Mistake(
            "exp(-sum of beta) is only an approximation for small beta",
            "(7) uses it to estimate the end of the chain; here (5) is asked for, exactly",
            wrong=_after_one(lambda betas: (-betas.cumsum(0)).exp()),
        ),
        Mistake(
            "this is the root of alpha_bar",
            "sqrt(alpha_bar) multiplies x0; alpha_bar itself is a variance",
            wrong=_after_one(lambda betas: (1 - betas).sqrt().cumprod(0)),
        ),
        Mistake(
            "these are the single factors, not their product",
            "entry t must contain all steps from 1 to t",
            wrong=_after_one(lambda betas: 1 - betas),
        ),
        Mistake(
            "this is the noise's variance 1 - alpha_bar",
            "alpha_bar belongs to the signal and falls with t",
            wrong=lambda betas: 1 - torch.cat([betas.new_ones(1), (1 - betas).cumprod(0)]),
        ),
        Mistake(
            "the steps are multiplied from the end",
            "betas[0] is the first step that the data meets",
            wrong=_after_one(lambda betas: (1 - betas.flip(0)).cumprod(0)),
        ),
        Mistake(
            "the 1 stands at the end",
            "the empty product belongs to index 0, in front of all others",
            wrong=lambda betas: torch.cat([(1 - betas).cumprod(0), betas.new_ones(1)]),
        ),
    ],
)
def alpha_bar(answer, draw):
    """ᾱ_0 … ᾱ_T (T+1,) from β_1 … β_T (T,): ᾱ_t = ∏_{s≤t} (1 - β_s), the empty product being 1."""
    T = draw.integer(5, 9)
    betas = draw.uniform(0.05, 0.9, T)
    got = answer(betas)  # a general case first: the mistakes differ on it
    half = answer(torch.full((3,), 0.5, dtype=torch.float64))
    equal(half, 0.5 ** torch.arange(4.0), "three steps that keep half leave 1, ½, ¼, ⅛")
    shape(got, (T + 1,), "T steps have T + 1 states")
    equal(got[0], 1.0, "before the first step nothing is lost")
    left = 1.0
    expected = [left := left * (1 - beta) for beta in betas.tolist()]
    expected = torch.tensor(expected, dtype=torch.float64)
    equal(got[1:], expected, "entry t is the product up to t", dtype=betas.dtype)
    equal(got[1:] / got[:-1], 1 - betas, "neighbours differ by the factor 1 - beta")
    betas = draw.uniform(0.01, 0.02, 900)
    whole = math.exp(math.fsum(math.log1p(-beta) for beta in betas.tolist()))
    equal(answer(betas)[-1] / whole, 1.0, "the product is exact over a long chain too")


# --- closed_form --------------------------------------------------------------------------------


def _column(alpha_bar, x0):
    """ᾱ_t, one per sample, shaped to multiply x0 (b, ...)."""
    return alpha_bar.view(-1, *[1] * (x0.ndim - 1))


def _mixed(signal, noise, column=_column):
    """The wrong answer with these two functions of ᾱ_t in front of x0 and ε."""

    def wrong(x0, alpha_bar, eps):
        a = column(alpha_bar, x0)
        return signal(a) * x0 + noise(a) * eps

    return wrong


ROOTS = torch.sqrt, lambda a: (1 - a).sqrt()  # the right ones


def _own_noise(x0, alpha_bar, eps):
    return _mixed(*ROOTS)(x0, alpha_bar, torch.randn_like(eps))


@exercise(
    disables=["minit2i.schedule.Schedule.diffuse"],
    mistakes=[
        Mistake(
            "the variance stands where the standard deviation belongs",
            "what multiplies eps is a standard deviation; what is the variance of c * eps?",
            wrong=_mixed(torch.sqrt, lambda a: 1 - a),
        ),
        Mistake(
            "x0 is scaled by alpha_bar without its root",
            "for data of variance 1 the variances of signal and noise add up to 1: do yours?",
            wrong=_mixed(lambda a: a, lambda a: (1 - a).sqrt()),
        ),
        Mistake(
            "both roots are missing",
            "alpha_bar and 1 - alpha_bar are variances: what is the variance of c * eps?",
            wrong=_mixed(lambda a: a, lambda a: 1 - a),
        ),
        Mistake(
            "signal and noise are swapped",
            "what should x_t be where alpha_bar = 1?",
            wrong=_mixed(lambda a: (1 - a).sqrt(), torch.sqrt),
        ),
        Mistake(
            "the noise is scaled by 1 - sqrt(alpha_bar)",
            "what adds up to 1 are the variances, not the standard deviations",
            wrong=_mixed(torch.sqrt, lambda a: 1 - a.sqrt()),
        ),
        Mistake(
            "x0 is not scaled down",
            "noise is added and signal taken away: what is the variance of your x_t?",
            wrong=_mixed(torch.ones_like, lambda a: (1 - a).sqrt()),
        ),
        Mistake(
            "the noise is not scaled",
            "where alpha_bar = 1 nothing may be added: what is the variance of your x_t?",
            wrong=_mixed(torch.sqrt, torch.ones_like),
        ),
        Mistake(
            "the noise is subtracted",
            "the law of x_t is the same, but eps is then not the noise that was added",
            wrong=_mixed(torch.sqrt, lambda a: -(1 - a).sqrt()),
        ),
        Mistake(
            "alpha_bar is not reshaped to one value per sample",
            "(b,) lines up with the last axis of x0, but the samples lie along the first",
            wrong=_mixed(*ROOTS, column=lambda alpha_bar, x0: alpha_bar),
        ),
        Mistake(
            "alpha_bar is reshaped for two axes only",
            "pictures have shape (b, c, h, w): how many axes has x0 here?",
            wrong=_mixed(*ROOTS, column=lambda alpha_bar, x0: alpha_bar[:, None]),
        ),
        Mistake(
            "alpha_bar is reshaped for pictures only",
            "points have shape (b, 2): how many axes has x0 here?",
            wrong=_mixed(*ROOTS, column=lambda alpha_bar, x0: alpha_bar[:, None, None, None]),
        ),
        Mistake(
            "one alpha_bar serves the whole batch",
            "every sample of a batch has its own time, hence its own alpha_bar",
            wrong=_mixed(*ROOTS, column=lambda alpha_bar, x0: alpha_bar[0]),
        ),
        Mistake(
            "the noise is drawn anew",
            "the network is to learn the eps it is given: use that one",
            wrong=_own_noise,
        ),
    ],
)
def closed_form(answer, draw):
    """x_t = √ᾱ_t x_0 + √(1-ᾱ_t) ε (DDPM, eq. 4) from x0 (b, ...), alpha_bar (b,), eps (b, ...)."""
    b = draw.integer(3, 6)
    alpha_bar = draw.uniform(0.1, 0.9, b)
    x0, eps = draw.normal(b, 2, 3), draw.normal(b, 2, 3)
    a = alpha_bar[:, None, None]
    general = answer(x0, alpha_bar, eps), a**0.5 * x0 + (1 - a) ** 0.5 * eps  # mistakes differ here
    x0, eps = draw.normal(b, 2), draw.normal(b, 2)
    a = alpha_bar[:, None]
    equal(answer(x0, alpha_bar, 0 * eps), a**0.5 * x0, "without noise, x_t is the scaled data")
    equal(answer(0 * x0, alpha_bar, eps), (1 - a) ** 0.5 * eps, "without data, x_t is scaled noise")
    expected = a**0.5 * x0 + (1 - a) ** 0.5 * eps
    equal(answer(x0, alpha_bar, eps), expected, "x_t is the sum of the two")
    equal(*general, "x0 may have any number of axes")
    one = draw.uniform(1, 1, 2)
    equal(answer(x0[:2], one, eps[:2]), x0[:2], "at alpha_bar = 1 nothing is lost")
    x0, eps = draw.normal(b, b), draw.normal(b, b)
    expected = a**0.5 * x0 + (1 - a) ** 0.5 * eps
    equal(
        answer(x0, alpha_bar, eps),
        expected,
        "alpha_bar belongs to the samples (rows), in a square batch too",
    )
    x0, eps = draw.normal(b, 1, 4, 4), draw.normal(b, 1, 4, 4)
    a = alpha_bar.view(b, 1, 1, 1)
    expected = a**0.5 * x0 + (1 - a) ** 0.5 * eps
    equal(answer(x0, alpha_bar, eps), expected, "each picture of a batch has its own alpha_bar")


# --- linear -------------------------------------------------------------------------------------


def _linear(low=None, high=None, line=torch.linspace, refuse=lambda last: last >= 1):
    """A wrong answer: other factors of the two ends, another line, another limit."""
    scale = lambda T: 1000 / T  # noqa: E731

    def wrong(T, beta_min=1e-4, beta_max=0.02):
        if refuse(1000 / T * beta_max):
            raise ValueError(f"T = {T} is too small")
        ends = (low or scale)(T) * beta_min, (high or scale)(T) * beta_max
        return line(*ends, T, dtype=torch.float64)

    return wrong


def _both(scale, **change):
    return _linear(scale, scale, **change)


def _clamped(T, beta_min=1e-4, beta_max=0.02):
    return (1000 / T * torch.linspace(beta_min, beta_max, T, dtype=torch.float64)).clamp(max=0.999)


def _fixed_limit(T, beta_min=1e-4, beta_max=0.02):
    if T <= 20:
        raise ValueError(f"T = {T} is too small")
    return _linear(refuse=lambda last: False)(T, beta_min, beta_max)


def _refuses_too_much(calls):
    """Whether a chain was refused whose last beta is below 1."""
    largest = [1000 / T * (ends[1] if ends else 0.02) for T, *ends in (call.args for call in calls)]
    return any(
        isinstance(call.error, ValueError) and beta < 1
        for call, beta in zip(calls, largest, strict=True)
    )


@exercise(
    disables=[
        "minit2i.schedule.linear",
        "minit2i.schedule._from_betas",
        "minit2i.schedule.Schedule.beta",
    ],
    mistakes=[
        Mistake(
            "the betas are not rescaled",
            "a shorter chain adds less noise in all, unless each step adds more",
            wrong=_both(lambda T: 1),
        ),
        Mistake(
            "the scale is upside down",
            "should fewer steps be larger or smaller ones?",
            wrong=_both(lambda T: T / 1000),
        ),
        Mistake(
            "only beta_max is rescaled",
            "the sum of the betas is to stay: both ends of the line count",
            wrong=_linear(low=lambda T: 1),
        ),
        Mistake(
            "only beta_min is rescaled",
            "the sum of the betas is to stay: both ends of the line count",
            wrong=_linear(high=lambda T: 1),
        ),
        Mistake(
            "1000 / T is rounded to a whole number",
            "// drops the fraction, and the sum of the betas is off by it",
            wrong=_both(lambda T: 1000 // T),
        ),
        Mistake(
            "a chain of more than 1000 steps is not rescaled",
            "the sum of the betas is to stay: should more steps be larger or smaller ones?",
            wrong=_both(lambda T: max(1, 1000 / T)),
        ),
        Mistake(
            "the root of beta lies on a line, and not beta",
            "that is another schedule (Stable Diffusion has it): here beta itself is evenly spaced",
            wrong=_linear(
                line=lambda a, b, T, dtype: torch.linspace(a**0.5, b**0.5, T, dtype=dtype) ** 2
            ),
        ),
        Mistake(
            "the last beta falls short",
            "the last of the T values is the upper end itself: how many gaps lie between T points?",
            wrong=_linear(
                line=lambda a, b, T, dtype: a + (b - a) * torch.arange(T, dtype=dtype) / T
            ),
        ),
        Mistake(
            "the line starts one step late",
            "the first of the T values is the lower end itself",
            wrong=_linear(line=lambda a, b, T, dtype: torch.linspace(a, b, T + 1, dtype=dtype)[1:]),
        ),
        Mistake(
            "there is an entry for t = 0",
            "T steps have T betas; it is alpha_bar that has T + 1 entries",
            wrong=_linear(
                line=lambda a, b, T, dtype: torch.nn.functional.pad(
                    torch.linspace(a, b, T, dtype=dtype), (1, 0)
                )
            ),
        ),
        Mistake(
            "the betas fall",
            "the first steps meet clean data and are to be gentle",
            wrong=_linear(line=lambda a, b, T, dtype: torch.linspace(b, a, T, dtype=dtype)),
        ),
        Mistake(
            "this is alpha_bar",
            "the betas are asked for; exercise 1 makes their product",
            wrong=_linear(
                line=lambda a, b, T, dtype: (1 - torch.linspace(a, b, T, dtype=dtype)).cumprod(0)
            ),
        ),
        Mistake(
            "a T too small is not refused",
            "a step with beta = 1 leaves nothing of the signal, and beyond 1 there is no such step",
            wrong=_linear(refuse=lambda last: False),
        ),
        Mistake(
            "a beta too large is clipped instead of refused",
            "clipped betas no longer have the promised sum: honest code refuses",
            wrong=_clamped,
        ),
        Mistake(
            "beta = 1 is let through",
            "a step with beta = 1 leaves nothing at all of the signal",
            wrong=_linear(refuse=lambda last: last > 1),
        ),
        Mistake(
            "the limit on T is fixed",
            "how small T may be depends on beta_max too",
            wrong=_fixed_limit,
        ),
        Mistake(
            "a chain is refused whose last beta is below 1",
            "0.5 and even 0.95 are allowed: where is the limit, and of which number?",
            when=_refuses_too_much,
        ),
    ],
)
def linear(answer, draw):
    """β_1 … β_T (T,) on a line from β_min to β_max, scaled by 1000/T; ValueError if β_T ≥ 1."""
    T, low, high = draw.integer(25, 60), draw.uniform(1e-3, 3e-3), draw.uniform(0.01, 0.02)
    step = (high - low) / (T - 1)
    expected = [1000 / T * (low + i * step) for i in range(T)]
    got = answer(T, low, high)
    shape(got, (T,), "T steps have T betas")
    holds(
        abs(float(got.sum()) / (500 * (low + high)) - 1) < 1e-5,
        "the sum of the betas does not depend on T",
        sum=float(got.sum()),
        expected=500 * (low + high),
    )
    expected = torch.tensor(expected, dtype=torch.float64)
    equal(
        got,
        expected,
        "the betas lie on a line between the two scaled ends",
        tol=1e-12,
        dtype=torch.float64,
    )
    got = answer(1000)
    equal(1e4 * got[0], 1.0, "beta_1 = 0.0001 for T = 1000")
    equal(1e4 * got[-1], 200.0, "beta_T = 0.02 for T = 1000")
    equal(1e4 * answer(2000)[-1], 100.0, "twice the steps, half the size")
    left = float(torch.log1p(-answer(100)).sum())
    holds(left < math.log(1e-4), "100 rescaled steps leave less than 0.0001", log_alpha_bar=left)
    equal(answer(21)[-1], 1000 / 21 * 0.02, "T = 21 is allowed with the default range")
    equal(answer(10, 1e-4, 5e-3)[-1], 0.5, "T = 10 is allowed with smaller betas")
    raises(ValueError, "T = 20 is refused, where beta_T = 1", answer, 20)
    raises(ValueError, "a still smaller T is refused", answer, draw.integer(2, 20))
    raises(ValueError, "T = 50 is refused with betas up to 0.08", answer, 50, 1e-4, 0.08)


# --- cosine -------------------------------------------------------------------------------------


def _cosine(angle=None, bend=None, betas=None, clip=None):
    """The right answer, or a wrong one with another angle, power, ratio or clipping."""
    angle = angle or (lambda u, s: (u + s) / (1 + s) * math.pi / 2)
    bend = bend or (lambda angle: angle.cos() ** 2)
    betas = betas or (lambda f: 1 - f[1:] / f[:-1])
    clip = clip or (lambda beta, limit: beta.clamp(max=limit))

    def answer(T, s=0.008, beta_clip=0.999):
        u = torch.arange(T + 1, dtype=torch.float64) / T
        return clip(betas(bend(angle(u, s))), beta_clip)

    return answer


def _not_divided(f):
    return 1 - torch.cat([f[1:2], f[2:] / f[1:-1]])


def _alpha_bar_clipped(T, s=0.008, beta_clip=0.999):
    u = torch.arange(T + 1, dtype=torch.float64) / T
    f = ((u + s) / (1 + s) * math.pi / 2).cos() ** 2
    f = (f / f[0]).clamp(min=1 - beta_clip)
    return 1 - f[1:] / f[:-1]


def _short_axis(T, s=0.008, beta_clip=0.999):
    u = torch.linspace(0, 1, T, dtype=torch.float64)
    f = ((u + s) / (1 + s) * math.pi / 2).cos() ** 2
    return (1 - f / torch.cat([f[:1], f[:-1]])).clamp(max=beta_clip)


@exercise(
    disables=[
        "minit2i.schedule.cosine",
        "minit2i.schedule._from_betas",
        "minit2i.schedule.Schedule.beta",
    ],
    mistakes=[
        Mistake(
            "the last beta is not clipped",
            "f(T) = 0: what is the last beta then, and what will the way back divide by?",
            wrong=_cosine(clip=lambda beta, limit: beta),
        ),
        Mistake(
            "the limit is fixed at 0.999",
            "beta_clip is an argument: what happens to yours when it is 0.4?",
            wrong=_cosine(clip=lambda beta, limit: beta.clamp(max=0.999)),
        ),
        Mistake(
            "only the last beta is clipped",
            "with a lower limit than 0.999 several betas lie above it",
            wrong=_cosine(
                clip=lambda beta, limit: torch.cat([beta[:-1], beta[-1:].clamp(max=limit)])
            ),
        ),
        Mistake(
            "alpha_bar is clipped instead of beta",
            "the limit is one on what a single step removes",
            wrong=_alpha_bar_clipped,
        ),
        Mistake(
            "the offset s is left out",
            "without s in (8) the first steps add next to no noise",
            wrong=_cosine(angle=lambda u, s: u * math.pi / 2),
        ),
        Mistake(
            "the division by 1 + s is missing",
            "where must the angle stand at t = T for f to be 0?",
            wrong=_cosine(angle=lambda u, s: (u + s) * math.pi / 2),
        ),
        Mistake(
            "the brackets around 1 + s are missing",
            "/ binds before +: which part of your angle does it divide?",
            wrong=_cosine(angle=lambda u, s: ((u + s) / 1 + s) * math.pi / 2),
        ),
        Mistake(
            "the offset is 0.008 whatever s is",
            "s is an argument: does your angle change with it?",
            wrong=_cosine(angle=lambda u, s: (u + 0.008) / 1.008 * math.pi / 2),
        ),
        Mistake(
            "the angle runs to pi instead of pi/2",
            "f falls from 1 to 0 and must not rise again",
            wrong=_cosine(angle=lambda u, s: (u + s) / (1 + s) * math.pi),
        ),
        Mistake(
            "the cosine is not squared",
            "the curve (8) is one of variances, and a cosine alone is an amplitude",
            wrong=_cosine(bend=torch.cos),
        ),
        Mistake(
            "f is not divided by f(0)",
            "alpha_bar_0 must be 1: what stands below the fraction in the first beta?",
            wrong=_cosine(betas=_not_divided),
        ),
        Mistake(
            "the ratio is upside down",
            "alpha_bar falls: the new value over the former one is below 1",
            wrong=_cosine(betas=lambda f: 1 - f[:-1] / f[1:]),
        ),
        Mistake(
            "beta is a difference of alpha_bars instead of a ratio",
            "beta is the share of what was left, not of what there was at first",
            wrong=_cosine(betas=lambda f: (f[:-1] - f[1:]) / f[0]),
        ),
        Mistake(
            "these are the ratios, not the betas",
            "what a step keeps is alpha; beta is what it takes away",
            wrong=_cosine(betas=lambda f: f[1:] / f[:-1]),
        ),
        Mistake(
            "this is 1 - alpha_bar, the loss since the start",
            "beta_t is what step t alone removes, of what the step before had left",
            wrong=_cosine(betas=lambda f: 1 - f[1:] / f[0]),
        ),
        Mistake(
            "t runs over T values instead of T + 1",
            "T betas are ratios of neighbours: how many values of f does that take?",
            wrong=_short_axis,
        ),
    ],
)
def cosine(answer, draw):
    """β_1 … β_T (T,) with 1 - β_t = f(t)/f(t-1), f(t) = cos²((t/T+s)/(1+s)·π/2), clipped."""
    T, s = draw.integer(6, 15), draw.uniform(0.02, 0.2)
    f = [math.cos((t / T + s) / (1 + s) * math.pi / 2) ** 2 for t in range(T + 1)]
    free = torch.tensor([1 - f[t] / f[t - 1] for t in range(1, T + 1)], dtype=torch.float64)
    got = answer(T, s, 0.999)
    shape(got, (T,), "T steps have T betas")
    equal(
        got[:-1],
        free[:-1],
        "the betas before the last make alpha_bar = f(t)/f(0)",
        dtype=torch.float64,
    )
    equal(got[-1], 0.999, "the last beta is clipped")
    limit = draw.uniform(0.3, 0.5)
    expected = free.clamp(max=limit)
    equal(answer(T, s, limit), expected, "no beta exceeds beta_clip, the others are as before")
    got = answer(1000)
    equal(1e5 * got[0], 4.12842, "beta_1 = 0.0000412842 for T = 1000")
    half = float(torch.log1p(-got[:500]).sum())
    equal(math.exp(half), 0.493844, "half way alpha_bar is f(1/2)/f(0) = 0.493844")
    holds(int((got == got.max()).sum()) == 1, "exactly one of 1000 betas is clipped")


# --- snr ----------------------------------------------------------------------------------------


@exercise(
    disables=["minit2i.schedule.Schedule.snr"],
    mistakes=[
        Mistake(
            "this is the ratio of standard deviations",
            "the signal-to-noise ratio compares variances (powers)",
            wrong=lambda alpha_bar: (alpha_bar / (1 - alpha_bar)).sqrt(),
        ),
        Mistake(
            "the ratio is upside down",
            "should it grow or fall as noise is added?",
            wrong=lambda alpha_bar: (1 - alpha_bar) / alpha_bar,
        ),
        Mistake(
            "the noise is given by its standard deviation",
            "both halves of the ratio are variances",
            wrong=lambda alpha_bar: alpha_bar / (1 - alpha_bar).sqrt(),
        ),
        Mistake(
            "the signal is given by its amplitude",
            "both halves of the ratio are variances",
            wrong=lambda alpha_bar: alpha_bar.sqrt() / (1 - alpha_bar),
        ),
        Mistake(
            "this is total variance over noise",
            "the numerator is what is left of the signal alone",
            wrong=lambda alpha_bar: 1 / (1 - alpha_bar),
        ),
        Mistake(
            "this is the logarithm",
            "the ratio itself is asked for; plots take the logarithm of it",
            wrong=lambda alpha_bar: (alpha_bar / (1 - alpha_bar)).log(),
        ),
        Mistake(
            "this is in decibels",
            "the ratio itself is asked for; decibels are for plots",
            wrong=lambda alpha_bar: 10 * (alpha_bar / (1 - alpha_bar)).log10(),
        ),
        Mistake(
            "index 0 is missing",
            "one entry is asked for each entry of alpha_bar; torch divides by 0 without complaint",
            wrong=lambda alpha_bar: (alpha_bar / (1 - alpha_bar))[1:],
        ),
        Mistake(
            "clean data has a finite ratio",
            "without noise the ratio is infinite, and torch divides by 0 without complaint",
            wrong=lambda alpha_bar: alpha_bar / (1 - alpha_bar).clamp(min=1e-8),
        ),
        Mistake(
            "clean data has the ratio 0",
            "0 would say that nothing of the signal is left",
            wrong=lambda alpha_bar: (alpha_bar / (1 - alpha_bar)).nan_to_num(posinf=0.0),
        ),
        Mistake(
            "Python's own numbers are divided",
            "Python refuses to divide by 0, where a tensor gives infinity",
            when=lambda calls: any(isinstance(call.error, ZeroDivisionError) for call in calls),
        ),
    ],
)
def snr(answer, draw):
    """ᾱ_t/(1 - ᾱ_t), the signal's variance over the noise's, (T+1,); infinite where ᾱ = 1."""
    ends = torch.tensor([1.0, 0.8, 0.5, 0.2, 0.0], dtype=torch.float64)
    expected = torch.tensor([math.inf, 4.0, 1.0, 0.25, 0.0], dtype=torch.float64)
    at_ends = answer(ends)  # first: the mistakes differ on it
    inside = draw.uniform(0.01, 0.99, draw.integer(4, 8))
    ratio = 1 / (1 / inside - 1)
    equal(answer(inside), ratio, "each entry is the ratio of the two variances", dtype=inside.dtype)
    equal(at_ends, expected, "it is infinite for clean data, 1 at alpha_bar = ½, 0 for pure noise")
