"""What every request needs: opened once a process, reached through the running application."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import cast

from flask import current_app

from maskmill.api.admission import Admission
from maskmill.api.probes import Probe
from maskmill.api.served_models import served_models
from maskmill.shared.buckets import Buckets
from maskmill.shared.doorbell import Doorbell
from maskmill.shared.egress.http import Egress
from maskmill.shared.jobs.records import Lane
from maskmill.shared.ledger import Ledger
from maskmill.shared.replies import InteractiveQueue
from maskmill.shared.settings import Settings
from maskmill.shared.storage import Storage, open_storage

EXTENSION = "maskmill"
# One body of the largest size, or several smaller ones.
LARGE_BODIES_BYTES = 64 << 20
LARGE_BODY_SECONDS = 5.0


@dataclass(frozen=True)
class Probes:
    """What readiness asks."""

    redis: Probe[None]
    storage: Probe[None]
    models: Probe[dict[str, dict[Lane, bool]]]
    troubles: Probe[dict[str, str]]


@dataclass(frozen=True)
class Services:
    """The connections of one API process, and what its threads share."""

    settings: Settings
    buckets: Buckets
    storage: Storage
    ledger: Ledger
    doorbell: Doorbell
    interactive: InteractiveQueue
    egress: Egress
    waiting_requests: Admission
    large_bodies: Admission
    probes: Probes

    @classmethod
    def open(cls, settings: Settings) -> Services:
        """Open every service of these settings; nothing is connected before its first use.

        Raises CannotStart where the file of buckets is wrong.
        """
        storage = open_storage(settings)
        ledger = Ledger(settings.redis_url, settings.redis_prefix, window=settings.window_shards)
        return cls(
            settings=settings,
            buckets=Buckets.of(settings),
            storage=storage,
            ledger=ledger,
            doorbell=Doorbell(settings),
            interactive=InteractiveQueue(settings, storage),
            egress=Egress(settings),
            # Half of the threads wait for replies at most, and a quarter for room: health and status always have some.
            waiting_requests=Admission(
                settings.api_threads // 2,
                f"{settings.api_threads // 2} requests wait for their replies already; try again in a few seconds",
            ),
            large_bodies=Admission(
                LARGE_BODIES_BYTES,
                "too many large request bodies are read at once; try again in a few seconds, or give URLs",
                waiters=settings.api_threads // 4,
                seconds=LARGE_BODY_SECONDS,
            ),
            probes=Probes(
                Probe(ledger.ping), Probe(storage.ping), Probe(partial(served_models, ledger)), Probe(ledger.troubles)
            ),
        )

    def close(self) -> None:
        """Close every connection."""
        self.ledger.disconnect()
        self.doorbell.close()
        self.interactive.close()
        self.egress.close()


def services() -> Services:
    """The services of the application that handles this request."""
    return cast(Services, current_app.extensions[EXTENSION])
