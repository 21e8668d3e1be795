"""MiniDrawBench: does a system draw what prompts say, and all the ways that they leave open?

260 prompts, 20 in each of 13 categories after DrawBench (Saharia et al. 2022), with the ways to be
right as data (data/benchmark/README.md); each is drawn eight times. `fresh` prompts measure too;
`development` prompts are for choosing guidance, steps and the like. No text is in two of these, or
in training (`worlds.scenes.splits`).
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from .evaluate import Interval, bootstrap, proportion
from .worlds.scenes import Demand, Scene, Verdict, caption, parse, sample, satisfies
from .worlds.scenes.demands import PREDICATES
from .worlds.scenes.law import FIELDS, VALUES, given
from .worlds.scenes.renderer import FULL, SIDES
from .worlds.scenes.splits import MINIDRAWBENCH, part

CATEGORIES = (
    "colour", "shape", "size", "texture", "counting", "position", "relation", "binding",
    "unseen", "rare", "misspelling", "long", "conflicting",
)  # fmt: skip
NUMBERS = {1: "one thing", 2: "two things", 3: "three things"}
_STREAMS = {"development": 0x64657631, "fresh": 0x66726531}
"""First words of random streams, so large that no training seed is among them."""
_BARREN = 20_000
"""Scenes drawn without finding another prompt after which there is none."""

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
    return load(MINIDRAWBENCH)


def load(path: Path | str, side: int = FULL) -> tuple[Prompt, ...]:
    """Prompts of a file: JSON like data/benchmark/prompts.json, where `ways` may be missing if the
    text is of the grammar; or text with a prompt of the grammar in each line.

    side   of the pictures to be judged: below 64 pixels prompts about texture alone are refused

    Raises ValueError, with the number of the prompt, for anything else and for what no scene shows.
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
            if not isinstance(listed, list):
                raise TypeError("prompts is not a list")
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(f"{path} is not a list of prompts in JSON: {error!r}") from None
    found = []
    for number, entry in enumerate(listed, start=1):
        try:
            found.append(_prompt(entry, side))
        except ValueError as error:
            raise ValueError(f"prompt {number} of {path}: {error}") from None
    if not found:
        raise ValueError(f"{path} has no prompts: write one per line, 'a small red circle'")
    return tuple(found)


_FIELDS = {
    "prompt": (str, "a text"),
    "category": (str, "a text"),
    "ways": (list, "a list of demands"),
    "reads": (list, "a list of texts"),
    "pair": (int, "a number"),
}


def _prompt(entry: Any, side: int) -> Prompt:
    if not isinstance(entry, dict) or "prompt" not in entry:
        raise ValueError(f'need {{"prompt": "a red circle"}}, got {entry!r}')
    for name, (kind, words) in _FIELDS.items():
        if name in entry and not isinstance(entry[name], kind):
            raise ValueError(f"{name} must be {words}, got {entry[name]!r}")
    text, reads = entry["prompt"], tuple(entry.get("reads", ()))
    if not all(isinstance(each, str) for each in reads):
        raise ValueError(f"reads must be a list of texts, got {list(reads)!r}")
    ways = tuple(map(Demand.from_json, entry["ways"])) if "ways" in entry else (parse(text),)
    if not ways:
        raise ValueError("it has no way to be right")
    for way in ways:
        if not way.possible():
            raise ValueError(f"{text!r} cannot be right: no scene of this world shows it")
    prompt = Prompt(entry.get("category", "prompts"), text, ways, entry.get("pair"), reads)
    if side < FULL and not _visible(prompt):
        raise ValueError(
            f"{text!r} is about texture alone, which pictures of {side} pixels cannot show: "
            "say a colour, shape, size or place too, or leave it out"
        )
    return prompt


def _visible(prompt: Prompt) -> bool:
    """Whether more is asked than texture, below 64 pixels: whatever demands texture and neither
    another attribute nor a relation asks for a number of things at most."""
    rest = [way.untextured() for way in prompt.ways]
    bare = any(
        less != way and not less.relations and not any(w.said() for w in less.things)
        for way, less in zip(prompt.ways, rest, strict=True)
    )
    return prompt.category != "texture" and not bare


def fresh(
    n: int,
    things: int,
    seed: int = 0,
    unseen: bool = False,
    side: int = 16,
    wanted: Callable[[Prompt], Any] | None = None,
) -> list[Prompt]:
    """n different prompts of the grammar about so many things, for measuring.

    unseen   True: such that only a held-out composition is right; False: as training's captions are
    side     of the pictures to be judged: below 64 pixels texture holds nothing out, "a dotted
             cross" is as right as any cross
    wanted   leaves out prompts of which it is not true

    Raises ValueError where so many are not found.
    """
    return _drawn("fresh", n, things, seed, unseen, side, wanted)


def development(n: int, seed: int = 0) -> list[Prompt]:
    """n different prompts of the grammar for choosing guidance and the like: one, two and three
    things as often as in the world. None is ever among `fresh` ones or MiniDrawBench's."""
    return _drawn("development", n, None, seed)


def _drawn(
    stream: str,
    n: int,
    things: int | None,
    seed: int,
    unseen: bool = False,
    side: int = 16,
    wanted: Callable[[Prompt], Any] | None = None,
) -> list[Prompt]:
    if n < 1 or seed < 0:
        raise ValueError(f"need at least one prompt and a seed from 0, got {n} and {seed}")
    if side not in SIDES:
        raise ValueError(f"side must be one of {', '.join(map(str, SIDES))}, got {side}")
    rng = np.random.default_rng([_STREAMS[stream], seed, things or 0, unseen])
    found: dict[str, Prompt] = {}
    barren = 0
    while len(found) < n:
        scene = sample(rng, things, unseen)
        text = caption(scene, rng)
        prompt = None if part(text) != stream or text in found else _asked(scene, text)
        if prompt and unseen:
            (demand,) = prompt.ways
            visible = demand if side >= FULL else demand.untextured()
            prompt = None if visible.possible(unseen=False) else prompt
        if prompt and (wanted is None or wanted(prompt)):
            found[text], barren = prompt, 0
        barren += 1
        if barren > _BARREN:
            raise ValueError(f"{n:,} such prompts were not found; ask for {len(found):,} at most")
    return list(found.values())


def _asked(scene: Scene, text: str) -> Prompt:
    return Prompt(NUMBERS[len(scene.things)], text, (parse(text),))


# --- Accuracy ---


@dataclass(frozen=True)
class Score:
    """What `score` measured, with 95 % intervals over prompts (`over_prompts`), one training seed.

    exact        share of right pictures over all scored prompts
    categories   the same per category; None where it is not scored (texture below 64 pixels)
    predicates   share of pictures that meet a predicate, over the prompts that demand it
    valid        share of pictures that could be read
    side         of the pictures as judged
    draws        pictures per prompt
    demanded     how many prompts demand a predicate
    """

    exact: Interval
    categories: dict[str, Interval | None]
    predicates: dict[str, Interval]
    valid: Interval
    side: int
    draws: int
    demanded: dict[str, int]

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
    progress: bool | None = False,
) -> Score:
    """Draws every prompt `draws` times and judges all pictures.

    asked      MiniDrawBench's prompts if None
    side       pictures are averaged down to it before they are judged: 16 compares systems of
               different sizes; None judges what is drawn
    seed       of the first call of `draw`; each call gets the next one
    progress   shows a bar; None does where standard error is a terminal
    """
    asked = prompts() if asked is None else tuple(asked)
    if not asked or draws < 1:
        raise ValueError(f"need at least one prompt and one draw, got {len(asked)} and {draws}")
    verdicts: list[list[Verdict]] = [[] for _ in asked]
    texts = [prompt.text for prompt in asked] * draws
    for rows, images in _pictures(draw, texts, seed, batch, progress):
        images = reduced(images, side)
        if images.shape[-1] < FULL and all(prompt.category == "texture" for prompt in asked):
            raise ValueError(
                f"texture is scored at {FULL} pixels only, these pictures have {images.shape[-1]}"
            )
        which = [k % len(asked) for k in rows]
        own, ways = zip(*((asked[k].text, asked[k].ways) for k in which), strict=True)
        for k, verdict in zip(which, satisfies(images, own, ways), strict=True):
            verdicts[k].append(verdict)
    return _summary(asked, verdicts, images.shape[-1])


def _pictures(
    draw: Draw, texts: Sequence[str], seed: int, batch: int, progress: bool | None = False
) -> Iterator[tuple[range, Float[Tensor, "b 3 h w"]]]:
    """Indices of texts and their pictures, a batch at a time."""
    silent = None if progress is None else not progress
    with tqdm(total=len(texts), unit="picture", leave=False, delay=1, disable=silent) as bar:
        for call, begin in enumerate(range(0, len(texts), batch)):
            rows = range(begin, min(begin + batch, len(texts)))
            images = draw([texts[k] for k in rows], seed + call)
            if images.ndim != 4 or len(images) != len(rows) or images.shape[-1] not in SIDES:
                raise ValueError(
                    f"{len(rows)} prompts must give pictures ({len(rows)}, 3, s, s) with a side s "
                    f"of {', '.join(map(str, SIDES))}, got {tuple(images.shape)}"
                )
            yield rows, images
            bar.update(len(rows))


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
    draws = len(verdicts[0])
    rates: dict[str, list[float]] = {}
    met: dict[str, list[float]] = {name: [] for name in PREDICATES if name != "exact"}
    for prompt, each in zip(asked, verdicts, strict=True):
        share = float(np.mean([verdict.exact for verdict in each]))
        rates.setdefault(prompt.category, []).append(share)
        for name, shares in met.items():
            # Ways to be right differ in what they demand: some pictures may have no such outcome.
            outcomes = [v.outcomes[name] for v in each if name in v.outcomes]
            shares += [float(np.mean(outcomes))] if outcomes else []
    scored = [name for name in rates if name != "texture" or side >= FULL]
    return Score(
        exact=over_prompts([rate for name in scored for rate in rates[name]], draws),
        categories={
            name: over_prompts(each, draws) if name in scored else None
            for name, each in rates.items()
        },
        predicates={name: over_prompts(each, draws) for name, each in met.items() if each},
        valid=over_prompts([float(np.mean([v.valid for v in each])) for each in verdicts], draws),
        side=side,
        draws=draws,
        demanded={name: len(each) for name, each in met.items() if each},
    )


def over_prompts(rates: Sequence[float], draws: int) -> Interval:
    """The mean of prompts' shares of right pictures, with a 95 % interval for other such prompts.

    Wilson's where each is drawn once. Else the bootstrap's over prompts with two that are all right
    and two that are all wrong added, as Agresti and Coull (1998) do to come near Wilson's: where
    all shares are alike it still has a width, that of a kind of prompt too rare to be among these.
    A single prompt tells nothing about others: from 0 to 1.
    """
    mean = float(np.mean(rates))
    if len(rates) == 1:
        return Interval(mean, 0.0, 1.0)
    if draws == 1 and set(rates) <= {0.0, 1.0}:
        return proportion(torch.tensor(rates) == 1)
    wide = bootstrap([*rates, 0.0, 0.0, 1.0, 1.0])
    return Interval(mean, min(mean, wide.low), max(mean, wide.high))


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


class TooFewRight(ValueError):
    """Diversity is that of right pictures, and there are none, or of one prompt only."""


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

    Only right pictures count, and of those with textures only the ones whose textures are decided.
    Raises ValueError if a prompt has no law, and `TooFewRight`.
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
            right = [v.scene for v in verdicts if v.exact and v.scene]
            scenes += [s for s in right if side < FULL or all(t.texture for t in s.things)]
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
        raise TooFewRight(
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
