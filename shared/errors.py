"""Every error Maskmill raises on purpose, in one tree; the class decides code, HTTP status and retry.

MaskmillError
├── RequestError            the caller asked for something wrong            4xx, never retried
│   ├── InvalidRequest          a field is missing, unknown or out of range
│   ├── UnknownModel            no worker serves a model of that name
│   ├── NotFound                no such job, item or artifact
│   ├── Conflict                the job's state does not allow it
│   ├── BodyTooLarge            more bytes than the API accepts
│   └── PathRefused             a local path outside the configured roots
├── InputError              one input cannot become an Image               that item fails, its neighbours do not
│   ├── EmptyInput              zero bytes
│   ├── UnsupportedFormat       bytes of no format that is read here
│   ├── UnreadableInput         the right format, but broken
│   ├── TruncatedInput          the data ends before the picture does
│   ├── TooManyPixels           the header announces more pixels than allowed
│   ├── TooManyBytes            more bytes than allowed
│   ├── TooManyPages            more pages than allowed
│   ├── PdfEncrypted            a password is needed, or the one given is wrong
│   ├── PdfNoPages              a PDF without the pages asked for
│   ├── PdfPageTooLarge         a page whose rendering would pass the pixel limit
│   ├── InputNotFound           the file or object is not there
│   ├── UrlRefused              scheme or address that may not be fetched
│   ├── UrlNotFound             404 or 410
│   ├── UrlFailed               another HTTP status that will not get better
│   ├── UrlTooLarge             the body passes the byte limit
│   ├── ResultTooLarge          its masks are too large for the form asked for
│   ├── ObjectRefused           the store works, and refuses this one object
│   └── WorkerCrashed           the input killed its worker twice
├── Unavailable             a service does not answer                      503, retried
│   ├── StorageUnavailable      the store is away or full
│   ├── LedgerUnavailable       Redis is away, or in a state that an operator mends
│   ├── UrlTimeout              the server did not deliver in time
│   ├── UrlUnreachable          no connection, or a 5xx / 429 answer
│   ├── Overloaded              the interactive queue is full
│   └── ReplyTimeout            nobody answered the interactive request in time (504)
├── StorageError            the store answered, and said no
│   ├── StorageRefused          wrong credentials, no bucket, no permission: the work waits, loudly
│   ├── InvalidKey              a key that no store, or not this one, can hold
│   └── KeyNotFound             nothing is stored under that key
├── LedgerError             a move that the ledger's tables do not hold
│   └── IllegalMove             the job's state does not lead there
├── ModelError              a model cannot be loaded or run
│   ├── ModelInvalid            its files or tensors are not as its family needs
│   └── DeviceUnavailable       the device asked for cannot run it here
└── CannotStart             this machine lacks what a command needs: a port, a folder, a program
"""

from __future__ import annotations

from typing import ClassVar


class MaskmillError(Exception):
    """The root: `code` names the kind for programs, `str(error)` is the reason for people."""

    code: ClassVar[str] = "internal"
    status: ClassVar[int] = 500
    retryable: ClassVar[bool] = False

    def __init__(self, reason: str, *, pointer: str | None = None) -> None:
        """`pointer` is the JSON pointer of the request's field at fault, where there is one."""
        super().__init__(reason)
        self.reason = reason
        self.pointer = pointer


class RequestError(MaskmillError):
    code, status = "bad_request", 400


class InvalidRequest(RequestError):
    code, status = "invalid_request", 422


class UnknownModel(RequestError):
    code, status = "unknown_model", 422


class NotFound(RequestError):
    code, status = "not_found", 404


class Conflict(RequestError):
    code, status = "conflict", 409


class BodyTooLarge(RequestError):
    code, status = "body_too_large", 413


class PathRefused(RequestError):
    code, status = "path_refused", 403


class InputError(MaskmillError):
    code, status = "bad_input", 422


class EmptyInput(InputError):
    code = "empty"


class UnsupportedFormat(InputError):
    code = "unsupported_format"


class UnreadableInput(InputError):
    code = "unreadable"


class TruncatedInput(InputError):
    code = "truncated"


class TooManyPixels(InputError):
    code = "too_many_pixels"


class TooManyBytes(InputError):
    code = "too_many_bytes"


class TooManyPages(InputError):
    code = "too_many_pages"


class PdfEncrypted(InputError):
    code = "pdf_encrypted"


class PdfNoPages(InputError):
    code = "pdf_no_pages"


class PdfPageTooLarge(InputError):
    code = "pdf_page_too_large"


class InputNotFound(InputError):
    code = "input_not_found"


class UrlRefused(InputError):
    code = "url_refused"


class UrlNotFound(InputError):
    code = "url_not_found"


class UrlFailed(InputError):
    code = "url_failed"


class UrlTooLarge(InputError):
    code = "url_too_large"


class ResultTooLarge(InputError):
    code = "result_too_large"


class ObjectRefused(InputError):
    code = "object_refused"


class WorkerCrashed(InputError):
    code = "worker_crashed"


class Unavailable(MaskmillError):
    code, status, retryable = "unavailable", 503, True


class StorageUnavailable(Unavailable):
    code = "storage_unavailable"


class LedgerUnavailable(Unavailable):
    code = "ledger_unavailable"


class UrlTimeout(Unavailable):
    code = "url_timeout"


class UrlUnreachable(Unavailable):
    code = "url_unreachable"


class Overloaded(Unavailable):
    code = "overloaded"


class ReplyTimeout(Unavailable):
    code, status = "reply_timeout", 504


class StorageError(MaskmillError):
    code = "storage_error"


class StorageRefused(StorageError):
    code = "storage_refused"


class InvalidKey(StorageError):
    code, status = "invalid_key", 400


class KeyNotFound(StorageError):
    code, status = "key_not_found", 404


class LedgerError(MaskmillError):
    code, status = "ledger_error", 409


class IllegalMove(LedgerError):
    code = "illegal_move"


class ModelError(MaskmillError):
    code = "model_error"


class ModelInvalid(ModelError):
    code = "model_invalid"


class DeviceUnavailable(ModelError):
    code = "device_unavailable"


class CannotStart(MaskmillError):
    code = "cannot_start"
