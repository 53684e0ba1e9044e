"""What the drop-in endpoint adds to the same work in one process.

Run `python -m benchmarks.interactive`. Request by request in turn: POST /instance-segmentation with a real JPEG in
base64, drawn picture asked for; and in a process of its own the same file through decode, prepare, run, finish, the
seed's instances, draw and encode as JPEG, called one after the other. Counted for the endpoint: from a ready body to
the last byte of the answer, over one kept connection. Not counted on either side: base64 and JSON of the client.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from benchmarks.machine import busy, machine, spread
from benchmarks.pictures import picture_files, repeat
from benchmarks.processor import undisturbed
from benchmarks.recorded import NAME, record
from benchmarks.stack import Lanes, Stack, run_stack
from maskmill.shared.jobs.records import Options
from maskmill.shared.settings import Settings
from maskmill.worker.device import Device, limit_threads, parse_devices
from maskmill.worker.images.decode import decode
from maskmill.worker.models import Model, load
from maskmill.worker.rendering.draw import draw
from maskmill.worker.rendering.encode import encode_image, seed_instances

REQUESTS, WARM_UP = 120, 10
BULK_TIMES = 25
SIMULATED = "sim:20"


@dataclass(frozen=True)
class Case:
    """A model on an interactive device, alone or beside a bulk job on a device of its own."""

    model: str
    device: str
    bulk: str = ""

    @property
    def lanes(self) -> Lanes:
        """The children to start."""
        return [(self.device, "interactive"), *([(self.bulk, "bulk")] if self.bulk else [])]

    def __str__(self) -> str:
        return f"{self.model} on {self.device}, " + (f"a bulk job on {self.bulk}" if self.bulk else "alone")


CASES = (
    Case(NAME, SIMULATED),
    Case(NAME, SIMULATED, SIMULATED),
    Case("shapes", "cpu"),
    Case("shapes", "cpu", SIMULATED),
)


@dataclass
class Times:
    """Milliseconds of each request."""

    http: list[float] = field(default_factory=list)
    direct: list[float] = field(default_factory=list)
    undrawn: list[float] = field(default_factory=list)


def main() -> None:
    """Measure every case and print the table."""
    print(machine())
    print(
        f"{REQUESTS} requests a case, in turn; milliseconds: median (least-most), 'added' the difference of medians\n"
    )
    print(f"{'':38}{'endpoint':>22}{'in process':>22}{'without drawing':>22}{'added':>8}")
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        record("yolo11n-seg", folder)
        (folder / "pictures").mkdir()
        repeat(picture_files(), BULK_TIMES, folder / "pictures")
        for case in CASES:
            times, others = measure(case, folder)
            added = statistics.median(times.http) - statistics.median(times.direct)
            columns = "".join(f"{spread(column):>22}" for column in (times.http, times.direct, times.undrawn))
            print(f"{case!s:38}{columns}{added:8.1f}  {busy([others])}", flush=True)


def measure(case: Case, folder: Path) -> tuple[Times, float]:
    """All requests of one case, and the share of the machine that others took."""
    pictures = folder / "pictures"
    with (
        run_stack(case.model, case.lanes, api=True, models_dir=folder, local_roots=(pictures,)) as stack,
        Direct(case, folder) as direct,
        _connection(stack.url) as connection,
    ):

        def requests() -> Times:
            with _bulk_job(stack, case, pictures):
                return _take_turns(direct, connection)

        return undisturbed(requests)


def _take_turns(direct: Direct, connection: HTTPConnection) -> Times:
    times = Times()
    files = picture_files()
    for turn in range(WARM_UP + REQUESTS):
        file = files[turn % len(files)]
        http = _post(connection, file)
        drawn, undrawn = direct.ask(file)
        if turn >= WARM_UP:
            times.http.append(http)
            times.direct.append(drawn)
            times.undrawn.append(undrawn)
    return times


def _post(connection: HTTPConnection, file: Path) -> float:
    body = json.dumps({"image": base64.b64encode(file.read_bytes()).decode("ascii")}).encode()
    started = time.perf_counter()
    connection.request("POST", "/instance-segmentation", body, {"Content-Type": "application/json"})
    response = connection.getresponse()
    answer = response.read()
    spent = (time.perf_counter() - started) * 1e3
    if response.status != 200 or "image" not in json.loads(answer)["result"]:
        raise RuntimeError(f"{response.status}: {answer[:300]!r}")
    return spent


@contextlib.contextmanager
def _connection(url: str) -> Iterator[HTTPConnection]:
    connection = HTTPConnection(urlsplit(url).netloc, timeout=60)
    try:
        yield connection
    finally:
        connection.close()


@contextlib.contextmanager
def _bulk_job(stack: Stack, case: Case, pictures: Path) -> Iterator[None]:
    """A job that runs all the while, where the case wants one; RuntimeError where it was over too soon."""
    if not case.bulk:
        yield
        return
    job_id = stack.submit(pictures, Options(model=case.model))
    stack.workers.wait_for_progress(job_id, 1)
    yield
    status = stack.workers.ledger.status(job_id)
    if status is None or status.state not in ("planning", "running"):
        raise RuntimeError(f"the bulk job did not last: {status}")
    stack.workers.ledger.cancel(job_id)


class Direct:
    """The process that does the same work without a queue; asked by a file's path, it answers with milliseconds."""

    def __init__(self, case: Case, folder: Path) -> None:
        command = [sys.executable, "-m", "benchmarks.interactive", case.model, case.device, str(folder)]
        environment = {**os.environ, **Device("cpu").environment()}
        self._process = subprocess.Popen(
            command, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def ask(self, file: Path) -> tuple[float, float]:
        """Milliseconds with and without drawing and the JPEG."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(f"{file}\n")
        self._process.stdin.flush()
        drawn, undrawn = json.loads(self._process.stdout.readline())
        return drawn, undrawn


def serve(name: str, device: str, folder: str) -> None:
    """Do the work for each path on standard input."""
    limit_threads()
    settings = Settings(models_dir=Path(folder))
    model = load(name, parse_devices(device)[0], settings)
    for line in sys.stdin:
        print(json.dumps(_work(model, settings, Path(line.strip()).read_bytes())), flush=True)


def _work(model: Model, settings: Settings, data: bytes) -> tuple[float, float]:
    started = time.perf_counter()
    image = decode(data, None, None, settings)
    prepared = model.prepare(image)
    found = model.finish(model.infer([prepared])[0], prepared, model.threshold)
    seed_instances(found, model.labels, *image.shape[:2])
    undrawn = time.perf_counter()
    encode_image(draw(image, found, model.labels, in_place=True), "jpg")
    return (time.perf_counter() - started) * 1e3, (undrawn - started) * 1e3


if __name__ == "__main__":
    if len(sys.argv) > 1:
        serve(*sys.argv[1:])
    else:
        main()
