"""Which local paths a job may name: those that, links resolved, lie under a configured root."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from maskmill.shared.errors import PathRefused


def allowed_path(path: str | Path, roots: Iterable[Path]) -> Path:
    """The path with its links resolved; PathRefused where it lies under none of `roots`."""
    real = Path(path).resolve()
    tops = [root.resolve() for root in roots]
    if not any(real.is_relative_to(top) for top in tops):
        known = ", ".join(map(str, tops)) or "none"
        raise PathRefused(f"{path} lies under no folder that may be read ({known}); MASKMILL_LOCAL_ROOTS names them")
    return real
