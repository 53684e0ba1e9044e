"""How a move of the ledger is made: one Lua script beside this file, run whole by Redis."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from redis import Redis
from redis.commands.core import Script

from maskmill.shared.connection import connect, reachable

HERE = Path(__file__).parent
SHARED = HERE / "_shared.lua"
SCRIPTS = sorted(path.stem for path in HERE.glob("*.lua") if path != SHARED)


class Moves:
    """The connection, the keys and the scripts; every call raises LedgerUnavailable when Redis is away."""

    def __init__(self, url: str, prefix: str, *, lease_seconds: float = 15, window: int = 64) -> None:
        """`window` is how many shards of a job may be claimable or claimed at once."""
        self._redis: Redis = connect(url, text=True)
        self._prefix = prefix
        self.lease_seconds = lease_seconds
        self.window = window

    @cached_property
    def _scripts(self) -> dict[str, Script]:
        shared = SHARED.read_text()
        return {name: self._redis.register_script(shared + (HERE / f"{name}.lua").read_text()) for name in SCRIPTS}

    def _move(self, script: str, *args: Any) -> Any:
        with reachable():
            return self._scripts[script](keys=[self._prefix], args=list(args))

    def _key(self, *parts: object) -> str:
        return ":".join(map(str, (self._prefix, *parts)))

    def ping(self) -> None:
        """Raise LedgerUnavailable unless Redis answers."""
        with reachable():
            self._redis.ping()

    def disconnect(self) -> None:
        """Close every connection."""
        self._redis.close()


def counts_of(counts: dict[str, int]) -> Sequence[int]:
    """The counts by outcome status in the order in which the scripts take them."""
    return [counts.get(status, 0) for status in ("succeeded", "failed", "skipped")]
