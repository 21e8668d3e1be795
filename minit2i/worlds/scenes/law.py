"""Every scene with its probability, and the law of scenes given what a caption says."""

from functools import cache
from itertools import permutations

import numpy as np
from jaxtyping import Float, Int

from .demands import Demand
from .scene import (
    ALIKE,
    ATTRIBUTES,
    MOST,
    PLACES,
    Scene,
    Thing,
    held_out,
    placements,
)

FIELDS = (*ATTRIBUTES, "place")
"""The columns of a code."""
VALUES = {**ATTRIBUTES, "place": PLACES}


@cache
def table(
    number: int, unseen: bool | None = False
) -> tuple[Int[np.ndarray, "n k 5"], Float[np.ndarray, "n"]]:
    """All scenes of `number` things, as indices of `FIELDS` in `VALUES` per thing, and the
    probability that `sample(rng, number, unseen)` draws each. Treat as constant."""
    grid = [range(len(words)) for words in ATTRIBUTES.values()]
    if number == MOST:
        grid[2] = range(1)
    kinds = np.stack(np.meshgrid(*grid, indexing="ij"), -1).reshape(-1, len(grid)).astype(np.int8)
    which = np.stack(np.meshgrid(*[np.arange(len(kinds))] * number, indexing="ij"), -1)
    which = which.reshape(-1, number)
    chance = np.full(len(which), len(kinds) ** -float(number))
    if number > 1:
        alike = (which == which[:, :1]).all(1)
        chance = (1 - ALIKE) * chance + ALIKE * alike / len(kinds)
    cells = np.array(placements(number), dtype=np.int8)
    codes = np.empty((len(cells), len(which), number, len(FIELDS)), dtype=np.int8)
    codes[..., :-1] = kinds[which]
    codes[..., -1] = cells[:, None]
    codes = codes.reshape(-1, number, len(FIELDS))
    chance = np.tile(chance, len(cells))
    if unseen is not None:
        wanted = _held_out(codes) == unseen
        codes, chance = codes[wanted], chance[wanted]
    return codes, chance / chance.sum()


def _held_out(codes: Int[np.ndarray, "n k 5"]) -> np.ndarray:
    """Which scenes show a held-out composition."""
    found = np.zeros(len(codes), dtype=bool)
    for pair in held_out()["pairs"]:
        has = np.ones(codes.shape[:2], dtype=bool)
        for word in pair:
            name = next(name for name, words in ATTRIBUTES.items() if word in words)
            has &= codes[..., FIELDS.index(name)] == VALUES[name].index(word)
        found |= has.any(1)
    for first, relation, second in held_out()["relations"]:
        for i, j in permutations(range(codes.shape[1]), 2):
            shapes = codes[:, i, 0] == VALUES["shape"].index(first)
            shapes &= codes[:, j, 0] == VALUES["shape"].index(second)
            found |= shapes & (_step(codes, i, relation, j) > 0)
    return found


def _step(codes: Int[np.ndarray, "n k 5"], i: int, relation: str, j: int) -> np.ndarray:
    """How many columns or rows i is on that side of j; negative on the other side."""
    place = codes[..., -1]
    if relation in ("left of", "right of"):
        apart = place[:, j] % 3 - place[:, i] % 3
    else:
        apart = place[:, j] // 3 - place[:, i] // 3
    return apart if relation in ("left of", "above") else -apart


def given(
    demand: Demand, unseen: bool | None = False
) -> tuple[Int[np.ndarray, "n k 5"], Float[np.ndarray, "n"]]:
    """The scenes for which a caption with this demand is drawn, their things in the order of the
    demand's, and their probabilities: the scene's law, restricted to the matched scenes that fit.

    A scene that fits in two ways is there twice. Relations stand for opposite ends, as `caption`
    says them. Raises ValueError if no such scene fits.
    """
    codes, chance = table(len(demand.things), unseen)
    parts = []
    for order in permutations(range(len(demand.things))):
        fits = np.ones(len(codes), dtype=bool)
        for k, wanted in zip(order, demand.things, strict=True):
            for name, value in wanted.said().items():
                fits &= codes[:, k, FIELDS.index(name)] == VALUES[name].index(value)
        for i, relation, j in demand.relations:
            fits &= _step(codes, order[i], relation, order[j]) == 2
        parts.append((codes[fits][:, order], chance[fits]))
    matched = np.concatenate([part[0] for part in parts])
    weight = np.concatenate([part[1] for part in parts])
    if not len(matched):
        raise ValueError(
            f"no scene fits {demand.to_json()} with relations between opposite ends"
            + (" and without held-out compositions: pass unseen=None" if unseen is False else "")
        )
    return matched, weight / weight.sum()


def draw(
    demand: Demand, count: int, rng: np.random.Generator, unseen: bool | None = False
) -> list[Scene]:
    """What a perfect model draws: scenes of the law given the demand, in the middle of their
    cells."""
    codes, chance = given(demand, unseen)
    return [decode(codes[k]) for k in rng.choice(len(codes), count, p=chance)]


def decode(code: Int[np.ndarray, "k 5"]) -> Scene:
    """The scene of a row of `table` or `given`."""
    names = tuple(VALUES.values())
    return Scene(
        tuple(Thing(*(words[v] for words, v in zip(names, row, strict=True))) for row in code)
    )
