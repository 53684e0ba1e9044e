"""Bytes come from storage, URLs and local files, within the limits, and pages of one file fetch it once."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from maskmill.shared.egress.http import Egress
from maskmill.shared.errors import InputNotFound, PathRefused, TooManyBytes, UrlNotFound, UrlTooLarge
from maskmill.shared.jobs.sources import FileBytes, Location, StoredBytes, UrlBytes
from maskmill.shared.settings import Settings
from maskmill.shared.storage import Storage, open_storage
from maskmill.worker.sources.fetch import Fetcher
from tests.services import FileServer

PICTURE = b"\x89PNG\r\n\x1a\n" + bytes(500)
PAGED = b"%PDF-1.7\n" + bytes(500)
LIMIT = 1000


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    """The folder whose files jobs may name."""
    folder = tmp_path / "inputs"
    folder.mkdir()
    return folder


@pytest.fixture
def settings(tmp_path: Path, inputs: Path) -> Settings:
    """One root, loopback URLs, and at most LIMIT bytes an input."""
    return Settings(
        storage_url=f"file://{tmp_path}/storage",
        local_roots=(inputs,),
        allow_networks=("127.0.0.0/8",),
        max_input_bytes=LIMIT,
    )


@pytest.fixture
def storage(settings: Settings) -> Storage:
    """A storage in a folder."""
    return open_storage(settings)


@pytest.fixture
def fetcher(settings: Settings, storage: Storage) -> Fetcher:
    """What is tested."""
    return Fetcher(settings, storage, Egress(settings))


def put(place: Path, data: bytes) -> FileBytes:
    """The location of a new file."""
    place.write_bytes(data)
    return FileBytes(path=str(place))


class TestStored:
    def test_stored_bytes_come_whole_and_their_head_alone(self, fetcher: Fetcher, storage: Storage) -> None:
        storage.put("jobs/1/a", PICTURE)
        assert fetcher.fetch(StoredBytes(key="jobs/1/a")) == PICTURE
        assert fetcher.head(StoredBytes(key="jobs/1/a"), 8) == PICTURE[:8]

    def test_what_is_not_stored_is_not_found(self, fetcher: Fetcher) -> None:
        for ask in (fetcher.fetch, lambda location: fetcher.head(location, 8)):
            with pytest.raises(InputNotFound, match="gone"):
                ask(StoredBytes(key="gone"))

    def test_one_byte_too_many_is_refused(self, fetcher: Fetcher, storage: Storage) -> None:
        storage.put("full", bytes(LIMIT))
        storage.put("over", bytes(LIMIT + 1))
        assert len(fetcher.fetch(StoredBytes(key="full"))) == LIMIT
        with pytest.raises(TooManyBytes, match="1001 bytes"):
            fetcher.fetch(StoredBytes(key="over"))


class TestUrls:
    def test_a_url_comes_whole_and_its_head_alone(self, fetcher: Fetcher, file_server: FileServer) -> None:
        url = file_server.add("a.png", PICTURE)
        assert fetcher.fetch(UrlBytes(url=url)) == PICTURE
        assert fetcher.head(UrlBytes(url=url), 8) == PICTURE[:8]

    def test_the_failures_of_a_url_are_its_own(self, fetcher: Fetcher, file_server: FileServer) -> None:
        with pytest.raises(UrlNotFound):
            fetcher.fetch(UrlBytes(url=file_server.url("absent")))
        with pytest.raises(UrlTooLarge):
            fetcher.fetch(UrlBytes(url=file_server.add("big", bytes(LIMIT + 1))))

    def test_threads_that_ask_together_share_one_request(self, fetcher: Fetcher, file_server: FileServer) -> None:
        url = file_server.drip("slow.pdf", PAGED[:50], pieces=5, pause=0.1)
        with ThreadPoolExecutor(8) as pool:
            bodies = list(pool.map(fetcher.fetch, [UrlBytes(url=url)] * 8))
        assert bodies == [PAGED[:50] * 5] * 8
        assert file_server.requests == ["/slow.pdf"]

    def test_threads_that_ask_together_share_one_failure(self, fetcher: Fetcher) -> None:
        with ThreadPoolExecutor(8) as pool:
            asked = [pool.submit(fetcher.fetch, StoredBytes(key="gone")) for _ in range(40)]
            assert {type(one.exception()) for one in asked} == {InputNotFound}

    def test_a_url_asked_for_again_is_fetched_again(self, fetcher: Fetcher, file_server: FileServer) -> None:
        url = file_server.add("a.pdf", PAGED)
        fetcher.fetch(UrlBytes(url=url))
        file_server.add("a.pdf", PAGED + b"changed")
        assert fetcher.fetch(UrlBytes(url=url)) == PAGED + b"changed"


class TestFiles:
    def test_a_file_under_a_root_comes_whole_and_its_head_alone(self, fetcher: Fetcher, inputs: Path) -> None:
        location = put(inputs / "ä b.png", PICTURE)
        assert fetcher.fetch(location) == PICTURE
        assert fetcher.head(location, 8) == PICTURE[:8]

    def test_a_file_outside_the_roots_is_refused(self, fetcher: Fetcher, inputs: Path, tmp_path: Path) -> None:
        outside = put(tmp_path / "secret.png", PICTURE)
        (inputs / "link.png").symlink_to(outside.path)
        for path in (outside.path, str(inputs / "link.png"), str(inputs / ".." / "secret.png"), "/etc/passwd"):
            for ask in (fetcher.fetch, lambda location: fetcher.head(location, 8)):
                with pytest.raises(PathRefused):
                    ask(FileBytes(path=path))

    def test_a_link_that_stays_under_a_root_is_followed(self, fetcher: Fetcher, inputs: Path) -> None:
        put(inputs / "a.png", PICTURE)
        (inputs / "link.png").symlink_to(inputs / "a.png")
        assert fetcher.fetch(FileBytes(path=str(inputs / "link.png"))) == PICTURE

    def test_without_roots_no_file_is_read(self, settings: Settings, storage: Storage, inputs: Path) -> None:
        closed = settings.model_copy(update={"local_roots": ()})
        with pytest.raises(PathRefused, match="MASKMILL_LOCAL_ROOTS"):
            Fetcher(closed, storage, Egress(closed)).fetch(put(inputs / "a.png", PICTURE))

    @pytest.mark.parametrize("kind", ["absent", "folder", "pipe", "loop", "unreadable"])
    def test_what_is_no_readable_file_is_not_found_and_not_waited_for(
        self, fetcher: Fetcher, inputs: Path, kind: str
    ) -> None:
        path = inputs / kind
        make: dict[str, Any] = {
            "folder": path.mkdir,
            "pipe": lambda: os.mkfifo(path),
            "loop": lambda: path.symlink_to(path),
            "unreadable": lambda: (path.write_bytes(PICTURE), path.chmod(0)),
        }
        make.get(kind, lambda: None)()
        if kind == "unreadable" and os.access(path, os.R_OK):
            pytest.skip("this user may read every file")
        with pytest.raises(InputNotFound, match=kind):
            fetcher.fetch(FileBytes(path=str(path)))

    def test_a_path_that_no_file_can_have_is_not_found(self, fetcher: Fetcher) -> None:
        with pytest.raises(InputNotFound):
            fetcher.fetch(FileBytes(path="a\0b"))

    def test_one_byte_too_many_is_refused(self, fetcher: Fetcher, inputs: Path) -> None:
        with pytest.raises(TooManyBytes, match="MASKMILL_MAX_INPUT_BYTES"):
            fetcher.fetch(put(inputs / "over.png", bytes(LIMIT + 1)))

    def test_a_file_that_has_changed_is_read_again(self, fetcher: Fetcher, inputs: Path) -> None:
        fetcher.fetch(put(inputs / "a.pdf", PAGED))
        assert fetcher.fetch(put(inputs / "a.pdf", PAGED + b"changed")) == PAGED + b"changed"


class TestKeeping:
    def still_there(self, fetcher: Fetcher, storage: Storage, location: Location) -> bool:
        """Whether the bytes come although nothing is stored any more."""
        assert isinstance(location, StoredBytes)
        storage.delete(location.key)
        try:
            fetcher.fetch(location)
        except InputNotFound:
            return False
        return True

    def test_a_file_with_pages_is_kept_and_a_plain_picture_is_not(self, fetcher: Fetcher, storage: Storage) -> None:
        for key, data in (("paged", PAGED), ("plain", PICTURE)):
            storage.put(key, data)
            fetcher.fetch(StoredBytes(key=key))
        assert self.still_there(fetcher, storage, StoredBytes(key="paged"))
        assert not self.still_there(fetcher, storage, StoredBytes(key="plain"))

    def test_what_is_kept_never_passes_the_size_of_one_input(self, fetcher: Fetcher, storage: Storage) -> None:
        keys = ["old", "used", "new"]
        for key in keys:
            storage.put(key, PAGED[: LIMIT * 4 // 10])
        fetcher.fetch(StoredBytes(key="old"))
        fetcher.fetch(StoredBytes(key="used"))
        fetcher.fetch(StoredBytes(key="old"))
        fetcher.fetch(StoredBytes(key="new"))
        kept = [key for key in keys if self.still_there(fetcher, storage, StoredBytes(key=key))]
        assert kept == ["old", "new"]
