"""What the ledger hands out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from maskmill.shared.folder_inputs import LeftOut
from maskmill.shared.jobs.keys import id_of
from maskmill.shared.jobs.records import Counts, Failure, JobState, JobStatus, PlanCursor
from maskmill.shared.jobs.sources import Wire

EnteredState = Literal["queued", "paused", "cancelled"]
TROUBLE_SECONDS = 60


@dataclass(frozen=True)
class Work:
    """Control work in hand: its kind, its job's ref, what of it, and the token that shows whose it is.

    `failures` counts those who had it before and did not bring it to an end, `error` is what the last one said.
    """

    kind: str
    ref: str
    part: str
    token: int
    failures: int = 0
    error: str = ""

    @property
    def name(self) -> str:
        """What the ledger calls it."""
        return "/".join(filter(None, (self.kind, self.ref, self.part)))


@dataclass(frozen=True)
class PlanStart:
    """Where to go on planning: what is planned and left out; `recovered` where the ledger was lost in between.

    `retry` is the number of the retry that is planned, 0 for the job's first run.
    """

    pages: int
    shards: int
    planned: int
    cursor: PlanCursor
    recovered: bool
    left_out: LeftOut
    retry: int = 0


@dataclass(frozen=True)
class PlannedPages:
    """Pages that are stored: how many, with how many shards and items; `cursor` behind them, None after the last.

    `left_out` is what the listing has left out up to their end.
    """

    pages: int
    shards: int
    items: int
    cursor: PlanCursor | None
    left_out: LeftOut = field(default_factory=LeftOut)


@dataclass(frozen=True)
class ShardLease:
    """The right to run a shard of the job `ref`, or to look into a chunk of the listing where it `expands`.

    `crashes` counts the workers that died with it; `look` says that its outcomes may be stored already; `retry` is the
    number of the retry that it is of, 0 for the job's first run.
    """

    ref: str
    shard: int
    attempt: int
    crashes: int
    expands: bool = False
    look: bool = False
    retry: int = 0

    @property
    def member(self) -> str:
        """What the ledger calls it."""
        return f"e{self.shard}" if self.expands else str(self.shard)


@dataclass(frozen=True)
class FinishedShard:
    """What `finish` found: whether it counted, and the job's state now.

    `control_due` says that control work has become due, `admitted` how many more shards can be claimed.
    """

    verdict: str
    state: JobState
    control_due: bool
    admitted: int


class ModelCard(Wire):
    """A model as live workers serve it; `input_size` is [height, width], None where it varies."""

    name: str
    digest: str
    family: str
    labels: tuple[str, ...]
    threshold: float
    input_size: tuple[int, int] | None = None


def job_status(ref: str, fields: Mapping[str, str], now: float) -> JobStatus:
    """The status that a job's hash of the ledger tells at the time `now`."""
    if fields.get("report"):
        return JobStatus.model_validate_json(fields["report"])
    before = JobStatus.model_validate_json(fields["before"]) if fields.get("before") else None
    counts = Counts(
        total=int(fields["total"]) if fields["total"] else None,
        planned=int(fields["planned"]),
        succeeded=int(fields["succeeded"]),
        failed=int(fields["failed"]),
        skipped=int(fields["skipped"]),
    )
    times = {name: _time(fields, name) for name in ("started_at", "progress_at")}
    rate = _rate(counts, times["started_at"], times["progress_at"])
    left = None if counts.total is None else counts.total - counts.done
    going = fields["state"] in ("planning", "running")
    return JobStatus.model_validate(
        {
            "id": id_of(ref),
            "name": fields["name"] or None,
            "state": fields["state"],
            "model": fields["model"],
            "priority": int(fields["priority"]),
            "counts": _retried(before.counts, counts) if before else counts,
            "created_at": float(fields["created_at"]),
            "started_at": times["started_at"],
            "rate": rate,
            "eta_seconds": _eta(left, rate, times["progress_at"], now) if going else None,
            "output": fields.get("output") or None,
            "retries": int(fields.get("retry", 0)),
            "error": _error(fields),
            "trouble": _trouble(fields, now),
            "left_out": before.left_out if before else json.loads(fields.get("left_out", "{}")),
        }
    )


def _retried(before: Counts, run: Counts) -> Counts:
    """The counts of a job of which what `run` counts runs again; what a retry skips stays failed."""
    failed = before.failed - run.planned + run.failed + run.skipped
    return before.model_copy(update={"succeeded": before.succeeded + run.succeeded, "failed": failed})


def _error(fields: Mapping[str, str]) -> Failure | None:
    """Why the job failed: the scripts end a job for one reason only, its failure rate; all others are given."""
    if fields.get("error"):
        return Failure(**json.loads(fields["error"]))
    if fields["state"] != "failed":
        return None
    again = " again" if fields.get("before") else ""
    reason = f"{fields['failed']} items failed{again}, more than max_failure_rate {fields['max_failure_rate']} allows"
    return Failure(stage="run", code="too_many_failures", reason=reason)


def _trouble(fields: Mapping[str, str], now: float) -> str | None:
    """What a worker of the job waits for, if it said so lately."""
    fresh = float(fields.get("trouble_at", 0)) > now - TROUBLE_SECONDS
    return fields.get("trouble") if fresh else None


def _time(fields: Mapping[str, str], name: str) -> float | None:
    return float(fields[name]) if fields.get(name) else None


def _rate(counts: Counts, started_at: float | None, until: float | None) -> float | None:
    # What a cancelled job skips costs nothing.
    ran = counts.succeeded + counts.failed
    if started_at is None or until is None or until <= started_at or not ran:
        return None
    return round(ran / (until - started_at), 3)


def _eta(left: int | None, rate: float | None, progress_at: float | None, now: float) -> float | None:
    if left is None or not rate or progress_at is None:
        return None
    return round(max(left / rate - (now - progress_at), 0.0), 1)
