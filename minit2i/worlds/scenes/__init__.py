"""The captioned world: small pictures of shapes, their captions, and an exact judge.

`sample` draws a scene, `render` its picture and `caption` a text about it; `read` recovers the
scene from a picture, `parse` what a prompt demands, and `satisfies` says whether it is shown.
"""

from .renderer import render
from .scene import Scene, Thing, sample

__all__ = ["Scene", "Thing", "render", "sample"]
