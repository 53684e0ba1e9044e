"""Storage in an S3-compatible bucket; the only file that knows boto3."""

from __future__ import annotations

import contextlib
import io
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

import boto3
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError, IncompleteReadError
from botocore.exceptions import ConnectionError as NoConnection

from maskmill.shared.errors import KeyNotFound, MaskmillError, StorageRefused, StorageUnavailable
from maskmill.shared.settings import Settings
from maskmill.shared.storage.protocol import BYTES, check_key

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

CONNECT_SECONDS, READ_SECONDS = 5, 30
CONFLICT_PAUSES = (0.05, 0.1, 0.2, 0.4, 0.8)
NO_KEY = {"NoSuchKey", "404", "NotFound"}
# Codes of status 400 that speak of the connection, not of the request.
PASSING = {"RequestTimeout", "SlowDown", "Throttling", "ThrottlingException"}


class S3Storage:
    """Keys below `prefix` of one bucket; a page of a listing holds `page_size` keys."""

    def __init__(self, settings: Settings, bucket: str, prefix: str = "", *, page_size: int = 1000) -> None:
        self._bucket = bucket
        self._prefix = prefix.strip("/") + "/" if prefix.strip("/") else ""
        self._page_size = page_size
        self._place = f"{settings.s3_endpoint or 'AWS S3'} bucket {bucket}"
        self._client = _connect(settings)

    def put(self, key: str, data: bytes, *, content_type: str = BYTES, if_absent: bool = False) -> bool:
        full = self._prefix + check_key(key)
        with self._errors(key):
            if if_absent:
                return self._put_if_absent(full, data, content_type)
            self._client.put_object(Bucket=self._bucket, Key=full, Body=data, ContentType=content_type)
        return True

    def put_file(self, key: str, path: Path, *, content_type: str = BYTES) -> None:
        full = self._prefix + check_key(key)
        with path.open("rb") as source, self._errors(key):
            self._client.upload_fileobj(
                source,
                self._bucket,
                full,
                ExtraArgs={"ContentType": content_type},
                Config=TransferConfig(max_concurrency=4),
            )

    def get(self, key: str) -> bytes:
        with self._errors(key):
            return self._client.get_object(Bucket=self._bucket, Key=self._prefix + key)["Body"].read()

    @contextlib.contextmanager
    def open(self, key: str) -> Iterator[BinaryIO]:
        with self._errors(key):
            body = self._client.get_object(Bucket=self._bucket, Key=self._prefix + key)["Body"]
            with contextlib.closing(body):
                yield cast("BinaryIO", io.BufferedReader(cast("io.RawIOBase", body), 1 << 16))

    def size(self, key: str) -> int | None:
        try:
            with self._errors(key):
                return self._client.head_object(Bucket=self._bucket, Key=self._prefix + key)["ContentLength"]
        except KeyNotFound:
            return None

    def list(self, prefix: str = "", start_after: str = "") -> Iterator[str]:
        page: Sequence[str] = [start_after]
        # Each page starts after the last key seen: unlike a continuation token, a key never expires.
        while page:
            page = self._page(prefix, page[-1])
            yield from page

    def delete(self, key: str) -> None:
        with self._errors(key):
            self._client.delete_object(Bucket=self._bucket, Key=self._prefix + key)

    def ping(self) -> None:
        with self._errors(""):
            self._client.head_bucket(Bucket=self._bucket)

    def _page(self, prefix: str, start_after: str) -> Sequence[str]:
        with self._errors(prefix):
            answer = self._client.list_objects_v2(
                Bucket=self._bucket,
                Prefix=self._prefix + prefix,
                StartAfter=self._prefix + start_after if start_after else "",
                MaxKeys=self._page_size,
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
        if status >= 500 or status in (409, 429) or code in PASSING:
            return StorageUnavailable(reason)
        return StorageRefused(f"{reason}; check the bucket's name, the keys and their permissions")


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
