"""Which local paths a job may name: those that, links resolved, lie under a configured root."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from maskmill.shared.errors import InputNotFound, PathRefused


def allowed_path(path: str | Path, roots: Iterable[Path]) -> Path:
    """The path with its links resolved; PathRefused where it lies under none of `roots`."""
    real = Path(path).resolve()
    tops = [root.resolve() for root in roots]
    if not any(real.is_relative_to(top) for top in tops):
        known = ", ".join(map(str, tops)) or "none"
        raise PathRefused(f"{path} lies under no folder that may be read ({known}); MASKMILL_LOCAL_ROOTS names them")
    return real


@contextmanager
def following(path: str) -> Iterator[None]:
    """The operating system's complaints about `path`, and Python's of links in a circle, as InputNotFound."""
    try:
        yield
    except OSError as error:
        raise InputNotFound(f"{path}: {error.strerror or error}") from error
    except (RuntimeError, ValueError) as error:
        raise InputNotFound(f"{path!r} is no path that can be followed: {error}") from error
