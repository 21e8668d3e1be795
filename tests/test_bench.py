"""What the benchmarks decide by themselves."""

from dataclasses import replace

import pytest
import torch

from minit2i import benchmark, recipes
from minit2i.recipes import get
from minit2i.systems.base import Base
from minit2i.worlds.scenes import Scene, parse, render, satisfies
from minit2i.worlds.scenes.scene import Thing
from tests.bench import failures
from tests.bench.ablation import ARMS, rows

RED = Thing("circle", "red", "small", "plain", "top left")
BLUE = Thing("square", "blue", "small", "plain", "top right")
GREEN = Thing("cross", "green", "small", "plain", "bottom left")


@pytest.mark.parametrize(
    ("prompt", "things", "kind"),
    [
        ("a red circle, a blue square and a green cross", (RED, BLUE, GREEN), failures.RIGHT),
        ("a red circle, a blue square and a grey cross", (RED, BLUE, GREEN), failures.OTHER),
        ("a red circle, a blue square and a yellow circle", (RED, BLUE, GREEN), failures.OTHER),
        ("a red circle and a blue square", (RED, BLUE, GREEN), failures.NUMBER),
        ("a red circle right of a blue square", (RED, BLUE), failures.PLACE),
        (
            "a red circle, a grey triangle and a blue square",
            (RED, BLUE, Thing("square", "blue", "small", "plain", "bottom left")),
            failures.TWICE,
        ),
        (
            "a grey triangle and a small thing",
            (RED, Thing("circle", "red", "small", "plain", "bottom")),
            failures.TWICE,
        ),
        ("a grey triangle and a small thing", (RED, BLUE), failures.OTHER),
    ],
)
def test_failures_are_told_apart(prompt, things, kind):
    (verdict,) = satisfies(render([Scene(things)], 16), [prompt])
    assert failures.kind(parse(prompt), verdict) == kind


def test_a_picture_of_nothing_is_unreadable():
    (verdict,) = satisfies(render([Scene((RED,))], 16) * 0, ["a red circle"])
    assert failures.kind(parse("a red circle"), verdict) == failures.UNREADABLE


def test_a_relay_goes_from_the_network_alone_to_the_ideal_denoiser_alone():
    system, asked = Base.load(), benchmark.fresh(4, 2, seed=5)
    texts, ways = [prompt.text for prompt in asked], [prompt.ways for prompt in asked]
    alone, *_, perfect = failures.relays(system, asked, seed=7)
    drawn = system.draw(texts, seed=7, guidance=failures.GUIDANCE, steps=failures.STEPS)
    assert torch.equal(alone.clamp(-1, 1), drawn)
    assert all(verdict.exact for verdict in satisfies(perfect, texts, ways))
    assert not torch.allclose(perfect, alone, atol=0.1)


@pytest.mark.parametrize("name", [name for name in ARMS if name != "as it is"])
def test_each_arm_of_the_ablation_changes_one_choice_of_the_recipe(name):
    arm, recipe = ARMS[name], get("base").config
    plain, system = Base([]), Base([], **arm.system)
    arm.change(system)
    changed = [
        system.config != plain.config,
        replace(recipe, **arm.training) != recipe,
        (system.model.weight is None) != (plain.model.weight is None),
        not arm.order,
        not arm.further,
    ]
    assert sum(changed) == 1


def test_an_arm_of_the_ablation_has_its_rows(monkeypatch):
    monkeypatch.setattr(recipes, "MIX", {"law": (3, {}), "vague": (2, {"vague": True})})
    data = {"x": torch.arange(5) * 10, "order": torch.tensor([4, 2, 0, 3, 1])}
    assert rows(data, ARMS["as it is"])["order"].tolist() == [4, 2, 0, 3, 1]
    fewer = rows(data, ARMS["scenes of the world's law alone"])
    assert fewer["x"].tolist() == [0, 10, 20] and fewer["order"].tolist() == [2, 0, 1]
    mixed = rows(data, ARMS["captions of all lengths in a batch"])
    assert list(mixed) == ["x"] and len(mixed["x"]) == 5
