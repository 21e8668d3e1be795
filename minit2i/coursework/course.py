"""The nbgrader course folder: student versions, the gradebook, feedback pages.

nbgrader does what it does well: it makes the student versions, keeps the gradebook and the marks
given by hand, and writes the feedback. It never runs a learner's code: what it finds in
`submitted/` is on the lesson's frame already and has been run by `runner`.
"""

import hashlib
import json
import logging
import os
import shutil
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

from minit2i.checkpoint import write
from minit2i.coursework.lesson import grade_id, is_solution, student_source

# Also found by nbgrader's own commands and its pages in JupyterLab, when started in the folder.
CONFIG = {
    "CourseDirectory": {"course_id": "minit2i"},
    "ClearSolutions": {
        "code_stub": {"python": "raise NotImplementedError  # your code"},
        "text_stub": "*Your answer: write it into this cell.*",
    },
    "GenerateAssignment": {  # nbgrader's own list, less what clears every output
        "preprocessors": [
            f"nbgrader.preprocessors.{name}"
            for name in (
                "LockCells ClearSolutions CheckCellMetadata ComputeChecksums SaveCells"
                " ComputeChecksums CheckCellMetadata"
            ).split()
        ]
    },
    "Autograde": {  # the submission has been put in order and run: its outputs are the judge's
        "sanitize_preprocessors": [
            f"nbgrader.preprocessors.{name}" for name in ("OverwriteCells", "CheckCellMetadata")
        ],
        "autograde_preprocessors": [
            f"nbgrader.preprocessors.{name}"
            for name in "LimitOutput SaveAutoGrades AssignLatePenalties CheckCellMetadata".split()
        ],
    },
    "GenerateFeedback": {  # a page is opened by others: no script of a learner's in it
        "preprocessors": [
            "nbgrader.preprocessors.GetGrades",
            "nbconvert.preprocessors.sanitize.SanitizeHTML",
            "nbconvert.preprocessors.CSSHTMLHeaderPreprocessor",
        ]
    },
    "SanitizeHTML": {
        "enabled": True,
        "tags": [
            *"a b br code em h2 i img li ol p pre strong sub sup".split(),
            *"table tbody td th thead tr ul".split(),
        ],
    },
}


@dataclass
class Mark:
    """What the gradebook holds on one graded cell of one submission."""

    student: str
    lesson: str
    cell: str
    auto: float | None
    manual: float | None
    of: float
    comment: str | None
    to_mark: bool  # there is no mark yet, or the answer has changed since it was marked

    @property
    def points(self) -> float:
        """The mark given by hand, else the judge's; 0 as long as there is neither."""
        return (self.auto or 0.0) if self.manual is None else self.manual


class Course:
    """A course folder as nbgrader lays it out, made where it is missing."""

    def __init__(self, folder: Path):
        self.folder = folder.resolve()
        self.folder.mkdir(parents=True, exist_ok=True)
        write(self.folder / "nbgrader_config.json", json.dumps(CONFIG, indent=2).encode())

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Work on the folder alone. Raises ValueError while another run does."""
        with (self.folder / "lock").open("w") as file:
            if fcntl is not None:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except OSError:
                    raise ValueError(f"another run works in {self.folder}: wait for it") from None
            yield

    # --- release ---

    def release(self, lessons: dict[str, Path]) -> list[str]:
        """Make the student versions of lessons, and enter their exercises into the gradebook.

        Gives the lessons whose exercises differ from those in the gradebook: what was graded
        before is graded again on the next run, and marks given by hand are kept.
        """
        changed = []
        for name, path in lessons.items():
            notebook = nbformat.read(path, as_version=4)
            if self._differs(name, notebook):
                self._set_aside(name)
                changed.append(name)
            source = self.folder / "source" / name
            _replace(source, name, student_source(notebook))
            self._convert("GenerateAssignment", name, force=True)
        return changed

    def lesson(self, name: str) -> NotebookNode:
        """The student version of a lesson: what a submission is put back onto."""
        path = self.folder / "release" / name / f"{name}.ipynb"
        if not path.exists():
            raise ValueError(f"lesson {name} is not released in {self.folder}: run make release")
        return nbformat.read(path, as_version=4)

    def points(self, name: str) -> float:
        """The points of a lesson, those given by hand included."""
        marks = (cell.metadata.get("nbgrader", {}) for cell in self.lesson(name).cells)
        return sum(float(mark["points"]) for mark in marks if mark.get("grade"))

    def released(self) -> list[str]:
        """The lessons of the folder."""
        return sorted(path.parent.name for path in (self.folder / "release").glob("*/*.ipynb"))

    def _differs(self, name: str, notebook: NotebookNode) -> bool:
        """Whether submissions were graded on other cells than this notebook's."""
        with self._gradebook() as book:
            if not any(lesson.name == name for lesson in book.assignments):
                return False
            known = book.find_notebook(name, name)
            cells = {cell.name for cell in known.source_cells}
            return bool(known.submissions) and cells != {*map(grade_id, notebook.cells)} - {None}

    def _set_aside(self, name: str) -> None:
        """Take a lesson out of the gradebook, of which a copy stays, and keep its manual marks."""
        shutil.copy2(self._database, _free(self.folder / "gradebook.before.db"))
        kept = [asdict(m) for m in self.marks() if m.lesson == name and _by_hand(m)]
        waiting = [mark for mark in self._waiting() if mark["lesson"] != name]
        write(self._aside, json.dumps(waiting + kept, indent=1).encode())
        with self._gradebook() as book:
            book.remove_assignment(name)
        for step in ("autograded", "feedback"):
            for folder in (self.folder / step).glob(f"*/{name}"):
                shutil.rmtree(folder)

    @property
    def _aside(self) -> Path:
        return self.folder / "manual_marks.json"

    def _waiting(self) -> list[dict]:
        return json.loads(self._aside.read_text(encoding="utf-8")) if self._aside.exists() else []

    # --- gradebook ---

    def enter(self, name: str, submissions: dict[str, NotebookNode]) -> list[str]:
        """Enter judged submissions of a lesson, by student, into the gradebook.

        Gives the students whose submission nbgrader could not take; the others are entered.
        """
        before = {student: self._answers(student, name) for student in submissions}
        for student, notebook in submissions.items():
            shutil.rmtree(self.folder / "autograded" / student / name, ignore_errors=True)
            _replace(self.folder / "submitted" / student / name, name, notebook)
        self._convert("Autograde", name)
        self._put_back(name)
        self._keep_marks(name, before)
        entered = {mark.student for mark in self.marks() if mark.lesson == name}
        failed = [student for student in submissions if student not in entered]
        for student in failed:  # nothing is left that a later run would take for graded
            for step in ("submitted", "autograded"):
                shutil.rmtree(self.folder / step / student / name, ignore_errors=True)
        return failed

    def _answers(self, student: str, name: str) -> dict[str, str]:
        """The answers of an entered submission, by their grade_id."""
        path = self.folder / "submitted" / student / name / f"{name}.ipynb"
        cells = nbformat.read(path, as_version=4).cells if path.exists() else []
        return {grade_id(cell): cell.source for cell in cells if is_solution(cell)}

    def _keep_marks(self, name: str, before: dict[str, dict[str, str]]) -> None:
        """Let a mark by hand stand without another look where the answer is the same as before."""
        with self._gradebook() as book:
            for submission in book.assignment_submissions(name):
                student = submission.student.id
                now = self._answers(student, name)
                for grade in submission.notebooks[0].grades:
                    cell = grade.name.removesuffix("_check")
                    same = before.get(student, {}).get(cell) == now.get(cell)
                    if student in before and grade.manual_score is not None and same:
                        grade.needs_manual_grade = False
            book.db.commit()

    def write_pages(self) -> list[tuple[str, str]]:
        """Write the feedback pages whose marks, comments or notebooks have changed.

        Gives the (student, lesson) whose page could not be written.
        """
        state: dict[str, str] = {}
        for mark in self.marks():
            key = f"{mark.student}/{mark.lesson}"
            stamp = self.record(mark.student, mark.lesson).get("stamp")
            state[key] = _digest([state.get(key), asdict(mark), stamp])
        record = self.folder / "pages.json"
        known = json.loads(record.read_text(encoding="utf-8")) if record.exists() else {}
        stale = [
            tuple(key.rsplit("/", 1))
            for key in state
            if state[key] != known.get(key) or not self.feedback(*key.rsplit("/", 1)).exists()
        ]
        for student, name in stale:
            shutil.rmtree(self.folder / "feedback" / student / name, ignore_errors=True)
        for name in sorted({name for _, name in stale}):
            self._convert("GenerateFeedback", name)
        write(record, json.dumps(state, indent=1).encode())
        return [(s, name) for s, name in stale if not self.feedback(s, name).exists()]

    def feedback(self, student: str, name: str) -> Path:
        """A student's page on a lesson."""
        return self.folder / "feedback" / student / name / f"{name}.html"

    def _put_back(self, name: str) -> None:
        """Give marks made by hand back to a lesson whose exercises have changed."""
        left = []
        with self._gradebook() as book:
            for mark in self._waiting():
                try:
                    grade = book.find_grade(mark["cell"], name, name, mark["student"])
                except Exception:  # nbgrader's MissingEntry: another lesson, or the cell is gone
                    left.append(mark)
                    continue
                grade.manual_score = mark["manual"]
                if mark["comment"] is not None:
                    cell = mark["cell"].removesuffix("_check")
                    comment = book.find_comment(cell, name, name, mark["student"])
                    comment.manual_comment = mark["comment"]
            book.db.commit()
        write(self._aside, json.dumps(left, indent=1).encode())

    def marks(self) -> list[Mark]:
        """Everything the gradebook holds."""
        found = []
        with self._gradebook() as book:
            for lesson in book.assignments:
                for submission in book.assignment_submissions(lesson.name):
                    (notebook,) = submission.notebooks
                    comments = {c.name: c.manual_comment for c in notebook.comments}
                    for g in notebook.grades:
                        found.append(
                            Mark(
                                student=submission.student.id,
                                lesson=lesson.name,
                                cell=g.name,
                                auto=g.auto_score,
                                manual=g.manual_score,
                                of=g.max_score,
                                comment=comments.get(g.name.removesuffix("_check")),
                                to_mark=g.needs_manual_grade,
                            )
                        )
        return sorted(found, key=lambda mark: (mark.student, mark.lesson))

    def submitted(self, name: str) -> list[Path]:
        """What has been judged of a lesson, as it was entered."""
        return sorted((self.folder / "submitted").glob(f"*/{name}/{name}.ipynb"))

    def record(self, student: str, name: str) -> dict[str, Any]:
        """What the judge wrote down about an entered submission; nothing if there is none."""
        path = self.folder / "autograded" / student / name / f"{name}.ipynb"
        try:
            return json.loads(path.read_text(encoding="utf-8"))["metadata"].get("minit2i", {})
        except (OSError, ValueError, KeyError):
            return {}

    def _convert(self, step: str, name: str, force: bool = False) -> None:
        """Run one of nbgrader's steps for all submissions of a lesson.

        What it says goes to nbgrader.log; a submission that fails does not stop the others.
        """
        with _around_nbgrader():
            from nbgrader import converters
            from nbgrader.converters.base import NbGraderException
            from nbgrader.coursedir import CourseDirectory
            from traitlets.config import Config
            from traitlets.log import get_logger

            logger = get_logger()
            handler = logging.FileHandler(self.folder / "nbgrader.log", encoding="utf-8")
            logger.addHandler(handler)
            propagates, logger.propagate = logger.propagate, False
            config = Config(CONFIG)
            where = CourseDirectory(config=config, root=str(self.folder), assignment_id=name)
            converter = getattr(converters, step)(coursedir=where, config=config)
            converter.force = force
            try:
                converter.start()
            except NbGraderException as error:
                if step == "GenerateAssignment":
                    raise ValueError(f"nbgrader cannot release {name}: {error}") from None
            finally:
                logger.propagate = propagates
                logger.removeHandler(handler)
                handler.close()

    @property
    def _database(self) -> Path:
        return self.folder / "gradebook.db"

    @contextmanager
    def _gradebook(self) -> Iterator[Any]:
        with _around_nbgrader():
            from nbgrader.api import Gradebook

            with Gradebook(f"sqlite:///{self._database}", "minit2i") as book:
                yield book


@contextmanager
def _around_nbgrader() -> Iterator[None]:
    """Let nbgrader find `alembic`, which it calls by name; undo what it does to the process."""
    programs, modules = os.environ.get("PATH", os.defpath), sys.path.copy()
    os.environ["PATH"] = os.pathsep.join((str(Path(sys.executable).parent), programs))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of its libraries among themselves
            yield
    finally:
        os.environ["PATH"] = programs
        sys.path[:] = modules  # with setuptools come older versions of other packages


def _replace(folder: Path, name: str, notebook: NotebookNode) -> None:
    """Put a notebook into a folder of its own, in the place of what was there."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    write(folder / f"{name}.ipynb", nbformat.writes(notebook).encode())


def _by_hand(mark: Mark) -> bool:
    """Whether a person has written something down here."""
    return mark.manual is not None or mark.comment is not None


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _free(path: Path) -> Path:
    """The first name like this one that is not taken."""
    number = 1
    while path.with_stem(f"{path.stem}.{number}").exists():
        number += 1
    return path.with_stem(f"{path.stem}.{number}")
