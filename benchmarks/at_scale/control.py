"""The control worker but for Celery: hears the control queue's bells in as many threads, and does what is due.

Everything is as `worker.processes.wiring` makes it, on the made-up source and the slow storage.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from benchmarks.at_scale import source
from benchmarks.at_scale.bench import Bench
from benchmarks.at_scale.process import Begin, Report, Stopwatch
from benchmarks.at_scale.storage import SlowStorage
from maskmill.shared.connection import connect
from maskmill.shared.doorbell import CONTROL_QUEUE
from maskmill.shared.ledger import Work
from maskmill.worker.control.runner import InHand
from maskmill.worker.control.sweeper import Sweeper
from maskmill.worker.processes import wiring
from maskmill.worker.processes.celery_worker import CONTROL_THREADS

GLANCE_SECONDS = 0.05


def control(bench: Bench, storage: SlowStorage, draining: Callable[[], bool] = lambda: False) -> wiring.Control:
    """The control worker, its leases kept."""
    source.install()
    _store_in(storage)
    opened = wiring.open_control(bench.settings, draining)
    threading.Thread(target=wiring.keep_control, args=(opened, CONTROL_THREADS), daemon=True).start()
    return opened


def sweeper(bench: Bench, storage: SlowStorage) -> Sweeper:
    """The sweeper."""
    _store_in(storage)
    return wiring.open_sweeper(bench.settings)


def plan(bench: Bench, job_id: str, begin: Begin) -> Report:
    """Hear bells until the job is planned."""
    return _serve(bench, job_id, begin, ("queued", "planning"))


def serve(bench: Bench, job_id: str, begin: Begin) -> Report:
    """Hear bells until the last shard is committed; closing is left due."""
    return _serve(bench, job_id, begin, ("queued", "planning", "running"))


def _serve(bench: Bench, job_id: str, begin: Begin, states: tuple[str, ...]) -> Report:
    storage, ears = bench.storage(), Ears(bench)
    worker = control(bench, storage, ears.over.is_set)
    handlers = {**worker.runner.handlers, "close": LeftDue(ears.over)}
    runner = replace(worker.runner, handlers=handlers)
    worker = replace(worker, runner=runner)
    redis, job = connect(bench.settings.redis_url, text=True), f"{bench.settings.redis_prefix}:job:{job_id}"
    begin()
    watch, planned = Stopwatch(storage), 0.0
    ears.listen(runner.run)
    while (state := redis.hget(job, "state")) in states:
        planned = planned if state == "running" else watch.seconds
        time.sleep(GLANCE_SECONDS)
    report = watch.report(bells=ears.heard, planned=planned or watch.seconds)
    ears.close()
    return report


@dataclass(frozen=True)
class LeftDue:
    """The handler of "close" in a process that is to close nothing: another finds it due."""

    over: threading.Event

    def run(self, _work: Work, _in_hand: InHand) -> float | None:
        self.over.wait()
        return 0

    def give_up(self, _work: Work, _reason: str) -> float | None:
        return 0


@dataclass
class Ears:
    """Threads that call `hear` when a control bell rings, until `over`; `heard` counts the bells."""

    bench: Bench
    heard: int = 0
    over: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def listen(self, hear: Callable[[], None]) -> None:
        """Begin."""
        for _ in range(CONTROL_THREADS):
            self._threads.append(threading.Thread(target=self._listen, args=(hear,), daemon=True))
            self._threads[-1].start()

    def close(self) -> None:
        """End; what is in hand is seen through."""
        self.over.set()
        for thread in self._threads:
            thread.join()

    def _listen(self, hear: Callable[[], None]) -> None:
        redis = connect(self.bench.settings.redis_url, text=True)
        while not self.over.is_set():
            if redis.brpop([f"{self.bench.settings.redis_prefix}:{CONTROL_QUEUE}"], timeout=1):
                self.heard += 1
                hear()


def _store_in(storage: SlowStorage) -> None:
    """Make this process's services store there, whatever the settings say."""
    wiring.open_storage = lambda *_: storage  # type: ignore[attr-defined]
