"""The moves of whole jobs: entered, controlled, closed, listed."""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Iterable
from typing import Any, cast

from maskmill.shared.connection import reachable, redis_now
from maskmill.shared.errors import IllegalMove, InvalidRequest, NotFound
from maskmill.shared.jobs.keys import id_of, job_ref
from maskmill.shared.jobs.records import (
    JOB_ID_PATTERN,
    MOVES,
    SHARDS_A_ROLLUP,
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

    def enter(
        self,
        job: JobHead,
        *,
        state: EnteredState = "queued",
        recovered: bool = False,
        priority: int | None = None,
        before: JobStatus | None = None,
    ) -> bool:
        """Enter an accepted job in that state; False where it is there already.

        With its final status `before` it is the next retry of the job, which takes the place of the run that is over;
        False also where that is not over yet.

        `recovered` says that shards of it may have been committed before, in a ledger that was lost; `priority` is the
        one that it was given since it was accepted.
        """
        fields: dict[str, Any] = {
            "state": state,
            "paused_from": "queued",
            "name": job.name or "",
            "output": job.output or "",
            "model": job.options.model,
            "priority": job.options.priority if priority is None else priority,
            "max_failure_rate": job.options.max_failure_rate,
            "retry": before.retries + 1 if before else 0,
            "before": before.model_dump_json() if before else "",
            "created_at": job.created_at,
            "window": self.window,
            "recovered": int(recovered),
            "total": "",
            "cursor": "",
            **dict.fromkeys(ZEROS, 0),
        }
        flat = [part for pair in fields.items() for part in pair]
        return bool(self._move("enter", job.ref, job.created_at, fields["retry"], *flat))

    def status(self, ref: str) -> JobStatus | None:
        """The job's status, or None where the ledger does not hold it."""
        with reachable():
            fields = cast(dict[str, str], self._redis.hgetall(self._key("job", ref)))
            now = redis_now(self._redis)
        return job_status(ref, fields, now) if fields else None

    def jobs(self, tenant: str, after: str | None = None, limit: int = 50) -> tuple[list[JobStatus], str | None]:
        """Up to `limit` jobs of a tenant, newest first, behind the cursor of the page before; and the next cursor.

        A cursor holds when its job is forgotten meanwhile. Raises InvalidRequest for what is none.
        """
        found: list[JobStatus] = []
        while len(found) < limit:
            refs = self._refs_after(tenant, after, limit - len(found))
            found += filter(None, map(self.status, (ref for ref, _ in refs)))
            if len(refs) == 0:
                return found, None
            after = _cursor(*refs[-1])
        return found, after

    def _refs_after(self, tenant: str, after: str | None, limit: int) -> list[tuple[str, float]]:
        jobs, start = self._key("jobs", tenant), 0
        with reachable():
            if after is not None:
                created, job_id = _parse_cursor(after)
                rank = self._redis.zrevrank(jobs, job_ref(tenant, job_id))
                newer = self._redis.zcount(jobs, created, "+inf")
                start = int(newer) if rank is None else int(cast(int, rank)) + 1
            found = self._redis.zrevrange(jobs, start, start + limit - 1, withscores=True)
        return [(str(ref), float(created)) for ref, created in cast("list[tuple[str, float]]", found)]

    def open_jobs(self) -> list[str]:
        """Refs of the jobs whose report is not stored yet."""
        with reachable():
            return sorted(cast(set[str], self._redis.smembers(self._key("open"))))

    def are_open(self, refs: Iterable[str]) -> list[bool]:
        """Whether each of the jobs is entered and its report not stored yet."""
        asked = list(refs)
        with reachable():
            return [bool(held) for held in self._redis.smismember(self._key("open"), asked)] if asked else []

    def is_open(self, ref: str) -> bool:
        """Whether the job is entered and its report not stored yet."""
        return self.are_open([ref])[0]

    def cancel(self, ref: str) -> JobState:
        """Stop a job: nothing more of it is claimed, and running shards stop at their next renewal."""
        return self._move_to(ref, "cancelled")

    def pause(self, ref: str) -> JobState:
        """Hold a job where it is."""
        return self._move_to(ref, "paused")

    def resume(self, ref: str) -> JobState:
        """Go on with a paused job; one whose last shard ended meanwhile ends."""
        return self._move_to(ref, "resume")

    def fail(self, ref: str, failure: Failure) -> JobState:
        """End a job that cannot be planned or run."""
        return self._move_to(ref, "failed", failure.model_dump_json())

    def set_priority(self, ref: str, priority: int) -> JobState:
        """Let the next claim go by this priority; raises IllegalMove where the job is over."""
        moved, *state = self._move("set_priority", ref, priority)
        if not state:
            raise NotFound(f"no job {id_of(ref)}")
        if not moved:
            raise IllegalMove(f"a job that is {state[0]} takes no other priority")
        return cast(JobState, state[0])

    def _move_to(self, ref: str, after: str, error: str = "") -> JobState:
        before = [state for state, reach in MOVES.items() if after in reach] if after != "resume" else ["paused"]
        moved, *state = self._move("move", ref, after, error, *before)
        if not state:
            raise NotFound(f"no job {id_of(ref)}")
        if not moved:
            verb = {"cancelled": "cancelled", "paused": "paused", "resume": "resumed"}.get(after, after)
            raise IllegalMove(f"a job that is {state[0]} cannot be {verb}")
        return cast(JobState, state[0])

    def close(self, ref: str, report: JobStatus, keep_seconds: float) -> JobState | None:
        """The job's report is stored: that is its status from now on, to be forgotten after `keep_seconds`.

        Returns its state, None where it is not there; one that is not over was entered anew or retried meanwhile, and
        goes on.
        """
        shown = (report.retries, report.state, report.model_dump_json())
        return cast("JobState | None", self._move("close", ref, int(keep_seconds), SHARDS_A_ROLLUP, *shown))

    def drop(self, ref: str) -> bool:
        """Forget a job that is closed; False where its report is not stored yet."""
        return bool(self._move("drop", ref))


def _cursor(ref: str, created: float) -> str:
    return f"{created!r}~{id_of(ref)}"


def _parse_cursor(text: str) -> tuple[float, str]:
    created, _, job_id = text.partition("~")
    with contextlib.suppress(ValueError):
        if math.isfinite(float(created)) and re.fullmatch(JOB_ID_PATTERN, job_id):
            return float(created), job_id
    raise InvalidRequest(f"{text[:80]!r} is no page of jobs; take `next` of the page before", pointer="?after")
