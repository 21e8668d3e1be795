"""Real handwriting: 1,797 digits of 8×8 pixels (Alpaydin & Kaynak 1998), from scikit-learn."""

from functools import cache

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor

SPLITS = {"train": slice(0, 1200), "held_out": slice(1200, 1797)}


@cache
def _all() -> tuple[np.ndarray, np.ndarray]:
    data = load_digits()
    order = np.random.default_rng(0).permutation(len(data.target))  # one split for everybody
    return data.images[order], data.target[order]


def load(split: str = "train") -> dict[str, Tensor]:
    """x (n, 1, 8, 8) in [-1, 1], -1 the paper and 1 the ink, and y (n,), the digit.

    "train" holds 1,200 digits; "held_out" 597 that no generative model of the course sees.
    """
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}: choose one of {', '.join(SPLITS)}")
    images, labels = _all()
    x = torch.from_numpy(images[SPLITS[split]] / 8 - 1).float()[:, None]
    return {"x": x, "y": torch.from_numpy(labels[SPLITS[split]]).long()}
