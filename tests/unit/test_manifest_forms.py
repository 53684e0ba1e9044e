"""What each form of a manifest names, row by row, and what of a broken one is told."""

from __future__ import annotations

import contextlib
import csv
import io
import json
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskmill.shared.errors import ManifestInvalid
from maskmill.shared.folder_inputs import Reason
from maskmill.shared.jobs.sources import ObjectBytes, UrlBytes
from maskmill.worker.sources.manifest_forms import form_of
from maskmill.worker.sources.manifest_lines import MOST_CHARACTERS, Place
from maskmill.worker.sources.manifest_rows import Row, inventory_csv, report_csv


def rows_of(text: str | bytes, bucket: str | None = None, behind: Place | None = None) -> list[Row]:
    data = text.encode() if isinstance(text, str) else text
    form = form_of(data, bucket)
    at = behind or form.begin
    return list(form.rows(io.BytesIO(data[at.offset :]), at))


def named(rows: Iterable[Row]) -> list[str]:
    """What rows name: a URI, behind a name where there is one, or the reason why nothing."""
    return [f"{row.name}={row.location.url}" if row.name else _shown(row) for row in rows]


def _shown(row: Row) -> str:
    if row.location is None:
        return f"{row.behind.number}: {row.problem}"
    version = row.location.version if isinstance(row.location, ObjectBytes) else None
    return row.location.url + (f"@{version}" if version else "")


PLAIN = "\n# of yesterday\r\ns3://bk/a, b.jpg\r\n\r\nhttps://h/x?a=1,2\n  S3://bk/ü%20+.png  \nhttp://h/last"
HEADED = 'name,URL,label\n1,s3://bk/a.jpg,cat\n\n"two\nlines","https://h/a,b.jpg",\n,s3://bk/c.jpg,"a ""dog"""\n'
KEYED = "key,bucket,versionId\na b%20.jpg,bk,\nc.jpg,b2,v1\nd.jpg,,\n"
BATCH = 'bkt,a%20b%2B.jpg,v1\n"bkt","c+d,%22.jpg",v2\n'
LINES = (
    '{"source-ref": "s3://bk/a.jpg", "maskmill-ref": "s3://bk/a_res.json", "name": {"class": 1}}\n'
    '{"custom_id": 17, "url": "https://h/a.jpg"}\r\n\n{"name": "cats/\\u00fc", "url": "s3://bk/\\u00fc.jpg"}\n'
)
ARRAY = '[{"prefix": "s3://bk/p/"},\n "a.jpg", "\\u00fc \\" ,].jpg" ,"d/e"\n]\n'


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (PLAIN, ["s3://bk/a, b.jpg", "https://h/x?a=1,2", "s3://bk/ü%20+.png", "http://h/last"]),
        (HEADED, ["1=s3://bk/a.jpg", "two\nlines=https://h/a,b.jpg", "s3://bk/c.jpg"]),
        (KEYED, ["s3://bk/a b%20.jpg", "s3://b2/c.jpg@v1", "4: 's3:///d.jpg' is no S3 URL"]),
        (BATCH, ["s3://bkt/a b+.jpg@v1", 's3://bkt/c d,".jpg@v2']),
        (LINES, ["s3://bk/a.jpg", "17=https://h/a.jpg", "cats/ü=s3://bk/ü.jpg"]),
        (ARRAY, ["s3://bk/p/a.jpg", 's3://bk/p/ü " ,].jpg', "s3://bk/p/d/e"]),
        ("key\n", []),
        ("\n# nothing\n", []),
        ("", []),
    ],
    ids=["plain", "headed", "keyed", "batch", "json-lines", "array", "only-a-header", "only-comments", "empty"],
)
@pytest.mark.parametrize("begin", ["", "\ufeff"], ids=["plain", "bom"])
def test_a_form_is_told_by_its_content(text: str, found: list[str], begin: str) -> None:
    bucket = "mine" if text.startswith("key\n") else None
    told = named(rows_of(begin + text, bucket))
    assert len(told) == len(found)
    assert all(one.startswith(expected) for one, expected in zip(told, found, strict=True)), told


@pytest.mark.parametrize("text", [PLAIN, HEADED, KEYED, BATCH, LINES, ARRAY])
def test_what_stands_behind_a_row_is_the_same_wherever_reading_begins(text: str) -> None:
    for data in (text.encode(), b"\xef\xbb\xbf" + text.encode()):
        whole = rows_of(data)
        assert len(whole) > 1
        for number, row in enumerate(whole):
            assert rows_of(data, behind=row.behind) == whole[number + 1 :]


def test_in_a_bucket_a_line_may_be_a_key() -> None:
    text = "a/1.jpg\n#old\nb c.jpg\ns3://other/x\n"
    assert named(rows_of(text, "mine")) == ["s3://mine/a/1.jpg", "s3://mine/b c.jpg", "s3://other/x"]
    assert named(rows_of("key,name\na,1\n", "mine")) == ["1=s3://mine/a"]


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ("ftp://h/a", "is no s3:// and no http(s):// URL"),
        ("a.jpg", "is no s3:// and no http(s):// URL"),
        ("https://h/a b", "percent-encode"),
        ("https://h:99999/", "not a URL"),
        ("http://", "names a host"),
        ("https://h/" + "a" * 9000, "is no s3://"),
        ("s3://bk", "names a bucket and no object"),
        ("s3://bk/folder/", "names a folder"),
        ("s3://bk/" + "a" * 1025, "1024 bytes at most"),
        ("s3://../a", "is no S3 URL"),
        ("s3://bk/" + "a" * MOST_CHARACTERS, "more than 100000 characters"),
        ("s3://bk/" + "ü" * 3 * MOST_CHARACTERS, "more than 100000 characters"),
    ],
    ids=lambda text: text[:20],
)
def test_a_row_that_names_nothing_says_why_and_the_others_are_read(bad: str, said: str) -> None:
    first, broken, last = rows_of(f"s3://bk/1\n{bad}\ns3://bk/2\n")
    assert (first.problem, last.problem, broken.location) == ("", "", None)
    assert said in broken.problem
    assert broken.behind.number == 2


def test_a_line_that_is_no_utf8_is_told() -> None:
    _, broken, last = rows_of(b"s3://bk/1\ns3://bk/\xff\ns3://bk/2")
    assert broken.problem == "is not UTF-8, from its byte 8 on"
    assert last.location == ObjectBytes(bucket="bk", key="2")


@pytest.mark.parametrize(
    "line",
    [
        *(
            "{",
            "[]",
            "7",
            "{}",
            '{"url": 7}',
            '{"url": ""}',
            '{"url": "s3://bk/\\ud800"}',
            '{"url": "https://h/\\ud800"}',
        ),
        *('{"name": "\\ud800", "url": "s3://bk/a"}', "[" * 50_000, '{"url": ' + "1" * 5000 + "}", "words"),
    ],
    ids=lambda line: line[:30],
)
def test_a_json_line_that_names_nothing_is_told_alone(line: str) -> None:
    good = '{"url": "s3://bk/1"}'
    first, broken, last = rows_of(f"{good}\n{line}\n{good}\n")
    assert not first.problem
    assert not last.problem
    assert broken.problem


def test_a_quote_that_is_not_closed_spoils_its_line_alone() -> None:
    text = 'url,name\n"s3://bk/1,a\ns3://bk/2,b\ns3://bk/3,"c"\n'
    assert named(rows_of(text)) == ["2: is no CSV: ',' expected after '\"'", "b=s3://bk/2", "c=s3://bk/3"]
    text = 'url,name\n"s3://bk/1,a\n' + "s3://bk/2,b\n" * 20_000
    broken, *others = rows_of(text)
    assert broken.problem == "is no CSV: a quote is not closed"
    assert len(others) == 20_000
    assert [row.behind.number for row in others[:2]] == [3, 4]


def test_a_row_with_another_number_of_fields_is_told() -> None:
    assert named(rows_of("url,name\ns3://bk/1\ns3://bk/2,a,b\n")) == [
        "2: has 1 fields, and the header 2",
        "3: has 3 fields, and the header 2",
    ]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"\x89PNG\r\n\x1a\n\0\0", "is binary, not text"),
        (b"%PDF-1.7\n", "is a PDF"),
        (b"ORC\0\1", "is ORC"),
        (b"PAR1\x15\0", "is Parquet"),
        ("s3://bk/a\n".encode("utf-16"), "save it as UTF-8"),
        (b"<!doctype html><p>404", "a page of HTML"),
        (b"words\nand more", "line 1, 'words', is of no form"),
        (b'{\n "a": 1\n}', "one JSON object over several lines with 'a'"),
        (b'{\n "files": [', "begins as a JSON object and is none"),
        (b'[{"url": "s3://bk/a"}]', "does not begin with"),
        (b'["s3://bk/a"]', "does not begin with"),
        (b"[", "does not begin with"),
        (b"key,name\na,b\n", "needs a column bucket"),
        (b'"photos","a.jpg","12","etag","STANDARD"\n', "name the manifest.json"),
        (b'{"files": [], "fileSchema": "Bucket", "fileFormat": "CSV"}', "lacks Key"),
        (b'{"files": [], "fileSchema": "message", "fileFormat": "Parquet"}', "in Parquet, which is not read"),
        (b'{"files": [{"key": "a"}], "fileSchema": "", "fileFormat": "ORC"}', "in ORC, which is not read"),
        (b'{"files": ["a"], "fileSchema": "Bucket, Key"}', "its list of files"),
        (b'{"files": 7, "fileSchema": "Bucket, Key"}', "its list of files"),
        (b'{"files": [{"key": "a"}], "fileSchema": "Bucket, Key"}', "is no S3 URL"),
        (b'{"Format": "Report_CSV_20180820", "ReportSchema": "Bucket, Key, TaskStatus"}', "its list of files"),
        (b'{"Format": "Report_CSV_20180820", "Results": []}', "lacks Bucket"),
    ],
    ids=lambda value: value[:24].decode("latin1") if isinstance(value, bytes) else None,
)
def test_what_is_no_manifest_says_what_it_is(data: bytes, said: str) -> None:
    with pytest.raises(ManifestInvalid) as raised:
        form_of(data, None)
    assert said in raised.value.reason


@pytest.mark.parametrize(
    ("rest", "found", "said"),
    [
        (', "a" "b"]', 1, "goes on with '\"'"),
        (', "a", ', 1, "no JSON, or is too long"),
        (', "a"', 1, "is not closed"),
        (', "a"] x', 1, "stands behind"),
        (', 7, "b"]', 2, ""),
        (', "' + "a" * 200_000 + '"]', 0, "too long"),
        (", " + "[" * 90_000, 0, "too deeply"),
        (', "\\ud800", "b"]', 2, ""),
    ],
    ids=lambda value: value[:20] if isinstance(value, str) else None,
)
def test_an_array_that_is_broken_is_read_up_to_there(rest: str, found: int, said: str) -> None:
    data = ('[{"prefix": "s3://bk/"}' + rest).encode()
    form = form_of(data, None)
    rows = form.rows(io.BytesIO(data[form.begin.offset :]), form.begin)
    if said:
        assert len([next(rows) for _ in range(found)]) == found
        with pytest.raises(ManifestInvalid) as raised:
            next(rows)
        assert said in raised.value.reason
    else:
        told = [row.problem for row in rows]
        assert len(told) == found
        assert told[0]
        assert not told[1]


def test_an_array_is_read_across_its_pieces() -> None:
    names = [f"ü{number}" * 20 for number in range(20_000)]
    data = json.dumps([{"prefix": "s3://bk/"}, *names], ensure_ascii=False).encode()
    whole = rows_of(data)
    assert [row.location.key for row in whole if isinstance(row.location, ObjectBytes)] == names
    for number in (0, 1, 7_777, 19_998, 19_999):
        assert rows_of(data, behind=whole[number].behind) == whole[number + 1 :]


INVENTORY = {
    "sourceBucket": "bk",
    "destinationBucket": "arn:aws:s3:::lists",
    "fileFormat": "CSV",
    "fileSchema": "Bucket, Key, VersionId, IsLatest, IsDeleteMarker, Size, ETag, StorageClass",
    "files": [{"key": "x/data/1.csv.gz", "size": 1, "MD5checksum": ""}],
}


@pytest.mark.parametrize("indent", [None, 2])
def test_an_inventory_names_its_files_and_their_columns(indent: int | None) -> None:
    form = form_of(json.dumps(INVENTORY, indent=indent).encode(), None)
    assert form.parts == (ObjectBytes(bucket="lists", key="x/data/1.csv.gz"),)
    data = (
        '"bk","a+b%2B.jpg","v1","true","false","12","e1","STANDARD"\n"bk","a.jpg","v0","false","false","12","e0","STANDARD"\n'
        '"bk","gone.jpg","v2","true","true","","",""\n"bk","cold.jpg","","true","false","9","e2-3","GLACIER"\n"bk","%ff"\n'
        '"bk","%ff","","true","false","","",""\n'
    )
    first, older, marker, cold, short, broken = form.rows(io.BytesIO(data.encode()), Place())
    assert first.location == ObjectBytes(bucket="bk", key="a b+.jpg", version="v1", size=12, etag='"e1"')
    assert (older.left_out, marker.left_out) == (Reason.VERSION, Reason.VERSION)
    assert cold.location == ObjectBytes(bucket="bk", key="cold.jpg", size=9, etag='"e2-3"')
    assert (first.is_listed, cold.storage_class) == (True, "GLACIER")
    assert short.problem == "has 2 fields, and the manifest names 8"
    assert broken.problem == "key '%ff' is not URL-encoded UTF-8"


def test_of_an_inventory_without_versions_every_row_is_the_latest() -> None:
    (row,) = inventory_csv(("Bucket", "Key"))(io.BytesIO(b'"bk","a"\n'), Place())
    assert (row.left_out, row.location) == (None, ObjectBytes(bucket="bk", key="a"))


def test_of_a_report_the_files_and_rows_of_what_failed_are_read() -> None:
    files = [
        {"TaskExecutionStatus": status, "Bucket": "rr", "Key": f"{status}.csv"} for status in ("succeeded", "failed")
    ]
    schema = "Bucket, Key, VersionId, TaskStatus, ErrorCode, HTTPStatusCode, ResultMessage"
    report = {"Format": "Report_CSV_20180820", "Results": files, "ReportSchema": schema}
    form = form_of(json.dumps(report, indent=4).encode(), None)
    assert form.parts == (ObjectBytes(bucket="rr", key="failed.csv"),)
    columns = tuple(column.strip() for column in schema.split(","))
    text = b'bk,a+1,,failed,200,PermanentFailure,"Error: {""a"":\n1}"\nbk,2,v,succeeded,,200,\n'
    failed, done = report_csv(columns)(io.BytesIO(text), Place())
    assert (failed.location, failed.left_out) == (ObjectBytes(bucket="bk", key="a 1"), None)
    assert done.left_out is Reason.DONE


TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0\r"), max_size=12)


@given(st.lists(TEXTS, max_size=8), st.sampled_from(["\n", "\r\n"]))
def test_any_csv_is_read_as_it_was_written(values: list[str], end: str) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator=end, quoting=csv.QUOTE_ALL)
    writer.writerow(["name", "url"])
    kept = [[name, f"https://h/{number}"] for number, name in enumerate(values)]
    writer.writerows(kept)
    data = text.getvalue().encode()
    rows = rows_of(data)
    assert [row.location for row in rows] == [UrlBytes(url=url) for _, url in kept]
    assert [row.name or "" for row in rows] == values
    for number, row in enumerate(rows):
        assert rows_of(data, behind=row.behind) == rows[number + 1 :]


@given(
    st.binary(max_size=300),
    st.sampled_from([b"", b"s3://bk/1\n", b"url,name\n", b"bbb,k\n", b'{"url": "', b'[{"prefix": ""},']),
)
def test_no_bytes_raise_anything_else(data: bytes, begin: bytes) -> None:
    data = begin + data
    try:
        form = form_of(data, None)
    except ManifestInvalid:
        return
    found: list[Row] = []
    with contextlib.suppress(ManifestInvalid):
        # What came before an error counts.
        found.extend(form.rows(io.BytesIO(data[form.begin.offset :]), form.begin))
    assert all(row.problem or row.location for row in found)
    assert sorted(row.behind for row in found) == [row.behind for row in found]
