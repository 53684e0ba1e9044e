"""The interactive queue: requests that someone waits for and their replies, short-lived bytes on Redis and storage."""

from __future__ import annotations

import contextlib
import json
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, cast

from maskmill.shared.connection import connect, reachable
from maskmill.shared.errors import MaskmillError, Overloaded, ReplyTimeout
from maskmill.shared.jobs.records import Failure
from maskmill.shared.settings import Settings
from maskmill.shared.storage import Storage

# A small photo and its drawing stay on Redis, without a round trip to storage. Larger ones do not, as Redis also holds
# the ledger. So it holds at most 2 x INLINE_BYTES (a request, a reply) for each of MASKMILL_INTERACTIVE_QUEUE requests
# of a model: 32 MiB with the defaults.
INLINE_BYTES = 256 << 10
RING_SECONDS = 2.0
STORED = "interactive/"
# Hosts' clocks may differ by this much.
LEFTOVER_SECONDS = 3600


@dataclass(frozen=True)
class InteractiveRequest:
    """One picture that someone waits for; `image` is None where its encoded bytes lie in storage."""

    image: bytes | None
    threshold: float | None = None
    visualize: bool = True

    def encode(self) -> bytes:
        head = {"threshold": self.threshold, "visualize": self.visualize, "stored": self.image is None}
        return _pack(head, self.image or b"")

    @classmethod
    def decode(cls, data: bytes) -> InteractiveRequest:
        head, image = _unpack(data)
        stored = head.pop("stored")
        return cls(image=None if stored else image, **head)


@dataclass(frozen=True)
class InteractiveReply:
    """The seed's instances and the drawn JPEG, or why there are none (`status` is HTTP's)."""

    failure: Failure | None = None
    status: int = 200
    width: int = 0
    height: int = 0
    instances: list[dict[str, Any]] = field(default_factory=list)
    image: bytes | None = None

    def encode(self) -> bytes:
        head: dict[str, Any] = {"width": self.width, "height": self.height, "instances": self.instances}
        head |= {"failure": self.failure.model_dump() if self.failure else None, "status": self.status}
        return _pack(head | {"drawn": self.image is not None}, self.image or b"")

    @classmethod
    def decode(cls, data: bytes) -> InteractiveReply:
        head, image = _unpack(data)
        failure = head.pop("failure")
        drawn = head.pop("drawn")
        return cls(failure=Failure(**failure) if failure else None, image=image if drawn else None, **head)


def _pack(head: dict[str, Any], body: bytes) -> bytes:
    text = json.dumps(head).encode()
    return len(text).to_bytes(4, "big") + text + body


def _unpack(data: bytes) -> tuple[dict[str, Any], bytes]:
    end = 4 + int.from_bytes(data[:4], "big")
    return json.loads(data[4:end]), data[end:]


class InteractiveQueue:
    """Requests of a model wait in a bounded line; each reply goes to the one who waits for it."""

    def __init__(self, settings: Settings, storage: Storage) -> None:
        self._redis = connect(settings.redis_url, text=False, seconds=settings.interactive_timeout + 10)
        self._storage = storage
        self._prefix = settings.redis_prefix
        self._bound = settings.interactive_queue
        self._keep = int(settings.interactive_timeout) + 1

    def _key(self, kind: str, name: str) -> str:
        return f"{self._prefix}:{kind}:{name}"

    # Who waits

    def submit(self, model: str, request: InteractiveRequest) -> str:
        """Line up a request and return its id; raises Overloaded when the line is full."""
        line = self._key("asks", model)
        with reachable():
            if self._redis.llen(line) >= self._bound:
                raise Overloaded(f"{self._bound} requests already wait for model {model}; try again in a few seconds")
        # The time comes first, so that what is left of old requests comes first in a listing.
        request_id = f"{int(time.time()):08x}-{secrets.token_hex(12)}"
        if request.image is None or len(request.image) <= INLINE_BYTES:
            self._line_up(line, request_id, request)
            return request_id
        self._storage.put(STORED + request_id, request.image)
        try:
            self._line_up(line, request_id, replace(request, image=None))
        except BaseException:
            self._discard(STORED + request_id)
            raise
        return request_id

    def _line_up(self, line: str, request_id: str, request: InteractiveRequest) -> None:
        with reachable(), self._redis.pipeline(transaction=False) as pipe:
            pipe.set(self._key("awaited", request_id), b"", ex=self._keep)
            pipe.set(self._key("ask", request_id), request.encode(), ex=self._keep)
            pipe.rpush(line, request_id)
            pipe.expire(line, self._keep)
            pipe.execute()

    def wait(self, request_id: str, timeout: float, ring: Callable[[], None]) -> InteractiveReply:
        """The reply, or ReplyTimeout after `timeout` seconds; `ring` is called again while no worker takes the request.

        A bell may be lost: without another one the request would wait beside a worker that has nothing to do.
        """
        deadline = time.monotonic() + timeout
        while (left := deadline - time.monotonic()) > 0:
            with reachable():
                # Redis takes a timeout that it rounds to 0 as none.
                found = self._redis.blpop([self._key("reply", request_id)], timeout=max(min(left, RING_SECONDS), 0.01))
                waits = found is None and self._redis.exists(self._key("ask", request_id))
            if found is not None:
                return self._received(request_id, cast("list[bytes]", found)[1])
            if waits:
                ring()
        raise ReplyTimeout(f"no worker answered within {timeout:g} s; is one running for this model?")

    def withdraw(self, model: str, request_id: str) -> None:
        """Nobody waits any more: a request that no worker has taken is not run, and nothing of it is kept."""
        with reachable(), self._redis.pipeline(transaction=False) as pipe:
            pipe.getdel(self._key("ask", request_id))
            pipe.lpop(self._key("reply", request_id))
            pipe.delete(self._key("awaited", request_id))
            pipe.lrem(self._key("asks", model), 1, request_id)
            request, reply, *_ = pipe.execute()
        if request and InteractiveRequest.decode(request).image is None:
            self._discard(STORED + request_id)
        if reply == b"":
            self._discard(_reply_key(request_id))

    def _received(self, request_id: str, message: bytes) -> InteractiveReply:
        if message:
            return InteractiveReply.decode(message)
        key = _reply_key(request_id)
        reply = InteractiveReply.decode(self._storage.get(key))
        self._discard(key)
        return reply

    # Who answers

    def take(self, model: str, limit: int) -> list[tuple[str, InteractiveRequest]]:
        """Ids and requests of up to `limit` that wait, oldest first, those withdrawn left out."""
        with reachable():
            ids = cast("list[bytes] | None", self._redis.lpop(self._key("asks", model), limit)) or []
            names = [name.decode() for name in ids]
            bodies = [cast("bytes | None", self._redis.getdel(self._key("ask", name))) for name in names]
        return [(name, InteractiveRequest.decode(body)) for name, body in zip(names, bodies, strict=True) if body]

    def is_awaited(self, request_id: str) -> bool:
        """Whether somebody still waits for the reply."""
        with reachable():
            return bool(self._redis.exists(self._key("awaited", request_id)))

    def image(self, request_id: str, request: InteractiveRequest) -> bytes:
        """The encoded bytes of a request that was taken; to be asked for once, as nothing of them is kept."""
        if request.image is not None:
            return request.image
        image = self._storage.get(STORED + request_id)
        self._discard(STORED + request_id)
        return image

    def reply(self, request_id: str, reply: InteractiveReply) -> None:
        """Hand the reply to the one who waits for it."""
        message = reply.encode()
        if len(message) > INLINE_BYTES:
            self._storage.put(_reply_key(request_id), message)
            # An empty message tells that the reply lies in storage.
            message = b""
        key = self._key("reply", request_id)
        with reachable(), self._redis.pipeline(transaction=False) as pipe:
            pipe.rpush(key, message)
            pipe.expire(key, self._keep)
            pipe.execute()

    def waiting(self, model: str) -> int:
        """How many requests wait for `model`."""
        with reachable():
            return self._redis.llen(self._key("asks", model))

    # Who tidies

    def expire(self) -> int:
        """Delete from storage what processes that were killed left there; how many objects it was."""
        oldest = int(time.time()) - self._keep - LEFTOVER_SECONDS
        count = 0
        for key in self._storage.list(STORED):
            # What was put there by others, and has no time in its name, stays.
            with contextlib.suppress(ValueError):
                if int(key.removeprefix(STORED).split("-")[0], 16) > oldest:
                    break
                self._storage.delete(key)
                count += 1
        return count

    def close(self) -> None:
        """Close every connection."""
        self._redis.close()

    def _discard(self, key: str) -> None:
        with contextlib.suppress(MaskmillError):
            self._storage.delete(key)


def _reply_key(request_id: str) -> str:
    return f"{STORED}{request_id}.reply"
