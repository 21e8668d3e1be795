"""Every check refuses wrong answers, each with its own message, and accepts right ones."""

import json
import time
import types

import pytest
import torch

from minit2i import checks
from minit2i.checks.disabled import codes
from tests import mutants
from tests.killrate import MUTANTS, RIGHT, SEEN, WRONG, table

mutants.load()
WRONG_ANSWERS = [a for a in mutants.ANSWERS if a.kind == "wrong"]
RIGHT_ANSWERS = [a for a in mutants.ANSWERS if a.kind == "right"]
EXERCISES = mutants.exercises()
each_exercise = pytest.mark.parametrize("lesson, name", EXERCISES, ids=map(".".join, EXERCISES))


@pytest.fixture(autouse=True)
def patient():
    """Let a busy machine, with run-time type checks, take its time: no verdict is a timeout."""
    former = checks.limit(20)
    yield
    checks.limit(former)


@pytest.mark.parametrize("answer", WRONG_ANSWERS, ids=lambda a: a.id)
def test_wrong_answer_is_refused_with_its_own_message(answer, record_property):
    message = mutants.refusal(answer.lesson, answer.exercise, answer.answer)
    record_property(SEEN, (answer.lesson, WRONG, mutants.well_judged(answer, message), 1))
    assert message is not None, "accepted"
    assert answer.says in message
    assert not mutants.others(answer, message), message


@pytest.mark.parametrize("answer", RIGHT_ANSWERS, ids=lambda a: a.id)
def test_right_answer_is_accepted(answer, record_property):
    refused = []
    for number in (0, 1, 2):
        checks.seed(number)
        try:
            message = mutants.refusal(answer.lesson, answer.exercise, answer.answer)
        finally:
            checks.seed(0)
        refused += [] if message is None else [message]
    record_property(SEEN, (answer.lesson, RIGHT, not refused, 1))
    assert not refused, refused[0]


def test_the_table_says_100_of_nothing_less():
    counts = [("one", WRONG, 998, 999), ("one", MUTANTS, 1, 1), ("two", RIGHT, 1, 1)]
    rows = {line.split()[0]: " ".join(line.split()[1:]) for line in table(counts)}
    assert rows == {
        "lesson": "wrong refused right accepted mutants killed rate",
        "one": "998/999 0/0 1/1 99.9 %",
        "two": "0/0 1/1 0/0 100 %",
        "all": "998/999 1/1 1/1 99.9 %",
    }


@each_exercise
def test_known_mistake_is_recognised(lesson, name):
    for mistake in mutants.check(lesson, name).exercise.mistakes:
        if mistake.wrong is not None:
            message = mutants.refusal(lesson, name, mistake.wrong)
            assert message is not None, f"accepted: {mistake.name}"
            assert f"known mistake: {mistake.name}" in message


@each_exercise
def test_exercise_has_enough_answers(lesson, name):
    here = [a for a in mutants.ANSWERS if (a.lesson, a.exercise) == (lesson, name)]
    assert sum(a.kind == "wrong" for a in here) >= 4
    assert sum(a.kind == "right" for a in here) >= 3


def test_answers_belong_to_exercises():
    assert {(a.lesson, a.exercise) for a in mutants.ANSWERS} <= set(EXERCISES)
    ids = [a.id for a in mutants.ANSWERS]
    assert len(ids) == len(set(ids)), "two answers with one name: set how="


@pytest.mark.parametrize("solution", mutants.solutions(), ids=lambda s: s.id)
def test_the_notebooks_solution_is_accepted(solution):
    message = mutants.refusal(solution.lesson, solution.exercise, solution.solve())
    assert message is None, message


@pytest.mark.parametrize("solution", mutants.solutions(), ids=lambda s: s.id)
def test_mutants_of_the_solution_are_refused(solution, record_property):
    former = checks.limit(3)
    try:
        alive, killed, made = mutants.survivors(solution)
    finally:
        checks.limit(former)
    record_property(SEEN, (solution.lesson, MUTANTS, killed, made))
    assert made, "nothing between the solution marks to change"
    assert not alive, "survivors:\n" + "\n".join(alive)


def test_declared_equivalents_exist():
    """An allowance that no longer matches a mutant hides nothing and must go."""
    made = {
        (s.lesson, s.exercise, text)
        for s in mutants.solutions()
        for text, _ in mutants.mutants(s.source)
    }
    assert set(mutants.EQUIVALENT) <= made


def test_solutions_and_mutants_are_made_from_a_notebook(tmp_path):
    solution = (
        "def closed_form(x0, alpha_bar, eps):\n"
        "    a = alpha_bar.view(-1, *[SIDES] * (x0.ndim - 1))\n"
        "    ### BEGIN SOLUTION\n"
        "    return torch.sqrt(a) * x0 + torch.sqrt(SIDES - a) * eps\n"
        "    ### END SOLUTION\n"
    )
    cells = [
        ("%matplotlib inline\nimport torch\nSIDES = 1\nheavy = torch.load('absent')", {}),
        (solution, {"nbgrader": {"solution": True, "grade": False}}),
        ("checks.forward.closed_form(closed_form)", {"nbgrader": {"grade": True}}),
    ]
    book = {
        "cells": [{"cell_type": "code", "source": s, "metadata": m} for s, m in cells]
        + [{"cell_type": "markdown", "source": "words", "metadata": {}}]
    }
    (tmp_path / "01_book.ipynb").write_text(json.dumps(book))
    (made,) = mutants.solutions(tmp_path)
    assert (made.lesson, made.exercise, made.id) == (
        "forward",
        "closed_form",
        "01_book-closed_form",
    )
    assert mutants.refusal("forward", "closed_form", made.solve()) is None
    texts = dict(mutants.mutants(made.source))
    assert len(texts) == 16
    assert "torch.sqrt(a) * x0 -> torch.sqrt(a) + x0" in texts
    assert "SIDES - a -> a - SIDES" in texts
    assert not any("ndim" in text for text in texts), "only the solution is changed"
    assert mutants.survivors(made) == ([], 16, 16)
    blind = made.source.replace("torch.sqrt(a)", "(0 + torch.sqrt(a))")
    weak = mutants.Solution("b", "forward", "closed_form", blind, "closed_form", made.before)
    alive, killed, all_of_them = mutants.survivors(weak)
    assert alive == ["0 + torch.sqrt(a) -> torch.sqrt(a)"]
    assert killed == all_of_them - 1


# --- hostile answers to every exercise ----------------------------------------------------------


def _endless(*args, **kwargs):
    while True:
        pass


def _quits(*args, **kwargs):
    raise SystemExit(0)


def _broken(*args, **kwargs):
    raise ZeroDivisionError("made for the test")


def _stub(*args, **kwargs):
    raise NotImplementedError


HOSTILE = {
    "None": (lambda *args, **kwargs: None, ""),
    "zero": (lambda *args, **kwargs: 0, ""),
    "text": (lambda *args, **kwargs: "0.8", ""),
    "object": (lambda *args, **kwargs: object(), ""),
    "raises": (_broken, "ZeroDivisionError: made for the test"),
    "stub": (_stub, "not written yet"),
    "quits": (_quits, "SystemExit"),
    "interrupt": (
        lambda *args, **kwargs: (_ for _ in ()).throw(KeyboardInterrupt),
        "KeyboardInterrupt",
    ),
    "no function": (3.0, "hand over the function itself"),
}


@pytest.mark.parametrize("kind", HOSTILE)
@each_exercise
def test_hostile_answer_is_refused(lesson, name, kind):
    answer, says = HOSTILE[kind]
    message = mutants.refusal(lesson, name, answer)
    assert message is not None
    assert says in message


@each_exercise
def test_endless_answer_is_stopped(lesson, name):
    former = checks.limit(0.3)
    start = time.monotonic()
    try:
        message = mutants.refusal(lesson, name, _endless)
    finally:
        checks.limit(former)
    assert "took longer than 0.3 s" in message
    assert time.monotonic() - start < 1.5


@each_exercise
def test_package_version_is_no_answer(lesson, name):
    for dotted in mutants.check(lesson, name).exercise.disables:
        code = next(codes(dotted))
        cells = tuple(map(types.CellType, code.co_freevars))
        package = types.FunctionType(code, {}, closure=cells)
        keywords = code.co_varnames[code.co_argcount :][: code.co_kwonlyargcount]
        inputs = [None] * code.co_argcount, dict.fromkeys(keywords)

        def answer(*args, package=package, inputs=inputs, **kwargs):
            out = package(*inputs[0], **inputs[1])
            return next(out) if isinstance(out, types.GeneratorType) else out

        message = mutants.refusal(lesson, name, answer)
        assert f"calls {dotted}, the package's own version" in message


def _first_right(lesson, name):
    found = [a.answer for a in RIGHT_ANSWERS if (a.lesson, a.exercise) == (lesson, name)]
    assert found, "no right answer is declared"
    return found[0]


def _spoils_shape(answer, args, kwargs):
    return answer(*args, **kwargs).unsqueeze(0)


def _spoils_numbers(answer, args, kwargs):
    return answer(*args, **kwargs) * float("nan")


def _spoils_input(answer, args, kwargs):
    out = answer(*args, **kwargs)
    for value in args:
        if isinstance(value, torch.Tensor) and not value.requires_grad and value.numel():
            value.add_(1)
            break
    return out


@pytest.mark.parametrize("spoil", [_spoils_shape, _spoils_numbers, _spoils_input])
@each_exercise
def test_spoilt_right_answer_is_refused(lesson, name, spoil):
    """A right answer with one thing wrong; where it returns no tensor there is nothing to spoil."""
    right, spoilt = _first_right(lesson, name), []

    def answer(*args, **kwargs):
        plain = right(*args, **kwargs) if isinstance(right, types.FunctionType) else None
        if not isinstance(plain, torch.Tensor) or plain.is_floating_point() is False:
            return right(*args, **kwargs)
        if spoil is _spoils_input and not any(
            isinstance(a, torch.Tensor) and not a.requires_grad for a in args
        ):
            return plain
        spoilt.append(True)
        return spoil(right, args, kwargs)

    message = mutants.refusal(lesson, name, answer)
    assert message is not None or not spoilt
