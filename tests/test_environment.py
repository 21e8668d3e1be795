"""pyproject.toml says what works, constraints.txt what was tested, environment.yml points there."""

import importlib.metadata
import re
import tomllib
from pathlib import Path

import jaxtyping
import numpy as np
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from minit2i import plot

ROOT = Path(__file__).parents[1]
FILES = ("pyproject.toml", "constraints.txt", "environment.yml")


def read():
    """The three files, by name."""
    return {name: (ROOT / name).read_text(encoding="utf-8") for name in FILES}


def installed():
    """Version of each package of the running environment."""
    every = importlib.metadata.distributions()
    return {canonicalize_name(package.name): package.version for package in every}


def problems(files, running):
    """All that is wrong with the three files and the running environment; nothing: []."""
    project = tomllib.loads(files["pyproject.toml"])["project"]
    extras = project["optional-dependencies"]
    direct = [Requirement(r) for r in sum(extras.values(), project["dependencies"])]
    found, pins = [], {}
    for line in files["constraints.txt"].splitlines():
        if line.startswith("#"):
            continue
        pin = re.fullmatch(r"([A-Za-z0-9_.-]+)==([0-9][A-Za-z0-9.]*)", line)
        if pin is None:
            found.append(f"constraints.txt: not a plain pin: {line}")
        else:
            pins[canonicalize_name(pin[1])] = pin[2]
    found += [
        f"{tool} is not the course's to pin" for tool in ("pip", "setuptools") if tool in pins
    ]
    for requirement in direct:
        name = canonicalize_name(requirement.name)
        if not requirement.specifier:
            found.append(f"pyproject.toml: {name} has no range")
        if name not in pins:
            found.append(f"{name} is required and not pinned")
        elif pins[name] not in requirement.specifier:
            found.append(f"{name} is pinned to {pins[name]}, outside {requirement.specifier}")
        if name not in running:
            found.append(f"{name} is not installed")
    found += [
        f"{name} {running[name]} is running, {pin} is pinned"
        for name, pin in pins.items()
        if name in running and Version(running[name]).public != Version(pin).public
    ]
    conda = yaml.safe_load(files["environment.yml"])["dependencies"]
    python, pip = conda[0], ["--constraint constraints.txt", "--editable .[lab,grade,test]"]
    if conda[1:] != ["pip", {"pip": pip}]:
        found.append(f"environment.yml: more, or other, than python, pip and {pip}")
    if python.removeprefix("python=") not in SpecifierSet(project["requires-python"]):
        found.append(f"environment.yml: {python} is outside {project['requires-python']}")
    if set(extras) != {"lab", "grade", "test"}:
        found.append(f"the extras are {set(extras)}; environment.yml installs lab, grade and test")
    return found


def test_the_three_files_and_the_running_environment_agree():
    assert problems(read(), installed()) == []


@pytest.mark.parametrize(
    "name, old, new, words",
    [
        ("constraints.txt", r"numpy==.*", "numpy==1.26.4", "outside"),
        ("constraints.txt", r"scipy==.*", "scipy==1.13.0", "is running, 1.13.0 is pinned"),
        ("constraints.txt", r"tqdm==.*\n", "", "tqdm is required and not pinned"),
        ("constraints.txt", r"torch==(.*)", r"torch==\1+cpu", "not a plain pin: torch"),
        ("constraints.txt", r"zipp==", "-e .\npip==26.0\nzipp==", "not a plain pin: -e ."),
        ("constraints.txt", r"zipp==", "pip==26.0\nzipp==", "pip is not the course's to pin"),
        (
            "pyproject.toml",
            r'"click>=8.1"',
            '"click>=8.1", "notthere>=1"',
            "notthere is not installed",
        ),
        ("pyproject.toml", r'"numpy>=2,<3"', '"numpy"', "numpy has no range"),
        ("pyproject.toml", r">=3\.11", ">=3.12", "python=3.11 is outside"),
        ("environment.yml", "  - pip\n", "  - pip\n  - numpy\n", "more, or other"),
        ("environment.yml", r"\[lab,grade,test\]", "[lab]", "more, or other"),
    ],
)
def test_a_drift_is_noticed(name, old, new, words):
    files = read()
    files[name], changes = re.subn(old, new, files[name], count=1)
    assert changes == 1
    assert any(words in problem for problem in problems(files, installed()))


def test_under_pytest_a_shape_that_contradicts_its_annotation_is_refused():
    fig, ax = plot.plt.subplots()
    with pytest.raises(jaxtyping.TypeCheckError, match="parameter 'samples'"):
        plot.band(ax, np.arange(8.0), np.zeros(8))
    plot.plt.close(fig)
