"""The command line: the same verbs for every system.

    python -m minit2i draw "a red circle above a small cross" --out picture.png --count 16
    python -m minit2i train base --data FOLDER --out mine
    python -m minit2i evaluate base --json
    python -m minit2i finding families --resume
    python -m minit2i doctor
    python -m minit2i check notebooks/01_forward_diffusion.ipynb     and exercises, release, grade

Heavy imports wait until a command needs them, so that help and a wrong word answer at once.
"""

import json
import os
import shlex
import signal
import sys
from collections.abc import Generator
from contextlib import closing
from pathlib import Path
from typing import Any

import click

from minit2i.coursework import commands


class Group(click.Group):
    """Tells a user's mistake in one line instead of a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ValueError as error:
            raise click.ClickException(str(error)) from None
        except KeyboardInterrupt:
            print("\nstopped", file=sys.stderr)
            ctx.exit(130)


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """minit2i: the history of text-to-image, in miniature."""
    for stream in (sys.stdout, sys.stderr):  # a console without × shows a question mark instead
        stream.reconfigure(errors="replace")


def _device(choice: str) -> str:
    """The device to work on. Raises ValueError for one that this machine does not have."""
    import torch

    from . import parallel

    if choice == "auto" or (choice == "cuda" and parallel.started()):
        return parallel.local_device()
    try:
        torch.zeros(1, device=choice).item()
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"no device {choice!r} here ({reason}): use auto or cpu") from None
    return choice


device_option = click.option(
    "--device", default="auto", show_default=True, help="cpu, cuda, cuda:1, …"
)
source_option = click.option(
    "--from",
    "source",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder that `train --out` wrote; default: the course's own checkpoint.",
)


@main.command()
@click.argument("prompt")
@click.option("--system", default="base", show_default=True, help="Which system draws.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="A .png file.")
@click.option("--seed", default=0, show_default=True, help="Picture k has seed + k.")
@click.option("--count", default=1, show_default=True, type=click.IntRange(1, 1024))
@click.option("--guidance", type=float, help="1 is the conditional model; default: the system's.")
@click.option("--steps", type=int, help="Steps of the sampler; default: the system's.")
@source_option
@device_option
def draw(
    prompt: str,
    system: str,
    out: Path,
    seed: int,
    count: int,
    guidance: float | None,
    steps: int | None,
    source: Path | None,
    device: str,
) -> None:
    """Draw PROMPT with a trained system and save it as a picture."""
    from . import systems
    from .checkpoint import write
    from .picture import png

    if out.suffix.lower() != ".png":
        raise ValueError(f"--out must name a .png file, got {out}")
    settings = {"guidance": guidance, "steps": steps}
    settings = {key: value for key, value in settings.items() if value is not None}
    kind = systems.get(system)
    _limit_threads(kind)
    drawer = _load(kind, source, device)
    read, whole = drawer.read(prompt)
    if read < whole:
        print(
            f"only the first {read} of the prompt's {whole} tokens are read: the rest is ignored",
            file=sys.stderr,
        )
    images = drawer.draw([prompt] * count, seed=seed, **settings)
    write(out, png(images))
    told = prompt if len(prompt) <= 100 else f"{prompt[:99]}…"
    print(f"{out}: {count} × {told!r} by {system}, seed {seed}")


@main.command()
@click.argument("name")
@click.option(
    "--out", type=click.Path(path_type=Path), help="Folder for it; default: the course's own."
)
@click.option("--steps", type=int, help="Optimizer steps; default: the recipe's.")
@click.option("--seed", default=0, show_default=True)
@click.option(
    "--data",
    "source",
    type=click.Path(path_type=Path),
    help="Folder of your own captioned pictures, with metadata.jsonl or metadata.csv.",
)
@click.option(
    "--from",
    "begin",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of a checkpoint to begin with; take another --seed than it had.",
)
@click.option("--lr", type=float, help="Peak learning rate; default: the recipe's.")
@click.option("--batch", type=int, help="Samples in each step; default: the recipe's.")
@click.option("--accumulate", type=int, help="Parts into which a batch is cut to save memory.")
@click.option("--precision", help="float32 (default) or bfloat16.")
@click.option("--compile", is_flag=True, help="Translate the model first: minutes, then faster.")
@click.option("--tensorboard", is_flag=True, help="Write the log for TensorBoard too.")
@device_option
def train(
    name: str,
    out: Path | None,
    steps: int | None,
    seed: int,
    source: Path | None,
    begin: Path | None,
    tensorboard: bool,
    device: str,
    **changes: Any,
) -> None:
    """Train the system NAME by its recipe. Stopped and called again, it goes on where it was.
    Under torchrun the processes share each batch."""
    from . import parallel, recipes
    from .checkpoint import SHIPPED

    recipe, chosen = recipes.get(name), _device(device)
    _limit_threads(recipe.system)
    total = recipe.config.steps if steps is None else steps
    if source is not None and out is None:
        raise ValueError("--data needs --out, the folder for your model")
    if begin is not None:
        _check_finished(recipe.system, begin)
    # What was not given is not in the card's command.
    given = None if (device, chosen) == ("auto", "cpu") else chosen
    changes = {k: v for k, v in changes.items() if v is not None and v is not False}
    folder = out or SHIPPED
    before = _stamp(folder, name)
    with parallel.processes(chosen):
        run = recipes.run(
            name,
            out,
            total,
            seed,
            given,
            source=source,
            begin=begin,
            changes=changes,
            tensorboard=tensorboard,
        )
        trained = _follow(run, name, total)
        if parallel.is_main():
            if not trained and _stamp(folder, name) == before:
                print(f"{folder} holds this very run, finished: there is nothing left to do")
            _report(recipe.system.load(folder).card, folder)


def _follow(steps: Generator, name: str, total: int) -> bool:
    """Goes through the steps of a run with a progress bar; whether there were any.

    A first Ctrl-C waits for the end of the step and saves, a second one stops at once.
    """
    from tqdm import tqdm

    from . import parallel

    alone, step = parallel.world() == 1, None
    silent = not parallel.is_main()
    with tqdm(total=total, desc=name, mininterval=0.5, delay=1e-3, disable=silent) as bar:
        try:
            with _Held() as held, closing(steps):
                for step in steps:
                    bar.update(step.index - bar.n)
                    if step.index % 10 == 0:  # to read a figure is to wait for a GPU
                        bar.set_postfix(loss=f"{step.loss:.4f}", refresh=False)
                    if held.asked:
                        break
                    held.wait = alone and step.index < total  # what follows may take minutes
        except KeyboardInterrupt:
            if not alone:
                raise
            bar.close()
            raise click.ClickException(
                "stopped; the same command goes on from the last saved step"
            ) from None
    if step is not None and held.asked:
        raise click.ClickException(
            f"stopped after step {step.index}, which is saved; the same command goes on from there"
        )
    return step is not None


class _Held:
    """Within it Ctrl-C is noted in `asked` where `wait` is set; a second one acts as ever."""

    def __init__(self) -> None:
        self.wait = self.asked = False

    def _note(self, number: int, frame: Any) -> None:
        if not self.wait or self.asked:
            raise KeyboardInterrupt
        self.asked = True
        os.write(2, b"\nstopping after this step; Ctrl-C once more stops at once\n")  # reentrant

    def __enter__(self) -> "_Held":
        self.before = signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(self, *_: Any) -> None:
        signal.signal(signal.SIGINT, self.before)


def _stamp(folder: Path, name: str) -> int | None:
    """When the checkpoint was written, if there is one."""
    file = folder / f"{name}.safetensors"
    return file.stat().st_mtime_ns if file.exists() else None


def _limit_threads(kind: type) -> None:
    """As many threads as suit the system, unless torchrun or the user has said how many."""
    import torch

    from . import parallel

    if not parallel.started() and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(kind.threads)


def _load(kind: type, source: Path | None, device: str) -> Any:
    """The trained system. Raises ValueError where it is missing, and where it is unfinished."""
    from .checkpoint import SHIPPED

    folder = source or SHIPPED
    _check_finished(kind, folder)
    return kind.load(folder, _device(device))


def _check_finished(kind: type, folder: Path) -> None:
    """Raises ValueError for a folder whose training has not come to its end."""
    begun = (folder / f"{kind.name}.run" / "config.json").exists()
    if begun and _stamp(folder, kind.name) is None:
        raise ValueError(
            f"the training of {kind.name} in {folder} is not finished: the same train command "
            "goes on with it, and writes the checkpoint at the end"
        )


@main.command()
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--seed", type=int, help="First seed; default: the seeds of the model card.")
@click.option(
    "--prompts",
    type=click.Path(path_type=Path),
    help="Measure on your own prompts: one of the captioned world's grammar in each line.",
)
@source_option
@device_option
def evaluate(
    name: str,
    as_json: bool,
    seed: int | None,
    prompts: Path | None,
    source: Path | None,
    device: str,
) -> None:
    """Measure the system NAME as its model card does, or on prompts of your own."""
    from . import recipes
    from .checkpoint import SHIPPED
    from .figures import evaluate_prompts

    recipe = recipes.get(name)
    _limit_threads(recipe.system)
    system = _load(recipe.system, source, device)
    if prompts is None and (told := _unjudged(system.card, source or SHIPPED)):
        raise ValueError(f"{told}; --prompts FILE measures scenes of the captioned world")
    chosen = {} if seed is None else {"seed": seed}
    if prompts is not None:
        figures = evaluate_prompts(system, prompts, **chosen)
    else:
        figures = recipe.evaluate(system, **chosen)
    if as_json:
        print(json.dumps(figures, indent=1))
    else:
        _show(figures)


def _report(card: dict[str, Any], folder: Path) -> None:
    """How good a system is that was trained in a folder."""
    if told := _unjudged(card, folder):
        print(told)
    else:
        _show(card["evaluation"])


def _unjudged(card: dict[str, Any], folder: Path) -> str:
    """Why there are no figures for a system, and what to do instead; "" where there are some."""
    from .recipes import FOLDER

    name, data = card["system"], card.get("data", {})
    if not data.get("name", "").startswith(FOLDER):
        return ""
    ask = ["python", "-m", "minit2i", "draw", "WORDS OF YOUR OWN", "--system", name]
    ask = shlex.join([*ask, "--from", str(folder), "--out", "picture.png"])
    cut = f" ({data['captions cut']:,} captions cut)" if data.get("captions cut") else ""
    return (
        f"trained on {data['name']}{cut}: no judge can read such pictures; look at the "
        f"sample sheets in {folder / f'{name}.run' / 'samples'}, or draw with: {ask}"
    )


def _show(figures: list[dict[str, float | str]]) -> None:
    """A table of figures, one row each."""
    if not figures:
        return
    rows = [list(figures[0])]
    rows += [[x if isinstance(x, str) else f"{x:.4g}" for x in row.values()] for row in figures]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [
            x.ljust(w) if k == 0 else x.rjust(w)
            for k, (x, w) in enumerate(zip(row, widths, strict=True))
        ]
        print("  ".join(cells))


@main.command()
@click.argument("name")
@click.option("--resume", is_flag=True, help="Go on with an interrupted measurement.")
@click.option(
    "--out", type=click.Path(path_type=Path), help="Folder for the record; default: the course's."
)
def finding(name: str, resume: bool, out: Path | None) -> None:
    """Measure the finding NAME over all its seeds and record it."""
    import torch
    from tqdm import tqdm

    from . import findings

    torch.set_num_threads(1)  # small networks, and the same arithmetic on every machine
    wanted, folder = findings.get(name), out or findings.FOLDER
    total = len(wanted.arms) * len(wanted.seeds)
    with tqdm(total=total, desc=name, delay=1e-3) as bar:
        try:
            for run in findings.measure(wanted, resume, folder):
                bar.set_postfix_str(f"{run['arm']}, seed {run['seed']}", refresh=False)
                bar.update()
        except KeyboardInterrupt:
            bar.close()
            raise click.ClickException(
                "stopped; --resume goes on from the last whole run"
            ) from None
    for claim in findings.load(name, folder)["claims"]:
        print(
            f"{claim['verdict']:>10}: {claim['text']} "
            f"({claim['mean']:.3g} [{claim['low']:.3g}, {claim['high']:.3g}])"
        )


@main.command()
def doctor() -> None:
    """Check this installation, and say what to do about each fault."""
    from . import doctor as examiner

    raise SystemExit(examiner.report(verbose=True))


for command in (commands.exercises, commands.check, commands.release, commands.grade):
    main.add_command(command)
