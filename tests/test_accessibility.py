"""The course can be read without seeing a colour, a picture or the place of a thing on the page.

The rest of it, headings in order, is in test_notebooks.py. Each law is a function of a figure's
description, a cell or a text that yields what is wrong with it, so that it can be shown to fail on
a small made-up one.
"""

import ast
import base64
import io
import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image

from minit2i import plot

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("[a-z]*/**/*.md")])
PAGES = [page for page in PAGES if page.relative_to(ROOT).parts[0] not in ("build", "exercises")]

# Web Content Accessibility Guidelines 2.2, criteria 1.4.3 (text) and 1.4.11 (graphical objects).
TEXT, GRAPHICS = 4.5, 3.0
APART = 18  # least difference of two colours in CIELAB; Okabe and Ito's own palette has 16
THICKER = 1.5  # so many times wider or larger is seen at once
LETTERS = 9  # points
WORDS = 6  # a text alternative has more than these
MAPS = {"viridis", "cividis", "gray", "Greys", "Blues"}  # lightness grows or falls all along
COLOUR_ARGUMENT = re.compile(r"(edge|face|mark\w*)?colou?rs?|c|cmap|ec|fc|mfc|mec")
HEX_OR_CYCLE = r"#(?:[0-9a-fA-F]{3,4}){1,2}|C\d|tab:\w+"
CURVES = {"plot", "loglog", "semilogx", "semilogy", "errorbar", "fill"}
LETTER = r"(?=.*[bgrcmykw])[-.:,ov^<>sphHxXDdP+*|_bgrcmykw]{1,4}"  # "r--": a colour as a letter
IMAGE = re.compile(r"!\[([^\]]*)\]\([^)]+\)|(<img\b[^>]*>)")
LINK = re.compile(r"(?<!!)\[([^\]]+)\]\([^)]+\)|<a\b[^>]*>(.*?)</a>", re.DOTALL)
EMPTY_LINK = {"here", "this", "link", "click here", "this link", "more", "read more", "page"}
HUE = re.compile(r"\b(red|orange|yellow|green|blue|pink|purple|violet)\b", re.IGNORECASE)
THINGS = r" (?:curves?|lines?|dots?|points?|clouds?|bands?|bars?|arrows?)"
DRAWN = re.compile(HUE.pattern + THINGS, re.IGNORECASE)
KEY = re.compile(rf"\({HUE.pattern}\)|^\W*{HUE.pattern}:", re.IGNORECASE)  # of a caption
FORM = re.compile(
    r"\b(dashed|dotted|solid|thin|thick|small|large|light|dark|squares?|triangles?|crosses"
    r"|left|right|middle|upper|lower|top|bottom|row|panel|hatched|label\w*)\b"
)
SYMBOL = re.compile("[\u2600-\u27bf\U0001f300-\U0001faff]")


# --- colours as they are seen -------------------------------------------------------------------

# Machado, Oliveira and Fernandes (2009), "A physiologically-based model for simulation of color
# vision deficiency", severity 1; they act on linear light.
VISION = {
    "common": np.eye(3),
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}
TO_XYZ = np.array(  # linear sRGB to CIE XYZ, white D65; the middle row is the luminance
    [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339, 0.1191920, 0.9503041],
    ]
)


def light(colour) -> np.ndarray:
    """Linear light (r, g, b) of an sRGB colour."""
    c = np.array(mpl.colors.to_rgb(colour))
    return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)


def contrast(one, other="white") -> float:
    """The contrast ratio of WCAG, 1 to 21."""
    dark, bright = sorted(TO_XYZ[1] @ light(colour) + 0.05 for colour in (one, other))
    return float(bright / dark)


def lab(rgb: np.ndarray) -> np.ndarray:
    """CIELAB coordinates of linear light; distances in it are roughly those that are seen."""
    share = TO_XYZ @ rgb / (TO_XYZ @ np.ones(3))
    f = np.where(share > 216 / 24389, np.cbrt(share), (24389 / 27 * share + 16) / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def confused(colours, least: float = APART) -> Iterator[str]:
    """Pairs of colours that somebody cannot tell apart."""
    for vision, matrix in VISION.items():
        seen = {c: lab(np.clip(np.array(matrix) @ light(c), 0, 1)) for c in colours}
        for one, other in itertools.combinations(seen, 2):
            if (distance := np.linalg.norm(seen[one] - seen[other])) < least:
                yield f"{one} and {other} are {distance:.0f} apart in {vision} vision"


def faint(colours, least: float) -> Iterator[str]:
    """Colours that do not stand out on white."""
    for colour in colours:
        if (ratio := contrast(colour)) < least:
            yield f"{colour} has contrast {ratio:.1f} on white"


# --- laws of a figure ---------------------------------------------------------------------------


def by_colour_alone(axes: dict) -> Iterator[str]:
    """Things in one axes (see plot.describe) that differ in colour and in nothing else.

    Enough is another form, a size `THICKER` times as large, a contrast of 3:1 between the two, or a
    label for each in the picture itself. Bands and error bars belong to the curve of their colour.
    """
    drawn = axes["artists"]
    if any("looks" not in artist for artist in drawn.values()):
        yield "the figure does not say how its things look: run make execute"
        return
    bearers = {
        look[0] for kind in {"line", "points"} & drawn.keys() for look in drawn[kind]["looks"]
    }
    for kind, artist in drawn.items():
        looks = [look for look in artist["looks"] if look[1] != "map"]
        if kind in ("area", "segments"):
            looks = [look for look in looks if look[0] not in bearers]
        alike = [pair for pair in itertools.combinations(looks, 2) if _alike(*pair)]
        colours = {look[0] for pair in alike for look in pair}
        if len(colours) > len(axes["texts"]):
            yield f"{kind}: only colour tells {' from '.join(sorted(colours))}"


def _alike(one: list, other: list) -> bool:
    small, large = sorted((one[2], other[2]))
    return (
        one[0] != other[0]
        and one[1] == other[1]
        and large <= THICKER * small
        and contrast(one[0], other[0]) < GRAPHICS
    )


def unseen(outputs: list) -> Iterator[str]:
    """What a reader who does not see the pictures among a cell's outputs would miss."""
    for i, output in enumerate(outputs):
        data = output.get("data", {})
        if "image/png" not in data:
            continue
        alternative = output.metadata.get("image/png", {}).get("alt", "")
        said = re.sub(r"^(Figure|Fig\.?) \w+\.?", "", alternative)
        if len(said.split()) <= WORDS:
            yield f"a picture's text alternative says nothing: {alternative!r}"
        follows = outputs[i + 1].get("data", {}) if i + 1 < len(outputs) else {}
        if follows.get("text/markdown", "").replace("*", "") != alternative.replace("*", ""):
            yield f"no caption follows the picture {alternative[:20]!r}"


# --- laws of a code cell ------------------------------------------------------------------------


def own_colours(source: str) -> Iterator[str]:
    """Colours and colour maps of a figure's code that are not plot's, and too small letters."""
    for node in ast.walk(_tree(source)):
        if isinstance(node, ast.Constant) and re.fullmatch(HEX_OR_CYCLE, str(node.value)):
            yield f"colour {node.value!r} is not from plot's palette"
        for name, value in _named(node):
            if name == "fontsize" and isinstance(value, ast.Constant) and value.value < LETTERS:
                yield f"letters of {value.value} points are too small"
            if not COLOUR_ARGUMENT.fullmatch(name):
                continue
            allowed = MAPS if name == "cmap" else {"white", "none"}
            for said in _strings(value):
                if said not in allowed:
                    yield f"{name}={said!r} is not from plot's palette"
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") in CURVES:
            formats = [*node.args, *(k.value for k in node.keywords if k.arg == "fmt")]
            for said in (f.value for f in formats if isinstance(f, ast.Constant)):
                if re.fullmatch(LETTER, str(said)):
                    yield f"the format {said!r} names a colour"


def _tree(source: str) -> ast.AST:
    lines = (re.sub(r"^(\s*)[%!].*", r"\1pass", line) for line in source.splitlines())
    return ast.parse("\n".join(lines))


def _named(node: ast.AST) -> list[tuple[str, ast.AST]]:
    """Names and values of a keyword argument, or of a dictionary, which may become arguments."""
    if isinstance(node, ast.keyword):
        return [(node.arg, node.value)] if node.arg else []
    if isinstance(node, ast.Dict):
        pairs = zip(node.keys, node.values, strict=True)
        return [(str(k.value), value) for k, value in pairs if isinstance(k, ast.Constant)]
    if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "get_cmap":
        return [("cmap", argument) for argument in node.args]
    if isinstance(node, ast.Subscript) and getattr(node.value, "attr", "") == "colormaps":
        return [("cmap", node.slice)]
    return []


def _strings(node: ast.AST) -> list[str]:
    constants = (part for part in ast.walk(node) if isinstance(part, ast.Constant))
    return [part.value for part in constants if isinstance(part.value, str)]


def nameless(source: str) -> Iterator[str]:
    """Sliders whose name, which is their label, is no word."""
    for node in ast.walk(_tree(source)):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "").startswith("interact"):
            for keyword in node.keywords:
                if not re.fullmatch(r"[a-z]{3,}(_[a-z]+)*", keyword.arg or ""):
                    yield f"a slider is called {keyword.arg!r}"


# --- laws of a text -----------------------------------------------------------------------------


def unreadable(text: str) -> Iterator[str]:
    """What markdown conveys by a picture, a place or a symbol alone."""
    text = re.sub(r"```.*?```|`[^`\n]*`", "code", text, flags=re.DOTALL)
    for found in IMAGE.finditer(text):
        inside = re.search(r"\balt=[\"']([^\"']*)", found[2]) if found[2] else None
        said = found[1] if found[2] is None else inside[1] if inside else ""
        if len(said.split()) <= WORDS:
            yield f"a picture's text alternative says nothing: {said!r}"
    for found in LINK.finditer(text):
        said = re.sub(r"<[^>]*>|[*_]", "", found[1] or found[2]).strip()
        if said.lower() in EMPTY_LINK or len(said) < 3:
            yield f"the link {said!r} does not say where it leads"
    for table in re.findall(r"(?:^\|.*(?:\n|\Z))+", text, flags=re.MULTILINE):
        header, *rest = table.splitlines()
        cells = [cell.strip() for cell in header.strip("| \n").split("|")] if header else []
        # The first column's header may be empty: what stands below it names the rows.
        if not rest or not re.fullmatch(r"\|(\s*:?-+:?\s*\|)+\s*", rest[0]) or not all(cells):
            yield f"a table has no header row: {header!r}"
    for found in SYMBOL.finditer(text):
        yield f"the symbol {found[0]!r} is read aloud as its name, or not at all: say it in words"
    for sentence in re.split(r"(?<=[.;:!?])\s|\n", text):
        if DRAWN.search(sentence) and not FORM.search(sentence):
            yield f"a thing in a figure is named by its colour alone: {sentence!r}"


def named_by_colour(caption: str) -> Iterator[str]:
    """Parts of a caption that find a thing by its colour and not also by its form or place."""
    for part in re.split(r"[.;]\s", caption):
        if (KEY.search(part) or DRAWN.search(part)) and not FORM.search(part):
            yield f"the caption names a thing by its colour alone: {part!r}"


def skipped(text: str) -> Iterator[str]:
    """Headings of a page that are not in order (test_notebooks.py does it for lessons)."""
    level = 0
    for heading in re.findall(r"^#+ .*", re.sub(r"```.*?```", "", text, flags=re.DOTALL), re.M):
        deep = heading.index(" ")
        if deep > level + 1:
            yield f"skips a level of headings at {heading!r}"
        level = deep


# --- the course keeps them ----------------------------------------------------------------------


def breaches(notebook) -> list[str]:
    """All that a notebook conveys to some readers only; nothing: []."""
    found = []
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            found += unreadable(cell.source)
            continue
        found += [*own_colours(cell.source), *nameless(cell.source), *unseen(cell.outputs)]
        for output in cell.outputs:
            if "image/png" in output.get("data", {}):
                alternative = output.metadata.get("image/png", {}).get("alt", "")
                found += named_by_colour(alternative)
                for number, axes in enumerate(_described(output), 1):
                    found += [
                        f"{alternative[:10]} axes {number}: {b}" for b in by_colour_alone(axes)
                    ]
    return found


def _described(output) -> list[dict]:
    image = Image.open(io.BytesIO(base64.b64decode(output.data["image/png"])))
    return json.loads(image.text.get("Artists", "[]"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_lesson_is_accessible(path):
    found = breaches(nbformat.read(path, as_version=4))
    assert not found, "\n".join(found)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_page_is_accessible(path):
    text = path.read_text(encoding="utf-8")
    found = [*unreadable(text), *skipped(text)]
    assert not found, "\n".join(found)


def test_the_palette_is_told_apart_by_everybody():
    assert not list(confused((plot.INK, *plot.COLOURS)))


def test_the_palette_stands_out_on_white():
    assert not list(faint((plot.INK, plot.GREY, *plot.COLOURS), GRAPHICS))


def test_text_stands_out_on_white():
    keys = ("text.color", "axes.labelcolor", "axes.titlecolor", "xtick.color", "ytick.color")
    colours = {mpl.rcParams[key] for key in keys} - {"auto"}
    assert colours and not list(faint(colours, TEXT))
    assert not list(faint([mpl.rcParams["axes.edgecolor"]], GRAPHICS))


def test_the_first_curves_of_an_axes_differ_without_colour():
    fig, ax = plt.subplots()
    for k in range(4):
        ax.plot([0, 1], [k, k + 1])
    plot.band(ax, [0, 1], np.arange(4.0).reshape(2, 2), colour=plot.BLUE)
    (axes,) = plot.describe(fig)
    plt.close(fig)
    assert len({look[1] for look in axes["artists"]["line"]["looks"]}) == 4
    assert not list(by_colour_alone(axes))


@pytest.mark.parametrize("name", sorted(MAPS))
def test_the_colour_maps_are_read_in_grey(name):
    """Lightness changes in one direction, and steadily: no step is three times the mean step."""
    lightness = [lab(light(colour))[0] for colour in mpl.colormaps[name](np.linspace(0, 1, 33))]
    steps = np.diff(lightness)
    assert (steps > 0).all() or (steps < 0).all()
    assert np.abs(steps).max() < 3 * np.abs(steps).mean()


# --- the laws can fail --------------------------------------------------------------------------


def test_contrast_and_distance_are_the_published_ones():
    assert contrast("black") == pytest.approx(21) and contrast("white") == pytest.approx(1)
    assert contrast("#767676") == pytest.approx(4.54, abs=0.005)  # the guidelines' own limit grey
    assert lab(light("white")) == pytest.approx([100, 0, 0], abs=0.02)
    assert lab(light("#FF0000")) == pytest.approx([53.24, 80.09, 67.20], abs=0.05)
    for matrix in VISION.values():  # grey is seen as grey
        assert np.sum(matrix, axis=1) == pytest.approx(1, abs=1e-5)


def test_red_and_green_of_the_same_lightness_are_confused():
    assert any("deuteranopia" in pair for pair in confused(["#A06A00", "#7A7A00"]))
    assert not any("common" in pair for pair in confused(["#D62728", "#2CA02C"]))
    assert any("tritanopia" in pair for pair in confused(["#0080A0", "#008A60"]))


def test_the_palette_of_okabe_and_ito_would_be_too_pale_for_lines():
    published = ("#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7")
    assert len(list(faint(published, GRAPHICS))) == 3
    assert list(confused(published))


def drawn(*draw, labels=()):
    """The description of an axes in which each function has drawn."""
    fig, ax = plt.subplots()
    for one in draw:
        one(ax)
    for k, label in enumerate(labels):
        ax.text(k, k, label)
    (axes,) = plot.describe(fig)
    plt.close(fig)
    return axes


def curve(form="-", **look):
    return lambda ax: ax.plot([0, 1], [0, 1], form, **look)


def cloud(**look):
    return lambda ax: ax.scatter([0, 1], [1, 0], **look)


def bars(**look):
    return lambda ax: ax.bar([0, 1], [1, 2], **look)


def area(height, **look):
    return lambda ax: ax.fill_between([0, 1], [height, height], **look)


RED, BLUE = {"color": plot.RED}, {"color": plot.BLUE}


@pytest.mark.parametrize(
    "draw",
    [
        (curve(**RED), curve(**BLUE)),
        (curve("o", **RED), curve("o", **BLUE)),
        (curve(**RED, lw=1), curve(**BLUE, lw=1.4)),
        (cloud(**RED), cloud(**BLUE)),
        (bars(**RED), bars(**BLUE)),
        (area(1, **RED), area(2, **BLUE)),
    ],
)
def test_things_that_only_differ_in_colour_are_noticed(draw):
    assert any("only colour tells" in breach for breach in by_colour_alone(drawn(*draw)))
    assert not list(by_colour_alone(drawn(*draw, labels=("first", "second"))))


@pytest.mark.parametrize(
    "draw",
    [
        (curve(**RED), curve("--", **BLUE)),
        (curve("o", **RED), curve("s", **BLUE)),
        (curve(**RED, lw=1), curve(**BLUE, lw=2)),
        (curve(**RED), curve(color=plot.PALE)),
        (cloud(**RED), cloud(**BLUE, marker="s")),
        (cloud(**RED, s=4), cloud(**BLUE, s=16)),
        (bars(**RED), bars(**BLUE, hatch="//")),
        (curve(**RED), curve(**RED), bars(**BLUE)),
        (
            lambda ax: plot.band(ax, [0, 1], np.eye(2), colour=plot.RED),
            lambda ax: plot.band(ax, [0, 1], 2 * np.eye(2), colour=plot.BLUE),
        ),
    ],
)
def test_things_that_differ_in_more_than_colour_pass(draw):
    assert not list(by_colour_alone(drawn(*draw)))


@pytest.mark.parametrize(
    "source",
    [
        'ax.plot(x, y, color="red")',
        'ax.plot(x, y, c="C3")',
        'ax.plot(x, y, color="#ff0000")',
        'look = {"color": "tab:blue"}',
        'ax.imshow(x, cmap="jet")',
        'ax.imshow(x, cmap="rainbow")',
        'ax.bar(x, y, color=["green" if v else "none" for v in y])',
        'RED = "#F00"',
        'ax.plot(x, y, "r--")',
        'ax.errorbar(x, y, fmt="ko")',
        'colours = plt.get_cmap("hsv")(x)',
        'colours = mpl.colormaps["hsv"](x)',
        "%matplotlib inline\nax.legend(fontsize=8)",
        'label = {"fontsize": 7.5}',
    ],
)
def test_a_colour_of_ones_own_is_noticed(source):
    assert list(own_colours(source))


def test_colours_of_the_palette_pass():
    fine = 'ax.plot(x, y, color=plot.RED)\nax.imshow(x, cmap="viridis")\nlook = {"color": "white"}'
    assert not list(own_colours(fine + '\nax.set_title("a red line", fontsize=9)'))


def test_a_slider_without_a_word_is_noticed():
    assert list(nameless("interact(draw, g=(0, 1))"))
    assert not list(nameless("interact(draw, scale=(0, 1))"))


@pytest.mark.parametrize(
    "text, words",
    [
        ("![](a.png)", "text alternative says nothing: ''"),
        ("![Figure 3.](a.png)", "text alternative says nothing"),
        ('<img src="a.png">', "text alternative says nothing: ''"),
        ('<img src="a.png" alt="a plot">', "text alternative says nothing: 'a plot'"),
        ("See [here](a.md).", "link 'here'"),
        ("See [**this link**](a.md).", "link 'this link'"),
        ('<a href="a.md">click here</a>', "link 'click here'"),
        ("| | |\n|---|---|\n| a | b |", "no header row"),
        ("| a | b |\n| c | d |", "no header row"),
        ("Works: ✅", "symbol '✅'"),
        ("As the red curve shows, it falls.", "named by its colour alone"),
    ],
)
def test_a_text_for_some_readers_only_is_noticed(text, words):
    assert any(words in breach for breach in unreadable(text))


def test_a_text_for_all_readers_passes():
    text = """![A cloud of points becomes a spiral in seven panels](a.png) [Lesson 01](01.ipynb)
| | Time |\n|---|:-:|\n| a | b |\n\nThe dashed red curve falls. ```[here](x) ✅```"""
    assert not list(unreadable(text))


def test_a_skipped_heading_is_noticed():
    assert list(skipped("# One\n### Three")) and list(skipped("## Two"))
    assert not list(skipped("# One\n## Two\n```\n#### code\n```\n### Three\n## Two"))


@pytest.mark.parametrize(
    "caption",
    ["Samples (red) at 1.", "Left: a. The blue line is exact.", "Two runs. Blue: the first."],
)
def test_a_caption_for_some_readers_only_is_noticed(caption):
    assert list(named_by_colour(caption))
    assert not list(named_by_colour(re.sub("red|blue|Blue", "dotted", caption)))


def pictured(caption, *after):
    data = {"image/png": "", "text/plain": "x"}
    picture = new_output("display_data", data=data, metadata={"image/png": {"alt": caption}})
    text = [new_output("display_data", data={"text/markdown": line}) for line in after]
    return [picture, *text]


FALLING = "Figure 3. The loss falls over a thousand steps of training."


@pytest.mark.parametrize(
    "caption, after",
    [("", [""]), ("Figure 3.", ["**Figure 3.**"]), (FALLING, []), (FALLING, ["**Figure 4.** Or."])],
)
def test_a_picture_without_words_is_noticed(caption, after):
    assert list(unseen(pictured(caption, *after)))


def test_a_picture_with_words_passes():
    assert not list(unseen(pictured(FALLING, FALLING.replace("Figure 3.", "**Figure 3.**"))))


def test_every_law_of_a_notebook_is_asked():
    fig, ax = plt.subplots()
    curve(**RED)(ax), curve(**BLUE)(ax)
    png = base64.b64encode(plot.render(fig)).decode("ascii")
    plt.close(fig)
    (output,) = pictured("Samples (red).")
    output.data["image/png"] = png
    cell = new_code_cell('interact(f, g=1, color="red")', outputs=[output])
    found = "\n".join(breaches(new_notebook(cells=[new_markdown_cell("[here](a)"), cell])))
    laws = "link", "not from plot", "slider", "says nothing", "no caption", "the caption names"
    for words in (*laws, "only colour tells"):
        assert words in found
