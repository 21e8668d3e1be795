"""Recipes on tiny systems: what a run leaves behind, going on, the user's own pictures, figures."""

import json
import signal
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from minit2i import benchmark, recipes
from minit2i.systems.base import Base
from minit2i.systems.digits import Digits
from tests.networks import wake

TINY = {
    "text": {"width": 16, "depth": 1, "heads": 2},
    "unet": {"widths": (8,), "attention": (0,), "head": 8, "embedding": 16},
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
    monkeypatch.setattr(recipes, "SCENES", 200)
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
    assert system.card["command"] == "python -m minit2i train base --steps 4 --seed 3"
    assert system.card["data"] == {"name": "captioned world", "images": 200, "seed": 3}
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
    assert [step.index for step in recipes.run("base", tmp_path / "halves")] == [3, 4]
    whole, halves = (Base.load(tmp_path / each).state_dict() for each in ("whole", "halves"))
    assert all(torch.equal(whole[key], halves[key]) for key in whole)


def test_a_run_folder_of_another_run_is_refused(tmp_path, small):
    begun = recipes.run("base", tmp_path)
    next(begun)
    begun.close()
    with pytest.raises(ValueError, match=r"another run \(training.seed 0 there and 1 here"):
        list(recipes.run("base", tmp_path, seed=1))


def test_the_users_own_pictures_train_base(tmp_path, small):
    list(recipes.run("base", tmp_path / "mine", source=photos(tmp_path / "photos")))
    system = Base.load(tmp_path / "mine")
    assert system.card["data"]["images"] == 12 and system.card["evaluation"] == []
    assert len(system.tokenizer.encode("noise number")) < len("noise number")  # its own merges
    assert system.draw(["noise at dusk"], steps=2).shape == (1, 3, 16, 16)


def test_digits_take_pictures_whose_captions_name_a_digit(tmp_path):
    source = photos(tmp_path / "photos", 6)
    with pytest.raises(ValueError, match="cannot read the prompt 'noise number 0 at dusk'"):
        recipes.prepare_digits(0, source)
    lines = [json.dumps({"file_name": f"{k}.png", "text": f"a {k}"}) for k in range(6)]
    (source / "metadata.jsonl").write_text("\n".join(lines))
    prepared = recipes.prepare_digits(0, source)
    assert prepared.data["y"].tolist() == [0, 1, 2, 3, 4, 5]
    assert prepared.data["x"].shape == (6, 1, 8, 8) and prepared.data["x"].abs().max() <= 1


def test_figures_have_a_row_for_each_set_and_each_category():
    torch.manual_seed(0)
    system = wake(Base([], **TINY)).eval()
    system.draw = lambda texts, seed: torch.zeros(len(texts), 3, 16, 16)
    rows = recipes.evaluate_base(system, prompts=4, draws=1)
    names = [row["prompts"] for row in rows]
    assert names[:6] == [*benchmark.NUMBERS.values(), "held-out compositions", "counts", "places"]
    assert names[6] == "MiniDrawBench" and len(names) == 7 + 12  # texture is not seen at 16 pixels
    assert all(row["exact"] == 0 for row in rows)  # grey pictures show nothing


def test_every_picture_of_an_evaluation_has_a_noise_of_its_own(monkeypatch):
    seeds = []
    system = wake(Base([], **TINY)).eval()

    def draw(texts, seed):
        seeds.extend(range(seed, seed + len(texts)))
        return torch.zeros(len(texts), 3, 16, 16)

    system.draw = draw
    recipes.evaluate_base(system, prompts=4, draws=1)
    assert len(set(seeds)) == len(seeds) == 4 * 4 + 2 * 2 + 260


def test_own_prompts_are_measured(tmp_path):
    (tmp_path / "mine.txt").write_text("a red circle\n\na small cross above a blue square\n")
    system = wake(Base([], **TINY)).eval()
    (row,) = recipes.evaluate_prompts(system, tmp_path / "mine.txt", draws=1)
    assert row["prompts"] == "mine.txt"
    (tmp_path / "bad.txt").write_text("a red circle\na photograph of an astronaut\n")
    with pytest.raises(ValueError, match=r"prompt 2 of .*bad\.txt"):
        recipes.evaluate_prompts(system, tmp_path / "bad.txt")
    with pytest.raises(ValueError, match="digits draws no scenes"):
        recipes.evaluate_prompts(Digits(), tmp_path / "mine.txt")


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
    assert "look at the sample sheets" in again.stdout
    assert Base.load(tmp_path / "mine").draw(["noise"], steps=1).isfinite().all()
