"""Guidance and thresholds: functions from denoiser to denoiser, stacked by the caller.

The order matters: combine first, threshold last, since x̂_0 and ε̂ are affine in each other only
before clipping. The guidance scale has one meaning: 1 is the conditional model, 0 the
unconditional one. The papers' other conventions are converted by `scale_from`.
"""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from .diffusion import Denoiser
from .schedule import Schedule

LogProb = Callable[[Tensor, Tensor], Tensor]
"""(x_t, t) -> log p(y | x_t) of the wanted y, shape (b,)."""


def scale_from(paper: str, value: float) -> float:
    """The course's guidance scale from a paper's.

    "ho-salimans": (1 + w) ε_c - w ε_u, so scale = 1 + w.
    "glide": ε_u + s (ε_c - ε_u), "imagen": w ε_c + (1 - w) ε_u, so scale = s = w.
    """
    offset = {"ho-salimans": 1.0, "glide": 0.0, "imagen": 0.0}
    if paper not in offset:
        raise ValueError(f"unknown convention {paper!r}: choose one of {', '.join(offset)}")
    return value + offset[paper]


def classifier_free(conditional: Denoiser, unconditional: Denoiser, scale: float) -> Denoiser:
    """x̂_u + scale (x̂_c - x̂_u) (Ho & Salimans 2022, eq. 6, scale = 1 + w).

    Same as combining ε or v. At scale 1 and 0 the unused model is not called.
    Raises ValueError for a scale that is not finite.
    """
    if not math.isfinite(scale):
        raise ValueError(f"the guidance scale must be a finite number, got {scale}")
    if scale == 1:
        return conditional
    if scale == 0:
        return unconditional

    def denoise(x_t: Tensor, t: Tensor) -> Tensor:
        without = unconditional(x_t, t)
        return without + scale * (conditional(x_t, t) - without)

    return denoise


def by_gradient(
    denoise: Denoiser, log_prob: LogProb, schedule: Schedule, scale: float = 1.0
) -> Denoiser:
    """x̂_0 + scale · noise²/signal · ∇ log p(y | x_t) (Dhariwal & Nichol 2021, algorithm 2).

    Their ε̂ - noise · scale · ∇ log p, written for x̂_0. `log_prob` must know noisy inputs. With a
    noise-aware CLIP's similarity for `log_prob` this is GLIDE's CLIP guidance.
    Raises ValueError where signal[T] = 0: the shift of x̂_0 is infinite there.
    """
    if schedule.signal[-1] == 0:
        raise ValueError(
            "a gradient cannot shift x_0 where signal[T] = 0, as on this schedule: choose one that "
            "keeps a little signal, such as linear or cosine"
        )

    def guided(x_t: Tensor, t: Tensor) -> Tensor:
        with torch.enable_grad():
            x = x_t.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(log_prob(x, t).sum(), x)
        shift = schedule.at(schedule.noise**2 / schedule.signal, t, x_t)
        return denoise(x_t, t) + scale * shift * gradient

    return guided


def clamp(denoise: Denoiser, low: float = -1.0, high: float = 1.0) -> Denoiser:
    """x̂_0 limited to the range of the data: static thresholding (DDPM's and Imagen's)."""
    return lambda x_t, t: denoise(x_t, t).clamp(low, high)


def dynamic_threshold(denoise: Denoiser, quantile: float = 0.995) -> Denoiser:
    """x̂_0 clipped to [-s, s] and divided by s, s = max(1, quantile of |x̂_0|) (Imagen §2.3).

    s is taken for each sample over all its elements.
    """
    if not 0 < quantile <= 1:
        raise ValueError(f"quantile must lie in (0, 1], got {quantile}")

    def thresholded(x_t: Tensor, t: Tensor) -> Tensor:
        x0 = denoise(x_t, t)
        s = x0.flatten(1).abs().float().quantile(quantile, dim=1).clamp(min=1).to(x0.dtype)
        s = s.view(-1, *[1] * (x0.ndim - 1))
        return x0.clamp(-s, s) / s

    return thresholded


def inpaint(
    denoise: Denoiser, known: Float[Tensor, "b ..."], mask: Float[Tensor, "b ..."]
) -> Denoiser:
    """x̂_0 with its known part put back: mask · known + (1 - mask) · x̂_0; mask 1 keeps."""
    return lambda x_t, t: mask * known + (1 - mask) * denoise(x_t, t)
