"""What a scene is, which scenes there are, and how often each occurs.

A scene holds one to three things in the cells of a 3×3 grid. Its law, `sample`:

1. one, two or three things with probability 1/4, 1/2, 1/4;
2. cells: uniform over the sets in which any two things stand in opposite rows or opposite columns,
   so nothing touches and the centre holds only a lone thing;
3. with probability 1/4 several things are alike in everything but their cell ("two red circles");
   otherwise each has its own attributes;
4. shape, colour, size and texture are uniform and independent, but three things are all small;
5. a thing's centre is moved from its cell's by -1, 0 or 1 pixels of 64 in each direction, uniform;
6. scenes with a held-out composition (data/held_out.json) are drawn again, from 1.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import combinations
from pathlib import Path

import numpy as np
from jaxtyping import Int

SHAPES = ("circle", "square", "triangle", "cross")
COLOURS = ("red", "green", "blue", "yellow", "purple", "grey")
SIZES = ("small", "large")
TEXTURES = ("plain", "striped", "dotted")
PLACES = (
    "top left", "top", "top right",
    "left", "centre", "right",
    "bottom left", "bottom", "bottom right",
)  # fmt: skip
RELATIONS = ("left of", "right of", "above", "below")
MOST = 3
"""Things in a scene, at most."""
NUMBER_LAW = (0.25, 0.5, 0.25)
ALIKE = 0.25
JITTER = 1
ATTRIBUTES = {"shape": SHAPES, "colour": COLOURS, "size": SIZES, "texture": TEXTURES}


@dataclass(frozen=True)
class Thing:
    """One thing. `texture` is None where it cannot be seen; `jitter` is the shift (right, down) of
    its centre in pixels of 64 and does not count in comparisons."""

    shape: str
    colour: str
    size: str
    texture: str | None
    place: str
    jitter: tuple[int, int] = field(default=(0, 0), compare=False)

    @property
    def row(self) -> int:
        """0 at the top, 2 at the bottom."""
        return PLACES.index(self.place) // 3

    @property
    def column(self) -> int:
        """0 at the left, 2 at the right."""
        return PLACES.index(self.place) % 3


@dataclass(frozen=True)
class Scene:
    """One to three things, kept in the order of their places, so that equal scenes are equal.

    Raises ValueError for another number of things, an unknown attribute, two things that do not
    stand in opposite rows or columns, a large one among three, or a shift beyond ±1.
    """

    things: tuple[Thing, ...]

    def __post_init__(self):
        things = tuple(self.things)
        if not 1 <= len(things) <= MOST:
            raise ValueError(f"a scene has one to three things, got {len(things)}")
        for thing in things:
            _check(thing)
        things = tuple(sorted(things, key=lambda thing: PLACES.index(thing.place)))
        cells = tuple(PLACES.index(thing.place) for thing in things)
        if cells not in placements(len(things)):
            raise ValueError(
                "things must stand in opposite rows or columns, got "
                + " and ".join(thing.place for thing in things)
            )
        if len(things) == MOST and any(thing.size != "small" for thing in things):
            raise ValueError("three things must all be small")
        object.__setattr__(self, "things", things)

    def untextured(self) -> "Scene":
        """The same scene as far as it can be seen below 64 pixels."""
        return Scene(tuple(replace(thing, texture=None) for thing in self.things))


def _check(thing: Thing) -> None:
    allowed = {**ATTRIBUTES, "texture": (*TEXTURES, None), "place": PLACES}
    for name, words in allowed.items():
        if getattr(thing, name) not in words:
            choice = ", ".join(map(str, words))
            raise ValueError(f"unknown {name} {getattr(thing, name)!r}: choose one of {choice}")
    if any(abs(shift) > JITTER for shift in thing.jitter):
        raise ValueError(f"a thing is moved by at most ±{JITTER}, got {thing.jitter}")


@cache
def placements(number: int) -> tuple[tuple[int, ...], ...]:
    """The sets of cells, indices into PLACES in rising order, in which `number` things may stand:
    9 for one, 16 for two, 8 for three."""

    def apart(a: int, b: int) -> bool:
        return abs(a // 3 - b // 3) == 2 or abs(a % 3 - b % 3) == 2

    return tuple(
        cells
        for cells in combinations(range(len(PLACES)), number)
        if all(apart(a, b) for a, b in combinations(cells, 2))
    )


def related(a: Thing, relation: str, b: Thing) -> bool:
    """Whether a stands on that side of b: in an earlier or later column, or row."""
    if relation not in RELATIONS:
        raise ValueError(f"unknown relation {relation!r}: choose one of {', '.join(RELATIONS)}")
    return {
        "left of": a.column < b.column,
        "right of": a.column > b.column,
        "above": a.row < b.row,
        "below": a.row > b.row,
    }[relation]


@cache
def held_out() -> dict[str, list[tuple[str, ...]]]:
    """The compositions of data/held_out.json: `pairs` of attributes of one thing, `relations`."""
    path = Path(__file__).parents[3] / "data" / "held_out.json"
    listed = json.loads(path.read_text(encoding="utf-8"))
    return {kind: [tuple(each) for each in listed[kind]] for kind in ("pairs", "relations")}


def is_held_out(scene: Scene) -> bool:
    """Whether the scene shows a composition that training never does."""
    for a in scene.things:
        has = {a.shape, a.colour, a.size, a.texture}
        if any(has.issuperset(pair) for pair in held_out()["pairs"]):
            return True
        for first, relation, second in held_out()["relations"]:
            if a.shape == first and any(
                b.shape == second and related(a, relation, b) for b in scene.things
            ):
                return True
    return False


def sample(
    rng: np.random.Generator, number: int | None = None, unseen: bool | None = False
) -> Scene:
    """A scene of the law above.

    number   of things; None draws it
    unseen   False leaves held-out compositions out, True asks for at least one, None takes both
    """
    if number is not None and not 1 <= number <= MOST:
        raise ValueError(f"a scene has one to three things, got {number}")
    while True:
        scene = _draw(rng, number)
        if unseen is None or is_held_out(scene) == unseen:
            return scene


_HIGH = np.array([*(len(words) for words in ATTRIBUTES.values()), 2 * JITTER + 1, 2 * JITTER + 1])


def _draw(rng: np.random.Generator, number: int | None) -> Scene:
    n = number or 1 + int(np.searchsorted(np.cumsum(NUMBER_LAW), rng.random(), side="right"))
    alike = n > 1 and rng.random() < ALIKE
    cells = placements(n)[rng.integers(len(placements(n)))]
    codes = rng.integers(_HIGH, size=(n, len(_HIGH))).tolist()
    things = []
    for cell, own in zip(cells, codes, strict=True):
        shape, colour, size, texture = codes[0][:4] if alike else own[:4]
        thing = Thing(
            SHAPES[shape],
            COLOURS[colour],
            SIZES[0 if n == MOST else size],
            TEXTURES[texture],
            PLACES[cell],
            (own[4] - JITTER, own[5] - JITTER),
        )
        things.append(thing)
    return Scene(tuple(things))


def encode(scenes: Sequence[Scene]) -> Int[np.ndarray, "n 3 7"]:
    """Scenes as numbers: per thing shape, colour, size, texture, place as indices into their lists
    (a texture of None is plain), and the shift; all -1 where there is no thing."""
    codes = np.full((len(scenes), MOST, 7), -1, dtype=np.int64)
    for row, scene in zip(codes, scenes, strict=True):
        for k, thing in enumerate(scene.things):
            row[k] = (
                SHAPES.index(thing.shape),
                COLOURS.index(thing.colour),
                SIZES.index(thing.size),
                TEXTURES.index(thing.texture or "plain"),
                PLACES.index(thing.place),
                *thing.jitter,
            )
    return codes
