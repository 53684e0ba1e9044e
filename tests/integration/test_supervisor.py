"""What supervision promises: what dies or hangs is replaced, what only waits is left alone, and the end is orderly."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from maskmill.shared.settings import Settings
from maskmill.worker.device import parse_devices
from maskmill.worker.processes import supervisor as supervision
from maskmill.worker.processes.supervisor import CONTROL_ROLES, Role, Supervisor, device_role
from tests.conftest import ROOT
from tests.services import run_redis
from tests.services.commands import CLEAN, MASKMILL, some_descendants, still_running
from tests.services.workers import descendants, kill, processes_of, run_workers, settings_for, wait_until

CANNOT_START = 78
STALL = {"MASKMILL_STALL_SECONDS": "3"}
# A child that stamps below the name "probe" ten times a second, `{ago}` seconds behind the clock.
STAMPING = """
import os, time
from pathlib import Path
stamp = Path(os.environ["MASKMILL_RUN_DIR"], f"probe-{os.getpid()}.alive")
while True:
    stamp.touch()
    os.utime(stamp, (time.time() - AGO, time.time() - AGO))
    time.sleep(0.1)
"""


def probe(program: str = STAMPING, *, ago: float = 0, log: Path | None = None) -> Role:
    """A supervised Python program; the model of a child that does what a test needs."""
    command = (sys.executable, "-c", program.replace("AGO", str(ago)), "probe of a test")
    return Role(command, stamps=("probe",), module="maskmill.worker.processes.heartbeat", title="probe", log=log)


@contextlib.contextmanager
def supervised(settings: Settings, *roles: Role) -> Iterator[None]:
    """The roles, supervised in a thread until the end of `with`."""
    stop = threading.Event()
    thread = threading.Thread(target=Supervisor(roles, settings).run_until, args=(stop,))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


WORKER = (*MASKMILL, "worker", "--devices", "cpu", "--lanes", "bulk")


@contextlib.contextmanager
def running(settings: Settings, *command: str, **output: Any) -> Iterator[subprocess.Popen[str]]:
    """The command; nothing of it is left at the end of `with`, not even what a test has stopped."""
    with subprocess.Popen(command, env={**CLEAN, **settings.to_env()}, text=True, **output) as process:
        try:
            yield process
        finally:
            for pid in (*descendants(process.pid), process.pid):
                kill(pid)


def main_process(settings: Settings, *words: str) -> int | None:
    """The supervised process whose command line holds all `words`; its forks come after it."""
    return next(iter(processes_of(settings, *words)), None)


def started(settings: Settings, *words: str) -> int:
    """Its process id, once it runs."""
    wait_until(lambda: main_process(settings, *words) is not None, 30)
    pid = main_process(settings, *words)
    assert pid is not None
    return pid


def wait_for_another(settings: Settings, pid: int, *words: str) -> None:
    wait_until(lambda: main_process(settings, *words) not in (None, pid), 60)


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


def test_a_supervisor_loads_nothing_heavy() -> None:
    heavy = "{'celery', 'kombu', 'numpy', 'cv2', 'onnxruntime', 'redis', 'boto3'}"
    program = f"import sys, maskmill.worker.processes.supervisor; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=CLEAN, check=True)
    assert done.stdout == "[]\n"
