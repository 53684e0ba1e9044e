"""Composition roots: what the processes of a worker host hold, opened once after the fork."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from maskmill.shared.buckets import Buckets
from maskmill.shared.doorbell import CONTROL_QUEUE, LISTEN_SECONDS, Doorbell
from maskmill.shared.egress.http import Egress
from maskmill.shared.errors import LedgerUnavailable
from maskmill.shared.ledger import Ledger
from maskmill.shared.settings import Settings
from maskmill.shared.storage import Storage, open_storage, probe_atomic_create
from maskmill.shared.storage.bucket_reader import BucketReaders
from maskmill.shared.storage.outputs import Outputs
from maskmill.worker.control.deleter import Deleter
from maskmill.worker.control.finalizer import Finalizer, RollupMaker
from maskmill.worker.control.planner import Planner
from maskmill.worker.control.runner import Handler, WorkRunner
from maskmill.worker.control.sweeper import Sweeper
from maskmill.worker.retry import Said
from maskmill.worker.sources.fetch import Fetcher

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class WorkerServices:
    """What every kind of worker needs."""

    settings: Settings
    storage: Storage
    outputs: Outputs
    ledger: Ledger
    doorbell: Doorbell
    fetcher: Fetcher


def open_services(settings: Settings) -> WorkerServices:
    """Open storage, ledger, doorbell and the way out; nothing is asked of them yet."""
    storage = open_storage(settings)
    ledger = Ledger(
        settings.redis_url,
        settings.redis_prefix,
        lease_seconds=settings.lease_seconds,
        window=settings.window_shards,
    )
    fetcher = Fetcher(settings, storage, Egress(settings))
    return WorkerServices(settings, storage, Outputs(Buckets.of(settings)), ledger, Doorbell(settings), fetcher)


@dataclass(frozen=True)
class Control:
    """The control worker: does what is due for jobs beside their shards."""

    owner: str
    ledger: Ledger
    doorbell: Doorbell
    runner: WorkRunner


def open_control(settings: Settings, draining: Callable[[], bool]) -> Control:
    """The control worker's composition root."""
    at = open_services(settings)
    # Tried once, when the first roll-up is made.
    rollups = RollupMaker(at.storage, at.ledger, cache(lambda: not probe_atomic_create(at.storage)))
    handlers: dict[str, Handler] = {
        "plan": Planner(settings, at.storage, at.ledger, at.doorbell, BucketReaders(settings)),
        "rollup": rollups,
        "close": Finalizer(settings, at.storage, at.ledger, rollups, at.outputs),
        "delete": Deleter(settings, at.storage, at.ledger, at.outputs),
    }
    owner = f"{settings.host_name}/control/{os.getpid()}"
    return Control(owner, at.ledger, at.doorbell, WorkRunner(at.ledger, handlers, draining))


def open_sweeper(settings: Settings) -> Sweeper:
    """The sweeper's composition root."""
    at = open_services(settings)
    return Sweeper(settings, at.storage, at.ledger, at.doorbell)


def keep_control(control: Control, threads: int) -> None:
    """Keep the leases of what a control worker has in hand, and say that it hears; for a thread of its own."""
    pause, said = min(control.ledger.lease_seconds / 4, LISTEN_SECONDS / 4), Said()
    while True:
        try:
            control.runner.keep()
            control.doorbell.listen(CONTROL_QUEUE, control.owner, threads)
        except LedgerUnavailable as error:
            if said.is_news(error):
                logger.warning("leases of control work not renewed: %s", error)
        except Exception:
            # Without this thread, another would take over what this process is still doing.
            logger.exception("leases of control work not renewed")
        time.sleep(pause)
