"""Which form a manifest has, told by its first bytes and then by its keys, never by its name.

{"files": [...], "fileSchema": ...}          S3 Inventory: the rows are in further files
{"Format": "Report_CSV_...", "Results": []}  S3 Batch Operations completion report: so are they
{"source-ref": ...}                          JSON lines
[{"prefix": ...}, ...]                       SageMaker ManifestFile
url,name                                     CSV with a header
bucket,key                                   S3 Batch Operations CSV, without a header
s3://bucket/key                              a URI a line, or a key
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from maskmill.shared.errors import ManifestInvalid
from maskmill.shared.jobs.sources import ObjectBytes
from maskmill.worker.sources.manifest_lines import BOM, Place, csv_records, lines, parsed
from maskmill.worker.sources.manifest_rows import (
    URI_KEYS,
    Rows,
    array_elements,
    batch_csv,
    headed_csv,
    inventory_csv,
    is_data,
    json_lines,
    object_of,
    plain_lines,
    report_csv,
)

START = Place()
HEAD_BYTES = 8 << 20
"""First bytes, unpacked, that a form is told by; the whole of a manifest.json that names further files."""
READ = (
    "read are S3 Inventory and S3 Batch Operations manifests and reports, SageMaker ManifestFiles, JSON lines, CSV "
    "with a header, and a URI a line; docs/buckets.md shows each"
)
BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
BINARY = {b"ORC": "ORC", b"PAR1": "Parquet", b"Obj\1": "Avro", b"\x1f\x8b": "gzip within gzip", b"%PDF-": "a PDF"}
UTF_16 = (b"\xff\xfe", b"\xfe\xff")


@dataclass(frozen=True)
class Form:
    """How the rows of a manifest are read, and from where on; where it names further files, `parts`, they hold them."""

    rows: Rows
    begin: Place = START
    parts: tuple[ObjectBytes, ...] | None = None
    unit: str = "line"


def form_of(head: bytes, bucket: str | None) -> Form:
    """The form of the manifest that begins with `head`, which lies in `bucket` if it does in one.

    Raises ManifestInvalid for what is no manifest.
    """
    _refuse_binary(head)
    begin = head.removeprefix(BOM).lstrip()
    if begin[:1] == b"{":
        return _of_object(head, bucket)
    if begin[:1] == b"[":
        return _of_array(head)
    if begin[:1] == b"<":
        raise ManifestInvalid(f"it looks like a page of HTML or XML; {READ}")
    return _of_text(head, bucket)


def _refuse_binary(head: bytes) -> None:
    if head.startswith(UTF_16):
        raise ManifestInvalid("it is UTF-16; save it as UTF-8")
    kind = next((kind for magic, kind in BINARY.items() if head.startswith(magic)), "binary")
    if b"\0" in head[:1024] or head.startswith((b"\x1f\x8b", b"%PDF-")):
        raise ManifestInvalid(f"it is {kind}, not text; {READ}")


def _of_object(head: bytes, bucket: str | None) -> Form:
    first = next(line for line in lines(io.BytesIO(head), Place()) if line.text.strip())
    try:
        document = parsed(first.text)
    except ManifestInvalid:
        document = _whole(head)
    if {"files", "fileSchema"} <= document.keys():
        return _inventory(document)
    if str(document.get("Format", "")).startswith("Report_CSV"):
        return _report(document)
    return Form(json_lines(bucket))


def _whole(head: bytes) -> dict[str, Any]:
    """The one document that the head is; an empty one where it looks like JSON lines of which the first is broken."""
    text = head.removeprefix(BOM).decode("utf-8", "replace").lstrip()
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        if text.partition("\n")[0].strip() != "{" and "\n" in text:
            return {}
        too_long = f"; a manifest.json has at most {HEAD_BYTES} bytes" if len(head) >= HEAD_BYTES else ""
        raise ManifestInvalid(f"it begins as a JSON object and is none{too_long}; {READ}") from None
    if document.keys() & {"files", "Format"}:
        return dict(document)
    keys = ", ".join(map(repr, list(document)[:5]))
    raise ManifestInvalid(f"it is one JSON object over several lines with {keys}; {READ}")


def _inventory(document: Mapping[str, Any]) -> Form:
    """An S3 Inventory (Amazon S3 user guide, storage-inventory-location)."""
    kind = str(document.get("fileFormat", "CSV"))
    if kind.upper() != "CSV":
        raise ManifestInvalid(f"the inventory is in {kind[:20]}, which is not read; let S3 write it as CSV")
    columns = _columns(document["fileSchema"], "Bucket", "Key")
    # An ARN, as in arn:aws:s3:::bucket.
    bucket = str(document.get("destinationBucket", "")).rpartition(":")[2]
    return Form(inventory_csv(columns), parts=_parts(document["files"], lambda file: object_of(bucket, file["key"])))


def _report(document: Mapping[str, Any]) -> Form:
    """A completion report (Amazon S3 user guide, batch-ops-examples-reports); what succeeded is not opened."""
    columns = _columns(document.get("ReportSchema"), "Bucket", "Key", "TaskStatus")
    results = document.get("Results")
    failed = [one for one in results if _failed(one)] if isinstance(results, list) else results
    return Form(report_csv(columns), parts=_parts(failed, lambda file: object_of(file["Bucket"], file["Key"])))


def _failed(result: Any) -> bool:
    return not isinstance(result, dict) or str(result.get("TaskExecutionStatus")).lower() == "failed"


def _columns(schema: Any, *needed: str) -> tuple[str, ...]:
    columns = tuple(column.strip() for column in str(schema).split(","))
    if missing := [column for column in needed if column not in columns]:
        raise ManifestInvalid(f"its schema {str(schema)[:200]!r} lacks {', '.join(missing)}")
    return columns


def _parts(files: Any, read: Any) -> tuple[ObjectBytes, ...]:
    try:
        return tuple(read(file) for file in files)
    except (TypeError, KeyError):
        raise ManifestInvalid("its list of files is not as S3 writes it: each has a bucket and a key") from None


def _of_array(head: bytes) -> Form:
    text = head.decode("utf-8", "surrogateescape")
    start = text.index("[") + 1
    start += len(text[start:]) - len(text[start:].lstrip())
    try:
        first, end = json.JSONDecoder().raw_decode(text, start)
    except (ValueError, RecursionError):
        first, end = None, start
    prefix = first.get("prefix") if isinstance(first, dict) else None
    if not isinstance(prefix, str):
        raise ManifestInvalid(f'it is a JSON array that does not begin with {{"prefix": "s3://..."}}; {READ}')
    behind = len(text[:end].encode("utf-8", "surrogateescape"))
    return Form(array_elements(prefix), Place(behind, 1), unit="element")


def _of_text(head: bytes, bucket: str | None) -> Form:
    before = Place()
    for line in lines(io.BytesIO(head), Place()):
        if line.problem or is_data(line.text):
            break
        before = line.behind
    else:
        return Form(plain_lines(bucket))
    first = next(csv_records(io.BytesIO(head[before.offset :]), before), line)
    fields = [field.strip() for field in first.value or ()]
    columns = tuple(field.lower() for field in fields)
    if "://" in line.text:
        return Form(plain_lines(bucket))
    if set(columns) & {*URI_KEYS, "key"}:
        return _headed(columns, first.behind, bucket)
    if len(fields) > 1 and BUCKET.fullmatch(fields[0]):
        return _headless(len(fields))
    if not bucket:
        raise ManifestInvalid(f"its line {line.behind.number}, {line.text[:100]!r}, is of no form; {READ}")
    return Form(plain_lines(bucket))


def _headless(fields: int) -> Form:
    if fields > 3:
        raise ManifestInvalid(
            f"its first line has {fields} fields and is no header; of an inventory or a report name the "
            "manifest.json, which tells what the fields are"
        )
    return Form(batch_csv)


def _headed(columns: tuple[str, ...], behind: Place, bucket: str | None) -> Form:
    if not set(columns) & set(URI_KEYS) and "bucket" not in columns and bucket is None:
        raise ManifestInvalid("its column key needs a column bucket, as the manifest itself lies in no bucket")
    return Form(headed_csv(columns, bucket), behind)
