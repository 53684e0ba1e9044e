"""The ledger: who owns which shard, and what is finished; every decision is one atomic move in Redis.

Two rules hold everywhere:

1. Storage is the truth. A shard is committed once its outcomes file is stored; the ledger only counts it.
   A ledger that comes back empty is entered again from storage and loses nothing.
2. Whoever moves something shows the attempt or the token that it was given. A stale one moves nothing.

Each move is one .lua file; _shared.lua, which stands before each of them, holds what several share. A job is called by
its ref everywhere. Keys, below the prefix:

    jobs:TENANT             a tenant's jobs by creation
    open, ended             the jobs whose report is not stored yet; when to forget those that ended
    job:REF                 state, counts, planner's cursor; of a retry also the status before it, and how far it is
                            folded back; of a job that is over its report (hash)
    job:REF:shards          shards that may be claimed or are: attempt, crashes, owner (hash of JSON); "eN" is chunk N
                            of the listing, which a worker looks into
    job:REF:ready           those that nobody holds (sorted by number)
    job:REF:done:G          counts of finished shards whose roll-up G is not stored yet (hash)
    job:REF:journal         in careful mode: "shard:item" -> times touched and not yet survived
    leases                  "REF/shard" -> when its lease ends
    tenants:MODEL           tenants with jobs in turn, by who waited longest
    turns:MODEL:TENANT      a tenant's jobs with ready shards, by priority, then by who waited longest
    turn                    counts the turns: who was given a lower one has waited longer
    models                  the models of which something may be ready
    work:due, work:rows     control work "plan/REF", "rollup/REF/G", "close/REF", "delete/REF/job": when it is due or
                            its lease ends; its row
    work:token              the last token of a lease of control work; the first is the time, in milliseconds
    workers, seen           what each live worker serves (hash of JSON); when it last said so
"""

from maskmill.shared.ledger.records import (
    EnteredState,
    FinishedShard,
    ModelCard,
    PlannedPages,
    PlanStart,
    ShardLease,
    Work,
)
from maskmill.shared.ledger.store import Ledger

__all__ = [
    "EnteredState",
    "FinishedShard",
    "Ledger",
    "ModelCard",
    "PlanStart",
    "PlannedPages",
    "ShardLease",
    "Work",
]
