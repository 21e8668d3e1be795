"""Numbers for a check: fresh ones for its body, and known states of the global generators."""

import random

import numpy as np
import torch


class Draw:
    """Fresh numbers for one round of a check, the same on every machine."""

    def __init__(self, number: int):
        self.generator = torch.Generator().manual_seed(number)
        self.numpy = np.random.default_rng(number)

    def normal(self, *shape: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
        """Standard normal numbers."""
        return torch.randn(*shape, generator=self.generator, dtype=torch.float64).to(dtype)

    def uniform(
        self, low: float | int, high: float | int, *shape: int, dtype: torch.dtype = torch.float64
    ) -> torch.Tensor | float:
        """Uniform numbers; a plain float if no shape is given."""
        if not shape:
            return float(self.numpy.uniform(low, high))
        unit = torch.rand(*shape, generator=self.generator, dtype=torch.float64)
        return (low + (high - low) * unit).to(dtype)

    def integer(self, low: int, high: int, *shape: int) -> torch.Tensor | int:
        """Integers in low..high-1; a plain int if no shape is given."""
        if not shape:
            return int(self.numpy.integers(low, high))
        return torch.randint(low, high, shape, generator=self.generator)


def reseed(index: int) -> None:
    """Set the global generators, to the same states for a call and for its replay."""
    torch.default_generator.manual_seed(index)
    np.random.seed(index)  # noqa: NPY002 - the learner's code may use the global state
    random.seed(index)
