"""Checks of lesson 06: pictures."""

import copy
import math

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from minit2i.checks.compare import alike
from minit2i.checks.judge import Mistake, described, equal, exercise, holds, raw
from minit2i.layers import ResBlock

# --- space to depth -----------------------------------------------------------------------------


class _Watch(TorchFunctionMode):
    """Notes whether torch's own function is called: it has no Python code to switch off."""

    def __init__(self, name):
        super().__init__()
        self.name, self.seen = name, False

    def __torch_function__(self, func, types, args=(), kwargs=None):
        self.seen |= getattr(func, "__name__", "") == self.name
        return func(*args, **(kwargs or {}))


def _cut(order, blocks=True):
    """A wrong answer that cuts a picture into blocks, or into f × f tiles, in another order."""

    def wrong(x, f):
        b, c, h, w = x.shape
        sizes = (h // f, f, w // f, f) if blocks else (f, h // f, f, w // f)
        return x.reshape(b, c, *sizes).permute(order).reshape(b, c * f * f, h // f, w // f)

    return wrong


def _transposed(x, f):
    return nn.functional.pixel_unshuffle(x, f).transpose(2, 3)


def _reshaped(x, f):
    b, c, h, w = x.shape
    return x.reshape(b, c * f * f, h // f, w // f)


@exercise(
    mistakes=[
        Mistake(
            "the numbers are dealt out in memory order, without regard to blocks",
            "a reshape alone moves nothing: of which pixels does your channel 0 consist?",
            wrong=_reshaped,
        ),
        Mistake(
            "rows and columns within a block are exchanged",
            "one place further in the channels is one column further in the block",
            wrong=_cut((0, 1, 5, 3, 2, 4)),
        ),
        Mistake(
            "the places come first and the picture's channels second",
            "which channels of the result belong to channel 0 of the picture?",
            wrong=_cut((0, 3, 5, 1, 2, 4)),
        ),
        Mistake(
            "the picture is cut into f × f tiles",
            "neighbouring pixels belong to one block and so to different channels: which of the "
            "two axes that a side is split into runs within a block?",
            wrong=_cut((0, 1, 2, 4, 3, 5), blocks=False),
        ),
        Mistake(
            "height and width are exchanged",
            "in which order do the last two axes of the result stand?",
            wrong=_transposed,
        ),
        Mistake(
            "one pixel of each block is left, the others are lost",
            "as many numbers come out as go in: a fold is no shrinking",
            wrong=lambda x, f: x[:, :, ::f, ::f],
        ),
        Mistake(
            "each block is averaged",
            "as many numbers come out as go in: a fold is no shrinking",
            wrong=nn.functional.avg_pool2d,
        ),
        Mistake(
            "this is the way back",
            "a fold makes sides shorter and channels more",
            when=lambda calls: any("pixel_shuffle expects" in str(call.error) for call in calls),
        ),
    ],
)
def fold(answer, draw):
    """(b, c, h, w) -> (b, c f², h/f, w/f): channel c f² + i f + j is x[:, c, i::f, j::f]."""
    with _Watch("pixel_unshuffle") as watch:
        first = [0.0, 2.0, 8.0, 10.0]
        expected = torch.tensor([[place + offset for place in first] for offset in (0, 1, 4, 5)])
        equal(
            answer(torch.arange(16.0).view(1, 1, 4, 4), 2),
            expected.view(1, 4, 2, 2),
            "folded by 2, the picture 0 1 2 … 15 (4 × 4) has the channels 0 2 8 10, 1 3 9 11, "
            "4 6 12 14 and 5 7 13 15",
        )
        for f, c, h, w in ((2, 4, 3, 5), (3, 2, 4, 2), (1, 3, 2, 3)):
            x = draw.normal(2, c, f * h, f * w)
            parts = [x[:, k, i::f, j::f] for k in range(c) for i in range(f) for j in range(f)]
            got = answer(x, f)
            equal(
                got,
                torch.stack(parts, 1),
                f"folded by {f}, channel {f * f} c + {f} i + j holds pixel (i, j) of each block",
            )
    called = watch.seen and "pixel_unshuffle"
    holds(not called, "the pixels are moved by lines of your own", called=called)


# --- the residual block -------------------------------------------------------------------------


def _silu(x):
    return x * x.sigmoid()


def _halves(both):
    return both[:, :, None, None].chunk(2, 1)


def _variant(opened=None, embedded=None, split=_halves, bent=None, closed=None, joined=None):
    """The right answer, or a wrong one with another part.

    opened (block, h) before the first convolution; embedded (emb); split (block.modulate's output)
    into scale and shift; bent (norm, inner, scale, shift) up to the second SiLU; closed (block,
    inner) to the update; joined (block, h, update).
    """
    opened = opened or (lambda block, h: _silu(block.before(h)))
    embedded = embedded or (lambda emb: emb)
    bent = bent or (lambda norm, x, scale, shift: _silu(norm(x) * (1 + scale) + shift))
    closed = closed or (lambda block, x: block.second(block.dropout(x)))
    joined = joined or (lambda block, h, update: block.skip(h) + update)

    def answer(block, h, emb):
        scale, shift = split(block.modulate(embedded(emb)))
        inner = bent(block.between, block.first(opened(block, h)), scale, shift)
        return joined(block, h, closed(block, inner))

    return answer


_residual = _variant()


def _swapped(both):
    return _halves(both)[::-1]


def _alternating(both):
    return both[:, ::2, None, None], both[:, 1::2, None, None]


@exercise(
    disables=["minit2i.layers.ResBlock.forward"],
    mistakes=[
        Mistake(
            "the scale multiplies without the 1",
            "when the layer gives zeros the block should be an ordinary one: what does yours do?",
            wrong=_variant(bent=lambda norm, x, scale, shift: _silu(norm(x) * scale + shift)),
        ),
        Mistake(
            "scale and shift are exchanged",
            "which half of the layer's output comes first?",
            wrong=_variant(split=_swapped),
        ),
        Mistake(
            "the modulation comes before the norm",
            "what does a normalisation do to a scale and a shift that stand before it?",
            wrong=_variant(bent=lambda norm, x, scale, shift: _silu(norm(x * (1 + scale) + shift))),
        ),
        Mistake(
            "the skip is forgotten",
            "what should be left of h when the last convolution gives zeros?",
            wrong=_variant(joined=lambda block, h, update: update),
        ),
        Mistake(
            "the skip starts behind the norm",
            "what comes in is to reach the sum untouched, but for the number of its channels",
            wrong=_variant(joined=lambda block, h, update: block.skip(block.before(h)) + update),
        ),
        Mistake(
            "the skip starts behind norm and SiLU",
            "what comes in is to reach the sum untouched, but for the number of its channels",
            wrong=_variant(
                joined=lambda block, h, update: block.skip(_silu(block.before(h))) + update
            ),
        ),
        Mistake(
            "h is added as it is",
            "what if the block changes the number of channels? One of its parts is for that",
            when=lambda calls: any("dimension 1" in str(call.error) for call in calls),
        ),
        Mistake(
            "the embedding is not used",
            "how does the block learn at which time it works? One of its parts is for that",
            wrong=lambda block, h, emb: (
                block.skip(h)
                + block.second(
                    block.dropout(_silu(block.between(block.first(_silu(block.before(h))))))
                )
            ),
        ),
        Mistake(
            "the shift alone is used",
            "the layer gives two numbers a channel: what is the other one for?",
            wrong=_variant(bent=lambda norm, x, scale, shift: _silu(norm(x) + shift)),
        ),
        Mistake(
            "the scale alone is used",
            "the layer gives two numbers a channel: what is the other one for?",
            wrong=_variant(bent=lambda norm, x, scale, shift: _silu(norm(x) * (1 + scale))),
        ),
        Mistake(
            "the modulation comes after the SiLU",
            "read the formula from the inside: what does SiLU get to see?",
            wrong=_variant(bent=lambda norm, x, scale, shift: _silu(norm(x)) * (1 + scale) + shift),
        ),
        Mistake(
            "the SiLU after the modulation is missing",
            "two convolutions with nothing bent between them are one",
            wrong=_variant(bent=lambda norm, x, scale, shift: norm(x) * (1 + scale) + shift),
        ),
        Mistake(
            "SiLU comes before the first norm",
            "read the formula from the inside: which comes first?",
            wrong=_variant(opened=lambda block, h: block.before(_silu(h))),
        ),
        Mistake(
            "the SiLU after the first norm is missing",
            "there are two in the formula",
            wrong=_variant(opened=lambda block, h: block.before(h)),
        ),
        Mistake(
            "the first norm is left out",
            "read the formula from the inside: what is done to h first?",
            wrong=_variant(opened=lambda block, h: _silu(h)),
        ),
        Mistake(
            "the second norm is left out",
            "what stands between the first convolution and the modulation?",
            wrong=_variant(bent=lambda norm, x, scale, shift: _silu(x * (1 + scale) + shift)),
        ),
        Mistake(
            "another activation than SiLU bends",
            "SiLU(x) = x · sigmoid(x), which is not quite ReLU",
            wrong=_variant(
                opened=lambda block, h: block.before(h).relu(),
                bent=lambda norm, x, scale, shift: (norm(x) * (1 + scale) + shift).relu(),
            ),
        ),
        Mistake(
            "the sum goes through SiLU",
            "the sum leaves the block as it is, so that h could pass through many blocks unbent",
            wrong=_variant(joined=lambda block, h, update: _silu(block.skip(h) + update)),
        ),
        Mistake(
            "the embedding goes through SiLU once more",
            "what does the docstring say of emb?",
            wrong=_variant(embedded=_silu),
        ),
        Mistake(
            "scale and shift take turns",
            "they are the first half of the numbers and the second, not every other one",
            wrong=_variant(split=_alternating),
        ),
        Mistake(
            "scale and shift have no axes for the picture's sides",
            "(b, outer) lines up with the last axes of (b, outer, y, x), but belongs to the first",
            when=lambda calls: any("dimension 3" in str(call.error) for call in calls),
        ),
        Mistake(
            "the dropout is forgotten",
            "one of the block's parts does something only while it is trained",
            wrong=_variant(closed=lambda block, x: block.second(x)),
        ),
        Mistake(
            "the dropout comes after the last convolution",
            "read the formula from the inside: what is thinned out?",
            wrong=_variant(closed=lambda block, x: block.dropout(block.second(x))),
        ),
    ],
)
def residual(answer, draw):
    """The forward of a residual block from its parts, h (b, inner, y, x) and emb (b, width)."""
    for inner, outer in ((4, 8), (8, 8)):
        full = _filled(ResBlock(inner, outer, 6), draw).eval()
        h, emb = draw.normal(2, inner, 3, 5), draw.normal(2, 6)
        for silent, claim in (
            ("second", "with a last convolution of zeros, the block is its skip"),
            ("modulate", "without scale and shift, it is an ordinary residual block"),
            ("", "with everything, the result is that of the formula"),
        ):
            block = copy.deepcopy(full)
            with torch.no_grad():
                for p in getattr(block, silent).parameters() if silent else ():
                    p.zero_()
                got = answer(block, h, emb)
                equal(got, _residual(block, h, emb), f"{inner} to {outer} channels: {claim}")
    _thins_out(answer, draw)


@torch.no_grad()
def _filled(block, draw):
    """The block in double precision, with weights that are no special case."""
    block = block.double()
    for p in block.parameters():
        p.copy_(draw.normal(*p.shape) / math.sqrt(max(1, p[0].numel())))
    for norm in (block.before, block.between):
        norm.weight.add_(1)
    return block


@torch.no_grad()
def _thins_out(answer, draw):
    """State that in training dropout acts on what goes into the last convolution, whichever way
    the answer drops: that convolution mixes channels only, so it can be undone."""
    rate, outer = draw.uniform(0.3, 0.6), 8
    block = _filled(ResBlock(outer, outer, 6, rate), draw)
    mix = torch.eye(outer, dtype=torch.float64) + 0.3 * draw.normal(outer, outer)
    block.second.weight.zero_()[:, :, 1, 1] = mix
    h, emb = draw.normal(3, outer, 5, 7), draw.normal(3, 6)
    full = _undone(block, mix, _residual(block.eval(), h, emb) - h)
    got = answer(block.train(), h, emb)
    claim = "in training, dropout thins out what goes into the last convolution"
    if not isinstance(got, torch.Tensor) or got.shape != h.shape:
        equal(got, h, claim)
        return
    got = _undone(block, mix, got - h)
    gone, scaled = got.abs() < 1e-9, (got - full / (1 - rate)).abs() < 1e-9
    share = (gone & (full.abs() > 1e-6)).double().mean().item()
    noise = (rate * (1 - rate) / got.numel()) ** 0.5
    good = bool((gone | scaled).all()) and abs(share - rate) < 6 * noise
    holds(good, claim, dropped=share, asked=rate)


def _undone(block, mix, update):
    """What went into a last convolution that only mixes channels."""
    return torch.einsum("oi,biyx->boyx", mix.inverse(), update - block.second.bias[:, None, None])


# --- averaged weights ---------------------------------------------------------------------------


class _Net(nn.Module):
    """A small network with running statistics; a copy knows whether a graph hung on the original,
    and which tensors that one had, since autograd forbids to copy such a network as it is."""

    def __init__(self, counts=False):
        super().__init__()
        self.linear = nn.Linear(3, 4).double()
        self.scale = nn.Parameter(torch.ones(4, dtype=torch.float64))
        self.register_buffer("mean", torch.zeros(4, dtype=torch.float64))
        if counts:  # not always: whole numbers cannot be averaged, and answers that try stop here
            self.register_buffer("count", torch.tensor(0))
        self.graph, self.tensors = False, ()

    def __deepcopy__(self, memo):
        twin = _Net(hasattr(self, "count"))
        twin.load_state_dict(self.state_dict())
        for mine, theirs in zip(twin.parameters(), self.parameters(), strict=True):
            mine.requires_grad_(theirs.requires_grad)
        twin.graph = any(p.grad_fn is not None for p in self.parameters())
        twin.tensors = tuple(map(id, [*self.parameters(), *self.buffers()]))
        return twin


def _net(draw, counts=False, trains=True):
    net = _Net(counts).requires_grad_(trains)
    with torch.no_grad():
        for values in (*net.parameters(), *net.buffers()):
            values.copy_(draw.normal(*values.shape) if values.ndim else draw.integer(5, 90, 1)[0])
    return net


def _warm(step, decay):
    return min(decay, (1 + step) / (10 + step))


def _averaging(decay=_warm, rule=None, buffers=None):
    """The right answer, or a wrong one with another decay, another rule or other buffers."""
    rule = rule or (lambda old, new, d: old.copy_(d * old + (1 - d) * new))
    buffers = buffers or (lambda old, new, d: old.copy_(new))

    @torch.no_grad()
    def answer(ema, model, step, limit):
        d = decay(step, limit)
        for old, new in zip(ema.parameters(), model.parameters(), strict=True):
            rule(old, new, d)
        for old, new in zip(ema.buffers(), model.buffers(), strict=True):
            buffers(old, new, d)

    return answer


def _shrunk(old, new, d):
    new.mul_(1 - d)
    old.mul_(d).add_(new)


def _moves(calls):
    """(average before, model before, average after, model after, d) of each call that ended."""
    return [
        (*call.args[:2], *call.after[:2], _warm(*call.args[2:]))
        for call in calls
        if call.after is not None
    ]


def _stand_still(calls):
    """Whether no parameter of the two has moved, whatever came back."""
    still = [
        alike([*before.parameters()], [*after.parameters()])
        for old, new, ema, model, _ in _moves(calls)
        for before, after in ((old, ema), (new, model))
    ]
    return bool(still) and all(still)


def _buffers_between(calls):
    """Whether a buffer came out as the average of the two that went in."""
    return any(
        alike(ema.mean, d * old.mean + (1 - d) * new.mean) for old, new, ema, _, d in _moves(calls)
    )


def _graph(calls):
    """Whether the average hung on a graph, or autograd refused to let one begin."""
    return any(move[2].graph for move in _moves(calls)) or any(
        "leaf Variable" in str(call.error) for call in calls
    )


@exercise(
    disables=["minit2i.train.update_average", "minit2i.train.TrainConfig.ema_at"],
    mutates=True,
    mistakes=[
        Mistake(
            "the two weights are exchanged",
            "at a decay of 0.999, how much of the old average should be left after a step?",
            wrong=_averaging(rule=lambda old, new, d: old.copy_((1 - d) * old + d * new)),
        ),
        Mistake(
            "there is no warm-up",
            "with a decay of 0.999 the random first weights would be felt for thousands of steps: "
            "what is d at step 0?",
            wrong=_averaging(decay=lambda step, decay: decay),
        ),
        Mistake(
            "the greater of the two decays is taken",
            "the warm-up is to forget faster than `decay`, and never more slowly",
            wrong=_averaging(decay=lambda step, decay: max(decay, (1 + step) / (10 + step))),
        ),
        Mistake(
            "the decay is not limited",
            "what does (1 + step)/(10 + step) come to after a million steps?",
            wrong=_averaging(decay=lambda step, decay: (1 + step) / (10 + step)),
        ),
        Mistake(
            "the two decays are multiplied",
            "late in the training the decay should be just `decay`",
            wrong=_averaging(decay=lambda step, decay: decay * (1 + step) / (10 + step)),
        ),
        Mistake(
            "the step is counted from 1",
            "the first call has step = 0: which d does the formula give there?",
            wrong=_averaging(decay=lambda step, decay: min(decay, (2 + step) / (11 + step))),
        ),
        Mistake(
            "the step before is used",
            "the first call has step = 0: which d does the formula give there?",
            wrong=_averaging(decay=lambda step, decay: min(decay, step / (9 + step))),
        ),
        Mistake(
            "the model is changed, not the average",
            "which of the two goes on training?",
            wrong=_averaging(
                rule=lambda old, new, d: new.copy_(d * new + (1 - d) * old),
                buffers=lambda old, new, d: new.copy_(old),
            ),
        ),
        Mistake(
            "the model's weights are scaled on the way",
            "a method with _ at its end writes into its tensor: whose is it?",
            wrong=_averaging(rule=_shrunk),
        ),
        Mistake(
            "the old average is not shrunk",
            "the two weights add up to 1: an average of two equal networks is that network",
            wrong=_averaging(rule=lambda old, new, d: old.add_((1 - d) * new)),
        ),
        Mistake(
            "the average moves away from the model",
            "of which sign is the difference that is added?",
            wrong=_averaging(rule=lambda old, new, d: old.add_((1 - d) * (old - new))),
        ),
        Mistake(
            "the model is copied, not averaged",
            "what is left of the old average in yours?",
            wrong=_averaging(rule=lambda old, new, d: old.copy_(new)),
        ),
        Mistake(
            "the buffers are forgotten",
            "a network has numbers that no gradient moves: do parameters() list them?",
            wrong=_averaging(buffers=lambda old, new, d: None),
        ),
        Mistake(
            "the buffers are averaged too",
            "they are statistics already, or counters: what does the docstring ask for?",
            when=_buffers_between,
        ),
        Mistake(
            "a graph is recorded",
            "the average would hold on to every step since the first: what switches recording off?",
            when=_graph,
        ),
        Mistake(
            "new tensors are made, and the average's own stay as they were",
            "`a = d * a + …` makes a tensor and names it a: which methods write into one?",
            when=_stand_still,
        ),
        Mistake(
            "the average gets new tensors in the place of its own",
            "others hold on to the old ones: which methods write into a tensor?",
            when=lambda calls: any(old.tensors != ema.tensors for old, _, ema, *_ in _moves(calls)),
        ),
    ],
)
def average(answer, draw):
    """In place: ema ← d ema + (1 - d) model, d = min(decay, (1 + step)/(10 + step)); buffers are
    copied."""
    for step, decay, counts in (
        (draw.integer(3, 40), 0.99, False),
        (draw.integer(400, 900), draw.uniform(0.3, 0.9), False),
        (0, 0.999, False),
        (draw.integer(3, 40), 0.95, True),
    ):
        ema, model = _net(draw, counts, trains=False), _net(draw, counts)
        d = decay if decay < (1 + step) / (10 + step) else (1 + step) / (10 + step)
        old, new = [[p.detach().clone() for p in net.parameters()] for net in (ema, model)]
        stats = [buffer.clone() for buffer in model.buffers()]
        own = [*ema.parameters(), *ema.buffers()]
        answer(ema, model, step, decay)
        when = "at step 0" if step == 0 else "while d grows" if d < decay else "once d = decay"
        now = [*ema.parameters(), *ema.buffers()]
        expected = [d * a + (1 - d) * b for a, b in zip(old, new, strict=True)]
        equal(
            [p.detach() for p in ema.parameters()], expected, f"{when}: the parameters are averaged"
        )
        equal([*ema.buffers()], stats, "the buffers are the model's")
        left = [p.detach() for p in model.parameters()] + [*model.buffers()]
        equal(left, new + stats, "the model stays as it was")
        trains = all(p.requires_grad for p in model.parameters())
        holds(trains, "the model can still be trained", requires_grad=str(trains))
        graph = any(p.requires_grad for p in ema.parameters())
        holds(not graph, "no graph is recorded", requires_grad=str(graph))
        kept = all(a is b for a, b in zip(own, now, strict=True))
        shared = {p.data_ptr() for p in now} & {
            p.data_ptr() for p in (*model.parameters(), *model.buffers())
        }
        holds(kept, "the average keeps the tensors it had", kept=str(kept))
        holds(not shared, "the average shares no memory with the model", shared=len(shared))


# --- Fréchet distance ---------------------------------------------------------------------------


def _moments(x, less=1):
    x = raw(x).double()
    gap = x - x.mean(0)
    return x.mean(0), gap.T @ gap / (len(x) - less)


def _root(product):
    """Tr product^½ of two covariances' product."""
    return torch.linalg.eigvals(product).real.clamp(min=0).sqrt().sum()


def _trace_of_root(s_a, s_b):
    return _root(s_a @ s_b)


def _distance(less=1, apart=None, shared=None, both=2.0, end=float):
    """The right answer, or a wrong one with another divisor, mean term, root or end."""
    apart = apart or (lambda gap: gap.square().sum())
    shared = shared or _trace_of_root

    def answer(a, b):
        (m_a, s_a), (m_b, s_b) = _moments(a, less), _moments(b, less)
        spread = s_a.trace() + s_b.trace() - both * shared(s_a, s_b)
        return float(end(apart(m_a - m_b) + spread))

    return answer


def _sqrtm(s):
    values, vectors = torch.linalg.eigh(s)
    return vectors * values.clamp(min=0).sqrt() @ vectors.T


def _variances(s_a, s_b):
    return (s_a.diagonal() * s_b.diagonal()).sqrt().sum()


def _deviations(a, b):
    m_a, m_b, s_a, s_b = a.mean(0), b.mean(0), a.std(0), b.std(0)
    return float((m_a - m_b).square().sum() + (s_a + s_b - 2 * (s_a * s_b).sqrt()).sum())


def _uncentred(a, b):
    a, b = a.double(), b.double()
    s_a, s_b = a.T @ a / (len(a) - 1), b.T @ b / (len(b) - 1)
    gap = (a.mean(0) - b.mean(0)).square().sum()
    return float(gap + s_a.trace() + s_b.trace() - 2 * _root(s_a @ s_b))


def _across(a, b):
    s_a, s_b = a.double().cov(), b.double().cov()
    gap = (a.double().mean(0) - b.double().mean(0)).square().sum()
    return float(gap + s_a.trace() + s_b.trace() - 2 * _root(s_a @ s_b))


@exercise(
    disables=["minit2i.evaluate.frechet", "minit2i.evaluate._moments"],
    numpy=True,
    mistakes=[
        Mistake(
            "the covariances are divided by n",
            "the mean was taken from the same points: by what is a sum of squares divided then?",
            wrong=_distance(less=0),
        ),
        Mistake(
            "the root is taken of each entry",
            "the root of a matrix S is a matrix R with R R = S: try your root on [[2, 1], [1, 2]]",
            wrong=_distance(shared=lambda s_a, s_b: (s_a @ s_b).diagonal().sqrt().sum()),
        ),
        Mistake(
            "the root is taken of the trace",
            "first the root of the matrix, then its trace: of which numbers is that the sum?",
            wrong=_distance(shared=lambda s_a, s_b: (s_a @ s_b).trace().sqrt()),
        ),
        Mistake(
            "the root is taken of the sum of the covariances",
            "what stands under the root?",
            wrong=_distance(shared=lambda s_a, s_b: _root(s_a + s_b)),
        ),
        Mistake(
            "there is no root",
            "the distance of a cloud to itself must be 0",
            wrong=_distance(shared=lambda s_a, s_b: (s_a @ s_b).trace()),
        ),
        Mistake(
            "the roots are taken one by one, then multiplied",
            "the root of a product is the product of the roots only where the two commute",
            wrong=_distance(shared=lambda s_a, s_b: (_sqrtm(s_a) @ _sqrtm(s_b)).trace()),
        ),
        Mistake(
            "the product is treated as symmetric",
            "eigvalsh and eigh look at one triangle only: is the product of two symmetric "
            "matrices symmetric?",
            wrong=_distance(
                shared=lambda s_a, s_b: torch.linalg.eigvalsh(s_a @ s_b).clamp(min=0).sqrt().sum()
            ),
        ),
        Mistake(
            "the singular values of the product are taken for its eigenvalues",
            "they agree for symmetric matrices: is the product of two such symmetric?",
            wrong=_distance(shared=lambda s_a, s_b: torch.linalg.svdvals(s_a @ s_b).sqrt().sum()),
        ),
        Mistake(
            "correlations are left out",
            "variances are the diagonal of a covariance: turn the cloud, and they change",
            wrong=_distance(shared=_variances),
        ),
        Mistake(
            "standard deviations stand in the place of covariances",
            "variances add up, deviations do not: of which does the formula speak?",
            wrong=_deviations,
        ),
        Mistake(
            "the distance of the means is not squared",
            "all terms must have the same unit: what becomes of each when the features double?",
            wrong=_distance(apart=lambda gap: gap.norm()),
        ),
        Mistake(
            "the mean of the squares is taken, not their sum",
            "the squared length of a vector is a sum over its coordinates",
            wrong=_distance(apart=lambda gap: gap.square().mean()),
        ),
        Mistake(
            "the means are left out",
            "two clouds of one shape at different places are not alike",
            wrong=_distance(apart=lambda gap: 0.0),
        ),
        Mistake(
            "the factor 2 is missing",
            "the distance of a cloud to itself must be 0",
            wrong=_distance(both=1.0),
        ),
        Mistake(
            "this is the root of the distance",
            "what the field calls by this name is the squared one: what should doubled features "
            "do to it?",
            wrong=_distance(end=lambda total: total.clamp(min=0).sqrt()),
        ),
        Mistake(
            "the points are not centred",
            "that is the mean of x xᵀ: a covariance is one of deviations from the mean",
            when=lambda calls: all(  # far from 0 it loses too many digits to be compared
                alike(call.output, _uncentred(*call.args))
                for call in calls
                if call.args[0].dtype == torch.float64
            ),
        ),
        Mistake(
            "samples are taken for features",
            "torch.cov and numpy's want one *row* for each feature: of which shape is yours?",
            wrong=_across,
        ),
        Mistake(
            "the root is taken of a number below 0",
            "the product has no eigenvalue below 0, but rounding makes -1e-17 of a 0; entries of a "
            "matrix may well be below 0",
            when=lambda calls: any(
                isinstance(call.output, torch.Tensor | float) and math.isnan(call.output)
                for call in calls
            ),
        ),
        Mistake(
            "the eigenvalues are left complex",
            "but for rounding they are real: what is to be thrown away, before the root?",
            when=lambda calls: any(_complex(call.output) for call in calls),
        ),
        Mistake(
            "a matrix without inverse is taken apart",
            "fewer points than features lie in a plane: which factorisation needs no inverse?",
            when=lambda calls: any(
                type(call.error).__name__ in ("LinAlgError", "_LinAlgError") for call in calls
            ),
        ),
    ],
)
def frechet(answer, draw):
    """‖m_a - m_b‖² + Tr(S_a + S_b - 2 (S_a S_b)^½) of clouds a (n, d) and b (m, d), as a number."""
    n, m = draw.integer(9, 14), draw.integer(15, 20)
    exact = _with(draw, n, (1, 4, 9), 0), _with(draw, m, (4, 4, 1), 1)
    claim = "variances 1 4 9 around 0 and 4 4 1 around (1, 1, 1) are 8 apart: 1+1+1 + 1²+0²+2²"
    _number(answer(*exact), 8.0, claim)
    turn = torch.linalg.qr(draw.normal(3, 3)).Q
    stretch = draw.uniform(2.0, 3.0)
    got = answer(*(stretch * cloud @ turn for cloud in exact))
    _number(got, 8 * stretch**2, "turning both clouds changes nothing, stretching goes squared")
    d = draw.integer(4, 7)
    a, b = draw.normal(n, d) @ draw.normal(d, d), draw.normal(m, d) @ draw.normal(d, d) + 1
    _number(answer(a, b), _nuclear(a, b), "the distance is that of (n, d) and (m, d) correlated")
    claim = "a cloud and its copy, shifted by 1 along each axis, are d apart"
    _number(answer(a, a + 1), float(d), claim)
    b = draw.normal(n, d) * draw.uniform(0.5, 2, d)
    _number(answer(a, b), _nuclear(a, b), "equally many points make no difference")
    a, b = draw.normal(5, 12), 2 * draw.normal(8, 12)
    claim = "fewer points than features do no harm"
    _number(answer(a, b), _nuclear(a, b), claim, tol=1e-3)  # a matrix root is not exact there
    a, b = (1000 + draw.normal(k, d, dtype=torch.float32) for k in (n, m))
    claim = "features in single precision are taken to double precision before they are used"
    _number(answer(a, b), _nuclear(a, b), claim)


def _with(draw, n, variances, mean):
    """n points with exactly these variances, no correlation, and this mean."""
    x = draw.normal(n, len(variances))
    flat = torch.linalg.qr(x - x.mean(0)).Q * (n - 1) ** 0.5
    return flat * torch.tensor(variances, dtype=torch.float64).sqrt() + mean


def _nuclear(a, b):
    """The distance by way of Tr (S_a S_b)^½ = the sum of A Bᵀ's singular values, S = AᵀA."""
    (m_a, s_a), (m_b, s_b) = _moments(a), _moments(b)
    a, b = ((x.double() - x.double().mean(0)) / (len(x) - 1) ** 0.5 for x in (a, b))
    shared = torch.linalg.svdvals(a @ b.T).sum()
    return float((m_a - m_b).square().sum() + s_a.trace() + s_b.trace() - 2 * shared)


def _number(got, expected, claim, tol=1e-6):
    """State that a real number came back, and which."""
    got = raw(got)
    if _complex(got):
        holds(False, "the distance is a real number", got=described(got))
    else:
        equal(got, expected, claim, tol=tol)


def _complex(number):
    return isinstance(number, complex) or getattr(number, "is_complex", bool)()


# --- exclusive attention ------------------------------------------------------------------------


def _shared(claims=None, lowered=None, end=None):
    """The right answer, or a wrong one with other claims, another use of them, or another end."""
    claims = claims or (lambda words, own: words.logsumexp(1, keepdim=True))
    lowered = lowered or (lambda words, claim, strength: words - strength * claim)
    end = end or (lambda words, own: torch.cat([words, own], 2).softmax(2))

    def answer(words, own, strength):
        return end(lowered(words, claims(words, own), strength), own)

    return answer


def _claimed(words, own, strength):
    """The right answer, if the claims were held against the positions' own keys as well."""
    both = torch.cat([words, own], 2)
    return (both - strength * both.logsumexp(1, keepdim=True)).softmax(2)


@exercise(
    disables=[
        "minit2i.layers.JointAttention.forward",
        "minit2i.layers.JointAttention._penalty",
    ],
    mistakes=[
        Mistake(
            "the claims are summed over the tokens",
            "how much does the whole *picture* want one token: over which axis is that a sum?",
            wrong=_shared(claims=lambda words, own: words.logsumexp(2, keepdim=True)),
        ),
        Mistake(
            "the claims are summed over the batch",
            "each picture shares out its own caption: which axis holds the positions?",
            wrong=_shared(claims=lambda words, own: words.logsumexp(0, keepdim=True)),
        ),
        Mistake(
            "the positions' own keys are claimed too",
            "which logits does the formula lower, and which does it leave alone?",
            wrong=_claimed,
        ),
        Mistake(
            "the claims are added",
            "the more a token is wanted, the less of it should be left",
            wrong=_shared(lowered=lambda words, claim, strength: words + strength * claim),
        ),
        Mistake(
            "the strength is left out",
            "what should strength 0 give?",
            wrong=_shared(lowered=lambda words, claim, strength: words - claim),
        ),
        Mistake(
            "the strength multiplies the logit as well",
            "what should strength 0 give? The words are still there",
            wrong=_shared(lowered=lambda words, claim, strength: strength * (words - claim)),
        ),
        Mistake(
            "the logarithm of the sum is missing",
            "the sum of exponentials is a weight; what is taken from a logit is a logarithm",
            wrong=_shared(claims=lambda words, own: words.exp().sum(1, keepdim=True)),
        ),
        Mistake(
            "the logits are summed without exponentials",
            "what a softmax divides by is a sum of exponentials",
            wrong=_shared(claims=lambda words, own: words.sum(1, keepdim=True)),
        ),
        Mistake(
            "the claim is a mean over the positions",
            "two positions that want a token claim twice as much as one",
            wrong=_shared(
                claims=lambda words, own: (
                    words.logsumexp(1, keepdim=True) - math.log(words.shape[1])
                )
            ),
        ),
        Mistake(
            "the claim is that of the greediest position alone",
            "two positions that want a token claim twice as much as one",
            wrong=_shared(claims=lambda words, own: words.amax(1, keepdim=True)),
        ),
        Mistake(
            "the last softmax runs over the positions",
            "which weights should add up to one: those with which one position looks at the keys",
            wrong=_shared(end=lambda words, own: torch.cat([words, own], 2).softmax(1)),
        ),
        Mistake(
            "words and picture have a softmax of their own",
            "joint attention has one softmax: tokens and positions stand in one row",
            wrong=_shared(end=lambda words, own: torch.cat([words.softmax(2), own.softmax(2)], 2)),
        ),
        Mistake(
            "these are logits",
            "one step is left: what makes weights of logits?",
            wrong=_shared(end=lambda words, own: torch.cat([words, own], 2)),
        ),
        Mistake(
            "the picture's own keys come first",
            "what does the docstring say of the order?",
            wrong=_shared(
                end=lambda words, own: torch.cat([own, words], 2).softmax(2),
            ),
        ),
        Mistake(
            "an exponential has overflowed",
            "exp(1000) is infinite, but the logarithm of a sum of such numbers is not: torch has a "
            "function that knows how",
            when=lambda calls: any(
                isinstance(call.output, torch.Tensor) and bool(call.output.isnan().any())
                for call in calls
            ),
        ),
    ],
)
def share(answer, draw):
    """Weights (b, i, n + m) of exclusive attention: words (b, i, n), own (b, i, m), strength."""
    third = torch.full((1, 2, 1), math.log(2), dtype=torch.float64)
    claim = "two positions that want a word with log 2, their own key with 0, give it 1/3 each"
    equal(answer(third, 0 * third, 1.0)[..., :1], 0 * third + 1 / 3, claim)
    b, i, n, m = draw.integer(2, 3), draw.integer(4, 6), draw.integer(7, 9), draw.integer(10, 12)
    words, own = draw.normal(b, i, n), draw.normal(b, i, m)
    plain = torch.cat([words, own], 2).softmax(2)
    equal(answer(words, own, 0.0), plain, "at strength 0 all is as in (4), tokens first")
    strength = draw.uniform(0.3, 0.8)
    weight = words.exp() / words.exp().sum(1, keepdim=True) ** strength
    weight = torch.cat([weight, own.exp()], 2)
    expected = weight / weight.sum(2, keepdim=True)
    equal(answer(words, own, strength), expected, "with any strength the weights are the formula's")
    more = words + draw.normal(b, 1, n)
    claim = "at strength 1 it does not matter if all positions want a token more"
    equal(answer(more, own, 1.0), raw(answer(words, own, 1.0)), claim)
    claim = "logits of a thousand do no harm"
    equal(answer(words + 1000, own, 1.0), raw(answer(words, own, 1.0)), claim)
