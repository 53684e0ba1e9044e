"""Committing a shard: its outcomes file, written once and whole, is the commit; the ledger only counts it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from maskmill.shared.errors import KeyNotFound
from maskmill.shared.jobs import keys
from maskmill.shared.jobs.records import Item, Outcome, OutcomeStatus
from maskmill.shared.ledger import Ledger
from maskmill.shared.storage import Storage
from maskmill.worker.retry import patiently


def commit(storage: Storage, job_id: str, shard: int, outcomes: Iterable[Outcome]) -> dict[str, int]:
    """Store the outcomes, unless another attempt has; the counts of those that are stored."""
    lines = [outcome.model_dump_json() for outcome in sorted(outcomes, key=lambda outcome: outcome.number)]
    data = "".join(f"{line}\n" for line in lines).encode()
    key = keys.outcome(job_id, shard)
    if not patiently(storage.put, key, data, if_absent=True):
        data = patiently(storage.get, key)
    return count(read_outcomes(data))


def settle_stored(storage: Storage, ledger: Ledger, job_id: str, shard: int) -> bool:
    """Count a shard whose outcomes are stored already; False where they are not."""
    counts = stored_counts(storage, job_id, shard)
    if counts is None:
        return False
    patiently(ledger.settle, job_id, shard, counts)
    return True


def stored_counts(storage: Storage, job_id: str, shard: int) -> dict[str, int] | None:
    """The counts of a shard's stored outcomes, or None."""
    try:
        return count(read_outcomes(patiently(storage.get, keys.outcome(job_id, shard))))
    except KeyNotFound:
        return None


def read_outcomes(data: bytes) -> Iterator[Outcome]:
    """The outcomes of an outcomes file."""
    return map(Outcome.model_validate_json, data.splitlines())


def count(outcomes: Iterable[Outcome]) -> dict[str, int]:
    """How many outcomes there are of each status."""
    return dict(Counter[str](outcome.status for outcome in outcomes))


def outcome_of(item: Item, status: OutcomeStatus, **details: object) -> Outcome:
    """The outcome of `item`."""
    identity = {"number": item.number, "input_path": item.input_path, "page_index": item.page_index}
    return Outcome.model_validate({**identity, "status": status, **details})
