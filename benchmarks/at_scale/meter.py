"""What Redis was asked and holds."""

from __future__ import annotations

import threading
from collections import Counter
from typing import Any, Self

from maskmill.shared.connection import connect
from maskmill.shared.settings import Settings

# What the measuring itself asks.
OWN = frozenset({"info", "memory", "ping"})


class Meter:
    """Reads one Redis; what it asks itself is not counted."""

    def __init__(self, settings: Settings) -> None:
        self._redis = connect(settings.redis_url, text=True)
        self._prefix = settings.redis_prefix
        self._lengths = 0
        self._start = self._commands()
        self._empty = self.used()

    def commands(self) -> Counter[str]:
        """Commands since this was made, by name: also those that scripts ran."""
        return self._commands() - self._start

    def above(self) -> int:
        """Bytes in use above those at the beginning."""
        return self.used() - self._empty

    def used(self) -> int:
        """Bytes in use."""
        return int(self._info("memory")["used_memory"])

    def waiting(self, queue: str) -> tuple[int, int]:
        """How many messages wait in the broker's list, and the bytes that it takes."""
        self._lengths += 1
        key = f"{self._prefix}:{queue}"
        size = self._redis.memory_usage(key, samples=0)
        return self._redis.llen(key), size or 0

    def _commands(self) -> Counter[str]:
        stats = self._info("commandstats")
        counted = Counter({name.removeprefix("cmdstat_"): int(fields["calls"]) for name, fields in stats.items()})
        counted["llen"] -= self._lengths
        return Counter({name: calls for name, calls in counted.items() if name not in OWN})

    def _info(self, section: str) -> dict[str, Any]:
        return self._redis.info(section)


class Peak:
    """The most bytes that Redis had in use above the beginning, read ten times a second."""

    def __init__(self, meter: Meter) -> None:
        self.most = 0
        self._meter = meter
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while True:
            self.most = max(self.most, self._meter.above())
            if self._over.wait(0.1):
                return
