"""A caption becomes a condition: a small transformer over byte-pair tokens (GLIDE §4)."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor, nn

from .condition import Condition, draw_keep
from .text import Tokenizer
from .transformer import Transformer


@dataclass(frozen=True)
class TextConfig:
    """The shape of a text encoder.

    length      tokens at most, start and end included
    width, depth, heads     of the transformer
    position    standard deviation of the position embeddings at the start; the token embeddings'
                is 1. Where it is small, the order of words is hardly seen: see lesson 06
    reach       tokens, an odd number, that a convolution mixes before the transformer: every noun
                knows its adjectives and its place from the first step on (So et al. 2021 convolve
                in each layer); 0 for none

    Raises ValueError for values that make no encoder.
    """

    length: int = 96
    width: int = 128
    depth: int = 2
    heads: int = 4
    position: float = 1.0
    reach: int = 11

    def __post_init__(self):
        for name, low in {"length": 2, "width": 1, "depth": 0, "heads": 1, "position": 0}.items():
            if getattr(self, name) < low:
                raise ValueError(f"{name} must be at least {low}, got {getattr(self, name)}")
        if self.width % self.heads:
            raise ValueError(f"a width of {self.width} cannot be split into {self.heads} heads")
        if self.reach < 0 or (self.reach and self.reach % 2 == 0):
            raise ValueError(f"reach is 0 or a positive odd number of tokens, got {self.reach}")


class TextEncoder(nn.Module):
    """Captions -> tokens with their mask, and the vector at the end token. The null is the empty
    caption.

    vocabulary  number of tokens
    vector      width of the condition's vector
    drop        probability that a caption is replaced by the empty one while training
    key         the batch's entry that holds `Tokenizer.batch`, int64 (b, n)
    """

    def __init__(
        self,
        vocabulary: int,
        vector: int,
        config: TextConfig | None = None,
        drop: float = 0.1,
        key: str = "tokens",
    ):
        super().__init__()
        if not 0 <= drop <= 1:
            raise ValueError(f"drop is a probability in [0, 1], got {drop}")
        self.config = config = config or TextConfig()
        self.drop, self.key, width = drop, key, config.width
        self.embed = nn.Embedding(vocabulary, width)
        self.position = nn.Parameter(config.position * torch.randn(config.length, width))
        self.mix = (
            nn.Conv1d(width, width, config.reach, padding=config.reach // 2)
            if config.reach
            else None
        )
        self.transformer = Transformer(width, config.depth, config.heads)
        self.vector = nn.Linear(width, vector)

    def forward(
        self, batch: Mapping[str, Tensor], keep: Bool[Tensor, "b"] | None = None
    ) -> Condition:
        """Encodes the captions; where `keep` is false, the empty one. Without `keep` captions are
        dropped at random in training and all kept in evaluation.

        Raises ValueError without tokens, for more of them than `length`, and, on a CPU, for
        unknown ones.
        """
        tokens = self._tokens(batch)
        if keep is None and self.training:
            keep = draw_keep(len(tokens), self.drop, tokens.device)
        if keep is not None:
            tokens = tokens.where(keep[:, None], self.empty(tokens))
        if tokens.device.type == "cpu":  # shorter is faster; on a GPU asking would stall
            tokens = tokens[:, : int((tokens != Tokenizer.pad).sum(1).max())]
        mask = tokens != Tokenizer.pad
        h = self.embed(tokens) + self.position[: tokens.shape[1]]
        if self.mix is not None:  # padding counts as nothing
            h = h + self.mix((h * mask[..., None]).transpose(1, 2)).transpose(1, 2)
        h = self.transformer(h, mask)
        end = (tokens == Tokenizer.end).int().argmax(1)
        return Condition(self.vector(h[torch.arange(len(h), device=h.device), end]), h, mask)

    def _tokens(self, batch: Mapping[str, Tensor]) -> Tensor:
        if self.key not in batch:
            raise ValueError(
                f"the batch needs tokens under {self.key!r}, it has {', '.join(batch) or 'nothing'}"
            )
        tokens, top, most = batch[self.key], self.embed.num_embeddings - 1, self.config.length
        fits = tokens.ndim == 2 and 2 <= tokens.shape[1] <= most
        if tokens.is_floating_point() or not fits:
            raise ValueError(
                f"captions are rows of 2 to {most} whole numbers, got {tokens.dtype} of "
                f"shape {tuple(tokens.shape)}: make them with Tokenizer.batch"
            )
        if tokens.device.type == "cpu" and ((tokens < 0) | (tokens > top)).any():
            raise ValueError(
                f"tokens are from 0 to {top}, got {tokens.min()} to {tokens.max()}: was another "
                "tokenizer used?"
            )
        return tokens

    @staticmethod
    def empty(tokens: Int[Tensor, "b n"]) -> Int[Tensor, "b n"]:
        """The empty caption, as long as these."""
        null = torch.full_like(tokens, Tokenizer.pad)
        null[:, 0], null[:, 1] = Tokenizer.start, Tokenizer.end
        return null
