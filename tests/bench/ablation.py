"""What each choice of `base` is worth: short trainings in which one of them is taken back.

All arms see the same scenes, batches, steps and prompts; only the named choice differs. Two arms
change the learning rate too, because AdamW does not bear Muon's.

    python -m tests.bench.ablation [--steps 700] [--seeds 1] [--asked 400] [--arm NAME ...]
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
    fresh system, `order` says whether captions of one length share a batch."""

    system: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    change: Callable[[Base], None] = lambda system: None
    order: bool = True


def _plain_mean(system: Base) -> None:
    system.model.weight = None


ARMS = {
    "as it is": Arm(),
    "AdamW at 1e-3, not Muon": Arm(training={"optimizer": "adamw", "lr": 1e-3}),
    "AdamW at 3e-3, not Muon": Arm(training={"optimizer": "adamw"}),
    "uniform times": Arm(system={"times": None}),
    "plain mean of x_0, no weights": Arm(change=_plain_mean),
    "small position embeddings": Arm(system={"text": {"position": 0.02}}),
    "no convolution over tokens": Arm(system={"text": {"reach": 0}}),
    "captions of all lengths in a batch": Arm(order=False),
    "two levels, 4×4 and 2×2": Arm(system={"unet": {"widths": (128, 192), "attention": (0, 1)}}),
    "fold 2, levels 8×8 and 4×4": Arm(system={"unet": {"fold": 2, "widths": (48, 128)}}),
    "two blocks a level": Arm(system={"unet": {"blocks": 2}}),
}


def figures(system: Base, asked: list[benchmark.Prompt]) -> dict[str, torch.Tensor]:
    """Which development prompts are drawn right, by the number of things."""
    right: dict[str, list[bool]] = {name: [] for name in benchmark.NUMBERS.values()}
    for k in range(0, len(asked), 100):
        some = asked[k : k + 100]
        texts = [prompt.text for prompt in some]
        drawn = system.draw(texts, seed=100_000 + k)
        verdicts = satisfies(drawn, texts, [prompt.ways for prompt in some])
        for prompt, verdict in zip(some, verdicts, strict=True):
            right[prompt.category].append(verdict.exact)
    return {name: torch.tensor(each) for name, each in right.items()}


@click.command()
@click.option("--steps", default=700, show_default=True)
@click.option("--seeds", default=1, show_default=True, help="Training seeds, from 0.")
@click.option("--asked", default=400, show_default=True, help="Development prompts.")
@click.option("--threads", default=1, show_default=True)
@click.option("--arm", "chosen", multiple=True, help="Only this one; may be repeated.")
def main(steps: int, seeds: int, asked: int, threads: int, chosen: tuple[str, ...]) -> None:
    torch.set_num_threads(threads)
    prepared = recipes.prepare_base(0, None)
    prompts = benchmark.development(asked)
    print("| | one thing | two things | three things | pictures a second |\n|---|---|---|---|---|")
    for name in chosen or ARMS:
        arm, right, seconds = ARMS[name], [], 0.0
        data = {k: v for k, v in prepared.data.items() if arm.order or k != "order"}
        for seed in range(seeds):
            torch.manual_seed(seed)
            system = Base(**{**prepared.system.config, "text": {}, "unet": {}, **arm.system})
            arm.change(system)
            config = replace(recipes.get("base").config, steps=steps, seed=seed, ema=0.99)
            begun = time.process_time()
            for _ in train(system.model, data, replace(config, **arm.training)):
                pass
            seconds += time.process_time() - begun
            right.append(figures(system, prompts))
        shares = [proportion(torch.cat([each[n] for each in right])) for n in right[0]]
        cells = [f"{100 * s.mean:.0f} % [{100 * s.low:.0f}, {100 * s.high:.0f}]" for s in shares]
        rate = seeds * steps * config.batch / seconds
        print(f"| {name} | {' | '.join(cells)} | {rate:.0f} |", flush=True)


if __name__ == "__main__":
    main()
