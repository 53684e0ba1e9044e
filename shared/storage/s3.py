"""Storage in an S3-compatible bucket."""

from __future__ import annotations

import contextlib
import io
import itertools
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, cast

from boto3.s3.transfer import TransferConfig
from botocore.exceptions import ClientError
from botocore.response import StreamingBody

from maskmill.shared.buckets import S3Server
from maskmill.shared.errors import EmptyInput, InvalidKey, InvalidRequest, KeyNotFound, MaskmillError, ObjectRefused
from maskmill.shared.settings import Settings
from maskmill.shared.storage.probe import PROBES, Probe
from maskmill.shared.storage.protocol import BYTES, MAX_KEY_BYTES, check_key, check_prefix
from maskmill.shared.storage.s3_client import PASSING, S3Bucket, code_of, status_of

CONFLICT_PAUSES = (0.05, 0.1, 0.2, 0.4, 0.8)
NO_KEY: dict[str, type[MaskmillError]] = dict.fromkeys(("NoSuchKey", "404", "NotFound"), KeyNotFound)
# What a store says of one object, whatever it says of others.
OF_THE_OBJECT: dict[str, type[MaskmillError]] = {
    "KeyTooLongError": InvalidKey,
    "InvalidObjectName": InvalidKey,
    "XMinioInvalidObjectName": InvalidKey,
    "EntityTooLarge": ObjectRefused,
    "InvalidObjectState": ObjectRefused,
}
BEHIND_THE_END: dict[str, type[MaskmillError]] = dict.fromkeys(("InvalidRange", "416"), EmptyInput)
# The most that S3 takes in one request to delete.
KEYS_A_DELETE = 1000
# What a store says that deletes no batches, or not this one: without Content-MD5, or with a key that no XML can hold.
NO_BATCH = (400, 405, 501)
# Half of a key's bytes: the other half is for what a job stores.
MAX_PREFIX_BYTES = 512


class S3Storage:
    """Keys below `prefix` of one bucket; a page of a listing holds `page_size` keys.

    Raises InvalidRequest for a prefix that leaves keys no room, or that no key can have.
    """

    def __init__(
        self,
        settings: Settings,
        bucket: str,
        prefix: str = "",
        *,
        server: S3Server | None = None,
        page_size: int = 1000,
    ) -> None:
        """The bucket is one of `server`, else of the settings' own."""
        threads = settings.fetch_threads + settings.store_threads + settings.api_threads
        self._bucket = S3Bucket(server or S3Server.of_storage(settings), bucket, threads=threads)
        self._prefix = _checked(prefix.strip("/"))
        self._room = MAX_KEY_BYTES - len(self._prefix.encode())
        self._page_size = page_size
        self._client = self._bucket.client
        self._public = _public(settings, self._bucket, server)
        self._probe = Probe(self)

    def put(self, key: str, data: bytes, *, content_type: str = BYTES, if_absent: bool = False) -> bool:
        full = self._full(key)
        with self._errors(key):
            if if_absent:
                return self._put_if_absent(full, data, content_type)
            self._client.put_object(Bucket=self._bucket.name, Key=full, Body=data, ContentType=content_type)
        return True

    def put_file(self, key: str, path: Path, *, content_type: str = BYTES) -> None:
        full = self._full(key)
        with path.open("rb") as source, self._errors(key):
            self._client.upload_fileobj(
                source,
                self._bucket.name,
                full,
                ExtraArgs={"ContentType": content_type},
                Config=TransferConfig(max_concurrency=4),
            )

    def get(self, key: str) -> bytes:
        full = self._full(key)
        with self._errors(key):
            return self._client.get_object(Bucket=self._bucket.name, Key=full)["Body"].read()

    @contextlib.contextmanager
    def open(self, key: str, start: int = 0) -> Iterator[BinaryIO]:
        full = self._full(key)
        with self._errors(key):
            body = self._body(full, start)
            with contextlib.closing(body):
                yield cast("BinaryIO", io.BufferedReader(cast("io.RawIOBase", body), 1 << 16))

    def get_range(self, key: str, start: int, count: int) -> bytes:
        full, asked = self._full(key), f"bytes={start}-{start + count - 1}"
        try:
            with self._errors(key):
                return self._client.get_object(Bucket=self._bucket.name, Key=full, Range=asked)["Body"].read(count)
        except EmptyInput:
            return b""

    def _body(self, full: str, start: int) -> StreamingBody | io.BytesIO:
        if not start:
            return self._client.get_object(Bucket=self._bucket.name, Key=full)["Body"]
        try:
            return self._client.get_object(Bucket=self._bucket.name, Key=full, Range=f"bytes={start}-")["Body"]
        except ClientError as error:
            # The object has no byte of that number.
            if status_of(error) != 416:
                raise
            return io.BytesIO()

    def size(self, key: str) -> int | None:
        full = self._full(key)
        try:
            with self._errors(key):
                return self._client.head_object(Bucket=self._bucket.name, Key=full)["ContentLength"]
        except KeyNotFound:
            # Of a bucket that is not there a HEAD says the same; whoever asks must not take its objects for gone.
            with self._errors(""):
                self._client.head_bucket(Bucket=self._bucket.name)
            return None

    def list(self, prefix: str = "", start_after: str = "", limit: int | None = None) -> Iterator[str]:
        check_prefix(prefix, self._room)
        check_prefix(start_after, self._room)
        return itertools.islice(self._keys(prefix, start_after, min(limit or self._page_size, self._page_size)), limit)

    def link(self, key: str, seconds: int) -> str | None:
        full = self._full(key)
        if self._public is None:
            return None
        with self._errors(key):
            asked = {"Bucket": self._public.name, "Key": full}
            return self._public.client.generate_presigned_url("get_object", Params=asked, ExpiresIn=seconds)

    def delete(self, key: str) -> None:
        full = self._full(key)
        with self._errors(key):
            self._client.delete_object(Bucket=self._bucket.name, Key=full)

    def delete_all(self, keys: Iterable[str]) -> None:
        asked = iter(keys)
        while batch := tuple(itertools.islice(asked, KEYS_A_DELETE)):
            for key in self._left_of(batch):
                self.delete(key)

    def ping(self, *, fresh: bool = False) -> None:
        next(self.list(PROBES, limit=1), None)
        self._probe(fresh=fresh)

    def _left_of(self, batch: Sequence[str]) -> Sequence[str]:
        """Delete them in one request; those that it did not delete, of which one of their own tells why."""
        known = {self._full(key): key for key in batch}
        with self._errors(""):
            try:
                answer = self._client.delete_objects(
                    Bucket=self._bucket.name, Delete={"Objects": [{"Key": full} for full in known], "Quiet": True}
                )
            except ClientError as error:
                if status_of(error) not in NO_BATCH or code_of(error) in PASSING:
                    raise
                return batch
        left = {one.get("Key", "") for one in answer.get("Errors", ())}
        return [known[full] for full in left] if left <= known.keys() else batch

    def _full(self, key: str) -> str:
        return self._prefix + check_key(key, self._room)

    def _keys(self, prefix: str, start_after: str, page_size: int) -> Iterator[str]:
        page: Sequence[str] = [start_after]
        # Each page starts after the last key seen: unlike a continuation token, a key never expires.
        while page:
            page = self._page(prefix, page[-1], page_size)
            yield from page

    def _page(self, prefix: str, start_after: str, page_size: int) -> Sequence[str]:
        with self._errors(prefix):
            answer = self._client.list_objects_v2(
                Bucket=self._bucket.name,
                Prefix=self._prefix + prefix,
                StartAfter=self._prefix + start_after if start_after else "",
                MaxKeys=page_size,
            )
        return [entry["Key"].removeprefix(self._prefix) for entry in answer.get("Contents", ())]

    def _put_if_absent(self, full: str, data: bytes, content_type: str) -> bool:
        for pause in (*CONFLICT_PAUSES, None):
            try:
                self._client.put_object(
                    Bucket=self._bucket.name, Key=full, Body=data, ContentType=content_type, IfNoneMatch="*"
                )
            except ClientError as error:
                if status_of(error) == 412:
                    return False
                # 409: another conditional write of this key is on its way; S3 asks to try again.
                if status_of(error) != 409 or pause is None:
                    raise
                time.sleep(pause)
            else:
                return True
        raise AssertionError("the last round returns or raises")

    def _errors(self, key: str) -> AbstractContextManager[None]:
        # Without a key, a 404 is the bucket's.
        return self._bucket.errors(key, OF_THE_OBJECT | NO_KEY | BEHIND_THE_END if key else OF_THE_OBJECT)


def _public(settings: Settings, bucket: S3Bucket, server: S3Server | None) -> S3Bucket | None:
    """The bucket as clients reach it, if they do: a link is signed for the host that it names."""
    own = S3Server.of_storage(settings)
    if settings.s3_public_endpoint is None or (server or own) != own:
        return None
    return S3Bucket(replace(own, endpoint=settings.s3_public_endpoint), bucket.name, threads=1)


def _checked(prefix: str) -> str:
    """The prefix with the slash between it and each key."""
    try:
        check_prefix(prefix, MAX_PREFIX_BYTES)
    except InvalidKey as error:
        raise InvalidRequest(f"the prefix of the storage URL: {error.reason}") from None
    return f"{prefix}/" if prefix else ""
