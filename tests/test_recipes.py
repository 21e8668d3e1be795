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

    def prepare(seed, source, trained=None):
        real = recipes.prepare_base(seed, source, trained)
        return real if trained else replace(real, system=Base(real.system.config["merges"], **TINY))

    recipe = recipes.get("base")
    recipe = replace(
        recipe,
        config=replace(recipe.config, steps=4, batch=8, save_every=2),
        prepare=prepare,
        evaluate=lambda system: [{"prompts": "none", "exact": 0.0}],
    )
    monkeypatch.setitem(recipes.RECIPES, "base", recipe)
    for name in ("MIX", "LATER"):
        mix = {part: (60, kind) for part, (_, kind) in getattr(recipes, name).items()}
        monkeypatch.setattr(recipes, name, mix)
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
    list(recipes.run("base", tmp_path / "first"))
    for out, begin in (("mine", None), ("on", tmp_path / "first")):
        begun = recipes.run("base", tmp_path / out, begin=begin)
        next(begun)
        begun.close()
    (tmp_path / "file").write_text("in the way")

    def never(*_):
        raise AssertionError("prepared")

    recipe = replace(recipes.get("base"), prepare=never)
    monkeypatch.setitem(recipes.RECIPES, "base", recipe)
    for out, changed, says in [
        ("mine", {"seed": 1}, r"another run \(training.seed 0 there and 1 here"),
        ("mine", {"begin": tmp_path / "first"}, r"another run \(from"),
        ("on", {}, r"another run \(from.command python .* there and None here"),
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


def test_a_run_begins_with_the_weights_and_tokenizer_of_another(tmp_path, small):
    first, on, mine = (tmp_path / name for name in ("first", "on", "mine"))
    list(recipes.run("base", first))
    before, still = Base.load(first), {"lr": 1e-12}
    list(recipes.run("base", on, seed=1, begin=first, changes=still))
    after = Base.load(on)
    assert all(torch.equal(after.state_dict()[k], v) for k, v in before.state_dict().items())
    assert after.config == before.config
    assert dict(after.card["data"]["parts"]) == dict.fromkeys(recipes.LATER, 60)
    assert f"--seed 1 --from {first} --out {on} --lr 1e-12" in after.card["command"]
    origin = {key: before.card[key] for key in recipes.ORIGIN}
    assert after.card["from"] == {**origin, "sha256": fingerprint(before.state_dict())}

    source = photos(tmp_path / "photos")
    begun = recipes.run("base", mine, source=source, begin=on, changes=still)
    next(begun)
    begun.close()
    left = [s.index for s in recipes.run("base", mine, source=source, begin=on, changes=still)]
    assert left == [2, 3, 4]
    own = Base.load(mine)
    assert own.tokenizer.merges == before.tokenizer.merges
    assert own.card["from"]["from"] == after.card["from"]

    assert list(recipes.run("base", on, seed=1, begin=first, changes=still)) == []
    for elsewhere in (None, first):  # another beginning, or none: another run
        with pytest.raises(ValueError, match=r"holds another run .*from"):
            next(recipes.run("base", mine, source=source, begin=elsewhere, changes=still))
    with pytest.raises(ValueError, match="replace the checkpoint"):
        next(recipes.run("base", on, begin=on))
    with pytest.raises(ValueError, match="there is no checkpoint"):
        next(recipes.run("base", tmp_path / "new", begin=tmp_path))
    with pytest.raises(ValueError, match="there is no checkpoint"):
        next(recipes.run("digits", tmp_path / "new", begin=first))
    assert not (tmp_path / "new").exists()


def test_what_begins_with_a_trained_system_is_told_in_its_tokens_and_drawn_at_its_side(
    tmp_path, small
):
    trained = Base([(97, 32)], side=32, **TINY)
    for source, images in ((None, 60 * len(recipes.LATER)), (photos(tmp_path / "photos"), 12)):
        prepared = recipes.prepare_base(1, source, trained)
        assert prepared.system is trained and prepared.data["x"].shape == (images, 3, 32, 32)
        told = trained.batch(prepared.prompts)["tokens"]
        assert torch.equal(prepared.data["tokens"][: len(told)].long(), told)


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
