"""Request bodies: read within their limits, parsed as JSON whatever the Content-Type says."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable
from contextlib import ExitStack
from functools import partial
from typing import Any

from flask import g, request

from maskmill.api.services import services
from maskmill.shared.errors import BodyTooLarge, RequestError
from maskmill.shared.settings import Settings

# A JSON document is in memory several times while it is parsed; files of any size go as multipart/form-data.
JSON_BYTES = 64 << 20
# Bodies up to here are read and parsed in any number, as there are no more of them than threads.
SMALL_BYTES = 1 << 20
PIECE_BYTES = 1 << 16


def read_json_bytes(settings: Settings) -> bytes:
    """The request's body; raises BodyTooLarge past what JSON may have, Overloaded where too many large ones are here.

    A large body is granted its room in memory once it is here whole: who sends slowly keeps nobody waiting. The room is
    held until `release_room`.
    """
    limit = min(JSON_BYTES, settings.max_body_bytes)
    too_large = (
        f"a JSON body may have {limit} bytes at most; give a URL, or send files to /v1/jobs as multipart/form-data"
    )
    if (request.content_length or 0) > limit:
        raise BodyTooLarge(too_large)
    # A body sent in chunks does not announce its length: one byte more tells that it is too long.
    request.max_content_length = limit + 1
    return gather(iter(partial(request.stream.read, PIECE_BYTES), b""), limit, too_large)


def gather(pieces: Iterable[bytes], limit: int, too_large: str) -> bytes:
    """The pieces joined, large ones by way of a temporary file; raises BodyTooLarge and Overloaded."""
    with tempfile.SpooledTemporaryFile(SMALL_BYTES, prefix="maskmill-body-") as body:
        for piece in pieces:
            body.write(piece)
            if body.tell() > limit:
                raise BodyTooLarge(too_large)
        if body.tell() > SMALL_BYTES:
            hold_room(body.tell())
        body.seek(0)
        return body.read()


def hold_room(size: int) -> None:
    """Let this request have `size` bytes in memory, several times over while it works on them; raises Overloaded."""
    if "room" not in g:
        g.room = ExitStack()
    g.room.enter_context(services().large_bodies.hold(size))


def release_room(_error: BaseException | None = None) -> None:
    """Give back what this request was granted; the bytes are to be dropped before."""
    if room := g.pop("room", None):
        room.close()


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
