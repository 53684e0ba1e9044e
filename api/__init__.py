"""The HTTP API: a Flask application and the command that serves it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from maskmill.shared.settings import Settings

if TYPE_CHECKING:
    from flask import Flask

    from maskmill.api.services import Services


def create_app(settings: Settings, services: Services | None = None) -> Flask:
    """The API of these settings as a WSGI application; opens its own services unless some are handed in."""
    # Imported here because the commands of a host without Flask import this package.
    from maskmill.api.app import build
    from maskmill.api.services import Services

    return build(services or Services.open(settings))
