"""Wrong and right answers to the exercises of lesson 05."""

import functools

import numpy as np
import torch
from torch.nn import functional

from tests.mutants import equivalent, right, wrong

# --- classifier_score ---------------------------------------------------------------------------


def _log_joint(x, means, std, weights):
    square = torch.cdist(x, means) ** 2
    return torch.log(weights) - square / (2 * std**2) - x.shape[-1] * torch.log(std)


def _component(x, c, means, std):
    return (means[c] - x) / std[c] ** 2


@wrong("classifier_score", says="the marginal is not taken away")
def _(x, y, means, std, weights):
    return (means[y] - x) / std[y] ** 2


@wrong("classifier_score", says="the two scores are added")
def _(x, y, means, std, weights):
    p = torch.softmax(_log_joint(x, means, std, weights), 1)
    all_ = torch.stack([_component(x, c, means, std) for c in range(len(means))], 1)
    return _component(x, y, means, std) + torch.einsum("nk,nkd->nd", p, all_)


@wrong("classifier_score", says="the sign is turned round")
def _(x, y, means, std, weights):
    p = torch.softmax(_log_joint(x, means, std, weights), 1)
    all_ = torch.stack([(x - means[c]) / std[c] ** 2 for c in range(len(means))], 1)
    return all_[:, y] - torch.einsum("nk,nkd->nd", p, all_)


@wrong("classifier_score", says="averaged with the prior")
def _(x, y, means, std, weights):
    out = _component(x, y, means, std)
    for c in range(len(means)):
        out = out - weights[c] * _component(x, c, means, std)
    return out


@wrong("classifier_score", says="prior probabilities of the classes are forgotten")
def _(x, y, means, std, weights):
    p = torch.softmax(_log_joint(x, means, std, torch.ones_like(weights)), 1)
    all_ = (means - x[:, None]) / std[:, None] ** 2
    return all_[:, y] - torch.einsum("nk,nkd->nd", p, all_)


@wrong("classifier_score", says="the Gaussians are not normalised")
def _(x, y, means, std, weights):
    p = torch.softmax(weights.log() - torch.cdist(x, means) ** 2 / (2 * std**2), 1)
    all_ = (means - x[:, None]) / std[:, None] ** 2
    return all_[:, y] - torch.einsum("nk,nkd->nd", p, all_)


@wrong("classifier_score", says="not of its logarithm")
def _(x, y, means, std, weights):
    leaf = x.clone().requires_grad_()
    p = torch.softmax(_log_joint(leaf, means, std, weights), 1)[:, y]
    return torch.autograd.grad(p.sum(), leaf)[0]


@wrong("classifier_score", says="divided by its deviation")
def _(x, y, means, std, weights):
    p = torch.softmax(_log_joint(x, means, std, weights), 1)
    all_ = (means - x[:, None]) / std[:, None]
    return all_[:, y] - torch.einsum("nk,nkd->nd", p, all_)


@wrong("classifier_score", says="underflows", how="densities instead of their logarithms")
def _(x, y, means, std, weights):
    p = _log_joint(x, means, std, weights).exp()
    p = p / p.sum(1, keepdim=True)
    all_ = (means - x[:, None]) / std[:, None] ** 2
    return all_[:, y] - torch.einsum("nk,nkd->nd", p, all_)


@wrong("classifier_score", says="gradient of log p(y | x)", how="one std for all")
def _(x, y, means, std, weights):
    s = std.mean()
    p = torch.softmax(weights.log() - torch.cdist(x, means) ** 2 / (2 * s**2), 1)
    all_ = (means - x[:, None]) / s**2
    return all_[:, y] - torch.einsum("nk,nkd->nd", p, all_)


def _averaged(x, y, means, std, posterior):
    all_ = torch.stack([_component(x, c, means, std) for c in range(len(means))], 1)
    return all_[:, y] - torch.einsum("nk,nkd->nd", posterior, all_)


@wrong("classifier_score", says="normalised as in one dimension")
def _(x, y, means, std, weights):
    gauss = torch.distributions.Normal(0.0, std).log_prob(torch.cdist(x, means))
    return _averaged(x, y, means, std, torch.softmax(weights.log() + gauss, 1))


@wrong("classifier_score", says="another exponent than a Gaussian's", how="no half")
def _(x, y, means, std, weights):
    log_joint = weights.log() - (torch.cdist(x, means) / std) ** 2 - x.shape[1] * std.log()
    return _averaged(x, y, means, std, torch.softmax(log_joint, 1))


@wrong("classifier_score", says="another exponent than a Gaussian's", how="std not squared")
def _(x, y, means, std, weights):
    log_joint = weights.log() - torch.cdist(x, means) ** 2 / (2 * std) - x.shape[1] * std.log()
    return _averaged(x, y, means, std, torch.softmax(log_joint, 1))


@wrong("classifier_score", says="normalised over the points")
def _(x, y, means, std, weights):
    log_joint = _log_joint(x, means, std, weights)
    return _averaged(x, y, means, std, (log_joint - log_joint.logsumexp(0)).exp())


@wrong("classifier_score", says="only the wanted class is taken out")
def _(x, y, means, std, weights):
    p = torch.softmax(_log_joint(x, means, std, weights), 1)[:, y]
    return _component(x, y, means, std) - p.unsqueeze(1) * _component(x, y, means, std)


@wrong("classifier_score", says="gradient of log p(y | x)", how="the likeliest class as certain")
def _(x, y, means, std, weights):
    likeliest = _log_joint(x, means, std, weights).argmax(1)
    p = functional.one_hot(likeliest, len(means)).to(x.dtype)
    return _averaged(x, y, means, std, p)


@wrong("classifier_score", says="got shape", how="log p(y | x) itself")
def _(x, y, means, std, weights):
    return torch.log_softmax(_log_joint(x, means, std, weights), 1)[:, y]


@right("classifier_score", how="numpy, point by point")
def _(x, y, means, std, weights):
    out = np.zeros(x.shape)
    m, s, w = means.numpy(), std.numpy(), weights.numpy()
    for i, point in enumerate(x.numpy()):
        log_p = np.log(w) - ((point - m) ** 2).sum(1) / (2 * s**2) - len(point) * np.log(s)
        p = np.exp(log_p - log_p.max())
        p /= p.sum()
        for c in range(len(m)):
            out[i] += ((c == y) - p[c]) * (m[c] - point) / s[c] ** 2
    return torch.from_numpy(out)


@right("classifier_score", how="autograd")
def _(x, y, means, std, weights):
    leaf = x.clone().requires_grad_()
    joint = _log_joint(leaf, means, std, weights)
    (out,) = torch.autograd.grad((joint[:, y] - torch.logsumexp(joint, 1)).sum(), leaf)
    return out


@right("classifier_score", how="a loop")
def _(x, y, means, std, weights):
    p = functional.softmax(_log_joint(x, means, std, weights), dim=1)
    out = _component(x, y, means, std)
    for c in range(len(means)):
        out = out - p[:, c : c + 1] * _component(x, c, means, std)
    return out


@right("classifier_score", how="vectorised, in single precision")
def _(points, label, centres, deviation, prior):
    log_p = _log_joint(points, centres, deviation, prior)
    p = (log_p - log_p.amax(1, keepdim=True)).exp()
    pull = functional.one_hot(torch.tensor(label), len(centres)) - p / p.sum(1, keepdim=True)
    pull = pull / deviation**2
    return (pull @ centres - pull.sum(1, keepdim=True) * points).float()


# --- guided_mean --------------------------------------------------------------------------------


def _slope(x_t, value):
    with torch.enable_grad():
        x = x_t.clone().detach().requires_grad_(True)
        value(x).backward()
    return x.grad


def _log_likelihood(logits, y):
    return lambda x: -functional.cross_entropy(logits(x), y, reduction="sum")


def _spread(variance, like):
    return variance.reshape([-1] + [1] * (like.dim() - 1))


@wrong("guided_mean", says="the gradient of the logit")
def _(mean, variance, x_t, y, logits, scale):
    g = _slope(x_t, lambda x: logits(x)[torch.arange(len(y)), y].sum())
    return mean + scale * _spread(variance, mean) * g


@wrong("guided_mean", says="the gradient of the probability")
def _(mean, variance, x_t, y, logits, scale):
    g = _slope(x_t, lambda x: torch.softmax(logits(x), 1)[torch.arange(len(y)), y].sum())
    return mean + scale * _spread(variance, mean) * g


@wrong("guided_mean", says="the sign is turned round")
def _(mean, variance, x_t, y, logits, scale):
    g = _slope(x_t, lambda x: functional.cross_entropy(logits(x), y, reduction="sum"))
    return mean + scale * _spread(variance, mean) * g


@wrong("guided_mean", says="the variance is missing")
def _(mean, variance, x_t, y, logits, scale):
    return mean + scale * _slope(x_t, _log_likelihood(logits, y))


@wrong("guided_mean", says="the deviation stands where the variance belongs")
def _(mean, variance, x_t, y, logits, scale):
    return mean + scale * _spread(variance.sqrt(), mean) * _slope(x_t, _log_likelihood(logits, y))


@wrong("guided_mean", says="the scale is not used")
def _(mean, variance, x_t, y, logits, scale):
    return mean + _spread(variance, mean) * _slope(x_t, _log_likelihood(logits, y))


@wrong("guided_mean", says="divided by the size of the batch")
def _(mean, variance, x_t, y, logits, scale):
    g = _slope(x_t, lambda x: -functional.cross_entropy(logits(x), y))
    return mean + scale * _spread(variance, mean) * g


@wrong("guided_mean", says="the gradient is taken at the mean")
def _(mean, variance, x_t, y, logits, scale):
    return mean + scale * _spread(variance, mean) * _slope(mean, _log_likelihood(logits, y))


@wrong("guided_mean", says="no gradient is recorded")
def _(mean, variance, x_t, y, logits, scale):
    x = x_t.detach().requires_grad_()
    log_prob = torch.log_softmax(logits(x), 1)[torch.arange(len(y)), y]
    (g,) = torch.autograd.grad(log_prob.sum(), x)
    return mean + scale * _spread(variance, mean) * g


@wrong("guided_mean", says="each sample is shifted", how="one variance for the whole batch")
def _(mean, variance, x_t, y, logits, scale):
    return mean + scale * variance.mean() * _slope(x_t, _log_likelihood(logits, y))


@wrong("guided_mean", says="each sample is shifted", how="one label for the whole batch")
def _(mean, variance, x_t, y, logits, scale):
    g = _slope(x_t, _log_likelihood(logits, y[:1].expand(len(y))))
    return mean + scale * _spread(variance, mean) * g


def _own(log_prob, y):
    return log_prob[torch.arange(len(y)), y].sum()


@wrong("guided_mean", says="the labels of the whole batch")
def _(mean, variance, x_t, y, logits, scale):
    g = _slope(x_t, lambda x: torch.log_softmax(logits(x), 1).index_select(1, y).sum())
    return mean + scale * _spread(variance, mean) * g


@wrong("guided_mean", says="normalised over the batch")
def _(mean, variance, x_t, y, logits, scale):
    g = _slope(x_t, lambda x: _own(logits(x) - logits(x).logsumexp(0), y))
    return mean + scale * _spread(variance, mean) * g


@wrong("guided_mean", says="the wanted class is not picked out")
def _(mean, variance, x_t, y, logits, scale):
    g = _slope(x_t, lambda x: logits(x).softmax(1).log().sum())
    return mean + scale * _spread(variance, mean) * g


@wrong("guided_mean", says="the scale multiplies the logits")
def _(mean, variance, x_t, y, logits, scale):
    def sharper(x):
        p = torch.softmax(logits(x), 1) ** scale
        return _own((p / p.sum(1, keepdim=True)).log(), y)

    return mean + _spread(variance, mean) * _slope(x_t, sharper)


@wrong("guided_mean", says="x_t is shifted, not the mean")
def _(mean, variance, x_t, y, logits, scale):
    return x_t + scale * _spread(variance, mean) * _slope(x_t, _log_likelihood(logits, y))


@wrong("guided_mean", says="each sample is shifted", how="the gradient has length 1")
def _(mean, variance, x_t, y, logits, scale):
    g = _slope(x_t, _log_likelihood(logits, y))
    return mean + scale * _spread(variance / g.flatten(1).norm(dim=1), mean) * g


@wrong("guided_mean", says="no graph", how="the graph is kept")
def _(mean, variance, x_t, y, logits, scale):
    with torch.enable_grad():
        x = x_t.detach().requires_grad_()
        log_prob = _own(logits(x).log_softmax(1), y)
        (g,) = torch.autograd.grad(log_prob, x, create_graph=True)
        return mean + scale * _spread(variance, mean) * g


@right("guided_mean", how="central differences")
def _(mean, variance, x_t, y, logits, scale):
    g, h = torch.zeros_like(x_t).flatten(1), 1e-5
    for j in range(g.shape[1]):
        e = torch.zeros_like(g)
        e[:, j] = h
        up, down = (torch.log_softmax(logits(x_t + k * e.view_as(x_t)), 1) for k in (1, -1))
        g[:, j] = (up - down)[torch.arange(len(y)), y] / (2 * h)
    return mean + scale * _spread(variance, mean) * g.view_as(mean)


@right("guided_mean", how="cross-entropy")
def _(mean, variance, x_t, y, logits, scale):
    return mean + scale * _spread(variance, mean) * _slope(x_t, _log_likelihood(logits, y))


@right("guided_mean", how="sample by sample")
def _(mean, variance, x_t, y, logits, scale):
    out = []
    for i in range(len(y)):
        one = slice(i, i + 1)
        g = _slope(x_t[one], _log_likelihood(logits, y[one]))
        out.append(mean[one] + scale * variance[i] * g)
    return torch.cat(out)


@right("guided_mean", how="torch.func, with other names, in single precision")
def _(mu, var, x, labels, network, s):
    def log_p(one, label):
        return network(one[None])[0].log_softmax(0)[label]

    slopes = [torch.func.grad(log_p)(one, label) for one, label in zip(x, labels, strict=True)]
    shifts = [s * v * g for v, g in zip(var, slopes, strict=True)]
    return (mu + torch.stack(shifts)).float()


@wrong("guided_mean", says="the variance fits points (b, d) only")
def _(mean, variance, x_t, y, logits, scale):
    return mean + scale * variance[:, None] * _slope(x_t, _log_likelihood(logits, y))


# --- classifier_free ----------------------------------------------------------------------------


@wrong("classifier_free", says="Ho and Salimans' w")
def _(conditional, unconditional, scale):
    return lambda x, t: conditional(x, t) + scale * (conditional(x, t) - unconditional(x, t)) * 1.0


@wrong("classifier_free", says="the branches are swapped")
def _(conditional, unconditional, scale):
    return lambda x, t: scale * unconditional(x, t) + (1 - scale) * conditional(x, t)


@wrong("classifier_free", says="the starting point is missing")
def _(conditional, unconditional, scale):
    return lambda x, t: scale * conditional(x, t) - scale * unconditional(x, t)


@wrong("classifier_free", says="do not sum to 1")
def _(conditional, unconditional, scale):
    return lambda x, t: unconditional(x, t) + scale * conditional(x, t)


@wrong("classifier_free", says="the prediction is clipped")
def _(conditional, unconditional, scale):
    return lambda x, t: torch.clip(
        scale * conditional(x, t) + (1 - scale) * unconditional(x, t), -1.0, 1.0
    )


@wrong("classifier_free", says="combined as in (7)", how="the scale is limited to at least 1")
def _(conditional, unconditional, scale):
    s = max(scale, 1.0)
    return lambda x, t: s * conditional(x, t) + (1 - s) * unconditional(x, t)


@wrong("classifier_free", says="combined as in (7)", how="the conditional branch alone")
def _(conditional, unconditional, scale):
    return lambda x, t: conditional(x, t)


@wrong("classifier_free", says="too weak by one unit")
def _(conditional, unconditional, scale):
    return lambda x, t: (scale - 1) * conditional(x, t) + (2 - scale) * unconditional(x, t)


@wrong("classifier_free", says="combined as in (7)", how="scaled back to the conditional's spread")
def _(conditional, unconditional, scale):
    def denoise(x, t):
        c = conditional(x, t)
        out = torch.lerp(unconditional(x, t), c, scale)
        return out * c.std() / out.std()

    return denoise


@wrong("classifier_free", says="combined as in (7)", how="the direction is added to x_t")
def _(conditional, unconditional, scale):
    return lambda x, t: x + scale * (conditional(x, t) - unconditional(x, t))


@right("classifier_free", how="in place on its own tensors")
def _(conditional, unconditional, scale):
    def denoise(x, t):
        out = conditional(x, t)
        null = unconditional(x, t)
        out -= null
        out *= scale
        out += null
        return out

    return denoise


@right("classifier_free", how="lerp")
def _(conditional, unconditional, scale):
    return lambda x, t: torch.lerp(unconditional(x, t), conditional(x, t), scale)


@right("classifier_free", how="two weights")
def _(conditional, unconditional, scale):
    def denoise(x, t):
        return (1 - scale) * unconditional(x, t) + scale * conditional(x, t)

    return denoise


@right("classifier_free", how="a class of denoisers")
class _Guided:
    def __init__(self, conditional, unconditional, scale):
        self.branches, self.scale = (conditional, unconditional), scale

    def __call__(self, x, t):
        with_label, without = (branch(x, t) for branch in self.branches)
        return without + self.scale * (with_label - without)


def _between(x, t, c, u, scale):
    return torch.stack([g * scale + h * (1 - scale) for g, h in zip(c(x, t), u(x, t), strict=True)])


@right("classifier_free", how="a partial function, sample by sample")
def _(conditional, unconditional, scale):
    return functools.partial(_between, c=conditional, u=unconditional, scale=scale)


@wrong("classifier_free", says="a denoiser comes back", how="a prediction instead of a denoiser")
def _(conditional, unconditional, scale):
    x_t, t = torch.zeros(4, 2), torch.ones(4)
    return unconditional(x_t, t) + scale * (conditional(x_t, t) - unconditional(x_t, t))


# --- scale_from ---------------------------------------------------------------------------------


def _table(paper, **values):
    try:
        return values[paper.replace("-", "_")]
    except KeyError:
        raise ValueError(paper) from None


@wrong("scale_from", says="w is taken for the scale")
def _(paper, value):
    return _table(paper, ho_salimans=value, glide=value, imagen=value)


@wrong("scale_from", says="in the wrong direction")
def _(paper, value):
    return _table(paper, ho_salimans=value - 1, glide=value, imagen=value)


@wrong("scale_from", says="Imagen's w is taken")
def _(paper, value):
    return _table(paper, ho_salimans=value + 1, glide=value, imagen=value + 1)


@wrong("scale_from", says="GLIDE's s is taken")
def _(paper, value):
    return _table(paper, ho_salimans=value + 1, glide=value + 1, imagen=value)


@wrong("scale_from", says="all three are shifted")
def _(paper, value):
    return _table(paper, ho_salimans=1 + value, glide=1 + value, imagen=1 + value)


@wrong("scale_from", says="an unknown paper is refused", how="any other name passes")
def _(paper, value):
    return 1 + value if paper == "ho-salimans" else value


@wrong("scale_from", says="an unknown paper is refused", how="KeyError")
def _(paper, value):
    return value + {"ho-salimans": 1, "glide": 0, "imagen": 0}[paper]


@wrong("scale_from", says="imagen's formula", how="Imagen's other weight")
def _(paper, value):
    return _table(paper, ho_salimans=1 + value, glide=value, imagen=1 - value)


@wrong("scale_from", says="returned None", how="None for an unknown paper")
def _(paper, value):
    return {"ho-salimans": 1 + value, "glide": value, "imagen": value}.get(paper)


@right("scale_from", how="a table")
def _(paper, value):
    return _table(paper, ho_salimans=1 + value, glide=value, imagen=value)


@right("scale_from", how="solved from the weight of the conditional branch")
def _(paper, value):
    weight = {"ho-salimans": lambda w: 1 + w, "glide": lambda s: 0 + s, "imagen": lambda w: w}
    if paper not in weight:
        raise ValueError(f"{paper} is none of {list(weight)}")
    return weight[paper](value)


@right("scale_from", how="match, as a tensor")
def _(source, number):
    match source:
        case "ho-salimans":
            return torch.tensor(number, dtype=torch.float64) + 1
        case "glide" | "imagen":
            return torch.tensor(number, dtype=torch.float64)
        case _:
            raise ValueError(source)


OFFSETS = {"ho-salimans": 1, "glide": 0, "imagen": 0}


@right("scale_from", how="a table of offsets")
def _(paper, value):
    try:
        return OFFSETS[paper] + value
    except KeyError as missing:
        raise ValueError(f"unknown paper {missing}") from None


# --- drop_labels --------------------------------------------------------------------------------


@wrong("drop_labels", says="one draw decides for the whole batch")
def _(y, null, drop, training, generator):
    if training and float(torch.rand((), generator=generator)) < drop:
        return y * 0 + null
    return y.clone()


@wrong("drop_labels", says="labels are dropped while sampling too")
def _(y, null, drop, training, generator):
    keep = torch.rand(y.shape, generator=generator) >= drop
    return y.where(keep, torch.tensor(null))


@wrong("drop_labels", says="exchanged")
def _(y, null, drop, training, generator):
    if not training:
        return y.clone()
    out = torch.rand(y.shape, generator=generator) >= drop
    return y.masked_fill(out, null)


@wrong("drop_labels", says="dropped labels became 0")
def _(y, null, drop, training, generator):
    if not training:
        return y.clone()
    return y * (torch.rand(y.shape, generator=generator) >= drop)


@wrong("drop_labels", says="dropped samples were removed")
def _(y, null, drop, training, generator):
    return y[torch.rand(y.shape, generator=generator) >= drop] if training else y.clone()


@wrong("drop_labels", says="always the same")
def _(y, null, drop, training, generator):
    if not training:
        return y.clone()
    n = round(drop * len(y))
    return torch.cat([torch.full((n,), null), y[n:]])


@wrong("drop_labels", says="changes its input in place")
def _(y, null, drop, training, generator):
    if training:
        y[torch.rand(y.shape, generator=generator) < drop] = null
    return y


@wrong("drop_labels", says="share `drop`", how="Gaussian instead of uniform numbers")
def _(y, null, drop, training, generator):
    if not training:
        return y.clone()
    return y.masked_fill(torch.randn(y.shape, generator=generator) < drop, null)


@wrong("drop_labels", says="the same number of labels", how="a tenth of a permutation")
def _(y, null, drop, training, generator):
    out = y.clone()
    if training:
        out[torch.randperm(len(y), generator=generator)[: int(drop * len(y))]] = null
    return out


@wrong("drop_labels", says="the same number of labels", how="the smallest numbers")
def _(y, null, drop, training, generator):
    rank = torch.rand(y.shape, generator=generator).argsort().argsort()
    return y.masked_fill(rank < round(drop * len(y)), null) if training else y.clone()


@wrong("drop_labels", says="the same number of labels", how="seeded anew in each call")
def _(y, null, drop, training, generator):
    coin = torch.rand(y.shape, generator=generator.manual_seed(0))
    return y.masked_fill(coin < drop, null) if training else y.clone()


@wrong("drop_labels", says="the two halves", how="half as many coins")
def _(y, null, drop, training, generator):
    coin = torch.rand((len(y) + 1) // 2, generator=generator).repeat(2)[: len(y)]
    return y.masked_fill(coin < drop, null) if training else y.clone()


@wrong("drop_labels", says="the share `drop`", how="one coin for a class")
def _(y, null, drop, training, generator):
    coin = torch.rand(int(y.max()) + 1, generator=generator)
    return y.masked_fill(coin[y] < drop, null) if training else y.clone()


@wrong("drop_labels", says="a row of integers", how="floats")
def _(y, null, drop, training, generator):
    keep = (torch.rand(y.shape, generator=generator) >= drop).double()
    return keep * y + (1 - keep) * null if training else y.clone()


@wrong("drop_labels", says="global random state")
def _(y, null, drop, training, generator):
    return torch.where(torch.rand(len(y)) < drop, null, y) if training else y.clone()


@right("drop_labels", how="label by label")
def _(y, null, drop, training, generator):
    out = []
    for label in y.tolist():
        gone = training and torch.rand(1, generator=generator).item() < drop
        out.append(null if gone else label)
    return torch.tensor(out, dtype=torch.int64)


@right("drop_labels", how="Bernoulli")
def _(y, null, drop, training, generator):
    share = torch.full(y.shape, float(drop if training else 0.0))
    return y.masked_fill(torch.bernoulli(share, generator=generator).bool(), null)


@right("drop_labels", how="arithmetic")
def _(y, null, drop, training, generator):
    if not training:
        return y + 0
    keep = (torch.rand(y.shape, generator=generator) >= drop).long()
    return keep * y + (1 - keep) * null


@right("drop_labels", how="indices that are filled in")
def _(labels, nobody, rate, training, source):
    rate = rate if training else 0.0
    gone = torch.nonzero(torch.rand(len(labels), generator=source, dtype=torch.float64) < rate)
    return labels.index_fill(0, gone[:, 0], nobody)


equivalent(
    "guidance",
    "drop_labels",
    "torch.rand(len(y), generator=generator) < drop -> "
    "torch.rand(len(y), generator=generator) <= drop",
    because="a uniform number equals drop with probability zero",
)
