"""The real pictures that benchmarks run on, which are not in the repository."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def data_folder() -> Path:
    """The folder of test data: $TEST_DATA_DIR, default ../shared/data; SystemExit where it is absent."""
    folder = Path(os.environ.get("TEST_DATA_DIR", ROOT.parent / "shared" / "data")).resolve()
    if not folder.is_dir():
        raise SystemExit(f"no test data at {folder}; set TEST_DATA_DIR to its folder")
    return folder


def val79() -> Path:
    """The folder with instances.json and images/ of 79 pictures of COCO val2017."""
    return data_folder() / "coco" / "val79"


def picture_files(count: int | None = None) -> list[Path]:
    """The pictures of val79 in natural order, the first `count` of them."""
    return sorted((val79() / "images").glob("*.jpg"))[:count]


def repeat(files: Sequence[Path], times: int, folder: Path) -> list[Path]:
    """Each file `times` times in `folder`, as hard links where the disk allows it."""
    repeated = [folder / f"{turn:03d}-{file.name}" for turn in range(times) for file in files]
    for target, source in zip(repeated, list(files) * times, strict=True):
        try:
            target.hardlink_to(source)
        except OSError:
            target.write_bytes(source.read_bytes())
    return repeated


@contextmanager
def folders(times: int) -> Iterator[tuple[Path, Path]]:
    """A folder for models, and one of val79's pictures, each `times` times."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        models, pictures = Path(name) / "models", Path(name) / "pictures"
        models.mkdir()
        pictures.mkdir()
        repeat(picture_files(), times, pictures)
        yield models, pictures
