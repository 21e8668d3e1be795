"""The best possible denoiser of the captioned world, by Bayes' rule over all its scenes."""

from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
import torch
from torch import Tensor

from ...schedule import Schedule
from .demands import Demand
from .law import FIELDS, VALUES, given
from .renderer import FULL, GROUND, contrasts, level, templates


def denoiser(
    demands: Sequence[Demand], schedule: Schedule, side: int = 16
) -> Callable[[Tensor, Tensor], Tensor]:
    """(x_t, t) -> E[x_0 | x_t, caption], calculated on the CPU: no network that is told the caption
    has a smaller mean squared error (on pictures that are not rounded to bytes).

    demands   what the caption of each picture says: `parse` of it
    side      of the pictures

    Two things never share a pixel, so ln p(x_t | scene) is a sum over its things of

        (signal ⟨x_t - signal ground, w⟩ - signal² ‖w‖²/2)/noise²

    and a constant, w being the picture of the thing alone, minus the ground. Shifts, all alike, are
    summed out thing by thing; then the scenes of `law.given` are weighed against each other.

    Raises ValueError for a side that the world does not have and for a demand that only held-out
    compositions meet; the denoiser does so for other pictures than it was made for, and for t = 0.
    """
    table = templates(side).double().flatten(-2)  # size shape texture place shift p
    tint = contrasts().double()
    energy = torch.einsum("cr,zstljp->czstlj", tint.square(), table.square())
    scenes = cache(lambda demand: _scenes(demand, textures=side == FULL))
    listed = [scenes(demand) for demand in demands]

    def denoise(x_t: Tensor, t: Tensor) -> Tensor:
        if x_t.shape != (len(listed), 3, side, side) or (t < 1).any():
            raise ValueError(
                f"made for {len(listed)} pictures of {side} pixels at t ≥ 1, got "
                f"{tuple(x_t.shape)} at t = {t.min():g}"
            )
        path = (sequence.cpu()[t.cpu()] for sequence in (schedule.signal, schedule.noise))
        signal, noise = (each.double().view(-1, *[1] * 6) for each in path)
        rest = (x_t.cpu().double() - signal[..., 0, 0, 0] * level(GROUND)).flatten(2)
        product = torch.einsum("cr,brp,zstljp->bczstlj", tint, rest, table)
        score = (signal * product - signal**2 / 2 * energy) / noise**2
        there = score.logsumexp(-1)
        alone = torch.einsum("bczstlj,zstljp->bczstlp", score.softmax(-1), table)
        found = torch.zeros_like(there)
        for k, (codes, chance) in enumerate(listed):
            shape, colour, size, texture, place = codes.unbind(-1)
            where = colour, size, shape, texture, place
            weight = (there[k][where].sum(1) + chance.log()).softmax(0)
            found[k].index_put_(where, weight[:, None].expand_as(shape), accumulate=True)
        mean = torch.einsum("bczstl,bczstlp,cr->brp", found, alone, tint)
        return (mean + level(GROUND)).view_as(x_t).to(x_t)

    return denoise


def _scenes(demand: Demand, textures: bool) -> tuple[Tensor, Tensor]:
    """`law.given`; where textures cannot be seen, scenes that differ in nothing else are one."""
    codes, chance = given(demand)
    if not textures:
        codes = codes.copy()
        codes[..., FIELDS.index("texture")] = 0
        base = [len(VALUES[name]) for name in FIELDS] * codes.shape[1]
        number = np.ravel_multi_index(codes.reshape(len(codes), -1).astype(np.int64).T, base)
        _, first, which = np.unique(number, return_index=True, return_inverse=True)
        codes, chance = codes[first], np.bincount(which, chance)
    return torch.from_numpy(codes).long(), torch.from_numpy(chance)
