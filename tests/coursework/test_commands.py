"""The commands of a learner, and what they say."""

import copy
import hashlib
import json
import subprocess
import sys

import nbformat
import pytest
from click.testing import CliRunner

from minit2i.cli import main
from minit2i.coursework import progress
from tests.coursework import books

LESSON = "01_forward_diffusion"


def call(*words):
    return CliRunner().invoke(main, [str(word) for word in words])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A working folder as `make exercises` leaves it."""
    folder = tmp_path_factory.mktemp("learner") / "exercises"
    result = call("exercises", "--folder", folder)
    assert result.exit_code == 0, result.output
    assert f"{LESSON}.ipynb: new" in result.output
    return folder


def test_every_notebook_is_there_without_solutions(folder):
    names = {path.name for path in folder.glob("*.ipynb")}
    assert names == {path.name for path in (books.ROOT / "notebooks").glob("*.ipynb")}
    for path in folder.glob("*.ipynb"):
        assert "BEGIN SOLUTION" not in path.read_text(encoding="utf-8")


def test_what_a_learner_changed_is_kept_and_the_rest_brought_up_to_date(folder):
    mine, theirs = folder / f"{LESSON}.ipynb", folder / "02_reverse_process.ipynb"
    before = {path: path.read_bytes() for path in (mine, theirs)}
    record = folder / ".minit2i.json"
    put = record.read_bytes()
    try:
        mine.write_bytes(before[mine].replace(b"NotImplementedError", b"ValueError"))
        theirs.unlink()
        output = call("exercises", "--folder", folder).output
        assert f"{LESSON}.ipynb: yours, kept\n" in output
        assert b"ValueError" in mine.read_bytes()
        assert theirs.read_bytes() == before[theirs]
        # An older version that the learner has not touched is replaced.
        theirs.write_bytes(b"old")
        old = json.loads(put) | {theirs.stem: hashlib.sha256(b"old").hexdigest()}
        record.write_text(json.dumps(old))
        assert (
            "02_reverse_process.ipynb: brought up to date"
            in call("exercises", "--folder", folder).output
        )
        assert theirs.read_bytes() == before[theirs]
    finally:
        for path, data in before.items():
            path.write_bytes(data)
        record.write_bytes(put)


def test_a_damaged_record_makes_every_changed_file_the_learners(folder, tmp_path):
    (tmp_path / ".minit2i.json").write_text("{")
    (tmp_path / f"{LESSON}.ipynb").write_text("mine")
    assert f"{LESSON}.ipynb: yours, kept" in call("exercises", "--folder", tmp_path).output
    assert (tmp_path / f"{LESSON}.ipynb").read_text() == "mine"


def test_check_tells_the_state_of_every_exercise(tmp_path):
    wrong = "def closed_form(x0, alpha_bar, eps):\n    return x0 + eps\n"
    stub = "def linear(T, beta_min=1e-4, beta_max=0.02):\n    raise NotImplementedError\n"
    notebook = books.answered(LESSON, closed_form=wrong, linear=stub)
    path = tmp_path / f"{LESSON}-mine.ipynb"
    path.write_text(nbformat.writes(notebook), encoding="utf-8")
    result = call("check", path)
    assert result.exit_code == 1
    assert "3 of 5 exercises, 4 of 8 points" in result.output
    assert "passed   alpha_bar: all 6 properties hold." in result.output
    assert "refused  closed_form: this does not hold" in result.output
    assert "open     linear: not written yet" in result.output
    assert path.read_text(encoding="utf-8") == nbformat.writes(notebook)


def test_check_of_a_solved_lesson_succeeds():
    path = books.ROOT / "notebooks" / f"{LESSON}.ipynb"
    command = [sys.executable, "-m", "minit2i", "check", str(path), "--json"]
    done = subprocess.run(command, cwd=books.ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (report,) = json.loads(done.stdout).values()
    assert all(v["points"] == v["of"] for v in report["verdicts"])


@pytest.mark.parametrize(
    "name, content, says",
    [
        ("99_other.ipynb", "{}", "99_other.ipynb: this is no lesson's name; there are 00_start"),
        (f"{LESSON}.ipynb", "{", "The file is no notebook"),
        (f"{LESSON}.ipynb", None, "cannot be opened"),
    ],
)
def test_check_says_what_is_wrong_with_a_file(tmp_path, name, content, says):
    path = tmp_path / name
    if content is not None:
        path.write_text(content)
    result = call("check", path)
    assert result.exit_code == 1 and says in result.output
    assert "Traceback" not in result.output


def test_check_goes_through_a_folder_whatever_one_file_is(folder):
    (folder / "99_other.ipynb").write_text("{}")
    result = call("check", folder, "--json")
    (folder / "99_other.ipynb").unlink()
    assert result.exit_code == 1
    assert "00_start_here.ipynb: no exercises" in result.output
    assert "99_other.ipynb: this is no lesson's name" in result.output
    assert len(json.loads(result.stdout)) == 6  # lessons 01 to 06 have exercises


def test_progress_tells_passed_refused_and_open(tmp_path, capsys):
    notebook = books.solved(LESSON)
    refused = nbformat.v4.new_output("error", ename="CheckFailed", evalue="no", traceback=[])
    books.cell(notebook, "linear_check").outputs = [refused]
    books.cell(notebook, "snr_check").outputs = []
    unwritten = copy.deepcopy(refused)
    unwritten.evalue = "cosine: not written yet: replace this line"
    books.cell(notebook, "cosine_check").outputs = [unwritten]
    (tmp_path / f"{LESSON}.ipynb").write_text(nbformat.writes(notebook), encoding="utf-8")
    progress.show(tmp_path)
    said = capsys.readouterr().out
    assert "2 of 5 passed; refused: linear; open: cosine, snr" in said
    assert "2 of 5 exercises passed" in said


def test_progress_of_a_folder_without_lessons(tmp_path, capsys):
    progress.show(tmp_path)
    assert "no lesson with exercises here" in capsys.readouterr().out
    (tmp_path / "a.ipynb").write_text("{}")
    with pytest.raises(ValueError, match="no notebook"):
        progress.show(tmp_path)


@pytest.mark.parametrize(
    "words, says",
    [
        (("grade", "nowhere"), "nowhere is not a folder"),
        (("release", "--lesson", "77"), "no lesson '77'"),
        (("grade", "x", "--isolate", "jail:y"), "give user:NAME or container:IMAGE"),
        (("grade", "x", "--isolate", "user:nobody-of-that-name"), "there is no user"),
        (("grade", "x", "--isolate", "user:root"), "isolates nothing"),
    ],
)
def test_a_wrong_word_is_told_in_one_line(tmp_path, words, says):
    result = call(*words, "--course", tmp_path / "course")
    assert result.exit_code == 1 and says in result.output
    assert "Traceback" not in result.output
