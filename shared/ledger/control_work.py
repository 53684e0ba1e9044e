"""Control work: what is to be done for a job beside its shards, as rows with a due time, a lease and an end."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import cast

from maskmill.shared.connection import reachable, redis_now
from maskmill.shared.ledger.moves import Moves
from maskmill.shared.ledger.records import Work


class WorkMoves(Moves):
    """A row is due, then leased by one control worker, then done, or due again later."""

    def add_work(self, names: Iterable[str]) -> int:
        """Let control work be due, by its names, where the ledger does not know of it; how much it did not."""
        asked = list(names)
        return int(self._move("add_work", *asked)) if asked else 0

    def claim_work(self) -> Work | None:
        """Lease what has been due longest, or None where nothing is due."""
        found = self._move("claim_work", self.lease_seconds)
        if found is None:
            return None
        name, token, failures, error = found
        kind, ref, *rest = str(name).split("/")
        return Work(kind, ref, rest[0] if rest else "", token, failures, error)

    def renew_work(self, work: Work, *, progress: bool = False) -> bool:
        """Keep the lease; False where it is lost. `progress` forgets earlier failures."""
        return bool(self._move("renew_work", work.name, work.token, self.lease_seconds, int(progress)))

    def end_work(self, work: Work) -> bool:
        """It is done; False where another has it."""
        return bool(self._move("end_work", work.name, work.token, "", "", "0"))

    def put_off_work(self, work: Work, seconds: float, error: str = "", *, blameless: bool = False) -> bool:
        """It is due again in so many seconds, or at once if something happened meanwhile; False where another has it.

        With an `error` it counts as a failure unless it is `blameless`: a service that was away.
        """
        return bool(self._move("end_work", work.name, work.token, seconds, error, int(blameless)))

    def is_planned_now(self, ref: str) -> bool:
        """Whether somebody has the planning of the job in hand."""
        with reachable():
            row = cast("str | None", self._redis.hget(self._key("work", "rows"), f"plan/{ref}"))
        return row is not None and "token" in json.loads(row)

    def note_folded(self, work: Work, shard: int) -> bool:
        """Of what a retry gave, all before this shard of it is folded back; False where another closes the job."""
        return bool(self._move("note_folded", work.ref, work.token, shard))

    def folded(self, ref: str) -> int:
        """With which shard of the retry folding back goes on."""
        with reachable():
            return int(cast("str | None", self._redis.hget(self._key("job", ref), "folded")) or 0)

    def tell_trouble(self, ref: str, what: str) -> None:
        """Note what the job waits for, to be seen in its status for a minute."""
        self._move("tell_trouble", ref, what)

    def due_work(self) -> int:
        """How many rows are due."""
        with reachable():
            return int(self._redis.zcount(self._key("work", "due"), "-inf", redis_now(self._redis)))
