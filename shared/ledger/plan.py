"""The moves of planning: pages of a job's items become shards that can be claimed."""

from __future__ import annotations

from maskmill.shared.connection import reachable
from maskmill.shared.folder_inputs import LeftOut
from maskmill.shared.jobs.records import PlanCursor, Rollup
from maskmill.shared.ledger.moves import Moves, counts_of
from maskmill.shared.ledger.records import PlannedPages, PlanStart, Work


class PlanMoves(Moves):
    """What a planner tells, each time with the control work that gives it the right to."""

    def begin_plan(self, ref: str, work: Work) -> PlanStart | None:
        """Where to go on planning the job, or None where nothing is left to plan, or not now."""
        found = self._move("begin_plan", ref, work.token)
        if found is None:
            return None
        pages, shards, planned, cursor, recovered, left_out, retry = found
        at = PlanCursor.model_validate_json(cursor) if cursor else PlanCursor()
        return PlanStart(pages, shards, planned, at, bool(recovered), LeftOut.model_validate_json(left_out), retry)

    def add_pages(self, ref: str, work: Work, first: int, added: PlannedPages) -> tuple[str, int]:
        """Count stored pages from the page number `first` on: ("added", shards that can be claimed now).

        Or ("stale", 0) where another planner went on, or the job's state where it is not planned any more.
        """
        cursor = added.cursor.model_dump_json() if added.cursor else ""
        last = "1" if added.cursor is None else "0"
        left_out = added.left_out.model_dump_json()
        verdict, *count = self._move(
            "add_pages", ref, work.token, first, added.pages, added.shards, added.items, cursor, last, left_out
        )
        return str(verdict), int(count[0]) if count else 0

    def add_expansion(self, ref: str, work: Work, chunk: int) -> str:
        """Let a worker look into a stored chunk: "added", "stale", or the job's state."""
        return str(self._move("add_expansion", ref, work.token, chunk))

    def is_looked_into(self, ref: str, chunk: int) -> bool:
        """Whether no worker has to look into the chunk any more."""
        with reachable():
            return not self._redis.hexists(self._key("job", ref, "shards"), f"e{chunk}")

    def adopt_rollup(self, ref: str, work: Work, first: int, rollup: Rollup) -> bool:
        """Count shards from the shard `first` on by their stored roll-up, in a job that was entered anew."""
        counts = counts_of(rollup.model_dump())
        return bool(self._move("adopt_rollup", ref, work.token, first, rollup.shards, *counts))
