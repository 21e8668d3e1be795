"""The run folder: whole after any interruption, no step twice, no other run in it."""

import errno
import itertools
import json
import os
import sys
import types

import pytest
import torch
from PIL import Image

from minit2i import checkpoint
from minit2i.runs import Run
from minit2i.train import train
from tests.test_train import CONFIG, data, toy

WHAT = {"system": "toy", "training": {"steps": 40, "lr": 1e-3}, "words": ["a", "b"]}
TIMES = ("seconds", "images_per_second")


def go(folder, stop=None, every=5, model=None):
    """A run in its folder, up to step `stop`; the run."""
    run = Run(folder, WHAT)
    steps = train(model or toy(), data(), CONFIG, folder / "state")
    for _ in itertools.islice(run.follow(steps, CONFIG.batch, every), stop):
        pass
    return run


def figures(run):
    return [{k: v for k, v in entry.items() if k not in TIMES} for entry in run.entries()]


def test_the_log_holds_what_the_steps_say(tmp_path):
    run = go(tmp_path, every=9)
    steps = {s.index: s for s in train(toy(), data(), CONFIG)}
    assert figures(run) == [
        {"step": k, "loss": steps[k].loss, "lr": steps[k].lr, "grad_norm": steps[k].grad_norm}
        for k in (1, 9, 18, 27, 36, 40)
    ]
    last = 0
    for entry, n in zip(run.entries(), (1, 8, 9, 9, 9, 4), strict=True):
        taken = entry["seconds"] - last
        assert entry["images_per_second"] * taken == pytest.approx(16 * n, rel=0.3, abs=16)
        last = entry["seconds"]
    assert json.loads((tmp_path / "config.json").read_text()) == WHAT


@pytest.mark.parametrize("stop", [1, 13, 14, 26, 40])
def test_a_stopped_run_ends_with_the_log_of_one_that_was_not(tmp_path, stop):
    whole = figures(go(tmp_path / "a"))
    go(tmp_path / "b", stop)  # checkpoints every 7 steps, the log every 5
    assert figures(go(tmp_path / "b")) == whole
    seconds = [entry["seconds"] for entry in Run(tmp_path / "b", WHAT).entries()]
    assert seconds == sorted(seconds)


def test_a_line_that_was_broken_off_is_dropped(tmp_path):
    whole = figures(go(tmp_path / "a"))
    run = go(tmp_path / "b", 13)
    with open(run.log, "a") as file:
        file.write('{"step": 15, "lo')
    assert figures(run) == whole[:3]
    assert figures(go(tmp_path / "b")) == whole


def test_closed_it_closes_the_training_which_saves(tmp_path):
    steps = train(toy(), data(), CONFIG, tmp_path / "state")  # held here: nothing else ends it
    followed = Run(tmp_path, WHAT).follow(steps, CONFIG.batch)
    for _ in range(3):
        next(followed)
    followed.close()
    assert checkpoint.load(tmp_path / "state" / "training")[1]["step"] == 3 and list(steps) == []


def test_the_callers_time_is_not_counted(tmp_path, monkeypatch):
    clock = itertools.count()  # every look at the clock is a second
    monkeypatch.setattr("time.perf_counter", lambda: float(next(clock)))
    run = Run(tmp_path, WHAT)
    for _ in run.follow(train(toy(), data(), CONFIG), images=16, every=10):
        for _ in range(100):
            next(clock)
    assert [entry["seconds"] for entry in run.entries()] == [1, 10, 20, 30, 40]
    assert {entry["images_per_second"] for entry in run.entries()} == {16}


def test_another_configuration_is_refused_with_what_differs(tmp_path):
    go(tmp_path, 3)
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    other = {**WHAT, "training": {"steps": 40, "lr": 2e-3, "ema": 0.9}}
    with pytest.raises(ValueError) as told:
        Run(tmp_path, other)
    assert "(training.lr 0.001 there and 0.002 here, training.ema None there and 0.9 here)" in str(
        told.value
    )
    assert "choose another folder" in str(told.value)
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ValueError, match="is damaged"):
        Run(tmp_path, WHAT)
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="cannot write"):
        Run(tmp_path / "file", WHAT)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs Linux's ever full device")
def test_a_full_disk_at_the_log_loses_nothing(tmp_path):
    whole = figures(go(tmp_path / "a"))
    run = Run(tmp_path / "b", WHAT)
    steps = run.follow(train(toy(), data(), CONFIG, tmp_path / "b" / "state"), 16, 5)
    for _ in range(9):
        next(steps)
    kept = run.log.read_bytes()
    run.log.unlink()
    run.log.symlink_to("/dev/full")
    with pytest.raises(ValueError, match=r"log.jsonl: No space left .* goes on from the last"):
        next(steps)
    run.log.unlink()
    run.log.write_bytes(kept)
    assert figures(go(tmp_path / "b")) == whole


def test_a_full_disk_at_a_checkpoint_loses_nothing(tmp_path, monkeypatch):
    whole, other = toy(), toy()
    log = figures(go(tmp_path / "a", model=whole))
    run = Run(tmp_path / "b", WHAT)
    steps = run.follow(train(toy(), data(), CONFIG, tmp_path / "b" / "state"), 16, 5)
    for _ in range(13):
        next(steps)

    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch, pytest.raises(ValueError, match="No space left"):
        patch.setattr(os, "fsync", full)
        next(steps)
    assert [p.name for p in (tmp_path / "b" / "state").iterdir()] == ["training.safetensors"]
    assert checkpoint.load(tmp_path / "b" / "state" / "training")[1]["step"] == 7
    assert figures(go(tmp_path / "b", model=other)) == log
    assert checkpoint.fingerprint(other.state_dict()) == checkpoint.fingerprint(whole.state_dict())


def test_sheets_are_named_by_step(tmp_path):
    run = Run(tmp_path, WHAT)
    run.sheet(250, torch.zeros(4, 3, 16, 16))
    with Image.open(tmp_path / "samples" / "000250.png") as sheet:
        assert sheet.size == (2 * 98 + 2, 2 * 98 + 2)


def test_only_the_first_process_writes(tmp_path, monkeypatch):
    monkeypatch.setattr("minit2i.parallel.is_main", lambda: False)
    run = Run(tmp_path, WHAT)
    assert len(list(run.follow(train(toy(), data(), CONFIG), 16))) == 40
    run.sheet(1, torch.zeros(1, 3, 16, 16))
    assert not list(tmp_path.iterdir())


def test_tensorboard_is_optional(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ValueError, match="TensorBoard is not installed: pip install tensorboard"):
        Run(tmp_path, WHAT, tensorboard=True)
    assert not list(tmp_path.iterdir())
    told = []

    class SummaryWriter:
        def __init__(self, folder, purge_step):
            told.append((folder, purge_step))

        def add_scalar(self, name, value, step):
            told.append((name, value, step))

        def flush(self):
            told.append("flush")

    fake = types.SimpleNamespace(SummaryWriter=SummaryWriter)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", fake)
    run = Run(tmp_path, WHAT, tensorboard=True)
    list(run.follow(train(toy(), data(), CONFIG), 16, every=40))
    assert told[0] == (str(tmp_path / "tensorboard"), 1) and told.count("flush") == 2
    assert ("loss", run.entries()[-1]["loss"], 40) in told
