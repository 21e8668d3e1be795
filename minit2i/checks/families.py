"""Checks of lesson 04: four families."""

import math

import torch
from torch.nn.functional import softplus

from minit2i.checks.judge import Mistake, described, equal, exercise, holds, raw, shape

# --- reparameterised ----------------------------------------------------------------------------


def _gradient(output, *inputs):
    """Gradients of the summed output; zeros where none arrives."""
    if not isinstance(output, torch.Tensor) or not output.requires_grad:
        return [torch.zeros_like(i) for i in inputs]
    grads = torch.autograd.grad(output.sum(), inputs, allow_unused=True, retain_graph=True)
    return [torch.zeros_like(i) if g is None else g for g, i in zip(grads, inputs, strict=True)]


@exercise(
    disables=["minit2i.families.vae.reparameterise"],
    mistakes=[
        Mistake(
            "the variance stands where the standard deviation belongs",
            "what multiplies eps is a standard deviation: is exp(log_variance) one?",
            wrong=lambda mean, log_variance, eps: mean + log_variance.exp() * eps,
        ),
        Mistake(
            "the log variance multiplies the noise as it is",
            "a log variance may be negative: how does a standard deviation come out of it?",
            wrong=lambda mean, log_variance, eps: mean + log_variance * eps,
        ),
        Mistake(
            "the half stands outside the exponential",
            "square what multiplies eps: is exp(log_variance) what comes out?",
            wrong=lambda mean, log_variance, eps: mean + 0.5 * log_variance.exp() * eps,
        ),
        Mistake(
            "the root is taken of the logarithm",
            "which of the two has a root that is a deviation: the variance or its logarithm?",
            wrong=lambda mean, log_variance, eps: mean + log_variance.abs().sqrt() * eps,
        ),
        Mistake(
            "the mean is scaled along with the noise",
            "at eps = 0 the mean should come back, whatever the variance",
            wrong=lambda mean, log_variance, eps: (mean + eps) * (log_variance / 2).exp(),
        ),
        Mistake(
            "the noise is left out",
            "what is returned should be a draw, and this is the mean of the draws",
            wrong=lambda mean, log_variance, eps: mean,
        ),
        Mistake(
            "the mean is left out",
            "at eps = 0 the mean should come back",
            wrong=lambda mean, log_variance, eps: (log_variance / 2).exp() * eps,
        ),
        Mistake(
            "fresh noise is drawn instead of using eps",
            "the noise is handed in, so that the function itself holds no chance",
            wrong=lambda mean, log_variance, eps: (
                mean + (log_variance / 2).exp() * torch.randn_like(eps)
            ),
        ),
        Mistake(
            "the sign of the log variance is turned round",
            "a larger variance should spread the draws, not gather them",
            wrong=lambda mean, log_variance, eps: mean + (-log_variance / 2).exp() * eps,
        ),
    ],
)
def reparameterised(answer, draw):
    """z = mean + exp(log_variance / 2) ε, with its gradient, from three tensors (b, k)."""
    b = draw.integer(3, 6)
    mean, eps = draw.normal(b, 2) + 1, draw.normal(b, 2)
    log_variance = draw.uniform(-2, 1, b, 2)
    equal(answer(mean, log_variance, 0 * eps), mean, "without noise, z is the mean")
    z = answer(mean, log_variance, eps)
    equal(
        z,
        mean + (0.5 * log_variance).exp() * eps,
        "z is a draw of N(mean, exp(log_variance)), made from eps",
    )
    mean, log_variance = mean.requires_grad_(), log_variance.requires_grad_()
    z = answer(mean, log_variance, eps)
    by_mean, by_log_variance = _gradient(z, mean, log_variance)
    equal(by_mean, torch.ones_like(mean), "the gradient reaches the mean")
    expected = (0.5 * (0.5 * log_variance).exp() * eps).detach()
    equal(by_log_variance, expected, "the gradient reaches the log variance")


# --- elbo ---------------------------------------------------------------------------------------


def _elbo(x, mean, log_variance, decode, sigma, eps, *, kl=None, fit=None, z=None, sign=-1, turn=1):
    """The ELBO with one part exchanged."""
    z = mean + (0.5 * log_variance).exp() * eps if z is None else z(mean, log_variance, eps)
    square, d = (x - decode(z)).square().sum(1), x.shape[1]
    constant = d * (math.log(sigma) + 0.5 * math.log(2 * math.pi))
    fitted = -0.5 * square / sigma**2 - constant if fit is None else fit(square, sigma, d)
    each = mean**2 + log_variance.exp() - 1 - log_variance
    cost = 0.5 * each.sum(1) if kl is None else kl(mean, log_variance, each)
    return turn * (fitted + sign * cost)


def _drawn(eps):
    """log q(z | x) - log p(z) at the draw: unbiased for the KL divergence, and noisy."""

    def estimate(mean, log_variance, each):
        z = mean + (0.5 * log_variance).exp() * eps
        return 0.5 * (z**2 - eps**2 - log_variance).sum(1)

    return estimate


def _with(**part):
    def wrong(x, mean, log_variance, decode, sigma, eps):
        return _elbo(x, mean, log_variance, decode, sigma, eps, **part)

    return wrong


def _gauss(square, sigma, d):
    return -0.5 * square / sigma**2 - d * (math.log(sigma) + 0.5 * math.log(2 * math.pi))


@exercise(
    disables=[
        "minit2i.families.vae.VAE.elbo",
        "minit2i.families.vae.kl_to_prior",
        "minit2i.families.vae.log_normal",
        "minit2i.families.vae.reparameterise",
    ],
    mistakes=[
        Mistake(
            "the KL divergence is added",
            "the bound must lie below log p(x): which sign does a price have?",
            wrong=_with(sign=1),
        ),
        Mistake(
            "the negative of the bound is returned",
            "the loss is the negative ELBO; here the ELBO itself is asked for",
            wrong=_with(turn=-1),
        ),
        Mistake(
            "the log variance is read as a log standard deviation in the KL divergence",
            "which power of the deviation does exp(log_variance) give?",
            wrong=_with(kl=lambda m, lv, _: 0.5 * (m**2 + (2 * lv).exp() - 1 - 2 * lv).sum(1)),
        ),
        Mistake(
            "the standard deviation stands for the variance in the KL divergence",
            "what is e^l in (6): a deviation or a variance?",
            wrong=_with(kl=lambda m, lv, _: 0.5 * (m**2 + (lv / 2).exp() - 1 - lv).sum(1)),
        ),
        Mistake(
            "the sample is spread by the variance",
            "how did z come out of mean, log_variance and eps in the last exercise?",
            wrong=_with(z=lambda m, lv, e: m + lv.exp() * e),
        ),
        Mistake(
            "the decoder gets the mean instead of a sample",
            "the expectation is over z drawn from q; where does eps enter?",
            wrong=_with(z=lambda m, lv, e: m),
        ),
        Mistake(
            "the decoder gets the noise itself",
            "z is a draw of q(z | x): the last exercise makes it from eps",
            wrong=_with(z=lambda m, lv, e: e),
        ),
        Mistake(
            "the KL divergence is estimated from the draw",
            "right on average, but equation (6) gives it exactly, without any draw",
            wrong=lambda x, mean, log_variance, decode, sigma, eps: _elbo(
                x, mean, log_variance, decode, sigma, eps, kl=_drawn(eps)
            ),
        ),
        Mistake(
            "the -1 is missing from the KL divergence",
            "what must the divergence be where q is the prior?",
            wrong=_with(kl=lambda m, lv, each: 0.5 * (each + 1).sum(1)),
        ),
        Mistake(
            "the log variance has the wrong sign in the KL divergence",
            "the divergence is least at variance 1: does yours grow on both sides?",
            wrong=_with(kl=lambda m, lv, each: 0.5 * (each + 2 * lv).sum(1)),
        ),
        Mistake(
            "the KL divergence runs the other way",
            "KL(q ‖ p) averages over q: whose variance may then stand in a denominator?",
            wrong=_with(kl=lambda m, lv, _: 0.5 * ((1 + m**2) / lv.exp() - 1 + lv).sum(1)),
        ),
        Mistake(
            "the KL divergence lacks its half",
            "compare with a case you know: N(1, 1) against N(0, 1) is 1/2",
            wrong=_with(kl=lambda m, lv, each: each.sum(1)),
        ),
        Mistake(
            "the KL divergence is averaged over the latents",
            "(6) adds up the coordinates: is that a sum or a mean?",
            wrong=_with(kl=lambda m, lv, each: 0.5 * each.mean(1)),
        ),
        Mistake(
            "the KL divergence is left out",
            "reconstruction alone is no bound on log p(x): what does (5) take away?",
            wrong=_with(kl=lambda m, lv, each: 0 * each.sum(1)),
        ),
        Mistake(
            "the squared error stands without sigma",
            "a squared error is no likelihood: write the log of the whole density",
            wrong=_with(fit=lambda square, sigma, d: -square),
        ),
        Mistake(
            "the constants of the Gaussian are dropped",
            "nats are compared with every constant in place: write the log of the whole density",
            wrong=_with(fit=lambda square, sigma, d: -0.5 * square / sigma**2),
        ),
        Mistake(
            "the 2 pi of the Gaussian is dropped",
            "write the log of the whole density",
            wrong=_with(
                fit=lambda square, sigma, d: -0.5 * square / sigma**2 - d * math.log(sigma)
            ),
        ),
        Mistake(
            "sigma is not squared",
            "which power of sigma stands in the exponent of a Gaussian?",
            wrong=_with(
                fit=lambda square, sigma, d: _gauss(square * sigma, sigma, d),
            ),
        ),
        Mistake(
            "sigma stands without its square in the constant",
            "write down a Gaussian density: which power of sigma stands before the exponential?",
            wrong=_with(
                fit=lambda square, sigma, d: (
                    -0.5 * square / sigma**2 - 0.5 * d * math.log(2 * math.pi * sigma)
                ),
            ),
        ),
        Mistake(
            "the constants are counted once instead of once a dimension",
            "the density of d independent coordinates is a product of d factors",
            wrong=_with(
                fit=lambda square, sigma, d: -0.5 * square / sigma**2 + _gauss(0 * square, sigma, 1)
            ),
        ),
        Mistake(
            "the likelihood is averaged over the dimensions",
            "the log of a product is a sum",
            wrong=_with(fit=lambda square, sigma, d: _gauss(square, sigma, d) / d),
        ),
    ],
)
def elbo(answer, draw):
    """The ELBO in nats of each sample, from x (b, d), mean, log_variance and eps (b, k)."""
    b, d, k = draw.integer(4, 7), 3, 2
    weight, offset = draw.normal(k, d), draw.normal(d)

    def decode(z):
        return z @ weight + offset

    x, mean, eps = draw.normal(b, d), draw.normal(b, k), draw.normal(b, k)
    log_variance, sigma = draw.uniform(-1.5, 1, b, k), draw.uniform(0.3, 0.8)
    got = answer(x, mean, log_variance, decode, sigma, eps)
    shape(got, (b,), "there is one number for each sample")
    z = mean + (0.5 * log_variance).exp() * eps
    normal = torch.distributions.Normal
    fit = normal(decode(z), sigma).log_prob(x).sum(1)
    q = normal(mean, (0.5 * log_variance).exp())
    cost = torch.distributions.kl_divergence(q, normal(0 * mean, 1 + 0 * mean)).sum(1)
    equal(got, fit - cost, "the ELBO is log p(x | z) minus the KL divergence, in nats")
    at_prior = answer(x, 0 * mean, 0 * mean, decode, sigma, eps)
    fit = normal(decode(eps), sigma).log_prob(x).sum(1)
    equal(at_prior, fit, "where q is the prior, the KL divergence costs nothing")
    x1, w, s = draw.normal(1, 1), 1.5, 0.5
    total = w**2 + s**2
    nodes = torch.tensor([[-(3**0.5)], [0.0], [3**0.5]], dtype=torch.float64)
    values = answer(
        x1.expand(3, 1),
        (w * x1 / total).expand(3, 1),
        torch.full((3, 1), math.log(s**2 / total), dtype=torch.float64),
        lambda z: w * z,
        s,
        nodes,
    )
    weights = torch.tensor([1 / 6, 2 / 3, 1 / 6], dtype=torch.float64)  # Gauss-Hermite, exact here
    log_p = normal(0.0, total**0.5).log_prob(x1).sum()
    equal((values * weights).sum(), log_p, "with the exact posterior the bound is log p(x)")


# --- coupling -----------------------------------------------------------------------------------


def _coupling(
    x, mask, net, inverse=False, *, seen=None, free=None, swap=False, det=None, back=None, flip=-1
):
    """A coupling layer with one part exchanged."""
    free = 1 - mask if free is None else free(mask)
    first, second = net(mask * x if seen is None else seen(mask, x)).chunk(2, dim=1)
    s, t = (second, first) if swap else (first, second)
    s, t = free * s, free * t
    total = s.sum(1) if det is None else det(s, first, mask)
    if not inverse:
        return x * s.exp() + t, total
    y = (x - t) * (-s).exp() if back is None else back(x, s, t)
    return y, flip * total


def _unmasked(x, mask, net, inverse, shift):
    """The layer with the mask missing from the shift or from the scale."""
    s, t = net(mask * x).chunk(2, dim=1)
    s, t = ((1 - mask) * s, t) if shift else (s, (1 - mask) * t)
    return ((x - t) * (-s).exp(), -s.sum(1)) if inverse else (x * s.exp() + t, s.sum(1))


def _shift_first(x, mask, net, inverse):
    """(x + t) e^s, and its inverse."""
    s, t = net(mask * x).chunk(2, dim=1)
    s, t = (1 - mask) * s, (1 - mask) * t
    return (x * (-s).exp() - t, -s.sum(1)) if inverse else ((x + t) * s.exp(), s.sum(1))


def _layer(**part):
    def wrong(x, mask, net, inverse=False):
        return _coupling(x, mask, net, inverse, **part)

    return wrong


@exercise(
    disables=[
        "minit2i.families.flow.Coupling.forward",
        "minit2i.families.flow.Coupling.inverse",
        "minit2i.families.flow.Coupling.scale_shift",
    ],
    mistakes=[
        Mistake(
            "the sign of the log-determinant is flipped",
            "a layer that doubles a coordinate has log-determinant +log 2",
            wrong=_layer(det=lambda s, raw, mask: -s.sum(1)),
        ),
        Mistake(
            "the log-determinant counts the coordinates that stay as they are",
            "what does the Jacobian's diagonal hold for a coordinate that does not change?",
            wrong=_layer(det=lambda s, raw, mask: raw.sum(1)),
        ),
        Mistake(
            "the log-determinant sums exp(s) instead of s",
            "the logarithm of a product of exponentials is a sum: of what?",
            wrong=_layer(det=lambda s, raw, mask: ((1 - mask) * s.exp()).sum(1)),
        ),
        Mistake(
            "the determinant is returned without its logarithm",
            "a product of scales is returned, where (10) has a sum",
            wrong=_layer(det=lambda s, raw, mask: s.sum(1).exp()),
        ),
        Mistake(
            "the log-determinant is averaged over the coordinates",
            "the determinant of a triangular matrix is a product over its whole diagonal",
            wrong=_layer(det=lambda s, raw, mask: s.mean(1)),
        ),
        Mistake(
            "the network sees the coordinates that change",
            "the inverse must be able to compute s and t again: from what?",
            wrong=_layer(seen=lambda mask, x: x),
        ),
        Mistake(
            "the network sees the changed half instead of the kept one",
            "is the mask 1 where a coordinate is kept, or where it changes?",
            wrong=_layer(seen=lambda mask, x: (1 - mask) * x),
        ),
        Mistake(
            "the mask is read the other way round",
            "is the mask 1 where a coordinate is kept, or where it changes?",
            wrong=_layer(seen=lambda mask, x: (1 - mask) * x, free=lambda mask: mask),
        ),
        Mistake(
            "every coordinate is scaled and shifted",
            "the kept coordinates must come through unchanged: what does 1 - m do in (9)?",
            wrong=_layer(free=lambda mask: torch.ones_like(mask)),
        ),
        Mistake(
            "the kept coordinates are shifted",
            "the kept coordinates must come through unchanged: what does 1 - m multiply in (9)?",
            wrong=lambda x, mask, net, inverse=False: _unmasked(x, mask, net, inverse, shift=True),
        ),
        Mistake(
            "the kept coordinates are scaled",
            "the kept coordinates must come through unchanged: what does 1 - m multiply in (9)?",
            wrong=lambda x, mask, net, inverse=False: _unmasked(x, mask, net, inverse, shift=False),
        ),
        Mistake(
            "the shift comes before the scale",
            "a good layer, but not that of (9): what is added last there?",
            wrong=lambda x, mask, net, inverse=False: _shift_first(x, mask, net, inverse),
        ),
        Mistake(
            "scale and shift are swapped",
            "in which order does the network give the two?",
            wrong=_layer(swap=True),
        ),
        Mistake(
            "the inverse undoes the scale before the shift",
            "what was done last must be undone first",
            wrong=_layer(back=lambda y, s, t: y * (-s).exp() - t),
        ),
        Mistake(
            "the inverse scales the same way as the layer",
            "what undoes a multiplication by exp(s)?",
            wrong=_layer(back=lambda y, s, t: (y - t) * s.exp()),
        ),
        Mistake(
            "the inverse has the log-determinant of the layer",
            "what the layer stretches the inverse shrinks",
            wrong=_layer(flip=1),
        ),
        Mistake(
            "inverse=True changes nothing",
            "the last argument asks for the way back",
            wrong=lambda x, mask, net, inverse=False: _coupling(x, mask, net),
        ),
    ],
)
def coupling(answer, draw):
    """y and log |det ∂y/∂x| of an affine coupling, and of its inverse, from x (b, d), mask (d,)."""
    for d in (2, 5):
        b = draw.integer(3, 6)
        inner, outer = draw.normal(d, 7) / d**0.5, draw.normal(7, 2 * d) / 4
        offset = (draw.normal(2 * d) / 2).requires_grad_()
        mask = torch.zeros(d, dtype=torch.float64)
        mask[draw.numpy.permutation(d)[: d // 2]] = 1

        def net(kept, inner=inner, outer=outer, offset=offset):
            return (kept @ inner).tanh() @ outer + offset

        x = draw.normal(b, d)
        got = answer(x, mask, net)
        if not isinstance(got, tuple | list) or len(got) != 2:
            claim = "two values come back: y and the log-determinant"
            holds(False, claim, got=described(raw(got)))
            return
        s, t = net(x * mask).split(d, dim=1)
        change = mask == 0
        y = torch.where(change, x * s.exp() + t, x)
        log_det = s[:, change].sum(1)
        equal(got[0], y, "the kept coordinates stay, the others are scaled and shifted")
        jacobian = torch.autograd.functional.jacobian(
            lambda p, mask=mask, net=net: _coupling(p[None], mask, net)[0][0], x[0]
        )
        by_autograd = torch.linalg.slogdet(jacobian)[1]
        equal(
            got[1],
            log_det,
            "the log-determinant is that of the Jacobian, one number for each sample",
        )
        equal(got[1][0], by_autograd, "autograd's Jacobian has the same log-determinant")
        learns = _gradient(got[0].sum(1) + got[1], offset)[0]
        expected = torch.autograd.grad((y.sum(1) + log_det).sum(), offset, retain_graph=True)[0]
        equal(learns, expected, "the network learns through y and the log-determinant")
        back = answer(y, mask, net, inverse=True)
        equal(back[0], x, "the inverse undoes the layer", tol=1e-9)
        equal(back[1], -log_det, "the inverse's log-determinant is the layer's, negated")
        other = draw.normal(b, d)
        s, t = net(other * mask).split(d, dim=1)
        expected = torch.where(change, (other - t) * (-s).exp(), other)
        equal(answer(other, mask, net, inverse=True)[0], expected, "the inverse works anywhere")


# --- optimal_discriminator ----------------------------------------------------------------------


@exercise(
    disables=["minit2i.families.gan.optimal_discriminator"],
    mistakes=[
        Mistake(
            "data and generator are swapped",
            "D is the probability that x is real: what should it be where only p puts mass?",
            wrong=lambda p, q: q / (p + q),
        ),
        Mistake(
            "the ratio p/q is returned",
            "D is a probability: where is the derivative of p log D + q log(1 - D) zero?",
            wrong=lambda p, q: p / q,
        ),
        Mistake(
            "the logit is returned",
            "this may be any number, and D lies between 0 and 1",
            wrong=lambda p, q: (p / q).log(),
        ),
        Mistake(
            "the discriminator decides instead of weighing",
            "a hard decision has an infinite loss wherever it is wrong",
            wrong=lambda p, q: (p > q).to(p.dtype),
        ),
        Mistake(
            "p is compared with the average of both",
            "at p = q the two are equally likely",
            wrong=lambda p, q: 2 * p / (p + q),
        ),
        Mistake(
            "a softmax of the densities is taken",
            "a softmax takes logits, and densities are none",
            wrong=lambda p, q: (p - q).sigmoid(),
        ),
    ],
)
def optimal_discriminator(answer, draw):
    """D*(x) = p(x)/(p(x) + q(x)) (Goodfellow et al. 2014, proposition 1), tensors of any shape."""
    p, q = draw.normal(6).softmax(0), draw.normal(6).softmax(0)
    best = answer(p, q)
    equal(
        answer(p, p),
        torch.full((6,), 0.5, dtype=torch.float64),
        "at p = q the discriminator cannot tell",
    )
    shape(best, (6,), "there is one value for each point")
    slope = p / best - q / (1 - best)
    equal(
        slope, torch.zeros_like(p), "no change of D raises p log D + q log(1 - D): its slope is 0"
    )
    zero = torch.zeros(2, dtype=torch.float64)
    equal(answer(p[:2], zero), zero + 1, "where only the data lies, D is sure")
    equal(answer(zero, q[:2]), zero, "where only the generator lies, D is sure")
    p, q = draw.uniform(0.1, 3, 4, 3), draw.uniform(0.1, 3, 4, 3)
    odds = answer(p, q) / (1 - answer(p, q))
    equal(odds, p / q, "its odds are p : q, on tables of densities too")


# --- gan_losses ---------------------------------------------------------------------------------


class _Player:
    """A small generator that remembers what happened to its gradient."""

    def __init__(self, weight):
        self.weight = weight.requires_grad_()
        self.leaks = self.cut = False

    def __call__(self, z):
        return (z @ self.weight).tanh()


def _losses(logit, generator, real, z, *, d=None, g=None):
    """Both losses with one exchanged."""
    seen, fake = logit(real), logit(generator(z))
    unseen = logit(generator(z).detach())
    first = softplus(-seen).mean() + softplus(unseen).mean() if d is None else d(seen, unseen)
    return first, softplus(-fake).mean() if g is None else g(fake)


def _game(**part):
    def wrong(logit, generator, real, z):
        return _losses(logit, generator, real, z, **part)

    return wrong


@exercise(
    disables=[
        "minit2i.families.gan.discriminator_loss",
        "minit2i.families.gan.generator_loss",
        "minit2i.families.gan.GAN.discriminator_step",
        "minit2i.families.gan.GAN.generator_step",
    ],
    mistakes=[
        Mistake(
            "the two losses are returned the other way round",
            "whose loss comes first in the docstring?",
            wrong=lambda logit, generator, real, z: _losses(logit, generator, real, z)[::-1],
        ),
        Mistake(
            "the discriminator's loss reaches the generator",
            "the generator must not learn to be recognised: cut the graph between them",
            when=lambda calls: calls[0].args[1].leaks,
        ),
        Mistake(
            "the generator's loss does not reach the generator",
            "its gradient has to arrive through the discriminator: where was the graph cut?",
            when=lambda calls: calls[0].args[1].cut,
        ),
        Mistake(
            "the generator's loss is the saturating one",
            "when D is sure that a fake is fake, how large is the gradient?",
            wrong=_game(g=lambda fake: -softplus(fake).mean()),
        ),
        Mistake(
            "the generator helps the discriminator",
            "a low loss of G means that D takes its samples for real",
            wrong=_game(g=lambda fake: softplus(fake).mean()),
        ),
        Mistake(
            "real and fake are swapped",
            "D(x) is the probability that x is real",
            wrong=_game(d=lambda real, fake: softplus(real).mean() + softplus(-fake).mean()),
        ),
        Mistake(
            "the discriminator's value is returned instead of its loss",
            "an optimiser minimises, and D plays for a high value",
            wrong=_game(d=lambda real, fake: -softplus(-real).mean() - softplus(fake).mean()),
        ),
        Mistake(
            "the two parts of the discriminator's loss are averaged",
            "the value of the game is a sum: at D = 1/2 the loss is log 4",
            wrong=_game(d=lambda r, f: 0.5 * (softplus(-r).mean() + softplus(f).mean())),
        ),
        Mistake(
            "real and fake samples are averaged together",
            "there need not be as many real as fake samples: each has its own expectation",
            wrong=_game(d=lambda r, f: torch.cat([softplus(-r), softplus(f)]).mean()),
        ),
        Mistake(
            "the losses are sums over the batch",
            "does an expectation grow with the number of samples?",
            wrong=_game(
                d=lambda r, f: softplus(-r).sum() + softplus(f).sum(),
                g=lambda f: softplus(-f).sum(),
            ),
        ),
        Mistake(
            "the discriminator sees no fakes",
            "one who only ever sees real samples can say real to everything",
            wrong=_game(d=lambda r, f: softplus(-r).mean()),
        ),
        Mistake(
            "the discriminator calls fakes real too",
            "whose label is 1, and whose 0? What does D's second term reward?",
            wrong=_game(d=lambda r, f: softplus(-r).mean() + softplus(-f).mean()),
        ),
        Mistake(
            "the logits stand in the losses without sigmoid and logarithm",
            "that is another game (the Wasserstein GAN's): what stands around D in (12)?",
            wrong=_game(d=lambda r, f: f.mean() - r.mean(), g=lambda f: -f.mean()),
        ),
        Mistake(
            "probabilities are averaged, not their logarithms",
            "what stands around D in (12)?",
            wrong=_game(
                d=lambda r, f: -r.sigmoid().mean() - (1 - f.sigmoid()).mean(),
                g=lambda f: -f.sigmoid().mean(),
            ),
        ),
    ],
)
def gan_losses(answer, draw):
    """D's loss and G's non-saturating loss from logits, real (b, d) and noise z (n, k)."""
    d, k, b = 2, 3, draw.integer(4, 7)
    n = b + 2
    direction, bias = draw.normal(d), draw.uniform(0.3, 1.5)
    generator = _Player(draw.normal(k, d))
    slope = direction.clone().requires_grad_()

    def logit(x):
        return 2 * (x @ slope) + bias

    real, z = draw.normal(b, d) + 0.5, draw.normal(n, k)
    got = answer(logit, generator, real, z)
    if not isinstance(got, tuple | list) or len(got) != 2:
        holds(
            False,
            "two values come back: the discriminator's loss and the generator's",
            got=described(raw(got)),
        )
        return
    p, q = (2 * (x @ direction) + bias for x in (real, generator(z).detach()))
    p, q = 1 / (1 + (-p).exp()), 1 / (1 + (-q).exp())
    values = equal(
        got[0],
        -p.log().mean() - (1 - q).log().mean(),
        "D's loss is the negative of the game's value (12)",
    )
    values &= equal(got[1], -q.log().mean(), "G's loss is the non-saturating one")
    leak = _gradient(got[0], generator.weight)[0]
    push = _gradient(got[1], generator.weight)[0]
    # Where the values are wrong too, the gradients explain nothing.
    generator.leaks = values and bool(leak.abs().max() > 1e-9)
    generator.cut = values and bool(push.abs().max() < 1e-9)
    equal(leak, torch.zeros_like(leak), "the discriminator's loss moves the discriminator alone")
    expected = torch.autograd.grad(softplus(-logit(generator(z))).mean(), generator.weight)[0]
    equal(push, expected, "the generator's gradient arrives through the discriminator")
    theirs = softplus(-logit(real)).mean() + softplus(logit(generator(z).detach())).mean()
    expected = torch.autograd.grad(theirs, slope)[0]
    equal(
        _gradient(got[0], slope)[0], expected, "D's loss teaches D from real and from fake samples"
    )
    far = answer(lambda x: 0 * logit(x) - 800, generator, real, z)
    equal(
        far[1],
        torch.tensor(800.0, dtype=torch.float64),
        "where D is sure (logit -800) G's loss is large, not infinite or cut off",
    )
