"""The instructors' guide says what is true today: points, hours, messages, commands, links."""

import ast
import json
import re
from pathlib import Path

import pytest

from minit2i import checks
from minit2i.checks import judge
from minit2i.cli import main
from tests import mutants

mutants.load()
ROOT = Path(__file__).parents[1]
NOTEBOOKS = {path.stem.split("_")[0]: path for path in (ROOT / "notebooks").glob("*.ipynb")}
GUIDE = (ROOT / "notebooks" / "INSTRUCTORS.md").read_text(encoding="utf-8")
LESSONS = ("01", "02", "03", "04", "05", "06")


def section(title: str, text: str = GUIDE) -> str:
    """What stands under a heading, up to the next of its level or a higher one."""
    level = title.split(" ")[0]
    found = re.search(
        rf"^{re.escape(title)}\n(.*?)(?=^#{{1,{len(level)}}} |\Z)", text, re.DOTALL | re.MULTILINE
    )
    assert found, f"no section {title!r}"
    return found[1]


def rows(text: str) -> list[list[str]]:
    """The cells of a table's rows, without its head."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def cells(lesson: str) -> list[dict]:
    return json.loads(NOTEBOOKS[lesson].read_text(encoding="utf-8"))["cells"]


def graded(lesson: str) -> dict[str, int]:
    """Points by exercise, as nbgrader will count them."""
    marks = [cell["metadata"].get("nbgrader", {}) for cell in cells(lesson)]
    return {m["grade_id"].removesuffix("_check"): m["points"] for m in marks if m.get("grade")}


# --- numbers ------------------------------------------------------------------------------------


def test_points_are_those_of_the_notebooks():
    expected = []
    for lesson in LESSONS:
        points = graded(lesson)
        expected += [(lesson, f"`{name}`", str(n)) for name, n in points.items()]
        expected.append((f"**{lesson}**", "**all**", f"**{sum(points.values())}**"))
    total = sum(sum(graded(lesson).values()) for lesson in LESSONS)
    expected.append(("**01-06**", "**all**", f"**{total}**"))
    table = [(a, b.removesuffix(" (by hand)"), c) for a, b, c in rows(section("### Points"))]
    assert table == expected


def test_hours_are_those_that_the_lessons_state():
    numbers = {"half an": "½", "three": "3", "four": "4", "five": "5"}
    for link, hours, points in rows(section("## Time plans").split("### ")[0]):
        lesson = re.match(r"\[(\w+) ", link)[1]
        first = "".join(cells(lesson)[0]["source"]).lower()
        stated = re.search(r"\*\*study (?:time|hours)[.:]+\*\* ([^\n]*?) hour", first)[1]
        for word, number in numbers.items():
            stated = stated.replace(word, number)
        assert stated.replace(" to ", "-") == hours, lesson
        assert points == str(sum(graded(lesson).values()) or ""), lesson


def test_every_written_question_has_a_rubric():
    rubric = rows(section("### Written questions: rubric"))
    assert [row[0] for row in rubric] == list(LESSONS)
    assert all(len(row) == 3 and row[1] and row[2] for row in rubric)


# --- errors and questions -----------------------------------------------------------------------

ERRORS = section("## Common errors")
QUOTED = [
    (lesson, quote)
    for lesson in LESSONS
    for quote in re.findall(
        r"```text\n(.*?)\n```", section(f"### Lesson {lesson}", ERRORS), re.DOTALL
    )
]


@pytest.fixture(autouse=True)
def patient():
    former = checks.limit(20)
    yield
    checks.limit(former)


@pytest.mark.parametrize("lesson", LESSONS)
def test_each_lesson_has_common_errors_with_advice(lesson):
    text = section(f"### Lesson {lesson}", ERRORS)
    assert text.count("```text") in range(4, 7)
    assert text.count("```text") == text.count("**In class.**")


@pytest.mark.parametrize("lesson, quote", QUOTED, ids=[q.splitlines()[0][:60] for _, q in QUOTED])
def test_a_quoted_message_is_what_the_check_prints(lesson, quote):
    """As a wrong answer of tests/mutants gets it, less the lines with numbers and places."""
    exercise, name = quote.split(":")[0], re.search(r"known mistake: (.*)\.", quote)
    assert exercise in graded(lesson)
    answers = [a for a in mutants.ANSWERS if (a.exercise, a.kind) == (exercise, "wrong")]
    said = []
    for answer in answers:
        if name is None or answer.says in name[1]:
            said.append(mutants.refusal(answer.lesson, exercise, answer.answer))
            kept = re.findall(r"^(?:\S|  This looks|  Hint:).*", said[-1], re.MULTILINE)
            if quote.splitlines() == kept:
                return
    pytest.fail("not printed; today:\n" + "\n".join(said))


def test_general_messages_are_in_the_judge():
    source = "".join(path.read_text("utf-8") for path in (ROOT / "minit2i/checks").glob("*.py"))
    table = rows(ERRORS.split("### ")[0])
    assert len(table) >= 4
    for said, _, _ in table:
        assert said.strip("`") in source, said


@pytest.mark.parametrize("lesson", ("00", *LESSONS))
def test_each_lesson_has_questions_with_answers(lesson):
    text = section(f"### Lesson {lesson}", section("## Discussion questions"))
    found = re.findall(r"^\*\*(\d)\. .+?\*\* (.+)$", text, re.MULTILINE)
    assert [int(number) for number, _ in found] == list(range(1, len(found) + 1))
    assert len(found) in range(4, 7)
    assert all(len(answer.split()) >= 25 for _, answer in found)


# --- the example of a new exercise --------------------------------------------------------------


def test_the_example_exercise_works_as_printed():
    first, second, third = re.findall(
        r"```python\n(.*?)```", section("## Adding an exercise"), re.DOTALL
    )
    space = dict(vars(judge))
    exec(first, space)
    check = space["transition"]
    answers = []

    def wrong(exercise, says, how=""):
        return lambda answer: answers.append((answer, says))

    def right(exercise, how=""):
        return lambda answer: answers.append((answer, None))

    exec(second, {"wrong": wrong, "right": right})
    assert [says is None for _, says in answers] == [False] * 4 + [True] * 2
    for answer, says in answers:
        if says is None:
            check(answer)
        else:
            with pytest.raises(checks.CheckFailed, match=re.escape(says)):
                check(answer)
    solution = next(
        ast.literal_eval(node.args[0])
        for node in ast.walk(ast.parse(third))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "new_code_cell"
    )
    exec(solution, space)
    check(space["transition"])


# --- what the guide points to -------------------------------------------------------------------


def test_links_lead_somewhere():
    anchors = {
        re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
        for title in re.findall(r"^#+ (.+)$", GUIDE, re.MULTILINE)
    }
    for target in re.findall(r"\]\(([^)]+)\)", re.sub(r"```.*?```", "", GUIDE, flags=re.DOTALL)):
        if target.startswith("https://"):
            continue
        if target.startswith("#"):
            assert target[1:] in anchors, target
        else:
            assert (ROOT / "notebooks" / target).exists(), target
    assert "notebooks/INSTRUCTORS.md" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_commands_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^(\w+):", makefile, re.MULTILINE))
    blocks = re.compile(r"^```\w*\n(.*?)^```$", re.DOTALL | re.MULTILINE)
    code = "\n".join(blocks.findall(GUIDE) + re.findall(r"`([^`\n]+)`", blocks.sub("", GUIDE)))
    made = set(re.findall(r"(?m)^make (\w+)", code))
    called = set(re.findall(r"python -m minit2i (\w+)", code))
    assert {"release", "grade"} <= made <= targets
    assert {"release", "check"} <= called <= set(main.commands)
    options = {o for c in main.commands.values() for p in c.params for o in p.opts}
    assert set(re.findall(r"^\| `(--[\w-]+)", GUIDE, re.MULTILINE)) <= options


@pytest.mark.parametrize("lesson", NOTEBOOKS)
def test_no_lesson_needs_another_notebook(lesson):
    """What the guide says on skipping a lesson: only the package and libraries are imported."""
    known = {"minit2i", "torch", "numpy", "matplotlib", "tqdm", "ipywidgets"}
    known |= {"copy", "math", "itertools", "tempfile", "textwrap"}
    for cell in cells(lesson):
        if cell["cell_type"] != "code":
            continue
        source = "".join(cell["source"])
        assert not re.search(r"\.ipynb|%run|\bopen\(|torch\.load\(", source), cell["id"]
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Import):
                assert {alias.name.split(".")[0] for alias in node.names} <= known, cell["id"]
            elif isinstance(node, ast.ImportFrom):
                assert node.module.split(".")[0] in known, cell["id"]
