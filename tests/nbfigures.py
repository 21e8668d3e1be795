"""What nbval leaves out: figures are compared, progress bars not, a dead kernel is noticed.

nbval runs each cell once and hands both lists of outputs to `compare_outputs`. Figures drawn with
`plot.show` carry what was drawn (see minit2i/plot.py). Both kinds must show the same artists,
labels and legends. Then an exact figure must have the same pixels but for the rendering of edges
and letters, a trained one the same data ranges, roughly.
"""

import base64
import io
import json
import math
import time
from itertools import zip_longest
from queue import Empty

import numpy as np
import pytest
from nbval.kernel import RunningKernel
from nbval.plugin import IPyNbCell
from PIL import Image

from tools.execute import canonical_outputs

BLOCK = 4  # pixels are compared as means of 4 x 4, which an edge a little off hardly moves
LEVELS, SHARE = 20, 0.002  # at most this share of them may differ by so many grey levels
OVERLAP = 0.5  # least intersection over union of a trained artist's old and new range
PAD = 0.05  # each range is widened by this part of the axis, so that a constant has a width too


class Cell(IPyNbCell):
    """A notebook cell whose figures are compared as well."""

    def compare_outputs(self, test, ref, skip_compare=None):
        """As nbval's, without widgets and progress bars, and then figure by figure."""
        test, ref = canonical_outputs(test), canonical_outputs(ref)
        if not super().compare_outputs(test, ref, skip_compare):
            return False
        self.comparison_traceback += compare_figures(figures(ref), figures(test))
        return not self.comparison_traceback


@pytest.hookimpl
def pytest_itemcollected(item):
    """Turn nbval's cells into ours."""
    if type(item) is IPyNbCell:
        item.__class__ = Cell
        item.output_timeout = (
            30  # nbval's 5 s for outputs after the reply are short on a busy machine
        )


_get_message = RunningKernel.get_message


def get_message(self, stream, timeout=None):
    """As nbval's, which notices a dead kernel only when the cell's time is up."""
    end = math.inf if timeout is None else time.monotonic() + timeout
    while True:
        try:
            return _get_message(self, stream, timeout=max(0.0, min(1.0, end - time.monotonic())))
        except Empty:
            if not self.is_alive():
                self.kc.stop_channels()
                raise RuntimeError("the kernel died while the cell was running") from None
            if time.monotonic() >= end:
                raise


RunningKernel.get_message = get_message


def figures(outputs: list) -> list[bytes]:
    """The PNG pictures among a cell's outputs."""
    encoded = [o["data"]["image/png"] for o in outputs if "image/png" in o.get("data", {})]
    return [base64.b64decode(text) for text in encoded]


def compare_figures(stored: list[bytes], new: list[bytes]) -> list[str]:
    """What differs between the stored figures of a cell and the new ones; nothing: []."""
    if len(stored) != len(new):
        return [f"{len(stored)} figures are stored, {len(new)} were drawn"]
    return [
        f"figure {i} of this cell: {difference}"
        for i, pair in enumerate(zip(stored, new, strict=True), 1)
        for difference in compare_figure(*pair)
    ]


def compare_figure(stored: bytes, new: bytes) -> list[str]:
    """What differs between two PNG pictures made by `plot.show`."""
    old_image, new_image = (Image.open(io.BytesIO(png)) for png in (stored, new))
    old_text, new_text = old_image.text, new_image.text
    for text, which in ((old_text, "stored"), (new_text, "new")):
        if not {"Kind", "Artists"} <= set(text):
            return [f"the {which} figure does not say what it shows: draw it with plot.show"]
    if old_text["Kind"] != new_text["Kind"]:
        return [f"was {old_text['Kind']}, is {new_text['Kind']}"]
    exact = old_text["Kind"] == "exact"
    old_axes, new_axes = json.loads(old_text["Artists"]), json.loads(new_text["Artists"])
    if len(old_axes) != len(new_axes):
        return [f"{len(old_axes)} axes are stored, {len(new_axes)} were drawn"]
    differences = [
        f"axes {i}: {difference}"
        for i, pair in enumerate(zip(old_axes, new_axes, strict=True), 1)
        for difference in (*_compare_content(*pair, exact), *_compare_ranges(*pair, exact))
    ]
    if exact and not differences:
        differences = _compare_pixels(old_image, new_image)
    return differences


def _compare_content(old: dict, new: dict, exact: bool) -> list[str]:
    found = [
        f"{what} was {old[what]!r}, is {new[what]!r}"
        for what in ("title", "x", "y", "scales", "legend")
        if old[what] != new[what]
    ]
    if (old["texts"] != new["texts"]) if exact else (len(old["texts"]) != len(new["texts"])):
        found.append(f"texts were {old['texts']}, are {new['texts']}")
    counts = [{kind: a["count"] for kind, a in axes["artists"].items()} for axes in (old, new)]
    if counts[0] != counts[1]:
        found.append(f"drawn were {counts[0]}, now {counts[1]}")
    return found


def _compare_ranges(old: dict, new: dict, exact: bool) -> list[str]:
    found = []
    for kind in old["artists"].keys() & new["artists"].keys():
        pairs = zip(old["artists"][kind]["ranges"], new["artists"][kind]["ranges"], strict=False)
        for number, pair in enumerate(pairs, 1):
            for k, (a, b) in enumerate(zip_longest(*pair, fillvalue=[])):
                name = "xy"[k] if _placed(kind, k) else "value"
                if a is None or b is None:
                    found.append(f"{name} of {kind} {number} holds numbers that are not finite")
                elif bool(a) != bool(b) or (a and not _close(old, kind, k, a, b, exact)):
                    found.append(f"{name} of {kind} {number} ranged over {a}, now over {b}")
    return found


def _placed(kind: str, k: int) -> bool:
    """Whether coordinate `k` of such artists lies along an axis; images and arrows show values."""
    return kind != "image" and k < 2


def _close(axes: dict, kind: str, k: int, a: list, b: list, exact: bool) -> bool:
    """Whether two ranges agree, measured against all that the axes hold in coordinate `k`."""
    placed = _placed(kind, k)
    alike = [artist for other, artist in axes["artists"].items() if _placed(other, k) == placed]
    everything = [
        end for artist in alike for r in artist["ranges"] if len(r) > k for end in r[k] or []
    ]
    log = placed and axes["scales"][k] == "log" and min(*everything, *b) > 0
    a, b, everything = (np.log10(v) if log else np.asarray(v) for v in (a, b, everything))
    span = float(np.ptp(everything)) or float(np.abs(everything).max()) or 1.0
    if exact:
        return bool(np.abs(a - b).max() <= 0.01 * span)
    (low, high), (new_low, new_high) = (
        a + np.array([-PAD, PAD]) * span,
        b + np.array([-PAD, PAD]) * span,
    )
    common = min(high, new_high) - max(low, new_low)
    return common >= OVERLAP * (max(high, new_high) - min(low, new_low))


def _compare_pixels(old: Image.Image, new: Image.Image) -> list[str]:
    if old.size != new.size:
        return [f"was {old.size} pixels, is {new.size}"]
    a, b = (np.asarray(image.convert("RGB"), dtype=float) for image in (old, new))
    height, width = (side // BLOCK * BLOCK for side in a.shape[:2])
    change = (a - b)[:height, :width].reshape(height // BLOCK, BLOCK, width // BLOCK, BLOCK, 3)
    change = np.abs(change.mean(axis=(1, 3))).max(axis=-1)
    share = float((change > LEVELS).mean())
    if share <= SHARE:
        return []
    return [f"{share:.1%} of the picture differs by more than {LEVELS} of 255 levels"]
