"""Read a user's bucket: list its objects in the order of their keys, and get those that were listed.

Keys are taken as they are: unlike our own storage's they may hold `//`, `..` or a slash at their end.
"""

from __future__ import annotations

import contextlib
import io
import threading
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, cast

from maskmill.shared.buckets import Buckets, ObjectUrl
from maskmill.shared.errors import (
    EmptyInput,
    MaskmillError,
    ObjectArchived,
    ObjectChanged,
    ObjectEncrypted,
    ObjectGone,
    ObjectRefused,
    StorageRefused,
    TooManyBytes,
)
from maskmill.shared.settings import Settings

if TYPE_CHECKING:
    from maskmill.shared.storage.s3_client import S3Bucket

# Not a code of S3's: what S3Bucket calls all that it says of a key that is lacking.
ENCRYPTED = "Encrypted"
KEYS_A_PAGE = 1000
OF_AN_OBJECT: dict[str, type[MaskmillError]] = {
    **dict.fromkeys(("NoSuchKey", "NoSuchVersion", "404"), ObjectGone),
    **dict.fromkeys(("PreconditionFailed", "412"), ObjectChanged),
    **dict.fromkeys(("InvalidRange", "416"), EmptyInput),
    "InvalidObjectState": ObjectArchived,
    ENCRYPTED: ObjectEncrypted,
    **dict.fromkeys(("KeyTooLongError", "InvalidObjectName", "InvalidArgument", "InvalidURI"), ObjectRefused),
}


# To GET these is answered with 403; so it may be with INTELLIGENT_TIERING, of which a listing does not tell.
ARCHIVES = frozenset({"GLACIER", "DEEP_ARCHIVE"})


class ListedObject(NamedTuple):
    """An object as a listing tells it; `size` in bytes, `etag` with its quotes, as HTTP has it."""

    key: str
    size: int
    etag: str
    storage_class: str

    @property
    def is_archived(self) -> bool:
        """Whether it has to be restored before it can be read."""
        return self.storage_class in ARCHIVES


class Pin(NamedTuple):
    """Which object of a key is meant, by the names that GetObject has for it: the one that was listed, or a version."""

    IfMatch: str | None = None
    VersionId: str | None = None


class Opened(NamedTuple):
    """An object that is being read, and its ETag as a pin has it."""

    etag: str | None
    body: BinaryIO


class BucketReader:
    """Reads one bucket; safe in many threads.

    Every method raises StorageUnavailable or StorageRefused where it is the bucket, and one of the InputErrors of
    errors.py where it is the object.
    """

    def __init__(self, bucket: S3Bucket, *, requester_pays: bool) -> None:
        self._bucket = bucket
        self._paying: dict[str, Any] = {"RequestPayer": "requester"} if requester_pays else {}

    def list(self, prefix: str, start_after: str = "", page_size: int = KEYS_A_PAGE) -> Iterator[list[ListedObject]]:
        """The objects whose keys begin with `prefix` and come after `start_after`, in UTF-8 order, page by page."""
        while True:
            with self._errors(prefix, {}):
                answer = self._bucket.client.list_objects_v2(
                    Bucket=self._bucket.name,
                    Prefix=prefix,
                    StartAfter=start_after,
                    MaxKeys=page_size,
                    **self._paying,
                )
            page = [
                ListedObject(one["Key"], one["Size"], one["ETag"], one.get("StorageClass", "STANDARD"))
                for one in answer.get("Contents", ())
            ]
            if page:
                yield page
            if not answer.get("IsTruncated") or not page:
                return
            # Unlike a continuation token, a key never expires.
            start_after = page[-1].key

    def get(self, key: str, pin: Pin, most: int) -> bytes:
        """All bytes of the object; raises TooManyBytes before more than `most` are read."""
        with self._object(key, pin) as answer:
            if (size := answer["ContentLength"]) > most:
                raise TooManyBytes(f"{key!r} has {size} bytes, more than MASKMILL_MAX_INPUT_BYTES, {most}")
            data: bytes = answer["Body"].read()
            return data

    def head(self, key: str, pin: Pin, count: int) -> bytes:
        """Its first `count` bytes, or all where there are fewer."""
        return self.range(key, pin, 0, count)

    def range(self, key: str, pin: Pin, start: int, count: int) -> bytes:
        """Its bytes from `start` on, `count` or as many as there are; EmptyInput where there is none."""
        with self._object(key, pin, Range=f"bytes={start}-{start + count - 1}") as answer:
            data: bytes = answer["Body"].read(count)
            return data

    def look(self, key: str, pin: Pin) -> tuple[int, str]:
        """How many bytes the object has, and its ETag."""
        with self._object(key, pin, Range="bytes=0-0") as answer:
            return int(answer["ContentRange"].rpartition("/")[2]), answer["ETag"]

    @contextlib.contextmanager
    def open(self, key: str, pin: Pin, start: int = 0) -> Iterator[Opened]:
        """The object from byte `start` on, forward only; from its end on there is nothing to read."""
        more = {"Range": f"bytes={start}-"} if start else {}
        with contextlib.ExitStack() as held:
            try:
                answer = held.enter_context(self._object(key, pin, **more))
            except EmptyInput:
                yield Opened(pin.IfMatch, io.BytesIO())
                return
            body = cast("BinaryIO", io.BufferedReader(cast("io.RawIOBase", answer["Body"]), 1 << 16))
            yield Opened(answer.get("ETag"), body)

    @contextlib.contextmanager
    def _object(self, key: str, pin: Pin, **more: Any) -> Iterator[Any]:
        asked = {name: value for name, value in {**pin._asdict(), **more}.items() if value is not None}
        answer = self._answer(key, asked)
        with self._errors(key, OF_AN_OBJECT), contextlib.closing(answer["Body"]):
            yield answer

    def _answer(self, key: str, asked: Mapping[str, Any]) -> Any:
        """What the store answers; a refusal is put to the test: of the object alone is what the bucket can be listed
        after, and which is refused again.
        """
        with contextlib.suppress(StorageRefused):
            return self._get(key, asked)
        next(self.list("", page_size=1), None)
        try:
            return self._get(key, asked)
        except StorageRefused as error:
            raise ObjectRefused(f"{error.reason}; the bucket itself can be listed") from error

    def _get(self, key: str, asked: Mapping[str, Any]) -> Any:
        with self._errors(key, OF_AN_OBJECT):
            return self._bucket.client.get_object(Bucket=self._bucket.name, Key=key, **asked, **self._paying)

    def _errors(self, key: str, known: Mapping[str, type[MaskmillError]]) -> AbstractContextManager[None]:
        return self._bucket.errors(key, known)


class BucketReaders:
    """A reader for each bucket that may be read, opened when it is first asked for; safe in many threads."""

    def __init__(self, settings: Settings) -> None:
        """Raises CannotStart where the settings' file of buckets is wrong."""
        self._settings, self._buckets = settings, Buckets.of(settings)
        self._open: dict[str, BucketReader] = {}
        self._lock = threading.Lock()

    def check(self, url: ObjectUrl) -> None:
        """Raise BucketRefused where `url` may not be read; nothing is opened."""
        self._buckets.check(url, "read")

    def reader(self, url: ObjectUrl) -> BucketReader:
        """The reader of its bucket; raises BucketRefused where `url` may not be read."""
        bucket = self._buckets.check(url, "read")
        # boto3 takes a third of a second to import, which a process without buckets need not pay.
        from maskmill.shared.storage.s3_client import S3Bucket

        with self._lock:
            if url.bucket not in self._open:
                server = self._buckets.server(url.bucket)
                at = S3Bucket(server, url.bucket, threads=self._settings.fetch_threads)
                self._open[url.bucket] = BucketReader(at, requester_pays=bucket.requester_pays)
            return self._open[url.bucket]
