"""Outages are waited out: a service that is away pauses the work, it does not fail the items."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from shared.errors import LedgerUnavailable, StorageUnavailable, UrlTimeout, UrlUnreachable

P = ParamSpec("P")
R = TypeVar("R")

URL_TRIES = 3
LONGEST_PAUSE = 5.0

logger = logging.getLogger(__name__)


def patiently(call: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Call until storage and ledger answer; a URL that does not gets URL_TRIES tries."""
    tries = 0
    while True:
        tries += 1
        try:
            return call(*args, **kwargs)
        except (StorageUnavailable, LedgerUnavailable) as error:
            logger.warning("waiting: %s", error)
        except (UrlTimeout, UrlUnreachable):
            if tries >= URL_TRIES:
                raise
        time.sleep(min(0.2 * 2**tries, LONGEST_PAUSE))
