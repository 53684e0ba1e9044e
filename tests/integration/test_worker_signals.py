"""What a worker host does when it is told to stop: it ends in order, also what hangs; a closed terminal is no order."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from maskmill.shared.settings import Settings
from tests.services.commands import some_descendants, still_running
from tests.services.supervised import STALL, WORKER, running
from tests.services.workers import descendants, kill, settings_for, wait_until


@pytest.fixture
def settings(tmp_path: Path, redis_url: str) -> Settings:
    return settings_for(tmp_path, redis_url, **STALL)


def test_a_worker_that_is_told_to_stop_while_it_loads_need_not_be_waited_for(settings: Settings) -> None:
    with running(settings, *WORKER) as process:
        below = some_descendants(process, 2)
        os.kill(below[1], signal.SIGSTOP)
        process.terminate()
        try:
            assert process.wait(40) == 0
        finally:
            os.kill(below[1], signal.SIGCONT)
        assert still_running(below) == set()


def test_ctrl_c_again_ends_a_worker_that_does_not_drain(tmp_path: Path, settings: Settings) -> None:
    with running(settings, *WORKER) as process:
        wait_until(lambda: len(list((tmp_path / "run").glob("*.alive"))) == 2, 30)
        time.sleep(1)
        below = descendants(process.pid)
        os.kill(below[0], signal.SIGSTOP)
        process.send_signal(signal.SIGINT)
        time.sleep(1)
        process.send_signal(signal.SIGINT)
        assert process.wait(40) == -signal.SIGINT
        assert still_running(below) == set()


def test_a_worker_that_ignores_hang_ups_outlives_its_terminal(settings: Settings) -> None:
    with running(settings, "nohup", *WORKER) as process:
        below = some_descendants(process, 2)
        process.send_signal(signal.SIGHUP)
        time.sleep(0.5)
        kill(below[0])
        wait_until(lambda: set(descendants(process.pid)) - set(below), 30)
        process.terminate()
        assert process.wait(70) == 0
