"""Made-up submissions: a lesson's notebook, and what a student might do to it."""

import ast
import copy
import functools
import inspect
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from minit2i.coursework.lesson import NOTEBOOKS, exercises, grade_id
from tests import mutants

ROOT = Path(__file__).parents[2]


@functools.cache
def _lesson(name: str) -> NotebookNode:
    return nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)


def solved(name: str) -> NotebookNode:
    """A lesson with every answer filled in, as a student hands it in; 1 = right."""
    return copy.deepcopy(_lesson(name))


def answered(name: str, **answers: str) -> NotebookNode:
    """The solved lesson with other answers to some exercises."""
    notebook = solved(name)
    for exercise, source in answers.items():
        cell(notebook, exercise).source = source
    return notebook


def cell(notebook: NotebookNode, name: str) -> NotebookNode:
    """The cell of this grade_id."""
    (found,) = [c for c in notebook.cells if grade_id(c) == name]
    return found


def after(notebook: NotebookNode, name: str, *new: NotebookNode) -> NotebookNode:
    """Put cells behind the cell of a grade_id."""
    at = notebook.cells.index(cell(notebook, name)) + 1
    notebook.cells[at:at] = new
    return notebook


def solution_of(name: str, exercise: str) -> str:
    """The course's own answer."""
    return cell(_lesson(name), exercise).source


def points(name: str) -> dict[str, float]:
    """What each exercise of a lesson is worth."""
    return {e.name: e.points for e in exercises(_lesson(name))}


def as_cell(answer: mutants.Answer) -> str | None:
    """A declared answer as the source of a cell; None if it cannot stand alone."""
    module = sys.modules[answer.answer.__module__]
    if not isinstance(answer.answer, type | type(as_cell)) or _closure(answer.answer):
        return None
    tree = ast.parse(inspect.cleandoc(inspect.getsource(answer.answer)))
    body = tree.body[0]
    if not isinstance(body, ast.FunctionDef | ast.ClassDef):
        return None
    body.decorator_list, body.name = [], answer.exercise
    top = ast.parse(inspect.getsource(module)).body
    imports = [n for n in top if isinstance(n, ast.Import | ast.ImportFrom) and _foreign(n)]
    helpers = [
        n
        for n in top
        if isinstance(n, ast.FunctionDef | ast.ClassDef | ast.Assign)
        and not getattr(n, "decorator_list", None)
    ]
    used, kept = _names(body), []
    for node in reversed(helpers):
        names = {node.name} if hasattr(node, "name") else _names(node, ast.Store)
        if names & used:
            used |= _names(node)
            kept.insert(0, node)
    return "\n".join(ast.unparse(node) for node in (*imports, *kept, body))


def _closure(answer: Callable) -> bool:
    return bool(getattr(answer, "__closure__", None))


def _foreign(node: ast.AST) -> bool:
    return not (getattr(node, "module", None) or "").startswith("tests")


def _names(node: ast.AST, kind: type = ast.Load) -> set[str]:
    return {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, kind)}


def put(folder: Path, student: str, name: str, content: NotebookNode | bytes | None) -> Path:
    """Hand in a notebook, or the bytes of a file, in nbgrader's layout."""
    path = folder / student / name / f"{name}.ipynb"
    path.parent.mkdir(parents=True)
    if content is not None:
        data = content if isinstance(content, bytes) else nbformat.writes(content).encode()
        path.write_bytes(data)
    return path


def make(target: str, *variables: str) -> str:
    """What a target of the Makefile says, with the Python that runs the tests."""
    command = ["make", "-s", target, "STAMP=", f"BIN={Path(sys.executable).parent}", *variables]
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "PYTEST"))}
    done = subprocess.run(command, cwd=ROOT, env=clean, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def line(text: str, words: str) -> str:
    """The line of a text that holds some words."""
    return next((row for row in text.splitlines() if re.search(words, row)), "")
