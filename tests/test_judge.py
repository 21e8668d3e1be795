"""Verdicts: a picture of a scene fulfils a prompt just when the scene does."""

import numpy as np
import pytest
import torch

from minit2i.worlds.scenes import Scene, Thing, caption, parse, render, sample, satisfies
from minit2i.worlds.scenes.judge import judge


@pytest.mark.parametrize("side", [16, 32, 64])
def test_pictures_fulfil_the_captions_of_their_scenes_and_few_others(side):
    rng = np.random.default_rng(side)
    scenes = [sample(rng, unseen=None) for _ in range(300)]
    texts = [caption(scene, rng) for scene in scenes]
    images = render(scenes, side)
    for verdict, scene in zip(satisfies(images, texts), scenes, strict=True):
        assert verdict.valid and verdict.exact and all(verdict.outcomes.values())
        assert verdict.scene == (scene if side == 64 else scene.untextured())
        assert ("texture" in verdict.outcomes) <= (side == 64)
    others = texts[1:] + texts[:1]
    for verdict, scene, text in zip(satisfies(images, others), scenes, others, strict=True):
        seen = scene if side == 64 else scene.untextured()
        assert verdict.outcomes == parse(text).holds(seen, textures=side == 64)
        assert verdict.exact == verdict.outcomes["exact"]


@pytest.mark.parametrize("side", [16, 64])
def test_what_cannot_be_read_fulfils_nothing(side):
    noise = torch.rand(4, 3, side, side) * 2 - 1
    for verdict in satisfies(noise, ["two striped circles"] * 4):
        assert not verdict.valid and not verdict.exact and verdict.scene is None
        expected = {"number", "shape", "exact"} | ({"texture"} if side == 64 else set())
        assert verdict.outcomes == dict.fromkeys(expected, False)


def test_of_several_ways_to_be_right_the_best_counts():
    scene = Scene((Thing("circle", "blue", "small", "plain", "top"),))
    red, blue, square = map(parse, ("a red circle", "a blue circle", "a red square"))
    image = render([scene], 16)
    (verdict,) = satisfies(image, ["a red blue circle"], [(red, blue)])
    assert verdict.exact
    (verdict,) = satisfies(image, ["?"], [(square, red)])
    assert verdict.outcomes == {"number": True, "colour": False, "shape": True, "exact": False}
    assert judge(scene, [red, square]) == judge(scene, [square, red])


def test_texture_is_judged_at_64_pixels_only():
    scene = Scene((Thing("circle", "red", "large", "striped", "centre"),))
    for side in (16, 32, 64):
        right, other = satisfies(render([scene, scene], side), ["a striped disc", "a plain disc"])
        assert right.exact and other.exact == (side < 64)


def test_a_texture_half_way_between_two_is_neither():
    plain, striped = (
        render([Scene((Thing("circle", "red", "large", texture, "centre"),))])
        for texture in ("plain", "striped")
    )
    asked = ["a striped disc", "a plain disc", "a dotted disc", "a red disc"]
    verdicts = satisfies(plain.lerp(striped, 0.5).expand(4, -1, -1, -1), asked)
    assert [verdict.exact for verdict in verdicts] == [False, False, False, True]
    assert [verdict.outcomes.get("texture") for verdict in verdicts] == [False] * 3 + [None]


def test_bad_lists_and_prompts_are_refused():
    image = render([Scene((Thing("circle", "red", "small", "plain", "top"),))], 16)
    with pytest.raises(ValueError, match="1 pictures, 2 prompts"):
        satisfies(image, ["a circle", "a square"])
    with pytest.raises(ValueError, match="contradiction"):
        satisfies(image, ["a red blue circle"])
    with pytest.raises(ValueError, match="at least one way"):
        satisfies(image, ["a circle"], [()])
