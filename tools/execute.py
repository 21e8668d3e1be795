"""Run notebooks in a fresh kernel and store them in one canonical form.

    python tools/execute.py notebooks/*.ipynb

The kernel is the running interpreter, whatever kernel the notebook names. Stored are code, text,
figures and execution counts; timings, widgets, progress bars and editor metadata are not, so that
two executions of an unchanged notebook on one machine are byte-identical. If a cell fails, the
file stays as it was.
"""

import argparse
import os
import re
import sys
import tempfile
import time
from pathlib import Path

import nbformat
from ipykernel.kernelspec import RESOURCES, get_kernel_dict
from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import KernelSpec
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbformat import NotebookNode

WIDGET = "application/vnd.jupyter.widget-view+json"
METADATA = {
    "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
CELL_METADATA = ("nbgrader", "tags")
# tqdm on a console: "loss:  40%|████      | 400/1000 [00:01<00:02, 300it/s]", "9it [00:01]"
BAR = re.compile(r"^.*(\d+%\|.*\| *\S+/\S+ \[.*|\d+\S* \[\d+:\d+, .*)\]?$")


class ThisEnvironment(AsyncKernelManager):
    """Starts kernels with the running interpreter, whatever kernel specifications are installed."""

    @property
    def kernel_spec(self) -> KernelSpec:
        """The specification ipykernel would install for this interpreter."""
        return KernelSpec(resource_dir=RESOURCES, **get_kernel_dict())


def canonical_outputs(outputs: list[NotebookNode]) -> list[NotebookNode]:
    """Outputs without widgets and progress bars, the pieces of each stream joined into one.

    A kernel cuts a stream into messages as time goes, so the cuts mean nothing.
    """
    kept, streams = [], {}
    for output in outputs:
        if WIDGET in output.get("data", {}):
            continue
        output = NotebookNode(output)
        if output.output_type != "stream":
            kept.append(output)
        elif output.name in streams:
            streams[output.name].text += output.text
        else:
            streams[output.name] = output
            kept.append(output)
    for stream in streams.values():
        # A carriage return starts the line again, and what stood there is gone.
        lines = [
            line.rsplit("\r", 1)[-1] for line in re.sub(r"\r+(?=\n|$)", "", stream.text).split("\n")
        ]
        stream.text = "\n".join(line for line in lines if not BAR.match(line))
    return [o for o in kept if o.output_type != "stream" or o.text.strip()]


def canonical(notebook: NotebookNode) -> NotebookNode:
    """The form in which notebooks are stored; canonical(canonical(n)) equals canonical(n)."""
    result = nbformat.from_dict(notebook)
    result.nbformat, result.nbformat_minor = 4, max(5, notebook.nbformat_minor)
    result.metadata = nbformat.from_dict(METADATA)
    for cell in result.cells:
        cell.metadata = NotebookNode(
            {key: cell.metadata[key] for key in CELL_METADATA if key in cell.metadata}
        )
        if cell.cell_type == "code":
            cell.outputs = canonical_outputs(cell.outputs)
    return result


def execute(path: Path, timeout: int = 120) -> tuple[NotebookNode, list[float]]:
    """Run all cells of `path` in its own folder; returns the notebook and the seconds of each cell.

    Raises CellExecutionError, CellTimeoutError (a cell over `timeout` seconds) or DeadKernelError.
    """
    notebook = nbformat.read(path, as_version=4)
    started, seconds = {}, [0.0] * len(notebook.cells)

    def start(cell: NotebookNode, cell_index: int) -> None:
        started[cell_index] = time.perf_counter()

    def stop(cell: NotebookNode, cell_index: int, **_: object) -> None:
        seconds[cell_index] = time.perf_counter() - started[cell_index]

    NotebookClient(
        notebook,
        timeout=timeout,
        kernel_name="python3",
        kernel_manager_class=ThisEnvironment,
        extra_arguments=[
            "--log-level=ERROR"
        ],  # silences the kernel's note on unencrypted local ports
        record_timing=False,
        on_cell_execute=start,
        on_cell_executed=stop,
        resources={"metadata": {"path": str(path.parent)}},
    ).execute()
    return canonical(notebook), seconds


def write(notebook: NotebookNode, path: Path) -> bool:
    """Replace `path` in one step, so that it is always whole; returns whether anything changed."""
    text = nbformat.writes(notebook).rstrip("\n") + "\n"
    if path.exists() and path.read_text(encoding="utf-8") == text:
        return False
    with tempfile.NamedTemporaryFile(
        "w", encoding="utf-8", newline="\n", dir=path.parent, prefix=f".{path.stem}-", delete=False
    ) as file:
        file.write(text)
    mode = path.stat().st_mode & 0o777 if path.exists() else 0o644
    os.chmod(file.name, mode)
    os.replace(file.name, path)
    return True


def main() -> int:
    """Command line; exit status 1 if any notebook failed."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("notebooks", nargs="+", type=Path)
    parser.add_argument("--timeout", type=int, default=120, help="seconds a cell may take (120)")
    arguments = parser.parse_args()
    if missing := [str(path) for path in arguments.notebooks if not path.is_file()]:
        parser.error(f"no such file: {', '.join(missing)}")
    failed, total = [], 0.0
    for path in arguments.notebooks:
        begin = time.perf_counter()
        try:
            notebook, seconds = execute(path, arguments.timeout)
        except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
            message = re.sub(r"\x1b\[[\d;]*m", "", str(error))  # without the colours
            print(f"{path}: FAILED, file left as it was\n{message}", file=sys.stderr, flush=True)
            failed.append(path)
            continue
        wall = time.perf_counter() - begin
        total += wall
        slowest = max(range(len(seconds)), key=seconds.__getitem__)
        state = "changed" if write(notebook, path) else "unchanged"
        print(
            f"{path}: {wall:.1f} s, slowest cell [{notebook.cells[slowest].get('execution_count')}]"
            f" {seconds[slowest]:.1f} s, {path.stat().st_size / 1000:.0f} kB, {state}",
            flush=True,
        )
    if len(arguments.notebooks) > 1:
        print(f"{len(arguments.notebooks) - len(failed)} notebooks in {total:.0f} s")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
