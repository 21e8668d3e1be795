"""The training loop: resumes bit for bit, averages as stated, refuses what cannot be trained."""

import copy
import inspect
import itertools
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
from minit2i.batches import batches
from minit2i.checkpoint import CheckpointError, fingerprint
from minit2i.diffusion import Diffusion
from minit2i.mlp import MLP
from minit2i.schedule import cosine
from minit2i.train import ASK, TrainConfig, differences, train, update_average

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
    run.close()
    resumed, rest = finish(toy(), tmp_path)
    assert resumed == whole and rest == losses[stop:]


def test_the_clock_saves_and_what_it_saved_resumes_bit_for_bit(tmp_path, monkeypatch):
    now = iter(range(0, 10**6, 9))  # every look at the clock is 9 s later
    monkeypatch.setattr("time.monotonic", lambda: float(next(now)))
    whole, losses = finish(toy())
    run, written = train(toy(), data(), replace(CONFIG, save_every=100), tmp_path), []
    path = tmp_path / "training.safetensors"
    for step in run:
        if path.exists() and path.read_bytes() not in [content for _, content in written]:
            written.append((step.index, path.read_bytes()))
    assert [index for index, _ in written] == [7, 14, 21, 28, 35, 40]
    path.write_bytes(written[2][1])  # as kill -9 after step 27 leaves it
    config = replace(CONFIG, save_every=100)
    assert finish(toy(), tmp_path, config) == (whole, losses[21:])


def test_a_run_that_has_diverged_is_not_saved_when_it_is_closed(monkeypatch, tmp_path):
    monkeypatch.setattr("minit2i.train._is_late", lambda device: True)
    run = train(toy(), lambda n, rng: {"x": torch.full((n, 2), float("inf"))}, CONFIG, tmp_path)
    next(run)
    with pytest.raises(ValueError, match=r"^step 1: "):
        run.close()
    assert not list(tmp_path.iterdir())


def test_differences_are_told_in_few_words():
    there, here = {f"k{i}": [i] * 500 for i in range(9)}, {f"k{i}": i for i in range(9)}
    told = differences({**there, "same": 1}, {**here, "same": 1})
    assert len(told) < 5 * 100 and told.startswith("k0 [0, 0, 0, ") and "same" not in told
    assert "…, 0, 0, 0, 0, 0, 0] there and 0 here, k1" in told and told.endswith(", and 4 more")
    assert differences({"a": 1}, {"a": 1}) == ""
    assert differences({"a": 1}, {"b": 2}) == "a 1 there and None here, b None there and 2 here"


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
    betas = (0.8, 0.95)
    config = TrainConfig(steps=3, batch=16, warmup=0, clip=0.5, weight_decay=0.1, betas=betas)
    model = toy()
    mine = copy.deepcopy(model)
    average = copy.deepcopy(model)
    optimizer = torch.optim.AdamW(mine.parameters(), config.lr, betas, weight_decay=0.1)
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


def test_an_order_draws_neighbours_together_and_every_row_alike():
    n, size = 320, 4
    length = torch.arange(n) // 20
    order = length.argsort(stable=True).flip(0)
    draw = batches({"x": torch.arange(n), "length": length, "order": order})
    rng, seen, spread = np.random.default_rng(0), torch.zeros(n), []
    for _ in range(8000):
        batch = draw(size, rng)
        assert set(batch) == {"x", "length"}
        assert torch.equal(batch["length"], length[batch["x"]])
        seen += torch.bincount(batch["x"], minlength=n)
        low, high = batch["length"].aminmax()
        spread.append(int(high - low))
    assert np.median(spread) <= 2 and max(spread) == 15  # across the end of the order
    # A row is in the stretch (eight batches: a tenth of the rows) of a tenth of the draws, and then
    # comes 4/32 times on average.
    share, often = 32 / n, size / 32
    variance = 8000 * share * (often + often**2 * (1 - share))
    assert (seen - 8000 * size / n).abs().max() < 5 * math.sqrt(variance)


@pytest.mark.parametrize("n", [10, 64, 300])
def test_an_order_of_few_rows_changes_nothing_much(n):
    """A stretch is never shorter than eight batches, or all there is."""
    draw = batches({"x": torch.arange(n), "order": torch.arange(n)})
    rng = np.random.default_rng(1)
    different = np.mean([len(draw(64, rng)["x"].unique()) for _ in range(50)])
    assert different > 0.95 * n * (1 - (1 - 1 / n) ** 64)


def test_an_order_must_list_every_row_once():
    with pytest.raises(ValueError, match="'order' must list each of the 3 rows once"):
        batches({"x": torch.zeros(3), "order": torch.tensor([0, 1, 1])})
    with pytest.raises(ValueError, match="'order' must list each of the 3 rows once"):
        batches({"x": torch.zeros(3), "order": torch.tensor([0.0, 1.0, 2.0])})


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
        inspect.unwrap(batches)(torch.zeros(3, 2))  # behind the type check of the tests


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
        {"accumulate": 0},
        {"accumulate": 3, "batch": 16},
        {"precision": "float16"},
        {"betas": (0.9, 1.0)},
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


class Regression(torch.nn.Sequential):
    """A loss without noise, a mean over samples; remembers its batches."""

    def __init__(self, outputs=1):
        torch.manual_seed(3)
        layers = torch.nn.Linear(2, 8), torch.nn.Tanh(), torch.nn.Linear(8, outputs)
        super().__init__(*layers)
        self.seen = []

    def forward(self, batch):
        self.seen.append(batch)
        return (super().forward(batch["x"]) - batch["x"][:, :1]).square().mean()


@pytest.mark.parametrize("parts", [2, 16])
def test_an_accumulated_step_is_the_step_of_the_whole_batch(parts):
    whole, cut = Regression(), Regression()
    runs = (
        train(model, data(), replace(CONFIG, accumulate=k))
        for model, k in ((whole, 1), (cut, parts))
    )
    for one, other in zip(*runs, strict=True):
        assert math.isclose(one.loss, other.loss, rel_tol=1e-5)
        assert math.isclose(one.grad_norm, other.grad_norm, rel_tol=1e-4)
    for a, b in zip(whole.parameters(), cut.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-5)
    assert [len(batch["x"]) for batch in cut.seen] == [16 // parts] * 40 * parts
    assert torch.equal(torch.cat([b["x"] for b in cut.seen[:parts]]), whole.seen[0]["x"])


@pytest.mark.parametrize(
    "change", [{"accumulate": 2}, {"precision": "bfloat16"}, {"fused": True}], ids=str
)
def test_the_choices_resume_bit_for_bit(change, tmp_path):
    config = replace(CONFIG, **change)
    whole, losses = finish(toy(), config=config)
    for _ in itertools.islice(train(toy(), data(), config, tmp_path), 10):
        pass
    assert finish(toy(), tmp_path, config) == (whole, losses[10:])


def test_bfloat16_trains_like_float32_and_keeps_weights_in_float32():
    full, half = finish(toy())[1], finish(toy(), config=replace(CONFIG, precision="bfloat16"))[1]
    assert full != half and np.allclose(full, half, rtol=0.02)
    model = toy()
    step = next(train(model, data(), replace(CONFIG, precision="bfloat16")))
    assert step.figures[0].dtype == torch.float32
    assert {p.dtype for p in model.parameters()} == {torch.float32}


def test_fused_steps_are_the_same_up_to_rounding():
    plain, fused = toy(), toy()
    losses = [
        finish(model, config=replace(CONFIG, fused=choice))[1]
        for model, choice in ((plain, False), (fused, True))
    ]
    assert np.allclose(*losses, rtol=1e-5)
    for a, b in zip(plain.parameters(), fused.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-5)


def test_a_compiled_model_takes_the_same_steps(monkeypatch):
    real, asked = torch.compile, []

    def fast(model, **how):  # the translation without the C++ compiler, which takes a minute
        asked.append(how)
        return real(model, backend="eager")

    monkeypatch.setattr(torch, "compile", fast)
    plain, compiled = Regression(), Regression()
    for model, choice in ((plain, False), (compiled, True)):
        list(train(model, data(), replace(CONFIG, steps=3, compile=choice)))
    assert asked == [{"options": {"fallback_random": True}}]
    for a, b in zip(plain.parameters(), compiled.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-6)


def pictures(n=100):
    rng = np.random.default_rng(0)
    return rng.integers(256, size=(n, 2), dtype=np.uint8), rng.integers(10, size=n)


def test_bytes_reach_the_model_as_pictures_and_integers_as_they_are():
    x, y = pictures()
    x[0], x[1] = 0, 255

    def draw(n, rng):
        k = rng.integers(100, size=n)
        return {"x": torch.from_numpy(x[k]), "y": torch.from_numpy(y[k])}

    for table in ({"x": torch.from_numpy(x), "y": torch.from_numpy(y)}, draw):
        model = Regression()
        next(train(model, table, replace(CONFIG, batch=4096)))
        (batch,) = model.seen
        index = np.random.default_rng(0).integers(100, size=4096)
        assert torch.equal(batch["x"], torch.from_numpy(x[index] / np.float32(127.5) - 1))
        assert torch.equal(batch["y"], torch.from_numpy(y[index]))
        assert batch["x"].min() == -1 and batch["x"].max() == 1


def test_a_memory_mapped_table_trains_alike_and_is_told_apart(tmp_path):
    x, _ = pictures()
    x.tofile(tmp_path / "x")
    mapped = np.memmap(tmp_path / "x", np.uint8, "r", shape=x.shape)
    whole = finish(Regression(), columns={"x": torch.from_numpy(x)})
    assert finish(Regression(), columns={"x": mapped}) == whole
    assert finish(Regression(), columns={"x": x}) == whole
    out = tmp_path / "run"
    assert finish(Regression(), out, columns={"x": mapped}) == whole
    assert finish(Regression(), out, columns={"x": mapped}) == (whole[0], [])
    (255 - x).tofile(tmp_path / "other")
    other = np.memmap(tmp_path / "other", np.uint8, "r", shape=x.shape)
    with pytest.raises(ValueError, match="another run"):
        finish(Regression(), out, columns={"x": other})


FRUGAL = """
import sys
import numpy as np, torch
from minit2i.train import TrainConfig, train

class Model(torch.nn.Linear):
    def forward(self, batch):
        return super().forward(batch["x"].flatten(1)).square().mean()

def peak():  # not getrusage's: a new program inherits that from the one that started it
    status = open("/proc/self/status").read()
    return int(status.split("VmHWM:")[1].split()[0]) / 2**10

torch.set_num_threads(1)
config, shape = TrainConfig(steps=3, batch=64), (110_000, 3, 16, 16)
table = torch.zeros(shape, dtype=torch.uint8) + 1
list(train(Model(768, 1), {"x": table}, config, sys.argv[1] + "/a"))  # warms up
before = peak()
list(train(Model(768, 1), {"x": table}, config, sys.argv[1] + "/a2"))
mapped = np.memmap(sys.argv[1] + "/x", np.uint8, "w+", shape=(50 * shape[0], *shape[1:]))
list(train(Model(768, 1), {"x": mapped}, config, sys.argv[1] + "/b"))
print(before, peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's peak memory, needs sparse files")
def test_tables_of_pictures_take_little_memory(tmp_path):
    # 84 MB of pictures in memory, 4.2 GB in a file: neither becomes floats, nor is the file read
    done = subprocess.run(
        [sys.executable, "-c", FRUGAL, tmp_path], capture_output=True, text=True, check=True
    )
    whole, more = map(float, done.stdout.split())
    assert whole < 800 and more < 40, done.stdout  # MiB


@pytest.mark.parametrize("faulty", [1, 3, 45])
def test_a_device_that_is_asked_late_keeps_its_weights(faulty, monkeypatch, tmp_path):
    # what a GPU does, on a CPU
    monkeypatch.setattr("minit2i.train._is_late", lambda device: True)

    def poisoned(n, rng):
        poisoned.calls += 1
        value = float("nan") if poisoned.calls == faulty else 1.0
        return {
            "x": torch.full((n, 2), value) * torch.from_numpy(rng.standard_normal((n, 2))).float()
        }

    config = TrainConfig(steps=200, batch=16, warmup=5, save_every=1000)
    poisoned.calls, model, seen = 0, toy(), [weights(toy())]
    with pytest.raises(ValueError, match=rf"^step {faulty}: loss nan, gradient norm nan: training"):
        for _ in train(model, poisoned, config, tmp_path):
            seen.append(weights(model))
    assert len(seen) == ASK  # the first weights, and those after each step but the one that told
    assert len(set(seen)) == faulty and weights(model) == seen[faulty - 1]
    assert not list(tmp_path.iterdir())


def test_a_fault_is_noticed_before_it_is_saved_and_at_the_end(monkeypatch, tmp_path):
    monkeypatch.setattr("minit2i.train._is_late", lambda device: True)

    def poisoned(n, rng):
        return {"x": torch.full((n, 2), float("inf"))}

    assert CONFIG.steps < ASK
    for out in (tmp_path, None):
        with pytest.raises(ValueError, match=r"^step 1: "):
            list(train(toy(), poisoned, CONFIG, out))
    assert not list(tmp_path.iterdir())


def test_asked_late_a_healthy_run_is_the_same_and_resumes_bit_for_bit(monkeypatch, tmp_path):
    soon, losses = toy(), finish(toy())[1]
    list(train(soon, data(), CONFIG))
    monkeypatch.setattr("minit2i.train._is_late", lambda device: True)
    late = toy()
    more = [s.loss for s in train(late, data(), CONFIG)]
    assert np.allclose(losses, more, rtol=1e-4)
    for _ in itertools.islice(train(toy(), data(), CONFIG, tmp_path), 10):
        pass
    assert finish(toy(), tmp_path)[0] == weights(late)


class Convolution(torch.nn.Conv2d):
    """The least model with a convolution."""

    channels_last = True

    def __init__(self):
        torch.manual_seed(4)
        super().__init__(3, 5, 3)

    def forward(self, batch):
        return super().forward(batch["x"]).square().mean()


@pytest.mark.parametrize("fused", [False, True])
def test_a_model_may_ask_for_channels_last_and_resumes_bit_for_bit(fused, tmp_path, monkeypatch):
    table = {"x": torch.randn(20, 3, 6, 6, generator=torch.Generator().manual_seed(0))}
    config = replace(CONFIG, fused=fused)  # which walks through weights and moments in memory order
    model = Convolution()
    whole, losses = finish(model, config=config, columns=table)
    assert model.weight.is_contiguous(memory_format=torch.channels_last)
    for _ in itertools.islice(train(Convolution(), table, config, tmp_path), 10):
        pass
    again = Convolution()
    assert finish(again, tmp_path, config, table) == (whole, losses[10:])
    monkeypatch.setattr(Convolution, "channels_last", False)
    plain = Convolution()
    finish(plain, columns=table)
    assert plain.weight.is_contiguous() and torch.allclose(plain.weight, model.weight, atol=1e-5)
