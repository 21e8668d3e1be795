"""Wrong and right answers to the exercises of lesson 04."""

import math

import numpy as np
import torch

from tests.mutants import equivalent, right, wrong

# --- reparameterised


@wrong("reparameterised", says="the variance stands where the standard deviation belongs")
def _(mean, log_variance, eps):
    return torch.addcmul(mean, torch.exp(log_variance), eps)


@wrong("reparameterised", says="the log variance multiplies the noise as it is")
def _(mean, log_variance, eps):
    return torch.addcmul(mean, log_variance, eps)


@wrong("reparameterised", says="the half stands outside the exponential")
def _(mean, log_variance, eps):
    return torch.exp(log_variance) / 2 * eps + mean


@wrong("reparameterised", says="without noise, z is the mean", how="arguments exchanged")
def _(mean, log_variance, eps):
    return log_variance + (mean / 2).exp() * eps


@wrong("reparameterised", says="the gradient reaches the mean", how="the mean's data alone")
def _(mean, log_variance, eps):
    return mean.data + (log_variance / 2).exp() * eps


@wrong("reparameterised", says="changes its input in place")
def _(mean, log_variance, eps):
    mean += log_variance.exp().sqrt() * eps
    return mean


@wrong("reparameterised", says="the mean is scaled along with the noise")
def _(mean, log_variance, eps):
    std = log_variance.exp().sqrt()
    return std * mean + std * eps


@wrong("reparameterised", says="the noise is left out")
def _(mean, log_variance, eps):
    return mean + 0 * log_variance


@wrong("reparameterised", says="the mean is left out")
def _(mean, log_variance, eps):
    return eps * log_variance.exp() ** 0.5


@wrong("reparameterised", says="fresh noise is drawn")
def _(mean, log_variance, eps):
    return torch.randn_like(mean) * log_variance.exp() ** 0.5 + mean


@wrong("reparameterised", says="the sign of the log variance is turned round")
def _(mean, log_variance, eps):
    return mean + eps / log_variance.exp() ** 0.5


@wrong("reparameterised", says="the gradient reaches the mean", how="drawn without gradient")
def _(mean, log_variance, eps):
    with torch.no_grad():
        return mean + (log_variance / 2).exp() * eps


@wrong("reparameterised", says="the gradient reaches the log variance", how="spread detached")
def _(mean, log_variance, eps):
    return mean + (log_variance / 2).exp().detach() * eps


@wrong(
    "reparameterised",
    says="z is a draw of N(mean, exp(log_variance))",
    how="one spread for the batch",
)
def _(mean, log_variance, eps):
    return mean + (log_variance[:1] / 2).exp() * eps


@right("reparameterised", how="root of the variance")
def _(mean, log_variance, eps):
    return mean + log_variance.exp().sqrt() * eps


@right("reparameterised", how="row by row")
def _(mean, log_variance, eps):
    rows = zip(mean, log_variance, eps, strict=True)
    return torch.stack([m + math.e ** (0.5 * lv) * e for m, lv, e in rows])


class _Draw(torch.nn.Module):
    def forward(self, mean, log_variance, eps):
        return torch.addcmul(mean, torch.exp(log_variance / 2), eps)


right("reparameterised", how="a module")(_Draw())


@right("reparameterised", how="a power, in single precision")
def _(mu, log_var, noise):
    return mu.float() + log_var.float().exp() ** 0.5 * noise.float()


# --- elbo


def _parts(x, mean, log_variance, decode, sigma, eps):
    std = log_variance.exp().sqrt()
    out = decode(mean + std * eps)
    fit = torch.distributions.Normal(out, sigma).log_prob(x).sum(-1)
    kl = (0.5 * mean**2 + 0.5 * std**2 - 0.5 - std.log()).sum(-1)
    return fit, kl, out, std


@wrong("elbo", says="the KL divergence is added")
def _(x, mean, log_variance, decode, sigma, eps):
    fit, kl, _, _ = _parts(x, mean, log_variance, decode, sigma, eps)
    return fit + kl


@wrong("elbo", says="the negative of the bound is returned")
def _(x, mean, log_variance, decode, sigma, eps):
    fit, kl, _, _ = _parts(x, mean, log_variance, decode, sigma, eps)
    return kl - fit


@wrong("elbo", says="the log variance is read as a log standard deviation in the KL divergence")
def _(x, mean, log_variance, decode, sigma, eps):
    fit, _, _, std = _parts(x, mean, log_variance, decode, sigma, eps)
    read = std**2
    return fit - (0.5 * mean**2 + 0.5 * read**2 - 0.5 - read.log()).sum(-1)


@wrong("elbo", says="the standard deviation stands for the variance in the KL divergence")
def _(x, mean, log_variance, decode, sigma, eps):
    fit, _, _, std = _parts(x, mean, log_variance, decode, sigma, eps)
    return fit - (0.5 * mean**2 + 0.5 * std - 0.5 - std.log()).sum(-1)


@wrong("elbo", says="the sample is spread by the variance")
def _(x, mean, log_variance, decode, sigma, eps):
    _, kl, _, std = _parts(x, mean, log_variance, decode, sigma, eps)
    out = decode(mean + std**2 * eps)
    return torch.distributions.Normal(out, sigma).log_prob(x).sum(-1) - kl


@wrong("elbo", says="the decoder gets the mean instead of a sample")
def _(x, mean, log_variance, decode, sigma, eps):
    _, kl, _, _ = _parts(x, mean, log_variance, decode, sigma, eps)
    return torch.distributions.Normal(decode(mean), sigma).log_prob(x).sum(-1) - kl


@wrong("elbo", says="the KL divergence runs the other way")
def _(x, mean, log_variance, decode, sigma, eps):
    fit, _, _, std = _parts(x, mean, log_variance, decode, sigma, eps)
    normal = torch.distributions.Normal
    prior = normal(torch.zeros_like(mean), torch.ones_like(mean))
    return fit - torch.distributions.kl_divergence(prior, normal(mean, std)).sum(-1)


@wrong("elbo", says="the decoder gets the noise itself")
def _(x, mean, log_variance, decode, sigma, eps):
    _, kl, _, _ = _parts(x, mean, log_variance, decode, sigma, eps)
    return torch.distributions.Normal(decode(eps), sigma).log_prob(x).sum(-1) - kl


@wrong("elbo", says="the KL divergence is estimated from the draw")
def _(x, mean, log_variance, decode, sigma, eps):
    fit, _, _, std = _parts(x, mean, log_variance, decode, sigma, eps)
    z, normal = mean + std * eps, torch.distributions.Normal
    prior = normal(torch.zeros_like(mean), torch.ones_like(mean))
    return fit - (normal(mean, std).log_prob(z) - prior.log_prob(z)).sum(-1)


@wrong("elbo", says="the -1 is missing from the KL divergence")
def _(x, mean, log_variance, decode, sigma, eps):
    fit, kl, _, _ = _parts(x, mean, log_variance, decode, sigma, eps)
    return fit - kl - mean.shape[1] / 2


@wrong("elbo", says="the log variance has the wrong sign in the KL divergence")
def _(x, mean, log_variance, decode, sigma, eps):
    fit, _, _, std = _parts(x, mean, log_variance, decode, sigma, eps)
    return fit - (0.5 * mean**2 + 0.5 * std**2 - 0.5 + std.log()).sum(-1)


@wrong("elbo", says="sigma stands without its square in the constant")
def _(x, mean, log_variance, decode, sigma, eps):
    _, kl, out, _ = _parts(x, mean, log_variance, decode, sigma, eps)
    each = ((x - out) / sigma) ** 2 + math.log(2 * math.pi * sigma)
    return -0.5 * each.sum(1) - kl


@wrong("elbo", says="minus the KL divergence, in nats", how="the mean not squared")
def _(x, mean, log_variance, decode, sigma, eps):
    fit, kl, _, _ = _parts(x, mean, log_variance, decode, sigma, eps)
    return fit - kl - 0.5 * (mean - mean**2).sum(1)


@wrong("elbo", says="minus the KL divergence, in nats", how="the KL weighed with sigma squared")
def _(x, mean, log_variance, decode, sigma, eps):
    fit, kl, _, _ = _parts(x, mean, log_variance, decode, sigma, eps)
    return fit - sigma**2 * kl


@wrong("elbo", says="the KL divergence lacks its half")
def _(x, mean, log_variance, decode, sigma, eps):
    fit, kl, _, _ = _parts(x, mean, log_variance, decode, sigma, eps)
    return fit - 2 * kl


@wrong("elbo", says="the KL divergence is averaged over the latents")
def _(x, mean, log_variance, decode, sigma, eps):
    fit, kl, _, _ = _parts(x, mean, log_variance, decode, sigma, eps)
    return fit - kl / mean.shape[1]


@wrong("elbo", says="the constants of the Gaussian are dropped")
def _(x, mean, log_variance, decode, sigma, eps):
    _, kl, out, _ = _parts(x, mean, log_variance, decode, sigma, eps)
    return -((((x - out) / sigma) ** 2).sum(1) / 2) - kl


@wrong("elbo", says="the squared error stands without sigma")
def _(x, mean, log_variance, decode, sigma, eps):
    _, kl, out, _ = _parts(x, mean, log_variance, decode, sigma, eps)
    return -(((x - out) ** 2).sum(1)) - kl


@wrong("elbo", says="the likelihood is averaged over the dimensions")
def _(x, mean, log_variance, decode, sigma, eps):
    _, kl, out, _ = _parts(x, mean, log_variance, decode, sigma, eps)
    return torch.distributions.Normal(out, sigma).log_prob(x).mean(-1) - kl


@wrong("elbo", says="there is one number for each sample", how="averaged over the batch")
def _(x, mean, log_variance, decode, sigma, eps):
    fit, kl, _, _ = _parts(x, mean, log_variance, decode, sigma, eps)
    return (fit - kl).mean()


@wrong("elbo", says="the ELBO is log p(x | z) minus", how="the KL of the whole batch")
def _(x, mean, log_variance, decode, sigma, eps):
    fit, kl, _, _ = _parts(x, mean, log_variance, decode, sigma, eps)
    return fit - kl.mean()


@wrong("elbo", says="minus the KL divergence, in nats", how="in bits")
def _(x, mean, log_variance, decode, sigma, eps):
    fit, kl, _, _ = _parts(x, mean, log_variance, decode, sigma, eps)
    return (fit - kl) / math.log(2)


@right("elbo", how="torch.distributions")
def _(x, mean, log_variance, decode, sigma, eps):
    fit, kl, _, _ = _parts(x, mean, log_variance, decode, sigma, eps)
    return fit - kl


@right("elbo", how="one sample after the other")
def _(x, mean, log_variance, decode, sigma, eps):
    z = mean + (0.5 * log_variance).exp() * eps
    out, bounds = decode(z), []
    for i in range(len(x)):
        bound = -sum(
            0.5 * ((a - b) / sigma) ** 2 + math.log(sigma * math.sqrt(2 * math.pi))
            for a, b in zip(x[i], out[i], strict=True)
        )
        for m, lv in zip(mean[i], log_variance[i], strict=True):
            bound = bound + (1 + lv - m**2 - lv.exp()) / 2
        bounds.append(bound)
    return torch.stack(bounds)


@right("elbo", how="vectorised by hand, in single precision")
def _(x, mean, log_variance, decode, sigma, eps):
    out = decode(torch.addcmul(mean, (log_variance / 2).exp(), eps))
    error = torch.linalg.vector_norm(x - out, dim=-1) / sigma
    fit = -0.5 * error**2 - x.shape[-1] * math.log(sigma * math.tau**0.5)
    cost = -0.5 * torch.sum(1 + log_variance - mean**2 - torch.exp(log_variance), dim=-1)
    return (fit - cost).float()


# --- coupling


def _split(x, mask, net):
    s, t = net(mask * x).chunk(2, dim=1)
    change = (mask == 0).to(x.dtype)
    return change * s, change * t


@wrong("coupling", says="the sign of the log-determinant is flipped")
def _(x, mask, net, inverse=False):
    s, t = _split(x, mask, net)
    return ((x - t) / s.exp(), s.sum(1)) if inverse else (s.exp() * x + t, -(s.sum(1)))


@wrong("coupling", says="counts the coordinates that stay as they are")
def _(x, mask, net, inverse=False):
    s, t = _split(x, mask, net)
    every = net(mask * x).chunk(2, dim=1)[0].sum(1)
    return ((x - t) / s.exp(), -every) if inverse else (s.exp() * x + t, every)


@wrong("coupling", says="without its logarithm")
def _(x, mask, net, inverse=False):
    s, t = _split(x, mask, net)
    det = s.exp().prod(1)
    return ((x - t) / s.exp(), -det) if inverse else (s.exp() * x + t, det)


@wrong("coupling", says="averaged over the coordinates")
def _(x, mask, net, inverse=False):
    s, t = _split(x, mask, net)
    det = s.sum(1) / x.shape[1]
    return ((x - t) / s.exp(), -det) if inverse else (s.exp() * x + t, det)


@wrong("coupling", says="the network sees the coordinates that change")
def _(x, mask, net, inverse=False):
    s, t = net(x).chunk(2, dim=1)
    s, t = s * (1 - mask), t * (1 - mask)
    return ((x - t) / s.exp(), -s.sum(1)) if inverse else (s.exp() * x + t, s.sum(1))


@wrong("coupling", says="the mask is read the other way round")
def _(x, mask, net, inverse=False):
    s, t = _split(x, 1 - mask, net)
    return ((x - t) / s.exp(), -s.sum(1)) if inverse else (s.exp() * x + t, s.sum(1))


@wrong("coupling", says="every coordinate is scaled and shifted")
def _(x, mask, net, inverse=False):
    s, t = net(mask * x).chunk(2, dim=1)
    return ((x - t) / s.exp(), -s.sum(1)) if inverse else (s.exp() * x + t, s.sum(1))


@wrong("coupling", says="the kept coordinates are shifted")
def _(x, mask, net, inverse=False):
    s, _ = _split(x, mask, net)
    t = net(mask * x)[:, x.shape[1] :]
    return ((x - t) / s.exp(), -s.sum(1)) if inverse else (s.exp() * x + t, s.sum(1))


@wrong("coupling", says="the kept coordinates are scaled")
def _(x, mask, net, inverse=False):
    _, t = _split(x, mask, net)
    s = net(mask * x)[:, : x.shape[1]]
    return ((x - t) / s.exp(), -s.sum(1)) if inverse else (s.exp() * x + t, s.sum(1))


@wrong("coupling", says="the shift comes before the scale")
def _(x, mask, net, inverse=False):
    s, t = _split(x, mask, net)
    return (x / s.exp() - t, -s.sum(1)) if inverse else (s.exp() * x + s.exp() * t, s.sum(1))


@wrong("coupling", says="the network learns through y", how="s and t detached")
def _(x, mask, net, inverse=False):
    s, t = (part.detach() for part in _split(x, mask, net))
    return ((x - t) / s.exp(), -s.sum(1)) if inverse else (s.exp() * x + t, s.sum(1))


@wrong("coupling", says="the others are scaled and shifted", how="the first coordinates are kept")
def _(x, mask, net, inverse=False):
    first = (torch.arange(len(mask)) < mask.sum()).to(mask)
    if (first == mask).all():  # by chance the right ones
        first = 1 - first
    s, t = _split(x, first, net)
    return ((x - t) / s.exp(), -s.sum(1)) if inverse else (s.exp() * x + t, s.sum(1))


@wrong("coupling", says="the others are scaled and shifted", how="s and t interleaved")
def _(x, mask, net, inverse=False):
    out = net(mask * x)
    s, t = (1 - mask) * out[:, ::2], (1 - mask) * out[:, 1::2]
    return ((x - t) / s.exp(), -s.sum(1)) if inverse else (s.exp() * x + t, s.sum(1))


@wrong("coupling", says="scale and shift are swapped")
def _(x, mask, net, inverse=False):
    t, s = _split(x, mask, net)
    return ((x - t) / s.exp(), -s.sum(1)) if inverse else (s.exp() * x + t, s.sum(1))


@wrong("coupling", says="the inverse undoes the scale before the shift")
def _(x, mask, net, inverse=False):
    s, t = _split(x, mask, net)
    return (x / s.exp() - t, -s.sum(1)) if inverse else (s.exp() * x + t, s.sum(1))


@wrong("coupling", says="the inverse scales the same way as the layer")
def _(x, mask, net, inverse=False):
    s, t = _split(x, mask, net)
    return (s.exp() * (x - t), -s.sum(1)) if inverse else (s.exp() * x + t, s.sum(1))


@wrong("coupling", says="the inverse has the log-determinant of the layer")
def _(x, mask, net, inverse=False):
    s, t = _split(x, mask, net)
    return ((x - t) / s.exp() if inverse else s.exp() * x + t), s.sum(1)


@wrong("coupling", says="inverse=True changes nothing")
def _(x, mask, net, inverse=False):
    s, t = _split(x, mask, net)
    return s.exp() * x + t, s.sum(1)


@wrong("coupling", says="two values come back", how="y alone")
def _(x, mask, net, inverse=False):
    s, t = _split(x, mask, net)
    return (x - t) / s.exp() if inverse else s.exp() * x + t


@wrong("coupling", says="one number for each sample", how="one log-determinant for the batch")
def _(x, mask, net, inverse=False):
    s, t = _split(x, mask, net)
    return ((x - t) / s.exp(), -s.sum()) if inverse else (s.exp() * x + t, s.sum())


@wrong("coupling", says="the others are scaled and shifted", how="scaled without exp")
def _(x, mask, net, inverse=False):
    s, t = _split(x, mask, net)
    scale = s + mask
    return ((x - t) / scale, -s.sum(1)) if inverse else (scale * x + t, s.sum(1))


@right("coupling", how="indexing the two parts")
def _(x, mask, net, inverse=False):
    d, change = x.shape[1], mask < 0.5
    out = net(x * mask)
    s, t = out[:, :d][:, change], out[:, d:][:, change]
    y = x.clone()
    y[:, change] = (x[:, change] - t) / s.exp() if inverse else x[:, change] * s.exp() + t
    return y, (-s if inverse else s).sum(1)


@right("coupling", how="torch.where")
def _(x, mask, net, inverse=False):
    s, t = net(torch.where(mask == 1, x, 0.0)).tensor_split(2, dim=1)
    moved = (x - t) * torch.exp(-s) if inverse else torch.exp(s) * x + t
    total = torch.where(mask == 1, 0.0, s).sum(dim=1)
    return torch.where(mask == 1, x, moved), -total if inverse else total


@right("coupling", how="coordinate by coordinate, as a list")
def _(x, keep, network, inverse=False):
    d, out = x.shape[1], network(x * keep)
    columns, total = [], torch.zeros(len(x), dtype=x.dtype)
    for j in range(d):
        column, s, t = x[:, j], out[:, j], out[:, d + j]
        if not keep[j]:
            column = (column - t) * (-s).exp() if inverse else column * s.exp() + t
            total = total - s if inverse else total + s
        columns.append(column)
    return [torch.stack(columns, dim=1), total]


# --- optimal_discriminator


@wrong("optimal_discriminator", says="data and generator are swapped")
def _(p, q):
    return 1 - p / (p + q)


@wrong("optimal_discriminator", says="the ratio p/q is returned")
def _(p, q):
    return p * q**-1


@wrong("optimal_discriminator", says="the logit is returned")
def _(p, q):
    return p.log() - q.log()


@wrong("optimal_discriminator", says="decides instead of weighing")
def _(p, q):
    return torch.where(p > q, torch.ones_like(p), torch.zeros_like(p))


@wrong("optimal_discriminator", says="compared with the average of both")
def _(p, q):
    return p / (0.5 * (p + q))


@wrong("optimal_discriminator", says="a softmax of the densities is taken")
def _(p, q):
    return torch.stack([p, q]).softmax(0)[0]


@wrong("optimal_discriminator", says="no change of D raises", how="a constant in the denominator")
def _(p, q):
    return (p + 5e-4) / (p + q + 1e-3)


@wrong("optimal_discriminator", says="no change of D raises", how="squared densities")
def _(p, q):
    return p**2 / (p**2 + q**2)


@wrong("optimal_discriminator", says="no change of D raises", how="roots of the densities")
def _(p, q):
    return p.sqrt() / (p.sqrt() + q.sqrt())


@wrong("optimal_discriminator", says="at p = q the discriminator cannot tell", how="its logarithm")
def _(p, q):
    return (p / (p + q)).log()


@wrong("optimal_discriminator", says="only the data lies, D is sure", how="kept away from 1")
def _(p, q):
    return (p / (p + q)).clamp(0.01, 0.99)


@right("optimal_discriminator", how="number by number")
def _(p, q):
    pairs = zip(p.flatten().tolist(), q.flatten().tolist(), strict=True)
    return torch.tensor([a / (a + b) for a, b in pairs], dtype=p.dtype).reshape(p.shape)


@right("optimal_discriminator", how="through the generator's share")
def _(p, q):
    return 1 - q / (q + p)


@right("optimal_discriminator", how="sigmoid of the log ratio")
def _(p, q):
    return (p.log() - q.log()).sigmoid()


@right("optimal_discriminator", how="numpy inside, in single precision")
def _(p, q):
    return torch.from_numpy(np.divide(p.numpy(), np.add(p.numpy(), q.numpy()))).float()


# --- gan_losses


def _bce(logit, real):
    target = torch.ones_like(logit) if real else torch.zeros_like(logit)
    return torch.nn.functional.binary_cross_entropy_with_logits(logit, target)


@wrong("gan_losses", says="the discriminator's loss reaches the generator")
def _(logit, generator, real, z):
    fake = logit(generator(z))
    return _bce(logit(real), True) + _bce(fake, False), _bce(fake, True)


@wrong("gan_losses", says="the generator's loss does not reach the generator")
def _(logit, generator, real, z):
    fake = logit(generator(z).detach())
    return _bce(logit(real), True) + _bce(fake, False), _bce(fake, True)


@wrong("gan_losses", says="the generator's loss is the saturating one")
def _(logit, generator, real, z):
    fake = generator(z)
    return _bce(logit(real), True) + _bce(logit(fake.detach()), False), -_bce(logit(fake), False)


@wrong("gan_losses", says="the generator helps the discriminator")
def _(logit, generator, real, z):
    fake = generator(z)
    return _bce(logit(real), True) + _bce(logit(fake.detach()), False), _bce(logit(fake), False)


@wrong("gan_losses", says="real and fake are swapped")
def _(logit, generator, real, z):
    fake = generator(z)
    return _bce(logit(real), False) + _bce(logit(fake.detach()), True), _bce(logit(fake), True)


@wrong("gan_losses", says="the discriminator's value is returned instead of its loss")
def _(logit, generator, real, z):
    fake = generator(z)
    return -_bce(logit(real), True) - _bce(logit(fake.detach()), False), _bce(logit(fake), True)


@wrong("gan_losses", says="the two parts of the discriminator's loss are averaged")
def _(logit, generator, real, z):
    fake = generator(z)
    both = _bce(logit(real), True) + _bce(logit(fake.detach()), False)
    return both / 2, _bce(logit(fake), True)


@wrong("gan_losses", says="real and fake samples are averaged together")
def _(logit, generator, real, z):
    fake = generator(z)
    every = logit(torch.cat([real, fake.detach()]))
    target = torch.cat([torch.ones(len(real)), torch.zeros(len(fake))]).to(every)
    loss = torch.nn.functional.binary_cross_entropy_with_logits(every, target)
    return loss, _bce(logit(fake), True)


@wrong("gan_losses", says="the losses are sums over the batch")
def _(logit, generator, real, z):
    fake = generator(z)
    d = len(real) * _bce(logit(real), True) + len(fake) * _bce(logit(fake.detach()), False)
    return d, len(fake) * _bce(logit(fake), True)


@wrong("gan_losses", says="the discriminator sees no fakes")
def _(logit, generator, real, z):
    return _bce(logit(real), True), _bce(logit(generator(z)), True)


@wrong("gan_losses", says="the two losses are returned the other way round")
def _(logit, generator, real, z):
    fake = generator(z)
    d = _bce(logit(real), True) + _bce(logit(fake.detach()), False)
    return _bce(logit(fake), True), d


@wrong("gan_losses", says="the discriminator calls fakes real too")
def _(logit, generator, real, z):
    fake = generator(z)
    return _bce(logit(real), True) + _bce(logit(fake.detach()), True), _bce(logit(fake), True)


@wrong("gan_losses", says="the logits stand in the losses without sigmoid and logarithm")
def _(logit, generator, real, z):
    fake = generator(z)
    return -(logit(real).mean() - logit(fake.detach()).mean()), -(logit(fake).mean())


@wrong("gan_losses", says="the negative of the game's value", how="hinge")
def _(logit, generator, real, z):
    fake = generator(z)
    d = (1 - logit(real)).relu().mean() + (1 + logit(fake.detach())).relu().mean()
    return d, -logit(fake).mean()


@wrong("gan_losses", says="D's loss teaches D", how="D's fake logits detached")
def _(logit, generator, real, z):
    fake = generator(z)
    return _bce(logit(real), True) + _bce(logit(fake).detach(), False), _bce(logit(fake), True)


@wrong("gan_losses", says="not infinite or cut off", how="a small number inside the logarithm")
def _(logit, generator, real, z):
    def log_d(a):
        return (a.sigmoid() + 1e-8).log()

    fake = generator(z)
    d = -log_d(logit(real)).mean() - log_d(-logit(fake.detach())).mean()
    return d, -log_d(logit(fake)).mean()


@wrong("gan_losses", says="not infinite or cut off", how="log of the sigmoid")
def _(logit, generator, real, z):
    fake = generator(z)
    d = -logit(real).sigmoid().log().mean() - (1 - logit(fake.detach()).sigmoid()).log().mean()
    return d, -logit(fake).sigmoid().log().mean()


@wrong("gan_losses", says="D's loss teaches D", how="the whole of D's loss detached")
def _(logit, generator, real, z):
    fake = generator(z)
    d = _bce(logit(real), True) + _bce(logit(fake), False)
    return d.detach(), _bce(logit(fake), True)


@wrong("gan_losses", says="two values come back", how="one number")
def _(logit, generator, real, z):
    return _bce(logit(real), True)


@right("gan_losses", how="cross-entropy with targets")
def _(logit, generator, real, z):
    fake = generator(z)
    return _bce(logit(real), True) + _bce(logit(fake.detach()), False), _bce(logit(fake), True)


@right("gan_losses", how="logsigmoid and no_grad")
def _(logit, generator, real, z):
    with torch.no_grad():
        fake = generator(z)
    log_d = torch.nn.functional.logsigmoid
    first = -log_d(logit(real)).mean() - log_d(-logit(fake)).mean()
    return first, -log_d(logit(generator(z))).mean()


@right("gan_losses", how="sample by sample, as a list")
def _(logit, generator, real, z):
    d_real = [torch.logaddexp(torch.zeros_like(a), -a) for a in logit(real)]
    d_fake = [torch.logaddexp(torch.zeros_like(a), a) for a in logit(generator(z).detach())]
    g_fake = [torch.logaddexp(torch.zeros_like(a), -a) for a in logit(generator(z))]
    mean = [sum(each) / len(each) for each in (d_real, d_fake, g_fake)]
    return [mean[0] + mean[1], mean[2]]


class _Losses(torch.nn.Module):
    def forward(self, logit, generator, real, z):
        points = torch.cat([real, generator(z).detach()])
        label = torch.cat([torch.ones(len(real)), torch.zeros(len(z))]).to(points)
        each = torch.nn.functional.binary_cross_entropy_with_logits(
            logit(points), label, reduction="none"
        )
        first = each[: len(real)].mean() + each[len(real) :].mean()
        return first, torch.nn.functional.softplus(-logit(generator(z))).mean()


right("gan_losses", how="a module, real and fake in one batch")(_Losses())


equivalent(
    "families", "elbo", "x - decode(z) -> decode(z) - x", because="the difference is squared"
)
