"""Pictures of a user's own read a second: decoded, turned upright, cut and resized, then cached.

python -m tests.bench.folder [--count 1000] [--size 16]
"""

import json
import tempfile
import time
from pathlib import Path

import click
import numpy as np
from PIL import Image

from minit2i.worlds import folder

KINDS = {
    "PNG, 256 × 256": ((256, 256), "png"),
    "JPEG, 640 × 480": ((640, 480), "jpg"),
    "WebP, 640 × 480": ((640, 480), "webp"),
}


def photos(where: Path, size: tuple[int, int], suffix: str, count: int) -> None:
    """A folder of captioned pictures as smooth as photographs."""
    rng, lines = np.random.default_rng(0), []
    for k in range(count):
        coarse = Image.fromarray(rng.integers(256, size=(12, 16, 3), dtype=np.uint8))
        coarse.resize(size, Image.Resampling.BICUBIC).save(where / f"{k}.{suffix}")
        lines.append(json.dumps({"file_name": f"{k}.{suffix}", "text": f"picture number {k}"}))
    (where / "metadata.jsonl").write_text("\n".join(lines))


@click.command()
@click.option("--count", default=1000, show_default=True)
@click.option("--size", default=16, show_default=True)
def main(count: int, size: int) -> None:
    for name, kind in KINDS.items():
        with tempfile.TemporaryDirectory() as where:
            photos(Path(where), *kind, count)
            rates = []
            for _ in range(2):  # the second time from the cache
                begun = time.perf_counter()
                read = folder.load(Path(where), size, progress=False)
                rates.append(count / (time.perf_counter() - begun))
                assert len(read.images) == count
        print(f"{name}: {rates[0]:,.0f} a second, {rates[1]:,.0f} from the cache")


if __name__ == "__main__":
    main()
