"""What each choice of `base` is worth: short trainings in which one of them is changed, and the
shipped checkpoint with other samplers.

All arms see as many pictures of the same scenes (but for the arm that has fewer of them), and have
one seed, the same prompts, and weights averaged over the last hundred steps; only the named choice
differs. AdamW has two arms, with Muon's learning rate and with a usual one. Intervals are over
prompts.

    python -m tests.bench.ablation [--steps 700] [--asked 400] [--arm NAME ...]
    python -m tests.bench.ablation --samplers [--asked 400]
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import click
import torch

from minit2i import benchmark, recipes
from minit2i.evaluate import proportion
from minit2i.systems.base import Base
from minit2i.train import train
from minit2i.worlds.scenes import satisfies


@dataclass(frozen=True)
class Arm:
    """Fields of `Base` and of `TrainConfig` that differ from the recipe's; `change` is made to the
    fresh system; `order`: whether captions of one length share a batch; `further`: whether there
    are more scenes with captions that leave much open than by the world's law."""

    system: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    change: Callable[[Base], None] = lambda system: None
    order: bool = True
    further: bool = True


def _plain_mean(system: Base) -> None:
    system.model.weight = None


ARMS = {
    "as it is": Arm(),
    "AdamW at 1e-3, not Muon": Arm(training={"optimizer": "adamw", "lr": 1e-3}),
    "AdamW at 3e-3, not Muon": Arm(training={"optimizer": "adamw"}),
    "logit-normal times": Arm(system={"times": (0.8, 1.6)}),
    "plain mean of x_0, no weights": Arm(change=_plain_mean),
    "small position embeddings": Arm(system={"text": {"position": 0.02}}),
    "joint attention that is not exclusive": Arm(system={"unet": {"exclusive": False}}),
    "scenes of the world's law alone": Arm(further=False),
    "no convolution over tokens": Arm(system={"text": {"reach": 0}}),
    "captions of all lengths in a batch": Arm(order=False),
    "two levels, 4×4 and 2×2 (three times as large)": Arm(
        system={"unet": {"widths": (128, 192), "attention": (0, 1)}}
    ),
    "fold 2, levels 8×8 and 4×4": Arm(
        system={"unet": {"fold": 2, "widths": (64, 128), "attention": (1,)}}
    ),
    "two blocks a level": Arm(system={"unet": {"blocks": 2}}),
}


SAMPLERS = {
    f"{steps} steps, {'fresh' if eta else 'no'} noise in each, guidance {guidance:g}": {
        "steps": steps,
        "eta": eta,
        "guidance": guidance,
    }
    for guidance in (1.0, 2.0)
    for steps in (25, 50)
    for eta in (0.0, 1.0)
}
HEAD = "| | one thing | two things | three things | pictures a second |\n|---|---|---|---|---|"


def figures(system: Base, asked: list[benchmark.Prompt], **options: Any) -> dict[str, torch.Tensor]:
    """Which development prompts are drawn right, by the number of things."""
    right: dict[str, list[bool]] = {name: [] for name in benchmark.NUMBERS.values()}
    for k in range(0, len(asked), 100):
        some = asked[k : k + 100]
        texts = [prompt.text for prompt in some]
        drawn = system.draw(texts, seed=100_000 + k, **options)
        verdicts = satisfies(drawn, texts, [prompt.ways for prompt in some])
        for prompt, verdict in zip(some, verdicts, strict=True):
            right[prompt.category].append(verdict.exact)
    return {name: torch.tensor(each) for name, each in right.items()}


def report(name: str, right: dict[str, torch.Tensor], rate: float) -> None:
    """Prints a row of the table."""
    shares = map(proportion, right.values())
    cells = [f"{100 * s.mean:.0f} % [{100 * s.low:.0f}, {100 * s.high:.0f}]" for s in shares]
    print(f"| {name} | {' | '.join(cells)} | {rate:.0f} |", flush=True)


def rows(data: dict[str, torch.Tensor], arm: Arm) -> dict[str, torch.Tensor]:
    """The arm's part of the table: those of the world's law come first."""
    n = len(data["x"]) if arm.further else recipes.MIX["law"][0]
    own = {name: column[:n] for name, column in data.items() if name != "order"}
    return {**own, "order": data["order"][data["order"] < n]} if arm.order else own


@click.command()
@click.option("--steps", default=700, show_default=True)
@click.option("--seed", default=0, show_default=True)
@click.option("--asked", default=400, show_default=True, help="Development prompts.")
@click.option("--arm", "chosen", multiple=True, type=click.Choice(list(ARMS)), help="Only these.")
@click.option("--samplers", is_flag=True, help="The shipped checkpoint with other samplers.")
def main(steps: int, seed: int, asked: int, chosen: tuple[str, ...], samplers: bool) -> None:
    torch.set_num_threads(1)  # so that the process's time is the time it takes
    prompts = benchmark.development(asked)
    print(HEAD)
    if samplers:
        system = Base.load()
        for name, options in SAMPLERS.items():
            begun = time.process_time()
            right = figures(system, prompts, **options)
            report(name, right, asked / (time.process_time() - begun))
        return
    prepared = recipes.prepare_base(0, None)
    for name in chosen or ARMS:
        arm = ARMS[name]
        torch.manual_seed(seed)
        system = Base(**{**prepared.system.config, "text": {}, "unet": {}, **arm.system})
        arm.change(system)
        data = rows(prepared.data, arm)
        config = replace(recipes.get("base").config, steps=steps, seed=seed, ema=0.99)
        begun = time.process_time()
        for _ in train(system.model, data, replace(config, **arm.training)):
            pass
        rate = steps * config.batch / (time.process_time() - begun)
        report(name, figures(system, prompts), rate)


if __name__ == "__main__":
    main()
