"""Captioned pictures for training: a table of pictures and a list of texts."""

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from .captions import caption
from .renderer import render
from .scene import Scene, sample
from .splits import part


def captioned(
    n: int,
    seed: int,
    side: int,
    number: int | None = None,
    form: str | None = None,
    vague: bool = False,
) -> tuple[UInt8[Tensor, "n 3 h w"], list[str]]:
    """n pictures in 0 … 255 and a caption for each, without held-out compositions and without texts
    that are kept for choosing and measuring (`splits`).

    Scenes and captions are the same at every side. `number` of things, `form` of captions
    (`captions.FORMS`; None for the world's law of either), and whether they are `vague`
    (`captions.VAGUE`): none of them depends on anything that a caption leaves unsaid, so the law of
    scenes given a caption is the same whichever are chosen; only how often each caption comes is
    not.
    """
    if n < 1:
        raise ValueError(f"need at least one picture, got {n}")
    rngs = [np.random.default_rng([seed, k]) for k in (0, 1)]
    pictures = torch.empty(n, 3, side, side, dtype=torch.uint8)
    texts: list[str] = []
    for rows in torch.arange(n).split(4096):  # whole tables of floats would take gigabytes
        scenes, own = zip(*(_example(*rngs, number, form, vague) for _ in rows), strict=True)
        pictures[rows] = ((render(scenes, side) + 1) * 127.5).round().byte()
        texts += own
    return pictures, texts


def _example(
    scenes: np.random.Generator,
    captions: np.random.Generator,
    number: int | None,
    form: str | None,
    vague: bool,
) -> tuple[Scene, str]:
    """A scene and a caption for training. Both are drawn anew where the text is not for it: another
    caption for the same scene would shift the law of scenes given a caption."""
    while True:
        scene = sample(scenes, number)
        text = caption(scene, captions, form, vague)
        if part(text) == "training":
            return scene, text
