"""The bare loop that the queue is measured against: decode, prepare, run, finish, one picture after the other.

Run by other benchmarks as a process of its own, `python -m benchmarks.loop MODEL FOLDER ours|default`, with one thread
for numerical libraries and every core for the model, as a worker's child has them. `ours` runs the session as workers
do, `default` an onnxruntime session whose threads are left as they come: those spin while they wait. Prints JSON:
pictures, wall and CPU seconds.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnxruntime

from benchmarks.pictures import data_folder
from maskmill.shared.settings import Settings
from maskmill.worker.device import Device, limit_threads
from maskmill.worker.images.decode import decode
from maskmill.worker.models import Outputs, Prepared, load

WARM_UP = 5

Infer = Callable[[Prepared], Outputs]


def bare_loop(model: str, folder: Path, session: str = "ours") -> float:
    """Pictures a second, in a fresh process."""
    environment = {**os.environ, **Device("cpu").environment()}
    command = [sys.executable, "-m", "benchmarks.loop", model, str(folder), session]
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return float(found["pictures"] / found["wall"])


def main(name: str, folder: Path, session: str) -> None:
    """Run the loop over the files of `folder`."""
    limit_threads()
    settings = Settings(models_dir=data_folder() / "weights")
    model = load(name, Device("cpu"), settings)
    infer: Infer = _default(settings.models_dir / f"{name}.onnx") if session == "default" else _first_of(model.infer)
    files = sorted(folder.iterdir())

    def run(file: Path) -> int:
        image = decode(file.read_bytes(), None, None, settings)
        prepared = model.prepare(image)
        return len(model.finish(infer(prepared), prepared, model.threshold))

    for file in files[:WARM_UP]:
        run(file)
    wall, cpu = time.perf_counter(), time.process_time()
    instances = sum(run(file) for file in files)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    print(json.dumps({"pictures": len(files), "instances": instances, "wall": wall, "cpu": cpu}))


def _first_of(infer: Callable[[list[Prepared]], list[Outputs]]) -> Infer:
    return lambda prepared: infer([prepared])[0]


def _default(weights: Path) -> Infer:
    session = onnxruntime.InferenceSession(weights, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return lambda prepared: dict(zip(names, session.run(None, dict(prepared.tensors)), strict=True))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3])
