"""Every exercise of every lesson through the real pipeline: released, handed in, graded, read back.

All wrong and right answers are proved in-process (test_mutants.py); here one wrong one of each
exercise goes the whole way, beside the course's own answers, the blank, and other right ones.
"""

import csv

import pytest

from minit2i.coursework.course import Course
from minit2i.coursework.grade import grade
from minit2i.coursework.lesson import graded
from tests import mutants
from tests.coursework import books
from tests.test_notebooks import CHECKS

mutants.load()
LESSONS = [(name, CHECKS[name[:2]]) for name in graded()]


def first_cell(lesson, exercise, kind):
    """The first declared answer that can stand alone in a cell, and that cell."""
    for answer in mutants.ANSWERS:
        if (answer.lesson, answer.exercise, answer.kind) == (lesson, exercise, kind):
            if source := books.as_cell(answer):
                return answer, source
    raise LookupError(f"no {kind} answer to {exercise} can stand in a cell")


@pytest.fixture(scope="module", params=LESSONS, ids=lambda lesson: lesson[0])
def graded_lesson(request, tmp_path_factory):
    """A small class on one lesson: what it was expected to get, and what it got."""
    name, module = request.param
    folder, handed_in = (tmp_path_factory.mktemp(f"{word}-{module}") for word in ("course", "in"))
    points = books.points(name)
    course = Course(folder)
    assert course.release(graded(only=(name,))) == []
    wrong = {exercise: first_cell(module, exercise, "wrong") for exercise in points}
    others = {exercise: first_cell(module, exercise, "right")[1] for exercise in points}
    books.put(handed_in, "reference", name, books.solved(name))
    books.put(handed_in, "blank", name, course.lesson(name))
    books.put(handed_in, "otherwise", name, books.answered(name, **others))
    expected = {"reference": points, "blank": dict.fromkeys(points, 0), "otherwise": points}
    for exercise, (_, source) in wrong.items():
        student = f"wrong {exercise}"
        books.put(handed_in, student, name, books.answered(name, **{exercise: source}))
        expected[student] = {**points, exercise: 0}
    outcome = grade(handed_in, course)
    with (folder / "exercises.csv").open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    return name, points, wrong, expected, outcome, rows, course


def test_everyone_gets_what_the_answers_deserve(graded_lesson):
    _, points, _, expected, outcome, rows, _ = graded_lesson
    assert outcome.problems == ()
    got = {student: {} for student in expected}
    for row in rows:
        if row["exercise"] in points:
            got[row["student_id"]][row["exercise"]] = float(row["points"])
    assert got == expected


def test_a_wrong_answer_is_told_its_own_mistake(graded_lesson):
    _, _, wrong, _, _, rows, _ = graded_lesson
    for exercise, (answer, _) in wrong.items():
        (message,) = (
            row["message"]
            for row in rows
            if (row["student_id"], row["exercise"]) == (f"wrong {exercise}", exercise)
        )
        assert answer.says in message


def test_feedback_names_the_mistake_and_shows_no_solution(graded_lesson):
    name, points, wrong, _, _, _, course = graded_lesson
    for student in ("blank", *(f"wrong {exercise}" for exercise in points)):
        page = course.feedback(student, name).read_text(encoding="utf-8")
        assert "BEGIN SOLUTION" not in page or student != "blank"
        assert "What was graded" in page
    for exercise, (answer, _) in wrong.items():
        page = course.feedback(f"wrong {exercise}", name).read_text(encoding="utf-8")
        assert answer.says.replace("'", "&#x27;").split("<")[0] in page or answer.says in page
