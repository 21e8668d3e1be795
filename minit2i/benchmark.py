"""MiniDrawBench: does a system draw what prompts say, and all the ways that they leave open?

260 prompts, 20 in each of 13 categories after DrawBench (Saharia et al. 2022), with the ways to be
right as data (data/benchmark/README.md); each is drawn eight times. `fresh` prompts measure too;
`development` prompts are for choosing guidance, steps and the like, and are never among the others.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from .evaluate import Interval, bootstrap
from .worlds.scenes import Demand, Scene, Verdict, caption, parse, sample, satisfies
from .worlds.scenes.demands import PREDICATES
from .worlds.scenes.law import FIELDS, VALUES, given
from .worlds.scenes.renderer import FULL, SIDES

FOLDER = Path(__file__).parents[1] / "data" / "benchmark"
CATEGORIES = (
    "colour", "shape", "size", "texture", "counting", "position", "relation", "binding",
    "unseen", "rare", "misspelling", "long", "conflicting",
)  # fmt: skip
NUMBERS = {1: "one thing", 2: "two things", 3: "three things"}
_STREAMS = {"development": 0x64657631, "fresh": 0x66726531}
"""First words of random streams, so large that no training seed is among them."""

Draw = Callable[[list[str], int], Tensor]
"""(prompts, seed) -> a picture per prompt, (b, 3, side, side) in [-1, 1]."""


@dataclass(frozen=True)
class Prompt:
    """A prompt and the demands of which a right picture meets one. Prompts of a balanced swap
    share their `pair`; `reads` says the ways in words where the text is not of the grammar."""

    category: str
    text: str
    ways: tuple[Demand, ...]
    pair: int | None = None
    reads: tuple[str, ...] = ()


@cache
def prompts() -> tuple[Prompt, ...]:
    """MiniDrawBench."""
    return load(FOLDER / "prompts.json")


def load(path: Path | str) -> tuple[Prompt, ...]:
    """Prompts of a file: JSON like data/benchmark/prompts.json, where `ways` may be missing if the
    text is of the grammar; or text with a prompt of the grammar in each line.

    Raises ValueError, with the number of the prompt, for anything else.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")  # Notepad begins a file with a mark
    except (OSError, UnicodeError) as error:
        raise ValueError(f"cannot read prompts from {path}: {error}") from None
    if path.suffix != ".json":
        listed = [{"prompt": line.strip()} for line in text.splitlines() if line.strip()]
    else:
        try:
            listed = json.loads(text)["prompts"]
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(f"{path} is not a list of prompts in JSON: {error!r}") from None
    found = []
    for number, entry in enumerate(listed, start=1):
        try:
            found.append(_prompt(entry))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"prompt {number} of {path}: {error}") from None
    if not found:
        raise ValueError(f"{path} has no prompts: write one per line, 'a small red circle'")
    return tuple(found)


def _prompt(entry: dict[str, Any]) -> Prompt:
    text = entry["prompt"]
    ways = tuple(map(Demand.from_json, entry["ways"])) if "ways" in entry else (parse(text),)
    if not ways:
        raise ValueError("it has no way to be right")
    reads = tuple(entry.get("reads", ()))
    return Prompt(entry.get("category", "prompts"), text, ways, entry.get("pair"), reads)


def fresh(n: int, things: int, seed: int = 0, unseen: bool = False) -> list[Prompt]:
    """n different prompts of the grammar about so many things, for measuring; with `unseen` such
    that only a held-out composition is right, else such as training's captions are."""
    return _drawn("fresh", n, things, seed, unseen)


def development(n: int, seed: int = 0) -> list[Prompt]:
    """n different prompts of the grammar for choosing guidance and the like: one, two and three
    things as often as in the world. None is ever among `fresh` ones or MiniDrawBench's."""
    return _drawn("development", n, None, seed, False)


def _drawn(stream: str, n: int, things: int | None, seed: int, unseen: bool) -> list[Prompt]:
    if n < 1 or seed < 0:
        raise ValueError(f"need at least one prompt and a seed from 0, got {n} and {seed}")
    rng = np.random.default_rng([_STREAMS[stream], seed, things or 0, unseen])
    taken = {prompt.text for prompt in prompts()}
    found: list[Prompt] = []
    for _ in range(1000 * n + 1000):
        if len(found) == n:
            return found
        scene = sample(rng, things, unseen)
        text = caption(scene, rng)
        # Each text belongs to one of the two streams, whatever the seeds.
        if text in taken or hashlib.sha256(text.encode()).digest()[0] % 2 != (stream == "fresh"):
            continue
        demand = parse(text)
        if unseen and demand.possible(unseen=False):
            continue
        taken.add(text)
        found.append(Prompt(NUMBERS[len(scene.things)], text, (demand,)))
    raise ValueError(f"there are fewer than {n:,} such prompts; ask for {len(found):,} at most")


# --- Accuracy ---


@dataclass(frozen=True)
class Score:
    """What `score` measured; intervals are bootstraps over prompts, one training seed.

    exact        share of right pictures over all scored prompts
    categories   the same per category; None where it is not scored (texture below 64 pixels)
    predicates   share of pictures that meet a predicate, among those whose prompt demands it
    valid        share of pictures that could be read
    side         of the pictures as judged
    draws        pictures per prompt
    """

    exact: Interval
    categories: dict[str, Interval | None]
    predicates: dict[str, float]
    valid: float
    side: int
    draws: int

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return asdict(self)


def score(
    draw: Draw,
    asked: Sequence[Prompt] | None = None,
    draws: int = 8,
    side: int | None = None,
    seed: int = 0,
    batch: int = 65,
) -> Score:
    """Draws every prompt `draws` times and judges all pictures.

    asked   MiniDrawBench's prompts if None
    side    pictures are averaged down to it before they are judged: 16 compares systems of
            different sizes; None judges what is drawn
    seed    of the first call of `draw`; each call gets the next one
    """
    asked = prompts() if asked is None else tuple(asked)
    if len(asked) < 2 or draws < 1:
        raise ValueError(f"need at least two prompts and one draw, got {len(asked)} and {draws}")
    verdicts: list[list[Verdict]] = [[] for _ in asked]
    for part, images in _pictures(draw, [prompt.text for prompt in asked] * draws, seed, batch):
        images = reduced(images, side)
        which = [k % len(asked) for k in part]
        texts, ways = zip(*((asked[k].text, asked[k].ways) for k in which), strict=True)
        for k, verdict in zip(which, satisfies(images, texts, ways), strict=True):
            verdicts[k].append(verdict)
    return _summary(asked, verdicts, images.shape[-1])


def _pictures(
    draw: Draw, texts: Sequence[str], seed: int, batch: int
) -> Iterator[tuple[range, Float[Tensor, "b 3 h w"]]]:
    """Indices of texts and their pictures, a batch at a time."""
    for call, begin in enumerate(range(0, len(texts), batch)):
        part = range(begin, min(begin + batch, len(texts)))
        images = draw([texts[k] for k in part], seed + call)
        if images.ndim != 4 or len(images) != len(part) or images.shape[-1] not in SIDES:
            raise ValueError(
                f"{len(part)} prompts must give pictures ({len(part)}, 3, s, s) with a side s of "
                f"{', '.join(map(str, SIDES))}, got {tuple(images.shape)}"
            )
        yield part, images


def reduced(images: Float[Tensor, "b 3 h w"], side: int | None) -> Float[Tensor, "b 3 k k"]:
    """Pictures averaged over blocks to a smaller side. Raises ValueError for a larger one."""
    own = images.shape[-1]
    if side in (None, own):
        return images
    if side not in SIDES or side > own:
        raise ValueError(
            f"pictures of {own} pixels cannot be judged at {side}: choose 16, 32 or 64, no larger"
        )
    return F.avg_pool2d(images, own // side)


def _summary(asked: Sequence[Prompt], verdicts: list[list[Verdict]], side: int) -> Score:
    rates: dict[str, list[float]] = {}
    for prompt, each in zip(asked, verdicts, strict=True):
        share = float(np.mean([verdict.exact for verdict in each]))
        rates.setdefault(prompt.category, []).append(share)
    categories = {
        name: None if name == "texture" and side < FULL else _interval(values)
        for name, values in rates.items()
    }
    scored = [rate for name, values in rates.items() if categories[name] for rate in values]
    if not scored:
        raise ValueError(f"texture is scored at {FULL} pixels only, these pictures have {side}")
    flat = [verdict for each in verdicts for verdict in each]
    met = {
        name: [verdict.outcomes[name] for verdict in flat if name in verdict.outcomes]
        for name in PREDICATES
        if name != "exact"
    }
    return Score(
        exact=_interval(scored),
        categories=categories,
        predicates={name: float(np.mean(each)) for name, each in met.items() if each},
        valid=float(np.mean([verdict.valid for verdict in flat])),
        side=side,
        draws=len(verdicts[0]),
    )


def _interval(rates: list[float]) -> Interval:
    """Over prompts; a single one tells nothing about others: from 0 to 1."""
    return bootstrap(rates) if len(rates) > 1 else Interval(rates[0], 0.0, 1.0)


# --- Diversity ---


@dataclass(frozen=True)
class Diversity:
    """How well the attributes that prompts leave unsaid are covered, over the right pictures.

    entropy          of the unsaid attributes as drawn, over that of the law: 1 is full diversity
    distance         total variation between the two, mean over prompts' unsaid attributes: 0 is
                     the law itself
    perfect_entropy, perfect_distance   the same of a perfect sampler with as many right pictures,
                     with the 95 % range of its results: finite samples lower the one and raise
                     the other, so compare with these and not with 1 and 0
    right            share of pictures that were right and so counted
    prompts, draws   prompts that leave something unsaid, pictures of each
    """

    entropy: Interval
    distance: Interval
    perfect_entropy: Interval
    perfect_distance: Interval
    right: float
    prompts: int
    draws: int

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return asdict(self)


@dataclass
class _Open:
    """What a prompt leaves open: (thing, field) pairs with the law of each, and the joint law."""

    demand: Demand
    codes: np.ndarray
    chance: np.ndarray
    cells: list[tuple[int, int]]
    laws: list[np.ndarray]

    def measures(self, rows: np.ndarray, weights: np.ndarray) -> tuple[float, float]:
        """Entropy ratio and mean total variation of matched scenes (r, things, 5), weighted."""
        entropy = distance = 0.0
        for (thing, column), law in zip(self.cells, self.laws, strict=True):
            drawn = np.bincount(rows[:, thing, column], weights, minlength=len(law))
            drawn = drawn / drawn.sum()
            entropy += _entropy(drawn)
            distance += abs(drawn - law).sum() / 2
        return entropy / sum(map(_entropy, self.laws)), distance / len(self.laws)


def _entropy(p: np.ndarray) -> float:
    p = p[p > 0]
    return float(-(p * np.log(p)).sum())


def diversity(
    draw: Draw,
    asked: Sequence[Prompt],
    draws: int = 64,
    seed: int = 0,
    batch: int = 64,
    replicates: int = 200,
) -> Diversity:
    """Draws each prompt that leaves something open `draws` times, and compares the unsaid colours,
    shapes, sizes, places and (at 64 pixels) textures, each for itself, with their law given the
    prompt, `law.given`: that of training's scenes with this caption.

    asked        prompts of one way to be right; those with nothing open are left out
    replicates   of the perfect sampler

    Only right pictures count. Raises ValueError if a prompt has no law or nothing is right.
    """
    if draws < 1 or any(len(prompt.ways) != 1 for prompt in asked):
        raise ValueError("need at least one draw, and prompts with a single way to be right")
    rng = np.random.default_rng(seed)
    own, perfect, counts = [], [], []
    offset = seed
    for prompt in asked:
        scenes: list[Scene] = []
        side = 0
        for _, images in _pictures(draw, [prompt.text] * draws, offset, batch):
            side = images.shape[-1]
            verdicts = satisfies(images, [prompt.text] * len(images), [prompt.ways] * len(images))
            scenes += [v.scene for v in verdicts if v.exact and v.scene]
            offset += 1
        left = _left_open(prompt.ways[0], side)
        if not left.cells:
            continue
        counts.append(len(scenes))
        if scenes:
            own.append(left.measures(*_matched(left.demand, scenes)))
            rows = rng.choice(len(left.codes), (replicates, len(scenes)), p=left.chance)
            even = np.ones(len(scenes))
            perfect.append([left.measures(left.codes[row], even) for row in rows])
    if len(own) < 2:
        raise ValueError(
            f"{len(own)} prompts leave something open and were drawn right: at least two are needed"
        )
    results = np.array(own)
    entropies, distances = np.array(perfect).mean(0).T
    return Diversity(
        entropy=bootstrap(results[:, 0].tolist()),
        distance=bootstrap(results[:, 1].tolist()),
        perfect_entropy=_range(entropies),
        perfect_distance=_range(distances),
        right=sum(counts) / (len(counts) * draws),
        prompts=len(counts),
        draws=draws,
    )


def _range(values: np.ndarray) -> Interval:
    low, high = np.quantile(values, [0.025, 0.975])
    return Interval(float(values.mean()), float(low), float(high))


def _left_open(demand: Demand, side: int) -> _Open:
    """The unsaid attributes of a demand that its law does not fix, as far as they can be seen."""
    codes, chance = given(demand)
    cells, laws = [], []
    for thing, wanted in enumerate(demand.things):
        for column, name in enumerate(FIELDS):
            if getattr(wanted, name) is not None or (name == "texture" and side < FULL):
                continue
            law = np.bincount(codes[:, thing, column], chance, minlength=len(VALUES[name]))
            if law.max() < 1 - 1e-9:
                cells.append((thing, column))
                laws.append(law)
    return _Open(demand, codes, chance, cells, laws)


def _matched(demand: Demand, scenes: Sequence[Scene]) -> tuple[np.ndarray, np.ndarray]:
    """Codes of right scenes with their things in the demand's order, every way with its share."""
    rows, weights = [], []
    for scene in scenes:
        ways = [match for match in permutations(scene.things) if demand.fits(match)]
        for match in ways:
            rows.append(
                [[VALUES[n].index(getattr(t, n) or VALUES[n][0]) for n in FIELDS] for t in match]
            )
            weights.append(1 / len(ways))
    return np.array(rows), np.array(weights)
