"""The judge: reads pictures and says whether they show what prompts demand."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from jaxtyping import Float
from torch import Tensor

from .demands import Demand
from .language import parse
from .reader import read
from .renderer import FULL
from .scene import Scene


@dataclass(frozen=True)
class Verdict:
    """On one picture.

    valid      whether the picture could be read as a scene of this world
    exact      whether it shows the demand and nothing else
    outcomes   per demanded predicate whether it is met, `Demand.holds`; all false if not valid
    scene      what was read
    """

    valid: bool
    exact: bool
    outcomes: dict[str, bool] = field(default_factory=dict)
    scene: Scene | None = None


def satisfies(
    images: Float[Tensor, "b 3 h w"],
    prompts: Sequence[str],
    demands: Sequence[Demand | Sequence[Demand]] | None = None,
) -> list[Verdict]:
    """A verdict per picture on its prompt.

    demands   what each prompt demands, or several ways to be right, of which the one that the
              picture fulfils best counts; `parse` says it if they are missing

    Below 64 pixels texture cannot be seen and is not judged. Raises ValueError for lists of
    different lengths and for prompts outside of the grammar without demands.
    """
    if demands is None:
        demands = [parse(prompt) for prompt in prompts]
    if not len(images) == len(prompts) == len(demands):
        raise ValueError(
            f"{len(images)} pictures, {len(prompts)} prompts and {len(demands)} demands: "
            "give one of each per picture"
        )
    ways = [(each,) if isinstance(each, Demand) else tuple(each) for each in demands]
    seen = images.shape[-1] >= FULL
    return [judge(scene, each, seen) for scene, each in zip(read(images), ways, strict=True)]


def judge(scene: Scene | None, ways: Sequence[Demand], textures: bool = True) -> Verdict:
    """The verdict on a scene that was read; None where nothing could be. `textures` says whether
    the picture was large enough to show them: then one that could not be decided is no texture."""
    if not ways:
        raise ValueError("a prompt needs at least one way to be right")
    if scene is None:
        example = ways[0].example()
        outcomes = ways[0].holds(example if textures else example.untextured())
        return Verdict(False, False, dict.fromkeys(outcomes, False))
    outcomes = max((way.holds(scene, textures) for way in ways), key=_quality)
    return Verdict(True, outcomes["exact"], outcomes, scene)


def _quality(outcomes: dict[str, bool]) -> tuple[bool, float]:
    return outcomes["exact"], sum(outcomes.values()) / len(outcomes)
