"""A diffusion model: schedule + network + encoder. The loss to train it and the denoiser to sample.

The network may predict any of four quantities, each a linear map of the others given x_t:

    eps        the noise ε                                       (DDPM)
    x0         the clean data                                    (DALL·E 2's prior)
    v          signal · ε - noise · x_0                          (progressive distillation)
    velocity   ε - x_0, the direction of the straight path       (rectified flow)
"""

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from .condition import Condition
from .schedule import Schedule

Denoiser = Callable[[Tensor, Tensor], Tensor]
"""(x_t, t) -> x0_hat: the only thing that samplers and guidance see."""

PREDICT = ("eps", "x0", "v", "velocity")


def target(
    predict: str,
    x0: Float[Tensor, "b ..."],
    eps: Float[Tensor, "b ..."],
    t: Int[Tensor, "b"],
    schedule: Schedule,
) -> Float[Tensor, "b ..."]:
    """What a network that predicts `predict` should return for this x_0 and ε."""
    if predict == "eps":
        return eps
    if predict == "x0":
        return x0
    if predict == "v":
        signal, noise = (schedule.at(s, t, x0) for s in (schedule.signal, schedule.noise))
        return signal * eps - noise * x0
    if predict == "velocity":
        return eps - x0
    raise ValueError(f"unknown prediction {predict!r}: choose one of {', '.join(PREDICT)}")


def to_x0(
    predict: str,
    output: Float[Tensor, "b ..."],
    x_t: Float[Tensor, "b ..."],
    t: Int[Tensor, "b"],
    schedule: Schedule,
) -> Float[Tensor, "b ..."]:
    """x̂_0 from a network's output: `target` solved for x_0 with x_t = signal x_0 + noise ε."""
    signal, noise = (schedule.at(s, t, x_t) for s in (schedule.signal, schedule.noise))
    if predict == "eps":
        return (x_t - noise * output) / signal
    if predict == "x0":
        return output
    if predict == "v":  # signal² + noise² is 1 on a variance-preserving path
        return (signal * x_t - noise * output) / (signal**2 + noise**2)
    if predict == "velocity":  # signal + noise is 1 on the straight path
        return (x_t - noise * output) / (signal + noise)
    raise ValueError(f"unknown prediction {predict!r}: choose one of {', '.join(PREDICT)}")


def to_eps(
    x0: Float[Tensor, "b ..."],
    x_t: Float[Tensor, "b ..."],
    t: Int[Tensor, "b"],
    schedule: Schedule,
) -> Float[Tensor, "b ..."]:
    """ε̂ = (x_t - signal x̂_0)/noise, for t ≥ 1."""
    return (x_t - schedule.at(schedule.signal, t, x_t) * x0) / schedule.at(schedule.noise, t, x_t)


def min_snr(schedule: Schedule, predict: str, gamma: float = 5.0) -> Float[Tensor, "times"]:
    """Weights of the loss of `predict`, by t, that make it the loss of x_0 weighted by
    min(SNR, gamma) (Hang et al. 2023, §3.4): steps with little noise do not crowd out the others.

    An error of x_0 is SNR times as large as one of eps and SNR + 1 times as one of v, squared.
    Raises ValueError for another prediction and for a path that does not preserve variance.
    """
    if predict not in ("eps", "x0", "v"):
        raise ValueError(f"min_snr is for predict = 'eps', 'x0' or 'v', got {predict!r}")
    if not gamma > 0:
        raise ValueError(f"gamma must be positive, got {gamma}")
    if not torch.allclose(schedule.signal**2 + schedule.noise**2, schedule.signal.new_ones(())):
        raise ValueError(
            "min_snr is for variance-preserving schedules (signal² + noise² = 1): choose 'linear', "
            "'cosine' or 'jsd'"
        )
    snr = schedule.snr
    if predict == "eps":  # = min(SNR, gamma)/SNR, also where the SNR is 0
        return (gamma / snr).clamp(max=1)
    return snr.clamp(max=gamma) / (1 if predict == "x0" else snr + 1)


def truncated_snr(
    schedule: Schedule, low: float = 1.0, high: float = 5.0
) -> Float[Tensor, "times"]:
    """Weights of the loss of x_0, by t: the SNR kept within [low, high].

    With low = 1 steps of pure noise count, in which a prompt decides what will be there (Salimans
    and Ho 2022, §4); the upper bound is `min_snr`'s. Raises ValueError unless 0 ≤ low ≤ high.
    """
    if not 0 <= low <= high:
        raise ValueError(f"need 0 <= low <= high, got {low} and {high}")
    return schedule.snr.clamp(low, high)


class Diffusion(nn.Module):
    """A network with its schedule: `forward(batch)` is the loss, `denoiser()` is for samplers.

    net       (x_t, t, condition) -> prediction of the shape of x_t
    encoder   (batch, keep) -> Condition, or None for an unconditional model; drop rates are its own
    weight    of the loss at t = 0 … T, such as `min_snr`'s; None for the plain mean
    times     mean and deviation of the logit of t/T in training, a normal variable (logit-normal
              sampling, Esser et al. 2024, eq. 19, there on the straight path); None: t is uniform

    Raises ValueError for an unknown `predict`, and for "eps" where signal[T] = 0: there x_T holds
    no signal to divide by, for weights that do not fit the schedule and for times that are no law.
    """

    def __init__(
        self,
        net: nn.Module,
        schedule: Schedule,
        predict: str = "eps",
        encoder: nn.Module | None = None,
        weight: Float[Tensor, "times"] | None = None,
        times: Sequence[float] | None = None,
    ):
        super().__init__()
        if predict not in PREDICT:
            raise ValueError(f"unknown prediction {predict!r}: choose one of {', '.join(PREDICT)}")
        if predict == "eps" and schedule.signal[-1] == 0:
            raise ValueError(
                "predict='eps' cannot give x_0 where signal[T] = 0, as on this schedule: "
                "choose 'x0', 'v' or 'velocity'"
            )
        if weight is not None and (len(weight) != schedule.T + 1 or not (weight >= 0).all()):
            raise ValueError(
                f"weight holds one number of at least 0 for each t = 0 … {schedule.T}, got "
                f"{len(weight)} from {weight.min():g}: make it for this schedule"
            )
        if times is not None and (
            len(times) != 2 or not all(map(math.isfinite, times)) or times[1] <= 0
        ):
            raise ValueError(f"times are a mean and a positive deviation, got {times}")
        self.register_buffer("weight", None if weight is None else weight.float(), persistent=False)
        self.net, self.schedule, self.predict, self.encoder = net, schedule, predict, encoder
        self.times = times

    def encode(
        self, batch: Mapping[str, Tensor], keep: Bool[Tensor, "b"] | None = None
    ) -> Condition | None:
        """The batch's condition; where `keep` is false, the encoder's null."""
        return None if self.encoder is None else self.encoder(batch, keep)

    def forward(self, batch: Mapping[str, Tensor]) -> Float[Tensor, ""]:
        """L_simple = E ‖target - net(x_t, t)‖², t uniform on 1 … T unless there are `times` (DDPM,
        eq. 14), per element; each sample times weight[t] where there are weights."""
        if "x" not in batch:
            raise ValueError(f"the batch needs its data under 'x', it has {', '.join(batch)}")
        x0 = batch["x"]
        t = self._draw_times(len(x0), x0.device)
        eps = torch.randn_like(x0)
        x_t = self.schedule.diffuse(x0, t, eps)
        output = self.net(x_t, t, self.encode(batch))
        error = (output - target(self.predict, x0, eps, t, self.schedule)).square()
        if self.weight is not None:
            error = error * self.schedule.at(self.weight, t, error)
        return error.mean()

    def _draw_times(self, n: int, device: torch.device) -> Int[Tensor, "n"]:
        T = self.schedule.T
        if self.times is None:
            return torch.randint(1, T + 1, (n,), device=device)
        mean, std = self.times
        share = (mean + std * torch.randn(n, device=device)).sigmoid()
        return (share * T).ceil().long().clamp(1, T)

    def denoiser(self, condition: Condition | None = None) -> Denoiser:
        """(x_t, t) -> x̂_0 under a fixed condition. Puts the model into eval mode (no dropout)."""
        self.eval()

        def denoise(x_t: Tensor, t: Tensor) -> Tensor:
            return to_x0(self.predict, self.net(x_t, t, condition), x_t, t, self.schedule)

        return denoise
