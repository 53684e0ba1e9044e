"""The moves of whole jobs: entered, controlled, closed, listed."""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Iterable
from typing import Any, cast

from maskmill.shared.connection import reachable, redis_now
from maskmill.shared.errors import IllegalMove, InvalidRequest, NotFound
from maskmill.shared.jobs.records import (
    JOB_ID_PATTERN,
    MOVES,
    SHARDS_A_ROLLUP,
    Counts,
    Failure,
    JobHead,
    JobState,
    JobStatus,
)
from maskmill.shared.ledger.moves import Moves
from maskmill.shared.ledger.records import EnteredState, job_status

ZEROS = ("planned", "succeeded", "failed", "skipped", "pages", "shards", "admitted", "shards_done")


class JobMoves(Moves):
    """Job states and counts."""

    def enter(self, job: JobHead, *, state: EnteredState = "queued", recovered: bool = False) -> bool:
        """Enter an accepted job in that state; False where it is there already.

        `recovered` says that shards of it may have been committed before, in a ledger that was lost.
        """
        fields: dict[str, Any] = {
            "state": state,
            "paused_from": "queued",
            "name": job.name or "",
            "output": job.output or "",
            "model": job.options.model,
            "priority": job.options.priority,
            "max_failure_rate": job.options.max_failure_rate,
            "created_at": job.created_at,
            "window": self.window,
            "recovered": int(recovered),
            "total": "",
            "cursor": "",
            **dict.fromkeys(ZEROS, 0),
        }
        flat = [part for pair in fields.items() for part in pair]
        return bool(self._move("enter", job.id, job.created_at, *flat))

    def status(self, job_id: str) -> JobStatus | None:
        """The job's status, or None where the ledger does not hold it."""
        with reachable():
            fields = cast(dict[str, str], self._redis.hgetall(self._key("job", job_id)))
            now = redis_now(self._redis)
        return job_status(job_id, fields, now) if fields else None

    def jobs(self, after: str | None = None, limit: int = 50) -> tuple[list[JobStatus], str | None]:
        """Up to `limit` jobs, newest first, behind the cursor of the page before; and the cursor of the next page.

        A cursor holds when its job is forgotten meanwhile. Raises InvalidRequest for what is none.
        """
        found: list[JobStatus] = []
        while len(found) < limit:
            ids = self._ids_after(after, limit - len(found))
            found += filter(None, map(self.status, (job_id for job_id, _ in ids)))
            if len(ids) == 0:
                return found, None
            after = _cursor(*ids[-1])
        return found, after

    def _ids_after(self, after: str | None, limit: int) -> list[tuple[str, float]]:
        jobs, start = self._key("jobs"), 0
        with reachable():
            if after is not None:
                created, job_id = _parse_cursor(after)
                rank = self._redis.zrevrank(jobs, job_id)
                newer = self._redis.zcount(jobs, created, "+inf")
                start = int(newer) if rank is None else int(cast(int, rank)) + 1
            found = self._redis.zrevrange(jobs, start, start + limit - 1, withscores=True)
        return [(str(job_id), float(created)) for job_id, created in cast("list[tuple[str, float]]", found)]

    def open_jobs(self) -> list[str]:
        """Ids of the jobs whose report is not stored yet."""
        with reachable():
            return sorted(cast(set[str], self._redis.smembers(self._key("open"))))

    def are_open(self, job_ids: Iterable[str]) -> list[bool]:
        """Whether each of the jobs is entered and its report not stored yet."""
        asked = list(job_ids)
        with reachable():
            return [bool(held) for held in self._redis.smismember(self._key("open"), asked)] if asked else []

    def is_open(self, job_id: str) -> bool:
        """Whether the job is entered and its report not stored yet."""
        return self.are_open([job_id])[0]

    def cancel(self, job_id: str) -> JobState:
        """Stop a job: nothing more of it is claimed, and running shards stop at their next renewal."""
        return self._move_to(job_id, "cancelled")

    def pause(self, job_id: str) -> JobState:
        """Hold a job where it is."""
        return self._move_to(job_id, "paused")

    def resume(self, job_id: str) -> JobState:
        """Go on with a paused job; one whose last shard ended meanwhile ends."""
        return self._move_to(job_id, "resume")

    def fail(self, job_id: str, failure: Failure) -> JobState:
        """End a job that cannot be planned or run."""
        return self._move_to(job_id, "failed", failure.model_dump_json())

    def _move_to(self, job_id: str, after: str, error: str = "") -> JobState:
        before = [state for state, reach in MOVES.items() if after in reach] if after != "resume" else ["paused"]
        moved, *state = self._move("move", job_id, after, error, *before)
        if not state:
            raise NotFound(f"no job {job_id}")
        if not moved:
            verb = {"cancelled": "cancelled", "paused": "paused", "resume": "resumed"}.get(after, after)
            raise IllegalMove(f"a job that is {state[0]} cannot be {verb}")
        return cast(JobState, state[0])

    def close(self, job_id: str, counts: Counts, keep_seconds: float) -> JobState | None:
        """The job's report is stored: end it with its counts, and forget it after `keep_seconds`.

        Returns its state, None where it is not there; one that is not over was entered anew meanwhile, and goes on.
        """
        final = (counts.planned, counts.succeeded, counts.failed, counts.skipped)
        return cast("JobState | None", self._move("close", job_id, int(keep_seconds), *final, SHARDS_A_ROLLUP))


def _cursor(job_id: str, created: float) -> str:
    return f"{created!r}~{job_id}"


def _parse_cursor(text: str) -> tuple[float, str]:
    created, _, job_id = text.partition("~")
    with contextlib.suppress(ValueError):
        if math.isfinite(float(created)) and re.fullmatch(JOB_ID_PATTERN, job_id):
            return float(created), job_id
    raise InvalidRequest(f"{text[:80]!r} is no page of jobs; take `next` of the page before", pointer="?after")
