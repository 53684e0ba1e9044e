"""What every request needs: opened once a process, reached through the running application."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from flask import current_app

from maskmill.api.admission import Admission
from maskmill.shared.doorbell import Doorbell
from maskmill.shared.egress.http import Egress
from maskmill.shared.ledger import Ledger
from maskmill.shared.replies import InteractiveQueue
from maskmill.shared.settings import Settings
from maskmill.shared.storage import Storage, open_storage

EXTENSION = "maskmill"
# One body of the largest size, or several smaller ones.
LARGE_BODIES_BYTES = 64 << 20
LARGE_BODY_SECONDS = 5.0


@dataclass(frozen=True)
class Services:
    """The connections of one API process, and what its threads share."""

    settings: Settings
    storage: Storage
    ledger: Ledger
    doorbell: Doorbell
    interactive: InteractiveQueue
    egress: Egress
    waiting_requests: Admission
    large_bodies: Admission

    @classmethod
    def open(cls, settings: Settings) -> Services:
        """Open every service of these settings; nothing is connected before its first use."""
        storage = open_storage(settings)
        return cls(
            settings=settings,
            storage=storage,
            ledger=Ledger(settings.redis_url, settings.redis_prefix),
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
