"""Densities in the plane: a swiss roll, two moons, and mixtures whose score is known exactly."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float, Int
from sklearn.datasets import make_moons, make_swiss_roll
from torch import Tensor

from ..schedule import Schedule


def _count(n: int) -> int:
    if n < 1:
        raise ValueError(f"n must be at least 1, got {n}")
    return int(n)


def _seed(rng: np.random.Generator) -> int:
    """A seed for scikit-learn's generators, which take integers."""
    return int(rng.integers(2**31))


@dataclass(frozen=True)
class SwissRoll:
    """The spiral (θ cos θ, θ sin θ), θ = 3π/2 (1 + 2u), u ~ U(0, 1), of scikit-learn, centred and
    scaled to unit variance (one scale for both axes), plus N(0, noise²) in each coordinate.

    Raises ValueError for a negative noise.
    """

    noise: float = 0.02

    def __post_init__(self):
        if not self.noise >= 0:
            raise ValueError(f"noise is a standard deviation of at least 0, got {self.noise}")

    @staticmethod
    def _spiral(theta: np.ndarray) -> np.ndarray:
        return np.stack([theta * np.cos(theta), theta * np.sin(theta)], axis=-1)

    @cached_property
    def _frame(self) -> tuple[np.ndarray, float]:
        """Centre and scale of the noiseless spiral, by quadrature over u."""
        u = (np.arange(100_000) + 0.5) / 100_000
        points = self._spiral(1.5 * np.pi * (1 + 2 * u))
        return points.mean(0), float(np.sqrt(points.var(0).mean()))

    def place(self, u: np.ndarray) -> np.ndarray:
        """Points of the curve at parameters u in [0, 1]."""
        centre, scale = self._frame
        return (self._spiral(1.5 * np.pi * (1 + 2 * np.asarray(u))) - centre) / scale

    @cached_property
    def curve(self) -> Float[Tensor, "m 2"]:
        """A fine polyline along the curve, u evenly spaced from 0 to 1."""
        return torch.from_numpy(self.place(np.linspace(0, 1, 2001))).float()

    def sample(self, n: int, rng: np.random.Generator) -> Float[Tensor, "n 2"]:
        """n points."""
        centre, scale = self._frame
        xyz, _ = make_swiss_roll(_count(n), noise=0.0, random_state=_seed(rng))
        points = (xyz[:, [0, 2]] - centre) / scale + self.noise * rng.standard_normal((n, 2))
        return torch.from_numpy(points).float()

    def project(self, x: Float[Tensor, "n 2"]) -> tuple[Float[Tensor, "n"], Float[Tensor, "n"]]:
        """Distance of each point to the curve, and the parameter u of its nearest point.

        Raises ValueError for points that are not in the plane.
        """
        if x.ndim != 2 or x.shape[1] != 2:
            raise ValueError(f"need points in the plane (n, 2), got shape {tuple(x.shape)}")
        a, b = self.curve[:-1].double(), self.curve[1:].double()
        x, distance, u = x.detach().cpu().double(), [], []
        for part in x.split(2048):  # bounds the memory of the table of distances
            near = torch.cdist(part, self.curve.double()).argmin(1)
            best = None
            for side in (near.clamp(max=len(a) - 1), (near - 1).clamp(min=0)):
                along = b[side] - a[side]
                share = ((part - a[side]) * along).sum(1) / along.square().sum(1)
                share = share.clamp(0, 1)
                far = (part - a[side] - share[:, None] * along).norm(dim=1)
                here = torch.stack([far, (side + share) / len(a)])
                best = here if best is None else torch.where(here[0] < best[0], here, best)
            distance.append(best[0])
            u.append(best[1])
        return torch.cat(distance).float(), torch.cat(u).float()


@dataclass(frozen=True)
class TwoMoons:
    """Two interleaved half circles (scikit-learn), centred, unit variance on average, with labels.

    noise   standard deviation before scaling
    """

    noise: float = 0.05

    def sample_labelled(
        self, n: int, rng: np.random.Generator
    ) -> tuple[Float[Tensor, "n 2"], Int[Tensor, "n"]]:
        """n points and the moon, 0 or 1, that each belongs to."""
        x, y = make_moons(_count(n), noise=self.noise, random_state=_seed(rng))
        x = (x - [0.5, 0.25]) / 0.705  # mean, and root of the mean variance, of the clean moons
        return torch.from_numpy(x).float(), torch.from_numpy(y).long()

    def sample(self, n: int, rng: np.random.Generator) -> Float[Tensor, "n 2"]:
        """n points."""
        return self.sample_labelled(n, rng)[0]


class Mixture:
    """A mixture of k isotropic Gaussians in d dimensions: density, score and denoiser are exact.

    means (k, d); std, one number or one for each component; weights, equal if None.
    Raises ValueError for a negative std or for weights that are not a probability vector.
    """

    def __init__(
        self,
        means: Float[Tensor, "k d"],
        std: float | Float[Tensor, "k"],
        weights: Float[Tensor, "_"] | None = None,
    ):
        self.means = torch.as_tensor(means, dtype=torch.float64)
        k = len(self.means)
        self.std = torch.as_tensor(std, dtype=torch.float64).expand(k).clone()
        self.weights = (
            torch.full((k,), 1 / k, dtype=torch.float64)
            if weights is None
            else torch.as_tensor(weights, dtype=torch.float64)
        )
        if (self.std < 0).any():
            raise ValueError(f"std must be at least 0, got {self.std.min():g}")
        if self.weights.shape != (k,) or (self.weights < 0).any():
            raise ValueError(f"weights must be {k} probabilities, got {self.weights.tolist()}")
        if abs(self.weights.sum().item() - 1) > 1e-6:
            raise ValueError(f"weights must sum to 1, got {self.weights.sum():g}")

    def sample_labelled(
        self, n: int, rng: np.random.Generator
    ) -> tuple[Float[Tensor, "n d"], Int[Tensor, "n"]]:
        """n points and the component that each came from."""
        y = torch.from_numpy(rng.choice(len(self.means), size=_count(n), p=self.weights.numpy()))
        noise = torch.from_numpy(rng.standard_normal((n, self.means.shape[1])))
        return (self.means[y] + self.std[y, None] * noise).float(), y

    def sample(self, n: int, rng: np.random.Generator) -> Float[Tensor, "n d"]:
        """n points."""
        return self.sample_labelled(n, rng)[0]

    def _log_joint(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n k"]:
        """log w_i + log N(x; m_i, s_i² I)."""
        square = (x.double()[:, None] - self.means).square().sum(-1)
        d = self.means.shape[1]
        gauss = -0.5 * square / self.std**2 - d * (self.std.log() + 0.5 * np.log(2 * np.pi))
        return self.weights.log() + gauss

    def log_prob(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n"]:
        """log p(x) in nats, differentiable."""
        return self._log_joint(x).logsumexp(1).to(x.dtype)

    def posterior(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n k"]:
        """Bayes' rule: the probability that x came from each component."""
        return self._log_joint(x).softmax(1).to(x.dtype)

    def score(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """∇ log p(x) = Σ_i p(i | x) (m_i - x)/s_i²."""
        pull = (self.means - x.double()[:, None]) / (self.std**2)[:, None]
        return (self._log_joint(x).softmax(1)[..., None] * pull).sum(1).to(x.dtype)

    def component(self, y: int) -> "Mixture":
        """The conditional density p(x | y): one component alone."""
        return Mixture(self.means[[y]], self.std[[y]])

    def diffused(self, schedule: Schedule, t: int) -> "Mixture":
        """The density of x_t when x_0 follows this one: a mixture again."""
        signal, noise = schedule.signal[t].cpu(), schedule.noise[t].cpu()
        std = ((signal * self.std) ** 2 + noise**2).sqrt()
        return Mixture(signal * self.means, std, self.weights)

    def denoiser(self, schedule: Schedule):
        """The exact denoiser E[x_0 | x_t] = (x_t + noise² ∇ log p_t(x_t))/signal (Tweedie).

        All samples of a call must stand at one t, as a sampler's do.
        """

        def denoise(x_t: Tensor, t: Tensor) -> Tensor:
            index = int(t[0])
            mixture = self.diffused(schedule, index)
            signal, noise = float(schedule.signal[index]), float(schedule.noise[index])
            if signal == 0:  # x_T holds no signal: the mean of the data is the best guess
                return (self.weights @ self.means).to(x_t.dtype).expand_as(x_t)
            return (x_t + noise**2 * mixture.score(x_t)) / signal

        return denoise


def grid25(std: float = 0.02) -> Mixture:
    """25 Gaussians on a 5×5 grid, the standard test for mode collapse, of unit variance.

    std   of each, in units of the whole
    """
    line = torch.arange(-2.0, 3.0) / 2**0.5  # the variance of -2 … 2 is 2
    return Mixture(torch.cartesian_prod(line, line), std)
