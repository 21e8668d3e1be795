"""The captioned world: small pictures of shapes, their captions, and an exact judge.

`sample` draws a scene, `render` its picture and `caption` a text about it; `read` recovers the
scene from a picture, `parse` what a prompt demands, and `satisfies` says whether it is shown.
`law` knows how often each scene occurs, `ideal` the best denoiser that there can be.
"""

from .captions import caption
from .demands import Demand, Wanted
from .judge import Verdict, satisfies
from .language import parse
from .reader import read
from .renderer import render
from .scene import Scene, Thing, sample

__all__ = [
    "Demand",
    "Scene",
    "Thing",
    "Verdict",
    "Wanted",
    "caption",
    "parse",
    "read",
    "render",
    "sample",
    "satisfies",
]
