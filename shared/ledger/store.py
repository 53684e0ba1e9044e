"""The ledger as one object."""

from __future__ import annotations

from maskmill.shared.ledger.control_work import WorkMoves
from maskmill.shared.ledger.jobs import JobMoves
from maskmill.shared.ledger.plan import PlanMoves
from maskmill.shared.ledger.shards import ShardMoves
from maskmill.shared.ledger.workers import WorkerMoves


class Ledger(JobMoves, PlanMoves, ShardMoves, WorkMoves, WorkerMoves):
    """Job states and counts, shard claims and leases, control work, live workers.

    Every method raises LedgerUnavailable when Redis is away.
    """
