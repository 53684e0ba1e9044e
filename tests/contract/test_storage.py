"""What every storage promises, over a folder and over a real S3-compatible server."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
import requests
from pydantic import SecretStr

from maskmill.shared.errors import (
    InvalidKey,
    InvalidRequest,
    KeyNotFound,
    ObjectRefused,
    StorageRefused,
    StorageUnavailable,
    Unavailable,
)
from maskmill.shared.settings import Settings
from maskmill.shared.storage import Storage, delete_old_probes, for_one_object, open_storage, probe_atomic_create
from maskmill.shared.storage.s3 import S3Storage
from tests.services import run_seaweed
from tests.services.process import free_port
from tests.services.s3_proxy import S3Proxy, s3_proxy
from tests.services.seaweed_server import SECRET_KEY

# In the order of their UTF-8 bytes; UTF-16 order would put the last before the last but one.
ORDERED = [
    "a b",
    "a!/x",
    "a-b",
    "a.txt",
    "a/b",
    "a/b.c",
    "a/c/d",
    "a0",
    "ab",
    "b/c/d",
    "b/d",
    "Ünïcode/猫.json",
    "～",
    "😀",
]
# S3 sorts whole keys, and the storage hands on what it is given. SeaweedFS sorts the names within each folder instead
# ("a/b" before "a b", as "a" comes before "a b"); these are the names over which the two orders agree.
AGREED = [key for key in ORDERED if not key.startswith("a/")]
WRITER = """
import sys
from maskmill.shared.settings import Settings
from maskmill.shared.storage import open_storage
storage = open_storage(Settings.from_env({"MASKMILL_STORAGE_URL": sys.argv[1]}))
print("ready", flush=True)
while True:
    storage.put("big", b"x" * 50_000_000)
"""


@pytest.fixture(params=["file", "s3"])
def settings(request: pytest.FixtureRequest) -> Settings:
    chosen: Settings = request.getfixturevalue(f"{request.param}_settings")
    return chosen


@pytest.fixture
def proxied(s3_settings: Settings) -> Iterator[S3Proxy]:
    """A proxy before the S3-compatible server."""
    assert s3_settings.s3_endpoint
    with s3_proxy(s3_settings.s3_endpoint) as proxy:
        yield proxy


@pytest.fixture
def storage(settings: Settings) -> Storage:
    return open_storage(settings)


@pytest.fixture
def ordered(settings: Settings) -> list[str]:
    return AGREED if settings.storage_url.startswith("s3:") else ORDERED


def test_a_range_is_got_as_far_as_there_is_one(storage: Storage) -> None:
    storage.put("a/b.bin", bytes(range(100)))
    assert storage.get_range("a/b.bin", 0, 10) == bytes(range(10))
    assert storage.get_range("a/b.bin", 90, 20) == bytes(range(90, 100))
    assert storage.get_range("a/b.bin", 100, 1) == b""
    with pytest.raises(KeyNotFound):
        storage.get_range("a/c.bin", 0, 1)


def test_what_was_put_is_what_is_got(storage: Storage) -> None:
    assert storage.put("a/b.bin", b"\0\xff" * 1000) is True
    assert storage.get("a/b.bin") == b"\0\xff" * 1000
    assert storage.size("a/b.bin") == 2000
    with storage.open("a/b.bin") as stream:
        assert stream.read(3) == b"\0\xff\0"


def test_an_empty_object_is_kept(storage: Storage) -> None:
    storage.put("empty", b"")
    assert (storage.get("empty"), storage.size("empty")) == (b"", 0)


def test_a_second_put_replaces_the_first(storage: Storage) -> None:
    storage.put("key", b"first and longer")
    storage.put("key", b"second")
    assert storage.get("key") == b"second"


def test_put_if_absent_leaves_what_is_there(storage: Storage) -> None:
    assert storage.put("key", b"first", if_absent=True) is True
    assert storage.put("key", b"second", if_absent=True) is False
    assert storage.get("key") == b"first"


def test_of_racing_writers_one_wins_and_none_wins_later(storage: Storage) -> None:
    bodies = [bytes([65 + number]) * 5000 for number in range(8)]
    assert _race(storage, bodies) == 1
    assert storage.get("raced") in bodies
    assert storage.put("raced", b"late", if_absent=True) is False
    assert storage.get("raced") in bodies


def test_of_racing_writers_in_a_folder_exactly_one_wins(file_settings: Settings) -> None:
    for _ in range(20):
        storage = open_storage(file_settings)
        assert _race(storage, [bytes([65 + number]) for number in range(8)]) == 1
        storage.delete("raced")


def test_keys_are_listed_in_the_order_of_their_bytes(storage: Storage, ordered: list[str]) -> None:
    for key in reversed(ordered):
        storage.put(key, b"x")
    assert list(storage.list()) == ordered


def test_a_listing_goes_on_after_any_key(storage: Storage, ordered: list[str]) -> None:
    for key in ordered:
        storage.put(key, b"x")
    for number, key in enumerate(ordered):
        assert list(storage.list(start_after=key)) == ordered[number + 1 :]
    for folder in {key.partition("/")[0] + "/" for key in ordered if "/" in key}:
        assert list(storage.list(start_after=folder)) == [key for key in ordered if key.encode() > folder.encode()]


def test_a_listing_holds_only_keys_of_its_prefix(storage: Storage) -> None:
    for key in ("jobs/1/a", "jobs/10/a", "jobs/2/a", "open/1"):
        storage.put(key, b"x")
    assert list(storage.list("jobs/1/")) == ["jobs/1/a"]
    assert list(storage.list("jobs/1")) == ["jobs/1/a", "jobs/10/a"]
    assert list(storage.list("jobs/", start_after="jobs/1/a")) == ["jobs/10/a", "jobs/2/a"]
    assert list(storage.list("nothing/")) == []


def test_a_listing_of_many_pages_misses_nothing_and_repeats_nothing(s3_settings: Settings, s3_url: str) -> None:
    bucket, _, prefix = s3_url.removeprefix("s3://").partition("/")
    storage = S3Storage(s3_settings, bucket, prefix, page_size=7)
    keys = [f"n/{number:03d}" for number in range(50)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda key: storage.put(key, b""), keys))
    assert list(storage.list()) == keys
    assert list(storage.list("n/", start_after="n/013")) == keys[14:]


def test_pages_miss_nothing_and_repeat_nothing_where_a_server_sorts_otherwise(
    s3_settings: Settings, s3_url: str
) -> None:
    bucket, _, prefix = s3_url.removeprefix("s3://").partition("/")
    storage = S3Storage(s3_settings, bucket, prefix, page_size=2)
    for key in ORDERED:
        storage.put(key, b"x")
    assert sorted(storage.list(), key=str.encode) == ORDERED


@pytest.mark.parametrize("limit", [0, 1, 7, 8, 20, 100])
def test_a_listing_may_end_after_so_many_keys(s3_settings: Settings, file_settings: Settings, limit: int) -> None:
    bucket, _, prefix = s3_settings.storage_url.removeprefix("s3://").partition("/")
    for storage in (S3Storage(s3_settings, bucket, prefix, page_size=7), open_storage(file_settings)):
        keys = [f"n/{number:03d}" for number in range(20)]
        for key in keys:
            storage.put(key, b"")
        assert list(storage.list("n/", limit=limit)) == keys[:limit]
        assert list(storage.list("n/", start_after="n/004", limit=limit)) == keys[5 : 5 + limit]


def test_a_listing_of_a_bucket_asks_for_a_page_when_it_is_read_and_for_no_more_than_wanted(
    s3_settings: Settings, proxied: S3Proxy
) -> None:
    bucket, _, prefix = s3_settings.storage_url.removeprefix("s3://").partition("/")
    storage = S3Storage(s3_settings.model_copy(update={"s3_endpoint": proxied.endpoint}), bucket, prefix, page_size=5)
    for number in range(12):
        storage.put(f"n/{number:02d}", b"")
    keys = storage.list("n/")
    assert proxied.count("GET", "list-type=2") == 0
    assert [next(keys) for _ in range(5)] == [f"n/{number:02d}" for number in range(5)]
    assert proxied.count("GET", "list-type=2") == 1
    next(keys)
    assert proxied.count("GET", "list-type=2") == 2
    assert list(storage.list("n/", limit=2)) == ["n/00", "n/01"]
    assert proxied.count("GET", "max-keys=2&") == 1


def test_a_listing_of_a_folder_holds_one_folders_names_at_most(tmp_path: Path) -> None:
    folders, files = 30, 2000
    for folder in range(folders):
        (tmp_path / f"{folder:03d}").mkdir()
        for file in range(files):
            (tmp_path / f"{folder:03d}/{file:0100d}").touch()
    storage = open_storage(Settings(), f"file://{tmp_path}")

    def peak(listing: Callable[[], int]) -> int:
        tracemalloc.start()
        try:
            assert listing() == files * folders
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    lazily = peak(lambda: sum(1 for _ in storage.list()))
    assert lazily * 8 < peak(lambda: len(list(storage.list())))


def test_a_missing_key_is_an_error_that_names_it(storage: Storage) -> None:
    with pytest.raises(KeyNotFound, match="no/such"):
        storage.get("no/such")
    with pytest.raises(KeyNotFound, match="no/such"), storage.open("no/such"):
        pass
    assert storage.size("no/such") is None


def test_a_deleted_key_is_gone_and_deleting_it_again_is_no_error(storage: Storage) -> None:
    storage.put("a/key", b"x")
    storage.delete("a/key")
    storage.delete("a/key")
    assert storage.size("a/key") is None
    assert list(storage.list()) == []


def test_deleting_a_part_of_a_key_or_a_longer_one_leaves_the_object(storage: Storage) -> None:
    storage.put("a/key", b"x")
    for key in ("a", "a/key/below"):
        storage.delete(key)
    assert storage.get("a/key") == b"x"


def test_many_objects_are_deleted_at_once_and_no_others(storage: Storage) -> None:
    gone = ["a/1", "a/b/2", "a/ü %+#?.json", "a/<&>\"'", "c"]
    for key in (*gone, "a/kept"):
        storage.put(key, b"x")
    storage.delete_all(iter([*gone, "a/never", "never/there", "a"]))
    assert list(storage.list()) == ["a/kept"]
    storage.delete_all([])
    storage.delete_all(gone)
    with pytest.raises(InvalidKey):
        storage.delete_all(["a/kept", "../up"])
    storage.delete_all(["a/kept", "a/kept"])
    assert list(storage.list()) == []


def test_a_thousand_objects_of_a_bucket_are_deleted_in_a_request(s3_settings: Settings, proxied: S3Proxy) -> None:
    storage = open_storage(s3_settings.model_copy(update={"s3_endpoint": proxied.endpoint}))
    keys = [f"n/{number:04d}" for number in range(2100)]
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda key: storage.put(key, b""), keys))
    storage.delete_all(iter(keys))
    assert list(storage.list()) == []
    assert (proxied.count("POST", "?delete"), proxied.count("DELETE", "")) == (3, 0)


PARTLY = "<DeleteResult>{}</DeleteResult>"
NOT_NOW = "<Error><Key>{}</Key><Code>{}</Code><Message>not this one</Message></Error>"


def test_what_a_store_leaves_of_a_batch_is_deleted_alone(s3_settings: Settings, proxied: S3Proxy) -> None:
    direct = open_storage(s3_settings)
    storage = open_storage(s3_settings.model_copy(update={"s3_endpoint": proxied.endpoint}))
    prefix = s3_settings.storage_url.removeprefix("s3://").partition("/")[2]
    keys = ["a&b", "one", "slow", "two"]
    for key in keys:
        direct.put(key, b"x")

    def partly(_: bytes) -> tuple[int, bytes]:
        for key in ("one", "two"):
            direct.delete(key)
        left = ((f"{prefix}/slow", "SlowDown"), (f"{prefix}/a&amp;b", "InternalError"))
        return 200, PARTLY.format("".join(NOT_NOW.format(*one) for one in left)).encode()

    proxied.deletes = partly
    storage.delete_all(keys)
    assert list(direct.list()) == []
    assert proxied.count("DELETE", "") == 2


def test_an_object_that_may_not_be_deleted_is_told_with_its_key(s3_settings: Settings, proxied: S3Proxy) -> None:
    storage = open_storage(s3_settings.model_copy(update={"s3_endpoint": proxied.endpoint}))
    prefix = s3_settings.storage_url.removeprefix("s3://").partition("/")[2]
    storage.put("locked", b"x")
    proxied.deletes = lambda _: (200, PARTLY.format(NOT_NOW.format(f"{prefix}/locked", "AccessDenied")).encode())
    proxied.refuses = lambda method, _path: method == "DELETE"
    with pytest.raises(StorageRefused, match="locked"):
        storage.delete_all(["locked", "other"])


@pytest.mark.parametrize(
    ("status", "code"),
    [(501, "NotImplemented"), (405, "MethodNotAllowed"), (400, "MissingContentMD5"), (400, "MalformedXML")],
)
def test_a_store_that_deletes_no_batches_is_asked_for_each(
    s3_settings: Settings, proxied: S3Proxy, status: int, code: str
) -> None:
    storage = open_storage(s3_settings.model_copy(update={"s3_endpoint": proxied.endpoint}))
    for key in ("a", "b"):
        storage.put(key, b"x")
    proxied.deletes = lambda _: (status, f"<Error><Code>{code}</Code><Message>no batches</Message></Error>".encode())
    storage.delete_all(["a", "b", "c"])
    assert list(storage.list()) == []


@pytest.mark.parametrize(("status", "code"), [(400, "RequestTimeout"), (503, "SlowDown"), (500, "InternalError")])
def test_a_batch_of_deletes_that_meets_an_outage_is_worth_a_retry(
    s3_settings: Settings, proxied: S3Proxy, status: int, code: str
) -> None:
    storage = open_storage(s3_settings.model_copy(update={"s3_endpoint": proxied.endpoint}))
    proxied.deletes = lambda _: (status, f"<Error><Code>{code}</Code><Message>busy</Message></Error>".encode())
    with pytest.raises(StorageUnavailable):
        storage.delete_all(["a"])
    assert proxied.count("DELETE", "") == 0


BAD_KEYS = [
    "../up",
    "a/../../up",
    "artifacts/../../OTHER/job.json",
    "/etc/passwd",
    "a//b",
    "./a",
    "a/",
    "a/..",
    "",
    "nul\0",
    "\ud800",
    "x" * 256,
    ".partial/x",
]
# What a key may not begin with; the beginning of a last part may be anything.
BAD_PREFIXES = ["../", "../up", "a/../../up", "/", "/etc", "a//b", "./a", "nul\0", "\ud800", "x" * 256]


@pytest.mark.parametrize("key", BAD_KEYS)
def test_no_method_takes_a_key_that_could_leave_the_storage(storage: Storage, tmp_path: Path, key: str) -> None:
    (tmp_path / "file").write_bytes(b"x")
    moves: list[Callable[[], object]] = [
        lambda: storage.put(key, b"x"),
        lambda: storage.put(key, b"x", if_absent=True),
        lambda: storage.put_file(key, tmp_path / "file"),
        lambda: storage.get(key),
        lambda: storage.open(key).__enter__(),
        lambda: storage.size(key),
        lambda: storage.delete(key),
        lambda: storage.delete_all([key]),
    ]
    for move in moves:
        with pytest.raises(InvalidKey):
            move()
    assert list(storage.list()) == []


@pytest.mark.parametrize("prefix", BAD_PREFIXES)
def test_no_listing_begins_where_no_key_can_be(storage: Storage, prefix: str) -> None:
    with pytest.raises(InvalidKey):
        storage.list(prefix)
    with pytest.raises(InvalidKey):
        storage.list(start_after=prefix)


def test_one_job_does_not_reach_another_by_dots(storage: Storage, settings: Settings) -> None:
    storage.put("jobs/other/job.json", b"secret")
    storage.put("jobs/mine/artifacts/a", b"x")
    way = "jobs/mine/artifacts/../../other/job.json"
    for read in (storage.get, storage.size, storage.delete, storage.list):
        with pytest.raises(InvalidKey):
            read(way)
    assert open_storage(settings).get("jobs/other/job.json") == b"secret"


def test_a_key_and_the_storages_prefix_together_have_1024_bytes(s3_settings: Settings) -> None:
    storage = open_storage(s3_settings)
    prefix = s3_settings.storage_url.removeprefix("s3://").partition("/")[2]
    room = 1024 - len(f"{prefix}/")
    # Bytes are counted, not characters: folders of 127 of two bytes each, and a name that fills the rest.
    folders = ("ü" * 127 + "/") * 3
    longest = folders + "x" * 200 + "/" + "x" * (room - len(folders.encode()) - 201)
    storage.put(longest, b"x")
    assert storage.get(longest) == b"x"
    assert list(storage.list(longest)) == [longest]
    for move in (storage.get, storage.size, storage.delete, lambda key: storage.put(key, b"x")):
        with pytest.raises(InvalidKey, match=str(room)):
            move(longest + "x")


@pytest.mark.parametrize("prefix", ["p" * 200 + "/" + "q" * 200 + "/" + "r" * 200, "p" * 256, "a/../b", "a//b"])
def test_a_prefix_that_leaves_keys_no_room_or_is_none_is_refused_at_once(s3_settings: Settings, prefix: str) -> None:
    with pytest.raises(InvalidRequest, match="prefix of the storage URL"):
        open_storage(s3_settings, f"s3://bucket/{prefix}")


def test_a_name_that_the_disk_cannot_hold_fails_for_good(tmp_path: Path) -> None:
    root = tmp_path
    while len(str(root)) < 3400:
        root /= "d" * 200
    storage = open_storage(Settings(), f"file://{root}")
    storage.put("short", b"x")
    long = "/".join(["k" * 200] * 4)
    for move in (storage.get, storage.size, storage.delete, lambda key: storage.put(key, b"x")):
        with pytest.raises(InvalidKey, match="too long"):
            move(long)


def test_a_big_file_goes_in_and_comes_out_in_pieces(storage: Storage, tmp_path: Path) -> None:
    piece = os.urandom(1 << 20)
    (tmp_path / "big").write_bytes(piece * 20)
    storage.put_file("big", tmp_path / "big")
    assert storage.size("big") == 20 << 20
    with storage.open("big") as stream:
        assert all(stream.read(1 << 20) == piece for _ in range(20))
        assert stream.read() == b""


@pytest.mark.parametrize(("start", "rest"), [(0, b"0123456789"), (4, b"456789"), (9, b"9"), (10, b""), (99, b"")])
def test_an_object_is_read_from_any_byte_on(storage: Storage, start: int, rest: bytes) -> None:
    storage.put("ten", b"0123456789")
    with storage.open("ten", start) as stream:
        assert stream.read() == rest
    with pytest.raises(KeyNotFound, match="no/such"), storage.open("no/such", start):
        pass


def test_lines_are_read_one_by_one(storage: Storage) -> None:
    storage.put("lines", b"one\ntwo\nthree\n")
    with storage.open("lines") as stream:
        assert [line.strip() for line in stream] == [b"one", b"two", b"three"]


def test_many_threads_share_one_storage(storage: Storage) -> None:
    def there_and_back(number: int) -> bool:
        storage.put(f"t/{number}", b"%d" % number)
        return storage.get(f"t/{number}") == b"%d" % number

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(there_and_back, range(64)))
    assert len(list(storage.list("t/"))) == 64


def test_an_atomic_create_is_found_out_and_leaves_nothing(storage: Storage, settings: Settings) -> None:
    atomic = probe_atomic_create(storage)
    assert atomic or settings.storage_url.startswith("s3:")
    assert list(storage.list()) == []


def test_a_store_where_every_writer_wins_is_found_out(s3_settings: Settings, proxied: S3Proxy) -> None:
    proxied.every_writer_wins = True
    storage = open_storage(s3_settings.model_copy(update={"s3_endpoint": proxied.endpoint}))
    assert probe_atomic_create(storage) is False
    assert list(storage.list()) == []


@pytest.mark.parametrize("method", ["PUT", "GET", "DELETE", "list"])
def test_a_ping_finds_out_what_is_not_permitted(s3_settings: Settings, proxied: S3Proxy, method: str) -> None:
    storage = open_storage(s3_settings.model_copy(update={"s3_endpoint": proxied.endpoint}))
    proxied.refuses = lambda asked, path: ("list" if "list-type" in path else asked) == method
    with pytest.raises(StorageRefused, match="permitted"):
        storage.ping()
    proxied.refuses = lambda _method, _path: False
    storage.ping()


def test_a_ping_writes_once_a_minute_at_most_unless_it_must_be_fresh(s3_settings: Settings, proxied: S3Proxy) -> None:
    storage = open_storage(s3_settings.model_copy(update={"s3_endpoint": proxied.endpoint}))
    for _ in range(5):
        storage.ping()
    assert (proxied.count("PUT", "/probe/"), proxied.count("GET", "list-type=2")) == (1, 5)
    storage.ping(fresh=True)
    assert proxied.count("PUT", "/probe/") == 2


def test_fresh_pings_of_many_threads_share_a_trial(s3_settings: Settings, proxied: S3Proxy) -> None:
    storage = open_storage(s3_settings.model_copy(update={"s3_endpoint": proxied.endpoint}))

    def hold_the_first(method: str, _: str) -> bool:
        while method == "PUT" and proxied.count("GET", "list-type=2") < 16:
            time.sleep(0.01)
        return False

    proxied.refuses = hold_the_first
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda _: storage.ping(fresh=True), range(16)))
    assert proxied.count("PUT", "/probe/") < 16


def test_a_ping_that_failed_is_not_believed_for_long(s3_settings: Settings, proxied: S3Proxy) -> None:
    storage = open_storage(s3_settings.model_copy(update={"s3_endpoint": proxied.endpoint}))
    proxied.refuses = lambda method, _path: method == "PUT"
    for _ in range(2):
        with pytest.raises(StorageRefused):
            storage.ping()
    proxied.refuses = lambda _method, _path: False
    storage.ping()


@pytest.mark.parametrize("method", ["GET", "PUT"])
def test_a_refusal_of_one_object_is_that_objects(s3_settings: Settings, proxied: S3Proxy, method: str) -> None:
    storage = open_storage(s3_settings.model_copy(update={"s3_endpoint": proxied.endpoint}))
    for key in ("jobs/1/denied", "jobs/1/other"):
        storage.put(key, b"x")
    proxied.refuses = lambda asked, path: asked == method and path.endswith("denied")
    call = storage.get if method == "GET" else partial(storage.put, data=b"x")
    with pytest.raises(ObjectRefused, match=r"(?s)jobs/1/denied.*AccessDenied.*other objects"):
        for_one_object(storage, call, "jobs/1/denied")
    assert for_one_object(storage, call, "jobs/1/other") == (b"x" if method == "GET" else True)
    assert list(storage.list()) == ["jobs/1/denied", "jobs/1/other"]


def test_a_refusal_of_everything_is_the_storages(s3_settings: Settings, proxied: S3Proxy) -> None:
    storage = open_storage(s3_settings.model_copy(update={"s3_endpoint": proxied.endpoint}))
    proxied.refuses = lambda method, _path: method == "PUT"
    with pytest.raises(StorageRefused):
        for_one_object(storage, storage.put, "key", b"x")


def test_a_refusal_that_is_mended_meanwhile_is_none(s3_settings: Settings, proxied: S3Proxy) -> None:
    storage = open_storage(s3_settings.model_copy(update={"s3_endpoint": proxied.endpoint}))
    proxied.refuses = lambda method, _path: method == "PUT" and not proxied.count("GET", "list-type=2")
    assert for_one_object(storage, storage.put, "key", b"x") is True


def test_what_a_killed_trial_left_is_deleted_and_nothing_younger(storage: Storage) -> None:
    now = time.time()
    old, young = (f"probe/{int(now - age):08x}-{age}" for age in (7200, 60))
    for key in (old, young, "probe/by-hand"):
        storage.put(key, b"probe")
    delete_old_probes(storage, now)
    assert set(storage.list()) == {young, "probe/by-hand"}


def test_a_storage_that_answers_answers_a_ping(storage: Storage) -> None:
    storage.ping()
    assert list(storage.list()) == []


def test_two_storages_at_different_prefixes_do_not_see_each_other(settings: Settings) -> None:
    one, other = (open_storage(settings, f"{settings.storage_url}/{name}") for name in ("one", "other"))
    one.put("key", b"x")
    assert other.size("key") is None
    assert list(open_storage(settings).list()) == ["one/key"]


def test_an_unreachable_endpoint_is_unavailable_and_worth_a_retry(s3_settings: Settings) -> None:
    endpoint = f"http://127.0.0.1:{free_port()}"
    storage = open_storage(s3_settings.model_copy(update={"s3_endpoint": endpoint}))
    for move in _moves(storage):
        with pytest.raises(StorageUnavailable, match=endpoint) as caught:
            move()
        assert isinstance(caught.value, Unavailable)
        assert caught.value.retryable


def test_an_outage_is_unavailable_and_the_same_storage_goes_on_after_it() -> None:
    with run_seaweed() as server:
        url = f"s3://{server.make_bucket()}"
        storage = open_storage(Settings.from_env({**server.env, "MASKMILL_STORAGE_URL": url}))
        storage.put("key", b"kept")
        for kind in ("store", "gateway"):
            server.kill(kind)
            with pytest.raises(StorageUnavailable):
                storage.get("key")
            with pytest.raises(StorageUnavailable):
                storage.put("other", b"x", if_absent=True)
            server.start(kind)
            assert storage.get("key") == b"kept"


@pytest.mark.parametrize("wrong", [{"s3_secret_key": SecretStr("wrong")}, {"s3_access_key": "nobody"}])
def test_wrong_keys_are_refused_and_not_worth_a_retry(s3_settings: Settings, wrong: dict[str, object]) -> None:
    storage = open_storage(s3_settings.model_copy(update=wrong))
    for move in _moves(storage):
        with pytest.raises(StorageRefused) as caught:
            move()
        assert not caught.value.retryable
        assert SECRET_KEY not in str(caught.value)


def test_a_missing_bucket_is_refused(s3_settings: Settings) -> None:
    storage = open_storage(s3_settings, "s3://no-such-bucket/prefix")
    for move in (
        storage.ping,
        lambda: storage.put("key", b"x"),
        lambda: storage.get("key"),
        lambda: storage.size("key"),
        lambda: storage.delete("key"),
        lambda: storage.delete_all(["key"]),
        lambda: list(storage.list()),
    ):
        with pytest.raises(StorageRefused, match="no-such-bucket"):
            move()


def test_a_url_of_no_storage_is_explained() -> None:
    for url in ("ftp://host/x", "file://relative/x", "s3://", "/plain/path"):
        with pytest.raises(InvalidRequest, match="s3://bucket/prefix"):
            open_storage(Settings(), url)


def test_a_writer_killed_at_any_moment_leaves_a_whole_object_or_none(file_settings: Settings) -> None:
    storage = open_storage(file_settings)
    for delay in (0.0, 0.01, 0.03, 0.06, 0.1):
        command = [sys.executable, "-c", WRITER, file_settings.storage_url]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
            assert writer.stdout is not None
            writer.stdout.readline()
            time.sleep(delay)
            writer.send_signal(signal.SIGKILL)
        assert storage.size("big") in (None, 50_000_000)
        assert set(storage.list()) <= {"big"}
        storage.delete("big")


@pytest.mark.parametrize("if_absent", [False, True])
def test_a_folder_says_at_once_that_it_holds_no_key_beside_one_below_it(
    file_settings: Settings, if_absent: bool
) -> None:
    storage = open_storage(file_settings)
    storage.put("a", b"x")
    storage.put("c/d", b"x")
    for key in ("a/b", "a/b/c", "c"):
        with pytest.raises(InvalidKey, match=key):
            storage.put(key, b"x", if_absent=if_absent)
    assert list(storage.list()) == ["a", "c/d"]


def test_a_folder_that_holds_nothing_any_more_is_removed(file_settings: Settings) -> None:
    storage = open_storage(file_settings)
    root = Path(file_settings.storage_url.removeprefix("file://"))
    keys = [f"jobs/1/{folder}/{number}" for folder in ("a", "b/c") for number in range(3)]
    for key in (*keys, "jobs/2/a"):
        storage.put(key, b"x")
    storage.delete_all(keys[1:])
    assert {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_dir()} - {".partial"} == {
        *("jobs", "jobs/1", "jobs/1/a", "jobs/2")
    }
    storage.delete(keys[0])
    storage.delete("jobs/2/a")
    # What is at the top is always needed.
    assert ({path.name for path in root.iterdir()}, list((root / "jobs").iterdir())) == ({".partial", "jobs"}, [])
    storage.put(keys[0], b"again")
    assert storage.get(keys[0]) == b"again"


def test_what_is_put_while_its_folder_is_emptied_is_there(file_settings: Settings) -> None:
    storages = [open_storage(file_settings) for _ in range(4)]

    def there_and_gone(number: int) -> None:
        storage = storages[number % 4]
        for turn in range(40):
            key = f"jobs/shared/deep/{number}-{turn}"
            assert storage.put(key, b"x", if_absent=bool(turn % 2))
            assert storage.get(key) == b"x"
            storage.delete_all([key])

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(there_and_gone, range(8)))
    assert list(storages[0].list()) == []


def test_old_leftovers_of_killed_writers_are_swept_by_a_ping(file_settings: Settings) -> None:
    storage = open_storage(file_settings)
    storage.ping()
    partial = Path(file_settings.storage_url.removeprefix("file://")) / ".partial"
    for name, age in (("old", 7200), ("fresh", 5)):
        (partial / name).write_bytes(b"half")
        os.utime(partial / name, (time.time() - age,) * 2)
    storage.ping()
    assert [path.name for path in partial.iterdir()] == ["fresh"]


@pytest.mark.parametrize("instead", ["nothing", "an empty folder"])
def test_a_folder_that_is_not_mounted_is_away_and_not_empty(file_settings: Settings, instead: str) -> None:
    root = Path(file_settings.storage_url.removeprefix("file://"))
    open_storage(file_settings).put("jobs/a", b"x")
    # This one has only read so far.
    storage = open_storage(file_settings)
    assert storage.get("jobs/a") == b"x"
    away = root.rename(root.with_name("away"))
    if instead == "an empty folder":
        root.mkdir()
    for call in _calls(storage):
        with pytest.raises(StorageUnavailable, match="mount it or put it back"):
            call()
    if root.exists():
        root.rmdir()  # raises where anything was stored there
    away.rename(root)
    assert (storage.get("jobs/a"), list(storage.list())) == (b"x", ["jobs/a"])


def _calls(storage: Storage) -> list[Callable[[], object]]:
    return [
        lambda: storage.get("jobs/a"),
        lambda: storage.size("jobs/a"),
        lambda: list(storage.list("jobs/")),
        lambda: storage.put("jobs/b", b"x"),
        lambda: storage.ping(fresh=True),
    ]


def _race(storage: Storage, bodies: list[bytes]) -> int:
    start = threading.Barrier(len(bodies))

    def write(body: bytes) -> bool:
        start.wait()
        return storage.put("raced", body, if_absent=True)

    with ThreadPoolExecutor(len(bodies)) as pool:
        return sum(pool.map(write, bodies))


def _moves(storage: Storage) -> list[Callable[[], object]]:
    return [
        storage.ping,
        lambda: storage.put("key", b"x"),
        lambda: storage.put("key", b"x", if_absent=True),
        lambda: storage.get("key"),
        lambda: storage.size("key"),
        lambda: list(storage.list()),
        lambda: storage.delete("key"),
        lambda: storage.delete_all(["key"]),
    ]


def test_a_link_leads_to_the_object_where_clients_reach_the_server(s3_settings: Settings, proxied: S3Proxy) -> None:
    settings = s3_settings.model_copy(update={"s3_public_endpoint": proxied.endpoint})
    storage = open_storage(settings)
    storage.put("a b/ü+%.json", b"{}", content_type="application/json")
    link = storage.link("a b/ü+%.json", 60)
    assert link
    assert link.startswith(proxied.endpoint)
    answer = requests.get(link, timeout=30)
    assert (answer.content, answer.headers["Content-Type"]) == (b"{}", "application/json")
    assert requests.get(link.replace("a%20b", "a%20c"), timeout=30).status_code in (403, 404)


def test_there_is_no_link_unless_clients_reach_the_server(storage: Storage) -> None:
    storage.put("a.json", b"{}")
    assert storage.link("a.json", 60) is None
