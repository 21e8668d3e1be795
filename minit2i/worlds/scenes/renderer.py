"""Scenes to pictures: drawn at 64×64 with anti-aliasing, averaged over blocks to 32 and 16.

A picture is ground + Σ over things of W ⊗ (colour - ground). W, a thing's coverage of each pixel
times its texture, is looked up: shape, size, texture, cell and shift are finite in number.
"""

from collections.abc import Sequence
from functools import cache
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from .scene import COLOURS, JITTER, MOST, SHAPES, SIZES, TEXTURES, Scene, encode

FULL = 64
"""Side at which pictures are drawn."""
SIDES = (16, 32, FULL)
GROUND = 25
TONES = {
    "red": (190, 40, 45),
    "green": (60, 170, 75),
    "blue": (50, 90, 190),
    "yellow": (190, 170, 45),
    "purple": (150, 55, 175),
    "grey": (165, 165, 165),
}
"""Plain tones of 255; the brightest leave room for the textures."""
RADIUS = {"small": 9.5, "large": 14.4}
"""Half the width and height of a thing, in pixels of 64."""
CENTRES = {"small": (11, 32, 53), "large": (16, 32, 48)}
"""Where the rows and columns of cells lie."""
SHIFTS = 2 * JITTER + 1
STRIPE, DOT = 0.29, 0.12


def _half_width(shape: str, y: np.ndarray, r: float) -> np.ndarray:
    """Half the width of a shape at height y below its centre, |y| ≤ r."""
    if shape == "circle":
        return np.sqrt(np.maximum(r**2 - y**2, 0))
    if shape == "square":
        return np.full_like(y, r)
    if shape == "triangle":  # the apex is on top
        return (y + r) / 2
    return np.where(np.abs(y) <= r / 3, r, r / 3)


def coverage(shape: str, r: float) -> Float[np.ndarray, "h h"]:
    """Share of each pixel that a shape of half-width r covers, centred where four pixels meet.

    Exact across a row of pixels; down it by Gauss-Legendre quadrature between the heights at which
    the outline is not smooth (error below 1e-5: a grey level is 4e-3).
    """
    half = int(np.ceil(r))
    nodes, weights = np.polynomial.legendre.leggauss(48)
    edges = np.arange(-half, half + 1, dtype=float)
    result = np.zeros((2 * half, 2 * half))
    kinks = [k for k in (-r, -r / 3, r / 3, r) if shape == "cross" or abs(k) == r]
    for row in range(2 * half):
        inner = [k for k in kinks if edges[row] < k < edges[row + 1]]
        ends = [edges[row], *inner, edges[row + 1]]
        for low, high in pairwise(ends):
            y = (low + high) / 2 + nodes * (high - low) / 2
            w = _half_width(shape, y, r)[:, None] * (np.abs(y) <= r)[:, None]
            covered = np.minimum(edges[1:], w) - np.maximum(edges[:-1], -w)
            result[row] += (high - low) / 2 * weights @ np.maximum(covered, 0)
    return result


@cache
def _pattern(texture: str) -> np.ndarray:
    """A texture's tone relative to plain, per pixel of the whole picture: every 2×2 block has mean
    0, so that nothing is left of it at 32 pixels."""
    tile = {
        "plain": np.zeros((2, 2)),
        "striped": STRIPE * np.array([[1, 1], [-1, -1]]),
        "dotted": DOT * np.array([[3, -1], [-1, -1]]),
    }[texture]
    return np.tile(tile, (FULL // 2, FULL // 2))


def _blocks(x: np.ndarray, f: int) -> np.ndarray:
    """Means over f × f blocks of the last two axes."""
    h, w = x.shape[-2:]
    return x.reshape(*x.shape[:-2], h // f, f, w // f, f).mean((-3, -1))


def _textured(cover: np.ndarray, texture: str) -> np.ndarray:
    """Coverage times tone; each 2×2 block keeps its mean also where the outline crosses it."""
    pattern = _pattern(texture)
    mean = _blocks(cover * pattern, 2) / np.maximum(_blocks(cover, 2), 1e-12)
    return cover * (1 + pattern - mean.repeat(2, axis=-2).repeat(2, axis=-1))


@cache
def templates(side: int) -> Float[Tensor, "size shape texture place shift h w"]:
    """W of every possible thing: sizes, shapes, textures (one where they cannot be seen, below 64),
    cells, shifts (3 · down + right, from the upper left), then the picture. Treat as constant."""
    if side not in SIDES:
        raise ValueError(f"pictures have a side of {', '.join(map(str, SIDES))}, got {side}")
    textures = TEXTURES if side == FULL else TEXTURES[:1]
    canvas = np.zeros((len(SIZES), len(SHAPES), 9, SHIFTS**2, FULL, FULL))
    for i, size in enumerate(SIZES):
        for j, shape in enumerate(SHAPES):
            patch = coverage(shape, RADIUS[size])
            half = len(patch) // 2
            for cell in range(9):
                for shift in range(SHIFTS**2):
                    y = CENTRES[size][cell // 3] + shift // SHIFTS - JITTER
                    x = CENTRES[size][cell % 3] + shift % SHIFTS - JITTER
                    top, left = max(0, y - half), max(0, x - half)
                    inside = patch[top - y + half :, left - x + half :]
                    inside = inside[: FULL - top, : FULL - left]
                    height, width = inside.shape
                    canvas[i, j, cell, shift, top : top + height, left : left + width] = inside
    drawn = np.stack([_textured(canvas, texture) for texture in textures], axis=2)
    return torch.from_numpy(_blocks(drawn, FULL // side)).float()


def level(tone: Float[Tensor, "..."] | float) -> Float[Tensor, "..."] | float:
    """0 … 255 to [-1, 1]."""
    return tone / 127.5 - 1


@cache
def contrasts() -> Float[Tensor, "colour 3"]:
    """colour - ground, in units of [-1, 1]. Treat as constant."""
    tones = torch.tensor([TONES[colour] for colour in COLOURS], dtype=torch.float32)
    return (tones - GROUND) / 127.5


def render(
    scenes: Sequence[Scene], side: int = FULL, device: torch.device | str = "cpu"
) -> Float[Tensor, "n 3 h w"]:
    """Pictures in [-1, 1] with a side of 16, 32 or 64 pixels."""
    table = templates(side).to(device)
    flat = table.flatten(0, 4).flatten(1)
    codes = torch.from_numpy(encode(scenes)).to(device)
    shape, colour, size, texture, place, right, down = codes.unbind(-1)
    texture = texture.clamp(max=table.shape[2] - 1)
    shift = SHIFTS * (down + JITTER) + right + JITTER
    index = torch.zeros_like(shape)
    for part, count in zip((size, shape, texture, place, shift), table.shape[:5], strict=True):
        index = index * count + part
    there = (shape >= 0)[..., None]
    index = index.where(there[..., 0], torch.zeros_like(index))
    tint = (contrasts().to(device)[colour.clamp(min=0)] * there).transpose(1, 2)
    pictures = torch.empty(len(scenes), 3, side * side, device=device)
    for begin in range(0, len(scenes), 512):  # memory stays small
        part = slice(begin, begin + 512)
        masks = flat[index[part].flatten()].unflatten(0, (-1, MOST))
        torch.bmm(tint[part], masks, out=pictures[part])
    return pictures.add_(level(GROUND)).view(-1, 3, side, side)
