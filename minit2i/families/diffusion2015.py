"""The diffusion model of 2015 (Sohl-Dickstein et al.), as it was on the swiss roll.

T = 40 steps; a normalised radial basis function network with 16 units, its hidden layer shared by
all times and both heads, with a linear readout for each time (paper, App. D.1.1). Mean and
variance of every reverse step are learned, on the variational bound. The forms of the two heads
are those of the authors' released code. The reverse step to t = 0 is fixed, not trained, and
sampling ends at x_1, whose noise is small.
"""

from collections.abc import Iterator, Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ..condition import Condition
from ..sample import last, start
from ..schedule import Schedule, jsd

LN2 = 0.6931471805599453


def schedule2015(T: int = 40, first: float = 1e-3) -> Schedule:
    """`jsd(T)` with β_1 a small constant, as in the paper; 0.001 is the released value.

    What is added in the first step is never removed again, so `first` bounds the sharpness.
    Raises ValueError unless 0 < first < 1.
    """
    if not 0 < first < 1:
        raise ValueError(f"first is the variance beta_1, between 0 and 1, got {first}")
    beta = jsd(T).beta.clone()
    beta[1] = first
    alpha_bar = (1 - beta).cumprod(0)
    return Schedule(alpha_bar.sqrt(), (1 - alpha_bar).sqrt())


class RadialBasis(nn.Module):
    """Normalised radial basis functions with a linear readout for each time.

    φ_k(x) = exp(-‖x - c_k‖²/2s_k²) / Σ_j exp(-‖x - c_j‖²/2s_j²), output_t = W_t φ(x). The centres
    start at random and the readouts at zero, so that a fresh network returns 0.
    """

    def __init__(self, T: int, dim: int = 2, outputs: int = 2, units: int = 16):
        super().__init__()
        self.centres = nn.Parameter(torch.randn(units, dim))
        self.log_width = nn.Parameter(torch.zeros(units))
        self.readout = nn.Parameter(torch.zeros(T + 1, units, outputs))

    def forward(
        self, x_t: Float[Tensor, "b d"], t: Int[Tensor, "b"], condition: Condition | None = None
    ) -> Float[Tensor, "b outputs"]:
        """Raises ValueError for another number of dimensions; the condition is ignored."""
        if x_t.ndim != 2 or x_t.shape[1] != self.centres.shape[1]:
            raise ValueError(
                f"this network takes points (b, {self.centres.shape[1]}), "
                f"got shape {tuple(x_t.shape)}"
            )
        square = (x_t[:, None] - self.centres).square().sum(-1)
        phi = (-0.5 * square / (2 * self.log_width).exp()).softmax(1)  # normalised Gaussians
        return torch.einsum("bk,bko->bo", phi, self.readout[t])


def kl(mean_1: Tensor, log_var_1: Tensor, mean_2: Tensor, log_var_2: Tensor) -> Tensor:
    """KL(N_1 ‖ N_2) of diagonal Gaussians in nats, one value for each coordinate.

    ½ (log v_2/v_1 + v_1/v_2 + (m_1 - m_2)²/v_2 - 1), with v the variances.
    """
    gap = log_var_1 - log_var_2
    return 0.5 * (gap.exp() - gap - 1 + (mean_1 - mean_2).square() / log_var_2.exp())


class Diffusion2015(nn.Module):
    """p(x_{t-1} | x_t) = N(μ, diag σ²), both learned; `forward(batch)` is the bound in bits.

    μ  = √(1-β_t) x_t + √β_t · head_1        σ² = sigmoid(head_2/√T + logit β_t)

    heads    (x_t, t) -> both heads side by side (b, 2d); a fresh `RadialBasis` by default
    """

    def __init__(self, heads: nn.Module | None = None, schedule: Schedule | None = None):
        super().__init__()
        self.schedule = schedule2015() if schedule is None else schedule
        self.heads = RadialBasis(self.schedule.T, outputs=4) if heads is None else heads

    def reverse(
        self, x_t: Float[Tensor, "b d"], t: Int[Tensor, "b"]
    ) -> tuple[Float[Tensor, "b d"], Float[Tensor, "b d"]]:
        """Mean and log variance of p(x_{t-1} | x_t)."""
        push, spread = self.heads(x_t, t).chunk(2, dim=1)
        beta = self.schedule.at(self.schedule.beta, t, x_t)
        mean = (1 - beta).sqrt() * x_t + beta.sqrt() * push
        log_var = nn.functional.logsigmoid(spread / self.schedule.T**0.5 + beta.logit())
        return mean, log_var

    def step(self, x0: Float[Tensor, "b d"], t: Int[Tensor, "b"]) -> Float[Tensor, "b d"]:
        """L_{t-1} = KL(q(x_{t-1} | x_t, x_0) ‖ p(x_{t-1} | x_t)) at one draw of x_t, in nats.

        Each sample has its own t, from 2 to T.
        """
        x_t = self.schedule.diffuse(x0, t, torch.randn_like(x0))
        c0, ct, variance = (self.schedule.at(c, t - 1, x0) for c in self._posterior())
        return kl(c0 * x0 + ct * x_t, variance.log(), *self.reverse(x_t, t))

    def _posterior(self) -> tuple[Tensor, Tensor, Tensor]:
        """Coefficients of q(x_{t-1} | x_t, x_0) for t = 1 … T."""
        return self.schedule.posterior(slice(1, None), slice(None, -1))

    def ends(self, x0: Float[Tensor, "b d"]) -> Float[Tensor, "b d"]:
        """L_T + L_0 in nats, which hold nothing to train: the prior's KL(q(x_T | x_0) ‖ N(0, I)),
        and -log p(x_0 | x_1) with the fixed step p(x_0 | x_1) = N(√(1-β_1) x_1, β_1 I)."""
        signal, noise = self.schedule.signal[-1].item(), self.schedule.noise[-1]
        zero = torch.zeros_like(x0)
        prior = kl(signal * x0, zero + 2 * noise.log().to(x0.dtype), zero, zero)
        beta = float(self.schedule.beta[1])
        x_1 = (1 - beta) ** 0.5 * x0 + beta**0.5 * torch.randn_like(x0)
        miss = (x0 - (1 - beta) ** 0.5 * x_1).square() / beta
        return prior + 0.5 * (miss + torch.log(2 * torch.pi * zero.new_tensor(beta)))

    def forward(self, batch: Mapping[str, Tensor]) -> Float[Tensor, ""]:
        """The bound on -log_2 p(x), bits per dimension, from one random step t for each sample."""
        x0 = self._points(batch["x"])
        t = torch.randint(2, self.schedule.T + 1, (len(x0),), device=x0.device)
        nats = (self.schedule.T - 1) * self.step(x0, t) + self.ends(x0)
        return nats.mean() / LN2

    @torch.no_grad()
    def bound(self, x0: Float[Tensor, "b d"]) -> Float[Tensor, "b"]:
        """The whole bound on -log_2 p(x) for each sample, bits per dimension: every t once."""
        nats = self.ends(self._points(x0))
        for t in range(2, self.schedule.T + 1):
            nats = nats + self.step(x0, torch.full((len(x0),), t, device=x0.device))
        return nats.mean(1) / LN2

    @torch.no_grad()
    def trajectory(
        self, n: int, generator: torch.Generator | None = None, dim: int = 2
    ) -> Iterator[Float[Tensor, "n d"]]:
        """Yields x_{T-1}, …, x_1, drawn from x_T ~ N(0, I) downwards."""
        device = next(self.parameters()).device
        where = device if generator is None else generator.device
        x = start((n, dim), generator, device=where).to(device)
        for t in range(self.schedule.T, 1, -1):
            mean, log_var = self.reverse(x, torch.full((n,), t, device=device))
            z = start((n, dim), generator, device=where).to(device)
            x = mean + (0.5 * log_var).exp() * z
            yield x

    def sample(
        self, n: int, generator: torch.Generator | None = None, dim: int = 2
    ) -> Float[Tensor, "n d"]:
        """n samples: x_1, as in the released sampler."""
        return last(self.trajectory(n, generator, dim))

    @staticmethod
    def _points(x: Tensor) -> Tensor:
        if x.ndim != 2:
            raise ValueError(f"the model of 2015 takes points (b, d), got shape {tuple(x.shape)}")
        return x
