"""The ledger's moves on Redis; each is one Lua script beside this file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, cast

from redis.commands.core import Script

from maskmill.shared.connection import connect, reachable
from maskmill.shared.errors import IllegalMove, NotFound
from maskmill.shared.jobs.records import FINAL_STATES, MOVES, Counts, Failure, Job, JobState, JobStatus
from maskmill.shared.ledger.records import FinishedShard, ModelCard, PlanLease, ShardLease, job_status

SCRIPTS = sorted(path.stem for path in Path(__file__).parent.glob("*.lua"))
WORKER_SECONDS = 30


class Ledger:
    """Job states and counts, shard claims and leases; every method raises LedgerUnavailable when Redis is away."""

    def __init__(self, url: str, prefix: str, *, lease_seconds: float = 15, window: int = 64) -> None:
        self._redis = connect(url, text=True)
        self._prefix = prefix
        self.lease_seconds = lease_seconds
        self.window = window

    @cached_property
    def _scripts(self) -> dict[str, Script]:
        here = Path(__file__).parent
        return {name: self._redis.register_script((here / f"{name}.lua").read_text()) for name in SCRIPTS}

    def _run(self, script: str, keys: Sequence[str], *args: Any) -> Any:
        with reachable():
            return self._scripts[script](keys=keys, args=list(args))

    def _key(self, *parts: object) -> str:
        return ":".join(map(str, (self._prefix, *parts)))

    def _job_keys(self, job_id: str, *parts: str) -> list[str]:
        return [self._key("job", job_id, *([part] if part else [])) for part in parts]

    # Jobs

    def enter(self, job: Job) -> bool:
        """Enter an accepted job; False where it is there already."""
        fields: dict[str, Any] = {
            "state": "queued",
            "name": job.name or "",
            "model": job.options.model,
            "priority": job.options.priority,
            "max_failure_rate": job.options.max_failure_rate,
            "created_at": job.created_at,
            "total": "",
            "cursor": "",
            **dict.fromkeys(("planned", "succeeded", "failed", "skipped", "shards", "shards_done"), 0),
            **dict.fromkeys(("plan_until", "plan_attempt"), 0),
        }
        flat = [part for pair in fields.items() for part in pair]
        keys = [self._key("job", job.id), self._key("jobs"), self._key("open")]
        return bool(self._run("enter", keys, job.id, job.created_at, *flat))

    def status(self, job_id: str) -> JobStatus | None:
        """The job's status, or None where the ledger does not hold it."""
        with reachable():
            fields = cast(dict[str, str], self._redis.hgetall(self._key("job", job_id)))
            now = self._now()
        return job_status(job_id, fields, now) if fields else None

    def jobs(self, after: str | None = None, limit: int = 50) -> list[JobStatus]:
        """Up to `limit` jobs, newest first, after the job `after` of the page before."""
        with reachable():
            start = 0
            if after is not None:
                rank = self._redis.zrevrank(self._key("jobs"), after)
                start = 0 if rank is None else cast(int, rank) + 1
            ids = cast(list[str], self._redis.zrevrange(self._key("jobs"), start, start + limit - 1))
        return [status for status in map(self.status, ids) if status]

    def open_jobs(self) -> list[str]:
        """Ids of the jobs whose report is not stored yet."""
        with reachable():
            return sorted(cast(set[str], self._redis.smembers(self._key("open"))))

    def is_open(self, job_id: str) -> bool:
        """Whether the job is entered and its report not stored yet."""
        with reachable():
            return bool(self._redis.sismember(self._key("open"), job_id))

    def is_over(self, job_id: str) -> bool:
        """Whether the job is completed, failed or cancelled."""
        status = self.status(job_id)
        return status is not None and status.state in FINAL_STATES

    def cancel(self, job_id: str) -> JobState:
        """Stop a job: nothing more of it is claimed, and running shards stop at their next renewal."""
        return self._move(job_id, "cancelled")

    def pause(self, job_id: str) -> JobState:
        """Hold a job where it is."""
        return self._move(job_id, "paused")

    def resume(self, job_id: str) -> JobState:
        """Go on with a paused job."""
        return self._move(job_id, "resume")

    def fail(self, job_id: str, failure: Failure) -> JobState:
        """End a job that cannot be planned or run."""
        return self._move(job_id, "failed", failure.model_dump_json())

    def _move(self, job_id: str, after: str, error: str = "") -> JobState:
        before = [state for state, reach in MOVES.items() if after in reach] if after != "resume" else ["paused"]
        model = self._field(job_id, "model")
        keys = [
            self._key("job", job_id),
            self._key("turns", model),
            self._key("job", job_id, "ready"),
            self._key("turn"),
        ]
        moved, *state = self._run("move", keys, job_id, after, error, *before)
        if not state:
            raise NotFound(f"no job {job_id}")
        if not moved:
            verb = {"cancelled": "cancelled", "paused": "paused", "resume": "resumed"}.get(after, after)
            raise IllegalMove(f"a job that is {state[0]} cannot be {verb}")
        return cast(JobState, state[0])

    def _field(self, job_id: str, field: str) -> str:
        with reachable():
            value = self._redis.hget(self._key("job", job_id), field)
        if value is None:
            raise NotFound(f"no job {job_id}")
        return cast(str, value)

    def close(self, job_id: str, counts: Counts, keep_seconds: float) -> JobState:
        """The job's report is stored: end it with its counts, and forget it after `keep_seconds`."""
        keys = self._job_keys(job_id, "", "shards", "ready", "journal")
        keys += [self._key("open"), self._key("turns", self._field(job_id, "model"))]
        final = (counts.planned, counts.succeeded, counts.failed, counts.skipped)
        return cast(JobState, self._run("close", keys, job_id, int(keep_seconds), *final))

    # Planning

    def claim_plan(self, job_id: str) -> PlanLease | None:
        """The right to go on planning the job, or None where another has it or nothing is left to plan."""
        found = self._run("claim_plan", [self._key("job", job_id)], self.lease_seconds)
        if found is None:
            return None
        attempt, shards, planned, cursor = found
        return PlanLease(job_id, attempt, shards, planned, json.loads(cursor) if cursor else None)

    def add_shard(self, lease: PlanLease, shard: int, items: int, cursor: dict[str, Any] | None) -> str:
        """Make the next shard claimable: 'added', 'full' (wait), 'stale' (another plans), or the job's new state."""
        model = self._field(lease.job_id, "model")
        keys = [*self._job_keys(lease.job_id, "", "shards", "ready"), self._key("turns", model), self._key("turn")]
        args = (lease.job_id, lease.attempt, shard, items, json.dumps(cursor), self.window, self.lease_seconds)
        return str(self._run("add_shard", keys, *args))

    def rest_plan(self, lease: PlanLease) -> None:
        """Give the planning right back before its time is over."""
        self._run("rest_plan", [self._key("job", lease.job_id)], lease.attempt)

    def end_plan(self, lease: PlanLease) -> str:
        """The last shard is planned; the job's state after it, or 'stale'."""
        return str(self._run("end_plan", [self._key("job", lease.job_id)], lease.attempt))

    def plan_is_held(self, job_id: str) -> bool:
        """Whether a planner has the job, or the window is full and nothing can be planned now."""
        with reachable():
            held_until = self._redis.hget(self._key("job", job_id), "plan_until")
            outstanding = self._redis.hlen(self._key("job", job_id, "shards"))
            now = self._now()
        return float(held_until or 0) > now or outstanding >= self.window

    # Shards

    def claim(self, model: str, owner: str) -> ShardLease | None:
        """Lease the next shard of `model`, or None where nothing is ready."""
        keys = [self._key("turns", model), self._key("turn"), self._key("leases")]
        found = self._run("claim", keys, self._key("job", ""), owner, self.lease_seconds)
        return ShardLease(*found) if found else None

    def renew(self, lease: ShardLease) -> JobState | None:
        """Keep the lease; the job's state now, or None where the lease is lost."""
        keys = [*self._job_keys(lease.job_id, "", "shards"), self._key("leases")]
        state = self._run("renew", keys, lease.job_id, lease.shard, lease.attempt, self.lease_seconds)
        return cast("JobState | None", state)

    def release(self, lease: ShardLease) -> bool:
        """Give a shard back unfinished, without blame."""
        return self._release(lease.job_id, lease.shard, lease.attempt, 0)

    def _release(self, job_id: str, shard: int, attempt: int, crashes: int) -> bool:
        model = self._field(job_id, "model")
        keys = self._job_keys(job_id, "", "shards", "ready")
        keys += [self._key("turns", model), self._key("turn"), self._key("leases")]
        return bool(self._run("release", keys, job_id, shard, attempt, crashes))

    def finish(self, lease: ShardLease, counts: dict[str, int]) -> FinishedShard:
        """Count a committed shard; `counts` by outcome status."""
        return self._finish(lease.job_id, lease.shard, lease.attempt, counts)

    def settle(self, job_id: str, shard: int, counts: dict[str, int]) -> FinishedShard:
        """Count a shard whose outcomes file is stored, whoever holds it."""
        return self._finish(job_id, shard, -1, counts)

    def _finish(self, job_id: str, shard: int, attempt: int, counts: dict[str, int]) -> FinishedShard:
        keys = [
            *self._job_keys(job_id, "", "shards", "ready"),
            self._key("leases"),
            self._key("job", job_id, "journal"),
        ]
        numbers = [counts.get(status, 0) for status in ("succeeded", "failed", "skipped")]
        verdict, state, hungry = self._run("finish", keys, job_id, shard, attempt, *numbers, self.window)
        return FinishedShard(verdict, state, bool(hungry))

    def ready(self, job_id: str) -> int:
        """How many shards of the job nobody holds."""
        with reachable():
            return self._redis.zcard(self._key("job", job_id, "ready"))

    def expire(self) -> list[tuple[str, int]]:
        """Free the shards whose lease is over, counting a crash each; (job id, shard) of those freed."""
        with reachable():
            late = cast(list[str], self._redis.zrangebyscore(self._key("leases"), 0, self._now(), 0, 1000))
        return [(job_id, shard) for job_id, shard in map(_member, late) if self._expire(job_id, shard)]

    def _expire(self, job_id: str, shard: int) -> bool:
        try:
            return self._release(job_id, shard, -1, 1)
        except NotFound:
            with reachable():
                self._redis.zrem(self._key("leases"), f"{job_id}/{shard}")
            return False

    # Careful mode

    def touch(self, lease: ShardLease, item: int) -> int:
        """Note that `item` is about to be touched; how often it was before without being survived."""
        with reachable():
            field = f"{lease.shard}:{item}"
            return self._redis.hincrby(self._key("job", lease.job_id, "journal"), field, 1) - 1

    def survived(self, lease: ShardLease, item: int) -> None:
        """Note that `item` did not kill its worker."""
        with reachable():
            self._redis.hdel(self._key("job", lease.job_id, "journal"), f"{lease.shard}:{item}")

    # Workers

    def serve(self, owner: str, cards: Sequence[ModelCard]) -> None:
        """Say that `owner` is alive and serves these models; to be said again within WORKER_SECONDS."""
        models = [card.model_dump(mode="json") for card in cards]
        with reachable():
            entry = {"seen": self._now(), "models": models}
            self._redis.hset(self._key("workers"), owner, json.dumps(entry))

    def leave(self, owner: str) -> None:
        """Take back `serve`."""
        with reachable():
            self._redis.hdel(self._key("workers"), owner)

    def workers(self) -> dict[str, list[ModelCard]]:
        """What each live worker serves."""
        with reachable():
            entries = cast(dict[str, str], self._redis.hgetall(self._key("workers")))
            fresh = self._now() - WORKER_SECONDS
        parsed = {owner: json.loads(text) for owner, text in entries.items()}
        return {
            owner: [ModelCard.model_validate(card) for card in entry["models"]]
            for owner, entry in parsed.items()
            if entry["seen"] > fresh
        }

    def models(self) -> dict[str, ModelCard]:
        """The models that live workers serve, by name."""
        return {card.name: card for cards in self.workers().values() for card in cards}

    def trim(self) -> None:
        """Forget the names of jobs and workers that are long gone."""
        with reachable():
            for owner in set(cast(list[str], self._redis.hkeys(self._key("workers")))) - set(self.workers()):
                self._redis.hdel(self._key("workers"), owner)
            oldest = cast(list[str], self._redis.zrange(self._key("jobs"), 0, 99))
            for job_id in oldest:
                if not self._redis.exists(self._key("job", job_id)):
                    self._redis.zrem(self._key("jobs"), job_id)

    def _now(self) -> float:
        """Redis's clock, the only one: those of two hosts may differ."""
        seconds, microseconds = self._redis.time()
        return seconds + microseconds / 1e6

    def ping(self) -> None:
        """Raise LedgerUnavailable unless Redis answers."""
        with reachable():
            self._redis.ping()

    def disconnect(self) -> None:
        """Close every connection."""
        self._redis.close()


def _member(text: str) -> tuple[str, int]:
    job_id, shard = text.rsplit("/", 1)
    return job_id, int(shard)
