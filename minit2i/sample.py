"""Samplers: generators that walk a decreasing list of indices from T to 0 and yield x after each.

A sampler sees a denoiser (x_t, t) -> x̂_0 and a schedule, nothing else; guidance and thresholds
are wrapped around the denoiser beforehand. Fewer steps is a shorter list. Where x̂_0 was changed,
ε̂ is derived from it anew, so clipping cannot leave the two at odds.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from .diffusion import Denoiser
from .schedule import Schedule

Generators = torch.Generator | Sequence[torch.Generator] | None
"""One generator for the batch, or one for each sample: then a sample is the same in any batch."""


def seeds(seed: int, n: int, device: torch.device | str = "cpu") -> list[torch.Generator]:
    """One generator for each of n samples, seeded seed, seed + 1, …

    Raises ValueError for a seed that is negative or does not fit into 63 bits.
    """
    if not 0 <= seed <= 2**63 - n:
        raise ValueError(f"seed must be a whole number from 0 to 2^63 - {n}, got {seed}")
    return [torch.Generator(device).manual_seed(seed + k) for k in range(n)]


def start(
    shape: Sequence[int],
    generator: Generators = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """x_T ~ N(0, I) of shape (b, ...), drawn where the generators are and moved to `device`: with
    generators on the CPU every device starts from the same noise.

    Raises ValueError if there is not one generator for each sample.
    """
    if generator is None or isinstance(generator, torch.Generator):
        return _normal(tuple(shape), generator, device, dtype)
    if len(generator) != shape[0]:
        raise ValueError(
            f"got {len(generator)} generators for {shape[0]} samples: pass one for each, or one"
        )
    return torch.stack([_normal(tuple(shape[1:]), g, device, dtype) for g in generator])


def _normal(
    shape: tuple[int, ...],
    generator: torch.Generator | None,
    device: torch.device | str | None,
    dtype: torch.dtype | None,
) -> Tensor:
    home = device if generator is None else generator.device
    return torch.randn(shape, generator=generator, device=home, dtype=dtype).to(device)


def last(steps: Iterable[Tensor]) -> Tensor:
    """The final x of a sampler."""
    final = deque(steps, maxlen=1)
    if not final:
        raise ValueError("the sampler took no step")
    return final[0]


def ddpm(
    denoise: Denoiser,
    x: Float[Tensor, "b ..."],
    schedule: Schedule,
    steps: int | None = None,
    grid: Sequence[int] | None = None,
    variance: str = "posterior",
    generator: Generators = None,
) -> Iterator[Float[Tensor, "b ..."]]:
    """Ancestral sampling (DDPM, algorithm 2): x_s ~ N(posterior mean at x̂_0, σ²).

    variance "posterior" takes σ² = β̃ (exact for a point mass), "beta" σ² = β (exact for unit
    Gaussian data); on a shorter grid β is 1 - ᾱ_t/ᾱ_s of the step taken. No noise goes into the
    last step, to index 0.
    """
    if variance not in ("posterior", "beta"):
        raise ValueError(f"variance must be 'posterior' or 'beta', got {variance!r}")
    for t, s in _pairs(x, schedule, steps, grid):
        x0 = _at(denoise, x, t)
        c0, ct, small = (float(c) for c in schedule.posterior(t, s))
        sigma = (float(schedule.transition(t, s)[1]) if variance == "beta" else small) ** 0.5
        x = c0 * x0 + ct * x
        if s > 0:
            x = x + sigma * start(x.shape, generator, x.device, x.dtype)
        yield x


def ddim(
    denoise: Denoiser,
    x: Float[Tensor, "b ..."],
    schedule: Schedule,
    steps: int | None = 50,
    grid: Sequence[int] | None = None,
    eta: float = 0.0,
    generator: Generators = None,
) -> Iterator[Float[Tensor, "b ..."]]:
    """x_s = signal_s x̂_0 + √(noise_s² - σ²) ε̂ + σ z, with σ² = η² β̃ (DDIM, eq. 12 and 16).

    eta 0 is deterministic (Euler's method on the probability-flow ODE), eta 1 is `ddpm`.
    """
    if not 0 <= eta <= 1:
        raise ValueError(f"eta must lie between 0 (deterministic) and 1 (ancestral), got {eta}")
    for t, s in _pairs(x, schedule, steps, grid):
        x0 = _at(denoise, x, t)
        signal_t, noise_t = float(schedule.signal[t]), float(schedule.noise[t])
        signal_s, noise_s = float(schedule.signal[s]), float(schedule.noise[s])
        eps = (x - signal_t * x0) / noise_t
        sigma = eta * float(schedule.posterior(t, s)[2]) ** 0.5
        x = signal_s * x0 + (noise_s**2 - sigma**2) ** 0.5 * eps
        if sigma > 0:
            x = x + sigma * start(x.shape, generator, x.device, x.dtype)
        yield x


def dpm2m(
    denoise: Denoiser,
    x: Float[Tensor, "b ..."],
    schedule: Schedule,
    steps: int | None = 20,
    grid: Sequence[int] | None = None,
) -> Iterator[Float[Tensor, "b ..."]]:
    """DPM-Solver++(2M) (Lu et al. 2022, algorithm 2): one evaluation a step, second order.

    With λ = log(signal/noise), h = λ_s - λ_t and r the last h over this one,
    x_s = noise_s/noise_t x_t + signal_s (1 - e^{-h}) D, D = x̂_0 + (x̂_0 - previous x̂_0)/(2r).
    The first and the last step are of first order, which is a DDIM step.
    """
    lam = (schedule.signal.log() - schedule.noise.log()).tolist()
    before = None  # (x̂_0, h) of the step before
    for t, s in _pairs(x, schedule, steps, grid):
        x0, h = _at(denoise, x, t), lam[s] - lam[t]
        slope = before is not None and s > 0  # λ_0 is infinite: no slope can be carried there
        D = x0 + (h / (2 * before[1])) * (x0 - before[0]) if slope else x0
        noise_ratio = float(schedule.noise[s] / schedule.noise[t])
        weight = float(schedule.signal[s]) - noise_ratio * float(schedule.signal[t])
        x, before = noise_ratio * x + weight * D, (x0, h)
        yield x


def invert(
    denoise: Denoiser,
    x0: Float[Tensor, "b ..."],
    schedule: Schedule,
    steps: int | None = 50,
    grid: Sequence[int] | None = None,
) -> Iterator[Float[Tensor, "b ..."]]:
    """DDIM backwards: walks the same grid up from x_0 to the x_T that `ddim` would return to it.

    x_t = signal_t x̂_0 + noise_t ε̂, with ε̂ evaluated at the lower index; the first step
    evaluates at the upper one, because no network is trained at index 0.
    """
    x = x0
    for t, s in reversed(list(_pairs(x0, schedule, steps, grid))):
        where = s if s > 0 else t
        clean = _at(denoise, x, where)
        eps = (x - float(schedule.signal[where]) * clean) / float(schedule.noise[where])
        clean = (x - float(schedule.noise[s]) * eps) / float(schedule.signal[s])
        x = float(schedule.signal[t]) * clean + float(schedule.noise[t]) * eps
        yield x


def _pairs(
    x: Tensor, schedule: Schedule, steps: int | None, grid: Sequence[int] | None
) -> Iterator[tuple[int, int]]:
    """The steps (t, s) down a grid. Raises ValueError for a grid that is not one."""
    if not torch.isfinite(x).all():
        raise ValueError("x must hold finite numbers, got NaN or infinity")
    grid = schedule.grid(steps) if grid is None else list(grid)
    if len(grid) < 2 or grid[-1] != 0 or grid[0] > schedule.T:
        raise ValueError(
            f"a grid runs from at most T = {schedule.T} down to 0, got {grid[:3]} … {grid[-1:]}"
        )
    if any(t <= s for t, s in pairwise(grid)):
        raise ValueError("the indices of a grid must decrease")
    yield from pairwise(grid)


@torch.no_grad()
def _at(denoise: Denoiser, x: Tensor, t: int) -> Tensor:
    """x̂_0 of the whole batch at index t; the one place where samplers call the model."""
    return denoise(x, torch.tensor([t], device=x.device).expand(len(x)))
