"""A whole class, right, odd, broken and hostile, through `make release` and `make grade`."""

import csv
import hashlib

import pytest

from minit2i.coursework.course import Course
from tests.coursework import books
from tests.coursework.hostile import EVERY, LESSON, STUDENTS

POINTS = books.points(LESSON)


def read(path):
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def graded(tmp_path_factory):
    """The course folder, what `make grade` printed, and the submissions' hashes before it."""
    course, handed_in = (tmp_path_factory.mktemp(name) for name in ("course", "submissions"))
    for student in STUDENTS:
        content = student.make(handed_in)
        if content is not None:
            books.put(handed_in, student.name, LESSON, content)
    before = fingerprints(handed_in)
    books.make("release", f"FLAGS=--course {course} --lesson 01")
    flags = f"FLAGS=--course {course} --lesson 01 --cell-seconds 10"
    said = books.make("grade", f"SUBMISSIONS={handed_in}", flags)
    return course, handed_in, said, before


def fingerprints(folder):
    """The hash of each file that a submission consists of."""
    return {
        path: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*.ipynb"))
        if path.stat().st_size < 50_000_000
    }


def test_the_gradebook_is_exactly_as_expected(graded):
    course, *_ = graded
    got = {row["student_id"]: float(row["total"]) for row in read(course / "gradebook.csv")}
    lost = {s.name: sum(POINTS[name] for name in s.loses) for s in STUDENTS}
    assert got == {name: sum(POINTS.values()) - points for name, points in lost.items()}
    assert len(STUDENTS) >= 12


def rows_of(course, name):
    return [row for row in read(course / "exercises.csv") if row["student_id"] == name]


@pytest.mark.parametrize("student", STUDENTS, ids=lambda student: student.name)
def test_each_loses_its_own_exercises_and_is_told_why(graded, student):
    course, _, said, _ = graded
    rows = {row["exercise"]: row for row in rows_of(course, student.name)}
    lost = {name for name in POINTS if float(rows[name]["points"]) < POINTS[name]}
    assert lost == student.loses, [rows[name]["message"] for name in lost ^ student.loses]
    messages = [rows[name]["message"] for name in student.loses]
    notes = Course(course).record(student.name, LESSON)["notes"]
    assert any(student.says in text for text in (*messages, *notes)) or not student.says, messages
    for note in notes:
        assert f"{student.name}, {LESSON}: {note}" in said


@pytest.mark.parametrize("student", STUDENTS, ids=lambda student: student.name)
def test_each_has_a_feedback_page(graded, student):
    course, *_ = graded
    page = Course(course).feedback(student.name, LESSON).read_text(encoding="utf-8")
    assert "What was graded" in page
    assert all(name in page for name in EVERY)


def test_nothing_outside_was_touched(graded):
    _, handed_in, _, before = graded
    assert fingerprints(handed_in) == before
    assert not (books.ROOT / "tests" / "planted").exists()
    assert (books.ROOT / "notebooks").is_dir()


def test_a_second_run_grades_nothing_again(graded):
    course, handed_in, _, _ = graded
    before = (course / "gradebook.csv").read_bytes()
    flags = f"FLAGS=--course {course} --lesson 01 --cell-seconds 10"
    said = books.make("grade", f"SUBMISSIONS={handed_in}", flags)
    assert f"0 notebooks graded, {len(STUDENTS)} unchanged" in said
    assert (course / "gradebook.csv").read_bytes() == before
