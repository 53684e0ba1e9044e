"""Writing results: what the operating system says against it is one of our errors, with the file's name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from maskmill.shared.errors import CannotStart


@contextmanager
def writing_to(path: Path) -> Iterator[None]:
    """An OSError inside becomes CannotStart."""
    try:
        yield
    except OSError as error:
        raise CannotStart(f"cannot write to {error.filename or path}: {error.strerror or error}") from None
