"""Parts that networks share."""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn


def timestep_embedding(
    t: Int[Tensor, "b"], width: int, max_period: float = 10_000.0
) -> Float[Tensor, "b width"]:
    """[cos(t ω_k), sin(t ω_k)], ω_k = max_period^(-2k/width) (Vaswani et al. 2017; DDPM App. B)."""
    if width % 2:
        raise ValueError(f"width must be even, got {width}")
    k = torch.arange(width // 2, device=t.device, dtype=torch.float32)
    angle = t[:, None] * torch.exp(-math.log(max_period) * 2 * k / width)
    return torch.cat([angle.cos(), angle.sin()], dim=1)


class TimeEmbedding(nn.Module):
    """t -> vector (b, width): sinusoids, then two layers (DDPM)."""

    def __init__(self, width: int):
        super().__init__()
        self.width = width
        self.layers = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, t: Int[Tensor, "b"]) -> Float[Tensor, "b width"]:
        """Embeds integer times."""
        return self.layers(timestep_embedding(t, self.width).to(self.layers[0].weight.dtype))


def zero(layer: nn.Linear) -> nn.Linear:
    """The layer with zero weights: a residual branch that starts as the identity."""
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
