"""The variational autoencoder (Kingma and Welling 2014): a bound on the likelihood, in nats.

z ~ N(0, I),   x | z ~ N(decoder(z), σ² I),   q(z | x) = N(mean(x), diag exp(log_variance(x)))
log p(x) = ELBO(x) + KL(q(z | x) ‖ p(z | x)) ≥ ELBO(x)
"""

import math
from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..sample import start
from . import perceptron


def reparameterise(
    mean: Float[Tensor, "b k"], log_variance: Float[Tensor, "b k"], eps: Float[Tensor, "b k"]
) -> Float[Tensor, "b k"]:
    """z = mean + exp(log_variance / 2) ε: a sample of q with a gradient (§2.4)."""
    return mean + (log_variance / 2).exp() * eps


def kl_to_prior(
    mean: Float[Tensor, "b k"], log_variance: Float[Tensor, "b k"]
) -> Float[Tensor, "b"]:
    """KL(N(mean, exp(log_variance)) ‖ N(0, I)) = ½ Σ (mean² + e^lv - 1 - lv) (appendix B)."""
    return 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).sum(1)


def log_normal(
    x: Float[Tensor, "b d"], mean: Float[Tensor, "b d"], log_sigma: Float[Tensor, ""]
) -> Float[Tensor, "b"]:
    """log N(x; mean, σ² I) in nats, every constant included."""
    each = -0.5 * ((x - mean) / log_sigma.exp()) ** 2 - log_sigma - 0.5 * math.log(2 * math.pi)
    return each.sum(1)


class VAE(nn.Module):
    """Encoder and decoder: `forward(batch)` is the negative ELBO in nats per sample.

    encoder   (b, d) -> (b, 2 latent): the mean of q(z | x), then its log variance
    decoder   (b, latent) -> (b, d): the mean of p(x | z)
    sigma     the deviation of p(x | z); where `learned`, its value at the start, which must lie
              well below the data's: at the data's own, the latent is of no use and stays so

    Raises ValueError for a sigma that is not positive.
    """

    log_sigma: Float[Tensor, ""]

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        latent: int,
        sigma: float = 0.1,
        learned: bool = True,
    ):
        super().__init__()
        if not sigma > 0:
            raise ValueError(f"sigma is a standard deviation above 0, got {sigma}")
        self.encoder, self.decoder, self.latent = encoder, decoder, latent
        log_sigma = torch.tensor(math.log(sigma))
        if learned:
            self.log_sigma = nn.Parameter(log_sigma)
        else:
            self.register_buffer("log_sigma", log_sigma)

    def encode(
        self, x: Float[Tensor, "b d"]
    ) -> tuple[Float[Tensor, "b latent"], Float[Tensor, "b latent"]]:
        """Mean and log variance of q(z | x). Raises ValueError unless the encoder gives both."""
        both = self.encoder(x)
        if both.shape[1] != 2 * self.latent:
            raise ValueError(
                f"the encoder must give {2 * self.latent} numbers a sample, the mean and log "
                f"variance of {self.latent} latents; it gave {both.shape[1]}"
            )
        mean, log_variance = both.chunk(2, dim=1)
        return mean, log_variance

    def elbo(
        self, x: Float[Tensor, "b d"], eps: Float[Tensor, "b latent"] | None = None
    ) -> Float[Tensor, "b"]:
        """E_q[log p(x | z)] - KL(q(z | x) ‖ p(z)), the expectation by one draw of ε (eq. 10)."""
        mean, log_variance = self.encode(x)
        eps = torch.randn_like(mean) if eps is None else eps
        z = reparameterise(mean, log_variance, eps)
        return log_normal(x, self.decoder(z), self.log_sigma) - kl_to_prior(mean, log_variance)

    def forward(self, batch: Mapping[str, Tensor]) -> Float[Tensor, ""]:
        """The loss: -ELBO in nats, averaged over the batch."""
        return -self.elbo(batch["x"]).mean()

    @torch.no_grad()
    def sample(
        self, n: int, generator: torch.Generator | None = None, noise: bool = True
    ) -> Float[Tensor, "n d"]:
        """n draws from the model whose ELBO is reported: decoder(z) + σ ε. Without `noise` the
        decoder's means alone, which are another distribution."""
        z = start((n, self.latent), generator).to(self.log_sigma)
        mean = self.decoder(z)
        if not noise:
            return mean
        return mean + self.log_sigma.exp() * start(mean.shape, generator).to(mean)


def vae(
    dim: int,
    latent: int,
    width: int,
    depth: int = 3,
    sigma: float = 0.1,
    learned: bool = True,
) -> VAE:
    """A VAE of two perceptrons."""
    encoder = perceptron(dim, 2 * latent, width, depth)
    return VAE(encoder, perceptron(latent, dim, width, depth), latent, sigma, learned)
