"""One server and one page for all tests here, and what was on the page when one failed."""

import shutil

import pytest
from playwright.sync_api import Error as PlaywrightError

from tests.browser.lab import ROOT, SHOTS, Lab, lacking


@pytest.fixture(scope="session")
def lab(tmp_path_factory):
    """The lab on a copy of the notebooks, so that saving changes nothing in the repository."""
    assert not lacking(), lacking()
    shutil.rmtree(SHOTS, ignore_errors=True)  # the pictures of a former run
    home = tmp_path_factory.mktemp("lab")
    shutil.copytree(ROOT / "notebooks", home / "course" / "notebooks")
    with Lab(home / "course", home) as lab:
        yield lab


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Add the page and the server's log to the report of a failed test."""
    report = yield
    lab = item.funcargs.get("lab")
    if report.when == "call" and report.failed and lab is not None:
        try:
            account = lab.account(f"failed-{item.name}")
        except PlaywrightError as error:
            account = f"the page cannot be asked any more: {error}"
        report.sections.append(("JupyterLab", account))
    return report
