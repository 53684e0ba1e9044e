"""How Redis is reached: with time limits, and one error for whatever it says that is no fault of ours."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import redis
from redis.backoff import ExponentialBackoff
from redis.exceptions import MasterDownError
from redis.retry import Retry

from maskmill.shared.errors import LedgerUnavailable

PRIMARY = "it is a replica, as after a failover: MASKMILL_REDIS_URL must lead to the primary"
PASSWORD = "put its user and password into MASKMILL_REDIS_URL: redis://USER:PASSWORD@HOST:6379/0"
PERMISSION = "allow its user all commands on data and scripts, on keys that begin with MASKMILL_REDIS_PREFIX"
CLUSTER = "it is a cluster: Maskmill needs one Redis, with replicas if you like"
TOO_OLD = "Maskmill needs Redis 6.2 or newer with no command renamed or disabled"
# How Redis begins when it is in a state that passes or that an operator mends, and what mends it. Whatever else it
# says (WRONGTYPE, a script's own error) can only be a defect of ours, and stays one.
STATES = {
    "OOM": "it is full: raise its maxmemory, or give Maskmill a Redis of its own",
    "READONLY": PRIMARY,
    "MASTERDOWN": PRIMARY,
    "UNBLOCKED": PRIMARY,
    "NOREPLICAS": "mend its replicas, or lower its min-replicas-to-write",
    "MISCONF": "it cannot save to its disk: make room there, or mend its dir",
    "LOADING": "it is reading its data and answers when it is done",
    "BUSY": "a script holds it up: SCRIPT KILL ends that",
    "NOSCRIPT": "it was restarted meanwhile",
    "NOAUTH": PASSWORD,
    "WRONGPASS": PASSWORD,
    "HELLO must be called": PASSWORD,
    "Authentication required": PASSWORD,
    "invalid username-password pair": PASSWORD,
    "Protocol error: unauthenticated": PASSWORD,
    "DENIED": "it is in protected mode: give it a password, or bind it to an address of its own",
    "NOPERM": PERMISSION,
    "The user executing the script": PERMISSION,
    "CLUSTERDOWN": CLUSTER,
    "TRYAGAIN": CLUSTER,
    "MOVED": CLUSTER,
    "ASK": CLUSTER,
    "CROSSSLOT": CLUSTER,
    "max number of clients": "raise its maxclients",
    "DB index is out of range": "MASKMILL_REDIS_URL ends with a database number that it does not have",
    "unknown command": TOO_OLD,
    "Unknown Redis command": TOO_OLD,
}
# A state stands at the beginning, or where a script or a transaction hands on what its command was told.
STATE = re.compile(rf"(?:^|: -?)({'|'.join(STATES)})\b")
PIPELINED = re.compile(r"^Command # \d+ \(.*\) of pipeline caused error: ", re.DOTALL)


@contextmanager
def reachable(*wrappers: type[Exception]) -> Iterator[None]:
    """Around calls of Redis: LedgerUnavailable, with what Redis said and what mends it, while it cannot be used.

    `wrappers` are errors in which another library hides Redis's own, as kombu's OperationalError does. An error that
    can only be a defect of ours passes as it is.
    """
    expected: tuple[type[Exception], ...] = (redis.RedisError, *wrappers)
    try:
        yield
    except expected as error:
        problem = _problem(error)
        if problem is None:
            raise
        raise LedgerUnavailable(problem) from error


def connect(url: str, *, text: bool, seconds: float = 10) -> redis.Redis:
    """A client whose calls give up after `seconds`, not never; it retries once over a fresh connection."""
    return redis.Redis.from_url(
        url,
        decode_responses=text,
        socket_timeout=seconds,
        socket_connect_timeout=3,
        health_check_interval=15,
        retry=Retry(ExponentialBackoff(cap=0.2, base=0.05), 1),
        # After a failover the old connections lead to what is a replica now; a fresh one asks for the address anew.
        retry_on_error=[redis.ReadOnlyError, MasterDownError],
    )


def redis_now(client: redis.Redis) -> float:
    """Redis's clock in seconds, the only one that all go by: those of two hosts may differ."""
    seconds, microseconds = client.time()
    return float(seconds) + float(microseconds) / 1e6


def _problem(error: BaseException) -> str | None:
    """What keeps Redis from being used and what mends it; None where it is no fault of Redis."""
    origin = _origin(error)
    said = _said(origin)
    state = STATE.search(said)
    if state:
        return f"Redis cannot be used: {said}; {STATES[state[1]]}"
    if isinstance(origin, redis.InvalidResponse):
        return f"what answers is no Redis ({said}); check MASKMILL_REDIS_URL"
    if isinstance(origin, redis.ConnectionError | redis.TimeoutError | OSError):
        return f"Redis does not answer: {said}; check MASKMILL_REDIS_URL and that it runs"
    return None


def _origin(error: BaseException) -> BaseException:
    """The error that another library's stands for, else the error itself."""
    if isinstance(error, redis.RedisError) or error.__cause__ is None:
        return error
    return _origin(error.__cause__)


def _said(error: BaseException) -> str:
    """Redis's own words, without the command of a pipeline that they answer; the client keeps the first word apart."""
    word = getattr(error, "status_code", None)
    return f"{'' if word in (None, 'ERR') else word} {PIPELINED.sub('', str(error))}".strip().rstrip(".")
