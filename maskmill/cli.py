"""The command `maskmill`: each of its commands is found in its own module, imported when it is used."""

from __future__ import annotations

import importlib
import sys
from typing import Any

import click

from maskmill.shared.errors import CannotStart, MaskmillError, ModelError, StorageError, Unavailable

COMMANDS = {
    "demo": "maskmill.deploy.demo.demo",
    "up": "maskmill.deploy.local.up",
    "submit": "maskmill.client.cli",
    "status": "maskmill.client.cli",
    "watch": "maskmill.client.cli",
    "items": "maskmill.client.cli",
    "fetch": "maskmill.client.cli",
    "cancel": "maskmill.client.cli",
    "pause": "maskmill.client.cli",
    "resume": "maskmill.client.cli",
    "plan": "maskmill.client.cli",
    "retry": "maskmill.client.cli",
    "priority": "maskmill.client.cli",
    "delete": "maskmill.client.cli",
    "jobs": "maskmill.client.cli",
    "predict": "maskmill.worker.cli",
    "models": "maskmill.worker.cli",
    "api": "maskmill.api.cli",
    "worker": "maskmill.worker.cli",
    "control": "maskmill.worker.cli",
}

WRONG, UNREACHABLE, INTERRUPTED, CANNOT_START = 2, 4, 130, 78
EXIT_CODES = (
    "Exit codes: 0 all is well; 1 some items failed; 2 the command, the request or a setting is wrong; 3 the job "
    "failed or was cancelled; 4 a service cannot be reached; 78 it cannot start here (device, model, port, folder, "
    "package); 130 interrupted."
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
