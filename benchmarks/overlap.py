"""How much of the device's rate is left with everything around it: the whole queue, artifacts stored in a folder.

Run `python -m benchmarks.overlap`. First a simulated device of 20 ms a picture: pictures a second through Redis, Celery
and claims, from the first claim to the last outcome stored, against the 50 that the device can do; then faster devices,
to show where one worker process ends. Then the real model on the CPU, against a bare loop of decode, prepare, run and
finish in one process, which stores nothing; the two take turns. A turn during which other processes took more than 5 %
of the machine is taken again.
"""

from __future__ import annotations

import statistics
from pathlib import Path

from benchmarks.loop import bare_loop
from benchmarks.machine import busy, machine, spread
from benchmarks.pictures import folders
from benchmarks.processor import undisturbed
from benchmarks.recorded import NAME, record
from benchmarks.stack import Round, run_stack
from maskmill.shared.jobs.keys import DEFAULT_TENANT

MODEL = "yolo11n-seg"
# Of a picture on the device; the shortest shows what one worker process can do at all on these cores.
MILLISECONDS = (20, 10, 1)
SIMULATED_TIMES, SIMULATED_ROUNDS = 5, 5
REAL_TIMES, REAL_ROUNDS = 2, 5


def main() -> None:
    """Measure both and print them."""
    print(machine())
    for milliseconds in MILLISECONDS:
        simulated(milliseconds)
    real()


def simulated(milliseconds: int) -> None:
    """The simulated device against its own rate."""
    limit = 1000 / milliseconds
    with folders(SIMULATED_TIMES) as (models, pictures):
        record(MODEL, models)
        with run_stack(NAME, [(f"sim:{milliseconds}", "bulk")], local_roots=(pictures,), models_dir=models) as stack:
            stack.measure(pictures, NAME)
            print(f"\nsimulated device of {milliseconds} ms a picture", flush=True)
            measured = [undisturbed(lambda: stack.measure(pictures, NAME)) for _ in range(SIMULATED_ROUNDS)]
            outcomes = stack.workers.outcomes(stack.workers.ledger.jobs(DEFAULT_TENANT)[0][0].id)
    instances = statistics.mean(outcome.instances or 0 for outcome in outcomes)
    rounds, others = [one for one, _ in measured], [share for _, share in measured]
    rates = [one.rate for one in rounds]
    print(f"{len(outcomes)} pictures a job, {instances:.1f} instances a picture, JSON and JPEG stored; {busy(others)}")
    print(f"queue     {spread(rates)} pictures/s of {limit:g}: {spread([rate / limit for rate in rates], 3)}")
    _print_cpu(rounds)


def real() -> None:
    """The real model through the queue against the bare loop, in turn."""
    turns: list[tuple[float, Round, float]] = []
    with folders(REAL_TIMES) as (_, pictures):
        count = len(list(pictures.iterdir()))
        print(f"\n{MODEL} on the CPU, {count} pictures a turn, pictures/s", flush=True)
        for _ in range(REAL_ROUNDS):
            loop, beside_loop = undisturbed(lambda: bare_loop(MODEL, pictures))
            queue, beside_queue = _queue(pictures)
            default, beside_default = undisturbed(lambda: bare_loop(MODEL, pictures, "default"))
            turns.append((loop, queue, default))
            shares = busy([beside_loop, beside_queue, beside_default])
            print(f"  loop {loop:.1f}, queue {queue.rate:.1f}, loop as it comes {default:.1f}; {shares}", flush=True)
    loops, queues, defaults = zip(*turns, strict=True)
    rates = [queue.rate for queue in queues]
    print(f"bare loop, session as in workers        {spread(loops)}")
    print(f"bare loop, onnxruntime's default threads {spread(defaults)}")
    print(f"queue, JSON and JPEG stored             {spread(rates)}")
    for name, limits in (("the workers' session", loops), ("the default threads", defaults)):
        ratios = [rate / limit for rate, limit in zip(rates, limits, strict=True)]
        print(f"queue / bare loop with {name}: {spread(ratios, 3)}")
    _print_cpu(list(queues))


def _queue(pictures: Path) -> tuple[Round, float]:
    with run_stack(MODEL, [("cpu", "bulk")], local_roots=(pictures,)) as stack:
        stack.measure(pictures, MODEL)
        return undisturbed(lambda: stack.measure(pictures, MODEL))


def _print_cpu(rounds: list[Round]) -> None:
    for name in rounds[-1].cpu:
        print(f"  CPU of {name:24}{spread([one.cpu.get(name, 0) for one in rounds])} ms a picture")


if __name__ == "__main__":
    main()
