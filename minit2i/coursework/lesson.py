"""The exercises of a notebook, and the version of it that learners get."""

import ast
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import nbformat
from nbformat import NotebookNode

ROOT = Path(__file__).parents[2]
NOTEBOOKS = ROOT / "notebooks"
SKIPPED = "skip-grading"  # tag of cells that no graded cell needs: live training, figures


@dataclass(frozen=True)
class Exercise:
    """A graded exercise: the cell that a learner fills, and the locked cell that judges it."""

    name: str
    points: float
    solution: NotebookNode
    check: NotebookNode


def grade_id(cell: NotebookNode) -> str | None:
    """nbgrader's name of a cell: unique among a notebook's graded cells and solutions."""
    return cell.metadata.get("nbgrader", {}).get("grade_id")


def is_solution(cell: NotebookNode) -> bool:
    """Whether a learner fills this cell: code or, in a written question, text."""
    return bool(cell.metadata.get("nbgrader", {}).get("solution"))


def is_check(cell: NotebookNode) -> bool:
    """Whether this is a locked cell whose outcome gives the points."""
    marks = cell.metadata.get("nbgrader", {})
    return bool(marks.get("grade")) and not marks.get("solution")


def is_setup(cell: NotebookNode) -> bool:
    """Whether this is the lesson's first code cell, which all others need."""
    return "setup" in cell.metadata.get("tags", ())


def exercises(notebook: NotebookNode) -> list[Exercise]:
    """The exercises that are judged by code, in order: NAME is the answer, NAME_check its check."""
    solutions = {grade_id(cell): cell for cell in notebook.cells if is_solution(cell)}
    found = []
    for check in filter(is_check, notebook.cells):
        name = grade_id(check).removesuffix("_check")
        found.append(Exercise(name, float(check.metadata.nbgrader.points), solutions[name], check))
    return found


def lessons(folder: Path = NOTEBOOKS, only: tuple[str, ...] = ()) -> dict[str, Path]:
    """The notebooks of a folder by name; `only` takes names or their beginnings, as "01".

    Raises ValueError for a beginning that fits none, and for a folder without notebooks.
    """
    found = {path.stem: path for path in sorted(folder.glob("*.ipynb"))}
    if not found:
        raise ValueError(f"no notebooks in {folder}")
    for word in only:
        if not any(name.startswith(word) for name in found):
            raise ValueError(f"no lesson {word!r}; there are {', '.join(found)}")
    return {n: p for n, p in found.items() if not only or n.startswith(only)}


def graded(folder: Path = NOTEBOOKS, only: tuple[str, ...] = ()) -> dict[str, Path]:
    """Those lessons that have exercises."""
    every = lessons(folder, only)
    return {n: p for n, p in every.items() if exercises(nbformat.read(p, as_version=4))}


def student_source(notebook: NotebookNode) -> NotebookNode:
    """A copy without the outputs of solution and check cells; the solutions are still in it."""
    copy = deepcopy(notebook)
    for cell in copy.cells:
        if cell.cell_type == "code" and grade_id(cell):
            cell.outputs, cell.execution_count = [], None
    return copy


def definitions(source: str) -> str:
    """The imports, functions and classes of a cell that is skipped: learners may use them.

    Nothing of a cell that Python cannot parse (magics, an error).
    """
    try:
        body = ast.parse(source).body
    except (SyntaxError, ValueError):
        return ""
    kept = ast.Import | ast.ImportFrom | ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
    return "\n\n".join(ast.unparse(node) for node in body if isinstance(node, kept))
