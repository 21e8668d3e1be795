"""Parts that networks share."""

import math

import torch
from jaxtyping import Bool, Float, Int
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


def zero(layer: nn.Linear | nn.Conv2d) -> nn.Linear | nn.Conv2d:
    """The layer with zero weights: a residual branch that starts as the identity."""
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def groups(channels: int, most: int = 32) -> int:
    """How many groups a GroupNorm takes: at least four channels each, at most `most` groups."""
    return math.gcd(channels, min(most, max(1, channels // 4)))


class ResBlock(nn.Module):
    """skip(h) + conv(SiLU(norm(conv(SiLU(norm(h)))) · (1 + scale) + shift)) (ADM, §3).

    Scale and shift come from the embedding of time and condition; the last convolution starts at
    zero, so that a fresh block is its skip.
    """

    def __init__(self, inner: int, outer: int, width: int, dropout: float = 0.0):
        super().__init__()
        self.before = nn.GroupNorm(groups(inner), inner)
        self.first = nn.Conv2d(inner, outer, 3, padding=1)
        self.modulate = nn.Linear(width, 2 * outer)
        self.between = nn.GroupNorm(groups(outer), outer)
        self.dropout = nn.Dropout(dropout)
        self.second = zero(nn.Conv2d(outer, outer, 3, padding=1))
        self.skip = nn.Identity() if inner == outer else nn.Conv2d(inner, outer, 1)

    def forward(
        self, h: Float[Tensor, "b inner y x"], emb: Float[Tensor, "#b width"]
    ) -> Float[Tensor, "b outer y x"]:
        """One residual update, modulated by the embedding."""
        scale, shift = self.modulate(emb)[:, :, None, None].chunk(2, dim=1)
        inner = self.first(nn.functional.silu(self.before(h)))
        inner = nn.functional.silu(self.between(inner) * (1 + scale) + shift)
        return self.skip(h) + self.second(self.dropout(inner))


def attend(
    q: Float[Tensor, "b n width"],
    k: Float[Tensor, "b m width"],
    v: Float[Tensor, "b m width"],
    heads: int,
    mask: Bool[Tensor, "b #n m"] | None = None,
    causal: bool = False,
    bias: Float[Tensor, "b heads #n m"] | None = None,
) -> Float[Tensor, "b n width"]:
    """softmax(q kᵀ/√d + bias) v for each head (Vaswani et al. 2017, eq. 1); where mask is false, a
    key is not seen."""
    b, n, width = q.shape
    q, k, v = (split(x, heads) for x in (q, k, v))
    mask = None if mask is None else mask[:, None]
    if bias is not None:
        mask = bias.to(q) if mask is None else bias.to(q).masked_fill(~mask, float("-inf"))
    seen = nn.functional.scaled_dot_product_attention(q, k, v, mask, is_causal=causal)
    return seen.transpose(1, 2).reshape(b, n, width)


def split(x: Float[Tensor, "b n width"], heads: int) -> Float[Tensor, "b heads n d"]:
    """The heads' shares of the channels."""
    return x.unflatten(2, (heads, -1)).transpose(1, 2)


class JointAttention(nn.Module):
    """Pixels attend to pixels and to the condition's tokens at once, under one softmax (GLIDE §4).

    channels   of the picture;  context  width of the tokens, 0 for none;  head  channels per head
    exclusive  pixels compete for tokens. The more of a token is claimed anywhere, the less it is
               seen: from its logits s · log Σ_pixels exp(q kᵀ/√d) is subtracted. At s = 1 its
               weights then sum to 1 over the pixels, as after half a round of Sinkhorn's iteration
               (Sinkhorn and Knopp 1967); the softmax over keys is the other half. s is learned for
               each head, from 1/2 on
    """

    def __init__(self, channels: int, context: int = 0, head: int = 32, exclusive: bool = False):
        super().__init__()
        if channels % head:
            raise ValueError(f"{channels} channels cannot be split into heads of {head}")
        self.heads = channels // head
        self.norm = nn.GroupNorm(groups(channels), channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.kv = nn.Linear(context, 2 * channels) if context else None
        self.share = nn.Parameter(torch.full((self.heads,), 0.5)) if context and exclusive else None
        self.out = zero(nn.Linear(channels, channels))

    def forward(
        self,
        h: Float[Tensor, "b c y x"],
        tokens: Float[Tensor, "b n k"] | None = None,
        mask: Bool[Tensor, "b n"] | None = None,
    ) -> Float[Tensor, "b c y x"]:
        """One residual update of the pixels; tokens with a false mask are not seen."""
        b, c, y, x = h.shape
        q, k, v = self.qkv(self.norm(h).flatten(2).transpose(1, 2)).chunk(3, dim=2)
        seen = bias = None
        if self.kv is not None and tokens is not None:
            more_k, more_v = self.kv(tokens).chunk(2, dim=2)
            if self.share is not None:
                bias = nn.functional.pad(-self._penalty(q, more_k), (0, y * x))
            k, v = torch.cat([more_k, k], 1), torch.cat([more_v, v], 1)
            if mask is not None:
                seen = nn.functional.pad(mask, (0, y * x), value=True)[:, None]
        update = self.out(attend(q, k, v, self.heads, seen, bias=bias))
        return h + update.transpose(1, 2).view(b, c, y, x)

    def _penalty(self, q: Tensor, k: Tensor) -> Float[Tensor, "b heads 1 n"]:
        """What is held against each token, by head, for being claimed by the pixels."""
        q, k = split(q, self.heads), split(k, self.heads)
        logits = q @ k.mT * q.shape[3] ** -0.5
        return self.share[:, None, None] * logits.logsumexp(2, keepdim=True)
