"""Laws of the loss, the conversions and the conditions."""

import math
from typing import ClassVar

import pytest
import torch
from torch import nn

from minit2i.condition import Condition, LabelEncoder, draw_keep
from minit2i.diffusion import (
    PREDICT,
    Diffusion,
    min_snr,
    target,
    to_eps,
    to_x0,
    truncated_snr,
)
from minit2i.layers import TimeEmbedding, timestep_embedding
from minit2i.mlp import MLP, Block
from minit2i.schedule import Schedule, cosine, flow, jsd, linear

PATHS = {"linear": linear(), "cosine": cosine(100), "jsd": jsd(40), "flow": flow(50)}


def pair(schedule, seed=0, interior=True):
    g = torch.Generator().manual_seed(seed)
    t = torch.arange(1, schedule.T if interior else schedule.T + 1)
    x0, eps = (torch.randn(len(t), 3, generator=g, dtype=torch.float64) for _ in range(2))
    return x0, eps, t, schedule.diffuse(x0, t, eps)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("predict", PREDICT)
def test_conversions_go_round(path, predict):
    schedule = PATHS[path]
    x0, eps, t, x_t = pair(schedule)
    output = target(predict, x0, eps, t, schedule)
    back = to_x0(predict, output, x_t, t, schedule)
    # eps is divided by the signal left, so its rounding grows with noise/signal
    tolerance = 1e-15 * float((schedule.noise / schedule.signal)[1:-1].max()) + 1e-12
    assert (back - x0).abs().max() < tolerance * 100
    assert torch.allclose(to_eps(x0, x_t, t, schedule), eps, atol=1e-10)


@pytest.mark.parametrize("predict", ["x0", "v", "velocity"])
def test_conversions_hold_where_no_signal_is_left(predict):
    schedule = flow(10)
    x0, eps, t, x_t = pair(schedule, interior=False)
    output = target(predict, x0, eps, t, schedule)
    assert torch.allclose(to_x0(predict, output, x_t, t, schedule), x0, atol=1e-12)


def test_v_is_the_derivative_along_the_circle_and_velocity_along_the_line():
    # x = cos φ x0 + sin φ ε gives dx/dφ = v; x = (1 - τ) x0 + τ ε gives dx/dτ = velocity
    x0, eps, t, _ = pair(cosine(100))
    schedule = cosine(100)
    phi = torch.atan2(schedule.noise[t], schedule.signal[t])[:, None]
    h = 1e-6
    slope = ((phi + h).cos() - (phi - h).cos()) * x0 + ((phi + h).sin() - (phi - h).sin()) * eps
    assert torch.allclose(target("v", x0, eps, t, schedule), slope / (2 * h), atol=1e-8)
    straight = flow(50)
    x0, eps, t, x_t = pair(straight)
    later = straight.diffuse(x0, t + 1, eps)
    assert torch.allclose(target("velocity", x0, eps, t, straight), (later - x_t) * 50)


def test_v_equals_diffusers():
    from diffusers import DDPMScheduler  # takes seconds to import

    x0, eps, t = torch.randn(5, 3), torch.randn(5, 3), torch.tensor([0, 9, 99, 500, 999])
    theirs = DDPMScheduler(num_train_timesteps=1000).get_velocity(x0, eps, t)
    assert torch.allclose(target("v", x0, eps, t + 1, linear()), theirs, atol=1e-6)


class Oracle(nn.Module):
    """Predicts exactly for data at a single point."""

    def __init__(self, predict, point, schedule):
        super().__init__()
        self.predict, self.point, self.schedule = predict, point, schedule
        self.times = []

    def forward(self, x_t, t, condition=None):
        self.times.append(t)
        x0 = self.point.expand_as(x_t)
        return target(self.predict, x0, to_eps(x0, x_t, t, self.schedule), t, self.schedule)


@pytest.mark.parametrize("predict", PREDICT)
def test_the_exact_answer_has_no_loss_and_every_time_is_trained(predict):
    point, schedule = torch.tensor([0.3, -1.2], dtype=torch.float64), cosine(20)
    net = Oracle(predict, point, schedule)
    loss = Diffusion(net, schedule, predict)({"x": point.expand(4000, 2)})
    assert loss < 1e-12
    counts = torch.bincount(torch.cat(net.times), minlength=21)
    assert counts[0] == 0 and (counts[1:] > 200 - 6 * 14).all()  # uniform: 200 ± 6 sd


@pytest.mark.parametrize("mean, std", [(0.0, 1.0), (0.8, 1.6)])
def test_times_have_the_stated_law(mean, std):
    point, schedule = torch.tensor([0.3], dtype=torch.float64), cosine(1000)
    net = Oracle("x0", point, schedule)
    torch.manual_seed(0)
    Diffusion(net, schedule, "x0", times=(mean, std))({"x": point.expand(20_000, 1)})
    t = torch.cat(net.times)
    assert t.dtype == torch.int64 and t.min() >= 1 and t.max() <= 1000
    share = torch.tensor([0.1, 0.25, 0.5, 0.75, 0.95])
    due = torch.special.ndtr((share.logit() - mean) / std)
    found = (t[:, None] <= 1000 * share).double().mean(0)
    assert ((found - due).abs() < 5 * (due * (1 - due) / 20_000).sqrt() + 1e-3).all()


@pytest.mark.parametrize("times", [(0.0, 0.0), (0.0, -1.0), (math.nan, 1.0), (0.8,), ()])
def test_times_are_a_mean_and_a_positive_deviation(times):
    with pytest.raises(ValueError, match="a mean and a positive deviation"):
        Diffusion(MLP(2, 16, 1), linear(), times=times)


def test_a_fresh_network_that_returns_zero_has_loss_one():
    torch.manual_seed(0)
    loss = Diffusion(MLP(2, 16, 1), linear(), "eps")({"x": torch.randn(50_000, 2)})
    assert abs(loss.item() - 1) < 4 * math.sqrt(2 / 100_000)


def test_loss_floor_on_gaussian_data():
    # E‖ε - ε*‖² = A s²/(A s² + 1 - A) for x0 ~ N(m, s²): nothing trained can be below it
    schedule, s2, m = cosine(50), 0.25, 2.0

    class Exact(nn.Module):
        def forward(self, x, t, condition=None):
            a = schedule.at(schedule.alpha_bar, t, x)
            return (1 - a).sqrt() * (x - a.sqrt() * m) / (a * s2 + 1 - a)

    torch.manual_seed(0)
    loss = Diffusion(Exact(), schedule)({"x": m + s2**0.5 * torch.randn(200_000, 1).double()})
    a = schedule.alpha_bar[1:]
    floor = (a * s2 / (a * s2 + 1 - a)).mean()
    assert abs(loss - floor) < 5 * 1.5 / 200_000**0.5


def test_denoiser_converts_and_turns_dropout_off():
    net = MLP(2, 16, 1)
    model = Diffusion(net, cosine(), "v").train()
    x, t = torch.randn(3, 2), torch.tensor([1, 500, 1000])
    out = model.denoiser()(x, t)
    assert torch.equal(out, to_x0("v", net(x, t), x, t, model.schedule)) and not model.training


def test_impossible_predictions_are_refused():
    with pytest.raises(ValueError, match="eps, x0, v, velocity"):
        Diffusion(MLP(2), cosine(), "score")
    with pytest.raises(ValueError, match=r"signal\[T\] = 0"):
        Diffusion(MLP(2), flow(), "eps")
    with pytest.raises(ValueError, match="unknown prediction"):
        target("noise", *pair(cosine(10))[:3], cosine(10))
    with pytest.raises(ValueError, match="unknown prediction"):
        to_x0("noise", *pair(cosine(10))[1::2], pair(cosine(10))[2], cosine(10))


def test_a_sample_of_another_size_is_refused():
    with pytest.raises(ValueError, match="samples of 64 elements"):
        MLP(64)(torch.randn(2, 1, 8, 7), torch.tensor([1, 2]))


def test_time_reaches_every_block():
    torch.manual_seed(0)
    net = MLP(2, 16, 3)
    for layer in (*[b.outer for b in net.blocks], net.out[1]):
        nn.init.normal_(layer.weight)
    seen = []
    for block in net.blocks:
        block.register_forward_hook(lambda _, args, out: seen.append(out - args[0]))
    h = torch.randn(1, 2)
    for t in (1, 900):
        net(h, torch.tensor([t]))
    first, second = seen[:3], seen[3:]
    assert all((a - b).abs().max() > 1e-3 for a, b in zip(first, second, strict=True))


def test_time_embedding_equals_diffusers_and_starts_with_cosines():
    from diffusers.models.embeddings import get_timestep_embedding

    t = torch.tensor([0, 1, 7, 999])
    theirs = get_timestep_embedding(t, 64, flip_sin_to_cos=True, downscale_freq_shift=0)
    assert torch.allclose(timestep_embedding(t, 64), theirs, atol=1e-6)
    with pytest.raises(ValueError, match="even"):
        timestep_embedding(t, 7)
    assert TimeEmbedding(8)(t).shape == (4, 8)


class TestLabels:
    batch: ClassVar = {"y": torch.arange(10).repeat(400)}

    def test_dropped_labels_become_the_null_and_others_stay(self):
        encoder = LabelEncoder(10, 4, drop=0.25)
        keep = draw_keep(4000, 0.25)
        vector = encoder(self.batch, keep).vector
        assert torch.equal(vector[keep], encoder.embed.weight[self.batch["y"][keep]])
        assert torch.equal(vector[~keep], encoder.embed.weight[10].expand((~keep).sum(), 4))

    @pytest.mark.parametrize("drop", [0.0, 0.1, 0.5, 1.0])
    def test_labels_are_dropped_independently_at_the_stated_rate(self, drop):
        torch.manual_seed(0)
        encoder = LabelEncoder(10, 4, drop).train()
        null = (encoder(self.batch).vector == encoder.embed.weight[10]).all(1).double()
        assert abs(null.mean() - drop) <= 5 * math.sqrt(drop * (1 - drop) / 4000)
        if 0 < drop < 1:  # per sample, not per batch: neighbours are uncorrelated
            a, b = null[:-1] - drop, null[1:] - drop
            assert abs((a * b).mean()) < 5 * drop * (1 - drop) / 4000**0.5

    def test_nothing_is_dropped_in_evaluation(self):
        encoder = LabelEncoder(10, 4, 0.9).eval()
        assert torch.equal(encoder(self.batch).vector, encoder.embed(self.batch["y"]))

    def test_null_is_trained(self):
        encoder = LabelEncoder(10, 4, 1.0).train()
        encoder(self.batch).vector.sum().backward()
        assert (encoder.embed.weight.grad[10] != 0).all()
        assert (encoder.embed.weight.grad[:10] == 0).all()

    def test_the_network_hears_the_condition(self):
        net = MLP(2, 4, 1)
        nn.init.normal_(net.out[1].weight)
        nn.init.normal_(net.blocks[0].outer.weight)
        x, t = torch.randn(1, 2), torch.tensor([5])
        assert not torch.equal(net(x, t), net(x, t, Condition(vector=torch.ones(1, 4))))
        assert torch.equal(net(x, t), net(x, t, Condition()))

    def test_each_sample_hears_its_own_time_however_times_are_stored(self):
        net = MLP(2, 8, 1)
        for layer in (net.out[1], net.blocks[0].outer):
            nn.init.normal_(layer.weight)
        x, t = torch.randn(3, 2), torch.tensor([5, 600, 900])
        alone = torch.cat([net(x[k : k + 1], t[k : k + 1]) for k in range(3)])
        torch.testing.assert_close(net(x, t), alone)
        assert not torch.allclose(net(x, t)[1:], net(x, t[:1].expand(3))[1:], atol=1e-3)
        torch.testing.assert_close(net(x, t[:1].expand(3)), net(x, t[:1].repeat(3)))

    def test_a_block_that_is_not_modulated_is_a_plain_residual_layer(self):
        block, h = Block(4), torch.randn(3, 4)
        nn.init.normal_(block.outer.weight)
        for part in (block.modulate.weight, block.modulate.bias):
            nn.init.zeros_(part)
        expected = h + block.outer(
            nn.functional.silu(nn.functional.layer_norm(block.inner(h), (4,)))
        )
        torch.testing.assert_close(block(h, torch.randn(3, 4)), expected)

    def test_bad_arguments(self):
        with pytest.raises(ValueError, match="probability"):
            LabelEncoder(10, 4, 1.5)
        with pytest.raises(ValueError, match="at least 1"):
            LabelEncoder(0, 4)
        with pytest.raises(ValueError, match="needs labels under 'y', it has x"):
            LabelEncoder(3, 4)({"x": torch.zeros(1)})
        for y in (torch.tensor([0, 3]), torch.tensor([-1]), torch.tensor([1.0])):
            with pytest.raises(ValueError, match="whole numbers from 0 to 2, got torch"):
                LabelEncoder(3, 4)({"y": y})
        with pytest.raises(ValueError, match="vector has 5 elements, this network's width is 4"):
            MLP(2, 4, 1)(torch.zeros(1, 2), torch.tensor([1]), Condition(vector=torch.ones(1, 5)))


ZERO_END = Schedule([1.0, 0.8, 0.0], [0.0, 0.6, 1.0])  # no signal is left at T


@pytest.mark.parametrize(
    "schedule", [linear(), cosine(100), ZERO_END], ids=["linear", "cosine", "0"]
)
@pytest.mark.parametrize("gamma", [0.5, 5.0])
def test_min_snr_weighs_the_error_of_x0_alike_for_every_prediction(schedule, gamma):
    # a wrong x̂_0 made into each prediction: its weighted loss is min(SNR, gamma) ‖x̂_0 - x_0‖²
    x0, eps, t, x_t = pair(schedule, interior=False)
    wrong = x0 + torch.randn(x0.shape, generator=torch.Generator().manual_seed(1))
    expected = schedule.snr[t].clamp(max=gamma)[:, None] * (wrong - x0) ** 2
    for predict in ("eps", "x0", "v"):
        noise = to_eps(wrong, x_t, t, schedule)
        output = target(predict, wrong, noise, t, schedule)
        loss = (output - target(predict, x0, eps, t, schedule)) ** 2
        weighted = min_snr(schedule, predict, gamma)[t][:, None] * loss
        assert torch.allclose(weighted, expected, rtol=1e-6, atol=1e-12), predict


def test_min_snr_at_its_limits():
    schedule = cosine(100)
    # gamma large: eps is weighted evenly, as in L_simple; index 0, never trained, stays finite
    assert torch.equal(min_snr(schedule, "eps", 1e12)[1:], torch.ones(100, dtype=torch.float64))
    for predict in ("eps", "x0", "v"):
        weight = min_snr(schedule, predict)
        assert weight.isfinite().all() and (weight >= 0).all()
    assert min_snr(schedule, "x0")[0] == 5 and min_snr(ZERO_END, "eps")[-1] == 1
    # gamma small: x0 is weighted evenly
    assert torch.allclose(min_snr(schedule, "x0", 1e-9)[:99] * 1e9, torch.ones(99).double())


@pytest.mark.parametrize(
    ("schedule", "predict", "gamma", "says"),
    [
        (flow(10), "v", 5.0, "variance-preserving"),
        (cosine(10), "velocity", 5.0, "got 'velocity'"),
        (cosine(10), "v", 0.0, "gamma must be positive"),
    ],
)
def test_min_snr_refuses(schedule, predict, gamma, says):
    with pytest.raises(ValueError, match=says):
        min_snr(schedule, predict, gamma)


class Half(nn.Module):
    """A network whose error is known: it returns half of x_t."""

    def forward(self, x_t, t, condition):
        return x_t / 2


def test_a_weighted_loss_is_the_mean_of_weighted_samples():
    schedule, x0 = cosine(10), torch.randn(4096, 2, generator=torch.Generator().manual_seed(0))
    weight = torch.rand(11, generator=torch.Generator().manual_seed(1))

    def loss(w):
        torch.manual_seed(2)
        return Diffusion(Half(), schedule, "x0", weight=w)({"x": x0})

    torch.manual_seed(2)
    t = torch.randint(1, 11, (4096,))
    error = (schedule.diffuse(x0, t, torch.randn_like(x0)) / 2 - x0).square()
    assert torch.allclose(loss(weight), (weight[t][:, None] * error).mean())
    assert torch.equal(loss(None), error.mean()) and torch.equal(loss(torch.ones(11)), loss(None))
    assert not torch.allclose(loss(weight), loss(None), rtol=0.1)
    assert "weight" not in Diffusion(Half(), schedule, weight=weight).state_dict()
    for bad in (weight[:-1], -weight, weight * math.nan):
        with pytest.raises(ValueError, match="for each t = 0 … 10"):
            loss(bad)


def test_truncated_snr_is_the_snr_within_its_bounds():
    path = cosine(100)
    weights = truncated_snr(path, 1.0, 5.0)
    inside = (path.snr > 1) & (path.snr < 5)
    assert torch.equal(weights[inside], path.snr[inside]) and inside.sum() > 5
    assert (weights[path.snr >= 5] == 5).all() and (weights[path.snr <= 1] == 1).all()
    assert torch.equal(truncated_snr(path, 0.0, 5.0)[1:], min_snr(path, "x0", 5.0)[1:])
    with pytest.raises(ValueError, match="low <= high, got 2 and 1"):
        truncated_snr(path, 2, 1)
