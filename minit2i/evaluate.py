"""Measures: distances between clouds, coverage, accuracy by an independent judge, intervals."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy import stats
from torch import Tensor

from .systems.digits import WORDS
from .worlds import digits
from .worlds.plane import Mixture, SwissRoll


@dataclass(frozen=True)
class Interval:
    """An estimate with its 95 % interval."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.3g} [{self.low:.3g}, {self.high:.3g}]"


def bootstrap(values: Sequence[float] | Tensor, draws: int = 2000, seed: int = 0) -> Interval:
    """The mean of independent values, with the percentile bootstrap's 95 % interval.

    For many values of one run (samples, prompts); it says nothing about other training seeds.
    """
    values = np.asarray(torch.as_tensor(values).detach().cpu(), dtype=float)
    if values.ndim != 1 or len(values) < 2:
        raise ValueError(f"need at least two values in one row, got shape {values.shape}")
    rng = np.random.default_rng(seed)
    means = [values[rng.integers(len(values), size=len(values))].mean() for _ in range(draws)]
    low, high = np.quantile(means, [0.025, 0.975])
    return Interval(float(values.mean()), float(low), float(high))


def proportion(right: Bool[Tensor, "n"]) -> Interval:
    """The share of trials that came out right, with Wilson's 95 % interval: unlike the bootstrap's
    it has a width where all came out alike."""
    if len(right) == 0:
        raise ValueError("need at least one trial, got none")
    test = stats.binomtest(int(right.sum()), len(right))
    ends = test.proportion_ci(0.95, method="wilson")
    return Interval(float(test.statistic), float(ends.low), float(ends.high))


def over_seeds(values: Sequence[float]) -> Interval:
    """The mean over training seeds with Student's 95 % interval, n - 1 degrees of freedom."""
    values = np.asarray(values, dtype=float)
    if values.ndim != 1 or len(values) < 2:
        raise ValueError(f"need at least two seeds, got {len(values)}")
    half = stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / len(values) ** 0.5
    return Interval(float(values.mean()), float(values.mean() - half), float(values.mean() + half))


def _cloud(x: Tensor) -> Tensor:
    if x.ndim != 2 or len(x) == 0 or not torch.isfinite(x).all():
        raise ValueError(
            f"need a cloud of finite points (n, d), got shape {tuple(x.shape)}"
            + ("" if torch.isfinite(x).all() else " with NaN or infinity in it")
        )
    return x.detach().cpu().double()


def sliced_wasserstein(
    a: Float[Tensor, "n d"], b: Float[Tensor, "m _"], directions: int = 128, seed: int = 0
) -> float:
    """√ mean over directions θ of W_2²(θ·a, θ·b) (Bonneel et al. 2015), in units of the data.

    In one dimension W_2 compares sorted values; unequal counts are matched by quantiles. For two
    samples of one law it falls like n^(-1/2), not to zero: compare at equal n.
    """
    a, b = _cloud(a), _cloud(b)
    if a.shape[1] != b.shape[1]:
        raise ValueError(f"the clouds have {a.shape[1]} and {b.shape[1]} dimensions")
    generator = torch.Generator().manual_seed(seed)
    theta = torch.randn(a.shape[1], directions, dtype=torch.float64, generator=generator)
    theta = theta / theta.norm(dim=0)
    a, b = (theta.T @ a.T).sort(1).values, (theta.T @ b.T).sort(1).values
    n, m = a.shape[1], b.shape[1]
    if n != m:
        level = (torch.arange(max(n, m), dtype=torch.float64) + 0.5) / max(n, m)
        a, b = a[:, (level * n).long()], b[:, (level * m).long()]
    return float((a - b).square().mean().sqrt())


def frechet(a: Float[Tensor, "n d"], b: Float[Tensor, "m _"]) -> float:
    """‖m_a - m_b‖² + Tr(S_a + S_b - 2 (S_a S_b)^½), the squared W_2 of the Gaussians that have the
    clouds' means and covariances (Heusel et al. 2017, eq. 6); S has n - 1 below its fraction.

    With S = RᵀR the root's trace is the sum of the singular values of R_a R_bᵀ, which singular
    covariances do not disturb. Two samples of one law are (2d + d(d + 1)/2)/n apart on average, not
    0: compare at equal n. Raises ValueError for other than two clouds of at least two points.
    """
    a, b = _cloud(a), _cloud(b)
    if a.shape[1] != b.shape[1]:
        raise ValueError(f"the clouds have {a.shape[1]} and {b.shape[1]} dimensions")
    if min(len(a), len(b)) < 2:
        raise ValueError(
            f"a covariance takes at least two points, got clouds of {len(a)} and {len(b)}"
        )
    m_a, r_a = _moments(a)
    m_b, r_b = _moments(b)
    shared = torch.linalg.svdvals(r_a @ r_b.T).sum()
    spread = r_a.square().sum() + r_b.square().sum() - 2 * shared
    return float((m_a - m_b).square().sum() + spread.clamp(min=0))  # of rounding, below 0


def _moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """A cloud's mean, and a triangular R whose RᵀR is its covariance."""
    mean = x.mean(0)
    return mean, torch.linalg.qr((x - mean) / (len(x) - 1) ** 0.5, mode="r").R


def curve_distance(x: Float[Tensor, "n 2"], roll: SwissRoll) -> Float[Tensor, "n"]:
    """Distance of each point to the roll's curve; fresh data has mean noise · √(2/π)."""
    return roll.project(_cloud(x).float())[0]


@dataclass(frozen=True)
class ArcCoverage:
    """How evenly a cloud covers the arc: `share` of equally likely pieces that hold at least a
    fifth of their due, and the Kolmogorov-Smirnov distance `ks` to the true law, 0 at best."""

    share: float
    ks: float


def arc_coverage(
    x: Float[Tensor, "n 2"], roll: SwissRoll, pieces: int = 100, near: float = 0.2
) -> ArcCoverage:
    """Coverage of the roll's parameter u, uniform for data, by the points within `near` of it.

    Points further away count for no piece, but in the due of each: a cloud off the curve covers
    nothing. With no point near, share is 0 and ks 1.
    """
    distance, u = roll.project(_cloud(x).float())
    u = u[distance <= near].double().numpy()
    if len(u) == 0:
        return ArcCoverage(0.0, 1.0)
    counts = np.histogram(u, bins=pieces, range=(0, 1))[0]
    share = float((counts >= 0.2 * len(x) / pieces).mean())
    return ArcCoverage(share, float(stats.kstest(u, "uniform").statistic))


@dataclass(frozen=True)
class ModeCoverage:
    """`modes`: components with at least a fifth of their due within 4 standard deviations;
    `high_quality`: share of all points within 4 standard deviations of their nearest mean."""

    modes: int
    high_quality: float


def mode_coverage(x: Float[Tensor, "n d"], mixture: Mixture) -> ModeCoverage:
    """Which components a cloud reaches, and how many of its points belong to one (as in the 25
    Gaussians of Srivastava et al. 2017, who took 3 deviations)."""
    x = _cloud(x)
    if x.shape[1] != mixture.means.shape[1]:
        raise ValueError(
            f"the cloud has {x.shape[1]} dimensions, the mixture {mixture.means.shape[1]}"
        )
    distance, nearest = torch.cdist(x, mixture.means).min(1)
    good = distance <= 4 * mixture.std[nearest]
    counts = torch.bincount(nearest[good], minlength=len(mixture.means))
    due = mixture.weights * len(x)
    return ModeCoverage(int((counts >= 0.2 * due).sum()), float(good.double().mean()))


@cache
def digit_judge() -> Callable[[Tensor], Tensor]:
    """A support vector machine that names digits: (n, 1, 8, 8) in [-1, 1] -> (n,) labels.

    Trained on held-out handwriting, which no generative model of the course sees.
    """
    from sklearn.svm import SVC

    data = digits.load("held_out")
    judge = SVC(gamma="scale", C=10).fit(data["x"].flatten(1).numpy(), data["y"].numpy())

    def name(images: Float[Tensor, "n 1 8 8"]) -> Int[Tensor, "n"]:
        return torch.from_numpy(judge.predict(images.flatten(1).detach().cpu().numpy()))

    return name


def evaluate_digits(system, scale: float, per_digit: int = 100, seed: int = 0) -> dict[str, float]:
    """Accuracy of the judge on `per_digit` drawn images of each digit, with its interval over
    images, low to high, and two measures of diversity, means over digits: the drawn images' mean
    distance within a digit over that of real ones, and their `neighbour_coverage` of real ones."""
    judge, real = digit_judge(), digits.load("train")
    right, spread, covered = [], [], []
    for digit, word in enumerate(WORDS):
        drawn = system.draw([word] * per_digit, seed=seed + digit * per_digit, guidance=scale)
        drawn = drawn[:, :1].cpu()
        right.append(judge(drawn) == digit)
        own = real["x"][real["y"] == digit]
        spread.append(mean_distance(drawn) / mean_distance(own))
        covered.append(neighbour_coverage(drawn, own))
    accuracy = proportion(torch.cat(right))
    figures = {
        "accuracy": accuracy.mean,
        "low": accuracy.low,
        "high": accuracy.high,
        "diversity": float(np.mean(spread)),
        "coverage": float(np.mean(covered)),
    }
    return {"guidance": scale, **{key: round(value, 4) for key, value in figures.items()}}


def neighbour_coverage(
    drawn: Float[Tensor, "n ..."], real: Float[Tensor, "m ..."], k: int = 5
) -> float:
    """Share of real samples that have a drawn one nearer than their k-th real neighbour
    (coverage of Naeem et al. 2020). As many fresh real samples reach about 1 - 2^(-k)."""
    if not 1 <= k < len(real):
        raise ValueError(f"k must lie between 1 and {len(real) - 1}, got {k}")
    drawn, real = drawn.flatten(1).double(), real.flatten(1).double()
    radius = torch.cdist(real, real).kthvalue(k + 1, dim=1).values  # the nearest is itself
    return float((torch.cdist(real, drawn).min(1).values < radius).double().mean())


def mean_distance(x: Float[Tensor, "n ..."]) -> float:
    """Mean Euclidean distance between two different samples of a cloud."""
    return float(torch.pdist(x.flatten(1).double()).mean())
