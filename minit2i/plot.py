"""Figures of the course: one palette, one style, and pictures that say what they show.

`show` writes into each PNG which artists were drawn, with which labels and over which ranges. The
notebook tests read it back, so that a curve that went missing is noticed although pictures are
never compared as text. Only notebooks and the command line import this module: importing
matplotlib takes most of a second.
"""

import base64
import io
import json
import zlib
from collections.abc import Callable, Iterable, Sequence

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import torch
from cycler import cycler
from jaxtyping import Float, Real
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import Collection, LineCollection, PathCollection
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.quiver import Quiver
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

INK, GREY, PALE = "#222222", "#666666", "#D9D9D9"
# The hues of Okabe and Ito (2008), in shades that stand out on white (3:1 and more) and are further
# apart with every form of colour blindness; tests/test_accessibility.py measures both.
BLUE, ORANGE, GREEN, RED = "#0A4FA0", "#D17F00", "#107C50", "#A01C00"
SKY, PINK = "#359BE0", "#B874A0"
COLOURS = (BLUE, ORANGE, GREEN, RED, SKY, PINK)
LINES = ("-", "--", "-.", ":", "-", "--")  # the first four curves of an axes differ without colour
DPI = 85
WIDTH = 9.9  # inches: a figure as wide as JupyterLab's page in a window of 1280 pixels
MANY = 24  # above this number of artists of one kind, the metadata holds their common range

Array = Tensor | np.ndarray


def style() -> None:
    """Set matplotlib's defaults for this session; importing the module does it once.

    Curve after curve of one axes gets its own line style, even if the colour is given: say "-" for
    a bundle of curves that are one thing.
    """
    mpl.rcParams.update(
        {
            "figure.dpi": DPI,
            "figure.figsize": (6.4, 3.4),
            "figure.constrained_layout.use": True,
            "axes.prop_cycle": cycler(color=COLOURS, linestyle=LINES),
            "axes.edgecolor": GREY,
            "axes.labelcolor": INK,
            "axes.titlesize": 10.5,
            "axes.labelsize": 10,
            "axes.grid": True,
            "axes.axisbelow": True,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "grid.color": "#E6E6E6",
            "grid.linewidth": 0.7,
            "font.family": "DejaVu Sans",  # comes with matplotlib: the same everywhere
            "font.size": 10,
            "text.color": INK,
            "xtick.labelsize": 9,
            "ytick.labelsize": 9,
            "xtick.color": GREY,
            "ytick.color": GREY,
            "legend.fontsize": 9,
            "legend.frameon": False,
            "lines.linewidth": 1.8,
            "image.cmap": "gray",
            "image.interpolation": "nearest",
        }
    )


style()


def show(fig: Figure, caption: str, trained: bool = False) -> None:
    """Display `fig` with its caption, and close it. The last line of a figure's cell.

    `trained` says that the figure shows something trained: on another machine its numbers differ a
    little, and the tests compare what was drawn and over which ranges, not the pixels. Put no
    measured number into a title then.
    """
    png = render(fig, trained)
    plt.close(fig)
    try:
        from IPython import get_ipython
    except ImportError:
        shell = None
    else:
        shell = get_ipython()
    if shell is None:
        print(caption)
        return
    from IPython.display import publish_display_data

    encoded = base64.b64encode(png).decode("ascii")
    publish_display_data(
        {"image/png": encoded, "text/plain": f"[{caption}]"}, {"image/png": {"alt": caption}}
    )
    number, stop, rest = caption.partition(". ")
    numbered = f"**{number}.** {rest}" if stop and number.startswith("Figure") else caption
    publish_display_data({"text/markdown": numbered, "text/plain": caption})


def render(fig: Figure, trained: bool = False) -> bytes:
    """The PNG of `fig`, with text chunks Kind (exact, trained) and Artists (from `describe`)."""
    about = PngInfo()
    about.add_text("Kind", "trained" if trained else "exact")
    about.add_text("Artists", json.dumps(describe(fig), separators=(",", ":")))
    full, small = io.BytesIO(), io.BytesIO()
    fig.savefig(full, format="png", dpi=DPI)
    # 256 colours chosen for the picture look the same and take a third of the space.
    image = Image.open(full).convert("RGB")
    image.quantize(256, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).save(
        small, "png", optimize=True, pnginfo=about
    )
    return small.getvalue()


# --- what was drawn -------------------------------------------------------------------------


def describe(fig: Figure) -> list[dict]:
    """Per axes: title, labels, scales, legend, texts; per kind of artist data ranges and looks.

    A look is [colour, form, size]; each that occurs is named once.
    """
    fig.draw_without_rendering()  # places images and quivers
    return [_describe_axes(ax) for ax in fig.axes]


def _describe_axes(ax: Axes) -> dict:
    legend = ax.get_legend()
    artists: dict[str, list[tuple[np.ndarray, ...]]] = {}
    looks: dict[str, list[list]] = {}
    for artist in (*ax.lines, *ax.collections, *ax.images, *ax.patches):
        if artist.get_visible():
            kind, *values = _values(artist)
            artists.setdefault(kind, []).append(tuple(values))
            if (look := _look(artist)) not in looks.setdefault(kind, []):
                looks[kind].append(look)
    return {
        "title": ax.get_title() or ax.get_title("left"),
        "x": ax.get_xlabel(),
        "y": ax.get_ylabel(),
        "scales": [ax.get_xscale(), ax.get_yscale()],
        "legend": [text.get_text() for text in legend.get_texts()] if legend else [],
        "texts": [text.get_text() for text in ax.texts],
        "artists": {
            kind: {
                "count": len(items),
                "ranges": [_ranges(item) for item in _merged(kind, items)],
                "looks": looks[kind],
            }
            for kind, items in artists.items()
        },
    }


def _values(artist: Artist) -> tuple:
    """Kind of an artist and its numbers: x, y, then what is shown by colour or arrow."""
    if hasattr(artist, "get_xydata"):
        return "line", *np.asarray(artist.get_xydata(), dtype=float).T
    if isinstance(artist, Patch):
        points = artist.get_transform().transform_path(artist.get_path()).vertices
        return "patch", *artist.axes.transData.inverted().transform(points).T
    if isinstance(artist, Quiver):
        return "arrows", artist.X, artist.Y, artist.U, artist.V
    if isinstance(artist, PathCollection):
        offsets = np.ma.filled(artist.get_offsets().astype(float), np.nan)
        return "points", *offsets.T
    if isinstance(artist, Collection):
        paths = [path.vertices for path in artist.get_paths() if len(path.vertices)]
        kind = "segments" if isinstance(artist, LineCollection) else "area"
        return kind, *(np.concatenate(paths).T if paths else np.empty((2, 0)))
    return "image", np.ma.filled(artist.get_array().astype(float), np.nan)


def _look(artist: Artist) -> list:
    """Colour (or colour map), form (line style, marker, hatch) and size (width, diameter)."""
    if hasattr(artist, "get_xydata"):
        form = f"{artist.get_linestyle()} {artist.get_marker()}"
        line = artist.get_linestyle() not in ("None", "")
        size = artist.get_linewidth() if line else artist.get_markersize()
        return [to_hex(artist.get_color()), form, round(float(size), 1)]
    if isinstance(artist, Patch):
        filled = artist.get_fill() and artist.get_facecolor()[3] > 0
        colour = artist.get_facecolor() if filled else artist.get_edgecolor()
        form = f"{'filled' if filled else artist.get_linestyle()} {artist.get_hatch()}"
        return [to_hex(colour), form, 0 if filled else artist.get_linewidth()]
    if getattr(artist, "get_array", lambda: None)() is not None:
        return [artist.get_cmap().name, "map", 0]
    if isinstance(artist, PathCollection):
        shape = zlib.crc32(np.round(artist.get_paths()[0].vertices, 1).tobytes())
        size = round(float(artist.get_sizes()[0]) ** 0.5, 1)
        return [_first_colour(artist), f"marker {shape:x}", size]
    return [_first_colour(artist), f"{artist.get_linestyle()[0][1]} {artist.get_hatch()}", 0]


def _first_colour(artist: Collection) -> str:
    faces, edges = artist.get_facecolor(), artist.get_edgecolor()
    return to_hex((faces if len(faces) else edges)[0]) if len(faces) or len(edges) else "none"


def _merged(kind: str, items: list[tuple[np.ndarray, ...]]) -> list[tuple[np.ndarray, ...]]:
    """One entry for many artists, and for patches: the bars of a histogram belong together."""
    if (len(items) <= MANY and kind != "patch") or len({len(item) for item in items}) > 1:
        return items
    return [
        tuple(np.concatenate([np.ravel(v) for v in parts]) for parts in zip(*items, strict=True))
    ]


def _ranges(values: Iterable[np.ndarray]) -> list[list[float] | None]:
    """Per coordinate the 2nd and 98th percentile, which one outlier does not move.

    Nothing drawn gives [], numbers that are not finite give None.
    """
    result = []
    for value in values:
        value = np.asarray(value, dtype=float)
        if value.size == 0:
            result.append([])
        elif not np.isfinite(value).all():
            result.append(None)
        else:
            result.append(
                [float(f"{q:.4g}") for q in np.percentile(value, [2, 98], method="nearest")]
            )
    return result


# --- drawing --------------------------------------------------------------------------------


def points(
    ax: Axes,
    x: Float[Array, "n 2"],
    colour: str | Sequence | Array = BLUE,
    size: float = 3.0,
    label: str | None = None,
    extent: float | None = None,
) -> Artist:
    """A cloud of points in the plane, to one scale; `extent` fixes the view to [-extent, extent]².

    `colour` is one colour, or one number per point (shown with the viridis map).
    """
    x = _numpy(x)
    single = isinstance(colour, str)
    look = {"color": colour} if single else {"c": _numpy(colour), "cmap": "viridis"}
    artist = ax.scatter(*x.T, s=size, linewidths=0, alpha=0.6, label=label, **look)
    ax.set_aspect("equal")
    if extent is not None:
        ax.set(xlim=(-extent, extent), ylim=(-extent, extent))
    return artist


def strip(
    frames: Sequence[Float[Array, "_ 2"]],
    titles: Sequence[str] | None = None,
    extent: float | None = None,
    colour: str | Sequence | Array = BLUE,
    behind: Float[Array, "m 2"] | None = None,
    size: float = 2.0,
) -> Figure:
    """A film strip: one cloud per panel, to one scale; `behind` (the data, say) pale in each."""
    extent = extent or 1.1 * max(float(np.abs(_numpy(frame)).max()) for frame in frames)
    width = min(1.75, WIDTH / len(frames))
    fig, axes = plt.subplots(
        1, len(frames), figsize=(width * len(frames), width + 0.35), squeeze=False
    )
    for i, (ax, frame) in enumerate(zip(axes[0], frames, strict=True)):
        if behind is not None:
            points(ax, behind, PALE, size)
        points(ax, frame, colour, size, extent=extent)
        ax.set(xticks=[], yticks=[])
        if titles is not None:
            ax.set_title(titles[i])
    return fig


def field(
    ax: Axes,
    fn: Callable[[Tensor], Tensor],
    extent: float = 3.0,
    count: int = 18,
    colour: str = INK,
    scale: float | None = None,
) -> Quiver:
    """Arrows of a vector field `fn: (n, 2) -> (n, 2)` on a grid over [-extent, extent]².

    `scale` is the number of field units per axis unit; by default the longest arrow spans one grid
    cell.
    """
    side = torch.linspace(-extent, extent, count)
    grid = torch.cartesian_prod(side, side)
    with torch.no_grad():
        arrows = _numpy(fn(grid))
    spacing = 2 * extent / (count - 1)
    scale = scale or max(float(np.linalg.norm(arrows, axis=1).max()) / spacing, 1e-12)
    artist = ax.quiver(
        *_numpy(grid).T,
        *arrows.T,
        angles="xy",
        scale_units="xy",
        scale=scale,
        color=colour,
        width=0.004,
    )
    ax.set(xlim=(-extent, extent), ylim=(-extent, extent), aspect="equal")
    return artist


def band(
    ax: Axes,
    x: Sequence[float] | Real[Array, " n"],
    samples: Float[Array, "s n"],
    label: str | None = None,
    colour: str | None = None,
    centre: str = "median",
) -> None:
    """One faint curve per seed, their median (or mean) on top, the range from least to greatest.

    With the handful of seeds a course can afford, the range is the honest band: no quantile is
    estimated.
    """
    x, samples = _numpy(x), _numpy(samples)
    middle = {"median": np.median, "mean": np.mean}[centre](samples, axis=0)
    (line,) = ax.plot(x, middle, label=label, color=colour)
    colour, dashes = line.get_color(), line.get_linestyle()
    for sample in samples:
        ax.plot(x, sample, dashes, color=colour, linewidth=0.7, alpha=0.45)
    ax.fill_between(x, samples.min(0), samples.max(0), color=colour, alpha=0.15, linewidth=0)


def pictures(
    ax: Axes,
    images: Float[Array, "b c h w"],
    columns: int | None = None,
    titles: Sequence[str] | None = None,
) -> Artist:
    """A sheet of images in [-1, 1], row by row, every pixel a square; `titles` stand above them."""
    images = (np.clip(_numpy(images), -1, 1) + 1) / 2
    count, channels, height, width = images.shape
    if channels not in (1, 3):
        raise ValueError(f"images have {channels} channels; pictures shows 1 (grey) or 3 (colour)")
    columns = columns or min(count, max(8, int(np.ceil(count**0.5))))
    rows = -(-count // columns)
    gap = max(1, round(0.06 * width))
    head = round(0.28 * height) + 1 if titles is not None else 0
    tall, wide = height + gap + head, width + gap
    sheet = np.ones((rows * tall + gap, columns * wide + gap, channels))
    for i, image in enumerate(images):
        top, left = (i // columns) * tall + gap + head, (i % columns) * wide + gap
        sheet[top : top + height, left : left + width] = image.transpose(1, 2, 0)
        if titles is not None:
            middle = left + width / 2 - 0.5
            ax.text(middle, top - 0.7, titles[i], ha="center", va="bottom", fontsize=9)
    artist = ax.imshow(sheet.squeeze(-1) if channels == 1 else sheet, vmin=0, vmax=1)
    ax.set_axis_off()
    return artist


def _numpy(x: Array | Sequence) -> np.ndarray:
    return x.detach().cpu().numpy() if isinstance(x, Tensor) else np.asarray(x)
