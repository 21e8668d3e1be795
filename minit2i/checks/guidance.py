"""Checks of lesson 05: guidance."""

import torch

from minit2i.checks.judge import (
    Mistake,
    described,
    equal,
    exercise,
    fits_points_only,
    holds,
    raises,
    raw,
)


def _column(values, like):
    """One value per sample, shaped to multiply `like` (b, ...)."""
    return values.view(-1, *[1] * (like.ndim - 1))


# --- Bayes' rule for scores ---------------------------------------------------------------------


def _parts(x, means, std, weights):
    """Each component's score (n, k, d), posterior (n, k), for isotropic Gaussians."""
    gap = means - x[:, None]
    log_joint = weights.log() - 0.5 * gap.square().sum(-1) / std**2 - x.shape[1] * std.log()
    return gap / (std**2)[:, None], log_joint.softmax(1)


def _bayes(x, y, means, std, weights, posterior=None):
    scores, exact = _parts(x, means, std, weights)
    posterior = exact if posterior is None else posterior
    return scores[:, y] - (posterior[..., None] * scores).sum(1)


def _no_marginal(x, y, means, std, weights):
    return _parts(x, means, std, weights)[0][:, y]


def _joint(x, y, means, std, weights):
    scores, posterior = _parts(x, means, std, weights)
    return scores[:, y] + (posterior[..., None] * scores).sum(1)


def _reversed(x, y, means, std, weights):
    return -_bayes(x, y, means, std, weights)


def _prior_for_posterior(x, y, means, std, weights):
    return _bayes(x, y, means, std, weights, weights.expand(len(x), -1))


def _no_prior(x, y, means, std, weights):
    return _bayes(x, y, means, std, torch.ones_like(weights))


def _no_normaliser(x, y, means, std, weights):
    # the Gaussians' 1/s^d is left out of the posterior: undone here by a changed prior
    return _bayes(x, y, means, std, weights * std ** x.shape[1])


def _one_power(x, y, means, std, weights):
    # 1/s where 1/s^d belongs
    return _bayes(x, y, means, std, weights * std ** (x.shape[1] - 1))


def _exponent(half=0.5, power=2):
    def wrong(x, y, means, std, weights):
        square = (means - x[:, None]).square().sum(-1)
        log_joint = weights.log() - half * square / std**power - x.shape[1] * std.log()
        return _bayes(x, y, means, std, weights, log_joint.softmax(1))

    return wrong


def _over_points(x, y, means, std, weights):
    square = (means - x[:, None]).square().sum(-1)
    log_joint = weights.log() - 0.5 * square / std**2 - x.shape[1] * std.log()
    return _bayes(x, y, means, std, weights, log_joint.softmax(0))


def _own_class_only(x, y, means, std, weights):
    scores, posterior = _parts(x, means, std, weights)
    return scores[:, y] * (1 - posterior[:, [y]])


def _of_probability(x, y, means, std, weights):
    posterior = _parts(x, means, std, weights)[1]
    return posterior[:, [y]] * _bayes(x, y, means, std, weights)


def _deviation(x, y, means, std, weights):
    scores, posterior = _parts(x, means, std, weights)
    scores = scores * std[:, None]
    return scores[:, y] - (posterior[..., None] * scores).sum(1)


@exercise(
    disables=[
        "minit2i.worlds.plane.Mixture.score",
        "minit2i.worlds.plane.Mixture.posterior",
        "minit2i.worlds.plane.Mixture.log_prob",
    ],
    mistakes=[
        Mistake(
            "this is the conditional score: the marginal is not taken away",
            "log p(y | x) has two terms that depend on x: which one is missing?",
            wrong=_no_marginal,
        ),
        Mistake(
            "the two scores are added",
            "Bayes' rule divides by p(x): what does a division become in the logarithm?",
            wrong=_joint,
        ),
        Mistake(
            "the sign is turned round",
            "following the gradient must make the class more likely: does it?",
            wrong=_reversed,
        ),
        Mistake(
            "the scores are averaged with the prior instead of the posterior",
            "how likely is each class at this very x?",
            wrong=_prior_for_posterior,
        ),
        Mistake(
            "the prior probabilities of the classes are forgotten",
            "a class that is rare beforehand is rare afterwards: where do the weights enter?",
            wrong=_no_prior,
        ),
        Mistake(
            "the Gaussians are not normalised",
            "a wide Gaussian is low: what stands in front of the exponential?",
            wrong=_no_normaliser,
        ),
        Mistake(
            "the Gaussians are normalised as in one dimension",
            "an isotropic Gaussian in d dimensions is a product: how often does 1/σ occur?",
            wrong=_one_power,
        ),
        Mistake(
            "the posterior comes from another exponent than a Gaussian's",
            "write out the Gaussian density: is there a ½ in your exponent, and is σ squared?",
            wrong=_exponent(half=1.0),
        ),
        Mistake(
            "the posterior comes from another exponent than a Gaussian's",
            "write out the Gaussian density: is there a ½ in your exponent, and is σ squared?",
            wrong=_exponent(power=1),
        ),
        Mistake(
            "the posterior is normalised over the points, not over the classes",
            "for each x the probabilities of its classes sum to 1: along which axis do they lie?",
            wrong=_over_points,
        ),
        Mistake(
            "only the wanted class is taken out of the marginal score",
            "every class contributes its own score to the sum in (2), not only y",
            wrong=_own_class_only,
        ),
        Mistake(
            "this is the gradient of p(y | x), not of its logarithm",
            "by which factor do the derivatives of p and of log p differ?",
            wrong=_of_probability,
        ),
        Mistake(
            "the score of a Gaussian is divided by its deviation, not by its variance",
            "differentiate the exponent of a Gaussian: which power of σ remains?",
            wrong=_deviation,
        ),
    ],
)
def classifier_score(answer, draw):
    """∇_x log p(y | x) for a mixture of isotropic Gaussians, from x (n, d), the class y, means
    (k, d), std (k,) and weights (k,)."""
    for k, d in ((3, 2), (4, 3)):
        n = draw.integer(4, 8)
        x, means = draw.normal(n, d), draw.normal(k, d)
        std = draw.uniform(0.6, 1.5, k)
        weights = draw.uniform(0.2, 1.0, k)
        weights = weights / weights.sum()
        y = draw.integer(0, k)
        leaf = x.clone().requires_grad_()
        gauss = torch.distributions.Normal(means, std[:, None])
        log_joint = gauss.log_prob(leaf[:, None]).sum(-1) + weights.log()
        log_joint.log_softmax(1)[:, y].sum().backward()
        expected = leaf.grad
        got = answer(x, y, means, std, weights)
        equal(
            got,
            expected,
            f"the result is the gradient of log p(y | x) ({k} classes, {d} dimensions)",
        )
    every = [answer(x, c, means, std, weights) for c in range(k)]
    posterior = log_joint.detach().softmax(1)
    total = sum(posterior[:, [c]] * each for c, each in enumerate(every))
    equal(
        total,
        torch.zeros_like(x),
        "averaged over the classes, each as probable as it is at x, it vanishes",
    )
    alone = answer(x, 0, means[:1], std[:1], torch.ones_like(weights[:1]))
    equal(alone, torch.zeros_like(x), "where there is only one class, there is nothing to follow")
    far = answer(60 * x, y, means, std, weights)
    holds(
        far.isfinite().all(),
        "far from all data, where every density underflows, it is still a number",
        got=f"{int((~far.isfinite()).sum())} of {far.numel()} numbers NaN or infinite",
    )


# --- classifier guidance, ancestral -------------------------------------------------------------


def _gradient(x_t, y, logits, reading="log", at=None):
    with torch.enable_grad():
        x = (x_t if at is None else at).detach().requires_grad_()
        out = logits(x)
        wanted = {
            "log": out.log_softmax(1),
            "logit": out,
            "probability": out.softmax(1),
        }[reading].gather(1, y[:, None])
        (gradient,) = torch.autograd.grad(wanted.sum(), x)
    return gradient


def _shift(reading="log", power=1.0, sign=1.0, scaled=True, at_mean=False, share=False):
    def wrong(mean, variance, x_t, y, logits, scale):
        gradient = _gradient(x_t, y, logits, reading, mean if at_mean else None)
        factor = sign * (scale if scaled else 1.0) / (len(x_t) if share else 1)
        return mean + factor * _column(variance**power, mean) * gradient

    return wrong


def _shift_of(value, start="mean"):
    """The guided mean for another log-probability: value(logits, y, scale) -> a sum."""

    def wrong(mean, variance, x_t, y, logits, scale):
        with torch.enable_grad():
            x = x_t.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(value(logits(x), y, scale), x)
        return (mean if start == "mean" else x_t) + _column(variance, mean) * gradient

    return wrong


def _wanted(logits, y, dim=1):
    return logits.log_softmax(dim).gather(1, y[:, None]).sum()


@exercise(
    disables=["minit2i.guide.by_gradient"],
    mistakes=[
        Mistake(
            "this is the gradient of the logit, not of the log-probability",
            "a logit may grow while another grows faster: does its class become more probable?",
            wrong=_shift(reading="logit"),
        ),
        Mistake(
            "this is the gradient of the probability, not of its logarithm",
            "what stands behind the ∇ in (4)?",
            wrong=_shift(reading="probability"),
        ),
        Mistake(
            "the sign is turned round",
            "y must become more likely: is that up or down the gradient?",
            wrong=_shift(sign=-1.0),
        ),
        Mistake(
            "the variance is missing from the shift",
            "how far may a step be shifted whose noise is tiny? Compare with (4)",
            wrong=_shift(power=0.0),
        ),
        Mistake(
            "the deviation stands where the variance belongs",
            "complete the square before (4): by which power of Σ is the gradient multiplied?",
            wrong=_shift(power=0.5),
        ),
        Mistake(
            "the scale is not used",
            "what does the lesson say about s, below (4)?",
            wrong=_shift(scaled=False),
        ),
        Mistake(
            "the gradient is divided by the size of the batch",
            "was a mean taken over the batch? Each sample has a gradient of its own",
            wrong=_shift(share=True),
        ),
        Mistake(
            "the gradient is taken at the mean, not at x_t",
            "the derivation takes it there too, but at which point does the docstring ask for it?",
            wrong=_shift(at_mean=True),
        ),
        Mistake(
            "every sample is pulled to the labels of the whole batch",
            "log_prob[:, y] is a matrix of every sample with every label: which entries belong?",
            wrong=_shift_of(lambda out, y, scale: scale * out.log_softmax(1)[:, y].sum()),
        ),
        Mistake(
            "the probabilities are normalised over the batch",
            "the classes of one sample compete with each other: along which axis do they lie?",
            wrong=_shift_of(lambda out, y, scale: scale * _wanted(out, y, 0)),
        ),
        Mistake(
            "the wanted class is not picked out",
            "you add up the log-probabilities of all classes: where does y enter?",
            wrong=_shift_of(lambda out, y, scale: scale * out.log_softmax(1).sum()),
        ),
        Mistake(
            "the scale multiplies the logits",
            "that normalises p^s anew at every x, and the normaliser has a gradient too: what is "
            "multiplied in (4)?",
            wrong=_shift_of(lambda out, y, scale: _wanted(scale * out, y)),
        ),
        Mistake(
            "x_t is shifted, not the mean",
            "x_t is where the gradient is taken: to what is it added in (4)?",
            wrong=_shift_of(lambda out, y, scale: scale * _wanted(out, y), start="x_t"),
        ),
        Mistake(
            "no gradient is recorded",
            "samplers, and this check, call you under torch.no_grad(): what switches recording "
            "on again inside it, and does your x require a gradient?",
            when=lambda calls: any("does not require grad" in str(call.error) for call in calls),
        ),
        Mistake(
            "the variance fits points (b, d) only",
            "pictures have shape (b, c, h, w): how many axes must the variance have there?",
            when=fits_points_only,
        ),
    ],
)
def guided_mean(answer, draw):
    """μ + s Σ ∇ log p(y | x_t) (Dhariwal & Nichol, algorithm 1), from mean (b, ...), variance (b,),
    x_t (b, ...), labels y (b,), logits (x -> (b, classes)) and scale."""
    for shape in ((5, 2), (3, 1, 4, 2)):
        b, size = shape[0], torch.Size(shape[1:]).numel()
        matrix, curve = draw.normal(size, 4), draw.normal(size, 4)

        def logits(x, matrix=matrix, curve=curve):
            flat = x.flatten(1)
            return flat @ matrix + (0.5 * flat).sin() @ curve

        mean, x_t = draw.normal(*shape), draw.normal(*shape)
        variance, y = draw.uniform(0.05, 0.6, b), draw.integer(0, 4, b)
        scale = draw.uniform(1.5, 4.0)
        flat = x_t.flatten(1)
        slope = matrix + 0.5 * (0.5 * flat).cos()[..., None] * curve  # d logits / d x, by hand
        chance = logits(x_t).softmax(1)
        gradient = slope[torch.arange(b), :, y] - (slope * chance[:, None]).sum(-1)
        expected = mean + scale * _column(variance, mean) * gradient.view(shape)
        with torch.no_grad():
            got = answer(mean, variance, x_t, y, logits, scale)
        equal(
            got,
            expected,
            f"shape {shape}: each sample is shifted as in (4), by its own gradient and variance",
        )
        holds(not got.requires_grad, "the result carries no graph along", requires_grad="True")
    equal(answer(mean, variance, x_t, y, logits, 0.0), mean, "scale 0 leaves the mean alone")


# --- classifier-free guidance -------------------------------------------------------------------


def _combination(rule):
    def wrong(conditional, unconditional, scale):
        return lambda x_t, t: rule(conditional(x_t, t), unconditional(x_t, t), scale)

    return wrong


@exercise(
    disables=["minit2i.guide.classifier_free"],
    mistakes=[
        Mistake(
            "scale 0 gives the conditional model: that is Ho and Salimans' w",
            "in (7) scale 1 gives the conditional model: which scale does in yours?",
            wrong=_combination(lambda c, u, s: (1 + s) * c - s * u),
        ),
        Mistake(
            "the branches are swapped",
            "put in scale = 1: which of the two predictions is left over?",
            wrong=_combination(lambda c, u, s: c + s * (u - c)),
        ),
        Mistake(
            "the starting point is missing",
            "the difference of the two is a direction: from where does it start?",
            wrong=_combination(lambda c, u, s: s * (c - u)),
        ),
        Mistake(
            "the two weights do not sum to 1",
            "two equal predictions must be left as they are, whatever the scale",
            wrong=_combination(lambda c, u, s: s * c + u),
        ),
        Mistake(
            "guidance is too weak by one unit",
            "in (7) scale 1 gives the conditional model: which scale does in yours?",
            wrong=_combination(lambda c, u, s: u + (s - 1) * (c - u)),
        ),
        Mistake(
            "the prediction is clipped",
            "combine first, clip afterwards: another wrapper does that",
            wrong=_combination(lambda c, u, s: (u + s * (c - u)).clamp(-1, 1)),
        ),
    ],
)
def classifier_free(answer, draw):
    """x̂_u + scale (x̂_c - x̂_u) as a function from two denoisers and a scale to a denoiser."""
    for shape in ((4, 2), (3, 1, 4, 2)):
        a, b, shift = draw.normal(*shape[1:]), draw.normal(*shape[1:]), draw.normal(*shape[1:])
        x_t, t = draw.normal(*shape), draw.integer(1, 1000, shape[0])

        def conditional(x, t, a=a, shift=shift):
            return 2 * a * x + shift + _column(t / 500, x)

        def unconditional(x, t, b=b):
            return b * x - _column(t / 400, x)

        c, u = conditional(x_t, t), unconditional(x_t, t)
        for scale in (1.0, 0.0, draw.uniform(2.0, 6.0), -draw.uniform(0.5, 2.0)):
            guided = answer(conditional, unconditional, scale)
            if not callable(raw(guided)):
                claim = "a denoiser comes back, a function of x_t and t"
                holds(False, claim, got=described(raw(guided)))
                return
            got = guided(x_t, t)
            equal(
                got,
                (1 - scale) * u + scale * c,
                f"shape {shape}: at every scale the two are combined as in (7)",
            )
    same = answer(conditional, conditional, 5.0)(x_t, t)
    equal(same, c, "two equal predictions are left alone")


# --- three conventions --------------------------------------------------------------------------


def _offsets(ho, glide, imagen, factor=1.0):
    def wrong(paper, value):
        offset = {"ho-salimans": ho, "glide": glide, "imagen": imagen}
        if paper not in offset:
            raise ValueError(paper)
        return factor * value + offset[paper]

    return wrong


@exercise(
    disables=["minit2i.guide.scale_from"],
    mistakes=[
        Mistake(
            "Ho and Salimans' w is taken for the scale",
            "at w = 0 their formula gives ε_c: at which scale does ours?",
            wrong=_offsets(0, 0, 0),
        ),
        Mistake(
            "the conversion runs in the wrong direction",
            "compare the weight of ε_c in both formulas of the table",
            wrong=_offsets(-1, 0, 0),
        ),
        Mistake(
            "Imagen's w is taken for Ho and Salimans'",
            "the same letter, another formula: at which w does Imagen's give ε_c?",
            wrong=_offsets(1, 0, 1),
        ),
        Mistake(
            "GLIDE's s is taken for Ho and Salimans' w",
            "another letter, another formula: at which s does GLIDE's give ε_c?",
            wrong=_offsets(1, 1, 0),
        ),
        Mistake(
            "all three are shifted",
            "look at the columns of the table: do all three differ from ours?",
            wrong=_offsets(1, 1, 1),
        ),
    ],
)
def scale_from(answer, draw):
    """The course's scale from a paper's ("ho-salimans", "glide", "imagen") and its value."""
    c, u = draw.normal(6), draw.normal(6)
    for value in (draw.uniform(0.0, 1.0), draw.uniform(2.0, 8.0)):
        for paper, expected in (
            ("ho-salimans", (1 + value) * c - value * u),
            ("glide", u + value * (c - u)),
            ("imagen", value * c + (1 - value) * u),
        ):
            scale = raw(answer(paper, value))
            if not isinstance(scale, float | int | torch.Tensor):
                holds(False, "the scale is a number", got=described(scale))
                return
            claim = f"{paper}'s formula at its value equals ours at the converted scale"
            equal(u + float(scale) * (c - u), expected, claim)
    raises(ValueError, "an unknown paper is refused with ValueError", answer, "parti", 2.0)


# --- dropping the condition ---------------------------------------------------------------------


def _dropping(replace):
    def wrong(y, null, drop, training, generator):
        if not training:
            return y.clone()
        out = torch.rand(len(y), generator=generator) < drop
        return replace(y, null, out)

    return wrong


def _whole_batch(y, null, drop, training, generator):
    if training and torch.rand(1, generator=generator).item() < drop:
        return torch.full_like(y, null)
    return y.clone()


def _always(y, null, drop, training, generator):
    out = torch.rand(len(y), generator=generator) < drop
    return y.masked_fill(out, null)


def _inverted(y, null, drop, training, generator):
    if not training:
        return y.clone()
    keep = torch.rand(len(y), generator=generator) < drop
    return torch.where(keep, y, torch.full_like(y, null))


def _first_part(y, null, drop, training, generator):
    out = y.clone()
    if training:
        out[: round(drop * len(y))] = null
    return out


def _fixed_count(calls):
    """Whether every training call dropped as many labels as any other of the same size and rate."""
    counts = {}
    for call in calls:
        y, null, drop, training, _ = call.args
        if training and 0 < drop < 1:
            counts.setdefault((len(y), drop), []).append(int((call.output == null).sum()))
    return (
        all(len(set(each)) == 1 for each in counts.values()) and max(map(len, counts.values())) > 9
    )


@exercise(
    disables=["minit2i.condition.draw_keep", "minit2i.condition.LabelEncoder.forward"],
    global_random=False,
    mistakes=[
        Mistake(
            "one draw decides for the whole batch",
            "every sample is dropped or kept on its own: how many random numbers is that?",
            wrong=_whole_batch,
        ),
        Mistake(
            "labels are dropped while sampling too",
            "whoever asks for a seven wants one every time: what is `training` for?",
            wrong=_always,
        ),
        Mistake(
            "the share that is kept and the share that is dropped are exchanged",
            "at drop = 0.1, how many labels in ten should survive?",
            wrong=_inverted,
        ),
        Mistake(
            "dropped labels became 0, which is a class",
            "the null must be nobody's label: which argument names it?",
            wrong=_dropping(lambda y, null, out: y.masked_fill(out, 0)),
        ),
        Mistake(
            "dropped samples were removed from the batch",
            "the picture stays in the batch and trains the null branch: only its label changes",
            wrong=_dropping(lambda y, null, out: y[~out]),
        ),
        Mistake(
            "the first samples of the batch are dropped, always the same",
            "which ones are dropped is left to chance",
            wrong=_first_part,
        ),
        Mistake(
            "every batch loses the same number of labels",
            "every sample throws a coin of its own, anew in every call: is the number of heads "
            "always the same?",
            when=_fixed_count,
        ),
    ],
)
def drop_labels(answer, draw):
    """Labels y (b,) with each replaced by `null` with probability `drop`, independently, in
    training; unchanged otherwise. Random numbers come from `generator`."""
    classes, n, drop = draw.integer(5, 12), 4000, draw.uniform(0.1, 0.3)
    y = draw.integer(0, classes, n)
    null = classes
    equal(answer(y, null, drop, False, draw.generator), y, "when sampling, no label is dropped")
    got = answer(y, null, drop, True, draw.generator)
    equal(got[:0], y[:0], "the labels stay a row of integers", dtype=torch.int64)
    claim = "as many labels come out as went in"
    if not holds(tuple(got.shape) == (n,), claim, got=len(got), expected=n):
        return
    out = got != y
    became = sorted(set(got[out].tolist()))
    holds(set(became) <= {null}, "a label that changed became the null", became=became, null=null)
    share, noise = out.double().mean().item(), (drop * (1 - drop) / n) ** 0.5
    claim = "the share `drop` of the labels is dropped"
    holds(abs(share - drop) < 5 * noise, claim, share=share, drop=drop)
    for part, name in ((out[: n // 2], "first"), (out[n // 2 :], "second")):
        share = part.double().mean().item()
        claim = f"the same share is dropped in the batch's {name} half"
        holds(abs(share - drop) < 8 * noise, claim, share=share, drop=drop)
    both = (out[1:] & out[:-1]).double().mean().item()
    claim = "neighbours are dropped independently"
    holds(abs(both - drop**2) < 0.03, claim, share_of_pairs=both, expected=drop**2)
    both = (out[: n // 2] & out[n // 2 :]).double().mean().item()
    claim = "the two halves are dropped independently"
    holds(abs(both - drop**2) < 0.03, claim, share_of_pairs=both, expected=drop**2)
    small = [answer(y[:3], null, 0.5, True, draw.generator) != y[:3] for _ in range(40)]
    mixed = sum(0 < int(each.sum()) < 3 for each in small)
    claim = "within one batch some are dropped and some are not"
    holds(mixed > 15, claim, of_40_batches_this_is_so_in=mixed)
    counts = sorted({int(each.sum()) for each in small})
    claim = "how many of a batch are dropped is left to chance"
    holds(len(counts) > 2, claim, dropped_in_40_batches_of_3=counts)
    equal(answer(y, null, 0.0, True, draw.generator), y, "drop = 0 drops none")
    nulls = torch.full_like(y, null)
    equal(answer(y, null, 1.0, True, draw.generator), nulls, "drop = 1 drops all")
