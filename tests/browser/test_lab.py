"""The course in JupyterLab as a reader meets it: `make lab`, Chromium, mouse and keys."""

import base64
import io
import os

import nbformat
import numpy as np
import pytest
from nbformat.v4 import new_code_cell, new_notebook
from PIL import Image
from playwright.sync_api import expect

from minit2i.coursework import workbook
from minit2i.coursework.lesson import lessons
from tests.browser.lab import Lab, lacking
from tests.nbfigures import figures
from tools.execute import canonical

if lacking() and os.environ.get("MINIT2I_BROWSER") != "required":
    pytest.skip(lacking(), allow_module_level=True)

LESSON = "01_forward_diffusion"
LEVELS = 5  # of 255: half a pixel's shift and a scaled width change a figure by up to 2


def stored(lab: Lab) -> int:
    """How many figures the file of the open notebook holds; a slider's is not there."""
    cells = nbformat.read(lab.notebook, as_version=4).cells
    return sum(len(figures(cell.get("outputs", []))) for cell in cells)


def rough(picture: Image.Image) -> np.ndarray:
    """A picture in large dots, on white where it is transparent."""
    white = Image.new("RGBA", picture.size, "white")
    opaque = Image.alpha_composite(white, picture.convert("RGBA")).convert("RGB")
    return np.asarray(opaque.resize((40, 20), Image.Resampling.BOX), dtype=float)


def faults(lab: Lab, count: int) -> list[str]:
    """What is wrong with a lesson that was run: in the file it is saved to, and on the page.

    `count` figures should be there.
    """
    found, notebook = [], lab.save()
    for i, cell in enumerate((c for c in notebook.cells if c.cell_type == "code"), 1):
        if cell.execution_count is None:
            found.append(f"code cell {i} did not run")
        for output in cell.outputs:
            if output.output_type == "error":
                found.append(f"code cell {i} stops: {output.ename}: {output.evalue}")
            look = output.get("metadata", {}).get("image/png", {})
            if figures([output]) and not look.get("alt"):
                found.append(f"code cell {i} has a figure without a text in its place")
    if (drawn := stored(lab)) != count:
        found.append(f"{drawn} figures were saved, not {count}")
    if (shown := lab.figures.count()) != count:
        found.append(f"{shown} figures are on the page, not {count}")
    for i in range(shown):
        if not lab.loaded(lab.figures.nth(i)):
            found.append(f"figure {i + 1} of the page is broken")
        if not lab.caption(lab.figures.nth(i)):
            found.append(f"figure {i + 1} of the page has no caption")
    return found + [f"the page stumbled: {problem}" for problem in lab.problems]


def test_a_lesson_runs_and_its_slider_changes_the_figure(lab):
    lab.open(f"notebooks/{LESSON}.ipynb")
    count = stored(lab)
    lab.run_all()
    found = faults(lab, count)
    assert not found, "\n".join(found)
    lab.slider.scroll_into_view_if_needed()
    lab.shoot("lesson")
    before = lab.moving.get_attribute("src")
    for _ in range(3):
        lab.slider.press("ArrowRight")
    lab.wait_until_other(lab.moving, before)
    lab.settle()
    lab.shoot("slider")
    assert lab.loaded(lab.moving)


def test_a_wrong_answer_gets_its_hint_and_the_right_one_passes(lab):
    workbook.put(lab.folder / "exercises", lessons(only=(LESSON,)))
    lab.open(f"exercises/{LESSON}.ipynb")
    assert not lab.page.get_by_text("Nbgrader", exact=True).count(), "a menu for instructors"
    lab.run(lab.code("from minit2i import checks"))
    answer = lab.code("def closed_form(x0, alpha_bar, eps):")
    check = lab.code("checks.forward.closed_form(closed_form)")

    lab.run(answer)
    assert "closed_form: not written yet" in lab.run(check)
    kept = "kept = alpha_bar.reshape(len(x0), *[1] * (x0.ndim - 1))"
    lab.type(answer, "raise NotImplementedError", f"{kept}\nreturn kept * x0 + (1 - kept) * eps")
    lab.run(answer)
    told = lab.run(check)
    lab.shoot("hint")
    assert "known mistake: both roots are missing" in told and "Hint: " in told
    assert "Traceback" not in told and "judge.py" not in told

    lab.type(answer, "return", "return kept**0.5 * x0 + (1 - kept) ** 0.5 * eps")
    lab.run(answer)
    told = lab.run(check)
    lab.shoot("passed")
    assert "properties hold" in told and "CheckFailed" not in told


def test_the_dark_theme_leaves_the_figures_as_they_are(lab):
    lab.open(f"notebooks/{LESSON}.ipynb", theme="JupyterLab Dark")
    assert lab.page.locator("body").get_attribute("data-jp-theme-light") == "false"
    count = stored(lab)
    expect(lab.figures).to_have_count(count)
    for i in range(count):
        figure = lab.figures.nth(i)
        shown = lab.picture(figure)
        if i == 0:
            lab.shoot("dark")
        png = base64.b64decode(figure.get_attribute("src").partition("base64,")[2])
        change = np.abs(rough(shown) - rough(Image.open(io.BytesIO(png)))).mean()
        assert change < LEVELS, f"figure {i + 1} looks other than it was drawn"


def test_a_lesson_that_stops_is_noticed(lab):
    cells = [new_code_cell(source) for source in ("a = 1", "a / 0", "a = 2")]
    nbformat.write(canonical(new_notebook(cells=cells)), lab.folder / "stops.ipynb")
    lab.open("stops.ipynb")
    lab.run_all()
    assert faults(lab, 1) == [
        "code cell 2 stops: ZeroDivisionError: division by zero",
        "code cell 3 did not run",
        "0 figures were saved, not 1",
        "0 figures are on the page, not 1",
    ]
