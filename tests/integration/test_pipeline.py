"""The pipeline's promises, with a real model session and real pictures."""

from __future__ import annotations

import multiprocessing
import resource
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from maskmill.shared.errors import StorageRefused, TruncatedInput
from maskmill.shared.jobs.records import Options
from maskmill.shared.settings import Settings
from maskmill.worker.device import Device
from maskmill.worker.masks.segmented import Segmented
from maskmill.worker.models import load
from maskmill.worker.pipeline.pipeline import Pipeline
from maskmill.worker.pipeline.task import Done
from tests.onnx_models import SIZE, head_of, write_package, write_torchvision

WHITE, GREY = 255, 128


class Probe:
    """A task that remembers what was done to it."""

    page_index = None
    pdf = None

    def __init__(self, data: bytes) -> None:
        self.options = Options()
        self.data = data
        self.is_wanted = True
        self.deliveries: list[Any] = []
        self.ends: list[Done] = []
        self.over = threading.Event()
        self.refusal: Exception | None = None

    def wanted(self) -> bool:
        return self.is_wanted

    def fetch(self) -> bytes:
        return self.data

    def render(self, segmented: Segmented) -> int:
        return len(segmented.instances)

    def deliver(self, finished: int) -> int:
        if self.refusal:
            raise self.refusal
        self.deliveries.append(finished)
        return finished

    def done(self, done: Done) -> None:
        self.ends.append(done)
        self.over.set()


def picture(value: int, size: int = SIZE) -> bytes:
    done, data = cv2.imencode(".png", np.full((size, size, 3), value, np.uint8))
    assert done
    return data.tobytes()


def make_touchy(folder: Path) -> Path:
    """A model directory whose run raises when any picture of the batch is all white: it looks up row 1 of 1."""
    package = write_package(folder, head_of(((8, 8, 40, 40), 1, 0.9)))
    model = onnx.load(str(package / "model.onnx"))
    look_up = [
        helper.make_node("ReduceMean", ["images"], ["each"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("ReduceMax", ["each"], ["highest"], keepdims=0),
        helper.make_node("Cast", ["highest"], ["row"], to=TensorProto.INT64),
        helper.make_node("Gather", ["rows", "row"], ["one"]),
        helper.make_node("Mul", ["before", "one"], ["output0"]),
    ]
    for node in model.graph.node:
        node.output[:] = ["before" if name == "output0" else name for name in node.output]
    model.graph.node.extend(look_up)
    model.graph.initializer.append(numpy_helper.from_array(np.ones(1, np.float32), "rows"))
    onnx.save(model, str(package / "model.onnx"))
    return package


@pytest.fixture(scope="module")
def settings() -> Settings:
    return Settings.from_env({"MASKMILL_CPU_THREADS": "1", "MASKMILL_BATCH_SIZE": "8"})


@pytest.fixture(scope="module")
def pipeline(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pipeline]:
    model = load(str(make_touchy(tmp_path_factory.mktemp("models") / "touchy")), Device("cpu"), settings)
    pipeline = Pipeline(model, settings, lambda error: pytest.fail(f"the device is not lost: {error}"))
    yield pipeline
    pipeline.close()


def run(pipeline: Pipeline, probes: list[Probe]) -> None:
    for probe in probes:
        pipeline.put(probe)
    for probe in probes:
        assert probe.over.wait(60)


def test_a_picture_that_breaks_its_batch_fails_alone(pipeline: Pipeline) -> None:
    probes = [Probe(picture(WHITE if number in (3, 17) else GREY)) for number in range(32)]
    run(pipeline, probes)
    failed = [number for number, probe in enumerate(probes) if probe.ends[0].failure]
    assert failed == [3, 17]
    assert {probes[number].ends[0].failure.stage for number in failed} == {"infer"}  # type: ignore[union-attr]
    assert all(probe.deliveries == [1] for number, probe in enumerate(probes) if number not in failed)


def test_every_task_ends_exactly_once_whatever_fails(pipeline: Pipeline) -> None:
    probes = [Probe(picture(GREY)) for _ in range(12)]
    probes[1].data = b""
    probes[2].data = picture(GREY)[:60]
    probes[3].refusal = StorageRefused("no such bucket")
    probes[4].data = picture(WHITE)
    run(pipeline, probes)
    assert [len(probe.ends) for probe in probes] == [1] * 12
    codes = [probe.ends[0].failure.code if probe.ends[0].failure else None for probe in probes[:5]]
    assert codes == [None, "empty", TruncatedInput.code, "storage_refused", "model_error"]
    assert pipeline.progress.under_way == 0


def test_a_task_that_nobody_wants_any_more_is_dropped(pipeline: Pipeline) -> None:
    probe = Probe(picture(GREY))
    probe.is_wanted = False
    run(pipeline, [probe])
    assert (probe.deliveries, probe.ends[0].failure) == ([], None)


SIDE, ROWS = 640, 100
OUTPUTS = ROWS * SIDE * SIDE * 4
PICTURE = (1 + 4) * SIDE * SIDE * 3


def peak(folder: Path, pictures: int) -> int:
    """The most bytes that this process ever held, with four runs at once and outputs for two of them."""
    settings = Settings(models_dir=folder, cpu_threads=4, outputs_in_flight=2 * OUTPUTS + (1 << 20))
    model = load("mine", Device("cpu"), settings, lane="bulk")
    pipeline = Pipeline(model, settings, lambda error: pytest.fail(str(error)))
    probes = [Probe(picture(GREY, SIDE)) for _ in range(pictures)]
    run(pipeline, probes)
    pipeline.close()
    assert all(probe.deliveries for probe in probes)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def test_outputs_stay_within_their_budget_however_many_pictures_and_runs_there_are(tmp_path: Path) -> None:
    boxes = [(0.0, 0.0, float(SIDE), float(SIDE))] * ROWS
    write_torchvision(tmp_path / "mine", boxes, labels=[str(number) for number in range(ROWS)])
    fresh = {"max_workers": 1, "mp_context": multiprocessing.get_context("spawn")}
    with ProcessPoolExecutor(**fresh) as one, ProcessPoolExecutor(**fresh) as many:  # type: ignore[arg-type]
        more = many.submit(peak, tmp_path, 16).result() - one.submit(peak, tmp_path, 1).result()
    assert more < 1.5 * OUTPUTS + 16 * PICTURE


def make_sharing(folder: Path) -> Path:
    """A model directory whose one score is 0.9 for a picture alone, and shared by the pictures of a run."""
    package = write_package(folder, head_of(((8, 8, 40, 40), 1, 0.9)), threshold=0.5)
    model = onnx.load(str(package / "model.onnx"))
    for node in model.graph.node:
        node.output[:] = ["before" if name == "output0" else name for name in node.output]
    share = [
        helper.make_node("Shape", ["images"], ["shape"], end=1),
        helper.make_node("Cast", ["shape"], ["count"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["before", "count"], ["output0"]),
    ]
    model.graph.node.extend(share)
    model.opset_import[0].version = 15
    onnx.save(model, str(package / "model.onnx"))
    return package


def test_a_run_takes_no_more_pictures_than_their_outputs_may_need(tmp_path: Path) -> None:
    model = load(str(make_sharing(tmp_path / "mine")), Device("cpu"), Settings(cpu_threads=1))
    settings = Settings(outputs_in_flight=2 * model.output_bytes)
    pipeline = Pipeline(model, settings, lambda error: pytest.fail(str(error)))
    probes = [Probe(picture(WHITE)) for _ in range(32)]
    run(pipeline, probes)
    pipeline.close()
    assert [probe.deliveries for probe in probes] == [[1]] * 32
