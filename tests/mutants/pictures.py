"""Wrong and right answers to the exercises of lesson 06."""

import copy

import numpy as np
import torch
from scipy.linalg import sqrtm
from scipy.special import logsumexp, softmax
from torch import nn
from torch.nn import functional

from tests.mutants import equivalent, right, wrong

# --- fold ---------------------------------------------------------------------------------------


@wrong("fold", says="dealt out in memory order")
def _(x, f):
    b, c, h, w = x.shape
    return x.view(b, c * f**2, h // f, w // f)


@wrong("fold", says="rows and columns within a block are exchanged")
def _(x, f):
    parts = [x[:, c, i::f, j::f] for c in range(x.shape[1]) for j in range(f) for i in range(f)]
    return torch.stack(parts, 1)


@wrong("fold", says="the places come first")
def _(x, f):
    return torch.cat([x[:, :, i::f, j::f] for i in range(f) for j in range(f)], 1)


@wrong("fold", says="cut into f × f tiles")
def _(x, f):
    h, w = x.shape[2] // f, x.shape[3] // f
    return torch.stack(
        [
            x[:, c, i * h : (i + 1) * h, j * w : (j + 1) * w]
            for c in range(x.shape[1])
            for i in range(f)
            for j in range(f)
        ],
        1,
    )


@wrong("fold", says="height and width are exchanged")
def _(x, f):
    b, c, h, w = x.shape
    blocks = x.reshape(b, c, h // f, f, w // f, f)
    return blocks.permute(0, 1, 3, 5, 4, 2).reshape(b, c * f**2, w // f, h // f)


@wrong("fold", says="the others are lost")
def _(x, f):
    return functional.interpolate(x, scale_factor=1 / f, mode="nearest")


@wrong("fold", says="each block is averaged")
def _(x, f):
    b, c, h, w = x.shape
    return x.reshape(b, c, h // f, f, w // f, f).mean((3, 5))


@wrong("fold", says="this is the way back")
def _(x, f):
    return functional.pixel_shuffle(x, f)


@wrong("fold", says="lines of your own", how="torch's function")
def _(x, f):
    return functional.pixel_unshuffle(x, f)


@wrong("fold", says="lines of your own", how="torch's layer")
def _(x, f):
    return nn.PixelUnshuffle(f)(x)


@wrong("fold", says="view size is not compatible", how="view after permute")
def _(x, f):
    b, c, h, w = x.shape
    blocks = x.view(b, c, h // f, f, w // f, f).permute(0, 1, 3, 5, 2, 4)
    return blocks.view(b, c * f * f, h // f, w // f)


@wrong("fold", says="got shape", how="the blocks' axes are kept apart")
def _(x, f):
    b, c, h, w = x.shape
    return x.reshape(b, c, h // f, f, w // f, f).permute(0, 1, 3, 5, 2, 4)


@wrong("fold", says="folded by 3", how="always by 2")
def _(x, f):
    return torch.stack([x[:, :, i::2, j::2] for i in (0, 1) for j in (0, 1)], 2).flatten(1, 2)


@right("fold", how="slices")
def _(x, f):
    return torch.stack([x[:, :, i::f, j::f] for i in range(f) for j in range(f)], 2).flatten(1, 2)


@right("fold", how="unfold, patch by patch")
def _(picture, size):
    columns = functional.unfold(picture, size, stride=size)
    return columns.view(len(columns), -1, picture.shape[2] // size, picture.shape[3] // size)


@right("fold", how="a convolution with kernels of one 1")
def _(x, f):
    kernels = torch.eye(f * f, dtype=x.dtype).view(f * f, 1, f, f)
    return functional.conv2d(x, kernels.repeat(x.shape[1], 1, 1, 1), stride=f, groups=x.shape[1])


@right("fold", how="numpy, pixel by pixel")
def _(x, f):
    b, c, h, w = x.shape
    out = np.zeros((b, c * f * f, h // f, w // f), dtype=x.numpy().dtype)
    for k, i, j in np.ndindex(c, h, w):
        out[:, k * f * f + (i % f) * f + j % f, i // f, j // f] = x[:, k, i, j].numpy()
    return torch.from_numpy(out)


# --- residual -----------------------------------------------------------------------------------

_act = functional.silu


def _parts(block, emb):
    both = block.modulate(emb).unsqueeze(-1).unsqueeze(-1)
    half = both.shape[1] // 2
    return both[:, :half], both[:, half:]


def _opened(block, h):
    return block.first(_act(block.before(h)))


def _closed(block, inner):
    return block.second(block.dropout(inner))


@wrong("residual", says="the scale multiplies without the 1")
def _(block, h, emb):
    scale, shift = _parts(block, emb)
    inner = _act(block.between(_opened(block, h)).mul(scale).add(shift))
    return block.skip(h) + _closed(block, inner)


@wrong("residual", says="scale and shift are exchanged")
def _(block, h, emb):
    shift, scale = _parts(block, emb)
    inner = _act(block.between(_opened(block, h)) * (1 + scale) + shift)
    return block.skip(h) + _closed(block, inner)


@wrong("residual", says="the modulation comes before the norm")
def _(block, h, emb):
    scale, shift = _parts(block, emb)
    inner = _act(block.between(_opened(block, h) * (1 + scale) + shift))
    return block.skip(h) + _closed(block, inner)


@wrong("residual", says="the skip is forgotten")
def _(block, h, emb):
    scale, shift = _parts(block, emb)
    return _closed(block, _act(block.between(_opened(block, h)) * (1 + scale) + shift))


@wrong("residual", says="the skip starts behind the norm")
def _(block, h, emb):
    scale, shift = _parts(block, emb)
    h = block.before(h)
    inner = _act(block.between(block.first(_act(h))) * (1 + scale) + shift)
    return block.skip(h) + _closed(block, inner)


@wrong("residual", says="the skip starts behind norm and SiLU")
def _(block, h, emb):
    scale, shift = _parts(block, emb)
    h = _act(block.before(h))
    inner = _act(block.between(block.first(h)) * (1 + scale) + shift)
    return block.skip(h) + _closed(block, inner)


@wrong("residual", says="h is added as it is")
def _(block, h, emb):
    scale, shift = _parts(block, emb)
    return h + _closed(block, _act(block.between(_opened(block, h)) * (1 + scale) + shift))


@wrong("residual", says="the embedding is not used")
def _(block, h, emb):
    return block.skip(h) + _closed(block, _act(block.between(_opened(block, h))))


@wrong("residual", says="the shift alone is used")
def _(block, h, emb):
    _, shift = _parts(block, emb)
    return block.skip(h) + _closed(block, _act(block.between(_opened(block, h)) + shift))


@wrong("residual", says="the scale alone is used")
def _(block, h, emb):
    scale, _ = _parts(block, emb)
    inner = block.between(_opened(block, h))
    return block.skip(h) + _closed(block, _act(inner + scale * inner))


@wrong("residual", says="the modulation comes after the SiLU")
def _(block, h, emb):
    scale, shift = _parts(block, emb)
    inner = _act(block.between(_opened(block, h)))
    return block.skip(h) + _closed(block, inner * (1 + scale) + shift)


@wrong("residual", says="the SiLU after the modulation is missing")
def _(block, h, emb):
    scale, shift = _parts(block, emb)
    inner = block.between(_opened(block, h))
    return block.skip(h) + _closed(block, inner * (1 + scale) + shift)


@wrong("residual", says="SiLU comes before the first norm")
def _(block, h, emb):
    scale, shift = _parts(block, emb)
    inner = block.between(block.first(block.before(_act(h))))
    return block.skip(h) + _closed(block, _act(inner * (1 + scale) + shift))


@wrong("residual", says="the SiLU after the first norm is missing")
def _(block, h, emb):
    scale, shift = _parts(block, emb)
    inner = block.between(block.first(block.before(h)))
    return block.skip(h) + _closed(block, _act(inner * (1 + scale) + shift))


@wrong("residual", says="the first norm is left out")
def _(block, h, emb):
    scale, shift = _parts(block, emb)
    inner = block.between(block.first(_act(h)))
    return block.skip(h) + _closed(block, _act(inner * (1 + scale) + shift))


@wrong("residual", says="the second norm is left out")
def _(block, h, emb):
    scale, shift = _parts(block, emb)
    return block.skip(h) + _closed(block, _act(_opened(block, h) * (1 + scale) + shift))


@wrong("residual", says="another activation than SiLU")
def _(block, h, emb):
    scale, shift = _parts(block, emb)
    inner = block.between(block.first(torch.relu(block.before(h))))
    return block.skip(h) + _closed(block, torch.relu(inner * (1 + scale) + shift))


@wrong("residual", says="the sum goes through SiLU")
def _(block, h, emb):
    scale, shift = _parts(block, emb)
    inner = _act(block.between(_opened(block, h)) * (1 + scale) + shift)
    return _act(block.skip(h) + _closed(block, inner))


@wrong("residual", says="the embedding goes through SiLU once more")
def _(block, h, emb):
    scale, shift = _parts(block, _act(emb))
    inner = _act(block.between(_opened(block, h)) * (1 + scale) + shift)
    return block.skip(h) + _closed(block, inner)


@wrong("residual", says="scale and shift take turns")
def _(block, h, emb):
    scale, shift = block.modulate(emb).view(len(h), -1, 2, 1, 1).unbind(2)
    inner = _act(block.between(_opened(block, h)) * (1 + scale) + shift)
    return block.skip(h) + _closed(block, inner)


@wrong("residual", says="no axes for the picture's sides")
def _(block, h, emb):
    scale, shift = block.modulate(emb).chunk(2, dim=-1)
    inner = _act(block.between(_opened(block, h)) * (1 + scale) + shift)
    return block.skip(h) + _closed(block, inner)


@wrong("residual", says="the dropout is forgotten")
def _(block, h, emb):
    scale, shift = _parts(block, emb)
    return block.skip(h) + block.second(
        _act(block.between(_opened(block, h)) * (1 + scale) + shift)
    )


@wrong("residual", says="the dropout comes after the last convolution")
def _(block, h, emb):
    scale, shift = _parts(block, emb)
    inner = _act(block.between(_opened(block, h)) * (1 + scale) + shift)
    return block.skip(h) + block.dropout(block.second(inner))


@wrong("residual", says="dropout thins out what", how="the dropout comes before the SiLU")
def _(block, h, emb):
    scale, shift = _parts(block, emb)
    inner = block.dropout(block.between(_opened(block, h)) * (1 + scale) + shift)
    return block.skip(h) + block.second(_act(inner))


@wrong("residual", says="dropout thins out what", how="dropout also when nothing is trained")
def _(block, h, emb):
    scale, shift = _parts(block, emb)
    inner = _act(block.between(_opened(block, h)) * (1 + scale) + shift)
    dropped = functional.dropout(inner, block.dropout.p / 2, block.training)
    return block.skip(h) + block.second(dropped)


@wrong("residual", says="it is an ordinary residual block", how="one embedding for the batch")
def _(block, h, emb):
    scale, shift = _parts(block, emb)
    inner = block.between(block.first(_act(block.before(h)))).mean(0, keepdim=True)
    return block.skip(h) + _closed(block, _act(inner * (1 + scale) + shift))


@wrong("residual", says="the result is that of the formula", how="the first sample's embedding")
def _(block, h, emb):
    scale, shift = _parts(block, emb[:1])
    inner = _act(block.between(_opened(block, h)) * (1 + scale) + shift)
    return block.skip(h) + _closed(block, inner)


@right("residual", how="in the functional style")
def _(block, h, emb):
    def normed(norm, x):
        return functional.group_norm(x, norm.num_groups, norm.weight, norm.bias, norm.eps)

    x = functional.conv2d(
        _act(normed(block.before, h)), block.first.weight, block.first.bias, padding=1
    )
    both = functional.linear(emb, block.modulate.weight, block.modulate.bias)
    scale, shift = torch.split(both, both.shape[1] // 2, dim=1)
    x = torch.einsum("bcyx,bc->bcyx", normed(block.between, x), 1 + scale) + shift[..., None, None]
    x = functional.dropout(_act(x), block.dropout.p, block.training)
    x = functional.conv2d(x, block.second.weight, block.second.bias, padding=1)
    return torch.add(x, block.skip(h))


@right("residual", how="with sigmoid, scale taken apart")
def _(block, h, emb):
    scale, shift = _parts(block, emb)
    x = block.before(h)
    x = block.between(block.first(x * torch.sigmoid(x)))
    x = x + scale * x + shift
    return block.second(block.dropout(x / (1 + torch.exp(-x)))) + block.skip(h)


@right("residual", how="layers in a sequence")
def _(block, h, emb):
    opened = nn.Sequential(block.before, nn.SiLU(), block.first, block.between)
    closed = nn.Sequential(nn.SiLU(), block.dropout, block.second)
    scale, shift = block.modulate(emb).reshape(len(h), 2, -1, 1, 1).unbind(1)
    return block.skip(h) + closed(torch.addcmul(shift, opened(h), 1 + scale))


# --- average ------------------------------------------------------------------------------------


def _decay(step, decay):
    return min(decay, (1 + step) / (10 + step))


def _pairs(ema, model):
    return zip(ema.parameters(), model.parameters(), strict=True)


def _copy_buffers(ema, model):
    for mine, new in zip(ema.buffers(), model.buffers(), strict=True):
        mine.copy_(new)


@wrong("average", says="the two weights are exchanged")
@torch.no_grad()
def _(ema, model, step, decay):
    for mean, new in _pairs(ema, model):
        mean.lerp_(new, _decay(step, decay))
    _copy_buffers(ema, model)


@wrong("average", says="there is no warm-up")
@torch.no_grad()
def _(ema, model, step, decay):
    for mean, new in _pairs(ema, model):
        mean += (1 - decay) * (new - mean)
    _copy_buffers(ema, model)


@wrong("average", says="there is no warm-up", how="no warm-up, and the average is returned")
@torch.no_grad()
def _(ema, model, step, decay):
    for mean, new in _pairs(ema, model):
        mean.mul_(decay).add_(new, alpha=1 - decay)
    _copy_buffers(ema, model)
    return ema


@wrong("average", says="the greater of the two decays")
@torch.no_grad()
def _(ema, model, step, decay):
    for mean, new in _pairs(ema, model):
        mean.lerp_(new, 1 - max(decay, (1 + step) / (10 + step)))
    _copy_buffers(ema, model)


@wrong("average", says="the decay is not limited")
@torch.no_grad()
def _(ema, model, step, decay):
    for mean, new in _pairs(ema, model):
        mean.lerp_(new, 9 / (10 + step))
    _copy_buffers(ema, model)


@wrong("average", says="the two decays are multiplied")
@torch.no_grad()
def _(ema, model, step, decay):
    d = decay * (step + 1) / (step + 10)
    for mean, new in _pairs(ema, model):
        mean.lerp_(new, 1 - d)
    _copy_buffers(ema, model)


@wrong("average", says="the step is counted from 1")
@torch.no_grad()
def _(ema, model, step, decay):
    for mean, new in _pairs(ema, model):
        mean.lerp_(new, 1 - _decay(step + 1, decay))
    _copy_buffers(ema, model)


@wrong("average", says="the step before is used")
@torch.no_grad()
def _(ema, model, step, decay):
    for mean, new in _pairs(ema, model):
        mean.lerp_(new, 1 - _decay(step - 1, decay))
    _copy_buffers(ema, model)


@wrong("average", says="the model is changed, not the average")
@torch.no_grad()
def _(ema, model, step, decay):
    for mean, new in _pairs(model, ema):
        mean.lerp_(new, 1 - _decay(step, decay))
    _copy_buffers(model, ema)


@wrong("average", says="the model's weights are scaled on the way")
@torch.no_grad()
def _(ema, model, step, decay):
    d = _decay(step, decay)
    for mean, new in _pairs(ema, model):
        mean.mul_(d).add_(new.mul_(1 - d))
    _copy_buffers(ema, model)


@wrong("average", says="the old average is not shrunk")
@torch.no_grad()
def _(ema, model, step, decay):
    for mean, new in _pairs(ema, model):
        mean.add_(new, alpha=1 - _decay(step, decay))
    _copy_buffers(ema, model)


@wrong("average", says="moves away from the model")
@torch.no_grad()
def _(ema, model, step, decay):
    for mean, new in _pairs(ema, model):
        mean.sub_(new - mean, alpha=1 - _decay(step, decay))
    _copy_buffers(ema, model)


@wrong("average", says="the model is copied, not averaged")
def _(ema, model, step, decay):
    ema.load_state_dict(model.state_dict())


@wrong("average", says="the buffers are forgotten")
@torch.no_grad()
def _(ema, model, step, decay):
    for mean, new in _pairs(ema, model):
        mean.lerp_(new, 1 - _decay(step, decay))


@wrong("average", says="the buffers are averaged too", how="all that state_dict lists")
@torch.no_grad()
def _(ema, model, step, decay):
    theirs = model.state_dict()
    for name, mean in ema.state_dict().items():
        mean.mul_(_decay(step, decay)).add_(theirs[name], alpha=1 - _decay(step, decay))


@wrong("average", says="the buffers are averaged too", how="counters are copied, statistics not")
@torch.no_grad()
def _(ema, model, step, decay):
    theirs = model.state_dict()
    for name, mean in ema.state_dict().items():
        if mean.is_floating_point():
            mean.lerp_(theirs[name], 1 - _decay(step, decay))
        else:
            mean.copy_(theirs[name])


@wrong("average", says="a graph is recorded")
def _(ema, model, step, decay):
    for mean, new in _pairs(ema, model):
        mean.lerp_(new, 1 - _decay(step, decay))
    _copy_buffers(ema, model)


@wrong("average", says="a graph is recorded", how="a graph, after asking for gradients")
def _(ema, model, step, decay):
    for mean, new in _pairs(ema.requires_grad_(), model):
        mean.lerp_(new, 1 - _decay(step, decay))
    _copy_buffers(ema, model)


@wrong("average", says="new tensors are made")
@torch.no_grad()
def _(ema, model, step, decay):
    d = _decay(step, decay)
    for mean, new in _pairs(ema, model):
        mean = d * mean + (1 - d) * new
    _copy_buffers(ema, model)


@wrong("average", says="new tensors are made", how="a new network comes back")
@torch.no_grad()
def _(ema, model, step, decay):
    fresh = copy.deepcopy(ema)
    for mean, new in _pairs(fresh, model):
        mean.lerp_(new, 1 - _decay(step, decay))
    _copy_buffers(fresh, model)
    return fresh


@wrong("average", says="new tensors in the place of its own")
@torch.no_grad()
def _(ema, model, step, decay):
    d = _decay(step, decay)
    for name, new in model.named_parameters():
        owner, _, last = name.rpartition(".")
        mean = d * ema.get_parameter(name) + (1 - d) * new
        setattr(ema.get_submodule(owner), last, nn.Parameter(mean, requires_grad=False))
    _copy_buffers(ema, model)


@wrong("average", says="shares no memory", how="the model's own buffers are handed on")
@torch.no_grad()
def _(ema, model, step, decay):
    for mean, new in _pairs(ema, model):
        mean.lerp_(new, 1 - _decay(step, decay))
    for mine, new in zip(ema.buffers(), model.buffers(), strict=True):
        mine.data = new.data


@wrong("average", says="the model can still be trained", how="the model is frozen")
def _(ema, model, step, decay):
    for mean, new in _pairs(ema, model.requires_grad_(False)):
        mean.lerp_(new, 1 - _decay(step, decay))
    _copy_buffers(ema, model)


@wrong("average", says="parameters are averaged", how="weights only, no biases")
@torch.no_grad()
def _(ema, model, step, decay):
    for mean, new in _pairs(ema, model):
        mean.lerp_(new, 1 - _decay(step, decay)) if mean.ndim > 1 else mean.copy_(new)
    _copy_buffers(ema, model)


@right("average", how="names and data, the average is returned")
def _(ema, model, step, decay):
    d = (1 + step) / (10 + step)
    if d > decay:
        d = decay
    theirs = dict(model.named_parameters())
    for name, mean in ema.named_parameters():
        mean.data = d * mean.data + (1 - d) * theirs[name].data
    for mine, new in zip(ema.buffers(), model.buffers(), strict=True):
        mine.data.copy_(new)
    return ema


@right("average", how="a new state dict is loaded")
def _(ema, model, step, decay):
    d, mean, new = _decay(step, decay), ema.state_dict(), model.state_dict()
    learnt = {name for name, _ in model.named_parameters()}
    ema.load_state_dict({k: d * mean[k] + (1 - d) * new[k] if k in learnt else new[k] for k in new})


@right("average", how="numpy, sharing memory")
def _(ema, model, step, decay):
    late = 1 - min((step + 1.0) / (step + 10.0), decay)
    for mean, new in _pairs(ema, model):
        array = mean.detach().numpy()
        array += late * (new.detach().numpy() - array)
    for (_, mine), (_, new) in zip(ema.named_buffers(), model.named_buffers(), strict=True):
        mine[...] = new


# --- frechet ------------------------------------------------------------------------------------


def _statistics(x, ddof=1):
    x = np.asarray(x, dtype=np.float64)
    return x.mean(0), np.cov(x, rowvar=False, ddof=ddof)


def _eigen(s_a, s_b):
    return np.sqrt(np.clip(np.linalg.eigvals(s_a @ s_b).real, 0, None)).sum()


def _combined(a, b, shared=_eigen, ddof=1):
    (m_a, s_a), (m_b, s_b) = _statistics(a, ddof), _statistics(b, ddof)
    return ((m_a - m_b) ** 2).sum() + np.trace(s_a) + np.trace(s_b) - 2 * shared(s_a, s_b)


def _half(s):
    values, vectors = np.linalg.eigh(s)
    return vectors @ np.diag(np.sqrt(np.clip(values, 0, None))) @ vectors.T


@wrong("frechet", says="divided by n")
def _(a, b):
    return _combined(a, b, ddof=0)


@wrong("frechet", says="taken of each entry", how="torch.sqrt of the product")
def _(a, b):
    a, b = a.double(), b.double()
    s_a, s_b = torch.cov(a.T), torch.cov(b.T)
    root = torch.sqrt(torch.matmul(s_a, s_b))
    return ((a.mean(0) - b.mean(0)) ** 2).sum() + torch.trace(s_a + s_b - 2 * root)


@wrong("frechet", says="taken of the trace")
def _(a, b):
    return _combined(a, b, lambda s, t: np.sqrt(np.trace(s @ t)))


@wrong("frechet", says="of the sum of the covariances")
def _(a, b):
    return _combined(a, b, lambda s, t: np.trace(_half(s + t)))


@wrong("frechet", says="there is no root")
def _(a, b):
    return _combined(a, b, lambda s, t: np.trace(s @ t))


@wrong("frechet", says="one by one, then multiplied")
def _(a, b):
    return _combined(a, b, lambda s, t: np.trace(_half(s) @ _half(t)))


@wrong("frechet", says="treated as symmetric")
def _(a, b):
    return _combined(a, b, lambda s, t: np.sqrt(np.linalg.eigvalsh(s @ t).clip(0)).sum())


@wrong("frechet", says="singular values of the product")
def _(a, b):
    def shared(s, t):
        return np.sqrt(np.linalg.svd(s @ t, compute_uv=False)).sum()

    return _combined(a, b, shared)


@wrong("frechet", says="correlations are left out")
def _(a, b):
    a, b = a.double(), b.double()
    widths = (a.std(0) - b.std(0)) ** 2
    return (widths + (a.mean(0) - b.mean(0)) ** 2).sum().item()


@wrong("frechet", says="standard deviations stand in the place")
def _(a, b):
    s, t = a.std(0).diag(), b.std(0).diag()
    gap = torch.dist(a.mean(0), b.mean(0)) ** 2
    return gap + torch.trace(s + t - 2 * (s @ t).sqrt())


@wrong("frechet", says="the distance of the means is not squared")
def _(a, b):
    (m, s), (k, t) = _statistics(a), _statistics(b)
    return np.linalg.norm(m - k) + np.trace(s + t) - 2 * _eigen(s, t)


@wrong("frechet", says="the mean of the squares is taken")
def _(a, b):
    (m, s), (k, t) = _statistics(a), _statistics(b)
    return ((m - k) ** 2).mean() + np.trace(s + t) - 2 * _eigen(s, t)


@wrong("frechet", says="the means are left out")
def _(a, b):
    (_, s), (_, t) = _statistics(a), _statistics(b)
    return np.trace(s + t) - 2 * _eigen(s, t)


@wrong("frechet", says="the factor 2 is missing")
def _(a, b):
    (m, s), (k, t) = _statistics(a), _statistics(b)
    return ((m - k) ** 2).sum() + np.trace(s + t) - _eigen(s, t)


@wrong("frechet", says="this is the root of the distance")
def _(a, b):
    return max(_combined(a, b), 0.0) ** 0.5


@wrong("frechet", says="the points are not centred")
def _(a, b):
    a, b = a.numpy().astype(float), b.numpy().astype(float)
    s, t = (x.T @ x / (len(x) - 1) for x in (a, b))
    return ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(s + t) - 2 * _eigen(s, t)


@wrong("frechet", says="samples are taken for features")
def _(a, b):
    a, b = a.double(), b.double()
    s, t = torch.cov(a), torch.cov(b)
    root = torch.linalg.eigvals(s @ t).real.clamp(min=0).sqrt().sum()
    return ((a.mean(0) - b.mean(0)) ** 2).sum() + s.trace() + t.trace() - 2 * root


@wrong("frechet", says="a number below 0", how="eigenvalues are not clipped")
def _(a, b):
    return _combined(
        a, b, lambda s, t: torch.linalg.eigvals(torch.tensor(s @ t)).real.sqrt().sum().item()
    )


@wrong("frechet", says="left complex")
def _(a, b):
    return _combined(a, b, lambda s, t: np.sqrt(np.linalg.eigvals(s @ t).astype(complex)).sum())


@wrong("frechet", says="a matrix without inverse")
def _(a, b):
    def shared(s, t):
        low = np.linalg.cholesky(s)
        return np.sqrt(np.linalg.eigvalsh(low.T @ t @ low).clip(0)).sum()

    return _combined(a, b, shared)


@wrong("frechet", says="taken to double precision", how="single precision is kept")
def _(a, b):
    s, t = torch.cov(a.T), torch.cov(b.T)
    root = torch.linalg.eigvals(s @ t).real.clamp(min=0).sqrt().sum()
    return float((a.mean(0) - b.mean(0)).square().sum() + s.trace() + t.trace() - 2 * root)


@wrong("frechet", says="are 8 apart", how="absolute differences of the covariances")
def _(a, b):
    (m, s), (k, t) = _statistics(a), _statistics(b)
    return ((m - k) ** 2).sum() + np.abs(s - t).sum()


@right("frechet", how="numpy, the trace by eigenvalues")
def _(a, b):
    return _combined(a, b)


@right("frechet", how="the root between two roots")
def _(a, b):
    def shared(s, t):
        return np.trace(_half(_half(s) @ t @ _half(s)))

    return float(_combined(a, b, shared))


@right("frechet", how="scipy's matrix root, with a little added to the covariances")
def _(first, second):
    def shared(s, t):
        little = 1e-12 * np.eye(len(s))
        return np.trace(sqrtm((s + little) @ (t + little)).real)

    return torch.tensor(_combined(first, second, shared))


@right("frechet", how="the nuclear norm of the centred clouds")
def _(a, b):
    a, b = a.double(), b.double()
    gap = a.mean(0) - b.mean(0)
    a, b = ((x - x.mean(0)) / (len(x) - 1) ** 0.5 for x in (a, b))
    spread = a.pow(2).sum() + b.pow(2).sum() - 2 * torch.linalg.matrix_norm(a @ b.T, "nuc")
    return gap @ gap + spread


# --- share --------------------------------------------------------------------------------------


def _weights(words, own):
    return torch.softmax(torch.cat([words, own], -1), -1)


@wrong("share", says="summed over the tokens")
def _(words, own, strength):
    return _weights(words - strength * torch.logsumexp(words, -1, True), own)


@wrong("share", says="summed over the batch")
def _(words, own, strength):
    return _weights(words - strength * torch.logsumexp(words, 0), own)


@wrong("share", says="own keys are claimed too")
def _(words, own, strength):
    words, own = (x - strength * x.logsumexp(1, True) for x in (words, own))
    return _weights(words, own)


@wrong("share", says="the claims are added")
def _(words, own, strength):
    return _weights(words + strength * words.logsumexp(1, True), own)


@wrong("share", says="the strength is left out")
def _(words, own, strength):
    return _weights(words.log_softmax(1), own)


@wrong("share", says="multiplies the logit as well")
def _(words, own, strength):
    return _weights(strength * words.log_softmax(1), own)


@wrong("share", says="the logarithm of the sum is missing")
def _(words, own, strength):
    return _weights(words - strength * torch.exp(words).sum(1, keepdim=True), own)


@wrong("share", says="summed without exponentials")
def _(words, own, strength):
    return _weights(words - strength * words.sum(dim=1, keepdim=True), own)


@wrong("share", says="a mean over the positions")
def _(words, own, strength):
    claim = words.logsumexp(1, True) - np.log(words.shape[1])
    return _weights(words - strength * claim, own)


@wrong("share", says="the greediest position alone")
def _(words, own, strength):
    return _weights(words - strength * words.max(1, keepdim=True).values, own)


@wrong("share", says="the last softmax runs over the positions")
def _(words, own, strength):
    lowered = words - strength * words.logsumexp(1, True)
    return torch.cat([lowered.softmax(1), own.softmax(1)], 2)


@wrong("share", says="a softmax of their own")
def _(words, own, strength):
    lowered = words - strength * words.logsumexp(1, True)
    return torch.cat([lowered.softmax(2), own.softmax(2)], 2)


@wrong("share", says="these are logits")
def _(words, own, strength):
    return torch.cat([words - strength * words.logsumexp(1, True), own], 2)


@wrong("share", says="own keys come first")
def _(words, own, strength):
    return _weights(own, words - strength * words.logsumexp(1, True))


@wrong("share", says="overflowed")
def _(words, own, strength):
    heard = words.exp() / words.exp().sum(1, keepdim=True) ** strength
    both = torch.cat([heard, own.exp()], 2)
    return both / both.sum(2, keepdim=True)


@wrong("share", says="give it 1/3 each", how="the words are not attended to")
def _(words, own, strength):
    return torch.cat([0 * words, own.softmax(2)], 2)


@right("share", how="a power of the softmax over positions, high logits taken down first")
def _(words, own, strength):
    high = words.amax(1, keepdim=True)
    claim = (words - high).exp().sum(1, keepdim=True).log() + high
    both = torch.cat([words - strength * claim, own], 2)
    both = (both - both.amax(2, keepdim=True)).exp()
    return both / both.sum(2, keepdim=True)


@right("share", how="numpy")
def _(words, own, strength):
    words, own = words.numpy(), own.numpy()
    both = np.concatenate([words - strength * logsumexp(words, 1, keepdims=True), own], 2)
    return torch.from_numpy(softmax(both, 2))


@right("share", how="one picture and one position after another")
def _(words, own, strength):
    rows = []
    for w, o in zip(words, own, strict=True):
        w = w - strength * w.logsumexp(0)
        rows.append(torch.stack([torch.cat(row).softmax(0) for row in zip(w, o, strict=True)]))
    return torch.stack(rows)


equivalent(
    "pictures",
    "fold",
    "x.reshape(b, c, h // f, f, w // f, f) -> x.reshape(c, b, h // f, f, w // f, f)",
    because="the first two axes stay where they are, and the last reshape cuts them anew",
)
equivalent(
    "pictures",
    "average",
    "min(decay, (1 + step) / (10 + step)) -> min((1 + step) / (10 + step), decay)",
    because="a minimum does not depend on the order",
)
for _mutant in ("True -> False", "True -> False #2"):
    equivalent("pictures", "average", _mutant, because="the two networks are of one shape")
equivalent(
    "pictures",
    "frechet",
    "a.mean(0) - b.mean(0) -> b.mean(0) - a.mean(0)",
    because="the difference is squared",
)
