"""The control worker but for Celery: hears the control queue's bells in as many threads, and plans.

This is the file to change where planning comes to take another form.
"""

from __future__ import annotations

import base64
import json
import threading
import time
from collections import Counter
from collections.abc import Callable

from benchmarks.at_scale import source
from benchmarks.at_scale.bench import Bench
from benchmarks.at_scale.process import Begin, Report, Stopwatch
from benchmarks.at_scale.storage import SlowStorage
from maskmill.shared.connection import connect
from maskmill.shared.doorbell import CONTROL_QUEUE, PLAN, Doorbell
from maskmill.worker.control.planner import Planner
from maskmill.worker.processes.celery_worker import CONTROL_THREADS
from maskmill.worker.sources.pages import Expander

GLANCE_SECONDS = 0.05


def planner(bench: Bench, storage: SlowStorage) -> Planner:
    """The planner as `worker.runtime.open_control` makes it, on the made-up source and the slow storage."""
    source.install()
    expander = Expander(bench.settings, storage, source.MadeUpBytes(bench.head_seconds))
    return Planner(bench.settings, storage, bench.ledger(), Doorbell(bench.settings), expander)


def plan(bench: Bench, job_id: str, begin: Begin) -> Report:
    """Hear bells until the job is planned; the close bell is left unheard."""
    storage = bench.storage()
    tasks: dict[str, Callable[[str], None]] = {PLAN: planner(bench, storage).plan}
    heard: Counter[str] = Counter()
    over = threading.Event()
    ears = [
        threading.Thread(target=_listen, args=(bench, tasks, heard, over), daemon=True) for _ in range(CONTROL_THREADS)
    ]
    redis, job = connect(bench.settings.redis_url, text=True), f"{bench.settings.redis_prefix}:job:{job_id}"
    begin()
    watch = Stopwatch(storage)
    for ear in ears:
        ear.start()
    while redis.hget(job, "state") in ("queued", "planning"):
        time.sleep(GLANCE_SECONDS)
    report = watch.report(bells=heard[PLAN])
    over.set()
    return report


def _listen(bench: Bench, tasks: dict[str, Callable[[str], None]], heard: Counter[str], over: threading.Event) -> None:
    redis = connect(bench.settings.redis_url, text=True)
    while not over.is_set():
        found = redis.brpop([f"{bench.settings.redis_prefix}:{CONTROL_QUEUE}"], timeout=1)
        if not found:
            continue
        message = json.loads(found[1])
        task = message["headers"]["task"]
        heard[task] += 1
        if task in tasks:
            tasks[task](*json.loads(base64.b64decode(message["body"]))[0])
