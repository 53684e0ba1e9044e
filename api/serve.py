"""Serve the API with gunicorn: a few processes, many threads each, loopback only."""

from __future__ import annotations

import os
from typing import Any

from gunicorn.app.base import BaseApplication  # type: ignore[import-untyped]
from gunicorn.http import message  # type: ignore[import-untyped]

from maskmill.api import create_app
from maskmill.api.hosts import is_loopback
from maskmill.shared.errors import InvalidRequest
from maskmill.shared.logs import set_up_logging
from maskmill.shared.parent import die_with_parent
from maskmill.shared.ports import pick
from maskmill.shared.settings import Settings

PROCESSES = min(2, os.cpu_count() or 1)
STOP_SECONDS = 15

# gunicorn refuses a second Content-Type, and has no setting for it. The C++ client of PaddleX's tutorial sends two.
message.RFC9110_5_3_SINGLETON_FIELDS = frozenset({"HOST"})


class _Server(BaseApplication):  # type: ignore[misc]  # gunicorn has no types
    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        super().__init__()

    def load_config(self) -> None:
        for name, value in options(self._settings).items():
            self.cfg.set(name, value)

    def load(self) -> Any:
        # After the fork, so that no connection is shared between processes.
        set_up_logging(self._settings.log_level, "api")
        return create_app(self._settings)


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises InvalidRequest for an address that is not loopback, and CannotStart where the port is taken.
    """
    check_address(settings.api_host)
    pick(settings.api_host, settings.api_port, "MASKMILL_API_PORT")
    _Server(settings).run()


def _die_with_arbiter(_arbiter: Any, process: Any) -> None:
    die_with_parent(process.ppid)


def options(settings: Settings) -> dict[str, Any]:
    """gunicorn's configuration."""
    return {
        "bind": settings.api_address,
        "worker_class": "gthread",
        "workers": PROCESSES,
        "threads": settings.api_threads,
        "keepalive": 30,
        "graceful_timeout": STOP_SECONDS,
        "loglevel": settings.log_level.lower(),
        "proc_name": "maskmill-api",
        # Else those of a killed one hold the port for as long as a request goes on, and no other can start.
        "post_fork": _die_with_arbiter,
        # Nothing here needs to be told what to do while it runs.
        "control_socket_disable": True,
    }


def check_address(host: str) -> None:
    """Raise InvalidRequest unless `host` is this machine only: there are no API keys, so anyone could do anything."""
    if not is_loopback(host):
        raise InvalidRequest(
            f"MASKMILL_API_HOST={host} is not a loopback address; the API has no keys yet, so it listens on this "
            "machine only. Use 127.0.0.1, and a reverse proxy that checks who asks."
        )
