"""JupyterLab as `make lab` opens it, and a reader in front of it.

`Lab` starts the server in a folder and holds one page of Chromium. It waits for conditions, never
for a time, so that a busy machine makes it slow and not wrong.
"""

import contextlib
import io
import os
import re
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from PIL import Image
from playwright.sync_api import Locator, Page, expect, sync_playwright

ROOT = Path(__file__).parents[2]
SHOTS = ROOT / "build" / "browser"
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# JupyterLab asks on its first start whether it may fetch news, and the question covers the page.
NEWS = "@jupyterlab/apputils-extension/notification.jupyterlab-settings"
THEME = "@jupyterlab/apputils-extension/themes.jupyterlab-settings"
SECONDS = 120  # for whatever takes a second or two where nothing else runs
RUN = 300  # for a whole lesson

PROMPTS = "[...document.querySelectorAll('.jp-CodeCell .jp-InputPrompt')].map(e => e.textContent)"
# An error takes the [*] from the cells below it, so that they end as [ ].
FINISHED = (
    rf"() => {{ const p = {PROMPTS}; return p.join().match(/\d/) && !p.join().includes('*') }}"
)
IDLE = "() => /\\| Idle/.test(document.querySelector('#jp-main-statusbar')?.innerText ?? '')"
LOADED = "e => e.decode().then(() => e.naturalWidth * e.naturalHeight > 0, () => false)"
CAPTION = "e => e.closest('.jp-OutputArea-child').nextElementSibling?.textContent.trim() ?? ''"


def chromium() -> str | None:
    """The browser: $CHROMIUM, or the first of `NAMES` that is installed."""
    given = os.environ.get("CHROMIUM")
    return shutil.which(given) if given else next(filter(None, map(shutil.which, NAMES)), None)


def lacking() -> str:
    """What these tests need and this machine has not, and how to have it; nothing: ""."""
    needed = {"Chromium": chromium(), "make": shutil.which("make")}
    missing = " and no ".join(name for name, found in needed.items() if not found)
    how = "apt-get install chromium, or set CHROMIUM to the path of a browser of its family"
    return f"JupyterLab was not tried in a browser: there is no {missing} ({how})" * bool(missing)


class Lab:
    """A running `make lab` on `folder`, whose notebooks are run and saved; and one page."""

    def __init__(self, folder: Path, home: Path):
        self.folder, self.settings, self.log = folder, home / "settings", home / "lab.log"
        self._set(NEWS, '{"fetchNews": "false", "checkForUpdates": false}')
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.token, self.url = secrets.token_hex(16), f"http://127.0.0.1:{port}"
        flags = ["--no-browser", "--ip=127.0.0.1", f"--port={port}", "--ServerApp.port_retries=0"]
        flags += [f"--IdentityProvider.token={self.token}"]
        # -C: the recipe opens the folder it runs in. -o: the running environment is the one meant.
        make = ["make", "-C", str(folder), "-f", str(ROOT / "Makefile"), "-o", ".venv/installed"]
        make += ["lab", f"BIN={Path(sys.executable).parent}", f"LAB_FLAGS={shlex.join(flags)}"]
        own = {"JUPYTER_CONFIG_DIR": "config", "JUPYTER_DATA_DIR": "data"}
        own |= {"JUPYTER_RUNTIME_DIR": "runtime", "IPYTHONDIR": "ipython"}
        own |= {"JUPYTERLAB_SETTINGS_DIR": "settings", "JUPYTERLAB_WORKSPACES_DIR": "workspaces"}
        inherited = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MFLAGS")}
        with self.log.open("wb") as log:
            self._server = subprocess.Popen(
                make,
                env=inherited | {name: str(home / path) for name, path in own.items()},
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._playwright = self._browser = None

    def __enter__(self) -> "Lab":
        try:
            self._wait_for_server()
            self._playwright = sync_playwright().start()
            self._browser = self._playwright.chromium.launch(
                executable_path=chromium(),
                # No sandbox: Chromium has none for root. No shm: containers give it too little.
                args=["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"],
            )
            self.page: Page = self._browser.new_page(viewport={"width": 1280, "height": 1600})
        except BaseException:
            self.__exit__()
            raise
        self.page.set_default_timeout(SECONDS * 1000)
        expect.set_options(timeout=SECONDS * 1000)
        self.problems: list[str] = []
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        return self

    def __exit__(self, *_: object) -> None:
        if self._browser:
            self._browser.close()
        if self._playwright:
            self._playwright.stop()
        for sign in (signal.SIGTERM, signal.SIGKILL):
            end = time.monotonic() + 30
            with contextlib.suppress(ProcessLookupError):  # none is left of the group
                os.killpg(self._server.pid, sign)  # make, its shell, and the server
                while time.monotonic() < end:
                    self._server.poll()
                    os.killpg(self._server.pid, 0)
                    time.sleep(0.1)

    def _wait_for_server(self) -> None:
        end = time.monotonic() + SECONDS
        while time.monotonic() < end and self._server.poll() is None:
            try:
                status = f"{self.url}/api/status?token={self.token}"
                urllib.request.urlopen(status, timeout=5).close()
                return
            except OSError:
                time.sleep(0.2)
        state = "ended" if self._server.poll() is not None else f"gave no answer in {SECONDS} s"
        raise RuntimeError(f"the server {state}:\n{self.log.read_text(errors='replace')[-5000:]}")

    def _set(self, name: str, text: str) -> None:
        path = self.settings / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    # --- what a reader does ---------------------------------------------------------------------

    def open(self, notebook: str, theme: str = "JupyterLab Light") -> None:
        """Open a notebook, with nothing else open, and wait for its kernel."""
        self._set(THEME, f'{{"theme": "{theme}"}}')
        self.notebook = self.folder / notebook
        self.problems.clear()
        self.page.goto(f"{self.url}/lab/tree/{notebook}?reset&token={self.token}")
        self.cells.first.wait_for()
        self.settle()  # before that, Run asks which kernel to take

    def settle(self) -> None:
        """Wait until the kernel is idle."""
        self.page.wait_for_function(IDLE)

    def wait_until_other(self, figure: Locator, source: str) -> None:
        """Wait until a figure shows another picture; `expect` would print both as numbers."""
        end = time.monotonic() + SECONDS
        while figure.get_attribute("src") == source:
            assert time.monotonic() < end, f"the figure is the same after {SECONDS} s"
            self.page.wait_for_timeout(100)

    def menu(self, menu: str, command: str) -> None:
        """Choose a command from a menu."""
        self.page.click(f'.lm-MenuBar-itemLabel:text-is("{menu}")')
        self.page.click(f'.lm-Menu-item[data-command="{command}"]')

    def run_all(self) -> None:
        """Clear the stored outputs, run all cells, and wait until the kernel is done."""
        self.menu("Edit", "editmenu:clear-all")
        self.page.wait_for_function(f"() => !{PROMPTS}.join().match(/\\d/)")
        self.menu("Run", "runmenu:run-all")
        self.page.wait_for_function(FINISHED, timeout=RUN * 1000, polling=200)
        self.settle()

    def run(self, cell: Locator) -> str:
        """Run one cell as a reader does, with Shift+Enter; what it printed."""
        prompt = cell.locator(".jp-InputPrompt")
        before = prompt.text_content()
        cell.locator(".cm-content").click()
        self.page.keyboard.press("Shift+Enter")
        expect(prompt).not_to_have_text(before)
        expect(prompt).to_have_text(re.compile(r"\[\d+\]"))
        self.settle()
        return "\n".join(cell.locator(".jp-OutputArea-output").all_text_contents())

    def type(self, cell: Locator, at: str, text: str) -> None:
        """Replace the line of a cell that contains `at` by typing; Enter indents as it does."""
        cell.locator(".cm-line", has_text=at).click()
        for key in ("End", "Shift+Home"):
            self.page.keyboard.press(key)
        self.page.keyboard.type(text)

    def save(self) -> NotebookNode:
        """Save, and read the file that JupyterLab wrote."""
        saved = f"/api/contents/{self.notebook.relative_to(self.folder).as_posix()}"
        with self.page.expect_response(
            lambda reply: reply.request.method == "PUT" and saved in reply.url
        ):
            self.menu("File", "docmanager:save")
        return nbformat.read(self.notebook, as_version=4)

    # --- what a reader sees ---------------------------------------------------------------------

    @property
    def cells(self) -> Locator:
        """The cells of the notebook."""
        return self.page.locator(".jp-NotebookPanel .jp-Cell")

    def code(self, text: str) -> Locator:
        """The one code cell that contains `text`."""
        return self.page.locator(".jp-NotebookPanel .jp-CodeCell", has_text=text)

    @property
    def figures(self) -> Locator:
        """The figures in the outputs of cells, without a slider's."""
        return self.page.locator(".jp-OutputArea-output img:not(.jupyter-widgets img)")

    @property
    def slider(self) -> Locator:
        """The handle of the lesson's slider."""
        return self.page.locator(".noUi-handle")

    @property
    def moving(self) -> Locator:
        """The figure that the slider moves."""
        return self.page.locator(".jupyter-widgets img")

    def picture(self, figure: Locator) -> Image.Image:
        """What the screen shows where a figure is."""
        figure.scroll_into_view_if_needed()
        return Image.open(io.BytesIO(figure.screenshot())).convert("RGB")

    def loaded(self, figure: Locator) -> bool:
        """Whether a picture is there, and not the mark of a broken one."""
        return figure.evaluate(LOADED)

    def caption(self, figure: Locator) -> str:
        """The text below a figure."""
        return figure.evaluate(CAPTION)

    def shoot(self, name: str) -> Path:
        """Keep a picture of the page in build/browser."""
        SHOTS.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=SHOTS / f"{name}.png")
        return SHOTS / f"{name}.png"

    def account(self, name: str) -> str:
        """For a failure: a picture, what the page said, and the end of the server's log."""
        errors = self.page.locator('[data-mime-type="application/vnd.jupyter.stderr"]')
        parts = {
            "screenshot": str(self.shoot(name).relative_to(ROOT)),
            "prompts": " ".join(self.page.evaluate(PROMPTS)),
            "dialogs": "\n".join(self.page.locator(".jp-Dialog").all_text_contents()),
            "errors in cells": "\n".join(errors.all_text_contents())[-3000:],
            "errors of the page": "\n".join(self.problems),
            "server": self.log.read_text(errors="replace")[-3000:].replace(self.token, "..."),
        }
        return "\n".join(f"{what}: {text}" for what, text in parts.items() if text)
