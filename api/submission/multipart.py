"""A multipart/form-data body read part by part, so that no more than a piece of it is in memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.sansio.multipart import Data, Epilogue, Event, Field, File, MultipartDecoder, NeedData

from maskmill.shared.errors import BodyTooLarge, RequestError

PIECE_BYTES = 1 << 16
# A part's headers and the piece being searched for a boundary share the decoder's buffer.
BUFFER_BYTES = 1 << 20


@dataclass(frozen=True)
class Part:
    """One part; `pieces` must be read before the next part is asked for. `filename` is None for a plain field."""

    name: str
    filename: str | None
    pieces: Iterator[bytes]


def parts(stream: IO[bytes], boundary: str) -> Iterator[Part]:
    """The parts of a body in their order; raises RequestError where it is not well formed or ends early."""
    if not boundary:
        raise RequestError("multipart/form-data needs a boundary in its Content-Type")
    events = _events(stream, boundary.encode())
    for event in events:
        if isinstance(event, File):
            yield Part(event.name, event.filename, _pieces(events))
        elif isinstance(event, Field):
            yield Part(event.name, None, _pieces(events))


def _pieces(events: Iterator[Event]) -> Iterator[bytes]:
    for event in events:
        if isinstance(event, Data):
            yield event.data
            if not event.more_data:
                return


def _events(stream: IO[bytes], boundary: bytes) -> Iterator[Event]:
    decoder = MultipartDecoder(boundary, max_form_memory_size=BUFFER_BYTES)
    event: Event = NeedData()
    try:
        while not isinstance(event, Epilogue):
            event = decoder.next_event()
            if isinstance(event, NeedData):
                decoder.receive_data(stream.read(PIECE_BYTES) or None)
            else:
                yield event
    except RequestEntityTooLarge as error:
        # The decoder raises the same for a header without end and the stream for a body past its limit.
        raise BodyTooLarge("the request body, or the header of one of its parts, is too large") from error
    except ValueError as error:
        raise RequestError(f"the multipart body is not well formed or ends early: {error}") from error
