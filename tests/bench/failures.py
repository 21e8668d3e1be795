"""How `base` fails: what its wrong pictures show, and how noisy the pictures are that it spoils.

A relay: the ideal denoiser of the captioned world (`worlds/scenes/ideal.py`) takes the steps down
to a time, and the network, guided, takes over. It asks how much goes wrong where all has gone
right so far.

    python -m tests.bench.failures [--asked 400]
"""

from collections import Counter
from collections.abc import Iterator
from itertools import permutations

import click
import torch
from torch import Tensor

from minit2i import benchmark, sample
from minit2i.evaluate import proportion
from minit2i.systems.base import GUIDANCE, Base
from minit2i.worlds.scenes import Verdict, ideal, satisfies
from minit2i.worlds.scenes.demands import Demand, Wanted
from minit2i.worlds.scenes.scene import Thing

RIGHT, UNREADABLE, NUMBER = "right", "unreadable", "another number of things"
TWICE, PLACE, OTHER = "one thing twice, another missing", "things right, places wrong", "other"
KINDS = (RIGHT, UNREADABLE, NUMBER, TWICE, PLACE, OTHER)
LOOKS = ("shape", "colour", "size")
SEED, BATCH = 300_000, 100
STEPS = 25
HANDOVERS = (1000, 720, 520, 320, 120, 0)
"""Times of the sampler's grid at which the network takes over: from T = 1000 it draws alone, from 0
the ideal denoiser does."""


def kind(demand: Demand, verdict: Verdict) -> str:
    """In which of `KINDS` a picture falls."""
    if verdict.exact:
        return RIGHT
    if not verdict.valid:
        return UNREADABLE
    if not verdict.outcomes["number"]:
        return NUMBER
    found, drawn = OTHER, Counter(map(_look, verdict.scene.things))
    for match in permutations(verdict.scene.things):
        pairs = zip(demand.things, match, strict=True)
        strange = [thing for wanted, thing in pairs if not _looks(wanted, thing)]
        if not strange:
            return PLACE
        if len(strange) == 1 and drawn[_look(strange[0])] > 1:
            found = TWICE
    return found


def _look(thing: Thing) -> tuple[str, ...]:
    return tuple(getattr(thing, name) for name in LOOKS)


def _looks(wanted: Wanted, thing: Thing) -> bool:
    return all(wanted.met(name, thing) for name in LOOKS)


def relays(system: Base, asked: list[benchmark.Prompt], seed: int) -> Iterator[Tensor]:
    """Ancestral steps: by the ideal denoiser above t, by the system from there on, for each t of
    `HANDOVERS`."""
    schedule = system.model.schedule
    network = system.denoiser([prompt.text for prompt in asked], GUIDANCE)
    perfect = ideal.denoiser([prompt.ways[0] for prompt in asked], schedule, system.side)
    for at in HANDOVERS:
        noises = sample.seeds(seed, len(asked))
        start = sample.start((len(asked), 3, system.side, system.side), noises)

        def denoise(x: Tensor, t: Tensor, at: int = at) -> Tensor:
            return perfect(x, t) if int(t[0]) > at else network(x, t)

        walk = sample.ddim(denoise, start, schedule, STEPS, eta=1.0, generator=noises)
        yield sample.last(walk)


@click.command()
@click.option("--asked", default=400, show_default=True, help="Prompts of each number of things.")
def main(asked: int) -> None:
    torch.set_num_threads(1)
    system = Base.load()
    print(f"| | the network from t = | {' | '.join(KINDS)} | right, % |\n|---|{'---|' * 8}")
    for number, name in benchmark.NUMBERS.items():
        prompts = benchmark.fresh(asked, number, seed=5)
        found: dict[int, list[str]] = {at: [] for at in HANDOVERS}
        for k in range(0, asked, BATCH):
            some = prompts[k : k + BATCH]
            texts, ways = [p.text for p in some], [p.ways for p in some]
            for kinds, drawn in zip(found.values(), relays(system, some, SEED + k), strict=True):
                verdicts = satisfies(drawn, texts, ways)
                kinds += [kind(p.ways[0], v) for p, v in zip(some, verdicts, strict=True)]
        for at, kinds in found.items():
            share = proportion(torch.tensor([each == RIGHT for each in kinds]))
            interval = f"{100 * share.mean:.1f} [{100 * share.low:.1f}, {100 * share.high:.1f}]"
            counts = " | ".join(str(kinds.count(each)) for each in KINDS)
            print(f"| {name} | {at} | {counts} | {interval} |", flush=True)


if __name__ == "__main__":
    main()
