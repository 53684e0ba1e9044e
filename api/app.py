"""The Flask application: its endpoints, its errors, its documents."""

from __future__ import annotations

from importlib.metadata import version

from flask import request
from flask_openapi3.models.info import Info
from flask_openapi3.openapi import OpenAPI

from maskmill.api import hosts
from maskmill.api.endpoints import artifacts, estimates, health, instance_segmentation, items, jobs
from maskmill.api.endpoints import openapi as docs
from maskmill.api.responses import problems
from maskmill.api.services import EXTENSION, Services
from maskmill.api.submission import bodies
from maskmill.shared.errors import PathRefused


def build(services: Services) -> OpenAPI:
    """The application that serves with these services."""
    app = OpenAPI(
        "api",
        info=Info(title="Maskmill", version=version("maskmill")),
        doc_ui=False,
        validation_error_model=problems.Problem,
        validation_error_callback=problems.refuse_query,
        static_folder=None,
    )
    app.extensions[EXTENSION] = services
    app.config["PROVIDE_AUTOMATIC_OPTIONS"] = False
    app.url_map.merge_slashes = False
    app.before_request(hosts.refuse_foreign_hosts)
    app.before_request(_refuse_other_sites)
    app.teardown_request(bodies.release_room)
    problems.register(app)
    for endpoints in (jobs, estimates, items, artifacts, instance_segmentation, health):
        app.register_api(endpoints.api)
    docs.register(app)
    return app


def _refuse_other_sites() -> None:
    # Without API keys, being on this machine is the only permission; a page of another site must not borrow it.
    if request.method in ("POST", "DELETE") and request.headers.get("Sec-Fetch-Site") in ("cross-site", "same-site"):
        raise PathRefused("requests from pages of other sites are refused")
