"""The command line: the same verbs for every system.

    python -m minit2i draw seven --system digits --out seven.png --count 16
    python -m minit2i train digits
    python -m minit2i evaluate digits
    python -m minit2i finding families --resume
    python -m minit2i doctor
    python -m minit2i check notebooks/01_forward_diffusion.ipynb     and exercises, release, grade

Heavy imports wait until a command needs them, so that help and a wrong word answer at once.
"""

import json
import sys
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

    if choice == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
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
    type=click.Path(path_type=Path),
    help="Folder that `train --out` wrote; default: the course's own checkpoint.",
)


@main.command()
@click.argument("prompt")
@click.option("--system", required=True, help="Which system draws: digits.")
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
    import torch

    from . import systems
    from .checkpoint import SHIPPED, write

    if out.suffix.lower() != ".png":
        raise ValueError(f"--out must name a .png file, got {out}")
    settings = {"guidance": guidance, "steps": steps}
    settings = {key: value for key, value in settings.items() if value is not None}
    kind = systems.get(system)
    torch.set_num_threads(kind.threads)
    drawer = kind.load(source or SHIPPED, _device(device))
    images = drawer.draw([prompt] * count, seed=seed, **settings)
    write(out, png(images.cpu()))
    print(f"{out}: {count} × {prompt!r} by {system}, seed {seed}")


def png(images, side: int = 96) -> bytes:
    """Pictures (b, 3, h, w) in [-1, 1] as one PNG sheet; pixels are enlarged to squares until a
    picture has at least `side` of them."""
    import io
    import math

    from PIL import Image

    b, _, h, w = images.shape
    zoom, columns = max(1, math.ceil(side / w)), math.ceil(math.sqrt(b))
    pixels = ((images.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()
    gap = max(2, zoom // 3)
    rows = math.ceil(b / columns)
    size = (columns * (w * zoom + gap) + gap, rows * (h * zoom + gap) + gap)
    sheet = Image.new("RGB", size, "white")
    for k in range(b):
        tile = Image.fromarray(pixels[k]).resize((w * zoom, h * zoom), Image.Resampling.NEAREST)
        row, column = divmod(k, columns)
        sheet.paste(tile, (gap + column * (w * zoom + gap), gap + row * (h * zoom + gap)))
    buffer = io.BytesIO()
    sheet.save(buffer, "png")
    return buffer.getvalue()


@main.command()
@click.argument("name")
@click.option(
    "--out", type=click.Path(path_type=Path), help="Folder for it; default: the course's own."
)
@click.option("--steps", type=int, help="Optimizer steps; default: the recipe's.")
@click.option("--seed", default=0, show_default=True)
@device_option
def train(name: str, out: Path | None, steps: int | None, seed: int, device: str) -> None:
    """Train the system NAME by its recipe. Stopped and called again, it goes on where it was."""
    import torch
    from tqdm import tqdm

    from . import recipes
    from .checkpoint import SHIPPED

    recipe = recipes.get(name)
    torch.set_num_threads(recipe.system.threads)
    total = recipe.steps if steps is None else steps
    with tqdm(total=total, desc=name, mininterval=0.5, delay=1e-3) as bar:  # no bar for an error
        try:
            for step in recipe.train(out=out, steps=total, seed=seed, device=_device(device)):
                bar.update(step.index - bar.n)
                bar.set_postfix(loss=f"{step.loss:.4f}", refresh=False)
        except KeyboardInterrupt:
            bar.close()
            raise click.ClickException(
                "stopped; the same command goes on from the last saved step"
            ) from None
    _show(recipe.system.load(out or SHIPPED).card["evaluation"])


@main.command()
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--seed", type=int, help="First seed; default: the seeds of the model card.")
@source_option
@device_option
def evaluate(name: str, as_json: bool, seed: int | None, source: Path | None, device: str) -> None:
    """Measure the system NAME as its model card does, at every guidance scale."""
    import torch

    from . import recipes
    from .checkpoint import SHIPPED

    recipe = recipes.get(name)
    torch.set_num_threads(recipe.system.threads)
    system = recipe.system.load(source or SHIPPED, _device(device))
    figures = recipe.evaluate(system, **({} if seed is None else {"seed": seed}))
    if as_json:
        print(json.dumps(figures, indent=1))
    else:
        _show(figures)


def _show(figures: list[dict[str, float]]) -> None:
    """A table of figures, one row each."""
    columns = list(figures[0])
    print("  ".join(f"{c:>10}" for c in columns))
    for row in figures:
        print("  ".join(f"{row[c]:>10.4g}" for c in columns))


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
