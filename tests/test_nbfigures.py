"""The comparison of notebooks: it passes what may change, and fails what may not.

One notebook holds every case, one per cell. It is executed once, its sources are then changed so
that they no longer give what is stored, and pytest runs it once.
"""

import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import nbformat
import numpy as np
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from minit2i import plot
from tests.nbfigures import compare_figure, compare_figures
from tools.execute import canonical, execute, write

ROOT = Path(__file__).parents[1]

SETUP = """
import matplotlib.pyplot as plt
import numpy as np
from tqdm.auto import tqdm
from minit2i import plot
x = np.linspace(0, 6, 200)

def draw(*curves, trained=False, title="Waves"):
    fig, ax = plt.subplots(figsize=(5, 3))
    for curve in curves:
        ax.plot(x, curve, linewidth=1)
    ax.set_title(title)
    plot.show(fig, "Figure 1. Waves.", trained=trained)
"""
BARE = """
import io
from IPython.display import Image, display
buffer = io.BytesIO()
fig = plt.figure()
fig.savefig(buffer)
plt.close(fig)
display(Image(buffer.getvalue(), format='png'))
"""
SLIDER = (
    "from ipywidgets import interact\ninteract(lambda k: print(k * np.random.rand()), k=(0, 3));"
)

# name: (source whose output is stored, source that runs under pytest, words of the failure or None)
CASES = {
    "set up": (SETUP, SETUP, None),
    "same text": ("print(0.5)", "print(1 / 2)", None),
    "another number": ("print(0.5)", "print(0.51)", "0.51"),
    "progress bar": (
        "for i in tqdm(range(3)): pass\nprint(i)",
        "for i in tqdm(range(3)): pass\nprint(i)",
        None,
    ),
    "bar longer": ("for i in tqdm(range(3)): pass", "for i in tqdm(range(9), 'later'): pass", None),
    "same figure": ("draw(np.sin(x), np.cos(x))", "draw(np.sin(x + 1e-7), np.cos(x))", None),
    "lost curve": ("draw(np.sin(x), np.cos(x))", "draw(np.sin(x))", "'line': 2}, now {'line': 1}"),
    "another curve": (
        "draw(np.sin(x), np.cos(x))",
        "draw(np.sin(x), np.cos(1.5 * x))",
        "of the picture",
    ),
    "another title": ("draw(x)", "draw(x, title='Lines')", "title was 'Waves'"),
    "trained, same": (
        "draw(np.exp(-x) + 0.1 * np.sin(40 * x), trained=True)",
        "draw(np.exp(-x) + 0.1 * np.sin(50 * x), trained=True)",
        None,
    ),
    "trained, lost curve": (
        "draw(x, x**2, trained=True)",
        "draw(x**2, trained=True)",
        "'line': 2}, now {'line': 1}",
    ),
    "trained, diverged": (
        "draw(x, trained=True)",
        "draw(5 * x, trained=True)",
        "y of line 1 ranged over",
    ),
    "trained, broken": ("draw(x, trained=True)", "draw(x * np.nan, trained=True)", "not finite"),
    "called trained": ("draw(x)", "draw(x, trained=True)", "was exact, is trained"),
    "no figure": ("draw(x)", "pass", "Missing output fields"),
    "two figures for one": ("draw(x)", "draw(x); draw(x)", "dissimilar number of outputs"),
    "not by plot.show": (BARE, BARE, "draw it with plot.show"),
    "slider": (SLIDER, SLIDER, None),
    "kernel dies": ("pass", "import os; os._exit(1)", "the kernel died"),
    "after its death": ("pass", "pass", "Kernel dead"),
}


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory):
    """What pytest says about each case: None, or the failure's message."""
    folder = tmp_path_factory.mktemp("cases")
    path = folder / "cases.ipynb"
    cells = [new_code_cell(stored) for stored, _, _ in CASES.values()]
    cells[list(CASES).index("slider")].metadata["tags"] = ["nbval-ignore-output"]
    write(new_notebook(cells=cells), path)
    notebook, _ = execute(path)
    for cell, (_, changed, _) in zip(notebook.cells, CASES.values(), strict=True):
        cell.source = changed
    write(notebook, path)
    report = folder / "report.xml"
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "tests.nbfigures"]
    options = ["-c", str(ROOT / "pyproject.toml"), f"--rootdir={folder}", f"--junit-xml={report}"]
    options += ["--nbval-cell-timeout=60", "-o", "faulthandler_timeout=90"]
    command += [*options, str(path)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert run.returncode == 1, run.stdout + run.stderr
    cases = ElementTree.parse(report).iter("testcase")
    results = ["".join(part.text for part in case) or None for case in cases]
    return dict(zip(CASES, results, strict=True))


@pytest.mark.parametrize("name", CASES)
def test_the_comparison_says(verdicts, name):
    _, _, words = CASES[name]
    if words is None:
        assert verdicts[name] is None
    else:
        assert verdicts[name] is not None, "this passed"
        assert words in verdicts[name]


def test_executing_twice_gives_the_same_bytes(tmp_path):
    path = tmp_path / "twice.ipynb"
    loud = "import sys, time\nfor i in range(20):\n    print(i, flush=True)\n    time.sleep(0.005)"
    both = "print('out')\nprint('trouble', file=sys.stderr)\n"
    both += "from tqdm import tqdm as console\nfor i in console(range(3)): pass"
    sources = [SETUP, loud, both, "draw(np.sin(x))", SLIDER, "2 + 2"]
    write(new_notebook(cells=[new_code_cell(source) for source in sources]), path)
    stored = []
    for _ in range(2):
        notebook, seconds = execute(path)
        assert len(seconds) == len(sources) and min(seconds) > 0
        write(notebook, path)
        stored.append(path.read_bytes())
    assert stored[0] == stored[1]
    assert b"widget" not in stored[0].replace(b"ipywidgets", b"") and b"it/s" not in stored[0]
    assert [cell.execution_count for cell in notebook.cells] == [1, 2, 3, 4, 5, 6]
    assert canonical(notebook) == notebook


def test_a_failing_cell_leaves_the_file_as_it_was(tmp_path):
    path = tmp_path / "fails.ipynb"
    write(new_notebook(cells=[new_code_cell("print('first')"), new_code_cell("1 / 0")]), path)
    before = path.read_bytes()
    run = subprocess.run(
        [sys.executable, str(ROOT / "tools" / "execute.py"), str(path)],
        capture_output=True,
        text=True,
    )
    assert run.returncode == 1
    assert "ZeroDivisionError" in run.stderr and "1 / 0" in run.stderr
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_canonical_keeps_tags_ids_and_marks_and_drops_the_rest():
    grading = {"grade_id": "a", "points": 2}
    cell = new_code_cell(
        "1", id="kept", metadata={"tags": ["t"], "nbgrader": grading, "execution": {"a": "b"}}
    )
    old = new_notebook(
        cells=[cell],
        metadata={"widgets": {"state": {}}, "language_info": {"name": "python", "version": "3.9"}},
    )
    new = canonical(old)
    assert new.cells[0].id == "kept"
    assert new.cells[0].metadata == {"tags": ["t"], "nbgrader": grading}
    assert new.metadata.language_info == {"name": "python"} and "widgets" not in new.metadata
    nbformat.validate(new)


def picture(draw, trained=False, **size):
    """A figure's PNG; `draw` gets the axes."""
    fig, ax = plot.plt.subplots(**size)
    draw(ax)
    png = plot.render(fig, trained)
    plot.plt.close(fig)
    return png


X = np.linspace(0, 1, 300)


def test_a_thin_curve_hidden_from_the_description_is_seen_in_the_pixels():
    """The same artists over the same ranges, but one of them in white."""
    colours = [
        picture(lambda ax, c=c: (ax.plot(X, np.sin(9 * X)), ax.plot(X, X, color=c, linewidth=0.7)))
        for c in ("tab:red", "white")
    ]
    (difference,) = compare_figure(*colours)
    assert "of the picture differs" in difference


@pytest.mark.parametrize("shift", [1e-6, 1e-4])
def test_float_noise_passes_as_exact(shift):
    noisy = [
        picture(lambda ax, s=s: (ax.plot(X, np.sin(9 * X + s)), ax.scatter(X + s, X**2, s=3)))
        for s in (0, shift)
    ]
    assert compare_figure(*noisy) == []


def test_ranges_on_a_log_axis_are_compared_as_they_look():
    """On a linear scale, 1e-6 and 1e-3 are the same beside 1."""

    def loss(last):
        return picture(lambda ax: ax.semilogy([0, 1, 2], [1, 0.1, last]), trained=True)

    assert compare_figure(loss(1e-4), loss(2e-4)) == []
    assert "y of line 1" in compare_figure(loss(1e-6), loss(1e-2))[0]


def test_a_collapsed_cloud_fails_as_trained():
    rng = np.random.default_rng(0)
    first, again = rng.normal(size=(2, 500, 2))
    clouds = [
        picture(lambda ax, c=c: plot.points(ax, c), trained=True)
        for c in (first, again, again * 0.1)
    ]
    assert compare_figure(clouds[0], clouds[1]) == []
    assert "points 1 ranged over" in compare_figure(clouds[0], clouds[2])[0]


def test_the_number_of_figures_counts():
    png = picture(lambda ax: ax.plot(X, X))
    assert compare_figures([png], [png]) == []
    assert compare_figures([png], []) == ["1 figures are stored, 0 were drawn"]


def test_another_size_fails():
    pair = [picture(lambda ax: ax.plot(X, X), figsize=size) for size in ((4, 3), (4, 3.2))]
    assert compare_figure(*pair) == ["was (340, 255) pixels, is (340, 272)"]
