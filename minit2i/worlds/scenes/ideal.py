"""The best possible denoiser of the captioned world, by Bayes' rule over all its scenes."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from .demands import Demand
from .law import given
from .renderer import GROUND, contrasts, level, templates


def ideal(
    x_t: Float[Tensor, "b 3 h w"], demands: Sequence[Demand], signal: float, noise: float
) -> Float[Tensor, "b 3 h w"]:
    """E[x_0 | x_t, caption]: no network that sees x_t = signal x_0 + noise ε and the caption has a
    smaller mean squared error.

    Two things never share a pixel, so ln p(x_t | scene) is a sum over its things of

        (signal ⟨x_t - signal ground, w⟩ - signal² ‖w‖²/2)/noise²

    and a constant, w being the picture of the thing alone, minus the ground. The shifts, all alike, are
    summed out thing by thing; then the scenes of `law.given` are weighed against each other.

    demands   one for each picture: `parse` of its caption

    Raises ValueError for sides other than the world's, and for noise that is not positive.
    """
    if len(x_t) != len(demands):
        raise ValueError(f"got {len(x_t)} pictures and {len(demands)} demands: pass one for each")
    if not noise > 0:
        raise ValueError(f"noise must be positive, got {noise}")
    table = templates(x_t.shape[-1]).double().flatten(-2)  # size shape texture place shift pixel
    tint = contrasts().double()
    rest = (x_t.double() - signal * level(GROUND)).flatten(2)
    product = torch.einsum("cr,brp,zstljp->bczstlj", tint, rest, table)
    energy = torch.einsum("cr,zstljp->czstlj", tint.square(), table.square())
    score = (signal * product - signal**2 / 2 * energy) / noise**2
    there = score.logsumexp(-1)
    alone = torch.einsum("bczstlj,zstljp->bczstlp", score.softmax(-1), table)
    found = torch.zeros_like(there)
    for k, demand in enumerate(demands):
        codes, chance = (torch.from_numpy(part) for part in given(demand))
        shape, colour, size, texture, place = codes.long().unbind(-1)
        where = colour, size, shape, texture.clamp(max=table.shape[2] - 1), place
        weight = (there[k][where].sum(1) + chance.log()).softmax(0)
        found[k].index_put_(where, weight[:, None].expand_as(shape), accumulate=True)
    mean = torch.einsum("bczstl,bczstlp,cr->brp", found, alone, tint)
    return (mean + level(GROUND)).view_as(x_t).to(x_t.dtype)
