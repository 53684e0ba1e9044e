"""What is installed is the package `maskmill` alone, whole, and it runs from anywhere."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from maskmill.deploy.demo.samples import draw_samples
from tests.services.commands import CLEAN, MASKMILL

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("api", "client", "deploy", "shared", "worker")
IMPORT_ALL = """
import importlib, pkgutil, maskmill
print(maskmill.__file__)
for module in pkgutil.walk_packages(maskmill.__path__, "maskmill."):
    # These two act when they are imported.
    if module.name not in ("maskmill.__main__", "maskmill.api.wsgi"):
        importlib.import_module(module.name)
"""


def build(kind: str, source: Path, out: Path) -> Path:
    """What `pip wheel` or `python -m build` makes of the folder `source`."""
    program = f"import sys, setuptools.build_meta as build; build.build_{kind}(sys.argv[1])"
    done = subprocess.run([sys.executable, "-c", program, out], cwd=source, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return next(path for path in out.iterdir() if path.suffix == (".whl" if kind == "wheel" else ".gz"))


def files(wheel: Path) -> set[str]:
    return {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh copy of what is built from; a folder in which something was built before may hold more."""
    source = tmp_path_factory.mktemp("source")
    without = shutil.ignore_patterns("__pycache__")
    for folder in (*ROOMS, "maskmill", "training"):
        shutil.copytree(ROOT / folder, source / folder, symlinks=True, ignore=without)
    for file in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, source)
    return source


@pytest.fixture(scope="module")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("wheel", source, tmp_path_factory.mktemp("wheel"))


def test_a_wheel_holds_every_file_of_the_rooms_below_one_name_and_no_other(wheel: Path, source: Path) -> None:
    rooms = {f"maskmill/{path.relative_to(source)}" for room in ROOMS for path in (source / room).rglob("*.*")}
    front = {f"maskmill/{path.name}" for path in (source / "maskmill").glob("*.py")}
    assert files(wheel) == rooms | front
    assert any(name.endswith("/licenses/LICENSE") for name in zipfile.ZipFile(wheel).namelist())


def test_a_wheel_made_from_the_source_package_is_the_same(wheel: Path, source: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with tarfile.open(build("sdist", source, tmp_path / "out")) as package:
        package.extractall(tmp_path / "unpacked", filter="data")
    (unpacked,) = (tmp_path / "unpacked").iterdir()
    (tmp_path / "again").mkdir()
    assert files(build("wheel", unpacked, tmp_path / "again")) == files(wheel)


def test_what_is_installed_runs_in_any_folder(wheel: Path, tmp_path: Path) -> None:
    installed = tmp_path / "site-packages"
    zipfile.ZipFile(wheel).extractall(installed)
    env = {**CLEAN, "PYTHONPATH": str(installed)}
    (tmp_path / "elsewhere").mkdir()
    picture = draw_samples(tmp_path / "inputs").served

    def run(*command: str | Path) -> str:
        words = [os.fspath(word) for word in command]
        done = subprocess.run(words, cwd=tmp_path / "elsewhere", env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert run(sys.executable, "-P", "-c", IMPORT_ALL).strip() == str(installed / "maskmill/__init__.py")
    assert "demo" in run(*MASKMILL, "--help")
    run(*MASKMILL, "predict", picture, "--device", "cpu", "--out", "results")
    assert len(list((tmp_path / "elsewhere/results").iterdir())) == 2
