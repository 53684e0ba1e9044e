"""Artifacts on disk: each under its own name, there only when it is whole."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

OWNER_FILE = ".maskmill-job"


@dataclass(frozen=True)
class Fetched:
    """How many artifacts were downloaded and found already whole, and how many items of the job failed."""

    downloaded: int = 0
    present: int = 0
    failed_items: int = 0

    def __add__(self, other: Fetched) -> Fetched:
        return Fetched(
            self.downloaded + other.downloaded, self.present + other.present, self.failed_items + other.failed_items
        )


def mark_folder(folder: Path, job_id: str) -> bool:
    """Mark the folder as this job's; whether it was before, so that the files there are whole ones of it."""
    folder.mkdir(parents=True, exist_ok=True)
    marker = folder / OWNER_FILE
    before = marker.read_text() if marker.is_file() else None
    marker.write_text(job_id)
    return before == job_id


def inside(folder: Path, name: str) -> Path:
    """The path of an artifact; raises ValueError for a name that leads outside the folder."""
    parts = PurePosixPath(name)
    if parts.is_absolute() or ".." in parts.parts or not parts.parts:
        raise ValueError(f"the service named an artifact {name!r}, which leads outside the folder")
    return folder / parts


def save(target: Path, pieces: Iterable[bytes]) -> None:
    """Write a file that appears only when it is whole."""
    target.parent.mkdir(parents=True, exist_ok=True)
    descriptor, partial = tempfile.mkstemp(prefix=".maskmill-", suffix=".partial", dir=target.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            for piece in pieces:
                file.write(piece)
        Path(partial).chmod(0o644)
        Path(partial).replace(target)
    except BaseException:
        Path(partial).unlink(missing_ok=True)
        raise
