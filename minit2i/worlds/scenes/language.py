"""Text to demands: `parse` is the exact inverse of `caption`, and knows more words than it.

A prompt is framing around a list of groups, "a small red circle", "two blue squares, one at the top
and one on the left", between which stand "and", commas or relations. A relation joins the groups
next to it; one that follows "and" has the subject of the relation before.
"""

import re
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cache
from typing import Any, NamedTuple

from ...text import normalise
from .demands import Demand, Wanted
from .scene import MOST
from .words import AFTER, BEFORE, HELD_OUT, NAMED, RARE, USED, plural, vocabulary

_WORD = re.compile(r"[^\W\d_]+|\d+|\S")
_MANY = {"no", "zero", "four", "five", "six", "seven", "eight", "nine", "ten", "many", "several"}
LONGEST = 1000
"""Characters of a prompt, at most: the longest caption has under 300."""


class Token(NamedTuple):
    """A word or phrase of the prompt: its kind, what it means, and how it reads."""

    kind: str
    value: Any
    text: str


@dataclass
class Group:
    """Things that one phrase names: how many, their constraints, and their places."""

    count: int
    constraints: dict[str, str | None]
    text: str
    places: list[str] = field(default_factory=list)
    one_by_one: bool = False


@cache
def _lexicon() -> dict[tuple[str, ...], tuple[str, Any]]:
    """Phrases to kind and value of their token."""
    found: dict[str, tuple[str, Any]] = {}

    def add(phrase: str, kind: str, value: Any = None) -> None:
        if found.setdefault(phrase, (kind, value)) != (kind, value):
            raise AssertionError(f"{phrase!r} has two meanings")

    for source in (USED, RARE, HELD_OUT):
        for kind, values in source.items():
            if not isinstance(values, dict):
                for phrase in values:
                    add(phrase, kind)
                continue
            for value, phrases in values.items():
                for phrase in phrases:
                    after = source is HELD_OUT and kind == "texture"
                    add(phrase, "texture after" if after else kind, value)
                    if kind == "shape":
                        add(plural(phrase), "plural", value)
    for phrase in filter(None, BEFORE):
        add(phrase, "before")
    for phrase in filter(None, AFTER):
        add(phrase, "after")
    for word, value in {"an": 1, "the": 1, "one": 1, "another": 1, "1": 1, "2": 2, "3": 3}.items():
        add(word, "number", value)
    add("three", "number", 3)
    for word, kind in {",": ",", ";": ",", "and": "and", "is": "is", "are": "is"}.items():
        add(word, kind)
    add("that", "that")
    for word in ("coloured", "colored"):
        add(word, "coloured")
    return {tuple(phrase.split()): meaning for phrase, meaning in found.items()}


def tokens(prompt: str) -> list[Token]:
    """The prompt's words and phrases, the longest first. Raises ValueError for a word that the
    grammar does not have."""
    if not prompt.strip():
        raise ValueError("the prompt is empty: say what to draw, such as 'a small red circle'")
    if len(prompt) > LONGEST:
        raise ValueError(f"the prompt has {len(prompt):,} characters, at most {LONGEST:,} are read")
    words = _WORD.findall(normalise(prompt).replace("-", " ").rstrip(" .!?"))
    lexicon = _lexicon()
    longest = max(map(len, lexicon))
    found, k = [], 0
    while k < len(words):
        for length in range(min(longest, len(words) - k), 0, -1):
            phrase = tuple(words[k : k + length])
            if phrase in lexicon:
                found.append(Token(*lexicon[phrase], " ".join(phrase)))
                break
        else:
            raise ValueError(_unknown(words[k]))
        k += length
    if not found:
        raise ValueError("the prompt has no words: say what to draw, such as 'a small red circle'")
    return found


def _unknown(word: str) -> str:
    if word in _MANY or (word.isdecimal()):
        return f"{word!r} is not a number of things that this world shows: it has one to three"
    shown = word if len(word) <= 30 else word[:30] + "…"
    if word in vocabulary(rare=True):
        return f"{shown!r} does not fit where it stands; see 'a small red circle on the left'"
    near = get_close_matches(word, sorted(vocabulary(rare=True)), n=1)
    hint = f"did you mean {near[0]!r}?" if near else "say it as in 'a small red circle on the left'"
    return f"{shown!r} is outside of the grammar here; {hint}"


def parse(prompt: str) -> Demand:
    """What the prompt demands: the scenes for which it is true.

    Raises ValueError for text outside of the grammar, for a contradiction ("a red blue circle"),
    and for what no scene can show ("three large circles").
    """
    groups, links = _Reader(tokens(prompt)).sentence()
    total = sum(group.count for group in groups)
    if total > MOST:
        raise ValueError(f"the prompt names {total} things: this world shows one to three")
    things: list[Wanted] = []
    members: list[range] = []
    for group in groups:
        members.append(range(len(things), len(things) + group.count))
        places = [*_places(group), *[None] * group.count][: group.count]
        things += [Wanted(**group.constraints, place=place) for place in places]
    relations = tuple(
        (i, relation, j) for a, relation, b in links for i in members[a] for j in members[b]
    )
    demand = Demand(tuple(things), relations)
    if not demand.possible():
        raise ValueError(
            f"no scene shows {prompt.strip()[:80]!r}, a contradiction here: three things are all "
            "small, two stand in opposite rows or columns, and only a lone thing is in the centre"
        )
    return demand


def _places(group: Group) -> list[str]:
    many = len(group.places)
    if many > group.count or (0 < many < group.count and not group.one_by_one):
        raise ValueError(
            f"{group.text!r} has {many} places for {group.count}: a thing stands in one place, "
            "and every thing needs its own"
        )
    return group.places


class _Reader:
    """Recursive descent over the tokens of a prompt."""

    def __init__(self, tokens: list[Token]):
        self.tokens, self.at = tokens, 0
        self.groups: list[Group] = []
        self.links: list[tuple[int, str, int]] = []

    def peek(self, ahead: int = 0) -> str:
        """The kind of a token to come; "end" after the last."""
        k = self.at + ahead
        return self.tokens[k].kind if k < len(self.tokens) else "end"

    def take(self, *kinds: str) -> Token | None:
        """The next token, if it is of one of these kinds."""
        if self.peek() in kinds:
            self.at += 1
            return self.tokens[self.at - 1]
        return None

    def fail(self, wanted: str) -> ValueError:
        """An error that says where reading stopped."""
        rest = " ".join(token.text for token in self.tokens[self.at : self.at + 4]) or "the end"
        return ValueError(f"cannot read the prompt at {rest!r}: expected {wanted}")

    def sentence(self) -> tuple[list[Group], list[tuple[int, str, int]]]:
        """The whole prompt: its groups, and relations between them by index."""
        while self.take("before"):
            pass
        self.item()
        while self.separator():
            self.item()
        while self.take("after"):
            pass
        if self.peek() != "end":
            raise self.fail("'and', a comma, a relation or the end")
        return self.groups, self.links

    def separator(self) -> bool:
        """Whether "and", a comma or both were there."""
        comma = self.take(",")
        return bool(self.take("and") or comma)

    def item(self) -> None:
        """A member of the list: a group with what follows it, or more about the one before."""
        if self.links and self.peek(1) == "relation":  # "and is above a cross"
            self.take("is")
        if self.peek() == "relation":
            self.relation_first()
        elif self.peek() == "number" and self.peek(1) == "place":
            self.one_place()
        elif self.peek() == "place" and not self.starts_group(1):
            self.group_before().places.append(self.take("place").value)
        else:
            self.clause()

    def starts_group(self, ahead: int) -> bool:
        """Whether the tokens after a place begin a phrase: "at the top (is) a red circle"."""
        ahead += self.peek(ahead) == "is"
        if self.peek(ahead) == "number":
            return self.peek(ahead + 1) != "place"
        return self.peek(ahead) in (*NAMED, "plural")

    def group_before(self) -> Group:
        """The group that a place without a thing belongs to."""
        if not self.groups:
            raise self.fail("a thing")
        return self.groups[-1]

    def one_place(self) -> None:
        """ "one at the top" of a counted group."""
        group = self.group_before()
        if self.take("number").value != 1 or group.count == 1:
            raise self.fail("'one' and a place, after two or three things")
        group.one_by_one = True
        group.places.append(self.take("place").value)

    def relation_first(self) -> None:
        """ "left of a circle is a square", or "and above a cross" after another relation."""
        relation = self.take("relation").value
        other = self.group()
        if self.take("is"):
            self.links.append((self.group(), relation, other))
        elif self.links:
            self.links.append((self.links[-1][0], relation, other))
        else:
            raise self.fail("'is' and what stands there")

    def clause(self) -> None:
        """A group, and the relation to another if one follows."""
        subject = self.group()
        verb = self.take("is")
        if relation := self.take("relation"):
            self.links.append((subject, relation.value, self.group()))
        elif verb and (place := self.take("place")):
            self.groups[subject].places.append(place.value)
        elif verb:
            raise self.fail("a relation or a place")

    def group(self) -> int:
        """Reads a group and gives its index: place? number? adjectives noun description*."""
        begin = self.at
        places = []
        if place := self.take("place"):
            places.append(place.value)
            self.take("is")
        number = self.take("number")
        constraints: dict[str, str | None] = {}
        noun = None
        while token := self.take(*NAMED, "plural", "coloured"):
            if token.kind in ("shape", "plural"):
                noun = token
            if token.kind != "coloured":
                self.constrain(constraints, token)
        if noun is None:
            raise self.fail("a thing, such as 'circle' or 'thing'")
        while self.peek() in ("that", "texture after"):
            self.take("that")
            self.take("is")
            described = self.take(*NAMED, "texture after")
            if described is None:
                raise self.fail("a colour, size or texture")
            self.constrain(constraints, described)
        while place := self.take("place"):
            places.append(place.value)
        text = " ".join(token.text for token in self.tokens[begin : self.at])
        self.groups.append(Group(_count(number, noun, text), constraints, text, places))
        return len(self.groups) - 1

    def constrain(self, constraints: dict[str, str | None], token: Token) -> None:
        """Adds what a word says. Raises ValueError if another word said otherwise."""
        kind = {"plural": "shape", "texture after": "texture"}.get(token.kind, token.kind)
        before = constraints.get(kind)
        if None not in (before, token.value) and before != token.value:
            raise ValueError(
                f"a contradiction: one thing cannot be both {before} and {token.value}; "
                "join two things by 'and', or leave one word out"
            )
        constraints[kind] = token.value or before


def _count(number: Token | None, noun: Token, text: str) -> int:
    """How many things a phrase names."""
    count = number.value if number else 1
    if (noun.kind == "plural") != (count > 1):
        if number is None:
            raise ValueError(f"how many are {text!r}? Say 'two' or 'three'")
        raise ValueError(f"{text!r}: {number.text!r} does not go with {noun.text!r}")
    return count
