"""What the benchmarks decide by themselves."""

import pytest

from minit2i.systems.base import Base
from minit2i.worlds.scenes import Scene, parse, render, satisfies
from minit2i.worlds.scenes.scene import Thing
from tests.bench import failures
from tests.bench.ablation import ARMS

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


@pytest.mark.parametrize("name", ARMS)
def test_every_arm_of_the_ablation_can_be_built(name):
    system = Base([], **ARMS[name].system)
    ARMS[name].change(system)
