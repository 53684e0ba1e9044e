"""What every request needs: opened once a process, reached through the running application."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import cast

from flask import current_app

from maskmill.api.admission import Admission
from maskmill.api.known_outputs import KnownOutputs
from maskmill.api.probes import Probe
from maskmill.api.served_models import served_models
from maskmill.api.tenants import tenant_of_request
from maskmill.shared.buckets import Buckets
from maskmill.shared.doorbell import Doorbell
from maskmill.shared.egress.http import Egress
from maskmill.shared.jobs.records import Lane
from maskmill.shared.ledger import Ledger
from maskmill.shared.replies import InteractiveQueue
from maskmill.shared.settings import Settings
from maskmill.shared.storage import Storage, open_storage, probe_atomic_create
from maskmill.shared.storage.outputs import Outputs

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
    atomic: Probe[bool]


@dataclass(frozen=True)
class Services:
    """The connections of one API process, and what its threads share; `tenant` tells whose request is in hand."""

    settings: Settings
    buckets: Buckets
    outputs: Outputs
    storage: Storage
    ledger: Ledger
    doorbell: Doorbell
    interactive: InteractiveQueue
    egress: Egress
    waiting_requests: Admission
    large_bodies: Admission
    probes: Probes
    output_of: KnownOutputs
    tenant: Callable[[], str] = tenant_of_request

    @classmethod
    def open(cls, settings: Settings) -> Services:
        """Open every service of these settings; nothing is connected before its first use.

        Raises CannotStart where the file of buckets is wrong.
        """
        storage, buckets = open_storage(settings), Buckets.of(settings)
        ledger = Ledger(settings.redis_url, settings.redis_prefix, window=settings.window_shards)
        return cls(
            settings=settings,
            buckets=buckets,
            outputs=Outputs(buckets),
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
                redis=Probe(ledger.ping),
                storage=Probe(storage.ping),
                models=Probe(partial(served_models, ledger)),
                troubles=Probe(ledger.troubles),
                # What a store can do is found out once.
                atomic=Probe(cache(partial(probe_atomic_create, storage))),
            ),
            output_of=KnownOutputs(storage),
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
