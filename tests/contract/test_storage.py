"""What every storage promises, over a folder and over a real S3-compatible server."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pydantic import SecretStr

from maskmill.shared.errors import (
    InvalidKey,
    InvalidRequest,
    KeyNotFound,
    StorageError,
    StorageRefused,
    StorageUnavailable,
    Unavailable,
)
from maskmill.shared.settings import Settings
from maskmill.shared.storage import Storage, open_storage
from maskmill.shared.storage.s3 import S3Storage
from tests.services import run_seaweed
from tests.services.process import free_port
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
def storage(settings: Settings) -> Storage:
    return open_storage(settings)


@pytest.fixture
def ordered(settings: Settings) -> list[str]:
    return AGREED if settings.storage_url.startswith("s3:") else ORDERED


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


@pytest.mark.parametrize(
    "key", ["../up", "a/../../up", "/etc/passwd", "a//b", "./a", "a/", "", "nul\0", "\ud800", "x" * 256]
)
def test_a_key_that_could_leave_the_storage_is_refused(storage: Storage, key: str) -> None:
    with pytest.raises(InvalidKey):
        storage.put(key, b"x")
    assert list(storage.list()) == []


def test_a_big_file_goes_in_and_comes_out_in_pieces(storage: Storage, tmp_path: Path) -> None:
    piece = os.urandom(1 << 20)
    (tmp_path / "big").write_bytes(piece * 20)
    storage.put_file("big", tmp_path / "big")
    assert storage.size("big") == 20 << 20
    with storage.open("big") as stream:
        assert all(stream.read(1 << 20) == piece for _ in range(20))
        assert stream.read() == b""


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


def test_a_file_where_a_folder_is_needed_is_a_storage_error(file_settings: Settings) -> None:
    storage = open_storage(file_settings)
    storage.put("a", b"x")
    with pytest.raises((StorageError, StorageUnavailable)):
        storage.put("a/b", b"x")


def test_old_leftovers_of_killed_writers_are_swept_by_a_ping(file_settings: Settings) -> None:
    storage = open_storage(file_settings)
    storage.ping()
    partial = Path(file_settings.storage_url.removeprefix("file://")) / ".partial"
    for name, age in (("old", 7200), ("fresh", 5)):
        (partial / name).write_bytes(b"half")
        os.utime(partial / name, (time.time() - age,) * 2)
    storage.ping()
    assert [path.name for path in partial.iterdir()] == ["fresh"]


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
    ]
