"""A class from submissions to marks: `python -m minit2i grade FOLDER`."""

import csv
import functools
import hashlib
import io
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from html import escape
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode
from tqdm import tqdm

from minit2i import checks
from minit2i.checkpoint import write
from minit2i.checks.errors import told
from minit2i.coursework import isolate as isolation
from minit2i.coursework.course import Course, Mark
from minit2i.coursework.lesson import grade_id, is_solution
from minit2i.coursework.runner import Limits, Report, ready, run, unjudged
from minit2i.coursework.submission import (
    LARGEST,
    Submission,
    Unreadable,
    blank,
    find,
    read,
    restore,
)

SUMMARY = "graded"  # id of the cell that says what was graded
UNHELD = (
    "This system has no Landlock: submissions were confined by Python alone, which compiled code"
    " escapes. For a class that you do not know use --isolate."
)


@dataclass(frozen=True)
class Work:
    """One notebook to grade; without a path, why there is none."""

    student: str
    lesson: str
    path: Path | None
    notes: tuple[str, ...] = ()
    earlier: bool = False  # from a former run: graded again only where the lesson has changed


@dataclass(frozen=True)
class Outcome:
    """What a run of `grade` did."""

    graded: int
    unchanged: int
    problems: tuple[str, ...]  # submissions that could not be graded as they are, and why


def grade(
    submissions: Path,
    course: Course,
    only: tuple[str, ...] = (),
    limits: Limits | None = None,
    seed: int = 0,
    jobs: int = 2,
    isolate: str | None = None,
    again: bool = False,
) -> Outcome:
    """Grade a folder of submissions into a course folder.

    `submissions` holds STUDENT/LESSON/LESSON.ipynb, nbgrader's layout, or STUDENT/LESSON.ipynb.
    What has been graded before and has not changed is left alone, unless `again`. Raises
    ValueError for a folder without submissions; whatever one submission does, the others go on.
    """
    isolation.check(isolate)
    limits = limits or Limits()
    with course.alone():
        frames = _frames(course, only)
        work = _work(submissions, course, list(frames))
        hidden = (course.folder, submissions.resolve())
        grader = _Grader(course, frames, limits, seed, isolate, hidden)
        todo = [w for w in work if again or grader.changed(w)]
        problems = list(_unclaimed(submissions, course.released()))
        if todo and not ready(isolate, limits) and isolate is None:
            problems.append(UNHELD)
        done, interrupted = grader.judge(todo, jobs, problems)
        for lesson, notebooks in sorted(done.items()):
            for student in course.enter(lesson, notebooks):
                problems.append(f"{student}, {lesson}: nbgrader failed, see nbgrader.log")
        save(course)
        for student, lesson in course.write_pages():
            problems.append(f"{student}, {lesson}: no feedback page, see nbgrader.log")
    graded = sum(map(len, done.values()))
    if interrupted:
        raise ValueError(f"stopped: {graded} of {len(todo)} are graded, run it again to go on")
    return Outcome(graded, len(work) - len(todo), tuple(sorted(problems)))


def _frames(course: Course, only: tuple[str, ...]) -> dict[str, NotebookNode]:
    """The released lessons that are to be graded."""
    frames = {n: course.lesson(n) for n in course.released() if not only or n.startswith(only)}
    if not frames:
        raise ValueError(f"no lesson {' or '.join(only) or 'at all'} is released: run make release")
    return frames


def _work(submissions: Path, course: Course, lessons: list[str]) -> list[Work]:
    """What was handed in, and what former runs graded and is not in the folder."""
    work = list(_found(submissions, lessons))
    if not work:
        raise ValueError(
            f"no submissions in {submissions}: expected STUDENT/LESSON/LESSON.ipynb with"
            f" LESSON one of {', '.join(lessons)}"
        )
    have = {(w.student, w.lesson) for w in work}
    for lesson in lessons:
        for path in course.submitted(lesson):
            if (path.parts[-3], lesson) not in have:
                work.append(Work(path.parts[-3], lesson, path, earlier=True))
    return work


def _unclaimed(folder: Path, lessons: list[str]) -> Iterator[str]:
    """What lies in the folder and belongs to no lesson."""
    for path in sorted(folder.glob("*.ipynb")):
        yield f"{path.name} lies outside any student's folder and was not graded"
    for student in sorted(folder.iterdir()):
        if not _takable(student):
            if not student.name.startswith(".") and (student.is_symlink() or student.is_dir()):
                yield (
                    f"{student.name!a} was not graded: a link, not readable, or a name with"
                    " characters that nbgrader cannot take"
                )
            continue
        lost = [p for p in student.rglob("*.ipynb") if ".ipynb_checkpoints" not in p.parts]
        if lost and not any(find(student, lesson) != (None, []) for lesson in lessons):
            names = ", ".join(path.name for path in lost[:3])
            yield f"{student.name}: nothing here belongs to a released lesson ({names})"


def _found(folder: Path, lessons: list[str]) -> Iterator[Work]:
    """What was handed in, by student and lesson."""
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a folder: name the one that holds a folder per student")
    for student in sorted(folder.iterdir()):
        if student.name in lessons:
            raise ValueError(
                f"{folder} is the folder of one student: name the one that holds all of them"
            )
        if not _takable(student):
            continue
        for lesson in lessons:
            path, notes = find(student, lesson)
            if path is not None or notes:
                yield Work(student.name, lesson, path, tuple(notes))


def _takable(student: Path) -> bool:
    """Whether this is a student's folder, readable and of a name that nbgrader can take."""
    name = student.name
    plain = name.isprintable() and not set(name) & set("*?[]") and len(name.encode()) < 200
    return (
        plain
        and not name.startswith(".")
        and not student.is_symlink()
        and student.is_dir()
        and os.access(student, os.R_OK | os.X_OK)
    )


class _Grader:
    """Judges notebooks: several processes at a time, each watched by a thread of its own."""

    def __init__(self, course, frames, limits, seed, isolate, hidden):
        self.course, self.frames, self.limits, self.seed = course, frames, limits, seed
        self.isolate, self.hidden = isolate, hidden
        self.versions = {
            name: hashlib.sha256(nbformat.writes(frame).encode()).hexdigest()
            for name, frame in frames.items()
        }

    def judge(
        self, todo: list[Work], jobs: int, problems: list[str]
    ) -> tuple[dict[str, dict[str, NotebookNode]], bool]:
        """Judged notebooks by lesson and student, and whether the user broke it off.

        What is to be said to the instructor is added to `problems`.
        """
        done: dict[str, dict[str, NotebookNode]] = {}
        # Threads only wait for processes: nbformat's first use in two threads at once may fail.
        with ThreadPoolExecutor(max(1, jobs)) as pool:
            running = {}
            for w in todo:
                submission = self._prepared(w)
                running[pool.submit(self._run, w, submission)] = w, submission
            try:
                bar = tqdm(as_completed(running), total=len(running), desc="grading", unit="nb")
                for future in bar:
                    w, submission = running[future]
                    try:
                        notes = self._finish(w, submission, future.result())
                    except Exception as error:  # a fault of ours: said, and the class goes on
                        problems.append(f"{w.student}, {w.lesson}: {told(error)}")
                        continue
                    done.setdefault(w.lesson, {})[w.student] = submission.notebook
                    problems += [f"{w.student}, {w.lesson}: {note}" for note in notes]
            except KeyboardInterrupt:  # what has been judged is entered; the next run goes on
                pool.shutdown(wait=False, cancel_futures=True)
                return done, True
        return done, False

    def _prepared(self, work: Work) -> Submission:
        """What was handed in, on its lesson's frame."""
        frame = self.frames[work.lesson]
        try:
            if work.path is None:
                raise Unreadable(work.notes[0])
            notebook = read(work.path)
            if work.earlier:
                notebook.cells = [cell for cell in notebook.cells if cell.id != SUMMARY]
            return restore(frame, notebook)
        except Unreadable as error:
            return blank(frame, str(error))
        except Exception as error:  # an odd file that is a notebook after all
            return blank(frame, f"The notebook cannot be put in order: {told(error)}.")

    def _run(self, work: Work, submission: Submission) -> Report:
        if submission.unreadable:
            return unjudged(submission.notebook, submission.notes[0])
        frame, who = self.frames[work.lesson], work.student
        return run(
            frame, submission.notebook, self.limits, self.seed, who, self.isolate, self.hidden
        )

    def _finish(self, work: Work, submission: Submission, report: Report) -> list[str]:
        """Write the verdicts into the notebook; what learner and instructor are to be told."""
        notes = list(dict.fromkeys((*work.notes, *submission.notes, *report.notes)))
        _judged(submission.notebook, report, notes, self._stamp(work))
        return notes

    def changed(self, work: Work) -> bool:
        """Whether a notebook, its lesson or the seed differs from what was graded."""
        return self._stamp(work) != self._former(work)

    def _former(self, work: Work) -> dict[str, Any]:
        return self.course.record(work.student, work.lesson).get("stamp", {})

    def _stamp(self, work: Work) -> dict[str, Any]:
        """What the marks depend on."""
        return {
            "handed_in": self._former(work).get("handed_in") if work.earlier else _hash(work.path),
            "lesson": self.versions[work.lesson],
            "judge": _judge_version(),
            "seed": hashlib.sha256(str(self.seed).encode()).hexdigest(),
        }


@functools.cache
def _judge_version() -> str:
    """The hash of the checks: a check that was repaired judges anew."""
    files = sorted(Path(checks.__file__).parent.glob("*.py"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def _hash(path: Path | None) -> str:
    """The hash of a file, of its beginning if it is too large to be read."""
    try:
        if path is None or not path.is_file() or path.is_symlink():
            return "none"
        with path.open("rb") as file:
            return hashlib.sha256(file.read(LARGEST + 1)).hexdigest()
    except OSError:
        return "none"


def _judged(
    notebook: NotebookNode, report: Report, notes: list[str], stamp: dict[str, Any]
) -> None:
    """Make of a notebook what nbgrader takes: outputs of the judge, a summary before the rest."""
    for index, outputs in report.outputs.items():
        notebook.cells[index].outputs = outputs
    notebook.metadata["minit2i"] = {
        "stamp": stamp,
        "verdicts": [asdict(verdict) for verdict in report.verdicts],
        "notes": notes,
    }
    said = [(v.exercise, v.state, v.said) for v in report.verdicts]
    by_hand = (grade_id(c) for c in notebook.cells if is_solution(c) and c.cell_type == "markdown")
    said += [(name, "by hand", "0 points until it is marked") for name in by_hand]
    rows = [
        f"<tr><td>{escape(name)}&nbsp;</td><td>{state}&nbsp;</td>"
        f"<td>{escape(words).replace(chr(10), '<br>')}</td></tr>"
        for name, state, words in said
    ]
    head = "<tr><th>Exercise</th><th>State&nbsp;</th><th>What the judge says</th></tr>"
    listed = "".join(f"<li>{escape(note)}</li>" for note in notes)
    text = f"<h2>What was graded</h2><table>{head}{''.join(rows)}</table>"
    text += f"<p>Notes of the grader:</p><ul>{listed}</ul>" if listed else ""
    text += "<p>Training and figures were not run for grading: their outputs are left out.</p>"
    notebook.cells.insert(0, nbformat.v4.new_markdown_cell(text, id=SUMMARY))


# --- tables ---------------------------------------------------------------------------------------


def save(course: Course) -> None:
    """Write gradebook.csv, a row per student, exercises.csv, a row per exercise, and notes.csv."""
    marks = course.marks()
    released = {name: course.points(name) for name in course.released()}
    rows = []
    for student in sorted({mark.student for mark in marks}):
        own = [mark for mark in marks if mark.student == student]
        row: dict[str, Any] = {"student_id": student}
        for lesson in released:
            points = [mark.points for mark in own if mark.lesson == lesson]
            row[lesson] = f"{sum(points):g}" if points else ""
        row["total"] = f"{sum(mark.points for mark in own):g}"
        row["of"] = f"{sum(released.values()):g}"
        row["to_mark"] = sum(mark.to_mark for mark in own)
        rows.append(row)
    fields = ["student_id", *released, "total", "of", "to_mark"]
    write(course.folder / "gradebook.csv", _csv(fields, rows))
    write(course.folder / "exercises.csv", _csv([*_COLUMNS], _exercise_rows(course, marks)))
    write(course.folder / "notes.csv", _csv(["student_id", "lesson", "note"], _notes(course)))


def _notes(course: Course) -> list[dict[str, str]]:
    """A row per note on a submission."""
    return [
        {"student_id": path.parts[-3], "lesson": lesson, "note": note}
        for lesson in course.released()
        for path in course.submitted(lesson)
        for note in course.record(path.parts[-3], lesson).get("notes", [])
    ]


_COLUMNS = ("student_id", "lesson", "exercise", "points", "of", "message")


def _exercise_rows(course: Course, marks: list[Mark]) -> list[dict[str, Any]]:
    """A row per graded cell: what the gradebook holds, with the judge's words."""
    rows = []
    for mark in marks:
        verdicts = course.record(mark.student, mark.lesson).get("verdicts", [])
        name = mark.cell.removesuffix("_check")
        words = next((v["message"] for v in verdicts if v["exercise"] == name), "")
        if not words:
            words = "marked by hand" if mark.auto is None else "not answered"
        words = "to be marked by hand" if mark.to_mark else words
        values = mark.student, mark.lesson, name, f"{mark.points:g}", f"{mark.of:g}", words
        rows.append(dict(zip(_COLUMNS, values, strict=True)))
    return rows


def _csv(fields: list[str], rows: list[dict[str, Any]]) -> bytes:
    """A table in UTF-8 with the mark by which spreadsheets know it; no cell is a formula."""
    text = io.StringIO()
    table = csv.DictWriter(text, fields)
    table.writeheader()
    for row in rows:
        table.writerow({key: _plain(value) for key, value in row.items()})
    return text.getvalue().encode("utf-8-sig")


def _plain(value: Any) -> Any:
    """Text that a spreadsheet would take for a formula, as text."""
    return "'" + value if isinstance(value, str) and value[:1] in "=+-@\t\r" and value else value
