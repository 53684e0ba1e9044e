"""Which S3 buckets jobs may read and write, and how each is reached: the file that MASKMILL_BUCKETS names.

TOML, a table a bucket under its name; an empty one may be read, through the storage's own server and keys:

    [photos]

    [masks]
    read = false
    write = true
    prefix = "results/"
    endpoint = "https://s3.example.org"
    access_key_env = "MASKS_ACCESS_KEY"
    secret_key_env = "MASKS_SECRET_KEY"
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError

from maskmill.shared.errors import BucketRefused, CannotStart, InvalidRequest
from maskmill.shared.settings import Settings

BUCKET_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}")
# Directory buckets list in no order and go on from no key.
UNORDERED = "--x-s3"
VERBS = {"read": "read", "write": "written"}


class ObjectUrl(NamedTuple):
    """An s3:// URL: a bucket, and the key, prefix or pattern behind it, which is taken as it stands."""

    bucket: str
    path: str

    @classmethod
    def parse(cls, url: str) -> ObjectUrl:
        """The parts of `url`; raises InvalidRequest for what is no s3:// URL."""
        scheme, _, rest = url.partition("://")
        bucket, _, path = rest.partition("/")
        if scheme.lower() != "s3" or not BUCKET_NAME.fullmatch(bucket):
            raise InvalidRequest(
                f"{url[:200]!r} is no S3 URL; it looks like s3://bucket/folder/ or s3://bucket/a/*.jpg"
            )
        if "\0" in path or len(path.encode("utf-8", "surrogatepass")) > 1024:
            raise InvalidRequest(f"{url[:200]!r}: what follows the bucket has 1024 bytes at most, and no NUL")
        return cls(bucket, path)

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.path}"


class Bucket(BaseModel):
    """What may be done with a bucket; what is left out of `endpoint` and `region` is as the storage's."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    read: bool = True
    write: bool = False
    prefix: str = Field(default="", description="Nothing outside of it is read or written.")
    endpoint: str | None = None
    region: str | None = None
    access_key_env: str | None = Field(default=None, description="Variable that holds the access key.")
    secret_key_env: str | None = None
    requester_pays: bool = False


@dataclass(frozen=True)
class S3Server:
    """How an S3-compatible server is reached; without keys boto3 looks for some in its own chain."""

    endpoint: str | None
    region: str
    access_key: str | None
    secret_key: SecretStr | None

    @classmethod
    def of_storage(cls, settings: Settings) -> S3Server:
        """The server of MASKMILL_STORAGE_URL."""
        return cls(settings.s3_endpoint, settings.s3_region, settings.s3_access_key, settings.s3_secret_key)


@dataclass(frozen=True)
class Buckets:
    """The buckets of the settings' file."""

    known: Mapping[str, Bucket]
    settings: Settings

    @classmethod
    def of(cls, settings: Settings) -> Buckets:
        """Read the file; raises CannotStart that says what is wrong in it."""
        if settings.buckets is None:
            return cls({}, settings)
        place = f"MASKMILL_BUCKETS={settings.buckets}"
        try:
            tables = tomllib.loads(settings.buckets.read_text())
            known = {name: Bucket.model_validate(table) for name, table in tables.items()}
        except OSError as error:
            raise CannotStart(f"{place}: {error.strerror or error}") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise CannotStart(f"{place} is no TOML: {error}") from None
        except ValidationError as error:
            wrong = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
            raise CannotStart(f"{place}: {wrong}") from None
        buckets = cls(known, settings)
        for name in known:
            buckets.server(name)
        return buckets

    def check(self, url: ObjectUrl, to: Literal["read", "write"], *, pointer: str | None = None) -> Bucket:
        """The bucket of `url`; raises BucketRefused, with the line to add, where that may not be done there."""
        bucket = self.known.get(url.bucket)
        if bucket is None or not getattr(bucket, to):
            table = f"[{url.bucket}]" if "." not in url.bucket else f'["{url.bucket}"]'
            line = table if to == "read" else f"{table} with `write = true`"
            place = self.settings.buckets or "a file that MASKMILL_BUCKETS names"
            reason = f"bucket {url.bucket} may not be {VERBS[to]} here; add {line} to {place}, and start again"
            raise BucketRefused(reason, pointer=pointer)
        if url.bucket.endswith(UNORDERED):
            raise BucketRefused(f"{url.bucket} is a directory bucket: it lists its keys in no order", pointer=pointer)
        if not url.path.startswith(bucket.prefix):
            reason = f"of bucket {url.bucket} only what begins with {bucket.prefix!r} may be {VERBS[to]} here"
            raise BucketRefused(reason, pointer=pointer)
        return bucket

    def server(self, name: str) -> S3Server:
        """How the bucket is reached: the storage's keys go to the storage's own server only."""
        bucket = self.known[name]
        at_home = S3Server.of_storage(self.settings)
        endpoint = bucket.endpoint or at_home.endpoint
        region = bucket.region or at_home.region
        if bucket.access_key_env or bucket.secret_key_env:
            access_key, secret_key = _variable(name, bucket.access_key_env), _variable(name, bucket.secret_key_env)
            return S3Server(endpoint, region, access_key, SecretStr(secret_key))
        if endpoint == at_home.endpoint:
            return S3Server(endpoint, region, at_home.access_key, at_home.secret_key)
        return S3Server(endpoint, region, None, None)


def _variable(bucket: str, variable: str | None) -> str:
    value = os.environ.get(variable or "")
    if not value:
        missing = f"the variable {variable} is not set" if variable else "access_key_env and secret_key_env go together"
        raise CannotStart(f"MASKMILL_BUCKETS, bucket {bucket}: {missing}")
    return value
