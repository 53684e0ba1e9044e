"""What a manifest's rows become: entries from any of them on, their names, and failures that say why."""

from __future__ import annotations

import gzip
import json
import random
import tracemalloc
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskmill.shared.jobs.records import Entry, Job, ListingCursor, new_job_id
from maskmill.shared.jobs.sources import ManifestSource, ObjectBytes, PathSource, StoredBytes, UrlBytes
from maskmill.shared.settings import Settings
from maskmill.shared.storage.local import LocalStorage
from maskmill.worker.sources.artifact_names import artifact_name
from maskmill.worker.sources.listing import entries
from maskmill.worker.sources.manifest_files import MOST_RATIO
from maskmill.worker.sources.row_names import row_name

MEBIBYTE = 1 << 20
List = Callable[..., list[Entry]]


@pytest.fixture
def storage(tmp_path: Path) -> LocalStorage:
    return LocalStorage(tmp_path / "storage")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "buckets.toml").write_text('[photos]\nprefix = "2026/"\n[b1]\n[b2]\n')
    return Settings(buckets=tmp_path / "buckets.toml")


@pytest.fixture
def listed(settings: Settings, storage: LocalStorage) -> List:
    """The entries of a job with a manifest of these bytes, behind the position of an entry if one is given."""

    def listed(data: str | bytes, behind: Entry | None = None) -> list[Entry]:
        storage.put("jobs/1/inputs/m", data.encode() if isinstance(data, str) else data)
        job = job_of(ManifestSource(name="m.txt", location=StoredBytes(key="jobs/1/inputs/m")))
        cursor = behind.behind if behind else None
        return list(entries(job, settings, cursor, storage=storage))

    return listed


def job_of(*sources: ManifestSource | PathSource) -> Job:
    return Job(id=new_job_id(), created_at=0, sources=sources, shard_size=2)


def became(found: Iterable[Entry]) -> list[str]:
    """The name of each entry's results, or the code of its failure."""
    return [entry.failure.code if entry.failure else artifact_name(entry.name) for entry in found]


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
@pytest.mark.parametrize(
    "text",
    [
        "s3://b1/a.jpg\nwords\nhttps://h/b.png\n\n# end\n",
        'url,custom_id\n"s3://b1/a.jpg","x\ny"\ns3://b2/\nhttps://h/c,1',
        '{"source-ref": "s3://b1/a.jpg"}\n{\n{"url": "https://h/c", "name": "ü"}\n',
        '[{"prefix": "s3://b1/"}, "a.jpg", 7, "b"]',
        '[{"prefix": "s3://b1/"}, "a.jpg", "b.jpg" oops',
    ],
    ids=["lines", "csv", "json", "array", "broken-array"],
)
def test_a_listing_goes_on_behind_every_row(listed: List, text: str, pack: Callable[[bytes], bytes]) -> None:
    data = pack(text.encode())
    whole = listed(data)
    assert len(whole) == 3
    assert len({entry.position for entry in whole}) == 3
    for number, entry in enumerate(whole):
        assert listed(data, entry) == whole[number + 1 :]


def test_rows_become_inputs_and_the_others_failures_that_say_which_line(listed: List) -> None:
    found = listed(
        "s3://photos/2026/a.jpg\ns3://photos/2025/a.jpg\ns3://other/a.jpg\nhttps://h/scan.pdf\na.jpg\ns3://b1/notes.txt\n"
    )
    assert became(found) == [
        "s3/photos/2026/a",
        "bucket_refused",
        "bucket_refused",
        "https/h/scan.pdf",
        "bad_manifest",
        "s3/b1/notes.txt",
    ]
    assert [entry.form for entry in found] == ["picture", "picture", "picture", "paged", "unknown", "unknown"]
    assert found[5].named
    assert found[0].location == ObjectBytes(bucket="photos", key="2026/a.jpg")
    assert found[3].location == UrlBytes(url="https://h/scan.pdf")
    assert found[4].failure
    assert found[4].failure.reason == "m.txt, line 5: 'a.jpg' is no s3:// and no http(s):// URL"
    assert (found[4].input_path, found[3].input_path) == ("a.jpg", "https://h/scan.pdf")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "m.txt names no input"),
        (b"url,name\n", "m.txt names no input"),
        (b"\x89PNG\r\n\x1a\n\0", "m.txt: it is binary"),
        (gzip.compress(gzip.compress(b"s3://b1/a", mtime=0), mtime=0), "gzip within gzip"),
        (b"\x1f\x8bnonsense", "its gzip data is broken"),
    ],
)
def test_a_manifest_that_names_nothing_is_one_failure(listed: List, data: bytes, said: str) -> None:
    (entry,) = listed(data)
    assert entry.failure
    assert said in entry.failure.reason
    assert listed(data, entry) == []


def test_a_manifest_that_is_gone_is_one_failure(settings: Settings, storage: LocalStorage) -> None:
    job = job_of(ManifestSource(name="m", location=StoredBytes(key="jobs/1/inputs/none")))
    assert became(entries(job, settings, storage=storage)) == ["input_not_found"]


def test_gzip_data_that_ends_early_is_read_up_to_there(listed: List) -> None:
    lines = [f"https://h/{number * 7919 % 100_003}.jpg" for number in range(50_000)]
    data = gzip.compress("\n".join(lines).encode())
    found = listed(data[: len(data) // 2])
    *good, last = found
    assert 10_000 < len(good) < 40_000
    assert [entry.input_path for entry in good[:-1]] == lines[: len(good) - 1]
    assert last.failure
    assert f"behind line {len(good)}: its gzip data is broken or ends early" in last.failure.reason
    assert listed(data[: len(data) // 2], good[9000]) == found[9001:]
    assert listed(data[: len(data) // 2], last) == []


@pytest.mark.parametrize("filler", [b"\n", b"x", b"# \n"], ids=["blank-lines", "one-line", "comments"])
def test_a_bomb_is_one_failure(listed: List, filler: bytes) -> None:
    packer = gzip.compress(filler * (20 * MEBIBYTE // len(filler)))
    # gzip files may follow one another.
    found = listed(gzip.compress(b"https://h/a.jpg\n") + packer * 20)
    assert [entry.failure and entry.failure.code for entry in found] == [None, "bad_manifest"]
    assert f"more than {MOST_RATIO} times" in str(found[-1].failure)


def test_several_sources_keep_their_results_apart(settings: Settings, storage: LocalStorage) -> None:
    storage.put("jobs/1/inputs/m", b"s3://b1/a.jpg")
    one = ManifestSource(name="lists/m.csv", location=StoredBytes(key="jobs/1/inputs/m"))
    found = list(entries(job_of(one, one), settings, storage=storage))
    assert became(found) == ["m.csv/s3/b1/a", "m-2.csv/s3/b1/a"]
    behind = found[0].behind
    assert list(entries(job_of(one, one), settings, behind, storage=storage)) == found[1:]


OTHERS = [
    "https://h/a.jpg",
    "http://h/a.jpg",
    "https://h:8443/a.jpg",
    "https://h/a.jpg?w=1",
    "https://h/a.jpg?w=2",
    "https://h/a.jpg#1",
    "https://u:p@h/a.jpg",
    "https://h/a%2Fb.jpg",
    "https://h/a/b.jpg",
    "https://h/a%3Fw=1.jpg",
    "https://h/",
    "https://h//",
    "https://h/../a.jpg",
    "https://h/%2E%2E/a.jpg",
    "s3://h/a.jpg",
    "s3://b1/a.jpg",
    "s3://b1//a.jpg",
    "s3://b1/a.png",
    "s3://b1/a",
]


def name_of(uri: str, given: str | None = None, version: str | None = None) -> str:
    if not uri.startswith("s3://"):
        return artifact_name(row_name(UrlBytes(url=uri), given))
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    return artifact_name(row_name(ObjectBytes(bucket=bucket, key=key, version=version), given))


def test_no_two_inputs_share_a_name() -> None:
    plain = [name_of(uri) for uri in OTHERS]
    called = [name_of(uri, "same") for uri in OTHERS]
    versions = [name_of("s3://b1/a.jpg", given, version) for given in (None, "same") for version in ("v1", "v2")]
    # What looks like one that was made is not given twice either.
    mimics = [name_of(f"https://{name.removeprefix('https/')}.jpg") for name in plain if name.startswith("https/h/a~")]
    names = plain + called + versions + mimics
    assert len(mimics) == 4
    assert len({name.casefold() for name in names}) == len(names)
    assert plain[0] == "https/h/a"
    assert all(name.startswith("same~") for name in called)
    assert not any("u:p" in name or "w=2" in name for name in names)


@given(st.text(min_size=1, max_size=300))
def test_a_given_name_never_leaves_its_folder(given_name: str) -> None:
    name = name_of("s3://b1/a.jpg", given_name.encode("utf-8", "replace").decode())
    assert not {"", ".", ".."} & set(name.split("/"))
    assert max(len(part.encode()) for part in name.split("/")) < 240


@pytest.mark.parametrize("form", ["lines", "json", "csv", "array"])
@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
def test_memory_is_bounded_whatever_the_size(
    settings: Settings, storage: LocalStorage, tmp_path: Path, form: str, packed: bool
) -> None:
    file = tmp_path / "m"
    count = write_large(file, form, packed=packed)
    storage.put_file("jobs/1/inputs/m", file)
    job = job_of(ManifestSource(name="m", location=StoredBytes(key="jobs/1/inputs/m")))
    tracemalloc.start()
    try:
        found, failed, last = 0, 0, None
        for entry in entries(job, settings, storage=storage):
            found, failed, last = found + 1, failed + bool(entry.failure), entry
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (found, failed) == (count, 0)
    assert peak < 48 * MEBIBYTE
    assert last
    assert list(entries(job, settings, ListingCursor(position=last.position), storage=storage)) == []


def write_large(file: Path, form: str, *, packed: bool) -> int:
    """A manifest of 200 MB; how many rows it has. Long rows, as it is their bytes that count here."""
    rows, length = 4_000, 50_000
    begin, end, separator = {
        "lines": ("", "", "\n"),
        "json": ("", "", "\n"),
        "csv": ("url,label\n", "", "\n"),
        "array": ('[{"prefix": "s3://b1/"},', "]", ","),
    }[form]

    chance = random.Random(5)
    filler = "".join(chance.choices("0123456789", k=length))
    spaces = "".join(chance.choices(" \t\r\n", k=length))

    def row(number: int) -> str:
        return {
            "lines": f"s3://b1/{number}.jpg\n#{filler}",
            "json": json.dumps({"source-ref": f"s3://b1/{number}.jpg", "label": filler}),
            "csv": f's3://b1/{number}.jpg,"{filler}"',
            "array": spaces + json.dumps(f"{number}.jpg"),
        }[form]

    with gzip.open(file, "wt", compresslevel=1) if packed else file.open("w") as out:
        out.write(begin + row(0))
        for number in range(1, rows):
            out.write(separator + row(number))
        out.write(end)
    return rows
