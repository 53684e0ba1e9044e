"""How planning, committing, closing and sweeping behave at the size of a million inputs.

Run `python -m benchmarks.scale`, or one part of it with `--part`. Nothing is segmented: a made-up source lists the
inputs, workers have every outcome at once (1 % fail), and a storage in a folder takes a fixed time a call. Redis is a
real one. The planner, the workers, the closer and the client that lists failed items have a process each.

plan    planning alone with no workers: at 0 ms a storage call for each of two sizes, then slow
kills   planning, slow, by planners that are killed -9 one after the other, against planning in one go
run     planning, claiming and committing at once with the window of the settings, then closing, then listing the failed
        items page by page; at 0 ms and slow
close   closing and listing alone, slow, after a run at 0 ms
bucket  planning a bucket behind S3's own protocol at 0 ms a call and slow, while an API answers and takes further jobs
sweep   sweeps over 1000 open jobs
folder  a real folder, listed as the planner lists it

A run over fewer items than a million says what its figures make for a million in proportion; that is a calculation.
"""

from __future__ import annotations

import argparse
import contextlib
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.at_scale.bench import MODEL, Bench, surroundings
from benchmarks.at_scale.clients import Clients
from benchmarks.at_scale.control import sweeper
from benchmarks.at_scale.figures import Figures
from benchmarks.at_scale.folder import make
from benchmarks.at_scale.killing import Plan, plan_with_kills
from benchmarks.at_scale.made_up_bucket import BUCKET, made_up_bucket
from benchmarks.at_scale.meter import Meter, Peak
from benchmarks.at_scale.process import Report, Role, alone
from benchmarks.at_scale.sweeping import OpenState, open_jobs
from benchmarks.machine import machine
from maskmill.shared.doorbell import CONTROL_QUEUE, queue_name
from maskmill.shared.jobs.records import Job
from maskmill.shared.jobs.sources import S3Source
from tests.services.api_server import run_api

BULK_QUEUE = queue_name("bulk", MODEL)
OPEN_JOBS = 1000
STATES: tuple[OpenState, ...] = ("queued", "running", "leased")
KILLS, KILLED_KEYS = 20, 200_000


@dataclass(frozen=True)
class Sizes:
    """Items of the runs at 0 ms a call, items of the slow ones, and their seconds a call."""

    fast: int
    slow: int
    seconds: float

    def runs(self) -> list[tuple[int, float]]:
        """(items, seconds a call) of a run at each speed."""
        return [(self.fast, 0), (self.slow, self.seconds)]


def main() -> None:
    """Measure the parts asked for and print them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keys", type=int, default=500_000, help="inputs of the runs at 0 ms a storage call")
    parser.add_argument("--slow-keys", type=int, default=20_000, help="inputs of the slow runs")
    parser.add_argument("--latency-ms", type=float, default=20, help="of a storage call in the slow runs")
    parser.add_argument("--part", action="append", choices=PARTS, help="may be given several times [default: all]")
    given = parser.parse_args()
    print(machine())
    for part in given.part or PARTS:
        PARTS[part](Sizes(given.keys, given.slow_keys, given.latency_ms / 1000))


def plan(sizes: Sizes) -> None:
    """Planning alone."""
    for count, seconds in ((sizes.fast // 10, 0.0), *sizes.runs()):
        with surroundings(seconds) as bench:
            _plan(bench, bench.accept(count), count, f"planning alone, {count:,} items, {_speed(seconds)}")


def _plan(bench: Bench, job: Job, count: int, title: str) -> None:
    meter = Meter(bench.settings)
    planner = Role("control", "plan", bench, job.id)
    bench.ring()
    planner.go()
    report = planner.report()
    figures = Figures(title, count)
    figures.rate("planning", report.seconds)
    figures.role("planning", report)
    _redis(figures, meter)


def kills(sizes: Sizes) -> None:
    """Planning with planners that die, and what differs from planning with one that does not: nothing."""
    plans = []
    print(f"\n## planning {KILLED_KEYS:,} items with and without kills, {_speed(sizes.seconds)}\n")
    for times in (0, KILLS):
        with surroundings(sizes.seconds, lease_seconds=1) as bench:
            job, started = bench.accept(KILLED_KEYS), time.monotonic()
            between = plan_with_kills(bench, job.id, KILLED_KEYS, times)
            taken = time.monotonic() - started
            plans.append(Plan.read(bench.at(0), job.id))
        print(f"{times:2} kills, {between:2} behind a page that was not counted {taken:8.1f} s  {plans[-1]}")
    print("the same plan" if plans[0] == plans[1] else "NOT the same plan")


def run(sizes: Sizes) -> None:
    """Planning, claiming, committing and closing."""
    for count, seconds in sizes.runs():
        with surroundings(seconds) as bench:
            _run(bench, count, f"from submission to report, {count:,} items, {_speed(seconds)}")


def _run(bench: Bench, count: int, title: str) -> None:
    meter = Meter(bench.settings)
    job, (planner, workers) = _begun(bench, count)
    with Peak(meter) as peak:
        started = time.monotonic()
        workers.go()
        planner.go()
        planned, worked = planner.report(), workers.report()
    seconds = worked.ended - started
    figures = Figures(title, count)
    figures.rate("planning", planned.facts["planned"])
    figures.rate("until the last shard is committed", seconds)
    figures.role("planner", planned)
    figures.growing("planner, control bells heard", planned.facts["bells"])
    figures.role("workers", worked)
    figures.growing("workers, claims that found nothing", worked.facts["in_vain"])
    _redis(figures, meter)
    figures.plain("Redis at its peak, bytes above empty", peak.most)
    closed = alone("ending", "close", bench, job.id)
    figures.rate("end to end, closing included", seconds + closed.seconds)
    _closed(figures, closed)
    _listed(figures, alone("ending", "list_failed", bench, job.id))


def close(sizes: Sizes) -> None:
    """Closing a job, and listing what failed of it, slow; the job is made without waiting for storage."""
    with surroundings() as bench:
        job, (planner, workers) = _begun(bench, sizes.slow)
        for role in (planner, workers):
            role.go()
        for role in (planner, workers):
            role.report()
        title = f"closing and listing what failed, {sizes.slow:,} items, {_speed(sizes.seconds)}"
        figures, meter = Figures(title, sizes.slow), Meter(bench.settings)
        _closed(figures, alone("ending", "close", bench.at(sizes.seconds), job.id))
        figures.plain("closing, Redis commands", meter.commands().total())
        _listed(figures, alone("ending", "list_failed", bench.at(sizes.seconds), job.id))


def _begun(bench: Bench, count: int) -> tuple[Job, tuple[Role, Role]]:
    """A job whose bell is rung, and the planner and the workers that are ready to go."""
    job = bench.accept(count)
    planner, workers = Role("control", "serve", bench, job.id), Role("workers", "work", bench, job.id)
    bench.ring()
    return job, (planner, workers)


def _closed(figures: Figures, report: Report) -> None:
    figures.rate("closing", report.seconds)
    figures.role("closing", report)


def _listed(figures: Figures, report: Report) -> None:
    figures.growing("listing failed, found", report.facts["found"])
    figures.growing("listing failed, pages", report.facts["pages"])
    figures.growing("listing failed, pages without an item", report.facts["empty"])
    figures.rate("listing failed", report.seconds)
    figures.role("listing failed", report)


def bucket(sizes: Sizes) -> None:
    """Planning a made-up bucket by way of HTTP and boto3; then with planners that die."""
    for count, seconds in sizes.runs():
        with bucket_surroundings(seconds) as bench, run_api(bench.settings, bench.folder.parent) as server:
            title = f"planning a bucket of {count:,} keys, {_speed(seconds)} and a request of the bucket"
            with Clients(server.url, bucket_source(1), bench.ledger()) as clients:
                _plan(bench, bench.accept_source(bucket_source(count)), count, title)
            clients.tell()
    count = min(KILLED_KEYS, sizes.slow)
    plans = []
    for times in (0, KILLS):
        with bucket_surroundings(sizes.seconds, lease_seconds=1) as bench:
            job = bench.accept_source(bucket_source(count))
            plan_with_kills(bench, job.id, count, times)
            plans.append(Plan.read(bench.at(0), job.id))
        print(f"{times:2} kills while {count:,} keys are planned: {plans[-1]}")
    print("the same plan" if plans[0] == plans[1] else "NOT the same plan")


@contextlib.contextmanager
def bucket_surroundings(seconds: float, **more: object) -> Iterator[Bench]:
    """Surroundings whose settings may read the made-up bucket."""
    with tempfile.TemporaryDirectory(prefix="scale-") as name, made_up_bucket(seconds) as endpoint:
        (Path(name) / "buckets.toml").write_text(f"[{BUCKET}]\n")
        given = {"buckets": f"{name}/buckets.toml", "s3_endpoint": endpoint, "s3_access_key": "a", "s3_secret_key": "b"}
        with surroundings(seconds, **given, **more) as bench:
            yield bench


def bucket_source(count: int) -> S3Source:
    """So many keys of the made-up bucket."""
    return S3Source(url=f"s3://{BUCKET}/{count}/")


def sweep(sizes: Sizes) -> None:
    """Sweeps over many open jobs, each state alone; the second sweep finds the bells of the first unheard."""
    for state in STATES:
        with surroundings(sizes.seconds, lease_seconds=3600) as bench:
            open_jobs(bench.at(0), OPEN_JOBS, state)
            storage = bench.storage()
            sweeps, meter = sweeper(bench, storage), Meter(bench.settings)
            print(f"\n## sweeping {OPEN_JOBS} jobs that are {state}, {_speed(sizes.seconds)}\n")
            for name, step in (("sweep", sweeps.sweep), ("sweep again", sweeps.sweep), ("recover", sweeps.recover)):
                before, calls, started = meter.commands(), storage.calls.copy(), time.monotonic()
                step()
                taken = time.monotonic() - started
                commands, asked = meter.commands() - before, storage.calls - calls
                shown = ", ".join(f"{word} {number}" for word, number in commands.most_common(6))
                print(f"{name:14}{taken:8.2f} s{commands.total():10,} Redis commands ({shown}); storage {dict(asked)}")
            print(f"bells left: {meter.waiting(CONTROL_QUEUE)[0]} control, {meter.waiting(BULK_QUEUE)[0]} bulk")


def folder(sizes: Sizes) -> None:
    """Listing a folder of a fifth as many files."""
    count = sizes.fast // 5
    with surroundings() as bench:
        make(bench.folder / "pictures", count)
        report = alone("folder", "list_folder", bench, "")
    figures = Figures(f"listing a folder of {count:,} files", count)
    figures.rate("listing", report.seconds)
    figures.growing("listing, s until the first file", report.facts["first"], 2)
    figures.growing("going on from the middle, s until the next file", report.facts["resumed"], 2)
    figures.growing("listing, MB above those at its beginning", report.peak - report.resident)


def _redis(figures: Figures, meter: Meter) -> None:
    """What was asked of Redis, and what it holds now."""
    figures.commands("Redis commands, those in scripts included", meter.commands())
    figures.growing("Redis at the end, bytes above empty", meter.above())
    for name, queue in (("bulk", BULK_QUEUE), ("control", CONTROL_QUEUE)):
        number, size = meter.waiting(queue)
        figures.growing(f"{name} bells that nobody hears", number)
        figures.growing(f"{name} bells that nobody hears, bytes", size)


def _speed(seconds: float) -> str:
    return f"{seconds * 1000:g} ms a storage call"


PARTS = {
    "plan": plan,
    "kills": kills,
    "run": run,
    "close": close,
    "bucket": bucket,
    "sweep": sweep,
    "folder": folder,
}

if __name__ == "__main__":
    main()
