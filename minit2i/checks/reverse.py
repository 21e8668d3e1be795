"""Checks of lesson 02: the reverse process and the DDPM loss."""

import math

import torch

from minit2i.checks.judge import Mistake, equal, exercise, holds, raises, raw, shape


def _like(values, x):
    """One value per sample, shaped to multiply x (b, ...)."""
    return values.view(-1, *[1] * (x.ndim - 1))


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


def _off_by_one(*args):
    return _posterior(*args, before=lambda alpha_bar, t: alpha_bar[t])


def _two_back(*args):
    return _posterior(*args, before=lambda alpha_bar, t: alpha_bar[(t - 2).clamp(min=0)])


def _clean_is_one(*args):
    return _posterior(*args, before=lambda alpha_bar, t: alpha_bar[(t - 1).clamp(min=1)])


def _coefficients_swapped(*args):
    return _posterior(*args, swap=True)


def _deviation(*args):
    mean, variance = _posterior(*args)
    return mean, variance.sqrt()


def _forward_variance(*args):
    return _posterior(*args, var=lambda b, a_t, a_s: b)


def _unrooted_alpha_bar(*args):
    return _posterior(*args, c0=lambda b, a_t, a_s: a_s * b / (1 - a_t))


def _unrooted_alpha(*args):
    return _posterior(*args, ct=lambda b, a_t, a_s: (1 - b) * (1 - a_s) / (1 - a_t))


def _cumulative_alpha(*args):
    return _posterior(*args, ct=lambda b, a_t, a_s: a_t.sqrt() * (1 - a_s) / (1 - a_t))


def _inverted_variance(*args):
    return _posterior(*args, var=lambda b, a_t, a_s: b * (1 - a_t) / (1 - a_s))


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
            wrong=_off_by_one,
        ),
        Mistake(
            "alpha_bar is read one step too far back",
            "index 0 is clean data here, so which index is 'one step before t'?",
            wrong=_two_back,
        ),
        Mistake(
            "the clean picture's alpha_bar is taken to be alpha_bar[1]",
            "x_0 holds no noise at all: which number must stand at index 0?",
            wrong=_clean_is_one,
        ),
        Mistake(
            "the coefficients of x_0 and x_t are swapped",
            "when beta is tiny, x_{t-1} is nearly x_t: which coefficient is then near 1?",
            wrong=_coefficients_swapped,
        ),
        Mistake(
            "the standard deviation is returned instead of the variance",
            "how does your second value grow when all noise is scaled by two?",
            wrong=_deviation,
        ),
        Mistake(
            "the variance is beta_t, that of the forward step",
            "to know x_0 as well as x_t can only narrow the guess",
            wrong=_forward_variance,
        ),
        Mistake(
            "the root of alpha_bar is missing in the coefficient of x_0",
            "q(x_{t-1} | x_0) has mean sqrt(alpha_bar_{t-1}) x_0",
            wrong=_unrooted_alpha_bar,
        ),
        Mistake(
            "the root of alpha is missing in the coefficient of x_t",
            "one forward step multiplies by sqrt(1 - beta_t)",
            wrong=_unrooted_alpha,
        ),
        Mistake(
            "the product alpha_bar_t stands where the single alpha_t belongs",
            "x_t comes from x_{t-1} by one step, not by t of them",
            wrong=_cumulative_alpha,
        ),
        Mistake(
            "the fraction in the variance is upside down",
            "the posterior is narrower than the forward step: is beta times your fraction?",
            wrong=_inverted_variance,
        ),
        Mistake(
            "the precisions are added where one of them is infinite",
            "at t = 1 the Gaussian around x_0 has no width: multiply out the fractions first",
            wrong=_by_precisions,
        ),
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
            isinstance(got, tuple | list) and len(got) == 2, "two values come back: mean, variance"
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
            "the mean is that of the product of the two Gaussians",
        )
        equal(variance, step * wide / total, "the variance is that of their product")
    one = torch.ones(4, dtype=torch.int64)
    x0, x_t = draw.normal(4, 2), draw.normal(4, 2)
    mean, variance = answer(x0, x_t, one, beta, alpha_bar)
    equal(mean, x0, "at t = 1 the posterior sits on x_0")
    equal(variance, 0 * alpha_bar[:4], "at t = 1 the posterior has no width")
    mean, _ = answer(x0, _like(alpha_bar[t[2:6]].sqrt(), x0) * x0, t[2:6], beta, alpha_bar)
    equal(
        mean,
        _like(alpha_bar[t[2:6] - 1].sqrt(), x0) * x0,
        "from the middle of q(x_t | x_0) it leads to the middle of q(x_{t-1} | x_0)",
    )


# --- simple loss ------------------------------------------------------------------------------


def _loss(
    net, x0, alpha_bar, generator, low=1, high=0, one_t=False, uniform=False, reduce=None,
    signal=torch.sqrt, noise=torch.sqrt, target=None, where=None, detach=False,
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
    gap = gap.detach() if detach else gap
    return gap.square().mean() if reduce is None else reduce(gap)


def _loss_index_zero(*args):
    return _loss(*args, low=0, high=-1)


def _loss_never_last(*args):
    return _loss(*args, high=-1)


def _loss_from_zero(*args):
    return _loss(*args, low=0)


def _loss_one_t(*args):
    return _loss(*args, one_t=True)


def _loss_uniform(*args):
    return _loss(*args, uniform=True)


def _loss_sum(*args):
    return _loss(*args, reduce=lambda gap: gap.square().flatten(1).sum(1).mean())


def _loss_whole_sum(*args):
    return _loss(*args, reduce=lambda gap: gap.square().sum())


def _loss_root(*args):
    return _loss(*args, reduce=lambda gap: gap.square().mean().sqrt())


def _loss_absolute(*args):
    return _loss(*args, reduce=lambda gap: gap.abs().mean())


def _loss_variance(*args):
    return _loss(*args, noise=lambda v: v)


def _loss_signal(*args):
    return _loss(*args, signal=lambda v: v)


def _loss_x0(*args):
    return _loss(*args, target=lambda x0, x_t: x0)


def _loss_x_t(*args):
    return _loss(*args, target=lambda x0, x_t: x_t)


def _loss_shifted(*args):
    return _loss(*args, where=lambda t: t - 1)


def _loss_detached(*args):
    return _loss(*args, detach=True)


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
            "torch.randint leaves its upper end out, and t = 0 is clean data",
            wrong=_loss_index_zero,
        ),
        Mistake("t = T is never drawn", "torch.randint leaves its upper end out", _loss_never_last),
        Mistake("t = 0 is drawn, where there is no noise to predict", "", wrong=_loss_from_zero),
        Mistake(
            "one t is drawn for the whole batch",
            "how noisy is the average over the batch, if all samples share their t?",
            wrong=_loss_one_t,
        ),
        Mistake("the noise is uniform, not Gaussian", "rand or randn?", wrong=_loss_uniform),
        Mistake(
            "the squares are summed over a sample's elements, not averaged",
            "the loss of a network that answers 0 should not depend on the number of pixels",
            wrong=_loss_sum,
        ),
        Mistake("the squares are summed, not averaged", "", wrong=_loss_whole_sum),
        Mistake("the root of the mean square is returned", "", wrong=_loss_root),
        Mistake("the absolute difference is averaged, not the square", "", wrong=_loss_absolute),
        Mistake(
            "the variance scales the noise, where the standard deviation belongs",
            "what is the variance of c * eps?",
            wrong=_loss_variance,
        ),
        Mistake("the root of alpha_bar is missing", "", wrong=_loss_signal),
        Mistake("the network is compared with x_0", "which name has the target?", wrong=_loss_x0),
        Mistake("the network is compared with x_t", "which name has the target?", wrong=_loss_x_t),
        Mistake(
            "the network is told another t than the one that made x_t",
            "an oracle that knows the answer can only give it when it is told the right time",
            wrong=_loss_shifted,
        ),
        Mistake(
            "the loss does not reach the network's parameters",
            "detach, no_grad and item cut the gradient off",
            wrong=_loss_detached,
        ),
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
        t = torch.cat([v.reshape(-1) for v in witness.t])
        if not holds(
            len(t) == n and sum(map(len, witness.x)) == n and not t.is_floating_point(),
            "the network is asked once about every sample, with an integer t for each",
            times=tuple(t.shape),
        ):
            continue
        holds(
            t.min() >= 1 and t.max() == T,
            "t is drawn from 1 … T, both ends included",
            least=t.min().item(),
            greatest=t.max().item(),
        )
        share = torch.bincount(t, minlength=T + 1)[1 : T + 1] / n
        worst = (share - 1 / T).abs().max().item()
        holds(worst < 5 / (T * n) ** 0.5, "every t is equally likely", difference=worst)
        if t.min() < 1:
            continue
        x_t = torch.cat(witness.x)
        a = _like(alpha_bar[t.clamp(1, T)], x_t)
        eps = ((x_t - a.sqrt() * x0) / (1 - a).sqrt()).to(torch.float64)
        each = eps.numel() ** 0.5
        holds(
            abs(eps.mean()) < 5 / each and abs(eps.var() - 1) < 5 * 2**0.5 / each,
            "x_t is sqrt(alpha_bar) x_0 + sqrt(1 - alpha_bar) eps with the network's own t",
            mean=eps.mean().item(),
            variance=eps.var().item(),
        )
        flat = eps.flatten(1)
        together = (flat[:, 0] * flat[:, 1]).mean().item(), (flat[1:] * flat[:-1]).mean().item()
        holds(
            max(map(abs, together)) < 5 / n**0.5,
            "each element of each sample has its own noise",
            correlations=together[0],
        )
        holds(
            abs((eps**4).mean() - 3) < 0.6, "the noise is Gaussian", fourth=(eps**4).mean().item()
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
        equal(loss, (said - eps).square().mean(), "it is the mean squared error of the noise")
    zero = answer(lambda x_t, t: 0 * x_t, draw.normal(4000, 2), alpha_bar, generator())
    holds(
        abs(raw(zero) - 1) < 4 * (2 / 8000) ** 0.5,
        "a network that always answers 0 has loss 1",
        loss=float(raw(zero)),
    )
    known = answer(oracle, place.expand(50, 2).clone(), alpha_bar, generator())
    equal(known, 0.0, "on a data set of one point the exact network has loss 0")
    weight = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    loss = answer(lambda x_t, t: weight * x_t, draw.normal(50, 2), alpha_bar, generator())
    holds(raw(loss).requires_grad, "the loss can be differentiated")


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


def _v_negated(predict, output, x_t, signal, noise):
    output = -output if predict == "v" else output
    x0, eps, v = _names(predict, output, x_t, signal, noise)
    return x0, eps, -v


def _v_swapped(predict, output, x_t, signal, noise):
    if predict == "v":
        a, s = _like(signal, x_t), _like(noise, x_t)
        x0, eps = (x_t * s - a * output), (a * x_t + s * output)
        return x0, eps, output
    x0, eps, _ = _names(predict, output, x_t, signal, noise)
    return x0, eps, _like(noise, x_t) * eps - _like(signal, x_t) * x0


def _v_is_velocity(predict, output, x_t, signal, noise):
    a, s = _like(signal, x_t), _like(noise, x_t)
    if predict == "v":
        x0 = (x_t - s * output) / (a + s)
        return x0, x0 + output, output
    x0, eps, _ = _names(predict, output, x_t, signal, noise)
    return x0, eps, eps - x0


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


def _squares(predict, output, x_t, signal, noise):
    return _names(predict, output, x_t, signal**2, noise**2)


def _v_to_x0_sign(predict, output, x_t, signal, noise):
    if predict == "v":
        a, s = _like(signal, x_t), _like(noise, x_t)
        return a * x_t + s * output, s * x_t - a * output, output
    return _names(predict, output, x_t, signal, noise)


def _order(predict, output, x_t, signal, noise):
    x0, eps, v = _names(predict, output, x_t, signal, noise)
    return eps, x0, v


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
        Mistake("x0 and eps come back in the wrong order", "", wrong=_order),
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
            "v is the velocity on a circle: its two parts carry weights",
            wrong=_v_is_velocity,
        ),
        Mistake(
            "x_0 is not divided by the signal",
            "x_t holds signal times x_0",
            wrong=_not_divided_by_signal,
        ),
        Mistake(
            "eps is not divided by the noise level",
            "x_t holds noise times eps",
            wrong=_not_divided_by_noise,
        ),
        Mistake(
            "signal and noise are squared",
            "they multiply x_0 and eps as they are; their squares are variances",
            wrong=_squares,
        ),
        Mistake(
            "from v, x_0 and eps have the wrong sign in one term",
            "put v = signal eps - noise x_0 and x_t into your formula: does x_0 remain?",
            wrong=_v_to_x0_sign,
        ),
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


def _kl_reversed(m1, v1, m2, v2):
    return _kl(m2, v2, m1, v1)


def _kl_deviations(m1, v1, m2, v2):
    return _kl(m1, v1**2, m2, v2**2)


def _kl_roots(m1, v1, m2, v2):
    return _kl(m1, v1**0.5, m2, v2**0.5)


def _kl_twice(m1, v1, m2, v2):
    return _kl(m1, v1, m2, v2, half=1)


def _kl_no_one(m1, v1, m2, v2):
    return _kl(m1, v1, m2, v2, one=0)


def _kl_log_sign(m1, v1, m2, v2):
    return _kl(m1, v1, m2, v2, log=-1)


def _kl_wrong_scale(m1, v1, m2, v2):
    return 0.5 * (torch.log(v2 / v1) + v1 / v2 + (m1 - m2) ** 2 / v1 - 1)


def _kl_not_squared(m1, v1, m2, v2):
    return 0.5 * (torch.log(v2 / v1) + v1 / v2 + (m1 - m2) / v2 - 1)


def _kl_half_log(m1, v1, m2, v2):
    return _kl(m1, v1, m2, v2, log=2)


def _kl_bits(m1, v1, m2, v2):
    return _kl(m1, v1, m2, v2) / math.log(2)


def _kl_summed(m1, v1, m2, v2):
    return _kl(m1, v1, m2, v2).sum()


@exercise(
    disables=["minit2i.families.diffusion2015.kl"],
    mistakes=[
        Mistake(
            "the two Gaussians are exchanged",
            "the divergence averages over the first: which variance divides?",
            wrong=_kl_reversed,
        ),
        Mistake(
            "the arguments are taken for standard deviations",
            "the arguments are variances already",
            wrong=_kl_deviations,
        ),
        Mistake(
            "roots of the variances stand where the variances belong",
            "which power of the width does the exponent of a Gaussian hold?",
            wrong=_kl_roots,
        ),
        Mistake("the factor of one half is missing", "", wrong=_kl_twice),
        Mistake(
            "two equal Gaussians do not get 0",
            "what is left of your formula when both are the same?",
            wrong=_kl_no_one,
        ),
        Mistake(
            "the logarithm has the wrong sign",
            "compare a narrow Gaussian with a very wide one: the log must grow",
            wrong=_kl_log_sign,
        ),
        Mistake(
            "the distance of the means is divided by the first variance",
            "how surprising is the other's mean, measured with the second's width?",
            wrong=_kl_wrong_scale,
        ),
        Mistake("the difference of the means is not squared", "", wrong=_kl_not_squared),
        Mistake(
            "the logarithm of the variances counts twice",
            "log of a ratio of deviations, or half that of variances",
            wrong=_kl_half_log,
        ),
        Mistake("the result is in bits", "nats are asked for: the natural logarithm", _kl_bits),
        Mistake(
            "the values are summed",
            "one value for each coordinate is asked for",
            wrong=_kl_summed,
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
        equal(got, expected, "it is the divergence of the two Gaussians")
        equal(answer(m1, v1, m1, v1), 0 * m1, "a Gaussian does not diverge from itself")
    # The definition itself, E_1[log N_1 - log N_2], by a fine sum over a line.
    m1, m2 = draw.normal(1), draw.normal(1)
    v1, v2 = draw.uniform(0.5, 2, 1), draw.uniform(0.5, 2, 1)
    line = torch.linspace(-1, 1, 20001, dtype=torch.float64)[:, None] * 12 * v1.sqrt() + m1
    first = torch.distributions.Normal(m1, v1.sqrt()).log_prob(line)
    second = torch.distributions.Normal(m2, v2.sqrt()).log_prob(line)
    total = (first.exp() * (first - second)).sum(0) * (line[1] - line[0])
    equal(answer(m1, v1, m2, v2), total, "it is the mean of log N_1 - log N_2 under N_1", tol=1e-5)


# --- the exact denoiser of a finite set -------------------------------------------------------


def _finite(x_t, points, signal, noise, logits=None, dim=1):
    a, s = signal[:, None, None], noise[:, None, None]
    gap = x_t[:, None] - a * points
    value = -gap.square().sum(-1) / (2 * s[..., 0] ** 2) if logits is None else logits(gap, s)
    return value.softmax(dim) @ points


def _finite_unscaled(x_t, points, signal, noise):
    return _finite(x_t, points, torch.ones_like(signal), noise)


def _finite_no_half(x_t, points, signal, noise):
    return _finite(x_t, points, signal, noise / 2**0.5)


def _finite_noise_once(x_t, points, signal, noise):
    return _finite(x_t, points, signal, noise**0.5)


def _finite_no_noise(x_t, points, signal, noise):
    return _finite(x_t, points, signal, torch.ones_like(noise))


def _finite_sign(x_t, points, signal, noise):
    logits = lambda gap, s: gap.square().sum(-1) / (2 * s[..., 0] ** 2)  # noqa: E731
    return _finite(x_t, points, signal, noise, logits)


def _finite_distance(x_t, points, signal, noise):
    logits = lambda gap, s: -gap.norm(dim=-1) / (2 * s[..., 0] ** 2)  # noqa: E731
    return _finite(x_t, points, signal, noise, logits)


def _finite_batch(x_t, points, signal, noise):
    return _finite(x_t, points, signal, noise, dim=0)


def _finite_nearest(x_t, points, signal, noise):
    gap = x_t[:, None] - signal[:, None, None] * points
    return points[gap.square().sum(-1).argmin(1)]


def _finite_scaled_back(x_t, points, signal, noise):
    return _finite(x_t, points, signal, noise) * signal[:, None]


def _finite_mean(x_t, points, signal, noise):
    return points.mean(0).expand_as(x_t).clone()


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
            wrong=_finite_unscaled,
        ),
        Mistake("the factor of one half is missing in the exponent", "", wrong=_finite_no_half),
        Mistake(
            "the exponent holds the standard deviation instead of the variance",
            "which power of the width does the exponent of a Gaussian hold?",
            wrong=_finite_noise_once,
        ),
        Mistake("the noise level does not enter", "how sure may it be?", wrong=_finite_no_noise),
        Mistake("far points weigh more than near ones", "check a sign", wrong=_finite_sign),
        Mistake("the distance is not squared", "", wrong=_finite_distance),
        Mistake(
            "the weights are normalised over the batch",
            "for each x_t, the weights of all data points add up to 1: along which axis?",
            wrong=_finite_batch,
        ),
        Mistake(
            "the nearest point is returned instead of the mean",
            "between two equally near points, which is the best guess in mean square?",
            wrong=_finite_nearest,
        ),
        Mistake(
            "the mean is multiplied by the signal",
            "x_0 is asked for, not the middle of x_t",
            wrong=_finite_scaled_back,
        ),
        Mistake("x_t does not enter: it is the mean of the data", "", wrong=_finite_mean),
        Mistake(
            "the weights underflow",
            "at little noise every exponential is 0 in floating point, and 0/0 remains; which "
            "function of torch subtracts the greatest exponent first?",
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
        equal(got, torch.stack(rows), "it is Bayes' mean over the data points")
    half = torch.stack([points[0], points[1]])
    level = torch.tensor([0.6, 0.8], dtype=torch.float64)
    middle = level[:, None] * (half.mean(0) + 1e-8 * (half[0] - half[1]))  # and no exact tie
    got = answer(middle, half, level, (1 - level**2).sqrt())
    equal(got, half.mean(0).expand(2, d), "half-way between two points it cannot decide")
    tiny = torch.full((b,), 1e-3, dtype=torch.float64)
    clear = (1 - tiny**2).sqrt()
    pick = draw.integer(0, n, b)
    x_t = clear[:, None] * points[pick] + 0.05
    got = answer(x_t, points, clear, tiny)
    near = torch.cdist(x_t, clear[:, None].mean() * points).argmin(1)
    equal(got, points[near], "with hardly any noise it is the nearest point, and finite")
