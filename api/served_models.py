"""Which models live workers serve, and in which lanes."""

from __future__ import annotations

from maskmill.shared.jobs.records import Lane
from maskmill.shared.ledger import Ledger

LANES: tuple[Lane, ...] = ("bulk", "interactive")


def served_models(ledger: Ledger) -> dict[str, dict[Lane, bool]]:
    """By model and lane whether a worker serves it; only models that some worker serves. Raises LedgerUnavailable."""
    workers = ledger.workers()
    names = sorted({card.name for cards in workers.values() for card in cards})
    pairs = {(card.name, _lane_of(owner)) for owner, cards in workers.items() for card in cards}
    return {name: {lane: (name, lane) in pairs for lane in LANES} for name in names}


def _lane_of(owner: str) -> str:
    """The lane of a worker, which the ledger knows as host/device/lane/pid."""
    host_device_lane_pid = owner.rsplit("/", 3)
    return host_device_lane_pid[2] if len(host_device_lane_pid) == 4 else ""
