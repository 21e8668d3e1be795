"""Reading what was handed in, and putting it back onto the lesson's frame."""

import json

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from minit2i.coursework.lesson import definitions, exercises, graded, lessons
from minit2i.coursework.submission import Unreadable, blank, find, read, restore

MARK = {"locked": False, "schema_version": 3, "task": False}


def lesson():
    """A lesson of one exercise and one written question."""
    solution = {"grade_id": "f", "grade": False, "solution": True, **MARK}
    check = {"grade_id": "f_check", "grade": True, "solution": False, "points": 2, **MARK}
    written = {"grade_id": "w", "grade": True, "solution": True, "points": 1, **MARK}
    stub = "def f(x):\n    raise NotImplementedError"
    return new_notebook(
        cells=[
            new_code_cell("import torch", id="a", metadata={"tags": ["setup"]}),
            new_markdown_cell("Words.", id="b"),
            new_code_cell(stub, id="c", metadata={"nbgrader": solution}),
            new_code_cell("checks.x.f(f)", id="d", metadata={"nbgrader": check}),
            new_code_cell("plot(f)", id="e", metadata={"tags": ["skip-grading"]}),
            new_markdown_cell("*Your answer*", id="g", metadata={"nbgrader": written}),
        ]
    )


def handed_in(*cells):
    """The lesson with the answer filled in, and other cells where given."""
    notebook = lesson()
    notebook.cells[2].source = "def f(x):\n    return x"
    for at, cell in cells:
        notebook.cells.insert(at, cell)
    return notebook


def sources(submission):
    return [cell.source for cell in submission.notebook.cells]


def test_what_is_handed_in_as_it_should_be_stays_as_it_is():
    notebook = handed_in()
    restored = restore(lesson(), notebook)
    assert sources(restored) == [cell.source for cell in notebook.cells]
    assert restored.notes == []


def test_outputs_that_were_handed_in_are_dropped():
    notebook = handed_in()
    notebook.cells[3].outputs = [nbformat.v4.new_output("stream", text="f: the property holds.")]
    assert all(
        not cell.outputs
        for cell in restore(lesson(), notebook).notebook.cells
        if cell.cell_type == "code"
    )


def test_own_cells_stay_where_they_are_and_count_as_nothing():
    own = new_code_cell("def helper(): ...", metadata={"tags": ["setup"]}, id="z")
    restored = restore(lesson(), handed_in((2, own)))
    cell = restored.notebook.cells[2]
    assert (cell.source, cell.id, cell.metadata) == ("def helper(): ...", "own-1", {})


@pytest.mark.parametrize("at", range(6))
def test_a_cell_that_is_missing(at):
    notebook = handed_in()
    gone = notebook.cells.pop(at)
    restored = restore(lesson(), notebook)
    kept = {cell.id: cell.source for cell in restored.notebook.cells}
    if gone.id in "adg":  # set-up, check and the stub of the written answer come back
        assert kept[gone.id] == lesson().cells[at].source
        assert len(restored.notes) == 1
    elif gone.id == "c":  # a stub of code would undo an answer elsewhere
        assert kept["c"] == "" and "is missing" in restored.notes[0]
    else:
        assert gone.id not in kept and restored.notes == []


def test_a_second_answer_is_run_in_its_place_and_a_second_check_is_not():
    again = new_code_cell("def f(x):\n    return 2", metadata=lesson().cells[2].metadata)
    check = new_code_cell("pass", metadata=lesson().cells[3].metadata)
    restored = restore(lesson(), handed_in((3, again), (5, check)))
    assert sources(restored)[2:5] == [
        "def f(x):\n    return x",
        "def f(x):\n    return 2",
        "checks.x.f(f)",
    ]
    assert "pass" not in sources(restored)
    assert len(restored.notes) == 2


def test_an_edited_check_is_the_lessons_again():
    notebook = handed_in()
    notebook.cells[3].source = "pass"
    restored = restore(lesson(), notebook)
    assert sources(restored)[3] == "checks.x.f(f)"
    assert restored.notes == ["The check of f was edited; the lesson's own was run."]


def test_without_ids_and_marks_cells_are_known_by_their_text():
    notebook = handed_in()
    for number, cell in enumerate(notebook.cells):
        cell.id, cell.metadata = f"x{number}", {}
    restored = restore(lesson(), notebook)
    texts = sources(restored)
    assert texts.index("def f(x):\n    return x") < texts.index("checks.x.f(f)")
    assert texts.count("checks.x.f(f)") == 1


def test_another_notebook_is_said_to_be_one():
    restored = restore(lesson(), new_notebook(cells=[new_code_cell("1 + 1")]))
    assert any("right lesson" in note for note in restored.notes)


@pytest.mark.parametrize(
    "line, found",
    [
        ("from minit2i import checks", "checks"),
        ("sys._getframe(1)", "_getframe"),
        ("exec(text)", "exec"),
        ("f.__code__", "__code__"),
        ("net.eval()", None),
        ("x = evaluate(1)", None),
    ],
)
def test_an_answer_that_reaches_for_the_judge_is_shown_to_a_person(line, found):
    notebook = handed_in()
    notebook.cells[2].source += f"\n    {line}"
    notes = restore(lesson(), notebook).notes
    assert len(notes) == (found is not None)
    assert not found or f"uses {found}, which no answer needs" in notes[0]


def test_an_answer_in_words_may_stand_in_a_cell_below_its_own():
    own = new_markdown_cell("Because.", id="z")
    restored = restore(lesson(), handed_in((6, own)))
    assert sources(restored)[5] == "Because."
    assert restored.notes == ["The answer of w stood in a cell below its own."]


def test_a_blank_has_no_answer_and_says_why():
    made = blank(lesson(), "why")
    assert sources(made)[2] == "" and sources(made)[5] == "*Your answer*"
    assert made.notes == ["why"]


@pytest.mark.parametrize(
    "content, says",
    [
        (b"{", "not JSON in line 1"),
        (b"[]", "no notebook"),
        (b'{"nbformat": 4, "cells": [{}]}', "no notebook"),
        (b'{"nbformat": 4, "cells": 7}', "no notebook"),
        ("ü".encode("latin-1"), "not text in UTF-8"),
        (b"[" * 100_000, "no notebook"),
        (b"", "not JSON"),
    ],
)
def test_what_is_no_notebook_is_refused_in_words(tmp_path, content, says):
    path = tmp_path / "a.ipynb"
    path.write_bytes(content)
    with pytest.raises(Unreadable, match=says):
        read(path)


def test_old_formats_and_strange_characters_are_read(tmp_path):
    cell = {"cell_type": "code", "metadata": {}, "outputs": [], "execution_count": None}
    old = {"nbformat": 4, "nbformat_minor": 2, "metadata": {}}
    old["cells"] = [cell | {"source": ["a = 1\r\n", "b = '\ud800'\0"]}] * 2
    path = tmp_path / "a.ipynb"
    path.write_text(json.dumps(old))
    notebook = read(path)
    assert notebook.cells[0].source == "a = 1\nb = '?'"
    assert len({cell.id for cell in notebook.cells}) == 2
    nbformat.writes(notebook).encode()


def test_odd_marks_and_endless_text_are_no_fault_of_the_grader(tmp_path):
    notebook = lesson()
    notebook.cells[0].metadata = {"nbgrader": "x"}
    notebook.cells[1].source = "x" * 50_000
    notebook.cells[2].metadata = {"nbgrader": {"grade_id": []}}
    path = tmp_path / "a.ipynb"
    path.write_text(json.dumps(notebook))
    back = read(path)
    assert len(back.cells[1].source) < 21_000
    assert "nbgrader" not in back.cells[0].metadata and "nbgrader" not in back.cells[2].metadata
    restore(lesson(), back)


def test_a_notebook_is_found_under_its_name_or_alone_in_its_folder(tmp_path):
    assert find(tmp_path, "01_x") == (None, [])
    (tmp_path / "01_x.ipynb").touch()
    assert find(tmp_path, "01_x") == (tmp_path / "01_x.ipynb", [])
    (tmp_path / "01_x").mkdir()
    other = tmp_path / "01_x" / "copy.ipynb"
    other.touch()
    (tmp_path / "01_x.ipynb").unlink()
    path, notes = find(tmp_path, "01_x")
    assert path == other and "copy.ipynb" in notes[0]
    (tmp_path / "01_x" / "other.ipynb").touch()
    path, notes = find(tmp_path, "01_x")
    assert path is None and "2 notebooks" in notes[0]


def test_definitions_of_a_skipped_cell_are_kept_and_nothing_else():
    source = "import math\nfrom a import b\nx = 1\ndef f():\n    return 2\nclass C: ...\nplot(x)\n"
    kept = definitions(source)
    assert all(part in kept for part in ("import math", "from a import b", "def f()", "class C"))
    assert "plot" not in kept and "x = 1" not in kept
    assert definitions("%matplotlib inline\nx = 1") == ""


def test_every_lesson_names_its_exercises():
    for path in graded().values():
        found = exercises(nbformat.read(path, as_version=4))
        assert [e.check.metadata.nbgrader.grade_id for e in found] == [
            f"{e.name}_check" for e in found
        ]


def test_a_lesson_that_is_not_there_is_said():
    with pytest.raises(ValueError, match="no lesson '77'; there are 00_start_here"):
        lessons(only=("77",))
