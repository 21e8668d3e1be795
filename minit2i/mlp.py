"""A residual multilayer perceptron for points, and for pictures of a few pixels."""

from jaxtyping import Float, Int
from torch import Tensor, nn

from .condition import Condition
from .layers import TimeEmbedding, zero


class Block(nn.Module):
    """h + W_2 SiLU(norm(W_1 h) · (1 + scale) + shift), scale and shift from time and condition."""

    def __init__(self, width: int):
        super().__init__()
        self.modulate = nn.Linear(width, 2 * width)
        self.inner = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.outer = zero(nn.Linear(width, width))

    def forward(
        self, h: Float[Tensor, "b width"], emb: Float[Tensor, "#b width"]
    ) -> Float[Tensor, "b width"]:
        """One residual update of h, modulated by the embedding."""
        scale, shift = self.modulate(emb).chunk(2, dim=1)
        return h + self.outer(nn.functional.silu(self.norm(self.inner(h)) * (1 + scale) + shift))


class MLP(nn.Module):
    """(x_t, t, condition) -> prediction of x_t's shape; `dim` is the number of elements a sample.

    The condition's vector, of size `width`, is added to the time embedding. The last layer starts
    at zero, so that a fresh model predicts 0.
    """

    def __init__(self, dim: int, width: int = 128, depth: int = 4):
        super().__init__()
        self.dim, self.width, self.depth = dim, width, depth
        self.time = TimeEmbedding(width)
        self.lift = nn.Linear(dim, width)
        self.blocks = nn.ModuleList(Block(width) for _ in range(depth))
        self.out = nn.Sequential(nn.LayerNorm(width), zero(nn.Linear(width, dim)))

    def forward(
        self,
        x_t: Float[Tensor, "b ..."],
        t: Int[Tensor, "b"],
        condition: Condition | None = None,
    ) -> Float[Tensor, "b ..."]:
        """Raises ValueError where a sample does not have `dim` elements, or the condition's vector
        not `width`."""
        flat = x_t.flatten(1)
        if flat.shape[1] != self.dim:
            raise ValueError(
                f"this network takes samples of {self.dim} elements, got shape {tuple(x_t.shape)}"
            )
        shared = t.stride(0) == 0  # one time for all, as samplers pass it: embed it once
        emb = self.time(t[:1] if shared else t)
        if condition is not None and condition.vector is not None:
            if condition.vector.shape[1] != self.width:
                raise ValueError(
                    f"the condition's vector has {condition.vector.shape[1]} elements, this "
                    f"network's width is {self.width}: give the encoder that width"
                )
            emb = emb + condition.vector
        emb = nn.functional.silu(emb)
        h = self.lift(flat)
        for block in self.blocks:
            h = block(h, emb)
        return self.out(h).view_as(x_t)
