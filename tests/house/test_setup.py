"""Setting up says one line a step, and what went wrong where it fails."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LOCK = "\n".join(f"absent-{number}==1 --hash=sha256:{'0' * 64}" for number in range(9))


def test_a_failed_setup_shows_the_end_of_its_log_and_not_its_warnings(tmp_path: Path) -> None:
    for file in ("Makefile", "pyproject.toml"):
        shutil.copy(ROOT / file, tmp_path)
    (tmp_path / "locks").mkdir()
    (tmp_path / "locks/dev.txt").write_text(LOCK)
    # Not as a part of the `make` that runs the tests.
    outer = ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")
    clean = {name: value for name, value in os.environ.items() if name not in outer}
    env = clean | {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path / "nowhere")}
    done = subprocess.run(["make", "test"], cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert len(done.stdout.splitlines()) == 2
    assert "ERROR: No matching distribution found for absent-0==1" in done.stderr
    assert "nowhere' is ignored" in (tmp_path / ".venv/setup.log").read_text()
    assert "nowhere' is ignored" not in done.stderr
