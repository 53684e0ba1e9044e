"""The command of an API host: `api`."""

from __future__ import annotations

import os

import click

from maskmill.shared.settings import Settings


@click.command()
def api() -> None:
    """Serve the HTTP API, with the settings of the environment."""
    from maskmill.api.serve import serve

    serve(Settings.from_env(os.environ))
