"""Composition roots: what the processes of a worker host hold, opened once after the fork."""

from __future__ import annotations

from dataclasses import dataclass

from maskmill.shared.doorbell import Doorbell
from maskmill.shared.egress.http import Egress
from maskmill.shared.ledger import Ledger
from maskmill.shared.settings import Settings
from maskmill.shared.storage import Storage, open_storage
from maskmill.worker.control.finalizer import Closer
from maskmill.worker.control.planner import Planner
from maskmill.worker.control.sweeper import Sweeper
from maskmill.worker.sources.fetch import Fetcher
from maskmill.worker.sources.pages import Expander


@dataclass(frozen=True)
class Services:
    """What every kind of worker needs."""

    settings: Settings
    storage: Storage
    ledger: Ledger
    doorbell: Doorbell
    fetcher: Fetcher


def open_services(settings: Settings) -> Services:
    """Open storage, ledger, doorbell and the way out; nothing is asked of them yet."""
    storage = open_storage(settings)
    ledger = Ledger(
        settings.redis_url,
        settings.redis_prefix,
        lease_seconds=settings.lease_seconds,
        window=settings.window_shards,
    )
    return Services(settings, storage, ledger, Doorbell(settings), Fetcher(settings, storage, Egress(settings)))


@dataclass(frozen=True)
class Control:
    """The control worker: plans and closes jobs."""

    planner: Planner
    closer: Closer


def open_control(settings: Settings) -> Control:
    """The control worker's composition root."""
    services = open_services(settings)
    expander = Expander(settings, services.storage, services.fetcher)
    planner = Planner(settings, services.storage, services.ledger, services.doorbell, expander)
    return Control(planner, Closer(settings, services.storage, services.ledger))


def open_sweeper(settings: Settings) -> Sweeper:
    """The sweeper's composition root."""
    services = open_services(settings)
    return Sweeper(settings, services.storage, services.ledger, services.doorbell)
