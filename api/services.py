"""What every request needs: opened once a process, reached through the running application."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from flask import current_app

from maskmill.shared.doorbell import Doorbell
from maskmill.shared.egress.http import Egress
from maskmill.shared.ledger import Ledger
from maskmill.shared.replies import Replies
from maskmill.shared.settings import Settings
from maskmill.shared.storage import Storage, open_storage

EXTENSION = "maskmill"


@dataclass(frozen=True)
class Services:
    """The connections of one API process."""

    settings: Settings
    storage: Storage
    ledger: Ledger
    doorbell: Doorbell
    replies: Replies
    egress: Egress

    @classmethod
    def open(cls, settings: Settings) -> Services:
        """Open every service of these settings; nothing is connected before its first use."""
        return cls(
            settings=settings,
            storage=open_storage(settings),
            ledger=Ledger(settings.redis_url, settings.redis_prefix),
            doorbell=Doorbell(settings),
            replies=Replies(
                settings.redis_url,
                settings.redis_prefix,
                bound=settings.interactive_queue,
                keep_seconds=settings.interactive_timeout,
            ),
            egress=Egress(settings),
        )

    def close(self) -> None:
        """Close every connection."""
        self.ledger.disconnect()
        self.doorbell.close()
        self.replies.close()
        self.egress.close()


def services() -> Services:
    """The services of the application that handles this request."""
    return cast(Services, current_app.extensions[EXTENSION])
