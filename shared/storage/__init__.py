"""Where everything lasting is kept: one protocol, a folder and an S3 bucket behind it."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote

from maskmill.shared.errors import InvalidRequest
from maskmill.shared.settings import Settings
from maskmill.shared.storage.local import LocalStorage
from maskmill.shared.storage.probe import delete_old_probes, for_one_object, probe_atomic_create
from maskmill.shared.storage.protocol import Storage

__all__ = ["Storage", "delete_old_probes", "for_one_object", "open_storage", "probe_atomic_create"]


def open_storage(settings: Settings, url: str | None = None) -> Storage:
    """The storage at `url` (default: the settings' own): s3://bucket/prefix or file:///absolute/folder.

    Nothing is connected yet; `ping` does that. InvalidRequest for any other URL, or for a prefix that is too long.
    """
    url = url or settings.storage_url
    scheme, _, place = url.partition("://")
    if scheme == "file" and place.startswith("/"):
        return LocalStorage(Path(unquote(place)))
    bucket, _, prefix = place.partition("/")
    if scheme != "s3" or not bucket:
        raise InvalidRequest(f"{url!r} is no storage; give s3://bucket/prefix or file:///absolute/folder")
    # boto3 takes a third of a second to import, which a process on a folder need not pay.
    from maskmill.shared.storage.s3 import S3Storage

    return S3Storage(settings, bucket, prefix)
