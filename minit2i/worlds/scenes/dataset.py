"""Captioned pictures for training: a table of pictures and a list of texts."""

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from .captions import caption
from .renderer import render
from .scene import sample


def captioned(
    n: int, seed: int, side: int, number: int | None = None
) -> tuple[UInt8[Tensor, "n 3 h w"], list[str]]:
    """n pictures in 0 … 255 and a caption for each, without held-out compositions.

    Scenes and captions are the same at every side. `number` of things: None for the world's law.
    """
    if n < 1:
        raise ValueError(f"need at least one picture, got {n}")
    scenes_rng, captions_rng = (np.random.default_rng([seed, k]) for k in (0, 1))
    pictures = torch.empty(n, 3, side, side, dtype=torch.uint8)
    texts = []
    for part in torch.arange(n).split(4096):  # whole tables of floats would take gigabytes
        scenes = [sample(scenes_rng, number) for _ in part]
        pictures[part] = ((render(scenes, side) + 1) * 127.5).round().byte()
        texts += [caption(scene, captions_rng) for scene in scenes]
    return pictures, texts
