"""Request bodies: read within their limits, parsed as JSON whatever the Content-Type says."""

from __future__ import annotations

import json
from typing import Any

from flask import request

from maskmill.shared.errors import BodyTooLarge, RequestError
from maskmill.shared.settings import Settings

# A JSON document is in memory several times while it is parsed; files of any size go as multipart/form-data.
JSON_BYTES = 64 << 20


def read_json_bytes(settings: Settings) -> bytes:
    """The request's body; raises BodyTooLarge past what JSON may have."""
    limit = min(JSON_BYTES, settings.max_body_bytes)
    # A body sent in chunks does not announce its length: one byte more tells that it is too long.
    request.max_content_length = limit + 1
    body = b"" if (request.content_length or 0) > limit else request.get_data(cache=False)
    if max(request.content_length or 0, len(body)) > limit:
        raise BodyTooLarge(
            f"a JSON body may have {limit} bytes at most; give a URL, or send files to /v1/jobs as multipart/form-data"
        )
    return body


def parse_json(body: bytes) -> Any:
    """The JSON document of a body; raises RequestError that says where it is broken."""
    try:
        return json.loads(body)
    except UnicodeDecodeError as error:
        raise RequestError(f"the body is not UTF-8: byte {error.start}") from None
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise RequestError(f"the body is not JSON: {error.msg} at {where}") from None
    except RecursionError:
        raise RequestError("the body is nested too deeply") from None
    except ValueError:
        raise RequestError("a number in the body has too many digits") from None
