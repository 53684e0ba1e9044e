"""The front door: the command `maskmill` and the public names; nothing is imported before it is used."""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

import click

from shared.errors import CannotStart, MaskmillError, ModelError, StorageError, Unavailable

if TYPE_CHECKING:
    from api.client import Client
    from worker.create_pipeline import create_pipeline

__all__ = ["Client", "create_pipeline", "main"]

_PUBLIC = {"Client": "api.client", "create_pipeline": "worker.create_pipeline"}

COMMANDS = {
    "demo": "deploy.demo",
    "up": "deploy.local",
    "submit": "api.cli",
    "status": "api.cli",
    "watch": "api.cli",
    "fetch": "api.cli",
    "cancel": "api.cli",
    "jobs": "api.cli",
    "predict": "worker.cli",
    "models": "worker.cli",
    "api": "api.cli",
    "worker": "worker.cli",
    "control": "worker.cli",
}

WRONG, UNREACHABLE, INTERRUPTED, CANNOT_START = 2, 4, 130, 78
EXIT_CODES = (
    "Exit codes: 0 all is well; 1 some items failed; 2 the command or its settings are wrong; 3 the job failed or was "
    "cancelled; 4 a service cannot be reached; 78 it cannot start here (device, model, port, folder, package); "
    "130 interrupted."
)

INSTALL = "commands of the API need locks/api.txt, the others locks/worker.txt or locks/worker-gpu.txt"


class FrontDoor(click.Group):
    """Finds each command in its own module, and ends every error of ours as one line and an exit code."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = getattr(importlib.import_module(COMMANDS[cmd_name]), cmd_name)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except MaskmillError as error:
            click.echo(f"Error: {error.reason}", err=True)
            sys.exit(exit_code(error))
        except ModuleNotFoundError as error:
            click.echo(f"Error: {error.name} is not installed here; {INSTALL}", err=True)
            sys.exit(CANNOT_START)
        except KeyboardInterrupt:
            sys.exit(INTERRUPTED)


def exit_code(error: MaskmillError) -> int:
    """What a command leaves with when `error` ended it."""
    if isinstance(error, Unavailable):
        return UNREACHABLE
    return CANNOT_START if isinstance(error, (CannotStart, ModelError, StorageError)) else WRONG


@click.command(cls=FrontDoor, epilog=EXIT_CODES)
@click.version_option(package_name="maskmill")
def main() -> None:
    """Turn images, PDFs, folders and URLs into instance masks."""


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'maskmill' has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)


if __name__ == "__main__":
    main()
