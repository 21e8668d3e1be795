"""How `base` fails: what its wrong pictures show, and how noisy the pictures are that it spoils.

The second table is a relay: the ideal denoiser of the captioned world (`worlds/scenes/ideal.py`)
takes the steps from T down to a time, and the network takes over. It asks how much goes wrong where
all has gone right so far.

    python -m tests.bench.failures [--asked 400]
"""

from collections import Counter
from itertools import permutations

import click
import torch
from torch import Tensor

from minit2i import benchmark, sample
from minit2i.evaluate import proportion
from minit2i.systems.base import Base
from minit2i.worlds.scenes import Verdict, ideal, satisfies
from minit2i.worlds.scenes.demands import Demand, Wanted
from minit2i.worlds.scenes.scene import Thing

RIGHT, UNREADABLE, NUMBER = "right", "unreadable", "another number of things"
TWICE, PLACE, OTHER = "one thing twice, another missing", "things right, places wrong", "other"
KINDS = (RIGHT, UNREADABLE, NUMBER, TWICE, PLACE, OTHER)
SEED, BATCH = 300_000, 100
HANDOVERS = (1000, 700, 500, 300, 100)
"""Times at which the network takes over; at 1000 it draws alone."""


def kind(demand: Demand, verdict: Verdict) -> str:
    """In which of `KINDS` a picture falls."""
    if verdict.exact:
        return RIGHT
    if not verdict.valid:
        return UNREADABLE
    if not verdict.outcomes["number"]:
        return NUMBER
    found = OTHER
    for match in permutations(verdict.scene.things):
        pairs = zip(demand.things, match, strict=True)
        strange = [thing for wanted, thing in pairs if not _looks(wanted, thing)]
        if not strange:
            return PLACE
        if len(strange) == 1 and any(_looks(wanted, strange[0]) for wanted in demand.things):
            found = TWICE
    return found


def _looks(wanted: Wanted, thing: Thing) -> bool:
    return all(wanted.met(name, thing) for name in ("shape", "colour", "size"))


def relay(system: Base, asked: list[benchmark.Prompt], at: int, seed: int) -> Tensor:
    """Drawn with 25 ancestral steps: by the ideal denoiser above t = `at`, by the system, guided as
    in its `draw`, from there on."""
    schedule = system.model.schedule
    network = system.denoiser([prompt.text for prompt in asked], 2.0)
    perfect = ideal.denoiser([prompt.ways[0] for prompt in asked], schedule, system.side)

    def denoise(x: Tensor, t: Tensor) -> Tensor:
        return perfect(x, t) if int(t[0]) > at else network(x, t)

    noises = sample.seeds(seed, len(asked))
    start = sample.start((len(asked), 3, system.side, system.side), noises)
    return sample.last(sample.ddim(denoise, start, schedule, 25, eta=1.0, generator=noises))


@click.command()
@click.option("--asked", default=400, show_default=True, help="Prompts of each number of things.")
def main(asked: int) -> None:
    torch.set_num_threads(1)
    system = Base.load()
    print(f"| | {' | '.join(KINDS)} |\n|---|{'---|' * len(KINDS)}")
    for number, name in benchmark.NUMBERS.items():
        kinds: Counter[str] = Counter()
        prompts = benchmark.fresh(asked, number, seed=5)
        for k in range(0, asked, BATCH):
            some = prompts[k : k + BATCH]
            texts, ways = [p.text for p in some], [p.ways for p in some]
            verdicts = satisfies(system.draw(texts, seed=SEED + k), texts, ways)
            kinds.update(kind(p.ways[0], v) for p, v in zip(some, verdicts, strict=True))
        print(f"| {name} | {' | '.join(str(kinds[each]) for each in KINDS)} |", flush=True)
    print(f"\n| the network from t = | {' | '.join(map(str, HANDOVERS))} |")
    print(f"|---|{'---|' * len(HANDOVERS)}")
    for number, name in benchmark.NUMBERS.items():
        prompts, cells = benchmark.fresh(asked, number, seed=5), []
        for at in HANDOVERS:
            right: list[bool] = []
            for k in range(0, asked, BATCH):
                some = prompts[k : k + BATCH]
                texts, ways = [p.text for p in some], [p.ways for p in some]
                drawn = relay(system, some, at, SEED + k)
                right += [v.exact for v in satisfies(drawn, texts, ways)]
            share = proportion(torch.tensor(right))
            cells.append(f"{100 * share.mean:.1f} [{100 * share.low:.1f}, {100 * share.high:.1f}]")
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
