"""Which exercises of a folder are passed: read from the saved notebooks, nothing is run."""

import json
import re
import textwrap
from dataclasses import dataclass
from pathlib import Path

PASSED = re.compile(r"propert(y|ies) holds?\.")
UNWRITTEN = "not written yet"  # what the check of an empty answer says


@dataclass(frozen=True)
class Progress:
    """The exercises of one notebook, by what the saved outputs of their checks say."""

    lesson: str
    passed: tuple[str, ...]
    refused: tuple[str, ...]
    open: tuple[str, ...]

    @property
    def count(self) -> int:
        return len(self.passed) + len(self.refused) + len(self.open)


def read(path: Path) -> Progress:
    """The state of a notebook's exercises. Raises ValueError for what is no notebook."""
    state: dict[str, list[str]] = {"passed": [], "refused": [], "open": []}
    try:
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            marks = cell["metadata"].get("nbgrader", {})
            if marks.get("grade") and not marks.get("solution"):
                state[_state(cell["outputs"])].append(marks["grade_id"].removesuffix("_check"))
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"{path} is no notebook ({error})") from None
    return Progress(path.stem, **{key: tuple(names) for key, names in state.items()})


def _state(outputs: list[dict]) -> str:
    errors = [output["evalue"] for output in outputs if output["output_type"] == "error"]
    if errors:
        return "open" if all(UNWRITTEN in error for error in errors) else "refused"
    text = "".join("".join(output.get("text", ())) for output in outputs)
    return "passed" if PASSED.search(text) else "open"


def show(folder: Path | str = ".") -> None:
    """Print the state of every exercise in the notebooks of a folder, as they were saved."""
    rows = [row for path in sorted(Path(folder).glob("*.ipynb")) if (row := read(path)).count]
    width = max((len(row.lesson) for row in rows), default=0)
    for row in rows:
        line = f"{row.lesson:<{width}}  {len(row.passed)} of {row.count} passed"
        for word in ("refused", "open"):
            names = getattr(row, word)
            line += f"; {word}: {', '.join(names)}" if names else ""
        print(textwrap.fill(line, 100, subsequent_indent=" " * (width + 2)))
    passed, count = sum(len(row.passed) for row in rows), sum(row.count for row in rows)
    print(f"{passed} of {count} exercises passed" if rows else "no lesson with exercises here")
