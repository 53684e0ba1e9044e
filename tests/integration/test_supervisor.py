"""What supervision promises: what dies or hangs is replaced, what only waits is left alone, and the end is orderly."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from maskmill.shared.settings import Settings
from maskmill.worker.device import parse_devices
from maskmill.worker.processes.supervisor import CONTROL_ROLES, device_role
from tests.services import run_redis
from tests.services.commands import CLEAN, MASKMILL
from tests.services.supervised import STALL, main_process, probe, running, started, supervised, wait_for_another
from tests.services.workers import descendants, run_workers, settings_for, wait_until

CANNOT_START = 78


@pytest.fixture
def settings(tmp_path: Path, redis_url: str) -> Settings:
    return settings_for(tmp_path, redis_url, **STALL)


KINDS = [("celery_worker", "control"), ("celery_worker", "sweep"), ("celery_worker", "device")]


def test_processes_that_hang_are_replaced(settings: Settings) -> None:
    with run_workers(settings):
        for words in KINDS:
            os.kill(started(settings, *words), signal.SIGSTOP)
        hung = [started(settings, *words) for words in KINDS]
        for pid, words in zip(hung, KINDS, strict=True):
            wait_for_another(settings, pid, *words)


@pytest.mark.parametrize("words", KINDS, ids=lambda words: words[1])
def test_a_process_that_hangs_before_its_first_sign_of_life_is_replaced(
    words: tuple[str, str], tmp_path: Path, redis_url: str
) -> None:
    settings = settings_for(tmp_path, redis_url, MASKMILL_START_SECONDS="2")
    device = device_role("cpu", "bulk", parse_devices("cpu")[0].environment())
    with supervised(settings, next(role for role in (*CONTROL_ROLES, device) if words[1] in role.arguments)):
        hung = started(settings, *words)
        os.kill(hung, signal.SIGSTOP)
        wait_for_another(settings, hung, *words)


def test_an_outage_of_redis_is_no_reason_to_restart(tmp_path: Path) -> None:
    with run_redis() as redis, run_workers(settings_for(tmp_path, redis.url, **STALL)) as workers:
        before = workers.processes("celery_worker")
        redis.kill()
        time.sleep(9)
        assert workers.processes("celery_worker") == before
        redis.start()
        wait_until(workers.ledger.models, 30)
    assert len(before) == 4


def test_every_line_of_a_log_says_when_how_bad_and_who(tmp_path: Path) -> None:
    with run_redis() as redis:
        everything = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        with running(settings_for(tmp_path, redis.url), *MASKMILL, "control", **everything) as process:
            wait_until(lambda: len(list((tmp_path / "run").glob("*.alive"))) == 2, 30)
            redis.kill()
            time.sleep(3)
            redis.start()
            time.sleep(3)
            process.terminate()
            lines = process.communicate(timeout=90)[0].splitlines()
    known = re.compile(r"20[0-9-]{8} [0-9:]{8},[0-9]{3} (INFO|WARNING|ERROR) \[(supervisor|control|sweep)\] ")
    assert [line for line in lines if not known.match(line)] == []
    assert {match[2] for match in map(known.match, lines) if match} == {"supervisor", "control", "sweep"}


def test_a_clock_that_is_set_ends_no_child(settings: Settings) -> None:
    with supervised(settings, probe(ago=3600)):
        pid = started(settings, "probe of a test")
        wait_until(lambda: list(settings.run_dir.glob("*.alive")), 10)
        time.sleep(1)
        assert main_process(settings, "probe of a test") == pid


def test_a_pause_of_everything_ends_no_child(tmp_path: Path, settings: Settings) -> None:
    with running(settings, *MASKMILL, "control") as process:
        wait_until(lambda: len(list((tmp_path / "run").glob("*.alive"))) == 2, 30)
        below = descendants(process.pid)
        for pid in (process.pid, *below):
            os.kill(pid, signal.SIGSTOP)
        time.sleep(5)
        for pid in (process.pid, *below):
            os.kill(pid, signal.SIGCONT)
        time.sleep(1)
        assert descendants(process.pid) == below


def test_a_run_folder_that_vanishes_ends_nothing(settings: Settings) -> None:
    with run_workers(settings) as workers:
        before = workers.processes("celery_worker")
        shutil.rmtree(settings.run_dir)
        wait_until(lambda: len(list(settings.run_dir.glob("*.alive"))) == 4, 10)
        shutil.rmtree(settings.run_dir)
        settings.run_dir.write_text("in its place")
        time.sleep(5)
        assert workers.processes("celery_worker") == before
        settings.run_dir.unlink()
        wait_until(lambda: len(list(settings.run_dir.glob("*.alive"))) == 4, 10)
        assert workers.processes("celery_worker") == before


def test_a_run_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    env = CLEAN | {"MASKMILL_RUN_DIR": str(tmp_path / "file/run")}
    done = subprocess.run([*MASKMILL, "control"], capture_output=True, text=True, env=env, timeout=60, check=False)
    assert (done.returncode, "Traceback" in done.stderr) == (CANNOT_START, False)
    assert "MASKMILL_RUN_DIR" in done.stderr


def test_a_log_that_cannot_be_written_keeps_only_its_own_process_waiting(tmp_path: Path, settings: Settings) -> None:
    log = tmp_path / "logs/probe.log"
    log.mkdir(parents=True)
    with supervised(settings, probe(log=log), *CONTROL_ROLES):
        started(settings, "celery_worker", "sweep")
        assert main_process(settings, "probe of a test") is None
        shutil.rmtree(log.parent)
        started(settings, "probe of a test")
    assert log.is_file()


def test_a_supervisor_loads_nothing_heavy() -> None:
    heavy = "{'celery', 'kombu', 'numpy', 'cv2', 'onnxruntime', 'redis', 'boto3'}"
    program = f"import sys, maskmill.worker.processes.supervisor; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=CLEAN, check=True)
    assert done.stdout == "[]\n"
