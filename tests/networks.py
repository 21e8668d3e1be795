"""What the tests of networks share."""

import pytest
import torch
from torch import nn

GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
DEVICES = ["cpu", pytest.param("cuda", marks=GPU)]


def wake(module: nn.Module, size: float = 0.2) -> nn.Module:
    """Gives what starts at zero random values: residual branches take part, as after training."""
    g = torch.Generator().manual_seed(0)
    for parameter in module.parameters():
        if not parameter.any():
            parameter.data.normal_(0, size, generator=g)
    return module


def copy_into(theirs: nn.Module, ours: nn.Module) -> None:
    """Copies the weights of a layer into another library's layer of the same shape."""
    theirs.load_state_dict({k: v.clone() for k, v in ours.state_dict().items()})
