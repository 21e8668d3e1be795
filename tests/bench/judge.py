"""How the judge of the captioned world reads damaged pictures: the two tables of the data card.

python -m tests.bench.judge [--count 300] [--seed 7] [--threads 2]

All pictures have 16 pixels a side. What is damaged are `count` scenes of the law, held-out
compositions included; each row takes the same ones, and within a row the same choices (which
thing, which way, which noise) at every strength. One thing is damaged where it says "a thing".
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from typing import NamedTuple

import click
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from minit2i.worlds.scenes import Scene, Thing, read, render, sample
from minit2i.worlds.scenes.renderer import (
    CENTRES,
    FULL,
    GROUND,
    RADIUS,
    contrasts,
    coverage,
    level,
)
from minit2i.worlds.scenes.scene import ATTRIBUTES, COLOURS, PLACES

SIDE = 16
DARK = level(GROUND)
CORNERS = [place for place in PLACES if " " in place]
WAYS = ((0, 1), (0, -1), (1, 0), (-1, 0))


class Blob(NamedTuple):
    """A thing of any size anywhere: `r` is half its width; pixels of 64."""

    shape: str
    colour: str
    r: float
    row: int
    column: int


def blob(thing: Thing, scale: float = 1.0) -> Blob:
    row = CENTRES[thing.size][thing.row] + thing.jitter[1]
    column = CENTRES[thing.size][thing.column] + thing.jitter[0]
    return Blob(thing.shape, thing.colour, RADIUS[thing.size] * scale, row, column)


@cache
def _sheet(shape: str, r: float) -> Tensor:
    """A blob in the middle of a sheet of twice the picture's side."""
    patch = torch.from_numpy(coverage(shape, r)).float()
    return F.pad(patch, (FULL - len(patch) // 2,) * 4)


def cover(b: Blob) -> Tensor:
    """Share of each pixel of 64 that the blob covers."""
    rows, columns = slice(FULL - b.row, 2 * FULL - b.row), slice(FULL - b.column, None)
    return _sheet(b.shape, b.r)[rows, columns][:, :FULL]


def tint(colour: str) -> Tensor:
    return contrasts()[COLOURS.index(colour)].view(3, 1, 1)


def paint(pictures: Sequence[Sequence[Blob]]) -> Tensor:
    """Blobs on the ground, later ones over earlier ones."""
    x = torch.zeros(len(pictures), 3, FULL, FULL)
    for picture, blobs in zip(x, pictures, strict=True):
        for b in blobs:
            picture += cover(b) * (tint(b.colour) - picture)
    return F.avg_pool2d(x, FULL // SIDE) + DARK


# --------------------------------------------------------------------------------------- damage


def blurred(x: Tensor, sigma: float) -> Tensor:
    """By a Gaussian of that many pixels of 16; the edge is continued."""
    reach = math.ceil(4 * sigma)
    weight = torch.exp(-(torch.arange(-reach, reach + 1) ** 2) / (2 * sigma**2))
    weight = (weight / weight.sum()).expand(3, 1, 1, -1)
    padded = F.conv2d(F.pad(x, (reach,) * 4, mode="replicate"), weight, groups=3)
    return F.conv2d(padded, weight.transpose(-1, -2), groups=3)


def faint(x: Tensor, contrast: float) -> Tensor:
    """Nearer to the ground."""
    return (x - DARK) * contrast + DARK


def repainted(
    scenes: Sequence[Scene], which: Sequence[int], change: Callable[[int, Thing], Blob]
) -> Tensor:
    """One thing of each scene replaced, over the others: by `change(scene's number, thing)`."""
    pictures = []
    for i, (scene, k) in enumerate(zip(scenes, which, strict=True)):
        rest = [blob(thing) for j, thing in enumerate(scene.things) if j != k]
        pictures.append([*rest, change(i, scene.things[k])])
    return paint(pictures)


def off(thing: Thing, way: tuple[int, int], far: int) -> Blob:
    """The centre `far` pixels of 64 from the cell's to one side; the other coordinate is kept."""
    jitter = [far * step if step else own for step, own in zip(way, thing.jitter, strict=True)]
    return blob(replace(thing, jitter=tuple(jitter)))


def erased(x: Tensor, things: Sequence[Thing], angles: Sequence[float], share: float) -> Tensor:
    """Each picture without the part of one thing beyond a straight line: `share` of its area."""
    along = torch.arange(FULL) - (FULL - 1) / 2
    lost = torch.zeros(len(x), 3, FULL, FULL)
    for picture, thing, angle in zip(lost, things, angles, strict=True):
        order = (along * math.cos(angle) + along[:, None] * math.sin(angle)).flatten().argsort()
        part = cover(blob(thing)).flatten()[order]
        area = part.cumsum(0)
        cut = torch.zeros(FULL**2).index_put((order,), part * (area <= share * area[-1]))
        picture += tint(thing.colour) * cut.view(FULL, FULL)
    return x - F.avg_pool2d(lost, FULL // SIDE)


def other(scene: Scene, k: int, attribute: str, rng: np.random.Generator) -> Scene:
    """The scene with another shape or colour of one thing."""
    words = [word for word in ATTRIBUTES[attribute] if word != getattr(scene.things[k], attribute)]
    changed = replace(scene.things[k], **{attribute: words[rng.integers(len(words))]})
    return Scene((*scene.things[:k], changed, *scene.things[k + 1 :]))


def damaged(scenes: Sequence[Scene], rng: np.random.Generator) -> dict[str, list[Tensor]]:
    """By the names of the card's rows, the pictures at every strength."""
    x, n = render(scenes, SIDE), len(scenes)
    which = [int(rng.integers(len(scene.things))) for scene in scenes]
    things = [scene.things[k] for scene, k in zip(scenes, which, strict=True)]
    normal = torch.from_numpy(rng.standard_normal(x.shape)).float()
    ways = [WAYS[k] for k in rng.integers(len(WAYS), size=n)]
    angles = rng.uniform(0, 2 * math.pi, n)
    shape, colour = (
        render([other(s, k, name, rng) for s, k in zip(scenes, which, strict=True)], SIDE)
        for name in ("shape", "colour")
    )
    return {
        "blur, σ = 0.6 pixels / 0.7 / 1.0": [blurred(x, s) for s in (0.6, 0.7, 1.0)],
        "noise, σ = 0.10 of [-1, 1] / 0.15 / 0.20": [x + s * normal for s in (0.1, 0.15, 0.2)],
        "contrast × 0.85 / 0.8 / 0.7": [faint(x, c) for c in (0.85, 0.8, 0.7)],
        "a thing larger by 10 % / 15 % / 20 %": [
            repainted(scenes, which, lambda _, thing, c=c: blob(thing, c)) for c in (1.1, 1.15, 1.2)
        ],
        "a thing off its cell by 3/64 of the side / 4 / 5": [
            repainted(scenes, which, lambda i, thing, far=far: off(thing, ways[i], far))
            for far in (3, 4, 5)
        ],
        "a tenth of a thing erased / a fifth / three tenths": [
            erased(x, things, angles, share) for share in (0.1, 0.2, 0.3)
        ],
        "one shape blended into another, 0.2 / 0.3 / 0.5": [
            x.lerp(shape, share) for share in (0.2, 0.3, 0.5)
        ],
        "one colour into another, 0.2 / 0.3 / 0.5": [
            x.lerp(colour, share) for share in (0.2, 0.3, 0.5)
        ],
        "blur 0.4, contrast × 0.9 and noise 0.05 together": [
            faint(blurred(x, 0.4), 0.9) + 0.05 * normal
        ],
    }


# ------------------------------------------------------------------------ what shows no scene


def noises(x: Tensor, rng: np.random.Generator) -> list[Tensor]:
    """Uniform, the same for all channels, normal, blurred normal, few white pixels."""
    uniform = torch.from_numpy(rng.uniform(-1, 1, x.shape)).float()
    normal = torch.from_numpy(rng.standard_normal(x.shape)).float()
    smooth = blurred(normal, 2.0)
    soft = (smooth / smooth.std() * 0.5 - 0.5).clamp(-1, 1)
    white = (uniform < -0.9).float() * 2 - 1
    return [uniform, uniform[:, :1].expand(x.shape), (0.5 * normal).clamp(-1, 1), soft, white]


def shuffled(x: Tensor, rng: np.random.Generator) -> Tensor:
    """Each picture's pixels in an order of its own."""
    order = torch.from_numpy(rng.random((len(x), 1, SIDE**2))).argsort(-1)
    return x.flatten(2).take_along_dim(order, -1).view_as(x)


def means(x: Tensor, many: int, rng: np.random.Generator) -> Tensor:
    """Each of so many different pictures."""
    return torch.stack([x[rng.permutation(len(x))[:many]].mean(0) for _ in x])


def lone(rng: np.random.Generator) -> Thing:
    return sample(rng, 1, unseen=None).things[0]


def four(places: Sequence[str], rng: np.random.Generator) -> list[Blob]:
    """Small things in four of the cells."""
    cells = [places[k] for k in rng.permutation(len(places))[:4]]
    return [blob(replace(lone(rng), size="small", place=cell)) for cell in cells]


def overlapping(share: float, rng: np.random.Generator) -> list[Blob]:
    """A thing and, over it, another: their centres are apart by that share of the sum of their
    half widths, in any direction in which the second is whole."""
    one, two = blob(lone(rng)), blob(lone(rng))
    while True:
        angle, apart = rng.uniform(0, 2 * math.pi), share * (one.r + two.r)
        row = round(one.row + apart * math.sin(angle))
        column = round(one.column + apart * math.cos(angle))
        if two.r <= min(row, column) and max(row, column) <= FULL - two.r:
            return [one, two._replace(row=row, column=column)]


def one_more(r: int, rng: np.random.Generator) -> list[Blob]:
    """A scene of three things and a disc of radius r, anywhere where it shares no pixel with them
    and is whole."""
    blobs = [blob(thing) for thing in sample(rng, 3, unseen=None).things]
    taken = sum(map(cover, blobs))
    colour = COLOURS[rng.integers(len(COLOURS))]
    while True:
        row, column = rng.integers(r, FULL - r + 1, size=2).tolist()
        disc = Blob("circle", colour, float(r), row, column)
        if not (cover(disc) * taken).any():
            return [*blobs, disc]


def senseless(scenes: Sequence[Scene], rng: np.random.Generator) -> dict[str, list[Tensor]]:
    """By the names of the card's rows, pictures that show no scene."""
    x, n = render(scenes, SIDE), len(scenes)
    seen = [scene.untextured() for scene in scenes]
    differ = torch.tensor([a != b for a, b in zip(seen, [*seen[1:], seen[0]], strict=True)])
    a, b = x[differ], x.roll(-1, 0)[differ]
    return {
        "noise: uniform / grey / normal / smooth / white pixels": noises(x, rng),
        "a scene's pixels shuffled": [shuffled(x, rng)],
        "the mean of 10 pictures / 100": [means(x, many, rng) for many in (10, 100)],
        "blends of two pictures, 0.4 / 0.5": [a.lerp(b, share) for share in (0.4, 0.5)],
        "four small things in the corners / in any cells": [
            paint([four(places, rng) for _ in range(n)]) for places in (CORNERS, PLACES)
        ],
        "two things that overlap, centres at 3/4 of their half widths' sum / 1/2": [
            paint([overlapping(share, rng) for _ in range(n)]) for share in (0.75, 0.5)
        ],
        "three things and a disc of radius 5/64 of the side / 4 / 3": [
            paint([one_more(r, rng) for _ in range(n)]) for r in (5, 4, 3)
        ],
    }


# --------------------------------------------------------------------------------------- tables


def shares(pictures: Tensor, scenes: Sequence[Scene]) -> tuple[float, float, float]:
    """Per cent read as their scene, as none, and as another."""
    got = read(pictures)
    right = sum(a == b.untextured() for a, b in zip(got, scenes, strict=True))
    none = sum(each is None for each in got)
    return tuple(100 * k / len(got) for k in (right, none, len(got) - right - none))


def cell(values: Sequence[float]) -> str:
    return " / ".join(f"{round(value, 1):g}" for value in values)


@click.command()
@click.option("--count", default=300, show_default=True, help="Scenes, at least 100.")
@click.option("--seed", default=7, show_default=True)
@click.option("--threads", default=2, show_default=True)
def main(count: int, seed: int, threads: int) -> None:
    torch.set_num_threads(threads)
    rng = np.random.default_rng(seed)
    scenes = [sample(rng, unseen=None) for _ in range(count)]
    print("| Damage | right | none | another scene |\n|---|---|---|---|")
    for name, strengths in damaged(scenes, rng).items():
        columns = zip(*(shares(pictures, scenes) for pictures in strengths), strict=True)
        print(f"| {name} | {' | '.join(map(cell, columns))} |")
    print("\n| What shows no scene | taken for one |\n|---|---|")
    for name, kinds in senseless(scenes, rng).items():
        taken = [[scene is not None for scene in read(pictures)] for pictures in kinds]
        print(f"| {name} | {cell([100 * np.mean(each) for each in taken])} |")


if __name__ == "__main__":
    main()
