"""Whose request it is. What a request names is looked for among its tenant's jobs only: another's are not there."""

from __future__ import annotations

from maskmill.shared.jobs.keys import DEFAULT_TENANT


def tenant_of_request() -> str:
    """The tenant of the request in hand: always the default one, as nothing in a request tells another."""
    return DEFAULT_TENANT
