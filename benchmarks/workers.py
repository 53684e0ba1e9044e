"""How many workers of one simulated device each keep busy together: 1, 2, 4, ... through the whole queue.

Run `python -m benchmarks.workers`. A device takes 50 ms a picture and none of the cores; the efficiency is what a job
does a second, from the first claim to the last outcome stored, against the 20 pictures that each device can. The CPU
that a picture costs says how many workers these cores suffice for.
"""

from __future__ import annotations

import argparse

from benchmarks.machine import machine, spread
from benchmarks.pictures import folders
from benchmarks.recorded import NAME, record
from benchmarks.stack import Round, run_stack

MODEL, MILLISECONDS = "yolo11n-seg", 50
COUNTS = (1, 2, 4, 8, 16)


def main() -> None:
    """Print each number of workers with its efficiency."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, nargs="+", default=COUNTS)
    parser.add_argument("--times", type=int, default=5, help="how often a job has each of the pictures")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    print(machine())
    with folders(given.times) as (models, pictures):
        record(MODEL, models)
        for count in given.workers:
            lanes = [(f"sim:{MILLISECONDS}", "bulk")] * count
            with run_stack(NAME, lanes, local_roots=(pictures,), models_dir=models) as stack:
                stack.measure(pictures, NAME)
                _print(count, [stack.measure(pictures, NAME) for _ in range(given.rounds)])


def _print(count: int, rounds: list[Round]) -> None:
    limit = count * 1000 / MILLISECONDS
    cpu = ", ".join(f"{name} {spread([one.cpu.get(name, 0) for one in rounds])}" for name in rounds[-1].cpu)
    rates, shares = [one.rate for one in rounds], [one.rate / limit for one in rounds]
    print(f"{count:2} workers: {spread(rates)} pictures/s, {spread(shares, 3)} of {limit:g}", flush=True)
    print(f"   CPU, ms a picture: {cpu}", flush=True)


if __name__ == "__main__":
    main()
