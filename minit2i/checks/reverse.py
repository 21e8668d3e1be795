"""Checks of lesson 02: the reverse process and the DDPM loss.

A mistake is the right answer with one part changed: `partial(_posterior, swap=True)`.
"""

import math
from functools import partial

import torch

from minit2i.checks.judge import (
    Mistake,
    described,
    equal,
    exercise,
    fits_points_only,
    holds,
    raises,
    raw,
    shape,
)


def _like(values, x):
    """One value per sample, shaped to multiply x (b, ...)."""
    return values.view(-1, *[1] * (x.ndim - 1))


FOR_POINTS_ONLY = Mistake(
    "the coefficients fit points (b, d) only",
    "pictures have shape (b, c, h, w): how many axes must a coefficient have to multiply them?",
    when=fits_points_only,
)


# --- posterior --------------------------------------------------------------------------------


def _schedule(draw, T):
    """Betas and alpha-bars with index 0 clean, of no particular shape."""
    beta = torch.cat([torch.zeros(1, dtype=torch.float64), draw.uniform(0.05, 0.4, T)])
    return beta, (1 - beta).cumprod(0)


def _posterior(x0, x_t, t, beta, alpha_bar, before=None, swap=False, c0=None, ct=None, var=None):
    """The right answer, in which a mistake changes one part."""
    b, a_t = beta[t], alpha_bar[t]
    a_s = alpha_bar[t - 1] if before is None else before(alpha_bar, t)
    c0 = a_s.sqrt() * b / (1 - a_t) if c0 is None else c0(b, a_t, a_s)
    ct = (1 - b).sqrt() * (1 - a_s) / (1 - a_t) if ct is None else ct(b, a_t, a_s)
    var = b * (1 - a_s) / (1 - a_t) if var is None else var(b, a_t, a_s)
    c0, ct = (ct, c0) if swap else (c0, ct)
    return _like(c0, x0) * x0 + _like(ct, x0) * x_t, var


def _by_precisions(x0, x_t, t, beta, alpha_bar):
    b, a_s = beta[t], alpha_bar[t - 1]
    variance = 1 / ((1 - b) / b + 1 / (1 - a_s))
    c0, ct = a_s.sqrt() / (1 - a_s), (1 - b).sqrt() / b
    return _like(variance, x0) * (_like(c0, x0) * x0 + _like(ct, x0) * x_t), variance


@exercise(
    disables=[
        "minit2i.schedule.Schedule.posterior",
        "minit2i.schedule.Schedule.transition",
    ],
    mistakes=[
        Mistake(
            "alpha_bar of t stands where alpha_bar of t-1 belongs",
            "at t = 1 the step before is the clean picture: what is alpha_bar there, and which "
            "index of the sequence holds it?",
            wrong=partial(_posterior, before=lambda alpha_bar, t: alpha_bar[t]),
        ),
        Mistake(
            "alpha_bar is read one step too far back",
            "index 0 is clean data here, so which index is 'one step before t'?",
            wrong=partial(_posterior, before=lambda bars, t: bars[(t - 2).clamp(min=0)]),
        ),
        Mistake(
            "the clean picture's alpha_bar is taken to be alpha_bar[1]",
            "x_0 holds no noise at all: which number must stand at index 0?",
            wrong=partial(_posterior, before=lambda bars, t: bars[(t - 1).clamp(min=1)]),
        ),
        Mistake(
            "the coefficients of x_0 and x_t are swapped",
            "when beta is tiny, x_{t-1} is nearly x_t: which coefficient is then near 1?",
            wrong=partial(_posterior, swap=True),
        ),
        Mistake(
            "the standard deviation is returned instead of the variance",
            "were all noise twice as large, how would a variance grow, and how does yours?",
            wrong=partial(_posterior, var=lambda b, a_t, a_s: (b * (1 - a_s) / (1 - a_t)).sqrt()),
        ),
        Mistake(
            "the variance is beta_t, that of the forward step",
            "knowing x_0 as well as x_t can only narrow the guess",
            wrong=partial(_posterior, var=lambda b, a_t, a_s: b),
        ),
        Mistake(
            "the root of alpha_bar is missing in the coefficient of x_0",
            "where has q(x_{t-1} | x_0), the second Gaussian of (4), its mean?",
            wrong=partial(_posterior, c0=lambda b, a_t, a_s: a_s * b / (1 - a_t)),
        ),
        Mistake(
            "the root of alpha is missing in the coefficient of x_t",
            "by what does one forward step, the first Gaussian of (4), multiply x_{t-1}?",
            wrong=partial(_posterior, ct=lambda b, a_t, a_s: (1 - b) * (1 - a_s) / (1 - a_t)),
        ),
        Mistake(
            "the product alpha_bar_t stands where the single alpha_t belongs",
            "x_t comes from x_{t-1} by one step, not by t of them",
            wrong=partial(_posterior, ct=lambda b, a_t, a_s: a_t.sqrt() * (1 - a_s) / (1 - a_t)),
        ),
        Mistake(
            "the fraction in the variance is upside down",
            "the posterior is narrower than the forward step: is beta times your fraction?",
            wrong=partial(_posterior, var=lambda b, a_t, a_s: b * (1 - a_t) / (1 - a_s)),
        ),
        Mistake(
            "alpha_bar of t stands in the coefficient of x_0",
            "the Gaussian around x_0 in (4) is that of x_{t-1}: which alpha_bar belongs to it?",
            wrong=partial(_posterior, c0=lambda b, a_t, a_s: a_t.sqrt() * b / (1 - a_t)),
        ),
        Mistake(
            "the precisions are added where one of them is infinite",
            "at t = 1 the Gaussian around x_0 has no width, but (5) and (6), tidied, are finite",
            wrong=_by_precisions,
        ),
        FOR_POINTS_ONLY,
    ],
)
def posterior(answer, draw):
    """Mean (b, ...) and variance (b,) of q(x_{t-1} | x_t, x_0) (DDPM, eq. 6-7) from x0, x_t
    (b, ...), t (b,), beta and alpha_bar (T+1,), index 0 clean."""
    T = draw.integer(6, 10)
    beta, alpha_bar = _schedule(draw, T)
    b = T + 3
    t = torch.cat([torch.arange(1, T + 1), draw.integer(2, T + 1, 3)])
    for size in ((3,), (2, 3, 4)):
        x0, x_t = draw.normal(b, *size) + 1, draw.normal(b, *size)
        where = t if len(size) == 1 else t.flip(0)
        got = answer(x0, x_t, where, beta, alpha_bar)
        if not holds(
            isinstance(got, tuple | list) and len(got) == 2,
            "two values come back: mean, variance",
            got=described(raw(got)),
        ):
            return
        mean, variance = got
        # Bayes' rule by completing the square, in units that stay finite at t = 1.
        wide, step, scale = 1 - alpha_bar[where - 1], beta[where], (1 - beta[where]).sqrt()
        total = step + scale**2 * wide
        shape(mean, x0.shape, "the mean has the shape of the points")
        shape(variance, (b,), "there is one variance for each sample")
        expected = step * alpha_bar[where - 1].sqrt() / total
        equal(
            mean,
            _like(expected, x0) * x0 + _like(scale * wide / total, x0) * x_t,
            "the mean is that of the product of the two Gaussians in (4)",
        )
        equal(variance, step * wide / total, "the variance is that of their product")
    one = torch.ones(4, dtype=torch.int64)
    x0, x_t = draw.normal(4, 2), draw.normal(4, 2)
    mean, variance = answer(x0, x_t, one, beta, alpha_bar)
    equal(mean, x0, "at t = 1 the posterior sits on x_0")
    equal(variance, 0 * alpha_bar[:4], "at t = 1 the posterior has no width", tol=1e-7)
    mean, _ = answer(x0, _like(alpha_bar[t[2:6]].sqrt(), x0) * x0, t[2:6], beta, alpha_bar)
    equal(
        mean,
        _like(alpha_bar[t[2:6] - 1].sqrt(), x0) * x0,
        "from the middle of q(x_t | x_0) it leads to the middle of q(x_{t-1} | x_0)",
    )


# --- simple loss ------------------------------------------------------------------------------


def _loss(
    net, x0, alpha_bar, generator, low=1, high=0, one_t=False, uniform=False, reduce=None,
    signal=torch.sqrt, noise=torch.sqrt, target=None, where=None,
):  # fmt: skip
    """The right answer, in which a mistake changes one part."""
    b, T = len(x0), len(alpha_bar) - 1
    t = torch.randint(low, T + 1 + high, (1 if one_t else b,), generator=generator).expand(b)
    if uniform:
        eps = torch.rand(x0.shape, generator=generator, dtype=x0.dtype)
    else:
        eps = torch.randn(x0.shape, generator=generator, dtype=x0.dtype)
    a = _like(alpha_bar[t], x0)
    x_t = signal(a) * x0 + noise(1 - a) * eps
    gap = net(x_t, t if where is None else where(t)) - (eps if target is None else target(x0, x_t))
    return gap.square().mean() if reduce is None else reduce(gap)


class _Witness:
    """A network whose loss is known: it notes what it is asked and returns a fixed function."""

    def __init__(self, function):
        self.function, self.x, self.t = function, [], []

    def __call__(self, x_t, t):
        self.x.append(x_t.detach().clone())
        self.t.append(torch.as_tensor(t).detach().clone())
        return self.function(x_t, t)


@exercise(
    disables=["minit2i.diffusion.Diffusion.forward", "minit2i.schedule.Schedule.diffuse"],
    global_random=False,
    mistakes=[
        Mistake(
            "t runs over 0 … T-1",
            "which of its ends does torch.randint leave out? Is there noise to predict at t = 0?",
            wrong=partial(_loss, low=0, high=-1),
        ),
        Mistake(
            "t = T is never drawn",
            "which of its two ends does torch.randint leave out?",
            wrong=partial(_loss, high=-1),
        ),
        Mistake(
            "t = 0 is drawn, where there is no noise to predict",
            "alpha_bar has an entry for clean data, and training has no use for it",
            wrong=partial(_loss, low=0),
        ),
        Mistake(
            "one t is drawn for the whole batch",
            "how noisy is the average over the batch, if all samples share their t?",
            wrong=partial(_loss, one_t=True),
        ),
        Mistake(
            "the noise is uniform, not Gaussian",
            "q(x_t | x_0) is a Gaussian: which function of torch draws from one?",
            wrong=partial(_loss, uniform=True),
        ),
        Mistake(
            "the squares are summed over a sample's elements, not averaged",
            "the loss of a network that answers 0 should not depend on the number of pixels",
            wrong=partial(_loss, reduce=lambda gap: gap.square().sum() / len(gap)),
        ),
        Mistake(
            "the squares are summed, not averaged",
            "the loss of a network that answers 0 should not depend on the size of the batch",
            wrong=partial(_loss, reduce=lambda gap: gap.square().sum()),
        ),
        Mistake(
            "the root of the mean square is returned",
            "(15) averages squared lengths, and leaves it at that",
            wrong=partial(_loss, reduce=lambda gap: gap.square().mean().sqrt()),
        ),
        Mistake(
            "half the mean square is returned",
            "the factor 1/2 belonged to the weight, which (15) drops",
            wrong=partial(_loss, reduce=lambda gap: gap.square().mean() / 2),
        ),
        Mistake(
            "the absolute difference is averaged, not the square",
            "the loss whose best answer is the mean is the one of (15): which power has it?",
            wrong=partial(_loss, reduce=lambda gap: gap.abs().mean()),
        ),
        Mistake(
            "the variance scales the noise, where the standard deviation belongs",
            "what is the variance of c * eps?",
            wrong=partial(_loss, noise=lambda v: v),
        ),
        Mistake(
            "the root of alpha_bar is missing",
            "alpha_bar is a share of the variance: what multiplies x_0 in lesson 01?",
            wrong=partial(_loss, signal=lambda v: v),
        ),
        Mistake(
            "the network is compared with x_0",
            "is the network of (15) asked for the picture or for the noise?",
            wrong=partial(_loss, target=lambda x0, x_t: x0),
        ),
        Mistake(
            "the network is compared with x_t",
            "is the network of (15) asked for the picture or for the noise?",
            wrong=partial(_loss, target=lambda x0, x_t: x_t),
        ),
        Mistake(
            "the network is told another t than the one that made x_t",
            "an oracle that knows the answer can only give it when it is told the right time",
            wrong=partial(_loss, where=lambda t: t - 1),
        ),
        FOR_POINTS_ONLY,
    ],
)
def simple_loss(answer, draw):
    """L_simple (DDPM, eq. 14) from net(x_t, t), x0 (b, ...), alpha_bar (T+1,), generator."""
    T = draw.integer(5, 8)
    _, alpha_bar = _schedule(draw, T)
    place = draw.normal(1, 2)

    def oracle(x_t, t):
        a = _like(alpha_bar[t], x_t)
        return (x_t - a.sqrt() * place) / (1 - a).sqrt()

    def generator():
        return torch.Generator().manual_seed(draw.integer(0, 10**6))

    for size in ((2,), (1, 3, 2)):
        n = 3000
        x0 = draw.normal(n, *size) + 2
        witness = _Witness(lambda x_t, t: 0.3 * x_t - 0.7 + 0.1 * _like(t, x_t))
        loss = answer(witness, x0, alpha_bar, generator())
        t = torch.cat([torch.zeros(0, dtype=torch.int64), *(v.reshape(-1) for v in witness.t)])
        shown = sum(map(len, witness.x))
        if not holds(
            len(t) == n and shown == n and not t.is_floating_point(),
            "the network is asked once about every sample, with an integer t for each",
            samples=n,
            shown_to_it=shown,
            times=f"{len(t)} of type {t.dtype}",
        ):
            continue
        holds(
            t.min() >= 1 and t.max() == T,
            "t is drawn from 1 … T, both ends included",
            least=t.min().item(),
            greatest=t.max().item(),
            T=T,
        )
        share = torch.bincount(t, minlength=T + 1)[1 : T + 1] / n
        worst = (share - 1 / T).abs().max().item()
        claim = "every t is equally likely"
        holds(worst < 5 / (T * n) ** 0.5, claim, expected_share=1 / T, furthest_from_it=worst)
        same = (t[1:] == t[:-1]).to(torch.float64).mean().item()
        holds(
            abs(same - 1 / T) < 5 / (T * n) ** 0.5,
            "the t of one sample says nothing about that of the next",
            share_of_equal_neighbours=same,
            expected=1 / T,
        )
        if t.min() < 1:
            continue
        x_t = torch.cat(witness.x)
        a = _like(alpha_bar[t.clamp(1, T)], x_t)
        eps = ((x_t - a.sqrt() * x0) / (1 - a).sqrt()).to(torch.float64)
        each = eps.numel() ** 0.5
        holds(
            abs(eps.mean()) < 5 / each and abs(eps.var() - 1) < 5 * 2**0.5 / each,
            "x_t is sqrt(alpha_bar) x_0 + sqrt(1 - alpha_bar) eps with the network's own t",
            **{"the noise in it has mean": eps.mean().item(), "and variance": eps.var().item()},
        )
        flat = eps.flatten(1)
        together = (flat[:, 0] * flat[:, 1]).mean().item(), (flat[1:] * flat[:-1]).mean().item()
        holds(
            max(map(abs, together)) < 5 / n**0.5,
            "each element of each sample has its own noise",
            **{"correlation of elements": together[0], "of samples": together[1]},
        )
        holds(
            abs((eps**4).mean() - 3) < 0.6,
            "the noise is Gaussian",
            mean_fourth_power=(eps**4).mean().item(),
            expected="3",
        )
        for level in range(1, T + 1):
            some = eps[t == level]
            power = some.square().sum().item() / max(some.numel(), 1)
            holds(
                some.numel() > 50 and abs(power - 1) < 6 * (2 / some.numel()) ** 0.5,
                "the noise has variance 1 at every t",
                t=level,
                variance=power,
            )
        said = 0.3 * x_t - 0.7 + 0.1 * _like(t, x_t)
        equal(loss, (said - eps).square().mean(), "the loss is the mean squared error of the noise")
    x0 = draw.normal(4000, 2)
    zero, other = (answer(lambda x_t, t: 0 * x_t, x0, alpha_bar, generator()) for _ in range(2))
    holds(
        raw(zero) != raw(other),
        "another generator gives other noise",
        **{"the loss with either is": float(raw(zero))},
    )
    holds(
        abs(raw(zero) - 1) < 4 * (2 / 8000) ** 0.5,
        "a network that always answers 0 has loss 1",
        loss=float(raw(zero)),
    )
    known = answer(oracle, place.expand(50, 2).clone(), alpha_bar, generator())
    equal(known, 0.0, "on a data set of one point the exact network has loss 0")
    weight = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    loss = answer(lambda x_t, t: weight * x_t, draw.normal(50, 2), alpha_bar, generator())
    holds(
        getattr(raw(loss), "requires_grad", False),
        "its gradient reaches the network (no detach, no_grad, item)",
        got=f"{described(raw(loss))} that carries no gradient",
    )


# --- conversions ------------------------------------------------------------------------------


def _names(predict, output, x_t, signal, noise):
    """(x0, eps, v) from any one of them."""
    a, s = _like(signal, x_t), _like(noise, x_t)
    if predict == "x0":
        x0 = output
    elif predict == "eps":
        x0 = (x_t - s * output) / a
    elif predict == "v":
        x0 = a * x_t - s * output
    else:
        raise ValueError(f"unknown prediction {predict!r}")
    eps = output if predict == "eps" else (x_t - a * x0) / s
    return x0, eps, a * eps - s * x0


def _v_turned(predict, output, x_t, signal, noise, to_v, to_x0):
    """v made by another rule: v = to_v(x0, eps), undone by x0 = to_x0(x_t, v)."""
    a, s = _like(signal, x_t), _like(noise, x_t)
    if predict == "v":
        predict, output = "x0", to_x0(x_t, output, a, s)
    x0, eps, _ = _names(predict, output, x_t, signal, noise)
    return x0, eps, to_v(x0, eps, a, s)


_v_negated = partial(
    _v_turned,
    to_v=lambda x0, eps, a, s: s * x0 - a * eps,
    to_x0=lambda x_t, v, a, s: a * x_t + s * v,
)
_v_swapped = partial(
    _v_turned,
    to_v=lambda x0, eps, a, s: s * eps - a * x0,
    to_x0=lambda x_t, v, a, s: (x_t - v) / (2 * a),
)
_v_is_velocity = partial(
    _v_turned,
    to_v=lambda x0, eps, a, s: eps - x0,
    to_x0=lambda x_t, v, a, s: (x_t - s * v) / (a + s),
)


def _not_divided_by_signal(predict, output, x_t, signal, noise):
    if predict == "eps":
        a, s = _like(signal, x_t), _like(noise, x_t)
        x0 = x_t - s * output
        return x0, output, a * output - s * x0
    return _names(predict, output, x_t, signal, noise)


def _not_divided_by_noise(predict, output, x_t, signal, noise):
    x0, eps, v = _names(predict, output, x_t, signal, noise)
    if predict == "x0":
        a, s = _like(signal, x_t), _like(noise, x_t)
        eps = x_t - a * output
        v = a * eps - s * output
    return x0, eps, v


def _v_to_x0_sign(predict, output, x_t, signal, noise):
    if predict == "v":
        a, s = _like(signal, x_t), _like(noise, x_t)
        return a * x_t + s * output, s * x_t - a * output, output
    return _names(predict, output, x_t, signal, noise)


def _as_it_came(predict, output, x_t, signal, noise):
    if predict not in ("eps", "x0", "v"):
        raise ValueError(f"unknown prediction {predict!r}")
    return _names("eps", output, x_t, signal, noise)


@exercise(
    disables=["minit2i.diffusion.target", "minit2i.diffusion.to_x0", "minit2i.diffusion.to_eps"],
    mistakes=[
        Mistake(
            "the network's output is read as eps, whatever it predicts",
            "a sampler that mistakes x_0 for eps runs away: use the name it is given",
            wrong=_as_it_came,
        ),
        Mistake(
            "the name is never looked at: every output is read as eps",
            "a sampler that mistakes x_0 for eps runs away: use the name it is given",
            wrong=lambda _, *rest: _names("eps", *rest),
        ),
        Mistake(
            "signal and noise are swapped",
            "which of the two multiplies x_0, and what is it at t = 0?",
            wrong=lambda predict, output, x_t, a, s: _names(predict, output, x_t, s, a),
        ),
        Mistake(
            "x0 and eps come back in the wrong order",
            "the docstring names the order of the three",
            wrong=lambda *given: (lambda x0, eps, v: (eps, x0, v))(*_names(*given)),
        ),
        Mistake(
            "v has the opposite sign", "at t = 0, where noise is 0, v is eps", wrong=_v_negated
        ),
        Mistake(
            "signal and noise are swapped in v",
            "at t = 0, where noise is 0, v is eps",
            wrong=_v_swapped,
        ),
        Mistake(
            "v is taken for the straight path's velocity eps - x_0",
            "v is the velocity on a circle, so its two parts carry weights",
            wrong=_v_is_velocity,
        ),
        Mistake(
            "x_0 is not divided by the signal",
            "take the noise out of x_t: is what remains x_0?",
            wrong=_not_divided_by_signal,
        ),
        Mistake(
            "eps is not divided by the noise level",
            "take the signal out of x_t: is what remains eps?",
            wrong=_not_divided_by_noise,
        ),
        Mistake(
            "signal and noise are squared",
            "they multiply x_0 and eps as they are, and their squares add up to 1",
            wrong=lambda *given: _names(*given[:3], given[3] ** 2, given[4] ** 2),
        ),
        Mistake(
            "from v, x_0 and eps have the wrong sign in one term",
            "put v and x_t, both made of x_0 and eps, into your formula: does x_0 alone remain?",
            wrong=_v_to_x0_sign,
        ),
        FOR_POINTS_ONLY,
    ],
)
def three_names(answer, draw):
    """(x0, eps, v) from one of them, named by `predict`, with x_t (b, ...) and signal, noise (b,);
    ValueError for an unknown name."""
    b = draw.integer(3, 6)
    for size in ((3,), (2, 3, 4)):
        angle = draw.uniform(0.2, 1.3, b)
        signal, noise = angle.cos(), angle.sin()
        x0, eps = draw.normal(b, *size) + 1, draw.normal(b, *size)
        a, s = _like(signal, x0), _like(noise, x0)
        x_t, v = a * x0 + s * eps, a * eps - s * x0
        for predict, value in (("eps", eps), ("x0", x0), ("v", v)):
            got = answer(predict, value, x_t, signal, noise)
            if not holds(
                isinstance(got, tuple | list) and len(got) == 3,
                "three values come back: x0, eps, v",
                got=described(raw(got)),
            ):
                return
            for name, one, right in zip(("x0", "eps", "v"), got, (x0, eps, v), strict=True):
                equal(one, right, f"from {predict}, {name} is found again")
    # A network's output fits no x_0 and eps in advance; the three must still agree with x_t.
    for predict in ("eps", "x0", "v"):
        guess = draw.normal(b, *size)
        x0, eps, v = answer(predict, guess, x_t, signal, noise)
        equal(a * x0 + s * eps, x_t, "x0 and eps together make x_t, whatever the network said")
    raises(
        ValueError,
        "an unknown name is refused with a ValueError",
        answer,
        "score",
        x_t,
        x_t,
        signal,
        noise,
    )


# --- KL ---------------------------------------------------------------------------------------


def _kl(m1, v1, m2, v2, half=0.5, log=1, ratio=1, square=1, one=1):
    return half * (log * torch.log(v2 / v1) + ratio * v1 / v2 + square * (m1 - m2) ** 2 / v2 - one)


@exercise(
    disables=["minit2i.families.diffusion2015.kl"],
    mistakes=[
        Mistake(
            "the two Gaussians are exchanged",
            "KL(p ‖ q) averages over p: which pair of arguments comes first?",
            wrong=lambda m1, v1, m2, v2: _kl(m2, v2, m1, v1),
        ),
        Mistake(
            "the arguments are taken for standard deviations",
            "the arguments are variances already",
            wrong=lambda m1, v1, m2, v2: _kl(m1, v1**2, m2, v2**2),
        ),
        Mistake(
            "roots of the variances stand where the variances belong",
            "which power of the width does the exponent of a Gaussian hold?",
            wrong=lambda m1, v1, m2, v2: _kl(m1, v1**0.5, m2, v2**0.5),
        ),
        Mistake(
            "the factor of one half is missing",
            "for N(0, 1) and N(1, 1) the divergence is found by hand: what does yours give?",
            wrong=partial(_kl, half=1),
        ),
        Mistake(
            "the arguments are taken for logarithms of variances",
            "the arguments are variances already",
            wrong=lambda m1, v1, m2, v2: _kl(m1, v1.exp(), m2, v2.exp()),
        ),
        Mistake(
            "the ratio of the variances is upside down",
            "what must happen to the divergence when the second becomes ever narrower?",
            wrong=lambda m1, v1, m2, v2: _kl(m1, v1, m2, v2, ratio=0) + v2 / (2 * v1),
        ),
        Mistake(
            "the means do not enter",
            "two Gaussians of one width can lie far apart",
            wrong=partial(_kl, square=0),
        ),
        Mistake(
            "the result has the wrong sign",
            "a divergence is never negative",
            wrong=partial(_kl, half=-0.5),
        ),
        Mistake(
            "two equal Gaussians do not get 0",
            "what is left of your formula when both are the same?",
            wrong=partial(_kl, one=0),
        ),
        Mistake(
            "the logarithm has the wrong sign",
            "let the second become ever wider: must the divergence grow or fall?",
            wrong=partial(_kl, log=-1),
        ),
        Mistake(
            "the distance of the means is divided by the first variance",
            "is the distance measured in the width of the first or of the second?",
            wrong=lambda m1, v1, m2, v2: _kl(m1, v1, m1, v2) + (m1 - m2) ** 2 / (2 * v1),
        ),
        Mistake(
            "the difference of the means is not squared",
            "may it matter which of the two means is the larger?",
            wrong=lambda m1, v1, m2, v2: _kl(m1, v1, m1, v2) + (m1 - m2) / (2 * v2),
        ),
        Mistake(
            "the logarithm of the variances counts twice",
            "one half stands in front of everything in (9)",
            wrong=partial(_kl, log=2),
        ),
        Mistake(
            "the result is in bits",
            "nats are asked for: which logarithm do they belong to?",
            wrong=partial(_kl, half=0.5 / math.log(2)),
        ),
        Mistake(
            "the values are summed",
            "one value for each coordinate is asked for",
            wrong=lambda *given: _kl(*given).sum(),
        ),
    ],
)
def kl(answer, draw):
    """KL(N(m1, v1) ‖ N(m2, v2)) in nats for each coordinate, from variances."""
    for size in ((3, 2), (4, 1, 3)):
        m1, m2 = draw.normal(*size), draw.normal(*size) + 1
        v1, v2 = draw.uniform(0.3, 3, *size), draw.uniform(0.3, 3, *size)
        got = answer(m1, v1, m2, v2)
        first = torch.distributions.Normal(m1, v1.sqrt())
        second = torch.distributions.Normal(m2, v2.sqrt())
        expected = torch.distributions.kl_divergence(first, second)
        equal(got, expected, "the result is the divergence of the two Gaussians")
        equal(answer(m1, v1, m1, v1), 0 * m1, "a Gaussian does not diverge from itself")
    # The definition itself, E_1[log N_1 - log N_2], by a fine sum over a line.
    m1, m2 = draw.normal(1), draw.normal(1)
    v1, v2 = draw.uniform(0.5, 2, 1), draw.uniform(0.5, 2, 1)
    line = torch.linspace(-1, 1, 20001, dtype=torch.float64)[:, None] * 12 * v1.sqrt() + m1
    first = torch.distributions.Normal(m1, v1.sqrt()).log_prob(line)
    second = torch.distributions.Normal(m2, v2.sqrt()).log_prob(line)
    total = (first.exp() * (first - second)).sum(0) * (line[1] - line[0])
    equal(
        answer(m1, v1, m2, v2),
        total,
        "the result is the mean of log N_1 - log N_2 under N_1",
        tol=1e-5,
    )


# --- the exact denoiser of a finite set -------------------------------------------------------


def _finite(x_t, points, signal, noise, logits=None, dim=1):
    a, s = signal[:, None, None], noise[:, None, None]
    gap = x_t[:, None] - a * points
    value = (
        -gap.square().sum(-1) / (2 * s[..., 0] ** 2) if logits is None else logits(gap, s[..., 0])
    )
    return value.softmax(dim) @ points


def _finite_nearest(x_t, points, signal, noise):
    return points[(x_t[:, None] - signal[:, None, None] * points).square().sum(-1).argmin(1)]


def _finite_underflow(x_t, points, signal, noise):
    gap = x_t[:, None] - signal[:, None, None] * points
    weight = torch.exp(-gap.square().sum(-1) / (2 * noise[:, None] ** 2))
    return weight @ points / weight.sum(1, keepdim=True)


@exercise(
    disables=[
        "minit2i.worlds.plane.Mixture.denoiser",
        "minit2i.worlds.plane.Mixture.posterior",
        "minit2i.worlds.plane.Mixture.score",
    ],
    mistakes=[
        Mistake(
            "x_t is compared with the points themselves",
            "where does the diffused cloud of the point x_i have its middle?",
            wrong=lambda x, points, a, s: _finite(x, points, torch.ones_like(a), s),
        ),
        Mistake(
            "the factor of one half is missing in the exponent",
            "compare your exponent with that of a Gaussian of variance noise²",
            wrong=lambda x, points, a, s: _finite(x, points, a, s / 2**0.5),
        ),
        Mistake(
            "the exponent holds the standard deviation instead of the variance",
            "which power of the width does the exponent of a Gaussian hold?",
            wrong=lambda x, points, a, s: _finite(x, points, a, s**0.5),
        ),
        Mistake(
            "x_t is divided by the signal, but the noise is not",
            "in units of x_0 the cloud around each point has another width",
            wrong=lambda x, points, a, s: _finite(x / a[:, None], points, torch.ones_like(a), s),
        ),
        Mistake(
            "the weights come from the product of x_t and the point alone",
            "multiply the square out: one of its terms depends on the point's own length",
            wrong=lambda x, points, a, s: (x @ points.T * (a / s**2)[:, None]).softmax(1) @ points,
        ),
        Mistake(
            "the noise level does not enter",
            "with much noise the mean of all points is the best guess, with little the nearest",
            wrong=lambda x, points, a, s: _finite(x, points, a, torch.ones_like(s)),
        ),
        Mistake(
            "far points weigh more than near ones",
            "which sign has the exponent of a Gaussian?",
            wrong=partial(_finite, logits=lambda gap, s: gap.square().sum(-1) / (2 * s**2)),
        ),
        Mistake(
            "the distance is not squared",
            "which power of the distance stands in the exponent of a Gaussian?",
            wrong=partial(_finite, logits=lambda gap, s: -gap.norm(dim=-1) / (2 * s**2)),
        ),
        Mistake(
            "the weights are normalised over the batch",
            "for each x_t, the weights of all data points add up to 1: along which axis?",
            wrong=partial(_finite, dim=0),
        ),
        Mistake(
            "the nearest point is returned instead of the mean",
            "between two equally near points, which is the best guess in mean square?",
            wrong=_finite_nearest,
        ),
        Mistake(
            "the mean is multiplied by the signal",
            "x_0 is asked for: in which units are the points given?",
            wrong=lambda x, points, a, s: _finite(x, points, a, s) * a[:, None],
        ),
        Mistake(
            "x_t does not enter: it is the mean of the data",
            "that is the best guess only where x_t tells nothing about x_0",
            wrong=lambda x, points, a, s: points.mean(0).expand_as(x).clone(),
        ),
        Mistake(
            "the weights underflow",
            "at little noise every exponential is 0 in floating point, and 0/0 remains; what may "
            "be taken away from all exponents without changing the weights?",
            wrong=_finite_underflow,
        ),
    ],
)
def finite_denoiser(answer, draw):
    """E[x_0 | x_t] (b, d) where x_0 is one of the points (n, d), all equally likely; x_t (b, d),
    signal and noise (b,)."""
    for n, d in ((4, 2), (7, 3)):
        b = draw.integer(3, 6)
        points = 2 * draw.normal(n, d) + 1
        angle = draw.uniform(0.3, 1.3, b)
        signal, noise = angle.cos(), angle.sin()
        x_t = draw.normal(b, d)
        rows = []
        for i in range(b):
            density = torch.stack(
                [
                    torch.distributions.Normal(signal[i] * p, noise[i]).log_prob(x_t[i]).sum()
                    for p in points
                ]
            ).exp()
            rows.append((density[:, None] * points).sum(0) / density.sum())
        got = answer(x_t, points, signal, noise)
        equal(got, torch.stack(rows), "the result is Bayes' mean over the data points, (18)")
    half = torch.stack([points[0], points[1]])
    level = torch.tensor([0.6, 0.8], dtype=torch.float64)
    middle = level[:, None] * (half.mean(0) + 1e-10 * (half[0] - half[1]))  # and no exact tie
    got = answer(middle, half, level, (1 - level**2).sqrt())
    equal(got, half.mean(0).expand(2, d), "half-way between two points the result is their middle")
    tiny = torch.full((b,), 1e-3, dtype=torch.float64)
    clear = (1 - tiny**2).sqrt()
    pick = draw.integer(0, n, b)
    x_t = clear[:, None] * points[pick] + 0.05
    got = answer(x_t, points, clear, tiny)
    near = torch.cdist(x_t, clear[:, None].mean() * points).argmin(1)
    equal(got, points[near], "with hardly any noise the result is the nearest point, and finite")
