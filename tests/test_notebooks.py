"""What every lesson keeps to, read from the file without running it (nbval runs it).

`breaches` gets a notebook, so that each law can be shown to fail on a small one.
"""

import ast
import base64
import importlib
import io
import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image

from minit2i.coursework.lesson import SKIPPED
from tools.execute import canonical

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
# The module of minit2i.checks that judges a lesson's exercises, by the lesson's number.
CHECKS = {
    "01": "forward",
    "02": "reverse",
    "03": "sampling",
    "04": "families",
    "05": "guidance",
    "06": "pictures",
}
EXERCISES = range(3, 7)
QUESTION = "## Written question (2 points)"
ANSWER = re.compile(r"<!-- BEGIN SOLUTION -->\n(.+)\n<!-- END SOLUTION -->", re.DOTALL)
WORDS = range(80, 151)  # of a model answer
KILOBYTES = 500
LINE = 100  # characters; JupyterLab breaks longer ones in mid-word in a window of 1280 pixels
PIXELS = 848  # the width of its page there
MARKER = re.compile(r"\b(BEGIN|END) SOLUTION\b")  # outside of a solution, nbgrader stops at one
OPENING = {  # what the first cell says, as a reader would look for it
    "the learning goals": r"\bgoals?\b|\byou will learn\b",
    "what is assumed": r"\bassum",
    "minutes on two CPU cores": r"^(?=.*\bCPU\b)(?=.*\b(minutes?|seconds?|min|s)\b).*\d",
    "minutes on a GPU": r"^(?=.*\bGPU\b)(?=.*\b(minutes?|seconds?|min|s)\b).*\d",
    "hours of study": r"^(?=.*\bstudy\b).*\bhours?\b",
}
WORK = re.compile(r"\bplot\.show\(|\binteract\(|\btrain\(")
UNCOMPARED = "nbval-ignore-output"
REFUSED_TAGS = {"nbval-skip", "raises-exception", "nbval-raises-exception"}
MACHINE_PATH = re.compile(r"(?<![\w.:/])(/(home|root|tmp|Users|usr|opt|mnt|work)/\w|[A-Z]:\\\w)")
LINK = re.compile(r"\]\(<?([^)\s>]+)>?[^)]*\)|<(?:img|a)[^>]*(?:src|href)=[\"']([^\"']+)")
SAME = 8  # nodes of a function's body from which on two alike are no coincidence


def breaches(notebook, name: str, text: str | None = None) -> list[str]:
    """All laws that this notebook breaks; none: []. `text` is the file, made here if not given."""
    text = nbformat.writes(notebook).rstrip("\n") + "\n" if text is None else text
    return [
        *_form(notebook, text),
        *_prose(notebook),
        *_comparison(notebook),
        *_exercises(notebook, CHECKS.get(name[:2])),
        *_skipped(notebook, CHECKS.get(name[:2])),
        *_written(notebook, CHECKS.get(name[:2])),
        *_copies(notebook),
        *_links(notebook),
    ]


def _code(notebook) -> list:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def _form(notebook, text: str) -> Iterator[str]:
    if nbformat.writes(canonical(notebook)).rstrip("\n") + "\n" != text:
        yield "is not in canonical form: run make execute"
    if len(text) > KILOBYTES * 1000:
        yield f"has {len(text) // 1000} kB, allowed are {KILOBYTES}"
    counts = [cell.execution_count for cell in _code(notebook)]
    if counts != list(range(1, len(counts) + 1)):
        yield f"was not executed from top to bottom: {counts}"
    outputs = [output for cell in _code(notebook) for output in cell.outputs]
    if any(output.output_type == "error" for output in outputs):
        yield "stores an error"
    for output in outputs:
        if "image/png" in output.get("data", {}):
            image = Image.open(io.BytesIO(base64.b64decode(output.data["image/png"])))
            if "Artists" not in image.text:
                yield "stores a figure that was not shown with plot.show"
            if image.width > PIXELS:
                yield f"stores a figure of {image.width} pixels, the page has {PIXELS}"
        for line in _printed(output):
            if len(line) > LINE:
                yield f"prints a line of {len(line)} characters: {line[:30]!r}"
    plain = json.dumps([cell.source for cell in notebook.cells], ensure_ascii=False)
    plain += json.dumps([o.get("text", o.get("data", {}).get("text/plain")) for o in outputs])
    if found := MACHINE_PATH.search(plain):
        yield f"holds a path of one machine: {found[0]}"


def _printed(output) -> list[str]:
    """The lines of an output that JupyterLab shows as text, not as a picture or as markdown."""
    data = output.get("data", {})
    if "image/png" in data or "text/markdown" in data:
        return []
    return (output.get("text") or data.get("text/plain", "")).splitlines()


def _prose(notebook) -> Iterator[str]:
    first = notebook.cells[0]
    if first.cell_type != "markdown":
        yield "does not begin with text"
    for what, pattern in OPENING.items():
        if not re.search(pattern, first.source, re.IGNORECASE | re.MULTILINE):
            yield f"does not say {what} in its first cell"
    level, titles = 0, 0
    for cell in notebook.cells:
        if cell.cell_type != "markdown":
            continue
        for line in re.sub(r"```.*?```", "", cell.source, flags=re.DOTALL).splitlines():
            if not (heading := re.match(r"(#{1,6}) \S", line)):
                continue
            if (deep := len(heading[1])) > level + 1:
                yield f"skips a level of headings at {line!r}"
            level, titles = deep, titles + (deep == 1)
    if titles != 1:
        yield f"has {titles} headings of the first level"


def _comparison(notebook) -> Iterator[str]:
    code = _code(notebook)
    ignored = [i for i, cell in enumerate(code) if UNCOMPARED in cell.metadata.get("tags", ())]
    if len(ignored) > len(code) / 5:
        yield f"leaves {len(ignored)} of {len(code)} cells uncompared, allowed is a fifth"
    for i in ignored:
        if i + 1 == len(code) or not re.search(r"\bassert\b|\bchecks\.", code[i + 1].source):
            yield f"cell [{i + 1}] is not compared and no assertion follows"
    for i, cell in enumerate(code, 1):
        if refused := REFUSED_TAGS & set(cell.metadata.get("tags", ())):
            yield f"cell [{i}] is tagged {refused.pop()}"
        if re.search(r"#\s*(NBVAL|PYTEST_VALIDATE)_", cell.source):
            yield f"cell [{i}] steers nbval by a comment: use a tag, which learners do not see"


def _exercises(notebook, module: str | None) -> Iterator[str]:
    graded = [
        (cell, cell.metadata.nbgrader) for cell in _code(notebook) if "nbgrader" in cell.metadata
    ]
    solutions = {mark.grade_id: cell for cell, mark in graded if mark.solution}
    checks = {mark.grade_id: cell for cell, mark in graded if mark.grade}
    if module is not None and len(solutions) not in EXERCISES:
        yield f"has {len(solutions)} exercises, wanted are {EXERCISES[0]} to {EXERCISES[-1]}"
    for i, cell in enumerate(notebook.cells):
        solution = cell.metadata.get("nbgrader", {}).get("solution")
        if not solution and (marker := MARKER.search(cell.source)):
            yield f"cell {i} is no solution and says {marker[0]}"
    if len(solutions) + len(checks) != len(graded) or len(set(solutions) | set(checks)) != len(
        graded
    ):
        yield "has a graded cell twice, or one that is neither solution nor check"
    for name, cell in solutions.items():
        if not re.search(
            r"### BEGIN SOLUTION\n.*\S.*\n\s*### END SOLUTION", cell.source, re.DOTALL
        ):
            yield f"exercise {name} does not mark its solution"
        if re.search(r"\bminit2i\b", cell.source):
            yield f"exercise {name} takes its solution from the package"
        if f"{name}_check" not in checks:
            yield f"exercise {name} has no check cell {name}_check"
    for name, cell in checks.items():
        exercise, mark = name.removesuffix("_check"), cell.metadata.nbgrader
        if not (mark.locked and mark.get("points", 0) > 0):
            yield f"{name} is not locked or has no points"
        if exercise not in solutions:
            yield f"{name} checks no solution"
        elif notebook.cells.index(cell) < notebook.cells.index(solutions[exercise]):
            yield f"{name} stands before its solution"
        if f"checks.{module}.{exercise}(" not in cell.source:
            yield f"{name} does not call checks.{module}.{exercise}"
        elif not hasattr(importlib.import_module(f"minit2i.checks.{module}"), exercise):
            yield f"minit2i.checks.{module} has no {exercise}"


def _skipped(notebook, module: str | None) -> Iterator[str]:
    """While grading, nothing trains or draws, and no cell that is run needs one that is not."""
    lost: set[str] = set()
    for i, cell in enumerate(_code(notebook) if module else (), 1):
        tags = cell.metadata.get("tags", ())
        if "nbgrader" in cell.metadata or "setup" in tags:
            continue
        plain = "\n".join(row for row in cell.source.splitlines() if row[:1] not in ("%", "!"))
        names = [n for n in ast.walk(ast.parse(plain)) if isinstance(n, ast.Name)]
        bound = {n.id for n in names if isinstance(n.ctx, ast.Store)}
        read = {n.id for n in names if isinstance(n.ctx, ast.Load)}
        if SKIPPED in tags:
            lost |= bound
        elif found := WORK.search(cell.source):
            yield f"cell [{i}] says {found[0]} and is not tagged {SKIPPED}"
        elif read & lost - bound:
            yield f"cell [{i}] is run for grading and needs {read & lost - bound}, which are not"
        else:
            lost -= bound


def _written(notebook, module: str | None) -> Iterator[str]:
    """One question for a lesson with exercises: text, answer, and only then the summary."""
    texts = [i for i, cell in enumerate(notebook.cells) if cell.cell_type == "markdown"]
    graded = [i for i in texts if "nbgrader" in notebook.cells[i].metadata]
    if len(graded) != (module is not None):
        yield f"has {len(graded)} written questions, wanted is {int(module is not None)}"
    for i in graded:
        cell = notebook.cells[i]
        mark = {"grade": True, "grade_id": f"{module}_written", "locked": False, "points": 2}
        mark |= {"cell_type": "markdown", "schema_version": 3, "solution": True, "task": False}
        if cell.metadata.nbgrader != mark:
            yield f"marks its written answer otherwise than {mark}"
        found = ANSWER.fullmatch(cell.source)
        if found is None:
            yield "has a written answer that is more than BEGIN SOLUTION, answer, END SOLUTION"
        elif len(found[1].split()) not in WORDS:
            count = len(found[1].split())
            yield f"answers in {count} words, wanted are {WORDS[0]} to {WORDS[-1]}"
        if i - 1 not in texts or not notebook.cells[i - 1].source.startswith(f"{QUESTION}\n"):
            yield "has a written answer without its question before it"
        if i + 1 not in texts or not notebook.cells[i + 1].source.startswith("## Summary\n"):
            yield "has no summary after the written answer"


def _copies(notebook) -> Iterator[str]:
    """An equality cell compares two derivations; a paste of the package's compares nothing."""
    for i, cell in enumerate(_code(notebook), 1):
        lines = (
            line for line in cell.source.splitlines() if not line.lstrip().startswith(("%", "!"))
        )
        for name, body in _bodies("\n".join(lines)):
            if body in _package():
                yield f"cell [{i}]: {name} is {_package()[body]} again"


def _bodies(source: str) -> Iterator[tuple[str, str]]:
    """Name and normal form of each function in `source` that is more than a trifle."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            if sum(1 for statement in body for _ in ast.walk(statement)) >= SAME:
                yield node.name, _normal_form(node, body)


def _normal_form(function: ast.FunctionDef, body: list[ast.stmt]) -> str:
    """The body, its own names numbered in order of appearance, without annotations."""
    copy = ast.parse(ast.unparse(ast.Module(body, [])))
    own = {node.arg for node in ast.walk(function) if isinstance(node, ast.arg)}
    stored = (node for node in ast.walk(function) if isinstance(node, ast.Name))
    own |= {node.id for node in stored if isinstance(node.ctx, ast.Store)}
    numbers: dict[str, str] = {}
    for node in _in_order(copy):
        if isinstance(node, ast.Name) and node.id in own:
            node.id = numbers.setdefault(node.id, f"v{len(numbers)}")
        if isinstance(node, ast.arg):
            node.arg, node.annotation = numbers.setdefault(node.arg, f"v{len(numbers)}"), None
    return ast.dump(copy)


def _in_order(node: ast.AST) -> Iterator[ast.AST]:
    yield node
    for child in ast.iter_child_nodes(node):
        yield from _in_order(child)


@cache
def _package() -> dict[str, str]:
    """Normal form of each function of the package but its judges, with where it stands."""
    return {
        body: f"{path.relative_to(ROOT)}: {name}"
        for path in (ROOT / "minit2i").rglob("*.py")
        if "checks" not in path.parts  # they hold known mistakes, which lessons show too
        for name, body in _bodies(path.read_text(encoding="utf-8"))
    }


def _links(notebook) -> Iterator[str]:
    for cell in notebook.cells:
        if cell.cell_type != "markdown":
            continue
        for found in LINK.finditer(
            re.sub(r"```.*?```|`[^`\n]*`", "", cell.source, flags=re.DOTALL)
        ):
            target = (found[1] or found[2]).split("#")[0]
            if not target or re.match(r"(https?|mailto|attachment|data):", target):
                continue
            if target.startswith("/") or not (ROOT / "notebooks" / target).exists():
                yield f"links to {target}, which is not there"


# --- the lessons --------------------------------------------------------------------------------


def test_lesson_00_is_there():
    assert "00_start_here.ipynb" in [path.name for path in NOTEBOOKS]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_lesson_keeps_the_laws(path):
    text = path.read_text(encoding="utf-8")
    found = breaches(nbformat.reads(text, as_version=4), path.name, text)
    assert not found, "\n".join(found)


def promised(name: str, first: str, readme: str) -> Iterator[str]:
    """What a lesson's first cell says otherwise than its row (Run, Study) in the README."""
    row = re.search(
        rf"\({re.escape(f'notebooks/{name}')}\).*\| (\d+) s \| (\S+) h \|$", readme, re.M
    )
    if row is None:
        yield f"{name} is not in the README's table"
        return
    if not re.search(rf"\b[Aa]bout {row[1]} s", first):
        yield f"{name} does not run about {row[1]} s, as the README says"
    if not re.search(rf"(?<![\d-]){row[2]} hour", first):
        yield f"{name} does not ask for {row[2]} hours, as the README says"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_lesson_and_the_readme_promise_the_same_time(path):
    first = nbformat.read(path, as_version=4).cells[0].source
    assert not list(promised(path.name, first, (ROOT / "README.md").read_text(encoding="utf-8")))


# --- the laws can fail --------------------------------------------------------------------------

FIRST = """# A lesson
**Goals.** To see. **Assumed.** Nothing. **Time.** 2 minutes on two CPU cores, 1 on a GPU.
**Study.** About two hours. See [the list](../pyproject.toml "why") and <https://arxiv.org>.
"""


def lesson():
    """A small notebook that keeps all laws."""
    cells = [
        new_markdown_cell(FIRST),
        new_markdown_cell("## One\n```\n#### not a heading\n```\n### Two"),
    ]
    for name in ("alpha_bar", "closed_form", "cosine"):
        mark = {"schema_version": 3, "cell_type": "code", "task": False}
        answer = f"    ### BEGIN SOLUTION\n    return x**2 + {len(name)}\n    ### END SOLUTION"
        solution = new_code_cell(f"def {name}(x):\n{answer}")
        mine = {"grade_id": name, "solution": True, "grade": False, "locked": False}
        solution.metadata["nbgrader"] = mark | mine
        check = new_code_cell(f"from minit2i import checks\nchecks.forward.{name}({name})")
        its = {"grade_id": f"{name}_check", "solution": False, "grade": True, "locked": True}
        check.metadata["nbgrader"] = mark | its | {"points": 1}
        cells += [solution, check]
    written = new_markdown_cell(
        f"<!-- BEGIN SOLUTION -->\n{'because ' * 99}\n<!-- END SOLUTION -->"
    )
    mark = {"schema_version": 3, "cell_type": "markdown", "task": False, "points": 2}
    its = {"grade_id": "forward_written", "solution": True, "grade": True, "locked": False}
    written.metadata["nbgrader"] = mark | its
    cells += [new_markdown_cell(f"{QUESTION}\nWhy?"), written, new_markdown_cell("## Summary\nSo.")]
    cells += [new_code_cell("print(1)", outputs=[new_output("stream", text="1\n")])]
    notebook = canonical(new_notebook(cells=cells))
    for i, cell in enumerate(notebook.cells):
        cell.id = f"c{i}"
    return numbered(notebook)


def numbered(notebook):
    """The notebook with execution counts as after a run."""
    for count, cell in enumerate(_code(notebook), 1):
        cell.execution_count = count
    return notebook


@pytest.fixture(autouse=True)
def judged(monkeypatch):
    """The small lesson's exercises exist, whatever the real ones are called."""
    forward = importlib.import_module("minit2i.checks.forward")
    for name in ("alpha_bar", "closed_form", "cosine"):
        monkeypatch.setattr(forward, name, None, raising=False)


def test_a_good_lesson_passes():
    assert breaches(lesson(), "01_good.ipynb") == []


def _first(change):
    def apply(notebook):
        notebook.cells[0].source = change(notebook.cells[0].source)

    return apply


def _cell(i, source=None, outputs=None, tags=None, **nbgrader):
    def apply(notebook):
        cell = notebook.cells[i]
        cell.source = cell.source if source is None else source
        if outputs is not None:
            cell.outputs = outputs
        if tags:
            cell.metadata["tags"] = tags
        if nbgrader:
            cell.metadata.nbgrader.update(nbgrader)

    return apply


def _drop(i):
    return lambda notebook: (notebook.cells.pop(i), numbered(notebook))


def _ask_again(notebook):
    notebook.cells.insert(10, nbformat.from_dict(notebook.cells[9]))
    notebook.cells[10].id = "again"


def _skip_what_is_needed(notebook):
    notebook.cells.insert(-1, new_code_cell("lost = 1", metadata={"tags": [SKIPPED]}))
    _cell(-1, source="print(lost)")(notebook)


def _shorten(cell):
    cell.source = cell.source.replace("because " * 20, "", 1)


def _order(notebook):
    notebook.cells[2], notebook.cells[3] = notebook.cells[3], notebook.cells[2]
    numbered(notebook)


PASTE = """def mine(a, n, e):
    "Another docstring."
    first, second = 1, 2
    return a * first + n * second - e"""
ERROR = [new_output("error", ename="E", evalue="", traceback=[])]
BIG = [new_output("stream", text="x" * 500_000)]
PIXEL = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg=="
)
PICTURE = [new_output("display_data", data={"image/png": PIXEL, "text/plain": "a"})]
LONG = [new_output("stream", text=f"ab\n{'c' * 101}\n")]
LONG_VALUE = [new_output("display_data", data={"text/plain": "c" * 101})]


def _wide():
    png = io.BytesIO()
    Image.new("L", (849, 1)).save(png, "png")
    encoded = base64.b64encode(png.getvalue()).decode("ascii")
    return [new_output("display_data", data={"image/png": encoded, "text/plain": "a"})]


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda n: n.metadata.update(widgets={}), "not in canonical form"),
        (lambda n: n.cells[-1].metadata.update(execution={"a": "b"}), "not in canonical form"),
        (_cell(-1, outputs=BIG), "kB, allowed are 500"),
        (lambda n: n.cells[-1].update(execution_count=9), "not executed from top to bottom"),
        (_cell(-1, outputs=ERROR), "stores an error"),
        (_cell(-1, outputs=PICTURE), "not shown with plot.show"),
        (_cell(-1, outputs=_wide()), "a figure of 849 pixels, the page has 848"),
        (_cell(-1, outputs=LONG), "prints a line of 101 characters: 'ccc"),
        (_cell(-1, outputs=LONG_VALUE), "prints a line of 101 characters: 'ccc"),
        (
            _cell(1, source="Write between ### BEGIN SOLUTION"),
            "cell 1 is no solution and says BEGIN",
        ),
        (_cell(3, source="### END SOLUTION"), "cell 3 is no solution and says END SOLUTION"),
        (_cell(-1, source="open('/home/me/x')"), "a path of one machine: /home/m"),
        (_cell(-1, outputs=[new_output("stream", text="in /tmp/a")]), "a path of one machine"),
        (_first(lambda s: s.replace("Goals", "Gaols")), "does not say the learning goals"),
        (_first(lambda s: s.replace("Assumed", "Known")), "does not say what is assumed"),
        (_first(lambda s: s.replace("CPU", "PC")), "does not say minutes on two CPU cores"),
        (_first(lambda s: s.replace("GPU", "PC")), "does not say minutes on a GPU"),
        (_first(lambda s: s.replace("hours", "days")), "does not say hours of study"),
        (_first(lambda s: s + "# Again"), "has 2 headings of the first level"),
        (_first(lambda s: s + "### Deep"), "skips a level of headings at '### Deep'"),
        (_first(lambda s: s + "[gone](none.md)"), "links to none.md"),
        (_first(lambda s: s + '<img src="none.png">'), "links to none.png"),
        (_first(lambda s: s + "[root](/etc/hosts)"), "links to /etc/hosts"),
        (lambda n: [_cell(i, tags=[UNCOMPARED])(n) for i in (2, 4)], "2 of 7 cells uncompared"),
        (_cell(3, tags=[UNCOMPARED]), "cell [2] is not compared and no assertion follows"),
        (_cell(-1, tags=[UNCOMPARED]), "cell [7] is not compared and no assertion follows"),
        (_cell(-1, tags=["nbval-skip"]), "cell [7] is tagged nbval-skip"),
        (_cell(-1, source="# NBVAL_IGNORE_OUTPUT\n1"), "steers nbval by a comment"),
        (lambda n: [_drop(2)(n) for _ in range(2)], "has 2 exercises, wanted are 3 to 6"),
        (_drop(3), "exercise alpha_bar has no check cell alpha_bar_check"),
        (_drop(2), "alpha_bar_check checks no solution"),
        (_order, "alpha_bar_check stands before its solution"),
        (_cell(3, locked=False), "alpha_bar_check is not locked"),
        (_cell(3, points=0), "alpha_bar_check is not locked or has no points"),
        (_cell(3, source="assert alpha_bar(1)"), "does not call checks.forward.alpha_bar"),
        (_cell(4, grade_id="alpha_bar"), "has a graded cell twice"),
        (_cell(2, source="def alpha_bar(x):\n    return x"), "does not mark its solution"),
        (_cell(2, source="from minit2i.schedule import Schedule"), "from the package"),
        (_drop(9), "has 0 written questions, wanted is 1"),
        (_ask_again, "has 2 written questions, wanted is 1"),
        (_drop(8), "a written answer without its question"),
        (_cell(8, source="## Question\nWhy?"), "a written answer without its question"),
        (_cell(9, points=3), "marks its written answer otherwise"),
        (_cell(9, locked=True), "marks its written answer otherwise"),
        (_cell(9, grade_id="reverse_written"), "marks its written answer otherwise"),
        (_cell(9, source="because " * 99), "more than BEGIN SOLUTION, answer, END SOLUTION"),
        (lambda n: _shorten(n.cells[9]), "answers in 79 words, wanted are 80 to 150"),
        (_drop(10), "has no summary after the written answer"),
        (_cell(-1, source="plot.show(fig)"), "says plot.show( and is not tagged skip-grading"),
        (_skip_what_is_needed, "is run for grading and needs {'lost'}, which are not"),
        (_cell(-1, source=PASTE), "cell [7]: mine is minit2i/m.py: theirs again"),
    ],
)
def test_a_breach_is_noticed(change, words, monkeypatch):
    theirs = PASTE.replace("mine", "theirs").replace("first", "one").replace("(a, n", "(a: int, m")
    theirs = theirs.replace("n * second", "m * second").replace("Another", "A")
    package = {body: f"minit2i/m.py: {name}" for name, body in _bodies(theirs)}
    monkeypatch.setattr(f"{__name__}._package", lambda: package)
    notebook = lesson()
    change(notebook)
    assert any(words in breach for breach in breaches(notebook, "01_bad.ipynb"))


def test_lines_and_captions_that_fit_pass():
    notebook = lesson()
    caption = {"text/markdown": "c" * 101, "text/plain": "c" * 101}
    fits = [new_output("stream", text=f"{'c' * 100}\n"), new_output("display_data", data=caption)]
    _cell(-1, outputs=fits)(notebook)
    assert breaches(notebook, "01_good.ipynb") == []


@pytest.mark.parametrize(
    "row, words",
    [
        ("| 01 | [A](notebooks/01_a.ipynb) | | 9 s | 3-4 h |", "does not run about 9 s"),
        ("| 01 | [A](notebooks/01_a.ipynb) | | 8 s | 4 h |", "does not ask for 4 hours"),
        ("| 01 | [A](notebooks/01_b.ipynb) | | 8 s | 3-4 h |", "is not in the README's table"),
    ],
)
def test_another_promise_in_the_readme_is_noticed(row, words):
    first = "**Run time.** About 8 seconds. **Study time.** 3-4 hours."
    assert any(words in breach for breach in promised("01_a.ipynb", first, row))
    same = "| 01 | [A](notebooks/01_a.ipynb) | | 8 s | 3-4 h |"
    assert not list(promised("01_a.ipynb", first, same))


def test_lessons_without_checks_need_no_exercises():
    notebook = lesson()
    notebook.cells = [notebook.cells[0], notebook.cells[-1]]
    assert breaches(numbered(notebook), "00_start_here.ipynb") == []


def test_lessons_without_checks_have_no_written_question():
    assert "has 1 written questions, wanted is 0" in breaches(lesson(), "00_start_here.ipynb")


def test_every_function_of_the_package_is_known_to_the_paste_detector():
    assert any(place == "minit2i/schedule.py: linear" for place in _package().values())
