"""MiniDrawBench: its prompts mean what they say, and its scorer tells right from wrong."""

import json
import re
import time
from itertools import permutations

import numpy as np
import pytest
import torch
from scipy import stats

from minit2i import benchmark, recipes
from minit2i.benchmark import (
    CATEGORIES,
    Prompt,
    development,
    diversity,
    fresh,
    load,
    over_prompts,
    prompts,
    score,
)
from minit2i.evaluate import proportion
from minit2i.worlds.scenes import (
    Demand,
    Scene,
    Thing,
    Wanted,
    caption,
    parse,
    read,
    render,
    sample,
    satisfies,
    splits,
)
from minit2i.worlds.scenes.dataset import captioned
from minit2i.worlds.scenes.law import FIELDS, VALUES, draw, given, table
from minit2i.worlds.scenes.scene import ATTRIBUTES, PLACES, held_out, is_held_out, placements
from minit2i.worlds.scenes.splits import part
from minit2i.worlds.scenes.words import rare_words, vocabulary

PLAIN = CATEGORIES[:8]
RNG = np.random.default_rng(0)
BY_TEXT = {prompt.text: prompt for prompt in prompts()}


def of(*categories):
    return [prompt for prompt in prompts() if prompt.category in categories]


def words(text):
    return re.findall(r"[^\W_]+", text.lower())


def edits(a, b):
    """Levenshtein's distance, a swap of neighbours counted as one."""
    d = {(i, 0): i for i in range(len(a) + 1)} | {(0, j): j for j in range(len(b) + 1)}
    for i in range(1, len(a) + 1):
        for j in range(1, len(b) + 1):
            d[i, j] = min(
                d[i - 1, j] + 1, d[i, j - 1] + 1, d[i - 1, j - 1] + (a[i - 1] != b[j - 1])
            )
            if i > 1 and j > 1 and a[i - 1] == b[j - 2] and a[i - 2] == b[j - 1]:
                d[i, j] = min(d[i, j], d[i - 2, j - 2] + 1)
    return d[len(a), len(b)]


# --- The prompts ---


def test_there_are_20_prompts_in_each_of_13_categories():
    assert {name: len(of(name)) for name in CATEGORIES} == dict.fromkeys(CATEGORIES, 20)
    assert len(prompts()) == len(BY_TEXT) == 260
    assert len({" ".join(words(prompt.text)) for prompt in prompts()}) == 260


def test_the_ways_to_be_right_are_what_the_words_say():
    for prompt in prompts():
        if prompt.reads:
            with pytest.raises(ValueError):
                parse(prompt.text)
        assert prompt.ways == tuple(map(parse, prompt.reads or [prompt.text])), prompt.text
        assert len(set(prompt.ways)) == len(prompt.ways) >= 1
        for way in prompt.ways:
            assert way.holds(way.example())["exact"]
    assert {p.category for p in prompts() if p.reads} == {"misspelling", "long", "conflicting"}
    assert {p.category for p in prompts() if len(p.ways) > 1} == {"conflicting"}
    assert all(len(p.ways) > 1 for p in of("conflicting"))


def test_held_out_prompts_force_what_is_held_out_and_no_other_does():
    for prompt in prompts():
        for way in prompt.ways:
            assert way.possible(unseen=prompt.category == "unseen"), prompt.text
            assert way.possible(unseen=False) == (prompt.category != "unseen"), prompt.text
            if prompt.category != "unseen":
                named = [set(wanted.said().values()) for wanted in way.things]
                assert not any(set(p) <= each for p in held_out()["pairs"] for each in named)
    shown = {
        tuple(composition)
        for prompt in of("unseen")
        for way in prompt.ways
        for composition in held_out()["pairs"]
        if any(set(composition) <= set(wanted.said().values()) for wanted in way.things)
    }
    assert shown == set(held_out()["pairs"])


def test_categories_keep_to_their_subject():
    for name in ("colour", "shape", "size", "texture"):
        for prompt in of(name):
            assert any(name in wanted.said() for wanted in prompt.ways[0].things), prompt.text
    assert all("texture" not in w.said() for p in of(*PLAIN) if p.category != "texture"
               for w in p.ways[0].things)  # fmt: skip
    assert all(wanted.place for p in of("position") for wanted in p.ways[0].things)
    assert all(p.ways[0].relations for p in of("relation"))
    assert not any(p.ways[0].relations for p in of("colour", "shape", "size", "texture"))
    for prompt in of("counting"):
        first, *others = prompt.ways[0].things
        assert not others or first in others, prompt.text
    numbers = [len(prompt.ways[0].things) for prompt in of("counting")]
    assert min(numbers.count(n) for n in (2, 3)) >= 8


def test_words_are_those_that_the_category_promises():
    for prompt in prompts():
        said = set(words(prompt.text))
        if prompt.category in (*PLAIN, "unseen"):
            assert said <= vocabulary(), prompt.text
        if prompt.category == "rare":
            assert said & rare_words() and said <= vocabulary() | rare_words(), prompt.text
        else:
            assert not said & rare_words(), prompt.text
        if prompt.category == "misspelling":
            wrong, right = words(prompt.text), words(prompt.reads[0])
            pairs = list(zip(wrong, right, strict=True))
            assert any(a != b for a, b in pairs), prompt.text
            assert all(
                a == b or (edits(a, b) <= 2 and a not in vocabulary(rare=True)) for a, b in pairs
            )
        if prompt.category == "long":
            assert len(words(prompt.text)) >= 20, prompt.text
    assert sum(not p.reads for p in of("long")) == 10


def fitting(demand):
    """Which scenes of the whole world meet a demand: written for whole tables."""
    codes = table(len(demand.things), None)[0]
    found = np.zeros(len(codes), dtype=bool)
    for order in permutations(range(len(demand.things))):
        fits = np.ones(len(codes), dtype=bool)
        for k, wanted in zip(order, demand.things, strict=True):
            for name, value in wanted.said().items():
                fits &= codes[:, k, FIELDS.index(name)] == VALUES[name].index(value)
        for i, relation, j in demand.relations:
            a, b = (codes[:, order[k], -1] for k in (i, j))
            if relation in ("right of", "below"):
                a, b = b, a
            fits &= (a % 3 < b % 3) if relation.endswith("of") else (a // 3 < b // 3)
        found |= fits
    return found


def test_swap_pairs_have_the_same_words_and_exclude_each_other():
    for k in range(10):
        a, b = (prompt for prompt in of("binding") if prompt.pair == k)
        assert sorted(words(a.text)) == sorted(words(b.text)) and a.text != b.text
        one, other = fitting(a.ways[0]), fitting(b.ways[0])
        assert one.any() and other.any() and not (one & other).any(), (a.text, b.text)
    assert all(prompt.pair is None for prompt in prompts() if prompt.category != "binding")


# --- Fresh and development prompts ---


def test_fresh_and_development_prompts_are_apart():
    measured = [fresh(60, n, seed) for n in (1, 2, 3) for seed in (0, 1)]
    chosen = {prompt.text for seed in range(3) for prompt in development(100, seed)}
    for n, each in zip((1, 1, 2, 2, 3, 3), measured, strict=True):
        assert {len(prompt.ways[0].things) for prompt in each} == {n}
        assert len({prompt.text for prompt in each}) == 60
        assert not chosen & {prompt.text for prompt in each}
        assert all(prompt.ways == (parse(prompt.text),) for prompt in each)
    assert measured[2] == fresh(60, 2, 0) != measured[3]
    assert not chosen & BY_TEXT.keys()
    assert {prompt.category for prompt in development(100)} == set(benchmark.NUMBERS.values())


PARTS_OF_TRAINING = pytest.mark.parametrize(
    "kind", [kind for _, kind in recipes.MIX.values()], ids=recipes.MIX
)


def test_later_training_has_no_part_of_its_own():
    assert all(recipes.MIX[name][1] == kind for name, (_, kind) in recipes.LATER.items())


@PARTS_OF_TRAINING
def test_no_text_of_training_is_measured_or_chosen_on(kind):
    trained = set(captioned(8_000, 0, 16, **kind)[1])
    assert len(trained) > 4_000
    assert not trained & BY_TEXT.keys()
    assert not trained & {prompt.text for prompt in development(300)}
    for things in (1, 2, 3):
        assert not trained & {prompt.text for prompt in fresh(300, things)}
    assert not trained & {prompt.text for prompt in fresh(100, 2, unseen=True)}


def test_each_part_has_its_share_of_texts_and_training_every_word():
    texts = {caption(scene, RNG) for scene in (sample(RNG) for _ in range(8000))}
    parts = [part(text) for text in texts if part(text) != "benchmark"]
    for name, values in splits.PARTS.items():
        expected = values / 256
        sd = (expected * (1 - expected) / len(parts)) ** 0.5
        assert abs(parts.count(name) / len(parts) - expected) < 4 * sd
    assert sum(splits.PARTS.values()) == 256
    assert all(part(text) == "benchmark" for text in BY_TEXT)
    used = {word for text in captioned(4000, 0, 16)[1] for word in words(text)}
    assert {word for phrase in vocabulary() for word in words(phrase)} <= used


@PARTS_OF_TRAINING
def test_training_has_no_held_out_composition_and_the_unsaid_its_law(kind):
    """Whatever captions it has: given each, shapes, colours, sizes and places of all things add up
    to what the law of scenes expects."""
    n = 150 if kind.get("number") == 3 else 400  # a law of three things is a long table
    pictures, texts = captioned(n, 5, 16, **kind)
    scenes = read(pictures / 127.5 - 1)
    assert not any(map(is_held_out, scenes))
    for field in ("shape", "colour", "size", "place"):
        column, values = FIELDS.index(field), np.arange(len(VALUES[field]))
        seen, mean, variance = 0.0, 0.0, 0.0
        for scene, text in zip(scenes, texts, strict=True):
            codes, chance = given(parse(text))
            counts = (codes[:, :, column, None] == values).sum(1)
            seen += sum(
                np.eye(len(values))[VALUES[field].index(getattr(t, field))] for t in scene.things
            )
            mean += chance @ counts
            variance += chance @ counts**2 - (chance @ counts) ** 2
        open_ = variance > 1
        assert (np.abs(seen - mean)[~open_] < 5).all()
        assert (np.abs(seen - mean)[open_] < 3.5 * variance[open_] ** 0.5).all(), field


def test_what_training_captions_leave_unsaid_has_the_law_it_had():
    """Given what a caption of one thing says, places it does not say are uniform."""
    pictures, texts = captioned(6000, 3, 16, 1)
    asked = [parse(text).things[0] for text in texts]
    scenes = read(pictures.float() / 127.5 - 1)
    for colour in (None, "red", "green"):
        cells = [
            PLACES.index(scene.things[0].place)
            for scene, wanted in zip(scenes, asked, strict=True)
            if wanted.place is None and colour in (None, wanted.colour)
        ]
        assert stats.chisquare(np.bincount(cells, minlength=9)).pvalue > 1e-3


def test_captions_of_a_chosen_form_leave_unsaid_what_they_should():
    """Three things, no place said: the three places are one of the eight sets, all alike frequent,
    and which thing stands in which is open."""
    pictures, texts = captioned(4000, 3, 16, 3, "bare")
    asked = [parse(text) for text in texts]
    assert all(len(each.things) == 3 and not each.relations for each in asked)
    assert not any(thing.place for each in asked for thing in each.things)
    scenes, sets = read(pictures.float() / 127.5 - 1), placements(3)
    shown = [tuple(PLACES.index(thing.place) for thing in scene.things) for scene in scenes]
    allowed = [
        place
        for place, each in zip(shown, asked, strict=True)
        if len({thing.shape for thing in each.things}) == 1 and each.things[0].shape
    ]  # of three things of one shape no places are held out
    counts = [allowed.count(place) for place in sets]
    assert sum(counts) > 500 and stats.chisquare(counts).pvalue > 1e-3
    first = [
        [thing.colour for thing in scene.things].index(each.things[0].colour)
        for scene, each in zip(scenes, asked, strict=True)
        if len({thing.shape for thing in each.things}) == 1 and each.things[0].shape
        if len({thing.colour for thing in each.things} - {None}) == 3
    ]
    assert len(first) > 50 and stats.chisquare(np.bincount(first, minlength=3)).pvalue > 1e-3
    assert all(read_back.exact for read_back in satisfies(pictures / 127.5 - 1, texts))
    with pytest.raises(ValueError, match="captions of 1 things are bare, places, got 'relation'"):
        captioned(1, 3, 16, 1, "relation")


def test_vague_captions_leave_unsaid_what_they_should():
    """One thing whose colour or shape is open: the unsaid one is uniform over what is not held
    out, which is a colour for each shape, and dotted crosses."""
    pictures, texts = captioned(4000, 3, 16, 1, vague=True)
    asked = [parse(text).things[0] for text in texts]
    assert all((thing.colour is None) != (thing.shape is None) for thing in asked)
    scenes = read(pictures.float() / 127.5 - 1)
    out = {("colour", "red"): ("cross",), ("shape", "triangle"): ("green",)}
    for (said, value), less in out.items():
        unsaid = "shape" if said == "colour" else "colour"
        shown = [
            getattr(scene.things[0], unsaid)
            for scene, thing in zip(scenes, asked, strict=True)
            if getattr(thing, said) == value
        ]
        counts = [shown.count(each) for each in ATTRIBUTES[unsaid] if each not in less]
        assert sum(counts) > 150 and stats.chisquare(counts).pvalue > 1e-3
    assert all(read_back.exact for read_back in satisfies(pictures / 127.5 - 1, texts))


def test_below_64_pixels_texture_alone_holds_nothing_out():
    """A dotted cross is as right as any cross where no dots can be seen."""
    small, large = (fresh(150, 1, unseen=True, side=side) for side in (16, 64))
    for prompt in small:
        assert not prompt.ways[0].untextured().possible(unseen=False), prompt.text
    assert any(prompt.ways[0].untextured().possible(unseen=False) for prompt in large)
    with pytest.raises(ValueError, match="side must be one of 16, 32, 64"):
        fresh(1, 1, side=48)


def test_prompts_that_cannot_be_found_are_not_fewer_but_an_error(monkeypatch):
    monkeypatch.setattr(benchmark, "_BARREN", 300)
    with pytest.raises(ValueError, match="5 such prompts were not found; ask for 0 at most"):
        fresh(5, 2, wanted=lambda prompt: False)
    kept = fresh(5, 2, wanted=lambda prompt: "red" in prompt.text)
    assert len(kept) == 5 and all("red" in prompt.text for prompt in kept)


@pytest.mark.parametrize("things", [1, 2, 3])
def test_fresh_unseen_prompts_force_a_held_out_composition(things):
    for prompt in fresh(20, things, unseen=True):
        assert not prompt.ways[0].possible(unseen=False) and prompt.ways[0].possible(unseen=True)
    for prompt in fresh(20, things):
        assert prompt.ways[0].possible(unseen=False)


def test_bad_requests_are_refused():
    with pytest.raises(ValueError, match="at least one prompt"):
        fresh(0, 1)
    with pytest.raises(ValueError, match="one to three"):
        fresh(1, 4)
    with pytest.raises(ValueError, match="at least one prompt and one draw"):
        score(perfect(16), [])
    with pytest.raises(ValueError, match="must give pictures"):
        score(lambda texts, seed: torch.zeros(1, 3, 16, 16))
    with pytest.raises(ValueError, match="judged at 64"):
        score(perfect(16), of("colour"), draws=1, side=64)
    with pytest.raises(ValueError, match="64 pixels only"):
        score(perfect(16), of("texture"), draws=1)
    with pytest.raises(ValueError, match="single way"):
        diversity(perfect(16), of("conflicting"))
    with pytest.raises(ValueError, match="at least two"):
        fixed = Demand((Wanted("circle", "red", "small", "plain", "centre"),))
        diversity(perfect(16), [Prompt("colour", "a red circle", (fixed,))] * 2)


def test_prompts_can_come_from_a_file(tmp_path):
    lines, listed = tmp_path / "a.txt", tmp_path / "a.json"
    lines.write_text("a red circle\n\n a blue square \n", encoding="utf-8")
    ways = [parse("a circle").to_json()]
    entries = [{"prompt": "a red circle"}, {"prompt": "?", "category": "odd", "ways": ways}]
    listed.write_text(json.dumps({"prompts": entries}), encoding="utf-8")
    assert [prompt.text for prompt in load(lines)] == ["a red circle", "a blue square"]
    marked = tmp_path / "marked.txt"
    marked.write_text(lines.read_text(encoding="utf-8"), encoding="utf-8-sig")
    assert load(marked) == load(lines)
    assert load(listed)[0].ways == load(lines)[0].ways == (parse("a red circle"),)
    assert load(listed)[1] == Prompt("odd", "?", (parse("a circle"),))
    assert (
        score(lambda t, s: render([parse(x).example() for x in t], 16), load(lines)).exact.mean == 1
    )


@pytest.mark.parametrize(
    "name, text, message",
    [
        ("a.txt", "a red circle\na red circel", "prompt 2 of .*circel"),
        ("a.txt", " \n", "no prompts"),
        ("a.json", "[", "not a list of prompts"),
        ("a.json", "[]", "not a list of prompts"),
        ("a.json", '{"prompts": {"a": "b"}}', "not a list of prompts"),
        ("a.json", '{"prompts": ["a"]}', "prompt 1"),
        ("a.json", '{"prompts": [{"category": "odd"}]}', "prompt 1 .*need"),
        ("a.json", '{"prompts": [{"prompt": 5}]}', "prompt 1 .*prompt must be a text, got 5"),
        ("a.json", '{"prompts": [{"prompt": "a disc", "category": ["x"]}]}', "category must be"),
        ("a.json", '{"prompts": [{"prompt": "a disc", "ways": {}}]}', "ways must be a list"),
        ("a.json", '{"prompts": [{"prompt": "a disc", "ways": [1]}]}', "not a demand"),
        ("a.json", '{"prompts": [{"prompt": "a disc", "reads": [1]}]}', "reads must be a list"),
        ("a.json", '{"prompts": [{"prompt": "a disc", "pair": "1"}]}', "pair must be a number"),
        ("a.json", '{"prompts": [{"prompt": "a disc", "ways": [{"things": 3}]}]}', "not a demand"),
        (
            "a.json",
            '{"prompts": [{"prompt": "3", "ways": [{"things": [{"size": "large"}, {}, {}]}]}]}',
            "prompt 1 .*no scene of this world",
        ),
        ("a.json", '{"prompts": [{"prompt": "a circle", "ways": []}]}', "no way to be right"),
        ("a.json", '{"prompts": [{"prompt": "a circle", "ways": [{}]}]}', "not a demand"),
    ],
)
def test_files_that_are_no_prompts_are_refused(tmp_path, name, text, message):
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        load(tmp_path / name)
    with pytest.raises(ValueError, match="cannot read"):
        load(tmp_path / "missing.txt")


# --- The scorer ---


def perfect(side):
    """Draws a scene that meets the demand."""
    return lambda texts, seed: render([BY_TEXT[text].ways[0].example() for text in texts], side)


def wrong(side):
    """Draws a number of things that no way to be right has."""
    cells = ("top left", "top right", "bottom")

    def scene(text):
        right = {len(way.things) for way in BY_TEXT[text].ways}
        n = min({1, 2, 3} - right)
        return Scene(tuple(Thing("cross", "grey", "small", "plain", p) for p in cells[:n]))

    return lambda texts, seed: render([scene(text) for text in texts], side)


@pytest.mark.parametrize("side", [16, 64])
def test_a_perfect_drawer_scores_all_and_a_wrong_one_nothing(side):
    result = score(perfect(side), draws=1)
    assert result.exact.mean == result.valid.mean == 1 and result.side == side
    assert {each.mean for each in result.predicates.values()} == {1.0}
    assert all(each is None or each.mean == 1 for each in result.categories.values())
    assert (result.categories["texture"] is None) == ("texture" not in result.predicates)
    assert (result.categories["texture"] is None) == (side == 16)
    result = score(wrong(side), draws=1)
    assert result.exact.mean == result.predicates["number"].mean == 0 and result.valid.mean == 1
    assert 0 < json.loads(json.dumps(result.to_json()))["exact"]["high"] < 0.02


def test_noise_is_not_valid_and_never_right():
    noise = score(lambda texts, seed: torch.rand(len(texts), 3, 16, 16) * 2 - 1, of("colour"), 1)
    assert noise.valid.mean == noise.exact.mean == 0


def test_large_pictures_are_judged_small_where_asked():
    result = score(perfect(64), draws=1, side=16)
    assert result.side == 16 and result.exact.mean == 1 and result.categories["texture"] is None


def test_the_accuracy_is_the_share_of_pictures_and_its_interval_one_over_prompts():
    """Half of the prompts always right, half never: eight draws of each are no more evidence."""
    asked = of("colour")
    good = {prompt.text for prompt in asked[:10]}

    def half(texts, seed):
        right, not_right = perfect(16)(texts, seed), wrong(16)(texts, seed)
        return torch.stack([
            a if text in good else b for text, a, b in zip(texts, right, not_right, strict=True)
        ])  # fmt: skip

    one, eight = (score(half, asked, draws) for draws in (1, 8))
    assert one.exact.mean == eight.exact.mean == 0.5
    assert one.exact.low == pytest.approx(eight.exact.low, abs=0.02)
    assert one.exact.high == pytest.approx(eight.exact.high, abs=0.02)
    assert 0.35 < eight.exact.high - eight.exact.low < 0.55
    assert eight.draws == 8


def test_intervals_have_a_width_where_all_prompts_agree():
    for draws in (1, 8):
        result = score(perfect(16), of("colour"), draws)
        assert result.exact.high == 1 and 0.7 < result.exact.low < 0.9
        assert 0.7 < result.valid.low < 0.9 and 0.7 < result.predicates["colour"].low < 0.9
        result = score(wrong(16), of("colour"), draws).exact
        assert result.low == 0 and 0.1 < result.high < 0.3
    single = score(perfect(16), prompts()[:1], draws=2).exact
    assert (single.mean, single.low, single.high) == (1, 0, 1)


@pytest.mark.parametrize("n, most", [(20, 0.04), (300, 0.005)])
def test_intervals_of_one_draw_are_wilsons_and_those_of_more_come_near(n, most):
    for right in (0, 1, n // 10, n // 2, n - 1, n):
        rates = [1.0] * right + [0.0] * (n - right)
        one, more = (over_prompts(rates, draws) for draws in (1, 8))
        assert one == proportion(torch.tensor(rates) == 1)
        assert more.mean == one.mean and more.low <= more.mean <= more.high
        assert abs(more.low - one.low) < most + 0.02 and abs(more.high - one.high) < most + 0.02
    a, b = (over_prompts([1.0] * (n - 1) + [last], 8) for last in (1.0, 0.875))
    assert abs(a.low - b.low) < 1 / n  # no jump where one picture of a prompt is wrong


@pytest.mark.parametrize("n", [20, 260])
def test_intervals_over_prompts_cover_the_truth(n):
    """Prompts' rates from a law with a rare bad kind; eight draws of each."""
    rng, hit = np.random.default_rng(0), 0
    for _ in range(200):
        own = np.where(rng.random(n) < 0.05, 0.2, 0.97)
        found = over_prompts((rng.binomial(8, own) / 8).tolist(), 8)
        hit += found.low <= 0.05 * 0.2 + 0.95 * 0.97 <= found.high
    assert hit >= 0.9 * 200


def test_prompts_about_texture_alone_are_refused_for_small_pictures(tmp_path):
    file = tmp_path / "a.txt"
    for text in ("a dotted thing", "two striped things", "a plain shape"):
        file.write_text(text)
        assert load(file)[0].text == load(file, 64)[0].text == text
        with pytest.raises(ValueError, match=f"prompt 1 .*{text}.* texture alone.* 32 pixels"):
            load(file, 32)
    file.write_text("a dotted circle\ntwo things\na striped thing at the top")
    assert len(load(file, 16)) == 3


def test_texture_alone_is_refused_with_the_first_pictures():
    drawn = []

    def note(texts, seed):
        drawn.extend(texts)
        return perfect(16)(texts, seed)

    with pytest.raises(ValueError, match="64 pixels only"):
        score(note, of("texture"), draws=8, batch=5)
    assert len(drawn) == 5


def test_a_bar_is_shown_only_where_asked(capsys):
    score(perfect(16), of("colour"), draws=1)
    score(perfect(16), of("colour"), draws=1, progress=None)  # standard error is no terminal here
    assert capsys.readouterr().err == ""
    score(slow, of("colour"), draws=1, progress=True, batch=10)
    assert "/20" in capsys.readouterr().err


def slow(texts, seed):
    time.sleep(0.6)
    return perfect(16)(texts, seed)


def test_each_call_has_its_own_seed():
    seeds = []

    def note(texts, seed):
        seeds.append(seed)
        return perfect(16)(texts, seed)

    score(note, of("colour"), draws=4, seed=7, batch=30)
    assert seeds == [7, 8, 9]


def test_whoever_sees_only_the_sorted_words_cannot_pass_half_of_the_swap_pairs():
    meaning = {}
    for prompt in of("binding"):
        meaning.setdefault(tuple(sorted(words(prompt.text))), []).append(prompt.ways[0])
    assert len(meaning) == 10

    def blind(choose):
        def picture(texts, seed):
            rng = np.random.default_rng(seed)
            ways = [meaning[tuple(sorted(words(text)))] for text in texts]
            return render([way[choose(rng)].example() for way in ways], 16)

        return score(picture, of("binding")).categories["binding"].mean

    assert blind(lambda rng: 0) == blind(lambda rng: 1) == 0.5
    assert abs(blind(lambda rng: rng.integers(2)) - 0.5) < 4 * (0.25 / 160) ** 0.5
    assert score(perfect(16), of("binding"), 1).exact.mean == 1


# --- Diversity ---

OPEN = [
    Prompt("", text, (parse(text),))
    for text in (
        "a circle", "a red thing", "a small square", "a thing in the middle",
        "a red circle and a blue thing", "two squares", "a large thing and a cross",
        "a grey circle left of a red shape", "a disc at the top left and a box on the right",
    )
]  # fmt: skip
LOOKUP = {prompt.text: prompt.ways[0] for prompt in OPEN}


def sampler(change=lambda scene, rng: scene, side=16):
    """Draws from the law given the prompt, then changes the scene."""

    def picture(texts, seed):
        rng = np.random.default_rng(seed)
        (text,) = set(texts)
        scenes = [change(scene, rng) for scene in draw(LOOKUP[text], len(texts), rng)]
        return render(scenes, side)

    return picture


def test_a_perfect_sampler_has_full_diversity():
    result = diversity(sampler(), OPEN)
    assert result.right == 1 and result.prompts == len(OPEN) and result.draws == 64
    for own, reference in (
        (result.entropy, result.perfect_entropy),
        (result.distance, result.perfect_distance),
    ):
        assert reference.low <= own.mean <= reference.high, result
    assert result.entropy.high < 1.02 and result.perfect_entropy.mean < 1
    assert json.loads(json.dumps(result.to_json()))["draws"] == 64


def test_more_draws_bring_the_perfect_sampler_nearer_to_one_and_nought():
    few, many = (diversity(sampler(), OPEN[:4], draws, replicates=50) for draws in (16, 256))
    assert few.perfect_entropy.mean < many.perfect_entropy.mean < 1
    assert many.perfect_entropy.mean > 0.98
    assert many.perfect_distance.mean < few.perfect_distance.mean / 3


def test_a_collapsed_drawer_has_none():
    def collapsed(texts, seed):
        return render([LOOKUP[text].example() for text in texts], 16)

    result = diversity(collapsed, OPEN, draws=16, replicates=50)
    assert result.right == 1
    assert result.entropy.high < 0.1  # not 0: which of two fits a phrase can be open
    assert result.distance.low > result.perfect_distance.high + 0.2


def test_a_biased_drawer_shows_in_the_distance():
    def reddish(scene, rng):
        if rng.random() < 0.5:
            return scene
        things = scene.things
        return Scene(
            (Thing(things[0].shape, "red", *list(vars(things[0]).values())[2:]), *things[1:])
        )

    asked = [OPEN[0], OPEN[2], OPEN[3]]
    honest, biased = (diversity(f, asked) for f in (sampler(), sampler(reddish)))
    assert biased.distance.mean > biased.perfect_distance.high + 0.05
    assert honest.distance.mean < honest.perfect_distance.high
    assert biased.entropy.mean < biased.perfect_entropy.low


def test_textures_count_for_diversity_only_at_64_pixels():
    def plain(scene, rng):
        return Scene(
            tuple(Thing(t.shape, t.colour, t.size, "plain", t.place) for t in scene.things)
        )

    small, large = (diversity(sampler(plain, s), OPEN[:4], 32, replicates=50) for s in (16, 64))
    assert small.entropy.mean > small.perfect_entropy.low
    assert large.entropy.mean < large.perfect_entropy.low
