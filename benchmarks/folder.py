"""A folder through `create_pipeline(...).predict` with both files saved, against a plain loop that works as PaddleX.

Run `python -m benchmarks.folder MODEL FOLDER`; MODEL is a raw Ultralytics segmentation export, fixed to one size. The
plain loop reads, preprocesses and runs one picture after the other, makes each instance's mask at the picture's
size, draws with Pillow, and writes dense masks as indented JSON. Each way is a process of its own on every core, ROUNDS
times in turn; loading the model and its first run are not counted.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROUNDS = 3
THRESHOLD = 0.5
WAYS = ("plain loop", "here, dense masks", "here")


def main() -> None:
    """Print the table of all ways, or with --way the figures of one as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--way", choices=WAYS)
    given = parser.parse_args()
    if given.way:
        with tempfile.TemporaryDirectory() as out:
            print(json.dumps(_measured(given.way, given.model, given.folder, Path(out))))
        return
    command = [sys.executable, "-m", "benchmarks.folder", str(given.model), str(given.folder), "--way"]
    runs: dict[str, list[Any]] = {way: [] for way in WAYS}
    for _ in range(ROUNDS):
        for way in WAYS:
            runs[way].append(json.loads(subprocess.run([*command, way], check=True, stdout=subprocess.PIPE).stdout))
    _report(runs)


def _report(runs: dict[str, list[Any]]) -> None:
    seconds = {way: statistics.median(run["seconds"] for run in runs[way]) for way in WAYS}
    print(f"{'way':20}{'pictures/s':>12}{'ratio':>8}{'CPU s':>8}{'instances':>11}{'JSON MB':>9}")
    for way in WAYS:
        one = runs[way][0]
        rate, ratio = one["pictures"] / seconds[way], seconds[WAYS[0]] / seconds[way]
        cpu, size = statistics.median(run["cpu"] for run in runs[way]), one["json_bytes"] / 1e6
        print(f"{way:20}{rate:12.2f}{ratio:8.2f}{cpu:8.1f}{one['instances']:11}{size:9.2f}")
    for way in WAYS:
        stages = {
            stage: statistics.median(run["stages"][stage] for run in runs[way]) for stage in runs[way][0]["stages"]
        }
        print(f"{way}, seconds by step: " + ", ".join(f"{stage} {value:.2f}" for stage, value in stages.items()))


def _measured(way: str, model: Path, folder: Path, out: Path) -> dict[str, Any]:
    run = _plain(model) if way == WAYS[0] else _here(model, dense="dense" in way)
    wall, cpu = time.perf_counter(), time.process_time()
    figures = run(folder, out)
    figures |= {"seconds": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
    figures["pictures"] = len(list(out.glob("*.jpg")))
    figures["json_bytes"] = sum(path.stat().st_size for path in out.glob("*.json"))
    return figures


def _here(model: Path, *, dense: bool) -> Callable[[Path, Path], dict[str, Any]]:
    from maskmill import create_pipeline

    pipeline = create_pipeline(model=model, device="cpu", mask_format="dense" if dense else "rle")

    def run(folder: Path, out: Path) -> dict[str, Any]:
        instances, clock = 0, Clock()
        for result in pipeline.predict(folder, threshold=THRESHOLD):
            clock.lap("wait for the result")
            instances += len(result["boxes"])
            result.save_to_img(out)
            clock.lap("save_to_img")
            result.save_to_json(out)
            clock.lap("save_to_json")
        return {"instances": instances, "stages": clock.seconds}

    return run


def _plain(model: Path) -> Callable[[Path, Path], dict[str, Any]]:
    from benchmarks.plain_loop import PlainLoop

    loop = PlainLoop(model, THRESHOLD)

    def run(folder: Path, out: Path) -> dict[str, Any]:
        clock = Clock()
        instances = sum(loop.run(path, out, clock.lap) for path in sorted(folder.glob("*.jpg")))
        return {"instances": instances, "stages": clock.seconds}

    return run


class Clock:
    """Seconds by step."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, step: str) -> None:
        """Count the time since the last lap for `step`."""
        now = time.perf_counter()
        self.seconds[step] = self.seconds.get(step, 0.0) + now - self._last
        self._last = now


if __name__ == "__main__":
    main()
