"""Wrong and right answers to the exercises of lesson 02."""

import functools
import math
from typing import NamedTuple

import numpy as np
import torch
from torch.nn.functional import mse_loss

from tests.mutants import equivalent, right, wrong


def _wide(values, x):
    return values.reshape(-1, *[1] * (x.ndim - 1))


# --- posterior --------------------------------------------------------------------------------


@wrong("posterior", says="alpha_bar of t stands where alpha_bar of t-1 belongs")
def _(x0, x_t, t, beta, alpha_bar):
    b, a = beta[t], alpha_bar[t]
    mean = _wide(a**0.5 * b / (1 - a), x0) * x0 + _wide((1 - b) ** 0.5, x0) * x_t
    return mean, b


@wrong("posterior", says="one step too far back")
def _(x0, x_t, t, beta, alpha_bar):
    b, a, s = beta[t], alpha_bar[t], torch.cat([alpha_bar[:1], alpha_bar])[t - 1]
    c0, ct = s**0.5 * b / (1 - a), (1 - b) ** 0.5 * (1 - s) / (1 - a)
    return _wide(c0, x0) * x0 + _wide(ct, x0) * x_t, b * (1 - s) / (1 - a)


@wrong("posterior", says="the coefficients of x_0 and x_t are swapped")
def _(x0, x_t, t, beta, alpha_bar):
    b, a, s = beta[t], alpha_bar[t], alpha_bar[t - 1]
    c0, ct = s**0.5 * b / (1 - a), (1 - b) ** 0.5 * (1 - s) / (1 - a)
    return _wide(ct, x0) * x0 + _wide(c0, x0) * x_t, b * (1 - s) / (1 - a)


@wrong("posterior", says="the standard deviation is returned")
def _(x0, x_t, t, beta, alpha_bar):
    b, a, s = beta[t], alpha_bar[t], alpha_bar[t - 1]
    c0, ct = s**0.5 * b / (1 - a), (1 - b) ** 0.5 * (1 - s) / (1 - a)
    return _wide(c0, x0) * x0 + _wide(ct, x0) * x_t, (b * (1 - s) / (1 - a)) ** 0.5


@wrong("posterior", says="the variance is beta_t, that of the forward step")
def _(x0, x_t, t, beta, alpha_bar):
    b, a, s = beta[t], alpha_bar[t], alpha_bar[t - 1]
    c0, ct = s**0.5 * b / (1 - a), (1 - b) ** 0.5 * (1 - s) / (1 - a)
    return _wide(c0, x0) * x0 + _wide(ct, x0) * x_t, beta[t]


@wrong("posterior", says="the precisions are added where one of them is infinite")
def _(x0, x_t, t, beta, alpha_bar):
    narrow, step = 1 / (1 - alpha_bar[t - 1]), (1 - beta[t]) / beta[t]
    pull = _wide(narrow * alpha_bar[t - 1] ** 0.5, x0) * x0
    pull = pull + _wide(step / (1 - beta[t]) ** 0.5, x0) * x_t
    return pull / _wide(narrow + step, x0), 1 / (narrow + step)


@wrong("posterior", says="is that of the product", how="one t for the batch")
def _(x0, x_t, t, beta, alpha_bar):
    b, a, s = beta[t[0]], alpha_bar[t[0]], alpha_bar[t[0] - 1]
    c0, ct = s**0.5 * b / (1 - a), (1 - b) ** 0.5 * (1 - s) / (1 - a)
    return c0 * x0 + ct * x_t, (b * (1 - s) / (1 - a)).expand(len(t)).clone()


@wrong("posterior", says="is that of the product", how="divided by alpha_bar of t-1")
def _(x0, x_t, t, beta, alpha_bar):
    b, s = beta[t], alpha_bar[t - 1]
    c0, ct = s**0.5 * b, (1 - b) ** 0.5 * (1 - s)
    return _wide(c0, x0) * x0 + _wide(ct, x0) * x_t, b * (1 - s)


@wrong("posterior", says="there is one variance for each sample", how="variance of every element")
def _(x0, x_t, t, beta, alpha_bar):
    b, a, s = (_wide(v, x0) for v in (beta[t], alpha_bar[t], alpha_bar[t - 1]))
    mean = (s**0.5 * b * x0 + (1 - b) ** 0.5 * (1 - s) * x_t) / (1 - a)
    return mean, (b * (1 - s) / (1 - a)).expand_as(x0).clone()


@wrong("posterior", says="two values come back", how="mean only")
def _(x0, x_t, t, beta, alpha_bar):
    b, a, s = (_wide(v, x0) for v in (beta[t], alpha_bar[t], alpha_bar[t - 1]))
    return (s**0.5 * b * x0 + (1 - b) ** 0.5 * (1 - s) * x_t) / (1 - a)


@wrong("posterior", says="alpha_bar of t stands in the coefficient of x_0")
def _(x0, x_t, t, beta, alpha_bar):
    b, a, s = (_wide(v, x0) for v in (beta[t], alpha_bar[t], alpha_bar[t - 1]))
    mean = (a**0.5 * b * x0 + (1 - b) ** 0.5 * (1 - s) * x_t) / (1 - a)
    return mean, (b * (1 - s) / (1 - a)).flatten()


@wrong("posterior", says="is that of the product", how="beta of the step before")
def _(x0, x_t, t, beta, alpha_bar):
    b, a, s = (_wide(v, x0) for v in (beta[t - 1], alpha_bar[t], alpha_bar[t - 1]))
    mean = (s**0.5 * b * x0 + (1 - b) ** 0.5 * (1 - s) * x_t) / (1 - a)
    return mean, (b * (1 - s) / (1 - a)).flatten()


@wrong("posterior", says="at t = 1 the posterior has no width", how="a clipped variance")
def _(x0, x_t, t, beta, alpha_bar):
    b, a, s = (_wide(v, x0) for v in (beta[t], alpha_bar[t], alpha_bar[t - 1]))
    mean = (s**0.5 * b * x0 + (1 - b) ** 0.5 * (1 - s) * x_t) / (1 - a)
    return mean, (b * (1 - s) / (1 - a)).flatten().clamp(min=1e-6)


@wrong("posterior", says="the coefficients fit points (b, d) only")
def _(x0, x_t, t, beta, alpha_bar):
    b, a, s = (v[:, None] for v in (beta[t], alpha_bar[t], alpha_bar[t - 1]))
    mean = (s**0.5 * b * x0 + (1 - b) ** 0.5 * (1 - s) * x_t) / (1 - a)
    return mean, (b * (1 - s) / (1 - a))[:, 0]


@right("posterior", how="by the noise, in a loop")
def _(x0, x_t, t, beta, alpha_bar):
    means, variances = [], []
    for clean, noisy, k in zip(x0, x_t, t.tolist(), strict=True):
        b, a, s = beta[k], alpha_bar[k], alpha_bar[k - 1]
        eps = (noisy - a**0.5 * clean) / (1 - a) ** 0.5
        means.append((noisy - b / (1 - a) ** 0.5 * eps) / (1 - b) ** 0.5)
        variances.append(b * (1 - s) / (1 - a))
    return [torch.stack(means), torch.stack(variances)]


@right("posterior", how="textbook fractions")
def _(x0, x_t, t, beta, alpha_bar):
    b, a, s = (_wide(v, x0) for v in (beta[t], alpha_bar[t], alpha_bar[t - 1]))
    mean = (s.sqrt() * b * x0 + (1 - b).sqrt() * (1 - s) * x_t) / (1 - a)
    return mean, (b * (1 - s) / (1 - a)).flatten()


@right("posterior", how="a gain, as in Kalman's filter")
def _(x0, x_t, t, beta, alpha_bar):
    before, scale = alpha_bar[t - 1], (1 - beta[t]).sqrt()
    guess, spread = _wide(before.sqrt(), x0) * x0, 1 - before
    gain = scale * spread / (scale**2 * spread + beta[t])
    mean = guess + _wide(gain, x0) * (x_t - _wide(scale, x0) * guess)
    return mean, (1 - gain * scale) * spread


class _Gaussian(NamedTuple):
    mean: torch.Tensor
    variance: torch.Tensor


@right("posterior", how="a named tuple in single precision, numpy inside")
def _(x0, x_t, t, beta, alpha_bar):
    b, a, s = (_wide(v, x0).numpy() for v in (beta[t], alpha_bar[t], alpha_bar[t - 1]))
    mean = (s**0.5 * b * x0.numpy() + (1 - b) ** 0.5 * (1 - s) * x_t.numpy()) / (1 - a)
    variance = (b * (1 - s) / (1 - a)).reshape(-1)
    return _Gaussian(torch.from_numpy(mean).float(), torch.from_numpy(variance).float())


# --- simple loss ------------------------------------------------------------------------------


def _parts(x0, alpha_bar, generator, low, high):
    t = torch.randint(low, high, (len(x0),), generator=generator)
    eps = torch.randn(x0.shape, generator=generator, dtype=x0.dtype)
    a = _wide(alpha_bar[t], x0)
    return t, eps, a**0.5 * x0 + (1 - a) ** 0.5 * eps


@wrong("simple_loss", says="t runs over 0 … T-1")
def _(net, x0, alpha_bar, generator):
    t, eps, x_t = _parts(x0, alpha_bar, generator, 0, len(alpha_bar) - 1)
    return mse_loss(net(x_t, t), eps)


@wrong("simple_loss", says="t = T is never drawn")
def _(net, x0, alpha_bar, generator):
    t, eps, x_t = _parts(x0, alpha_bar, generator, 1, len(alpha_bar) - 1)
    return mse_loss(net(x_t, t), eps)


@wrong("simple_loss", says="the squares are summed, not averaged")
def _(net, x0, alpha_bar, generator):
    t, eps, x_t = _parts(x0, alpha_bar, generator, 1, len(alpha_bar))
    return mse_loss(net(x_t, t), eps, reduction="sum")


@wrong("simple_loss", says="the network is compared with x_0")
def _(net, x0, alpha_bar, generator):
    t, _, x_t = _parts(x0, alpha_bar, generator, 1, len(alpha_bar))
    return mse_loss(net(x_t, t), x0)


@wrong("simple_loss", says="told another t than the one that made x_t")
def _(net, x0, alpha_bar, generator):
    t, eps, x_t = _parts(x0, alpha_bar, generator, 1, len(alpha_bar))
    return mse_loss(net(x_t, t - 1), eps)


@wrong("simple_loss", says="its gradient reaches the network")
def _(net, x0, alpha_bar, generator):
    t, eps, x_t = _parts(x0, alpha_bar, generator, 1, len(alpha_bar))
    with torch.no_grad():
        return mse_loss(net(x_t, t), eps)


@wrong("simple_loss", says="global random state", how="its own noise")
def _(net, x0, alpha_bar, generator):
    t = torch.randint(1, len(alpha_bar), (len(x0),), generator=generator)
    a, eps = _wide(alpha_bar[t], x0), torch.randn_like(x0)
    return mse_loss(net(a**0.5 * x0 + (1 - a) ** 0.5 * eps, t), eps)


@wrong("simple_loss", says="x_t is sqrt(alpha_bar) x_0", how="one noise for the batch")
def _(net, x0, alpha_bar, generator):
    t = torch.randint(1, len(alpha_bar), (len(x0),), generator=generator)
    eps = torch.randn(x0[:1].shape, generator=generator, dtype=x0.dtype).expand_as(x0)
    a = _wide(alpha_bar[t], x0)
    return mse_loss(net(a**0.5 * x0 + (1 - a) ** 0.5 * eps, t), eps)


@wrong("simple_loss", says="mean squared error of the noise", how="another noise as target")
def _(net, x0, alpha_bar, generator):
    t, _, x_t = _parts(x0, alpha_bar, generator, 1, len(alpha_bar))
    return mse_loss(net(x_t, t), torch.randn(x0.shape, generator=generator, dtype=x0.dtype))


@wrong("simple_loss", says="every t is equally likely", how="late times more often")
def _(net, x0, alpha_bar, generator):
    T = len(alpha_bar) - 1
    t = 1 + (T * torch.rand(len(x0), generator=generator) ** 0.5).long().clamp(max=T - 1)
    eps = torch.randn(x0.shape, generator=generator, dtype=x0.dtype)
    a = _wide(alpha_bar[t], x0)
    return mse_loss(net(a**0.5 * x0 + (1 - a) ** 0.5 * eps, t), eps)


@wrong("simple_loss", says="half the mean square is returned")
def _(net, x0, alpha_bar, generator):
    t, eps, x_t = _parts(x0, alpha_bar, generator, 1, len(alpha_bar))
    return mse_loss(net(x_t, t), eps) / 2


@wrong("simple_loss", says="another generator gives other noise", how="a generator of its own")
def _(net, x0, alpha_bar, generator):
    own = torch.Generator().manual_seed(0)
    t, eps, x_t = _parts(x0, alpha_bar, own, 1, len(alpha_bar))
    return mse_loss(net(x_t, t), eps)


@wrong("simple_loss", says="says nothing about that of the next", how="t by turns")
def _(net, x0, alpha_bar, generator):
    t = 1 + torch.arange(len(x0)) % (len(alpha_bar) - 1)
    eps = torch.randn(x0.shape, generator=generator, dtype=x0.dtype)
    a = _wide(alpha_bar[t], x0)
    return mse_loss(net(a**0.5 * x0 + (1 - a) ** 0.5 * eps, t), eps)


@wrong("simple_loss", says="x_t is sqrt(alpha_bar) x_0", how="the clean points are shown")
def _(net, x0, alpha_bar, generator):
    t, eps, _ = _parts(x0, alpha_bar, generator, 1, len(alpha_bar))
    return mse_loss(net(x0, t), eps)


@wrong("simple_loss", says="with an integer t for each", how="t as a share of T")
def _(net, x0, alpha_bar, generator):
    t, eps, x_t = _parts(x0, alpha_bar, generator, 1, len(alpha_bar))
    return mse_loss(net(x_t, t / (len(alpha_bar) - 1)), eps)


@wrong("simple_loss", says="its gradient reaches the network", how="a plain number")
def _(net, x0, alpha_bar, generator):
    t, eps, x_t = _parts(x0, alpha_bar, generator, 1, len(alpha_bar))
    return mse_loss(net(x_t, t), eps).item()


@wrong("simple_loss", says="mean squared error of the noise", how="weighted as the bound")
def _(net, x0, alpha_bar, generator):
    t, eps, x_t = _parts(x0, alpha_bar, generator, 1, len(alpha_bar))
    alpha = alpha_bar[t] / alpha_bar[t - 1]
    w = (1 - alpha) / (2 * alpha * (1 - alpha_bar[t]))
    return (_wide(w, x0) * (net(x_t, t) - eps) ** 2).mean()


@right("simple_loss", how="in chunks")
def _(net, x0, alpha_bar, generator):
    t, eps, x_t = _parts(x0, alpha_bar, generator, 1, len(alpha_bar))
    parts = zip(x_t.split(500), t.split(500), eps.split(500), strict=True)
    return sum(((net(x, k) - e) ** 2).sum() for x, k, e in parts) / eps.numel()


@right("simple_loss", how="noise first")
def _(net, x0, alpha_bar, generator):
    eps = torch.empty_like(x0).normal_(generator=generator)
    t = 1 + torch.randint(len(alpha_bar) - 1, (len(x0),), generator=generator)
    a = _wide(alpha_bar.index_select(0, t), x0)
    return ((net(torch.sqrt(a) * x0 + torch.sqrt(1 - a) * eps, t) - eps) ** 2).mean()


@right("simple_loss", how="a mean over samples of means")
def _(net, x0, alpha_bar, generator):
    t, eps, x_t = _parts(x0, alpha_bar, generator, 1, len(alpha_bar))
    gap = (eps - net(x_t, t)).flatten(1)
    return torch.stack([(row @ row) / row.numel() for row in gap]).mean()


class _Loss(torch.nn.Module):
    def forward(self, net, x0, alpha_bar, generator):
        t, eps, x_t = _parts(x0, alpha_bar, generator, 1, len(alpha_bar))
        return mse_loss(net(x_t, t), eps)


right("simple_loss", how="a module")(_Loss())


def _power_loss(net, x0, alpha_bar, generator, power):
    t, eps, x_t = _parts(x0, alpha_bar, generator, 1, len(alpha_bar))
    return torch.pow(net(x_t, t) - eps, power).mean()


right("simple_loss", how="a partial function")(functools.partial(_power_loss, power=2))


@wrong("simple_loss", says="the coefficients fit points (b, d) only")
def _(net, x0, alpha_bar, generator):
    t = torch.randint(1, len(alpha_bar), (len(x0),), generator=generator)
    eps = torch.randn(x0.shape, generator=generator, dtype=x0.dtype)
    a = alpha_bar[t][:, None]
    return mse_loss(net(a**0.5 * x0 + (1 - a) ** 0.5 * eps, t), eps)


@wrong("simple_loss", says="the network is asked once", how="the network is not asked")
def _(net, x0, alpha_bar, generator):
    return x0.square().mean()


# --- conversions ------------------------------------------------------------------------------


def _circle(predict, output, x_t, signal, noise):
    a, s = _wide(signal, x_t), _wide(noise, x_t)
    if predict == "v":
        return a * x_t - s * output, s * x_t + a * output, output
    if predict == "eps":
        return (x_t - s * output) / a, output, (output - s * x_t) / a
    if predict == "x0":
        return output, (x_t - a * output) / s, (a * x_t - output) / s
    raise ValueError(predict)


@wrong("three_names", says="read as eps, whatever it predicts")
def _(predict, output, x_t, signal, noise):
    if predict not in ("eps", "x0", "v"):
        raise ValueError(predict)
    a, s = _wide(signal, x_t), _wide(noise, x_t)
    x0 = (x_t - s * output) / a
    return x0, output, a * output - s * x0


@wrong("three_names", says="v has the opposite sign")
def _(predict, output, x_t, signal, noise):
    x0, eps, v = _circle(predict, -output if predict == "v" else output, x_t, signal, noise)
    return x0, eps, -v


@wrong("three_names", says="wrong order")
def _(predict, output, x_t, signal, noise):
    x0, eps, v = _circle(predict, output, x_t, signal, noise)
    return eps, x0, v


@wrong("three_names", says="signal and noise are squared")
def _(predict, output, x_t, signal, noise):
    a, s = _wide(signal**2, x_t), _wide(noise**2, x_t)
    if predict == "eps":
        x0, eps = (x_t - s * output) / a, output
    elif predict == "x0":
        x0, eps = output, (x_t - a * output) / s
    elif predict == "v":
        x0 = a * x_t - s * output
        eps = (x_t - a * x0) / s
    else:
        raise ValueError(predict)
    return x0, eps, a * eps - s * x0


@wrong("three_names", says="an unknown name is refused", how="an unknown name is taken for v")
def _(predict, output, x_t, signal, noise):
    known = predict if predict in ("eps", "x0") else "v"
    return _circle(known, output, x_t, signal, noise)


@wrong("three_names", says="is found again", how="v of another time")
def _(predict, output, x_t, signal, noise):
    x0, eps, v = _circle(predict, output, x_t, signal, noise)
    return x0, eps, v.mean(0, keepdim=True).expand_as(v).clone()


@wrong("three_names", says="signal and noise are swapped")
def _(predict, output, x_t, signal, noise):
    return _circle(predict, output, x_t, noise, signal)


@wrong("three_names", says="from v, eps is found again", how="a sign, from v to eps")
def _(predict, output, x_t, signal, noise):
    x0, eps, v = _circle(predict, output, x_t, signal, noise)
    return x0, 2 * _wide(noise, x_t) * x_t - eps if predict == "v" else eps, v


@wrong("three_names", says="it raised KeyError", how="a KeyError")
def _(predict, output, x_t, signal, noise):
    return {n: _circle(n, output, x_t, signal, noise) for n in ("x0", "eps", "v")}[predict]


@wrong("three_names", says="from eps, x0 is found again", how="clamped")
def _(predict, output, x_t, signal, noise):
    x0, eps, v = _circle(predict, output, x_t, signal, noise)
    return x0.clamp(-1, 1), eps, v


@right("three_names", how="through v")
def _(predict, output, x_t, signal, noise):
    if predict not in ("x0", "eps", "v"):
        raise ValueError(predict)
    a, s, v = _wide(signal, x_t), _wide(noise, x_t), output
    if predict != "v":
        v = (output - s * x_t) / a if predict == "eps" else (a * x_t - output) / s
    return [a * x_t - s * v, s * x_t + a * v, v]


@right("three_names", how="on the circle")
def _(predict, output, x_t, signal, noise):
    return _circle(predict, output, x_t, signal, noise)


@right("three_names", how="linear equations")
def _(predict, output, x_t, signal, noise):
    x0, eps = torch.empty_like(x_t), torch.empty_like(x_t)
    for i, (a, s) in enumerate(zip(signal.tolist(), noise.tolist(), strict=True)):
        row = {"x0": [1, 0], "eps": [0, 1], "v": [-s, a]}.get(predict)
        if row is None:
            raise ValueError(f"{predict} is none of x0, eps, v")
        matrix = torch.tensor([[a, s], row], dtype=x_t.dtype)
        found = torch.linalg.solve(
            matrix, torch.stack([x_t[i].flatten(), output[i].flatten()]).to(x_t.dtype)
        )
        x0[i], eps[i] = found[0].view_as(x_t[i]), found[1].view_as(x_t[i])
    return x0, eps, _wide(signal, x_t) * eps - _wide(noise, x_t) * x0


@right("three_names", how="other names, in single precision")
def _(name, value, x, a, s):
    return tuple(part.float() for part in _circle(name, value, x, a, s))


@wrong("three_names", says="the coefficients fit points (b, d) only")
def _(predict, output, x_t, signal, noise):
    a, s = signal[:, None], noise[:, None]
    x0 = {"eps": (x_t - s * output) / a, "x0": output, "v": a * x_t - s * output}.get(predict)
    if x0 is None:
        raise ValueError(predict)
    eps = (x_t - a * x0) / s
    return x0, eps, a * eps - s * x0


# --- KL ---------------------------------------------------------------------------------------


@wrong("kl", says="the two Gaussians are exchanged")
def _(m1, v1, m2, v2):
    return 0.5 * (v1.log() - v2.log() + (v2 + (m1 - m2) ** 2) / v1 - 1)


@wrong("kl", says="taken for standard deviations")
def _(m1, v1, m2, v2):
    return torch.log(v2 / v1) + (v1**2 + (m1 - m2) ** 2) / (2 * v2**2) - 0.5


@wrong("kl", says="the factor of one half is missing")
def _(m1, v1, m2, v2):
    return v2.log() - v1.log() + (v1 + (m1 - m2) ** 2) / v2 - 1


@wrong("kl", says="two equal Gaussians do not get 0")
def _(m1, v1, m2, v2):
    return 0.5 * (v2.log() - v1.log() + (v1 + (m1 - m2) ** 2) / v2)


@wrong("kl", says="the logarithm has the wrong sign")
def _(m1, v1, m2, v2):
    return 0.5 * (v1.log() - v2.log() + (v1 + (m1 - m2) ** 2) / v2 - 1)


@wrong("kl", says="the result is in bits")
def _(m1, v1, m2, v2):
    return 0.5 * (v2.log() - v1.log() + (v1 + (m1 - m2) ** 2) / v2 - 1) / math.log(2)


@wrong("kl", says="the divergence of the two Gaussians", how="symmetrised")
def _(m1, v1, m2, v2):
    return 0.25 * (v1 / v2 + v2 / v1 + (m1 - m2) ** 2 * (1 / v1 + 1 / v2) - 2)


@wrong("kl", says="taken for logarithms of variances")
def _(m1, v1, m2, v2):
    return 0.5 * (v2 - v1 - 1 + (v1.exp() + (m1 - m2) ** 2) * (-v2).exp())


@wrong("kl", says="the ratio of the variances is upside down")
def _(m1, v1, m2, v2):
    return 0.5 * (v2.log() - v1.log() + v2 / v1 + (m1 - m2) ** 2 / v2 - 1)


@wrong("kl", says="the means do not enter")
def _(m1, v1, m2, v2):
    return (v1 / v2 - 1 - torch.log(v1 / v2)) / 2


@wrong("kl", says="the result has the wrong sign")
def _(m1, v1, m2, v2):
    return 0.5 * (v1.log() - v2.log() - (v1 + (m1 - m2) ** 2) / v2 + 1)


@wrong("kl", says="the divergence of the two Gaussians", how="a bracket too few")
def _(m1, v1, m2, v2):
    return 0.5 * (torch.log(v2 / v1) + v1 + (m1 - m2) ** 2 / v2 - 1)


@wrong("kl", says="expected (3, 2)", how="summed over coordinates")
def _(m1, v1, m2, v2):
    return (0.5 * (torch.log(v2 / v1) + (v1 + (m1 - m2) ** 2) / v2 - 1)).sum(-1)


@right("kl", how="by deviations")
def _(m1, v1, m2, v2):
    s1, s2 = v1.sqrt(), v2.sqrt()
    return torch.log(s2 / s1) + 0.5 * (s1 / s2) ** 2 + 0.5 * ((m1 - m2) / s2) ** 2 - 0.5


@right("kl", how="cross-entropy less entropy")
def _(m1, v1, m2, v2):
    cross = 0.5 * (torch.log(2 * math.pi * v2) + (v1 + (m1 - m2) ** 2) / v2)
    return cross - 0.5 * (torch.log(2 * math.pi * v1) + 1)


@right("kl", how="torch.distributions")
def _(m1, v1, m2, v2):
    normal = torch.distributions.Normal
    return torch.distributions.kl_divergence(normal(m1, v1**0.5), normal(m2, v2**0.5))


@right("kl", how="coordinate by coordinate, in single precision")
def _(m1, v1, m2, v2):
    given = zip(*(part.flatten().tolist() for part in (m1, v1, m2, v2)), strict=True)
    each = [(math.log(w / v) + (v + (m - n) ** 2) / w - 1) / 2 for m, v, n, w in given]
    return torch.tensor(each).reshape(m1.shape)


# --- the exact denoiser of a finite set -------------------------------------------------------


def _weights(square, noise):
    return (-square / (2 * noise[:, None] ** 2)).softmax(1)


@wrong("finite_denoiser", says="x_t is compared with the points themselves")
def _(x_t, points, signal, noise):
    return _weights(torch.cdist(x_t, points) ** 2, noise) @ points


@wrong("finite_denoiser", says="the factor of one half is missing")
def _(x_t, points, signal, noise):
    square = torch.stack([(x - a * points).square().sum(1) for x, a in zip(x_t, signal)])  # noqa: B905
    return (-square / noise[:, None] ** 2).softmax(1) @ points


@wrong("finite_denoiser", says="the nearest point is returned instead of the mean")
def _(x_t, points, signal, noise):
    return points[torch.cdist(x_t / signal[:, None], points).argmin(1)]


@wrong("finite_denoiser", says="the weights are normalised over the batch")
def _(x_t, points, signal, noise):
    square = (x_t[:, None] - signal[:, None, None] * points).square().sum(2)
    return torch.softmax(-square / (2 * noise[:, None] ** 2), 0) @ points


@wrong("finite_denoiser", says="the weights underflow")
def _(x_t, points, signal, noise):
    square = (x_t[:, None] - signal[:, None, None] * points).square().sum(2)
    weight = torch.exp(-square / (2 * noise[:, None] ** 2))
    return (weight / weight.sum(1, keepdim=True)) @ points


@wrong("finite_denoiser", says="Bayes' mean over the data points", how="one time for the batch")
def _(x_t, points, signal, noise):
    square = torch.cdist(x_t, signal[0] * points) ** 2
    return (-square / (2 * noise[0] ** 2)).softmax(1) @ points


@wrong("finite_denoiser", says="x_t is divided by the signal, but the noise is not")
def _(x_t, points, signal, noise):
    return _weights(torch.cdist(x_t / signal[:, None], points) ** 2, noise) @ points


@wrong("finite_denoiser", says="from the product of x_t and the point alone")
def _(x_t, points, signal, noise):
    return torch.softmax(torch.einsum("bd,nd,b->bn", x_t, points, signal / noise**2), 1) @ points


@wrong("finite_denoiser", says="the nearest point, and finite", how="exponents cut at -50")
def _(x_t, points, signal, noise):
    square = (x_t[:, None] - signal[:, None, None] * points).square().sum(2)
    weight = torch.exp((-square / (2 * noise[:, None] ** 2)).clamp(min=-50))
    return weight @ points / weight.sum(1, keepdim=True)


@wrong("finite_denoiser", says="Bayes' mean over the data points", how="a mean over coordinates")
def _(x_t, points, signal, noise):
    square = (x_t[:, None] - signal[:, None, None] * points).square().mean(2)
    return _weights(square, noise) @ points


@wrong("finite_denoiser", says="Bayes' mean over the data points", how="the noise, not the point")
def _(x_t, points, signal, noise):
    square = (x_t[:, None] - signal[:, None, None] * points).square().sum(2)
    return (x_t - signal[:, None] * (_weights(square, noise) @ points)) / noise[:, None]


@right("finite_denoiser", how="distances in units of the data")
def _(x_t, points, signal, noise):
    ratio = (noise / signal)[:, None]
    square = (x_t / signal[:, None]).unsqueeze(1).sub(points).square().sum(-1)
    return (-square / (2 * ratio**2)).softmax(-1) @ points


@right("finite_denoiser", how="the square multiplied out, in a loop")
def _(x_t, points, signal, noise):
    rows = []
    for x, a, s in zip(x_t, signal, noise, strict=True):
        logit = (a * (points @ x) - 0.5 * a**2 * points.square().sum(1)) / s**2
        rows.append(torch.exp(logit - logit.logsumexp(0)) @ points)
    return torch.stack(rows)


@right("finite_denoiser", how="numpy, point by point")
def _(x_t, points, signal, noise):
    rows, p = [], points.numpy()
    for x, a, s in zip(x_t.numpy(), signal.tolist(), noise.tolist(), strict=True):
        square = [((x - a * point) ** 2).sum() for point in p]
        weight = [math.exp((min(square) - each) / (2 * s**2)) for each in square]
        rows.append(sum(w * point for w, point in zip(weight, p, strict=True)) / sum(weight))
    return torch.from_numpy(np.stack(rows))


@right("finite_denoiser", how="log densities of torch.distributions")
def _(x_t, points, signal, noise):
    cloud = torch.distributions.Normal(signal[:, None, None] * points, noise[:, None, None])
    log_p = cloud.log_prob(x_t[:, None]).sum(2)
    return torch.einsum("bn,nd->bd", (log_p - log_p.logsumexp(1, keepdim=True)).exp(), points)


# --- mutants of the notebook's solutions that change nothing ----------------------------------

SQUARED = "the difference is squared"
equivalent("reverse", "kl", "m1 - m2 -> m2 - m1", because=SQUARED)
equivalent(
    "reverse",
    "simple_loss",
    "eps - net(kept.sqrt() * x0 + (1 - kept).sqrt() * eps, t) -> "
    "net(kept.sqrt() * x0 + (1 - kept).sqrt() * eps, t) - eps",
    because=SQUARED,
)
equivalent(
    "reverse",
    "finite_denoiser",
    "x_t[:, None, :] - signal[:, None, None] * points[None] -> "
    "signal[:, None, None] * points[None] - x_t[:, None, :]",
    because=SQUARED,
)
