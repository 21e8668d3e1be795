"""The command line: what a user types, what comes out, and what a mistake is answered with."""

import io
import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from minit2i import findings, recipes
from minit2i.checkpoint import SHIPPED, load
from minit2i.cli import _Held, _limit_threads, main
from minit2i.evaluate import digit_judge
from minit2i.picture import png
from minit2i.systems.base import Base
from minit2i.systems.digits import Digits


def run(*args):
    return CliRunner().invoke(main, [str(a) for a in args])


def test_draw_shows_sevens_and_starts_quickly_from_a_shell(tmp_path):
    out = tmp_path / "seven.png"
    command = [sys.executable, "-m", "minit2i", "draw", "seven", "--system", "digits"]
    done = subprocess.run([*command, "--out", out, "--count", "16"], capture_output=True, text=True)
    assert done.returncode == 0 and "16 × 'seven' by digits" in done.stdout, done.stderr
    sheet = Image.open(out)
    assert sheet.size == (4 * 100 + 4, 4 * 100 + 4)
    # read back from the file: every tile is eight by eight squares of 12 pixels
    corner = [4 + k * 100 for k in range(4)]
    tiles = [sheet.crop((x, y, x + 96, y + 96)) for y in corner for x in corner]
    small = [t.resize((8, 8), Image.Resampling.NEAREST).convert("L") for t in tiles]
    pixels = torch.stack(
        [torch.frombuffer(bytearray(s.tobytes()), dtype=torch.uint8) for s in small]
    )
    images = pixels.view(16, 1, 8, 8).float() / 127.5 - 1
    assert (digit_judge()(images) == 7).sum() >= 14
    drawn = Digits.load().draw(["seven"] * 16, seed=0)
    assert (images - drawn[:, :1]).abs().max() <= 1 / 127.5


def test_a_console_without_the_signs_is_no_error(tmp_path):
    command = [sys.executable, "-m", "minit2i", "draw", "seven", "--system", "digits"]
    ascii_only = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(
        [*command, "--out", tmp_path / "a.png"], capture_output=True, env=ascii_only
    )
    assert done.returncode == 0 and b"1 ? 'seven' by digits" in done.stdout, done.stderr


@pytest.mark.parametrize(
    ("command", "says"),
    [("train digits", "goes on from the last saved step"), ("finding reverse", "--resume goes on")],
)
def test_an_interrupted_command_says_how_to_go_on(command, says, tmp_path, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt
        yield

    monkeypatch.setattr(recipes, "run", interrupted)
    monkeypatch.setattr(findings, "measure", interrupted)
    done = run(*command.split(), "--out", tmp_path)
    assert done.exit_code == 1 and says in done.output and "Traceback" not in done.output


@pytest.mark.skipif(os.name != "posix", reason="sends SIGINT")
def test_ctrl_c_saves_the_step_and_the_same_command_goes_on(tmp_path):
    command = [sys.executable, "-m", "minit2i", "train", "digits", "--out", str(tmp_path)]
    command += ["--steps", "3000", "--device", "cpu"]
    log = tmp_path / "digits.run" / "log.jsonl"
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        while not (log.exists() and log.read_text().count("\n") > 1) and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 1 and "Traceback" not in said
    (step,) = map(
        int, re.findall(r"Error: stopped after step (\d+), which is saved; .* goes", said)
    )
    assert step >= 50  # the recipe saves every 500
    assert load(tmp_path / "digits.run" / "training")[1]["step"] == step
    again = recipes.run("digits", tmp_path, steps=3000)
    assert next(again).index == step + 1
    again.close()
    unfinished = run("draw", "7", "--system", "digits", "--out", "x.png", "--from", tmp_path)
    assert "training of digits in" in unfinished.output and "goes on" in unfinished.output


@pytest.mark.skipif(os.name != "posix", reason="sends SIGINT")
def test_a_second_ctrl_c_stops_at_once_as_does_one_before_and_after_the_steps():
    before = signal.getsignal(signal.SIGINT)  # ignored in a shell's background job
    with _Held() as held:
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
        held.wait = True
        os.kill(os.getpid(), signal.SIGINT)
        assert held.asked
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_a_finished_run_is_not_made_again(tmp_path, monkeypatch):
    monkeypatch.setattr("minit2i.recipes.SCALES", (1.0,))
    ask = ("train", "digits", "--out", tmp_path, "--steps", "2")
    assert "finished" not in run(*ask).output
    before = {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in tmp_path.rglob("*") if p.is_file()}
    again = run(*ask)
    assert again.exit_code == 0 and "holds this very run, finished" in again.output
    assert {
        p: (p.stat().st_mtime_ns, p.read_bytes()) for p in tmp_path.rglob("*") if p.is_file()
    } == before


def test_threads_are_the_users_and_torchruns_to_choose(monkeypatch):
    chosen = []
    monkeypatch.setattr(torch, "set_num_threads", chosen.append)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    _limit_threads(Base)
    assert chosen == [Base.threads]
    monkeypatch.setenv("WORLD_SIZE", "2")
    _limit_threads(Base)
    monkeypatch.delenv("WORLD_SIZE")
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    _limit_threads(Base)
    assert chosen == [Base.threads]


def test_options_reach_the_run_and_the_card(tmp_path, monkeypatch):
    monkeypatch.setattr("minit2i.recipes.SCALES", (1.0,))
    told = []
    monkeypatch.setattr("minit2i.runs._Board", lambda folder: told.append(folder) or Board())

    class Board:
        def begin(self, step):
            pass

        write = begin

    options = "--tensorboard --lr 0.01 --batch 32 --accumulate 2 --precision bfloat16"
    done = run("train", "digits", "--out", tmp_path, "--steps", "2", *options.split())
    assert done.exit_code == 0, done.output
    card = json.loads((tmp_path / "digits.json").read_text())
    made = card["training"]
    assert (made["lr"], made["batch"], made["accumulate"]) == (0.01, 32, 2)
    assert made["precision"] == "bfloat16"
    assert told == [tmp_path / "digits.run" / "tensorboard"] and not made["compile"]
    start = f"python -m minit2i train digits --steps 2 --seed 0 --out {tmp_path} "
    assert card["command"] == start + options
    bad = run("train", "digits", "--out", tmp_path / "b", "--batch", "0")
    assert bad.exit_code == 1 and "batch must be at least 1" in bad.output
    bad = run("train", "digits", "--out", tmp_path / "b", "--precision", "half")
    assert bad.exit_code == 1 and "unknown precision 'half'" in bad.output


def test_training_begins_with_a_checkpoint_that_is_finished(tmp_path, monkeypatch):
    monkeypatch.setattr("minit2i.recipes.SCALES", (1.0,))
    first, on = tmp_path / "first", tmp_path / "on"
    assert run("train", "digits", "--out", first, "--steps", "2").exit_code == 0
    ask = ("train", "digits", "--from", first, "--out", on, "--seed", "1", "--lr", "1e-12")
    assert run(*ask, "--steps", "2").exit_code == 0
    before, after = (Digits.load(folder) for folder in (first, on))
    assert after.card["from"]["command"] == before.card["command"]
    assert all(torch.equal(after.state_dict()[k], v) for k, v in before.state_dict().items())
    (first / "digits.safetensors").unlink()
    assert "is not finished" in run(*ask, "--steps", "3").output
    assert "is a file" in run(*ask[:3], on / "digits.json", *ask[4:]).output


def test_a_long_prompt_is_drawn_and_what_is_not_read_is_told(tmp_path):
    torch.manual_seed(0)
    small = {"widths": (8,), "attention": (0,), "head": 8, "embedding": 16}
    text = {"width": 16, "depth": 1, "heads": 2, "length": 16}
    Base([], text=text, unet=small).save({}, tmp_path)
    ask = ("--out", tmp_path / "a.png", "--from", tmp_path, "--steps", "1")
    done = run("draw", "x" * 5000, *ask)
    assert done.exit_code == 0 and len(done.stdout) < 300 and "xxx…'" in done.stdout
    told = "only the first 14 of the prompt's 5001 tokens are read: the rest is ignored\n"
    assert done.stderr == told
    assert run("draw", "x" * 13, *ask).stderr == ""


def test_the_same_seed_draws_the_same_file(tmp_path):
    files = [tmp_path / f"{k}.png" for k in range(3)]
    for file, seed in zip(files, (5, 5, 6), strict=True):
        assert run("draw", "3", "--system", "digits", "--out", file, "--seed", seed).exit_code == 0
    a, b, c = (file.read_bytes() for file in files)
    assert a == b != c


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("draw", "eleven", "--system", "digits", "--out", "x.png"), "zero, one, two"),
        (("draw", "seven", "--system", "glide", "--out", "x.png"), "unknown system 'glide'"),
        (("draw", "seven", "--system", "digits", "--out", "x.gif"), "a .png file"),
        (("draw", "seven", "--system", "digits", "--out", "x.png", "--steps", "0"), "at least 1"),
        (("draw", "seven", "--system", "digits", "--out", "x.png", "--steps", "1001"), "at most T"),
        (("draw", "seven", "--system", "digits", "--out", "x.png", "--count", "0"), "--count"),
        (("draw", "seven", "--system", "digits", "--out", "x.png", "--guidance", "nan"), "finite"),
        (("draw", "seven", "--system", "digits", "--out", "x.png", "--device", "abc"), "no device"),
        (("draw", "seven", "--system", "digits", "--out", "file/x.png"), "cannot write to file"),
        (
            ("draw", "seven", "--system", "digits", "--out", "x.png", "--device", "meta"),
            "no device",
        ),
        (("draw", "seven", "--system", "digits", "--out", "x.png", "--seed", 2**64), "0 to 2^63"),
        (("draw", "seven", "--system", "digits", "--out", "x.png", "--seed", -1), "0 to 2^63"),
        (("train", "digits", "--out", "folder", "--seed", -1), "seed must be at least 0"),
        (("finding", "reverse", "--out", "file"), "cannot write to file"),
        (("train", "glide"), "unknown system 'glide'"),
        (("train", "digits", "--out", "file", "--steps", "1"), "cannot write"),
        (("train", "digits", "--out", "folder", "--steps", "0"), "steps must be at least 1"),
        (("evaluate", "glide"), "unknown system 'glide'"),
        (("finding", "everything"), "unknown finding 'everything'"),
    ],
)
def test_a_mistake_is_answered_in_one_line_and_leaves_nothing(args, says, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("in the way")
    done = run(*args)
    assert done.exit_code in (1, 2) and says in done.output, done.output
    lines = [x for x in done.output.splitlines() if x and not x.startswith(("Usage", "Try"))]
    assert len(lines) == 1 and lines[0].startswith("Error: ")
    assert not list(tmp_path.rglob("*.png")) and not list(tmp_path.rglob("*.safetensors"))


def test_train_makes_a_checkpoint_that_draws(tmp_path, monkeypatch):
    monkeypatch.setattr("minit2i.recipes.SCALES", (1.0, 2.0))
    done = run("train", "digits", "--out", tmp_path, "--steps", "3")
    assert done.exit_code == 0, done.output
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "digits.json",
        "digits.run",
        "digits.safetensors",
    ]
    card = json.loads((tmp_path / "digits.json").read_text())
    assert card["command"] == f"python -m minit2i train digits --steps 3 --seed 0 --out {tmp_path}"
    assert [row["guidance"] for row in card["evaluation"]] == [1.0, 2.0]
    assert sum(row["chosen"] for row in card["evaluation"]) == 1
    out, shipped = tmp_path / "a.png", tmp_path / "b.png"
    ask = ("draw", "7", "--system", "digits", "--out")
    assert run(*ask, out, "--from", tmp_path).exit_code == run(*ask, shipped).exit_code == 0
    assert out.read_bytes() != shipped.read_bytes()
    assert run("evaluate", "digits", "--from", tmp_path).exit_code == 0
    missing = run(*ask, out, "--from", tmp_path / "nowhere")
    assert missing.exit_code == 1 and "python -m minit2i train digits" in missing.output


def test_training_that_was_stopped_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr("minit2i.recipes.SCALES", (1.0,))
    whole = [s.loss for s in recipes.run("digits", tmp_path / "a", steps=4)]
    steps = recipes.run("digits", tmp_path / "b", steps=4)
    for _ in range(2):
        next(steps)
    steps.close()
    assert [s.loss for s in recipes.run("digits", tmp_path / "b", steps=4)] == whole[2:]
    weights = [(tmp_path / x / "digits.safetensors").read_bytes()[-1000:] for x in "ab"]
    assert weights[0] == weights[1]


def test_the_shipped_card_names_the_recipe_and_its_quality():
    card = Digits.load().card
    recipe = recipes.get("digits")
    assert (
        card["command"] == f"python -m minit2i train digits --steps {recipe.config.steps} --seed 0"
    )
    best = [row for row in card["evaluation"] if row["chosen"]]
    assert len(best) == 1 and best[0]["accuracy"] >= 0.95
    assert json.loads((SHIPPED / "digits.json").read_text()) == card


def test_evaluate_prints_what_the_card_says(monkeypatch):
    monkeypatch.setattr("minit2i.recipes.SCALES", (1.5,))
    done = run("evaluate", "digits", "--json")
    assert done.exit_code == 0, done.output
    (row,) = json.loads(done.output)
    (stated,) = [r for r in Digits.load().card["evaluation"] if r["guidance"] == 1.5]
    assert abs(row["accuracy"] - stated["accuracy"]) <= 0.005  # another CPU rounds differently


def test_finding_is_measured_and_told(tmp_path, monkeypatch):
    from tests.test_findings import toy

    monkeypatch.setattr(findings, "get", lambda name: toy())
    done = run("finding", "toy", "--out", tmp_path)
    assert done.exit_code == 0, done.output
    assert "reproduced: new errs less (1 [1, 1])" in done.output


def test_png_keeps_every_pixel():
    images = torch.rand(5, 3, 16, 16) * 2 - 1
    sheet = Image.open(io.BytesIO(png(images)))
    assert sheet.size == (3 * 98 + 2, 2 * 98 + 2)
    for k in range(5):
        y, x = 2 + (k // 3) * 98, 2 + (k % 3) * 98
        middle = sheet.getpixel((x + 3 + 6 * 4, y + 3 + 6 * 9))
        expected = ((images[k, :, 9, 4] + 1) * 127.5).round()
        assert torch.equal(torch.tensor(middle).float(), expected)


def test_help_names_the_verbs_without_loading_torch():
    code = "import sys; from minit2i.cli import main; main(['-h'], standalone_mode=False); "
    code += "assert 'torch' not in sys.modules and 'matplotlib' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for verb in ("draw", "train", "evaluate", "finding", "doctor"):
        assert verb in done.stdout
