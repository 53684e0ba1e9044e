"""How Redis is reached: with time limits, and one error when it is away."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import redis
from redis.backoff import ExponentialBackoff
from redis.retry import Retry

from maskmill.shared.errors import LedgerUnavailable


@contextmanager
def reachable() -> Iterator[None]:
    """Turn Redis's connection errors into LedgerUnavailable."""
    try:
        yield
    except (redis.ConnectionError, redis.TimeoutError) as error:
        raise LedgerUnavailable(f"Redis does not answer: {error}; check MASKMILL_REDIS_URL and that it runs") from error


def connect(url: str, *, text: bool, seconds: float = 10) -> redis.Redis:
    """A client whose calls give up after `seconds`, not never; it retries once over a fresh connection."""
    return redis.Redis.from_url(
        url,
        decode_responses=text,
        socket_timeout=seconds,
        socket_connect_timeout=3,
        health_check_interval=15,
        retry=Retry(ExponentialBackoff(cap=0.2, base=0.05), 1),
    )
