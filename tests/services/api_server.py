"""The real API: gunicorn on a free loopback port, as `maskmill api` starts it."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import requests

from maskmill.shared.settings import Settings
from tests.services.process import Process, free_port

START = [sys.executable, "-c", "from maskmill.api.cli import api; api()"]


@dataclass(frozen=True)
class ApiServer:
    """A running API."""

    url: str
    process: Process


@contextlib.contextmanager
def run_api(settings: Settings, folder: Path) -> Iterator[ApiServer]:
    """The API of these settings on a port of its own; its log is in `folder`."""
    port = free_port()
    own = settings.model_copy(update={"api_port": port, "api_host": "127.0.0.1"})
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("MASKMILL_")}
    env = inherited | {"MASKMILL_API_PORT": str(port)} | own.to_env()
    server = ApiServer(f"http://127.0.0.1:{port}", Process(START, folder / "api.log", env))
    server.process.start()

    def answers() -> bool:
        with contextlib.suppress(requests.RequestException):
            return requests.get(f"{server.url}/health/live", timeout=5).ok
        return False

    try:
        server.process.wait_until(answers)
        yield server
    finally:
        server.process.stop()
