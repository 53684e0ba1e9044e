"""Where the time goes, stage by stage: each stage alone, and all of them overlapped in the shard pipeline, no queue.

Run `python -m benchmarks.stages`. Alone: one picture after the other, each stage timed, wall and CPU milliseconds a
picture. Overlapped: the milliseconds a picture that threads were inside the stage, waiting for a core included; the
inferrer's is the time between two pictures where it is the bottleneck. Each column comes from a process of its own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.machine import busy, machine
from benchmarks.pictures import data_folder, picture_files, repeat
from benchmarks.processor import undisturbed
from benchmarks.recorded import NAME, record
from maskmill.shared.egress.http import Egress
from maskmill.shared.jobs.job_files import JobFiles
from maskmill.shared.jobs.records import Item, Job, Options
from maskmill.shared.jobs.sources import FileBytes, PathSource
from maskmill.shared.ledger import ShardLease
from maskmill.shared.settings import Settings
from maskmill.shared.storage import open_storage
from maskmill.worker.device import Device, limit_threads, parse_devices
from maskmill.worker.images.decode import decode
from maskmill.worker.models import Model, load
from maskmill.worker.pipeline.pipeline import Pipeline
from maskmill.worker.rendering.draw import draw
from maskmill.worker.rendering.encode import Subject, encode_image, encode_result, result_document
from maskmill.worker.shards.item_task import ItemTask
from maskmill.worker.shards.shard_run import ShardRun
from maskmill.worker.sources.fetch import Fetcher

MODEL = "yolo11n-seg"
TIMES = 3
WARM_UP = 20
PARTS = {
    "fetch": ("read",),
    "decode": ("decode", "prepare"),
    "infer": ("run",),
    "finish": ("finish", "document", "draw", "encode"),
    "deliver": ("store",),
}


class Clock:
    """Wall and CPU seconds by stage; the CPU seconds are those of every thread of the process."""

    def __init__(self) -> None:
        self.wall: dict[str, float] = {}
        self.cpu: dict[str, float] = {}

    def time(self, stage: str, step: Callable[[], Any]) -> Any:
        """What `step` returns."""
        wall, cpu = time.perf_counter(), time.process_time()
        value = step()
        self.wall[stage] = self.wall.get(stage, 0) + time.perf_counter() - wall
        self.cpu[stage] = self.cpu.get(stage, 0) + time.process_time() - cpu
        return value


def alone(settings: Settings, files: list[Path]) -> dict[str, Any]:
    """Milliseconds a picture of each stage, one after the other."""
    model, storage = load(MODEL, Device("cpu"), settings), open_storage(settings)

    def run(file: Path, clock: Clock) -> None:
        data = clock.time("read", file.read_bytes)
        image = clock.time("decode", lambda: decode(data, None, None, settings))
        prepared = clock.time("prepare", lambda: model.prepare(image))
        outputs = clock.time("run", lambda: model.infer([prepared])[0])
        found = clock.time("finish", lambda: model.finish(outputs, prepared, model.threshold))
        subject = Subject(str(file), None, *image.shape[:2])
        text = clock.time("document", lambda: encode_result(result_document(subject, found, model, model.threshold)))
        drawn = clock.time("draw", lambda: draw(image, found, model.labels, in_place=True))
        picture = clock.time("encode", lambda: encode_image(drawn, "jpg"))
        clock.time("store", lambda: (storage.put(f"{file.stem}.json", text), storage.put(f"{file.stem}.jpg", picture)))

    for file in files[:WARM_UP]:
        run(file, Clock())
    clock = Clock()
    for file in files:
        run(file, clock)
    scale = 1e3 / len(files)
    return {name: (clock.wall[name] * scale, clock.cpu[name] * scale) for name in clock.wall}


def overlapped(settings: Settings, files: list[Path], device: str) -> dict[str, Any]:
    """Milliseconds a picture of each stage in the pipeline, and those from its first picture in to its last out."""
    model = load(settings.models[0], parse_devices(device)[0], settings)
    pipeline = Pipeline(model, settings, _lost)
    _run_shard(pipeline, model, settings, files[:WARM_UP])
    before = dict(pipeline.progress.seconds)
    wall, cpu = time.perf_counter(), time.process_time()
    _run_shard(pipeline, model, settings, files)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    scale = 1e3 / len(files)
    spent = {stage: (seconds - before[stage]) * scale for stage, seconds in pipeline.progress.seconds.items()}
    return {**spent, "a picture": wall * scale, "CPU a picture": cpu * scale}


def _run_shard(pipeline: Pipeline, model: Model, settings: Settings, files: list[Path]) -> None:
    storage = open_storage(settings)
    fetcher = Fetcher(settings, storage, Egress(settings))
    items = tuple(
        Item(number=number, input_path=str(file), name=file.stem, location=FileBytes(path=str(file)))
        for number, file in enumerate(files)
    )
    job = Job(
        id="0" * 24,
        created_at=0,
        sources=(PathSource(path=str(files[0].parent)),),
        options=Options(model=model.name),
        shard_size=len(items),
    )
    over = threading.Event()
    run = ShardRun(ShardLease(job.id, 0, 1, 0), job, items, lambda _: over.set())
    for item in items:
        pipeline.put(ItemTask(run, item, model, JobFiles(storage, job.id), fetcher))
    over.wait()
    failures = [outcome.error for outcome in run.outcomes if outcome.error]
    if failures:
        raise RuntimeError(f"{len(failures)} pictures failed: {failures[0]}")


def _lost(error: Exception) -> None:
    raise error


def measure(case: str, folder: str) -> dict[str, Any]:
    """One case ("alone", or a device) in this process; what it reads and writes lies in `folder`."""
    limit_threads()
    name = NAME if case.startswith("sim") else MODEL
    models_dir = Path(folder) / "models" if name == NAME else data_folder() / "weights"
    pictures = Path(folder) / "pictures"
    settings = Settings(
        models=(name,), models_dir=models_dir, local_roots=(pictures,), storage_url=f"file://{folder}/{case}/storage"
    )
    files = sorted(pictures.iterdir())
    return alone(settings, files) if case == "alone" else overlapped(settings, files, case)


def main() -> None:
    """Measure every case and print the table."""
    print(machine())
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        for part in ("models", "pictures"):
            (folder / part).mkdir()
        record(MODEL, folder / "models")
        count = len(repeat(picture_files(), TIMES, folder / "pictures"))
        cases = [undisturbed(partial(_in_process, case, name)) for case in ("alone", "cpu", "sim:20")]
    (serial, cpu, simulated), others = zip(*cases, strict=True)
    print(f"{MODEL}, {count} pictures, milliseconds a picture; {busy(others)}\n")
    print(f"{'':22}{'alone':>18}{'overlapped, inside':>24}")
    print(f"{'':22}{'wall':>9}{'CPU':>9}{'cpu':>12}{'sim:20':>12}")
    for stage, parts in PARTS.items():
        print(f"{stage:22}{'':18}{cpu[stage]:12.1f}{simulated[stage]:12.1f}")
        for part in parts:
            print(f"  {part:20}{serial[part][0]:9.2f}{serial[part][1]:9.2f}")
    walls, cpus = (sum(values) for values in zip(*serial.values(), strict=True))
    print(f"{'a picture, wall':22}{walls:9.2f}{'':9}{cpu['a picture']:12.1f}{simulated['a picture']:12.1f}")
    print(f"{'a picture, CPU':22}{'':9}{cpus:9.2f}{cpu['CPU a picture']:12.1f}{simulated['CPU a picture']:12.1f}")


def _in_process(case: str, folder: str) -> dict[str, Any]:
    environment = {**os.environ, **Device("cpu").environment()}
    command = [sys.executable, "-m", "benchmarks.stages", case, folder]
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(measure(*sys.argv[1:])))
    else:
        main()
