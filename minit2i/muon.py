"""Muon (Jordan et al. 2024): the step of a weight matrix is its momentum with all singular values
made alike, so that rare directions, such as which word belongs to which, are learned as fast as
frequent ones. `torch.optim.Muon` is the same for matrices alone, without convolutions."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d)
"""Their weights are matrices: outputs × everything that an output sees."""
A, B, C = 3.4445, -4.7750, 2.0315
"""σ ← A σ + B σ³ + C σ⁵ takes singular values in (0, 1] to about 1 in a few rounds (ibid.)."""
ROUNDS = 5


def orthogonal(x: Float[Tensor, "k m n"]) -> Float[Tensor, "k m n"]:
    """U Vᵀ of x = U Σ Vᵀ, roughly: singular values between 0.7 and 1.2, small ones less.

    The polynomial is odd, so it is x times a polynomial of its smaller Gram matrix: all rounds
    happen there. In half precision that would amplify rounding, so it is never done in it.
    """
    if x.shape[1] > x.shape[2]:
        return orthogonal(x.mT).mT
    with torch.autocast(x.device.type, enabled=False):
        x = x.to(torch.promote_types(x.dtype, torch.float32))
        x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
        one = torch.eye(x.shape[1], device=x.device, dtype=x.dtype)
        gram, total = x @ x.mT, one
        for k in range(ROUNDS):
            factor = A * one + B * gram + C * gram @ gram
            total = factor @ total
            if k + 1 < ROUNDS:
                gram = factor @ gram @ factor
        return total @ x


class Muon(torch.optim.AdamW):
    """Muon for the weights of linear and convolutional layers of a model, the first and the last
    among them, AdamW for all else: embeddings, norms, biases.

    A matrix m × n moves by lr · 0.2 √max(m, n) · `orthogonal`(momentum), about as far as AdamW
    would move it at this learning rate (Liu et al. 2025, eq. 4).
    """

    def __init__(self, model: nn.Module, lr: float, momentum: float = 0.95, **adamw: Any):
        layers = [module for module in model.modules() if isinstance(module, LAYERS)]
        matrices = {id(layer.weight): layer.weight for layer in layers}
        mine = [p for p in matrices.values() if p.requires_grad]
        others = [p for p in model.parameters() if p.requires_grad and id(p) not in matrices]
        groups = [{"params": others}, {"params": mine, "momentum": momentum}]
        super().__init__([group for group in groups if group["params"]], lr=lr, **adamw)

    @torch.no_grad()
    def step(self) -> None:
        """One step from the gradients. Matrices are left without theirs."""
        for group in self.param_groups:
            if "momentum" in group:
                self._turn(group)
        super().step()

    def _turn(self, group: dict[str, Any]) -> None:
        """Moves the matrices; those of one shape together."""
        alike: dict[tuple[int, int], list[tuple[nn.Parameter, Tensor]]] = {}
        skip = getattr(self, "found_inf", None)  # as fused AdamW has it, see train.py
        for p in group["params"]:
            if p.grad is None:
                continue
            grad, p.grad = p.grad, None
            state = self.state[p]
            if not state:
                state["momentum"] = torch.zeros_like(p)
                state["step"] = torch.zeros(())  # AdamW asks each loaded state for one
            before = state["momentum"]
            if skip is not None:
                grad = torch.where(skip > 0, before, grad)  # leaves the momentum as it was
            now = before.lerp(grad, 1 - group["momentum"])
            state["momentum"] = now
            ahead = grad.lerp(now, group["momentum"]).flatten(1)  # Nesterov's
            alike.setdefault(tuple(ahead.shape), []).append((p, ahead))
        for shape, pairs in alike.items():
            rate = group["lr"] * (1 if skip is None else 1 - skip)
            turned = orthogonal(torch.stack([ahead for _, ahead in pairs]))
            turned *= rate * 0.2 * max(shape) ** 0.5
            for (p, _), move in zip(pairs, turned, strict=True):
                p.mul_(1 - rate * group["weight_decay"]).sub_(move.view_as(p))
