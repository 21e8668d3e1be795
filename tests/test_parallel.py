"""Two processes are one with the joint batch; a lost one ends the run, which then goes on.

The processes are real: torchrun starts this file, `python -m tests.test_parallel WORK FOLDER`.
"""

import itertools
import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, mse_loss, normalize

from minit2i import checkpoint, parallel
from minit2i.diffusion import Diffusion
from minit2i.mlp import MLP
from minit2i.schedule import cosine
from minit2i.train import TrainConfig, train

CONFIG = TrainConfig(steps=12, batch=8, warmup=2, lr=1e-2, clip=float("inf"), save_every=5)
TOLERANCE = 1e-10  # in float64, of gradients and of weights after twelve steps


def table():
    draws = torch.Generator().manual_seed(0)
    return {name: torch.randn(64, 3, generator=draws, dtype=torch.float64) for name in "xy"}


class Regression(nn.Linear):
    """A mean over samples."""

    def forward(self, batch):
        return mse_loss(super().forward(batch["x"]).tanh(), batch["y"])


class Towers(nn.Module):
    """Two towers; every sample is compared with all others of the joint batch.

    whole       every process computes the whole loss
    rows        each computes its own rows' part of it
    forgotten   each compares its own samples only
    """

    def __init__(self, form):
        super().__init__()
        self.x, self.y, self.form = nn.Linear(3, 4), nn.Linear(3, 4), form
        self.scale = nn.Parameter(torch.tensor(2.0))

    def forward(self, batch):
        a, b = normalize(self.x(batch["x"])), normalize(self.y(batch["y"]))
        all_a, all_b = (a, b) if self.form == "forgotten" else map(parallel.gather, (a, b))
        if self.form == "whole":
            a, b = all_a, all_b
        own = torch.arange(len(a)) + (parallel.rank() * len(a) if self.form == "rows" else 0)
        logits = (self.scale * a @ all_b.T, self.scale * b @ all_a.T)
        return sum(cross_entropy(each, own) for each in logits) / 2


def deterministic(name):
    """A model and its run, the same in every process."""
    torch.manual_seed(1)
    accumulate = 2 if name == "accumulated" else 1
    model = Towers(name) if name in ("whole", "rows", "forgotten") else Regression(3, 3)
    return model.double(), TrainConfig(**{**vars(CONFIG), "accumulate": accumulate})


def steps_of(name):
    """Loss, norm, gradients of every step, and the last weights, as tensors by name."""
    model, config = deterministic(name)
    found = {}
    for step in train(model, table(), config):
        found[f"{step.index}.loss"] = torch.tensor([step.loss, step.grad_norm])
        found |= {f"{step.index}.{k}": p.grad.clone() for k, p in model.named_parameters()}
    return found | model.state_dict()


def noisy(out=None, stop=None):
    """A run whose loss draws noise: its losses and last weights' fingerprint."""
    torch.manual_seed(1)
    model = Diffusion(MLP(3, 8, 1), cosine(20), "v")
    data = {"x": table()["x"].float()}
    losses = [s.loss for s in itertools.islice(train(model, data, CONFIG, out), stop)]
    return losses, checkpoint.fingerprint(model.state_dict())


def refused(model, data, config):
    """What `train` says to this."""
    with pytest.raises(ValueError) as raised:
        next(train(model, data, config))
    return str(raised.value)


def laws(out):
    """Everything that two processes can show without loss of life; one JSON file from each."""
    found = {}
    with parallel.processes():
        for name in NAMES:
            checkpoint.save(out / f"{name}{parallel.rank()}", steps_of(name), {})
        noisy(out / "run", stop=7)
        resumed, whole = noisy(out / "run"), noisy()
        torch.manual_seed(1)
        states = parallel.collect(torch.get_rng_state())
        found["resumed"] = resumed == (whole[0][5:], whole[1])
        found["gathered"] = [int(x) for x in parallel.gather(torch.full((2,), parallel.rank()))]
        found["callers state"] = bool(torch.equal(*states))
        found["losses"] = whole[0]
        found["rank"], found["world"] = parallel.rank(), parallel.world()
        for _ in range(2):
            with parallel.first():
                if parallel.is_main():
                    time.sleep(0.3)
                there = len(list(out.glob("turn*")))
                (out / f"turn{there}-{parallel.rank()}").touch()
            parallel.collect(None)
        found["turns"] = sorted(path.name for path in out.glob("turn*"))
        monkeypatch = pytest.MonkeyPatch()
        monkeypatch.setattr("minit2i.train.SECONDS", 0.0 if parallel.is_main() else 1e9)
        long = replace(CONFIG, steps=40, save_every=100)
        torch.manual_seed(1)
        run = train(Regression(3, 3).double(), table(), long, out / "clock")
        list(itertools.islice(run, 19))
        run.close()
        parallel.collect(None)
        found["by the clock"] = checkpoint.load(out / "clock" / "training")[1]["step"]
        monkeypatch.undo()
        torch.manual_seed(parallel.rank())
        found["models"] = refused(Regression(3, 3).double(), table(), CONFIG)
        torch.manual_seed(0)
        other = {"x": table()["x"] + parallel.rank(), "y": table()["y"]}
        found["data"] = refused(Regression(3, 3).double(), other, CONFIG)
        odd = TrainConfig(steps=1, batch=6, accumulate=2)
        found["batch"] = refused(Regression(3, 3).double(), table(), odd)
    (out / f"found{found['rank']}.json").write_text(checkpoint.to_json(found))


NAMES = ("regression", "accumulated", "whole", "rows", "forgotten")


def command_line(out):
    """`minit2i train digits` with quick saves and a quick evaluation."""
    from minit2i import recipes
    from minit2i.cli import main

    recipe = recipes.get("digits")
    config = replace(recipe.config, save_every=5)
    quick = replace(recipe, config=config, evaluate=lambda system: [{"guidance": 1.0}])
    recipes.RECIPES["digits"] = quick
    (out / f"pid{os.environ['RANK']}").write_text(str(os.getpid()))
    main(["train", "digits", "--steps", "80", "--device", "cpu", "--out", str(out)])


@contextmanager
def torchrun(work, out):
    """Two processes at work; whatever happens, none is left."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    command += ["--standalone", "-m", "tests.test_parallel", work, str(out)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes) as run:
        try:
            yield run
        finally:
            run.terminate()  # it ends its processes too


def finish(work, out):
    """The standard output and error of two processes that succeed."""
    with torchrun(work, out) as run:
        said = run.communicate(timeout=100)
    assert run.returncode == 0, said[1]
    return said


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """What two processes found: their folder, and the JSON of each."""
    out = tmp_path_factory.mktemp("two")
    finish("laws", out)
    return out, [json.loads((out / f"found{k}.json").read_text()) for k in range(2)]


def difference(one, other):
    """The largest, relative to the larger of the two tensors' largest entries."""
    assert one.keys() == other.keys() and len(one) > 30
    return max(float((one[k] - other[k]).abs().max() / (one[k].abs().max() + 1e-3)) for k in one)


@pytest.mark.parametrize("name", NAMES[:4])
def test_two_processes_take_the_steps_of_one_with_the_joint_batch(two, name):
    alone = steps_of(name)
    for k in range(2):
        together, _ = checkpoint.load(two[0] / f"{name}{k}")
        assert difference(alone, together) < TOLERANCE
    first, second = (checkpoint.load(two[0] / f"{name}{k}")[0] for k in range(2))
    assert all(torch.equal(first[key], second[key]) for key in first)  # the ranks do not part


def test_a_contrastive_loss_that_forgets_to_gather_is_another(two):
    alone, together = steps_of("forgotten"), checkpoint.load(two[0] / "forgotten0")[0]
    gradients = [(alone[f"1.{k}.weight"], together[f"1.{k}.weight"]) for k in "xy"]
    assert all((a - b).norm() > 0.1 * a.norm() for a, b in gradients)
    assert torch.allclose(steps_of("whole")["1.x.weight"], alone["1.x.weight"])


def test_a_shared_run_resumes_bit_for_bit_and_its_ranks_agree(two):
    for k, found in enumerate(two[1]):
        assert (found["rank"], found["world"]) == (k, 2)
        assert found["resumed"] and found["gathered"] == [0, 0, 1, 1]
        assert found["losses"] == two[1][0]["losses"] and len(found["losses"]) == 12


def test_the_first_process_goes_first_and_its_clock_counts(two):
    for found in two[1]:
        assert found["turns"] == ["turn0-0", "turn1-1", "turn2-0", "turn3-1"]
        assert found["by the clock"] == 10  # of 19 steps, looked at every tenth


def test_the_noise_of_the_processes_differs(two):
    # the first loss of two processes: not that of rank 0's noise for both halves of the batch
    rng, data = np.random.default_rng(CONFIG.seed), table()["x"].float()
    halves = data[rng.integers(64, size=8)].chunk(2)
    torch.manual_seed(1)
    model = Diffusion(MLP(3, 8, 1), cosine(20), "v")
    losses = []
    for half in halves:
        torch.manual_seed(CONFIG.seed)
        losses.append(model({"x": half}).item())
    shared = two[1][0]["losses"][0]
    assert abs(shared - np.mean(losses)) > 1e-3
    # and rank 0's part of it is the noise of its seed: the other half's loss is a loss
    assert 0 < 2 * shared - losses[0] < 10


def test_processes_that_do_not_begin_alike_are_refused_by_all(two):
    for found in two[1]:
        assert re.search(r"begin alike, but the model of process 1 is not", found["models"])
        assert "but the configuration or the data of process 1 is not" in found["data"]
        assert "a batch of 6 cannot be shared equally by 2 processes in 2 parts" in found["batch"]


@pytest.mark.skipif(os.name != "posix", reason="kills with SIGKILL")
def test_a_killed_process_ends_the_run_which_goes_on(tmp_path):
    with torchrun("command_line", tmp_path) as run:
        deadline = time.monotonic() + 60
        while not list(tmp_path.glob("digits.run/training.safetensors")):
            assert run.poll() is None and time.monotonic() < deadline
            time.sleep(0.005)
        os.kill(int((tmp_path / "pid0").read_text()), signal.SIGKILL)  # the one that writes
        _, said = run.communicate(timeout=60)
    assert run.returncode != 0
    lines = [line for line in said.splitlines() if line.startswith("Error: ")]
    again = f"torchrun --nproc-per-node 2 -m tests.test_parallel command_line {tmp_path}"
    assert len(lines) == 1 and lines[0].endswith(f"goes on from the last saved step with: {again}")
    _, card = checkpoint.load(tmp_path / "digits.run" / "training")
    assert 5 <= card["step"] < 80 and card["run"]["processes"] == 2
    printed, told = finish("command_line", tmp_path)
    assert printed.split() == ["guidance", "1"]
    assert 1 <= told.count("100%") <= 2  # one bar, which may show its end twice
    _, card = checkpoint.load(tmp_path / "digits")
    assert card["seconds"] > 0 and card["command"].endswith(f"--out {tmp_path} --device cpu")
    assert not (tmp_path / "digits.run" / "training.safetensors").exists()


def test_alone_everything_is_idle():
    x = torch.randn(3, 2, requires_grad=True)
    assert parallel.gather(x) is x and (parallel.world(), parallel.rank()) == (1, 0)
    assert parallel.is_main() and parallel.collect(5) == [5]
    model = nn.Linear(2, 2)
    assert parallel.wrap(model) is model and torch.equal(parallel.mean(x), x)
    with parallel.processes(), parallel.first():
        assert parallel.world() == 1
    parallel.check_equal("anything", 1)


def test_too_few_gpus_are_told(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "0")
    assert parallel.local_device() == "cuda:0"
    monkeypatch.setenv("LOCAL_RANK", "1")
    with pytest.raises(ValueError, match=r"process 2 of this machine finds 1: take"):
        parallel.local_device()


if __name__ == "__main__":
    torch.set_num_threads(1)
    {"laws": laws, "command_line": command_line}[sys.argv[1]](Path(sys.argv[2]))
