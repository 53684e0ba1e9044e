"""The ledger: who owns which shard, and what is finished; every decision is one atomic move in Redis.

Two rules hold everywhere:

1. Storage is the truth. A shard is committed once its outcomes file is stored; the ledger only counts it.
   A ledger that comes back empty is entered again from storage and loses nothing.
2. Whoever moves something shows the attempt that it was given. A stale attempt moves nothing.

Moves (one .lua file each): enter · claim_plan · add_shard · rest_plan · end_plan · claim · renew · release ·
finish · move (cancel, pause, resume, fail) · close. Keys, below the prefix:

    jobs, open              all jobs by creation; those whose report is not stored yet
    job:ID                  state, counts, planner's cursor and right (hash)
    job:ID:shards           the shards not finished yet: items, attempt, crashes, owner (hash of JSON)
    job:ID:ready            those that nobody holds (sorted by number)
    job:ID:journal          in careful mode: "shard:item" -> times touched and not yet survived
    leases                  "job/shard" -> when its lease ends
    turns:MODEL, turn       jobs with ready shards, by priority, then by who waited longest
    workers                 what each live worker serves (hash of JSON)
"""

from maskmill.shared.ledger.records import FinishedShard, ModelCard, PlanLease, ShardLease
from maskmill.shared.ledger.store import Ledger

__all__ = ["FinishedShard", "Ledger", "ModelCard", "PlanLease", "ShardLease"]
