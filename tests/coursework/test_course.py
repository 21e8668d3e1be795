"""The course folder: what is released, marks given by hand, a lesson that changes after grading."""

import csv
import json
import re

import nbformat
import pytest

from minit2i.coursework import grade as grading
from minit2i.coursework.course import Course
from minit2i.coursework.lesson import exercises, graded, is_solution
from minit2i.coursework.runner import Report, Verdict
from tests.coursework import books

LESSON = "01_forward_diffusion"


@pytest.fixture
def course(tmp_path):
    """A course folder with lesson 01."""
    made = Course(tmp_path / "course")
    made.release(graded(only=("01",)))
    return made


@pytest.fixture
def judged(monkeypatch):
    """Let every answer be right without running it: what is tested here is what comes after."""

    def run(lesson, notebook, *args):
        verdicts = [
            Verdict(e.name, e.points, e.points, f"{e.name}: fine") for e in exercises(lesson)
        ]
        return Report(verdicts)

    monkeypatch.setattr(grading, "run", run)
    monkeypatch.setattr(grading, "ready", lambda *args: True)


def table(course, name="gradebook.csv"):
    with (course.folder / name).open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def test_the_student_version_has_no_solution_and_everything_else(course):
    student, lesson = course.lesson(LESSON), books.solved(LESSON)
    text = nbformat.writes(student)
    assert "SOLUTION" not in text
    for mine, theirs in zip(lesson.cells, student.cells, strict=True):
        if is_solution(mine):
            stub = "raise NotImplementedError" if mine.cell_type == "code" else "Your answer"
            assert stub in theirs.source
        elif mine.cell_type == "code":
            assert mine.source == theirs.source
        graded_cell = "nbgrader" in mine.metadata
        if mine.cell_type == "code":
            assert theirs.outputs == ([] if graded_cell else mine.outputs)


def test_releasing_twice_gives_the_same_file(course):
    path = course.folder / "release" / LESSON / f"{LESSON}.ipynb"
    before = path.read_bytes()
    assert course.release(graded(only=("01",))) == []
    assert path.read_bytes() == before


@pytest.mark.parametrize("name", graded())
def test_a_lesson_links_to_nothing_beside_it(name):
    """Released, it lies in a folder of its own."""
    links = re.findall(r"\]\(([^)\s]+)", nbformat.writes(books.solved(name)))
    assert [link for link in links if "ipynb" in link or link.startswith("..")] == []


def mark_by_hand(course, student, points, comment):
    with course._gradebook() as book:
        grade = book.find_grade("forward_written", LESSON, LESSON, student)
        grade.manual_score, grade.needs_manual_grade = points, False
        book.find_comment("forward_written", LESSON, LESSON, student).manual_comment = comment
        book.db.commit()


def test_a_mark_by_hand_reaches_table_and_page_and_stays(course, judged, tmp_path):
    notebook = books.answered(LESSON, forward_written="Because of the noise.")
    books.put(tmp_path / "in", "ada", LESSON, notebook)
    grading.grade(tmp_path / "in", course)
    (row,) = table(course)
    assert (row[LESSON], row["to_mark"]) == ("8", "1")
    mark_by_hand(course, "ada", 1.5, "Which noise?")
    for again in (False, True):
        grading.grade(tmp_path / "in", course, again=again)
        (row,) = table(course)
        assert (row[LESSON], row["to_mark"]) == ("9.5", "0")
        assert "Which noise?" in course.feedback("ada", LESSON).read_text(encoding="utf-8")


def test_an_answer_that_changed_after_its_mark_waits_for_another_look(course, judged, tmp_path):
    path = books.put(tmp_path / "in", "ada", LESSON, books.answered(LESSON, forward_written="A."))
    grading.grade(tmp_path / "in", course)
    mark_by_hand(course, "ada", 1, "")
    path.write_text(nbformat.writes(books.answered(LESSON, forward_written="B.")))
    grading.grade(tmp_path / "in", course)
    (row,) = table(course)
    assert (row[LESSON], row["to_mark"]) == ("9", "1")


def test_notes_are_kept_in_a_table(course, judged, tmp_path):
    notebook = books.solved(LESSON)
    notebook.cells.remove(books.cell(notebook, "snr_check"))
    books.put(tmp_path / "in", "ada", LESSON, notebook)
    grading.grade(tmp_path / "in", course)
    grading.grade(tmp_path / "in", course)
    (row,) = table(course, "notes.csv")
    assert row["student_id"] == "ada" and "check of snr was deleted" in row["note"]


def test_what_belongs_to_no_lesson_is_said(course, judged, tmp_path):
    books.put(tmp_path / "in", "ada", LESSON, books.solved(LESSON))
    books.put(tmp_path / "in", "bob", "homework", books.solved(LESSON))
    (tmp_path / "in" / "loose.ipynb").touch()
    flat = tmp_path / "in" / "eve" / f"{LESSON} (1).ipynb"
    flat.parent.mkdir()
    flat.write_text(nbformat.writes(books.solved(LESSON)))
    said = "\n".join(grading.grade(tmp_path / "in", course).problems)
    assert "bob: nothing here belongs to a released lesson (homework.ipynb)" in said
    assert "loose.ipynb lies outside any student's folder" in said
    assert {row["student_id"] for row in table(course)} == {"ada", "eve"}


def test_the_folder_of_one_student_is_refused(course, judged, tmp_path):
    books.put(tmp_path / "in", "ada", LESSON, books.solved(LESSON))
    with pytest.raises(ValueError, match="folder of one student"):
        grading.grade(tmp_path / "in" / "ada", course)


def changed_lesson(tmp_path, change):
    """Lesson 01 after a change to its cells."""
    notebook = books.solved(LESSON)
    change(notebook)
    path = tmp_path / f"{LESSON}.ipynb"
    path.write_text(nbformat.writes(notebook), encoding="utf-8")
    return {LESSON: path}


def with_another_exercise(notebook):
    for name in ("snr", "snr_check"):
        cell = nbformat.from_dict(books.cell(notebook, name))
        cell = nbformat.v4.new_code_cell(cell.source, metadata=cell.metadata, id=f"more-{name}")
        cell.metadata = json.loads(json.dumps(cell.metadata).replace("snr", "more"))
        notebook.cells.append(cell)


def test_an_exercise_added_after_grading_grades_anew_and_keeps_marks_by_hand(
    course, judged, tmp_path
):
    books.put(tmp_path / "in", "ada", LESSON, books.answered(LESSON, forward_written="Mine."))
    grading.grade(tmp_path / "in", course)
    mark_by_hand(course, "ada", 2, "Good.")
    (tmp_path / "in" / "ada").rename(tmp_path / "gone")
    books.put(tmp_path / "in", "bob", LESSON, books.solved(LESSON))
    assert course.release(changed_lesson(tmp_path, with_another_exercise)) == [LESSON]
    assert list(course.folder.glob("gradebook.before*.db"))
    outcome = grading.grade(tmp_path / "in", course)
    assert outcome.graded == 2
    rows = {row["student_id"]: row for row in table(course)}
    assert rows["ada"][LESSON] == "11"  # 8 and 1 by the judge, 2 by hand
    assert "Good." in course.feedback("ada", LESSON).read_text(encoding="utf-8")


def test_an_exercise_removed_after_grading(course, judged, tmp_path):
    books.put(tmp_path / "in", "ada", LESSON, books.solved(LESSON))
    grading.grade(tmp_path / "in", course)

    def without_snr(notebook):
        for name in ("snr", "snr_check"):
            notebook.cells.remove(books.cell(notebook, name))

    assert course.release(changed_lesson(tmp_path, without_snr)) == [LESSON]
    grading.grade(tmp_path / "in", course)
    (row,) = table(course)
    assert row[LESSON] == "7"


def test_a_fault_in_one_submission_does_not_stop_the_others(course, judged, tmp_path, monkeypatch):
    for student in ("ada", "bob"):
        books.put(tmp_path / "in", student, LESSON, books.solved(LESSON))
    real = grading.run

    def faulty(lesson, notebook, limits, seed, who, *others):
        if who == "ada":
            raise RuntimeError("made for the test")
        return real(lesson, notebook)

    monkeypatch.setattr(grading, "run", faulty)
    outcome = grading.grade(tmp_path / "in", course, jobs=1)
    assert outcome.graded == 1
    assert any("made for the test" in problem for problem in outcome.problems)
    monkeypatch.setattr(grading, "run", real)
    assert grading.grade(tmp_path / "in", course).graded == 1  # the other one, now


def test_what_was_not_entered_is_graded_again(course, judged, tmp_path, monkeypatch):
    """As after a kill while nbgrader works, or a fault of nbgrader's."""
    books.put(tmp_path / "in", "ada", LESSON, books.solved(LESSON))
    with monkeypatch.context() as patched:
        patched.setattr(Course, "_convert", lambda *args: None)
        outcome = grading.grade(tmp_path / "in", course)
    assert any("nbgrader failed" in problem for problem in outcome.problems)
    assert grading.grade(tmp_path / "in", course).graded == 1
    assert len(table(course)) == 1


@pytest.mark.parametrize("name", ["new\nline", "[ab]", "*", "x" * 220])
def test_a_name_that_nbgrader_cannot_take_is_said_and_harms_nobody(course, judged, tmp_path, name):
    for student in (name, "zoe"):
        books.put(tmp_path / "in", student, LESSON, books.solved(LESSON))
    outcome = grading.grade(tmp_path / "in", course)
    assert any("was not graded" in problem for problem in outcome.problems)
    assert [row["student_id"] for row in table(course)] == ["zoe"]


def test_a_link_to_anothers_folder_gives_nothing(course, judged, tmp_path):
    books.put(tmp_path / "in", "ada", LESSON, books.solved(LESSON))
    (tmp_path / "in" / "bob").symlink_to("ada")
    (tmp_path / "in" / "eve").mkdir()
    (tmp_path / "in" / "eve" / LESSON).symlink_to(f"../ada/{LESSON}")
    problems = grading.grade(tmp_path / "in", course).problems
    assert any(problem.startswith("'bob' was not graded") for problem in problems)
    assert {row["student_id"]: row[LESSON] for row in table(course)} == {"ada": "8", "eve": "0"}


def test_a_check_that_was_repaired_judges_anew(course, judged, tmp_path, monkeypatch):
    books.put(tmp_path / "in", "ada", LESSON, books.solved(LESSON))
    grading.grade(tmp_path / "in", course)
    assert grading.grade(tmp_path / "in", course).graded == 0
    monkeypatch.setattr(grading, "_judge_version", lambda: "repaired")
    assert grading.grade(tmp_path / "in", course).graded == 1


def test_a_script_in_an_answer_does_not_reach_the_feedback_page(course, judged, tmp_path):
    script = "<script>alert('mine')</script>"
    books.put(tmp_path / "in", "ada", LESSON, books.answered(LESSON, forward_written=script))
    grading.grade(tmp_path / "in", course)
    assert script not in course.feedback("ada", LESSON).read_text(encoding="utf-8")


def test_a_name_is_no_formula(course, judged, tmp_path):
    books.put(tmp_path / "in", "=1+1", LESSON, books.solved(LESSON))
    grading.grade(tmp_path / "in", course)
    assert table(course)[0]["student_id"] == "'=1+1"


def test_two_runs_do_not_work_in_one_folder(course, judged, tmp_path):
    books.put(tmp_path / "in", "ada", LESSON, books.solved(LESSON))
    with course.alone(), pytest.raises(ValueError, match="another run works"):
        grading.grade(tmp_path / "in", course)


def test_an_interrupted_run_keeps_what_it_has_judged(course, judged, tmp_path, monkeypatch):
    for student in ("ada", "bob"):
        books.put(tmp_path / "in", student, LESSON, books.solved(LESSON))
    real = grading.as_completed

    def interrupted(running):
        yield next(real(running))
        raise KeyboardInterrupt

    monkeypatch.setattr(grading, "as_completed", interrupted)
    with pytest.raises(ValueError, match="1 of 2 are graded"):
        grading.grade(tmp_path / "in", course, jobs=1)
    assert len(table(course)) == 1
    monkeypatch.undo()


@pytest.mark.parametrize(
    "make, says",
    [
        (lambda folder: folder, "not a folder"),
        (lambda folder: folder.mkdir(), "no submissions"),
        (lambda folder: (folder / "ada").mkdir(parents=True), "no submissions"),
    ],
)
def test_a_folder_without_submissions_is_said(course, tmp_path, make, says):
    make(tmp_path / "in")
    with pytest.raises(ValueError, match=says):
        grading.grade(tmp_path / "in", course)


def test_grading_before_releasing_is_said(tmp_path):
    with pytest.raises(ValueError, match="run make release"):
        grading.grade(tmp_path, Course(tmp_path / "course"))
