"""Captions and prompts: parse is the inverse of caption, and what is unsaid has a known law."""

import json
import re
from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
from scipy import stats

from minit2i.text import normalise
from minit2i.worlds.scenes import Demand, Scene, Thing, Wanted, caption, captions, parse, sample
from minit2i.worlds.scenes.law import FIELDS, VALUES, decode, draw, given, table
from minit2i.worlds.scenes.scene import (
    ATTRIBUTES,
    PLACES,
    is_held_out,
    placements,
    related,
)
from minit2i.worlds.scenes.words import (
    BEFORE,
    HELD_OUT,
    RARE,
    USED,
    plural,
    rare_words,
    vocabulary,
)

MANY = 20_000
SAID = ("colour", "shape", "size", "texture")


@pytest.fixture(scope="module")
def told():
    """(scene, caption) pairs of the world's law; every fourth shows something held out."""
    rng = np.random.default_rng(0)
    scenes = [sample(rng, unseen=k % 4 == 0) for k in range(MANY)]
    return [(scene, caption(scene, rng)) for scene in scenes]


@pytest.fixture(scope="module")
def read(told):
    """The same for a fifth of them, with what `parse` makes of the caption."""
    return [(scene, text, parse(text)) for scene, text in told[::5]]


class Witness:
    """What `caption` decided to say, seen from inside: the form of each caption."""

    def __init__(self, monkeypatch):
        self.form = {}
        for name in ("_said", "_placed", "_related"):
            monkeypatch.setattr(captions, name, self.watch(name, getattr(captions, name)))

    def watch(self, name, function):
        def watched(*args):
            result = function(*args)
            self.form[name] = (args, result)
            return result

        return watched

    def tell(self, scene, rng):
        """A caption and, independently of `parse`, the demand that it was meant to state."""
        self.form = {}
        text = caption(scene, rng)
        (things, *_), said = self.form["_said"]
        wanted = [Wanted(**dict(zip(SAID, each, strict=True))) for each in said]
        if "_placed" in self.form:
            wanted = [replace(w, place=t.place) for w, t in zip(wanted, things, strict=True)]
        relations = ()
        if "_related" in self.form:
            relations = ((0, self.form["_related"][0][1], 1),)
        return text, Demand(tuple(wanted), relations)


def same(a, b):
    """Whether two demands are one up to the order of their things."""
    return any(
        tuple(b.things[k] for k in order) == a.things
        and {(order[i], r, order[j]) for i, r, j in a.relations} == set(b.relations)
        for order in permutations(range(len(b.things)))
        if len(a.things) == len(b.things)
    )


def true_of(demand, scene):
    """Written anew: some matching meets every constraint."""
    if len(scene.things) != len(demand.things):
        return False
    return any(
        all(
            value in (None, getattr(thing, name))
            for wanted, thing in zip(demand.things, match, strict=True)
            for name, value in vars(wanted).items()
        )
        and all(related(match[i], r, match[j]) for i, r, j in demand.relations)
        for match in permutations(scene.things)
    )


def changes(scene):
    """All legal scenes with one attribute or place changed, and the scenes with a thing less."""
    for k, thing in enumerate(scene.things):
        rest = scene.things[:k] + scene.things[k + 1 :]
        for name, values in {**ATTRIBUTES, "place": PLACES}.items():
            for value in values:
                if value != getattr(thing, name):
                    try:
                        yield name, Scene((*rest, replace(thing, **{name: value})))
                    except ValueError:
                        pass  # not a legal scene
        if rest:
            yield "number", Scene(rest)


def test_a_caption_says_what_it_was_meant_to_and_parse_reads_just_that(monkeypatch):
    witness, rng = Witness(monkeypatch), np.random.default_rng(1)
    for _ in range(MANY):
        scene = sample(rng, unseen=None)
        text, meant = witness.tell(scene, rng)
        assert same(parse(text), meant), text
        assert true_of(meant, scene), text


def test_captions_are_true_and_become_false_by_a_change_in_what_is_said(read):
    refused = dict.fromkeys((*ATTRIBUTES, "place", "number"), 0)
    accepted = dict(refused)
    for scene, text, demand in read[::8]:
        assert demand.holds(scene)["exact"]
        for name, other in changes(scene):
            right = demand.holds(other)["exact"]
            assert right == true_of(demand, other) == (demand.ways(other) > 0), (text, other)
            accepted[name] += right
            refused[name] += not right
            if name != "number" and name != "place":
                unsaid = all(getattr(wanted, name) is None for wanted in demand.things)
                assert right or not unsaid, (text, other)
                if len(scene.things) == 1:
                    assert right == unsaid, (text, other)
    assert accepted["number"] == 0
    assert all(refused.values()) and all(n for name, n in accepted.items() if name != "number")


def test_a_caption_names_every_thing_by_colour_or_shape(read):
    for scene, text, demand in read:
        assert len(demand.things) == len(scene.things)
        assert all(wanted.colour or wanted.shape for wanted in demand.things), text


def test_left_of_stands_for_opposite_columns_and_above_for_opposite_rows(read):
    found = set()
    for scene, text, demand in read:
        for i, relation, j in demand.relations:
            axis = "column" if relation.endswith("of") else "row"
            assert any(
                all(w.met(n, t) for w, t in zip(demand.things, match, strict=True) for n in SAID)
                and abs(getattr(match[i], axis) - getattr(match[j], axis)) == 2
                and related(match[i], relation, match[j])
                for match in permutations(scene.things)
            ), text
            found.add(relation)
    assert found == set(USED["relation"])


def test_captions_are_many_and_use_every_word_of_theirs_and_no_other(told):
    texts = [text for _, text in told]
    assert len(set(texts)) > 0.9 * MANY
    words = {word for text in texts for word in re.findall(r"\w+", text)}
    assert words == vocabulary()
    assert all(text == normalise(text) for text in texts)


def test_no_caption_has_a_rare_word_or_a_held_out_phrasing(told):
    spoken = "\n".join(f" {text} ".replace(",", " ,") for _, text in told)
    assert not rare_words() & vocabulary()
    assert not rare_words() & set(re.findall(r"\w+", spoken))
    phrases = [
        p
        for v in HELD_OUT.values()
        for w in (v.values() if isinstance(v, dict) else [v])
        for p in w
    ]
    assert len(phrases) > 40
    for phrase in phrases:
        assert f" {phrase} " not in spoken, phrase
    for kind in ("colour", "size", "texture"):
        for value, phrases in RARE[kind].items():
            for phrase in phrases:
                assert set(phrase.split()) <= rare_words(), phrase
                assert getattr(parse(f"a {phrase} thing").things[0], kind) == value


def test_the_shares_of_the_law_are_as_stated(monkeypatch):
    witness, rng = Witness(monkeypatch), np.random.default_rng(2)
    n = 4000
    single = [witness.tell(sample(rng, 1), rng)[1].things[0] for _ in range(n)]
    shares = {
        "colour": 0.95, "shape": 0.95, "size": 0.8, "texture": 0.3, "place": 0.5,
    }  # fmt: skip
    for name, share in shares.items():
        measured = np.mean([getattr(wanted, name) is not None for wanted in single])
        assert abs(measured - share) < 4 * (share * (1 - share) / n) ** 0.5, name
    assert not any(w.colour is None and w.shape is None for w in single)
    forms = [witness.tell(sample(rng, 2), rng)[1] for _ in range(n)]
    bare = np.mean([not d.relations and d.things[0].place is None for d in forms])
    assert abs(bare - 0.25) < 4 * (0.25 * 0.75 / n) ** 0.5


# --- The law of what is unsaid ---


@pytest.mark.parametrize("number", [1, 2, 3])
def test_the_table_is_the_law_that_sample_draws_from(number):
    codes, chance = table(number)
    assert abs(chance.sum() - 1) < 1e-9 and len(codes) == len(chance)
    rng = np.random.default_rng(number)
    scenes = [sample(rng, number) for _ in range(4000)]
    for k, name in enumerate(FIELDS):
        for t in range(number):
            law = np.bincount(codes[:, t, k], chance, minlength=len(VALUES[name]))
            values = [VALUES[name].index(getattr(scene.things[t], name)) for scene in scenes]
            drawn = np.bincount(values, minlength=len(law)) / len(scenes)
            assert (abs(drawn - law) <= 4.5 * np.sqrt(law * (1 - law) / 4000) + 1e-9).all(), name
    if number > 1:
        law = chance[(codes[:, 0, :-1] == codes[:, 1, :-1]).all(1)].sum()
        drawn = np.mean(
            [replace(s.things[0], place="top") == replace(s.things[1], place="top") for s in scenes]
        )
        assert abs(drawn - law) < 4.5 * (law * (1 - law) / 4000) ** 0.5


def test_the_table_holds_every_legal_scene_once_and_knows_the_held_out():
    everything = {decode(code) for code in table(1, None)[0]}
    assert len(everything) == 4 * 6 * 2 * 3 * 9
    assert {s for s in everything if is_held_out(s)} == {decode(c) for c in table(1, True)[0]}
    codes = table(2, None)[0]
    assert len(np.unique(codes.reshape(len(codes), -1), axis=0)) == len(codes) == 16 * 144**2
    rng = np.random.default_rng(0)
    for number, unseen in ((2, False), (2, True), (3, False), (3, True)):
        codes = table(number, unseen)[0]
        for k in rng.integers(len(codes), size=300):
            assert is_held_out(decode(codes[k])) == unseen


def statistics(codes):
    """Features of scenes whose law could betray a captioner that looks at what is unsaid."""
    places = codes[..., -1]
    apart_columns = (np.ptp(places % 3, axis=1) == 2).astype(float)
    apart_rows = (np.ptp(places // 3, axis=1) == 2).astype(float)
    same_kind = (codes[:, 0, :-1] == codes[:, 1, :-1]).all(1).astype(float)
    same_colour = (codes[:, 0, 1] == codes[:, 1, 1]).astype(float)
    plain = (codes[..., 3] == 0).mean(1)
    circles = (codes[..., 0] == 0).mean(1)
    small = (codes[..., 2] == 0).mean(1)
    return np.stack([apart_columns * apart_rows, same_kind, same_colour, plain, circles, small], 1)


def test_given_a_caption_scenes_follow_the_law_restricted_to_what_it_says():
    """Calibration: over many captions, features of the scene behind a caption are on average what
    the stated conditional law expects."""
    rng = np.random.default_rng(3)
    surplus, variance = [], []
    for _ in range(1500):
        scene = sample(rng, 2)
        codes, chance = given(parse(caption(scene, rng)))
        features = statistics(codes)
        mean = chance @ features
        own = [[VALUES[n].index(getattr(t, n)) for n in FIELDS] for t in scene.things]
        surplus.append(statistics(np.array([own]))[0] - mean)
        variance.append(chance @ (features - mean) ** 2)
    z = np.sum(surplus, 0) / np.sqrt(np.sum(variance, 0))
    assert (abs(z) < 4).all(), z


def test_a_captioner_that_looks_would_be_caught(monkeypatch):
    """The same calibration fails for one that rather speaks of textures than of their absence."""
    honest = captions._said

    def looking(things, u, names):
        return [
            (*said, None if texture == "plain" else texture)
            for *said, texture in honest(things, u, names)
        ]

    monkeypatch.setattr(captions, "_said", looking)
    with pytest.raises(AssertionError):
        test_given_a_caption_scenes_follow_the_law_restricted_to_what_it_says()


def places_behind_bare_captions():
    """The p-value of uniform placements behind captions of two things that name no places."""
    rng = np.random.default_rng(4)
    counts = dict.fromkeys(placements(2), 0)
    for _ in range(8000):
        scene = sample(rng, 2, unseen=None)
        demand = parse(caption(scene, rng))
        if not demand.relations and demand.things[0].place is None:
            counts[tuple(PLACES.index(thing.place) for thing in scene.things)] += 1
    return stats.chisquare(list(counts.values())).pvalue


def test_a_caption_without_places_says_nothing_of_them():
    assert places_behind_bare_captions() > 1e-3


def test_a_relation_that_cannot_be_said_must_not_give_way_to_a_bare_caption(monkeypatch):
    def bare(things, said, article, fronted, u):
        groups = captions._groups(said)
        phrases = [captions._noun_phrase(key, len(k), article, u) for key, k in groups]
        return captions._join(phrases, u)

    monkeypatch.setattr(captions, "_placed", bare)
    assert places_behind_bare_captions() < 1e-6


def test_draw_gives_scenes_that_meet_the_demand():
    demand = parse("a red circle above a thing")
    scenes = draw(demand, 200, np.random.default_rng(0))
    assert all(demand.holds(scene)["exact"] and not is_held_out(scene) for scene in scenes)
    assert all({thing.row for thing in scene.things} == {0, 2} for scene in scenes)
    with pytest.raises(ValueError, match="pass unseen=None"):
        given(parse("a purple circle"))


# --- Prompts ---


@pytest.mark.parametrize(
    "prompt, canonical",
    [
        ("A Red CIRCLE.", "a red circle"),
        ("left of a red circle is a blue square", "a blue square left of a red circle"),
        ("a circle that is small and a red square", "a small circle, a red square"),
        ("draw a red-coloured circle with stripes please", "a striped red circle"),
        ("a disc is above a box and is left of a cross", "a disc over a box and left of a cross"),
        ("a pair of roundels", "two discs"),
        ("show me a red circle along with 2 boxes", "a red circle and two squares"),
        ("a minuscule vermilion trigon dead centre", "a small red triangle in the middle"),
        ("a circle on the right of a square", "a circle to the right of a square"),
        ("two orbs; one at the very top; one at the foot", "two discs on top and at the bottom"),
        ("a red red disc", "a red circle"),
        ("a red circle shape", "a red circle"),
    ],
)  # fmt: skip
def test_other_ways_to_say_the_same(prompt, canonical):
    assert same(parse(prompt), parse(canonical))


@pytest.mark.parametrize(
    "prompt, words",
    [
        ("", "empty"),
        (" \n", "empty"),
        (" . ", "no words"),
        ("красный круг", "outside of the grammar"),
        ("赤い丸", "outside of the grammar"),
        ("a\ud800 circle", "outside of the grammar"),
        ("a red circel", "did you mean 'circle'"),
        ("a red blue circle", "contradiction: one thing cannot be both red and blue"),
        ("a square circle", "contradiction: one thing cannot be both square and circle"),
        ("a small circle that is large", "contradiction"),
        ("a plain circle with stripes", "contradiction"),
        ("three large circles", "a contradiction here"),
        ("a circle left of a square, and a cross in the centre", "a contradiction here"),
        ("a circle at the top above a square at the top", "a contradiction here"),
        ("a circle at the top left and a square at the top", "a contradiction here"),
        ("four circles", "one to three"),
        ("17 circles", "one to three"),
        ("three circles and a square", "names 4 things"),
        ("circles", "how many"),
        ("two circle", "does not go with"),
        ("a circles", "does not go with"),
        ("two circles at the top", "places for 2"),
        ("a circle at the top at the left", "places for 1"),
        ("a red", "expected a thing"),
        ("a circle left of", "expected a thing"),
        ("left of a circle", "expected 'is'"),
        ("a circle one on the left", "expected 'and'"),
        ("a circle and one on the left", "expected 'one'"),
        ("at the top", "expected a thing"),
        ("a circle is", "expected a relation"),
        ("a circle of", "does not fit where it stands"),
        ("a circle that is", "expected a colour"),
        ("a " * 5000 + "circle", "10,006 characters"),
    ],
)
def test_what_cannot_be_read_is_refused_with_the_reason(prompt, words):
    with pytest.raises(ValueError, match=words):
        parse(prompt)


def test_no_text_whatever_breaks_parse():
    rng = np.random.default_rng(5)
    words = [*sorted(vocabulary(rare=True)), ",", ".", "\u0301", "\x00", "🟥", "7"]
    for _ in range(5000):
        text = " ".join(rng.choice(words, rng.integers(1, 12)))
        try:
            demand = parse(text)
        except ValueError:
            continue
        assert demand.possible()


def test_the_framing_says_nothing():
    for before in filter(None, BEFORE):
        assert parse(f"{before} a red circle on black") == parse("a red circle")


def test_plurals_are_words_of_the_grammar():
    for nouns in USED["shape"].values():
        assert all(set(plural(noun).split()) <= vocabulary() for noun in nouns)


# --- Demands ---


def test_demands_survive_json(read):
    for _, _, demand in read[:500]:
        assert Demand.from_json(json.loads(json.dumps(demand.to_json()))) == demand
        hash(demand)


@pytest.mark.parametrize(
    "data",
    [{}, {"things": [{"hue": "red"}]}, {"things": []}, {"things": [{"colour": "pink"}]},
     {"things": [{}], "relations": [[0, "left of", 1]]}, {"things": 3},
     {"things": [{}, {}], "relations": [[0, "near", 1]]}, {"things": [{}, {}], "relations": [[0]]}],
)  # fmt: skip
def test_what_is_no_demand_is_refused(data):
    with pytest.raises(ValueError):
        Demand.from_json(data)


def test_right_parts_on_the_wrong_things_are_wrong():
    demand = parse("a red circle left of a blue square")
    red, blue = (Thing(s, c, "small", "plain", p) for s, c, p in
                 (("square", "red", "left"), ("circle", "blue", "right")))  # fmt: skip
    outcomes = demand.holds(Scene((red, blue)))
    assert not outcomes["exact"] and outcomes["number"]
    assert not (outcomes["colour"] and outcomes["shape"])
    assert not demand.holds(Scene((replace(red, shape="circle"),)))["shape"]
    kinds = [("circle", "red", "left"), ("square", "blue", "top right")]
    kinds.append(("cross", "grey", "bottom right"))
    extra = Scene(tuple(Thing(s, c, "small", "plain", p) for s, c, p in kinds))
    assert demand.holds(extra) == {
        "number": False, "colour": True, "shape": True, "relation": True, "exact": False,
    }  # fmt: skip


def test_texture_counts_only_where_it_can_be_seen():
    scene = Scene((Thing("circle", "red", "small", "plain", "top"),))
    demand = parse("a striped circle")
    assert demand.holds(scene) == {"number": True, "shape": True, "texture": False, "exact": False}
    assert demand.holds(scene.untextured()) == {"number": True, "shape": True, "exact": True}


def test_possible_agrees_with_the_enumeration(read):
    demands = [demand for scene, _, demand in read[::20] if len(scene.things) < 3]
    demands += [Demand((Wanted(place=a), Wanted(place=b))) for a in PLACES for b in PLACES]
    for demand in demands:
        for unseen in (None, False, True):
            codes = table(len(demand.things), unseen)[0]
            fits = np.zeros(len(codes), dtype=bool)
            for order in permutations(range(len(demand.things))):
                ok = np.ones(len(codes), dtype=bool)
                for k, wanted in zip(order, demand.things, strict=True):
                    for name, value in wanted.said().items():
                        ok &= codes[:, k, FIELDS.index(name)] == VALUES[name].index(value)
                for i, relation, j in demand.relations:
                    a, b = codes[:, order[i], -1], codes[:, order[j], -1]
                    ok &= {
                        "left of": a % 3 < b % 3, "right of": a % 3 > b % 3,
                        "above": a // 3 < b // 3, "below": a // 3 > b // 3,
                    }[relation]  # fmt: skip
                fits |= ok
            assert demand.possible(unseen) == fits.any(), (demand, unseen)
            if unseen is None and fits.any():
                assert demand.holds(demand.example())["exact"]
    assert len(placements(2)) == 16
