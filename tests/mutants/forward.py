"""Wrong and right answers to the exercises of lesson 01."""

import math
from itertools import pairwise

import numpy as np
import torch

from tests.mutants import right, wrong

# --- alpha_bar ----------------------------------------------------------------------------------


@wrong("alpha_bar", says="index 0 is missing")
def _(betas):
    left, out = 1.0, []
    for beta in betas:
        left = left * (1 - beta)
        out.append(left)
    return torch.stack(out)


@wrong("alpha_bar", says="everything stands one step late")
def _(betas):
    out = torch.ones(len(betas) + 1, dtype=betas.dtype)
    for t in range(2, len(betas) + 1):
        out[t] = out[t - 1] * (1 - betas[t - 2])
    return out


@wrong("alpha_bar", says="the last step is left out")
def _(betas):
    return torch.cat([torch.ones(1, dtype=betas.dtype), torch.cumprod(1 - betas, 0)[:-1]])


@wrong("alpha_bar", says="the losses are added up")
def _(betas):
    return 1 - torch.cat([torch.zeros(1, dtype=betas.dtype), torch.cumsum(betas, 0)])


@wrong("alpha_bar", says="only an approximation")
def _(betas):
    return torch.cat([torch.ones(1, dtype=betas.dtype), torch.exp(-torch.cumsum(betas, 0))])


@wrong("alpha_bar", says="this is the root of alpha_bar")
def _(betas):
    return torch.cat([torch.ones(1, dtype=betas.dtype), torch.cumprod(1 - betas, 0)]) ** 0.5


@wrong("alpha_bar", says="three steps that keep half", how="reset half way")
def _(betas):
    half = len(betas) // 2
    out = [torch.cumprod(1 - part, 0) for part in (betas[:half], betas[half:])]
    return torch.cat([torch.ones(1, dtype=betas.dtype), *out])


@wrong("alpha_bar", says="changes its input in place", how="in place")
def _(betas):
    betas.neg_().add_(1)
    return torch.cat([torch.ones(1, dtype=betas.dtype), torch.cumprod(betas, 0)])


@wrong("alpha_bar", says="the 1 stands at the end")
def _(betas):
    left, out = 1.0, [1.0]
    for beta in betas.tolist():
        left *= 1 - beta
        out.insert(-1, left)
    return torch.tensor(out, dtype=betas.dtype)


@wrong("alpha_bar", says="got data type torch.float32", how="single precision")
def _(betas):
    return torch.cat([torch.ones(1), (1 - betas.float()).cumprod(0)])


@wrong("alpha_bar", says="three steps that keep half", how="the first step twice")
def _(betas):
    left, out = 1.0, []
    for beta in [betas[0], *betas]:
        left = left * (1 - beta)
        out.append(left)
    return torch.stack(out)


@right("alpha_bar", how="through logarithms")
def _(betas):
    zero = torch.zeros(1, dtype=betas.dtype)
    return torch.cat([zero, torch.log1p(-betas).cumsum(0)]).exp()


@right("alpha_bar", how="padded")
def _(betas):
    return torch.nn.functional.pad(torch.cumprod(1 - betas, 0), (1, 0), value=1.0)


@right("alpha_bar", how="numpy inside")
def _(betas):
    return torch.from_numpy(np.append(1.0, np.cumprod(1 - betas.numpy())))


@right("alpha_bar", how="a loop over plain numbers")
def _(betas):
    left = [1.0]
    for beta in betas.tolist():
        left.append(left[-1] * (1 - beta))
    return torch.tensor(left, dtype=betas.dtype)


# --- closed_form --------------------------------------------------------------------------------


def _wide(alpha_bar, x0):
    return alpha_bar.reshape(-1, *[1] * (x0.ndim - 1))


@wrong("closed_form", says="the variance stands where the standard deviation belongs")
def _(x0, alpha_bar, eps):
    a = _wide(alpha_bar, x0)
    return a**0.5 * x0 + eps - a * eps


@wrong("closed_form", says="without its root")
def _(x0, alpha_bar, eps):
    a = _wide(alpha_bar, x0)
    return x0 * a + eps * (1 - a) ** 0.5


@wrong("closed_form", says="both roots are missing")
def _(x0, alpha_bar, eps):
    return torch.lerp(eps, x0, _wide(alpha_bar, x0))


@wrong("closed_form", says="signal and noise are swapped")
def _(x0, alpha_bar, eps):
    a = _wide(alpha_bar, x0)
    return a**0.5 * eps + (1 - a) ** 0.5 * x0


@wrong("closed_form", says="the noise is scaled by 1 - sqrt(alpha_bar)")
def _(x0, alpha_bar, eps):
    return torch.lerp(eps, x0, _wide(alpha_bar, x0) ** 0.5)


@wrong("closed_form", says="x0 is not scaled down")
def _(x0, alpha_bar, eps):
    return x0 + (1 - _wide(alpha_bar, x0)) ** 0.5 * eps


@wrong("closed_form", says="alpha_bar is not reshaped")
def _(x0, alpha_bar, eps):
    return alpha_bar**0.5 * x0 + (1 - alpha_bar) ** 0.5 * eps


@wrong("closed_form", says="one alpha_bar serves the whole batch")
def _(x0, alpha_bar, eps):
    return alpha_bar[0] ** 0.5 * x0 + (1 - alpha_bar[0]) ** 0.5 * eps


@wrong("closed_form", says="x_t is the scaled data", how="the batch mean of alpha_bar")
def _(x0, alpha_bar, eps):
    a = alpha_bar.mean()
    return a**0.5 * x0 + (1 - a) ** 0.5 * eps


@wrong("closed_form", says="without data, x_t is scaled noise", how="alpha_bar squared")
def _(x0, alpha_bar, eps):
    a = _wide(alpha_bar, x0)
    return a**0.5 * x0 + (1 - a**2) ** 0.5 * eps


@wrong("closed_form", says="the noise is not scaled")
def _(x0, alpha_bar, eps):
    out = eps.clone()
    for i, a in enumerate(alpha_bar):
        out[i] += a.sqrt() * x0[i]
    return out


@wrong("closed_form", says="reshaped for pictures only")
def _(x0, alpha_bar, eps):
    a = alpha_bar.view(-1, 1, 1, 1)
    return a**0.5 * x0 + (1 - a) ** 0.5 * eps


@wrong("closed_form", says="changes its input in place", how="in place")
def _(x0, alpha_bar, eps):
    a = _wide(alpha_bar, x0)
    return x0.mul_(a**0.5).add_((1 - a) ** 0.5 * eps)


@wrong("closed_form", says="x0 may have any number of axes", how="points and pictures only")
def _(x0, alpha_bar, eps):
    a = alpha_bar[:, None, None, None] if x0.ndim == 4 else alpha_bar[:, None]
    if x0.ndim == 3:
        a = alpha_bar[0]
    return a**0.5 * x0 + (1 - a) ** 0.5 * eps


@wrong("closed_form", says="at alpha_bar = 1 nothing is lost", how="kept off 1")
def _(x0, alpha_bar, eps):
    a = _wide(alpha_bar, x0).clamp(max=0.9999)
    return a**0.5 * x0 + (1 - a) ** 0.5 * eps


@right("closed_form", how="as an angle")
def _(x0, alpha_bar, eps):
    angle = _wide(alpha_bar.sqrt().acos(), x0)
    return angle.cos() * x0 + angle.sin() * eps


@right("closed_form", how="einsum")
def _(x0, alpha_bar, eps):
    scale = torch.einsum("b,b...->b...", alpha_bar.sqrt(), x0)
    return scale + torch.einsum("b,b...->b...", (1 - alpha_bar).sqrt(), eps)


@right("closed_form", how="a loop over the samples")
def _(x0, alpha_bar, eps):
    out = x0.clone()
    for i, a in enumerate(alpha_bar.tolist()):
        out[i] = a**0.5 * x0[i] + (1 - a) ** 0.5 * eps[i]
    return out


@right("closed_form", how="the samples moved to the last axis")
def _(x0, alpha_bar, eps):
    x_t = alpha_bar**0.5 * x0.movedim(0, -1) + (1 - alpha_bar) ** 0.5 * eps.movedim(0, -1)
    return x_t.movedim(-1, 0)


@right("closed_form", how="numpy inside, in single precision")
def _(x0, alpha_bar, eps):
    a = _wide(alpha_bar, x0).numpy()
    return torch.from_numpy(np.sqrt(a) * x0.numpy() + np.sqrt(1 - a) * eps.numpy()).float()


# --- linear -------------------------------------------------------------------------------------


def _refuse(T, beta_max):
    if beta_max * 1000 / T >= 1:
        raise ValueError("T is too small")


@wrong("linear", says="the betas are not rescaled")
def _(T, beta_min=1e-4, beta_max=0.02):
    _refuse(T, beta_max)
    return beta_min + (beta_max - beta_min) * torch.arange(T, dtype=torch.float64) / (T - 1)


@wrong("linear", says="the sum of the betas does not depend on T", how="not rescaled nor refused")
def _(T, beta_min=1e-4, beta_max=0.02):
    return torch.linspace(beta_min, beta_max, T, dtype=torch.float64)


@wrong("linear", says="only beta_max is rescaled")
def _(T, beta_min=1e-4, beta_max=0.02):
    _refuse(T, beta_max)
    high = beta_max * 1000 / T
    return beta_min + (high - beta_min) * torch.arange(T, dtype=torch.float64) / (T - 1)


@wrong("linear", says="the last beta falls short")
def _(T, beta_min=1e-4, beta_max=0.02):
    _refuse(T, beta_max)
    step = (beta_max - beta_min) / T
    return 1000 / T * torch.tensor([beta_min + i * step for i in range(T)], dtype=torch.float64)


@wrong("linear", says="clipped instead of refused")
def _(T, beta_min=1e-4, beta_max=0.02):
    betas = torch.linspace(beta_min, beta_max, T, dtype=torch.float64) * 1000 / T
    return betas.minimum(torch.tensor(0.999, dtype=torch.float64))


@wrong("linear", says="a T too small is not refused")
def _(T, beta_min=1e-4, beta_max=0.02):
    return torch.linspace(beta_min, beta_max, T, dtype=torch.float64) * 1000 / T


@wrong("linear", says="the root of beta lies on a line")
def _(T, beta_min=1e-4, beta_max=0.02):
    _refuse(T, beta_max)
    return 1000 / T * torch.linspace(beta_min**0.5, beta_max**0.5, T, dtype=torch.float64) ** 2


@wrong("linear", says="it raised AssertionError", how="an assertion instead of ValueError")
def _(T, beta_min=1e-4, beta_max=0.02):
    assert beta_max * 1000 / T < 1
    return torch.linspace(beta_min, beta_max, T, dtype=torch.float64) * 1000 / T


@wrong("linear", says="the betas lie on a line", how="geometric")
def _(T, beta_min=1e-4, beta_max=0.02):
    _refuse(T, beta_max)
    betas = torch.logspace(math.log10(beta_min), math.log10(beta_max), T, dtype=torch.float64)
    return betas / betas.sum() * 500 * (beta_min + beta_max)


@wrong("linear", says="got data type torch.float32", how="single precision")
def _(T, beta_min=1e-4, beta_max=0.02):
    _refuse(T, beta_max)
    return torch.linspace(beta_min, beta_max, T) * 1000 / T


@wrong("linear", says="only beta_min is rescaled")
def _(T, beta_min=1e-4, beta_max=0.02):
    _refuse(T, beta_max)
    share = torch.arange(T, dtype=torch.float64) / (T - 1)
    return beta_min * 1000 / T * (1 - share) + beta_max * share


@wrong("linear", says="rounded to a whole number")
def _(T, beta_min=1e-4, beta_max=0.02):
    _refuse(T, beta_max)
    return torch.linspace(beta_min, beta_max, T, dtype=torch.float64) * (1000 // T)


@wrong("linear", says="more than 1000 steps is not rescaled")
def _(T, beta_min=1e-4, beta_max=0.02):
    _refuse(T, beta_max)
    betas = torch.linspace(beta_min, beta_max, T, dtype=torch.float64)
    return betas * 1000 / T if T < 1000 else betas


@wrong("linear", says="refused whose last beta is below 1")
def _(T, beta_min=1e-4, beta_max=0.02):
    betas = torch.linspace(beta_min, beta_max, T, dtype=torch.float64) * 1000 / T
    if (betas > 0.9).any():
        raise ValueError("T is too small")
    return betas


@wrong("linear", says="a T too small is not refused", how="the error is returned")
def _(T, beta_min=1e-4, beta_max=0.02):
    if beta_max * 1000 / T >= 1:
        return ValueError("T is too small")
    return torch.linspace(beta_min, beta_max, T, dtype=torch.float64) * 1000 / T


@wrong("linear", says="the betas lie on a line", how="single precision, then double")
def _(T, beta_min=1e-4, beta_max=0.02):
    _refuse(T, beta_max)
    return (torch.linspace(beta_min, beta_max, T) * 1000 / T).double()


@right("linear", how="from the indices")
def _(T, beta_min=1e-4, beta_max=0.02):
    _refuse(T, beta_max)
    share = torch.arange(T, dtype=torch.float64) / (T - 1)
    return (beta_min * (1 - share) + beta_max * share) * 1000 / T


@right("linear", how="numpy inside")
def _(T, beta_min=1e-4, beta_max=0.02):
    betas = np.linspace(beta_min, beta_max, T) / (T / 1000)
    if betas.max() >= 1:
        raise ValueError("T is too small")
    return torch.from_numpy(betas)


@right("linear", how="a loop, with other names")
def _(steps, first=1e-4, last=0.02):
    betas = []
    for i in range(steps):
        share = i / (steps - 1)
        betas.append(((1 - share) * first + share * last) * 1000 / steps)
        if betas[-1] >= 1:
            raise ValueError("too few steps")
    return torch.tensor(betas, dtype=torch.float64)


# --- cosine -------------------------------------------------------------------------------------


def _f(T, s):
    return [math.cos((t / T + s) / (1 + s) * math.pi / 2) ** 2 for t in range(T + 1)]


def _tensor(values):
    return torch.tensor(list(values), dtype=torch.float64)


@wrong("cosine", says="the last beta is not clipped")
def _(T, s=0.008, beta_clip=0.999):
    f = _f(T, s)
    return _tensor(1 - b / a for a, b in pairwise(f))


@wrong("cosine", says="the limit is fixed at 0.999")
def _(T, s=0.008, beta_clip=0.999):
    f = _f(T, s)
    return _tensor(min(1 - b / a, 0.999) for a, b in pairwise(f))


@wrong("cosine", says="the offset s is left out")
def _(T, s=0.008, beta_clip=0.999):
    f = _f(T, 0)
    return _tensor(min(1 - b / a, beta_clip) for a, b in pairwise(f))


@wrong("cosine", says="the offset is 0.008 whatever s is")
def _(T, s=0.008, beta_clip=0.999):
    f = _f(T, 0.008)
    return _tensor(min(1 - b / a, beta_clip) for a, b in pairwise(f))


@wrong("cosine", says="the cosine is not squared")
def _(T, s=0.008, beta_clip=0.999):
    f = [abs(v) ** 0.5 for v in _f(T, s)]
    return _tensor(min(1 - b / a, beta_clip) for a, b in pairwise(f))


@wrong("cosine", says="f is not divided by f(0)")
def _(T, s=0.008, beta_clip=0.999):
    f = [1.0, *_f(T, s)[1:]]
    return _tensor(min(1 - b / a, beta_clip) for a, b in pairwise(f))


@wrong("cosine", says="a difference of alpha_bars")
def _(T, s=0.008, beta_clip=0.999):
    first, *_ = f = _f(T, s)
    f = [v / first for v in f]
    return _tensor(min(a - b, beta_clip) for a, b in pairwise(f))


@wrong("cosine", says="T steps have T betas", how="alpha_bar instead of beta")
def _(T, s=0.008, beta_clip=0.999):
    first, *rest = _f(T, s)
    return _tensor([1.0, *(v / first for v in rest)])


@wrong("cosine", says="the last beta is clipped", how="cut off at the former beta")
def _(T, s=0.008, beta_clip=0.999):
    f = _f(T, s)
    betas = [1 - b / a for a, b in pairwise(f)]
    return _tensor([*(min(b, beta_clip) for b in betas[:-1]), betas[-2]])


@wrong("cosine", says="this is 1 - alpha_bar")
def _(T, s=0.008, beta_clip=0.999):
    first, *rest = _f(T, s)
    return _tensor(min((first - v) / first, beta_clip) for v in rest)


@wrong("cosine", says="the brackets around 1 + s are missing")
def _(T, s=0.008, beta_clip=0.999):
    f = [math.cos((t / T + 2 * s) * math.pi / 2) ** 2 for t in range(T + 1)]
    return _tensor(min(1 - b / a, beta_clip) for a, b in pairwise(f))


@wrong("cosine", says="only the last beta is clipped")
def _(T, s=0.008, beta_clip=0.999):
    betas = _tensor(1 - b / a for a, b in pairwise(_f(T, s)))
    betas[-1] = beta_clip
    return betas


@wrong("cosine", says="make alpha_bar = f(t)/f(0)", how="s in steps")
def _(T, s=0.008, beta_clip=0.999):
    f = [math.cos((t + s) / (T + s) * math.pi / 2) ** 2 for t in range(T + 1)]
    return _tensor(min(1 - b / a, beta_clip) for a, b in pairwise(f))


@right("cosine", how="a loop")
def _(T, s=0.008, beta_clip=0.999):
    f = _f(T, s)
    return _tensor(min(1 - b / a, beta_clip) for a, b in pairwise(f))


@right("cosine", how="by the half angle, and divided by f(0)")
def _(T, s=0.008, beta_clip=0.999):
    u = torch.linspace(0, 1, T + 1, dtype=torch.float64)
    f = (1 + torch.cos(math.pi * (u + s) / (1 + s))) / 2
    f = f / f[0]
    return torch.minimum((f[:-1] - f[1:]) / f[:-1], torch.tensor(beta_clip, dtype=u.dtype))


@right("cosine", how="numpy inside")
def _(T, s=0.008, beta_clip=0.999):
    f = np.cos((np.arange(T + 1) / T + s) / (1 + s) * np.pi / 2) ** 2
    return torch.from_numpy(np.minimum(-np.diff(f) / f[:-1], beta_clip))


@right("cosine", how="through logarithms")
def _(T, s=0.008, beta_clip=0.999):
    angle = (torch.arange(T + 1, dtype=torch.float64) / T + s) * math.pi / (2 + 2 * s)
    return -torch.expm1(2 * angle.cos().log().diff()).clamp(min=-beta_clip)


# --- snr ----------------------------------------------------------------------------------------


@wrong("snr", says="the ratio of standard deviations")
def _(alpha_bar):
    return alpha_bar**0.5 / (1 - alpha_bar) ** 0.5


@wrong("snr", says="the ratio is upside down")
def _(alpha_bar):
    return 1 / alpha_bar - 1


@wrong("snr", says="this is total variance over noise")
def _(alpha_bar):
    return alpha_bar / (1 - alpha_bar) + 1


@wrong("snr", says="clean data has the ratio 0")
def _(alpha_bar):
    return torch.where(alpha_bar < 1, alpha_bar / (1 - alpha_bar), torch.zeros_like(alpha_bar))


@wrong("snr", says="infinite for clean data", how="a large number at the start")
def _(alpha_bar):
    return (alpha_bar / (1 - alpha_bar)).clamp(max=1e10)


@wrong("snr", says="the ratio of the two variances", how="signal alone")
def _(alpha_bar):
    return alpha_bar.clone()


@wrong("snr", says="Python's own numbers are divided")
def _(alpha_bar):
    return torch.tensor([a / (1 - a) for a in alpha_bar.tolist()], dtype=alpha_bar.dtype)


@wrong("snr", says="got data type torch.float32", how="single precision")
def _(alpha_bar):
    return alpha_bar.float() / (1 - alpha_bar.float())


@wrong("snr", says="changes its input in place", how="in place")
def _(alpha_bar):
    return alpha_bar.div_(1 - alpha_bar)


@wrong("snr", says="the ratio of the two variances", how="infinity at index 0 always")
def _(alpha_bar):
    out = torch.full_like(alpha_bar, math.inf)
    out[1:] = alpha_bar[1:] / (1 - alpha_bar[1:])
    return out


@right("snr", how="the other way round")
def _(alpha_bar):
    return 1 / ((1 - alpha_bar) / alpha_bar)


@right("snr", how="through logarithms")
def _(alpha_bar):
    return (torch.log(alpha_bar) - torch.log1p(-alpha_bar)).exp()


@right("snr", how="entry by entry")
def _(alpha_bar):
    return torch.stack([a / (1 - a) for a in alpha_bar])


@right("snr", how="numpy inside")
def _(alpha_bar):
    a = alpha_bar.numpy()
    with np.errstate(divide="ignore"):
        return torch.from_numpy(a / (1 - a))


right("snr", how="a lambda")(lambda a: torch.where(a == 1, math.inf, a.logit().exp()))
