"""Which texts are for training, for choosing settings and for measuring: no text is for two.

A text's part follows from the text alone: MiniDrawBench's are "benchmark", all others go by a hash.
A text that is not for training is left out together with its scene, and both are drawn anew, so
that given any text that remains, what it leaves unsaid has exactly the law it had
(`captions.caption`). Only how often texts and scenes occur changes: frequent short texts, such as
"a grey disc", fall into one part whole. Of the things in training's scenes of the world's law
each colour, shape, size and place is as frequent as in the world up to 4 %, and every word of
captions is in thousands of them. (Further scenes, `recipes.MIX`, have other frequencies.)
"""

import hashlib
import json
from bisect import bisect_right
from functools import cache
from itertools import accumulate
from pathlib import Path

PARTS = {"training": 192, "development": 32, "fresh": 32}
"""Of the 256 values of the hash's first byte, in this order, as many as belong to each part."""
MINIDRAWBENCH = Path(__file__).parents[3] / "data" / "benchmark" / "prompts.json"


def part(text: str) -> str:
    """ "training", "development", "fresh" or "benchmark"."""
    if text in _benchmark():
        return "benchmark"
    byte = hashlib.sha256(text.encode()).digest()[0]
    return tuple(PARTS)[bisect_right(tuple(accumulate(PARTS.values())), byte)]


@cache
def _benchmark() -> frozenset[str]:
    listed = json.loads(MINIDRAWBENCH.read_text(encoding="utf-8"))["prompts"]
    return frozenset(entry["prompt"] for entry in listed)
