"""Storage in an S3-compatible bucket; the only file that knows boto3."""

from __future__ import annotations

import contextlib
import io
import itertools
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

import boto3
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError, IncompleteReadError
from botocore.exceptions import ConnectionError as NoConnection

from maskmill.shared.errors import (
    InvalidKey,
    InvalidRequest,
    KeyNotFound,
    MaskmillError,
    ObjectRefused,
    StorageRefused,
    StorageUnavailable,
)
from maskmill.shared.settings import Settings
from maskmill.shared.storage.probe import PROBES, Probe
from maskmill.shared.storage.protocol import BYTES, MAX_KEY_BYTES, check_key, check_prefix

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

CONNECT_SECONDS, READ_SECONDS = 5, 30
CONFLICT_PAUSES = (0.05, 0.1, 0.2, 0.4, 0.8)
NO_KEY = {"NoSuchKey", "404", "NotFound"}
# What a store says of one object, whatever it says of others.
OF_THE_OBJECT: dict[str, type[MaskmillError]] = {
    "KeyTooLongError": InvalidKey,
    "InvalidObjectName": InvalidKey,
    "XMinioInvalidObjectName": InvalidKey,
    "EntityTooLarge": ObjectRefused,
    "InvalidObjectState": ObjectRefused,
}
# 501: it lacks what it was asked for, as conditional writes, and will tomorrow.
UNKNOWN_TO_IT = 501
# Half of a key's bytes: the other half is for what a job stores.
MAX_PREFIX_BYTES = 512
# Codes of status 400 that speak of the connection, not of the request.
PASSING = {"RequestTimeout", "SlowDown", "Throttling", "ThrottlingException"}


class S3Storage:
    """Keys below `prefix` of one bucket; a page of a listing holds `page_size` keys.

    Raises InvalidRequest for a prefix that leaves keys no room, or that no key can have.
    """

    def __init__(self, settings: Settings, bucket: str, prefix: str = "", *, page_size: int = 1000) -> None:
        self._bucket = bucket
        self._prefix = _checked(prefix.strip("/"))
        self._room = MAX_KEY_BYTES - len(self._prefix.encode())
        self._page_size = page_size
        self._place = f"{settings.s3_endpoint or 'AWS S3'} bucket {bucket}"
        self._client = _connect(settings)
        self._probe = Probe(self)

    def put(self, key: str, data: bytes, *, content_type: str = BYTES, if_absent: bool = False) -> bool:
        full = self._full(key)
        with self._errors(key):
            if if_absent:
                return self._put_if_absent(full, data, content_type)
            self._client.put_object(Bucket=self._bucket, Key=full, Body=data, ContentType=content_type)
        return True

    def put_file(self, key: str, path: Path, *, content_type: str = BYTES) -> None:
        full = self._full(key)
        with path.open("rb") as source, self._errors(key):
            self._client.upload_fileobj(
                source,
                self._bucket,
                full,
                ExtraArgs={"ContentType": content_type},
                Config=TransferConfig(max_concurrency=4),
            )

    def get(self, key: str) -> bytes:
        full = self._full(key)
        with self._errors(key):
            return self._client.get_object(Bucket=self._bucket, Key=full)["Body"].read()

    @contextlib.contextmanager
    def open(self, key: str) -> Iterator[BinaryIO]:
        full = self._full(key)
        with self._errors(key):
            body = self._client.get_object(Bucket=self._bucket, Key=full)["Body"]
            with contextlib.closing(body):
                yield cast("BinaryIO", io.BufferedReader(cast("io.RawIOBase", body), 1 << 16))

    def size(self, key: str) -> int | None:
        full = self._full(key)
        try:
            with self._errors(key):
                return self._client.head_object(Bucket=self._bucket, Key=full)["ContentLength"]
        except KeyNotFound:
            # Of a bucket that is not there a HEAD says the same; whoever asks must not take its objects for gone.
            with self._errors(""):
                self._client.head_bucket(Bucket=self._bucket)
            return None

    def list(self, prefix: str = "", start_after: str = "", limit: int | None = None) -> Iterator[str]:
        check_prefix(prefix, self._room)
        check_prefix(start_after, self._room)
        return itertools.islice(self._keys(prefix, start_after, min(limit or self._page_size, self._page_size)), limit)

    def delete(self, key: str) -> None:
        full = self._full(key)
        with self._errors(key):
            self._client.delete_object(Bucket=self._bucket, Key=full)

    def ping(self, *, fresh: bool = False) -> None:
        next(self.list(PROBES, limit=1), None)
        self._probe(fresh=fresh)

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
                Bucket=self._bucket,
                Prefix=self._prefix + prefix,
                StartAfter=self._prefix + start_after if start_after else "",
                MaxKeys=page_size,
            )
        return [entry["Key"].removeprefix(self._prefix) for entry in answer.get("Contents", ())]

    def _put_if_absent(self, full: str, data: bytes, content_type: str) -> bool:
        for pause in (*CONFLICT_PAUSES, None):
            try:
                self._client.put_object(
                    Bucket=self._bucket, Key=full, Body=data, ContentType=content_type, IfNoneMatch="*"
                )
            except ClientError as error:
                if _status(error) == 412:
                    return False
                # 409: another conditional write of this key is on its way; S3 asks to try again.
                if _status(error) != 409 or pause is None:
                    raise
                time.sleep(pause)
            else:
                return True
        raise AssertionError("the last round returns or raises")

    @contextlib.contextmanager
    def _errors(self, key: str) -> Iterator[None]:
        try:
            yield
        except ClientError as error:
            raise self._answered(error, key) from error
        except (NoConnection, HTTPClientError, IncompleteReadError) as error:
            raise StorageUnavailable(f"{self._place}, key {key!r}: {error}") from error
        except BotoCoreError as error:
            raise StorageRefused(f"{self._place}, key {key!r}: {error}") from error

    def _answered(self, error: ClientError, key: str) -> MaskmillError:
        code, status = error.response.get("Error", {}).get("Code", ""), _status(error)
        reason = f"{self._place}, key {key!r}: {error}"
        if code in NO_KEY and key:
            return KeyNotFound(f"{self._place}: nothing is stored under {key!r}")
        if code in OF_THE_OBJECT:
            return OF_THE_OBJECT[code](reason)
        if (status >= 500 and status != UNKNOWN_TO_IT) or status in (409, 429) or code in PASSING:
            return StorageUnavailable(reason)
        return StorageRefused(f"{reason}; check the bucket's name, the access key and what it is permitted")


def _checked(prefix: str) -> str:
    """The prefix with the slash between it and each key."""
    try:
        check_prefix(prefix, MAX_PREFIX_BYTES)
    except InvalidKey as error:
        raise InvalidRequest(f"the prefix of the storage URL: {error.reason}") from None
    return f"{prefix}/" if prefix else ""


def _connect(settings: Settings) -> S3Client:
    secret = settings.s3_secret_key
    threads = settings.fetch_threads + settings.store_threads + settings.api_threads
    return boto3.session.Session().client(
        "s3",
        endpoint_url=settings.s3_endpoint,
        region_name=settings.s3_region,
        aws_access_key_id=settings.s3_access_key,
        aws_secret_access_key=secret.get_secret_value() if secret else None,
        config=Config(
            connect_timeout=CONNECT_SECONDS,
            read_timeout=READ_SECONDS,
            retries={"mode": "standard", "total_max_attempts": 4},
            max_pool_connections=threads + 4,
            tcp_keepalive=True,
            # Other servers than AWS's reject or ignore the checksums that boto3 sends by default.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            s3={"addressing_style": "path" if settings.s3_endpoint else "auto"},
        ),
    )


def _status(error: ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
