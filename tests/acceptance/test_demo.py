"""`maskmill demo`: the whole way in one command."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import pytest

from tests.services.commands import CLEAN, MASKMILL, maskmill, some_descendants, still_running

INTERRUPTED = 130


def test_the_demo_ends_well_with_every_outcome_shown(tmp_path: Path) -> None:
    done = maskmill("demo", "--devices", "cpu", folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("succeeded") == 18
    assert done.stdout.count(" failed ") == 2
    assert len(list((tmp_path / "maskmill-demo/results").rglob("*_res.jpg"))) == 18


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_an_interrupted_demo_leaves_no_process(number: signal.Signals, tmp_path: Path) -> None:
    with subprocess.Popen([*MASKMILL, "demo", "--devices", "cpu"], text=True, env=CLEAN, cwd=tmp_path) as process:
        below = some_descendants(process)
        process.send_signal(number)
        assert process.wait(90) == INTERRUPTED
        assert still_running(below) == set()
