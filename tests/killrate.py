"""How well the checks tell wrong answers from right ones, lesson by lesson, as a table.

Tests note what they saw with `record_property(SEEN, (lesson, column, good, made))`, which comes
through from xdist's workers too; the table stands at the end of pytest's output.
"""

from collections import Counter
from collections.abc import Iterable

SEEN = "kill rate"
WRONG, RIGHT, MUTANTS = COLUMNS = "wrong refused", "right accepted", "mutants killed"


def table(counts: Iterable[tuple[str, str, int, int]]) -> list[str]:
    """The lines of the table, from (lesson, column, how many were judged well, of how many)."""
    good, made = Counter(), Counter()
    lessons = []
    for lesson, column, some, every in counts:
        lessons += [] if lesson in lessons else [lesson]
        for row in (lesson, "all"):
            good[row, column] += some
            made[row, column] += every
    lines = [f"{'lesson':12}" + "".join(f"{column:>18}" for column in COLUMNS) + f"{'rate':>8}"]
    for row in [*lessons, "all"]:
        cells = "".join(f"{good[row, c]:>13}/{made[row, c]:<4}" for c in COLUMNS)
        rate = sum(good[row, c] for c in COLUMNS) / sum(made[row, c] for c in COLUMNS)
        # Cut off, not rounded: 100 % is said of all and nothing less.
        lines.append(f"{row:12}{cells}{int(1000 * rate) / 10:>6g} %")
    return lines


def pytest_terminal_summary(terminalreporter) -> None:
    """Print the table if a test of the checks has run."""
    reports = [report for some in terminalreporter.stats.values() for report in some]
    counts = [
        tuple(value)
        for report in reports
        if getattr(report, "when", None) == "call"
        for name, value in report.user_properties
        if name == SEEN
    ]
    if counts:
        terminalreporter.section("the checks of the exercises")
        terminalreporter.write_line("\n".join(table(counts)))
