"""Scenes to text: one caption of many, with a known law of what is left unsaid."""

from collections.abc import Iterator
from itertools import permutations

import numpy as np

from .scene import Scene, Thing
from .words import AFTER, BEFORE, LISTS, USED, plural

SHARED = 0.7
"""Share of captions that say the same attributes of every thing."""
NAMES = {(True, True): 18, (False, True): 1, (True, False): 1}
"""(colour, shape) said or not, out of 20: never neither."""
VAGUE = {(False, True): 1, (True, False): 1}
"""The same of vague captions: never both."""
SIZE, TEXTURE = 0.8, 0.3
FORMS = {
    1: {"bare": 10, "places": 10},
    2: {"bare": 5, "places": 6, "relation": 9},
    3: {"bare": 5, "places": 7, "relation": 8},
}
ARTICLES = {"a": 16, "": 3, "one": 1}
FRONTED = 0.2
"""Share of places said before their thing, where there are articles and no framing."""
OPPOSITE = {"column": ("left of", "right of"), "row": ("above", "below")}
_DRAWS = 64

Uniform = Iterator[float]
Said = tuple[str | None, ...]
"""Colour, shape, size and texture as said; None where unsaid."""


def _table(weights: dict) -> tuple:
    """Each option as often as its weight says: a uniform index draws it."""
    return tuple(option for option, weight in weights.items() for _ in range(weight))


_BARE_NUMBER = {2: "two", 3: "three"}
_WORDS = {kind: {v: _table(w) for v, w in values.items()} for kind, values in USED.items()}
_ORDERS = {n: tuple(permutations(range(n))) for n in (1, 2, 3)}
_FORMS = {n: _table(weights) for n, weights in FORMS.items()}
_LISTS = {n: _table(weights) for n, weights in LISTS.items()}
_NAMES, _VAGUE = _table(NAMES), _table(VAGUE)
_ARTICLES, _BEFORE, _AFTER = map(_table, (ARTICLES, BEFORE, AFTER))


def _pick(table: tuple, u: Uniform):
    return table[int(next(u) * len(table))]


def caption(
    scene: Scene, rng: np.random.Generator, form: str | None = None, vague: bool = False
) -> str:
    """A true text about the scene that mentions every thing; `form` chooses one of `FORMS`, and
    `vague` captions take `VAGUE` for `NAMES`. Its law, given the scene:

    1. the things are put in an order, all orders alike;
    2. with probability `SHARED` the same attributes are said of all, else each has its own draw:
       colour and shape 0.9, only one of them 0.05 each (an unsaid shape is a "thing"), size 0.8
       and texture 0.3, all independent of their values;
    3. the form, `FORMS`: bare (no place is said), places (all are), or a relation between the first
       two things: columns or rows with probability 1/2 each, said if the two are at opposite ends,
       else all places are said instead;
    4. things alike in all that is said are counted together ("two red circles"), but in relations;
    5. words, articles, order of adjectives and framing are drawn regardless of what is unsaid.

    So nothing depends on unsaid values. Given a caption, a scene with its things matched to the
    phrases has the probability of the scene's own law, restricted to the matched scenes for which
    the caption is true, where "left of" means columns 0 and 2, and "above" rows 0 and 2. Raises
    ValueError for a form that so many things do not have.
    """
    u = iter(rng.random(_DRAWS).tolist())
    n = len(scene.things)
    if form not in (None, *FORMS[n]):
        raise ValueError(f"captions of {n} things are {', '.join(FORMS[n])}, got {form!r}")
    things = [scene.things[k] for k in _pick(_ORDERS[n], u)]
    said = _said(things, u, _VAGUE if vague else _NAMES)
    form = form or _pick(_FORMS[n], u)
    article = _pick(_ARTICLES, u)
    before, after = _pick(_BEFORE, u) if article else "", _pick(_AFTER, u)
    relation = _relation(*things[:2], u) if form == "relation" else None
    if relation:
        text = _related(said, relation, article, u)
    elif form == "bare":
        text = _join([_noun_phrase(key, len(k), article, u) for key, k in _groups(said)], u)
    else:
        fronted = bool(article) and not before and next(u) < FRONTED
        text = _placed(things, said, article, fronted, u)
    return " ".join(part for part in (before, text, after) if part)


def _said(things: list[Thing], u: Uniform, names: tuple) -> list[Said]:
    """What is said of each thing; `names` is a table of (colour, shape) said or not."""
    shared = next(u) < SHARED
    said = []
    for thing in things:
        if not said or not shared:
            colour, shape = _pick(names, u)
            size, texture = next(u) < SIZE, next(u) < TEXTURE
        said.append(
            (
                thing.colour if colour else None,
                thing.shape if shape else None,
                thing.size if size else None,
                thing.texture if texture else None,
            )
        )
    return said


def _groups(said: list[Said]) -> list[tuple[Said, list[int]]]:
    """Which things are alike in all that is said, in the order of their first mention."""
    groups: dict[Said, list[int]] = {}
    for k, key in enumerate(said):
        groups.setdefault(key, []).append(k)
    return list(groups.items())


def _relation(a: Thing, b: Thing, u: Uniform) -> str | None:
    """How a stands to b on an axis drawn blindly; None unless they are at its opposite ends."""
    axis = "column" if next(u) < 0.5 else "row"
    step = getattr(b, axis) - getattr(a, axis)
    return None if abs(step) < 2 else OPPOSITE[axis][step < 0]


def _noun_phrase(key: Said, count: int, article: str, u: Uniform) -> str:
    """ "a small red circle", "two red circles"."""
    colour, shape, size, texture = key
    words = []
    if size:
        words.append(_pick(_WORDS["size"][size], u))
    if texture:
        words.append(_pick(_WORDS["texture"][texture], u))
    if colour:
        words.append(_pick(_WORDS["colour"][colour], u))
        if texture and next(u) < 0.2:  # "a red striped circle"
            words[-2:] = words[:-3:-1]
    noun = _pick(_WORDS["shape"][shape], u)
    if count > 1:
        number = _pick(_WORDS["number"][count], u) if article else _BARE_NUMBER[count]
        return " ".join([number, *words, plural(noun)])
    words.append(noun)
    if article == "a" and words[0][0] in "aeiou":
        article = "an"
    return " ".join([article, *words] if article else words)


def _join(parts: list[str], u: Uniform, comma: bool = False) -> str:
    """A list of parts; `comma` sets them off by commas: there are commas or "and" inside them."""
    if len(parts) == 1:
        return parts[0]
    if comma:
        return ", ".join(parts[:-1]) + ", and " + parts[-1]
    return _pick(_LISTS[len(parts)], u).format(*parts)


def _place(thing: Thing, u: Uniform) -> str:
    return _pick(_WORDS["place"][thing.place], u)


def _placed(things: list[Thing], said: list[Said], article: str, fronted: bool, u: Uniform) -> str:
    """Every thing with its place, after it, or before it where none are counted together."""
    groups = _groups(said)
    fronted = fronted and len(groups) == len(things)
    verb = "is " if article and next(u) < 0.5 else ""
    parts = []
    for key, members in groups:
        phrase = _noun_phrase(key, len(members), article, u)
        places = [_place(things[k], u) for k in members]
        if fronted:
            parts.append(f"{places[0]} {verb}{phrase}")
        elif len(places) == 1:
            parts.append(f"{phrase} {places[0]}")
        elif next(u) < 0.5:
            parts.append(f"{phrase}, one " + " and one ".join(places))
        else:
            parts.append(f"{phrase} " + " and ".join(places))
    return _join(parts, u, comma=len(groups) < len(things))


def _related(said: list[Said], relation: str, article: str, u: Uniform) -> str:
    """The first two things and how they stand, and the third one before or after them."""
    phrases = [_noun_phrase(key, 1, article, u) for key in said]
    if said[0] == said[1] and article == "a" and next(u) < 0.5:
        phrases[1] = "another " + phrases[1].split(" ", 1)[1]
    text = f"{phrases[0]} {_pick(_WORDS['relation'][relation], u)} {phrases[1]}"
    if len(phrases) == 2:
        return text
    return f"{text}, and {phrases[2]}" if next(u) < 0.5 else f"{phrases[2]}, and {text}"
