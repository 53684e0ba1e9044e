"""What a folder's put has answered for survives a power cut: file, name and every folder above it are on the disk."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from maskmill.shared.settings import Settings
from maskmill.shared.storage import Storage, open_storage


class Disk:
    """The names that a power cut would take: made in a folder, not synced with it yet. It only listens."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.lost: set[Path] = set()
        for name, made in (("mkdir", 0), ("link", 1), ("replace", 1), ("rename", 1)):
            monkeypatch.setattr(os, name, self._noting(getattr(os, name), made))
        monkeypatch.setattr(os, "fsync", self._syncing(os.fsync))

    def _noting(self, call: Callable[..., None], made: int) -> Callable[..., None]:
        def noting(*args: Any, **kwargs: Any) -> None:
            call(*args, **kwargs)
            self.lost.add(Path(args[made]))

        return noting

    def _syncing(self, call: Callable[[int], None]) -> Callable[[int], None]:
        def syncing(descriptor: int) -> None:
            call(descriptor)
            folder = os.fstat(descriptor)
            self.lost = {name for name in self.lost if not os.path.samestat(name.parent.stat(), folder)}

        return syncing

    def keeps(self, path: Path) -> bool:
        """Whether the file and every folder above it would be there."""
        return not self.lost & {path, *path.parents}


def put_file(storage: Storage, key: str, source: Path) -> None:
    source.write_bytes(b"x")
    storage.put_file(key, source)


@pytest.mark.parametrize(
    "put",
    [
        lambda storage, key, _: storage.put(key, b"x"),
        lambda storage, key, _: storage.put(key, b"x", if_absent=True),
        put_file,
    ],
    ids=["put", "put-if-absent", "put-file"],
)
def test_a_put_is_on_the_disk_when_it_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, put: Callable[[Storage, str, Path], object]
) -> None:
    root = tmp_path / "new/storage"
    storage = open_storage(Settings(), f"file://{root}")
    disk = Disk(monkeypatch)
    for key in ("open/1", "jobs/1/job.json", "jobs/1/inputs/a/b/c.jpg", "jobs/1/inputs/a/d.jpg", "top"):
        put(storage, key, tmp_path / "source")
        assert disk.keeps(root / key), key


def test_an_object_that_another_writer_has_just_named_is_on_the_disk_when_it_is_adopted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(monkeypatch)
    # Another writer's folders and name, of which none is synced yet.
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs/1").mkdir()
    (tmp_path / "bytes").write_bytes(b"x")
    os.link(tmp_path / "bytes", tmp_path / "jobs/1/outcomes")
    assert open_storage(Settings(), f"file://{tmp_path}").put("jobs/1/outcomes", b"y", if_absent=True) is False
    assert disk.keeps(tmp_path / "jobs/1/outcomes")


def test_a_folder_that_was_removed_is_made_and_kept_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = open_storage(Settings(), f"file://{tmp_path}")
    storage.put("jobs/1/job.json", b"x")
    (tmp_path / "jobs/1/job.json").unlink()
    (tmp_path / "jobs/1").rmdir()
    (tmp_path / "jobs").rmdir()
    disk = Disk(monkeypatch)
    storage.put("jobs/1/job.json", b"x")
    assert disk.keeps(tmp_path / "jobs/1/job.json")
