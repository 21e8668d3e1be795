"""The other families of generative models, for comparison."""

from torch import nn


def perceptron(inputs: int, outputs: int, width: int, depth: int) -> nn.Sequential:
    """A plain multilayer perceptron of `depth` hidden layers, the network of all three families."""
    sizes = [inputs] + [width] * depth
    hidden = [
        part
        for a, b in zip(sizes, sizes[1:], strict=False)
        for part in (nn.Linear(a, b), nn.SiLU())
    ]
    return nn.Sequential(*hidden, nn.Linear(sizes[-1], outputs))
