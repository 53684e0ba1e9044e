"""The application for any WSGI server: `api.wsgi:app`, its settings from the environment."""

from __future__ import annotations

import os

from maskmill.api import create_app
from maskmill.shared.settings import Settings

app = create_app(Settings.from_env(os.environ))
