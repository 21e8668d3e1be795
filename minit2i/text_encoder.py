"""A caption becomes a condition: a small transformer over byte-pair tokens (GLIDE §4)."""

from collections.abc import Mapping

import torch
from jaxtyping import Bool, Int
from torch import Tensor, nn

from .condition import Condition, draw_keep
from .text import Tokenizer
from .transformer import Transformer


class TextEncoder(nn.Module):
    """Captions -> tokens with their mask, and the vector at the end token. The null is the empty
    caption.

    vocabulary  number of tokens
    length      tokens at most, start and end included
    width, depth, heads     of the transformer
    vector      width of the condition's vector
    drop        probability that a caption is replaced by the empty one while training
    position    standard deviation of the position embeddings at the start; the token embeddings'
                is 1. Where it is small, the order of words is hardly seen: see lesson 06
    key         the batch's entry that holds `Tokenizer.batch`, int64 (b, n)
    """

    def __init__(
        self,
        vocabulary: int,
        length: int,
        width: int,
        depth: int,
        heads: int,
        vector: int,
        drop: float = 0.1,
        position: float = 1.0,
        key: str = "tokens",
    ):
        super().__init__()
        if not 0 <= drop <= 1:
            raise ValueError(f"drop is a probability in [0, 1], got {drop}")
        if length < 2:
            raise ValueError(f"length is at least 2, for start and end, got {length}")
        if position < 0:
            raise ValueError(f"position is a standard deviation, at least 0, got {position}")
        self.length, self.drop, self.key = length, drop, key
        self.embed = nn.Embedding(vocabulary, width)
        self.position = nn.Parameter(position * torch.randn(length, width))
        self.transformer = Transformer(width, depth, heads)
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
        h = self.transformer(h, mask)
        end = (tokens == Tokenizer.end).int().argmax(1)
        return Condition(self.vector(h[torch.arange(len(h), device=h.device), end]), h, mask)

    def _tokens(self, batch: Mapping[str, Tensor]) -> Tensor:
        if self.key not in batch:
            raise ValueError(
                f"the batch needs tokens under {self.key!r}, it has {', '.join(batch) or 'nothing'}"
            )
        tokens, top = batch[self.key], self.embed.num_embeddings - 1
        fits = tokens.ndim == 2 and 2 <= tokens.shape[1] <= self.length
        if tokens.is_floating_point() or not fits:
            raise ValueError(
                f"captions are rows of 2 to {self.length} whole numbers, got {tokens.dtype} of "
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
