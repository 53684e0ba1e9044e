"""The outcome of an item."""

from __future__ import annotations

from maskmill.shared.jobs.records import Item, Outcome, OutcomeStatus


def outcome_of(item: Item, status: OutcomeStatus, **details: object) -> Outcome:
    """The outcome of `item`."""
    identity = {"number": item.number, "input_path": item.input_path, "page_index": item.page_index}
    return Outcome.model_validate({**identity, "status": status, **details})
