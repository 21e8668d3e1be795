"""Wrong and right answers to every exercise, and mutants made from the notebooks' own solutions.

One module per lesson, named as in `minit2i.checks`. `@wrong(exercise, says=...)` declares an answer
that must be refused with these words, `@right(exercise)` one that must be accepted, and
`equivalent(exercise, mutant, because=...)` a mutation of the notebook's solution that changes
nothing. `python -m tests.mutants` prints the score, with `--messages` every message.
"""

import ast
import contextlib
import copy
import functools
import importlib
import io
import json
import pkgutil
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from minit2i import checks
from minit2i.checks.judge import CheckFailed

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Answer:
    """A declared answer to one exercise."""

    lesson: str
    exercise: str
    kind: str  # "wrong" or "right"
    answer: Callable
    says: str = ""
    how: str = ""
    also: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        words = self.how or self.says or "right"
        return (
            f"{self.lesson}.{self.exercise}-{self.kind}-{re.sub(r'[^a-z0-9]+', '_', words.lower())}"
        )


ANSWERS: list[Answer] = []
EQUIVALENT: dict[tuple[str, str, str], str] = {}


def _lesson(module: str) -> str:
    return module.rpartition(".")[2]


def wrong(exercise: str, says: str, how: str = "", also: tuple[str, ...] = ()) -> Callable:
    """Declare a wrong answer (function or class) whose refusal must contain `says`.

    `also` lists names of other mistakes that the message may contain.
    """

    def declare(answer):
        lesson = _lesson(answer.__module__)
        ANSWERS.append(Answer(lesson, exercise, "wrong", answer, says, how, also))
        return answer

    return declare


def right(exercise: str, how: str = "") -> Callable:
    """Declare a right answer, differently written: a function or anything else that is called."""
    lesson = _lesson(sys._getframe(1).f_globals["__name__"])  # a module or partial names no file

    def declare(answer):
        ANSWERS.append(Answer(lesson, exercise, "right", answer, how=how))
        return answer

    return declare


def equivalent(lesson: str, exercise: str, mutant: str, because: str) -> None:
    """Allow a mutant of the notebook's solution to pass, with the reason."""
    EQUIVALENT[lesson, exercise, mutant] = because


def load() -> None:
    """Import every lesson's answers, once."""
    for module in pkgutil.iter_modules(__path__):
        if not module.name.startswith("_"):
            importlib.import_module(f"{__name__}.{module.name}")


def check(lesson: str, exercise: str) -> Callable[[Any], None]:
    """The check of an exercise."""
    return getattr(getattr(checks, lesson), exercise)


def exercises() -> list[tuple[str, str]]:
    """(lesson, name) of every exercise in minit2i/checks."""
    found = []
    for module in pkgutil.iter_modules(checks.__path__):
        space = vars(importlib.import_module(f"minit2i.checks.{module.name}"))
        found += [
            (module.name, n)
            for n, f in space.items()
            if hasattr(f, "exercise") and f.exercise.name == n
        ]
    return found


def refusal(lesson: str, exercise: str, answer: Any) -> str | None:
    """The message with which an answer is refused; None if it is accepted."""
    with contextlib.redirect_stdout(io.StringIO()):
        try:
            check(lesson, exercise)(answer)
        except CheckFailed as failed:
            return str(failed)
    return None


# --- the notebooks' own solutions ---------------------------------------------------------------

SOLUTION = re.compile(r"(?ms)^[ \t]*### BEGIN SOLUTION\n(.*?)^[ \t]*### END SOLUTION")
MAGIC = re.compile(r"(?m)^([ \t]*)[%!].*$")


@dataclass
class Solution:
    """A solution cell, the cells it needs, and the answer its check cell hands over."""

    notebook: str
    lesson: str
    exercise: str
    source: str
    answer: str
    before: list[str] = field(repr=False)

    @property
    def id(self) -> str:
        return f"{self.notebook}-{self.exercise}"

    @functools.cached_property
    def space(self) -> dict[str, Any]:
        """The namespace in which the solution cell runs."""
        space = {"__name__": "__main__"}
        for source in self.before:
            _execute(source, space, self.notebook)
        return space

    def solve(self, source: str | None = None) -> Any:
        """The answer that the solution cell, or another version of it, makes."""
        space = dict(self.space)
        _execute(self.source if source is None else source, space, self.notebook)
        return eval(self.answer, space)


def _execute(source: str, space: dict[str, Any], name: str) -> None:
    with contextlib.redirect_stdout(io.StringIO()):
        exec(compile(source, name, "exec"), space)


def _definitions(source: str) -> str:
    """A cell's imports, functions, classes and constants: what a solution may need, and no work."""
    kept = []
    for node in ast.parse(source).body:
        if isinstance(node, ast.Import | ast.ImportFrom | ast.FunctionDef | ast.ClassDef):
            kept.append(node)
        elif isinstance(node, ast.Assign):
            with contextlib.suppress(ValueError):
                ast.literal_eval(node.value)
                kept.append(node)
    return "\n".join(map(ast.unparse, kept))


def _checked(source: str) -> Iterator[tuple[str, str, str]]:
    """(lesson, exercise, expression) of every call checks.<lesson>.<exercise>(expression)."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and node.args:
            lesson, _, exercise = ast.unparse(node.func).removeprefix("checks.").rpartition(".")
            if ast.unparse(node.func) == f"checks.{lesson}.{exercise}" and "." not in lesson:
                yield lesson, exercise, ast.unparse(node.args[0])


@functools.cache
def solutions(folder: Path = ROOT / "notebooks") -> list[Solution]:
    """Every solution cell of the notebooks that a later check cell calls."""
    found = []
    for path in sorted(folder.glob("*.ipynb")):
        before: list[str] = []
        latest: tuple[int, str] | None = None
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            if cell["cell_type"] != "code":
                continue
            source = MAGIC.sub(r"\1pass", "".join(cell["source"]))
            graded = cell["metadata"].get("nbgrader", {})
            if "### BEGIN SOLUTION" in source:
                latest = len(before), source
            if graded.get("grade") and latest is not None:
                at, solution = latest
                found += [
                    Solution(path.stem, lesson, exercise, solution, answer, before[:at])
                    for lesson, exercise, answer in _checked(source)
                ]
            setup = "setup" in cell["metadata"].get("tags", [])
            before.append(source if setup else _definitions(source))
    return found


# --- mutants of a solution ----------------------------------------------------------------------

SWAPS = {
    ast.Add: (ast.Sub,),
    ast.Sub: (ast.Add,),
    ast.Mult: (ast.Add, ast.Div),
    ast.Div: (ast.Mult,),
    ast.Pow: (ast.Mult,),
    ast.MatMult: (ast.Mult,),
    ast.Lt: (ast.LtE, ast.Gt),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.Lt),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.And: (ast.Or,),
    ast.Or: (ast.And,),
}


def _edits(node: ast.AST) -> Iterator[ast.AST]:
    """What may stand in a node's place."""

    def changed(**parts) -> ast.AST:
        new = copy.copy(node)
        vars(new).update(parts)
        return new

    if isinstance(node, ast.BinOp):
        yield from (changed(op=new()) for new in SWAPS.get(type(node.op), ()))
        yield node.left
        yield node.right
        if isinstance(node.op, ast.Sub | ast.Div | ast.Pow):
            yield changed(left=node.right, right=node.left)
    elif isinstance(node, ast.Compare) and len(node.ops) == 1:
        yield from (changed(ops=[new()]) for new in SWAPS.get(type(node.ops[0]), ()))
    elif isinstance(node, ast.BoolOp):
        yield from (changed(op=new()) for new in SWAPS[type(node.op)])
    elif isinstance(node, ast.UnaryOp):
        yield node.operand
    elif isinstance(node, ast.Constant):
        if isinstance(node.value, bool):
            yield changed(value=not node.value)
        elif isinstance(node.value, int | float):
            yield changed(value=node.value + 1)
    elif isinstance(node, ast.Return) and node.value is not None:
        yield changed(value=ast.Constant(None))
    elif isinstance(node, ast.Call) and len(node.args) > 1:
        for i in range(len(node.args) - 1):
            args = list(node.args)
            args[i], args[i + 1] = args[i + 1], args[i]
            if ast.dump(args[i]) != ast.dump(args[i + 1]):
                yield changed(args=args)
    elif isinstance(node, ast.AugAssign):
        yield from (changed(op=new()) for new in SWAPS.get(type(node.op), ()))


class _Place(ast.NodeTransformer):
    """Puts one node in the place of another."""

    def __init__(self, old: ast.AST, new: ast.AST):
        self.old, self.new = old, new

    def visit(self, node: ast.AST) -> ast.AST:
        return self.new if node is self.old else super().visit(node)


def mutants(source: str) -> Iterator[tuple[str, str]]:
    """(what was changed, source) of every mutant of the code between the solution marks."""
    spans = [
        (source.count("\n", 0, m.start(1)) + 1, source.count("\n", 0, m.end(1)))
        for m in SOLUTION.finditer(source)
    ]
    whole = ast.unparse(ast.parse(source))
    names: dict[str, int] = {}
    count = sum(1 for _ in ast.walk(ast.parse(source)))
    for index in range(count):
        tree = ast.parse(source)
        node = list(ast.walk(tree))[index]
        if not any(first <= getattr(node, "lineno", 0) <= last for first, last in spans):
            continue
        for which in range(len(list(_edits(node)))):
            tree = ast.parse(source)
            node = list(ast.walk(tree))[index]
            new = list(_edits(node))[which]
            text = f"{ast.unparse(node)} -> {ast.unparse(new)}"
            mutated = ast.unparse(ast.fix_missing_locations(_Place(node, new).visit(tree)))
            if mutated == whole:
                continue
            names[text] = names.get(text, 0) + 1
            yield text + (f" #{names[text]}" if names[text] > 1 else ""), mutated


def survivors(solution: Solution) -> tuple[list[str], int, int]:
    """Mutants that pass though not declared equivalent, the number killed and the number made."""
    alive, killed, made = [], 0, 0
    for text, source in mutants(solution.source):
        if (solution.lesson, solution.exercise, text) in EQUIVALENT:
            continue
        made += 1
        try:
            dead = refusal(solution.lesson, solution.exercise, solution.solve(source)) is not None
        except Exception:  # the cell itself stops, in front of the learner
            dead = True
        killed += dead
        if not dead:
            alive.append(text)
    return alive, killed, made


def well_judged(answer: Answer, message: str | None) -> bool:
    """Whether a right answer was accepted, or a wrong one refused with its own message alone."""
    if answer.kind == "right":
        return message is None
    return message is not None and answer.says in message and not others(answer, message)


def others(answer: Answer, message: str) -> list[str]:
    """Names of other known mistakes of the exercise that a message contains."""
    known = check(answer.lesson, answer.exercise).exercise.mistakes
    names = [m.name for m in known if answer.says not in m.name and m.name not in answer.also]
    return [name for name in names if name in message]
