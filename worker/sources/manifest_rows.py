"""Records → rows: what each record of a manifest names, form by form."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO
from urllib.parse import unquote_plus

from maskmill.shared.buckets import ObjectUrl
from maskmill.shared.errors import InvalidRequest, ManifestInvalid
from maskmill.shared.folder_inputs import Reason
from maskmill.shared.http_urls import check_http_url
from maskmill.shared.jobs.sources import ObjectBytes, UrlBytes
from maskmill.worker.sources.manifest_lines import Place, Record, csv_records, elements, lines, parsed

URI_KEYS = ("source-ref", "url", "uri")
NAME_KEYS = ("custom_id", "name")
MOST_URL = 8192
SCHEME = re.compile(r"\s*[A-Za-z][A-Za-z0-9+.-]*://")

Rows = Callable[[BinaryIO, Place], Iterator["Row"]]


@dataclass(frozen=True)
class Row:
    """A row and what it names: a location, or the `problem` for which it names none.

    `text` is the row as it stands; `is_listed` is true of a row that a listing made, so that nobody named its object.
    """

    behind: Place
    text: str
    location: ObjectBytes | UrlBytes | None = None
    name: str | None = None
    problem: str = ""
    storage_class: str = "STANDARD"
    is_listed: bool = False
    left_out: Reason | None = None


def location_of(uri: str, bucket: str | None = None) -> ObjectBytes | UrlBytes:
    """What a URI names; without a scheme it is a key of `bucket`, if there is one. ManifestInvalid for all else."""
    scheme = SCHEME.match(uri)
    if scheme is None and bucket:
        return object_of(bucket, uri)
    kind = scheme[0].strip().lower() if scheme else ""
    try:
        if kind == "s3://":
            if uri.endswith("/"):
                raise ManifestInvalid(f"{uri[:200]!r} names a folder; a row names one object")
            return object_of(*ObjectUrl.parse(uri.lstrip()))
        if kind not in ("http://", "https://") or len(uri) > MOST_URL:
            raise ManifestInvalid(f"{uri[:200]!r} is no s3:// and no http(s):// URL")
        check_http_url(uri.strip())
    except InvalidRequest as error:
        raise ManifestInvalid(error.reason) from None
    return UrlBytes(url=uri.strip())


def object_of(bucket: str, key: str, version: str | None = None) -> ObjectBytes:
    """The object of that key; ManifestInvalid where there can be none."""
    try:
        at = ObjectUrl.parse(f"s3://{bucket}/{key}")
        f"{key}{version}".encode()
    except InvalidRequest as error:
        raise ManifestInvalid(error.reason) from None
    except UnicodeEncodeError:
        raise ManifestInvalid("its key is not valid Unicode") from None
    if not at.path or at.bucket != bucket:
        raise ManifestInvalid(f"{str(at)[:200]!r} names a bucket and no object")
    return ObjectBytes(bucket=bucket, key=key, version=version or None)


def decoded(key: str) -> str:
    """A key as S3's own CSV files have it: URL-encoded, a space as `+`; ManifestInvalid for what is no UTF-8."""
    try:
        return unquote_plus(key, errors="strict")
    except UnicodeDecodeError:
        raise ManifestInvalid(f"key {key[:200]!r} is not URL-encoded UTF-8") from None


def _rows(records: Iterator[Record], read: Callable[[Record], Row]) -> Iterator[Row]:
    """A row for each record; one that cannot be read says why."""
    for record in records:
        try:
            if record.problem:
                raise ManifestInvalid(record.problem)
            yield read(record)
        except ManifestInvalid as error:
            yield Row(record.behind, record.text, problem=error.reason)


def plain_lines(bucket: str | None) -> Rows:
    """A URI a line, or in a manifest of a bucket a key; blank lines and those that begin with `#` are skipped."""

    def read(line: Record) -> Row:
        return Row(line.behind, line.text, location_of(line.text.strip(), bucket))

    def rows(stream: BinaryIO, at: Place) -> Iterator[Row]:
        return _rows((line for line in lines(stream, at) if is_data(line.text)), read)

    return rows


def is_data(line: str) -> bool:
    """Whether a line is neither blank nor a comment."""
    return not line.lstrip().startswith("#") and bool(line.strip())


def json_lines(bucket: str | None) -> Rows:
    """An object a line: `source-ref`, `url` or `uri`, and perhaps `custom_id` or `name`.

    So are augmented manifests (SageMaker developer guide, augmented-manifest), whose other keys are labels and say
    nothing here, and Maskmill's own manifests of results.
    """

    def read(line: Record) -> Row:
        value = parsed(line.text)
        if not isinstance(value, dict):
            raise ManifestInvalid("is no JSON object")
        return Row(line.behind, line.text, location_of(_uri(value), bucket), _name(value))

    def rows(stream: BinaryIO, at: Place) -> Iterator[Row]:
        return _rows((line for line in lines(stream, at) if line.problem or line.text.strip()), read)

    return rows


def _uri(value: Mapping[str, Any]) -> str:
    uri = next((value[key] for key in URI_KEYS if key in value), None)
    if not isinstance(uri, str) or not uri.strip():
        raise ManifestInvalid(f"has none of {', '.join(URI_KEYS)} with a text")
    return uri


def _name(value: Mapping[str, Any]) -> str | None:
    name = next((value[key] for key in NAME_KEYS if isinstance(value.get(key), str | int)), None)
    try:
        str(name).encode()
        return None if name is None else str(name)
    except UnicodeEncodeError:
        raise ManifestInvalid("its name is not valid Unicode") from None


def array_elements(prefix: str) -> Rows:
    """The elements of a SageMaker ManifestFile behind its first, each the rest of a URL that begins with `prefix`.

    SageMaker API reference, S3DataSource.
    """

    def read(element: Record) -> Row:
        if not isinstance(element.value, str):
            raise ManifestInvalid("is no text")
        return Row(element.behind, element.text, location_of(prefix + element.value))

    def rows(stream: BinaryIO, at: Place) -> Iterator[Row]:
        return _rows(elements(stream, at), read)

    return rows


def headed_csv(columns: Sequence[str], bucket: str | None) -> Rows:
    """CSV whose header has these columns, in lower case: one of `url`, `uri`, `source-ref` and `key`.

    Beside `key` there may be `bucket` and `versionid`; `custom_id` or `name` is what the results are called after.
    """

    def read(record: Record) -> Row:
        if len(record.value) != len(columns):
            raise ManifestInvalid(f"has {len(record.value)} fields, and the header {len(columns)}")
        value = {column: text for column, text in zip(columns, record.value, strict=True) if text}
        if "key" not in value:
            return Row(record.behind, record.text, location_of(_uri(value), bucket), _name(value))
        named = object_of(value.get("bucket", bucket or ""), value["key"], value.get("versionid"))
        return Row(record.behind, record.text, named, _name(value))

    return lambda stream, at: _rows(csv_records(stream, at), read)


def batch_csv(stream: BinaryIO, at: Place) -> Iterator[Row]:
    """CSV without a header, `bucket,key` or `bucket,key,versionId`, its keys URL-encoded.

    Amazon S3 user guide, batch-ops-create-job ("Specifying a manifest").
    """

    def read(record: Record) -> Row:
        if len(record.value) not in (2, 3):
            raise ManifestInvalid(f"has {len(record.value)} fields; bucket,key and bucket,key,versionId are read")
        bucket, key, *version = record.value
        return Row(record.behind, record.text, object_of(bucket, decoded(key), "".join(version)))

    return _rows(csv_records(stream, at), read)


def inventory_csv(columns: Sequence[str]) -> Rows:
    """A data file of an S3 Inventory, with the columns of its fileSchema; of each key the latest version is an input.

    Amazon S3 user guide, storage-inventory and storage-inventory-location.
    """

    def read(record: Record) -> Row:
        value = _fields(columns, record)
        row = Row(
            record.behind,
            record.text,
            _inventoried(value),
            storage_class=value.get("StorageClass") or "STANDARD",
            is_listed=True,
        )
        is_latest = value.get("IsLatest", "true").lower() == "true"
        is_marker = value.get("IsDeleteMarker", "false").lower() == "true"
        return row if is_latest and not is_marker else dataclasses.replace(row, left_out=Reason.VERSION)

    return lambda stream, at: _rows(csv_records(stream, at), read)


def _inventoried(value: Mapping[str, str]) -> ObjectBytes:
    found = object_of(value["Bucket"], decoded(value["Key"]), value.get("VersionId"))
    size, etag = value.get("Size", ""), value.get("ETag", "").strip('"')
    more = {"size": int(size) if size.isascii() and size.isdigit() else None, "etag": f'"{etag}"' if etag else None}
    return found.model_copy(update=more)


def report_csv(columns: Sequence[str]) -> Rows:
    """A result file of an S3 Batch Operations completion report: its failed tasks are inputs, the others are not.

    Amazon S3 user guide, batch-ops-examples-reports.
    """

    def read(record: Record) -> Row:
        value = _fields(columns, record)
        named = object_of(value["Bucket"], decoded(value["Key"]), value.get("VersionId"))
        failed = value["TaskStatus"].lower() == "failed"
        return Row(record.behind, record.text, named, left_out=None if failed else Reason.DONE)

    return lambda stream, at: _rows(csv_records(stream, at), read)


def _fields(columns: Sequence[str], record: Record) -> dict[str, str]:
    if len(record.value) != len(columns):
        raise ManifestInvalid(f"has {len(record.value)} fields, and the manifest names {len(columns)}")
    return dict(zip(columns, record.value, strict=True))
