"""The moves of shards: claimed, renewed, given back, finished; and the journal of careful mode."""

from __future__ import annotations

from typing import cast

from maskmill.shared.connection import reachable, redis_now
from maskmill.shared.jobs.records import SHARDS_A_ROLLUP, JobState, rollup_of
from maskmill.shared.ledger.moves import Moves, counts_of
from maskmill.shared.ledger.records import FinishedShard, ShardLease


class ShardMoves(Moves):
    """Shard claims and leases. A chunk of a listing that a worker looks into is claimed as a shard is."""

    def claim(self, model: str, owner: str) -> ShardLease | None:
        """Lease the next shard of `model`, or None where nothing is ready."""
        found = self._move("claim", model, owner, self.lease_seconds)
        if found is None:
            return None
        ref, member, attempt, crashes, look, retry = found
        number = str(member).removeprefix("e")
        return ShardLease(ref, int(number), attempt, crashes, number != str(member), bool(look), retry)

    def renew(self, lease: ShardLease, trouble: str = "") -> JobState | None:
        """Keep the lease; the job's state now, or None where the lease is lost.

        `trouble` is what the worker waits for, to be seen in the job's status.
        """
        state = self._move("renew", lease.ref, lease.member, lease.attempt, self.lease_seconds, trouble)
        return cast("JobState | None", state)

    def release(self, lease: ShardLease) -> bool:
        """Give a shard back unfinished, without blame."""
        return bool(self._move("release", lease.ref, lease.member, lease.attempt, 0))

    def finish(self, lease: ShardLease, counts: dict[str, int]) -> FinishedShard:
        """Count a committed shard; `counts` by outcome status."""
        return self._finish(lease.ref, lease.member, lease.attempt, counts)

    def count_stored(self, ref: str, shard: int, counts: dict[str, int]) -> FinishedShard:
        """Count a shard whose outcomes file is stored, whoever holds it."""
        return self._finish(ref, str(shard), -1, counts)

    def _finish(self, ref: str, member: str, attempt: int, counts: dict[str, int]) -> FinishedShard:
        rollup = rollup_of(int(member)) if member.isdecimal() else 0
        verdict, state, due, admitted = self._move(
            "finish", ref, member, attempt, *counts_of(counts), rollup, SHARDS_A_ROLLUP
        )
        return FinishedShard(verdict, state, bool(due), admitted)

    def finished(self, ref: str, rollup: int) -> dict[int, dict[str, int]]:
        """The counts of finished shards whose roll-up is not stored yet, by shard."""
        with reachable():
            texts = cast(dict[str, str], self._redis.hgetall(self._key("job", ref, "done", rollup)))
        statuses = ("succeeded", "failed", "skipped")
        return {
            int(shard): dict(zip(statuses, map(int, text.split(",")), strict=True)) for shard, text in texts.items()
        }

    def forget_finished(self, ref: str, rollup: int) -> None:
        """The roll-up is stored: what `finished` told is not needed any more."""
        with reachable():
            self._redis.delete(self._key("job", ref, "done", rollup))

    def admitted(self, ref: str) -> tuple[int, bool]:
        """How many shards of the job could have been claimed so far, and whether an earlier ledger may know of more."""
        with reachable():
            admitted, recovered = self._redis.hmget(self._key("job", ref), ["admitted", "recovered"])
        return int(admitted or 0), recovered == "1"

    def expire(self) -> list[tuple[str, str]]:
        """Free the shards whose lease is over, counting a crash each; (ref, shard) of those freed."""
        with reachable():
            late = cast(list[str], self._redis.zrangebyscore(self._key("leases"), 0, redis_now(self._redis), 0, 1000))
        members = (text.rsplit("/", 1) for text in late)
        return [(ref, shard) for ref, shard in members if self._move("release", ref, shard, -1, 1)]

    def models_with_work(self) -> list[str]:
        """The models of which something may be ready."""
        with reachable():
            return sorted(cast(set[str], self._redis.smembers(self._key("models"))))

    # Careful mode

    def touch(self, lease: ShardLease, item: int) -> int:
        """Note that `item` is about to be touched; how often it was before without being survived."""
        with reachable():
            field = f"{lease.member}:{item}"
            return int(self._redis.hincrby(self._key("job", lease.ref, "journal"), field, 1)) - 1

    def survived(self, lease: ShardLease, item: int) -> None:
        """Note that `item` did not kill its worker."""
        with reachable():
            self._redis.hdel(self._key("job", lease.ref, "journal"), f"{lease.member}:{item}")
