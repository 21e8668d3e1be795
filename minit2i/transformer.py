"""The transformer (Vaswani et al. 2017), pre-norm, as GPT-2 and CLIP's text tower have it."""

from jaxtyping import Bool, Float
from torch import Tensor, nn

from .layers import attend


class Block(nn.Module):
    """h + attention(norm(h)), then h + MLP(norm(h))."""

    def __init__(self, width: int, heads: int, causal: bool = False):
        super().__init__()
        if width % heads:
            raise ValueError(f"a width of {width} cannot be split into {heads} heads")
        self.heads, self.causal = heads, causal
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(
        self, h: Float[Tensor, "b n width"], mask: Bool[Tensor, "b n"] | None = None
    ) -> Float[Tensor, "b n width"]:
        """One update of each position from all, or from the earlier ones if causal; positions with
        a false mask are not seen. A causal block needs no mask: padding comes last."""
        q, k, v = self.qkv(self.norms[0](h)).chunk(3, dim=2)
        seen = None if mask is None or self.causal else mask[:, None]
        h = h + self.out(attend(q, k, v, self.heads, seen, self.causal))
        return h + self.mlp(self.norms[1](h))


class Transformer(nn.Module):
    """`depth` blocks and a last norm."""

    def __init__(self, width: int, depth: int, heads: int, causal: bool = False):
        super().__init__()
        self.blocks = nn.ModuleList(Block(width, heads, causal) for _ in range(depth))
        self.norm = nn.LayerNorm(width)

    def forward(
        self, h: Float[Tensor, "b n width"], mask: Bool[Tensor, "b n"] | None = None
    ) -> Float[Tensor, "b n width"]:
        """See `Block.forward`."""
        for block in self.blocks:
            h = block(h, mask)
        return self.norm(h)
