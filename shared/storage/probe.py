"""What a storage allows, found out by doing it: all that is needed, an atomic create, one object of an item."""

from __future__ import annotations

import contextlib
import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from maskmill.shared.errors import KeyNotFound, MaskmillError, ObjectRefused, StorageRefused, StorageUnavailable
from maskmill.shared.storage.protocol import Storage

P = ParamSpec("P")
R = TypeVar("R")

PROBES = "probe/"
GOOD_SECONDS = 60
RACERS, ROUNDS = 16, 2
# Longer than a trial takes, and than hosts' clocks differ.
LEFTOVER_SECONDS = 3600


class Probe:
    """Puts, gets and deletes an object; a trial answers all who asked before it began, and a good one for a minute."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._alone = threading.Lock()
        self._began = float("-inf")
        self._problem: MaskmillError | None = None

    def __call__(self, *, fresh: bool) -> None:
        """Raise what the storage said, unless all went well; `fresh`: no trial that began before this call will do."""
        asked = time.monotonic()
        with self._alone:
            oldest = asked if fresh or self._problem else asked - GOOD_SECONDS
            if self._began < oldest:
                self._try()
            if self._problem:
                raise type(self._problem)(self._problem.reason) from self._problem

    def _try(self) -> None:
        self._began, self._problem = time.monotonic(), None
        key = _fresh_key()
        try:
            self._storage.put(key, b"probe")
            if self._storage.get(key) != b"probe":
                raise StorageUnavailable(f"what was put under {key} is not what is there")
            self._storage.delete(key)
        except KeyNotFound as error:
            self._problem = StorageUnavailable(error.reason)
        except MaskmillError as error:
            self._problem = error


def for_one_object(storage: Storage, call: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Call what reads or puts one object of an item in `storage`; ObjectRefused where it is that object alone.

    A refusal is put to the test at once: StorageRefused, or StorageUnavailable, where the storage refuses its probe
    too. Where it takes it, and refuses the object a second time, no waiting would help.
    """
    with contextlib.suppress(StorageRefused):
        return call(*args, **kwargs)
    storage.ping(fresh=True)
    try:
        return call(*args, **kwargs)
    except StorageRefused as error:
        raise ObjectRefused(f"{error.reason}; other objects may be read and stored there") from error


def probe_atomic_create(storage: Storage) -> bool:
    """Whether of writers that put an absent key at the same instant exactly one was told that it did."""
    return all(_winners(storage, _fresh_key()) == 1 for _ in range(ROUNDS))


def delete_old_probes(storage: Storage, now: float) -> None:
    """Delete what processes left that were killed during a trial."""
    for key in storage.list(PROBES):
        # What others put there, and has no time in its name, stays.
        with contextlib.suppress(ValueError):
            if int(key.removeprefix(PROBES).split("-")[0], 16) > now - LEFTOVER_SECONDS:
                return
            storage.delete(key)


def _fresh_key() -> str:
    # The time comes first, so that what is left of old trials comes first in a listing.
    return f"{PROBES}{int(time.time()):08x}-{uuid.uuid4().hex}"


def _winners(storage: Storage, key: str) -> int:
    start = threading.Barrier(RACERS)

    def put(number: int) -> bool:
        start.wait()
        return storage.put(key, b"%d" % number, if_absent=True)

    try:
        with ThreadPoolExecutor(RACERS) as racers:
            return sum(racers.map(put, range(RACERS)))
    finally:
        storage.delete(key)
