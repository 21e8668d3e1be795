"""Generative adversarial networks (Goodfellow et al. 2014): a game instead of a likelihood.

    min_G max_D  E log D(x) + E log(1 - D(G(z))),   with the non-saturating loss for G (§3)

D is a logit here: D(x) = sigmoid(discriminator(x)), log D = -softplus(-logit).
"""

import copy
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import softplus

from ..sample import start
from . import perceptron


def optimal_discriminator(p: Float[Tensor, "..."], q: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """D*(x) = p(x)/(p(x) + q(x)), for data density p and generator density q (proposition 1)."""
    return p / (p + q)


def discriminator_loss(real: Float[Tensor, "b"], fake: Float[Tensor, "n"]) -> Float[Tensor, ""]:
    """-E log D(x) - E log(1 - D(G(z))) from logits (algorithm 1); log 4 where D = ½."""
    return softplus(-real).mean() + softplus(fake).mean()


def generator_loss(fake: Float[Tensor, "n"], saturating: bool = False) -> Float[Tensor, ""]:
    """-E log D(G(z)) from logits; `saturating` gives E log(1 - D(G(z))), the game's own (§3)."""
    return -softplus(fake).mean() if saturating else softplus(-fake).mean()


class GAN(nn.Module):
    """Generator and discriminator. There is no `forward`: a game has two losses, not one.

    generator       (n, latent) -> (n, d)
    discriminator   (n, d) -> (n, 1) logits

    Raises ValueError where the discriminator gives more than one logit a sample.
    """

    def __init__(self, generator: nn.Module, discriminator: nn.Module, latent: int):
        super().__init__()
        self.generator, self.discriminator, self.latent = generator, discriminator, latent

    def logit(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n"]:
        """log D(x)/(1 - D(x))."""
        out = self.discriminator(x)
        if out.shape != (len(x), 1):
            raise ValueError(f"one logit a sample: (n, 1), got shape {tuple(out.shape)}")
        return out[:, 0]

    def discriminator_step(
        self, real: Float[Tensor, "b d"], z: Float[Tensor, "n latent"]
    ) -> Float[Tensor, ""]:
        """D's loss. The fakes are detached: G does not learn to be recognised."""
        return discriminator_loss(self.logit(real), self.logit(self.generator(z).detach()))

    def generator_step(
        self, z: Float[Tensor, "n latent"], saturating: bool = False
    ) -> Float[Tensor, ""]:
        """G's loss. Nothing is detached: its gradient arrives through D."""
        return generator_loss(self.logit(self.generator(z)), saturating)

    def noise(self, n: int, generator: torch.Generator | None = None) -> Float[Tensor, "n latent"]:
        """z ~ N(0, I)."""
        like = next(self.generator.parameters())
        return start((n, self.latent), generator).to(like)

    @torch.no_grad()
    def sample(self, n: int, generator: torch.Generator | None = None) -> Float[Tensor, "n d"]:
        """n draws: one evaluation of G."""
        return self.generator(self.noise(n, generator))


@dataclass(frozen=True)
class Round:
    """One round of the game: its index from 1, both losses, and the GAN with averaged weights."""

    index: int
    generator_loss: float
    discriminator_loss: float
    ema: GAN


def train_gan(
    gan: GAN,
    data: Mapping[str, Tensor] | Callable[[int, np.random.Generator], Mapping[str, Tensor]],
    steps: int,
    batch: int = 256,
    lr: float = 1e-3,
    ema: float = 0.999,
    seed: int = 0,
    saturating: bool = False,
) -> Iterator[Round]:
    """One step of D, one step of G, in turn (algorithm 1, k = 1); yields after each round.

    Two Adams with β₁ = 0.5 (Radford et al. 2016), the rates falling to zero along a cosine.
    Exhausted, it leaves the averaged weights in `gan`, as `train` does.
    Raises ValueError for fewer than one step and for losses that are not finite.
    """
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")
    rng, noise = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    average = copy.deepcopy(gan).requires_grad_(False).eval()
    device = next(gan.parameters()).device
    players = (gan.discriminator, gan.generator)
    d_optimizer, g_optimizer = (
        torch.optim.Adam(player.parameters(), lr=lr, betas=(0.5, 0.999), foreach=True)
        for player in players
    )
    for step in range(steps):
        if callable(data):
            real = data(batch, rng)["x"].to(device)
        else:
            real = data["x"][torch.from_numpy(rng.integers(len(data["x"]), size=batch))].to(device)
        for optimizer in (d_optimizer, g_optimizer):
            optimizer.param_groups[0]["lr"] = lr * 0.5 * (1 + math.cos(math.pi * step / steps))

        d_loss = gan.discriminator_step(real, gan.noise(batch, noise))
        d_optimizer.zero_grad()
        d_loss.backward()
        d_optimizer.step()

        g_loss = gan.generator_step(gan.noise(batch, noise), saturating)
        g_optimizer.zero_grad()
        g_loss.backward()  # leaves gradients in D too; they are cleared before D's next step
        g_optimizer.step()

        d_value, g_value = d_loss.item(), g_loss.item()
        if not (math.isfinite(d_value) and math.isfinite(g_value)):
            raise ValueError(f"round {step + 1}: the losses are {d_value} and {g_value}: lower lr")
        with torch.no_grad():
            decay = min(ema, (1 + step) / (10 + step))
            torch._foreach_lerp_(list(average.parameters()), list(gan.parameters()), 1 - decay)
        yield Round(step + 1, g_value, d_value, average)
    gan.load_state_dict(average.state_dict())
    gan.eval()


def gan(dim: int, latent: int, width: int, depth: int = 3) -> GAN:
    """A GAN of two perceptrons."""
    generator = perceptron(latent, dim, width, depth)
    return GAN(generator, perceptron(dim, 1, width, depth), latent)
