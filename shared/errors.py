"""Every error Maskmill raises on purpose, in one tree; the class decides code, HTTP status and retry.

MaskmillError               a fault of Maskmill's own; the log has more
├── RequestError            the request asks for something wrong; the reason says what
│   ├── InvalidRequest          a field is missing, unknown or out of range; `errors` point at it
│   ├── UnknownModel            no worker serves that model; the reason lists those served
│   ├── UnknownClass            the model has no class of that label or number; the reason lists its labels
│   ├── NotFound                no such job, item or artifact
│   ├── Conflict                the job's state does not allow it
│   ├── BodyTooLarge            too many bytes or sources in one request; send several jobs, or name a folder
│   ├── ForeignHost             the Host header names another server; MASKMILL_API_TRUSTED_HOSTS lists further names
│   ├── PathRefused             outside MASKMILL_LOCAL_ROOTS, or asked for by a page of another site
│   └── BucketRefused           MASKMILL_BUCKETS does not let it be read or written; the reason has the line to add
├── InputError              the input cannot become a picture
│   ├── EmptyInput              the input has no bytes
│   ├── UnsupportedFormat       the bytes are of no format that is read here
│   ├── UnreadableInput         the right format, but broken
│   ├── TruncatedInput          the data ends before the picture does; send the whole file
│   ├── TooManyPixels           larger than MASKMILL_MAX_PIXELS, by its header
│   ├── TooManyBytes            larger than MASKMILL_MAX_INPUT_BYTES
│   ├── TooManyPages            more pages than MASKMILL_MAX_PAGES; name a page range
│   ├── PdfEncrypted            the PDF needs a password, or the one given is wrong
│   ├── PdfNoPages              the PDF lacks the pages asked for
│   ├── PdfPageTooLarge         a page would be too many pixels; lower the dpi
│   ├── InputNotFound           the file or object is not there
│   ├── ManifestInvalid         a manifest, or a row of it, cannot be read; the reason says which line and what is read
│   ├── UrlRefused              a scheme or address that may not be fetched; MASKMILL_ALLOW_NETWORKS opens private ones
│   ├── UrlNotFound             the server answered 404 or 410
│   ├── UrlFailed               the server answered another status that will not get better
│   ├── UrlTooLarge             the body is larger than MASKMILL_MAX_INPUT_BYTES
│   ├── ResultTooLarge          the dense masks would be too large; use rle
│   ├── ObjectRefused           the storage works, and refuses this one object
│   ├── ObjectArchived          the object lies in an archive (GLACIER, DEEP_ARCHIVE); restore it first
│   ├── ObjectEncrypted         its store needs a key to decrypt it (SSE-KMS, SSE-C) that is not there, or not permitted
│   ├── ObjectGone              the object was listed, and is not there any more
│   ├── ObjectChanged           the object is not the one that was listed; submit it again
│   ├── ArchiveBroken           the archive is damaged, or is none
│   ├── ArchiveTruncated        the archive's end is missing; send the whole file
│   ├── ArchiveOverlaps         files of the zip share bytes, as in a bomb
│   ├── ArchiveBomb             it would unpack to more than 200 times its bytes
│   ├── ArchiveTooLarge         more files than MASKMILL_MAX_MEMBERS, or more bytes than MASKMILL_MAX_ARCHIVE_BYTES
│   ├── ArchiveNested           an archive inside an archive; unpack the outer one
│   ├── MemberEncrypted         the file in the archive is encrypted; no password is asked for
│   ├── MemberUnsupported       packed in a way that is not read here: stored, deflated and bzip2 are
│   ├── MemberBroken            its bytes are not those that the archive announces: their number or their checksum
│   └── WorkerCrashed           the input killed its worker twice
├── Unavailable             a service does not answer now
│   ├── StorageUnavailable      the storage does not answer, or is full
│   ├── LedgerUnavailable       Redis does not answer, or is in a state that an operator mends; the reason says which
│   ├── UrlTimeout              the server did not deliver within MASKMILL_URL_TIMEOUT
│   ├── UrlUnreachable          no connection, or a 5xx or 429 answer
│   ├── Overloaded              too many requests wait, or too many bytes are read at once; try again after Retry-After
│   └── ReplyTimeout            no worker answered within MASKMILL_INTERACTIVE_TIMEOUT
├── StorageError            the storage answered, and said no
│   ├── StorageRefused          wrong keys, no bucket or no permission; the work waits
│   ├── InvalidKey              a name that the storage cannot hold
│   └── KeyNotFound             nothing is stored under that key
├── LedgerError             a move that the ledger does not allow
│   └── IllegalMove             the job's state does not lead there
├── ModelError              the model did not run
│   ├── ModelInvalid            its files or tensors are not as its family needs
│   └── DeviceUnavailable       the device cannot run it here; the reason says what is missing
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


class UnknownClass(RequestError):
    code, status = "unknown_class", 422


class NotFound(RequestError):
    code, status = "not_found", 404


class Conflict(RequestError):
    code, status = "conflict", 409


class BodyTooLarge(RequestError):
    code, status = "body_too_large", 413


class ForeignHost(RequestError):
    code, status = "foreign_host", 421


class PathRefused(RequestError):
    code, status = "path_refused", 403


class BucketRefused(RequestError):
    code, status = "bucket_refused", 403


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


class ManifestInvalid(InputError):
    code = "bad_manifest"


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


class ObjectArchived(InputError):
    code = "archived"


class ObjectEncrypted(InputError):
    code = "encrypted_object"


class ObjectGone(InputError):
    code = "gone"


class ObjectChanged(InputError):
    code = "changed"


class ArchiveBroken(InputError):
    code = "archive_broken"


class ArchiveTruncated(InputError):
    code = "archive_truncated"


class ArchiveOverlaps(InputError):
    code = "archive_overlaps"


class ArchiveBomb(InputError):
    code = "archive_bomb"


class ArchiveTooLarge(InputError):
    code = "archive_too_large"


class ArchiveNested(InputError):
    code = "archive_nested"


class MemberEncrypted(InputError):
    code = "encrypted"


class MemberUnsupported(InputError):
    code = "unsupported_method"


class MemberBroken(InputError):
    code = "member_broken"


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
