"""The interactive request/reply bytes: someone waits, so they go through Redis and die soon."""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass, field
from typing import Any, cast

from maskmill.shared.connection import connect, reachable
from maskmill.shared.errors import Overloaded, ReplyTimeout
from maskmill.shared.jobs.records import Failure


@dataclass(frozen=True)
class Ask:
    """One picture that someone waits for: its encoded bytes and the options of the drop-in endpoint."""

    image: bytes
    threshold: float | None = None
    visualize: bool = True

    def encode(self) -> bytes:
        return _pack({"threshold": self.threshold, "visualize": self.visualize}, self.image)

    @classmethod
    def decode(cls, data: bytes) -> Ask:
        head, image = _unpack(data)
        return cls(image=image, **head)


@dataclass(frozen=True)
class Answer:
    """The reply: the seed's instances and the drawn JPEG, or why there are none (`status` is HTTP's)."""

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
    def decode(cls, data: bytes) -> Answer:
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


class Replies:
    """Requests of a model wait in a bounded line; each reply goes to the one who asked."""

    def __init__(self, url: str, prefix: str, *, bound: int = 64, keep_seconds: float = 60) -> None:
        self._redis = connect(url, text=False, seconds=keep_seconds + 10)
        self._prefix = prefix
        self._bound = bound
        self._keep = int(keep_seconds) + 1

    def _key(self, kind: str, name: str) -> str:
        return f"{self._prefix}:{kind}:{name}"

    def ask(self, model: str, request: Ask) -> str:
        """Line up a request, which dies after `keep_seconds`; raises Overloaded when the line is full."""
        line = self._key("asks", model)
        with reachable():
            if self._redis.llen(line) >= self._bound:
                raise Overloaded(f"{self._bound} requests already wait for model {model}; try again in a few seconds")
            request_id = secrets.token_hex(12)
            with self._redis.pipeline(transaction=False) as pipe:
                pipe.set(self._key("ask", request_id), request.encode(), ex=self._keep)
                pipe.rpush(line, request_id)
                pipe.expire(line, self._keep)
                pipe.execute()
        return request_id

    def wait(self, request_id: str, timeout: float) -> Answer:
        """The reply, or ReplyTimeout after `timeout` seconds; a request given up is not run."""
        with reachable():
            found = self._redis.blpop([self._key("reply", request_id)], timeout=timeout)
            if found is None:
                self._redis.delete(self._key("ask", request_id))
        if found is None:
            raise ReplyTimeout(f"no worker answered within {timeout:g} s; is one running for this model?")
        return Answer.decode(cast("list[bytes]", found)[1])

    def take(self, model: str, limit: int) -> list[tuple[str, Ask]]:
        """Up to `limit` waiting requests, oldest first, those given up left out."""
        with reachable():
            ids = cast("list[bytes] | None", self._redis.lpop(self._key("asks", model), limit)) or []
            names = [name.decode() for name in ids]
            bodies = [self._redis.getdel(self._key("ask", name)) for name in names]
        return [(name, Ask.decode(cast(bytes, body))) for name, body in zip(names, bodies, strict=True) if body]

    def answer(self, request_id: str, answer: Answer) -> None:
        """Reply to the one who asked."""
        key = self._key("reply", request_id)
        with reachable(), self._redis.pipeline(transaction=False) as pipe:
            pipe.rpush(key, answer.encode())
            pipe.expire(key, self._keep)
            pipe.execute()

    def waiting(self, model: str) -> int:
        """How many requests wait for `model`."""
        with reachable():
            return self._redis.llen(self._key("asks", model))

    def close(self) -> None:
        """Close every connection."""
        self._redis.close()
