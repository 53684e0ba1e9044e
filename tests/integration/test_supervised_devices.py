"""What supervision promises of devices: one that cannot start keeps no other from working, and is tried again."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from maskmill.shared.settings import Settings
from maskmill.worker.processes import supervisor as supervision
from maskmill.worker.processes.supervisor import device_role
from tests.conftest import ROOT
from tests.services.commands import CLEAN, MASKMILL
from tests.services.supervised import STALL, main_process, started, supervised
from tests.services.workers import descendants, kill, run_workers, settings_for, wait_until

CANNOT_START = 78


@pytest.fixture
def settings(tmp_path: Path, redis_url: str) -> Settings:
    return settings_for(tmp_path, redis_url, **STALL)


def test_a_device_that_cannot_start_leaves_the_others_running(
    settings: Settings, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervision, "REFUSED_PAUSES", (0.2, 10), raising=False)
    with run_workers(settings, "cpu,npu:0"):
        worker = started(settings, "device", "cpu")
        wait_until(lambda: sum("npu:0" in record.message for record in caplog.records) >= 3, 90)
        assert main_process(settings, "device", "cpu") == worker
    told = [(record.levelname, record.message) for record in caplog.records if "npu:0" in record.message][:3]
    assert [level for level, _ in told] == ["ERROR", "WARNING", "WARNING"]
    assert [re.findall("again in ([0-9.]+) s", line) for _, line in told] == [["0.2"], ["0.4"], ["0.8"]]


def test_a_device_that_could_not_start_comes_up_once_it_can(
    tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervision, "REFUSED_PAUSES", (0.2, 0.2), raising=False)
    model = tmp_path / "later.onnx"
    later = device_role("sim:1", "bulk", {"MASKMILL_MODELS": str(model)})
    with supervised(settings, device_role("cpu", "bulk", {}), later):
        wait_until(lambda: len(list(settings.run_dir.glob("cpu-bulk-*"))) == 2, 30)
        shutil.copy(ROOT / "worker/models/shapes/model.onnx", model)
        wait_until(lambda: len(list(settings.run_dir.glob("sim_1-bulk-*"))) == 2, 60)


def test_where_no_device_can_start_the_command_ends_with_78(redis_url: str, tmp_path: Path) -> None:
    env = {**CLEAN, **settings_for(tmp_path, redis_url).to_env()}
    command = [*MASKMILL, "worker", "--devices", "npu:0,xpu:0"]
    done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=120, check=False)
    assert done.returncode == CANNOT_START
    assert "Error: the worker for device" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_model_that_takes_long_to_load_again_is_waited_for(tmp_path: Path, redis_url: str) -> None:
    settings = settings_for(tmp_path, redis_url)
    with run_workers(settings, control=False) as workers:
        main, child = workers.processes("celery_worker", "device")
        kill(child)
        wait_until(lambda: set(descendants(main)) not in (set(), {child}), 30)
        loading = descendants(main)
        os.kill(loading[0], signal.SIGSTOP)
        time.sleep(6)
        os.kill(loading[0], signal.SIGCONT)
        time.sleep(1)
        assert workers.processes("celery_worker", "device") == [main, *loading]
