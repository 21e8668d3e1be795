"""The doctor finds each fault, says what to do, and says the same of every healthy machine."""

import collections
import json
import sys

import psutil
import pytest
import torch

from minit2i import doctor


def finding(name):
    (found,) = [f for f in doctor.examine() if f.name == name]
    return found


@pytest.fixture(autouse=True)
def no_stray_kernels(monkeypatch, tmp_path):
    """The tests' own machine must not matter."""
    for variable in ("JUPYTER_PATH", "JUPYTER_DATA_DIR"):
        monkeypatch.setenv(variable, str(tmp_path / "none"))


def test_here_all_is_well_and_nothing_of_the_machine_is_printed(capsys):
    assert doctor.report() == 0
    lines = capsys.readouterr().out.splitlines()
    names = ["Python", "packages", "torch", "memory", "notebook kernel", "working folder"]
    assert lines == [f"ok     {name}" for name in names] + ["Everything is ready."]
    assert doctor.report(verbose=True) == 0
    assert torch.__version__ in capsys.readouterr().out


def test_each_fault_is_printed_with_its_remedy(monkeypatch, capsys):
    monkeypatch.setattr(doctor, "PYTHON", (3, 99))
    assert doctor.report() == 1
    out = capsys.readouterr().out
    assert f"FAULT  Python: {sys.version.split()[0]}" in out
    assert "-> install Python 3.99 or newer" in out
    assert out.endswith("1 of 6 need attention.\n")


def checkout(monkeypatch, folder, constraints=None, core=(), lab=()):
    """Make the doctor look at a checkout with these lists."""
    lists = f"dependencies = {list(core)}\n[project.optional-dependencies]\nlab = {list(lab)}"
    (folder / "pyproject.toml").write_text(f"[project]\n{lists}\n")
    if constraints is not None:
        (folder / "constraints.txt").write_text(constraints)
    monkeypatch.setattr(doctor, "CHECKOUT", folder)


def test_a_version_other_than_the_tested_one(monkeypatch, tmp_path):
    checkout(monkeypatch, tmp_path, "# pins\nnumpy==1.0.0\n", core=["numpy>=1"])
    found = finding("packages")
    assert not found.ok and "(tested with 1.0.0)" in found.what
    assert "pip install -c constraints.txt" in found.remedy


def test_a_local_build_of_the_tested_version_is_the_tested_version(monkeypatch, tmp_path):
    version = torch.__version__.split("+")[0]
    checkout(monkeypatch, tmp_path, f"torch=={version}\n", core=["torch>=2"])
    assert finding("packages").ok


@pytest.mark.parametrize("group", ["core", "lab"])
def test_a_missing_package(monkeypatch, tmp_path, group):
    checkout(monkeypatch, tmp_path, "no_such.Package==1\n", **{group: ["no-such-package>=1"]})
    found = finding("packages")
    assert not found.ok and found.what == "missing: no-such-package"


def test_without_constraints_versions_are_not_compared(monkeypatch, tmp_path):
    checkout(monkeypatch, tmp_path, None, core=["numpy>=1"])
    found = finding("packages")
    assert found.ok and "not compared" in found.what


def test_a_device_that_does_not_compute(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)

    def broken(*args, **kwargs):
        raise RuntimeError("no kernel image is available")

    monkeypatch.setattr(torch, "ones", broken)
    found = finding("torch")
    assert not found.ok and "cuda does not compute: no kernel image" in found.what
    assert "CUDA_VISIBLE_DEVICES" in found.remedy


def test_wrong_products(monkeypatch):
    monkeypatch.setattr(torch, "ones", torch.zeros)
    assert "product of matrices is wrong" in finding("torch").what


def test_more_threads_than_cores(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 64)
    monkeypatch.setattr(doctor, "_cores", lambda: 2)
    found = finding("torch")
    assert not found.ok and found.remedy.endswith("set OMP_NUM_THREADS to 2")


def test_too_little_memory(monkeypatch):
    memory = collections.namedtuple("memory", "available")(available=2**29)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
    found = finding("memory")
    assert (
        not found.ok and found.what == "0.5 GiB free" and "shut down other kernels" in found.remedy
    )


def stray_kernel(monkeypatch, folder, command):
    kernel = folder / "kernels" / "python3"
    kernel.mkdir(parents=True)
    specification = {
        "argv": [command, "-m", "ipykernel"],
        "display_name": "P",
        "language": "python",
    }
    (kernel / "kernel.json").write_text(json.dumps(specification))
    monkeypatch.setenv("JUPYTER_PATH", str(folder))
    return kernel


def test_a_kernel_of_another_environment(monkeypatch, tmp_path):
    kernel = stray_kernel(monkeypatch, tmp_path, "/opt/other/bin/python")
    found = finding("notebook kernel")
    assert not found.ok and "/opt/other/bin/python" in found.what
    assert str(kernel) in found.remedy and "make lab" in found.remedy


@pytest.mark.parametrize("command", ["python", sys.executable])
def test_a_kernel_of_this_environment(monkeypatch, tmp_path, command):
    stray_kernel(monkeypatch, tmp_path, command)
    assert finding("notebook kernel").ok


def test_no_jupyter(monkeypatch):
    monkeypatch.setitem(sys.modules, "jupyter_client.kernelspec", None)
    found = finding("notebook kernel")
    assert not found.ok and found.what == "Jupyter is not installed"


def test_a_folder_that_cannot_be_written(monkeypatch, tmp_path):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.setattr(doctor.Path, "cwd", lambda: gone)
    assert finding("working folder").ok
    assert list(gone.iterdir()) == []
    gone.rmdir()
    found = finding("working folder")
    assert not found.ok and "No such file" in found.what and "of your own" in found.remedy


def test_an_examination_that_breaks_is_a_finding(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    found = finding("torch")
    assert not found.ok and "ModuleNotFoundError" in found.what and "pip install" in found.remedy
