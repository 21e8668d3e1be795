"""The best possible denoiser of the captioned world, by Bayes' rule over all its scenes."""

from collections.abc import Callable, Sequence
from functools import cache

import torch
from torch import Tensor

from ...schedule import Schedule
from .demands import Demand
from .law import given
from .renderer import GROUND, contrasts, level, templates


def denoiser(demands: Sequence[Demand], schedule: Schedule) -> Callable[[Tensor, Tensor], Tensor]:
    """(x_t, t) -> E[x_0 | x_t, caption]: no network that is told the caption has a smaller mean
    squared error.

    demands   what the caption of each picture says: `parse` of it

    Two things never share a pixel, so ln p(x_t | scene) is a sum over its things of

        (signal ⟨x_t - signal ground, w⟩ - signal² ‖w‖²/2)/noise²

    and a constant, w being the picture of the thing alone, minus the ground. Shifts, all alike, are
    summed out thing by thing; then the scenes of `law.given` are weighed against each other.

    Raises ValueError for a demand that only held-out compositions meet; the denoiser does so for
    sides other than the world's, for another number of pictures, and for t = 0.
    """
    look = cache(given)
    scenes = [[torch.from_numpy(part) for part in look(demand)] for demand in demands]

    def denoise(x_t: Tensor, t: Tensor) -> Tensor:
        if len(x_t) != len(scenes) or (t < 1).any():
            raise ValueError(
                f"made for {len(scenes)} pictures at t ≥ 1, got {len(x_t)} at t = {t.min():g}"
            )
        signal, noise = (each[t].view(-1, *[1] * 6) for each in (schedule.signal, schedule.noise))
        table = templates(x_t.shape[-1]).double().flatten(-2)  # size shape texture place shift p
        tint = contrasts().double()
        rest = (x_t.double() - signal[..., 0, 0, 0] * level(GROUND)).flatten(2)
        product = torch.einsum("cr,brp,zstljp->bczstlj", tint, rest, table)
        energy = torch.einsum("cr,zstljp->czstlj", tint.square(), table.square())
        score = (signal * product - signal**2 / 2 * energy) / noise**2
        there = score.logsumexp(-1)
        alone = torch.einsum("bczstlj,zstljp->bczstlp", score.softmax(-1), table)
        found = torch.zeros_like(there)
        for k, (codes, chance) in enumerate(scenes):
            shape, colour, size, texture, place = codes.long().unbind(-1)
            where = colour, size, shape, texture.clamp(max=table.shape[2] - 1), place
            weight = (there[k][where].sum(1) + chance.log()).softmax(0)
            found[k].index_put_(where, weight[:, None].expand_as(shape), accumulate=True)
        mean = torch.einsum("bczstl,bczstlp,cr->brp", found, alone, tint)
        return (mean + level(GROUND)).view_as(x_t).to(x_t.dtype)

    return denoise
