"""The training loop: resumes bit for bit, averages as stated, refuses what cannot be trained."""

import copy
import inspect
import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from minit2i import checkpoint
from minit2i.checkpoint import CheckpointError, fingerprint
from minit2i.diffusion import Diffusion
from minit2i.mlp import MLP
from minit2i.schedule import cosine
from minit2i.train import TrainConfig, _batches, train, update_average

CONFIG = TrainConfig(steps=40, batch=16, warmup=5, save_every=7)


def toy():
    torch.manual_seed(1)
    return Diffusion(MLP(2, 8, 1), cosine(20), "v")


def data():
    return {"x": torch.randn(100, 2, generator=torch.Generator().manual_seed(2))}


def weights(model):
    return fingerprint(model.state_dict())


def finish(model, out=None, config=CONFIG, columns=None):
    steps = list(train(model, columns or data(), config, out))
    return weights(model), [s.loss for s in steps]


def test_the_same_seed_gives_the_same_weights_whatever_the_caller_draws():
    first, losses = finish(toy())
    model = toy()
    for _ in train(model, data(), CONFIG):
        torch.randn(7)
        np.random.default_rng().normal()
    assert weights(model) == first
    other = finish(toy(), config=TrainConfig(steps=40, batch=16, warmup=5, seed=1))
    assert other[0] != first and other[1] != losses


def test_the_callers_random_state_is_its_own():
    torch.manual_seed(5)
    expected = torch.randn(3)
    torch.manual_seed(5)
    model = toy_without_seeding()
    torch.manual_seed(5)
    list(train(model, data(), CONFIG))
    assert torch.equal(torch.randn(3), expected)


def toy_without_seeding():
    return Diffusion(MLP(2, 8, 1), cosine(20), "v")


@pytest.mark.parametrize("stop", [1, 6, 7, 8, 20, 39, 40])
def test_stopped_at_any_step_it_resumes_bit_for_bit(tmp_path, stop):
    whole, losses = finish(toy())
    run = train(toy(), data(), CONFIG, tmp_path)
    for _ in range(stop):
        next(run)
    del run
    resumed, rest = finish(toy(), tmp_path)
    assert resumed == whole and rest == losses[stop - stop % 7 if stop < 40 else 40 :]


KILLED = """
import sys, torch
from tests.test_train import CONFIG, data, toy
from minit2i.train import train
for step in train(toy(), data(), CONFIG, sys.argv[1]):
    print(step.index, flush=True)
"""


def test_killed_while_it_saves_it_resumes_bit_for_bit(tmp_path):
    whole, _ = finish(toy())
    done = 0
    for wait in (0.0, 0.001, 0.003):  # somewhere in the middle of what follows step 7, 14, …
        process = subprocess.Popen(
            [sys.executable, "-c", KILLED, tmp_path], stdout=subprocess.PIPE, text=True
        )
        for line in process.stdout:
            if int(line) >= done + 6:
                break
        time.sleep(wait)
        process.send_signal(signal.SIGKILL if os.name == "posix" else signal.SIGTERM)
        process.wait()
        process.stdout.close()
        done += 7
    assert finish(toy(), tmp_path)[0] == whole


def test_a_finished_run_is_not_trained_again(tmp_path):
    first = finish(toy(), tmp_path)[0]
    assert finish(toy(), tmp_path) == (first, [])


def test_another_runs_checkpoint_is_refused(tmp_path):
    finish(toy(), tmp_path)
    with pytest.raises(ValueError, match=r"\(batch 16 there and 8 here\); choose another folder"):
        finish(toy(), tmp_path, replace(CONFIG, batch=8))
    with pytest.raises(ValueError, match=r"another run \(data "):
        finish(toy(), tmp_path, columns={"x": data()["x"] + 1})
    with pytest.raises(CheckpointError, match="another configuration"):
        list(train(Diffusion(MLP(2, 16, 1), cosine(20), "v"), data(), CONFIG, tmp_path))
    (tmp_path / "training.safetensors").write_bytes(b"broken")
    with pytest.raises(CheckpointError, match="truncated or damaged"):
        finish(toy(), tmp_path)


def test_the_average_follows_its_closed_form():
    # weights 1, 2, 3, … averaged from 0 with constant decay d: Σ (1-d) d^(n-k) k
    average, model = torch.nn.Linear(1, 1), torch.nn.Linear(1, 1)
    torch.nn.init.zeros_(average.weight)
    d, n = 0.9, 30
    for k in range(1, n + 1):
        torch.nn.init.constant_(model.weight, float(k))
        update_average(average, model, d)
    exact = sum((1 - d) * d ** (n - k) * k for k in range(1, n + 1))
    assert abs(average.weight.item() - exact) < 1e-4


def test_warm_up_of_average_and_learning_rate():
    config = TrainConfig(steps=1000, lr=2e-3, warmup=100, ema=0.99)
    assert config.ema_at(0) == 0.1 and config.ema_at(90) == 0.91 and config.ema_at(10**6) == 0.99
    assert config.lr_at(0) == 2e-5 and config.lr_at(99) == 2e-3 == config.lr_at(100)
    assert math.isclose(config.lr_at(550), 1e-3) and config.lr_at(999) < 1e-8
    seen = [s.lr for s in train(toy(), data(), CONFIG)]
    assert seen == [CONFIG.lr_at(k) for k in range(40)]


def test_the_loop_takes_adamws_steps_and_averages_them():
    model, config = toy(), TrainConfig(steps=3, batch=16, warmup=0, clip=0.5, weight_decay=0.1)
    mine = copy.deepcopy(model)
    average = copy.deepcopy(model)
    optimizer = torch.optim.AdamW(mine.parameters(), lr=config.lr, weight_decay=0.1)
    rng, columns = np.random.default_rng(0), data()
    torch.manual_seed(0)
    steps = train(model, columns, config)
    for k in range(3):
        for group in optimizer.param_groups:
            group["lr"] = config.lr_at(k)
        optimizer.zero_grad()
        mine.train()
        mine({"x": columns["x"][rng.integers(100, size=16)]}).backward()
        norm = torch.nn.utils.clip_grad_norm_(mine.parameters(), 0.5)
        optimizer.step()
        for a, b in zip(average.parameters(), mine.parameters(), strict=True):
            a.data.mul_(config.ema_at(k)).add_(b.data, alpha=1 - config.ema_at(k))
        step = next(steps)
        assert not step.ema.training
        assert math.isclose(step.grad_norm, norm.item(), rel_tol=1e-5)
        for a, b in zip(step.ema.parameters(), average.parameters(), strict=True):
            assert torch.allclose(a, b, atol=1e-6)
    assert list(steps) == []
    for a, b in zip(model.parameters(), average.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-6)
    assert not model.training


def test_data_may_be_drawn_by_a_function():
    sizes = []

    def draw(n, rng):
        sizes.append(n)
        return {"x": torch.from_numpy(rng.standard_normal((n, 2))).float()}

    assert finish(toy(), columns=draw) == finish(toy(), columns=draw)
    assert sizes == [CONFIG.batch] * 2 * CONFIG.steps


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({}, "equally long"),
        ({"points": torch.zeros(3, 2)}, "data under 'x', it has points"),
        ({"x": torch.zeros(3, 2), "y": torch.zeros(2)}, "equally long, got"),
        ({"x": torch.zeros(0, 2)}, "empty"),
        ({"x": torch.tensor([[0.0, float("nan")]])}, "'x' holds NaN"),
    ],
)
def test_data_that_cannot_be_trained_on(columns, says):
    with pytest.raises(ValueError, match=says):
        next(train(toy(), columns, CONFIG))


@pytest.mark.parametrize(
    "loss",
    [lambda w: w.sum() + torch.tensor(float("nan")), lambda w: (w - w.detach()).sqrt().sum()],
    ids=["loss alone", "gradient alone"],
)
def test_a_loss_or_a_gradient_alone_that_is_not_finite_stops_it(loss):
    class Odd(torch.nn.Linear):
        def forward(self, batch):
            return loss(self.weight)

    model = Odd(2, 2)
    before = weights(model)
    with pytest.raises(ValueError, match="training has diverged"):
        next(train(model, data(), CONFIG))
    assert weights(model) == before


def test_a_bare_tensor_is_no_data():
    with pytest.raises(ValueError, match=r"a dict of tensors .* got a Tensor"):
        inspect.unwrap(_batches)(torch.zeros(3, 2))  # behind the type check of the tests


def test_divergence_stops_before_it_spoils_the_weights(tmp_path):
    def poisoned(n, rng):
        return {"x": torch.full((n, 2), float("inf"))}

    model = toy()
    before = weights(model)
    with pytest.raises(ValueError, match="training has diverged"):
        list(train(model, poisoned, CONFIG, tmp_path))
    assert weights(model) == before and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "bad",
    [
        {"steps": 0},
        {"batch": 0},
        {"lr": 0.0},
        {"ema": 1.0},
        {"clip": -1},
        {"save_every": 0},
        {"seed": -1},
    ],
)
def test_bad_configurations(bad):
    with pytest.raises(ValueError, match=f"{next(iter(bad))}"):
        TrainConfig(**{"steps": 10, **bad})


def test_an_output_folder_in_the_way(tmp_path):
    (tmp_path / "out").write_text("a file")
    with pytest.raises(ValueError, match="cannot write"):  # before the first step, not at a save
        next(train(toy(), data(), CONFIG, tmp_path / "out"))


def test_a_file_of_another_kind_is_no_state(tmp_path):
    checkpoint.save(tmp_path / "training", {"w": torch.ones(1)}, {"system": "digits"})
    with pytest.raises(CheckpointError, match="not the state of a training; choose another folder"):
        finish(toy(), tmp_path)
