"""The figures of a card, on systems that draw by the law, wrongly, or noise."""

import json

import numpy as np
import pytest
import torch

from minit2i import benchmark, cli, figures
from minit2i.benchmark import prompts
from minit2i.systems.digits import Digits
from minit2i.systems.system import System
from minit2i.worlds.scenes import Scene, Thing, parse, render
from minit2i.worlds.scenes.law import draw
from minit2i.worlds.scenes.splits import part

COLUMNS = "prompts measure value low high asked draws guidance steps".split()
WAYS = {prompt.text: prompt.ways[0] for prompt in prompts()}


class Fake(System):
    """Draws what `picture` (demand, scale, generator) says, and notes what it was asked."""

    name, side = "fake", 16

    def __init__(self, picture):
        super().__init__()
        self.picture, self.texts, self.seeds, self.settings = picture, [], [], []

    def draw(self, prompts, *, seed=0, guidance=2.5, steps=7):
        self.texts += prompts
        self.seeds += range(seed, seed + len(prompts))
        self.settings.append((guidance, steps))
        generators = [torch.Generator().manual_seed(seed + k) for k in range(len(prompts))]
        return torch.cat([
            self.picture(WAYS.get(text) or parse(text), guidance, g)
            for text, g in zip(prompts, generators, strict=True)
        ])  # fmt: skip


def right(demand, scale, generator):
    return render([demand.example()], 16)


def wrong(demand, scale, generator):
    cells = ("top left", "top right", "bottom")[: len(demand.things) % 3 + 1]
    return render([Scene(tuple(Thing("cross", "grey", "small", "plain", p) for p in cells))], 16)


def noise(demand, scale, generator):
    return torch.rand(1, 3, 16, 16, generator=generator) * 2 - 1


VARIED = 2
"""Prompts whose diversity `rows` measures, each drawn eight times."""


def rows(picture, **settings):
    system = Fake(picture)
    return system, figures.evaluate_base(system, **{"prompts": 10, "draws": 2, **settings})


@pytest.fixture(scope="module")
def perfect():
    return rows(right)


def of(table, prompts, measure="exact"):
    (row,) = [r for r in table if (r["prompts"], r["measure"]) == (prompts, measure)]
    return row


SETS = [*benchmark.NUMBERS.values(), "held-out compositions", "counts", "places", "MiniDrawBench"]


def test_a_system_that_draws_right_has_all_right(perfect):
    table = perfect[1]
    for name in SETS:
        assert of(table, name)["value"] == of(table, name, "readable")["value"] == 1
        assert of(table, name)["low"] < 1 == of(table, name)["high"]
        assert of(table, name, "number")["value"] == of(table, name, "colour")["value"] == 1
    assert of(table, "one thing")["asked"] == 10 and of(table, "counts")["asked"] == 5
    assert of(table, "MiniDrawBench")["asked"] == 260 and of(table, "MiniDrawBench")["draws"] == 2
    asked = benchmark.fresh(10, 2)
    said = sum(bool(prompt.ways[0].relations) for prompt in asked)
    assert 0 < said < 10 and of(table, "two things", "relation")["asked"] == said


def test_a_system_that_draws_wrong_has_the_number_wrong_and_is_readable():
    table = rows(wrong)[1]
    for name in SETS:
        exact = of(table, name)
        assert exact["value"] == exact["low"] == 0 < exact["high"]
    for name in (*benchmark.NUMBERS.values(), "counts", "places", "held-out compositions"):
        assert of(table, name, "number")["value"] == 0 and of(table, name, "readable")["value"] == 1
    assert of(table, "unsaid attributes", "entropy")["value"] == "not scored"


def test_noise_is_not_readable():
    table = rows(noise)[1]
    assert {of(table, name, "readable")["value"] for name in SETS} == {0}
    assert {of(table, name)["value"] for name in SETS} == {0}


def test_the_table_is_plain_has_equal_columns_and_prints(perfect, capsys):
    table = perfect[1]
    assert all(list(row) == COLUMNS for row in table)
    assert json.loads(json.dumps(table, allow_nan=False)) == table
    assert len({(r["prompts"], r["measure"], r["guidance"]) for r in table}) == len(table)
    cli._show(table)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(table) + 1 and all(len(line) <= 110 for line in lines)


def test_every_category_has_a_row_and_texture_says_that_it_is_not_scored(perfect):
    for name in benchmark.CATEGORIES:
        row = of(perfect[1], f"MiniDrawBench: {name}")
        assert row["asked"] == 20
        assert ((row["value"], row["low"]) == ("not scored", "")) == (name == "texture")


def test_the_scale_is_chosen_on_development_prompts_alone():
    def only_at_two(demand, scale, generator):
        return (right if scale == 2 else wrong)(demand, scale, generator)

    system, table = rows(only_at_two, prompts=20)
    trial = [row for row in table if row["prompts"].startswith("development")]
    assert [row["guidance"] for row in trial] == list(figures.SCALES)
    assert [row["value"] for row in trial] == [float(s == 2) for s in figures.SCALES]
    assert [row["prompts"] for row in trial if row["value"]] == ["development, chosen"]
    others = [row["guidance"] for row in table if "at scale" in row["prompts"]]
    assert others == [1.0] * 4 + [3.0] * 4 + [5.0] * 4
    rest = table[len(trial) : -len(others)]
    assert {(row["guidance"], row["steps"]) for row in rest} == {(2.0, 25)}
    calls = len(figures.SCALES)
    assert set(system.settings[calls : -3 * VARIED]) == {(2.0, figures.STEPS)}
    used = [part(text) for text in system.texts]
    n = calls * trial[0]["asked"]
    assert set(used[:n]) == {"development"} and set(used[n:]) == {"fresh", "benchmark"}


def test_of_equal_scales_the_smallest_is_chosen(perfect):
    chosen = [row for row in perfect[1] if row["prompts"] == "development, chosen"]
    assert [row["guidance"] for row in chosen] == [min(figures.SCALES)]


def test_every_picture_has_a_noise_of_its_own_but_scales_share_theirs(perfect):
    seeds = perfect[0].seeds
    n = len(figures.SCALES)
    trial, rest, varied = seeds[: 2 * n], seeds[2 * n : -n * 8 * VARIED], seeds[-n * 8 * VARIED :]
    assert trial == trial[:2] * n and varied == varied[: 8 * VARIED] * n
    rest += varied[: 8 * VARIED]
    assert len(set(rest)) == len(rest) and not set(rest) & set(trial)


def test_sets_do_not_share_their_prompts():
    sets = figures.fresh_sets(60, 16)
    assert [len(asked) for asked in sets.values()] == [60, 60, 60, 60, 30, 30]
    texts = [{prompt.text for prompt in asked} for asked in sets.values()]
    assert sum(map(len, texts)) == 300  # no two streams are the same
    assert len(set.union(*texts)) > 290
    for prompt in sets["counts"]:
        assert {"two", "three", "pair"} & set(prompt.text.split())
    assert all(t.place for prompt in sets["places"] for t in prompt.ways[0].things)


def test_diversity_stands_beside_a_perfect_samplers(perfect):
    collapsed = of(perfect[1], "unsaid attributes", "distance")
    assert collapsed["low"] > of(perfect[1], collapsed["prompts"], "perfect distance")["high"]

    def lawful(demand, scale, generator):
        rng = np.random.default_rng(generator.initial_seed())
        return render(draw(demand, 1, rng), 16)

    asked = benchmark.fresh(5, 1, seed=3)
    table = figures.varied(figures.Drawer(Fake(lawful), 0, 1.0, 5), asked, 60)
    for measure in ("entropy", "distance"):
        own, best = (of(table, "unsaid attributes", m) for m in (measure, f"perfect {measure}"))
        assert best["low"] <= own["value"] <= best["high"]


def test_own_prompts_are_measured_as_the_system_draws_by_default(tmp_path):
    file = tmp_path / "mine.txt"
    file.write_text("a red circle\n\na small cross above a blue square\n")
    system = Fake(right)
    table = figures.evaluate_prompts(system, file, draws=3)
    assert list(table[0]) == COLUMNS and of(table, "mine.txt")["value"] == 1
    assert of(table, "mine.txt")["draws"] == 3 and len(set(system.seeds)) == 6
    assert {(row["guidance"], row["steps"]) for row in table} == {(2.5, 7)}
    file.write_text("a red circle\n")
    row = of(figures.evaluate_prompts(system, file), "mine.txt")
    assert (row["value"], row["low"], row["high"], row["asked"]) == (1, 0, 1, 1)


@pytest.mark.parametrize(
    "text, says",
    [
        ("a red circle\na photograph of an astronaut", r"prompt 2 of .*mine\.txt"),
        ("a red circle\na striped thing", "prompt 2 .*texture alone, .*16 pixels"),
        ("three large circles", "prompt 1 .*a contradiction here"),
    ],
)
def test_prompts_that_cannot_be_judged_are_refused_before_anything_is_drawn(tmp_path, text, says):
    (tmp_path / "mine.txt").write_text(text)
    system = Fake(right)
    with pytest.raises(ValueError, match=says):
        figures.evaluate_prompts(system, tmp_path / "mine.txt")
    assert not system.texts
    with pytest.raises(ValueError, match="digits draws no scenes"):
        figures.evaluate_prompts(Digits(), tmp_path / "mine.txt")
