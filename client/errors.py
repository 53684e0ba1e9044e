"""What the client raises."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import requests


class ClientError(Exception):
    """The service said no; `str(error)` is the reason, `status` HTTP's, `code` and `errors` the problem's."""

    def __init__(self, reason: str, *, status: int = 0, code: str = "client", errors: Sequence[Any] = ()) -> None:
        super().__init__(reason)
        self.reason, self.status, self.code, self.errors = reason, status, code, tuple(errors)


class ServiceUnreachable(ClientError):
    """Nobody answers at the URL, or the service says that it cannot answer now."""


def error_of(answer: requests.Response) -> ClientError:
    """The error that an answer of status 400 or more tells of."""
    try:
        problem = answer.json()
        reason, code = str(problem.get("detail") or problem.get("errorMsg")), str(problem.get("code", "http"))
        errors = problem.get("errors", ())
    except (ValueError, AttributeError):
        reason, code, errors = f"HTTP {answer.status_code} {answer.reason}", "http", ()
    kind = ServiceUnreachable if answer.status_code in (502, 503, 504) else ClientError
    return kind(reason, status=answer.status_code, code=code, errors=errors)
