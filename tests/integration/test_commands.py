"""The commands of a worker host, each in a process of its own, and what the front door makes of errors."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import maskmill as maskmill_package
from maskmill import cli as front_door
from maskmill.deploy.demo.samples import Samples, draw_samples
from tests.services.commands import CLEAN, MASKMILL, maskmill

SOME_FAILED, WRONG, UNREACHABLE, CANNOT_START, INTERRUPTED = 1, 2, 4, 78, 130


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Samples:
    return draw_samples(tmp_path_factory.mktemp("inputs"))


def test_help_lists_every_command_and_loads_nothing_heavy() -> None:
    heavy = "{'numpy', 'cv2', 'onnxruntime', 'celery', 'redis', 'flask', 'requests', 'boto3'}"
    program = (
        "import sys; from maskmill.cli import main; main(['--help'], standalone_mode=False); "
        f"assert not {heavy} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=CLEAN, check=False)
    assert done.returncode == 0, done.stderr
    assert {line.split()[0] for line in done.stdout.splitlines() if line.startswith("  ")} >= set(front_door.COMMANDS)


def test_the_public_name_is_there_when_it_is_asked_for() -> None:
    from maskmill.client.client import Client

    assert maskmill_package.Client is Client
    with pytest.raises(AttributeError, match="nothing_else"):
        maskmill_package.nothing_else  # noqa: B018 - asking is the test


@pytest.mark.parametrize("command", ["worker", "control", "up", "demo", "jobs", "api"])
def test_a_setting_that_does_not_exist_is_named_by_every_command(command: str, tmp_path: Path) -> None:
    env = CLEAN | {"MASKMILL_NO_SUCH": "1"}
    done = subprocess.run([*MASKMILL, command], capture_output=True, text=True, env=env, cwd=tmp_path, check=False)
    assert (done.returncode, "Traceback" in done.stderr) == (WRONG, False)
    assert "MASKMILL_NO_SUCH" in done.stderr


def test_a_service_that_is_away_is_exit_code_4() -> None:
    assert maskmill("jobs", "--api", "http://127.0.0.1:1").returncode == UNREACHABLE


def test_lanes_and_devices_of_other_words_are_refused_with_those_that_exist() -> None:
    lanes = maskmill("worker", "--lanes", "fast")
    devices = maskmill("worker", "--devices", "tpu:0")
    assert lanes.returncode == devices.returncode == WRONG
    assert "interactive" in lanes.stderr
    assert "gpu:0" in devices.stderr


def test_models_lists_those_embedded_and_those_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "model.onnx").write_bytes(b"")
    env = CLEAN | {"MASKMILL_MODELS_DIR": str(tmp_path)}
    done = subprocess.run([*MASKMILL, "models", "list", "--json"], capture_output=True, text=True, env=env, check=True)
    assert {model["name"]: model["embedded"] for model in json.loads(done.stdout)} == {"shapes": True, "mine": False}


def test_models_check_says_what_runs_where() -> None:
    report = json.loads(maskmill("models", "check", "shapes", "--device", "cpu", "--json").stdout)
    assert (report["family"], report["provider"]) == ("yolo_seg", "CPUExecutionProvider")
    assert report["inputs"][0].startswith("images float32[")
    assert report["warm_ms"] > 0


@pytest.mark.parametrize(("name", "device"), [("no-such-model", "cpu"), ("shapes", "npu:0")])
def test_models_check_ends_with_78_and_the_reason(name: str, device: str) -> None:
    done = maskmill("models", "check", name, "--device", device)
    assert (done.returncode, "Traceback" in done.stderr) == (CANNOT_START, False)
    assert (device if name == "shapes" else name) in done.stderr


def test_models_pull_names_what_the_catalogue_lacks_and_what_it_has() -> None:
    refused = maskmill("models", "pull", "nosuch")
    assert refused.returncode == WRONG
    assert "'nosuch' is not in the catalogue; name a model: maskrcnn-12-int8" in refused.stderr


def test_a_worker_whose_device_is_missing_ends_with_78_and_the_reason(redis_url: str, tmp_path: Path) -> None:
    env = CLEAN | {"MASKMILL_REDIS_URL": redis_url, "MASKMILL_RUN_DIR": str(tmp_path)}
    command = [*MASKMILL, "worker", "--devices", "npu:0", "--lanes", "bulk"]
    done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=120, check=False)
    assert done.returncode == CANNOT_START
    assert "Error: the worker for device npu:0 bulk cannot start" in done.stderr


def test_predict_writes_the_good_and_names_the_bad(samples: Samples, tmp_path: Path) -> None:
    done = maskmill("predict", *samples.uploads, "--out", tmp_path, "--device", "cpu")
    assert done.returncode == SOME_FAILED
    assert len(list(tmp_path.rglob("*_res.json"))) == len(list(tmp_path.rglob("*_res.jpg"))) == 15
    assert all(name in done.stderr for name in samples.failures)
    assert len(done.stdout.splitlines()) == 15


def test_predict_prints_a_json_line_for_each_input_in_order(samples: Samples) -> None:
    inputs = [str(samples.served), str(samples.folder / "first.png")]
    done = maskmill("predict", "--input", inputs[0], "--input", inputs[1], "--json", "--device", "cpu")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["input_path"] for line in lines] == inputs
    assert all(len(line["boxes"]) == len(line["masks"]) for line in lines)


def test_a_package_that_is_not_installed_is_named_with_the_lock_that_brings_it() -> None:
    program = "import sys; sys.modules['onnxruntime'] = None; from maskmill.cli import main; main(['predict', 'a.png'])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=CLEAN, check=False)
    assert done.returncode == CANNOT_START
    assert done.stderr.startswith("Error: onnxruntime is not installed here; ")
    assert "locks/worker.txt" in done.stderr


def test_a_worker_without_a_package_ends_with_its_name_and_does_not_start_again(tmp_path: Path) -> None:
    (tmp_path / "onnxruntime.py").write_text("raise ModuleNotFoundError('No module named onnxruntime')")
    env = CLEAN | {"PYTHONPATH": str(tmp_path), "MASKMILL_RUN_DIR": str(tmp_path / "run")}
    command = [*MASKMILL, "worker", "--devices", "cpu"]
    done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=60, check=False)
    assert done.returncode == CANNOT_START
    assert "No module named onnxruntime; a worker host needs locks/worker.txt" in done.stderr
    assert "Traceback" not in done.stderr


def test_ctrl_c_ends_predict_without_a_traceback(samples: Samples) -> None:
    command = [*MASKMILL, "predict", str(samples.uploads[0]), "--device", "sim:500"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=CLEAN) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == INTERRUPTED
        assert "Traceback" not in process.stderr.read()
