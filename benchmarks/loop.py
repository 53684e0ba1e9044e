"""The bare loop that the queue is measured against: decode, prepare, run, finish, one picture after the other.

Run by other benchmarks as a process of its own, `python -m benchmarks.loop MODEL FOLDER`, with one thread for numerical
libraries and every core for the model, as a worker's child has them. Prints JSON: pictures, wall and CPU seconds.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.pictures import data_folder
from shared.settings import Settings
from worker.decode import decode
from worker.device import Device, limit_threads
from worker.models import load

WARM_UP = 5


def bare_loop(model: str, folder: Path) -> dict[str, Any]:
    """What `main` prints, from a fresh process."""
    environment = {**os.environ, **Device("cpu").environment()}
    command = [sys.executable, "-m", "benchmarks.loop", model, str(folder)]
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def main(name: str, folder: Path) -> None:
    """Run the loop over the files of `folder`."""
    limit_threads()
    settings = Settings(models_dir=data_folder() / "weights")
    model = load(name, Device("cpu"), settings)
    files = sorted(folder.iterdir())

    def run(file: Path) -> int:
        image = decode(file.read_bytes(), None, None, settings)
        prepared = model.prepare(image)
        outputs = model.infer([prepared])[0]
        return len(model.finish(outputs, prepared, model.threshold))

    for file in files[:WARM_UP]:
        run(file)
    wall, cpu = time.perf_counter(), time.process_time()
    instances = sum(run(file) for file in files)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    print(json.dumps({"pictures": len(files), "instances": instances, "wall": wall, "cpu": cpu}))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
