"""Where a job's artifacts go that names a bucket of the user's for them."""

from __future__ import annotations

from functools import lru_cache

from maskmill.shared.buckets import Buckets, ObjectUrl
from maskmill.shared.errors import InvalidKey, InvalidRequest
from maskmill.shared.storage.protocol import Storage, check_prefix

KEPT = 16
# What a job names a prefix of leaves a key this room for the names of its artifacts.
MAX_PREFIX_BYTES = 512


class Outputs:
    """Opens the storage of an output URL, once for all who ask; safe in many threads."""

    def __init__(self, buckets: Buckets) -> None:
        self._buckets = buckets
        self.of = lru_cache(KEPT)(self._open)

    def check(self, url: str, *, pointer: str | None = None) -> None:
        """Raise InvalidRequest or BucketRefused unless artifacts may be written there."""
        try:
            at = _parse(url)
        except (InvalidRequest, InvalidKey) as error:
            raise InvalidRequest(error.reason, pointer=pointer) from None
        self._buckets.check(at, "write", pointer=pointer)

    def _open(self, url: str) -> Storage:
        """The storage whose keys begin behind `url`; raises what `check` does."""
        self.check(url)
        # boto3 takes a third of a second to import, which a process without buckets need not pay.
        from maskmill.shared.storage.s3 import S3Storage

        at = _parse(url)
        return S3Storage(self._buckets.settings, at.bucket, at.path, server=self._buckets.server(at.bucket))


def _parse(url: str) -> ObjectUrl:
    at = ObjectUrl.parse(url)
    prefix = at.path.strip("/")
    check_prefix(prefix, MAX_PREFIX_BYTES)
    return ObjectUrl(at.bucket, f"{prefix}/" if prefix else "")
