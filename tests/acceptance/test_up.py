"""`maskmill up`: everything on one machine, and nothing left of it."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from maskmill.deploy.demo.samples import Samples, draw_samples
from tests.conftest import ROOT
from tests.services.commands import CLEAN, MASKMILL, Up, maskmill, run_up, some_descendants, still_running
from tests.services.workers import descendants

SOME_FAILED, CANNOT_START = 1, 78


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Samples:
    return draw_samples(tmp_path_factory.mktemp("inputs"))


@pytest.fixture(scope="module")
def up(samples: Samples) -> Iterator[Up]:
    with run_up("--local-root", samples.folder) as running:
        yield running


def test_a_job_without_failures_ends_with_exit_code_0_and_its_pictures(
    up: Up, samples: Samples, tmp_path: Path
) -> None:
    done = maskmill("submit", samples.uploads[0], "--wait", "--out", tmp_path / "out", "--api", up.url)
    assert done.returncode == 0, done.stderr
    pictures = sorted(path.name for path in samples.uploads[0].iterdir())
    made = {path.name for path in (tmp_path / "out").iterdir()}
    assert {f"{name.removesuffix('.jpg')}_res{suffix}" for name in pictures for suffix in (".json", ".jpg")} <= made


def test_a_job_with_a_failure_ends_with_exit_code_1_and_its_reason(up: Up, samples: Samples) -> None:
    broken = next(path for path in samples.uploads if path.name in samples.failures)
    done = maskmill("submit", broken, "--wait", "--api", up.url)
    assert done.returncode == SOME_FAILED
    assert broken.name in done.stderr
    assert "Traceback" not in done.stderr


def test_a_folder_of_the_server_is_read_where_it_may_be(up: Up, samples: Samples) -> None:
    done = maskmill("submit", samples.folder, "--local", "--wait", "--json", "--api", up.url)
    assert json.loads(done.stdout)["counts"]["succeeded"] == 2


def test_what_is_left_out_of_a_folder_of_the_server_is_told(up: Up, samples: Samples) -> None:
    (samples.folder / "notes.txt").write_text("no picture")
    done = maskmill("submit", samples.folder, "--local", "--wait", "--api", up.url)
    assert "left out: no image and no PDF: 1 (notes.txt)" in done.stderr


def test_each_process_logs_what_it_does(up: Up) -> None:
    logs = {path.name: path.read_text() for path in (up.data / "logs").iterdir()}
    for lane in ("bulk", "interactive"):
        assert f"INFO [cpu {lane}] model shapes (yolo_seg, " in logs[f"device-cpu-{lane}.log"]


def test_a_second_up_on_the_same_data_refuses_and_names_the_first(up: Up) -> None:
    second = maskmill("up", "--data", up.data, "--port", "0", "--devices", "cpu")
    assert second.returncode == CANNOT_START
    assert f"process {up.process.pid}" in second.stderr


def test_a_taken_port_is_named_with_the_option_that_changes_it(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        refused = maskmill("up", "--data", tmp_path / "data", "--port", port, "--devices", "cpu")
    assert refused.returncode == CANNOT_START
    assert port in refused.stderr
    assert "--port" in refused.stderr


def test_a_data_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    refused = maskmill("up", "--data", tmp_path / "file" / "data", "--port", "0", "--devices", "cpu")
    assert refused.returncode == CANNOT_START
    assert str(tmp_path / "file") in refused.stderr


def test_a_model_that_cannot_be_loaded_stops_the_start_with_its_reason(tmp_path: Path) -> None:
    (tmp_path / "broken.onnx").write_bytes(b"no model")
    command = [
        "up",
        "--data",
        tmp_path / "data",
        "--port",
        "0",
        "--devices",
        "cpu",
        "--models",
        tmp_path / "broken.onnx",
    ]
    refused = maskmill(*command)
    assert refused.returncode == CANNOT_START
    assert "broken.onnx" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_model_that_is_not_there_is_one_line_before_anything_starts(tmp_path: Path) -> None:
    refused = maskmill("up", "--data", tmp_path / "data", "--port", "0", "--models", "nosuch")
    assert refused.returncode == CANNOT_START
    assert refused.stderr.startswith("Error: no model 'nosuch'")
    assert refused.stderr.count("\n") == 1


def test_two_models_of_one_name_stop_the_start(tmp_path: Path) -> None:
    models = [tmp_path / folder / "mine.onnx" for folder in ("one", "other")]
    for model in models:
        model.parent.mkdir()
        shutil.copy(ROOT / "worker/models/shapes/model.onnx", model)
    listed = ",".join(map(str, models))
    refused = maskmill("up", "--data", tmp_path / "data", "--port", "0", "--devices", "cpu", "--models", listed)
    assert refused.returncode == CANNOT_START
    assert "two of MASKMILL_MODELS are called mine" in refused.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["SIGTERM", "SIGKILL"])
def test_no_process_outlives_it(number: signal.Signals) -> None:
    with run_up("--lanes", "bulk") as running:
        below = descendants(running.process.pid)
        running.process.send_signal(number)
        assert running.process.wait(60) == (0 if number == signal.SIGTERM else -signal.SIGKILL)
        assert still_running(below) == set()
    assert len(below) >= 6


@pytest.mark.parametrize(("words", "said"), [([], 1), (["--models", "shapes"], 0)])
def test_without_a_model_it_says_what_the_embedded_one_finds(tmp_path: Path, words: list[str], said: int) -> None:
    command = [*MASKMILL, "up", "--data", str(tmp_path / "data"), "--port", "0", "--devices", "cpu", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=CLEAN) as process:
        assert process.stdout is not None
        lines = list(iter(process.stdout.readline, "Ctrl-C stops everything.\n"))
        process.terminate()
        process.communicate(timeout=90)
    assert sum("finds drawn shapes only; for everyday objects: maskmill models pull" in line for line in lines) == said


def test_it_is_ready_without_a_device_that_cannot_start_and_drains_however_often_it_is_told_to() -> None:
    with run_up("--lanes", "bulk", "--devices", "cpu,npu:0") as running:
        below = descendants(running.process.pid)
        for _ in range(3):
            running.process.terminate()
            time.sleep(0.1)
        assert running.process.wait(90) == 0
        assert still_running(below) == set()


def test_ctrl_c_while_it_starts_leaves_no_process(tmp_path: Path) -> None:
    command = [*MASKMILL, "up", "--data", str(tmp_path / "data"), "--port", "0", "--devices", "cpu"]
    with subprocess.Popen(command, env=CLEAN) as process:
        below = some_descendants(process)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
        assert still_running(below) == set()
