"""Pictures as files that people look at."""

import io
import math

from jaxtyping import Float
from PIL import Image
from torch import Tensor


def png(images: Float[Tensor, "b 3 h w"], side: int = 96) -> bytes:
    """Pictures (b, 3, h, w) in [-1, 1] as one PNG sheet; pixels are enlarged to squares until a
    picture has at least `side` of them."""
    b, _, h, w = images.shape
    zoom, columns = max(1, math.ceil(side / w)), math.ceil(math.sqrt(b))
    pixels = ((images.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    gap = max(2, zoom // 3)
    rows = math.ceil(b / columns)
    size = (columns * (w * zoom + gap) + gap, rows * (h * zoom + gap) + gap)
    sheet = Image.new("RGB", size, "white")
    for k in range(b):
        tile = Image.fromarray(pixels[k]).resize((w * zoom, h * zoom), Image.Resampling.NEAREST)
        row, column = divmod(k, columns)
        sheet.paste(tile, (gap + column * (w * zoom + gap), gap + row * (h * zoom + gap)))
    buffer = io.BytesIO()
    sheet.save(buffer, "png")
    return buffer.getvalue()
