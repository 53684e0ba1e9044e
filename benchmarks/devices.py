"""`create_pipeline` on one device and on several, a process each: pictures a second against the devices' own rate.

Run `python -m benchmarks.devices MODEL FOLDER`. The devices are simulated, 20 ms a picture: they take none of the cores
that feed them. Results are drawn; TIMES times the folder, ROUNDS times in turn, after a first folder to warm up.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from benchmarks.machine import machine, spread
from maskmill import create_pipeline

DEVICE, RATE = "sim:20", 50
COUNTS = (1, 2, 4)
TIMES, ROUNDS = 4, 3


def main() -> None:
    """Print pictures a second for each number of devices."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("folder", type=Path)
    given = parser.parse_args()
    print(machine())
    files = sorted(given.folder.glob("*.jpg"))
    rates: dict[int, list[float]] = {count: [] for count in COUNTS}
    for _ in range(ROUNDS):
        for count in COUNTS:
            rates[count].append(_rate(count, given.model, files))
    for count, measured in rates.items():
        shares = [rate / (RATE * count) for rate in measured]
        print(f"{count} of {DEVICE}: {spread(measured)} pictures/s, {spread(shares, 3)} of {RATE * count}")


def _rate(count: int, model: Path, files: list[Path]) -> float:
    with create_pipeline(model=model, device=",".join([DEVICE] * count)) as pipeline:
        for _ in pipeline.predict(files):
            pass
        started = time.perf_counter()
        done = sum(1 for _ in pipeline.predict(files * TIMES))
        return done / (time.perf_counter() - started)


if __name__ == "__main__":
    main()
