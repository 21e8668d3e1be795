"""What every system shares: prompts in, pictures out, and weights with a card under a name."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from .. import checkpoint
from ..checkpoint import SHIPPED, CheckpointError

OTHERS = {"base_before": "python -m minit2i.findings.binding"}
"""Shipped checkpoints that no recipe makes, and the commands that do."""


class System(nn.Module, ABC):
    """Prompts -> pictures. A subclass is built from plain numbers and texts, `config`, alone, so
    that a checkpoint's card is enough to build it again.

    name       of its checkpoint, data/checkpoints/NAME.safetensors
    threads    CPU threads: a second one trains small networks little faster, and stalls when busy
    """

    name: ClassVar[str]
    threads: ClassVar[int] = 1

    def __init__(self, **config: Any):
        super().__init__()
        self.config = config

    @abstractmethod
    def draw(
        self, prompts: list[str], *, seed: int = 0, guidance: float = 1.0, steps: int = 20
    ) -> Float[Tensor, "b 3 h w"]:
        """One picture in [-1, 1] for each prompt.

        Picture k is drawn from a generator of its own, seeded seed + k: it is the same picture,
        up to rounding, alone and in any batch. guidance 1 is the conditional model.
        Raises ValueError for a prompt that the system cannot read.
        """

    def read(self, prompt: str) -> tuple[int, int]:
        """How many tokens of a prompt the system reads, and how many there are: fewer where the
        prompt is too long for it. (0, 0) of a system without tokens."""
        return 0, 0

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    def save(
        self, card: Mapping[str, Any], folder: Path | str = SHIPPED, name: str | None = None
    ) -> None:
        """Writes folder/NAME.safetensors in half precision and its readable card NAME.json; the
        system's own name if None."""
        full = {"system": self.name, "config": self.config, **card}
        weights = {key: tensor.half() for key, tensor in self.state_dict().items()}
        checkpoint.save(Path(folder) / (name or self.name), weights, full)

    @classmethod
    def load(
        cls,
        folder: Path | str = SHIPPED,
        device: torch.device | str = "cpu",
        name: str | None = None,
    ) -> "System":
        """The trained system, in eval mode, with the checkpoint's card as `.card`. `name` is that
        of a checkpoint other than its own, one of `OTHERS`.

        Raises CheckpointError for a checkpoint that is missing, altered or of another system.
        """
        path = Path(folder) / (name or cls.name)
        tensors, card = checkpoint.load(
            path, make=OTHERS.get(name, f"python -m minit2i train {cls.name}")
        )
        if card.get("system") != cls.name:
            raise CheckpointError(
                f"{path}.safetensors holds {card.get('system')!r}, not the system {cls.name!r}; "
                f"make it anew with: python -m minit2i train {cls.name}"
            )
        try:
            system = cls(**card["config"])
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(
                f"{path}.safetensors has a configuration that this version cannot build ({error}); "
                f"make it anew with: python -m minit2i train {cls.name}"
            ) from None
        checkpoint.restore(system, tensors, str(path))
        system.card = card
        return system.to(device).eval()


def check_prompts(prompts: Sequence[str]) -> list[str]:
    """The prompts as a list. Raises ValueError for none, and for one string instead of a list."""
    if isinstance(prompts, str):
        raise ValueError(
            f"prompts is a list of texts, got the single text {prompts!r}: wrap it [...]"
        )
    if not prompts or not all(isinstance(prompt, str) for prompt in prompts):
        raise ValueError(f"prompts must be a list of at least one text, got {prompts!r}")
    return list(prompts)
