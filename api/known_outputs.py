"""Where the artifacts of jobs go, remembered for a while: whoever downloads a job's artifacts asks for it with each."""

from __future__ import annotations

import time
from functools import lru_cache

from maskmill.shared.errors import NotFound
from maskmill.shared.jobs import deletions
from maskmill.shared.jobs.job_files import JobFiles
from maskmill.shared.jobs.keys import id_of
from maskmill.shared.storage import Storage

KEPT = 1000
# So long another process may still hand out what a job left in its output that is deleted.
KEPT_SECONDS = 5.0


class KnownOutputs:
    """Tells where a job's artifacts go, if not beside it; safe in many threads."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._asked = lru_cache(KEPT)(self._ask)

    def __call__(self, ref: str) -> str | None:
        """The URL of its output; raises NotFound."""
        return self._asked(ref, int(time.monotonic() / KEPT_SECONDS))

    def forget(self) -> None:
        """A job is deleted: ask anew."""
        self._asked.cache_clear()

    def _ask(self, ref: str, _period: int) -> str | None:
        head = None if deletions.is_under_way(self._storage, ref) else JobFiles(self._storage, ref).head()
        if head is None:
            raise NotFound(f"there is no job {id_of(ref)}")
        return head.output
