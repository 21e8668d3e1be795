"""What a prompt demands of a scene, as data: things with constraints, and how they stand."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import permutations, product
from typing import Any

from .scene import (
    ATTRIBUTES,
    COLOURS,
    MOST,
    PLACES,
    RELATIONS,
    SHAPES,
    SIZES,
    TEXTURES,
    Scene,
    Thing,
    held_out,
    is_held_out,
    placements,
    related,
)

PREDICATES = ("number", "colour", "shape", "size", "texture", "place", "relation", "exact")
_DEFAULT = Thing("circle", "red", "small", "plain", "centre")


@dataclass(frozen=True)
class Wanted:
    """What is demanded of one thing; None where nothing is. Raises ValueError for a value that the
    world does not have."""

    shape: str | None = None
    colour: str | None = None
    size: str | None = None
    texture: str | None = None
    place: str | None = None

    def __post_init__(self):
        for name, values in {**ATTRIBUTES, "place": PLACES}.items():
            value = getattr(self, name)
            if value is not None and value not in values:
                choice = ", ".join(values)
                raise ValueError(f"unknown {name} {value!r}: choose one of {choice}, or None")

    def said(self) -> dict[str, str]:
        """The constraints alone."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    def met(self, name: str, thing: Thing, textures: bool = False) -> bool:
        """Whether a thing has the wanted value, or one that cannot be seen; see `Demand.holds`."""
        value, seen = getattr(self, name), getattr(thing, name)
        return value is None or seen == value or (seen is None and not textures)


@dataclass(frozen=True)
class Demand:
    """Exactly these things, matched one to one, and relations (i, relation, j) between them, by
    index into `things`. Raises ValueError for relations of things that there are not."""

    things: tuple[Wanted, ...]
    relations: tuple[tuple[int, str, int], ...] = ()

    def __post_init__(self):
        object.__setattr__(self, "things", tuple(self.things))
        object.__setattr__(self, "relations", tuple((i, r, j) for i, r, j in self.relations))
        n = len(self.things)
        if not 1 <= n <= MOST:
            raise ValueError(f"a scene has one to three things, the demand {n}")
        for i, relation, j in self.relations:
            if relation not in RELATIONS:
                choice = ", ".join(RELATIONS)
                raise ValueError(f"unknown relation {relation!r}: choose one of {choice}")
            if i == j or not (0 <= i < n and 0 <= j < n):
                raise ValueError(f"{i} {relation} {j} must name two of the {n} things, from 0")

    def holds(self, scene: Scene, textures: bool = False) -> dict[str, bool]:
        """What the scene gets right, by predicate: `number`, those of the others that are demanded
        (texture only where it can be seen), and `exact`, all of it at once. `textures`: it could be
        seen, so that a texture of None is an undecided one, which meets no demand.

        Things are matched to the demand in the way that meets most of it, so that right colours and
        shapes on the wrong things count as wrong. A thing that is missing meets nothing.
        """
        best = max(
            (self._outcomes(match, textures) for match in _matches(len(self.things), scene)),
            key=lambda outcomes: (
                sum(map(sum, outcomes.values())),
                sum(map(all, outcomes.values())),
            ),
        )
        result = {"number": len(scene.things) == len(self.things)}
        result |= {name: all(each) for name, each in best.items() if each}
        return result | {"exact": all(result.values())}

    def ways(self, scene: Scene) -> int:
        """In how many ways the scene's things can be matched to the demand; 0 if it is not met."""
        if len(scene.things) != len(self.things):
            return 0
        return sum(map(self.fits, permutations(scene.things)))

    def fits(self, match: Sequence[Thing]) -> bool:
        """Whether these things, in the order of the demand's, meet all of it."""
        return all(map(all, self._outcomes(match).values()))

    def _outcomes(
        self, match: Sequence[Thing | None], textures: bool = False
    ) -> dict[str, list[bool]]:
        """Per predicate, each constraint met or not, for one matching."""
        visible = [name for name in Wanted.__dataclass_fields__ if name != "texture"]
        if textures or any(thing is not None and thing.texture is not None for thing in match):
            visible.append("texture")
        outcomes: dict[str, list[bool]] = {
            name: [
                thing is not None and wanted.met(name, thing, textures)
                for wanted, thing in zip(self.things, match, strict=True)
                if getattr(wanted, name) is not None
            ]
            for name in visible
        }
        outcomes["relation"] = [
            match[i] is not None and match[j] is not None and related(match[i], relation, match[j])
            for i, relation, j in self.relations
        ]
        return {name: outcomes[name] for name in PREDICATES if name in outcomes}

    def untextured(self) -> "Demand":
        """What of it can be seen below 64 pixels."""
        return replace(self, things=tuple(replace(w, texture=None) for w in self.things))

    def possible(self, unseen: bool | None = None) -> bool:
        """Whether any legal scene meets the demand; with `unseen` False, any without a held-out
        composition, with True, any with one."""
        return any(unseen in (None, is_held_out(scene)) for scene in self._cases(unseen))

    def _cases(self, unseen: bool | None) -> Iterator[Scene]:
        """Scenes that meet the demand: one per layout, and if held-out compositions matter, per
        choice of all attributes of one thing that these can tell apart."""
        for places in self._layouts():
            if unseen is None:
                yield self._filled(places, _DEFAULT)
                continue
            options = [_completions(wanted, len(places) == MOST) for wanted in self.things]
            for kinds in product(*options):
                yield Scene(tuple(Thing(*k, p) for k, p in zip(kinds, places, strict=True)))

    def _layouts(self) -> Iterator[tuple[str, ...]]:
        """Places for the things, in order, that fit the demand and the world."""
        if len(self.things) == MOST and any(wanted.size == "large" for wanted in self.things):
            return
        for cells in placements(len(self.things)):
            for order in permutations(cells):
                places = tuple(PLACES[cell] for cell in order)
                fits = all(w.place in (None, p) for w, p in zip(self.things, places, strict=True))
                if fits and self._stand(places):
                    yield places

    def _stand(self, places: Sequence[str]) -> bool:
        """Whether things at these places have the demanded relations."""
        stand_ins = [replace(_DEFAULT, place=place) for place in places]
        return all(related(stand_ins[i], r, stand_ins[j]) for i, r, j in self.relations)

    def _filled(self, places: Sequence[str], default: Thing) -> Scene:
        """The scene with these places and what is left open as in `default`."""
        return Scene(
            tuple(
                Thing(
                    wanted.shape or default.shape,
                    wanted.colour or default.colour,
                    wanted.size or ("small" if len(places) == MOST else default.size),
                    wanted.texture or default.texture,
                    place,
                )
                for wanted, place in zip(self.things, places, strict=True)
            )
        )

    def example(self, default: Thing | None = None) -> Scene:
        """A scene that meets the demand, with what is left open as in `default`. Raises ValueError
        if there is none."""
        for places in self._layouts():
            return self._filled(places, default or _DEFAULT)
        raise ValueError(f"no scene meets {self.to_json()}")

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return {
            "things": [wanted.said() for wanted in self.things],
            "relations": [list(relation) for relation in self.relations],
        }

    @classmethod
    def from_json(cls, data: Any) -> "Demand":
        """The demand that `to_json` wrote. Raises ValueError for anything else."""
        if not isinstance(data, Mapping):
            raise ValueError(f"not a demand: {data!r}")
        try:
            things = tuple(Wanted(**thing) for thing in data["things"])
            return cls(things, tuple((i, r, j) for i, r, j in data.get("relations", ())))
        except (KeyError, TypeError) as error:
            raise ValueError(f"not a demand: {data!r} ({error})") from None


def _matches(n: int, scene: Scene) -> Iterator[tuple[Thing | None, ...]]:
    """All ways to give n phrases different things of the scene, or None where there are too few."""
    things = (*scene.things, *[None] * (n - len(scene.things)))
    return permutations(things, n)


def _completions(wanted: Wanted, small: bool) -> list[tuple[str, str, str, str]]:
    """Kinds of thing that fit, one per shape and per side of the held-out pairs."""
    sizes = ("small",) if small else SIZES
    free = (SHAPES, COLOURS, sizes, TEXTURES)
    asked = (wanted.shape, wanted.colour, wanted.size, wanted.texture)
    kinds = product(
        *((value,) if value else values for value, values in zip(asked, free, strict=True))
    )
    found = {}
    for kind in kinds:
        paired = any(set(kind).issuperset(pair) for pair in held_out()["pairs"])
        found.setdefault((kind[0], paired), kind)
    return list(found.values())
