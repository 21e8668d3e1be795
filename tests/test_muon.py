"""Muon: singular values made alike, torch's own Muon for matrices, AdamW for all else."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from minit2i.muon import Muon, orthogonal
from minit2i.train import TrainConfig, train


def net():
    """A linear layer of each orientation, a convolution, an embedding and a norm."""
    torch.manual_seed(0)
    return nn.ModuleDict(
        {
            "wide": nn.Linear(12, 5),
            "tall": nn.Linear(5, 12),
            "square": nn.Linear(5, 5),
            "conv": nn.Conv2d(3, 4, 3),
            "embed": nn.Embedding(7, 5),
            "norm": nn.LayerNorm(5),
        }
    )


def give_gradients(model, seed):
    g = torch.Generator().manual_seed(seed)
    for p in model.parameters():
        p.grad = torch.randn(p.shape, generator=g)


@pytest.mark.parametrize("shape", [(3, 16, 16), (2, 8, 40), (2, 40, 8)])
def test_singular_values_come_near_one_and_directions_stay(shape):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    u, s, vh = torch.linalg.svd(x, full_matrices=False)
    s = s.clamp(min=0.05 * s.amax(1, keepdim=True))  # the smallest are not promised
    x = (u * s[:, None]) @ vh
    turned = u.mT @ orthogonal(x) @ vh.mT
    values = turned.diagonal(dim1=1, dim2=2)
    assert values.min() > 0.6 and values.max() < 1.25
    assert torch.allclose(turned, torch.diag_embed(values), atol=1e-8)
    assert torch.allclose(orthogonal(7 * x), orthogonal(x), atol=1e-6)  # the scale does not count


def test_matrices_move_as_torchs_muon_moves_them():
    """To the rounding of bfloat16, in which torch's works."""
    model, theirs = net(), net()
    names = ("wide", "tall", "square")
    mine = Muon(model, lr=0.02, weight_decay=0.1)
    reference = torch.optim.Muon(
        [theirs[name].weight for name in names],
        lr=0.02,
        weight_decay=0.1,
        momentum=0.95,
        adjust_lr_fn="match_rms_adamw",
    )
    for k in range(4):
        before = {name: model[name].weight.clone() for name in names}
        give_gradients(model, k)
        give_gradients(theirs, k)
        mine.step()
        reference.step()
        for name in names:
            moved = model[name].weight - before[name]
            gap = (theirs[name].weight - model[name].weight).norm() / moved.norm()
            assert gap < 0.05 * (k + 1)


def test_all_else_moves_as_adamw_moves_it():
    model, theirs = net(), net()
    rest = [p for n, p in theirs.named_parameters() if p.ndim < 2 or n.startswith("embed")]
    options = {"lr": 0.01, "betas": (0.8, 0.9), "weight_decay": 0.1}
    optimizers = Muon(model, **options), torch.optim.AdamW(rest, **options)
    for k in range(3):
        give_gradients(model, k)
        give_gradients(theirs, k)
        for optimizer in optimizers:
            optimizer.step()
    for name, p in theirs.named_parameters():
        same = torch.equal(p, model.get_parameter(name))
        assert same == (p.ndim < 2 or name.startswith("embed")), name


def test_a_convolution_is_the_matrix_that_sees_a_patch():
    model, flat = net(), nn.Linear(27, 4)
    flat.weight.data.copy_(model["conv"].weight.flatten(1))
    give_gradients(model, 3)
    give_gradients(flat, 3)
    flat.weight.grad = model["conv"].weight.grad.flatten(1)
    for module in (model, flat):
        Muon(module, lr=0.1).step()
    assert torch.allclose(model["conv"].weight.flatten(1), flat.weight, atol=1e-6)


def test_a_faulty_step_moves_nothing_and_is_not_remembered():
    """As on a GPU, where the loop does not wait to ask: see `train._Watch`."""
    model = net()
    optimizer = Muon(model, lr=0.1, weight_decay=0.1, fused=True)
    twin = copy.deepcopy(model)
    other = Muon(twin, lr=0.1, weight_decay=0.1, fused=True)
    for faulty in (False, True, False):
        give_gradients(model, int(faulty))
        give_gradients(twin, 0)
        optimizer.found_inf = torch.tensor(float(faulty))
        if faulty:
            for p in model.parameters():
                p.grad.fill_(torch.nan)
        else:
            other.step()
        optimizer.step()
    for a, b in zip(model.parameters(), twin.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-6)


class Regression(nn.Module):
    channels_last = True

    def __init__(self):
        super().__init__()
        torch.manual_seed(4)
        self.net = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.Tanh(), nn.Flatten(), nn.Linear(128, 2)
        )

    def forward(self, batch):
        noise = torch.randn_like(batch["x"]) * 0.01
        return (self.net(batch["x"] + noise) - batch["y"]).square().mean()


def test_training_with_it_learns_and_resumes_bit_for_bit(tmp_path):
    x = torch.randn(64, 3, 4, 4, generator=torch.Generator().manual_seed(5))
    data = {"x": x, "y": x[:, :2].mean((2, 3)) * 4, "order": torch.arange(64)}
    config = TrainConfig(
        *(60, 16), lr=0.02, warmup=2, save_every=10, optimizer="muon", ema=0.5,
        weight_decay=0.01, accumulate=2, fused=True,
    )  # fmt: skip
    whole, halves = Regression(), Regression()
    losses = [step.loss for step in train(whole, data, config)]
    assert np.mean(losses[-5:]) < 0.3 * losses[0]
    for step in train(halves, data, config, tmp_path):
        if step.index == 17:
            break
    again = Regression()
    steps = [step.index for step in train(again, data, config, tmp_path)]
    assert steps == list(range(18, 61))
    for a, b in zip(whole.parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("model", [nn.LayerNorm(4), nn.Linear(4, 3, bias=False)])
def test_a_model_may_have_no_matrices_or_nothing_else(model):
    before = model.weight.clone()
    optimizer = Muon(model, lr=0.1)
    give_gradients(model, 0)
    optimizer.step()
    assert (model.weight != before).all()
    give_gradients(model, 1)
    for p in model.parameters():
        p.grad.zero_()
    optimizer.step()
    assert all(p.isfinite().all() for p in model.parameters())


def test_half_precision_is_not_used_for_the_rounds():
    """Rounding would grow twelvefold a round in directions that the gradient does not have."""
    g = torch.Generator().manual_seed(6)
    x = torch.randn(1, 64, 1, generator=g) @ torch.randn(1, 1, 64, generator=g)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.linalg.matrix_norm(orthogonal(x), 2).max() < 1.3
    assert torch.linalg.matrix_norm(orthogonal(x.bfloat16()).float(), 2).max() < 1.3


def test_an_unknown_optimizer_is_refused():
    with pytest.raises(ValueError, match="choose one of adamw, muon"):
        TrainConfig(10, optimizer="sgd")
