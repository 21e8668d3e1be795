"""A class on lesson 01: one student for each way to be right, odd, broken or hostile.

Each gives what is handed in, the exercises that are expected to be lost (all others are right),
and words that the marks must hold. Right answers beside a hostile one must keep their points.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell

from tests.coursework import books

LESSON = "01_forward_diffusion"
EVERY = frozenset(books.points(LESSON))
WRONG = "def closed_form(x0, alpha_bar, eps):\n    return x0\n"
RIGHT = books.solution_of(LESSON, "closed_form")


@dataclass(frozen=True)
class Student:
    """One submission and what it must lead to."""

    name: str
    make: Callable[[Path], object]  # from the folder of all submissions
    loses: frozenset[str] = frozenset()
    says: str = ""  # words in the message of a lost exercise, or in a note


STUDENTS: list[Student] = []


def student(name: str, loses: Iterable[str] = (), says: str = "") -> Callable:
    """Declare a student; the function makes the notebook, or the bytes of the file."""

    def declare(make):
        STUDENTS.append(Student(name, make, frozenset(loses), says))
        return make

    return declare


def solution(name: str, source: str, says: str, loses: Iterable[str] = ("closed_form",)) -> None:
    """Declare a student who gives `source` as the answer to closed_form."""
    student(name, loses, says)(lambda folder: books.answered(LESSON, closed_form=source))


# --- ordinary -------------------------------------------------------------------------------------


@student("right")
def _(folder):
    return books.solved(LESSON)


@student("blank", EVERY, "not written yet")
def _(folder):
    notebook = books.solved(LESSON)
    for name in EVERY:
        head = books.cell(notebook, name).source.split("):")[0]
        books.cell(notebook, name).source = f"{head}):\n    raise NotImplementedError\n"
    return notebook


@student("Ünïcode, Zoë 李")
def _(folder):
    return books.solved(LESSON)


@student("syntax error", ["cosine"], "SyntaxError")
def _(folder):
    return books.answered(LESSON, cosine="def cosine(T:\n    return T\n")


@student("own helper cell")
def _(folder):
    notebook = books.answered(LESSON, closed_form="closed_form = made_elsewhere\n")
    helper = new_code_cell(RIGHT.replace("def closed_form", "def made_elsewhere"))
    return books.after(notebook, "alpha_bar_check", helper)


@student("double precision everywhere")
def _(folder):
    notebook = books.solved(LESSON)
    own = new_code_cell("import torch\ntorch.set_default_dtype(torch.float64)")
    return books.after(notebook, "alpha_bar", own)


solution(
    "shell commands, magics and the path",
    "!pip install nothing\nimport sys\nsys.path = [*sys.path, '.']\n%matplotlib inline\n" + RIGHT,
    "",
    loses=(),
)
solution(
    "scikit-learn and a progress bar",
    "from sklearn.cluster import KMeans\nfrom tqdm.auto import tqdm\n"
    "KMeans(2, n_init=1).fit([[0.0], [1.0], [2.0]])\n"
    + RIGHT.replace('Eq. (6)."""', 'Eq. (6)."""\n    list(tqdm(range(3)))'),
    "",
    loses=(),
)

# --- broken ---------------------------------------------------------------------------------------


@student("no json", EVERY, "no notebook")
def _(folder):
    return b"{ this is not JSON"


@student("other json", EVERY, "no notebook")
def _(folder):
    return b'{"cells": 7, "nbformat": 4}'


@student("not utf-8", EVERY, "not text in UTF-8")
def _(folder):
    return "Umlaut ü".encode("latin-1") * 10


@student("a hundred megabytes", EVERY, "too large (100 MB")
def _(folder):
    path = books.put(folder, "a hundred megabytes", LESSON, b"{")
    with path.open("r+b") as file:
        file.truncate(100_000_000)


@student("a link", EVERY, "a link")
def _(folder):
    path = books.put(folder, "a link", LESSON, None)
    path.symlink_to(folder / "right" / LESSON / f"{LESSON}.ipynb")


@student("windows")
def _(folder):
    notebook = books.solved(LESSON)
    for cell in notebook.cells:
        cell.source = cell.source.replace("\n", "\r\n")
    text = nbformat.writes(notebook).replace("\n", "\r\n")
    return b"\xef\xbb\xbf" + text.encode()


@student("another name", says="was called mine (2).ipynb")
def _(folder):
    path = books.put(folder, "another name", LESSON, books.solved(LESSON))
    path.rename(path.with_name("mine (2).ipynb"))


@student("check deleted", says="check of closed_form was deleted")
def _(folder):
    notebook = books.solved(LESSON)
    notebook.cells.remove(books.cell(notebook, "closed_form_check"))
    return notebook


@student("check deleted, wrong", ["closed_form"], "closed_form")
def _(folder):
    notebook = books.answered(LESSON, closed_form=WRONG)
    notebook.cells.remove(books.cell(notebook, "closed_form_check"))
    return notebook


@student("check edited", ["closed_form"], "was edited")
def _(folder):
    notebook = books.answered(LESSON, closed_form=WRONG)
    books.cell(notebook, "closed_form_check").source = "assert True"
    return notebook


@student("check copied", says="copy of the check closed_form")
def _(folder):
    notebook = books.solved(LESSON)
    check = books.cell(notebook, "closed_form_check")
    return books.after(notebook, "closed_form_check", nbformat.from_dict({**check, "id": "twin"}))


@student("answer deleted", ["closed_form"], "is missing")
def _(folder):
    notebook = books.solved(LESSON)
    notebook.cells.remove(books.cell(notebook, "closed_form"))
    return notebook


@student("answer copied", says="is there twice")
def _(folder):
    notebook = books.answered(LESSON, closed_form=WRONG)
    again = new_code_cell(RIGHT, metadata=books.cell(notebook, "closed_form").metadata)
    return books.after(notebook, "closed_form", again)


@student("ids changed", says="its id was changed")
def _(folder):
    notebook = books.solved(LESSON)
    cell = books.cell(notebook, "closed_form")
    cell.metadata, cell.id = {}, "something-else"
    return notebook


@student("all ids and marks lost")
def _(folder):
    notebook = books.solved(LESSON)
    for number, cell in enumerate(notebook.cells):
        cell.metadata, cell.id = {}, f"fresh-{number}"
    return notebook


@student("cells in another order")
def _(folder):
    notebook = books.solved(LESSON)
    notebook.cells[1:] = notebook.cells[:0:-1]
    return notebook


@student("answer turned into text", says="was a markdown cell")
def _(folder):
    notebook = books.solved(LESSON)
    cell = books.cell(notebook, "closed_form")
    text = new_markdown_cell(cell.source, metadata=cell.metadata, id=cell.id)
    notebook.cells[notebook.cells.index(cell)] = text
    return notebook


# --- endless, or the end of everything ------------------------------------------------------------

solution("endless loop", RIGHT + "\nwhile True:\n    pass\n", "took longer than 10 s")
solution(
    "endless printing",
    RIGHT + "\nwhile True:\n    print('x' * 10_000)\n",
    "took longer than 10 s",
)
solution("exit", "import sys\nsys.exit()\n" + RIGHT, "SystemExit")
solution("hard exit", RIGHT + "\nimport os\nos._exit(0)\n", "ended Python (exit code 0)")
solution("crash", "import os\nos.abort()\n", "ended Python (signal SIGABRT)")
solution(
    "memory without end",
    "held = []\nwhile True:\n    held.append(bytearray(10**8))\n" + RIGHT,
    "asked for more than 2 GB of memory",
)
solution("memory of torch", "import torch\ntorch.zeros(10**10)\n" + RIGHT, "more than 2 GB")
solution(
    "memory in the answer",
    "def closed_form(x0, alpha_bar, eps):\n    return [bytearray(10**9) for _ in range(9)]\n",
    "MemoryError",
)

# --- out of bounds --------------------------------------------------------------------------------

solution(
    "deletes files",
    f"import shutil\nshutil.rmtree({str(books.ROOT / 'notebooks')!r})\n" + WRONG,
    "own folder only",
)
solution(
    "rewrites the course",
    "import minit2i.checks.forward as f\nopen(f.__file__, 'w').write('')\n",
    "own folder only",
)
solution(
    "compiled code writes",
    f"import torch\npath = {str(books.ROOT / 'tests' / 'planted')!r}\n"
    "torch.from_file(path, shared=True, size=9)\n",
    "ermission denied",
)
solution(
    "copies the solution's text",
    "import inspect\nfrom minit2i import schedule\n"
    "exec(inspect.getsource(schedule.Schedule.diffuse))\n",
    "closed_form",
)
solution(
    "opens the solution",
    f"text = open({str(books.ROOT / 'notebooks' / (LESSON + '.ipynb'))!r}).read()\n",
    "may not read",
)
solution("starts a program", "import os\nos.system('true')\n", "start or stop processes")
solution(
    "calls home",
    "import socket\nsocket.create_connection(('127.0.0.1', 9))\n",
    "use the network",
)
solution("kills", "import os\nos.kill(os.getppid(), 9)\n", "start or stop processes")
solution("looks at objects", "import gc\ngc.get_objects()\n", "reach into the running interpreter")
solution(
    "answers from a thread",
    "import threading\n"
    "from minit2i import schedule\n"
    "def closed_form(x0, alpha_bar, eps):\n"
    "    thread = threading.Thread(target=print)\n"
    "    thread.start()\n"
    "    return x0\n",
    "may not call start_",
)


@student("reads others", ["closed_form"], "may not read")
def _(folder):
    theirs = folder / "right" / LESSON / f"{LESSON}.ipynb"
    return books.answered(LESSON, closed_form=f"open({str(theirs)!r}).read()\n")


# --- against the judge ----------------------------------------------------------------------------

solution(
    "replaces the check",
    WRONG + "from minit2i import checks\nchecks.forward.closed_form = lambda answer: None\n",
    "replaced minit2i.checks.forward.closed_form",
)
solution(
    "replaces the judge",
    WRONG + "from minit2i.checks import judge\njudge._judge = lambda *a: (None, 1)\n",
    "replaced minit2i.checks.judge._judge",
)
solution(
    "replaces the judge's code",
    "from minit2i.checks import judge\n"
    "judge._judge.__code__ = (lambda spec, answer: (None, 1)).__code__\n" + WRONG,
    "may not change the code",
)
solution(
    "replaces torch.allclose",
    "import torch\ntorch.allclose = lambda *a, **k: True\n" + WRONG,
    "replaced torch.allclose",
)
solution(
    "replaces the package",
    WRONG + "from minit2i import schedule\nschedule.Schedule.diffuse = closed_form\n",
    "replaced minit2i.schedule.Schedule.diffuse",
)
solution(
    "breaks the check off",
    "from minit2i.checks.guard import Stop\ndef closed_form(*a):\n    raise Stop\n",
    "raised Stop",
)
solution(
    "replaces what the check states",
    WRONG + "from minit2i import checks\n"
    "vars(checks.forward.closed_form.exercise)['body'] = lambda answer, draw: None\n",
    "replaced minit2i.checks.forward.closed_form",
)
solution(
    "replaces what the check closes over",
    WRONG + "from minit2i import checks\nfrom minit2i.checks.guard import Exercise\n"
    "for cell in checks.forward.closed_form.__closure__:\n"
    "    if isinstance(cell.cell_contents, Exercise):\n"
    "        cell.cell_contents = checks.forward.snr.exercise\n",
    "replaced minit2i.checks.forward.closed_form",
)
solution(
    "replaces the judge's waiting",
    WRONG + "import threading\nthreading.Thread.start = lambda self: None\n",
    "replaced threading.Thread.start",
)
solution(
    "takes the profiler off",
    "import sys\nfrom minit2i import schedule\n"
    "def closed_form(x0, alpha_bar, eps):\n"
    "    list(map(sys.setprofile, [None]))\n"
    "    return x0\n",
    "profiler",
)
solution(
    "prints what cannot be written",
    WRONG + "print('\\ud800')\nraise ValueError('\\udfff')\n",
    "closed_form",
)
solution(
    "floods every pipe",
    WRONG + "import os\nfor fd in range(3, 20):\n    try:\n"
    "        for _ in range(50):\n            os.write(fd, b'x' * 10**6)\n"
    "    except OSError:\n        pass\n",
    "closed_form",
)
solution("hides the check", WRONG + "class checks:\n    forward = None\n", "closed_form")
solution(
    "swallows errors",
    WRONG + "get_ipython().set_custom_exc((BaseException,), lambda *a, **k: None)\n",
    "closed_form",
)
solution(
    "writes a verdict",
    WRONG + "import os\nfor fd in range(3, 20):\n    try:\n"
    '        os.write(fd, b\'0 {"event": "done"}\\n\')\n    except OSError:\n        pass\n',
    "closed_form",
)
solution(
    "sleeps in the answer", "import time\ndef closed_form(*a):\n    time.sleep(99)\n", "longer than"
)


@student("replaces from a cell of its own", ["closed_form"], "it was put back")
def _(folder):
    notebook = books.answered(LESSON, closed_form=WRONG)
    patch = new_code_cell(
        "from minit2i import checks\nchecks.forward.closed_form = lambda answer: None"
    )
    return books.after(notebook, "closed_form", patch)


@student("replaces, and is right elsewhere", says="it was put back")
def _(folder):
    patch = new_code_cell("import torch\ntorch.exp = torch.sin")
    return books.after(books.solved(LESSON), "alpha_bar_check", patch)
