"""The words of captions and prompts, and how often `caption` uses each.

`USED` gives, per value, the words of captions with weights out of 20. `RARE` words and `HELD_OUT`
phrasings are known to `parse` alone: no caption has them, so a model meets them only if text
without pictures taught it. Both are lists of whole words or phrases, apart by one space.
"""

from functools import cache

from .scene import PLACES

NAMED = ("colour", "shape", "size", "texture")
"""The attributes a phrase can name before or in its noun."""

USED = {
    "colour": {
        "red": {"red": 14, "crimson": 3, "scarlet": 3},
        "green": {"green": 15, "emerald": 5},
        "blue": {"blue": 15, "azure": 5},
        "yellow": {"yellow": 15, "golden": 5},
        "purple": {"purple": 15, "violet": 5},
        "grey": {"grey": 10, "gray": 6, "silver": 4},
    },
    "shape": {
        "circle": {"circle": 14, "disc": 6},
        "square": {"square": 14, "box": 6},
        "triangle": {"triangle": 15, "wedge": 5},
        "cross": {"cross": 14, "plus sign": 6},
        None: {"thing": 8, "shape": 8, "object": 4},
    },
    "size": {
        "small": {"small": 10, "little": 6, "tiny": 4},
        "large": {"large": 10, "big": 6, "huge": 4},
    },
    "texture": {
        "plain": {"plain": 12, "solid": 8},
        "striped": {"striped": 14, "stripy": 6},
        "dotted": {"dotted": 12, "spotted": 8},
    },
    "relation": {
        "left of": {"left of": 10, "to the left of": 10},
        "right of": {"right of": 10, "to the right of": 10},
        "above": {"above": 12, "over": 8},
        "below": {"below": 10, "under": 10},
    },
    "number": {
        1: {"a": 20},
        2: {"two": 14, "a pair of": 6},
        3: {"three": 14, "a group of three": 6},
    },
    "place": {
        "centre": {"in the centre": 5, "in the middle": 6, "at the centre": 5, "in the center": 4},
        "top": {"at the top": 12, "on top": 4, "at the upper edge": 4},
        "bottom": {"at the bottom": 12, "down at the bottom": 4, "at the lower edge": 4},
        "left": {"on the left": 10, "at the left": 5, "on the left side": 5},
        "right": {"on the right": 10, "at the right": 5, "on the right side": 5},
    },
}
for _place in PLACES:
    if " " in _place:
        _row, _side = _place.split()
        _other = {"top": "upper", "bottom": "lower"}[_row]
        USED["place"][_place] = {
            f"at the {_place}": 8,
            f"in the {_place} corner": 5,
            f"in the {_place}": 4,
            f"in the {_other} {_side} corner": 3,
        }

RARE = {
    "colour": {
        "red": ("vermilion", "ruby", "carmine"),
        "green": ("viridian", "jade", "verdant"),
        "blue": ("cobalt", "sapphire", "cerulean"),
        "yellow": ("saffron", "canary", "citrine"),
        "purple": ("mauve", "amethyst", "lilac"),
        "grey": ("ashen", "slate", "leaden"),
    },
    "shape": {
        "circle": ("roundel", "orb"),
        "square": ("quadrate", "tile"),
        "triangle": ("trigon", "delta"),
        "cross": ("rood", "crux"),
        None: ("figure", "item"),
    },
    "size": {
        "small": ("minuscule", "diminutive", "petite"),
        "large": ("gigantic", "colossal", "enormous"),
    },
    "texture": {
        "plain": ("unpatterned", "unadorned"),
        "striped": ("banded", "pinstriped"),
        "dotted": ("speckled", "stippled"),
    },
    "number": {2: ("a couple of", "a duo of"), 3: ("a trio of", "a triad of")},
}

HELD_OUT = {
    "relation": {
        "left of": ("on the left of", "on the left side of", "leftward of"),
        "right of": ("on the right of", "on the right side of", "rightward of"),
        "above": ("higher than", "higher up than", "on the upper side of"),
        "below": ("lower than", "beneath", "underneath"),
    },
    "place": {
        "centre": ("right in the middle", "dead centre"),
        "top": ("at the very top", "up at the top"),
        "bottom": ("at the very bottom", "at the foot"),
        "left": ("on the far left", "at the left edge"),
        "right": ("on the far right", "at the right edge"),
        "top left": ("in the corner at the top left", "in the top left hand corner"),
        "top right": ("in the corner at the top right", "in the top right hand corner"),
        "bottom left": ("in the corner at the bottom left", "in the bottom left hand corner"),
        "bottom right": ("in the corner at the bottom right", "in the bottom right hand corner"),
    },
    "number": {1: ("a single", "exactly one"), 2: ("exactly two",), 3: ("exactly three",)},
    "and": ("together with", "along with", "as well as", "accompanied by"),
    "before": ("draw", "please draw", "show me", "i would like to see", "there is", "there are"),
    "after": ("please", "against a dark ground", "and nothing else"),
    "texture": {
        "plain": ("with no pattern", "without a pattern"),
        "striped": ("with stripes", "covered in stripes"),
        "dotted": ("with dots", "covered in dots"),
    },
}
"""Textures here stand after the noun; fronted relations ("left of a red circle is a blue square"),
"coloured" ("a red coloured circle") and "that is red" need no list."""

BEFORE = {"": 16, "a picture of": 2, "an image of": 1, "a drawing of": 1}
AFTER = {"": 17, "on a dark ground": 1, "on a dark background": 1, "on black": 1}
LISTS = {
    2: {"{} and {}": 14, "{}, {}": 3, "{}, and {}": 3},
    3: {"{}, {} and {}": 12, "{}, {}, and {}": 4, "{} and {} and {}": 4},
}
GLUE = ("a", "an", "the", "one", "another", "and", "is", "are", "that", "coloured", "colored")
"""Words that carry no value but a number."""


def plural(noun: str) -> str:
    """The plural of a noun of the grammar."""
    if noun == "crux":
        return "cruces"
    return noun + ("es" if noun.endswith(("s", "x")) else "s")


def _phrases(source: dict) -> set[str]:
    """All phrases in nested dictionaries and tuples, nouns in both numbers."""
    found = set()
    for kind, values in source.items():
        if not isinstance(values, dict):
            found.update(values)
            continue
        for listed in values.values():
            found.update(listed)
            if kind == "shape":
                found.update(map(plural, listed))
    return found


@cache
def rare_words() -> frozenset[str]:
    """Words that `parse` knows and no caption has."""
    used = {word for phrase in _phrases(USED) for word in phrase.split()} | set(GLUE)
    return frozenset(
        word for phrase in _phrases(RARE) for word in phrase.split() if word not in used
    )


@cache
def vocabulary(rare: bool = False) -> frozenset[str]:
    """Every word that captions have; with `rare` every word that `parse` understands."""
    phrases = _phrases(USED) | set(BEFORE) | set(AFTER) | {"a", "an", "one", "another", "and", "is"}
    if rare:
        phrases |= _phrases(RARE) | _phrases(HELD_OUT) | set(GLUE)
    return frozenset(word for phrase in phrases for word in phrase.split())
