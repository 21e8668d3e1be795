"""The U-Net (Ronneberger et al. 2015) of DDPM and ADM, small and fast: folded pixels, residual
blocks modulated by time and condition, joint attention over pixels and tokens.

    x_t ─ fold ─ blocks ─ down ─ blocks ─ … ─ middle ─ … ─ up ─ blocks ─ unfold ─ prediction
                    └──────────── skips, concatenated ────────────┘

It knows a condition's ports and never what they mean.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle, pixel_unshuffle, silu

from .condition import Condition
from .layers import JointAttention, ResBlock, TimeEmbedding, groups, zero


@dataclass(frozen=True)
class UNetConfig:
    """The shape of a U-Net.

    channels    of the pictures, and of the prediction
    image       channels of the condition's image, concatenated to the input
    context     width of the condition's tokens; 0: there are none
    fold        pixels of a fold × fold block become channels, first of all: a convolution on a
                quarter of the positions costs a quarter (space to depth, Shi et al. 2016)
    widths      channels at each level; each level has half the side of the one before
    blocks      residual blocks a level on the way down (one more on the way up)
    attention   levels, from 0, that attend
    head        channels of an attention head
    exclusive   whether pixels compete for the condition's tokens, see `JointAttention`
    embedding   width of time embedding and condition vector
    dropout     in the residual blocks

    Raises ValueError for values that make no network.
    """

    channels: int = 3
    image: int = 0
    context: int = 0
    fold: int = 2
    widths: Sequence[int] = (96, 192)
    blocks: int = 1
    attention: Sequence[int] = (0, 1)
    head: int = 32
    exclusive: bool = False
    embedding: int = 256
    dropout: float = 0.0

    def __post_init__(self):
        object.__setattr__(self, "widths", tuple(self.widths))  # from a card they come as lists
        object.__setattr__(self, "attention", tuple(self.attention))
        for name in ("channels", "fold", "blocks", "head", "embedding"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.embedding % 2:
            raise ValueError(f"embedding must be even, got {self.embedding}")
        if self.image < 0 or self.context < 0 or not 0 <= self.dropout < 1:
            raise ValueError("image and context must be at least 0, and dropout in [0, 1)")
        if not self.widths or any(width < 4 or width % 4 for width in self.widths):
            raise ValueError(f"widths must be multiples of 4, got {self.widths}")
        if any(level not in range(len(self.widths)) for level in self.attention):
            raise ValueError(
                f"attention names levels 0 to {len(self.widths) - 1}, got {self.attention}"
            )
        if any(self.widths[level] % self.head for level in {*self.attention, -1}):
            raise ValueError(f"widths {self.widths} cannot be split into heads of {self.head}")

    @property
    def multiple(self) -> int:
        """A picture's sides must be multiples of this."""
        return self.fold * 2 ** (len(self.widths) - 1)


class _Stage(nn.Module):
    """A residual block, and attention if the level has it."""

    def __init__(self, inner: int, outer: int, config: UNetConfig, attends: bool):
        super().__init__()
        self.block = ResBlock(inner, outer, config.embedding, config.dropout)
        self.attention = (
            JointAttention(outer, config.context, config.head, config.exclusive)
            if attends
            else None
        )

    def forward(self, h: Tensor, emb: Tensor, condition: Condition) -> Tensor:
        h = self.block(h, emb)
        if self.attention is None:
            return h
        return self.attention(h, condition.tokens, condition.mask)


class UNet(nn.Module):
    """(x_t, t, condition) -> prediction of x_t's shape. A fresh one predicts 0."""

    def __init__(self, config: UNetConfig):
        super().__init__()
        self.config = config
        widths, area = config.widths, config.fold**2
        self.time = TimeEmbedding(config.embedding)
        self.lift = nn.Conv2d((config.channels + config.image) * area, widths[0], 3, padding=1)
        self.down, self.shrink = nn.ModuleList(), nn.ModuleList()
        skips, c = [widths[0]], widths[0]
        for level, width in enumerate(widths):
            attends = level in config.attention
            stages = nn.ModuleList()
            for _ in range(config.blocks):
                stages.append(_Stage(c, width, config, attends))
                c = width
                skips.append(c)
            self.down.append(stages)
            if level + 1 < len(widths):
                self.shrink.append(nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(4 * c, c, 1)))
                skips.append(c)
        self.middle = _Stage(c, c, config, True)
        self.up, self.grow = nn.ModuleList(), nn.ModuleList()
        for level, width in reversed(list(enumerate(widths))):
            attends = level in config.attention
            stages = nn.ModuleList()
            for _ in range(config.blocks + 1):
                stages.append(_Stage(c + skips.pop(), width, config, attends))
                c = width
            self.up.append(stages)
            if level > 0:
                self.grow.append(nn.Sequential(nn.Conv2d(c, 4 * c, 1), nn.PixelShuffle(2)))
        self.norm = nn.GroupNorm(groups(c), c)
        self.out = zero(nn.Conv2d(c, config.channels * area, 3, padding=1))

    def forward(
        self,
        x_t: Float[Tensor, "b c h w"],
        t: Int[Tensor, "b"],
        condition: Condition | None = None,
    ) -> Float[Tensor, "b c h w"]:
        """Raises ValueError for pictures, or a condition, that this network is not made for."""
        condition = condition or Condition()
        self._check(x_t, condition)
        shared = t.stride(0) == 0  # one time for all, as samplers pass it: embed it once
        emb = self.time(t[:1] if shared else t)
        if condition.vector is not None:
            emb = emb + condition.vector
        emb = silu(emb)
        h = x_t if condition.image is None else torch.cat([x_t, condition.image], 1)
        h = self.lift(pixel_unshuffle(h, self.config.fold))
        skips = [h]
        for level, stages in enumerate(self.down):
            for stage in stages:
                h = stage(h, emb, condition)
                skips.append(h)
            if level < len(self.shrink):
                h = self.shrink[level](h)
                skips.append(h)
        h = self.middle(h, emb, condition)
        for level, stages in enumerate(self.up):
            for stage in stages:
                h = stage(torch.cat([h, skips.pop()], 1), emb, condition)
            if level < len(self.grow):
                h = self.grow[level](h)
        return pixel_shuffle(self.out(silu(self.norm(h))), self.config.fold)

    def _check(self, x_t: Tensor, condition: Condition) -> None:
        config, (b, c, h, w) = self.config, x_t.shape
        if c != config.channels or h % config.multiple or w % config.multiple:
            raise ValueError(
                f"this network takes pictures of {config.channels} channels whose sides are "
                f"multiples of {config.multiple}, got {tuple(x_t.shape)}"
            )
        given = {
            "vector": (condition.vector, config.embedding),
            "tokens": (condition.tokens, config.context),
        }
        for port, (value, width) in given.items():
            if value is not None and value.shape[-1] != width:
                raise ValueError(
                    f"the condition's {port} has width {value.shape[-1]}, this network takes "
                    f"{width}"
                )
        image = 0 if condition.image is None else condition.image.shape[1]
        if image != config.image:
            raise ValueError(
                f"the condition's image has {image} channels, this network takes {config.image}"
            )
        if image and condition.image.shape[2:] != x_t.shape[2:]:
            raise ValueError(
                f"the condition's image is {tuple(condition.image.shape[2:])}, the picture "
                f"{tuple(x_t.shape[2:])}: resize it first"
            )
        for port in ("vector", "tokens", "image"):
            value = getattr(condition, port)
            if value is not None and len(value) != b:
                raise ValueError(
                    f"the condition's {port} is for {len(value)} pictures, got {b}: encode one "
                    "condition for each picture"
                )
