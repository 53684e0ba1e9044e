"""The connection to a bucket of an S3-compatible server, and what its answers mean; only here boto3 is imported."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import boto3
import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError, IncompleteReadError
from botocore.exceptions import ConnectionError as NoConnection

from maskmill.shared.buckets import S3Server
from maskmill.shared.errors import (
    EmptyInput,
    KeyNotFound,
    MaskmillError,
    ObjectArchived,
    ObjectChanged,
    ObjectGone,
    StorageRefused,
    StorageUnavailable,
)

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

CONNECT_SECONDS, READ_SECONDS = 5, 30
# 501: it lacks what it was asked for, as conditional writes, and will tomorrow.
UNKNOWN_TO_IT = 501
SAID: dict[type[MaskmillError], str] = {
    KeyNotFound: "nothing is stored under {key!r}",
    EmptyInput: "{key!r} has no bytes at all",
    ObjectGone: "{key!r} is not there any more",
    ObjectChanged: "{key!r} has changed since it was listed; submit it again",
    ObjectArchived: "{key!r} lies in an archive; restore it first, and submit it again",
}
# Codes of status 400 that speak of the connection, not of the request.
PASSING = {"RequestTimeout", "SlowDown", "Throttling", "ThrottlingException"}


class S3Bucket:
    """A client and a bucket of its server; safe in many threads, as many at once as `threads`."""

    def __init__(self, server: S3Server, name: str, *, threads: int) -> None:
        self.name = name
        self.place = f"{server.endpoint or 'AWS S3'} bucket {name}"
        self.client = _connect(server, threads)

    @contextlib.contextmanager
    def errors(self, key: str, known: Mapping[str, type[MaskmillError]]) -> Iterator[None]:
        """What boto3 raises, as Maskmill's errors.

        `known` names the codes of an answer that speak of the object at `key`: a HEAD's is its status, as in "404". All
        others are StorageUnavailable or StorageRefused.
        """
        try:
            yield
        except ClientError as error:
            raise self._answered(error, key, known) from error
        except (NoConnection, HTTPClientError, IncompleteReadError) as error:
            raise StorageUnavailable(f"{self.place}, key {key!r}: {error}") from error
        except BotoCoreError as error:
            raise StorageRefused(f"{self.place}, key {key!r}: {error}") from error

    def _answered(self, error: ClientError, key: str, known: Mapping[str, type[MaskmillError]]) -> MaskmillError:
        code, status = _meaning(error), status_of(error)
        reason = f"{self.place}, key {key!r}: {error}"
        if kind := known.get(code):
            said = SAID.get(kind)
            return kind(f"{self.place}: {said.format(key=key)}" if said else reason)
        if (status >= 500 and status != UNKNOWN_TO_IT) or status in (409, 429) or code in PASSING:
            return StorageUnavailable(reason)
        return StorageRefused(f"{reason}; check the bucket's name, the access key and what it is permitted")


def code_of(error: ClientError) -> str:
    """The code of an answer, such as NoSuchKey."""
    return str(error.response.get("Error", {}).get("Code", ""))


def _meaning(error: ClientError) -> str:
    """The code of an answer; "Encrypted" for all that say that a key to decrypt with is lacking or not permitted."""
    code, message = code_of(error), str(error.response.get("Error", {}).get("Message", "")).lower()
    lacks_key = code.startswith("KMS.") or "kms:" in message or (code == "InvalidRequest" and "encrypt" in message)
    return "Encrypted" if lacks_key else code


def status_of(error: ClientError) -> int:
    """The HTTP status of an answer."""
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _connect(server: S3Server, threads: int) -> S3Client:
    secret = server.secret_key
    session = botocore.session.get_session()
    # When an object was changed is asked of nobody; to read it takes longer than all else that a listing tells.
    session.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=str)
    return boto3.session.Session(botocore_session=session).client(
        "s3",
        endpoint_url=server.endpoint,
        region_name=server.region,
        aws_access_key_id=server.access_key,
        aws_secret_access_key=secret.get_secret_value() if secret else None,
        config=Config(
            connect_timeout=CONNECT_SECONDS,
            read_timeout=READ_SECONDS,
            retries={"mode": "standard", "total_max_attempts": 4},
            max_pool_connections=threads + 4,
            tcp_keepalive=True,
            # Left out, links are signed by the version before, which not every store takes.
            signature_version="s3v4",
            # Other servers than AWS's reject or ignore the checksums that boto3 sends by default.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            s3={"addressing_style": "path" if server.endpoint else "auto"},
        ),
    )
