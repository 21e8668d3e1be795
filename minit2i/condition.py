"""What a network is told besides x_t and t: one type with ports, and encoders that fill it.

An encoder maps a batch to a `Condition`, states its own null and its own drop rate, and takes a
per-sample `keep`. A network only adds, attends to or concatenates what the ports hold.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn


@dataclass(frozen=True)
class Condition:
    """vector (b, d): added to the time embedding; tokens (b, n, d) with mask (b, n), true where
    a token counts: attended to; image (b, c, h, w): concatenated to the input."""

    vector: Float[Tensor, "b d"] | None = None
    tokens: Float[Tensor, "b n k"] | None = None
    mask: Bool[Tensor, "b n"] | None = None
    image: Float[Tensor, "b c h w"] | None = None


def draw_keep(n: int, drop: float, device: torch.device | str | None = None) -> Bool[Tensor, "n"]:
    """True with probability 1 - drop, independently for each of n samples (CFG, algorithm 1)."""
    return torch.rand(n, device=device) >= drop


class LabelEncoder(nn.Module):
    """Class labels -> vector. The null is one more learned embedding, at index `classes`.

    drop   probability that a label is replaced by the null while training; a model that is never
           trained on its null cannot be guided
    key    the batch's entry that holds labels 0 … classes - 1, int64 (b,)
    """

    def __init__(self, classes: int, width: int, drop: float = 0.1, key: str = "y"):
        super().__init__()
        if classes < 1:
            raise ValueError(f"classes must be at least 1, got {classes}")
        if not 0 <= drop <= 1:
            raise ValueError(f"drop is a probability in [0, 1], got {drop}")
        self.classes, self.drop, self.key = classes, drop, key
        self.embed = nn.Embedding(classes + 1, width)

    def forward(
        self, batch: Mapping[str, Tensor], keep: Bool[Tensor, "b"] | None = None
    ) -> Condition:
        """Embeds labels; where `keep` is false, the null. Without `keep` labels are dropped at
        random in training and all kept in evaluation. Raises ValueError without labels, and, on a
        CPU, for a label out of range: the null is chosen by `keep` alone."""
        if self.key not in batch:
            raise ValueError(
                f"the batch needs labels under {self.key!r}, it has {', '.join(batch) or 'nothing'}"
            )
        y = batch[self.key]
        outside = y.device.type == "cpu" and bool(((y < 0) | (y >= self.classes)).any())
        if y.is_floating_point() or outside:  # on a GPU asking would stall
            raise ValueError(
                f"labels are whole numbers from 0 to {self.classes - 1}, got {y.dtype} between "
                f"{y.min():g} and {y.max():g}"
            )
        if keep is None and self.training:
            keep = draw_keep(len(y), self.drop, y.device)
        if keep is not None:
            y = y.where(keep, torch.full_like(y, self.classes))
        return Condition(vector=self.embed(y))
