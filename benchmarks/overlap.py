"""How much of the device's rate is left with everything around it: the whole queue, artifacts stored in a folder.

Run `python -m benchmarks.overlap`. First a simulated device of 20 ms a picture: pictures a second through Redis, Celery
and claims, from the first claim to the last outcome stored, against the 50 that the device can do. Then the real model
on the CPU, against a bare loop of decode, prepare, run and finish in one process, which stores nothing; loop and queue
take turns, since other work on the machine slows one as the other.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.loop import bare_loop
from benchmarks.machine import load, machine, spread
from benchmarks.pictures import picture_files, repeat
from benchmarks.processor import cpu_seconds
from benchmarks.recorded import NAME, record
from benchmarks.stack import Stack, run_stack
from shared.jobs import Options

MODEL = "yolo11n-seg"
MILLISECONDS = 20
SIMULATED_TIMES, SIMULATED_ROUNDS = 5, 5
REAL_TIMES, REAL_ROUNDS = 2, 5


@dataclass(frozen=True)
class Round:
    """One job: pictures a second, and CPU milliseconds a picture by process."""

    rate: float
    cpu: dict[str, float]


def main() -> None:
    """Measure both and print them."""
    print(machine())
    simulated()
    real()


def simulated() -> None:
    """The simulated device against its own rate."""
    limit = 1000 / MILLISECONDS
    with _folders(SIMULATED_TIMES) as (models, pictures):
        record(MODEL, models)
        with run_stack(NAME, [(f"sim:{MILLISECONDS}", "bulk")], local_roots=(pictures,), models_dir=models) as stack:
            _run(stack, pictures, NAME)
            print(f"\nsimulated device of {MILLISECONDS} ms a picture; {load()}")
            rounds = [_run(stack, pictures, NAME) for _ in range(SIMULATED_ROUNDS)]
            outcomes = stack.workers.outcomes(stack.workers.ledger.jobs()[0].id)
    instances = statistics.mean(outcome.instances or 0 for outcome in outcomes)
    rates = [one.rate for one in rounds]
    print(f"{len(outcomes)} pictures a job, {instances:.1f} instances a picture, JSON and JPEG stored; {load()}")
    print(f"queue     {spread(rates)} pictures/s of {limit:g}: {spread([rate / limit for rate in rates], 3)}")
    _print_cpu(rounds)


def real() -> None:
    """The real model through the queue against the bare loop, in turn."""
    loops, defaults, rounds, ratios = [], [], [], []
    with _folders(REAL_TIMES) as (_, pictures):
        count = len(list(pictures.iterdir()))
        print(f"\n{MODEL} on the CPU, {count} pictures a turn; {load()}")
        loops.append(bare_loop(MODEL, pictures))
        for _ in range(REAL_ROUNDS):
            rounds.append(_queue(pictures))
            loops.append(bare_loop(MODEL, pictures))
            defaults.append(bare_loop(MODEL, pictures, "default"))
            ratios.append(rounds[-1].rate / statistics.mean(loops[-2:]))
            before, after, plain = loops[-2], loops[-1], defaults[-1]
            turn = f"loop {before:.1f}, queue {rounds[-1].rate:.1f}, loop {after:.1f}, default session {plain:.1f}"
            print(f"  {turn}: {ratios[-1]:.3f}; {load()}", flush=True)
    print(f"bare loop {spread(loops)} pictures/s; with onnxruntime's default threads {spread(defaults)}")
    print(f"queue     {spread([one.rate for one in rounds])} pictures/s: {spread(ratios, 3)} of the loops beside it")
    _print_cpu(rounds)


def _queue(pictures: Path) -> Round:
    with run_stack(MODEL, [("cpu", "bulk")], local_roots=(pictures,)) as stack:
        _run(stack, pictures, MODEL)
        return _run(stack, pictures, MODEL)


@contextmanager
def _folders(times: int) -> Iterator[tuple[Path, Path]]:
    """A folder for models, and one of val79's pictures, each `times` times."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        models, pictures = Path(name) / "models", Path(name) / "pictures"
        models.mkdir()
        pictures.mkdir()
        repeat(picture_files(), times, pictures)
        yield models, pictures


def _run(stack: Stack, pictures: Path, model: str) -> Round:
    before = cpu_seconds()
    status = stack.wait(stack.submit(pictures, Options(model=model)))
    count, seconds = status.counts.done, stack.seconds(status)
    spent = {name: (now - before.get(name, 0)) * 1e3 / count for name, now in cpu_seconds().items()}
    return Round(count / seconds, spent)


def _print_cpu(rounds: list[Round]) -> None:
    for name in rounds[-1].cpu:
        print(f"  CPU of {name:24}{spread([one.cpu.get(name, 0) for one in rounds])} ms a picture")


if __name__ == "__main__":
    main()
