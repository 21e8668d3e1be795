"""A normalising flow of affine couplings, RealNVP (Dinh et al. 2017): exact likelihood, in nats.

log p(x) = log N(f(x); 0, I) + log |det ∂f/∂x|,   f invertible, layer by layer
"""

import math
from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..sample import start
from . import perceptron


class Coupling(nn.Module):
    """y = m x + (1 - m)(x e^s + t), with s and t functions of m x alone (eq. 9).

    What the mask m keeps decides how the rest is scaled and shifted, so the Jacobian is triangular
    and its log-determinant is the sum of s over the rest (eq. 6).

    mask    (d,) of zeros and ones, both present
    net     (b, d) -> (b, 2d): s before bounding, then t
    bound   s = bound · tanh(raw / bound), so that no layer stretches by more than e^bound

    Raises ValueError for a mask that keeps all or nothing.
    """

    mask: Float[Tensor, "d"]

    def __init__(self, mask: Sequence[float] | Tensor, net: nn.Module, bound: float = 2.0):
        super().__init__()
        mask = torch.as_tensor(mask, dtype=torch.get_default_dtype())
        if mask.ndim != 1 or set(mask.tolist()) != {0.0, 1.0}:
            raise ValueError(f"a mask holds zeros and ones, at least one of each, got {mask}")
        self.register_buffer("mask", mask)
        self.net, self.bound = net, bound

    def scale_shift(self, kept: Tensor) -> tuple[Tensor, Tensor]:
        """s and t for the coordinates that the mask does not keep, 0 for the others."""
        raw, t = self.net(kept).chunk(2, dim=1)
        free = 1 - self.mask
        return free * self.bound * (raw / self.bound).tanh(), free * t

    def forward(self, x: Float[Tensor, "b d"]) -> tuple[Float[Tensor, "b d"], Float[Tensor, "b"]]:
        """y, and log |det ∂y/∂x| of each sample."""
        s, t = self.scale_shift(self.mask * x)
        return x * s.exp() + t, s.sum(1)

    def inverse(self, y: Float[Tensor, "b d"]) -> Float[Tensor, "b d"]:
        """x: the kept coordinates came through unchanged, so s and t are known (eq. 8)."""
        s, t = self.scale_shift(self.mask * y)
        return (y - t) * (-s).exp()


class Flow(nn.Module):
    """Couplings in a row: `forward(batch)` is the negative log-likelihood in nats per sample."""

    def __init__(self, layers: Sequence[nn.Module], dim: int):
        super().__init__()
        self.layers, self.dim = nn.ModuleList(layers), dim

    def transform(self, x: Float[Tensor, "b d"]) -> tuple[Float[Tensor, "b d"], Float[Tensor, "b"]]:
        """z = f(x) and log |det ∂f/∂x|. Raises ValueError where x has not `dim` columns."""
        if x.shape[1] != self.dim:
            raise ValueError(f"this flow takes points (b, {self.dim}), got shape {tuple(x.shape)}")
        log_det = x.new_zeros(len(x))
        for layer in self.layers:
            x, change = layer(x)
            log_det = log_det + change
        return x, log_det

    def inverse(self, z: Float[Tensor, "b d"]) -> Float[Tensor, "b d"]:
        """x = f⁻¹(z): the layers backwards, the last one first."""
        for layer in reversed(self.layers):
            z = layer.inverse(z)
        return z

    def log_prob(self, x: Float[Tensor, "b d"]) -> Float[Tensor, "b"]:
        """log p(x) in nats, exact (eq. 2-3)."""
        z, log_det = self.transform(x)
        return -0.5 * (z**2).sum(1) - 0.5 * self.dim * math.log(2 * math.pi) + log_det

    def forward(self, batch: Mapping[str, Tensor]) -> Float[Tensor, ""]:
        """The loss: -log p(x) in nats, averaged over the batch."""
        return -self.log_prob(batch["x"]).mean()

    @torch.no_grad()
    def sample(self, n: int, generator: torch.Generator | None = None) -> Float[Tensor, "n d"]:
        """n draws: f⁻¹ of Gaussian noise."""
        like = next(self.parameters())
        return self.inverse(start((n, self.dim), generator).to(like))


def real_nvp(
    dim: int = 2, layers: int = 8, width: int = 128, depth: int = 2, bound: float = 2.0
) -> Flow:
    """Couplings with perceptrons inside; neighbours keep what the other changes.

    Raises ValueError for fewer than two dimensions: with one there is nothing to couple.
    """
    if dim < 2:
        raise ValueError(f"a coupling needs at least two dimensions, got {dim}")
    even = torch.arange(dim) % 2
    nets = [perceptron(dim, 2 * dim, width, depth) for _ in range(layers)]
    return Flow([Coupling((even + i) % 2, net, bound) for i, net in enumerate(nets)], dim)
