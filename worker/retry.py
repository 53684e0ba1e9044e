"""Outages are waited out: a service that is away pauses the work, it does not fail the items."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from maskmill.shared.errors import LedgerUnavailable, StorageRefused, StorageUnavailable, UrlTimeout, UrlUnreachable

P = ParamSpec("P")
R = TypeVar("R")

URL_TRIES = 3
LONGEST_PAUSE = 5.0

logger = logging.getLogger(__name__)
_waiting: set[int] = set()


def patiently(call: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Call until storage and ledger answer; a URL that does not gets URL_TRIES tries.

    A store that refuses is waited for as well: without it no outcome could be kept, and its keys may be mended.
    """
    tries = 0
    while True:
        tries += 1
        try:
            return call(*args, **kwargs)
        except (StorageUnavailable, StorageRefused, LedgerUnavailable) as error:
            logger.warning("waiting: %s", error)
        except (UrlTimeout, UrlUnreachable):
            if tries >= URL_TRIES:
                raise
        _wait(min(0.2 * 2 ** min(tries, 10), LONGEST_PAUSE))


def outage() -> bool:
    """Whether a thread of this process waits for a service: then standing still is no fault of the process."""
    return bool(_waiting)


def trouble() -> str:
    """What a service of this process refuses, or nothing."""
    return ""


def _wait(seconds: float) -> None:
    _waiting.add(threading.get_ident())
    time.sleep(seconds)
    _waiting.discard(threading.get_ident())
