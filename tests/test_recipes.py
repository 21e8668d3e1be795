"""Recipes on tiny systems: what a run leaves behind, going on, the user's own pictures, figures."""

import json
import shlex
import shutil
import signal
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from minit2i import recipes
from minit2i.checkpoint import fingerprint
from minit2i.cli import main
from minit2i.systems.base import Base
from minit2i.text import Tokenizer

TINY = {
    "text": {"width": 16, "depth": 1, "heads": 2},
    "unet": {"fold": 2, "widths": (8,), "attention": (0,), "head": 8, "embedding": 16},
}


@pytest.fixture
def small(monkeypatch):
    """`base` with a tiny network, few scenes and a short evaluation."""

    def prepare(seed, source):
        real = recipes.prepare_base(seed, source)
        system = Base(real.system.config["merges"], **TINY)
        return replace(real, system=system)

    recipe = recipes.get("base")
    recipe = replace(
        recipe,
        config=replace(recipe.config, steps=4, batch=8, save_every=2),
        prepare=prepare,
        evaluate=lambda system: [{"prompts": "none", "exact": 0.0}],
    )
    monkeypatch.setitem(recipes.RECIPES, "base", recipe)
    mix = {name: (60, kind) for name, (_, kind) in recipes.MIX.items()}
    monkeypatch.setattr(recipes, "MIX", mix)
    monkeypatch.setattr(recipes, "SHEET", 2)


def photos(folder, n=12):
    """A folder of captioned pictures of a user's own."""
    folder.mkdir()
    rng, lines = np.random.default_rng(0), []
    for k in range(n):
        pixels = rng.integers(256, size=(24, 30, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{k}.png")
        lines.append(json.dumps({"file_name": f"{k}.png", "text": f"noise number {k} at dusk"}))
    (folder / "metadata.jsonl").write_text("\n".join(lines))
    return folder


def test_a_run_leaves_weights_card_log_and_sheets(tmp_path, small):
    steps = [step.index for step in recipes.run("base", tmp_path, seed=3)]
    assert steps == [1, 2, 3, 4]
    system = Base.load(tmp_path)
    command = f"python -m minit2i train base --steps 4 --seed 3 --out {tmp_path}"
    assert system.card["command"] == command
    data = {"name": "captioned world", "images": 240, "seed": 3}
    made = system.card["data"]
    assert made == {**data, "parts": dict.fromkeys(recipes.MIX, 60), "sha256": made["sha256"]}
    assert made["sha256"] == fingerprint(recipes.prepare_base(3, None).data)
    record = tmp_path / "base.run"
    assert sorted(p.name for p in (record / "samples").iterdir()) == ["000002.png", "000004.png"]
    log = [json.loads(line) for line in (record / "log.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in log] == [1, 4]
    assert not (record / "training.safetensors").exists()
    made = json.loads((record / "config.json").read_text())
    assert made["training"]["seed"] == 3 and made["config"]["merges"] == system.tokenizer.merges


def test_a_stopped_run_ends_in_the_same_weights(tmp_path, small):
    list(recipes.run("base", tmp_path / "whole"))
    begun = recipes.run("base", tmp_path / "halves")
    for _ in range(3):
        next(begun)
    begun.close()
    assert [step.index for step in recipes.run("base", tmp_path / "halves")] == [4]
    whole, halves = (Base.load(tmp_path / each).state_dict() for each in ("whole", "halves"))
    assert all(torch.equal(whole[key], halves[key]) for key in whole)


def test_a_run_folder_of_another_run_is_refused(tmp_path, small):
    begun = recipes.run("base", tmp_path)
    next(begun)
    begun.close()
    with pytest.raises(ValueError, match=r"another run \(training.seed 0 there and 1 here"):
        list(recipes.run("base", tmp_path, seed=1))


def test_a_folder_that_cannot_be_is_refused_before_the_data_is_made(tmp_path, small, monkeypatch):
    source = photos(tmp_path / "photos")
    begun = recipes.run("base", tmp_path / "mine")
    next(begun)
    begun.close()
    (tmp_path / "file").write_text("in the way")

    def never(*_):
        raise AssertionError("prepared")

    recipe = replace(recipes.get("base"), prepare=never)
    monkeypatch.setitem(recipes.RECIPES, "base", recipe)
    for out, changed, says in [
        ("mine", {"seed": 1}, r"another run \(training.seed 0 there and 1 here"),
        ("mine", {"steps": 9}, r"another run \(training.steps 4 there and 9 here"),
        ("mine", {"source": source}, "data.name captioned world there and a folder: photos here"),
        ("file", {}, "cannot write"),
    ]:
        with pytest.raises(ValueError, match=says):
            next(recipes.run("base", tmp_path / out, **changed))


def test_a_finished_run_is_done_and_another_is_not(tmp_path, small):
    list(recipes.run("base", tmp_path))
    assert list(recipes.run("base", tmp_path)) == []
    shutil.rmtree(tmp_path / "base.run")
    assert list(recipes.run("base", tmp_path)) == []
    assert len(list(recipes.run("base", tmp_path, seed=1))) == 4
    assert Base.load(tmp_path).card["training"]["seed"] == 1


def test_the_courses_own_checkpoint_is_made_anew(tmp_path, small, monkeypatch):
    monkeypatch.setattr(recipes, "SHIPPED", tmp_path)
    for _ in range(2):
        assert len(list(recipes.run("base"))) == 4
    assert not (tmp_path / "base.run").exists()
    assert Base.load(tmp_path).card["command"] == "python -m minit2i train base --steps 4 --seed 0"


def test_the_users_own_pictures_train_base(tmp_path, small):
    source, mine = photos(tmp_path / "my photos"), tmp_path / "mine"
    list(recipes.run("base", mine, source=source, device="cpu", changes={"batch": 4}))
    system = Base.load(mine)
    assert system.card["data"]["images"] == 12 and system.card["evaluation"] == []
    assert system.card["data"]["name"] == "a folder: my photos"
    assert shlex.split(system.card["command"])[4:] == [
        *("base", "--steps", "4", "--seed", "0", "--data", str(source), "--out", str(mine)),
        *("--device", "cpu", "--batch", "4"),
    ]
    asked = CliRunner().invoke(main, ["evaluate", "base", "--from", str(mine)])
    assert asked.exit_code == 1 and "trained on a folder: my photos: no judge" in asked.output
    assert str(mine / "base.run" / "samples") in asked.output
    assert "--system base --from" in asked.output
    assert len(system.tokenizer.encode("noise number")) < len("noise number")  # its own merges
    assert system.draw(["noise at dusk"], steps=2).shape == (1, 3, 16, 16)


def test_captions_that_are_cut_are_counted(tmp_path):
    source = photos(tmp_path / "photos")
    with open(source / "metadata.jsonl", "a") as file:
        for k, n in ((12, 20), (13, 300)):
            Image.new("RGB", (9, 9)).save(source / f"{k}.png")
            signs = "".join(chr(0x4E00 + i) for i in range(n))  # three tokens each, or two
            file.write("\n" + json.dumps({"file_name": f"{k}.png", "text": signs}))
    prepared = recipes.prepare_base(0, source)
    assert prepared.about["captions cut"] == 1
    assert (prepared.data["tokens"][:, -1] == Tokenizer.end).tolist() == [False] * 13 + [True]


def test_digits_take_pictures_whose_captions_name_a_digit(tmp_path):
    source = photos(tmp_path / "photos", 6)
    with pytest.raises(ValueError, match="6 of 6 captions name no digit") as told:
        recipes.prepare_digits(0, source)
    assert all(f"{k}.png: 'noise number {k} at dusk'" in str(told.value) for k in range(6))
    lines = [json.dumps({"file_name": f"{k}.png", "text": f"a {k}"}) for k in range(6)]
    (source / "metadata.jsonl").write_text("\n".join(lines))
    prepared = recipes.prepare_digits(0, source)
    assert prepared.data["y"].tolist() == [0, 1, 2, 3, 4, 5]
    assert prepared.data["x"].shape == (6, 1, 8, 8) and prepared.data["x"].abs().max() <= 1


@pytest.mark.skipif(sys.platform == "win32", reason="kills with SIGKILL")
def test_training_on_own_pictures_goes_on_after_kill_9(tmp_path):
    source = photos(tmp_path / "photos")
    command = [sys.executable, "-m", "minit2i", "train", "base", "--steps", "3", "--data"]
    command += [str(source), "--out", str(tmp_path / "mine"), "--device", "cpu"]
    first = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    log = tmp_path / "mine" / "base.run" / "log.jsonl"
    while first.poll() is None and not (log.exists() and log.read_text()):
        pass
    first.send_signal(signal.SIGKILL)
    first.wait()
    again = subprocess.run(command, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert f"look at the sample sheets in {tmp_path / 'mine' / 'base.run'}" in again.stdout
    assert Base.load(tmp_path / "mine").draw(["noise"], steps=1).isfinite().all()
