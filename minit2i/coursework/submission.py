"""What was handed in: found, read with care, and put back onto the lesson's frame.

Only what a learner may change is taken from a submission: the cells to fill, the cells that are
not graded, and cells of the learner's own. Everything locked comes from the lesson itself, so a
deleted, edited or copied check, a changed id or a moved cell cannot win or lose points by itself.
"""

import copy
import json
import re
import stat
from dataclasses import dataclass, field
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from minit2i.coursework.lesson import grade_id, is_check, is_setup, is_solution

LONGEST = 20_000  # characters of text in one cell: converting it takes more than linear time
LARGEST = 20_000_000  # bytes; the largest lesson with its outputs has half a million


# What no answer needs, and what an attack on the judge, or a copy of its own answers, begins with.
SUSPECT = re.compile(
    r"\bchecks\b|\b_getframe\b|\bf_(?:locals|back|globals)\b|\bgc\b|\bctypes\b|\bmarshal\b"
    r"|\b_?thread(?:ing)?\b|\bset(?:profile|trace)\b|__(?:code|closure|globals|subclasses)__"
    r"|\bcell_contents\b|\bTorchFunctionMode\b|\btorch\.library\b|\b_orig_sys_modules\w*"
    r"|(?<!\.)\b(?:exec|eval|compile)(?=\()"
)


class Unreadable(ValueError):
    """A file that is no notebook; the message is written for learner and instructor."""


@dataclass
class Submission:
    """A notebook on the lesson's frame, and what had to be put right, in words for the learner."""

    notebook: NotebookNode
    notes: list[str] = field(default_factory=list)
    unreadable: bool = False


def find(folder: Path, lesson: str) -> tuple[Path | None, list[str]]:
    """The notebook in a student's `folder` for a lesson, with notes; None if there is none.

    Looked for are LESSON/LESSON.ipynb and LESSON.ipynb; else one notebook of another name in
    LESSON/, or one whose name begins with LESSON, as of a second download.
    """
    if (folder / lesson).is_symlink():
        return None, ["The folder is a link: hand in the notebook itself."]
    for path in (folder / lesson / f"{lesson}.ipynb", folder / f"{lesson}.ipynb"):
        if path.is_symlink() or path.exists():
            return path, []
    others = sorted([*(folder / lesson).glob("*.ipynb"), *folder.glob(f"{lesson}*.ipynb")])
    if len(others) == 1:
        return others[0], [f"The file was called {others[0].name} instead of {lesson}.ipynb."]
    if others:
        names = ", ".join(path.name for path in others)
        return None, [f"There are {len(others)} notebooks and none is {lesson}.ipynb: {names}."]
    return None, []


def read(path: Path) -> NotebookNode:
    """A notebook in today's format, without trusting the file. Raises Unreadable."""
    try:
        status = path.lstat()
    except OSError as error:
        raise Unreadable(f"The file cannot be opened: {error.strerror}.") from None
    if not stat.S_ISREG(status.st_mode):
        raise Unreadable("This is a link or a folder, not a file: hand in the notebook itself.")
    if status.st_size > LARGEST:
        size = f"{status.st_size / 1e6:.0f} MB, allowed are {LARGEST / 1e6:.0f} MB"
        raise Unreadable(f"The file is too large ({size}): clear the outputs and hand in again.")
    try:
        text = path.read_bytes().decode("utf-8-sig")
        notebook = nbformat.reads(json.dumps(_with_ids(json.loads(text))), as_version=4)
        for cell in notebook.cells:
            cell.source = _clean(cell.source)
            marks = cell.metadata.get("nbgrader")
            if not isinstance(marks, dict) or not isinstance(marks.get("grade_id"), str):
                cell.metadata.pop("nbgrader", None)
            if cell.cell_type == "markdown" and len(cell.source) > LONGEST:
                cell.source = cell.source[:LONGEST] + " ... (cut)"
            cell.cell_type, cell.metadata  # noqa: B018 - what is used below is there
        nbformat.writes(notebook)
    except UnicodeDecodeError:
        raise Unreadable("The file is not text in UTF-8: save it with JupyterLab.") from None
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}"
        raise Unreadable(f"The file is no notebook (not JSON in {where}: {error.msg}).") from None
    except Exception as error:  # nbformat and its schema have many
        why = " ".join(str(error).split())[:120]
        raise Unreadable(f"The file is no notebook ({type(error).__name__}: {why}).") from None
    return notebook


def _with_ids(content: dict) -> dict:
    """Give every cell an id of its own: copies share one, other programs leave them out."""
    if content.get("nbformat") == 4:
        content["nbformat_minor"] = max(content.get("nbformat_minor", 0), 5)
        seen: set[str] = set()
        for number, cell in enumerate(content["cells"]):
            if not isinstance(cell.get("id"), str) or cell["id"] in seen:
                cell["id"] = f"copy-{number}"
            seen.add(cell["id"])
    return content


def _clean(source: str) -> str:
    """A source with Unix line ends, and without characters that cannot be written to a file."""
    text = "".join(source) if isinstance(source, list) else source
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "")
    return text.encode("utf-8", "replace").decode("utf-8")


def restore(lesson: NotebookNode, handed_in: NotebookNode) -> Submission:
    """Put what was handed in back onto its lesson: the cells of the lesson, in its order.

    A learner's own cells stay behind the cell that they followed, and lose what would make them
    count as one of the lesson's. A solution whose id was changed therefore still comes before its
    check.
    """
    lesson = copy.deepcopy(lesson)
    frame = {cell.id: cell for cell in lesson.cells}
    by_grade = {grade_id(cell): cell.id for cell in lesson.cells if grade_id(cell)}
    theirs: dict[str, NotebookNode] = {}  # a cell of the lesson -> what the learner made of it
    own: dict[str | None, list[NotebookNode]] = {}  # a cell of the lesson -> what follows it
    notes, anchor = [], None
    for cell in handed_in.cells:
        key = by_grade.get(grade_id(cell)) or (cell.get("id") if cell.get("id") in frame else None)
        key = key or _same_source(cell, frame, theirs)
        if key is None or key in theirs:
            if key is not None and is_check(frame[key]):
                notes.append(f"A copy of the check {_name(frame[key])} was left out.")
                continue
            if key is not None and is_solution(frame[key]):
                notes.append(f"The cell of {_name(frame[key])} is there twice; both were run.")
            own.setdefault(anchor, []).append(_own(cell, sum(map(len, own.values())) + 1))
            continue
        theirs[key] = cell
        anchor = key
    cells = own.get(None, [])
    for key, cell in frame.items():
        stub = cell.source
        merged = _merged(cell, theirs.get(key), notes)
        follow = own.get(key, [])
        if is_solution(cell) and cell.cell_type == "markdown" and cell.source == stub:
            below = [one for one in follow if one.cell_type == "markdown"]
            if below:
                notes.append(f"The answer of {_name(cell)} stood in a cell below its own.")
                cell.source = "\n\n".join(one.source for one in below)
        cells += merged + follow
    lesson.cells = cells
    if not any(key in theirs for key, cell in frame.items() if is_solution(cell)):
        notes = ["None of this lesson's answer cells is in the file: is it the right lesson?"]
    return Submission(lesson, notes)


def _name(cell: NotebookNode) -> str:
    return (grade_id(cell) or cell.id).removesuffix("_check")


def _same_source(cell: NotebookNode, frame: dict, taken: dict) -> str | None:
    """The lesson's cell with this text: converters drop the ids and nbgrader's marks."""
    text = cell.source.strip()
    for key, mine in frame.items():
        if key not in taken and mine.cell_type == cell.cell_type and mine.source.strip() == text:
            return key if text else None
    return None


def _own(cell: NotebookNode, number: int) -> NotebookNode:
    """A cell of the learner's own, without marks, under an id that no lesson uses."""
    make = {"code": nbformat.v4.new_code_cell, "markdown": nbformat.v4.new_markdown_cell}
    return make.get(cell.cell_type, nbformat.v4.new_raw_cell)(cell.source, id=f"own-{number}")


def _merged(cell: NotebookNode, theirs: NotebookNode | None, notes: list[str]) -> list:
    """The lesson's cell with what the learner may change; nothing for a cell that was deleted."""
    if theirs is None:
        if is_check(cell):
            notes.append(f"The check of {_name(cell)} was deleted; it was put back.")
        elif is_solution(cell):
            notes.append(f"The cell of {_name(cell)} is missing, or its id was changed.")
            _empty(cell)
        elif not is_setup(cell):
            return []
        else:
            notes.append("The set-up cell was deleted; it was put back.")
    elif is_check(cell):
        if theirs.source.strip() != cell.source.strip():
            notes.append(f"The check of {_name(cell)} was edited; the lesson's own was run.")
    else:
        if theirs.cell_type != cell.cell_type:
            notes.append(
                f"The cell of {_name(cell)} was a {theirs.cell_type} cell; it was read as"
                f" {cell.cell_type}."
            )
        cell.source = theirs.source
        if (
            is_solution(cell)
            and cell.cell_type == "code"
            and (found := SUSPECT.search(cell.source))
        ):
            why = f"uses {found[0]}, which no answer needs: a person should look at it"
            notes.append(f"The answer of {_name(cell)} {why}.")
    if cell.cell_type == "code":
        cell.outputs, cell.execution_count = [], None
    return [cell]


def _empty(cell: NotebookNode) -> None:
    """No answer: a stub of code would undo an answer in another cell; one of text stays as it is,
    for by it nbgrader knows that nothing was written."""
    if cell.cell_type == "code":
        cell.source = ""


def blank(lesson: NotebookNode, why: str) -> Submission:
    """What stands for a file that cannot be read: the lesson without any answer."""
    frame = copy.deepcopy(lesson)
    for cell in frame.cells:
        if is_solution(cell):
            _empty(cell)
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    return Submission(frame, [why], unreadable=True)
