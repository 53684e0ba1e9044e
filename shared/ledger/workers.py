"""Which workers live, and what they serve."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import cast

from maskmill.shared.connection import reachable, redis_now
from maskmill.shared.ledger.moves import Moves
from maskmill.shared.ledger.records import ModelCard

WORKER_SECONDS = 30


class WorkerMoves(Moves):
    """The register of live workers."""

    def serve(self, owner: str, cards: Sequence[ModelCard], trouble: str = "") -> None:
        """Say that `owner` is alive and serves these models; to be said again within WORKER_SECONDS.

        `trouble` is what it waits for.
        """
        entry = {"models": [card.model_dump(mode="json") for card in cards], "trouble": trouble}
        with reachable(), self._redis.pipeline() as pipe:
            pipe.hset(self._key("workers"), owner, json.dumps(entry))
            pipe.zadd(self._key("seen"), {owner: redis_now(self._redis)})
            pipe.execute()

    def leave(self, owner: str) -> None:
        """Take back `serve`."""
        with reachable(), self._redis.pipeline() as pipe:
            pipe.hdel(self._key("workers"), owner)
            pipe.zrem(self._key("seen"), owner)
            pipe.execute()

    def workers(self) -> dict[str, list[ModelCard]]:
        """What each live worker serves."""
        return {
            owner: [ModelCard.model_validate(card) for card in json.loads(text)["models"]]
            for owner, text in self._live().items()
        }

    def troubles(self) -> dict[str, str]:
        """What live workers wait for, by worker; those that wait for nothing are not there."""
        found = {owner: json.loads(text)["trouble"] for owner, text in self._live().items()}
        return {owner: trouble for owner, trouble in found.items() if trouble}

    def models(self) -> dict[str, ModelCard]:
        """The models that live workers serve, by name."""
        return {card.name: card for cards in self.workers().values() for card in cards}

    def forget(self) -> None:
        """Take jobs that ended long ago and workers that are gone off their lists."""
        self._move("forget", 10 * WORKER_SECONDS)

    def _live(self) -> dict[str, str]:
        with reachable():
            fresh = redis_now(self._redis) - WORKER_SECONDS
            owners = cast(list[str], self._redis.zrangebyscore(self._key("seen"), fresh, "+inf"))
            texts = self._redis.hmget(self._key("workers"), owners) if owners else []
        return {owner: text for owner, text in zip(owners, cast("list[str | None]", texts), strict=True) if text}
