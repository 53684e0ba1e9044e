"""Several devices get a process each, and what comes of the inputs is the same as with one."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow

from maskmill import create_pipeline
from maskmill.shared.errors import DeviceUnavailable, ModelError, ModelInvalid
from maskmill.shared.jobs.records import Options
from maskmill.shared.settings import Settings
from maskmill.worker.device import Device
from maskmill.worker.predict.predictor import Predictor
from maskmill.worker.predict.results import Result
from tests.onnx_models import head_of, write_package
from tests.services import FileServer
from tests.services.commands import CLEAN, MASKMILL, maskmill, still_running
from tests.services.workers import command_line, descendants, wait_until

INTERRUPTED = 130
OPEN = """
from maskmill import create_pipeline

print("started", flush=True)
pipeline = create_pipeline(device="{device}")
results = pipeline.predict("pictures")
"""
SAVE = """
for result in results:
    result.save_to_json("out")
"""
STAND_STILL = """
next(results)
print("waits", flush=True)
input()
"""


class Subclass(np.ndarray[Any, Any]):
    """An array of a type that only this file knows."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # Each score is multiplied by the picture's mean value, so that every brightness has a result of its own.
    return write_package(tmp_path_factory.mktemp("models") / "mine", head_of(((8, 8, 40, 40), 1, 0.9)))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with pictures of 40 brightnesses."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pictures").mkdir()
    for number in range(40):
        Pillow.fromarray(frame(255 - 3 * number)).save(tmp_path / f"pictures/{number:02}.png")
    return tmp_path


def frame(value: int = 255) -> Any:
    return np.full((64, 64, 3), value, np.uint8)


def children() -> list[int]:
    """The processes of this one's devices."""
    return [pid for pid in descendants(os.getpid()) if "segmenter_process" in command_line(pid)]


def write_pdf(path: Path) -> str:
    page = Pillow.new("RGB", (64, 64), "white")
    out = io.BytesIO()
    page.save(out, "PDF", save_all=True, append_images=[Pillow.new("RGB", (64, 64), "grey")] * 4)
    path.write_bytes(out.getvalue())
    return str(path)


@pytest.fixture
def script(folder: Path, model: Path) -> Iterator[Any]:
    """Starts a program without a guard for its main module; it is ended with the test."""
    started: list[subprocess.Popen[str]] = []

    def start(program: str) -> subprocess.Popen[str]:
        (folder / "program.py").write_text(textwrap.dedent(program))
        pipes: Any = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        env = {**CLEAN, "MASKMILL_MODELS": str(model)}
        started.append(subprocess.Popen([sys.executable, "program.py"], env=env, text=True, **pipes))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def facts(result: Result) -> tuple[Any, ...]:
    """All that a result says and shows; the name of a frame holds the time."""
    name = None if result["input_path"] is None else result.name
    picture = result.img["res"].tobytes() if result.img else b""
    return name, result.json, picture


@pytest.mark.parametrize("mask_format", ["rle", "dense"])
def test_results_are_those_of_one_device_in_the_inputs_order(
    model: Path, folder: Path, file_server: FileServer, monkeypatch: pytest.MonkeyPatch, mask_format: Any
) -> None:
    monkeypatch.setenv("MASKMILL_ALLOW_NETWORKS", "127.0.0.0/8")
    pdf = write_pdf(folder / "scan.pdf")
    scans = [pdf, file_server.add("/web.pdf", Path(pdf).read_bytes())]
    frames = [frame(90).view(Subclass), np.array([print]), frame(200)[:, :, 0], frame(160)[::-1, ::2]]
    given = ["pictures", frame(77), *scans, "none.png", *frames]
    found = []
    for device in ("cpu", "cpu,cpu"):
        with create_pipeline(model=model, device=device, mask_format=mask_format) as pipeline:
            found.append([facts(result) for result in pipeline.predict(given, threshold=0.1)])
    assert found[1] == found[0]
    assert len(found[0]) == 40 + 1 + 2 * 5 + 1 + 4
    assert [index for index, (_, document, _) in enumerate(found[0]) if "error" in document["res"]] == [51, 53]


def test_the_commands_files_are_those_of_one_device(model: Path, folder: Path) -> None:
    saved = []
    for device in ("cpu", "cpu,cpu"):
        words = ["--input", "pictures", "--device", device, "--model", model, "--save_path", device, "--json"]
        done = maskmill("predict", *words, folder=folder)
        assert (done.returncode, done.stderr) == (0, "")
        files = {path.name: path.read_bytes() for path in (folder / device).rglob("*.*")}
        saved.append((files, done.stdout))
    assert saved[1] == saved[0]
    assert len(saved[0][0]) == 80


def test_each_device_has_a_process_of_its_own_until_the_pipeline_is_closed(model: Path) -> None:
    with create_pipeline(model=model, device="sim:5,sim:5") as pipeline:
        processes = children()
        assert len(set(processes)) == 2
        assert [result.error for result in pipeline.predict([frame()] * 150)] == [None] * 150
        assert children() == processes
    assert children() == []


def test_one_device_needs_no_other_process(model: Path) -> None:
    with create_pipeline(model=model, device="cpu"):
        assert children() == []


def test_a_process_is_pinned_to_its_device_before_it_starts(model: Path) -> None:
    with create_pipeline(model=model, device="cpu,cpu"):
        for pid in children():
            environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            assert all(f"{key}={value}".encode() in environment for key, value in Device("cpu").environment().items())


@pytest.mark.parametrize(("number", "name"), [(signal.SIGKILL, "SIGKILL"), (signal.SIGRTMIN + 3, "signal [0-9]+")])
def test_a_process_that_is_killed_is_an_error_that_names_its_device(model: Path, number: int, name: str) -> None:
    with create_pipeline(model=model, device="sim:50,sim:30") as pipeline:
        results = pipeline.predict([frame()] * 300)
        next(results)
        victim = next(pid for pid in children() if "sim:30" in command_line(pid))
        os.kill(victim, number)
        with pytest.raises(ModelError, match=rf"^device sim:30 is lost: its process {victim} ended with {name}$"):
            list(results)
        with pytest.raises(ModelError, match="sim:30"):
            list(pipeline.predict(frame()))
    assert children() == []


def test_a_result_that_cannot_be_sent_fails_alone(model: Path) -> None:
    cpu = Device("cpu")
    with Predictor(Settings(models=(str(model),)), str(model), cpu, cpu) as predictor:
        ended = [done for _, done in predictor.run([frame(10), frame(), frame(10)], Options(), lock_of_dark)]
    assert [done.failure and done.failure.stage for done in ended] == ["deliver", None, "deliver"]
    assert ended[1].value == "light"


def lock_of_dark(found: Any, *_: Any) -> Any:
    return threading.Lock() if found.image.mean() < 100 else "light"


@pytest.mark.parametrize("wrong", ["mlu:0", "gpu:999"])
@pytest.mark.parametrize("listed", ["cpu,{}", "{},cpu"])
def test_one_wrong_device_of_several_is_refused_as_it_is_alone(model: Path, wrong: str, listed: str) -> None:
    with pytest.raises(DeviceUnavailable) as alone:
        create_pipeline(model=model, device=wrong)
    with pytest.raises(DeviceUnavailable) as among_others:
        create_pipeline(model=model, device=listed.format(wrong))
    assert among_others.value.reason == alone.value.reason
    assert children() == []


def test_an_invalid_model_is_refused_as_it_is_on_one_device(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"no graph")
    reasons = []
    for device in ("cpu", "cpu,cpu"):
        with pytest.raises(ModelInvalid) as refused:
            create_pipeline(model=tmp_path, device=device)
        reasons.append(refused.value.reason)
    assert reasons[1] == reasons[0]


def test_a_program_needs_no_guard_and_leaves_no_process_behind(script: Any, folder: Path) -> None:
    program = script(OPEN.format(device="cpu,cpu") + SAVE)
    # Both pipes end only once no process holds them any more.
    assert program.communicate(timeout=120) == ("started\n", "")
    assert program.returncode == 0
    assert len(list((folder / "out").iterdir())) == 40


def test_a_programs_own_socket_timeout_changes_nothing(script: Any, folder: Path) -> None:
    program = script("import socket; socket.setdefaulttimeout(0.05)" + OPEN.format(device="sim:100,sim:100") + SAVE)
    assert program.communicate(timeout=120) == ("started\n", "")
    assert len(list((folder / "out").iterdir())) == 40


def test_processes_end_with_a_parent_that_is_killed_though_a_child_of_it_lives(script: Any) -> None:
    child = "import os, time\nif os.fork() == 0:\n    time.sleep(60)\n"
    program = script(OPEN.format(device="cpu,cpu") + child + STAND_STILL)
    assert [program.stdout.readline() for _ in range(2)] == ["started\n", "waits\n"]
    processes = [pid for pid in descendants(program.pid) if "segmenter_process" in command_line(pid)]
    forked = [pid for pid in descendants(program.pid) if pid not in processes]
    program.kill()
    try:
        assert still_running(processes) == set()
    finally:
        for pid in forked:
            os.kill(pid, signal.SIGKILL)
    assert (len(processes), len(forked)) == (2, 1)


def test_processes_end_with_a_parent_that_is_killed(script: Any) -> None:
    program = script(OPEN.format(device="sim:200,sim:200") + STAND_STILL)
    assert [program.stdout.readline() for _ in range(2)] == ["started\n", "waits\n"]
    processes = descendants(program.pid)
    assert len(processes) == 2
    program.kill()
    assert still_running(processes) == set()
    assert program.communicate(timeout=60) == ("", "")


def test_processes_end_with_a_parent_that_is_killed_while_they_load(script: Any) -> None:
    program = script(OPEN.format(device="cpu,cpu"))
    wait_until(lambda: len(descendants(program.pid)) == 2, 60)
    processes = descendants(program.pid)
    program.kill()
    assert still_running(processes) == set()


def test_ctrl_c_ends_the_command_and_its_processes_without_a_traceback(model: Path, folder: Path) -> None:
    words = ["predict", str(folder / "pictures"), "--device", "sim:100,sim:100", "--model", str(model)]
    pipes: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([*MASKMILL, *words], env=CLEAN, text=True, start_new_session=True, **pipes) as command:
        assert command.stdout is not None
        command.stdout.readline()
        processes = descendants(command.pid)
        # A terminal sends the signal to the whole group.
        os.killpg(command.pid, signal.SIGINT)
        _, said = command.communicate(timeout=60)
    assert (command.returncode, said) == (INTERRUPTED, "")
    assert len(processes) == 2
    assert still_running(processes) == set()


def test_a_pipeline_goes_on_after_ctrl_c(model: Path) -> None:
    large = np.full((1500, 1500, 3), 255, np.uint8)
    with create_pipeline(model=model, device="sim:5,sim:5") as pipeline:
        interrupt = threading.Thread(target=lambda: time.sleep(0.3) or os.kill(os.getpid(), signal.SIGINT))
        interrupt.start()
        with pytest.raises(KeyboardInterrupt):
            list(pipeline.predict([large] * 1000))
        interrupt.join()
        assert [len(result["boxes"]) for result in pipeline.predict([frame()] * 4)] == [1] * 4
