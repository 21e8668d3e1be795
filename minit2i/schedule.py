"""Noise schedules and the forward process.

A diffusion is one path from data to noise,

    x_t = signal[t] · x_0 + noise[t] · ε,    ε ~ N(0, I),    t = 0 … T,

so a `Schedule` is two sequences and everything else follows from them. Index 0 is clean data
(`signal[0] = 1`, `noise[0] = 0`), as in the papers' mathematics. DDPM's ᾱ_t is signal².
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn


class Schedule(nn.Module):
    """The path x_t = signal[t] x_0 + noise[t] ε.

    The sequences are float64 and follow the module to its device, but are neither rounded by
    `half()` nor stored in checkpoints: a checkpoint names its schedule, which is then rebuilt.

    Raises ValueError unless both sequences are finite, equally long, start clean, and the
    signal-to-noise ratio falls at every step.
    """

    signal: Float[Tensor, "times"]
    noise: Float[Tensor, "times"]

    def __init__(self, signal: Tensor | Sequence[float], noise: Tensor | Sequence[float]):
        super().__init__()
        signal = torch.as_tensor(signal, dtype=torch.float64)
        noise = torch.as_tensor(noise, dtype=torch.float64)
        if signal.ndim != 1 or signal.shape != noise.shape or len(signal) < 2:
            raise ValueError(
                f"signal and noise must be two sequences of one length T+1 >= 2, got shapes "
                f"{tuple(signal.shape)} and {tuple(noise.shape)}"
            )
        if not (signal.isfinite().all() and noise.isfinite().all()):
            raise ValueError("signal and noise must be finite numbers, got NaN or infinity")
        if signal[0] != 1 or noise[0] != 0:
            raise ValueError(
                f"index 0 is clean data: signal[0] must be 1 and noise[0] must be 0, got "
                f"{signal[0]:g} and {noise[0]:g}; put the clean end first"
            )
        if (noise[1:] <= 0).any() or ((signal / noise)[1:].diff() >= 0).any():
            raise ValueError("the ratio signal/noise must fall at every step from t=1 to t=T")
        self.register_buffer("signal", signal, persistent=False)
        self.register_buffer("noise", noise, persistent=False)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Schedule":
        # Take the device and leave the precision; float64 does not exist on Apple's devices.
        device = fn(torch.empty(0, device=self.signal.device)).device
        dtype = torch.float32 if device.type == "mps" else torch.float64
        self.signal = self.signal.to(device, dtype)
        self.noise = self.noise.to(device, dtype)
        return self

    @property
    def T(self) -> int:
        """The number of noising steps."""
        return len(self.signal) - 1

    def shifted(self, factor: float) -> "Schedule":
        """The variance-preserving path whose signal-to-noise ratio is factor² of this one's: below
        1, more of the steps lie where little is seen (Simple diffusion, eq. 7: the ratio of a
        picture of few pixels). Raises ValueError for a factor that is not positive."""
        if not factor > 0:
            raise ValueError(f"the factor must be positive, got {factor}")
        length = (factor**2 * self.signal**2 + self.noise**2).sqrt()
        return Schedule(factor * self.signal / length, self.noise / length)

    @property
    def alpha_bar(self) -> Float[Tensor, "times"]:
        """ᾱ_t = ∏ (1 - β_s) (DDPM, eq. 4); ᾱ_0 = 1."""
        return self.signal**2

    @property
    def beta(self) -> Float[Tensor, "times"]:
        """β_t, the variance that step t adds (DDPM, eq. 2): Var(x_t | x_{t-1}); β_0 = 0."""
        return torch.cat([self.noise[:1], self.transition(slice(1, None), slice(None, -1))[1]])

    @property
    def snr(self) -> Float[Tensor, "times"]:
        """Signal-to-noise ratio signal²/noise², infinite at t = 0."""
        return self.alpha_bar / self.noise**2

    def transition(self, t, s):
        """Scale and variance of q(x_t | x_s) = N(scale · x_s, variance), for indices t > s.

        scale = signal_t / signal_s and variance = noise_t² - scale² noise_s²; between
        neighbours these are √(1-β_t) and β_t.
        """
        scale = self.signal[t] / self.signal[s]
        return scale, self.noise[t] ** 2 - (scale * self.noise[s]) ** 2

    def posterior(self, t, s):
        """Coefficients of q(x_s | x_t, x_0) = N(c_0 x_0 + c_t x_t, variance), for t > s.

        The product of the two Gaussians q(x_t | x_s) and q(x_s | x_0) (DDPM, eq. 6-7):
        c_0 = signal_s β/noise_t², c_t = scale · noise_s²/noise_t², variance = β noise_s²/noise_t²,
        with scale and β of `transition(t, s)`.
        """
        scale, beta = self.transition(t, s)
        total = self.noise[t] ** 2
        c0 = self.signal[s] * beta / total
        ct = scale * self.noise[s] ** 2 / total
        return c0, ct, beta * self.noise[s] ** 2 / total

    def at(self, sequence: Float[Tensor, "n"], t: Int[Tensor, "b"], like: Tensor) -> Tensor:
        """sequence[t], one value per sample, shaped and cast to multiply `like` (b, ...)."""
        return sequence[t].to(like.dtype).view(-1, *[1] * (like.ndim - 1))

    def diffuse(
        self, x0: Float[Tensor, "b ..."], t: Int[Tensor, "b"], eps: Float[Tensor, "b ..."]
    ) -> Float[Tensor, "b ..."]:
        """x_t = signal[t] x_0 + noise[t] ε (DDPM, eq. 4), each sample at its own t."""
        return self.at(self.signal, t, x0) * x0 + self.at(self.noise, t, x0) * eps

    def grid(self, steps: int | None = None, spacing: str = "trailing") -> list[int]:
        """The indices T = g_0 > g_1 > … > g_steps = 0 that a sampler walks down.

        "trailing" spaces them evenly over T … 0; "linspace" puts `steps` points over T … 1
        and then 0. None takes every index.
        """
        steps = self.T if steps is None else _whole("steps", steps)
        if steps > self.T:
            raise ValueError(f"steps must be at most T = {self.T}, got {steps}")
        if spacing == "trailing":
            points = np.linspace(self.T, 0, steps + 1)[:-1]
        elif spacing == "linspace":
            points = np.linspace(self.T - 1, 0, steps) + 1
        else:
            raise ValueError(f"spacing must be 'trailing' or 'linspace', got {spacing!r}")
        return [int(g) for g in np.round(points)] + [0]


def _from_betas(beta: Tensor) -> Schedule:
    """The variance-preserving schedule with ᾱ_t = ∏ (1 - β_s)."""
    alpha_bar = torch.cat([beta.new_ones(1), (1 - beta).cumprod(0)])
    return Schedule(alpha_bar.sqrt(), (1 - alpha_bar).sqrt())


def _whole(name: str, value: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise ValueError(f"{name} must be a whole number of at least 1, got {value!r}")
    return int(value)


def linear(T: int = 1000, beta_min: float = 1e-4, beta_max: float = 0.02) -> Schedule:
    """β_t linear from β_min to β_max (DDPM §4), both scaled by 1000/T.

    The scaling keeps ∑β and so ᾱ_T: without it a shorter chain never reaches noise.
    Raises ValueError where the scaled β_T would reach 1 (T ≤ 20 for the default range).
    """
    scale = 1000 / _whole("T", T)
    if not 0 < scale * beta_min <= scale * beta_max < 1:
        raise ValueError(
            f"T = {T} scales beta to {scale * beta_min:g} … {scale * beta_max:g}, which must "
            f"increase within (0, 1): take T > {1000 * beta_max:g}, or smaller betas"
        )
    return _from_betas(torch.linspace(scale * beta_min, scale * beta_max, T, dtype=torch.float64))


def cosine(T: int = 1000, s: float = 0.008, beta_clip: float = 0.999) -> Schedule:
    """ᾱ_t = f(t)/f(0), f(t) = cos²((t/T + s)/(1 + s) · π/2) (Improved DDPM, eq. 17).

    β_t = 1 - ᾱ_t/ᾱ_{t-1} is clipped at `beta_clip`: unclipped, the last one is 1.
    """
    u = torch.arange(_whole("T", T) + 1, dtype=torch.float64) / T
    f = ((u + s) / (1 + s) * torch.pi / 2).cos() ** 2
    return _from_betas((1 - f[1:] / f[:-1]).clamp(max=beta_clip))


def jsd(T: int = 40) -> Schedule:
    """β_t = 1/(T - t + 1) as released with Sohl-Dickstein et al. 2015: 1/linspace(T, 2, T).

    Each step erases the same amount of signal variance; about 1/T of it is left at the end.
    """
    return _from_betas(1 / torch.linspace(_whole("T", T), 2, T, dtype=torch.float64))


def flow(T: int = 1000) -> Schedule:
    """The straight path x_t = (1 - t/T) x_0 + (t/T) ε of rectified flow (Liu et al. 2022)."""
    tau = torch.arange(_whole("T", T) + 1, dtype=torch.float64) / T
    return Schedule(1 - tau, tau)


SCHEDULES: dict[str, Callable[..., Schedule]] = {
    "linear": linear,
    "cosine": cosine,
    "jsd": jsd,
    "flow": flow,
}


def make(name: str, T: int) -> Schedule:
    """The schedule of that name with T steps. Raises ValueError for an unknown name."""
    if name not in SCHEDULES:
        raise ValueError(f"unknown schedule {name!r}: choose one of {', '.join(SCHEDULES)}")
    return SCHEDULES[name](T)
