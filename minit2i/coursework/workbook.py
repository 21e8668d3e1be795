"""A learner's working folder: the student versions, never over what the learner has changed."""

import hashlib
import json
import tempfile
from pathlib import Path

import nbformat

from minit2i.checkpoint import write
from minit2i.coursework.course import Course
from minit2i.coursework.lesson import exercises

RECORD = ".minit2i.json"  # what was put into the folder: file name -> SHA-256


def put(folder: Path, lessons: dict[str, Path]) -> dict[str, str]:
    """Put the student versions of lessons into a folder; gives what became of each.

    A file that differs from what was put there is the learner's and stays. Raises ValueError if
    the folder cannot be written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"cannot make {folder}: {error.strerror}") from None
    record = _record(folder)
    became = {}
    for name, text in _student_versions(lessons).items():
        path = folder / f"{name}.ipynb"
        here = path.read_bytes() if path.exists() else None
        if here is not None and here != text and _hash(here) != record.get(name):
            changed = record.get(name) not in (None, _hash(text))
            became[name] = "yours, kept" + (
                " (the lesson has changed since: move yours aside and run this again)"
                if changed
                else ""
            )
            continue
        became[name] = (
            "new" if here is None else "as it was" if here == text else "brought up to date"
        )
        write(path, text)
        record[name] = _hash(text)
    write(folder / RECORD, json.dumps(record, indent=1).encode())
    return became


def _student_versions(lessons: dict[str, Path]) -> dict[str, bytes]:
    """Each lesson as learners get it; one without exercises is the same for all."""
    notebooks = {name: nbformat.read(path, as_version=4) for name, path in lessons.items()}
    with_exercises = {name: lessons[name] for name, nb in notebooks.items() if exercises(nb)}
    with tempfile.TemporaryDirectory() as scratch:
        course = Course(Path(scratch))
        course.release(with_exercises)
        for name in with_exercises:
            notebooks[name] = course.lesson(name)
    for notebook in notebooks.values():
        for cell in notebook.cells:
            if "progress.show(" in cell.source and cell.cell_type == "code":
                cell.outputs = []  # the course's own copy is complete, a learner's is not
    return {name: (nbformat.writes(nb) + "\n").encode() for name, nb in notebooks.items()}


def _record(folder: Path) -> dict[str, str]:
    try:
        return json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):  # none yet, or damaged: then every file counts as the learner's
        return {}


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
