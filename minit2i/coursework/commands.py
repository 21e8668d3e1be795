"""The commands of coursework: exercises, check, release, grade."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import click

COURSE = Path("build/course")
lesson_option = click.option(
    "--lesson", "only", multiple=True, help="A lesson by its beginning, 01; default: all."
)
course_option = click.option(
    "--course", "folder", type=click.Path(path_type=Path), default=COURSE, show_default=True,
    help="The nbgrader course folder.",
)  # fmt: skip
seconds_option = click.option(
    "--cell-seconds", default=30.0, show_default=True, type=click.FloatRange(1),
    help="A cell that takes longer is ended.",
)  # fmt: skip


@click.command()
@click.option(
    "--folder", type=click.Path(path_type=Path), default=Path("exercises"), show_default=True
)
def exercises(folder: Path) -> None:
    """Put the student versions into FOLDER; what you have changed there is kept."""
    from minit2i.coursework import lesson, workbook

    for name, became in workbook.put(folder, lesson.lessons()).items():
        print(f"{folder / name}.ipynb: {became}")


@click.command()
@click.argument("notebooks", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print machine-readable results.")
@seconds_option
def check(notebooks: tuple[Path, ...], as_json: bool, cell_seconds: float) -> None:
    """Judge every exercise of NOTEBOOKS without opening them; exit status 1 if one is not passed.

    Set-up, answers and your own cells are run; training and figures are not.
    """
    from dataclasses import asdict

    import nbformat

    from minit2i.coursework import lesson, runner, submission

    reports, failed = {}, False
    for path in _files(notebooks):
        try:
            frame = nbformat.read(_lesson(path), as_version=4)
            if not lesson.exercises(frame):
                print(f"{path}: no exercises", file=sys.stderr)
                continue
            restored = submission.restore(frame, submission.read(path))
        except ValueError as error:
            print(f"{path}: {error}", file=sys.stderr)
            failed = True
            continue
        report = runner.run(frame, restored.notebook, runner.Limits(cell_seconds=cell_seconds))
        report.notes[:0] = restored.notes
        reports[str(path)] = report
        failed |= not all(verdict.passed for verdict in report.verdicts)
        if not as_json:
            _tell(path, report)
    if as_json:
        print(json.dumps({path: asdict(report) for path, report in reports.items()}, indent=2))
    sys.exit(int(failed))


def _files(paths: tuple[Path, ...]) -> Iterator[Path]:
    """The files that are meant: those of a folder, if one is named."""
    for path in paths:
        yield from sorted(path.glob("*.ipynb")) if path.is_dir() else [path]


def _lesson(path: Path) -> Path:
    """The course's own notebook of a file by its name. Raises ValueError if there is none."""
    from minit2i.coursework import lesson

    known = lesson.lessons()
    for name in known:
        if path.stem.startswith(name):
            return known[name]
    raise ValueError(f"this is no lesson's name; there are {', '.join(known)}")


def _tell(path: Path, report) -> None:
    passed = sum(verdict.passed for verdict in report.verdicts)
    points = sum(verdict.points for verdict in report.verdicts)
    of = sum(verdict.of for verdict in report.verdicts)
    print(f"{path}: {passed} of {len(report.verdicts)} exercises, {points:g} of {of:g} points")
    for verdict in report.verdicts:
        message = verdict.said.replace("\n", "\n    ")
        print(f"  {verdict.state:<8} {verdict.exercise}: {message}")
    for note in report.notes:
        print(f"  note: {note}")


@click.command()
@lesson_option
@course_option
def release(only: tuple[str, ...], folder: Path) -> None:
    """Make the student versions and the gradebook's list of exercises."""
    from minit2i.coursework import course, lesson

    lessons = lesson.graded(only=only)
    made = course.Course(folder)
    with made.alone():
        changed = made.release(lessons)
    for name in lessons:
        print(f"{folder / 'release' / name}: {made.points(name):g} points")
    for name in changed:
        print(
            f"{name} has other exercises than before: grade again. A copy of the gradebook is kept."
        )


@click.command()
@click.argument("submissions", type=click.Path(path_type=Path))
@lesson_option
@course_option
@click.option(
    "--seed", default=0, show_default=True, help="The course's: other numbers in the checks."
)
@click.option("--jobs", default=2, show_default=True, type=click.IntRange(1, 64))
@click.option("--again", is_flag=True, help="Grade also what has not changed.")
@click.option("--isolate", help="user:NAME or container:IMAGE, see notebooks/INSTRUCTORS.md.")
@click.option(
    "--memory", default=2.0, show_default=True, type=click.FloatRange(0.5),
    help="Gigabytes for a submission's data.",
)  # fmt: skip
@seconds_option
def grade(
    submissions: Path,
    only: tuple[str, ...],
    folder: Path,
    seed: int,
    jobs: int,
    again: bool,
    isolate: str | None,
    memory: float,
    cell_seconds: float,
) -> None:
    """Grade a folder of SUBMISSIONS (STUDENT/LESSON/LESSON.ipynb) into a course folder."""
    from minit2i.coursework import course, lesson
    from minit2i.coursework import grade as grading
    from minit2i.coursework.runner import Limits

    made = course.Course(folder)
    if not made.released():
        made.release(lesson.graded(only=only))
    limits = Limits(cell_seconds=cell_seconds, memory=int(memory * 1e9))
    outcome = grading.grade(submissions, made, only, limits, seed, jobs, isolate, again)
    for problem in outcome.problems:
        print(problem)
    print(f"{outcome.graded} notebooks graded, {outcome.unchanged} unchanged since the last time")
    print(f"marks: {folder / 'gradebook.csv'}, {folder / 'exercises.csv'}; notes.csv beside them")
    print(f"feedback: {folder / 'feedback'}")
